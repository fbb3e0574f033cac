use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
use envoy_types::pb::envoy::service::auth::v3::CheckResponse;
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use hyper_util::rt::TokioIo;
use prost::Message as _;
use tokio::net::TcpStream;
use tokio::net::UnixStream;
use tonic::Code;
use tonic::Request;
use tonic::transport::Channel;
use tonic::transport::Endpoint as ClientEndpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::check::Gate;
use crate::check::reasons::Kind;
use crate::check::reasons::Reason;
use crate::grpc::Door;
use crate::grpc::server::CheckServer;
use crate::grpc::server::ServerOptions;
use crate::grpc::service::MESSAGE_MAX;
use crate::grpc::service::SERVICE;
use crate::grpc::testing::SHORT;
use crate::grpc::testing::door;
use crate::grpc::testing::gate;
use crate::grpc::testing::message;
use crate::grpc::testing::raw_message;
use crate::grpc::testing::rules;
use crate::listen::Drained;
use crate::listen::address::Address;
use crate::listen::address::Endpoint;
use crate::listen::address::Listener;
use crate::model::rules::DryRun;
use crate::model::rules::FaultAnswer;
use crate::model::rules::Rules;
use crate::model::usage::Line;
use crate::model::usage::NotCounted;
use crate::model::usage::Tally;

const MANY: usize = 1000;
const CHECK_TIME: Duration = Duration::from_secs(5);

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

#[tokio::test]
async fn verdicts_travel_over_tcp_and_over_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("check.sock");
    for endpoint in [Endpoint::Tcp("127.0.0.1:0".parse().unwrap()), Endpoint::Unix { path: path.clone(), mode: 0o600, group: None }] {
        let door = door(FaultAnswer::RpcError, MANY);
        let listener = Listener::bind(&endpoint, "check").await.unwrap();
        let server = CheckServer::start(listener, None, Arc::clone(&door), None, ServerOptions::default()).await;
        let channel = connect(server.server.address()).await;
        let table = [
            (message("/open", &[]), 0),
            (key("good"), 0),
            (raw_message("/closed", &[("x-api-key", "good")]), 0),
            (message("/closed", &[]), 401),
            (key("unknown"), 401),
            (message("/nowhere", &[]), 404),
            (message("/open/../closed", &[]), 400),
            (CheckRequest::default(), 400),
        ];
        for (message, expected) in table {
            assert_eq!(status_of(&ask(&channel, message.clone()).await.unwrap()), expected, "{message:?}");
        }
        assert_eq!(door.metrics.checks_of(Reason::Public), 1);
        assert_eq!(door.metrics.checks_of(Reason::NoRoute), 1);
        assert_eq!(door.in_flight.load(Ordering::Relaxed), 0);
        drop(channel);
        assert_eq!(server.server.shutdown(Duration::from_secs(5)).await, Drained::Cleanly);
        assert!(!path.exists(), "the socket file stayed behind");
    }
}

#[tokio::test]
async fn stats_are_answered_here_for_callers_with_the_right() {
    let door = door(FaultAnswer::RpcError, MANY);
    let (_server, channel) = serve(&door, ServerOptions::default()).await;
    let response = ask(&channel, message("/stats", &[("x-api-key", "good")])).await.unwrap();
    assert_eq!(status_of(&response), 200);
    let Some(HttpResponse::DeniedResponse(answered)) = response.http_response else { panic!() };
    assert_eq!(answered.body, "{\"stats\":[]}");
    assert_eq!(door.metrics.checks_of(Reason::Ok), 1);
    assert_eq!(status_of(&ask(&channel, message("/stats", &[])).await.unwrap()), 401);
}

// battery: G16
#[tokio::test]
async fn a_panic_is_a_denial_and_the_process_lives() {
    for fault_answer in [FaultAnswer::RpcError, FaultAnswer::ErrorResponse] {
        let door = door(fault_answer, MANY);
        let (_server, channel) = serve(&door, ServerOptions::default()).await;
        let response = ask(&channel, key("panic")).await.unwrap();
        assert_eq!(status_of(&response), 503);
        assert!(matches!(response.http_response, Some(HttpResponse::DeniedResponse(_))), "a caller brought about a fault");
        assert_eq!(door.metrics.panics.get(), 1);
        assert_eq!(door.in_flight.load(Ordering::Relaxed), 0, "the flight never ended");
        assert_eq!(status_of(&ask(&channel, key("good")).await.unwrap()), 0);
    }
}

#[tokio::test]
async fn a_fault_leaves_in_the_form_that_the_config_chose() {
    for fault_answer in [FaultAnswer::RpcError, FaultAnswer::ErrorResponse, FaultAnswer::Deny] {
        let door = door(fault_answer, MANY);
        let (_server, channel) = serve(&door, ServerOptions::default()).await;
        let answer = ask(&channel, key("down")).await;
        match (fault_answer, answer) {
            (FaultAnswer::RpcError, Err(status)) => {
                assert_eq!(status.code(), Code::Unavailable);
                assert!(!status.message().contains("no route to host"), "the internal reason was told");
            }
            (FaultAnswer::ErrorResponse, Ok(response)) => {
                assert_eq!(status_of(&response), 503);
                assert!(matches!(response.http_response, Some(HttpResponse::ErrorResponse(_))));
            }
            (FaultAnswer::Deny, Ok(response)) => {
                assert_eq!(status_of(&response), 503);
                assert!(matches!(response.http_response, Some(HttpResponse::DeniedResponse(_))));
            }
            (form, answer) => panic!("{form:?}: {answer:?}"),
        }
        assert_eq!(door.metrics.checks_of(Reason::StoreUnavailable), 1);
    }
}

/// A ledger that is full: the last room fails, when the caller is known.
#[derive(Debug)]
struct Full;

impl Tally for Full {
    fn add(&self, _line: &Line<'_>, _cost: u32) -> Result<(), NotCounted> {
        Err(NotCounted(String::from("no space left on device")))
    }
}

#[tokio::test]
async fn in_a_trial_a_fault_lets_the_request_through_and_is_counted() {
    for fault_answer in [FaultAnswer::RpcError, FaultAnswer::ErrorResponse, FaultAnswer::Deny] {
        let mut door = Arc::into_inner(door(fault_answer, MANY)).unwrap();
        door.rules.store(Arc::new(Rules { dry_run: DryRun::On, ..rules(fault_answer) }));
        door.gate = Arc::new(Gate { ledger: Arc::new(Full), ..gate() });
        let table = [
            (key("down"), CHECK_TIME, Reason::StoreUnavailable, None),
            (key("hang"), SHORT, Reason::Deadline, None),
            (key("good"), Duration::ZERO, Reason::Deadline, None),
            (key("good"), CHECK_TIME, Reason::LedgerUnavailable, Some("alice")),
        ];
        let faults = table.len() as u64;
        for (message, time_left, reason, user) in table {
            let before = door.metrics.checks_of(reason);
            let answer = door.check(message.encode_to_vec().into(), Some(time_left), None).await.unwrap();
            let response = CheckResponse::decode(answer).unwrap();
            assert_eq!((status_of(&response), door.metrics.checks_of(reason)), (0, before + 1), "{reason:?} {fault_answer:?}");
            let Some(HttpResponse::OkResponse(ok)) = response.http_response else { panic!("{reason:?}") };
            let set: Vec<_> = ok.headers.iter().filter_map(|header| header.header.as_ref()).collect();
            let shown = set.iter().find(|header| header.key == "x-user-id").map(|header| header.value.as_str());
            assert_eq!((shown, ok.headers_to_remove.contains(&"x-user-id".to_owned())), (user, user.is_none()), "{reason:?}");
            let told = &response.dynamic_metadata.unwrap().fields;
            assert!(told.contains_key("dry_run") && told.contains_key("reason"), "{told:?}");
        }
        assert_eq!(door.metrics.dry_run_checks.of(Kind::Fault).get(), faults);
    }
}

// battery: G11
#[tokio::test]
async fn a_deadline_that_passed_is_refused_without_a_look_up_and_a_passing_one_ends_the_check() {
    let door = door(FaultAnswer::RpcError, MANY);
    let answer = door.check(key("panic").encode_to_vec().into(), Some(Duration::ZERO), None).await;
    assert_eq!(answer.unwrap_err().code(), Code::Unavailable);
    assert_eq!(door.metrics.panics.get(), 0, "the check was judged");
    let answer = door.check(key("hang").encode_to_vec().into(), Some(SHORT), None).await;
    assert_eq!(answer.unwrap_err().code(), Code::Unavailable);
    assert_eq!(door.metrics.checks_of(Reason::Deadline), 2);
    // An absurd one is only a large number.
    let answer = door.check(key("good").encode_to_vec().into(), Some(Duration::MAX), None).await;
    assert_eq!(status_of(&CheckResponse::decode(answer.unwrap()).unwrap()), 0);

    let (_server, channel) = serve(&door, ServerOptions::default()).await;
    let mut request = Request::new(key("hang"));
    request.set_timeout(SHORT);
    let status = AuthorizationClient::new(channel).check(request).await.unwrap_err();
    assert!([Code::Unavailable, Code::Cancelled, Code::DeadlineExceeded].contains(&status.code()), "{status:?}");
}

// battery: G9
#[tokio::test]
async fn beyond_its_bound_checks_are_shed_and_come_back() {
    let door = door(FaultAnswer::RpcError, 2);
    let (_server, channel) = serve(&door, ServerOptions::default()).await;
    let hanging: Vec<_> = (0..2)
        .map(|_| {
            tokio::spawn({
                let channel = channel.clone();
                async move { ask(&channel, key("hang")).await }
            })
        })
        .collect();
    while door.in_flight.load(Ordering::Relaxed) < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(ask(&channel, key("good")).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(door.metrics.checks_of(Reason::Overloaded), 1);
    for one in hanging {
        one.abort();
    }
    while door.in_flight.load(Ordering::Relaxed) > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(status_of(&ask(&channel, key("good")).await.unwrap()), 0);
}

/// One RPC by hand: path, content type and body as given; what came back as `grpc-status` (or the HTTP status, negated).
async fn by_hand(address: &Address, method: &str, path: &str, content_type: &str, body: Vec<u8>) -> i32 {
    let Address::Tcp(address) = address else { panic!("{address}") };
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::builder()
        .method(method)
        .uri(format!("http://{address}{path}"))
        .header("content-type", content_type)
        .header("te", "trailers")
        .body(http_body_util::Full::new(Bytes::from(body)))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    if response.status() != 200 {
        return -i32::from(response.status().as_u16());
    }
    let in_head = response.headers().get("grpc-status").cloned();
    let collected = http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
    let status = in_head.or_else(|| collected.trailers()?.get("grpc-status").cloned()).expect("no grpc-status");
    status.to_str().unwrap().parse().unwrap()
}

fn framed(message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(message);
    frame
}

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
const GRPC: &str = "application/grpc";

// battery: G6
#[tokio::test]
async fn what_is_not_our_method_is_unimplemented_and_what_is_not_grpc_is_415() {
    let door = door(FaultAnswer::RpcError, MANY);
    let (server, _channel) = serve(&door, ServerOptions::default()).await;
    let address = server.server.address();
    let good = framed(&message("/open", &[]).encode_to_vec());
    let table = [
        ("POST", CHECK, GRPC, 0),
        ("POST", CHECK, "application/grpc+proto", 0),
        ("POST", "/envoy.service.auth.v3.Authorization/Other", GRPC, 12),
        ("POST", "/envoy.service.auth.v2.Authorization/Check", GRPC, 12),
        ("POST", "/", GRPC, 12),
        ("GET", CHECK, GRPC, 12),
        ("POST", CHECK, "application/json", -415),
    ];
    for (method, path, content_type, expected) in table {
        assert_eq!(by_hand(address, method, path, content_type, good.clone()).await, expected, "{method} {path} {content_type}");
    }
}

// battery: G6
#[tokio::test]
async fn http_1_is_not_spoken_here() {
    use tokio::io::AsyncReadExt as _;
    use tokio::io::AsyncWriteExt as _;
    let door = door(FaultAnswer::RpcError, MANY);
    let (server, channel) = serve(&door, ServerOptions::default()).await;
    let Address::Tcp(address) = server.server.address() else { panic!() };
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"POST /envoy.service.auth.v3.Authorization/Check HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1"), "{answer:?}");
    assert_eq!(status_of(&ask(&channel, message("/open", &[])).await.unwrap()), 0);
}

// battery: G4
#[tokio::test]
async fn messages_up_to_the_limit_are_read_and_no_larger_ones() {
    let door = door(FaultAnswer::RpcError, MANY);
    let (server, channel) = serve(&door, ServerOptions::default()).await;
    let address = server.server.address();
    let mut large = message("/open", &[]);
    let spare = MESSAGE_MAX - large.encode_to_vec().len() - 16;
    crate::grpc::testing::http_of(&mut large).body = "x".repeat(spare);
    let mut bytes = large.encode_to_vec();
    while bytes.len() < MESSAGE_MAX {
        crate::grpc::testing::http_of(&mut large).body.push('x');
        bytes = large.encode_to_vec();
    }
    assert_eq!(bytes.len(), MESSAGE_MAX);
    assert_eq!(by_hand(address, "POST", CHECK, GRPC, framed(&bytes)).await, 0);
    crate::grpc::testing::http_of(&mut large).body.push('x');
    // A client's long body can do that, so it is a denial, to which no failure mode applies.
    assert_eq!(status_of(&ask(&channel, large.clone()).await.unwrap()), 400);
    crate::grpc::testing::http_of(&mut large).body = "x".repeat(3 * 1024 * 1024);
    assert_eq!(status_of(&ask(&channel, large).await.unwrap()), 400);
    // A length of 4 GiB with nothing behind it is refused by its prefix alone.
    assert_eq!(by_hand(address, "POST", CHECK, GRPC, vec![0, 0xff, 0xff, 0xff, 0xff]).await, 0);
    assert_eq!(door.metrics.checks_of(Reason::MalformedMessage), 3);
    // A length that lies: more was announced than came.
    assert_ne!(by_hand(address, "POST", CHECK, GRPC, vec![0, 0, 0, 1, 0, 1, 2, 3]).await, 0);
    assert_ne!(by_hand(address, "POST", CHECK, GRPC, Vec::new()).await, 0);
    assert_eq!(status_of(&ask(&channel, message("/open", &[])).await.unwrap()), 0);
}

// battery: G1
#[tokio::test]
async fn undecodable_messages_are_denials_and_the_connection_stays() {
    let door = door(FaultAnswer::RpcError, MANY);
    let whole = message("/open", &[]).encode_to_vec();
    let cut = whole[..whole.len() - 3].to_vec();
    let wrong_type = vec![0x08, 0x01];
    let long_varint = vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    for bytes in [cut, wrong_type, long_varint, vec![0xff; 64]] {
        let answer = door.check(Bytes::from(bytes), None, None).await.expect("a caller brought about a fault");
        assert_eq!(status_of(&CheckResponse::decode(answer).unwrap()), 400);
    }
    assert_eq!(door.metrics.checks_of(Reason::MalformedMessage), 4);
    let (server, _channel) = serve(&door, ServerOptions::default()).await;
    assert_eq!(by_hand(server.server.address(), "POST", CHECK, GRPC, framed(&[0xff; 64])).await, 0);
}

#[tokio::test]
async fn health_is_told_for_the_service_and_turns_before_the_end() {
    let door = door(FaultAnswer::RpcError, MANY);
    let (server, channel) = serve(&door, ServerOptions::default()).await;
    let mut client = HealthClient::new(channel.clone());
    for (turned, expected) in [(false, ServingStatus::Serving), (true, ServingStatus::NotServing)] {
        if turned {
            server.announce_end().await;
        }
        for service in ["", SERVICE] {
            let answer = client.check(HealthCheckRequest { service: service.to_owned() }).await.unwrap().into_inner();
            assert_eq!(answer.status(), expected, "{service:?}");
        }
        assert_eq!(status_of(&ask(&channel, message("/open", &[])).await.unwrap()), 0, "a draining door still judges");
    }
}

#[tokio::test]
async fn what_is_under_way_is_finished_at_the_end_and_no_longer_than_the_grace() {
    let door = door(FaultAnswer::RpcError, MANY);
    let (server, channel) = serve(&door, ServerOptions::default()).await;
    let hanging = tokio::spawn(async move { ask(&channel, key("hang")).await });
    while door.in_flight.load(Ordering::Relaxed) < 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.server.shutdown(SHORT).await, Drained::Cut);
    assert!(hanging.await.unwrap().is_err());
    assert_eq!(door.in_flight.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn connections_beyond_the_cap_are_closed_at_once() {
    use tokio::io::AsyncReadExt as _;
    let door = door(FaultAnswer::RpcError, MANY);
    let (server, channel) = serve(&door, ServerOptions { connections_max: 1, ..ServerOptions::default() }).await;
    assert_eq!(status_of(&ask(&channel, message("/open", &[])).await.unwrap()), 0);
    let Address::Tcp(address) = server.server.address() else { panic!() };
    let mut second = TcpStream::connect(address).await.unwrap();
    assert_eq!(second.read(&mut [0; 8]).await.unwrap_or(0), 0, "a connection beyond the cap was served");
    assert_eq!(door.metrics.connections_refused.with_label_values(&["check"]).get(), 1);
    assert_eq!(status_of(&ask(&channel, message("/open", &[])).await.unwrap()), 0);
}

#[tokio::test]
async fn an_aged_connection_takes_nothing_new_and_keeps_what_it_has_until_its_grace_ends() {
    for (grace, is_kept) in [(Duration::from_secs(3600), true), (Duration::from_millis(1), false)] {
        let door = door(FaultAnswer::RpcError, MANY);
        let options = ServerOptions { connection_age_max: Some(SHORT), connection_grace: grace, ..ServerOptions::default() };
        let (_server, channel) = serve(&door, options).await;
        let hanging = tokio::spawn({
            let channel = channel.clone();
            async move { ask(&channel, key("hang")).await }
        });
        while door.in_flight.load(Ordering::Relaxed) < 1 {
            tokio::task::yield_now().await;
        }
        let opened = door.metrics.connections_total.with_label_values(&["check"]);
        while opened.get() < 3 {
            // The client may pick a connection in the moment of its closing; it says so without having sent anything.
            match ask(&channel, message("/open", &[])).await {
                Ok(response) => assert_eq!(status_of(&response), 0),
                Err(status) => assert!([Code::Cancelled, Code::Unavailable, Code::Unknown].contains(&status.code()), "{status:?}"),
            }
        }
        assert_eq!(!hanging.is_finished(), is_kept);
        hanging.abort();
    }
}

#[tokio::test]
async fn only_a_connection_that_never_asked_is_given_up() {
    let door = door(FaultAnswer::RpcError, MANY);
    let options = ServerOptions { first_request_time_max: SHORT, ..ServerOptions::default() };
    let (server, channel) = serve(&door, options).await;
    let Address::Tcp(address) = server.server.address() else { panic!() };
    assert_eq!(status_of(&ask(&channel, message("/open", &[])).await.unwrap()), 0);
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut received = Vec::new();
    // Until the server closes it, which it does after the same time that the other connection has been open for.
    tokio::io::AsyncReadExt::read_to_end(&mut silent, &mut received).await.ok();
    let hanging = tokio::spawn({
        let channel = channel.clone();
        async move { ask(&channel, key("hang")).await }
    });
    for _ in 0..100 {
        assert_eq!(status_of(&ask(&channel, message("/open", &[])).await.unwrap()), 0);
    }
    assert!(!hanging.is_finished());
    hanging.abort();
    assert_eq!(door.metrics.connections_total.with_label_values(&["check"]).get(), 2);
}

/// One HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Checks are reset by the thousand before they are taken up, as Envoy does when its clients vanish; the connection, and with it
/// everybody else's checks, must survive it.
#[tokio::test]
async fn clients_that_vanish_do_not_close_the_connection_under_the_others() {
    use tokio::io::AsyncReadExt as _;
    use tokio::io::AsyncWriteExt as _;
    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const GOAWAY: u8 = 7;
    let door = door(FaultAnswer::RpcError, MANY);
    let (server, _channel) = serve(&door, ServerOptions::default()).await;
    let Address::Tcp(address) = server.server.address() else { panic!() };
    // POST, http, then path, authority and content type as literals.
    let mut head = vec![0x83, 0x86, 0x04, u8::try_from(CHECK.len()).unwrap()];
    head.extend_from_slice(CHECK.as_bytes());
    head.extend_from_slice(&[0x01, 1, b'a', 0x0f, 0x10, u8::try_from(GRPC.len()).unwrap()]);
    head.extend_from_slice(GRPC.as_bytes());
    let mut burst = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    burst.extend(frame(SETTINGS, 0, 0, &[]));
    for number in 0..3000 {
        let stream = number * 2 + 1;
        burst.extend(frame(HEADERS, 0x4, stream, &head));
        burst.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
    }
    burst.extend(frame(PING, 0, 0, b"are you "));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&burst).await.unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.expect("the connection was closed");
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut payload).await.unwrap();
        assert_ne!(head[3], GOAWAY, "{payload:?}");
        if (head[3], head[4]) == (PING, 1) {
            return;
        }
    }
}
