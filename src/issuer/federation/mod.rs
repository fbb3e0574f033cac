//! Sign-in elsewhere: OpenID Connect, in which we are the client.

use axum::Router;

use crate::issuer::IssuerState;

/// `/sign-in/{provider}` and its callback.
pub(in crate::issuer) fn router() -> Router<IssuerState> {
    Router::new()
}
