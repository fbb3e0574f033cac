//! gRPC framing round [`Door::check`]: the message reaches the door as the bytes that came, and leaves as the bytes that it made.

use std::future::Future;
use std::future::Ready;
use std::future::ready;
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf as _;
use bytes::BufMut as _;
use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use http_body_util::Full;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::body::Body;
use tonic::codec::BufferSettings;
use tonic::codec::Codec;
use tonic::codec::DecodeBuf;
use tonic::codec::Decoder;
use tonic::codec::EncodeBuf;
use tonic::codec::Encoder;
use tonic::server::Grpc;
use tonic::server::UnaryService;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthService;
use tower::ServiceExt as _;

use crate::grpc::Door;
use crate::grpc::access_log;
use crate::grpc::access_log::AccessLog;
use crate::grpc::access_log::stream::Taking;
use crate::telemetry::traces::Parent;

/// The service that Envoy asks for.
pub const SERVICE: &str = "envoy.service.auth.v3.Authorization";
const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
const STREAM_ACCESS_LOGS: &str = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";
const GRPC_STATUS: &str = "grpc-status";
/// OUT_OF_RANGE, which tonic says of a message over its limit, and which nothing else here says.
const TOO_LONG: &str = "11";
/// An uncompressed message without a byte.
const EMPTY_MESSAGE: &[u8] = &[0; 5];
const HEALTH: &str = "/grpc.health.v1.Health/";

/// A larger message is denied without being read; Envoy's own bound on headers is 60 KiB.
pub const MESSAGE_MAX: usize = 256 * 1024;
/// Whoever sends slower than this has no deadline worth keeping.
const MESSAGE_TIME_MAX: Duration = Duration::from_secs(15);

/// Everything that the check listener serves.
#[derive(Clone)]
pub struct Services {
    door: Arc<Door>,
    health: HealthServer<HealthService>,
    /// None: Envoy's access log is not taken.
    access_log: Option<Arc<AccessLog>>,
}

impl std::fmt::Debug for Services {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Services").field("door", &self.door).finish_non_exhaustive()
    }
}

impl Services {
    pub fn new(door: Arc<Door>, health: HealthServer<HealthService>, access_log: Option<Arc<AccessLog>>) -> Self {
        Self { door, health, access_log }
    }

    /// Answers one RPC. Whatever is not ours is UNIMPLEMENTED, and whatever is not gRPC is 415. What would last as long as its
    /// connection ends when that is to `leave`.
    pub async fn serve<B>(&self, request: http::Request<B>, leave: CancellationToken) -> http::Response<Body>
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<tonic::codegen::StdError> + Send,
    {
        let is_grpc = request.headers().get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
        if !is_grpc {
            let mut response = http::Response::new(Body::empty());
            *response.status_mut() = http::StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return response;
        }
        if request.method() != http::Method::POST {
            return Status::unimplemented("gRPC is spoken with POST").into_http();
        }
        match request.uri().path() {
            CHECK => self.check(request).await,
            STREAM_ACCESS_LOGS => match &self.access_log {
                Some(log) => {
                    let taking = Taking::new(Arc::clone(log), leave);
                    Grpc::new(RawCodec).max_decoding_message_size(access_log::MESSAGE_MAX).client_streaming(taking, request).await
                }
                None => Status::unimplemented("access logs are not taken here; set `access_log: accepted`").into_http(),
            },
            path if path.starts_with(HEALTH) => match self.health.clone().oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
            _ => Status::unimplemented("there is no such method").into_http(),
        }
    }

    async fn check<B>(&self, request: http::Request<B>) -> http::Response<Body>
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<tonic::codegen::StdError> + Send,
    {
        let headers = request.headers();
        let parent = self.door.traces.as_ref().and_then(|_| parent(headers));
        let call = Call { door: Arc::clone(&self.door), time_left: time_left(headers), parent };
        let mut grpc = Grpc::new(RawCodec).max_decoding_message_size(MESSAGE_MAX);
        let answered = pin!(grpc.unary(call, request));
        match tokio::time::timeout(MESSAGE_TIME_MAX, answered).await {
            // Whoever sends a long body can make the message too long, so that is no fault.
            Ok(response) if response.headers().get(GRPC_STATUS).is_some_and(|code| *code == TOO_LONG) => {
                let refuse = Refuse(Arc::clone(&self.door));
                Grpc::new(RawCodec).unary(refuse, http::Request::new(Full::new(Bytes::from_static(EMPTY_MESSAGE)))).await
            }
            Ok(response) => response,
            Err(_elapsed) => Status::deadline_exceeded("the message did not arrive in time").into_http(),
        }
    }
}

/// Answers a message that was too long to be read.
struct Refuse(Arc<Door>);

impl UnaryService<Bytes> for Refuse {
    type Response = Bytes;
    type Future = Ready<Result<Response<Bytes>, Status>>;

    fn call(&mut self, _empty: Request<Bytes>) -> Self::Future {
        ready(self.0.refuse_unread().map(Response::new))
    }
}

/// One call of `Check`.
struct Call {
    door: Arc<Door>,
    time_left: Option<Duration>,
    parent: Option<Parent>,
}

impl UnaryService<Bytes> for Call {
    type Response = Bytes;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Bytes>, Status>> + Send>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let (door, time_left, parent) = (Arc::clone(&self.door), self.time_left, self.parent);
        Box::pin(async move { door.check(request.into_inner(), time_left, parent).await.map(Response::new) })
    }
}

/// Messages as they are on the wire.
#[derive(Clone, Copy, Debug, Default)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(message);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(2 * 1024, 32 * 1024)
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(message.copy_to_bytes(message.remaining())))
    }
}

/// The span of Envoy's that asks.
fn parent(headers: &HeaderMap) -> Option<Parent> {
    Parent::of_lines(headers.get_all("traceparent").iter().map(HeaderValue::as_bytes))
}

/// `grpc-timeout`: at most eight digits and a unit. What cannot be read sets no deadline: our own bound holds then.
fn time_left(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount.saturating_mul(3600))),
        "M" => Some(Duration::from_secs(amount.saturating_mul(60))),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_by_the_grammar_alone() {
        let table = [
            ("200m", Some(Duration::from_millis(200))),
            ("0n", Some(Duration::ZERO)),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("5S", Some(Duration::from_secs(5))),
            ("7u", Some(Duration::from_micros(7))),
            ("2M", Some(Duration::from_secs(120))),
            ("100000000m", None),
            ("-1S", None),
            ("+1S", None),
            ("S", None),
            ("", None),
            ("1", None),
            ("1s", None),
            ("1 S", None),
        ];
        for (text, expected) in table {
            let headers = HeaderMap::from_iter([(http::HeaderName::from_static("grpc-timeout"), HeaderValue::from_static(text))]);
            assert_eq!(time_left(&headers), expected, "{text:?}");
        }
        assert_eq!(time_left(&HeaderMap::new()), None);
    }
}
