//! What a start leaves running, and its end.
//!
//! # The end
//!
//! 1. Health says NOT_SERVING and `/readyz` 503, while everything is still judged, for `drain_delay`: whoever balances looks away.
//! 2. No connection is accepted any more; those that there are get a GOAWAY and finish what is under way, for at most `grace`.
//! 3. The background tasks end; what waits of Envoy's access log is counted; usage is flushed a last time, and told to a shared store;
//!    the sockets' files are removed; the stores are closed; the last lines are written and the last spans are sent.
//!
//! What is cut short in step 2 was never answered, so nobody was let through uncounted.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::shared::Publishing;
use crate::grpc::Door;
use crate::grpc::access_log::Counter;
use crate::grpc::server::CheckServer;
use crate::listen::Drained;
use crate::listen::Server;
use crate::listen::address::Address;
use crate::ops::readiness::Readiness;
use crate::recording::recorder;
use crate::tasks::flush_usage::FlushError;
use crate::telemetry::decisions::Writer;
use crate::telemetry::traces;

/// How long the operator's listener may finish its pages at the end.
const OPS_GRACE: Duration = Duration::from_secs(1);
/// How long the last spans may take.
const TRACES_GRACE: Duration = Duration::from_secs(2);

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything under way was answered, and everything counted is in the history.
    Cleanly,
    /// The grace was up before the last check; it was cut, and not let through.
    Cut,
    /// The last flush failed; the counts are in the ledger, and the next start flushes them.
    Unflushed,
    /// Redis was not told of the last counts; they are in this sidecar's folder, and the next start on it tells them.
    Unpublished,
}

/// A started program.
#[derive(Debug)]
pub struct Running {
    pub(super) check: CheckServer,
    pub(super) ops: Server,
    /// None: this node issues nothing.
    pub(super) issuer: Option<Server>,
    pub(super) door: Arc<Door>,
    pub(super) readiness: Arc<Readiness>,
    pub(super) writer: Writer,
    /// None: Envoy's access log is not taken.
    pub(super) access_log: Option<Counter>,
    /// None: nothing is recorded.
    pub(super) recording: Option<recorder::Writer>,
    /// None: nothing is traced.
    pub(super) tracing: Option<traces::Sender>,
    pub(super) tasks: TaskTracker,
    /// Ends the background tasks.
    pub(super) end: CancellationToken,
    /// Ends the flushing of usage, after everything that counts.
    pub(super) flush_end: CancellationToken,
    pub(super) flushing: JoinHandle<Result<(), FlushError>>,
    /// Ends the publishing of usage, after its last flush.
    pub(super) publish_end: CancellationToken,
    /// With a shared store only.
    pub(super) publishing: Option<Publishing>,
    pub(super) drain_delay: Duration,
    pub(super) grace: Duration,
}

impl Running {
    /// Where checks are answered; the real port where 0 was asked for.
    pub fn check_address(&self) -> &Address {
        self.check.server.address()
    }

    /// Where the issuer is reached; none: this node issues nothing.
    pub fn issuer_address(&self) -> Option<&Address> {
        self.issuer.as_ref().map(Server::address)
    }

    /// Where the operator's pages are.
    pub fn ops_address(&self) -> &Address {
        self.ops.address()
    }

    /// The door itself, for what runs in the same process.
    pub fn door(&self) -> &Arc<Door> {
        &self.door
    }

    /// Returns when the program cannot go on by itself: usage is not flushed or not published any more.
    pub async fn failed(&self) {
        tokio::select! {
            () = self.flush_end.cancelled() => {}
            () = self.publish_end.cancelled() => {}
        }
    }

    /// The orderly end, in the order that the head of this file tells.
    pub async fn shutdown(self) -> Ended {
        let Self {
            check,
            ops,
            issuer,
            door,
            readiness,
            writer,
            access_log,
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
        } = self;
        readiness.set_draining();
        check.announce_end().await;
        tokio::time::sleep(drain_delay).await;

        let issuing = async {
            match issuer {
                Some(issuer) => issuer.shutdown(grace).await,
                None => Drained::Cleanly,
            }
        };
        let (drained, _issued) = tokio::join!(check.server.shutdown(grace), issuing);
        end.cancel();
        tasks.close();
        // A request on the control socket may be under way, or idle and open: it gets no more time than a check.
        let _ = tokio::time::timeout(grace, tasks.wait()).await;

        if let Some(counter) = access_log {
            // Before the last flush; a ledger that hangs holds nobody up for long.
            let _ = tokio::time::timeout(grace, tokio::task::spawn_blocking(|| counter.finish())).await;
        }
        flush_end.cancel();
        let flushed = flushing.await;
        publish_end.cancel();
        let published = match publishing {
            None => true,
            Some(publishing) => publishing.finish().await,
        };
        ops.shutdown(OPS_GRACE).await;
        drop(door);
        // The writer waits for a disk or a pipe, and the last line is worth waiting for, but not without end.
        let last_lines = tokio::task::spawn_blocking(|| {
            if let Some(recording) = recording {
                recording.finish();
            }
            writer.finish();
        });
        // A collector may be slow, or away.
        let last_spans = tokio::task::spawn_blocking(|| tracing.map(traces::Sender::finish));
        let _ = tokio::join!(tokio::time::timeout(OPS_GRACE, last_lines), tokio::time::timeout(TRACES_GRACE, last_spans));
        match (flushed, published, drained) {
            (Ok(Err(_)) | Err(_), _, Drained::Cleanly | Drained::Cut) => Ended::Unflushed,
            (Ok(Ok(())), false, Drained::Cleanly | Drained::Cut) => Ended::Unpublished,
            (Ok(Ok(())), true, Drained::Cleanly) => Ended::Cleanly,
            (Ok(Ok(())), true, Drained::Cut) => Ended::Cut,
        }
    }
}
