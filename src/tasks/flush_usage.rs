//! Tells the history, about once a second, what was counted; and once more at the end.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::usage::Flushed;
use crate::usage::Thoroughness;
use crate::usage::Usage;
use crate::usage::UsageError;

/// How many may wait for a flush that they asked for.
const INBOX: usize = 16;

/// Why a flush that was asked for brought nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlushError {
    #[error("usage was not flushed: {0}")]
    Failed(String),
    #[error("the flushing of usage has ended")]
    Ended,
}

/// What the loop did so far, for metrics.
#[derive(Debug, Default)]
pub struct FlushStatus {
    flushes: AtomicU64,
    failures: AtomicU64,
    counters: AtomicU64,
    closed: AtomicU64,
}

impl FlushStatus {
    /// Those that came through.
    pub fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Relaxed)
    }

    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Counters that the history was told of.
    pub fn counters(&self) -> u64 {
        self.counters.load(Ordering::Relaxed)
    }

    /// Slots of closed hours that were given back.
    pub fn closed(&self) -> u64 {
        self.closed.load(Ordering::Relaxed)
    }
}

/// Asks the loop for things.
#[derive(Clone, Debug)]
pub struct FlushHandle {
    inbox: mpsc::Sender<oneshot::Sender<Result<Flushed, FlushError>>>,
    status: Arc<FlushStatus>,
}

impl FlushHandle {
    /// Everything that was counted before the call is in the history when it returns.
    ///
    /// # Errors
    /// When the flush failed or the loop has ended.
    pub async fn flush_now(&self) -> Result<Flushed, FlushError> {
        let (answer, answered) = oneshot::channel();
        self.inbox.send(answer).await.map_err(|_| FlushError::Ended)?;
        answered.await.map_err(|_| FlushError::Ended)?
    }

    pub fn status(&self) -> &Arc<FlushStatus> {
        &self.status
    }
}

/// The loop, before it runs.
#[derive(Debug)]
pub struct FlushUsage {
    usage: Arc<Usage>,
    clock: Arc<dyn Clock>,
    interval: Duration,
    inbox: mpsc::Receiver<oneshot::Sender<Result<Flushed, FlushError>>>,
    status: Arc<FlushStatus>,
}

impl FlushUsage {
    /// The usual interval is a second.
    pub fn new(usage: Arc<Usage>, clock: Arc<dyn Clock>, interval: Duration) -> (Self, FlushHandle) {
        let (sender, inbox) = mpsc::channel(INBOX);
        let status = Arc::new(FlushStatus::default());
        let handle = FlushHandle { inbox: sender, status: Arc::clone(&status) };
        (Self { usage, clock, interval, inbox, status }, handle)
    }

    /// Runs until `shutdown`, then flushes once more. However it ends, `shutdown` is cancelled: a process that counts and does
    /// not flush must not go on for long.
    ///
    /// # Errors
    /// When the last flush failed, or the loop's own worker died.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), FlushError> {
        let _guard = shutdown.clone().drop_guard();
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = monotonic();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(answer) = self.inbox.recv() => {
                    let flushed = self.flush(Thoroughness::Everything, passed(&mut last)).await?;
                    // Whoever asked may have gone.
                    let _ = answer.send(flushed);
                }
                _ = ticks.tick() => {
                    if let Err(error) = self.flush(Thoroughness::Piece, passed(&mut last)).await? {
                        tracing::error!(%error, "usage not flushed; the ledger keeps it");
                    }
                }
            }
        }
        self.inbox.close();
        let usage = Arc::clone(&self.usage);
        let (now, elapsed) = (self.clock.now(), passed(&mut last));
        let closed = tokio::task::spawn_blocking(move || usage.close(now, elapsed)).await;
        closed.map_err(|error| FlushError::Failed(error.to_string()))?.map_err(|error| told(&error))
    }

    /// The outer error: the worker died. The inner one: it could not do it this time.
    async fn flush(&self, thoroughness: Thoroughness, elapsed: Duration) -> Result<Result<Flushed, FlushError>, FlushError> {
        let usage = Arc::clone(&self.usage);
        let now = self.clock.now();
        let flushed = tokio::task::spawn_blocking(move || usage.flush(thoroughness, now, elapsed))
            .await
            .map_err(|error| FlushError::Failed(error.to_string()))?;
        match flushed {
            Ok(flushed) => {
                self.status.flushes.fetch_add(1, Ordering::Relaxed);
                self.status.counters.fetch_add(flushed.counters, Ordering::Relaxed);
                self.status.closed.fetch_add(flushed.closed, Ordering::Relaxed);
                Ok(Ok(flushed))
            }
            Err(error) => {
                self.status.failures.fetch_add(1, Ordering::Relaxed);
                Ok(Err(told(&error)))
            }
        }
    }
}

fn told(error: &UsageError) -> FlushError {
    FlushError::Failed(error.to_string())
}

#[expect(clippy::disallowed_methods, reason = "tells a leap of the wall clock from time that passed; no count depends on it")]
fn monotonic() -> Instant {
    Instant::now()
}

fn passed(last: &mut Instant) -> Duration {
    let now = monotonic();
    now.duration_since(std::mem::replace(last, now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    use tempfile::TempDir;

    use crate::clock::ManualClock;
    use crate::model::caller::UserId;
    use crate::model::time::Timestamp;
    use crate::model::usage::Line;
    use crate::model::usage::Outcome;
    use crate::model::usage::RouteText;
    use crate::model::usage::Span;
    use crate::model::usage::UsageQuery;
    use crate::usage::LedgerOptions;

    const NOON: Timestamp = Timestamp::from_unix_seconds(1_768_478_400);
    const SECOND: Duration = Duration::from_secs(1);

    fn opened() -> (TempDir, Arc<Usage>) {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
        std::fs::create_dir_all(&target).unwrap();
        let folder = TempDir::new_in(target).unwrap();
        let usage = reopened(folder.path());
        (folder, usage)
    }

    fn reopened(folder: &Path) -> Arc<Usage> {
        Arc::new(Usage::open(LedgerOptions::new(folder.join("ledger")), folder.join("usage.redb"), NOON).unwrap())
    }

    fn count(usage: &Usage) {
        let user = UserId::anonymous();
        let line = Line { hour: NOON.hour(), user: &user, key: None, route: "r", route_text: RouteText::Name, outcome: Outcome::Allowed };
        usage.ledger().add(&line, 1).unwrap();
    }

    #[tokio::test]
    async fn a_flush_that_was_asked_for_is_done_when_it_answers() {
        let (_folder, usage) = opened();
        let (task, handle) = FlushUsage::new(Arc::clone(&usage), Arc::new(ManualClock::starting_at(NOON)), SECOND * 3600);
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(task.run(shutdown.clone()));
        handle.flush_now().await.unwrap();
        count(&usage);
        handle.flush_now().await.unwrap();
        assert_eq!(handle.status().counters(), 1);
        shutdown.cancel();
        assert_eq!(running.await.unwrap(), Ok(()));
        assert_eq!(handle.flush_now().await, Err(FlushError::Ended));
    }

    #[tokio::test(start_paused = true)]
    async fn it_flushes_by_itself() {
        let (_folder, usage) = opened();
        let (task, handle) = FlushUsage::new(Arc::clone(&usage), Arc::new(ManualClock::starting_at(NOON)), SECOND);
        let running = tokio::spawn(task.run(CancellationToken::new()));
        count(&usage);
        while handle.status().counters() == 0 || handle.status().flushes() < 5 {
            tokio::time::sleep(SECOND).await;
        }
        assert_eq!(handle.status().failures(), 0);
        running.abort();
    }

    #[tokio::test]
    async fn the_last_flush_is_at_the_end() {
        let (folder, usage) = opened();
        let (task, handle) = FlushUsage::new(Arc::clone(&usage), Arc::new(ManualClock::starting_at(NOON)), SECOND * 3600);
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(task.run(shutdown.clone()));
        handle.flush_now().await.unwrap();
        count(&usage);
        shutdown.cancel();
        running.await.unwrap().unwrap();
        drop(usage);
        // A ledger that knows nothing: what is read is the history's.
        std::fs::remove_dir_all(folder.path().join("ledger")).unwrap();
        let page = reopened(folder.path()).query(&UsageQuery::between(Span::Hour, NOON, NOON.plus(SECOND))).unwrap();
        assert_eq!(page.rows.iter().map(|row| row.count).collect::<Vec<_>>(), [1]);
    }

    #[derive(Debug)]
    struct Broken;

    impl Clock for Broken {
        fn now(&self) -> Timestamp {
            panic!("a clock that fell down")
        }
    }

    #[tokio::test]
    async fn the_process_does_not_outlive_it() {
        let (_folder, usage) = opened();
        let (task, handle) = FlushUsage::new(usage, Arc::new(Broken), SECOND);
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(task.run(shutdown.clone()));
        shutdown.cancelled().await;
        assert!(running.await.unwrap_err().is_panic());
        assert_eq!(handle.flush_now().await, Err(FlushError::Ended));
    }
}
