//! The shared store in one sidecar: the link to Redis, the records, the limits, and what they say about themselves.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::watch;
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
use crate::store::shared::link::Link;
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
use crate::telemetry::shared_metrics::SharedMetrics;
use crate::usage::LocalBuckets;
use crate::usage::LocalShare;
use crate::usage::Usage;

/// Hints that wait to be followed; one is as good as many.
const HINTS_WAITING: usize = 1;

/// Everything in this process that speaks with Redis.
#[derive(Debug)]
pub(super) struct Shared {
    link: Arc<Link>,
    records: Arc<SharedRecords>,
    buckets: Arc<SharedBuckets>,
    share: Arc<LocalShare>,
    counts: Arc<SharedCounts>,
    changes: watch::Sender<u64>,
}

/// The telling of counts, under way.
#[derive(Debug)]
pub(super) struct Publishing {
    pub(super) status: Arc<PublishStatus>,
    pub(super) ended: JoinHandle<Result<(), PublishError>>,
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
        Ok(Arc::new(Self { link, records, buckets, share, counts, changes: watch::Sender::new(0) }))
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

    /// Follows the changes that others make, until `end`.
    pub(super) fn follow(&self, tasks: &TaskTracker, end: &CancellationToken) {
        let (_hint, hints) = mpsc::channel(HINTS_WAITING);
        let follow = FollowChanges { records: Arc::clone(&self.records), hints, poll_every: follow_changes::POLL_EVERY };
        tasks.spawn(follow_changes::run(follow, end.clone()));
    }

    /// Tells the other sidecars what this one counted, until `end` and once more then.
    pub(super) fn publish(&self, usage: &Arc<Usage>, clock: &Arc<dyn Clock>, every: Duration, end: CancellationToken) -> Publishing {
        let signals = Signals { link_changes: self.changes.subscribe(), resets: self.records.follower().resets() };
        let (publish, handle) = PublishUsage::new(Arc::clone(usage), Arc::clone(&self.counts), signals, Arc::clone(clock), every);
        Publishing { status: Arc::clone(handle.status()), ended: tokio::spawn(publish.run(end)) }
    }

    /// Why a key that nobody asked about lately would get no verdict now.
    pub(super) fn trouble(&self) -> Option<String> {
        let follower = self.records.follower();
        if follower.is_confirmed() {
            return None;
        }
        Some(match follower.lease_age(monotonic()) {
            None => "Redis has not answered since the start; checks of keys and managed users are faults until it does".to_owned(),
            Some(age) => format!("Redis has not confirmed for {} s what is known of keys and users", age.as_secs()),
        })
    }

    pub(super) fn measure(&self, metrics: &SharedMetrics, publishing: &PublishStatus, now: Timestamp) {
        self.measure_records(metrics);
        self.measure_limits(metrics);
        self.measure_usage(metrics, publishing, now);
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
