//! API keys: the secret that was shown, compared with its record.

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;

use crate::check::decide::Exit;
use crate::check::reasons::Reason;
use crate::check::resolve::deny;
use crate::check::resolve::facts::FoundFacts;
use crate::check::resolve::facts::KeyFact;
use crate::check::resolve::key_of;
use crate::check::resolve::organization_of;
use crate::check::resolve::owner_of;
use crate::check::resolve::standing;
use crate::check::resolve::tier_of;
use crate::model::caller::Caller;
use crate::model::caller::ProvenBy;
use crate::model::caller::UserId;
use crate::model::key::KeyId;
use crate::model::key::KeyRecord;
use crate::model::key::KeyState;
use crate::model::rules::Rules;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::secrets::Peppers;

/// Under which name to note that this text was used, where it is an older secret of the key that was found.
pub(in crate::check) fn older_secret(text: &str, facts: &FoundFacts, peppers: &Peppers) -> Option<KeyId> {
    let KeyFact::FromStore(Ok(Some(record))) = &facts.key else { return None };
    let older = record.secrets.get(1..)?;
    let secret = older.iter().find(|secret| peppers.matches(text.as_bytes(), &secret.hash))?;
    Some(secret.use_name(&record.id))
}

pub(super) fn from_key<'f>(
    text: &str,
    facts: &'f FoundFacts,
    address: Option<IpAddr>,
    rules: &Rules,
    peppers: &Peppers,
    now: Timestamp,
) -> Result<(Caller, &'f Arc<KeyRecord>), Exit> {
    let Some(record) = key_of(facts)? else {
        // As much work as for a wrong secret, so that the time tells nobody which ids exist.
        black_box(peppers.hash(text.as_bytes()));
        return Err(deny(Reason::UnknownKey, "no such key"));
    };
    opens(text, record, peppers, now)?;
    stands(record, address, now)?;
    let owner = match &facts.key {
        KeyFact::InFile(_) => None,
        KeyFact::NotAsked | KeyFact::FromStore(_) => Some(owner_of(facts)?),
    };
    let (tier, scopes, organization) = match owner {
        Some(owner) => (
            owner.tier.as_ref(),
            within_maker(&owner.within_rights(&record.scopes), record, facts)?,
            organization_of(record.organization.as_ref(), owner.organization.as_ref())?,
        ),
        None => (None, Arc::clone(&record.scopes), record.organization.clone()),
    };
    let caller = Caller {
        proven_by: ProvenBy::Key,
        user: UserId::new(&rules.local.name, &record.user, rules.local.namespace),
        source: rules.local.name.clone(),
        subject: record.user.clone(),
        issuer: None,
        organization,
        key: Some(record.id.clone()),
        client: None,
        scopes,
        tier: tier_of([record.tier.as_ref(), tier], rules)?,
        environment: record.environment,
        pinned_version: record.pinned_version.clone(),
        key_rate_limit: record.rate_limit,
        expires: record.expires,
    };
    Ok((caller, record))
}

/// Whether this text is one of the record's secrets, and one that is still accepted.
fn opens(text: &str, record: &KeyRecord, peppers: &Peppers, now: Timestamp) -> Result<(), Exit> {
    let Some(secret) = record.secrets.iter().find(|secret| peppers.matches(text.as_bytes(), &secret.hash)) else {
        if record.secrets.is_empty() {
            black_box(peppers.hash(text.as_bytes()));
        }
        return Err(deny(Reason::UnknownKey, "wrong secret"));
    };
    match secret.retires {
        Some(retires) if now >= retires => Err(deny(Reason::Expired, "the secret's grace is over")),
        Some(_) | None => Ok(()),
    }
}

/// Whether the key is good at this instant, and where it is shown from. Asked only of whoever holds it: what it answers is no secret to them.
pub(super) fn stands(record: &KeyRecord, address: Option<IpAddr>, now: Timestamp) -> Result<(), Exit> {
    match record.state {
        KeyState::Active => {}
        KeyState::Disabled => return Err(deny(Reason::Disabled, "the key is disabled")),
        KeyState::Revoked => return Err(deny(Reason::Revoked, "the key is revoked")),
    }
    if record.not_before.is_some_and(|start| now < start) {
        return Err(deny(Reason::NotYetValid, "the key is not valid yet"));
    }
    if record.expires.is_some_and(|end| now >= end) {
        return Err(deny(Reason::Expired, "the key has expired"));
    }
    if record.notes.admits(address) {
        Ok(())
    } else {
        Err(deny(Reason::WrongNetwork, "the client's address lies outside the key's networks"))
    }
}

/// A key that somebody made for another stands on its maker's word too: whoever is gone, disabled or put out gives nothing any more.
pub(super) fn within_maker(scopes: &Arc<ScopeSet>, record: &KeyRecord, facts: &FoundFacts) -> Result<Arc<ScopeSet>, Exit> {
    let Some(name) = record.notes.made_by() else { return Ok(Arc::clone(scopes)) };
    let maker = standing(&facts.maker)?;
    if maker.subject != *name {
        return Err(deny(Reason::UnknownUser, "another user was looked up"));
    }
    maker.gives(scopes, record).ok_or_else(|| deny(Reason::Revoked, "the key's maker belongs to another organisation"))
}

/// A key that came beside a token must be the very key that rules the token.
pub(super) fn belongs_to(paired: &str, record: Option<&Arc<KeyRecord>>, peppers: &Peppers, now: Timestamp) -> Result<(), Exit> {
    let Some(record) = record else {
        black_box(peppers.hash(paired.as_bytes()));
        return Err(deny(Reason::UnknownKey, "a key beside a credential that no key rules"));
    };
    opens(paired, record, peppers, now)
}
