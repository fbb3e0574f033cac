//! Which of many are due when only a share of them is wanted. Exact over time, not random.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// What was due so far: fixed point, 32 bits of fraction. One is due whenever the sum passes a whole.
#[derive(Debug, Default)]
pub struct Due(AtomicU64);

impl Due {
    /// Whether the next one is due under this share (0.0 to 1.0).
    pub fn is_next(&self, share: f64) -> bool {
        const WHOLE: u64 = 1 << 32;
        if share <= 0.0 {
            return false;
        }
        if share >= 1.0 {
            return true;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "0 < share < 1")]
        let step = (share * WHOLE as f64) as u64;
        let before = self.0.fetch_add(step, Ordering::Relaxed);
        (before % WHOLE) + step >= WHOLE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_exact() {
        for (share, expected) in [(-1.0, 0), (0.0, 0), (0.25, 250), (0.1, 100), (1.0, 1000), (f64::NAN, 0)] {
            let due = Due::default();
            let count = (0..1000).filter(|_| due.is_next(share)).count();
            assert!(count.abs_diff(expected) <= 1, "{share}: {count}");
        }
    }
}
