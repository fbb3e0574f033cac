//! What the issuer shows of itself: everything that its metadata names works and nothing else does, and no secret that passes through it
//! stands in a log, a metric or a page.

use std::collections::BTreeSet;

use serde_json::Value;
use serde_json::json;

use crate::support::http1::Client;
use crate::support::http1::Reply;
use crate::support::issuing::Issuing;
use crate::support::issuing::MadeClient;
use crate::support::issuing::PASSWORD;
use crate::support::issuing::USER;
use crate::support::issuing::VERIFIER;
use crate::support::issuing::text_of;

fn listed(document: &Value, name: &str) -> BTreeSet<String> {
    let list = document[name].as_array().unwrap_or_else(|| panic!("no {name} in {document}"));
    list.iter().map(|value| value.as_str().expect("text").to_owned()).collect()
}

/// The path of an endpoint that the document names.
fn path_of(issuing: &Issuing, document: &Value, name: &str) -> String {
    let url = document[name].as_str().unwrap_or_else(|| panic!("no {name} in {document}"));
    url.strip_prefix(&issuing.url).unwrap_or_else(|| panic!("{url} is not ours")).to_owned()
}

fn post(issuing: &Issuing, target: &str, body: &str) -> Reply {
    Client::new(issuing.port).send("POST", target, &[("content-type", "application/x-www-form-urlencoded")], body)
}

// oauth: L4 L5
#[test]
fn what_the_metadata_names_works_and_nothing_else_does() {
    let issuing = Issuing::start("");
    let client = issuing.confidential("the client");
    let document = issuing.client().get("/.well-known/oauth-authorization-server", &[]).json();
    let grants = listed(&document, "grant_types_supported");
    let known = ["authorization_code", "refresh_token", "client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange"];
    let unknown = ["password", "implicit", "urn:ietf:params:oauth:grant-type:device_code", "urn:ietf:params:oauth:grant-type:jwt-bearer"];
    assert_eq!(grants, known.iter().map(|grant| (*grant).to_owned()).collect());
    for grant in known {
        // Half a request: what is missing is not that the grant is not known.
        let error = issuing.token(&client, &[("grant_type", grant), ("code", "x"), ("refresh_token", "x")]).json()["error"].clone();
        assert_ne!(error, "unsupported_grant_type", "{grant}");
    }
    for grant in unknown {
        assert_eq!(issuing.token(&client, &[("grant_type", grant)]).json()["error"], "unsupported_grant_type", "{grant}");
    }
    assert_eq!(listed(&document, "response_types_supported"), BTreeSet::from(["code".to_owned()]));
    assert_eq!(listed(&document, "code_challenge_methods_supported"), BTreeSet::from(["S256".to_owned()]));
    let ways = listed(&document, "token_endpoint_auth_methods_supported");
    assert_eq!(ways, ["client_secret_basic", "client_secret_post", "none"].map(str::to_owned).into());
    for way in ["client_secret_basic", "client_secret_post"] {
        let made = issuing.register(&json!({ "name": way, "grant_types": ["client_credentials"], "token_endpoint_auth_method": way }));
        let by_basic = issuing.token(&made, &[("grant_type", "client_credentials")]).status;
        let form = format!("grant_type=client_credentials&client_id={}&client_secret={}", made.id, made.secret);
        let by_body = post(&issuing, "/oauth/token", &form).status;
        let expected = if way == "client_secret_basic" { (200, 401) } else { (401, 200) };
        assert_eq!((by_basic, by_body), expected, "{way}");
    }
    let (status, _) = issuing.control("POST", "/v1/clients", &json!({ "name": "x", "token_endpoint_auth_method": "private_key_jwt" }));
    assert_eq!(status, 400);
    for endpoint in ["revocation_endpoint", "introspection_endpoint"] {
        let target = path_of(&issuing, &document, endpoint);
        assert!(matches!(post(&issuing, &target, "token=x").status, 400 | 401), "{endpoint}");
    }
    for endpoint in ["authorization_endpoint", "jwks_uri"] {
        let target = path_of(&issuing, &document, endpoint);
        assert_ne!(Client::new(issuing.port).get(&target, &[]).status, 404, "{endpoint}");
    }
    assert_eq!(document["registration_endpoint"], Value::Null, "nobody may register");
    assert_eq!(post(&issuing, "/oauth/register", "{}").status, 404);
    assert_eq!(listed(&document, "scopes_supported"), ["conversations:read", "customers:read"].map(str::to_owned).into());
}

/// Texts that opened something, or were shown as if they did.
fn secrets(issuing: &Issuing, client: &MadeClient) -> Vec<String> {
    let code = issuing.code(client);
    let first = issuing.redeem(client, &code);
    let second = issuing.refresh(client, &text_of(&first, "refresh_token"));
    let (status, key) = issuing.control("POST", "/v1/keys", &json!({ "name": "canary", "user": USER }));
    assert_eq!(status, 201, "{key}");
    let key = key["key"].as_str().expect("a key").to_owned();
    let wrong = "a wrong password of the tests";
    let headers = [("content-type", "application/json")];
    for password in [PASSWORD, wrong] {
        let body = json!({ "username": USER, "password": password }).to_string();
        let reply = issuing.client().send("POST", "/login", &headers, &body);
        assert!(matches!(reply.status, 200 | 401), "{}", reply.text());
    }
    let damaged = format!("{}x", text_of(&second, "refresh_token"));
    assert_eq!(issuing.refresh(client, &damaged).status, 400);
    assert_eq!(issuing.protected(&text_of(&second, "refresh_token")).status, 401);
    let mut secrets = vec![code, key, damaged, PASSWORD.to_owned(), wrong.to_owned(), VERIFIER.to_owned(), client.secret.clone()];
    for reply in [&first, &second] {
        secrets.extend(["access_token", "refresh_token"].map(|name| text_of(reply, name)));
    }
    secrets
}

// oauth: U1 G8
#[test]
fn no_secret_that_passes_through_stands_in_a_log_or_a_metric() {
    let issuing = Issuing::start("  compatibility: [tinyoauth]\n");
    let client = issuing.confidential("the client");
    let secrets = secrets(&issuing, &client);
    let tollgate = &issuing.scenario.tollgate;
    let (_, audit) = issuing.control("GET", "/v1/audit?limit=500", &Value::Null);
    assert!(audit["data"].as_array().is_some_and(|entries| !entries.is_empty()), "{audit}");
    let (_, clients) = issuing.control("GET", "/v1/clients", &Value::Null);
    let (_, keys) = issuing.control("GET", "/v1/keys", &Value::Null);
    let places = [
        ("its log", tollgate.process.output() + &tollgate.process.errors()),
        ("Envoy's log", issuing.scenario.envoy.process.output()),
        ("metrics", tollgate.ops("/metrics").text()),
        ("readiness", tollgate.ops("/readyz").text()),
        ("the audit log", audit.to_string()),
        ("the list of clients", clients.to_string()),
        ("the list of keys", keys.to_string()),
    ];
    for (place, text) in &places {
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "{place} has {secret}");
        }
    }
    for (name, value) in std::fs::read_dir(issuing.scenario.folder.path().join("data")).expect("the store's folder").filter_map(|entry| {
        let path = entry.ok()?.path();
        Some((path.display().to_string(), std::fs::read(&path).ok()?))
    }) {
        for secret in &secrets {
            assert!(!value.windows(secret.len()).any(|window| window == secret.as_bytes()), "{name} has {secret}");
        }
    }
}
