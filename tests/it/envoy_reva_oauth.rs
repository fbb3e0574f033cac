//! Seed 002's OAuth, line by line, with the rulings: `response_type` and PKCE are added to its requests, and its JSON body is taken.
//!
//! | line | what it asks for | shown by |
//! |---|---|---|
//! | 22 | the authorization code flow | `an_application_is_registered_allowed_and_calls_the_api` |
//! | 23 | a registration endpoint | the same |
//! | 24 | access tokens are JWTs, and validated | the same |
//! | 25 | refresh | the same |
//! | 26–34 | granular scopes | `a_scope_that_was_not_granted_opens_nothing` |
//! | 38–40 | the authorization URL | `an_application_is_registered_allowed_and_calls_the_api` |
//! | 42–49 | the exchange, as JSON | the same |
//! | 51–57 | its answer | the same |
//! | 290–308 | the document's test | `an_application_is_registered_allowed_and_calls_the_api` |
//! | 80, 82 | a key of one's own, its use read back | `an_account_makes_a_key_uses_it_reads_its_counts_and_ends_it` |
//! | 333 | an organisation sees its own | the same |

use serde_json::Value;
use serde_json::json;

use crate::envoy_reva::reva_with;
use crate::support::browser::Browser;
use crate::support::browser::form_body;
use crate::support::browser::forms;
use crate::support::browser::parameter;
use crate::support::seed::CHALLENGE;
use crate::support::seed::PASSWORD;
use crate::support::seed::Seed;
use crate::support::seed::VERIFIER;
use crate::support::seed::text;

const BACK: &str = "https://app.example/callback";

fn sign_up(seed: &Seed, name: &str) {
    let mut browser = Browser::new(seed.scenario.envoy.port);
    let page = browser.get("/sign-up");
    let form = forms(&page.text()).into_iter().find(|form| !form.passwords.is_empty()).expect("a form with a password");
    let values = [(form.passwords[0].as_str(), PASSWORD), ("name", name), ("phone", "+4930123456")];
    let reply = browser.submit(&form, &values, form.buttons.first());
    assert!(reply.status < 400, "{}", reply.text());
}

fn application(seed: &Seed, owner: &str) -> (String, String) {
    let made = seed.control(
        "POST",
        "/v1/clients",
        &json!({
            "name": "app",
            "owner": owner,
            "redirect_uris": [BACK],
            "scopes": ["conversations:read", "customers:read"],
            "token_endpoint_auth_method": "client_secret_post",
        }),
    );
    let member = |name: &str| made[name].as_str().unwrap_or_else(|| panic!("{name} in {made}")).to_owned();
    (member("id"), member("client_secret"))
}

fn code(seed: &Seed, user: &str, client: &str, scope: &str) -> String {
    let query = form_body([
        ("client_id", client),
        ("redirect_uri", BACK),
        ("scope", scope),
        ("response_type", "code"),
        ("state", "s"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ]);
    let back = Browser::new(seed.scenario.envoy.port).authorize(&format!("/oauth/authorize?{query}"), user, PASSWORD);
    parameter(&back, "code").unwrap_or_else(|| panic!("no code in {back}"))
}

#[test]
fn an_application_is_registered_allowed_and_calls_the_api() {
    let (seed, _) = reva_with(|plan| plan);
    let metadata = seed.ask("GET", "/.well-known/oauth-authorization-server", &[], &Value::Null);
    assert_eq!((metadata.status, metadata.json()["issuer"].as_str()), (200, Some(seed.url.as_str())), "{}", metadata.text());
    seed.assert_described();
    sign_up(&seed, "alice");
    let (id, secret) = application(&seed, "bob");
    let code = code(&seed, "alice", &id, "conversations:read");
    let exchange = json!({
        "grant_type": "authorization_code",
        "code": code,
        "client_id": id,
        "client_secret": secret,
        "redirect_uri": BACK,
        "code_verifier": VERIFIER,
    });
    let tokens = seed.ask("POST", "/oauth/token", &[], &exchange);
    assert_eq!(tokens.status, 200, "{}", tokens.text());
    let said = tokens.json();
    assert_eq!((said["expires_in"].as_u64(), said["scope"].as_str()), (Some(3600), Some("conversations:read")), "{said}");
    let access = text(&tokens, "/access_token");
    assert!(access.starts_with("eyJ"), "a JWT");
    let reply = seed.bearer(&access, "GET", "/api/v1/conversations", &Value::Null);
    assert_eq!(
        (reply.upstream_header("user").as_deref(), reply.upstream_header("x-scopes").as_deref()),
        (Some("alice"), Some("conversations:read"))
    );
    assert_eq!(seed.counted("alice", "conversations.list"), 1);
    let refreshed =
        json!({ "grant_type": "refresh_token", "refresh_token": said["refresh_token"], "client_id": id, "client_secret": secret });
    let again = seed.ask("POST", "/oauth/token", &[], &refreshed);
    assert_eq!(again.status, 200, "{}", again.text());
    assert_ne!(again.json()["refresh_token"], said["refresh_token"]);
    let second = text(&again, "/access_token");
    assert_eq!(seed.bearer(&second, "GET", "/api/v1/conversations", &Value::Null).status, 200);
    let revoked = seed.form(
        "/oauth/revoke",
        &[],
        &[("token", again.json()["refresh_token"].as_str().expect("a token")), ("client_id", &id), ("client_secret", &secret)],
    );
    assert_eq!(revoked.status, 200, "{}", revoked.text());
    for token in [&access, &second] {
        let reply = seed.bearer(token, "GET", "/api/v1/conversations", &Value::Null);
        assert_eq!((reply.status, reply.json()["error"]["code"].is_string()), (401, true), "{}", reply.text());
    }
}

#[test]
fn a_scope_that_was_not_granted_opens_nothing() {
    let (seed, _) = reva_with(|plan| plan);
    sign_up(&seed, "alice");
    let (id, secret) = application(&seed, "bob");
    let exchange = json!({
        "grant_type": "authorization_code",
        "code": code(&seed, "alice", &id, "conversations:read"),
        "client_id": id,
        "client_secret": secret,
        "redirect_uri": BACK,
        "code_verifier": VERIFIER,
    });
    let access = text(&seed.ask("POST", "/oauth/token", &[], &exchange), "/access_token");
    for (target, status) in [("/api/v1/conversations", 200), ("/api/v1/customers", 403), ("/api/v1/analytics", 403), ("/stats", 403)] {
        assert_eq!(seed.bearer(&access, "GET", target, &Value::Null).status, status, "{target}");
    }
}

#[test]
fn an_account_makes_a_key_uses_it_reads_its_counts_and_ends_it() {
    let (seed, _) = reva_with(|plan| plan);
    sign_up(&seed, "alice");
    sign_up(&seed, "eve");
    // An organisation's own administrator, with a key of its own.
    let admin = |user: &str| seed.scenario.key(user, "", &["tollgate:keys", "tollgate:usage", "conversations:read"]);
    let (alice, eve) = (admin("alice"), admin("eve"));
    let made = seed.bearer(&alice, "POST", "/v1/keys", &json!({ "name": "ci", "scopes": ["conversations:read"] }));
    assert_eq!(made.status, 201, "{}", made.text());
    let (key, id) = (text(&made, "/key"), text(&made, "/id"));
    assert!(key.starts_with("reva_live_sk_"));
    let more = seed.bearer(&alice, "POST", "/v1/keys", &json!({ "name": "ci", "scopes": ["customers:write"] }));
    assert_eq!(more.status, 403, "{}", more.text());
    for _ in 0..3 {
        assert_eq!(seed.bearer(&key, "GET", "/api/v1/conversations", &Value::Null).status, 200);
    }
    let counts = seed.bearer(&alice, "GET", &format!("/v1/usage?key={id}"), &Value::Null);
    let sum: u64 = counts.json()["data"].as_array().expect("rows").iter().filter_map(|row| row["count"].as_u64()).sum();
    assert_eq!(sum, 3, "{}", counts.text());
    let strangers = seed.bearer(&eve, "GET", &format!("/v1/usage?key={id}"), &Value::Null);
    assert!(!strangers.text().contains(&id), "{}", strangers.text());
    assert_eq!(seed.bearer(&eve, "DELETE", &format!("/v1/keys/{id}"), &Value::Null).status, 404);
    assert_eq!(seed.bearer(&alice, "DELETE", &format!("/v1/keys/{id}"), &Value::Null).status, 200);
    assert_eq!(seed.bearer(&key, "GET", "/api/v1/conversations", &Value::Null).status, 401);
}
