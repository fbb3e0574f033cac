//! Everything about signed tokens: the strict wrapper round `jsonwebtoken`, key sets, our own key ring.
//!
//! - A token is read by our own strict reader first; `jsonwebtoken` is asked for one thing only, whether a signature is good.
//! - Which algorithm verifies comes from the issuer's entry and the key. The token's `alg` can only agree or be refused.
//! - Nothing here fetches anything: key sets from URLs are installed by `tasks/refresh_jwks.rs`.
//! - What is cached is the identity that a token proves, never a verdict about a request.
//!
//! May use `model`, the `store` contract and `secrets` (for the ring). Must not mention `check`, `grpc`, `issuer` or `config`.

pub mod algorithm;
pub mod json;

pub mod compact;
pub mod keys;

mod vet;

pub mod claims;
pub mod id_token;
pub mod lookups;
pub mod tokens;

pub mod assertions;
pub mod ring;
pub mod signer;

mod write;

#[cfg(test)]
pub mod battery;

pub use crate::jose::assertions::Assertions;
pub use crate::jose::compact::verify_signature;
pub use crate::jose::keys::KeySet;
pub use crate::jose::keys::KeySetError;
pub use crate::jose::tokens::Tokens;

use crate::jose::ring::RingError;
use crate::secrets::Peppers;

/// Whether the ring that lies under this id opens with these peppers; one that this release does not know is not judged.
///
/// # Errors
/// As whoever uses it would meet them.
pub fn check_ring(id: &str, wrapped: &[u8], peppers: &Peppers) -> Result<(), RingError> {
    let shelf = [assertions::SHELF, signer::SHELF].into_iter().find(|shelf| shelf.id == id);
    shelf.map_or(Ok(()), |shelf| shelf.open(wrapped, peppers).map(drop))
}

/// Why a token was refused. The texts are for the log; the client reads one and the same for all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is not a compact JWS with a strict JSON header and payload.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    #[error("no issuer of the rules has this `iss`")]
    UntrustedIssuer,
    /// No key that may verify it does.
    #[error("signature: {0}")]
    BadSignature(&'static str),
    #[error("claims: {0}")]
    BadClaims(&'static str),
    #[error("`exp` has passed")]
    Expired,
    #[error("`nbf` or `iat` lies ahead")]
    NotYetValid,
    /// The issuer's keys come from a URL and were never fetched: no answer, rather than a no.
    #[error("the keys of {0} were never fetched")]
    KeysMissing(std::sync::Arc<str>),
}
