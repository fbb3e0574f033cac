//! The last room that can fail: identity values validated and encoded, the upstream assertion at hand.
//!
//! A client can never choose what an upstream reads as its identity: every identity header is either overwritten or removed.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::check::authorise::Permit;
use crate::check::decide::Denial;
use crate::check::pin_version::Pinned;
use crate::check::reasons::Reason;
use crate::check::take_credential::Shown;
use crate::jose::Assertions;
use crate::model::caller::Caller;
use crate::model::route::Auth;
use crate::model::route::CredentialUpstream;
use crate::model::route::Route;
use crate::model::rules::Assertion;
use crate::model::rules::IdentityPart;
use crate::model::rules::IdentityValue;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;

/// The longest identity header, in bytes.
const VALUE_LIMIT_BYTES: usize = 1024;

/// The longest user id or subject in a header, in bytes.
const USER_LIMIT_BYTES: usize = 128;

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
/// [`Reason::UnusableIdentity`] when a value cannot stand in a header, [`Reason::Internal`] when the assertion cannot be signed.
pub fn prepare<'r>(
    permit: Permit<'r>,
    pinned: Pinned,
    shown: &Shown<'_>,
    rules: &'r Rules,
    assertions: &Assertions,
    now: Timestamp,
) -> Result<Prepared<'r>, Denial> {
    let signed = match (&rules.assertion, permit.caller()) {
        (Some(assertion), Some(caller)) => match assertions.sign_for(assertion, caller, now) {
            Ok(token) => Some(token),
            Err(error) => return Err(Denial::new(Reason::Internal).because(error.to_string())),
        },
        (Some(_), None) | (None, _) => None,
    };
    compose(permit, pinned, shown, rules, signed.as_deref())
}

fn compose<'r>(
    permit: Permit<'r>,
    pinned: Pinned,
    shown: &Shown<'_>,
    rules: &'r Rules,
    signed: Option<&str>,
) -> Result<Prepared<'r>, Denial> {
    let (reason, route) = (permit.reason(), permit.route());
    let mut edits = Edits::default();
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

/// What happens to the request's headers. A name stands in one list, once; setting it outweighs removing it, because setting
/// overwrites whatever came.
#[derive(Default)]
struct Edits<'r> {
    set: Vec<(Arc<str>, Cow<'r, str>)>,
    remove: Vec<Arc<str>>,
}

impl<'r> Edits<'r> {
    fn set(&mut self, name: &Arc<str>, value: Cow<'r, str>) {
        self.remove.retain(|removed| !removed.eq_ignore_ascii_case(name));
        match self.set.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            Some((_, known)) => *known = value,
            None => self.set.push((Arc::clone(name), value)),
        }
    }

    fn remove(&mut self, name: &Arc<str>) {
        let known = self.set.iter().map(|(name, _)| name).chain(&self.remove).any(|known| known.eq_ignore_ascii_case(name));
        if !known {
            self.remove.push(Arc::clone(name));
        }
    }
}

/// Whether the assertion's header is a credential's place on a request whose credentials are none of our business. What stands
/// there is then the client's word, signed or not, and upstreams that trust the header verify its signature.
fn passes_credentials(assertion: &Assertion, route: &Route, reason: Reason, rules: &Rules) -> bool {
    let untouched = route.auth == Auth::Public || reason == Reason::Preflight;
    untouched && rules.places.iter().any(|place| place.header.eq_ignore_ascii_case(&assertion.header))
}

/// The header's value; none when one of its parts is unknown or empty.
fn fill<'r>(parts: &'r [IdentityPart], caller: &Caller) -> Result<Option<Cow<'r, str>>, Denial> {
    let mut text = String::new();
    for part in parts {
        match part {
            IdentityPart::Text(fixed) => append(&mut text, format_args!("{fixed}")),
            IdentityPart::Of(value) => {
                let before = text.len();
                write_value(&mut text, *value, caller);
                match text.get(before..) {
                    Some("") | None => return Ok(None),
                    Some(written) => vet(written, *value)?,
                }
            }
        }
    }
    let shown = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    if text.len() > VALUE_LIMIT_BYTES || !text.bytes().all(shown) {
        return Err(unusable("an identity header is too long or not visible ASCII"));
    }
    if text.is_empty() { Ok(None) } else { Ok(Some(Cow::Owned(text))) }
}

fn write_value(text: &mut String, value: IdentityValue, caller: &Caller) {
    let mut known = |value: Option<&str>| text.push_str(value.unwrap_or_default());
    match value {
        IdentityValue::User => known(Some(caller.user.as_str())),
        IdentityValue::Subject => known(Some(caller.subject.as_str())),
        IdentityValue::Source => known(Some(caller.source.as_str())),
        IdentityValue::Issuer => known(Some(caller.issuer.as_deref().unwrap_or(caller.source.as_str()))),
        IdentityValue::Organization => known(caller.organization.as_deref()),
        IdentityValue::Key => known(caller.key.as_ref().map(|key| key.as_str())),
        IdentityValue::Client => known(caller.client.as_deref()),
        IdentityValue::Scopes => append(text, format_args!("{}", caller.scopes)),
        IdentityValue::Tier => known(caller.tier.as_deref()),
        IdentityValue::Environment => known(Some(caller.environment.as_str())),
    }
}

/// Values come from records and tokens, so they are judged again at the last place where a bad one can be stopped.
fn vet(value: &str, kind: IdentityValue) -> Result<(), Denial> {
    let (limit_bytes, spaces) = match kind {
        IdentityValue::User | IdentityValue::Subject => (USER_LIMIT_BYTES, false),
        IdentityValue::Scopes => (VALUE_LIMIT_BYTES, true),
        IdentityValue::Source
        | IdentityValue::Issuer
        | IdentityValue::Organization
        | IdentityValue::Key
        | IdentityValue::Client
        | IdentityValue::Tier
        | IdentityValue::Environment => (VALUE_LIMIT_BYTES, false),
    };
    let fits = |byte: u8| byte.is_ascii_graphic() || (spaces && byte == b' ');
    if value.len() <= limit_bytes && value.bytes().all(fits) {
        return Ok(());
    }
    Err(unusable("an identity value is too long or not visible ASCII"))
}

fn append(text: &mut String, piece: fmt::Arguments<'_>) {
    // Writing to a string cannot fail; were that to change, the missing text would be refused as unusable.
    if fmt::Write::write_fmt(text, piece).is_err() {
        text.push('\u{fffd}');
    }
}

fn unusable(why: &'static str) -> Denial {
    Denial::new(Reason::UnusableIdentity).because(why)
}
