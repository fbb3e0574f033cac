//! Opening a ledger that somebody else left, whole or not.
//!
//! Damage to a file as a whole (cut short, wrong header, another ledger's, missing) refuses the start: a person decides. Damage
//! to one slot sets that slot aside and raises an alarm; the history still has what it was told of it.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use aws_lc_rs::rand::SecureRandom;
use aws_lc_rs::rand::SystemRandom;

use crate::usage::dictionary::Dictionary;
use crate::usage::dictionary::NameKind;
use crate::usage::digest::DigestKey;
use crate::usage::disk;
use crate::usage::error::LedgerError;
use crate::usage::ledger::LedgerOptions;
use crate::usage::ledger::Place;
use crate::usage::ledger::SEGMENTS_MAX;
use crate::usage::segment::LedgerIdentity;
use crate::usage::segment::Segment;
use crate::usage::slot::CountIdentity;
use crate::usage::slot::Found;
use crate::usage::slot::Identity;
use crate::usage::slot::Slot;

/// How many damages are told one by one.
const NOTES_MAX: usize = 16;

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The folder was empty: a new ledger, with a new writer id.
    pub fresh: bool,
    pub counters: u64,
    pub buckets: u64,
    /// Damaged slots that are set aside, now or by an earlier start.
    pub quarantined: u64,
    /// Slots that had been begun and are blank. After a power failure these are slots that had not reached the disk.
    pub wiped: u64,
    /// Stretches of the dictionary that could not be read.
    pub unreadable_names: u32,
    /// The first damages, one sentence each.
    pub notes: Vec<String>,
}

impl Recovery {
    /// Whether somebody should look at it.
    pub fn is_clean(&self) -> bool {
        self.quarantined == 0 && self.wiped == 0 && self.unreadable_names == 0
    }
}

/// A ledger's parts, ready to be put together.
pub(super) struct Recovered {
    pub(super) identity: LedgerIdentity,
    pub(super) dictionary: Dictionary,
    pub(super) names: Vec<(u32, Arc<str>)>,
    pub(super) segments: Vec<Segment>,
    pub(super) free: Vec<(u32, u32)>,
    pub(super) filling: u32,
    pub(super) mark: u32,
    pub(super) first_birth: u64,
    pub(super) counts: Vec<(Place, CountIdentity)>,
    pub(super) buckets: Vec<(Place, u128)>,
    pub(super) report: Recovery,
    pub(super) lock: File,
}

/// Reads, or begins, the ledger of a folder.
///
/// # Errors
/// As [`crate::usage::Ledger::open`].
pub(super) fn recover(options: &LedgerOptions) -> Result<Recovered, LedgerError> {
    let folder = &options.path;
    if Segment::slots_in(options.segment_bytes) == 0 || !options.segment_bytes.is_multiple_of(4096) {
        return Err(LedgerError::Damaged { path: folder.clone(), why: "its segments must be whole pages, two at the least".to_owned() });
    }
    disk::prepare_folder(folder)?;
    let lock = disk::lock_folder(folder)?;
    let mut report = Recovery::default();
    let (mut dictionary, names) = match Dictionary::open(folder)? {
        Some(read) => {
            report.unreadable_names = read.damaged;
            if read.damaged > 0 {
                report.notes.push(format!("{} stretches of the dictionary cannot be read", read.damaged));
            }
            (read.dictionary, read.names)
        }
        None if Segment::path(folder, 0).exists() => {
            return Err(LedgerError::Damaged {
                path: Dictionary::path(folder),
                why: "it is missing, and the segments are there".to_owned(),
            });
        }
        None => {
            report.fresh = true;
            (Dictionary::create(folder, random()?)?, Vec::new())
        }
    };
    let (segments, identity) = open_segments(options, &mut dictionary)?;
    let kinds: HashMap<u32, NameKind> = names.iter().map(|(number, kind, _)| (*number, *kind)).collect();
    let [first_birth, _] = random()?;
    let mut recovered = Recovered {
        identity,
        dictionary,
        names: names.into_iter().map(|(number, _, name)| (number, name)).collect(),
        segments: Vec::new(),
        free: Vec::new(),
        filling: 0,
        mark: 0,
        first_birth: first_birth & !u64::from(u32::MAX),
        counts: Vec::new(),
        buckets: Vec::new(),
        report,
        lock,
    };
    for (index, segment) in (0_u32..).zip(segments) {
        recovered.take_in(index, &segment, &kinds);
        recovered.segments.push(segment);
    }
    recovered.report.counters = recovered.counts.len() as u64;
    recovered.report.buckets = recovered.buckets.len() as u64;
    Ok(recovered)
}

fn open_segments(options: &LedgerOptions, dictionary: &mut Dictionary) -> Result<(Vec<Segment>, LedgerIdentity), LedgerError> {
    let folder = &options.path;
    let mut segments = Vec::new();
    let mut identity: Option<LedgerIdentity> = None;
    for index in 0..u32::try_from(SEGMENTS_MAX).unwrap_or(u32::MAX) {
        let path = Segment::path(folder, index);
        let noted = index < dictionary.segments();
        if !path.exists() {
            if noted {
                return Err(LedgerError::Damaged { path, why: "it is missing".to_owned() });
            }
            break;
        }
        let (segment, whose) = Segment::open(folder, index)?;
        if whose.writer != dictionary.writer() || identity.is_some_and(|identity| identity != whose) {
            return Err(LedgerError::Damaged { path, why: "it belongs to another ledger".to_owned() });
        }
        // Killed between making the file and noting it.
        if !noted {
            dictionary.note_segment(index)?;
        }
        identity = Some(whose);
        segments.push(segment);
    }
    match identity {
        Some(identity) => Ok((segments, identity)),
        None => {
            let identity = LedgerIdentity { writer: dictionary.writer(), digest_key: DigestKey(random()?) };
            segments.push(Segment::create(folder, 0, options.segment_bytes, identity)?);
            dictionary.note_segment(0)?;
            Ok((segments, identity))
        }
    }
}

impl Recovered {
    fn take_in(&mut self, index: u32, segment: &Segment, kinds: &HashMap<u32, NameKind>) {
        let mark = match segment.mark() {
            // The process ended after it published a slot and before it moved the mark on.
            Some(mark) if segment.slot(mark).is_some_and(|slot| matches!(slot.inspect(), Found::Filled(_))) => {
                segment.set_mark(mark + 1);
                mark + 1
            }
            Some(mark) => mark,
            None => {
                self.note(format!("segment {index} does not say how far it was filled"));
                self.report.wiped += 1;
                let last = (0..segment.slots()).rev().find(|&slot| segment.slot(slot).is_some_and(|slot| slot.inspect() != Found::Blank));
                let mark = last.map_or(0, |slot| slot + 1);
                segment.set_mark(mark);
                mark
            }
        };
        if mark > 0 || index == 0 {
            (self.filling, self.mark) = (index, mark);
        }
        for number in 0..mark {
            let Some(slot) = segment.slot(number) else { continue };
            match slot.inspect() {
                Found::Blank => {
                    self.report.wiped += 1;
                    self.note(format!("slot {number} of segment {index} is blank and should not be"));
                    self.free.push((index, number));
                }
                Found::Free => self.free.push((index, number)),
                Found::Quarantined => self.report.quarantined += 1,
                Found::Damaged(why) => self.set_aside(index, number, slot, why),
                Found::Filled(filled) => {
                    let place = Place { segment: index, slot: number, generation: filled.generation };
                    match filled.identity {
                        Identity::Count(line) => self.take_count(place, slot, line, kinds),
                        Identity::Bucket(_) if slot.is_retired() => self.give_back(place, slot),
                        Identity::Bucket(digest) => {
                            // Killed while it held the bucket: the take was not answered, and its state was not changed.
                            slot.value().fetch_and(!crate::usage::buckets::HELD, std::sync::atomic::Ordering::AcqRel);
                            self.buckets.push((place, digest));
                        }
                    }
                }
            }
        }
    }

    fn take_count(&mut self, place: Place, slot: Slot<'_>, line: CountIdentity, kinds: &HashMap<u32, NameKind>) {
        for number in [line.user, line.key, line.route] {
            self.dictionary.skip_to(number);
        }
        if slot.is_retired() {
            self.give_back(place, slot);
        } else if slot.count(place.generation).is_none() {
            self.set_aside(place.segment, place.slot, slot, "its count does not fit its guard");
        } else if kinds.get(&line.user) != Some(&NameKind::User)
            || (line.key != 0 && kinds.get(&line.key) != Some(&NameKind::Key))
            || kinds.get(&line.route) != Some(&NameKind::Route)
        {
            self.set_aside(place.segment, place.slot, slot, "the dictionary does not know its names");
        } else {
            self.counts.push((place, line));
        }
    }

    fn give_back(&mut self, place: Place, slot: Slot<'_>) {
        slot.free();
        self.free.push((place.segment, place.slot));
    }

    fn set_aside(&mut self, segment: u32, number: u32, slot: Slot<'_>, why: &str) {
        slot.quarantine();
        self.report.quarantined += 1;
        self.note(format!("slot {number} of segment {segment} is set aside: {why}"));
    }

    fn note(&mut self, sentence: String) {
        if self.report.notes.len() < NOTES_MAX {
            self.report.notes.push(sentence);
        }
    }
}

fn random() -> Result<[u64; 2], LedgerError> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| LedgerError::NoRandom)?;
    let number = u128::from_le_bytes(bytes);
    Ok([number as u64, (number >> 64) as u64])
}
