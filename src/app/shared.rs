//! The shared store in one sidecar: the link to Redis, the records, the limits, and what they say about themselves.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::AppError;
use crate::app::watchers::catch_up;
use crate::app::watchers::gauge;
use crate::clock::Clock;
use crate::clock::monotonic;
use crate::config::boot::RedisBoot;
use crate::config::boot::RedisLogin;
use crate::config::boot::RedisMode;
use crate::config::boot::RedisServer;
use crate::model::time::Timestamp;
use crate::secrets::Peppers;
use crate::store::shared::buckets::SharedBuckets;
use crate::store::shared::buckets::Tuning;
use crate::store::shared::link::Finding;
use crate::store::shared::link::Lane;
use crate::store::shared::link::Link;
use crate::store::shared::link::Severity;
use crate::store::shared::outbox::Outbox;
use crate::store::shared::records::SharedRecords;
use crate::store::shared::settings::Login;
use crate::store::shared::settings::Mode;
use crate::store::shared::settings::Server;
use crate::store::shared::settings::Settings;
use crate::store::shared::settings::Timeouts;
use crate::store::shared::settings::TlsFiles;
use crate::store::shared::usage::SharedCounts;
use crate::tasks::follow_changes;
use crate::tasks::follow_changes::FollowChanges;
use crate::tasks::publish_usage::PublishError;
use crate::tasks::publish_usage::PublishStatus;
use crate::tasks::publish_usage::PublishUsage;
use crate::tasks::publish_usage::Signals;
use crate::telemetry::shared_metrics::CALL_RESULTS;
use crate::telemetry::shared_metrics::SharedMetrics;
use crate::telemetry::shared_metrics::code_label;
use crate::usage::LocalBuckets;
use crate::usage::LocalShare;
use crate::usage::Usage;

/// How soon the log says what is the matter with a server.
const LOOK_AT_FINDINGS_EVERY: Duration = Duration::from_secs(1);

/// Everything in this process that speaks with Redis.
#[derive(Debug)]
pub(super) struct Shared {
    link: Arc<Link>,
    records: Arc<SharedRecords>,
    buckets: Arc<SharedBuckets>,
    share: Arc<LocalShare>,
    counts: Arc<SharedCounts>,
}

/// The telling of counts, before it begins.
#[derive(Debug)]
pub(super) struct Publisher {
    publish: PublishUsage,
    status: Arc<PublishStatus>,
    link: Arc<Link>,
}

impl Publisher {
    /// Tells what is counted until `end`, and once more then.
    pub(super) fn start(self, end: CancellationToken) -> Publishing {
        let Self { publish, status, link } = self;
        Publishing { status, ended: tokio::spawn(publish.run(end)), link }
    }
}

/// The telling of counts, under way.
#[derive(Debug)]
pub(super) struct Publishing {
    pub(super) status: Arc<PublishStatus>,
    ended: JoinHandle<Result<(), PublishError>>,
    link: Arc<Link>,
}

impl Publishing {
    /// Waits for the end, and closes every connection; whether all that was counted has arrived.
    pub(super) async fn finish(self) -> bool {
        let published = matches!(self.ended.await, Ok(Ok(())));
        self.link.close();
        published
    }
}

impl Shared {
    /// Opens what lies on this machine; Redis itself is first spoken to when somebody asks, and may be away.
    pub(super) fn open(
        redis: &RedisBoot,
        folder: &Path,
        peppers: &Arc<Peppers>,
        usage: &Usage,
        clock: &Arc<dyn Clock>,
    ) -> Result<Arc<Self>, AppError> {
        let link = Link::new(settings_of(redis));
        let outbox = Outbox::open(folder)?;
        let records = SharedRecords::new(Arc::clone(&link), Arc::clone(clock), Arc::clone(peppers) as _, Some(outbox));
        let members = records.follower().members();
        let buckets = SharedBuckets::new(Arc::clone(&link), Arc::clone(&members), Tuning::default());
        let share = Arc::new(LocalShare::new(LocalBuckets::new(Arc::clone(usage.ledger())), members));
        let counts = SharedCounts::new(Arc::clone(&link), Arc::clone(clock));
        Ok(Arc::new(Self { link, records, buckets, share, counts }))
    }

    pub(super) fn records(&self) -> &Arc<SharedRecords> {
        &self.records
    }

    pub(super) fn buckets(&self) -> &Arc<SharedBuckets> {
        &self.buckets
    }

    pub(super) fn share(&self) -> &Arc<LocalShare> {
        &self.share
    }

    pub(super) fn counts(&self) -> &Arc<SharedCounts> {
        &self.counts
    }

    /// Connects, and follows the changes that others make, until `end`.
    pub(super) fn follow(&self, tasks: &TaskTracker, end: &CancellationToken) {
        self.link.start();
        tasks.spawn(tell_findings(Arc::clone(&self.link), end.clone()));
        let hints = self.link.subscribe(self.records.hint_channel());
        let follow = FollowChanges { records: Arc::clone(&self.records), hints, poll_every: follow_changes::POLL_EVERY };
        tasks.spawn(follow_changes::run(follow, end.clone()));
    }

    /// Who will tell the other sidecars what this one counts; made before the first request is counted.
    pub(super) fn publisher(&self, usage: &Arc<Usage>, clock: &Arc<dyn Clock>, every: Duration) -> Result<Publisher, AppError> {
        let follower = self.records.follower();
        let signals = Signals { link_changes: self.link.changes(), resets: follower.resets(), members: follower.members() };
        let (publish, handle) = PublishUsage::new(Arc::clone(usage), Arc::clone(&self.counts), signals, Arc::clone(clock), every)?;
        Ok(Publisher { publish, status: Arc::clone(handle.status()), link: Arc::clone(&self.link) })
    }

    /// Why a key that nobody asked about lately would get no verdict now.
    pub(super) fn trouble(&self) -> Option<String> {
        let follower = self.records.follower();
        // Asked first, and it alone decides: with it all is well, whatever a single connection or one node of a cluster goes through.
        if follower.is_confirmed() {
            return None;
        }
        let state = self.link.state();
        let refused = state.findings.into_iter().find(|finding| finding.severity == Severity::Refuse);
        let why = match refused {
            Some(finding) => Some(format!("{} is not used: {}", finding.server, finding.what)),
            None => state.servers.into_iter().find_map(|server| server.fault).or(state.fault),
        };
        let since = match follower.lease_age(monotonic()) {
            None => "Redis has not answered since the start".to_owned(),
            Some(age) => format!("Redis has not confirmed for {} s what is known of keys and users", age.as_secs()),
        };
        Some(why.map_or_else(|| since.clone(), |why| format!("{since}: {why}")))
    }

    pub(super) fn measure(&self, metrics: &SharedMetrics, publishing: &PublishStatus, now: Timestamp) {
        self.measure_link(metrics);
        self.measure_records(metrics);
        self.measure_limits(metrics);
        self.measure_usage(metrics, publishing, now);
    }

    fn measure_link(&self, metrics: &SharedMetrics) {
        let state = self.link.state();
        metrics.redis_connected.set(i64::from(state.connected));
        metrics.redis_breaker_open.set(i64::from(state.breaker_open));
        let findings = |severity: Severity| state.findings.iter().filter(|finding| finding.severity == severity).count() as u64;
        metrics.redis_refused.set(gauge(findings(Severity::Refuse).min(1)));
        metrics.redis_warnings.set(gauge(findings(Severity::Warn)));
        catch_up(&metrics.redis_reconnects, state.reconnects);
        for calls in &state.calls {
            let lane = match calls.lane {
                Lane::Checks => "checks",
                Lane::Changes => "changes",
                Lane::Bulk => "bulk",
            };
            let counts = [calls.answered, calls.unreachable, calls.timed_out, calls.broken, calls.refused];
            for (result, count) in CALL_RESULTS.into_iter().zip(counts) {
                catch_up(&metrics.redis_calls.with_label_values(&[lane, result]), count);
            }
        }
        let mut errors: BTreeMap<&str, u64> = BTreeMap::new();
        for error in &state.errors {
            *errors.entry(code_label(&error.code)).or_default() += error.count;
        }
        for (code, count) in errors {
            catch_up(&metrics.redis_errors.with_label_values(&[code]), count);
        }
    }

    fn measure_records(&self, metrics: &SharedMetrics) {
        let follower = self.records.follower();
        metrics.changes_lease_held.set(i64::from(follower.is_confirmed()));
        let age = follower.lease_age(monotonic()).unwrap_or(Duration::ZERO);
        metrics.changes_lease_age_seconds.set(age.as_secs_f64());
        catch_up(&metrics.changes_polls.with_label_values(&["success"]), follower.polls());
        catch_up(&metrics.changes_polls.with_label_values(&["failure"]), follower.failed_polls());
        metrics.changes_lag.set(gauge(follower.lag()));
        for (cause, count) in [("loss", *follower.resets().borrow()), ("failover", follower.failovers()), ("gap", follower.gaps())] {
            catch_up(&metrics.changes_cache_resets.with_label_values(&[cause]), count);
        }
        catch_up(&metrics.changes_reapplied, follower.reapplied());
        metrics.sidecars.set(i64::from(follower.members().load(std::sync::atomic::Ordering::Relaxed)));
        metrics.outbox_entries.set(gauge(self.records.counts().outbox as u64));
    }

    fn measure_limits(&self, metrics: &SharedMetrics) {
        let buckets = self.buckets.status();
        catch_up(&metrics.limit_calls.with_label_values(&["exact"]), buckets.exact_calls);
        catch_up(&metrics.limit_calls.with_label_values(&["lease"]), buckets.leases);
        catch_up(&metrics.limit_leased, buckets.leased);
        catch_up(&metrics.limit_leased_unspent, buckets.lapsed);
        catch_up(&metrics.limit_remembered_refusals, buckets.remembered_refusals);
        catch_up(&metrics.limit_failures, buckets.failures);
        let share = self.share.status();
        for (result, count) in [("admitted", share.admitted), ("refused", share.refused), ("failure", share.failures)] {
            catch_up(&metrics.limit_local_share.with_label_values(&[result]), count);
        }
    }

    fn measure_usage(&self, metrics: &SharedMetrics, publishing: &PublishStatus, now: Timestamp) {
        catch_up(&metrics.usage_published_rows, publishing.published());
        catch_up(&metrics.usage_publish_failures, publishing.failures());
        metrics.usage_unpublished_seconds.set(publishing.oldest_unpublished_age(now).as_secs_f64());
        metrics.usage_unpublished_rows.set(gauge(publishing.unpublished()));
        catch_up(&metrics.usage_restatements, publishing.restatements());
        catch_up(&metrics.usage_writer_conflicts, publishing.conflicts());
        catch_up(&metrics.usage_saturated, self.counts.saturated());
        metrics.usage_quarantined.set(gauge(publishing.quarantined()));
    }
}

/// Says in the log what is the matter with a server, once for as long as it is so.
async fn tell_findings(link: Arc<Link>, end: CancellationToken) {
    let mut told: BTreeSet<Finding> = BTreeSet::new();
    while end.run_until_cancelled(tokio::time::sleep(LOOK_AT_FINDINGS_EVERY)).await.is_some() {
        let found: BTreeSet<Finding> = link.findings().into_iter().collect();
        for finding in found.difference(&told) {
            match finding.severity {
                Severity::Refuse => tracing::error!(server = finding.server, what = finding.what, "this Redis is not used"),
                Severity::Warn => tracing::warn!(server = finding.server, what = finding.what, "this Redis is used, with a reserve"),
            }
        }
        told = found;
    }
}

/// The config's words in the link's.
pub(super) fn settings_of(redis: &RedisBoot) -> Settings {
    Settings {
        mode: match &redis.mode {
            RedisMode::Standalone => Mode::Standalone,
            RedisMode::Sentinel { master_name } => Mode::Sentinel { master_name: master_name.to_string() },
            RedisMode::Cluster => Mode::Cluster,
        },
        servers: redis.servers.iter().map(server_of).collect(),
        database: i64::from(redis.database),
        login: login_of(&redis.login),
        sentinel_login: login_of(&redis.sentinel_login),
        tls: redis.tls.as_ref().map(|tls| TlsFiles { authorities: tls.authorities.clone(), client: tls.client.clone() }),
        prefix: redis.prefix.to_string(),
        timeouts: Timeouts { connect: redis.timeouts.connect, check: redis.timeouts.check, background: redis.timeouts.background },
        replicas: redis.replicas,
    }
}

fn server_of(server: &RedisServer) -> Server {
    match server {
        RedisServer::Tcp { host, port } => Server::Tcp { host: host.to_string(), port: *port },
        RedisServer::Unix(path) => Server::Unix(path.clone()),
    }
}

fn login_of(login: &RedisLogin) -> Login {
    let source = login.password.clone();
    Login {
        username: login.username.as_deref().map(str::to_owned),
        password: Arc::new(move || source.as_ref().map(|source| source.read().map(|password| password.to_vec())).transpose()),
    }
}
