//! What the limiter did, in numbers.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// Totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketStatus {
    /// Calls that brought requests in advance.
    pub leases: u64,
    /// Requests that they brought.
    pub leased: u64,
    /// Requests that were paid for and that nobody asked for in time: the limit was kept too strictly by as many.
    pub lapsed: u64,
    /// Refusals that no server was asked about.
    pub remembered_refusals: u64,
    /// Calls that asked for what was needed at that moment.
    pub exact_calls: u64,
    /// Questions that got no answer.
    pub failures: u64,
}

/// The counters behind a [`BucketStatus`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub leases: AtomicU64,
    pub leased: AtomicU64,
    pub lapsed: AtomicU64,
    pub remembered_refusals: AtomicU64,
    pub exact_calls: AtomicU64,
    pub failures: AtomicU64,
}

impl Counters {
    pub(super) fn read(&self) -> BucketStatus {
        BucketStatus {
            leases: self.leases.load(Ordering::Relaxed),
            leased: self.leased.load(Ordering::Relaxed),
            lapsed: self.lapsed.load(Ordering::Relaxed),
            remembered_refusals: self.remembered_refusals.load(Ordering::Relaxed),
            exact_calls: self.exact_calls.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
        }
    }
}

pub(super) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}
