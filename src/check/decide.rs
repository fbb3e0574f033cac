//! The closed list of ways in which a request can end. An allow is a [`Grant`], and only the corridor's last step makes one.

use std::borrow::Cow;
use std::sync::Arc;

use crate::check::meter::Counted;
use crate::check::prepare::Prepared;
use crate::check::reasons::Reason;
use crate::check::throttle::Admission;
use crate::model::request::Method;

/// An allow, with everything that the answer needs. Its fields are what earlier rooms yielded.
#[derive(Debug)]
pub struct Grant<'r> {
    reason: Reason,
    prepared: Prepared<'r>,
    admission: Admission,
    #[expect(dead_code, reason = "held as the proof that the request was counted")]
    counted: Counted,
}

impl<'r> Grant<'r> {
    pub fn reason(&self) -> Reason {
        self.reason
    }

    pub fn prepared(&self) -> &Prepared<'r> {
        &self.prepared
    }

    pub fn admission(&self) -> &Admission {
        &self.admission
    }
}

/// The last step: prepared, admitted and counted make an allow.
pub(in crate::check) fn decide(prepared: Prepared<'_>, admission: Admission, counted: Counted) -> Grant<'_> {
    Grant { reason: prepared.reason(), prepared, admission, counted }
}

/// An answer, and it is no. Envoy's failure mode never applies to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Denial {
    /// A row of kind denial.
    pub reason: Reason,
    pub particulars: Particulars,
    /// For the log, never for the client.
    pub internal: Option<Cow<'static, str>>,
}

/// What a denial says beyond its row.
#[derive(Clone, Debug, PartialEq)]
pub enum Particulars {
    None,
    /// The field that was wrong and what was expected.
    Field {
        field: &'static str,
        issue: Cow<'static, str>,
    },
    /// `Allow`, sorted.
    Methods(Vec<Method>),
    /// The scopes wanted, space-separated.
    Scopes(String),
    /// The versions there are.
    Versions(Vec<Arc<str>>),
    /// The value of `Link`: where the retired version and its successor are documented.
    Link(String),
    /// `Retry-After`, whole seconds, at least 1.
    RetryAfter(u32),
    /// A refusal by limits, with the levels for the headers.
    Limits(Box<Admission>),
}

impl Denial {
    pub fn new(reason: Reason) -> Self {
        Self { reason, particulars: Particulars::None, internal: None }
    }

    pub fn with(reason: Reason, particulars: Particulars) -> Self {
        Self { reason, particulars, internal: None }
    }

    #[must_use]
    pub fn because(mut self, internal: impl Into<Cow<'static, str>>) -> Self {
        self.internal = Some(internal.into());
        self
    }
}

/// No answer: Envoy's failure mode applies.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// A row of kind fault.
    pub reason: Reason,
    /// For the log, never for the client.
    pub internal: Cow<'static, str>,
}

impl Fault {
    pub fn new(reason: Reason, internal: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, internal: internal.into() }
    }
}

/// The two ways out of the corridor before its end; parted again at its foot.
#[derive(Clone, Debug, PartialEq)]
pub enum Exit {
    Denied(Denial),
    Failed(Fault),
}

impl From<Denial> for Exit {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

impl From<Fault> for Exit {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault)
    }
}
