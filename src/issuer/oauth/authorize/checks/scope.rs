//! What is asked for, and what of it can be granted.

use crate::issuer::oauth::authorize::checks::Inquired;
use crate::issuer::oauth::authorize::checks::Inquiry;
use crate::issuer::oauth::authorize::refusal::ErrorCode;
use crate::issuer::oauth::authorize::refusal::Refusal;
use crate::model::client::ClientRecord;
use crate::model::issuance::Issuance;
use crate::model::key::Rights;
use crate::model::key::UserRecord;
use crate::model::scope::Scope;
use crate::model::scope::ScopeSet;

/// Every scope is one of the catalogue, which has no `tollgate:` scope and no wildcard: a person could not judge them.
pub(super) fn known(inquiry: &Inquiry<'_>) -> Result<(), Refusal> {
    let asked = inquiry.asked.value("scope").unwrap_or_default();
    if asked.split(' ').filter(|scope| !scope.is_empty()).all(|scope| inquiry.issuance.scopes.contains_key(scope)) {
        return Ok(());
    }
    Err(Refusal::new(ErrorCode::InvalidScope, "there is an unknown scope; see scopes_supported in the metadata"))
}

/// The scopes that the request names; none where it names none.
pub(super) fn wanted(inquiry: &Inquiry<'_>) -> Option<ScopeSet> {
    let asked = inquiry.asked.value("scope")?;
    Some(ScopeSet::new(asked.split(' ').filter_map(|scope| Scope::parse(scope).ok())))
}

/// What of it this client may have of this user now: never more than is asked for, than the client is registered for, than the resources
/// know, and than the user holds.
pub(in crate::issuer::oauth::authorize) fn grantable(
    inquired: &Inquired,
    client: &ClientRecord,
    user: &UserRecord,
    issuance: &Issuance,
) -> Result<ScopeSet, Refusal> {
    let catalogue = || ScopeSet::new(issuance.scopes.keys().filter_map(|scope| Scope::parse(scope).ok()));
    let asked = inquired.scopes.clone().unwrap_or_else(catalogue);
    let granted = within_user(&within_resources(&asked.intersect(&client.scopes), inquired, issuance), user).without_reserved();
    // A client that has no scopes at all learns who the user is, and that may be all it wants.
    if granted.is_empty() && inquired.scopes.as_ref().is_some_and(|asked| !asked.is_empty()) {
        return Err(Refusal::new(ErrorCode::InvalidScope, "nothing of the scope can be granted to this client by this user"));
    }
    Ok(granted)
}

/// RFC 9068 section 3: what means nothing at the resources stays out of the grant.
fn within_resources(scopes: &ScopeSet, inquired: &Inquired, issuance: &Issuance) -> ScopeSet {
    let resources = || inquired.resources.iter().filter_map(|uri| issuance.resource(uri));
    let means_something =
        |scope: &Scope| resources().any(|resource| resource.scopes.as_ref().is_none_or(|scopes| scopes.covers(scope.as_str())));
    ScopeSet::new(scopes.iter().filter(|scope| means_something(scope)).cloned())
}

/// What of these scopes the user holds now.
pub(in crate::issuer::oauth) fn within_user(scopes: &ScopeSet, user: &UserRecord) -> ScopeSet {
    match &user.rights {
        Rights::Unlimited => scopes.clone(),
        Rights::Only(rights) => scopes.intersect(rights),
    }
}
