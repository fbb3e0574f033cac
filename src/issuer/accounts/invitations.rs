//! `/v1/invitations`, and what an invitation's handle still stands for when it is shown.

use std::sync::Arc;
use std::time::Duration;

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
use crate::issuer::checks::Check;
use crate::issuer::checks::Unmet;
use crate::issuer::checks::hold;
use crate::issuer::checks::run;
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
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::model::user::Rights;
use crate::model::user::UserRecord;
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

/// What was shown as an invitation's handle.
struct Shown {
    kind: HandleKind,
    /// Whether its digest is one of ours.
    is_proven: bool,
}

/// The invitation that it stands for, and who made it; none: nobody of that name is there.
struct Offer {
    record: InvitationRecord,
    maker: Option<UserRecord>,
    now: Timestamp,
}

const SHOWN: [Check<Shown>; 2] = [
    Check { name: "a handle of an invitation", run: |shown| hold(shown.kind == HandleKind::Invitation) },
    Check { name: "an invitation of our own making", run: |shown| hold(shown.is_proven) },
];

const OFFER: [Check<Offer>; 4] = [
    Check { name: "the invitation was not used", run: |offer| hold(offer.record.accepted_by.is_none()) },
    Check { name: "the invitation has not expired", run: |offer| hold(offer.now < offer.record.expires) },
    Check { name: "its maker is active", run: |offer| offer.maker.as_ref().map_or_else(|| hold(offer.is_operators()), users::stands) },
    Check { name: "its maker is still of the organisation", run: is_makers_own },
];

impl Offer {
    fn is_operators(&self) -> bool {
        self.record.made_by.is_none()
    }
}

fn is_makers_own(offer: &Offer) -> Result<(), Unmet> {
    hold(offer.maker.as_ref().is_none_or(|maker| maker.organization.as_ref() == Some(&offer.record.organization)))
}

/// What the handle stands for now.
///
/// # Errors
/// 400 with one text for every handle that is good for nothing.
pub(in crate::issuer) async fn judge(state: &IssuerState, shown: &str, now: Timestamp) -> Result<Standing, Problem> {
    let rules = state.rules.load_full();
    let handle = read_handle(&rules.key_brand, shown).ok_or_else(spent)?;
    let is_proven = state.peppers.prove_handle(&handle).is_some();
    run(&SHOWN, &Shown { kind: handle.kind, is_proven }).map_err(|_unmet| spent())?;
    let (record, version) = shelf::find::<InvitationRecord>(state, handle.id).await?.ok_or_else(spent)?;
    let mut preconditions = vec![shelf::at(&record, version)];
    let maker = match &record.made_by {
        Some(maker) => users::find(state, users::LOCAL, maker.as_str()).await?,
        None => None,
    };
    // Should the maker lose rights at this moment, the invitation is judged again.
    preconditions.extend(
        maker.iter().map(|(maker, version)| Precondition::AtVersion(RecordKey::user(users::LOCAL, maker.subject.as_str()), *version)),
    );
    let offer = Offer { record, maker: maker.map(|(maker, _version)| maker), now };
    run(&OFFER, &offer).map_err(|_unmet| spent())?;
    let (rights, role) = match &offer.maker {
        None if offer.is_operators() => (Arc::clone(&offer.record.rights), offer.record.role),
        None => return Err(spent()),
        Some(maker) => {
            let account = shelf::find::<AccountRecord>(state, maker.subject.as_str()).await?;
            preconditions.extend(account.iter().map(|(account, version)| shelf::at(account, *version)));
            let is_admin = account.is_some_and(|(account, _version)| account.role == Role::Admin);
            (maker.within_rights(&offer.record.rights), if is_admin { offer.record.role } else { Role::Member })
        }
    };
    let record = offer.record;
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

/// An invitation that is to be made.
struct Wish {
    life: Duration,
    longest: Duration,
    asked: Option<Arc<ScopeSet>>,
    /// What its maker holds; none: everything.
    ceiling: Option<ScopeSet>,
}

const WISH: [Check<Wish, Problem>; 3] = [
    Check { name: "it lasts at all", run: |wish| if wish.life.is_zero() { Err(wrong_life()) } else { Ok(()) } },
    Check {
        name: "it lasts no longer than the config allows",
        run: |wish| if wish.life > wish.longest { Err(wrong_life()) } else { Ok(()) },
    },
    Check { name: "its maker holds the rights", run: maker_holds },
];

fn maker_holds(wish: &Wish) -> Result<(), Problem> {
    let is_within = |asked: &Arc<ScopeSet>| reach::is_within(&Rights::Only(Arc::clone(asked)), &wish.ceiling);
    if wish.asked.as_ref().is_none_or(is_within) { Ok(()) } else { Err(Problem::field("rights", "must be within what you hold")) }
}

fn wrong_life() -> Problem {
    Problem::field("expires_in", "must be longer than nothing, and at most what the config allows an invitation")
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
    fields.finish()?;
    once.check(&state).await?;
    reach::refuse_bound(&state, &actor, &reach).await?;
    let maker = reach::maker(&state, &actor).await?;
    refuse_role(&state, &actor, &reach, role).await?;
    let wish = Wish { life, longest: issuance.lifetimes.invitation, asked, ceiling: reach::ceiling(&actor) };
    run(&WISH, &wish)?;
    if let Some((maker, _)) = &maker {
        caps::check_invitations(&state, &reach, &maker.subject, now).await?;
    }
    let rights = match (wish.asked, &wish.ceiling) {
        (None, Some(held)) => Arc::new(issuance.member_rights.intersect(held)),
        (None, None) => Arc::clone(&issuance.member_rights),
        (Some(asked), _) => asked,
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

/// Somebody who is to get a role, and who gives it.
struct Appointment {
    role: Role,
    by_operator: bool,
    /// What the one is who gives it.
    by: Role,
}

const APPOINTMENT: [Check<Appointment, Problem>; 1] = [Check { name: "only an admin makes another one", run: may_appoint }];

fn may_appoint(appointment: &Appointment) -> Result<(), Problem> {
    if appointment.role == Role::Member || appointment.by_operator || appointment.by == Role::Admin {
        return Ok(());
    }
    Err(Problem::field("role", "must be \"member\": only an admin makes another one"))
}

/// Only an admin makes another one.
pub(in crate::issuer) async fn refuse_role(state: &IssuerState, actor: &Actor, reach: &Reach, role: Role) -> Result<(), Problem> {
    let by = if role == Role::Admin { reach::role_of(state, actor).await? } else { Role::Member };
    run(&APPOINTMENT, &Appointment { role, by_operator: *reach == Reach::Everything, by })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock as _;
    use crate::issuer::accounts::tests::founder;
    use crate::issuer::accounts::tests::scopes;
    use crate::issuer::checks::assert_each_is_needed;
    use crate::issuer::checks::left_out::leave_out;
    use crate::issuer::checks::names;
    use crate::issuer::tests::Issuer;
    use crate::model::user::UserState;
    use crate::store::codec::encode_user;

    /// alice, who founded an organisation, and an invitation of hers that says more than she holds; each of them changed.
    async fn invited(issuer: &Issuer, alice: impl FnOnce(&mut UserRecord), invitation: impl FnOnce(&mut InvitationRecord)) {
        let now = issuer.clock.now();
        let founded = founder(issuer, "alice").await;
        let (mut user, _version) = users::find(&issuer.state, users::LOCAL, "alice").await.unwrap().unwrap();
        alice(&mut user);
        let bytes = encode_user(&user);
        issuer.put(Write::Put { key: RecordKey::user(users::LOCAL, "alice"), bytes, expires: None }).await;
        let mut record = InvitationRecord {
            id: Arc::from("invitation"),
            organization: founded.organization,
            role: Role::Admin,
            rights: scopes("orders:read secret:thing"),
            made_by: Some(founded.user),
            created: now,
            expires: now.plus(Duration::from_secs(60)),
            accepted_by: None,
        };
        invitation(&mut record);
        issuer.put(shelf::put(&record, None)).await;
    }

    fn handle(issuer: &Issuer, kind: HandleKind) -> String {
        issuer.state.peppers.handle("reva", kind, "invitation", 0, "p1").unwrap().to_string()
    }

    /// Whether what this check stands against gets nobody in.
    async fn holds(check: &str) -> bool {
        let issuer = Issuer::issuing(|_| {});
        let mut shown = handle(&issuer, HandleKind::Invitation);
        let mut alice: fn(&mut UserRecord) = |_| {};
        let mut invitation: fn(&mut InvitationRecord) = |_| {};
        match check {
            "a handle of an invitation" => shown = handle(&issuer, HandleKind::Ticket),
            "an invitation of our own making" => shown = format!("reva_iv_invitation.0.{}", "A".repeat(43)),
            "the invitation was not used" => invitation = |invitation| invitation.accepted_by = invitation.made_by.clone(),
            "the invitation has not expired" => invitation = |invitation| invitation.expires = invitation.created,
            "its maker is active" => alice = |alice| alice.state = UserState::Disabled,
            "its maker is still of the organisation" => alice = |alice| alice.organization = Some("elsewhere".into()),
            _ => panic!("no assertion is known of the check {check:?}"),
        }
        invited(&issuer, alice, invitation).await;
        judge(&issuer.state, &shown, issuer.clock.now()).await.is_err_and(|refused| refused == spent())
    }

    #[tokio::test]
    async fn every_check_of_an_invitation_holds_something_up() {
        for check in [names(&SHOWN), names(&OFFER)].concat() {
            assert!(holds(check).await, "{check}");
            let _without = leave_out(check);
            assert!(!holds(check).await, "nothing falls without the check: {check}");
        }
    }

    /// No check refuses these: what the record offers is what the new user would get.
    #[tokio::test]
    async fn an_invitation_gives_what_its_maker_holds_and_is_now() {
        let issuer = Issuer::issuing(|_| {});
        invited(&issuer, |_| {}, |_| {}).await;
        let shown = handle(&issuer, HandleKind::Invitation);
        let standing = async || judge(&issuer.state, &shown, issuer.clock.now()).await.unwrap();
        let as_admin = standing().await;
        assert_eq!((as_admin.role, &*as_admin.rights.to_string()), (Role::Admin, "orders:read"));
        assert_eq!(as_admin.record.rights.to_string(), "orders:read secret:thing", "what the record offers");
        let (mut alice, _version) = shelf::find::<AccountRecord>(&issuer.state, "alice").await.unwrap().unwrap();
        alice.role = Role::Member;
        issuer.put(shelf::put(&alice, None)).await;
        let as_member = standing().await;
        assert_eq!((as_member.role, as_member.record.role), (Role::Member, Role::Admin));
    }

    #[test]
    fn every_check_of_a_new_invitation_holds_something_up() {
        let wish = |seconds, asked| Wish {
            life: Duration::from_secs(seconds),
            longest: Duration::from_secs(60),
            asked: Some(scopes(asked)),
            ceiling: Some(ScopeSet::clone(&scopes("orders:*"))),
        };
        let rows = [
            ("it lasts at all", wish(0, "orders:read")),
            ("it lasts no longer than the config allows", wish(61, "orders:read")),
            ("its maker holds the rights", wish(60, "files:read")),
        ];
        run(&WISH, &wish(60, "orders:read")).unwrap();
        assert_each_is_needed(|| WISH, &rows);
        let appointment = |by| Appointment { role: Role::Admin, by_operator: false, by };
        let one = "only an admin makes another one";
        run(&APPOINTMENT, &appointment(Role::Admin)).unwrap();
        assert_each_is_needed(|| APPOINTMENT, &[(one, appointment(Role::Member))]);
    }
}
