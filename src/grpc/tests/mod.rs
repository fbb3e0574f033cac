//! The door from outside: real gRPC over real sockets, and the bytes on the wire.

mod answers;
mod calls;
mod limits;
mod messages;
mod peers;
mod traces;

use std::path::Path;
use std::sync::Arc;

use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
use envoy_types::pb::envoy::service::auth::v3::CheckResponse;
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::Channel;
use tonic::transport::Endpoint as ClientEndpoint;

use crate::grpc::Door;
use crate::grpc::server::CheckServer;
use crate::grpc::server::ServerOptions;
use crate::grpc::testing::message;
use crate::listen::address::Address;
use crate::listen::address::Endpoint;
use crate::listen::address::Listener;

const MANY: usize = 1000;

async fn serve(door: &Arc<Door>, options: ServerOptions) -> (CheckServer, Channel) {
    let endpoint = Endpoint::Tcp("127.0.0.1:0".parse().unwrap());
    let listener = Listener::bind(&endpoint, "check").await.unwrap();
    let server = CheckServer::start(listener, None, Arc::clone(door), None, options).await;
    let channel = connect(server.server.address()).await;
    (server, channel)
}

async fn connect(address: &Address) -> Channel {
    match address {
        Address::Tcp(address) => ClientEndpoint::new(format!("http://{address}")).unwrap().connect().await.unwrap(),
        Address::Unix(path) => connect_unix(path).await,
    }
}

async fn connect_unix(path: &Path) -> Channel {
    let path = path.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    ClientEndpoint::from_static("http://localhost").connect_with_connector(connector).await.unwrap()
}

async fn ask(channel: &Channel, message: CheckRequest) -> Result<CheckResponse, tonic::Status> {
    AuthorizationClient::new(channel.clone()).check(message).await.map(tonic::Response::into_inner)
}

fn key(id: &str) -> CheckRequest {
    message("/closed", &[("x-api-key", id)])
}

/// The HTTP status of a denial; 0 for an allow.
fn status_of(response: &CheckResponse) -> i32 {
    match response.http_response.as_ref().unwrap() {
        HttpResponse::OkResponse(_) => {
            assert_eq!(response.status.as_ref().unwrap().code, 0);
            0
        }
        HttpResponse::DeniedResponse(denied) | HttpResponse::ErrorResponse(denied) => {
            assert_ne!(response.status.as_ref().unwrap().code, 0);
            denied.status.as_ref().unwrap().code
        }
    }
}
