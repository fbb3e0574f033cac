//! One primary, wherever it is at the moment, and the wires to it: none waits for what another carries.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::store::shared::link::Lane;
use crate::store::shared::link::sentinel::Watch;
use crate::store::shared::link::state::Notes;
use crate::store::shared::link::trouble::Trouble;
use crate::store::shared::link::wire::Wire;
use crate::store::shared::settings::Server;
use crate::store::shared::settings::Settings;

/// What a connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Checks,
    Changes,
    Bulk,
    /// Commits that wait for replicas, which blocks their connection.
    Commits,
}

impl Purpose {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Checks => "checks",
            Self::Changes => "changes",
            Self::Bulk => "bulk",
            Self::Commits => "commits",
        }
    }
}

impl From<Lane> for Purpose {
    fn from(lane: Lane) -> Self {
        match lane {
            Lane::Checks => Self::Checks,
            Lane::Changes => Self::Changes,
            Lane::Bulk => Self::Bulk,
        }
    }
}

/// How a wire finds its server.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// One of these, in turn.
    Named(Arc<[Server]>),
    /// Whoever the Sentinels say.
    Watched(Arc<Watch>),
    /// This member of the cluster.
    Member(Server, Arc<Notify>),
}

impl Target {
    pub(super) async fn pick(&self, attempt: usize) -> Result<Server, Trouble> {
        match self {
            Self::Named(servers) => {
                servers.get(attempt % servers.len().max(1)).cloned().ok_or_else(|| "no server is named".to_owned().into())
            }
            Self::Watched(watch) => watch.primary().await,
            Self::Member(server, _) => Ok(server.clone()),
        }
    }

    /// Where the server is, as far as is known without asking.
    pub(super) fn known(&self) -> Option<Server> {
        match self {
            Self::Named(servers) => servers.first().cloned(),
            Self::Watched(watch) => watch.known(),
            Self::Member(server, _) => Some(server.clone()),
        }
    }

    /// Somebody had trouble: whoever knows the arrangement may want to look again.
    pub(super) fn nudge(&self) {
        match self {
            Self::Named(_) => {}
            Self::Watched(watch) => watch.nudge(),
            Self::Member(_, nudged) => nudged.notify_one(),
        }
    }

    /// Returns when this server is not the one any more.
    pub(super) async fn left(&self, server: &Server) {
        match self {
            Self::Watched(watch) => watch.left(server).await,
            Self::Named(_) | Self::Member(..) => std::future::pending().await,
        }
    }

    /// Returns when there is a new server to try since this call, whenever it is waited for.
    pub(super) fn moved(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        match self {
            Self::Watched(watch) => Box::pin(watch.moved()),
            Self::Named(_) | Self::Member(..) => Box::pin(std::future::pending()),
        }
    }
}

/// The wires to one primary. They end with this value.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) target: Target,
    checks: Arc<Wire>,
    changes: Arc<Wire>,
    bulk: Arc<Wire>,
    commits: Arc<Wire>,
    ended: CancellationToken,
}

impl Node {
    pub(super) fn new(settings: &Arc<Settings>, notes: &Arc<Notes>, target: Target, ended: &CancellationToken) -> Arc<Self> {
        let ended = ended.child_token();
        let contact = Arc::default();
        let wire = |purpose| Wire::new(settings, notes, target.clone(), purpose, &contact, &ended);
        Arc::new(Self {
            checks: wire(Purpose::Checks),
            changes: wire(Purpose::Changes),
            bulk: wire(Purpose::Bulk),
            commits: wire(Purpose::Commits),
            target,
            ended,
        })
    }

    /// Begins to connect. Commits that wait for replicas may never come, so their wire waits for the first one.
    pub(super) fn start(&self) {
        self.checks.start();
        self.changes.start();
        self.bulk.start();
    }

    pub(super) fn wire(&self, purpose: Purpose) -> &Arc<Wire> {
        let wire = match purpose {
            Purpose::Checks => &self.checks,
            Purpose::Changes => &self.changes,
            Purpose::Bulk => &self.bulk,
            Purpose::Commits => &self.commits,
        };
        // All lanes begin with the first call of any, so that none of them pays for its connection later.
        self.start();
        wire.start();
        wire
    }

    pub(super) fn fault(&self) -> Option<String> {
        self.checks.fault()
    }

    /// Where the primary is, as far as is known.
    pub(super) fn place(&self) -> Option<Server> {
        self.checks.server().or_else(|| self.target.known())
    }

    /// Whether somebody was there when it was last connected to.
    pub(super) fn was_reached(&self) -> bool {
        self.checks.contact.was_made.load(Ordering::Relaxed)
    }

    pub(super) fn is_shut(&self) -> bool {
        self.checks.is_shut()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}
