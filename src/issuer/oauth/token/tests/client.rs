//! Who a client is.

use axum::http::Extensions;

use super::*;
use crate::listen::http::Peer;

const OWN: &[(&str, &str)] = &[("grant_type", "client_credentials")];

// oauth: F1 F2 F3 F4 F5 F6 F7
// battery: I10
#[tokio::test]
async fn a_client_proves_itself_in_its_registered_way_alone() {
    let stage = Stage::new().await;
    let basic_app = stage.app(json!({})).await;
    let post_app = stage.app(json!({"token_endpoint_auth_method": "client_secret_post"})).await;
    let public = stage.app(json!({"kind": "public"})).await;
    for app in [&basic_app, &post_app] {
        stage.token(app, OWN).await.text("access_token");
    }
    let code = stage.code(&public).await;
    stage.redeem(&public, &code).await.text("access_token");

    let form = ("content-type", "application/x-www-form-urlencoded");
    let in_body = |app: &App| format!("grant_type=client_credentials&client_id={}&client_secret={}", app.id, app.secret);
    let in_header = |app: &App| basic(&app.id, &app.secret);
    let unknown = App { id: "app_00000000000000000000".to_owned(), ..basic_app.clone() };
    let wrong = App { secret: "wrong".to_owned(), ..basic_app.clone() };
    let own = "grant_type=client_credentials".to_owned();
    let table: Vec<(&str, Option<String>, String, u16, &str)> = vec![
        ("basic in the body", None, in_body(&basic_app), 401, "invalid_client"),
        ("post in the header", Some(in_header(&post_app)), own.clone(), 401, "invalid_client"),
        ("both", Some(in_header(&basic_app)), in_body(&basic_app), 400, "invalid_request"),
        ("two clients", Some(in_header(&basic_app)), format!("{own}&client_id={}", post_app.id), 400, "invalid_request"),
        ("an assertion beside", Some(in_header(&basic_app)), format!("{own}&client_assertion=x"), 400, "invalid_request"),
        ("an assertion alone", None, format!("{own}&client_id={}&client_assertion=x", basic_app.id), 401, "invalid_client"),
        ("nothing", None, own.clone(), 401, "invalid_client"),
        ("no secret", None, format!("{own}&client_id={}", basic_app.id), 401, "invalid_client"),
        ("no secret, a code", None, format!("grant_type=authorization_code&code=x&client_id={}", basic_app.id), 401, "invalid_client"),
        (
            "no secret, a refresh",
            None,
            format!("grant_type=refresh_token&refresh_token=x&client_id={}", post_app.id),
            401,
            "invalid_client",
        ),
        ("a public one with a secret", None, format!("{own}&client_id={}&client_secret=x", public.id), 401, "invalid_client"),
        ("a public one with an empty header", Some(basic(&public.id, "")), own.clone(), 401, "invalid_client"),
        ("another scheme", Some(format!("Bearer {}", basic_app.secret)), own.clone(), 401, "invalid_client"),
        ("no pair", Some("Basic YQ==".to_owned()), own.clone(), 401, "invalid_client"),
        ("no base64", Some("Basic ???".to_owned()), own.clone(), 401, "invalid_client"),
        ("an unknown one", Some(in_header(&unknown)), own.clone(), 401, "invalid_client"),
        ("a wrong secret", Some(in_header(&wrong)), own.clone(), 401, "invalid_client"),
        ("an id with a star", Some(basic("app_{*}", "x")), own.clone(), 401, "invalid_client"),
    ];
    let mut refusals = Vec::new();
    for (what, header, body, status, error) in table {
        let mut headers = vec![form];
        headers.extend(header.as_deref().map(|value| ("authorization", value)));
        let reply = stage.send("/oauth/token", &headers, body).await;
        assert_eq!(reply.error(), (status, error), "{what}");
        if status == 401 {
            assert!(reply.headers["www-authenticate"].to_str().unwrap().starts_with("Basic "), "{what}");
            refusals.push(reply.json);
        }
        stage.later(60);
    }
    assert!(refusals.windows(2).all(|pair| pair[0] == pair[1]), "the answer tells nothing apart");

    // Header and body may both name the same client.
    let reply =
        stage.send("/oauth/token", &[form, ("authorization", &in_header(&basic_app))], format!("{own}&client_id={}", basic_app.id)).await;
    reply.text("access_token");
    // The scheme's case does not matter, and every character may stand encoded.
    let all: String = basic_app.secret.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let encoded = format!("bAsIc {}", STANDARD.encode(format!("{}:{all}", basic_app.id)));
    stage.send("/oauth/token", &[form, ("authorization", &encoded)], own).await.text("access_token");
}

// oauth: F8
#[tokio::test]
async fn guesses_are_limited_for_each_client_and_address_and_hold_up_nobody_else() {
    let stage = Stage::new().await;
    let app = stage.app(json!({})).await;
    let other = stage.app(json!({})).await;
    stage.token(&app, OWN).await.text("access_token");
    let wrong = App { secret: "wrong".to_owned(), ..app.clone() };
    // Five guesses at one client, wherever they come from.
    let mut answers = Vec::new();
    for _guess in 0..7 {
        answers.push(stage.token(&wrong, OWN).await.status);
    }
    assert_eq!(answers, [401, 401, 401, 401, 401, 429, 429]);
    assert!(stage.token(&wrong, OWN).await.headers.contains_key("retry-after"));
    stage.token(&app, OWN).await.text("access_token");
    stage.token(&other, OWN).await.text("access_token");
    stage.later(60);
    stage.token(&wrong, OWN).await.is(401, "invalid_client");

    // Three from one address, at whatever client.
    let mut statuses = Vec::new();
    for number in 0..5 {
        let guess = basic(&format!("app_{number:020}"), "x");
        let mut request = Request::builder()
            .method("POST")
            .uri("/oauth/token")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("authorization", guess)
            .body(Body::from("grant_type=client_credentials"))
            .unwrap();
        *request.extensions_mut() = Extensions::new();
        request.extensions_mut().insert(Peer(Some("192.0.2.1:1".parse().unwrap())));
        statuses.push(stage.router.clone().oneshot(request).await.unwrap().status().as_u16());
    }
    assert_eq!(statuses, [401, 401, 401, 429, 429]);
}

// oauth: F10 P7
#[tokio::test]
async fn a_rotated_secret_goes_on_for_its_grace_and_a_disabled_or_deleted_client_not_at_all() {
    let stage = Stage::new().await;
    let old = stage.app(json!({})).await;
    let path = format!("/v1/clients/{}", old.id);
    let rotated = stage.issuer.ok("POST", &format!("{path}/rotate"), json!({"grace": "1h"})).await;
    let new = App { secret: rotated["client_secret"].as_str().unwrap().to_owned(), ..old.clone() };
    assert_ne!(new.secret, old.secret);
    for app in [&old, &new] {
        stage.token(app, OWN).await.text("access_token");
    }
    stage.later(3600);
    stage.token(&old, OWN).await.is(401, "invalid_client");
    let (access, refresh) = stage.family(&new).await;
    let own = stage.token(&new, OWN).await.text("access_token");
    let code = stage.code(&new).await;
    assert!(stage.opens(&access).await && stage.opens(&own).await);

    stage.issuer.ok("PATCH", &path, json!({"active": false})).await;
    stage.token(&new, OWN).await.is(401, "invalid_client");
    assert!(!stage.opens(&access).await && !stage.opens(&own).await);
    stage.issuer.ok("PATCH", &path, json!({"active": true})).await;
    assert!(stage.opens(&access).await);

    stage.issuer.ok("DELETE", &path, Value::Null).await;
    assert!(!stage.opens(&access).await && !stage.opens(&own).await, "everything that it was given is nothing now");
    stage.refresh(&new, &refresh).await.is(401, "invalid_client");
    stage.redeem(&new, &code).await.is(401, "invalid_client");
}

// oauth: E8
#[tokio::test]
async fn a_client_uses_the_grants_of_its_registration_alone() {
    let stage = Stage::new().await;
    let only_code = stage.app(json!({"grant_types": ["authorization_code"]})).await;
    let reply = stage.redeem(&only_code, &stage.code(&only_code).await).await;
    assert!(reply.json.get("refresh_token").is_none());
    assert!(stage.opens(&reply.text("access_token")).await);
    stage.token(&only_code, OWN).await.is(400, "unauthorized_client");
    stage.refresh(&only_code, "x").await.is(400, "unauthorized_client");
    let only_own = stage.app(json!({"grant_types": ["client_credentials"], "redirect_uris": []})).await;
    stage.redeem(&only_own, "x").await.is(400, "unauthorized_client");
}
