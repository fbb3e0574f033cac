//! The operator's listener: health for everybody, metrics and counts for this machine or for who holds the token.

pub mod readiness;
pub mod user_series;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use axum::Extension;
use axum::Json;
use axum::Router;
use axum::extract::Query;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;
use serde::Serialize;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::listen::http::Peer;
use crate::ops::readiness::Readiness;
use crate::ops::user_series::Shard;
use crate::ops::user_series::UserSeries;
use crate::ops::user_series::write_all_users;
use crate::stats::StatsSource;
use crate::stats::Viewer;
use crate::stats::write_stats;
use crate::telemetry::Metrics;

/// Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The published half of the key ring, as a JWK set.
pub trait PublishedKeys: Send + Sync + fmt::Debug + 'static {
    /// None: they are not known yet.
    fn jwks_json(&self) -> Option<String>;
}

/// Who may read more than health.
#[derive(Debug)]
pub struct Access {
    /// A bearer token that opens everything from anywhere.
    pub token: Option<Zeroizing<Vec<u8>>>,
    /// Whether the listener lets in nobody without a client certificate.
    pub mutual_tls: bool,
}

/// What the operator's listener reads.
#[derive(Debug)]
pub struct Ops {
    pub access: Access,
    pub readiness: Arc<Readiness>,
    pub metrics: Arc<Metrics>,
    pub stats: Arc<dyn StatsSource>,
    pub keys: Arc<dyn PublishedKeys>,
    pub series: UserSeries,
}

/// The operator's pages.
pub fn router(ops: Arc<Ops>) -> Router {
    let open = Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz));
    let guarded = Router::new()
        .route("/metrics", get(metrics))
        .route("/metrics/usage", get(usage_metrics))
        .route("/stats", get(stats))
        .route("/jwks", get(jwks));
    open.merge(guarded).with_state(ops)
}

/// The process runs; whether it may be asked is [`readyz`]'s business.
async fn healthz() -> &'static str {
    "ok\n"
}

#[derive(Serialize)]
struct Unready {
    status: &'static str,
}

async fn readyz(State(ops): State<Arc<Ops>>, Extension(peer): Extension<Peer>, headers: HeaderMap) -> Response {
    let detail = ops.readiness.detail();
    let code = if detail.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    // A reload's error tells names of files, which are nobody's business outside.
    if ops.access.admits(peer, &headers) {
        (code, Json(detail)).into_response()
    } else {
        (code, Json(Unready { status: detail.status })).into_response()
    }
}

async fn metrics(State(ops): State<Arc<Ops>>, Extension(peer): Extension<Peer>, headers: HeaderMap) -> Response {
    if !ops.access.admits(peer, &headers) {
        return refused();
    }
    // It looks at every key, and checks share these threads.
    let (readiness, metrics) = (Arc::clone(&ops.readiness), Arc::clone(&ops.metrics));
    if let Err(error) = tokio::task::spawn_blocking(move || readiness.measure(&metrics)).await {
        tracing::error!(%error, "metrics that are read from their owners were not brought up to date");
    }
    match ops.stats.user_totals().await {
        Ok(totals) => {
            let users = ops.series.write(&totals, &ops.metrics);
            let text = ops.metrics.render() + &users;
            ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response()
        }
        Err(error) => {
            // The operational metrics matter most just then.
            tracing::warn!(%error, "metrics without the users' counts");
            ([(header::CONTENT_TYPE, METRICS_TYPE)], ops.metrics.render()).into_response()
        }
    }
}

/// `?shard=i&shards=n`: the users whose hash falls into part i of n.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShardQuery {
    shard: Option<u32>,
    shards: Option<u32>,
}

async fn usage_metrics(
    State(ops): State<Arc<Ops>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Query(query): Query<ShardQuery>,
) -> Response {
    if !ops.access.admits(peer, &headers) {
        return refused();
    }
    let Some(shard) = Shard::new(query.shard, query.shards) else {
        return (StatusCode::BAD_REQUEST, "write ?shard=i&shards=n with i from 0 to n-1\n").into_response();
    };
    match ops.stats.user_totals().await {
        Ok(totals) => ([(header::CONTENT_TYPE, METRICS_TYPE)], write_all_users(&totals, shard)).into_response(),
        Err(error) => unavailable(&error),
    }
}

async fn stats(State(ops): State<Arc<Ops>>, Extension(peer): Extension<Peer>, headers: HeaderMap) -> Response {
    if !ops.access.admits(peer, &headers) {
        return refused();
    }
    match ops.stats.rows(Viewer::Everyone).await {
        Ok(rows) => ([(header::CONTENT_TYPE, "application/json")], write_stats(rows)).into_response(),
        Err(error) => unavailable(&error),
    }
}

async fn jwks(State(ops): State<Arc<Ops>>, Extension(peer): Extension<Peer>, headers: HeaderMap) -> Response {
    if !ops.access.admits(peer, &headers) {
        return refused();
    }
    match ops.keys.jwks_json() {
        Some(keys) => ([(header::CONTENT_TYPE, "application/jwk-set+json")], keys).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "the signing keys are not known yet\n").into_response(),
    }
}

impl Access {
    /// This machine itself, a proven certificate, or the token. A request that a proxy passed on does not come from this machine,
    /// whatever address the proxy has.
    fn admits(&self, peer: Peer, headers: &HeaderMap) -> bool {
        let is_passed_on = headers.contains_key("x-forwarded-for") || headers.contains_key("forwarded");
        let is_local = peer.0.is_none_or(|address| address.ip().to_canonical().is_loopback());
        (is_local && !is_passed_on) || self.mutual_tls || self.has_token(headers)
    }

    fn has_token(&self, headers: &HeaderMap) -> bool {
        let (Some(token), Some(shown)) = (&self.token, headers.get(header::AUTHORIZATION)) else {
            return false;
        };
        let Some((scheme, shown)) = shown.as_bytes().split_at_checked("Bearer ".len()) else {
            return false;
        };
        scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(token.as_slice().ct_eq(shown))
    }
}

fn refused() -> Response {
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer realm=\"tollgate\"")];
    (StatusCode::UNAUTHORIZED, challenge, "ask from this machine, or send the operator's token\n").into_response()
}

fn unavailable(error: &impl fmt::Display) -> Response {
    tracing::warn!(%error, "the counts cannot be shown");
    (StatusCode::SERVICE_UNAVAILABLE, "the counts cannot be read now\n").into_response()
}
