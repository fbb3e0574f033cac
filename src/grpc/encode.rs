//! The last room: a verdict becomes a `CheckResponse`, and nothing here can fail.
//!
//! Envoy lets a request through when `status.code` is zero *or absent*, whatever else the message holds. So a message is only ever
//! built by [`message`], whose code is an argument, and zero is written in two places: [`allow`], which asks for a [`Grant`], and
//! [`waive`], which asks for the [`Waiver`] of a trial.

use std::time::Duration;

use crate::check::decide::Denial;
use crate::check::decide::Fault;
use crate::check::decide::Grant;
use crate::check::decide::Particulars;
use crate::check::reasons::Challenge;
use crate::check::reasons::Kind;
use crate::check::reasons::Reason;
use crate::check::reasons::Row;
use crate::check::waive::Waiver;
use crate::grpc::bodies::Body;
use crate::grpc::bodies::Refusal;
use crate::grpc::bodies::write_body;
use crate::grpc::fields::Fields;
use crate::grpc::rate_headers::rate_headers;
use crate::grpc::rate_headers::whole_seconds;
use crate::grpc::wire::field;
use crate::model::caller::Caller;
use crate::model::request::Method;
use crate::model::route::ErrorFormat;
use crate::model::route::Route;
use crate::model::time::Timestamp;
use crate::telemetry::metrics::decision_label;
use bytes::Bytes;

/// The code of an answer that Tollgate gives itself: to Envoy it is a refusal to forward, like any other that is not zero.
const ANSWERED_HERE: i32 = 7;

/// `OVERWRITE_IF_EXISTS_OR_ADD`
const OVERWRITE: i32 = 2;

/// What every answer says beyond its verdict.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    pub route: Option<&'a Route>,
    pub caller: Option<&'a Caller>,
    /// Set: the caller lives by its tier's grace.
    pub lapsed_for: Option<Duration>,
    /// The verdict is for the log alone.
    pub dry_run: bool,
    /// The form of refusals before a route is known.
    pub errors: ErrorFormat,
    pub revision: &'a str,
    /// The id under which this check can be found in the log.
    pub request_id: Option<&'a str>,
    pub client: Client,
    pub now: Timestamp,
}

/// What the client speaks, and so in which form a refusal reaches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    Http,
    Grpc,
}

/// The one way to an OK.
pub fn allow(grant: &Grant<'_>, about: &About<'_>) -> Bytes {
    let prepared = grant.prepared();
    // Removals run after additions and ignore case, so a name in both lists would lose the value just set.
    let is_set = |name: &str| prepared.set().iter().any(|(set, _)| set.eq_ignore_ascii_case(name));
    let mut response_headers = rate_headers(grant.admission(), about.now);
    for (name, value) in prepared.response() {
        // `Link` may come twice; a second overwrite would lose the first.
        match response_headers.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => {
                known.push_str(", ");
                known.push_str(value);
            }
            None => response_headers.push((name, value.clone())),
        }
    }
    message(0, grant.reason(), field::OK_RESPONSE, about, |ok| {
        for (name, value) in prepared.set() {
            overwrite(ok, field::ok::HEADERS, name, value.as_ref());
        }
        for name in prepared.remove().iter().filter(|name| !is_set(name)) {
            ok.text(field::ok::HEADERS_TO_REMOVE, name);
        }
        for (name, value) in &response_headers {
            overwrite(ok, field::ok::RESPONSE_HEADERS_TO_ADD, name, value);
        }
        if let Some(name) = prepared.remove_query() {
            ok.text(field::ok::QUERY_PARAMETERS_TO_REMOVE, name);
        }
    })
}

/// A refusal that is none, because the config is a trial's. The metadata say what would have been.
pub fn waive(waiver: &Waiver<'_>, reason: Reason, about: &About<'_>) -> Bytes {
    message(0, reason, field::OK_RESPONSE, about, |ok| {
        for (name, value) in waiver.set() {
            overwrite(ok, field::ok::HEADERS, name, value.as_ref());
        }
        for name in waiver.remove() {
            ok.text(field::ok::HEADERS_TO_REMOVE, name);
        }
    })
}

/// An allow whose answer is known here (`GET /stats`): Envoy forwards nothing and hands `body` to the client with 200.
pub fn answer(grant: &Grant<'_>, body: String, about: &About<'_>) -> Bytes {
    let mut headers = rate_headers(grant.admission(), about.now);
    headers.push(("content-type", String::from("application/json")));
    headers.push(("cache-control", String::from("no-store")));
    let answered = Told { status: 200, headers, body };
    message(ANSWERED_HERE, grant.reason(), field::DENIED_RESPONSE, about, |denied| answered.write(denied))
}

/// A denial; Envoy's failure mode never applies to it.
pub fn deny(denial: &Denial, about: &About<'_>) -> Bytes {
    let reason = refusing(denial.reason, Kind::Denial);
    let refused = refuse(reason, &denial.particulars, about);
    message(i32::from(reason.row().grpc), reason, field::DENIED_RESPONSE, about, |denied| refused.write(denied))
}

/// A fault told as a denial, for configs that want Envoy's failure mode never to apply.
pub fn deny_fault(fault: &Fault, about: &About<'_>) -> Bytes {
    let reason = refusing(fault.reason, Kind::Fault);
    let refused = refuse(reason, &Particulars::None, about);
    message(i32::from(reason.row().grpc), reason, field::DENIED_RESPONSE, about, |denied| refused.write(denied))
}

/// A fault told as `error_response`: Envoy 1.37 and newer applies its failure mode, older ones deny.
pub fn error_response(fault: &Fault, about: &About<'_>) -> Bytes {
    let reason = refusing(fault.reason, Kind::Fault);
    let refused = refuse(reason, &Particulars::None, about);
    message(i32::from(reason.row().grpc), reason, field::ERROR_RESPONSE, about, |denied| refused.write(denied))
}

/// The HTTP status that a refusal of this reason shows.
pub fn status_of(reason: Reason) -> u16 {
    reason.row().http
}

/// A row that must refuse: a reason of another kind in its place is our own contradiction.
fn refusing(reason: Reason, kind: Kind) -> Reason {
    let row = reason.row();
    if row.kind == kind && row.grpc != 0 && row.http >= 400 { reason } else { Reason::Internal }
}

fn refuse(reason: Reason, particulars: &Particulars, about: &About<'_>) -> Told {
    let row = reason.row();
    let request_id = about.request_id.unwrap_or_default();
    let mut headers = Vec::with_capacity(8);
    headers.push(("cache-control", String::from("no-store")));
    if !request_id.is_empty() {
        headers.push(("x-request-id", header_text(request_id)));
    }
    headers.extend(challenge(row, particulars).map(|value| ("www-authenticate", value)));
    headers.extend(particular_headers(row, particulars, about.now));
    let refusal = Refusal { row, particulars, request_id };
    match about.client {
        // Envoy makes a trailers-only answer of it and the body its message; a content type would break it.
        Client::Grpc => {
            headers.push(("grpc-status", row.grpc.to_string()));
            headers.push(("grpc-message", header_text(row.text)));
            Told { status: row.http, headers, body: row.text.to_owned() }
        }
        Client::Http => {
            let Body { content_type, text } = write_body(about.route.map_or(about.errors, |route| route.errors), &refusal);
            headers.push(("content-type", content_type.to_owned()));
            Told { status: row.http, headers, body: text }
        }
    }
}

/// RFC 6750 section 3: bare when no credential was shown, else with what was wrong.
fn challenge(row: Row, particulars: &Particulars) -> Option<String> {
    const REALM: &str = "Bearer realm=\"tollgate\"";
    let error = match row.challenge {
        Challenge::None => return None,
        Challenge::Bare => return Some(REALM.to_owned()),
        Challenge::InvalidRequest => "invalid_request",
        Challenge::InvalidToken => "invalid_token",
        Challenge::InsufficientScope => "insufficient_scope",
    };
    let mut value = format!("{REALM}, error=\"{error}\", error_description=\"{}\"", quotable(row.text));
    if let Particulars::Scopes(scopes) = particulars {
        value.push_str(", scope=\"");
        value.push_str(&quotable(scopes));
        value.push('"');
    }
    Some(value)
}

fn particular_headers(row: Row, particulars: &Particulars, now: Timestamp) -> Vec<(&'static str, String)> {
    match particulars {
        Particulars::Methods(methods) => {
            let methods: Vec<&str> = methods.iter().copied().map(Method::as_str).collect();
            vec![("allow", methods.join(", "))]
        }
        Particulars::Link(link) => vec![("link", header_text(link))],
        Particulars::RetryAfter(seconds) => vec![("retry-after", (*seconds).max(1).to_string())],
        Particulars::Limits(admission) => {
            let mut headers = rate_headers(admission, now);
            headers.extend(admission.retry_after().map(|wait| ("retry-after", whole_seconds(wait).max(1).to_string())));
            headers
        }
        // What cannot be judged now is worth another try soon.
        Particulars::None if row.http == 503 => vec![("retry-after", String::from("1"))],
        Particulars::None | Particulars::Field { .. } | Particulars::Scopes(_) | Particulars::Versions(_) => Vec::new(),
    }
}

/// What the client is told instead of what it asked for.
struct Told {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Told {
    fn write(&self, denied: &mut Fields) {
        denied.message(field::denied::STATUS, |status| status.number(field::denied::STATUS_CODE, i32::from(self.status)));
        for (name, value) in &self.headers {
            overwrite(denied, field::denied::HEADERS, name, value);
        }
        denied.text(field::denied::BODY, &self.body);
    }
}

/// The only place that builds a `CheckResponse`: `write` fills the response that `tag` names.
fn message(code: i32, reason: Reason, tag: u32, about: &About<'_>, write: impl FnOnce(&mut Fields)) -> Bytes {
    let row = reason.row();
    let mut answer = Fields::empty();
    answer.message(field::STATUS, |status| {
        status.number(field::status::CODE, code);
        status.text(field::status::MESSAGE, row.label);
    });
    answer.message(tag, write);
    answer.message(field::DYNAMIC_METADATA, |metadata| write_metadata(metadata, row, about));
    answer.into_bytes().into()
}

/// For the access log. `ext_authz_duration` is Envoy's own name and stays unused.
fn write_metadata(metadata: &mut Fields, row: Row, about: &About<'_>) {
    let caller = about.caller;
    let known = [
        ("decision", Some(decision_label(row.kind))),
        ("reason", Some(row.label)),
        ("route", about.route.map(|route| &*route.name)),
        ("config_revision", Some(about.revision)),
        ("request_id", about.request_id),
        ("user", caller.map(|caller| caller.user.as_str())),
        ("key_id", caller.and_then(|caller| caller.key.as_ref()).map(|key| key.as_str())),
        ("org", caller.and_then(|caller| caller.organization.as_deref())),
        ("tier", caller.and_then(|caller| caller.tier.as_deref())),
        ("dry_run", about.dry_run.then_some("true")),
        ("grace", about.lapsed_for.map(|_| "true")),
    ];
    for (name, value) in known {
        let Some(value) = value else { continue };
        metadata.message(field::ENTRIES, |entry| {
            entry.text(field::KEY, name);
            entry.message(field::VALUE, |text| text.text(field::STRING_VALUE, value));
        });
    }
}

/// Released Envoys read either `append` or `append_action`, whose zero values mean opposite things: both are always set. Only `value`
/// is read; `raw_value` would inject an empty header.
fn overwrite(response: &mut Fields, tag: u32, name: &str, value: &str) {
    response.message(tag, |option| {
        option.message(field::option::HEADER, |header| {
            header.text(field::KEY, name);
            header.text(field::VALUE, value);
        });
        option.message(field::option::APPEND, |_false| {});
        option.number(field::option::APPEND_ACTION, OVERWRITE);
    });
}

/// Visible ASCII and spaces; whatever else becomes a question mark.
fn header_text(text: &str) -> String {
    text.chars().map(|character| if character == ' ' || character.is_ascii_graphic() { character } else { '?' }).collect()
}

/// The same, for use between quotes.
fn quotable(text: &str) -> String {
    header_text(text).replace(['"', '\\'], "?")
}
