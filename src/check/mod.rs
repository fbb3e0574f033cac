//! The verbs: the request's way, one room a file, in walking order.
//!
//! The corridor below names the rooms in their order and awaits what they judge; it decides nothing itself. Whoever reads it
//! top-down reads what happens to a request. It must not mention: concrete stores, `config`, `grpc`, `issuer`.

pub mod find_route;

pub mod identify_caller;

pub mod take_credential;

pub mod guard;

pub mod prove;

pub mod resolve;

pub mod authorise;

pub mod pin_version;

pub mod prepare;

pub mod throttle;

pub mod meter;

pub mod decide;

pub mod reasons;

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
use std::time::Duration;

use futures_util::future::Either;
use futures_util::future::select;
use tokio::time::Sleep;

pub use crate::check::seen::Room;
pub use crate::check::seen::Seen;
pub use crate::check::seen::Step;

use crate::check::authorise::authorise;
use crate::check::decide::Exit;
use crate::check::decide::Grant;
use crate::check::decide::decide;
use crate::check::find_route::find_route;
use crate::check::guard::Guard;
use crate::check::pin_version::pin_version;
use crate::check::prepare::prepare;
use crate::check::prove::Proof;
use crate::check::prove::Unproven;
use crate::check::prove::prove;
use crate::check::remembered::Remembered;
use crate::check::resolve::FoundFacts;
use crate::check::resolve::KeyFact;
use crate::check::resolve::UserFact;
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
use crate::model::rules::Managed;
use crate::model::rules::Rules;
use crate::model::rules::TokenId;
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
    seen.pass(Room::Guard, gate.guard.judge(&shown, client, &rules.guard, now), |()| String::new())?;
    let identified = identify(&shown, gate, rules, seen, now).await;
    learn(&identified, &shown, client, gate, rules, now);
    let caller = identified?;
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

/// From what was shown to who it is: prove, look up, resolve.
async fn identify<'r>(
    shown: &Shown<'r>,
    gate: &Gate,
    rules: &Rules,
    seen: &mut Seen<'_>,
    now: Timestamp,
) -> Result<Option<Arc<Caller>>, Exit> {
    let proof = seen.pass(Room::Prove, prove(shown, rules, &gate.tokens, now), tell::proof)?;
    let facts = find_facts(&proof, gate, rules).await;
    let resolved = resolve(&proof, shown.paired_key, &facts, rules, &gate.peppers, now);
    let caller = seen.pass(Room::Resolve, resolved, |caller| tell::caller(caller, facts.lapsed_for))?;
    seen.lapsed_for = facts.lapsed_for;
    Ok(caller)
}

/// The facts behind a proof, or the failure to get them. Where the shelf is silent and some tier has a grace left, what was known last
/// stands in for what it did not say; whether this caller may live by that is [`resolve`]'s to say.
async fn find_facts(proof: &Proof<'_>, gate: &Gate, rules: &Rules) -> FoundFacts {
    let key = find_key(proof, &*gate.facts, gate, rules).await;
    let user = find_user(proof, &key, &*gate.facts, rules).await;
    let found = FoundFacts { key, user, lapsed_for: None };
    match &gate.last_known {
        Some(last_known) if found.lack_an_answer() => match last_known.lapsed_for() {
            Some(lapsed_for) if has_grace(rules, lapsed_for) => remember(proof, found, last_known, lapsed_for, gate, rules).await,
            Some(_) | None => found,
        },
        Some(_) | None => found,
    }
}

/// Whether there are callers who may live by what was confirmed so long ago.
fn has_grace(rules: &Rules, lapsed_for: Duration) -> bool {
    rules.tiers.values().any(|tier| tier.lasts(lapsed_for))
}

/// What the shelf did say stays; the rest comes from memory.
async fn remember(
    proof: &Proof<'_>,
    found: FoundFacts,
    last_known: &Arc<dyn LastKnown>,
    lapsed_for: Duration,
    gate: &Gate,
    rules: &Rules,
) -> FoundFacts {
    let remembered = Remembered(Arc::clone(last_known));
    let key = if found.key.lacks_an_answer() { find_key(proof, &remembered, gate, rules).await } else { found.key };
    let user = match found.user {
        UserFact::FromStore(Ok(user)) => UserFact::FromStore(Ok(user)),
        UserFact::NotAsked | UserFact::FromStore(Err(_)) => find_user(proof, &key, &remembered, rules).await,
    };
    FoundFacts { key, user, lapsed_for: Some(lapsed_for) }
}

/// The key behind a proof: the file's keys first, then the shelf's.
async fn find_key(proof: &Proof<'_>, facts: &dyn Facts, gate: &Gate, rules: &Rules) -> KeyFact {
    match proof {
        Proof::Nobody | Proof::Principal(_) => KeyFact::NotAsked,
        Proof::OwnKey(own) => find_key_of_id(own.id, facts, rules).await,
        Proof::ForeignKey(text) => find_imported_key(text, facts, gate).await,
        Proof::Token(claims) => match (rules.issuers.get(claims.issuer).map(|issuer| issuer.token_id), &claims.token_id) {
            (Some(TokenId::NamesKey), Some(id)) if names_a_key(id) => find_key_of_id(id, facts, rules).await,
            (Some(TokenId::NamesKey), Some(_)) => KeyFact::FromStore(Ok(None)),
            (Some(TokenId::NamesKey), None) | (Some(TokenId::Ignored) | None, _) => KeyFact::NotAsked,
        },
    }
}

async fn find_key_of_id(id: &str, facts: &dyn Facts, rules: &Rules) -> KeyFact {
    match rules.file_keys.get(id) {
        Some(record) => KeyFact::InFile(Arc::clone(record)),
        None => KeyFact::FromStore(facts.key(id).await),
    }
}

async fn find_imported_key(text: &str, facts: &dyn Facts, gate: &Gate) -> KeyFact {
    let mut found = Ok(None);
    for digest in gate.peppers.imported_digests(text.as_bytes()) {
        found = facts.key_by_digest(&digest).await;
        if !matches!(found, Ok(None)) {
            break;
        }
    }
    KeyFact::FromStore(found)
}

/// The user behind a proof, where one rules: a managed issuer's subject, or a stored key's owner.
async fn find_user(proof: &Proof<'_>, key: &KeyFact, facts: &dyn Facts, rules: &Rules) -> UserFact {
    match proof {
        Proof::Nobody | Proof::Principal(_) => return UserFact::NotAsked,
        Proof::OwnKey(_) | Proof::ForeignKey(_) => {}
        Proof::Token(claims) => match rules.issuers.get(claims.issuer) {
            Some(issuer) if issuer.managed == Managed::Yes => {
                return UserFact::FromStore(facts.user(issuer.source.name.as_str(), claims.subject.as_str()).await);
            }
            Some(_) | None => {}
        },
    }
    match key {
        KeyFact::FromStore(Ok(Some(record))) => UserFact::FromStore(facts.user(rules.local.name.as_str(), record.user.as_str()).await),
        KeyFact::NotAsked | KeyFact::InFile(_) | KeyFact::FromStore(Ok(None) | Err(_)) => UserFact::NotAsked,
    }
}

/// A text outside the grammar of key ids never reaches the shelf.
fn names_a_key(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
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
    let answer = ask(&questions.shared(), gate, rules, now, patience.as_mut()).await;
    let entered = seen.pass(Room::Throttle, enter(questions, answer, rules), tell::entered)?;
    let answer = ask(&questions.own(), gate, rules, now, patience.as_mut()).await;
    seen.pass(Room::Throttle, throttle(questions, entered, answer, rules), tell::admission)
}

async fn ask(takes: &[Take<'_>], gate: &Gate, rules: &Rules, now: Timestamp, patience: Pin<&mut Option<Sleep>>) -> Answered {
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
    match (answer, &gate.local_share) {
        (Err(failure), Some(share)) if is_stood_in_for(rules) => Answered::StoodIn { failure, share: share.take(takes, now).await },
        (answer, _) => Answered::Asked(answer),
    }
}

impl From<Unproven> for Exit {
    fn from(unproven: Unproven) -> Self {
        match unproven {
            Unproven::Denied(denial) => Self::Denied(denial),
            Unproven::KeysMissing(fault) => Self::Failed(fault),
        }
    }
}
