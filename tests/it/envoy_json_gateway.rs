//! Seed 001, line by line: a table of routes, two services behind it, tokens of one of them.

use std::collections::BTreeSet;
use std::sync::Mutex;

use serde_json::Value;
use serde_json::json;

use crate::support::http1::Reply;
use crate::support::jwt;
use crate::support::scenario::JWT_SECRET;
use crate::support::scenario::NewKey;
use crate::support::scenario::Plan;
use crate::support::scenario::Scenario;
use crate::support::upstream::Seen;
use crate::support::upstream::Upstream;

/// The document's auth service: users, and tokens for them.
fn auth_service() -> Upstream {
    let users = Mutex::new(BTreeSet::<String>::new());
    Upstream::tcp_with(move |seen: &Seen| {
        let body: Value = serde_json::from_str(&seen.body).unwrap_or(Value::Null);
        let name = body["username"].as_str().unwrap_or_default().to_owned();
        let mut users = users.lock().expect("no panic while held");
        match (seen.method.as_str(), seen.path.as_str()) {
            ("POST", "/auth/users") if users.insert(name.clone()) => (201, json!({ "created": true }).to_string()),
            ("POST", "/auth/users") => (409, json!({ "created": false }).to_string()),
            ("POST", "/auth/token") if users.contains(&name) => {
                let token = jwt::hs256(&jwt::claims("auth", "gateway", &name), JWT_SECRET);
                (201, json!({ "access_token": token, "token_type": "Bearer" }).to_string())
            }
            ("POST", "/auth/token") => (401, json!({ "error": "unknown user" }).to_string()),
            other => (404, json!({ "unexpected": format!("{other:?}") }).to_string()),
        }
    })
}

struct Gateway {
    scenario: Scenario,
    auth: Upstream,
}

impl Gateway {
    /// `scenario.upstream` is the profiles service.
    fn start() -> Self {
        let auth = auth_service();
        let profiles = Upstream::tcp();
        let plan = Plan::of("json-gateway")
            .envoy_with("port_value: 8001", &format!("port_value: {}", auth.port()))
            .envoy_with("port_value: 8002", &format!("port_value: {}", profiles.port()));
        Self { scenario: plan.start_with(profiles), auth }
    }

    fn ask(&self, method: &str, target: &str, token: Option<&str>, body: &str) -> Reply {
        let authorization = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<(&str, &str)> = authorization.iter().map(|value| ("authorization", value.as_str())).collect();
        self.scenario.client().send(method, target, &headers, body)
    }

    fn sign_up(&self, name: &str) -> String {
        let body = json!({ "username": name, "password": "secret" }).to_string();
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
    let body = json!({ "username": "alice", "password": "again" }).to_string();
    assert_eq!(gateway.ask("POST", "/auth/users", None, &body).status, 409, "a duplicate is the service's to refuse");
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
    let good = jwt::claims("auth", "gateway", "alice");
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
fn what_the_table_does_not_list_is_404_and_reaches_no_service() {
    let gateway = Gateway::start();
    let token = gateway.sign_up("alice");
    let before = gateway.auth.count();
    for (method, target) in
        [("GET", "/no-such-route"), ("POST", "/auth/admin"), ("GET", "/profiles/7/secrets"), ("GET", "/auth"), ("GET", "/")]
    {
        for token in [None, Some(token.as_str())] {
            let reply = gateway.ask(method, target, token, if method == "POST" { "{}" } else { "" });
            assert_eq!(reply.status, 404, "{method} {target}: {}", reply.text());
        }
    }
    assert_eq!(gateway.ask("GET", "/auth/users", None, "").status, 405);
    assert_eq!((gateway.scenario.upstream.count(), gateway.auth.count()), (0, before));
}

#[test]
fn a_clients_own_user_header_is_removed_everywhere() {
    let gateway = Gateway::start();
    let token = gateway.sign_up("alice");
    let client = gateway.scenario.client();
    let authorization = format!("Bearer {token}");
    client.get("/profiles", &[("authorization", &authorization), ("User", "root"), ("USER", "admin")]);
    assert_eq!(gateway.scenario.upstream.last().headers.get("user").map(String::as_str), Some("alice"));
    client.send("POST", "/auth/token", &[("User", "root")], r#"{"username":"alice"}"#);
    assert_eq!(gateway.auth.last().headers.get("user"), None);
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
    let claims = jwt::with(jwt::claims("auth", "gateway", "alice"), json!({ "scope": "tollgate:usage" }));
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
