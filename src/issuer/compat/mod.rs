//! Routes in the seeds' own spelling. Each is served only where the config names it; everywhere else it is not there, by whatever method.
//!
//! Nothing is decided here: each calls what the issuer's own API calls, and says the answer in the words of its document.

mod auth_users;
mod generate;
mod get_token;
mod tinyoauth;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::MethodRouter;
use axum::routing::get;
use axum::routing::post;

use crate::issuer::IssuerState;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::model::issuance::Compatibility;
use crate::model::issuance::Issuance;

/// Every one of them; each looks into the rules first and is 404 where it is not switched on.
pub(in crate::issuer) fn router() -> Router<IssuerState> {
    let tinyoauth = |methods| by_name(Compatibility::Tinyoauth, methods);
    Router::new()
        .route("/generate", by_name(Compatibility::Generate, post(generate::generate)))
        .route("/auth/users", by_name(Compatibility::AuthUsers, post(auth_users::create)))
        .route("/auth/token", by_name(Compatibility::AuthUsers, post(auth_users::token)))
        .route("/get-token", by_name(Compatibility::GetToken, post(get_token::get_token)))
        .route("/register", tinyoauth(post(tinyoauth::register)))
        .route("/login", tinyoauth(post(tinyoauth::login)))
        .route("/client", tinyoauth(post(tinyoauth::client)))
        .route("/authorize", tinyoauth(get(tinyoauth::authorize).post(tinyoauth::authorize)))
        .route("/token", tinyoauth(post(tinyoauth::token)))
}

/// Another method is refused as one only where there is something.
fn by_name(compatibility: Compatibility, methods: MethodRouter<IssuerState>) -> MethodRouter<IssuerState> {
    methods.fallback(async move |State(state): State<IssuerState>| match serving(&state, compatibility) {
        Ok(_) => Problem::new(Code::MethodNotAllowed, "the method is not allowed on this resource"),
        Err(absent) => absent,
    })
}

/// What is issued here, if this spelling is served.
fn serving(state: &IssuerState, compatibility: Compatibility) -> Result<Arc<Issuance>, Problem> {
    let issuance = state.rules.load().issuance.clone().filter(|issuance| issuance.serves(compatibility));
    issuance.ok_or_else(|| Problem::new(Code::NotFound, "there is no such resource"))
}
