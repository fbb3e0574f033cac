//! `/v1/keys`: the whole life of a key.

pub(in crate::issuer) mod revoke;

pub(in crate::issuer) mod bounds;
pub(in crate::issuer) mod change;
mod draft;
mod file_entry;
mod list;
mod own;
pub(in crate::issuer) mod owner;

use std::sync::LazyLock;

use axum::body::Body;
use axum::extract::Path;
use axum::extract::State;
use axum::extract::rejection::PathRejection;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::issuer::IssuerState;
use crate::issuer::actor::Actor;
use crate::issuer::actor::KEYS;
use crate::issuer::audit::Deed;
use crate::issuer::callers::Asker;
use crate::issuer::checks::Check;
use crate::issuer::checks::run;
use crate::issuer::events::KeyEvent;
use crate::issuer::events::told;
use crate::issuer::import;
use crate::issuer::input::Fields;
use crate::issuer::key_tokens;
use crate::issuer::once::Once;
use crate::issuer::openapi::answers::Conflicting;
use crate::issuer::openapi::answers::Judged;
use crate::issuer::openapi::answers::Missing;
use crate::issuer::openapi::answers::WithBody;
use crate::issuer::openapi::bodies::NewKeyBody;
use crate::issuer::openapi::bodies::Repeatable;
use crate::issuer::parameters::key_id;
use crate::issuer::parameters::no_such_key;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::rotate;
use crate::issuer::views::KeyView;
use crate::issuer::views::answer;
use crate::model::caller::Subject;
use crate::model::key::KeyId;
use crate::model::key::KeyRecord;
use crate::model::key::KeyState;
use crate::model::key::SecretHash;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::store::Committed;
use crate::store::Precondition;
use crate::store::RecordKey;
use crate::store::Write;
use crate::store::codec::decode_key;
use crate::store::codec::encode_key;

pub(in crate::issuer) use crate::issuer::keys::bounds::check_may_change;
pub(in crate::issuer) use crate::issuer::keys::bounds::refuse_unbound;
pub(in crate::issuer) use crate::issuer::keys::bounds::refuse_wider;
pub(in crate::issuer) use crate::issuer::keys::draft::Draft;
pub(in crate::issuer) use crate::issuer::keys::draft::NewKey;
pub(in crate::issuer) use crate::issuer::keys::draft::own_display;
pub(in crate::issuer) use crate::issuer::keys::file_entry::file_entry;
pub(in crate::issuer) use crate::issuer::keys::owner::owner_of_new_key;

/// How often a change that loses a race is judged again before its caller is asked to.
pub(in crate::issuer) const ATTEMPTS: usize = 4;

/// What whoever holds a key's text may do with it, recognised or not.
pub(in crate::issuer) fn public_router() -> OpenApiRouter<IssuerState> {
    OpenApiRouter::new().routes(routes!(own::revoke_own)).routes(routes!(key_tokens::trade))
}

/// `/v1/keys`, for whoever is recognised.
pub(in crate::issuer) fn resources() -> OpenApiRouter<IssuerState> {
    OpenApiRouter::new()
        .routes(routes!(list::list, create))
        .routes(routes!(import::import))
        .routes(routes!(own::show_own))
        .routes(routes!(show, change::change, revoke::revoke))
        .routes(routes!(rotate::rotate))
}

/// A key with its secret: the one answer that has it.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = IssuedKey)]
pub(in crate::issuer) struct Issued<'a> {
    pub key: &'a str,
    #[serde(flatten)]
    pub view: KeyView,
}

/// Makes a key. Its text is in this answer and nowhere else.
#[utoipa::path(post, path = "/v1/keys", operation_id = "create_key", tag = "keys", request_body = NewKeyBody, params(Repeatable),
    responses((status = 201, description = "The key, with its text.", body = Issued<'_>, headers(("etag"))), Judged, WithBody, Missing, Conflicting))]
pub(in crate::issuer) async fn create(
    State(state): State<IssuerState>,
    asker: Asker,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    told(&state, KeyEvent::Created, create_one(&state, &asker, &headers, body)).await
}

async fn create_one(state: &IssuerState, asker: &Asker, headers: &HeaderMap, body: Body) -> Result<Response, Problem> {
    let mut fields = Fields::read(headers, body).await?;
    let once = Once::read(&asker.actor, headers, "keys", &fields)?;
    let draft = Draft::read(&mut fields, &state.rules.load(), &asker.actor, state.clock.now())?;
    fields.finish()?;
    let (new, revision) = issue(state, asker, draft, &once).await?;
    let view = KeyView::new(&new.record, revision, state, state.clock.now()).await;
    Ok(answer(StatusCode::CREATED, revision, Issued { key: &new.text, view }))
}

/// Makes and keeps a key as drafted, if this one may; the revision under which it lies.
///
/// # Errors
/// What the draft asks for beyond its maker's rights or reach; a store that does not answer.
pub(in crate::issuer) async fn issue(state: &IssuerState, asker: &Asker, mut draft: Draft, once: &Once) -> Result<(NewKey, u64), Problem> {
    let now = state.clock.now();
    let rules = state.rules.load_full();
    for _attempt in 0..ATTEMPTS {
        once.check(state).await?;
        let owner = owner_of_new_key(state, &asker.actor, &draft, now).await?;
        (draft.organization, draft.extras.made_by) = (owner.organization, owner.made_by);
        draft.extras.allowed_networks = owner.allowed_networks;
        let new = NewKey::make(&draft, &rules, &state.peppers, now)?;
        let mut preconditions = owner.preconditions;
        let mut writes = owner.writes;
        let (asked, done): (Vec<_>, Vec<_>) = once.commit(state, new.record.id.as_str(), now).into_iter().chain([new.commit()]).unzip();
        preconditions.extend(asked);
        writes.extend(done);
        if state.records.commit(preconditions, writes, now).await?.is_done() {
            let record = &new.record;
            tracing::info!(key = %record.id, user = record.user.as_str(), scopes = %record.scopes, "key created");
            asker.note(state, Deed::KeyCreated, record.id.as_str(), record.organization.as_deref(), now).await;
            let revision = revision_of(state, &new.record.id).await;
            return Ok((new, revision));
        }
    }
    Err(Problem::changed_meanwhile())
}

/// One key.
#[utoipa::path(get, path = "/v1/keys/{id}", operation_id = "show_key", tag = "keys", params(("id" = String, Path, description = "Of the key.")),
    responses((status = 200, description = "The key.", body = KeyView, headers(("etag"))), Judged, Missing, Conflicting))]
pub(in crate::issuer) async fn show(
    State(state): State<IssuerState>,
    asker: Asker,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let (record, revision) = load(&state, &asker.actor, &key_id(id)?).await?;
    Ok(answer(StatusCode::OK, revision, KeyView::new(&record, revision, &state, state.clock.now()).await))
}

/// A key within this one's reach, with its revision. What lies outside is not there, and takes as long as what is not there.
pub(in crate::issuer) async fn load(state: &IssuerState, actor: &Actor, id: &str) -> Result<(KeyRecord, u64), Problem> {
    let reach = actor.reach(KEYS)?;
    let Some(stored) = reach.sees(state.records.get(&RecordKey::key(id)).await)? else {
        let _as_long = std::hint::black_box(decode_key("000000000000", &SAMPLE));
        return Err(match state.rules.load().file_keys.get(id) {
            Some(record) if reach.covers(Some(&record.user), record.organization.as_deref()) => stands_in_the_file(),
            Some(_) | None => no_such_key(),
        });
    };
    let record = reach.sees(decode_key(id, &stored.bytes).map(Some))?.ok_or_else(no_such_key)?;
    if !owner::is_within(state, &reach, &record).await? {
        return Err(no_such_key());
    }
    Ok((record, stored.version))
}

pub(in crate::issuer) fn stands_in_the_file() -> Problem {
    Problem::new(Code::Conflict, "this key stands in the keys file; change it there")
}

/// A record like any other, to be read where there is none.
static SAMPLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let user = Subject::parse("nobody").ok();
    let hash = SecretHash { pepper: "p".into(), algorithm: crate::model::key::HashAlgorithm::HmacSha256, digest: [0; 32] };
    let id = KeyId::new("000000000000");
    let record = user.map(|user| {
        let draft = Draft::new("a key".into(), user, std::sync::Arc::new(ScopeSet::default()));
        draft.record(&id, hash, Some("organization".into()), "tg_live_sk_000000000000".into(), Timestamp::from_unix_seconds(0))
    });
    record.as_ref().map(encode_key).unwrap_or_default()
});

/// Puts a changed record in the place of the revision that was read; whether replicas have it.
pub(in crate::issuer) async fn replace(
    state: &IssuerState,
    record: &KeyRecord,
    revision: u64,
    writes: Vec<Write>,
    now: Timestamp,
) -> Result<Committed, Problem> {
    replace_with(state, record, revision, (Vec::new(), writes), now).await
}

/// The same, where something beside the key must stand still for it.
pub(in crate::issuer) async fn replace_with(
    state: &IssuerState,
    record: &KeyRecord,
    revision: u64,
    (mut preconditions, mut writes): (Vec<Precondition>, Vec<Write>),
    now: Timestamp,
) -> Result<Committed, Problem> {
    let place = RecordKey::key(record.id.as_str());
    writes.push(Write::Put { key: place.clone(), bytes: encode_key(record), expires: None });
    preconditions.push(Precondition::AtVersion(place, revision));
    match state.records.commit(preconditions, writes, now).await? {
        outcome @ (Committed::Done | Committed::Unconfirmed) => Ok(outcome),
        Committed::Refused(_) => Err(Problem::changed_meanwhile()),
    }
}

/// The revision that was just written; zero, which matches nothing, when it is gone again already.
pub(in crate::issuer) async fn revision_of(state: &IssuerState, id: &KeyId) -> u64 {
    match state.records.get(&RecordKey::key(id.as_str())).await {
        Ok(stored) => stored.map_or(0, |stored| stored.version),
        // The change stands, and its answer may hold the only copy of a secret.
        Err(_unknown) => 0,
    }
}

pub(in crate::issuer) fn refuse_revoked(record: &KeyRecord) -> Result<(), Problem> {
    run(&REVOKED, record)
}

pub(in crate::issuer) const REVOKED: [Check<KeyRecord, Problem>; 1] = [Check {
    name: "a revoked key stays so",
    run: |record| match record.state {
        KeyState::Revoked => Err(Problem::new(Code::Conflict, "the key is revoked, and stays so; create another one")),
        KeyState::Active | KeyState::Disabled => Ok(()),
    },
}];
