//! The way to the server: one call is one script on keys of one slot, within a time that its caller names.
//!
//! Each primary has a connection for each lane, and each connection a task that opens it, watches it and leaves it when it fails.
//! Callers never connect and never knock: three failures in a row shut the door, and while it is shut they hear so at once.
//!
//! - [`wire`], [`keeper`]: one such connection and its task. [`breaker`]: how long the pauses are. [`node`]: all of one primary's.
//! - [`inspect`]: what a server says about itself, for people who set it up.
//! - [`connect`], [`dial`]: from nothing to a connection that is logged in; [`trouble`]: or to none. [`findings`]: what is checked of a server before it is used.
//! - [`sentinel`], [`cluster`], [`slots`], [`panel`]: which server is the primary, or the owner of a slot.
//! - [`delivery`]: from a call to an answer. [`hints`]: messages, best effort. [`state`]: what metrics and readiness read.
//!
//! # What an error means
//!
//! A call that is refused or cannot be sent did not run, and may be made again. One that timed out or whose connection broke may have
//! run; only its caller knows whether running twice would hurt, so it is never repeated here.

mod breaker;
mod cluster;
mod connect;
mod delivery;
mod dial;
mod findings;
mod hints;
mod inspect;
mod keeper;
mod node;
mod panel;
pub mod script;
mod sentinel;
mod slots;
mod state;
mod trouble;
mod wire;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use redis::Value;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::store::StoreError;
use crate::store::shared::link::cluster::Circle;
use crate::store::shared::link::delivery::Delivered;
use crate::store::shared::link::delivery::Way;
use crate::store::shared::link::delivery::Work;
use crate::store::shared::link::delivery::attempt;
use crate::store::shared::link::delivery::bounded;
pub use crate::store::shared::link::findings::Finding;
pub use crate::store::shared::link::findings::Severity;
pub use crate::store::shared::link::inspect::ServerFacts;
use crate::store::shared::link::node::Node;
use crate::store::shared::link::node::Purpose;
use crate::store::shared::link::node::Target;
use crate::store::shared::link::script::Script;
use crate::store::shared::link::sentinel::Watch;
pub use crate::store::shared::link::state::ErrorCount;
pub use crate::store::shared::link::state::LaneCalls;
pub use crate::store::shared::link::state::LinkState;
use crate::store::shared::link::state::Notes;
pub use crate::store::shared::link::state::ServerState;
use crate::store::shared::link::wire::Request;
use crate::store::shared::settings::Mode;
use crate::store::shared::settings::Server;
use crate::store::shared::settings::Settings;

/// Replicas are waited for in slices, so that commits on one connection do not wait for one another's patience.
const WAIT_SLICE: Duration = Duration::from_millis(25);

/// Which of the connections: none waits for what another carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// What a request waits for.
    Checks,
    /// The polling of changes, whose delay is a promise.
    Changes,
    /// Commits (which may wait for replicas) and usage.
    Bulk,
}

/// One run of a script.
#[derive(Clone, Debug)]
pub struct Call {
    pub script: &'static Script,
    /// Whole key names; all of them in one slot.
    pub keys: Vec<Vec<u8>>,
    pub args: Vec<Vec<u8>>,
}

/// Why a call brought no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// It certainly did not run: there is no connection to use, or the breaker is open.
    #[error("no connection to Redis can be used: {0}")]
    Unreachable(String),
    /// It may have run.
    #[error("Redis did not answer within {0:?}")]
    TimedOut(Duration),
    /// It may have run.
    #[error("the connection to Redis broke: {0}")]
    Broken(String),
    /// The server said no, and nothing was written.
    #[error("Redis refused: {code} {why}")]
    Refused { code: String, why: String },
}

impl From<LinkError> for StoreError {
    fn from(error: LinkError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// The connections to the server. Cheap to share; reconnects by itself.
#[derive(Debug)]
pub struct Link {
    settings: Arc<Settings>,
    notes: Arc<Notes>,
    way: Way,
    ended: CancellationToken,
}

impl Link {
    /// Nothing is connected before the first call.
    pub fn new(settings: Settings) -> Arc<Self> {
        let settings = Arc::new(settings);
        let notes = Arc::new(Notes::new());
        let ended = CancellationToken::new();
        let one = |target| Way::One(Node::new(&settings, &notes, target, &ended));
        let way = match &settings.mode {
            Mode::Standalone => one(Target::Named(settings.servers.clone().into())),
            Mode::Sentinel { master_name } => one(Target::Watched(Watch::new(&settings, &notes, master_name, &ended))),
            Mode::Cluster => Way::Circle(Circle::new(&settings, &notes, &ended)),
        };
        Arc::new(Self { settings, notes, way, ended })
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Begins to connect, which every call does too. Needs a runtime around it.
    pub fn start(&self) {
        match &self.way {
            Way::One(node) => node.start(),
            Way::Circle(circle) => circle.start(),
        }
    }

    /// Runs a script; its answer as the server gave it.
    ///
    /// # Errors
    /// [`LinkError`] says whether it may have run.
    pub async fn run(&self, lane: Lane, call: Call, within: Duration) -> Result<Value, LinkError> {
        let name = call.script.name;
        let sent = AtomicBool::new(false);
        let outcome = bounded(within, &sent, self.way.deliver(lane.into(), Work::Script(&call), &sent)).await;
        self.notes.settled(lane, name, &outcome);
        outcome.map(|delivered| delivered.value)
    }

    /// Runs a script and waits until this many replicas have it; the answer, and how many have.
    ///
    /// # Errors
    /// As [`Self::run`]; replicas that are late are no error.
    pub async fn run_replicated(&self, call: Call, replicas: u8, patience: Duration) -> Result<(Value, u8), LinkError> {
        if replicas == 0 {
            return self.run(Lane::Bulk, call, self.settings.timeouts.background).await.map(|value| (value, 0));
        }
        let name = call.script.name;
        let within = self.settings.timeouts.background.saturating_add(WAIT_SLICE);
        let sent = AtomicBool::new(false);
        let outcome = bounded(within, &sent, self.way.deliver(Purpose::Commits, Work::Script(&call), &sent)).await;
        self.notes.settled(Lane::Bulk, name, &outcome);
        let Delivered { value, wire, channel } = outcome?;
        let mut acknowledged = 0;
        // The server counts the replicas that have what was written over this very connection, so no other will do.
        let waiting = async {
            loop {
                let mut wait = redis::cmd("WAIT");
                wait.arg(replicas).arg(u64::try_from(WAIT_SLICE.min(patience).as_millis()).unwrap_or(1).max(1));
                let Ok(Value::Int(count)) = wire.ask(&channel, &Request::One(wait)).await else {
                    return;
                };
                acknowledged = u8::try_from(count).unwrap_or(u8::MAX);
                if acknowledged >= replicas {
                    return;
                }
            }
        };
        // Out of patience: what has been heard so far is the answer.
        let _ = timeout(patience, waiting).await;
        Ok((value, acknowledged))
    }

    /// Any other command, such as PING or INFO. In a cluster its first argument is taken for its key, so a command without one goes
    /// to any member.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn command(&self, lane: Lane, command: redis::Cmd, within: Duration) -> Result<Value, LinkError> {
        let sent = AtomicBool::new(false);
        let outcome = bounded(within, &sent, self.way.deliver(lane.into(), Work::Command(&command), &sent)).await;
        self.notes.settled(lane, "command", &outcome);
        outcome.map(|delivered| delivered.value)
    }

    /// The same to one primary, by its place as [`ServerState`] names it: for what each of a cluster's has to be asked for itself.
    ///
    /// # Errors
    /// As [`Self::run`]; and when no primary is there.
    pub async fn command_at(&self, place: &str, lane: Lane, command: redis::Cmd, within: Duration) -> Result<Value, LinkError> {
        let sent = AtomicBool::new(false);
        let delivery = async {
            let node = self.node_at(place).await?;
            attempt(&node, lane.into(), Work::Command(&command), false, &sent).await
        };
        let outcome = bounded(within, &sent, delivery).await;
        self.notes.settled(lane, "command", &outcome);
        outcome.map(|delivered| delivered.value)
    }

    /// The places of all primaries, for [`Self::command_at`]; waits for a cluster's first table.
    ///
    /// # Errors
    /// When no member of the cluster answers.
    pub async fn places(&self, within: Duration) -> Result<Vec<String>, LinkError> {
        self.start();
        if let Way::Circle(circle) = &self.way {
            timeout(within, circle.wait_until_known()).await.map_err(|_elapsed| LinkError::TimedOut(within))??;
        }
        Ok(self.nodes().0.into_iter().map(|(server, _)| server.to_string()).collect())
    }

    /// What is published under this name from now on, best effort: an empty message after each (re)connection, since something may
    /// have been missed; what is not read in time is dropped. It ends with the receiver or the link.
    pub fn subscribe(&self, channel: &str) -> mpsc::Receiver<Vec<u8>> {
        hints::listen(Arc::clone(&self.settings), self.way.clone(), channel.to_owned(), self.ended.clone())
    }

    /// A number that rises with each reconnection and each change of who the servers are.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.notes.changes()
    }

    /// What was found at the servers in use; refusals first.
    pub fn findings(&self) -> Vec<Finding> {
        self.notes.findings()
    }

    /// How things are.
    pub fn state(&self) -> LinkState {
        let (nodes, is_whole) = self.nodes();
        let breaker_open = nodes.iter().any(|(_, node)| node.is_shut());
        let were_reached = !nodes.is_empty() && nodes.iter().all(|(_, node)| node.was_reached());
        let is_nobody_known = nodes.is_empty();
        let faults = nodes.into_iter().map(|(server, node)| (server, node.fault())).collect();
        let mut state = self.notes.state(faults, is_whole);
        state.breaker_open = breaker_open;
        state.is_reached = were_reached;
        if is_nobody_known {
            (state.fault, state.is_reached) = match &self.way {
                Way::One(node) => (node.fault(), node.was_reached()),
                Way::Circle(circle) => circle.trouble().map_or((None, false), |trouble| (Some(trouble.what), trouble.was_reached)),
            };
        }
        state
    }

    /// Ends every connection and task; calls fail from now on.
    pub fn close(&self) {
        self.ended.cancel();
    }

    fn nodes(&self) -> (Vec<(Server, Arc<Node>)>, bool) {
        match &self.way {
            Way::One(node) => (node.place().map(|server| (server, Arc::clone(node))).into_iter().collect(), true),
            Way::Circle(circle) => circle.members(),
        }
    }

    async fn node_at(&self, place: &str) -> Result<Arc<Node>, LinkError> {
        match &self.way {
            Way::One(node) => Ok(Arc::clone(node)),
            Way::Circle(circle) => {
                circle.wait_until_known().await?;
                let found = circle.members().0.into_iter().find(|(server, _)| server.to_string() == place);
                found.map(|(_, node)| node).ok_or_else(|| LinkError::Unreachable(format!("no primary is at {place}")))
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.close();
    }
}
