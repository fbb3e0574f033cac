//! Bearer JWTs: the strict wrapper's answer in the registry's words.

use std::borrow::Cow;

use crate::check::decide::Denial;
use crate::check::decide::Fault;
use crate::check::prove::Proof;
use crate::check::prove::Unproven;
use crate::check::reasons::Reason;
use crate::jose::TokenError;
use crate::jose::Tokens;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;

/// Verifies a token.
///
/// # Errors
/// A denial for whatever is wrong with it; [`Unproven::KeysMissing`] where nothing can be said yet.
pub fn prove<'m>(token: &str, rules: &Rules, tokens: &Tokens, now: Timestamp) -> Result<Proof<'m>, Unproven> {
    tokens.verify(token, rules, now).map(Proof::Token).map_err(unproven)
}

fn unproven(error: TokenError) -> Unproven {
    let (reason, why) = match error {
        TokenError::Malformed(why) => (Reason::MalformedCredential, why),
        TokenError::UntrustedIssuer => (Reason::UntrustedIssuer, "no issuer of the rules has this `iss`"),
        TokenError::BadSignature(why) => (Reason::BadSignature, why),
        TokenError::BadClaims(why) => (Reason::BadClaims, why),
        TokenError::Expired => (Reason::Expired, "`exp` has passed"),
        TokenError::NotYetValid => (Reason::NotYetValid, "`nbf` or `iat` lies ahead"),
        TokenError::KeysMissing(issuer) => {
            return Unproven::KeysMissing(Fault::new(Reason::KeysUnavailable, format!("the keys of {issuer} were never fetched")));
        }
    };
    Unproven::Denied(Denial::new(reason).because(Cow::Borrowed(why)))
}
