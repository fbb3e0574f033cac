//! Rows whose counts rose and were not published since: a bounded list in memory. What does not fit is found by a sweep.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use crate::model::usage::Span;
use crate::model::usage_row::RowKey;
use crate::store::KeyUse;
use crate::store::LastUse;
use crate::usage::history::HistoryError;
use crate::usage::shares;

/// Rows that are remembered at once: about 20 MB.
pub(crate) const ROWS_MAX: usize = if cfg!(test) { 256 } else { 65_536 };
/// Last uses that are remembered at once.
const USES_MAX: usize = 65_536;

/// A row's place in the list: by user, since the counts of one user travel together.
pub type Listed = (Arc<str>, Vec<u8>);

/// What one transaction raised.
#[derive(Debug, Default)]
pub(super) struct NewChanges {
    is_wanted: bool,
    rows: Vec<(Vec<u8>, u64, u64)>,
    uses: Vec<KeyUse>,
}

impl NewChanges {
    pub(super) fn row(&mut self, span: Span, row: &[u8], before: u64, after: u64) {
        if self.is_wanted {
            self.rows.push((shares::place(span, row), before, after));
        }
    }

    pub(super) fn key_use(&mut self, key: &str, second: u64, route: &str) {
        if self.is_wanted {
            let at = crate::model::time::Timestamp::from_unix_seconds(second);
            self.uses.push(KeyUse { key: Arc::from(key), last: LastUse { at, route: Arc::from(route) } });
        }
    }
}

/// The list.
#[derive(Debug, Default)]
pub(super) struct Changes {
    is_wanted: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rows: BTreeMap<Listed, Row>,
    uses: BTreeMap<Arc<str>, LastUse>,
    overflowed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    /// The greatest total that was ever sent, whether it arrived or not: more than this nobody can have of us.
    sent: u64,
    total: u64,
}

impl Changes {
    /// From now on changes are listed. Without this nothing is, and nothing is spent on it.
    pub(super) fn want(&self) {
        self.is_wanted.store(true, Ordering::Release);
    }

    pub(super) fn begin(&self) -> NewChanges {
        NewChanges { is_wanted: self.is_wanted.load(Ordering::Acquire), ..NewChanges::default() }
    }

    /// Commits, and lists what was raised by it before anybody else can look at the list.
    pub(super) fn note(&self, new: NewChanges, commit: impl FnOnce() -> Result<(), HistoryError>) -> Result<(), HistoryError> {
        let mut state = self.lock();
        commit()?;
        for (place, before, after) in new.rows {
            let Some(user) = place.get(1..).and_then(RowKey::read).map(|row| row.user) else { continue };
            let is_full = state.rows.len() >= ROWS_MAX;
            match state.rows.get_mut(&(Arc::clone(&user), place.clone())) {
                Some(row) => row.total = row.total.max(after),
                None if is_full => state.overflowed = true,
                None => {
                    state.rows.insert((user, place), Row { sent: before, total: after });
                }
            }
        }
        for KeyUse { key, last } in new.uses {
            if state.uses.len() < USES_MAX || state.uses.contains_key(&key) {
                state.uses.insert(key, last);
            }
        }
        Ok(())
    }

    /// Up to `limit` rows behind `after`, each with its total, which counts as sent from now on.
    pub(super) fn take_up(&self, after: Option<&Listed>, limit: usize) -> Vec<(Listed, u64)> {
        let mut state = self.lock();
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut found = Vec::new();
        for (listed, row) in state.rows.range_mut((start, Bound::Unbounded)).take(limit) {
            row.sent = row.total;
            found.push((listed.clone(), row.total));
        }
        found
    }

    /// These totals are sent, whether or not they are in the list.
    pub(super) fn mark_sent(&self, rows: &[(Listed, u64)]) {
        let mut state = self.lock();
        for (listed, total) in rows {
            if let Some(row) = state.rows.get_mut(listed) {
                row.sent = row.sent.max(*total);
                row.total = row.total.max(*total);
            }
        }
    }

    /// These totals have arrived.
    pub(super) fn mark_arrived(&self, rows: &[(Listed, u64)]) {
        let mut state = self.lock();
        for (listed, total) in rows {
            if state.rows.get(listed).is_some_and(|row| row.total <= *total) {
                state.rows.remove(listed);
            }
        }
    }

    pub(super) fn uses(&self, limit: usize) -> Vec<KeyUse> {
        self.lock().uses.iter().take(limit).map(|(key, last)| KeyUse { key: Arc::clone(key), last: last.clone() }).collect()
    }

    pub(super) fn mark_uses_arrived(&self, uses: &[KeyUse]) {
        let mut state = self.lock();
        for KeyUse { key, last } in uses {
            if state.uses.get(key) == Some(last) {
                state.uses.remove(key);
            }
        }
    }

    /// Whether something did not fit since this was asked last.
    pub(super) fn take_overflow(&self) -> bool {
        std::mem::take(&mut self.lock().overflowed)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().rows.len()
    }

    /// What was sent of each row of the list, by its place.
    pub(super) fn sent(&self) -> HashMap<Vec<u8>, u64> {
        self.lock().rows.iter().map(|((_, place), row)| (place.clone(), row.sent)).collect()
    }

    /// What was to be published of a user and its keys never will be.
    pub(super) fn forget(&self, user: &str, keys: &BTreeSet<Arc<str>>) {
        let mut state = self.lock();
        state.rows.retain(|(theirs, _place), _row| **theirs != *user);
        state.uses.retain(|key, _last| !keys.contains(key));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
