//! Which legs of a check are told, whatever becomes of it, and that nothing is told of the others.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use opentelemetry::trace::SpanId;
use opentelemetry::trace::TraceId;
use prost::Message;
use tokio::sync::mpsc;
use tokio::sync::mpsc::Receiver;

use crate::check::Leg;
use crate::check::reasons::Reason;
use crate::grpc::Door;
use crate::grpc::testing::SHORT;
use crate::grpc::testing::door;
use crate::grpc::testing::message;
use crate::model::rules::FaultAnswer;
use crate::telemetry::traces::Parent;
use crate::telemetry::traces::Sampling;
use crate::telemetry::traces::Traced;
use crate::telemetry::traces::Traces;

const SAMPLED: Parent = Parent { trace: TraceId::from_bytes([1; 16]), span: SpanId::from_bytes([2; 8]), sampled: true };

/// A door that traces what its callers ask to be traced.
fn traced_door() -> (Door, Receiver<Traced>) {
    let door = Arc::into_inner(door(FaultAnswer::RpcError, 10)).unwrap();
    let (queue, traced) = mpsc::channel(16);
    let sampling = Sampling { share: 0.0, follows_parents: true, per_second_max: 1000 };
    let traces = Some(Arc::new(Traces::new(sampling, queue, &door.metrics.traces)));
    (Door { traces, ..door }, traced)
}

fn closed(key: &str) -> Bytes {
    message("/closed", &[("x-api-key", key)]).encode_to_vec().into()
}

#[tokio::test]
async fn every_end_of_a_check_is_told_with_the_legs_before_it() {
    let (door, mut traced) = traced_door();
    let table: [(Bytes, Reason, &[&str]); 7] = [
        (closed("good"), Reason::Ok, &["meter", "encode"]),
        (closed("unknown"), Reason::UnknownKey, &["find_facts", "resolve", "encode"]),
        (closed("down"), Reason::StoreUnavailable, &["find_facts", "resolve", "encode"]),
        (closed("hang"), Reason::Deadline, &["prove", "cut_off", "encode"]),
        (closed("panic"), Reason::Internal, &["prove", "cut_off", "encode"]),
        (message("/a%00b", &[]).encode_to_vec().into(), Reason::BadPath, &["decode", "encode"]),
        (Bytes::from_static(b"\xff\xff\xff"), Reason::MalformedMessage, &["decode", "encode"]),
    ];
    for (message, reason, ended_by) in table {
        let time_left = if reason == Reason::Deadline { SHORT } else { Duration::from_secs(5) };
        let _ = door.check(message, Some(time_left), Some(SAMPLED)).await;
        let told = traced.recv().await.unwrap();
        let legs: Vec<&str> = told.trail.legs().iter().map(|(leg, _)| leg.as_str()).collect();
        assert_eq!((told.reason, told.trail.trace_id()), (reason, SAMPLED.trace.to_string()));
        assert!(legs.starts_with(&["decode"]) && legs.ends_with(ended_by), "{reason:?}: {legs:?}");
        assert_eq!(legs.iter().filter(|leg| **leg == "encode").count(), 1, "{reason:?}: {legs:?}");
    }
    assert!(traced.try_recv().is_err(), "something was told twice");
}

#[tokio::test]
async fn the_rpcs_parent_goes_before_the_clients_and_what_is_unsampled_is_not_told() {
    let (door, mut traced) = traced_door();
    let (own, other) = (format!("00-{}-{}-01", "3".repeat(32), "4".repeat(16)), format!("00-{}-{}-00", "3".repeat(32), "4".repeat(16)));
    let asked = |parent: &str| Bytes::from(message("/open", &[("traceparent", parent)]).encode_to_vec());
    let unsampled = Parent { sampled: false, ..SAMPLED };
    let table = [
        (Some(SAMPLED), own.as_str(), Some(SAMPLED.trace.to_string())),
        (Some(unsampled), &own, None),
        (None, &own, Some("3".repeat(32))),
        (None, &other, None),
        (None, "nonsense", None),
    ];
    for (rpc, header, expected) in table {
        door.check(asked(header), None, rpc).await.unwrap();
        let told = traced.try_recv().ok().map(|told| told.trail.trace_id());
        assert_eq!(told, expected, "{rpc:?} {header}");
    }
    door.check(closed("good"), None, Some(SAMPLED)).await.unwrap();
    let cached = traced.recv().await.unwrap().trail.legs().into_iter().find_map(|(leg, _)| match leg {
        Leg::FindFacts(cached) => Some(cached),
        Leg::Decode | Leg::Room(_) | Leg::TakeLimits | Leg::Encode | Leg::CutOff => None,
    });
    assert_eq!(cached, Some(Some(crate::check::Cached::Hit)));
}
