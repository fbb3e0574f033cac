//! What one judged request adds to the counts.

use crate::model::caller::UserId;
use crate::model::key::KeyId;
use crate::model::time::Hour;
use crate::model::time::Timestamp;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What is counted. Admitted requests are usage; refusals are counted apart; and what became of admitted requests, as far as Envoy's
/// access log tells, stands beside both and is never added to either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    Allowed,
    /// Refused by a limit (429).
    Limited,
    /// Known, but not permitted (403, 404 of tenancy, 410 …).
    Refused,
    Answered1xx,
    Answered2xx,
    Answered3xx,
    Answered4xx,
    Answered5xx,
    /// The client went away, or the connection broke, before there was a status.
    Unanswered,
}

impl Outcome {
    pub const ALL: [Self; 9] = [
        Self::Allowed,
        Self::Limited,
        Self::Refused,
        Self::Answered1xx,
        Self::Answered2xx,
        Self::Answered3xx,
        Self::Answered4xx,
        Self::Answered5xx,
        Self::Unanswered,
    ];
    /// What the gate decided: the only counts that make sums.
    pub const DECIDED: [Self; 3] = [Self::Allowed, Self::Limited, Self::Refused];
    /// What became of admitted requests.
    pub const ANSWERS: [Self; 6] =
        [Self::Answered1xx, Self::Answered2xx, Self::Answered3xx, Self::Answered4xx, Self::Answered5xx, Self::Unanswered];

    /// The class of a status; whatever is none, as Envoy's 0, is no answer.
    pub const fn of_status(status: u32) -> Self {
        match status {
            100..=199 => Self::Answered1xx,
            200..=299 => Self::Answered2xx,
            300..=399 => Self::Answered3xx,
            400..=499 => Self::Answered4xx,
            500..=599 => Self::Answered5xx,
            _ => Self::Unanswered,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Limited => "limited",
            Self::Refused => "refused",
            Self::Answered1xx => "answered_1xx",
            Self::Answered2xx => "answered_2xx",
            Self::Answered3xx => "answered_3xx",
            Self::Answered4xx => "answered_4xx",
            Self::Answered5xx => "answered_5xx",
            Self::Unanswered => "unanswered",
        }
    }

    /// Whether the gate decided so.
    pub fn is_decided(self) -> bool {
        Self::DECIDED.contains(&self)
    }

    /// This one, as a choice of outcomes.
    pub fn alone(self) -> &'static [Self] {
        const ALL: &[Outcome] = &Outcome::ALL;
        ALL.iter().find(|known| **known == self).map_or(&[], std::slice::from_ref)
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

    /// Whether something of this user is being counted already.
    fn knows_user(&self, _user: &str) -> bool {
        false
    }
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
    /// Only these.
    pub outcomes: &'static [Outcome],
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
    /// Everything between two instants, of every outcome.
    pub fn between(span: Span, from: Timestamp, to: Timestamp) -> Self {
        Self { span, from, to, users: None, key: None, route: None, outcomes: &Outcome::ALL, limit: ROWS_MAX, after: None }
    }
}
