//! One entry of Envoy's access log: whether it is the end of a request that the gate admitted, and what became of it.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use crate::check::reasons::Kind;
use crate::check::reasons::Reason;
use crate::grpc::access_log::wire;
use crate::grpc::access_log::wire::Common;
use crate::grpc::access_log::wire::Field;
use crate::grpc::access_log::wire::HttpEntry;
use crate::telemetry::metrics::decision_label;

/// Under which name Envoy keeps what our answers say about themselves; see `encode`.
const NAMESPACE: &[u8] = b"envoy.filters.http.ext_authz";
/// `AccessLogType`: Envoys that do not say so log a request once, at its end.
const NOT_SET: i32 = 0;
const DOWNSTREAM_END: i32 = 6;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// The end of a request that the gate admitted and counted.
    Answered(Answered),
    /// It was refused, and the refusal is counted already.
    Refused,
    /// A preflight; those are not counted.
    Preflight,
    /// The gate was not asked, or did not answer.
    Unjudged,
    /// Its request goes on, or it is about Envoy's own to the upstream: another entry tells the end.
    Unfinished,
    Malformed,
}

/// What became of an admitted request. The texts are as they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answered {
    /// None: nobody in particular.
    pub(super) user: Option<Bytes>,
    pub(super) route: Option<Bytes>,
    /// Zero: there was none.
    pub(super) status: u32,
    pub(super) duration: Option<Duration>,
    pub(super) request_bytes: u64,
    pub(super) response_bytes: u64,
}

/// Reads one entry.
pub(super) fn read(bytes: Bytes) -> Read {
    let Ok(entry) = HttpEntry::decode(bytes) else { return Read::Malformed };
    let Some(common) = entry.common else { return Read::Unjudged };
    if common.kind != NOT_SET && common.kind != DOWNSTREAM_END {
        return Read::Unfinished;
    }
    let duration = common.duration.or(common.time_to_last_byte).and_then(read_duration);
    let fields = fields_of(common);
    let text = |name: &str| {
        let field = fields.iter().find(|field| field.name == name.as_bytes())?;
        field.value.as_ref().map(|value| value.text.clone()).filter(|text| !text.is_empty())
    };
    let Some(decision) = text("decision") else { return Read::Unjudged };
    if decision != decision_label(Kind::Allow).as_bytes() {
        return Read::Refused;
    }
    if text("reason").is_some_and(|reason| reason == Reason::Preflight.row().label.as_bytes()) {
        return Read::Preflight;
    }
    let request = entry.request.unwrap_or_default();
    let response = entry.response.unwrap_or_default();
    Read::Answered(Answered {
        user: text("user"),
        route: text("route"),
        status: response.status.map_or(0, |status| status.value),
        duration,
        request_bytes: request.header_bytes.saturating_add(request.body_bytes),
        response_bytes: response.header_bytes.saturating_add(response.body_bytes),
    })
}

/// The last of several, as Envoy itself reads a map that has a name twice.
fn fields_of(common: Common) -> Vec<Field> {
    let namespaces = common.metadata.map(|metadata| metadata.namespaces).unwrap_or_default();
    let own = namespaces.into_iter().rfind(|namespace| namespace.name == NAMESPACE);
    own.and_then(|namespace| namespace.fields).map(|fields| fields.fields).unwrap_or_default()
}

/// Nothing for what no request takes: below zero, or decades.
fn read_duration(duration: wire::Duration) -> Option<Duration> {
    let seconds = u64::try_from(duration.seconds).ok().filter(|seconds| *seconds < 1_000_000_000)?;
    let nanos = u32::try_from(duration.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(seconds, nanos))
}
