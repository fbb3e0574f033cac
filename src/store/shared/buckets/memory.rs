//! What this sidecar remembers of buckets that are asked together: how often, what it holds in advance, until when they refuse.
//! Plain data and time handed in; whoever holds its lock never waits.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::time::Timestamp;
use crate::store::StoreError;
use crate::store::Take;
use crate::store::Taken;
use crate::store::shared::buckets::Tuning;
use crate::store::shared::buckets::question;
use crate::store::shared::buckets::question::Next;
use crate::store::shared::buckets::question::Reply;
use crate::store::shared::buckets::question::Units;
use crate::store::shared::buckets::status::Counters;
use crate::store::shared::buckets::status::add;

/// How long a request that costs more than a bucket's depth is refused without asking: the answer could not change.
const NEVER_KEPT: Duration = Duration::from_secs(1);
/// An older answer than the last one says nothing new, unless it is older by more than answers overtake each other.
const OVERTAKING_MAX: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Memory {
    rate: Rate,
    /// Requests already paid for, until they lapse.
    lease: u32,
    lease_ends: Instant,
    heard: Option<Heard>,
    fetching: bool,
    /// Requests that wait for a fetch, the one that fetches included.
    waiting: u32,
    /// Fetches that ended.
    fetches: u64,
    /// The last fetch that failed, by its number.
    failed: Option<(u64, StoreError)>,
}

/// The last answer.
#[derive(Debug)]
struct Heard {
    at: Instant,
    server_now: Timestamp,
    owed: Vec<u64>,
    /// When one more request would be admitted; none: never.
    next: Option<Instant>,
    /// Until then the answer is no.
    ask_again: Instant,
}

/// What a request does that found no answer at hand.
#[derive(Debug)]
pub(super) enum Step {
    Answered(Taken),
    Failed(StoreError),
    /// Ask for itself.
    Ask,
    /// Ask for everybody who waits; nobody else does meanwhile.
    Fetch(Units),
    Wait,
}

/// What a limiter's sets have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    pub tuning: &'a Tuning,
    /// Sidecars at present.
    pub members: u32,
    pub counters: &'a Counters,
}

/// A request's place among those who wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Joined(u64);

impl Memory {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            rate: Rate { began: now, before: 0, current: 0 },
            lease: 0,
            lease_ends: now,
            heard: None,
            fetching: false,
            waiting: 0,
            fetches: 0,
            failed: None,
        }
    }

    /// Counts a request, and answers it where the answer is known.
    pub(super) fn arrive(&mut self, takes: &[Take<'_>], now: Instant, wall: Timestamp, counters: &Counters) -> Option<Taken> {
        self.rate.note(now);
        self.at_hand(takes, now, wall, counters)
    }

    pub(super) fn join(&mut self) -> Joined {
        self.waiting += 1;
        Joined(self.fetches)
    }

    pub(super) fn leave(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// What a request that waits does next.
    pub(super) fn step(&mut self, joined: Joined, takes: &[Take<'_>], terms: Terms<'_>, now: Instant, wall: Timestamp) -> Step {
        if let Some(taken) = self.at_hand(takes, now, wall, terms.counters) {
            return Step::Answered(taken);
        }
        if let Some((number, error)) = &self.failed
            && *number > joined.0
        {
            return Step::Failed(error.clone());
        }
        if self.fetching {
            return Step::Wait;
        }
        if self.rate.per_second(now) <= terms.tuning.hot_above_per_second || !question::are_distinct(takes) {
            return Step::Ask;
        }
        self.fetching = true;
        Step::Fetch(self.units(takes, terms, now))
    }

    /// An answer to one request.
    pub(super) fn hear(&mut self, reply: &Reply, tuning: &Tuning, now: Instant) {
        if let Some(heard) = &self.heard
            && reply.server_now < heard.server_now
            && heard.server_now.since(reply.server_now) < OVERTAKING_MAX
        {
            return;
        }
        let (next, ask_again) = match reply.next {
            Next::Now => (Some(now), now),
            Next::After(wait) => (Some(now + wait), now + wait.min(tuning.refusals_kept_max)),
            Next::Never => (None, now + NEVER_KEPT.min(tuning.refusals_kept_max)),
        };
        self.heard = Some(Heard { at: now, server_now: reply.server_now, owed: reply.owed.clone(), next, ask_again });
    }

    /// The end of a fetch that began at `asked`. The one who fetched has the first of what was granted.
    pub(super) fn end_fetch(&mut self, result: &Result<Reply, StoreError>, units: Units, asked: Instant, terms: Terms<'_>, now: Instant) {
        let Terms { tuning, counters, .. } = terms;
        self.fetching = false;
        self.fetches += 1;
        match result {
            Ok(reply) => {
                self.hear(reply, tuning, now);
                self.lapse(counters);
                self.lease = reply.granted.saturating_sub(1);
                self.lease_ends = asked + tuning.lease;
                if reply.granted > units.need {
                    add(&counters.leases, 1);
                    add(&counters.leased, reply.granted.saturating_sub(units.need).into());
                } else {
                    add(&counters.exact_calls, 1);
                }
            }
            Err(error) => self.failed = Some((self.fetches, error.clone())),
        }
    }

    /// A fetch whose request was given up: somebody else may fetch.
    pub(super) fn give_up_fetch(&mut self) {
        self.fetching = false;
    }

    /// Drops what is left of the lease.
    pub(super) fn lapse(&mut self, counters: &Counters) {
        add(&counters.lapsed, self.lease.into());
        self.lease = 0;
    }

    fn at_hand(&mut self, takes: &[Take<'_>], now: Instant, wall: Timestamp, counters: &Counters) -> Option<Taken> {
        if now >= self.lease_ends {
            self.lapse(counters);
        }
        let heard = self.heard.as_ref()?;
        let since = now.saturating_duration_since(heard.at);
        if let Some(left) = self.lease.checked_sub(1) {
            self.lease = left;
            return Some(Taken { admitted: true, levels: question::levels(takes, &heard.owed, left, since, wall), retry_after: None });
        }
        if now < heard.ask_again {
            add(&counters.remembered_refusals, 1);
            let retry_after = heard.next.map(|next| next.saturating_duration_since(now));
            return Some(Taken { admitted: false, levels: question::levels(takes, &heard.owed, 0, since, wall), retry_after });
        }
        None
    }

    /// Enough for everybody who waits, and as much more as the lease's time needs at the present rate; near the limit none of that,
    /// so that no sidecar sits on what another needs.
    fn units(&self, takes: &[Take<'_>], terms: Terms<'_>, now: Instant) -> Units {
        let members = terms.members.max(1);
        let millis = u64::try_from(terms.tuning.lease.as_millis()).unwrap_or(u64::MAX);
        let expected = u64::from(self.rate.per_second(now)).saturating_mul(millis).div_ceil(1000);
        let share = question::depth_of(takes) / members.saturating_mul(2);
        let stock = share.min(u32::try_from(expected).unwrap_or(u32::MAX));
        Units { need: self.waiting.max(1), stock, reserve: u64::from(stock) * u64::from(members) }
    }
}

/// Requests a second, over the last second.
#[derive(Debug)]
struct Rate {
    began: Instant,
    before: u32,
    current: u32,
}

const SECOND: Duration = Duration::from_secs(1);

impl Rate {
    fn note(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.began);
        if passed >= 2 * SECOND {
            (self.began, self.before, self.current) = (now, 0, 0);
        } else if passed >= SECOND {
            (self.began, self.before, self.current) = (self.began + SECOND, self.current, 0);
        }
        self.current = self.current.saturating_add(1);
    }

    /// What of the second before last still lies within the last one is taken to be spread evenly.
    fn per_second(&self, now: Instant) -> u32 {
        let passed = u64::try_from(now.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX).min(1000);
        let before = u64::from(self.before) * (1000 - passed) / 1000;
        self.current.saturating_add(u32::try_from(before).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::clock::monotonic;
    use crate::store::shared::buckets::tests::NOW;
    use crate::store::shared::buckets::tests::policy;
    use crate::store::shared::buckets::tests::take;

    /// A memory that saw so many requests in each of two seconds, at the end of the second one.
    fn used_to(per_second: u32, began: Instant) -> (Memory, Instant) {
        let mut memory = Memory::new(began);
        for number in 0..per_second * 2 {
            memory.rate.note(began + SECOND * number / per_second.max(1));
        }
        (memory, began + 2 * SECOND - Duration::from_millis(1))
    }

    fn terms<'a>(members: u32, tuning: &'a Tuning, counters: &'a Counters) -> Terms<'a> {
        Terms { tuning, members, counters }
    }

    #[test]
    fn a_lease_is_what_its_time_needs_and_at_most_half_of_a_members_part() {
        // (requests a second, depth, cost, members): stock and reserve.
        let table = [
            // A thousandth of the second before still counts.
            ((1000, 10_000, 1, 1), (101, 101)),
            ((1000, 10_000, 1, 4), (101, 404)),
            ((1000, 100, 1, 1), (50, 50)),
            ((1000, 100, 1, 4), (12, 48)),
            ((1000, 100, 7, 1), (7, 7)),
            ((1000, 100, 7, 0), (7, 7)),
            ((25, 100, 1, 1), (3, 3)),
            ((1000, 1, 1, 1), (0, 0)),
            ((1000, 100, 1, 100), (0, 0)),
            ((1000, 100, 101, 1), (0, 0)),
        ];
        let (counters, tuning) = (Counters::default(), Tuning::default());
        for ((rate, depth, cost, members), (stock, reserve)) in table {
            let (memory, now) = used_to(rate, monotonic());
            let policy = policy("p", 60, depth);
            let units = memory.units(&[take(&policy, "user:a", cost)], terms(members, &tuning, &counters), now);
            assert_eq!(units, Units { need: 1, stock, reserve }, "{rate} {depth} {cost} {members}");
        }
    }

    #[test]
    fn only_what_is_asked_often_is_fetched_for_everybody() {
        let (counters, tuning, policy) = (Counters::default(), Tuning::default(), policy("p", 60, 100));
        let one = [take(&policy, "user:a", 1)];
        let twice = [one[0], one[0]];
        for (rate, takes, alone) in [(20, &one[..], true), (22, &one[..], false), (1000, &twice[..], true)] {
            let (mut memory, now) = used_to(rate, monotonic());
            let joined = memory.join();
            let step = memory.step(joined, takes, terms(1, &tuning, &counters), now, NOW);
            assert_eq!(matches!(step, Step::Ask), alone, "{rate}: {step:?}");
            if !alone {
                assert!(matches!(step, Step::Fetch(_)));
                let other = memory.join();
                assert!(matches!(memory.step(other, takes, terms(1, &tuning, &counters), now, NOW), Step::Wait));
                memory.give_up_fetch();
                assert!(matches!(memory.step(other, takes, terms(1, &tuning, &counters), now, NOW), Step::Fetch(Units { need: 2, .. })));
            }
        }
    }

    #[test]
    fn a_failed_fetch_fails_those_who_waited_for_it_and_nobody_after() {
        let (counters, tuning, policy) = (Counters::default(), Tuning::default(), policy("p", 60, 100));
        let takes = [take(&policy, "user:a", 1)];
        let (mut memory, now) = used_to(100, monotonic());
        let early = memory.join();
        let Step::Fetch(units) = memory.step(early, &takes, terms(1, &tuning, &counters), now, NOW) else { panic!("hot") };
        let error = StoreError::Unavailable("gone".to_owned());
        memory.end_fetch(&Err(error.clone()), units, now, terms(1, &tuning, &counters), now);
        let late = memory.join();
        assert!(matches!(memory.step(early, &takes, terms(1, &tuning, &counters), now, NOW), Step::Failed(said) if said == error));
        assert!(matches!(memory.step(late, &takes, terms(1, &tuning, &counters), now, NOW), Step::Fetch(_)));
    }

    #[test]
    fn an_answer_that_was_overtaken_changes_nothing() {
        let (counters, policy) = (Counters::default(), policy("p", 60, 10));
        let takes = [take(&policy, "user:a", 1)];
        let tuning = Tuning::default();
        let now = monotonic();
        let reply = |millis: u64, next| Reply { granted: 0, server_now: NOW.plus(Duration::from_millis(millis)), next, owed: vec![0] };
        // (first, then): whether the second is believed.
        for (first, second, believed) in [(500, 501, true), (500, 499, false), (5000, 499, true), (500, 500, true)] {
            let mut memory = Memory::new(now);
            memory.hear(&reply(first, Next::After(SECOND)), &tuning, now);
            memory.hear(&reply(second, Next::Now), &tuning, now);
            assert_eq!(memory.at_hand(&takes, now, NOW, &counters).is_none(), believed, "{first} {second}");
        }
    }

    #[test]
    fn the_rate_is_that_of_the_last_second() {
        let began = monotonic();
        let (memory, now) = used_to(100, began);
        let rate = |later: Duration| memory.rate.per_second(now + later);
        assert!((100..=101).contains(&rate(Duration::ZERO)));
        let (mut memory, now) = used_to(100, began);
        memory.rate.note(now + 10 * SECOND);
        assert_eq!(memory.rate.per_second(now + 10 * SECOND), 1, "long ago does not count");
    }
}
