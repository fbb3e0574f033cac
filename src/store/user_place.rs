//! Under what both engines remember a user, and how it is asked for without an allocation.

use std::sync::Arc;

use papaya::Equivalent;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct UserPlace {
    pub(super) source: Arc<str>,
    pub(super) subject: Arc<str>,
}

impl UserPlace {
    pub(super) fn new(source: &str, subject: &str) -> Self {
        Self { source: Arc::from(source), subject: Arc::from(subject) }
    }

    /// Of the record of this id.
    pub(super) fn of(id: &str) -> Option<Self> {
        id.split_once(':').map(|(source, subject)| Self::new(source, subject))
    }
}

/// [`UserPlace`] as it is asked for; the fields' order keeps the hashes equal.
#[derive(Hash)]
pub(super) struct AskedPlace<'a> {
    pub(super) source: &'a str,
    pub(super) subject: &'a str,
}

impl Equivalent<UserPlace> for AskedPlace<'_> {
    fn equivalent(&self, place: &UserPlace) -> bool {
        self.source == &*place.source && self.subject == &*place.subject
    }
}
