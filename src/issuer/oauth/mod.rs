//! The OAuth 2.0 authorization server: RFC 6749 and 9700, with PKCE always.

use axum::Router;

use crate::issuer::IssuerState;

/// `/oauth/…` and the well-known documents.
pub(in crate::issuer) fn router() -> Router<IssuerState> {
    Router::new()
}
