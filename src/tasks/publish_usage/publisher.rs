//! One round after another: who we are, what rose, what is open, what can be closed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Clock;
use crate::clock::monotonic;
use crate::model::time::Hour;
use crate::model::usage::Span;
use crate::store::WriterCount;
use crate::store::shared::usage::Care;
use crate::store::shared::usage::Held;
use crate::store::shared::usage::Mark;
use crate::store::shared::usage::SharedCounts;
use crate::store::shared::usage::Told;
use crate::tasks::publish_usage::PublishError;
use crate::tasks::publish_usage::PublishStatus;
use crate::tasks::publish_usage::Signals;
use crate::usage::Batch;
use crate::usage::HistoryError;
use crate::usage::Reach;
use crate::usage::Run;
use crate::usage::Thoroughness;
use crate::usage::Usage;
use crate::usage::UsageError;
use crate::usage::Walk;

/// Rows read and sent at a time.
const ROWS: usize = 2000;
/// Rows of sweeps that all sidecars together tell in one round. After a loss all of them begin at once, and every check waits behind
/// what they send, so each takes its part and no more.
const SWEPT_A_ROUND: usize = 16_000;
/// A sweep goes on with so many, however many sidecars there are.
const SWEPT_A_ROUND_MIN: usize = 100;
/// What is open is told again this often, whatever happens.
const SWEEP_INTERVAL: Duration = Duration::from_secs(300);
/// After its end an hour waits this long for those who are late.
const CLOSING_DELAY: Duration = Duration::from_secs(600);
/// Hours closed in one round.
const HOURS_A_ROUND: usize = 64;
/// A user whose counts are refused is tried again after this time.
const QUARANTINE: Duration = Duration::from_secs(60);
/// Users remembered as refused.
const QUARANTINED_MAX: usize = 1000;
/// Another run is alive when it renews its name this often while we look on.
const RENEWALS_OF_THE_LIVING: u64 = 2;

/// The state of publishing.
#[derive(Debug)]
pub(super) struct Publisher {
    usage: Arc<Usage>,
    counts: Arc<SharedCounts>,
    signals: Signals,
    clock: Arc<dyn Clock>,
    status: Arc<PublishStatus>,
    run: Run,
    standing: Standing,
    sweep: Option<Sweep>,
    swept_at: Instant,
    is_sweep_due: bool,
    /// A sweep is due or under way that may find what the store does not have; the one that merely comes round does not count.
    owes_sweep: bool,
    quarantine: HashMap<Arc<str>, Instant>,
}

/// How we stand to our own name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Unknown,
    /// Renewed this often when we looked first.
    Waiting {
        renewed: u64,
    },
    Held {
        renewed: u64,
    },
}

/// A walk through the history.
#[derive(Debug)]
enum Sweep {
    Counts { from: Hour, after: Option<Walk> },
    Uses { after: Option<Arc<str>> },
}

impl Publisher {
    pub(super) fn new(
        usage: Arc<Usage>,
        counts: Arc<SharedCounts>,
        signals: Signals,
        clock: Arc<dyn Clock>,
        status: Arc<PublishStatus>,
    ) -> Result<Self, UsageError> {
        let run = usage.begin_publishing(clock.now())?;
        Ok(Self {
            usage,
            counts,
            signals,
            clock,
            status,
            run,
            standing: Standing::Unknown,
            sweep: None,
            swept_at: monotonic(),
            is_sweep_due: true,
            owes_sweep: true,
            quarantine: HashMap::new(),
        })
    }

    /// Everything that was counted is in the history.
    pub(super) async fn flush(&self) -> Result<(), PublishError> {
        let now = self.clock.now();
        self.blocking(move |usage| usage.flush(Thoroughness::Everything, now, Duration::ZERO)).await.map(drop)
    }

    /// Sends what rose since it was sent last.
    pub(super) async fn publish(&mut self, care: Care) -> Result<(), PublishError> {
        let published = self.publish_changes(care).await;
        self.status.unpublished.store(self.usage.history().unpublished() as u64, Ordering::Relaxed);
        published
    }

    /// Whether the store has all that is in the history, as far as this run knows; never true where it cannot be known.
    pub(super) async fn owes_nothing(&self) -> bool {
        let history = self.usage.history();
        if history.unpublished() > 0 || !history.changed_uses(1).is_empty() || !self.quarantine.is_empty() {
            return false;
        }
        // What earlier runs did not tell is on no list, and nobody has looked for it yet.
        let is_empty = |usage: &Usage| {
            let (counts, next) = usage.history().walk(Reach::Since(Hour(0)), None, 1)?;
            Ok::<bool, HistoryError>(counts.is_empty() && next.is_none() && usage.history().walk_uses(None, 1)?.is_empty())
        };
        !self.owes_sweep || self.blocking(is_empty).await.unwrap_or(false)
    }

    /// What a round does when the store answers: a piece of a sweep, or closing hours.
    pub(super) async fn look_around(&mut self) {
        if self.usage.history().take_overflow() {
            self.status.overflows.fetch_add(1, Ordering::Relaxed);
            self.owes_sweep = true;
            self.sweep_what_is_open().await;
        }
        let is_time = self.sweep.is_none() && self.swept_at.elapsed() >= SWEEP_INTERVAL;
        if std::mem::take(&mut self.is_sweep_due) || is_time {
            self.sweep_what_is_open().await;
        }
        let done = if self.sweep.is_some() { self.sweep_on().await } else { self.close_hours().await };
        if let Err(error) = done {
            tracing::debug!(%error, "the sweep through usage goes on later");
        }
    }

    /// The next run need not wait for our name.
    pub(super) async fn let_go(&self) {
        if let Standing::Held { .. } = self.standing
            && let Err(error) = self.counts.let_go(self.usage.history().writer(), self.run.nonce).await
        {
            tracing::debug!(%error, "the name was not given back; its time runs out by itself");
        }
    }

    #[cfg(test)]
    pub(super) fn is_sweeping(&self) -> bool {
        self.sweep.is_some()
    }

    #[cfg(test)]
    pub(super) fn end_quarantine(&mut self) {
        for until in self.quarantine.values_mut() {
            *until = monotonic();
        }
    }

    async fn publish_changes(&mut self, care: Care) -> Result<(), PublishError> {
        self.listen();
        self.hold_name().await?;
        let flushed_to = self.usage.flushed_to();
        let mut after = None;
        loop {
            let (batch, next) = self.blocking(move |usage| usage.history().changed(after.as_ref(), ROWS)).await?;
            self.send(&batch, care).await?;
            after = next;
            if after.is_none() {
                break;
            }
        }
        loop {
            let uses = self.usage.history().changed_uses(ROWS);
            self.counts.tell_uses(&uses).await?;
            self.usage.history().note_uses_published(&uses);
            if uses.len() < ROWS {
                break;
            }
        }
        if !self.owes_sweep && self.quarantine.is_empty() {
            self.status.published_to.fetch_max(flushed_to.as_nanos(), Ordering::Relaxed);
        }
        Ok(())
    }

    fn listen(&mut self) {
        if self.signals.resets.has_changed().unwrap_or(false) {
            self.signals.resets.mark_unchanged();
            self.restate("the store was thrown back");
        }
        if self.signals.link_changes.has_changed().unwrap_or(false) {
            self.signals.link_changes.mark_unchanged();
            (self.is_sweep_due, self.owes_sweep) = (true, true);
        }
    }

    /// Makes sure that nobody else tells under our name; takes another one if somebody does.
    async fn hold_name(&mut self) -> Result<(), PublishError> {
        let run = self.run.clone();
        for _ in 0..3 {
            let held = self.counts.hold(self.usage.history().writer(), run.nonce, &run.earlier).await?;
            match (held, self.standing) {
                (Held::New, Standing::Unknown) if run.earlier.is_empty() => self.standing = Standing::Held { renewed: 1 },
                (Held::New | Held::Older, _) => {
                    self.standing = Standing::Held { renewed: 1 };
                    self.restate("the store does not know this sidecar's name any more");
                }
                (Held::Ours { renewed }, Standing::Held { renewed: before }) => {
                    self.standing = Standing::Held { renewed };
                    if renewed <= before {
                        self.restate("the store was thrown back");
                    }
                }
                (Held::Ours { renewed }, Standing::Unknown | Standing::Waiting { .. }) => self.standing = Standing::Held { renewed },
                (Held::Taken, Standing::Unknown | Standing::Waiting { .. }) => self.standing = Standing::Held { renewed: 0 },
                (Held::Taken, Standing::Held { .. }) => {
                    self.standing = Standing::Held { renewed: 0 };
                    self.restate("the store was thrown back");
                }
                (Held::Busy { renewed }, Standing::Waiting { renewed: first })
                    if renewed >= first.saturating_add(RENEWALS_OF_THE_LIVING) =>
                {
                    self.change_name("another process publishes under the name of this sidecar: was its folder copied?").await?;
                    continue;
                }
                (Held::Busy { .. }, Standing::Waiting { .. }) => return Err(PublishError::Waiting),
                (Held::Busy { renewed }, before) => {
                    if matches!(before, Standing::Held { .. }) {
                        self.restate("the store was thrown back");
                    }
                    self.standing = Standing::Waiting { renewed };
                    return Err(PublishError::Waiting);
                }
                (Held::Foreign, _) => {
                    self.change_name("somebody else took the name of this sidecar: was its folder copied, or an old copy put back?")
                        .await?;
                    continue;
                }
            }
            return Ok(());
        }
        Err(PublishError::Waiting)
    }

    async fn change_name(&mut self, why: &str) -> Result<(), PublishError> {
        let now = self.clock.now();
        let writer = self.blocking(move |usage| usage.change_writer(now)).await?;
        self.status.conflicts.fetch_add(1, Ordering::Relaxed);
        tracing::error!(new_writer = format!("{writer:x}"), "{why} its counts go under a new name from now on");
        self.standing = Standing::Unknown;
        self.restate("what was counted under the old name stays there");
        Ok(())
    }

    /// Everything that is kept is told again, from the beginning.
    fn restate(&mut self, why: &str) {
        tracing::warn!("{why}: all counts that are kept are told again");
        self.status.restatements.fetch_add(1, Ordering::Relaxed);
        self.counts.forget_listed();
        self.owes_sweep = true;
        self.sweep = Some(Sweep::Counts { from: Hour(0), after: None });
    }

    async fn sweep_what_is_open(&mut self) {
        self.counts.forget_listed();
        // A sweep that is under way begins again, and reaches as far back as it did.
        let known = match &self.sweep {
            Some(Sweep::Counts { from, .. }) => Some(*from),
            Some(Sweep::Uses { .. }) | None => None,
        };
        let from = match known {
            Some(from) => from,
            None => match self.blocking(|usage| usage.history().closed_to()).await {
                Ok(from) => from,
                Err(error) => {
                    tracing::warn!(%error, "which hours are closed cannot be read; everything is told again");
                    Hour(0)
                }
            },
        };
        self.sweep = Some(Sweep::Counts { from, after: None });
    }

    async fn sweep_on(&mut self) -> Result<(), PublishError> {
        let mut left = self.part_of_a_round();
        while left > 0 {
            let rows = left.min(ROWS);
            left -= rows;
            match self.sweep.take() {
                None => return Ok(()),
                Some(Sweep::Counts { from, after }) => {
                    let start = after.clone();
                    self.sweep = Some(Sweep::Counts { from, after });
                    let (batch, next) = self.blocking(move |usage| usage.history().walk(Reach::Since(from), start.as_ref(), rows)).await?;
                    let was_reset = self.send(&batch, Care::Usual).await?;
                    if !was_reset {
                        self.sweep = Some(match next {
                            Some(after) => Sweep::Counts { from, after: Some(after) },
                            None => Sweep::Uses { after: None },
                        });
                    }
                }
                Some(Sweep::Uses { after }) => {
                    let start = after.clone();
                    self.sweep = Some(Sweep::Uses { after });
                    let uses = self.blocking(move |usage| usage.history().walk_uses(start.as_deref(), rows)).await?;
                    self.counts.tell_uses(&uses).await?;
                    self.sweep = uses.last().filter(|_| uses.len() >= rows).map(|last| Sweep::Uses { after: Some(Arc::clone(&last.key)) });
                    if self.sweep.is_none() {
                        self.swept_at = monotonic();
                        self.owes_sweep = self.is_sweep_due;
                        self.status.sweeps.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        }
        Ok(())
    }

    fn part_of_a_round(&self) -> usize {
        let members = usize::try_from(self.signals.members.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        (SWEPT_A_ROUND / members.max(1)).max(SWEPT_A_ROUND_MIN)
    }

    /// Hours that are over are told once more, looked for in the store, and noted as closed: no sweep need come back to them.
    async fn close_hours(&mut self) -> Result<(), PublishError> {
        let now = self.clock.now().min(self.usage.flushed_to());
        let closed_to = self.blocking(|usage| usage.history().closed_to()).await?;
        let mut hour = Hour(closed_to.0.max(Span::Hour.oldest_kept(now)));
        let begin = hour;
        let mut done = Ok(());
        'hours: for _ in 0..HOURS_A_ROUND {
            if Hour(hour.0.saturating_add(1)).start().plus(CLOSING_DELAY) > now {
                break;
            }
            let mut after: Option<Walk> = None;
            loop {
                let closing = hour;
                let walked = self.blocking(move |usage| usage.history().walk(Reach::Closing(closing), after.as_ref(), ROWS)).await;
                let (batch, next) = match walked {
                    Ok(walked) => walked,
                    Err(error) => {
                        done = Err(error);
                        break 'hours;
                    }
                };
                for care in [Care::Usual, Care::Replicated] {
                    if let Err(error) = self.send(&batch, care).await {
                        done = Err(error);
                        break 'hours;
                    }
                }
                // What was refused is in the history alone: an hour without it is not closed, or no later run would tell it.
                if !self.quarantine.is_empty() {
                    break 'hours;
                }
                after = next;
                if after.is_none() {
                    break;
                }
            }
            hour = Hour(hour.0.saturating_add(1));
        }
        if hour > begin || closed_to.0 < hour.0 {
            self.blocking(move |usage| usage.history().set_closed_to(hour)).await?;
        }
        self.status.closed_to.store(u64::from(hour.0), Ordering::Relaxed);
        done
    }

    /// Sends a batch; answers whether our name had to be changed, so that everything begins again.
    async fn send(&mut self, batch: &Batch, care: Care) -> Result<bool, PublishError> {
        if batch.is_empty() {
            return Ok(false);
        }
        let now = monotonic();
        let of_whom: Vec<usize> = (0..batch.counts.len()).filter(|index| !self.is_held_back(batch, *index, now)).collect();
        let counts: Vec<WriterCount> = of_whom.iter().filter_map(|index| batch.counts.get(*index).cloned()).collect();
        let told = self.counts.tell(&counts, care, self.clock.now()).await;
        let mut arrived = vec![false; batch.counts.len()];
        for (index, mark) in of_whom.iter().zip(&told.marks) {
            if let Some(arrived) = arrived.get_mut(*index) {
                *arrived = mark.has_arrived();
            }
        }
        self.usage.history().note_published(batch, &arrived);
        self.status.published.fetch_add(arrived.iter().filter(|arrived| **arrived).count() as u64, Ordering::Relaxed);
        self.keep_quarantine(&counts, &told, now);
        let ours = self.usage.history().writer();
        let is_hidden = |(count, mark): (&WriterCount, &Mark)| count.writer == ours && matches!(mark, Mark::Ahead(_));
        if counts.iter().zip(&told.marks).any(is_hidden) {
            self.change_name("the store has more of this sidecar than it counted: was an old copy of its folder put back?").await?;
            return Ok(true);
        }
        told.failure.map_or(Ok(false), |failure| Err(failure.into()))
    }

    fn is_held_back(&self, batch: &Batch, index: usize, now: Instant) -> bool {
        let user = batch.counts.get(index).map(|count| &count.record.user);
        user.and_then(|user| self.quarantine.get(user)).is_some_and(|until| *until > now)
    }

    fn keep_quarantine(&mut self, counts: &[WriterCount], told: &Told, now: Instant) {
        if !self.quarantine.is_empty() {
            for (count, mark) in counts.iter().zip(&told.marks) {
                if mark.has_arrived() {
                    self.quarantine.remove(&count.record.user);
                }
            }
        }
        for (user, why) in &told.refused {
            if self.quarantine.len() < QUARANTINED_MAX || self.quarantine.contains_key(user) {
                let is_new = self.quarantine.insert(Arc::clone(user), now + QUARANTINE).is_none();
                if is_new {
                    tracing::error!(%user, why, "the counts of a user are refused by the store; they wait in the history");
                }
            }
        }
        self.status.quarantined.store(self.quarantine.len() as u64, Ordering::Relaxed);
    }

    async fn blocking<T: Send + 'static, E: std::fmt::Display + Send + 'static>(
        &self,
        work: impl FnOnce(&Usage) -> Result<T, E> + Send + 'static,
    ) -> Result<T, PublishError> {
        let usage = Arc::clone(&self.usage);
        match tokio::task::spawn_blocking(move || work(&usage)).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(PublishError::History(error.to_string())),
            Err(died) => Err(PublishError::History(died.to_string())),
        }
    }
}
