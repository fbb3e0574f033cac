//! Placeholder until the real room arrives.

use std::net::IpAddr;

use crate::check::decide::Denial;
use crate::check::take_credential::Shown;
use crate::model::rules::GuardLimits;
use crate::model::time::Timestamp;

#[derive(Debug, Default)]
pub struct Guard;

impl Guard {
    pub fn judge(&self, _shown: &Shown<'_>, _client: Option<IpAddr>, _limits: &GuardLimits, _now: Timestamp) -> Result<(), Denial> {
        Ok(())
    }

    pub fn record_failure(&self, _shown: &Shown<'_>, _client: Option<IpAddr>, _limits: &GuardLimits, _now: Timestamp) {}

    pub fn record_proven(&self, _shown: &Shown<'_>) {}
}
