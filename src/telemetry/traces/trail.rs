//! What is written down of a sampled check while it goes its way: when each leg of it was over.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use opentelemetry::trace::SpanId;
use opentelemetry::trace::TraceId;
use opentelemetry_sdk::trace::IdGenerator as _;
use opentelemetry_sdk::trace::RandomIdGenerator;

use crate::check::Leg;
use crate::check::Witness;
use crate::check::reasons::Reason;
use crate::clock::Clock;
use crate::model::time::Timestamp;
use crate::telemetry::traces::parent::Parent;

/// As many legs as the longest usual way has.
const LEGS: usize = 16;

/// One sampled check. Each leg begins where the one before was over.
#[derive(Debug)]
pub struct Trail {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
    pub(super) parent: Option<Parent>,
    pub(super) began: Timestamp,
    clock: Arc<dyn Clock>,
    /// One check's alone, so nobody ever waits for it.
    legs: Mutex<Vec<(Leg, Timestamp)>>,
}

/// A sampled check that is over.
#[derive(Debug)]
pub struct Traced {
    pub trail: Arc<Trail>,
    pub ended: Timestamp,
    pub reason: Reason,
    /// What the client sees.
    pub status: u16,
    pub route: Option<Arc<str>>,
    pub request_id: Option<String>,
    pub revision: Arc<str>,
    /// The verdict was for the log alone.
    pub dry_run: bool,
}

impl Trail {
    pub(super) fn new(parent: Option<Parent>, clock: &Arc<dyn Clock>, began: Timestamp) -> Self {
        let ids = RandomIdGenerator::default();
        Self {
            trace: parent.map_or_else(|| ids.new_trace_id(), |parent| parent.trace),
            span: ids.new_span_id(),
            parent,
            began,
            clock: Arc::clone(clock),
            legs: Mutex::new(Vec::with_capacity(LEGS)),
        }
    }

    /// As logs name the trace.
    pub fn trace_id(&self) -> String {
        self.trace.to_string()
    }

    /// What is over of it, in order, and when.
    pub fn legs(&self) -> Vec<(Leg, Timestamp)> {
        self.legs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Witness for Trail {
    fn passed(&self, leg: Leg) {
        let now = self.clock.now();
        self.legs.lock().unwrap_or_else(PoisonError::into_inner).push((leg, now));
    }
}
