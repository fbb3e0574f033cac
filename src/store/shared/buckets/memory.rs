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
    pub(super) fn step(
        &mut self,
        joined: Joined,
        takes: &[Take<'_>],
        members: u32,
        tuning: &Tuning,
        now: Instant,
        wall: Timestamp,
        counters: &Counters,
    ) -> Step {
        if let Some(taken) = self.at_hand(takes, now, wall, counters) {
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
        if self.rate.per_second(now) <= tuning.hot_above_per_second || !question::are_distinct(takes) {
            return Step::Ask;
        }
        self.fetching = true;
        Step::Fetch(self.units(takes, members, tuning, now))
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
    pub(super) fn end_fetch(
        &mut self,
        result: &Result<Reply, StoreError>,
        units: Units,
        asked: Instant,
        tuning: &Tuning,
        now: Instant,
        counters: &Counters,
    ) {
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
    fn units(&self, takes: &[Take<'_>], members: u32, tuning: &Tuning, now: Instant) -> Units {
        let members = members.max(1);
        let millis = u64::try_from(tuning.lease.as_millis()).unwrap_or(u64::MAX);
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
