//! Sign-in elsewhere over the router, against a provider that lies whenever it is told to. How it goes with an honest one is shown by
//! the acceptance tests, against a certified server.

mod accounts;
mod hostile;
mod returns;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::Request;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use axum::routing::post;
use serde_json::Value;
use serde_json::json;
use tower::ServiceExt;

use crate::issuer::tests::Issuer;
use crate::issuer::tests::START;
use crate::jose::battery;
use crate::model::issuance::Issuance;
use crate::model::issuance::PhoneRule;
use crate::model::issuance::Provider;
use crate::model::rules::Algorithm;
use crate::store::Family;

/// What no shelf, page or log may ever hold.
const UPSTREAM_SECRET: &str = "upstream-access-token-canary";

/// A provider on this machine.
#[derive(Clone)]
struct Fake(Arc<Inner>);

struct Inner {
    url: String,
    says: Mutex<Says>,
}

/// What it says, and what it was asked.
struct Says {
    metadata: Value,
    keys: Vec<u8>,
    /// Members of the ID token that are other than they should be, as JSON text; none leaves one out.
    claims: Vec<(&'static str, Option<String>)>,
    header: &'static str,
    algorithm: Algorithm,
    token_answer: Option<(StatusCode, &'static str, String)>,
    down: bool,
    nonce: String,
    asked: Vec<(&'static str, String)>,
}

impl Fake {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let metadata = json!({
            "issuer": url,
            "authorization_endpoint": format!("{url}/authorize?tenant=1"),
            "token_endpoint": format!("{url}/token"),
            "jwks_uri": format!("{url}/keys"),
        });
        let says = Says {
            metadata,
            keys: battery::set(&[("k1", Algorithm::EdDsa)]),
            claims: Vec::new(),
            header: r#"{"alg":"EdDSA","kid":"k1"}"#,
            algorithm: Algorithm::EdDsa,
            token_answer: None,
            down: false,
            nonce: String::new(),
            asked: Vec::new(),
        };
        let fake = Self(Arc::new(Inner { url, says: Mutex::new(says) }));
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(Self::metadata))
            .route("/keys", get(Self::keys))
            .route("/token", post(Self::token))
            .with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        fake
    }

    fn say<R>(&self, change: impl FnOnce(&mut Says) -> R) -> R {
        change(&mut self.0.says.lock().unwrap())
    }

    fn asked(&self, what: &str) -> usize {
        self.say(|says| says.asked.iter().filter(|(asked, _)| *asked == what).count())
    }

    #[expect(clippy::unused_async, reason = "a handler is asynchronous")]
    async fn metadata(State(fake): State<Self>) -> Response {
        fake.say(|says| {
            says.asked.push(("metadata", String::new()));
            if says.down {
                return StatusCode::SERVICE_UNAVAILABLE.into_response();
            }
            ([("content-type", "application/json")], says.metadata.to_string()).into_response()
        })
    }

    #[expect(clippy::unused_async, reason = "a handler is asynchronous")]
    async fn keys(State(fake): State<Self>) -> Response {
        fake.say(|says| {
            says.asked.push(("keys", String::new()));
            ([("content-type", "application/json")], says.keys.clone()).into_response()
        })
    }

    #[expect(clippy::unused_async, reason = "a handler is asynchronous")]
    async fn token(State(fake): State<Self>, headers: HeaderMap, body: String) -> Response {
        fake.say(|says| {
            let authorization = headers.get("authorization").map_or("", |value| value.to_str().unwrap());
            says.asked.push(("token", format!("{authorization} {body}")));
            if let Some((status, content_type, text)) = says.token_answer.clone() {
                return (status, [("content-type", content_type)], text).into_response();
            }
            let (issuer, nonce) = (json!(says.metadata["issuer"]).to_string(), json!(says.nonce).to_string());
            let mut changes = vec![("iss", Some(&*issuer)), ("aud", Some("\"us\"")), ("nonce", Some(&*nonce))];
            changes.extend(says.claims.iter().map(|(name, value)| (*name, value.as_deref())));
            let id_token = battery::forge(says.algorithm, says.header, battery::payload(&changes));
            let answer = json!({"access_token": UPSTREAM_SECRET, "token_type": "Bearer", "expires_in": 60, "id_token": id_token});
            ([("content-type", "application/json")], answer.to_string()).into_response()
        })
    }

    fn provider(&self, name: &str) -> Provider {
        Provider {
            name: name.into(),
            label: name.into(),
            issuer: self.0.url.as_str().into(),
            tenants: Vec::new(),
            client_id: "us".into(),
            client_secret: Some(Arc::new(zeroize::Zeroizing::new(b"our secret there".to_vec()))),
            scopes: vec!["profile".into(), "email".into()],
            trusts_email: true,
        }
    }
}

/// An issuer whose people may sign in at these.
fn issuer(providers: Vec<Provider>, change: impl FnOnce(&mut Issuance)) -> Issuer {
    Issuer::issuing(|issuance| {
        issuance.providers = providers;
        issuance.phone = PhoneRule::Required;
        change(issuance);
    })
}

/// A browser: it keeps its cookies, and nothing else.
#[derive(Clone, Default)]
struct Browser(BTreeMap<String, String>);

struct Page {
    status: u16,
    target: String,
    body: String,
    headers: HeaderMap,
}

impl Browser {
    async fn get(&mut self, issuer: &Issuer, target: &str) -> Page {
        self.send(issuer, Request::builder().uri(target).body(Body::empty()).unwrap()).await
    }

    async fn post(&mut self, issuer: &Issuer, target: &str, form: &[(&str, &str)]) -> Page {
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = Request::builder().method("POST").uri(target).header("content-type", "application/x-www-form-urlencoded");
        self.send(issuer, request.body(Body::from(form)).unwrap()).await
    }

    async fn send(&mut self, issuer: &Issuer, mut request: Request<Body>) -> Page {
        let cookies: Vec<String> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !cookies.is_empty() {
            request.headers_mut().insert("cookie", cookies.join("; ").parse().unwrap());
        }
        let response = issuer.public.clone().oneshot(request).await.unwrap();
        let headers = response.headers().clone();
        for cookie in headers.get_all("set-cookie") {
            let (pair, attributes) = cookie.to_str().unwrap().split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            assert!(attributes.contains("HttpOnly") && attributes.contains("SameSite=Lax") && attributes.contains("Secure"), "{cookie:?}");
            self.0.insert(name.to_owned(), value.to_owned());
        }
        let status = response.status().as_u16();
        let target = headers.get("location").map_or(String::new(), |target| target.to_str().unwrap().to_owned());
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        Page { status, target, body: String::from_utf8(bytes.to_vec()).unwrap(), headers }
    }

    fn is_signed_in(&self) -> bool {
        self.0.keys().any(|name| name.contains("session"))
    }

    /// Goes to the provider: what it was asked there.
    async fn set_out(&mut self, issuer: &Issuer, target: &str) -> BTreeMap<String, String> {
        let page = self.get(issuer, target).await;
        assert_eq!(page.status, 303, "{}", page.body);
        let (_place, query) = page.target.split_once('?').unwrap();
        form_urlencoded::parse(query.as_bytes()).into_owned().collect()
    }

    /// Goes there and comes back.
    async fn sign_in(&mut self, issuer: &Issuer, fake: &Fake, target: &str) -> Page {
        let question = self.set_out(issuer, target).await;
        fake.say(|says| says.nonce.clone_from(&question["nonce"]));
        let path = target.split_once('?').map_or(target, |(path, _query)| path);
        self.get(issuer, &format!("{path}/callback?code=the-providers-code&state={}", question["state"])).await
    }

    /// Signs in somebody who founds an organisation.
    async fn found(&mut self, issuer: &Issuer, fake: &Fake, target: &str) -> Page {
        let page = self.sign_in(issuer, fake, target).await;
        assert_eq!(page.status, 303, "{}", page.body);
        let ticket = page.target.strip_prefix("/sign-up/finish?ticket=").unwrap().to_owned();
        self.post(issuer, "/sign-up/finish", &[("ticket", &ticket), ("phone", "+49 30 1234567")]).await
    }
}

/// How many records of a family there are.
async fn count(issuer: &Issuer, family: Family) -> usize {
    issuer.records.range(family, None, 500).await.unwrap().records.len()
}

fn seconds(count: u64) -> std::time::Duration {
    std::time::Duration::from_secs(count)
}

/// The tests' clock and the forge's agree.
#[test]
fn tokens_are_judged_at_the_instant_for_which_they_are_made() {
    assert_eq!(START, battery::NOW);
}
