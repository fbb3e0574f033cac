//! mTLS callers: what the rules say of a principal.

use std::sync::Arc;

use crate::check::decide::Exit;
use crate::check::reasons::Reason;
use crate::check::resolve::deny;
use crate::check::resolve::tier_of;
use crate::model::caller::Caller;
use crate::model::caller::Environment;
use crate::model::caller::ProvenBy;
use crate::model::caller::Subject;
use crate::model::caller::UserId;
use crate::model::rules::Exemption;
use crate::model::rules::Rules;
use crate::model::scope::Scope;
use crate::model::scope::UNLIMITED;

pub(super) fn from_principal(principal: &str, rules: &Rules) -> Result<Caller, Exit> {
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
