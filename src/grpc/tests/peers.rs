//! Peers without manners: other protocols, messages of any size, connections that are many, old or silent.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::service::auth::v3::CheckResponse;
use hyper_util::rt::TokioIo;
use prost::Message as _;
use tokio::net::TcpStream;
use tonic::Code;

use crate::check::reasons::Reason;
use crate::grpc::server::ServerOptions;
use crate::grpc::service::MESSAGE_MAX;
use crate::grpc::testing::SHORT;
use crate::grpc::testing::door;
use crate::grpc::testing::message;
use crate::grpc::tests::MANY;
use crate::grpc::tests::ask;
use crate::grpc::tests::key;
use crate::grpc::tests::serve;
use crate::grpc::tests::status_of;
use crate::listen::address::Address;
use crate::model::rules::FaultAnswer;

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
