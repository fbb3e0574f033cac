//! What one judged request adds to the counts.

use crate::model::caller::UserId;
use crate::model::key::KeyId;
use crate::model::time::Hour;

/// Admitted requests are usage; refusals are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    Allowed,
    /// Refused by a limit (429).
    Limited,
    /// Known, but not permitted (403, 404 of tenancy, 410 …).
    Refused,
}

impl Outcome {
    pub const ALL: [Self; 3] = [Self::Allowed, Self::Limited, Self::Refused];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Limited => "limited",
            Self::Refused => "refused",
        }
    }
}

/// Who chose a line's route text, and so how many different ones there can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RouteText {
    /// The route's own name: as many as the config has.
    Name,
    /// Filled from the path by `count_as`: the client chooses, so the ledger keeps a bounded number of them apart.
    Path,
}

/// Which counter: everything but the count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Line<'a> {
    pub hour: Hour,
    pub user: &'a UserId,
    pub key: Option<&'a KeyId>,
    /// The route's name, or what its `count_as` made of the path.
    pub route: &'a str,
    pub route_text: RouteText,
    pub outcome: Outcome,
}

/// Why a request could not be counted (the disk is full, the ledger is closed).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request could not be counted: {0}")]
pub struct NotCounted(pub String);

/// Where admitted requests are counted before their answer leaves: the ledger. `Ok` means that the count survives a kill.
pub trait Tally: Send + Sync + std::fmt::Debug + 'static {
    /// # Errors
    /// [`NotCounted`] when the count could not be kept; nothing was added then.
    fn add(&self, line: &Line<'_>, cost: u32) -> Result<(), NotCounted>;
}
