//! What the history tells a store that many share: the rows that rose, and page by page all that it keeps.

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use redb::ReadTransaction;
use redb::ReadableTable;
use redb::TableDefinition;
use redb::WriteTransaction;

use crate::model::time::Hour;
use crate::model::time::Timestamp;
use crate::model::usage::Span;
use crate::model::usage_row;
use crate::model::usage_row::RowKey;
use crate::store::CountRecord;
use crate::store::KeyUse;
use crate::store::LastUse;
use crate::store::WriterCount;
use crate::usage::changes::Listed;
use crate::usage::history;
use crate::usage::history::History;
use crate::usage::history::HistoryError;
use crate::usage::rows::HourValue;
use crate::usage::shares;
use crate::usage::shares::SHARE;
use crate::usage::shares::Shares;

/// Names under which this history told the store that it is the one that writes, the last ones.
const NONCE: TableDefinition<'_, u64, u128> = TableDefinition::new("nonce");
const NONCES_KEPT: u64 = 8;
const CLOSED_TO: &str = "closed_to";

/// Which rows a page takes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Hours from this one on, and the days and months that they lie in.
    Since(Hour),
    /// One hour; with its last hour also the day and the month.
    Closing(Hour),
}

/// Counts to be published, and what to note when they have arrived.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub counts: Vec<WriterCount>,
    /// For each count the row (by its position below) that it is a share of.
    row_of: Vec<usize>,
    rows: Vec<(Listed, u64)>,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    fn push(&mut self, listed: Listed, total: u64, counts: impl IntoIterator<Item = WriterCount>) {
        let position = self.rows.len();
        self.rows.push((listed, total));
        for count in counts {
            self.counts.push(count);
            self.row_of.push(position);
        }
    }

    /// The rows all of whose counts have arrived.
    fn arrived(&self, arrived: &[bool]) -> Vec<(Listed, u64)> {
        let mut whole = vec![true; self.rows.len()];
        for (count, row) in self.row_of.iter().enumerate() {
            if !arrived.get(count).copied().unwrap_or(false)
                && let Some(row) = whole.get_mut(*row)
            {
                *row = false;
            }
        }
        self.rows.iter().zip(whole).filter(|(_, whole)| *whole).map(|(row, _)| row.clone()).collect()
    }
}

/// One run of a process over this history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// By which the store tells this run from any other.
    pub nonce: u128,
    /// Those of earlier runs, the newest first.
    pub earlier: Vec<u128>,
}

/// Where a walk through all rows goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk(Vec<u8>);

impl Walk {
    pub(super) fn place(&self) -> &[u8] {
        &self.0
    }

    /// Behind the row of this place; none: there can be no such row.
    pub(super) fn at(place: Vec<u8>) -> Option<Self> {
        read_place(&place).map(|_| Self(place))
    }
}

impl History {
    pub(super) fn list_changes(&self) {
        self.changes.want();
    }

    /// Up to `limit` rows that rose, what follows `after`; and where to go on, if there may be more.
    ///
    /// # Errors
    /// When the database fails.
    pub fn changed(&self, after: Option<&Listed>, limit: usize) -> Result<(Batch, Option<Listed>), HistoryError> {
        let taken = self.changes.take_up(after, limit);
        let next = (taken.len() >= limit).then(|| taken.last().map(|(listed, _)| listed.clone())).flatten();
        let reading = self.read()?;
        let mut batch = Batch::default();
        for (listed, total) in taken {
            let Some((span, row)) = read_place(&listed.1) else { continue };
            let note = self.shares_in(&reading, span, &row, &listed.1)?;
            let count = WriterCount { writer: self.eras.writer_of(note.era), record: CountRecord::of(span, row, note.rest_of(total)) };
            batch.push(listed, total, [count]);
        }
        Ok((batch, next))
    }

    /// Notes which counts of a batch have arrived.
    pub fn note_published(&self, batch: &Batch, arrived: &[bool]) {
        self.changes.mark_arrived(&batch.arrived(arrived));
    }

    /// Last uses that are newer than what was published.
    pub fn changed_uses(&self, limit: usize) -> Vec<KeyUse> {
        self.changes.uses(limit)
    }

    pub fn note_uses_published(&self, uses: &[KeyUse]) {
        self.changes.mark_uses_arrived(uses);
    }

    /// Whether the list was too short since this was asked last; then only a walk finds everything.
    pub fn take_overflow(&self) -> bool {
        self.changes.take_overflow()
    }

    /// Rows that wait.
    pub fn unpublished(&self) -> usize {
        self.changes.len()
    }

    /// About `limit` rows of all that there are within `reach`, each with all of its shares.
    ///
    /// # Errors
    /// When the database fails.
    pub fn walk(&self, reach: Reach, after: Option<&Walk>, limit: usize) -> Result<(Batch, Option<Walk>), HistoryError> {
        let reading = self.read()?;
        let mut batch = Batch::default();
        let mut next = None;
        for span in [Span::Hour, Span::Day, Span::Month] {
            let Some((start, end)) = stretch(reach, span) else { continue };
            let from = match after {
                Some(Walk(place)) if place.first().is_some_and(|tag| *tag > shares::tag_of(span)) => continue,
                Some(Walk(place)) if place.first() == Some(&shares::tag_of(span)) => {
                    Bound::Excluded(place.get(1..).unwrap_or_default().to_vec())
                }
                _ => Bound::Included(start),
            };
            let left = limit.saturating_sub(batch.rows.len());
            let rows = self.rows_between(&reading, span, from, &end, left)?;
            let is_full = rows.len() >= left;
            for (key, total) in rows {
                let place = shares::place(span, &key);
                let row = RowKey::read(&key).ok_or_else(|| self.damaged("a row's key cannot be read"))?;
                let note = self.shares_in(&reading, span, &row, &place)?;
                let user = Arc::clone(&row.user);
                next = Some(Walk(place.clone()));
                batch.push((user, place), total, self.split(span, &row, total, &note));
            }
            if is_full {
                self.changes.mark_sent(&batch.rows);
                return Ok((batch, next));
            }
        }
        self.changes.mark_sent(&batch.rows);
        Ok((batch, None))
    }

    /// Last uses by key, what follows `after`.
    ///
    /// # Errors
    /// When the database fails.
    pub fn walk_uses(&self, after: Option<&str>, limit: usize) -> Result<Vec<KeyUse>, HistoryError> {
        let table = self.read()?.open_table(history::LAST_USE).map_err(|error| self.failed(error))?;
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut uses = Vec::new();
        for row in table.range::<&str>((start, Bound::Unbounded)).map_err(|error| self.failed(error))?.take(limit) {
            let (key, value) = row.map_err(|error| self.failed(error))?;
            let (second, route) = value.value();
            let last = LastUse { at: Timestamp::from_unix_seconds(second), route: Arc::from(route) };
            uses.push(KeyUse { key: Arc::from(key.value()), last });
        }
        Ok(uses)
    }

    /// The first hour that is not closed: everything before it is in the shared store, and was found there.
    ///
    /// # Errors
    /// When the database fails.
    pub fn closed_to(&self) -> Result<Hour, HistoryError> {
        let table = self.read()?.open_table(history::META).map_err(|error| self.failed(error))?;
        let closed = table.get(CLOSED_TO).map_err(|error| self.failed(error))?.map_or(0, |row| row.value());
        Ok(Hour(u32::try_from(closed).unwrap_or(u32::MAX)))
    }

    /// # Errors
    /// When the database fails.
    pub fn set_closed_to(&self, hour: Hour) -> Result<(), HistoryError> {
        let transaction = self.write()?;
        {
            let mut meta = transaction.open_table(history::META).map_err(|error| self.failed(error))?;
            meta.insert(CLOSED_TO, u64::from(hour.0)).map_err(|error| self.failed(error))?;
        }
        transaction.commit().map_err(|error| self.failed(error))
    }

    /// Draws and keeps this run's nonce, before it is shown to anybody.
    pub(super) fn begin_run(&self) -> Result<Run, HistoryError> {
        let nonce = self.new_name()?;
        let transaction = self.write()?;
        let mut earlier = Vec::new();
        {
            let mut table = transaction.open_table(NONCE).map_err(|error| self.failed(error))?;
            for row in table.iter().map_err(|error| self.failed(error))?.rev() {
                earlier.push(row.map_err(|error| self.failed(error))?.1.value());
            }
            let last = table.last().map_err(|error| self.failed(error))?.map_or(0, |(number, _)| number.value());
            let number = last.saturating_add(1);
            table.insert(number, nonce).map_err(|error| self.failed(error))?;
            table.retain(|old, _| old.saturating_add(NONCES_KEPT) > number).map_err(|error| self.failed(error))?;
        }
        transaction.commit().map_err(|error| self.failed(error))?;
        Ok(Run { nonce, earlier })
    }

    /// A row's count by its writers.
    fn split(&self, span: Span, row: &RowKey, total: u64, note: &Shares) -> Vec<WriterCount> {
        let of = |writer: u128, count: u64| WriterCount { writer, record: CountRecord::of(span, row.clone(), count) };
        let mut counts: Vec<WriterCount> = note.parts().iter().map(|(writer, count)| of(*writer, *count)).collect();
        let rest = note.rest_of(total);
        if rest > 0 {
            counts.push(of(self.eras.writer_of(note.era), rest));
        }
        counts
    }

    fn shares_in(&self, reading: &ReadTransaction, span: Span, row: &RowKey, place: &[u8]) -> Result<Shares, HistoryError> {
        if self.eras.any_shares.load(Ordering::Acquire) {
            let table = reading.open_table(SHARE).map_err(|error| self.failed(error))?;
            if let Some(value) = table.get(place).map_err(|error| self.failed(error))? {
                return Shares::read(value.value()).ok_or_else(|| self.damaged("a row's shares cannot be read"));
            }
        }
        Ok(Shares::whole(self.eras.number_of(span, row.period)))
    }

    fn rows_between(
        &self,
        reading: &ReadTransaction,
        span: Span,
        from: Bound<Vec<u8>>,
        end: &[u8],
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, u64)>, HistoryError> {
        let mut found = Vec::new();
        let bounds = (from.as_ref().map(Vec::as_slice), Bound::Excluded(end));
        if matches!(&bounds.0, Bound::Included(start) | Bound::Excluded(start) if *start >= end) {
            return Ok(found);
        }
        match span {
            Span::Hour => {
                let table = reading.open_table(history::HOUR).map_err(|error| self.failed(error))?;
                for row in table.range::<&[u8]>(bounds).map_err(|error| self.failed(error))?.take(limit) {
                    let (key, value) = row.map_err(|error| self.failed(error))?;
                    found.push((key.value().to_vec(), self.hour_total(value.value())?));
                }
            }
            Span::Day | Span::Month => {
                let definition = if span == Span::Day { history::DAY } else { history::MONTH };
                let table = reading.open_table(definition).map_err(|error| self.failed(error))?;
                for row in table.range::<&[u8]>(bounds).map_err(|error| self.failed(error))?.take(limit) {
                    let (key, value) = row.map_err(|error| self.failed(error))?;
                    found.push((key.value().to_vec(), value.value()));
                }
            }
        }
        Ok(found)
    }

    /// All rows of a span from a key on, as a transaction that writes sees them.
    pub(super) fn rows_in(&self, writing: &WriteTransaction, span: Span, from: &[u8]) -> Result<Vec<(Vec<u8>, u64)>, HistoryError> {
        let mut found = Vec::new();
        match span {
            Span::Hour => {
                let table = writing.open_table(history::HOUR).map_err(|error| self.failed(error))?;
                for row in table.range::<&[u8]>(from..).map_err(|error| self.failed(error))? {
                    let (key, value) = row.map_err(|error| self.failed(error))?;
                    found.push((key.value().to_vec(), self.hour_total(value.value())?));
                }
            }
            Span::Day | Span::Month => {
                let definition = if span == Span::Day { history::DAY } else { history::MONTH };
                let table = writing.open_table(definition).map_err(|error| self.failed(error))?;
                for row in table.range::<&[u8]>(from..).map_err(|error| self.failed(error))? {
                    let (key, value) = row.map_err(|error| self.failed(error))?;
                    found.push((key.value().to_vec(), value.value()));
                }
            }
        }
        Ok(found)
    }

    pub(super) fn total_in(&self, writing: &WriteTransaction, span: Span, row: &[u8]) -> Result<Option<u64>, HistoryError> {
        match span {
            Span::Hour => {
                let table = writing.open_table(history::HOUR).map_err(|error| self.failed(error))?;
                let value = table.get(row).map_err(|error| self.failed(error))?;
                value.map(|value| self.hour_total(value.value())).transpose()
            }
            Span::Day | Span::Month => {
                let definition = if span == Span::Day { history::DAY } else { history::MONTH };
                let table = writing.open_table(definition).map_err(|error| self.failed(error))?;
                let value = table.get(row).map_err(|error| self.failed(error))?;
                Ok(value.map(|value| value.value()))
            }
        }
    }

    pub(super) fn hour_total(&self, value: &[u8]) -> Result<u64, HistoryError> {
        HourValue::read(value).map(|value| value.total).ok_or_else(|| self.damaged("an hour's row cannot be read"))
    }
}

/// First and end of a span's rows within reach; none: none of them is.
fn stretch(reach: Reach, span: Span) -> Option<(Vec<u8>, Vec<u8>)> {
    let prefix = |period: u32| usage_row::prefix(period, None);
    match reach {
        Reach::Since(hour) => Some((prefix(span.index(hour.start())), prefix(u32::MAX))),
        Reach::Closing(hour) => {
            let period = span.index(hour.start());
            let is_last = span.index(Hour(hour.0.saturating_add(1)).start()) > period;
            is_last.then(|| (prefix(period), prefix(period.saturating_add(1))))
        }
    }
}

fn read_place(place: &[u8]) -> Option<(Span, RowKey)> {
    let (tag, row) = place.split_first()?;
    let span = [Span::Hour, Span::Day, Span::Month].into_iter().find(|span| shares::tag_of(*span) == *tag)?;
    Some((span, RowKey::read(row)?))
}
