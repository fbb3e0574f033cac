//! When to fetch which URL. Knows no network and no clock; everything is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::model::time::Timestamp;

/// An unknown `kid` makes us fetch at most this often.
pub const WANTED_AT_MOST_EVERY: Duration = Duration::from_secs(30);

/// Below this a refresh interval would be a flood.
const REFRESH_MIN: Duration = Duration::from_secs(10);

const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_secs(60);

/// The state of every URL.
#[derive(Debug)]
pub struct Schedule {
    urls: BTreeMap<Arc<str>, Plan>,
    chance: u64,
}

#[derive(Debug)]
struct Plan {
    refresh: Duration,
    due: Timestamp,
    /// When the last fetch began.
    began: Option<Timestamp>,
    failures: u32,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Fetching,
}

impl Schedule {
    pub fn new(seed: u64) -> Self {
        Self { urls: BTreeMap::new(), chance: seed }
    }

    /// Takes over the URLs of new rules: new ones are due at once, known ones keep their state, others go.
    pub fn replace(&mut self, urls: impl Iterator<Item = (Arc<str>, Duration)>, now: Timestamp) {
        let mut old = std::mem::take(&mut self.urls);
        for (url, refresh) in urls {
            let refresh = refresh.max(REFRESH_MIN);
            let plan = match old.remove(&url) {
                Some(plan) => Plan { refresh, due: plan.due.min(now.plus(refresh)), ..plan },
                None => Plan { refresh, due: now, began: None, failures: 0, state: State::Waiting },
            };
            self.urls.insert(url, plan);
        }
    }

    /// Somebody showed a `kid` that this URL's set does not have.
    pub fn want(&mut self, url: &str, now: Timestamp) {
        if let Some(plan) = self.urls.get_mut(url) {
            let earliest = plan.began.map_or(now, |began| began.plus(WANTED_AT_MOST_EVERY)).max(now);
            plan.due = plan.due.min(earliest);
        }
    }

    /// The URLs to fetch now; each is then being fetched until it is told how that ended.
    pub fn take_due(&mut self, now: Timestamp) -> Vec<Arc<str>> {
        let mut due = Vec::new();
        for (url, plan) in &mut self.urls {
            if plan.state == State::Waiting && plan.due <= now {
                plan.state = State::Fetching;
                plan.began = Some(now);
                // For a fetch that never reports.
                plan.due = now.plus(plan.refresh);
                due.push(Arc::clone(url));
            }
        }
        due
    }

    pub fn succeeded(&mut self, url: &str, now: Timestamp) {
        let part = self.part();
        if let Some(plan) = self.urls.get_mut(url) {
            plan.failures = 0;
            plan.finish(now.plus(plan.refresh.mul_f64(part)));
        }
    }

    pub fn failed(&mut self, url: &str, now: Timestamp) {
        let part = self.part();
        if let Some(plan) = self.urls.get_mut(url) {
            let pause = RETRY_FIRST.saturating_mul(1 << plan.failures.min(10)).min(RETRY_LAST).min(plan.refresh);
            plan.failures = plan.failures.saturating_add(1);
            plan.finish(now.plus(pause.mul_f64(part)));
        }
    }

    /// How long nothing is due.
    pub fn until_next(&self, now: Timestamp) -> Duration {
        let waiting = self.urls.values().filter(|plan| plan.state == State::Waiting);
        waiting.map(|plan| plan.due.since(now)).min().unwrap_or(Duration::MAX)
    }

    /// Between 0.8 and 1, so that processes started together do not fetch together.
    fn part(&mut self) -> f64 {
        // SplitMix64: enough to spread timers.
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.chance;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        0.8 + 0.2 * f64::from((mixed >> 40) as u32) / f64::from(1_u32 << 24)
    }
}

impl Plan {
    /// A `kid` that was asked for meanwhile is not forgotten: its fetch may lie before the regular one.
    fn finish(&mut self, regular: Timestamp) {
        let placeholder = self.began.map_or(regular, |began| began.plus(self.refresh));
        self.due = if self.due < placeholder { self.due.min(regular) } else { regular };
        self.state = State::Waiting;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::any;
    use proptest::proptest;

    use super::Schedule;
    use crate::model::time::Timestamp;

    const URL: &str = "https://id.example.com/jwks";
    const REFRESH: Duration = Duration::from_secs(300);

    fn started() -> (Schedule, Timestamp) {
        let now = Timestamp::from_unix_seconds(1_000_000);
        let mut schedule = Schedule::new(7);
        schedule.replace([(Arc::from(URL), REFRESH)].into_iter(), now);
        (schedule, now)
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_new_url_is_due_at_once_and_then_each_refresh() {
        let (mut schedule, now) = started();
        assert_eq!(schedule.take_due(now).len(), 1);
        assert_eq!(schedule.take_due(now.plus(seconds(1000))).len(), 0, "one fetch at a time");
        schedule.succeeded(URL, now);
        assert_eq!(schedule.take_due(now.plus(seconds(239))).len(), 0);
        let pause = schedule.until_next(now);
        assert!((seconds(240)..=REFRESH).contains(&pause), "{pause:?}");
        assert_eq!(schedule.take_due(now.plus(pause)).len(), 1);
    }

    #[test]
    fn failures_wait_longer_each_time_up_to_a_minute() {
        let (mut schedule, mut now) = started();
        let mut pauses = Vec::new();
        for _ in 0..12 {
            assert_eq!(schedule.take_due(now).len(), 1);
            schedule.failed(URL, now);
            let pause = schedule.until_next(now);
            pauses.push(pause.as_secs_f64());
            now = now.plus(pause);
        }
        for (attempt, pause) in pauses.iter().enumerate() {
            let most = 2_f64.powi(i32::try_from(attempt).unwrap()).min(60.0);
            assert!((most * 0.8..=most).contains(pause), "attempt {attempt}: {pause}");
        }
        assert_eq!(schedule.take_due(now).len(), 1);
        schedule.succeeded(URL, now);
        assert!(schedule.until_next(now) >= seconds(240), "a success ends the retries");
    }

    // battery: J20
    #[test]
    fn an_unknown_kid_brings_a_fetch_forward_at_most_every_half_minute() {
        let (mut schedule, now) = started();
        schedule.take_due(now);
        schedule.succeeded(URL, now);
        for millisecond in 0..10_000 {
            schedule.want(URL, now.plus(Duration::from_millis(millisecond)));
            assert_eq!(schedule.take_due(now.plus(Duration::from_millis(millisecond))).len(), 0);
        }
        assert_eq!(schedule.take_due(now.plus(seconds(30))).len(), 1);
        // Asked while it is being fetched: not lost, and not at once.
        schedule.want(URL, now.plus(seconds(31)));
        schedule.succeeded(URL, now.plus(seconds(32)));
        assert_eq!(schedule.take_due(now.plus(seconds(59))).len(), 0);
        assert_eq!(schedule.take_due(now.plus(seconds(60))).len(), 1);
        schedule.succeeded(URL, now.plus(seconds(60)));
        schedule.want(URL, now.plus(seconds(200)));
        assert_eq!(schedule.take_due(now.plus(seconds(200))).len(), 1, "after a quiet time it is at once");
    }

    #[test]
    fn new_rules_keep_what_is_known() {
        let (mut schedule, now) = started();
        schedule.take_due(now);
        schedule.succeeded(URL, now);
        schedule.replace([(Arc::from(URL), REFRESH), (Arc::from("https://other.example/jwks"), REFRESH)].into_iter(), now);
        let due = schedule.take_due(now);
        assert_eq!(due.iter().map(|url| &**url).collect::<Vec<_>>(), ["https://other.example/jwks"]);
        schedule.replace([(Arc::from(URL), seconds(20))].into_iter(), now);
        assert_eq!(schedule.until_next(now), seconds(20), "a shorter interval counts from now");
        schedule.replace(std::iter::empty(), now);
        assert_eq!(schedule.until_next(now), Duration::MAX);
        schedule.succeeded(URL, now);
    }

    proptest! {
        #[test]
        fn however_it_is_asked_two_fetches_lie_half_a_minute_apart(steps in proptest::collection::vec((any::<bool>(), 0_u64..20_000), 1..300)) {
            let (mut schedule, mut now) = started();
            let mut last: Option<Timestamp> = None;
            for (wants, milliseconds) in steps {
                now = now.plus(Duration::from_millis(milliseconds));
                if wants {
                    schedule.want(URL, now);
                }
                if !schedule.take_due(now).is_empty() {
                    assert!(last.is_none_or(|last| now.since(last) >= seconds(30)));
                    last = Some(now);
                    schedule.succeeded(URL, now);
                }
            }
        }
    }
}
