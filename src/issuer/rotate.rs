//! `/v1/keys/{id}/rotate`: a new secret for the same key. The id stays, so counts, limits and what refers to the key stay too.

use axum::body::Body;
use axum::extract::Path;
use axum::extract::State;
use axum::extract::rejection::PathRejection;
use axum::http::HeaderMap;
use axum::response::Response;
use zeroize::Zeroizing;

use crate::issuer::IssuerState;
use crate::issuer::accounts::caps;
use crate::issuer::actor::KEYS;
use crate::issuer::audit::Deed;
use crate::issuer::callers::Asker;
use crate::issuer::events::KeyEvent;
use crate::issuer::events::told;
use crate::issuer::input::Fields;
use crate::issuer::key_tokens;
use crate::issuer::keys::Issued;
use crate::issuer::keys::check_may_change;
use crate::issuer::keys::load;
use crate::issuer::keys::own_display;
use crate::issuer::keys::refuse_revoked;
use crate::issuer::keys::refuse_wider;
use crate::issuer::keys::replace_with;
use crate::issuer::keys::revision_of;
use crate::issuer::names;
use crate::issuer::openapi::answers::Conditional;
use crate::issuer::openapi::answers::Conflicting;
use crate::issuer::openapi::answers::Judged;
use crate::issuer::openapi::answers::Missing;
use crate::issuer::openapi::answers::WithBody;
use crate::issuer::openapi::bodies::RotationBody;
use crate::issuer::parameters::key_id;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::views::Changed;
use crate::issuer::views::KeyView;
use crate::issuer::views::answer_change;
use crate::issuer::views::check_revision;
use crate::model::key::HashAlgorithm;
use crate::model::key::KeySecret;
use crate::model::key_text::key_text;
use crate::secrets::random_bytes;
use crate::store::RecordKey;
use crate::store::Write;
use crate::store::codec::encode_digest_owner;

/// The longest grace.
const GRACE_DAYS_MAX: u64 = 30;

/// Gives a key a new secret. Its id stays, and for the grace the old secret opens too.
#[utoipa::path(post, path = "/v1/keys/{id}/rotate", operation_id = "rotate_key", tag = "keys",
    params(("id" = String, Path, description = "Of the key."), ("if-match" = Option<String>, Header, description = "The `etag` of what was read.")),
    request_body = RotationBody,
    responses(
        (status = 200, description = "The key, with its new text.", body = Issued<'_>, headers(("etag"))),
        (status = 202, description = "The same; no replica has confirmed it yet.", body = Changed<Issued<'_>>, headers(("etag"))),
        Judged, WithBody, Missing, Conflicting, Conditional
    ))]
pub(in crate::issuer) async fn rotate(
    State(state): State<IssuerState>,
    asker: Asker,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    told(&state, KeyEvent::Rotated, rotate_one(&state, &asker, id, &headers, body)).await
}

async fn rotate_one(
    state: &IssuerState,
    asker: &Asker,
    id: Result<Path<String>, PathRejection>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let id = key_id(id)?;
    let mut fields = Fields::read(headers, body).await?;
    let now = state.clock.now();
    let read_grace = |value: &_| names::length(value).filter(|grace| grace.as_secs() <= GRACE_DAYS_MAX * 86_400);
    let expected = "must be from \"0s\" (the old secret ends now) to \"30d\"";
    let grace = fields.required("grace", read_grace, expected)?;
    let expires = names::expiry(&mut fields, now)?;
    fields.finish()?;
    let (mut record, revision) = load(state, &asker.actor, &id).await?;
    let before = record.clone();
    check_revision(headers, revision)?;
    refuse_revoked(&record)?;
    check_may_change(&asker.actor, &record)?;
    if record.id.as_str().len() != 12 {
        return Err(Problem::new(Code::Conflict, "a key with an id of this form cannot carry a new secret; create another one"));
    }
    let reach = asker.actor.reach(KEYS)?;
    let was_over = record.expires.is_some_and(|expires| expires <= now);
    expires.apply(&mut record.expires);
    if was_over {
        caps::check_keys(state, &reach, &record.user, now).await?;
    }
    refuse_wider(state, &asker.actor, &reach, &record).await?;
    let rules = state.rules.load_full();
    let secret = Zeroizing::new(random_bytes::<32>()?);
    let text = key_text(&rules.key_brand, record.environment, &record.id, &secret);
    let mut secrets = vec![KeySecret { hash: state.peppers.hash(text.as_bytes()), retires: None }];
    let mut writes = Vec::new();
    for (position, mut old) in record.secrets.drain(..).enumerate() {
        // One old secret at a time: what was already on its way out ends with this rotation.
        let stays = position == 0 && !grace.is_zero();
        let retires = now.plus(grace);
        if old.hash.algorithm == HashAlgorithm::HmacOfSha256 {
            let key = RecordKey::digest(&old.hash.digest);
            let bytes = encode_digest_owner(&record.id);
            writes.push(if stays { Write::Put { key, bytes, expires: Some(retires) } } else { Write::Remove(key) });
        }
        if stays {
            old.retires = Some(retires);
            secrets.push(old);
        }
    }
    record.secrets = secrets;
    record.display = own_display(&rules, record.environment, &record.id);
    let mut preconditions = Vec::new();
    // A token that the old secret was traded for ends with it.
    if let Some((precondition, write)) = key_tokens::until_rotated(state, &record.id, now.plus(grace), now).await? {
        preconditions.push(precondition);
        writes.push(write);
    }
    let outcome = replace_with(state, &record, revision, (preconditions, writes), now).await?;
    tracing::info!(key = %record.id, grace_seconds = grace.as_secs(), "key rotated");
    asker.note_change(state, Deed::KeyRotated, (&before, &record), now).await;
    let revision = revision_of(state, &record.id).await;
    let view = KeyView::new(&record, revision, state, now).await;
    Ok(answer_change(&outcome, revision, Issued { key: &text, view }))
}
