//! Pages that say no.

use askama::Template;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;

use crate::issuer::pages;
use crate::issuer::pages::visit::Visit;
use crate::issuer::problem::Problem;

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<h1>{{ heading }}</h1>
<p>{{ text }}</p>
<p><a href="{{ base }}/account">Your account</a></p>"#
)]
struct Page<'a> {
    heading: &'a str,
    text: &'a str,
    base: &'a str,
}

/// A request that leads nowhere. The text is ours: nothing of the request stands in it.
pub(in crate::issuer) fn refused(visit: &Visit, text: &str) -> Response {
    show(visit, StatusCode::BAD_REQUEST, "This did not work", text)
}

/// What the API would answer in JSON.
pub(in crate::issuer) fn problem(visit: &Visit, problem: &Problem) -> Response {
    let status = status_of(problem);
    let heading = if status.is_server_error() { "Please try again in a moment" } else { "This did not work" };
    let mut response = show(visit, status, heading, &sentence(problem));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

pub(in crate::issuer) fn show(visit: &Visit, status: StatusCode, heading: &str, text: &str) -> Response {
    pages::show(visit, status, heading, &Page { heading, text, base: &visit.base }, &[])
}

/// The status that goes with a problem.
pub(super) fn status_of(problem: &Problem) -> StatusCode {
    problem.clone().into_response().status()
}

/// What a problem says, as people read it.
pub(super) fn sentence(problem: &Problem) -> String {
    let text = match &problem.details {
        Some(details) if !details.field.is_empty() => format!("{} {}", details.field.replace('_', " "), details.issue),
        Some(_) | None => problem.message.to_string(),
    };
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let end = if text.ends_with(['.', '?', '!']) { "" } else { "." };
    // The texts of the API mark what is written literally; on a page the marks would be read as part of it.
    format!("{first}{}{end}", characters.as_str()).replace('`', "")
}
