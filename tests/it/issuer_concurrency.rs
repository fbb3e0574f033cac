//! Exactly one winner: many who redeem one code, use one refresh token, found one organisation or take one name at the same instant, on
//! the embedded store and on a Redis whose answers are late.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use crate::support::http1::Client;
use crate::support::http1::Reply;
use crate::support::issuing::Issuing;
use crate::support::issuing::MadeClient;
use crate::support::issuing::PASSWORD;
use crate::support::issuing::text_of;
use crate::support::redis::FaultyProxy;
use crate::support::redis::Mode;
use crate::support::redis::RedisServer;
use crate::support::redis::ServerPlan;

const AT_ONCE: usize = 50;

fn rounds() -> usize {
    std::env::var("TOLLGATE_TEST_ROUNDS").map_or(5, |rounds| rounds.parse().expect("TOLLGATE_TEST_ROUNDS is a number"))
}

/// An issuer, and what its store stands on.
struct Stage {
    issuing: Issuing,
    client: MadeClient,
    _store: Option<(FaultyProxy, RedisServer)>,
}

/// Settings that let fifty ask at once and nobody wait for long.
const SETTINGS: &str =
    "  sign_up: open\n  compatibility: [auth_users]\n  passwords: { memory_kib: 8192, iterations: 1, waiting: 64, per_address: 1000000 }\n";

fn on_redb() -> Stage {
    let issuing = Issuing::start(SETTINGS);
    let client = issuing.confidential("the client");
    Stage { issuing, client, _store: None }
}

fn on_late_redis() -> Stage {
    let server = ServerPlan::tcp().start();
    let proxy = FaultyProxy::tcp(server.place());
    let issuing = Issuing::start_on_redis(SETTINGS, &format!("redis://127.0.0.1:{}", proxy.port()));
    let client = issuing.confidential("the client");
    proxy.set(Mode::Delay(Duration::from_millis(2)));
    Stage { issuing, client, _store: Some((proxy, server)) }
}

/// What all of them were answered, asked at one instant.
fn together(run: impl Fn(usize) -> Reply + Sync) -> Vec<Reply> {
    let barrier = Barrier::new(AT_ONCE);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE)
            .map(|number| {
                let (barrier, run) = (&barrier, &run);
                scope.spawn(move || {
                    barrier.wait();
                    run(number)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a client")).collect()
    })
}

fn one_code_has_one_winner(stage: &Stage) {
    for round in 0..rounds() {
        let code = stage.issuing.code(&stage.client);
        let replies = together(|_| stage.issuing.redeem(&stage.client, &code));
        let (won, lost): (Vec<&Reply>, Vec<&Reply>) = replies.iter().partition(|reply| reply.status == 200);
        assert_eq!(won.len(), 1, "round {round}");
        assert!(lost.iter().all(|reply| (reply.status, reply.json()["error"].as_str()) == (400, Some("invalid_grant"))), "round {round}");
        assert_eq!(stage.issuing.protected(&text_of(won[0], "access_token")).status, 200, "the winner's token opens the gate");
    }
}

fn one_refresh_token_has_one_successor(stage: &Stage) {
    for round in 0..rounds() {
        let first = text_of(&stage.issuing.redeem(&stage.client, &stage.issuing.code(&stage.client)), "refresh_token");
        let replies = together(|_| stage.issuing.refresh(&stage.client, &first));
        let successors: BTreeSet<String> =
            replies.iter().filter(|reply| reply.status == 200).map(|reply| text_of(reply, "refresh_token")).collect();
        assert_eq!(successors.len(), 1, "round {round}: {:?}", replies.iter().map(|reply| reply.status).collect::<Vec<_>>());
        assert!(replies.iter().all(|reply| reply.status == 200), "a repeat within the window is answered with the same successor");
        let next = stage.issuing.refresh(&stage.client, successors.first().expect("one"));
        assert_eq!(next.status, 200, "{}", next.text());
    }
}

fn one_organization_has_one_founder(stage: &Stage) {
    for round in 0..rounds() {
        // All of them are the same person, who pressed the button many times.
        let name = format!("founder-{round}");
        let account = json!({ "username": name, "password": PASSWORD });
        let replies = together(|_| post(stage, "/auth/users", &account));
        let made = replies.iter().filter(|reply| reply.status == 201).count();
        assert_eq!(made, 1, "round {round}: {:?}", replies.iter().map(|reply| reply.status).collect::<Vec<_>>());
        assert!(replies.iter().all(|reply| matches!(reply.status, 201 | 409 | 429 | 503)));
        let (_, user) = stage.issuing.control("GET", &format!("/v1/users/{name}"), &Value::Null);
        assert_eq!(user["role"], "admin", "{user}");
        let (_, organizations) = stage.issuing.control("GET", "/v1/organizations?limit=500", &Value::Null);
        let founded = organizations["data"].as_array().expect("a list").iter().filter(|one| one["founder"] == name.as_str()).count();
        assert_eq!(founded, 1, "round {round}: {organizations}");
    }
}

fn post(stage: &Stage, target: &str, body: &Value) -> Reply {
    let headers = [("content-type", "application/json")];
    Client::new(stage.issuing.port).send("POST", target, &headers, &body.to_string())
}

// oauth: G1 U3
#[test]
fn of_fifty_redemptions_of_one_code_one_wins_on_redb() {
    one_code_has_one_winner(&on_redb());
}

// oauth: G1 U3
#[test]
fn of_fifty_redemptions_of_one_code_one_wins_on_a_late_redis() {
    one_code_has_one_winner(&on_late_redis());
}

// oauth: H3 U3
#[test]
fn fifty_uses_of_one_refresh_token_have_one_successor_on_redb() {
    one_refresh_token_has_one_successor(&on_redb());
}

// oauth: H3 U3
#[test]
fn fifty_uses_of_one_refresh_token_have_one_successor_on_a_late_redis() {
    one_refresh_token_has_one_successor(&on_late_redis());
}

// oauth: R14 R15
#[test]
fn of_fifty_sign_ups_under_one_name_one_founds_the_organization_on_redb() {
    one_organization_has_one_founder(&on_redb());
}

// oauth: R14 R15
#[test]
fn of_fifty_sign_ups_under_one_name_one_founds_the_organization_on_a_late_redis() {
    one_organization_has_one_founder(&on_late_redis());
}
