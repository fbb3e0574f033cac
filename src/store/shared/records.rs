//! Records in Redis: reading, paging, and the one conditional write.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use redis::Value;

use crate::clock::Clock;
use crate::clock::monotonic;
use crate::model::time::Timestamp;
use crate::secrets::random_bytes;
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
use crate::store::shared::changes::Follower;
use crate::store::shared::entry::Change;
use crate::store::shared::entry::Mark;
use crate::store::shared::link::Call;
use crate::store::shared::link::Lane;
use crate::store::shared::link::Link;
use crate::store::shared::link::LinkError;
use crate::store::shared::link::script::Script;
use crate::store::shared::outbox::Mutation;
use crate::store::shared::outbox::Outbox;
use crate::store::shared::places::Places;
use crate::store::shared::places::place_text;
use crate::store::shared::places::read_place;
use crate::store::shared::replies;
use crate::store::shared::seal;
use crate::store::shared::seal::Seal;

static COMMIT: Script = Script::new("commit", include_str!("scripts/commit.lua"));
static READ: Script = Script::new("read", include_str!("scripts/read.lua"));
static RANGE: Script = Script::new("range", include_str!("scripts/range.lua"));
static DUE: Script = Script::new("due", include_str!("scripts/due.lua"));
static SWEEP: Script = Script::new("sweep", include_str!("scripts/sweep.lua"));

/// The most bytes of a record, seal included. Ours have a few hundred, a ring a few thousand.
const RECORD_BYTES_MAX: usize = 128 * 1024;
/// The longest id.
pub(super) const ID_BYTES_MAX: usize = 1024;
/// What one commit may name, preconditions and writes each.
const COMMIT_PARTS_MAX: usize = 4000;
/// Changes that the log holds: whoever missed more of them forgets what it knew and reads again.
pub(super) const LOG_LENGTH: u64 = 10_000;
/// Records that one page holds at the most, and that one script reads.
const LARGEST_PAGE: usize = 1000;
pub(super) const READ_TOGETHER: usize = 64;
/// Expired records that one script clears away.
const SWEPT_TOGETHER: usize = 64;
/// How much longer than its time a record lies there: clocks differ, and each reader judges by its own.
const EXPIRY_MARGIN: Duration = Duration::from_secs(3600);
/// How long a commit waits for the replicas that the config asks for.
const REPLICAS_PATIENCE: Duration = Duration::from_secs(1);
/// How long a commit whose answer was lost is asked for again; the log tells whether it ran.
const TRIED_FOR: Duration = Duration::from_secs(3);
/// Between two tries: a connection that broke has to be made anew.
const TRY_PAUSE: Duration = Duration::from_millis(100);
/// Broken records that are named; more of them are counted as so many.
const BROKEN_NAMED: usize = 1000;

/// The records that many sidecars share.
pub struct SharedRecords {
    link: Arc<Link>,
    clock: Arc<dyn Clock>,
    seal: Arc<dyn Seal>,
    outbox: Option<Outbox>,
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

/// What became of a commit's script.
enum Ran {
    Refused(usize),
    Done { head: u64, replaced: Vec<Option<u64>>, replicas: u8 },
}

/// A commit that happened.
struct Done {
    head: u64,
    changes: Vec<Change>,
    replicas: u8,
}

impl Done {
    fn outcome(&self, wanted: u8) -> Committed {
        if self.replicas >= wanted { Committed::Done } else { Committed::Unconfirmed }
    }
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
        Arc::new(Self { link, clock, seal, outbox, places, cache: Cache::new(sizes), follower, broken })
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

    fn prefix(&self) -> &str {
        &self.link.settings().prefix
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.clock
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

    async fn commit_all(&self, preconditions: Vec<Precondition>, writes: Vec<Write>, now: Timestamp) -> Result<Committed, StoreError> {
        let version = random_number()?;
        let writes: Vec<Versioned> = writes.into_iter().map(|write| Versioned { write, version }).collect();
        self.commit_versions(&preconditions, &writes, now).await
    }

    /// Commits writes whose versions are given: a mutation that is done again keeps its own.
    pub(super) async fn commit_versions(
        &self,
        preconditions: &[Precondition],
        writes: &[Versioned],
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        let era = self.cache.era();
        let ran = self.attempt(preconditions, writes, now).await;
        let done = match self.applied(era, ran, writes)? {
            Ok(done) => done,
            Err(position) => return Ok(Committed::Refused(position)),
        };
        let is_noted = self.note(writes, &done).await;
        Ok(if is_noted { done.outcome(self.link.settings().replicas) } else { Committed::Unconfirmed })
    }

    /// Commits a mutation of ours once more: the outbox has it already.
    pub(super) async fn commit_again(
        &self,
        preconditions: &[Precondition],
        write: &Versioned,
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        let era = self.cache.era();
        let writes = std::slice::from_ref(write);
        let ran = self.attempt(preconditions, writes, now).await;
        Ok(match self.applied(era, ran, writes)? {
            Ok(done) => done.outcome(self.link.settings().replicas),
            Err(position) => Committed::Refused(position),
        })
    }

    /// Shows in memory what a commit did; the inner error is the precondition that did not hold.
    fn applied(&self, era: u64, ran: Result<Ran, StoreError>, writes: &[Versioned]) -> Result<Result<Done, usize>, StoreError> {
        let (head, replaced, replicas) = match ran {
            Ok(Ran::Refused(position)) => return Ok(Err(position)),
            Ok(Ran::Done { head, replaced, replicas }) => (head, replaced, replicas),
            Err(error) => {
                // It may have happened.
                self.cache.forget(writes.iter().map(|write| write.write.key()));
                return Err(error);
            }
        };
        let changes: Vec<Change> = writes.iter().zip(replaced).map(|(write, old)| write.change(old)).collect();
        self.cache.committed(era, head, &changes);
        Ok(Ok(Done { head, changes, replicas }))
    }

    /// Puts the mutations into the outbox. A commit that could not be noted stands, and would not be repeated after a loss.
    async fn note(&self, writes: &[Versioned], done: &Done) -> bool {
        let Some(outbox) = &self.outbox else { return true };
        if writes.is_empty() {
            return true;
        }
        let now = self.clock.now();
        let mutations = writes.iter().zip(&done.changes).map(|(write, change)| Mutation::new(write, change, done.head, now)).collect();
        match outbox.append(mutations).await {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%error, "a commit could not be noted in the outbox; a failover right now could undo it");
                false
            }
        }
    }

    async fn attempt(&self, preconditions: &[Precondition], writes: &[Versioned], now: Timestamp) -> Result<Ran, StoreError> {
        let nonce = random_number()?;
        let (wanted, patience) = (self.link.settings().replicas, REPLICAS_PATIENCE);
        let (began, mut failure) = (monotonic(), None);
        loop {
            let call = self.commit_call(preconditions, writes, now, nonce, failure.is_some())?;
            let answer = if wanted > 0 && !writes.is_empty() {
                self.link.run_replicated(call, wanted, patience).await
            } else {
                let within = self.link.settings().timeouts.background;
                self.link.run(Lane::Bulk, call, within).await.map(|value| (value, wanted))
            };
            match answer {
                Ok((value, replicas)) => return read_commit(value, replicas, writes.len()).ok_or_else(|| replies::unexpected("a commit")),
                // It may have run: the same commit is asked for once more, and the log knows.
                Err(error @ (LinkError::TimedOut(_) | LinkError::Broken(_))) => failure = Some(error),
                Err(LinkError::Unreachable(_)) if failure.is_some() => {}
                Err(error @ (LinkError::Unreachable(_) | LinkError::Refused { .. })) => return Err(replies::failed(error)),
            }
            if let Some(error) = failure.clone().filter(|_error| began.elapsed() >= TRIED_FOR) {
                return Err(replies::failed(error));
            }
            tokio::time::sleep(TRY_PAUSE).await;
        }
    }

    fn commit_call(
        &self,
        preconditions: &[Precondition],
        writes: &[Versioned],
        now: Timestamp,
        nonce: u64,
        again: bool,
    ) -> Result<Call, StoreError> {
        if preconditions.len() > COMMIT_PARTS_MAX || writes.len() > COMMIT_PARTS_MAX {
            return Err(StoreError::Unavailable(format!("a commit may name at most {COMMIT_PARTS_MAX} records; make several of it")));
        }
        let mut keys = vec![self.places.meta(), self.places.log(), self.places.expiries()];
        keys.extend(Family::ALL.map(|family| self.places.index(family)));
        let mut named = Named { keys, positions: HashMap::new(), before: 3 + Family::ALL.len() };
        let mut args = Args::default();
        args.number(nonce);
        args.text(&replies::write_instant(now));
        args.text(if again { "again" } else { "first" });
        args.text(self.places.channel());
        args.number(LOG_LENGTH);
        args.number(Family::ALL.len() as u64);
        args.number(preconditions.len() as u64);
        args.number(writes.len() as u64);
        for precondition in preconditions {
            let (kind, key, version) = match precondition {
                Precondition::Absent(key) => ("absent", key, None),
                Precondition::Present(key) => ("present", key, None),
                Precondition::AtVersion(key, version) => ("at", key, Some(*version)),
            };
            args.text(kind);
            args.number(named.position(key, &self.places)?);
            args.text(&version.map(|version| version.to_string()).unwrap_or_default());
        }
        for write in writes {
            let key = write.write.key();
            let (kind, sealed, expires) = match &write.write {
                Write::Put { key, bytes, expires } => {
                    let sealed = self.seal.seal(&seal::context(self.prefix(), key, write.version, *expires), bytes);
                    let sealed = sealed.map_err(|error| StoreError::Unavailable(error.to_string()))?;
                    if sealed.len() > RECORD_BYTES_MAX {
                        return Err(corrupt(key, format!("it would be larger than a record can be ({RECORD_BYTES_MAX} bytes)")));
                    }
                    ("put", sealed, *expires)
                }
                Write::Remove(_) => ("remove", Vec::new(), None),
            };
            args.text(kind);
            args.number(named.position(key, &self.places)?);
            args.number(family_position(key.family));
            args.text(&place_text(key));
            args.text(&key.id);
            args.number(write.version);
            args.0.push(sealed);
            args.text(&expires.map(replies::write_instant).unwrap_or_default());
            args.number(expires.map_or(0, |expires| expires.as_nanos() / 1_000_000));
            // Told as a length of time, so that the server's clock does not matter.
            args.number(expires.map_or(0, |expires| millis(expires.plus(EXPIRY_MARGIN).since(now)).max(1)));
            args.text(write.mark().as_str());
        }
        Ok(Call { script: &COMMIT, keys: named.keys, args: args.0 })
    }

    /// Clears away some of the records that expired more than an hour ago; how many.
    ///
    /// # Errors
    /// When the store gives no answer.
    pub async fn sweep(&self) -> Result<usize, StoreError> {
        let until = self.clock.now().minus(EXPIRY_MARGIN);
        let args = vec![(until.as_nanos() / 1_000_000).to_string().into_bytes(), SWEPT_TOGETHER.to_string().into_bytes()];
        let answer = self.bulk(&DUE, vec![self.places.expiries()], args).await?;
        let due: Vec<String> =
            replies::list(answer).ok_or_else(|| replies::unexpected("a sweep"))?.into_iter().filter_map(replies::text).collect();
        let records: Vec<RecordKey> = due.iter().filter_map(|place| read_place(place)).collect();
        if records.is_empty() {
            return Ok(0);
        }
        let mut keys = vec![self.places.expiries()];
        keys.extend(Family::ALL.map(|family| self.places.index(family)));
        keys.extend(records.iter().map(|key| self.places.record(key)));
        let mut args = Args::default();
        args.text(&replies::write_instant(until));
        args.number(Family::ALL.len() as u64);
        for key in &records {
            args.number(family_position(key.family));
            args.text(&place_text(key));
            args.text(&key.id);
        }
        let cleared = self.bulk(&SWEEP, keys, args.0).await?;
        Ok(replies::number(&cleared).and_then(|cleared| usize::try_from(cleared).ok()).unwrap_or(0))
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

/// A write and the version that it gives its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Versioned {
    pub write: Write,
    pub version: u64,
}

impl Versioned {
    pub(super) fn mark(&self) -> Mark {
        Mark::of(&self.write)
    }

    fn change(&self, replaced: Option<u64>) -> Change {
        let new = match &self.write {
            Write::Put { .. } => Some(self.version),
            Write::Remove(_) => None,
        };
        Change { key: self.write.key().clone(), replaced, version: new, mark: self.mark() }
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

/// Key names of a call, each once.
struct Named {
    keys: Vec<Vec<u8>>,
    positions: HashMap<RecordKey, u64>,
    before: usize,
}

impl Named {
    /// The position of a record among the records, from one.
    fn position(&mut self, key: &RecordKey, places: &Places) -> Result<u64, StoreError> {
        if let Some(position) = self.positions.get(key) {
            return Ok(*position);
        }
        if key.id.len() > ID_BYTES_MAX {
            return Err(corrupt(key, format!("its id is longer than {ID_BYTES_MAX} bytes")));
        }
        self.keys.push(places.record(key));
        let position = (self.keys.len() - self.before) as u64;
        self.positions.insert(key.clone(), position);
        Ok(position)
    }
}

#[derive(Default)]
struct Args(Vec<Vec<u8>>);

impl Args {
    fn text(&mut self, text: &str) {
        self.0.push(text.as_bytes().to_vec());
    }

    fn number(&mut self, number: u64) {
        self.0.push(number.to_string().into_bytes());
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

/// A random number that no other will equal: a version, or a nonce. Of 53 bits, so that every reader of JSON and Lua takes it whole.
pub(super) fn random_number() -> Result<u64, StoreError> {
    let bytes = random_bytes::<8>().map_err(|error| StoreError::Unavailable(error.to_string()))?;
    Ok((u64::from_be_bytes(bytes) >> 11).max(1))
}

fn read_commit(answer: Value, replicas: u8, writes: usize) -> Option<Ran> {
    let mut parts = replies::list(answer)?.into_iter();
    let kind = replies::text(parts.next()?)?;
    let number = replies::number(&parts.next()?)?;
    if kind == "refused" {
        return Some(Ran::Refused(usize::try_from(number).ok()?));
    }
    let replaced: Vec<Option<u64>> = parts.map(|part| replies::number(&part)).collect();
    (kind == "done" && replaced.len() == writes).then_some(Ran::Done { head: number, replaced, replicas })
}

fn family_position(family: Family) -> u64 {
    match family {
        Family::Key => 1,
        Family::User => 2,
        Family::Ring => 3,
        Family::Digest => 4,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
