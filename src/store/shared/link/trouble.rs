//! Why there is no connection to use.

use crate::store::shared::link::connect::shortened;

/// The end of an attempt to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// What the server answered, by its code.
    pub(super) code: Option<String>,
    /// Whether somebody was there: then neither the address nor a firewall is to blame.
    pub(super) was_reached: bool,
    /// What it is, and what to do.
    pub(super) what: String,
}

impl Trouble {
    /// Somebody was there, and it did not go on.
    pub(super) const fn met(what: String) -> Self {
        Self { code: None, was_reached: true, what }
    }

    /// The server said no.
    pub(super) fn refused(code: &str, what: String) -> Self {
        Self { code: Some(shortened(code, 32)), was_reached: true, what }
    }

    /// The same, told by somebody who heard of it: it is counted where it was met.
    pub(super) fn retold(&self) -> Self {
        Self { code: None, ..self.clone() }
    }

    pub(super) fn at(self, place: &str) -> Self {
        Self { what: format!("{place}: {}", self.what), ..self }
    }
}

/// What has no other form is that nobody was met.
impl From<String> for Trouble {
    fn from(what: String) -> Self {
        Self { code: None, was_reached: false, what }
    }
}
