//! What becomes of a check: verdicts, faults, deadlines, the end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
use envoy_types::pb::envoy::service::auth::v3::CheckResponse;
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use prost::Message as _;
use tonic::Code;
use tonic::Request;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::check::Gate;
use crate::check::reasons::Kind;
use crate::check::reasons::Reason;
use crate::grpc::server::CheckServer;
use crate::grpc::server::ServerOptions;
use crate::grpc::service::SERVICE;
use crate::grpc::testing::SHORT;
use crate::grpc::testing::door;
use crate::grpc::testing::gate;
use crate::grpc::testing::message;
use crate::grpc::testing::raw_message;
use crate::grpc::testing::rules;
use crate::grpc::tests::MANY;
use crate::grpc::tests::ask;
use crate::grpc::tests::connect;
use crate::grpc::tests::key;
use crate::grpc::tests::serve;
use crate::grpc::tests::status_of;
use crate::listen::Drained;
use crate::listen::address::Endpoint;
use crate::listen::address::Listener;
use crate::model::rules::DryRun;
use crate::model::rules::FaultAnswer;
use crate::model::rules::Rules;
use crate::model::usage::Line;
use crate::model::usage::NotCounted;
use crate::model::usage::Tally;

const CHECK_TIME: Duration = Duration::from_secs(5);

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
