//! What the link knows of itself: plain data for metrics and readiness, and the counters behind it.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use tokio::sync::watch;

use crate::store::shared::link::Lane;
use crate::store::shared::link::LinkError;
use crate::store::shared::link::connect::shortened;
use crate::store::shared::link::findings::Finding;
use crate::store::shared::link::findings::Identity;
use crate::store::shared::link::findings::Severity;
use crate::store::shared::link::trouble::Trouble;
use crate::store::shared::settings::Server;

/// Pairs of script and error code that are counted apart; further ones share one line.
const ERROR_LINES_MAX: usize = 128;

/// The link at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkState {
    /// Every primary can be asked by checks, and all slots have one.
    pub connected: bool,
    /// Some primary's breaker keeps it off the request path.
    pub breaker_open: bool,
    /// Somebody was there at each of them when it was last connected to, whether or not it is used.
    pub is_reached: bool,
    /// Why no primary is known.
    pub fault: Option<String>,
    /// The primaries in use, in the order of their places.
    pub servers: Vec<ServerState>,
    /// One for each lane.
    pub calls: Vec<LaneCalls>,
    /// What servers and scripts refused so far.
    pub errors: Vec<ErrorCount>,
    /// Connections made in place of earlier ones.
    pub reconnects: u64,
    /// Of all servers in use; refusals first.
    pub findings: Vec<Finding>,
}

/// One primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerState {
    pub place: String,
    /// `redis` or `valkey`; empty where it may not be asked.
    pub product: String,
    pub version: String,
    pub replication_id: String,
    /// None: it can be asked by checks; else why not.
    pub fault: Option<String>,
}

/// What became of a lane's calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneCalls {
    pub lane: Lane,
    pub answered: u64,
    pub refused: u64,
    pub timed_out: u64,
    pub broken: u64,
    pub unreachable: u64,
}

/// How often a script was refused with a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorCount {
    /// The script's name; `command` for what is no script, `connect` for what is said before any.
    pub script: &'static str,
    pub code: String,
    pub count: u64,
}

#[derive(Debug, Default)]
struct Counters {
    answered: AtomicU64,
    refused: AtomicU64,
    timed_out: AtomicU64,
    broken: AtomicU64,
    unreachable: AtomicU64,
}

/// What a server said when it was met last.
type Met = (Option<Identity>, Vec<Finding>);

/// What all parts of the link write down.
#[derive(Debug)]
pub(super) struct Notes {
    checks: Counters,
    changes: Counters,
    bulk: Counters,
    reconnects: AtomicU64,
    errors: Mutex<BTreeMap<(&'static str, String), u64>>,
    servers: Mutex<BTreeMap<Server, Met>>,
    risen: watch::Sender<u64>,
}

impl Notes {
    pub(super) fn new() -> Self {
        Self {
            checks: Counters::default(),
            changes: Counters::default(),
            bulk: Counters::default(),
            reconnects: AtomicU64::new(0),
            errors: Mutex::default(),
            servers: Mutex::default(),
            risen: watch::Sender::new(0),
        }
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.risen.subscribe()
    }

    /// Something changed that may mean other data behind the link.
    pub(super) fn rise(&self) {
        self.risen.send_modify(|risen| *risen += 1);
    }

    pub(super) fn reconnected(&self) {
        self.reconnects.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn settled<T>(&self, lane: Lane, script: &'static str, outcome: &Result<T, LinkError>) {
        let counters = self.counters(lane);
        let counter = match outcome {
            Ok(_) => &counters.answered,
            Err(LinkError::Unreachable(_)) => &counters.unreachable,
            Err(LinkError::TimedOut(_)) => &counters.timed_out,
            Err(LinkError::Broken(_)) => &counters.broken,
            Err(LinkError::Refused { code, .. }) => {
                self.count_error(script, code);
                &counters.refused
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts what a server said to somebody who connected.
    pub(super) fn troubled(&self, trouble: &Trouble) {
        if let Some(code) = &trouble.code {
            self.count_error("connect", code);
        }
    }

    fn count_error(&self, script: &'static str, code: &str) {
        let mut errors = lock(&self.errors);
        let key = (script, shortened(code, 32));
        let is_known = errors.contains_key(&key);
        let key = if is_known || errors.len() < ERROR_LINES_MAX { key } else { ("other", "other".to_owned()) };
        *errors.entry(key).or_default() += 1;
    }

    fn counters(&self, lane: Lane) -> &Counters {
        match lane {
            Lane::Checks => &self.checks,
            Lane::Changes => &self.changes,
            Lane::Bulk => &self.bulk,
        }
    }

    /// Takes down what a server said; another one than before at this place is a change.
    pub(super) fn met(&self, server: &Server, identity: Option<Identity>, findings: Vec<Finding>) {
        let mut servers = lock(&self.servers);
        let before = servers.insert(server.clone(), (identity.clone(), findings));
        drop(servers);
        if before.is_some_and(|(before, _)| before != identity) {
            self.rise();
        }
    }

    /// The server's data may be other data now: it was promoted, or began to follow another one.
    pub(super) fn heard_replication(&self, server: &Server, replication: &str) {
        let mut servers = lock(&self.servers);
        let Some((Some(identity), _)) = servers.get_mut(server) else {
            return;
        };
        if identity.replication != replication {
            identity.replication = replication.to_owned();
            drop(servers);
            self.rise();
        }
    }

    /// Forgets servers that are no longer in use.
    pub(super) fn keep_only(&self, in_use: impl Fn(&Server) -> bool) {
        lock(&self.servers).retain(|server, _| in_use(server));
    }

    /// Why a server is not to be used, as it was found last.
    pub(super) fn refusal(&self, server: &Server) -> Option<String> {
        let servers = lock(&self.servers);
        let (_, findings) = servers.get(server)?;
        findings.iter().find(|finding| finding.severity == Severity::Refuse).map(|finding| finding.what.clone())
    }

    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut findings: Vec<Finding> = lock(&self.servers).values().flat_map(|(_, findings)| findings.clone()).collect();
        findings.sort();
        findings
    }

    /// All but what only the connections themselves know.
    pub(super) fn state(&self, faults: Vec<(Server, Option<String>)>, is_whole: bool) -> LinkState {
        let known = lock(&self.servers).clone();
        let servers: Vec<ServerState> = faults
            .into_iter()
            .map(|(server, fault)| {
                let identity = known.get(&server).and_then(|(identity, _)| identity.clone()).unwrap_or_default();
                let Identity { product, version, replication, .. } = identity;
                ServerState { place: server.to_string(), product, version, replication_id: replication, fault }
            })
            .collect();
        let errors =
            lock(&self.errors).iter().map(|((script, code), count)| ErrorCount { script, code: code.clone(), count: *count }).collect();
        LinkState {
            connected: is_whole && !servers.is_empty() && servers.iter().all(|server| server.fault.is_none()),
            breaker_open: false,
            is_reached: false,
            fault: None,
            servers,
            calls: [Lane::Checks, Lane::Changes, Lane::Bulk].into_iter().map(|lane| self.calls(lane)).collect(),
            errors,
            reconnects: self.reconnects.load(Ordering::Relaxed),
            findings: self.findings(),
        }
    }

    fn calls(&self, lane: Lane) -> LaneCalls {
        let counters = self.counters(lane);
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LaneCalls {
            lane,
            answered: read(&counters.answered),
            refused: read(&counters.refused),
            timed_out: read(&counters.timed_out),
            broken: read(&counters.broken),
            unreachable: read(&counters.unreachable),
        }
    }
}

/// No state behind these locks can be left half written, so a panic elsewhere does not spoil it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
