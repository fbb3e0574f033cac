//! Writing what is moved into a store. What lies there already stays as it is, so doing it twice changes nothing, and a key that was
//! revoked there since does not come back to life. Only what is damaged there is replaced: nobody can use it as it is.

use std::sync::Arc;

use crate::app::moving::MovingError;
use crate::app::moving::item::Item;
use crate::app::moving::item::Record;
use crate::app::moving::origin::Origin;
use crate::app::moving::side::Side;
use crate::app::moving::survey::Survey;
use crate::app::moving::survey::is_over;
use crate::clock::Clock;
use crate::store::Committed;
use crate::store::CountsPage;
use crate::store::Precondition;
use crate::store::RecordKey;
use crate::store::StoreError;
use crate::store::Write;
use crate::store::shared::seal::SealError;

/// Records of one commit: few enough for a script to be short.
const COMMIT: usize = 50;

/// What became of what was moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Poured {
    pub(super) written: u64,
    /// The places where it was put over something damaged.
    pub(super) replaced: Vec<String>,
    /// Already there, the same or another: it was left alone.
    pub(super) left: u64,
    /// Over by the time that it would have been written.
    pub(super) over: u64,
    /// This release cannot read them.
    pub(super) unreadable: u64,
    /// Counts and last uses.
    pub(super) counted: u64,
    /// By how much hours, days and months rose, all together.
    pub(super) raised: u64,
}

/// Writes all of it. `found` is what the target held before.
pub(super) async fn pour(
    origin: &mut Origin<'_>,
    source: &Survey,
    found: &Survey,
    target: &Side,
    clock: &Arc<dyn Clock>,
    tell: &mut dyn FnMut(u64),
) -> Result<Poured, MovingError> {
    let mut poured = Poured::default();
    let mut seen = 0;
    while let Some(items) = origin.next().await? {
        seen += u64::try_from(items.len()).unwrap_or_default();
        let (mut fresh, mut doubtful) = (Vec::new(), Vec::new());
        let mut counts = CountsPage::default();
        for item in items {
            match item {
                Item::Record(record) if source.unreadable.contains_key(&record.place()) => poured.unreadable += 1,
                Item::Record(record) if is_over(&record, clock.now()) => poured.over += 1,
                Item::Record(record) if found.unreadable.contains_key(&record.place()) => doubtful.push(record),
                Item::Record(record) if found.records.contains_key(&record.key) => poured.left += 1,
                Item::Record(record) => fresh.push(record),
                Item::Count(count) => counts.counts.push(count),
                Item::Use(one) => counts.uses.push(one),
            }
        }
        for batch in fresh.chunks(COMMIT) {
            commit(batch, target, clock, &mut poured).await?;
        }
        for record in doubtful {
            if is_damaged(&record.key, target).await? {
                target.records().commit(Vec::new(), vec![put(&record)], clock.now()).await?;
                poured.replaced.push(record.place());
            } else {
                poured.left += 1;
            }
        }
        poured.counted += u64::try_from(counts.counts.len() + counts.uses.len()).unwrap_or_default();
        if counts != CountsPage::default() {
            poured.raised = poured.raised.saturating_add(target.counts().restore(&counts, clock.now()).await?);
        }
        tell(seen);
    }
    Ok(poured)
}

/// Commits a batch; where somebody else has taken one of the places meanwhile, one record at a time.
async fn commit(batch: &[Record], target: &Side, clock: &Arc<dyn Clock>, poured: &mut Poured) -> Result<(), MovingError> {
    if commit_together(batch, target, clock).await? {
        poured.written += u64::try_from(batch.len()).unwrap_or_default();
        return Ok(());
    }
    for record in batch {
        if commit_together(std::slice::from_ref(record), target, clock).await? {
            poured.written += 1;
        } else {
            poured.left += 1;
        }
    }
    Ok(())
}

async fn commit_together(batch: &[Record], target: &Side, clock: &Arc<dyn Clock>) -> Result<bool, MovingError> {
    let absent = batch.iter().map(|record| Precondition::Absent(record.key.clone())).collect();
    let outcome = target.records().commit(absent, batch.iter().map(put).collect(), clock.now()).await?;
    Ok(match outcome {
        Committed::Done | Committed::Unconfirmed => true,
        Committed::Refused(_position) => false,
    })
}

fn put(record: &Record) -> Write {
    Write::Put { key: record.key.clone(), bytes: record.bytes.clone(), expires: record.expires }
}

/// Whether the store says itself that what lies there is broken. What is whole may be a newer release's, and what another pepper sealed is
/// for those to read who have it: neither is ours to replace.
async fn is_damaged(key: &RecordKey, target: &Side) -> Result<bool, StoreError> {
    match target.records().get(key).await {
        Ok(_whole) => Ok(false),
        Err(StoreError::Corrupt { why, .. }) => Ok(why != SealError::UnknownPepper.to_string()),
        Err(error @ StoreError::Unavailable(_)) => Err(error),
    }
}
