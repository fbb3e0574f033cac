//! What the resource API reads of the ledger and its history.

use std::sync::Arc;

use crate::issuer::LastUse;
use crate::issuer::LastUsed;
use crate::issuer::usage::UsageError;
use crate::issuer::usage::UsageRead;
use crate::model::key::KeyId;
use crate::model::usage::UsagePage;
use crate::model::usage::UsageQuery;
use crate::store::Answer;
use crate::usage::HistoryError;
use crate::usage::Usage;

/// The counts as the resource API asks for them.
#[derive(Debug)]
pub(super) struct UsageOf(pub(super) Arc<Usage>);

impl LastUsed for UsageOf {
    fn last_use<'a>(&'a self, key: &'a KeyId) -> Answer<'a, Option<LastUse>> {
        Answer::ready(match self.0.last_use(key) {
            Ok(found) => found.map(|found| LastUse { at: found.at, route: found.route }),
            Err(error) => {
                tracing::warn!(%error, "the last use of a key cannot be read");
                None
            }
        })
    }
}

impl UsageRead for UsageOf {
    fn read<'a>(&'a self, query: &'a UsageQuery) -> Answer<'a, Result<UsagePage, UsageError>> {
        let (usage, query) = (Arc::clone(&self.0), query.clone());
        Answer::Pending(Box::pin(async move {
            let page = tokio::task::spawn_blocking(move || usage.query(&query)).await;
            page.map_err(|error| UsageError::Unavailable(error.to_string()))?.map_err(refused)
        }))
    }
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
