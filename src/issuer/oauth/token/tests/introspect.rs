//! Introspection.

use super::*;
use crate::clock::Clock as _;
use crate::issuer::key_tokens::token_for_key;
use crate::listen::http::Peer;

const NOTHING: &str = r#"{"active":false}"#;

async fn as_bearer(stage: &Stage, bearer: &str, token: &str) -> Reply {
    let bearer = format!("Bearer {bearer}");
    let headers = [("content-type", "application/x-www-form-urlencoded"), ("authorization", bearer.as_str())];
    stage.send("/oauth/introspect", &headers, format!("token={token}")).await
}

// oauth: K4 K7 K9
#[tokio::test]
async fn what_is_good_is_described_as_it_is() {
    let stage = Stage::new().await;
    let server = stage.app(json!({"resources": [API]})).await;
    for form in ["EdDSA", "RS256", "opaque"] {
        let app = stage.app(json!({"access_tokens": form})).await;
        let (access, refresh) = stage.family(&app).await;
        for asker in [&app, &server] {
            for hint in ["", "refresh_token", "access_token", "nonsense"] {
                let reply = stage.post("/oauth/introspect", asker, &[("token", &access), ("token_type_hint", hint)]).await;
                let said = &reply.json;
                assert_eq!(reply.headers["cache-control"], "no-store");
                assert_eq!(said["active"], true, "{form} {hint}");
                let now = stage.issuer.clock.now().unix_seconds();
                assert_eq!((&said["iat"], &said["exp"]), (&json!(now), &json!(now + 600)));
                assert_eq!((&said["sub"], &said["client_id"], &said["aud"]), (&json!("alice"), &json!(app.id), &json!(API)));
                assert_eq!((&said["scope"], &said["token_type"]), (&json!("orders:read orders:write"), &json!("Bearer")));
                assert_eq!(said["iss"], "https://id.example.com");
                if form != "opaque" {
                    assert_eq!(said["jti"], claims(&access)["jti"]);
                }
            }
        }
        let said = stage.introspect(&app, &refresh).await;
        assert_eq!((&said["active"], &said["token_type"], &said["sub"]), (&json!(true), &json!("refresh_token"), &json!("alice")));
        assert_eq!(stage.introspect(&server, &refresh).await.to_string(), NOTHING, "a refresh token is its client's");
        let own = stage.token(&app, &[("grant_type", "client_credentials")]).await.text("access_token");
        assert_eq!(stage.introspect(&app, &own).await["sub"], json!(app.id));
    }
    let (id, key) = stage.issuer.key_of("alice", "acme", &["orders:read", "tollgate:users"]).await;
    let said = stage.introspect(&server, &key).await;
    assert_eq!((&said["active"], &said["sub"], &said["jti"]), (&json!(true), &json!("alice"), &json!(id)));
    assert_eq!((&said["token_type"], &said["scope"]), (&json!("api_key"), &json!("orders:read tollgate:users")));
}

// oauth: K1
#[tokio::test]
async fn a_key_that_is_bound_to_networks_asks_from_there_alone() {
    let stage = Stage::new().await;
    let key = json!({"name": "b", "user": "alice", "scopes": ["orders:read"], "allowed_networks": ["192.0.2.0/24"]});
    let key = stage.issuer.ok("POST", "/v1/keys", key).await["key"].as_str().unwrap().to_owned();
    let within = Some("192.0.2.7".parse().unwrap());
    let token = token_for_key(&stage.issuer.state, &key, within, stage.issuer.clock.now()).await.unwrap().text;
    for bearer in [key.as_str(), &token] {
        for (address, status) in [("192.0.2.7:9", 200), ("198.51.100.7:9", 401)] {
            let request = Request::post("/oauth/introspect").header("content-type", "application/x-www-form-urlencoded");
            let request = request.header("authorization", format!("Bearer {bearer}")).extension(Peer(Some(address.parse().unwrap())));
            let request = request.body(Body::from(format!("token={bearer}"))).unwrap();
            assert_eq!(stage.router.clone().oneshot(request).await.unwrap().status().as_u16(), status, "{address}");
        }
    }
}

// oauth: K2 K6
#[tokio::test]
async fn whatever_is_not_good_is_nothing_and_said_so_in_one_way() {
    let stage = Stage::new().await;
    for form in ["EdDSA", "opaque"] {
        let app = stage.app(json!({"access_tokens": form})).await;
        let (access, refresh) = stage.family(&app).await;
        for junk in ["x", "a.b.c", &format!("{access}x"), &access[..access.len() - 1], &"x".repeat(20_000), "reva_live_sk_x"] {
            assert_eq!(stage.introspect(&app, junk).await.to_string(), NOTHING, "{junk:.40}");
        }
        assert!(stage.introspect(&app, &access).await["active"] == true);
        stage.issuer.ok("PATCH", "/v1/users/alice", json!({"active": false})).await;
        for token in [&access, &refresh] {
            assert_eq!(stage.introspect(&app, token).await.to_string(), NOTHING, "{form}: the user is disabled");
        }
        stage.issuer.ok("PATCH", "/v1/users/alice", json!({"active": true})).await;
        stage.later(1);
        let (access, refresh) = stage.family(&app).await;
        let next = stage.refresh(&app, &refresh).await;
        assert_eq!(stage.introspect(&app, &refresh).await.to_string(), NOTHING, "{form}: retired");
        stage.post("/oauth/revoke", &app, &[("token", &access)]).await;
        assert_eq!(stage.introspect(&app, &access).await.to_string(), NOTHING, "{form}: revoked");
        stage.later(606);
        assert_eq!(stage.introspect(&app, &next.text("access_token")).await.to_string(), NOTHING, "{form}: expired");
        let (access, _) = stage.family(&app).await;
        let server = stage.app(json!({"resources": [API]})).await;
        assert_eq!(stage.introspect(&server, &access).await["active"], true);
        stage.issuer.ok("DELETE", &format!("/v1/clients/{}", app.id), Value::Null).await;
        assert_eq!(stage.introspect(&server, &access).await.to_string(), NOTHING, "{form}: the client is gone");
    }
    let server = stage.app(json!({"resources": [API]})).await;
    let (id, key) = stage.issuer.key_of("alice", "acme", &["orders:read"]).await;
    stage.issuer.ok("POST", &format!("/v1/keys/{id}/rotate"), json!({"grace": "1m"})).await;
    assert_eq!(stage.introspect(&server, &key).await["active"], true);
    stage.later(60);
    assert_eq!(stage.introspect(&server, &key).await.to_string(), NOTHING, "the secret is retired");
}

// oauth: K1 K3 U5
#[tokio::test]
async fn who_may_not_see_a_token_hears_of_none() {
    let stage = Stage::new().await;
    let app = stage.app(json!({})).await;
    let (access, refresh) = stage.family(&app).await;
    let (_, key) = stage.issuer.key_of("alice", "acme", &["orders:read"]).await;
    let elsewhere = stage.app(json!({"resources": [FILES]})).await;
    let unregistered = stage.app(json!({})).await;
    let foreign = stage.app(json!({"resources": [API], "organization": "evil"})).await;
    // Whoever belongs nowhere is no operator.
    let drifting = stage.app(json!({"resources": [API], "owner": "drifter"})).await;
    for asker in [&elsewhere, &unregistered, &foreign, &drifting] {
        for token in [&access, &refresh] {
            assert_eq!(stage.introspect(asker, token).await.to_string(), NOTHING);
        }
    }
    for asker in [&unregistered, &foreign, &drifting] {
        assert_eq!(stage.introspect(asker, &key).await.to_string(), NOTHING);
    }
    let near = stage.app(json!({"resources": [API], "organization": "acme"})).await;
    assert_eq!(stage.introspect(&near, &access).await["active"], true);

    let public = stage.app(json!({"kind": "public"})).await;
    stage.post("/oauth/introspect", &public, &[("token", &access)]).await.is(401, "invalid_client");
    let nobody = App { id: String::new(), ..public };
    stage.post("/oauth/introspect", &nobody, &[("token", &access)]).await.is(401, "invalid_client");
}

// oauth: K1
#[tokio::test]
async fn a_bearer_sees_its_own() {
    let stage = Stage::new().await;
    let app = stage.app(json!({})).await;
    let other = stage.app(json!({})).await;
    let (access, _) = stage.family(&app).await;
    let (foreign_access, _) = stage.family(&other).await;
    let (_, key) = stage.issuer.key_of("alice", "acme", &["orders:read"]).await;
    let (_, admin) = stage.issuer.key_of("bob", "acme", &["tollgate:users"]).await;
    let (_, stranger) = stage.issuer.key_of("mallory", "evil", &["tollgate:users"]).await;
    for (bearer, token, active) in [
        (&access, &access, true),
        (&key, &key, true),
        (&key, &access, true),
        (&admin, &access, true),
        (&access, &foreign_access, false),
        (&access, &key, false),
        (&stranger, &access, false),
        (&stranger, &key, false),
    ] {
        let reply = as_bearer(&stage, bearer, token).await;
        assert_eq!((reply.status, &reply.json["active"]), (200, &json!(active)));
    }
    let reply = as_bearer(&stage, "x", &access).await;
    assert_eq!(reply.error(), (401, "invalid_token"));
    assert!(reply.headers["www-authenticate"].to_str().unwrap().starts_with("Bearer "));
}

// oauth: K8
#[tokio::test]
async fn whoever_scans_is_held_up_and_nobody_else() {
    let stage = Stage::new().await;
    let app = stage.app(json!({})).await;
    let other = stage.app(json!({})).await;
    let (access, _) = stage.family(&other).await;
    let mut held_up = 0;
    for number in 0..130 {
        let reply = stage.post("/oauth/introspect", &app, &[("token", &format!("junk{number}"))]).await;
        held_up += usize::from(reply.status == 429);
    }
    assert_eq!(held_up, 10);
    assert_eq!(stage.introspect(&other, &access).await["active"], true);
    stage.later(1);
    assert_eq!(stage.introspect(&app, "junk").await.to_string(), NOTHING);
}
