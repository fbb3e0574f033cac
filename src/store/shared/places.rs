//! What the records' keys are called in Redis.
//!
//! One tag for all of them, so that one script on one node of a cluster can judge and write several records, their indexes and the
//! change log together. Ids come from outside: whatever could be read as a part of a name is escaped, so no id reaches another's
//! place.

use crate::model::hex::push_hex;
use crate::store::Family;
use crate::store::RecordKey;

/// The names under one prefix.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// `<prefix>:1:{r}:`
    root: String,
    channel: String,
}

impl Places {
    pub(super) fn new(prefix: &str) -> Self {
        Self { root: format!("{prefix}:1:{{r}}:"), channel: format!("{prefix}:1:hint") }
    }

    pub(super) fn meta(&self) -> Vec<u8> {
        self.named("meta")
    }

    pub(super) fn log(&self) -> Vec<u8> {
        self.named("log")
    }

    pub(super) fn expiries(&self) -> Vec<u8> {
        self.named("exp")
    }

    pub(super) fn members(&self) -> Vec<u8> {
        self.named("members")
    }

    pub(super) fn index(&self, family: Family) -> Vec<u8> {
        self.named(&format!("idx:{}", family.as_str()))
    }

    pub(super) fn record(&self, key: &RecordKey) -> Vec<u8> {
        self.named(&format!("rec:{}/{}", key.family.as_str(), escape(&key.id)))
    }

    /// Where a commit says that there is news.
    pub(super) fn channel(&self) -> &str {
        &self.channel
    }

    fn named(&self, rest: &str) -> Vec<u8> {
        format!("{}{rest}", self.root).into_bytes()
    }
}

/// A record's place as it stands in the change log and in messages.
pub(super) fn place_text(key: &RecordKey) -> String {
    format!("{}/{}", key.family.as_str(), key.id)
}

/// The record key behind [`place_text`]; none for a family that this version does not know.
pub(super) fn read_place(text: &str) -> Option<RecordKey> {
    let (family, id) = text.split_once('/')?;
    let family = Family::ALL.into_iter().find(|known| known.as_str() == family)?;
    Some(RecordKey { family, id: id.to_owned() })
}

/// Percent-encodes all but letters, digits and `-_.@`. Two texts never become one.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'@') {
            escaped.push(char::from(byte));
        } else {
            escaped.push('%');
            push_hex(&mut escaped, &[byte]);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    // battery: R16
    #[test]
    fn no_id_reads_as_a_part_of_a_name() {
        let places = Places::new("tollgate");
        let odd = ["{x}", "}{", "a b", "a\nb", "*", "?[a]", "a:b", "a/b", "%7bx%7d", "", "ä", "\0", "..", "rec:key/a"];
        let mut seen = BTreeSet::new();
        for id in odd {
            for family in Family::ALL {
                let key = RecordKey { family, id: id.to_owned() };
                let name = String::from_utf8(places.record(&key)).unwrap();
                let rest = name.strip_prefix("tollgate:1:{r}:rec:").unwrap();
                assert!(!rest.contains(['{', '}', ' ', '\n', '\0', '*', '?', '[', ':']), "{name}");
                assert!(seen.insert(name), "{id:?}");
                assert_eq!(read_place(&place_text(&key)), Some(key));
            }
        }
        assert_eq!(read_place("widget/x"), None);
        assert_eq!(read_place("key"), None);
    }

    proptest! {
        #[test]
        fn two_ids_never_share_a_name(one in ".*", other in ".*") {
            prop_assert_eq!(one == other, escape(&one) == escape(&other));
        }
    }
}
