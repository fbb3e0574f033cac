//! Everybody's counts, wherever they lie: as the resource API, `/stats` and `/metrics/usage` ask for them.

use std::collections::BTreeSet;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::clock::Clock;
use crate::issuer::LastUse;
use crate::issuer::LastUsed;
use crate::issuer::usage::UsageError;
use crate::issuer::usage::UsageRead;
use crate::issuer::usage::sum_up;
use crate::model::caller::SourceName;
use crate::model::caller::UserId;
use crate::model::key::KeyId;
use crate::model::rules::Rules;
use crate::model::usage::UsagePage;
use crate::model::usage::UsageQuery;
use crate::model::user::UserRecord;
use crate::stats::StatRow;
use crate::stats::StatsSource;
use crate::stats::StatsUnavailable;
use crate::stats::UserTotal;
use crate::stats::Viewer;
use crate::store::Answer;
use crate::store::Counts;
use crate::store::CountsError;
use crate::store::Family;
use crate::store::Records;
use crate::store::codec;
use crate::usage::HistoryError;
use crate::usage::Usage;

/// Records read at a time.
const PAGE: usize = 1000;

/// Whose counts there are to read.
#[derive(Clone, Debug)]
pub(super) enum CountsOf {
    /// Those of this process, flushed or not: it is the only one.
    ThisProcess(Arc<Usage>),
    /// Those that all sidecars told the shared store.
    AllSidecars {
        counts: Arc<dyn Counts>,
        /// What this one counted itself, and tells the others.
        own: Arc<Usage>,
    },
}

impl CountsOf {
    async fn page(&self, query: &UsageQuery) -> Result<UsagePage, UsageError> {
        match self {
            Self::ThisProcess(usage) => {
                let (usage, query) = (Arc::clone(usage), query.clone());
                let page = tokio::task::spawn_blocking(move || usage.query(&query)).await;
                page.map_err(|error| UsageError::Unavailable(error.to_string()))?.map_err(refused)
            }
            Self::AllSidecars { counts, .. } => counts.query(query).await.map_err(|error| match error {
                CountsError::Cursor(_) => UsageError::Cursor,
                CountsError::Store(error) => UsageError::Unavailable(error.to_string()),
            }),
        }
    }

    /// Other sidecars keep what they counted themselves until it is past its time, and tell it again only if the shared store lost it.
    async fn forget_user(&self, user: &str) -> Result<(), UsageError> {
        let own = match self {
            Self::ThisProcess(own) | Self::AllSidecars { own, .. } => Arc::clone(own),
        };
        let name = user.to_owned();
        let forgotten = tokio::task::spawn_blocking(move || own.forget(&name)).await;
        forgotten
            .map_err(|error| error.to_string())
            .and_then(|done| done.map_err(|error| error.to_string()))
            .map_err(UsageError::Unavailable)?;
        match self {
            Self::ThisProcess(_) => Ok(()),
            Self::AllSidecars { counts, .. } => counts.forget(user).await.map_err(|error| UsageError::Unavailable(error.to_string())),
        }
    }

    async fn last_use_of(&self, key: &KeyId) -> Result<Option<crate::store::LastUse>, String> {
        match self {
            Self::ThisProcess(usage) => usage.last_use(key).map_err(|error| error.to_string()),
            Self::AllSidecars { counts, .. } => counts.last_use(key.as_str()).await.map_err(|error| error.to_string()),
        }
    }
}

impl LastUsed for CountsOf {
    fn last_use<'a>(&'a self, key: &'a KeyId) -> Answer<'a, Option<LastUse>> {
        Answer::Pending(Box::pin(async move {
            match self.last_use_of(key).await {
                Ok(found) => found.map(|found| LastUse { at: found.at, route: found.route }),
                Err(error) => {
                    tracing::warn!(%error, "the last use of a key cannot be read");
                    None
                }
            }
        }))
    }
}

impl UsageRead for CountsOf {
    fn read<'a>(&'a self, query: &'a UsageQuery) -> Answer<'a, Result<UsagePage, UsageError>> {
        Answer::Pending(Box::pin(self.page(query)))
    }

    fn forget<'a>(&'a self, user: &'a str) -> Answer<'a, Result<(), UsageError>> {
        Answer::Pending(Box::pin(self.forget_user(user)))
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

/// The counts as they are shown to the operator and through Envoy.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    counts: CountsOf,
    /// Of this sidecar: a scraper adds up the sidecars itself.
    own: Arc<Usage>,
    records: Arc<dyn Records>,
    rules: Arc<ArcSwap<Rules>>,
    clock: Arc<dyn Clock>,
}

impl Shown {
    pub(super) fn new(
        counts: CountsOf,
        own: Arc<Usage>,
        records: Arc<dyn Records>,
        rules: Arc<ArcSwap<Rules>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { counts, own, records, rules, clock }
    }

    /// The users of an organisation as they are rendered: those on the shelf, and the owners of keys in the file.
    ///
    /// The bound: who belongs to an organisation only by a claim of its token has no record that says so, and counts are kept by
    /// user, so such users are shown to the operator and to callers without an organisation alone, and never to another
    /// organisation. Remembering the claims of callers seen since the start would show fewer of them after each restart than
    /// before it, and counts that shrink are worse than counts that are known to be missing. A `managed` issuer gives its users
    /// records, and with them their place here.
    async fn users_of(&self, organization: &str) -> Result<BTreeSet<Arc<str>>, StatsUnavailable> {
        let rules = self.rules.load_full();
        let mut users = BTreeSet::new();
        for key in rules.file_keys.values().filter(|key| key.organization.as_deref() == Some(organization)) {
            users.insert(Arc::from(UserId::new(&rules.local.name, &key.user, rules.local.namespace).as_str()));
        }
        let mut after: Option<String> = None;
        loop {
            let page = self.records.range(Family::User, after.as_deref(), PAGE).await.map_err(unavailable)?;
            for (key, stored) in &page.records {
                // A record that cannot be read belongs to nobody.
                let Ok(record) = codec::decode_user(&key.id, &stored.bytes) else { continue };
                if record.organization.as_deref() == Some(organization)
                    && let Some(user) = rendered(&record, &rules)
                {
                    users.insert(Arc::from(user.as_str()));
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(users);
            }
        }
    }
}

impl StatsSource for Shown {
    fn user_totals(&self) -> Answer<'_, Result<Vec<UserTotal>, StatsUnavailable>> {
        let usage = Arc::clone(&self.own);
        Answer::Pending(Box::pin(async move {
            let totals = tokio::task::spawn_blocking(move || usage.ledger().totals()).await.map_err(unavailable)?;
            let total =
                |total: crate::usage::UserTotal| UserTotal { user: total.user.to_string(), outcome: total.outcome, count: total.count };
            Ok(totals.into_iter().map(total).collect())
        }))
    }

    fn rows<'a>(&'a self, viewer: Viewer<'a>) -> Answer<'a, Result<Vec<StatRow>, StatsUnavailable>> {
        Answer::Pending(Box::pin(async move {
            let users = match viewer {
                Viewer::Everyone => None,
                Viewer::Organization(organization) => Some(self.users_of(organization).await?),
            };
            sum_up(&self.counts, users, self.clock.now()).await.map_err(unavailable)
        }))
    }
}

/// As the user is called in counts; none when its issuer is not in the config any more.
fn rendered(record: &UserRecord, rules: &Rules) -> Option<UserId> {
    let sources = std::iter::once(&rules.local).chain(rules.issuers.iter().map(|issuer| &issuer.source));
    let source = sources.into_iter().find(|source| source.name == SourceName::new(&record.source))?;
    Some(UserId::new(&source.name, &record.subject, source.namespace))
}

fn unavailable(error: impl ToString) -> StatsUnavailable {
    StatsUnavailable(error.to_string())
}
