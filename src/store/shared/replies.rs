//! Reading the answers of our own scripts. Whoever can write to Redis shapes some of them, so nothing is taken for granted.

use redis::Value;

use crate::model::time::Timestamp;
use crate::store::StoreError;
use crate::store::shared::link::LinkError;

/// Digits of an instant in nanoseconds: fixed, so that texts compare as the numbers do.
const INSTANT_DIGITS: usize = 20;

/// Says that an answer was not of the form that its script gives.
pub(super) fn unexpected(what: &str) -> StoreError {
    StoreError::Unavailable(format!("Redis answered {what} in an unknown form"))
}

/// What the store says of a call that brought no answer.
pub(super) fn failed(error: LinkError) -> StoreError {
    match error {
        LinkError::Refused { code, why } if code == "DAMAGED" => StoreError::Corrupt { key: "the shared store".to_owned(), why },
        LinkError::Refused { .. } | LinkError::Unreachable(_) | LinkError::TimedOut(_) | LinkError::Broken(_) => error.into(),
    }
}

pub(super) fn list(value: Value) -> Option<Vec<Value>> {
    if let Value::Array(items) = value { Some(items) } else { None }
}

pub(super) fn bytes(value: Value) -> Option<Vec<u8>> {
    if let Value::BulkString(bytes) = value { Some(bytes) } else { None }
}

pub(super) fn text(value: Value) -> Option<String> {
    String::from_utf8(bytes(value)?).ok()
}

/// A number, as an integer or in decimal digits.
pub(super) fn number(value: &Value) -> Option<u64> {
    if let Value::Int(number) = value {
        return u64::try_from(*number).ok();
    }
    if let Value::BulkString(digits) = value { digits_number(str::from_utf8(digits).ok()?) } else { None }
}

/// Decimal digits alone: no sign, no blank.
pub(super) fn digits_number(digits: &str) -> Option<u64> {
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

pub(super) fn write_instant(instant: Timestamp) -> String {
    format!("{:0width$}", instant.as_nanos(), width = INSTANT_DIGITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_digits_and_nothing_else() {
        for (value, expected) in [
            (Value::Int(7), Some(7)),
            (Value::Int(-7), None),
            (Value::BulkString(b"18446744073709551615".to_vec()), Some(u64::MAX)),
            (Value::BulkString(b"18446744073709551616".to_vec()), None),
            (Value::BulkString(b"+1".to_vec()), None),
            (Value::BulkString(b"1e3".to_vec()), None),
            (Value::BulkString(b"".to_vec()), None),
            (Value::BulkString(vec![0xff]), None),
            (Value::Nil, None),
        ] {
            assert_eq!(number(&value), expected, "{value:?}");
        }
    }

    #[test]
    fn instants_compare_as_texts() {
        let instants = [0, 9, 10, 1_800_000_000_000_000_000, u64::MAX].map(Timestamp::from_nanos).map(write_instant);
        assert!(instants.is_sorted(), "{instants:?}");
        assert!(instants.iter().all(|text| text.len() == INSTANT_DIGITS));
    }
}
