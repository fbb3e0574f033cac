//! Between a founder's sign-in elsewhere and its account: the page on which it says its phone number (seed 003).

use std::collections::BTreeMap;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;

use crate::issuer::IssuerState;
use crate::issuer::federation::answer;
use crate::issuer::federation::answer::PhoneForm;
use crate::issuer::federation::answer::Stop;
use crate::issuer::federation::arrive;
use crate::issuer::federation::arrive::Newcomer;
use crate::issuer::federation::arrive::Visit;
use crate::issuer::federation::ask;
use crate::issuer::federation::browser;
use crate::issuer::federation::issuance;
use crate::issuer::names;
use crate::issuer::parameters::Parameters;
use crate::listen::http::Peer;
use crate::model::account::TicketRecord;
use crate::store::StoreError;

pub(super) const PATH: &str = "/sign-up/finish";
pub(super) const PURPOSE: &str = "finish-sign-up";

const FORM_BYTES_MAX: usize = 16 * 1024;
const PHONE_CHARACTERS_MAX: usize = 40;

/// Shows the form. Takes nothing: the page may be loaded again.
pub(super) async fn show(State(state): State<IssuerState>, uri: Uri, headers: HeaderMap) -> Response {
    let visit = Visit::new(&state, &headers, None);
    let shown = async {
        let ticket = Parameters::read(uri.query())?.text("ticket").unwrap_or_default();
        find(&state, &ticket, &visit).await?;
        Ok(answer::ask_phone(PhoneForm { action: PATH, ticket: &ticket, phone: "", wrong: None }))
    };
    shown.await.unwrap_or_else(Stop::into_response)
}

/// Takes the ticket, and makes the account.
pub(super) async fn finish(State(state): State<IssuerState>, headers: HeaderMap, peer: Option<Extension<Peer>>, body: Body) -> Response {
    let visit = Visit::new(&state, &headers, peer.map(|Extension(peer)| peer));
    make(&state, &visit, body).await.unwrap_or_else(Stop::into_response)
}

async fn make(state: &IssuerState, visit: &Visit<'_>, body: Body) -> Result<Response, Stop> {
    let issuance = issuance(state)?;
    let form = read_form(visit.headers, body).await?;
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let (ticket, version) = find(state, field("ticket"), visit).await?;
    let typed: String = field("phone").trim().chars().take(PHONE_CHARACTERS_MAX).collect();
    let Some(phone) = names::phone(&typed) else {
        let wrong = Some("Please write the number with its country, such as +49 30 1234567.");
        return Ok(answer::ask_phone(PhoneForm { action: PATH, ticket: field("ticket"), phone: &typed, wrong }));
    };
    ask::take_ticket(state, &ticket, version, visit.now).await?;
    let corrupt = |_error| StoreError::Corrupt { key: format!("ticket/{}", ticket.id), why: "it holds no newcomer".to_owned() };
    let newcomer: Newcomer = serde_json::from_value(ticket.data.clone()).map_err(corrupt)?;
    arrive::sign_up(state, &issuance, newcomer, Some(phone.as_ref().to_owned()), visit).await
}

/// The ticket, if it is of this step and this browser. The browser's cookie stays away from other sites' forms, and the ticket's
/// handle is known to nobody else, so the form needs no other proof of where it came from.
async fn find(state: &IssuerState, handle: &str, visit: &Visit<'_>) -> Result<(TicketRecord, u64), Stop> {
    let (ticket, version) = ask::find_ticket(state, handle).await?;
    let is_this_browsers = browser::known(state, visit.headers)?.is_some_and(|mark| mark == ticket.browser);
    if *ticket.purpose == *PURPOSE && is_this_browsers && visit.now < ticket.expires { Ok((ticket, version)) } else { Err(Stop::over()) }
}

/// The fields of a form; none may come twice.
pub(super) async fn read_form(headers: &HeaderMap, body: Body) -> Result<BTreeMap<String, String>, Stop> {
    let unfit = |text| Stop::new(StatusCode::BAD_REQUEST, "This cannot be done", text);
    let essence = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).and_then(|value| value.split(';').next());
    if !essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")) {
        return Err(unfit("This page takes forms only."));
    }
    let bytes = axum::body::to_bytes(body, FORM_BYTES_MAX).await.map_err(|_error| unfit("The form is too large."))?;
    let mut fields = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(&bytes) {
        if fields.insert(name.into_owned(), value.into_owned()).is_some() {
            return Err(unfit("A field of the form came twice."));
        }
    }
    Ok(fields)
}
