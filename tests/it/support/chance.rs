//! Choices that look random and are the same for the same seed.

use std::hash::BuildHasher;
use std::hash::RandomState;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Chance {
    state: u64,
    pub seed: u64,
}

impl Chance {
    /// From `TOLLGATE_TEST_SEED`, else from a seed of its own, which a test prints.
    pub fn new() -> Self {
        let given = std::env::var("TOLLGATE_TEST_SEED").ok().map(|seed| seed.parse().expect("TOLLGATE_TEST_SEED is a number"));
        let seed = given.unwrap_or_else(|| RandomState::new().hash_one(std::process::id()) >> 32);
        Self { state: seed, seed }
    }

    /// One of so many.
    pub fn below(&mut self, count: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % count
    }

    pub fn index(&mut self, count: usize) -> usize {
        usize::try_from(self.below(u64::try_from(count).expect("small"))).expect("small")
    }

    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = u64::try_from((most - least).as_micros()).expect("small").max(1);
        least + Duration::from_micros(self.below(span))
    }
}
