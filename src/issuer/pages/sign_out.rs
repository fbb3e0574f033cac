//! `/sign-out`.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use crate::issuer::IssuerState;
use crate::issuer::pages;
use crate::issuer::pages::form::Form;
use crate::issuer::pages::sign_in::onward_query;
use crate::issuer::pages::visit::Sent;
use crate::issuer::pages::visit::Visit;
use crate::issuer::pages::visit::is_local;
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
{% if let Some(path) = return_to %}<input type="hidden" name="return_to" value="{{ path }}">{% endif %}
<button type="submit">Sign out</button>
</form>
<a class="button" href="{% if let Some(path) = return_to %}{{ path }}{% else %}{{ base }}/account{% endif %}">Stay signed in</a>"#
)]
struct Page<'a> {
    base: &'a str,
    user: &'a str,
    form_token: &'a str,
    /// What was under way, for whoever signs in next.
    return_to: Option<&'a str>,
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
    let return_to = Form::parse(&visit.query)?.take("return_to").filter(|path| is_local(path));
    let Some(person) = sessions::current(state, &visit.headers, visit.now).await? else {
        return Ok(to_sign_in(visit, return_to.as_deref()));
    };
    let (form_token, cookie) = sessions::form_token(state, &visit.headers, PURPOSE)?;
    let page = Page { base: &visit.base, user: person.user.subject.as_str(), form_token: &form_token, return_to: return_to.as_deref() };
    Ok(pages::with_cookie(pages::show(visit, StatusCode::OK, "Sign out", &page, &[]), cookie))
}

async fn leave(state: &IssuerState, visit: &Visit, mut form: Form) -> Result<Response, Problem> {
    sessions::check_form(state, &visit.headers, PURPOSE, form.take("form_token").as_deref())?;
    let cookie = sessions::close(state, &visit.headers, visit.address, visit.now).await?;
    let return_to = form.take("return_to").filter(|path| is_local(path));
    Ok(pages::with_cookie(to_sign_in(visit, return_to.as_deref()), Some(cookie)))
}

fn to_sign_in(visit: &Visit, return_to: Option<&str>) -> Response {
    pages::go_to(&visit.local(&format!("/sign-in{}", onward_query(return_to))))
}
