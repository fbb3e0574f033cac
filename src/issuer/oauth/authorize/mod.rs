//! `/oauth/authorize`: RFC 6749 section 4.1.1, RFC 9700.
//!
//! The corridor: read the request, find its client, run the checks, see who is signed in, ask the person where it must be asked, give a
//! code. Nobody who is not signed in is ever sent on to a client, but for `prompt=none` from a client that an operator registered: who
//! can register clients could otherwise make links to us that lead anywhere (RFC 9700 section 4.11.2).

pub mod asked;
pub mod refusal;

mod asking;
mod checks;
mod redirect;

#[cfg(test)]
pub(in crate::issuer) mod testing;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::Request;
use axum::extract::State;
use axum::http::Method;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use serde_json::json;

use crate::issuer::IssuerState;
use crate::issuer::accounts::shelf;
use crate::issuer::accounts::trail;
use crate::issuer::accounts::trail::Done;
use crate::issuer::actor::Actor;
use crate::issuer::actor::Person;
use crate::issuer::audit::Deed;
use crate::issuer::checks::run;
use crate::issuer::oauth::authorize::checks::Inquired;
use crate::issuer::oauth::authorize::checks::Inquiry;
use crate::issuer::oauth::authorize::checks::Prompt;
use crate::issuer::oauth::authorize::checks::grantable;
use crate::issuer::oauth::authorize::refusal::ErrorCode;
use crate::issuer::oauth::authorize::refusal::Refusal;
use crate::issuer::oauth::consent;
use crate::issuer::oauth::grants;
use crate::issuer::oauth::grants::Granted;
use crate::issuer::oauth::grants::Prepared;
use crate::issuer::pages;
use crate::issuer::pages::visit::Visit;
use crate::issuer::problem::Problem;
use crate::issuer::sessions;
use crate::issuer::users;
use crate::model::caller::Subject;
use crate::model::client::ClientId;
use crate::model::client::ClientRecord;
use crate::model::client::is_client_id;
use crate::model::grant::GrantRecord;
use crate::model::issuance::Issuance;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::model::user::UserRecord;
use crate::model::user::UserState;

pub use crate::issuer::oauth::authorize::asked::AuthorizeParameters;

pub(in crate::issuer::oauth) use crate::issuer::oauth::authorize::checks::Ceiling;
pub(in crate::issuer::oauth) use crate::issuer::oauth::authorize::checks::bound;
pub(in crate::issuer::oauth) use crate::issuer::oauth::authorize::redirect::ReturnAddress;
pub(in crate::issuer::oauth) use crate::issuer::oauth::authorize::redirect::is_registered;

/// A request whose client and redirect URI are trusted.
#[derive(Debug)]
struct Trusted {
    client: Arc<ClientRecord>,
    back: ReturnAddress,
    /// What it asks for, or why it cannot have it.
    inquired: Result<Inquired, Refusal>,
    prompt: Prompt,
}

/// Why there is nothing trusted.
#[derive(Debug)]
enum Untrusted {
    Refused(Refusal),
    Failed(Problem),
}

/// `GET` and `POST /oauth/authorize`.
pub(super) async fn serve(State(state): State<IssuerState>, request: Request) -> Response {
    // What gives codes must not run for a HEAD, which axum would take for a GET.
    if *request.method() == Method::HEAD {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    authorize(state, request).await
}

async fn authorize(state: IssuerState, request: Request) -> Response {
    let method = request.method().clone();
    let (visit, body) = match Visit::begin(&state, request) {
        Ok(begun) => begun,
        Err(problem) => return problem.into_response(),
    };
    let mut encoded = visit.query.clone();
    if method == Method::POST {
        match pages::form::read_text(&visit.headers, body).await {
            Ok(text) if encoded.is_empty() => encoded = text,
            Ok(text) => encoded = format!("{encoded}&{text}"),
            Err(problem) => return pages::error::problem(&visit, &problem),
        }
    }
    let Ok(asked) = AuthorizeParameters::read(&encoded) else {
        return pages::error::refused(&visit, "The application that sent you here asked for more than fits into a request.");
    };
    let trusted = match trust(&state, &visit.issuance, &asked).await {
        Ok(trusted) => trusted,
        Err(Untrusted::Refused(refusal)) => return pages::error::refused(&visit, refusal.description),
        Err(Untrusted::Failed(problem)) => return pages::error::problem(&visit, &problem),
    };
    let person = match sessions::current(&state, &visit.headers, visit.now).await {
        Ok(person) => person,
        Err(problem) => return pages::error::problem(&visit, &problem),
    };
    match person {
        Some(person) => for_person(&state, &visit, &asked, &trusted, &person).await,
        // A form that another site sends comes without our cookie; as a link it comes with it.
        None if method == Method::POST => pages::go_to(&visit.local(&format!("/oauth/authorize?{}", asked.to_query()))),
        None => for_nobody(&visit, asked, &trusted),
    }
}

/// The same with a user who has proven itself to another route of ours (seed 004: the login token is the session). There is no page to
/// ask on, so that consent is implied for the user's own clients, and nobody else's get a code.
pub async fn authorize_as(state: &IssuerState, user: &Subject, asked: AuthorizeParameters) -> Response {
    let rules = state.rules.load_full();
    let now = state.clock.now();
    let Some(issuance) = &rules.issuance else { return StatusCode::NOT_FOUND.into_response() };
    let trusted = match trust(state, issuance, &asked).await {
        Ok(trusted) => trusted,
        Err(Untrusted::Refused(refusal)) => {
            let body = json!({"error": refusal.error.as_str(), "error_description": refusal.description});
            return (StatusCode::BAD_REQUEST, Json(body)).into_response();
        }
        Err(Untrusted::Failed(problem)) => return problem.into_response(),
    };
    let user = match users::find(state, users::LOCAL, user.as_str()).await {
        Ok(Some((user, _version))) if user.state == UserState::Active => user,
        Ok(_) => return StatusCode::UNAUTHORIZED.into_response(),
        Err(problem) => return problem.into_response(),
    };
    let answer = match &trusted.inquired {
        Err(refusal) => Err(*refusal),
        Ok(_) if run(&asking::implied_checks(), &asking::Implied { client: &trusted.client, user: &user }).is_err() => {
            Err(Refusal::new(ErrorCode::ConsentRequired, "the user must be asked; send it to this address in a browser"))
        }
        Ok(inquired) => match grantable(inquired, &trusted.client, &user, issuance) {
            Err(refusal) => Err(refusal),
            Ok(scopes) => {
                let actor = trail::themselves(user.clone(), now);
                give_code(
                    state,
                    issuance,
                    Giving { trusted: &trusted, inquired, scopes, user: &user, session: None, actor, address: None },
                    now,
                )
                .await
            }
        },
    };
    let location = match answer {
        Ok(location) => location,
        Err(refusal) => trusted.back.with_error(&issuance.url, refusal),
    };
    pages::redirect(StatusCode::FOUND, &location)
}

/// Where a form that leads on to this request may end, for the pages before it: the client's address, if it is one of its own.
pub(in crate::issuer) async fn form_source(state: &IssuerState, visit: &Visit, path: &str) -> Option<String> {
    let query = path.strip_prefix(&visit.local("/oauth/authorize?"))?;
    let asked = AuthorizeParameters::read(query).ok()?;
    trust(state, &visit.issuance, &asked).await.ok().map(|trusted| trusted.back.form_source())
}

/// The client of this id, if it has the form of one.
pub(in crate::issuer::oauth) async fn find_client(state: &IssuerState, id: &str) -> Result<Option<Arc<ClientRecord>>, Problem> {
    if !is_client_id(id) {
        return Ok(None);
    }
    Ok(shelf::find(state, id).await?.map(|(client, _version)| Arc::new(client)))
}

async fn trust(state: &IssuerState, issuance: &Issuance, asked: &AuthorizeParameters) -> Result<Trusted, Untrusted> {
    let id = asked.value("client_id").unwrap_or_default();
    let client = find_client(state, &id).await.map_err(Untrusted::Failed)?;
    let inquiry = Inquiry { asked, client: client.as_ref(), issuance };
    run(&checks::trust(), &inquiry).map_err(Untrusted::Refused)?;
    let inquired = run(&checks::rules(), &inquiry).map(|()| checks::read(&inquiry));
    let back = checks::return_address(&inquiry);
    match (client, back) {
        (Some(client), Some(back)) => Ok(Trusted { client, back, inquired, prompt: Prompt::of(asked) }),
        (Some(_) | None, _) => Err(Untrusted::Refused(Refusal::new(ErrorCode::InvalidRequest, "The request names no application."))),
    }
}

/// Nobody is signed in: the person signs in first, whatever is wrong with the request.
fn for_nobody(visit: &Visit, asked: AuthorizeParameters, trusted: &Trusted) -> Response {
    let stranger = asking::Stranger { prompt: trusted.prompt, client: &trusted.client, issuance: &visit.issuance };
    match run(&asking::stranger_checks(), &stranger) {
        Ok(()) => {}
        Err(asking::Instead::SignIn) => return to_sign_in(visit, asked),
        Err(asking::Instead::Page) => {
            let text = "You are not signed in, and the application that sent you here wants no sign-in page shown.";
            return pages::error::refused(visit, text);
        }
    }
    let refusal = trusted.inquired.as_ref().err().copied();
    let refusal = refusal.unwrap_or(Refusal::new(ErrorCode::LoginRequired, "nobody is signed in"));
    pages::go_to(&trusted.back.with_error(&visit.issuance.url, refusal))
}

fn to_sign_in(visit: &Visit, asked: AuthorizeParameters) -> Response {
    let here = after_login(visit, asked);
    pages::go_to(&visit.local(&format!("/sign-in?return_to={}", asked::encode(here.as_bytes()))))
}

/// The path of the same request, for after a sign-in.
fn after_login(visit: &Visit, asked: AuthorizeParameters) -> String {
    visit.local(&format!("/oauth/authorize?{}", asked.after_login().to_query()))
}

async fn for_person(state: &IssuerState, visit: &Visit, asked: &AuthorizeParameters, trusted: &Trusted, person: &Person) -> Response {
    let answer = match &trusted.inquired {
        Err(refusal) => Err(*refusal),
        Ok(_) if trusted.prompt.wants_login => return to_sign_in(visit, asked.clone()),
        Ok(inquired) => match grantable(inquired, &trusted.client, &person.user, &visit.issuance) {
            Err(refusal) => Err(refusal),
            Ok(scopes) => match needs_asking(state, trusted, inquired, &scopes, &person.user, visit.now).await {
                Ok(false) => {
                    let session = Some(Arc::clone(&person.session.id));
                    let actor = Actor::Person(Arc::new(person.clone()));
                    let giving = Giving { trusted, inquired, scopes, user: &person.user, session, actor, address: visit.address };
                    give_code(state, &visit.issuance, giving, visit.now).await
                }
                Ok(true) if trusted.prompt.is_silent => Err(Refusal::new(ErrorCode::ConsentRequired, "the user must be asked")),
                Ok(true) => {
                    let question = consent::Question {
                        client: trusted.client.id.clone(),
                        user: person.user.subject.clone(),
                        back: trusted.back.clone(),
                        challenge: Arc::clone(&inquired.challenge),
                        scopes: Arc::new(scopes),
                        resources: inquired.resources.clone(),
                        answer: None,
                    };
                    return consent::ask(state, visit, person, &trusted.client, question, &after_login(visit, asked.clone())).await;
                }
                Err(_) => Err(Refusal::new(ErrorCode::TemporarilyUnavailable, "the store does not answer; try again")),
            },
        },
    };
    pages::go_to(&match answer {
        Ok(location) => location,
        Err(refusal) => trusted.back.with_error(&visit.issuance.url, refusal),
    })
}

/// Whether the person is asked before a code is given.
async fn needs_asking(
    state: &IssuerState,
    trusted: &Trusted,
    inquired: &Inquired,
    scopes: &ScopeSet,
    user: &UserRecord,
    now: Timestamp,
) -> Result<bool, Problem> {
    let client = &trusted.client;
    if run(&asking::unasked_checks(), &asking::Unasked { client, prompt: trusted.prompt }).is_err() {
        return Ok(true);
    }
    let given = grants::live_of(state, &user.subject, now).await?;
    let allows = |grant: &GrantRecord| {
        run(&asking::allowed_checks(), &asking::Allowed { grant, client, scopes, resources: &inquired.resources }).is_ok()
    };
    Ok(!given.iter().any(allows))
}

/// What is given without a question.
struct Giving<'a> {
    trusted: &'a Trusted,
    inquired: &'a Inquired,
    scopes: ScopeSet,
    user: &'a UserRecord,
    session: Option<Arc<str>>,
    actor: Actor,
    address: Option<IpAddr>,
}

/// Grants; where the answer goes.
async fn give_code(state: &IssuerState, issuance: &Issuance, giving: Giving<'_>, now: Timestamp) -> Result<String, Refusal> {
    let Giving { trusted, inquired, scopes, user, session, actor, address } = giving;
    let unavailable = Refusal::new(ErrorCode::TemporarilyUnavailable, "no code can be given now; try again");
    let granted = Granted {
        client: &trusted.client,
        user,
        session,
        redirect_uri: Arc::clone(&trusted.back.uri),
        redirect_uri_named: trusted.back.named,
        challenge: Arc::clone(&inquired.challenge),
        scopes: Arc::new(scopes),
        resources: inquired.resources.clone(),
    };
    let Ok(Some(prepared)) = grants::prepare(state, issuance, granted, now).await else { return Err(unavailable) };
    let Prepared { record, code, preconditions, writes } = prepared;
    match state.records.commit(preconditions, writes, now).await {
        Ok(committed) if committed.is_done() => {}
        Ok(_) => return Err(unavailable),
        Err(error) => {
            tracing::error!(%error, "a grant could not be kept");
            return Err(unavailable);
        }
    }
    let (subject, organization) = (record.id.as_str(), record.organization.as_deref());
    trail::note(state, &actor, Done { deed: Deed::ConsentGiven, subject, organization, address }, now).await;
    Ok(trusted.back.with_code(&issuance.url, &code))
}

/// A client's name, for the pages.
pub(in crate::issuer) async fn client_name(state: &IssuerState, id: &ClientId) -> Option<Arc<str>> {
    find_client(state, id.as_str()).await.ok().flatten().map(|client| Arc::clone(&client.name))
}
