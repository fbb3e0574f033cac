//! Between a founder's sign-in elsewhere and its account: the page on which it says its phone number (seed 003).

use axum::body::Body;
use axum::extract::Request;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::Response;

use crate::issuer::IssuerState;
use crate::issuer::federation::answer;
use crate::issuer::federation::answer::PhonePage;
use crate::issuer::federation::answer::Stop;
use crate::issuer::federation::arrive;
use crate::issuer::federation::arrive::Newcomer;
use crate::issuer::federation::ask;
use crate::issuer::federation::browser;
use crate::issuer::names;
use crate::issuer::oauth::authorize::form_source;
use crate::issuer::pages;
use crate::issuer::pages::form::Form;
use crate::issuer::pages::visit::Visit;
use crate::issuer::parameters::Parameters;
use crate::issuer::tickets;
use crate::issuer::tickets::Brought;
use crate::model::account::TicketRecord;
use crate::store::StoreError;

pub(super) const PATH: &str = "/sign-up/finish";
pub(super) const PURPOSE: &str = "finish-sign-up";

const PHONE_CHARACTERS_MAX: usize = 40;
const WRONG: &str = "Please write the number with its country, such as +49 30 1234567.";

/// Somebody who came this far.
struct Waiting {
    newcomer: Newcomer,
    ticket: TicketRecord,
    version: u64,
}

/// Shows the form. Takes nothing: the page may be loaded again.
pub(super) async fn show(State(state): State<IssuerState>, request: Request) -> Response {
    match Visit::begin(&state, request) {
        Ok((visit, _body)) => form(&state, &visit).await.unwrap_or_else(|stop| stop.show(&visit)),
        Err(problem) => problem.into_response(),
    }
}

/// Takes the ticket, and makes the account.
pub(super) async fn finish(State(state): State<IssuerState>, request: Request) -> Response {
    match Visit::begin(&state, request) {
        Ok((visit, body)) => make(&state, &visit, body).await.unwrap_or_else(|stop| stop.show(&visit)),
        Err(problem) => problem.into_response(),
    }
}

async fn form(state: &IssuerState, visit: &Visit) -> Result<Response, Stop> {
    let ticket = Parameters::read(Some(&visit.query))?.text("ticket").unwrap_or_default();
    let waiting = find(state, &ticket, visit).await?;
    Ok(ask_phone(state, visit, &waiting, &ticket, "", None).await)
}

async fn make(state: &IssuerState, visit: &Visit, body: Body) -> Result<Response, Stop> {
    let mut form = Form::read(&visit.headers, body).await?;
    let handle = form.take("ticket").unwrap_or_default();
    let waiting = find(state, &handle, visit).await?;
    let typed: String = form.take("phone").unwrap_or_default().trim().chars().take(PHONE_CHARACTERS_MAX).collect();
    let Some(phone) = names::phone(&typed) else {
        return Ok(ask_phone(state, visit, &waiting, &handle, &typed, Some(WRONG)).await);
    };
    ask::take_ticket(state, &waiting.ticket, waiting.version, visit.now).await?;
    arrive::sign_up(state, waiting.newcomer, Some(phone.as_ref().to_owned()), visit).await
}

async fn ask_phone(state: &IssuerState, visit: &Visit, waiting: &Waiting, ticket: &str, phone: &str, wrong: Option<&str>) -> Response {
    // Who has signed up may be sent on to a client at once, and browsers hold a form to its policy on that way too.
    let onward = match waiting.newcomer.return_to.as_deref() {
        Some(path) => form_source(state, visit, path).await,
        None => visit.issuance.home.as_deref().and_then(pages::origin),
    };
    answer::ask_phone(visit, &PhonePage { action: &visit.local(PATH), ticket, phone, wrong }, onward.as_slice())
}

/// The ticket, if it is of this step and this browser. The browser's cookie stays away from other sites' forms, and the ticket's
/// handle is known to nobody else, so the form needs no other proof of where it came from.
async fn find(state: &IssuerState, handle: &str, visit: &Visit) -> Result<Waiting, Stop> {
    let (ticket, version) = ask::find_ticket(state, handle).await?;
    let browser = browser::known(state, &visit.headers)?;
    let brought = Brought { ticket: &ticket, purpose: PURPOSE, browser: browser.as_deref(), now: visit.now };
    tickets::judge(&brought).map_err(|_unmet| Stop::over())?;
    let corrupt = |_error| StoreError::Corrupt { key: format!("ticket/{}", ticket.id), why: "it holds no newcomer".to_owned() };
    let newcomer = serde_json::from_value(ticket.data.clone()).map_err(corrupt)?;
    Ok(Waiting { newcomer, ticket, version })
}
