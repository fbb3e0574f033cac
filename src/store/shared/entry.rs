//! One entry of the change log: which record changed, from which version to which, and what that means for whoever holds it.

use crate::model::client::ClientRecord;
use crate::model::client::ClientState;
use crate::model::grant::GrantRecord;
use crate::model::grant::GrantState;
use crate::model::key::KeyRecord;
use crate::model::key::KeyState;
use crate::model::user::UserRecord;
use crate::model::user::UserState;
use crate::store::Fact;
use crate::store::RecordKey;
use crate::store::Write;
use crate::store::codec::Shelved;
use crate::store::codec::decode_key;
use crate::store::codec::decode_user;
use crate::store::shared::places::read_place;
use crate::store::shared::records::ID_BYTES_MAX;
use crate::store::shared::replies::digits_number;

/// The longest entry: three numbers, a mark, a place.
pub(super) const ENTRY_BYTES_MAX: usize = 3 * 21 + 2 + 16 + ID_BYTES_MAX;

/// What a change does to whoever holds the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Mark {
    /// It opens what it says.
    Open,
    Disabled,
    Revoked,
    Removed,
}

impl Mark {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "o",
            Self::Disabled => "d",
            Self::Revoked => "v",
            Self::Removed => "r",
        }
    }

    pub(super) fn read(text: &str) -> Option<Self> {
        [Self::Open, Self::Disabled, Self::Revoked, Self::Removed].into_iter().find(|mark| mark.as_str() == text)
    }

    /// What this write does. A record that cannot be read opens nothing anyway.
    pub(super) fn of(write: &Write) -> Self {
        let (key, bytes) = match write {
            Write::Put { key, bytes, .. } => (key, bytes),
            Write::Remove(_) => return Self::Removed,
        };
        match key.family.fact() {
            Some(Fact::Key) => decode_key(&key.id, bytes).map_or(Self::Open, |record| mark_of_key(&record)),
            Some(Fact::User) => decode_user(&key.id, bytes).map_or(Self::Open, |record| mark_of_user(&record)),
            Some(Fact::Grant) => match GrantRecord::decode(&key.id, bytes) {
                Ok(record) => mark_of_grant(&record),
                Err(_) => Self::Open,
            },
            Some(Fact::Client) => match ClientRecord::decode(&key.id, bytes) {
                Ok(record) => mark_of_client(&record),
                Err(_) => Self::Open,
            },
            Some(Fact::Digest) | None => Self::Open,
        }
    }
}

/// How a key's record stands.
pub(super) fn mark_of_key(record: &KeyRecord) -> Mark {
    match record.state {
        KeyState::Revoked => Mark::Revoked,
        KeyState::Disabled => Mark::Disabled,
        KeyState::Active => Mark::Open,
    }
}

/// How a user's record stands.
pub(super) fn mark_of_user(record: &UserRecord) -> Mark {
    match record.state {
        UserState::Disabled => Mark::Disabled,
        UserState::Active => Mark::Open,
    }
}

/// How a grant stands. An ended one never opens anything again.
pub(super) fn mark_of_grant(record: &GrantRecord) -> Mark {
    match record.state {
        GrantState::Ended { .. } => Mark::Revoked,
        GrantState::Pending(_) | GrantState::Live => Mark::Open,
    }
}

/// How a client's record stands.
pub(super) fn mark_of_client(record: &ClientRecord) -> Mark {
    match record.state {
        ClientState::Disabled => Mark::Disabled,
        ClientState::Active => Mark::Open,
    }
}

/// A change of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub key: RecordKey,
    /// The version that lay there before; none: nothing did. Zero: it could not be read.
    pub replaced: Option<u64>,
    /// The version that lies there since; none: nothing does.
    pub version: Option<u64>,
    pub mark: Mark,
}

/// What an entry of the log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Change(Change),
    /// Of a family that a newer version added: nothing here holds such records.
    Foreign,
    /// Not written by us. What it was about is unknown.
    Unreadable,
}

impl Entry {
    pub(super) fn read(text: Option<&str>) -> Self {
        let Some(text) = text else { return Self::Unreadable };
        let mut parts = text.splitn(5, ' ');
        let (Some(_nonce), Some(replaced), Some(version), Some(mark), Some(place)) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Self::Unreadable;
        };
        let Some(key) = read_place(place) else { return Self::Foreign };
        match (read_version(replaced), read_version(version), Mark::read(mark)) {
            (Some(replaced), Some(version), Some(mark)) => Self::Change(Change { key, replaced, version, mark }),
            _ => Self::Unreadable,
        }
    }
}

fn read_version(text: &str) -> Option<Option<u64>> {
    if text == "-" { Some(None) } else { digits_number(text).map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::grant::PendingCode;
    use crate::model::time::Timestamp;
    use crate::store::Family;
    use crate::store::codec::encode_key;
    use crate::store::codec::encode_user;
    use crate::store::codec::shelved::tests::client_id;
    use crate::store::codec::shelved::tests::client_record;
    use crate::store::codec::shelved::tests::ended;
    use crate::store::codec::shelved::tests::grant_record;
    use crate::store::codec::tests::key_record;
    use crate::store::codec::tests::user_record;

    #[test]
    fn entries_are_read_whole_or_not_at_all() {
        let change = |key: RecordKey, replaced, version, mark| Entry::Change(Change { key, replaced, version, mark });
        let table = [
            (Some("7 1 2 o key/abc"), change(RecordKey::key("abc"), Some(1), Some(2), Mark::Open)),
            (Some("7 - 2 d user/local:a b/c\n"), change(RecordKey::user("local", "a b/c\n"), None, Some(2), Mark::Disabled)),
            (Some("7 0 - r key/abc"), change(RecordKey::key("abc"), Some(0), None, Mark::Removed)),
            (Some("7 1 2 o session/x"), change(RecordKey { family: Family::Session, id: "x".into() }, Some(1), Some(2), Mark::Open)),
            (Some("7 1 2 o widget/x"), Entry::Foreign),
            (Some("7 1 2 ? key/abc"), Entry::Unreadable),
            (Some("7 x 2 o key/abc"), Entry::Unreadable),
            (Some("7 1 2 o"), Entry::Unreadable),
            (Some(""), Entry::Unreadable),
            (None, Entry::Unreadable),
        ];
        for (text, expected) in table {
            assert_eq!(Entry::read(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_mark_says_what_the_record_means() {
        let mut key = key_record("abc");
        let mut user = user_record("local", "a");
        let mut table = vec![
            (Write::Remove(RecordKey::key("abc")), Mark::Removed),
            (Write::Put { key: RecordKey::key("abc"), bytes: b"?".to_vec(), expires: None }, Mark::Open),
            (Write::Put { key: RecordKey { family: Family::Ring, id: "a".into() }, bytes: Vec::new(), expires: None }, Mark::Open),
        ];
        for (state, mark) in [(KeyState::Active, Mark::Open), (KeyState::Disabled, Mark::Disabled), (KeyState::Revoked, Mark::Revoked)] {
            key.state = state;
            table.push((Write::Put { key: RecordKey::key("abc"), bytes: encode_key(&key), expires: None }, mark));
        }
        for (state, mark) in [(UserState::Active, Mark::Open), (UserState::Disabled, Mark::Disabled)] {
            user.state = state;
            table.push((Write::Put { key: RecordKey::user("local", "a"), bytes: encode_user(&user), expires: None }, mark));
        }
        let put = |key: RecordKey, bytes| Write::Put { key, bytes, expires: None };
        let pending = PendingCode {
            redirect_uri: "https://a.example".into(),
            redirect_uri_named: false,
            challenge: "c".into(),
            expires: Timestamp::from_unix_seconds(1),
            failures: 0,
        };
        let grant = grant_record("g");
        for (grant, mark) in [
            (grant.clone(), Mark::Open),
            (GrantRecord { state: GrantState::Pending(pending), ..grant.clone() }, Mark::Open),
            (ended(grant), Mark::Revoked),
        ] {
            table.push((put(GrantRecord::place("g"), grant.encode()), mark));
        }
        let app = client_id(1);
        for (state, mark) in [(ClientState::Active, Mark::Open), (ClientState::Disabled, Mark::Disabled)] {
            table.push((put(ClientRecord::place(&app), ClientRecord { state, ..client_record(&app) }.encode()), mark));
        }
        table.push((Write::Remove(GrantRecord::place("g")), Mark::Removed));
        table.push((Write::Remove(ClientRecord::place(&app)), Mark::Removed));
        for (write, expected) in table {
            assert_eq!(Mark::of(&write), expected, "{write:?}");
        }
    }
}
