//! The body of a refusal in the four forms that a route may ask for.

use std::borrow::Cow;

use serde::Serialize;

use crate::check::decide::Particulars;
use crate::check::reasons::Row;
use crate::model::request::Method;
use crate::model::route::ErrorFormat;

/// The problem type that the rate-limit header draft registers.
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";
/// Seed 003's code of a refused API call, in the body alone.
const REFUSED_CALL: u16 = 422;

/// What a client may know of a refusal.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    pub row: Row,
    pub particulars: &'a Particulars,
    pub request_id: &'a str,
}

/// A body and its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    pub content_type: &'static str,
    pub text: String,
}

/// The refusal in the form asked for.
pub fn write_body(format: ErrorFormat, refusal: &Refusal<'_>) -> Body {
    match format {
        ErrorFormat::Standard => json("application/json", &Standard::of(refusal)),
        ErrorFormat::Problem => json("application/problem+json", &Problem::of(refusal)),
        ErrorFormat::Envelope => json("application/json", &Envelope::of(refusal)),
        ErrorFormat::Result => json("application/json", &ResultBody::of(refusal)),
    }
}

#[derive(Serialize)]
struct Standard<'a> {
    error: StandardError<'a>,
}

#[derive(Serialize)]
struct StandardError<'a> {
    code: &'static str,
    message: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details<'a>>,
    request_id: &'a str,
}

#[derive(Serialize)]
struct Details<'a> {
    field: &'static str,
    issue: Cow<'a, str>,
}

impl<'a> Standard<'a> {
    fn of(refusal: &Refusal<'a>) -> Self {
        let Row { code, text, .. } = refusal.row;
        Self { error: StandardError { code, message: text, details: details(refusal.particulars), request_id: refusal.request_id } }
    }
}

#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Cow<'a, str>>,
    code: &'static str,
    request_id: &'a str,
    #[serde(rename = "violated-policies", skip_serializing_if = "Vec::is_empty")]
    violated_policies: Vec<&'a str>,
}

impl<'a> Problem<'a> {
    fn of(refusal: &Refusal<'a>) -> Self {
        let violated_policies = violated(refusal.particulars);
        let kind = if violated_policies.is_empty() { "about:blank" } else { QUOTA_EXCEEDED };
        let detail = details(refusal.particulars).map(|details| Cow::Owned(format!("{}: {}", details.field, details.issue)));
        let Row { code, text, http, .. } = refusal.row;
        Self { kind, title: text, status: http, detail, code, request_id: refusal.request_id, violated_policies }
    }
}

/// Seed 003's shape, member for member; the id of the request is in the header `x-request-id`.
#[derive(Serialize)]
struct Envelope {
    data: [(); 0],
    status: &'static str,
    code: u16,
    message: &'static str,
}

impl Envelope {
    fn of(refusal: &Refusal<'_>) -> Self {
        let code = if refusal.row.http >= 500 { refusal.row.http } else { REFUSED_CALL };
        Self { data: [], status: "failed", code, message: refusal.row.text }
    }
}

#[derive(Serialize)]
struct ResultBody<'a> {
    result: &'static str,
    error: &'static str,
    message: &'static str,
    request_id: &'a str,
}

impl<'a> ResultBody<'a> {
    fn of(refusal: &Refusal<'a>) -> Self {
        Self { result: "failed", error: refusal.row.code, message: refusal.row.text, request_id: refusal.request_id }
    }
}

fn details(particulars: &Particulars) -> Option<Details<'_>> {
    let (field, issue) = match particulars {
        Particulars::None | Particulars::Link(_) | Particulars::RetryAfter(_) | Particulars::Limits(_) => return None,
        Particulars::Field { field, issue } => (*field, Cow::Borrowed(&**issue)),
        Particulars::Methods(methods) => {
            let methods: Vec<&str> = methods.iter().copied().map(Method::as_str).collect();
            ("method", Cow::Owned(format!("allowed here: {}", methods.join(", "))))
        }
        Particulars::Scopes(scopes) => ("scope", Cow::Owned(format!("required here: {scopes}"))),
        Particulars::Versions(versions) => ("API-Version", Cow::Owned(format!("there are: {}", versions.join(", ")))),
    };
    Some(Details { field, issue })
}

/// The names of the buckets that are empty.
fn violated(particulars: &Particulars) -> Vec<&str> {
    match particulars {
        Particulars::Limits(admission) => {
            let empty = admission.levels().iter().filter(|bucket| bucket.level.remaining == 0);
            empty.map(|bucket| &*bucket.policy).collect()
        }
        Particulars::None
        | Particulars::Link(_)
        | Particulars::Field { .. }
        | Particulars::Methods(_)
        | Particulars::Scopes(_)
        | Particulars::Versions(_)
        | Particulars::RetryAfter(_) => Vec::new(),
    }
}

fn json(content_type: &'static str, body: &impl Serialize) -> Body {
    // Strings and numbers alone: writing them cannot fail.
    Body { content_type, text: serde_json::to_string(body).unwrap_or_default() }
}
