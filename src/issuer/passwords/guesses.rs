//! Wrong guesses, limited by address and by account and address, in this process.
//!
//! Only failures are paid for. A guess under way holds a place that a failure would take, so that no more are compared at once than
//! may fail; a right password gives its place back, and whoever finds every place held waits for one instead of being refused.
//! Neither an address nor a name is kept, only hashes under a key of this process.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::Notify;

use crate::issuer::passwords::overloaded;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::model::issuance;
use crate::model::quota;
use crate::model::quota::Limit;
use crate::model::quota::Verdict;
use crate::model::time::Timestamp;

/// Entries that are always kept before those that say nothing any more are looked for.
const SWEEP_FROM: usize = 4096;

/// What failed lately.
#[derive(Debug, Default)]
pub(in crate::issuer) struct Guesses {
    hasher: RandomState,
    table: Mutex<Table>,
    /// A place was given back or taken for good.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<u64, Entry>,
    sweep_at: usize,
    waiting: usize,
}

#[derive(Debug, Default)]
struct Entry {
    /// GCRA state of what failed.
    failed: u64,
    under_way: u32,
}

/// A guess under way. Dropped, it gives its places back.
#[derive(Debug)]
pub(in crate::issuer) struct Guess<'g> {
    guesses: &'g Guesses,
    places: Vec<Place>,
}

/// Where failures are counted, and how many may.
type Place = (u64, Limit);

enum Asked {
    Begun,
    /// Every place is held by a guess that may yet turn out right.
    Wait,
    Refused(Duration),
}

impl Guesses {
    /// Begins a guess at this account's password from this address.
    ///
    /// # Errors
    /// 429 when too many failed lately; 503 when too many wait.
    pub(in crate::issuer) async fn begin(
        &self,
        settings: issuance::Passwords,
        address: Option<IpAddr>,
        account: &str,
        now: Timestamp,
    ) -> Result<Guess<'_>, Problem> {
        self.begin_at(self.places(settings, address, account).to_vec(), settings, now).await
    }

    /// The address, and the account at that address.
    fn places(&self, settings: issuance::Passwords, address: Option<IpAddr>, account: &str) -> [Place; 2] {
        let network = address.map(network);
        let limit = |per_minute: u32| Limit::new(per_minute, None);
        [
            (self.hasher.hash_one(("address", network)), limit(settings.per_address)),
            (self.hasher.hash_one(("account", network, account)), limit(settings.per_account_and_address)),
        ]
    }

    async fn begin_at(&self, places: Vec<Place>, settings: issuance::Passwords, now: Timestamp) -> Result<Guess<'_>, Problem> {
        let mut waiting = None;
        loop {
            let mut changed = pin!(self.changed.notified());
            // Listening before asking, so that no change in between is missed.
            changed.as_mut().enable();
            match self.lock().ask(&places, now) {
                Asked::Begun => return Ok(Guess { guesses: self, places }),
                Asked::Refused(wait) => return Err(too_many(wait)),
                Asked::Wait => {}
            }
            if waiting.is_none() {
                waiting = Some(Waiting::begin(self, settings.waiting)?);
            }
            changed.await;
        }
    }

    /// Takes one of what an address may do in a minute, for what is no guess.
    ///
    /// # Errors
    /// 429 when it did too much lately.
    pub(in crate::issuer) fn charge(&self, what: &str, address: Option<IpAddr>, per_minute: u32, now: Timestamp) -> Result<(), Problem> {
        // Without an address it came over the control socket.
        let Some(address) = address else { return Ok(()) };
        let place = self.hasher.hash_one((what, network(address)));
        match self.lock().fail(place, Limit::new(per_minute, None), now) {
            Verdict::Admitted { .. } => Ok(()),
            Verdict::Refused { retry_after, .. } => Err(too_many(retry_after)),
            Verdict::Never { .. } => Err(too_many(Duration::from_secs(60))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guess<'_> {
    /// The guess was wrong: its places are taken until they heal.
    pub(in crate::issuer) fn failed(self, now: Timestamp) {
        let mut table = self.guesses.lock();
        for &(place, limit) in &self.places {
            table.fail(place, limit, now);
        }
    }
}

impl Drop for Guess<'_> {
    fn drop(&mut self) {
        let mut table = self.guesses.lock();
        for (place, _limit) in &self.places {
            if let Some(entry) = table.entries.get_mut(place) {
                entry.under_way = entry.under_way.saturating_sub(1);
            }
        }
        drop(table);
        self.guesses.changed.notify_waiters();
    }
}

impl Table {
    fn ask(&mut self, places: &[Place], now: Timestamp) -> Asked {
        self.sweep(now);
        let mut wait = false;
        let mut refused = None;
        for (place, limit) in places {
            let entry = self.entries.entry(*place).or_default();
            let level = quota::level(entry.failed, *limit, now);
            if level.remaining == 0 {
                refused = refused.max(Some(level.next_token));
            }
            wait |= entry.under_way >= level.remaining;
        }
        match (refused, wait) {
            (Some(wait), _) => Asked::Refused(wait),
            (None, true) => Asked::Wait,
            (None, false) => {
                for (place, _limit) in places {
                    self.entries.entry(*place).or_default().under_way += 1;
                }
                Asked::Begun
            }
        }
    }

    fn fail(&mut self, place: u64, limit: Limit, now: Timestamp) -> Verdict {
        self.sweep(now);
        let entry = self.entries.entry(place).or_default();
        let verdict = quota::take(entry.failed, limit, 1, now);
        entry.failed = match verdict {
            Verdict::Admitted { state, .. } => state,
            Verdict::Refused { .. } | Verdict::Never { .. } => quota::settled(entry.failed, limit, now),
        };
        verdict
    }

    /// Forgets what is healed. Failures cost a hash each, so the pool's speed bounds what is left.
    fn sweep(&mut self, now: Timestamp) {
        if self.entries.len() >= self.sweep_at.max(SWEEP_FROM) {
            self.entries.retain(|_place, entry| entry.under_way > 0 || entry.failed > now.as_nanos());
            self.sweep_at = self.entries.len() * 2;
        }
    }
}

/// One of the few that may wait for a place.
struct Waiting<'g>(&'g Guesses);

impl<'g> Waiting<'g> {
    fn begin(guesses: &'g Guesses, most: usize) -> Result<Self, Problem> {
        let mut table = guesses.lock();
        if table.waiting >= most {
            return Err(overloaded());
        }
        table.waiting += 1;
        drop(table);
        Ok(Self(guesses))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

/// A /64 of IPv6 is one customer's: its 2^64 addresses cost nothing.
fn network(address: IpAddr) -> (u8, u128) {
    match address.to_canonical() {
        IpAddr::V4(address) => (4, u128::from(address.to_bits())),
        IpAddr::V6(address) => (6, address.to_bits() >> 64),
    }
}

fn too_many(wait: Duration) -> Problem {
    let seconds = wait.as_nanos().div_ceil(1_000_000_000).max(1);
    let problem = Problem::new(Code::TooManyRequests, format!("too many attempts; try again in {seconds} s"));
    problem.after(u32::try_from(seconds).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);

    fn settings(waiting: usize) -> issuance::Passwords {
        issuance::Passwords { memory_kib: 8, iterations: 1, workers: 1, waiting, per_address: 30, per_account_and_address: 5 }
    }

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, last]))
    }

    // oauth: R8 R9
    #[tokio::test]
    async fn failures_are_paid_for_and_right_ones_are_not() {
        let guesses = Guesses::default();
        for _right in 0..100 {
            drop(guesses.begin(settings(1), address(1), "alice", NOW).await.unwrap());
        }
        for _wrong in 0..5 {
            guesses.begin(settings(1), address(1), "alice", NOW).await.unwrap().failed(NOW);
        }
        let refused = guesses.begin(settings(1), address(1), "alice", NOW).await.unwrap_err();
        assert_eq!(refused.code, Code::TooManyRequests);
        assert!(guesses.begin(settings(1), address(2), "alice", NOW).await.is_ok(), "the owner elsewhere");
        assert!(guesses.begin(settings(1), address(1), "bob", NOW).await.is_ok());
        let later = NOW.plus(Duration::from_secs(12));
        assert!(guesses.begin(settings(1), address(1), "alice", later).await.is_ok());
        let v6 = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        for _wrong in 0..5 {
            guesses.begin(settings(1), v6("2001:db8::1"), "carol", NOW).await.unwrap().failed(NOW);
        }
        assert!(guesses.begin(settings(1), v6("2001:db8::ffff"), "carol", NOW).await.is_err(), "the same /64");
    }

    // oauth: R8
    #[tokio::test]
    async fn whoever_finds_every_place_held_waits_for_one() {
        let guesses = Guesses::default();
        let mut held = Vec::new();
        for _place in 0..5 {
            held.push(guesses.begin(settings(1), address(1), "alice", NOW).await.unwrap());
        }
        let mut next = pin!(guesses.begin(settings(1), address(1), "alice", NOW));
        assert!(futures_util::poll!(&mut next).is_pending());
        let refused = guesses.begin(settings(1), address(1), "alice", NOW).await.unwrap_err();
        assert_eq!(refused.code, Code::Unavailable, "one may wait");
        drop(held.pop());
        let next = next.await.unwrap();
        held.into_iter().for_each(|guess| guess.failed(NOW));
        let mut last = pin!(guesses.begin(settings(1), address(1), "alice", NOW));
        assert!(futures_util::poll!(&mut last).is_pending(), "four failed, one is under way");
        next.failed(NOW);
        assert_eq!(last.await.unwrap_err().code, Code::TooManyRequests);
    }

    // oauth: R8 R9
    #[tokio::test]
    async fn each_place_of_a_guess_holds_something_up() {
        for (at, per_address, per_account_and_address) in [(0, 5, 30), (1, 30, 5)] {
            let (guesses, settings) = (Guesses::default(), issuance::Passwords { per_address, per_account_and_address, ..settings(1) });
            for _wrong in 0..5 {
                guesses.begin(settings, address(1), "alice", NOW).await.unwrap().failed(NOW);
            }
            assert_eq!(guesses.begin(settings, address(1), "alice", NOW).await.unwrap_err().code, Code::TooManyRequests);
            let [of_address, of_account] = guesses.places(settings, address(1), "alice");
            let other = if at == 0 { of_account } else { of_address };
            assert!(guesses.begin_at(vec![other], settings, NOW).await.is_ok(), "nothing falls without place {at}");
        }
    }

    #[tokio::test]
    async fn what_is_healed_is_forgotten() {
        let guesses = Guesses::default();
        for name in 0..SWEEP_FROM {
            guesses.lock().fail(u64::try_from(name).unwrap(), Limit::new(30, None), NOW);
        }
        let later = NOW.plus(Duration::from_secs(3));
        drop(guesses.begin(settings(1), address(1), "alice", later).await.unwrap());
        assert!(guesses.lock().entries.len() <= 2);
        guesses.charge("sign-up", address(1), 1, later).unwrap();
        assert_eq!(guesses.charge("sign-up", address(1), 1, later).unwrap_err().code, Code::TooManyRequests);
        guesses.charge("sign-up", None, 1, later).unwrap();
    }
}
