//! Stored bytes <-> model: one byte of format, one of kind, then JSON.
//!
//! Members that this version does not know are refused like a format that it does not know: what they mean could be a
//! restriction. The damage of one record is that record's alone.

pub(crate) mod shelved;

#[cfg(test)]
pub(crate) mod tests;

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

use crate::model::hex::read_hex;
use crate::model::hex::write_hex;
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
