//! Scopes: what a caller may do, what a route wants, and the one rule by which the first covers the second.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::de;

/// One scope: 1 to 128 characters of RFC 6749's `scope-token` (visible ASCII without `"` and `\`), usually `resource:action`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Scope(Box<str>);

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// Lifts every limit from whoever holds it by name.
pub const UNLIMITED: &str = "tollgate:unlimited";

/// The right to everything, in every organisation.
pub const ADMIN: &str = "tollgate:admin";

/// The reserved scopes that mean something.
pub const RESERVED: [&str; 5] = [ADMIN, "tollgate:keys", "tollgate:users", "tollgate:usage", UNLIMITED];

/// Why a text is not a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a scope is 1 to 128 visible ASCII characters without space, quote or backslash")]
pub struct NotAScope;

impl Scope {
    /// # Errors
    /// [`NotAScope`] when the text is outside the grammar above.
    pub fn parse(text: &str) -> Result<Self, NotAScope> {
        let allowed = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        if text.is_empty() || text.len() > 128 || !text.bytes().all(allowed) {
            return Err(NotAScope);
        }
        Ok(Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `tollgate:…`: administration and exemption. No wildcard matches one and no token from an issuer carries one.
    pub fn is_reserved(&self) -> bool {
        is_reserved(&self.0)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// A set of scopes, sorted, without repeats.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ScopeSet(Vec<Scope>);

impl<'de> Deserialize<'de> for ScopeSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::new(Vec::<Scope>::deserialize(deserializer)?))
    }
}

impl ScopeSet {
    pub fn new(scopes: impl IntoIterator<Item = Scope>) -> Self {
        let mut scopes: Vec<Scope> = scopes.into_iter().collect();
        scopes.sort_unstable();
        scopes.dedup();
        Self(scopes)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether some scope of this set allows `wanted`: the same text, `resource:*`, or `*`; reserved ones only by the same text.
    pub fn covers(&self, wanted: &str) -> bool {
        self.0.iter().any(|held| covers(&held.0, wanted))
    }

    /// The scopes of `self` that `ceiling` covers, wildcards narrowed to what the ceiling holds beneath them.
    pub fn intersect(&self, ceiling: &Self) -> Self {
        let kept = self.0.iter().filter(|scope| ceiling.covers(&scope.0));
        let narrowed = ceiling.0.iter().filter(|scope| self.covers(&scope.0));
        Self::new(kept.chain(narrowed).cloned())
    }

    /// What [`Self::intersect`] gives, and the very same set where the ceiling covers all of it: the usual case, which costs nothing.
    pub fn within(self: &Arc<Self>, ceiling: &Self) -> Arc<Self> {
        if self.0.iter().all(|scope| ceiling.covers(&scope.0)) { Arc::clone(self) } else { Arc::new(self.intersect(ceiling)) }
    }

    /// Whether a `tollgate:` scope is among them.
    pub fn holds_reserved(&self) -> bool {
        self.0.iter().any(Scope::is_reserved)
    }

    /// The same set with one more scope.
    #[must_use]
    pub fn with(&self, scope: Scope) -> Self {
        Self::new(self.0.iter().cloned().chain([scope]))
    }

    /// Without the `tollgate:` scopes, for what a foreign issuer says.
    pub fn without_reserved(&self) -> Self {
        Self(self.0.iter().filter(|scope| !scope.is_reserved()).cloned().collect())
    }
}

impl fmt::Display for ScopeSet {
    /// Space-separated, RFC 6749 section 3.3.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, scope) in self.0.iter().enumerate() {
            if position > 0 {
                out.write_str(" ")?;
            }
            out.write_str(&scope.0)?;
        }
        Ok(())
    }
}

/// As [`Scope::is_reserved`], of a text.
pub fn is_reserved(scope: &str) -> bool {
    scope == "tollgate" || scope.starts_with("tollgate:")
}

fn covers(held: &str, wanted: &str) -> bool {
    if held == wanted {
        return true;
    }
    if is_reserved(held) || is_reserved(wanted) {
        return false;
    }
    match held.strip_suffix('*') {
        Some("") => true,
        Some(prefix) if prefix.ends_with(':') => wanted.len() > prefix.len() && wanted.starts_with(prefix),
        Some(_) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(text: &str) -> ScopeSet {
        ScopeSet::new(text.split_whitespace().map(|scope| Scope::parse(scope).unwrap()))
    }

    #[test]
    fn a_scope_is_a_token_of_rfc_6749() {
        for good in ["location", "*", "conversations:read", "a:b:*", "urn:x/y?z", &"s".repeat(128)] {
            assert_eq!(Scope::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", " ", "a b", "a\"b", "a\\b", "a\tb", "a\u{7f}", "ü", "a\0", &"s".repeat(129)] {
            assert_eq!(Scope::parse(bad), Err(NotAScope), "{bad:?}");
        }
    }

    // battery: J49
    #[test]
    fn a_set_covers_what_it_names_and_what_its_wildcards_stand_above() {
        // (held, wanted, covered)
        let table = [
            ("location", "location", true),
            ("location", "locations", false),
            ("location", "locatio", false),
            ("location", "Location", false),
            ("*", "location", true),
            ("*", "conversations:read", true),
            ("", "location", false),
            ("conversations:read", "conversations:read", true),
            ("conversations:read", "conversations:readall", false),
            ("conversations:read", "conversations:write", false),
            ("conversations:read", "conversations", false),
            ("conversations", "conversations:read", false),
            ("conversations:*", "conversations:read", true),
            ("conversations:*", "conversations:read:all", true),
            ("conversations:*", "conversations", false),
            ("conversations:*", "conversations:", false),
            ("conversations:*", "conversation:read", false),
            // A star is a wildcard alone or behind a colon; anywhere else it is a character.
            ("conv*", "conversations:read", false),
            ("conv*", "conv*", true),
            ("*:read", "conversations:read", false),
            ("**", "location", false),
            ("conversations:read*", "conversations:readall", false),
            ("read write", "write", true),
            ("read write", "delete", false),
            // Asking for a wildcard is asking for all of it.
            ("conversations:read", "conversations:*", false),
            ("conversations:*", "*", false),
            // Reserved scopes are held by name.
            ("*", "tollgate:admin", false),
            ("tollgate:*", "tollgate:admin", false),
            ("tollgate:*", "tollgate:*", true),
            ("tollgate:admin", "tollgate:admin", true),
            ("tollgate:admin", "tollgate:keys", false),
            ("tollgate:admin", "location", false),
            ("*", "tollgate", false),
            ("*", "tollgates:read", true),
        ];
        for (held, wanted, covered) in table {
            assert_eq!(set(held).covers(wanted), covered, "{held:?} covers {wanted:?}");
        }
    }

    #[test]
    fn an_intersection_keeps_the_narrower_of_both() {
        // (granted, ceiling, both)
        let table = [
            ("a:read a:write", "a:read", "a:read"),
            ("a:*", "a:read b:read", "a:read"),
            ("a:read", "*", "a:read"),
            ("*", "a:* b:read", "a:* b:read"),
            ("a:*", "a:b:*", "a:b:*"),
            ("a:read", "b:read", ""),
            ("", "*", ""),
            ("*", "", ""),
            ("* tollgate:keys", "*", "*"),
            ("*", "* tollgate:keys", "*"),
            ("tollgate:keys", "tollgate:keys tollgate:admin", "tollgate:keys"),
            ("location", "location", "location"),
        ];
        for (granted, ceiling, both) in table {
            assert_eq!(set(granted).intersect(&set(ceiling)), set(both), "{granted:?} within {ceiling:?}");
        }
    }

    #[test]
    fn a_set_is_sorted_without_repeats_and_reads_as_a_list() {
        assert_eq!(set("b a b c a").to_string(), "a b c");
        assert_eq!(ScopeSet::default().to_string(), "");
        assert_eq!(set("a tollgate:admin").without_reserved(), set("a"));
        assert!(set("a tollgate:admin").holds_reserved() && !set("a *").holds_reserved());
        assert_eq!(set("b").with(Scope::parse(UNLIMITED).unwrap()), set("b tollgate:unlimited"));
        assert!(Scope::parse(UNLIMITED).unwrap().is_reserved());
    }

    fn scope() -> impl Strategy<Value = String> {
        prop_oneof![Just("*".to_owned()), "[ab](:[ab]){0,2}(:\\*)?", "[ab*:]{1,5}", "tollgate(:[ab*])?", "[!#-\\[\\]-~]{1,12}",]
    }

    fn scopes() -> impl Strategy<Value = ScopeSet> {
        prop::collection::vec(scope(), 0..5).prop_map(|texts| ScopeSet::new(texts.iter().map(|text| Scope::parse(text).unwrap())))
    }

    proptest! {
        #[test]
        fn an_intersection_covers_exactly_what_both_cover(left in scopes(), right in scopes(), wanted in scope()) {
            prop_assert_eq!(left.intersect(&right).covers(&wanted), left.covers(&wanted) && right.covers(&wanted));
            prop_assert_eq!(left.intersect(&right), right.intersect(&left));
            let left = Arc::new(left);
            prop_assert_eq!(left.within(&right).covers(&wanted), left.covers(&wanted) && right.covers(&wanted));
        }

        #[test]
        fn a_reserved_scope_is_covered_by_its_own_name_alone(held in scopes(), name in "[a-z*]{0,6}") {
            let wanted = format!("tollgate:{name}");
            prop_assert_eq!(held.covers(&wanted), held.iter().any(|scope| scope.as_str() == wanted));
            let plain = held.without_reserved();
            prop_assert!(!plain.covers(&wanted) && !plain.holds_reserved());
        }

        #[test]
        fn no_text_panics(text in any::<String>(), held in scopes()) {
            let _ = held.covers(&text);
            if let Ok(scope) = Scope::parse(&text) {
                prop_assert_eq!(scope.as_str(), text);
            }
        }
    }
}
