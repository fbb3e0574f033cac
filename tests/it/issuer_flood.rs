//! A flood of sign-ins at ten times what the pool can hash: the surplus is refused, and checks through Envoy hardly notice.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use serde_json::json;

use crate::support::http1::Connection;
use crate::support::http1::message;
use crate::support::issuing::Issuing;
use crate::support::issuing::PASSWORD;
use crate::support::issuing::USER;

const SETTINGS: &str =
    "  compatibility: [tinyoauth]\n  passwords: { workers: 1, waiting: 4, per_address: 1000000, per_account_and_address: 1000000 }\n";
const FLOODERS: usize = 8;

fn sign_in() -> Vec<u8> {
    let body = json!({ "username": USER, "password": PASSWORD }).to_string();
    message("POST", "/login", "api.example.com", &[("content-type", "application/json")], body.as_bytes())
}

/// How long checks take, sorted.
fn latencies(issuing: &Issuing, key: &str, during: Duration) -> Vec<Duration> {
    let authorization = format!("Bearer {key}");
    let request = message("GET", "/api/v1/conversations", "api.example.com", &[("authorization", &authorization)], b"");
    let mut connection = Connection::open(issuing.scenario.envoy.port).expect("the port is open");
    let began = Instant::now();
    let mut latencies = Vec::new();
    while began.elapsed() < during {
        let asked = Instant::now();
        let reply = connection.exchange(&request).expect("an answer");
        latencies.push(asked.elapsed());
        assert_eq!(reply.status, 200, "{}", reply.text());
        std::thread::sleep(Duration::from_millis(1));
    }
    latencies.sort();
    latencies
}

fn ninety_ninth(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() * 99 / 100]
}

/// With `TOLLGATE_TEST_FLOOD` (seconds) the figures are judged; otherwise this shows who is refused, and prints them.
// oauth: R10
// battery: X11
#[test]
fn a_flood_of_sign_ins_is_refused_and_checks_go_on() {
    let asked = std::env::var("TOLLGATE_TEST_FLOOD").ok().map(|seconds| seconds.parse().expect("TOLLGATE_TEST_FLOOD is a number"));
    let during = Duration::from_secs(asked.unwrap_or(2));
    let issuing = Issuing::start(SETTINGS);
    let key = issuing.scenario.key("checker", "enterprise", &["conversations:read", "tollgate:unlimited"]);
    let sample = Duration::from_secs(1);
    let began = Instant::now();
    let mut alone = 0_u32;
    while began.elapsed() < sample {
        assert_eq!(issuing.client().raw(&sign_in()).status, 200);
        alone += 1;
    }
    let capacity = f64::from(alone) / began.elapsed().as_secs_f64();
    let calm = latencies(&issuing, &key, during);
    let over = AtomicBool::new(false);
    let pause = Duration::from_secs_f64(FLOODERS as f64 / (10.0 * capacity));
    let (flooded, statuses) = std::thread::scope(|scope| {
        let flooders: Vec<_> = (0..FLOODERS)
            .map(|flooder| {
                let over = &over;
                let issuing = &issuing;
                scope.spawn(move || {
                    // In the field a flood is made elsewhere, so what the making costs here is not to be felt.
                    rustix::process::setpriority_process(None, 19).expect("a lower priority can be had");
                    let mut connection = Connection::open(issuing.scenario.envoy.port).expect("the port is open");
                    let mut statuses: BTreeMap<u16, u64> = BTreeMap::new();
                    // In turn: eight at the same instant, again and again, would be another thing than so many a second.
                    let mut next = Instant::now() + pause * flooder as u32 / FLOODERS as u32;
                    while !over.load(Ordering::Relaxed) {
                        std::thread::sleep(next.saturating_duration_since(Instant::now()));
                        let reply = connection.exchange(&sign_in()).expect("an answer");
                        *statuses.entry(reply.status).or_default() += 1;
                        next += pause;
                    }
                    statuses
                })
            })
            .collect();
        let flooded = latencies(&issuing, &key, during);
        over.store(true, Ordering::Relaxed);
        let mut statuses: BTreeMap<u16, u64> = BTreeMap::new();
        for flooder in flooders {
            for (status, count) in flooder.join().expect("a flooder") {
                *statuses.entry(status).or_default() += count;
            }
        }
        (flooded, statuses)
    });
    let ratio = ninety_ninth(&flooded).as_secs_f64() / ninety_ninth(&calm).as_secs_f64();
    eprintln!(
        "capacity {capacity:.0} sign-ins/s, flood {statuses:?} in {during:?}; p99 of checks {:?} calm, {:?} flooded: {ratio:.2}",
        ninety_ninth(&calm),
        ninety_ninth(&flooded)
    );
    assert!(statuses.keys().all(|status| [200, 429, 503].contains(status)), "{statuses:?}");
    let refused: u64 = statuses.iter().filter(|(status, _)| **status != 200).map(|(_, count)| count).sum();
    assert!(refused > 0, "the surplus is refused: {statuses:?}");
    assert!(asked.is_none() || ratio <= 2.0, "p99 of checks rose to {ratio:.2} times");
}
