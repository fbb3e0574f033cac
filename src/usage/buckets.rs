//! Token buckets in the ledger's slots: exact in one process, and no restart refills them.
//!
//! One bucket is one compare-and-swap. Several are taken together by holding each for an instant, in one order for everybody, so
//! that a take sees and changes all of them at once: nobody is refused for tokens that another take is about to give back. A take
//! whose process is killed meanwhile changed nothing; recovery lets go of what it held.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::model::quota;
use crate::model::quota::Level;
use crate::model::quota::Verdict;
use crate::model::time::Timestamp;
use crate::store::Answer;
use crate::store::Limits;
use crate::store::StoreError;
use crate::store::Take;
use crate::store::Taken;
use crate::usage::ledger::Ledger;
use crate::usage::ledger::Place;
use crate::usage::slot::RETIRED;
use crate::usage::slot::Slot;

/// The bit of a bucket's state that says that somebody holds it. As a time it would lie beyond the year 2262.
pub(super) const HELD: u64 = 1 << 63;

/// How often a look at a held bucket is repeated before the processor is offered to its holder.
const SPINS_MAX: u32 = 64;
/// A take whose bucket is given away under it begins again; more often than this something is broken.
const ATTEMPTS_MAX: u32 = 64;

/// [`Limits`] for one process.
#[derive(Clone, Debug)]
pub struct LocalBuckets {
    ledger: Arc<Ledger>,
}

impl LocalBuckets {
    pub fn new(ledger: Arc<Ledger>) -> Self {
        Self { ledger }
    }

    /// [`Limits::take`], which never has to wait here.
    ///
    /// # Errors
    /// When a bucket is new and there is no room for it.
    pub fn take_now(&self, takes: &[Take<'_>], now: Timestamp) -> Result<Taken, StoreError> {
        for _ in 0..ATTEMPTS_MAX {
            let taken = match takes {
                [] => return Ok(Taken { admitted: true, levels: Vec::new(), retry_after: None }),
                [one] => self.take_one(one, now)?,
                several => self.take_several(several, now)?,
            };
            if let Some(taken) = taken {
                return Ok(taken);
            }
        }
        Err(StoreError::Unavailable("a bucket is given away as often as it is looked up".to_owned()))
    }

    /// Nothing: the bucket was given away meanwhile.
    fn take_one(&self, take: &Take<'_>, now: Timestamp) -> Result<Option<Taken>, StoreError> {
        let place = self.find(take, now)?;
        let Some(slot) = self.ledger.slot(place) else { return Err(broken()) };
        let mut spins = 0;
        loop {
            let state = slot.value().load(Ordering::Acquire);
            if state == RETIRED || slot.generation() != place.generation {
                return Ok(None);
            }
            if state & HELD != 0 {
                rest(&mut spins);
                continue;
            }
            let verdict = quota::take(state, take.policy.limit, take.cost, now);
            let new_state = kept(state, verdict, take, now);
            if new_state != state && slot.value().compare_exchange_weak(state, new_state, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                continue;
            }
            let (admitted, level, retry_after) = match verdict {
                Verdict::Admitted { level, .. } => (true, level, None),
                Verdict::Refused { retry_after, level } => (false, level, Some(retry_after)),
                Verdict::Never { level } => (false, level, None),
            };
            return Ok(Some(Taken { admitted, levels: vec![level], retry_after }));
        }
    }

    /// Nothing: one of the buckets was given away meanwhile.
    fn take_several(&self, takes: &[Take<'_>], now: Timestamp) -> Result<Option<Taken>, StoreError> {
        let mut places = Vec::with_capacity(takes.len());
        for take in takes {
            places.push(self.find(take, now)?);
        }
        let mut order = places.clone();
        order.sort_unstable_by_key(|place| (place.segment, place.slot));
        order.dedup();
        let mut held = Held { buckets: Vec::with_capacity(order.len()) };
        for place in order {
            let Some(slot) = self.ledger.slot(place) else { return Err(broken()) };
            if !held.hold(slot, place) {
                return Ok(None);
            }
        }
        let verdicts: Vec<(Verdict, Level)> = takes.iter().zip(&places).map(|(take, place)| held.ask(take, *place, now)).collect();
        let refused = verdicts.iter().any(|(verdict, _)| !matches!(verdict, Verdict::Admitted { .. }));
        if !refused {
            held.keep();
            let levels = verdicts.into_iter().map(|(_, level)| level).collect();
            return Ok(Some(Taken { admitted: true, levels, retry_after: None }));
        }
        let mut retry_after = Some(Duration::ZERO);
        let mut levels = Vec::with_capacity(takes.len());
        for ((verdict, _), (take, place)) in verdicts.iter().zip(takes.iter().zip(&places)) {
            match *verdict {
                // It would have been admitted, and was not: what it shows is what it still has.
                Verdict::Admitted { .. } => levels.push(held.untouched(take, *place, now)),
                Verdict::Refused { retry_after: wait, level } => {
                    retry_after = retry_after.map(|longest| longest.max(wait));
                    levels.push(level);
                }
                Verdict::Never { level } => {
                    retry_after = None;
                    levels.push(level);
                }
            }
        }
        Ok(Some(Taken { admitted: false, levels, retry_after }))
    }

    fn find(&self, take: &Take<'_>, now: Timestamp) -> Result<Place, StoreError> {
        let digest = self.ledger.bucket_digest(&take.policy.name, take.owner);
        if let Some(place) = self.ledger.buckets.pin().get(&digest) {
            return Ok(*place);
        }
        self.ledger.begin_bucket(digest, now).map_err(|error| StoreError::Unavailable(error.to_string()))
    }
}

impl Limits for LocalBuckets {
    fn take<'a>(&'a self, takes: &'a [Take<'a>], now: Timestamp) -> Answer<'a, Result<Taken, StoreError>> {
        Answer::ready(self.take_now(takes, now))
    }
}

/// Buckets that this take holds; dropping lets go of them as they were found.
struct Held<'a> {
    buckets: Vec<HeldBucket<'a>>,
}

struct HeldBucket<'a> {
    slot: Slot<'a>,
    place: Place,
    found: u64,
    now_at: u64,
}

impl<'a> Held<'a> {
    /// False: the bucket was given away.
    fn hold(&mut self, slot: Slot<'a>, place: Place) -> bool {
        let mut spins = 0;
        loop {
            let state = slot.value().load(Ordering::Acquire);
            if state == RETIRED || slot.generation() != place.generation {
                return false;
            }
            if state & HELD == 0 {
                if slot.value().compare_exchange_weak(state, state | HELD, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                    self.buckets.push(HeldBucket { slot, place, found: state, now_at: state });
                    return true;
                }
                continue;
            }
            rest(&mut spins);
        }
    }

    /// Asks one bucket, on top of what this take already asked of it.
    fn ask(&mut self, take: &Take<'_>, place: Place, now: Timestamp) -> (Verdict, Level) {
        let bucket = self.buckets.iter_mut().find(|bucket| bucket.place == place);
        let state = bucket.as_ref().map_or(0, |bucket| bucket.now_at);
        let verdict = quota::take(state, take.policy.limit, take.cost, now);
        if let Some(bucket) = bucket {
            bucket.now_at = kept(bucket.now_at, verdict, take, now);
            bucket.found = quota::settled(bucket.found, take.policy.limit, now) & !HELD;
        }
        (verdict, level_of(verdict))
    }

    /// What a bucket shows when nothing is taken from it.
    fn untouched(&self, take: &Take<'_>, place: Place, now: Timestamp) -> Level {
        let state = self.buckets.iter().find(|bucket| bucket.place == place).map_or(0, |bucket| bucket.found);
        level_of(quota::take(state, take.policy.limit, 0, now))
    }

    /// Lets go with what was taken.
    fn keep(mut self) {
        for bucket in &mut self.buckets {
            bucket.found = bucket.now_at;
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        for bucket in &self.buckets {
            bucket.slot.value().store(bucket.found, Ordering::Release);
        }
    }
}

/// What a bucket's state becomes. A look (cost 0) takes nothing, and leaves no trace that a clock set back could trip over.
fn kept(state: u64, verdict: Verdict, take: &Take<'_>, now: Timestamp) -> u64 {
    let after = match verdict {
        Verdict::Admitted { state, .. } if take.cost > 0 => state,
        Verdict::Admitted { .. } | Verdict::Refused { .. } | Verdict::Never { .. } => quota::settled(state, take.policy.limit, now),
    };
    after & !HELD
}

fn level_of(verdict: Verdict) -> Level {
    match verdict {
        Verdict::Admitted { level, .. } | Verdict::Refused { level, .. } | Verdict::Never { level } => level,
    }
}

fn rest(spins: &mut u32) {
    *spins += 1;
    if *spins < SPINS_MAX {
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

fn broken() -> StoreError {
    StoreError::Unavailable("a bucket lies outside of every segment".to_owned())
}
