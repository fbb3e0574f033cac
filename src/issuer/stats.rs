//! `GET /stats`: everything that was ever counted of whoever lies within the caller's reach, by user, route and outcome.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

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
use crate::issuer::usage::within;
use crate::model::time::Timestamp;
use crate::model::usage::Outcome;
use crate::model::usage::Span;
use crate::model::usage::UsageQuery;
use crate::stats::StatRow;
use crate::stats::write_stats;

/// Everything that was ever counted, by user, route and outcome.
#[utoipa::path(get, path = "/stats", operation_id = "stats", tag = "usage",
    responses((status = 200, description = "The sums.", body = Stats), Judged))]
pub(in crate::issuer) async fn stats(State(state): State<IssuerState>, asker: Asker) -> Result<Response, Problem> {
    let reach = asker.actor.reach(USAGE)?;
    // Months are kept always.
    let end = state.clock.now().plus(Duration::from_secs(1));
    let mut query = UsageQuery::between(Span::Month, Timestamp::default(), end);
    query.outcomes = &Outcome::DECIDED;
    query.users = within(&state, &asker, &reach, None, None).await?;
    let mut sums: BTreeMap<(Arc<str>, Arc<str>, Outcome), u64> = BTreeMap::new();
    loop {
        let page = state.usage.read(&query).await?;
        for row in page.rows {
            let sum = sums.entry((row.user, row.route, row.outcome)).or_default();
            *sum = sum.saturating_add(row.count);
        }
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    let row = |((user, route, outcome), count): ((Arc<str>, Arc<str>, Outcome), u64)| StatRow {
        user: user.to_string(),
        route: route.to_string(),
        outcome: outcome.as_str(),
        count,
    };
    let body = write_stats(sums.into_iter().map(row).collect());
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}
