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
use crate::issuer::checks::Check;
use crate::issuer::checks::hold;
use crate::issuer::checks::run;
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
    let issuance = state.rules.load().issuance.clone();
    let issuance = issuance.filter(|issuance| run(&Spelling::CHECKS, &Spelling { issuance, compatibility }).is_ok());
    issuance.ok_or_else(|| Problem::new(Code::NotFound, "there is no such resource"))
}

/// A seed's spelling, and what is issued here.
pub(in crate::issuer) struct Spelling<'a> {
    issuance: &'a Issuance,
    compatibility: Compatibility,
}

impl Spelling<'_> {
    pub(in crate::issuer) const CHECKS: [Check<Self>; 1] = [Check {
        name: "a seed's spelling is served where the config names it",
        run: |spelling| hold(spelling.issuance.serves(spelling.compatibility)),
    }];
}
