//! Stored bytes <-> model: one byte of format, one of kind, then JSON.
//!
//! Members that this version does not know are refused like a format that it does not know: what they mean could be a
//! restriction. The damage of one record is that record's alone.

pub(crate) mod shelved;

use std::sync::Arc;

use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::caller::Environment;
use crate::model::caller::Subject;
use crate::model::key::DisabledBy;
use crate::model::key::HashAlgorithm;
use crate::model::key::KeyExtras;
use crate::model::key::KeyId;
use crate::model::key::KeyNotes;
use crate::model::key::KeyRecord;
use crate::model::key::KeySecret;
use crate::model::key::KeyState;
use crate::model::key::SecretHash;
use crate::model::key::is_key_id;
use crate::model::scope::Scope;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::model::user::Rights;
use crate::model::user::UserRecord;
use crate::model::user::UserState;
use crate::store::Family;
use crate::store::RecordKey;
use crate::store::StoreError;

pub use crate::model::hex::read_hex;
pub use crate::model::hex::write_hex;
pub use crate::store::codec::shelved::Shelved;

/// The format that this version writes, and the newest that it reads.
const FORMAT: u8 = 1;
const KEY: u8 = b'k';
const USER: u8 = b'u';
const DIGEST: u8 = b'd';

impl RecordKey {
    /// Where a key lies.
    pub fn key(id: &str) -> Self {
        Self { family: Family::Key, id: id.to_owned() }
    }

    /// Where a user lies. No source has a colon in its name, so no two pairs share a place.
    pub fn user(source: &str, subject: &str) -> Self {
        Self { family: Family::User, id: format!("{source}:{subject}") }
    }

    /// Where it is noted which key an imported digest belongs to.
    pub fn digest(digest: &[u8; 32]) -> Self {
        Self { family: Family::Digest, id: write_hex(digest) }
    }
}

/// The bytes of a key record.
pub fn encode_key(record: &KeyRecord) -> Vec<u8> {
    encode(KEY, &StoredKey::from(record))
}

/// The key record that lies under this id.
///
/// # Errors
/// [`StoreError::Corrupt`] when the bytes are damaged, of another kind or format, or another key's.
pub fn decode_key(id: &str, bytes: &[u8]) -> Result<KeyRecord, StoreError> {
    let corrupt = |why: &str| StoreError::Corrupt { key: format!("key/{id}"), why: why.to_owned() };
    let stored: StoredKey = decode(KEY, bytes).map_err(|why| corrupt(&why))?;
    if stored.id != id || !is_key_id(id) {
        return Err(corrupt("it is another key's record"));
    }
    stored.into_model().map_err(corrupt)
}

/// The bytes of a user record.
pub fn encode_user(record: &UserRecord) -> Vec<u8> {
    encode(USER, &StoredUser::from(record))
}

/// The user record that lies under this id (`source:subject`).
///
/// # Errors
/// [`StoreError::Corrupt`] when the bytes are damaged, of another kind or format, or another user's.
pub fn decode_user(id: &str, bytes: &[u8]) -> Result<UserRecord, StoreError> {
    let corrupt = |why: &str| StoreError::Corrupt { key: format!("user/{id}"), why: why.to_owned() };
    let stored: StoredUser = decode(USER, bytes).map_err(|why| corrupt(&why))?;
    if id.split_once(':') != Some((stored.source.as_str(), stored.subject.as_str())) {
        return Err(corrupt("it is another user's record"));
    }
    stored.into_model().map_err(corrupt)
}

/// The bytes that say which key an imported digest belongs to.
pub fn encode_digest_owner(key: &KeyId) -> Vec<u8> {
    [&[FORMAT, DIGEST], key.as_str().as_bytes()].concat()
}

/// The id of the key that the digest belongs to.
///
/// # Errors
/// [`StoreError::Corrupt`] when the bytes are damaged or of another kind or format.
pub fn decode_digest_owner(digest: &str, bytes: &[u8]) -> Result<KeyId, StoreError> {
    let corrupt = |why: String| StoreError::Corrupt { key: format!("digest/{digest}"), why };
    let text = str::from_utf8(body(DIGEST, bytes).map_err(corrupt)?).unwrap_or_default();
    if is_key_id(text) { Ok(KeyId::new(text)) } else { Err(corrupt("it names no key".to_owned())) }
}

fn encode(kind: u8, value: &impl Serialize) -> Vec<u8> {
    let mut bytes = vec![FORMAT, kind];
    // Plain structures of texts and numbers always have a JSON form; an empty body would be refused on reading.
    bytes.extend(serde_json::to_vec(value).unwrap_or_default());
    bytes
}

fn decode<T: DeserializeOwned>(kind: u8, bytes: &[u8]) -> Result<T, String> {
    // The parser's own words may quote what it read, so they stay here.
    serde_json::from_slice(body(kind, bytes)?)
        .map_err(|error| format!("its JSON is not of this version's form (column {})", error.column()))
}

fn body(kind: u8, bytes: &[u8]) -> Result<&[u8], String> {
    match bytes {
        [] => Err("its checksum does not hold".to_owned()),
        [FORMAT, found, body @ ..] if *found == kind => Ok(body),
        [FORMAT, found, ..] => Err(format!("it is of kind {:?}, not {:?}", char::from(*found), char::from(kind))),
        [format, ..] if *format > FORMAT => {
            Err(format!("it was written by a newer version (format {format}; this version reads up to {FORMAT})"))
        }
        [..] => Err("it has no known format".to_owned()),
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKey {
    id: String,
    name: String,
    user: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    organization: Option<String>,
    environment: StoredEnvironment,
    scopes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tier: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rate_limit: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pinned_version: Option<String>,
    secrets: Vec<StoredSecret>,
    state: StoredKeyState,
    created: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_before: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<Timestamp>,
    display: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    notes: Option<Box<KeyExtras>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredSecret {
    pepper: String,
    algorithm: StoredAlgorithm,
    digest: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retires: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredUser {
    source: String,
    subject: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    organization: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tier: Option<String>,
    rights: StoredRights,
    state: StoredUserState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    disabled_by: Option<DisabledBy>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    valid_from: Option<Timestamp>,
    created: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredEnvironment {
    Live,
    Test,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredAlgorithm {
    HmacSha256,
    HmacOfSha256,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredKeyState {
    Active,
    Disabled,
    Revoked,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredUserState {
    Active,
    Disabled,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredRights {
    Unlimited,
    Only(Vec<String>),
}

impl From<&KeyRecord> for StoredKey {
    fn from(record: &KeyRecord) -> Self {
        Self {
            id: record.id.to_string(),
            name: record.name.to_string(),
            user: record.user.as_str().to_owned(),
            organization: owned(record.organization.as_ref()),
            environment: match record.environment {
                Environment::Live => StoredEnvironment::Live,
                Environment::Test => StoredEnvironment::Test,
            },
            scopes: record.scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
            tier: owned(record.tier.as_ref()),
            rate_limit: record.rate_limit,
            pinned_version: owned(record.pinned_version.as_ref()),
            secrets: record.secrets.iter().map(StoredSecret::from).collect(),
            state: match record.state {
                KeyState::Active => StoredKeyState::Active,
                KeyState::Disabled => StoredKeyState::Disabled,
                KeyState::Revoked => StoredKeyState::Revoked,
            },
            created: record.created,
            not_before: record.not_before,
            expires: record.expires,
            display: record.display.to_string(),
            notes: record.notes.0.clone(),
        }
    }
}

impl StoredKey {
    fn into_model(self) -> Result<KeyRecord, &'static str> {
        Ok(KeyRecord {
            id: KeyId::new(&self.id),
            name: Arc::from(self.name),
            user: Subject::parse(&self.user).map_err(|_error| "its user is not a subject")?,
            organization: self.organization.map(Arc::from),
            environment: match self.environment {
                StoredEnvironment::Live => Environment::Live,
                StoredEnvironment::Test => Environment::Test,
            },
            scopes: Arc::new(read_scopes(&self.scopes)?),
            tier: self.tier.map(Arc::from),
            rate_limit: self.rate_limit,
            pinned_version: self.pinned_version.map(Arc::from),
            secrets: self.secrets.into_iter().map(StoredSecret::into_model).collect::<Result<_, _>>()?,
            state: match self.state {
                StoredKeyState::Active => KeyState::Active,
                StoredKeyState::Disabled => KeyState::Disabled,
                StoredKeyState::Revoked => KeyState::Revoked,
            },
            created: self.created,
            not_before: self.not_before,
            expires: self.expires,
            display: Arc::from(self.display),
            notes: KeyNotes(self.notes),
        })
    }
}

impl From<&KeySecret> for StoredSecret {
    fn from(secret: &KeySecret) -> Self {
        Self {
            pepper: secret.hash.pepper.to_string(),
            algorithm: match secret.hash.algorithm {
                HashAlgorithm::HmacSha256 => StoredAlgorithm::HmacSha256,
                HashAlgorithm::HmacOfSha256 => StoredAlgorithm::HmacOfSha256,
            },
            digest: write_hex(&secret.hash.digest),
            retires: secret.retires,
        }
    }
}

impl StoredSecret {
    fn into_model(self) -> Result<KeySecret, &'static str> {
        let algorithm = match self.algorithm {
            StoredAlgorithm::HmacSha256 => HashAlgorithm::HmacSha256,
            StoredAlgorithm::HmacOfSha256 => HashAlgorithm::HmacOfSha256,
        };
        let digest = read_hex(&self.digest).ok_or("a digest is not 64 hex digits")?;
        Ok(KeySecret { hash: SecretHash { pepper: Arc::from(self.pepper), algorithm, digest }, retires: self.retires })
    }
}

impl From<&UserRecord> for StoredUser {
    fn from(record: &UserRecord) -> Self {
        Self {
            source: record.source.to_string(),
            subject: record.subject.as_str().to_owned(),
            organization: owned(record.organization.as_ref()),
            tier: owned(record.tier.as_ref()),
            rights: match &record.rights {
                Rights::Unlimited => StoredRights::Unlimited,
                Rights::Only(scopes) => StoredRights::Only(scopes.iter().map(|scope| scope.as_str().to_owned()).collect()),
            },
            state: match record.state {
                UserState::Active => StoredUserState::Active,
                UserState::Disabled => StoredUserState::Disabled,
            },
            disabled_by: record.disabled_by,
            valid_from: record.valid_from,
            created: record.created,
        }
    }
}

impl StoredUser {
    fn into_model(self) -> Result<UserRecord, &'static str> {
        Ok(UserRecord {
            subject: Subject::parse(&self.subject).map_err(|_error| "its subject is not a subject")?,
            source: Arc::from(self.source),
            organization: self.organization.map(Arc::from),
            tier: self.tier.map(Arc::from),
            rights: match self.rights {
                StoredRights::Unlimited => Rights::Unlimited,
                StoredRights::Only(scopes) => Rights::Only(Arc::new(read_scopes(&scopes)?)),
            },
            state: match self.state {
                StoredUserState::Active => UserState::Active,
                StoredUserState::Disabled => UserState::Disabled,
            },
            disabled_by: self.disabled_by,
            valid_from: self.valid_from,
            created: self.created,
        })
    }
}

fn owned(text: Option<&Arc<str>>) -> Option<String> {
    text.map(|text| text.to_string())
}

fn read_scopes(texts: &[String]) -> Result<ScopeSet, &'static str> {
    let scopes: Result<Vec<Scope>, _> = texts.iter().map(|text| Scope::parse(text)).collect();
    scopes.map(ScopeSet::new).map_err(|_error| "a scope is not a scope")
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::client::ClientRecord;

    pub(crate) fn key_record(id: &str) -> KeyRecord {
        KeyRecord {
            id: KeyId::new(id),
            name: Arc::from("ci"),
            user: Subject::parse("alice").unwrap(),
            organization: Some(Arc::from("acme")),
            environment: Environment::Test,
            scopes: Arc::new(ScopeSet::new([Scope::parse("conversations:read").unwrap(), Scope::parse("a:*").unwrap()])),
            tier: Some(Arc::from("pro")),
            rate_limit: Some(60),
            pinned_version: None,
            secrets: vec![
                secret(HashAlgorithm::HmacSha256, 7, None),
                secret(HashAlgorithm::HmacOfSha256, 8, Some(Timestamp::from_unix_seconds(99))),
            ],
            state: KeyState::Active,
            created: Timestamp::from_unix_seconds(12),
            not_before: None,
            expires: Some(Timestamp::from_nanos(u64::MAX)),
            display: Arc::from(format!("tg_test_sk_{id}")),
            notes: KeyNotes::default(),
        }
    }

    pub(crate) fn user_record(source: &str, subject: &str) -> UserRecord {
        UserRecord {
            source: Arc::from(source),
            subject: Subject::parse(subject).unwrap(),
            organization: None,
            tier: None,
            rights: Rights::Only(Arc::new(ScopeSet::new([Scope::parse("*").unwrap()]))),
            state: UserState::Disabled,
            disabled_by: None,
            valid_from: Some(Timestamp::from_unix_seconds(5)),
            created: Timestamp::from_unix_seconds(1),
        }
    }

    fn secret(algorithm: HashAlgorithm, byte: u8, retires: Option<Timestamp>) -> KeySecret {
        KeySecret { hash: SecretHash { pepper: Arc::from("p1"), algorithm, digest: [byte; 32] }, retires }
    }

    #[test]
    fn records_come_back_as_they_were() {
        let key = key_record("abc");
        assert_eq!(decode_key("abc", &encode_key(&key)).unwrap(), key);
        for user in [user_record("local", "alice"), user_record("micro", "a:b"), {
            let mut user = user_record("local", "bob");
            user.rights = Rights::Unlimited;
            user.state = UserState::Active;
            user
        }] {
            let place = RecordKey::user(&user.source, user.subject.as_str());
            assert_eq!(decode_user(&place.id, &encode_user(&user)).unwrap(), user);
        }
        let owner = KeyId::new("abc");
        assert_eq!(decode_digest_owner("00", &encode_digest_owner(&owner)).unwrap(), owner);
    }

    /// Byte for byte: a member that is not there is not written either, so that what another version writes beside us stays readable to it.
    #[test]
    fn records_of_before_it_was_noted_who_disabled_them_are_read_and_written_as_they_were() {
        let digest = "07".repeat(32);
        let secret = format!(r#""secrets":[{{"pepper":"p1","algorithm":"hmac_sha256","digest":"{digest}"}}]"#);
        let notes = r#""notes":{"allowed_networks":["192.0.2.0/24"],"tags":["ci"],"made_by":"ann"}"#;
        for (state, disabled) in [("active", None), ("disabled", Some(DisabledBy::Operator)), ("revoked", None)] {
            let rest = format!(r#""scopes":["a:b"],{secret},"state":"{state}","created":12,"display":"tg_test_sk_abc""#);
            for notes in [String::new(), format!(",{notes}")] {
                let stored = format!("\x01k{{\"id\":\"abc\",\"name\":\"ci\",\"user\":\"alice\",\"environment\":\"test\",{rest}{notes}}}");
                let key = decode_key("abc", stored.as_bytes()).unwrap();
                assert_eq!((key.disabled(), String::from_utf8(encode_key(&key)).unwrap()), (disabled, stored));
            }
        }
        for (state, disabled) in [("active", None), ("disabled", Some(DisabledBy::Operator))] {
            let stored =
                format!("\x01u{{\"source\":\"local\",\"subject\":\"bob\",\"rights\":\"unlimited\",\"state\":\"{state}\",\"created\":1}}");
            let user = decode_user("local:bob", stored.as_bytes()).unwrap();
            assert_eq!((user.disabled(), String::from_utf8(encode_user(&user)).unwrap()), (disabled, stored));
            let secret = r#"{"hash":{"pepper":"p1","algorithm":"hmac_sha256","digest":[DIGEST]},"created":5}"#;
            let secret = secret.replace("DIGEST", &["7"; 32].join(","));
            let form = r#""kind":"confidential","auth":"client_secret_basic","grant_types":["client_credentials"],"scopes":["a:b"]"#;
            let id = shelved::tests::client_id(1);
            let stored = format!(
                "\x01c{{\"id\":\"{id}\",\"name\":\"app\",{form},\"token_form\":\"opaque\",\"environment\":\"live\",\"secrets\":[{secret}],\"state\":\"{state}\",\"created\":1}}"
            );
            let client = ClientRecord::decode(&id, stored.as_bytes()).unwrap();
            assert_eq!((client.disabled(), String::from_utf8(client.encode()).unwrap()), (disabled, stored));
        }
    }

    #[test]
    fn who_disabled_something_comes_back() {
        let by = Some(DisabledBy::Organization);
        let user = UserRecord { disabled_by: by, ..user_record("local", "alice") };
        assert_eq!(decode_user("local:alice", &encode_user(&user)).unwrap(), user);
        let notes = KeyNotes::new(KeyExtras { disabled_by: by, ..KeyExtras::default() });
        let key = KeyRecord { state: KeyState::Disabled, notes, ..key_record("abc") };
        assert_eq!(decode_key("abc", &encode_key(&key)).unwrap().disabled(), by);
    }

    // battery: K21
    #[test]
    fn what_is_not_a_record_of_this_version_is_corrupt() {
        let good = encode_key(&key_record("abc"));
        let changed = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        let json = String::from_utf8(good[2..].to_vec()).unwrap();
        let with_json = |json: String| [&good[..2], json.as_bytes()].concat();
        for (what, bytes, expected) in [
            ("empty", Vec::new(), "checksum"),
            ("future format", changed(0, 2), "newer version"),
            ("no format", changed(0, 0), "no known format"),
            ("a user", encode_user(&user_record("local", "alice")), "kind 'u'"),
            ("cut", good[..good.len() - 1].to_vec(), "JSON"),
            ("unknown member", with_json(json.replacen('{', r#"{"only_from":"10.0.0.0/8","#, 1)), "JSON"),
            ("unknown state", with_json(json.replace(r#""active""#, r#""paused""#)), "JSON"),
            ("bad scope", with_json(json.replace("a:*", "a *")), "scope"),
            ("another key", encode_key(&key_record("abd")), "another key"),
        ] {
            let StoreError::Corrupt { key, why } = decode_key("abc", &bytes).unwrap_err() else { panic!("{what}") };
            assert_eq!(key, "key/abc", "{what}");
            assert!(why.contains(expected), "{what}: {why}");
        }
        assert!(decode_user("local:bob", &encode_user(&user_record("local", "alice"))).is_err());
        assert!(decode_digest_owner("00", &good).is_err());
    }

    proptest! {
        // battery: K21
        #[test]
        fn decoding_anything_never_panics(mut bytes: Vec<u8>, kind in prop_oneof![Just(KEY), Just(USER), Just(DIGEST)]) {
            bytes.splice(0..0, [FORMAT, kind]);
            prop_assert!(decode_key("abc", &bytes).is_err());
            prop_assert!(decode_user("local:abc", &bytes).is_err());
        }
    }
}
