//! What needs a restart to change.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::config::outside;

/// Doors, folders, peppers, threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    pub check: Listen,
    /// The socket of the resource API; always a unix socket.
    pub control: Option<Listen>,
    /// Where people and programs reach the issuer; none: this node issues nothing.
    pub issuer: Option<Listen>,
    pub ops: OpsListen,
    /// The folder on this machine: the embedded store, or what a sidecar of a shared one keeps for itself.
    pub store_path: PathBuf,
    /// None: the store is embedded.
    pub redis: Option<RedisBoot>,
    pub ledger_path: PathBuf,
    pub ledger_flush_interval: Duration,
    pub access_log: AccessLog,
    pub peppers: Peppers,
    pub drain_delay: Duration,
    pub grace: Duration,
    pub max_connection_age: Duration,
    /// None: as many as there are processors, at most 4.
    pub workers: Option<usize>,
    pub log: Log,
    /// None: nothing is recorded.
    pub record: Option<Record>,
    /// None: nothing is traced.
    pub traces: Option<Traces>,
}

/// Whether Envoy's access log is taken on the check listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    Accepted,
    Refused,
}

/// Requests and their verdicts, written down for replay.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub file: PathBuf,
    /// 0.0 to 1.0.
    pub share: f64,
    /// A file of this size is put aside.
    pub bytes_max: u64,
}

// A share is read from a file, and compiling refuses what is no number.
impl Eq for Record {}

/// Where spans go, and of which checks.
#[derive(Clone, Debug, PartialEq)]
pub struct Traces {
    /// `http://host:port` or `https://host:port`.
    pub endpoint: String,
    /// PEM; none: the system's.
    pub authorities: Option<Vec<u8>>,
    /// 0.0 to 1.0.
    pub share: f64,
    /// A parent's sampled flag decides for its checks.
    pub follows_parents: bool,
    /// At least 1.
    pub per_second_max: u32,
}

// As for records.
impl Eq for Traces {}

/// Where a door stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    Tcp { addr: SocketAddr, tls: Option<Tls> },
    Unix { path: PathBuf, mode: u32, group: Option<String> },
}

/// The ops listener: TCP, with what its protected pages ask for beyond loopback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpsListen {
    pub addr: SocketAddr,
    pub tls: Option<Tls>,
    pub token: Option<Secret>,
}

/// Certificates by path, so that whoever serves them can read them again when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Set: clients must show a certificate of one of these authorities.
    pub client_ca: Option<PathBuf>,
}

/// Bytes that are shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<Zeroizing<Vec<u8>>>);

impl Secret {
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(Arc::new(bytes))
    }

    /// The plain bytes, for whoever compares or keys with them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret")
    }
}

/// What keys the hashes of API keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peppers {
    /// The config names none: the app makes one in the store's folder at first start and reads it ever after.
    Generated,
    /// The current one first; at least one.
    Given(Vec<PepperSecret>),
}

/// A pepper as the config gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PepperSecret {
    pub id: Arc<str>,
    /// At least 32 bytes.
    pub secret: Secret,
}

/// The store that sidecars share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisBoot {
    pub mode: RedisMode,
    /// At least one.
    pub servers: Vec<RedisServer>,
    pub database: u16,
    pub login: RedisLogin,
    /// For the Sentinels themselves.
    pub sentinel_login: RedisLogin,
    pub tls: Option<RedisTls>,
    pub prefix: Arc<str>,
    pub timeouts: RedisTimeouts,
    /// How many replicas must have a change before it is acknowledged without reserve.
    pub replicas: u8,
}

/// How the servers are arranged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisMode {
    Standalone,
    /// The servers named are Sentinels.
    Sentinel {
        master_name: Arc<str>,
    },
    Cluster,
}

impl fmt::Display for RedisMode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standalone => out.write_str("standalone"),
            Self::Sentinel { master_name } => write!(out, "sentinel, primary {master_name}"),
            Self::Cluster => out.write_str("cluster"),
        }
    }
}

/// One server's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisServer {
    /// An IPv6 address stands without its brackets.
    Tcp {
        host: Arc<str>,
        port: u16,
    },
    Unix(PathBuf),
}

impl fmt::Display for RedisServer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(out, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(out, "{host}:{port}"),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

/// Who we are to a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisLogin {
    pub username: Option<Arc<str>>,
    pub password: Option<SecretSource>,
}

/// A secret that may be asked for again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// Read anew each time, so that it may be rotated while we run.
    File(PathBuf),
    Fixed(Secret),
}

impl SecretSource {
    /// The secret as it is now.
    ///
    /// # Errors
    /// What is the matter with the file; never its content.
    pub fn read(&self) -> Result<Zeroizing<Vec<u8>>, String> {
        match self {
            Self::File(path) => outside::read_secret(path).map_err(|trouble| format!("{}: {trouble}", path.display())),
            Self::Fixed(secret) => Ok(Zeroizing::new(secret.expose().to_vec())),
        }
    }
}

/// Certificates for the way to Redis, by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisTls {
    /// None: the system's authorities.
    pub authorities: Option<PathBuf>,
    /// Our own certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// How long Redis may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedisTimeouts {
    pub connect: Duration,
    pub check: Duration,
    pub background: Duration,
}

impl RedisBoot {
    fn differences(&self, other: &Self) -> impl Iterator<Item = &'static str> {
        let pairs = [
            ("store.redis.url", self.servers != other.servers || self.database != other.database),
            ("store.redis.mode", self.mode != other.mode),
            ("store.redis.password", self.login != other.login),
            ("store.redis.sentinel_password", self.sentinel_login != other.sentinel_login),
            ("store.redis.tls", self.tls != other.tls),
            ("store.redis.prefix", self.prefix != other.prefix),
            ("store.redis.timeouts", self.timeouts != other.timeouts),
            ("store.redis.replicas", self.replicas != other.replicas),
        ];
        pairs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name)
    }
}

/// How the process logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    pub level: LogLevel,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Text,
}

impl Boot {
    /// The settings in which the two differ, by their names in the file: what a restart would change.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let pairs = [
            ("listen.check", self.check != other.check),
            ("listen.control", self.control != other.control),
            ("listen.issuer", self.issuer != other.issuer),
            ("listen.ops", self.ops != other.ops),
            ("store", self.store_path != other.store_path || self.redis.is_some() != other.redis.is_some()),
            ("ledger.path", self.ledger_path != other.ledger_path),
            ("ledger.flush_interval", self.ledger_flush_interval != other.ledger_flush_interval),
            ("access_log", self.access_log != other.access_log),
            ("peppers", self.peppers != other.peppers),
            ("lifecycle.drain_delay", self.drain_delay != other.drain_delay),
            ("lifecycle.grace", self.grace != other.grace),
            ("lifecycle.max_connection_age", self.max_connection_age != other.max_connection_age),
            ("lifecycle.workers", self.workers != other.workers),
            ("logging.level", self.log.level != other.log.level),
            ("logging.format", self.log.format != other.log.format),
            ("record", self.record != other.record),
            ("traces", self.traces != other.traces),
        ];
        let names = pairs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name);
        match (&self.redis, &other.redis) {
            (Some(one), Some(other)) => names.chain(one.differences(other)).collect(),
            (Some(_), None) | (None, Some(_)) | (None, None) => names.collect(),
        }
    }
}
