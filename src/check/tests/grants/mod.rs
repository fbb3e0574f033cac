//! Tokens of our own by table: whatever their grant, and its client, user and key, can be at the moment of a request.

mod standing;
mod worth;

use std::net::IpAddr;
use std::sync::Arc;

use crate::check::decide::Exit;
use crate::check::doubles::NOW;
use crate::check::doubles::client_record;
use crate::check::doubles::grant_record;
use crate::check::doubles::key_record;
use crate::check::doubles::key_text;
use crate::check::doubles::peppers;
use crate::check::doubles::scopes;
use crate::check::doubles::seconds_from_now;
use crate::check::doubles::user_record;
use crate::check::prove::Proof;
use crate::check::reasons::Reason;
use crate::check::resolve::Fact;
use crate::check::resolve::FoundFacts;
use crate::check::resolve::KeyFact;
use crate::check::resolve::resolve;
use crate::check::tests::resolve::issuer;
use crate::check::tests::resolve::rules;
use crate::model::caller::Caller;
use crate::model::caller::Environment;
use crate::model::caller::Subject;
use crate::model::claims::VerifiedClaims;
use crate::model::client::ClientId;
use crate::model::client::ClientRecord;
use crate::model::grant::AccessState;
use crate::model::grant::AccessToken;
use crate::model::grant::GrantOf;
use crate::model::grant::GrantRecord;
use crate::model::key::KeyId;
use crate::model::key::KeyRecord;
use crate::model::rules::Managed;
use crate::model::rules::Rules;
use crate::model::rules::Source;
use crate::model::rules::TokenId;
use crate::model::user::UserRecord;

const APP: &str = "app_0123456789abcdefghij";
const ACTING: &str = "app_jihgfedcba9876543210";
const KEY: &str = "AAAAAAAAAAAA";

/// By what the grant came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Consent,
    Client,
    /// The same, of a client that a user registered.
    Owned,
    SignIn,
    Key,
}

/// How the token was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Jwt,
    Opaque,
}

const KINDS: [Kind; 5] = [Kind::Consent, Kind::Client, Kind::Owned, Kind::SignIn, Kind::Key];
const FORMS: [Form; 2] = [Form::Jwt, Form::Opaque];

impl Kind {
    fn of(self) -> GrantOf {
        let (client, user, key) = (ClientId::new(APP), alice_subject(), KeyId::new(KEY));
        match self {
            Self::Consent => GrantOf::Consent { client, user },
            Self::Client | Self::Owned => GrantOf::Client { client },
            Self::SignIn => GrantOf::SignIn { user },
            Self::Key => GrantOf::Key { key, user },
        }
    }

    fn id(self) -> &'static str {
        match self {
            Self::Consent | Self::Client | Self::Owned | Self::SignIn => "grant",
            Self::Key => "key-AAAAAAAAAAAA",
        }
    }

    fn has_client(self) -> bool {
        matches!(self, Self::Consent | Self::Client | Self::Owned)
    }

    fn is_its_own(self) -> bool {
        matches!(self, Self::Client | Self::Owned)
    }

    fn has_user(self) -> bool {
        self != Self::Client
    }
}

fn alice_subject() -> Subject {
    Subject::parse("alice").unwrap()
}

/// A token and everything behind it, all of it good until a test changes something.
struct Case {
    kind: Kind,
    form: Form,
    grant: GrantRecord,
    client: ClientRecord,
    /// Looked up where the claims name it.
    acting: ClientRecord,
    user: UserRecord,
    key: KeyRecord,
    /// Looked up where the key names one.
    maker: UserRecord,
    claims: VerifiedClaims,
    generation: u32,
    pepper: &'static str,
    paired: Option<String>,
    address: Option<IpAddr>,
    rules: Rules,
}

impl Case {
    fn new(kind: Kind, form: Form) -> Self {
        let mut grant = grant_record(kind.id(), kind.of());
        let out = |id: &str, expires: i64| AccessToken {
            id: id.into(),
            state: AccessState::Out {
                issued: seconds_from_now(-60),
                scopes: scopes("conversations:* messages:read"),
                audience: vec!["gate".into()],
            },
            expires: seconds_from_now(expires),
        };
        if kind != Kind::Key {
            grant.access = vec![out("6", 0), out("7", 600), AccessToken { state: AccessState::Revoked, ..out("taken-back", 600) }];
        }
        let subject = if kind.is_its_own() { Subject::parse(APP).unwrap() } else { alice_subject() };
        let claims = VerifiedClaims {
            issuer: 1,
            subject,
            scopes: scopes("conversations:* messages:read"),
            organization: None,
            tier: None,
            environment: None,
            client: Some("tollgate".into()),
            grant: Some(kind.id().into()),
            token_id: Some("jti-1".into()),
            issued: Some(seconds_from_now(-60)),
            not_before: None,
            expires: seconds_from_now(600),
        };
        let (mut client, mut user) = (client_record(APP), user_record("local", "alice"));
        if kind == Kind::Owned {
            (client.owner, user.organization) = (Some(alice_subject()), Some("acme".into()));
        }
        let mut rules = rules();
        rules.issuers.push(crate::model::rules::Issuer {
            source: Source { ..rules.local.clone() },
            issuer: "https://own.example".into(),
            tier: None,
            ..issuer(Managed::ByGrant, TokenId::Ignored)
        });
        Self {
            kind,
            form,
            grant,
            client,
            acting: client_record(ACTING),
            user,
            key: key_record(KEY, &key_text(Environment::Live, KEY, 'l')),
            maker: user_record("local", "ann"),
            claims,
            generation: if kind == Kind::Key { 3 } else { 7 },
            pepper: "new",
            paired: None,
            address: None,
            rules,
        }
    }

    fn facts(&self) -> FoundFacts {
        fn found<T>(record: &T) -> Fact<T>
        where
            T: Clone,
        {
            Fact::FromStore(Ok(Some(Arc::new(record.clone()))))
        }
        FoundFacts {
            grant: found(&self.grant),
            client: if self.kind.has_client() { found(&self.client) } else { Fact::NotAsked },
            acting: if self.claims.client.as_deref() == Some(ACTING) { found(&self.acting) } else { Fact::NotAsked },
            maker: if self.key.notes.made_by().is_some() { found(&self.maker) } else { Fact::NotAsked },
            key: if self.kind == Kind::Key { KeyFact::FromStore(Ok(Some(Arc::new(self.key.clone())))) } else { KeyFact::NotAsked },
            user: if self.kind.has_user() { found(&self.user) } else { Fact::NotAsked },
            lapsed_for: None,
            cached: None,
        }
    }

    fn judge(&self) -> Result<Arc<Caller>, Reason> {
        self.judge_with(&self.facts())
    }

    fn judge_with(&self, facts: &FoundFacts) -> Result<Arc<Caller>, Reason> {
        let proof = match self.form {
            Form::Jwt => Proof::Token(Arc::new(self.claims.clone())),
            Form::Opaque => Proof::Grant { id: self.kind.id(), generation: self.generation, pepper: self.pepper },
        };
        match resolve(&proof, self.paired.as_deref(), facts, self.address, &self.rules, &peppers(), NOW) {
            Ok(caller) => Ok(caller.unwrap()),
            Err(Exit::Denied(denial)) => Err(denial.reason),
            Err(Exit::Failed(fault)) => Err(fault.reason),
        }
    }
}

fn every(judge: impl Fn(Kind, Form)) {
    for kind in KINDS {
        for form in FORMS {
            judge(kind, form);
        }
    }
}

/// How each kind and form ends after a change.
fn after(kinds: &[Kind], what: &str, change: impl Fn(&mut Case), expected: Option<Reason>) {
    for kind in kinds {
        for form in FORMS {
            let mut case = Case::new(*kind, form);
            change(&mut case);
            let refused = case.judge().err();
            assert_eq!(refused, expected, "{kind:?} {form:?}: {what}");
            assert!(refused.is_none_or(|reason| reason.row().http != 200));
        }
    }
}
