//! `/v1/sessions`: where a user is signed in, for itself alone. An operator names the user. A page of the user's own browser finds here
//! what it needs to change things by its cookie.

use std::sync::Arc;
use std::sync::LazyLock;

use axum::Extension;
use axum::Json;
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

use crate::issuer::IssuerState;
use crate::issuer::accounts::address::ClientAddress;
use crate::issuer::accounts::shelf;
use crate::issuer::actor::Actor;
use crate::issuer::actor::USERS;
use crate::issuer::callers::FORM_PURPOSE;
use crate::issuer::names;
use crate::issuer::parameters::Parameters;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::sessions;
use crate::issuer::views::PageView;
use crate::issuer::views::show_time;
use crate::model::account::SessionRecord;
use crate::model::caller::Subject;
use crate::model::time::Timestamp;
use crate::store::codec::Shelved;

/// A session without its handle.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Session, example = json!({
    "id": "4Fz0c2Qk1LmN7sVb3xYt0A", "user": "ann", "method": "password", "agent": "Mozilla/5.0", "current": true,
    "created_at": "2027-01-15T08:00:00Z", "used_at": "2027-01-15T09:30:00Z", "expires_at": "2027-01-15T21:30:00Z"
}))]
pub(in crate::issuer) struct SessionView {
    id: Arc<str>,
    user: String,
    /// `password`, or the provider of a sign-in elsewhere.
    method: Arc<str>,
    /// What the browser calls itself.
    agent: Option<Arc<str>>,
    /// Whether this request came in it.
    current: bool,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    used_at: String,
    #[schema(format = DateTime)]
    expires_at: String,
}

/// The session that this request came in, and what its changes carry as `x-csrf-token`.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = OwnSession, example = json!({
    "csrf_token": "q1Zt0w6mJ3kP0aV7tYcW2bN8eRr5uXo4sDfGhJkLzXc",
    "id": "4Fz0c2Qk1LmN7sVb3xYt0A", "user": "ann", "method": "password", "agent": "Mozilla/5.0", "current": true,
    "created_at": "2027-01-15T08:00:00Z", "used_at": "2027-01-15T09:30:00Z", "expires_at": "2027-01-15T21:30:00Z"
}))]
pub(in crate::issuer) struct OwnSessionView {
    csrf_token: String,
    #[serde(flatten)]
    session: SessionView,
}

impl SessionView {
    fn new(session: &SessionRecord, actor: &Actor) -> Self {
        Self {
            id: Arc::clone(&session.id),
            user: session.user.as_str().to_owned(),
            method: Arc::clone(&session.method),
            agent: session.agent.clone(),
            current: matches!(actor, Actor::Person(person) if person.session.id == session.id),
            created_at: show_time(session.created),
            used_at: show_time(session.used),
            expires_at: show_time(session.idle_until.min(session.ends)),
        }
    }
}

pub(super) async fn list(
    State(state): State<IssuerState>,
    Extension(actor): Extension<Actor>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let user = whose(&actor, query.as_deref())?;
    let now = state.clock.now();
    let found = shelf::all::<SessionRecord>(&state, "", |session| session.user == user && session.is_live(now)).await?;
    let data = found.iter().map(|(session, _version)| SessionView::new(session, &actor)).collect();
    Ok(Json(PageView { data, next: None }).into_response())
}

pub(super) async fn show_own(
    State(state): State<IssuerState>,
    Extension(actor): Extension<Actor>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Actor::Person(person) = &actor else {
        return Err(Problem::new(Code::NotFound, "the credential of this request is no session"));
    };
    // A browser that has a session needs no cookie beside it.
    let (csrf_token, _cookie) = sessions::form_token(&state, &headers, FORM_PURPOSE)?;
    Ok(Json(OwnSessionView { csrf_token, session: SessionView::new(&person.session, &actor) }).into_response())
}

pub(super) async fn end_one(
    State(state): State<IssuerState>,
    Extension(actor): Extension<Actor>,
    ClientAddress(address): ClientAddress,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let user = whose(&actor, query.as_deref())?;
    let Path(id) = id.map_err(|_error| no_such_session())?;
    let reach = actor.reach(USERS)?;
    let found = if names::is_record_id(&id) { reach.sees(shelf::find::<SessionRecord>(&state, &id).await)? } else { None };
    if found.is_none() {
        // As long as for somebody else's.
        let _as_long = std::hint::black_box(SessionRecord::decode(&id, &SAMPLE));
    }
    let (session, _version) = found.filter(|(session, _version)| session.user == user).ok_or_else(no_such_session)?;
    sessions::end(&state, &session, address, state.clock.now()).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn end_all(
    State(state): State<IssuerState>,
    Extension(actor): Extension<Actor>,
    ClientAddress(address): ClientAddress,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let user = whose(&actor, query.as_deref())?;
    let now = state.clock.now();
    for (session, _version) in shelf::all::<SessionRecord>(&state, "", |session| session.user == user).await? {
        sessions::end(&state, &session, address, now).await?;
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// A record like any other, to be read where there is none.
static SAMPLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let at = Timestamp::from_unix_seconds;
    let record = Subject::parse("nobody").ok().map(|user| SessionRecord {
        id: "0000000000000000000000".into(),
        user,
        method: "password".into(),
        created: at(0),
        used: at(0),
        idle_until: at(0),
        ends: at(0),
        agent: Some("a browser of a usual name".into()),
    });
    record.map(|record| record.encode()).unwrap_or_default()
});

/// The actor itself; whoever reaches everything names somebody.
fn whose(actor: &Actor, query: Option<&str>) -> Result<Subject, Problem> {
    let mut parameters = Parameters::read(query)?;
    let named = parameters.parsed("user", |text| Subject::parse(text).ok(), names::SUBJECT)?;
    parameters.finish("user")?;
    if actor.is_application() {
        return Err(Problem::lacks_scope(USERS));
    }
    match (named, actor.user()) {
        (None, Some(own)) => Ok(own.clone()),
        (Some(named), Some(own)) if named == *own => Ok(named),
        (Some(named), _) if matches!(actor, Actor::Operator) || actor.holds(crate::issuer::actor::ADMIN) => Ok(named),
        (Some(_), _) => Err(no_such_session()),
        (None, None) => Err(Problem::field("user", "is required of whoever is no user")),
    }
}

fn no_such_session() -> Problem {
    Problem::new(Code::NotFound, "there is no such session")
}
