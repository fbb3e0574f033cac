//! Seed 000, line by line.
//!
//! | line | what it asks for | shown by |
//! |---|---|---|
//! | 6 | usage of the API is protected by an API key | `a_user_signs_up_generates_a_key_and_calls_a_service` |
//! | 7 | invocations of endpoints are counted per user | `invocations_are_counted_by_user_and_endpoint_and_read_back` |
//! | 8 | standard tools | every test: plain HTTP/1.1 |
//! | 11 | out of scope: revocation (the ruling: it is in) | `a_revoked_key_opens_nothing_from_the_next_request_on` |
//! | 12 | out of scope: quotas | no limit is set in `envoy/m3o/tollgate.yaml` |
//! | 15 | sign up for an account | `a_user_signs_up_generates_a_key_and_calls_a_service` |
//! | 16 | a service generates an API key (JWT) | the same, `a_key_can_be_a_jwt_of_ours`, `a_key_can_be_a_jwt_whose_issuer_is_micro` |
//! | 17 | `Authorization: Bearer` | every test |
//! | 20–23 | a request is judged, counted, and forwarded to its service | `a_user_signs_up_generates_a_key_and_calls_a_service` |
//! | 22 | the token has not been revoked | `a_revoked_key_opens_nothing_from_the_next_request_on` |
//! | 26 | the issuer is `micro`, everything is routed to that namespace | `a_key_can_be_a_jwt_whose_issuer_is_micro`, `nobody_else_says_which_namespace` |
//! | 28 | scopes are checked, not the issuer alone | `a_key_opens_the_services_among_its_scopes_and_no_other` |
//! | 29 | nobody makes something with more privileges than their own | `a_key_never_exceeds_its_maker` |
//! | 32 | `/generate` | `a_user_signs_up_generates_a_key_and_calls_a_service` |
//! | 33 | a catch-all for `/v1/*` | `the_catch_all_takes_every_service_and_nothing_else` |
//! | 36 | services check the scopes | at the gate: `a_key_opens_the_services_among_its_scopes_and_no_other` |
//! | 38 | multi tenancy: services learn who calls | `a_user_signs_up_generates_a_key_and_calls_a_service` (header `user`) |

use serde_json::Value;
use serde_json::json;

use crate::support::jwt;
use crate::support::scenario::JWT_SECRET;
use crate::support::seed::PASSWORD;
use crate::support::seed::Seed;
use crate::support::seed::text;

fn m3o() -> Seed {
    Seed::start("m3o", 8002)
}

/// Signs up and in: the login's token.
fn sign_up(seed: &Seed, name: &str) -> String {
    let login = json!({ "username": name, "password": PASSWORD });
    assert_eq!(seed.ask("POST", "/auth/users", &[], &login).status, 201);
    text(&seed.ask("POST", "/auth/token", &[], &login), "/access_token")
}

/// A key's text and id.
fn generate(seed: &Seed, credential: &str, body: &Value) -> (String, String) {
    let reply = seed.bearer(credential, "POST", "/generate", body);
    assert_eq!(reply.status, 201, "{}", reply.text());
    (text(&reply, "/api_key"), text(&reply, "/api_key_id"))
}

#[test]
fn a_user_signs_up_generates_a_key_and_calls_a_service() {
    let seed = m3o();
    assert_eq!(seed.ask("POST", "/v1/location/track", &[], &json!({})).status, 401);
    let token = sign_up(&seed, "alice");
    let (key, _) = generate(&seed, &token, &Value::Null);
    assert!(key.starts_with("m3o_live_sk_"));
    let reply = seed.bearer(&key, "POST", "/v1/location/track", &json!({ "id": "a" }));
    assert_eq!(reply.status, 200, "{}", reply.text());
    let seen = seed.scenario.upstream.last();
    assert_eq!((seen.path.as_str(), seen.body.as_str()), ("/v1/location/track", r#"{"id":"a"}"#));
    let header = |name: &str| seen.headers.get(name).map(String::as_str);
    assert_eq!((header("user"), header("micro-namespace"), header("authorization")), (Some("alice"), Some("micro"), None));
    assert_eq!(seed.bearer(&key[..key.len() - 1], "POST", "/v1/location/track", &json!({})).status, 401);
}

#[test]
fn a_key_opens_the_services_among_its_scopes_and_no_other() {
    let seed = m3o();
    let token = sign_up(&seed, "alice");
    let (key, _) = generate(&seed, &token, &json!({ "scopes": ["location"] }));
    for (service, status) in [("location", 200), ("weather", 403), ("helloworld", 403), ("locations", 403), ("*", 403)] {
        let reply = seed.bearer(&key, "GET", &format!("/v1/{service}/any"), &Value::Null);
        assert_eq!(reply.status, status, "{service}: {}", reply.text());
    }
    // An operator may hand out everything.
    let all = seed.scenario.key("operator", "", &["*"]);
    assert_eq!(seed.bearer(&all, "GET", "/v1/whatever/any", &Value::Null).status, 200);
}

#[test]
fn a_key_never_exceeds_its_maker() {
    let seed = m3o();
    let token = sign_up(&seed, "alice");
    let (less, _) = generate(&seed, &token, &json!({ "scopes": ["location"] }));
    for scopes in [json!(["weather"]), json!(["location", "weather"]), json!(["*"]), json!(["tollgate:admin"])] {
        for maker in [&less, &token] {
            let reply = seed.bearer(maker, "POST", "/generate", &json!({ "scopes": scopes }));
            let is_allowed = maker == &token && !scopes.to_string().contains(['*', ':']);
            assert_eq!(reply.status, if is_allowed { 201 } else { 403 }, "{scopes}: {}", reply.text());
        }
    }
    let (same, _) = generate(&seed, &less, &Value::Null);
    assert_eq!(seed.bearer(&same, "GET", "/v1/location/any", &Value::Null).status, 200);
    assert_eq!(seed.bearer(&same, "GET", "/v1/weather/any", &Value::Null).status, 403);
    assert_eq!(seed.ask("POST", "/generate", &[], &Value::Null).status, 401);
}

#[test]
fn invocations_are_counted_by_user_and_endpoint_and_read_back() {
    let seed = m3o();
    let (alice, bob) = (sign_up(&seed, "alice"), sign_up(&seed, "bob"));
    let (key, _) = generate(&seed, &alice, &Value::Null);
    let (other, _) = generate(&seed, &alice, &Value::Null);
    let (of_bob, _) = generate(&seed, &bob, &json!({ "scopes": ["location"] }));
    for (key, endpoint, times) in [(&key, "location/track", 3), (&other, "location/track", 2), (&key, "location/find", 1)] {
        for _ in 0..times {
            assert_eq!(seed.bearer(key, "GET", &format!("/v1/{endpoint}"), &Value::Null).status, 200);
        }
    }
    assert_eq!(seed.bearer(&of_bob, "GET", "/v1/location/track", &Value::Null).status, 200);
    assert_eq!(seed.bearer(&of_bob, "GET", "/v1/weather/now", &Value::Null).status, 403);
    assert_eq!((seed.counted("alice", "location/track"), seed.counted("alice", "location/find")), (5, 1));
    assert_eq!((seed.counted("bob", "location/track"), seed.counted("bob", "weather/now")), (1, 0));
    // The user itself, through the issuer's API.
    let read = seed.bearer(&alice, "GET", "/id/v1/usage", &Value::Null);
    assert_eq!(read.status, 200, "{}", read.text());
    let rows = read.json()["data"].as_array().expect("rows").clone();
    let of = |route: &str| rows.iter().filter(|row| row["route"] == route).filter_map(|row| row["count"].as_u64()).sum::<u64>();
    assert_eq!((of("location/track"), of("location/find")), (5, 1), "{rows:?}");
    assert!(!read.text().contains("bob"), "{}", read.text());
}

#[test]
fn a_revoked_key_opens_nothing_from_the_next_request_on() {
    let seed = m3o();
    let token = sign_up(&seed, "alice");
    let (key, id) = generate(&seed, &token, &Value::Null);
    let (jwt, jwt_id) = generate(&seed, &token, &json!({ "type": "jwt" }));
    for (credential, id) in [(&key, &id), (&jwt, &jwt_id)] {
        assert_eq!(seed.bearer(credential, "GET", "/v1/location/track", &Value::Null).status, 200);
        let strangers = seed.bearer(&key, "DELETE", "/id/v1/keys/000000000000", &Value::Null);
        assert_ne!(strangers.status, 200, "{}", strangers.text());
        let revoked = seed.bearer(&token, "DELETE", &format!("/id/v1/keys/{id}"), &Value::Null);
        assert_eq!(revoked.status, 200, "{}", revoked.text());
        assert_eq!(seed.bearer(credential, "GET", "/v1/location/track", &Value::Null).status, 401);
    }
}

#[test]
fn a_key_can_be_a_jwt_of_ours() {
    let seed = m3o();
    let token = sign_up(&seed, "alice");
    let (jwt, id) = generate(&seed, &token, &json!({ "type": "jwt", "scopes": ["location"] }));
    assert_eq!(jwt.split('.').count(), 3);
    let reply = seed.bearer(&jwt, "GET", "/v1/location/track", &Value::Null);
    assert_eq!(
        (reply.upstream_header("user").as_deref(), reply.upstream_header("micro-namespace").as_deref()),
        (Some("alice"), Some("micro"))
    );
    assert_eq!(seed.bearer(&jwt, "GET", "/v1/weather/now", &Value::Null).status, 403);
    assert_eq!(seed.counted("alice", "location/track"), 1);
    let shown = seed.bearer(&token, "GET", &format!("/id/v1/keys/{id}"), &Value::Null);
    assert_eq!(shown.json()["scopes"], json!(["location"]), "{}", shown.text());
}

#[test]
fn a_key_can_be_a_jwt_whose_issuer_is_micro() {
    let seed = m3o();
    let token = sign_up(&seed, "alice");
    let (_, id) = generate(&seed, &token, &json!({ "scopes": ["location"] }));
    let claims = |more: Value| {
        jwt::with(jwt::with(jwt::claims("micro", "m3o", "alice"), json!({ "jti": id, "scopes": ["location", "weather"] })), more)
    };
    let good = jwt::hs256(&claims(json!({})), JWT_SECRET);
    let reply = seed.bearer(&good, "GET", "/v1/location/track", &Value::Null);
    assert_eq!(reply.upstream_header("micro-namespace").as_deref(), Some("micro"));
    assert_eq!(seed.bearer(&good, "GET", "/v1/weather/now", &Value::Null).status, 403, "the key's scopes rule");
    for bad in [
        json!({ "jti": "000000000000" }),
        json!({ "jti": null }),
        json!({ "sub": "bob" }),
        json!({ "iss": "else" }),
        json!({ "exp": jwt::now() - 60 }),
    ] {
        let token = jwt::hs256(&claims(bad.clone()), JWT_SECRET);
        assert_eq!(seed.bearer(&token, "GET", "/v1/location/track", &Value::Null).status, 401, "{bad}");
    }
    assert_eq!(seed.bearer(&token, "DELETE", &format!("/id/v1/keys/{id}"), &Value::Null).status, 200);
    assert_eq!(seed.bearer(&good, "GET", "/v1/location/track", &Value::Null).status, 401, "it dies with the key");
}

#[test]
fn nobody_else_says_which_namespace() {
    let seed = m3o();
    let token = sign_up(&seed, "alice");
    let (key, _) = generate(&seed, &token, &Value::Null);
    let bearer = format!("Bearer {key}");
    let forged = [("authorization", bearer.as_str()), ("Micro-Namespace", "other"), ("micro_namespace", "other"), ("User", "root")];
    for count in 2..=forged.len() {
        let reply = seed.ask("GET", "/v1/location/track", &forged[..count], &Value::Null);
        if reply.status == 200 {
            let seen = seed.scenario.upstream.last();
            assert_eq!(seen.headers.get("micro-namespace").map(String::as_str), Some("micro"));
            assert_eq!(seen.headers.get("user").map(String::as_str), Some("alice"));
        } else {
            assert_eq!(reply.status, 400, "{}", reply.text());
        }
    }
}

#[test]
fn the_catch_all_takes_every_service_and_nothing_else() {
    let seed = m3o();
    let all = seed.scenario.key("operator", "", &["*"]);
    for target in ["/v1/location/track", "/v1/a/b", "/v1/anything/else?x=1"] {
        assert_eq!(seed.bearer(&all, "GET", target, &Value::Null).status, 200, "{target}");
    }
    let before = seed.scenario.upstream.count();
    for target in ["/v1", "/v1/location", "/v2/location/track", "/", "/v1/a/b/c"] {
        assert_eq!(seed.bearer(&all, "GET", target, &Value::Null).status, 404, "{target}");
    }
    assert_eq!(seed.scenario.upstream.count(), before);
}
