//! Reading the ledger while others write to it, and giving slots back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::PoisonError;

use crate::model::caller::UserId;
use crate::model::key::KeyId;
use crate::model::time::Hour;
use crate::model::usage::Line;
use crate::model::usage::Outcome;
use crate::model::usage::RouteText;
use crate::usage::error::LedgerError;
use crate::usage::ledger::Ledger;
use crate::usage::ledger::Place;
use crate::usage::slot::CountIdentity;
use crate::usage::slot::Found;
use crate::usage::slot::Identity;

/// One user's count of one outcome, of those that the gate decided, since counting began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserTotal {
    pub user: Arc<str>,
    pub outcome: Outcome,
    pub count: u64,
}

/// What the history has, by user: the base that live counts come on top of.
#[derive(Debug, Default)]
pub(super) struct Totals {
    base: BTreeMap<Arc<str>, [u64; 3]>,
}

impl Totals {
    pub(super) fn add(&mut self, user: &Arc<str>, outcome: Outcome, count: u64) {
        add_to(&mut self.base, user, outcome, count);
    }

    pub(super) fn forget(&mut self, user: &str) {
        self.base.remove(user);
    }
}

/// A counter as it stood when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stated {
    pub(super) place: Place,
    pub(super) birth: u64,
    pub(super) hour: Hour,
    pub(super) user: Arc<str>,
    /// Empty: no key.
    pub(super) key: Arc<str>,
    pub(super) route: Arc<str>,
    pub(super) outcome: Outcome,
    pub(super) count: u64,
    /// What the history has of the count, as far as the ledger knows.
    pub(super) kept: u64,
    /// Unix second of the last use.
    pub(super) used: u64,
}

/// Where a pass through the slots goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    segment: u32,
    slot: u32,
}

impl Ledger {
    /// Every user's counts since counting began, sorted by user; they never sink, not by a restart either.
    pub fn totals(&self) -> Vec<UserTotal> {
        // Held throughout, so that no count passes from the slots to the base while it is being looked for.
        let totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sums = totals.base.clone();
        let mut position = Some(Position::default());
        while let Some(from) = position {
            let (batch, next) = self.state(from, usize::MAX, |_, count, kept| count > kept);
            for stated in batch {
                add_to(&mut sums, &stated.user, stated.outcome, stated.count.saturating_sub(stated.kept));
            }
            position = next;
        }
        drop(totals);
        let mut listed = Vec::with_capacity(sums.len());
        for (user, counts) in sums {
            for (outcome, count) in Outcome::DECIDED.into_iter().zip(counts) {
                if count > 0 {
                    listed.push(UserTotal { user: Arc::clone(&user), outcome, count });
                }
            }
        }
        listed
    }

    /// Reads counters from a position on, until `most` of them passed the filter (hour, count, kept). Then where to go on; none:
    /// that was the last segment.
    pub(super) fn state(&self, from: Position, most: usize, wanted: impl Fn(Hour, u64, u64) -> bool) -> (Vec<Stated>, Option<Position>) {
        let mut found = Vec::new();
        let names = self.names.pin();
        let Position { mut segment, mut slot } = from;
        while let Some(words) = self.segment(segment) {
            let mark = words.mark().unwrap_or_else(|| words.slots());
            while slot < mark {
                if found.len() >= most {
                    return (found, Some(Position { segment, slot }));
                }
                let index = slot;
                slot += 1;
                let Some(view) = words.slot(index) else { continue };
                let Found::Filled(filled) = view.inspect() else { continue };
                let Identity::Count(line) = filled.identity else { continue };
                // A slot that passes to another line between these reads has another residue, and is skipped.
                let Some(kept) = view.kept(filled.generation).or_else(|| view.count(filled.generation).map(|_| 0)) else { continue };
                let Some(count) = view.count(filled.generation) else { continue };
                if !wanted(line.hour, count, kept) {
                    continue;
                }
                let key = if line.key == 0 { Some(Arc::from("")) } else { names.get(&line.key).cloned() };
                let (Some(user), Some(key), Some(route)) = (names.get(&line.user), key, names.get(&line.route)) else { continue };
                found.push(Stated {
                    place: Place { segment, slot: index, generation: filled.generation },
                    birth: filled.birth,
                    hour: line.hour,
                    user: Arc::clone(user),
                    key,
                    route: Arc::clone(route),
                    outcome: line.outcome,
                    count,
                    kept,
                    used: view.used(),
                });
            }
            segment += 1;
            slot = 0;
        }
        (found, None)
    }

    /// Notes what the history has: for each counter of a batch the count that was told, and what that added to the history.
    pub(super) fn acknowledge(&self, batch: &[Stated], added: &[u64]) {
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        for (stated, &added) in batch.iter().zip(added) {
            if let Some(slot) = self.slot(stated.place) {
                slot.set_kept(stated.count, stated.place.generation);
            }
            totals.add(&stated.user, stated.outcome, added);
        }
    }

    /// Brings a counter in line with the history: the history may be ahead (the ledger lost a second by a power failure) or behind
    /// (it was restored from a copy). Only before anybody counts.
    pub(super) fn reconcile(&self, stated: &Stated, stored: u64) {
        let Some(slot) = self.slot(stated.place) else { return };
        let generation = stated.place.generation;
        if stored > stated.count {
            slot.raise(stored, generation);
            self.meters.raised.fetch_add(stored - stated.count, std::sync::atomic::Ordering::Relaxed);
        }
        slot.set_kept(stored, generation);
    }

    /// The base of the totals, as the history has it.
    pub(super) fn load_totals(&self, stored: impl IntoIterator<Item = UserTotal>) {
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        totals.base.clear();
        for total in stored {
            totals.add(&total.user, total.outcome, total.count);
        }
    }

    /// Gives back the slots of hours that are not open any more and of which the history has everything.
    pub(super) fn close_periods(&self) -> u64 {
        let mut closed = 0;
        let mut position = Some(Position::default());
        while let Some(from) = position {
            let open = self.period.open();
            // Hours far ahead are of a clock that leapt, before a restart; nothing is counted there any more.
            let over = |hour: Hour| hour < open || hour.0 > open.0.saturating_add(1);
            let (batch, next) = self.state(from, CLOSE_BATCH, |hour, count, kept| over(hour) && count == kept);
            position = next;
            closed += self.give_back(&batch);
            if next.is_none() {
                self.forget_path_texts(&mut self.lock_creation(), open);
            }
        }
        closed
    }

    /// Gives back the slots of counters that still stand as they were stated.
    pub(super) fn give_back(&self, batch: &[Stated]) -> u64 {
        let mut closed = 0;
        let mut creation = self.lock_creation();
        for stated in batch {
            let Some(slot) = self.slot(stated.place) else { continue };
            // Fails when somebody counted meanwhile; then the next round tells the history first.
            if !slot.retire_count(stated.count, stated.place.generation) {
                continue;
            }
            let user = UserId::from_counted(&stated.user);
            let key = (!stated.key.is_empty()).then(|| KeyId::new(&stated.key));
            let line = Line {
                hour: stated.hour,
                user: &user,
                key: key.as_ref(),
                route: &stated.route,
                route_text: RouteText::Name,
                outcome: stated.outcome,
            };
            // The map may know the line under a younger slot, if this one was set aside before; then it stays.
            let _ = self.counts.pin().remove_if(&self.line_digest(&line), |_, place| *place == stated.place);
            slot.free();
            creation.free.push((stated.place.segment, stated.place.slot));
            closed += 1;
        }
        closed
    }

    /// Forgets names that no counter uses, when they are most of the dictionary.
    ///
    /// # Errors
    /// What the system said; nothing is lost then.
    pub(super) fn compact_names(&self) -> Result<(), LedgerError> {
        self.compact(false)
    }

    /// The same, whether it is worth it or not: a name must go.
    ///
    /// # Errors
    /// What the system said; nothing is lost then.
    pub(super) fn drop_unused_names(&self) -> Result<(), LedgerError> {
        self.compact(true)
    }

    fn compact(&self, at_any_price: bool) -> Result<(), LedgerError> {
        let mut creation = self.lock_creation();
        let mut used = std::collections::HashSet::new();
        let mut segment = 0;
        while let Some(words) = self.segment(segment) {
            for index in 0..words.mark().unwrap_or_else(|| words.slots()) {
                if let Some(Found::Filled(filled)) = words.slot(index).map(crate::usage::slot::Slot::inspect)
                    && let Identity::Count(CountIdentity { user, key, route, .. }) = filled.identity
                {
                    used.extend([user, key, route]);
                }
            }
            segment += 1;
        }
        let names = self.names.pin();
        for number in creation.dictionary.compact(&self.options.path, at_any_price, &|number| used.contains(&number))? {
            names.remove(&number);
        }
        Ok(())
    }

    /// A counter's line by its names; not called when one of them is unknown.
    pub(super) fn with_line(&self, identity: &CountIdentity, then: impl FnOnce(&Line<'_>)) {
        let names = self.names.pin();
        let (Some(user), Some(route)) = (names.get(&identity.user), names.get(&identity.route)) else { return };
        let key = match identity.key {
            0 => None,
            number => match names.get(&number) {
                Some(name) => Some(KeyId::new(name)),
                None => return,
            },
        };
        let user = UserId::from_counted(user);
        then(&Line {
            hour: identity.hour,
            user: &user,
            key: key.as_ref(),
            route,
            route_text: identity.route_text,
            outcome: identity.outcome,
        });
    }
}

const CLOSE_BATCH: usize = 4096;

/// Only what the gate decided makes totals.
fn add_to(sums: &mut BTreeMap<Arc<str>, [u64; 3]>, user: &Arc<str>, outcome: Outcome, count: u64) {
    let Some(position) = Outcome::DECIDED.iter().position(|decided| *decided == outcome) else { return };
    if let Some(sum) = sums.entry(Arc::clone(user)).or_default().get_mut(position) {
        *sum = sum.saturating_add(count);
    }
}
