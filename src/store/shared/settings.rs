//! Where the server is and how long it may take. Plain data: the config fills it, the link reads it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How the servers are arranged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    Standalone,
    /// The servers named are Sentinels; they know the primary of this name.
    Sentinel {
        master_name: String,
    },
    Cluster,
}

/// One server's place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Server {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl fmt::Display for Server {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(out, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(out, "{host}:{port}"),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

/// A password, asked for again at each connection: it may have been rotated since.
pub type PasswordSource = Arc<dyn Fn() -> Result<Option<Vec<u8>>, String> + Send + Sync>;

/// Who we are to the server.
#[derive(Clone)]
pub struct Login {
    pub username: Option<String>,
    pub password: PasswordSource,
}

impl fmt::Debug for Login {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Login({:?})", self.username)
    }
}

/// Certificates by path; read again at each connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Authorities of the server's certificate; none: the system's.
    pub authorities: Option<PathBuf>,
    /// Our own certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// How long we wait for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP, TLS and the greeting together.
    pub connect: Duration,
    /// Everything that one check asks about its caller, together; and then as long again for its limits.
    pub check: Duration,
    /// One call that no request waits for.
    pub background: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(1), check: Duration::from_millis(50), background: Duration::from_millis(250) }
    }
}

/// The shared store, as the config describes it.
#[derive(Clone, Debug)]
pub struct Settings {
    pub mode: Mode,
    /// The server, or the first ones of several to ask.
    pub servers: Vec<Server>,
    pub database: i64,
    pub login: Login,
    /// For the Sentinels themselves.
    pub sentinel_login: Login,
    pub tls: Option<TlsFiles>,
    /// Before every key's name.
    pub prefix: String,
    pub timeouts: Timeouts,
    /// How many replicas must have a revocation before it is acknowledged without reserve.
    pub replicas: u8,
}

impl Settings {
    /// One server without a password, everything else as usual.
    pub fn standalone(server: Server) -> Self {
        let nobody = Login { username: None, password: Arc::new(|| Ok(None)) };
        Self {
            mode: Mode::Standalone,
            servers: vec![server],
            database: 0,
            login: nobody.clone(),
            sentinel_login: nobody,
            tls: None,
            prefix: "tollgate".to_owned(),
            timeouts: Timeouts::default(),
            replicas: 0,
        }
    }
}
