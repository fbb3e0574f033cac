//! Placeholder until the real room arrives.

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

#[derive(Debug)]
pub enum Proof<'m> {
    Nobody,
    OwnKey(OwnKey<'m>),
    ForeignKey(&'m str),
    Token(Arc<VerifiedClaims>),
    Principal(&'m str),
}

#[derive(Debug)]
pub enum Unproven {
    Denied(Denial),
    KeysMissing(Fault),
}

pub fn prove<'m>(shown: &Shown<'m>, _rules: &Rules, _tokens: &Tokens, _now: Timestamp) -> Result<Proof<'m>, Unproven> {
    match &shown.credential {
        Credential::None => Ok(Proof::Nobody),
        Credential::Own(own) => Ok(Proof::OwnKey(*own)),
        Credential::Foreign(text) => Ok(Proof::ForeignKey(text)),
        Credential::Token(_) | Credential::Opaque(_) => Err(Unproven::Denied(Denial::new(Reason::BadSignature))),
        Credential::Principal(text) => Ok(Proof::Principal(text)),
    }
}
