//! Sessions of the issuer's own pages: a cookie that holds a handle, a record that slides with use.

mod cookies;
mod forms;

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::header;

use crate::issuer::IssuerState;
use crate::issuer::accounts::caps;
use crate::issuer::accounts::grants;
use crate::issuer::accounts::issuance;
use crate::issuer::accounts::shelf;
use crate::issuer::accounts::sign_in;
use crate::issuer::accounts::trail;
use crate::issuer::accounts::trail::Done;
use crate::issuer::actor::Actor;
use crate::issuer::actor::Person;
use crate::issuer::audit::Deed;
use crate::issuer::checks::Check;
use crate::issuer::checks::Unmet;
use crate::issuer::checks::hold;
use crate::issuer::checks::run;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::sessions::cookies::Kind;
use crate::issuer::users;
use crate::model::account::SessionRecord;
use crate::model::caller::Subject;
use crate::model::grant::GrantEnd;
use crate::model::grant::GrantRecord;
use crate::model::issuance::Issuance;
use crate::model::issuance::SignOut;
use crate::model::key_text::push_base62;
use crate::model::time::Timestamp;
use crate::model::user::UserRecord;
use crate::secrets::random_id;
use crate::secrets::sha256;
use crate::store::Write;
use crate::store::codec::Shelved;

pub use crate::issuer::sessions::forms::browser;
pub use crate::issuer::sessions::forms::check_form;
pub use crate::issuer::sessions::forms::form_token;

/// A session is written at most this often, however much it is used.
const TOUCHED_EVERY_SECONDS: u64 = 60;
/// What is kept of a browser's name.
const AGENT_CHARACTERS_MAX: usize = 120;

/// Sessions that one commit ends.
const ENDED_TOGETHER: usize = 200;

/// The digits of a session's id that say whose it is.
const BEGINNING_DIGITS: usize = 6;

/// How a session that was opened with a name and a password calls it.
pub const BY_PASSWORD: &str = "password";

/// What a new session gives the browser: the value of a `set-cookie` header.
#[derive(Debug)]
pub struct Opened {
    pub person: Person,
    pub cookie: String,
}

/// A session that a browser showed, and whose it is.
struct Visit {
    session: SessionRecord,
    user: Option<UserRecord>,
    now: Timestamp,
}

const CHECKS: [Check<Visit>; 4] = [
    Check { name: "the session was used lately", run: |visit| hold(visit.now < visit.session.idle_until) },
    Check { name: "the session has not come to its end", run: |visit| hold(visit.now < visit.session.ends) },
    Check { name: "the session's user is active", run: |visit| visit.user.as_ref().map_or(Err(Unmet), users::stands) },
    Check { name: "the password is the one of then", run: is_of_this_password },
];

/// A change of the password ends whatever was opened before it.
fn is_of_this_password(visit: &Visit) -> Result<(), Unmet> {
    let valid_from = visit.user.as_ref().and_then(|user| user.valid_from);
    hold(valid_from.is_none_or(|valid_from| visit.session.created >= valid_from))
}

/// Who is signed in in this browser. Slides the session.
///
/// # Errors
/// A store that does not answer. A cookie that opens nothing is nobody.
pub async fn current(state: &IssuerState, headers: &HeaderMap, now: Timestamp) -> Result<Option<Person>, Problem> {
    let issuance = issuance(state)?;
    let Some(id) = cookies::id(state, &issuance, headers, Kind::Session) else { return Ok(None) };
    let Some((session, version)) = shelf::find::<SessionRecord>(state, &id).await? else { return Ok(None) };
    let user = users::find(state, users::LOCAL, session.user.as_str()).await?.map(|(user, _version)| user);
    let visit = Visit { session, user, now };
    if run(&CHECKS, &visit).is_err() {
        return Ok(None);
    }
    let Some(user) = visit.user else { return Ok(None) };
    let session = touch(state, &issuance, visit.session, version, now).await?;
    Ok(Some(Person { session, user: Arc::new(user) }))
}

/// Opens a session for a user who has just proven who it is, by `method` (`password`, or a provider's name). A session that the browser
/// had before is ended: an id never survives a sign-in.
///
/// # Errors
/// A store that does not answer.
pub async fn open(
    state: &IssuerState,
    headers: &HeaderMap,
    user: &Subject,
    method: &str,
    address: Option<IpAddr>,
    now: Timestamp,
) -> Result<Opened, Problem> {
    let issuance = issuance(state)?;
    let (user, standing) = users::standing(state, user).await?.ok_or_else(sign_in::wrong)?;
    let ends = now.plus(issuance.lifetimes.session_absolute);
    let beginning = beginning_of(&user.subject);
    let session = SessionRecord {
        id: Arc::from(format!("{beginning}{}", random_id()?.get(BEGINNING_DIGITS..).unwrap_or_default())),
        user: user.subject.clone(),
        method: Arc::from(method),
        created: now,
        used: now,
        idle_until: now.plus(issuance.lifetimes.session_idle).min(ends),
        ends,
        agent: agent(headers),
    };
    let mut writes = vec![shelf::put(&session, Some(session.idle_until))];
    if let Some(before) = cookies::id(state, &issuance, headers, Kind::Session) {
        writes.push(Write::Remove(SessionRecord::place(&before)));
    }
    if !state.records.commit(vec![shelf::absent(&session), standing], writes, now).await?.is_done() {
        return Err(Problem::changed_meanwhile());
    }
    for surplus in caps::surplus_sessions(state, &session, &beginning, issuance.caps.sessions, now).await? {
        end(state, &surplus, address, now).await?;
    }
    sign_in::mark_online(state, &user.subject, now).await?;
    if method != BY_PASSWORD {
        // A sign-in by password was noted where the password was compared.
        let actor = Actor::Person(Arc::new(Person { session: session.clone(), user: Arc::new(user.clone()) }));
        let done = Done { deed: Deed::SignedIn, subject: user.subject.as_str(), organization: user.organization.as_deref(), address };
        trail::note(state, &actor, done, now).await;
    }
    let cookie = cookies::give(state, &issuance, Kind::Session, &session.id, Some(issuance.lifetimes.session_absolute))?;
    Ok(Opened { person: Person { session, user: Arc::new(user) }, cookie })
}

/// Ends the session of this browser, and what was allowed under it where the policy says so; the `set-cookie` that takes it away.
///
/// # Errors
/// A store that does not answer.
pub async fn close(state: &IssuerState, headers: &HeaderMap, address: Option<IpAddr>, now: Timestamp) -> Result<String, Problem> {
    let issuance = issuance(state)?;
    if let Some(id) = cookies::id(state, &issuance, headers, Kind::Session)
        && let Some((session, _version)) = shelf::find::<SessionRecord>(state, &id).await?
    {
        end(state, &session, address, now).await?;
    }
    Ok(cookies::take(&issuance, Kind::Session))
}

/// Ends a session, whoever asks for it.
///
/// # Errors
/// A store that does not answer.
pub(in crate::issuer) async fn end(
    state: &IssuerState,
    session: &SessionRecord,
    address: Option<IpAddr>,
    now: Timestamp,
) -> Result<(), Problem> {
    let issuance = issuance(state)?;
    let done = state.records.commit(Vec::new(), vec![Write::Remove(SessionRecord::place(&session.id))], now).await?;
    if !done.is_done() {
        return Err(Problem::new(Code::Unavailable, "the session could not be ended; try again"));
    }
    match issuance.sign_out {
        SignOut::Session => {}
        SignOut::Grants => {
            let under = |grant: &GrantRecord| grant.session.as_ref() == Some(&session.id);
            grants::end_all(state, under, GrantEnd::SignedOut, now).await?;
        }
    }
    sign_in::mark_offline(state, &session.user, now).await?;
    if let Some((user, _version)) = users::find(state, users::LOCAL, session.user.as_str()).await? {
        let organization = user.organization.clone();
        let actor = Actor::Person(Arc::new(Person { session: session.clone(), user: Arc::new(user) }));
        let done = Done { deed: Deed::SignedOut, subject: session.user.as_str(), organization: organization.as_deref(), address };
        trail::note(state, &actor, done, now).await;
    }
    Ok(())
}

/// Ends every session of a user, without more ado.
///
/// # Errors
/// A store that does not answer.
pub(in crate::issuer) async fn end_all_of(state: &IssuerState, user: &Subject, now: Timestamp) -> Result<usize, Problem> {
    let found = shelf::all::<SessionRecord>(state, "", |session| session.user == *user).await?;
    for some in found.chunks(ENDED_TOGETHER) {
        let writes = some.iter().map(|(session, _version)| Write::Remove(SessionRecord::place(&session.id))).collect();
        state.records.commit(Vec::new(), writes, now).await?;
    }
    Ok(found.len())
}

/// Slides the session, and with it the tokens of its owner's keys (seed 003).
async fn touch(
    state: &IssuerState,
    issuance: &Issuance,
    session: SessionRecord,
    version: u64,
    now: Timestamp,
) -> Result<SessionRecord, Problem> {
    if now.since(session.used).as_secs() < TOUCHED_EVERY_SECONDS {
        return Ok(session);
    }
    let mut touched = session.clone();
    touched.used = now;
    touched.idle_until = now.plus(issuance.lifetimes.session_idle).min(touched.ends);
    let write = shelf::put(&touched, Some(touched.idle_until));
    if !state.records.commit(vec![shelf::at(&session, version)], vec![write], now).await?.is_done() {
        // Another request of the same browser touched it, or it was just ended: then the next request finds that.
        return Ok(session);
    }
    sign_in::mark_online(state, &touched.user, now).await?;
    grants::slide_key_tokens(state, issuance, &touched.user, now).await?;
    Ok(touched)
}

/// How the ids of a user's sessions begin: so they lie together and are found without looking through everybody's. What follows has 95
/// random bits, and the id alone opens nothing.
fn beginning_of(user: &Subject) -> String {
    let mut text = String::with_capacity(BEGINNING_DIGITS);
    push_base62(&mut text, &mut sha256(user.as_str().as_bytes()), BEGINNING_DIGITS);
    text
}

fn agent(headers: &HeaderMap) -> Option<Arc<str>> {
    let text = headers.get(header::USER_AGENT)?.to_str().ok()?;
    Some(Arc::from(text.chars().filter(|character| !character.is_control()).take(AGENT_CHARACTERS_MAX).collect::<String>()))
}

#[cfg(test)]
mod tests;
