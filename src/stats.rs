//! The contract behind `/stats` and `/metrics/usage`: exact counts by user and route, wherever they lie. The doors read them through this
//! trait; `app` says who keeps them.

use serde::Serialize;

use crate::model::usage::Outcome;
use crate::store::Answer;

/// Whose counts are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Viewer<'a> {
    /// The operator, or a caller without an organisation that holds `tollgate:usage`.
    Everyone,
    /// Somebody of this organisation: its own users only.
    Organization(&'a str),
}

/// One user's cumulative count of one outcome, since the ledger began. Never shrinks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserTotal {
    /// The rendered user id.
    pub user: String,
    pub outcome: Outcome,
    pub count: u64,
}

/// One line of `/stats`: a user's count of one outcome on one route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StatRow {
    pub user: String,
    /// The route's name, or what its `count_as` made of the path.
    pub route: String,
    /// `allowed`, `limited` or `refused`.
    pub outcome: &'static str,
    pub count: u64,
}

/// Why no counts can be shown now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the counts cannot be read: {0}")]
pub struct StatsUnavailable(pub String);

/// Who keeps the counts.
pub trait StatsSource: Send + Sync + std::fmt::Debug + 'static {
    /// Every user's cumulative counts, each user's together.
    fn user_totals(&self) -> Answer<'_, Result<Vec<UserTotal>, StatsUnavailable>>;
    /// The counts by user and route that `viewer` may see, sorted by user, route and outcome.
    fn rows<'a>(&'a self, viewer: Viewer<'a>) -> Answer<'a, Result<Vec<StatRow>, StatsUnavailable>>;
}

#[derive(Serialize)]
struct Report {
    stats: Vec<StatRow>,
}

/// The document that `/stats` answers with.
pub fn write_stats(rows: Vec<StatRow>) -> String {
    serde_json::to_string(&Report { stats: rows }).unwrap_or_else(|_| String::from("{\"stats\":[]}"))
}

/// Counts nothing and shows nothing, for nodes without a ledger and for tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoStats;

impl StatsSource for NoStats {
    fn user_totals(&self) -> Answer<'_, Result<Vec<UserTotal>, StatsUnavailable>> {
        Answer::ready(Ok(Vec::new()))
    }

    fn rows<'a>(&'a self, _viewer: Viewer<'a>) -> Answer<'a, Result<Vec<StatRow>, StatsUnavailable>> {
        Answer::ready(Ok(Vec::new()))
    }
}
