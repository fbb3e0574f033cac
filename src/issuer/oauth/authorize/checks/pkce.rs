//! PKCE (RFC 7636), always: for confidential clients too, and only S256.

use crate::issuer::oauth::authorize::checks::Inquiry;
use crate::issuer::oauth::authorize::refusal::ErrorCode;
use crate::issuer::oauth::authorize::refusal::Refusal;

/// A SHA-256 in base64url without padding.
const CHALLENGE_CHARACTERS: usize = 43;

pub(super) fn present(inquiry: &Inquiry<'_>) -> Result<(), Refusal> {
    match inquiry.asked.value("code_challenge") {
        Some(_) => Ok(()),
        None => Err(Refusal::new(ErrorCode::InvalidRequest, "code_challenge is missing; every client must use PKCE")),
    }
}

/// An absent method would mean `plain` (section 4.3), which shows the verifier to whoever sees the request.
pub(super) fn method(inquiry: &Inquiry<'_>) -> Result<(), Refusal> {
    match inquiry.asked.value("code_challenge_method").as_deref() {
        Some("S256") => Ok(()),
        Some(_) | None => Err(Refusal::new(ErrorCode::InvalidRequest, "code_challenge_method must be S256")),
    }
}

pub(super) fn form(inquiry: &Inquiry<'_>) -> Result<(), Refusal> {
    let is_digest = |text: &str| {
        text.len() == CHALLENGE_CHARACTERS && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    match inquiry.asked.value("code_challenge") {
        Some(text) if !is_digest(&text) => {
            Err(Refusal::new(ErrorCode::InvalidRequest, "code_challenge must be a SHA-256 in base64url: 43 characters"))
        }
        Some(_) | None => Ok(()),
    }
}
