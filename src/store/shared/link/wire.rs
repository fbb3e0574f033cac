//! One connection that keeps itself: a task opens it, watches it, leaves it when it fails and opens the next one. Callers never
//! connect; they find the door open, wait a moment for it, or hear at once that it is shut.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::RedisError;
use redis::Value;
use redis::aio::MultiplexedConnection;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::monotonic;
use crate::store::shared::link::LinkError;
use crate::store::shared::link::breaker::STRIKES;
use crate::store::shared::link::connect::refusal;
use crate::store::shared::link::connect::shortened;
use crate::store::shared::link::dial::Unfinished;
use crate::store::shared::link::keeper::keep;
use crate::store::shared::link::node::Purpose;
use crate::store::shared::link::node::Target;
use crate::store::shared::link::state::Notes;
use crate::store::shared::settings::Server;
use crate::store::shared::settings::Settings;

/// Whether callers may pass.
#[derive(Clone, Debug)]
pub(super) enum Door {
    /// A connection is being made for the first time, or in place of one that ended so: worth a moment's wait.
    Opening(Arc<str>),
    Open(Arc<Channel>),
    /// The breaker is open; only the task of the wire knocks.
    Shut(Arc<str>),
    Closed,
}

/// One connection in use.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) connection: MultiplexedConnection,
    pub(super) server: Server,
    pub(super) unfinished: Unfinished,
    /// Failures since the last answer.
    pub(super) strikes: AtomicU32,
    /// Rings when this connection is to be left.
    pub(super) left: Notify,
}

/// What the wires of one node tell one another.
#[derive(Debug, Default)]
pub(super) struct Contact {
    /// Rings when one of them has connected: the others need not sit out their pause.
    pub(super) made: Notify,
    /// Whether somebody was there when the last of them tried.
    pub(super) was_made: AtomicBool,
}

/// What one connection is for, and to whom.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) settings: Arc<Settings>,
    pub(super) notes: Arc<Notes>,
    pub(super) target: Target,
    pub(super) purpose: Purpose,
    pub(super) ended: CancellationToken,
    pub(super) contact: Arc<Contact>,
    pub(super) door: watch::Sender<Door>,
    /// Callers that gave up waiting for the first connection.
    pub(super) waited: AtomicU32,
    is_started: AtomicBool,
}

impl Wire {
    pub(super) fn new(
        settings: &Arc<Settings>,
        notes: &Arc<Notes>,
        target: Target,
        purpose: Purpose,
        contact: &Arc<Contact>,
        ended: &CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            settings: Arc::clone(settings),
            notes: Arc::clone(notes),
            target,
            purpose,
            ended: ended.clone(),
            contact: Arc::clone(contact),
            door: watch::Sender::new(Door::Opening("no connection yet".into())),
            waited: AtomicU32::new(0),
            is_started: AtomicBool::new(false),
        })
    }

    /// Begins to connect, unless that was begun before. Needs a runtime around it.
    pub(super) fn start(self: &Arc<Self>) {
        if !self.is_started.load(Ordering::Relaxed) && !self.is_started.swap(true, Ordering::Relaxed) {
            tokio::spawn(keep(Arc::clone(self)));
        }
    }

    /// None: callers may pass; else why not.
    pub(super) fn fault(&self) -> Option<String> {
        match &*self.door.borrow() {
            Door::Open(_) => None,
            Door::Opening(why) | Door::Shut(why) => Some(why.to_string()),
            Door::Closed => Some("the link is closed".to_owned()),
        }
    }

    /// To whom the connection in use leads.
    pub(super) fn server(&self) -> Option<Server> {
        match &*self.door.borrow() {
            Door::Open(channel) => Some(channel.server.clone()),
            Door::Opening(_) | Door::Shut(_) | Door::Closed => None,
        }
    }

    pub(super) fn is_shut(&self) -> bool {
        matches!(&*self.door.borrow(), Door::Shut(_))
    }

    /// The connection in use. Whoever is dropped while waiting for the first one counts as a failure.
    pub(super) async fn channel(self: &Arc<Self>) -> Result<Arc<Channel>, LinkError> {
        let passed = |door: &Door| match door {
            Door::Open(channel) => Some(Ok(Arc::clone(channel))),
            Door::Shut(why) => Some(Err(LinkError::Unreachable(why.to_string()))),
            Door::Closed => Some(Err(LinkError::Unreachable("the link is closed".to_owned()))),
            Door::Opening(_) => None,
        };
        if let Some(passed) = passed(&self.door.borrow()) {
            return passed;
        }
        let mut waiting = Waiting { wire: self, channel: None, since: monotonic(), is_settled: false };
        let mut door = self.door.subscribe();
        loop {
            if let Some(passed) = passed(&door.borrow_and_update()) {
                waiting.is_settled = true;
                return passed;
            }
            // The sender lives as long as `self`.
            let _ = door.changed().await;
        }
    }

    /// Sends a request over a connection and takes its answer. Whoever is dropped while waiting counts as a failure.
    pub(super) async fn ask(self: &Arc<Self>, channel: &Arc<Channel>, request: &Request) -> Result<Value, LinkError> {
        let mut waiting = Waiting { wire: self, channel: Some(channel), since: monotonic(), is_settled: false };
        let mut connection = channel.connection.clone();
        let answer = match request {
            Request::One(command) => connection.send_packed_command(command).await.and_then(Value::extract_error),
            Request::Asking(command) => asking(&mut connection, command).await,
        };
        waiting.is_settled = true;
        channel.unfinished.store(0, Ordering::Relaxed);
        let answer = answer.map_err(link_error);
        match &answer {
            Err(LinkError::Refused { code, why }) => self.weigh(channel, code, why),
            Err(LinkError::Broken(_)) | Err(LinkError::Unreachable(_)) | Err(LinkError::TimedOut(_)) => {}
            Ok(_) => channel.strikes.store(0, Ordering::Relaxed),
        }
        answer
    }

    /// What an error of the server says about the connection.
    pub(super) fn weigh(&self, channel: &Arc<Channel>, code: &str, why: &str) {
        match code {
            // No longer the primary, or no longer logged in: another connection may lead to one that is.
            "READONLY" | "LOADING" | "MASTERDOWN" | "NOAUTH" | "WRONGPASS" => {
                self.leave(channel, &refusal(code, why), false);
                self.target.nudge();
            }
            "BUSY" | "UNKILLABLE" => self.strike(channel, &refusal(code, why)),
            "CLUSTERDOWN" => {
                self.strike(channel, &refusal(code, why));
                self.target.nudge();
            }
            _ => channel.strikes.store(0, Ordering::Relaxed),
        }
    }

    pub(super) fn strike(&self, channel: &Arc<Channel>, why: &str) {
        if channel.strikes.fetch_add(1, Ordering::Relaxed) + 1 >= STRIKES {
            self.leave(channel, why, true);
        }
    }

    /// Gives a connection up, if it is still the one in use.
    pub(super) fn leave(&self, channel: &Arc<Channel>, why: &str, shut: bool) {
        let is_current = self.door.send_if_modified(|door| {
            let is_current = matches!(door, Door::Open(current) if Arc::ptr_eq(current, channel));
            if is_current {
                *door = if shut { Door::Shut(why.into()) } else { Door::Opening(why.into()) };
            }
            is_current
        });
        if is_current {
            tracing::warn!(server = %channel.server, lane = self.purpose.name(), why, "left a connection to Redis");
            channel.left.notify_one();
        }
    }

    /// The time within which this wire's calls are answered in normal running.
    pub(super) fn pace(&self) -> Duration {
        match self.purpose {
            Purpose::Checks => self.settings.timeouts.check,
            Purpose::Changes | Purpose::Bulk | Purpose::Commits => self.settings.timeouts.background,
        }
    }
}

/// What goes over a wire at once.
#[derive(Clone, Debug)]
pub(super) enum Request {
    One(redis::Cmd),
    /// The slot is on its way to this node, which must be told that we know.
    Asking(redis::Cmd),
}

async fn asking(connection: &mut MultiplexedConnection, command: &redis::Cmd) -> Result<Value, RedisError> {
    let mut both = redis::pipe();
    both.cmd("ASKING");
    both.add_command(command.clone());
    let answers = connection.send_packed_commands(&both, 0, 2).await?;
    answers.into_iter().nth(1).unwrap_or(Value::Nil).extract_error()
}

fn link_error(error: RedisError) -> LinkError {
    match error.code() {
        Some(code) => LinkError::Refused { code: code.to_owned(), why: shortened(error.detail().unwrap_or_default(), 400) },
        None => LinkError::Broken(shortened(&error.to_string(), 200)),
    }
}

/// Somebody who waits for an answer, or for the door. Dropped without one, the wait counts as a failure if it was long enough to say
/// anything about the server.
struct Waiting<'a> {
    wire: &'a Arc<Wire>,
    channel: Option<&'a Arc<Channel>>,
    since: Instant,
    is_settled: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.is_settled || self.since.elapsed() < self.wire.pace() / 2 {
            return;
        }
        let why = "it does not answer in time";
        match self.channel {
            Some(channel) => self.wire.strike(channel, why),
            None => {
                if self.wire.waited.fetch_add(1, Ordering::Relaxed) + 1 >= STRIKES {
                    self.wire.door.send_if_modified(|door| {
                        let is_opening = matches!(door, Door::Opening(_));
                        if is_opening {
                            *door = Door::Shut(why.into());
                        }
                        is_opening
                    });
                }
            }
        }
    }
}
