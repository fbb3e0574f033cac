//! `/account`: who am I, where am I signed in, what may act for me.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use crate::issuer::IssuerState;
use crate::issuer::accounts::shelf;
use crate::issuer::accounts::trail;
use crate::issuer::accounts::trail::Done;
use crate::issuer::actor::Actor;
use crate::issuer::actor::Person;
use crate::issuer::audit::Deed;
use crate::issuer::oauth::authorize::client_name;
use crate::issuer::oauth::grants;
use crate::issuer::pages;
use crate::issuer::pages::form::Form;
use crate::issuer::pages::visit::Sent;
use crate::issuer::pages::visit::Visit;
use crate::issuer::problem::Problem;
use crate::issuer::sessions;
use crate::issuer::views::show_time;
use crate::model::account::AccountRecord;
use crate::model::account::SessionRecord;
use crate::model::client::ClientId;
use crate::model::grant::GrantRecord;
use crate::model::issuance::Provider;
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
<dl><dt>Name</dt><dd>{{ user }}</dd>
{% if let Some(organization) = organization %}<dt>Organisation</dt><dd>{{ organization }}</dd>{% endif %}
<dt>Signed in</dt><dd>{{ since }} ({{ method }})</dd></dl>
<a class="button" href="{{ base }}/sign-out">Sign out</a>
<h2 id="apps">Applications that you allowed</h2>
{% if apps.is_empty() %}<p class="note">None.</p>{% else %}
<ul class="list" aria-labelledby="apps">{% for app in apps %}<li><span><strong>{{ app.name }}</strong><br><span class="note">{{ app.scopes }} since {{ app.since }}</span></span>
<form method="post" action="{{ base }}/account/apps"><input type="hidden" name="form_token" value="{{ form_token }}">
<input type="hidden" name="client" value="{{ app.client }}"><button type="submit" class="quiet" aria-label="Revoke {{ app.name }}">Revoke</button></form></li>{% endfor %}</ul>{% endif %}
<h2 id="keys">Your keys</h2>
{% if keys.is_empty() %}<p class="note">None.</p>{% else %}
<ul class="list" aria-labelledby="keys">{% for key in keys %}<li><span><strong>{{ key.name }}</strong><br><code>{{ key.display }}&hellip;</code></span><span>{{ key.state }}</span></li>{% endfor %}</ul>{% endif %}
{% if !doors.is_empty() %}<h2 id="doors">Sign-in elsewhere</h2>
<ul class="list" aria-labelledby="doors">{% for door in doors %}<li><span>{{ door.label }}</span>{% if door.is_linked %}<span>linked</span>{% else %}
<form method="post" action="{{ base }}/account/link/{{ door.provider }}"><input type="hidden" name="form_token" value="{{ link_token }}">
<button type="submit" class="quiet" aria-label="Link {{ door.label }}">Link</button></form>{% endif %}</li>{% endfor %}</ul>{% endif %}
<h2 id="sessions">Where you are signed in</h2>
<ul class="list" aria-labelledby="sessions">{% for session in sessions %}<li><span>{{ session.agent }}{% if session.is_this %} <strong>(this one)</strong>{% endif %}<br><span class="note">last used {{ session.used }}</span></span></li>{% endfor %}</ul>"#
)]
struct Page<'a> {
    base: &'a str,
    user: &'a str,
    organization: Option<&'a str>,
    since: String,
    method: &'a str,
    form_token: &'a str,
    apps: Vec<App>,
    keys: Vec<Key>,
    sessions: Vec<Session>,
    doors: Vec<Door>,
    link_token: &'a str,
}

struct App {
    client: ClientId,
    name: Arc<str>,
    scopes: String,
    since: String,
}

struct Key {
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
    agent: Arc<str>,
    used: String,
    is_this: bool,
}

/// `GET /account`.
pub(super) async fn page(State(state): State<IssuerState>, visit: Visit) -> Response {
    visit.answer(show(&state, &visit)).await
}

/// `POST /account/apps`: takes back everything that a client was allowed.
pub(super) async fn revoke(State(state): State<IssuerState>, Sent { visit, form }: Sent) -> Response {
    visit.answer(take_back(&state, &visit, form)).await
}

async fn show(state: &IssuerState, visit: &Visit) -> Result<Response, Problem> {
    let Some(person) = sessions::current(state, &visit.headers, visit.now).await? else {
        return Ok(pages::go_to(&visit.local(&format!("/sign-in?return_to={}", visit.local("/account")))));
    };
    let (form_token, cookie) = sessions::form_token(state, &visit.headers, PURPOSE)?;
    // Bound to the same session, so that no second cookie is due.
    let (link_token, _none) = sessions::form_token(state, &visit.headers, LINK_PURPOSE)?;
    let page = Page {
        base: &visit.base,
        user: person.user.subject.as_str(),
        organization: person.user.organization.as_deref(),
        since: show_time(person.session.created),
        method: &person.session.method,
        form_token: &form_token,
        apps: apps(state, visit, &person).await?,
        keys: keys(state, visit, &person).await?,
        sessions: sessions_of(state, visit, &person).await?,
        doors: doors(state, visit, &person).await?,
        link_token: &link_token,
    };
    Ok(pages::with_cookie(pages::show(StatusCode::OK, "Your account", &page, &[]), cookie))
}

async fn take_back(state: &IssuerState, visit: &Visit, mut form: Form) -> Result<Response, Problem> {
    sessions::check_form(state, &visit.headers, PURPOSE, form.take("form_token").as_deref())?;
    let Some(person) = sessions::current(state, &visit.headers, visit.now).await? else {
        return Ok(pages::go_to(&visit.local("/sign-in")));
    };
    let client = form.take("client").unwrap_or_default();
    for grant in grants::take_back(state, &person.user.subject, &client, visit.now).await? {
        let actor = Actor::Person(Arc::new(person.clone()));
        let (subject, organization) = (grant.id.as_str(), grant.organization.as_deref());
        trail::note(state, &actor, Done { deed: Deed::GrantRevoked, subject, organization, address: visit.address }, visit.now).await;
    }
    Ok(pages::go_to(&visit.local("/account")))
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
            since: show_time(since),
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
        found.extend(own.map(|key| Key { state: key.state_at(visit.now), name: key.name, display: key.display }));
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
        agent: session.agent.unwrap_or_else(|| Arc::from("A browser")),
        used: show_time(session.used),
    };
    Ok(found.into_iter().map(show).collect())
}

/// Where else the person may prove who it is, and whether that opens this account already.
async fn doors(state: &IssuerState, visit: &Visit, person: &Person) -> Result<Vec<Door>, Problem> {
    let account = shelf::find::<AccountRecord>(state, person.user.subject.as_str()).await?;
    let identities = account.map(|(account, _version)| account.identities).unwrap_or_default();
    let show = |provider: &Provider| Door {
        provider: Arc::clone(&provider.name),
        label: Arc::clone(&provider.label),
        is_linked: identities.iter().any(|identity| identity.provider == provider.name),
    };
    Ok(visit.issuance.providers.iter().map(show).collect())
}
