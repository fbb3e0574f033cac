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
use crate::check::decide::Exit;
use crate::check::guard::Guard;
use crate::check::reasons::Kind;
use crate::check::reasons::Reason;
use crate::clock::Clock;
use crate::model::request::Headers;
use crate::model::request::Host;
use crate::model::request::Method;
use crate::model::request::Part;
use crate::model::request::Path;
use crate::model::request::Request;
use crate::model::request::RequestError;
use crate::model::request::split_target;
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
    pub route: Option<String>,
    pub user: Option<String>,
    /// The rooms that the request went through.
    pub steps: Vec<ExplainedStep>,
    /// What would be set on the request to the upstream.
    pub sets: Vec<(String, String)>,
    /// What would be removed from it.
    pub removes: Vec<String>,
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
}

impl Explainer {
    /// `gate` is the one that judges real requests; what would leave a trace is replaced here.
    pub fn over(gate: &Gate, rules: Arc<ArcSwap<Rules>>, clock: Arc<dyn Clock>) -> Self {
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
        Self { gate, rules, clock }
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
        let steps = seen.steps.take().unwrap_or_default().into_iter().map(|step| {
            let (passed, outcome) = match step.outcome {
                Ok(outcome) => (true, outcome),
                Err(outcome) => (false, outcome),
            };
            ExplainedStep { room: step.room.as_str().to_owned(), passed, outcome }
        });
        Explanation {
            config_revision: rules.revision.to_string(),
            decision: decision(reason).to_owned(),
            reason: reason.row().label.to_owned(),
            status: reason.row().http,
            route: seen.route.map(|route| route.name.to_string()),
            user: seen.caller.as_ref().map(|caller| caller.user.to_string()),
            steps: steps.collect(),
            sets,
            removes,
        }
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
        route: None,
        user: None,
        steps: vec![ExplainedStep { room: "decode".to_owned(), passed: false, outcome }],
        sets: Vec::new(),
        removes: Vec::new(),
    }
}

fn decision(reason: Reason) -> &'static str {
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
