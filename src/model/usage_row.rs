//! A row of counts by its place: period, user, route, key and outcome, as bytes that sort in that order; and how periods are
//! numbered. Both engines page through counts by it.

use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::model::hex::read_hex_secret;
use crate::model::hex::write_hex;
use crate::model::time::Hour;
use crate::model::time::Timestamp;
use crate::model::usage::Outcome;
use crate::model::usage::Span;
use crate::model::usage::UsageQuery;

const DAY_SECONDS: u64 = 24 * 3600;

/// A row's key, taken apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RowKey {
    pub period: u32,
    pub user: Arc<str>,
    pub key: Arc<str>,
    pub route: Arc<str>,
    pub outcome: Outcome,
}

impl RowKey {
    /// The bytes that sort as the parts do.
    pub fn write(&self) -> Vec<u8> {
        let mut bytes = prefix(self.period, Some(&self.user));
        push_name(&mut bytes, &self.route);
        push_name(&mut bytes, &self.key);
        bytes.push(match self.outcome {
            Outcome::Allowed => 1,
            Outcome::Limited => 2,
            Outcome::Refused => 3,
            Outcome::Answered1xx => 4,
            Outcome::Answered2xx => 5,
            Outcome::Answered3xx => 6,
            Outcome::Answered4xx => 7,
            Outcome::Answered5xx => 8,
            Outcome::Unanswered => 9,
        });
        bytes
    }

    /// From [`Self::write`]; none: those are not such bytes.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (period, rest) = bytes.split_first_chunk::<4>()?;
        let (user, rest) = take_name(rest)?;
        let (route, rest) = take_name(rest)?;
        let (key, rest) = take_name(rest)?;
        let outcome = match rest {
            [1] => Outcome::Allowed,
            [2] => Outcome::Limited,
            [3] => Outcome::Refused,
            [4] => Outcome::Answered1xx,
            [5] => Outcome::Answered2xx,
            [6] => Outcome::Answered3xx,
            [7] => Outcome::Answered4xx,
            [8] => Outcome::Answered5xx,
            [9] => Outcome::Unanswered,
            _ => return None,
        };
        Some(Self { period: u32::from_be_bytes(*period), user, key, route, outcome })
    }
}

/// Where the rows of a period, or of a user in it, begin.
pub fn prefix(period: u32, user: Option<&str>) -> Vec<u8> {
    let mut bytes = period.to_be_bytes().to_vec();
    if let Some(user) = user {
        push_name(&mut bytes, user);
    }
    bytes
}

/// Period and user of a [`prefix`].
pub fn read_prefix(bytes: &[u8]) -> Option<(u32, Arc<str>)> {
    let (period, rest) = bytes.split_first_chunk::<4>()?;
    let (user, rest) = take_name(rest)?;
    rest.is_empty().then_some((u32::from_be_bytes(*period), user))
}

impl Span {
    /// The number of the period that an instant lies in.
    pub fn index(self, instant: Timestamp) -> u32 {
        match self {
            Self::Hour => instant.hour().0,
            Self::Day => instant.hour().0 / 24,
            Self::Month => {
                let date = date_of(instant);
                u32::try_from(i32::from(date.year()) * 12 + i32::from(date.month()) - 1).unwrap_or(0)
            }
        }
    }

    /// How long its counts are kept after their period is over; none: always.
    pub const fn kept_for(self) -> Option<Duration> {
        match self {
            Self::Hour => Some(Duration::from_secs(35 * DAY_SECONDS)),
            Self::Day => Some(Duration::from_secs(400 * DAY_SECONDS)),
            Self::Month => None,
        }
    }

    /// The number of the first period whose counts are kept still.
    pub fn oldest_kept(self, now: Timestamp) -> u32 {
        self.kept_for().map_or(0, |kept| self.index(now.minus(kept)))
    }

    /// When the period of this number begins.
    pub fn start(self, index: u32) -> Timestamp {
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

impl UsageQuery {
    /// Whether a row passes the filters.
    pub fn matches(&self, row: &RowKey) -> bool {
        self.users.as_ref().is_none_or(|users| users.contains(&row.user))
            && self.key.as_ref().is_none_or(|key| *key == row.key)
            && self.route.as_ref().is_none_or(|route| *route == row.route)
            && self.outcomes.contains(&row.outcome)
    }

    /// The number of the first period that is not shown any more.
    pub fn end_period(&self) -> u32 {
        let index = self.span.index(self.to);
        if self.span.start(index) < self.to { index.saturating_add(1) } else { index }
    }
}

/// Where a page of counts ends, as text for whoever asks for the next one.
pub fn write_cursor(key: &[u8]) -> String {
    write_hex(key)
}

/// The bytes of [`write_cursor`]; what they mean is for the reader to see.
pub fn read_cursor(text: &str) -> Option<Vec<u8>> {
    if text.len() > 16_384 {
        return None;
    }
    read_hex_secret(text.as_bytes()).map(|bytes| bytes.to_vec())
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
            let _ = read_prefix(&bytes);
        }
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
