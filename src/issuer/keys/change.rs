//! `PATCH /v1/keys/{id}`: what of a key may change while its id and its secret stay.

use axum::body::Body;
use axum::extract::Path;
use axum::extract::State;
use axum::extract::rejection::PathRejection;
use axum::http::HeaderMap;
use axum::response::Response;

use crate::issuer::IssuerState;
use crate::issuer::accounts::caps;
use crate::issuer::actor::KEYS;
use crate::issuer::actor::Reach;
use crate::issuer::audit::Deed;
use crate::issuer::callers::Asker;
use crate::issuer::checks::Check;
use crate::issuer::checks::run;
use crate::issuer::events::KeyEvent;
use crate::issuer::events::tell;
use crate::issuer::input::Change;
use crate::issuer::input::Fields;
use crate::issuer::keys::bounds::above_maker;
use crate::issuer::keys::bounds::check_ceiling;
use crate::issuer::keys::check_may_change;
use crate::issuer::keys::load;
use crate::issuer::keys::owner::maker_of;
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
use crate::issuer::openapi::bodies::KeyChangeBody;
use crate::issuer::parameters::key_id;
use crate::issuer::problem::Problem;
use crate::issuer::views::Changed;
use crate::issuer::views::KeyView;
use crate::issuer::views::answer_change;
use crate::issuer::views::check_revision;
use crate::model::key::KeyExtras;
use crate::model::key::KeyNotes;
use crate::model::key::KeyRecord;
use crate::model::key::KeyState;
use crate::model::rules::Rules;

/// Changes what is named of a key.
#[utoipa::path(patch, path = "/v1/keys/{id}", operation_id = "change_key", tag = "keys",
    params(("id" = String, Path, description = "Of the key."), ("if-match" = Option<String>, Header, description = "The `etag` of what was read.")),
    request_body = KeyChangeBody,
    responses(
        (status = 200, description = "The key as it is now.", body = KeyView, headers(("etag"))),
        (status = 202, description = "The same; no replica has confirmed it yet.", body = Changed<KeyView>, headers(("etag"))),
        Judged, WithBody, Missing, Conflicting, Conditional
    ))]
pub(in crate::issuer) async fn change(
    State(state): State<IssuerState>,
    asker: Asker,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let mut event = KeyEvent::Changed;
    let changed = change_one(&state, &asker, id, &headers, body, &mut event).await;
    tell(&state, event, &changed);
    changed
}

async fn change_one(
    state: &IssuerState,
    asker: &Asker,
    id: Result<Path<String>, PathRejection>,
    headers: &HeaderMap,
    body: Body,
    event: &mut KeyEvent,
) -> Result<Response, Problem> {
    let id = key_id(id)?;
    let mut fields = Fields::read(headers, body).await?;
    let now = state.clock.now();
    let rules = state.rules.load_full();
    let (mut record, revision) = load(state, &asker.actor, &id).await?;
    let before = record.clone();
    check_revision(headers, revision)?;
    refuse_revoked(&record)?;
    check_may_change(&asker.actor, &record)?;
    let reach = asker.actor.reach(KEYS)?;
    let mut preconditions = Vec::new();
    if let Some(name) = fields.optional("name", names::name, names::NAME)? {
        record.name = name;
    }
    if let Some(scopes) = fields.optional("scopes", names::scopes, names::SCOPES)? {
        check_ceiling(state, &asker.actor, &record.user, &scopes, &fields).await?;
        record.scopes = scopes;
        let (made_by, standing) = maker_of(state, &asker.actor, &record.user).await?;
        record.notes = KeyNotes::new(KeyExtras { made_by, ..record.notes.extras().cloned().unwrap_or_default() });
        preconditions = standing;
    }
    change_limits(&mut fields, &rules, &reach, &mut record)?;
    change_notes(&mut fields, &mut record)?;
    names::version(&mut fields, &rules)?.apply(&mut record.pinned_version);
    fields.change("not_before", names::instant, names::INSTANT)?.apply(&mut record.not_before);
    let expiry = names::expiry(&mut fields, now)?;
    if expiry != Change::Keep {
        let was_over = record.expires.is_some_and(|expires| expires <= now);
        expiry.apply(&mut record.expires);
        if was_over {
            caps::check_keys(state, &reach, &record.user, now).await?;
        }
    }
    if let Some(active) = fields.optional("active", names::truth, names::TRUTH)? {
        *event = change_state(&mut record, active, &reach)?;
    }
    if record.not_before.zip(record.expires).is_some_and(|(begin, end)| end <= begin) {
        return Err(fields.complaint("not_before", "must lie before the expiry"));
    }
    fields.finish()?;
    if opens_more(&record, &before) {
        refuse_wider(state, &asker.actor, &reach, &record).await?;
    }
    let outcome = replace_with(state, &record, revision, (preconditions, Vec::new()), now).await?;
    tracing::info!(key = %record.id, state = record.state_at(now), scopes = %record.scopes, "key changed");
    asker.note_change(state, Deed::KeyChanged, (&before, &record), now).await;
    let revision = revision_of(state, &record.id).await;
    Ok(answer_change(&outcome, revision, KeyView::new(&record, revision, state, now).await))
}

/// Whether a key may open from elsewhere, more, sooner, for longer, or again.
fn opens_more(key: &KeyRecord, before: &KeyRecord) -> bool {
    key.notes.allowed_networks() != before.notes.allowed_networks()
        || key.scopes.iter().any(|scope| !before.scopes.covers(scope.as_str()))
        || before.expires.is_some_and(|before| key.expires.is_none_or(|expires| expires > before))
        || before.not_before.is_some_and(|before| key.not_before.is_none_or(|begins| begins < before))
        || (key.state, before.state) == (KeyState::Active, KeyState::Disabled)
}

/// Switches a key on or off, for who may.
fn change_state(record: &mut KeyRecord, active: bool, reach: &Reach) -> Result<KeyEvent, Problem> {
    let before = record.state;
    let mut extras = record.notes.extras().cloned().unwrap_or_default();
    extras.disabled_by = reach.switch(active, record.disabled())?;
    record.state = if active { KeyState::Active } else { KeyState::Disabled };
    record.notes = KeyNotes::new(extras);
    Ok(match (active, before) {
        (true, KeyState::Active) | (false, KeyState::Disabled) => KeyEvent::Changed,
        (true, KeyState::Disabled | KeyState::Revoked) => KeyEvent::Enabled,
        (false, KeyState::Active | KeyState::Revoked) => KeyEvent::Disabled,
    })
}

/// Tiers are an operator's to give. Who reaches its own keys alone may tighten a limit that is set, and not loosen it.
fn change_limits(fields: &mut Fields, rules: &Rules, reach: &Reach, record: &mut KeyRecord) -> Result<(), Problem> {
    let tier = names::tier(fields, rules)?;
    let before = record.rate_limit;
    fields.change("rate_limit", names::rate_limit, names::RATE_LIMIT)?.apply(&mut record.rate_limit);
    run(&Limits::CHECKS, &Limits { reach, is_tier_named: tier != Change::Keep, before, after: record.rate_limit })?;
    tier.apply(&mut record.tier);
    Ok(())
}

/// The limits that a key is to have.
pub(in crate::issuer) struct Limits<'a> {
    reach: &'a Reach,
    is_tier_named: bool,
    before: Option<u32>,
    after: Option<u32>,
}

impl Limits<'_> {
    pub(in crate::issuer) const CHECKS: [Check<Self, Problem>; 2] = [
        Check { name: "a key's tier is an operator's to change", run: leaves_the_tier },
        Check { name: "nobody loosens the limit of its own key", run: is_no_looser },
    ];
}

fn leaves_the_tier(limits: &Limits<'_>) -> Result<(), Problem> {
    if !limits.is_tier_named || *limits.reach == Reach::Everything {
        return Ok(());
    }
    Err(above_maker("tier", "must be absent: tiers are given by operators"))
}

fn is_no_looser(limits: &Limits<'_>) -> Result<(), Problem> {
    let is_looser = limits.before.is_some_and(|before| limits.after.is_none_or(|after| after > before));
    match limits.reach {
        Reach::Own(_) if is_looser => Err(above_maker("rate_limit", "must not be more than it is")),
        Reach::Everything | Reach::Organization(_) | Reach::Own(_) => Ok(()),
    }
}

fn change_notes(fields: &mut Fields, record: &mut KeyRecord) -> Result<(), Problem> {
    let mut extras = record.notes.extras().cloned().unwrap_or_default();
    match fields.change("allowed_networks", names::networks, names::NETWORKS)? {
        Change::Keep => {}
        Change::Clear => extras.allowed_networks.clear(),
        Change::Set(networks) => extras.allowed_networks = networks,
    }
    match fields.change("metadata", names::metadata, names::METADATA)? {
        Change::Keep => {}
        Change::Clear => extras.metadata.clear(),
        Change::Set(metadata) => extras.metadata = metadata,
    }
    match fields.change("tags", names::tags, names::TAGS)? {
        Change::Keep => {}
        Change::Clear => extras.tags.clear(),
        Change::Set(tags) => extras.tags = tags,
    }
    record.notes = KeyNotes::new(extras);
    Ok(())
}
