//! What happens to the headers of a request that goes on.

use std::borrow::Cow;
use std::sync::Arc;

use crate::model::request::Headers;
use crate::model::rules::Rules;
use crate::model::rules::looks_like;

/// What happens to the request's headers. A name stands in one list, once; setting it outweighs removing it, because setting
/// overwrites whatever came.
#[derive(Default)]
pub(in crate::check) struct Edits<'r> {
    pub(in crate::check) set: Vec<(Arc<str>, Cow<'r, str>)>,
    pub(in crate::check) remove: Vec<Arc<str>>,
}

impl<'r> Edits<'r> {
    pub(in crate::check) fn set(&mut self, name: &Arc<str>, value: Cow<'r, str>) {
        self.remove.retain(|removed| !removed.eq_ignore_ascii_case(name));
        match self.set.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            Some((_, known)) => *known = value,
            None => self.set.push((Arc::clone(name), value)),
        }
    }

    pub(in crate::check) fn remove(&mut self, name: &Arc<str>) {
        let known = self.set.iter().map(|(name, _)| name).chain(&self.remove).any(|known| known.eq_ignore_ascii_case(name));
        if !known {
            self.remove.push(Arc::clone(name));
        }
    }

    /// What an upstream could take for a header of these rules. The spellings go whether or not they were seen, because Envoy can be told
    /// not to show us a header; of a name that has too many, those that were seen go besides the usual one.
    pub(in crate::check) fn remove_look_alikes(&mut self, rules: &Rules, headers: Option<&Headers<'_>>) {
        let of_identity = rules.identity_headers.iter().map(|header| (&header.name, &header.look_alikes));
        let of_assertion = rules.assertion.iter().map(|assertion| (&assertion.header, &assertion.look_alikes));
        for (name, look_alikes) in of_identity.chain(of_assertion) {
            for spelling in &look_alikes.spellings {
                self.remove(spelling);
            }
            let shown = headers.filter(|_| !look_alikes.are_all).into_iter().flat_map(|headers| headers.iter());
            for (came, _value) in shown.filter(|(came, _value)| looks_like(came, name)) {
                if let Ok(came) = std::str::from_utf8(came) {
                    self.remove(&Arc::from(came));
                }
            }
        }
    }
}
