//! What this deployment issues itself.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::file::identity::EnvironmentFile;
use crate::config::file::route::ErrorsFile;
use crate::config::file::scalars::Period;
use crate::config::file::scalars::SecretPlace;
use crate::config::file::scalars::Whole;

/// Accounts, keys and tokens of our own. Sidecars that only check our tokens have it too, without `listen.issuer`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IssuanceFile {
    /// The exact `iss` of our tokens, and where people and clients reach us: https (http on loopback only), nothing behind the path.
    pub url: String,
    /// What people sign in to, in the headings and titles of our pages: 1 to 64 characters. Default: the host of `url`.
    pub name: Option<String>,
    /// What our tokens are for: absolute URIs (RFC 8707) and the scopes that belong to each. At least one.
    pub resources: Vec<ResourceFile>,
    /// The scopes that clients may ask for, each with the words of the consent page.
    #[serde(default)]
    pub scopes: BTreeMap<String, String>,
    /// How long things live.
    #[serde(default)]
    pub lifetimes: LifetimesFile,
    /// How JWT access tokens are signed where a client does not say. Default: `EdDSA`.
    pub algorithm: Option<SigningFile>,
    /// Who may sign up. Default: `invited`.
    pub sign_up: Option<SignUpFile>,
    /// Whether who signs up without an invitation says a phone number. It is kept as unverified: nothing is sent to it. Default:
    /// `optional`.
    pub phone: Option<PhoneFile>,
    /// What ends when somebody signs out. Default: `session`.
    pub sign_out: Option<SignOutFile>,
    /// What the first user of a new organisation may hold. Default: every scope above, `tollgate:keys`, `tollgate:users` and
    /// `tollgate:usage`; the reserved ones reach no further than its organisation.
    pub admin_rights: Option<Vec<String>>,
    /// What an invited member may hold where the invitation does not say. Default: every scope above.
    pub member_rights: Option<Vec<String>>,
    /// The tier of a new organisation. Default: `default_tier`.
    pub tier: Option<String>,
    /// The key that is made with each new user. Default: none.
    pub first_key: Option<FirstKeyFile>,
    /// How passwords are hashed and guessing is limited.
    #[serde(default)]
    pub passwords: PasswordsFile,
    /// How much one user may have at a time. Operators, and whoever holds `tollgate:admin`, are not bound.
    #[serde(default)]
    pub caps: CapsFile,
    /// Sign-in elsewhere: OpenID Connect.
    #[serde(default)]
    pub providers: Vec<ProviderFile>,
    /// Who may register a client by RFC 7591. Default: nobody.
    pub registration: Option<RegistrationFile>,
    /// Routes in other systems' spelling. Default: none.
    #[serde(default)]
    pub compatibility: Vec<CompatibilityFile>,
    /// In which shape refusals are written. Default: that of the gate.
    pub errors: Option<ErrorsFile>,
    /// How many proxies before `listen.issuer` are believed about `x-forwarded-for`: behind one Envoy 1, else everybody shares Envoy's
    /// address and its limits. Default: 0, the peer is the client.
    pub trusted_hops: Option<Whole<u8, 0, 255>>,
    /// Where a person goes who signed in and asked for nothing else. Default: our own page.
    pub home: Option<String>,
}

/// A protected resource.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourceFile {
    /// An absolute URI without fragment: what stands in `aud`.
    pub uri: String,
    /// The scopes that mean something there. Default: all.
    pub scopes: Option<Vec<String>>,
}

/// How long things live.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LifetimesFile {
    /// An authorization code, `5s` to `10m`. Default: `60s`.
    pub code: Option<Period>,
    /// An access token, `1m` to `1d`. Default: `10m`.
    pub access_token: Option<Period>,
    /// A refresh token that nobody uses, `1h` to `366d`. Default: `30d`.
    pub refresh_idle: Option<Period>,
    /// A family of refresh tokens, `1h` to `3660d`. Default: `366d`.
    pub refresh_absolute: Option<Period>,
    /// How long the last refresh token may be repeated, `0s` to `1m`. Default: `10s`.
    pub refresh_window: Option<Period>,
    /// A key's token, `1m` to `1d`. Default: `60m`.
    pub key_token: Option<Period>,
    /// A key's token, however often it is asked for, `1m` to `366d`. Default: `1d`.
    pub key_token_absolute: Option<Period>,
    /// A session that nobody uses, `1m` to `366d`. Default: `12h`.
    pub session_idle: Option<Period>,
    /// A session, however much it is used, `1m` to `366d`. Default: `30d`.
    pub session_absolute: Option<Period>,
    /// An invitation, `1m` to `366d`. Default: `7d`.
    pub invitation: Option<Period>,
}

/// How tokens are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum SigningFile {
    #[serde(rename = "RS256")]
    Rs256,
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// Who may sign up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SignUpFile {
    /// Everybody; who comes without an invitation gets an organisation of its own.
    Open,
    /// With an invitation.
    Invited,
    /// Nobody: operators make users.
    Closed,
}

/// Whether who signs up without an invitation says a phone number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PhoneFile {
    /// Nobody founds an organisation without one.
    Required,
    /// The sign-up page has a field for it.
    Optional,
    /// It is not asked for.
    Off,
}

/// What ends when somebody signs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SignOutFile {
    /// The session alone.
    Session,
    /// Also whatever was allowed to applications under it.
    Grants,
}

/// A key made with each new user.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FirstKeyFile {
    /// Its name, for people: 1 to 255 characters. Default: `first`.
    pub name: Option<String>,
    /// Which routes it may come to. Default: `live`.
    pub environment: Option<EnvironmentFile>,
    /// What it may do, within the user's rights. Default: all that the user may, but for `tollgate:` scopes.
    pub scopes: Option<Vec<String>>,
}

/// How passwords are hashed (argon2id) and guessing is limited.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordsFile {
    /// Memory of one hash in KiB. Default: 19456.
    pub memory_kib: Option<Whole<u32, 8_192, 1_048_576>>,
    /// Passes over that memory. Default: 2.
    pub iterations: Option<Whole<u32, 1, 16>>,
    /// Hashes at a time. Default: 1.
    pub workers: Option<Whole<usize, 1, 64>>,
    /// Sign-ins that may wait for one; more are refused. Default: 8.
    pub waiting: Option<Whole<usize, 1, 1_024>>,
    /// Failed sign-ins per minute and address. Default: 30.
    pub per_address: Option<Whole<u32, 1, 1_000_000>>,
    /// Failed sign-ins per minute, account and address. Default: 5.
    pub per_account_and_address: Option<Whole<u32, 1, 1_000_000>>,
}

/// How much one user may have at a time.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CapsFile {
    /// Keys that are neither revoked nor expired. Default: 100.
    pub keys: Option<Whole<usize, 1, 100_000>>,
    /// Applications. Default: 20.
    pub clients: Option<Whole<usize, 1, 100_000>>,
    /// Sessions; with one more the oldest ends. Default: 50.
    pub sessions: Option<Whole<usize, 1, 100_000>>,
    /// Invitations that are out. Default: 100.
    pub invitations: Option<Whole<usize, 1, 100_000>>,
}

/// A provider of sign-ins.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderFile {
    /// Its name in URLs: 1 to 32 of `a-z 0-9 -`.
    pub name: String,
    /// What stands on its button. Default: the name.
    pub label: Option<String>,
    /// Its exact issuer; for Microsoft with `{tenantid}` in the place of the tenant.
    pub issuer: String,
    /// Microsoft: the tenants that may sign in. Default: every one.
    #[serde(default)]
    pub tenants: Vec<String>,
    /// Who we are there.
    pub client_id: String,
    /// Our secret there. Default: none, PKCE alone.
    pub client_secret: Option<SecretPlace>,
    /// Asked for beside `openid`. Default: `profile` and `email`.
    pub scopes: Option<Vec<String>>,
    /// Whether its `email_verified` is believed. Default: `false`.
    pub trusts_email: Option<bool>,
}

/// Who may register a client.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegistrationFile {
    /// `true`: everybody, within a limit. Default: `false`.
    pub open: Option<bool>,
    /// Whoever shows this token (RFC 7591 section 3), at least 16 characters. Default: none.
    pub initial_access_token: Option<SecretPlace>,
}

/// Routes in other systems' spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CompatibilityFile {
    /// `POST /generate`.
    Generate,
    /// `POST /auth/users`, `POST /auth/token`.
    AuthUsers,
    /// A JSON body at `/oauth/token`.
    JsonToken,
    /// `POST /get-token`.
    GetToken,
    /// `/register`, `/login`, `/client`, `/authorize`, `/token`.
    Tinyoauth,
}
