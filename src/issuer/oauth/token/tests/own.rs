//! client_credentials.

use super::*;
use crate::model::caller::SourceName;

const OWN: (&str, &str) = ("grant_type", "client_credentials");

// oauth: I1 I2 I3 I4 Q1
#[tokio::test]
async fn a_client_acts_for_itself_within_its_registration() {
    let stage = Stage::new().await;
    for form in ["EdDSA", "RS256", "opaque"] {
        let app = stage.app(json!({"access_tokens": form})).await;
        let reply = stage.token(&app, &[OWN]).await;
        assert!(reply.json.get("refresh_token").is_none());
        assert_eq!(reply.json["scope"], "files:read orders:read orders:write", "all of its own by default");
        let caller = stage.at_gate(&reply.text("access_token")).await.unwrap();
        assert_eq!((&caller.source, caller.subject.as_str()), (&SourceName::client(), app.id.as_str()));
        assert_eq!(caller.user.as_str(), format!("client:{}", app.id), "and never a user");
        let files = stage.token(&app, &[OWN, ("resource", FILES)]).await;
        assert_eq!(files.json["scope"], "files:read");
        let narrow = stage.token(&app, &[OWN, ("scope", "orders:read")]).await;
        assert_eq!(narrow.json["scope"], "orders:read");
        for (pair, error) in [
            (("scope", "other"), "invalid_scope"),
            (("scope", "tollgate:admin"), "invalid_scope"),
            (("scope", "*"), "invalid_scope"),
            (("resource", "https://other.example.com"), "invalid_target"),
            (("resource", "https://api.example.com#x"), "invalid_target"),
            (("resource", "api"), "invalid_target"),
        ] {
            stage.token(&app, &[OWN, pair]).await.is(400, error);
        }
    }
    let public = stage.app(json!({"kind": "public"})).await;
    stage.token(&public, &[OWN]).await.is(400, "unauthorized_client");
}

#[tokio::test]
async fn a_client_never_exceeds_who_registered_it() {
    let stage = Stage::new().await;
    let app = stage.app(json!({"owner": "alice", "organization": "acme"})).await;
    let opaque = stage.app(json!({"owner": "alice", "organization": "acme", "access_tokens": "opaque"})).await;
    assert_eq!(stage.token(&app, &[OWN]).await.json["scope"], "files:read orders:read orders:write");
    let before = [stage.token(&app, &[OWN]).await.text("access_token"), stage.token(&opaque, &[OWN]).await.text("access_token")];
    stage.issuer.ok("PATCH", "/v1/users/alice", json!({"rights": ["orders:read"]})).await;
    assert_eq!(stage.token(&app, &[OWN]).await.json["scope"], "orders:read");
    for token in &before {
        assert_eq!(stage.at_gate(token).await.unwrap().scopes.to_string(), "orders:read", "a token of before too");
        assert_eq!(stage.introspect(&app, token).await["scope"].as_str().unwrap_or("orders:read"), "orders:read");
    }
    stage.issuer.ok("PATCH", "/v1/users/alice", json!({"active": false})).await;
    stage.token(&app, &[OWN]).await.is(400, "unauthorized_client");
    for token in &before {
        assert!(stage.at_gate(token).await.is_none(), "at once");
    }
    assert_eq!(stage.introspect(&app, &before[0]).await, json!({"active": false}));
}

// oauth: N6
#[tokio::test]
async fn no_two_tokens_have_one_name() {
    let stage = Stage::new().await;
    let app = stage.app(json!({})).await;
    let mut names = std::collections::BTreeSet::new();
    for _token in 0..50 {
        let claims = claims(&stage.token(&app, &[OWN]).await.text("access_token"));
        assert_eq!(claims["jti"].as_str().unwrap().len(), 22, "128 bits");
        assert!(names.insert(claims["jti"].to_string()) && names.insert(claims["gid"].to_string()));
    }
}

// oauth: U6
#[tokio::test]
async fn what_was_granted_once_goes_away() {
    let stage = Stage::new().await;
    let app = stage.app(json!({})).await;
    let token = stage.token(&app, &[OWN]).await.text("access_token");
    let id = claims(&token)["gid"].as_str().unwrap().to_owned();
    stage.later(600 + 61);
    assert!(families::load(&stage.issuer.state, &id).await.unwrap().is_none());
}
