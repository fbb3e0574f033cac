//! Where the process listens and how it runs. All of it needs a restart to change.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use schemars::Schema;
use schemars::SchemaGenerator;
use schemars::json_schema;
use serde::Deserialize;
use serde::Deserializer;
use serde::de::MapAccess;
use serde::de::Visitor;
use serde::de::value::MapAccessDeserializer;

use crate::config::file::redis::RedisFile;
use crate::config::file::scalars::Period;
use crate::config::file::scalars::SecretPlace;
use crate::config::file::scalars::Share;
use crate::config::file::scalars::Whole;

/// The doors.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenFile {
    /// Where Envoy asks (gRPC ext_authz v3). Default: `127.0.0.1:9191`.
    pub check: Option<DoorFile>,
    /// Where the command line speaks to the running process: a unix socket. Default: `control.sock` in the store's folder.
    pub control: Option<DoorFile>,
    /// Where people and programs reach the issuer (HTTP). Default: nowhere, this node issues nothing.
    pub issuer: Option<DoorFile>,
    /// Health (open to all), `/metrics`, `/metrics/usage`, `/stats`, `/jwks` (loopback, mTLS or the token). Default: `127.0.0.1:9464`.
    pub ops: Option<DoorFile>,
}

/// One listener: an address alone, or an address with particulars.
#[derive(Clone, Debug)]
pub struct DoorFile(pub DoorParts);

/// A listener with particulars.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DoorParts {
    /// `127.0.0.1:9191`, `[::1]:9191` or `unix:/run/tollgate/check.sock`.
    pub address: String,
    /// Certificates, for TCP. Default: none, and no TLS.
    pub tls: Option<TlsFile>,
    /// Permissions of a unix socket, octal in quotes. Default: `"0660"` for `check`, `"0600"` for `control`.
    pub mode: Option<String>,
    /// Group that owns a unix socket, by name or number. Default: the process's own.
    pub group: Option<String>,
    /// Only `ops`: who sends it as `Authorization: Bearer` may read the protected pages. Default: none.
    pub token: Option<SecretPlace>,
}

impl<'de> Deserialize<'de> for DoorFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DoorVisitor)
    }
}

struct DoorVisitor;

impl<'de> Visitor<'de> for DoorVisitor {
    type Value = DoorFile;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an address such as `127.0.0.1:9191` or `unix:/run/tollgate/check.sock`, or a mapping with `address`")
    }

    fn visit_str<E>(self, text: &str) -> Result<DoorFile, E> {
        Ok(DoorFile(DoorParts { address: text.to_owned(), ..DoorParts::default() }))
    }

    fn visit_map<A: MapAccess<'de>>(self, mapping: A) -> Result<DoorFile, A::Error> {
        DoorParts::deserialize(MapAccessDeserializer::new(mapping)).map(DoorFile)
    }
}

impl JsonSchema for DoorFile {
    fn schema_name() -> Cow<'static, str> {
        "Door".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let parts = generator.subschema_for::<DoorParts>();
        json_schema!({ "anyOf": [{ "type": "string" }, parts], "description": "An address, or a mapping with `address` and particulars." })
    }
}

/// Certificates of a listener, PEM. They are read again when they change.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsFile {
    /// The certificate chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Authorities whose client certificates are required (mTLS). Default: clients show none.
    pub client_ca: Option<PathBuf>,
}

/// The store of users and keys: one of the two. Default: `embedded`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StoreFile {
    /// One folder on this machine, no server.
    pub embedded: Option<EmbeddedFile>,
    /// Redis or Valkey, shared by any number of sidecars.
    pub redis: Option<RedisFile>,
}

/// The embedded store.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmbeddedFile {
    /// Its folder; without a `store` at all it is `./data`.
    pub path: PathBuf,
}

/// The counts that survive a crash.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LedgerFile {
    /// A folder on a disk, never tmpfs or a network file system. Default: `ledger` in the store's folder.
    pub path: Option<PathBuf>,
    /// How often counts go from the ledger into the history, and with `store.redis` on to Redis, `1s` to `10m`. Default: `10s`, with
    /// `store.redis` `1s`.
    pub flush_interval: Option<Period>,
}

/// Whether Envoy's access log is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccessLogFile {
    Accepted,
    Refused,
}

/// A pepper: the secret that keys the hashes of API keys.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PepperFile {
    /// Its name in every hash that it keyed.
    pub id: String,
    /// At least 32 bytes; a text that begins with `hex:` stands for the bytes behind it.
    pub secret: SecretPlace,
}

/// Starting and stopping.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LifecycleFile {
    /// After SIGTERM: how long checks are still answered while health says NOT_SERVING, `0s` to `10m`. Default: `5s`.
    pub drain_delay: Option<Period>,
    /// After that: how long checks in flight may take before the process ends, `1s` to `10m`. Default: `20s`.
    pub grace: Option<Period>,
    /// How long Envoy's connection may live before it is asked to reconnect, `10s` to `1d`. Default: `30m`.
    pub max_connection_age: Option<Period>,
    /// Threads that judge. Default: as many as there are processors, at most 4.
    pub workers: Option<Whole<usize, 1, 256>>,
}

/// A recording of what Envoy asked, for `tollgate replay` and `tollgate explain --recorded`. No credential, cookie, query value or body
/// stands in it: each is replaced by a keyed digest that is the same for the same text.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordFile {
    /// Where the records go, one JSON line each.
    pub file: PathBuf,
    /// Share of the requests that is recorded. Limits can be replayed only where all are. Default: 1.
    pub sample: Option<Share>,
    /// A file that has grown to this is put aside as `<file>.1`, in place of the one before. Default: 100000000.
    pub max_bytes: Option<Whole<u64, 65_536, { u64::MAX }>>,
}

/// Spans of checks, sent over OTLP (gRPC) to an OpenTelemetry collector.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TracesFile {
    /// The collector: `http://host:port`, or `https://host:port` for TLS. Default: what `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` or
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` says, or `http://localhost:4317`.
    pub endpoint: Option<String>,
    /// Authorities of its certificate, PEM. Default: the system's.
    pub ca: Option<PathBuf>,
    /// Share of the checks that is traced where no parent decides. Default: as `OTEL_TRACES_SAMPLER` says, or 0.01.
    pub sample: Option<Share>,
    /// Whether a `traceparent` decides for its check. Default: as `OTEL_TRACES_SAMPLER` says, or `follow`.
    pub parent: Option<ParentFile>,
    /// How many traces begin in a second at the most, whoever asks for them: clients may too. Default: 100.
    pub max_per_second: Option<Whole<u32, 1, 10_000>>,
}

/// What a `traceparent` decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ParentFile {
    /// A check is traced where its parent is sampled, and not where it is not.
    Follow,
    /// To which trace a check belongs, and nothing else.
    Ignore,
}

/// What the process says.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoggingFile {
    /// The least level that is written. Default: `info`. Needs a restart.
    pub level: Option<LogLevel>,
    /// How a log line looks. Default: `json`. Needs a restart.
    pub format: Option<LogFormat>,
    /// Share of allowed requests that the decision log shows; denials and faults are always shown. Default: 1.
    pub allows: Option<Share>,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// What `/metrics` shows.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MetricsFile {
    /// How many users have a usage series of their own; the rest share one. Default: 1000.
    pub usage_series: Option<Whole<usize, 0, 100_000>>,
}
