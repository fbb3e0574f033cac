//! The two engines behind one face: what the corridor, the resource API, the operator's pages and the background tasks ask of them.

use std::sync::Arc;

use tokio::sync::watch;

use crate::app::counts::CountsOf;
use crate::app::shared::Shared;
use crate::store::Facts;
use crate::store::LastKnown;
use crate::store::Limits;
use crate::store::Records;
use crate::store::embedded::Embedded;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::MetricsError;
use crate::usage::LocalBuckets;
use crate::usage::Usage;

/// Where users, keys, limits and everybody's counts lie.
#[derive(Clone, Debug)]
pub(super) enum Engine {
    /// On this machine, for this process alone.
    Embedded(Arc<Embedded>),
    /// In Redis, for every sidecar that names it.
    Shared(Arc<Shared>),
}

impl Engine {
    pub(super) fn metrics(&self) -> Result<Metrics, MetricsError> {
        match self {
            Self::Embedded(_) => Metrics::new(),
            Self::Shared(_) => Metrics::with_shared_store(),
        }
    }

    pub(super) fn records(&self) -> Arc<dyn Records> {
        match self {
            Self::Embedded(store) => Arc::clone(store) as _,
            Self::Shared(shared) => Arc::clone(shared.records()) as _,
        }
    }

    pub(super) fn facts(&self) -> Arc<dyn Facts> {
        match self {
            Self::Embedded(store) => Arc::clone(store) as _,
            Self::Shared(shared) => Arc::clone(shared.records()) as _,
        }
    }

    pub(super) fn last_known(&self) -> Option<Arc<dyn LastKnown>> {
        match self {
            Self::Embedded(_) => None,
            Self::Shared(shared) => Some(Arc::clone(shared.records()) as _),
        }
    }

    pub(super) fn limits(&self, usage: &Usage) -> Arc<dyn Limits> {
        match self {
            Self::Embedded(_) => Arc::new(LocalBuckets::new(Arc::clone(usage.ledger()))),
            Self::Shared(shared) => Arc::clone(shared.buckets()) as _,
        }
    }

    pub(super) fn local_share(&self) -> Option<Arc<dyn Limits>> {
        match self {
            Self::Embedded(_) => None,
            Self::Shared(shared) => Some(Arc::clone(shared.share()) as _),
        }
    }

    /// Rises whenever another process may have turned a ring; none: there is no other process.
    pub(super) fn ring_changes(&self) -> Option<watch::Receiver<u64>> {
        match self {
            Self::Embedded(_) => None,
            Self::Shared(shared) => Some(shared.records().follower().rings()),
        }
    }

    pub(super) fn counts(&self, usage: &Arc<Usage>) -> CountsOf {
        match self {
            Self::Embedded(_) => CountsOf::ThisProcess(Arc::clone(usage)),
            Self::Shared(shared) => CountsOf::AllSidecars { counts: Arc::clone(shared.counts()) as _, own: Arc::clone(usage) },
        }
    }

    /// What readiness says of corrupt records: how many, and where the first of them lie.
    pub(super) fn corrupt(&self, most: usize) -> (usize, Vec<String>) {
        match self {
            Self::Embedded(store) => (store.counts().corrupt, store.corrupt_places(most)),
            Self::Shared(shared) => (shared.records().counts().corrupt, shared.records().corrupt_places(most)),
        }
    }

    /// Why nothing that is not known already can be confirmed right now.
    pub(super) fn trouble(&self) -> Option<String> {
        match self {
            Self::Embedded(_) => None,
            Self::Shared(shared) => shared.trouble(),
        }
    }
}
