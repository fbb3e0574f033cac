//! Buckets: exact under threads, all or none, and not refilled by a restart.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proptest::prelude::ProptestConfig;
use proptest::prop_assert_eq;
use proptest::proptest;

use crate::clock::Clock;
use crate::clock::ManualClock;
use crate::model::quota;
use crate::model::quota::Limit;
use crate::model::quota::Per;
use crate::model::quota::Policy;
use crate::model::quota::Verdict;
use crate::model::time::Timestamp;
use crate::store::StoreError;
use crate::store::Take;
use crate::usage::Ledger;
use crate::usage::LedgerOptions;
use crate::usage::LocalBuckets;
use crate::usage::tests::NOON;
use crate::usage::tests::folder;
use crate::usage::tests::line;
use crate::usage::tests::open;
use crate::usage::tests::small;
use crate::usage::tests::user;

const MINUTE: Duration = Duration::from_secs(60);

fn policy(name: &str, per_minute: u32, depth: u32) -> Policy {
    Policy { name: name.into(), per: Per::User, limit: Limit { per_minute, depth } }
}

fn take<'a>(policy: &'a Policy, owner: &'a str) -> Take<'a> {
    Take { policy, owner, root: owner, cost: 1 }
}

fn remaining(buckets: &LocalBuckets, policy: &Policy, owner: &str, now: Timestamp) -> u32 {
    buckets.take_now(&[Take { policy, owner, root: owner, cost: 0 }], now).unwrap().levels[0].remaining
}

/// How many of `tries` in each of eight threads are admitted at one instant.
fn admitted(buckets: &LocalBuckets, clock: &ManualClock, tries: u32, takes: impl Fn(u32) -> Vec<(Policy, &'static str)> + Sync) -> u32 {
    let admitted = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (admitted, takes) = (&admitted, &takes);
            scope.spawn(move || {
                let owned = takes(thread);
                let takes: Vec<Take<'_>> = owned.iter().map(|(policy, owner)| take(policy, owner)).collect();
                for _ in 0..tries {
                    if buckets.take_now(&takes, clock.now()).unwrap().admitted {
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    admitted.into_inner()
}

#[test]
fn one_bucket_admits_exactly_its_depth() {
    let folder = folder();
    let buckets = LocalBuckets::new(Arc::new(open(folder.path())));
    let clock = ManualClock::starting_at(NOON);
    assert_eq!(admitted(&buckets, &clock, 1000, |_| vec![(policy("free", 60, 777), "user:a")]), 777);
    clock.advance(Duration::from_millis(10_500));
    assert_eq!(admitted(&buckets, &clock, 1000, |_| vec![(policy("free", 60, 777), "user:a")]), 10);
}

#[test]
fn several_buckets_admit_together_or_not_at_all() {
    let folder = folder();
    let buckets = LocalBuckets::new(Arc::new(open(folder.path())));
    let clock = ManualClock::starting_at(NOON);
    let (wide, narrow) = (policy("wide", 60, 3000), policy("narrow", 60, 1000));
    let both = |thread| {
        let mut pair = vec![(policy("wide", 60, 3000), "org:o"), (policy("narrow", 60, 1000), "user:a")];
        // Half of the threads ask in the other order.
        if thread % 2 == 0 {
            pair.reverse();
        }
        pair
    };
    assert_eq!(admitted(&buckets, &clock, 500, both), 1000);
    assert_eq!(remaining(&buckets, &wide, "org:o", NOON), 2000, "no token leaked");
    assert_eq!(remaining(&buckets, &narrow, "user:a", NOON), 0);
}

#[test]
fn nobody_is_refused_for_a_token_that_is_given_back() {
    let folder = folder();
    let buckets = LocalBuckets::new(Arc::new(open(folder.path())));
    let clock = ManualClock::starting_at(NOON);
    // Half of the threads are refused by an empty bucket again and again; the others must get every token of the wide one.
    let none = policy("none", 1, 1);
    assert!(buckets.take_now(&[take(&none, "user:a")], NOON).unwrap().admitted);
    let mixed = |thread| match thread % 2 {
        0 => vec![(policy("wide", 60, 2000), "org:o"), (policy("none", 1, 1), "user:a")],
        _ => vec![(policy("wide", 60, 2000), "org:o")],
    };
    assert_eq!(admitted(&buckets, &clock, 500, mixed), 2000);
}

#[test]
fn a_refusal_says_when_and_takes_nothing() {
    let folder = folder();
    let buckets = LocalBuckets::new(Arc::new(open(folder.path())));
    let (slow, fast) = (policy("slow", 1, 1), policy("fast", 60, 10));
    let both = [take(&slow, "o"), take(&fast, "o")];
    assert!(buckets.take_now(&both, NOON).unwrap().admitted);
    let refused = buckets.take_now(&both, NOON).unwrap();
    assert!(!refused.admitted);
    assert_eq!(refused.retry_after, Some(MINUTE));
    let left: Vec<u32> = refused.levels.iter().map(|level| level.remaining).collect();
    assert_eq!(left, [0, 9]);
    let never = buckets.take_now(&[take(&slow, "o"), Take { cost: 11, ..take(&fast, "o") }], NOON).unwrap();
    assert_eq!((never.admitted, never.retry_after), (false, None));
    // The same bucket twice in one take is asked for both.
    let twice = [Take { cost: 5, ..take(&fast, "o") }, Take { cost: 5, ..take(&fast, "o") }];
    assert!(!buckets.take_now(&twice, NOON).unwrap().admitted);
    assert_eq!(remaining(&buckets, &fast, "o", NOON), 9);
    assert!(buckets.take_now(&[], NOON).unwrap().admitted);
}

#[test]
fn a_restart_does_not_refill() {
    let folder = folder();
    let free = policy("free", 60, 10);
    {
        let buckets = LocalBuckets::new(Arc::new(open(folder.path())));
        for _ in 0..7 {
            assert!(buckets.take_now(&[take(&free, "user:a")], NOON).unwrap().admitted);
        }
    }
    let buckets = LocalBuckets::new(Arc::new(open(folder.path())));
    assert_eq!(remaining(&buckets, &free, "user:a", NOON), 3);
    assert_eq!(remaining(&buckets, &free, "user:b", NOON), 10);
}

#[test]
fn under_pressure_idle_buckets_give_way_and_active_ones_never() {
    let folder = folder();
    let options = LedgerOptions { bytes_max: 8192, buckets_max: 60, ..small(folder.path()) };
    let ledger = Arc::new(Ledger::open(options, NOON).unwrap());
    let buckets = LocalBuckets::new(Arc::clone(&ledger));
    let (quick, slow) = (policy("quick", 60, 10), policy("slow", 1, 10));
    for number in 0..30 {
        assert!(buckets.take_now(&[take(&quick, &format!("q{number}"))], NOON).unwrap().admitted);
        assert!(buckets.take_now(&[Take { cost: 10, ..take(&slow, &format!("s{number}")) }], NOON).unwrap().admitted);
    }
    let full = buckets.take_now(&[take(&quick, "new")], NOON).unwrap_err();
    assert!(matches!(full, StoreError::Unavailable(_)), "{full}");
    let later = NOON.plus(MINUTE * 2);
    for number in 0..30 {
        assert!(buckets.take_now(&[take(&quick, &format!("new{number}"))], later).unwrap().admitted, "{number}");
    }
    assert!(buckets.take_now(&[take(&quick, "one more")], later).is_err());
    for number in 0..30 {
        assert_eq!(remaining(&buckets, &slow, &format!("s{number}"), later), 2, "{number}");
    }
    assert_eq!(ledger.gauges().buckets_evicted, 30);
    // Counters use the same file, and find no more than is left.
    ledger.add(&line(&user("alice"), "r"), 1).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_bucket_decides_as_the_arithmetic_alone(
        asks in proptest::collection::vec((0_usize..3, 0_usize..3, 0_u32..6, 0_u64..3_000_000_000), 1..60),
    ) {
        let folder = folder();
        let mut buckets = LocalBuckets::new(Arc::new(open(folder.path())));
        let policies = [policy("a", 60, 5), policy("b", 7, 3), policy("c", 600, 1)];
        let mut model: HashMap<(usize, usize), u64> = HashMap::new();
        let mut now = NOON;
        for (step, (policy, owner, cost, passed)) in asks.into_iter().enumerate() {
            now = now.plus(Duration::from_nanos(passed));
            let state = model.entry((policy, owner)).or_default();
            let (admitted, level) = match quota::take(*state, policies[policy].limit, cost, now) {
                Verdict::Admitted { state: new, level } => {
                    *state = new;
                    (true, level)
                }
                Verdict::Refused { level, .. } | Verdict::Never { level } => (false, level),
            };
            let owner = ["x", "y", "z"][owner];
            let taken = buckets.take_now(&[Take { policy: &policies[policy], owner, root: owner, cost }], now).unwrap();
            prop_assert_eq!(taken.admitted, admitted);
            prop_assert_eq!(taken.levels, vec![level]);
            if step % 20 == 19 {
                drop(buckets);
                buckets = LocalBuckets::new(Arc::new(Ledger::open(small(folder.path()), now).unwrap()));
            }
        }
    }
}
