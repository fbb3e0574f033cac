//! A request at one of the OAuth endpoints, and who may guess how often.

use std::net::IpAddr;

use aws_lc_rs::digest;
use axum::body::Body;
use axum::extract::Request;
use axum::http::HeaderMap;
use zeroize::Zeroizing;

use crate::check::decide::Particulars;
use crate::check::take_credential::Credential;
use crate::check::take_credential::Shown;
use crate::issuer::IssuerState;
use crate::issuer::callers::client_address;
use crate::model::hex::push_hex;
use crate::model::rules::GuardLimits;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;

/// What of a request the endpoints look at.
#[derive(Debug)]
pub(in crate::issuer) struct Asked {
    pub(in crate::issuer) headers: HeaderMap,
    pub(in crate::issuer) query: Option<String>,
    /// The client's, behind the proxies that the rules trust.
    pub(in crate::issuer) address: Option<IpAddr>,
}

impl Asked {
    /// The body comes apart: it can be read once.
    pub(in crate::issuer) fn new(request: Request, rules: &Rules) -> (Self, Body) {
        let (parts, body) = request.into_parts();
        let address = client_address(&parts, rules);
        (Self { query: parts.uri.query().map(str::to_owned), address, headers: parts.headers }, body)
    }
}

/// One attempt at something that may be guessed: of a kind, at somebody's, with a secret. Only hashes of it are kept.
pub(in crate::issuer) struct Attempt(Zeroizing<String>);

impl Attempt {
    pub(in crate::issuer) fn new(kind: &str, whose: &str, secret: &str) -> Self {
        let mut named = digest::Context::new(&digest::SHA256);
        named.update(kind.as_bytes());
        named.update(&[0]);
        named.update(whose.as_bytes());
        // The guard counts together what begins alike: sixteen digits stand for whose it is.
        let mut text = Zeroizing::new(String::with_capacity(64 + secret.len()));
        push_hex(&mut text, named.finish().as_ref());
        text.truncate(16);
        text.push(':');
        text.push_str(secret);
        Self(text)
    }

    fn shown(&self) -> Shown<'_> {
        Shown { credential: Credential::Opaque(&self.0), paired_key: None, headers: Vec::new(), query_parameter: None }
    }

    /// In how many seconds it may be made; none: now.
    pub(in crate::issuer) fn wait(
        &self,
        state: &IssuerState,
        address: Option<IpAddr>,
        limits: &GuardLimits,
        now: Timestamp,
    ) -> Option<u32> {
        match state.gate.guard.judge(&self.shown(), address, limits, now) {
            Ok(()) => None,
            Err(denial) => Some(if let Particulars::RetryAfter(seconds) = denial.particulars { seconds } else { 1 }),
        }
    }

    /// It failed.
    pub(in crate::issuer) fn failed(&self, state: &IssuerState, address: Option<IpAddr>, limits: &GuardLimits, now: Timestamp) {
        state.gate.guard.record_failure(&self.shown(), address, limits, now);
    }

    /// It was right: whatever else comes from its address, it passes.
    pub(in crate::issuer) fn succeeded(&self, state: &IssuerState) {
        state.gate.guard.record_proven(&self.shown());
    }
}
