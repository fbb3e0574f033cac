//! Whom we trust, how callers are shown, and what they may use.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::file::scalars::Instant;
use crate::config::file::scalars::Period;
use crate::config::file::scalars::Rate;
use crate::config::file::scalars::SecretPlace;
use crate::config::file::scalars::Several;

/// Whose user ids stand without a prefix.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserIdsFile {
    /// The one source whose users are shown bare (`alice`); all others are shown as `source:alice`. Default: `local`.
    pub bare: Option<String>,
}

/// An issuer whose JWTs are trusted.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IssuerFile {
    /// The source's name in user ids: 1 to 32 of `a-z 0-9 -`. Default: the issuer itself where it is such a name, else its host with dashes.
    pub name: Option<String>,
    /// Byte-equal to the token's `iss`.
    pub issuer: String,
    /// One of them must stand in the token's `aud`.
    pub audience: Several,
    /// With which its tokens may be signed. Default: `HS256` for a secret; `RS256`, `ES256` and `EdDSA` for public keys.
    #[serde(default)]
    pub algorithms: Vec<AlgorithmFile>,
    /// The keys that verify its tokens.
    pub keys: IssuerKeysFile,
    /// Which claims say what.
    #[serde(default)]
    pub claims: ClaimsFile,
    /// The `typ` that its tokens must have, such as `at+jwt`. Default: not looked at.
    pub token_type: Option<String>,
    /// Whether the subject must have a user record here. Default: `false`.
    pub managed: Option<bool>,
    /// Tokens that live longer are refused; at least `1s`. Default: no bound.
    pub max_lifetime: Option<Period>,
    /// The tier of callers whose token names none. Default: `default_tier`.
    pub tier: Option<String>,
    /// The environment of callers whose token names none. Default: `live`.
    pub environment: Option<EnvironmentFile>,
    /// Whether `jti` names a key of ours, which then rules, and its local user with it; not beside `managed`. Default: `ignored`.
    pub token_id: Option<TokenIdFile>,
}

/// Exactly one source of verification keys.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IssuerKeysFile {
    /// A JWK set at an https URL (http on loopback only), such as `https://id.example.com/jwks.json`. Default: none.
    pub jwks_url: Option<String>,
    /// How often the URL is asked again, `10s` to `1d`. Default: `5m`.
    pub refresh: Option<Period>,
    /// A JWK set in a file; read again when it changes. Default: none.
    pub jwks_file: Option<PathBuf>,
    /// One public key as PEM in a file; read again when it changes. Default: none.
    pub pem_file: Option<PathBuf>,
    /// A shared secret of at least 32 bytes; read again when its file changes. Default: none.
    pub hmac_secret: Option<SecretPlace>,
}

/// Signature algorithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum AlgorithmFile {
    #[serde(rename = "HS256")]
    Hs256,
    #[serde(rename = "HS384")]
    Hs384,
    #[serde(rename = "HS512")]
    Hs512,
    #[serde(rename = "RS256")]
    Rs256,
    #[serde(rename = "RS384")]
    Rs384,
    #[serde(rename = "RS512")]
    Rs512,
    #[serde(rename = "PS256")]
    Ps256,
    #[serde(rename = "ES256")]
    Es256,
    #[serde(rename = "ES384")]
    Es384,
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// Names of claims.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimsFile {
    /// The subject. Default: `sub`.
    pub user: Option<String>,
    /// The first that is present counts. Default: `scope`, then `scp`.
    pub scopes: Option<Several>,
    /// The organisation. Default: none.
    pub org: Option<String>,
    /// The caller's tier. One that the config lacks is `default_tier`. Default: none.
    pub tier: Option<String>,
    /// The environment, `live` or `test`. Default: none.
    pub environment: Option<String>,
    /// The OAuth client. Default: `client_id`.
    pub client: Option<String>,
}

/// `live` or `test`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EnvironmentFile {
    Live,
    Test,
}

/// What `jti` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenIdFile {
    /// It is an id like any other.
    Ignored,
    /// `jti` is the id of a key record, so that rotation, revocation and last use work.
    NamesKey,
}

/// mTLS callers of one SPIFFE trust domain.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MeshFile {
    /// The source's name in user ids: 1 to 32 of `a-z 0-9 -`. Default: `mesh`.
    pub name: Option<String>,
    /// The trust domain, without `spiffe://`.
    pub trust_domain: String,
    /// Exact principals (`spiffe://domain/path`) and what each may do.
    pub principals: BTreeMap<String, PrincipalFile>,
}

/// What one principal may do.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrincipalFile {
    /// Its scopes. Default: none.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// The tier that its requests count in. Default: `default_tier`.
    pub tier: Option<String>,
    /// Its organisation. Default: none.
    pub organization: Option<String>,
    /// Whether limits apply to it. Default: `limited`.
    pub limits: Option<ExemptionFile>,
}

/// Whether limits apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExemptionFile {
    Limited,
    Exempt,
}

/// A place where a credential may stand.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaceFile {
    /// The request header, without regard to case.
    pub header: String,
    /// `Bearer`, `Agent`: the word before the credential. Default: the bare value.
    pub scheme: Option<String>,
}

/// Keys of other systems, known by the SHA-256 of their text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImportedKeysFile {
    Refused,
    Accepted,
}

/// A named set of limits.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TierFile {
    /// Refill of the bucket of the organisation (of the user where there is none). Default: no such limit.
    pub requests_per_minute: Option<Rate>,
    /// Depth of that bucket: how many requests pass at once. Default: one minute's allowance.
    pub burst: Option<Rate>,
    /// Further limits; all of them must admit.
    #[serde(default)]
    pub limits: Vec<LimitFile>,
    /// Callers of a disabled tier are refused like any bad credential. Default: `false`.
    pub disabled: Option<bool>,
    /// How long after the shared store fell silent the tier's callers are still judged by what was known last, `0s` to `10m`: meanwhile
    /// a revocation may go unnoticed. Default: `0s`, they are answered with a fault at once.
    pub grace: Option<Period>,
}

/// A token bucket.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitFile {
    /// Unique within its list: 1 to 64 of `a-z A-Z 0-9 _ -`. Renaming a limit starts new buckets.
    pub name: String,
    /// Whose bucket it is. Default: `owner`.
    pub per: Option<PerFile>,
    /// Refill of the bucket.
    pub requests_per_minute: Rate,
    /// Depth: how many requests pass at once. Default: one minute's allowance.
    pub burst: Option<Rate>,
}

/// Whose bucket a limit fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PerFile {
    /// The organisation's; the user's where there is none.
    Owner,
    /// One bucket for each user.
    User,
    /// One bucket for each organisation.
    Organization,
    /// One bucket for each key.
    Key,
    /// One bucket for the whole route.
    Route,
    /// One bucket for each client address.
    Address,
}

/// A short-lived JWT about the caller, for services that check for themselves.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AssertionFile {
    /// The header that carries it upstream. Default: `x-tollgate-assertion`.
    pub header: Option<String>,
    /// Whether `Bearer ` stands before the token. Default: `none`.
    pub prefix: Option<AssertionPrefix>,
    /// Its `iss`: who said so.
    pub issuer: String,
    /// Its `aud`: who may believe it.
    pub audience: Several,
    /// How long it is good, `10s` to `1h`. Default: `5m`.
    pub lifetime: Option<Period>,
}

/// What stands before an assertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AssertionPrefix {
    None,
    Bearer,
}

/// A key as code: an entry of `keys_file`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyFile {
    /// The public id inside the key's text; unique.
    pub id: String,
    /// For people. Default: none.
    pub name: Option<String>,
    /// The local user that the key acts for.
    pub user: String,
    /// The user's organisation. Default: none.
    pub org: Option<String>,
    /// The tier of its requests. Default: `default_tier`.
    pub tier: Option<String>,
    /// What it may do. Default: nothing that wants a scope.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Which routes it may come to. Default: `live`.
    pub environment: Option<EnvironmentFile>,
    /// One more bucket, of the key alone: requests per minute. Default: none.
    pub rate_limit: Option<Rate>,
    /// From then on it opens nothing. Default: never.
    pub expires: Option<Instant>,
    /// Before then it opens nothing. Default: it is good at once.
    pub not_before: Option<Instant>,
    /// Whether it opens nothing for now. Default: `false`.
    pub disabled: Option<bool>,
    /// The API version that it is pinned to. Default: none.
    pub version: Option<String>,
    /// `hmac-sha256:<pepper id>:<64 hexadecimal digits>` of the key's whole text.
    pub hash: String,
}
