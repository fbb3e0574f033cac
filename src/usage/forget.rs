//! Erasing what was counted of one user: in the ledger's slots and names, and in the history.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::PoisonError;

use redb::ReadableTable;
use redb::TableDefinition;
use redb::WriteTransaction;

use crate::model::usage::Outcome;
use crate::model::usage_row;
use crate::model::usage_row::RowKey;
use crate::usage::error::LedgerError;
use crate::usage::history;
use crate::usage::history::History;
use crate::usage::history::HistoryError;
use crate::usage::ledger::Ledger;
use crate::usage::live::Position;
use crate::usage::rows;
use crate::usage::shares::SHARE;

/// How often slots are looked for that somebody counts in all the while.
const ROUNDS_MAX: usize = 16;

impl Ledger {
    /// Gives back every slot of a user, whatever is counted in it, and forgets its name. What is gone is gone from the disk when
    /// this returns: a slot that a power failure brought back would be counted again.
    ///
    /// # Errors
    /// What the system said. Asking again completes it.
    pub(super) fn forget(&self, user: &str) -> Result<(), LedgerError> {
        for _round in 0..ROUNDS_MAX {
            let mut found = Vec::new();
            let mut position = Some(Position::default());
            while let Some(from) = position {
                let (batch, next) = self.state(from, usize::MAX, |_, _, _| true);
                found.extend(batch.into_iter().filter(|stated| *stated.user == *user));
                position = next;
            }
            if found.is_empty() {
                break;
            }
            self.give_back(&found);
        }
        self.totals.lock().unwrap_or_else(PoisonError::into_inner).forget(user);
        self.drop_unused_names()?;
        self.sync()
    }
}

impl History {
    /// Removes every row of a user, and the last uses of its keys.
    ///
    /// # Errors
    /// When the database fails; then nothing was removed.
    pub(super) fn forget_user(&self, user: &str) -> Result<(), HistoryError> {
        let failed = |error: redb::StorageError| self.failed(error);
        let transaction = self.write()?;
        let mut keys: BTreeSet<Arc<str>> = BTreeSet::new();
        self.forget_rows(&transaction, history::HOUR, user, &mut keys)?;
        self.forget_rows(&transaction, history::DAY, user, &mut keys)?;
        self.forget_rows(&transaction, history::MONTH, user, &mut keys)?;
        {
            let mut notes = transaction.open_table(SHARE).map_err(|error| self.failed(error))?;
            let is_theirs = |place: &[u8]| place.get(1..).and_then(RowKey::read).is_some_and(|row| *row.user == *user);
            notes.retain(|place, _note| !is_theirs(place)).map_err(failed)?;
            let mut totals = transaction.open_table(history::TOTAL).map_err(|error| self.failed(error))?;
            for outcome in Outcome::ALL {
                totals.remove(rows::total_key(user, outcome).as_str()).map_err(failed)?;
            }
            let mut uses = transaction.open_table(history::LAST_USE).map_err(|error| self.failed(error))?;
            for key in &keys {
                uses.remove(&**key).map_err(failed)?;
            }
        }
        transaction.commit().map_err(|error| self.failed(error))?;
        self.changes.forget(user, &keys);
        Ok(())
    }

    fn forget_rows<V: redb::Value + 'static>(
        &self,
        transaction: &WriteTransaction,
        definition: TableDefinition<'_, &'static [u8], V>,
        user: &str,
        keys: &mut BTreeSet<Arc<str>>,
    ) -> Result<(), HistoryError> {
        let failed = |error: redb::StorageError| self.failed(error);
        let mut table = transaction.open_table(definition).map_err(|error| self.failed(error))?;
        let mut from = Vec::new();
        loop {
            // The next period that has anything at all; of it only this user's rows are looked at.
            let next = table.range::<&[u8]>(from.as_slice()..).map_err(failed)?.next().transpose().map_err(failed)?;
            let Some(period) = next.and_then(|(key, _value)| key.value().first_chunk::<4>().copied()).map(u32::from_be_bytes) else {
                return Ok(());
            };
            let start = usage_row::prefix(period, Some(user));
            let mut end = start.clone();
            // A name's end is two zeros, and nothing lies between those and a one behind the first.
            if let Some(last) = end.last_mut() {
                *last = 1;
            }
            for row in table.extract_from_if(start.as_slice()..end.as_slice(), |_, _| true).map_err(failed)? {
                let (key, _value) = row.map_err(failed)?;
                keys.extend(RowKey::read(key.value()).map(|row| row.key).filter(|key| !key.is_empty()));
            }
            let Some(after) = period.checked_add(1) else { return Ok(()) };
            from = usage_row::prefix(after, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::key::KeyId;
    use crate::model::time::Timestamp;
    use crate::model::usage::Span;
    use crate::model::usage::UsageQuery;
    use crate::store::CountRecord;
    use crate::store::Counts;
    use crate::usage::Thoroughness;
    use crate::usage::Usage;
    use crate::usage::tests::NOON;
    use crate::usage::tests::folder;
    use crate::usage::tests::small;
    use crate::usage::tests::user;
    use crate::usage::tests::with_key;

    const FOREVER: Timestamp = Timestamp::from_unix_seconds(10_000_000_000);

    fn rows(usage: &Usage, span: Span) -> Vec<(String, u64)> {
        let page = usage.query(&UsageQuery::between(span, Timestamp::from_nanos(0), FOREVER)).unwrap();
        page.rows.into_iter().map(|row| (row.user.to_string(), row.count)).collect()
    }

    #[tokio::test]
    async fn nothing_is_left_of_a_user_and_everything_of_the_others() {
        let folder = folder();
        let at = |now| Usage::open(small(&folder.path().join("ledger")), folder.path().join("usage.redb"), now).unwrap();
        let mut usage = at(NOON);
        // Names that a careless range would take for one another's.
        let users: Vec<_> = ["alice", "alic", "alice\0", "alicea", "alice:x"].into_iter().map(user).collect();
        let key = |name: &str| KeyId::new(&format!("key-of-{}", name.len()));
        let mut now = NOON;
        for _day in 0..3 {
            for user in &users {
                usage.ledger().add(&with_key(user, &key(user.as_str()), "r"), 5).unwrap();
            }
            usage.flush(Thoroughness::Everything, now, Duration::ZERO).unwrap();
            now = now.plus(Duration::from_secs(24 * 3600));
        }
        let writer = 77;
        let told = CountRecord {
            span: Span::Month,
            start: NOON,
            user: "alice".into(),
            key: "".into(),
            route: "r".into(),
            outcome: Outcome::Allowed,
            count: 9,
        };
        Counts::merge(usage.history(), writer, &[told], now).await.unwrap();
        // And some that were not flushed yet.
        for user in &users {
            usage.ledger().add(&with_key(user, &key(user.as_str()), "late"), 1).unwrap();
        }
        usage.forget("alice").unwrap();
        for reopened in [false, true] {
            if reopened {
                drop(usage);
                usage = at(now);
            }
            for span in [Span::Hour, Span::Day, Span::Month] {
                let rows = rows(&usage, span);
                assert!(rows.iter().all(|(user, _count)| user != "alice"), "{span:?} {rows:?}");
                let left: u64 = rows.iter().map(|(_user, count)| count).sum();
                assert_eq!(left, 4 * 16, "{span:?} {rows:?}");
            }
            let totals = usage.ledger().totals();
            assert!(totals.iter().all(|total| *total.user != *"alice"), "{totals:?}");
            assert_eq!(totals.iter().map(|total| total.count).sum::<u64>(), 4 * 16);
            assert_eq!(usage.last_use(&key("alice")).unwrap(), None);
            assert!(usage.last_use(&key("alicea")).unwrap().is_some());
        }
        let names = std::fs::read(folder.path().join("ledger/dictionary")).unwrap();
        let holds = |name: &[u8]| names.windows(name.len()).filter(|window| *window == name).count();
        assert_eq!(holds(b"alice"), 3, "as the beginning of the others' names alone");
        usage.ledger().add(&with_key(&users[0], &key("alice"), "r"), 2).unwrap();
        usage.flush(Thoroughness::Everything, now, Duration::ZERO).unwrap();
        let again = rows(&usage, Span::Month).into_iter().filter(|(user, _count)| user == "alice").collect::<Vec<_>>();
        assert_eq!(again, [("alice".to_owned(), 2)], "a new user of the same name begins at nothing");
        usage.forget("nobody").unwrap();
    }
}
