//! Seed 002's limits: three tiers, headers, 429, internal services, and the document's own test.

use std::time::Instant;

use crate::envoy_reva::reva;
use crate::support::http1::Connection;
use crate::support::http1::Reply;
use crate::support::http1::message;
use crate::support::jwt;
use crate::support::scenario::NewKey;
use crate::support::scenario::Scenario;

const TARGET: &str = "/api/v1/conversations";

/// One client that asks for `count` answers as fast as they come.
fn burst(scenario: &Scenario, key: &str, count: usize) -> Vec<Reply> {
    let bytes = message("GET", TARGET, "api.example.com", &[("authorization", &format!("Bearer {key}"))], b"");
    let mut connection = Connection::open(scenario.envoy.port).expect("the port is open");
    (0..count).map(|_| connection.exchange(&bytes).expect("an answer")).collect()
}

fn admitted(replies: &[Reply]) -> u64 {
    replies.iter().filter(|reply| reply.status == 200).count() as u64
}

/// Depth and the whole tokens that came back during the run: the first request may have found any fraction of a token already there,
/// so both neighbours of the elapsed time are counted in.
fn assert_admits(replies: &[Reply], depth: u64, per_minute: u64, started: Instant, what: &str) {
    let elapsed = started.elapsed().as_secs_f64();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "small and positive")]
    let refilled = (elapsed * per_minute as f64 / 60.0).floor() as u64;
    let count = admitted(replies);
    assert!(replies.iter().any(|reply| reply.status == 429), "{what}: the limit was never reached");
    // The clock of this test starts before the first request and stops after the last, so it can only see more time than the bucket did.
    assert!((depth..=depth + refilled).contains(&count), "{what}: {count} admitted, {depth} and {refilled} were due");
}

#[test]
fn each_tier_admits_its_burst_and_its_rate() {
    let (scenario, _) = reva();
    for (tier, rate, depth) in [("free", 60, 10), ("pro", 300, 50), ("enterprise", 1000, 100)] {
        let key = scenario.key(&format!("of-{tier}"), tier, &["conversations:read"]);
        let started = Instant::now();
        let count = usize::try_from(depth).expect("small") * 3;
        let replies = burst(&scenario, &key, count);
        assert_admits(&replies, depth, rate, started, tier);
        assert_eq!((replies[0].number("x-ratelimit-limit"), replies[0].number("x-ratelimit-remaining")), (rate, depth - 1), "{tier}");
    }
}

/// The document's test: sixty calls pass and the sixty-first is refused. The clock does not stand still meanwhile, so what is admitted
/// is 60 and one more for each whole second.
#[test]
fn the_sixty_first_call_of_a_key_with_a_limit_of_sixty_is_refused() {
    let (scenario, _) = reva();
    let new = NewKey { user: "u60", tier: "enterprise", scopes: &["conversations:read"], rate_limit: Some(60), ..NewKey::default() };
    let key = scenario.new_key(&new).text;
    let bytes = message("GET", TARGET, "api.example.com", &[("authorization", &format!("Bearer {key}"))], b"");
    let mut connection = Connection::open(scenario.envoy.port).expect("the port is open");
    // The bucket sees the first and the last request somewhere inside their round trips: one clock around them, one between them.
    let around = Instant::now();
    let mut replies = vec![connection.exchange(&bytes).expect("an answer")];
    let between = Instant::now();
    let mut least = between.elapsed();
    while replies.last().is_some_and(|reply| reply.status == 200) {
        assert!(replies.len() < 120, "the limit was never reached");
        least = between.elapsed();
        replies.push(connection.exchange(&bytes).expect("an answer"));
    }
    let due = 60 + least.as_secs()..=60 + around.elapsed().as_secs();
    assert!(due.contains(&admitted(&replies)), "{} admitted, {due:?} were due", admitted(&replies));
    let refused = replies.last().expect("an answer");
    assert_eq!(refused.status, 429, "{refused:?}");
    assert_eq!(refused.number("x-ratelimit-limit"), 60);
    assert_eq!(refused.number("x-ratelimit-remaining"), 0);
    let reset = refused.number("x-ratelimit-reset");
    assert!((jwt::now() + 55..=jwt::now() + 61).contains(&reset), "an empty bucket of sixty is full in a minute, not at {reset}");
    assert_eq!(refused.number("retry-after"), 1);
    assert_eq!(refused.json()["error"]["code"], "RATE_LIMITED");
}

#[test]
fn more_keys_of_one_organisation_are_not_more_quota() {
    let (scenario, _) = reva();
    let key = |user| {
        let new = NewKey { user, organization: Some("org-1"), tier: "free", scopes: &["conversations:read"], ..NewKey::default() };
        scenario.new_key(&new).text
    };
    let keys = [key("u1"), key("u1"), key("u2")];
    let started = Instant::now();
    let replies: Vec<Reply> = keys.iter().flat_map(|key| burst(&scenario, key, 10)).collect();
    assert_admits(&replies, 10, 60, started, "three keys of one organisation");
    let other = scenario.key("u3", "free", &["conversations:read"]);
    assert_eq!(burst(&scenario, &other, 1)[0].status, 200);
}

#[test]
fn internal_services_are_not_limited_and_are_counted() {
    let (scenario, _) = reva();
    let key = scenario.key("billing", "free", &["conversations:read", "tollgate:unlimited"]);
    let replies = burst(&scenario, &key, 80);
    assert_eq!(admitted(&replies), 80);
    assert_eq!(replies[79].header("x-ratelimit-limit"), None);
    assert_eq!(scenario.admitted("billing"), 80);
}

#[test]
fn refusals_are_counted_apart_from_usage() {
    let (scenario, _) = reva();
    let key = scenario.key("fred", "free", &["conversations:read"]);
    let replies = burst(&scenario, &key, 25);
    let allowed = admitted(&replies);
    assert_eq!(scenario.admitted("fred"), allowed);
    assert_eq!(crate::support::scenario::counted(scenario.folder.path(), "fred", "limited"), 25 - allowed);
}
