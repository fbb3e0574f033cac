//! An OpenTelemetry collector that keeps what it is told: the published service, nothing more.

use std::sync::Arc;
use std::sync::Mutex;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::TraceService;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::TraceServiceServer;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tollgate::model::hex::write_hex;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::transport::Identity;
use tonic::transport::Server;
use tonic::transport::ServerTlsConfig;

use crate::support::certificates::Leaf;
use crate::support::process::wait_until;

/// A running collector.
#[derive(Debug)]
pub struct Collector {
    pub port: u16,
    kept: Kept,
    /// Ends with it.
    _runtime: Runtime,
}

type Kept = Arc<Mutex<Vec<ResourceSpans>>>;

#[derive(Debug)]
struct Keeper(Kept);

#[tonic::async_trait]
impl TraceService for Keeper {
    async fn export(&self, request: Request<ExportTraceServiceRequest>) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().expect("no panic while held").extend(request.into_inner().resource_spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    pub fn start() -> Self {
        Self::serve(Server::builder())
    }

    /// Over TLS.
    pub fn start_tls(leaf: &Leaf) -> Self {
        let tls = ServerTlsConfig::new().identity(Identity::from_pem(&leaf.certificate, &leaf.key));
        Self::serve(Server::builder().tls_config(tls).expect("a certificate"))
    }

    fn serve(mut server: Server) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let kept = Kept::default();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let service = TraceServiceServer::new(Keeper(Arc::clone(&kept)));
        runtime.spawn(server.add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
        Self { port, kept, _runtime: runtime }
    }

    /// All spans of a service, as they came.
    pub fn spans(&self, service: &str) -> Vec<Span> {
        let of_service = self.of(service);
        of_service.into_iter().flat_map(|told| told.scope_spans).flat_map(|scope| scope.spans).collect()
    }

    /// Every byte that a service told.
    pub fn bytes(&self, service: &str) -> Vec<u8> {
        self.of(service).iter().flat_map(Message::encode_to_vec).collect()
    }

    /// The trace of a check, once it is there: the check's own span, and those below it in the order of their beginnings.
    pub fn check(&self, trace: &str) -> (Span, Vec<Span>) {
        let mut found = None;
        wait_until("the trace is there", || {
            found = self.find_check(trace);
            found.is_some()
        });
        found.expect("it was found")
    }

    pub fn find_check(&self, trace: &str) -> Option<(Span, Vec<Span>)> {
        let (mut whole, below): (Vec<Span>, Vec<Span>) =
            self.spans("tollgate").into_iter().filter(|span| write_hex(&span.trace_id) == trace).partition(|span| span.name == "check");
        assert!(whole.len() < 2, "a check has one span: {whole:?}");
        Some((whole.pop()?, below))
    }

    fn of(&self, service: &str) -> Vec<ResourceSpans> {
        let kept = self.kept.lock().expect("no panic while held");
        kept.iter().filter(|told| service_of(told) == service).cloned().collect()
    }
}

fn service_of(told: &ResourceSpans) -> String {
    let attributes = told.resource.iter().flat_map(|resource| &resource.attributes);
    attributes
        .into_iter()
        .find(|attribute| attribute.key == "service.name")
        .map(|attribute| text(attribute.value.as_ref()))
        .unwrap_or_default()
}

/// An attribute of a span as a text; none: it has no such attribute.
pub fn attribute(span: &Span, key: &str) -> Option<String> {
    span.attributes.iter().find(|attribute| attribute.key == key).map(|attribute| text(attribute.value.as_ref()))
}

fn text(value: Option<&opentelemetry_proto::tonic::common::v1::AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        other => panic!("neither a text nor a number: {other:?}"),
    }
}
