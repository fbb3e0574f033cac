//! What the parts tell the operator: readiness, metrics, the published keys.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use prometheus::IntCounter;

use crate::clock::Clock;
use crate::jose::Assertions;
use crate::model::time::Timestamp;
use crate::ops::PublishedKeys;
use crate::ops::readiness::Parts;
use crate::ops::readiness::PartsReport;
use crate::store::embedded::Embedded;
use crate::tasks::flush_usage::FlushStatus;
use crate::tasks::refresh_jwks::FetchObserver;
use crate::tasks::refresh_jwks::FetchOutcome;
use crate::tasks::reload::ReloadStatus;
use crate::telemetry::Metrics;
use crate::usage::Usage;

/// The parts behind `/readyz` and the metrics that are looked up when somebody asks.
#[derive(Debug)]
pub(super) struct PartsOf {
    pub(super) reload: Arc<ReloadStatus>,
    pub(super) store: Arc<Embedded>,
    pub(super) usage: Arc<Usage>,
    pub(super) flush: Arc<FlushStatus>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Parts for PartsOf {
    fn report(&self) -> PartsReport {
        let reload = self.reload.report();
        let corrupt = self.store.counts().corrupt;
        let ledger = self.usage.ledger().gauges();
        PartsReport {
            config_revision: reload.revision.to_string(),
            last_reload_error: reload.last_error.map(|error| error.to_string()),
            restart_needed: reload.restart_needed,
            store_error: (corrupt > 0).then(|| format!("{corrupt} records cannot be read")),
            ledger_error: (ledger.growth_failures > 0 && ledger.slots_used >= ledger.slots)
                .then(|| String::from("the ledger is full and cannot grow; make room on its disk")),
        }
    }

    fn measure(&self, metrics: &Metrics) {
        let reload = self.reload.report();
        catch_up(&metrics.config_reloads.with_label_values(&["success"]), reload.successes);
        catch_up(&metrics.config_reloads.with_label_values(&["failure"]), reload.failures);
        metrics.config_last_reload_successful.set(i64::from(reload.last_error.is_none()));
        metrics.config_last_reload_success_timestamp.set(seconds(reload.last_ok));
        let store = self.store.counts();
        metrics.store_records.with_label_values(&["key"]).set(gauge(store.keys as u64));
        metrics.store_records.with_label_values(&["user"]).set(gauge(store.users as u64));
        metrics.store_records.with_label_values(&["corrupt"]).set(gauge(store.corrupt as u64));
        catch_up(&metrics.usage_flushes.with_label_values(&["success"]), self.flush.flushes());
        catch_up(&metrics.usage_flushes.with_label_values(&["failure"]), self.flush.failures());
        metrics.usage_unflushed_seconds.set(self.usage.oldest_unflushed_age(self.clock.now()).as_secs_f64());
        let ledger = self.usage.ledger().gauges();
        metrics.ledger_slots.set(gauge(ledger.slots));
        metrics.ledger_slots_used.set(gauge(ledger.slots_used));
        metrics.ledger_quarantined.set(gauge(ledger.quarantined));
        catch_up(&metrics.ledger_growth_failures, ledger.growth_failures);
        catch_up(&metrics.ledger_overflowed, ledger.overflowed);
    }
}

/// Brings a counter to what its owner has counted. Scrapes take turns, or two at once would both add.
fn catch_up(counter: &IntCounter, counted: u64) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    counter.inc_by(counted.saturating_sub(counter.get()));
}

fn gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus counts seconds in floating point")]
fn seconds(instant: Timestamp) -> f64 {
    instant.unix_seconds() as f64
}

/// The ring's public half.
#[derive(Debug)]
pub(super) struct KeyRing(pub(super) Arc<Assertions>);

impl PublishedKeys for KeyRing {
    fn jwks_json(&self) -> String {
        self.0.jwks_json().to_string()
    }
}

/// Counts the fetches of key sets.
#[derive(Debug)]
pub(super) struct KeySets(pub(super) Arc<Metrics>, pub(super) Arc<dyn Clock>);

impl FetchObserver for KeySets {
    fn fetched(&self, url: &str, outcome: FetchOutcome) {
        let Self(metrics, clock) = self;
        let result = match outcome {
            FetchOutcome::Changed | FetchOutcome::Unchanged => "success",
            FetchOutcome::Failed => "failure",
        };
        metrics.key_set_fetches.with_label_values(&[url, result]).inc();
        if outcome != FetchOutcome::Failed {
            metrics.key_set_last_success_timestamp.with_label_values(&[url]).set(seconds(clock.now()));
        }
    }
}
