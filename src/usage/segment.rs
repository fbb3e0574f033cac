//! One mapped file of slots: a header page, then slots that are filled from the front.
//!
//! ```text
//! word 0  magic               word 5, 6  fingerprint key, low and high half
//! word 1  version | index     word 7     slots | CRC-32 of words 0 to 6 and the slots
//! word 3, 4  writer id        word 8     mark: slots that were ever begun, guarded
//! ```

use std::fs;
use std::fs::OpenOptions;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use crate::usage::digest::DigestKey;
use crate::usage::disk;
use crate::usage::error::LedgerError;
use crate::usage::map::Words;
use crate::usage::slot;
use crate::usage::slot::SLOT_WORDS;
use crate::usage::slot::Slot;

/// The ledger's format: segments and dictionary alike. The first release wrote 1.
pub(super) const FORMAT: u32 = 1;

const MAGIC: u64 = u64::from_le_bytes(*b"TGLedger");
const HEADER_WORDS: usize = 512;
const HEADER_BYTES: u64 = 4096;
const SLOT_BYTES: u64 = 64;
const MARK: usize = 8;
// The mark needs no generation; any fixed one gives it its residue.
const MARK_GENERATION: u32 = 0;

/// Who a ledger is: its writer id, and the key of its fingerprints. The same in every file of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LedgerIdentity {
    pub(super) writer: [u64; 2],
    pub(super) digest_key: DigestKey,
}

/// A mapped segment.
#[derive(Debug)]
pub(super) struct Segment {
    words: Words,
    slots: u32,
}

impl Segment {
    /// How many slots a file of this size has.
    pub(super) fn slots_in(bytes: u64) -> u32 {
        u32::try_from(bytes.saturating_sub(HEADER_BYTES) / SLOT_BYTES).unwrap_or(u32::MAX)
    }

    pub(super) fn path(folder: &Path, index: u32) -> PathBuf {
        folder.join(format!("segment-{index:06}"))
    }

    /// Makes segment `index`, blocks and all. Nothing of it is seen before it is whole.
    ///
    /// # Errors
    /// [`LedgerError::NoSpace`] when the disk has no room, and then nothing is left behind.
    pub(super) fn create(folder: &Path, index: u32, bytes: u64, identity: LedgerIdentity) -> Result<Self, LedgerError> {
        let path = Self::path(folder, index);
        let fresh = path.with_extension("new");
        let made = Self::create_at(folder, &fresh, &path, index, bytes, identity);
        if made.is_err() {
            // What is left of it would only take space; whether it can be removed changes nothing about the answer.
            let _ = fs::remove_file(&fresh);
        }
        made
    }

    fn create_at(folder: &Path, fresh: &Path, path: &Path, index: u32, bytes: u64, identity: LedgerIdentity) -> Result<Self, LedgerError> {
        let failed = |action| move |source| LedgerError::of(action, path, bytes, source);
        let slots = Self::slots_in(bytes);
        let file = disk::create_filled(fresh, bytes).map_err(failed("create"))?;
        let words = Words::map(&file, bytes).map_err(failed("map"))?;
        for (place, word) in words.all().iter().zip(header(index, slots, identity)) {
            place.store(word, Ordering::Relaxed);
        }
        let segment = Self { words, slots };
        segment.set_mark(0);
        segment.words.sync().map_err(failed("write"))?;
        disk::install(folder, fresh, path).map_err(failed("install"))?;
        Ok(segment)
    }

    /// Maps a segment that is there, and checks that it is whole and whose it is.
    ///
    /// # Errors
    /// [`LedgerError::Version`], [`LedgerError::Damaged`], or what the system said.
    pub(super) fn open(folder: &Path, index: u32) -> Result<(Self, LedgerIdentity), LedgerError> {
        let path = Self::path(folder, index);
        let failed = |source| LedgerError::of("open", &path, 0, source);
        let damaged = |why: &str| LedgerError::Damaged { path: path.clone(), why: why.to_owned() };
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        if bytes < HEADER_BYTES + SLOT_BYTES || bytes % SLOT_BYTES != 0 {
            return Err(damaged("it is cut short"));
        }
        let words = Words::map(&file, bytes).map_err(failed)?;
        let mut head = [0; HEADER_PARTS];
        for (word, place) in head.iter_mut().zip(words.all()) {
            *word = place.load(Ordering::Acquire);
        }
        let [magic, version_and_index, _, writer_low, writer_high, key_low, key_high, slots_and_crc] = head;
        if magic != MAGIC {
            return Err(damaged("it does not begin as a ledger does"));
        }
        let version = version_and_index as u32;
        let slots = slots_and_crc as u32;
        let identity = LedgerIdentity { writer: [writer_low, writer_high], digest_key: DigestKey([key_low, key_high]) };
        let recorded = (version_and_index >> 32) as u32;
        // A header of another format may be laid out differently, so its checksum is judged only after its version.
        if version != FORMAT && header_of(version, recorded, slots, identity) == head {
            return Err(LedgerError::Version { path, found: version, known: FORMAT });
        }
        if header(recorded, slots, identity) != head {
            return Err(damaged("its header does not match its checksum"));
        }
        if recorded != index {
            return Err(damaged("it is another segment under this one's name"));
        }
        if slots != Self::slots_in(bytes) {
            return Err(damaged("its length is not the one it was made with"));
        }
        Ok((Self { words, slots }, identity))
    }

    pub(super) fn slots(&self) -> u32 {
        self.slots
    }

    pub(super) fn slot(&self, index: u32) -> Option<Slot<'_>> {
        let start = HEADER_WORDS + usize::try_from(index).ok()? * SLOT_WORDS;
        let words = self.words.all().get(start..start + SLOT_WORDS)?;
        Some(Slot(words.try_into().ok()?))
    }

    /// How many slots were ever begun; nothing when that number is damaged.
    pub(super) fn mark(&self) -> Option<u32> {
        let mark = slot::unguarded(self.mark_word()?.load(Ordering::Acquire), MARK_GENERATION)?;
        u32::try_from(mark).ok().filter(|&mark| mark <= self.slots)
    }

    /// Must be called after the slot below the mark was published: one that is blank was wiped.
    pub(super) fn set_mark(&self, mark: u32) {
        if let Some(word) = self.mark_word() {
            word.store(slot::guarded(u64::from(mark), MARK_GENERATION), Ordering::Release);
        }
    }

    /// Waits until the disk has it all.
    ///
    /// # Errors
    /// What the system said.
    pub(super) fn sync(&self) -> std::io::Result<()> {
        self.words.sync()
    }

    fn mark_word(&self) -> Option<&AtomicU64> {
        self.words.all().get(MARK)
    }
}

const HEADER_PARTS: usize = 8;

fn header(index: u32, slots: u32, identity: LedgerIdentity) -> [u64; HEADER_PARTS] {
    header_of(FORMAT, index, slots, identity)
}

fn header_of(version: u32, index: u32, slots: u32, identity: LedgerIdentity) -> [u64; HEADER_PARTS] {
    let [writer_low, writer_high] = identity.writer;
    let DigestKey([key_low, key_high]) = identity.digest_key;
    let covered = [MAGIC, u64::from(version) | (u64::from(index) << 32), u64::from(slots), writer_low, writer_high, key_low, key_high];
    let mut hasher = crc32fast::Hasher::new();
    for word in covered {
        hasher.update(&word.to_le_bytes());
    }
    let [magic, version_and_index, count, writer_low, writer_high, key_low, key_high] = covered;
    let last = u64::from(slots) | (u64::from(hasher.finalize()) << 32);
    [magic, version_and_index, count, writer_low, writer_high, key_low, key_high, last]
}
