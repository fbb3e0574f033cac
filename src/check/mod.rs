//! The verbs: the request's way, one room a file, in walking order.
//!
//! The corridor below names the rooms in their order and awaits what they judge; it decides nothing itself. Whoever reads it
//! top-down reads what happens to a request. It must not mention: concrete stores, `config`, `grpc`, `issuer`.

pub mod find_route;

pub mod identify_caller;

pub mod take_credential;

pub mod guard;

pub mod prove;

mod find_facts;

pub mod resolve;

pub mod authorise;

pub mod pin_version;

pub mod prepare;

pub mod throttle;

pub mod meter;

pub mod decide;

pub mod waive;

pub mod reasons;

pub mod consider;

pub mod rehearse;

mod remembered;

mod seen;

mod tell;

#[cfg(test)]
mod samples;

#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
mod doubles;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;

use futures_util::future::Either;
use futures_util::future::select;
use tokio::time::Sleep;

pub use crate::check::seen::Cached;
pub use crate::check::seen::Leg;
pub use crate::check::seen::Room;
pub use crate::check::seen::Seen;
pub use crate::check::seen::Step;
pub use crate::check::seen::Witness;

use crate::check::authorise::authorise;
use crate::check::decide::Exit;
use crate::check::decide::Grant;
use crate::check::decide::decide;
use crate::check::find_facts::find_facts;
use crate::check::find_route::find_route;
use crate::check::guard::Guard;
use crate::check::pin_version::pin_version;
use crate::check::prepare::prepare;
use crate::check::prove::Unproven;
use crate::check::prove::prove;
use crate::check::resolve::key::older_secret;
use crate::check::resolve::resolve;
use crate::check::take_credential::Shown;
use crate::check::take_credential::take_credential;
use crate::check::throttle::Admission;
use crate::check::throttle::Answered;
use crate::check::throttle::Questions;
use crate::check::throttle::enter;
use crate::check::throttle::is_stood_in_for;
use crate::check::throttle::questions;
use crate::check::throttle::throttle;
use crate::jose::Assertions;
use crate::jose::Tokens;
use crate::model::caller::Caller;
use crate::model::request::Request;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;
use crate::model::usage::Tally;
use crate::secrets::Peppers;
use crate::store::Facts;
use crate::store::LastKnown;
use crate::store::Limits;
use crate::store::StoreError;
use crate::store::Take;

/// What the corridor asks on a request's way.
#[derive(Debug)]
pub struct Gate {
    pub facts: Arc<dyn Facts>,
    /// What stands in for facts that are not answered, for tiers that have a grace. None: the shelf always answers.
    pub last_known: Option<Arc<dyn LastKnown>>,
    pub limits: Arc<dyn Limits>,
    /// What is asked instead when the limits fail and the config says `local-share`.
    pub local_share: Option<Arc<dyn Limits>>,
    pub ledger: Arc<dyn Tally>,
    pub tokens: Arc<Tokens>,
    pub assertions: Arc<Assertions>,
    pub peppers: Arc<Peppers>,
    pub guard: Guard,
}

/// One request's way from its first room to its last.
///
/// # Errors
/// [`Exit::Denied`] is an answer, [`Exit::Failed`] is none.
pub async fn check<'r>(
    request: &'r Request<'r>,
    gate: &'r Gate,
    rules: &'r Rules,
    seen: &mut Seen<'r>,
    now: Timestamp,
) -> Result<Grant<'r>, Exit> {
    let ended = walk(request, gate, rules, seen, now).await;
    if let Err(Exit::Denied(denial)) = &ended
        && let Some(caller) = &seen.caller
        && let Some(line) = meter::refusal(caller, &seen.label, denial.reason, now)
    {
        // The answer is no, counted or not.
        let _ = gate.ledger.add(&line, 1);
    }
    ended
}

async fn walk<'r>(
    request: &'r Request<'r>,
    gate: &'r Gate,
    rules: &'r Rules,
    seen: &mut Seen<'r>,
    now: Timestamp,
) -> Result<Grant<'r>, Exit> {
    let found = seen.pass(Room::FindRoute, find_route(request, rules), |found| found.route.name.to_string())?;
    seen.route = Some(found.route);
    seen.label = meter::label(&found);
    let client = request.client_address(rules.trusted_hops);
    let shown = seen.pass(Room::TakeCredential, take_credential(request, &found, rules), tell::shown)?;
    let caller = recognise(&shown, client, gate, rules, seen, now).await?;
    seen.caller.clone_from(&caller);
    let permit = seen.pass(Room::Authorise, authorise(caller, &found), |permit| permit.reason().row().label.to_owned())?;
    let pinned = seen.pass(Room::PinVersion, pin_version(request, &found, permit.caller(), rules), tell::pinned)?;
    let questions = questions(&permit, client, rules);
    let prepared = prepare(permit, pinned, &shown, &request.headers, rules, &gate.assertions, now);
    let prepared = seen.pass(Room::Prepare, prepared, tell::prepared)?;
    let admission = take_limits(&questions, gate, rules, seen, now).await?;
    let usage = meter::meter(&prepared, &seen.label, now);
    let counted = meter::count(&usage, &*gate.ledger);
    let counted = seen.pass(Room::Meter, counted, |_| "a real request is counted here".to_owned())?;
    Ok(decide(prepared, admission, counted))
}

/// Who shows this, for doors that judge their own callers: the rooms from the guard to the caller. None: nobody, and nothing was shown.
/// `address` is the client's, as far as it can be trusted.
///
/// # Errors
/// As [`check`]'s.
pub async fn recognise<'r>(
    shown: &Shown<'r>,
    address: Option<IpAddr>,
    gate: &'r Gate,
    rules: &Rules,
    seen: &mut Seen<'_>,
    now: Timestamp,
) -> Result<Option<Arc<Caller>>, Exit> {
    seen.pass(Room::Guard, gate.guard.judge(shown, address, &rules.guard, now), |()| String::new())?;
    let identified = identify(shown, address, gate, rules, seen, now).await;
    learn(&identified, shown, address, gate, rules, now);
    identified
}

/// From what was shown to who it is: prove, look up, resolve.
async fn identify<'r>(
    shown: &Shown<'r>,
    address: Option<IpAddr>,
    gate: &'r Gate,
    rules: &Rules,
    seen: &mut Seen<'_>,
    now: Timestamp,
) -> Result<Option<Arc<Caller>>, Exit> {
    let proof = seen.pass(Room::Prove, prove(shown, rules, &gate.tokens, &gate.peppers, now), tell::proof)?;
    let facts = find_facts(&proof, gate, rules).await;
    seen.witnessed(Leg::FindFacts(facts.cached));
    let resolved = resolve(&proof, shown.paired_key, &facts, address, rules, &gate.peppers, now);
    let told = |caller: &Option<Arc<Caller>>| tell::caller(caller, tell::unknown_tier(&proof, rules), facts.lapsed_for);
    let caller = seen.pass(Room::Resolve, resolved, told)?;
    seen.lapsed_for = facts.lapsed_for;
    if let Some(text) = shown.paired_key.or_else(|| shown.credential.secret_text())
        && let Some(name) = older_secret(text, &facts, &gate.peppers)
    {
        gate.ledger.note_use(&name, seen.label.as_str(), now);
    }
    Ok(caller)
}

/// Tells the guard how the credential fared. Failures of ours are nobody's failed guess.
fn learn(
    identified: &Result<Option<Arc<Caller>>, Exit>,
    shown: &Shown<'_>,
    client: Option<IpAddr>,
    gate: &Gate,
    rules: &Rules,
    now: Timestamp,
) {
    match identified {
        Ok(Some(_)) => gate.guard.record_proven(shown),
        Err(Exit::Denied(denial)) if denial.reason.row().http == 401 => gate.guard.record_failure(shown, client, &rules.guard, now),
        Ok(None) | Err(Exit::Denied(_) | Exit::Failed(_)) => {}
    }
}

/// The two questions to the limiter; the second is asked only of those whom the first let in.
async fn take_limits(
    questions: &Questions<'_>,
    gate: &Gate,
    rules: &Rules,
    seen: &mut Seen<'_>,
    now: Timestamp,
) -> Result<Admission, Exit> {
    // Both questions together wait no longer than one may.
    let mut patience = pin!(gate.limits.patience().map(tokio::time::sleep));
    let answer = ask(&questions.shared(), gate, rules, seen, now, patience.as_mut()).await;
    let entered = seen.pass(Room::Throttle, enter(questions, answer, rules), tell::entered)?;
    let answer = ask(&questions.own(), gate, rules, seen, now, patience.as_mut()).await;
    seen.pass(Room::Throttle, throttle(questions, entered, answer, rules), tell::admission)
}

async fn ask(
    takes: &[Take<'_>],
    gate: &Gate,
    rules: &Rules,
    seen: &Seen<'_>,
    now: Timestamp,
    patience: Pin<&mut Option<Sleep>>,
) -> Answered {
    if takes.is_empty() {
        return Answered::NotAsked;
    }
    let answer = match patience.as_pin_mut() {
        None => gate.limits.take(takes, now).await,
        Some(patience) => match select(gate.limits.take(takes, now), patience).await {
            Either::Left((answer, _)) => answer,
            Either::Right(((), _)) => Err(StoreError::Unavailable("the limits did not answer in time".to_owned())),
        },
    };
    let answered = match (answer, &gate.local_share) {
        (Err(failure), Some(share)) if is_stood_in_for(rules) => Answered::StoodIn { failure, share: share.take(takes, now).await },
        (answer, _) => Answered::Asked(answer),
    };
    seen.witnessed(Leg::TakeLimits);
    answered
}

impl From<Unproven> for Exit {
    fn from(unproven: Unproven) -> Self {
        match unproven {
            Unproven::Denied(denial) => Self::Denied(denial),
            Unproven::KeysMissing(fault) => Self::Failed(fault),
        }
    }
}
