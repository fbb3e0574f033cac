//! Sessions of the issuer's own pages: a cookie that holds a handle, a record that slides with use.

use axum::http::HeaderMap;

use crate::issuer::IssuerState;
use crate::issuer::actor::Person;
use crate::issuer::problem::Problem;
use crate::model::caller::Subject;
use crate::model::time::Timestamp;

/// What a new session gives the browser: the value of a `set-cookie` header.
#[derive(Debug)]
pub struct Opened {
    pub person: Person,
    pub cookie: String,
}

/// Who is signed in in this browser. Slides the session.
///
/// # Errors
/// A store that does not answer. A cookie that opens nothing is nobody.
pub async fn current(_state: &IssuerState, _headers: &HeaderMap, _now: Timestamp) -> Result<Option<Person>, Problem> {
    Ok(None)
}

/// Opens a session for a user who has just proven who it is, by `method` (`password`, or a provider's name). A session that the browser
/// had before is ended: an id never survives a sign-in.
///
/// # Errors
/// A store that does not answer.
pub async fn open(_state: &IssuerState, _headers: &HeaderMap, _user: &Subject, _method: &str, _now: Timestamp) -> Result<Opened, Problem> {
    Err(Problem::new(crate::issuer::problem::Code::Unavailable, "sessions cannot be opened yet"))
}

/// Ends the session of this browser, and what was allowed under it where the policy says so; the `set-cookie` that takes it away.
///
/// # Errors
/// A store that does not answer.
pub async fn close(_state: &IssuerState, _headers: &HeaderMap, _now: Timestamp) -> Result<String, Problem> {
    Err(Problem::new(crate::issuer::problem::Code::Unavailable, "sessions cannot be closed yet"))
}

/// The value that a form of this browser must carry for this purpose: bound to its session, or before a sign-in to its browser cookie.
/// Gives the `set-cookie` for a browser that had none.
///
/// # Errors
/// When the machine gives no random bytes.
pub fn form_token(_state: &IssuerState, _headers: &HeaderMap, _purpose: &str) -> Result<(String, Option<String>), Problem> {
    Err(Problem::new(crate::issuer::problem::Code::Unavailable, "forms cannot be made yet"))
}

/// Whether a form came from a page of ours in this browser, for this purpose: `Sec-Fetch-Site` and the value of [`form_token`].
///
/// # Errors
/// 403 where it did not.
pub fn check_form(_state: &IssuerState, _headers: &HeaderMap, _purpose: &str, _shown: Option<&str>) -> Result<(), Problem> {
    Err(Problem::new(crate::issuer::problem::Code::Forbidden, "this form did not come from a page of ours; go back and try again"))
}
