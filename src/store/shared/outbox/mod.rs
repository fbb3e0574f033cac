//! The mutations of this node's last 24 hours, on its own disk, so that what Redis lost can be done again.
//!
//! A mutation is put here after Redis took it and before anybody is told that it is done. What became of it later is noted too: a
//! change that somebody made on top of it must never be undone by repeating it.
//!
//! - `plan`: what has to be repeated, as a pure function of what lies where.
//! - `heal`: asking Redis, and doing what the plan says.

mod heal;
mod plan;

use std::collections::HashMap;
use std::collections::HashSet;
use std::fmt;
use std::fs::OpenOptions;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use redb::Database;
use redb::ReadableDatabase;
use redb::ReadableTable;
use redb::TableDefinition;

use crate::model::time::Timestamp;
use crate::store::Family;
use crate::store::RecordKey;
use crate::store::Write;
use crate::store::shared::commit::Versioned;
use crate::store::shared::entry::Change;
use crate::store::shared::entry::Mark;
use crate::store::shared::follower::Seen;
use crate::store::shared::places::place_text;
use crate::store::shared::places::read_place;

/// What the file is called inside its folder.
pub const OUTBOX_FILE_NAME: &str = "outbox.redb";

/// How long a mutation can still be repeated.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Mutations that are kept at the most; the oldest go first.
const MUTATIONS_MAX: usize = 50_000;
const FORMAT: u64 = 1;
/// A version that is none: nothing lay there.
const NONE: u64 = u64::MAX;

type Row = (u64, &'static str, u64, u64, &'static str, u64, u64, &'static [u8]);

/// Order -> when, place, replaced version, version, mark, expiry (0: none), head of the log, bytes.
const MUTATIONS: TableDefinition<'_, u64, Row> = TableDefinition::new("mutations");
/// Order -> the version that somebody put in its place.
const FOLLOWED: TableDefinition<'_, u64, u64> = TableDefinition::new("followed");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// The one line of it says where we stood in which store's log.
const SEEN: TableDefinition<'_, &str, &str> = TableDefinition::new("seen");
const META_FORMAT: &str = "format";
const SEEN_LINE: &str = "log";

/// Why the outbox cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    #[error("the outbox {path} is in use by another process: stop that process, or give this one a folder of its own")]
    InUse { path: PathBuf },
    #[error("the outbox {path} has format {found}, and this release reads format {FORMAT}: run the release that wrote it")]
    Newer { path: PathBuf, found: u64 },
    #[error("the outbox {path} cannot be used ({why}); free some disk space, or move the file aside to begin a new one")]
    Failed { path: PathBuf, why: String },
}

/// One write of a commit of ours, as it was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mutation {
    pub at: Timestamp,
    pub key: RecordKey,
    pub replaced: Option<u64>,
    /// None: it was removed.
    pub version: Option<u64>,
    pub mark: Mark,
    pub expires: Option<Timestamp>,
    /// The log's head after it.
    pub head: u64,
    pub bytes: Vec<u8>,
}

impl Mutation {
    pub(super) fn new(write: &Versioned, change: &Change, head: u64, at: Timestamp) -> Self {
        let (bytes, expires) = match &write.write {
            Write::Put { bytes, expires, .. } => (bytes.clone(), *expires),
            Write::Remove(_) => (Vec::new(), None),
        };
        let Change { key, replaced, version, mark } = change.clone();
        Self { at, key, replaced, version, mark, expires, head, bytes }
    }

    /// Whether it closed something, so that losing it would open that again.
    fn is_closing(&self) -> bool {
        match self.mark {
            Mark::Disabled | Mark::Revoked => true,
            // The id of a key or a client never comes back; other records are made anew under the same id.
            Mark::Removed => matches!(self.key.family, Family::Key | Family::Client),
            Mark::Open => false,
        }
    }
}

/// The outbox of one folder. Cheap to share.
#[derive(Clone)]
pub struct Outbox(Arc<Inner>);

struct Inner {
    path: PathBuf,
    /// None after a failure until it could be opened again.
    database: Mutex<Option<Database>>,
    index: Mutex<Index>,
}

/// What has to be known of each entry of the log, without the disk.
#[derive(Debug, Default)]
struct Index {
    /// Version -> the order of the mutation that made it.
    made: HashMap<u64, u64>,
    /// Versions that a mutation replaced.
    replaced: HashSet<u64>,
    count: usize,
    next: u64,
}

impl fmt::Debug for Outbox {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Outbox({})", self.0.path.display())
    }
}

impl Outbox {
    /// Opens the outbox of this folder, making both where there is none. Reads from the disk: not for the request path.
    ///
    /// # Errors
    /// [`OutboxError`] says what to do.
    pub fn open(folder: &Path) -> Result<Self, OutboxError> {
        let path = folder.join(OUTBOX_FILE_NAME);
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| OutboxError::Failed { path: path.clone(), why: error.to_string() })?;
        let database = open_database(&path)?;
        let index = read_index(&database).map_err(|error| OutboxError::Failed { path: path.clone(), why: error.to_string() })?;
        Ok(Self(Arc::new(Inner { path, database: Mutex::new(Some(database)), index: Mutex::new(index) })))
    }

    /// How many mutations are kept.
    pub fn len(&self) -> usize {
        self.0.index().count
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where we stood in the log when it was last noted.
    pub(super) fn seen(&self) -> Option<Seen> {
        let line = self.0.read(|database| {
            let table = database.begin_read()?.open_table(SEEN)?;
            let line = table.get(SEEN_LINE)?;
            Ok(line.map(|line| line.value().to_owned()))
        });
        read_seen(&line.ok()??)
    }

    /// Notes where we stand. Best effort.
    pub(super) async fn note_seen(&self, seen: &Seen) -> Result<(), OutboxError> {
        let line = write_seen(seen);
        self.on_disk(move |inner| {
            inner.write(|transaction| {
                transaction.open_table(SEEN)?.insert(SEEN_LINE, line.as_str())?;
                Ok(())
            })
        })
        .await
    }

    /// Keeps the mutations of one commit, durably.
    pub(super) async fn append(&self, mutations: Vec<Mutation>) -> Result<(), OutboxError> {
        self.on_disk(move |inner| inner.append(&mutations)).await
    }

    /// Takes note of what others did on top of our mutations; gives the records of which an older state came up that we had
    /// replaced.
    pub(super) async fn follow(&self, changes: &[Change]) -> Result<Vec<RecordKey>, OutboxError> {
        let mut followed = Vec::new();
        let mut come_back = Vec::new();
        {
            let index = self.0.index();
            for change in changes {
                let ours = change.version.is_some_and(|version| index.made.contains_key(&version));
                let on_top = change.replaced.and_then(|replaced| index.made.get(&replaced));
                if let Some(order) = on_top.filter(|_order| !ours) {
                    followed.push((*order, change.version.unwrap_or(NONE)));
                }
            }
            // What a record came to in the end; what it was in between may well have been replaced since.
            let last: HashMap<&RecordKey, Option<u64>> = changes.iter().map(|change| (&change.key, change.version)).collect();
            let is_old = |version: &Option<u64>| version.is_some_and(|version| index.replaced.contains(&version));
            come_back.extend(last.into_iter().filter(|(_key, version)| is_old(version)).map(|(key, _version)| key.clone()));
        }
        if !followed.is_empty() {
            self.on_disk(move |inner| {
                inner.write(|transaction| {
                    let mut table = transaction.open_table(FOLLOWED)?;
                    for (order, version) in &followed {
                        table.insert(*order, *version)?;
                    }
                    Ok(())
                })
            })
            .await?;
        }
        Ok(come_back)
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, OutboxError> + Send + 'static,
    ) -> Result<T, OutboxError> {
        let inner = Arc::clone(&self.0);
        let path = inner.path.clone();
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.unwrap_or_else(|_ended| Err(OutboxError::Failed { path, why: "a write to it ended early".to_owned() }))
    }
}

impl Inner {
    fn append(&self, mutations: &[Mutation]) -> Result<(), OutboxError> {
        let (first, count) = {
            let mut index = self.index();
            let first = index.next;
            index.next += mutations.len() as u64;
            (first, index.count)
        };
        let horizon = mutations.iter().map(|mutation| mutation.at).max().unwrap_or_default().minus(KEPT);
        let too_many = (count + mutations.len()).saturating_sub(MUTATIONS_MAX);
        let dropped = self.write(|transaction| {
            let mut table = transaction.open_table(MUTATIONS)?;
            let mut followed = transaction.open_table(FOLLOWED)?;
            let mut dropped = Vec::new();
            for (position, row) in table.iter()?.enumerate() {
                let (order, row) = row?;
                let (at, _, replaced, version, ..) = row.value();
                if position >= too_many && at >= horizon.as_nanos() {
                    break;
                }
                dropped.push((order.value(), replaced, version));
            }
            for (order, ..) in &dropped {
                table.remove(*order)?;
                followed.remove(*order)?;
            }
            for (mutation, order) in mutations.iter().zip(first..) {
                let place = place_text(&mutation.key);
                let row = (
                    mutation.at.as_nanos(),
                    place.as_str(),
                    mutation.replaced.unwrap_or(NONE),
                    mutation.version.unwrap_or(NONE),
                    mutation.mark.as_str(),
                    mutation.expires.map_or(0, Timestamp::as_nanos),
                    mutation.head,
                    mutation.bytes.as_slice(),
                );
                table.insert(order, row)?;
            }
            Ok(dropped)
        })?;
        let mut index = self.index();
        for (_order, replaced, version) in &dropped {
            index.made.remove(version);
            index.replaced.remove(replaced);
        }
        for (mutation, order) in mutations.iter().zip(first..) {
            index.add(order, mutation.replaced.unwrap_or(NONE), mutation.version.unwrap_or(NONE));
        }
        index.count = (index.count + mutations.len()).saturating_sub(dropped.len());
        Ok(())
    }

    fn note_followed(&self, order: u64, by: u64) -> Result<(), OutboxError> {
        self.write(|transaction| {
            transaction.open_table(FOLLOWED)?.insert(order, by)?;
            Ok(())
        })
    }

    /// Everything that is kept, oldest first.
    fn all(&self) -> Result<Vec<(u64, Mutation, Option<u64>)>, OutboxError> {
        self.read(|database| {
            let transaction = database.begin_read()?;
            let followed = transaction.open_table(FOLLOWED)?;
            let mut all = Vec::new();
            for row in transaction.open_table(MUTATIONS)?.iter()? {
                let (order, row) = row?;
                let Some(mutation) = read_mutation(row.value()) else { continue };
                let followed = followed.get(order.value())?.map(|version| version.value());
                all.push((order.value(), mutation, followed));
            }
            Ok(all)
        })
    }

    fn read<T>(&self, reading: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, OutboxError> {
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        reading(self.opened(&mut database)?).map_err(|error| self.failed(&mut database, &error))
    }

    fn write<T>(&self, writing: impl FnOnce(&redb::WriteTransaction) -> Result<T, redb::Error>) -> Result<T, OutboxError> {
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = self.opened(&mut database)?;
        let written = || {
            let mut transaction = opened.begin_write()?;
            transaction.set_quick_repair(true);
            let value = writing(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        written().map_err(|error: redb::Error| self.failed(&mut database, &error))
    }

    fn opened<'d>(&self, database: &'d mut MutexGuard<'_, Option<Database>>) -> Result<&'d Database, OutboxError> {
        if database.is_none() {
            **database = Some(open_database(&self.path)?);
        }
        database.as_ref().ok_or_else(|| OutboxError::Failed { path: self.path.clone(), why: "it is closed".to_owned() })
    }

    /// After an I/O error the engine refuses everything until the file is opened again.
    fn failed(&self, database: &mut MutexGuard<'_, Option<Database>>, error: &redb::Error) -> OutboxError {
        **database = None;
        OutboxError::Failed { path: self.path.clone(), why: error.to_string() }
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    fn add(&mut self, order: u64, replaced: u64, version: u64) {
        if version != NONE {
            self.made.insert(version, order);
        }
        if replaced != NONE && replaced != 0 {
            self.replaced.insert(replaced);
        }
    }
}

fn open_database(path: &Path) -> Result<Database, OutboxError> {
    let failed = |why: String| OutboxError::Failed { path: path.to_owned(), why };
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = file.map_err(|error| failed(error.to_string()))?;
    let database = match Database::builder().create_file(file) {
        Ok(database) => database,
        Err(redb::DatabaseError::DatabaseAlreadyOpen) => return Err(OutboxError::InUse { path: path.to_owned() }),
        Err(error) => return Err(failed(error.to_string())),
    };
    let found = prepare(&database).map_err(|error| failed(error.to_string()))?;
    if found == FORMAT { Ok(database) } else { Err(OutboxError::Newer { path: path.to_owned(), found }) }
}

/// Makes the tables where there are none; the format of the file.
fn prepare(database: &Database) -> Result<u64, redb::Error> {
    let transaction = database.begin_write()?;
    let found = {
        let mut meta = transaction.open_table(META)?;
        let found = meta.get(META_FORMAT)?.map(|format| format.value());
        if found.is_none() {
            meta.insert(META_FORMAT, FORMAT)?;
        }
        found.unwrap_or(FORMAT)
    };
    if found == FORMAT {
        transaction.open_table(MUTATIONS)?;
        transaction.open_table(FOLLOWED)?;
        transaction.open_table(SEEN)?;
        transaction.commit()?;
    }
    Ok(found)
}

fn read_index(database: &Database) -> Result<Index, redb::Error> {
    let mut index = Index::default();
    for row in database.begin_read()?.open_table(MUTATIONS)?.iter()? {
        let (order, row) = row?;
        let (_, _, replaced, version, ..) = row.value();
        index.add(order.value(), replaced, version);
        index.count += 1;
        index.next = order.value() + 1;
    }
    Ok(index)
}

fn read_mutation(row: (u64, &str, u64, u64, &str, u64, u64, &[u8])) -> Option<Mutation> {
    let (at, place, replaced, version, mark, expires, head, bytes) = row;
    Some(Mutation {
        at: Timestamp::from_nanos(at),
        key: read_place(place)?,
        replaced: (replaced != NONE).then_some(replaced),
        version: (version != NONE).then_some(version),
        mark: Mark::read(mark)?,
        expires: (expires != 0).then(|| Timestamp::from_nanos(expires)),
        head,
        bytes: bytes.to_vec(),
    })
}

fn write_seen(seen: &Seen) -> String {
    format!("{} {} {} {} {}", seen.birth, seen.cursor, seen.nonce.as_deref().unwrap_or("-"), seen.beats, seen.replication)
}

fn read_seen(line: &str) -> Option<Seen> {
    let mut parts = line.split(' ');
    let birth = parts.next()?.to_owned();
    let cursor = parts.next()?.parse().ok()?;
    let nonce = parts.next().filter(|nonce| *nonce != "-").map(str::to_owned);
    let beats = parts.next()?.parse().ok()?;
    Some(Seen { birth, cursor, nonce, beats, replication: parts.next()?.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);

    fn mutation(id: &str, replaced: Option<u64>, version: Option<u64>, at: Timestamp) -> Mutation {
        let mark = if version.is_some() { Mark::Open } else { Mark::Removed };
        let expires = version.filter(|version| version % 2 == 0).map(|_even| START);
        Mutation { at, key: RecordKey::key(id), replaced, version, mark, expires, head: 9, bytes: id.as_bytes().to_vec() }
    }

    #[tokio::test]
    async fn what_was_kept_outlives_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let kept = vec![mutation("a", None, Some(1), START), mutation("a", Some(1), Some(2), START), mutation("b", Some(7), None, START)];
        let seen = Seen { birth: "b".into(), cursor: 3, nonce: None, beats: 4, replication: String::new() };
        {
            let outbox = Outbox::open(folder.path()).unwrap();
            assert_eq!(outbox.seen(), None);
            outbox.append(kept[..1].to_vec()).await.unwrap();
            outbox.append(kept[1..].to_vec()).await.unwrap();
            let of_another = Change { key: RecordKey::key("a"), replaced: Some(2), version: Some(5), mark: Mark::Open };
            let ours = Change { key: RecordKey::key("a"), replaced: Some(1), version: Some(2), mark: Mark::Open };
            let come_back = Change { key: RecordKey::key("b"), replaced: None, version: Some(7), mark: Mark::Open };
            assert_eq!(outbox.follow(&[ours, of_another, come_back]).await.unwrap(), [RecordKey::key("b")]);
            outbox.note_seen(&seen).await.unwrap();
            assert!(matches!(Outbox::open(folder.path()), Err(OutboxError::InUse { .. })));
        }
        let outbox = Outbox::open(folder.path()).unwrap();
        let all = outbox.0.all().unwrap();
        assert_eq!(all.iter().map(|(_order, mutation, _followed)| mutation.clone()).collect::<Vec<_>>(), kept);
        assert_eq!(all.iter().map(|(_order, _mutation, followed)| *followed).collect::<Vec<_>>(), [None, Some(5), None]);
        assert_eq!((outbox.seen(), outbox.len()), (Some(seen), 3));
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(folder.path().join(OUTBOX_FILE_NAME)).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn it_keeps_a_day_and_no_more_than_so_many() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(folder.path()).unwrap();
        outbox.append(vec![mutation("old", None, Some(1), START)]).await.unwrap();
        let later = START.plus(KEPT + Duration::from_secs(1));
        outbox.append(vec![mutation("new", None, Some(2), later)]).await.unwrap();
        assert_eq!(outbox.len(), 1);
        assert!(!outbox.0.index().made.contains_key(&1));
        let many = (0..MUTATIONS_MAX as u64).map(|number| mutation("many", None, Some(10 + number), later)).collect();
        outbox.append(many).await.unwrap();
        assert_eq!(outbox.len(), MUTATIONS_MAX);
        assert_eq!(outbox.0.all().unwrap().len(), MUTATIONS_MAX);
    }
}
