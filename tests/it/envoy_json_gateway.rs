//! Seed 001, line by line.
//!
//! | line | what it asks for | shown by |
//! |---|---|---|
//! | 3 | one entry point for JSON APIs | every test: two services behind one Envoy |
//! | 4, 6 | a server and a client that never block | Envoy; load through it: `envoy_reload`, `envoy_restart` |
//! | 5 | matched against a config file, discarded where nothing matches | `what_the_table_does_not_list_is_404_and_reaches_no_service` |
//! | 7 | JWTs; the header `user` is added | `a_user_signs_up_gets_a_token_and_uses_the_profiles` |
//! | 8 | `GET /stats` | `the_unfinished_stats_are_there_for_those_who_may_see_them` |
//! | 11–15 | how it is run | `envoy/json-gateway/README.md`; there are no migrations to apply |
//! | 20, 30 | `POST /auth/users`, public | `a_user_signs_up_gets_a_token_and_uses_the_profiles` |
//! | 21, 31 | `POST /auth/token`, public | the same |
//! | 22–26, 32 | the five routes about profiles, with a JWT | the same |
//! | 37–43 | the diagram's five parties, two of them not reached but through the gateway | every test |
//! | 44–47 | 201 for a user, 409 for a second one of the name | `a_user_signs_up_gets_a_token_and_uses_the_profiles` |
//! | 48–51 | 201 with a token | the same |
//! | 52–60 | the service is told who calls | the same, `a_clients_own_user_header_is_removed_everywhere` |
//! | 61–64 | an endpoint that is not in the config: 404 | `what_the_table_does_not_list_is_404_and_reaches_no_service` |
//! | 65–67 | no token, or a bad one: 401 | `without_a_good_token_profiles_are_401_and_the_service_sees_nothing` |

use serde_json::json;

use crate::support::http1::Reply;
use crate::support::jwt;
use crate::support::scenario::JWT_SECRET;
use crate::support::scenario::NewKey;
use crate::support::scenario::Scenario;
use crate::support::seed::PASSWORD;
use crate::support::seed::Seed;

struct Gateway {
    scenario: Scenario,
}

impl Gateway {
    /// `scenario.upstream` is the profiles service; the auth service is Tollgate's own issuer.
    fn start() -> Self {
        Self { scenario: Seed::start("json-gateway", 8002).scenario }
    }

    fn ask(&self, method: &str, target: &str, token: Option<&str>, body: &str) -> Reply {
        let authorization = token.map(|token| format!("Bearer {token}"));
        let mut headers: Vec<(&str, &str)> = authorization.iter().map(|value| ("authorization", value.as_str())).collect();
        if !body.is_empty() {
            headers.push(("content-type", "application/json"));
        }
        self.scenario.client().send(method, target, &headers, body)
    }

    fn sign_up(&self, name: &str) -> String {
        let body = json!({ "username": name, "password": PASSWORD }).to_string();
        assert_eq!(self.ask("POST", "/auth/users", None, &body).status, 201);
        let reply = self.ask("POST", "/auth/token", None, &body);
        assert_eq!((reply.status, reply.json()["token_type"].as_str()), (201, Some("Bearer")));
        reply.json()["access_token"].as_str().expect("a token").to_owned()
    }
}

#[test]
fn a_user_signs_up_gets_a_token_and_uses_the_profiles() {
    let gateway = Gateway::start();
    let token = gateway.sign_up("alice");
    let body = json!({ "username": "alice", "password": "another one that is long" }).to_string();
    assert_eq!(gateway.ask("POST", "/auth/users", None, &body).status, 409, "a second user of the name");
    let calls = [("GET", "/profiles"), ("POST", "/profiles"), ("GET", "/profiles/7"), ("PATCH", "/profiles/7"), ("DELETE", "/profiles/7")];
    for (method, target) in calls {
        let body = if matches!(method, "POST" | "PATCH") { r#"{"name":"A"}"# } else { "" };
        let reply = gateway.ask(method, target, Some(&token), body);
        assert_eq!(reply.status, 200, "{method} {target}: {}", reply.text());
        let seen = gateway.scenario.upstream.last();
        assert_eq!((seen.method.as_str(), seen.path.as_str(), seen.body.as_str()), (method, target, body));
        assert_eq!(seen.headers.get("user").map(String::as_str), Some("alice"), "{method} {target}");
        assert_eq!(seen.headers.get("authorization"), None, "{method} {target}");
    }
}

#[test]
fn without_a_good_token_profiles_are_401_and_the_service_sees_nothing() {
    let gateway = Gateway::start();
    let good = jwt::claims("partner", "gateway", "alice");
    let bad = [
        None,
        Some(jwt::hs256(&good, "another secret that is long enough for HS256")),
        Some(jwt::hs256(&jwt::with(good.clone(), json!({ "exp": jwt::now() - 60 })), JWT_SECRET)),
        Some(jwt::hs256(&jwt::with(good.clone(), json!({ "aud": "elsewhere" })), JWT_SECRET)),
        Some(jwt::hs256(&jwt::with(good, json!({ "iss": "elsewhere" })), JWT_SECRET)),
        Some("nonsense".to_owned()),
    ];
    for token in bad {
        let reply = gateway.ask("GET", "/profiles", token.as_deref(), "");
        assert_eq!(reply.status, 401, "{token:?}: {}", reply.text());
    }
    assert_eq!(gateway.scenario.upstream.count(), 0);
}

#[test]
fn a_service_that_shares_a_secret_is_believed_about_its_own_users() {
    let gateway = Gateway::start();
    let token = jwt::hs256(&jwt::claims("partner", "gateway", "alice"), JWT_SECRET);
    let reply = gateway.ask("GET", "/profiles", Some(&token), "");
    assert_eq!(reply.upstream_header("user").as_deref(), Some("partner:alice"), "no user of ours is meant");
}

#[test]
fn a_user_who_is_switched_off_is_out_at_the_next_request() {
    let gateway = Gateway::start();
    let token = gateway.sign_up("alice");
    assert_eq!(gateway.ask("GET", "/profiles", Some(&token), "").status, 200);
    let socket = gateway.scenario.folder.short_path().join("data/control.sock");
    let (status, _) =
        crate::support::tollgate::ask_control(&socket, "PATCH", "/v1/users/alice", &json!({ "active": false })).expect("an answer");
    assert_eq!(status, 200);
    assert_eq!(gateway.ask("GET", "/profiles", Some(&token), "").status, 401);
    let login = json!({ "username": "alice", "password": PASSWORD }).to_string();
    assert_eq!(gateway.ask("POST", "/auth/token", None, &login).status, 401);
}

#[test]
fn what_the_table_does_not_list_is_404_and_reaches_no_service() {
    let gateway = Gateway::start();
    let token = gateway.sign_up("alice");
    for (method, target) in
        [("GET", "/no-such-route"), ("POST", "/auth/admin"), ("GET", "/profiles/7/secrets"), ("GET", "/auth"), ("GET", "/")]
    {
        for token in [None, Some(token.as_str())] {
            let reply = gateway.ask(method, target, token, if method == "POST" { "{}" } else { "" });
            assert_eq!(reply.status, 404, "{method} {target}: {}", reply.text());
        }
    }
    assert_eq!(gateway.ask("GET", "/auth/users", None, "").status, 405);
    assert_eq!(gateway.scenario.upstream.count(), 0);
}

#[test]
fn a_clients_own_user_header_is_removed_everywhere() {
    let gateway = Gateway::start();
    let token = gateway.sign_up("alice");
    let client = gateway.scenario.client();
    let authorization = format!("Bearer {token}");
    client.get("/profiles", &[("authorization", &authorization), ("User", "root"), ("USER", "admin")]);
    assert_eq!(gateway.scenario.upstream.last().headers.get("user").map(String::as_str), Some("alice"));
    // Nobody is made of it where no caller is judged either.
    let body = json!({ "username": "bob", "password": PASSWORD }).to_string();
    let reply = client.send("POST", "/auth/users", &[("User", "root"), ("content-type", "application/json")], &body);
    assert_eq!((reply.status, reply.json()["username"].as_str()), (201, Some("bob")), "{}", reply.text());
}

#[test]
fn the_unfinished_stats_are_there_for_those_who_may_see_them() {
    let gateway = Gateway::start();
    let token = gateway.sign_up("alice");
    for _ in 0..4 {
        assert_eq!(gateway.ask("GET", "/profiles", Some(&token), "").status, 200);
    }
    assert_eq!(gateway.ask("GET", "/stats", None, "").status, 401);
    assert_eq!(gateway.ask("GET", "/stats", Some(&token), "").status, 403);
    // Whatever a token says of itself, `tollgate:` scopes come from here alone.
    let claims = jwt::with(jwt::claims("partner", "gateway", "alice"), json!({ "scope": "tollgate:usage" }));
    assert_eq!(gateway.ask("GET", "/stats", Some(&jwt::hs256(&claims, JWT_SECRET)), "").status, 403);
    let operator = NewKey { user: "operator", tier: "", scopes: &["tollgate:usage"], ..NewKey::default() };
    let operator = gateway.scenario.new_key(&operator).text;
    let reply = gateway.ask("GET", "/stats", Some(&operator), "");
    assert_eq!(reply.status, 200, "{}", reply.text());
    let rows = reply.json()["stats"].clone();
    let row = rows
        .as_array()
        .expect("rows")
        .iter()
        .find(|row| row["user"] == "alice" && row["route"] == "profiles.list" && row["outcome"] == "allowed");
    assert_eq!(row.expect("a row")["count"], 4, "{rows}");
}
