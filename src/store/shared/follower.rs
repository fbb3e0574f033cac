//! What following the change log has come to: who has the lease, and how far the log is applied.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::monotonic;
use crate::secrets::random_bytes;

/// How long what is held may be used after the question whose answer confirmed it was sent.
pub const LEASE: Duration = Duration::from_secs(2);
/// Polls whose member counts are remembered; the highest of them is told, since too few members would admit too much.
const MEMBER_COUNTS: usize = 10;

/// Where we stand in which store's log. Kept over a restart, so that a loss meanwhile is noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub birth: String,
    pub cursor: u64,
    /// The nonce at the cursor; none at the beginning of the log.
    pub nonce: Option<String>,
    pub beats: u64,
    /// The replication id; where the server does not tell it, which of our connections it was.
    pub replication: String,
}

/// What following the changes has come to; for readiness, metrics, and whoever must act on a loss.
#[derive(Debug)]
pub struct Follower {
    started: Instant,
    /// Until when what is held may be used, in nanoseconds since the start; zero: not at all.
    lease_until: AtomicU64,
    /// When the last successful poll was sent, in the same way.
    confirmed_at: AtomicU64,
    members: Arc<AtomicU32>,
    pub(super) resets: watch::Sender<u64>,
    pub(super) rings: watch::Sender<u64>,
    pub(super) polls: AtomicU64,
    pub(super) failed_polls: AtomicU64,
    pub(super) failovers: AtomicU64,
    pub(super) gaps: AtomicU64,
    reapplied: AtomicU64,
    pub(super) head: AtomicU64,
    pub(super) lag: AtomicU64,
    /// This process among the members.
    pub(super) member: String,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) seen: Option<Seen>,
    counts: VecDeque<u32>,
    /// Whether lost mutations have to be looked for.
    must_heal: bool,
}

impl Follower {
    pub(super) fn new(seen: Option<Seen>) -> Self {
        let member = u128::from_be_bytes(random_bytes::<16>().unwrap_or_default());
        Self {
            started: monotonic(),
            lease_until: AtomicU64::new(0),
            confirmed_at: AtomicU64::new(0),
            members: Arc::new(AtomicU32::new(1)),
            resets: watch::Sender::new(0),
            rings: watch::Sender::new(0),
            polls: AtomicU64::new(0),
            failed_polls: AtomicU64::new(0),
            failovers: AtomicU64::new(0),
            gaps: AtomicU64::new(0),
            reapplied: AtomicU64::new(0),
            head: AtomicU64::new(0),
            lag: AtomicU64::new(0),
            member: format!("{member:032x}"),
            state: Mutex::new(State { seen, counts: VecDeque::new(), must_heal: true }),
        }
    }

    /// How many sidecars follow the same log, this one included; at least 1.
    pub fn members(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.members)
    }

    /// How long ago the last successful poll was sent; none: there was none.
    pub fn lease_age(&self, now: Instant) -> Option<Duration> {
        match self.confirmed_at.load(Ordering::Acquire) {
            0 => None,
            confirmed => Some(self.since_start(now).saturating_sub(Duration::from_nanos(confirmed))),
        }
    }

    /// Rises whenever it is noticed that the store lost something: it was emptied, or restored from an older state.
    pub fn resets(&self) -> watch::Receiver<u64> {
        self.resets.subscribe()
    }

    /// Rises whenever a ring of signing keys may have changed.
    pub fn rings(&self) -> watch::Receiver<u64> {
        self.rings.subscribe()
    }

    /// Whether the lease holds: what is in memory may be used.
    pub fn is_confirmed(&self) -> bool {
        self.holds(monotonic())
    }

    /// Polls that brought an answer.
    pub fn polls(&self) -> u64 {
        self.polls.load(Ordering::Relaxed)
    }

    pub fn failed_polls(&self) -> u64 {
        self.failed_polls.load(Ordering::Relaxed)
    }

    /// Times that another server had taken over, with nothing lost as far as could be seen.
    pub fn failovers(&self) -> u64 {
        self.failovers.load(Ordering::Relaxed)
    }

    /// Times that more changes were missed than the log holds.
    pub fn gaps(&self) -> u64 {
        self.gaps.load(Ordering::Relaxed)
    }

    /// Changes of this sidecar that the store had lost and that were made again.
    pub fn reapplied(&self) -> u64 {
        self.reapplied.load(Ordering::Relaxed)
    }

    pub(super) fn has_reapplied(&self, changes: u64) {
        self.reapplied.fetch_add(changes, Ordering::Relaxed);
    }

    /// The log's head at the last poll.
    pub fn head(&self) -> u64 {
        self.head.load(Ordering::Relaxed)
    }

    /// Entries of the log that were not applied yet at the last poll.
    pub fn lag(&self) -> u64 {
        self.lag.load(Ordering::Relaxed)
    }

    pub(super) fn holds(&self, now: Instant) -> bool {
        nanos(self.since_start(now)) < self.lease_until.load(Ordering::Acquire)
    }

    pub(super) fn lapsed_for(&self, now: Instant) -> Option<Duration> {
        match self.lease_until.load(Ordering::Acquire) {
            0 => None,
            until => Some(self.since_start(now).saturating_sub(Duration::from_nanos(until))),
        }
    }

    /// Whether lost mutations have to be looked for; asked once for each time.
    pub(crate) fn take_must_heal(&self) -> bool {
        std::mem::take(&mut self.state().must_heal)
    }

    pub(crate) fn heal_again(&self) {
        self.state().must_heal = true;
    }

    pub(super) fn seen(&self) -> Option<Seen> {
        self.state().seen.clone()
    }

    fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    pub(super) fn renew(&self, sent: Instant) {
        // One nanosecond at the least: zero stands for never.
        self.confirmed_at.store(nanos(self.since_start(sent)).max(1), Ordering::Release);
        self.lease_until.store(nanos(self.since_start(sent) + LEASE), Ordering::Release);
    }

    pub(super) fn end_lease(&self) {
        self.lease_until.store(0, Ordering::Release);
    }

    pub(super) fn count_members(&self, members: u32) {
        let mut state = self.state();
        state.counts.push_back(members.max(1));
        if state.counts.len() > MEMBER_COUNTS {
            state.counts.pop_front();
        }
        let highest = state.counts.iter().copied().max().unwrap_or(1);
        self.members.store(highest, Ordering::Relaxed);
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    // battery: X12
    #[tokio::test(start_paused = true)]
    async fn the_lease_counts_from_the_question_and_lapses() {
        let follower = Follower::new(None);
        let start = monotonic();
        assert!(!follower.holds(start));
        assert_eq!((follower.lapsed_for(start), follower.lease_age(start)), (None, None));
        follower.renew(start);
        let after = |millis| start + Duration::from_millis(millis);
        for (millis, holds, lapsed) in [(0, true, 0), (1999, true, 0), (2000, false, 0), (2001, false, 1), (60_000, false, 58_000)] {
            assert_eq!(follower.holds(after(millis)), holds, "{millis}");
            assert_eq!(follower.lapsed_for(after(millis)), Some(Duration::from_millis(lapsed)), "{millis}");
        }
        let age = follower.lease_age(after(700)).unwrap();
        assert!(Duration::from_millis(700).saturating_sub(age) <= Duration::from_nanos(1), "{age:?}");
        follower.end_lease();
        assert_eq!(follower.lapsed_for(after(1)), None);
    }

    #[test]
    fn the_highest_of_the_last_counts_is_told() {
        let follower = Follower::new(None);
        let members = follower.members();
        assert_eq!(members.load(Ordering::Relaxed), 1);
        for (count, expected) in [(0, 1), (3, 3), (1, 3), (2, 3)] {
            follower.count_members(count);
            assert_eq!(members.load(Ordering::Relaxed), expected);
        }
        for _poll in 0..MEMBER_COUNTS {
            follower.count_members(2);
        }
        assert_eq!(members.load(Ordering::Relaxed), 2);
    }
}
