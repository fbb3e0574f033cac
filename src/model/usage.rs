//! What one judged request adds to the counts.

use crate::model::caller::UserId;
use crate::model::key::KeyId;
use crate::model::time::Hour;
use crate::model::time::Timestamp;
use std::collections::BTreeSet;
use std::sync::Arc;

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

    /// Notes that something beside the counts was used, an older secret of a key: its last use is kept with those of keys, under this
    /// name. It may be lost with the process; nothing hangs on it.
    fn note_use(&self, _name: &KeyId, _route: &str, _at: Timestamp) {}
}

/// The longest page of counts.
pub const ROWS_MAX: usize = 10_000;

/// A length of period, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Span {
    /// Kept 35 days.
    Hour,
    /// Kept 400 days.
    Day,
    /// Kept always.
    Month,
}

/// Which counts are asked for. Empty filters let everything pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageQuery {
    pub span: Span,
    /// The period that this instant lies in is the first.
    pub from: Timestamp,
    /// Periods that begin at or after this instant are not shown.
    pub to: Timestamp,
    /// Only these users: one, or those of an organisation.
    pub users: Option<BTreeSet<Arc<str>>>,
    /// Only this key; the empty text: only counts without a key.
    pub key: Option<Arc<str>>,
    pub route: Option<Arc<str>>,
    pub outcome: Option<Outcome>,
    /// Rows a page, at most 10,000.
    pub limit: usize,
    /// The `next` of the page before.
    pub after: Option<String>,
}

/// One line's count in one period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRow {
    pub start: Timestamp,
    pub user: Arc<str>,
    pub key: Option<Arc<str>>,
    pub route: Arc<str>,
    pub outcome: Outcome,
    pub count: u64,
}

/// Rows by period, user, route, key and outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsagePage {
    pub rows: Vec<UsageRow>,
    /// None: this was the last page.
    pub next: Option<String>,
}

impl UsageQuery {
    /// Everything between two instants.
    pub fn between(span: Span, from: Timestamp, to: Timestamp) -> Self {
        Self { span, from, to, users: None, key: None, route: None, outcome: None, limit: ROWS_MAX, after: None }
    }
}
