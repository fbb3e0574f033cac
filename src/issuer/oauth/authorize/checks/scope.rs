//! What is asked for, and what of it can be granted.

use std::sync::Arc;

use crate::issuer::checks::Check;
use crate::issuer::checks::hold;
use crate::issuer::checks::run;
use crate::issuer::oauth::authorize::checks::Inquired;
use crate::issuer::oauth::authorize::checks::Inquiry;
use crate::issuer::oauth::authorize::refusal::ErrorCode;
use crate::issuer::oauth::authorize::refusal::Refusal;
use crate::model::client::ClientRecord;
use crate::model::issuance::Issuance;
use crate::model::scope::Scope;
use crate::model::scope::ScopeSet;
use crate::model::scope::is_reserved;
use crate::model::user::Rights;
use crate::model::user::UserRecord;

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

/// Everything that a grant lies within.
#[derive(Clone, Copy, Debug)]
pub(in crate::issuer::oauth) struct Ceiling<'a> {
    pub client: &'a ClientRecord,
    pub user: &'a UserRecord,
    pub resources: &'a [Arc<str>],
    pub issuance: &'a Issuance,
}

/// A scope that is wanted.
struct Wanted<'a> {
    scope: &'a str,
    under: Ceiling<'a>,
}

/// What bounds a grant. The scopes of the catalogue have no wildcards, so that each is judged by itself.
fn bounds<'a>() -> [Check<Wanted<'a>>; 4] {
    [
        Check { name: "the client may have it", run: |wanted| hold(wanted.under.client.scopes.covers(wanted.scope)) },
        // RFC 9068 section 3: what means nothing at the resources stays out of the grant.
        Check { name: "it means something at a resource", run: |wanted| hold(means_something(wanted)) },
        Check { name: "the user holds it", run: |wanted| hold(holds(wanted.under.user, wanted.scope)) },
        Check { name: "it is for people to give", run: |wanted| hold(!is_reserved(wanted.scope)) },
    ]
}

/// What of these scopes this client may have of this user now.
pub(in crate::issuer::oauth) fn bound(scopes: &ScopeSet, under: Ceiling<'_>) -> ScopeSet {
    let bounds = bounds();
    ScopeSet::new(scopes.iter().filter(|scope| run(&bounds, &Wanted { scope: scope.as_str(), under }).is_ok()).cloned())
}

/// What of what is asked for this client may have of this user now.
pub(in crate::issuer::oauth::authorize) fn grantable(
    inquired: &Inquired,
    client: &ClientRecord,
    user: &UserRecord,
    issuance: &Issuance,
) -> Result<ScopeSet, Refusal> {
    let catalogue = || ScopeSet::new(issuance.scopes.keys().filter_map(|scope| Scope::parse(scope).ok()));
    let asked = inquired.scopes.clone().unwrap_or_else(catalogue);
    let granted = bound(&asked, Ceiling { client, user, resources: &inquired.resources, issuance });
    run(&outcome_checks(), &Outcome { named: inquired.scopes.as_ref(), granted: &granted })
        .map_err(|_unmet| Refusal::new(ErrorCode::InvalidScope, "nothing of the scope can be granted to this client by this user"))?;
    Ok(granted)
}

/// What was named, and what is left of it.
#[derive(Clone, Copy)]
struct Outcome<'a> {
    named: Option<&'a ScopeSet>,
    granted: &'a ScopeSet,
}

/// A client that has no scopes at all learns who the user is, and that may be all it wants.
fn outcome_checks<'a>() -> [Check<Outcome<'a>>; 1] {
    [Check { name: "something is left", run: |outcome| hold(!outcome.granted.is_empty() || outcome.named.is_none_or(ScopeSet::is_empty)) }]
}

fn means_something(wanted: &Wanted<'_>) -> bool {
    let mut resources = wanted.under.resources.iter().filter_map(|uri| wanted.under.issuance.resource(uri));
    resources.any(|resource| resource.scopes.as_ref().is_none_or(|scopes| scopes.covers(wanted.scope)))
}

fn holds(user: &UserRecord, scope: &str) -> bool {
    match &user.rights {
        Rights::Unlimited => true,
        Rights::Only(rights) => rights.covers(scope),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issuer::checks::assert_each_is_needed;
    use crate::issuer::oauth::authorize::testing::client;
    use crate::issuer::oauth::authorize::testing::scopes;
    use crate::issuer::oauth::authorize::testing::user;
    use crate::issuer::tests::issuance;

    // oauth: A9 N5
    #[test]
    fn every_bound_of_a_grant_keeps_out_what_no_other_does() {
        let issuance = issuance();
        let [api, files] = ["https://api.example.com", "https://files.example.com"].map(|uri| [Arc::from(uri)]);
        let client = ClientRecord { scopes: scopes("orders:* files:read tollgate:keys"), ..client("a") };
        let (narrow, alice) = (ClientRecord { scopes: scopes("files:*"), ..client.clone() }, user("alice", "* tollgate:keys"));
        let (reader, anybody) = (user("bob", "orders:read"), UserRecord { rights: Rights::Unlimited, ..alice.clone() });
        let good = Ceiling { client: &client, user: &alice, resources: &api, issuance: &issuance };
        for under in [good, Ceiling { user: &anybody, ..good }] {
            assert_eq!(bound(&scopes("orders:write orders:read tollgate:keys"), under), *scopes("orders:write orders:read"));
        }
        let wanted = |under| Wanted { scope: "orders:write", under };
        assert_each_is_needed(
            bounds,
            &[
                ("the client may have it", wanted(Ceiling { client: &narrow, ..good })),
                ("it means something at a resource", wanted(Ceiling { resources: &files, ..good })),
                ("the user holds it", wanted(Ceiling { user: &reader, ..good })),
                ("it is for people to give", Wanted { scope: "tollgate:keys", under: good }),
            ],
        );
        let (none, some) = (ScopeSet::default(), scopes("orders:read"));
        let good = Outcome { named: Some(&some), granted: &some };
        for good in [good, Outcome { named: None, granted: &none }, Outcome { named: Some(&none), granted: &none }] {
            assert_eq!(run(&outcome_checks(), &good), Ok(()));
        }
        assert_each_is_needed(outcome_checks, &[("something is left", Outcome { granted: &none, ..good })]);
    }
}
