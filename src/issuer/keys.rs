//! `/v1/keys`: create, list, show, change, revoke; and entries for the keys file.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Path;
use axum::extract::RawQuery;
use axum::extract::State;
use axum::extract::rejection::PathRejection;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::issuer::IssuerState;
use crate::issuer::events::KeyEvent;
use crate::issuer::events::tell;
use crate::issuer::events::told;
use crate::issuer::input::Fields;
use crate::issuer::names;
use crate::issuer::parameters::Parameters;
use crate::issuer::parameters::key_id;
use crate::issuer::parameters::no_such_key;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::users;
use crate::issuer::views::KeyView;
use crate::issuer::views::PageView;
use crate::issuer::views::Row;
use crate::issuer::views::answer;
use crate::issuer::views::answer_change;
use crate::issuer::views::check_revision;
use crate::issuer::views::show_time;
use crate::model::caller::Environment;
use crate::model::caller::Subject;
use crate::model::key::KEY_STATES;
use crate::model::key::KeyId;
use crate::model::key::KeyNotes;
use crate::model::key::KeyRecord;
use crate::model::key::KeySecret;
use crate::model::key::KeyState;
use crate::model::key::SecretHash;
use crate::model::key::is_key_id;
use crate::model::key::key_prefix;
use crate::model::key::write_key;
use crate::model::rules::Rules;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::secrets::random_bytes;
use crate::store::Committed;
use crate::store::Family;
use crate::store::Precondition;
use crate::store::RecordKey;
use crate::store::StoreError;
use crate::store::Write;
use crate::store::codec::decode_key;
use crate::store::codec::encode_key;
use crate::store::codec::write_hex;

/// How often a change that loses a race is judged again before its caller is asked to.
pub(in crate::issuer) const ATTEMPTS: usize = 4;
/// Records that one list request looks at; a filter that finds little continues on the next page.
const SCANNED_MAX: usize = 20_000;
const SCANNED_TOGETHER: usize = 500;

/// What a caller says of a new key.
#[derive(Debug)]
pub(in crate::issuer) struct Draft {
    pub name: Arc<str>,
    pub user: Subject,
    pub organization: Option<Arc<str>>,
    pub environment: Environment,
    pub scopes: Arc<ScopeSet>,
    tier: Option<Arc<str>>,
    rate_limit: Option<u32>,
    pinned_version: Option<Arc<str>>,
    not_before: Option<Timestamp>,
    expires: Option<Timestamp>,
}

impl Draft {
    pub(in crate::issuer) fn read(fields: &mut Fields, rules: &Rules, now: Timestamp) -> Result<Self, Problem> {
        let draft = Self {
            name: fields.required("name", names::name, names::NAME)?,
            user: fields.required("user", names::subject, names::SUBJECT)?,
            organization: fields.change("organization", names::organization, names::SUBJECT)?.set(),
            environment: fields.optional("environment", names::environment, names::ENVIRONMENT)?.unwrap_or(Environment::Live),
            scopes: fields.optional("scopes", names::scopes, names::SCOPES)?.unwrap_or_default(),
            tier: names::tier(fields, rules)?.set(),
            rate_limit: fields.change("rate_limit", names::rate_limit, names::RATE_LIMIT)?.set(),
            pinned_version: names::version(fields, rules)?.set(),
            not_before: fields.change("not_before", names::instant, names::INSTANT)?.set(),
            expires: names::expiry(fields, now)?.set(),
        };
        if draft.not_before.zip(draft.expires).is_some_and(|(begin, end)| end <= begin) {
            return Err(fields.complaint("not_before", "must lie before the expiry"));
        }
        Ok(draft)
    }

    pub(in crate::issuer) fn record(
        &self,
        id: &KeyId,
        hash: SecretHash,
        organization: Option<Arc<str>>,
        display: Arc<str>,
        now: Timestamp,
    ) -> KeyRecord {
        KeyRecord {
            id: id.clone(),
            name: Arc::clone(&self.name),
            user: self.user.clone(),
            organization,
            environment: self.environment,
            scopes: Arc::clone(&self.scopes),
            tier: self.tier.clone(),
            rate_limit: self.rate_limit,
            pinned_version: self.pinned_version.clone(),
            secrets: vec![KeySecret { hash, retires: None }],
            state: KeyState::Active,
            created: now,
            not_before: self.not_before,
            expires: self.expires,
            display,
            notes: KeyNotes::default(),
        }
    }
}

/// A key with its secret: the one answer that has it.
#[derive(Serialize)]
pub(in crate::issuer) struct Issued<'a> {
    pub key: &'a str,
    #[serde(flatten)]
    pub view: KeyView,
}

/// A new key for the keys file, with its secret; nothing is stored.
#[derive(Serialize)]
struct FileEntry<'a> {
    key: &'a str,
    id: &'a str,
    hash: String,
    /// The entry as it goes into the file.
    yaml: String,
}

pub(in crate::issuer) async fn create(State(state): State<IssuerState>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    told(&state, KeyEvent::Created, create_one(&state, &headers, body)).await
}

async fn create_one(state: &IssuerState, headers: &HeaderMap, body: Body) -> Result<Response, Problem> {
    let mut fields = Fields::read(headers, body).await?;
    let now = state.clock.now();
    let rules = state.rules.load_full();
    let draft = Draft::read(&mut fields, &rules, now)?;
    fields.finish()?;
    for _attempt in 0..ATTEMPTS {
        let owner = users::owner_of_new_key(state, &draft, now).await?;
        let (id, text) = mint(&rules, draft.environment)?;
        let place = RecordKey::key(id.as_str());
        let display = own_display(&rules, draft.environment, &id);
        let record = draft.record(&id, state.peppers.hash(text.as_bytes()), owner.organization, display, now);
        let mut preconditions = owner.preconditions;
        preconditions.push(Precondition::Absent(place.clone()));
        let mut writes = owner.writes;
        writes.push(Write::Put { key: place, bytes: encode_key(&record), expires: None });
        if state.records.commit(preconditions, writes, now).await?.is_done() {
            tracing::info!(key = %id, user = record.user.as_str(), scopes = %record.scopes, "key created");
            let revision = revision_of(state, &id).await;
            let view = KeyView::new(&record, revision, state, now).await;
            return Ok(answer(StatusCode::CREATED, revision, Issued { key: &text, view }));
        }
    }
    Err(Problem::changed_meanwhile())
}

pub(in crate::issuer) async fn list(State(state): State<IssuerState>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let mut parameters = Parameters::read(query.as_deref())?;
    let limit = parameters.limit()?;
    let mut after = parameters.parsed("after", |text| is_key_id(text).then(|| text.to_owned()), "must be the `next` of the page before")?;
    let user = parameters.text("user");
    let organization = parameters.text("organization");
    let known = |text: &str| KEY_STATES.into_iter().find(|state| *state == text);
    let wanted_state = parameters.parsed("state", known, format!("must be one of: {}", KEY_STATES.join(", ")))?;
    parameters.finish("user, organization, state, limit, after")?;
    let now = state.clock.now();
    let is_wanted = |record: &KeyRecord| {
        user.as_deref().is_none_or(|user| record.user.as_str() == user)
            && organization.as_deref().is_none_or(|organization| record.organization.as_deref() == Some(organization))
            && wanted_state.is_none_or(|wanted| record.state_at(now) == wanted)
    };
    let is_filtered = user.is_some() || organization.is_some() || wanted_state.is_some();
    let mut data = Vec::new();
    let mut scanned = 0;
    while data.len() < limit && scanned < SCANNED_MAX {
        let together = if is_filtered { SCANNED_TOGETHER } else { limit - data.len() };
        let page = state.records.range(Family::Key, after.as_deref(), together).await?;
        after = page.next;
        let mut last = None;
        for (place, stored) in page.records {
            if data.len() == limit {
                // The next page goes on behind the last that was looked at.
                after = last;
                break;
            }
            scanned += 1;
            match decode_key(&place.id, &stored.bytes) {
                Ok(record) if is_wanted(&record) => data.push(Row::Record(KeyView::new(&record, stored.version, &state, now).await)),
                Ok(_) => {}
                Err(_) if is_filtered => {}
                Err(_) => data.push(Row::Unreadable { id: place.id.clone(), state: "unreadable" }),
            }
            last = Some(place.id);
        }
        if after.is_none() {
            break;
        }
    }
    Ok(axum::response::IntoResponse::into_response(axum::Json(PageView { data, next: after })))
}

pub(in crate::issuer) async fn show(
    State(state): State<IssuerState>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let (record, revision) = load(&state, &key_id(id)?).await?;
    Ok(answer(StatusCode::OK, revision, KeyView::new(&record, revision, &state, state.clock.now()).await))
}

pub(in crate::issuer) async fn change(
    State(state): State<IssuerState>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let mut event = KeyEvent::Changed;
    let changed = change_one(&state, id, &headers, body, &mut event).await;
    tell(&state, event, &changed);
    changed
}

async fn change_one(
    state: &IssuerState,
    id: Result<Path<String>, PathRejection>,
    headers: &HeaderMap,
    body: Body,
    event: &mut KeyEvent,
) -> Result<Response, Problem> {
    let id = key_id(id)?;
    let mut fields = Fields::read(headers, body).await?;
    let now = state.clock.now();
    let rules = state.rules.load_full();
    let (mut record, revision) = load(state, &id).await?;
    check_revision(headers, revision)?;
    refuse_revoked(&record)?;
    if let Some(name) = fields.optional("name", names::name, names::NAME)? {
        record.name = name;
    }
    if let Some(scopes) = fields.optional("scopes", names::scopes, names::SCOPES)? {
        users::check_ceiling(state, &record.user, &scopes, &fields).await?;
        record.scopes = scopes;
    }
    names::tier(&mut fields, &rules)?.apply(&mut record.tier);
    fields.change("rate_limit", names::rate_limit, names::RATE_LIMIT)?.apply(&mut record.rate_limit);
    names::version(&mut fields, &rules)?.apply(&mut record.pinned_version);
    fields.change("not_before", names::instant, names::INSTANT)?.apply(&mut record.not_before);
    names::expiry(&mut fields, now)?.apply(&mut record.expires);
    if let Some(active) = fields.optional("active", names::truth, names::TRUTH)? {
        (record.state, *event) = match (active, record.state) {
            (true, KeyState::Active) => (KeyState::Active, KeyEvent::Changed),
            (true, KeyState::Disabled | KeyState::Revoked) => (KeyState::Active, KeyEvent::Enabled),
            (false, KeyState::Disabled) => (KeyState::Disabled, KeyEvent::Changed),
            (false, KeyState::Active | KeyState::Revoked) => (KeyState::Disabled, KeyEvent::Disabled),
        };
    }
    if record.not_before.zip(record.expires).is_some_and(|(begin, end)| end <= begin) {
        return Err(fields.complaint("not_before", "must lie before the expiry"));
    }
    fields.finish()?;
    let outcome = replace(state, &record, revision, Vec::new(), now).await?;
    tracing::info!(key = %record.id, state = record.state_at(now), scopes = %record.scopes, "key changed");
    let revision = revision_of(state, &record.id).await;
    Ok(answer_change(&outcome, revision, KeyView::new(&record, revision, state, now).await))
}

/// Revoking stays: the record remains as a tombstone, and nothing makes it active again.
pub(in crate::issuer) async fn revoke(
    State(state): State<IssuerState>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    told(&state, KeyEvent::Revoked, revoke_one(&state, id, &headers)).await
}

async fn revoke_one(state: &IssuerState, id: Result<Path<String>, PathRejection>, headers: &HeaderMap) -> Result<Response, Problem> {
    let id = key_id(id)?;
    let now = state.clock.now();
    for _attempt in 0..ATTEMPTS {
        let place = RecordKey::key(&id);
        let stored = match state.records.get(&place).await {
            Ok(Some(stored)) => stored,
            Ok(None) => return Err(no_such_key()),
            Err(StoreError::Corrupt { .. }) => return remove_unreadable(state, &id, now).await,
            Err(error) => return Err(error.into()),
        };
        let Ok(mut record) = decode_key(&id, &stored.bytes) else {
            return remove_unreadable(state, &id, now).await;
        };
        check_revision(headers, stored.version)?;
        let is_news = record.state != KeyState::Revoked;
        record.state = KeyState::Revoked;
        let write = Write::Put { key: place.clone(), bytes: encode_key(&record), expires: None };
        // A revocation is not put off by a change at the same time: it is judged again on top of that. One that stands already is
        // written once more, so that whoever was told that no replica has it learns by asking again that one has.
        let outcome = state.records.commit(vec![Precondition::AtVersion(place, stored.version)], vec![write], now).await?;
        if !outcome.is_done() {
            continue;
        }
        if is_news {
            tracing::info!(key = %record.id, "key revoked");
        }
        let revision = revision_of(state, &record.id).await;
        return Ok(answer_change(&outcome, revision, KeyView::new(&record, revision, state, now).await));
    }
    Err(Problem::changed_meanwhile())
}

pub(in crate::issuer) async fn file_entry(State(state): State<IssuerState>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let mut fields = Fields::read(&headers, body).await?;
    let rules = state.rules.load_full();
    let draft = Draft::read(&mut fields, &rules, state.clock.now())?;
    fields.finish()?;
    let (id, text) = mint(&rules, draft.environment)?;
    let hash = state.peppers.hash(text.as_bytes());
    let hash = format!("hmac-sha256:{}:{}", hash.pepper, write_hex(&hash.digest));
    let entry = FileEntry { key: &text, id: id.as_str(), yaml: draft.yaml(&id, &hash), hash };
    Ok(axum::response::IntoResponse::into_response((StatusCode::CREATED, axum::Json(entry))))
}

impl Draft {
    fn yaml(&self, id: &KeyId, hash: &str) -> String {
        // A JSON text is a YAML text too, whatever is in it.
        let quoted = |text: &str| serde_json::to_string(text).unwrap_or_default();
        let mut lines =
            vec![format!("- id: {id}"), format!("  name: {}", quoted(&self.name)), format!("  user: {}", quoted(self.user.as_str()))];
        let mut line = |name: &str, value: Option<String>| lines.extend(value.map(|value| format!("  {name}: {value}")));
        line("org", self.organization.as_deref().map(quoted));
        line("tier", self.tier.as_deref().map(quoted));
        let scopes: Vec<String> = self.scopes.iter().map(|scope| quoted(scope.as_str())).collect();
        line("scopes", Some(format!("[{}]", scopes.join(", "))));
        line("environment", Some(self.environment.as_str().to_owned()));
        line("rate_limit", self.rate_limit.map(|limit| limit.to_string()));
        line("version", self.pinned_version.as_deref().map(quoted));
        line("not_before", self.not_before.map(|instant| quoted(&show_time(instant))));
        line("expires", self.expires.map(|instant| quoted(&show_time(instant))));
        line("hash", Some(quoted(hash)));
        lines.join("\n") + "\n"
    }
}

/// A key that is there and can be read, with its revision.
pub(in crate::issuer) async fn load(state: &IssuerState, id: &str) -> Result<(KeyRecord, u64), Problem> {
    match state.records.get(&RecordKey::key(id)).await? {
        Some(stored) => Ok((decode_key(id, &stored.bytes)?, stored.version)),
        None if state.rules.load().file_keys.contains_key(id) => {
            Err(Problem::new(Code::Conflict, "this key stands in the keys file; change it there"))
        }
        None => Err(no_such_key()),
    }
}

/// Puts a changed record in the place of the revision that was read; whether replicas have it.
pub(in crate::issuer) async fn replace(
    state: &IssuerState,
    record: &KeyRecord,
    revision: u64,
    mut writes: Vec<Write>,
    now: Timestamp,
) -> Result<Committed, Problem> {
    let place = RecordKey::key(record.id.as_str());
    writes.push(Write::Put { key: place.clone(), bytes: encode_key(record), expires: None });
    match state.records.commit(vec![Precondition::AtVersion(place, revision)], writes, now).await? {
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
    match record.state {
        KeyState::Revoked => Err(Problem::new(Code::Conflict, "the key is revoked, and stays so; create another one")),
        KeyState::Active | KeyState::Disabled => Ok(()),
    }
}

pub(in crate::issuer) fn own_display(rules: &Rules, environment: Environment, id: &KeyId) -> Arc<str> {
    Arc::from(format!("{}{id}", key_prefix(&rules.key_brand, environment)))
}

fn mint(rules: &Rules, environment: Environment) -> Result<(KeyId, Zeroizing<String>), Problem> {
    let secret = Zeroizing::new(random_bytes::<32>()?);
    Ok(write_key(&rules.key_brand, environment, &random_bytes::<16>()?, &secret))
}

/// A key whose record cannot be read opens nothing; without its record it is unknown, which opens nothing either.
async fn remove_unreadable(state: &IssuerState, id: &str, now: Timestamp) -> Result<Response, Problem> {
    let outcome = state.records.commit(Vec::new(), vec![Write::Remove(RecordKey::key(id))], now).await?;
    tracing::warn!(key = id, "a key whose record could not be read was removed");
    Ok(answer_change(&outcome, 0, Row::<()>::Unreadable { id: id.to_owned(), state: "removed" }))
}
