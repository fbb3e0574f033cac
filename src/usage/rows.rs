//! How the history writes its rows: keys that sort by period and then by name, and what an hour knows of its tellers.

use std::sync::Arc;

use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::model::time::Hour;
use crate::model::time::Timestamp;
use crate::model::usage::Outcome;
use crate::model::usage::Span;
use crate::usage::live::Stated;

/// How many tellers of one row are remembered one by one. More than one only comes of damage, or of a clock that leapt.
const TELLERS_MAX: usize = 64;
const TELLER_BYTES: usize = 32;

/// A row's key, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RowKey {
    pub(super) period: u32,
    pub(super) user: Arc<str>,
    pub(super) key: Arc<str>,
    pub(super) route: Arc<str>,
    pub(super) outcome: Outcome,
}

impl RowKey {
    pub(super) fn of(stated: &Stated, span: Span) -> Self {
        Self {
            period: span.index(stated.hour.start()),
            user: Arc::clone(&stated.user),
            key: Arc::clone(&stated.key),
            route: Arc::clone(&stated.route),
            outcome: stated.outcome,
        }
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let mut bytes = prefix(self.period, Some(&self.user));
        push_name(&mut bytes, &self.route);
        push_name(&mut bytes, &self.key);
        bytes.push(match self.outcome {
            Outcome::Allowed => 1,
            Outcome::Limited => 2,
            Outcome::Refused => 3,
        });
        bytes
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (period, rest) = bytes.split_first_chunk::<4>()?;
        let (user, rest) = take_name(rest)?;
        let (route, rest) = take_name(rest)?;
        let (key, rest) = take_name(rest)?;
        let outcome = match rest {
            [1] => Outcome::Allowed,
            [2] => Outcome::Limited,
            [3] => Outcome::Refused,
            _ => return None,
        };
        Some(Self { period: u32::from_be_bytes(*period), user, key, route, outcome })
    }
}

/// Where the rows of a period, or of a user in it, begin.
pub(super) fn prefix(period: u32, user: Option<&str>) -> Vec<u8> {
    let mut bytes = period.to_be_bytes().to_vec();
    if let Some(user) = user {
        push_name(&mut bytes, user);
    }
    bytes
}

/// The key of a user's total of one outcome.
pub(super) fn total_key(user: &str, outcome: Outcome) -> String {
    format!("{}:{user}", outcome.as_str())
}

pub(super) fn read_total_key(key: &str) -> Option<(Outcome, &str)> {
    let (outcome, user) = key.split_once(':')?;
    Some((Outcome::ALL.into_iter().find(|known| known.as_str() == outcome)?, user))
}

/// An hour's row: the total, and the greatest count that each birth of a slot has told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HourValue {
    pub(super) total: u64,
    tellers: Vec<(u128, u64, u64)>,
}

impl HourValue {
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (total, rest) = bytes.split_first_chunk::<8>()?;
        if rest.len() % TELLER_BYTES != 0 {
            return None;
        }
        let mut tellers = Vec::with_capacity(rest.len() / TELLER_BYTES);
        for entry in rest.chunks_exact(TELLER_BYTES) {
            let (writer, entry) = entry.split_first_chunk::<16>()?;
            let (birth, entry) = entry.split_first_chunk::<8>()?;
            let count = entry.first_chunk::<8>()?;
            tellers.push((u128::from_le_bytes(*writer), u64::from_le_bytes(*birth), u64::from_le_bytes(*count)));
        }
        Some(Self { total: u64::from_le_bytes(*total), tellers })
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let mut bytes = self.total.to_le_bytes().to_vec();
        for (writer, birth, count) in &self.tellers {
            bytes.extend_from_slice(&writer.to_le_bytes());
            bytes.extend_from_slice(&birth.to_le_bytes());
            bytes.extend_from_slice(&count.to_le_bytes());
        }
        bytes
    }

    /// The greatest count that this birth has told.
    pub(super) fn told(&self, writer: u128, birth: u64) -> u64 {
        self.tellers.iter().find(|teller| (teller.0, teller.1) == (writer, birth)).map_or(0, |teller| teller.2)
    }

    /// Takes in a count that is told, perhaps again; returns by how much the total rose.
    pub(super) fn tell(&mut self, writer: u128, birth: u64, count: u64) -> u64 {
        let added = count.saturating_sub(self.told(writer, birth));
        if added == 0 {
            return 0;
        }
        match self.tellers.iter_mut().find(|teller| (teller.0, teller.1) == (writer, birth)) {
            Some(teller) => teller.2 = count,
            None => {
                if self.tellers.len() >= TELLERS_MAX {
                    self.tellers.remove(0);
                }
                self.tellers.push((writer, birth, count));
            }
        }
        self.total = self.total.saturating_add(added);
        added
    }
}

impl Span {
    /// The number of the period that an instant lies in.
    pub(super) fn index(self, instant: Timestamp) -> u32 {
        match self {
            Self::Hour => instant.hour().0,
            Self::Day => instant.hour().0 / 24,
            Self::Month => {
                let date = date_of(instant);
                u32::try_from(i32::from(date.year()) * 12 + i32::from(date.month()) - 1).unwrap_or(0)
            }
        }
    }

    /// When the period of this number begins.
    pub(super) fn start(self, index: u32) -> Timestamp {
        match self {
            Self::Hour => Hour(index).start(),
            Self::Day => Hour(index.saturating_mul(24)).start(),
            Self::Month => {
                let year = i16::try_from(index / 12).unwrap_or(i16::MAX);
                let month = i8::try_from(index % 12 + 1).unwrap_or(1);
                let seconds = Date::new(year, month, 1)
                    .and_then(|date| date.to_zoned(TimeZone::UTC))
                    .map_or(0, |start| u64::try_from(start.timestamp().as_second()).unwrap_or(0));
                Timestamp::from_unix_seconds(seconds)
            }
        }
    }
}

fn date_of(instant: Timestamp) -> Date {
    let seconds = i64::try_from(instant.unix_seconds()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX).to_zoned(TimeZone::UTC).date()
}

// A zero byte ends a name, and one inside it is followed by 0xff: names then sort as their bytes do, and never run together.
fn push_name(bytes: &mut Vec<u8>, name: &str) {
    for byte in name.bytes() {
        bytes.push(byte);
        if byte == 0 {
            bytes.push(0xff);
        }
    }
    bytes.extend_from_slice(&[0, 0]);
}

fn take_name(bytes: &[u8]) -> Option<(Arc<str>, &[u8])> {
    let mut name = Vec::new();
    let mut rest = bytes;
    loop {
        match rest {
            [0, 0, after @ ..] => return Some((Arc::from(std::str::from_utf8(&name).ok()?), after)),
            [0, 0xff, after @ ..] => {
                name.push(0);
                rest = after;
            }
            [0, ..] | [] => return None,
            [byte, after @ ..] => {
                name.push(*byte);
                rest = after;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::ProptestConfig;
    use proptest::prop_assert_eq;
    use proptest::proptest;

    fn row(period: u32, user: &str, key: &str, route: &str) -> RowKey {
        RowKey { period, user: user.into(), key: key.into(), route: route.into(), outcome: Outcome::Limited }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn keys_come_back_and_sort_as_their_parts(
            one in (0_u32..3, "[a\0b]{0,3}", "[a\0]{0,2}", "[a\0é]{0,3}"),
            two in (0_u32..3, "[a\0b]{0,3}", "[a\0]{0,2}", "[a\0é]{0,3}"),
        ) {
            let one = row(one.0, &one.1, &one.2, &one.3);
            let two = row(two.0, &two.1, &two.2, &two.3);
            prop_assert_eq!(RowKey::read(&one.write()), Some(one.clone()));
            let parts = |row: &RowKey| (row.period, row.user.to_string(), row.route.to_string(), row.key.to_string());
            prop_assert_eq!(one.write().cmp(&two.write()), parts(&one).cmp(&parts(&two)));
        }

        #[test]
        fn any_bytes_are_a_row_or_none(bytes in proptest::collection::vec(0_u8..=255, 0..80)) {
            let _ = RowKey::read(&bytes);
            if let Some(value) = HourValue::read(&bytes) {
                prop_assert_eq!(value.write(), bytes);
            }
        }
    }

    #[test]
    fn telling_again_late_or_less_changes_nothing() {
        let mut value = HourValue::default();
        let added: Vec<u64> = [10, 10, 7, 12].into_iter().map(|count| value.tell(1, 5, count)).collect();
        assert_eq!(added, [10, 0, 0, 2]);
        assert_eq!(value.tell(1, 6, 3), 3, "another birth begins at nothing");
        assert_eq!(value.tell(2, 5, 4), 4, "and so does another writer");
        assert_eq!(value.total, 19);
        assert_eq!(HourValue::read(&value.write()), Some(value));
    }

    // battery: J45
    #[test]
    fn months_and_days_are_those_of_utc_in_every_year() {
        for (text, month) in [
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
            ("2024-02-29T23:59:59Z", "2024-02-01T00:00:00Z"),
            ("2038-01-19T03:14:08Z", "2038-01-01T00:00:00Z"),
            ("2106-02-07T06:28:16Z", "2106-02-01T00:00:00Z"),
            ("2500-12-31T23:59:59Z", "2500-12-01T00:00:00Z"),
        ] {
            let at = |text: &str| Timestamp::from_unix_seconds(text.parse::<jiff::Timestamp>().unwrap().as_second().unsigned_abs());
            let instant = at(text);
            assert_eq!(Span::Month.start(Span::Month.index(instant)), at(month), "{text}");
            let day = Span::Day.start(Span::Day.index(instant));
            assert!(day <= instant && instant.since(day).as_secs() < 86_400, "{text}");
        }
        let _ = Span::Month.start(Span::Month.index(Timestamp::from_nanos(u64::MAX)));
        let _ = Span::Month.start(u32::MAX);
    }
}
