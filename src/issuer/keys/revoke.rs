//! `DELETE /v1/keys/{id}`: the end of a key.

use axum::extract::Path;
use axum::extract::State;
use axum::extract::rejection::PathRejection;
use axum::http::HeaderMap;
use axum::response::Response;

use crate::issuer::IssuerState;
use crate::issuer::actor::KEYS;
use crate::issuer::audit::Deed;
use crate::issuer::callers::Asker;
use crate::issuer::events::KeyEvent;
use crate::issuer::events::told;
use crate::issuer::keys::ATTEMPTS;
use crate::issuer::keys::load;
use crate::issuer::keys::replace;
use crate::issuer::keys::revision_of;
use crate::issuer::openapi::answers::Conditional;
use crate::issuer::openapi::answers::Conflicting;
use crate::issuer::openapi::answers::Judged;
use crate::issuer::openapi::answers::Missing;
use crate::issuer::parameters::key_id;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::views::Changed;
use crate::issuer::views::KeyView;
use crate::issuer::views::Row;
use crate::issuer::views::Unreadable;
use crate::issuer::views::answer_change;
use crate::issuer::views::check_revision;
use crate::model::key::KeyState;
use crate::model::time::Timestamp;
use crate::store::RecordKey;
use crate::store::Write;

/// Revoking stays: the record remains as a tombstone, and nothing makes it active again.
#[utoipa::path(delete, path = "/v1/keys/{id}", operation_id = "revoke_key", tag = "keys",
    params(("id" = String, Path, description = "Of the key."), ("if-match" = Option<String>, Header, description = "The `etag` of what was read.")),
    responses(
        (status = 200, description = "The key, which opens nothing any more.", body = Row<KeyView>, headers(("etag"))),
        (status = 202, description = "The same; no replica has confirmed it yet.", body = Changed<KeyView>, headers(("etag"))),
        Judged, Missing, Conflicting, Conditional
    ))]
pub(in crate::issuer) async fn revoke(
    State(state): State<IssuerState>,
    asker: Asker,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    told(&state, KeyEvent::Revoked, revoke_one(&state, &asker, id, &headers)).await
}

async fn revoke_one(
    state: &IssuerState,
    asker: &Asker,
    id: Result<Path<String>, PathRejection>,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let id = key_id(id)?;
    let now = state.clock.now();
    let is_operator = asker.actor.reach(KEYS)?.is_operators();
    for _attempt in 0..ATTEMPTS {
        let (mut record, revision) = match load(state, &asker.actor, &id).await {
            Ok(found) => found,
            Err(problem) if problem.code == Code::CorruptRecord && is_operator => return remove_unreadable(state, asker, &id, now).await,
            Err(problem) => return Err(problem),
        };
        check_revision(headers, revision)?;
        let is_news = record.state != KeyState::Revoked;
        record.state = KeyState::Revoked;
        // A revocation is not put off by a change at the same time: it is judged again on top of that. One that stands already is
        // written once more, so that whoever was told that no replica has it learns by asking again that one has.
        let outcome = match replace(state, &record, revision, Vec::new(), now).await {
            Ok(outcome) => outcome,
            Err(problem) if problem.code == Code::Conflict => continue,
            Err(problem) => return Err(problem),
        };
        if is_news {
            tracing::info!(key = %record.id, "key revoked");
            asker.note(state, Deed::KeyRevoked, record.id.as_str(), record.organization.as_deref(), now).await;
        }
        let revision = revision_of(state, &record.id).await;
        return Ok(answer_change(&outcome, revision, KeyView::new(&record, revision, state, now).await));
    }
    Err(Problem::changed_meanwhile())
}

/// A key whose record cannot be read opens nothing; without its record it is unknown, which opens nothing either.
async fn remove_unreadable(state: &IssuerState, asker: &Asker, id: &str, now: Timestamp) -> Result<Response, Problem> {
    let outcome = state.records.commit(Vec::new(), vec![Write::Remove(RecordKey::key(id))], now).await?;
    asker.note(state, Deed::KeyRevoked, id, None, now).await;
    tracing::warn!(key = id, "a key whose record could not be read was removed");
    Ok(answer_change(&outcome, 0, Unreadable { id: id.to_owned(), state: "removed" }))
}
