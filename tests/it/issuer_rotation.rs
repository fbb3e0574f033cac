//! Keys that change under load: no request is refused, before, during and after, at the gate and in two JOSE libraries that are not
//! ours; and an emergency, after which nothing old opens anything.

use serde_json::Value;
use serde_json::json;

use crate::support::http1::message;
use crate::support::issuing::Issuing;
use crate::support::issuing::MadeClient;
use crate::support::issuing::RESOURCE;
use crate::support::issuing::run_script_on;
use crate::support::issuing::text_of;
use crate::support::load::Load;

const ROTATIONS: usize = 6;

fn client(issuing: &Issuing, algorithm: &str) -> MadeClient {
    issuing.register(&json!({
        "name": algorithm,
        "kind": "confidential",
        "grant_types": ["client_credentials"],
        "scopes": ["conversations:read"],
        "access_tokens": algorithm,
    }))
}

fn token(issuing: &Issuing, client: &MadeClient) -> String {
    let reply = issuing.token(client, &[("grant_type", "client_credentials"), ("scope", "conversations:read")]);
    assert_eq!(reply.status, 200, "{}", reply.text());
    text_of(&reply, "access_token")
}

fn kids(issuing: &Issuing) -> Vec<Value> {
    let (status, ring) = issuing.control("GET", "/v1/ring", &Value::Null);
    assert_eq!(status, 200, "{ring}");
    ring["data"].as_array().expect("a list of keys").clone()
}

fn load(issuing: &Issuing, tokens: &[String]) -> Load {
    let request = |token: &String| {
        let authorization = format!("Bearer {token}");
        message("GET", "/api/v1/conversations", "api.example.com", &[("authorization", &authorization)], b"")
    };
    Load::start(issuing.scenario.envoy.port, tokens.iter().map(request).collect())
}

// oauth: M5
#[test]
fn no_request_is_refused_while_keys_change() {
    let issuing = Issuing::start("");
    let clients = ["EdDSA", "RS256"].map(|algorithm| client(&issuing, algorithm));
    let mut tokens: Vec<String> = clients.iter().map(|client| token(&issuing, client)).collect();
    let running = load(&issuing, &tokens);
    for _rotation in 0..ROTATIONS {
        let (status, answer) = issuing.control("POST", "/v1/ring/rotate", &json!({ "emergency": false }));
        assert!(matches!(status, 200 | 409), "{status} {answer}");
        tokens.extend(clients.iter().map(|client| token(&issuing, client)));
        for token in &tokens {
            assert_eq!(issuing.protected(token).status, 200);
        }
    }
    let report = run_script_on("verify", &[("ISSUER", &issuing.url), ("RESOURCE", RESOURCE)], &tokens.join("\n"));
    assert!(report.failed.is_empty(), "{report:#?}");
    assert_eq!(report.passed.len(), 2 * tokens.len());
    running.finish().assert_flawless(100);
}

// oauth: M8
#[test]
fn after_an_emergency_nothing_old_opens_anything() {
    let issuing = Issuing::start("");
    let client = client(&issuing, "EdDSA");
    let old = token(&issuing, &client);
    assert_eq!(issuing.protected(&old).status, 200);
    let before = kids(&issuing);
    let (status, answer) = issuing.control("POST", "/v1/ring/rotate", &json!({ "emergency": true }));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(issuing.protected(&old).status, 401);
    assert!(kids(&issuing).iter().all(|key| before.iter().all(|former| former["kid"] != key["kid"])), "no key of before is left");
    assert_eq!(issuing.protected(&token(&issuing, &client)).status, 200);
}
