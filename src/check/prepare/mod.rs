//! The last room that can fail: identity values validated and encoded, the upstream assertion at hand.
//!
//! A client can never choose what an upstream reads as its identity: every identity header is either overwritten or removed.

mod edits;
mod identity;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

pub(in crate::check) use crate::check::prepare::edits::Edits;
pub(in crate::check) use crate::check::prepare::identity::fill;

use crate::check::authorise::Permit;
use crate::check::decide::Denial;
use crate::check::decide::Exit;
use crate::check::decide::Fault;
use crate::check::pin_version::Pinned;
use crate::check::reasons::Reason;
use crate::check::take_credential::Shown;
use crate::jose::Assertions;
use crate::jose::assertions::AssertionError;
use crate::model::caller::Caller;
use crate::model::request::Headers;
use crate::model::route::Auth;
use crate::model::route::CredentialUpstream;
use crate::model::route::Route;
use crate::model::rules::Assertion;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;

/// Everything that the answer will carry but the limits' levels. Only [`prepare`] makes one.
#[derive(Debug)]
pub struct Prepared<'r> {
    reason: Reason,
    route: &'r Route,
    caller: Option<Arc<Caller>>,
    set: Vec<(Arc<str>, Cow<'r, str>)>,
    remove: Vec<Arc<str>>,
    remove_query: Option<Arc<str>>,
    response: Vec<(&'static str, String)>,
}

impl<'r> Prepared<'r> {
    pub fn reason(&self) -> Reason {
        self.reason
    }

    pub fn route(&self) -> &'r Route {
        self.route
    }

    pub fn caller(&self) -> Option<&Caller> {
        self.caller.as_deref()
    }

    /// Request headers to overwrite: identity, assertion, resolved API version. Never a name of [`Self::remove`].
    pub fn set(&self) -> &[(Arc<str>, Cow<'r, str>)] {
        &self.set
    }

    /// Request headers to remove: identity headers that are not set, and the credential's.
    pub fn remove(&self) -> &[Arc<str>] {
        &self.remove
    }

    /// The query parameter that carried a credential.
    pub fn remove_query(&self) -> Option<&str> {
        self.remove_query.as_deref()
    }

    /// Response headers for the client, `Deprecation` and its kin.
    pub fn response(&self) -> &[(&'static str, String)] {
        &self.response
    }

    /// For the tests of doors, which can make no verdict themselves.
    #[cfg(test)]
    pub(in crate::check) fn for_test(
        (reason, route, caller): (Reason, &'r Route, Option<Arc<Caller>>),
        set: Vec<(Arc<str>, Cow<'r, str>)>,
        remove: Vec<Arc<str>>,
        remove_query: Option<Arc<str>>,
        response: Vec<(&'static str, String)>,
    ) -> Self {
        Self { reason, route, caller, set, remove, remove_query, response }
    }
}

/// # Errors
/// [`Reason::UnusableIdentity`] when a value cannot stand in a header, [`Reason::HeadersTooLarge`] when all together are more than Envoy
/// takes, [`Reason::Internal`] when the assertion cannot be signed; a fault while the keys that sign are still out of reach.
pub fn prepare<'r>(
    permit: Permit<'r>,
    pinned: Pinned,
    shown: &Shown<'_>,
    headers: &Headers<'_>,
    rules: &'r Rules,
    assertions: &Assertions,
    now: Timestamp,
) -> Result<Prepared<'r>, Exit> {
    let signed = match (&rules.assertion, permit.caller()) {
        (Some(assertion), Some(caller)) => match assertions.sign_for(assertion, caller, now) {
            Ok(token) => Some(token),
            Err(error @ AssertionError::NoRing) => return Err(Fault::new(Reason::StoreUnavailable, error.to_string()).into()),
            Err(error @ (AssertionError::NoLifeLeft | AssertionError::Unsigned)) => {
                return Err(Denial::new(Reason::Internal).because(error.to_string()).into());
            }
        },
        (Some(_), None) | (None, _) => None,
    };
    Ok(compose(permit, pinned, shown, headers, rules, signed.as_deref())?)
}

fn compose<'r>(
    permit: Permit<'r>,
    pinned: Pinned,
    shown: &Shown<'_>,
    headers: &Headers<'_>,
    rules: &'r Rules,
    signed: Option<&str>,
) -> Result<Prepared<'r>, Denial> {
    let (reason, route) = (permit.reason(), permit.route());
    let mut edits = Edits::under(rules);
    for header in &rules.identity_headers {
        match permit.caller() {
            Some(caller) => match fill(&header.value, caller)? {
                Some(value) => edits.set(&header.name, value),
                None => edits.remove(&header.name),
            },
            None => edits.remove(&header.name),
        }
    }
    if let Some(assertion) = &rules.assertion {
        match signed {
            Some(token) => edits.set(&assertion.header, Cow::Owned(format!("{}{token}", assertion.prefix))),
            None if passes_credentials(assertion, route, reason, rules) => {}
            None => edits.remove(&assertion.header),
        }
    }
    if let (Some(version), Some(versions)) = (pinned.version(), &rules.api_versions) {
        edits.set(&versions.header, Cow::Owned(version.to_string()));
    }
    match route.credential_upstream {
        CredentialUpstream::Removed => {
            for header in &shown.headers {
                edits.remove(header);
            }
        }
        CredentialUpstream::Kept => {}
    }
    edits.remove_look_alikes(&rules.look_alikes, Some(headers));
    if !edits.fit(headers, rules.header_limits) {
        return Err(Denial::new(Reason::HeadersTooLarge));
    }
    Ok(Prepared {
        reason,
        route,
        caller: permit.into_caller(),
        set: edits.set,
        remove: edits.remove,
        remove_query: shown.query_parameter.clone(),
        response: pinned.response().to_vec(),
    })
}

/// Whether the assertion's header is a credential's place on a request whose credentials are none of our business. What stands
/// there is then the client's word, signed or not, and upstreams that trust the header verify its signature.
fn passes_credentials(assertion: &Assertion, route: &Route, reason: Reason, rules: &Rules) -> bool {
    let untouched = route.auth == Auth::Public || reason == Reason::Preflight;
    untouched && rules.places.iter().any(|place| place.header.eq_ignore_ascii_case(&assertion.header))
}
