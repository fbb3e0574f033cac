//! API keys: the record that we hold, and what its state means at an instant.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Deserialize;
use serde::Serialize;

use crate::model::caller::Environment;
use crate::model::caller::Subject;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;

/// A key's public id: 12 base62 characters for our own keys; for imported ones an id that we gave them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
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
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

impl KeySecret {
    /// Under which name uses of this secret are noted while it is on its way out: no key's id, and nobody's secret.
    pub fn use_name(&self, key: &KeyId) -> KeyId {
        let [a, b, c, d, ..] = self.hash.digest;
        KeyId(Arc::from(format!("{key}-old-{a:02x}{b:02x}{c:02x}{d:02x}")))
    }
}

/// Whether somebody switched the key off. Expiry is not a state: it follows from the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    Active,
    Disabled,
    Revoked,
}

/// How far whoever disabled something reached: who reaches less does not enable it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisabledBy {
    Owner,
    Organization,
    /// Or nobody knows.
    #[default]
    Operator,
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
    pub notes: KeyNotes,
}

/// What a key carries that most keys do not; a box of its own, so that those stay small.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyNotes(pub Option<Box<KeyExtras>>);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeyExtras {
    /// The client addresses from which alone it opens anything; empty: from everywhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_networks: Vec<IpNet>,
    /// Free pairs for whoever manages it, at most 16.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// At most 16.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// On whose word it stands beside its user's: whoever gave it its scopes, where that was another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made_by: Option<Subject>,
    /// While it is disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled_by: Option<DisabledBy>,
}

impl KeyNotes {
    /// Nothing is kept where there is nothing to keep.
    pub fn new(extras: KeyExtras) -> Self {
        Self((extras != KeyExtras::default()).then(|| Box::new(extras)))
    }

    pub fn extras(&self) -> Option<&KeyExtras> {
        self.0.as_deref()
    }

    /// Who made the key, where that was another than its user.
    pub fn made_by(&self) -> Option<&Subject> {
        self.0.as_ref().and_then(|extras| extras.made_by.as_ref())
    }

    /// Whether the key opens anything from this address.
    pub fn admits(&self, address: Option<IpAddr>) -> bool {
        let networks = self.allowed_networks();
        let is_inside = |address: IpAddr| networks.iter().any(|network| network.contains(&address.to_canonical()));
        networks.is_empty() || address.is_some_and(is_inside)
    }

    /// The networks from which alone the key opens anything; empty: every one.
    pub fn allowed_networks(&self) -> &[IpNet] {
        self.0.as_ref().map_or(&[], |extras| &extras.allowed_networks)
    }
}

/// Every state that [`KeyRecord::state_at`] names.
pub const KEY_STATES: [&str; 5] = ["active", "disabled", "revoked", "expired", "scheduled"];

impl KeyRecord {
    /// Who disabled it; none: it is not disabled.
    pub fn disabled(&self) -> Option<DisabledBy> {
        match self.state {
            KeyState::Disabled => Some(self.notes.extras().and_then(|extras| extras.disabled_by).unwrap_or_default()),
            KeyState::Active | KeyState::Revoked => None,
        }
    }

    /// What the key is at this instant, in the word that people and metrics read.
    pub fn state_at(&self, now: Timestamp) -> &'static str {
        match self.state {
            KeyState::Revoked => "revoked",
            KeyState::Disabled => "disabled",
            KeyState::Active if self.expires.is_some_and(|expires| expires <= now) => "expired",
            KeyState::Active if self.not_before.is_some_and(|begin| now < begin) => "scheduled",
            KeyState::Active => "active",
        }
    }
}

/// Whether a text could be a key's id: what is not never reaches a record's name.
pub fn is_key_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_a_closed_grammar() {
        for good in ["0", "aZ9_-", &"x".repeat(64)] {
            assert!(is_key_id(good), "{good}");
        }
        for bad in ["", "{x}", "a*", "a:b", "a b", "ä", "a\0", "a/b", &"x".repeat(65)] {
            assert!(!is_key_id(bad), "{bad}");
        }
    }
}
