//! The shelf with a stopwatch: every operation is counted and timed, whichever engine does it.

use std::future::Future;
use std::sync::Arc;

use crate::clock::Clock;
use crate::model::time::Timestamp;
use crate::store::Answer;
use crate::store::Committed;
use crate::store::Family;
use crate::store::Page;
use crate::store::Precondition;
use crate::store::RecordKey;
use crate::store::Records;
use crate::store::StoreError;
use crate::store::Stored;
use crate::store::Write;
use crate::telemetry::Metrics;

/// What checks ask is not among it: that is answered from memory, sooner than a clock is read.
#[derive(Debug)]
pub(super) struct Measured {
    inner: Arc<dyn Records>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
}

impl Measured {
    pub(super) fn new(inner: Arc<dyn Records>, metrics: Arc<Metrics>, clock: Arc<dyn Clock>) -> Self {
        for operation in ["get", "range", "commit"] {
            metrics.store_operation_duration.with_label_values(&[operation]);
            for result in ["success", "failure"] {
                metrics.store_operations.with_label_values(&[operation, result]);
            }
        }
        for result in ["refused", "unconfirmed"] {
            metrics.store_operations.with_label_values(&["commit", result]);
        }
        Self { inner, metrics, clock }
    }

    fn measure<'a, T>(
        &'a self,
        operation: &'static str,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'a,
        succeeded: impl Fn(&T) -> &'static str + Send + 'a,
    ) -> Answer<'a, Result<T, StoreError>> {
        Answer::Pending(Box::pin(async move {
            let began = self.clock.now();
            let done = work.await;
            let result = done.as_ref().map_or("failure", succeeded);
            self.metrics.store_operations.with_label_values(&[operation, result]).inc();
            let took = self.clock.now().since(began);
            self.metrics.store_operation_duration.with_label_values(&[operation]).observe(took.as_secs_f64());
            done
        }))
    }
}

impl Records for Measured {
    fn get(&self, key: &RecordKey) -> Answer<'_, Result<Option<Stored>, StoreError>> {
        self.measure("get", self.inner.get(key), |_| "success")
    }

    fn range(&self, family: Family, after: Option<&str>, limit: usize) -> Answer<'_, Result<Page, StoreError>> {
        self.measure("range", self.inner.range(family, after, limit), |_| "success")
    }

    fn commit(&self, preconditions: Vec<Precondition>, writes: Vec<Write>, now: Timestamp) -> Answer<'_, Result<Committed, StoreError>> {
        self.measure("commit", self.inner.commit(preconditions, writes, now), |committed| match committed {
            Committed::Done => "success",
            Committed::Unconfirmed => "unconfirmed",
            Committed::Refused(_) => "refused",
        })
    }
}
