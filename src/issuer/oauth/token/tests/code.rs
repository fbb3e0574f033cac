//! Codes.

use super::*;

/// What is wrong, who sends it, what is sent, and the error.
type Case<'a> = (&'a str, &'a App, Vec<(&'a str, &'a str)>, &'a str);

// oauth: G3 G4 G5 G6 C5 C7 C8
#[tokio::test]
async fn what_does_not_fit_a_code_is_refused_and_burns_nothing() {
    let stage = Stage::new().await;
    let app = stage.app(json!({})).await;
    let other = stage.app(json!({})).await;
    let code = stage.code(&app).await;
    let (short, long) = ("a".repeat(42), "a".repeat(129));
    let table: Vec<Case<'_>> = vec![
        ("no code", &app, vec![("redirect_uri", CALLBACK), ("code_verifier", VERIFIER)], "invalid_request"),
        ("no verifier", &app, vec![("code", &code), ("redirect_uri", CALLBACK)], "invalid_request"),
        ("an empty verifier", &app, vec![("code", &code), ("redirect_uri", CALLBACK), ("code_verifier", "")], "invalid_request"),
        ("a short verifier", &app, vec![("code", &code), ("redirect_uri", CALLBACK), ("code_verifier", &short)], "invalid_grant"),
        ("a long verifier", &app, vec![("code", &code), ("redirect_uri", CALLBACK), ("code_verifier", &long)], "invalid_grant"),
        (
            "other characters",
            &app,
            vec![("code", &code), ("redirect_uri", CALLBACK), ("code_verifier", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjX+")],
            "invalid_grant",
        ),
        ("no redirect", &app, vec![("code", &code), ("code_verifier", VERIFIER)], "invalid_grant"),
        (
            "another redirect",
            &app,
            vec![("code", &code), ("redirect_uri", "https://app.example.com/cb/"), ("code_verifier", VERIFIER)],
            "invalid_grant",
        ),
        (
            "another resource",
            &app,
            vec![("code", &code), ("redirect_uri", CALLBACK), ("code_verifier", VERIFIER), ("resource", FILES)],
            "invalid_target",
        ),
        ("another client", &other, vec![("code", &code), ("redirect_uri", CALLBACK), ("code_verifier", VERIFIER)], "invalid_grant"),
    ];
    for _again in 0..2 {
        for (what, client, form, error) in &table {
            let form: Vec<(&str, &str)> = [("grant_type", "authorization_code")].into_iter().chain(form.iter().copied()).collect();
            let reply = stage.token(client, &form).await;
            assert_eq!(reply.error(), (400, *error), "{what}");
        }
    }
    // The honest client still can.
    stage.redeem(&app, &code).await.text("access_token");
}

// oauth: C6
#[tokio::test]
async fn three_wrong_verifiers_burn_a_code() {
    let stage = Stage::new().await;
    let app = stage.app(json!({})).await;
    let code = stage.code(&app).await;
    for _guess in 0..2 {
        stage.redeem_with(&app, &code, WRONG_VERIFIER).await.is(400, "invalid_grant");
    }
    stage.redeem(&app, &code).await.text("access_token");
    let code = stage.code(&app).await;
    for _guess in 0..3 {
        stage.redeem_with(&app, &code, WRONG_VERIFIER).await.is(400, "invalid_grant");
    }
    stage.redeem(&app, &code).await.is(400, "invalid_grant");
}

// oauth: G2
#[tokio::test]
async fn a_code_shown_again_late_ends_what_came_of_it() {
    let stage = Stage::new().await;
    for form in ["EdDSA", "opaque"] {
        let app = stage.app(json!({"access_tokens": form})).await;
        let code = stage.code(&app).await;
        let first = stage.redeem(&app, &code).await;
        let (access, refresh) = (first.text("access_token"), first.text("refresh_token"));
        stage.later(9);
        // A double click, or a reply that was lost.
        stage.redeem(&app, &code).await.is(400, "invalid_grant");
        assert!(stage.opens(&access).await, "{form}");
        stage.later(2);
        stage.redeem(&app, &code).await.is(400, "invalid_grant");
        assert!(!stage.opens(&access).await, "{form}");
        stage.refresh(&app, &refresh).await.is(400, "invalid_grant");

        let code = stage.code(&app).await;
        let refresh = stage.redeem(&app, &code).await.text("refresh_token");
        let access = stage.refresh(&app, &refresh).await.text("access_token");
        stage.redeem(&app, &code).await.is(400, "invalid_grant");
        assert!(!stage.opens(&access).await, "whoever went on with its tokens has no use for the code");
    }
}

// oauth: G3 G7
#[tokio::test]
async fn a_code_is_a_text_that_we_made_a_minute_ago_at_the_most() {
    let stage = Stage::new().await;
    let app = stage.app(json!({})).await;
    let late = stage.code(&app).await;
    stage.later(60);
    stage.redeem(&app, &late).await.is(400, "invalid_grant");

    let code = stage.code(&app).await;
    let mac = code.rsplit('.').next().unwrap();
    assert_eq!(mac.len(), 43, "256 bits");
    let record = stage.grant_of(&code).await;
    assert!(!serde_json::to_string(&record).unwrap().contains(mac), "the shelf has no code");
    let flipped = format!("{}{}", &code[..code.len() - 2], if code.ends_with("AA") { "BB" } else { "AA" });
    for bad in
        [flipped, code.replace("_ac_", "_rt_"), code.replace(".0.", ".1."), format!("{code}x"), "x".to_owned(), code.replace("reva_", "")]
    {
        stage.redeem(&app, &bad).await.is(400, "invalid_grant");
    }
    stage.redeem(&app, &code).await.text("access_token");
}

// oauth: G8 H14
#[tokio::test]
async fn each_kind_of_text_opens_its_own_door_alone() {
    let stage = Stage::new().await;
    let app = stage.app(json!({"access_tokens": "opaque"})).await;
    let code = stage.code(&app).await;
    assert!(!stage.opens(&code).await);
    stage.refresh(&app, &code).await.is(400, "invalid_grant");
    assert_eq!(stage.introspect(&app, &code).await, json!({"active": false}));
    assert_eq!(stage.post("/oauth/revoke", &app, &[("token", &code)]).await.status, 200);
    let first = stage.redeem(&app, &code).await;
    let (access, refresh) = (first.text("access_token"), first.text("refresh_token"));
    assert!(stage.opens(&access).await && !stage.opens(&refresh).await);
    for wrong in [&access, &code] {
        stage.refresh(&app, wrong).await.is(400, "invalid_grant");
    }
    for wrong in [&access, &refresh] {
        stage.redeem(&app, wrong).await.is(400, "invalid_grant");
    }
    stage.refresh(&app, &refresh).await.text("access_token");
}

// oauth: G9
#[tokio::test]
async fn a_code_falls_with_its_user_and_its_consent() {
    let stage = Stage::new().await;
    let app = stage.app(json!({})).await;
    let code = stage.code(&app).await;
    stage.issuer.ok("PATCH", "/v1/users/alice", json!({"active": false})).await;
    stage.redeem(&app, &code).await.is(400, "invalid_grant");
    stage.issuer.ok("PATCH", "/v1/users/alice", json!({"active": true})).await;
    stage.later(1);
    let code = stage.code(&app).await;
    stage.later(1);
    stage.issuer.ok("PATCH", "/v1/users/alice", json!({"valid_from": "now"})).await;
    stage.redeem(&app, &code).await.is(400, "invalid_grant");
    let grant = stage.pending(&app, "alice", "orders:read", &[API]).await;
    let state = &stage.issuer.state;
    stage
        .change_grant(grant.id.as_str(), |record| families::finish(record, crate::model::grant::GrantEnd::Revoked, state.clock.now()))
        .await;
    stage.redeem(&app, &stage.code_of(&grant)).await.is(400, "invalid_grant");
}

// oauth: C8
#[tokio::test]
async fn a_grant_without_a_challenge_is_nobodys() {
    let stage = Stage::new().await;
    let app = stage.app(json!({})).await;
    let grant = stage.pending(&app, "alice", "orders:read", &[API]).await;
    stage
        .change_grant(grant.id.as_str(), |record| match &mut record.state {
            GrantState::Pending(pending) => pending.challenge = "".into(),
            GrantState::Live | GrantState::Ended { .. } => unreachable!(),
        })
        .await;
    stage.redeem(&app, &stage.code_of(&grant)).await.is(400, "invalid_grant");
}

// oauth: Q2 N5 H9
#[tokio::test]
async fn a_token_is_for_the_resources_that_were_granted_and_that_it_names() {
    let stage = Stage::new().await;
    let app = stage.app(json!({})).await;
    let code = || async { stage.code_of(&stage.pending(&app, "alice", "orders:read files:read", &[API, FILES]).await) };
    let both = stage.redeem(&app, &code().await).await;
    assert_eq!(claims(&both.text("access_token"))["aud"], json!([API, FILES]));
    let code = code().await;
    let form = [
        ("grant_type", "authorization_code"),
        ("code", &code),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
        ("resource", FILES),
    ];
    let one = stage.token(&app, &form).await;
    assert_eq!((&claims(&one.text("access_token"))["aud"], &one.json["scope"]), (&json!(FILES), &json!("files:read")));
    // The family keeps both.
    let next = stage.refresh(&app, &one.text("refresh_token")).await;
    assert_eq!((&claims(&next.text("access_token"))["aud"], &next.json["scope"]), (&json!([API, FILES]), &json!("files:read orders:read")));
    let refresh = next.text("refresh_token");
    let form = [("grant_type", "refresh_token"), ("refresh_token", &refresh), ("resource", "https://other.example.com")];
    stage.token(&app, &form).await.is(400, "invalid_target");
}

// oauth: T5
#[tokio::test]
async fn a_token_opens_what_was_granted_within_what_its_user_holds_at_each_request() {
    let stage = Stage::new().await;
    for form in ["EdDSA", "opaque"] {
        let app = stage.app(json!({"access_tokens": form})).await;
        let (access, refresh) = stage.family(&app).await;
        stage.issuer.ok("PATCH", "/v1/users/alice", json!({"rights": ["orders:read"]})).await;
        assert_eq!(stage.at_gate(&access).await.unwrap().scopes.to_string(), "orders:read", "{form}");
        assert_eq!(stage.introspect(&app, &access).await["scope"], "orders:read");
        assert_eq!(stage.refresh(&app, &refresh).await.text("scope"), "orders:read");
        stage.issuer.ok("PATCH", "/v1/users/alice", json!({"rights": ["orders:read", "orders:write", "files:read"]})).await;
        stage.issuer.ok("PATCH", &format!("/v1/clients/{}", app.id), json!({"scopes": ["orders:write"]})).await;
        assert_eq!(stage.at_gate(&access).await.unwrap().scopes.to_string(), "orders:write", "{form}");
    }
}
