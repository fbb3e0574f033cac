//! The operator's pages over real sockets: what they show, and to whom.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::Request;
use axum::http::StatusCode;
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use tower::ServiceExt as _;

use super::*;
use crate::listen::Server;
use crate::listen::address::Address;
use crate::listen::address::Endpoint;
use crate::listen::address::Listener;
use crate::listen::http::serve;
use crate::model::usage::Outcome;
use crate::ops::readiness::Parts;
use crate::ops::readiness::PartsReport;
use crate::stats::StatRow;
use crate::stats::StatsUnavailable;
use crate::stats::UserTotal;
use crate::store::Answer;

#[derive(Debug, Default)]
struct Stub {
    ledger_is_full: AtomicBool,
    redis_is_away: AtomicBool,
    nothing_can_be_signed: AtomicBool,
    nothing_can_be_issued: AtomicBool,
}

impl Parts for Arc<Stub> {
    fn report(&self) -> PartsReport {
        PartsReport {
            config_revision: String::from("0123456789ab"),
            last_reload_error: Some(String::from("/secret/place/tollgate.yaml:3:1: unknown key")),
            ledger_error: self.ledger_is_full.load(Ordering::Relaxed).then(|| String::from("the disk is full")),
            shared_store_error: self.redis_is_away.load(Ordering::Relaxed).then(|| String::from("nobody answers")),
            signing_keys_missing: self.nothing_can_be_signed.load(Ordering::Relaxed),
            issuer_keys_missing: self.nothing_can_be_issued.load(Ordering::Relaxed),
            ..PartsReport::default()
        }
    }

    fn measure(&self, metrics: &Metrics) {
        metrics.config_last_reload_successful.set(0);
    }
}

impl StatsSource for Stub {
    fn user_totals(&self) -> Answer<'_, Result<Vec<UserTotal>, StatsUnavailable>> {
        Answer::ready(Ok(vec![UserTotal { user: String::from("alice"), outcome: Outcome::Allowed, count: 3 }]))
    }

    fn rows<'a>(&'a self, viewer: Viewer<'a>) -> Answer<'a, Result<Vec<StatRow>, StatsUnavailable>> {
        assert_eq!(viewer, Viewer::Everyone);
        let row = StatRow { user: String::from("alice"), route: String::from("orders"), outcome: "allowed", count: 3 };
        Answer::ready(Ok(vec![row]))
    }
}

impl PublishedKeys for Stub {
    fn jwks_json(&self) -> Option<String> {
        Some(String::from("{\"keys\":[]}"))
    }
}

fn ops(stub: &Arc<Stub>, token: Option<&str>) -> Arc<Ops> {
    let metrics = Arc::new(Metrics::new().unwrap());
    metrics.usage_series_limit.set(10);
    Arc::new(Ops {
        access: Access { token: token.map(|token| Zeroizing::new(token.as_bytes().to_vec())), mutual_tls: false },
        readiness: Arc::new(Readiness::starting(Arc::clone(stub))),
        metrics,
        stats: Arc::<Stub>::clone(stub),
        keys: Arc::<Stub>::clone(stub),
        series: UserSeries::default(),
    })
}

async fn ask(ops: &Arc<Ops>, peer: Option<&str>, target: &str, headers: &[(&str, &str)]) -> (StatusCode, String) {
    let peer = Peer(peer.map(|peer| peer.parse::<SocketAddr>().unwrap()));
    let mut request = Request::get(target).extension(peer);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = router(Arc::clone(ops)).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// Where somebody asks from, with which headers, and whether the guarded pages open.
type Caller<'a> = (Option<&'a str>, &'a [(&'a str, &'a str)], bool);

const LOCAL: Option<&str> = Some("127.0.0.1:4000");
const AWAY: Option<&str> = Some("192.0.2.9:4000");

#[tokio::test]
async fn health_is_open_and_the_rest_is_not() {
    let ops = ops(&Arc::new(Stub::default()), Some("s3cret"));
    ops.readiness.set_ready();
    let token = [("authorization", "Bearer s3cret")];
    let lower = [("authorization", "bearer s3cret")];
    let wrong = [("authorization", "Bearer s3creT")];
    let longer = [("authorization", "Bearer s3cret2")];
    let basic = [("authorization", "Basic s3cret")];
    let passed_on = [("x-forwarded-for", "203.0.113.1")];
    let callers: [Caller<'_>; 11] = [
        (LOCAL, &[], true),
        (Some("[::1]:4000"), &[], true),
        (Some("[::ffff:127.0.0.1]:4000"), &[], true),
        (None, &[], true),
        (AWAY, &[], false),
        (AWAY, &token, true),
        (AWAY, &lower, true),
        (AWAY, &wrong, false),
        (AWAY, &longer, false),
        (AWAY, &basic, false),
        (LOCAL, &passed_on, false),
    ];
    for (peer, headers, is_admitted) in callers {
        for open in ["/healthz", "/readyz"] {
            assert_eq!(ask(&ops, peer, open, headers).await.0, StatusCode::OK, "{peer:?} {open}");
        }
        for guarded in ["/metrics", "/metrics/usage", "/stats", "/jwks"] {
            let expected = if is_admitted { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
            assert_eq!(ask(&ops, peer, guarded, headers).await.0, expected, "{peer:?} {headers:?} {guarded}");
        }
        let tells = ask(&ops, peer, "/readyz", headers).await.1.contains("/secret/place");
        assert_eq!(tells, is_admitted, "{peer:?}: a reload's error is for the operator");
    }
}

#[tokio::test]
async fn without_a_token_in_the_config_no_token_opens_anything() {
    let ops = ops(&Arc::new(Stub::default()), None);
    for value in ["Bearer ", "Bearer s3cret", "Bearer"] {
        assert_eq!(ask(&ops, AWAY, "/metrics", &[("authorization", value)]).await.0, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn readiness_follows_the_stage_and_the_parts_without_which_nobody_is_judged() {
    let stub = Arc::new(Stub::default());
    let ops = ops(&stub, None);
    let status = async || {
        let (code, body) = ask(&ops, LOCAL, "/readyz", &[]).await;
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["config_revision"], "0123456789ab");
        (code.as_u16(), body["status"].as_str().unwrap().to_owned())
    };
    assert_eq!(status().await, (503, String::from("starting")));
    ops.readiness.set_ready();
    assert_eq!(status().await, (200, String::from("ready")));
    for part in [&stub.ledger_is_full, &stub.redis_is_away, &stub.nothing_can_be_signed, &stub.nothing_can_be_issued] {
        part.store(true, Ordering::Relaxed);
        assert_eq!(status().await, (503, String::from("failing")));
        part.store(false, Ordering::Relaxed);
        assert_eq!(status().await, (200, String::from("ready")));
    }
    ops.readiness.set_draining();
    assert_eq!(status().await, (503, String::from("draining")));
}

#[tokio::test]
async fn pages_show_the_counts() {
    let ops = ops(&Arc::new(Stub::default()), None);
    let line = "tollgate_user_requests_total{user=\"alice\",outcome=\"allowed\"} 3\n";
    let (_, metrics) = ask(&ops, LOCAL, "/metrics", &[]).await;
    assert!(metrics.contains(line) && metrics.contains("tollgate_checks_total{"));
    assert!(ask(&ops, LOCAL, "/metrics/usage", &[]).await.1.contains(line));
    let parts = [
        ask(&ops, LOCAL, "/metrics/usage?shard=0&shards=2", &[]).await.1,
        ask(&ops, LOCAL, "/metrics/usage?shard=1&shards=2", &[]).await.1,
    ];
    assert_eq!(parts.iter().filter(|part| part.contains(line)).count(), 1);
    for bad in ["?shard=2&shards=2", "?shard=1", "?shards=0&shard=0", "?shard=x&shards=2", "?other=1"] {
        assert_eq!(ask(&ops, LOCAL, &format!("/metrics/usage{bad}"), &[]).await.0, StatusCode::BAD_REQUEST, "{bad}");
    }
    let (_, stats) = ask(&ops, LOCAL, "/stats", &[]).await;
    let expected = serde_json::json!({"stats": [{"user": "alice", "route": "orders", "outcome": "allowed", "count": 3}]});
    assert_eq!(serde_json::from_str::<serde_json::Value>(&stats).unwrap(), expected);
    assert_eq!(ask(&ops, LOCAL, "/jwks", &[]).await.1, "{\"keys\":[]}");
    assert_eq!(ask(&ops, LOCAL, "/nothing", &[]).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_listener_serves_http_1_and_knows_its_peer() {
    let ops = ops(&Arc::new(Stub::default()), None);
    let listener = Listener::bind(&Endpoint::Tcp("127.0.0.1:0".parse().unwrap()), "ops").await.unwrap();
    let pages = router(Arc::clone(&ops));
    let server = Server::start(listener, None, 8, Arc::clone(&ops.metrics), move |connection| serve(connection, pages.clone()));
    let Address::Tcp(address) = server.address() else { panic!() };
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("/metrics").header("host", "localhost").body(String::new()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), StatusCode::OK);
    assert_eq!(server.shutdown(std::time::Duration::from_secs(5)).await, crate::listen::Drained::Cleanly);
}
