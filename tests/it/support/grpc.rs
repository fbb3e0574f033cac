//! Checks asked directly, without an Envoy between.

use std::net::SocketAddr;
use std::path::PathBuf;

use envoy_types::pb::envoy::config::core::v3::HeaderMap;
use envoy_types::pb::envoy::config::core::v3::HeaderValue;
use envoy_types::pb::envoy::service::auth::v3::AttributeContext;
use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
use envoy_types::pb::envoy::service::auth::v3::CheckResponse;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::HttpRequest;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::Request;
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use futures_util::StreamExt;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tonic::Status;
use tonic::transport::Certificate;
use tonic::transport::Channel;
use tonic::transport::ClientTlsConfig;
use tonic::transport::Endpoint;

use crate::support::process::PATIENCE;
use crate::support::tollgate::CheckAt;

/// A connection to a check listener.
#[derive(Debug)]
pub struct Checker {
    runtime: Runtime,
    channel: Channel,
}

impl Checker {
    pub fn connect(at: &CheckAt) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let channel = runtime.block_on(async {
            match at {
                CheckAt::Tcp(address) => Endpoint::from_shared(format!("http://{address}")).expect("an address").connect().await,
                CheckAt::Unix(path) => over_unix(path.clone()).await,
            }
        });
        Self { runtime, channel: channel.expect("the check listener takes connections") }
    }

    /// Connects with the first check, and again whenever the connection broke.
    pub fn connect_lazily(at: &CheckAt) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let channel = runtime.block_on(async {
            match at {
                CheckAt::Tcp(address) => Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_lazy(),
                CheckAt::Unix(path) => {
                    let path = path.clone();
                    Endpoint::from_static("http://socket").connect_with_connector_lazy(tower::service_fn(move |_| {
                        let path = path.clone();
                        async move { UnixStream::connect(path).await.map(TokioIo::new) }
                    }))
                }
            }
        });
        Self { runtime, channel }
    }

    /// Over TLS, to a server that shows this certificate for `localhost`.
    pub fn connect_tls(address: SocketAddr, certificate: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(certificate)).domain_name("localhost");
        let endpoint = Endpoint::from_shared(format!("https://{address}")).expect("an address").tls_config(tls).expect("a certificate");
        let channel = runtime.block_on(endpoint.connect()).expect("the check listener takes connections");
        Self { runtime, channel }
    }

    /// # Errors
    /// What the server answered in place of a response.
    pub fn check(&self, request: CheckRequest) -> Result<CheckResponse, Status> {
        let mut client = AuthorizationClient::new(self.channel.clone());
        let answer = async { tokio::time::timeout(PATIENCE, client.check(request)).await };
        self.runtime.block_on(answer).expect("a check is answered, or its connection breaks").map(tonic::Response::into_inner)
    }

    /// Many checks, so many at a time.
    ///
    /// # Panics
    /// When one of them is not answered.
    pub fn check_all(&self, requests: impl Iterator<Item = CheckRequest>, at_once: usize) -> Vec<CheckResponse> {
        let answers = futures_util::stream::iter(requests).map(|request| {
            let mut client = AuthorizationClient::new(self.channel.clone());
            async move { client.check(request).await.expect("an answer").into_inner() }
        });
        self.runtime.block_on(answers.buffered(at_once).collect())
    }
}

async fn over_unix(path: PathBuf) -> Result<Channel, tonic::transport::Error> {
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://socket").connect_with_connector(connector).await
}

/// A check as Envoy sends it with `encode_raw_headers`.
pub fn check_request(method: &str, target: &str, headers: &[(&str, &[u8])]) -> CheckRequest {
    let headers =
        headers.iter().map(|(name, value)| HeaderValue { key: (*name).to_owned(), raw_value: value.to_vec(), ..HeaderValue::default() });
    let http = HttpRequest {
        method: method.to_owned(),
        path: target.to_owned(),
        host: "api.example.com".to_owned(),
        header_map: Some(HeaderMap { headers: headers.collect() }),
        ..HttpRequest::default()
    };
    let attributes = AttributeContext { request: Some(Request { http: Some(http), ..Request::default() }), ..AttributeContext::default() };
    CheckRequest { attributes: Some(attributes) }
}

/// The HTTP status of a denial; none for an allow.
///
/// # Panics
/// When the status code and the branch of the response contradict each other.
pub fn denied_with(response: &CheckResponse) -> Option<i32> {
    let code = response.status.as_ref().expect("a response always states its status").code;
    match &response.http_response {
        Some(HttpResponse::OkResponse(_)) => {
            assert_eq!(code, 0, "an OK branch under a status that is not OK");
            None
        }
        Some(HttpResponse::DeniedResponse(denied)) => {
            assert_ne!(code, 0, "a denied branch under status OK is an allow");
            Some(denied.status.as_ref().expect("a denial states its HTTP status").code)
        }
        other => panic!("neither an allow nor a denial: {other:?}"),
    }
}
