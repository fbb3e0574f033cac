//! The route table and what surrounds a request's way: versions, errors, failures.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::file::identity::EnvironmentFile;
use crate::config::file::identity::LimitFile;
use crate::config::file::scalars::Instant;
use crate::config::file::scalars::Rate;
use crate::config::file::scalars::Whole;

/// One entry of the route table.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteFile {
    /// Whole segments, with variables: `/profiles/{profile_id}`; a trailing `/**` matches the path itself and everything below it.
    pub path: String,
    /// Metric label, name in logs and counts: 1 to 64 of `a-z A-Z 0-9 . _ -`. Default: methods, host and path.
    pub name: Option<String>,
    /// A host name, perhaps with a port. Default: every host.
    pub host: Option<String>,
    /// The methods that it is for; HEAD is judged as GET. Default: every method but CONNECT.
    pub methods: Option<Vec<MethodFile>>,
    /// Whether a credential is needed. Default: `required`.
    pub auth: Option<AuthFile>,
    /// What the caller must hold.
    pub scopes: Option<ScopesFile>,
    /// A path variable that must equal the caller's organisation, else 404. Default: none.
    pub tenant: Option<String>,
    /// Which credentials may come. Default: all.
    #[serde(default)]
    pub environments: Vec<EnvironmentFile>,
    /// What one request takes from every bucket and adds to its counter. Default: 1.
    pub cost: Option<Whole<u32, 1, 1_000_000>>,
    /// Limits of this route's own, beside the tier's.
    #[serde(default)]
    pub limits: Vec<LimitFile>,
    /// What is counted instead of the route's name, with path variables: `{service}/{endpoint}`. Default: the name.
    pub count_as: Option<String>,
    /// In which shape its refusals are written. Default: the file's `errors`.
    pub errors: Option<ErrorsFile>,
    /// Whether the upstream sees the credential. Default: `false`.
    pub keep_credential: Option<bool>,
    /// The query parameter that may carry a credential; it is removed. Default: none.
    pub query_token: Option<String>,
    /// `preflight` lets the exact shape of a CORS preflight pass, uncounted. Default: `ordinary`.
    pub cors: Option<CorsFile>,
    /// Whether CONNECT and connection upgrades pass. Default: `refused`.
    pub upgrades: Option<UpgradesFile>,
    /// What happens to `;…` in the path. Default: `refused`.
    pub matrix_parameters: Option<MatrixFile>,
    /// Whether the client's own `x-request-id` is kept. Default: `false`.
    pub trust_request_id: Option<bool>,
    /// `false`: `api_versions` does not apply here. Default: `true`.
    pub api_version: Option<bool>,
    /// `stats`: Tollgate answers itself, with the counts of the caller's organisation. Default: `upstream`.
    pub answer: Option<AnswerFile>,
    /// Says that a route which lets everybody reach every path is meant so. Default: `false`.
    pub acknowledge_open: Option<bool>,
}

/// Methods, case-sensitive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum MethodFile {
    Connect,
    Delete,
    Get,
    Head,
    Options,
    Patch,
    Post,
    Put,
}

/// Whether a credential is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthFile {
    /// Who shows none is refused.
    Required,
    /// None is anonymous; a bad one is refused.
    Optional,
    /// Credentials are neither read nor removed.
    Public,
}

/// The scopes that a route wants; `{variable}` is filled from the path.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScopesFile {
    /// It must hold each of them.
    #[serde(default)]
    pub all_of: Vec<String>,
    /// It must hold at least one of them.
    #[serde(default)]
    pub any_of: Vec<String>,
}

/// Shapes of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorsFile {
    /// `{"error":{code,message,details,request_id}}`
    Standard,
    /// RFC 9457 problem details.
    Problem,
    /// `{data,status,code,message}`
    Envelope,
    /// `{"result":"failed", …}`
    Result,
}

/// How preflights are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CorsFile {
    Ordinary,
    Preflight,
}

/// How upgrades are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UpgradesFile {
    Refused,
    Allowed,
}

/// How `;…` is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MatrixFile {
    /// The request is refused: 400.
    Refused,
    /// Cut from every segment before matching.
    Stripped,
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnswerFile {
    Upstream,
    Stats,
}

/// The versions of the API behind the gate.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiVersionsFile {
    /// The request header that names a version; it also goes upstream. Default: `api-version`.
    pub header: Option<String>,
    /// The version of requests that name none.
    pub default: String,
    /// In the order in which they are listed to clients.
    pub versions: Vec<ApiVersionFile>,
}

/// One version.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiVersionFile {
    /// Its name in the header, for example `2024-01-01`.
    pub name: String,
    /// The path prefix that means this version, whole segments, for example `/api/v1`. Default: none.
    pub path_prefix: Option<String>,
    /// Since when it is deprecated, and when it ends.
    pub deprecated: Option<DeprecatedFile>,
    /// Whether it is answered with 410. Default: `false`.
    pub retired: Option<bool>,
    /// Where it is documented: a URL, told to whoever uses a deprecated or retired version. Default: nowhere.
    pub documentation: Option<String>,
    /// The name of the version that follows it. Default: none.
    pub successor: Option<String>,
}

/// A version that will end.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeprecatedFile {
    /// Since when it is deprecated; goes into `Deprecation`.
    pub since: Instant,
    /// When it ends; goes into `Sunset`. Default: not said.
    pub sunset: Option<Instant>,
}

/// What happens when something that a request needs does not answer.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FailureFile {
    /// When buckets cannot be asked. Default: `local_share`.
    pub limits: Option<LimitsFailureFile>,
}

/// When buckets cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitsFailureFile {
    /// This process's share of the limit holds.
    LocalShare,
    /// Nobody passes: 503.
    Deny,
    /// Everybody passes, without limits.
    Pass,
}

/// In which form a fault leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FaultsFile {
    /// gRPC UNAVAILABLE: Envoy's failure mode applies, and where that refuses, clients see Envoy's own bare 503. For any Envoy.
    RpcError,
    /// The same with our status, headers (`retry-after`) and body. For Envoy 1.37 and newer; older ones refuse in either mode.
    ErrorResponse,
    /// A denial with our 503: Envoy's failure mode never applies. For older Envoys, and where a fault must never open the gate.
    Deny,
}

/// How many failed credentials are borne before the rest is refused unread.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GuardFile {
    /// Failures by client address. Default: 60 a minute, 30 at once.
    pub per_address: Option<GuardLimitFile>,
    /// Failures by the public part of a key. Default: 30 a minute, 15 at once.
    pub per_key_prefix: Option<GuardLimitFile>,
}

/// A bucket of failures.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GuardLimitFile {
    /// Refill of the bucket.
    pub failures_per_minute: Rate,
    /// Depth: how many failures pass at once. Default: one minute's allowance.
    pub burst: Option<Rate>,
}

/// How many headers Envoy takes, with ours.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderLimitsFile {
    /// As in `common_http_protocol_options` of Envoy's listener. Default: 100, as Envoy's.
    pub max_headers_count: Option<Whole<usize, 1, 1024>>,
    /// As in Envoy's listener. Default: 60, as Envoy's.
    pub max_request_headers_kb: Option<Whole<usize, 1, 192>>,
}
