//! API keys: the text that a client holds, the record that we hold, and what a record's state means at an instant.
//!
//! Format: `<brand>_<live|test>_sk_<id 12><secret 43><checksum 6>`, base62. The id is public; the secret has 256 bits; the
//! checksum (CRC-32 of everything before it) refuses typing errors and spray without a look-up.

use std::fmt;
use std::sync::Arc;

use crate::model::caller::Environment;
use crate::model::caller::Subject;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;

/// A key's public id: 12 base62 characters for our own keys; for imported ones an id that we gave them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(Arc<str>);

impl KeyId {
    /// The caller has checked the form: `[0-9A-Za-z_-]{1,64}`.
    pub fn new(text: &str) -> Self {
        Self(Arc::from(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// A keyed hash of a secret and the id of the pepper that keyed it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretHash {
    pub pepper: Arc<str>,
    pub algorithm: HashAlgorithm,
    pub digest: [u8; 32],
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "SecretHash({})", self.pepper)
    }
}

/// How a digest was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashAlgorithm {
    /// HMAC-SHA-256(pepper, whole key text): our own keys.
    HmacSha256,
    /// HMAC-SHA-256(pepper, SHA-256(whole key text)): imported keys, of which only the SHA-256 was known.
    HmacOfSha256,
}

/// One secret of a key and until when it opens anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySecret {
    pub hash: SecretHash,
    /// Set on the older secrets during a rotation's grace.
    pub retires: Option<Timestamp>,
}

/// Whether somebody switched the key off. Expiry is not a state: it follows from the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    Active,
    Disabled,
    Revoked,
}

/// What the shelf holds about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    pub id: KeyId,
    pub name: Arc<str>,
    /// The local user that the key acts for.
    pub user: Subject,
    pub organization: Option<Arc<str>>,
    pub environment: Environment,
    pub scopes: Arc<ScopeSet>,
    pub tier: Option<Arc<str>>,
    /// One more bucket, requests per minute.
    pub rate_limit: Option<u32>,
    pub pinned_version: Option<Arc<str>>,
    /// Newest first; more than one only during a rotation's grace.
    pub secrets: Vec<KeySecret>,
    pub state: KeyState,
    pub created: Timestamp,
    pub not_before: Option<Timestamp>,
    pub expires: Option<Timestamp>,
    /// The first characters of the key's text, fit to be shown (brand, environment, id).
    pub display: Arc<str>,
}

/// A local user, or one of a managed issuer. Its rights are the ceiling of every credential that acts for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRecord {
    /// `local` or the managed issuer's name.
    pub source: Arc<str>,
    pub subject: Subject,
    pub organization: Option<Arc<str>>,
    pub tier: Option<Arc<str>>,
    pub rights: Rights,
    pub state: UserState,
    /// Tokens issued before this are refused.
    pub valid_from: Option<Timestamp>,
    pub created: Timestamp,
}

/// What a user may hold at the most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Whatever its credentials were granted.
    Unlimited,
    Only(Arc<ScopeSet>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserState {
    Active,
    Disabled,
}

/// What the form of a key text tells before anything is looked up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum KeyForm<'m> {
    /// Ours by brand, alphabet, length and checksum.
    Own(OwnKey<'m>),
    /// Ours by brand, and damaged: refused without a look-up.
    Damaged,
    /// Not of our making: only an imported key can look so.
    Foreign,
}

/// A key text whose checksum holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct OwnKey<'m> {
    pub text: &'m str,
    pub environment: Environment,
    /// The public id inside the text.
    pub id: &'m str,
}

impl fmt::Debug for KeyForm<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(own) => write!(out, "Own({})", own.id),
            Self::Damaged => out.write_str("Damaged"),
            Self::Foreign => out.write_str("Foreign"),
        }
    }
}

impl fmt::Debug for OwnKey<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "OwnKey({})", self.id)
    }
}

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const ID_DIGITS: usize = 12;
const SECRET_DIGITS: usize = 43;
const CHECKSUM_DIGITS: usize = 6;

/// What the form of a text tells: ours and whole, ours and damaged, or not ours.
pub fn read_key<'m>(brand: &str, text: &'m str) -> KeyForm<'m> {
    let Some(after_brand) = text.strip_prefix(brand).and_then(|rest| rest.strip_prefix('_')) else {
        return KeyForm::Foreign;
    };
    let (environment, digits) = if let Some(rest) = after_brand.strip_prefix("live_sk_") {
        (Environment::Live, rest)
    } else if let Some(rest) = after_brand.strip_prefix("test_sk_") {
        (Environment::Test, rest)
    } else {
        return KeyForm::Damaged;
    };
    if digits.len() != ID_DIGITS + SECRET_DIGITS + CHECKSUM_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return KeyForm::Damaged;
    }
    match (digits.get(..ID_DIGITS), text.split_at_checked(text.len() - CHECKSUM_DIGITS)) {
        (Some(id), Some((checked, checksum))) if checksum_of(checked).as_slice() == checksum.as_bytes() => {
            KeyForm::Own(OwnKey { text, environment, id })
        }
        (Some(_) | None, Some(_) | None) => KeyForm::Damaged,
    }
}

fn checksum_of(text: &str) -> [u8; CHECKSUM_DIGITS] {
    let mut rest = crc32fast::hash(text.as_bytes());
    let mut digits = [b'0'; CHECKSUM_DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62.get((rest % 62) as usize).copied().unwrap_or(b'0');
        rest /= 62;
    }
    digits
}
