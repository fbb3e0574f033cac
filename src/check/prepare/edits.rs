//! What happens to the headers of a request that goes on.

use std::borrow::Cow;
use std::sync::Arc;

use crate::model::look_alikes::LookAlikes;
use crate::model::look_alikes::looks_like;
use crate::model::request::HeaderSize;
use crate::model::request::Headers;
use crate::model::rules::Rules;

/// What happens to the request's headers. A name stands in one list, once; setting it outweighs removing it, because setting
/// overwrites whatever came.
pub(in crate::check) struct Edits<'r> {
    pub(in crate::check) set: Vec<(Arc<str>, Cow<'r, str>)>,
    pub(in crate::check) remove: Vec<Arc<str>>,
}

impl<'r> Edits<'r> {
    /// None yet, and room for those that these rules are likely to make.
    pub(in crate::check) fn under(rules: &Rules) -> Self {
        // Besides the identity headers, an assertion and a version; besides the strangers, a credential and what is not known of its bearer.
        let identity = rules.identity_headers.len();
        Self { set: Vec::with_capacity(identity + 2), remove: Vec::with_capacity(identity + 2 + rules.look_alikes.strangers.len()) }
    }

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

    /// Sets nothing; what would have been set is removed, so that no client says it.
    pub(in crate::check) fn forgo(&mut self) {
        self.remove.extend(self.set.drain(..).map(|(name, _value)| name));
    }

    /// Whether the headers with these edits are within Envoy's bounds. What replaces a header adds nothing, which is looked at only where it
    /// matters; what is removed takes its room all the same, because Envoy counts before it removes.
    pub(in crate::check) fn fit(&self, headers: &Headers<'_>, limits: HeaderSize) -> bool {
        let added = |size: HeaderSize| self.set.iter().fold(size, |size, (name, value)| size.with(&**name, &**value));
        if added(headers.size()).is_within(limits) {
            return true;
        }
        let replaced = |came: &[u8]| self.set.iter().any(|(name, _value)| name.as_bytes().eq_ignore_ascii_case(came));
        let kept = headers.iter().filter(|(came, _value)| !replaced(came));
        added(kept.fold(HeaderSize::default(), |size, (name, value)| size.with(name, value))).is_within(limits)
    }

    /// What an upstream could take for a header of these rules. The spellings go whether or not they were seen, because Envoy can be told
    /// not to show us a header; of a name that has too many, those that were seen go besides the usual one. Comes last: strangers meet no
    /// name that is set or removed before.
    pub(in crate::check) fn remove_look_alikes(&mut self, look_alikes: &LookAlikes, headers: Option<&Headers<'_>>) {
        for spelling in &look_alikes.contested {
            self.remove(spelling);
        }
        self.remove.extend_from_slice(&look_alikes.strangers);
        for name in &look_alikes.long {
            let shown = headers.into_iter().flat_map(Headers::iter).filter(|(came, _value)| looks_like(came, name));
            for came in shown.filter_map(|(came, _value)| std::str::from_utf8(came).ok()) {
                self.remove(&Arc::from(came));
            }
        }
    }
}
