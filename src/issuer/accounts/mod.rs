//! People: signing up, signing in and out, organisations, invitations, sessions as a resource, being erased.

pub mod identities;
pub mod password;
pub mod sign_in;
pub mod sign_up;

pub(in crate::issuer) mod address;
pub(in crate::issuer) mod caps;
pub(in crate::issuer) mod erase;
pub(in crate::issuer) mod grants;

pub(in crate::issuer) mod invitations;
pub(in crate::issuer) mod reach;
pub(in crate::issuer) mod shelf;
pub(in crate::issuer) mod trail;

pub(in crate::issuer) mod organizations;
pub(in crate::issuer) mod own_sessions;

use std::sync::Arc;

use axum::Router;
use axum::routing::delete;
use axum::routing::get;

use crate::issuer::IssuerState;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::model::issuance::Issuance;

/// What of people is open to everybody: nothing but the pages, which are elsewhere.
pub(in crate::issuer) fn router() -> Router<IssuerState> {
    Router::new()
}

/// `/v1/organizations`, `/v1/invitations`, `/v1/sessions`: every request carries its [`Actor`](crate::issuer::actor::Actor).
pub(in crate::issuer) fn resources() -> Router<IssuerState> {
    Router::new()
        .route("/v1/organizations", get(organizations::list))
        .route("/v1/organizations/{id}", get(organizations::show).patch(organizations::change))
        .route("/v1/invitations", get(invitations::list).post(invitations::create))
        .route("/v1/invitations/{id}", delete(invitations::revoke))
        .route("/v1/sessions", get(own_sessions::list).delete(own_sessions::end_all))
        .route("/v1/sessions/self", get(own_sessions::show_own))
        .route("/v1/sessions/{id}", delete(own_sessions::end_one))
}

/// What this deployment issues.
///
/// # Errors
/// 404 where it issues nothing.
pub(in crate::issuer) fn issuance(state: &IssuerState) -> Result<Arc<Issuance>, Problem> {
    let issuance = state.rules.load().issuance.clone();
    issuance.ok_or_else(|| Problem::new(Code::NotFound, "nothing is issued here: the config has no `issuer` section"))
}

#[cfg(test)]
pub(in crate::issuer) mod tests;
