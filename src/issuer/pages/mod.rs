//! The issuer's own pages: plain HTML, no script, nothing from elsewhere.

use axum::Router;

use crate::issuer::IssuerState;

/// `/sign-in`, `/sign-up`, `/sign-out`, `/account`.
pub(in crate::issuer) fn router() -> Router<IssuerState> {
    Router::new()
}
