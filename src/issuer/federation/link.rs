//! Linking one more sign-in elsewhere to the account of who is signed in: `POST /account/link/{provider}`.

use axum::body::Body;
use axum::extract::Path;
use axum::extract::Request;
use axum::extract::State;
use axum::extract::rejection::PathRejection;
use axum::response::IntoResponse;
use axum::response::Response;

use crate::issuer::IssuerState;
use crate::issuer::federation::answer;
use crate::issuer::federation::answer::Stop;
use crate::issuer::federation::ask::Journey;
use crate::issuer::federation::start;
use crate::issuer::pages;
use crate::issuer::pages::form::Form;
use crate::issuer::pages::visit::Visit;
use crate::issuer::sessions;

/// What the form on the account's page is for, and the field in which its value stands.
const FORM_PURPOSE: &str = "link";
const FORM_FIELD: &str = "form_token";

/// Sends a browser that is signed in here to the provider, to be proven there too.
pub(super) async fn link(State(state): State<IssuerState>, path: Result<Path<String>, PathRejection>, request: Request) -> Response {
    match Visit::begin(&state, request) {
        Ok((visit, body)) => begin(&state, path, &visit, body).await.unwrap_or_else(|stop| stop.show(&visit)),
        Err(problem) => problem.into_response(),
    }
}

async fn begin(state: &IssuerState, path: Result<Path<String>, PathRejection>, visit: &Visit, body: Body) -> Result<Response, Stop> {
    let provider = start::provider(&visit.issuance, path)?;
    let mut form = Form::read(&visit.headers, body).await?;
    sessions::check_form(state, &visit.headers, FORM_PURPOSE, form.take(FORM_FIELD).as_deref())?;
    let Some(person) = sessions::current(state, &visit.headers, visit.now).await? else {
        return Ok(pages::go_to(&visit.local("/sign-in")));
    };
    let journey = Journey { link_to: Some(person.user.subject.clone()), ..Journey::default() };
    let (target, cookie) = start::set_out(state, provider, &journey, visit).await?;
    Ok(pages::with_cookie(answer::forward(visit, &target), cookie))
}
