//! Seed 003, line by line.
//!
//! | line | what it asks for | shown by |
//! |---|---|---|
//! | 5–7 | sign-up with Microsoft and Google | `the_pages_offer_both_providers`; the way through a provider: `issuer_federation` |
//! | 9 | the first user enters a phone number (OTP: phase 2) | `who_comes_alone_is_admin_with_a_phone_number_and_a_key` |
//! | 11 | who is no referral gets admin access | the same, and `who_is_invited_is_a_member` |
//! | 13 | an API key is made with the user | `who_comes_alone_is_admin_with_a_phone_number_and_a_key` |
//! | 15–17 | automatic login | `prompt=none`: unit tests of `issuer/oauth/authorize`; with a provider: `issuer_federation` |
//! | 3 | sign-out | `who_signs_out_is_out` |
//! | 22–24 | `/get-token` with the API key | `the_documents_own_request_gives_a_token` |
//! | 25–30 | the token that is there lives on, reset to 60 minutes | `asked_again_it_is_the_same_token_with_its_life_reset` |
//! | 32–37 | the curl of `/get-token`, with an UUID as key | `keys_from_before_are_traded_too` |
//! | 42, 43 | key, scopes and token stand together | `a_token_opens_what_its_key_opens_now` |
//! | 45–54 | the envelope of a success (`success`) | `the_documents_own_request_gives_a_token` |
//! | 56–63 | the envelope of a failure, 411 | `what_is_no_key_gets_the_envelope_of_a_failure` |
//! | 66–71 | `x-authorization: Agent`, optionally `x-api-key` | `an_api_is_called_with_the_token_and_perhaps_the_key` |
//! | 73–76 | token and scope are validated | the same, and `a_token_opens_what_its_key_opens_now` |
//! | 79–81 | the API answers | `an_api_is_called_with_the_token_and_perhaps_the_key` |
//! | 83–89 | the envelope of a refused call, 422 | the same |
//! | 93–95 | use of the website slides it | `using_the_website_slides_the_tokens_of_its_owners_keys` in `issuer/sessions/tests.rs` (a clock of its own) |
//! | 102–105 | problem 1: scopes change | `a_token_opens_what_its_key_opens_now` |
//! | 107–110 | problem 2: another key, the old one deleted | `deleting_a_key_kills_its_token_and_rotating_does_not` |

use ::tollgate::model::hex::write_hex;
use serde_json::Value;
use serde_json::json;

use crate::support::browser::Browser;
use crate::support::browser::forms;
use crate::support::http1::Reply;
use crate::support::scenario::NewKey;
use crate::support::seed::PASSWORD;
use crate::support::seed::Seed;
use crate::support::seed::text;
use crate::support::tollgate;

/// The key of the document's own request, and its SHA-256.
const OLD_KEY: &str = "a6b2d038-4eb1-4ca1-a3b4-2cf783ad55e1";

fn agent_token() -> Seed {
    Seed::start("agent-token", 8002)
}

/// Signs up on the page: what it shows then.
fn sign_up(seed: &Seed, browser: &mut Browser, fields: &[(&str, &str)]) -> Reply {
    let page = browser.get("/sign-up");
    assert_eq!(page.status, 200, "{}", page.text());
    let form = forms(&page.text()).into_iter().find(|form| !form.passwords.is_empty()).expect("a form with a password");
    let mut values = vec![(form.passwords[0].as_str(), PASSWORD)];
    values.extend(fields);
    let reply = browser.submit(&form, &values, form.buttons.first());
    assert!(seed.scenario.envoy.port > 0);
    reply
}

fn key_in(page: &str) -> String {
    let start = page.find("agent_live_sk_").unwrap_or_else(|| panic!("no key in {page}"));
    page[start..].chars().take_while(|character| character.is_ascii_alphanumeric() || *character == '_').collect()
}

fn get_token(seed: &Seed, key: &str) -> Reply {
    seed.ask("POST", "/get-token", &[], &json!({ "api_key": key }))
}

fn token_of(seed: &Seed, key: &str) -> String {
    let reply = get_token(seed, key);
    assert_eq!(reply.status, 200, "{}", reply.text());
    text(&reply, "/data/auth_token")
}

fn call(seed: &Seed, token: &str, key: Option<&str>) -> Reply {
    let agent = format!("Agent {token}");
    let mut headers = vec![("x-authorization", agent.as_str())];
    headers.extend(key.iter().map(|key| ("x-api-key", *key)));
    seed.ask("GET", "/any-api", &headers, &Value::Null)
}

fn key(seed: &Seed, user: &str, scopes: &[&str]) -> (String, String) {
    let made = seed.scenario.new_key(&NewKey { user, tier: "", scopes, ..NewKey::default() });
    (made.text, made.id)
}

#[test]
fn the_pages_offer_both_providers() {
    let seed = agent_token();
    seed.assert_described();
    for page in ["/sign-in", "/sign-up"] {
        let text = Browser::new(seed.scenario.envoy.port).get(page).text();
        for provider in ["Microsoft", "Google"] {
            assert!(text.contains(&format!("with {provider}")), "{page}: {text}");
        }
    }
}

#[test]
fn who_comes_alone_is_admin_with_a_phone_number_and_a_key() {
    let seed = agent_token();
    let mut browser = Browser::new(seed.scenario.envoy.port);
    let refused = sign_up(&seed, &mut browser, &[("name", "alice")]);
    assert!(refused.status >= 400, "without a phone number: {}", refused.status);
    let page = sign_up(&seed, &mut browser, &[("name", "alice"), ("phone", "+4930123456")]);
    assert_eq!(page.status, 200, "{}", page.text());
    let user = seed.control("GET", "/v1/users/alice", &Value::Null);
    assert_eq!(
        (&user["role"], &user["phone"]["number"], &user["phone"]["state"]),
        (&json!("admin"), &json!("+4930123456"), &json!("unverified")),
        "{user}"
    );
    let key = key_in(&page.text());
    let token = token_of(&seed, &key);
    assert_eq!(call(&seed, &token, None).upstream_header("user").as_deref(), Some("alice"));
    assert_eq!(seed.counted("alice", "any_api"), 1);
}

#[test]
fn who_is_invited_is_a_member() {
    let seed = agent_token();
    let mut founder = Browser::new(seed.scenario.envoy.port);
    sign_up(&seed, &mut founder, &[("name", "alice"), ("phone", "+4930123456")]);
    let organization = seed.control("GET", "/v1/users/alice", &Value::Null)["organization"].as_str().expect("an organisation").to_owned();
    let invitation = seed.control("POST", "/v1/invitations", &json!({ "organization": organization }));
    let handle = invitation["invitation"].as_str().unwrap_or_else(|| panic!("a handle in {invitation}")).to_owned();
    let page = sign_up(&seed, &mut Browser::new(seed.scenario.envoy.port), &[("name", "bob"), ("invitation", &handle)]);
    assert_eq!(page.status, 200, "{}", page.text());
    let user = seed.control("GET", "/v1/users/bob", &Value::Null);
    assert_eq!((user["role"].as_str(), user["organization"].as_str()), (Some("member"), Some(organization.as_str())), "{user}");
    assert!(page.text().contains("agent_live_sk_"), "a key is made with every user");
}

#[test]
fn who_signs_out_is_out() {
    let seed = agent_token();
    let mut browser = Browser::new(seed.scenario.envoy.port);
    sign_up(&seed, &mut browser, &[("name", "alice"), ("phone", "+4930123456")]);
    assert_eq!(browser.get("/account").status, 200);
    let page = browser.get("/sign-out");
    let form = forms(&page.text()).into_iter().next().expect("a form");
    browser.submit(&form, &[], form.buttons.first());
    assert_ne!(browser.get("/account").status, 200);
    assert_eq!(seed.control("GET", "/v1/users/alice", &Value::Null)["online"], false);
}

#[test]
fn the_documents_own_request_gives_a_token() {
    let seed = agent_token();
    let (key, _) = key(&seed, "alice", &["tasks:read"]);
    let reply = get_token(&seed, &key);
    let token = text(&reply, "/data/auth_token");
    let expected = json!({ "data": { "auth_token": token }, "status": "success", "code": 200, "message": "token successfully created" });
    assert_eq!((reply.status, reply.json()), (200, expected));
}

#[test]
fn asked_again_it_is_the_same_token_with_its_life_reset() {
    let seed = agent_token();
    let (key, _) = key(&seed, "alice", &["tasks:read"]);
    let token = token_of(&seed, &key);
    assert_eq!(token_of(&seed, &key), token);
    let shown = seed.ask("POST", "/v1/keys/self/token", &[], &json!({ "key": key }));
    assert_eq!(shown.status, 200, "{}", shown.text());
    // An ask within a second of another one writes nothing.
    assert!((3590..=3600).contains(&shown.json()["expires_in"].as_u64().expect("seconds")), "{}", shown.text());
    assert_eq!(text(&shown, "/token"), token);
}

#[test]
fn keys_from_before_are_traded_too() {
    let seed = agent_token();
    let sha256 = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, OLD_KEY.as_bytes());
    let entry = json!([{ "sha256": write_hex(sha256.as_ref()), "name": "old", "user": "alice", "scopes": ["tasks:read"] }]);
    seed.scenario.folder.write("old-keys.json", &entry.to_string());
    tollgate::run_json(seed.scenario.folder.path(), &["keys", "import", "old-keys.json", "--config", "tollgate.yaml", "--json"]);
    let token = token_of(&seed, OLD_KEY);
    assert_eq!(call(&seed, &token, Some(OLD_KEY)).status, 200);
}

#[test]
fn what_is_no_key_gets_the_envelope_of_a_failure() {
    let seed = agent_token();
    for (body, status) in [(json!({ "api_key": OLD_KEY }), 401), (json!({ "api_key": "agent_live_sk_x" }), 401), (json!({}), 400)] {
        let reply = seed.ask("POST", "/get-token", &[], &body);
        let said = reply.json();
        assert_eq!(
            (reply.status, &said["data"], &said["status"], &said["code"]),
            (status, &json!({}), &json!("failed"), &json!(411)),
            "{body}: {said}"
        );
        assert!(said["message"].is_string());
    }
}

#[test]
fn an_api_is_called_with_the_token_and_perhaps_the_key() {
    let seed = agent_token();
    let (key_text, _) = key(&seed, "alice", &["tasks:read"]);
    let (strangers, _) = key(&seed, "bob", &["tasks:read"]);
    let token = token_of(&seed, &key_text);
    for with in [None, Some(key_text.as_str())] {
        let reply = call(&seed, &token, with);
        assert_eq!(reply.status, 200, "{}", reply.text());
        let seen = seed.scenario.upstream.last();
        assert_eq!(seen.headers.get("x-user-id").map(String::as_str), Some("alice"));
        assert!(!seen.headers.contains_key("x-authorization") && !seen.headers.contains_key("x-api-key"), "{seen:?}");
    }
    for (token, with) in [(token.as_str(), Some(strangers.as_str())), ("eiwjfjjiowenfEWIF", Some("JHBJB")), ("eiwjfjjiowenfEWIF", None)] {
        let reply = call(&seed, token, with);
        let said = reply.json();
        assert!(matches!(reply.status, 400 | 401), "{}", reply.text());
        assert_eq!((&said["data"], &said["status"], &said["code"]), (&json!([]), &json!("failed"), &json!(422)), "{said}");
        assert!(said["message"].is_string());
    }
    let agent = format!("Agent {token}");
    let scope = seed.ask("POST", "/any-api", &[("x-authorization", &agent)], &json!({}));
    assert_eq!((scope.status, &scope.json()["code"]), (403, &json!(422)), "{}", scope.text());
}

#[test]
fn a_token_opens_what_its_key_opens_now() {
    let seed = agent_token();
    let (key_text, id) = key(&seed, "alice", &["tasks:read"]);
    let token = token_of(&seed, &key_text);
    let agent = format!("Agent {token}");
    let give = || seed.ask("POST", "/any-api", &[("x-authorization", &agent)], &json!({})).status;
    assert_eq!((call(&seed, &token, None).status, give()), (200, 403));
    seed.scenario.keys(&["change", &id, "--scope", "tasks:write"]);
    assert_eq!(call(&seed, &token, None).status, 403, "what it lost is gone at the next request");
    assert_eq!(token_of(&seed, &key_text), token);
    assert_eq!(give(), 200, "and what it gained is there");
}

#[test]
fn deleting_a_key_kills_its_token_and_rotating_does_not() {
    let seed = agent_token();
    let (key_text, id) = key(&seed, "alice", &["tasks:read"]);
    let token = token_of(&seed, &key_text);
    let renewed = text_of(&seed.scenario.keys(&["rotate", &id, "--grace", "1h"]), "key");
    assert_eq!(call(&seed, &token, None).status, 200);
    assert_eq!(token_of(&seed, &renewed), token);
    seed.scenario.keys(&["revoke", &id]);
    assert_eq!(call(&seed, &token, None).status, 401);
    for gone in [&key_text, &renewed] {
        assert_eq!(get_token(&seed, gone).json()["code"], 411);
    }
    let (another, _) = key(&seed, "alice", &["tasks:read"]);
    assert_eq!(call(&seed, &token_of(&seed, &another), None).status, 200);
}

fn text_of(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap_or_else(|| panic!("{member} in {value}")).to_owned()
}
