//! People: signing up, signing in and out, organisations, invitations, sessions as a resource, being erased.

pub mod identities;
pub mod sign_in;
pub mod sign_up;

pub(in crate::issuer) mod grants;

pub(in crate::issuer) mod invitations;
pub(in crate::issuer) mod shelf;
pub(in crate::issuer) mod trail;

use std::sync::Arc;

use axum::Router;

use crate::issuer::IssuerState;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::model::issuance::Issuance;

/// `/v1/organizations`, `/v1/invitations`, `/v1/sessions`, `/v1/accounts/…`.
pub(in crate::issuer) fn router() -> Router<IssuerState> {
    Router::new()
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
mod tests;
