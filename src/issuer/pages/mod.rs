//! The issuer's own pages: plain HTML, no script, nothing from elsewhere.
//!
//! Every page says so to the browser too: its policy allows one style sheet by its digest, forms that lead to us (and to the client that
//! is being answered), and nothing else. Texts from outside are escaped by the templates; no page is kept by anybody.

pub(in crate::issuer) mod error;
pub(in crate::issuer) mod form;
pub(in crate::issuer) mod visit;

mod account;
mod field;
mod frame;
mod sign_in;
mod sign_out;
mod sign_up;

#[cfg(test)]
mod tests;

use askama::Template;
use axum::Router;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use axum::routing::post;

use crate::issuer::IssuerState;
use crate::issuer::pages::frame::frame;
use crate::issuer::pages::frame::style_digest;
use crate::issuer::pages::visit::Visit;

pub(in crate::issuer) use crate::issuer::pages::sign_in::origin;

/// `/sign-in`, `/sign-up`, `/sign-out`, `/account`.
pub(in crate::issuer) fn router() -> Router<IssuerState> {
    Router::new()
        .route("/sign-in", get(sign_in::page).post(sign_in::submit))
        .route("/sign-up", get(sign_up::page).post(sign_up::submit))
        .route("/sign-out", get(sign_out::page).post(sign_out::submit))
        .route("/account", get(account::page))
        .route("/account/apps", post(account::change::revoke_app))
        .route("/account/keys", post(account::change::revoke_key))
        .route("/account/sessions", post(account::change::end_sessions))
        .route("/account/password", post(account::change::set_password))
}

/// A page. Its forms lead to us, and to `sources` where their answers go on to somebody else.
pub(in crate::issuer) fn show(visit: &Visit, status: StatusCode, title: &str, body: &impl Template, sources: &[String]) -> Response {
    let Some(html) = body.render().ok().and_then(|body| frame(&visit.issuance.name, title, &body)) else {
        tracing::error!(title, "a page could not be written");
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let mut response = (status, html).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    guard(response.headers_mut(), &UNKEPT);
    guard(response.headers_mut(), &UNFRAMED);
    confine(response.headers_mut(), &policy(sources));
    response
}

/// Leads on with 303: whatever was sent to us is not sent to the next one.
pub(in crate::issuer) fn go_to(location: &str) -> Response {
    redirect(StatusCode::SEE_OTHER, location)
}

pub(in crate::issuer) fn redirect(status: StatusCode, location: &str) -> Response {
    let Ok(location) = HeaderValue::from_str(location) else {
        tracing::error!("a redirect could not be written: its address cannot stand in a header");
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let mut response = (status, [(header::LOCATION, location)]).into_response();
    guard(response.headers_mut(), &UNKEPT);
    response
}

/// The same answer, giving the browser a cookie where there is one to give.
pub(in crate::issuer) fn with_cookie(mut response: Response, cookie: Option<String>) -> Response {
    if let Some(cookie) = cookie.and_then(|cookie| HeaderValue::from_str(&cookie).ok()) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// What pages and redirects have in common: no address with a code in it is told to the next site, and nothing is kept.
const UNKEPT: [(HeaderName, HeaderValue); 4] = [
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::PRAGMA, HeaderValue::from_static("no-cache")),
];

/// For browsers that do not know the policy's word for it.
const UNFRAMED: [(HeaderName, HeaderValue); 1] = [(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"))];

/// What a page may do, and where its forms may lead.
fn policy(sources: &[String]) -> [String; 5] {
    let forms: String = sources.iter().map(|source| format!(" {source}")).collect();
    [
        "default-src 'none'".to_owned(),
        format!("style-src 'sha256-{}'", style_digest()),
        format!("form-action 'self'{forms}"),
        "frame-ancestors 'none'".to_owned(),
        "base-uri 'none'".to_owned(),
    ]
}

fn confine(headers: &mut HeaderMap, policy: &[String]) {
    if let Ok(policy) = HeaderValue::from_str(&policy.join("; ")) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
}

fn guard(headers: &mut HeaderMap, guards: &[(HeaderName, HeaderValue)]) {
    for (name, value) in guards {
        headers.insert(name, value.clone());
    }
}
