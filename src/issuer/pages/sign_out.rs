//! `/sign-out`.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use crate::issuer::IssuerState;
use crate::issuer::pages;
use crate::issuer::pages::form::Form;
use crate::issuer::pages::visit::Sent;
use crate::issuer::pages::visit::Visit;
use crate::issuer::problem::Problem;
use crate::issuer::sessions;

const PURPOSE: &str = "sign-out";

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<h1>Sign out</h1>
<p>You are signed in as <strong>{{ user }}</strong>.</p>
<form method="post" action="{{ base }}/sign-out">
<input type="hidden" name="form_token" value="{{ form_token }}">
<button type="submit">Sign out</button>
</form>
<a class="button" href="{{ base }}/account">Stay signed in</a>"#
)]
struct Page<'a> {
    base: &'a str,
    user: &'a str,
    form_token: &'a str,
}

/// `GET /sign-out`: a question, so that no link or picture elsewhere signs anybody out.
pub(super) async fn page(State(state): State<IssuerState>, visit: Visit) -> Response {
    visit.answer(ask(&state, &visit)).await
}

/// `POST /sign-out`.
pub(super) async fn submit(State(state): State<IssuerState>, Sent { visit, form }: Sent) -> Response {
    visit.answer(leave(&state, &visit, form)).await
}

async fn ask(state: &IssuerState, visit: &Visit) -> Result<Response, Problem> {
    let Some(person) = sessions::current(state, &visit.headers, visit.now).await? else {
        return Ok(pages::go_to(&visit.local("/sign-in")));
    };
    let (form_token, cookie) = sessions::form_token(state, &visit.headers, PURPOSE)?;
    let page = Page { base: &visit.base, user: person.user.subject.as_str(), form_token: &form_token };
    Ok(pages::with_cookie(pages::show(StatusCode::OK, "Sign out", &page, &[]), cookie))
}

async fn leave(state: &IssuerState, visit: &Visit, mut form: Form) -> Result<Response, Problem> {
    sessions::check_form(state, &visit.headers, PURPOSE, form.take("form_token").as_deref())?;
    let cookie = sessions::close(state, &visit.headers, visit.now).await?;
    Ok(pages::with_cookie(pages::go_to(&visit.local("/sign-in")), Some(cookie)))
}
