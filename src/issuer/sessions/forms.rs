//! Forms: that one came from a page of ours in the same browser.

use aws_lc_rs::constant_time;
use axum::http::HeaderMap;
use axum::http::header;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::issuer::IssuerState;
use crate::issuer::accounts::issuance;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::sessions::cookies;
use crate::issuer::sessions::cookies::Kind;
use crate::model::issuance::Issuance;
use crate::secrets::random_id;

/// The value that a form of this browser must carry for this purpose: bound to its session, or before a sign-in to its browser cookie.
/// Gives the `set-cookie` for a browser that had none.
///
/// # Errors
/// When the machine gives no random bytes.
pub fn form_token(state: &IssuerState, headers: &HeaderMap, purpose: &str) -> Result<(String, Option<String>), Problem> {
    let issuance = issuance(state)?;
    if let Some(bound_to) = binding(state, &issuance, headers) {
        return Ok((value(state, purpose, &bound_to)?, None));
    }
    let id = random_id()?;
    let cookie = cookies::give(state, &issuance, Kind::Browser, &id, None)?;
    Ok((value(state, purpose, &bound(Kind::Browser, &id))?, Some(cookie)))
}

/// Whether a form came from a page of ours in this browser, for this purpose: `Sec-Fetch-Site` and the value of [`form_token`].
///
/// # Errors
/// 403 where it did not.
pub fn check_form(state: &IssuerState, headers: &HeaderMap, purpose: &str, shown: Option<&str>) -> Result<(), Problem> {
    let issuance = issuance(state)?;
    let (Some(bound_to), Some(shown)) = (binding(state, &issuance, headers), shown) else { return Err(foreign()) };
    let expected = value(state, purpose, &bound_to)?;
    let is_ours = constant_time::verify_slices_are_equal(expected.as_bytes(), shown.as_bytes()).is_ok();
    if is_ours && is_from_here(&issuance, headers) { Ok(()) } else { Err(foreign()) }
}

/// The id of the browser cookie, for what is under way before anybody signed in.
pub fn browser(state: &IssuerState, headers: &HeaderMap) -> Result<(String, Option<String>), Problem> {
    let issuance = issuance(state)?;
    if let Some(id) = cookies::id(state, &issuance, headers, Kind::Browser) {
        return Ok((id, None));
    }
    let id = random_id()?;
    let cookie = cookies::give(state, &issuance, Kind::Browser, &id, None)?;
    Ok((id, Some(cookie)))
}

/// A value made before a sign-in is worth nothing after it: it is bound to what the browser had then.
fn binding(state: &IssuerState, issuance: &Issuance, headers: &HeaderMap) -> Option<String> {
    let of = |kind| cookies::id(state, issuance, headers, kind).map(|id| bound(kind, &id));
    of(Kind::Session).or_else(|| of(Kind::Browser))
}

fn bound(kind: Kind, id: &str) -> String {
    match kind {
        Kind::Session => format!("session {id}"),
        Kind::Browser => format!("browser {id}"),
    }
}

fn value(state: &IssuerState, purpose: &str, bound_to: &str) -> Result<String, Problem> {
    let fingerprint = state.peppers.fingerprint(&format!("form {purpose}"), bound_to.as_bytes());
    let fingerprint = fingerprint.ok_or_else(|| Problem::new(Code::Unavailable, "forms cannot be made now"))?;
    Ok(URL_SAFE_NO_PAD.encode(fingerprint))
}

/// What browsers say of where a request came from; those that say nothing are judged by the form's value alone. `null` says nothing: our
/// pages send no referrer, and then it is what a form of theirs has for an origin.
fn is_from_here(issuance: &Issuance, headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin";
    }
    match headers.get(header::ORIGIN) {
        Some(origin) => origin == "null" || origin.as_bytes() == origin_of(&issuance.url).as_bytes(),
        None => true,
    }
}

/// Scheme, host and port of a URL.
fn origin_of(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url.get(host..).and_then(|rest| rest.find('/')).map_or(url.len(), |at| host + at);
    url.get(..end).unwrap_or(url)
}

fn foreign() -> Problem {
    Problem::new(Code::Forbidden, "this form did not come from a page of ours; go back and try again")
}
