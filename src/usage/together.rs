//! The ledger and the history as one: opened, reconciled, flushed and read.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::model::key::KeyId;
use crate::model::time::Hour;
use crate::model::time::Timestamp;
use crate::model::usage::UsagePage;
use crate::model::usage::UsageQuery;
use crate::store::LastUse;
use crate::usage::error::LedgerError;
use crate::usage::history::History;
use crate::usage::history::HistoryError;
use crate::usage::ledger::Ledger;
use crate::usage::ledger::LedgerOptions;
use crate::usage::live::Position;
use crate::usage::publishing::Run;

/// Counters in one transaction of the history.
const BATCH: usize = 1000;
/// Batches in one flush that is not thorough.
const BATCHES_MAX: usize = 16;

/// Why usage could not be opened or flushed.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    History(#[from] HistoryError),
}

/// How much one flush does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thoroughness {
    /// A bounded piece of the way, from where the last one stopped.
    Piece,
    /// Everything that was counted before it began.
    Everything,
}

/// What a flush did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Counters that the history was told of.
    pub counters: u64,
    /// Slots of closed hours that were given back.
    pub closed: u64,
}

/// Counting and its history.
#[derive(Debug)]
pub struct Usage {
    ledger: Arc<Ledger>,
    history: History,
    flushing: Mutex<Flushing>,
    /// Everything counted before this instant (nanoseconds) is in the history.
    flushed_to: AtomicU64,
}

#[derive(Debug)]
struct Flushing {
    position: Position,
    /// When the pass through all counters that is under way began.
    pass_began: Option<Timestamp>,
    housekept: Hour,
}

impl Usage {
    /// Opens both and brings them in line, before anybody counts: whichever was thrown back (a power failure, a restored copy)
    /// learns from the other.
    ///
    /// # Errors
    /// When either cannot be opened; see there.
    pub fn open(options: LedgerOptions, history: impl Into<PathBuf>, now: Timestamp) -> Result<Self, UsageError> {
        let ledger = Ledger::open(options, now)?;
        let history = History::open(&history.into())?;
        let mut position = Some(Position::default());
        while let Some(from) = position {
            let (batch, next) = ledger.state(from, BATCH, |_, _, _| true);
            for (stated, told) in batch.iter().zip(history.told(ledger.writer_id(), &batch)?) {
                ledger.reconcile(stated, told);
            }
            position = next;
        }
        ledger.load_totals(history.totals()?);
        Ok(Self {
            ledger: Arc::new(ledger),
            history,
            flushing: Mutex::new(Flushing { position: Position::default(), pass_began: None, housekept: Hour(0) }),
            flushed_to: AtomicU64::new(now.as_nanos()),
        })
    }

    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    pub fn history(&self) -> &History {
        &self.history
    }

    /// A page of exact counts.
    ///
    /// # Errors
    /// As [`History::query`].
    pub fn query(&self, query: &UsageQuery) -> Result<UsagePage, HistoryError> {
        self.history.query(query, Some(&self.ledger))
    }

    /// When a key was last used, as far as was flushed (about a second).
    ///
    /// # Errors
    /// When the database fails.
    pub fn last_use(&self, key: &KeyId) -> Result<Option<LastUse>, HistoryError> {
        self.history.last_use(key)
    }

    /// How old the oldest count may be that the history does not have.
    pub fn oldest_unflushed_age(&self, now: Timestamp) -> Duration {
        now.since(Timestamp::from_nanos(self.flushed_to.load(Ordering::Relaxed)))
    }

    /// Follows the clock, tells the history what was counted, gives back the slots of closed hours, and once an hour removes what
    /// is past its time. `elapsed` is the time since the last flush by the monotonic clock. Waits for the disk.
    ///
    /// # Errors
    /// The first thing that failed. Nothing is lost by it: what was counted is in the ledger, and is told the next time.
    pub fn flush(&self, thoroughness: Thoroughness, now: Timestamp, elapsed: Duration) -> Result<Flushed, UsageError> {
        let mut flushing = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        // No room for more counters is no reason not to tell of those that there are.
        let room = self.ledger.tick(now, elapsed);
        self.ledger.sync_names()?;
        self.flush_notes()?;
        let mut flushed = Flushed::default();
        let budget = match thoroughness {
            Thoroughness::Piece => BATCHES_MAX,
            Thoroughness::Everything => {
                flushing.position = Position::default();
                flushing.pass_began = None;
                usize::MAX
            }
        };
        let mut finished = false;
        for _ in 0..budget {
            flushing.pass_began.get_or_insert(now);
            let (batch, next) = self.ledger.state(flushing.position, BATCH, |_, count, kept| count > kept);
            if !batch.is_empty() {
                let added = self.history.merge(self.ledger.writer_id(), &batch, now)?;
                self.ledger.acknowledge(&batch, &added);
                flushed.counters += batch.len() as u64;
            }
            flushing.position = next.unwrap_or_default();
            if next.is_none() {
                finished = true;
                break;
            }
        }
        if finished {
            if let Some(began) = flushing.pass_began.take() {
                self.flushed_to.fetch_max(began.as_nanos(), Ordering::Relaxed);
            }
            flushed.closed = self.ledger.close_periods();
            if flushing.housekept != now.hour() {
                self.ledger.compact_names()?;
                if !self.history.prune(now)? {
                    flushing.housekept = now.hour();
                }
            }
        }
        room?;
        Ok(flushed)
    }

    fn flush_notes(&self) -> Result<(), UsageError> {
        let uses = self.ledger.notes.take();
        if uses.is_empty() {
            return Ok(());
        }
        let kept = self.history.merge_uses(&uses);
        if kept.is_err() {
            self.ledger.notes.put_back(uses);
        }
        Ok(kept?)
    }

    /// Erases what was counted of a user, flushed or not. Only a backup has it still.
    ///
    /// # Errors
    /// The first thing that failed; asking again completes it.
    pub fn forget(&self, user: &str) -> Result<(), UsageError> {
        // No flush may tell the history of what is just being taken out of the ledger.
        let _flushing = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        self.ledger.forget(user)?;
        self.history.forget_user(user)?;
        Ok(())
    }

    /// Everything counted before this instant is in the history.
    pub fn flushed_to(&self) -> Timestamp {
        Timestamp::from_nanos(self.flushed_to.load(Ordering::Relaxed))
    }

    /// From now on rows that rise are listed for publication. What the ledger has had until now is in the history when this
    /// returns, so that it can be told from what is counted by this run. Answers this run's nonce, and those of earlier ones.
    ///
    /// # Errors
    /// As [`Self::flush`].
    pub fn begin_publishing(&self, now: Timestamp) -> Result<Run, UsageError> {
        self.flush(Thoroughness::Everything, now, Duration::ZERO)?;
        self.history.list_changes();
        Ok(self.history.begin_run()?)
    }

    /// Publishes under a new name from now on: somebody else uses the old one. What was sent under it stays there.
    ///
    /// # Errors
    /// As [`Self::flush`].
    pub fn change_writer(&self, now: Timestamp) -> Result<u128, UsageError> {
        self.flush(Thoroughness::Everything, now, Duration::ZERO)?;
        Ok(self.history.begin_era(self.ledger.period.open())?)
    }

    /// The last flush of a process, and everything on the disk.
    ///
    /// # Errors
    /// As [`Self::flush`].
    pub fn close(&self, now: Timestamp, elapsed: Duration) -> Result<(), UsageError> {
        let flushed = self.flush(Thoroughness::Everything, now, elapsed);
        self.ledger.sync()?;
        flushed.map(|_| ())
    }
}
