//! What the resource API reads of the ledger and its history.

use std::sync::Arc;

use crate::issuer::LastUse;
use crate::issuer::LastUsed;
use crate::issuer::usage::Asked;
use crate::issuer::usage::Count;
use crate::issuer::usage::Counts;
use crate::issuer::usage::Period;
use crate::issuer::usage::UsageError;
use crate::issuer::usage::UsageRead;
use crate::model::key::KeyId;
use crate::store::Answer;
use crate::usage::HistoryError;
use crate::usage::Span;
use crate::usage::Usage;
use crate::usage::UsageQuery;

/// The counts as the resource API asks for them.
#[derive(Debug)]
pub(super) struct UsageOf(pub(super) Arc<Usage>);

impl LastUsed for UsageOf {
    fn last_use(&self, key: &KeyId) -> Option<LastUse> {
        match self.0.last_use(key) {
            Ok(found) => found.map(|found| LastUse { at: found.at, route: found.route }),
            Err(error) => {
                tracing::warn!(%error, "the last use of a key cannot be read");
                None
            }
        }
    }
}

impl UsageRead for UsageOf {
    fn read<'a>(&'a self, asked: &'a Asked) -> Answer<'a, Result<Counts, UsageError>> {
        let (usage, query) = (Arc::clone(&self.0), query_of(asked));
        Answer::Pending(Box::pin(async move {
            let page = tokio::task::spawn_blocking(move || usage.query(&query)).await;
            let page = page.map_err(|error| UsageError::Unavailable(error.to_string()))?.map_err(refused)?;
            let count = |row: crate::usage::UsageRow| Count {
                start: row.start,
                user: row.user,
                key: row.key,
                route: row.route,
                outcome: row.outcome,
                count: row.count,
            };
            Ok(Counts { rows: page.rows.into_iter().map(count).collect(), next: page.next })
        }))
    }
}

fn query_of(asked: &Asked) -> UsageQuery {
    let Asked { period, from, to, users, key, route, outcome, limit, after } = asked.clone();
    let span = match period {
        Period::Hour => Span::Hour,
        Period::Day => Span::Day,
        Period::Month => Span::Month,
    };
    UsageQuery { span, from, to, users, key, route, outcome, limit, after }
}

fn refused(error: HistoryError) -> UsageError {
    match error {
        HistoryError::Cursor(_) => UsageError::Cursor,
        error @ (HistoryError::Locked { .. }
        | HistoryError::Version { .. }
        | HistoryError::Damaged { .. }
        | HistoryError::Failed { .. }) => UsageError::Unavailable(error.to_string()),
    }
}
