//! Seed 004: `/register`, `/login`, `/client`, `/authorize` and `/token`.
//!
//! The token of a login is the session here. Whoever shows another credential is nobody: a key or an application's token was given less
//! than its user holds, and must not get a code for more.

use axum::Json;
use axum::body::Body;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::Method;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::http::header;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Serialize;
use serde_json::json;
use tower::ServiceExt as _;

use crate::issuer::IssuerState;
use crate::issuer::accounts::sign_in::mark_online;
use crate::issuer::accounts::sign_in::sign_in;
use crate::issuer::accounts::sign_up::sign_up;
use crate::issuer::actor::Actor;
use crate::issuer::actor::OURSELVES;
use crate::issuer::callers::client_address;
use crate::issuer::callers::identify;
use crate::issuer::checks::Check;
use crate::issuer::checks::hold;
use crate::issuer::checks::run;
use crate::issuer::compat::auth_users::Login;
use crate::issuer::compat::auth_users::in_their_words;
use crate::issuer::compat::serving;
use crate::issuer::input::Fields;
use crate::issuer::input::Value;
use crate::issuer::names;
use crate::issuer::oauth;
use crate::issuer::oauth::authorize::AuthorizeParameters;
use crate::issuer::oauth::authorize::authorize_as;
use crate::issuer::oauth::clients;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::sign_in_tokens::token_for_sign_in;
use crate::model::caller::Caller;
use crate::model::caller::ProvenBy;
use crate::model::caller::Subject;
use crate::model::issuance::Compatibility;
use crate::model::issuance::Issuance;
use crate::model::route::ErrorFormat;

/// The largest form of an authorization request.
const FORM_BYTES_MAX: usize = 16 * 1024;

/// What `/login` and `/register` say; the document's two members, and of a refusal why.
#[derive(Serialize)]
struct Outcome<'a> {
    result: &'static str,
    token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
}

/// What `/client` says.
#[derive(Serialize)]
struct Registered<'a> {
    result: &'static str,
    client_id: Option<&'a serde_json::Value>,
    client_secret: Option<&'a serde_json::Value>,
    /// How the secret is shown at `/token` (RFC 7591 section 3.2.1).
    token_endpoint_auth_method: Option<&'a serde_json::Value>,
}

pub(super) async fn register(State(state): State<IssuerState>, request: Request) -> Response {
    if let Err(absent) = serving(&state, Compatibility::Tinyoauth) {
        return absent.into_response();
    }
    match register_one(&state, request).await {
        Ok(()) => succeeded(StatusCode::CREATED, None),
        Err(problem) => failed(&problem),
    }
}

async fn register_one(state: &IssuerState, request: Request) -> Result<(), Problem> {
    let (parts, body) = request.into_parts();
    let login = Login::read(&parts, body).await?;
    let address = client_address(&parts, &state.rules.load());
    sign_up(state, login.account(), address, state.clock.now()).await.map_err(in_their_words)?;
    Ok(())
}

/// Marks the user online and its operation time, as every sign-in does, and gives a token.
pub(super) async fn login(State(state): State<IssuerState>, request: Request) -> Response {
    if let Err(absent) = serving(&state, Compatibility::Tinyoauth) {
        return absent.into_response();
    }
    match login_one(&state, request).await {
        Ok(token) => succeeded(StatusCode::OK, Some(&token)),
        Err(problem) => failed(&problem),
    }
}

async fn login_one(state: &IssuerState, request: Request) -> Result<String, Problem> {
    let (parts, body) = request.into_parts();
    let login = Login::read(&parts, body).await?;
    let address = client_address(&parts, &state.rules.load());
    let now = state.clock.now();
    let user = sign_in(state, &login.username, login.password, address, now).await?;
    Ok(token_for_sign_in(state, &user, address, now).await?.0)
}

/// `GET` and `POST`, RFC 6749 section 3.1; the parameters in the query or, in a `POST`, in a form.
pub(super) async fn authorize(State(state): State<IssuerState>, request: Request) -> Response {
    if let Err(absent) = serving(&state, Compatibility::Tinyoauth) {
        return absent.into_response();
    }
    // What gives codes must not run for a HEAD, which would be taken for a GET.
    if request.method() == Method::HEAD {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let (parts, body) = request.into_parts();
    match signed_in(&state, &parts).await {
        Ok((_actor, user)) => match read_parameters(&parts, body).await {
            Ok(asked) => authorize_as(&state, &user, asked).await,
            Err(problem) => spoken(problem),
        },
        Err(problem) => spoken(problem),
    }
}

async fn read_parameters(parts: &Parts, body: Body) -> Result<AuthorizeParameters, Problem> {
    let too_large = || Problem::new(Code::PayloadTooLarge, "the request has more than 12 KiB of parameters");
    let mut encoded = parts.uri.query().unwrap_or_default().to_owned();
    if parts.method == Method::POST {
        let bytes = axum::body::to_bytes(body, FORM_BYTES_MAX).await.map_err(|_error| too_large())?;
        let text = str::from_utf8(&bytes).map_err(|_error| Problem::new(Code::InvalidRequest, "the body is no form"))?;
        if !encoded.is_empty() && !text.is_empty() {
            encoded.push('&');
        }
        encoded.push_str(text);
    }
    AuthorizeParameters::read(&encoded).map_err(|_too_long| too_large())
}

/// Registers an application of the user's own: whoever is signed in gets its id and, this once, its secret.
pub(super) async fn client(State(state): State<IssuerState>, request: Request) -> Response {
    if let Err(absent) = serving(&state, Compatibility::Tinyoauth) {
        return absent.into_response();
    }
    match register_client(&state, request).await {
        Ok(answer) => answer,
        Err(problem) => spoken(problem),
    }
}

async fn register_client(state: &IssuerState, request: Request) -> Result<Response, Problem> {
    const TEXTS: &str = "must be a list of texts";
    let issuance = serving(state, Compatibility::Tinyoauth)?;
    let (parts, body) = request.into_parts();
    let (actor, _user) = signed_in(state, &parts).await?;
    let mut fields = Fields::read(&parts.headers, body).await?;
    let name = fields.optional("name", names::name, names::NAME)?.unwrap_or_else(|| "application".into());
    let redirect_uris = fields.required("redirect_uris", texts, TEXTS)?;
    let scopes = fields.optional("scopes", texts, TEXTS)?;
    fields.finish()?;
    let scopes = scopes.unwrap_or_else(|| issuance.scopes.keys().map(|scope| scope.to_string()).collect());
    let description = json!({
        "name": name,
        "redirect_uris": redirect_uris,
        "scopes": scopes,
        "token_endpoint_auth_method": "client_secret_post",
    });
    let described = Request::post("/v1/clients").header(header::CONTENT_TYPE, "application/json").body(Body::from(description.to_string()));
    let mut described = described.map_err(|_error| Problem::new(Code::InvalidRequest, "the request could not be read"))?;
    described.extensions_mut().extend(parts.extensions);
    described.extensions_mut().insert(actor);
    let Ok(answer) = clients::resources().with_state(state.clone()).oneshot(described).await;
    if !answer.status().is_success() {
        let mut answer = answer;
        answer.extensions_mut().insert(ErrorFormat::Result);
        return Ok(answer);
    }
    let unread = || Problem::new(Code::Unavailable, "the application was registered and its secret is lost; register it again");
    let bytes = axum::body::to_bytes(answer.into_body(), FORM_BYTES_MAX).await.map_err(|_error| unread())?;
    let made: serde_json::Value = serde_json::from_slice(&bytes).map_err(|_error| unread())?;
    let made = Registered {
        result: "succeeded",
        client_id: made.get("id"),
        client_secret: made.get("client_secret"),
        token_endpoint_auth_method: made.get("token_endpoint_auth_method"),
    };
    Ok((StatusCode::CREATED, Json(made)).into_response())
}

fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::List(items) => items.iter().map(|item| names::text(item).map(str::to_owned)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Object(_) => None,
    }
}

/// The token endpoint under the document's name.
pub(super) async fn token(State(state): State<IssuerState>, mut request: Request) -> Response {
    if let Err(absent) = serving(&state, Compatibility::Tinyoauth) {
        return absent.into_response();
    }
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let Ok(uri) = format!("/oauth/token{query}").parse::<Uri>() else {
        return Problem::new(Code::InvalidRequest, "the URL must have no query").into_response();
    };
    *request.uri_mut() = uri;
    let Ok(answer) = oauth::router().with_state(state).oneshot(request).await;
    answer
}

/// Whose login token the request shows. Doing something is an operation: its time is noted.
async fn signed_in(state: &IssuerState, parts: &Parts) -> Result<(Actor, Subject), Problem> {
    let issuance = serving(state, Compatibility::Tinyoauth)?;
    let actor = match identify(state, parts).await? {
        Some(Actor::Caller(caller)) if run(&Shown::CHECKS, &Shown { caller: &caller, issuance: &issuance }).is_ok() => {
            Actor::Caller(caller)
        }
        Some(Actor::Caller(_) | Actor::Person(_) | Actor::Operator) | None => return Err(Problem::unauthenticated()),
    };
    let user = actor.user().cloned().ok_or_else(Problem::unauthenticated)?;
    mark_online(state, &user, state.clock.now()).await?;
    Ok((actor, user))
}

/// What came in the place of a login's token: one of our own that stands for a user alone.
struct Shown<'a> {
    caller: &'a Caller,
    issuance: &'a Issuance,
}

impl Shown<'_> {
    const CHECKS: [Check<Self>; 3] = [
        Check {
            name: "a login's token is of our own",
            run: |Shown { caller, issuance }| hold(caller.proven_by == ProvenBy::Token && caller.issuer.as_ref() == Some(&issuance.url)),
        },
        Check { name: "no key is behind a login", run: |shown| hold(shown.caller.key.is_none()) },
        Check {
            name: "no application is behind a login",
            run: |shown| hold(shown.caller.client.as_deref().is_none_or(|client| client == OURSELVES)),
        },
    ];
}

fn succeeded(status: StatusCode, token: Option<&str>) -> Response {
    (status, Json(Outcome { result: "succeeded", token, message: None })).into_response()
}

/// Status and headers as everywhere; the body is the document's.
fn failed(problem: &Problem) -> Response {
    let (mut head, _other_body) = problem.render(ErrorFormat::Result, "").into_parts();
    let why = match &problem.details {
        Some(details) => format!("{}: {}", details.field, details.issue),
        None => problem.message.to_string(),
    };
    let outcome = Outcome { result: "failed", token: None, message: Some(&why) };
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Response::from_parts(head, Body::from(serde_json::to_vec(&outcome).unwrap_or_default()))
}

/// A refusal in the form `result`, whatever the listener speaks.
fn spoken(problem: Problem) -> Response {
    let mut response = problem.into_response();
    response.extensions_mut().insert(ErrorFormat::Result);
    response
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::issuer::checks::assert_each_is_needed;
    use crate::issuer::tests::issuance;
    use crate::jose::battery::rotation::caller;
    use crate::model::key::KeyId;

    #[test]
    fn every_check_of_a_login_is_needed() {
        let issuance = issuance();
        let login = Caller {
            proven_by: ProvenBy::Token,
            issuer: Some(Arc::clone(&issuance.url)),
            key: None,
            client: Some(OURSELVES.into()),
            ..caller()
        };
        let foreign = Caller { issuer: Some("https://other.example.com".into()), ..login.clone() };
        let key = Caller { key: Some(KeyId::new("JgE32ybtn5w4")), ..login.clone() };
        let application = Caller { client: Some("app_00000000000000000000".into()), ..login.clone() };
        let shown = |caller| Shown { caller, issuance: &issuance };
        assert!(run(&Shown::CHECKS, &shown(&login)).is_ok());
        let cases = [
            ("a login's token is of our own", shown(&foreign)),
            ("no key is behind a login", shown(&key)),
            ("no application is behind a login", shown(&application)),
        ];
        assert_each_is_needed(|| Shown::CHECKS, &cases);
    }
}
