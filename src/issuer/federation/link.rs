//! Linking one more sign-in elsewhere to the account of who is signed in: `POST /account/link/{provider}`.

use axum::body::Body;
use axum::extract::Path;
use axum::extract::State;
use axum::extract::rejection::PathRejection;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::response::Response;

use crate::issuer::IssuerState;
use crate::issuer::federation::answer;
use crate::issuer::federation::answer::Stop;
use crate::issuer::federation::ask::Journey;
use crate::issuer::federation::finish::read_form;
use crate::issuer::federation::issuance;
use crate::issuer::federation::start;
use crate::issuer::sessions;
use crate::model::time::Timestamp;

/// What the form on the account's page is for; its value stands in the field [`FORM_FIELD`].
pub(super) const FORM_PURPOSE: &str = "link";
const FORM_FIELD: &str = "form_token";

/// Sends a browser that is signed in here to the provider, to be proven there too.
pub(super) async fn link(
    State(state): State<IssuerState>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let now = state.clock.now();
    begin(&state, path, &headers, body, now).await.unwrap_or_else(Stop::into_response)
}

async fn begin(
    state: &IssuerState,
    path: Result<Path<String>, PathRejection>,
    headers: &HeaderMap,
    body: Body,
    now: Timestamp,
) -> Result<Response, Stop> {
    let issuance = issuance(state)?;
    let provider = start::provider(&issuance, path)?;
    let form = read_form(headers, body).await?;
    sessions::check_form(state, headers, FORM_PURPOSE, form.get(FORM_FIELD).map(String::as_str))?;
    let Some(person) = sessions::current(state, headers, now).await? else {
        return Ok(answer::redirect(&answer::sign_in_page(Some("/account"))));
    };
    let journey = Journey { link_to: Some(person.user.subject.clone()), ..Journey::default() };
    let (target, cookie) = start::set_out(state, &issuance, provider, headers, &journey, now).await?;
    Ok(answer::with_cookie(answer::forward(&target), cookie.as_deref()))
}
