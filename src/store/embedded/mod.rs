//! The engine without a server: one redb file in one folder, one process.
//!
//! Everything that a check may ask for lies decoded in memory, so a check never touches the file. One thread writes; a commit
//! is durable before memory shows it, and memory shows it before it is acknowledged, so a revocation holds from the next
//! request on.

mod file;
mod image;
mod writer;

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::mpsc;
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::model::client::ClientRecord;
use crate::model::grant::GrantRecord;
use crate::model::key::KeyRecord;
use crate::model::time::Timestamp;
use crate::model::user::UserRecord;
use crate::store::Answer;
use crate::store::Committed;
use crate::store::Facts;
use crate::store::Family;
use crate::store::Page;
use crate::store::Precondition;
use crate::store::RecordKey;
use crate::store::Records;
use crate::store::StoreError;
use crate::store::Stored;
use crate::store::Write;
use crate::store::embedded::writer::Request;
use crate::store::embedded::writer::Shelf;

/// Commits that may wait for the writer; more of them wait outside.
const WAITING_COMMITS: usize = 256;

/// The embedded store. Dropping it ends the writer after its last commit and frees the folder.
#[derive(Debug)]
pub struct Embedded {
    shelf: Arc<Shelf>,
    commits: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
}

/// Why a store cannot be opened. None of these is ever answered with an empty store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the store {folder} is in use by {owner}; stop it first")]
    InUse { folder: PathBuf, owner: String },
    #[error("the store file {path} is damaged ({why}); put it aside and restore a backup")]
    Damaged { path: PathBuf, why: String },
    #[error("the store file {path} has format {found}; this version reads up to {known}, so a newer version must open it")]
    Newer { path: PathBuf, found: u64, known: u64 },
    #[error("the store file {path}: {why}")]
    Unreadable { path: PathBuf, why: String },
}

impl Embedded {
    /// Opens the store in this folder, making both where there is none. Reads every record, so it takes its time: not for the
    /// request path.
    ///
    /// # Errors
    /// [`OpenError`] says what is wrong and what to do.
    pub fn open(folder: &Path, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let source = file::Source::claim(folder)?;
        Self::over(source, clock)
    }

    fn over(source: file::Source, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let shelf = Arc::new(Shelf::open(source, clock)?);
        let (commits, waiting) = mpsc::channel(WAITING_COMMITS);
        let writing = Arc::clone(&shelf);
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer::run(&writing, waiting))
            .map_err(|error| OpenError::Unreadable { path: shelf.path().to_owned(), why: error.to_string() })?;
        Ok(Self { shelf, commits: Some(commits), writer: Some(writer) })
    }

    /// How many key and user records are held, and how many records cannot be read.
    pub fn counts(&self) -> Counts {
        self.shelf.image().counts()
    }

    /// The places (`family/id`) of at most so many records that cannot be read.
    pub fn corrupt_places(&self, most: usize) -> Vec<String> {
        self.shelf.image().corrupt_places(most)
    }

    /// How many keys are in which of the model's states. Looks at every key: not for the request path.
    pub fn key_states(&self, now: Timestamp) -> BTreeMap<&'static str, u64> {
        self.shelf.image().key_states(now)
    }
}

/// What the store holds, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub keys: usize,
    pub users: usize,
    pub corrupt: usize,
}

impl Drop for Embedded {
    fn drop(&mut self) {
        drop(self.commits.take());
        if let Some(writer) = self.writer.take() {
            let _ended = writer.join();
        }
    }
}

impl Facts for Embedded {
    fn key(&self, id: &str) -> Answer<'_, Result<Option<Arc<KeyRecord>>, StoreError>> {
        Answer::ready(self.shelf.image().key(id, self.shelf.clock()))
    }

    fn key_by_digest(&self, digest: &[u8; 32]) -> Answer<'_, Result<Option<Arc<KeyRecord>>, StoreError>> {
        Answer::ready(self.shelf.image().key_by_digest(digest, self.shelf.clock()))
    }

    fn user(&self, source: &str, subject: &str) -> Answer<'_, Result<Option<Arc<UserRecord>>, StoreError>> {
        Answer::ready(self.shelf.image().user(source, subject, self.shelf.clock()))
    }

    fn grant(&self, id: &str) -> Answer<'_, Result<Option<Arc<GrantRecord>>, StoreError>> {
        Answer::ready(self.shelf.image().grant(id, self.shelf.clock()))
    }

    fn client(&self, id: &str) -> Answer<'_, Result<Option<Arc<ClientRecord>>, StoreError>> {
        Answer::ready(self.shelf.image().client(id, self.shelf.clock()))
    }
}

impl Records for Embedded {
    fn get(&self, key: &RecordKey) -> Answer<'_, Result<Option<Stored>, StoreError>> {
        let shelf = Arc::clone(&self.shelf);
        let key = key.clone();
        off_the_async_path(move || shelf.get(&key))
    }

    fn range(&self, family: Family, after: Option<&str>, limit: usize) -> Answer<'_, Result<Page, StoreError>> {
        let shelf = Arc::clone(&self.shelf);
        let after = after.map(str::to_owned);
        off_the_async_path(move || shelf.range(family, after.as_deref(), limit))
    }

    fn commit(&self, preconditions: Vec<Precondition>, writes: Vec<Write>, now: Timestamp) -> Answer<'_, Result<Committed, StoreError>> {
        let commits = self.commits.clone();
        Answer::Pending(Box::pin(async move {
            let gone = || StoreError::Unavailable("the store is closed".to_owned());
            let (answer, answered) = oneshot::channel();
            commits.ok_or_else(gone)?.send(Request { preconditions, writes, now, answer }).await.map_err(|_closed| gone())?;
            answered.await.map_err(|_closed| gone())?
        }))
    }
}

fn off_the_async_path<'a, T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Answer<'a, Result<T, StoreError>> {
    Answer::Pending(Box::pin(async move {
        match tokio::task::spawn_blocking(work).await {
            Ok(outcome) => outcome,
            Err(_ended) => Err(StoreError::Unavailable("a read of the store ended early".to_owned())),
        }
    }))
}

#[cfg(test)]
mod tests;
