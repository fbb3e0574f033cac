//! Token exchange.

use super::*;

const ACCESS: &str = "urn:ietf:params:oauth:token-type:access_token";
const EXCHANGE: (&str, &str) = ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange");

async fn exchange(stage: &Stage, app: &App, token: &str, more: &[(&str, &str)]) -> Reply {
    let form: Vec<(&str, &str)> =
        [EXCHANGE, ("subject_token", token), ("subject_token_type", ACCESS)].into_iter().chain(more.iter().copied()).collect();
    stage.token(app, &form).await
}

// oauth: Q4 Q5 Q6
#[tokio::test]
async fn an_exchanged_token_never_exceeds_its_subject_and_ends_with_it() {
    let stage = Stage::new().await;
    for form in ["EdDSA", "opaque"] {
        let app = stage.app(json!({"access_tokens": form})).await;
        let service = stage.app(json!({"resources": [API], "scopes": ["orders:read", "files:read"]})).await;
        let (access, refresh) = stage.family(&app).await;
        stage.later(100);
        let reply = exchange(&stage, &service, &access, &[]).await;
        assert_eq!(reply.json["issued_token_type"], ACCESS);
        assert_eq!((&reply.json["expires_in"], &reply.json["scope"]), (&json!(500), &json!("orders:read")), "{form}");
        assert!(reply.json.get("refresh_token").is_none());
        let token = reply.text("access_token");
        let claims = claims(&token);
        assert_eq!((&claims["sub"], &claims["client_id"], &claims["aud"]), (&json!("alice"), &json!(service.id), &json!(API)));
        assert_eq!(claims["act"], json!({"sub": service.id}));
        let caller = stage.at_gate(&token).await.unwrap();
        assert_eq!((caller.subject.as_str(), caller.scopes.to_string()), ("alice", "orders:read".to_owned()));
        assert_eq!(stage.introspect(&service, &token).await["act"], json!({"sub": service.id}));
        stage.post("/oauth/revoke", &app, &[("token", &refresh)]).await;
        assert!(!stage.opens(&token).await, "{form}");
        exchange(&stage, &service, &token, &[]).await.is(400, "invalid_request");
    }
}

// oauth: Q3 Q5
#[tokio::test]
async fn what_cannot_be_exchanged_is_refused() {
    let stage = Stage::new().await;
    let app = stage.app(json!({})).await;
    let service = stage.app(json!({"resources": [API]})).await;
    let stranger = stage.app(json!({"resources": [FILES]})).await;
    let (access, refresh) = stage.family(&app).await;
    let (_, key) = stage.issuer.key_of("alice", "acme", &["orders:read"]).await;
    let typed = |token_type: &'static str| vec![EXCHANGE, ("subject_token", access.as_str()), ("subject_token_type", token_type)];
    for form in [
        vec![EXCHANGE],
        vec![EXCHANGE, ("subject_token", access.as_str())],
        vec![EXCHANGE, ("subject_token_type", ACCESS)],
        typed("urn:ietf:params:oauth:token-type:refresh_token"),
        typed("access_token"),
    ] {
        stage.token(&service, &form).await.is(400, "invalid_request");
    }
    for (client, token, more, error) in [
        (&service, refresh.as_str(), vec![], "invalid_request"),
        (&service, key.as_str(), vec![], "invalid_request"),
        (&service, "x", vec![], "invalid_request"),
        (&stranger, access.as_str(), vec![], "invalid_request"),
        (&service, access.as_str(), vec![("actor_token_type", ACCESS)], "invalid_request"),
        (&service, access.as_str(), vec![("actor_token", "x"), ("actor_token_type", ACCESS)], "invalid_request"),
        (&service, access.as_str(), vec![("requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token")], "invalid_request"),
        (&service, access.as_str(), vec![("scope", "files:read")], "invalid_scope"),
        (&service, access.as_str(), vec![("resource", FILES)], "invalid_target"),
        (&service, access.as_str(), vec![("audience", "https://other.example.com")], "invalid_target"),
    ] {
        let reply = exchange(&stage, client, token, &more).await;
        assert_eq!(reply.error(), (400, error), "{more:?} {}", reply.json);
    }
    // The gate judges one actor at each request: a second would stand behind one whom nobody asks about any more.
    let traded = exchange(&stage, &service, &access, &[]).await.text("access_token");
    let next = stage.app(json!({"resources": [API]})).await;
    for client in [&service, &next] {
        exchange(&stage, client, &traded, &[]).await.is(400, "invalid_request");
    }
}

/// Whoever gets it holds what its maker gave on, and is not the person that it is about.
#[tokio::test]
async fn who_traded_for_a_token_acts_as_an_application_whosever_it_was() {
    let stage = Stage::new().await;
    let service = stage.app(json!({"resources": [API]})).await;
    let alice = Subject::parse("alice").unwrap();
    let now = stage.issuer.state.clock.now();
    let (login, _) = crate::issuer::sign_in_tokens::token_for_sign_in(&stage.issuer.state, &alice, None, now).await.unwrap();
    let traded = exchange(&stage, &service, &login, &[]).await.text("access_token");
    assert_eq!(stage.at_gate(&traded).await.unwrap().client.as_deref(), Some(service.id.as_str()));
    for (token, status) in [(&traded, 403), (&login, 200)] {
        let request = Request::patch("/v1/users/alice").header("authorization", format!("Bearer {token}"));
        let request = request.header("content-type", "application/json").body(Body::from(json!({"display_name": "A"}).to_string()));
        assert_eq!(stage.issuer.public.clone().oneshot(request.unwrap()).await.unwrap().status(), status);
    }
}
