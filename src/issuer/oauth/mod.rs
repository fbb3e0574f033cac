//! The OAuth 2.0 authorization server: RFC 6749 and 9700, with PKCE always.

pub mod answer;
pub mod asked;
pub mod authorize;
pub mod checks;
pub mod client_auth;
pub mod clients;
pub mod families;
pub mod form;
pub mod inspect;
pub mod introspect;
pub mod revoke;
pub mod token;

pub(in crate::issuer) mod grants;

mod consent;
pub(in crate::issuer) mod metadata;

use axum::Router;
use axum::routing::get;
use axum::routing::post;

use crate::issuer::IssuerState;

/// `/oauth/…` and the well-known documents.
pub(in crate::issuer) fn router() -> Router<IssuerState> {
    Router::new()
        .route("/oauth/authorize", get(authorize::serve).post(authorize::serve))
        .route("/oauth/consent", post(consent::answer))
        .route("/oauth/jwks", get(metadata::jwks))
        .route("/.well-known/oauth-authorization-server", get(metadata::document))
        .route("/.well-known/oauth-authorization-server/{*path}", get(metadata::document_of_path))
        .merge(token::router())
        .merge(clients::router())
}
