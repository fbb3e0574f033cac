//! Registering and managing clients.

use axum::body::Body;
use axum::http::Request;
use serde_json::Value;
use serde_json::json;
use tower::ServiceExt;
use zeroize::Zeroizing;

use crate::issuer::tests::Issuer;
use crate::model::client::is_client_id;
use crate::model::issuance::Registration;
use crate::store::Family;

const CALLBACK: &str = "https://app.example.com/cb";

fn draft() -> Value {
    json!({"name": "app", "redirect_uris": [CALLBACK], "scopes": ["orders:read"]})
}

fn with(members: Value) -> Value {
    let mut body = draft();
    for (name, value) in members.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

async fn register(issuer: &Issuer, bearer: Option<&str>, body: &Value) -> (u16, Value) {
    let mut request = Request::builder().method("POST").uri("/oauth/register").header("content-type", "application/json");
    if let Some(bearer) = bearer {
        request = request.header("authorization", format!("Bearer {bearer}"));
    }
    let response = issuer.public.clone().oneshot(request.body(Body::from(body.to_string())).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or_default())
}

// oauth: F9 F11 P1
#[tokio::test]
async fn a_clients_id_and_secret_are_ours_and_the_secret_is_shown_once() {
    let issuer = Issuer::issuing(|_issuance| {});
    let made = issuer.ok("POST", "/v1/clients", draft()).await;
    let (id, secret) = (made["id"].as_str().unwrap(), made["client_secret"].as_str().unwrap());
    assert!(is_client_id(id));
    let digits = secret.strip_prefix("reva_cs_").unwrap();
    assert_eq!(digits.len(), 43, "256 bits");
    let shown = issuer.ok("GET", &format!("/v1/clients/{id}"), Value::Null).await;
    let listed = issuer.ok("GET", "/v1/clients", Value::Null).await;
    for text in [shown.to_string(), listed.to_string()] {
        assert!(!text.contains(digits) && text.contains(id));
    }
    let page = issuer.records.range(Family::Client, None, 10).await.unwrap();
    assert!(page.records.iter().all(|(_, stored)| !String::from_utf8_lossy(&stored.bytes).contains(digits)));
    assert_eq!(shown["grant_types"], json!(["authorization_code", "refresh_token"]));
    assert_eq!(
        (&shown["token_endpoint_auth_method"], &shown["access_tokens"], &shown["kind"]),
        (&json!("client_secret_basic"), &json!("EdDSA"), &json!("confidential"))
    );
    for taken in ["id", "client_id", "secret", "trusted"] {
        issuer.refused("POST", "/v1/clients", with(json!({taken: "app_00000000000000000000"}))).await;
    }
    // No user is called as a client is, and no client as a user.
    let public = issuer.ok("POST", "/v1/clients", with(json!({"kind": "public"}))).await;
    assert_eq!((&public["token_endpoint_auth_method"], public.get("client_secret")), (&json!("none"), None));
}

// oauth: B3 B4 B5 P3
#[tokio::test]
async fn what_does_not_fit_together_is_refused_with_its_field() {
    let issuer = Issuer::issuing(|_issuance| {});
    let exchange = "urn:ietf:params:oauth:grant-type:token-exchange";
    for (members, field) in [
        (json!({"redirect_uris": ["http://app.example.com/cb"]}), "redirect_uris"),
        (json!({"redirect_uris": ["com.example.app:/cb"]}), "redirect_uris"),
        (json!({"redirect_uris": ["javascript:alert(1)"]}), "redirect_uris"),
        (json!({"redirect_uris": [CALLBACK, CALLBACK]}), "redirect_uris"),
        (json!({"redirect_uris": []}), "redirect_uris"),
        (json!({"grant_types": ["client_credentials"]}), "redirect_uris"),
        (json!({"grant_types": []}), "grant_types"),
        (json!({"grant_types": ["implicit"]}), "grant_types"),
        (json!({"grant_types": ["password"]}), "grant_types"),
        (json!({"grant_types": ["refresh_token"], "redirect_uris": []}), "grant_types"),
        (json!({"grant_types": ["authorization_code", "client_credentials"], "kind": "public"}), "grant_types"),
        (json!({"grant_types": ["authorization_code", exchange], "kind": "native"}), "grant_types"),
        (json!({"token_endpoint_auth_method": "none"}), "token_endpoint_auth_method"),
        (json!({"token_endpoint_auth_method": "client_secret_basic", "kind": "public"}), "token_endpoint_auth_method"),
        (json!({"token_endpoint_auth_method": "private_key_jwt"}), "token_endpoint_auth_method"),
        (json!({"scopes": ["tollgate:admin"]}), "scopes"),
        (json!({"scopes": ["*"]}), "scopes"),
        (json!({"scopes": ["unknown"]}), "scopes"),
        (json!({"resources": ["https://unknown.example.com"]}), "resources"),
        (json!({"access_tokens": "none"}), "access_tokens"),
        (json!({"website": "javascript:alert(1)"}), "website"),
        (json!({"name": ""}), "name"),
    ] {
        let (status, error) = issuer.refused("POST", "/v1/clients", with(members.clone())).await;
        assert_eq!((status, error["details"]["field"].as_str()), (400, Some(field)), "{members}");
    }
    issuer
        .ok("POST", "/v1/clients", with(json!({"kind": "native", "redirect_uris": ["com.example.app:/cb", "http://127.0.0.1/cb"]})))
        .await;
}

// oauth: U5
#[tokio::test]
async fn everybody_sees_and_changes_what_lies_within_reach() {
    let issuer = Issuer::issuing(|_issuance| {});
    for (user, organization) in [("alice", "acme"), ("bob", "acme"), ("carol", "acme"), ("mallory", "evil")] {
        issuer.ok("POST", "/v1/users", json!({"id": user, "organization": organization})).await;
    }
    let (_, alice) = issuer.key_of("alice", "acme", &["orders:read"]).await;
    let (_, bob) = issuer.key_of("bob", "acme", &["orders:read"]).await;
    let (_, carol) = issuer.key_of("carol", "acme", &["tollgate:users", "orders:read"]).await;
    let (_, mallory) = issuer.key_of("mallory", "evil", &["tollgate:users", "tollgate:keys", "tollgate:usage"]).await;
    let (status, made) = issuer.call_with(&alice, "POST", "/v1/clients", draft()).await;
    assert_eq!((status, &made["owner"], &made["organization"]), (201, &json!("alice"), &json!("acme")), "{made}");
    let id = made["id"].as_str().unwrap();
    let path = format!("/v1/clients/{id}");
    let unknown = issuer.call_with(&mallory, "GET", "/v1/clients/app_00000000000000000000", Value::Null).await;
    for (key, within) in [(&alice, true), (&carol, true), (&bob, false), (&mallory, false)] {
        for (method, path, body, good) in [
            ("GET", path.clone(), Value::Null, 200),
            ("PATCH", path.clone(), json!({"name": "other"}), 200),
            ("POST", format!("{path}/rotate"), json!({"grace": "1h"}), 200),
            ("DELETE", format!("{path}/secrets/old"), Value::Null, 200),
        ] {
            let (status, mut answer) = issuer.call_with(key, method, &path, body).await;
            assert_eq!(status, if within { good } else { 404 }, "{method} {path} {answer}");
            if !within {
                let mut expected = unknown.1.clone();
                for body in [&mut answer, &mut expected] {
                    body["error"]["request_id"] = Value::Null;
                }
                if !path.contains("secrets") {
                    assert_eq!(answer, expected, "as if there were none");
                }
            }
        }
        let (_, listed) = issuer.call_with(key, "GET", "/v1/clients", Value::Null).await;
        assert_eq!(listed["data"].as_array().unwrap().len(), usize::from(within));
    }
    let (status, _) = issuer.call_with(&mallory, "DELETE", &path, Value::Null).await;
    assert_eq!(status, 404);
    assert_eq!(issuer.call_with("", "GET", &path, Value::Null).await.0, 401);
    // What would hold its scopes itself holds no more than its maker.
    let own = |scopes: Value| json!({"name": "own", "grant_types": ["client_credentials"], "scopes": scopes});
    assert_eq!(issuer.call_with(&alice, "POST", "/v1/clients", own(json!(["orders:read"]))).await.0, 201);
    assert_eq!(issuer.call_with(&alice, "POST", "/v1/clients", own(json!(["orders:write"]))).await.0, 400);
    let grown = json!({"scopes": ["orders:read", "orders:write"], "grant_types": ["authorization_code", "client_credentials"]});
    assert_eq!(issuer.call_with(&alice, "PATCH", &path, grown).await.0, 400);
    assert_eq!(issuer.call_with(&alice, "POST", "/v1/clients", with(json!({"tier": "pro"}))).await.0, 400);
    assert_eq!(issuer.call_with(&alice, "POST", "/v1/clients", with(json!({"owner": "bob"}))).await.0, 400);
    assert_eq!(issuer.call_with(&alice, "DELETE", &path, Value::Null).await.0, 204);
    assert_eq!(issuer.call_with(&alice, "GET", &path, Value::Null).await.0, 404);
}

// oauth: T5
#[tokio::test]
async fn whoever_changes_a_client_holds_what_can_come_of_it() {
    let issuer = Issuer::issuing(|_issuance| {});
    let (_, alice) = issuer.key_of("alice", "acme", &["orders:read", "orders:write"]).await;
    let (_, weak) = issuer.key_of("alice", "acme", &["orders:read"]).await;
    let (_, carol) = issuer.key_of("carol", "acme", &["tollgate:users", "orders:read"]).await;
    let own = json!({"grant_types": ["client_credentials"], "redirect_uris": [], "scopes": ["orders:write"]});
    for members in [own, json!({"scopes": ["orders:write"]})] {
        let (status, made) = issuer.call_with(&alice, "POST", "/v1/clients", with(members)).await;
        assert_eq!(status, 201, "{made}");
        let path = format!("/v1/clients/{}", made["id"].as_str().unwrap());
        let rotation = format!("{path}/rotate");
        for (key, status) in [(&weak, 403), (&carol, 403), (&alice, 200)] {
            assert_eq!(issuer.call_with(key, "POST", &rotation, json!({"grace": "1h"})).await.0, status, "a secret is a right");
            assert_eq!(issuer.call_with(key, "PATCH", &path, json!({"name": "mine"})).await.0, status);
            assert_eq!(issuer.call_with(key, "GET", &path, Value::Null).await.0, 200);
        }
        assert_eq!(issuer.call_with(&carol, "DELETE", &path, Value::Null).await.0, 204, "and ending it is always allowed");
    }
    let test = json!({"name": "t", "user": "alice", "environment": "test", "scopes": ["orders:write"]});
    let test = issuer.ok("POST", "/v1/keys", test).await["key"].as_str().unwrap().to_owned();
    let (_, made) = issuer.call_with(&alice, "POST", "/v1/clients", with(json!({"scopes": ["orders:write"]}))).await;
    let rotation = format!("/v1/clients/{}/rotate", made["id"].as_str().unwrap());
    assert_eq!(issuer.call_with(&test, "POST", &rotation, json!({"grace": "1h"})).await.0, 403, "a test key learns no live secret");
}

// oauth: F10
#[tokio::test]
async fn of_two_secrets_either_can_end_and_the_last_cannot() {
    let issuer = Issuer::issuing(|_issuance| {});
    let id = issuer.ok("POST", "/v1/clients", draft()).await["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/clients/{id}");
    assert_eq!(issuer.refused("DELETE", &format!("{path}/secrets/current"), Value::Null).await.0, 409);
    for which in ["current", "old"] {
        let rotated = issuer.ok("POST", &format!("{path}/rotate"), json!({"grace": "30d"})).await;
        assert_eq!(rotated["secrets"].as_array().unwrap().len(), 2);
        assert_eq!(issuer.refused("DELETE", &format!("{path}/secrets/both"), Value::Null).await.0, 404);
        let left = issuer.ok("DELETE", &format!("{path}/secrets/{which}"), Value::Null).await;
        assert_eq!(left["secrets"].as_array().unwrap().len(), 1);
        assert_eq!(left["secrets"][0]["retires_at"], Value::Null, "{which}");
    }
    issuer.ok("POST", &format!("{path}/rotate"), json!({"grace": "1h"})).await;
    let twice = issuer.ok("POST", &format!("{path}/rotate"), json!({"grace": "1h"})).await;
    assert_eq!(twice["secrets"].as_array().unwrap().len(), 2, "never three");
    issuer.refused("POST", &format!("{path}/rotate"), json!({"grace": "31d"})).await;
    issuer.refused("POST", &format!("{path}/rotate"), json!({})).await;
    let public = issuer.ok("POST", "/v1/clients", with(json!({"kind": "public"}))).await["id"].as_str().unwrap().to_owned();
    assert_eq!(issuer.refused("POST", &format!("/v1/clients/{public}/rotate"), json!({"grace": "1h"})).await.0, 409);
}

// oauth: P4
#[tokio::test]
async fn registration_is_off_unless_switched_on_and_then_limited() {
    let body = json!({"redirect_uris": [CALLBACK]});
    let off = Issuer::issuing(|_issuance| {});
    assert_eq!(register(&off, None, &body).await.0, 404);
    let token = "initial-access-token";
    let guarded = Issuer::issuing(|issuance| {
        issuance.registration = Registration::WithToken(std::sync::Arc::new(Zeroizing::new(token.as_bytes().to_vec())));
    });
    for wrong in [None, Some(""), Some("initial-access-toke"), Some("initial-access-tokens")] {
        let (status, answer) = register(&guarded, wrong, &body).await;
        assert_eq!((status, &answer["error"]), (401, &json!("invalid_token")));
    }
    assert_eq!(register(&guarded, Some(token), &body).await.0, 201);
    let open = Issuer::issuing(|issuance| issuance.registration = Registration::Open);
    let mut statuses = Vec::new();
    for _client in 0..22 {
        statuses.push(register(&open, None, &body).await.0);
    }
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 20);
    assert_eq!(statuses.last(), Some(&429));
}

// oauth: P1 P2 P3 P5 P6
#[tokio::test]
async fn a_client_registers_itself_as_the_rfc_says_and_chooses_nothing_that_matters() {
    let issuer = Issuer::issuing(|issuance| issuance.registration = Registration::Open);
    let body = json!({
        "redirect_uris": [CALLBACK],
        "client_name": "Name <b>",
        "client_uri": "https://app.example.com",
        "logo_uri": "http://169.254.169.254/latest",
        "client_id": "app_00000000000000000000",
        "owner": "alice",
        "organization": "acme",
        "trusted": true,
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "scope": "orders:read",
    });
    let (status, made) = register(&issuer, None, &body).await;
    assert_eq!(status, 201, "{made}");
    assert!(is_client_id(made["client_id"].as_str().unwrap()) && made["client_id"] != "app_00000000000000000000");
    assert!(made["client_secret"].as_str().unwrap().starts_with("reva_cs_"));
    assert_eq!((&made["client_secret_expires_at"], &made["client_id_issued_at"]), (&json!(0), &json!(1_800_000_000)));
    for member in ["redirect_uris", "client_name", "client_uri", "grant_types", "response_types", "scope"] {
        assert_eq!(made[member], body[member], "{member}");
    }
    assert!(made.get("logo_uri").is_none() && made.get("trusted").is_none());
    let shown = issuer.ok("GET", &format!("/v1/clients/{}", made["client_id"].as_str().unwrap()), Value::Null).await;
    assert_eq!((&shown["owner"], &shown["organization"]), (&Value::Null, &Value::Null));

    let issuer = Issuer::issuing(|issuance| issuance.registration = Registration::Open);
    let native = json!({"redirect_uris": ["http://127.0.0.1/cb"], "token_endpoint_auth_method": "none"});
    let (_, made) = register(&issuer, None, &native).await;
    assert!(made.get("client_secret").is_none() && made.get("client_secret_expires_at").is_none());
    assert_eq!(made["scope"], "files:read orders:read orders:write");
    for (body, error) in [
        (json!({}), "invalid_redirect_uri"),
        (json!({"redirect_uris": []}), "invalid_redirect_uri"),
        (json!({"redirect_uris": "https://app.example.com/cb"}), "invalid_redirect_uri"),
        (json!({"redirect_uris": ["http://app.example.com/cb"]}), "invalid_redirect_uri"),
        (json!({"redirect_uris": ["https://app.example.com/cb#x"]}), "invalid_redirect_uri"),
        (json!({"redirect_uris": [CALLBACK], "scope": "tollgate:admin"}), "invalid_client_metadata"),
        (json!({"redirect_uris": [CALLBACK], "scope": "unknown"}), "invalid_client_metadata"),
        (json!({"redirect_uris": [CALLBACK], "response_types": ["token"]}), "invalid_client_metadata"),
        (json!({"redirect_uris": [CALLBACK], "response_types": []}), "invalid_client_metadata"),
        (json!({"redirect_uris": [CALLBACK], "grant_types": ["implicit"]}), "invalid_client_metadata"),
        (json!({"grant_types": ["client_credentials"], "response_types": ["code"]}), "invalid_client_metadata"),
        (json!({"grant_types": ["client_credentials"], "response_types": []}), "invalid_client_metadata"),
        (json!({"redirect_uris": [CALLBACK], "token_endpoint_auth_method": "private_key_jwt"}), "invalid_client_metadata"),
        (json!([]), "invalid_client_metadata"),
    ] {
        let (status, answer) = register(&issuer, None, &body).await;
        assert_eq!((status, &answer["error"]), (400, &json!(error)), "{body}");
        issuer.clock.advance(std::time::Duration::from_secs(60));
    }
}
