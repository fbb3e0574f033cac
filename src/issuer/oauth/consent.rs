//! Asking the person: what it is asked is kept as a ticket of its session, and its answer uses the ticket up.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::Request;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Deserialize;
use serde::Serialize;

use crate::issuer::IssuerState;
use crate::issuer::accounts::shelf;
use crate::issuer::accounts::trail;
use crate::issuer::accounts::trail::Done;
use crate::issuer::actor::Actor;
use crate::issuer::actor::Person;
use crate::issuer::audit::Deed;
use crate::issuer::keys::ATTEMPTS;
use crate::issuer::oauth::authorize::ReturnAddress;
use crate::issuer::oauth::authorize::asked::encode;
use crate::issuer::oauth::authorize::find_client;
use crate::issuer::oauth::authorize::is_registered;
use crate::issuer::oauth::authorize::refusal::ErrorCode;
use crate::issuer::oauth::authorize::refusal::Refusal;
use crate::issuer::oauth::authorize::within_user;
use crate::issuer::oauth::grants;
use crate::issuer::oauth::grants::Granted;
use crate::issuer::oauth::sha256_hex;
use crate::issuer::pages;
use crate::issuer::pages::form::Form;
use crate::issuer::pages::visit::Visit;
use crate::issuer::problem::Problem;
use crate::issuer::sessions;
use crate::issuer::users;
use crate::model::account::TicketRecord;
use crate::model::caller::Subject;
use crate::model::client::ClientId;
use crate::model::client::ClientKind;
use crate::model::client::ClientRecord;
use crate::model::client::ClientState;
use crate::model::grant::GrantId;
use crate::model::grant::GrantRecord;
use crate::model::grant::GrantState;
use crate::model::handle::HandleKind;
use crate::model::handle::read_handle;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::secrets::random_id;
use crate::store::Write;

/// How long a question waits for its answer.
const ASKED_FOR: Duration = Duration::from_secs(600);
const PURPOSE: &str = "consent";

/// What a person is asked: everything of the request that the grant needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::issuer::oauth) struct Question {
    pub client: ClientId,
    pub user: Subject,
    pub back: ReturnAddress,
    pub challenge: Arc<str>,
    pub scopes: Arc<ScopeSet>,
    pub resources: Vec<Arc<str>>,
    /// What became of it: it stays a while, so that a second click of the same button ends where the first did.
    pub answer: Option<Answer>,
}

/// What the person said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(in crate::issuer::oauth) enum Answer {
    Given(GrantId),
    Denied,
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<h1>Allow {{ client }}?</h1>
<p>Signed in as <strong>{{ user }}</strong>. <a href="{{ base }}/sign-out?return_to={{ here }}">Not you?</a></p>
{% if scopes.is_empty() %}<p><strong>{{ client }}</strong> will learn who you are, and nothing else.</p>
{% else %}<p><strong>{{ client }}</strong> will be able to:</p>
<ul>{% for scope in scopes %}<li>{{ scope.0 }} <code>{{ scope.1 }}</code></li>{% endfor %}</ul>{% endif %}
<p>You will be sent to <strong>{{ host }}</strong>.{% if let Some(website) = website %} It says its site is <code>{{ website }}</code>.{% endif %}</p>
{% if is_public %}<p class="note">Anybody can copy an application of this kind. Allow it only if you have just started it yourself.</p>{% endif %}
<form method="post" action="{{ base }}/oauth/consent">
<input type="hidden" name="form_token" value="{{ form_token }}">
<input type="hidden" name="ticket" value="{{ ticket }}">
<div class="choice"><button type="submit" name="answer" value="allow">Allow</button>
<button type="submit" name="answer" value="deny" class="quiet">Deny</button></div>
</form>
<p class="note">You can take this back at any time under <a href="{{ base }}/account">your account</a>.</p>"#
)]
struct Page<'a> {
    base: &'a str,
    /// The request that asked, escaped: somebody else may sign in and answer it.
    here: &'a str,
    client: &'a str,
    website: Option<&'a str>,
    user: &'a str,
    host: &'a str,
    is_public: bool,
    /// Words and name of each.
    scopes: Vec<(&'a str, &'a str)>,
    form_token: &'a str,
    ticket: &'a str,
}

/// Keeps the question and shows it. `here` is the path that asked for it.
pub(in crate::issuer::oauth) async fn ask(
    state: &IssuerState,
    visit: &Visit,
    person: &Person,
    client: &ClientRecord,
    question: Question,
    here: &str,
) -> Response {
    match keep(state, visit, person, &question).await {
        Ok((ticket, handle)) => show(state, visit, client, &question, &ticket, &handle, here),
        Err(problem) => pages::error::problem(visit, &problem),
    }
}

/// `POST /oauth/consent`.
pub(in crate::issuer::oauth) async fn answer(State(state): State<IssuerState>, request: Request) -> Response {
    let (visit, body) = match Visit::begin(&state, request) {
        Ok(begun) => begun,
        Err(problem) => return problem.into_response(),
    };
    match Form::read(&visit.headers, body).await {
        Ok(form) => judge(&state, &visit, form).await.unwrap_or_else(|problem| pages::error::problem(&visit, &problem)),
        Err(problem) => pages::error::problem(&visit, &problem),
    }
}

async fn keep(state: &IssuerState, visit: &Visit, person: &Person, question: &Question) -> Result<(TicketRecord, String), Problem> {
    let ticket = TicketRecord {
        id: Arc::from(random_id()?),
        purpose: Arc::from(PURPOSE),
        browser: bound_to(person),
        data: write(question),
        created: visit.now,
        expires: visit.now.plus(ASKED_FOR),
    };
    let put = shelf::put(&ticket, Some(ticket.expires));
    if !state.records.commit(vec![shelf::absent(&ticket)], vec![put], visit.now).await?.is_done() {
        return Err(Problem::changed_meanwhile());
    }
    let rules = state.rules.load();
    let handle = state.peppers.handle(&rules.key_brand, HandleKind::Ticket, &ticket.id, 0, state.peppers.current_id())?;
    Ok((ticket, handle.to_string()))
}

fn show(
    state: &IssuerState,
    visit: &Visit,
    client: &ClientRecord,
    question: &Question,
    ticket: &TicketRecord,
    handle: &str,
    here: &str,
) -> Response {
    let (form_token, cookie) = match sessions::form_token(state, &visit.headers, &form_purpose(&ticket.id)) {
        Ok(made) => made,
        Err(problem) => return pages::error::problem(visit, &problem),
    };
    let words = |scope: &'_ str| visit.issuance.scopes.get_key_value(scope).map(|(name, words)| (&**words, &**name));
    let page = Page {
        base: &visit.base,
        here: &encode(here.as_bytes()),
        client: &client.name,
        website: client.website.as_deref(),
        user: question.user.as_str(),
        host: question.back.host(),
        is_public: client.kind != ClientKind::Confidential,
        scopes: question.scopes.iter().filter_map(|scope| words(scope.as_str())).collect(),
        form_token: &form_token,
        ticket: handle,
    };
    pages::with_cookie(pages::show(visit, StatusCode::OK, "Allow access", &page, &[question.back.form_source()]), cookie)
}

async fn judge(state: &IssuerState, visit: &Visit, mut form: Form) -> Result<Response, Problem> {
    let used_up =
        || pages::error::refused(visit, "This question was answered already, or has waited too long. Start again in the application.");
    let handle = form.take("ticket").unwrap_or_default();
    let rules = state.rules.load_full();
    let ticket = read_handle(&rules.key_brand, &handle).filter(|handle| handle.kind == HandleKind::Ticket);
    let Some(ticket) = ticket.filter(|handle| state.peppers.prove_handle(handle).is_some()) else {
        return Ok(used_up());
    };
    // The token is bound to this very question: a form of one cannot answer another.
    sessions::check_form(state, &visit.headers, &form_purpose(ticket.id), form.take("form_token").as_deref())?;
    let Some(person) = sessions::current(state, &visit.headers, visit.now).await? else {
        return Ok(pages::error::refused(visit, "You are not signed in any more. Start again in the application."));
    };
    let allows = form.take("answer").as_deref() == Some("allow");
    for _attempt in 0..ATTEMPTS {
        let Some((record, version)) = shelf::find::<TicketRecord>(state, ticket.id).await? else { return Ok(used_up()) };
        let Some(question) = open(&record, &person, visit.now) else { return Ok(used_up()) };
        if let Some(answer) = &question.answer {
            return Ok(repeat(state, visit, &question, answer, allows).await?.unwrap_or_else(used_up));
        }
        let (mut preconditions, mut writes) = (Vec::new(), Vec::new());
        let mut given = None;
        if allows {
            let Some(grant) = grant(state, visit, &person, &question).await? else {
                return Ok(pages::error::refused(visit, "The application is not known any more, or you may not use it."));
            };
            let (grant, write) = grant;
            let Some((_user, standing)) = users::standing(state, &person.user.subject).await? else { return Ok(used_up()) };
            preconditions.push(standing);
            writes.push(write);
            given = Some(grant);
        }
        let answer = given.as_ref().map_or(Answer::Denied, |grant| Answer::Given(grant.id.clone()));
        // For as long as the code lives, a second click finds where the first one went.
        let expires = visit.now.plus(visit.issuance.lifetimes.code);
        let answered = TicketRecord { data: write(&Question { answer: Some(answer), ..question.clone() }), expires, ..record };
        writes.push(shelf::put(&answered, Some(expires)));
        let code = given.as_ref().map(|grant| grants::code_of(state, grant)).transpose()?;
        preconditions.push(shelf::at(&answered, version));
        if !state.records.commit(preconditions, writes, visit.now).await?.is_done() {
            continue;
        }
        let location = match (given, code) {
            (Some(grant), Some(code)) => {
                let actor = Actor::Person(Arc::new(person));
                let (subject, organization) = (grant.id.as_str(), grant.organization.as_deref());
                let done = Done { deed: Deed::ConsentGiven, subject, organization, address: visit.address };
                trail::note(state, &actor, done, visit.now).await;
                question.back.with_code(&visit.issuance.url, &code)
            }
            (Some(_) | None, _) => denied(visit, &question),
        };
        return Ok(pages::go_to(&location));
    }
    Err(Problem::changed_meanwhile())
}

/// The question, if it was put to this very person and still waits.
fn open(record: &TicketRecord, person: &Person, now: Timestamp) -> Option<Question> {
    let is_ours = *record.purpose == *PURPOSE && record.browser == bound_to(person) && now < record.expires;
    let question = serde_json::from_value::<Question>(record.data.clone()).ok()?;
    (is_ours && question.user == person.user.subject).then_some(question)
}

/// What the same answer leads to once more: the same code, as long as nobody has redeemed it.
async fn repeat(
    state: &IssuerState,
    visit: &Visit,
    question: &Question,
    answer: &Answer,
    allows: bool,
) -> Result<Option<Response>, Problem> {
    match (answer, allows) {
        (Answer::Denied, false) => Ok(Some(pages::go_to(&denied(visit, question)))),
        (Answer::Given(id), true) => {
            let grant = grants::find(state, id.as_str()).await?;
            let Some((grant, _)) = grant.filter(|(grant, _)| matches!(grant.state, GrantState::Pending(_))) else { return Ok(None) };
            let code = grants::code_of(state, &grant)?;
            Ok(Some(pages::go_to(&question.back.with_code(&visit.issuance.url, &code))))
        }
        (Answer::Denied, true) | (Answer::Given(_), false) => Ok(None),
    }
}

/// The grant, within what client and user are now: both may have changed while the page was shown.
async fn grant(state: &IssuerState, visit: &Visit, person: &Person, question: &Question) -> Result<Option<(GrantRecord, Write)>, Problem> {
    let client = find_client(state, question.client.as_str()).await?.filter(|client| client.state == ClientState::Active);
    let Some(client) = client.filter(|client| is_registered(client, &question.back.uri)) else { return Ok(None) };
    let granted = Granted {
        client: &client,
        user: &person.user,
        session: Some(Arc::clone(&person.session.id)),
        redirect_uri: Arc::clone(&question.back.uri),
        redirect_uri_named: question.back.named,
        challenge: Arc::clone(&question.challenge),
        scopes: Arc::new(within_user(&question.scopes.intersect(&client.scopes), &person.user).without_reserved()),
        resources: question.resources.clone(),
    };
    let id = grants::new_grant_id(&person.user.subject)?;
    Ok(Some(grants::pending(state, &visit.issuance, granted, id, visit.now)))
}

fn denied(visit: &Visit, question: &Question) -> String {
    question.back.with_error(&visit.issuance.url, Refusal::new(ErrorCode::AccessDenied, "the user denied it"))
}

/// A ticket belongs to a session, and so to a browser.
fn bound_to(person: &Person) -> Arc<str> {
    Arc::from(sha256_hex(person.session.id.as_bytes()))
}

fn form_purpose(ticket: &str) -> String {
    format!("consent {ticket}")
}

fn write(question: &Question) -> serde_json::Value {
    // Texts and lists: nothing in it can fail to be written.
    serde_json::to_value(question).unwrap_or_default()
}
