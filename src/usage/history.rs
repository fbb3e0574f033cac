//! The counts that were flushed, by hour, day and month: a database of its own beside the shelf.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use redb::Database;
use redb::DatabaseError;
use redb::ReadTransaction;
use redb::ReadableDatabase;
use redb::ReadableTable;
use redb::TableDefinition;
use redb::WriteTransaction;

use crate::model::key::KeyId;
use crate::model::time::Timestamp;
use crate::model::usage::Span;
use crate::model::usage_row;
use crate::store::LastUse;
use crate::usage::changes::Changes;
use crate::usage::changes::NewChanges;
use crate::usage::live::Stated;
use crate::usage::live::UserTotal;
use crate::usage::rows;
use crate::usage::rows::HourValue;
use crate::usage::shares;
use crate::usage::shares::Eras;
use crate::usage::shares::SHARE;

/// The database's format. The first release wrote 1.
const FORMAT: u64 = 1;

/// Rows that one transaction removes at the most.
const PRUNE_ROWS_MAX: usize = 20_000;

pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(super) const HOUR: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("hour");
pub(super) const DAY: TableDefinition<'_, &[u8], u64> = TableDefinition::new("day");
pub(super) const MONTH: TableDefinition<'_, &[u8], u64> = TableDefinition::new("month");
pub(super) const TOTAL: TableDefinition<'_, &str, u64> = TableDefinition::new("total");
pub(super) const LAST_USE: TableDefinition<'_, &str, (u64, &str)> = TableDefinition::new("last_use");

/// Why the history did not answer.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error("the usage history {path} is in use by another process: stop that process, or give this one a folder of its own")]
    Locked { path: PathBuf },
    #[error("{path} has usage format {found}, and this release reads format {known}: run the release that wrote it")]
    Version { path: PathBuf, found: u64, known: u64 },
    #[error("the usage history {path} is damaged: {why}; restore it from a copy, or move it aside to begin a new one")]
    Damaged { path: PathBuf, why: String },
    #[error("the usage history {path} cannot be used: {why}")]
    Failed { path: PathBuf, why: String },
    #[error("{0:?} is no place to go on from: hand in the `next` of the page before")]
    Cursor(String),
}

/// Hours, days and months of counts.
pub struct History {
    path: PathBuf,
    /// None only while it could not be opened again.
    database: RwLock<Option<Database>>,
    /// The engine refuses everything after an I/O error until it is opened again.
    is_stuck: AtomicBool,
    /// Under which names this history's counts are published.
    pub(super) eras: Eras,
    pub(super) changes: Changes,
}

impl std::fmt::Debug for History {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "History({})", self.path.display())
    }
}

impl History {
    /// Opens the database, or begins one where there is none.
    ///
    /// # Errors
    /// When it is in use, damaged or of another format; it is never begun anew over something that cannot be read.
    pub fn open(path: &Path) -> Result<Self, HistoryError> {
        let owned = || path.to_path_buf();
        let damaged = |why: String| HistoryError::Damaged { path: owned(), why };
        let is_there = path.metadata().is_ok_and(|facts| facts.len() > 0);
        if !is_there && path.exists() {
            return Err(damaged("it is empty".to_owned()));
        }
        let database = open_database(path, is_there)?;
        let history = Self {
            path: owned(),
            database: RwLock::new(Some(database)),
            is_stuck: AtomicBool::new(false),
            eras: Eras::default(),
            changes: Changes::default(),
        };
        match catch_unwind(AssertUnwindSafe(|| history.prepare(is_there).and_then(|()| history.load_eras()))) {
            Ok(Ok(())) => Ok(history),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(damaged(CONTRADICTION.to_owned())),
        }
    }

    /// When a key was last used. Every proven use counts, also one that was refused.
    ///
    /// # Errors
    /// When the database fails.
    pub fn last_use(&self, key: &KeyId) -> Result<Option<LastUse>, HistoryError> {
        let table = self.read()?.open_table(LAST_USE).map_err(|error| self.failed(error))?;
        let row = table.get(key.as_str()).map_err(|error| self.failed(error))?;
        Ok(row.map(|row| {
            let (second, route) = row.value();
            LastUse { at: Timestamp::from_unix_seconds(second), route: Arc::from(route) }
        }))
    }

    /// Takes in a batch of counts in one transaction; returns by how much each one raised its line's total. Being told the same
    /// again, late or out of order changes nothing.
    pub(super) fn merge(&self, writer: u128, batch: &[Stated], now: Timestamp) -> Result<Vec<u64>, HistoryError> {
        let transaction = self.write()?;
        let mut changes = self.changes.begin();
        let added = self.merge_into(&transaction, writer, batch, now, &mut changes)?;
        self.commit_noting(transaction, changes)?;
        Ok(added)
    }

    /// Nobody sees the new counts without their being noted for publication.
    pub(super) fn commit_noting(&self, transaction: WriteTransaction, changes: NewChanges) -> Result<(), HistoryError> {
        self.changes.note(changes, || transaction.commit().map_err(|error| self.failed(error)))
    }

    fn merge_into(
        &self,
        transaction: &WriteTransaction,
        writer: u128,
        batch: &[Stated],
        now: Timestamp,
        changes: &mut NewChanges,
    ) -> Result<Vec<u64>, HistoryError> {
        let failed = |error: redb::StorageError| self.failed(error);
        let mut hours = transaction.open_table(HOUR).map_err(|error| self.failed(error))?;
        let oldest = Span::Hour.oldest_kept(now);
        let mut added = Vec::with_capacity(batch.len());
        let mut days: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        let mut months: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        let mut totals: BTreeMap<String, u64> = BTreeMap::new();
        let mut uses: HashMap<&str, (u64, &str)> = HashMap::new();
        for stated in batch {
            // What was told of an hour that is no longer kept cannot be known, so it is not believed either.
            if stated.hour.0 < oldest {
                added.push(0);
                continue;
            }
            let key = rows::row_of(stated, Span::Hour).write();
            let mut value = match hours.get(key.as_slice()).map_err(failed)? {
                Some(row) => HourValue::read(row.value()).ok_or_else(|| self.damaged("an hour's row cannot be read"))?,
                None => HourValue::default(),
            };
            let before = value.total;
            let more = value.tell(writer, stated.birth, stated.count);
            added.push(more);
            if more == 0 {
                continue;
            }
            hours.insert(key.as_slice(), value.write().as_slice()).map_err(failed)?;
            changes.row(Span::Hour, &key, before, value.total);
            *days.entry(rows::row_of(stated, Span::Day).write()).or_default() += more;
            *months.entry(rows::row_of(stated, Span::Month).write()).or_default() += more;
            if stated.outcome.is_decided() {
                *totals.entry(rows::total_key(&stated.user, stated.outcome)).or_default() += more;
            }
            if !stated.key.is_empty() {
                let latest = uses.entry(&stated.key).or_default();
                *latest = (*latest).max((stated.used, &stated.route));
            }
        }
        for (span, definition, sums) in [(Span::Day, DAY, days), (Span::Month, MONTH, months)] {
            let mut table = transaction.open_table(definition).map_err(|error| self.failed(error))?;
            for (key, more) in sums {
                let before = table.get(key.as_slice()).map_err(failed)?.map_or(0, |row| row.value());
                let sum = before.saturating_add(more);
                table.insert(key.as_slice(), sum).map_err(failed)?;
                changes.row(span, &key, before, sum);
            }
        }
        self.add_to_totals(transaction, totals)?;
        self.note_uses_in(transaction, uses, changes)?;
        Ok(added)
    }

    pub(super) fn add_to_totals(&self, transaction: &WriteTransaction, more: BTreeMap<String, u64>) -> Result<(), HistoryError> {
        let mut table = transaction.open_table(TOTAL).map_err(|error| self.failed(error))?;
        for (key, more) in more {
            let sum = table.get(key.as_str()).map_err(|error| self.failed(error))?.map_or(0, |row| row.value()).saturating_add(more);
            table.insert(key.as_str(), sum).map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    pub(super) fn note_uses_in<'a>(
        &self,
        transaction: &WriteTransaction,
        uses: impl IntoIterator<Item = (&'a str, (u64, &'a str))>,
        changes: &mut NewChanges,
    ) -> Result<(), HistoryError> {
        let mut table = transaction.open_table(LAST_USE).map_err(|error| self.failed(error))?;
        for (key, (second, route)) in uses {
            let later = match table.get(key).map_err(|error| self.failed(error))? {
                Some(known) => (second, route) > known.value(),
                None => true,
            };
            if later {
                table.insert(key, (second, route)).map_err(|error| self.failed(error))?;
                changes.key_use(key, second, route);
            }
        }
        Ok(())
    }

    /// Removes hours and days past their time, a bounded number; true when there may be more.
    pub(super) fn prune(&self, now: Timestamp) -> Result<bool, HistoryError> {
        let failed = |error: redb::StorageError| self.failed(error);
        let transaction = self.write()?;
        let mut left = PRUNE_ROWS_MAX;
        {
            let mut hours = transaction.open_table(HOUR).map_err(|error| self.failed(error))?;
            let end = usage_row::prefix(Span::Hour.oldest_kept(now), None);
            for row in hours.extract_from_if(..end.as_slice(), |_, _| true).map_err(failed)?.take(left) {
                row.map_err(failed)?;
                left -= 1;
            }
            let mut days = transaction.open_table(DAY).map_err(|error| self.failed(error))?;
            let end = usage_row::prefix(Span::Day.oldest_kept(now), None);
            for row in days.extract_from_if(..end.as_slice(), |_, _| true).map_err(failed)?.take(left) {
                row.map_err(failed)?;
                left -= 1;
            }
            let mut shares = transaction.open_table(SHARE).map_err(|error| self.failed(error))?;
            for span in [Span::Hour, Span::Day] {
                let (start, end) = (shares::place(span, &[]), shares::place(span, &usage_row::prefix(span.oldest_kept(now), None)));
                for row in shares.extract_from_if(start.as_slice()..end.as_slice(), |_, _| true).map_err(failed)?.take(left) {
                    row.map_err(failed)?;
                    left -= 1;
                }
            }
        }
        if left == PRUNE_ROWS_MAX {
            transaction.abort().map_err(failed)?;
        } else {
            transaction.commit().map_err(|error| self.failed(error))?;
        }
        Ok(left == 0)
    }

    /// What this writer told of each counter of a batch.
    pub(super) fn told(&self, writer: u128, batch: &[Stated]) -> Result<Vec<u64>, HistoryError> {
        let transaction = self.read()?;
        batch.iter().map(|stated| self.told_in(&transaction, writer, stated)).collect()
    }

    pub(super) fn told_in(&self, transaction: &ReadTransaction, writer: u128, stated: &Stated) -> Result<u64, HistoryError> {
        let hours = transaction.open_table(HOUR).map_err(|error| self.failed(error))?;
        match hours.get(rows::row_of(stated, Span::Hour).write().as_slice()).map_err(|error| self.failed(error))? {
            Some(row) => {
                let value = HourValue::read(row.value()).ok_or_else(|| self.damaged("an hour's row cannot be read"))?;
                Ok(value.told(writer, stated.birth))
            }
            None => Ok(0),
        }
    }

    /// Every user's totals since counting began.
    pub(super) fn totals(&self) -> Result<Vec<UserTotal>, HistoryError> {
        let table = self.read()?.open_table(TOTAL).map_err(|error| self.failed(error))?;
        let mut totals = Vec::new();
        for row in table.iter().map_err(|error| self.failed(error))? {
            let (key, count) = row.map_err(|error| self.failed(error))?;
            let (outcome, user) = rows::read_total_key(key.value()).ok_or_else(|| self.damaged("a total's row cannot be read"))?;
            totals.push(UserTotal { user: Arc::from(user), outcome, count: count.value() });
        }
        Ok(totals)
    }

    pub(super) fn read(&self) -> Result<ReadTransaction, HistoryError> {
        self.unstick()?;
        match &*self.database.read().unwrap_or_else(PoisonError::into_inner) {
            Some(database) => database.begin_read().map_err(|error| self.failed(error)),
            None => Err(self.not_open()),
        }
    }

    pub(super) fn failed(&self, error: impl Into<redb::Error>) -> HistoryError {
        let error = error.into();
        if matches!(error, redb::Error::Io(_) | redb::Error::PreviousIo) {
            self.is_stuck.store(true, Ordering::Release);
        }
        if let redb::Error::Corrupted(why) = error {
            return self.damaged(&why);
        }
        HistoryError::Failed { path: self.path.clone(), why: error.to_string() }
    }

    pub(super) fn damaged(&self, why: &str) -> HistoryError {
        HistoryError::Damaged { path: self.path.clone(), why: why.to_owned() }
    }

    pub(super) fn write(&self) -> Result<WriteTransaction, HistoryError> {
        self.unstick()?;
        let mut transaction = match &*self.database.read().unwrap_or_else(PoisonError::into_inner) {
            Some(database) => database.begin_write().map_err(|error| self.failed(error))?,
            None => return Err(self.not_open()),
        };
        // A little more work now, and no walk through the whole file after a kill.
        transaction.set_quick_repair(true);
        Ok(transaction)
    }

    /// Opens the database again after an I/O error, a full disk say; what was not committed is told again by the ledger.
    fn unstick(&self) -> Result<(), HistoryError> {
        if !self.is_stuck.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if self.is_stuck.load(Ordering::Acquire) {
            // The old one has to let go of the file first.
            *database = None;
            *database = Some(open_database(&self.path, true)?);
            self.is_stuck.store(false, Ordering::Release);
        }
        Ok(())
    }

    fn not_open(&self) -> HistoryError {
        HistoryError::Failed { path: self.path.clone(), why: "it could not be opened again after an I/O error".to_owned() }
    }

    /// Makes the tables of a new database, or checks the format of an old one.
    fn prepare(&self, is_there: bool) -> Result<(), HistoryError> {
        if is_there {
            let transaction = self.read()?;
            let table = transaction.open_table(META).map_err(|_| self.damaged("it is no usage history"))?;
            let found = table.get("format").map_err(|error| self.failed(error))?.map(|row| row.value());
            return match found {
                Some(FORMAT) => Ok(()),
                Some(found) => Err(HistoryError::Version { path: self.path.clone(), found, known: FORMAT }),
                None => Err(self.damaged("it does not say its format")),
            };
        }
        let transaction = self.write()?;
        {
            transaction.open_table(HOUR).map_err(|error| self.failed(error))?;
            transaction.open_table(DAY).map_err(|error| self.failed(error))?;
            transaction.open_table(MONTH).map_err(|error| self.failed(error))?;
            transaction.open_table(TOTAL).map_err(|error| self.failed(error))?;
            transaction.open_table(LAST_USE).map_err(|error| self.failed(error))?;
            let mut meta = transaction.open_table(META).map_err(|error| self.failed(error))?;
            meta.insert("format", FORMAT).map_err(|error| self.failed(error))?;
        }
        transaction.commit().map_err(|error| self.failed(error))
    }
}

const CONTRADICTION: &str = "its pages contradict each other";

/// Counts by user are nobody's business but the process's own user's.
fn create_database(path: &Path) -> Result<Database, DatabaseError> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    Database::builder().create_file(file.map_err(redb::StorageError::Io)?)
}

fn open_database(path: &Path, is_there: bool) -> Result<Database, HistoryError> {
    let damaged = |why: String| HistoryError::Damaged { path: path.to_path_buf(), why };
    // The engine checks what it reads, but a page that lies may still lead it into a panic.
    let opened = catch_unwind(AssertUnwindSafe(|| if is_there { Database::open(path) } else { create_database(path) }));
    match opened {
        Ok(Ok(database)) => Ok(database),
        Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => Err(HistoryError::Locked { path: path.to_path_buf() }),
        Ok(Err(DatabaseError::Storage(redb::StorageError::Io(error)))) if error.kind() != io::ErrorKind::InvalidData => {
            Err(HistoryError::Failed { path: path.to_path_buf(), why: error.to_string() })
        }
        Ok(Err(error)) => Err(damaged(error.to_string())),
        Err(_) => Err(damaged(CONTRADICTION.to_owned())),
    }
}
