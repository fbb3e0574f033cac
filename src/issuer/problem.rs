//! Refusals and failures of the issuer, in the form that its listener, or one route of it, speaks.

use std::borrow::Cow;

use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Serialize;

use crate::check::decide::Exit;
use crate::check::decide::Particulars;
use crate::check::reasons::Challenge;
use crate::model::refusal::Refusal;
use crate::model::refusal::write_body;
use crate::model::route::ErrorFormat;
use crate::secrets::SecretError;
use crate::store::StoreError;

/// What went wrong, as machines read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    InvalidRequest,
    /// Nobody is recognised.
    Unauthenticated,
    /// A credential came, and is worth nothing.
    InvalidCredential,
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
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::InvalidCredential => "INVALID_CREDENTIAL",
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
            | Self::Unauthenticated
            | Self::InvalidCredential
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

    /// What an answer of this status says where it has no code of its own; none when it is no refusal.
    pub(in crate::issuer) const fn of(status: u16) -> Option<Self> {
        match status {
            ..=399 => None,
            401 => Some(Self::Unauthenticated),
            403 => Some(Self::Forbidden),
            404 => Some(Self::NotFound),
            405 => Some(Self::MethodNotAllowed),
            409 => Some(Self::Conflict),
            412 => Some(Self::PreconditionFailed),
            413 => Some(Self::PayloadTooLarge),
            415 => Some(Self::UnsupportedMediaType),
            429 => Some(Self::TooManyRequests),
            500.. => Some(Self::Unavailable),
            _ => Some(Self::InvalidRequest),
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::InvalidRequest => StatusCode::BAD_REQUEST,
            Self::Unauthenticated | Self::InvalidCredential => StatusCode::UNAUTHORIZED,
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
    pub hint: Hint,
}

/// What a refusal's headers say beside its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Hint {
    #[default]
    None,
    /// 401 without a credential: a bare challenge (RFC 6750 section 3).
    Challenge,
    /// The credential that came is worth nothing.
    InvalidToken,
    /// This scope would be needed.
    InsufficientScope(Cow<'static, str>),
    /// Whole seconds until it is worth another try.
    RetryAfter(u32),
    /// Where what was asked for lies already.
    Made(String),
}

/// The field that is wrong, and what is expected of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Details {
    pub field: String,
    pub issue: Cow<'static, str>,
}

impl Problem {
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), details: None, hint: Hint::None }
    }

    /// A field that is not as expected.
    pub fn field(field: impl Into<String>, issue: impl Into<Cow<'static, str>>) -> Self {
        let details = Some(Details { field: field.into(), issue: issue.into() });
        Self { code: Code::InvalidRequest, message: Cow::Borrowed("the request is invalid"), details, hint: Hint::None }
    }

    /// Nobody is recognised: no credential came.
    pub fn unauthenticated() -> Self {
        Self {
            hint: Hint::Challenge,
            ..Self::new(Code::Unauthenticated, "this needs a credential: an API key, an access token or a session")
        }
    }

    /// A right is missing.
    pub fn lacks_scope(scope: &'static str) -> Self {
        Self { hint: Hint::InsufficientScope(Cow::Borrowed(scope)), ..Self::new(Code::Forbidden, format!("this needs the scope {scope}")) }
    }

    /// The same, worth another try after so many seconds.
    #[must_use]
    pub fn after(self, seconds: u32) -> Self {
        Self { hint: Hint::RetryAfter(seconds.max(1)), ..self }
    }

    /// Somebody else changed the record in between.
    pub fn changed_meanwhile() -> Self {
        Self::new(Code::Conflict, "the record was changed at the same time; read it again and repeat the change")
    }

    pub(in crate::issuer) fn render(&self, format: ErrorFormat, request_id: &str) -> Response {
        let body = write_body(
            format,
            &Refusal {
                status: self.code.status().as_u16(),
                code: self.code.as_str(),
                message: &self.message,
                details: self.details.as_ref().map(|details| (Cow::Borrowed(&*details.field), Cow::Borrowed(&*details.issue))),
                violated: Vec::new(),
                request_id,
            },
        );
        let mut response = (self.code.status(), body.text).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(body.content_type));
        if let Some((name, value)) = self.hint.header(self.code) {
            headers.insert(name, value);
        }
        response
    }
}

impl Hint {
    fn header(&self, code: Code) -> Option<(header::HeaderName, HeaderValue)> {
        const INVALID: &str = "Bearer realm=\"tollgate\", error=\"invalid_token\", error_description=\"The credential is not valid\"";
        match self {
            Self::Challenge => Some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tollgate\""))),
            Self::InvalidToken => Some((header::WWW_AUTHENTICATE, HeaderValue::from_static(INVALID))),
            Self::InsufficientScope(scope) => {
                let value = format!("Bearer realm=\"tollgate\", error=\"insufficient_scope\", scope=\"{scope}\"");
                HeaderValue::from_str(&value).ok().map(|value| (header::WWW_AUTHENTICATE, value))
            }
            Self::Made(place) => HeaderValue::from_str(place).ok().map(|value| (header::LOCATION, value)),
            Self::RetryAfter(seconds) => Some((header::RETRY_AFTER, HeaderValue::from(*seconds))),
            Self::None if code == Code::Unavailable => Some((header::RETRY_AFTER, HeaderValue::from_static("1"))),
            Self::None => None,
        }
    }
}

/// A layer under which every refusal speaks `format`, whatever the listener speaks:
/// `axum::middleware::from_fn_with_state(ErrorFormat::Envelope, problem::speak)`.
pub async fn speak(State(format): State<ErrorFormat>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if response.extensions().get::<Problem>().is_some() {
        response.extensions_mut().get_or_insert_with(|| format);
    }
    response
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

impl From<Exit> for Problem {
    /// The rooms' verdict about who calls, as this door says it. What they know for the log stays in the log.
    fn from(exit: Exit) -> Self {
        let denial = match exit {
            Exit::Denied(denial) => denial,
            Exit::Failed(fault) => {
                tracing::error!(reason = fault.reason.row().label, why = &*fault.internal, "a caller could not be judged");
                return Self::new(Code::Unavailable, "the request cannot be judged now");
            }
        };
        let row = denial.reason.row();
        tracing::debug!(reason = row.label, why = denial.internal.as_deref(), "a caller was refused");
        let code = match row.challenge {
            Challenge::InvalidToken => Code::InvalidCredential,
            Challenge::None | Challenge::Bare | Challenge::InvalidRequest | Challenge::InsufficientScope => {
                Code::of(row.http).unwrap_or(Code::InvalidRequest)
            }
        };
        let problem = Self::new(code, row.text);
        match (row.challenge, denial.particulars) {
            (Challenge::InvalidToken, _) => Self { hint: Hint::InvalidToken, ..problem },
            (Challenge::Bare, _) => Self { hint: Hint::Challenge, ..problem },
            (_, Particulars::RetryAfter(seconds)) => problem.after(seconds),
            (Challenge::None | Challenge::InvalidRequest | Challenge::InsufficientScope, _) => problem,
        }
    }
}
