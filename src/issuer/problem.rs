//! Refusals and failures of the resource API, in the one form of seed 002.

use std::borrow::Cow;

use axum::Json;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Serialize;

use crate::secrets::SecretError;
use crate::store::StoreError;

/// What went wrong, as machines read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    InvalidRequest,
    /// Nobody is recognised.
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    Conflict,
    PreconditionFailed,
    PayloadTooLarge,
    UnsupportedMediaType,
    TooManyRequests,
    /// The record is there and cannot be read.
    CorruptRecord,
    Unavailable,
}

impl Code {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "INVALID_REQUEST",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Forbidden => "FORBIDDEN",
            Self::NotFound => "NOT_FOUND",
            Self::MethodNotAllowed => "METHOD_NOT_ALLOWED",
            Self::Conflict => "CONFLICT",
            Self::PreconditionFailed => "PRECONDITION_FAILED",
            Self::PayloadTooLarge => "PAYLOAD_TOO_LARGE",
            Self::UnsupportedMediaType => "UNSUPPORTED_MEDIA_TYPE",
            Self::TooManyRequests => "TOO_MANY_REQUESTS",
            Self::CorruptRecord => "CORRUPT_RECORD",
            Self::Unavailable => "UNAVAILABLE",
        }
    }

    /// Whether it is our doing, and no refusal of what was asked.
    pub const fn is_failure(self) -> bool {
        match self {
            Self::CorruptRecord | Self::Unavailable => true,
            Self::InvalidRequest
            | Self::Unauthorized
            | Self::Forbidden
            | Self::TooManyRequests
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::Conflict
            | Self::PreconditionFailed
            | Self::PayloadTooLarge
            | Self::UnsupportedMediaType => false,
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::InvalidRequest => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict => StatusCode::CONFLICT,
            Self::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::CorruptRecord | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// One refusal or failure. Its texts never repeat what was sent: it may be a secret in the wrong place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub code: Code,
    pub message: Cow<'static, str>,
    pub details: Option<Details>,
}

/// The field that is wrong, and what is expected of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Details {
    pub field: String,
    pub issue: Cow<'static, str>,
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: Body<'a>,
}

#[derive(Serialize)]
struct Body<'a> {
    code: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a Details>,
    request_id: &'a str,
}

impl Problem {
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), details: None }
    }

    /// A field that is not as expected.
    pub fn field(field: impl Into<String>, issue: impl Into<Cow<'static, str>>) -> Self {
        let details = Some(Details { field: field.into(), issue: issue.into() });
        Self { code: Code::InvalidRequest, message: Cow::Borrowed("the request is invalid"), details }
    }

    /// Somebody else changed the record in between.
    pub fn changed_meanwhile() -> Self {
        Self::new(Code::Conflict, "the record was changed at the same time; read it again and repeat the change")
    }

    pub(in crate::issuer) fn render(&self, request_id: &str) -> Response {
        let body = Body { code: self.code.as_str(), message: &self.message, details: self.details.as_ref(), request_id };
        let mut response = (self.code.status(), Json(Envelope { error: body })).into_response();
        if self.code == Code::Unavailable {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl IntoResponse for Problem {
    /// The body comes with the request's id, in `frame`.
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the resource api got no answer from the store");
        match error {
            // The reason names servers and is the operator's business alone: the log has it.
            StoreError::Unavailable(_) => Self::new(
                Code::Unavailable,
                "the store cannot be used now; nothing was changed as far as is known; the log and `tollgate store check` say why",
            ),
            StoreError::Corrupt { key, .. } => Self::new(Code::CorruptRecord, format!("the record {key} cannot be read; the log says why")),
        }
    }
}

impl From<SecretError> for Problem {
    fn from(error: SecretError) -> Self {
        tracing::error!(%error, "a secret could not be made");
        Self::new(Code::Unavailable, "a secret could not be made")
    }
}
