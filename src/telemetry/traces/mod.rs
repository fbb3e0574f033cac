//! Traces: of a sampled check, one span for the whole and one for each leg of its way, over OTLP to a collector.
//!
//! A check pays for this only where it is sampled, and then with the time of each leg and one place in a bounded queue: spans are made
//! and sent by a thread of their own, and a collector that is slow or away costs traces, which are counted, and never a check.
//!
//! Who may have a check traced: whoever asked, by the sampled flag of its `traceparent`, where the config follows it. Envoy hands on
//! what clients send, so a client may ask too, and gets no more than the bound in a second.

mod exporter;
mod parent;
mod spans;
mod trail;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use prometheus::IntCounter;
use prometheus::IntCounterVec;
use tokio::sync::mpsc;

pub use crate::telemetry::traces::exporter::Collector;
pub use crate::telemetry::traces::exporter::Sender;
pub use crate::telemetry::traces::exporter::TracesError;
pub use crate::telemetry::traces::parent::Parent;
pub use crate::telemetry::traces::trail::Traced;
pub use crate::telemetry::traces::trail::Trail;

use crate::clock::Clock;
use crate::model::time::Timestamp;
use crate::telemetry::Metrics;
use crate::telemetry::share::Due;

/// Checks that wait to be sent at the most.
const QUEUE_LENGTH: usize = 2048;

/// What became of the trace of a check, as the metric calls it.
pub(in crate::telemetry) const RESULTS: [&str; 4] = ["sent", "capped", "dropped", "failed"];

/// Which checks are traced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Of the checks whose parent does not decide, 0.0 to 1.0.
    pub share: f64,
    /// A parent's sampled flag decides for its checks.
    pub follows_parents: bool,
    /// Whoever asks for them: no more begin in a second.
    pub per_second_max: u32,
}

/// Where traces begin and end. Dropping it lets the sender send what waits and end.
#[derive(Debug)]
pub struct Traces {
    sampling: Sampling,
    due: Due,
    /// The second in the upper half, and how many began in it in the lower.
    begun: AtomicU64,
    queue: mpsc::Sender<Traced>,
    capped: IntCounter,
    dropped: IntCounter,
}

impl Traces {
    /// Starts the thread that sends.
    ///
    /// # Errors
    /// [`TracesError`]; a collector that does not answer is none.
    pub fn start(sampling: Sampling, collector: &Collector, metrics: &Metrics) -> Result<(Arc<Self>, Sender), TracesError> {
        let (queue, waiting) = mpsc::channel(QUEUE_LENGTH);
        let sender = exporter::start(collector, waiting, &metrics.traces)?;
        Ok((Arc::new(Self::new(sampling, queue, &metrics.traces)), sender))
    }

    pub(crate) fn new(sampling: Sampling, queue: mpsc::Sender<Traced>, results: &IntCounterVec) -> Self {
        let [_, capped, dropped, _] = RESULTS.map(|result| results.with_label_values(&[result]));
        Self { sampling, due: Due::default(), begun: AtomicU64::new(0), queue, capped, dropped }
    }

    /// The trail of a check that is to be traced; none for all others.
    pub fn begin(&self, parent: Option<Parent>, clock: &Arc<dyn Clock>, began: Timestamp) -> Option<Arc<Trail>> {
        let sampled = match parent.filter(|_| self.sampling.follows_parents) {
            Some(parent) => parent.sampled,
            None => self.due.is_next(self.sampling.share),
        };
        if !sampled {
            return None;
        }
        if !self.is_within_bound(began) {
            self.capped.inc();
            return None;
        }
        Some(Arc::new(Trail::new(parent, clock, began)))
    }

    /// The check is over. Never waits.
    pub fn offer(&self, traced: Traced) {
        if self.queue.try_send(traced).is_err() {
            self.dropped.inc();
        }
    }

    fn is_within_bound(&self, now: Timestamp) -> bool {
        let second = (now.as_nanos() / 1_000_000_000) << 32;
        let most = u64::from(self.sampling.per_second_max);
        let next = |begun: u64| match begun & !u64::from(u32::MAX) == second {
            true => (begun - second < most).then_some(begun + 1),
            false => (most > 0).then_some(second + 1),
        };
        self.begun.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use opentelemetry::trace::SpanId;
    use opentelemetry::trace::TraceId;

    use super::*;
    use crate::check::Witness as _;
    use crate::check::reasons::Reason;
    use crate::clock::ManualClock;

    const ALL: Sampling = Sampling { share: 1.0, follows_parents: true, per_second_max: 1_000_000 };

    struct Bench {
        traces: Traces,
        waiting: mpsc::Receiver<Traced>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    }

    fn bench(sampling: Sampling, queue: usize) -> Bench {
        let metrics = Metrics::new().unwrap();
        let (queue, waiting) = mpsc::channel(queue);
        let clock = Arc::new(ManualClock::starting_at(Timestamp::from_unix_seconds(1_800_000_000)));
        Bench { traces: Traces::new(sampling, queue, &metrics.traces), waiting, clock, metrics }
    }

    impl Bench {
        fn begun(&self, parent: Option<bool>, checks: usize) -> usize {
            let (trace, span) = (TraceId::from(7_u128), SpanId::from(9_u64));
            let parent = parent.map(|sampled| Parent { trace, span, sampled });
            (0..checks).filter(|_| self.traces.begin(parent, &self.clock, self.clock.now()).is_some()).count()
        }

        fn became(&self, result: &str) -> u64 {
            self.metrics.traces.with_label_values(&[result]).get()
        }
    }

    #[test]
    fn a_parent_decides_where_it_is_followed_and_the_share_elsewhere() {
        // Share, followed, the parent's flag; of a thousand.
        let table = [
            (0.0, true, Some(true), 1000),
            (1.0, true, Some(false), 0),
            (0.0, true, None, 0),
            (0.25, true, None, 250),
            (1.0, true, None, 1000),
            (0.25, false, Some(true), 250),
            (0.25, false, Some(false), 250),
            (0.0, false, Some(true), 0),
        ];
        for (share, follows_parents, parent, expected) in table {
            let bench = bench(Sampling { share, follows_parents, ..ALL }, 1);
            assert_eq!(bench.begun(parent, 1000), expected, "{share} {follows_parents} {parent:?}");
            assert_eq!(bench.became("capped"), 0);
        }
    }

    #[test]
    fn nobody_has_more_traced_in_a_second_than_the_bound() {
        for (share, parent) in [(0.0, Some(true)), (1.0, None)] {
            let metrics = bench(Sampling { share, per_second_max: 50, ..ALL }, 1);
            let Bench { traces, metrics, .. } = metrics;
            let clock = Arc::new(ManualClock::starting_at(Timestamp::from_unix_seconds(1_800_000_000)));
            let parent = parent.map(|sampled| Parent { trace: TraceId::from(7_u128), span: SpanId::from(9_u64), sampled });
            let asked: Arc<dyn Clock> = clock.clone();
            let begun = |checks: usize| (0..checks).filter(|_| traces.begin(parent, &asked, asked.now()).is_some()).count();
            assert_eq!(begun(1000), 50);
            clock.advance(Duration::from_millis(999));
            assert_eq!(begun(1000), 0, "the second is not over");
            clock.advance(Duration::from_millis(1));
            assert_eq!((begun(30), begun(30)), (30, 20), "the next second");
            // A clock that is set back opens another second, and no more.
            clock.set(Timestamp::from_unix_seconds(1_700_000_000));
            assert_eq!(begun(1000), 50);
            assert_eq!(metrics.traces.with_label_values(&["capped"]).get(), 950 + 1000 + 10 + 950);
        }
    }

    #[test]
    fn the_check_goes_on_in_its_parents_trace_or_begins_one() {
        let bench = bench(ALL, 1);
        let parent = Parent { trace: TraceId::from(7_u128), span: SpanId::from(9_u64), sampled: true };
        let begin = |parent| bench.traces.begin(parent, &bench.clock, bench.clock.now()).unwrap();
        let (one, other) = (begin(Some(parent)), begin(Some(parent)));
        assert_eq!(one.trace_id(), format!("{:032x}", 7));
        assert_eq!((one.trace, other.trace), (parent.trace, parent.trace));
        assert!(one.span != other.span && one.span != parent.span);
        let (one, other) = (begin(None), begin(None));
        assert!(one.trace != other.trace && one.trace != TraceId::INVALID && one.parent.is_none());
    }

    #[test]
    fn a_full_queue_costs_traces_and_they_are_counted() {
        let mut bench = bench(ALL, 3);
        for _ in 0..10 {
            let trail = bench.traces.begin(None, &bench.clock, bench.clock.now()).unwrap();
            trail.passed(crate::check::Leg::Decode);
            bench.traces.offer(traced(trail));
        }
        assert_eq!(bench.became("dropped"), 7);
        drop(bench.traces);
        let sent = std::iter::from_fn(|| bench.waiting.blocking_recv()).count();
        assert_eq!(sent, 3);
    }

    fn traced(trail: Arc<Trail>) -> Traced {
        let (ended, revision) = (trail.began, "r".into());
        Traced { trail, ended, reason: Reason::Ok, status: 200, route: None, request_id: None, revision, dry_run: false }
    }
}
