//! Refresh tokens.

use super::*;
use crate::model::grant::GrantEnd;

fn is_ended(grant: &GrantRecord, by: GrantEnd) -> bool {
    matches!(grant.state, GrantState::Ended { why, .. } if why == by)
}

// oauth: H1 H2 H10
// battery: I9
#[tokio::test]
async fn every_use_gives_the_next_and_an_old_one_ends_the_family() {
    let stage = Stage::new().await;
    for members in [json!({}), json!({"kind": "public"}), json!({"access_tokens": "opaque"})] {
        let app = stage.app(members).await;
        let (first_access, first) = stage.family(&app).await;
        let reply = stage.refresh(&app, &first).await;
        let (access, second) = (reply.text("access_token"), reply.text("refresh_token"));
        assert_ne!((&first, &first_access), (&second, &access));
        assert_eq!(reply.json["scope"], "orders:read orders:write");
        stage.later(10);
        stage.refresh(&app, &first).await.is(400, "invalid_grant");
        assert!(is_ended(&stage.grant_of(&second).await, GrantEnd::Reused));
        stage.refresh(&app, &second).await.is(400, "invalid_grant");
        assert!(!stage.opens(&access).await && !stage.opens(&first_access).await);
    }
}

// oauth: H4 H5 H6 H13
#[tokio::test]
async fn the_one_before_is_forgiven_for_a_moment_and_answered_with_the_same_successor() {
    let stage = Stage::new().await;
    for form in ["EdDSA", "opaque"] {
        let app = stage.app(json!({"access_tokens": form})).await;
        let (_, first) = stage.family(&app).await;
        let second = stage.refresh(&app, &first).await.text("refresh_token");
        stage.later(9);
        let repeated = stage.refresh(&app, &first).await;
        assert_eq!(repeated.text("refresh_token"), second);
        assert!(stage.opens(&repeated.text("access_token")).await);
        assert_eq!(stage.grant_of(&first).await.generation, 2, "nothing advanced");
        // Within the same second: order is by generation.
        let third = stage.refresh(&app, &second).await.text("refresh_token");
        assert_eq!(stage.refresh(&app, &second).await.text("refresh_token"), third);
        // A grand-parent, however young, is a copy.
        stage.refresh(&app, &first).await.is(400, "invalid_grant");
        assert!(is_ended(&stage.grant_of(&third).await, GrantEnd::Reused), "{form}");
        stage.refresh(&app, &third).await.is(400, "invalid_grant");
    }
}

// oauth: H4
#[tokio::test]
async fn without_a_window_nothing_is_forgiven() {
    let stage = Stage::with(|issuance| issuance.lifetimes.refresh_window = Duration::ZERO).await;
    let app = stage.app(json!({})).await;
    let (access, first) = stage.family(&app).await;
    stage.refresh(&app, &first).await.text("refresh_token");
    stage.refresh(&app, &first).await.is(400, "invalid_grant");
    assert!(!stage.opens(&access).await);
}

// oauth: H7 H8
#[tokio::test]
async fn a_family_is_its_clients_alone() {
    let stage = Stage::new().await;
    let app = stage.app(json!({})).await;
    let other = stage.app(json!({})).await;
    let public = stage.app(json!({"kind": "public"})).await;
    let (access, refresh) = stage.family(&app).await;
    for thief in [&other, &public] {
        stage.refresh(thief, &refresh).await.is(400, "invalid_grant");
    }
    let nobody = App { way: "none", ..app.clone() };
    stage.refresh(&nobody, &refresh).await.is(401, "invalid_client");
    assert!(stage.opens(&access).await);
    stage.refresh(&app, &refresh).await.text("access_token");
}

// oauth: H9 H10
#[tokio::test]
async fn a_scope_may_narrow_one_token_and_never_widens() {
    let stage = Stage::new().await;
    let app = stage.app(json!({})).await;
    let (_, refresh) = stage.family(&app).await;
    for (scope, error) in
        [("files:read", "invalid_scope"), ("orders:read files:read", "invalid_scope"), ("orders:read  x", "invalid_scope")]
    {
        let form = [("grant_type", "refresh_token"), ("refresh_token", refresh.as_str()), ("scope", scope)];
        stage.token(&app, &form).await.is(400, error);
    }
    let form = [("grant_type", "refresh_token"), ("refresh_token", refresh.as_str()), ("scope", "orders:read")];
    let narrowed = stage.token(&app, &form).await;
    assert_eq!(narrowed.json["scope"], "orders:read");
    assert_eq!(stage.at_gate(&narrowed.text("access_token")).await.unwrap().scopes.to_string(), "orders:read");
    let next = stage.refresh(&app, &narrowed.text("refresh_token")).await;
    assert_eq!(next.json["scope"], "orders:read orders:write");
}

// oauth: H11
#[tokio::test]
async fn a_family_ends_by_idleness_and_absolutely() {
    const DAY: u64 = 86_400;
    let stage = Stage::new().await;
    let app = stage.app(json!({})).await;
    let (_, idle) = stage.family(&app).await;
    let (_, mut used) = stage.family(&app).await;
    for _day in 0..10 {
        stage.later(DAY - 60);
        used = stage.refresh(&app, &used).await.text("refresh_token");
    }
    stage.refresh(&app, &idle).await.is(400, "invalid_grant");
    stage.later(300);
    let last = stage.refresh(&app, &used).await;
    assert!(last.json["expires_in"].as_u64().unwrap() <= 300, "no token outlives its family: {}", last.json);
    stage.later(300);
    stage.refresh(&app, &last.text("refresh_token")).await.is(400, "invalid_grant");
    assert!(!stage.opens(&last.text("access_token")).await);
}

// oauth: H12
#[tokio::test]
async fn a_family_ends_with_its_user() {
    let stage = Stage::new().await;
    let app = stage.app(json!({})).await;
    for change in [json!({"active": false}), json!({"valid_from": "now"})] {
        let (access, refresh) = stage.family(&app).await;
        stage.later(1);
        stage.issuer.ok("PATCH", "/v1/users/alice", change).await;
        assert!(!stage.opens(&access).await);
        stage.refresh(&app, &refresh).await.is(400, "invalid_grant");
        stage.issuer.ok("PATCH", "/v1/users/alice", json!({"active": true, "valid_from": null})).await;
        stage.refresh(&app, &refresh).await.is(400, "invalid_grant");
        assert!(!stage.opens(&access).await, "for good");
    }
}
