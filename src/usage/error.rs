//! What can go wrong with the ledger, in words that say what to do next.

use std::io;
use std::path::Path;
use std::path::PathBuf;

/// Why the ledger cannot be opened, or could not count.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("the ledger folder {path} lies on {file_system}: {advice}")]
    FileSystem { path: PathBuf, file_system: &'static str, advice: &'static str },
    #[error("the ledger {path} is in use by another process (its lock is held): stop that process, or give this one a folder of its own")]
    Locked { path: PathBuf },
    #[error("no space for {bytes} more bytes of the ledger at {path}: free some disk space; counting goes on by itself once there is room")]
    NoSpace { path: PathBuf, bytes: u64 },
    #[error("the ledger has reached its limit of {limit}: raise it, or look for what makes so many counters")]
    Full { limit: String },
    #[error(
        "{path} has ledger format {found}, and this release reads format {known}: run the release that wrote it, or move the folder aside"
    )]
    Version { path: PathBuf, found: u32, known: u32 },
    #[error(
        "{path} is damaged: {why}; restore it, or move the ledger folder aside to begin a new one (the history keeps what was flushed)"
    )]
    Damaged { path: PathBuf, why: String },
    #[error("a name of {bytes} bytes is too long to be counted")]
    NameTooLong { bytes: usize },
    #[error("cannot {action} {path}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("the system gave no random bytes")]
    NoRandom,
}

impl LedgerError {
    /// Sorts a full disk (or quota, or size limit) from every other failure.
    pub(super) fn of(action: &'static str, path: &Path, bytes: u64, source: io::Error) -> Self {
        let path = path.to_path_buf();
        if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge) {
            return Self::NoSpace { path, bytes };
        }
        Self::Io { action, path, source }
    }
}
