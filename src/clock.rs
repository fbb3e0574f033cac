//! The only place that asks for the time. Everything else is told.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use crate::model::time::Timestamp;

/// What the running program asks for the time; tests hand in a [`ManualClock`].
pub trait Clock: Send + Sync + std::fmt::Debug + 'static {
    fn now(&self) -> Timestamp;
}

/// The machine's wall clock, in UTC.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that may ask")]
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_nanos(u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// The machine's monotonic clock, for leases and other lengths of time: no step of the wall clock moves it. Tokio's, so that tests
/// without sockets can pause it.
#[expect(clippy::disallowed_methods, reason = "the one place that may ask")]
pub fn monotonic() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    pub fn starting_at(instant: Timestamp) -> Self {
        Self(AtomicU64::new(instant.as_nanos()))
    }

    pub fn advance(&self, by: Duration) {
        self.set(self.now().plus(by));
    }

    pub fn set(&self, instant: Timestamp) {
        self.0.store(instant.as_nanos(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.load(Ordering::SeqCst))
    }
}
