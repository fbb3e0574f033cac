//! Where a listener stands, and what may be done with a socket file that is already there.

use std::fmt;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;

use tokio::net::TcpListener;
use tokio::net::UnixListener;

use crate::listen::Io;

/// The kernel's bound on the path of a Unix socket, its closing NUL included.
const SOCKET_PATH_MAX: usize = 108;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Tcp(SocketAddr),
    Unix {
        path: PathBuf,
        /// Permission bits of the socket file.
        mode: u32,
        /// Name or number of the group that the socket file is given to.
        group: Option<String>,
    },
}

/// Where a listener can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(out),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

/// Why nobody can listen there.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("cannot listen on {address}: {source}; choose another address, or stop what holds it")]
    Tcp { address: SocketAddr, source: std::io::Error },
    #[error("cannot listen on unix:{}: {source}", path.display())]
    Unix { path: PathBuf, source: std::io::Error },
    #[error("the socket path {} has more than 107 bytes; choose a shorter one", path.display())]
    TooLong { path: PathBuf },
    #[error("{} is there and is no socket; it is left alone: move it, or choose another path", path.display())]
    NotASocket { path: PathBuf },
    #[error("another process answers on unix:{}; stop it first, or choose another path", path.display())]
    Taken { path: PathBuf },
    #[error("there is no group {group:?} to give the socket to; use a group of /etc/group, or its number")]
    NoSuchGroup { group: String },
}

/// A bound socket.
#[derive(Debug)]
pub struct Listener {
    name: &'static str,
    address: Address,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// The file of a Unix socket of ours, known by its inode.
#[derive(Clone, Debug)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Listener {
    /// Binds. `name` is the listener's label in metrics and the log.
    ///
    /// # Errors
    /// [`BindError`], with what to do about it.
    pub async fn bind(endpoint: &Endpoint, name: &'static str) -> Result<Self, BindError> {
        match endpoint {
            Endpoint::Tcp(address) => {
                let unusable = |source| BindError::Tcp { address: *address, source };
                let listener = TcpListener::bind(*address).await.map_err(unusable)?;
                let address = Address::Tcp(listener.local_addr().map_err(unusable)?);
                Ok(Self { name, address, socket: Socket::Tcp(listener) })
            }
            Endpoint::Unix { path, mode, group } => {
                let (listener, file) = bind_unix(path, *mode, group.as_deref()).await?;
                Ok(Self { name, address: Address::Unix(path.clone()), socket: Socket::Unix(listener, file) })
            }
        }
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The file to remove at the end.
    pub fn socket_file(&self) -> Option<SocketFile> {
        match &self.socket {
            Socket::Tcp(_) => None,
            Socket::Unix(_, file) => Some(file.clone()),
        }
    }

    /// # Errors
    /// What the system said.
    pub async fn accept(&self) -> std::io::Result<(Box<dyn Io>, Option<SocketAddr>)> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // With Nagle's algorithm small answers wait for the peer's delayed acknowledgement.
                stream.set_nodelay(true)?;
                Ok((Box::new(stream), Some(peer)))
            }
            Socket::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok((Box::new(stream), None))
            }
        }
    }
}

impl SocketFile {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether whoever comes by the path still comes to us.
    pub fn is_in_place(&self) -> bool {
        std::fs::symlink_metadata(&self.path).is_ok_and(|found| found.dev() == self.device && found.ino() == self.inode)
    }

    /// Removes the file, unless another process has put its own in the place.
    pub fn remove(&self) {
        if self.is_in_place()
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "the socket file cannot be removed");
        }
    }
}

/// Binds under a passing name, sets owner and mode there, and moves the socket into place: nobody sees it with wrong permissions.
async fn bind_unix(path: &Path, mode: u32, group: Option<&str>) -> Result<(UnixListener, SocketFile), BindError> {
    let unusable = |source| BindError::Unix { path: path.to_owned(), source };
    let mut passing = path.as_os_str().to_owned();
    passing.push(".new");
    let passing = PathBuf::from(passing);
    if passing.as_os_str().len() >= SOCKET_PATH_MAX {
        return Err(BindError::TooLong { path: path.to_owned() });
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        // Envoy, which may be another user, must be able to enter it; the socket's own mode says who may ask.
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(unusable)?;
    }
    make_room(path).await?;
    make_room(&passing).await?;
    let listener = UnixListener::bind(&passing).map_err(unusable)?;
    let settled = settle(&passing, path, mode, group);
    if settled.is_err() {
        let _ = std::fs::remove_file(&passing);
    }
    settled?;
    let found = std::fs::symlink_metadata(path).map_err(unusable)?;
    Ok((listener, SocketFile { path: path.to_owned(), device: found.dev(), inode: found.ino() }))
}

fn settle(passing: &Path, path: &Path, mode: u32, group: Option<&str>) -> Result<(), BindError> {
    let unusable = |source| BindError::Unix { path: path.to_owned(), source };
    if let Some(group) = group {
        std::os::unix::fs::chown(passing, None, Some(group_id(group)?)).map_err(unusable)?;
    }
    std::fs::set_permissions(passing, std::fs::Permissions::from_mode(mode)).map_err(unusable)?;
    std::fs::rename(passing, path).map_err(unusable)
}

/// A socket that nobody answers on was left by a process that died; anything else is not ours to remove.
async fn make_room(path: &Path) -> Result<(), BindError> {
    let unusable = |source| BindError::Unix { path: path.to_owned(), source };
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unusable(error)),
    };
    if !found.file_type().is_socket() {
        return Err(BindError::NotASocket { path: path.to_owned() });
    }
    match tokio::net::UnixStream::connect(path).await {
        Ok(_) => Err(BindError::Taken { path: path.to_owned() }),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => std::fs::remove_file(path).map_err(unusable),
        Err(error) => Err(unusable(error)),
    }
}

fn group_id(group: &str) -> Result<u32, BindError> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let of_line = |line: &str| {
        let mut fields = line.split(':');
        (fields.next() == Some(group)).then(|| fields.nth(1)?.parse().ok()).flatten()
    };
    groups.lines().find_map(of_line).ok_or_else(|| BindError::NoSuchGroup { group: group.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket_at(path: &Path) -> Endpoint {
        Endpoint::Unix { path: path.to_owned(), mode: 0o660, group: None }
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/check.sock");
        drop(Listener::bind(&socket_at(&path), "check").await.expect("a missing folder is made"));
        assert!(path.exists(), "a listener that was merely dropped leaves its file, as a killed process does");
        let first = Listener::bind(&socket_at(&path), "check").await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert!(matches!(Listener::bind(&socket_at(&path), "check").await, Err(BindError::Taken { .. })));
        assert!(tokio::net::UnixStream::connect(&path).await.is_ok(), "the first listener lost its socket");
        drop(first);
        assert!(Listener::bind(&socket_at(&path), "check").await.is_ok());
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        std::fs::write(&path, "data").unwrap();
        assert!(matches!(Listener::bind(&socket_at(&path), "check").await, Err(BindError::NotASocket { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "data");
    }

    #[tokio::test]
    async fn a_socket_of_another_process_survives_our_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("check.sock");
        let ours = Listener::bind(&socket_at(&path), "check").await.unwrap().socket_file().unwrap();
        // Held open, so that the inode's number cannot be given out again.
        let _held = std::fs::hard_link(&path, folder.path().join("held"));
        std::fs::remove_file(&path).unwrap();
        let _theirs = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(!ours.is_in_place());
        ours.remove();
        assert!(path.exists());
    }

    #[tokio::test]
    async fn paths_too_long_and_unknown_groups_are_refused_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let long = folder.path().join("x".repeat(120));
        assert!(matches!(Listener::bind(&socket_at(&long), "check").await, Err(BindError::TooLong { .. })));
        let path = folder.path().join("check.sock");
        let endpoint = Endpoint::Unix { path: path.clone(), mode: 0o600, group: Some(String::from("no such group")) };
        assert!(matches!(Listener::bind(&endpoint, "check").await, Err(BindError::NoSuchGroup { .. })));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "something was left behind");
    }
}
