//! `/v1/users`: the owners of keys and the ceiling of what their credentials may do; and the people behind them.

pub(in crate::issuer) mod change;
mod lookup;
pub(in crate::issuer) mod view;

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
use zeroize::Zeroizing;

use crate::issuer::IssuerState;
use crate::issuer::accounts::address::ClientAddress;
use crate::issuer::accounts::erase;
use crate::issuer::accounts::invitations::refuse_role;
use crate::issuer::accounts::issuance;
use crate::issuer::accounts::reach;
use crate::issuer::accounts::shelf;
use crate::issuer::accounts::trail;
use crate::issuer::accounts::trail::Done;
use crate::issuer::actor::Actor;
use crate::issuer::actor::Reach;
use crate::issuer::actor::USERS;
use crate::issuer::audit;
use crate::issuer::audit::Deed;
use crate::issuer::checks::Check;
use crate::issuer::checks::run;
use crate::issuer::input::Change;
use crate::issuer::input::Fields;
use crate::issuer::input::Value;
use crate::issuer::names;
use crate::issuer::once::Once;
use crate::issuer::parameters::Parameters;
use crate::issuer::passwords;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::users::change::find_within;
use crate::issuer::users::change::new_account;
use crate::issuer::users::change::refuse_unreached;
use crate::issuer::users::change::refuse_unusual_name;
use crate::issuer::users::lookup::revision_of;
use crate::issuer::users::view::PersonView;
use crate::issuer::views::PageView;
use crate::issuer::views::Row;
use crate::issuer::views::answer;
use crate::issuer::views::answer_removal;
use crate::model::account::AccountRecord;
use crate::model::account::Phone;
use crate::model::account::Role;
use crate::model::caller::Subject;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;
use crate::model::user::Rights;
use crate::model::user::UserRecord;
use crate::model::user::UserState;
use crate::store::Committed;
use crate::store::Family;
use crate::store::Precondition;
use crate::store::RecordKey;
use crate::store::Write;
use crate::store::codec::decode_user;
use crate::store::codec::encode_user;

pub(in crate::issuer) use crate::issuer::users::change::change;
pub(in crate::issuer) use crate::issuer::users::lookup::STANDING;
pub(in crate::issuer) use crate::issuer::users::lookup::find;
pub(in crate::issuer) use crate::issuer::users::lookup::keys_of;
pub(in crate::issuer) use crate::issuer::users::lookup::of_organization;
pub(in crate::issuer) use crate::issuer::users::lookup::removal;
pub(in crate::issuer) use crate::issuer::users::lookup::standing;
pub(in crate::issuer) use crate::issuer::users::lookup::stands;

/// The source of the users that keys act for.
pub(in crate::issuer) const LOCAL: &str = "local";
const RIGHTS: &str = "must be null (no ceiling) or a list of up to 128 scopes";
const SCANNED_TOGETHER: usize = 500;

pub(in crate::issuer) async fn create(
    State(state): State<IssuerState>,
    Extension(actor): Extension<Actor>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let mut fields = Fields::read(&headers, body).await?;
    // Of a user who is erased no ticket keeps the name.
    let once = Once::read(&actor, &headers, "users", &fields)?;
    let now = state.clock.now();
    let reach = actor.reach(USERS)?;
    let maker = reach::maker(&state, &actor).await?;
    let record = read_user(&state, &actor, &reach, maker.as_ref().map(|(user, _)| user), &mut fields, now)?;
    let (mut account, password) = read_account(&state, &actor, &reach, &record, &mut fields, now).await?;
    fields.finish()?;
    once.check(&state).await?;
    if password.is_some() || account.role == Role::Admin {
        reach::refuse_bound(&state, &actor, &reach).await?;
    }
    if let Some(password) = password {
        account.password = Some(state.passwords.hash(issuance(&state)?.passwords, password.to_string()).await?);
    }
    // An operator's word stands by itself.
    account.made_by = maker.as_ref().map(|(user, _)| user.subject.clone()).filter(|_user| reach != Reach::Everything);
    let place = RecordKey::user(&record.source, record.subject.as_str());
    let mut preconditions = vec![Precondition::Absent(place.clone())];
    let mut writes = vec![Write::Put { key: place, bytes: encode_user(&record), expires: None }];
    let is_local = &*record.source == LOCAL;
    if is_local {
        preconditions.push(shelf::absent(&account));
        writes.push(shelf::put(&account, None));
    }
    let (asked, done): (Vec<_>, Vec<_>) = once.commit(&state, "", now).into_iter().unzip();
    // Should its maker lose rights at this moment, the account is refused, and judged anew when it is asked for again.
    preconditions.extend(maker.map(|(_, precondition)| precondition).into_iter().chain(asked));
    writes.extend(done);
    match state.records.commit(preconditions, writes, now).await? {
        Committed::Done | Committed::Unconfirmed => {}
        Committed::Refused(refused) => {
            once.check(&state).await?;
            let exists = || Problem::new(Code::Conflict, "there is a user of this id already");
            return Err(if refused < 2 { exists() } else { Problem::changed_meanwhile() });
        }
    }
    tracing::info!(source = &*record.source, user = record.subject.as_str(), "user created");
    let organization = record.organization.as_deref();
    trail::note(&state, &actor, Done { deed: Deed::UserCreated, subject: record.subject.as_str(), organization, address }, now).await;
    let revision = revision_of(&state, &record).await;
    Ok(answer(StatusCode::CREATED, revision, PersonView::new(&record, is_local.then_some(&account), revision)))
}

fn read_user(
    state: &IssuerState,
    actor: &Actor,
    reach: &Reach,
    maker: Option<&UserRecord>,
    fields: &mut Fields,
    now: Timestamp,
) -> Result<UserRecord, Problem> {
    let rules = state.rules.load_full();
    let subject = fields.required("id", names::subject, names::SUBJECT)?;
    let organization = fields.change("organization", names::organization, names::SUBJECT)?.set();
    let organization = reach::organization(reach, organization, USERS)?;
    let (source, tier) = if reach.is_operators() {
        let source = fields.optional("source", |value| known_source(&rules, names::text(value)?), sources_sentence(&rules))?;
        (source, names::tier(fields, &rules)?.set())
    } else {
        if names::account_name(subject.as_str()).as_ref() != Some(&subject) {
            return Err(fields.complaint("id", names::ACCOUNT_NAME));
        }
        (None, maker.and_then(|maker| maker.tier.clone()))
    };
    let ceiling = reach::ceiling(actor);
    let rights = match (fields.change("rights", names::scopes, RIGHTS)?, &ceiling) {
        (Change::Keep, Some(held)) => Rights::Only(Arc::new(issuance(state)?.member_rights.intersect(held))),
        (Change::Keep | Change::Clear, _) => Rights::Unlimited,
        (Change::Set(scopes), _) => Rights::Only(scopes),
    };
    let grant = reach::Grant { rights: &rights, giver: actor, maker: None };
    run(&reach::Grant::CHECKS, &grant).map_err(|issue| fields.complaint("rights", issue))?;
    let active = fields.optional("active", names::truth, names::TRUTH)?.unwrap_or(true);
    Ok(UserRecord {
        source: source.unwrap_or_else(|| Arc::from(LOCAL)),
        subject,
        organization,
        tier,
        rights,
        state: if active { UserState::Active } else { UserState::Disabled },
        disabled_by: reach.switch(active, None)?,
        valid_from: None,
        created: now,
    })
}

async fn read_account(
    state: &IssuerState,
    actor: &Actor,
    reach: &Reach,
    record: &UserRecord,
    fields: &mut Fields,
    now: Timestamp,
) -> Result<(AccountRecord, Option<Zeroizing<String>>), Problem> {
    let mut account = new_account(&record.subject, now);
    if &*record.source != LOCAL {
        return Ok((account, None));
    }
    account.role = fields.optional("role", names::role, names::ROLE)?.unwrap_or(Role::Member);
    refuse_role(state, actor, reach, account.role).await?;
    let text = |read: fn(&str) -> Option<Arc<str>>| move |value: &Value| read(names::text(value)?);
    account.display_name = fields.optional("display_name", text(names::plain_name), names::NAME)?;
    account.email = fields.optional("email", text(names::email), names::EMAIL)?;
    let phone = fields.optional("phone", text(names::phone), names::PHONE)?;
    account.phone = phone.map(|number| Phone { number, verified: false });
    let password = fields.optional("password", |value| names::text(value).map(str::to_owned), "must be a text")?.map(Zeroizing::new);
    if let Some(password) = &password {
        passwords::check_new("password", password)?;
        refuse_unusual_name(&record.subject)?;
    }
    Ok((account, password))
}

pub(in crate::issuer) async fn list(
    State(state): State<IssuerState>,
    Extension(actor): Extension<Actor>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut parameters = Parameters::read(query.as_deref())?;
    let limit = parameters.limit()?;
    let mut after =
        parameters.parsed("after", |text| (text.len() <= 256).then(|| text.to_owned()), "must be the `next` of the page before")?;
    let organization = parameters.text("organization");
    parameters.finish("organization, limit, after")?;
    let reach = actor.reach(USERS)?;
    let mut data = Vec::new();
    // The last that is shown: a page goes on behind what its reader has seen, and names nobody else.
    let mut last = None;
    loop {
        let page = state.records.range(Family::User, after.as_deref(), SCANNED_TOGETHER).await?;
        for (place, stored) in page.records {
            let row = match decode_user(&place.id, &stored.bytes) {
                Ok(record) => {
                    let is_wanted = organization.is_none() || record.organization.as_deref() == organization.as_deref();
                    if !is_wanted || refuse_unreached(&reach, &record).is_err() {
                        continue;
                    }
                    Row::Record(PersonView::find(&state, &record, stored.version).await?)
                }
                Err(_) if reach.is_operators() && organization.is_none() => Row::unreadable(&place.id),
                Err(_) => continue,
            };
            if data.len() == limit {
                return Ok(Json(PageView { data, next: last }).into_response());
            }
            data.push(row);
            last = Some(place.id);
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(Json(PageView { data, next: None }).into_response()),
        }
    }
}

pub(in crate::issuer) async fn show(
    State(state): State<IssuerState>,
    Extension(actor): Extension<Actor>,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let (source, subject) = named(&state, id, query.as_deref())?;
    let reach = actor.reach(USERS)?;
    let (record, revision) = find_within(&state, &reach, &source, &subject).await?;
    Ok(answer(StatusCode::OK, revision, PersonView::find(&state, &record, revision).await?))
}

/// Erases a user: see [`erase`].
pub(in crate::issuer) async fn delete(
    State(state): State<IssuerState>,
    Extension(actor): Extension<Actor>,
    ClientAddress(address): ClientAddress,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let (source, subject) = named(&state, id, query.as_deref())?;
    let reach = actor.reach(USERS)?;
    let (record, _revision) = find_within(&state, &reach, &source, &subject).await?;
    reach::refuse_superior(&state, &actor, &reach, &record).await?;
    let is_own = &*source == LOCAL && actor.user() == Some(&subject);
    run(&Erasure::CHECKS, &Erasure { actor: &actor, reach: &reach, is_own })?;
    let now = state.clock.now();
    let pseudonym = if &*source == LOCAL { audit::pseudonym(&state, &subject).await? } else { None };
    let removed = erase::erase(&state, &source, &subject, now).await?.ok_or_else(no_such_user)?;
    // Of an erased user the log keeps a pseudonym.
    if let Some(actor) = if is_own { trail::somebody(now) } else { Some(actor) } {
        let organization = record.organization.as_deref();
        trail::note(
            &state,
            &actor,
            Done { deed: Deed::UserErased, subject: pseudonym.as_deref().unwrap_or_default(), organization, address },
            now,
        )
        .await;
    }
    Ok(answer_removal(&removed))
}

/// A user that is to be erased.
pub(in crate::issuer) struct Erasure<'a> {
    actor: &'a Actor,
    reach: &'a Reach,
    is_own: bool,
}

impl Erasure<'_> {
    pub(in crate::issuer) const CHECKS: [Check<Self, Problem>; 1] =
        [Check { name: "a user erases itself in person", run: erases_itself_in_person }];
}

fn erases_itself_in_person(erasure: &Erasure<'_>) -> Result<(), Problem> {
    if erasure.is_own && *erasure.reach != Reach::Everything && matches!(erasure.actor, Actor::Caller(_)) {
        return Err(Problem::new(Code::Forbidden, "a user erases itself by signing in, not by a key or a token"));
    }
    Ok(())
}

/// The user that the path and `source` name.
pub(super) fn named(
    state: &IssuerState,
    id: Result<Path<String>, PathRejection>,
    query: Option<&str>,
) -> Result<(Arc<str>, Subject), Problem> {
    let rules = state.rules.load();
    let mut parameters = Parameters::read(query)?;
    let source = parameters.parsed("source", |text| known_source(&rules, text), sources_sentence(&rules))?;
    parameters.finish("source")?;
    let Path(id) = id.map_err(|_error| no_such_user())?;
    let subject = Subject::parse(&id).map_err(|_error| no_such_user())?;
    Ok((source.unwrap_or_else(|| Arc::from(LOCAL)), subject))
}

fn known_source(rules: &Rules, name: &str) -> Option<Arc<str>> {
    let foreign = rules.issuers.iter().map(|issuer| issuer.source.name.as_str());
    std::iter::once(LOCAL).chain(foreign).find(|known| *known == name).map(Arc::from)
}

fn sources_sentence(rules: &Rules) -> String {
    let foreign = rules.issuers.iter().map(|issuer| issuer.source.name.as_str());
    format!("must be one of: {}", std::iter::once(LOCAL).chain(foreign).collect::<Vec<_>>().join(", "))
}

pub(super) fn no_such_user() -> Problem {
    Problem::new(Code::NotFound, "there is no user of this id")
}
