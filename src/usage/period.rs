//! The open hour: where counts go now. It never goes back, and a leap of the clock does not carry it away.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::model::time::Hour;
use crate::model::time::Timestamp;

/// A wall clock that gains more than this on the monotonic one has leapt.
const LEAP: Duration = Duration::from_secs(3600);
/// A leap is believed once the clock has kept to it this long: then it was the old time that was wrong.
const PATIENCE: Duration = Duration::from_secs(600);

/// The hour that is open in this process.
#[derive(Debug)]
pub(super) struct Period {
    open: AtomicU32,
    leaps: AtomicU64,
    watch: Mutex<Watch>,
}

#[derive(Debug)]
struct Watch {
    /// Where the wall clock should be by the monotonic one.
    expected: Timestamp,
    /// How long the clock has kept to its leap.
    leapt_for: Option<Duration>,
    last_seen: Timestamp,
}

impl Period {
    pub(super) fn starting_at(now: Timestamp) -> Self {
        let watch = Watch { expected: now, leapt_for: None, last_seen: now };
        Self { open: AtomicU32::new(now.hour().0), leaps: AtomicU64::new(0), watch: Mutex::new(watch) }
    }

    pub(super) fn open(&self) -> Hour {
        Hour(self.open.load(Ordering::Relaxed))
    }

    /// The hour that a count of `hour` goes to: never an earlier one than any before it, and at most one later.
    pub(super) fn place(&self, hour: Hour) -> Hour {
        let open = self.open.load(Ordering::Relaxed);
        if hour.0 <= open {
            return Hour(open);
        }
        if hour.0 == open.saturating_add(1) {
            return Hour(self.open.fetch_max(hour.0, Ordering::Relaxed).max(hour.0));
        }
        Hour(open)
    }

    /// Follows the wall clock, held against the time that has passed since the last call by the monotonic one.
    pub(super) fn follow(&self, now: Timestamp, elapsed: Duration) {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        watch.expected = watch.expected.plus(elapsed);
        let leapt = now.since(watch.expected) > LEAP;
        let steady = now.since(watch.last_seen.plus(elapsed)) <= LEAP;
        watch.last_seen = now;
        if leapt {
            let kept = match watch.leapt_for {
                Some(kept) if steady => kept.saturating_add(elapsed),
                _ => {
                    self.leaps.fetch_add(1, Ordering::Relaxed);
                    Duration::ZERO
                }
            };
            if kept < PATIENCE {
                watch.leapt_for = Some(kept);
                return;
            }
        }
        watch.leapt_for = None;
        watch.expected = now;
        self.open.fetch_max(now.hour().0, Ordering::Relaxed);
    }

    /// How often the clock leapt ahead and was not followed at once.
    pub(super) fn leaps(&self) -> u64 {
        self.leaps.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp::from_unix_seconds(1_767_268_800);
    const HOUR: Duration = Duration::from_secs(3600);
    const SECOND: Duration = Duration::from_secs(1);

    // battery: X12
    #[test]
    fn it_never_goes_back() {
        let period = Period::starting_at(NOON);
        let noon = NOON.hour();
        assert_eq!(period.place(noon), noon);
        assert_eq!(period.place(Hour(noon.0 - 1)), noon);
        assert_eq!(period.place(Hour(noon.0 + 1)), Hour(noon.0 + 1));
        assert_eq!(period.place(noon), Hour(noon.0 + 1));
        period.follow(NOON.minus(HOUR), SECOND);
        assert_eq!(period.open(), Hour(noon.0 + 1));
    }

    // battery: X12
    #[test]
    fn a_leap_ahead_is_not_followed_until_it_lasts() {
        let period = Period::starting_at(NOON);
        let noon = NOON.hour();
        let year = Duration::from_secs(365 * 24 * 3600);
        assert_eq!(period.place(NOON.plus(year).hour()), noon);
        period.follow(NOON.plus(year), SECOND);
        assert_eq!((period.open(), period.leaps()), (noon, 1));
        // The clock was put right again: nothing happened.
        period.follow(NOON.plus(SECOND * 2), SECOND);
        assert_eq!((period.open(), period.leaps()), (noon, 1));
        // A clock that stays where it leapt was wrong before.
        for passed in 0..=600 {
            assert_eq!(period.open(), noon, "after {passed} s");
            period.follow(NOON.plus(year).plus(SECOND * passed), SECOND);
        }
        assert_eq!((period.open(), period.leaps()), (NOON.plus(year).hour(), 2));
    }

    #[test]
    fn hours_without_a_request_pass() {
        let period = Period::starting_at(NOON);
        period.follow(NOON.plus(HOUR * 5), HOUR * 5);
        assert_eq!(period.open(), NOON.plus(HOUR * 5).hour());
    }
}
