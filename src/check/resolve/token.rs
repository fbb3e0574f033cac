//! JWTs: what their issuer is trusted with, and what the records behind them say.

use std::net::IpAddr;
use std::sync::Arc;

use crate::check::decide::Exit;
use crate::check::reasons::Reason;
use crate::check::resolve::deny;
use crate::check::resolve::facts::FoundFacts;
use crate::check::resolve::facts::KeyFact;
use crate::check::resolve::grant;
use crate::check::resolve::key::stands;
use crate::check::resolve::key::within_maker;
use crate::check::resolve::key_of;
use crate::check::resolve::organization_of;
use crate::check::resolve::owner_of;
use crate::check::resolve::tier_of;
use crate::model::caller::Caller;
use crate::model::caller::ProvenBy;
use crate::model::caller::UserId;
use crate::model::claims::VerifiedClaims;
use crate::model::key::KeyRecord;
use crate::model::rules::Issuer;
use crate::model::rules::Managed;
use crate::model::rules::Rules;
use crate::model::rules::TokenId;
use crate::model::time::Timestamp;

pub(super) fn from_token<'f>(
    claims: &VerifiedClaims,
    facts: &'f FoundFacts,
    address: Option<IpAddr>,
    rules: &Rules,
    now: Timestamp,
) -> Result<(Caller, Option<&'f Arc<KeyRecord>>), Exit> {
    let issuer = rules.issuers.get(claims.issuer).ok_or_else(|| deny(Reason::UntrustedIssuer, "the issuer left the rules"))?;
    if issuer.managed == Managed::ByGrant {
        return grant::from_token(claims, issuer, facts, address, rules, now);
    }
    let record = key_of_token(claims, issuer, facts, address, now)?;
    let owner = match (issuer.managed, &facts.key) {
        // A token in a key's name dies with whatever would end the key.
        (Managed::Yes, _) | (Managed::No, KeyFact::FromStore(_)) => Some(owner_of(facts)?),
        (Managed::No | Managed::ByGrant, _) => None,
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
        scopes = within_maker(&scopes.within(&record.scopes), record, facts)?;
    }
    if let Some(owner) = owner {
        scopes = owner.within_rights(&scopes);
    }
    let organization = match (record, owner) {
        (Some(record), Some(owner)) => organization_of(record.organization.as_ref(), owner.organization.as_ref())?,
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
    address: Option<IpAddr>,
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
            stands(record, address, now)?;
            Ok(Some(record))
        }
    }
}
