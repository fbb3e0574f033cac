//! Many at the same instant.

use std::collections::BTreeSet;
use std::future::Future;

use tokio::task::JoinSet;

use super::*;

const AT_ONCE: usize = 50;
const ROUNDS: usize = 3;

async fn together<F: Future<Output = Reply> + Send + 'static>(run: impl Fn(usize) -> F) -> Vec<Reply> {
    let barrier = Arc::new(tokio::sync::Barrier::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for number in 0..AT_ONCE {
        let (barrier, call) = (Arc::clone(&barrier), run(number));
        tasks.spawn(async move {
            barrier.wait().await;
            call.await
        });
    }
    tasks.join_all().await
}

// oauth: G1
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_fifty_redemptions_one_gets_tokens() {
    let stage = Arc::new(Stage::new().await);
    for form in ["EdDSA", "opaque"].repeat(ROUNDS) {
        let app = stage.app(json!({"access_tokens": form})).await;
        let code = stage.code(&app).await;
        let replies = together(|_| {
            let (stage, app, code) = (Arc::clone(&stage), app.clone(), code.clone());
            async move { stage.redeem(&app, &code).await }
        })
        .await;
        let (won, lost): (Vec<&Reply>, Vec<&Reply>) = replies.iter().partition(|reply| reply.status == 200);
        assert_eq!(won.len(), 1);
        assert!(lost.iter().all(|reply| reply.error() == (400, "invalid_grant")));
        assert!(stage.opens(&won[0].text("access_token")).await);
        stage.refresh(&app, &won[0].text("refresh_token")).await.text("access_token");
    }
}

// oauth: H3
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_uses_of_one_refresh_token_are_one_step() {
    let stage = Arc::new(Stage::new().await);
    for form in ["EdDSA", "opaque"].repeat(ROUNDS) {
        let app = stage.app(json!({"access_tokens": form})).await;
        let (_, first) = stage.family(&app).await;
        let replies = together(|_| {
            let (stage, app, first) = (Arc::clone(&stage), app.clone(), first.clone());
            async move { stage.refresh(&app, &first).await }
        })
        .await;
        let successors: BTreeSet<String> = replies.iter().map(|reply| reply.text("refresh_token")).collect();
        assert_eq!(successors.len(), 1);
        for reply in &replies {
            assert!(stage.opens(&reply.text("access_token")).await, "{form}: whoever was answered has a token that is good");
        }
        assert_eq!(stage.grant_of(&first).await.generation, 2);
    }
}

// oauth: C6
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn wrong_verifiers_at_once_are_counted_one_by_one() {
    let stage = Arc::new(Stage::new().await);
    let app = stage.app(json!({})).await;
    let code = stage.code(&app).await;
    let replies = together(|_| {
        let (stage, app, code) = (Arc::clone(&stage), app.clone(), code.clone());
        async move { stage.redeem_with(&app, &code, WRONG_VERIFIER).await }
    })
    .await;
    assert!(replies.iter().all(|reply| matches!(reply.error(), (400, "invalid_grant") | (503, "temporarily_unavailable"))));
    stage.redeem(&app, &code).await.is(400, "invalid_grant");
}

// oauth: J8
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_revocation_among_refreshes_leaves_nothing_alive() {
    let stage = Arc::new(Stage::new().await);
    for form in ["EdDSA", "opaque"].repeat(ROUNDS) {
        let app = stage.app(json!({"access_tokens": form})).await;
        let (access, first) = stage.family(&app).await;
        let replies = together(|number| {
            let (stage, app, first) = (Arc::clone(&stage), app.clone(), first.clone());
            async move {
                if number % 5 == 2 {
                    stage.post("/oauth/revoke", &app, &[("token", &first)]).await
                } else {
                    stage.refresh(&app, &first).await
                }
            }
        })
        .await;
        assert!(!stage.opens(&access).await);
        for reply in replies.iter().filter(|reply| reply.status == 200 && !reply.json.is_null()) {
            assert!(!stage.opens(&reply.text("access_token")).await, "{form}");
            stage.refresh(&app, &reply.text("refresh_token")).await.is(400, "invalid_grant");
        }
    }
}
