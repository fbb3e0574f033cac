//! `StreamAccessLogs`: one stream of messages, and a single answer at its end.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::Streaming;
use tonic::server::ClientStreamingService;

use crate::grpc::access_log::AccessLog;
use crate::grpc::access_log::STREAMS_MAX;
use crate::telemetry::access_log_metrics::DropReason;

/// How long what was under way when we ended a stream may still arrive.
const LINGER: Duration = Duration::from_secs(1);

/// One call of `StreamAccessLogs`.
#[derive(Debug)]
pub(in crate::grpc) struct Taking {
    log: Arc<AccessLog>,
    /// Its connection is to end: the stream must not wait for Envoy to end it, which never does.
    leave: CancellationToken,
}

impl Taking {
    pub(in crate::grpc) fn new(log: Arc<AccessLog>, leave: CancellationToken) -> Self {
        Self { log, leave }
    }
}

impl ClientStreamingService<Bytes> for Taking {
    type Response = Bytes;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Bytes>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let (log, leave) = (Arc::clone(&self.log), self.leave.clone());
        Box::pin(async move {
            let Some(stream) = Stream::enter(log) else {
                return Err(Status::resource_exhausted("too many access logs at once"));
            };
            let mut messages = request.into_inner();
            tokio::select! {
                ended = stream.take(&mut messages) => return ended.map(|()| Response::new(Bytes::new())),
                () = leave.cancelled() => {}
            }
            // The answer tells Envoy to begin another stream; meanwhile what it has sent on this one is taken.
            tokio::spawn(async move {
                let _ = tokio::time::timeout(LINGER, stream.take(&mut messages)).await;
            });
            Ok(Response::new(Bytes::new()))
        })
    }
}

/// One open stream; leaves when dropped.
struct Stream(Arc<AccessLog>);

impl Stream {
    fn enter(log: Arc<AccessLog>) -> Option<Self> {
        let before = log.streams.fetch_add(1, Ordering::Relaxed);
        log.metrics.streams.inc();
        let stream = Self(log);
        if before >= STREAMS_MAX {
            stream.0.metrics.dropped(DropReason::TooManyStreams, 1);
            return None;
        }
        Some(stream)
    }

    async fn take(&self, messages: &mut Streaming<Bytes>) -> Result<(), Status> {
        loop {
            match messages.message().await {
                Ok(Some(message)) => self.0.offer(message),
                Ok(None) => return Ok(()),
                Err(status) => {
                    // The rest is a connection that broke, with nobody left to be told.
                    if status.code() == Code::OutOfRange {
                        self.0.metrics.dropped(DropReason::TooLong, 1);
                    }
                    return Err(status);
                }
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.streams.dec();
    }
}
