//! What checks know without asking: records that were read, and ids that were found not to be there.
//!
//! Nothing here says whether it may still be used; the lease does. What this file sees to is that no entry outlives a change that
//! was applied: a read goes in only if the log's head at its moment is no older than any change that was applied since, and both
//! that judgement and every applied change happen under one lock, which no look-up takes.

mod part;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

pub(super) use crate::store::shared::cache::part::Known;

use crate::clock::Clock;
use crate::clock::monotonic;
use crate::model::client::ClientRecord;
use crate::model::grant::GrantRecord;
use crate::model::hex::read_hex;
use crate::model::key::KeyRecord;
use crate::model::time::Timestamp;
use crate::model::user::UserRecord;
use crate::store::Fact;
use crate::store::RecordKey;
use crate::store::codec::Shelved;
use crate::store::shared::cache::part::Held;
use crate::store::shared::cache::part::Part;
use crate::store::shared::entry::Change;
use crate::store::shared::entry::Entry;
use crate::store::shared::entry::Mark;
use crate::store::shared::records::SharedCounts;
use crate::store::shared::tombstones::Closable;
use crate::store::shared::tombstones::Tombstones;
use crate::store::user_place::AskedPlace;
use crate::store::user_place::UserPlace;

/// What it weighs that an id is known not to be there.
const ABSENT_WEIGHT: usize = 100;
const TOMBSTONES_MAX: usize = 100_000;

/// How much memory the cache may take, in bytes and about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSizes {
    pub keys: usize,
    pub users: usize,
    pub digests: usize,
    pub grants: usize,
    pub clients: usize,
    /// Ids that are not there. Apart from the others, so that whoever tries many cannot push out those that are.
    pub absent: usize,
}

impl Default for CacheSizes {
    fn default() -> Self {
        // 100,000 keys, their users, and as many grants fit; it is filled only as far as they are asked for.
        Self { keys: 128 << 20, users: 64 << 20, digests: 8 << 20, grants: 128 << 20, clients: 16 << 20, absent: 8 << 20 }
    }
}

/// The caches, and how far the change log is applied to them.
#[derive(Debug)]
pub(super) struct Cache {
    keys: Part<Arc<str>, KeyRecord>,
    users: Part<UserPlace, UserRecord>,
    digests: Part<[u8; 32], str>,
    grants: Part<Arc<str>, GrantRecord>,
    clients: Part<Arc<str>, ClientRecord>,
    /// Rises when what is held is dropped: a read from before goes in no more.
    era: AtomicU64,
    /// Rises when another server takes over: what was read before is not confirmed any more, and is still what was known last.
    reign: AtomicU64,
    course: Mutex<Course>,
}

/// Why everything was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dropped {
    /// More changes than the log holds were missed.
    Missed,
    /// The store lost something.
    Lost,
    /// Another server took over, and nothing that it lost was noticed.
    TakenOver,
}

#[derive(Debug)]
struct Course {
    /// None before the first poll: nothing is taken in, since nothing would ever throw it out.
    cursor: Option<u64>,
    /// Reads from before this head come too late.
    floor: u64,
    /// The highest head that any answer told.
    top: u64,
    /// Sequences behind the cursor that we applied ourselves when we committed them.
    own: BTreeSet<u64>,
    tombstones: Tombstones,
}

/// A record as it was read, ready to be taken in.
#[derive(Debug)]
pub(super) struct Taken<T> {
    pub record: T,
    pub expires: Option<Timestamp>,
    /// Its bytes on the shelf.
    pub size: usize,
    /// On the shelf.
    pub version: u64,
}

/// The moment of a read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// The era before the question was sent.
    pub era: u64,
    /// The log's head when it was answered.
    pub head: u64,
}

impl Cache {
    pub(super) fn new(sizes: CacheSizes) -> Self {
        let absent = sizes.absent / ABSENT_WEIGHT / 6;
        Self {
            keys: Part::new(sizes.keys, absent * 2),
            users: Part::new(sizes.users, absent),
            digests: Part::new(sizes.digests, absent),
            grants: Part::new(sizes.grants, absent),
            clients: Part::new(sizes.clients, absent),
            era: AtomicU64::new(0),
            reign: AtomicU64::new(0),
            course: Mutex::new(Course {
                cursor: None,
                floor: 0,
                top: 0,
                own: BTreeSet::new(),
                tombstones: Tombstones::new(TOMBSTONES_MAX),
            }),
        }
    }

    pub(super) fn key(&self, id: &str, clock: &dyn Clock) -> Known<KeyRecord> {
        self.keys.look_up(id, clock, Some(self.reign()))
    }

    pub(super) fn digest(&self, digest: &[u8; 32], clock: &dyn Clock) -> Known<str> {
        self.digests.look_up(digest, clock, Some(self.reign()))
    }

    pub(super) fn user(&self, source: &str, subject: &str, clock: &dyn Clock) -> Known<UserRecord> {
        self.users.look_up(&AskedPlace { source, subject }, clock, Some(self.reign()))
    }

    pub(super) fn grant(&self, id: &str, clock: &dyn Clock) -> Known<GrantRecord> {
        self.grants.look_up(id, clock, Some(self.reign()))
    }

    pub(super) fn client(&self, id: &str, clock: &dyn Clock) -> Known<ClientRecord> {
        self.clients.look_up(id, clock, Some(self.reign()))
    }

    /// As [`Self::key`], even if the store may have lost it since.
    pub(super) fn last_key(&self, id: &str, clock: &dyn Clock) -> Known<KeyRecord> {
        self.keys.look_up(id, clock, None)
    }

    /// As [`Self::last_key`].
    pub(super) fn last_digest(&self, digest: &[u8; 32], clock: &dyn Clock) -> Known<str> {
        self.digests.look_up(digest, clock, None)
    }

    /// As [`Self::last_key`].
    pub(super) fn last_user(&self, source: &str, subject: &str, clock: &dyn Clock) -> Known<UserRecord> {
        self.users.look_up(&AskedPlace { source, subject }, clock, None)
    }

    /// As [`Self::last_key`].
    pub(super) fn last_grant(&self, id: &str, clock: &dyn Clock) -> Known<GrantRecord> {
        self.grants.look_up(id, clock, None)
    }

    /// As [`Self::last_key`].
    pub(super) fn last_client(&self, id: &str, clock: &dyn Clock) -> Known<ClientRecord> {
        self.clients.look_up(id, clock, None)
    }

    pub(super) fn counts(&self) -> SharedCounts {
        SharedCounts {
            keys: self.keys.there.len(),
            users: self.users.there.len(),
            grants: self.grants.there.len(),
            clients: self.clients.there.len(),
            absent: self.keys.absent.len()
                + self.users.absent.len()
                + self.digests.absent.len()
                + self.grants.absent.len()
                + self.clients.absent.len(),
            tombstones: self.course().tombstones.len(),
            ..SharedCounts::default()
        }
    }

    pub(super) fn era(&self) -> u64 {
        self.era.load(Ordering::Acquire)
    }

    /// What a key that was read is to whoever asked, tombstones considered; and keeps it, if it is not outdated already.
    pub(super) fn take_in_key(&self, id: &str, read: Option<Taken<KeyRecord>>, moment: Moment) -> Option<Arc<KeyRecord>> {
        self.take_in(&self.keys, Arc::from(id), RecordKey::key(id), read, moment)
    }

    /// As [`Self::take_in_key`].
    pub(super) fn take_in_user(
        &self,
        source: &str,
        subject: &str,
        read: Option<Taken<UserRecord>>,
        moment: Moment,
    ) -> Option<Arc<UserRecord>> {
        let place = UserPlace::new(source, subject);
        self.take_in(&self.users, place, RecordKey::user(source, subject), read, moment)
    }

    /// As [`Self::take_in_key`].
    pub(super) fn take_in_grant(&self, id: &str, read: Option<Taken<GrantRecord>>, moment: Moment) -> Option<Arc<GrantRecord>> {
        self.take_in(&self.grants, Arc::from(id), GrantRecord::place(id), read, moment)
    }

    /// As [`Self::take_in_key`].
    pub(super) fn take_in_client(&self, id: &str, read: Option<Taken<ClientRecord>>, moment: Moment) -> Option<Arc<ClientRecord>> {
        self.take_in(&self.clients, Arc::from(id), ClientRecord::place(id), read, moment)
    }

    fn take_in<K: Eq + Hash + Clone, T: Closable>(
        &self,
        part: &Part<K, T>,
        place: K,
        key: RecordKey,
        read: Option<Taken<T>>,
        moment: Moment,
    ) -> Option<Arc<T>> {
        let mut course = self.course();
        let admitted = course.admits(moment, self.era());
        let mark = read.as_ref().and_then(|read| course.tombstones.over_made(&key, read.record.created()));
        if let (true, None, Some(read)) = (admitted, mark, &read) {
            course.tombstones.saw(key, read.record.mark(), read.version, read.expires, monotonic());
        }
        let held = read.and_then(|read| Some(Held::new(self.reign(), Arc::new(read.record.bury(mark)?), read.expires, read.size)));
        part.keep(place, held, admitted)
    }

    /// As [`Self::take_in_key`]. A digest that was removed and turns up again leads to a key, and the key's own tombstone decides.
    pub(super) fn take_in_digest(&self, digest: &[u8; 32], read: Option<Taken<Arc<str>>>, moment: Moment) -> Option<Arc<str>> {
        let mut course = self.course();
        let admitted = course.admits(moment, self.era());
        let held = read.map(|read| Held::new(self.reign(), read.record, read.expires, read.size));
        self.digests.keep(*digest, held, admitted)
    }

    /// How this record was closed, as far as this process saw.
    pub(super) fn tombstone(&self, key: &RecordKey) -> Option<Mark> {
        self.course().tombstones.over(key)
    }

    /// The highest head that any answer told since everything was dropped last: a store whose head lies behind it lost something.
    pub(super) fn top(&self) -> u64 {
        self.course().top
    }

    /// Begins to follow the log here. What was not applied is not held either.
    pub(super) fn begin(&self, cursor: u64) {
        let mut course = self.course();
        course.cursor = Some(cursor);
        course.floor = course.floor.max(cursor);
    }

    /// Applies the log's entries up to a sequence.
    pub(super) fn apply(&self, entries: &[Entry], cursor: u64, now: Instant) {
        let mut course = self.course();
        let first = cursor.saturating_sub(entries.len() as u64) + 1;
        for (entry, sequence) in entries.iter().zip(first..) {
            match entry {
                Entry::Change(change) => {
                    self.forget_one(&change.key);
                    // Our own were applied when they were committed, and others may have been committed since.
                    if !course.own.remove(&sequence) {
                        course.tombstones.note(change, now);
                    }
                }
                Entry::Foreign => {}
                Entry::Unreadable => {
                    tracing::error!(sequence, "an entry of the change log cannot be read; the cache is dropped");
                    self.clear();
                }
            }
        }
        course.own = course.own.split_off(&(cursor + 1));
        course.cursor = Some(cursor);
        course.floor = course.floor.max(cursor);
    }

    /// Drops everything and goes on from here. After a takeover it stays as what was known last: the connection over which it would be
    /// read anew may come back later than the one that follows the changes.
    pub(super) fn reset(&self, cursor: u64, why: Dropped) {
        let mut course = self.course();
        self.era.fetch_add(1, Ordering::AcqRel);
        course.own.clear();
        course.cursor = Some(cursor);
        (course.floor, course.top) = (cursor, cursor);
        match why {
            Dropped::Missed => {
                self.clear();
                course.tombstones.missed_some();
            }
            Dropped::Lost => self.clear(),
            Dropped::TakenOver => {
                self.reign.fetch_add(1, Ordering::AcqRel);
                self.clear_absent();
            }
        }
    }

    /// A commit of ours is done: from now on nothing older is shown here.
    pub(super) fn committed(&self, era: u64, head: u64, changes: &[Change]) {
        let now = monotonic();
        let mut course = self.course();
        if era == self.era() {
            course.floor = course.floor.max(head);
            course.top = course.top.max(head);
            let first = (head + 1).saturating_sub(changes.len() as u64);
            if course.cursor.is_some_and(|cursor| cursor < first) {
                course.own.extend(first..=head);
            }
        } else {
            // Its head counts in a log that may be gone; reads that are under way are simply not kept.
            self.era.fetch_add(1, Ordering::AcqRel);
        }
        for change in changes {
            self.forget_one(&change.key);
            course.tombstones.note(change, now);
        }
    }

    /// Forgets what is held of these, since it may have changed.
    pub(super) fn forget<'a>(&self, keys: impl Iterator<Item = &'a RecordKey>) {
        let _course = self.course();
        self.era.fetch_add(1, Ordering::AcqRel);
        keys.for_each(|key| self.forget_one(key));
    }

    fn forget_one(&self, key: &RecordKey) {
        match key.family.fact() {
            Some(Fact::Key) => self.keys.forget(key.id.as_str()),
            Some(Fact::User) => {
                if let Some((source, subject)) = key.id.split_once(':') {
                    self.users.forget(&AskedPlace { source, subject });
                }
            }
            Some(Fact::Digest) => {
                if let Some(digest) = read_hex(&key.id) {
                    self.digests.forget(&digest);
                }
            }
            Some(Fact::Grant) => self.grants.forget(key.id.as_str()),
            Some(Fact::Client) => self.clients.forget(key.id.as_str()),
            None => {}
        }
    }

    fn clear(&self) {
        self.keys.clear();
        self.users.clear();
        self.digests.clear();
        self.grants.clear();
        self.clients.clear();
    }

    fn clear_absent(&self) {
        self.keys.absent.clear();
        self.users.absent.clear();
        self.digests.absent.clear();
        self.grants.absent.clear();
        self.clients.absent.clear();
    }

    fn reign(&self) -> u64 {
        self.reign.load(Ordering::Acquire)
    }

    fn course(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Course {
    fn admits(&mut self, moment: Moment, era: u64) -> bool {
        if moment.era == era {
            self.top = self.top.max(moment.head);
        }
        self.cursor.is_some() && moment.era == era && moment.head >= self.floor
    }
}
