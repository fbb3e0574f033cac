//! When to leave a connection alone, and how long to wait before the next one.

use std::time::Duration;

/// So many failures in a row open the breaker.
pub(super) const STRIKES: u32 = 3;
/// The first pause after a failed attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A connection that lived for so long had been in order; the next attempt need not wait.
const STEADY: Duration = Duration::from_secs(2);

/// The pauses between attempts: they double, and jitter keeps many sidecars from coming back in step.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    /// One short life is forgiven between two steady ones.
    is_forgiven: bool,
}

impl Backoff {
    /// A connection ended after it had lived for so long.
    pub(super) fn ended(&mut self, life: Duration) {
        if life >= STEADY {
            *self = Self::default();
        } else if self.is_forgiven {
            self.failures = self.failures.saturating_add(1);
        } else {
            self.is_forgiven = true;
        }
    }

    /// An attempt failed.
    pub(super) fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// How long to wait before the next attempt; `chance` is from 0 to 255.
    pub(super) fn pause(&self, chance: u8) -> Duration {
        if self.failures == 0 {
            return Duration::ZERO;
        }
        let doublings = (self.failures - 1).min(8);
        let whole = FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE);
        whole / 2 + whole / 2 * u32::from(chance) / 255
    }
}

/// A random byte, for jitter.
pub(super) fn chance() -> u8 {
    let mut byte = [0];
    // Without randomness all wait equally long, which is no harm to a single sidecar.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    byte.first().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_attempt_after_a_steady_life_is_at_once_and_later_ones_wait_up_to_two_seconds() {
        let mut backoff = Backoff::default();
        backoff.ended(STEADY);
        assert_eq!(backoff.pause(255), Duration::ZERO);
        let mut pauses = Vec::new();
        for _ in 0..6 {
            backoff.failed();
            pauses.push((backoff.pause(0).as_millis(), backoff.pause(255).as_millis()));
        }
        assert_eq!(pauses, [(125, 250), (250, 500), (500, 1_000), (1_000, 2_000), (1_000, 2_000), (1_000, 2_000)]);
    }

    #[test]
    fn a_connection_that_flaps_does_not_make_attempts_come_faster() {
        let mut backoff = Backoff::default();
        backoff.ended(Duration::from_millis(900));
        assert_eq!(backoff.pause(255), Duration::ZERO);
        for _ in 0..4 {
            backoff.ended(Duration::from_millis(900));
        }
        assert_eq!(backoff.pause(255), LONGEST_PAUSE);
    }
}
