//! `kill -9` at random instants under load. Afterwards, for each user: answers seen ≤ counted ≤ answers seen + what may have been in
//! flight when the process died.

use std::hash::BuildHasher;
use std::hash::RandomState;
use std::time::Duration;

use crate::support::http1::message;
use crate::support::load::Load;
use crate::support::scenario::Plan;

const USERS: usize = 4;
const CLIENTS_PER_USER: u64 = 3;

/// `TOLLGATE_TEST_ROUNDS` asks for more than the usual run has time for.
fn rounds() -> u64 {
    std::env::var("TOLLGATE_TEST_ROUNDS").map_or(20, |rounds| rounds.parse().expect("TOLLGATE_TEST_ROUNDS is a number"))
}

// battery: X6
#[test]
fn no_answer_is_lost_and_none_counted_twice_through_kill_9() {
    let mut scenario = Plan::of("quickstart").start();
    let keys: Vec<String> =
        (0..USERS).map(|user| scenario.key(&format!("user-{user}"), "enterprise", &["conversations:read", "tollgate:unlimited"])).collect();
    let requests = keys.iter().flat_map(|key| {
        let authorization = format!("Bearer {key}");
        let request = message("GET", "/api/v1/conversations", "api.example.com", &[("authorization", &authorization)], b"");
        std::iter::repeat_n(request, usize::try_from(CLIENTS_PER_USER).expect("small"))
    });
    let load = Load::start(scenario.envoy.port, requests.collect());
    let chance = RandomState::new();
    let mut instants = Vec::new();
    for round in 0..rounds() {
        let instant = Duration::from_micros(20_000 + chance.hash_one(round) % 200_000);
        instants.push(instant);
        std::thread::sleep(instant);
        scenario.tollgate.process.kill();
        scenario.tollgate.restart();
    }
    let before = scenario.upstream.count();
    crate::support::process::wait_until("the load runs again", || scenario.upstream.count() > before + 50);
    let tallies = load.finish_each();
    for user in 0..USERS {
        let clients = usize::try_from(CLIENTS_PER_USER).expect("small");
        let own = &tallies[user * clients..(user + 1) * clients];
        let seen: u64 = own.iter().map(|tally| tally.of(200)).sum();
        let failed: u64 = own.iter().map(|tally| tally.total() - tally.of(200) + tally.broken).sum();
        // Each client has one request at a time, so a kill cuts off at most one check of each; every such check is an answer that failed.
        let in_flight = failed.min(CLIENTS_PER_USER * rounds());
        let counted = scenario.admitted(&format!("user-{user}"));
        assert!(
            (seen..=seen + in_flight).contains(&counted),
            "user-{user}: {counted} counted, {seen} answers seen, at most {in_flight} in flight; killed after {instants:?}"
        );
        assert!(seen > 0 && own.iter().all(|tally| tally.total() == tally.of(200) + tally.of(503)), "{own:?}");
    }
}
