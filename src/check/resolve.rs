//! The proof and the facts found, judged: who is calling, and is their credential still good.
//!
//! Everything that is wrong with a credential has one public answer; the reasons differ for the log alone. A record that cannot
//! be read is ours to mend (503), and a shelf that gives no answer is a fault.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use crate::check::decide::Denial;
use crate::check::decide::Exit;
use crate::check::decide::Fault;
use crate::check::prove::Proof;
use crate::check::reasons::Reason;
use crate::model::caller::Caller;
use crate::model::caller::Environment;
use crate::model::caller::ProvenBy;
use crate::model::caller::Subject;
use crate::model::caller::UserId;
use crate::model::claims::VerifiedClaims;
use crate::model::key::KeyRecord;
use crate::model::key::KeyState;
use crate::model::key::Rights;
use crate::model::key::UserRecord;
use crate::model::key::UserState;
use crate::model::rules::Exemption;
use crate::model::rules::Issuer;
use crate::model::rules::Managed;
use crate::model::rules::Rules;
use crate::model::rules::TierState;
use crate::model::rules::TokenId;
use crate::model::scope::Scope;
use crate::model::scope::ScopeSet;
use crate::model::scope::UNLIMITED;
use crate::model::time::Timestamp;
use crate::secrets::Peppers;
use crate::store::StoreError;

/// What the corridor learnt about the key behind a proof.
#[derive(Clone, Debug)]
pub enum KeyFact {
    NotAsked,
    /// A key of the file needs no user's record: the file alone rules.
    InFile(Arc<KeyRecord>),
    FromStore(Result<Option<Arc<KeyRecord>>, StoreError>),
}

/// What the corridor learnt about the user behind a proof.
#[derive(Clone, Debug)]
pub enum UserFact {
    NotAsked,
    FromStore(Result<Option<Arc<UserRecord>>, StoreError>),
}

/// What the corridor fetched for a proof, failures included.
#[derive(Clone, Debug)]
pub struct FoundFacts {
    pub key: KeyFact,
    pub user: UserFact,
    /// Set: some of it is from memory, and so long ago the memory's confirmation lost its force.
    pub lapsed_for: Option<Duration>,
}

impl FoundFacts {
    pub const NONE: Self = Self { key: KeyFact::NotAsked, user: UserFact::NotAsked, lapsed_for: None };

    /// Whether the shelf was asked for something and was silent.
    pub fn lack_an_answer(&self) -> bool {
        self.key.lacks_an_answer() || matches!(self.user, UserFact::FromStore(Err(StoreError::Unavailable(_))))
    }
}

impl KeyFact {
    /// As [`FoundFacts::lack_an_answer`]. A record that cannot be read was an answer.
    pub fn lacks_an_answer(&self) -> bool {
        matches!(self, Self::FromStore(Err(StoreError::Unavailable(_))))
    }
}

/// `paired` is the key that came beside another credential; it must belong to the same key record.
///
/// # Errors
/// A denial with one public text for whatever is wrong with the credential; a denial of 503 for a record that cannot be read; a
/// fault when the shelf gave no answer, or gave none in time for what is left of the tier's grace.
pub fn resolve(
    proof: &Proof<'_>,
    paired: Option<&str>,
    facts: &FoundFacts,
    rules: &Rules,
    peppers: &Peppers,
    now: Timestamp,
) -> Result<Option<Arc<Caller>>, Exit> {
    let resolved = by_facts(proof, paired, facts, rules, peppers, now);
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
        Err(Exit::Denied(denial)) if denial.reason.row().http == 401 => Err(silent("what is remembered does not let this credential in")),
        Err(exit @ (Exit::Denied(_) | Exit::Failed(_))) => Err(exit),
    }
}

fn by_facts(
    proof: &Proof<'_>,
    paired: Option<&str>,
    facts: &FoundFacts,
    rules: &Rules,
    peppers: &Peppers,
    now: Timestamp,
) -> Result<Option<Arc<Caller>>, Exit> {
    let (caller, record) = match proof {
        Proof::Nobody => return Ok(None),
        Proof::OwnKey(own) => {
            let (caller, record) = from_key(own.text, facts, rules, peppers, now)?;
            if record.environment != own.environment || record.id.as_str() != own.id {
                return Err(deny(Reason::UnknownKey, "the key's text and its record disagree"));
            }
            (caller, Some(record))
        }
        Proof::ForeignKey(text) => {
            let (caller, record) = from_key(text, facts, rules, peppers, now)?;
            (caller, Some(record))
        }
        Proof::Token(claims) => from_token(claims, facts, rules, now)?,
        Proof::Principal(principal) => (from_principal(principal, rules)?, None),
    };
    if let Some(paired) = paired {
        belongs_to(paired, record, peppers, now)?;
    }
    Ok(Some(Arc::new(caller)))
}

fn from_key<'f>(
    text: &str,
    facts: &'f FoundFacts,
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
    stands(record, now)?;
    let owner = match &facts.key {
        KeyFact::InFile(_) => None,
        KeyFact::NotAsked | KeyFact::FromStore(_) => Some(owner_of(facts)?),
    };
    let (tier, scopes, organization) = match owner {
        Some(owner) => (owner.tier.as_ref(), within_rights(&record.scopes, owner), organization_of(record, owner)?),
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

fn from_token<'f>(
    claims: &VerifiedClaims,
    facts: &'f FoundFacts,
    rules: &Rules,
    now: Timestamp,
) -> Result<(Caller, Option<&'f Arc<KeyRecord>>), Exit> {
    let issuer = rules.issuers.get(claims.issuer).ok_or_else(|| deny(Reason::UntrustedIssuer, "the issuer left the rules"))?;
    let record = key_of_token(claims, issuer, facts, now)?;
    let owner = match (issuer.managed, &facts.key) {
        // A token in a key's name dies with whatever would end the key.
        (Managed::Yes, _) | (Managed::No, KeyFact::FromStore(_)) => Some(owner_of(facts)?),
        (Managed::ByGrant, _) => return Err(deny(Reason::UnknownKey, "the token names no grant")),
        (Managed::No, KeyFact::NotAsked | KeyFact::InFile(_)) => None,
    };
    if let Some(earliest) = owner.and_then(|owner| owner.valid_from)
        && claims.issued.is_none_or(|issued| issued < earliest)
    {
        return Err(deny(Reason::Revoked, "issued before the user's tokens became valid"));
    }
    // A token carries no reserved scope, whoever signed it.
    let mut scopes = match claims.scopes.holds_reserved() {
        true => Arc::new(claims.scopes.without_reserved()),
        false => Arc::clone(&claims.scopes),
    };
    if let Some(record) = record {
        scopes = Arc::new(scopes.intersect(&record.scopes));
    }
    if let Some(owner) = owner {
        scopes = within_rights(&scopes, owner);
    }
    let organization = match (record, owner) {
        (Some(record), Some(owner)) => organization_of(record, owner)?,
        (Some(record), None) => record.organization.clone().or_else(|| claims.organization.clone()),
        (None, Some(owner)) => owner.organization.clone(),
        (None, None) => claims.organization.clone(),
    };
    let tiers = [
        record.and_then(|record| record.tier.as_ref()),
        owner.and_then(|owner| owner.tier.as_ref()),
        claims.tier.as_ref(),
        issuer.tier.as_ref(),
    ];
    let key_expires = record.and_then(|record| record.expires);
    let caller = Caller {
        proven_by: ProvenBy::Token,
        user: UserId::new(&issuer.source.name, &claims.subject, issuer.source.namespace),
        source: issuer.source.name.clone(),
        subject: claims.subject.clone(),
        issuer: Some(Arc::clone(&issuer.issuer)),
        organization,
        key: record.map(|record| record.id.clone()),
        client: claims.client.clone(),
        scopes,
        tier: tier_of(tiers, rules)?,
        environment: record.map_or_else(|| claims.environment.unwrap_or(issuer.environment), |record| record.environment),
        pinned_version: record.and_then(|record| record.pinned_version.clone()),
        key_rate_limit: record.and_then(|record| record.rate_limit),
        expires: Some(key_expires.map_or(claims.expires, |expires| expires.min(claims.expires))),
    };
    Ok((caller, record))
}

/// The key record that rules a token, where its issuer's tokens name one.
fn key_of_token<'f>(
    claims: &VerifiedClaims,
    issuer: &Issuer,
    facts: &'f FoundFacts,
    now: Timestamp,
) -> Result<Option<&'f Arc<KeyRecord>>, Exit> {
    match issuer.token_id {
        TokenId::Ignored => Ok(None),
        TokenId::NamesKey => {
            let Some(id) = &claims.token_id else { return Err(deny(Reason::BadClaims, "the token names no key")) };
            let record = key_of(facts)?.ok_or_else(|| deny(Reason::UnknownKey, "the token names a key that does not exist"))?;
            if record.id.as_str() != &**id || record.user != claims.subject {
                return Err(deny(Reason::UnknownKey, "the token names somebody else's key"));
            }
            stands(record, now)?;
            Ok(Some(record))
        }
    }
}

fn from_principal(principal: &str, rules: &Rules) -> Result<Caller, Exit> {
    let untrusted = |why| deny(Reason::UntrustedPrincipal, why);
    let mesh = rules.mesh.as_ref().ok_or_else(|| untrusted("no mesh is configured"))?;
    let rest = principal.strip_prefix("spiffe://").and_then(|rest| rest.strip_prefix(&*mesh.trust_domain));
    let path = rest.and_then(|rest| rest.strip_prefix('/')).ok_or_else(|| untrusted("another trust domain"))?;
    let grant = mesh.principals.get(principal).ok_or_else(|| untrusted("the principal is not listed"))?;
    let subject = Subject::parse(path).map_err(|_| untrusted("the principal's path cannot be a subject"))?;
    let scopes = match (grant.limits, Scope::parse(UNLIMITED)) {
        (Exemption::Exempt, Ok(unlimited)) => Arc::new(grant.scopes.with(unlimited)),
        (Exemption::Exempt, Err(_)) | (Exemption::Limited, _) => Arc::clone(&grant.scopes),
    };
    Ok(Caller {
        proven_by: ProvenBy::Principal,
        user: UserId::new(&mesh.source.name, &subject, mesh.source.namespace),
        source: mesh.source.name.clone(),
        subject,
        issuer: None,
        organization: grant.organization.clone(),
        key: None,
        client: None,
        scopes,
        tier: tier_of([grant.tier.as_ref()], rules)?,
        environment: Environment::Live,
        pinned_version: None,
        key_rate_limit: None,
        expires: None,
    })
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
    let owner = match &facts.user {
        UserFact::NotAsked => return Err(deny(Reason::Internal, "the user was not looked up")),
        UserFact::FromStore(Err(error)) => return Err(unanswered(error)),
        UserFact::FromStore(Ok(None)) => return Err(deny(Reason::UnknownUser, "the user does not exist")),
        UserFact::FromStore(Ok(Some(owner))) => owner,
    };
    match owner.state {
        UserState::Active => Ok(owner),
        UserState::Disabled => Err(deny(Reason::Disabled, "the user is disabled")),
    }
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

/// Whether the key is good at this instant.
fn stands(record: &KeyRecord, now: Timestamp) -> Result<(), Exit> {
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
    Ok(())
}

fn belongs_to(paired: &str, record: Option<&Arc<KeyRecord>>, peppers: &Peppers, now: Timestamp) -> Result<(), Exit> {
    let Some(record) = record else {
        black_box(peppers.hash(paired.as_bytes()));
        return Err(deny(Reason::UnknownKey, "a key beside a credential that no key rules"));
    };
    opens(paired, record, peppers, now)
}

fn within_rights(scopes: &Arc<ScopeSet>, owner: &UserRecord) -> Arc<ScopeSet> {
    match &owner.rights {
        Rights::Unlimited => Arc::clone(scopes),
        Rights::Only(rights) => Arc::new(scopes.intersect(rights)),
    }
}

/// A key stays with the organisation for which it was made: when its owner moves to another, it opens neither.
fn organization_of(record: &KeyRecord, owner: &UserRecord) -> Result<Option<Arc<str>>, Exit> {
    match (&record.organization, &owner.organization) {
        (Some(of_key), Some(of_owner)) if of_key != of_owner => {
            Err(deny(Reason::Revoked, "the key's owner belongs to another organisation"))
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
