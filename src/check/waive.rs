//! A trial (`dry_run`): what was refused goes through all the same, and nobody is taken for more than was proven.
//!
//! The caller's own identity is told where the rooms before the refusal proved it, and every identity header is removed where they did
//! not. The assertion is not signed, and credentials stay where they are: whoever judged requests before the trial goes on doing so.

use std::borrow::Cow;
use std::sync::Arc;

use crate::check::prepare::Edits;
use crate::check::prepare::fill;
use crate::model::caller::Caller;
use crate::model::request::Headers;
use crate::model::rules::DryRun;
use crate::model::rules::Rules;

/// The leave to let a refused request through. Only [`waive`] makes one, and only where the config is a trial's.
#[derive(Debug)]
pub struct Waiver<'r> {
    set: Vec<(Arc<str>, Cow<'r, str>)>,
    remove: Vec<Arc<str>>,
}

impl<'r> Waiver<'r> {
    /// Request headers to overwrite. Never a name of [`Self::remove`].
    pub fn set(&self) -> &[(Arc<str>, Cow<'r, str>)] {
        &self.set
    }

    /// Request headers to remove.
    pub fn remove(&self) -> &[Arc<str>] {
        &self.remove
    }
}

/// None: verdicts are in force. `caller`: who was proven before the refusal; `headers`: as far as the request could be read.
pub fn waive<'r>(caller: Option<&Caller>, headers: Option<&Headers<'_>>, rules: &'r Rules) -> Option<Waiver<'r>> {
    match rules.dry_run {
        DryRun::Off => return None,
        DryRun::On => {}
    }
    let mut edits = Edits::under(rules);
    for header in &rules.identity_headers {
        // What cannot stand in a header is not told; a trial refuses nobody for it.
        match caller.and_then(|caller| fill(&header.value, caller).ok().flatten()) {
            Some(value) => edits.set(&header.name, value),
            None => edits.remove(&header.name),
        }
    }
    if let Some(assertion) = &rules.assertion {
        // Where it shares its name with a credential, what stands there is the client's word, which upstreams must verify anyhow.
        if !rules.places.iter().any(|place| place.header.eq_ignore_ascii_case(&assertion.header)) {
            edits.remove(&assertion.header);
        }
    }
    edits.remove_look_alikes(&rules.look_alikes, headers);
    if headers.is_some_and(|headers| !edits.fit(headers, rules.header_limits)) {
        edits.forgo();
    }
    Some(Waiver { set: edits.set, remove: edits.remove })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::check::doubles::caller;
    use crate::check::samples;
    use crate::model::look_alikes::LookAlikes;
    use crate::model::request::HeaderSize;
    use crate::model::request::Method;
    use crate::model::rules::Assertion;
    use crate::model::rules::IdentityHeader;
    use crate::model::rules::IdentityPart;
    use crate::model::rules::IdentityValue;

    fn trial(assertion: &str) -> Rules {
        let header = |name: &str, value| IdentityHeader { name: name.into(), value: vec![IdentityPart::Of(value)] };
        let mut rules = Rules {
            dry_run: DryRun::On,
            identity_headers: vec![
                header("user", IdentityValue::User),
                header("x-org-id", IdentityValue::Organization),
                header("x-client", IdentityValue::Client),
            ],
            assertion: Some(Assertion {
                header: assertion.into(),
                prefix: "".into(),
                issuer: "gate".into(),
                audience: Vec::new(),
                lifetime: Duration::from_secs(60),
            }),
            ..samples::rules(Vec::new())
        };
        rules.look_alikes = LookAlikes::of(&rules);
        rules
    }

    fn told(waiver: &Waiver<'_>) -> (Vec<String>, BTreeSet<String>) {
        let set = waiver.set().iter().map(|(name, value)| format!("{name}: {value}")).collect();
        (set, waiver.remove().iter().map(|name| name.to_string()).collect())
    }

    fn names(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn verdicts_in_force_are_waived_for_nobody() {
        let rules = Rules { dry_run: DryRun::Off, ..trial("x-proof") };
        assert!(waive(None, None, &rules).is_none() && waive(Some(&caller()), None, &rules).is_none());
    }

    #[test]
    fn who_was_proven_is_told_and_nobody_else() {
        let rules = trial("x-proof");
        let request = samples::request(Method::Get, "/a", &[("X_Org-Id", "evil"), ("x-user", "kept"), ("x_client", "evil")]);
        let others = names(&["x-proof", "x_proof", "x_org_id", "x-org_id", "x_org-id", "x_client"]);
        let with = |more: &[&str]| others.union(&names(more)).cloned().collect::<BTreeSet<_>>();
        let known = caller();
        let cases = [
            // A fault before anything was read, and one after the caller was known.
            (None, None, vec![], with(&["user", "x-org-id", "x-client"])),
            (Some(&known), None, vec!["user: alice", "x-org-id: acme"], with(&["x-client"])),
            (None, Some(&request.headers), vec![], with(&["user", "x-org-id", "x-client"])),
            (Some(&known), Some(&request.headers), vec!["user: alice", "x-org-id: acme"], with(&["x-client"])),
        ];
        for (caller, headers, set, remove) in cases {
            let (was_set, was_removed) = told(&waive(caller, headers, &rules).unwrap());
            assert_eq!(
                (was_set, was_removed.iter().map(|name| name.to_lowercase()).collect()),
                (set.into_iter().map(str::to_owned).collect(), remove)
            );
        }
    }

    #[test]
    fn nobody_is_named_where_envoy_would_refuse_the_request_for_it() {
        let request = samples::request(Method::Get, "/a", &[("a", "1")]);
        let bytes = request.headers.size().bytes + "useralicex-org-idacme".len();
        for (lines, is_told) in [(3, true), (2, false)] {
            let rules = Rules { header_limits: HeaderSize { lines, bytes }, ..trial("x-proof") };
            let (set, removed) = told(&waive(Some(&caller()), Some(&request.headers), &rules).unwrap());
            assert_eq!((set.len(), removed.contains("user")), if is_told { (2, false) } else { (0, true) });
        }
    }

    #[test]
    fn a_credential_stays_where_it_is_and_nothing_is_signed() {
        let (set, removed) = told(&waive(Some(&caller()), None, &trial("authorization")).unwrap());
        assert!(!removed.contains("authorization") && set.iter().all(|line| !line.starts_with("authorization")), "{set:?} {removed:?}");
    }
}
