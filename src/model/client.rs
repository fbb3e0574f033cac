//! OAuth clients (applications): RFC 6749 section 2, RFC 7591.

use std::sync::Arc;

use serde::Deserialize;
use serde::Serialize;

use crate::model::caller::Environment;
use crate::model::caller::Subject;
use crate::model::key::DisabledBy;
use crate::model::key::SecretHash;
use crate::model::rules::Algorithm;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;

/// `app_` and 20 base62 characters, made by us: never chosen, and never a user's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClientId(Arc<str>);

/// What every client's id begins with; no user may be called so.
pub const CLIENT_ID_PREFIX: &str = "app_";

impl ClientId {
    /// The caller has checked the form with [`is_client_id`].
    pub fn new(text: &str) -> Self {
        Self(Arc::from(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same text, shared.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl std::fmt::Display for ClientId {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

/// Whether a text could be a client's id: what is not never reaches a record's name.
pub fn is_client_id(text: &str) -> bool {
    text.strip_prefix(CLIENT_ID_PREFIX).is_some_and(|rest| rest.len() == 20 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// Whether it can keep a secret, RFC 6749 section 2.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientKind {
    Confidential,
    /// A browser application.
    Public,
    /// Installed on a device: its loopback redirects may differ in the port (RFC 8252 section 7.3).
    Native,
}

/// How a client proves itself; it is registered with one way, and no other is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientAuth {
    #[serde(rename = "client_secret_basic")]
    Basic,
    #[serde(rename = "client_secret_post")]
    Body,
    /// Public clients.
    #[serde(rename = "none")]
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum GrantType {
    #[serde(rename = "authorization_code")]
    AuthorizationCode,
    #[serde(rename = "refresh_token")]
    RefreshToken,
    #[serde(rename = "client_credentials")]
    ClientCredentials,
    #[serde(rename = "urn:ietf:params:oauth:grant-type:token-exchange")]
    TokenExchange,
}

impl GrantType {
    pub const ALL: [Self; 4] = [Self::AuthorizationCode, Self::RefreshToken, Self::ClientCredentials, Self::TokenExchange];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AuthorizationCode => "authorization_code",
            Self::RefreshToken => "refresh_token",
            Self::ClientCredentials => "client_credentials",
            Self::TokenExchange => "urn:ietf:params:oauth:grant-type:token-exchange",
        }
    }
}

/// In which form a client gets its access tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessTokenForm {
    /// RFC 9068, signed with this algorithm of the ring (RS256 or EdDSA).
    Jwt(Algorithm),
    Opaque,
}

/// One of at most two secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientSecret {
    pub hash: SecretHash,
    pub created: Timestamp,
    /// Set on the older one during a rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retires: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientState {
    Active,
    Disabled,
}

/// What the shelf holds about a client. A deleted one is not there any more, and everything under it is dead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientRecord {
    pub id: ClientId,
    pub name: Arc<str>,
    /// Who registered it; none: an operator, or open registration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Subject>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<Arc<str>>,
    pub kind: ClientKind,
    pub auth: ClientAuth,
    /// Compared byte for byte.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redirect_uris: Vec<Arc<str>>,
    pub grant_types: Vec<GrantType>,
    /// What it may ask for at the most, and what it holds itself under client_credentials. Never a `tollgate:` scope.
    pub scopes: Arc<ScopeSet>,
    /// The resources (RFC 8707) that it may name; empty: the issuer's default ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<Arc<str>>,
    pub token_form: AccessTokenForm,
    pub environment: Environment,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<Arc<str>>,
    /// Newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<ClientSecret>,
    pub state: ClientState,
    /// While it is disabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled_by: Option<DisabledBy>,
    pub created: Timestamp,
    /// Shown as text on the consent page, never fetched (RFC 7591 section 5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub website: Option<Arc<str>>,
}

impl ClientRecord {
    /// Who disabled it; none: it is not disabled.
    pub fn disabled(&self) -> Option<DisabledBy> {
        match self.state {
            ClientState::Disabled => Some(self.disabled_by.unwrap_or_default()),
            ClientState::Active => None,
        }
    }
}
