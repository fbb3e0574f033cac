//! Whose a row's count is: published counts carry the name of their writer, and one history may have had several.
//!
//! An *era* begins when the history learns that somebody else uses its writer's name (its folder was copied, or an old copy of it
//! was put back). From then on new counts go under a new name, and what was counted before stays under the old one. A row's
//! count is split accordingly; the greater part of all rows was counted in one era and needs no note of it.

use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use aws_lc_rs::rand::SecureRandom;
use aws_lc_rs::rand::SystemRandom;
use redb::ReadableTable;
use redb::ReadableTableMetadata;
use redb::TableDefinition;

use crate::model::time::Hour;
use crate::model::usage::Span;
use crate::usage::history::History;
use crate::usage::history::HistoryError;

/// Writers by era: the name, and the hour from which on rows without a note are its own.
const ERA: TableDefinition<'_, u32, (u128, u32)> = TableDefinition::new("era");
/// Rows of more than one writer, by span and row.
pub(super) const SHARE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("share");

/// Eras that a history may have; more are a sign that something else is wrong.
const ERAS_MAX: usize = 1024;
/// Writers that one row may have.
const WRITERS_MAX: usize = 4096;
const SHARE_BYTES: usize = 24;

/// A writer's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Era {
    pub(super) writer: u128,
    since: Hour,
}

/// All of them, in order; the last one is now.
#[derive(Debug, Default)]
pub(super) struct Eras {
    known: RwLock<Vec<Era>>,
    /// Whether any row has a note; mostly none has, and nothing is looked up then.
    pub(super) any_shares: AtomicBool,
}

impl Eras {
    pub(super) fn writer(&self) -> u128 {
        self.known.read().unwrap_or_else(PoisonError::into_inner).last().map_or(0, |era| era.writer)
    }

    /// The number of the era that a row without a note belongs to.
    pub(super) fn number_of(&self, span: Span, period: u32) -> u32 {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let number = known.iter().rposition(|era| span.index(era.since.start()) <= period).unwrap_or(0);
        u32::try_from(number).unwrap_or(0)
    }

    /// The writer of an era.
    pub(super) fn writer_of(&self, number: u32) -> u128 {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        usize::try_from(number).ok().and_then(|number| known.get(number)).map_or(0, |era| era.writer)
    }

    fn count(&self) -> usize {
        self.known.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn push(&self, era: Era) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).push(era);
    }
}

/// The note of one row: what of its count others have, and whose the rest is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    /// The era whose writer has the rest.
    pub(super) era: u32,
    parts: Vec<(u128, u64)>,
}

impl Shares {
    /// All of it belongs to one era.
    pub(super) const fn whole(era: u32) -> Self {
        Self { era, parts: Vec::new() }
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (era, rest) = bytes.split_first_chunk::<4>()?;
        if rest.len() % SHARE_BYTES != 0 {
            return None;
        }
        let mut parts = Vec::with_capacity(rest.len() / SHARE_BYTES);
        for entry in rest.chunks_exact(SHARE_BYTES) {
            let (writer, entry) = entry.split_first_chunk::<16>()?;
            let count = entry.first_chunk::<8>()?;
            parts.push((u128::from_le_bytes(*writer), u64::from_le_bytes(*count)));
        }
        Some(Self { era: u32::from_le_bytes(*era), parts })
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let mut bytes = self.era.to_le_bytes().to_vec();
        for (writer, count) in &self.parts {
            bytes.extend_from_slice(&writer.to_le_bytes());
            bytes.extend_from_slice(&count.to_le_bytes());
        }
        bytes
    }

    /// What the parts leave of a row's count.
    pub(super) fn rest_of(&self, total: u64) -> u64 {
        self.parts.iter().fold(total, |rest, (_, count)| rest.saturating_sub(*count))
    }

    pub(super) fn part(&self, writer: u128) -> u64 {
        self.parts.iter().find(|part| part.0 == writer).map_or(0, |part| part.1)
    }

    /// Sets a part that is not the rest's owner's; false: there are too many.
    pub(super) fn set_part(&mut self, writer: u128, count: u64) -> bool {
        if let Some(part) = self.parts.iter_mut().find(|part| part.0 == writer) {
            part.1 = count;
            return true;
        }
        let fits = self.parts.len() < WRITERS_MAX;
        if fits {
            self.parts.push((writer, count));
        }
        fits
    }

    pub(super) fn parts(&self) -> &[(u128, u64)] {
        &self.parts
    }
}

/// A row's key across the three tables.
pub(super) fn place(span: Span, row: &[u8]) -> Vec<u8> {
    let mut place = Vec::with_capacity(row.len() + 1);
    place.push(tag_of(span));
    place.extend_from_slice(row);
    place
}

impl History {
    /// The name that counts are published under now.
    pub fn writer(&self) -> u128 {
        self.eras.writer()
    }

    /// Reads the eras; a history without one gets its first.
    pub(super) fn load_eras(&self) -> Result<(), HistoryError> {
        let transaction = self.write()?;
        {
            let mut table = transaction.open_table(ERA).map_err(|error| self.failed(error))?;
            if table.is_empty().map_err(|error| self.failed(error))? {
                table.insert(0, (self.new_name()?, 0)).map_err(|error| self.failed(error))?;
            }
            for (expected, row) in (0..).zip(table.iter().map_err(|error| self.failed(error))?) {
                let (number, era) = row.map_err(|error| self.failed(error))?;
                let (writer, since) = era.value();
                if number.value() != expected {
                    return Err(self.damaged("an era is missing"));
                }
                self.eras.push(Era { writer, since: Hour(since) });
            }
            let shares = transaction.open_table(SHARE).map_err(|error| self.failed(error))?;
            self.eras.any_shares.store(!shares.is_empty().map_err(|error| self.failed(error))?, Ordering::Release);
        }
        transaction.commit().map_err(|error| self.failed(error))
    }

    /// How many names this history has had.
    pub fn eras(&self) -> usize {
        self.eras.count()
    }

    /// Begins another era with a new name. Of every row, what was ever sent under the old name stays with it; so does everything
    /// of rows that are older than the hour before the open one. Everything must have been flushed.
    pub(super) fn begin_era(&self, open: Hour) -> Result<u128, HistoryError> {
        if self.eras.count() >= ERAS_MAX {
            return Err(self.damaged("it has had too many writers"));
        }
        let transaction = self.write()?;
        let number = u32::try_from(self.eras.count()).unwrap_or(u32::MAX);
        let era = Era { writer: self.new_name()?, since: Hour(open.0.saturating_sub(1)) };
        let sent = self.changes.sent();
        {
            let mut shares = transaction.open_table(SHARE).map_err(|error| self.failed(error))?;
            let mut fix = |span: Span, row: &[u8], total: u64| -> Result<(), HistoryError> {
                let place = place(span, row);
                let mut note = match shares.get(place.as_slice()).map_err(|error| self.failed(error))? {
                    Some(value) => Shares::read(value.value()).ok_or_else(|| self.damaged("a row's shares cannot be read"))?,
                    None => Shares::whole(self.eras.number_of(span, period_of(row))),
                };
                let base = sent.get(&place).copied().unwrap_or(total).min(total);
                let theirs = note.rest_of(base);
                let owner = self.eras.writer_of(note.era);
                if theirs > 0 && !note.set_part(owner, note.part(owner).saturating_add(theirs)) {
                    return Err(self.damaged("a row has too many writers"));
                }
                note.era = number;
                shares.insert(place.as_slice(), note.write().as_slice()).map_err(|error| self.failed(error))?;
                Ok(())
            };
            for span in [Span::Hour, Span::Day, Span::Month] {
                let since = crate::model::usage_row::prefix(span.index(era.since.start()), None);
                for (row, total) in self.rows_in(&transaction, span, &since)? {
                    fix(span, &row, total)?;
                }
                for place in sent.keys() {
                    let Some((tag, row)) = place.split_first() else { continue };
                    if *tag == tag_of(span)
                        && row < since.as_slice()
                        && let Some(total) = self.total_in(&transaction, span, row)?
                    {
                        fix(span, row, total)?;
                    }
                }
            }
            let mut eras = transaction.open_table(ERA).map_err(|error| self.failed(error))?;
            eras.insert(number, (era.writer, era.since.0)).map_err(|error| self.failed(error))?;
        }
        transaction.commit().map_err(|error| self.failed(error))?;
        self.eras.any_shares.store(true, Ordering::Release);
        self.eras.push(era);
        Ok(era.writer)
    }

    // Half of the width of the type: unlikely enough to be drawn twice by any fleet, and short where it is written often.
    pub(super) fn new_name(&self) -> Result<u128, HistoryError> {
        let mut bytes = [0; 8];
        SystemRandom::new().fill(&mut bytes).map_err(|_| self.damaged("the system gave no random bytes"))?;
        Ok(u128::from(u64::from_le_bytes(bytes).max(1)))
    }
}

pub(super) const fn tag_of(span: Span) -> u8 {
    match span {
        Span::Hour => 1,
        Span::Day => 2,
        Span::Month => 3,
    }
}

fn period_of(row: &[u8]) -> u32 {
    row.first_chunk::<4>().map_or(0, |period| u32::from_be_bytes(*period))
}
