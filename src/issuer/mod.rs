//! The door to people and programs: the resource API (JSON), on the control socket and on `listen.issuer`, and there the authorization
//! server beside it.
//!
//! Whoever reaches the socket administers: its file's mode is the right to do so. Everybody else is judged by the gate's own rooms, and
//! what lies outside their reach is not there. Plain secrets leave once, in the answer that
//! makes them, and stand in no log and no error. Every change is one conditional commit, so of two at once one is told of the
//! other.

pub mod accounts;
pub mod actor;
pub mod audit;
pub mod base;
pub mod callers;
pub mod compat;
pub mod control;
pub mod events;
pub mod explain;
pub mod federation;
pub mod key_tokens;
pub mod oauth;
pub mod openapi;
pub mod pages;
pub mod passwords;
pub mod problem;
pub mod sessions;
pub mod sign_in_tokens;
pub mod usage;

mod checks;
mod import;
mod input;
mod keys;
mod names;
mod once;
mod parameters;
mod ring;
mod rotate;
mod stats;
mod tickets;
mod unbroken;
mod users;
mod views;

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Extension;
use axum::Router;
use axum::extract::MatchedPath;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use axum::routing::post;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::check::Gate;
use crate::clock::Clock;
use crate::issuer::actor::Actor;
use crate::issuer::audit::Audit;
use crate::issuer::callers::RequestId;
use crate::issuer::events::KeyObserver;
use crate::issuer::federation::Federation;
use crate::issuer::oauth::answer::Fault;
use crate::issuer::passwords::Passwords;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::usage::UsageRead;
use crate::jose::signer::Signer;
use crate::model::key::KeyId;
use crate::model::route::ErrorFormat;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;
use crate::secrets;
use crate::secrets::Peppers;
use crate::store::Answer;
use crate::store::Records;

pub use crate::issuer::control::serve_control;

/// What the resource API works on.
#[derive(Clone, Debug)]
pub struct IssuerState {
    pub records: Arc<dyn Records>,
    pub peppers: Arc<Peppers>,
    pub rules: Arc<ArcSwap<Rules>>,
    pub clock: Arc<dyn Clock>,
    pub last_used: Arc<dyn LastUsed>,
    pub usage: Arc<dyn UsageRead>,
    /// Hears of every request to change a key.
    pub observer: Arc<dyn KeyObserver>,
    /// The rooms that judge the issuer's own callers: the gate's.
    pub gate: Arc<Gate>,
    pub signer: Arc<Signer>,
    pub passwords: Arc<Passwords>,
    pub audit: Arc<Audit>,
    /// What is known of the providers of sign-ins.
    pub federation: Arc<Federation>,
}

/// Where it is known when a key was last used: the ledger's flush knows, and nothing is written per request.
pub trait LastUsed: Send + Sync + std::fmt::Debug + 'static {
    fn last_use<'a>(&'a self, key: &'a KeyId) -> Answer<'a, Option<LastUse>>;
}

/// The last use of a key that has been flushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastUse {
    pub at: Timestamp,
    pub route: Arc<str>,
}

/// Knows of no use.
#[derive(Clone, Copy, Debug, Default)]
pub struct NeverUsed;

impl LastUsed for NeverUsed {
    fn last_use<'a>(&'a self, _key: &'a KeyId) -> Answer<'a, Option<LastUse>> {
        Answer::ready(None)
    }
}

/// The resource API for the command line, on the control socket: whoever reaches it is an operator.
pub fn router(state: IssuerState) -> Router {
    let state = unbroken::watched(state);
    let spoken = Spoken { rules: Arc::clone(&state.rules), door: Door::Control };
    Router::from(resources())
        .merge(operators())
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(axum::middleware::from_fn_with_state(spoken, frame))
        .layer(Extension(Actor::Operator))
        .with_state(state)
}

/// The resource API as this actor meets it.
#[cfg(test)]
pub(in crate::issuer) fn router_as(state: IssuerState, actor: Actor) -> Router {
    let spoken = Spoken { rules: Arc::clone(&state.rules), door: Door::Control };
    let frame = axum::middleware::from_fn_with_state(spoken, frame);
    Router::from(resources()).layer(frame).layer(Extension(actor)).with_state(state)
}

/// Everything that people and programs reach on `listen.issuer`.
pub fn public_router(state: IssuerState) -> Router {
    let state = unbroken::watched(state);
    let spoken = Spoken { rules: Arc::clone(&state.rules), door: Door::Public };
    let judge = axum::middleware::from_fn_with_state(state.clone(), callers::judge);
    let router = Router::from(resources())
        .route_layer(judge)
        .merge(anybody())
        .merge(oauth::router())
        .merge(accounts::router())
        .merge(pages::router())
        .merge(federation::router())
        .merge(compat::router())
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(axum::middleware::from_fn_with_state(spoken, frame))
        .with_state(state.clone());
    base::under_issuer_path(state, router)
}

/// The resource API: the same for operators and for everybody else. Each of its handlers asks its [`Actor`] how far it reaches.
///
/// An area adds its routes here; those that it describes (`utoipa::path` on the handler, `routes!` in its router) stand in the document.
fn resources() -> OpenApiRouter<IssuerState> {
    keys::resources()
        .routes(routes!(usage::query))
        .routes(routes!(stats::stats))
        .merge(audit::router().into())
        .merge(oauth::clients::resources().into())
        .merge(accounts::resources().into())
        .route("/v1/users", get(users::list).post(users::create))
        .route("/v1/users/{id}", get(users::show).patch(users::change).delete(users::delete))
        .route("/v1/ring", get(ring::show))
        .route("/v1/ring/rotate", post(ring::rotate))
}

/// What asks for no credential, or takes it in the body.
fn anybody() -> OpenApiRouter<IssuerState> {
    keys::public_router().routes(routes!(openapi::show))
}

/// Everything on the public door that is described.
fn documented() -> OpenApiRouter<IssuerState> {
    OpenApiRouter::with_openapi(openapi::Frame::openapi()).merge(resources()).merge(anybody())
}

/// What operators alone may ask for.
fn operators() -> Router<IssuerState> {
    Router::new().route("/v1/keys/file-entry", post(keys::file_entry))
}

/// In which form a listener's refusals are written.
#[derive(Clone, Debug)]
struct Spoken {
    rules: Arc<ArcSwap<Rules>>,
    door: Door,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    /// The command line reads one form.
    Control,
    Public,
}

impl Door {
    /// As the config names it.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Public => "issuer",
        }
    }
}

impl Spoken {
    fn format(&self) -> ErrorFormat {
        match self.door {
            Door::Control => ErrorFormat::Standard,
            Door::Public => {
                let rules = self.rules.load();
                rules.issuance.as_ref().map_or(rules.errors, |issuance| issuance.errors)
            }
        }
    }
}

/// Names every answer, gives problems their body, and writes the one log line.
async fn frame(State(spoken): State<Spoken>, mut request: Request, next: Next) -> Response {
    let method = request.method().clone();
    // The pattern, never the path: ids are fine in a log, but what a caller mistyped into a path may be a secret.
    let path = request.extensions().get::<MatchedPath>().map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let request_id = secrets::request_id();
    request.extensions_mut().insert(RequestId(Arc::from(&*request_id)));
    let mut response = unbroken::run(request, next).await;
    let problem = response.extensions_mut().remove::<Problem>();
    let code = match (&problem, response.extensions().get::<Fault>()) {
        (Some(problem), _) => problem.code.as_str(),
        (None, Some(fault)) => fault.as_str(),
        (None, None) => Code::of(response.status().as_u16()).map_or("OK", Code::as_str),
    };
    let (listener, status) = (spoken.door.as_str(), response.status().as_u16());
    tracing::info!(target: "tollgate::http", listener, %method, path, status, code, request_id, "answered");
    if let Some(problem) = problem {
        let format = response.extensions_mut().remove::<ErrorFormat>().unwrap_or_else(|| spoken.format());
        response = problem.render(format, &request_id);
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        headers.insert("x-request-id", value);
    }
    // What everybody may keep says so itself: the keys and the metadata.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn not_found() -> Response {
    Problem::new(Code::NotFound, "there is no such resource; see /v1/keys, /v1/users and /v1/usage").into_response()
}

async fn method_not_allowed() -> Response {
    Problem::new(Code::MethodNotAllowed, "the method is not allowed on this resource").into_response()
}

#[cfg(test)]
pub(crate) mod tests;
