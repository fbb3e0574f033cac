//! What a sampled check becomes: a span of kind server, and below it one for each leg, without a gap.

use std::borrow::Cow;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use opentelemetry::InstrumentationScope;
use opentelemetry::KeyValue;
use opentelemetry::trace::SpanContext;
use opentelemetry::trace::SpanId;
use opentelemetry::trace::SpanKind;
use opentelemetry::trace::Status;
use opentelemetry::trace::TraceFlags;
use opentelemetry::trace::TraceState;
use opentelemetry_sdk::trace::IdGenerator as _;
use opentelemetry_sdk::trace::RandomIdGenerator;
use opentelemetry_sdk::trace::SpanData;
use opentelemetry_sdk::trace::SpanEvents;
use opentelemetry_sdk::trace::SpanLinks;

use crate::check::Cached;
use crate::check::Leg;
use crate::check::reasons::Kind;
use crate::model::time::Timestamp;
use crate::telemetry::metrics::decision_label;
use crate::telemetry::traces::trail::Traced;

/// Writes the spans of a check behind those of others. They hold names of the config and of the registry of outcomes, and the ids that
/// the log shows too; nothing else that a client sent.
pub(super) fn write(traced: &Traced, spans: &mut Vec<SpanData>) {
    let trail = &traced.trail;
    let ids = RandomIdGenerator::default();
    let row = traced.reason.row();
    let legs = trail.legs();
    let looked_up = legs.iter().find_map(|(leg, _)| match leg {
        Leg::FindFacts(cached) => *cached,
        Leg::Decode | Leg::Room(_) | Leg::TakeLimits | Leg::Encode | Leg::CutOff => None,
    });
    let mut attributes = vec![
        KeyValue::new("rpc.system", "grpc"),
        KeyValue::new("rpc.service", "envoy.service.auth.v3.Authorization"),
        KeyValue::new("rpc.method", "Check"),
        KeyValue::new("tollgate.decision", decision_label(row.kind)),
        KeyValue::new("tollgate.reason", row.label),
        KeyValue::new("tollgate.status", i64::from(traced.status)),
        KeyValue::new("tollgate.config_revision", traced.revision.to_string()),
    ];
    let cache = looked_up.map(|cached| match cached {
        Cached::Hit => "hit",
        Cached::Miss => "miss",
    });
    attributes.extend(traced.route.as_ref().map(|route| KeyValue::new("tollgate.route", route.to_string())));
    attributes.extend(traced.request_id.as_ref().map(|id| KeyValue::new("tollgate.request_id", id.clone())));
    attributes.extend(cache.map(|cache| KeyValue::new("tollgate.cache", cache)));
    attributes.extend(traced.dry_run.then(|| KeyValue::new("tollgate.dry_run", true)));
    let ours_to_mend = row.kind == Kind::Fault || row.http >= 500;
    let whole = |span_id, kind, name, (start, end)| SpanData {
        span_context: SpanContext::new(trail.trace, span_id, TraceFlags::SAMPLED, false, TraceState::NONE),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: kind,
        name: Cow::Borrowed(name),
        start_time: system_time(start),
        end_time: system_time(end),
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::builder("tollgate").with_version(env!("CARGO_PKG_VERSION")).build(),
    };
    // The wall clock may be set back meanwhile; no leg ends before it begins.
    let end = legs.iter().map(|(_, over)| *over).fold(traced.ended.max(trail.began), Timestamp::max);
    spans.push(SpanData {
        parent_span_id: trail.parent.map_or(SpanId::INVALID, |parent| parent.span),
        parent_span_is_remote: trail.parent.is_some(),
        attributes,
        status: if ours_to_mend { Status::error(row.label) } else { Status::Unset },
        ..whole(trail.span, SpanKind::Server, "check", (trail.began, end))
    });
    let mut begins = trail.began;
    for (leg, over) in legs {
        let over = over.max(begins);
        spans.push(SpanData { parent_span_id: trail.span, ..whole(ids.new_span_id(), SpanKind::Internal, leg.as_str(), (begins, over)) });
        begins = over;
    }
}

fn system_time(instant: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(instant.as_nanos())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use opentelemetry::trace::TraceId;

    use super::*;
    use crate::check::Room;
    use crate::check::Witness as _;
    use crate::check::reasons::Reason;
    use crate::clock::Clock;
    use crate::clock::ManualClock;
    use crate::telemetry::traces::parent::Parent;
    use crate::telemetry::traces::trail::Trail;

    /// The spans of a check whose legs were over at these microseconds.
    fn spans_of(parent: Option<Parent>, reason: Reason, legs: &[(Leg, u64)]) -> Vec<SpanData> {
        let clock = Arc::new(ManualClock::starting_at(at(0)));
        let told: Arc<dyn Clock> = clock.clone();
        let trail = Arc::new(Trail::new(parent, &told, at(0)));
        for (leg, micros) in legs {
            clock.set(at(*micros));
            trail.passed(*leg);
        }
        let traced = Traced {
            trail,
            ended: at(100),
            reason,
            status: reason.row().http,
            route: Some("things".into()),
            request_id: Some("id".to_owned()),
            revision: "abc".into(),
            dry_run: false,
        };
        let mut spans = Vec::new();
        write(&traced, &mut spans);
        spans
    }

    fn at(micros: u64) -> Timestamp {
        Timestamp::from_nanos(1_800_000_000_000_000_000 + micros * 1000)
    }

    fn micros(instant: SystemTime) -> u64 {
        u64::try_from(instant.duration_since(system_time(at(0))).unwrap().as_micros()).unwrap()
    }

    fn attribute(span: &SpanData, key: &str) -> Option<String> {
        span.attributes.iter().find(|attribute| attribute.key.as_str() == key).map(|attribute| attribute.value.to_string())
    }

    #[test]
    fn legs_follow_each_other_below_the_whole() {
        let parent = Parent { trace: TraceId::from(5_u128), span: SpanId::from(6_u64), sampled: true };
        let legs = [(Leg::Decode, 10), (Leg::Room(Room::FindRoute), 20), (Leg::FindFacts(Some(Cached::Miss)), 70), (Leg::Encode, 90)];
        let spans = spans_of(Some(parent), Reason::Ok, &legs);
        let [whole, below @ ..] = spans.as_slice() else { panic!("nothing") };
        assert_eq!(
            (&*whole.name, &whole.span_kind, whole.parent_span_id, whole.parent_span_is_remote),
            ("check", &SpanKind::Server, parent.span, true)
        );
        assert_eq!((micros(whole.start_time), micros(whole.end_time)), (0, 100));
        let shown: Vec<_> = below.iter().map(|span| (&*span.name, micros(span.start_time), micros(span.end_time))).collect();
        assert_eq!(shown, [("decode", 0, 10), ("find_route", 10, 20), ("find_facts", 20, 70), ("encode", 70, 90)]);
        for span in below {
            assert_eq!((span.parent_span_id, &span.span_kind), (whole.span_context.span_id(), &SpanKind::Internal));
        }
        for span in &spans {
            assert_eq!((span.span_context.trace_id(), span.span_context.is_sampled()), (parent.trace, true));
        }
        let told = ["decision", "reason", "status", "route", "request_id", "cache", "config_revision"];
        let told = told.map(|key| attribute(whole, &format!("tollgate.{key}")).unwrap());
        assert_eq!(told, ["allow", "ok", "200", "things", "id", "miss", "abc"]);
        assert_eq!(whole.status, Status::Unset);
    }

    #[test]
    fn only_what_is_ours_to_mend_is_an_error() {
        for (reason, error) in
            [(Reason::UnknownKey, false), (Reason::RateLimited, false), (Reason::Deadline, true), (Reason::Internal, true)]
        {
            let spans = spans_of(None, reason, &[(Leg::CutOff, 100)]);
            let whole = spans.first().unwrap();
            assert_eq!(whole.status != Status::Unset, error, "{reason:?}");
            assert_eq!((whole.parent_span_id, attribute(whole, "tollgate.cache")), (SpanId::INVALID, None));
        }
    }

    #[test]
    fn no_span_ends_before_it_begins_when_the_clock_is_set_back() {
        let spans = spans_of(None, Reason::Ok, &[(Leg::Decode, 500), (Leg::Encode, 20)]);
        for span in &spans {
            assert!(span.start_time <= span.end_time, "{span:?}");
        }
        assert_eq!(micros(spans.first().unwrap().end_time), 500);
    }
}
