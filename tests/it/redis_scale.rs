//! Many keys and many lines of counts against few: what a check costs, what is held in memory, how long a start and a flush take.
//!
//! `TOLLGATE_TEST_SCALE` says how many keys the larger of the two installations has; the usual run only shows that all of it works.

use std::time::Duration;
use std::time::Instant;

use crate::support::chance::Chance;
use crate::support::fleet::Fleet;
use crate::support::fleet::FleetPlan;
use crate::support::fleet::bearer;
use crate::support::grpc::Checker;
use crate::support::grpc::denied_with;
use crate::support::redis::RedisServer;

const ROUTES: usize = 10;
const KEYS_PER_USER: usize = 10;
const AT_ONCE: usize = 64;

/// What one installation costs.
#[derive(Clone, Copy, Debug)]
struct Figures {
    keys: usize,
    lines: usize,
    check_microseconds: f64,
    sidecar_megabytes: f64,
    redis_megabytes: f64,
    start: Duration,
    flush: Duration,
    user_hour_bytes: f64,
}

fn processor_seconds(fleet: &Fleet) -> f64 {
    fleet.sidecars[0].tollgate.process.processor_time().as_secs_f64()
}

fn measure(keys: usize, checks: usize) -> Figures {
    let server = RedisServer::start();
    let routes: String =
        (0..ROUTES).map(|route| format!("  - {{ name: r{route}, path: /r{route}, scopes: {{ all_of: [orders:read] }} }}\n")).collect();
    let plan = FleetPlan::on(&server.place())
        // Every key is asked for once by a crowd; none of that is what is measured.
        .store("timeouts: { check: 1s }")
        .with("routes:\n", &format!("routes:\n{routes}"))
        // No flush disturbs what a check costs; the one at the end is told of.
        .with("ledger: { path: ./data/ledger }", "ledger: { path: ./data/ledger, flush_interval: 600s }")
        .with("grace: 1s }\nkey_brand", "grace: 120s }\nkey_brand");
    let mut fleet = plan.start(1);
    let began = Instant::now();
    let made: Vec<String> = std::thread::scope(|scope| {
        let sidecar = &fleet.sidecars[0];
        let makers = 4;
        let threads: Vec<_> = (0..makers)
            .map(|maker| {
                let own = (0..keys).filter(move |number| number % makers == maker);
                scope.spawn(move || {
                    own.map(|number| sidecar.key(&format!("user-{}", number / KEYS_PER_USER), "free").text).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a maker")).collect()
    });
    eprintln!("{keys} keys made in {:.1?}", began.elapsed());
    let checker = Checker::connect(&fleet.sidecars[0].tollgate.check);
    let began = Instant::now();
    for route in 0..ROUTES {
        let requests = made.iter().map(|key| bearer(&format!("/r{route}"), key));
        for response in checker.check_all(requests, AT_ONCE) {
            assert_eq!(denied_with(&response), None);
        }
    }
    let lines = made.len() * ROUTES;
    eprintln!("{lines} lines counted in {:.1?}", began.elapsed());
    let mut chance = Chance::new();
    let mut check_cost = |checks: usize| {
        let requests: Vec<_> =
            (0..checks).map(|_| bearer(&format!("/r{}", chance.index(ROUTES)), &made[chance.index(made.len())])).collect();
        let before = processor_seconds(&fleet);
        let answers = checker.check_all(requests.into_iter(), AT_ONCE);
        assert_eq!(answers.len(), checks);
        (processor_seconds(&fleet) - before) * 1e6 / checks as f64
    };
    check_cost(checks / 10);
    let mut costs: Vec<f64> = (0..5).map(|_| check_cost(checks / 5)).collect();
    costs.sort_by(f64::total_cmp);
    // A client that nobody drives any more would hold up the end.
    drop(checker);
    let sidecar_bytes = fleet.sidecars[0].tollgate.process.resident_bytes();
    let began = Instant::now();
    fleet.sidecars[0].tollgate.process.signal(rustix::process::Signal::TERM);
    while fleet.sidecars[0].tollgate.process.is_running() {
        assert!(began.elapsed() < Duration::from_secs(150), "the last flush does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
    let stop = began.elapsed();
    // What the end had no time for is told by the next start, a piece each second.
    let file = fleet.sidecars[0].folder.join("tollgate.yaml");
    let rules = std::fs::read_to_string(&file).expect("the rules");
    std::fs::write(&file, rules.replace("flush_interval: 600s", "flush_interval: 1s")).expect("the rules");
    let began = Instant::now();
    fleet.sidecars[0].tollgate.restart();
    let start = began.elapsed();
    let hours = || server.ask(&["SCAN", "0", "MATCH", "tollgate:1:u:*:h:*", "COUNT", "10000000"]).list().remove(1).texts();
    while hours().len() < keys / KEYS_PER_USER {
        assert!(began.elapsed() < Duration::from_secs(600), "{} of {} users have reached the store", hours().len(), keys / KEYS_PER_USER);
        std::thread::sleep(Duration::from_millis(50));
    }
    let flush = stop + began.elapsed() - start;
    let user_hours = hours();
    let sample: Vec<&String> = user_hours.iter().step_by(user_hours.len().div_ceil(200)).collect();
    let bytes: i64 = sample.iter().map(|key| server.ask(&["MEMORY", "USAGE", key, "SAMPLES", "0"]).number()).sum();
    let redis_bytes: f64 = server.info("used_memory").and_then(|bytes| bytes.parse().ok()).expect("a number");
    Figures {
        keys,
        lines,
        check_microseconds: costs[costs.len() / 2],
        sidecar_megabytes: sidecar_bytes as f64 / 1e6,
        redis_megabytes: redis_bytes / 1e6,
        start,
        flush,
        user_hour_bytes: bytes as f64 / sample.len() as f64,
    }
}

#[test]
fn many_keys_and_counts_cost_a_check_no_more() {
    let asked = std::env::var("TOLLGATE_TEST_SCALE").ok().map(|keys| keys.parse::<usize>().expect("TOLLGATE_TEST_SCALE is a number"));
    let (few, many, checks) = asked.map_or((10, 100, 1000), |keys| (1000, keys, 100_000));
    let figures = [measure(few, checks), measure(many, checks)];
    eprintln!("   keys |   lines | CPU/check | sidecar | Redis   | start   | flush   | user-hour ({} lines)", ROUTES * KEYS_PER_USER);
    for one in figures {
        eprintln!(
            "{:7} | {:7} | {:6.1} us | {:4.0} MB | {:4.0} MB | {:5.2} s | {:5.2} s | {:.0} bytes",
            one.keys,
            one.lines,
            one.check_microseconds,
            one.sidecar_megabytes,
            one.redis_megabytes,
            one.start.as_secs_f64(),
            one.flush.as_secs_f64(),
            one.user_hour_bytes
        );
    }
    let ratio = figures[1].check_microseconds / figures[0].check_microseconds;
    eprintln!("a check costs {ratio:.2} times as much");
    assert!(asked.is_none() || ratio <= 1.3, "a check costs {ratio:.2} times as much");
}
