//! What a browser is answered: pages of one plain form, and redirects by 303. Nothing that was sent is repeated on a page unescaped.

use std::borrow::Cow;

use askama::Template;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;

use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;

/// A sign-in that goes no further, told to the person. It says what to do, and never why exactly: the log has that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stop {
    pub(super) status: StatusCode,
    title: &'static str,
    text: Cow<'static, str>,
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="robots" content="noindex">
{% if let Some(refresh) = forward %}<meta http-equiv="refresh" content="0; url={{ refresh }}">{% endif %}
<title>{{ title }}</title></head><body><main><h1>{{ title }}</h1><p>{{ text }}</p>
{% if let Some(secret) = secret %}<p><code>{{ secret }}</code></p>{% endif %}
{% if let Some(form) = form %}<form method="post" action="{{ form.action }}">
{% if let Some(wrong) = form.wrong %}<p role="alert">{{ wrong }}</p>{% endif %}
<input type="hidden" name="ticket" value="{{ form.ticket }}">
<label>Phone number <input type="tel" name="phone" autocomplete="tel" required maxlength="40" value="{{ form.phone }}"></label>
<button type="submit">Continue</button></form>{% endif %}
{% if let Some((target, words)) = link %}<p><a href="{{ target }}">{{ words }}</a></p>{% endif %}
</main></body></html>
"#
)]
struct PageTemplate<'a> {
    title: &'a str,
    text: &'a str,
    forward: Option<&'a str>,
    secret: Option<&'a str>,
    form: Option<PhoneForm<'a>>,
    link: Option<(&'a str, &'a str)>,
}

/// The form that asks for a phone number.
#[derive(Clone, Copy, Debug)]
pub(super) struct PhoneForm<'a> {
    pub(super) action: &'a str,
    pub(super) ticket: &'a str,
    pub(super) phone: &'a str,
    pub(super) wrong: Option<&'a str>,
}

impl Stop {
    pub(super) fn new(status: StatusCode, title: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        Self { status, title, text: text.into() }
    }

    pub(super) fn no_such_provider() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Nothing is here", "There is no sign-in of this name.")
    }

    /// The state or the ticket opens nothing (any more), or not in this browser.
    pub(super) fn over() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "This sign-in is over",
            "It was used already, took too long, or was begun in another browser. Please begin again.",
        )
    }

    pub(super) fn provider_down() -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "The provider does not answer", "Please try again in a moment, or sign in another way.")
    }

    pub(super) fn not_believed() -> Self {
        Self::new(
            StatusCode::BAD_GATEWAY,
            "The sign-in did not work",
            "The provider's answer was not what it should be. Please begin again.",
        )
    }

    pub(super) fn refused(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "You cannot sign in this way", text)
    }
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        let (status, title) = match problem.code {
            Code::Unauthorized => (StatusCode::UNAUTHORIZED, "Please sign in"),
            Code::Forbidden => (StatusCode::FORBIDDEN, "This is not allowed"),
            Code::NotFound => (StatusCode::NOT_FOUND, "Nothing is here"),
            Code::Conflict => (StatusCode::CONFLICT, "This cannot be done"),
            Code::TooManyRequests => (StatusCode::TOO_MANY_REQUESTS, "Too many attempts"),
            Code::CorruptRecord | Code::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "Not now"),
            Code::InvalidRequest
            | Code::MethodNotAllowed
            | Code::PreconditionFailed
            | Code::PayloadTooLarge
            | Code::UnsupportedMediaType => (StatusCode::BAD_REQUEST, "This cannot be done"),
        };
        let text = match problem.details {
            Some(details) => Cow::Owned(format!("{}: {} {}.", problem.message, details.field, details.issue)),
            None => Cow::Owned(format!("{}.", problem.message)),
        };
        Self { status, title, text }
    }
}

impl From<crate::store::StoreError> for Stop {
    fn from(error: crate::store::StoreError) -> Self {
        Problem::from(error).into()
    }
}

impl From<crate::secrets::SecretError> for Stop {
    fn from(error: crate::secrets::SecretError) -> Self {
        Problem::from(error).into()
    }
}

impl IntoResponse for Stop {
    fn into_response(self) -> Response {
        let blank = PageTemplate::blank(self.title, &self.text);
        page(self.status, PageTemplate { link: Some(("/sign-in", "Back to the sign-in page")), ..blank })
    }
}

impl<'a> PageTemplate<'a> {
    const fn blank(title: &'a str, text: &'a str) -> Self {
        Self { title, text, forward: None, secret: None, form: None, link: None }
    }
}

/// Asks a founder for its phone number.
pub(super) fn ask_phone(form: PhoneForm<'_>) -> Response {
    let status = if form.wrong.is_some() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    let text = "You are the first of your organisation. Under which number can we reach you?";
    page(status, PageTemplate { form: Some(form), ..PageTemplate::blank("One more thing", text) })
}

/// Shows the first key, once.
pub(super) fn show_key(key: &str, target: &str) -> Response {
    let text = "Your account is made. This is its API key; it is shown only now, so put it in a safe place.";
    page(StatusCode::OK, PageTemplate { secret: Some(key), link: Some((target, "Continue")), ..PageTemplate::blank("Welcome", text) })
}

/// Leads on after a form was posted. A page and no redirect: where a form may lead (`form-action`) holds for its redirects too.
pub(super) fn forward(target: &str) -> Response {
    let blank = PageTemplate::blank("One moment", "You are being led to the provider.");
    page(StatusCode::OK, PageTemplate { forward: Some(target), link: Some((target, "Continue")), ..blank })
}

/// To another page, by GET whatever came before.
pub(super) fn redirect(target: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    match HeaderValue::from_str(target) {
        Ok(target) => {
            response.headers_mut().insert(header::LOCATION, target);
            guard(&mut response);
            response
        }
        Err(_unfit) => Stop::not_believed().into_response(),
    }
}

/// Our own page on which a person chooses how to sign in. It is told that the automatic way has failed, lest it try that again.
pub(super) fn sign_in_page(return_to: Option<&str>) -> String {
    let mut query = form_urlencoded::Serializer::for_suffix("/sign-in?".to_owned(), "/sign-in?".len());
    if let Some(path) = return_to {
        query.append_pair("return_to", path);
    }
    query.append_pair("automatic", "failed");
    query.finish()
}

/// The response with one more cookie.
pub(super) fn with_cookie(mut response: Response, cookie: Option<&str>) -> Response {
    if let Some(value) = cookie.and_then(|cookie| HeaderValue::from_str(cookie).ok()) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    response
}

fn page(status: StatusCode, template: PageTemplate<'_>) -> Response {
    let Ok(html) = template.render() else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let mut response = (status, html).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    let policy = "default-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    guard(&mut response);
    response
}

/// Addresses here hold states and tickets, which are nobody else's business.
fn guard(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}
