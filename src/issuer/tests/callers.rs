//! Who calls the public door, and in which words it is refused.

use axum::http::HeaderMap;

use super::*;
use crate::listen::http::Peer;

async fn raw(issuer: &Issuer, request: Request<Body>) -> (u16, HeaderMap, Value) {
    let response = issuer.public.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    (parts.status.as_u16(), parts.headers, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

fn get(path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let request = Request::builder().uri(path);
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(Body::empty()).unwrap()
}

// battery: K1 K2
#[tokio::test]
async fn callers_are_judged_by_the_gates_own_rooms() {
    let issuer = Issuer::issuing(|_| {});
    let (id, key) = issuer.key_of("alice", "acme", &["orders:read"]).await;
    let bearer = format!("Bearer {key}");
    let damaged = format!("{}A", &key[..key.len() - 1]);
    for (headers, status) in [
        (vec![], 401),
        (vec![("x-api-key", key.as_str())], 200),
        (vec![("authorization", bearer.as_str())], 200),
        (vec![("x-api-key", damaged.as_str())], 401),
        (vec![("x-api-key", "reva_live_sk_")], 401),
        (vec![("authorization", "Basic YTpi")], 401),
        (vec![("x-api-key", key.as_str()), ("authorization", "Bearer other")], 400),
    ] {
        let (found, answer, body) = raw(&issuer, get("/v1/keys/self", &headers)).await;
        assert_eq!(found, status, "{headers:?} {body}");
        match status {
            200 => assert_eq!(body["id"], id.as_str()),
            401 if headers.is_empty() => assert_eq!(answer["www-authenticate"], "Bearer realm=\"tollgate\""),
            401 => assert!(answer["www-authenticate"].to_str().unwrap().contains("error=\"invalid_token\"")),
            _ => assert_eq!(body["error"]["code"], "INVALID_REQUEST"),
        }
    }
    issuer.ok("DELETE", &format!("/v1/keys/{id}"), Value::Null).await;
    assert_eq!(issuer.call_with(&key, "GET", "/v1/keys/self", Value::Null).await.0, 401, "revoked here as at the gate");
    for path in ["/v1/keys", "/v1/keys/self", "/v1/usage", "/v1/keys/import"] {
        let method = if path.ends_with("import") { "POST" } else { "GET" };
        assert_eq!(issuer.call_with("", method, path, Value::Null).await.0, 401, "{path}");
    }
}

#[tokio::test]
async fn a_key_in_the_query_is_refused() {
    let issuer = Issuer::issuing(|_| {});
    let (_id, key) = issuer.key_of("alice", "acme", &[]).await;
    let (status, _, body) = raw(&issuer, get(&format!("/v1/keys?access_token={key}"), &[])).await;
    assert_eq!(status, 401);
    assert!(!body.to_string().contains(&key));
}

#[tokio::test]
async fn failed_guesses_are_limited_by_address_as_at_the_gate() {
    let issuer = Issuer::issuing(|_| {});
    let (_id, key) = issuer.key_of("alice", "acme", &[]).await;
    let from = |address: &str, key: &str| {
        let mut request = get("/v1/keys/self", &[("x-api-key", key)]);
        request.extensions_mut().insert(Peer(Some(address.parse().unwrap())));
        request
    };
    assert_eq!(raw(&issuer, from("192.0.2.9:1", &key)).await.0, 200);
    for guess in 0..3 {
        let (_id, unknown) = crate::model::key_text::write_key("reva", Environment::Live, &[guess; 16], &[guess; 32]);
        assert_eq!(raw(&issuer, from("192.0.2.9:1", &unknown)).await.0, 401);
    }
    let (_id, unknown) = crate::model::key_text::write_key("reva", Environment::Live, &[9; 16], &[9; 32]);
    let (status, headers, body) = raw(&issuer, from("192.0.2.9:2", &unknown)).await;
    assert_eq!((status, body["error"]["code"].as_str().unwrap()), (429, "TOO_MANY_REQUESTS"));
    assert!(headers.contains_key("retry-after"));
    assert_eq!(raw(&issuer, from("192.0.2.9:3", &key)).await.0, 200, "the proven pass");
    assert_eq!(raw(&issuer, from("192.0.2.10:1", &unknown)).await.0, 401, "another address");
}

#[tokio::test]
async fn refusals_speak_the_listeners_form() {
    for (format, members) in [
        (ErrorFormat::Standard, vec!["error"]),
        (ErrorFormat::Problem, vec!["code", "request_id", "status", "title", "type"]),
        (ErrorFormat::Envelope, vec!["code", "data", "message", "status"]),
        (ErrorFormat::Result, vec!["error", "message", "request_id", "result"]),
    ] {
        let issuer = Issuer::issuing(|issuance| issuance.errors = format);
        let (status, headers, body) = raw(&issuer, get("/v1/keys", &[])).await;
        assert_eq!(status, 401);
        let expected = if format == ErrorFormat::Problem { "application/problem+json" } else { "application/json" };
        assert_eq!(headers["content-type"], expected);
        assert!(headers["x-request-id"].to_str().unwrap().starts_with("req_"));
        assert_eq!(body.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>(), members);
        let missing = issuer.call_with("", "GET", "/nowhere", Value::Null).await;
        assert_eq!(missing.1.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>(), members);
        assert!(issuer.refused("GET", "/v1/keys/nothere", Value::Null).await.1["code"].is_string(), "the command line reads one form");
    }
}
