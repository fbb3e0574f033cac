//! The control socket: a file that its owner alone may use, in a folder that its owner alone may enter.

use std::fs;
use std::future::Future;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use axum::Router;
use tokio::net::UnixListener;
use tokio::net::UnixStream;

/// Why the control socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("another process answers on the control socket {0}; stop it, or give this one another `listen.control`")]
    Answered(PathBuf),
    #[error("{0} is there and is no socket; move it, or give `listen.control` another path")]
    NotASocket(PathBuf),
    #[error("the control socket {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

/// A bound control socket, ready to be served.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl Control {
    /// Binds the socket, mode 0600; its folder is made, mode 0700, where there is none. A socket that nobody answers on is a dead
    /// process's and is replaced.
    ///
    /// # Errors
    /// [`ControlError`] says what is in the way.
    pub async fn bind(path: &Path) -> Result<Self, ControlError> {
        let failed = |source| ControlError::Io { path: path.to_owned(), source };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => return Err(ControlError::NotASocket(path.to_owned())),
            Ok(_) if UnixStream::connect(path).await.is_ok() => return Err(ControlError::Answered(path.to_owned())),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        // Bound in a folder that nobody else can enter, so that the socket has its mode before anybody can reach it.
        let draft_folder = folder.join(format!(".control.{}", std::process::id()));
        let _leftover = fs::remove_dir_all(&draft_folder);
        fs::DirBuilder::new().mode(0o700).create(&draft_folder).map_err(failed)?;
        let bound = bind_and_move(&draft_folder.join("s"), path);
        let _gone = fs::remove_dir_all(&draft_folder);
        let (listener, inode) = bound.map_err(failed)?;
        Ok(Self { listener, path: path.to_owned(), inode })
    }

    /// Serves until `shutdown` is ready and the requests under way are answered, then removes the socket.
    ///
    /// # Errors
    /// When accepting fails for good.
    pub async fn serve(self, router: Router, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<(), ControlError> {
        let served = axum::serve(self.listener, router).with_graceful_shutdown(shutdown).await;
        // Only our own: a successor may have put its socket there already.
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _gone = fs::remove_file(&self.path);
        }
        served.map_err(|source| ControlError::Io { path: self.path, source })
    }
}

/// Binds and serves in one go.
///
/// # Errors
/// Those of [`Control::bind`] and [`Control::serve`].
pub async fn serve_control(path: &Path, router: Router, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<(), ControlError> {
    Control::bind(path).await?.serve(router, shutdown).await
}

fn bind_and_move(draft: &Path, path: &Path) -> io::Result<(UnixListener, u64)> {
    let listener = UnixListener::bind(draft)?;
    fs::set_permissions(draft, fs::Permissions::from_mode(0o600))?;
    let inode = fs::symlink_metadata(draft)?.ino();
    fs::rename(draft, path)?;
    Ok((listener, inode))
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn the_socket_is_its_owners_alone_and_goes_at_the_end() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("run/control.sock");
        let control = Control::bind(&path).await.unwrap();
        assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o700, 0o600));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left");
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(control.serve(Router::new(), async move {
            let _any = stopped.await;
        }));
        assert!(matches!(Control::bind(&path).await.unwrap_err(), ControlError::Answered(_)));
        stop.send(()).unwrap();
        serving.await.unwrap().unwrap();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_file_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let control = Control::bind(&path).await.unwrap();
        assert!(UnixStream::connect(&path).await.is_ok());
        drop(control);
        let file = folder.path().join("file");
        fs::write(&file, b"mine").unwrap();
        assert!(matches!(Control::bind(&file).await.unwrap_err(), ControlError::NotASocket(_)));
        assert_eq!(fs::read(&file).unwrap(), b"mine");
    }
}
