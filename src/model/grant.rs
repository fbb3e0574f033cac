//! Grants: what somebody was allowed to do in somebody's name. Every token refers to one and never carries the authority itself, so
//! whatever happens to the grant bites at the next request.
//!
//! One record is one family of tokens, from the code to the last refresh. Its states only move forward.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::model::caller::Environment;
use crate::model::caller::Subject;
use crate::model::client::ClientId;
use crate::model::key::KeyId;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;

/// A grant's id: 22 random base62 characters (128 bits), or `key-` and a key's id for the one grant of that key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GrantId(Arc<str>);

impl GrantId {
    /// The caller has checked the form: `[0-9A-Za-z_-]{1,72}`.
    pub fn new(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// The grant behind a key's short-lived token (seed 003).
    pub fn of_key(key: &KeyId) -> Self {
        Self(Arc::from(format!("key-{key}")))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for GrantId {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

/// By what a grant came to be, and so whose state ends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum GrantOf {
    /// A user allowed a client (authorization_code). Ends with either of them.
    Consent { client: ClientId, user: Subject },
    /// A client acts for itself (client_credentials). Ends with it.
    Client { client: ClientId },
    /// A user signed in by name and password and holds the token itself (seeds 001 and 004).
    SignIn { user: Subject },
    /// A key was traded for a short-lived token (seed 003). Ends with the key or its user.
    Key { key: KeyId, user: Subject },
}

/// What a grant is good for now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum GrantState {
    /// A code is out, and no token yet.
    Pending(PendingCode),
    Live,
    /// Nothing under it opens anything, for ever.
    Ended {
        at: Timestamp,
        why: GrantEnd,
    },
}

/// An authorization code that waits to be redeemed. The code itself is a handle of the grant, and not kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PendingCode {
    pub redirect_uri: Arc<str>,
    /// Whether the request named it, so that the redemption must too (RFC 6749 section 4.1.3).
    pub redirect_uri_named: bool,
    /// S256, 43 characters of base64url.
    pub challenge: Arc<str>,
    pub expires: Timestamp,
    /// Redemptions with a wrong verifier so far.
    #[serde(default)]
    pub failures: u32,
}

/// Why a grant ended. The log and the audit read it; clients do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantEnd {
    Revoked,
    /// The session under which consent was given ended.
    SignedOut,
    /// A code or a refresh token was shown again.
    Reused,
    /// Too many wrong verifiers.
    Guessed,
    /// The password was changed.
    PasswordChanged,
}

/// What the shelf holds about a grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantRecord {
    pub id: GrantId,
    pub of: GrantOf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<Arc<str>>,
    pub environment: Environment,
    /// What was granted. What it opens is this, within what user, client and key hold at each request.
    pub scopes: Arc<ScopeSet>,
    /// The resources (RFC 8707) that its tokens may name in `aud`; at least one.
    pub resources: Vec<Arc<str>>,
    pub state: GrantState,
    /// Of the newest refresh token, or of a key's token. Rises by one at each rotation; the code is generation 0.
    #[serde(default)]
    pub generation: u32,
    /// When `generation` rose last.
    pub advanced: Timestamp,
    /// The pepper whose MAC the newest handle carries, so that the same one can be given again.
    pub pepper: Arc<str>,
    pub created: Timestamp,
    /// Slides with use; never beyond `ends`.
    pub idle_until: Timestamp,
    /// The absolute end.
    pub ends: Timestamp,
    /// The session of the issuer's pages under which it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Arc<str>>,
    /// Opaque access tokens that are out, and JWTs that were taken back before their time; at most [`ACCESS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access: Vec<AccessToken>,
}

/// More than these of one grant: the oldest opens nothing any more.
pub const ACCESS_MAX: usize = 32;

/// One access token of a grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessToken {
    /// An opaque token's generation in its handle, in decimal, or a JWT's `jti`.
    pub id: Arc<str>,
    pub state: AccessState,
    /// From then on the entry may go.
    pub expires: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AccessState {
    /// An opaque token that opens `scopes` at `audience`.
    Out { issued: Timestamp, scopes: Arc<ScopeSet>, audience: Vec<Arc<str>> },
    /// Taken back.
    Revoked,
}

impl GrantRecord {
    /// A grant that lives from now to its end, and opens nothing yet: whoever makes it says what.
    pub fn new(id: GrantId, of: GrantOf, environment: Environment, pepper: &str, now: Timestamp, ends: Timestamp) -> Self {
        Self {
            id,
            of,
            organization: None,
            environment,
            scopes: Arc::default(),
            resources: Vec::new(),
            state: GrantState::Live,
            generation: 0,
            advanced: now,
            pepper: Arc::from(pepper),
            created: now,
            idle_until: ends,
            ends,
            session: None,
            access: Vec::new(),
        }
    }

    pub fn client(&self) -> Option<&ClientId> {
        match &self.of {
            GrantOf::Consent { client, .. } | GrantOf::Client { client } => Some(client),
            GrantOf::SignIn { .. } | GrantOf::Key { .. } => None,
        }
    }

    pub fn user(&self) -> Option<&Subject> {
        match &self.of {
            GrantOf::Consent { user, .. } | GrantOf::SignIn { user } | GrantOf::Key { user, .. } => Some(user),
            GrantOf::Client { .. } => None,
        }
    }

    pub fn key(&self) -> Option<&KeyId> {
        match &self.of {
            GrantOf::Key { key, .. } => Some(key),
            GrantOf::Consent { .. } | GrantOf::Client { .. } | GrantOf::SignIn { .. } => None,
        }
    }

    /// Whether tokens under it may open anything at this instant.
    pub fn is_live(&self, now: Timestamp) -> bool {
        matches!(self.state, GrantState::Live) && now < self.idle_until && now < self.ends
    }

    /// Whether the access token of this id was taken back.
    pub fn has_revoked(&self, id: &str) -> bool {
        self.access.iter().any(|token| *token.id == *id && token.state == AccessState::Revoked)
    }

    /// Until when a repeat of the immediately preceding refresh token is answered with the same successor.
    pub fn repeatable_until(&self, window: Duration) -> Timestamp {
        self.advanced.plus(window)
    }
}
