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

/// How often each status was the answer.
type Statuses = BTreeMap<u16, u64>;

fn sign_in() -> Vec<u8> {
    let body = json!({ "username": USER, "password": PASSWORD }).to_string();
    message("POST", "/login", "api.example.com", &[("content-type", "application/json")], body.as_bytes())
}

/// How long checks take.
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
    latencies
}

/// Signs in once in each `pause`, beginning after `first`, until it is over; how often each status was the answer.
fn flood(issuing: &Issuing, first: Duration, pause: Duration, over: &AtomicBool) -> Statuses {
    // In the field a flood is made elsewhere, so what the making costs here is not to be felt.
    rustix::process::setpriority_process(None, 19).expect("a lower priority can be had");
    let mut connection = Connection::open(issuing.scenario.envoy.port).expect("the port is open");
    let mut statuses = Statuses::new();
    let mut next = Instant::now() + first;
    while !over.load(Ordering::Relaxed) {
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        let reply = connection.exchange(&sign_in()).expect("an answer");
        *statuses.entry(reply.status).or_default() += 1;
        next += pause;
    }
    statuses
}

/// Runs `work` in a flood of so many sign-ins a second.
fn in_a_flood<T>(issuing: &Issuing, per_second: f64, work: impl FnOnce() -> T) -> (T, Vec<Statuses>) {
    let over = AtomicBool::new(false);
    let pause = Duration::from_secs_f64(FLOODERS as f64 / per_second);
    std::thread::scope(|scope| {
        // In turn: eight at the same instant, again and again, would be another thing than so many a second.
        let first = |flooder: usize| pause * flooder as u32 / FLOODERS as u32;
        let flooders: Vec<_> = (0..FLOODERS)
            .map(|flooder| {
                scope.spawn({
                    let over = &over;
                    move || flood(issuing, first(flooder), pause, over)
                })
            })
            .collect();
        let worked = work();
        over.store(true, Ordering::Relaxed);
        (worked, flooders.into_iter().map(|flooder| flooder.join().expect("a flooder")).collect())
    })
}

/// The one of a hundred that is slower than all but one of them, and its neighbours on the way there.
fn spread(latencies: &mut [Duration]) -> [Duration; 3] {
    latencies.sort();
    [50, 90, 99].map(|percent| latencies[latencies.len() * percent / 100])
}

/// With `TOLLGATE_TEST_FLOOD` (seconds) the figures are judged; otherwise this shows who is refused, and prints them.
// oauth: R10
// battery: X11
#[test]
fn a_flood_of_sign_ins_is_refused_and_checks_go_on() {
    let asked = std::env::var("TOLLGATE_TEST_FLOOD").ok().map(|seconds| seconds.parse().expect("TOLLGATE_TEST_FLOOD is a number"));
    let rounds = asked.unwrap_or(2) / 2;
    let issuing = Issuing::start(SETTINGS);
    let key = issuing.scenario.key("checker", "enterprise", &["conversations:read", "tollgate:unlimited"]);
    let began = Instant::now();
    let mut alone = 0_u32;
    while began.elapsed() < Duration::from_secs(1) {
        assert_eq!(issuing.client().raw(&sign_in()).status, 200);
        alone += 1;
    }
    let capacity = f64::from(alone) / began.elapsed().as_secs_f64();
    let (mut calm, mut flooded, mut statuses) = (Vec::new(), Vec::new(), Statuses::new());
    // By turns, so that what else goes on in the machine is felt by both.
    for _round in 0..rounds {
        let measured = || latencies(&issuing, &key, Duration::from_secs(2));
        calm.extend(measured());
        let (these, answers) = in_a_flood(&issuing, 10.0 * capacity, measured);
        flooded.extend(these);
        for (status, count) in answers.into_iter().flatten() {
            *statuses.entry(status).or_default() += count;
        }
        // Whoever is served now was the last to wait, so nothing is under way any more.
        while issuing.client().raw(&sign_in()).status != 200 {}
    }
    let (calm, flooded) = (spread(&mut calm), spread(&mut flooded));
    let ratio = flooded[2].as_secs_f64() / calm[2].as_secs_f64();
    eprintln!(
        "capacity {capacity:.0} sign-ins/s, flood {statuses:?} in {rounds} times 2 s; p50, p90, p99 of checks {calm:?} calm, {flooded:?} \
         flooded: {ratio:.2}"
    );
    assert!(statuses.keys().all(|status| [200, 429, 503].contains(status)), "{statuses:?}");
    let refused: u64 = statuses.iter().filter(|(status, _)| **status != 200).map(|(_, count)| count).sum();
    assert!(refused > 0, "the surplus is refused: {statuses:?}");
    assert!(asked.is_none() || ratio <= 2.0, "p99 of checks rose to {ratio:.2} times");
}
