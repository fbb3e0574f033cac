//! Seed 003: a key's short-lived token.

use super::*;
use crate::issuer::key_tokens::token_for_key;
use crate::model::grant::GrantId;
use crate::model::grant::GrantRecord;
use crate::model::handle::HandleKind;
use crate::model::handle::read_handle;
use crate::store::codec::Shelved;

async fn asked(issuer: &Issuer, key: &str) -> (String, u64) {
    let token = token_for_key(&issuer.state, key, None, issuer.clock.now()).await.unwrap();
    (token.text.to_string(), token.expires.unix_seconds() - START.unix_seconds())
}

async fn grant(issuer: &Issuer, id: &str) -> GrantRecord {
    let id = GrantId::of_key(&KeyId::new(id));
    let stored = issuer.records.get(&GrantRecord::place(id.as_str())).await.unwrap().unwrap();
    GrantRecord::decode(id.as_str(), &stored.bytes).unwrap()
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

// oauth: T10
#[tokio::test]
async fn the_same_token_again_with_its_life_reset_up_to_an_absolute_end() {
    let issuer = Issuer::issuing(|issuance| issuance.lifetimes.key_token_absolute = minutes(150));
    let (id, key) = issuer.key_of("abe", "acme", &["orders:read", "tollgate:keys"]).await;
    let (first, expires) = asked(&issuer, &key).await;
    assert_eq!(expires, 3600);
    let handle = read_handle("reva", &first).unwrap();
    assert_eq!((handle.kind, handle.id), (HandleKind::Access, format!("key-{id}").as_str()));
    issuer.clock.advance(minutes(50));
    assert_eq!(asked(&issuer, &key).await, (first.clone(), (50 + 60) * 60));
    issuer.clock.advance(minutes(50));
    assert_eq!(asked(&issuer, &key).await, (first.clone(), 150 * 60), "nothing moves the end");
    issuer.clock.advance(minutes(50));
    let (second, expires) = asked(&issuer, &key).await;
    assert_ne!(second, first);
    assert_eq!(expires, (150 + 60) * 60);
    issuer.clock.advance(minutes(61));
    let (third, _) = asked(&issuer, &key).await;
    assert!(third != second && third != first, "a token that ended never comes back");
    let record = grant(&issuer, &id).await;
    assert_eq!(record.scopes.to_string(), "orders:read", "no reserved scope");
    assert!(record.is_live(issuer.clock.now()));
}

// oauth: T10
#[tokio::test]
async fn asks_at_once_give_one_token() {
    let issuer = Issuer::issuing(|_| {});
    let (_, key) = issuer.key_of("abe", "acme", &["orders:read"]).await;
    for _round in 0..2 {
        let asks = (0..50).map(|_| {
            let (state, key, now) = (issuer.state.clone(), key.clone(), issuer.clock.now());
            tokio::spawn(async move { token_for_key(&state, &key, None, now).await.unwrap().text.to_string() })
        });
        let mut texts = BTreeSet::new();
        for ask in asks.collect::<Vec<_>>() {
            texts.insert(ask.await.unwrap());
        }
        assert_eq!(texts.len(), 1);
        issuer.clock.advance(minutes(61));
    }
}

// oauth: T10
#[tokio::test]
async fn whatever_ends_the_key_ends_the_asking() {
    let issuer = Issuer::issuing(|_| {});
    let (id, old) = issuer.key_of("abe", "acme", &["orders:read", "orders:write"]).await;
    let (token, _) = asked(&issuer, &old).await;
    issuer.ok("PATCH", &format!("/v1/keys/{id}"), json!({"scopes": ["orders:read"]})).await;
    assert_eq!(asked(&issuer, &old).await.0, token, "a change of scopes keeps the token");
    assert_eq!(grant(&issuer, &id).await.scopes.to_string(), "orders:read");
    let rotated = issuer.ok("POST", &format!("/v1/keys/{id}/rotate"), json!({"grace": "10m"})).await;
    let new = rotated["key"].as_str().unwrap().to_owned();
    assert_eq!(asked(&issuer, &new).await, (token.clone(), 600), "and so does a rotation, until the grace ends");
    issuer.clock.advance(minutes(10));
    assert!(token_for_key(&issuer.state, &old, None, issuer.clock.now()).await.is_err());
    let (next, _) = asked(&issuer, &new).await;
    assert_ne!(next, token);
    let now = issuer.ok("POST", &format!("/v1/keys/{id}/rotate"), json!({"grace": "0s"})).await;
    assert!(!grant(&issuer, &id).await.is_live(issuer.clock.now()), "without a grace at once");
    let last = now["key"].as_str().unwrap().to_owned();
    assert_ne!(asked(&issuer, &last).await.0, next);
    issuer.ok("PATCH", "/v1/users/abe", json!({"valid_from": "now"})).await;
    let (before, _) = asked(&issuer, &last).await;
    issuer.clock.advance(Duration::from_secs(1));
    issuer.ok("PATCH", "/v1/users/abe", json!({"valid_from": "now"})).await;
    assert_ne!(asked(&issuer, &last).await.0, before, "tokens of before are worth nothing, so another one is given");
    issuer.ok("DELETE", &format!("/v1/keys/{id}"), Value::Null).await;
    let problem = token_for_key(&issuer.state, &last, None, issuer.clock.now()).await.unwrap_err();
    assert_eq!(problem.code.as_str(), "INVALID_CREDENTIAL");
}

// oauth: T10
#[tokio::test]
async fn a_token_is_traded_for_over_http_by_the_text_alone() {
    let issuer = Issuer::issuing(|_| {});
    let (_, key) = issuer.key_of("abe", "acme", &["orders:read"]).await;
    let (status, body) = issuer.call_with("", "POST", "/v1/keys/self/token", json!({"key": key})).await;
    assert_eq!((status, &body["token_type"], &body["expires_in"]), (200, &json!("Agent"), &json!(3600)), "{body}");
    for (bad, status) in [(json!({"key": "reva_live_sk_x"}), 401), (json!({"key": 7}), 400), (json!({}), 400)] {
        assert_eq!(issuer.call_with("", "POST", "/v1/keys/self/token", bad).await.0, status);
    }
    let silent = Issuer::new();
    assert_eq!(silent.call_with("", "POST", "/v1/keys/self/token", json!({"key": key})).await.0, 404, "where nothing is issued");
}

// oauth: T10
#[tokio::test]
async fn a_token_does_not_outlast_itself() {
    let issuer = Issuer::issuing(|_| {});
    let (id, key) = issuer.key_of("abe", "acme", &["orders:read"]).await;
    let (token, _) = asked(&issuer, &key).await;
    for (path, body, allowed) in [
        ("/v1/keys".to_owned(), json!({"name": "n", "scopes": ["orders:read"]}), 201),
        (format!("/v1/keys/{id}/rotate"), json!({"grace": "1h"}), 200),
    ] {
        let request = |name: &str, value: String| {
            let request = Request::post(&path).header(name, value).header("content-type", "application/json");
            issuer.public.clone().oneshot(request.body(Body::from(body.to_string())).unwrap())
        };
        let answer = request("x-authorization", format!("Agent {token}")).await.unwrap();
        assert_eq!(answer.status(), 403, "{path}: a text that is good for an hour becomes none that is good for ever");
        assert_eq!(request("x-api-key", key.clone()).await.unwrap().status(), allowed, "{path}");
    }
}
