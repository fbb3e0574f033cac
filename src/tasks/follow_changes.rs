//! Follows the change log of the shared store: twice a second, and at once when somebody hints that there is news.
//!
//! Beside that it repeats what the store lost, clears away what expired, and remembers where it stood.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::clock::monotonic;
use crate::store::shared::changes::Step;
use crate::store::shared::records::SharedRecords;

/// How often the log is polled, whatever hints say.
pub const POLL_EVERY: Duration = Duration::from_millis(500);
/// Between a poll and the next one that only a hint asks for: many commits, or whoever may publish, must not make every sidecar ask
/// without a pause.
const HINTS_APART: Duration = Duration::from_millis(20);
/// How often what expired is looked for, and where we stand is noted.
const TIDY_EVERY: Duration = Duration::from_secs(30);
/// Notes that may wait for the disk.
const NOTES_MAX: usize = 64;
/// Between two tries to repeat what was lost.
const HEAL_PAUSE: Duration = Duration::from_secs(1);

/// Everything that the task needs.
#[derive(Debug)]
pub struct FollowChanges {
    pub records: Arc<SharedRecords>,
    /// Whatever comes says that there may be news. Losing hints costs nothing but time.
    pub hints: mpsc::Receiver<Vec<u8>>,
    /// [`POLL_EVERY`], unless a test wants to see what hints alone do.
    pub poll_every: Duration,
}

/// Runs until `shutdown`; then this process is no member any more.
pub async fn run(mut task: FollowChanges, shutdown: CancellationToken) {
    let records = Arc::clone(&task.records);
    let mut polls = tokio::time::interval(task.poll_every);
    // After a delay the next poll comes an interval later: a slow server is not asked faster.
    polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut tidying = tokio::time::interval(TIDY_EVERY);
    tidying.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut beside = Beside::default();
    let mut may_hint = true;
    let mut last_poll = monotonic();
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            _ = polls.tick() => {}
            hint = task.hints.recv(), if may_hint => {
                may_hint = hint.is_some();
                if shutdown.run_until_cancelled(tokio::time::sleep_until(last_poll + HINTS_APART)).await.is_none() {
                    break;
                }
                // One poll answers all that came by now.
                while task.hints.try_recv().is_ok() {}
            }
            _ = tidying.tick() => {
                beside.tidy(&records);
                continue;
            }
            Some(_ended) = beside.running.join_next() => continue,
        }
        last_poll = monotonic();
        poll(&records, &mut beside, &shutdown).await;
    }
    beside.running.shutdown().await;
    beside.healing.shutdown().await;
    records.note_seen().await;
    records.leave().await;
}

/// What runs beside the polls: a repair may take long, and the lease must not wait for it.
#[derive(Default)]
struct Beside {
    running: JoinSet<()>,
    healing: JoinSet<()>,
}

async fn poll(records: &Arc<SharedRecords>, beside: &mut Beside, shutdown: &CancellationToken) {
    loop {
        let step = match records.poll().await {
            Ok(step) => step,
            Err(error) => {
                tracing::debug!(%error, "the change log could not be polled");
                return;
            }
        };
        let is_behind = step.is_behind;
        if records.follower().take_must_heal() {
            beside.heal(records);
        }
        beside.note(records, step);
        if !is_behind || shutdown.is_cancelled() {
            return;
        }
    }
}

impl Beside {
    /// One repair at a time: a loss that is noticed meanwhile makes it look once more.
    fn heal(&mut self, records: &Arc<SharedRecords>) {
        while self.healing.try_join_next().is_some() {}
        if !self.healing.is_empty() {
            records.follower().heal_again();
            return;
        }
        let records = Arc::clone(records);
        self.healing.spawn(async move {
            loop {
                match records.heal(None).await {
                    Ok(_healed) if !records.follower().take_must_heal() => break,
                    Ok(_healed) => {}
                    Err(error) => {
                        tracing::warn!(%error, "what Redis may have lost could not be looked for yet");
                        tokio::time::sleep(HEAL_PAUSE).await;
                    }
                }
            }
            records.note_seen().await;
        });
    }

    /// Notes on disk what others did on top of our changes; a slow disk must not hold up the polls.
    fn note(&mut self, records: &Arc<SharedRecords>, step: Step) {
        if step.is_empty() || !records.has_outbox() {
            return;
        }
        if self.running.len() >= NOTES_MAX {
            tracing::warn!("the outbox does not keep up; some of what others changed is not noted");
            return;
        }
        let records = Arc::clone(records);
        self.running.spawn(async move {
            if let Err(error) = records.note_changes(step).await {
                tracing::warn!(%error, "the outbox could not note what others changed");
            }
        });
    }

    fn tidy(&mut self, records: &Arc<SharedRecords>) {
        let records = Arc::clone(records);
        self.running.spawn(async move {
            records.note_seen().await;
            while let Ok(cleared @ 1..) = records.sweep().await {
                tracing::debug!(cleared, "expired records cleared away");
            }
        });
    }
}
