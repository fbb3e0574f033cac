//! Seed 004, line by line.
//!
//! | line | what it asks for | shown by |
//! |---|---|---|
//! | 7–14 | a gateway with `/protected/resource`, `/login`, `/register`, `/client`, `/authorize`, `/token` | every test: all of them through one Envoy |
//! | 16–20 | authenticate, authorize, issue tokens | `from_register_to_the_protected_resource_and_back_out` |
//! | 22–23 | a request that is not authenticated: 401 | `the_protected_resource_is_401_without_and_through_with` |
//! | 30–34 | an authenticated one goes to the service | the same |
//! | 35 | the user agent | every test: plain HTTP/1.1 |
//! | 38, 43–66 | `post /login`: request, 200, both payloads | `login_says_what_the_document_says` |
//! | 40, 41 | marks the user as online, updates the operation time | `a_login_marks_the_user_online_and_its_time` |
//! | 42 | issues a JWT | `login_says_what_the_document_says` |
//! | 64–73 | the payload of a failure | `login_says_what_the_document_says` |
//! | 76–82 | `post /client`: a signed-in user gets id and secret, which are kept | `only_who_is_signed_in_registers_an_application` |
//! | 85–91 | `get /authorize`: user and client are verified, a code is issued | `from_register_to_the_protected_resource_and_back_out`, `authorize_verifies_user_and_application` |
//! | 93–105 | its request: `Bearer <token>`, the five parameters (the ruling adds PKCE) | the same |
//! | 106–114 | its answer: 302 with `code` and `state` | the same |

use serde_json::Value;
use serde_json::json;

use crate::support::browser::form_body;
use crate::support::browser::parameter;
use crate::support::http1::Reply;
use crate::support::seed::CHALLENGE;
use crate::support::seed::PASSWORD;
use crate::support::seed::Seed;
use crate::support::seed::VERIFIER;
use crate::support::seed::text;

const BACK: &str = "https://client.example/back";

fn tinyoauth() -> Seed {
    Seed::start("tinyoauth", 8002)
}

fn login_body(name: &str) -> Value {
    json!({ "username": name, "password": PASSWORD })
}

/// Registers and logs in: the token.
fn login(seed: &Seed, name: &str) -> String {
    let made = seed.ask("POST", "/register", &[], &login_body(name));
    assert_eq!((made.status, made.json()["result"].as_str()), (201, Some("succeeded")), "{}", made.text());
    text(&seed.ask("POST", "/login", &[], &login_body(name)), "/token")
}

/// An application's id and secret.
fn client(seed: &Seed, token: &str) -> (String, String) {
    let made = seed.bearer(token, "POST", "/client", &json!({ "name": "third party", "redirect_uris": [BACK] }));
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(made.json()["token_endpoint_auth_method"], "client_secret_post", "how `redeem` shows the secret");
    (text(&made, "/client_id"), text(&made, "/client_secret"))
}

fn request(id: &str) -> String {
    form_body([
        ("response_type", "code"),
        ("client_id", id),
        ("redirect_uri", BACK),
        ("state", "xyz"),
        ("scope", "resource:use"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ])
}

fn redeem(seed: &Seed, (id, secret): (&str, &str), code: &str) -> Reply {
    seed.form(
        "/token",
        &[],
        &[
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", BACK),
            ("client_id", id),
            ("client_secret", secret),
            ("code_verifier", VERIFIER),
        ],
    )
}

#[test]
fn the_protected_resource_is_401_without_and_through_with() {
    let seed = tinyoauth();
    for bad in [None, Some("xxx"), Some("eyJhbGciOiJub25lIn0.e30.")] {
        let authorization = bad.map(|token| format!("Bearer {token}"));
        let headers: Vec<(&str, &str)> = authorization.iter().map(|value| ("authorization", value.as_str())).collect();
        let reply = seed.ask("POST", "/protected/resource", &headers, &json!({}));
        assert_eq!((reply.status, reply.json()["result"].as_str()), (401, Some("failed")), "{bad:?}: {}", reply.text());
    }
    seed.assert_described();
    assert_eq!(seed.scenario.upstream.count(), 0);
    let token = login(&seed, "user");
    let reply = seed.bearer(&token, "POST", "/protected/resource", &json!({ "a": 1 }));
    assert_eq!((reply.status, reply.upstream_header("user").as_deref()), (200, Some("user")), "{}", reply.text());
    assert_eq!(seed.scenario.upstream.last().body, r#"{"a":1}"#);
    assert_eq!(seed.counted("user", "protected"), 1);
}

#[test]
fn login_says_what_the_document_says() {
    let seed = tinyoauth();
    let token = login(&seed, "user");
    assert_eq!(token.split('.').count(), 3, "a JWT");
    let good = seed.ask("POST", "/login", &[], &login_body("user"));
    assert_eq!(
        (good.status, good.json()["result"].as_str(), good.json().as_object().map(serde_json::Map::len)),
        (200, Some("succeeded"), Some(2))
    );
    for (name, password) in [("user", "xxxx"), ("nobody", PASSWORD), ("", "")] {
        let bad = seed.ask("POST", "/login", &[], &json!({ "username": name, "password": password }));
        assert_eq!(bad.status, 401, "{name}: {}", bad.text());
        assert_eq!((bad.json()["result"].as_str(), bad.json()["token"].clone()), (Some("failed"), Value::Null));
    }
    assert_eq!(seed.ask("POST", "/register", &[], &login_body("user")).status, 409);
}

#[test]
fn a_login_marks_the_user_online_and_its_time() {
    let seed = tinyoauth();
    assert_eq!(seed.ask("POST", "/register", &[], &login_body("user")).status, 201);
    let before = seed.control("GET", "/v1/users/user", &Value::Null);
    assert_eq!((&before["online"], &before["last_operation_at"]), (&json!(false), &Value::Null), "{before}");
    assert_eq!(seed.ask("POST", "/login", &[], &login_body("user")).status, 200);
    let after = seed.control("GET", "/v1/users/user", &Value::Null);
    assert_eq!(after["online"], true, "{after}");
    assert!(after["last_operation_at"].is_string(), "{after}");
}

#[test]
fn only_who_is_signed_in_registers_an_application() {
    let seed = tinyoauth();
    let refused = seed.ask("POST", "/client", &[], &json!({ "redirect_uris": [BACK] }));
    assert_eq!((refused.status, refused.json()["result"].as_str()), (401, Some("failed")), "{}", refused.text());
    let token = login(&seed, "user");
    let (id, secret) = client(&seed, &token);
    assert!(id.starts_with("app_"));
    let kept = seed.control("GET", &format!("/v1/clients/{id}"), &Value::Null);
    assert_eq!(kept["owner"], "user", "{kept}");
    assert!(!kept.to_string().contains(&secret));
}

#[test]
fn authorize_verifies_user_and_application() {
    let seed = tinyoauth();
    let token = login(&seed, "user");
    let (id, _) = client(&seed, &token);
    let good = format!("/authorize?{}", request(&id));
    assert_eq!(seed.ask("GET", &good, &[], &Value::Null).status, 401);
    assert_eq!(seed.bearer("xxx", "GET", &good, &Value::Null).status, 401);
    let unknown = format!("/authorize?{}", request("app_00000000000000000000"));
    assert_eq!(seed.bearer(&token, "GET", &unknown, &Value::Null).status, 400);
    let elsewhere = good.replace("client.example", "evil.example");
    let refused = seed.bearer(&token, "GET", &elsewhere, &Value::Null);
    assert_eq!((refused.status, refused.header("location")), (400, None), "{}", refused.text());
    // Somebody else's application is not let in without a question.
    let other = login(&seed, "other");
    let asked = seed.bearer(&other, "GET", &good, &Value::Null);
    assert_eq!(parameter(asked.need("location"), "error").as_deref(), Some("consent_required"));
}

#[test]
fn from_register_to_the_protected_resource_and_back_out() {
    let seed = tinyoauth();
    let token = login(&seed, "user");
    let (id, secret) = client(&seed, &token);
    for method in ["GET", "POST"] {
        let reply = match method {
            "GET" => seed.bearer(&token, "GET", &format!("/authorize?{}", request(&id)), &Value::Null),
            _ => {
                let authorization = format!("Bearer {token}");
                let headers = [("authorization", authorization.as_str()), ("content-type", "application/x-www-form-urlencoded")];
                seed.scenario.client().send("POST", "/authorize", &headers, &request(&id))
            }
        };
        assert_eq!(reply.status, 302, "{method}: {}", reply.text());
        let location = reply.need("location").to_owned();
        assert!(location.starts_with(BACK), "{location}");
        assert_eq!(parameter(&location, "state").as_deref(), Some("xyz"));
        let code = parameter(&location, "code").unwrap_or_else(|| panic!("no code in {location}"));
        let wrong = redeem(&seed, (&id, "not the secret"), &code);
        assert_eq!((wrong.status, wrong.json()["error"].as_str()), (401, Some("invalid_client")), "{}", wrong.text());
        let tokens = redeem(&seed, (&id, &secret), &code);
        assert_eq!(tokens.status, 200, "{}", tokens.text());
        let access = text(&tokens, "/access_token");
        let before = seed.counted("user", "protected");
        let reply = seed.bearer(&access, "GET", "/protected/resource", &Value::Null);
        assert_eq!((reply.status, reply.upstream_header("user").as_deref()), (200, Some("user")), "{}", reply.text());
        assert_eq!(seed.counted("user", "protected"), before + 1);
        assert_eq!(redeem(&seed, (&id, &secret), &code).json()["error"], "invalid_grant", "a code is good once");
        let revoked =
            seed.form("/oauth/revoke", &[], &[("token", &text(&tokens, "/refresh_token")), ("client_id", &id), ("client_secret", &secret)]);
        assert_eq!(revoked.status, 200, "{}", revoked.text());
        assert_eq!(seed.bearer(&access, "GET", "/protected/resource", &Value::Null).status, 401, "the whole family is gone");
    }
    // With the application everything that it was given goes.
    assert_eq!(seed.bearer(&token, "GET", "/protected/resource", &Value::Null).status, 200);
}
