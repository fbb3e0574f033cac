//! The endpoints over their router, and what their tokens are worth at the gate.

mod at_once;
mod client;
mod code;
mod exchange;
mod guards;
mod introspect;
mod model;
mod own;
mod refresh;
mod requests;
mod revoke;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::Request;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use serde_json::json;
use tower::ServiceExt;

use crate::check::identify_caller::identify_caller;
use crate::issuer::oauth::checks::Checks;
use crate::issuer::oauth::families;
use crate::issuer::oauth::token::audience::read_scopes;
use crate::issuer::oauth::token::router_with;
use crate::issuer::tests::Issuer;
use crate::model::caller::Caller;
use crate::model::caller::Environment;
use crate::model::caller::Subject;
use crate::model::client::ClientId;
use crate::model::grant::GrantId;
use crate::model::grant::GrantOf;
use crate::model::grant::GrantRecord;
use crate::model::grant::GrantState;
use crate::model::grant::PendingCode;
use crate::model::handle::HandleKind;
use crate::model::handle::read_handle;
use crate::model::issuance::Issuance;
use crate::model::request;
use crate::secrets::random_id;

/// RFC 7636 appendix B.
pub(in crate::issuer) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
pub(in crate::issuer) const WRONG_VERIFIER: &str = "wrong-wrong-wrong-wrong-wrong-wrong-wrong-wrong";
pub(in crate::issuer) const CALLBACK: &str = "https://app.example.com/cb";
pub(in crate::issuer) const API: &str = "https://api.example.com";
pub(in crate::issuer) const FILES: &str = "https://files.example.com";

/// A client as it was registered.
#[derive(Clone, Debug)]
pub(in crate::issuer) struct App {
    pub(in crate::issuer) id: String,
    pub(in crate::issuer) secret: String,
    pub(in crate::issuer) way: &'static str,
}

/// An answer of an endpoint.
#[derive(Debug)]
pub(in crate::issuer) struct Reply {
    pub(in crate::issuer) status: u16,
    pub(in crate::issuer) headers: HeaderMap,
    pub(in crate::issuer) json: Value,
}

impl Reply {
    pub(in crate::issuer) fn text(&self, member: &str) -> String {
        assert_eq!(self.status, 200, "{}", self.json);
        self.json[member].as_str().unwrap_or_else(|| panic!("no {member} in {}", self.json)).to_owned()
    }

    /// The status and `error`.
    pub(in crate::issuer) fn error(&self) -> (u16, &str) {
        (self.status, self.json["error"].as_str().unwrap_or("none"))
    }

    fn is(&self, status: u16, error: &str) {
        assert_eq!(self.error(), (status, error), "{}", self.json);
    }
}

/// An issuer with a user, alice, and the endpoints under test.
pub(in crate::issuer) struct Stage {
    pub(in crate::issuer) issuer: Issuer,
    pub(in crate::issuer) router: Router,
}

impl Stage {
    pub(in crate::issuer) async fn new() -> Self {
        Self::with(|_issuance| {}).await
    }

    pub(in crate::issuer) async fn with(change: impl FnOnce(&mut Issuance)) -> Self {
        let issuer = Issuer::issuing(change);
        let rights = json!(["orders:read", "orders:write", "files:read", "tollgate:users"]);
        for (user, organization) in [("alice", "acme"), ("mallory", "evil")] {
            issuer.ok("POST", "/v1/users", json!({"id": user, "organization": organization, "rights": rights})).await;
        }
        let router = issuer.public.clone();
        Self { issuer, router }
    }

    /// The same with one check less.
    pub(in crate::issuer) fn without(mut self, check: &str) -> Self {
        self.router = router_with(Checks::without(check)).with_state(self.issuer.state.clone());
        self
    }

    pub(in crate::issuer) fn later(&self, seconds: u64) {
        self.issuer.clock.advance(Duration::from_secs(seconds));
    }

    /// A client that may do everything, with these members instead.
    pub(in crate::issuer) async fn app(&self, members: Value) -> App {
        let mut body = json!({
            "name": "app",
            "redirect_uris": [CALLBACK],
            "grant_types": ["authorization_code", "refresh_token", "client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange"],
            "scopes": ["orders:read", "orders:write", "files:read"],
        });
        let is_public = members.get("kind").is_some();
        if is_public {
            body["grant_types"] = json!(["authorization_code", "refresh_token"]);
        }
        for (name, value) in members.as_object().unwrap() {
            body[name] = value.clone();
        }
        let made = self.issuer.ok("POST", "/v1/clients", body).await;
        App {
            id: made["id"].as_str().unwrap().to_owned(),
            secret: made["client_secret"].as_str().unwrap_or_default().to_owned(),
            way: match made["token_endpoint_auth_method"].as_str().unwrap() {
                "client_secret_basic" => "basic",
                "client_secret_post" => "post",
                _ => "none",
            },
        }
    }

    pub(in crate::issuer) async fn send(&self, path: &str, headers: &[(&str, &str)], body: String) -> Reply {
        let mut request = Request::builder().method("POST").uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.router.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        Reply { status, headers, json: if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() } }
    }

    /// A form, from a client that proves itself in its way.
    pub(in crate::issuer) async fn post(&self, path: &str, app: &App, form: &[(&str, &str)]) -> Reply {
        let basic = basic(&app.id, &app.secret);
        let mut headers = vec![("content-type", "application/x-www-form-urlencoded")];
        let mut pairs = form.to_vec();
        match app.way {
            "basic" => headers.push(("authorization", &basic)),
            "post" => pairs.extend([("client_id", app.id.as_str()), ("client_secret", &app.secret)]),
            _ => pairs.push(("client_id", &app.id)),
        }
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        self.send(path, &headers, body).await
    }

    pub(in crate::issuer) async fn token(&self, app: &App, form: &[(&str, &str)]) -> Reply {
        self.post("/oauth/token", app, form).await
    }

    /// What consent leaves behind: a grant whose code is out.
    pub(in crate::issuer) async fn pending(&self, app: &App, user: &str, scopes: &str, resources: &[&str]) -> GrantRecord {
        let state = &self.issuer.state;
        let now = state.clock.now();
        let lifetimes = state.rules.load().issuance.as_ref().unwrap().lifetimes;
        let id = GrantId::new(&random_id().unwrap());
        let of = GrantOf::Consent { client: ClientId::new(&app.id), user: Subject::parse(user).unwrap() };
        let ends = now.plus(lifetimes.refresh_absolute);
        let record = GrantRecord {
            organization: Some("acme".into()),
            scopes: Arc::new(read_scopes(Some(scopes)).unwrap().unwrap()),
            resources: resources.iter().map(|uri| Arc::from(*uri)).collect(),
            state: GrantState::Pending(PendingCode {
                redirect_uri: CALLBACK.into(),
                redirect_uri_named: true,
                challenge: CHALLENGE.into(),
                expires: now.plus(lifetimes.code),
                failures: 0,
            }),
            idle_until: now.plus(lifetimes.refresh_idle),
            ..GrantRecord::new(id, of, Environment::Live, state.peppers.current_id(), now, ends)
        };
        assert!(families::create(state, &record, now).await.unwrap());
        record
    }

    pub(in crate::issuer) fn code_of(&self, grant: &GrantRecord) -> String {
        self.issuer.state.peppers.handle("reva", HandleKind::Code, grant.id.as_str(), 0, "p1").unwrap().to_string()
    }

    pub(in crate::issuer) async fn code(&self, app: &App) -> String {
        self.code_of(&self.pending(app, "alice", "orders:read orders:write", &[API]).await)
    }

    pub(in crate::issuer) async fn redeem_with(&self, app: &App, code: &str, verifier: &str) -> Reply {
        let form = [("grant_type", "authorization_code"), ("code", code), ("redirect_uri", CALLBACK), ("code_verifier", verifier)];
        self.token(app, &form).await
    }

    pub(in crate::issuer) async fn redeem(&self, app: &App, code: &str) -> Reply {
        self.redeem_with(app, code, VERIFIER).await
    }

    pub(in crate::issuer) async fn refresh(&self, app: &App, token: &str) -> Reply {
        self.token(app, &[("grant_type", "refresh_token"), ("refresh_token", token)]).await
    }

    /// The access and the refresh token of a new family.
    pub(in crate::issuer) async fn family(&self, app: &App) -> (String, String) {
        let reply = self.redeem(app, &self.code(app).await).await;
        (reply.text("access_token"), reply.text("refresh_token"))
    }

    /// The grant that a handle or a signed token stands on.
    pub(in crate::issuer) async fn grant_of(&self, token: &str) -> GrantRecord {
        let id = match read_handle("reva", token) {
            Some(handle) => handle.id.to_owned(),
            None => claims(token)["gid"].as_str().unwrap().to_owned(),
        };
        families::load(&self.issuer.state, &id).await.unwrap().unwrap().0
    }

    /// Changes a grant behind everybody's back.
    pub(in crate::issuer) async fn change_grant(&self, id: &str, change: impl FnOnce(&mut GrantRecord)) {
        let state = &self.issuer.state;
        let (mut record, version) = families::load(state, id).await.unwrap().unwrap();
        change(&mut record);
        assert!(families::replace(state, &record, version, state.clock.now()).await.unwrap());
    }

    /// Whom an access token makes its holder at the gate.
    pub(in crate::issuer) async fn at_gate(&self, token: &str) -> Option<Arc<Caller>> {
        let state = &self.issuer.state;
        let value = format!("Bearer {token}");
        let shown = request::Request {
            method: request::Method::Get,
            host: request::Host::parse(b"api.example.com").unwrap(),
            path: request::Path::parse(b"/").unwrap(),
            query: None,
            headers: request::Headers::new(vec![(b"authorization", value.as_bytes())]),
            peer_address: None,
            principal: None,
            chosen_route: None,
        };
        let rules = state.rules.load_full();
        identify_caller(&shown, &state.gate, &rules, state.clock.now()).await.ok().flatten()
    }

    pub(in crate::issuer) async fn opens(&self, token: &str) -> bool {
        self.at_gate(token).await.is_some()
    }

    pub(in crate::issuer) async fn introspect(&self, app: &App, token: &str) -> Value {
        let reply = self.post("/oauth/introspect", app, &[("token", token)]).await;
        assert_eq!(reply.status, 200, "{}", reply.json);
        reply.json
    }
}

pub(in crate::issuer) fn basic(id: &str, secret: &str) -> String {
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    format!("Basic {}", STANDARD.encode(format!("{}:{}", encode(id), encode(secret))))
}

/// The payload of a signed token.
pub(in crate::issuer) fn claims(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}
