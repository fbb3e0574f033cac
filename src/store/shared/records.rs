//! Records in Redis: reading and paging. Writing is in `commit`, clearing away in `sweep`.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use redis::Value;

use crate::clock::Clock;
use crate::model::time::Timestamp;
use crate::store::Answer;
use crate::store::Committed;
use crate::store::Family;
use crate::store::Page;
use crate::store::Precondition;
use crate::store::RecordKey;
use crate::store::Records;
use crate::store::StoreError;
use crate::store::Stored;
use crate::store::Write;
use crate::store::shared::cache::Cache;
use crate::store::shared::cache::CacheSizes;
use crate::store::shared::follower::Follower;
use crate::store::shared::link::Call;
use crate::store::shared::link::Lane;
use crate::store::shared::link::Link;
use crate::store::shared::link::script::Script;
use crate::store::shared::outbox::Outbox;
use crate::store::shared::places::Places;
use crate::store::shared::places::place_text;
use crate::store::shared::replies;
use crate::store::shared::seal;
use crate::store::shared::seal::Seal;

static READ: Script = Script::new("read", include_str!("scripts/read.lua"));
static RANGE: Script = Script::new("range", include_str!("scripts/range.lua"));

/// The most bytes of a record, seal included. Ours have a few hundred, a ring a few thousand.
pub(super) const RECORD_BYTES_MAX: usize = 128 * 1024;
/// The longest id.
pub(super) const ID_BYTES_MAX: usize = 1024;
/// Records that one page holds at the most, and that one script reads.
const LARGEST_PAGE: usize = 1000;
pub(super) const READ_TOGETHER: usize = 64;
/// Broken records that are named; more of them are counted as so many.
const BROKEN_NAMED: usize = 1000;

/// The records that many sidecars share.
pub struct SharedRecords {
    link: Arc<Link>,
    clock: Arc<dyn Clock>,
    seal: Arc<dyn Seal>,
    outbox: Option<Outbox>,
    /// Shared by our own commits; whoever does lost ones again has it alone, so that nothing of ours happens behind its back.
    pub(super) committing: tokio::sync::RwLock<()>,
    places: Places,
    cache: Cache,
    follower: Arc<Follower>,
    /// Records that were seen and could not be read.
    broken: Mutex<BTreeSet<RecordKey>>,
}

impl fmt::Debug for SharedRecords {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "SharedRecords({})", self.link.settings().prefix)
    }
}

/// What the cache holds and what was seen broken, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SharedCounts {
    pub keys: usize,
    pub users: usize,
    pub grants: usize,
    pub clients: usize,
    /// Ids that are known not to be there.
    pub absent: usize,
    pub tombstones: usize,
    pub corrupt: usize,
    /// Mutations of this node that would be repeated after a loss.
    pub outbox: usize,
}

/// One record as a script gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Laid {
    Nothing,
    There { stored: Stored, expires: Option<Timestamp> },
    Broken(String),
}

/// Records as they lay at one moment, and the change log's head at that moment.
#[derive(Debug)]
pub(super) struct Read {
    pub head: u64,
    pub laid: Vec<Laid>,
}

/// How much of a record is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    Whole,
    /// The version alone; the bytes are empty, and the seal is not looked at.
    Version,
}

impl SharedRecords {
    /// The records behind this link. Nothing is read before the first question, and nothing served from memory before
    /// `tasks::follow_changes` confirmed it.
    pub fn new(link: Arc<Link>, clock: Arc<dyn Clock>, seal: Arc<dyn Seal>, outbox: Option<Outbox>) -> Arc<Self> {
        Self::with_cache(link, clock, seal, outbox, CacheSizes::default())
    }

    /// The same with a cache of another size.
    pub fn with_cache(link: Arc<Link>, clock: Arc<dyn Clock>, seal: Arc<dyn Seal>, outbox: Option<Outbox>, sizes: CacheSizes) -> Arc<Self> {
        let places = Places::new(&link.settings().prefix);
        let follower = Arc::new(Follower::new(outbox.as_ref().and_then(Outbox::seen)));
        let broken = Mutex::new(BTreeSet::new());
        Arc::new(Self {
            link,
            clock,
            seal,
            outbox,
            committing: tokio::sync::RwLock::new(()),
            places,
            cache: Cache::new(sizes),
            follower,
            broken,
        })
    }

    /// What the following of changes knows: the lease, the members, the resets.
    pub fn follower(&self) -> &Arc<Follower> {
        &self.follower
    }

    pub fn counts(&self) -> SharedCounts {
        let corrupt = self.broken().len();
        let outbox = self.outbox.as_ref().map_or(0, Outbox::len);
        SharedCounts { corrupt, outbox, ..self.cache.counts() }
    }

    /// The places (`family/id`) of at most so many records that were seen and cannot be read.
    pub fn corrupt_places(&self, most: usize) -> Vec<String> {
        self.broken().iter().take(most).map(place_text).collect()
    }

    /// The channel on which commits hint that there is news.
    pub fn hint_channel(&self) -> &str {
        self.places.channel()
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    pub(super) fn prefix(&self) -> &str {
        &self.link.settings().prefix
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    pub(super) fn seal(&self) -> &dyn Seal {
        &*self.seal
    }

    pub(super) fn outbox(&self) -> Option<&Outbox> {
        self.outbox.as_ref()
    }

    pub(super) fn places(&self) -> &Places {
        &self.places
    }

    pub(super) fn cache(&self) -> &Cache {
        &self.cache
    }

    fn broken(&self) -> MutexGuard<'_, BTreeSet<RecordKey>> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the record here can be read, or says once that it cannot.
    pub(super) fn told<T>(&self, key: &RecordKey, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        let mut broken = self.broken();
        match &outcome {
            Ok(_) if broken.is_empty() => {}
            Ok(_) => {
                broken.remove(key);
            }
            Err(error @ StoreError::Corrupt { .. }) => {
                if broken.len() < BROKEN_NAMED && broken.insert(key.clone()) {
                    tracing::error!(%error, "a stored record cannot be read; requests that need it are answered with 503");
                }
            }
            Err(StoreError::Unavailable(_)) => {}
        }
        outcome
    }

    /// Reads records of one moment.
    pub(super) async fn read(&self, keys: &[RecordKey], depth: Depth, lane: Lane, within: Duration) -> Result<Read, StoreError> {
        let mut names = vec![self.places.meta()];
        names.extend(keys.iter().map(|key| self.places.record(key)));
        let whole = match depth {
            Depth::Whole => "whole",
            Depth::Version => "version",
        };
        let args = vec![whole.as_bytes().to_vec(), RECORD_BYTES_MAX.to_string().into_bytes()];
        let answer = self.link.run(lane, Call { script: &READ, keys: names, args }, within).await.map_err(replies::failed)?;
        let mut parts = replies::list(answer).unwrap_or_default().into_iter();
        let head = parts.next().as_ref().and_then(replies::number).ok_or_else(|| replies::unexpected("a read"))?;
        let laid: Vec<Laid> = keys.iter().zip(parts).map(|(key, part)| self.take_up(key, part, depth)).collect();
        if laid.len() == keys.len() { Ok(Read { head, laid }) } else { Err(replies::unexpected("a read")) }
    }

    /// One record alone, judged by our clock; what is wrong with it is its own error.
    pub(super) async fn find(&self, key: &RecordKey, lane: Lane, within: Duration) -> Result<(u64, Laid), StoreError> {
        let read = self.read(std::slice::from_ref(key), Depth::Whole, lane, within).await?;
        Ok((read.head, read.laid.into_iter().next().unwrap_or(Laid::Nothing)))
    }

    fn take_up(&self, key: &RecordKey, part: Value, depth: Depth) -> Laid {
        if part == Value::Nil {
            return Laid::Nothing;
        }
        if let Value::BulkString(why) = part {
            return Laid::Broken(String::from_utf8_lossy(&why).into_owned());
        }
        let mut fields = replies::list(part).unwrap_or_default().into_iter();
        let version = fields.next().as_ref().and_then(replies::number).filter(|version| *version > 0);
        let expires = match fields.next().and_then(replies::bytes).as_deref() {
            Some([]) => Some(None),
            Some(digits) => str::from_utf8(digits).ok().and_then(replies::digits_number).map(|nanos| Some(Timestamp::from_nanos(nanos))),
            None => None,
        };
        let (Some(version), Some(expires), Some(sealed)) = (version, expires, fields.next().and_then(replies::bytes)) else {
            return Laid::Broken("its version or its expiry is no number".to_owned());
        };
        if depth == Depth::Version {
            return Laid::There { stored: Stored { version, bytes: Vec::new(), expires }, expires };
        }
        match self.seal.open(&seal::context(self.prefix(), key, version, expires), &sealed) {
            Ok(bytes) => Laid::There { stored: Stored { version, bytes, expires }, expires },
            Err(error) => Laid::Broken(error.to_string()),
        }
    }

    async fn page(&self, family: Family, after: Option<String>, limit: usize) -> Result<Page, StoreError> {
        let (limit, now) = (limit.clamp(1, LARGEST_PAGE), self.clock.now());
        let mut page = Page { records: Vec::new(), next: None };
        let mut start = after.map_or_else(|| b"-".to_vec(), |id| [b"(", id.as_bytes()].concat());
        loop {
            // One more than the page needs: it tells whether there is a next one.
            let wanted = (limit + 1 - page.records.len()).min(READ_TOGETHER);
            let args = vec![start, wanted.to_string().into_bytes(), ID_BYTES_MAX.to_string().into_bytes()];
            let answer = self.bulk(&RANGE, vec![self.places.index(family)], args).await?;
            let ids: Vec<Vec<u8>> =
                replies::list(answer).ok_or_else(|| replies::unexpected("a page"))?.into_iter().filter_map(replies::bytes).collect();
            let Some(last) = ids.last() else { return Ok(page) };
            start = [b"(", last.as_slice()].concat();
            let is_last = ids.len() < wanted;
            let ours = |id: Vec<u8>| String::from_utf8(id).ok().filter(|id| id.len() <= ID_BYTES_MAX);
            let keys: Vec<RecordKey> = ids.into_iter().filter_map(ours).map(|id| RecordKey { family, id }).collect();
            let within = self.link.settings().timeouts.background;
            let read = self.read(&keys, Depth::Whole, Lane::Bulk, within).await?;
            for (key, laid) in keys.into_iter().zip(read.laid) {
                let stored = match alive(laid, now) {
                    Laid::Nothing => continue,
                    Laid::There { stored, .. } => stored,
                    Laid::Broken(why) => {
                        let _noted: Result<(), _> = self.told(&key, Err(corrupt(&key, why)));
                        Stored { version: 0, bytes: Vec::new(), expires: None }
                    }
                };
                if page.records.len() == limit {
                    page.next = page.records.last().map(|(key, _stored)| key.id.clone());
                    return Ok(page);
                }
                page.records.push((key, stored));
            }
            if is_last {
                return Ok(page);
            }
        }
    }

    pub(super) async fn bulk(&self, script: &'static Script, keys: Vec<Vec<u8>>, args: Vec<Vec<u8>>) -> Result<Value, StoreError> {
        let within = self.link.settings().timeouts.background;
        self.link.run(Lane::Bulk, Call { script, keys, args }, within).await.map_err(replies::failed)
    }
}

impl Records for SharedRecords {
    fn get(&self, key: &RecordKey) -> Answer<'_, Result<Option<Stored>, StoreError>> {
        let key = key.clone();
        Answer::Pending(Box::pin(async move {
            let (_head, laid) = self.find(&key, Lane::Bulk, self.link.settings().timeouts.background).await?;
            let outcome = match alive(laid, self.clock.now()) {
                Laid::Nothing => Ok(None),
                Laid::There { stored, .. } => Ok(Some(stored)),
                Laid::Broken(why) => Err(corrupt(&key, why)),
            };
            // What decoding says of it is the facts' business: a good seal alone does not make a record readable.
            match outcome {
                Err(error) => self.told(&key, Err(error)),
                Ok(stored) => Ok(stored),
            }
        }))
    }

    fn range(&self, family: Family, after: Option<&str>, limit: usize) -> Answer<'_, Result<Page, StoreError>> {
        let after = after.map(str::to_owned);
        Answer::Pending(Box::pin(self.page(family, after, limit)))
    }

    fn commit(&self, preconditions: Vec<Precondition>, writes: Vec<Write>, now: Timestamp) -> Answer<'_, Result<Committed, StoreError>> {
        Answer::Pending(Box::pin(self.commit_all(preconditions, writes, now)))
    }
}

impl Write {
    /// The record that it is about.
    pub fn key(&self) -> &RecordKey {
        match self {
            Self::Put { key, .. } | Self::Remove(key) => key,
        }
    }
}

/// Nothing, where it has expired.
pub(super) fn alive(laid: Laid, now: Timestamp) -> Laid {
    match laid {
        Laid::There { expires: Some(expires), .. } if expires <= now => Laid::Nothing,
        Laid::There { .. } | Laid::Nothing | Laid::Broken(_) => laid,
    }
}

pub(super) fn corrupt(key: &RecordKey, why: String) -> StoreError {
    StoreError::Corrupt { key: place_text(key), why }
}
