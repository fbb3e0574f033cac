//! The same questions at the same instants to the arithmetic alone, to this process's buckets and to the server's.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::model::quota;
use crate::model::quota::Level;
use crate::model::quota::Limit;
use crate::model::quota::Policy;
use crate::model::quota::Verdict;
use crate::model::time::Timestamp;
use crate::store::Limits as _;
use crate::store::Take;
use crate::store::Taken;
use crate::store::shared::buckets::SharedBuckets;
use crate::store::shared::buckets::TimeSource;
use crate::store::shared::buckets::Tuning;
use crate::store::shared::buckets::question;
use crate::store::shared::buckets::question::Next;
use crate::store::shared::buckets::question::Units;
use crate::store::shared::buckets::tests::COLD;
use crate::store::shared::buckets::tests::NOW;
use crate::store::shared::buckets::tests::limiter;
use crate::store::shared::buckets::tests::patient_link;
use crate::store::shared::buckets::tests::policy;
use crate::store::shared::testing::redis_server::RedisServer;
use crate::usage::Ledger;
use crate::usage::LedgerOptions;
use crate::usage::LocalBuckets;

/// Buckets as a map, one after the other.
#[derive(Default)]
struct Model(HashMap<(String, String), u64>);

impl Model {
    fn take(&mut self, takes: &[Take<'_>], now: Timestamp) -> Taken {
        let place = |take: &Take<'_>| (take.policy.name.to_string(), take.owner.to_owned());
        let mut after = self.0.clone();
        let (mut admitted, mut never, mut retry_after, mut levels) = (true, false, Duration::ZERO, Vec::new());
        for take in takes {
            let limit = take.policy.limit;
            let state = after.entry(place(take)).or_default();
            let verdict = quota::take(*state, limit, take.cost, now);
            *state = quota::settled(*state, limit, now);
            let kept = self.0.entry(place(take)).or_default();
            *kept = quota::settled(*kept, limit, now);
            match verdict {
                Verdict::Admitted { state: new, .. } if take.cost > 0 => *state = new,
                Verdict::Admitted { .. } => {}
                Verdict::Refused { retry_after: wait, .. } => (admitted, retry_after) = (false, retry_after.max(wait)),
                Verdict::Never { .. } => (admitted, never) = (false, true),
            }
            levels.push(verdict);
        }
        if admitted {
            self.0 = after;
            return Taken { admitted, levels: levels.iter().map(Verdict::level).collect(), retry_after: None };
        }
        let level = |(verdict, take): (&Verdict, &Take<'_>)| -> Level {
            match verdict {
                Verdict::Admitted { .. } => quota::level(self.0[&place(take)], take.policy.limit, now),
                Verdict::Refused { level, .. } | Verdict::Never { level } => *level,
            }
        };
        let levels = levels.iter().zip(takes).map(level).collect();
        Taken { admitted, levels, retry_after: (!never).then_some(retry_after) }
    }
}

/// The three engines; a server for all cases, whose buckets each case names anew.
struct Engines {
    runtime: Runtime,
    _server: RedisServer,
    shared: Arc<SharedBuckets>,
    _folder: TempDir,
    local: LocalBuckets,
}

impl Engines {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let server = RedisServer::start();
        let tuning =
            Tuning { hot_above_per_second: COLD, refusals_kept_max: Duration::ZERO, time: TimeSource::Caller, ..Tuning::default() };
        let shared = limiter(&patient_link(&server), 1, tuning);
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
        let folder = TempDir::new_in(target).unwrap();
        let ledger = Ledger::open(LedgerOptions { segment_bytes: 1 << 20, ..LedgerOptions::new(folder.path()) }, NOW).unwrap();
        Self { runtime, _server: server, shared, _folder: folder, local: LocalBuckets::new(Arc::new(ledger)) }
    }

    fn agree(&self, model: &mut Model, takes: &[Take<'_>], now: Timestamp) -> Result<Taken, TestCaseError> {
        let expected = model.take(takes, now);
        let local = self.local.take_now(takes, now).unwrap();
        let shared = self.runtime.block_on(async { self.shared.take(takes, now).await }).unwrap();
        prop_assert_eq!(&local, &expected, "this process");
        prop_assert_eq!(&shared, &expected, "the server");
        Ok(expected)
    }
}

/// Which buckets, each with a limit and a cost; how far the clock moves before.
type Asks = Vec<(Vec<(usize, usize, usize, u32)>, i64)>;

const OWNERS: [&str; 2] = ["user:a", "user:b"];
const SECOND: i64 = 1_000_000_000;

fn limits() -> impl Strategy<Value = Vec<Limit>> {
    let rate = prop_oneof![Just(1_u32), Just(60), Just(7), Just(1000), Just(60_000_000), 1..=u32::MAX];
    let slow_enough = |(rate, depth): (u32, u32)| {
        let limit = Limit { per_minute: rate, depth };
        let most = u32::try_from(quota::FILL_NANOS_MAX / limit.interval_nanos()).unwrap_or(u32::MAX);
        Limit { depth: depth.min(most), ..limit }
    };
    prop::collection::vec((rate, prop_oneof![1_u32..20, 1..2000_u32, 1..=u32::MAX]).prop_map(slow_enough), 3)
}

fn asks() -> impl Strategy<Value = Asks> {
    let cost = prop_oneof![4 => Just(1_u32), 2 => Just(0), 3 => 1..10_u32, 1 => 1..3000_u32, 1 => any::<u32>()];
    let buckets = prop::collection::vec((0..2_usize, 0..2_usize, 0..3_usize, cost), 1..5);
    let moves = prop_oneof![
        4 => Just(0_i64),
        3 => 0..1000_i64,
        4 => 0..SECOND,
        2 => 0..100 * SECOND,
        1 => 0..200 * 86_400 * SECOND,
        2 => -90 * SECOND..0,
        1 => -200 * 86_400 * SECOND..0,
    ];
    prop::collection::vec((buckets, moves), 1..40)
}

#[test]
fn three_engines_are_of_one_mind() {
    let engines = Engines::start();
    let case = std::sync::atomic::AtomicU64::new(0);
    let config = ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(limits in limits(), asks in asks())| {
        let case = case.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let policies: Vec<Vec<Policy>> = (0..2)
            .map(|name| limits.iter().map(|limit| policy(&format!("{case}-{name}"), limit.per_minute, limit.depth)).collect())
            .collect();
        // A bucket of this process is full from its birth on, not since ever: no clock goes back to before that here.
        let born = NOW.minus(Duration::from_secs(1000 * 86_400));
        for policies in &policies {
            for owner in OWNERS {
                engines.local.take_now(&[Take { policy: &policies[0], owner, root: "org:acme", cost: 0 }], born).unwrap();
            }
        }
        let (mut model, mut now) = (Model::default(), NOW);
        for (buckets, passed) in &asks {
            now = Timestamp::from_nanos(now.as_nanos().saturating_add_signed(*passed)).max(born);
            let takes: Vec<Take<'_>> = buckets
                .iter()
                .map(|(name, owner, limit, cost)| Take {
                    policy: &policies[*name][*limit],
                    owner: OWNERS[*owner],
                    root: "org:acme",
                    cost: *cost,
                })
                .collect();
            engines.agree(&mut model, &takes, now)?;
        }
    });
}

#[test]
fn asking_for_many_is_asking_many_times() {
    let engines = Engines::start();
    let case = std::sync::atomic::AtomicU64::new(0);
    let config = ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() };
    let units = prop::collection::vec((1..40_u32, 0..20_u32, 1..4_u64, 0..3 * SECOND as u64), 1..12);
    proptest!(config, |(limits in limits(), costs in prop::collection::vec(0..4_u32, 3), units in units)| {
        let case = case.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        prop_assume!(costs.iter().any(|cost| *cost > 0));
        let policies: Vec<Policy> = limits
            .iter()
            .enumerate()
            .map(|(number, limit)| policy(&format!("many-{case}-{number}"), limit.per_minute, limit.depth))
            .collect();
        let takes: Vec<Take<'_>> =
            policies.iter().zip(&costs).map(|(policy, cost)| Take { policy, owner: "o", root: "r", cost: *cost }).collect();
        let (mut model, mut now) = (Model::default(), NOW);
        for (need, stock, members, passed) in units {
            now = now.plus(Duration::from_nanos(passed));
            let reserve = u64::from(stock) * members;
            let reply = engines.runtime.block_on(async {
                let ends = crate::clock::monotonic() + Duration::from_secs(20);
                engines.shared.ask(&takes, Units { need, stock, reserve }, now, ends).await
            }).unwrap();
            let mut granted = 0;
            while granted < need && model.take(&takes, now).admitted {
                granted += 1;
            }
            let mut trial = Model(model.0.clone());
            if granted == need && stock > 0 && (0..reserve).all(|_| trial.take(&takes, now).admitted) {
                for _ in 0..stock {
                    prop_assert!(model.take(&takes, now).admitted);
                }
                granted += stock;
            }
            prop_assert_eq!(reply.granted, granted);
            let next = Model(model.0.clone()).take(&takes, now);
            let expected = match next.retry_after {
                _ if next.admitted => Next::Now,
                Some(wait) => Next::After(wait),
                None => Next::Never,
            };
            prop_assert_eq!(reply.next, expected);
            let looks: Vec<Take<'_>> = takes.iter().map(|take| Take { cost: 0, ..*take }).collect();
            prop_assert_eq!(question::levels(&takes, &reply.owed, 0, Duration::ZERO, now), model.take(&looks, now).levels);
        }
    });
}

// battery: R15
#[test]
fn a_clock_that_is_a_minute_off_locks_nobody_out_for_longer_than_the_bucket_takes_to_fill() {
    let engines = Engines::start();
    let ten = policy("ten", 60, 10);
    let second = Duration::from_secs(1);
    for (owner, back) in [("user:back", true), ("user:forward", false)] {
        let mut model = Model::default();
        let take = |cost| [Take { policy: &ten, owner, root: owner, cost }];
        assert!(engines.agree(&mut model, &take(10), NOW).unwrap().admitted);
        let moved = if back { NOW.minus(60 * second) } else { NOW.plus(60 * second) };
        // The bucket was empty. A clock ahead has filled it; under one that is behind it stays empty, and fills from now on.
        assert_eq!(engines.agree(&mut model, &take(1), moved).unwrap().admitted, !back, "{owner}");
        assert!(engines.agree(&mut model, &take(1), moved.plus(second)).unwrap().admitted, "{owner}");
        assert!(engines.agree(&mut model, &take(9), moved.plus(10 * second)).unwrap().admitted, "{owner}");
    }
}

#[test]
fn all_buckets_give_or_none_does() {
    let engines = Engines::start();
    let (small, large) = (policy("small", 60, 2), policy("large", 60, 10));
    let mut model = Model::default();
    let both = [Take { policy: &large, owner: "o", root: "r", cost: 1 }, Take { policy: &small, owner: "u", root: "r", cost: 1 }];
    for admitted in [true, true, false, false] {
        assert_eq!(engines.agree(&mut model, &both, NOW).unwrap().admitted, admitted);
    }
    let look = [Take { cost: 0, ..both[0] }];
    assert_eq!(engines.agree(&mut model, &look, NOW).unwrap().levels[0].remaining, 8, "refusals took nothing");
}
