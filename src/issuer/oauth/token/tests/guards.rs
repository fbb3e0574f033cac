//! Every check, taken out: then the assertion that it holds up fails.

use super::*;
use crate::model::client::ClientRecord;
use crate::model::client::GrantType;
use crate::model::user::UserState;
use crate::store::Precondition;
use crate::store::RecordKey;
use crate::store::Write;
use crate::store::codec::Shelved;
use crate::store::codec::decode_user;
use crate::store::codec::encode_user;

const OWN: (&str, &str) = ("grant_type", "client_credentials");
const ACCESS: &str = "urn:ietf:params:oauth:token-type:access_token";

/// Gives a client what no registration would.
async fn change_client(stage: &Stage, app: &App, change: impl FnOnce(&mut ClientRecord)) {
    let state = &stage.issuer.state;
    let place = ClientRecord::place(&app.id);
    let stored = state.records.get(&place).await.unwrap().unwrap();
    let mut record = ClientRecord::decode(&app.id, &stored.bytes).unwrap();
    change(&mut record);
    let write = Write::Put { key: place.clone(), bytes: record.encode(), expires: None };
    let precondition = Precondition::AtVersion(place, stored.version);
    assert!(state.records.commit(vec![precondition], vec![write], state.clock.now()).await.unwrap().is_done());
}

/// Behind everybody's back: the resource API would end the grants as well, and there would be nothing left to check.
async fn disable(stage: &Stage, user: &str) {
    let state = &stage.issuer.state;
    let place = RecordKey::user("local", user);
    let stored = state.records.get(&place).await.unwrap().unwrap();
    let mut record = decode_user(&place.id, &stored.bytes).unwrap();
    record.state = UserState::Disabled;
    let write = Write::Put { key: place, bytes: encode_user(&record), expires: None };
    assert!(state.records.commit(Vec::new(), vec![write], state.clock.now()).await.unwrap().is_done());
}

async fn exchange(stage: &Stage, app: &App, token: &str, more: &[(&str, &str)]) -> u16 {
    let grant = ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange");
    let form: Vec<(&str, &str)> = [grant, ("subject_token", token)].into_iter().chain(more.iter().copied()).collect();
    stage.token(app, &form).await.status
}

/// Whether the assertion behind a check holds.
async fn holds(stage: &Stage, check: &str) -> bool {
    let app = stage.app(json!({})).await;
    let other = stage.app(json!({})).await;
    let typed = ("subject_token_type", ACCESS);
    match check {
        "one way to prove a client" => {
            let headers = [("content-type", "application/x-www-form-urlencoded"), ("authorization", &*basic(&app.id, &app.secret))];
            let body = format!("grant_type=client_credentials&client_id={}&client_secret={}", app.id, app.secret);
            stage.send("/oauth/token", &headers, body).await.status != 200
        }
        "guesses at a client are limited" => {
            let wrong = App { secret: "wrong".to_owned(), ..app };
            let mut last = 0;
            for _guess in 0..7 {
                last = stage.token(&wrong, &[OWN]).await.status;
            }
            last == 429
        }
        "the client's registered way" => stage.token(&App { way: "post", ..app }, &[OWN]).await.status != 200,
        "the client's secret" => stage.token(&App { secret: "wrong".to_owned(), ..app }, &[OWN]).await.status != 200,
        "the client is active" => {
            stage.issuer.ok("PATCH", &format!("/v1/clients/{}", app.id), json!({"active": false})).await;
            stage.token(&app, &[OWN]).await.status != 200
        }
        "the client is registered for this grant" => {
            let app = stage.app(json!({"grant_types": ["authorization_code"]})).await;
            stage.token(&app, &[OWN]).await.status != 200
        }
        "the code is this client's" => stage.redeem(&other, &stage.code(&app).await).await.status != 200,
        "a code is redeemed once" => {
            let code = stage.code(&app).await;
            let access = stage.redeem(&app, &code).await.text("access_token");
            stage.later(11);
            stage.redeem(&app, &code).await.status != 200 && !stage.opens(&access).await
        }
        "the code has not expired" => {
            let code = stage.code(&app).await;
            stage.later(60);
            stage.redeem(&app, &code).await.status != 200
        }
        "the redirect URI of the code's request" => {
            let code = stage.code(&app).await;
            stage.token(&app, &[("grant_type", "authorization_code"), ("code", &code), ("code_verifier", VERIFIER)]).await.status != 200
        }
        "the form of the verifier" => {
            let grant = stage.pending(&app, "alice", "orders:read", &[API]).await;
            let challenge = URL_SAFE_NO_PAD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"short").as_ref());
            stage
                .change_grant(grant.id.as_str(), |record| {
                    if let GrantState::Pending(pending) = &mut record.state {
                        pending.challenge = challenge.into();
                    }
                })
                .await;
            stage.redeem_with(&app, &stage.code_of(&grant), "short").await.status != 200
        }
        "the verifier of the code's challenge" => stage.redeem_with(&app, &stage.code(&app).await, WRONG_VERIFIER).await.status != 200,
        "the code's user still stands" => {
            let code = stage.code(&app).await;
            disable(stage, "alice").await;
            stage.redeem(&app, &code).await.status != 200
        }
        "the refresh token is this client's" => stage.refresh(&other, &stage.family(&app).await.1).await.status != 200,
        "the family lives" => {
            let (_, refresh) = stage.family(&app).await;
            stage.later(86_400);
            stage.refresh(&app, &refresh).await.status != 200
        }
        "the newest generation, or its repeat" => {
            let (_, refresh) = stage.family(&app).await;
            let next = stage.refresh(&app, &refresh).await.text("access_token");
            stage.later(11);
            stage.refresh(&app, &refresh).await.status != 200 && !stage.opens(&next).await
        }
        "the family's user still stands" => {
            let (_, refresh) = stage.family(&app).await;
            disable(stage, "alice").await;
            stage.refresh(&app, &refresh).await.status != 200
        }
        "the scope only narrows" => {
            let (_, refresh) = stage.family(&app).await;
            let form = [("grant_type", "refresh_token"), ("refresh_token", refresh.as_str()), ("scope", "files:read")];
            stage.token(&app, &form).await.error() == (400, "invalid_scope")
        }
        "only confidential clients act for themselves" => {
            let public = stage.app(json!({"kind": "public"})).await;
            change_client(stage, &public, |record| record.grant_types.push(GrantType::ClientCredentials)).await;
            stage.token(&public, &[OWN]).await.status != 200
        }
        "the client's owner still stands" => {
            let owned = stage.app(json!({"owner": "alice"})).await;
            disable(stage, "alice").await;
            stage.token(&owned, &[OWN]).await.status != 200
        }
        "the scope lies within the registration" => stage.token(&app, &[OWN, ("scope", "other")]).await.status != 200,
        "only confidential clients exchange tokens" => {
            let public = stage.app(json!({"kind": "public"})).await;
            change_client(stage, &public, |record| record.grant_types.push(GrantType::TokenExchange)).await;
            let (access, _) = stage.family(&public).await;
            exchange(stage, &public, &access, &[typed]).await != 200
        }
        "the types of an exchange" => {
            let (access, _) = stage.family(&app).await;
            exchange(stage, &app, &access, &[("subject_token_type", "urn:ietf:params:oauth:token-type:jwt")]).await != 200
        }
        "the subject token is good" => {
            let (_, refresh) = stage.family(&app).await;
            exchange(stage, &app, &refresh, &[typed]).await != 200
        }
        "the subject token was meant for the client" => {
            let (access, _) = stage.family(&app).await;
            exchange(stage, &other, &access, &[typed]).await != 200
        }
        "the scope lies within the subject token's" => {
            let (access, _) = stage.family(&app).await;
            exchange(stage, &app, &access, &[typed, ("scope", "files:read")]).await != 200
        }
        "nobody acts with the subject token yet" => {
            let (access, _) = stage.family(&app).await;
            let form = [("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"), ("subject_token", access.as_str()), typed];
            let traded = stage.token(&app, &form).await.text("access_token");
            exchange(stage, &app, &traded, &[typed]).await != 200
        }
        "the token is this client's to take back" => {
            let (access, _) = stage.family(&app).await;
            stage.post("/oauth/revoke", &other, &[("token", &access)]).await;
            stage.opens(&access).await
        }
        "the token is the asker's to see" => {
            let (access, _) = stage.family(&app).await;
            stage.introspect(&other, &access).await == json!({"active": false})
        }
        _ => panic!("no assertion is known of the check {check:?}"),
    }
}

#[tokio::test]
async fn every_check_holds_something_up() {
    for check in Checks::all().names() {
        assert!(holds(&Stage::new().await, check).await, "{check}");
        assert!(!holds(&Stage::new().await.without(check), check).await, "nothing falls without the check: {check}");
    }
}
