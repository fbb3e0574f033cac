//! Accounts over the embedded store, and what they mean at the gate.

mod erasure;
mod meanwhile;
mod people;
mod signing;

use std::sync::Arc;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::Request;
use serde_json::Value;
use tower::ServiceExt as _;

use crate::clock::Clock as _;
use crate::issuer::accounts::sign_up::NewAccount;
use crate::issuer::accounts::sign_up::SignedUp;
use crate::issuer::accounts::sign_up::sign_up;
use crate::issuer::actor::Actor;
use crate::issuer::router_as;
use crate::issuer::sessions;
use crate::issuer::tests::Issuer;
use crate::model::scope::Scope;
use crate::model::scope::ScopeSet;

pub(super) const PASSWORD: &str = "correct horse";

pub(in crate::issuer) fn new(name: &str) -> NewAccount {
    NewAccount { name: name.to_owned(), password: Some(PASSWORD.to_owned()), ..NewAccount::default() }
}

pub(super) fn scopes(text: &str) -> Arc<ScopeSet> {
    Arc::new(ScopeSet::new(text.split_whitespace().map(|scope| Scope::parse(scope).unwrap())))
}

pub(in crate::issuer) async fn founder(issuer: &Issuer, name: &str) -> SignedUp {
    sign_up(&issuer.state, new(name), None, issuer.clock.now()).await.unwrap()
}

/// A person in a browser: each request is judged by what the store says of it then.
pub(in crate::issuer) struct Browser<'i> {
    pub(in crate::issuer) issuer: &'i Issuer,
    pub(in crate::issuer) headers: HeaderMap,
}

impl<'i> Browser<'i> {
    pub(in crate::issuer) async fn of(issuer: &'i Issuer, user: &str) -> Self {
        let user = crate::model::caller::Subject::parse(user).unwrap();
        let opened =
            sessions::open(&issuer.state, &HeaderMap::new(), &user, sessions::BY_PASSWORD, None, issuer.clock.now()).await.unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("cookie", opened.cookie.split(';').next().unwrap().parse().unwrap());
        Self { issuer, headers }
    }

    pub(in crate::issuer) async fn is_signed_in(&self) -> bool {
        sessions::current(&self.issuer.state, &self.headers, self.issuer.clock.now()).await.unwrap().is_some()
    }

    pub(in crate::issuer) async fn actor(&self) -> Actor {
        Actor::Person(Arc::new(sessions::current(&self.issuer.state, &self.headers, self.issuer.clock.now()).await.unwrap().unwrap()))
    }

    pub(in crate::issuer) async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        call_as(self.issuer, self.actor().await, method, path, body).await
    }

    pub(in crate::issuer) async fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(method, path, body).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    /// The status, and the field or else the code of a refusal.
    pub(in crate::issuer) async fn refused(&self, method: &str, path: &str, body: Value) -> (u16, String) {
        let (status, answer) = self.call(method, path, body).await;
        assert!(status >= 400, "{method} {path}: {status} {answer}");
        let error = &answer["error"];
        (status, error["details"]["field"].as_str().or(error["code"].as_str()).unwrap().to_owned())
    }
}

pub(in crate::issuer) async fn call_as(issuer: &Issuer, actor: Actor, method: &str, path: &str, body: Value) -> (u16, Value) {
    let router = router_as(issuer.state.clone(), actor);
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    let response = router.oneshot(request.body(body).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() })
}
