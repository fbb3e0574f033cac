//! Forms: that one came from a page of ours in the same browser.

use aws_lc_rs::constant_time;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::header;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::issuer::IssuerState;
use crate::issuer::accounts::issuance;
use crate::issuer::checks::Check;
use crate::issuer::checks::hold;
use crate::issuer::checks::run;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::sessions::cookies;
use crate::issuer::sessions::cookies::Kind;
use crate::model::issuance::Issuance;
use crate::secrets::random_id;

const FOREIGN: &str = "this form did not come from a page of ours; go back and try again";

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
    let expected = binding(state, &issuance, headers).map(|bound_to| value(state, purpose, &bound_to)).transpose()?;
    let sent = Sent { shown, expected: expected.as_deref(), headers, url: &issuance.url };
    run(&checks(), &sent).map_err(|_unmet| Problem::new(Code::Forbidden, FOREIGN))
}

/// A form that was sent.
#[derive(Clone, Copy)]
struct Sent<'a> {
    shown: Option<&'a str>,
    /// What it must carry; none: the browser is new to us.
    expected: Option<&'a str>,
    headers: &'a HeaderMap,
    /// The issuer's.
    url: &'a str,
}

/// The form's value, and what browsers say of where a request came from; those that say nothing are judged by the value alone.
fn checks<'a>() -> [Check<Sent<'a>>; 3] {
    [
        Check { name: "it carries this browser's value for this purpose", run: |sent| hold(carries_the_value(sent)) },
        Check { name: "`Sec-Fetch-Site` is this origin", run: |sent| hold(site(sent).is_none_or(|site| site == "same-origin")) },
        // The older word counts where the newer is missing.
        Check { name: "`Origin` is this origin", run: |sent| hold(site(sent).is_some() || is_of_this_origin(sent)) },
    ]
}

fn carries_the_value(sent: &Sent<'_>) -> bool {
    let (Some(shown), Some(expected)) = (sent.shown, sent.expected) else { return false };
    constant_time::verify_slices_are_equal(expected.as_bytes(), shown.as_bytes()).is_ok()
}

fn site<'a>(sent: &Sent<'a>) -> Option<&'a HeaderValue> {
    sent.headers.get("sec-fetch-site")
}

/// `null` says nothing: our pages send no referrer, and then it is what a form of theirs has for an origin.
fn is_of_this_origin(sent: &Sent<'_>) -> bool {
    sent.headers.get(header::ORIGIN).is_none_or(|origin| origin == "null" || origin.as_bytes() == origin_of(sent.url).as_bytes())
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

/// Scheme, host and port of a URL.
fn origin_of(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url.get(host..).and_then(|rest| rest.find('/')).map_or(url.len(), |at| host + at);
    url.get(..end).unwrap_or(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issuer::checks::assert_each_is_needed;

    fn said(words: &[(&'static str, &'static str)]) -> HeaderMap {
        words.iter().map(|(name, word)| (name.parse().unwrap(), HeaderValue::from_static(word))).collect()
    }

    // oauth: R3
    // battery: I14
    #[test]
    fn every_check_of_a_form_refuses_what_no_other_does() {
        let own = said(&[("origin", "https://id.example.com"), ("sec-fetch-site", "same-origin")]);
        let crossed = said(&[("origin", "null"), ("sec-fetch-site", "cross-site")]);
        let beside = said(&[("sec-fetch-site", "same-site")]);
        let typed = said(&[("sec-fetch-site", "none")]);
        let (evil, plain) = (said(&[("origin", "https://evil.example")]), said(&[("origin", "http://id.example.com")]));
        let good = Sent { shown: Some("v"), expected: Some("v"), headers: &own, url: "https://id.example.com/a" };
        for headers in [&own, &said(&[("origin", "https://id.example.com")]), &said(&[("origin", "null")]), &HeaderMap::new()] {
            assert_eq!(run(&checks(), &Sent { headers, ..good }), Ok(()));
        }
        let value = "it carries this browser's value for this purpose";
        assert_each_is_needed(
            checks,
            &[
                (value, Sent { shown: None, ..good }),
                (value, Sent { shown: Some(""), ..good }),
                (value, Sent { shown: Some("another purpose's, or another browser's"), ..good }),
                (value, Sent { expected: None, ..good }),
                ("`Sec-Fetch-Site` is this origin", Sent { headers: &crossed, ..good }),
                ("`Sec-Fetch-Site` is this origin", Sent { headers: &beside, ..good }),
                ("`Sec-Fetch-Site` is this origin", Sent { headers: &typed, ..good }),
                ("`Origin` is this origin", Sent { headers: &evil, ..good }),
                ("`Origin` is this origin", Sent { headers: &plain, ..good }),
            ],
        );
    }
}
