//! What `make demo` prints, line by line, on the same files.

use serde_json::json;

use crate::support::http1::Client;
use crate::support::jwt;
use crate::support::scenario::JWT_SECRET;
use crate::support::scenario::NewKey;
use crate::support::scenario::Scenario;

const EVERY_SCOPE: [&str; 8] = [
    "conversations:read",
    "conversations:write",
    "customers:read",
    "customers:write",
    "knowledge:read",
    "knowledge:write",
    "analytics:read",
    "webhooks:write",
];

// oauth: O10
#[test]
fn without_a_credential_the_answer_is_401_with_a_bare_challenge() {
    let scenario = Scenario::quickstart();
    let reply = scenario.client().get("/api/v1/conversations", &[]);
    assert_eq!(reply.status, 401, "{reply:?}");
    assert_eq!(reply.json()["error"]["code"], "UNAUTHENTICATED");
    let challenge = reply.need("www-authenticate");
    assert!(challenge.starts_with("Bearer") && !challenge.contains("error"), "{challenge}");
    assert_eq!(scenario.upstream.count(), 0);
}

#[test]
fn with_a_key_the_upstream_learns_who_is_calling() {
    let scenario = Scenario::quickstart();
    let new = NewKey { user: "paula", organization: Some("acme"), tier: "pro", scopes: &EVERY_SCOPE, ..NewKey::default() };
    let key = scenario.new_key(&new);
    let reply = scenario.client().bearer("/api/v1/conversations?limit=5", &key.text);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let received = reply.json();
    assert_eq!((received["method"].as_str(), received["path"].as_str()), (Some("GET"), Some("/api/v1/conversations?limit=5")));
    let headers = &received["headers"];
    let wanted = [("user", "paula"), ("x-user-id", "paula"), ("x-org-id", "acme"), ("x-key-id", key.id.as_str()), ("x-tier", "pro")];
    for (name, value) in wanted {
        assert_eq!(headers[name], value, "{name} in {headers}");
    }
    let mut scopes: Vec<&str> = headers["x-scopes"].as_str().expect("scopes").split(' ').collect();
    scopes.sort_unstable();
    let mut all = EVERY_SCOPE;
    all.sort_unstable();
    assert_eq!(scopes, all);
    assert_eq!(headers["authorization"], json!(null), "the credential stays at the gate");
    assert_eq!(reply.number("x-ratelimit-limit"), 300);
    assert_eq!(reply.number("x-ratelimit-remaining"), 49);
    // The other place of a credential.
    let reply = scenario.client().get("/api/v1/conversations", &[("x-api-key", &key.text)]);
    assert_eq!(reply.upstream_header("user").as_deref(), Some("paula"));
    assert_eq!(reply.upstream_header("x-api-key"), None);
}

// oauth: O11
#[test]
fn a_key_without_the_scope_gets_403_that_names_it() {
    let scenario = Scenario::quickstart();
    let key = scenario.key("rita", "pro", &["conversations:read"]);
    assert_eq!(scenario.client().bearer("/api/v1/conversations", &key).status, 200);
    let authorization = format!("Bearer {key}");
    let reply = scenario.client().send("POST", "/api/v1/conversations/7/messages", &[("authorization", &authorization)], "{}");
    assert_eq!(reply.status, 403, "{reply:?}");
    assert_eq!(reply.json()["error"]["code"], "INSUFFICIENT_SCOPE");
    let challenge = reply.need("www-authenticate");
    assert!(challenge.contains("insufficient_scope") && challenge.contains("conversations:write"), "{challenge}");
    let garbled = format!("{}x", &key[..key.len() - 1]);
    let reply = scenario.client().bearer("/api/v1/conversations", &garbled);
    assert_eq!(reply.status, 401);
    assert!(reply.need("www-authenticate").contains("invalid_token"), "{reply:?}");
}

#[test]
fn what_is_not_in_the_table_is_404_and_another_method_405() {
    let scenario = Scenario::quickstart();
    let key = scenario.key("paula", "pro", &EVERY_SCOPE);
    for target in ["/", "/nowhere", "/api/v1", "/api/v1/conversations/7/secrets", "/api/v2/conversations"] {
        let reply = scenario.client().bearer(target, &key);
        assert_eq!((reply.status, reply.json()["error"]["code"].as_str()), (404, Some("NOT_FOUND")), "{target}");
    }
    let authorization = format!("Bearer {key}");
    let reply = scenario.client().send("DELETE", "/api/v1/conversations", &[("authorization", &authorization)], "");
    assert_eq!(reply.status, 405);
    assert!(reply.need("allow").contains("GET"), "{reply:?}");
    assert_eq!(scenario.upstream.count(), 0);
}

#[test]
fn a_free_key_has_a_burst_of_ten_and_then_429() {
    let scenario = Scenario::quickstart();
    let key = scenario.key("fred", "free", &EVERY_SCOPE);
    let replies: Vec<_> = (0..12).map(|_| scenario.client().bearer("/api/v1/conversations", &key)).collect();
    let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    assert_eq!(statuses[..10], [200; 10], "{statuses:?}");
    let refused = replies.iter().find(|reply| reply.status == 429).unwrap_or_else(|| panic!("no 429 in {statuses:?}"));
    assert_eq!(refused.json()["error"]["code"], "RATE_LIMITED");
    assert_eq!(refused.number("x-ratelimit-limit"), 60);
    assert_eq!(refused.number("x-ratelimit-remaining"), 0);
    assert_eq!(refused.number("retry-after"), 1);
    assert!(refused.number("x-ratelimit-reset") >= jwt::now());
    for name in ["ratelimit-policy", "ratelimit"] {
        refused.need(name);
        replies[0].need(name);
    }
}

#[test]
fn a_token_of_the_trusted_issuer_opens_the_gate_too() {
    let scenario = Scenario::quickstart();
    let claims = jwt::claims("https://id.demo.example", "https://api.demo.example", "tom");
    let claims = jwt::with(claims, json!({ "scope": "conversations:read", "org_id": "acme", "tier": "pro" }));
    let reply = scenario.client().bearer("/api/v1/conversations", &jwt::hs256(&claims, JWT_SECRET));
    assert_eq!(reply.upstream_header("user").as_deref(), Some("demo:tom"), "{}", reply.text());
    assert_eq!(reply.upstream_header("x-org-id").as_deref(), Some("acme"));
    assert_eq!(reply.upstream_header("x-tier").as_deref(), Some("pro"));
    assert_eq!(reply.upstream_header("x-key-id"), None);
    let forged = jwt::hs256(&claims, "another secret that is long enough for HS256");
    assert_eq!(scenario.client().bearer("/api/v1/conversations", &forged).status, 401);
}

#[test]
fn the_public_route_needs_nothing_and_says_nothing_about_anybody() {
    let scenario = Scenario::quickstart();
    let reply = scenario.client().get("/public/ping", &[("user", "mallory")]);
    assert_eq!(reply.upstream_header("user"), None, "{}", reply.text());
    assert_eq!(scenario.client().get("/healthz", &[]).text(), "ok\n");
}

#[test]
fn usage_is_exact_wherever_it_is_read() {
    let scenario = Scenario::quickstart();
    let key = scenario.key("paula", "pro", &EVERY_SCOPE);
    let administrator = scenario.key("admin", "enterprise", &["tollgate:usage"]);
    for _ in 0..7 {
        assert_eq!(scenario.client().bearer("/api/v1/conversations", &key).status, 200);
    }
    for _ in 0..3 {
        assert_eq!(scenario.client().bearer("/api/v1/customers", &key).status, 200);
    }
    assert_eq!(scenario.client().bearer("/stats", &key).status, 403);
    let stats = scenario.client().bearer("/stats", &administrator);
    assert_eq!(stats.status, 200, "{}", stats.text());
    let rows = stats.json()["stats"].as_array().expect("rows").clone();
    let count = |route: &str| rows.iter().find(|row| row["user"] == "paula" && row["route"] == route && row["outcome"] == "allowed");
    assert_eq!(count("conversations.list").expect("a row")["count"], 7, "{rows:?}");
    assert_eq!(count("customers.list").expect("a row")["count"], 3, "{rows:?}");
    assert_eq!(scenario.admitted("paula"), 10);
    let series = scenario.tollgate.ops("/metrics/usage").text();
    let line = series.lines().find(|line| line.contains("paula") && line.contains("allowed")).unwrap_or_else(|| panic!("{series}"));
    assert!(line.ends_with(" 10"), "{line}");
    assert_eq!(scenario.upstream.count(), 10);
}

// oauth: O14
#[test]
fn what_happens_to_a_key_is_felt_by_the_next_request() {
    let scenario = Scenario::quickstart();
    let made = |user| scenario.new_key(&NewKey { user, tier: "enterprise", scopes: &["conversations:read"], ..NewKey::default() });
    let status = |key: &str| scenario.client().bearer("/api/v1/conversations", key).status;
    let revoked = made("alice");
    assert_eq!(status(&revoked.text), 200);
    scenario.keys(&["revoke", &revoked.id]);
    assert_eq!(status(&revoked.text), 401);
    let disabled = made("bob");
    for (word, wanted) in [("disable", 401), ("enable", 200), ("disable", 401)] {
        scenario.keys(&[word, &disabled.id]);
        assert_eq!(status(&disabled.text), wanted, "{word}");
    }
    let changed = made("carol");
    scenario.keys(&["change", &changed.id, "--scope", "customers:read"]);
    assert_eq!(status(&changed.text), 403);
    let rotated = made("dave");
    let fresh = scenario.keys(&["rotate", &rotated.id, "--grace", "0s"])["key"].as_str().expect("the new text").to_owned();
    assert_eq!((status(&rotated.text), status(&fresh)), (401, 200));
    let graceful = scenario.keys(&["rotate", &rotated.id, "--grace", "1h"])["key"].as_str().expect("the new text").to_owned();
    assert_eq!((status(&fresh), status(&graceful)), (200, 200));
}

#[test]
fn the_access_log_says_who_and_why_and_under_which_rules() {
    let scenario = Scenario::quickstart();
    let key = scenario.new_key(&NewKey { user: "paula", scopes: &EVERY_SCOPE, ..NewKey::default() });
    scenario.client().bearer("/api/v1/conversations?secret=1", &key.text);
    scenario.client().get("/api/v1/conversations", &[]);
    crate::support::process::wait_until("both lines are in the access log", || scenario.envoy.access_log().len() >= 2);
    let log = scenario.envoy.access_log();
    let line = |status: u64| log.iter().find(|line| line["status"] == status).unwrap_or_else(|| panic!("{log:?}"));
    let allowed = line(200);
    for (name, value) in [("user", "paula"), ("key_id", &*key.id), ("decision", "allow"), ("reason", "ok"), ("route", "conversations.list")]
    {
        assert_eq!(allowed[name], value, "{name} in {allowed}");
    }
    let denied = line(401);
    assert_eq!((&denied["reason"], &denied["details"]), (&json!("missing_credential"), &json!("ext_authz_denied")));
    let revision = allowed["config_revision"].as_str().expect("a revision");
    assert!(revision.len() == 12 && denied["config_revision"] == revision, "{log:?}");
    assert!(!scenario.envoy.process.output().contains(&key.text));
    assert!(!scenario.tollgate.process.output().contains(&key.text) && !scenario.tollgate.process.errors().contains(&key.text));
}

#[test]
fn with_tollgate_away_the_answer_is_503_and_the_next_start_serves_at_once() {
    let mut scenario = Scenario::quickstart();
    let key = scenario.key("paula", "pro", &EVERY_SCOPE);
    scenario.tollgate.process.kill();
    let reply = scenario.client().bearer("/api/v1/conversations", &key);
    assert_eq!(reply.status, 503, "{reply:?}");
    assert_eq!(scenario.upstream.count(), 0);
    scenario.tollgate.restart();
    crate::support::process::wait_until("Envoy has found the new process", || {
        scenario.client().bearer("/api/v1/conversations", &key).status == 200
    });
}

#[test]
fn the_protected_pages_are_for_this_machine_and_health_is_for_all() {
    let scenario = Scenario::quickstart();
    for page in ["/healthz", "/readyz", "/metrics", "/metrics/usage", "/stats", "/jwks"] {
        assert_eq!(Client::new(scenario.tollgate.ops_port).get(page, &[]).status, 200, "{page}");
    }
}
