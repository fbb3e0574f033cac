//! What was seen revoked, disabled or removed stays so in this process, also when the store is thrown back to before.
//!
//! A tombstone names the version that closed the record. A change that replaced exactly that version was made by somebody who knew
//! of it, and lifts the tombstone; a record that merely turns up again in an older state does not.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::client::ClientRecord;
use crate::model::client::ClientState;
use crate::model::grant::GrantEnd;
use crate::model::grant::GrantRecord;
use crate::model::grant::GrantState;
use crate::model::key::KeyRecord;
use crate::model::key::KeyState;
use crate::model::time::Timestamp;
use crate::model::user::UserRecord;
use crate::model::user::UserState;
use crate::store::Fact;
use crate::store::RecordKey;
use crate::store::shared::entry::Change;
use crate::store::shared::entry::Mark;
use crate::store::shared::entry::mark_of_client;
use crate::store::shared::entry::mark_of_grant;
use crate::store::shared::entry::mark_of_key;
use crate::store::shared::entry::mark_of_user;

/// How long they are kept: longer than any token lives, and as long as the outboxes repeat lost changes.
const KEPT: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug)]
pub(super) struct Tombstones {
    stones: HashMap<RecordKey, Stone>,
    /// In the order in which they were set; one that was lifted or set again leaves its old line behind.
    order: VecDeque<(Instant, RecordKey)>,
    most: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stone {
    mark: Mark,
    version: Option<u64>,
    since: Instant,
    /// When the record under it is forgotten by itself, as far as is known.
    expires: Option<Timestamp>,
}

impl Tombstones {
    pub(super) fn new(most: usize) -> Self {
        Self { stones: HashMap::new(), order: VecDeque::new(), most }
    }

    pub(super) fn len(&self) -> usize {
        self.stones.len()
    }

    /// Takes note of a change, in the order of the log.
    pub(super) fn note(&mut self, change: &Change, now: Instant) {
        self.set(change, None, now);
    }

    fn set(&mut self, change: &Change, expires: Option<Timestamp>, now: Instant) {
        match change.key.family.fact() {
            Some(Fact::Key | Fact::User | Fact::Grant | Fact::Client) => {}
            // A digest only leads to a key, and the others are no check's business.
            Some(Fact::Digest) | None => return,
        }
        match change.mark {
            Mark::Open => {
                if self.stones.get(&change.key).is_some_and(|stone| stone.version == change.replaced) {
                    self.stones.remove(&change.key);
                }
            }
            Mark::Disabled | Mark::Revoked | Mark::Removed => {
                self.stones.insert(change.key.clone(), Stone { mark: change.mark, version: change.version, since: now, expires });
                self.order.push_back((now, change.key.clone()));
            }
        }
        self.prune(now);
    }

    /// Takes note of a record that was read. The log's entry about it may never come: the store may be set back before it is polled.
    pub(super) fn saw(&mut self, key: RecordKey, mark: Mark, version: u64, expires: Option<Timestamp>, now: Instant) {
        if mark != Mark::Open {
            self.set(&Change { key, replaced: None, version: Some(version), mark }, expires, now);
        }
    }

    /// What is known of a record, whatever the store says of it.
    pub(super) fn over(&self, key: &RecordKey) -> Option<Mark> {
        // Nearly always there is none, and then nothing is hashed.
        if self.stones.is_empty() { None } else { self.stones.get(key).map(|stone| stone.mark) }
    }

    /// As [`Self::over`], for a record that was made at this instant: what lies over a predecessor that expired before then is not about it.
    /// A key's grant is made anew under the same id.
    pub(super) fn over_made(&self, key: &RecordKey, created: Timestamp) -> Option<Mark> {
        if self.stones.is_empty() {
            return None;
        }
        self.stones.get(key).filter(|stone| stone.expires.is_none_or(|expires| created < expires)).map(|stone| stone.mark)
    }

    /// Changes were missed, and no loss is suspected: what was removed may have been made anew since, and what was disabled may have
    /// been enabled. The store says. A revocation is for ever.
    pub(super) fn missed_some(&mut self) {
        self.stones.retain(|_key, stone| stone.mark == Mark::Revoked);
    }

    fn prune(&mut self, now: Instant) {
        while let Some((since, key)) = self.order.front() {
            let is_outdated = self.stones.get(key).is_none_or(|stone| stone.since != *since);
            let is_due = now.duration_since(*since) > KEPT || self.stones.len() > self.most || self.order.len() > 2 * self.most;
            if !is_outdated && !is_due {
                return;
            }
            if !is_outdated {
                let key = key.clone();
                self.stones.remove(&key);
            }
            self.order.pop_front();
        }
    }
}

/// A record that a tombstone can lie over.
pub(super) trait Closable: Sized {
    /// How it stands by itself.
    fn mark(&self) -> Mark;
    /// The record as a tombstone over it lets it be: none where it was removed.
    fn bury(self, mark: Option<Mark>) -> Option<Self>;
    fn created(&self) -> Timestamp;
}

impl Closable for KeyRecord {
    fn mark(&self) -> Mark {
        mark_of_key(self)
    }

    fn bury(self, mark: Option<Mark>) -> Option<Self> {
        let state = match mark {
            None | Some(Mark::Open) => self.state,
            Some(Mark::Removed) => return None,
            Some(Mark::Revoked) => KeyState::Revoked,
            Some(Mark::Disabled) => match self.state {
                KeyState::Revoked => KeyState::Revoked,
                KeyState::Active | KeyState::Disabled => KeyState::Disabled,
            },
        };
        Some(Self { state, ..self })
    }

    fn created(&self) -> Timestamp {
        self.created
    }
}

impl Closable for UserRecord {
    fn mark(&self) -> Mark {
        mark_of_user(self)
    }

    fn bury(self, mark: Option<Mark>) -> Option<Self> {
        let state = match mark {
            None | Some(Mark::Open) => self.state,
            Some(Mark::Removed) => return None,
            Some(Mark::Revoked | Mark::Disabled) => UserState::Disabled,
        };
        Some(Self { state, ..self })
    }

    fn created(&self) -> Timestamp {
        self.created
    }
}

impl Closable for GrantRecord {
    fn mark(&self) -> Mark {
        mark_of_grant(self)
    }

    fn bury(self, mark: Option<Mark>) -> Option<Self> {
        let state = match (mark, self.state) {
            (Some(Mark::Removed), _) => return None,
            // Why and when exactly it ended is known to those who still have the record that says so.
            (Some(Mark::Revoked | Mark::Disabled), GrantState::Pending(_) | GrantState::Live) => {
                GrantState::Ended { at: self.advanced, why: GrantEnd::Revoked }
            }
            (None | Some(Mark::Open | Mark::Revoked | Mark::Disabled), state) => state,
        };
        Some(Self { state, ..self })
    }

    fn created(&self) -> Timestamp {
        self.created
    }
}

impl Closable for ClientRecord {
    fn mark(&self) -> Mark {
        mark_of_client(self)
    }

    fn bury(self, mark: Option<Mark>) -> Option<Self> {
        let state = match mark {
            None | Some(Mark::Open) => self.state,
            Some(Mark::Removed) => return None,
            Some(Mark::Revoked | Mark::Disabled) => ClientState::Disabled,
        };
        Some(Self { state, ..self })
    }

    fn created(&self) -> Timestamp {
        self.created
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::monotonic;
    use crate::store::codec::Shelved as _;
    use crate::store::codec::shelved::tests::client_id;
    use crate::store::codec::shelved::tests::client_record;
    use crate::store::codec::shelved::tests::ended;
    use crate::store::codec::shelved::tests::grant_record;
    use crate::store::codec::tests::key_record;
    use crate::store::codec::tests::user_record;

    fn change(id: &str, replaced: Option<u64>, version: Option<u64>, mark: Mark) -> Change {
        Change { key: RecordKey::key(id), replaced, version, mark }
    }

    #[test]
    fn only_who_knew_of_it_lifts_a_tombstone() {
        let now = monotonic();
        let key = RecordKey::key("a");
        let table = [
            ("seen revoked", vec![change("a", Some(1), Some(2), Mark::Revoked)], Some(Mark::Revoked)),
            ("removed", vec![change("a", Some(1), None, Mark::Removed)], Some(Mark::Removed)),
            ("enabled on top of it", vec![change("a", Some(1), Some(2), Mark::Disabled), change("a", Some(2), Some(3), Mark::Open)], None),
            (
                "changed on top of what was before it",
                vec![change("a", Some(1), Some(2), Mark::Disabled), change("a", Some(1), Some(3), Mark::Open)],
                Some(Mark::Disabled),
            ),
            ("made anew", vec![change("a", Some(1), None, Mark::Removed), change("a", None, Some(3), Mark::Open)], None),
            (
                "came back and was changed",
                vec![change("a", Some(1), None, Mark::Removed), change("a", Some(1), Some(3), Mark::Open)],
                Some(Mark::Removed),
            ),
            (
                "done again, then lifted",
                vec![
                    change("a", Some(1), Some(2), Mark::Disabled),
                    change("a", Some(9), Some(4), Mark::Disabled),
                    change("a", Some(4), Some(5), Mark::Open),
                ],
                None,
            ),
            ("another's", vec![change("b", Some(1), Some(2), Mark::Revoked)], None),
        ];
        for (what, changes, expected) in table {
            let mut stones = Tombstones::new(10);
            for change in &changes {
                stones.note(change, now);
            }
            assert_eq!(stones.over(&key), expected, "{what}");
        }
    }

    #[test]
    fn they_are_bounded_in_number_and_time() {
        let now = monotonic();
        let mut stones = Tombstones::new(3);
        for number in 0..10 {
            stones.note(&change(&number.to_string(), Some(1), None, Mark::Removed), now);
        }
        assert_eq!(stones.len(), 3);
        assert_eq!(stones.over(&RecordKey::key("9")), Some(Mark::Removed));
        assert_eq!(stones.over(&RecordKey::key("6")), None);
        for _round in 0..1000 {
            stones.note(&change("9", Some(1), Some(2), Mark::Disabled), now);
            stones.note(&change("9", Some(2), Some(3), Mark::Open), now);
        }
        assert!(stones.order.len() <= 6, "{}", stones.order.len());
        stones.note(&change("later", Some(1), None, Mark::Removed), now + KEPT + Duration::from_secs(1));
        assert_eq!((stones.len(), stones.over(&RecordKey::key("later"))), (1, Some(Mark::Removed)));
    }

    #[test]
    fn a_missed_stretch_leaves_revocations_alone() {
        let now = monotonic();
        let mut stones = Tombstones::new(3);
        stones.note(&change("removed", Some(1), None, Mark::Removed), now);
        stones.note(&change("revoked", Some(1), Some(2), Mark::Revoked), now);
        stones.note(&change("disabled", Some(1), Some(2), Mark::Disabled), now);
        stones.missed_some();
        assert_eq!(stones.over(&RecordKey::key("removed")), None);
        assert_eq!(stones.over(&RecordKey::key("disabled")), None, "it may have been enabled since");
        assert_eq!(stones.over(&RecordKey::key("revoked")), Some(Mark::Revoked));
    }

    #[test]
    fn what_was_read_closed_stays_so_until_it_is_lifted_on_top_of_that() {
        let (now, key) = (monotonic(), RecordKey::key("a"));
        let mut stones = Tombstones::new(3);
        stones.saw(key.clone(), Mark::Open, 2, None, now);
        assert_eq!(stones.len(), 0);
        stones.saw(key.clone(), Mark::Disabled, 2, None, now);
        assert_eq!(stones.over(&key), Some(Mark::Disabled));
        stones.note(&change("a", Some(1), Some(3), Mark::Open), now);
        assert_eq!(stones.over(&key), Some(Mark::Disabled));
        stones.note(&change("a", Some(2), Some(3), Mark::Open), now);
        assert_eq!(stones.over(&key), None);
    }

    #[test]
    fn what_lies_over_one_that_expired_is_not_about_its_successor() {
        let now = monotonic();
        let (key, old) = (GrantRecord::place("key-a"), Timestamp::from_unix_seconds(100));
        let mut stones = Tombstones::new(3);
        assert_eq!(stones.over_made(&key, old), None);
        stones.saw(key.clone(), Mark::Revoked, 2, Some(old), now);
        for (created, expected) in [(0, Some(Mark::Revoked)), (99, Some(Mark::Revoked)), (100, None), (101, None)] {
            assert_eq!(stones.over_made(&key, Timestamp::from_unix_seconds(created)), expected, "{created}");
        }
        stones.saw(key.clone(), Mark::Revoked, 3, None, now);
        assert_eq!(stones.over_made(&key, Timestamp::from_unix_seconds(101)), Some(Mark::Revoked), "it would have stayed for ever");
        stones.note(&Change { key: key.clone(), replaced: Some(3), version: None, mark: Mark::Removed }, now);
        assert_eq!(stones.over_made(&key, Timestamp::from_unix_seconds(101)), Some(Mark::Removed));
    }

    #[test]
    fn a_tombstone_only_ever_closes() {
        for state in [KeyState::Active, KeyState::Disabled, KeyState::Revoked] {
            let record = KeyRecord { state, ..key_record("a") };
            assert_eq!(record.clone().bury(None), Some(record.clone()));
            assert_eq!(record.clone().bury(Some(Mark::Removed)), None);
            assert_eq!(record.clone().bury(Some(Mark::Revoked)).unwrap().state, KeyState::Revoked);
            assert_ne!(record.bury(Some(Mark::Disabled)).unwrap().state, KeyState::Active);
        }
        for grant in [grant_record("a"), ended(grant_record("a"))] {
            assert_eq!(grant.clone().bury(None), Some(grant.clone()));
            assert_eq!(grant.clone().bury(Some(Mark::Open)), Some(grant.clone()));
            assert_eq!(grant.clone().bury(Some(Mark::Removed)), None);
            for mark in [Mark::Revoked, Mark::Disabled] {
                assert!(matches!(grant.clone().bury(Some(mark)).unwrap().state, GrantState::Ended { .. }));
            }
        }
        assert_eq!(ended(grant_record("a")).bury(Some(Mark::Revoked)), Some(ended(grant_record("a"))), "why it ended is still known");
        for state in [ClientState::Active, ClientState::Disabled] {
            let client = ClientRecord { state, ..client_record(&client_id(1)) };
            assert_eq!(client.clone().bury(None), Some(client.clone()));
            assert_eq!(client.clone().bury(Some(Mark::Removed)), None);
            assert_eq!(client.clone().bury(Some(Mark::Revoked)).unwrap().state, ClientState::Disabled);
            assert_eq!(client.bury(Some(Mark::Disabled)).unwrap().state, ClientState::Disabled);
        }
        let user = user_record("local", "a");
        assert_eq!(user.clone().bury(None), Some(user.clone()));
        assert_eq!(user.clone().bury(Some(Mark::Removed)), None);
        assert_eq!(user.bury(Some(Mark::Disabled)).unwrap().state, UserState::Disabled);
    }
}
