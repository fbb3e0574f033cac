//! Where what is moved comes from: a store that is open, or a backup. Read from its beginning to its end, a batch at a time.

use crate::app::moving::MovingError;
use crate::app::moving::backup::Backup;
use crate::app::moving::item::Item;
use crate::app::moving::item::Record;
use crate::app::moving::side::Side;
use crate::store::Family;

/// Items of one batch.
const TOGETHER: usize = 500;

/// A way through everything that there is.
#[derive(Debug)]
pub(in crate::app) enum Origin<'a> {
    Store { side: &'a Side, place: Place },
    Backup(&'a mut Backup),
}

/// How far a store was read.
#[derive(Debug)]
pub(in crate::app) enum Place {
    Records { family: usize, after: Option<String> },
    Counts { after: Option<String> },
    Over,
}

impl<'a> Origin<'a> {
    pub(in crate::app) fn store(side: &'a Side) -> Self {
        Self::Store { side, place: Place::Records { family: 0, after: None } }
    }

    /// From the backup's first item, wherever it was read to before.
    pub(super) fn backup(backup: &'a mut Backup) -> Result<Self, MovingError> {
        backup.rewind()?;
        Ok(Self::Backup(backup))
    }

    /// What comes next; none: that was all.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Item>>, MovingError> {
        match self {
            Self::Backup(backup) => {
                let mut items = Vec::new();
                while items.len() < TOGETHER
                    && let Some(item) = backup.next()?
                {
                    items.push(item);
                }
                Ok((!items.is_empty()).then_some(items))
            }
            Self::Store { side, place } => next_of_store(side, place).await,
        }
    }
}

async fn next_of_store(side: &Side, place: &mut Place) -> Result<Option<Vec<Item>>, MovingError> {
    match place {
        Place::Over => Ok(None),
        Place::Records { family: index, after } => {
            let Some(family) = Family::ALL.get(*index) else {
                *place = Place::Counts { after: None };
                return Ok(Some(Vec::new()));
            };
            let page = side.records().range(*family, after.as_deref(), TOGETHER).await?;
            *place = match page.next {
                Some(next) => Place::Records { family: *index, after: Some(next) },
                None => Place::Records { family: *index + 1, after: None },
            };
            let record =
                |(key, stored): (_, crate::store::Stored)| Item::Record(Record { key, bytes: stored.bytes, expires: stored.expires });
            Ok(Some(page.records.into_iter().map(record).collect()))
        }
        Place::Counts { after } => {
            let page = side.counts().export(after.take(), TOGETHER).await?;
            *place = match page.next {
                Some(next) => Place::Counts { after: Some(next) },
                None => Place::Over,
            };
            Ok(Some(page.counts.into_iter().map(Item::Count).chain(page.uses.into_iter().map(Item::Use)).collect()))
        }
    }
}
