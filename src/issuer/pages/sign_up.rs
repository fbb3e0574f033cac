//! `/sign-up`.

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use crate::issuer::IssuerState;
use crate::issuer::accounts::invitations;
use crate::issuer::accounts::shelf;
use crate::issuer::accounts::sign_up::NewAccount;
use crate::issuer::accounts::sign_up::name_taken;
use crate::issuer::accounts::sign_up::sign_up_under;
use crate::issuer::names;
use crate::issuer::oauth::authorize::asked::encode;
use crate::issuer::pages;
use crate::issuer::pages::field::Field;
use crate::issuer::pages::form::Form;
use crate::issuer::pages::sign_in::Door;
use crate::issuer::pages::sign_in::onward_query;
use crate::issuer::pages::visit::Sent;
use crate::issuer::pages::visit::Visit;
use crate::issuer::pages::visit::is_local;
use crate::issuer::passwords;
use crate::issuer::passwords::PASSWORD_BYTES_MAX;
use crate::issuer::passwords::PASSWORD_CHARACTERS_MIN;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::sessions;
use crate::model::account::OrganizationRecord;
use crate::model::account::Role;
use crate::model::issuance::Issuance;
use crate::model::issuance::PhoneRule;
use crate::model::issuance::SignUp;

const PURPOSE: &str = "sign-up";

const NAME_RULE: &str =
    "You sign in with it: 1 to 64 of the letters a to z, digits and . _ @ + - without spaces. Capitals become small letters.";
const TAKEN: &str = "This name is taken. Choose another one.";
const UNUSABLE: &str = "This invitation was used or withdrawn, is too old, or was not copied as a whole. Ask for a new one.";
const INVITED: &str = "You join the organisation that invited you.";
const INVITED_OR_FOUNDER: &str = "With one you join the organisation that invited you; without one you begin an organisation of your own.";

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<h1>Sign up</h1>
{% if let Some(joining) = joining %}<p>You are joining <strong>{{ joining.organization }}</strong>{% if joining.is_admin %} as one of its admins{% endif %}.</p>{% endif %}
{% if let Some(complaint) = complaint %}<p class="complaint" role="alert">{{ complaint }}</p>{% endif %}
<form method="post" action="{{ base }}/sign-up">
<input type="hidden" name="form_token" value="{{ form_token }}">
{% if let Some(path) = return_to %}<input type="hidden" name="return_to" value="{{ path }}">{% endif %}
{% if let Some(joining) = joining %}<input type="hidden" name="invitation" value="{{ joining.invitation }}">{% endif %}
{% for field in fields %}{{ field|safe }}{% endfor %}
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
    joining: Option<&'a Joining>,
    fields: Vec<Field<'a>>,
    /// Names and labels.
    providers: Vec<(&'a str, &'a str)>,
    /// The query that takes `return_to` and the invitation along.
    elsewhere: &'a str,
}

/// What was written already, never the password, and by field what is wrong with it.
#[derive(Debug, Default)]
struct Filled {
    name: String,
    display_name: String,
    email: String,
    invitation: String,
    phone: String,
    wrong: BTreeMap<&'static str, String>,
    /// What is wrong, and with no field of its own.
    complaint: Option<String>,
}

/// What an invitation that is good stands for.
struct Joining {
    organization: Arc<str>,
    is_admin: bool,
    invitation: String,
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<h1>This invitation cannot be used</h1>
<p>It was used or withdrawn, it is too old, or its address was not copied as a whole.</p>
<p>Ask whoever invited you for a new one. If you have signed up with it already, <a href="{{ base }}/sign-in{{ onward }}">sign in</a>.</p>
{% if may_found %}<p class="note"><a href="{{ base }}/sign-up{{ onward }}">Sign up without an invitation</a>, for an organisation of your own</p>{% endif %}"#
)]
struct Unusable<'a> {
    base: &'a str,
    onward: &'a str,
    may_found: bool,
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
        Ok(query) => invite(&state, &visit, query).await.unwrap_or_else(|problem| pages::error::problem(&visit, &problem)),
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

/// An empty form, or at once what is wrong with the invitation.
async fn invite(state: &IssuerState, visit: &Visit, mut query: Form) -> Result<Response, Problem> {
    let filled = Filled { invitation: query.take("invitation").unwrap_or_default(), ..Filled::default() };
    let return_to = query.take("return_to");
    match join(state, visit, &filled.invitation).await? {
        Ok(joining) => show(state, visit, StatusCode::OK, return_to.as_deref(), &filled, joining.as_ref()).await,
        Err(unusable) => {
            let onward = onward_query(return_to.as_deref().filter(|path| is_local(path)));
            let page = Unusable { base: &visit.base, onward: &onward, may_found: visit.issuance.sign_up == SignUp::Open };
            Ok(pages::show(visit, pages::error::status_of(&unusable), "Invitation", &page, &[]))
        }
    }
}

async fn judge(state: &IssuerState, visit: &Visit, mut form: Form) -> Result<Response, Problem> {
    sessions::check_form(state, &visit.headers, PURPOSE, form.take("form_token").as_deref())?;
    let return_to = form.take("return_to");
    let mut taken = |name: &str| form.take(name).map(|text| text.trim().to_owned()).unwrap_or_default();
    let mut filled = Filled {
        name: taken("name"),
        display_name: taken("display_name"),
        email: taken("email"),
        invitation: taken("invitation"),
        phone: taken("phone"),
        ..Filled::default()
    };
    if visit.issuance.phone == PhoneRule::Off {
        filled.phone.clear();
    }
    let password = form.take("password").unwrap_or_default();
    let joining = match join(state, visit, &filled.invitation).await? {
        Ok(joining) => joining,
        Err(_unusable) => {
            filled.wrong.insert("invitation", UNUSABLE.to_owned());
            None
        }
    };
    look_through(visit, &mut filled, &password);
    if !filled.wrong.is_empty() {
        return show(state, visit, StatusCode::BAD_REQUEST, return_to.as_deref(), &filled, joining.as_ref()).await;
    }
    let written = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let new = NewAccount {
        name: filled.name.clone(),
        password: Some(password),
        invitation: written(&filled.invitation),
        display_name: written(&filled.display_name),
        email: written(&filled.email),
        phone: written(&filled.phone),
    };
    let made = match sign_up_under(state, new, visit.issuance.phone, visit.address, visit.now).await {
        Ok(made) => made,
        Err(problem) => {
            if problem == name_taken() {
                filled.wrong.insert("name", TAKEN.to_owned());
            } else {
                filled.complaint = Some(pages::error::sentence(&problem));
            }
            return show(state, visit, pages::error::status_of(&problem), return_to.as_deref(), &filled, joining.as_ref()).await;
        }
    };
    let opened = sessions::open(state, &visit.headers, &made.user, "password", visit.address, visit.now).await?;
    let onward = visit.after_sign_in(return_to.as_deref());
    let response = match &made.key {
        Some(key) => pages::show(visit, StatusCode::OK, "Welcome", &Welcome { user: made.user.as_str(), key, onward: &onward }, &[]),
        None => pages::go_to(&onward),
    };
    Ok(pages::with_cookie(response, Some(opened.cookie)))
}

/// Where an invitation leads, if there is one: or why this one leads nowhere.
async fn join(state: &IssuerState, visit: &Visit, invitation: &str) -> Result<Result<Option<Joining>, Problem>, Problem> {
    if invitation.is_empty() {
        return Ok(Ok(None));
    }
    let record = match invitations::judge(state, invitation, visit.now).await {
        Ok(standing) => standing.record,
        Err(problem) if problem.code == Code::InvalidRequest => return Ok(Err(problem)),
        Err(problem) => return Err(problem),
    };
    let found = shelf::find::<OrganizationRecord>(state, &record.organization).await?;
    Ok(Ok(Some(Joining {
        organization: found.map_or(record.organization, |(organization, _version)| organization.name),
        is_admin: record.role == Role::Admin,
        invitation: invitation.to_owned(),
    })))
}

/// Everything that is wrong, at once; whether the name is free is seen when it is taken.
fn look_through(visit: &Visit, filled: &mut Filled, password: &str) {
    let is_invited = !filled.invitation.is_empty();
    let needs_phone = visit.issuance.phone == PhoneRule::Required && !is_invited;
    let is_good = |text: &str, is_good: bool| text.is_empty() || is_good;
    let mut wrong = |field: &'static str, text: &str| {
        filled.wrong.entry(field).or_insert_with(|| text.to_owned());
    };
    if names::account_name(&filled.name).is_none() {
        let is_free_form = names::is_account_name(&filled.name);
        wrong("name", if is_free_form { TAKEN } else { "This is empty, too long, or has a character that a name cannot have." });
    }
    if passwords::check_new("password", password).is_err() {
        wrong("password", if password.len() > PASSWORD_BYTES_MAX { "This is too long." } else { "This is too short." });
    }
    if !is_good(&filled.display_name, names::plain_name(&filled.display_name).is_some()) {
        wrong("display_name", "This has more than 255 characters, or some that cannot be shown.");
    }
    if !is_good(&filled.email, names::email(&filled.email).is_some()) {
        wrong("email", "This is no e-mail address, such as ada@example.com.");
    }
    if !is_good(&filled.phone, names::phone(&filled.phone).is_some()) || (needs_phone && filled.phone.is_empty()) {
        wrong(
            "phone",
            if filled.phone.is_empty() { "This is needed to begin an organisation." } else { "This is no number with its country." },
        );
    }
    if visit.issuance.sign_up == SignUp::Invited && !is_invited {
        wrong("invitation", "Signing up needs an invitation here. Ask whoever runs this for one.");
    }
}

async fn show(
    state: &IssuerState,
    visit: &Visit,
    status: StatusCode,
    return_to: Option<&str>,
    filled: &Filled,
    joining: Option<&Joining>,
) -> Result<Response, Problem> {
    let door = Door::of(state, visit, PURPOSE, return_to).await?;
    let marked = (!filled.wrong.is_empty()).then_some("Please look at what is marked below, and write the password again.");
    let password_hint = format!("At least {PASSWORD_CHARACTERS_MIN} characters.");
    let page = Page {
        base: &visit.base,
        complaint: filled.complaint.as_deref().or(marked),
        form_token: &door.form_token,
        return_to: door.return_to,
        onward: &onward_query(door.return_to),
        joining,
        fields: fields(&visit.issuance, filled, joining.is_some(), &password_hint),
        providers: door.providers,
        elsewhere: &elsewhere(door.return_to, &filled.invitation),
    };
    Ok(pages::with_cookie(pages::show(visit, status, "Sign up", &page, door.onward.as_slice()), door.cookie))
}

fn fields<'a>(issuance: &Issuance, filled: &'a Filled, is_joining: bool, password_hint: &'a str) -> Vec<Field<'a>> {
    let mut fields = vec![
        Field {
            name: "name",
            label: "Name",
            value: &filled.name,
            autocomplete: "username",
            longest: names::ACCOUNT_NAME_CHARACTERS_MAX,
            is_literal: true,
            is_required: true,
            is_first: true,
            hint: NAME_RULE,
            ..Field::default()
        },
        Field {
            name: "password",
            label: "Password",
            kind: "password",
            autocomplete: "new-password",
            shortest: PASSWORD_CHARACTERS_MIN,
            longest: PASSWORD_BYTES_MAX,
            is_required: true,
            hint: password_hint,
            ..Field::default()
        },
        Field {
            name: "display_name",
            label: "What you want to be called",
            value: &filled.display_name,
            autocomplete: "name",
            ..Field::default()
        },
        Field {
            name: "email",
            label: "E-mail address",
            kind: "email",
            value: &filled.email,
            autocomplete: "email",
            longest: 254,
            ..Field::default()
        },
    ];
    if !is_joining {
        let is_required = issuance.sign_up == SignUp::Invited;
        fields.push(Field {
            name: "invitation",
            label: "Invitation",
            value: &filled.invitation,
            is_literal: true,
            is_required,
            hint: if is_required { INVITED } else { INVITED_OR_FOUNDER },
            ..Field::default()
        });
    }
    let phone = Field {
        name: "phone",
        label: "Phone number",
        kind: "tel",
        value: &filled.phone,
        autocomplete: "tel",
        longest: 40,
        hint: "With its country, such as +49 30 1234567.",
        ..Field::default()
    };
    match (issuance.phone, issuance.sign_up) {
        (PhoneRule::Off, _) => {}
        (PhoneRule::Required | PhoneRule::Optional, _) if is_joining => {}
        // Said in words alone: a browser would insist on the number of somebody who has pasted an invitation too.
        (PhoneRule::Required, SignUp::Open) => fields.push(Field { need: "required without an invitation", ..phone }),
        (PhoneRule::Required | PhoneRule::Optional, _) => fields.push(phone),
    }
    for field in &mut fields {
        field.complaint = filled.wrong.get(field.name).map(String::as_str);
    }
    fields
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
