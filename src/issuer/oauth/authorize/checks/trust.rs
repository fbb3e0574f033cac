//! Who asks, and where an answer may go.

use crate::issuer::oauth::authorize::checks::Inquiry;
use crate::issuer::oauth::authorize::redirect::is_registered;
use crate::issuer::oauth::authorize::refusal::ErrorCode;
use crate::issuer::oauth::authorize::refusal::Refusal;
use crate::model::client::ClientState;

/// The client is one of ours and in use.
pub(super) fn client(inquiry: &Inquiry<'_>) -> Result<(), Refusal> {
    let is_known = inquiry.client.is_some_and(|client| client.state == ClientState::Active);
    if is_known && !inquiry.asked.is_repeated("client_id") {
        return Ok(());
    }
    Err(Refusal::new(ErrorCode::InvalidRequest, "The application that sent you here is not known."))
}

/// The redirect URI is registered; it may be left out where there is only one (RFC 6749 section 3.1.2.3).
pub(super) fn redirect_uri(inquiry: &Inquiry<'_>) -> Result<(), Refusal> {
    let is_right = match (inquiry.asked.value("redirect_uri"), inquiry.client) {
        (Some(uri), Some(client)) => is_registered(client, &uri),
        (None, Some(client)) => client.redirect_uris.len() == 1,
        (Some(_) | None, None) => false,
    };
    if is_right && !inquiry.asked.is_repeated("redirect_uri") {
        return Ok(());
    }
    let description = match inquiry.asked.value("redirect_uri") {
        Some(_) => "This address to come back to is not registered for this application.",
        None => "The application that sent you here did not say to which of its addresses you are to come back.",
    };
    Err(Refusal::new(ErrorCode::InvalidRequest, description))
}
