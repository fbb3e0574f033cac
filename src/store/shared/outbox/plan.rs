//! What of our mutations of one record has to be repeated, given what lies there now and which changes are known.

use std::collections::HashMap;

use crate::model::time::Timestamp;
use crate::store::shared::outbox::Mutation;

/// Steps that are walked back at the most; a chain of changes has no circle, and a forged one shall not hold us.
const ANCESTORS_MAX: usize = 20_000;

/// A mutation of ours, and what is known of it.
#[derive(Clone, Debug)]
pub(super) struct Noted {
    pub order: u64,
    pub mutation: Mutation,
    /// Whether it was repeated, or must not be.
    pub is_done: bool,
}

/// Which version was put in the place of which, as far as is known: from our own mutations and from the store's log.
#[derive(Debug, Default)]
pub(super) struct Chains {
    /// Version -> the one that it replaced.
    parents: HashMap<u64, Option<u64>>,
    /// Versions that something was put in the place of.
    followed: HashMap<u64, Option<u64>>,
}

/// How far back the log tells everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cover {
    pub head: u64,
    /// The oldest entry that is there.
    pub first: u64,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    /// This one is missing, and what it was made on top of lies there: the same again.
    Repeat(usize),
    /// This one closed the record and is missing; something else lies there that never knew of it.
    Close(usize),
}

/// Where a version stands to a mutation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    /// It was made on top of the mutation, or of a record that was made anew.
    Knows,
    /// It was made on top of what the mutation replaced, or nobody knows on what.
    Lost,
}

impl Chains {
    pub(super) fn add(&mut self, replaced: Option<u64>, version: Option<u64>) {
        if let Some(version) = version {
            self.parents.insert(version, replaced);
        }
        if let Some(replaced) = replaced {
            self.followed.insert(replaced, version);
        }
    }

    /// Whether the changes that are known to follow a version end with nothing there.
    fn ends_removed(&self, version: u64) -> bool {
        let mut version = version;
        for _step in 0..ANCESTORS_MAX {
            match self.followed.get(&version) {
                Some(Some(next)) => version = *next,
                Some(None) => return true,
                None => return false,
            }
        }
        false
    }

    fn relation(&self, current: u64, mutation: &Mutation) -> Relation {
        let mut version = current;
        for _step in 0..ANCESTORS_MAX {
            if Some(version) == mutation.version {
                return Relation::Knows;
            }
            if Some(version) == mutation.replaced {
                return Relation::Lost;
            }
            match self.parents.get(&version) {
                Some(Some(parent)) => version = *parent,
                // Made anew where nothing lay: none of what was before concerns it.
                Some(None) => return Relation::Knows,
                None => return Relation::Lost,
            }
        }
        Relation::Lost
    }
}

/// The next step for a record of which `current` lies there, with its own mutations in their order.
pub(super) fn next_step(mutations: &[Noted], current: Option<u64>, chains: &Chains, cover: Cover, now: Timestamp) -> Step {
    let repeatable = |noted: &Noted| !noted.is_done && noted.mutation.replaced == current && noted.mutation.version != current;
    if let Some(position) = mutations.iter().rposition(repeatable)
        && let Some(noted) = mutations.get(position)
    {
        return match current {
            Some(_) => Step::Repeat(position),
            None if may_make_anew(&noted.mutation, chains, cover, now) => Step::Repeat(position),
            None => Step::Nothing,
        };
    }
    // What is not there opens nothing.
    let Some(current) = current else { return Step::Nothing };
    let is_missing = |noted: &Noted| {
        let mutation = &noted.mutation;
        let is_superseded = mutation.version.is_some_and(|version| chains.followed.contains_key(&version));
        mutation.is_closing() && !noted.is_done && !is_superseded && chains.relation(current, mutation) == Relation::Lost
    };
    mutations.iter().position(is_missing).map_or(Step::Nothing, Step::Close)
}

/// Whether a record that we made and that is not there was lost, and not removed by somebody.
fn may_make_anew(mutation: &Mutation, chains: &Chains, cover: Cover, now: Timestamp) -> bool {
    let is_over = mutation.expires.is_some_and(|expires| expires <= now);
    let is_removed = mutation.version.is_some_and(|version| chains.ends_removed(version));
    // Either the log ends before it, or it tells everything since.
    let is_told = cover.head <= mutation.head || cover.first <= mutation.head + 1;
    !is_over && !is_removed && is_told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::RecordKey;
    use crate::store::shared::entry::Mark;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);
    const WHOLE: Cover = Cover { head: 5, first: 1 };

    fn mutation(replaced: Option<u64>, version: Option<u64>, mark: Mark) -> Mutation {
        Mutation { at: NOW, key: RecordKey::key("a"), replaced, version, mark, expires: None, head: 10, bytes: Vec::new() }
    }

    /// What it is, our mutations, what the log tells besides, what lies there, what the log covers, and what is to be done.
    type Row<'a> = (&'static str, &'a [Mutation], &'a [Link], Option<u64>, Cover, Vec<Step>);
    /// A replaced version and what replaced it.
    type Link = (Option<u64>, Option<u64>);

    /// The steps that follow one from the other, each taken as done.
    fn steps(mutations: &[Mutation], log: &[Link], current: Option<u64>, cover: Cover) -> Vec<Step> {
        let mut chains = Chains::default();
        for mutation in mutations {
            chains.add(mutation.replaced, mutation.version);
        }
        for (replaced, version) in log {
            chains.add(*replaced, *version);
        }
        let mut noted: Vec<Noted> =
            mutations.iter().zip(0..).map(|(mutation, order)| Noted { order, mutation: mutation.clone(), is_done: false }).collect();
        let (mut current, mut taken) = (current, Vec::new());
        loop {
            let step = next_step(&noted, current, &chains, cover, NOW);
            match step {
                Step::Nothing => return taken,
                Step::Repeat(position) | Step::Close(position) => {
                    noted[position].is_done = true;
                    current = noted[position].mutation.version;
                }
            }
            taken.push(step);
        }
    }

    // battery: R10 R11
    #[test]
    fn what_is_missing_is_repeated_and_nothing_newer_is_lost() {
        let made = mutation(None, Some(1), Mark::Open);
        let changed = mutation(Some(1), Some(2), Mark::Open);
        let revoked = mutation(Some(2), Some(3), Mark::Revoked);
        let disabled = mutation(Some(1), Some(4), Mark::Disabled);
        let removed = mutation(Some(2), None, Mark::Removed);
        let passing = [made.clone(), mutation(Some(1), None, Mark::Removed)];
        let branches = [changed.clone(), mutation(Some(1), Some(7), Mark::Open)];
        let chain = [made.clone(), changed.clone(), revoked.clone()];
        use Step::Close;
        use Step::Repeat;
        let table: Vec<Row<'_>> = vec![
            ("nothing lost", &chain, &[], Some(3), WHOLE, vec![]),
            ("the last lost", &chain, &[], Some(2), WHOLE, vec![Repeat(2)]),
            ("two lost", &chain, &[], Some(1), WHOLE, vec![Repeat(1), Repeat(2)]),
            ("all lost", &chain, &[], None, WHOLE, vec![Repeat(0), Repeat(1), Repeat(2)]),
            ("changed by another since", &chain, &[(Some(3), Some(9))], Some(9), WHOLE, vec![]),
            ("changed by another on top of a lost state", &chain, &[(Some(2), Some(9))], Some(9), WHOLE, vec![Close(2)]),
            ("something that nobody knows lies there", &chain, &[], Some(9), WHOLE, vec![Close(2)]),
            ("an ordinary change, and something newer", &chain[..2], &[(Some(1), Some(9))], Some(9), WHOLE, vec![]),
            ("made by us, removed by another", &chain[..1], &[(Some(1), None)], None, WHOLE, vec![]),
            ("made by us, gone, and the log does not reach back", &chain[..1], &[], None, Cover { head: 90, first: 50 }, vec![]),
            ("made by us, lost, and much happened since", &chain[..1], &[], None, Cover { head: 90, first: 11 }, vec![Repeat(0)]),
            ("disabled by us, enabled by another", std::slice::from_ref(&disabled), &[(Some(4), Some(9))], Some(9), WHOLE, vec![]),
            (
                "the same, thrown back to before both",
                std::slice::from_ref(&disabled),
                &[(Some(4), Some(9))],
                Some(1),
                WHOLE,
                vec![Repeat(0)],
            ),
            ("made and removed by us, and gone", &passing, &[], None, WHOLE, vec![]),
            ("removal lost", std::slice::from_ref(&removed), &[], Some(2), WHOLE, vec![Repeat(0)]),
            ("removal lost, and a change on top", std::slice::from_ref(&removed), &[(Some(2), Some(9))], Some(9), WHOLE, vec![Close(0)]),
            ("removed, then made anew", std::slice::from_ref(&removed), &[(None, Some(9))], Some(9), WHOLE, vec![]),
            ("removed by us, and gone", std::slice::from_ref(&removed), &[], None, WHOLE, vec![]),
            ("closed by another when it was gone", std::slice::from_ref(&revoked), &[], None, WHOLE, vec![]),
            ("of two branches the later one", &branches, &[], Some(1), WHOLE, vec![Repeat(1)]),
            ("a circle", std::slice::from_ref(&revoked), &[(Some(8), Some(9)), (Some(9), Some(8))], Some(9), WHOLE, vec![Close(0)]),
        ];
        for (what, mutations, log, current, cover, expected) in table {
            assert_eq!(steps(mutations, log, current, cover), expected, "{what}");
        }
        let over = Mutation { expires: Some(NOW), ..made };
        assert_eq!(steps(&[over], &[], None, WHOLE), []);
    }
}
