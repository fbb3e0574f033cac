//! The body of a refusal in the four forms that a route or a listener may ask for. Both doors write theirs by it.

use std::borrow::Cow;

use serde::Serialize;

use crate::model::route::ErrorFormat;

/// The problem type that the rate-limit header draft registers.
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";
/// Seed 003's code of a refused API call, in the body alone.
const REFUSED_CALL: u16 = 422;

/// What a client may know of a refusal.
#[derive(Clone, Debug)]
pub struct Refusal<'a> {
    pub status: u16,
    pub code: &'a str,
    pub message: &'a str,
    /// The field that is wrong, and what was expected of it.
    pub details: Option<(Cow<'a, str>, Cow<'a, str>)>,
    /// The limits that are used up.
    pub violated: Vec<&'a str>,
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
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details<'a>>,
    request_id: &'a str,
}

#[derive(Serialize)]
struct Details<'a> {
    field: &'a str,
    issue: &'a str,
}

impl<'a> Standard<'a> {
    fn of(refusal: &'a Refusal<'a>) -> Self {
        let Refusal { code, message, request_id, .. } = *refusal;
        let details = refusal.details.as_ref().map(|(field, issue)| Details { field, issue });
        Self { error: StandardError { code, message, details, request_id } }
    }
}

#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'a str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    code: &'a str,
    request_id: &'a str,
    #[serde(rename = "violated-policies", skip_serializing_if = "<[_]>::is_empty")]
    violated_policies: &'a [&'a str],
}

impl<'a> Problem<'a> {
    fn of(refusal: &'a Refusal<'a>) -> Self {
        let kind = if refusal.violated.is_empty() { "about:blank" } else { QUOTA_EXCEEDED };
        let detail = refusal.details.as_ref().map(|(field, issue)| format!("{field}: {issue}"));
        let Refusal { status, code, message, request_id, .. } = *refusal;
        Self { kind, title: message, status, detail, code, request_id, violated_policies: &refusal.violated }
    }
}

/// Seed 003's shape, member for member; the id of the request is in the header `x-request-id`.
#[derive(Serialize)]
struct Envelope<'a> {
    data: [(); 0],
    status: &'static str,
    code: u16,
    message: &'a str,
}

impl<'a> Envelope<'a> {
    fn of(refusal: &Refusal<'a>) -> Self {
        let code = if refusal.status >= 500 { refusal.status } else { REFUSED_CALL };
        Self { data: [], status: "failed", code, message: refusal.message }
    }
}

#[derive(Serialize)]
struct ResultBody<'a> {
    result: &'static str,
    error: &'a str,
    message: &'a str,
    request_id: &'a str,
}

impl<'a> ResultBody<'a> {
    fn of(refusal: &Refusal<'a>) -> Self {
        Self { result: "failed", error: refusal.code, message: refusal.message, request_id: refusal.request_id }
    }
}

fn json(content_type: &'static str, body: &impl Serialize) -> Body {
    // Strings and numbers alone: writing them cannot fail.
    Body { content_type, text: serde_json::to_string(body).unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_says_what_is_wrong() {
        let refusal = Refusal {
            status: 400,
            code: "INVALID_REQUEST",
            message: "the request is invalid",
            details: Some(("name".into(), "is required".into())),
            violated: Vec::new(),
            request_id: "req_1",
        };
        for (format, expected) in [
            (
                ErrorFormat::Standard,
                r#"{"error":{"code":"INVALID_REQUEST","message":"the request is invalid","details":{"field":"name","issue":"is required"},"request_id":"req_1"}}"#,
            ),
            (
                ErrorFormat::Problem,
                r#"{"type":"about:blank","title":"the request is invalid","status":400,"detail":"name: is required","code":"INVALID_REQUEST","request_id":"req_1"}"#,
            ),
            (ErrorFormat::Envelope, r#"{"data":[],"status":"failed","code":422,"message":"the request is invalid"}"#),
            (
                ErrorFormat::Result,
                r#"{"result":"failed","error":"INVALID_REQUEST","message":"the request is invalid","request_id":"req_1"}"#,
            ),
        ] {
            assert_eq!(write_body(format, &refusal).text, expected);
        }
    }
}
