//! Exactly one winner: many who redeem one code, use one refresh token, found one organisation or take one name at the same instant, on
//! the embedded store and on a Redis whose answers are late.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use crate::support::browser::Browser;
use crate::support::browser::form_body;
use crate::support::browser::parameter;
use crate::support::http1::Client;
use crate::support::http1::Reply;
use crate::support::issuing::Issuing;
use crate::support::issuing::MadeClient;
use crate::support::issuing::PASSWORD;
use crate::support::issuing::REDIRECT_URI;
use crate::support::issuing::USER;
use crate::support::redis::FaultyProxy;
use crate::support::redis::Mode;
use crate::support::redis::RedisServer;
use crate::support::redis::ServerPlan;

const AT_ONCE: usize = 50;
/// RFC 7636 appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

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
const SETTINGS: &str = "  sign_up: open\n";

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

impl Stage {
    fn token(&self, form: &[(&str, &str)]) -> Reply {
        let credentials = base64(&format!("{}:{}", self.client.id, self.client.secret));
        let headers = [("content-type", "application/x-www-form-urlencoded"), ("authorization", &format!("Basic {credentials}") as &str)];
        Client::new(self.issuing.port).send("POST", "/oauth/token", &headers, &form_body(form.iter().copied()))
    }

    fn code(&self) -> String {
        let query = form_body([
            ("client_id", self.client.id.as_str()),
            ("redirect_uri", REDIRECT_URI),
            ("response_type", "code"),
            ("scope", "conversations:read"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ]);
        let back = Browser::new(self.issuing.scenario.envoy.port).authorize(&format!("/oauth/authorize?{query}"), USER, PASSWORD);
        parameter(&back, "code").unwrap_or_else(|| panic!("no code in {back}"))
    }

    fn redeem(&self, code: &str) -> Reply {
        self.token(&[("grant_type", "authorization_code"), ("code", code), ("redirect_uri", REDIRECT_URI), ("code_verifier", VERIFIER)])
    }

    fn refresh(&self, token: &str) -> Reply {
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", token)])
    }
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn text_of(reply: &Reply, member: &str) -> String {
    reply.json()[member].as_str().unwrap_or_else(|| panic!("no {member} in {}", reply.text())).to_owned()
}

fn one_code_has_one_winner(stage: &Stage) {
    for round in 0..rounds() {
        let code = stage.code();
        let replies = together(|_| stage.redeem(&code));
        let (won, lost): (Vec<&Reply>, Vec<&Reply>) = replies.iter().partition(|reply| reply.status == 200);
        assert_eq!(won.len(), 1, "round {round}");
        assert!(lost.iter().all(|reply| (reply.status, reply.json()["error"].as_str()) == (400, Some("invalid_grant"))), "round {round}");
        assert_eq!(stage.issuing.protected(&text_of(won[0], "access_token")).status, 200, "the winner's token opens the gate");
    }
}

fn one_refresh_token_has_one_successor(stage: &Stage) {
    for round in 0..rounds() {
        let first = text_of(&stage.redeem(&stage.code()), "refresh_token");
        let replies = together(|_| stage.refresh(&first));
        let successors: BTreeSet<String> =
            replies.iter().filter(|reply| reply.status == 200).map(|reply| text_of(reply, "refresh_token")).collect();
        assert_eq!(successors.len(), 1, "round {round}: {:?}", replies.iter().map(|reply| reply.status).collect::<Vec<_>>());
        assert!(replies.iter().all(|reply| reply.status == 200), "a repeat within the window is answered with the same successor");
        let next = stage.refresh(successors.first().expect("one"));
        assert_eq!(next.status, 200, "{}", next.text());
    }
}

fn one_organization_has_one_founder(stage: &Stage) {
    for round in 0..rounds() {
        // All of them are the same person, who pressed the button many times.
        let name = format!("founder-{round}");
        let account = json!({ "username": name, "password": PASSWORD, "phone": "+4915112345678" });
        let replies = together(|_| post(stage, "/v1/accounts", &account));
        let made: Vec<Value> = replies.iter().filter(|reply| reply.status == 201).map(Reply::json).collect();
        assert_eq!(made.len(), 1, "round {round}: {:?}", replies.iter().map(|reply| reply.status).collect::<Vec<_>>());
        assert!(replies.iter().all(|reply| matches!(reply.status, 201 | 409 | 429 | 503)));
        assert_eq!(made[0]["role"], "admin");
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
