//! Tells the store that all sidecars share what the local history was told: what rose, about once a second; and everything that
//! is open, again and again, since a store may be thrown back without a word.
//!
//! The history is the truth of this sidecar. Nothing here holds up the ledger's own flush, and nothing is lost while the store
//! is away: what rose is listed in bounded memory, and what the list cannot hold is found in the history by a sweep.

mod publisher;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::model::time::Timestamp;
use crate::store::StoreError;
use crate::store::shared::usage::Care;
use crate::store::shared::usage::SharedCounts;
use crate::tasks::publish_usage::publisher::Publisher;
use crate::usage::Usage;
use crate::usage::UsageError;

/// How many may wait for a publication that they asked for.
const INBOX: usize = 64;
/// How long the last publication may take.
const LAST: Duration = Duration::from_secs(5);

/// Why counts were not published. They wait in the history.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the usage history cannot be read: {0}")]
    History(String),
    /// A run of the same history may be alive: a few seconds after a kill this is the last one.
    #[error("another run may still publish under this sidecar's name; counts wait until that is clear")]
    Waiting,
    #[error("the publishing of usage has ended")]
    Ended,
}

/// What the loop did so far, for metrics.
#[derive(Debug, Default)]
pub struct PublishStatus {
    pub(super) published: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) conflicts: AtomicU64,
    pub(super) sweeps: AtomicU64,
    pub(super) restatements: AtomicU64,
    pub(super) overflows: AtomicU64,
    pub(super) quarantined: AtomicU64,
    pub(super) unpublished: AtomicU64,
    pub(super) closed_to: AtomicU64,
    /// Everything counted before this instant (nanoseconds) is in the store.
    pub(super) published_to: AtomicU64,
}

impl PublishStatus {
    /// Counts that the store took in.
    pub fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// Rounds that did not come through.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// How often somebody else was found to use this sidecar's name: its folder was copied, or an old copy was put back.
    pub fn conflicts(&self) -> u64 {
        self.conflicts.load(Ordering::Relaxed)
    }

    /// Walks through all that is open, or kept, that were finished.
    pub fn sweeps(&self) -> u64 {
        self.sweeps.load(Ordering::Relaxed)
    }

    /// How often the store was found to have lost something, so that everything was told again.
    pub fn restatements(&self) -> u64 {
        self.restatements.load(Ordering::Relaxed)
    }

    /// How often more rows rose than the list could hold.
    pub fn overflows(&self) -> u64 {
        self.overflows.load(Ordering::Relaxed)
    }

    /// Users whose counts the store refuses now: what lies in their place is none of ours.
    pub fn quarantined(&self) -> u64 {
        self.quarantined.load(Ordering::Relaxed)
    }

    /// Rows that rose and wait.
    pub fn unpublished(&self) -> u64 {
        self.unpublished.load(Ordering::Relaxed)
    }

    /// The first hour (since the epoch) that is not closed yet.
    pub fn closed_to(&self) -> u64 {
        self.closed_to.load(Ordering::Relaxed)
    }

    /// How old the oldest count may be that the store does not have.
    pub fn oldest_unpublished_age(&self, now: Timestamp) -> Duration {
        now.since(Timestamp::from_nanos(self.published_to.load(Ordering::Relaxed)))
    }
}

/// Asks the loop for things.
#[derive(Clone, Debug)]
pub struct PublishHandle {
    inbox: mpsc::Sender<oneshot::Sender<Result<(), PublishError>>>,
    status: Arc<PublishStatus>,
}

impl PublishHandle {
    /// Everything that was counted before the call is in the store when it returns, but for users whose counts it refuses.
    ///
    /// # Errors
    /// When the store cannot be reached, or the loop has ended.
    pub async fn publish_now(&self) -> Result<(), PublishError> {
        let (answer, answered) = oneshot::channel();
        self.inbox.send(answer).await.map_err(|_| PublishError::Ended)?;
        answered.await.map_err(|_| PublishError::Ended)?
    }

    pub fn status(&self) -> &Arc<PublishStatus> {
        &self.status
    }
}

/// What the loop listens to: each number that changes is a signal.
#[derive(Clone, Debug)]
pub struct Signals {
    /// The server is another one, or was reached again: what is open is told again.
    pub link_changes: watch::Receiver<u64>,
    /// The store was thrown back: everything that is kept is told again.
    pub resets: watch::Receiver<u64>,
    /// How many sidecars there are: they share what the store has time for.
    pub members: Arc<AtomicU32>,
}

/// The loop, before it runs.
#[derive(Debug)]
pub struct PublishUsage {
    publisher: Publisher,
    interval: Duration,
    inbox: mpsc::Receiver<oneshot::Sender<Result<(), PublishError>>>,
    status: Arc<PublishStatus>,
}

impl PublishUsage {
    /// The usual interval is a second. To be called before anybody counts: what this run counts is told from what was there
    /// before, in case that somebody else has the same. Waits for the disk.
    ///
    /// # Errors
    /// When the history cannot be written.
    pub fn new(
        usage: Arc<Usage>,
        counts: Arc<SharedCounts>,
        signals: Signals,
        clock: Arc<dyn Clock>,
        interval: Duration,
    ) -> Result<(Self, PublishHandle), UsageError> {
        let (sender, inbox) = mpsc::channel(INBOX);
        let status = Arc::new(PublishStatus::default());
        status.published_to.store(clock.now().as_nanos(), Ordering::Relaxed);
        let handle = PublishHandle { inbox: sender, status: Arc::clone(&status) };
        let publisher = Publisher::new(usage, counts, signals, clock, Arc::clone(&status))?;
        Ok((Self { publisher, interval, inbox, status }, handle))
    }

    /// Runs until `shutdown`, then flushes and publishes once more. However it ends, `shutdown` is cancelled: a process that
    /// counts and does not publish must not go on for long.
    ///
    /// # Errors
    /// When the last publication failed and there was something to publish; the history has what was not published, and the next run tells it.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), PublishError> {
        let _guard = shutdown.clone().drop_guard();
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut was_told = false;
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(first) = self.inbox.recv() => {
                    // Whoever asked meanwhile is served by the same round.
                    let mut askers = vec![first];
                    while let Ok(another) = self.inbox.try_recv() {
                        askers.push(another);
                    }
                    let published = self.flush_and_publish(Care::Usual).await;
                    for asker in askers {
                        // Whoever asked may have gone.
                        let _ = asker.send(published.clone());
                    }
                }
                _ = ticks.tick() => {
                    let published = self.round(Care::Usual).await;
                    match (&published, was_told) {
                        (Err(error), false) => tracing::warn!(%error, "usage not published; the history keeps it"),
                        (Ok(()), true) => tracing::info!("usage is published again"),
                        (Err(_), true) | (Ok(()), false) => {}
                    }
                    was_told = published.is_err();
                    if published.is_ok() {
                        self.publisher.look_around().await;
                    }
                }
            }
        }
        self.inbox.close();
        let mut is_flushed = false;
        let last = tokio::time::timeout(LAST, async {
            let published = match self.publisher.flush().await {
                Ok(()) => {
                    is_flushed = true;
                    self.round(Care::Replicated).await
                }
                Err(error) => Err(error),
            };
            self.publisher.let_go().await;
            published
        });
        let last =
            last.await.unwrap_or_else(|_late| Err(PublishError::Store(StoreError::Unavailable(format!("not done within {LAST:?}")))));
        match last {
            Err(_) if is_flushed && self.publisher.owes_nothing().await => Ok(()),
            last => last,
        }
    }

    async fn flush_and_publish(&mut self, care: Care) -> Result<(), PublishError> {
        self.publisher.flush().await?;
        self.round(care).await
    }

    async fn round(&mut self, care: Care) -> Result<(), PublishError> {
        let published = self.publisher.publish(care).await;
        if published.is_err() {
            self.status.failures.fetch_add(1, Ordering::Relaxed);
        }
        published
    }
}
