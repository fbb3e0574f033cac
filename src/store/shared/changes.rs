//! Following the change log: who has the lease, how far it is applied, and whether the store was thrown back.
//!
//! - A poll *writes*, so only a primary that accepts writes can answer it, and only its answer renews the lease, counted from when
//!   the question was sent. While the lease holds, nothing that was acknowledged before it began is unknown here.
//! - A store that lost something is recognised by its birth mark, its beats, the nonce at our cursor, or its head. Then everything
//!   that is held is dropped before the lease is renewed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::monotonic;
use crate::secrets::random_bytes;
use crate::store::Family;
use crate::store::StoreError;
use crate::store::shared::cache::Dropped;
use crate::store::shared::commit::LOG_LENGTH;
use crate::store::shared::entry::Change;
use crate::store::shared::entry::ENTRY_BYTES_MAX;
use crate::store::shared::entry::Entry;
use crate::store::shared::link::Call;
use crate::store::shared::link::Lane;
use crate::store::shared::link::script::Script;
use crate::store::shared::records::SharedRecords;
use crate::store::shared::replies;

static POLL: Script = Script::new("poll", include_str!("scripts/poll.lua"));
static LEAVE: Script = Script::new("leave", include_str!("scripts/leave.lua"));

/// How long what is held may be used after the question whose answer confirmed it was sent.
pub const LEASE: Duration = Duration::from_secs(2);
/// Entries that one poll brings.
const ENTRIES_TOGETHER: u64 = 1000;
/// How long a sidecar counts as a member after its last poll.
const MEMBER_TTL: Duration = Duration::from_secs(10);
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

/// What a poll answered.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Polled {
    head: u64,
    nonce_at_cursor: Option<String>,
    nonce_at_head: Option<String>,
    birth: String,
    beats: u64,
    replication: String,
    members: u32,
    entries: Vec<Option<String>>,
}

/// What a poll's answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing was known before.
    First,
    Continues,
    /// More was missed than the log holds.
    Gap,
    /// Another server took over. What it has not got from the old one may be held here.
    Failover,
    /// Something that was there is not there any more.
    Rollback(&'static str),
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
    resets: watch::Sender<u64>,
    rings: watch::Sender<u64>,
    polls: AtomicU64,
    failed_polls: AtomicU64,
    failovers: AtomicU64,
    gaps: AtomicU64,
    reapplied: AtomicU64,
    head: AtomicU64,
    lag: AtomicU64,
    /// This process among the members.
    member: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    seen: Option<Seen>,
    counts: VecDeque<u32>,
    /// Whether lost mutations have to be looked for.
    must_heal: bool,
}

/// What one poll came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// More entries wait; poll again at once.
    pub is_behind: bool,
    pub(super) changes: Vec<Change>,
}

impl Step {
    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
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

    fn renew(&self, sent: Instant) {
        // One nanosecond at the least: zero stands for never.
        self.confirmed_at.store(nanos(self.since_start(sent)).max(1), Ordering::Release);
        self.lease_until.store(nanos(self.since_start(sent) + LEASE), Ordering::Release);
    }

    pub(super) fn end_lease(&self) {
        self.lease_until.store(0, Ordering::Release);
    }

    fn count_members(&self, members: u32) {
        let mut state = self.state();
        state.counts.push_back(members.max(1));
        if state.counts.len() > MEMBER_COUNTS {
            state.counts.pop_front();
        }
        let highest = state.counts.iter().copied().max().unwrap_or(1);
        self.members.store(highest, Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SharedRecords {
    /// Asks once what changed, applies it, and renews the lease if all of it was applied.
    pub(crate) async fn poll(&self) -> Result<Step, StoreError> {
        let follower = self.follower();
        let seen = follower.seen();
        let top = self.cache().top();
        let sent = monotonic();
        let answer = self.ask(seen.as_ref()).await;
        let polled = match answer {
            Ok(polled) => polled,
            Err(error) => {
                follower.failed_polls.fetch_add(1, Ordering::Relaxed);
                return Err(error);
            }
        };
        follower.polls.fetch_add(1, Ordering::Relaxed);
        follower.head.store(polled.head, Ordering::Relaxed);
        follower.count_members(polled.members);
        let step = self.follow(seen, top, polled, sent);
        Ok(step)
    }

    fn follow(&self, seen: Option<Seen>, top: u64, polled: Polled, sent: Instant) -> Step {
        let follower = self.follower();
        let verdict = judge(seen.as_ref(), top, &polled);
        let mut cursor = polled.head;
        let mut nonce = polled.nonce_at_head;
        let mut changes = Vec::new();
        match verdict {
            Verdict::First => self.cache().begin(polled.head),
            Verdict::Continues => {
                let from = seen.as_ref().map_or(0, |seen| seen.cursor);
                cursor = from + polled.entries.len() as u64;
                if cursor < polled.head {
                    nonce = polled.entries.last().and_then(Option::as_deref).and_then(|entry| entry.split(' ').next()).map(str::to_owned);
                }
                let entries: Vec<Entry> = polled.entries.iter().map(|entry| Entry::read(entry.as_deref())).collect();
                self.cache().apply(&entries, cursor, sent);
                changes.extend(entries.into_iter().filter_map(|entry| match entry {
                    Entry::Change(change) => Some(change),
                    Entry::Foreign | Entry::Unreadable => None,
                }));
            }
            Verdict::Gap => {
                follower.end_lease();
                follower.gaps.fetch_add(1, Ordering::Relaxed);
                self.cache().reset(polled.head, Dropped::Missed);
                tracing::warn!("more changes were missed than the log holds; everything is read anew");
            }
            Verdict::Failover => {
                follower.end_lease();
                follower.failovers.fetch_add(1, Ordering::Relaxed);
                self.cache().reset(polled.head, Dropped::TakenOver);
                follower.heal_again();
                tracing::warn!("another Redis server has taken over; everything is read anew");
            }
            Verdict::Rollback(why) => {
                follower.end_lease();
                self.cache().reset(polled.head, Dropped::Lost);
                follower.heal_again();
                follower.resets.send_modify(|resets| *resets += 1);
                tracing::error!(
                    why,
                    "Redis lost something that was there; everything is read anew, and what this node changed is done again"
                );
            }
        }
        if verdict != Verdict::Continues || changes.iter().any(|change: &Change| change.key.family == Family::Ring) {
            follower.rings.send_modify(|rings| *rings += 1);
        }
        let (birth, beats, replication) = (polled.birth, polled.beats, polled.replication);
        follower.state().seen = Some(Seen { birth, cursor, nonce, beats, replication });
        follower.lag.store(polled.head.saturating_sub(cursor), Ordering::Relaxed);
        if cursor == polled.head {
            follower.renew(sent);
        }
        Step { is_behind: cursor < polled.head, changes }
    }

    async fn ask(&self, seen: Option<&Seen>) -> Result<Polled, StoreError> {
        let places = self.places();
        let keys = vec![places.meta(), places.log(), places.members()];
        let birth = random_bytes::<16>().map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let args = vec![
            seen.map(|seen| seen.cursor.to_string()).unwrap_or_default().into_bytes(),
            ENTRIES_TOGETHER.to_string().into_bytes(),
            ENTRY_BYTES_MAX.to_string().into_bytes(),
            self.follower().member.clone().into_bytes(),
            MEMBER_TTL.as_millis().to_string().into_bytes(),
            format!("{:032x}", u128::from_be_bytes(birth)).into_bytes(),
        ];
        let within = self.link().settings().timeouts.background;
        let call = Call { script: &POLL, keys, args };
        let connection = *self.link().changes().borrow();
        let answer = self.link().run(Lane::Changes, call, within).await.map_err(replies::failed)?;
        let mut polled = read_poll(answer).ok_or_else(|| replies::unexpected("a poll"))?;
        if polled.replication.is_empty() {
            // Whoever may not ask for INFO cannot tell one server from the next, so each connection might be to another one.
            polled.replication = format!("connection-{connection}");
        }
        Ok(polled)
    }

    /// This process is no member any more. Best effort: it would be forgotten anyway.
    pub(crate) async fn leave(&self) {
        let call = Call { script: &LEAVE, keys: vec![self.places().members()], args: vec![self.follower().member.clone().into_bytes()] };
        let within = self.link().settings().timeouts.background;
        if let Err(error) = self.link().run(Lane::Changes, call, within).await {
            tracing::debug!(%error, "could not leave the members");
        }
    }
}

/// `top`: the highest head that any answer told before the poll was sent.
fn judge(seen: Option<&Seen>, top: u64, polled: &Polled) -> Verdict {
    let Some(seen) = seen else { return Verdict::First };
    if polled.birth != seen.birth {
        return Verdict::Rollback("it is another store, or was emptied");
    }
    if polled.beats <= seen.beats {
        return Verdict::Rollback("it is in an older state");
    }
    if polled.head < seen.cursor.max(top) {
        return Verdict::Rollback("its change log is shorter than it was");
    }
    // The log still has the entry at our cursor.
    let is_retained = polled.head - seen.cursor < LOG_LENGTH;
    if is_retained && seen.cursor > 0 && polled.nonce_at_cursor != seen.nonce {
        return Verdict::Rollback("its change log is another one");
    }
    if polled.replication != seen.replication {
        return Verdict::Failover;
    }
    if is_retained { Verdict::Continues } else { Verdict::Gap }
}

fn read_poll(answer: Value) -> Option<Polled> {
    let mut parts = replies::list(answer)?.into_iter();
    let head = replies::number(&parts.next()?)?;
    let nonce_at_cursor = replies::text(parts.next()?);
    let nonce_at_head = replies::text(parts.next()?);
    let birth = replies::text(parts.next()?)?;
    let beats = replies::number(&parts.next()?)?;
    let replication = replies::text(parts.next()?)?;
    let members = u32::try_from(replies::number(&parts.next()?)?).unwrap_or(u32::MAX);
    let entries = replies::list(parts.next()?)?.into_iter().map(replies::text).collect();
    Some(Polled { head, nonce_at_cursor, nonce_at_head, birth, beats, replication, members, entries })
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> Seen {
        Seen { birth: "b".into(), cursor: 5, nonce: Some("n5".into()), beats: 100, replication: "r".into() }
    }

    fn polled() -> Polled {
        Polled {
            head: 7,
            nonce_at_cursor: Some("n5".into()),
            nonce_at_head: Some("n7".into()),
            birth: "b".into(),
            beats: 101,
            replication: "r".into(),
            members: 1,
            entries: vec![None, None],
        }
    }

    // battery: R10 R11
    #[test]
    fn a_loss_is_recognised_by_any_of_its_marks() {
        let of = |change: fn(&mut Polled)| {
            let mut polled = polled();
            change(&mut polled);
            polled
        };
        let rollback = |verdict: Verdict| matches!(verdict, Verdict::Rollback(_));
        type Row = (&'static str, Polled, fn(Verdict) -> bool);
        let table: [Row; 11] = [
            ("as before", of(|_| {}), |verdict| verdict == Verdict::Continues),
            ("nothing new", of(|polled| polled.head = 5), |verdict| verdict == Verdict::Continues),
            ("emptied", of(|polled| polled.birth = "c".into()), rollback),
            ("beats gone back", of(|polled| polled.beats = 99), rollback),
            ("beats where they were", of(|polled| polled.beats = 100), rollback),
            ("log shorter", of(|polled| polled.head = 4), rollback),
            ("another entry at the cursor", of(|polled| polled.nonce_at_cursor = Some("x".into())), rollback),
            ("no entry at the cursor", of(|polled| polled.nonce_at_cursor = None), rollback),
            ("another server", of(|polled| polled.replication = "s".into()), |verdict| verdict == Verdict::Failover),
            (
                "trimmed",
                of(|polled| {
                    polled.head = 5 + LOG_LENGTH;
                    polled.nonce_at_cursor = None;
                }),
                |verdict| verdict == Verdict::Gap,
            ),
            (
                "trimmed on another server",
                of(|polled| {
                    polled.head = 5 + LOG_LENGTH;
                    polled.nonce_at_cursor = None;
                    polled.replication = "s".into();
                }),
                |verdict| verdict == Verdict::Failover,
            ),
        ];
        for (what, polled, expected) in table {
            let verdict = judge(Some(&seen()), 0, &polled);
            assert!(expected(verdict), "{what}: {verdict:?}");
        }
        assert_eq!(judge(None, 0, &polled()), Verdict::First);
        assert_eq!(judge(Some(&seen()), 7, &polled()), Verdict::Continues);
        assert!(rollback(judge(Some(&seen()), 8, &polled())), "a commit or a read told of more");
        let begun = Seen { cursor: 0, nonce: None, ..seen() };
        assert_eq!(judge(Some(&begun), 0, &of(|polled| polled.nonce_at_cursor = None)), Verdict::Continues);
    }

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
