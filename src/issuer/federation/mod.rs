//! Sign-in elsewhere: OpenID Connect, in which we are the client.
//!
//! - What comes back counts only with everything that was sent out: the state is a ticket of ours, good once and in one browser; nonce
//!   and PKCE verifier are derived from it by the pepper, so that they are fresh each time and lie nowhere.
//! - An account is opened by the pair (issuer, subject) and by nothing else. An e-mail address links nothing.
//! - Nothing that a provider sends is followed, kept or shown: its tokens are judged and dropped, its errors go into the log.
//!
//! Must not mention `config` or `tasks`; the providers' documents are fetched here, where somebody waits for them, and never by a check.

mod answer;
mod arrive;
mod ask;
mod browser;
mod callback;
mod exchange;
mod fetch;
mod finish;
mod judge;
mod kept;
mod link;
mod start;
mod upstream;

use axum::Router;
use axum::routing::get;
use axum::routing::post;

use crate::issuer::IssuerState;

pub use crate::issuer::federation::upstream::Federation;

/// `/sign-in/{provider}` and its callback, the page on which a founder says its phone number, and linking.
pub(in crate::issuer) fn router() -> Router<IssuerState> {
    Router::new()
        .route("/sign-in/{provider}", get(start::sign_in))
        .route("/sign-in/{provider}/callback", get(callback::callback))
        .route(finish::PATH, get(finish::show).post(finish::finish))
        .route("/account/link/{provider}", post(link::link))
}

/// The characters of RFC 6749 section 5.2, within reason: fit for a log.
fn is_error_code(code: &str) -> bool {
    (1..=64).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

#[cfg(test)]
mod tests;
