//! The request's form, and whether this client may make it.

use crate::issuer::oauth::authorize::checks::Inquiry;
use crate::issuer::oauth::authorize::refusal::ErrorCode;
use crate::issuer::oauth::authorize::refusal::Refusal;
use crate::model::client::GrantType;

/// No parameter twice: of two values neither first nor last is the right one (RFC 6749 section 3.1).
pub(super) fn repeats(inquiry: &Inquiry<'_>) -> Result<(), Refusal> {
    match inquiry.asked.first_repeated() {
        None => Ok(()),
        Some(_) => Err(Refusal::new(ErrorCode::InvalidRequest, "a parameter came more than once")),
    }
}

/// Codes, and nothing that would carry a token through a browser.
pub(super) fn response_type(inquiry: &Inquiry<'_>) -> Result<(), Refusal> {
    match inquiry.asked.value("response_type").as_deref() {
        Some("code") => Ok(()),
        Some(_) => Err(Refusal::new(ErrorCode::UnsupportedResponseType, "response_type must be code")),
        None => Err(Refusal::new(ErrorCode::InvalidRequest, "response_type is missing; it must be code")),
    }
}

pub(super) fn response_mode(inquiry: &Inquiry<'_>) -> Result<(), Refusal> {
    match inquiry.asked.value("response_mode").as_deref() {
        Some("query") | None => Ok(()),
        Some(_) => Err(Refusal::new(ErrorCode::InvalidRequest, "response_mode must be query or absent")),
    }
}

pub(super) fn grant_type(inquiry: &Inquiry<'_>) -> Result<(), Refusal> {
    if inquiry.client.is_some_and(|client| client.grant_types.contains(&GrantType::AuthorizationCode)) {
        return Ok(());
    }
    Err(Refusal::new(ErrorCode::UnauthorizedClient, "this client is not registered for the grant type authorization_code"))
}
