//! The proof and the facts found, judged: who is calling, and is their credential still good.
//!
//! Everything that is wrong with a credential has one public answer; the reasons differ for the log alone. A record that cannot
//! be read is ours to mend (503), and a shelf that gives no answer is a fault.

pub(in crate::check) mod facts;

mod grant;
pub(in crate::check) mod key;
mod principal;
pub(in crate::check) mod recorded;
mod token;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub use crate::check::resolve::facts::ClientFact;
pub use crate::check::resolve::facts::Fact;
pub use crate::check::resolve::facts::FoundFacts;
pub use crate::check::resolve::facts::GrantFact;
pub use crate::check::resolve::facts::KeyFact;
pub use crate::check::resolve::facts::UserFact;

use crate::check::decide::Denial;
use crate::check::decide::Exit;
use crate::check::decide::Fault;
use crate::check::prove::Proof;
use crate::check::reasons::Reason;
use crate::check::resolve::grant::Opaque;
use crate::check::resolve::key::belongs_to;
use crate::check::resolve::key::from_key;
use crate::check::resolve::principal::from_principal;
use crate::check::resolve::token::from_token;
use crate::model::caller::Caller;
use crate::model::key::KeyRecord;
use crate::model::rules::Rules;
use crate::model::rules::TierState;
use crate::model::time::Timestamp;
use crate::model::user::UserRecord;
use crate::model::user::UserState;
use crate::secrets::Peppers;
use crate::store::StoreError;

/// `paired` is the key that came beside another credential; it must belong to the same key record. `address` is the client's, as far as it
/// can be trusted.
///
/// # Errors
/// A denial with one public text for whatever is wrong with the credential; a denial of 503 for a record that cannot be read; a
/// fault when the shelf gave no answer, or gave none in time for what is left of the tier's grace.
pub fn resolve(
    proof: &Proof<'_>,
    paired: Option<&str>,
    facts: &FoundFacts,
    address: Option<IpAddr>,
    rules: &Rules,
    peppers: &Peppers,
    now: Timestamp,
) -> Result<Option<Arc<Caller>>, Exit> {
    let resolved = by_facts(proof, paired, facts, address, rules, peppers, now);
    match facts.lapsed_for {
        None => resolved,
        Some(lapsed_for) => within_grace(resolved, lapsed_for, rules),
    }
}

/// What memory says lets in whose tier has a grace left, and nobody else. It refuses nobody: a key that was rotated, prolonged or
/// enabled since must not be called bad, so a refusal of the credential is no answer either.
fn within_grace(resolved: Result<Option<Arc<Caller>>, Exit>, lapsed_for: Duration, rules: &Rules) -> Result<Option<Arc<Caller>>, Exit> {
    let silent = |why: &str| Fault::new(Reason::StoreUnavailable, format!("the store does not answer, and {why}")).into();
    match resolved {
        Ok(Some(caller)) => match caller.tier.as_ref().and_then(|name| rules.tiers.get(name)) {
            Some(tier) if tier.lasts(lapsed_for) => Ok(Some(caller)),
            Some(_) | None => Err(silent("the caller's tier has no grace left")),
        },
        Ok(None) => Err(silent("nobody was recognised")),
        Err(Exit::Denied(denial)) if denial.reason.row().http == 401 || denial.reason == Reason::WrongNetwork => {
            Err(silent("what is remembered does not let this credential in"))
        }
        Err(exit @ (Exit::Denied(_) | Exit::Failed(_))) => Err(exit),
    }
}

fn by_facts(
    proof: &Proof<'_>,
    paired: Option<&str>,
    facts: &FoundFacts,
    address: Option<IpAddr>,
    rules: &Rules,
    peppers: &Peppers,
    now: Timestamp,
) -> Result<Option<Arc<Caller>>, Exit> {
    let (caller, record) = match proof {
        Proof::Nobody => return Ok(None),
        Proof::OwnKey(own) => {
            let (caller, record) = from_key(own.text, facts, address, rules, peppers, now)?;
            if record.environment != own.environment || record.id.as_str() != own.id {
                return Err(deny(Reason::UnknownKey, "the key's text and its record disagree"));
            }
            (caller, Some(record))
        }
        Proof::ForeignKey(text) => {
            let (caller, record) = from_key(text, facts, address, rules, peppers, now)?;
            (caller, Some(record))
        }
        Proof::Token(claims) => from_token(claims, facts, address, rules, now)?,
        Proof::Grant { id, generation, pepper } => {
            let shown = Opaque { id, generation: *generation, pepper };
            grant::from_opaque(&shown, facts, address, rules, now)?
        }
        Proof::Principal(principal) => (from_principal(principal, rules)?, None),
    };
    if let Some(paired) = paired {
        belongs_to(paired, record, peppers, now)?;
    }
    Ok(Some(Arc::new(caller)))
}

fn key_of(facts: &FoundFacts) -> Result<Option<&Arc<KeyRecord>>, Exit> {
    match &facts.key {
        KeyFact::NotAsked => Err(deny(Reason::Internal, "the key was not looked up")),
        KeyFact::InFile(record) => Ok(Some(record)),
        KeyFact::FromStore(Ok(record)) => Ok(record.as_ref()),
        KeyFact::FromStore(Err(error)) => Err(unanswered(error)),
    }
}

/// The record of the user that a credential acts for, which must be there and active.
fn owner_of(facts: &FoundFacts) -> Result<&UserRecord, Exit> {
    standing(&facts.user)
}

fn standing(user: &UserFact) -> Result<&UserRecord, Exit> {
    let user = match user {
        UserFact::NotAsked => return Err(deny(Reason::Internal, "the user was not looked up")),
        UserFact::FromStore(Err(error)) => return Err(unanswered(error)),
        UserFact::FromStore(Ok(None)) => return Err(deny(Reason::UnknownUser, "the user does not exist")),
        UserFact::FromStore(Ok(Some(user))) => user,
    };
    match user.state {
        UserState::Active => Ok(user),
        UserState::Disabled => Err(deny(Reason::Disabled, "the user is disabled")),
    }
}

/// A key, and a grant, stays with the organisation for which it was made: when its owner moves to another, it opens neither.
fn organization_of(credential: Option<&Arc<str>>, owner: Option<&Arc<str>>) -> Result<Option<Arc<str>>, Exit> {
    match (credential, owner) {
        (Some(of_credential), Some(of_owner)) if of_credential != of_owner => {
            Err(deny(Reason::Revoked, "the credential's owner belongs to another organisation"))
        }
        (Some(organization), Some(_) | None) | (None, Some(organization)) => Ok(Some(Arc::clone(organization))),
        (None, None) => Ok(None),
    }
}

/// The first tier that is named, if it exists, else the default one. Where there is none either, a name that means nothing hides no
/// limits that stand behind it.
fn tier_of<const N: usize>(named: [Option<&Arc<str>>; N], rules: &Rules) -> Result<Option<Arc<str>>, Exit> {
    let mut existing = named.into_iter().flatten().map(|name| rules.tiers.get(name));
    let default = || rules.default_tier.as_ref().and_then(|name| rules.tiers.get(name));
    match existing.next().flatten().or_else(default).or_else(|| existing.flatten().next()) {
        None => Ok(None),
        Some(tier) => match tier.state {
            TierState::Active => Ok(Some(Arc::clone(&tier.name))),
            TierState::Disabled => Err(deny(Reason::Disabled, "the tier is disabled")),
        },
    }
}

fn unanswered(error: &StoreError) -> Exit {
    match error {
        StoreError::Unavailable(_) => Fault::new(Reason::StoreUnavailable, error.to_string()).into(),
        StoreError::Corrupt { .. } => Denial::new(Reason::CorruptRecord).because(error.to_string()).into(),
    }
}

fn deny(reason: Reason, internal: &'static str) -> Exit {
    Denial::new(reason).because(internal).into()
}
