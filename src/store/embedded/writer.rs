//! The one writer: takes waiting commits together, writes them in one transaction, shows them, answers them.
//!
//! After any failed write the database is closed, opened again and read anew: what the file holds then is the truth, whatever
//! the failure left open.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use redb::Database;
use redb::ReadableDatabase;
use redb::ReadableTable;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::model::time::Timestamp;
use crate::store::Committed;
use crate::store::Family;
use crate::store::Page;
use crate::store::Precondition;
use crate::store::RecordKey;
use crate::store::StoreError;
use crate::store::Stored;
use crate::store::Write;
use crate::store::embedded::OpenError;
use crate::store::embedded::file::EXPIRIES;
use crate::store::embedded::file::META;
use crate::store::embedded::file::META_SEQUENCE;
use crate::store::embedded::file::RECORDS;
use crate::store::embedded::file::Source;
use crate::store::embedded::file::family_byte;
use crate::store::embedded::file::lay;
use crate::store::embedded::file::place;
use crate::store::embedded::file::record_key;
use crate::store::embedded::file::take_up;
use crate::store::embedded::image::Image;

/// Commits that share one transaction, and so one wait for the disk.
const MOST_TOGETHER: usize = 128;
/// Expired records that one transaction clears away.
const SWEPT_TOGETHER: usize = 64;
/// Records that one page holds at the most.
const LARGEST_PAGE: usize = 1000;
/// How often, and how long between, a reopening asks whether the last reader of the old database has gone.
const READERS_ASKED: usize = 5000;
const READERS_PAUSE: Duration = Duration::from_millis(1);

/// One commit on its way.
#[derive(Debug)]
pub(super) struct Request {
    pub preconditions: Vec<Precondition>,
    pub writes: Vec<Write>,
    pub now: Timestamp,
    pub answer: oneshot::Sender<Result<Committed, StoreError>>,
}

/// The file and its image.
#[derive(Debug)]
pub(super) struct Shelf {
    /// None after a failed write until it could be opened again.
    database: Mutex<Option<Arc<Opened>>>,
    image: Image,
    clock: Arc<dyn Clock>,
    source: Source,
}

struct Opened(Database);

impl std::fmt::Debug for Opened {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Opened")
    }
}

/// What a transaction did besides what was asked.
struct Written {
    outcomes: Vec<Committed>,
    swept: Vec<RecordKey>,
}

pub(super) fn run(shelf: &Shelf, mut waiting: mpsc::Receiver<Request>) {
    let mut batch = Vec::new();
    while waiting.blocking_recv_many(&mut batch, MOST_TOGETHER) > 0 {
        shelf.settle(std::mem::take(&mut batch));
    }
}

impl Shelf {
    pub(super) fn open(source: Source, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let image = Image::default();
        let database = source.database()?;
        load(&database, &image).map_err(|error| source.damaged(&error))?;
        Ok(Self { database: Mutex::new(Some(Arc::new(Opened(database)))), image, clock, source })
    }

    pub(super) fn path(&self) -> &Path {
        self.source.path()
    }

    pub(super) fn image(&self) -> &Image {
        &self.image
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    pub(super) fn get(&self, key: &RecordKey) -> Result<Option<Stored>, StoreError> {
        let place = place(key);
        let laid = self.read(|database| {
            let records = database.begin_read()?.open_table(RECORDS)?;
            let laid = records.get(place.as_slice())?;
            Ok(laid.map(|laid| take_up(&place, laid.value())))
        })?;
        match laid {
            None => Ok(None),
            Some(Some(stored)) => Ok(Some(stored).filter(|stored| stored.is_alive(self.clock.now()))),
            Some(None) => Err(StoreError::Corrupt {
                key: format!("{}/{}", key.family.as_str(), key.id),
                why: "its checksum does not hold".to_owned(),
            }),
        }
    }

    pub(super) fn range(&self, family: Family, after: Option<&str>, limit: usize) -> Result<Page, StoreError> {
        let limit = limit.clamp(1, LARGEST_PAGE);
        let now = self.clock.now();
        // The last place of a family: its byte and nothing behind the next family's.
        let end = [family_byte(family) + 1];
        // The place of the id itself is skipped by a zero byte, which no id has.
        let start = after.map_or_else(|| vec![family_byte(family)], |id| [&[family_byte(family)], id.as_bytes(), &[0]].concat());
        self.read(|database| {
            let records = database.begin_read()?.open_table(RECORDS)?;
            let mut page = Page { records: Vec::new(), next: None };
            if start.as_slice() >= end.as_slice() {
                return Ok(page);
            }
            for row in records.range(start.as_slice()..end.as_slice())? {
                let (place, laid) = row?;
                let Some(key) = record_key(place.value()) else { continue };
                let stored = match take_up(place.value(), laid.value()) {
                    Some(stored) if !stored.is_alive(now) => continue,
                    Some(stored) => stored,
                    None => Stored { version: 0, bytes: Vec::new(), expires: None },
                };
                if page.records.len() == limit {
                    page.next = page.records.last().map(|(key, _stored)| key.id.clone());
                    break;
                }
                page.records.push((key, stored));
            }
            Ok(page)
        })
    }

    fn read<T>(&self, reading: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        // Only the handle is taken under the lock: reads wait neither for each other nor for a commit.
        let opened = self.database().clone();
        match opened {
            Some(opened) => reading(&opened.0).map_err(|error| unavailable(&error)),
            None => Err(StoreError::Unavailable("the store file could not be opened again after a failed write".to_owned())),
        }
    }

    fn database(&self) -> MutexGuard<'_, Option<Arc<Opened>>> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the batch and answers each of its commits.
    fn settle(&self, batch: Vec<Request>) {
        let outcome = match catch_unwind(AssertUnwindSafe(|| self.write(&batch))) {
            Ok(outcome) => outcome,
            Err(_panic) => Err(StoreError::Unavailable("the store's writer stumbled".to_owned())),
        };
        match outcome {
            Ok(written) => {
                // Before the rest: a place that was swept may have been taken again in the same transaction.
                for key in written.swept {
                    self.image.remove(&key);
                }
                for (request, outcome) in batch.into_iter().zip(written.outcomes) {
                    if outcome == Committed::Done {
                        self.show(&request.writes);
                    }
                    let _nobody_waits = request.answer.send(Ok(outcome));
                }
            }
            Err(error) => {
                tracing::error!(%error, "a commit to the store failed");
                self.reopen();
                for request in batch {
                    let _nobody_waits = request.answer.send(Err(error.clone()));
                }
            }
        }
    }

    fn write(&self, batch: &[Request]) -> Result<Written, StoreError> {
        let is_closed = self.database().is_none();
        if is_closed {
            self.reopen();
        }
        let now = self.clock.now();
        self.read(|database| {
            let mut transaction = database.begin_write()?;
            transaction.set_two_phase_commit(true);
            let mut written = Written { outcomes: Vec::with_capacity(batch.len()), swept: Vec::new() };
            {
                let mut tables = Tables::open(&transaction)?;
                tables.sweep(now, &mut written.swept)?;
                for request in batch {
                    written.outcomes.push(tables.apply(request)?);
                }
                tables.finish()?;
            }
            if written.swept.is_empty() && !written.outcomes.contains(&Committed::Done) {
                transaction.abort()?;
            } else {
                transaction.commit()?;
            }
            Ok(written)
        })
    }

    fn show(&self, writes: &[Write]) {
        for write in writes {
            match write {
                Write::Put { key, bytes, expires } => self.image.put(key, bytes, *expires),
                Write::Remove(key) => self.image.remove(key),
            }
        }
    }

    fn reopen(&self) {
        // Closed first: the file has one holder.
        let old = self.database().take();
        if let Some(old) = old {
            let _stumbled = catch_unwind(AssertUnwindSafe(|| close(old)));
        }
        let opened = self.source.database().and_then(|opened| match load(&opened, &self.image) {
            Ok(()) => Ok(opened),
            Err(error) => Err(self.source.damaged(&error)),
        });
        match opened {
            Ok(opened) => *self.database() = Some(Arc::new(Opened(opened))),
            Err(error) => tracing::error!(%error, "the store cannot be opened again; what was read before still serves checks"),
        }
    }
}

/// Waits for the reads that are under way, which are short, and closes.
fn close(mut opened: Arc<Opened>) {
    for _time in 0..READERS_ASKED {
        match Arc::try_unwrap(opened) {
            Ok(last) => return drop(last),
            Err(shared) => opened = shared,
        }
        std::thread::sleep(READERS_PAUSE);
    }
}

/// The tables of one write transaction.
struct Tables<'t> {
    records: redb::Table<'t, &'static [u8], &'static [u8]>,
    expiries: redb::Table<'t, (u64, &'static [u8]), ()>,
    meta: redb::Table<'t, &'static str, u64>,
    sequence: u64,
}

impl<'t> Tables<'t> {
    fn open(transaction: &'t redb::WriteTransaction) -> Result<Self, redb::Error> {
        let meta = transaction.open_table(META)?;
        let sequence = meta.get(META_SEQUENCE)?.map_or(0, |value| value.value());
        Ok(Self { records: transaction.open_table(RECORDS)?, expiries: transaction.open_table(EXPIRIES)?, meta, sequence })
    }

    /// Judges all preconditions before the first write, so a refused commit leaves nothing behind in the shared transaction.
    fn apply(&mut self, request: &Request) -> Result<Committed, redb::Error> {
        for (position, precondition) in request.preconditions.iter().enumerate() {
            let holds = match precondition {
                Precondition::Absent(key) => self.version(key, request.now)?.is_none(),
                Precondition::Present(key) => self.version(key, request.now)?.is_some(),
                Precondition::AtVersion(key, version) => self.version(key, request.now)? == Some(*version),
            };
            if !holds {
                return Ok(Committed::Refused(position));
            }
        }
        self.sequence += 1;
        for write in &request.writes {
            match write {
                Write::Put { key, bytes, expires } => {
                    let place = place(key);
                    self.forget_expiry(&place)?;
                    if let Some(expires) = expires {
                        self.expiries.insert((expires.as_nanos(), place.as_slice()), ())?;
                    }
                    self.records.insert(place.as_slice(), lay(&place, self.sequence, *expires, bytes).as_slice())?;
                }
                Write::Remove(key) => {
                    let place = place(key);
                    self.forget_expiry(&place)?;
                    self.records.remove(place.as_slice())?;
                }
            }
        }
        Ok(Committed::Done)
    }

    /// The version of a record that is there and alive. A damaged one is there, at version 0.
    fn version(&self, key: &RecordKey, now: Timestamp) -> Result<Option<u64>, redb::Error> {
        let place = place(key);
        let laid = self.records.get(place.as_slice())?;
        Ok(laid.and_then(|laid| match take_up(&place, laid.value()) {
            Some(stored) => stored.is_alive(now).then_some(stored.version),
            None => Some(0),
        }))
    }

    fn forget_expiry(&mut self, place: &[u8]) -> Result<(), redb::Error> {
        let expires = self.records.get(place)?.and_then(|laid| take_up(place, laid.value())).and_then(|stored| stored.expires);
        if let Some(expires) = expires {
            self.expiries.remove((expires.as_nanos(), place))?;
        }
        Ok(())
    }

    fn sweep(&mut self, now: Timestamp, swept: &mut Vec<RecordKey>) -> Result<(), redb::Error> {
        let due: Vec<(u64, Vec<u8>)> = self
            .expiries
            .iter()?
            .take(SWEPT_TOGETHER)
            .map(|row| row.map(|(key, _nothing)| (key.value().0, key.value().1.to_vec())))
            .take_while(|row| row.as_ref().map_or(true, |(expires, _place)| *expires <= now.as_nanos()))
            .collect::<Result<_, _>>()?;
        for (expires, place) in due {
            self.expiries.remove((expires, place.as_slice()))?;
            // Of what was put over a damaged record, whose own expiry could not be told.
            let is_alive = self
                .records
                .get(place.as_slice())?
                .and_then(|laid| take_up(&place, laid.value()))
                .is_some_and(|stored| stored.is_alive(now));
            if is_alive {
                continue;
            }
            self.records.remove(place.as_slice())?;
            swept.extend(record_key(&place));
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), redb::Error> {
        self.meta.insert(META_SEQUENCE, self.sequence)?;
        Ok(())
    }
}

/// Shows in the image what the file holds, all of it and nothing else.
fn load(database: &Database, image: &Image) -> Result<(), redb::Error> {
    let records = database.begin_read()?.open_table(RECORDS)?;
    let mut present = HashSet::new();
    for row in records.iter()? {
        let (place, laid) = row?;
        let Some(key) = record_key(place.value()) else {
            tracing::error!("a record of an unknown family lies in the store");
            continue;
        };
        match take_up(place.value(), laid.value()) {
            Some(stored) => image.put(&key, &stored.bytes, stored.expires),
            None => image.put(&key, &[], None),
        }
        present.insert(key);
    }
    image.keep_only(&present);
    Ok(())
}

fn unavailable(error: &redb::Error) -> StoreError {
    StoreError::Unavailable(error.to_string())
}
