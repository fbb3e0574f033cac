//! Callers that were recorded, as these rules see them: what the rules alone decide is decided anew, and what only the shelf knew stays.

use std::net::IpAddr;
use std::sync::Arc;

use crate::check::decide::Exit;
use crate::check::reasons::Reason;
use crate::check::resolve::deny;
use crate::check::resolve::key::stands;
use crate::check::resolve::principal::from_principal;
use crate::check::resolve::tier_of;
use crate::model::caller::Caller;
use crate::model::caller::Namespace;
use crate::model::caller::ProvenBy;
use crate::model::caller::SourceName;
use crate::model::caller::UserId;
use crate::model::key::KeyRecord;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;

/// Where a recorded caller's key was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::check) enum KeptIn {
    Store,
    /// The config's `keys_file`, so that what these rules say of the key counts.
    File,
}

/// Who this is under these rules.
///
/// # Errors
/// As resolving a credential: a principal, an issuer or a key of the file that these rules do not have, a tier that is disabled.
pub(in crate::check) fn from_record(
    recorded: &Caller,
    kept_in: KeptIn,
    principal: Option<&str>,
    address: Option<IpAddr>,
    rules: &Rules,
    now: Timestamp,
) -> Result<Caller, Exit> {
    let caller = match recorded.proven_by {
        ProvenBy::Principal => return from_principal(principal.unwrap_or_default(), rules),
        ProvenBy::Key => of_file(recorded, kept_in, address, rules, now)?,
        ProvenBy::Token => of_file(recorded, kept_in, address, rules, now)?,
    };
    let (source, namespace) = source_of(&caller, rules)?;
    Ok(Caller { user: UserId::new(&source, &caller.subject, namespace), tier: tier_of([caller.tier.as_ref()], rules)?, source, ..caller })
}

fn of_file(recorded: &Caller, kept_in: KeptIn, address: Option<IpAddr>, rules: &Rules, now: Timestamp) -> Result<Caller, Exit> {
    let (KeptIn::File, Some(id)) = (kept_in, &recorded.key) else { return Ok(recorded.clone()) };
    let record: &Arc<KeyRecord> = rules.file_keys.get(id.as_str()).ok_or_else(|| deny(Reason::UnknownKey, "no such key"))?;
    stands(record, address, now)?;
    let scopes = match recorded.proven_by {
        ProvenBy::Key => Arc::clone(&record.scopes),
        // A token of the key's holds no more than the key.
        ProvenBy::Token | ProvenBy::Principal => recorded.scopes.within(&record.scopes),
    };
    Ok(Caller {
        subject: record.user.clone(),
        organization: record.organization.clone(),
        scopes,
        tier: record.tier.clone(),
        environment: record.environment,
        pinned_version: record.pinned_version.clone(),
        key_rate_limit: record.rate_limit,
        expires: record.expires,
        ..recorded.clone()
    })
}

/// The source under these rules, and how its users are shown.
fn source_of(caller: &Caller, rules: &Rules) -> Result<(SourceName, Namespace), Exit> {
    let issuer = match &caller.issuer {
        Some(url) => {
            let known = rules.issuers.iter().find(|issuer| issuer.issuer == *url);
            Some(known.ok_or_else(|| deny(Reason::UntrustedIssuer, "these rules do not trust the token's issuer"))?)
        }
        None => None,
    };
    let client = SourceName::client();
    Ok(match issuer {
        _ if caller.source == client => (client, Namespace::Named),
        Some(issuer) => (issuer.source.name.clone(), issuer.source.namespace),
        None => (rules.local.name.clone(), rules.local.namespace),
    })
}
