//! How a cache fared. Counted where checks run, so by relaxed atomics; read when somebody asks for metrics.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// Look-ups of one cache since the process began.
#[derive(Debug, Default)]
pub struct Lookups {
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Lookups {
    /// Answered from the cache.
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// Worked out anew: unknown, stale, or resting on keys or rules that have changed.
    pub fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }

    pub(in crate::jose) fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    pub(in crate::jose) fn missed(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }
}
