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
    let mut edits = Edits::default();
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
    let of_identity = rules.identity_headers.iter().map(|header| (&header.name, &header.look_alike));
    for (name, look_alike) in of_identity.chain(rules.assertion.iter().map(|assertion| (&assertion.header, &assertion.look_alike))) {
        match (look_alike, headers) {
            (Some(look_alike), Some(headers)) => edits.remove_look_alikes(name, look_alike, headers),
            (Some(look_alike), None) => edits.remove(look_alike),
            (None, _) => {}
        }
    }
    Some(Waiver { set: edits.set, remove: edits.remove })
}
