//! Requests as the document shows them. They are read by hand, member for member, so that complaints can name each; the tests hold the
//! two together.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::IntoParams;
use utoipa::ToSchema;

use crate::issuer::openapi::schemas::ClientKindName;
use crate::issuer::openapi::schemas::EnvironmentName;
use crate::issuer::openapi::schemas::RoleName;

/// A new key.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "name": "nightly import", "scopes": ["orders:read"], "environment": "live", "rate_limit": 60, "expires_in": "90d",
    "allowed_networks": ["192.0.2.0/24"], "metadata": {"team": "billing"}, "tags": ["batch"]
}))]
pub struct NewKeyBody {
    #[schema(min_length = 1, max_length = 255, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]+$")]
    pub name: String,
    /// Whose it is; the caller where it says nothing. An operator must say it.
    #[schema(min_length = 1, max_length = 128, pattern = "^[!-~]+$", nullable = false)]
    pub user: Option<String>,
    /// The user's own, or absent.
    #[schema(min_length = 1, max_length = 128, pattern = "^[!-~]+$")]
    pub organization: Option<String>,
    #[schema(nullable = false)]
    pub environment: Option<EnvironmentName>,
    /// Never more than the caller and the user hold themselves.
    #[schema(max_items = 128, nullable = false)]
    pub scopes: Option<Vec<String>>,
    /// Given by operators alone.
    pub tier: Option<String>,
    /// Requests per minute.
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub rate_limit: Option<u32>,
    /// The API version that it is pinned to.
    pub version: Option<String>,
    #[schema(format = DateTime)]
    pub not_before: Option<String>,
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
    /// In the place of `expires_at`: `90d`, `12h`, `30m`.
    #[schema(pattern = "^[0-9]{1,10}[smhd]$", nullable = false)]
    pub expires_in: Option<String>,
    /// Networks or addresses from which alone it opens anything.
    #[schema(max_items = 32)]
    pub allowed_networks: Option<Vec<String>>,
    /// At most 16 texts of up to 255 characters.
    pub metadata: Option<BTreeMap<String, String>>,
    #[schema(max_items = 16)]
    pub tags: Option<Vec<String>>,
}

/// What is to change of a key; what is not named stays, `null` takes away.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "nightly import", "active": false}))]
pub struct KeyChangeBody {
    #[schema(min_length = 1, max_length = 255, nullable = false)]
    pub name: Option<String>,
    #[schema(max_items = 128, nullable = false)]
    pub scopes: Option<Vec<String>>,
    /// Given by operators alone.
    pub tier: Option<String>,
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub rate_limit: Option<u32>,
    pub version: Option<String>,
    #[schema(format = DateTime)]
    pub not_before: Option<String>,
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
    #[schema(pattern = "^[0-9]{1,10}[smhd]$", nullable = false)]
    pub expires_in: Option<String>,
    #[schema(nullable = false)]
    pub active: Option<bool>,
    #[schema(max_items = 32)]
    pub allowed_networks: Option<Vec<String>>,
    pub metadata: Option<BTreeMap<String, String>>,
    #[schema(max_items = 16)]
    pub tags: Option<Vec<String>>,
}

/// A rotation.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"grace": "24h"}))]
pub struct RotationBody {
    /// How long the old secret goes on opening: `0s` to `30d`.
    #[schema(pattern = "^[0-9]{1,10}[smhd]$")]
    pub grace: String,
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
    #[schema(pattern = "^[0-9]{1,10}[smhd]$", nullable = false)]
    pub expires_in: Option<String>,
}

/// Keys made elsewhere, by the SHA-256 of their texts.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"keys": [{
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "name": "from before", "scopes": ["orders:read"]
}]}))]
pub struct ImportBody {
    #[schema(min_items = 1, max_items = 100)]
    pub keys: Vec<ImportedKeyBody>,
}

/// One of them: a new key, and its hash.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportedKeyBody {
    #[schema(pattern = "^[0-9a-fA-F]{64}$")]
    pub sha256: String,
    #[serde(flatten)]
    pub key: NewKeyBody,
}

/// The text of a key.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"key": "tg_live_sk_4Fz0c2…"}))]
pub struct HeldKeyBody {
    pub key: String,
}

/// A new user.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"id": "ben", "rights": ["orders:read"], "display_name": "Ben"}))]
pub struct NewUserBody {
    #[schema(min_length = 1, max_length = 128, pattern = "^[!-~]+$")]
    pub id: String,
    /// The caller's own where it is absent.
    #[schema(min_length = 1, max_length = 128, pattern = "^[!-~]+$")]
    pub organization: Option<String>,
    /// The ceiling of what its credentials may do; never more than its maker holds.
    #[schema(max_items = 128)]
    pub rights: Option<Vec<String>>,
    #[schema(nullable = false)]
    pub active: Option<bool>,
    #[schema(nullable = false)]
    pub role: Option<RoleName>,
    #[schema(nullable = false)]
    pub display_name: Option<String>,
    #[schema(nullable = false)]
    pub email: Option<String>,
    #[schema(nullable = false)]
    pub phone: Option<String>,
    #[schema(nullable = false)]
    pub password: Option<String>,
    /// Whose user it is; an operator's to say.
    #[schema(nullable = false)]
    pub source: Option<String>,
    /// An operator's to say.
    pub tier: Option<String>,
}

/// What is to change of a user.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"active": false}))]
pub struct UserChangeBody {
    pub organization: Option<String>,
    pub tier: Option<String>,
    #[schema(max_items = 128)]
    pub rights: Option<Vec<String>>,
    #[schema(nullable = false)]
    pub active: Option<bool>,
    /// Tokens issued before are worth nothing: a time, or `now`.
    pub valid_from: Option<String>,
    #[schema(nullable = false)]
    pub role: Option<RoleName>,
    pub display_name: Option<String>,
    pub email: Option<String>,
    pub phone: Option<String>,
    #[schema(nullable = false)]
    pub password: Option<String>,
    /// Of whoever changes its own password.
    #[schema(nullable = false)]
    pub current_password: Option<String>,
}

/// What is to change of an organisation.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Acme"}))]
pub struct OrganizationChangeBody {
    #[schema(min_length = 1, max_length = 255, nullable = false)]
    pub name: Option<String>,
    /// An operator's to say.
    pub tier: Option<String>,
}

/// A new invitation.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"role": "member", "expires_in": "7d"}))]
pub struct InvitationBody {
    #[schema(nullable = false)]
    pub organization: Option<String>,
    #[schema(nullable = false)]
    pub role: Option<RoleName>,
    /// What the new user may hold at the most; never more than its maker holds.
    #[schema(max_items = 128, nullable = false)]
    pub rights: Option<Vec<String>>,
    #[schema(pattern = "^[0-9]{1,10}[smhd]$", nullable = false)]
    pub expires_in: Option<String>,
}

/// A new OAuth client.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "name": "Order book", "kind": "confidential", "redirect_uris": ["https://app.example.com/callback"], "scopes": ["orders:read"]
}))]
pub struct NewClientBody {
    #[schema(min_length = 1, max_length = 255)]
    pub name: String,
    #[schema(nullable = false)]
    pub kind: Option<ClientKindName>,
    #[schema(nullable = false)]
    pub token_endpoint_auth_method: Option<String>,
    #[schema(nullable = false)]
    pub redirect_uris: Option<Vec<String>>,
    #[schema(nullable = false)]
    pub grant_types: Option<Vec<String>>,
    #[schema(nullable = false)]
    pub scopes: Option<Vec<String>>,
    #[schema(nullable = false)]
    pub resources: Option<Vec<String>>,
    /// The form of its access tokens.
    #[schema(nullable = false)]
    pub access_tokens: Option<String>,
    #[schema(nullable = false)]
    pub environment: Option<EnvironmentName>,
    pub tier: Option<String>,
    pub website: Option<String>,
    pub owner: Option<String>,
    pub organization: Option<String>,
}

/// What is to change of a client.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"active": false}))]
pub struct ClientChangeBody {
    #[schema(min_length = 1, max_length = 255, nullable = false)]
    pub name: Option<String>,
    #[schema(nullable = false)]
    pub redirect_uris: Option<Vec<String>>,
    #[schema(nullable = false)]
    pub grant_types: Option<Vec<String>>,
    #[schema(nullable = false)]
    pub scopes: Option<Vec<String>>,
    #[schema(nullable = false)]
    pub resources: Option<Vec<String>>,
    #[schema(nullable = false)]
    pub access_tokens: Option<String>,
    pub tier: Option<String>,
    pub website: Option<String>,
    #[schema(nullable = false)]
    pub active: Option<bool>,
}

/// A second secret.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"grace": "24h"}))]
pub struct ClientRotationBody {
    /// How long the old secret goes on opening: `0s` to `30d`.
    #[schema(pattern = "^[0-9]{1,10}[smhd]$")]
    pub grace: String,
}

/// How the ring is to turn.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"emergency": false}))]
pub struct RingRotationBody {
    /// `true`: what was signed before verifies no more.
    pub emergency: bool,
}

/// RFC 6749 section 4.1.1, with PKCE, resource indicators and `prompt`.
#[derive(Debug, Serialize, ToSchema, IntoParams)]
#[into_params(parameter_in = Query)]
#[schema(example = json!({
    "response_type": "code", "client_id": "app_0123456789abcdefghij", "redirect_uri": "https://app.example.com/callback",
    "scope": "orders:read", "state": "xyz", "code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", "code_challenge_method": "S256"
}))]
pub struct AuthorizationForm {
    /// `code`
    pub response_type: Option<String>,
    pub client_id: Option<String>,
    /// Registered with the client, byte for byte.
    pub redirect_uri: Option<String>,
    pub scope: Option<String>,
    /// Comes back as it is.
    pub state: Option<String>,
    /// 43 characters of base64url.
    pub code_challenge: Option<String>,
    /// `S256`
    pub code_challenge_method: Option<String>,
    /// RFC 8707.
    pub resource: Option<String>,
    /// `none`, `login` or `consent`.
    pub prompt: Option<String>,
}

/// Of a route that makes something.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
pub struct Repeatable {
    /// Names this request, so that it can be sent again after its answer was lost: within a day it is done once. A repeat answers 409, and
    /// `location` names what was made; a secret is in the first answer alone. Best a UUID.
    #[param(rename = "idempotency-key", pattern = "^[!-~]{16,255}$", example = "8e03978e-40d5-43dd-bc93-6894a57f9324")]
    pub idempotency_key: Option<String>,
}

/// RFC 6749, one form for all grant types.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "grant_type": "authorization_code", "code": "tg_ac_…", "redirect_uri": "https://app.example.com/callback",
    "code_verifier": "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "client_id": "app_7Rk2mV0c"
}))]
pub struct TokenForm {
    pub grant_type: String,
    pub code: Option<String>,
    pub redirect_uri: Option<String>,
    pub code_verifier: Option<String>,
    pub refresh_token: Option<String>,
    pub scope: Option<String>,
    pub resource: Option<String>,
    pub subject_token: Option<String>,
    pub subject_token_type: Option<String>,
    pub client_id: Option<String>,
    pub client_secret: Option<String>,
}

/// A token that is to be taken back or looked at.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"token": "tg_rt_…", "client_id": "app_7Rk2mV0c"}))]
pub struct TokenNameForm {
    pub token: String,
    pub token_type_hint: Option<String>,
    pub client_id: Option<String>,
    pub client_secret: Option<String>,
}
