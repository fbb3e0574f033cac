//! `/v1/invitations`, and what an invitation's handle still stands for when it is shown.

use std::sync::Arc;

use axum::Extension;
use axum::Json;
use axum::body::Body;
use axum::extract::Path;
use axum::extract::RawQuery;
use axum::extract::State;
use axum::extract::rejection::PathRejection;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::issuer::IssuerState;
use crate::issuer::accounts::address::ClientAddress;
use crate::issuer::accounts::caps;
use crate::issuer::accounts::issuance;
use crate::issuer::accounts::reach;
use crate::issuer::accounts::shelf;
use crate::issuer::accounts::trail;
use crate::issuer::accounts::trail::Done;
use crate::issuer::actor::Actor;
use crate::issuer::actor::Reach;
use crate::issuer::actor::USERS;
use crate::issuer::audit::Deed;
use crate::issuer::input::Fields;
use crate::issuer::names;
use crate::issuer::once::Once;
use crate::issuer::openapi::schemas::InvitationStateName;
use crate::issuer::openapi::schemas::RoleName;
use crate::issuer::parameters::Parameters;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::users;
use crate::issuer::views::PageView;
use crate::issuer::views::answer;
use crate::issuer::views::answer_removal;
use crate::issuer::views::show_time;
use crate::model::account::AccountRecord;
use crate::model::account::InvitationRecord;
use crate::model::account::OrganizationRecord;
use crate::model::account::Role;
use crate::model::handle::HandleKind;
use crate::model::handle::read_handle;
use crate::model::key::Rights;
use crate::model::key::UserState;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::secrets::random_id;
use crate::store::Precondition;
use crate::store::RecordKey;
use crate::store::Write;
use crate::store::codec::Shelved;

/// An invitation that is still good, and what of it must not change until it is used.
#[derive(Debug)]
pub(in crate::issuer) struct Standing {
    pub record: InvitationRecord,
    /// What the new user may hold: the invitation's rights within what its maker holds now.
    pub rights: Arc<ScopeSet>,
    /// Its role: an admin's only where it was, and its maker is one still.
    pub role: Role,
    /// The tier of the organisation.
    pub tier: Option<Arc<str>>,
    pub preconditions: Vec<Precondition>,
}

/// What the handle stands for now.
///
/// # Errors
/// 400 with one text for every handle that is good for nothing.
pub(in crate::issuer) async fn judge(state: &IssuerState, shown: &str, now: Timestamp) -> Result<Standing, Problem> {
    let rules = state.rules.load_full();
    let handle = read_handle(&rules.key_brand, shown).filter(|handle| handle.kind == HandleKind::Invitation).ok_or_else(spent)?;
    state.peppers.prove_handle(&handle).ok_or_else(spent)?;
    let (record, version) = shelf::find::<InvitationRecord>(state, handle.id).await?.ok_or_else(spent)?;
    if record.accepted_by.is_some() || record.expires <= now {
        return Err(spent());
    }
    let mut preconditions = vec![shelf::at(&record, version)];
    let (rights, role) = match &record.made_by {
        None => (Arc::clone(&record.rights), record.role),
        Some(maker) => {
            let (maker, version) = users::find(state, users::LOCAL, maker.as_str()).await?.ok_or_else(spent)?;
            if maker.state != UserState::Active || maker.organization.as_ref() != Some(&record.organization) {
                return Err(spent());
            }
            // Should the maker lose rights at this moment, the invitation is judged again.
            preconditions.push(Precondition::AtVersion(RecordKey::user(users::LOCAL, maker.subject.as_str()), version));
            let account = shelf::find::<AccountRecord>(state, maker.subject.as_str()).await?;
            preconditions.extend(account.iter().map(|(account, version)| shelf::at(account, *version)));
            let is_admin = account.is_some_and(|(account, _version)| account.role == Role::Admin);
            (maker.within_rights(&record.rights), if is_admin { record.role } else { Role::Member })
        }
    };
    let organization = shelf::find::<OrganizationRecord>(state, &record.organization).await?;
    let tier = organization.and_then(|(organization, _version)| organization.tier);
    Ok(Standing { record, rights, role, tier, preconditions })
}

/// An invitation without its handle.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Invitation, example = json!({
    "id": "4Fz0c2Qk1LmN7sVb3xYt0A", "organization": "acme", "role": "member", "rights": ["orders:read"], "made_by": "ann",
    "state": "open", "accepted_by": null, "created_at": "2027-01-15T08:00:00Z", "expires_at": "2027-01-22T08:00:00Z"
}))]
pub(in crate::issuer) struct InvitationView {
    id: Arc<str>,
    organization: Arc<str>,
    #[schema(value_type = RoleName)]
    role: &'static str,
    rights: Vec<String>,
    made_by: Option<String>,
    #[schema(value_type = InvitationStateName)]
    state: &'static str,
    accepted_by: Option<String>,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    expires_at: String,
}

/// An invitation with its handle: the one answer that has it.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = IssuedInvitation, example = json!({
    "invitation": "tg_iv_4Fz0c2Qk1LmN7sVb3xYt0A…",
    "url": "https://id.example.com/sign-up?invitation=tg_iv_4Fz0c2Qk1LmN7sVb3xYt0A…",
    "id": "4Fz0c2Qk1LmN7sVb3xYt0A", "organization": "acme", "role": "member", "rights": ["orders:read"], "made_by": "ann",
    "state": "open", "accepted_by": null, "created_at": "2027-01-15T08:00:00Z", "expires_at": "2027-01-22T08:00:00Z"
}))]
pub(in crate::issuer) struct Made<'a> {
    /// The text to hand over.
    invitation: &'a str,
    /// Where it is used.
    url: &'a str,
    #[serde(flatten)]
    view: InvitationView,
}

impl InvitationView {
    fn new(record: &InvitationRecord, now: Timestamp) -> Self {
        let state = match &record.accepted_by {
            Some(_) => "accepted",
            None if record.expires <= now => "expired",
            None => "open",
        };
        Self {
            id: Arc::clone(&record.id),
            organization: Arc::clone(&record.organization),
            role: record.role.as_str(),
            rights: record.rights.iter().map(|scope| scope.as_str().to_owned()).collect(),
            made_by: record.made_by.as_ref().map(|user| user.as_str().to_owned()),
            state,
            accepted_by: record.accepted_by.as_ref().map(|user| user.as_str().to_owned()),
            created_at: show_time(record.created),
            expires_at: show_time(record.expires),
        }
    }
}

pub(super) async fn create(
    State(state): State<IssuerState>,
    Extension(actor): Extension<Actor>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let issuance = issuance(&state)?;
    let reach = actor.reach(USERS)?;
    let now = state.clock.now();
    let mut fields = Fields::read(&headers, body).await?;
    let once = Once::read(&actor, &headers, "invitations", &fields)?;
    let named = fields.optional("organization", names::organization, names::SUBJECT)?;
    let organization = reach::organization(&reach, named, USERS)?.ok_or_else(|| fields.complaint("organization", "is required"))?;
    let role = fields.optional("role", names::role, names::ROLE)?.unwrap_or(Role::Member);
    let asked = fields.optional("rights", names::scopes, names::SCOPES)?;
    let life = fields.optional("expires_in", names::length, names::LENGTH)?.unwrap_or(issuance.lifetimes.invitation);
    if life.is_zero() || life > issuance.lifetimes.invitation {
        return Err(fields.complaint("expires_in", "must be longer than nothing, and at most what the config allows an invitation"));
    }
    fields.finish()?;
    once.check(&state).await?;
    let maker = reach::maker(&state, &actor).await?;
    refuse_role(&state, &reach, maker.as_ref().map(|(user, _)| user.subject.as_str()), role).await?;
    if let Some((maker, _)) = &maker {
        caps::check_invitations(&state, &reach, &maker.subject, now).await?;
    }
    let ceiling = reach::ceiling(&actor);
    let rights = match (asked, &ceiling) {
        (None, Some(held)) => Arc::new(issuance.member_rights.intersect(held)),
        (None, None) => Arc::clone(&issuance.member_rights),
        (Some(asked), ceiling) if reach::is_within(&Rights::Only(Arc::clone(&asked)), ceiling) => asked,
        (Some(_), _) => return Err(Problem::field("rights", "must be within what you hold")),
    };
    let record = InvitationRecord {
        id: Arc::from(random_id()?),
        organization,
        role,
        rights,
        // An operator's word stands by itself; an admin's as long as the admin does.
        made_by: maker.as_ref().map(|(user, _)| user.subject.clone()).filter(|_user| reach != Reach::Everything),
        created: now,
        expires: now.plus(life),
        accepted_by: None,
    };
    let brand = state.rules.load().key_brand.clone();
    let handle = state.peppers.handle(&brand, HandleKind::Invitation, &record.id, 0, state.peppers.current_id())?;
    let (asked, done): (Vec<_>, Vec<_>) = once.commit(&state, &record.id, now).into_iter().unzip();
    let mut preconditions = vec![shelf::absent(&record)];
    preconditions.extend(maker.map(|(_, precondition)| precondition).into_iter().chain(asked));
    let mut writes = vec![shelf::put(&record, Some(record.expires))];
    writes.extend(done);
    if !state.records.commit(preconditions, writes, now).await?.is_done() {
        once.check(&state).await?;
        return Err(Problem::changed_meanwhile());
    }
    let done = Done { deed: Deed::InvitationCreated, subject: &record.id, organization: Some(&record.organization), address };
    trail::note(&state, &actor, done, now).await;
    let url = Zeroizing::new(format!("{}/sign-up?invitation={}", issuance.url, *handle));
    let made = Made { invitation: &handle, url: &url, view: InvitationView::new(&record, now) };
    Ok(answer(StatusCode::CREATED, 1, made))
}

pub(super) async fn list(
    State(state): State<IssuerState>,
    Extension(actor): Extension<Actor>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut parameters = Parameters::read(query.as_deref())?;
    let limit = parameters.limit()?;
    let after = parameters.text("after").unwrap_or_default();
    parameters.finish("limit, after")?;
    let reach = actor.reach(USERS)?;
    let now = state.clock.now();
    let found = shelf::all::<InvitationRecord>(&state, "", |record| *record.id > *after && is_within(&reach, record)).await?;
    Ok(Json(PageView::first(&found, limit, |(record, _version)| InvitationView::new(record, now))).into_response())
}

pub(super) async fn revoke(
    State(state): State<IssuerState>,
    Extension(actor): Extension<Actor>,
    ClientAddress(address): ClientAddress,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let reach = actor.reach(USERS)?;
    let now = state.clock.now();
    let Path(id) = id.map_err(|_error| no_such_invitation())?;
    let found = if names::is_record_id(&id) { reach.sees(shelf::find::<InvitationRecord>(&state, &id).await)? } else { None };
    let (record, version) = found.filter(|(record, _version)| is_within(&reach, record)).ok_or_else(no_such_invitation)?;
    let remove = Write::Remove(InvitationRecord::place(&record.id));
    let outcome = state.records.commit(vec![shelf::at(&record, version)], vec![remove], now).await?;
    if !outcome.is_done() {
        return Err(Problem::changed_meanwhile());
    }
    let done = Done { deed: Deed::InvitationRevoked, subject: &record.id, organization: Some(&record.organization), address };
    trail::note(&state, &actor, done, now).await;
    Ok(answer_removal(&outcome))
}

/// Only an admin makes another one.
pub(in crate::issuer) async fn refuse_role(state: &IssuerState, reach: &Reach, maker: Option<&str>, role: Role) -> Result<(), Problem> {
    if role == Role::Member || *reach == Reach::Everything {
        return Ok(());
    }
    let account = match maker {
        Some(maker) => shelf::find::<AccountRecord>(state, maker).await?,
        None => None,
    };
    match account {
        Some((account, _version)) if account.role == Role::Admin => Ok(()),
        Some(_) | None => Err(Problem::field("role", "must be \"member\": only an admin makes another one")),
    }
}

fn is_within(reach: &Reach, record: &InvitationRecord) -> bool {
    reach.covers(record.made_by.as_ref(), Some(&record.organization))
}

fn no_such_invitation() -> Problem {
    Problem::new(Code::NotFound, "there is no invitation of this id")
}

fn spent() -> Problem {
    Problem::new(
        Code::InvalidRequest,
        "this invitation is good for nothing: it is unknown, used, withdrawn or too old; ask for another one",
    )
}
