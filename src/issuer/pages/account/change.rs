//! What the forms of `/account` do. Each takes the value that the page gave it, and leads back to the page.

use std::sync::Arc;

use axum::extract::Path;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::response::Response;

use crate::issuer::IssuerState;
use crate::issuer::accounts::password::change_own_password;
use crate::issuer::accounts::shelf;
use crate::issuer::accounts::sign_in;
use crate::issuer::accounts::trail;
use crate::issuer::accounts::trail::Done;
use crate::issuer::actor::Actor;
use crate::issuer::actor::Person;
use crate::issuer::audit::Deed;
use crate::issuer::callers::Asker;
use crate::issuer::keys::revoke;
use crate::issuer::names;
use crate::issuer::oauth::grants;
use crate::issuer::pages;
use crate::issuer::pages::account::PURPOSE;
use crate::issuer::pages::account::Wrong;
use crate::issuer::pages::account::show;
use crate::issuer::pages::form::Form;
use crate::issuer::pages::visit::Visit;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::sessions;
use crate::issuer::sessions::BY_PASSWORD;
use crate::model::account::SessionRecord;

/// `POST /account/apps`: takes back everything that a client was allowed.
pub(in crate::issuer::pages) async fn revoke_app(State(state): State<IssuerState>, request: Request) -> Response {
    submitted(&state, request, take_back).await
}

/// `POST /account/keys`: revokes a key.
pub(in crate::issuer::pages) async fn revoke_key(State(state): State<IssuerState>, request: Request) -> Response {
    submitted(&state, request, end_key).await
}

/// `POST /account/sessions`: ends another session, or all others.
pub(in crate::issuer::pages) async fn end_sessions(State(state): State<IssuerState>, request: Request) -> Response {
    submitted(&state, request, end).await
}

/// `POST /account/password`: sets another password.
pub(in crate::issuer::pages) async fn set_password(State(state): State<IssuerState>, request: Request) -> Response {
    submitted(&state, request, set).await
}

/// Reads a form of the page's, and who sent it.
async fn submitted(
    state: &IssuerState,
    request: Request,
    act: impl AsyncFnOnce(&IssuerState, &Visit, Person, Form) -> Result<Response, Problem>,
) -> Response {
    let (visit, body) = match Visit::begin(state, request) {
        Ok(begun) => begun,
        Err(problem) => return problem.into_response(),
    };
    let judged = async {
        let mut form = Form::read(&visit.headers, body).await?;
        sessions::check_form(state, &visit.headers, PURPOSE, form.take("form_token").as_deref())?;
        match sessions::current(state, &visit.headers, visit.now).await? {
            Some(person) => act(state, &visit, person, form).await,
            None => Ok(pages::go_to(&visit.local("/sign-in"))),
        }
    };
    judged.await.unwrap_or_else(|problem| pages::error::problem(&visit, &problem))
}

async fn take_back(state: &IssuerState, visit: &Visit, person: Person, mut form: Form) -> Result<Response, Problem> {
    let client = form.take("client").unwrap_or_default();
    let grants = grants::take_back(state, &person.user.subject, &client, visit.now).await?;
    let actor = Actor::Person(Arc::new(person));
    for grant in grants {
        let (subject, organization) = (grant.id.as_str(), grant.organization.as_deref());
        trail::note(state, &actor, Done { deed: Deed::GrantRevoked, subject, organization, address: visit.address }, visit.now).await;
    }
    Ok(pages::go_to(&visit.local("/account")))
}

async fn end_key(state: &IssuerState, visit: &Visit, person: Person, mut form: Form) -> Result<Response, Problem> {
    let id = form.take("key").unwrap_or_default();
    let asker = Asker { actor: Actor::Person(Arc::new(person)), address: visit.address, request_id: None };
    revoke::revoke(State(state.clone()), asker, Ok(Path(id)), HeaderMap::new()).await?;
    Ok(pages::go_to(&visit.local("/account")))
}

async fn end(state: &IssuerState, visit: &Visit, person: Person, mut form: Form) -> Result<Response, Problem> {
    let named = form.take("session").filter(|id| names::is_record_id(id));
    let is_meant = |session: &SessionRecord| match &named {
        Some(id) => *session.id == **id,
        None => true,
    };
    if named.is_some() || form.take("others").is_some() {
        let is_other = |session: &SessionRecord| session.user == person.user.subject && session.id != person.session.id;
        for (session, _version) in shelf::all::<SessionRecord>(state, "", |session| is_other(session) && is_meant(session)).await? {
            sessions::end(state, &session, visit.address, visit.now).await?;
        }
        // Somebody who leaves is offline; this one is still here.
        sign_in::mark_online(state, &person.user.subject, visit.now).await?;
    }
    Ok(pages::go_to(&visit.local("/account?done=sessions")))
}

async fn set(state: &IssuerState, visit: &Visit, person: Person, mut form: Form) -> Result<Response, Problem> {
    let (current, new) = (form.take("current_password"), form.take("new_password").unwrap_or_default());
    let user = person.user.subject.clone();
    let actor = Actor::Person(Arc::new(person.clone()));
    if let Err(problem) = change_own_password(state, &actor, current, new, visit.address, visit.now).await {
        // The API calls the new one `password`.
        let field = match (problem.code, problem.details.as_ref().map(|details| details.field.as_str())) {
            (Code::Unauthenticated, _) | (_, Some("current_password")) => "current_password",
            (_, Some("password")) => "new_password",
            (_, _) => return Err(problem),
        };
        let wrong = Wrong { field, text: pages::error::sentence(&problem) };
        return show(state, visit, &person, pages::error::status_of(&problem), Some(&wrong)).await;
    }
    let opened = sessions::open(state, &visit.headers, &user, BY_PASSWORD, visit.address, visit.now).await?;
    Ok(pages::with_cookie(pages::go_to(&visit.local("/account?done=password")), Some(opened.cookie)))
}
