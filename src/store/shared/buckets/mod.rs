//! Token buckets that all sidecars share.
//!
//! Exact when cold: each question is one run of `take.lua`. Leased when hot: whoever asks more than 20 times a second for the same
//! buckets takes in advance what the next 100 ms need, spends it here, and drops the rest. What is taken in advance is taken from
//! the shared bucket, so all sidecars together never admit more than it gave; near the limit nothing is taken in advance, and
//! whoever waits meanwhile is asked for in one call. A refusal is remembered until the moment at which the bucket has enough.

mod memory;
mod names;
mod question;
mod status;

#[cfg(test)]
mod tests;

use std::hash::BuildHasher as _;
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio::time::timeout_at;

pub use crate::store::shared::buckets::status::BucketStatus;

use crate::clock::monotonic;
use crate::model::time::Timestamp;
use crate::store::Answer;
use crate::store::Limits;
use crate::store::StoreError;
use crate::store::Take;
use crate::store::Taken;
use crate::store::shared::buckets::memory::Memory;
use crate::store::shared::buckets::memory::Step;
use crate::store::shared::buckets::memory::Terms;
use crate::store::shared::buckets::question::Reply;
use crate::store::shared::buckets::question::Units;
use crate::store::shared::buckets::status::Counters;
use crate::store::shared::buckets::status::add;
use crate::store::shared::link::Lane;
use crate::store::shared::link::Link;

/// When to take in advance, and how much to remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Buckets asked more often than this on this sidecar are leased from.
    pub hot_above_per_second: u32,
    /// How long what was taken in advance may be spent.
    pub lease: Duration,
    /// A refusal is asked about again after this long at the latest, so that a bucket that the server lost is noticed.
    pub refusals_kept_max: Duration,
    /// Sets of buckets to remember; the least used give way.
    pub sets_max: usize,
    pub time: TimeSource,
}

/// Whose clock fills the buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeSource {
    Server,
    /// Tests compare engines at instants of their own.
    Caller,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            hot_above_per_second: 20,
            lease: Duration::from_millis(100),
            refusals_kept_max: Duration::from_secs(60),
            sets_max: 65_536,
            time: TimeSource::Server,
        }
    }
}

/// [`Limits`] for any number of sidecars.
#[derive(Debug)]
pub struct SharedBuckets {
    link: Arc<Link>,
    members: Arc<AtomicU32>,
    tuning: Tuning,
    sets: Cache<u128, Arc<Set>>,
    /// Names of sets are digests under keys that nobody outside knows.
    hashers: [RandomState; 2],
    counters: Arc<Counters>,
}

impl SharedBuckets {
    /// `members`: how many sidecars there are at present; nought counts as one.
    pub fn new(link: Arc<Link>, members: Arc<AtomicU32>, tuning: Tuning) -> Arc<Self> {
        let hashers = [RandomState::new(), RandomState::new()];
        Arc::new(Self { link, members, tuning, sets: Cache::new(tuning.sets_max), hashers, counters: Arc::default() })
    }

    pub fn status(&self) -> BucketStatus {
        self.counters.read()
    }

    fn set(&self, takes: &[Take<'_>]) -> Arc<Set> {
        let [high, low] = &self.hashers;
        let asked = Asked(takes);
        let digest = u128::from(high.hash_one(&asked)) << 64 | u128::from(low.hash_one(&asked));
        let fresh = || Ok::<_, std::convert::Infallible>(Arc::new(Set::new(Arc::clone(&self.counters))));
        match self.sets.get_or_insert_with(&digest, fresh) {
            Ok(set) => set,
            Err(never) => match never {},
        }
    }

    /// Goes on until there is an answer, which somebody else's call may bring.
    async fn obtain(&self, set: Arc<Set>, takes: &[Take<'_>], now: Timestamp) -> Result<Taken, StoreError> {
        let within = self.link.settings().timeouts.check;
        let ends = monotonic() + within;
        let place = Place::join(&set);
        loop {
            let mut changed = std::pin::pin!(set.changed.notified());
            changed.as_mut().enable();
            let step = set.memory().step(place.joined, takes, self.terms(), monotonic(), now);
            match step {
                Step::Answered(taken) => return Ok(taken),
                Step::Failed(error) => return Err(self.failed(error)),
                Step::Ask => {
                    drop(place);
                    let reply = self.ask(takes, Units::ONE, now, ends).await.map_err(|error| self.failed(error))?;
                    add(&self.counters.exact_calls, 1);
                    set.memory().hear(&reply, &self.tuning, monotonic());
                    return Ok(reply.taken(takes, now));
                }
                Step::Fetch(units) => {
                    let fetch = Fetch { set: &set, ended: false };
                    let asked = monotonic();
                    let result = self.ask(takes, units, now, ends).await;
                    fetch.end(|memory| memory.end_fetch(&result, units, asked, self.terms(), monotonic()));
                    return result.map(|reply| reply.taken(takes, now)).map_err(|error| self.failed(error));
                }
                Step::Wait => {
                    if timeout_at(ends, changed).await.is_err() {
                        return Err(self.failed(StoreError::Unavailable(format!("the limits were not answered within {within:?}"))));
                    }
                }
            }
        }
    }

    async fn ask(&self, takes: &[Take<'_>], units: Units, now: Timestamp, ends: Instant) -> Result<Reply, StoreError> {
        let handed_in = match self.tuning.time {
            TimeSource::Server => None,
            TimeSource::Caller => Some(now),
        };
        let call = question::call(&self.link.settings().prefix, takes, units, handed_in)?;
        let keys = call.keys.clone();
        let left = ends.saturating_duration_since(monotonic());
        match self.link.run(Lane::Checks, call, left).await {
            Ok(value) => question::read(&value, takes.len()),
            Err(error) => Err(question::failure(error, &keys)),
        }
    }

    /// A look: nothing is taken, so nothing that is remembered may answer it.
    async fn look(&self, takes: &[Take<'_>], now: Timestamp) -> Result<Taken, StoreError> {
        let ends = monotonic() + self.link.settings().timeouts.check;
        let reply = self.ask(takes, Units::ONE, now, ends).await.map_err(|error| self.failed(error))?;
        add(&self.counters.exact_calls, 1);
        Ok(reply.taken(takes, now))
    }

    fn terms(&self) -> Terms<'_> {
        Terms { tuning: &self.tuning, members: self.members.load(Ordering::Relaxed), counters: &self.counters }
    }

    fn failed(&self, error: StoreError) -> StoreError {
        add(&self.counters.failures, 1);
        error
    }
}

impl Limits for SharedBuckets {
    fn take<'a>(&'a self, takes: &'a [Take<'a>], now: Timestamp) -> Answer<'a, Result<Taken, StoreError>> {
        if takes.iter().all(|take| take.cost == 0) {
            return match takes {
                [] => Answer::ready(Ok(Taken { admitted: true, levels: Vec::new(), retry_after: None })),
                looks => Answer::Pending(Box::pin(self.look(looks, now))),
            };
        }
        let set = self.set(takes);
        let at_hand = set.memory().arrive(takes, monotonic(), now, &self.counters);
        match at_hand {
            Some(taken) => Answer::ready(Ok(taken)),
            None => Answer::Pending(Box::pin(self.obtain(set, takes, now))),
        }
    }

    fn patience(&self) -> Option<Duration> {
        Some(self.link.settings().timeouts.check)
    }
}

/// Buckets that are asked together, with what is remembered of them.
#[derive(Debug)]
struct Set {
    memory: Mutex<Memory>,
    /// A fetch ended.
    changed: Notify,
    counters: Arc<Counters>,
}

impl Set {
    fn new(counters: Arc<Counters>) -> Self {
        Self { memory: Mutex::new(Memory::new(monotonic())), changed: Notify::new(), counters }
    }

    /// Held for a few lines, never over an await.
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        self.memory.get_mut().unwrap_or_else(PoisonError::into_inner).lapse(&self.counters);
    }
}

/// A request among those who wait; leaves when dropped, also by a client that went away.
struct Place<'s> {
    set: &'s Set,
    joined: memory::Joined,
}

impl<'s> Place<'s> {
    fn join(set: &'s Set) -> Self {
        Self { set, joined: set.memory().join() }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.set.memory().leave();
    }
}

/// The one call on behalf of all who wait. When its request is given up, one of the others fetches.
struct Fetch<'s> {
    set: &'s Set,
    ended: bool,
}

impl Fetch<'_> {
    fn end(mut self, tell: impl FnOnce(&mut Memory)) {
        self.ended = true;
        tell(&mut self.set.memory());
        self.set.changed.notify_waiters();
    }
}

impl Drop for Fetch<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.set.memory().give_up_fetch();
            self.set.changed.notify_waiters();
        }
    }
}

/// What makes a set: the buckets, their limits and the costs.
struct Asked<'a>(&'a [Take<'a>]);

impl std::hash::Hash for Asked<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        for take in self.0 {
            let limit = take.policy.limit;
            (&*take.policy.name, take.owner, take.root, limit.per_minute, limit.depth, take.cost).hash(state);
        }
    }
}
