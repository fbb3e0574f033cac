//! The ledger: finds a line's slot and adds to it; begins slots and makes room for them.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::model::key::KeyId;
use crate::model::time::Hour;
use crate::model::time::Timestamp;
use crate::model::usage::Line;
use crate::model::usage::RouteText;
use crate::usage::creation::OTHER;
use crate::usage::dictionary::Dictionary;
use crate::usage::dictionary::NameKind;
use crate::usage::digest::BuildAsItIs;
use crate::usage::digest::Digest;
use crate::usage::error::LedgerError;
use crate::usage::live::Totals;
use crate::usage::notes::Notes;
use crate::usage::period::Period;
use crate::usage::recovery;
use crate::usage::recovery::Recovery;
use crate::usage::segment::LedgerIdentity;
use crate::usage::segment::Segment;
use crate::usage::slot::Added;
use crate::usage::slot::CountIdentity;
use crate::usage::slot::Slot;

/// The most segments that a ledger can have.
pub(super) const SEGMENTS_MAX: usize = 4096;
/// A count that finds its slot gone looks again; more often than this something is broken.
const ATTEMPTS_MAX: u32 = 8;
/// And how many in the background, each second.
const SWEEP_BACKGROUND_SLOTS: u32 = 65_536;

/// Where the ledger lies and how far it may grow.
#[derive(Clone, Debug)]
pub struct LedgerOptions {
    /// A folder of its own, on a disk of this machine.
    pub path: PathBuf,
    /// Size of each file of slots, header page included; a slot takes 64 bytes.
    pub segment_bytes: u64,
    /// All files of slots together.
    pub bytes_max: u64,
    /// How many token buckets are kept at once.
    pub buckets_max: u32,
}

impl LedgerOptions {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), segment_bytes: 4 << 20, bytes_max: 1 << 30, buckets_max: 1 << 20 }
    }
}

/// Counters and buckets in a mapped file that outlives the process.
#[derive(Debug)]
pub struct Ledger {
    pub(super) options: LedgerOptions,
    pub(super) identity: LedgerIdentity,
    pub(super) segments: Box<[OnceLock<Segment>]>,
    pub(super) counts: papaya::HashMap<u128, Place, BuildAsItIs>,
    pub(super) buckets: papaya::HashMap<u128, Place, BuildAsItIs>,
    pub(super) names: papaya::HashMap<u32, Arc<str>>,
    /// Texts made of paths that have counters of their own, by hour, user and text; and the hour, to forget them by.
    pub(super) path_texts: papaya::HashMap<u128, Hour, BuildAsItIs>,
    /// Hours and users that have as many such texts as they may.
    pub(super) capped: papaya::HashMap<u128, Hour, BuildAsItIs>,
    pub(super) period: Period,
    /// The second that uses are noted with; follows the clock once a tick.
    second: AtomicU64,
    pub(super) creation: Mutex<Creation>,
    pub(super) growing: Mutex<()>,
    pub(super) totals: Mutex<Totals>,
    pub(super) meters: Meters,
    pub(super) notes: Notes,
    recovery: Recovery,
    // Dropped last: nobody else may map the files before they are unmapped here.
    _lock: File,
}

/// Everything that beginning a slot changes.
#[derive(Debug)]
pub(super) struct Creation {
    pub(super) dictionary: Dictionary,
    /// Places given back.
    pub(super) free: Vec<(u32, u32)>,
    /// The segment that is being filled, and how far.
    pub(super) filling: u32,
    pub(super) mark: u32,
    pub(super) segments: u32,
    /// Random for each opening in its upper half, so that no two slots of a ledger are born alike even if it was rolled back.
    pub(super) next_birth: u64,
    pub(super) path_text_counts: std::collections::HashMap<u128, (Hour, u32)>,
    pub(super) bucket_count: u32,
    pub(super) sweep: (u32, u32),
}

/// A slot's place, and the generation that it had when it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u32,
    pub(super) slot: u32,
    pub(super) generation: u32,
}

/// What happened that somebody should know.
#[derive(Debug, Default)]
pub(super) struct Meters {
    pub(super) overflowed: AtomicU64,
    pub(super) saturated: AtomicU64,
    pub(super) growth_failures: AtomicU64,
    pub(super) evicted: AtomicU64,
    pub(super) quarantined: AtomicU64,
    pub(super) raised: AtomicU64,
}

/// The ledger's state in numbers, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Slots in the files that exist.
    pub slots: u64,
    /// Slots of these in use.
    pub slots_used: u64,
    pub counters: u64,
    pub buckets: u64,
    /// Slots set aside as damaged, ever.
    pub quarantined: u64,
    /// Counts that went to `other` because their user had too many texts made of paths this hour.
    pub overflowed: u64,
    /// Counts that met the greatest exact number.
    pub saturated: u64,
    /// Attempts to make room that failed.
    pub growth_failures: u64,
    /// Idle buckets whose place was given to others.
    pub buckets_evicted: u64,
    /// Leaps of the clock that were not followed at once.
    pub clock_leaps: u64,
    /// Counts that the ledger had lost and the history gave back (a power failure, a restored disk).
    pub raised: u64,
}

impl Ledger {
    /// Notes a use beside the counts: the next flush tells the history of it.
    pub fn note(&self, name: &KeyId, route: &str, at: Timestamp) {
        self.notes.add(name.as_str(), route, at);
    }

    /// Opens the ledger of this folder, or begins one in an empty folder.
    ///
    /// # Errors
    /// When the folder is on a file system that cannot hold it, is in use, is damaged as a whole, is of another format, or the disk is
    /// full. Damage to single slots is no error: they are set aside and told in [`Self::recovery`].
    pub fn open(options: LedgerOptions, now: Timestamp) -> Result<Self, LedgerError> {
        let recovered = recovery::recover(&options)?;
        let ledger = Self {
            options,
            identity: recovered.identity,
            notes: Notes::default(),
            segments: (0..SEGMENTS_MAX).map(|_| OnceLock::new()).collect(),
            counts: papaya::HashMap::builder().hasher(BuildAsItIs::default()).build(),
            buckets: papaya::HashMap::builder().hasher(BuildAsItIs::default()).build(),
            names: papaya::HashMap::new(),
            path_texts: papaya::HashMap::builder().hasher(BuildAsItIs::default()).build(),
            capped: papaya::HashMap::builder().hasher(BuildAsItIs::default()).build(),
            period: Period::starting_at(now),
            second: AtomicU64::new(now.unix_seconds()),
            creation: Mutex::new(Creation {
                dictionary: recovered.dictionary,
                free: recovered.free,
                filling: recovered.filling,
                mark: recovered.mark,
                segments: u32::try_from(recovered.segments.len()).unwrap_or(u32::MAX),
                next_birth: recovered.first_birth,
                path_text_counts: std::collections::HashMap::new(),
                bucket_count: 0,
                sweep: (0, 0),
            }),
            growing: Mutex::new(()),
            totals: Mutex::new(Totals::default()),
            meters: Meters::default(),
            recovery: recovered.report,
            _lock: recovered.lock,
        };
        ledger.meters.quarantined.store(ledger.recovery.quarantined, Ordering::Relaxed);
        for (place, segment) in ledger.segments.iter().zip(recovered.segments) {
            // Each place is set once, here or by `grow`.
            let _ = place.set(segment);
        }
        let names = ledger.names.pin();
        for (number, name) in recovered.names {
            names.insert(number, name);
        }
        drop(names);
        ledger.adopt(&recovered.counts, &recovered.buckets);
        Ok(ledger)
    }

    /// Adds `cost` to a line's count. When this returns, the count survives the process.
    ///
    /// The hour is the open one: never earlier than that of any count before, and a clock that leaps ahead is not followed.
    ///
    /// # Errors
    /// When the line is new and there is no room for it; nothing was counted then.
    pub fn add(&self, line: &Line<'_>, cost: u32) -> Result<(), LedgerError> {
        let mut line = *line;
        for _ in 0..ATTEMPTS_MAX {
            line.hour = self.period.place(line.hour);
            let digest = self.line_digest(&line);
            let found = self.counts.pin().get(&digest).copied();
            let (digest, place) = match found {
                Some(place) => (digest, place),
                None => self.begin_count(&line, digest)?,
            };
            let Some(slot) = self.slot(place) else { return Err(self.broken("a counter lies outside of every segment")) };
            match slot.add(cost, place.generation) {
                Added::Done => {}
                Added::Saturated => {
                    self.meters.saturated.fetch_add(1, Ordering::Relaxed);
                }
                Added::Gone => {
                    self.forget_count(digest, place);
                    continue;
                }
            }
            slot.touch(self.second.load(Ordering::Relaxed));
            return Ok(());
        }
        Err(self.broken("a counter is given back as often as it is looked up"))
    }

    /// Whether a counter of this user is there, or was until the names were last tidied up.
    pub fn knows_user(&self, user: &str) -> bool {
        self.lock_creation().dictionary.number(NameKind::User, user).is_some()
    }

    /// Follows the clock, makes room ahead of need, and takes back the places of idle buckets. Called about once a second, with
    /// the time since the last call by the monotonic clock.
    ///
    /// # Errors
    /// When no room could be made; what is there goes on working.
    pub fn tick(&self, now: Timestamp, elapsed: Duration) -> Result<(), LedgerError> {
        self.period.follow(now, elapsed);
        self.second.fetch_max(now.unix_seconds(), Ordering::Relaxed);
        let wanted = {
            let mut creation = self.lock_creation();
            self.sweep_buckets(&mut creation, SWEEP_BACKGROUND_SLOTS, now);
            let quarter = Segment::slots_in(self.options.segment_bytes) / 4;
            let spare = self.segment(creation.filling).map_or(0, |segment| segment.slots().saturating_sub(creation.mark));
            let ahead = creation.segments > creation.filling.saturating_add(1);
            let room = creation.free.len().saturating_add(usize::try_from(spare).unwrap_or(usize::MAX));
            let short = !ahead && room < usize::try_from(quarter).unwrap_or(usize::MAX);
            short.then_some(creation.segments)
        };
        match wanted {
            Some(index) => self.grow(index),
            None => Ok(()),
        }
    }

    /// What was found when the ledger was opened.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// This ledger's random name, under which the history keeps what it was told by it.
    pub fn writer_id(&self) -> u128 {
        let [low, high] = self.identity.writer;
        u128::from(low) | (u128::from(high) << 64)
    }

    pub fn gauges(&self) -> Gauges {
        let read = |meter: &AtomicU64| meter.load(Ordering::Relaxed);
        let (slots, free, spare) = {
            let creation = self.lock_creation();
            let slots: u64 = (0..creation.segments).filter_map(|index| self.segment(index)).map(|segment| u64::from(segment.slots())).sum();
            let begun: u64 = (0..creation.filling).filter_map(|index| self.segment(index)).map(|segment| u64::from(segment.slots())).sum();
            (slots, creation.free.len() as u64, slots.saturating_sub(begun + u64::from(creation.mark)))
        };
        Gauges {
            slots,
            slots_used: slots.saturating_sub(free + spare),
            counters: self.counts.len() as u64,
            buckets: self.buckets.len() as u64,
            quarantined: read(&self.meters.quarantined),
            overflowed: read(&self.meters.overflowed),
            saturated: read(&self.meters.saturated),
            growth_failures: read(&self.meters.growth_failures),
            buckets_evicted: read(&self.meters.evicted),
            clock_leaps: self.period.leaps(),
            raised: read(&self.meters.raised),
        }
    }

    /// Waits until the disk has everything. Only a power failure makes a difference between before and after.
    ///
    /// # Errors
    /// What the system said.
    pub fn sync(&self) -> Result<(), LedgerError> {
        self.sync_names()?;
        for index in 0..SEGMENTS_MAX {
            let Some(segment) = self.segments.get(index).and_then(OnceLock::get) else { break };
            segment.sync().map_err(|source| LedgerError::of("write", &self.options.path, 0, source))?;
        }
        Ok(())
    }

    /// Waits until the disk has every name that a slot may use.
    ///
    /// # Errors
    /// What the system said.
    pub(super) fn sync_names(&self) -> Result<(), LedgerError> {
        let failed = |source| LedgerError::of("write", &self.options.path, 0, source);
        // The lock is not held while the disk is waited for: requests with new names need it.
        let unsynced = self.lock_creation().dictionary.unsynced().map_err(failed)?;
        match unsynced {
            Some(file) => file.sync_data().map_err(|source| {
                self.lock_creation().dictionary.keep_unsynced();
                failed(source)
            }),
            None => Ok(()),
        }
    }

    pub(super) fn segment(&self, index: u32) -> Option<&Segment> {
        self.segments.get(usize::try_from(index).ok()?)?.get()
    }

    pub(super) fn slot(&self, place: Place) -> Option<Slot<'_>> {
        self.segment(place.segment)?.slot(place.slot)
    }

    pub(super) fn lock_creation(&self) -> MutexGuard<'_, Creation> {
        self.creation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn line_digest(&self, line: &Line<'_>) -> u128 {
        Digest::new(self.identity.digest_key)
            .word(u64::from(line.hour.0) | ((line.outcome as u64) << 32))
            .text(line.user.as_str())
            .text(line.key.map_or("", |key| key.as_str()))
            .text(line.route)
            .finish()
    }

    pub(super) fn bucket_digest(&self, policy: &str, owner: &str) -> u128 {
        Digest::new(self.identity.digest_key).word(u64::MAX).text(policy).text(owner).finish()
    }

    pub(super) fn user_hour_digest(&self, hour: Hour, user: &str) -> u128 {
        Digest::new(self.identity.digest_key).word(u64::MAX - 1).word(u64::from(hour.0)).text(user).finish()
    }

    pub(super) fn path_text_digest(&self, hour: Hour, user: &str, text: &str) -> u128 {
        Digest::new(self.identity.digest_key).word(u64::MAX - 2).word(u64::from(hour.0)).text(user).text(text).finish()
    }

    pub(super) fn broken(&self, why: &str) -> LedgerError {
        LedgerError::Damaged { path: self.options.path.clone(), why: why.to_owned() }
    }

    /// Enters what recovery found into the maps.
    fn adopt(&self, counts: &[(Place, CountIdentity)], buckets: &[(Place, u128)]) {
        let mut creation = self.lock_creation();
        for (place, digest) in buckets {
            self.buckets.pin().insert(*digest, *place);
        }
        creation.bucket_count = u32::try_from(buckets.len()).unwrap_or(u32::MAX);
        for (place, identity) in counts {
            self.with_line(identity, |line| {
                if line.route_text == RouteText::Path && line.route != OTHER {
                    self.admit_path_text(&mut creation, line);
                }
                self.counts.pin().insert(self.line_digest(line), *place);
            });
        }
    }
}
