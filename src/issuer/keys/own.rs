//! What a key says of itself, and how whoever finds a leaked one ends it.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::response::Response;

use crate::check::identify_caller::find_held_key;
use crate::issuer::IssuerState;
use crate::issuer::actor::Actor;
use crate::issuer::audit::Deed;
use crate::issuer::callers::Asker;
use crate::issuer::callers::RequestId;
use crate::issuer::callers::address_of;
use crate::issuer::events::KeyEvent;
use crate::issuer::events::told;
use crate::issuer::input::Fields;
use crate::issuer::keys::ATTEMPTS;
use crate::issuer::keys::replace;
use crate::issuer::keys::stands_in_the_file;
use crate::issuer::names;
use crate::issuer::openapi::answers::Conflicting;
use crate::issuer::openapi::answers::Judged;
use crate::issuer::openapi::answers::Limited;
use crate::issuer::openapi::answers::Missing;
use crate::issuer::openapi::answers::WithBody;
use crate::issuer::openapi::bodies::HeldKeyBody;
use crate::issuer::openapi::schemas::Unconfirmed;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::views::KeyView;
use crate::issuer::views::answer;
use crate::issuer::views::answer_removal;
use crate::listen::http::Peer;
use crate::model::caller::Caller;
use crate::model::caller::ProvenBy;
use crate::model::caller::UserId;
use crate::model::key::HashAlgorithm;
use crate::model::key::KeyRecord;
use crate::model::key::KeyState;
use crate::model::rules::Rules;
use crate::store::RecordKey;
use crate::store::Write;
use crate::store::codec::decode_key;

/// The key that was shown.
#[utoipa::path(get, path = "/v1/keys/self", operation_id = "show_own_key", tag = "keys",
    responses((status = 200, description = "The key that was shown.", body = KeyView, headers(("etag"))), Judged, Missing))]
pub(in crate::issuer) async fn show_own(State(state): State<IssuerState>, asker: Asker) -> Result<Response, Problem> {
    let shown = match &asker.actor {
        Actor::Caller(caller) => caller.key.clone(),
        Actor::Operator | Actor::Person(_) => None,
    };
    let Some(id) = shown else {
        return Err(Problem::new(Code::NotFound, "the credential of this request is no key"));
    };
    let now = state.clock.now();
    if let Some(record) = state.rules.load().file_keys.get(id.as_str()).cloned() {
        return Ok(answer(StatusCode::OK, 0, KeyView::new(&record, 0, &state, now).await));
    }
    let stored = state.records.get(&RecordKey::key(id.as_str())).await?;
    let stored = stored.ok_or_else(|| Problem::new(Code::NotFound, "the key is gone"))?;
    let record = decode_key(id.as_str(), &stored.bytes)?;
    Ok(answer(StatusCode::OK, stored.version, KeyView::new(&record, stored.version, &state, now).await))
}

/// Ends what this text opens: the key, or where it is a secret of before a rotation that one alone.
#[utoipa::path(post, path = "/v1/keys/self/revoke", operation_id = "revoke_own_key", tag = "keys", security(()), request_body = HeldKeyBody,
    responses(
        (status = 204, description = "The text opens nothing any more."),
        (status = 202, description = "The same; no replica has confirmed it yet.", body = Unconfirmed),
        Limited, WithBody, Missing, Conflicting
    ))]
pub(in crate::issuer) async fn revoke_own(
    State(state): State<IssuerState>,
    peer: Option<Extension<Peer>>,
    request_id: Option<Extension<RequestId>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let address = address_of(&headers, peer.as_deref(), &state.rules.load());
    let request_id = request_id.map(|Extension(id)| id);
    told(&state, KeyEvent::Revoked, async {
        let mut fields = Fields::read(&headers, body).await?;
        let text = fields.required("key", |value| names::text(value).map(str::to_owned), "must be the text of a key")?;
        let text = zeroize::Zeroizing::new(text);
        fields.finish()?;
        let now = state.clock.now();
        let rules = state.rules.load_full();
        for _attempt in 0..ATTEMPTS {
            let Some(known) = find_held_key(&text, address, &state.gate, &rules, now).await? else {
                return Err(Problem::new(Code::NotFound, "this text opens nothing"));
            };
            if rules.file_keys.contains_key(known.id.as_str()) {
                return Err(stands_in_the_file());
            }
            let stored = state.records.get(&RecordKey::key(known.id.as_str())).await?;
            let stored = stored.ok_or_else(|| Problem::new(Code::NotFound, "this text opens nothing"))?;
            let mut record = decode_key(known.id.as_str(), &stored.bytes)?;
            let Some(position) = record.secrets.iter().position(|secret| state.peppers.matches(text.as_bytes(), &secret.hash)) else {
                return Err(Problem::new(Code::NotFound, "this text opens nothing"));
            };
            let mut writes = Vec::new();
            if position == 0 {
                record.state = KeyState::Revoked;
            } else {
                let ended = record.secrets.remove(position);
                if ended.hash.algorithm == HashAlgorithm::HmacOfSha256 {
                    writes.push(Write::Remove(RecordKey::digest(&ended.hash.digest)));
                }
            }
            match replace(&state, &record, stored.version, writes, now).await {
                Ok(outcome) => {
                    tracing::info!(key = %record.id, "key revoked by whoever holds it");
                    let asker = Asker { actor: holder(&record, &rules), address, request_id };
                    asker.note(&state, Deed::KeyRevoked, record.id.as_str(), record.organization.as_deref(), now).await;
                    return Ok(answer_removal(&outcome));
                }
                Err(problem) if problem.code == Code::Conflict => {}
                Err(problem) => return Err(problem),
            }
        }
        Err(Problem::changed_meanwhile())
    })
    .await
}

/// Whoever showed this key's text: it is all that is known of them.
fn holder(record: &KeyRecord, rules: &Rules) -> Actor {
    Actor::Caller(Arc::new(Caller {
        proven_by: ProvenBy::Key,
        user: UserId::new(&rules.local.name, &record.user, rules.local.namespace),
        source: rules.local.name.clone(),
        subject: record.user.clone(),
        issuer: None,
        organization: record.organization.clone(),
        key: Some(record.id.clone()),
        client: None,
        scopes: Arc::default(),
        tier: None,
        environment: record.environment,
        pinned_version: None,
        key_rate_limit: None,
        expires: None,
    }))
}
