//! The text of an API key, which a client alone holds.
//!
//! Format: `<brand>_<live|test>_sk_<id 12><secret 43><checksum 6>`, base62. The id is public; the secret has 256 bits; the
//! checksum (CRC-32 of everything before it) refuses typing errors and spray without a look-up.

use std::fmt;
use std::ops::Range;

use zeroize::Zeroizing;

use crate::model::caller::Environment;
use crate::model::handle::HandleKind;
use crate::model::key::KeyId;

/// What the form of a key text tells before anything is looked up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum KeyForm<'m> {
    /// Ours by brand, alphabet, length and checksum.
    Own(OwnKey<'m>),
    /// Ours by brand, and damaged: refused without a look-up.
    Damaged,
    /// Not of our making: only an imported key can look so.
    Foreign,
}

/// A key text whose checksum holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct OwnKey<'m> {
    pub text: &'m str,
    pub environment: Environment,
    /// The public id inside the text.
    pub id: &'m str,
}

impl fmt::Debug for KeyForm<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(own) => write!(out, "Own({})", own.id),
            Self::Damaged => out.write_str("Damaged"),
            Self::Foreign => out.write_str("Foreign"),
        }
    }
}

impl fmt::Debug for OwnKey<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "OwnKey({})", self.id)
    }
}

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Digits of a public id.
const ID_DIGITS: usize = 12;
/// Digits of 256 bits.
const SECRET_DIGITS: usize = 43;
/// Digits of 32 bits.
const CHECKSUM_DIGITS: usize = 6;
const BODY_DIGITS: usize = ID_DIGITS + SECRET_DIGITS + CHECKSUM_DIGITS;
/// Of `{"alg":"none"}` there are 20.
const SHORTEST_JOSE_HEADER_BYTES: usize = 16;

/// What a text's form tells. Looks at no more than a key's length and allocates nothing.
pub fn read_key<'m>(brand: &str, text: &'m str) -> KeyForm<'m> {
    let Some(rest) = text.strip_prefix(brand).and_then(|rest| rest.strip_prefix('_')) else {
        return KeyForm::Foreign;
    };
    let (environment, body) = match (rest.strip_prefix("live_sk_"), rest.strip_prefix("test_sk_")) {
        (Some(body), _) => (Environment::Live, body),
        (None, Some(body)) => (Environment::Test, body),
        (None, None) => return KeyForm::Damaged,
    };
    if body.len() != BODY_DIGITS || !body.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return KeyForm::Damaged;
    }
    match (body.get(..ID_DIGITS), text.split_at_checked(text.len() - CHECKSUM_DIGITS)) {
        (Some(id), Some((checked, checksum))) if checksum_of(checked).as_slice() == checksum.as_bytes() => {
            KeyForm::Own(OwnKey { text, environment, id })
        }
        (Some(_) | None, Some(_) | None) => KeyForm::Damaged,
    }
}

/// Where in a text a credential may begin that stands among other things, and where that which shows it ends: the brand as a word of
/// its own, the middle of a key or a handle of any brand, or a JWT. Allocates nothing.
pub fn find_credential(brand: &str, text: &str) -> Option<Range<usize>> {
    let first_of_brand = brand.bytes().next();
    let mut before = b'/';
    text.bytes().enumerate().find_map(|(at, byte)| {
        let is_inside_word = std::mem::replace(&mut before, byte).is_ascii_alphanumeric();
        // Nothing that is looked for begins with most bytes.
        if !matches!(byte, b'l' | b't' | b'e') && first_of_brand.is_some_and(|first| first != byte) {
            return None;
        }
        let rest = text.get(at..)?;
        let branded = || rest.strip_prefix(brand).is_some_and(|rest| rest.starts_with('_') && (!is_inside_word || names_kind(rest)));
        let length = match byte {
            b'l' | b't' if rest.starts_with("live_sk_") || rest.starts_with("test_sk_") => Some("live_sk_".len()),
            b'e' if rest.starts_with("eyJ") && word_length(rest) >= SHORTEST_JOSE_HEADER_BYTES => Some("eyJ".len()),
            _ => branded().then_some(brand.len() + 1),
        };
        length.map(|length| at..at + length)
    })
}

/// `_at_` and what else stands between a brand and an id.
fn names_kind(rest: &str) -> bool {
    rest.starts_with("_cs_") || HandleKind::ALL.iter().any(|kind| rest.get(1..3) == Some(kind.as_str()) && rest.get(3..4) == Some("_"))
}

fn word_length(text: &str) -> usize {
    text.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')).count()
}

/// The public id that 128 random bits make.
pub fn key_id(random: &[u8; 16]) -> KeyId {
    let mut text = String::with_capacity(ID_DIGITS);
    push_base62(&mut text, &mut Zeroizing::new(*random).to_vec(), ID_DIGITS);
    KeyId::new(&text)
}

/// The text of a key with this id (one of [`key_id`]'s) and secret: all that a client will ever hold.
pub fn key_text(brand: &str, environment: Environment, id: &KeyId, secret: &[u8; 32]) -> Zeroizing<String> {
    // The whole length at once: a string that grew would leave pieces of the secret behind.
    let length = brand.len() + "_live_sk_".len() + BODY_DIGITS;
    let mut text = Zeroizing::new(String::with_capacity(length));
    text.push_str(&key_prefix(brand, environment));
    text.push_str(id.as_str());
    push_base62(&mut text, &mut Zeroizing::new(secret.to_vec()), SECRET_DIGITS);
    let checksum = checksum_of(&text);
    text.extend(checksum.iter().map(|digit| char::from(*digit)));
    text
}

/// A new key: its id from 128 random bits and its text.
pub fn write_key(brand: &str, environment: Environment, id: &[u8; 16], secret: &[u8; 32]) -> (KeyId, Zeroizing<String>) {
    let id = key_id(id);
    let text = key_text(brand, environment, &id, secret);
    (id, text)
}

/// Brand and environment, as every key's text begins.
pub fn key_prefix(brand: &str, environment: Environment) -> String {
    format!("{brand}_{}_sk_", environment.as_str())
}

/// `digits` digits of the big-endian number, the lowest ones where it has more. The number is used up.
pub fn push_base62(text: &mut String, number: &mut [u8], digits: usize) {
    let mut reversed = Zeroizing::new([b'0'; SECRET_DIGITS]);
    for digit in reversed.iter_mut().take(digits) {
        let mut remainder = 0_u32;
        for byte in number.iter_mut() {
            let value = (remainder << 8) | u32::from(*byte);
            *byte = u8::try_from(value / 62).unwrap_or(u8::MAX);
            remainder = value % 62;
        }
        *digit = base62_digit(remainder);
    }
    text.extend(reversed.iter().take(digits).rev().map(|digit| char::from(*digit)));
}

fn base62_digit(value: u32) -> u8 {
    usize::try_from(value).ok().and_then(|position| BASE62.get(position)).copied().unwrap_or(b'0')
}

fn checksum_of(text: &str) -> [u8; CHECKSUM_DIGITS] {
    let mut rest = crc32fast::hash(text.as_bytes());
    let mut digits = [b'0'; CHECKSUM_DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = base62_digit(rest % 62);
        rest /= 62;
    }
    digits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn brands() -> impl Strategy<Value = String> {
        "[a-z]{1,16}"
    }

    fn environments() -> impl Strategy<Value = Environment> {
        prop_oneof![Just(Environment::Live), Just(Environment::Test)]
    }

    /// What a key text may never be mistaken for after a change.
    fn is_own(brand: &str, text: &str) -> bool {
        matches!(read_key(brand, text), KeyForm::Own(_))
    }

    /// As if at each place everything were looked for.
    fn sought_everywhere(brand: &str, text: &str) -> Option<Range<usize>> {
        (0..text.len()).find_map(|at| {
            let rest = text.get(at..)?;
            let is_inside_word = at > 0 && text.as_bytes()[at - 1].is_ascii_alphanumeric();
            let is_jwt = rest.starts_with("eyJ") && word_length(rest) >= SHORTEST_JOSE_HEADER_BYTES;
            let is_brand = rest.strip_prefix(brand).is_some_and(|rest| rest.starts_with('_') && (!is_inside_word || names_kind(rest)));
            match rest {
                _ if rest.starts_with("live_sk_") || rest.starts_with("test_sk_") => Some(at..at + 8),
                _ if is_jwt => Some(at..at + 3),
                _ => is_brand.then(|| at..at + brand.len() + 1),
            }
        })
    }

    proptest! {
        #[test]
        fn a_credential_is_found_as_if_sought_everywhere(
            brand in prop::sample::select(vec!["tg", "live", "e", "acme", "", "ümlaut"]),
            text in "(l|t|e|_|/|ü|tg_|acme_|live_|live_sk_|test_sk_|eyJ[a-z]{0,30}|_at_|_cs_|[a-z]){0,8}",
        ) {
            prop_assert_eq!(find_credential(brand, &text), sought_everywhere(brand, &text));
        }

        #[test]
        fn a_written_key_is_read_back(brand in brands(), environment in environments(), id: [u8; 16], secret: [u8; 32]) {
            let (id, text) = write_key(&brand, environment, &id, &secret);
            prop_assert_eq!(id.as_str().len(), ID_DIGITS);
            prop_assert_eq!(text.len(), text.capacity());
            match read_key(&brand, &text) {
                KeyForm::Own(own) => {
                    prop_assert_eq!(own.id, id.as_str());
                    prop_assert_eq!(own.environment, environment);
                    prop_assert_eq!(own.text, text.as_str());
                }
                form @ (KeyForm::Damaged | KeyForm::Foreign) => prop_assert!(false, "{:?}", form),
            }
        }

        // battery: K16
        // oauth: T2
        // battery: I4
        #[test]
        fn no_changed_character_passes(brand in brands(), environment in environments(), id: [u8; 16], secret: [u8; 32], at: prop::sample::Index, by: char) {
            let (_, text) = write_key(&brand, environment, &id, &secret);
            let mut characters: Vec<char> = text.chars().collect();
            let at = at.index(characters.len());
            prop_assume!(characters[at] != by);
            characters[at] = by;
            let changed: String = characters.into_iter().collect();
            prop_assert!(!is_own(&brand, &changed));
        }

        #[test]
        fn any_text_is_read_without_panic(brand in brands(), text in any::<String>(), tail in "[0-9A-Za-z_]{0,80}") {
            prop_assert!(!is_own(&brand, &text));
            let _form = read_key(&brand, &format!("{brand}_live_sk_{tail}"));
        }

        #[test]
        fn digits_keep_the_order_of_numbers(one: u64, other: u64) {
            let digits = |number: u64| {
                let mut text = String::new();
                push_base62(&mut text, &mut number.to_be_bytes(), 11);
                text
            };
            prop_assert_eq!(one.cmp(&other), digits(one).cmp(&digits(other)));
        }
    }

    // battery: K4 K5 K16 K22
    #[test]
    fn forms() {
        let (id, text) = write_key("tg", Environment::Live, &[7; 16], &[9; 32]);
        let with = |change: &dyn Fn(&str) -> String| change(&text);
        let table: Vec<(&str, String, &str)> = vec![
            ("whole", with(&str::to_owned), "own"),
            ("prefix alone", key_prefix("tg", Environment::Live), "damaged"),
            ("prefix and id alone", format!("tg_live_sk_{id}"), "damaged"),
            ("the id alone", id.to_string(), "foreign"),
            ("lower case", with(&str::to_lowercase), "damaged"),
            ("upper case", with(&str::to_uppercase), "foreign"),
            ("cut", with(&|text| text[..text.len() - 1].to_owned()), "damaged"),
            ("longer", with(&|text| format!("{text}0")), "damaged"),
            ("space before", with(&|text| format!(" {text}")), "foreign"),
            ("space after", with(&|text| format!("{text} ")), "damaged"),
            ("other environment", with(&|text| text.replace("live", "test")), "damaged"),
            ("unknown environment", with(&|text| text.replace("live", "prod")), "damaged"),
            ("other brand", with(&|text| text.replace("tg_", "reva_")), "foreign"),
            ("glob in the id", with(&|text| text.replacen(id.as_str(), "{*}:00000000", 1)), "damaged"),
            ("empty", String::new(), "foreign"),
            ("brand alone", "tg".to_owned(), "foreign"),
            ("UUID", "a6b2d038-4eb1-4ca1-a3b4-2cf783ad55e1".to_owned(), "foreign"),
        ];
        for (what, text, expected) in table {
            let form = match read_key("tg", &text) {
                KeyForm::Own(_) => "own",
                KeyForm::Damaged => "damaged",
                KeyForm::Foreign => "foreign",
            };
            assert_eq!(form, expected, "{what}");
        }
    }

    #[test]
    fn the_largest_secret_fits() {
        let (_, text) = write_key("tg", Environment::Test, &[0xff; 16], &[0xff; 32]);
        assert!(is_own("tg", &text));
        assert_eq!(text.len(), "tg_test_sk_".len() + BODY_DIGITS);
    }

    #[test]
    fn debug_shows_no_secret() {
        let (id, text) = write_key("tg", Environment::Live, &[1; 16], &[2; 32]);
        assert_eq!(format!("{:?}", read_key("tg", &text)), format!("Own({id})"));
    }
}
