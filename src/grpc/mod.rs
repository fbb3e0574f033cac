//! The door to Envoy: `envoy.service.auth.v3.Authorization/Check`, from the raw message to the raw answer.
//!
//! Here verdicts become wire: a grant, a denial, or a fault in the form that the config chose. Here alone are checks logged and counted
//! in metrics, whatever became of them. Three things can end a check from outside the corridor, and all of them are told like any other
//! end: too many at once, no time left, and a panic, which is a denial, because a caller must not be able to bring a fault about.

pub mod access_log;
pub mod bodies;
pub mod decode;
pub mod encode;
pub mod fields;
pub mod gather;
pub mod rate_headers;
pub mod server;
pub mod service;
pub mod show;
pub mod wire;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::FutureExt as _;
use tonic::Status;

use crate::check::Gate;
use crate::check::Leg;
use crate::check::Seen;
use crate::check::Witness as _;
use crate::check::check;
use crate::check::decide::Denial;
use crate::check::decide::Exit;
use crate::check::decide::Fault;
use crate::check::decide::Grant;
use crate::check::decide::Particulars;
use crate::check::reasons::Reason;
use crate::check::waive::waive;
use crate::clock::Clock;
use crate::grpc::decode::Message;
use crate::grpc::encode::About;
use crate::grpc::encode::Client;
use crate::model::caller::Caller;
use crate::model::request::Request;
use crate::model::request::Single;
use crate::model::route::Answerer;
use crate::model::route::ClientRequestId;
use crate::model::route::Route;
use crate::model::rules::DryRun;
use crate::model::rules::FaultAnswer;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;
use crate::recording::recorder::Recorder;
use crate::secrets;
use crate::stats::StatsSource;
use crate::stats::Viewer;
use crate::stats::write_stats;
use crate::telemetry::Metrics;
use crate::telemetry::decisions::Decision;
use crate::telemetry::decisions::DecisionLog;
use crate::telemetry::decisions::clipped;
use crate::telemetry::decisions::shown_path;
use crate::telemetry::metrics::decision_label;
use crate::telemetry::traces::Parent;
use crate::telemetry::traces::Traced;
use crate::telemetry::traces::Traces;
use crate::telemetry::traces::Trail;

/// No check takes longer, whatever the client's deadline says.
const CHECK_TIME_MAX: Duration = Duration::from_secs(10);
/// The scope that opens `/stats`.
const STATS_SCOPE: &str = "tollgate:usage";

/// Everything that a check needs, shared by all of them.
#[derive(Debug)]
pub struct Door {
    pub gate: Arc<Gate>,
    pub rules: Arc<ArcSwap<Rules>>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    pub decisions: Arc<DecisionLog>,
    pub stats: Arc<dyn StatsSource>,
    /// None: nothing is recorded.
    pub recorder: Option<Arc<Recorder>>,
    /// None: nothing is traced.
    pub traces: Option<Arc<Traces>>,
    /// Checks beyond this many at once are shed.
    pub in_flight_max: usize,
    pub in_flight: AtomicUsize,
}

impl Door {
    /// Judges one message. `time_left` is what the client's deadline leaves, `parent` the span that asks, where the RPC names it.
    ///
    /// # Errors
    /// The RPC status of a fault, where faults are told so.
    pub async fn check(&self, message: Bytes, time_left: Option<Duration>, parent: Option<Parent>) -> Result<Bytes, Status> {
        let started = self.clock.now();
        let rules = self.rules.load_full();
        let outside = |verdict| self.conclude(verdict, &rules, &Circumstances::unknown(started));
        let Some(_flight) = Flight::enter(self) else {
            return outside(Verdict::Failed(Fault::new(Reason::Overloaded, "too many checks at once")));
        };
        let time_left = time_left.map_or(CHECK_TIME_MAX, |left| left.min(CHECK_TIME_MAX));
        if time_left.is_zero() {
            return outside(Verdict::Failed(Fault::new(Reason::Deadline, "the deadline had passed on arrival")));
        }
        let mut trail = None;
        let ended = {
            // Pinned, it is not moved into each of its wrappers. Nothing of a panicked check is looked at again, but when its legs were over.
            let judged = pin!(self.judge(message, &rules, started, parent, &mut trail));
            tokio::time::timeout(time_left, AssertUnwindSafe(judged).catch_unwind()).await
        };
        let verdict = match ended {
            Ok(Ok(answer)) => return answer,
            Ok(Err(_payload)) => {
                self.metrics.panics.inc();
                Verdict::Denied(Denial::new(Reason::Internal).because("panic"))
            }
            Err(_elapsed) => Verdict::Failed(Fault::new(Reason::Deadline, "the deadline passed")),
        };
        witnessed(trail.as_ref(), Leg::CutOff);
        self.conclude(verdict, &rules, &Circumstances { trail: trail.as_ref(), ..Circumstances::unknown(started) })
    }

    /// Denies what is too long to be read.
    ///
    /// # Errors
    /// None: a caller must not be able to bring about a fault.
    pub fn refuse_unread(&self) -> Result<Bytes, Status> {
        let issue = Particulars::Field { field: "message", issue: Cow::Borrowed("the request is too long to be judged") };
        let denial = Denial::with(Reason::MalformedMessage, issue);
        self.conclude(Verdict::Denied(denial), &self.rules.load(), &Circumstances::unknown(self.clock.now()))
    }

    async fn judge(
        &self,
        message: Bytes,
        rules: &Rules,
        started: Timestamp,
        parent: Option<Parent>,
        trail: &mut Option<Arc<Trail>>,
    ) -> Result<Bytes, Status> {
        let message = Message::read(message);
        *trail = self.traces.as_ref().and_then(|traces| traces.begin(parent_of(&message, parent), &self.clock, started));
        let trail = trail.as_ref();
        let message = match message {
            Ok(message) => message,
            Err(denial) => {
                witnessed(trail, Leg::Decode);
                let circumstances = Circumstances { trail, ..Circumstances::unknown(started) };
                return self.conclude(Verdict::Denied(denial), rules, &circumstances);
            }
        };
        let client = if message.is_grpc() { Client::Grpc } else { Client::Http };
        let request = message.request();
        witnessed(trail, Leg::Decode);
        let request = match request {
            Ok(request) => request,
            Err(denial) => {
                let circumstances = Circumstances { client, trail, ..Circumstances::unknown(started) };
                return self.conclude(Verdict::Denied(denial), rules, &circumstances);
            }
        };
        let mut seen = Seen { witness: trail.map(|trail| &**trail as _), ..Seen::default() };
        let verdict = match check(&request, &self.gate, rules, &mut seen, started).await {
            Ok(grant) if grant.prepared().route().answer == Answerer::Stats => self.answer_stats(grant).await,
            Ok(grant) => Verdict::Granted(grant),
            Err(Exit::Denied(denial)) => Verdict::Denied(denial),
            Err(Exit::Failed(fault)) => Verdict::Failed(fault),
        };
        if let Some(recorder) = &self.recorder
            && recorder.is_due()
        {
            let ended = (verdict.reason(), seen.route.map(|route| &*route.name));
            recorder.offer(&request, seen.caller.as_deref(), ended, rules, started);
        }
        let circumstances = Circumstances {
            request: Some(&request),
            route: seen.route,
            caller: seen.caller.as_deref(),
            lapsed_for: seen.lapsed_for,
            client,
            started,
            trail,
        };
        self.conclude(verdict, rules, &circumstances)
    }

    /// `GET /stats` through Envoy: admitted, counted, and answered here.
    async fn answer_stats<'r>(&self, grant: Grant<'r>) -> Verdict<'r> {
        let Some(caller) = grant.prepared().caller().filter(|caller| caller.scopes.covers(STATS_SCOPE)) else {
            return Verdict::Denied(Denial::with(Reason::InsufficientScope, Particulars::Scopes(STATS_SCOPE.to_owned())));
        };
        let viewer = caller.organization.as_deref().map_or(Viewer::Everyone, Viewer::Organization);
        match self.stats.rows(viewer).await {
            Ok(rows) => Verdict::Answered(grant, write_stats(rows)),
            Err(error) => Verdict::Failed(Fault::new(Reason::StoreUnavailable, error.to_string())),
        }
    }

    /// The end of every check: encoded, counted, logged.
    fn conclude(&self, verdict: Verdict<'_>, rules: &Rules, circumstances: &Circumstances<'_>) -> Result<Bytes, Status> {
        let envoy_id = circumstances.request.and_then(envoy_request_id);
        let request_id = match (&verdict, circumstances.route.map(|route| route.request_id), envoy_id) {
            (Verdict::Granted(_) | Verdict::Answered(..), _, id) => id.map(str::to_owned),
            (Verdict::Denied(_) | Verdict::Failed(_), Some(ClientRequestId::Trusted), Some(id)) => Some(id.to_owned()),
            (Verdict::Denied(_) | Verdict::Failed(_), _, _) => Some(secrets::request_id()),
        };
        let about = About {
            route: circumstances.route,
            caller: circumstances.caller,
            lapsed_for: circumstances.lapsed_for,
            dry_run: rules.dry_run == DryRun::On,
            errors: rules.errors,
            revision: &rules.revision,
            request_id: request_id.as_deref(),
            client: circumstances.client,
            now: circumstances.started,
        };
        let waiver = if verdict.is_refusal() {
            waive(circumstances.caller, circumstances.request.map(|request| &request.headers), rules)
        } else {
            None
        };
        let (answer, detail) = match &verdict {
            Verdict::Granted(grant) => (Ok(encode::allow(grant, &about)), grant.admission().judged_by().note()),
            Verdict::Answered(grant, body) => (Ok(encode::answer(grant, body.clone(), &about)), grant.admission().judged_by().note()),
            Verdict::Denied(denial) => (Ok(encode::deny(denial, &about)), denial.internal.as_deref()),
            Verdict::Failed(fault) => (fail(fault, rules.fault_answer, &about), Some(&*fault.internal)),
        };
        let reason = verdict.reason();
        let answer = match &waiver {
            Some(waiver) => Ok(encode::waive(waiver, reason, &about)),
            None => answer,
        };
        if about.dry_run {
            self.metrics.dry_run_checks.of(reason.row().kind).inc();
        }
        if let (Some(_), Some(shared)) = (circumstances.lapsed_for, &self.metrics.shared) {
            shared.grace_decisions.of(reason.row().kind).inc();
        }
        witnessed(circumstances.trail, Leg::Encode);
        let ended = self.clock.now();
        let duration = ended.since(circumstances.started);
        let tier = circumstances.caller.and_then(|caller| caller.tier.as_deref());
        self.metrics.check(reason, circumstances.route.map(|route| &*route.name), tier, duration);
        if verdict.is_refusal() || self.decisions.allow_is_due(rules.log_allows) {
            self.decisions.offer(&describe(reason, detail, duration, envoy_id, rules, circumstances, &about));
        }
        if let (Some(traces), Some(trail)) = (&self.traces, circumstances.trail) {
            traces.offer(Traced {
                trail: Arc::clone(trail),
                ended,
                reason,
                status: encode::status_of(reason),
                route: circumstances.route.map(|route| Arc::clone(&route.name)),
                request_id: about.request_id.map(|id| clipped(id).to_owned()),
                revision: Arc::clone(&rules.revision),
                dry_run: about.dry_run,
            });
        }
        answer
    }
}

/// How a check ended.
#[derive(Debug)]
enum Verdict<'r> {
    Granted(Grant<'r>),
    /// Granted, and the answer is known here.
    Answered(Grant<'r>, String),
    Denied(Denial),
    Failed(Fault),
}

impl Verdict<'_> {
    fn reason(&self) -> Reason {
        match self {
            Self::Granted(grant) | Self::Answered(grant, _) => grant.reason(),
            Self::Denied(denial) => denial.reason,
            Self::Failed(fault) => fault.reason,
        }
    }

    fn is_refusal(&self) -> bool {
        match self {
            Self::Granted(_) | Self::Answered(..) => false,
            Self::Denied(_) | Self::Failed(_) => true,
        }
    }
}

/// What is known of a check by its end.
#[derive(Clone, Copy, Debug)]
struct Circumstances<'a> {
    request: Option<&'a Request<'a>>,
    route: Option<&'a Route>,
    caller: Option<&'a Caller>,
    /// See [`Seen::lapsed_for`].
    lapsed_for: Option<Duration>,
    client: Client,
    started: Timestamp,
    /// None: the check is not traced.
    trail: Option<&'a Arc<Trail>>,
}

impl Circumstances<'_> {
    fn unknown(started: Timestamp) -> Self {
        Self { request: None, route: None, caller: None, lapsed_for: None, client: Client::Http, started, trail: None }
    }
}

/// One check in flight; leaves when dropped, also by a panic or a client that went away.
struct Flight<'d>(&'d Door);

impl<'d> Flight<'d> {
    fn enter(door: &'d Door) -> Option<Self> {
        let before = door.in_flight.fetch_add(1, Ordering::Relaxed);
        door.metrics.checks_in_flight.inc();
        let flight = Self(door);
        (before < door.in_flight_max).then_some(flight)
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.checks_in_flight.dec();
    }
}

/// Whose trace the check belongs to: the RPC's, which knows Envoy's own span, before the client's, which Envoy hands on.
fn parent_of(message: &Result<Message, Denial>, rpc: Option<Parent>) -> Option<Parent> {
    rpc.or_else(|| message.as_ref().ok().and_then(|message| Parent::of_lines(message.values_of(b"traceparent"))))
}

fn witnessed(trail: Option<&Arc<Trail>>, leg: Leg) {
    if let Some(trail) = trail {
        trail.passed(leg);
    }
}

fn fail(fault: &Fault, answer: FaultAnswer, about: &About<'_>) -> Result<Bytes, Status> {
    match answer {
        FaultAnswer::RpcError => Err(Status::unavailable(fault.reason.row().label)),
        FaultAnswer::ErrorResponse => Ok(encode::error_response(fault, about)),
        FaultAnswer::Deny => Ok(encode::deny_fault(fault, about)),
    }
}

/// Envoy's `x-request-id`, where it is fit to be shown: once, short, visible ASCII.
fn envoy_request_id<'a>(request: &'a Request<'_>) -> Option<&'a str> {
    match request.headers.single("x-request-id") {
        Single::Once(id) if !id.is_empty() && id.len() <= 128 && id.iter().all(u8::is_ascii_graphic) => std::str::from_utf8(id).ok(),
        Single::Once(_) | Single::Absent | Single::Repeated => None,
    }
}

fn describe<'a>(
    reason: Reason,
    detail: Option<&'a str>,
    duration: Duration,
    envoy_id: Option<&'a str>,
    rules: &'a Rules,
    circumstances: &Circumstances<'a>,
    about: &About<'a>,
) -> Decision<'a> {
    let row = reason.row();
    let caller = circumstances.caller;
    let request = circumstances.request;
    Decision {
        ts: circumstances.started,
        event: "check",
        decision: decision_label(row.kind),
        reason: row.label,
        dry_run: about.dry_run.then_some(true),
        status: encode::status_of(reason),
        route: circumstances.route.map(|route| &*route.name),
        user: caller.map(|caller| caller.user.as_str()),
        org: caller.and_then(|caller| caller.organization.as_deref()).map(clipped),
        key_id: caller.and_then(|caller| caller.key.as_ref()).map(|key| key.as_str()),
        tier: caller.and_then(|caller| caller.tier.as_deref()).map(clipped),
        grace_ms: circumstances.lapsed_for.map(|lapsed_for| u64::try_from(lapsed_for.as_millis()).unwrap_or(u64::MAX)),
        method: request.map(|request| request.method.as_str()),
        host: request.map(|request| clipped(&request.host.name)),
        path: request.map(|request| shown_path(request.path.as_str(), &rules.key_brand)),
        client_address: request.and_then(|request| request.client_address(rules.trusted_hops)),
        request_id: about.request_id.map(clipped),
        trace_id: circumstances.trail.map(|trail| trail.trace_id()),
        x_request_id: envoy_id.filter(|id| Some(*id) != about.request_id).map(clipped),
        duration_us: u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
        config_revision: &rules.revision,
        detail: detail.map(clipped),
    }
}
