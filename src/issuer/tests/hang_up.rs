//! Whoever hangs up before the answer.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;

use axum::body::Bytes;
use axum::body::HttpBody;
use futures_util::FutureExt as _;
use hyper::body::Frame;

use super::*;
use crate::issuer::tests::meddled::Meddled;

/// A body that never comes.
struct Never {
    _counted: Arc<()>,
}

impl HttpBody for Never {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Poll::Pending
    }
}

/// Waits for the answer until `is_enough`, and then no longer.
async fn hang_up_when(router: Router, request: Request<Body>, is_enough: impl Fn() -> bool) {
    let mut answer = Box::pin(router.oneshot(request));
    while !is_enough() {
        assert!((&mut answer).now_or_never().is_none(), "answered before the peer hung up");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_was_begun_is_done_and_noted_though_nobody_waits_for_the_answer() {
    let mut issuer = Issuer::issuing(|_| {});
    let slow = Meddled::over(&issuer.records, 0);
    issuer.state.records = slow.clone();
    for (number, router) in [router(issuer.state.clone()), public_router(issuer.state.clone())].into_iter().enumerate() {
        slow.is_begun.store(false, Ordering::SeqCst);
        let request = if number == 0 {
            let body = json!({"name": "n", "user": "ann", "organization": "acme", "scopes": ["tollgate:keys"]});
            Request::post("/v1/keys").header("content-type", "application/json").body(Body::from(body.to_string())).unwrap()
        } else {
            let body = json!({"username": "bob", "password": "correct horse"});
            Request::post("/auth/users").header("content-type", "application/json").body(Body::from(body.to_string())).unwrap()
        };
        hang_up_when(router, request, || slow.is_begun.load(Ordering::SeqCst)).await;
        slow.permits.add_permits(1);
        let noted = if number == 0 { "key.created" } else { "user.created" };
        let found = async {
            while issuer.ok("GET", &format!("/v1/audit?deed={noted}"), Value::Null).await["data"] == json!([]) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), found).await.expect(noted);
        slow.permits.forget_permits(1);
    }
}

#[tokio::test]
async fn nothing_is_begun_for_who_hung_up_before() {
    let issuer = Issuer::issuing(|_| {});
    let held = Arc::new(());
    let body = Body::new(Never { _counted: Arc::clone(&held) });
    let request = Request::post("/auth/users").header("content-type", "application/json").body(body).unwrap();
    let polls = std::cell::Cell::new(0);
    hang_up_when(issuer.public.clone(), request, || polls.replace(polls.get() + 1) > 10).await;
    let dropped = async {
        while Arc::strong_count(&held) > 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), dropped).await.expect("the request is dropped with its connection");
}
