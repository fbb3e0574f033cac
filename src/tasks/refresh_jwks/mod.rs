//! Fetches key sets of issuers that name a URL: at the start, each `refresh`, and soon after somebody shows an unknown `kid`.
//!
//! - No request ever waits for a fetch. What was fetched last stays in use for as long as the provider is down or talks nonsense.
//! - One fetch at a time for each URL, and one that an unknown `kid` asks for at most every 30 seconds, however many ask.
//! - When to fetch is decided in `schedule.rs`, which knows no network; how, in `fetch.rs`, which knows no schedule.

pub mod fetch;
pub mod schedule;

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::jose::KeySet;
use crate::jose::Tokens;
use crate::jose::tokens::Installed;
use crate::model::rules::Algorithm;
use crate::model::rules::IssuerKeys;
use crate::model::rules::Rules;
use crate::tasks::refresh_jwks::fetch::FetchError;
use crate::tasks::refresh_jwks::fetch::Fetcher;
use crate::tasks::refresh_jwks::schedule::Schedule;

/// How often the rules are looked at for issuers that came or went.
const RULES_POLL: Duration = Duration::from_secs(1);

/// What is told about each fetch, for metrics.
pub trait FetchObserver: std::fmt::Debug + Send + Sync + 'static {
    fn fetched(&self, url: &str, outcome: FetchOutcome);
}

/// How a fetch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchOutcome {
    /// Other keys than before.
    Changed,
    Unchanged,
    /// The last good set stays in use.
    Failed,
}

impl FetchObserver for () {
    fn fetched(&self, _url: &str, _outcome: FetchOutcome) {}
}

/// Everything that the task needs.
#[derive(Debug)]
pub struct RefreshJwks {
    pub tokens: Arc<Tokens>,
    pub rules: Arc<ArcSwap<Rules>>,
    pub fetcher: Fetcher,
    pub clock: Arc<dyn Clock>,
    pub observer: Arc<dyn FetchObserver>,
    /// Spreads the fetches of many processes; any random number.
    pub seed: u64,
}

/// A URL of the rules: how often, and for which algorithms its keys must be good.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Source {
    refresh: Duration,
    algorithms: Vec<Algorithm>,
}

/// Runs until `shutdown`.
pub async fn run(task: RefreshJwks, shutdown: CancellationToken) {
    let mut schedule = Schedule::new(task.seed);
    let mut fetches: JoinSet<Result<KeySet, FetchError>> = JoinSet::new();
    let mut urls = HashMap::new();
    let mut known = None;
    let mut sources = BTreeMap::new();
    loop {
        let rules = task.rules.load_full();
        if !known.as_ref().is_some_and(|known| Arc::ptr_eq(known, &rules)) {
            sources = sources_of(&rules);
            task.tokens.retain(|url| sources.contains_key(url));
            schedule.replace(sources.iter().map(|(url, source)| (Arc::clone(url), source.refresh)), task.clock.now());
            known = Some(rules);
        }
        let now = task.clock.now();
        for url in task.tokens.take_wanted() {
            schedule.want(&url, now);
        }
        for url in schedule.take_due(now) {
            let algorithms = sources.get(&url).map(|source| source.algorithms.clone()).unwrap_or_default();
            let fetcher = task.fetcher.clone();
            let fetched = Arc::clone(&url);
            let fetch = fetches.spawn(async move { fetcher.fetch(&fetched, &algorithms).await });
            urls.insert(fetch.id(), url);
        }
        let pause = schedule.until_next(now).min(RULES_POLL);
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            () = task.tokens.wanted() => {}
            Some(fetched) = fetches.join_next_with_id() => {
                let (id, keys) = match fetched {
                    Ok((id, keys)) => (id, keys),
                    Err(lost) => (lost.id(), Err(FetchError::Lost)),
                };
                // The rules may have dropped the URL while it was fetched.
                if let Some(url) = urls.remove(&id).filter(|url| sources.contains_key(url)) {
                    finish(&task, &mut schedule, &url, keys);
                }
            }
        }
    }
}

fn finish(task: &RefreshJwks, schedule: &mut Schedule, url: &str, keys: Result<KeySet, FetchError>) {
    let now = task.clock.now();
    match keys {
        Ok(keys) => {
            for skipped in keys.skipped() {
                tracing::warn!(url, key = skipped.position, why = skipped.why, "key of a fetched set is not used");
            }
            let outcome = match task.tokens.install(url, keys) {
                Installed::Changed => FetchOutcome::Changed,
                Installed::Unchanged => FetchOutcome::Unchanged,
            };
            schedule.succeeded(url, now);
            task.observer.fetched(url, outcome);
        }
        Err(error) => {
            tracing::warn!(url, error = %error, kept = task.tokens.has_keys(url), "key set could not be fetched");
            schedule.failed(url, now);
            task.observer.fetched(url, FetchOutcome::Failed);
        }
    }
}

/// The URLs of the rules. Two issuers may share one; then the shorter interval rules, and either's algorithms do.
fn sources_of(rules: &Rules) -> BTreeMap<Arc<str>, Source> {
    let mut sources: BTreeMap<Arc<str>, Source> = BTreeMap::new();
    for issuer in &rules.issuers {
        match &issuer.keys {
            IssuerKeys::Fixed(_) | IssuerKeys::Own => {}
            IssuerKeys::Url { url, refresh } => {
                let source = sources.entry(Arc::clone(url)).or_insert(Source { refresh: *refresh, algorithms: Vec::new() });
                source.refresh = source.refresh.min(*refresh);
                source.algorithms.extend(&issuer.algorithms);
            }
        }
    }
    sources
}

#[cfg(test)]
mod tests;
