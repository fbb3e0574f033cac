//! What the parts tell the operator: readiness, metrics, the published keys.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use arc_swap::ArcSwap;
use prometheus::IntCounter;
use serde::Deserialize;
use serde::Serialize;

use crate::app::engine::Engine;
use crate::clock::Clock;
use crate::issuer::events::KeyEvent;
use crate::issuer::events::KeyEventResult;
use crate::issuer::events::KeyObserver;
use crate::jose::Assertions;
use crate::jose::Tokens;
use crate::jose::ring::RingError;
use crate::jose::ring::Rotation;
use crate::jose::signer::Signer;
use crate::listen::address::SocketFile;
use crate::listen::tls::Tls;
use crate::model::key::KEY_STATES;
use crate::model::rules::DryRun;
use crate::model::rules::IssuerKeys;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;
use crate::ops::PublishedKeys;
use crate::ops::readiness::Parts;
use crate::ops::readiness::PartsReport;
use crate::tasks::flush_usage::FlushStatus;
use crate::tasks::publish_usage::PublishStatus;
use crate::tasks::refresh_jwks::FetchObserver;
use crate::tasks::refresh_jwks::FetchOutcome;
use crate::tasks::reload::ReloadStatus;
use crate::tasks::rotate_keys::RotationObserver;
use crate::telemetry::Metrics;
use crate::usage::Usage;

/// Names of corrupt records that readiness detail shows; the metric has the number of them all.
const CORRUPT_SHOWN: usize = 20;

/// The parts behind `/readyz` and the metrics that are looked up when somebody asks.
#[derive(Debug)]
pub(super) struct PartsOf {
    pub(super) reload: Arc<ReloadStatus>,
    pub(super) rules: Arc<ArcSwap<Rules>>,
    pub(super) engine: Engine,
    pub(super) usage: Arc<Usage>,
    pub(super) flush: Arc<FlushStatus>,
    /// With a shared store only.
    pub(super) publish: Option<Arc<PublishStatus>>,
    pub(super) tokens: Arc<Tokens>,
    pub(super) assertions: Arc<Assertions>,
    pub(super) signer: Arc<Signer>,
    /// Of the listeners that have one.
    pub(super) tls: Vec<(&'static str, Arc<Tls>)>,
    /// Of the listeners that have one.
    pub(super) sockets: Vec<(&'static str, SocketFile)>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Parts for PartsOf {
    fn report(&self) -> PartsReport {
        let reload = self.reload.report();
        let (corrupt, corrupt_records) = self.engine.corrupt(CORRUPT_SHOWN);
        let ledger = self.usage.ledger().gauges();
        let rules = self.rules.load();
        let misplaced = self.sockets.iter().find(|(_, file)| !file.is_in_place());
        let missing = fetched_issuers(&rules).filter(|(_, url)| !self.tokens.has_keys(url));
        PartsReport {
            config_revision: reload.revision.to_string(),
            last_reload_error: reload.last_error.map(|error| error.to_string()),
            restart_needed: reload.restart_needed,
            store_error: match corrupt {
                0 => None,
                1 => Some(String::from("1 record cannot be read; what needs it is answered with 503")),
                many => Some(format!("{many} records cannot be read; what needs them is answered with 503")),
            },
            corrupt_records,
            shared_store_error: self.engine.trouble(),
            signing_keys_missing: rules.assertion.is_some() && !self.assertions.has_ring(),
            issuer_keys_missing: rules.issuance.is_some() && !self.signer.has_ring(),
            listener_error: misplaced.map(|(listener, file)| {
                format!("{} is gone or another's, and nobody comes to `listen.{listener}` any more; restart", file.path().display())
            }),
            ledger_error: (ledger.growth_failures > 0 && ledger.slots_used >= ledger.slots)
                .then(|| String::from("the ledger is full and cannot grow; make room on its disk")),
            dry_run: rules.dry_run == DryRun::On,
            key_sets_missing: missing.map(|(name, _)| name.to_string()).collect(),
        }
    }

    fn measure(&self, metrics: &Metrics) {
        self.measure_config(metrics);
        self.measure_keys(metrics);
        self.measure_usage(metrics);
        if let (Engine::Shared(shared), Some(metrics), Some(publish)) = (&self.engine, &metrics.shared, &self.publish) {
            shared.measure(metrics, publish, self.clock.now());
        }
        for (cache, lookups) in [("tokens", self.tokens.lookups()), ("assertions", self.assertions.lookups())] {
            catch_up(&metrics.cache_requests.with_label_values(&[cache, "hit"]), lookups.hits());
            catch_up(&metrics.cache_requests.with_label_values(&[cache, "miss"]), lookups.misses());
        }
    }
}

impl PartsOf {
    fn measure_config(&self, metrics: &Metrics) {
        let reload = self.reload.report();
        catch_up(&metrics.config_reloads.with_label_values(&["success"]), reload.successes);
        catch_up(&metrics.config_reloads.with_label_values(&["failure"]), reload.failures);
        metrics.config_last_reload_successful.set(i64::from(reload.last_error.is_none()));
        metrics.config_last_reload_success_timestamp.set(seconds(reload.last_ok));
        metrics.dry_run.set(i64::from(self.rules.load().dry_run == DryRun::On));
        metrics.config_restart_needed.set(i64::from(!reload.restart_needed.is_empty()));
        for (listener, expires) in self.tls.iter().filter_map(|(listener, tls)| Some((listener, tls.expires()?))) {
            metrics.tls_certificate_expiry_timestamp.with_label_values(&[listener]).set(seconds(expires));
        }
    }

    fn measure_keys(&self, metrics: &Metrics) {
        let now = self.clock.now();
        let (counts, mut states) = match &self.engine {
            Engine::Embedded(store) => {
                let counts = store.counts();
                (vec![("key", counts.keys), ("user", counts.users), ("corrupt", counts.corrupt)], store.key_states(now))
            }
            // What lies in Redis is nowhere counted, so its keys are not among the numbers.
            Engine::Shared(shared) => (vec![("corrupt", shared.records().counts().corrupt)], BTreeMap::new()),
        };
        for (kind, count) in counts {
            metrics.store_records.with_label_values(&[kind]).set(gauge(count as u64));
        }
        for key in self.rules.load().file_keys.values() {
            *states.entry(key.state_at(now)).or_default() += 1;
        }
        for state in KEY_STATES {
            metrics.keys.with_label_values(&[state]).set(gauge(states.get(state).copied().unwrap_or_default()));
        }
    }

    fn measure_usage(&self, metrics: &Metrics) {
        catch_up(&metrics.usage_flushes.with_label_values(&["success"]), self.flush.flushes());
        catch_up(&metrics.usage_flushes.with_label_values(&["failure"]), self.flush.failures());
        metrics.usage_unflushed_seconds.set(self.usage.oldest_unflushed_age(self.clock.now()).as_secs_f64());
        let ledger = self.usage.ledger().gauges();
        metrics.ledger_slots.set(gauge(ledger.slots));
        metrics.ledger_slots_used.set(gauge(ledger.slots_used));
        metrics.ledger_lines.set(gauge(ledger.counters));
        metrics.ledger_buckets.set(gauge(ledger.buckets));
        metrics.ledger_quarantined.set(gauge(ledger.quarantined));
        catch_up(&metrics.ledger_growth_failures, ledger.growth_failures);
        catch_up(&metrics.ledger_overflowed, ledger.overflowed);
        catch_up(&metrics.ledger_saturated, ledger.saturated);
        catch_up(&metrics.ledger_buckets_evicted, ledger.buckets_evicted);
        catch_up(&metrics.ledger_clock_leaps, ledger.clock_leaps);
        catch_up(&metrics.ledger_raised, ledger.raised);
    }
}

/// The issuers whose keys come from a URL: name and URL.
pub(super) fn fetched_issuers(rules: &Rules) -> impl Iterator<Item = (Arc<str>, &Arc<str>)> {
    rules.issuers.iter().filter_map(|issuer| match &issuer.keys {
        IssuerKeys::Fixed(_) | IssuerKeys::Own => None,
        IssuerKeys::Url { url, .. } => Some((Arc::from(issuer.source.name.as_str()), url)),
    })
}

/// Brings a counter to what its owner has counted. Scrapes take turns, or two at once would both add.
pub(super) fn catch_up(counter: &IntCounter, counted: u64) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    counter.inc_by(counted.saturating_sub(counter.get()));
}

pub(super) fn gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus counts seconds in floating point")]
fn seconds(instant: Timestamp) -> f64 {
    instant.unix_seconds() as f64
}

/// The rings' public halves.
#[derive(Debug)]
pub(super) struct KeyRings {
    pub(super) assertions: Arc<Assertions>,
    pub(super) signer: Arc<Signer>,
    pub(super) rules: Arc<ArcSwap<Rules>>,
}

#[derive(Serialize, Deserialize)]
struct PublishedSet {
    keys: Vec<serde_json::Value>,
}

impl PublishedKeys for KeyRings {
    /// None while one of them is missing: half a set would be remembered by whoever asked.
    fn jwks_json(&self) -> Option<String> {
        let assertions = self.assertions.jwks_json()?;
        if self.rules.load().issuance.is_none() {
            return Some(assertions.to_string());
        }
        let read = |text: &str| serde_json::from_str::<PublishedSet>(text).ok();
        let (mut published, issuers) = (read(&assertions)?, read(&self.signer.jwks()?)?);
        published.keys.extend(issuers.keys);
        serde_json::to_string(&published).ok()
    }
}

/// Counts what the background tasks and the resource API tell.
#[derive(Debug)]
pub(super) struct Counting {
    pub(super) metrics: Arc<Metrics>,
    pub(super) rules: Arc<ArcSwap<Rules>>,
    pub(super) clock: Arc<dyn Clock>,
}

impl FetchObserver for Counting {
    fn fetched(&self, url: &str, outcome: FetchOutcome) {
        let (outcome, succeeded) = match outcome {
            FetchOutcome::Changed => ("changed", true),
            FetchOutcome::Unchanged => ("unchanged", true),
            FetchOutcome::Failed => ("failed", false),
        };
        let at = succeeded.then(|| seconds(self.clock.now()));
        // By the names that the config gives: a URL may hold what no label should.
        for (name, _) in fetched_issuers(&self.rules.load()).filter(|(_, known)| ***known == *url) {
            self.metrics.key_set_fetched(&name, outcome, at);
        }
    }
}

impl RotationObserver for Counting {
    fn rotated(&self, ring: &'static str, outcome: &Result<Rotation, RingError>) {
        let outcome = match outcome {
            Ok(Rotation::NotDue) => return,
            Ok(Rotation::Rotated) => "rotated",
            Ok(Rotation::Adopted) => "adopted",
            Err(_) => "failed",
        };
        self.metrics.signing_key_rotations.with_label_values(&[ring, outcome]).inc();
    }
}

impl KeyObserver for Counting {
    fn happened(&self, event: KeyEvent, result: KeyEventResult) {
        self.metrics.key_events.with_label_values(&[event.as_str(), result.as_str()]).inc();
    }

    fn noted(&self, is_written: bool) {
        self.metrics.audit_entries.with_label_values(&[if is_written { "success" } else { "failure" }]).inc();
    }
}

impl Counting {
    /// With the series of key events at zero.
    pub(super) fn new(metrics: Arc<Metrics>, rules: Arc<ArcSwap<Rules>>, clock: Arc<dyn Clock>) -> Self {
        for event in KeyEvent::ALL {
            for result in KeyEventResult::ALL {
                metrics.key_events.with_label_values(&[event.as_str(), result.as_str()]);
            }
        }
        Self { metrics, rules, clock }
    }
}
