//! `/account`: who am I, where am I signed in, what may act for me.

pub(super) mod change;

mod words;

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use crate::issuer::IssuerState;
use crate::issuer::accounts::shelf;
use crate::issuer::actor::Person;
use crate::issuer::oauth::authorize::client_name;
use crate::issuer::oauth::grants;
use crate::issuer::pages;
use crate::issuer::pages::field::Field;
use crate::issuer::pages::form::Form;
use crate::issuer::pages::visit::Visit;
use crate::issuer::passwords::PASSWORD_BYTES_MAX;
use crate::issuer::passwords::PASSWORD_CHARACTERS_MIN;
use crate::issuer::problem::Problem;
use crate::issuer::sessions;
use crate::model::account::AccountRecord;
use crate::model::account::OrganizationRecord;
use crate::model::account::SessionRecord;
use crate::model::client::ClientId;
use crate::model::grant::GrantRecord;
use crate::model::issuance::Provider;
use crate::model::key::KeyId;
use crate::store::Family;
use crate::store::codec::decode_key;

const PURPOSE: &str = "account";
/// What the forms that link one more sign-in elsewhere are for.
const LINK_PURPOSE: &str = "link";
/// Keys of everybody that the page looks through for the person's own.
const KEYS_LOOKED_AT_MAX: usize = 20_000;
const LOOKED_AT_TOGETHER: usize = 500;

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<h1>Your account</h1>
{% if let Some(done) = done %}<p class="done" role="status">{{ done }}</p>{% endif %}
<dl><dt>Name</dt><dd>{{ user }}</dd>
{% if let Some(organization) = organization %}<dt>Organisation</dt><dd>{{ organization }}</dd>{% endif %}
{% if let Some(role) = role %}<dt>Role</dt><dd>{{ role }}</dd>{% endif %}
<dt>Signed in</dt><dd>{{ since }}, {{ method }}</dd></dl>
<a class="button" href="{{ base }}/sign-out">Sign out</a>
<h2 id="apps">Applications that you allowed</h2>
{% if apps.is_empty() %}<p class="note">None.</p>{% else %}
<ul class="list" aria-labelledby="apps">{% for app in apps %}<li><span><strong>{{ app.name }}</strong><br><span class="note">{{ app.scopes }} since {{ app.since }}</span></span>
<form method="post" action="{{ base }}/account/apps"><input type="hidden" name="form_token" value="{{ form_token }}">
<input type="hidden" name="client" value="{{ app.client }}"><button type="submit" class="quiet" aria-label="Revoke {{ app.name }}">Revoke</button></form></li>{% endfor %}</ul>{% endif %}
<h2 id="keys">Your keys</h2>
{% if keys.is_empty() %}<p class="note">None.</p>{% else %}
<ul class="list" aria-labelledby="keys">{% for key in keys %}<li><span><strong>{{ key.name }}</strong> <span class="note">{{ key.state }}</span><br><code>{{ key.display }}&hellip;</code></span>
<form method="post" action="{{ base }}/account/keys"><input type="hidden" name="form_token" value="{{ form_token }}">
<input type="hidden" name="key" value="{{ key.id }}"><button type="submit" class="quiet" aria-label="Revoke {{ key.name }}">Revoke</button></form></li>{% endfor %}</ul>
<p class="note">Revoking stays: whatever still uses the key is refused from then on.</p>{% endif %}
{% if !doors.is_empty() %}<h2 id="doors">Sign-in elsewhere</h2>
<ul class="list" aria-labelledby="doors">{% for door in doors %}<li><span>{{ door.label }}</span>{% if door.is_linked %}<span>linked</span>{% else %}
<form method="post" action="{{ base }}/account/link/{{ door.provider }}"><input type="hidden" name="form_token" value="{{ link_token }}">
<button type="submit" class="quiet" aria-label="Link {{ door.label }}">Link</button></form>{% endif %}</li>{% endfor %}</ul>{% endif %}
<h2 id="sessions">Where you are signed in</h2>
<ul class="list" aria-labelledby="sessions">{% for session in sessions %}<li><span>{{ session.browser }}{% if session.is_this %} <strong>(this one)</strong>{% endif %}<br><span class="note">last used {{ session.used }}</span></span>
{% if !session.is_this %}<form method="post" action="{{ base }}/account/sessions"><input type="hidden" name="form_token" value="{{ form_token }}">
<input type="hidden" name="session" value="{{ session.id }}"><button type="submit" class="quiet" aria-label="Sign out {{ session.browser }}, last used {{ session.used }}">Sign out</button></form>{% endif %}</li>{% endfor %}</ul>
{% if sessions.len() > 2 %}<form method="post" action="{{ base }}/account/sessions"><input type="hidden" name="form_token" value="{{ form_token }}">
<button type="submit" name="others" value="all" class="quiet">Sign out everywhere else</button></form>{% endif %}
{% if !password.is_empty() %}<h2 id="password">{% if password.len() > 1 %}Change your password{% else %}Set a password{% endif %}</h2>
<form method="post" action="{{ base }}/account/password" aria-labelledby="password"><input type="hidden" name="form_token" value="{{ form_token }}">
<input name="username" value="{{ user }}" autocomplete="username" hidden>
{% for field in password %}{{ field|safe }}{% endfor %}
<p class="note">You are signed out everywhere else then, and applications ask you again.</p>
<button type="submit">{% if password.len() > 1 %}Change password{% else %}Set password{% endif %}</button></form>{% endif %}"#
)]
struct Page<'a> {
    base: &'a str,
    /// What was just done.
    done: Option<&'static str>,
    user: &'a str,
    organization: Option<Arc<str>>,
    role: Option<&'static str>,
    since: String,
    method: Cow<'a, str>,
    form_token: &'a str,
    apps: Vec<App>,
    keys: Vec<Key>,
    sessions: Vec<Session>,
    doors: Vec<Door>,
    link_token: &'a str,
    /// The fields of the form; none for somebody without an account.
    password: Vec<Field<'a>>,
}

/// A field of the password's form, and what is wrong with it.
struct Wrong {
    field: &'static str,
    text: String,
}

struct App {
    client: ClientId,
    name: Arc<str>,
    scopes: String,
    since: String,
}

struct Key {
    id: KeyId,
    name: Arc<str>,
    display: Arc<str>,
    state: &'static str,
}

struct Door {
    provider: Arc<str>,
    label: Arc<str>,
    is_linked: bool,
}

struct Session {
    id: Arc<str>,
    browser: String,
    used: String,
    is_this: bool,
}

/// `GET /account`.
pub(super) async fn page(State(state): State<IssuerState>, visit: Visit) -> Response {
    let judged = async {
        match sessions::current(&state, &visit.headers, visit.now).await? {
            Some(person) => show(&state, &visit, &person, StatusCode::OK, None).await,
            None => Ok(pages::go_to(&visit.local(&format!("/sign-in?return_to={}", visit.local("/account"))))),
        }
    };
    visit.answer(judged).await
}

async fn show(state: &IssuerState, visit: &Visit, person: &Person, status: StatusCode, wrong: Option<&Wrong>) -> Result<Response, Problem> {
    let (form_token, cookie) = sessions::form_token(state, &visit.headers, PURPOSE)?;
    // Bound to the same session, so that no second cookie is due.
    let (link_token, _none) = sessions::form_token(state, &visit.headers, LINK_PURPOSE)?;
    let account = shelf::find::<AccountRecord>(state, person.user.subject.as_str()).await?.map(|(account, _version)| account);
    let method = &*person.session.method;
    let hint = format!("At least {PASSWORD_CHARACTERS_MIN} characters.");
    let page = Page {
        base: &visit.base,
        done: done(visit)?,
        user: person.user.subject.as_str(),
        organization: organization(state, person).await?,
        role: account.as_ref().map(|account| account.role.as_str()),
        since: words::time(person.session.created),
        method: words::method(method, visit.issuance.provider(method).map(|provider| &*provider.label)),
        form_token: &form_token,
        apps: apps(state, visit, person).await?,
        keys: keys(state, visit, person).await?,
        sessions: sessions_of(state, visit, person).await?,
        doors: doors(visit, account.as_ref()),
        link_token: &link_token,
        password: account.as_ref().map(|account| password_fields(account, wrong, &hint)).unwrap_or_default(),
    };
    Ok(pages::with_cookie(pages::show(visit, status, "Your account", &page, &[]), cookie))
}

fn done(visit: &Visit) -> Result<Option<&'static str>, Problem> {
    Ok(match Form::parse(&visit.query)?.take("done").as_deref() {
        Some("password") => Some("Your password is changed, and you are signed out everywhere else."),
        Some("sessions") => Some("Signed out there."),
        Some(_) | None => None,
    })
}

/// What the person's organisation is called.
async fn organization(state: &IssuerState, person: &Person) -> Result<Option<Arc<str>>, Problem> {
    let Some(id) = &person.user.organization else { return Ok(None) };
    let found = shelf::find::<OrganizationRecord>(state, id).await?;
    Ok(Some(found.map_or_else(|| Arc::clone(id), |(organization, _version)| organization.name)))
}

/// Of an account without a password nothing is asked but the new one.
fn password_fields<'a>(account: &AccountRecord, wrong: Option<&'a Wrong>, hint: &'a str) -> Vec<Field<'a>> {
    let current = Field {
        name: "current_password",
        label: "Current password",
        kind: "password",
        autocomplete: "current-password",
        longest: PASSWORD_BYTES_MAX,
        is_required: true,
        ..Field::default()
    };
    let new = Field {
        name: "new_password",
        label: "New password",
        autocomplete: "new-password",
        shortest: PASSWORD_CHARACTERS_MIN,
        hint,
        ..current
    };
    let mut fields = if account.password.is_some() { vec![current, new] } else { vec![new] };
    for field in &mut fields {
        let complaint = wrong.filter(|wrong| wrong.field == field.name);
        field.complaint = complaint.map(|wrong| wrong.text.as_str());
        field.is_first = complaint.is_some();
    }
    fields
}

/// One line a client, whatever the number of its grants.
async fn apps(state: &IssuerState, visit: &Visit, person: &Person) -> Result<Vec<App>, Problem> {
    let mut of_clients: BTreeMap<ClientId, Vec<GrantRecord>> = BTreeMap::new();
    for grant in grants::live_of(state, &person.user.subject, visit.now).await? {
        if let Some(client) = grant.client() {
            of_clients.entry(client.clone()).or_default().push(grant);
        }
    }
    let mut apps = Vec::with_capacity(of_clients.len());
    for (client, grants) in of_clients {
        let mut scopes: Vec<&str> = grants.iter().flat_map(|grant| grant.scopes.iter()).map(|scope| scope.as_str()).collect();
        scopes.sort_unstable();
        scopes.dedup();
        let since = grants.iter().map(|grant| grant.created).min().unwrap_or(visit.now);
        apps.push(App {
            // Of a deleted client nothing is left but its id.
            name: client_name(state, &client).await.unwrap_or_else(|| Arc::from(client.as_str())),
            scopes: scopes.join(" "),
            since: words::time(since),
            client,
        });
    }
    Ok(apps)
}

/// Revoked ones are nobody's any more.
async fn keys(state: &IssuerState, visit: &Visit, person: &Person) -> Result<Vec<Key>, Problem> {
    let mut found = Vec::new();
    let mut after: Option<String> = None;
    for _page in 0..KEYS_LOOKED_AT_MAX / LOOKED_AT_TOGETHER {
        let page = state.records.range(Family::Key, after.as_deref(), LOOKED_AT_TOGETHER).await?;
        let read = page.records.iter().filter_map(|(place, stored)| decode_key(&place.id, &stored.bytes).ok());
        let own = read.filter(|key| key.user == person.user.subject);
        found.extend(own.map(|key| Key { state: key.state_at(visit.now), id: key.id, name: key.name, display: key.display }));
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    found.retain(|key| key.state != "revoked");
    Ok(found)
}

async fn sessions_of(state: &IssuerState, visit: &Visit, person: &Person) -> Result<Vec<Session>, Problem> {
    let is_own = |session: &SessionRecord| session.user == person.user.subject && session.is_live(visit.now);
    let mut found: Vec<SessionRecord> = shelf::all(state, "", is_own).await?.into_iter().map(|(session, _version)| session).collect();
    found.sort_by_key(|session| Reverse(session.used));
    let show = |session: SessionRecord| Session {
        is_this: session.id == person.session.id,
        browser: words::browser(session.agent.as_deref()),
        used: words::time(session.used),
        id: session.id,
    };
    Ok(found.into_iter().map(show).collect())
}

/// Where else the person may prove who it is, and whether that opens this account already.
fn doors(visit: &Visit, account: Option<&AccountRecord>) -> Vec<Door> {
    let identities = account.map(|account| account.identities.as_slice()).unwrap_or_default();
    let show = |provider: &Provider| Door {
        provider: Arc::clone(&provider.name),
        label: Arc::clone(&provider.label),
        is_linked: identities.iter().any(|identity| identity.provider == provider.name),
    };
    visit.issuance.providers.iter().map(show).collect()
}
