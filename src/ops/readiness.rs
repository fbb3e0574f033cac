//! Whether this process should be sent checks, and what an operator wants to know when it should not.

use std::fmt;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;

use serde::Serialize;

use crate::telemetry::Metrics;

const STARTING: u8 = 0;
const READY: u8 = 1;
const DRAINING: u8 = 2;

/// What the parts say about themselves right now.
pub trait Parts: Send + Sync + fmt::Debug + 'static {
    fn report(&self) -> PartsReport;
    /// Brings up to date the metrics that nobody counts as they happen.
    fn measure(&self, metrics: &Metrics);
}

/// Each part in its own words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PartsReport {
    pub config_revision: String,
    /// Why the newest config file is not the one in force.
    pub last_reload_error: Option<String>,
    /// Settings that the newest config changes and only a restart takes into force.
    pub restart_needed: Vec<&'static str>,
    /// None: it answers.
    pub store_error: Option<String>,
    /// The first of the records that cannot be read, as `family/id`; credentials that need them get 503, all others are served.
    pub corrupt_records: Vec<String>,
    /// None: it is embedded, or it answers and what is known is confirmed. Keys that it would have to confirm get no verdict, so it
    /// decides about readiness.
    pub shared_store_error: Option<String>,
    /// The config wants callers asserted, and the keys that sign are still out of reach: whoever is to be asserted gets no verdict,
    /// so it decides about readiness.
    pub signing_keys_missing: bool,
    /// The config has an issuer, and its keys are still out of reach: nothing is issued, and our own tokens get no verdict, so it
    /// decides about readiness.
    pub issuer_keys_missing: bool,
    /// None: every Unix socket is where it was put. Envoy's connections live on without its file, and no new one is made, so it
    /// decides about readiness before they end.
    pub listener_error: Option<String>,
    /// None: it counts. Without it nothing is let through, so it decides about readiness.
    pub ledger_error: Option<String>,
    /// Verdicts are logged and counted, and nobody is refused.
    pub dry_run: bool,
    /// Issuers whose keys were never fetched; their tokens are answered with a fault until they are.
    pub key_sets_missing: Vec<String>,
}

/// The process's stage and its parts.
#[derive(Debug)]
pub struct Readiness {
    stage: AtomicU8,
    parts: Box<dyn Parts>,
}

/// What `/readyz` shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Detail {
    /// `starting`, `ready`, `draining` or `failing`.
    pub status: &'static str,
    #[serde(flatten)]
    pub parts: PartsReport,
}

impl Readiness {
    pub fn starting(parts: impl Parts) -> Self {
        Self { stage: AtomicU8::new(STARTING), parts: Box::new(parts) }
    }

    pub fn set_ready(&self) {
        self.stage.store(READY, Ordering::Release);
    }

    pub fn set_draining(&self) {
        self.stage.store(DRAINING, Ordering::Release);
    }

    pub fn measure(&self, metrics: &Metrics) {
        self.parts.measure(metrics);
    }

    pub fn detail(&self) -> Detail {
        let parts = self.parts.report();
        let errors = [&parts.listener_error, &parts.ledger_error, &parts.shared_store_error];
        let fails = errors.into_iter().any(Option::is_some) || parts.signing_keys_missing || parts.issuer_keys_missing;
        let status = match (self.stage.load(Ordering::Acquire), fails) {
            (STARTING, _) => "starting",
            (READY, false) => "ready",
            (READY, true) => "failing",
            (_, _) => "draining",
        };
        Detail { status, parts }
    }
}

impl Detail {
    pub fn is_ready(&self) -> bool {
        self.status == "ready"
    }
}
