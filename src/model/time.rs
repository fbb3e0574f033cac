//! One instant type, one unit: nanoseconds since the Unix epoch (UTC).

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

/// A point in time, in nanoseconds since the Unix epoch. Reaches to the year 2554; arithmetic saturates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(u64);

/// Hours since the Unix epoch: the usage ledger's period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hour(pub u32);

const NANOS_PER_SECOND: u64 = 1_000_000_000;

impl Timestamp {
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    pub const fn from_unix_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(NANOS_PER_SECOND))
    }

    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole seconds, rounded down.
    pub const fn unix_seconds(self) -> u64 {
        self.0 / NANOS_PER_SECOND
    }

    pub const fn hour(self) -> Hour {
        // 2554 is hour 5.1 million: it fits.
        Hour((self.0 / NANOS_PER_SECOND / 3600) as u32)
    }

    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// Time passed since `earlier`; zero when `earlier` lies ahead.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Hour {
    pub const fn start(self) -> Timestamp {
        Timestamp::from_unix_seconds(self.0 as u64 * 3600)
    }
}
