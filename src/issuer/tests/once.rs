//! Requests that are sent again because their answers were lost.

use axum::http::HeaderMap;

use super::*;
use crate::store::Family;

pub(super) const ONCE: &str = "8e03978e-40d5-43dd-bc93-6894a57f9324";

pub(super) async fn post(issuer: &Issuer, key: &str, path: &str, once: &[&str], body: &Value) -> (u16, HeaderMap, Value) {
    let request = Request::builder().method("POST").uri(path).header("x-api-key", key).header("content-type", "application/json");
    let request = once.iter().fold(request, |request, once| request.header("idempotency-key", *once));
    let response = issuer.public.clone().oneshot(request.body(Body::from(body.to_string())).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    (head.status.as_u16(), head.headers, serde_json::from_slice(&bytes).unwrap())
}

// battery: I2
#[tokio::test]
async fn a_request_that_is_sent_again_makes_nothing_twice_and_shows_no_secret_again() {
    let issuer = Issuer::issuing(|_| {});
    let (_, key) = issuer.key_of("root", "acme", &["tollgate:admin"]).await;
    let (_, other) = issuer.key_of("root", "acme", &["tollgate:admin"]).await;
    let client = json!({"name": "robot", "kind": "confidential", "grant_types": ["client_credentials"]});
    for (what, body, secret) in [
        ("keys", json!({"name": "n", "user": "bob"}), "key"),
        ("clients", client, "client_secret"),
        ("invitations", json!({"organization": "acme"}), "invitation"),
        ("users", json!({"id": "bobby"}), "none"),
    ] {
        let path = format!("/v1/{what}");
        let count = async || issuer.call_with(&key, "GET", &path, Value::Null).await.1["data"].as_array().unwrap().len();
        let before = count().await;
        let (first, second) = tokio::join!(post(&issuer, &key, &path, &[ONCE], &body), post(&issuer, &key, &path, &[ONCE], &body));
        let (made, refused) = if first.0 == 201 { (first, second) } else { (second, first) };
        assert_eq!((made.0, refused.0), (201, 409), "{what}: {} {}", made.2, refused.2);
        let repeated = post(&issuer, &key, &path, &[&format!("\"{ONCE}\"")], &body).await;
        for (status, headers, answer) in [&refused, &repeated] {
            assert_eq!((*status, answer["error"]["code"].as_str()), (409, Some("CONFLICT")), "{what}: {answer}");
            let place = headers.get("location").map(|place| place.to_str().unwrap().to_owned());
            let expected = (what != "users").then(|| format!("{what}/{}", made.2["id"].as_str().unwrap()));
            assert_eq!(place, expected);
            assert!(made.2[secret].as_str().is_none_or(|secret| !answer.to_string().contains(secret)), "{what}: {answer}");
        }
        assert_eq!(count().await, before + 1, "{what}");
    }
    let body = json!({"name": "n", "user": "bob"});
    let another = json!({"name": "m", "user": "bob"});
    let (status, _, answer) = post(&issuer, &key, "/v1/keys", &[ONCE], &another).await;
    assert_eq!((status, answer["error"]["details"]["field"].as_str()), (400, Some("idempotency-key")), "each request has its own");
    assert_eq!(post(&issuer, &other, "/v1/keys", &[ONCE], &body).await.0, 201, "another caller's is another request");
    for wrong in [&["short"][..], &["a text with spaces in it"], &["0123456789abcdé-and-more"], &[ONCE, ONCE]] {
        let (status, _, answer) = post(&issuer, &key, "/v1/keys", wrong, &body).await;
        assert_eq!((status, answer["error"]["details"]["field"].as_str()), (400, Some("idempotency-key")), "{wrong:?}");
    }
    assert_eq!([post(&issuer, &key, "/v1/keys", &[], &body).await.0, post(&issuer, &key, "/v1/keys", &[], &body).await.0], [201, 201]);

    // What was refused was not done, and may be sent again; and a day later nobody asks any more.
    let fresh = "another-request-0001";
    let nobody = json!({"name": "n", "user": "bob", "scopes": ["no scope"]});
    assert_eq!(
        [post(&issuer, &key, "/v1/keys", &[fresh], &nobody).await.0, post(&issuer, &key, "/v1/keys", &[fresh], &body).await.0],
        [400, 201]
    );
    for (place, stored) in issuer.records.range(Family::Ticket, None, 100).await.unwrap().records {
        let text = String::from_utf8_lossy(&stored.bytes).into_owned();
        assert!(!text.contains("bobby") && !text.contains(ONCE), "{place:?}: {text}");
    }
    issuer.clock.advance(Duration::from_secs(24 * 60 * 60));
    assert_eq!(post(&issuer, &key, "/v1/keys", &[ONCE], &body).await.0, 201);
}
