//! API keys: the text that a client holds, the record that we hold, and what a record's state means at an instant.
//!
//! Format: `<brand>_<live|test>_sk_<id 12><secret 43><checksum 6>`, base62. The id is public; the secret has 256 bits; the
//! checksum (CRC-32 of everything before it) refuses typing errors and spray without a look-up.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Deserialize;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::model::caller::Environment;
use crate::model::caller::Subject;
use crate::model::handle::HandleKind;
use crate::model::scope::ADMIN;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;

/// A key's public id: 12 base62 characters for our own keys; for imported ones an id that we gave them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(Arc<str>);

impl KeyId {
    /// The caller has checked the form: `[0-9A-Za-z_-]{1,64}`.
    pub fn new(text: &str) -> Self {
        Self(Arc::from(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// A keyed hash of a secret and the id of the pepper that keyed it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretHash {
    pub pepper: Arc<str>,
    pub algorithm: HashAlgorithm,
    pub digest: [u8; 32],
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "SecretHash({})", self.pepper)
    }
}

/// How a digest was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HashAlgorithm {
    /// HMAC-SHA-256(pepper, whole key text): our own keys.
    HmacSha256,
    /// HMAC-SHA-256(pepper, SHA-256(whole key text)): imported keys, of which only the SHA-256 was known.
    HmacOfSha256,
}

/// One secret of a key and until when it opens anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySecret {
    pub hash: SecretHash,
    /// Set on the older secrets during a rotation's grace.
    pub retires: Option<Timestamp>,
}

impl KeySecret {
    /// Under which name uses of this secret are noted while it is on its way out: no key's id, and nobody's secret.
    pub fn use_name(&self, key: &KeyId) -> KeyId {
        let [a, b, c, d, ..] = self.hash.digest;
        KeyId(Arc::from(format!("{key}-old-{a:02x}{b:02x}{c:02x}{d:02x}")))
    }
}

/// Whether somebody switched the key off. Expiry is not a state: it follows from the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    Active,
    Disabled,
    Revoked,
}

/// How far whoever disabled something reached: who reaches less does not enable it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisabledBy {
    Owner,
    Organization,
    /// Or nobody knows.
    #[default]
    Operator,
}

/// What the shelf holds about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    pub id: KeyId,
    pub name: Arc<str>,
    /// The local user that the key acts for.
    pub user: Subject,
    pub organization: Option<Arc<str>>,
    pub environment: Environment,
    pub scopes: Arc<ScopeSet>,
    pub tier: Option<Arc<str>>,
    /// One more bucket, requests per minute.
    pub rate_limit: Option<u32>,
    pub pinned_version: Option<Arc<str>>,
    /// Newest first; more than one only during a rotation's grace.
    pub secrets: Vec<KeySecret>,
    pub state: KeyState,
    pub created: Timestamp,
    pub not_before: Option<Timestamp>,
    pub expires: Option<Timestamp>,
    /// The first characters of the key's text, fit to be shown (brand, environment, id).
    pub display: Arc<str>,
    pub notes: KeyNotes,
}

/// What a key carries that most keys do not; a box of its own, so that those stay small.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyNotes(pub Option<Box<KeyExtras>>);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeyExtras {
    /// The client addresses from which alone it opens anything; empty: from everywhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_networks: Vec<IpNet>,
    /// Free pairs for whoever manages it, at most 16.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// At most 16.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// On whose word it stands beside its user's: whoever gave it its scopes, where that was another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made_by: Option<Subject>,
    /// While it is disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled_by: Option<DisabledBy>,
}

impl KeyNotes {
    /// Nothing is kept where there is nothing to keep.
    pub fn new(extras: KeyExtras) -> Self {
        Self((extras != KeyExtras::default()).then(|| Box::new(extras)))
    }

    pub fn extras(&self) -> Option<&KeyExtras> {
        self.0.as_deref()
    }

    /// Who made the key, where that was another than its user.
    pub fn made_by(&self) -> Option<&Subject> {
        self.0.as_ref().and_then(|extras| extras.made_by.as_ref())
    }

    /// Whether the key opens anything from this address.
    pub fn admits(&self, address: Option<IpAddr>) -> bool {
        let networks = self.allowed_networks();
        let is_inside = |address: IpAddr| networks.iter().any(|network| network.contains(&address.to_canonical()));
        networks.is_empty() || address.is_some_and(is_inside)
    }

    /// The networks from which alone the key opens anything; empty: every one.
    pub fn allowed_networks(&self) -> &[IpNet] {
        self.0.as_ref().map_or(&[], |extras| &extras.allowed_networks)
    }
}

/// Every state that [`KeyRecord::state_at`] names.
pub const KEY_STATES: [&str; 5] = ["active", "disabled", "revoked", "expired", "scheduled"];

impl KeyRecord {
    /// Who disabled it; none: it is not disabled.
    pub fn disabled(&self) -> Option<DisabledBy> {
        match self.state {
            KeyState::Disabled => Some(self.notes.extras().and_then(|extras| extras.disabled_by).unwrap_or_default()),
            KeyState::Active | KeyState::Revoked => None,
        }
    }

    /// What the key is at this instant, in the word that people and metrics read.
    pub fn state_at(&self, now: Timestamp) -> &'static str {
        match self.state {
            KeyState::Revoked => "revoked",
            KeyState::Disabled => "disabled",
            KeyState::Active if self.expires.is_some_and(|expires| expires <= now) => "expired",
            KeyState::Active if self.not_before.is_some_and(|begin| now < begin) => "scheduled",
            KeyState::Active => "active",
        }
    }
}

/// A local user, or one of a managed issuer. Its rights are the ceiling of every credential that acts for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRecord {
    /// `local` or the managed issuer's name.
    pub source: Arc<str>,
    pub subject: Subject,
    pub organization: Option<Arc<str>>,
    pub tier: Option<Arc<str>>,
    pub rights: Rights,
    pub state: UserState,
    /// While it is disabled.
    pub disabled_by: Option<DisabledBy>,
    /// Tokens issued before this are refused.
    pub valid_from: Option<Timestamp>,
    pub created: Timestamp,
}

/// What a user may hold at the most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Whatever its credentials were granted.
    Unlimited,
    Only(Arc<ScopeSet>),
}

impl UserRecord {
    /// Who disabled it; none: it is not disabled.
    pub fn disabled(&self) -> Option<DisabledBy> {
        match self.state {
            UserState::Disabled => Some(self.disabled_by.unwrap_or_default()),
            UserState::Active => None,
        }
    }

    /// Whether it is still of the organisation for which something in its name was given. What was given for none asks for none.
    pub fn is_still_of(&self, organization: Option<&Arc<str>>) -> bool {
        organization.is_none_or(|given_for| self.organization.as_ref() == Some(given_for))
    }

    /// These scopes within what it holds.
    pub fn within_rights(&self, scopes: &Arc<ScopeSet>) -> Arc<ScopeSet> {
        match &self.rights {
            Rights::Unlimited => Arc::clone(scopes),
            Rights::Only(rights) => scopes.within(rights),
        }
    }

    /// What it can still give of these scopes to a key that it made for another; none: nothing for the key's organisation any more.
    ///
    /// Bounding a key when it is made would not do: a key never exceeds its maker's *current* rights, and whoever lost a right, or was put
    /// out, would have kept it in other hands. Whoever holds everything gives whatever there is, to every organisation.
    pub fn gives(&self, scopes: &Arc<ScopeSet>, key: &KeyRecord) -> Option<Arc<ScopeSet>> {
        match &self.rights {
            Rights::Unlimited => Some(Arc::clone(scopes)),
            Rights::Only(rights) if rights.covers(ADMIN) => Some(Arc::clone(scopes)),
            Rights::Only(_) if self.organization != key.organization => None,
            Rights::Only(rights) => Some(scopes.within(rights)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserState {
    Active,
    Disabled,
}

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

/// Whether a text could be a key's id: what is not never reaches a record's name.
pub fn is_key_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
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
    fn ids_have_a_closed_grammar() {
        for good in ["0", "aZ9_-", &"x".repeat(64)] {
            assert!(is_key_id(good), "{good}");
        }
        for bad in ["", "{x}", "a*", "a:b", "a b", "ä", "a\0", "a/b", &"x".repeat(65)] {
            assert!(!is_key_id(bad), "{bad}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let (id, text) = write_key("tg", Environment::Live, &[1; 16], &[2; 32]);
        assert_eq!(format!("{:?}", read_key("tg", &text)), format!("Own({id})"));
    }
}
