//! Everything that is counted, out of the store that all share.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join_all;

use crate::model::usage::Span;
use crate::model::usage_row;
use crate::model::usage_row::RowKey;
use crate::store::Answer;
use crate::store::CountRecord;
use crate::store::CountsArchive;
use crate::store::CountsError;
use crate::store::CountsPage;
use crate::store::KeyUse;
use crate::store::StoreError;
use crate::store::WriterCount;
use crate::store::shared::usage::SharedCounts;
use crate::store::shared::usage::hash::PeriodCounts;
use crate::store::shared::usage::query::NAMES_TOGETHER;

/// Periods read together.
const READ_TOGETHER: usize = 256;

impl CountsArchive for SharedCounts {
    fn export(&self, after: Option<String>, limit: usize) -> Answer<'_, Result<CountsPage, CountsError>> {
        Answer::Pending(Box::pin(self.export_page(after, limit.max(1))))
    }
}

impl SharedCounts {
    /// Whole months of whole users, until there are enough.
    async fn export_page(&self, after: Option<String>, limit: usize) -> Result<CountsPage, CountsError> {
        let place = match &after {
            Some(after) => {
                let bytes = usage_row::read_cursor(after).ok_or_else(|| CountsError::Cursor(after.clone()))?;
                Some(usage_row::read_prefix(&bytes).ok_or_else(|| CountsError::Cursor(after.clone()))?)
            }
            None => None,
        };
        let mut page = CountsPage::default();
        let mut keys: BTreeSet<Arc<str>> = BTreeSet::new();
        let first = place.as_ref().map_or(0, |(month, _)| *month);
        for month in self.months().await?.into_iter().filter(|month| *month >= first) {
            let mut last = place.as_ref().filter(|(known, _)| *known == month).map(|(_, user)| Arc::clone(user));
            loop {
                let users = self.users_of(month, last.as_deref(), NAMES_TOGETHER).await?;
                for user in &users {
                    self.export_user(month, user, &mut page.counts, &mut keys).await?;
                    if page.counts.len() >= limit {
                        page.next = Some(usage_row::write_cursor(&usage_row::prefix(month, Some(user))));
                        page.uses = self.uses_of(&keys).await?;
                        return Ok(page);
                    }
                }
                last = users.last().cloned();
                if users.len() < NAMES_TOGETHER {
                    break;
                }
            }
        }
        page.uses = self.uses_of(&keys).await?;
        Ok(page)
    }

    pub(super) async fn export_user(
        &self,
        month: u32,
        user: &Arc<str>,
        counts: &mut Vec<WriterCount>,
        keys: &mut BTreeSet<Arc<str>>,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        let mut periods = Vec::new();
        for span in [Span::Hour, Span::Day, Span::Month] {
            let first = span.index(Span::Month.start(month)).max(span.oldest_kept(now));
            let end = span.index(Span::Month.start(month.saturating_add(1)));
            periods.extend((first..end).map(|period| (span, period)));
        }
        for periods in periods.chunks(READ_TOGETHER) {
            let read = join_all(periods.iter().map(|(span, period)| self.period_counts(*span, *period, user))).await;
            for ((span, period), found) in periods.iter().zip(read) {
                for count in shares_of(*span, *period, user, found?)? {
                    if !count.record.key.is_empty() {
                        keys.insert(Arc::clone(&count.record.key));
                    }
                    counts.push(count);
                }
            }
        }
        Ok(())
    }

    async fn uses_of(&self, keys: &BTreeSet<Arc<str>>) -> Result<Vec<KeyUse>, StoreError> {
        let mut uses = Vec::new();
        let keys: Vec<&Arc<str>> = keys.iter().collect();
        for keys in keys.chunks(READ_TOGETHER) {
            let read = join_all(keys.iter().map(|key| self.read_last_use(key))).await;
            for (key, last) in keys.iter().zip(read) {
                uses.extend(last?.map(|last| KeyUse { key: Arc::clone(key), last }));
            }
        }
        Ok(uses)
    }
}

fn shares_of(span: Span, period: u32, user: &Arc<str>, counts: PeriodCounts) -> Result<Vec<WriterCount>, StoreError> {
    let mut shares = Vec::new();
    for line in counts.lines.into_values() {
        let row = RowKey { period, user: Arc::clone(user), key: line.key, route: line.route, outcome: line.outcome };
        for (position, count) in line.parts.into_iter().enumerate().filter(|(_, count)| *count > 0) {
            let writer = *counts
                .writers
                .get(&position)
                .ok_or_else(|| StoreError::Corrupt { key: format!("counts of {user}"), why: "a share has no writer".to_owned() })?;
            shares.push(WriterCount { writer, record: CountRecord::of(span, row.clone(), count) });
        }
    }
    Ok(shares)
}
