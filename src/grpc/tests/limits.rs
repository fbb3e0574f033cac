//! Limits that do not answer: how long a check waits, what it ends in, and what the decision log says of it.

use std::io::Write;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use envoy_types::pb::envoy::service::auth::v3::CheckResponse;
use prost::Message as _;

use crate::check::Gate;
use crate::check::reasons::Reason;
use crate::clock::monotonic;
use crate::grpc::Door;
use crate::grpc::testing::door;
use crate::grpc::testing::gate;
use crate::grpc::testing::message;
use crate::grpc::testing::rules;
use crate::model::quota;
use crate::model::quota::Limit;
use crate::model::quota::Per;
use crate::model::quota::Policy;
use crate::model::route::Route;
use crate::model::route::RouteIndex;
use crate::model::rules::FaultAnswer;
use crate::model::rules::LimitsFailure;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;
use crate::store::Answer;
use crate::store::Limits;
use crate::store::StoreError;
use crate::store::Take;
use crate::store::Taken;
use crate::telemetry::decisions::DecisionLog;
use crate::telemetry::metrics::Metrics;

const PATIENCE: Duration = Duration::from_millis(50);

/// Never says anything.
#[derive(Debug)]
struct Silent;

impl Limits for Silent {
    fn take<'a>(&'a self, _takes: &'a [Take<'a>], _now: Timestamp) -> Answer<'a, Result<Taken, StoreError>> {
        Answer::Pending(Box::pin(std::future::pending()))
    }

    fn patience(&self) -> Option<Duration> {
        Some(PATIENCE)
    }
}

/// Says the same of everything.
#[derive(Debug)]
struct Says(bool);

impl Limits for Says {
    fn take<'a>(&'a self, takes: &'a [Take<'a>], now: Timestamp) -> Answer<'a, Result<Taken, StoreError>> {
        let levels = takes.iter().map(|take| quota::level(0, take.policy.limit, now)).collect();
        Answer::ready(Ok(Taken { admitted: self.0, levels, retry_after: (!self.0).then_some(Duration::from_secs(1)) }))
    }
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A public route with a bucket of its own and one for each user: two questions.
fn limited(limits_failure: LimitsFailure) -> Rules {
    let mut rules = rules(FaultAnswer::RpcError);
    let policy = |name: &str, per| Policy { name: name.into(), per, limit: Limit { per_minute: 60, depth: 10 } };
    let limits = vec![policy("route", Per::Route), policy("user", Per::User)];
    rules.routes[0] = Arc::new(Route { limits, ..(*rules.routes[0]).clone() });
    rules.route_index = RouteIndex::build(&rules.routes).unwrap();
    rules.limits_failure = limits_failure;
    rules.log_allows = 1.0;
    rules
}

// battery: R3
#[tokio::test(start_paused = true)]
async fn a_check_waits_for_its_limits_once_and_tells_what_stood_in_for_them() {
    type Case = (LimitsFailure, Option<bool>, Reason, &'static str);
    let table: [Case; 6] = [
        (LimitsFailure::Deny, Some(true), Reason::LimitsUnavailable, "did not answer in time"),
        (LimitsFailure::LocalShare, None, Reason::LimitsUnavailable, "did not answer in time"),
        (LimitsFailure::LocalShare, Some(true), Reason::Public, "judged by this sidecar's share"),
        (LimitsFailure::LocalShare, Some(false), Reason::RateLimited, "judged by this sidecar's share"),
        (LimitsFailure::Pass, None, Reason::Public, "passed without them"),
        (LimitsFailure::Pass, Some(false), Reason::Public, "passed without them"),
    ];
    for (failure, share, reason, told) in table {
        let (metrics, sink) = (Arc::new(Metrics::new().unwrap()), Sink::default());
        let (decisions, writer) = DecisionLog::start(sink.clone(), 16, &metrics).unwrap();
        let local_share = share.map(|admits| Arc::new(Says(admits)) as Arc<dyn Limits>);
        let door = Door {
            gate: Arc::new(Gate { limits: Arc::new(Silent), local_share, ..gate() }),
            rules: Arc::new(ArcSwap::from_pointee(limited(failure))),
            metrics,
            decisions,
            ..Arc::into_inner(door(FaultAnswer::RpcError, 10)).unwrap()
        };
        let began = monotonic();
        let answer = door.check(Bytes::from(message("/open", &[]).encode_to_vec()), None, None).await.unwrap();
        assert_eq!(monotonic().duration_since(began), PATIENCE, "{failure:?} {share:?}: both questions together");
        let admitted = CheckResponse::decode(answer).unwrap().status.unwrap().code == 0;
        assert_eq!((admitted, door.metrics.checks_of(reason)), (reason == Reason::Public, 1), "{failure:?} {share:?}");
        drop(door);
        writer.finish();
        let line = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert!(line.contains(told), "{failure:?} {share:?}: {line}");
    }
}

#[tokio::test(start_paused = true)]
async fn limits_that_answer_leave_nothing_to_tell() {
    let (metrics, sink) = (Arc::new(Metrics::new().unwrap()), Sink::default());
    let (decisions, writer) = DecisionLog::start(sink.clone(), 16, &metrics).unwrap();
    let door = Door {
        gate: Arc::new(Gate { limits: Arc::new(Says(true)), local_share: Some(Arc::new(Silent)), ..gate() }),
        rules: Arc::new(ArcSwap::from_pointee(limited(LimitsFailure::LocalShare))),
        metrics,
        decisions,
        ..Arc::into_inner(door(FaultAnswer::RpcError, 10)).unwrap()
    };
    door.check(Bytes::from(message("/open", &[]).encode_to_vec()), None, None).await.unwrap();
    drop(door);
    writer.finish();
    let line = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    assert!(line.contains("\"allow\"") && !line.contains("detail"), "{line}");
}
