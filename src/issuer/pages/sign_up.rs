//! `/sign-up`.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use crate::issuer::IssuerState;
use crate::issuer::accounts::sign_up::NewAccount;
use crate::issuer::accounts::sign_up::PhoneRule;
use crate::issuer::accounts::sign_up::sign_up_under;
use crate::issuer::oauth::authorize::asked::encode;
use crate::issuer::pages;
use crate::issuer::pages::form::Form;
use crate::issuer::pages::sign_in::Door;
use crate::issuer::pages::sign_in::onward_query;
use crate::issuer::pages::visit::Sent;
use crate::issuer::pages::visit::Visit;
use crate::issuer::problem::Problem;
use crate::issuer::sessions;
use crate::model::issuance::SignUp;

const PURPOSE: &str = "sign-up";

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<h1>Sign up</h1>
{% if let Some(complaint) = complaint %}<p class="complaint" role="alert">{{ complaint }}</p>{% endif %}
<form method="post" action="{{ base }}/sign-up">
<input type="hidden" name="form_token" value="{{ form_token }}">
{% if let Some(path) = return_to %}<input type="hidden" name="return_to" value="{{ path }}">{% endif %}
<label for="name">Name</label>
<input id="name" name="name" value="{{ filled.name }}" autocomplete="username" autocapitalize="none" spellcheck="false" maxlength="128" aria-describedby="name-hint" required autofocus>
<p class="hint" id="name-hint">Letters, digits and marks without spaces. You sign in with it.</p>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="new-password" required>
<label for="display_name">What you want to be called (optional)</label>
<input id="display_name" name="display_name" value="{{ filled.display_name }}" autocomplete="name" maxlength="255">
<label for="email">E-mail address (optional)</label>
<input id="email" name="email" type="email" value="{{ filled.email }}" autocomplete="email" maxlength="254">
<label for="invitation">Invitation{% if !needs_invitation %} (optional){% endif %}</label>
<input id="invitation" name="invitation" value="{{ filled.invitation }}" autocomplete="off" spellcheck="false" aria-describedby="invitation-hint"{% if needs_invitation %} required{% endif %}>
<p class="hint" id="invitation-hint">With one you join the organisation that invited you.{% if !needs_invitation %} Without one you begin an organisation of your own.{% endif %}</p>
<label for="phone">Phone number{% if !needs_invitation %} (for a new organisation){% else %} (optional){% endif %}</label>
<input id="phone" name="phone" type="tel" value="{{ filled.phone }}" autocomplete="tel" placeholder="+4930123456" maxlength="20">
<button type="submit">Sign up</button>
</form>
{% for provider in providers %}<a class="button {{ provider.0 }}" href="{{ base }}/sign-in/{{ provider.0 }}{{ elsewhere }}">Continue with {{ provider.1 }}</a>
{% endfor %}
<p class="note">You have an account? <a href="{{ base }}/sign-in{{ onward }}">Sign in</a></p>"#
)]
struct Page<'a> {
    base: &'a str,
    complaint: Option<&'a str>,
    form_token: &'a str,
    return_to: Option<&'a str>,
    onward: &'a str,
    needs_invitation: bool,
    filled: &'a Filled,
    /// Names and labels.
    providers: Vec<(&'a str, &'a str)>,
    /// The query that takes `return_to` and the invitation along.
    elsewhere: &'a str,
}

/// What was written already; never the password.
#[derive(Debug, Default)]
struct Filled {
    name: String,
    display_name: String,
    email: String,
    invitation: String,
    phone: String,
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<h1>Welcome, {{ user }}</h1>
<p>This is your API key. It is shown <strong>once, now</strong>, and kept by nobody but you:</p>
<code class="secret">{{ key }}</code>
<a class="button" href="{{ onward }}">Continue</a>"#
)]
struct Welcome<'a> {
    user: &'a str,
    key: &'a str,
    onward: &'a str,
}

/// `GET /sign-up`.
pub(super) async fn page(State(state): State<IssuerState>, visit: Visit) -> Response {
    if visit.issuance.sign_up == SignUp::Closed {
        return closed(&visit);
    }
    match Form::parse(&visit.query) {
        Ok(mut query) => {
            let filled = Filled { invitation: query.take("invitation").unwrap_or_default(), ..Filled::default() };
            show(&state, &visit, StatusCode::OK, None, query.take("return_to").as_deref(), &filled).await
        }
        Err(problem) => pages::error::problem(&visit, &problem),
    }
}

/// `POST /sign-up`.
pub(super) async fn submit(State(state): State<IssuerState>, Sent { visit, form }: Sent) -> Response {
    if visit.issuance.sign_up == SignUp::Closed {
        return closed(&visit);
    }
    visit.answer(judge(&state, &visit, form)).await
}

async fn judge(state: &IssuerState, visit: &Visit, mut form: Form) -> Result<Response, Problem> {
    sessions::check_form(state, &visit.headers, PURPOSE, form.take("form_token").as_deref())?;
    let return_to = form.take("return_to");
    let filled = Filled {
        name: form.take("name").unwrap_or_default(),
        display_name: form.take("display_name").unwrap_or_default(),
        email: form.take("email").unwrap_or_default(),
        invitation: form.take("invitation").unwrap_or_default(),
        phone: form.take("phone").unwrap_or_default(),
    };
    let written = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let new = NewAccount {
        name: filled.name.clone(),
        password: form.take("password"),
        invitation: written(&filled.invitation),
        display_name: written(&filled.display_name),
        email: written(&filled.email),
        // People write numbers with gaps.
        phone: written(&filled.phone.replace([' ', '-', '(', ')'], "")),
    };
    let made = match sign_up_under(state, new, PhoneRule::OfFounders, visit.address, visit.now).await {
        Ok(made) => made,
        Err(problem) => {
            let status = pages::error::status_of(&problem);
            return Ok(show(state, visit, status, Some(&pages::error::sentence(&problem)), return_to.as_deref(), &filled).await);
        }
    };
    let opened = sessions::open(state, &visit.headers, &made.user, "password", visit.now).await?;
    let onward = visit.after_sign_in(return_to.as_deref());
    let response = match &made.key {
        Some(key) => pages::show(StatusCode::OK, "Welcome", &Welcome { user: made.user.as_str(), key, onward: &onward }, &[]),
        None => pages::go_to(&onward),
    };
    Ok(pages::with_cookie(response, Some(opened.cookie)))
}

async fn show(
    state: &IssuerState,
    visit: &Visit,
    status: StatusCode,
    complaint: Option<&str>,
    return_to: Option<&str>,
    filled: &Filled,
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
        onward: &onward_query(door.return_to),
        needs_invitation: visit.issuance.sign_up == SignUp::Invited,
        filled,
        providers: door.providers,
        elsewhere: &elsewhere(door.return_to, &filled.invitation),
    };
    pages::with_cookie(pages::show(status, "Sign up", &page, door.onward.as_slice()), door.cookie)
}

fn elsewhere(return_to: Option<&str>, invitation: &str) -> String {
    match (onward_query(return_to), invitation) {
        (query, "") => query,
        (query, invitation) if query.is_empty() => format!("?invitation={}", encode(invitation.as_bytes())),
        (query, invitation) => format!("{query}&invitation={}", encode(invitation.as_bytes())),
    }
}

fn closed(visit: &Visit) -> Response {
    pages::error::show(visit, StatusCode::NOT_FOUND, "Nobody signs up here", "Accounts are made by an operator. Ask one for yours.")
}
