//! What the parts tell the operator: readiness, metrics, the published keys.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::jose::Assertions;
use crate::model::rules::Rules;
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

/// How often the slow metrics are brought up to date.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The parts behind `/readyz`.
#[derive(Debug)]
pub(super) struct PartsOf {
    rules: Arc<ArcSwap<Rules>>,
    reload: Arc<ReloadStatus>,
    store: Arc<Embedded>,
    flush: Arc<FlushStatus>,
}

impl PartsOf {
    pub(super) fn new(rules: Arc<ArcSwap<Rules>>, reload: Arc<ReloadStatus>, store: Arc<Embedded>, flush: Arc<FlushStatus>) -> Self {
        Self { rules, reload, store, flush }
    }
}

impl Parts for PartsOf {
    fn report(&self) -> PartsReport {
        let corrupt = self.store.counts().corrupt;
        PartsReport {
            config_revision: self.rules.load().revision.to_string(),
            last_reload_error: self.reload.last_error(),
            store_error: (corrupt > 0).then(|| format!("{corrupt} records cannot be read")),
            ledger_error: None,
        }
    }
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
            #[expect(clippy::cast_precision_loss, reason = "Prometheus counts seconds in floating point")]
            metrics.key_set_last_success_timestamp.with_label_values(&[url]).set(clock.now().unix_seconds() as f64);
        }
    }
}
