//! Who calls a door of ours, by the rooms of the gate: from what the request shows to who it is. Nothing is limited and nothing counted
//! here: that was done when the request came through the gate, where such routes are public.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::LazyLock;

use crate::check::Gate;
use crate::check::decide::Denial;
use crate::check::decide::Exit;
use crate::check::decide::Fault;
use crate::check::find_facts::find_facts;
use crate::check::find_route::Found;
use crate::check::prove::prove;
use crate::check::reasons::Reason;
use crate::check::recognise;
use crate::check::resolve::KeyFact;
use crate::check::seen::Seen;
use crate::check::take_credential::Shown;
use crate::check::take_credential::show_key;
use crate::check::take_credential::take_credential;
use crate::model::caller::Caller;
use crate::model::key::KeyRecord;
use crate::model::request::Request;
use crate::model::route::Answerer;
use crate::model::route::Auth;
use crate::model::route::ClientRequestId;
use crate::model::route::Cors;
use crate::model::route::CountAs;
use crate::model::route::CredentialUpstream;
use crate::model::route::Ending;
use crate::model::route::ErrorFormat;
use crate::model::route::Matcher;
use crate::model::route::MatrixParameters;
use crate::model::route::PathTemplate;
use crate::model::route::QueryToken;
use crate::model::route::Route;
use crate::model::route::ScopeDemand;
use crate::model::route::Upgrades;
use crate::model::route::Versioned;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;
use crate::store::StoreError;

/// What the rooms are told about our own door: a credential is read where one is shown, from headers alone.
static DOOR: LazyLock<Route> = LazyLock::new(|| Route {
    name: Arc::from("issuer"),
    matcher: Matcher { host: None, port: None, path: PathTemplate { segments: Vec::new(), ending: Ending::Rest }, methods: Vec::new() },
    auth: Auth::Optional,
    scopes: ScopeDemand::default(),
    tenant: None,
    environments: Vec::new(),
    versioned: Versioned::No,
    cost: 1,
    limits: Vec::new(),
    count_as: CountAs::RouteName,
    errors: ErrorFormat::Standard,
    credential_upstream: CredentialUpstream::Kept,
    query_token: QueryToken::Refused,
    cors: Cors::Ordinary,
    upgrades: Upgrades::Refused,
    matrix_parameters: MatrixParameters::Stripped,
    request_id: ClientRequestId::Replaced,
    answer: Answerer::Upstream,
});

/// Who sends this request to a door of ours; none: it shows no credential.
///
/// # Errors
/// Those of the rooms; and a fault where only memory knows the caller, for what is done at our own doors outlasts a request.
pub async fn identify_caller<'r>(
    request: &'r Request<'r>,
    gate: &'r Gate,
    rules: &'r Rules,
    now: Timestamp,
) -> Result<Option<Arc<Caller>>, Exit> {
    let found = Found::at_our_door(&DOOR, request);
    let shown = take_credential(request, &found, rules)?;
    judge(&shown, request.client_address(rules.trusted_hops), gate, rules, now).await
}

/// Whom this key's text makes its holder, wherever in the request it stood.
///
/// # Errors
/// As [`identify_caller`]; a text that is no key is a denial.
pub async fn identify_key(text: &str, client: Option<IpAddr>, gate: &Gate, rules: &Rules, now: Timestamp) -> Result<Arc<Caller>, Exit> {
    let shown = show_key(text, rules)?;
    let caller = judge(&shown, client, gate, rules, now).await?;
    caller.ok_or_else(|| Denial::new(Reason::UnknownKey).into())
}

/// The key that this text is a living secret of, whatever else is wrong with the key: whoever holds the text may end it. A text that opens
/// nothing counts as a failed guess.
///
/// # Errors
/// 429 where too much failed before; a record that cannot be read; a shelf that gives no answer.
pub async fn find_held_key(
    text: &str,
    client: Option<IpAddr>,
    gate: &Gate,
    rules: &Rules,
    now: Timestamp,
) -> Result<Option<Arc<KeyRecord>>, Exit> {
    let Ok(shown) = show_key(text, rules) else { return Ok(None) };
    gate.guard.judge(&shown, client, &rules.guard, now)?;
    let proof = prove(&shown, rules, &gate.tokens, &gate.peppers, now)?;
    let found = match find_facts(&proof, gate, rules).await.key {
        KeyFact::InFile(record) => Some(record),
        KeyFact::FromStore(Ok(found)) => found,
        KeyFact::FromStore(Err(StoreError::Corrupt { .. })) => return Err(Denial::new(Reason::CorruptRecord).into()),
        KeyFact::FromStore(Err(StoreError::Unavailable(why))) => return Err(Fault::new(Reason::StoreUnavailable, why).into()),
        KeyFact::NotAsked => None,
    };
    let is_held = |record: &Arc<KeyRecord>| {
        let mut living = record.secrets.iter().filter(|secret| secret.retires.is_none_or(|retires| now < retires));
        living.any(|secret| gate.peppers.matches(text.as_bytes(), &secret.hash))
    };
    let held = found.filter(is_held);
    if held.is_none() {
        gate.guard.record_failure(&shown, client, &rules.guard, now);
    }
    Ok(held)
}

async fn judge(shown: &Shown<'_>, client: Option<IpAddr>, gate: &Gate, rules: &Rules, now: Timestamp) -> Result<Option<Arc<Caller>>, Exit> {
    let mut seen = Seen::default();
    let recognised = recognise(shown, client, gate, rules, &mut seen, now).await;
    match (recognised, seen.lapsed_for) {
        (Ok(Some(_)), Some(_)) => Err(Fault::new(Reason::StoreUnavailable, "the store does not answer").into()),
        (recognised, _) => recognised,
    }
}
