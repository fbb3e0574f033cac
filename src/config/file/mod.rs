//! The file as people write it. Unknown keys are refused everywhere, absent ones are `None` (the defaults are `compile`'s), and the
//! doc comments here are the descriptions in the JSON Schema.
//!
//! Nothing outside `config` may name these types.

pub mod identity;
pub mod issuance;
pub mod listen;
pub mod redis;
pub mod route;
pub mod scalars;

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::file::identity::AssertionFile;
use crate::config::file::identity::ImportedKeysFile;
use crate::config::file::identity::IssuerFile;
use crate::config::file::identity::MeshFile;
use crate::config::file::identity::PlaceFile;
use crate::config::file::identity::TierFile;
use crate::config::file::identity::UserIdsFile;
use crate::config::file::issuance::IssuanceFile;
use crate::config::file::listen::AccessLogFile;
use crate::config::file::listen::LedgerFile;
use crate::config::file::listen::LifecycleFile;
use crate::config::file::listen::ListenFile;
use crate::config::file::listen::LoggingFile;
use crate::config::file::listen::MetricsFile;
use crate::config::file::listen::PepperFile;
use crate::config::file::listen::RecordFile;
use crate::config::file::listen::StoreFile;
use crate::config::file::listen::TracesFile;
use crate::config::file::route::ApiVersionsFile;
use crate::config::file::route::ErrorsFile;
use crate::config::file::route::FailureFile;
use crate::config::file::route::FaultsFile;
use crate::config::file::route::GuardFile;
use crate::config::file::route::HeaderLimitsFile;
use crate::config::file::route::RouteFile;
use crate::config::file::scalars::Whole;

/// Tollgate's configuration: one YAML file. Relative paths are relative to its folder.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Tollgate configuration")]
pub struct ConfigFile {
    /// Where the process listens. Needs a restart.
    #[serde(default)]
    pub listen: ListenFile,
    /// Where users and keys are kept. Needs a restart.
    #[serde(default)]
    pub store: StoreFile,
    /// Where usage is counted. Needs a restart.
    #[serde(default)]
    pub ledger: LedgerFile,
    /// A YAML list of hashed keys as code, read-only; read again when it changes. Default: none.
    pub keys_file: Option<PathBuf>,
    /// What API keys of this installation start with: 1 to 16 of `a-z 0-9`. Default: `tollgate`.
    pub key_brand: Option<String>,
    /// Whether keys of other systems open anything. Default: `refused`.
    pub imported_keys: Option<ImportedKeysFile>,
    /// Secrets that key the hashes of API keys, the current one first. Needs a restart. Default: one is made in the store's folder;
    /// with `store.redis` they must be given, because all sidecars share them.
    pub peppers: Option<Vec<PepperFile>>,
    /// Where credentials may stand, in order. Default: `Authorization: Bearer`, `x-api-key`, `x-authorization: Agent`.
    pub credentials: Option<Vec<PlaceFile>>,
    /// Accounts, keys and tokens of our own. Default: none are issued.
    pub issuer: Option<IssuanceFile>,
    /// Whose JWTs are trusted.
    #[serde(default)]
    pub issuers: Vec<IssuerFile>,
    /// Callers that Envoy knows by their mTLS certificates.
    pub mesh: Option<MeshFile>,
    /// How user ids are shown.
    #[serde(default)]
    pub user_ids: UserIdsFile,
    /// When given: every scope there is. A scope elsewhere that none of these covers is then a mistake. Default: any.
    pub scopes: Option<Vec<String>>,
    /// Named sets of limits.
    #[serde(default)]
    pub tiers: BTreeMap<String, TierFile>,
    /// The tier of callers that name none. Default: none, and no tier limits for them.
    pub default_tier: Option<String>,
    /// Header names and templates of what `{user}`, `{subject}`, `{source}`, `{issuer}`, `{org}`, `{key}`, `{client}`, `{scopes}`, `{tier}`
    /// and `{environment}` are. Default: `user`, `x-user-id`, `x-org-id`, `x-key-id`, `x-scopes`, `x-tier`.
    pub identity_headers: Option<BTreeMap<String, String>>,
    /// A signed statement about the caller for upstream services. Default: none.
    pub upstream_assertion: Option<AssertionFile>,
    /// The versions of the API behind the gate. Default: unversioned.
    pub api_versions: Option<ApiVersionsFile>,
    /// In which shape refusals are written. Default: `standard`.
    pub errors: Option<ErrorsFile>,
    /// What happens when a dependency does not answer.
    #[serde(default)]
    pub failure: FailureFile,
    /// In which form a fault leaves. Default: `rpc_error`.
    pub faults: Option<FaultsFile>,
    /// Limits on failed credentials.
    #[serde(default)]
    pub guard: GuardFile,
    /// Envoy's bounds on a request's headers, where they are not its defaults. What goes beyond them with our headers added is 431; headers
    /// that Envoy does not show us (`allowed_headers`) are not counted.
    #[serde(default)]
    pub header_limits: HeaderLimitsFile,
    /// How many proxies before this Envoy are believed about `x-forwarded-for`. Default: 0, the peer is the client.
    pub trusted_hops: Option<Whole<u8, 0, 255>>,
    /// A trial: everything is judged, logged and counted, and nobody is refused, faults included. Default: `false`.
    pub dry_run: Option<bool>,
    /// What the process says.
    #[serde(default)]
    pub logging: LoggingFile,
    /// Requests and their verdicts, written down for replay. Default: nothing is recorded. Needs a restart.
    pub record: Option<RecordFile>,
    /// Spans of checks, for an OpenTelemetry collector. Default: nothing is traced, whatever the environment says. Needs a restart.
    pub traces: Option<TracesFile>,
    /// What `/metrics` shows.
    #[serde(default)]
    pub metrics: MetricsFile,
    /// Whether Envoy's access log (gRPC) is taken on `listen.check`: answers are then counted by user, route and class of status. Needs a
    /// restart. Default: `refused`.
    pub access_log: Option<AccessLogFile>,
    /// Starting and stopping. Needs a restart.
    #[serde(default)]
    pub lifecycle: LifecycleFile,
    /// The route table: the most specific match wins, then the order here. No match is 404.
    pub routes: Vec<RouteFile>,
}
