//! `POST /v1/explain`: one request walked through the rooms without counting it, taking from a bucket, or remembering a guess.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::routing::post;
use serde::Deserialize;
use serde::Serialize;

use crate::check;
use crate::check::Gate;
use crate::check::Seen;
use crate::check::consider::Considered;
use crate::check::consider::consider;
use crate::check::consider::methods;
use crate::check::decide::Denial;
use crate::check::decide::Exit;
use crate::check::decide::Grant;
use crate::check::decide::Particulars;
use crate::check::guard::Guard;
use crate::check::meter;
use crate::check::meter::Usage;
use crate::check::reasons::Kind;
use crate::check::reasons::Reason;
use crate::check::throttle::Admission;
use crate::check::throttle::PolicyLevel;
use crate::clock::Clock;
use crate::model::request::Headers;
use crate::model::request::Host;
use crate::model::request::Method;
use crate::model::request::Part;
use crate::model::request::Path;
use crate::model::request::Request;
use crate::model::request::RequestError;
use crate::model::request::split_target;
use crate::model::rules::DryRun;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;
use crate::model::usage::Line;
use crate::model::usage::NotCounted;
use crate::model::usage::Tally;
use crate::store::Answer;
use crate::store::Limits;
use crate::store::StoreError;
use crate::store::Take;
use crate::store::Taken;

/// The request to explain, as a person writes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// `GET`, `POST` …
    pub method: String,
    /// `api.example.com`, with a port if it matters.
    pub host: String,
    /// Path and query, as the client sends them.
    pub target: String,
    /// Name and value pairs.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The address that Envoy sees.
    #[serde(default)]
    pub peer: Option<IpAddr>,
    /// The peer's mTLS identity.
    #[serde(default)]
    pub principal: Option<String>,
    /// `context_extensions.route`.
    #[serde(default)]
    pub route: Option<String>,
    /// Judge as if it were this Unix second.
    #[serde(default)]
    pub at: Option<u64>,
}

/// What would happen, and why.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Explanation {
    pub config_revision: String,
    /// `allow`, `deny` or `fault`.
    pub decision: String,
    pub reason: String,
    /// The HTTP status that the client would see; 200 stands for whatever the upstream says.
    pub status: u16,
    /// Verdicts are not in force: what is refused goes through all the same.
    #[serde(default)]
    pub dry_run: bool,
    pub route: Option<String>,
    pub user: Option<String>,
    /// The rooms that the request went through.
    pub steps: Vec<ExplainedStep>,
    /// What would be set on the request to the upstream.
    pub sets: Vec<(String, String)>,
    /// What would be removed from it.
    pub removes: Vec<String>,
    /// Every route, the most specific first, and whether it governs the request.
    pub routes: Vec<ExplainedRoute>,
    /// Headers that the client would get with its answer.
    pub headers: Vec<(String, String)>,
    /// The body of a refusal; none: the upstream's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// What the usage would grow by; none: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counted: Option<ExplainedCount>,
    /// The buckets that were looked at, and what is in them.
    pub buckets: Vec<ExplainedBucket>,
}

/// A route, and how it fits the request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExplainedRoute {
    pub name: String,
    pub hit: bool,
    /// Whether each part of what it matches fits.
    pub host: bool,
    pub path: bool,
    pub method: bool,
    /// What it matches: methods, host and path.
    pub pattern: String,
    pub why: String,
}

/// A line of usage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedCount {
    pub user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    pub route: String,
    /// `allowed`, `limited` or `refused`.
    pub outcome: String,
    pub cost: u32,
}

/// A bucket before the request takes from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedBucket {
    pub policy: String,
    pub requests_per_minute: u32,
    pub burst: u32,
    pub remaining: u32,
}

/// What a client would be told at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// None: the upstream's, or Envoy's `status_on_error`.
    pub status: Option<u16>,
    pub headers: Vec<(String, String)>,
    pub body: Option<String>,
}

/// The words of the door to Envoy, which is another door than this one.
pub trait Wording: Send + Sync + std::fmt::Debug + 'static {
    fn told(&self, ended: &Result<Grant<'_>, Exit>, seen: &Seen<'_>, rules: &Rules, is_grpc: bool, now: Timestamp) -> Told;
}

/// One room of the way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExplainedStep {
    pub room: String,
    pub passed: bool,
    pub outcome: String,
}

/// `POST /v1/explain` over an [`Explainer`].
pub fn router(explainer: Arc<Explainer>) -> Router {
    Router::new().route("/v1/explain", post(explain)).with_state(explainer)
}

async fn explain(State(explainer): State<Arc<Explainer>>, Json(question): Json<Question>) -> Json<Explanation> {
    Json(explainer.explain(&question).await)
}

/// Walks requests through the running rules over the real facts, and leaves no trace.
#[derive(Debug)]
pub struct Explainer {
    gate: Gate,
    rules: Arc<ArcSwap<Rules>>,
    clock: Arc<dyn Clock>,
    wording: Arc<dyn Wording>,
}

impl Explainer {
    /// `gate` is the one that judges real requests; what would leave a trace is replaced here.
    pub fn over(gate: &Gate, rules: Arc<ArcSwap<Rules>>, clock: Arc<dyn Clock>, wording: Arc<dyn Wording>) -> Self {
        let gate = Gate {
            facts: Arc::clone(&gate.facts),
            last_known: gate.last_known.clone(),
            limits: Arc::new(Looking(Arc::clone(&gate.limits))),
            local_share: gate.local_share.as_ref().map(|share| Arc::new(Looking(Arc::clone(share))) as Arc<dyn Limits>),
            ledger: Arc::new(Uncounted),
            tokens: Arc::clone(&gate.tokens),
            assertions: Arc::clone(&gate.assertions),
            peppers: Arc::clone(&gate.peppers),
            guard: Guard::new(),
        };
        Self { gate, rules, clock, wording }
    }

    pub async fn explain(&self, question: &Question) -> Explanation {
        let rules = self.rules.load_full();
        let now = question.at.map_or_else(|| self.clock.now(), Timestamp::from_unix_seconds);
        let headers: Vec<(String, &str)> =
            question.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.as_str())).collect();
        let request = match plain_request(question, &headers) {
            Ok(request) => request,
            Err(error) => return unreadable(&rules, error),
        };
        let mut seen = Seen::explaining();
        let ended = check::check(&request, &self.gate, &rules, &mut seen, now).await;
        let told = self.wording.told(&ended, &seen, &rules, request.is_grpc(), now);
        let (reason, sets, removes) = match &ended {
            Ok(grant) => {
                let prepared = grant.prepared();
                // A signed assertion is a credential to whatever stands behind the gate.
                let is_assertion = |name: &str| rules.assertion.as_ref().is_some_and(|assertion| *assertion.header == *name);
                let shown = |name: &str, value: &str| if is_assertion(name) { "(signed)".to_owned() } else { value.to_owned() };
                let sets = prepared.set().iter().map(|(name, value)| (name.to_string(), shown(name, value))).collect();
                (grant.reason(), sets, prepared.remove().iter().map(ToString::to_string).collect())
            }
            Err(Exit::Denied(denial)) => (denial.reason, Vec::new(), Vec::new()),
            Err(Exit::Failed(fault)) => (fault.reason, Vec::new(), Vec::new()),
        };
        let admission = match &ended {
            Ok(grant) => Some(grant.admission()),
            Err(Exit::Denied(Denial { particulars: Particulars::Limits(admission), .. })) => Some(&**admission),
            Err(Exit::Denied(_) | Exit::Failed(_)) => None,
        };
        let counted = match &ended {
            Ok(grant) => match meter::meter(grant.prepared(), &seen.label, now) {
                Usage::Add { line, cost } => Some(count_of(&line, cost)),
                Usage::Uncounted => None,
            },
            Err(exit) => refused(exit, &seen, now),
        };
        let explained = Explanation {
            config_revision: rules.revision.to_string(),
            decision: decision(reason).to_owned(),
            reason: reason.row().label.to_owned(),
            status: told.status.unwrap_or(reason.row().http),
            dry_run: rules.dry_run == DryRun::On,
            route: seen.route.map(|route| route.name.to_string()),
            user: seen.caller.as_ref().map(|caller| caller.user.to_string()),
            steps: Vec::new(),
            sets,
            removes,
            routes: routes_of(&request, &rules),
            headers: told.headers,
            body: told.body,
            counted,
            buckets: admission.map(buckets_of).unwrap_or_default(),
        };
        Explanation { steps: steps_of(&mut seen), ..explained }
    }
}

/// The rooms that were passed.
pub fn steps_of(seen: &mut Seen<'_>) -> Vec<ExplainedStep> {
    let steps = seen.steps.take().unwrap_or_default().into_iter().map(|step| {
        let (passed, outcome) = match step.outcome {
            Ok(outcome) => (true, outcome),
            Err(outcome) => (false, outcome),
        };
        ExplainedStep { room: step.room.as_str().to_owned(), passed, outcome }
    });
    steps.collect()
}

/// The route table as this request sees it.
pub fn routes_of<'r>(request: &'r Request<'r>, rules: &'r Rules) -> Vec<ExplainedRoute> {
    let row = |row: Considered<'_>| {
        let matcher = &row.route.matcher;
        let host = match (&matcher.host, matcher.port) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (Some(host), None) => host.to_string(),
            (None, Some(port)) => format!("*:{port}"),
            (None, None) => String::new(),
        };
        ExplainedRoute {
            name: row.route.name.to_string(),
            hit: row.hit,
            host: row.host,
            path: row.path,
            method: row.method,
            pattern: format!("{} {host}{}", methods(matcher), matcher.path),
            why: row.why,
        }
    };
    consider(request, rules).into_iter().map(row).collect()
}

/// What stands in the buckets.
pub fn buckets_of(admission: &Admission) -> Vec<ExplainedBucket> {
    let bucket = |asked: &PolicyLevel| ExplainedBucket {
        policy: asked.policy.to_string(),
        requests_per_minute: asked.limit.per_minute,
        burst: asked.limit.depth,
        remaining: asked.level.remaining,
    };
    admission.levels().iter().map(bucket).collect()
}

/// What a refusal is counted as.
pub fn refused(exit: &Exit, seen: &Seen<'_>, now: Timestamp) -> Option<ExplainedCount> {
    let (Exit::Denied(denial), Some(caller)) = (exit, &seen.caller) else { return None };
    meter::refusal(caller, &seen.label, denial.reason, now).map(|line| count_of(&line, 1))
}

/// A line of usage, for people.
pub fn count_of(line: &Line<'_>, cost: u32) -> ExplainedCount {
    ExplainedCount {
        user: line.user.to_string(),
        key_id: line.key.map(ToString::to_string),
        route: line.route.to_owned(),
        outcome: line.outcome.as_str().to_owned(),
        cost,
    }
}

fn plain_request<'q>(question: &'q Question, headers: &'q [(String, &'q str)]) -> Result<Request<'q>, RequestError> {
    let (path, query) = split_target(question.target.as_bytes())?;
    Ok(Request {
        method: Method::parse(question.method.as_bytes())?,
        host: Host::parse(question.host.as_bytes())?,
        path: Path::parse(path)?,
        query,
        headers: Headers::new(headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect()),
        peer_address: question.peer,
        principal: question.principal.as_deref(),
        chosen_route: question.route.as_deref(),
    })
}

fn unreadable(rules: &Rules, error: RequestError) -> Explanation {
    let reason = match error.part {
        Part::Path => Reason::BadPath,
        Part::Host => Reason::BadHost,
        Part::Method => Reason::BadMethod,
        Part::Message => Reason::MalformedMessage,
    };
    let outcome = format!("{}: {}: {}", reason.row().label, error.field, error.issue);
    Explanation {
        config_revision: rules.revision.to_string(),
        decision: decision(reason).to_owned(),
        reason: reason.row().label.to_owned(),
        status: reason.row().http,
        dry_run: rules.dry_run == DryRun::On,
        route: None,
        user: None,
        steps: vec![ExplainedStep { room: "decode".to_owned(), passed: false, outcome }],
        sets: Vec::new(),
        removes: Vec::new(),
        routes: Vec::new(),
        headers: Vec::new(),
        body: None,
        counted: None,
        buckets: Vec::new(),
    }
}

/// As logs and metrics call it.
pub fn decision(reason: Reason) -> &'static str {
    match reason.row().kind {
        Kind::Allow => "allow",
        Kind::Denial => "deny",
        Kind::Fault => "fault",
    }
}

/// Looks at buckets and takes nothing.
#[derive(Debug)]
struct Looking(Arc<dyn Limits>);

impl Limits for Looking {
    fn take<'a>(&'a self, takes: &'a [Take<'a>], now: Timestamp) -> Answer<'a, Result<Taken, StoreError>> {
        Answer::Pending(Box::pin(async move {
            let looks: Vec<Take<'_>> = takes.iter().map(|take| Take { cost: 0, ..*take }).collect();
            let mut taken = self.0.take(&looks, now).await?;
            taken.admitted = taken.levels.iter().zip(takes).all(|(level, take)| level.remaining >= take.cost);
            Ok(taken)
        }))
    }

    fn patience(&self) -> Option<Duration> {
        self.0.patience()
    }
}

/// Counts nothing.
#[derive(Debug)]
struct Uncounted;

impl Tally for Uncounted {
    fn add(&self, _line: &Line<'_>, _cost: u32) -> Result<(), NotCounted> {
        Ok(())
    }
}
