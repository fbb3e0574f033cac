//! What lies in a store or a backup: how much of what, and a fingerprint of each record, so that two sides can be compared.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;

use aws_lc_rs::digest;

use crate::app::moving::MovingError;
use crate::app::moving::item::Item;
use crate::app::moving::item::Record;
use crate::app::moving::item::span_name;
use crate::app::moving::origin::Origin;
use crate::jose::check_ring;
use crate::model::time::Timestamp;
use crate::model::usage::Span;
use crate::secrets::Peppers;
use crate::store::Family;
use crate::store::RecordKey;
use crate::store::WriterCount;

/// Places that a complaint names.
const NAMED_MAX: usize = 5;

/// What was found on one side.
#[derive(Debug, Default)]
pub(in crate::app) struct Survey {
    pub(super) records: HashMap<RecordKey, Fingerprint>,
    /// The places of records that this release cannot read, with why.
    pub(in crate::app) unreadable: BTreeMap<String, String>,
    /// The peppers that the records were made with.
    pub(in crate::app) peppers: BTreeSet<String>,
    /// The signing keys, wrapped: they tell whether a pepper's secret is the right one.
    rings: Vec<Record>,
    /// Writers' shares of counts, and last uses, each under the fingerprint of its name.
    counts: HashMap<Fingerprint, Counted>,
    /// How many of them there are.
    pub(in crate::app) tallies: BTreeMap<&'static str, u64>,
    /// What all months add up to: every request that was ever counted.
    pub(super) requests: u64,
}

/// A number that never sinks, and of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counted {
    number: u64,
    /// None: a last use.
    period: Option<(Span, u32)>,
}

/// Bytes and expiry of a record, or the name of a count, in little.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub(super) fn of(record: &Record) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        // Not every store keeps an expiry finer than this.
        let millis = record.expires.map_or(0, |expires| expires.as_nanos() / 1_000_000);
        context.update(&millis.to_le_bytes());
        context.update(&record.bytes);
        Self::finish(context)
    }

    fn of_count(count: &WriterCount) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(span_name(count.record.span).as_bytes());
        context.update(&count.writer.to_le_bytes());
        context.update(&count.record.row().write());
        Self::finish(context)
    }

    fn of_use(key: &str) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"use ");
        context.update(key.as_bytes());
        Self::finish(context)
    }

    fn finish(context: digest::Context) -> Self {
        let mut bytes = [0; 32];
        for (to, from) in bytes.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        Self(bytes)
    }
}

impl Survey {
    /// Reads all of it once.
    pub(in crate::app) async fn of(origin: &mut Origin<'_>, tell: &mut dyn FnMut(u64)) -> Result<Self, MovingError> {
        let mut survey = Self::default();
        let mut seen = 0;
        while let Some(items) = origin.next().await? {
            for item in &items {
                match item {
                    Item::Record(record) => survey.take_in(record),
                    Item::Count(count) => survey.take_in_count(count),
                    Item::Use(one) => {
                        *survey.tallies.entry("last uses").or_default() += 1;
                        let counted = Counted { number: one.last.at.unix_seconds(), period: None };
                        survey.counts.insert(Fingerprint::of_use(&one.key), counted);
                    }
                }
            }
            seen += u64::try_from(items.len()).unwrap_or_default();
            tell(seen);
        }
        Ok(survey)
    }

    fn take_in(&mut self, record: &Record) {
        match record.peppers() {
            Ok(peppers) => {
                self.peppers.extend(peppers);
                if record.key.family == Family::Ring {
                    self.rings.push(record.clone());
                }
            }
            Err(why) => {
                self.unreadable.insert(record.place(), why);
            }
        }
        self.records.insert(record.key.clone(), Fingerprint::of(record));
    }

    fn take_in_count(&mut self, count: &WriterCount) {
        let record = &count.record;
        let tally = match record.span {
            Span::Hour => "hours",
            Span::Day => "days",
            Span::Month => "months",
        };
        *self.tallies.entry(tally).or_default() += 1;
        if record.span == Span::Month {
            self.requests = self.requests.saturating_add(record.count);
        }
        let counted = Counted { number: record.count, period: Some((record.span, record.span.index(record.start))) };
        self.counts.insert(Fingerprint::of_count(count), counted);
    }

    /// How many counts the other side has not, or has less of; those that are too old to be kept are nobody's loss.
    pub(super) fn counts_missing_from(&self, other: &Self, now: Timestamp) -> usize {
        let is_kept = |counted: &Counted| counted.period.is_none_or(|(span, period)| period >= span.oldest_kept(now));
        let is_there = |print: &Fingerprint, counted: &Counted| other.counts.get(print).is_some_and(|there| there.number >= counted.number);
        self.counts.iter().filter(|(print, counted)| is_kept(counted) && !is_there(print, counted)).count()
    }

    /// The signing keys that do not open with these peppers, with why: `serve` would refuse to start.
    pub(in crate::app) fn locked_rings(&self, peppers: &Peppers) -> Vec<String> {
        let judge = |ring: &Record| check_ring(&ring.key.id, &ring.bytes, peppers).err().map(|error| format!("{}: {error}", ring.place()));
        self.rings.iter().filter_map(judge).collect()
    }

    pub(in crate::app) fn count(&self, family: Family) -> u64 {
        self.records.keys().filter(|key| key.family == family).count().try_into().unwrap_or_default()
    }

    /// The records that the other side has not, or has differently; sorted.
    pub(super) fn missing_from(&self, other: &Self) -> Vec<&RecordKey> {
        let mut missing: Vec<&RecordKey> =
            self.records.iter().filter(|(key, print)| other.records.get(key) != Some(print)).map(|(key, _print)| key).collect();
        missing.sort_unstable();
        missing
    }
}

/// Some of them by name, the rest by number.
pub(in crate::app) fn name_some(places: impl ExactSizeIterator<Item = String>) -> String {
    let more = places.len().saturating_sub(NAMED_MAX);
    let named: Vec<String> = places.take(NAMED_MAX).collect();
    if more == 0 { named.join(", ") } else { format!("{} and {more} more", named.join(", ")) }
}

/// Whether this is over by now.
pub(super) fn is_over(record: &Record, now: Timestamp) -> bool {
    record.expires.is_some_and(|expires| expires <= now)
}
