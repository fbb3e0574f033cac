//! `/v1/users`: the owners of keys and the ceiling of what their credentials may do.

use std::sync::Arc;

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

use crate::issuer::IssuerState;
use crate::issuer::input::Change;
use crate::issuer::input::Fields;
use crate::issuer::input::Value;
use crate::issuer::keys::ATTEMPTS;
use crate::issuer::names;
use crate::issuer::parameters::Parameters;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::views::PageView;
use crate::issuer::views::Row;
use crate::issuer::views::UserView;
use crate::issuer::views::answer;
use crate::issuer::views::answer_change;
use crate::issuer::views::answer_removal;
use crate::issuer::views::check_revision;
use crate::model::caller::Subject;
use crate::model::key::HashAlgorithm;
use crate::model::key::KeyRecord;
use crate::model::key::Rights;
use crate::model::key::UserRecord;
use crate::model::key::UserState;
use crate::model::rules::Rules;
use crate::store::Committed;
use crate::store::Family;
use crate::store::Precondition;
use crate::store::RecordKey;
use crate::store::Write;
use crate::store::codec::decode_key;
use crate::store::codec::decode_user;
use crate::store::codec::encode_user;

/// The source of the users that keys act for.
pub(in crate::issuer) const LOCAL: &str = "local";
const RIGHTS: &str = "must be null (no ceiling) or a list of up to 128 scopes";
const VALID_FROM: &str = "must be \"now\" or a time such as \"2027-01-31T00:00:00Z\"";
const SCANNED_TOGETHER: usize = 500;
/// Keys that one commit removes with their user.
const REMOVED_TOGETHER: usize = 200;

pub(in crate::issuer) async fn create(State(state): State<IssuerState>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let mut fields = Fields::read(&headers, body).await?;
    let now = state.clock.now();
    let rules = state.rules.load_full();
    let subject = fields.required("id", names::subject, names::SUBJECT)?;
    let source = fields.optional("source", |value| known_source(&rules, names::text(value)?), sources_sentence(&rules))?;
    let record = UserRecord {
        source: source.unwrap_or_else(|| Arc::from(LOCAL)),
        subject,
        organization: fields.change("organization", names::organization, names::SUBJECT)?.set(),
        tier: names::tier(&mut fields, &rules)?.set(),
        rights: match fields.change("rights", names::scopes, RIGHTS)? {
            Change::Keep | Change::Clear => Rights::Unlimited,
            Change::Set(scopes) => Rights::Only(scopes),
        },
        state: if fields.optional("active", names::truth, names::TRUTH)? == Some(false) { UserState::Disabled } else { UserState::Active },
        valid_from: None,
        created: now,
    };
    fields.finish()?;
    let place = RecordKey::user(&record.source, record.subject.as_str());
    let write = Write::Put { key: place.clone(), bytes: encode_user(&record), expires: None };
    match state.records.commit(vec![Precondition::Absent(place)], vec![write], now).await? {
        Committed::Done | Committed::Unconfirmed => {
            tracing::info!(source = &*record.source, user = record.subject.as_str(), "user created");
            let revision = revision_of(&state, &record).await;
            Ok(answer(StatusCode::CREATED, revision, UserView::new(&record, revision)))
        }
        Committed::Refused(_) => Err(Problem::new(Code::Conflict, "there is a user of this id already")),
    }
}

pub(in crate::issuer) async fn list(State(state): State<IssuerState>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let mut parameters = Parameters::read(query.as_deref())?;
    let limit = parameters.limit()?;
    let after = parameters.parsed("after", |text| (text.len() <= 256).then(|| text.to_owned()), "must be the `next` of the page before")?;
    parameters.finish("limit, after")?;
    let page = state.records.range(Family::User, after.as_deref(), limit).await?;
    let data = page
        .records
        .into_iter()
        .map(|(place, stored)| match decode_user(&place.id, &stored.bytes) {
            Ok(record) => Row::Record(UserView::new(&record, stored.version)),
            Err(_) => Row::Unreadable { id: place.id, state: "unreadable" },
        })
        .collect();
    Ok(Json(PageView { data, next: page.next }).into_response())
}

pub(in crate::issuer) async fn show(
    State(state): State<IssuerState>,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let (source, subject) = named(&state, id, query.as_deref())?;
    let (record, revision) = find(&state, &source, subject.as_str()).await?.ok_or_else(no_such_user)?;
    Ok(answer(StatusCode::OK, revision, UserView::new(&record, revision)))
}

pub(in crate::issuer) async fn change(
    State(state): State<IssuerState>,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (source, subject) = named(&state, id, query.as_deref())?;
    let mut fields = Fields::read(&headers, body).await?;
    let now = state.clock.now();
    let rules = state.rules.load_full();
    let (mut record, revision) = find(&state, &source, subject.as_str()).await?.ok_or_else(no_such_user)?;
    check_revision(&headers, revision)?;
    let organization = record.organization.clone();
    fields.change("organization", names::organization, names::SUBJECT)?.apply(&mut record.organization);
    if record.organization != organization && &*record.source == LOCAL && has_foreign_keys(&state, &record).await? {
        return Err(
            fields.complaint("organization", "cannot change while the user has keys of another organisation; revoke or delete them first")
        );
    }
    names::tier(&mut fields, &rules)?.apply(&mut record.tier);
    match fields.change("rights", names::scopes, RIGHTS)? {
        Change::Keep => {}
        Change::Clear => record.rights = Rights::Unlimited,
        Change::Set(scopes) => record.rights = Rights::Only(scopes),
    }
    if let Some(active) = fields.optional("active", names::truth, names::TRUTH)? {
        record.state = if active { UserState::Active } else { UserState::Disabled };
    }
    let read_begin = |value: &Value| if names::text(value) == Some("now") { Some(now) } else { names::instant(value) };
    fields.change("valid_from", read_begin, VALID_FROM)?.apply(&mut record.valid_from);
    fields.finish()?;
    let place = RecordKey::user(&record.source, record.subject.as_str());
    let write = Write::Put { key: place.clone(), bytes: encode_user(&record), expires: None };
    match state.records.commit(vec![Precondition::AtVersion(place, revision)], vec![write], now).await? {
        outcome @ (Committed::Done | Committed::Unconfirmed) => {
            tracing::info!(source = &*record.source, user = record.subject.as_str(), "user changed");
            let revision = revision_of(&state, &record).await;
            Ok(answer_change(&outcome, revision, UserView::new(&record, revision)))
        }
        Committed::Refused(_) => Err(Problem::changed_meanwhile()),
    }
}

/// Deletes a user and every key of it. First nothing of it opens any more, then its keys go, then itself: a deletion that stops
/// half-way leaves a disabled user, and asking again completes it. A user of the same name made later inherits nothing.
pub(in crate::issuer) async fn delete(
    State(state): State<IssuerState>,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let (source, subject) = named(&state, id, query.as_deref())?;
    let now = state.clock.now();
    for _attempt in 0..ATTEMPTS {
        let (mut record, revision) = find(&state, &source, subject.as_str()).await?.ok_or_else(no_such_user)?;
        let place = RecordKey::user(&source, subject.as_str());
        // Always written, also when disabled before: the new revision refuses every key that is just being made for it.
        record.state = UserState::Disabled;
        let write = Write::Put { key: place.clone(), bytes: encode_user(&record), expires: None };
        if !state.records.commit(vec![Precondition::AtVersion(place.clone(), revision)], vec![write], now).await?.is_done() {
            continue;
        }
        let (record, revision) = find(&state, &source, subject.as_str()).await?.ok_or_else(no_such_user)?;
        if record.state == UserState::Active {
            // Somebody enabled it in between, and keys may be on their way again.
            continue;
        }
        let keys = if &*source == LOCAL { keys_of(&state, &subject).await? } else { Vec::new() };
        for some in keys.chunks(REMOVED_TOGETHER) {
            state.records.commit(Vec::new(), some.iter().flat_map(removal).collect(), now).await?;
        }
        let removed = state.records.commit(vec![Precondition::AtVersion(place.clone(), revision)], vec![Write::Remove(place)], now).await?;
        if removed.is_done() {
            tracing::info!(source = &*source, user = subject.as_str(), keys = keys.len(), "user deleted");
            // A replica that has the last write has those before it.
            return Ok(answer_removal(&removed));
        }
    }
    Err(Problem::changed_meanwhile())
}

/// The rendered ids of an organisation's users, for filtering counts.
pub(in crate::issuer) async fn of_organization(state: &IssuerState, organization: &str) -> Result<Vec<UserRecord>, Problem> {
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = state.records.range(Family::User, after.as_deref(), SCANNED_TOGETHER).await?;
        let records = page.records.iter().filter_map(|(place, stored)| decode_user(&place.id, &stored.bytes).ok());
        found.extend(records.filter(|record| record.organization.as_deref() == Some(organization)));
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(found),
        }
    }
}

pub(in crate::issuer) async fn find(state: &IssuerState, source: &str, subject: &str) -> Result<Option<(UserRecord, u64)>, Problem> {
    let place = RecordKey::user(source, subject);
    match state.records.get(&place).await? {
        Some(stored) => Ok(Some((decode_user(&place.id, &stored.bytes)?, stored.version))),
        None => Ok(None),
    }
}

async fn revision_of(state: &IssuerState, record: &UserRecord) -> u64 {
    let place = RecordKey::user(&record.source, record.subject.as_str());
    match state.records.get(&place).await {
        Ok(stored) => stored.map_or(0, |stored| stored.version),
        Err(_unknown) => 0,
    }
}

async fn keys_of(state: &IssuerState, user: &Subject) -> Result<Vec<KeyRecord>, Problem> {
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = state.records.range(Family::Key, after.as_deref(), SCANNED_TOGETHER).await?;
        let records = page.records.iter().filter_map(|(place, stored)| decode_key(&place.id, &stored.bytes).ok());
        found.extend(records.filter(|record| record.user == *user));
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(found),
        }
    }
}

async fn has_foreign_keys(state: &IssuerState, record: &UserRecord) -> Result<bool, Problem> {
    let keys = keys_of(state, &record.subject).await?;
    Ok(keys.iter().any(|key| key.organization.is_some() && key.organization != record.organization))
}

/// What a key leaves behind: nothing.
fn removal(key: &KeyRecord) -> Vec<Write> {
    let imported = key.secrets.iter().filter(|secret| secret.hash.algorithm == HashAlgorithm::HmacOfSha256);
    let mut writes: Vec<Write> = imported.map(|secret| Write::Remove(RecordKey::digest(&secret.hash.digest))).collect();
    writes.push(Write::Remove(RecordKey::key(key.id.as_str())));
    writes
}

/// The user that the path and `source` name.
fn named(state: &IssuerState, id: Result<Path<String>, PathRejection>, query: Option<&str>) -> Result<(Arc<str>, Subject), Problem> {
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

fn no_such_user() -> Problem {
    Problem::new(Code::NotFound, "there is no user of this id")
}
