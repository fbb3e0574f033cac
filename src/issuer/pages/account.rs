//! `/account`: who am I, where am I signed in, what may act for me.

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::Request;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;

use crate::issuer::IssuerState;
use crate::issuer::actor::Actor;
use crate::issuer::actor::Person;
use crate::issuer::audit;
use crate::issuer::audit::Deed;
use crate::issuer::oauth::authorize::client_name;
use crate::issuer::oauth::grants;
use crate::issuer::pages;
use crate::issuer::pages::form::Form;
use crate::issuer::pages::visit::Visit;
use crate::issuer::problem::Problem;
use crate::issuer::sessions;
use crate::issuer::views::show_time;
use crate::model::account::SessionRecord;
use crate::model::client::ClientId;
use crate::model::grant::GrantEnd;
use crate::model::grant::GrantRecord;
use crate::model::key::KeyRecord;
use crate::store::Family;
use crate::store::RecordKey;
use crate::store::StoreError;
use crate::store::codec::Shelved;
use crate::store::codec::decode_key;

const PURPOSE: &str = "account";
/// Records that the page looks at for each of its lists; behind them it says nothing.
const LOOKED_AT_MAX: usize = 20_000;
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

struct Session {
    agent: Arc<str>,
    used: String,
    is_this: bool,
}

/// `GET /account`.
pub(super) async fn page(State(state): State<IssuerState>, request: Request) -> Response {
    let (visit, _body) = match Visit::begin(&state, request) {
        Ok(begun) => begun,
        Err(problem) => return problem.into_response(),
    };
    show(&state, &visit).await.unwrap_or_else(|problem| pages::error::problem(&visit, &problem))
}

/// `POST /account/apps`: takes back everything that a client was allowed.
pub(super) async fn revoke(State(state): State<IssuerState>, request: Request) -> Response {
    let (visit, body) = match Visit::begin(&state, request) {
        Ok(begun) => begun,
        Err(problem) => return problem.into_response(),
    };
    let form = match Form::read(&visit.headers, body).await {
        Ok(form) => form,
        Err(problem) => return pages::error::problem(&visit, &problem),
    };
    take_back(&state, &visit, form).await.unwrap_or_else(|problem| pages::error::problem(&visit, &problem))
}

async fn show(state: &IssuerState, visit: &Visit) -> Result<Response, Problem> {
    let Some(person) = sessions::current(state, &visit.headers, visit.now).await? else {
        return Ok(pages::go_to(&visit.local(&format!("/sign-in?return_to={}", visit.local("/account")))));
    };
    let (form_token, cookie) = sessions::form_token(state, &visit.headers, PURPOSE)?;
    let page = Page {
        base: &visit.base,
        user: person.user.subject.as_str(),
        organization: person.user.organization.as_deref(),
        since: show_time(person.session.created),
        method: &person.session.method,
        form_token: &form_token,
        apps: apps(state, visit, &person).await?,
        keys: keys(state, visit, &person).await?,
        sessions: others(state, visit, &person).await?,
    };
    Ok(pages::with_cookie(pages::show(StatusCode::OK, "Your account", &page, &[]), cookie))
}

async fn take_back(state: &IssuerState, visit: &Visit, mut form: Form) -> Result<Response, Problem> {
    sessions::check_form(state, &visit.headers, PURPOSE, form.take("form_token").as_deref())?;
    let Some(person) = sessions::current(state, &visit.headers, visit.now).await? else {
        return Ok(pages::go_to(&visit.local("/sign-in")));
    };
    let client = form.take("client").unwrap_or_default();
    let actor = Actor::Person(Arc::new(person.clone()));
    for grant in grants::standing_of(state, &person.user.subject, visit.now).await? {
        if grant.client().is_none_or(|granted| granted.as_str() != client) {
            continue;
        }
        grants::end(state, grant.id.as_str(), &person.user.subject, GrantEnd::Revoked, visit.now).await?;
        let (subject, organization) = (grant.id.as_str(), grant.organization.as_deref());
        let entry =
            audit::Entry { deed: Deed::GrantRevoked, actor: &actor, subject, organization, address: visit.address, request_id: None };
        if let Err(problem) = audit::note(state, entry, visit.now).await {
            tracing::error!(grant = subject, code = problem.code.as_str(), "a revocation could not be noted");
        }
    }
    Ok(pages::go_to(&visit.local("/account")))
}

/// One line a client, whatever the number of its grants.
async fn apps(state: &IssuerState, visit: &Visit, person: &Person) -> Result<Vec<App>, StoreError> {
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

async fn keys(state: &IssuerState, visit: &Visit, person: &Person) -> Result<Vec<Key>, StoreError> {
    let read = |place: &RecordKey, bytes: &[u8]| decode_key(&place.id, bytes).ok().filter(|key| key.user == person.user.subject);
    let found = look(state, Family::Key, read).await?;
    let show = |key: KeyRecord| Key { state: key.state_at(visit.now), name: key.name, display: key.display };
    Ok(found.into_iter().map(show).filter(|key| key.state != "revoked").collect())
}

async fn others(state: &IssuerState, visit: &Visit, person: &Person) -> Result<Vec<Session>, StoreError> {
    let read = |place: &RecordKey, bytes: &[u8]| {
        let session = SessionRecord::decode(&place.id, bytes).ok();
        session.filter(|session| session.user == person.user.subject && session.is_live(visit.now))
    };
    let mut found = look(state, Family::Session, read).await?;
    found.sort_by_key(|session| std::cmp::Reverse(session.used));
    let show = |session: SessionRecord| Session {
        is_this: session.id == person.session.id,
        agent: session.agent.unwrap_or_else(|| Arc::from("a browser")),
        used: show_time(session.used),
    };
    Ok(found.into_iter().map(show).collect())
}

async fn look<T>(state: &IssuerState, family: Family, read: impl Fn(&RecordKey, &[u8]) -> Option<T>) -> Result<Vec<T>, StoreError> {
    let mut found = Vec::new();
    let mut after: Option<String> = None;
    for _page in 0..LOOKED_AT_MAX / LOOKED_AT_TOGETHER {
        let page = state.records.range(family, after.as_deref(), LOOKED_AT_TOGETHER).await?;
        found.extend(page.records.iter().filter_map(|(place, stored)| read(place, &stored.bytes)));
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    Ok(found)
}
