//! Folders for what a test writes: on a disk, under `target/tmp`, because the ledger refuses a memory file system.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use tempfile::TempDir;

/// A folder that goes with its owner. It is kept, and its path printed, when the test fails.
#[derive(Debug)]
pub struct Folder(Option<TempDir>);

impl Folder {
    pub fn new() -> Self {
        let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
        std::fs::create_dir_all(parent).expect("target/tmp can be made");
        Self(Some(tempfile::Builder::new().prefix("it").rand_bytes(8).tempdir_in(parent).expect("a folder in target/tmp")))
    }

    pub fn path(&self) -> &Path {
        self.0.as_ref().expect("there until dropped").path()
    }

    /// The same path seen from the working directory, where that is shorter: socket names have room for 107 bytes.
    pub fn short_path(&self) -> PathBuf {
        let here = std::env::current_dir().expect("a working directory");
        self.path().strip_prefix(&here).map_or_else(|_| self.path().to_path_buf(), Path::to_path_buf)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).expect("a folder inside the test's folder");
        }
        std::fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    /// A file that nobody else may read.
    pub fn write_secret(&self, name: &str, text: &str) {
        let path = self.write(name, text);
        std::fs::set_permissions(path, Permissions::from_mode(0o600)).expect("own file");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let (true, Some(folder)) = (std::thread::panicking(), self.0.take()) {
            eprintln!("left for you to look at: {}", folder.keep().display());
        }
    }
}
