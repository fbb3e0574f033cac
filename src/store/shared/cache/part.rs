//! One kind of record in memory: those that are there, weighed by their bytes, and apart from them ids that are not there.

use std::collections::hash_map::RandomState;
use std::hash::Hash;
use std::sync::Arc;

use quick_cache::Equivalent;
use quick_cache::UnitWeighter;
use quick_cache::Weighter;
use quick_cache::sync::Cache as QuickCache;
use quick_cache::sync::DefaultLifecycle;

use crate::clock::Clock;
use crate::model::time::Timestamp;

/// What an entry weighs besides its record's bytes.
const ENTRY_WEIGHT: u64 = 450;

/// What a look-up found.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::store::shared) enum Known<T: ?Sized> {
    Here(Arc<T>),
    Absent,
    Unknown,
}

/// One kind of record.
pub(super) struct Part<K, T: ?Sized> {
    pub(super) there: QuickCache<K, Held<T>, ByWeight, RandomState>,
    pub(super) absent: QuickCache<K, (), UnitWeighter, RandomState>,
}

#[derive(Debug)]
pub(super) struct Held<T: ?Sized> {
    reign: u64,
    record: Arc<T>,
    expires: Option<Timestamp>,
    weight: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct ByWeight;

impl<T: ?Sized> Clone for Held<T> {
    fn clone(&self) -> Self {
        Self { reign: self.reign, record: Arc::clone(&self.record), expires: self.expires, weight: self.weight }
    }
}

impl<K, T: ?Sized> Weighter<K, Held<T>> for ByWeight {
    fn weight(&self, _key: &K, held: &Held<T>) -> u64 {
        held.weight
    }
}

impl<K, T: ?Sized> std::fmt::Debug for Part<K, T> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Part")
    }
}

impl<K: Eq + Hash + Clone, T: ?Sized> Part<K, T> {
    pub(super) fn new(weight: usize, absent: usize) -> Self {
        let expected = weight / (2 * ENTRY_WEIGHT as usize);
        Self {
            there: QuickCache::with(expected, weight as u64, ByWeight, RandomState::new(), DefaultLifecycle::default()),
            absent: QuickCache::with(absent, absent as u64, UnitWeighter, RandomState::new(), DefaultLifecycle::default()),
        }
    }

    /// With a reign: only what was read since it began.
    pub(super) fn look_up<Q: Hash + Equivalent<K> + ?Sized>(&self, asked: &Q, clock: &dyn Clock, reign: Option<u64>) -> Known<T> {
        match self.there.get(asked).filter(|held| reign.is_none_or(|reign| held.reign == reign)) {
            // Few records expire by themselves, so the clock is seldom asked.
            Some(held) if held.expires.is_some_and(|expires| expires <= clock.now()) => Known::Absent,
            Some(held) => Known::Here(held.record),
            None if self.absent.get(asked).is_some() => Known::Absent,
            None => Known::Unknown,
        }
    }

    pub(super) fn keep(&self, key: K, held: Option<Held<T>>, admitted: bool) -> Option<Arc<T>> {
        let record = held.as_ref().map(|held| Arc::clone(&held.record));
        if admitted {
            match held {
                Some(held) => {
                    self.absent.remove(&key);
                    self.there.insert(key, held);
                }
                None => {
                    self.there.remove(&key);
                    self.absent.insert(key, ());
                }
            }
        }
        record
    }

    pub(super) fn forget<Q: Hash + Equivalent<K> + ?Sized>(&self, asked: &Q) {
        self.there.remove(asked);
        self.absent.remove(asked);
    }

    pub(super) fn clear(&self) {
        self.there.clear();
        self.absent.clear();
    }
}

impl<T: ?Sized> Held<T> {
    /// A record of so many bytes on the shelf.
    pub(super) fn new(reign: u64, record: Arc<T>, expires: Option<Timestamp>, size: usize) -> Self {
        Self { reign, record, expires, weight: ENTRY_WEIGHT + size as u64 }
    }
}
