//! Every guard of the resource API, taken out: then everything that it alone refuses gets through.

mod changes;
mod clients;
mod reach;

use std::ops::AsyncFn;

use super::*;
use crate::issuer::accounts::tests::Browser;
use crate::issuer::accounts::tests::founder;
use crate::issuer::actor::Actor;
use crate::issuer::checks::left_out::leave_out;
use crate::issuer::checks::names;
use crate::issuer::router_as;
use crate::store::RecordKey;
use crate::store::Write;

/// With every check its hostile requests are refused; without it they are not. A check of which `is_refused` knows none fails.
async fn assert_each_is_needed(checks: &[Vec<&'static str>], is_refused: impl AsyncFn(&'static str) -> bool) {
    let checks = checks.concat();
    assert_eq!(checks.len(), checks.iter().collect::<BTreeSet<_>>().len(), "two checks have one name");
    for check in checks {
        assert!(is_refused(check).await, "let through, although it is not so that {check}");
        let _left_out = leave_out(check);
        assert!(!is_refused(check).await, "refused by something else than that {check}");
    }
}

/// Whether all of them, or none.
fn all(are_refused: &[bool]) -> bool {
    let [first, others @ ..] = are_refused else { panic!("nothing was asked") };
    assert!(others.iter().all(|other| other == first), "some are refused, and some are not: {are_refused:?}");
    *first
}

/// Two organisations. Of acme are ann, who manages it, and abe, who does not; of the other one is eve.
struct Scene {
    issuer: Issuer,
    acme: String,
    other: String,
    /// Ann's key, with all that she holds.
    ann: String,
    /// Abe's key, and its id.
    abe: String,
    abes: String,
}

impl Scene {
    async fn new() -> Self {
        Self::with(|_issuance| {}).await
    }

    async fn with(change: impl FnOnce(&mut Issuance)) -> Self {
        let issuer = Issuer::issuing(change);
        let acme = founder(&issuer, "ann").await.organization.to_string();
        let other = founder(&issuer, "eve").await.organization.to_string();
        issuer.ok("POST", "/v1/users", json!({"id": "abe", "organization": acme, "rights": ["orders:read"]})).await;
        let held: Vec<String> = issuance().admin_rights.iter().map(|scope| scope.as_str().to_owned()).collect();
        let held: Vec<&str> = held.iter().map(String::as_str).collect();
        let (_, ann) = issuer.key_of("ann", &acme, &held).await;
        let (abes, abe) = issuer.key_of("abe", &acme, &["orders:read"]).await;
        Self { issuer, acme, other, ann, abe, abes }
    }

    /// A key of somebody's of acme, and its id.
    async fn key(&self, user: &str, scopes: &[&str]) -> (String, String) {
        let (id, text) = self.issuer.key_of(user, &self.acme, scopes).await;
        (text, id)
    }

    /// The key of somebody new of acme, who manages it and is no admin.
    async fn manager(&self, user: &str) -> String {
        let held: Vec<String> = issuance().admin_rights.iter().map(|scope| scope.as_str().to_owned()).collect();
        self.issuer.ok("POST", "/v1/users", json!({"id": user, "organization": self.acme, "rights": held})).await;
        let held: Vec<&str> = held.iter().map(String::as_str).collect();
        self.key(user, &held).await.0
    }

    /// Abe's, for what is not live.
    async fn test_key(&self) -> String {
        let body = json!({"name": "t", "user": "abe", "environment": "test", "scopes": ["orders:read"]});
        self.issuer.ok("POST", "/v1/keys", body).await["key"].as_str().unwrap().to_owned()
    }

    /// An application of somebody's: its path.
    async fn client(&self, user: &str, organization: &str) -> String {
        let body = json!({
            "name": "app", "owner": user, "organization": organization, "scopes": ["orders:read"],
            "redirect_uris": ["https://app.example.com/cb"],
        });
        format!("/v1/clients/{}", self.issuer.ok("POST", "/v1/clients", body).await["id"].as_str().unwrap())
    }

    async fn status(&self, key: &str, method: &str, path: &str, body: Value) -> u16 {
        self.issuer.call_with(key, method, path, body).await.0
    }

    /// Whether this is what the request is told; otherwise it must be done.
    async fn is(&self, refusal: u16, key: &str, method: &str, path: &str, body: Value) -> bool {
        let (status, answer) = self.issuer.call_with(key, method, path, body).await;
        assert!(status == refusal || (200..300).contains(&status), "{method} {path}: {status} {answer}");
        status == refusal
    }

    /// The same of an operator.
    async fn is_operators(&self, refusal: u16, method: &str, path: &str, body: Value) -> bool {
        let (status, answer) = self.issuer.call(method, path, body).await;
        assert!(status == refusal || (200..300).contains(&status), "{method} {path}: {status} {answer}");
        status == refusal
    }

    /// The same of somebody who was recognised before.
    async fn is_actors(&self, refusal: u16, actor: Actor, method: &str, path: &str, body: Value) -> bool {
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let response = router_as(self.issuer.state.clone(), actor).oneshot(request.body(body).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        assert!(status == refusal || (200..300).contains(&status), "{method} {path}: {status}");
        status == refusal
    }

    /// Behind everybody's back.
    async fn write(&self, write: Write) {
        assert!(self.issuer.records.commit(Vec::new(), vec![write], self.issuer.clock.now()).await.unwrap().is_done());
    }
}
