//! What many sidecars together admit of one bucket, by the server's own clock. `--nocapture` shows the table.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::clock::monotonic;
use crate::model::quota::Limit;
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
const RUN: Duration = Duration::from_millis(700);

/// What a run ended in.
struct Outcome {
    asked: u64,
    admitted: u64,
    /// From the first to the last answer, by the server.
    window: Duration,
    scripts: u64,
    lapsed: u64,
    /// Each admission of the run: when it was asked for, and when it was there.
    admissions: Vec<(Instant, Instant)>,
}

impl Outcome {
    /// How many requests more every window of the run could have held: windows are widened by `slack`, and the admissions that
    /// lie wholly within them are counted.
    fn least_room(&self, limit: Limit, slack: Duration) -> u64 {
        let mut by_start = self.admissions.clone();
        by_start.sort_unstable();
        let mut least = u64::MAX;
        for (index, (start, _)) in by_start.iter().enumerate().step_by(16) {
            let mut ends: Vec<Instant> = by_start[index..].iter().map(|(_, end)| *end).collect();
            ends.sort_unstable();
            for (before, end) in ends.iter().enumerate() {
                // One more, since the two clocks round differently.
                let room = most_within(limit, end.duration_since(*start) + slack) + 1;
                least = least.min(room.checked_sub(before as u64 + 1).expect("a window admitted more than the bound"));
            }
        }
        least
    }
}

/// b + floor(r * w).
fn most_within(limit: Limit, window: Duration) -> u64 {
    u64::from(limit.depth) + u64::try_from(window.as_nanos()).unwrap() / limit.interval_nanos()
}

#[derive(Clone, Copy)]
enum Demand {
    /// Whoever is refused asks again as soon as it was told to.
    Saturating,
    /// So many requests a second by all sidecars together.
    Steady(u32),
    /// One sidecar after the other: saturating for so long, then silent for three times as long.
    Bursts(Duration),
}

struct Fleet {
    limiters: Vec<Arc<SharedBuckets>>,
    policy: Policy,
    asked: AtomicU64,
    admitted: AtomicU64,
    admissions: Mutex<Vec<(Instant, Instant)>>,
}

impl Fleet {
    async fn ask(&self, limiter: &SharedBuckets) -> Option<Duration> {
        let began = monotonic();
        let taken = limiter.take(&[self.take()], NOW).await.unwrap();
        self.asked.fetch_add(1, Ordering::Relaxed);
        if taken.admitted {
            self.admitted.fetch_add(1, Ordering::Relaxed);
            self.admissions.lock().unwrap().push((began, monotonic()));
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
    let fleet = Arc::new(Fleet { limiters, policy, asked: AtomicU64::new(0), admitted: AtomicU64::new(0), admissions: Mutex::default() });
    // The demand begins with half of the bucket at once: a full one would spill what comes in before the clients are there.
    let first: Timestamp = fleet.ask_server(fleet.policy.limit.depth / 2).await.server_now;
    let began = monotonic();
    let ends = began + RUN;
    let clients = (0..usize::try_from(sidecars).unwrap() * CLIENTS).map(|client| {
        let (fleet, clients) = (Arc::clone(&fleet), sidecars * u32::try_from(CLIENTS).unwrap());
        tokio::spawn(async move {
            let limiter = Arc::clone(&fleet.limiters[client / CLIENTS]);
            let mut due = monotonic();
            while monotonic() < ends {
                if let Demand::Bursts(length) = demand {
                    // A round is four parts long, and each sidecar has one of them to itself.
                    let part = monotonic().duration_since(began).as_micros() / length.as_micros();
                    if part % 4 != (client / CLIENTS) as u128 {
                        tokio::time::sleep(length / 8).await;
                        continue;
                    }
                }
                let refused = fleet.ask(&limiter).await;
                match demand {
                    Demand::Saturating | Demand::Bursts(_) => {
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
    // To the bottom of the bucket: the window ends when there was less than was asked for.
    let depth = fleet.policy.limit.depth;
    let last = loop {
        let reply = fleet.ask_server(depth).await;
        if reply.granted < depth {
            break reply.server_now;
        }
    };
    Outcome {
        asked: fleet.asked.load(Ordering::Relaxed),
        admitted: fleet.admitted.load(Ordering::Relaxed),
        window: last.since(first),
        scripts,
        lapsed: fleet.limiters.iter().map(|limiter| limiter.status().lapsed).sum(),
        admissions: std::mem::take(&mut *fleet.admissions.lock().unwrap()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_sidecars_keep_one_limit() {
    let (exact, leased) =
        (Tuning { hot_above_per_second: COLD, ..Tuning::default() }, Tuning { hot_above_per_second: 0, ..Tuning::default() });
    let bursts = Demand::Bursts(Duration::from_millis(30));
    println!(
        "| sidecars | mode | limit | w by the server | admitted | b + floor(r*w) | ratio | room in the tightest window | requests \
         | script runs | lapsed |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for sidecars in [1, 2, 4] {
        for (name, tuning, demand) in
            [("exact", exact, Demand::Saturating), ("leased", leased, Demand::Saturating), ("leased, bursts in turn", leased, bursts)]
        {
            for policy in [policy("slow", 6_000, 200), policy("fast", 120_000, 3_000)] {
                let limit = policy.limit;
                let outcome = run(sidecars, policy, tuning, demand).await;
                let expected = most_within(limit, outcome.window);
                let slack = if name == "exact" { Duration::ZERO } else { tuning.lease };
                // b + r * (w + T) in any window.
                let room = outcome.least_room(limit, slack);
                println!(
                    "| {sidecars} | {name} | {}/s, burst {} | {:.3} s | {} | {expected} | {:.4} | {room} | {} | {} | {} |",
                    limit.per_minute / 60,
                    limit.depth,
                    outcome.window.as_secs_f64(),
                    outcome.admitted,
                    outcome.admitted as f64 / expected as f64,
                    outcome.asked,
                    outcome.scripts,
                    outcome.lapsed,
                );
                let what = format!("{name}, {sidecars} sidecars, {limit:?}");
                // What is taken in advance is paid for before it is spent, so the whole run has not even N * q more than exact.
                assert!(outcome.admitted <= expected, "{what}");
                match (name, demand) {
                    ("exact", _) => assert_eq!(outcome.admitted, expected, "{what}"),
                    (_, Demand::Saturating) => assert!(outcome.admitted * 100 >= expected * 80, "{what}: {}", outcome.admitted),
                    // Whatever the bursts did not get lapsed, or spilt while the bucket was full.
                    (_, Demand::Bursts(_) | Demand::Steady(_)) => assert!(outcome.admitted * 100 >= expected * 50, "{what}"),
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
