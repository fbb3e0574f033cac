//! Records whose stored form is their own JSON: everything that only the issuer and its tokens need.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::account::AccountRecord;
use crate::model::account::IdentityRecord;
use crate::model::account::InvitationRecord;
use crate::model::account::OrganizationRecord;
use crate::model::account::SessionRecord;
use crate::model::account::TicketRecord;
use crate::model::client::ClientRecord;
use crate::model::grant::GrantRecord;
use crate::store::Family;
use crate::store::RecordKey;
use crate::store::StoreError;
use crate::store::codec::decode;
use crate::store::codec::encode;

/// A record that lies on the shelf under an id of its own.
pub trait Shelved: Serialize + DeserializeOwned {
    const FAMILY: Family;
    /// The byte that tells its kind of record from every other.
    const KIND: u8;

    /// Under which it lies.
    fn id(&self) -> &str;

    /// Where the record of this id lies.
    fn place(id: &str) -> RecordKey {
        RecordKey { family: Self::FAMILY, id: id.to_owned() }
    }

    /// Its bytes.
    fn encode(&self) -> Vec<u8> {
        encode(Self::KIND, self)
    }

    /// The record that lies under this id.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the bytes are damaged, of another kind or format, or another record's.
    fn decode(id: &str, bytes: &[u8]) -> Result<Self, StoreError> {
        let corrupt = |why: String| StoreError::Corrupt { key: format!("{}/{id}", Self::FAMILY.as_str()), why };
        let record: Self = decode(Self::KIND, bytes).map_err(corrupt)?;
        if record.id() == id { Ok(record) } else { Err(corrupt("it is another one's record".to_owned())) }
    }
}

impl Shelved for GrantRecord {
    const FAMILY: Family = Family::Grant;
    const KIND: u8 = b'g';

    fn id(&self) -> &str {
        self.id.as_str()
    }
}

impl Shelved for ClientRecord {
    const FAMILY: Family = Family::Client;
    const KIND: u8 = b'c';

    fn id(&self) -> &str {
        self.id.as_str()
    }
}

impl Shelved for AccountRecord {
    const FAMILY: Family = Family::Account;
    const KIND: u8 = b'a';

    fn id(&self) -> &str {
        self.user.as_str()
    }
}

impl Shelved for IdentityRecord {
    const FAMILY: Family = Family::Identity;
    const KIND: u8 = b'e';

    fn id(&self) -> &str {
        &self.id
    }
}

impl Shelved for OrganizationRecord {
    const FAMILY: Family = Family::Organization;
    const KIND: u8 = b'o';

    fn id(&self) -> &str {
        &self.id
    }
}

impl Shelved for SessionRecord {
    const FAMILY: Family = Family::Session;
    const KIND: u8 = b's';

    fn id(&self) -> &str {
        &self.id
    }
}

impl Shelved for InvitationRecord {
    const FAMILY: Family = Family::Invitation;
    const KIND: u8 = b'i';

    fn id(&self) -> &str {
        &self.id
    }
}

impl Shelved for TicketRecord {
    const FAMILY: Family = Family::Ticket;
    const KIND: u8 = b't';

    fn id(&self) -> &str {
        &self.id
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::model::account::LinkedIdentity;
    use crate::model::account::Phone;
    use crate::model::account::Role;
    use crate::model::caller::Environment;
    use crate::model::caller::Subject;
    use crate::model::client::AccessTokenForm;
    use crate::model::client::ClientAuth;
    use crate::model::client::ClientId;
    use crate::model::client::ClientKind;
    use crate::model::client::ClientSecret;
    use crate::model::client::ClientState;
    use crate::model::client::GrantType;
    use crate::model::grant::AccessState;
    use crate::model::grant::AccessToken;
    use crate::model::grant::GrantEnd;
    use crate::model::grant::GrantId;
    use crate::model::grant::GrantOf;
    use crate::model::grant::GrantState;
    use crate::model::grant::PendingCode;
    use crate::model::key::DisabledBy;
    use crate::model::key::HashAlgorithm;
    use crate::model::key::KeyId;
    use crate::model::key::SecretHash;
    use crate::model::rules::Algorithm;
    use crate::model::scope::Scope;
    use crate::model::scope::ScopeSet;
    use crate::model::time::Timestamp;

    const CREATED: Timestamp = Timestamp::from_unix_seconds(1_799_999_000);
    const LATER: Timestamp = Timestamp::from_unix_seconds(1_800_086_400);

    fn alice() -> Subject {
        Subject::parse("alice").unwrap()
    }

    fn read() -> Arc<ScopeSet> {
        Arc::new(ScopeSet::new([Scope::parse("conversations:read").unwrap()]))
    }

    /// A client's id that ends so.
    pub(crate) fn client_id(number: u32) -> String {
        format!("app_{number:020}")
    }

    /// A live grant of alice's to the first client.
    pub(crate) fn grant_record(id: &str) -> GrantRecord {
        let out = AccessState::Out { issued: CREATED, scopes: read(), audience: vec![Arc::from("https://api.example.com")] };
        GrantRecord {
            id: GrantId::new(id),
            of: GrantOf::Consent { client: ClientId::new(&client_id(1)), user: alice() },
            organization: Some(Arc::from("acme")),
            environment: Environment::Live,
            scopes: read(),
            resources: vec![Arc::from("https://api.example.com")],
            state: GrantState::Live,
            generation: 2,
            advanced: CREATED,
            pepper: Arc::from("p1"),
            created: CREATED,
            idle_until: LATER,
            ends: LATER,
            session: Some(Arc::from("s1")),
            access: vec![
                AccessToken { id: Arc::from("1"), state: out, expires: LATER },
                AccessToken { id: Arc::from("jti"), state: AccessState::Revoked, expires: LATER },
            ],
        }
    }

    pub(crate) fn ended(record: GrantRecord) -> GrantRecord {
        GrantRecord { state: GrantState::Ended { at: CREATED, why: GrantEnd::Reused }, ..record }
    }

    pub(crate) fn client_record(id: &str) -> ClientRecord {
        let digest = SecretHash { pepper: Arc::from("p1"), algorithm: HashAlgorithm::HmacSha256, digest: [7; 32] };
        ClientRecord {
            id: ClientId::new(id),
            name: Arc::from("an app"),
            owner: Some(alice()),
            organization: None,
            kind: ClientKind::Confidential,
            auth: ClientAuth::Basic,
            redirect_uris: vec![Arc::from("https://app.example/callback")],
            grant_types: GrantType::ALL.to_vec(),
            scopes: read(),
            resources: Vec::new(),
            token_form: AccessTokenForm::Jwt(Algorithm::EdDsa),
            environment: Environment::Live,
            tier: Some(Arc::from("pro")),
            secrets: vec![ClientSecret { hash: digest, created: CREATED, retires: Some(LATER) }],
            state: ClientState::Active,
            disabled_by: None,
            created: CREATED,
            website: None,
        }
    }

    pub(crate) fn account_record(user: &str) -> AccountRecord {
        AccountRecord {
            user: Subject::parse(user).unwrap(),
            role: Role::Admin,
            password: Some(Arc::from("$argon2id$…")),
            display_name: None,
            email: Some(Arc::from("alice@example.com")),
            email_verified: true,
            phone: Some(Phone { number: Arc::from("+15550100"), verified: false }),
            identities: vec![LinkedIdentity {
                provider: Arc::from("google"),
                issuer: Arc::from("https://accounts.google.com"),
                subject: Arc::from("1"),
            }],
            online: true,
            last_operation: Some(CREATED),
            made_by: None,
            invitation: None,
            created: CREATED,
        }
    }

    pub(crate) fn organization_record(id: &str) -> OrganizationRecord {
        OrganizationRecord { id: Arc::from(id), name: Arc::from("Acme"), tier: None, founder: Some(alice()), created: CREATED }
    }

    pub(crate) fn session_record(id: &str) -> SessionRecord {
        SessionRecord {
            id: Arc::from(id),
            user: alice(),
            method: Arc::from("password"),
            created: CREATED,
            used: CREATED,
            idle_until: LATER,
            ends: LATER,
            agent: None,
        }
    }

    pub(crate) fn invitation_record(id: &str) -> InvitationRecord {
        InvitationRecord {
            id: Arc::from(id),
            organization: Arc::from("acme"),
            role: Role::Member,
            rights: read(),
            made_by: Some(alice()),
            created: CREATED,
            expires: LATER,
            accepted_by: None,
        }
    }

    pub(crate) fn ticket_record(id: &str) -> TicketRecord {
        TicketRecord {
            id: Arc::from(id),
            purpose: Arc::from("consent"),
            browser: Arc::from("0".repeat(64)),
            data: serde_json::json!({"a": [1, null]}),
            created: CREATED,
            expires: LATER,
        }
    }

    fn comes_back<T: Shelved + PartialEq + std::fmt::Debug>(record: &T) {
        let (id, bytes) = (record.id().to_owned(), record.encode());
        assert_eq!(T::place(&id), RecordKey { family: T::FAMILY, id: id.clone() });
        assert_eq!(T::decode(&id, &bytes).as_ref(), Ok(record));
        let changed = |at: usize, byte: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = byte;
            bytes
        };
        let json = String::from_utf8(bytes[2..].to_vec()).unwrap();
        let wider = [&bytes[..2], json.replacen('{', r#"{"only_from":"10.0.0.0/8","#, 1).as_bytes()].concat();
        for (what, bad) in [
            ("empty", Vec::new()),
            ("a future format", changed(0, 2)),
            ("of another kind", changed(1, b'k')),
            ("cut", bytes[..bytes.len() - 1].to_vec()),
            ("with a member that could be a restriction", wider),
        ] {
            let StoreError::Corrupt { key, .. } = T::decode(&id, &bad).unwrap_err() else { panic!("{what}") };
            assert_eq!(key, format!("{}/{id}", T::FAMILY.as_str()), "{what}");
        }
        assert!(T::decode("another", &bytes).is_err(), "another one's record");
    }

    // battery: K21
    #[test]
    fn records_of_the_issuer_come_back_as_they_were_or_not_at_all() {
        let pending = PendingCode {
            redirect_uri: Arc::from("https://app.example/callback"),
            redirect_uri_named: true,
            challenge: Arc::from("c"),
            expires: LATER,
            failures: 2,
        };
        let grant = || grant_record("abc");
        let (client, user) = (ClientId::new(&client_id(1)), alice());
        comes_back(&grant());
        comes_back(&ended(grant()));
        comes_back(&GrantRecord { state: GrantState::Pending(pending), access: Vec::new(), session: None, ..grant() });
        comes_back(&GrantRecord { of: GrantOf::Client { client }, ..grant() });
        comes_back(&GrantRecord { of: GrantOf::SignIn { user: user.clone() }, ..grant() });
        comes_back(&GrantRecord { of: GrantOf::Key { key: KeyId::new("k"), user }, ..grant_record("key-k") });
        comes_back(&client_record(&client_id(1)));
        let disabled_by = Some(DisabledBy::Operator);
        let disabled = ClientRecord { state: ClientState::Disabled, disabled_by, ..client_record(&client_id(2)) };
        comes_back(&ClientRecord { token_form: AccessTokenForm::Opaque, ..disabled });
        comes_back(&account_record("alice"));
        comes_back(&organization_record("org_1"));
        comes_back(&session_record("s1"));
        comes_back(&invitation_record("i1"));
        comes_back(&ticket_record("t1"));
    }

    proptest! {
        // battery: K21
        #[test]
        fn decoding_anything_never_panics(mut bytes: Vec<u8>, kind in prop::sample::select(vec![b'g', b'c', b'a', b'o', b's', b'i', b't'])) {
            bytes.splice(0..0, [1, kind]);
            prop_assert!(GrantRecord::decode("abc", &bytes).is_err());
            prop_assert!(ClientRecord::decode("abc", &bytes).is_err());
            prop_assert!(SessionRecord::decode("abc", &bytes).is_err());
        }
    }
}
