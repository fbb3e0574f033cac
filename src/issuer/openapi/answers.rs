//! The refusals that many routes share, so that no route forgets to list one.

use std::collections::BTreeMap;

use serde_json::json;
use utoipa::IntoResponses;
use utoipa::openapi::Content;
use utoipa::openapi::Ref;
use utoipa::openapi::RefOr;
use utoipa::openapi::Response;
use utoipa::openapi::ResponseBuilder;
use utoipa::openapi::header::HeaderBuilder;

/// Of every route that only somebody known may ask.
#[derive(Clone, Copy, Debug)]
pub struct Judged;

/// Of a route that limits what it is asked, and asks a store.
#[derive(Clone, Copy, Debug)]
pub struct Limited;

/// Of a route with a body.
#[derive(Clone, Copy, Debug)]
pub struct WithBody;

/// What is named is not there, or lies outside the caller's reach.
#[derive(Clone, Copy, Debug)]
pub struct Missing;

/// It cannot be done to what is there.
#[derive(Clone, Copy, Debug)]
pub struct Conflicting;

/// Of a route that heeds `if-match`.
#[derive(Clone, Copy, Debug)]
pub struct Conditional;

/// Of the OAuth endpoints that clients ask.
#[derive(Clone, Copy, Debug)]
pub struct Asked;

type Answers = BTreeMap<String, RefOr<Response>>;

impl IntoResponses for Judged {
    fn responses() -> Answers {
        let mut answers = Limited::responses();
        answers.extend([
            refusal("401", "UNAUTHENTICATED", "No credential, or none that is good."),
            refusal("403", "FORBIDDEN", "The caller may not do this at all: a right is missing, or would be exceeded."),
        ]);
        answers
    }
}

impl IntoResponses for Limited {
    fn responses() -> Answers {
        [
            refusal("400", "INVALID_REQUEST", "Something is not as expected; `details` names the field and says what is."),
            refusal("429", "TOO_MANY_REQUESTS", "Too many failed attempts; `retry-after` says when to try again."),
            refusal("503", "UNAVAILABLE", "The request cannot be judged or done now; `retry-after` says when to try again."),
        ]
        .into()
    }
}

impl IntoResponses for WithBody {
    fn responses() -> Answers {
        [
            refusal("413", "PAYLOAD_TOO_LARGE", "The body has more than 64 KiB."),
            refusal("415", "UNSUPPORTED_MEDIA_TYPE", "The body is not of the type that is expected here."),
        ]
        .into()
    }
}

impl IntoResponses for Missing {
    fn responses() -> Answers {
        [refusal("404", "NOT_FOUND", "There is no such thing within the caller's reach.")].into()
    }
}

impl IntoResponses for Conflicting {
    fn responses() -> Answers {
        [refusal("409", "CONFLICT", "It cannot be done to what is there now, or somebody changed that at the same moment.")].into()
    }
}

impl IntoResponses for Conditional {
    fn responses() -> Answers {
        [refusal("412", "PRECONDITION_FAILED", "The record has another revision than `if-match` names.")].into()
    }
}

impl IntoResponses for Asked {
    fn responses() -> Answers {
        let refusal = |status: &str, description: &str| {
            let content = Content::new(Some(Ref::from_schema_name("OauthRefusal")));
            let response = ResponseBuilder::new().description(description).content("application/json", content);
            (status.to_owned(), response.build().into())
        };
        [
            refusal("400", "The request, the grant, the scope or the target is refused."),
            refusal("401", "The client is unknown or did not prove itself."),
            refusal("404", "Nothing is issued here."),
            refusal("413", "The body is too large."),
            refusal("429", "Too many failed attempts."),
            refusal("503", "Not now."),
        ]
        .into()
    }
}

fn refusal(status: &str, code: &str, description: &str) -> (String, RefOr<Response>) {
    let example = json!({"error": {"code": code, "message": description, "request_id": "req_5dQxmJ3kP0aV7tYcW2bN8e"}});
    let mut content = Content::new(Some(Ref::from_schema_name("Refusal")));
    content.example = Some(example);
    let mut response = ResponseBuilder::new().description(description).content("application/json", content);
    let header = match status {
        "401" => Some("www-authenticate"),
        "429" | "503" => Some("retry-after"),
        _ => None,
    };
    if let Some(name) = header {
        response = response.header(name, HeaderBuilder::new().build());
    }
    (status.to_owned(), response.build().into())
}
