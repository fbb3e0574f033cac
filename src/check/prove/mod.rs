//! What the credential proves by itself, before anything is looked up: a checksum, a signature, a principal's domain.

pub mod key;
pub mod principal;
pub mod token;

use std::sync::Arc;

use crate::check::decide::Denial;
use crate::check::decide::Fault;
use crate::check::reasons::Reason;
use crate::check::take_credential::Credential;
use crate::check::take_credential::Shown;
use crate::jose::Tokens;
use crate::model::claims::VerifiedClaims;
use crate::model::key::OwnKey;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;

/// What the look-up may go by.
#[derive(Clone, Debug)]
pub enum Proof<'m> {
    Nobody,
    /// Its checksum holds; its secret is yet to be compared with the record.
    OwnKey(OwnKey<'m>),
    /// Only an imported record can say whether it is one.
    ForeignKey(&'m str),
    /// Signature, issuer, audience and lifetime hold.
    Token(Arc<VerifiedClaims>),
    /// A configured principal of the mesh's trust domain.
    Principal(&'m str),
}

/// Why nothing was proven.
#[derive(Clone, Debug, PartialEq)]
pub enum Unproven {
    Denied(Denial),
    /// The issuer's keys were never fetched: no answer.
    KeysMissing(Fault),
}

/// Proves what can be proven without a look-up.
///
/// # Errors
/// [`Unproven`].
pub fn prove<'m>(shown: &Shown<'m>, rules: &Rules, tokens: &Tokens, now: Timestamp) -> Result<Proof<'m>, Unproven> {
    match &shown.credential {
        Credential::None => Ok(Proof::Nobody),
        Credential::Own(key) => Ok(key::prove_own(*key)),
        Credential::Foreign(text) => key::prove_foreign(text, rules.imported_keys),
        Credential::Token(token) => token::prove(token, rules, tokens, now),
        // Nothing here issues opaque tokens, so none can be one of ours.
        Credential::Opaque(_) => Err(Denial::new(Reason::UnknownKey).because("an opaque credential, and none is issued here").into()),
        Credential::Principal(principal) => principal::prove(principal, rules.mesh.as_ref()),
    }
}

impl From<Denial> for Unproven {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}
