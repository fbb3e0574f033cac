//! Limit arithmetic: GCRA, which decides as a token bucket does and keeps one timestamp instead of a level and a time.
//!
//! The state is the *theoretical arrival time* in nanoseconds since the Unix epoch: the instant at which the bucket is full
//! again. Zero (or anything past) is a full bucket.
//!
//! Integers only. One token takes `60 s / rate` to come back, rounded up to the nanosecond: where the rate divides a minute's
//! nanoseconds (every rate that people write does, or nearly so), saturating demand is admitted exactly
//! `depth + floor(elapsed * rate / 60 s)` times; elsewhere a bucket is late by less than a nanosecond a token, never early.

use std::sync::Arc;
use std::time::Duration;

use crate::model::time::Timestamp;

/// A bucket's size and speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Refill, requests per minute; at least 1.
    pub per_minute: u32,
    /// Depth: how many requests a full bucket admits at once; at least 1.
    pub depth: u32,
}

const NANOS_PER_MINUTE: u64 = 60_000_000_000;

/// No bucket takes longer to fill: 100 days, in nanoseconds. Less than 2^53, so that engines that count in doubles stay exact.
pub const FILL_NANOS_MAX: u64 = 100 * 24 * 60 * NANOS_PER_MINUTE;

impl Limit {
    /// The depth is `burst`, or the whole minute's allowance where none is given. Zeros count as one: no limit refuses everything.
    pub fn new(per_minute: u32, burst: Option<u32>) -> Self {
        Self { per_minute: per_minute.max(1), depth: burst.unwrap_or(per_minute).max(1) }
    }

    /// How long one token takes to come back, in nanoseconds.
    pub const fn interval_nanos(self) -> u64 {
        NANOS_PER_MINUTE.div_ceil(if self.per_minute == 0 { 1 } else { self.per_minute as u64 })
    }

    /// How long an empty bucket takes to fill, in nanoseconds.
    pub const fn fill_nanos(self) -> u64 {
        self.interval_nanos().saturating_mul(self.depth as u64)
    }

    /// How far ahead of `now` a state may lie: an empty bucket. Cut off where the state's own type ends, so that a bucket too
    /// deep to be written down refuses early instead of forgetting what it owes.
    const fn window_nanos(self, now: Timestamp) -> u64 {
        let full = self.fill_nanos();
        let room = u64::MAX - now.as_nanos();
        if full < room { full } else { room }
    }
}

/// Whose bucket a policy fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Per {
    /// The organisation; the user where there is none.
    Owner,
    User,
    Organization,
    Key,
    Route,
    Address,
}

/// A named limit, as the config or a key states it. Buckets are keyed by name and owner: changing the numbers keeps the level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub name: Arc<str>,
    pub per: Per,
    pub limit: Limit,
}

/// What the arithmetic says of one bucket and one cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Admitted; the bucket's new state and what is left.
    Admitted { state: u64, level: Level },
    /// Refused; nothing was taken.
    Refused { retry_after: Duration, level: Level },
    /// The cost is more than the bucket's depth: no waiting helps.
    Never { level: Level },
}

/// What a bucket holds, for the headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Requests of cost 1 that it would admit now.
    pub remaining: u32,
    /// When it is full again.
    pub full_at: Timestamp,
    /// Until the next whole token; zero when `remaining` is not zero.
    pub next_token: Duration,
}

impl Verdict {
    /// What the bucket holds after the question.
    pub const fn level(&self) -> Level {
        match self {
            Self::Admitted { level, .. } | Self::Refused { level, .. } | Self::Never { level } => *level,
        }
    }
}

/// Asks one bucket for `cost` tokens. Nothing is taken unless all of them are there.
///
/// A state further ahead than an empty bucket's (the clock stepped back, somebody changed the record, the limit shrank) counts
/// as an empty bucket. Whoever holds it keeps what [`settled`] says where nothing was taken: then nobody is locked out for
/// longer than a bucket takes to fill.
pub const fn take(state: u64, limit: Limit, cost: u32, now: Timestamp) -> Verdict {
    let window = limit.window_nanos(now);
    let owed = owed_nanos(state, window, now);
    let price = match limit.interval_nanos().checked_mul(cost as u64) {
        Some(price) if cost <= limit.depth && price <= window => price,
        Some(_) | None => return Verdict::Never { level: level_of(owed, limit, window, now) },
    };
    let after = owed.saturating_add(price);
    if after > window {
        return Verdict::Refused { retry_after: Duration::from_nanos(after - window), level: level_of(owed, limit, window, now) };
    }
    Verdict::Admitted { state: now.as_nanos().saturating_add(after), level: level_of(after, limit, window, now) }
}

/// What to keep of a state from which nothing was taken: itself, or an empty bucket's where it lies further ahead than that.
pub const fn settled(state: u64, limit: Limit, now: Timestamp) -> u64 {
    let empty = now.as_nanos().saturating_add(limit.window_nanos(now));
    if state < empty { state } else { empty }
}

/// What a bucket holds, without taking from it.
pub const fn level(state: u64, limit: Limit, now: Timestamp) -> Level {
    let window = limit.window_nanos(now);
    level_of(owed_nanos(state, window, now), limit, window, now)
}

const fn owed_nanos(state: u64, window: u64, now: Timestamp) -> u64 {
    let ahead = state.saturating_sub(now.as_nanos());
    if ahead < window { ahead } else { window }
}

const fn level_of(owed: u64, limit: Limit, window: u64, now: Timestamp) -> Level {
    let interval = limit.interval_nanos();
    let whole = (window - owed) / interval;
    // The window is at most `depth` intervals, so the quotient fits.
    let remaining = if whole > limit.depth as u64 { limit.depth } else { whole as u32 };
    let next_token = if remaining == 0 { owed.saturating_add(interval).saturating_sub(window) } else { 0 };
    Level { remaining, full_at: Timestamp::from_nanos(now.as_nanos().saturating_add(owed)), next_token: Duration::from_nanos(next_token) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);
    const SECOND: u64 = 1_000_000_000;

    fn at(nanos: u64) -> Timestamp {
        Timestamp::from_nanos(NOW.as_nanos() + nanos)
    }

    /// A bucket as people draw it: tokens in units of a minute-nanosecond's share, topped up before each question.
    struct TokenBucket {
        limit: Limit,
        units: u128,
        topped_up: Timestamp,
    }

    impl TokenBucket {
        const TOKEN: u128 = NANOS_PER_MINUTE as u128;

        fn full(limit: Limit) -> Self {
            Self { limit, units: u128::from(limit.depth) * Self::TOKEN, topped_up: NOW }
        }

        fn take(&mut self, cost: u32, now: Timestamp) -> bool {
            let gained = now.since(self.topped_up).as_nanos() * u128::from(self.limit.per_minute);
            self.units = (self.units + gained).min(u128::from(self.limit.depth) * Self::TOKEN);
            self.topped_up = now;
            let price = u128::from(cost) * Self::TOKEN;
            let enough = self.units >= price;
            if enough {
                self.units -= price;
            }
            enough
        }

        fn whole(&self) -> u32 {
            u32::try_from(self.units / Self::TOKEN).unwrap()
        }
    }

    /// How many requests of cost 1 a bucket admits when somebody asks every `step` for `elapsed`, both ends included.
    fn saturate(limit: Limit, elapsed: u64, step: u64) -> u64 {
        let (mut state, mut admitted, mut time) = (0, 0, 0);
        while time <= elapsed {
            while let Verdict::Admitted { state: next, .. } = take(state, limit, 1, at(time)) {
                state = next;
                admitted += 1;
            }
            time += step;
        }
        admitted
    }

    #[test]
    fn a_limit_is_as_deep_as_its_burst_or_a_whole_minute() {
        for (per_minute, burst, depth) in [(60, Some(10), 10), (300, Some(50), 50), (60, None, 60), (0, None, 1), (60, Some(0), 1)] {
            assert_eq!(Limit::new(per_minute, burst).depth, depth, "{per_minute} {burst:?}");
        }
        assert_eq!(Limit::new(0, None).per_minute, 1);
    }

    #[test]
    fn the_tiers_of_the_product_admit_exactly_what_the_ruling_says() {
        // (limit, elapsed seconds, admitted): depth + floor(elapsed * rate / 60).
        let table = [
            (Limit::new(60, Some(10)), 0, 10),
            (Limit::new(60, Some(10)), 1, 11),
            (Limit::new(60, Some(10)), 60, 70),
            (Limit::new(300, Some(50)), 60, 350),
            (Limit::new(1000, Some(100)), 60, 1100),
            // The document's own test: a key with `rate_limit: 60` passes 60 calls at once, and the 61st waits a second.
            (Limit::new(60, None), 0, 60),
            (Limit::new(60, None), 1, 61),
            (Limit::new(60, None), 3600, 3660),
            (Limit::new(1, None), 59, 1),
            (Limit::new(1, None), 60, 2),
        ];
        for (limit, seconds, admitted) in table {
            assert_eq!(saturate(limit, seconds * SECOND, SECOND / 4), admitted, "{limit:?} for {seconds} s");
        }
    }

    #[test]
    fn a_refusal_says_how_long_to_wait_and_waiting_so_long_is_enough() {
        let limit = Limit::new(60, Some(10));
        let mut state = 0;
        for _ in 0..10 {
            let Verdict::Admitted { state: next, .. } = take(state, limit, 1, NOW) else { panic!("a full bucket admits ten") };
            state = next;
        }
        let Verdict::Refused { retry_after, level } = take(state, limit, 1, NOW) else { panic!("an empty bucket refuses") };
        assert_eq!(retry_after, Duration::from_secs(1));
        assert_eq!(level, Level { remaining: 0, full_at: at(10 * SECOND), next_token: Duration::from_secs(1) });
        assert!(matches!(take(state, limit, 1, at(SECOND - 1)), Verdict::Refused { .. }));
        assert!(matches!(take(state, limit, 1, at(SECOND)), Verdict::Admitted { .. }));
    }

    #[test]
    fn a_cost_above_the_depth_is_never_admitted() {
        let limit = Limit::new(60, Some(10));
        assert!(matches!(take(0, limit, 11, NOW), Verdict::Never { level } if level.remaining == 10));
        assert!(matches!(take(0, limit, 10, NOW), Verdict::Admitted { level, .. } if level.remaining == 0));
    }

    #[test]
    fn nothing_is_free_of_charge_at_the_ends_of_the_number_line() {
        let endless = Limit { per_minute: 1, depth: u32::MAX };
        for now in [Timestamp::from_nanos(0), NOW, Timestamp::from_nanos(u64::MAX - 1), Timestamp::from_nanos(u64::MAX)] {
            for state in [0, 1, NOW.as_nanos(), u64::MAX] {
                for cost in [0, 1, u32::MAX] {
                    match take(state, endless, cost, now) {
                        Verdict::Admitted { state: next, .. } => {
                            let price = u128::from(cost) * u128::from(NANOS_PER_MINUTE);
                            assert!(u128::from(next) >= u128::from(now.as_nanos()) + price, "{state} {cost} {now:?}");
                        }
                        Verdict::Refused { .. } | Verdict::Never { .. } => {}
                    }
                }
            }
        }
        // Fields are open: a zero rate is slow, and never a division by zero.
        let stopped = Limit { per_minute: 0, depth: 0 };
        assert!(matches!(take(0, stopped, 1, NOW), Verdict::Never { .. }));
    }

    // battery: R15
    #[test]
    fn a_clock_that_stepped_back_locks_nobody_out_for_longer_than_a_bucket_takes_to_fill() {
        let limit = Limit::new(60, Some(10));
        let an_hour_ahead = at(3600 * SECOND).as_nanos();
        for state in [an_hour_ahead, u64::MAX] {
            let level = level(state, limit, NOW);
            assert_eq!(level, Level { remaining: 0, full_at: at(10 * SECOND), next_token: Duration::from_secs(1) });
            assert!(matches!(take(state, limit, 1, at(SECOND)), Verdict::Refused { .. }), "still ahead, still empty");
            let Verdict::Refused { retry_after, .. } = take(state, limit, 1, NOW) else { panic!("an empty bucket refuses") };
            assert_eq!(retry_after, Duration::from_secs(1));
        }
        // Settled when it was first looked at, the bucket fills from then on.
        let state = settled(an_hour_ahead, limit, NOW);
        assert!(matches!(take(state, limit, 10, at(10 * SECOND - 1)), Verdict::Refused { .. }));
        assert!(matches!(take(state, limit, 10, at(10 * SECOND)), Verdict::Admitted { .. }));
        assert_eq!(settled(state, limit, NOW), state);
        // A clock that stepped forward fills the bucket and no more.
        assert_eq!(level(NOW.as_nanos(), limit, at(365 * 86_400 * SECOND)).remaining, 10);
    }

    /// Rates that divide a minute's nanoseconds: the interval is exact.
    fn even_rate() -> impl Strategy<Value = u32> {
        prop::sample::select(vec![1, 2, 3, 4, 5, 6, 10, 12, 15, 30, 48, 60, 100, 120, 300, 600, 1000, 6000, 60_000, 1_000_000, 60_000_000])
    }

    fn any_limit(rates: impl Strategy<Value = u32>) -> impl Strategy<Value = Limit> {
        (rates, prop::option::of(1_u32..2000)).prop_map(|(rate, burst)| Limit::new(rate, burst))
    }

    /// Steps of a demand: how long after the last one, and how much.
    fn demand() -> impl Strategy<Value = Vec<(u64, u32)>> {
        let pause = prop_oneof![Just(0_u64), 0..1000_u64, 0..SECOND, 0..120 * SECOND, (0..60_u64).prop_map(|seconds| seconds * SECOND)];
        prop::collection::vec((pause, prop_oneof![Just(1_u32), 1..20_u32, Just(2000)]), 1..200)
    }

    proptest! {
        #[test]
        fn an_even_rate_decides_as_the_slow_bucket_does(limit in any_limit(even_rate()), demand in demand()) {
            let (mut state, mut slow, mut time) = (0, TokenBucket::full(limit), 0);
            for (pause, cost) in demand {
                time += pause;
                let expected = slow.take(cost, at(time));
                let verdict = take(state, limit, cost, at(time));
                prop_assert_eq!(matches!(verdict, Verdict::Admitted { .. }), expected);
                prop_assert_eq!(verdict.level().remaining, slow.whole());
                prop_assert_eq!(matches!(verdict, Verdict::Never { .. }), cost > limit.depth);
                if let Verdict::Admitted { state: next, .. } = verdict {
                    state = next;
                }
                prop_assert_eq!(verdict.level(), level(state, limit, at(time)));
            }
        }

        #[test]
        fn any_rate_never_admits_what_the_slow_bucket_would_not(limit in any_limit(1_u32..=u32::MAX), demand in demand()) {
            let (mut state, mut slow, mut time) = (0, TokenBucket::full(limit), 0);
            for (pause, cost) in demand {
                time += pause;
                if let Verdict::Admitted { state: next, .. } = take(state, limit, cost, at(time)) {
                    state = next;
                    prop_assert!(slow.take(cost, at(time)));
                }
            }
        }

        #[test]
        fn saturating_demand_gets_the_depth_and_one_for_each_interval(
            limit in any_limit(1_u32..5000), elapsed in 0..90_u64, step in prop::sample::select(vec![1_000_000_u64, 7_000_001, SECOND]),
        ) {
            // A bucket that overflows between two questions loses what it could not hold; this one is asked in time.
            prop_assume!(limit.window_nanos(NOW) >= step + limit.interval_nanos());
            let last_question = elapsed * SECOND / step * step;
            let expected = u64::from(limit.depth) + last_question / limit.interval_nanos();
            prop_assert_eq!(saturate(limit, elapsed * SECOND, step), expected);
        }

        #[test]
        fn waiting_as_told_is_enough_and_a_nanosecond_less_is_not(limit in any_limit(1_u32..=u32::MAX), owed in any::<u64>(), cost in 1_u32..50) {
            if let Verdict::Refused { retry_after, .. } = take(owed, limit, cost, NOW) {
                // A state beyond the clamp stays ahead of the clock, so the promise is about the clamped one.
                let state = owed.min(NOW.as_nanos() + limit.window_nanos(NOW));
                let wait = u64::try_from(retry_after.as_nanos()).unwrap();
                let enough = matches!(take(state, limit, cost, at(wait)), Verdict::Admitted { .. });
                let too_early = matches!(take(state, limit, cost, at(wait - 1)), Verdict::Admitted { .. });
                prop_assert!(enough);
                prop_assert!(!too_early);
            }
        }

        #[test]
        fn no_input_panics_and_a_refusal_takes_nothing(state in any::<u64>(), rate in any::<u32>(), depth in any::<u32>(), cost in any::<u32>(), now in any::<u64>()) {
            let (limit, now) = (Limit { per_minute: rate, depth }, Timestamp::from_nanos(now));
            let before = level(state, limit, now);
            match take(state, limit, cost, now) {
                Verdict::Admitted { state: next, level: after } => {
                    prop_assert!(before.remaining.saturating_sub(after.remaining) >= cost.saturating_sub(1));
                    prop_assert!(next >= now.as_nanos());
                }
                Verdict::Refused { level: after, retry_after } => {
                    prop_assert_eq!(after, before);
                    prop_assert!(!retry_after.is_zero());
                }
                Verdict::Never { level: after } => prop_assert_eq!(after, before),
            }
            prop_assert_eq!(before.next_token.is_zero(), before.remaining > 0);
        }
    }
}
