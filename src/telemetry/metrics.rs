//! Every metric. Handles of what a check touches are resolved beforehand, so counting one is an atomic add; all other series are
//! registered at zero as soon as their labels are known, so that a rate can be taken from the first event on.
//!
//! What its owner counts anyway (the caches, the ledger, the flushing, the reloads) is copied here when somebody scrapes; see `app`.
//! Labels are closed lists, names of the config, or the revision: nothing that a client sends.
//!
//! There is no revision and no timestamp of a snapshot of the keys: the embedded engine shows a commit in memory before it is
//! acknowledged, so what checks see is never older than what was stored.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus::Gauge;
use prometheus::GaugeVec;
use prometheus::Histogram;
use prometheus::HistogramVec;
use prometheus::IntCounter;
use prometheus::IntCounterVec;
use prometheus::IntGauge;
use prometheus::IntGaugeVec;
use prometheus::Registry;

use crate::check::reasons::Kind;
use crate::check::reasons::Reason;
use crate::model::key::KEY_STATES;
use crate::model::usage::Outcome;
use crate::telemetry::families::Family;
use crate::telemetry::families::Label;
use crate::telemetry::families::Maker;
use crate::telemetry::families::one_of;
use crate::telemetry::families::some;
use crate::telemetry::shared_metrics::SharedMetrics;
use crate::telemetry::traces::RESULTS;

/// From 10 µs to 500 ms: the floor is a cached check, the ceiling is above every sensible ext_authz timeout.
const CHECK_BUCKETS: [f64; 15] =
    [0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5];
/// Store operations reach to the disk or the network.
const STORE_BUCKETS: [f64; 10] = [0.000_01, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0];

/// How a fetch of a key set can end, as the metric calls it.
const FETCH_OUTCOMES: [&str; 3] = ["changed", "unchanged", "failed"];
pub(super) const DECISION: Label = one_of("decision", &["allow", "deny", "fault"]);
/// What either went well or did not.
pub(super) const RESULT: Label = one_of("result", &["success", "failure"]);
const LISTENER: Label = one_of("listener", &["check", "issuer", "ops"]);
const OPERATION: Label = one_of("operation", &["get", "range", "commit"]);
const ISSUER: Label = some("issuer", "names of `issuers` in the config");

/// A metric could not be made; only a mistake in this file can cause it.
#[derive(Debug, thiserror::Error)]
#[error("a metric cannot be registered: {0}")]
pub struct MetricsError(#[from] prometheus::Error);

/// Counters by names of the config, found before there is a check.
#[derive(Debug, Default)]
struct Named {
    routes: HashMap<Arc<str>, ByKind<IntCounter>>,
    /// In the order of [`Outcome::DECIDED`].
    tiers: HashMap<Arc<str>, [IntCounter; 3]>,
}

/// What there is of each kind of verdict, found before there is a check.
#[derive(Debug)]
pub struct ByKind<T>([T; 3]);

impl<T> ByKind<T> {
    /// `find` is told what the kind is called in labels.
    fn found(find: impl FnMut(&'static str) -> T) -> Self {
        Self([Kind::Allow, Kind::Denial, Kind::Fault].map(decision_label).map(find))
    }

    pub fn of(&self, kind: Kind) -> &T {
        let Self([allow, denial, fault]) = self;
        match kind {
            Kind::Allow => allow,
            Kind::Denial => denial,
            Kind::Fault => fault,
        }
    }
}

impl ByKind<IntCounter> {
    /// Counters whose only label is the decision.
    pub(super) fn counted(counters: &IntCounterVec) -> Self {
        Self::found(|decision| counters.with_label_values(&[decision]))
    }
}

/// Whose metrics there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engine {
    Embedded,
    Shared,
}

/// Every metric of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    families: Vec<Family>,
    checks: Vec<IntCounter>,
    durations: ByKind<Histogram>,
    pub checks_in_flight: IntGauge,
    route_checks: IntCounterVec,
    tier_checks: IntCounterVec,
    named: ArcSwap<Named>,
    /// Panics that became denials.
    pub panics: IntCounter,
    pub log_events_dropped: IntCounterVec,
    pub traces: IntCounterVec,
    pub connections: IntGaugeVec,
    pub connections_total: IntCounterVec,
    pub connections_refused: IntCounterVec,
    pub accept_errors: IntCounterVec,
    pub config_reloads: IntCounterVec,
    pub config_last_reload_successful: IntGauge,
    pub config_last_reload_success_timestamp: Gauge,
    pub config_restart_needed: IntGauge,
    /// 1: nobody is refused.
    pub dry_run: IntGauge,
    pub dry_run_checks: ByKind<IntCounter>,
    config_info: IntGaugeVec,
    pub tls_reloads: IntCounterVec,
    pub tls_certificate_expiry_timestamp: GaugeVec,
    /// None: the store is embedded, and what it has no notion of is not shown.
    pub shared: Option<SharedMetrics>,
    pub cache_requests: IntCounterVec,
    pub store_operations: IntCounterVec,
    pub store_operation_duration: HistogramVec,
    pub store_records: IntGaugeVec,
    pub keys: IntGaugeVec,
    pub key_events: IntCounterVec,
    pub audit_entries: IntCounterVec,
    key_set_fetches: IntCounterVec,
    key_set_last_success_timestamp: GaugeVec,
    /// The issuers that have a timestamp.
    key_set_issuers: Mutex<BTreeSet<Arc<str>>>,
    pub signing_key_rotations: IntCounterVec,
    pub usage_flushes: IntCounterVec,
    pub usage_unflushed_seconds: Gauge,
    pub ledger_slots: IntGauge,
    pub ledger_slots_used: IntGauge,
    pub ledger_lines: IntGauge,
    pub ledger_buckets: IntGauge,
    pub ledger_quarantined: IntGauge,
    pub ledger_growth_failures: IntCounter,
    pub ledger_overflowed: IntCounter,
    pub ledger_saturated: IntCounter,
    pub ledger_buckets_evicted: IntCounter,
    pub ledger_clock_leaps: IntCounter,
    pub ledger_raised: IntCounter,
    pub usage_series: IntGauge,
    pub usage_series_limit: IntGauge,
    pub usage_overflow_users: IntGauge,
}

impl Metrics {
    /// All metrics of a process with an embedded store, at zero.
    ///
    /// # Errors
    /// [`MetricsError`] when two metrics share a name: a mistake in this file.
    pub fn new() -> Result<Self, MetricsError> {
        Self::of(Engine::Embedded)
    }

    /// All metrics of a sidecar of a shared store, at zero.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_shared_store() -> Result<Self, MetricsError> {
        Self::of(Engine::Shared)
    }

    fn of(engine: Engine) -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let maker = Maker::new(&registry);

        let checks = maker.counters(
            "checks_total",
            "Checks by decision and reason.",
            [DECISION, some("reason", "those of [reasons.md](reasons.md)")],
        )?;
        let checks = Reason::ALL
            .iter()
            .map(|reason| checks.get_metric_with_label_values(&[decision_label(reason.row().kind), reason.row().label]))
            .collect::<Result<Vec<_>, _>>()?;
        let durations = maker.histograms("check_duration_seconds", "Time from the message to the answer.", [DECISION], &CHECK_BUCKETS)?;
        let durations = ByKind::found(|decision| durations.with_label_values(&[decision]));
        let build_info = maker.gauges(
            "build_info",
            "The program's version, and the revision of its sources.",
            [some("version", "such as `1.2.3`"), some("revision", "of the sources, or `unknown`")],
        )?;
        let revision = option_env!("TOLLGATE_REVISION").unwrap_or("unknown");
        build_info.get_metric_with_label_values(&[env!("CARGO_PKG_VERSION"), revision])?.set(1);
        #[cfg(target_os = "linux")]
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;

        let mut metrics = Self {
            checks,
            durations,
            checks_in_flight: maker.gauge("checks_in_flight", "Checks being judged now.")?,
            route_checks: maker.counters(
                "route_checks_total",
                "Checks by configured route and decision.",
                [some("route", "names of `routes` in the config"), DECISION],
            )?,
            tier_checks: maker.counters(
                "tier_checks_total",
                "Checks of callers with a tier: allowed, limited (a rate limit was used up) or refused (any other 4xx); a 503 is none of these.",
                [some("tier", "names of `tiers` in the config"), one_of("outcome", &["allowed", "limited", "refused"])],
            )?,
            named: ArcSwap::default(),
            panics: maker.counter("panics_total", "Panics in a handler; each became a denial.")?,
            log_events_dropped: maker.counters_at_zero(
                "log_events_dropped_total",
                "Log lines lost: the reader of the log was slow, or the line could not be written.",
                [one_of("stream", &["decisions", "records"])],
            )?,
            traces: maker.counters_at_zero(
                "traces_total",
                "Checks that were to be traced: sent, over the bound in a second, without a place in the queue, refused by the collector.",
                [one_of("result", &RESULTS)],
            )?,
            connections: maker.gauges("connections", "Open connections.", [LISTENER])?,
            connections_total: maker.counters("connections_total", "Connections accepted.", [LISTENER])?,
            connections_refused: maker.counters(
                "connections_refused_total",
                "Connections closed at once: the cap was reached.",
                [LISTENER],
            )?,
            accept_errors: maker.counters("accept_errors_total", "Failures to accept a connection.", [LISTENER])?,
            config_reloads: maker.counters_at_zero("config_reloads_total", "Attempts to read the config again.", [RESULT])?,
            config_last_reload_successful: maker
                .gauge("config_last_reload_successful", "1 when the newest config file is the one in force.")?,
            config_last_reload_success_timestamp: maker
                .seconds("config_last_reload_success_timestamp_seconds", "When a config was last accepted.")?,
            config_restart_needed: maker
                .gauge("config_restart_needed", "1 when the config in force has settings that only a restart takes up.")?,
            dry_run: maker.gauge("dry_run", "1 when the config is a trial's: verdicts are logged and counted, and nobody is refused.")?,
            dry_run_checks: ByKind::counted(&maker.counters_at_zero(
                "dry_run_checks_total",
                "Checks of a trial by what the verdict would have been; the reasons stand in checks_total.",
                [one_of("would", &["allow", "deny", "fault"])],
            )?),
            config_info: maker.gauges(
                "config_info",
                "The revision of the config in force.",
                [some("revision", "12 hexadecimal digits")],
            )?,
            tls_reloads: maker.counters_at_zero("tls_reloads_total", "Changed certificate files that were read again.", [RESULT])?,
            tls_certificate_expiry_timestamp: maker.timestamps(
                "tls_certificate_expiry_timestamp_seconds",
                "When the certificate in force ends.",
                [LISTENER],
            )?,
            shared: match engine {
                Engine::Embedded => None,
                Engine::Shared => Some(SharedMetrics::new(&maker)?),
            },
            cache_requests: maker.counters(
                "cache_requests_total",
                "Cache look-ups. What is refused is remembered nowhere, so there is no negative hit.",
                [one_of("cache", &["tokens", "assertions"]), one_of("result", &["hit", "miss"])],
            )?,
            store_operations: maker.counters(
                "store_operations_total",
                "Store operations. Checks read memory and are none.",
                [OPERATION, one_of("result", &["success", "refused", "unconfirmed", "failure"])],
            )?,
            store_operation_duration: maker.histograms(
                "store_operation_duration_seconds",
                "Time of store operations, waiting included.",
                [OPERATION],
                &STORE_BUCKETS,
            )?,
            store_records: maker.gauges(
                "store_records",
                "Records on the shelf; corrupt ones cannot be read.",
                [one_of("kind", &["key", "user", "corrupt"])],
            )?,
            keys: maker.gauges("keys", "API keys of the store and of the keys file.", [one_of("state", &KEY_STATES)])?,
            key_events: maker.counters(
                "key_events_total",
                "Requests to change API keys. That keys expire by themselves is none: see tollgate_keys.",
                [
                    one_of("event", &["created", "imported", "changed", "enabled", "disabled", "rotated", "revoked"]),
                    one_of("result", &["success", "refused", "failure"]),
                ],
            )?,
            audit_entries: maker.counters_at_zero("audit_entries_total", "Entries of the audit log: written, or lost.", [RESULT])?,
            key_set_fetches: maker.counters(
                "key_set_fetches_total",
                "Fetches of issuers' key sets.",
                [ISSUER, one_of("outcome", &FETCH_OUTCOMES)],
            )?,
            key_set_last_success_timestamp: maker.timestamps(
                "key_set_last_success_timestamp_seconds",
                "When an issuer's key set was last fetched; 0 before the first time.",
                [ISSUER],
            )?,
            key_set_issuers: Mutex::default(),
            signing_key_rotations: maker.counters_at_zero(
                "signing_key_rotations_total",
                "Looks at our signing keys that changed them or failed.",
                [one_of("ring", &["assertion", "issuer"]), one_of("outcome", &["rotated", "adopted", "failed"])],
            )?,
            usage_flushes: maker.counters_at_zero("usage_flushes_total", "Flushes of the ledger into the history.", [RESULT])?,
            usage_unflushed_seconds: maker.seconds("usage_unflushed_seconds", "Age of the oldest count that the history may lack.")?,
            ledger_slots: maker.gauge("ledger_slots", "Slots of the ledger's file.")?,
            ledger_slots_used: maker.gauge("ledger_slots_used", "Slots of the ledger's file that are in use.")?,
            ledger_lines: maker.gauge("ledger_lines", "Lines being counted now.")?,
            ledger_buckets: maker.gauge("ledger_buckets", "Token buckets being kept.")?,
            ledger_quarantined: maker.gauge("ledger_quarantined", "Slots set aside as damaged.")?,
            ledger_growth_failures: maker.counter("ledger_growth_failures_total", "Attempts to make room that failed.")?,
            ledger_overflowed: maker
                .counter("ledger_overflowed_total", "Counts that went to `other`: too many texts of one user in an hour.")?,
            ledger_saturated: maker.counter("ledger_saturated_total", "Counts that met the greatest exact number.")?,
            ledger_buckets_evicted: maker.counter("ledger_buckets_evicted_total", "Idle token buckets whose place was given to others.")?,
            ledger_clock_leaps: maker.counter("ledger_clock_leaps_total", "Leaps of the clock that were not followed at once.")?,
            ledger_raised: maker.counter("ledger_raised_total", "Counts that the ledger had lost and the history gave back.")?,
            usage_series: maker.gauge("usage_series", "Users that /metrics lists by name.")?,
            usage_series_limit: maker.gauge("usage_series_limit", "How many users /metrics lists by name at the most.")?,
            usage_overflow_users: maker.gauge("usage_overflow_users", "Users that /metrics counts together as __other__.")?,
            families: Vec::new(),
            registry: registry.clone(),
        };
        metrics.families = maker.finish();
        Ok(metrics)
    }

    /// All metrics of our own that the registry renders, whether they have a series yet or not.
    pub fn families(&self) -> &[Family] {
        &self.families
    }

    /// One judged check.
    pub fn check(&self, reason: Reason, route: Option<&str>, tier: Option<&str>, duration: Duration) {
        if let Some(counter) = self.checks.get(reason as usize) {
            counter.inc();
        }
        let kind = reason.row().kind;
        self.durations.of(kind).observe(duration.as_secs_f64());
        let named = self.named.load();
        if let Some(counters) = route.and_then(|route| named.routes.get(route)) {
            counters.of(kind).inc();
        }
        if let Some(counters) = tier.and_then(|tier| named.tiers.get(tier))
            && let Some((_, counter)) = Outcome::DECIDED.iter().zip(counters).find(|(outcome, _)| reason.outcome() == Some(**outcome))
        {
            counter.inc();
        }
    }

    /// How often this reason was given.
    pub fn checks_of(&self, reason: Reason) -> u64 {
        self.checks.get(reason as usize).map_or(0, IntCounter::get)
    }

    /// The rules in force: their revision, and the only names that may become a `route` or `tier` label. Counts of names that stay are
    /// kept, and so are those of names that went: a counter never shrinks.
    pub fn rules_changed<'a>(
        &self,
        revision: &str,
        routes: impl Iterator<Item = &'a Arc<str>>,
        tiers: impl Iterator<Item = &'a Arc<str>>,
        usage_series_limit: usize,
    ) {
        self.usage_series_limit.set(i64::try_from(usage_series_limit).unwrap_or(i64::MAX));
        let of_route = |name: &Arc<str>| ByKind::found(|decision| self.route_checks.with_label_values(&[name, decision]));
        let of_tier = |name: &Arc<str>| Outcome::DECIDED.map(|outcome| self.tier_checks.with_label_values(&[name, outcome.as_str()]));
        self.named.store(Arc::new(Named {
            routes: routes.map(|name| (Arc::clone(name), of_route(name))).collect(),
            tiers: tiers.map(|name| (Arc::clone(name), of_tier(name))).collect(),
        }));
        self.config_info.reset();
        if let Ok(info) = self.config_info.get_metric_with_label_values(&[revision]) {
            info.set(1);
        }
    }

    /// The issuers of the rules whose keys come from a URL. Who went keeps its counts and loses its timestamp, or that would look
    /// older and older.
    pub fn issuers_changed<'a>(&self, names: impl Iterator<Item = &'a Arc<str>>) {
        let names: BTreeSet<Arc<str>> = names.cloned().collect();
        let mut known = self.key_set_issuers.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in known.difference(&names) {
            let _ = self.key_set_last_success_timestamp.remove_label_values(&[gone]);
        }
        for name in &names {
            for outcome in FETCH_OUTCOMES {
                self.key_set_fetches.with_label_values(&[&**name, outcome]);
            }
            self.key_set_last_success_timestamp.with_label_values(&[&**name]);
        }
        *known = names;
    }

    /// One fetch of an issuer's key set; `at` when it succeeded.
    pub fn key_set_fetched(&self, issuer: &str, outcome: &str, at: Option<f64>) {
        self.key_set_fetches.with_label_values(&[issuer, outcome]).inc();
        // Under the lock: an issuer that went meanwhile must not come back.
        let known = self.key_set_issuers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = at.filter(|_| known.contains(issuer)) {
            self.key_set_last_success_timestamp.with_label_values(&[issuer]).set(at);
        }
    }

    /// Prometheus' text format.
    pub fn render(&self) -> String {
        prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }

    /// For metrics that are not always there; they are none of [`Self::families`].
    pub(super) fn maker(&self) -> Maker<'_> {
        Maker::new(&self.registry)
    }
}

/// How a kind is called in labels, in the log and in dynamic metadata.
pub const fn decision_label(kind: Kind) -> &'static str {
    match kind {
        Kind::Allow => "allow",
        Kind::Denial => "deny",
        Kind::Fault => "fault",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_series_from_the_start() {
        let metrics = Metrics::new().unwrap();
        let text = metrics.render();
        for reason in Reason::ALL {
            let row = reason.row();
            let line = format!("tollgate_checks_total{{decision=\"{}\",reason=\"{}\"}} 0", decision_label(row.kind), row.label);
            assert!(text.contains(&line), "{line}");
        }
        assert!(text.contains("process_resident_memory_bytes"), "the standard process metrics are missing");
    }

    #[test]
    fn a_check_is_counted_under_its_own_reason_only() {
        let metrics = Metrics::new().unwrap();
        for (position, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, position);
            metrics.check(*reason, None, None, Duration::from_micros(20));
        }
        assert!(Reason::ALL.iter().all(|reason| metrics.checks_of(*reason) == 1));
    }

    #[test]
    fn reloading_keeps_the_counts_of_routes_and_tiers() {
        let metrics = Metrics::new().unwrap();
        let (kept, gone): (Arc<str>, Arc<str>) = ("kept".into(), "gone".into());
        metrics.rules_changed("one", [&kept, &gone].into_iter(), [&kept, &gone].into_iter(), 10);
        metrics.check(Reason::Ok, Some("kept"), Some("kept"), Duration::ZERO);
        metrics.check(Reason::RateLimited, Some("gone"), Some("gone"), Duration::ZERO);
        metrics.rules_changed("two", [&kept].into_iter(), [&kept].into_iter(), 10);
        metrics.check(Reason::Ok, Some("kept"), Some("kept"), Duration::ZERO);
        metrics.check(Reason::Ok, Some("gone"), Some("gone"), Duration::ZERO);
        metrics.check(Reason::Ok, Some("/never/configured"), Some("/never/configured"), Duration::ZERO);
        let text = metrics.render();
        assert!(text.contains("tollgate_route_checks_total{decision=\"allow\",route=\"kept\"} 2"));
        assert!(text.contains("tollgate_route_checks_total{decision=\"deny\",route=\"gone\"} 1"));
        assert!(text.contains("tollgate_route_checks_total{decision=\"allow\",route=\"gone\"} 0"));
        assert!(text.contains("tollgate_tier_checks_total{outcome=\"allowed\",tier=\"kept\"} 2"));
        assert!(text.contains("tollgate_tier_checks_total{outcome=\"limited\",tier=\"gone\"} 1"));
        assert!(text.contains("tollgate_tier_checks_total{outcome=\"allowed\",tier=\"gone\"} 0"));
        assert!(!text.contains("never"));
        assert!(text.contains("tollgate_config_info{revision=\"two\"} 1") && !text.contains("revision=\"one\""));
    }
}
