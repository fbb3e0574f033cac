//! HTTP/1.1 for the listeners that people and programs use.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tower::ServiceExt as _;

use crate::listen::Connection;

/// A request's head arrives in this time or not at all.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// And a request is answered in this time, its body read: else whoever sends slowly could hold every connection that there is.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// Who is at the other end; none over a Unix socket. Every request carries it as an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub Option<SocketAddr>);

/// Serves one connection until its peer, or our own end, closes it.
pub async fn serve(connection: Connection, router: Router) {
    let Connection { io, peer, ending, .. } = connection;
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        let answer = tokio::time::timeout(ANSWER_TIME_MAX, router.clone().oneshot(request));
        async { answer.await.unwrap_or_else(|_late| Ok(StatusCode::REQUEST_TIMEOUT.into_response())) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME_MAX).max_buf_size(HEAD_BYTES_MAX);
    let mut http = pin!(builder.serve_connection(TokioIo::new(io), service));
    let mut draining = false;
    loop {
        tokio::select! {
            ended = &mut http => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended badly");
                }
                return;
            }
            () = ending.cut.cancelled() => return,
            () = ending.drain.cancelled(), if !draining => {
                draining = true;
                http.as_mut().graceful_shutdown();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::post;
    use tokio::io::AsyncReadExt as _;
    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::listen::Ending;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_holds_no_connection() {
        let router = Router::new().route("/", post(async |body: String| body));
        let (mut client, server) = tokio::io::duplex(4096);
        let connection = Connection { io: Box::new(server), peer: None, number: 1, ending: Ending::default() };
        let serving = tokio::spawn(serve(connection, router));
        client.write_all(b"POST / HTTP/1.1\r\nhost: issuer\r\ncontent-length: 9\r\n\r\nslow").await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(3600), client.read_to_end(&mut answer)).await;
        assert!(read.is_ok() && answer.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&answer));
        tokio::time::timeout(Duration::from_secs(3600), serving).await.expect("the connection is closed").unwrap();
    }
}
