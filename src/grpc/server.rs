//! HTTP/2 for the check listener: bounds on what one connection may ask for, a bounded age, an orderly end.
//!
//! The accept loop is ours (`listen`) and not tonic's, because tonic's spins while file descriptors are missing, and with a grace for
//! aged connections it cuts them without a GOAWAY first.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthReporter;
use tonic_health::server::HealthService;

use crate::grpc::Door;
use crate::grpc::access_log::AccessLog;
use crate::grpc::gather::OneBuffer;
use crate::grpc::gather::Pieces;
use crate::grpc::service::SERVICE;
use crate::grpc::service::Services;
use crate::listen::Connection;
use crate::listen::Server;
use crate::listen::address::Listener;
use crate::listen::tls::Tls;

/// When clients vanish, Envoy resets their checks; h2's small default takes that for an attack and closes the connection under
/// everybody else. The only peer is Envoy, so the bound is in proportion to the streams that it may have open.
const RESETS_PER_STREAM: usize = 64;
const HEADER_LIST_MAX: u32 = 16 * 1024;

/// Bounds of the check listener.
#[derive(Clone, Copy, Debug)]
pub struct ServerOptions {
    pub connections_max: usize,
    /// Checks that one connection may have open.
    pub streams_max: u32,
    /// After this (give or take a tenth, so that not all reconnect at once) a connection is asked to go elsewhere.
    pub connection_age_max: Option<Duration>,
    /// How long an aged connection may finish what it has under way.
    pub connection_grace: Duration,
    /// A connection that has asked nothing for so long after it was made is given up.
    pub first_request_time_max: Duration,
    pub keepalive_interval: Duration,
    pub keepalive_timeout: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            streams_max: 1024,
            connection_age_max: None,
            connection_grace: Duration::from_secs(10),
            first_request_time_max: Duration::from_secs(30),
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
        }
    }
}

/// The check listener, serving, and the switch of its health.
#[derive(Debug)]
pub struct CheckServer {
    pub server: Server,
    health: HealthReporter,
}

impl CheckServer {
    /// Serves `door`, and the access log where it is taken, on `listener`; health is SERVING from the first connection on.
    pub async fn start(
        listener: Listener,
        tls: Option<Arc<Tls>>,
        door: Arc<Door>,
        access_log: Option<Arc<AccessLog>>,
        options: ServerOptions,
    ) -> Self {
        let health = HealthReporter::new();
        let metrics = Arc::clone(&door.metrics);
        let services = Services::new(door, HealthServer::new(HealthService::from_health_reporter(health.clone())), access_log);
        let this = |server| Self { server, health };
        let server =
            Server::start(listener, tls, options.connections_max, metrics, move |connection| serve(connection, services.clone(), options));
        let this = this(server);
        this.set_health(ServingStatus::Serving).await;
        this
    }

    /// Tells health checkers that nothing new should be sent; what comes is still judged.
    pub async fn announce_end(&self) {
        self.set_health(ServingStatus::NotServing).await;
    }

    async fn set_health(&self, status: ServingStatus) {
        for service in ["", SERVICE] {
            self.health.set_service_status(service, status).await;
        }
    }
}

async fn serve(connection: Connection, services: Services, options: ServerOptions) {
    let Connection { io, number, ending, .. } = connection;
    let has_asked = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&has_asked);
    let leave = CancellationToken::new();
    let leaving = leave.clone();
    let service = service_fn(move |request| {
        asked.store(true, Ordering::Relaxed);
        let (services, leaving) = (services.clone(), leaving.clone());
        async move { Ok::<_, Infallible>(services.serve(request, leaving).await.map(Pieces::of)) }
    });
    let mut http = pin!(builder(options).serve_connection(OneBuffer(TokioIo::new(io)), service));
    let mut stage = Stage::Open;
    let mut age = pin!(tokio::time::sleep(options.connection_age_max.map_or(Duration::MAX, |age| spread(age, number))));
    let mut first_request = pin!(tokio::time::sleep(options.first_request_time_max));
    let mut awaits_first_request = true;
    let mut grace = pin!(tokio::time::sleep(Duration::MAX));
    loop {
        tokio::select! {
            ended = &mut http => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended badly");
                }
                return;
            }
            () = ending.cut.cancelled() => return,
            () = ending.drain.cancelled(), if stage != Stage::Draining => {
                // Its bound is the server's.
                stage = Stage::Draining;
                http.as_mut().graceful_shutdown();
                leave.cancel();
            }
            () = &mut age, if stage == Stage::Open => {
                stage = Stage::Aged;
                http.as_mut().graceful_shutdown();
                leave.cancel();
                grace.set(tokio::time::sleep(options.connection_grace));
            }
            () = &mut grace, if stage == Stage::Aged => return,
            () = &mut first_request, if awaits_first_request => {
                // The conditions of branches are read when waiting begins, so whether somebody asked must be looked up now.
                if !has_asked.load(Ordering::Relaxed) {
                    return;
                }
                awaits_first_request = false;
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    Aged,
    Draining,
}

fn builder(options: ServerOptions) -> http2::Builder<TokioExecutor> {
    let resets_max = RESETS_PER_STREAM.saturating_mul(usize::try_from(options.streams_max).unwrap_or(usize::MAX));
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(options.streams_max)
        .max_pending_accept_reset_streams(resets_max)
        .max_local_error_reset_streams(resets_max)
        .max_header_list_size(HEADER_LIST_MAX)
        .keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout);
    builder
}

/// `age` give or take a tenth, the same for the same connection.
fn spread(age: Duration, number: u64) -> Duration {
    // The golden ratio spreads successive numbers evenly.
    let part = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 44;
    let per_mille = 900 + u32::try_from(part % 201).unwrap_or_default();
    age.saturating_mul(per_mille) / 1000
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::sync::atomic::AtomicUsize;
    use std::task::Context;
    use std::task::Poll;

    use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
    use futures_util::future::join_all;
    use tokio::io::AsyncRead;
    use tokio::io::AsyncWrite;
    use tokio::io::DuplexStream;
    use tokio::io::ReadBuf;
    use tonic::transport::Endpoint;

    use super::*;
    use crate::grpc::testing::door;
    use crate::grpc::testing::message;
    use crate::listen::Ending;
    use crate::model::rules::FaultAnswer;

    /// Counts the writes of a connection that takes several buffers at once, as sockets do.
    struct Counted(DuplexStream, Arc<AtomicUsize>);

    impl AsyncRead for Counted {
        fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(context, into)
        }
    }

    impl AsyncWrite for Counted {
        fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut self.0).poll_write(context, bytes)
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffers: &[io::IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut self.0).poll_write_vectored(context, buffers)
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(context)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(context)
        }
    }

    #[tokio::test]
    async fn answers_to_many_leave_together() {
        const CHECKS: usize = 64;
        let (client, server) = tokio::io::duplex(1024 * 1024);
        let writes = Arc::new(AtomicUsize::new(0));
        let io = Box::new(Counted(server, Arc::clone(&writes)));
        let connection = Connection { io, peer: None, number: 1, ending: Ending::default() };
        let health = HealthServer::new(HealthService::from_health_reporter(HealthReporter::new()));
        let services = Services::new(door(FaultAnswer::RpcError, CHECKS), health, None);
        tokio::spawn(serve(connection, services, ServerOptions::default()));
        let mut client = Some(TokioIo::new(client));
        let connector = tower::service_fn(move |_| std::future::ready(client.take().ok_or(io::Error::from(io::ErrorKind::NotConnected))));
        let channel = Endpoint::from_static("http://localhost").connect_with_connector(connector).await.unwrap();
        let ask = |_| {
            let mut client = AuthorizationClient::new(channel.clone());
            async move { client.check(message("/closed", &[])).await.unwrap() }
        };
        let answers = join_all((0..CHECKS).map(ask)).await;
        assert!(answers.iter().all(|answer| answer.get_ref().status.as_ref().is_some_and(|status| status.code == 16)));
        let writes = writes.load(Ordering::Relaxed);
        assert!(writes < CHECKS / 2, "{writes} writes for {CHECKS} answers");
    }

    #[test]
    fn ages_are_spread_by_a_tenth() {
        let age = Duration::from_secs(1000);
        let ages: Vec<u64> = (0..500).map(|number| spread(age, number).as_secs()).collect();
        assert!(ages.iter().all(|age| (900..=1100).contains(age)));
        let distinct: std::collections::BTreeSet<_> = ages.iter().collect();
        assert!(distinct.len() > 100, "{} distinct ages", distinct.len());
    }
}
