//! What the counts are called in the store. Names from outside are written so that no two are alike and none can be taken for
//! another's, whatever they hold.

use std::sync::Arc;

use crate::model::usage::Outcome;
use crate::model::usage::Span;
use crate::model::usage_row::RowKey;

/// Digits of a writer's name: 64 of them, in the order of their bytes' use in URLs.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Makes the names of one installation.
#[derive(Clone, Debug)]
pub(super) struct Names {
    prefix: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// One user's counts in one period; all of a user's lie together.
    pub(super) fn counts(&self, span: Span, period: u32, user: &str) -> Vec<u8> {
        let letter = match span {
            Span::Hour => 'h',
            Span::Day => 'd',
            Span::Month => 'm',
        };
        format!("{}:1:u:{{{}}}:{letter}:{period}", self.prefix, of_key(user)).into_bytes()
    }

    /// The users that have counts in a month.
    pub(super) fn users(&self, month: u32) -> Vec<u8> {
        format!("{}:1:users:{month}", self.prefix).into_bytes()
    }

    /// The months that have counts.
    pub(super) fn months(&self) -> Vec<u8> {
        format!("{}:1:months", self.prefix).into_bytes()
    }

    pub(super) fn last_use(&self, key: &str) -> Vec<u8> {
        format!("{}:1:last:{{{}}}", self.prefix, of_key(key)).into_bytes()
    }

    pub(super) fn writer(&self, writer: u128) -> Vec<u8> {
        format!("{}:1:writer:{{{}}}", self.prefix, of_writer(writer)).into_bytes()
    }
}

/// A name from outside as a part of a key: letters, digits and a few signs; everything else as `%` and two digits. The empty name
/// is a single `%`, which no other name becomes: an empty tag would be none.
fn of_key(name: &str) -> String {
    if name.is_empty() {
        return "%".to_owned();
    }
    escaped(name, |byte| byte.is_ascii_alphanumeric() || b"-_.~@/".contains(&byte))
}

/// A line of a hash: the outcome's letter, the route, the key.
pub(super) fn of_line(row: &RowKey) -> Vec<u8> {
    let letter = match row.outcome {
        Outcome::Allowed => 'a',
        Outcome::Limited => 'l',
        Outcome::Refused => 'r',
        Outcome::Answered1xx => 'A',
        Outcome::Answered2xx => 'B',
        Outcome::Answered3xx => 'C',
        Outcome::Answered4xx => 'D',
        Outcome::Answered5xx => 'E',
        Outcome::Unanswered => 'N',
    };
    let is_plain = |byte: u8| !byte.is_ascii_control() && byte != b'%' && byte != b':';
    format!("{letter}{}:{}", escaped(&row.route, is_plain), escaped(&row.key, is_plain)).into_bytes()
}

/// Route, key and outcome of a line; none: nobody of ours wrote it.
pub(super) fn read_line(line: &[u8]) -> Option<(Arc<str>, Arc<str>, Outcome)> {
    let text = std::str::from_utf8(line).ok()?;
    let (letter, rest) = text.split_at_checked(1)?;
    let outcome = match letter {
        "a" => Outcome::Allowed,
        "l" => Outcome::Limited,
        "r" => Outcome::Refused,
        "A" => Outcome::Answered1xx,
        "B" => Outcome::Answered2xx,
        "C" => Outcome::Answered3xx,
        "D" => Outcome::Answered4xx,
        "E" => Outcome::Answered5xx,
        "N" => Outcome::Unanswered,
        _ => return None,
    };
    let (route, key) = rest.split_once(':')?;
    Some((unescaped(route)?, unescaped(key)?, outcome))
}

/// A writer's name, as short as it can be written.
pub(super) fn of_writer(writer: u128) -> String {
    let mut digits = Vec::new();
    let mut rest = writer;
    loop {
        let digit = usize::try_from(rest % 64).ok().and_then(|digit| DIGITS.get(digit)).copied().unwrap_or(b'A');
        digits.push(char::from(digit));
        rest /= 64;
        if rest == 0 {
            return digits.into_iter().rev().collect();
        }
    }
}

pub(super) fn read_writer(text: &[u8]) -> Option<u128> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u128, |number, byte| {
        let digit = DIGITS.iter().position(|digit| digit == byte)?;
        number.checked_mul(64)?.checked_add(u128::try_from(digit).ok()?)
    })
}

fn escaped(name: &str, is_plain: impl Fn(u8) -> bool) -> String {
    use std::fmt::Write;
    let mut text: Vec<u8> = Vec::with_capacity(name.len());
    for byte in name.bytes() {
        if is_plain(byte) {
            text.push(byte);
        } else {
            let mut code = String::with_capacity(3);
            // Writing to a string cannot fail.
            let _ = write!(code, "%{byte:02X}");
            text.extend_from_slice(code.as_bytes());
        }
    }
    // Plain bytes are either ASCII or whole characters of the name.
    String::from_utf8(text).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn unescaped(text: &str) -> Option<Arc<str>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        match rest {
            [] => return String::from_utf8(bytes).ok().map(Arc::from),
            [b'%', high, low, after @ ..] => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                bytes.push(u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?);
                rest = after;
            }
            [b'%', ..] => return None,
            [byte, after @ ..] => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::ProptestConfig;
    use proptest::prop_assert;
    use proptest::prop_assert_eq;
    use proptest::proptest;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        // battery: R16
        #[test]
        fn names_from_outside_stay_apart(one in "[{}:%*? \n\u{0}aé\\[]{0,4}", two in "[{}:%*? \n\u{0}aé\\[]{0,4}", writer: u128) {
            let names = Names::new("t");
            let keys = [&one, &two].map(|user| String::from_utf8(names.counts(Span::Hour, 7, user)).unwrap());
            prop_assert_eq!(keys[0] == keys[1], one == two);
            for key in &keys {
                prop_assert_eq!(key.matches(['{', '}']).count(), 2, "{}", key);
                prop_assert!(!key.contains(['*', '?', '[', ' ', '\n', '\u{0}', '\\']) && !key.contains("{}"), "{}", key);
                prop_assert_eq!(key.matches(':').count(), 5, "{}", key);
            }
            for outcome in Outcome::ALL {
                let row = RowKey { period: 0, user: "".into(), key: two.as_str().into(), route: one.as_str().into(), outcome };
                prop_assert_eq!(read_line(&of_line(&row)), Some((row.route, row.key, row.outcome)));
            }
            prop_assert_eq!(read_writer(of_writer(writer).as_bytes()), Some(writer));
        }

        #[test]
        fn any_bytes_are_a_line_or_none(bytes in proptest::collection::vec(0_u8..=255, 0..40)) {
            let _ = read_line(&bytes);
            let _ = read_writer(&bytes);
        }
    }
}
