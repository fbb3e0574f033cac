//! What a token is for (RFC 8707) and what it may open there.

use std::sync::Arc;

use crate::issuer::oauth::answer::Fault;
use crate::issuer::oauth::answer::Refusal;
use crate::model::client::ClientRecord;
use crate::model::issuance::Issuance;
use crate::model::scope::Scope;
use crate::model::scope::ScopeSet;

/// Scopes that one request may name.
const SCOPES_MAX: usize = 64;

/// The resources that a client may name, its default first: those it is registered with, else every one of the issuer.
pub(in crate::issuer) fn resources_of(client: &ClientRecord, issuance: &Issuance) -> Vec<Arc<str>> {
    let known = |uri: &&Arc<str>| issuance.resource(uri).is_some();
    if client.resources.is_empty() {
        issuance.resources.iter().map(|resource| Arc::clone(&resource.uri)).collect()
    } else {
        client.resources.iter().filter(known).cloned().collect()
    }
}

/// The wanted ones among the allowed ones; `absent` where none is named.
///
/// # Errors
/// `invalid_target` for one that is not allowed, and where nothing is left.
pub(in crate::issuer) fn pick<'w>(
    wanted: impl Iterator<Item = &'w str>,
    allowed: &[Arc<str>],
    absent: &[Arc<str>],
) -> Result<Vec<Arc<str>>, Refusal> {
    let invalid = || Refusal::new(Fault::InvalidTarget, "the resource is unknown, or not one of those that were granted");
    let mut picked: Vec<Arc<str>> = Vec::new();
    for uri in wanted {
        let found = allowed.iter().find(|known| ***known == *uri).ok_or_else(invalid)?;
        if !picked.contains(found) {
            picked.push(Arc::clone(found));
        }
    }
    if picked.is_empty() {
        picked = absent.iter().filter(|uri| allowed.contains(uri)).cloned().collect();
    }
    if picked.is_empty() { Err(invalid()) } else { Ok(picked) }
}

/// The scopes that mean something at one of these resources.
pub(in crate::issuer) fn at(scopes: &ScopeSet, audience: &[Arc<str>], issuance: &Issuance) -> ScopeSet {
    let resources: Vec<_> = audience.iter().filter_map(|uri| issuance.resource(uri)).collect();
    let means_something =
        |scope: &&Scope| resources.iter().any(|resource| resource.scopes.as_ref().is_none_or(|scopes| scopes.covers(scope.as_str())));
    ScopeSet::new(scopes.iter().filter(means_something).cloned())
}

/// The parameter `scope`; none where it is absent.
///
/// # Errors
/// `invalid_scope` for what is none.
pub(in crate::issuer) fn read_scopes(text: Option<&str>) -> Result<Option<ScopeSet>, Refusal> {
    let Some(text) = text else { return Ok(None) };
    let invalid = || Refusal::new(Fault::InvalidScope, "the scope is not a list of scopes, each behind one space");
    let scopes: Vec<Scope> =
        text.split(' ').take(SCOPES_MAX + 1).map(Scope::parse).collect::<Result<_, _>>().map_err(|_error| invalid())?;
    if scopes.len() > SCOPES_MAX { Err(invalid()) } else { Ok(Some(ScopeSet::new(scopes))) }
}

/// Whether all of `wanted` lies within `held`.
pub(in crate::issuer) fn lies_within(wanted: &ScopeSet, held: &ScopeSet) -> bool {
    wanted.iter().all(|scope| held.covers(scope.as_str()))
}

pub(in crate::issuer) fn beyond() -> Refusal {
    Refusal::new(Fault::InvalidScope, "the scope is unknown, or beyond what was granted")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issuer::tests::issuance;

    fn set(text: &str) -> ScopeSet {
        read_scopes(Some(text)).unwrap().unwrap()
    }

    // oauth: Q2 N5
    #[test]
    fn a_token_is_for_what_was_granted_and_holds_what_means_something_there() {
        let (api, files): (Arc<str>, Arc<str>) = ("https://api.example.com".into(), "https://files.example.com".into());
        let both = [Arc::clone(&api), Arc::clone(&files)];
        assert_eq!(pick([].into_iter(), &both, &both[..1]).unwrap(), [Arc::clone(&api)]);
        assert_eq!(pick([&*files, &*files].into_iter(), &both, &both[..1]).unwrap(), [Arc::clone(&files)]);
        for (wanted, allowed) in [(vec![&*files], &both[..1]), (vec!["https://api.example.com/"], &both[..]), (vec![], &both[..0])] {
            assert_eq!(pick(wanted.into_iter(), allowed, &both[..1]).unwrap_err().fault, Fault::InvalidTarget);
        }
        let all = set("files:read orders:read");
        assert_eq!(at(&all, &both[1..], &issuance()), set("files:read"));
        assert_eq!(at(&all, &both, &issuance()), all);
        assert_eq!(at(&all, &[Arc::from("https://elsewhere")], &issuance()), ScopeSet::default());
    }

    #[test]
    fn scopes_are_read_strictly() {
        assert_eq!(read_scopes(None), Ok(None));
        assert_eq!(set("b a b").to_string(), "a b");
        for bad in [" a", "a ", "a  b", "a\tb", "\"", "ü", &"a ".repeat(70)] {
            assert!(read_scopes(Some(bad)).is_err(), "{bad:?}");
        }
        assert!(lies_within(&set("a"), &set("a b")) && !lies_within(&set("a c"), &set("a b")));
    }
}
