//! Values of one line that are parsed where they are read: durations, instants, one-or-several lists, secrets by reference.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use schemars::Schema;
use schemars::SchemaGenerator;
use schemars::json_schema;
use serde::Deserialize;
use serde::Deserializer;
use serde::de::SeqAccess;
use serde::de::Unexpected;
use serde::de::Visitor;

use crate::model::time::Timestamp;

/// A length of time as people write it: `250ms`, `30s`, `5m`, `24h`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period(pub Duration);

impl Period {
    /// Digits and one unit; at most ten years.
    pub fn parse(text: &str) -> Option<Self> {
        const TEN_YEARS_MS: u64 = 10 * 366 * 24 * 3_600_000;
        let unit_at = text.find(|character: char| !character.is_ascii_digit())?;
        let (digits, unit) = text.split_at_checked(unit_at)?;
        let unit_ms: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        let ms = digits.parse::<u64>().ok()?.checked_mul(unit_ms)?;
        (ms <= TEN_YEARS_MS).then(|| Self(Duration::from_millis(ms)))
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            serde::de::Error::custom("this is no duration; expected digits and a unit (ms, s, m, h or d), such as `30s`, at most ten years")
        })
    }
}

impl JsonSchema for Period {
    fn schema_name() -> Cow<'static, str> {
        "Period".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[0-9]+(ms|s|m|h|d)$",
            "description": "A length of time: digits and a unit (ms, s, m, h or d), such as `30s`."
        })
    }
}

/// An instant as people write it: RFC 3339 with a zone, or a date, which means its first instant in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instant(pub Timestamp);

impl Instant {
    /// Nothing before 1970 and after 2500.
    pub fn parse(text: &str) -> Option<Self> {
        let parsed = match text.parse::<jiff::Timestamp>() {
            Ok(instant) => instant,
            Err(_) => text.parse::<jiff::civil::Date>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp(),
        };
        let nanos = u64::try_from(parsed.as_nanosecond()).ok()?;
        let instant = Timestamp::from_nanos(nanos);
        (instant.unix_seconds() < 16_725_225_600).then_some(Self(instant))
    }
}

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            serde::de::Error::custom("this is no instant; expected a date such as `2027-01-31` or RFC 3339 such as `2027-01-31T12:00:00Z`")
        })
    }
}

impl JsonSchema for Instant {
    fn schema_name() -> Cow<'static, str> {
        "Instant".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A date (its first instant in UTC) or an RFC 3339 instant, such as `2027-01-31T12:00:00Z`."
        })
    }
}

/// A whole number of these bounds: the schema tells them to editors, and a complaint to whoever goes beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole<T, const LEAST: u64, const MOST: u64>(pub T);

/// Tokens of a bucket: up to a million a second; more is a slip of the pen.
pub type Rate = Whole<u32, 1, 60_000_000>;

impl<T, const LEAST: u64, const MOST: u64> Whole<T, LEAST, MOST> {
    /// What is written, or what holds where nothing is.
    pub fn or(written: Option<Self>, default: T) -> T {
        written.map_or(default, |number| number.0)
    }
}

impl<'de, T: TryFrom<u64>, const LEAST: u64, const MOST: u64> Deserialize<'de> for Whole<T, LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_u64(WholeVisitor(PhantomData))
    }
}

struct WholeVisitor<T, const LEAST: u64, const MOST: u64>(PhantomData<T>);

impl<T: TryFrom<u64>, const LEAST: u64, const MOST: u64> Visitor<'_> for WholeVisitor<T, LEAST, MOST> {
    type Value = Whole<T, LEAST, MOST>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "a whole number in plain digits, {LEAST} ")?;
        if MOST == u64::MAX { out.write_str("or more") } else { write!(out, "to {MOST}") }
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Self::Value, E> {
        let within = Some(number).filter(|number| (LEAST..=MOST).contains(number)).and_then(|number| T::try_from(number).ok());
        within.map(Whole).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &self))
    }
}

impl<T: JsonSchema, const LEAST: u64, const MOST: u64> JsonSchema for Whole<T, LEAST, MOST> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("From{LEAST}To{MOST}").into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = T::json_schema(generator);
        schema.insert("minimum".to_owned(), LEAST.into());
        if MOST < u64::MAX {
            schema.insert("maximum".to_owned(), MOST.into());
        }
        schema
    }
}

/// A part of a whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(pub f64);

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_f64(ShareVisitor)
    }
}

struct ShareVisitor;

impl Visitor<'_> for ShareVisitor {
    type Value = Share;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a number in plain digits from 0 to 1, such as 0.25")
    }

    fn visit_f64<E: serde::de::Error>(self, share: f64) -> Result<Share, E> {
        let is_share = (0.0..=1.0).contains(&share);
        is_share.then_some(Share(share)).ok_or_else(|| E::invalid_value(Unexpected::Float(share), &self))
    }
}

impl JsonSchema for Share {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Share".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "format": "double", "minimum": 0, "maximum": 1 })
    }
}

/// One text, or a list of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Several(pub Vec<String>);

impl<'de> Deserialize<'de> for Several {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SeveralVisitor)
    }
}

struct SeveralVisitor;

impl<'de> Visitor<'de> for SeveralVisitor {
    type Value = Several;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("text or a list of texts")
    }

    fn visit_str<E>(self, text: &str) -> Result<Several, E> {
        Ok(Several(vec![text.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Several, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = list.next_element()? {
            texts.push(text);
        }
        Ok(Several(texts))
    }
}

impl JsonSchema for Several {
    fn schema_name() -> Cow<'static, str> {
        "OneOrSeveral".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }],
            "description": "One text, or a list of them."
        })
    }
}

/// Where a secret is. Secrets never stand in the file itself: give exactly one of `file` and `env`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretPlace {
    /// A file whose content (without one line end at its end) is the secret. Default: none.
    pub file: Option<PathBuf>,
    /// An environment variable that holds the secret. Default: none.
    pub env: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_and_a_bound() {
        let cases = [
            ("30s", Some(30_000)),
            ("250ms", Some(250)),
            ("5m", Some(300_000)),
            ("7d", Some(604_800_000)),
            ("0s", Some(0)),
            ("30", None),
            ("s", None),
            ("", None),
            ("-5s", None),
            ("1.5s", None),
            ("5 m", None),
            ("99999999999999999999s", None),
            ("4000d", None),
            ("5µs", None),
        ];
        for (text, wanted) in cases {
            assert_eq!(Period::parse(text).map(|period| period.0.as_millis()), wanted, "{text}");
        }
    }

    #[test]
    fn instants_are_dates_or_rfc_3339() {
        let cases = [
            ("1970-01-02", Some(86_400)),
            ("1970-01-01T00:00:05Z", Some(5)),
            ("1970-01-01T01:00:05+01:00", Some(5)),
            ("1969-12-31", None),
            ("9999-01-01", None),
            ("tomorrow", None),
            ("2027-02-30", None),
        ];
        for (text, wanted) in cases {
            assert_eq!(Instant::parse(text).map(|instant| instant.0.unix_seconds()), wanted, "{text}");
        }
    }
}
