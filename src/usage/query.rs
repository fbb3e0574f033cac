//! Reading counts: the history's rows, with what the ledger has on top of them, so that every answer is exact.

use std::collections::BTreeMap;
use std::ops::Bound;

use redb::ReadTransaction;

use crate::model::usage::ROWS_MAX;
use crate::model::usage::Span;
use crate::model::usage::UsagePage;
use crate::model::usage::UsageQuery;
use crate::model::usage::UsageRow;
use crate::model::usage_row;
use crate::model::usage_row::RowKey;
use crate::usage::history;
use crate::usage::history::History;
use crate::usage::history::HistoryError;
use crate::usage::ledger::Ledger;
use crate::usage::live::Position;
use crate::usage::live::Stated;
use crate::usage::rows;
use crate::usage::rows::HourValue;

impl History {
    /// A page of counts: what was flushed, and what the ledger (if there is one) has counted since.
    ///
    /// # Errors
    /// When the database fails, or `after` is no cursor of ours.
    pub fn query(&self, query: &UsageQuery, ledger: Option<&Ledger>) -> Result<UsagePage, HistoryError> {
        let limit = query.limit.clamp(1, ROWS_MAX);
        let end = usage_row::prefix(query.end_period(), None);
        let start = match &query.after {
            Some(after) => Bound::Excluded(cursor_of(after).ok_or_else(|| HistoryError::Cursor(after.clone()))?),
            None => Bound::Included(usage_row::prefix(query.span.index(query.from), None)),
        };
        // First the ledger, then the history: what is flushed in between is then in the history, and is not added again.
        let live = ledger.map(|ledger| (ledger.writer_id(), live_counts(ledger, query)));
        let transaction = self.read()?;
        let mut unflushed: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        for (key, stated, writer) in
            live.into_iter().flat_map(|(writer, live)| live.into_iter().map(move |(key, stated)| (key, stated, writer)))
        {
            let more = stated.count.saturating_sub(self.told_in(&transaction, writer, &stated)?);
            let inside = match &start {
                Bound::Excluded(start) => key > *start,
                Bound::Included(start) => key >= *start,
                Bound::Unbounded => true,
            } && key < end;
            if more > 0 && inside {
                *unflushed.entry(key).or_default() += more;
            }
        }
        // One row more than asked tells whether there is another page.
        let stored = self.stored_rows(&transaction, query, start, &end, limit + 1)?;
        let mut merged: BTreeMap<Vec<u8>, u64> = stored.into_iter().collect();
        let complete_to = if merged.len() > limit { merged.last_key_value().map(|(key, _)| key.clone()) } else { None };
        for (key, more) in unflushed {
            if complete_to.as_ref().is_none_or(|last| key <= *last) {
                *merged.entry(key).or_default() += more;
            }
        }
        let more_follow = merged.len() > limit;
        let mut page = UsagePage::default();
        let mut last = None;
        for (key, count) in merged.into_iter().take(limit) {
            let row = RowKey::read(&key).ok_or_else(|| self.damaged("a row's key cannot be read"))?;
            page.rows.push(UsageRow {
                start: query.span.start(row.period),
                user: row.user,
                key: (!row.key.is_empty()).then_some(row.key),
                route: row.route,
                outcome: row.outcome,
                count,
            });
            last = Some(key);
        }
        page.next = last.filter(|_| more_follow).map(|key| usage_row::write_cursor(&key));
        Ok(page)
    }

    fn stored_rows(
        &self,
        transaction: &ReadTransaction,
        query: &UsageQuery,
        start: Bound<Vec<u8>>,
        end: &[u8],
        most: usize,
    ) -> Result<Vec<(Vec<u8>, u64)>, HistoryError> {
        match query.span {
            Span::Hour => {
                let table = transaction.open_table(history::HOUR).map_err(|error| self.failed(error))?;
                let total = |value: &[u8]| {
                    HourValue::read(value).map(|value| value.total).ok_or_else(|| self.damaged("an hour's row cannot be read"))
                };
                self.scan(start, end, query, most, |from| {
                    let mut range = table.range::<&[u8]>((from, Bound::Excluded(end))).map_err(|error| self.failed(error))?;
                    Ok(std::iter::from_fn(move || range.next()).map(move |row| {
                        let (key, value) = row.map_err(|error| self.failed(error))?;
                        Ok((key.value().to_vec(), total(value.value())?))
                    }))
                })
            }
            Span::Day | Span::Month => {
                let definition = if query.span == Span::Day { history::DAY } else { history::MONTH };
                let table = transaction.open_table(definition).map_err(|error| self.failed(error))?;
                self.scan(start, end, query, most, |from| {
                    let mut range = table.range::<&[u8]>((from, Bound::Excluded(end))).map_err(|error| self.failed(error))?;
                    Ok(std::iter::from_fn(move || range.next()).map(move |row| {
                        let (key, value) = row.map_err(|error| self.failed(error))?;
                        Ok((key.value().to_vec(), value.value()))
                    }))
                })
            }
        }
    }

    /// Goes through the rows in order, and leaps over users that were not asked for.
    fn scan<I>(
        &self,
        start: Bound<Vec<u8>>,
        end: &[u8],
        query: &UsageQuery,
        most: usize,
        rows_from: impl Fn(Bound<&[u8]>) -> Result<I, HistoryError>,
    ) -> Result<Vec<(Vec<u8>, u64)>, HistoryError>
    where
        I: Iterator<Item = Result<(Vec<u8>, u64), HistoryError>>,
    {
        let mut found = Vec::new();
        let mut from = start;
        'leap: loop {
            if let Bound::Excluded(key) | Bound::Included(key) = &from
                && key.as_slice() >= end
            {
                return Ok(found);
            }
            for row in rows_from(from.as_ref().map(Vec::as_slice))? {
                let (key, count) = row?;
                let row = RowKey::read(&key).ok_or_else(|| self.damaged("a row's key cannot be read"))?;
                if query.matches(&row) {
                    found.push((key, count));
                    if found.len() >= most {
                        return Ok(found);
                    }
                } else if let Some(users) = &query.users
                    && !users.contains(&row.user)
                {
                    from = Bound::Included(match users.range::<str, _>((Bound::Excluded(&*row.user), Bound::Unbounded)).next() {
                        Some(user) => usage_row::prefix(row.period, Some(user)),
                        None => match users.first() {
                            Some(first) => usage_row::prefix(row.period.saturating_add(1), Some(first)),
                            None => return Ok(found),
                        },
                    });
                    continue 'leap;
                }
            }
            return Ok(found);
        }
    }
}

/// Counters with something that the history did not have when they were read, by the key of their row.
fn live_counts(ledger: &Ledger, query: &UsageQuery) -> Vec<(Vec<u8>, Stated)> {
    let mut live = Vec::new();
    let mut position = Some(Position::default());
    while let Some(from) = position {
        let (batch, next) = ledger.state(from, 4096, |_, count, kept| count > kept);
        for stated in batch {
            let row = rows::row_of(&stated, query.span);
            if query.matches(&row) {
                live.push((row.write(), stated));
            }
        }
        position = next;
    }
    live
}

fn cursor_of(text: &str) -> Option<Vec<u8>> {
    usage_row::read_cursor(text).filter(|bytes| RowKey::read(bytes).is_some())
}
