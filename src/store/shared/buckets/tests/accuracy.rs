//! What many sidecars together admit of one bucket, by the server's own clock. `--nocapture` shows the table.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;

use crate::clock::monotonic;
use crate::model::quota::Policy;
use crate::model::time::Timestamp;
use crate::store::Limits as _;
use crate::store::Take;
use crate::store::shared::buckets::SharedBuckets;
use crate::store::shared::buckets::Tuning;
use crate::store::shared::buckets::question::Reply;
use crate::store::shared::buckets::question::Units;
use crate::store::shared::buckets::tests::COLD;
use crate::store::shared::buckets::tests::NOW;
use crate::store::shared::buckets::tests::limiter;
use crate::store::shared::buckets::tests::patient_link;
use crate::store::shared::buckets::tests::policy;
use crate::store::shared::buckets::tests::scripts_run;
use crate::store::shared::testing::redis_server::RedisServer;

/// Who asks at once on each sidecar.
const CLIENTS: usize = 8;
const RUN: Duration = Duration::from_secs(1);

/// What a run ended in.
struct Outcome {
    asked: u64,
    admitted: u64,
    /// From the first to the last answer, by the server.
    window: Duration,
    scripts: u64,
    lapsed: u64,
}

#[derive(Clone, Copy)]
enum Demand {
    /// Whoever is refused asks again as soon as it was told to.
    Saturating,
    /// So many requests a second by all sidecars together.
    Steady(u32),
}

struct Fleet {
    limiters: Vec<Arc<SharedBuckets>>,
    policy: Policy,
    asked: AtomicU64,
    admitted: AtomicU64,
}

impl Fleet {
    async fn ask(&self, limiter: &SharedBuckets) -> Option<Duration> {
        let taken = limiter.take(&[self.take()], NOW).await.unwrap();
        self.asked.fetch_add(1, Ordering::Relaxed);
        if taken.admitted {
            self.admitted.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(taken.retry_after.unwrap())
    }

    /// Past everything that is remembered: the server itself.
    async fn ask_server(&self, need: u32) -> Reply {
        let ends = monotonic() + Duration::from_secs(20);
        let reply = self.limiters[0].ask(&[self.take()], Units { need, ..Units::ONE }, NOW, ends).await.unwrap();
        self.admitted.fetch_add(reply.granted.into(), Ordering::Relaxed);
        reply
    }

    fn take(&self) -> Take<'_> {
        Take { policy: &self.policy, owner: "org:acme", root: "org:acme", cost: 1 }
    }
}

async fn run(sidecars: u32, policy: Policy, tuning: Tuning, demand: Demand) -> Outcome {
    let server = RedisServer::start();
    let limiters = (0..sidecars).map(|_| limiter(&patient_link(&server), sidecars, tuning)).collect();
    let fleet = Arc::new(Fleet { limiters, policy, asked: AtomicU64::new(0), admitted: AtomicU64::new(0) });
    // The demand begins with half of the bucket at once: a full one would spill what comes in before the clients are there.
    let first: Timestamp = fleet.ask_server(fleet.policy.limit.depth / 2).await.server_now;
    let ends = monotonic() + RUN;
    let clients = (0..usize::try_from(sidecars).unwrap() * CLIENTS).map(|client| {
        let (fleet, clients) = (Arc::clone(&fleet), sidecars * u32::try_from(CLIENTS).unwrap());
        tokio::spawn(async move {
            let limiter = Arc::clone(&fleet.limiters[client / CLIENTS]);
            let mut due = monotonic();
            while monotonic() < ends {
                let refused = fleet.ask(&limiter).await;
                match demand {
                    Demand::Saturating => {
                        if let Some(wait) = refused {
                            tokio::time::sleep(wait).await;
                        }
                    }
                    Demand::Steady(per_second) => {
                        due += Duration::from_secs(1) * clients / per_second;
                        tokio::time::sleep_until(due).await;
                    }
                }
            }
        })
    });
    for client in join_all(clients.collect::<Vec<_>>()).await {
        client.unwrap();
    }
    let scripts = scripts_run(&server);
    // To the bottom of the bucket: the window ends with a refusal.
    let last = loop {
        let reply = fleet.ask_server(1).await;
        if reply.granted == 0 {
            break reply.server_now;
        }
    };
    Outcome {
        asked: fleet.asked.load(Ordering::Relaxed),
        admitted: fleet.admitted.load(Ordering::Relaxed),
        window: last.since(first),
        scripts,
        lapsed: fleet.limiters.iter().map(|limiter| limiter.status().lapsed).sum(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_sidecars_keep_one_limit() {
    println!("| sidecars | mode | limit | w by the server | admitted | b + floor(r*w) | ratio | requests | script runs | lapsed |");
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for sidecars in [1, 2, 4] {
        for (name, tuning) in [
            ("exact", Tuning { hot_above_per_second: COLD, ..Tuning::default() }),
            ("leased", Tuning { hot_above_per_second: 0, ..Tuning::default() }),
        ] {
            for policy in [policy("slow", 6_000, 50), policy("fast", 120_000, 1_000)] {
                let limit = policy.limit;
                let outcome = run(sidecars, policy, tuning, Demand::Saturating).await;
                let within = |window: Duration| u64::from(limit.depth) + u64::try_from(window.as_nanos()).unwrap() / limit.interval_nanos();
                let expected = within(outcome.window);
                println!(
                    "| {sidecars} | {name} | {}/s, burst {} | {:.3} s | {} | {expected} | {:.4} | {} | {} | {} |",
                    limit.per_minute / 60,
                    limit.depth,
                    outcome.window.as_secs_f64(),
                    outcome.admitted,
                    outcome.admitted as f64 / expected as f64,
                    outcome.asked,
                    outcome.scripts,
                    outcome.lapsed,
                );
                if name == "exact" {
                    assert_eq!(outcome.admitted, expected, "{sidecars} {limit:?}");
                } else {
                    let most_held = u64::from(sidecars) * u64::from(limit.depth / (2 * sidecars));
                    assert!(outcome.admitted <= within(outcome.window + tuning.lease), "{sidecars} {limit:?}");
                    assert!(outcome.admitted <= expected + most_held, "{sidecars} {limit:?}");
                    // Paid for before it is spent, so there is not even that much over.
                    assert!(outcome.admitted <= expected, "{sidecars} {limit:?}");
                    assert!(outcome.admitted * 100 >= expected * 80, "{sidecars} {limit:?}: {} of {expected}", outcome.admitted);
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hot_bucket_below_its_limit_refuses_nobody_and_asks_seldom() {
    for sidecars in [1, 2, 4] {
        let tuning = Tuning::default();
        let outcome = run(sidecars, policy("fast", 60_000, 1_000), tuning, Demand::Steady(500)).await;
        println!(
            "{sidecars} sidecars at half of the limit: {} requests, {} script runs, {} leased and lapsed",
            outcome.asked, outcome.scripts, outcome.lapsed
        );
        // The first second is warming up: twenty requests of each sidecar are asked for one by one.
        assert!(outcome.scripts * 2 < outcome.asked, "{} of {}", outcome.scripts, outcome.asked);
        let expected = 1_000 + u64::try_from(outcome.window.as_millis()).unwrap();
        assert!(outcome.admitted + outcome.lapsed >= expected - 1 - 1_000, "nothing else is missing");
        assert!(outcome.admitted <= expected);
    }
}
