//! Scopes: what a caller may do, what a route wants, and the one rule by which the first covers the second.

use std::fmt;

/// One scope: 1 to 128 characters of RFC 6749's `scope-token` (visible ASCII without `"` and `\`), usually `resource:action`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(Box<str>);

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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScopeSet(Vec<Scope>);

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

fn is_reserved(scope: &str) -> bool {
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
