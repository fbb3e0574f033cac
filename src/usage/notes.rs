//! Uses that are noted beside the counts: of a key's older secrets. They wait here for the next flush, and the last of each is kept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crate::model::time::Timestamp;
use crate::store::KeyUse;
use crate::store::LastUse;

/// More names than this between two flushes are not noted.
const NOTES_MAX: usize = 10_000;

/// What was noted and not flushed yet.
#[derive(Debug, Default)]
pub(super) struct Notes(Mutex<BTreeMap<Arc<str>, LastUse>>);

impl Notes {
    pub(super) fn add(&self, name: &str, route: &str, at: Timestamp) {
        let mut notes = self.lock();
        let is_full = notes.len() >= NOTES_MAX;
        match notes.get_mut(name) {
            Some(known) if known.at.unix_seconds() >= at.unix_seconds() => {}
            Some(known) => *known = LastUse { at, route: Arc::from(route) },
            None if is_full => {}
            None => drop(notes.insert(Arc::from(name), LastUse { at, route: Arc::from(route) })),
        }
    }

    /// All of them; none is left.
    pub(super) fn take(&self) -> Vec<KeyUse> {
        let notes = std::mem::take(&mut *self.lock());
        notes.into_iter().map(|(key, last)| KeyUse { key, last }).collect()
    }

    /// Puts back what could not be kept.
    pub(super) fn put_back(&self, uses: Vec<KeyUse>) {
        for KeyUse { key, last } in uses {
            self.add(&key, &last.route, last.at);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, LastUse>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
