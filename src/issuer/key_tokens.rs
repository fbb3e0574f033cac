//! Seed 003's short-lived tokens: a key is traded for one, and asked again it gives the same one with its life reset, up to an end that
//! nothing moves. The token refers to the key and carries no authority, so whatever happens to the key happens to it at once.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::check::identify_caller::identify_key;
use crate::issuer::IssuerState;
use crate::issuer::actor::Actor;
use crate::issuer::audit::Deed;
use crate::issuer::callers::Asker;
use crate::issuer::callers::address_of;
use crate::issuer::checks::Check;
use crate::issuer::checks::hold;
use crate::issuer::checks::run;
use crate::issuer::input::Fields;
use crate::issuer::names;
use crate::issuer::openapi::answers::Conflicting;
use crate::issuer::openapi::answers::Judged;
use crate::issuer::openapi::answers::Missing;
use crate::issuer::openapi::answers::WithBody;
use crate::issuer::openapi::bodies::HeldKeyBody;
use crate::issuer::problem::Code;
use crate::issuer::problem::Hint;
use crate::issuer::problem::Problem;
use crate::issuer::users::LOCAL;
use crate::issuer::views::show_time;
use crate::listen::http::Peer;
use crate::model::caller::Caller;
use crate::model::grant::GrantEnd;
use crate::model::grant::GrantId;
use crate::model::grant::GrantOf;
use crate::model::grant::GrantRecord;
use crate::model::grant::GrantState;
use crate::model::handle::HandleKind;
use crate::model::issuance::Issuance;
use crate::model::key::KeyId;
use crate::model::key::KeyState;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;
use crate::store::Precondition;
use crate::store::RecordKey;
use crate::store::Write;
use crate::store::codec::Shelved as _;
use crate::store::codec::decode_key;
use crate::store::codec::decode_user;

/// How often an ask that loses a race is judged again. Whoever loses finds the winner's token, so few ever lose twice.
const ATTEMPTS: usize = 16;
/// How much longer than its token a record is kept.
const KEPT_AFTER: Duration = Duration::from_secs(86_400);
/// An ask so soon after another one writes nothing.
const SLACK: Duration = Duration::from_secs(1);

/// A key's token.
#[derive(Debug)]
pub struct KeyToken {
    pub text: Zeroizing<String>,
    pub expires: Timestamp,
    /// Nothing moves it beyond this.
    pub ends: Timestamp,
}

#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = KeyToken)]
struct TokenView<'a> {
    token: &'a str,
    token_type: &'static str,
    expires_in: u64,
    #[schema(format = DateTime)]
    expires_at: String,
    /// However often it is asked for.
    #[schema(format = DateTime)]
    ends_at: String,
}

/// Trades a key for a short-lived token. Asked again while it lives, it is the same one, its life reset.
#[utoipa::path(post, path = "/v1/keys/self/token", operation_id = "trade_key", tag = "keys", security(()), request_body = HeldKeyBody,
    responses((status = 200, description = "The token.", body = TokenView<'_>), Judged, WithBody, Missing, Conflicting))]
pub(in crate::issuer) async fn trade(
    State(state): State<IssuerState>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let address = address_of(&headers, peer.as_deref(), &state.rules.load());
    let mut fields = Fields::read(&headers, body).await?;
    let text = |value: &_| names::text(value).map(|text| Zeroizing::new(text.to_owned()));
    let key = fields.required("key", text, "must be the text of a key")?;
    fields.finish()?;
    let now = state.clock.now();
    let token = token_for_key(&state, &key, address, now).await?;
    let view = TokenView {
        token: &token.text,
        token_type: "Agent",
        expires_in: token.expires.since(now).as_secs(),
        expires_at: show_time(token.expires),
        ends_at: show_time(token.ends),
    };
    Ok((StatusCode::OK, Json(view)).into_response())
}

/// The token of the key with this text: the one that lives, its life reset, or a new one.
///
/// # Errors
/// A text that opens nothing (401, limited by address), a deployment that issues nothing (404), a store that does not answer.
pub async fn token_for_key(state: &IssuerState, key_text: &str, address: Option<IpAddr>, now: Timestamp) -> Result<KeyToken, Problem> {
    let rules = state.rules.load_full();
    let issuance =
        rules.issuance.clone().ok_or_else(|| Problem::new(Code::NotFound, "nothing is issued here: the config has no `issuer` section"))?;
    let caller = identify_key(key_text, address, &state.gate, &rules, now).await?;
    let key = caller.key.clone().ok_or_else(|| Problem::new(Code::Unauthenticated, "the credential is no key"))?;
    let id = GrantId::of_key(&key);
    let valid_from = valid_from(state, &caller).await?;
    for _attempt in 0..ATTEMPTS {
        let mut preconditions = standing(state, &rules, &key, key_text, now).await?;
        let place = GrantRecord::place(id.as_str());
        let stored = state.records.get(&place).await?.filter(|stored| stored.is_alive(now));
        let known =
            stored.map(|stored| Ok::<_, Problem>((GrantRecord::decode(id.as_str(), &stored.bytes)?, stored.version))).transpose()?;
        let (precondition, record, is_news) = match known {
            None => (Precondition::Absent(place), fresh(&id, &key, &caller, &issuance, state, None, now), true),
            Some((old, version)) => {
                let precondition = Precondition::AtVersion(place, version);
                let is_ours = state.peppers.ids().any(|id| *id == *old.pepper);
                let known = Known { old, caller: Arc::clone(&caller), valid_from, is_ours, now };
                match again(&known, &issuance) {
                    Some(slid) if is_as_good(&known.old, &slid) => return token_of(state, &known.old, &rules.key_brand),
                    Some(slid) => (precondition, slid, false),
                    None => (precondition, fresh(&id, &key, &caller, &issuance, state, Some(&known.old), now), true),
                }
            }
        };
        let token = token_of(state, &record, &rules.key_brand)?;
        let write =
            Write::Put { key: GrantRecord::place(id.as_str()), bytes: record.encode(), expires: Some(record.ends.plus(KEPT_AFTER)) };
        preconditions.push(precondition);
        if state.records.commit(preconditions, vec![write], now).await?.is_done() {
            if is_news {
                tracing::info!(key = %key, generation = record.generation, "a key was traded for a token");
                let asker = Asker { actor: Actor::Caller(Arc::clone(&caller)), address, request_id: None };
                asker.note(state, Deed::TokenIssued, key.as_str(), caller.organization.as_deref(), now).await;
            }
            return Ok(token);
        }
    }
    Err(Problem::changed_meanwhile())
}

/// A key whose text was judged a moment ago, as it is now.
struct Stand {
    is_active: bool,
    /// Whether the text is a living secret's of it.
    is_shown: bool,
}

const STANDING: [Check<Stand>; 2] = [
    Check { name: "the key is active", run: |stand| hold(stand.is_active) },
    Check { name: "the text is a living secret's", run: |stand| hold(stand.is_shown) },
];

/// The key must still be as it was when its text was judged: a rotation or a revocation at the same moment is not outrun.
async fn standing(state: &IssuerState, rules: &Rules, key: &KeyId, text: &str, now: Timestamp) -> Result<Vec<Precondition>, Problem> {
    if rules.file_keys.contains_key(key.as_str()) {
        return Ok(Vec::new());
    }
    let gone = || Problem { hint: Hint::InvalidToken, ..Problem::new(Code::InvalidCredential, "The credential is not valid") };
    let place = RecordKey::key(key.as_str());
    let stored = state.records.get(&place).await?.ok_or_else(gone)?;
    let record = decode_key(key.as_str(), &stored.bytes)?;
    let mut living = record.secrets.iter().filter(|secret| secret.retires.is_none_or(|retires| now < retires));
    let is_shown = living.any(|secret| state.peppers.matches(text.as_bytes(), &secret.hash));
    run(&STANDING, &Stand { is_active: record.state == KeyState::Active, is_shown }).map_err(|_unmet| gone())?;
    Ok(vec![Precondition::AtVersion(place, stored.version)])
}

/// What a rotation of the key does to its token: it lives on until the old secret ends, and no longer.
///
/// # Errors
/// A store that does not answer.
pub(in crate::issuer) async fn until_rotated(
    state: &IssuerState,
    key: &KeyId,
    retires: Timestamp,
    now: Timestamp,
) -> Result<Option<(Precondition, Write)>, Problem> {
    let id = GrantId::of_key(key);
    let place = GrantRecord::place(id.as_str());
    let Some(stored) = state.records.get(&place).await?.filter(|stored| stored.is_alive(now)) else { return Ok(None) };
    let mut record = GrantRecord::decode(id.as_str(), &stored.bytes)?;
    if !record.is_live(now) {
        return Ok(None);
    }
    record.ends = record.ends.min(retires);
    record.idle_until = record.idle_until.min(record.ends);
    if record.ends <= now {
        record.state = GrantState::Ended { at: now, why: GrantEnd::Revoked };
    }
    let write = Write::Put { key: place.clone(), bytes: record.encode(), expires: stored.expires };
    Ok(Some((Precondition::AtVersion(place, stored.version), write)))
}

/// The token that a key has, and who asks for it again.
struct Known {
    old: GrantRecord,
    caller: Arc<Caller>,
    /// From when on tokens of its user are good.
    valid_from: Option<Timestamp>,
    /// Whether we still have the pepper that it was made under.
    is_ours: bool,
    now: Timestamp,
}

const SAME: [Check<Known>; 5] = [
    Check { name: "the token lives", run: |known| hold(known.old.is_live(known.now)) },
    Check { name: "the token is this user's", run: |known| hold(known.old.user() == Some(&known.caller.subject)) },
    Check { name: "the token is of this organisation", run: |known| hold(known.old.organization == known.caller.organization) },
    Check { name: "its user's tokens of then are good", run: |known| hold(known.valid_from.is_none_or(|from| known.old.advanced >= from)) },
    Check { name: "its pepper is still there", run: |known| hold(known.is_ours) },
];

/// The record of the same token with its life reset; none: that token is over.
fn again(known: &Known, issuance: &Issuance) -> Option<GrantRecord> {
    let Known { old, caller, now, .. } = known;
    run(&SAME, known).ok()?;
    Some(GrantRecord {
        scopes: Arc::new(caller.scopes.without_reserved()),
        resources: resources(issuance),
        idle_until: now.plus(issuance.lifetimes.key_token).min(old.ends),
        ..old.clone()
    })
}

/// Whether what stands differs by nothing that matters.
fn is_as_good(old: &GrantRecord, slid: &GrantRecord) -> bool {
    old.idle_until.plus(SLACK) >= slid.idle_until && old.scopes == slid.scopes && old.resources == slid.resources
}

/// A token that never was before: its generation is the second in which it is made, or later, so that no text ever comes back to life,
/// not even when the record of the one before it is long forgotten.
fn fresh(
    id: &GrantId,
    key: &KeyId,
    caller: &Caller,
    issuance: &Issuance,
    state: &IssuerState,
    old: Option<&GrantRecord>,
    now: Timestamp,
) -> GrantRecord {
    let ends = now.plus(issuance.lifetimes.key_token_absolute);
    let after_the_last = old.map_or(0, |old| old.generation.saturating_add(1));
    let of = GrantOf::Key { key: key.clone(), user: caller.subject.clone() };
    GrantRecord {
        organization: caller.organization.clone(),
        scopes: Arc::new(caller.scopes.without_reserved()),
        resources: resources(issuance),
        generation: u32::try_from(now.unix_seconds()).unwrap_or(u32::MAX).max(after_the_last),
        idle_until: now.plus(issuance.lifetimes.key_token).min(ends),
        ..GrantRecord::new(id.clone(), of, caller.environment, state.peppers.current_id(), now, ends)
    }
}

fn resources(issuance: &Issuance) -> Vec<Arc<str>> {
    issuance.resources.iter().map(|resource| Arc::clone(&resource.uri)).collect()
}

/// From when on tokens of the key's user are good.
async fn valid_from(state: &IssuerState, caller: &Caller) -> Result<Option<Timestamp>, Problem> {
    let place = RecordKey::user(LOCAL, caller.subject.as_str());
    let Some(stored) = state.records.get(&place).await? else { return Ok(None) };
    Ok(decode_user(&place.id, &stored.bytes)?.valid_from)
}

fn token_of(state: &IssuerState, record: &GrantRecord, brand: &str) -> Result<KeyToken, Problem> {
    let text = state.peppers.handle(brand, HandleKind::Access, record.id.as_str(), record.generation, &record.pepper)?;
    Ok(KeyToken { text, expires: record.idle_until, ends: record.ends })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock as _;
    use crate::issuer::checks::assert_each_is_needed;
    use crate::issuer::tests::Issuer;
    use crate::model::caller::Subject;

    // oauth: T10
    #[tokio::test]
    async fn every_check_of_a_keys_token_holds_something_up() {
        let stand = |is_active, is_shown| Stand { is_active, is_shown };
        let rows = [("the key is active", stand(false, true)), ("the text is a living secret's", stand(true, false))];
        run(&STANDING, &stand(true, true)).unwrap();
        assert_each_is_needed(|| STANDING, &rows);
        let issuer = Issuer::issuing(|_| {});
        let (id, key) = issuer.key_of("abe", "acme", &["orders:read"]).await;
        let (caller, now) = (issuer.judge(&key).await.unwrap(), issuer.clock.now());
        token_for_key(&issuer.state, &key, None, now).await.unwrap();
        let grant = GrantId::of_key(&KeyId::new(&id));
        let stored = issuer.records.get(&GrantRecord::place(grant.as_str())).await.unwrap().unwrap();
        let old = GrantRecord::decode(grant.as_str(), &stored.bytes).unwrap();
        let known = |change: fn(&mut Known)| {
            let mut known = Known { old: old.clone(), caller: Arc::clone(&caller), valid_from: Some(now), is_ours: true, now };
            change(&mut known);
            known
        };
        let someone = |change: fn(&mut Caller)| {
            let mut known = known(|_| {});
            change(Arc::make_mut(&mut known.caller));
            known
        };
        let rows = [
            ("the token lives", known(|known| known.now = known.old.idle_until)),
            ("the token lives", known(|known| known.old.ends = known.now)),
            ("the token lives", known(|known| known.old.state = GrantState::Ended { at: known.now, why: GrantEnd::Revoked })),
            ("the token is this user's", someone(|caller| caller.subject = Subject::parse("bea").unwrap())),
            ("the token is of this organisation", someone(|caller| caller.organization = None)),
            ("its user's tokens of then are good", known(|known| known.valid_from = Some(known.now.plus(SLACK)))),
            ("its pepper is still there", known(|known| known.is_ours = false)),
        ];
        run(&SAME, &known(|_| {})).unwrap();
        assert_each_is_needed(|| SAME, &rows);
    }
}
