//! The history by the shelf's contract of counts: told by writers, exported and restored. What the ledger counted is one writer's
//! share like any other's.
//!
//! Nothing here waits for a network, and the disk is waited for in place.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use redb::ReadableTable;
use redb::WriteTransaction;

use crate::model::key::KeyId;
use crate::model::time::Hour;
use crate::model::time::Timestamp;
use crate::model::usage::Span;
use crate::model::usage::UsagePage;
use crate::model::usage::UsageQuery;
use crate::model::usage_row;
use crate::store::Answer;
use crate::store::CountRecord;
use crate::store::Counts;
use crate::store::CountsArchive;
use crate::store::CountsError;
use crate::store::CountsPage;
use crate::store::KeyUse;
use crate::store::LastUse;
use crate::store::StoreError;
use crate::usage::history;
use crate::usage::history::History;
use crate::usage::history::HistoryError;
use crate::usage::publishing::Reach;
use crate::usage::publishing::Walk;
use crate::usage::rows;
use crate::usage::rows::HourValue;
use crate::usage::shares;
use crate::usage::shares::SHARE;
use crate::usage::shares::Shares;

/// Before a cursor among last uses.
const USES: &str = "key:";

impl Counts for History {
    fn merge<'a>(&'a self, writer: u128, told: &'a [CountRecord], now: Timestamp) -> Answer<'a, Result<Vec<u64>, StoreError>> {
        Answer::ready(self.merge_records(writer, told, now).map_err(store_error))
    }

    fn note_uses<'a>(&'a self, uses: &'a [KeyUse]) -> Answer<'a, Result<(), StoreError>> {
        Answer::ready(self.merge_uses(uses).map_err(store_error))
    }

    fn query<'a>(&'a self, query: &'a UsageQuery) -> Answer<'a, Result<UsagePage, CountsError>> {
        Answer::ready(History::query(self, query, None).map_err(counts_error))
    }

    fn last_use<'a>(&'a self, key: &'a str) -> Answer<'a, Result<Option<LastUse>, StoreError>> {
        Answer::ready(History::last_use(self, &KeyId::new(key)).map_err(store_error))
    }

    fn forget<'a>(&'a self, user: &'a str) -> Answer<'a, Result<(), StoreError>> {
        Answer::ready(self.forget_user(user).map_err(store_error))
    }
}

impl CountsArchive for History {
    fn export(&self, after: Option<String>, limit: usize) -> Answer<'_, Result<CountsPage, CountsError>> {
        Answer::ready(self.export_page(after, limit.max(1)))
    }
}

impl History {
    fn merge_records(&self, writer: u128, told: &[CountRecord], now: Timestamp) -> Result<Vec<u64>, HistoryError> {
        let transaction = self.write()?;
        let mut changes = self.changes.begin();
        let mut added = Vec::with_capacity(told.len());
        let mut totals: BTreeMap<String, u64> = BTreeMap::new();
        for record in told {
            let row = record.row();
            if row.period < record.span.oldest_kept(now) {
                added.push(0);
                continue;
            }
            let key = row.write();
            let place = shares::place(record.span, &key);
            let before = self.total_in(&transaction, record.span, &key)?.unwrap_or(0);
            let mut note = self.shares_of(&transaction, record.span, row.period, &place)?;
            let is_ours = self.eras.writer_of(note.era) == writer;
            let known = if is_ours { note.rest_of(before) } else { note.part(writer) };
            let more = record.count.saturating_sub(known);
            added.push(more);
            if more == 0 {
                continue;
            }
            if !is_ours {
                if !note.set_part(writer, record.count) {
                    return Err(self.damaged("a row has too many writers"));
                }
                let mut table = transaction.open_table(SHARE).map_err(|error| self.failed(error))?;
                table.insert(place.as_slice(), note.write().as_slice()).map_err(|error| self.failed(error))?;
            }
            self.raise(&transaction, record.span, &key, more)?;
            changes.row(record.span, &key, before, before.saturating_add(more));
            // Months are always kept, so they alone make up what there was since counting began.
            if record.span == Span::Month && record.outcome.is_decided() {
                let total = totals.entry(rows::total_key(&record.user, record.outcome)).or_default();
                *total = total.saturating_add(more);
            }
        }
        self.add_to_totals(&transaction, totals)?;
        self.commit_noting(transaction, changes)?;
        self.eras.any_shares.store(true, Ordering::Release);
        Ok(added)
    }

    fn raise(&self, transaction: &WriteTransaction, span: Span, key: &[u8], more: u64) -> Result<(), HistoryError> {
        match span {
            Span::Hour => {
                let mut table = transaction.open_table(history::HOUR).map_err(|error| self.failed(error))?;
                let mut value = match table.get(key).map_err(|error| self.failed(error))? {
                    Some(row) => HourValue::read(row.value()).ok_or_else(|| self.damaged("an hour's row cannot be read"))?,
                    None => HourValue::default(),
                };
                value.total = value.total.saturating_add(more);
                table.insert(key, value.write().as_slice()).map_err(|error| self.failed(error))?;
            }
            Span::Day | Span::Month => {
                let definition = if span == Span::Day { history::DAY } else { history::MONTH };
                let mut table = transaction.open_table(definition).map_err(|error| self.failed(error))?;
                let sum = table.get(key).map_err(|error| self.failed(error))?.map_or(0, |row| row.value()).saturating_add(more);
                table.insert(key, sum).map_err(|error| self.failed(error))?;
            }
        }
        Ok(())
    }

    fn shares_of(&self, transaction: &WriteTransaction, span: Span, period: u32, place: &[u8]) -> Result<Shares, HistoryError> {
        let table = transaction.open_table(SHARE).map_err(|error| self.failed(error))?;
        match table.get(place).map_err(|error| self.failed(error))? {
            Some(value) => Shares::read(value.value()).ok_or_else(|| self.damaged("a row's shares cannot be read")),
            None => Ok(Shares::whole(self.eras.number_of(span, period))),
        }
    }

    pub(super) fn merge_uses(&self, uses: &[KeyUse]) -> Result<(), HistoryError> {
        let transaction = self.write()?;
        let mut changes = self.changes.begin();
        let uses = uses.iter().map(|one| (&*one.key, (one.last.at.unix_seconds(), &*one.last.route)));
        self.note_uses_in(&transaction, uses, &mut changes)?;
        self.commit_noting(transaction, changes)
    }

    fn export_page(&self, after: Option<String>, limit: usize) -> Result<CountsPage, CountsError> {
        let uses_after = match &after {
            Some(after) => after.strip_prefix(USES).map(str::to_owned),
            None => None,
        };
        if let Some(key) = uses_after {
            let uses = self.walk_uses(Some(&key), limit).map_err(counts_error)?;
            let next = uses.last().filter(|_| uses.len() >= limit).map(|last| format!("{USES}{}", last.key));
            return Ok(CountsPage { counts: Vec::new(), uses, next });
        }
        let walk = match &after {
            Some(after) => Some(Walk::read(after).ok_or_else(|| CountsError::Cursor(after.clone()))?),
            None => None,
        };
        let (batch, next) = self.walk(Reach::Since(Hour(0)), walk.as_ref(), limit).map_err(counts_error)?;
        // Behind the last count come the last uses.
        let next = next.map_or_else(|| USES.to_owned(), |walk| walk.write());
        Ok(CountsPage { counts: batch.counts, uses: Vec::new(), next: Some(next) })
    }
}

impl Walk {
    fn write(&self) -> String {
        usage_row::write_cursor(self.place())
    }

    fn read(text: &str) -> Option<Self> {
        usage_row::read_cursor(text).and_then(Self::at)
    }
}

fn store_error(error: HistoryError) -> StoreError {
    match error {
        HistoryError::Damaged { ref path, ref why } => StoreError::Corrupt { key: path.display().to_string(), why: why.clone() },
        error @ (HistoryError::Locked { .. } | HistoryError::Version { .. } | HistoryError::Failed { .. } | HistoryError::Cursor(_)) => {
            StoreError::Unavailable(error.to_string())
        }
    }
}

fn counts_error(error: HistoryError) -> CountsError {
    match error {
        HistoryError::Cursor(text) => CountsError::Cursor(text),
        error @ (HistoryError::Locked { .. }
        | HistoryError::Version { .. }
        | HistoryError::Failed { .. }
        | HistoryError::Damaged { .. }) => CountsError::Store(store_error(error)),
    }
}
