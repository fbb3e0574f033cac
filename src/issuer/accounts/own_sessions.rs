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
use crate::issuer::actor::ADMIN;
use crate::issuer::actor::Actor;
use crate::issuer::actor::USERS;
use crate::issuer::callers::FORM_PURPOSE;
use crate::issuer::checks::Check;
use crate::issuer::checks::run;
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
    let (session, _version) = found.ok_or_else(no_such_session)?;
    let ending = Ending { session, user };
    run(&ENDING, &ending)?;
    sessions::end(&state, &ending.session, address, state.clock.now()).await?;
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

/// Somebody who asks for sessions.
struct Asking {
    actor: Actor,
    /// Whose; none: its own.
    named: Option<Subject>,
}

const ASKING: [Check<Asking, Problem>; 2] = [
    Check { name: "an application has no part in sessions", run: is_no_application },
    Check { name: "nobody but an administrator names another", run: may_name },
];

fn is_no_application(asking: &Asking) -> Result<(), Problem> {
    if asking.actor.is_application() { Err(Problem::lacks_scope(USERS)) } else { Ok(()) }
}

fn may_name(asking: &Asking) -> Result<(), Problem> {
    let is_own = asking.named.as_ref().is_none_or(|named| asking.actor.user() == Some(named));
    if is_own || matches!(asking.actor, Actor::Operator) || asking.actor.holds(ADMIN) { Ok(()) } else { Err(no_such_session()) }
}

/// A session that is to end, and whose sessions were asked for.
struct Ending {
    session: SessionRecord,
    user: Subject,
}

const ENDING: [Check<Ending, Problem>; 1] = [Check { name: "the session is the user's", run: is_users }];

fn is_users(ending: &Ending) -> Result<(), Problem> {
    if ending.session.user == ending.user { Ok(()) } else { Err(no_such_session()) }
}

/// The actor itself; whoever reaches everything names somebody.
fn whose(actor: &Actor, query: Option<&str>) -> Result<Subject, Problem> {
    let mut parameters = Parameters::read(query)?;
    let named = parameters.parsed("user", |text| Subject::parse(text).ok(), names::SUBJECT)?;
    parameters.finish("user")?;
    let asking = Asking { actor: actor.clone(), named };
    run(&ASKING, &asking)?;
    let user = asking.named.or_else(|| actor.user().cloned());
    user.ok_or_else(|| Problem::field("user", "is required of whoever is no user"))
}

fn no_such_session() -> Problem {
    Problem::new(Code::NotFound, "there is no such session")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock as _;
    use crate::issuer::accounts::tests::Browser;
    use crate::issuer::accounts::tests::founder;
    use crate::issuer::checks::assert_each_is_needed;
    use crate::issuer::tests::Issuer;
    use crate::model::caller::Caller;

    // oauth: U5
    #[tokio::test]
    async fn every_check_of_a_sessions_owner_holds_something_up() {
        let issuer = Issuer::issuing(|_| {});
        founder(&issuer, "alice").await;
        let zed = founder(&issuer, "zed").await.user;
        let (alice, zeds) = (Browser::of(&issuer, "alice").await, Browser::of(&issuer, "zed").await.actor().await);
        let (_id, key) = issuer.key_of("bob", "acme", &["orders:read"]).await;
        let of_bob = issuer.judge(&key).await.unwrap();
        let by_application = Actor::Caller(Arc::new(Caller { client: Some("app_1".into()), ..Caller::clone(&of_bob) }));
        let own = |actor: Actor| Asking { named: actor.user().cloned(), actor };
        let alices = alice.actor().await;
        let rows = [
            ("an application has no part in sessions", own(by_application)),
            ("nobody but an administrator names another", Asking { actor: alices.clone(), named: Some(zed.clone()) }),
            ("nobody but an administrator names another", Asking { actor: Actor::Caller(of_bob), named: Some(zed.clone()) }),
        ];
        run(&ASKING, &own(alices.clone())).unwrap();
        assert_each_is_needed(|| ASKING, &rows);
        run(&ASKING, &Asking { actor: Actor::Operator, named: Some(zed.clone()) }).unwrap();
        let session = |actor: &Actor| match actor {
            Actor::Person(person) => person.session.clone(),
            Actor::Operator | Actor::Caller(_) => panic!("no session"),
        };
        let ending = |actor: &Actor| Ending { session: session(actor), user: zed.clone() };
        run(&ENDING, &ending(&zeds)).unwrap();
        assert_each_is_needed(|| ENDING, &[("the session is the user's", ending(&alices))]);
        // The list is picked from all that there are.
        let all = shelf::all::<SessionRecord>(&issuer.state, "", |session| session.is_live(issuer.clock.now())).await.unwrap();
        let listed = alice.ok("GET", "/v1/sessions", serde_json::Value::Null).await;
        assert_eq!((all.len(), listed["data"].as_array().unwrap().len()), (2, 1));
    }
}
