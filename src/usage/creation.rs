//! Beginning a slot, and making room for it: the rare, locked half of the ledger.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::model::time::Hour;
use crate::model::time::Timestamp;
use crate::model::usage::Line;
use crate::model::usage::RouteText;
use crate::usage::dictionary::NameKind;
use crate::usage::error::LedgerError;
use crate::usage::ledger::Creation;
use crate::usage::ledger::Ledger;
use crate::usage::ledger::Place;
use crate::usage::ledger::SEGMENTS_MAX;
use crate::usage::segment::Segment;
use crate::usage::slot;
use crate::usage::slot::CountIdentity;
use crate::usage::slot::Found;
use crate::usage::slot::Identity;

/// How many texts made of paths are kept apart for one user in one hour.
const PATH_TEXTS_MAX: u32 = 256;
/// A longer text made of a path is counted as [`OTHER`].
const PATH_TEXT_BYTES_MAX: usize = 256;
/// Where the rest is counted.
pub(super) const OTHER: &str = "other";
/// How many slots one look for idle buckets goes through while a request waits.
const SWEEP_INLINE_SLOTS: u32 = 4096;
/// A bucket that has been full for this long may give its place to another.
const BUCKET_IDLE: Duration = Duration::from_secs(60);

impl Ledger {
    /// Finds or makes the slot of a line that has none under its own name.
    pub(super) fn begin_count(&self, asked: &Line<'_>, digest: u128) -> Result<(u128, Place), LedgerError> {
        let mut line = *asked;
        let mut digest = digest;
        if self.is_one_of_too_many(&line) {
            self.meters.overflowed.fetch_add(1, Ordering::Relaxed);
            line.route = OTHER;
            digest = self.line_digest(&line);
            if let Some(place) = self.counts.pin().get(&digest) {
                return Ok((digest, *place));
            }
        }
        loop {
            let mut creation = self.lock_creation();
            if let Some(place) = self.counts.pin().get(&digest) {
                return Ok((digest, *place));
            }
            if line.route_text == RouteText::Path && line.route != OTHER && !self.admit_path_text(&mut creation, &line) {
                self.meters.overflowed.fetch_add(1, Ordering::Relaxed);
                line.route = OTHER;
                digest = self.line_digest(&line);
                continue;
            }
            let identity = Identity::Count(CountIdentity {
                hour: line.hour,
                user: self.number(&mut creation, NameKind::User, line.user.as_str())?,
                key: match line.key {
                    Some(key) => self.number(&mut creation, NameKind::Key, key.as_str())?,
                    None => 0,
                },
                route: self.number(&mut creation, NameKind::Route, line.route)?,
                route_text: line.route_text,
                outcome: line.outcome,
            });
            match self.begin_slot(&mut creation, identity, |generation| slot::guarded(0, generation)) {
                Some(place) => {
                    self.counts.pin().insert(digest, place);
                    return Ok((digest, place));
                }
                None => {
                    let index = creation.segments;
                    drop(creation);
                    self.grow(index)?;
                }
            }
        }
    }

    /// Finds or makes the bucket of a fingerprint. A new one is full.
    ///
    /// # Errors
    /// When there is no room and no bucket that is full gives way.
    pub(super) fn begin_bucket(&self, digest: u128, now: Timestamp) -> Result<Place, LedgerError> {
        loop {
            let mut creation = self.lock_creation();
            if let Some(place) = self.buckets.pin().get(&digest) {
                return Ok(*place);
            }
            if creation.bucket_count >= self.options.buckets_max {
                self.sweep_buckets(&mut creation, SWEEP_INLINE_SLOTS, now);
                if creation.bucket_count >= self.options.buckets_max {
                    return Err(LedgerError::Full { limit: format!("{} buckets", self.options.buckets_max) });
                }
            }
            if creation.free.is_empty() && self.is_exhausted(&creation) {
                self.sweep_buckets(&mut creation, SWEEP_INLINE_SLOTS, now);
            }
            // Full, and unlike any state that an earlier owner of the place was seen with: those were idle for a while.
            let full = now.as_nanos().min(slot::RETIRED >> 2);
            match self.begin_slot(&mut creation, Identity::Bucket(digest), |_| full) {
                Some(place) => {
                    creation.bucket_count = creation.bucket_count.saturating_add(1);
                    self.buckets.pin().insert(digest, place);
                    return Ok(place);
                }
                None => {
                    let index = creation.segments;
                    drop(creation);
                    self.grow(index)?;
                }
            }
        }
    }

    /// Takes a counter that was given back, or whose count was damaged under our hands, out of the way.
    pub(super) fn forget_count(&self, digest: u128, place: Place) {
        // Whoever gives slots back holds this lock, so with it the slot is in one state or the other.
        let _creation = self.lock_creation();
        let counts = self.counts.pin();
        let Some(slot) = self.slot(place) else { return };
        if counts.get(&digest) != Some(&place) || slot.count(place.generation).is_some() {
            return;
        }
        if !slot.is_retired() && slot.generation() == place.generation {
            slot.quarantine();
            self.meters.quarantined.fetch_add(1, Ordering::Relaxed);
        }
        counts.remove(&digest);
    }

    /// Whether the text is too long, or its user has all the texts that it may have and this is none of them.
    fn is_one_of_too_many(&self, line: &Line<'_>) -> bool {
        if line.route_text == RouteText::Name {
            return false;
        }
        let user = line.user.as_str();
        line.route.len() > PATH_TEXT_BYTES_MAX
            || (self.capped.pin().contains_key(&self.user_hour_digest(line.hour, user))
                && !self.path_texts.pin().contains_key(&self.path_text_digest(line.hour, user, line.route)))
    }

    /// Notes one more text of this user and hour; false when there are too many.
    pub(super) fn admit_path_text(&self, creation: &mut Creation, line: &Line<'_>) -> bool {
        let user = line.user.as_str();
        let text_digest = self.path_text_digest(line.hour, user, line.route);
        let path_texts = self.path_texts.pin();
        if path_texts.contains_key(&text_digest) {
            return true;
        }
        let user_digest = self.user_hour_digest(line.hour, user);
        let (_, count) = creation.path_text_counts.entry(user_digest).or_insert((line.hour, 0));
        if *count >= PATH_TEXTS_MAX {
            self.capped.pin().insert(user_digest, line.hour);
            return false;
        }
        *count += 1;
        path_texts.insert(text_digest, line.hour);
        true
    }

    /// Forgets which texts the hours before this one had.
    pub(super) fn forget_path_texts(&self, creation: &mut Creation, open: Hour) {
        creation.path_text_counts.retain(|_, (hour, _)| *hour >= open);
        self.path_texts.pin().retain(|_, hour| *hour >= open);
        self.capped.pin().retain(|_, hour| *hour >= open);
    }

    fn number(&self, creation: &mut Creation, kind: NameKind, name: &str) -> Result<u32, LedgerError> {
        if let Some(number) = creation.dictionary.number(kind, name) {
            return Ok(number);
        }
        let (number, name) = creation.dictionary.add(kind, name)?;
        self.names.pin().insert(number, name);
        Ok(number)
    }

    /// Fills a free slot; none when there is no free slot.
    fn begin_slot(&self, creation: &mut Creation, identity: Identity, value: impl Fn(u32) -> u64) -> Option<Place> {
        let (segment, index) = match creation.free.pop() {
            Some(place) => place,
            None => self.next_place(creation)?,
        };
        let slot = self.segment(segment)?.slot(index)?;
        let generation = slot.generation().wrapping_add(1);
        let birth = creation.next_birth;
        creation.next_birth = birth.wrapping_add(1);
        slot.publish(identity, birth, generation, value(generation));
        if (segment, index) == (creation.filling, creation.mark) {
            creation.mark = index + 1;
            self.segment(segment)?.set_mark(creation.mark);
        }
        Some(Place { segment, slot: index, generation })
    }

    /// The next place that was never used. The mark moves on once its slot is published, so nothing below the mark is ever blank.
    fn next_place(&self, creation: &mut Creation) -> Option<(u32, u32)> {
        if self.is_exhausted(creation) {
            let next = creation.filling.checked_add(1).filter(|&next| next < creation.segments)?;
            creation.filling = next;
            creation.mark = 0;
        }
        Some((creation.filling, creation.mark))
    }

    fn is_exhausted(&self, creation: &Creation) -> bool {
        self.segment(creation.filling).is_none_or(|segment| creation.mark >= segment.slots())
    }

    /// Makes segment `index`, unless somebody else has meanwhile. Waits for the disk without keeping others from what is there.
    pub(super) fn grow(&self, index: u32) -> Result<(), LedgerError> {
        let grown = self.try_grow(index);
        if grown.is_err() {
            self.meters.growth_failures.fetch_add(1, Ordering::Relaxed);
        }
        grown
    }

    fn try_grow(&self, index: u32) -> Result<(), LedgerError> {
        let _growing = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.lock_creation().segments != index {
            return Ok(());
        }
        let bytes = self.options.segment_bytes;
        let Some(place) = self.segments.get(usize::try_from(index).unwrap_or(usize::MAX)) else {
            return Err(LedgerError::Full { limit: format!("{SEGMENTS_MAX} segments") });
        };
        if (u64::from(index) + 1).saturating_mul(bytes) > self.options.bytes_max {
            return Err(LedgerError::Full { limit: format!("{} bytes", self.options.bytes_max) });
        }
        let segment = Segment::create(&self.options.path, index, bytes, self.identity)?;
        let mut creation = self.lock_creation();
        creation.dictionary.note_segment(index)?;
        // The place is empty: `creation.segments` was `index`, and only this function, one at a time, moves it on.
        let _ = place.set(segment);
        creation.segments = index + 1;
        Ok(())
    }

    /// Looks through some slots, from where the last look ended, for buckets that have long been full, and takes their places.
    pub(super) fn sweep_buckets(&self, creation: &mut Creation, slots: u32, now: Timestamp) {
        let idle = now.minus(BUCKET_IDLE).as_nanos();
        let (mut segment, mut index) = creation.sweep;
        for _ in 0..slots {
            let Some(slot) = self.segment(segment).and_then(|words| words.slot(index)) else {
                if segment == 0 && index == 0 {
                    return;
                }
                index = 0;
                segment = if self.segment(segment.saturating_add(1)).is_some() { segment + 1 } else { 0 };
                if segment == 0 {
                    break;
                }
                continue;
            };
            if let Found::Filled(filled) = slot.inspect()
                && let Identity::Bucket(digest) = filled.identity
            {
                let state = slot.value().load(Ordering::Acquire);
                if state < idle && slot.retire_value(state) {
                    self.buckets.pin().remove(&digest);
                    slot.free();
                    creation.free.push((segment, index));
                    creation.bucket_count = creation.bucket_count.saturating_sub(1);
                    self.meters.evicted.fetch_add(1, Ordering::Relaxed);
                }
            }
            index += 1;
        }
        creation.sweep = (segment, index);
    }
}
