//! The last room: a verdict becomes a `CheckResponse`, and nothing here can fail.
//!
//! Envoy lets a request through when `status.code` is zero *or absent*, whatever else the message holds. So a message is only ever
//! built by [`message`], whose code is an argument, and zero is written in two places: [`allow`], which asks for a [`Grant`], and
//! [`waive`], which asks for the [`Waiver`] of a trial.

use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::HeaderValue;
use envoy_types::pb::envoy::config::core::v3::HeaderValueOption;
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::service::auth::v3::CheckResponse;
use envoy_types::pb::envoy::service::auth::v3::DeniedHttpResponse;
use envoy_types::pb::envoy::service::auth::v3::OkHttpResponse;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use envoy_types::pb::google::protobuf::BoolValue;
use envoy_types::pb::google::protobuf::Struct;
use envoy_types::pb::google::protobuf::Value;
use envoy_types::pb::google::protobuf::value::Kind as ValueKind;
use envoy_types::pb::google::rpc::Status;
use prost::Message as _;

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
use crate::grpc::rate_headers::rate_headers;
use crate::grpc::rate_headers::whole_seconds;
use crate::model::caller::Caller;
use crate::model::request::Method;
use crate::model::route::ErrorFormat;
use crate::model::route::Route;
use crate::model::time::Timestamp;
use crate::telemetry::metrics::decision_label;

/// The code of an answer that Tollgate gives itself: to Envoy it is a refusal to forward, like any other that is not zero.
const ANSWERED_HERE: i32 = 7;

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
    let headers = prepared.set().iter().map(|(name, value)| overwrite(name, value.as_ref())).collect();
    // Removals run after additions and ignore case, so a name in both lists would lose the value just set.
    let is_set = |name: &str| prepared.set().iter().any(|(set, _)| set.eq_ignore_ascii_case(name));
    let headers_to_remove = prepared.remove().iter().filter(|name| !is_set(name)).map(ToString::to_string).collect();
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
    let ok = OkHttpResponse {
        headers,
        headers_to_remove,
        response_headers_to_add: response_headers.iter().map(|(name, value)| overwrite(name, value)).collect(),
        query_parameters_to_remove: prepared.remove_query().map(str::to_owned).into_iter().collect(),
        ..OkHttpResponse::default()
    };
    message(0, grant.reason(), HttpResponse::OkResponse(ok), about)
}

/// A refusal that is none, because the config is a trial's. The metadata say what would have been.
pub fn waive(waiver: &Waiver<'_>, reason: Reason, about: &About<'_>) -> Bytes {
    let ok = OkHttpResponse {
        headers: waiver.set().iter().map(|(name, value)| overwrite(name, value.as_ref())).collect(),
        headers_to_remove: waiver.remove().iter().map(ToString::to_string).collect(),
        ..OkHttpResponse::default()
    };
    message(0, reason, HttpResponse::OkResponse(ok), about)
}

/// An allow whose answer is known here (`GET /stats`): Envoy forwards nothing and hands `body` to the client with 200.
pub fn answer(grant: &Grant<'_>, body: String, about: &About<'_>) -> Bytes {
    let mut headers = rate_headers(grant.admission(), about.now);
    headers.push(("content-type", String::from("application/json")));
    headers.push(("cache-control", String::from("no-store")));
    let answered = denied(200, &headers, body);
    message(ANSWERED_HERE, grant.reason(), HttpResponse::DeniedResponse(answered), about)
}

/// A denial; Envoy's failure mode never applies to it.
pub fn deny(denial: &Denial, about: &About<'_>) -> Bytes {
    let reason = refusing(denial.reason, Kind::Denial);
    let refused = refuse(reason, &denial.particulars, about);
    message(i32::from(reason.row().grpc), reason, HttpResponse::DeniedResponse(refused), about)
}

/// A fault told as a denial, for configs that want Envoy's failure mode never to apply.
pub fn deny_fault(fault: &Fault, about: &About<'_>) -> Bytes {
    let reason = refusing(fault.reason, Kind::Fault);
    let refused = refuse(reason, &Particulars::None, about);
    message(i32::from(reason.row().grpc), reason, HttpResponse::DeniedResponse(refused), about)
}

/// A fault told as `error_response`: Envoy 1.37 and newer applies its failure mode, older ones deny.
pub fn error_response(fault: &Fault, about: &About<'_>) -> Bytes {
    let reason = refusing(fault.reason, Kind::Fault);
    let refused = refuse(reason, &Particulars::None, about);
    message(i32::from(reason.row().grpc), reason, HttpResponse::ErrorResponse(refused), about)
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

fn refuse(reason: Reason, particulars: &Particulars, about: &About<'_>) -> DeniedHttpResponse {
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
            denied(row.http, &headers, row.text.to_owned())
        }
        Client::Http => {
            let Body { content_type, text } = write_body(about.route.map_or(about.errors, |route| route.errors), &refusal);
            headers.push(("content-type", content_type.to_owned()));
            denied(row.http, &headers, text)
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

fn denied(status: u16, headers: &[(&'static str, String)], body: String) -> DeniedHttpResponse {
    DeniedHttpResponse {
        status: Some(HttpStatus { code: i32::from(status) }),
        headers: headers.iter().map(|(name, value)| overwrite(name, value)).collect(),
        body,
    }
}

/// The only place that builds a `CheckResponse`.
fn message(code: i32, reason: Reason, response: HttpResponse, about: &About<'_>) -> Bytes {
    let row = reason.row();
    let message = CheckResponse {
        status: Some(Status { code, message: row.label.to_owned(), details: Vec::new() }),
        dynamic_metadata: Some(metadata(row, about)),
        http_response: Some(response),
    };
    message.encode_to_vec().into()
}

/// For the access log. `ext_authz_duration` is Envoy's own name and stays unused.
fn metadata(row: Row, about: &About<'_>) -> Struct {
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
    let text = |value: &str| Value { kind: Some(ValueKind::StringValue(value.to_owned())) };
    Struct { fields: known.into_iter().filter_map(|(name, value)| Some((name.to_owned(), text(value?)))).collect() }
}

/// Released Envoys read either `append` or `append_action`, whose zero values mean opposite things: both are always set. Only `value`
/// is read; `raw_value` would inject an empty header.
#[expect(deprecated, reason = "most Envoys in use read nothing but `append`")]
fn overwrite(name: &str, value: &str) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue { key: name.to_owned(), value: value.to_owned(), raw_value: Vec::new() }),
        append: Some(BoolValue { value: false }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd as i32,
        keep_empty_value: false,
    }
}

/// Visible ASCII and spaces; whatever else becomes a question mark.
fn header_text(text: &str) -> String {
    text.chars().map(|character| if character == ' ' || character.is_ascii_graphic() { character } else { '?' }).collect()
}

/// The same, for use between quotes.
fn quotable(text: &str) -> String {
    header_text(text).replace(['"', '\\'], "?")
}
