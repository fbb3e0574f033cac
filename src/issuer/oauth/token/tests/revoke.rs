//! Revocation.

use super::*;
use crate::model::grant::ACCESS_MAX;
use crate::model::time::Timestamp;
use crate::store::Answer;
use crate::store::Committed;
use crate::store::Family;
use crate::store::Page;
use crate::store::Precondition;
use crate::store::RecordKey;
use crate::store::Records;
use crate::store::StoreError;
use crate::store::Stored;
use crate::store::Write;

async fn revoke(stage: &Stage, app: &App, token: &str) {
    let reply = stage.post("/oauth/revoke", app, &[("token", token)]).await;
    assert_eq!((reply.status, &reply.json), (200, &Value::Null));
    assert_eq!(reply.headers["cache-control"], "no-store");
}

// oauth: J1 J4 J5 J6
#[tokio::test]
async fn what_is_taken_back_opens_nothing() {
    let stage = Stage::new().await;
    for members in [json!({}), json!({"access_tokens": "RS256"}), json!({"access_tokens": "opaque"}), json!({"kind": "public"})] {
        let app = stage.app(members.clone()).await;
        let (access, refresh) = stage.family(&app).await;
        let next = stage.refresh(&app, &refresh).await;
        let (sibling, refresh) = (next.text("access_token"), next.text("refresh_token"));
        revoke(&stage, &app, &access).await;
        assert!(!stage.opens(&access).await && stage.opens(&sibling).await, "{members}: one token alone");
        revoke(&stage, &app, &access).await;
        let sibling_too = stage.refresh(&app, &refresh).await;
        let refresh = sibling_too.text("refresh_token");
        let hinted = [("token", refresh.as_str()), ("token_type_hint", "access_token")];
        assert_eq!(stage.post("/oauth/revoke", &app, &hinted).await.status, 200);
        for token in [&sibling, &sibling_too.text("access_token")] {
            assert!(!stage.opens(token).await, "{members}: the family");
        }
        stage.refresh(&app, &refresh).await.is(400, "invalid_grant");
    }
    let app = stage.app(json!({})).await;
    let own = stage.token(&app, &[("grant_type", "client_credentials")]).await.text("access_token");
    let unknown_hint = [("token", own.as_str()), ("token_type_hint", "no such type")];
    assert_eq!(stage.post("/oauth/revoke", &app, &unknown_hint).await.status, 200);
    assert!(!stage.opens(&own).await);
}

// oauth: J2 J3 J7
// battery: I15
#[tokio::test]
async fn what_is_not_ones_own_stays_and_the_answer_tells_nothing() {
    let stage = Stage::new().await;
    let app = stage.app(json!({"access_tokens": "opaque"})).await;
    let signed = stage.app(json!({})).await;
    let other = stage.app(json!({})).await;
    let (access, refresh) = stage.family(&app).await;
    let (jwt, _) = stage.family(&signed).await;
    let flipped = format!("{}A", &refresh[..refresh.len() - 1]);
    for token in [access.as_str(), &refresh, &jwt, &flipped, "x", "a.b.c", &"x".repeat(20_000), "reva_at_zz.1.x"] {
        revoke(&stage, &other, token).await;
    }
    assert!(stage.opens(&access).await && stage.opens(&jwt).await);
    stage.refresh(&app, &refresh).await.text("access_token");
    stage.post("/oauth/revoke", &other, &[]).await.is(400, "invalid_request");
    stage.post("/oauth/revoke", &App { secret: "wrong".to_owned(), ..app.clone() }, &[("token", "x")]).await.is(401, "invalid_client");
    stage.later(601);
    revoke(&stage, &app, &access).await;
    revoke(&stage, &signed, &jwt).await;
}

// oauth: J5
#[tokio::test]
async fn a_grant_that_cannot_remember_more_ends_as_a_whole() {
    let stage = Stage::new().await;
    let app = stage.app(json!({})).await;
    let (first, mut refresh) = stage.family(&app).await;
    let mut tokens = vec![first];
    for _token in 0..=ACCESS_MAX {
        let reply = stage.refresh(&app, &refresh).await;
        refresh = reply.text("refresh_token");
        tokens.push(reply.text("access_token"));
    }
    let (kept, taken) = tokens.split_last().unwrap();
    for token in taken.iter().take(ACCESS_MAX) {
        revoke(&stage, &app, token).await;
    }
    assert!(stage.opens(kept).await);
    revoke(&stage, &app, taken.last().unwrap()).await;
    assert!(!stage.opens(kept).await);
    stage.refresh(&app, &refresh).await.is(400, "invalid_grant");
}

// oauth: J2 O14
#[tokio::test]
async fn an_exchanged_token_may_be_taken_back_by_whom_it_was_given_to() {
    let stage = Stage::new().await;
    let app = stage.app(json!({})).await;
    let service = stage.app(json!({"resources": [API]})).await;
    let own = stage.token(&app, &[("grant_type", "client_credentials")]).await.text("access_token");
    for access in [stage.family(&app).await.0, own] {
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("subject_token", access.as_str()),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ];
        let exchanged = stage.token(&service, &form).await.text("access_token");
        revoke(&stage, &service, &exchanged).await;
        assert!(!stage.opens(&exchanged).await && stage.opens(&access).await);
        revoke(&stage, &service, &access).await;
        assert!(stage.opens(&access).await);
    }
}

/// A store that can be read and not written.
#[derive(Debug)]
struct ReadOnly(Arc<dyn Records>);

impl Records for ReadOnly {
    fn get(&self, key: &RecordKey) -> Answer<'_, Result<Option<Stored>, StoreError>> {
        self.0.get(key)
    }

    fn range(&self, family: Family, after: Option<&str>, limit: usize) -> Answer<'_, Result<Page, StoreError>> {
        self.0.range(family, after, limit)
    }

    fn commit(&self, _: Vec<Precondition>, _: Vec<Write>, _: Timestamp) -> Answer<'_, Result<Committed, StoreError>> {
        Answer::ready(Err(StoreError::Unavailable("down at redis://10.0.0.1".to_owned())))
    }
}

// oauth: J9
#[tokio::test]
async fn what_cannot_be_written_is_never_said_to_be_done() {
    let mut stage = Stage::new().await;
    let app = stage.app(json!({})).await;
    let code = stage.code(&app).await;
    let (access, refresh) = stage.family(&app).await;
    let mut state = stage.issuer.state.clone();
    state.records = Arc::new(ReadOnly(Arc::clone(&stage.issuer.records)));
    let working = std::mem::replace(&mut stage.router, router_with(Checks::all()).with_state(state));
    let replies = [
        stage.post("/oauth/revoke", &app, &[("token", &access)]).await,
        stage.post("/oauth/revoke", &app, &[("token", &refresh)]).await,
        stage.redeem(&app, &code).await,
        stage.refresh(&app, &refresh).await,
        stage.token(&app, &[("grant_type", "client_credentials")]).await,
    ];
    for reply in replies {
        reply.is(503, "temporarily_unavailable");
        assert!(reply.headers.contains_key("retry-after") && !reply.json.to_string().contains("10.0.0.1"));
    }
    stage.router = working;
    stage.redeem(&app, &code).await.text("access_token");
    stage.refresh(&app, &refresh).await.text("access_token");
}
