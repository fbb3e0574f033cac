//! The compiled snapshot that a request lives under: built once from the file, swapped whole, read once per request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::model::api_version::ApiVersions;
use crate::model::caller::Environment;
use crate::model::caller::Namespace;
use crate::model::caller::SourceName;
use crate::model::issuance::Issuance;
use crate::model::key::KeyRecord;
use crate::model::look_alikes::LookAlikes;
use crate::model::quota::Policy;
use crate::model::request::HeaderSize;
use crate::model::route::ErrorFormat;
use crate::model::route::Route;

/// Everything that a reload may change.
#[derive(Debug)]
pub struct Rules {
    /// First 12 hex digits of the SHA-256 of the file (and of what it names that reloads with it).
    pub revision: Arc<str>,
    /// In the file's order; `find_route` indexes them.
    pub routes: Vec<Arc<Route>>,
    pub route_index: crate::model::route::RouteIndex,
    /// For refusals before a route is known.
    pub errors: ErrorFormat,
    pub places: Vec<Place>,
    pub key_brand: Arc<str>,
    pub imported_keys: ImportedKeys,
    pub local: Source,
    pub issuers: Vec<Issuer>,
    /// Every scope there is beside the reserved ones; none: the config does not say.
    pub scopes: Option<Vec<Arc<str>>>,
    /// What this deployment issues itself; its own tokens' entry is among `issuers`.
    pub issuance: Option<Arc<Issuance>>,
    pub mesh: Option<Mesh>,
    pub tiers: BTreeMap<Arc<str>, Tier>,
    /// The tier of callers that name none (or one that does not exist); none: no tier limits.
    pub default_tier: Option<Arc<str>>,
    pub identity_headers: Vec<IdentityHeader>,
    pub assertion: Option<Assertion>,
    pub api_versions: Option<ApiVersions>,
    /// Of the identity headers and the assertion's.
    pub look_alikes: LookAlikes,
    pub guard: GuardLimits,
    /// What Envoy takes of a request's headers once ours are added: it refuses more, and the request would have been counted.
    pub header_limits: HeaderSize,
    /// How many proxies before this Envoy may be believed about `x-forwarded-for`; 0: the peer is the client.
    pub trusted_hops: u8,
    pub dry_run: DryRun,
    pub limits_failure: LimitsFailure,
    pub fault_answer: FaultAnswer,
    /// Keys as code, by public id; read-only.
    pub file_keys: BTreeMap<Arc<str>, Arc<KeyRecord>>,
    /// Share of allows that the decision log shows, 0.0 to 1.0.
    pub log_allows: f64,
    /// How many users `/metrics` lists by name.
    pub usage_series_limit: usize,
}

/// What no rules go beyond: more is refused before it is read.
pub const HEADERS_MOST: HeaderSize = HeaderSize { lines: 1024, bytes: 192 * 1024 };
/// What Envoy takes unless it is told otherwise.
pub const HEADERS_OF_ENVOY: HeaderSize = HeaderSize { lines: 100, bytes: 60 * 1024 };

impl Rules {
    /// What is signed differs each time and says nothing that the other headers do not, so what is judged to be compared does without.
    pub fn without_assertion(self) -> Self {
        let mut rules = Self { assertion: None, ..self };
        rules.look_alikes = LookAlikes::of(&rules);
        rules
    }
}

/// Whether verdicts are in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DryRun {
    Off,
    /// Every request is judged, logged and counted, and goes through whatever the verdict is.
    On,
}

/// A place where a credential may stand, in order of preference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Lower case.
    pub header: Arc<str>,
    /// `Bearer`, `Agent`; matched without regard to case. None: the bare value.
    pub scheme: Option<Arc<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportedKeys {
    Refused,
    Accepted,
}

/// One source of identities and how its users are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub name: SourceName,
    pub namespace: Namespace,
}

/// An issuer whose JWTs are trusted.
#[derive(Clone, Debug)]
pub struct Issuer {
    pub source: Source,
    /// Byte-equal to `iss`.
    pub issuer: Arc<str>,
    /// One of them must stand in `aud`.
    pub audience: Vec<Arc<str>>,
    pub algorithms: Vec<Algorithm>,
    pub keys: IssuerKeys,
    pub claims: ClaimNames,
    /// Required `typ` (compared without `application/` and case); none: not looked at, but an ID token never passes as `at+jwt`.
    pub token_type: Option<Arc<str>>,
    /// Whether the subject must have a user record here.
    pub managed: Managed,
    /// `exp - iat` (or `exp - now` where `iat` is absent) above this is refused.
    pub max_lifetime: Option<Duration>,
    /// Tier and environment of callers whose token names none.
    pub tier: Option<Arc<str>>,
    pub environment: Environment,
    pub token_id: TokenId,
}

/// Whether `jti` names a key record of ours, which then rules (seed 000).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenId {
    Ignored,
    NamesKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Managed {
    No,
    Yes,
    /// Our own tokens: the grant that they name must live, and its user, client or key rules what they open.
    ByGrant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Es256,
    Es384,
    EdDsa,
}

/// Where an issuer's verification keys come from. Key sets from URLs are fetched off the request path and looked up by issuer.
#[derive(Clone, Debug)]
pub enum IssuerKeys {
    /// Key text was read at load and is inside; `jose` parsed it, so a bad one never gets here.
    Fixed(Arc<crate::jose::KeySet>),
    Url {
        url: Arc<str>,
        refresh: Duration,
    },
    /// Our own ring's.
    Own,
}

/// Which claims say what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimNames {
    pub user: Arc<str>,
    /// The first that is present counts; a string is split at single spaces, an array taken whole.
    pub scopes: Vec<Arc<str>>,
    pub organization: Option<Arc<str>>,
    pub tier: Option<Arc<str>>,
    pub environment: Option<Arc<str>>,
    pub client: Option<Arc<str>>,
}

/// mTLS callers: SPIFFE ids of one trust domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mesh {
    pub source: Source,
    /// `spiffe://<trust_domain>/…`
    pub trust_domain: Arc<str>,
    /// Exact principals and what each may do.
    pub principals: BTreeMap<Arc<str>, PrincipalGrant>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrincipalGrant {
    pub scopes: Arc<crate::model::scope::ScopeSet>,
    pub tier: Option<Arc<str>>,
    pub organization: Option<Arc<str>>,
    pub limits: Exemption,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exemption {
    Limited,
    Exempt,
}

/// A named set of limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    pub name: Arc<str>,
    pub policies: Vec<Policy>,
    pub state: TierState,
    /// How long its callers are judged by what was known last when the shared store does not answer. Zero: not at all.
    pub grace: Duration,
}

impl Tier {
    /// Whether its callers may still be judged by what lost its confirmation so long ago. Without a grace: never, however short ago.
    pub fn lasts(&self, lapsed_for: Duration) -> bool {
        !self.grace.is_zero() && lapsed_for <= self.grace
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TierState {
    Active,
    /// Its callers are refused like any bad credential.
    Disabled,
}

/// One identity header: set where its value is known, removed everywhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityHeader {
    /// Lower case.
    pub name: Arc<str>,
    pub value: Vec<IdentityPart>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityPart {
    Text(Arc<str>),
    Of(IdentityValue),
}

/// What `{…}` in an identity header may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityValue {
    /// The rendered user id.
    User,
    /// The subject alone, as its source calls it.
    Subject,
    Source,
    /// The token's `iss`; `local` for keys.
    Issuer,
    Organization,
    Key,
    Client,
    Scopes,
    Tier,
    Environment,
}

/// A short-lived JWT about the caller for services that check for themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assertion {
    /// Lower case.
    pub header: Arc<str>,
    /// `Bearer ` or nothing, put before the token.
    pub prefix: Arc<str>,
    pub issuer: Arc<str>,
    pub audience: Vec<Arc<str>>,
    pub lifetime: Duration,
}

/// Failed credentials per minute and address, and per minute and key prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardLimits {
    pub per_address: crate::model::quota::Limit,
    pub per_key_prefix: crate::model::quota::Limit,
}

/// What to do when buckets cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitsFailure {
    LocalShare,
    Deny,
    Pass,
}

/// In which form a fault leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultAnswer {
    /// gRPC UNAVAILABLE: Envoy's failure mode applies.
    RpcError,
    /// `error_response` (Envoy 1.37 and newer): the same, with our status and body.
    ErrorResponse,
    /// A denial with 503: Envoy's failure mode never applies.
    Deny,
}

#[cfg(test)]
pub(crate) mod samples {
    use super::*;
    use crate::model::quota::Limit;
    use crate::model::route::RouteIndex;

    /// Rules without routes, places, sources and limits, of which a test says what it is about.
    pub(crate) fn nothing() -> Rules {
        Rules {
            revision: "0123456789ab".into(),
            routes: Vec::new(),
            route_index: RouteIndex::default(),
            errors: ErrorFormat::Standard,
            places: Vec::new(),
            key_brand: "tg".into(),
            imported_keys: ImportedKeys::Refused,
            local: Source { name: SourceName::local(), namespace: Namespace::Bare },
            issuers: Vec::new(),
            scopes: None,
            issuance: None,
            mesh: None,
            tiers: BTreeMap::new(),
            default_tier: None,
            identity_headers: Vec::new(),
            assertion: None,
            api_versions: None,
            look_alikes: LookAlikes::default(),
            guard: GuardLimits { per_address: Limit { per_minute: 6, depth: 3 }, per_key_prefix: Limit { per_minute: 60, depth: 5 } },
            header_limits: HEADERS_OF_ENVOY,
            trusted_hops: 0,
            dry_run: DryRun::Off,
            limits_failure: LimitsFailure::LocalShare,
            fault_answer: FaultAnswer::RpcError,
            file_keys: BTreeMap::new(),
            log_allows: 1.0,
            usage_series_limit: 100,
        }
    }
}
