//! What the OAuth endpoints answer: RFC 6749 section 5, RFC 7009 section 2.2, RFC 7591 section 3.2.

use std::borrow::Cow;

use axum::Json;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Serialize;

use crate::jose::signer::SignError;
use crate::secrets::SecretError;
use crate::store::StoreError;

/// What went wrong, as clients read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::issuer) enum Fault {
    InvalidRequest,
    /// As the last, for a body above the limit.
    TooLarge,
    InvalidClient,
    InvalidGrant,
    UnauthorizedClient,
    UnsupportedGrantType,
    InvalidScope,
    /// RFC 8707 section 2.
    InvalidTarget,
    /// RFC 6750 section 3.1: a bearer token that opens nothing.
    InvalidToken,
    InvalidRedirectUri,
    InvalidClientMetadata,
    /// Too many failed guesses.
    TooMany,
    /// Our doing, and worth another try.
    Unavailable,
}

impl Fault {
    pub(in crate::issuer) const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest | Self::TooLarge => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidTarget => "invalid_target",
            Self::InvalidToken => "invalid_token",
            Self::InvalidRedirectUri => "invalid_redirect_uri",
            Self::InvalidClientMetadata => "invalid_client_metadata",
            Self::TooMany | Self::Unavailable => "temporarily_unavailable",
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::InvalidRequest
            | Self::InvalidGrant
            | Self::UnauthorizedClient
            | Self::UnsupportedGrantType
            | Self::InvalidScope
            | Self::InvalidTarget
            | Self::InvalidRedirectUri
            | Self::InvalidClientMetadata => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::InvalidClient | Self::InvalidToken => StatusCode::UNAUTHORIZED,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// One refusal. Its text never repeats what was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::issuer) struct Refusal {
    pub(in crate::issuer) fault: Fault,
    /// Visible ASCII without quote or backslash (RFC 6749 section 5.2).
    pub(in crate::issuer) description: Cow<'static, str>,
    pub(in crate::issuer) retry_after_seconds: Option<u32>,
}

#[derive(Serialize)]
struct RefusalBody<'a> {
    error: &'static str,
    error_description: &'a str,
}

impl Refusal {
    pub(in crate::issuer) fn new(fault: Fault, description: impl Into<Cow<'static, str>>) -> Self {
        Self { fault, description: description.into(), retry_after_seconds: None }
    }

    pub(in crate::issuer) fn request(description: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Fault::InvalidRequest, description)
    }

    /// One text for whatever is wrong with a code or a refresh token: who holds none of his own learns nothing.
    pub(in crate::issuer) fn grant() -> Self {
        Self::new(Fault::InvalidGrant, "the grant is invalid, expired, used, revoked or another client's")
    }

    /// One text for every client that did not prove itself, the unknown one included.
    pub(in crate::issuer) fn client() -> Self {
        Self::new(Fault::InvalidClient, "the client is unknown or did not prove itself in the way it is registered with")
    }

    pub(in crate::issuer) fn too_many(retry_after_seconds: u32) -> Self {
        Self {
            fault: Fault::TooMany,
            description: Cow::Borrowed("too many attempts failed; wait and try again"),
            retry_after_seconds: Some(retry_after_seconds),
        }
    }

    pub(in crate::issuer) fn unavailable(description: impl Into<Cow<'static, str>>) -> Self {
        Self { fault: Fault::Unavailable, description: description.into(), retry_after_seconds: Some(1) }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = RefusalBody { error: self.fault.as_str(), error_description: &self.description };
        let mut response = unstored(self.fault.status(), &body);
        // For the log line.
        response.extensions_mut().insert(self.fault);
        let headers = response.headers_mut();
        match self.fault {
            Fault::InvalidClient => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"tollgate\", charset=\"UTF-8\""));
            }
            Fault::InvalidToken => {
                let challenge = HeaderValue::from_static("Bearer realm=\"tollgate\", error=\"invalid_token\"");
                headers.insert(header::WWW_AUTHENTICATE, challenge);
            }
            Fault::InvalidRequest
            | Fault::TooLarge
            | Fault::InvalidGrant
            | Fault::UnauthorizedClient
            | Fault::UnsupportedGrantType
            | Fault::InvalidScope
            | Fault::InvalidTarget
            | Fault::InvalidRedirectUri
            | Fault::InvalidClientMetadata
            | Fault::TooMany
            | Fault::Unavailable => {}
        }
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// A JSON answer that nobody may keep.
pub(in crate::issuer) fn unstored(status: StatusCode, body: &impl Serialize) -> Response {
    let mut response = (status, Json(body)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the oauth endpoints got no answer from the store");
        Self::unavailable("the store cannot be used now; try again")
    }
}

impl From<SecretError> for Refusal {
    fn from(error: SecretError) -> Self {
        tracing::error!(%error, "a secret could not be made");
        Self::unavailable("a secret could not be made; try again")
    }
}

impl From<SignError> for Refusal {
    fn from(error: SignError) -> Self {
        tracing::error!(%error, "an access token could not be signed");
        Self::unavailable("the token cannot be signed now; try again")
    }
}
