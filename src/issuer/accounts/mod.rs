//! People: signing up, signing in and out, organisations, invitations, sessions as a resource, being erased.

use axum::Router;

use crate::issuer::IssuerState;

/// `/v1/organizations`, `/v1/invitations`, `/v1/sessions`, `/v1/accounts/…`.
pub(in crate::issuer) fn router() -> Router<IssuerState> {
    Router::new()
}
