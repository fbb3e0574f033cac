//! Sockets, for every door: binding them, accepting on them without ever giving up, TLS whose files may change, and an orderly end.

pub mod address;
pub mod http;
pub mod tls;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::listen::address::Address;
use crate::listen::address::Listener;
use crate::listen::address::SocketFile;
use crate::listen::tls::Tls;
use crate::telemetry::Metrics;

/// A TLS handshake takes no longer.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// The first and the longest pause after the system refused a connection (no file descriptor, no memory).
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_LONGEST: Duration = Duration::from_secs(1);

/// A connection, whatever carries it.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// One accepted connection.
pub struct Connection {
    pub io: Box<dyn Io>,
    /// None over a Unix socket.
    pub peer: Option<SocketAddr>,
    /// Counts up with every connection of the listener.
    pub number: u64,
    pub ending: Ending,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Connection").field("peer", &self.peer).field("number", &self.number).finish_non_exhaustive()
    }
}

/// How a connection learns that it should end.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    /// Finish what is under way and take nothing new.
    pub drain: CancellationToken,
    /// Now.
    pub cut: CancellationToken,
}

/// A listener with its connections.
#[derive(Debug)]
pub struct Server {
    address: Address,
    ending: Ending,
    tasks: TaskTracker,
    socket: Option<SocketFile>,
}

/// How the last connections ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// By themselves.
    Cleanly,
    /// The time was up first.
    Cut,
}

impl Server {
    /// Accepts on `listener` until [`Self::shutdown`], handing every connection to `serve`; at most `connections_max` live at once,
    /// and what comes beyond them is closed at once, so that its peer tries elsewhere.
    pub fn start<S, F>(listener: Listener, tls: Option<Arc<Tls>>, connections_max: usize, metrics: Arc<Metrics>, serve: S) -> Self
    where
        S: Fn(Connection) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let ending = Ending::default();
        let tasks = TaskTracker::new();
        let address = listener.address().clone();
        let socket = listener.socket_file();
        let accepting = accept_all(listener, tls, connections_max, metrics, Arc::new(serve), ending.clone(), tasks.clone());
        tasks.spawn(accepting);
        Self { address, ending, tasks, socket }
    }

    /// Where it can be reached; the real port where 0 was asked for.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Stops accepting, lets connections finish for at most `grace`, cuts the rest, and removes the socket file.
    pub async fn shutdown(self, grace: Duration) -> Drained {
        self.ending.drain.cancel();
        self.tasks.close();
        let drained = match tokio::time::timeout(grace, self.tasks.wait()).await {
            Ok(()) => Drained::Cleanly,
            Err(_elapsed) => {
                self.ending.cut.cancel();
                self.tasks.wait().await;
                Drained::Cut
            }
        };
        if let Some(socket) = self.socket {
            socket.remove();
        }
        drained
    }
}

async fn accept_all<S, F>(
    listener: Listener,
    tls: Option<Arc<Tls>>,
    connections_max: usize,
    metrics: Arc<Metrics>,
    serve: Arc<S>,
    ending: Ending,
    tasks: TaskTracker,
) where
    S: Fn(Connection) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let name = listener.name();
    let slots = Arc::new(Semaphore::new(connections_max));
    let open = metrics.connections.with_label_values(&[name]);
    let accepted = metrics.connections_total.with_label_values(&[name]);
    let refused = metrics.connections_refused.with_label_values(&[name]);
    let errors = metrics.accept_errors.with_label_values(&[name]);
    let mut pause = PAUSE_FIRST;
    let mut number: u64 = 0;
    loop {
        let next = tokio::select! {
            () = ending.drain.cancelled() => return,
            next = listener.accept() => next,
        };
        let (io, peer) = match next {
            Ok(connection) => connection,
            Err(error) if is_the_peers_doing(&error) => {
                errors.inc();
                continue;
            }
            Err(error) => {
                // Asking again at once would spin: the connection still waits, and the descriptor is still missing.
                errors.inc();
                tracing::warn!(listener = name, %error, "cannot accept connections; trying again");
                tokio::select! {
                    () = ending.drain.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = pause.saturating_mul(2).min(PAUSE_LONGEST);
                continue;
            }
        };
        pause = PAUSE_FIRST;
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            refused.inc();
            continue;
        };
        number = number.wrapping_add(1);
        accepted.inc();
        let (tls, serve, ending, open) = (tls.clone(), Arc::clone(&serve), ending.clone(), open.clone());
        tasks.spawn(async move {
            open.inc();
            let _leaving = Leaving(open);
            let _slot = slot;
            let io = match tls {
                None => io,
                Some(tls) => match tokio::time::timeout(HANDSHAKE_TIME_MAX, tls.accept(io)).await {
                    Ok(Ok(io)) => io,
                    Ok(Err(error)) => return tracing::debug!(listener = name, %error, "TLS handshake failed"),
                    Err(_elapsed) => return tracing::debug!(listener = name, "TLS handshake took too long"),
                },
            };
            serve(Connection { io, peer, number, ending }).await;
        });
    }
}

/// Keeps the gauge right however a connection's task ends.
struct Leaving(prometheus::IntGauge);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The connection was gone before it was accepted: nothing is wrong with the listener.
fn is_the_peers_doing(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted)
}
