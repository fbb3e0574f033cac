//! From a call to an answer: over which connection, through which redirections, and what was certainly not run.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::Value;
use tokio::time::sleep;
use tokio::time::timeout;

use crate::store::shared::link::Call;
use crate::store::shared::link::LinkError;
use crate::store::shared::link::cluster::Circle;
use crate::store::shared::link::node::Node;
use crate::store::shared::link::node::Purpose;
use crate::store::shared::link::slots::redirection;
use crate::store::shared::link::slots::slot_of;
use crate::store::shared::link::wire::Channel;
use crate::store::shared::link::wire::Request;
use crate::store::shared::link::wire::Wire;
use crate::store::shared::settings::Server;

/// Redirections that one call follows.
const HOPS_MAX: usize = 5;
/// A slot whose keys are on their way is asked again after this.
const UNDER_WAY: Duration = Duration::from_millis(10);

/// How a key's server is found.
#[derive(Clone, Debug)]
pub(super) enum Way {
    One(Arc<Node>),
    Circle(Arc<Circle>),
}

impl Way {
    /// Returns when this server is not the one to speak to any more.
    pub(super) async fn left(&self, server: &Server) {
        match self {
            Self::One(node) => node.target.left(server).await,
            Self::Circle(_) => std::future::pending().await,
        }
    }

    /// Puts work to whoever owns its slot, wherever that has gone.
    pub(super) async fn deliver(&self, purpose: Purpose, work: Work<'_>, sent: &AtomicBool) -> Result<Delivered, LinkError> {
        let circle = match self {
            Way::One(node) => return attempt(node, purpose, work, false, sent).await,
            Way::Circle(circle) => circle,
        };
        let slot = work.slot();
        let mut node = circle.owner(slot).await?;
        let mut is_asking = false;
        let mut hops = 0;
        loop {
            let outcome = attempt(&node, purpose, work, is_asking, sent).await;
            let Err(LinkError::Refused { code, why }) = &outcome else {
                return outcome;
            };
            let to = redirection(why, &node.target.known().unwrap_or(Server::Unix(std::path::PathBuf::new())));
            hops += 1;
            let next = match (code.as_str(), to) {
                _ if hops > HOPS_MAX => None,
                ("MOVED", Some((slot, to))) => {
                    is_asking = false;
                    circle.moved(slot, &to)
                }
                ("ASK", Some((_, to))) => {
                    is_asking = true;
                    circle.member(&to)
                }
                ("TRYAGAIN", _) => {
                    sleep(UNDER_WAY).await;
                    Some(Arc::clone(&node))
                }
                _ => None,
            };
            let Some(next) = next else {
                return outcome;
            };
            sent.store(false, Ordering::Relaxed);
            node = next;
        }
    }
}

/// What is to be done at a server.
#[derive(Clone, Copy, Debug)]
pub(super) enum Work<'a> {
    Script(&'a Call),
    Command(&'a redis::Cmd),
}

impl Work<'_> {
    fn slot(self) -> u16 {
        match self {
            Self::Script(call) => slot_of(call.keys.first().map_or(&[], Vec::as_slice)),
            Self::Command(command) => match command.args_iter().nth(1) {
                Some(redis::Arg::Simple(key)) => slot_of(key),
                Some(_) | None => 0,
            },
        }
    }

    /// `whole`: with the script's text, for a server that does not know it yet.
    fn command(self, whole: bool) -> redis::Cmd {
        match self {
            Self::Script(call) => call.script.command(call, whole),
            Self::Command(command) => command.clone(),
        }
    }
}

/// An answer, and over which connection it came.
#[derive(Debug)]
pub(super) struct Delivered {
    pub(super) value: Value,
    pub(super) wire: Arc<Wire>,
    pub(super) channel: Arc<Channel>,
}

/// Bounds a delivery; what was not sent when the time is over did not run.
pub(super) async fn bounded<T>(
    within: Duration,
    sent: &AtomicBool,
    delivery: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    // Whoever asks over and over, and hears no at once, must not keep the thread from the tasks that make the connections.
    tokio::task::coop::consume_budget().await;
    match timeout(within, delivery).await {
        Ok(outcome) => outcome,
        Err(_elapsed) if sent.load(Ordering::Relaxed) => Err(LinkError::TimedOut(within)),
        Err(_elapsed) => Err(LinkError::Unreachable(format!("no connection within {within:?}"))),
    }
}

/// One primary's answer. What it certainly did not run, because it is the primary no longer or does not know us any more, is put once
/// more to whoever the next connection leads to.
pub(super) async fn attempt(
    node: &Node,
    purpose: Purpose,
    work: Work<'_>,
    is_asking: bool,
    sent: &AtomicBool,
) -> Result<Delivered, LinkError> {
    let wire = node.wire(purpose);
    let request = |whole| if is_asking { Request::Asking(work.command(whole)) } else { Request::One(work.command(whole)) };
    let mut is_second = false;
    loop {
        let channel = wire.channel().await?;
        sent.store(true, Ordering::Relaxed);
        let outcome = match wire.ask(&channel, &request(false)).await {
            Err(LinkError::Refused { code, .. }) if code == "NOSCRIPT" => wire.ask(&channel, &request(true)).await,
            outcome => outcome,
        };
        match outcome {
            Ok(value) => return Ok(Delivered { value, wire: Arc::clone(wire), channel }),
            Err(LinkError::Refused { code, .. }) if !is_second && matches!(code.as_str(), "READONLY" | "MASTERDOWN" | "NOAUTH") => {
                sent.store(false, Ordering::Relaxed);
                is_second = true;
            }
            Err(error) => return Err(error),
        }
    }
}
