//! One slot of 64 bytes, which is one cache line: who it counts for, and the count.
//!
//! ```text
//! word 0  state (16 bits) | kind (8) | outcome and flags (8) | CRC-32 of kind, flags and words 1 to 4
//! word 1  counts: hour | user        buckets: fingerprint, low half
//! word 2  counts: key | route        buckets: fingerprint, high half
//! word 3  birth: unlike that of any other slot that this ledger ever filled
//! word 4  generation: how often this place was filled
//! word 5  counts: the count, guarded buckets: the bucket's state
//! word 6  counts: what the history has of it, guarded
//! word 7  counts: Unix second of the last use
//! ```
//!
//! A slot is filled first and published last, by the one store of word 0. A *guarded* number is `number * 2039 + residue`,
//! where the residue follows from the generation: still one atomic step to add to, yet any one or two flipped bits show, and
//! so does a writer that was held up while its slot passed to somebody else.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::atomic::fence;

use crate::model::time::Hour;
use crate::model::usage::Outcome;
use crate::model::usage::RouteText;

/// Words in a slot.
pub(super) const SLOT_WORDS: usize = 8;

/// Where every count stops: what any reader can still hold exactly.
pub(super) const COUNT_MAX: u64 = (1 << 53) - 1;

/// The word of a slot that takes nothing any more. No guarded number and no unlocked bucket state looks so.
pub(super) const RETIRED: u64 = u64::MAX;

/// A prime below 2048, so that 53 bits of count still fit; two is of order 1019 by it, so no two flips cancel out.
const GUARD: u64 = 2039;

const HEAD: usize = 0;
const FIRST: usize = 1;
const SECOND: usize = 2;
const BIRTH: usize = 3;
const GENERATION: usize = 4;
const VALUE: usize = 5;
const KEPT: usize = 6;
const USED: usize = 7;

// Far apart, so that no few flipped bits turn one into another; zero is a place never used.
const PUBLISHED: u16 = 0x5AA5;
const FREE: u16 = 0xA53C;
const QUARANTINED: u16 = 0x3CC3;

const KIND_COUNT: u8 = 1;
const KIND_BUCKET: u8 = 2;
const FLAG_PATH_TEXT: u8 = 0x80;

/// A view of one slot in the mapped file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot<'a>(pub(super) &'a [AtomicU64; SLOT_WORDS]);

/// What a slot is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    Count(CountIdentity),
    Bucket(u128),
}

/// A counter's line, by the dictionary's ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CountIdentity {
    pub(super) hour: Hour,
    pub(super) user: u32,
    /// Zero: no key.
    pub(super) key: u32,
    pub(super) route: u32,
    pub(super) route_text: RouteText,
    pub(super) outcome: Outcome,
}

/// What recovery found in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Never used, or wiped.
    Blank,
    /// Free to be filled; it was filled this often before.
    Free,
    Quarantined,
    Filled(Filled),
    Damaged(&'static str),
}

/// A published slot whose identity is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Filled {
    pub(super) identity: Identity,
    pub(super) birth: u64,
    pub(super) generation: u32,
}

/// What became of an addition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Added {
    Done,
    /// Added up to the greatest count that there is.
    Saturated,
    /// The slot was retired, or filled for somebody else, since it was looked up.
    Gone,
}

#[expect(clippy::indexing_slicing, reason = "the indices are the constants of this file, all below the slot's length")]
impl Slot<'_> {
    /// Looks at a slot and says what it is. The count is not looked at.
    pub(super) fn inspect(self) -> Found {
        let head = self.0[HEAD].load(Ordering::Acquire);
        let [state_low, state_high, kind, flags, crc @ ..] = head.to_le_bytes();
        let body = [FIRST, SECOND, BIRTH, GENERATION].map(|index| self.0[index].load(Ordering::Acquire));
        match u16::from_le_bytes([state_low, state_high]) {
            PUBLISHED => {}
            FREE => return Found::Free,
            QUARANTINED => return Found::Quarantined,
            0 if head == 0 => return Found::Blank,
            _ => return Found::Damaged("its state is none that there is"),
        }
        if checksum(kind, flags, body) != u32::from_le_bytes(crc) {
            return Found::Damaged("its identity does not match its checksum");
        }
        // A slot that was freed and filled again meanwhile has another head: the checksum covers the birth.
        fence(Ordering::Acquire);
        if self.0[HEAD].load(Ordering::Relaxed) != head {
            return Found::Free;
        }
        let [first, second, birth, generation] = body;
        let Ok(generation) = u32::try_from(generation) else { return Found::Damaged("its generation is too great") };
        let identity = match kind {
            KIND_COUNT => {
                let Some(outcome) = outcome_of(flags & !FLAG_PATH_TEXT) else { return Found::Damaged("its outcome is none that there is") };
                Identity::Count(CountIdentity {
                    hour: Hour(low_half(first)),
                    user: high_half(first),
                    key: low_half(second),
                    route: high_half(second),
                    route_text: if flags & FLAG_PATH_TEXT == 0 { RouteText::Name } else { RouteText::Path },
                    outcome,
                })
            }
            KIND_BUCKET => Identity::Bucket(u128::from(first) | (u128::from(second) << 64)),
            _ => return Found::Damaged("its kind is none that there is"),
        };
        Found::Filled(Filled { identity, birth, generation })
    }

    /// How often this place was filled.
    pub(super) fn generation(self) -> u32 {
        low_half(self.0[GENERATION].load(Ordering::Acquire))
    }

    /// Fills the slot and publishes it. Only the holder of the creation lock may call this, on a slot that is free.
    pub(super) fn publish(self, identity: Identity, birth: u64, generation: u32, value: u64) {
        let (kind, flags, first, second) = match identity {
            Identity::Count(line) => {
                let text = match line.route_text {
                    RouteText::Name => 0,
                    RouteText::Path => FLAG_PATH_TEXT,
                };
                (KIND_COUNT, outcome_code(line.outcome) | text, halves(line.hour.0, line.user), halves(line.key, line.route))
            }
            Identity::Bucket(digest) => (KIND_BUCKET, 0, digest as u64, (digest >> 64) as u64),
        };
        let body = [first, second, birth, u64::from(generation)];
        for (index, word) in [FIRST, SECOND, BIRTH, GENERATION].into_iter().zip(body) {
            self.0[index].store(word, Ordering::Relaxed);
        }
        self.0[VALUE].store(value, Ordering::Relaxed);
        self.0[KEPT].store(guarded(0, generation), Ordering::Relaxed);
        self.0[USED].store(0, Ordering::Relaxed);
        let [state_low, state_high] = PUBLISHED.to_le_bytes();
        let [a, b, c, d] = checksum(kind, flags, body).to_le_bytes();
        self.0[HEAD].store(u64::from_le_bytes([state_low, state_high, kind, flags, a, b, c, d]), Ordering::Release);
    }

    /// Gives the slot's place back. Its value must have been retired before.
    pub(super) fn free(self) {
        self.0[HEAD].store(u64::from(FREE), Ordering::Release);
    }

    /// Sets a damaged slot aside, with all its bytes but the state, and never to be filled again.
    pub(super) fn quarantine(self) {
        let [_, _, rest @ ..] = self.0[HEAD].load(Ordering::Acquire).to_le_bytes();
        let [a, b, c, d, e, f] = rest;
        let [state_low, state_high] = QUARANTINED.to_le_bytes();
        self.0[HEAD].store(u64::from_le_bytes([state_low, state_high, a, b, c, d, e, f]), Ordering::Release);
    }

    /// Adds to the count, if the slot is still of this generation.
    pub(super) fn add(self, cost: u32, generation: u32) -> Added {
        let mut word = self.0[VALUE].load(Ordering::Relaxed);
        loop {
            let Some(count) = unguarded(word, generation) else { return Added::Gone };
            let sum = count.saturating_add(u64::from(cost));
            let next = guarded(sum.min(COUNT_MAX), generation);
            match self.0[VALUE].compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) if sum > COUNT_MAX => return Added::Saturated,
                Ok(_) => return Added::Done,
                Err(seen) => word = seen,
            }
        }
    }

    /// The count, or nothing when the slot is not of this generation any more or its count is damaged.
    pub(super) fn count(self, generation: u32) -> Option<u64> {
        unguarded(self.0[VALUE].load(Ordering::Acquire), generation)
    }

    /// Ends the count at exactly `count`; false when it has moved on.
    pub(super) fn retire_count(self, count: u64, generation: u32) -> bool {
        self.retire_value(guarded(count, generation))
    }

    /// Ends a bucket (or a count, by its word) at exactly this value; false when it has moved on.
    pub(super) fn retire_value(self, value: u64) -> bool {
        self.0[VALUE].compare_exchange(value, RETIRED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    pub(super) fn is_retired(self) -> bool {
        self.0[VALUE].load(Ordering::Acquire) == RETIRED
    }

    /// Lifts a count that is behind what the history proves.
    pub(super) fn raise(self, count: u64, generation: u32) {
        self.0[VALUE].store(guarded(count.min(COUNT_MAX), generation), Ordering::Release);
    }

    /// What the history has of the count; nothing when that number is damaged.
    pub(super) fn kept(self, generation: u32) -> Option<u64> {
        unguarded(self.0[KEPT].load(Ordering::Acquire), generation)
    }

    pub(super) fn set_kept(self, count: u64, generation: u32) {
        self.0[KEPT].store(guarded(count, generation), Ordering::Release);
    }

    /// Unix second of the last use; zero: none yet.
    pub(super) fn used(self) -> u64 {
        self.0[USED].load(Ordering::Relaxed)
    }

    /// Notes the use, with a store only when the second has changed.
    pub(super) fn touch(self, second: u64) {
        if self.0[USED].load(Ordering::Relaxed) != second {
            self.0[USED].store(second, Ordering::Relaxed);
        }
    }

    /// A bucket's state.
    pub(super) fn value(&self) -> &AtomicU64 {
        &self.0[VALUE]
    }
}

/// The value word of a new counter.
pub(super) fn guarded(number: u64, generation: u32) -> u64 {
    number * GUARD + residue(generation)
}

/// The number inside a guarded word; nothing when it is another generation's, retired or damaged.
pub(super) fn unguarded(word: u64, generation: u32) -> Option<u64> {
    let number = word / GUARD;
    (word % GUARD == residue(generation) && number <= COUNT_MAX).then_some(number)
}

/// Never zero, so that a wiped word shows.
fn residue(generation: u32) -> u64 {
    u64::from(generation) % (GUARD - 1) + 1
}

fn checksum(kind: u8, flags: u8, body: [u64; 4]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind, flags]);
    for word in body {
        hasher.update(&word.to_le_bytes());
    }
    hasher.finalize()
}

const fn outcome_code(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Allowed => 1,
        Outcome::Limited => 2,
        Outcome::Refused => 3,
        Outcome::Answered1xx => 4,
        Outcome::Answered2xx => 5,
        Outcome::Answered3xx => 6,
        Outcome::Answered4xx => 7,
        Outcome::Answered5xx => 8,
        Outcome::Unanswered => 9,
    }
}

fn outcome_of(code: u8) -> Option<Outcome> {
    Outcome::ALL.into_iter().find(|&outcome| outcome_code(outcome) == code)
}

fn halves(low: u32, high: u32) -> u64 {
    u64::from(low) | (u64::from(high) << 32)
}

fn low_half(word: u64) -> u32 {
    (word & u64::from(u32::MAX)) as u32
}

fn high_half(word: u64) -> u32 {
    (word >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blank() -> [AtomicU64; SLOT_WORDS] {
        std::array::from_fn(|_| AtomicU64::new(0))
    }

    fn line() -> Identity {
        Identity::Count(CountIdentity {
            hour: Hour(491_000),
            user: 7,
            key: 0,
            route: 9,
            route_text: RouteText::Path,
            outcome: Outcome::Limited,
        })
    }

    #[test]
    fn what_is_published_is_found() {
        for identity in [line(), Identity::Bucket(u128::MAX - 5)] {
            let words = blank();
            let slot = Slot(&words);
            assert_eq!(slot.inspect(), Found::Blank);
            slot.publish(identity, 11, 3, guarded(0, 3));
            assert_eq!(slot.inspect(), Found::Filled(Filled { identity, birth: 11, generation: 3 }));
            slot.quarantine();
            assert_eq!(slot.inspect(), Found::Quarantined);
            slot.free();
            assert_eq!(slot.inspect(), Found::Free);
        }
    }

    // battery: X10
    #[test]
    fn every_flip_of_one_or_two_bits_shows() {
        let words = blank();
        let slot = Slot(&words);
        slot.publish(line(), 11, 3, guarded(0, 3));
        slot.add(123_456, 3);
        let whole = slot.inspect();
        for word in [HEAD, FIRST, SECOND, BIRTH, GENERATION, VALUE] {
            for one in 0..64 {
                for two in one..64 {
                    let flips = (1_u64 << one) | (1 << two);
                    words[word].fetch_xor(flips, Ordering::Relaxed);
                    let unseen = slot.inspect() == whole && slot.count(3).is_some();
                    words[word].fetch_xor(flips, Ordering::Relaxed);
                    assert!(!unseen, "word {word}, bits {one} and {two}");
                }
            }
            let kept = words[word].swap(0, Ordering::Relaxed);
            assert!(slot.inspect() != whole || slot.count(3).is_none(), "word {word} wiped");
            words[word].store(kept, Ordering::Relaxed);
        }
        assert_eq!(slot.count(3), Some(123_456));
    }

    #[test]
    fn counts_stop_at_the_greatest_exact_number() {
        let words = blank();
        let slot = Slot(&words);
        slot.publish(line(), 1, 9, guarded(COUNT_MAX - 1, 9));
        assert_eq!(slot.add(1, 9), Added::Done);
        assert_eq!(slot.add(u32::MAX, 9), Added::Saturated);
        assert_eq!(slot.add(1, 9), Added::Saturated);
        assert_eq!(slot.count(9), Some(COUNT_MAX));
    }

    #[test]
    fn a_writer_held_up_never_adds_to_the_next_owner() {
        let words = blank();
        let slot = Slot(&words);
        slot.publish(line(), 1, 9, guarded(0, 9));
        assert_eq!(slot.add(5, 9), Added::Done);
        assert!(!slot.retire_count(4, 9), "moved on");
        assert!(slot.retire_count(5, 9));
        assert_eq!(slot.add(1, 9), Added::Gone);
        slot.free();
        slot.publish(line(), 2, 10, guarded(0, 10));
        assert_eq!(slot.add(1, 9), Added::Gone);
        assert_eq!(slot.count(10), Some(0));
    }
}
