//! `/sign-in`.

use askama::Template;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::Response;

use crate::issuer::IssuerState;
use crate::issuer::accounts::sign_in::sign_in;
use crate::issuer::oauth::authorize::asked::encode;
use crate::issuer::oauth::authorize::form_source;
use crate::issuer::pages;
use crate::issuer::pages::form::Form;
use crate::issuer::pages::visit::Sent;
use crate::issuer::pages::visit::Visit;
use crate::issuer::pages::visit::is_local;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::sessions;
use crate::model::issuance::SignUp;

const PURPOSE: &str = "sign-in";
/// One text for every reason: whether the name or the password was wrong is nobody's business.
const WRONG: &str = "Name or password is wrong.";

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<h1>Sign in</h1>
{% if let Some(complaint) = complaint %}<p class="complaint" role="alert">{{ complaint }}</p>{% endif %}
<form method="post" action="{{ base }}/sign-in">
<input type="hidden" name="form_token" value="{{ form_token }}">
{% if let Some(path) = return_to %}<input type="hidden" name="return_to" value="{{ path }}">{% endif %}
<label for="name">Name</label>
<input id="name" name="name" value="{{ name }}" autocomplete="username" autocapitalize="none" spellcheck="false" maxlength="128" required{% if name.is_empty() %} autofocus{% endif %}>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required{% if !name.is_empty() %} autofocus{% endif %}>
<button type="submit">Sign in</button>
</form>
{% for provider in providers %}<a class="button {{ provider.0 }}" href="{{ base }}/sign-in/{{ provider.0 }}{{ onward }}">Continue with {{ provider.1 }}</a>
{% endfor %}
{% if may_sign_up %}<p class="note">No account yet? <a href="{{ base }}/sign-up{{ onward }}">Sign up</a></p>{% endif %}"#
)]
struct Page<'a> {
    base: &'a str,
    complaint: Option<&'a str>,
    form_token: &'a str,
    return_to: Option<&'a str>,
    /// What was tried.
    name: &'a str,
    /// Names and labels.
    providers: Vec<(&'a str, &'a str)>,
    /// The query that takes `return_to` along.
    onward: &'a str,
    may_sign_up: bool,
}

/// `GET /sign-in`.
pub(super) async fn page(State(state): State<IssuerState>, visit: Visit) -> Response {
    match Form::parse(&visit.query) {
        Ok(mut query) => show(&state, &visit, StatusCode::OK, None, query.take("return_to").as_deref(), "").await,
        Err(problem) => pages::error::problem(&visit, &problem),
    }
}

/// `POST /sign-in`.
pub(super) async fn submit(State(state): State<IssuerState>, Sent { visit, form }: Sent) -> Response {
    visit.answer(judge(&state, &visit, form)).await
}

async fn judge(state: &IssuerState, visit: &Visit, mut form: Form) -> Result<Response, Problem> {
    sessions::check_form(state, &visit.headers, PURPOSE, form.take("form_token").as_deref())?;
    let return_to = form.take("return_to");
    let name = form.take("name").unwrap_or_default();
    let password = form.take("password").unwrap_or_default();
    let user = match sign_in(state, &name, password, visit.address, visit.now).await {
        Ok(user) => user,
        Err(problem) => {
            let complaint = match problem.code {
                Code::Unauthenticated | Code::InvalidCredential | Code::InvalidRequest => WRONG.to_owned(),
                Code::Forbidden
                | Code::NotFound
                | Code::MethodNotAllowed
                | Code::Conflict
                | Code::PreconditionFailed
                | Code::PayloadTooLarge
                | Code::UnsupportedMediaType
                | Code::TooManyRequests
                | Code::CorruptRecord
                | Code::Unavailable => pages::error::sentence(&problem),
            };
            let status = if problem.code == Code::InvalidRequest { StatusCode::UNAUTHORIZED } else { pages::error::status_of(&problem) };
            let mut response = show(state, visit, status, Some(&complaint), return_to.as_deref(), &name).await;
            if matches!(problem.code, Code::TooManyRequests | Code::Unavailable) {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            return Ok(response);
        }
    };
    let opened = sessions::open(state, &visit.headers, &user, "password", visit.address, visit.now).await?;
    Ok(pages::with_cookie(pages::go_to(&visit.after_sign_in(return_to.as_deref())), Some(opened.cookie)))
}

async fn show(
    state: &IssuerState,
    visit: &Visit,
    status: StatusCode,
    complaint: Option<&str>,
    return_to: Option<&str>,
    name: &str,
) -> Response {
    let door = match Door::of(state, visit, PURPOSE, return_to).await {
        Ok(door) => door,
        Err(problem) => return pages::error::problem(visit, &problem),
    };
    let page = Page {
        base: &visit.base,
        complaint,
        form_token: &door.form_token,
        return_to: door.return_to,
        name,
        providers: door.providers,
        onward: &onward_query(door.return_to),
        may_sign_up: match visit.issuance.sign_up {
            SignUp::Open | SignUp::Invited => true,
            SignUp::Closed => false,
        },
    };
    pages::with_cookie(pages::show(visit, status, "Sign in", &page, door.onward.as_slice()), door.cookie)
}

/// What signing in and signing up have in common.
pub(super) struct Door<'v> {
    pub form_token: String,
    pub cookie: Option<String>,
    pub return_to: Option<&'v str>,
    /// Names and labels.
    pub providers: Vec<(&'v str, &'v str)>,
    /// Where else the answer to the form may lead.
    pub onward: Option<String>,
}

impl<'v> Door<'v> {
    pub(super) async fn of(state: &IssuerState, visit: &'v Visit, purpose: &str, return_to: Option<&'v str>) -> Result<Self, Problem> {
        let (form_token, cookie) = sessions::form_token(state, &visit.headers, purpose)?;
        let return_to = return_to.filter(|path| is_local(path));
        // Who comes in may be sent on to the client at once, and browsers hold a form to its policy on that way too.
        let onward = match return_to {
            Some(path) => form_source(state, visit, path).await,
            None => visit.issuance.home.as_deref().and_then(origin),
        };
        let providers = visit.issuance.providers.iter().map(|provider| (&*provider.name, &*provider.label)).collect();
        Ok(Self { form_token, cookie, return_to, providers, onward })
    }
}

/// The query that takes `return_to` along to the next page.
pub(super) fn onward_query(return_to: Option<&str>) -> String {
    return_to.map_or_else(String::new, |path| format!("?return_to={}", encode(path.as_bytes())))
}

/// Scheme, host and port of a page elsewhere.
pub(in crate::issuer) fn origin(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    Some(format!("{scheme}://{authority}"))
}
