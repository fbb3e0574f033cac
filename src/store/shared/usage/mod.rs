//! Counts that many sidecars share: one hash for each user and hour, day and month, in which every writer has its own share of
//! every line. Telling is merging by maximum, so a share that is told again, late or out of order changes nothing, and a store
//! that was thrown back, by a failover or a restored copy, has everything again once all have told what they have.
//!
//! - [`SharedCounts`]: telling and asking.
//! - `tasks/publish_usage` drives it from the local history.

mod archive;
mod forget;
mod hash;
mod names;
mod query;
mod registry;

#[cfg(test)]
mod tests;

pub use registry::Held;

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use redis::Value;

use crate::clock::Clock;
use crate::model::time::Timestamp;
use crate::model::usage::Span;
use crate::model::usage::UsagePage;
use crate::model::usage::UsageQuery;
use crate::model::usage_row::RowKey;
use crate::store::Answer;
use crate::store::CountRecord;
use crate::store::Counts;
use crate::store::CountsError;
use crate::store::KeyUse;
use crate::store::LastUse;
use crate::store::StoreError;
use crate::store::WriterCount;
use crate::store::shared::link::Call;
use crate::store::shared::link::Lane;
use crate::store::shared::link::Link;
use crate::store::shared::link::LinkError;
use crate::store::shared::link::script::Script;
use crate::store::shared::usage::names::Names;

/// The greatest number that a script can count to exactly.
pub const COUNT_MAX: u64 = (1 << 53) - 1;
/// Calls under way at once.
const CALLS: usize = 256;
/// Lines under way at once: the server does nothing else while it takes them in, and every check waits behind them.
const LINES_TOGETHER: usize = 1000;
/// Periods of one user, and lines, in one call.
const KEYS_MAX: usize = 16;
const LINES_MAX: usize = 100;
/// Names entered into a list by one call.
const NAMES_MAX: usize = 500;
/// Writers of one user in one period, and lines; far more than there can be unless something is broken. A sidecar without a volume
/// is a new writer at each start, so a month has as many as all deployments and scalings of it made.
const PERIOD_WRITERS_MAX: u64 = 65_536;
const PERIOD_LINES_MAX: u64 = 200_000;
const LINE_BYTES_MAX: u64 = 32_768;
const PERIOD_BYTES_MAX: u64 = 64 << 20;
/// Users that this process knows to be listed.
const LISTED_MAX: usize = 1 << 18;
/// How long a last use is kept.
const USE_KEPT_SECONDS: u64 = 400 * 24 * 3600;

static MERGE: Script = Script::new("merge_counts", include_str!("../scripts/merge_counts.lua"));
static READ: Script = Script::new("read_counts", include_str!("../scripts/read_counts.lua"));
static ADD_NAMES: Script = Script::new("add_names", include_str!("../scripts/add_names.lua"));
static READ_NAMES: Script = Script::new("read_names", include_str!("../scripts/read_names.lua"));
static NOTE_USE: Script = Script::new("note_use", include_str!("../scripts/note_use.lua"));
static READ_USE: Script = Script::new("read_use", include_str!("../scripts/read_use.lua"));

/// What became of one count that was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The store has it now; it rose by this much.
    Has(u64),
    /// The store has more of this writer than it was told: by this much.
    Ahead(u64),
    /// What lies in its place is nothing of ours, or full; nothing was written.
    Refused,
    /// No answer; it may or may not be there.
    Unknown,
}

impl Mark {
    /// Whether the store has at least what it was told.
    pub const fn has_arrived(self) -> bool {
        match self {
            Self::Has(_) | Self::Ahead(_) => true,
            Self::Refused | Self::Unknown => false,
        }
    }
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// For each count, in order.
    pub marks: Vec<Mark>,
    /// Why counts were refused, once for each user.
    pub refused: Vec<(Arc<str>, String)>,
    /// Why there was no answer, the first time.
    pub failure: Option<StoreError>,
}

/// How sure the store must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// The primary has it.
    Usual,
    /// As many replicas have it as the settings ask for.
    Replicated,
}

/// Counts in the store that all share.
#[derive(Debug)]
pub struct SharedCounts {
    link: Arc<Link>,
    clock: Arc<dyn Clock>,
    names: Names,
    /// Users by month that are known to be in the list.
    listed: Mutex<HashSet<u64>>,
    hasher: std::hash::RandomState,
    saturated: AtomicU64,
}

impl SharedCounts {
    pub fn new(link: Arc<Link>, clock: Arc<dyn Clock>) -> Arc<Self> {
        let names = Names::new(&link.settings().prefix);
        Arc::new(Self {
            link,
            clock,
            names,
            listed: Mutex::new(HashSet::new()),
            hasher: std::hash::RandomState::new(),
            saturated: AtomicU64::new(0),
        })
    }

    /// How often a line stood at the greatest number that can be counted to.
    pub fn saturated(&self) -> u64 {
        self.saturated.load(Ordering::Relaxed)
    }

    /// Users are entered into their months' lists again when they are told of next: the store may have lost them.
    pub fn forget_listed(&self) {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Tells counts of any writers. Stops at the first call without an answer; what was not sent is marked unknown too.
    pub async fn tell(&self, counts: &[WriterCount], care: Care, now: Timestamp) -> Told {
        let mut told = Told { marks: vec![Mark::Unknown; counts.len()], ..Told::default() };
        if let Err(error) = self.list_users(counts).await {
            told.failure = Some(error.into());
            return told;
        }
        let (counts, doubles) = without_doubles(counts);
        let calls = self.merge_calls(&counts, now, &mut told);
        let mut rest = calls.as_slice();
        while !rest.is_empty() {
            let mut lines = 0;
            let fits = |planned: &&Planned| {
                lines += planned.of.len();
                lines <= LINES_TOGETHER
            };
            let (batch, after) = rest.split_at(rest.iter().take(CALLS).take_while(fits).count().max(1));
            rest = after;
            let answers = join_all(batch.iter().map(|planned| self.send(planned.call.clone(), care))).await;
            for (planned, answer) in batch.iter().zip(answers) {
                self.take_answer(&counts, planned, answer, &mut told);
            }
            if told.failure.is_some() {
                break;
            }
        }
        for (double, first) in doubles {
            if let Some(mark) = told.marks.get(first).copied()
                && let Some(place) = told.marks.get_mut(double)
            {
                *place = if mark.has_arrived() { Mark::Has(0) } else { mark };
            }
        }
        told
    }

    /// Takes in last uses; those that were taken in, and why not all.
    pub async fn tell_uses(&self, uses: &[KeyUse]) -> Result<(), StoreError> {
        for batch in uses.chunks(CALLS) {
            let calls = batch.iter().map(|one| {
                let second = one.last.at.unix_seconds();
                self.run(Call {
                    script: &NOTE_USE,
                    keys: vec![self.names.last_use(&one.key)],
                    args: vec![text(second), one.last.route.as_bytes().to_vec(), text(USE_KEPT_SECONDS)],
                })
            });
            for (one, answer) in batch.iter().zip(join_all(calls).await) {
                match answer {
                    Ok(_) => {}
                    // One key's place is not what it should be; the others go on.
                    Err(error) if of_the_record(&error) => tracing::warn!(key = %one.key, %error, "the last use of a key was not taken in"),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    async fn read_last_use(&self, key: &str) -> Result<Option<LastUse>, StoreError> {
        let place = self.names.last_use(key);
        let shown = String::from_utf8_lossy(&place).into_owned();
        let corrupt = |why: String| StoreError::Corrupt { key: shown.clone(), why };
        let answer = self.run(Call { script: &READ_USE, keys: vec![place], args: vec![] }).await;
        let answer = answer.map_err(|error| read_error(&shown, error))?;
        if answer == Value::Nil {
            return Ok(None);
        }
        let Value::BulkString(bytes) = answer else { return Err(corrupt("it is no text".to_owned())) };
        let text = String::from_utf8(bytes).map_err(|error| corrupt(error.to_string()))?;
        let (second, route) = text.split_once(' ').ok_or_else(|| corrupt("there is no route".to_owned()))?;
        let second: u64 = second.parse().map_err(|_| corrupt("there is no time".to_owned()))?;
        Ok(Some(LastUse { at: Timestamp::from_unix_seconds(second), route: Arc::from(route) }))
    }

    /// Enters users into their months' lists, before anything is told of them: whoever reads a list then misses nobody.
    async fn list_users(&self, counts: &[WriterCount]) -> Result<(), LinkError> {
        let mut missing: BTreeMap<u32, BTreeMap<Arc<str>, u64>> = BTreeMap::new();
        {
            let listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
            for count in counts {
                let month = Span::Month.index(count.record.start);
                let mark = self.hasher.hash_one((month, &*count.record.user));
                if !listed.contains(&mark) {
                    missing.entry(month).or_default().insert(Arc::clone(&count.record.user), mark);
                }
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let mut calls = vec![Call {
            script: &ADD_NAMES,
            keys: vec![self.names.months()],
            args: missing.keys().map(|month| format!("{month:010}").into_bytes()).collect(),
        }];
        for (month, users) in &missing {
            let users: Vec<&Arc<str>> = users.keys().collect();
            for users in users.chunks(NAMES_MAX) {
                calls.push(Call {
                    script: &ADD_NAMES,
                    keys: vec![self.names.users(*month)],
                    args: users.iter().map(|user| user.as_bytes().to_vec()).collect(),
                });
            }
        }
        for batch in calls.chunks(CALLS) {
            for answer in join_all(batch.iter().map(|call| self.run(call.clone()))).await {
                match answer {
                    Ok(_) => {}
                    // A list that is spoilt is no reason not to count; who asks for it is told so.
                    Err(error) if of_the_record(&error) => {
                        tracing::warn!(%error, "a list of users was not taken in");
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        if listed.len() > LISTED_MAX {
            listed.clear();
        }
        listed.extend(missing.into_values().flat_map(BTreeMap::into_values));
        Ok(())
    }

    fn merge_calls(&self, counts: &[Option<WriterCount>], now: Timestamp, told: &mut Told) -> Vec<Planned> {
        type Periods = BTreeMap<(Span, u32), Vec<usize>>;
        let mut groups: BTreeMap<(u128, &str), Periods> = BTreeMap::new();
        for (index, count) in counts.iter().enumerate() {
            let Some(WriterCount { writer, record }) = count else { continue };
            let period = record.span.index(record.start);
            if period < record.span.oldest_kept(now) {
                if let Some(mark) = told.marks.get_mut(index) {
                    *mark = Mark::Has(0);
                }
                continue;
            }
            let group = groups.entry((*writer, &record.user)).or_default();
            group.entry((record.span, period)).or_default().push(index);
        }
        let mut calls = Vec::new();
        for ((writer, user), periods) in groups {
            let mut plan = Planned::begin(writer);
            for indexes in periods.into_values() {
                for indexes in indexes.chunks(LINES_MAX) {
                    if plan.call.keys.len() >= KEYS_MAX || plan.of.len() + indexes.len() > LINES_MAX {
                        calls.push(std::mem::replace(&mut plan, Planned::begin(writer)));
                    }
                    let Some(Some(first)) = indexes.first().and_then(|first| counts.get(*first)) else { continue };
                    let (span, period) = (first.record.span, first.record.span.index(first.record.start));
                    plan.call.keys.push(self.names.counts(span, period, user));
                    plan.call.args.extend([text(expiry(span, period)), text(indexes.len() as u64)]);
                    for index in indexes {
                        let Some(Some(count)) = counts.get(*index) else { continue };
                        plan.call.args.extend([names::of_line(&count.record.row()), text(count.record.count.min(COUNT_MAX))]);
                        plan.of.push(*index);
                    }
                }
            }
            calls.push(plan);
        }
        calls
    }

    async fn send(&self, call: Call, care: Care) -> Result<Value, LinkError> {
        let settings = self.link.settings();
        match care {
            Care::Replicated if settings.replicas > 0 => {
                let patience = settings.timeouts.background;
                let (value, acknowledged) = self.link.run_replicated(call, settings.replicas, patience).await?;
                if acknowledged < settings.replicas {
                    return Err(LinkError::TimedOut(patience));
                }
                Ok(value)
            }
            Care::Replicated | Care::Usual => self.run(call).await,
        }
    }

    async fn run(&self, call: Call) -> Result<Value, LinkError> {
        self.link.run(Lane::Bulk, call, self.link.settings().timeouts.background).await
    }

    fn take_answer(&self, counts: &[Option<WriterCount>], planned: &Planned, answer: Result<Value, LinkError>, told: &mut Told) {
        let unreadable = || StoreError::Unavailable("Redis answered the telling of counts with something else".to_owned());
        let set = |told: &mut Told, index: usize, to: Mark| {
            if let Some(mark) = told.marks.get_mut(index) {
                *mark = to;
            }
        };
        match answer {
            Ok(Value::Array(numbers)) if numbers.len() == planned.of.len() + 1 => {
                for (position, number) in numbers.into_iter().enumerate() {
                    let Value::Int(number) = number else {
                        told.failure.get_or_insert_with(unreadable);
                        return;
                    };
                    match position.checked_sub(1).and_then(|line| planned.of.get(line)) {
                        Some(index) if number < 0 => set(told, *index, Mark::Ahead(number.unsigned_abs())),
                        Some(index) => set(told, *index, Mark::Has(number.unsigned_abs())),
                        None => {
                            self.saturated.fetch_add(number.unsigned_abs(), Ordering::Relaxed);
                        }
                    }
                }
            }
            Ok(_) => {
                told.failure.get_or_insert_with(unreadable);
            }
            Err(error) if of_the_record(&error) => {
                for index in &planned.of {
                    set(told, *index, Mark::Refused);
                }
                if let Some(Some(count)) = planned.of.first().and_then(|index| counts.get(*index)) {
                    told.refused.push((Arc::clone(&count.record.user), error.to_string()));
                }
            }
            Err(error) => {
                told.failure.get_or_insert(error.into());
            }
        }
    }
}

impl Counts for SharedCounts {
    fn merge<'a>(&'a self, writer: u128, told: &'a [CountRecord], now: Timestamp) -> Answer<'a, Result<Vec<u64>, StoreError>> {
        Answer::Pending(Box::pin(async move {
            let counts: Vec<WriterCount> = told.iter().map(|record| WriterCount { writer, record: record.clone() }).collect();
            let told = self.tell(&counts, Care::Usual, now).await;
            if let Some(failure) = told.failure {
                return Err(failure);
            }
            if let Some((user, why)) = told.refused.into_iter().next() {
                return Err(StoreError::Corrupt { key: format!("counts of {user}"), why });
            }
            let raised = |mark: &Mark| match mark {
                Mark::Has(raised) => *raised,
                Mark::Ahead(_) | Mark::Refused | Mark::Unknown => 0,
            };
            Ok(told.marks.iter().map(raised).collect())
        }))
    }

    fn note_uses<'a>(&'a self, uses: &'a [KeyUse]) -> Answer<'a, Result<(), StoreError>> {
        Answer::Pending(Box::pin(self.tell_uses(uses)))
    }

    fn query<'a>(&'a self, query: &'a UsageQuery) -> Answer<'a, Result<UsagePage, CountsError>> {
        Answer::Pending(Box::pin(self.page(query)))
    }

    fn last_use<'a>(&'a self, key: &'a str) -> Answer<'a, Result<Option<LastUse>, StoreError>> {
        Answer::Pending(Box::pin(self.read_last_use(key)))
    }

    fn forget<'a>(&'a self, user: &'a str) -> Answer<'a, Result<(), StoreError>> {
        Answer::Pending(Box::pin(self.forget_user(user)))
    }
}

/// The counts with the greatest number in the first place of each line, and where the other places of the same line were: one call
/// looks at a line once.
fn without_doubles(counts: &[WriterCount]) -> (Vec<Option<WriterCount>>, Vec<(usize, usize)>) {
    let mut first_of: HashMap<(u128, Span, RowKey), usize> = HashMap::with_capacity(counts.len());
    let mut single: Vec<Option<WriterCount>> = Vec::with_capacity(counts.len());
    let mut doubles = Vec::new();
    for (index, count) in counts.iter().enumerate() {
        let first = *first_of.entry((count.writer, count.record.span, count.record.row())).or_insert(index);
        match single.get_mut(first) {
            Some(Some(known)) => {
                known.record.count = known.record.count.max(count.record.count);
                single.push(None);
                doubles.push((index, first));
            }
            Some(None) | None => single.push(Some(count.clone())),
        }
    }
    (single, doubles)
}

/// One call, and the counts (by their position) that its lines stand for.
#[derive(Debug)]
struct Planned {
    call: Call,
    of: Vec<usize>,
}

impl Planned {
    fn begin(writer: u128) -> Self {
        let args = vec![names::of_writer(writer).into_bytes(), text(PERIOD_WRITERS_MAX), text(PERIOD_LINES_MAX), text(LINE_BYTES_MAX)];
        Self { call: Call { script: &MERGE, keys: Vec::new(), args }, of: Vec::new() }
    }
}

/// Unix second at which a period's counts go; 0: never.
fn expiry(span: Span, period: u32) -> u64 {
    span.kept_for().map_or(0, |kept| span.start(period.saturating_add(1)).plus(kept).unix_seconds())
}

/// Whether the trouble is with this record alone: the others can go on.
fn of_the_record(error: &LinkError) -> bool {
    matches!(error, LinkError::Refused { code, .. } if matches!(code.as_str(), "WRONGTYPE" | "CORRUPT" | "OVERSIZE" | "FULL"))
}

fn read_error(key: &str, error: LinkError) -> StoreError {
    if of_the_record(&error) { StoreError::Corrupt { key: key.to_owned(), why: error.to_string() } } else { error.into() }
}

fn text(number: u64) -> Vec<u8> {
    number.to_string().into_bytes()
}
