//! The last room that can fail: identity values validated and encoded, the upstream assertion at hand.

use std::borrow::Cow;
use std::sync::Arc;

use crate::check::reasons::Reason;
use crate::model::caller::Caller;
use crate::model::route::Route;

/// Everything that the answer will carry but the limits' levels.
#[derive(Debug)]
pub struct Prepared<'r> {
    pub(in crate::check) reason: Reason,
    pub(in crate::check) route: &'r Route,
    pub(in crate::check) caller: Option<Arc<Caller>>,
    pub(in crate::check) set: Vec<(Arc<str>, Cow<'r, str>)>,
    pub(in crate::check) remove: Vec<Arc<str>>,
    pub(in crate::check) remove_query: Option<Arc<str>>,
    pub(in crate::check) response: Vec<(&'static str, String)>,
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
}
