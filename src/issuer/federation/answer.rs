//! What a browser is answered: pages in the layout of all others, and redirects by 303. Nothing that was sent is repeated on a page
//! unescaped.

use std::borrow::Cow;

use askama::Template;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::response::Response;

use crate::issuer::pages;
use crate::issuer::pages::visit::Visit;
use crate::issuer::problem::Problem;
use crate::secrets::SecretError;
use crate::store::StoreError;

/// A sign-in that goes no further. A page says what to do, and never why exactly: the log has that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Page { status: StatusCode, heading: &'static str, text: Cow<'static, str> },
    Problem(Problem),
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<h1>{{ heading }}</h1>
<p>{{ text }}</p>
<p><a href="{{ base }}/sign-in">Back to the sign-in page</a></p>"#
)]
struct StopPage<'a> {
    heading: &'a str,
    text: &'a str,
    base: &'a str,
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<h1>One more thing</h1>
<p>You are the first of your organisation. Under which number can we reach you?</p>
{% if let Some(wrong) = wrong %}<p class="complaint" role="alert">{{ wrong }}</p>{% endif %}
<form method="post" action="{{ action }}">
<input type="hidden" name="ticket" value="{{ ticket }}">
<label for="phone">Phone number</label>
<input id="phone" name="phone" type="tel" autocomplete="tel" required maxlength="40" value="{{ phone }}">
<button type="submit">Continue</button>
</form>"#
)]
pub(super) struct PhonePage<'a> {
    pub(super) action: &'a str,
    pub(super) ticket: &'a str,
    pub(super) phone: &'a str,
    pub(super) wrong: Option<&'a str>,
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<h1>Welcome</h1>
<p>Your account is made. This is its API key; it is shown only now, so put it in a safe place.</p>
<code class="secret">{{ key }}</code>
<a class="button" href="{{ target }}">Continue</a>"#
)]
struct KeyPage<'a> {
    key: &'a str,
    target: &'a str,
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<h1>One moment</h1>
<p>You are being led to the provider.</p>
<a class="button" href="{{ target }}">Continue</a>"#
)]
struct ForwardPage<'a> {
    target: &'a str,
}

impl Stop {
    const fn page(status: StatusCode, heading: &'static str, text: &'static str) -> Self {
        Self::Page { status, heading, text: Cow::Borrowed(text) }
    }

    pub(super) const fn no_such_provider() -> Self {
        Self::page(StatusCode::NOT_FOUND, "Nothing is here", "There is no sign-in of this name.")
    }

    /// The state or the ticket opens nothing (any more), or not in this browser.
    pub(super) const fn over() -> Self {
        let text = "It was used already, took too long, or was begun in another browser. Please begin again.";
        Self::page(StatusCode::BAD_REQUEST, "This sign-in is over", text)
    }

    pub(super) const fn provider_down() -> Self {
        let text = "Please try again in a moment, or sign in another way.";
        Self::page(StatusCode::BAD_GATEWAY, "The provider does not answer", text)
    }

    pub(super) const fn not_believed() -> Self {
        let text = "The provider's answer was not what it should be. Please begin again.";
        Self::page(StatusCode::BAD_GATEWAY, "The sign-in did not work", text)
    }

    pub(super) const fn refused(text: &'static str) -> Self {
        Self::page(StatusCode::FORBIDDEN, "You cannot sign in this way", text)
    }

    pub(super) fn show(&self, visit: &Visit) -> Response {
        match self {
            Self::Page { status, heading, text } => {
                pages::show(visit, *status, heading, &StopPage { heading, text, base: &visit.base }, &[])
            }
            Self::Problem(problem) => pages::error::problem(visit, problem),
        }
    }
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Problem(error.into())
    }
}

impl From<SecretError> for Stop {
    fn from(error: SecretError) -> Self {
        Self::Problem(error.into())
    }
}

/// Asks a founder for its phone number. `sources` are the pages elsewhere to which the form may lead on.
pub(super) fn ask_phone(visit: &Visit, page: &PhonePage<'_>, sources: &[String]) -> Response {
    let status = if page.wrong.is_some() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    pages::show(visit, status, "One more thing", page, sources)
}

/// Shows the first key, once.
pub(super) fn show_key(visit: &Visit, key: &str, target: &str) -> Response {
    pages::show(visit, StatusCode::OK, "Welcome", &KeyPage { key, target }, &[])
}

/// Leads on after a form was posted. A page and no redirect: where a form may lead (`form-action`) holds for its redirects too.
pub(super) fn forward(visit: &Visit, target: &str) -> Response {
    let mut response = pages::show(visit, StatusCode::OK, "One moment", &ForwardPage { target }, &[]);
    if let Ok(value) = HeaderValue::from_str(&format!("0; url={target}")) {
        response.headers_mut().insert(HeaderName::from_static("refresh"), value);
    }
    response
}

/// Our own page on which a person chooses how to sign in. Its address says that the automatic way has failed, so that whoever sends
/// people that way does not do it again.
pub(super) fn sign_in_page(visit: &Visit, return_to: Option<&str>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    if let Some(path) = return_to {
        query.append_pair("return_to", path);
    }
    query.append_pair("automatic", "failed");
    visit.local(&format!("/sign-in?{}", query.finish()))
}
