//! The OAuth 2.0 authorization server: RFC 6749 and 9700, with PKCE always.

pub mod answer;
pub mod asked;
pub mod checks;
pub mod client_auth;
pub mod clients;
pub mod families;
pub mod form;
pub mod inspect;
pub mod introspect;
pub mod revoke;
pub mod token;

use axum::Router;

use crate::issuer::IssuerState;

/// `/oauth/…` and the well-known documents.
pub(in crate::issuer) fn router() -> Router<IssuerState> {
    Router::new().merge(token::router()).merge(clients::router())
}
