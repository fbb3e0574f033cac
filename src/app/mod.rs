//! The composition root: a config goes in, running servers come out, and go down again in order. Alone knows the concrete stores.

pub mod examine;
pub mod hosted;
pub mod moving;

mod counts;
mod engine;
mod measured;
mod open;
mod running;
mod shared;
mod watchers;
mod wording;

#[cfg(test)]
mod tests;

use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::counts::Shown;
use crate::app::engine::Engine;
use crate::app::hosted::Shelves;
use crate::app::hosted::issuer_state;
use crate::app::measured::Measured;
use crate::app::open::Opened;
use crate::app::open::door_of;
use crate::app::open::open_in_turn;
pub use crate::app::running::Ended;
pub use crate::app::running::Running;
use crate::app::watchers::Counting;
use crate::app::watchers::KeyRings;
use crate::app::watchers::PartsOf;
use crate::app::watchers::fetched_issuers;
use crate::app::wording::DoorsWording;
use crate::check::Gate;
use crate::check::guard::Guard;
use crate::clock::Clock;
use crate::config::Boot;
use crate::config::Loaded;
use crate::config::Watched;
use crate::config::boot::AccessLog as AccessLogSetting;
use crate::config::boot::Listen;
use crate::grpc::Door;
use crate::grpc::access_log::AccessLog;
use crate::grpc::access_log::Counter;
use crate::grpc::server::CheckServer;
use crate::grpc::server::ServerOptions;
use crate::issuer;
use crate::issuer::control::Control;
use crate::issuer::control::ControlError;
use crate::issuer::explain;
use crate::issuer::explain::Explainer;
use crate::jose::Assertions;
use crate::jose::Tokens;
use crate::jose::ring::RingError;
use crate::jose::signer::Signer;
use crate::listen::Server;
use crate::listen::address::BindError;
use crate::listen::address::Endpoint;
use crate::listen::address::Listener;
use crate::listen::http;
use crate::listen::tls::Protocol;
use crate::listen::tls::TlsError;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;
use crate::ops::Access;
use crate::ops::Ops;
use crate::ops::readiness::Readiness;
use crate::ops::router;
use crate::ops::user_series::UserSeries;
use crate::recording::recorder;
use crate::recording::recorder::Recorder;
use crate::secrets::Peppers;
use crate::secrets::random_bytes;
use crate::store::Records;
use crate::store::embedded::OpenError;
use crate::store::shared::outbox::OutboxError;
use crate::tasks::flush_usage::FlushUsage;
use crate::tasks::refresh_jwks;
use crate::tasks::refresh_jwks::RefreshJwks;
use crate::tasks::refresh_jwks::fetch::Fetcher;
use crate::tasks::reload;
use crate::tasks::reload::Looked;
use crate::tasks::reload::Reload;
use crate::tasks::reload::ReloadStatus;
use crate::tasks::rotate_keys;
use crate::tasks::rotate_keys::IssuerRing;
use crate::tasks::rotate_keys::RingKind;
use crate::tasks::rotate_keys::RotateKeys;
use crate::telemetry::Metrics;
use crate::telemetry::access_log_metrics::AccessLogMetrics;
use crate::telemetry::decisions::DecisionLog;
use crate::telemetry::decisions::QUEUE_LENGTH;
use crate::telemetry::metrics::MetricsError;
use crate::telemetry::traces;
use crate::telemetry::traces::Collector;
use crate::telemetry::traces::Sampling;
use crate::telemetry::traces::Traces;
use crate::telemetry::traces::TracesError;
use crate::usage::HistoryError;
use crate::usage::LedgerError;
use crate::usage::Usage;
use crate::usage::UsageError;

/// Checks in flight beyond this are shed: at the usual few microseconds each, a queue of this length is already late.
const IN_FLIGHT_MAX: usize = 10_000;
/// Verified tokens that are remembered.
const TOKENS_MAX: usize = 100_000;
/// Connections of the operator's listener; scrapers and probes need a handful.
const OPS_CONNECTIONS_MAX: usize = 64;
/// Connections of the issuer's listener.
const ISSUER_CONNECTIONS_MAX: usize = 4_096;
/// How often certificate files are looked at.
const TLS_POLL: Duration = Duration::from_secs(10);

/// How long a folder that another process has is waited for. Commands have it for far less; a process that serves keeps it.
pub(crate) const HELD_TIME_MAX: Duration = Duration::from_secs(5);
/// How soon it is tried again.
pub(crate) const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// What a start needs.
pub struct Start {
    pub loaded: Loaded,
    /// The config's file and what to watch; none: the rules stay as they are.
    pub watch: Option<(PathBuf, Watched)>,
    pub clock: Arc<dyn Clock>,
    /// Where decisions are logged.
    pub decisions: Box<dyn Write + Send>,
}

impl std::fmt::Debug for Start {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Start").field("watch", &self.watch).finish_non_exhaustive()
    }
}

/// Why nothing runs.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    #[error(transparent)]
    Peppers(#[from] crate::secrets::PepperFileError),
    #[error("the config's list of peppers is empty; name at least one, or leave `peppers` out to have one made")]
    NoPeppers,
    #[error("the folder {} cannot be made: {source}", path.display())]
    Folder { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    #[error("the signing keys cannot be had: {0}")]
    Ring(#[from] RingError),
    #[error("usage cannot be counted: {0}")]
    Usage(#[from] UsageError),
    #[error("listen.{door}: {source}")]
    Bind { door: &'static str, source: BindError },
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("no thread for Envoy's access log: {0}")]
    AccessLog(std::io::Error),
    #[error("no thread for the decision log: {0}")]
    DecisionLog(std::io::Error),
    #[error(transparent)]
    Traces(#[from] TracesError),
    #[error("{} cannot be recorded to: {source}; name another `record.file`, or leave `record` out", file.display())]
    Recording { file: PathBuf, source: std::io::Error },
}

impl AppError {
    /// Who has a folder that was to be opened, and which; it may be free again soon.
    pub fn holder(&self) -> Option<(&str, &Path)> {
        match self {
            Self::Store(OpenError::InUse { folder, owner }) => Some((owner, folder)),
            Self::Outbox(OutboxError::InUse { path })
            | Self::Usage(UsageError::Ledger(LedgerError::Locked { path }) | UsageError::History(HistoryError::Locked { path })) => {
                Some(("another process", path))
            }
            Self::Metrics(_)
            | Self::Peppers(_)
            | Self::NoPeppers
            | Self::Folder { .. }
            | Self::Store(_)
            | Self::Outbox(_)
            | Self::Ring(_)
            | Self::Usage(_)
            | Self::Bind { .. }
            | Self::Control(_)
            | Self::Tls(_)
            | Self::AccessLog(_)
            | Self::DecisionLog(_)
            | Self::Traces(_)
            | Self::Recording { .. } => None,
        }
    }
}

/// Opens the stores, binds the listeners, starts the tasks. When it returns, every listener accepts.
///
/// # Errors
/// [`AppError`], with what to do about it; nothing runs then.
pub async fn start(start: Start) -> Result<Running, AppError> {
    let Start { loaded, watch, clock, decisions } = start;
    let boot = loaded.boot.clone();
    check_ports(&boot).await?;
    let Opened { peppers, engine, usage } = open_in_turn(&boot, &clock).await?;
    let metrics = Arc::new(engine.metrics()?);
    let records: Arc<dyn Records> = Arc::new(Measured::new(engine.records(), Arc::clone(&metrics), Arc::clone(&clock)));
    let assertions = Arc::new(signing_keys(&engine, &*records, &peppers, clock.now()).await?);
    // Bound before anything runs: a port that is taken must not cost a half-started process.
    let (check_endpoint, check_tls) = door_of(&boot.check, Protocol::Http2)?;
    // First that of the port alone, which leaves no file.
    let ops_listener = bind(&Endpoint::Tcp(boot.ops.addr), "ops").await?;
    let check_listener = bind(&check_endpoint, "check").await?;
    let ops_tls = boot.ops.tls.as_ref().map(|tls| open::load_tls(tls, Protocol::Http1)).transpose()?;
    let issuer_listener = match &boot.issuer {
        Some(listen) => {
            let (endpoint, tls) = door_of(listen, Protocol::Http1)?;
            Some((bind(&endpoint, "issuer").await?, tls))
        }
        None => None,
    };
    let control = match &boot.control {
        Some(Listen::Unix { path, .. }) => Some(Control::bind(path).await?),
        // The config lets the control socket be nothing else.
        Some(Listen::Tcp { .. }) | None => None,
    };
    let signer = Arc::new(signer_for(&loaded.rules, &*records, &peppers, clock.now()).await?);
    let (decisions, writer) = DecisionLog::start(decisions, QUEUE_LENGTH, &metrics).map_err(AppError::DecisionLog)?;
    let (recorder, recording) = record(&boot, &peppers, &metrics)?.unzip();
    let (traces, tracing) = trace(&boot, &metrics)?.unzip();

    let revision = Arc::clone(&loaded.rules.revision);
    let reload_status = Arc::new(ReloadStatus::new(revision, clock.now()));
    let (rules, reload) = take_rules(loaded, watch, &reload_status);
    tell_rules(&rules.load(), &metrics);
    let tokens = Arc::new(Tokens::new(TOKENS_MAX));
    signer.tell(&tokens);
    let counts = engine.counts(&usage);
    let shown = Shown::new(counts.clone(), Arc::clone(&usage), Arc::clone(&records), Arc::clone(&rules), Arc::clone(&clock));
    let shown = Arc::new(shown);
    let gate = Arc::new(Gate {
        facts: engine.facts(),
        last_known: engine.last_known(),
        limits: engine.limits(&usage),
        local_share: engine.local_share(),
        ledger: Arc::clone(usage.ledger()) as Arc<_>,
        tokens: Arc::clone(&tokens),
        assertions: Arc::clone(&assertions),
        peppers: Arc::clone(&peppers),
        guard: Guard::new(),
    });
    let judging = Arc::clone(&gate);
    let explainer = Arc::new(Explainer::over(&gate, Arc::clone(&rules), Arc::clone(&clock), Arc::new(DoorsWording)));
    let door = Arc::new(Door {
        gate,
        rules: Arc::clone(&rules),
        clock: Arc::clone(&clock),
        metrics: Arc::clone(&metrics),
        decisions,
        stats: shown.clone(),
        recorder,
        traces,
        in_flight_max: IN_FLIGHT_MAX,
        in_flight: AtomicUsize::new(0),
    });

    let publisher = match &engine {
        Engine::Embedded(_) => None,
        Engine::Shared(shared) => Some(shared.publisher(&usage, &clock, boot.ledger_flush_interval)?),
    };
    let (tasks, end, flush_end) = (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
    let (flush, flush_handle) = FlushUsage::new(Arc::clone(&usage), Arc::clone(&clock), boot.ledger_flush_interval);
    let flushing = tokio::spawn(flush.run(flush_end.clone()));
    let publish_end = CancellationToken::new();
    let publishing = publisher.map(|publisher| publisher.start(publish_end.clone()));
    if let Engine::Shared(shared) = &engine {
        shared.follow(&tasks, &end);
    }
    let issuer_tls = issuer_listener.as_ref().and_then(|(_, tls)| tls.clone());
    let tls: Vec<_> = [("check", &check_tls), ("issuer", &issuer_tls), ("ops", &ops_tls)]
        .into_iter()
        .filter_map(|(name, tls)| Some((name, tls.clone()?)))
        .collect();
    let listeners = std::iter::once(&check_listener).chain(issuer_listener.as_ref().map(|(listener, _)| listener));
    let parts = PartsOf {
        reload: reload_status,
        rules: Arc::clone(&rules),
        engine: engine.clone(),
        usage: Arc::clone(&usage),
        flush: Arc::clone(flush_handle.status()),
        publish: publishing.as_ref().map(|publishing| Arc::clone(&publishing.status)),
        tokens: Arc::clone(&tokens),
        assertions: Arc::clone(&assertions),
        signer: Arc::clone(&signer),
        tls: tls.clone(),
        sockets: listeners.filter_map(|listener| Some((listener.name(), listener.socket_file()?))).collect(),
        clock: Arc::clone(&clock),
    };
    let readiness = Arc::new(Readiness::starting(parts));
    for (_, tls) in tls {
        tasks.spawn(tls.watch(TLS_POLL, Arc::clone(&metrics), end.clone()));
    }
    let counting = Arc::new(Counting::new(Arc::clone(&metrics), Arc::clone(&rules), Arc::clone(&clock)));
    tasks.spawn(refresh_jwks::run(
        RefreshJwks {
            tokens: Arc::clone(&tokens),
            rules: Arc::clone(&rules),
            fetcher: Fetcher::new(),
            clock: Arc::clone(&clock),
            observer: counting.clone(),
            seed: random_bytes().map(u64::from_ne_bytes).unwrap_or_default(),
        },
        end.clone(),
    ));
    let issuing = IssuerRing { signer: Arc::clone(&signer), tokens, rules: Arc::clone(&rules), changes: engine.ring_changes() };
    for (ring, look_every) in [
        (RingKind::Assertions(Arc::clone(&assertions)), rotate_keys::LOOK_EVERY),
        (RingKind::Issuer(issuing), rotate_keys::LOOK_AT_ISSUER_EVERY),
    ] {
        let task = RotateKeys {
            ring,
            records: Arc::clone(&records),
            peppers: Arc::clone(&peppers),
            clock: Arc::clone(&clock),
            rotate_every: rotate_keys::ROTATE_EVERY,
            look_every,
            observer: counting.clone(),
        };
        tasks.spawn(rotate_keys::run(task, end.clone()));
    }
    if let Some(reload) = reload {
        let (rules, metrics) = (Arc::clone(&rules), Arc::clone(&metrics));
        let after = move |looked: &Looked| after_reload(looked, &rules.load(), &metrics);
        tasks.spawn(reload::run(reload, Arc::clone(&clock), after, end.clone()));
    }

    let options = ServerOptions {
        connection_age_max: Some(boot.max_connection_age).filter(|age| !age.is_zero()),
        connection_grace: boot.grace,
        ..ServerOptions::default()
    };
    let (access_log, access_log_counter) = match boot.access_log {
        AccessLogSetting::Accepted => Some(take_access_log(&usage, &rules, &clock, &metrics)?).unzip(),
        AccessLogSetting::Refused => (None, None),
    };
    let check = CheckServer::start(check_listener, check_tls, Arc::clone(&door), access_log, options).await;
    let shelves = Shelves { records, peppers, counts, observer: counting, gate: judging, signer: Arc::clone(&signer) };
    let state = issuer_state(shelves, Arc::clone(&rules), clock);
    tasks.spawn({
        let (state, end) = (state.clone(), end.clone());
        async move {
            end.cancelled().await;
            issuer::audit::finish(&state).await;
        }
    });
    if let Some(control) = control {
        let resource_api = issuer::router(state.clone()).merge(explain::router(explainer));
        tasks.spawn(control.serve(resource_api, end.clone().cancelled_owned()));
    }
    let issuer = issuer_listener.map(|(listener, tls)| {
        let pages = issuer::public_router(state);
        Server::start(listener, tls, ISSUER_CONNECTIONS_MAX, Arc::clone(&metrics), move |connection| http::serve(connection, pages.clone()))
    });
    let access = Access {
        token: boot.ops.token.as_ref().map(|token| token.expose().to_vec().into()),
        mutual_tls: boot.ops.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()),
    };
    let pages = router(Arc::new(Ops {
        access,
        readiness: Arc::clone(&readiness),
        metrics: Arc::clone(&metrics),
        stats: shown,
        keys: Arc::new(KeyRings { assertions, signer: Arc::clone(&signer), rules: Arc::clone(&rules) }),
        series: UserSeries::default(),
    }));
    let ops = Server::start(ops_listener, ops_tls, OPS_CONNECTIONS_MAX, metrics, move |connection| http::serve(connection, pages.clone()));
    readiness.set_ready();
    let Boot { drain_delay, grace, .. } = boot;
    Ok(Running {
        check,
        ops,
        issuer,
        door,
        readiness,
        writer,
        access_log: access_log_counter,
        recording,
        tracing,
        tasks,
        end,
        flush_end,
        flushing,
        publish_end,
        publishing,
        drain_delay,
        grace,
    })
}

/// Where no folder has been made yet, a port that is taken leaves none behind. Where there is one, whoever has it is waited for, and so
/// are its ports.
async fn check_ports(boot: &Boot) -> Result<(), AppError> {
    if boot.store_path.exists() {
        return Ok(());
    }
    let doors = [(Some(&boot.check), "check"), (boot.issuer.as_ref(), "issuer")];
    let ports = doors.into_iter().filter_map(|(listen, door)| match listen? {
        Listen::Tcp { addr, .. } => Some((*addr, door)),
        Listen::Unix { .. } => None,
    });
    for (addr, door) in ports.chain([(boot.ops.addr, "ops")]) {
        bind(&Endpoint::Tcp(addr), door).await?;
    }
    Ok(())
}

async fn bind(endpoint: &Endpoint, door: &'static str) -> Result<Listener, AppError> {
    Listener::bind(endpoint, door).await.map_err(|source| AppError::Bind { door, source })
}

/// Starts the recorder where the config asks for one.
fn record(boot: &Boot, peppers: &Peppers, metrics: &Metrics) -> Result<Option<(Arc<Recorder>, recorder::Writer)>, AppError> {
    let Some(asked) = &boot.record else { return Ok(None) };
    let options = recorder::Options { file: asked.file.clone(), share: asked.share, bytes_max: asked.bytes_max };
    let started = Recorder::start(options, peppers.disguise(), metrics);
    started.map(Some).map_err(|source| AppError::Recording { file: asked.file.clone(), source })
}

/// Starts tracing where the config asks for it.
fn trace(boot: &Boot, metrics: &Metrics) -> Result<Option<(Arc<Traces>, traces::Sender)>, TracesError> {
    let Some(asked) = &boot.traces else { return Ok(None) };
    let sampling = Sampling { share: asked.share, follows_parents: asked.follows_parents, per_second_max: asked.per_second_max };
    let collector = Collector { endpoint: asked.endpoint.clone(), authorities: asked.authorities.clone() };
    Traces::start(sampling, &collector, metrics).map(Some)
}

/// A store of our own that cannot be read is no store. Redis may be away for a while: until it is back, what has to be signed is a fault.
async fn signing_keys(engine: &Engine, records: &dyn Records, peppers: &Peppers, now: Timestamp) -> Result<Assertions, RingError> {
    match engine {
        Engine::Embedded(_) => Assertions::load_or_create(records, peppers, now).await,
        Engine::Shared(_) => Assertions::load_or_wait(records, peppers, now).await,
    }
}

/// Only where the rules say that something is issued: else no ring is made, until they do.
async fn signer_for(rules: &Rules, records: &dyn Records, peppers: &Peppers, now: Timestamp) -> Result<Signer, RingError> {
    match rules.issuance {
        Some(_) => Signer::load_or_create(records, peppers, now).await,
        None => Ok(Signer::default()),
    }
}

/// Envoy's access log is counted where its requests were, beside them.
fn take_access_log(
    usage: &Usage,
    rules: &Arc<ArcSwap<Rules>>,
    clock: &Arc<dyn Clock>,
    metrics: &Metrics,
) -> Result<(Arc<AccessLog>, Counter), AppError> {
    let own = Arc::new(AccessLogMetrics::register(metrics)?);
    let ledger = Arc::clone(usage.ledger()) as Arc<_>;
    AccessLog::start(ledger, Arc::clone(rules), Arc::clone(clock), own).map_err(AppError::AccessLog)
}

/// The rules in force from now on, and who changes them when the file changes.
fn take_rules(loaded: Loaded, watch: Option<(PathBuf, Watched)>, status: &Arc<ReloadStatus>) -> (Arc<ArcSwap<Rules>>, Option<Reload>) {
    let Loaded { boot, rules, .. } = loaded;
    let rules = Arc::new(ArcSwap::from_pointee(rules));
    let reload = watch.map(|(path, watched)| Reload::new(path, boot, watched, Arc::clone(&rules), Arc::clone(status)));
    (rules, reload)
}

fn after_reload(looked: &Looked, rules: &Rules, metrics: &Metrics) {
    match looked {
        Looked::Unchanged | Looked::Changed => {}
        Looked::Reloaded { .. } => tell_rules(rules, metrics),
        Looked::Refused(_) => {}
    }
}

fn tell_rules(rules: &Rules, metrics: &Metrics) {
    let routes = rules.routes.iter().map(|route| &route.name);
    metrics.rules_changed(&rules.revision, routes, rules.tiers.keys(), rules.usage_series_limit);
    let issuers: Vec<_> = fetched_issuers(rules).map(|(name, _)| name).collect();
    metrics.issuers_changed(issuers.iter());
}
