//! What needs a restart to change.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

/// Doors, folders, peppers, threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    pub check: Listen,
    /// The socket of the resource API; always a unix socket.
    pub control: Option<Listen>,
    pub ops: OpsListen,
    pub store_path: PathBuf,
    pub ledger_path: PathBuf,
    pub ledger_flush_interval: Duration,
    pub peppers: Peppers,
    pub drain_delay: Duration,
    pub grace: Duration,
    pub max_connection_age: Duration,
    /// None: as many as there are processors.
    pub workers: Option<usize>,
    pub log: Log,
}

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
            ("listen.ops", self.ops != other.ops),
            ("store", self.store_path != other.store_path),
            ("ledger.path", self.ledger_path != other.ledger_path),
            ("ledger.flush_interval", self.ledger_flush_interval != other.ledger_flush_interval),
            ("peppers", self.peppers != other.peppers),
            ("lifecycle.drain_delay", self.drain_delay != other.drain_delay),
            ("lifecycle.grace", self.grace != other.grace),
            ("lifecycle.max_connection_age", self.max_connection_age != other.max_connection_age),
            ("lifecycle.workers", self.workers != other.workers),
            ("logging.level", self.log.level != other.log.level),
            ("logging.format", self.log.format != other.log.format),
        ];
        pairs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }
}
