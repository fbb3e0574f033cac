//! `GET /stats`: everything that was ever counted of whoever lies within the caller's reach, by user, route and outcome.

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;

use crate::issuer::IssuerState;
use crate::issuer::actor::USAGE;
use crate::issuer::callers::Asker;
use crate::issuer::openapi::answers::Judged;
use crate::issuer::openapi::schemas::Stats;
use crate::issuer::problem::Problem;
use crate::issuer::usage::sum_up;
use crate::issuer::usage::within;
use crate::stats::write_stats;

/// Everything that was ever counted, by user, route and outcome.
#[utoipa::path(get, path = "/stats", operation_id = "stats", tag = "usage",
    responses((status = 200, description = "The sums.", body = Stats), Judged))]
pub(in crate::issuer) async fn stats(State(state): State<IssuerState>, asker: Asker) -> Result<Response, Problem> {
    let reach = asker.actor.reach(USAGE)?;
    let users = within(&state, &asker, &reach, None, None).await?;
    let body = write_stats(sum_up(&*state.usage, users, state.clock.now()).await?);
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}
