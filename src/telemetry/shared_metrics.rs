//! The metrics that only a sidecar of a shared store has. Their owners count; scrapes copy.

use prometheus::Gauge;
use prometheus::IntCounter;
use prometheus::IntCounterVec;
use prometheus::IntGauge;

use crate::telemetry::families::Maker;
use crate::telemetry::families::one_of;
use crate::telemetry::metrics::ByKind;
use crate::telemetry::metrics::DECISION;
use crate::telemetry::metrics::MetricsError;
use crate::telemetry::metrics::RESULT;

/// Who waits for a call: a check, the following of changes, or nobody in particular.
pub const LANES: [&str; 3] = ["checks", "changes", "bulk"];

/// How a call to Redis can end.
pub const CALL_RESULTS: [&str; 5] = ["success", "unreachable", "timed_out", "broken", "refused"];

/// The codes of refusals that have a series; whatever else a server says is `other`.
pub const ERROR_CODES: [&str; 19] = [
    "ASK",
    "BUSY",
    "CLUSTERDOWN",
    "CROSSSLOT",
    "ERR",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "MOVED",
    "NOAUTH",
    "NOPERM",
    "NOREPLICAS",
    "NOSCRIPT",
    "OOM",
    "READONLY",
    "TRYAGAIN",
    "WRONGPASS",
    "WRONGTYPE",
    "other",
];

/// Every metric of the shared store.
#[derive(Debug)]
pub struct SharedMetrics {
    pub redis_connected: IntGauge,
    pub redis_breaker_open: IntGauge,
    /// Servers that the start-up checks refuse, and what they warn of.
    pub redis_refused: IntGauge,
    pub redis_warnings: IntGauge,
    pub redis_calls: IntCounterVec,
    pub redis_errors: IntCounterVec,
    pub redis_reconnects: IntCounter,
    pub sidecars: IntGauge,
    /// 1: what checks are answered from memory is confirmed.
    pub changes_lease_held: IntGauge,
    pub changes_lease_age_seconds: Gauge,
    pub changes_polls: IntCounterVec,
    pub changes_lag: IntGauge,
    /// `cause`: loss (the server was emptied or restored), failover, gap (more changes were missed than the log holds).
    pub changes_cache_resets: IntCounterVec,
    pub changes_reapplied: IntCounter,
    /// Own changes that a rollback would still be healed from.
    pub outbox_entries: IntGauge,
    pub grace_decisions: ByKind<IntCounter>,
    pub limit_calls: IntCounterVec,
    pub limit_failures: IntCounter,
    /// Requests paid for in advance, and those of them that nobody made in time.
    pub limit_leased: IntCounter,
    pub limit_leased_unspent: IntCounter,
    pub limit_remembered_refusals: IntCounter,
    pub limit_local_share: IntCounterVec,
    pub usage_published_rows: IntCounter,
    /// Rounds that did not come through.
    pub usage_publish_failures: IntCounter,
    /// Times that everything was told again, because the server had lost something.
    pub usage_restatements: IntCounter,
    pub usage_unpublished_seconds: Gauge,
    pub usage_unpublished_rows: IntGauge,
    pub usage_writer_conflicts: IntCounter,
    pub usage_saturated: IntCounter,
    pub usage_quarantined: IntGauge,
}

impl SharedMetrics {
    pub(super) fn new(maker: &Maker<'_>) -> Result<Self, MetricsError> {
        Ok(Self {
            redis_connected: maker.gauge("redis_connected", "1 while every primary of Redis can be asked.")?,
            redis_breaker_open: maker.gauge("redis_breaker_open", "1 while checks do not even ask Redis, because it kept failing.")?,
            redis_refused: maker.gauge("redis_refused", "1 while the server is not used, because its settings would break a promise.")?,
            redis_warnings: maker.gauge("redis_warnings", "Settings of the server that weaken a promise.")?,
            redis_calls: maker.counters_at_zero("redis_calls_total", "Calls to Redis by who waits for them and how they ended.", [one_of("lane", &LANES), one_of("result", &CALL_RESULTS)])?,
            redis_errors: maker.counters_at_zero("redis_errors_total", "Refusals of Redis by their code.", [one_of("code", &ERROR_CODES)])?,
            redis_reconnects: maker.counter("redis_reconnects_total", "Connections to Redis that were made in place of earlier ones.")?,
            sidecars: maker.gauge("sidecars", "Sidecars that share the store now.")?,
            changes_lease_held: maker.gauge("changes_lease_held", "1 while what is known of keys and users is confirmed.")?,
            changes_lease_age_seconds: maker
                .seconds("changes_lease_age_seconds", "Time since what is known of keys and users was last confirmed.")?,
            changes_polls: maker.counters_at_zero("changes_polls_total", "Questions for changes.", [RESULT])?,
            changes_lag: maker.gauge("changes_lag", "Changes that are known to be there and not taken over yet.")?,
            changes_cache_resets: maker.counters_at_zero(
                "changes_cache_resets_total",
                "Times that all that was known was dropped: Redis was emptied or restored (loss), it failed over, or more changes were missed than \
                 its log holds (gap).",
                [one_of("cause", &["loss", "failover", "gap"])],
            )?,
            changes_reapplied: maker
                .counter("changes_reapplied_total", "Own changes that the server had lost and that were made again.")?,
            outbox_entries: maker.gauge("outbox_entries", "Own changes that are kept to be made again if the server loses them.")?,
            grace_decisions: ByKind::counted(&maker.counters_at_zero(
                "grace_decisions_total",
                "Checks judged by what was known before the shared store fell silent.",
                [DECISION],
            )?),
            limit_calls: maker.counters_at_zero(
                "limit_calls_total",
                "Calls to the shared limiter: for one request, or for some in advance.",
                [one_of("kind", &["exact", "lease"])],
            )?,
            limit_failures: maker.counter("limit_failures_total", "Questions that the shared limiter did not answer.")?,
            limit_leased: maker.counter("limit_leased_total", "Requests that were paid for in advance.")?,
            limit_leased_unspent: maker.counter(
                "limit_leased_unspent_total",
                "Requests that were paid for and not made in time: the limit was kept too strictly.",
            )?,
            limit_remembered_refusals: maker
                .counter("limit_remembered_refusals_total", "Refusals from memory, because the retry time had not come.")?,
            limit_local_share: maker.counters_at_zero(
                "limit_local_share_total",
                "Questions answered by this sidecar's share of the limit, because the shared limiter was silent.",
                [one_of("result", &["admitted", "refused", "failure"])],
            )?,
            usage_published_rows: maker.counter("usage_published_rows_total", "Totals that were told to Redis.")?,
            usage_publish_failures: maker.counter("usage_publish_failures_total", "Rounds of telling totals that did not come through.")?,
            usage_restatements: maker
                .counter("usage_restatements_total", "Times that all totals were told again, because Redis had lost some.")?,
            usage_unpublished_seconds: maker
                .seconds("usage_unpublished_seconds", "Age of the oldest count that the other sidecars may lack.")?,
            usage_unpublished_rows: maker.gauge("usage_unpublished_rows", "Totals that wait to be told.")?,
            usage_writer_conflicts: maker
                .counter("usage_writer_conflicts_total", "Times that somebody else was found to count under our name: a copied ledger.")?,
            usage_saturated: maker.counter("usage_saturated_total", "Sums in Redis that met the greatest exact number.")?,
            usage_quarantined: maker.gauge("usage_quarantined", "Users whose counts Redis refuses to take; they stay here.")?,
        })
    }
}

/// The label under which a server's error code is counted.
pub fn code_label(code: &str) -> &'static str {
    ERROR_CODES.into_iter().find(|known| *known == code).unwrap_or("other")
}
