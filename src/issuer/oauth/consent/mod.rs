//! Asking the person: what it is asked is kept as a ticket of its session, and its answer uses the ticket up.

use std::sync::Arc;

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
use crate::issuer::checks::Check;
use crate::issuer::checks::Unmet;
use crate::issuer::checks::hold;
use crate::issuer::checks::run;
use crate::issuer::keys::ATTEMPTS;
use crate::issuer::oauth::authorize::Ceiling;
use crate::issuer::oauth::authorize::ReturnAddress;
use crate::issuer::oauth::authorize::asked::encode;
use crate::issuer::oauth::authorize::bound;
use crate::issuer::oauth::authorize::find_client;
use crate::issuer::oauth::authorize::is_registered;
use crate::issuer::oauth::authorize::refusal::ErrorCode;
use crate::issuer::oauth::authorize::refusal::Refusal;
use crate::issuer::oauth::grants;
use crate::issuer::oauth::grants::Granted;
use crate::issuer::oauth::grants::Prepared;
use crate::issuer::pages;
use crate::issuer::pages::form::Form;
use crate::issuer::pages::visit::Visit;
use crate::issuer::problem::Problem;
use crate::issuer::sessions;
use crate::issuer::tickets;
use crate::issuer::tickets::Brought;
use crate::model::account::TicketRecord;
use crate::model::caller::Subject;
use crate::model::client::ClientId;
use crate::model::client::ClientKind;
use crate::model::client::ClientRecord;
use crate::model::client::ClientState;
use crate::model::grant::GrantId;
use crate::model::grant::GrantRecord;
use crate::model::grant::GrantState;
use crate::model::hex::write_hex;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::secrets::sha256;
use crate::store::Precondition;
use crate::store::Write;

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
    match tickets::write(state, PURPOSE, &bound_to(person), &question, visit.now).await {
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
    let Some(id) = tickets::id_of(state, &handle) else { return Ok(used_up()) };
    // The token is bound to this very question: a form of one cannot answer another.
    sessions::check_form(state, &visit.headers, &form_purpose(id), form.take("form_token").as_deref())?;
    let Some(person) = sessions::current(state, &visit.headers, visit.now).await? else {
        return Ok(pages::error::refused(visit, "You are not signed in any more. Start again in the application."));
    };
    let allows = form.take("answer").as_deref() == Some("allow");
    for _attempt in 0..ATTEMPTS {
        let Some((ticket, version)) = shelf::find::<TicketRecord>(state, id).await? else { return Ok(used_up()) };
        let Some(question) = open(&ticket, &person, visit.now) else { return Ok(used_up()) };
        match run(&reply_checks(), &Reply { question: &question, person: &person }) {
            Ok(()) => {}
            Err(Closed::NotTheirs) => return Ok(used_up()),
            Err(Closed::Answered(answer)) => {
                return Ok(repeat(state, visit, &question, &answer, allows).await?.unwrap_or_else(used_up));
            }
        }
        let Some(settled) = settle(state, visit, &person, &question, (ticket, version), allows).await? else {
            return Ok(pages::error::refused(visit, "The application is not known any more, or you may not use it."));
        };
        if !state.records.commit(settled.preconditions, settled.writes, visit.now).await?.is_done() {
            continue;
        }
        if let Some(grant) = settled.given {
            let actor = Actor::Person(Arc::new(person));
            let (subject, organization) = (grant.id.as_str(), grant.organization.as_deref());
            let done = Done { deed: Deed::ConsentGiven, subject, organization, address: visit.address };
            trail::note(state, &actor, done, visit.now).await;
        }
        return Ok(pages::go_to(&settled.location));
    }
    Err(Problem::changed_meanwhile())
}

/// The question of a ticket, if it was put in this session and still waits.
fn open(ticket: &TicketRecord, person: &Person, now: Timestamp) -> Option<Question> {
    let session = bound_to(person);
    tickets::judge(&Brought { ticket, purpose: PURPOSE, browser: Some(&session), now }).ok()?;
    serde_json::from_value(ticket.data.clone()).ok()
}

/// A question, and who answers it.
struct Reply<'a> {
    question: &'a Question,
    person: &'a Person,
}

/// Why it takes no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Closed {
    NotTheirs,
    Answered(Answer),
}

fn reply_checks<'a>() -> [Check<Reply<'a>, Closed>; 2] {
    [Check { name: "it was put to this user", run: put_to_this_user }, Check { name: "it is unanswered", run: unanswered }]
}

fn put_to_this_user(reply: &Reply<'_>) -> Result<(), Closed> {
    if reply.question.user == reply.person.user.subject { Ok(()) } else { Err(Closed::NotTheirs) }
}

fn unanswered(reply: &Reply<'_>) -> Result<(), Closed> {
    reply.question.answer.clone().map_or(Ok(()), |answer| Err(Closed::Answered(answer)))
}

/// A second answer to the same question.
struct Again<'a> {
    first: &'a Answer,
    allows: bool,
    /// What the first one gave.
    grant: Option<&'a GrantRecord>,
}

fn again_checks<'a>() -> [Check<Again<'a>>; 2] {
    [
        Check { name: "it says what the first one said", run: |again| hold(matches!(again.first, Answer::Given(_)) == again.allows) },
        Check {
            name: "nobody has redeemed the code",
            run: |again| hold(again.grant.is_none_or(|grant| matches!(grant.state, GrantState::Pending(_)))),
        },
    ]
}

/// What the same answer leads to once more: the same code, as long as nobody has redeemed it.
async fn repeat(
    state: &IssuerState,
    visit: &Visit,
    question: &Question,
    first: &Answer,
    allows: bool,
) -> Result<Option<Response>, Problem> {
    let grant = match first {
        Answer::Denied => None,
        Answer::Given(id) => match grants::find(state, id.as_str()).await? {
            Some((grant, _version)) => Some(grant),
            None => return Ok(None),
        },
    };
    if run(&again_checks(), &Again { first, allows, grant: grant.as_ref() }).is_err() {
        return Ok(None);
    }
    Ok(Some(pages::go_to(&match grant {
        Some(grant) => question.back.with_code(&visit.issuance.url, &grants::code_of(state, &grant)?),
        None => denied(visit, question),
    })))
}

/// An answer that is ready to be kept.
struct Settled {
    given: Option<GrantRecord>,
    location: String,
    /// What must not have changed when it is: else it is read and judged again.
    preconditions: Vec<Precondition>,
    writes: Vec<Write>,
}

/// Uses the ticket up; none where what was asked for can be given no more.
async fn settle(
    state: &IssuerState,
    visit: &Visit,
    person: &Person,
    question: &Question,
    (ticket, version): (TicketRecord, u64),
    allows: bool,
) -> Result<Option<Settled>, Problem> {
    let (mut settled, answer) = if allows {
        let Some(Prepared { record, code, preconditions, writes }) = prepare(state, visit, person, question).await? else {
            return Ok(None);
        };
        let (answer, location) = (Answer::Given(record.id.clone()), question.back.with_code(&visit.issuance.url, &code));
        (Settled { given: Some(record), location, preconditions, writes }, answer)
    } else {
        let location = denied(visit, question);
        (Settled { given: None, location, preconditions: Vec::new(), writes: Vec::new() }, Answer::Denied)
    };
    // For as long as the code lives, a second click finds where the first one went.
    let expires = visit.now.plus(visit.issuance.lifetimes.code);
    let question = Question { answer: Some(answer), ..question.clone() };
    // Texts and lists: nothing in it can fail to be written.
    let answered = TicketRecord { data: serde_json::to_value(&question).unwrap_or_default(), expires, ..ticket };
    settled.preconditions.push(shelf::at(&answered, version));
    settled.writes.push(shelf::put(&answered, Some(expires)));
    Ok(Some(settled))
}

/// Client and address of a question, as they are when it is answered.
struct Still<'a> {
    client: &'a ClientRecord,
    uri: &'a str,
}

fn still_checks<'a>() -> [Check<Still<'a>>; 2] {
    [
        Check { name: "the application is in use", run: |still| hold(still.client.state == ClientState::Active) },
        Check { name: "the address is its own", run: |still| hold(is_registered(still.client, still.uri)) },
    ]
}

/// The grant, within what client and user are now: both may have changed while the page was shown.
async fn prepare(state: &IssuerState, visit: &Visit, person: &Person, question: &Question) -> Result<Option<Prepared>, Problem> {
    let Some(client) = find_client(state, question.client.as_str()).await? else { return Ok(None) };
    if let Err(Unmet) = run(&still_checks(), &Still { client: &client, uri: &question.back.uri }) {
        return Ok(None);
    }
    let ceiling = Ceiling { client: &client, user: &person.user, resources: &question.resources, issuance: &visit.issuance };
    let granted = Granted {
        client: &client,
        user: &person.user,
        session: Some(Arc::clone(&person.session.id)),
        redirect_uri: Arc::clone(&question.back.uri),
        redirect_uri_named: question.back.named,
        challenge: Arc::clone(&question.challenge),
        scopes: Arc::new(bound(&question.scopes, ceiling)),
        resources: question.resources.clone(),
    };
    grants::prepare(state, &visit.issuance, granted, visit.now).await
}

fn denied(visit: &Visit, question: &Question) -> String {
    question.back.with_error(&visit.issuance.url, Refusal::new(ErrorCode::AccessDenied, "the user denied it"))
}

/// A ticket belongs to a session, and so to a browser.
fn bound_to(person: &Person) -> Arc<str> {
    Arc::from(write_hex(&sha256(person.session.id.as_bytes())))
}

fn form_purpose(ticket: &str) -> String {
    format!("consent {ticket}")
}

#[cfg(test)]
mod tests;
