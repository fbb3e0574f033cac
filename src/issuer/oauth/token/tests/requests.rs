//! What every request to the token endpoint has in common.

use serde_json::json;
use tower::ServiceExt;

use super::*;
use crate::model::issuance::Compatibility;

/// Where to, with which headers, what is sent, the status, and the error.
type Case<'a> = (&'a str, Vec<(&'a str, &'a str)>, String, u16, &'a str);

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

// oauth: E1 K5
#[tokio::test]
async fn the_endpoints_are_posted_to() {
    let stage = Stage::new().await;
    for path in ["/oauth/token", "/oauth/revoke", "/oauth/introspect"] {
        for method in ["GET", "PUT", "DELETE", "HEAD"] {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            let response = stage.router.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status().as_u16(), 405, "{method} {path}");
        }
    }
}

// oauth: E2 E3 E5 E8 E9 E11 E12 K5
#[tokio::test]
async fn requests_that_are_no_plain_forms_are_refused_in_the_form_of_the_rfc() {
    let stage = Stage::with(|issuance| issuance.compatibility.retain(|served| *served != Compatibility::JsonToken)).await;
    let app = stage.app(json!({})).await;
    let basic = basic(&app.id, &app.secret);
    let credentials = ("authorization", basic.as_str());
    let own = "grant_type=client_credentials";
    let json = ("content-type", "application/json");
    let many: String = (0..65).map(|number| format!("&p{number}=1")).collect();
    let large = format!("{own}&a={}", "x".repeat(40_000));
    let table: Vec<Case<'_>> = vec![
        ("/oauth/token", vec![FORM, credentials], String::new(), 400, "invalid_request"),
        ("/oauth/token", vec![credentials], own.to_owned(), 400, "invalid_request"),
        ("/oauth/token", vec![FORM, FORM, credentials], own.to_owned(), 400, "invalid_request"),
        ("/oauth/token", vec![json, credentials], r#"{"grant_type":"client_credentials"}"#.to_owned(), 400, "invalid_request"),
        ("/oauth/token?grant_type=client_credentials", vec![FORM, credentials], own.to_owned(), 400, "invalid_request"),
        ("/oauth/token?code=x", vec![FORM, credentials], own.to_owned(), 400, "invalid_request"),
        ("/oauth/introspect?token=x", vec![FORM, credentials], "token=x".to_owned(), 400, "invalid_request"),
        ("/oauth/revoke?token=x", vec![FORM, credentials], "token=x".to_owned(), 400, "invalid_request"),
        ("/oauth/token", vec![FORM, credentials], format!("{own}&{own}"), 400, "invalid_request"),
        ("/oauth/token", vec![FORM, credentials], format!("{own}&scope=a&scope=b"), 400, "invalid_request"),
        ("/oauth/token", vec![FORM, credentials], format!("{own}{many}"), 400, "invalid_request"),
        ("/oauth/token", vec![FORM, credentials], large, 413, "invalid_request"),
        ("/oauth/token", vec![FORM, credentials], "grant_type=password&username=a&password=b".to_owned(), 400, "unsupported_grant_type"),
        ("/oauth/token", vec![FORM, credentials], "grant_type=implicit".to_owned(), 400, "unsupported_grant_type"),
        ("/oauth/token", vec![FORM, credentials], "grant_type=<script>".to_owned(), 400, "unsupported_grant_type"),
        ("/oauth/token", vec![FORM, credentials], "grant_type=%ff".to_owned(), 400, "invalid_request"),
    ];
    for (path, headers, body, status, error) in table {
        let reply = stage.send(path, &headers, body.clone()).await;
        assert_eq!(reply.error(), (status, error), "{path} {:.60}", body);
        assert_eq!((reply.headers["cache-control"].as_bytes(), reply.headers["pragma"].as_bytes()), (&b"no-store"[..], &b"no-cache"[..]));
        assert_eq!(reply.headers["content-type"], "application/json");
        let description = reply.json["error_description"].as_str().unwrap();
        assert!(description.bytes().all(|byte| matches!(byte, 0x20..=0x21 | 0x23..=0x5b | 0x5d..=0x7e)), "{description}");
        assert!(!description.contains("script"));
    }
}

// oauth: E2
#[tokio::test]
async fn a_json_body_is_seed_002s_own_spelling_and_must_be_switched_on() {
    let stage = Stage::new().await;
    let app = stage.app(json!({"token_endpoint_auth_method": "client_secret_post"})).await;
    let body = json!({
        "grant_type": "authorization_code",
        "code": stage.code(&app).await,
        "redirect_uri": CALLBACK,
        "code_verifier": VERIFIER,
        "client_id": app.id,
        "client_secret": app.secret,
    });
    let reply = stage.send("/oauth/token", &[("content-type", "application/json")], body.to_string()).await;
    assert!(stage.opens(&reply.text("access_token")).await);
}

// oauth: E4 E6 E7 N3 N4 N8
#[tokio::test]
async fn a_success_says_everything_and_may_not_be_kept() {
    let stage = Stage::with(|issuance| issuance.lifetimes.access_token = Duration::from_secs(321)).await;
    for form in ["EdDSA", "RS256", "opaque"] {
        let app = stage.app(json!({"access_tokens": form})).await;
        let reply = stage.redeem(&app, &stage.code(&app).await).await;
        assert_eq!((reply.headers["cache-control"].as_bytes(), reply.headers["pragma"].as_bytes()), (&b"no-store"[..], &b"no-cache"[..]));
        assert_eq!(reply.headers["content-type"], "application/json");
        let mut members: Vec<&String> = reply.json.as_object().unwrap().keys().collect();
        members.sort();
        assert_eq!(members, ["access_token", "expires_in", "refresh_token", "scope", "token_type"]);
        assert_eq!((&reply.json["token_type"], &reply.json["expires_in"]), (&json!("Bearer"), &json!(321)));
        assert_eq!(reply.json["scope"], "orders:read orders:write");
        let token = reply.text("access_token");
        if form != "opaque" {
            let claims = claims(&token);
            let mut named: Vec<&String> = claims.as_object().unwrap().keys().collect();
            named.sort();
            assert_eq!(named, ["aud", "client_id", "exp", "gid", "iat", "iss", "jti", "scope", "sub"], "{form}");
            assert_eq!((&claims["sub"], &claims["client_id"], &claims["aud"]), (&json!("alice"), &json!(app.id), &json!(API)));
            assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 321);
        }
        let caller = stage.at_gate(&token).await.unwrap();
        assert_eq!((caller.subject.as_str(), caller.scopes.to_string()), ("alice", "orders:read orders:write".to_owned()));
        stage.later(320);
        assert!(stage.opens(&token).await, "{form}");
        stage.later(7);
        assert!(!stage.opens(&token).await, "{form}");
    }
}
