//! One server that is slow, frozen, killed or gone, and what the link does then.

use super::*;
use crate::store::shared::link::Purpose;
use crate::store::shared::link::Severity;
use crate::store::shared::link::Way;
use crate::store::shared::testing::linked;
use crate::store::shared::testing::patient;
use crate::store::shared::testing::redis_server::FaultyProxy;
use crate::store::shared::testing::redis_server::Mode;
use crate::store::shared::testing::redis_server::RedisServer;
use crate::store::shared::testing::redis_server::ServerPlan;

static ECHO: Script = Script::new("echo", "#!lua\nreturn {KEYS[1], ARGV[1]}");

#[tokio::test]
async fn a_script_runs_whether_the_server_knows_it_or_not() {
    let over_tcp = ServerPlan::tcp().start();
    let (_server, over_socket) = linked();
    for link in [over_socket, Link::new(patient(tcp(over_tcp.port())))] {
        for _round in 0..2 {
            let call = Call { script: &ECHO, keys: vec![b"k".to_vec()], args: vec![b"\x00\xff".to_vec()] };
            let answer = link.run(Lane::Checks, call, LONG).await.unwrap();
            let expected = vec![Value::BulkString(b"k".to_vec()), Value::BulkString(b"\x00\xff".to_vec())];
            assert_eq!(answer, Value::Array(expected));
        }
        let state = link.state();
        assert!(state.connected && !state.breaker_open, "{state:?}");
        assert!(state.servers[0].version.starts_with("7.") && state.servers[0].product == "redis", "{state:?}");
        assert_eq!((state.calls[0].lane, state.calls[0].answered, state.reconnects), (Lane::Checks, 2, 0));
    }
}

#[tokio::test]
async fn a_frozen_server_costs_three_calls_their_time_and_later_ones_nothing_until_it_is_back() {
    let server = RedisServer::start();
    let link = Link::new(brisk(at(server.place())));
    assert_eq!(added(&link, Lane::Checks, "n", LONG).await, Ok(1));
    let within = link.settings().timeouts.check;
    server.freeze();
    for _ in 0..3 {
        let began = monotonic();
        assert_eq!(added(&link, Lane::Checks, "n", within).await, Err(LinkError::TimedOut(within)));
        assert!(began.elapsed() < within + Duration::from_millis(250), "{:?}", began.elapsed());
    }
    let began = monotonic();
    for _ in 0..1_000 {
        assert!(matches!(added(&link, Lane::Checks, "n", within).await, Err(LinkError::Unreachable(_))));
    }
    assert!(began.elapsed() < within, "{:?}", began.elapsed());
    assert!(link.state().breaker_open);
    server.thaw();
    eventually_up(&link).await;
    assert!(!link.state().breaker_open);
    assert!(added(&link, Lane::Checks, "n", LONG).await.is_ok());
}

#[tokio::test]
async fn a_server_that_freezes_without_traffic_is_noticed_all_the_same() {
    let server = RedisServer::start();
    let link = Link::new(brisk(at(server.place())));
    link.start();
    eventually_up(&link).await;
    server.freeze();
    eventually("it is noticed", async || link.state().breaker_open).await;
    server.thaw();
    eventually_up(&link).await;
}

#[tokio::test]
async fn a_killed_server_is_found_again_and_told_the_scripts_again() {
    let mut server = ServerPlan::tcp().start();
    let link = Link::new(brisk(at(server.place())));
    let mut changes = link.changes();
    assert_eq!(added(&link, Lane::Bulk, "n", LONG).await, Ok(1));
    changes.mark_unchanged();
    server.kill();
    eventually("the breaker is open", async || link.state().breaker_open).await;
    assert!(matches!(added(&link, Lane::Bulk, "n", LONG).await, Err(LinkError::Unreachable(_))));
    server.restart();
    eventually("calls are answered", async || added(&link, Lane::Bulk, "n", LONG).await.is_ok()).await;
    changes.changed().await.unwrap();
    assert!(link.state().reconnects > 0);
}

#[tokio::test]
async fn a_server_that_is_down_from_the_start_is_found_when_it_comes() {
    let mut server = ServerPlan::tcp().start();
    server.kill();
    let link = Link::new(brisk(at(server.place())));
    let began = monotonic();
    assert!(matches!(added(&link, Lane::Checks, "n", Duration::from_secs(5)).await, Err(LinkError::Unreachable(_))));
    assert!(began.elapsed() < Duration::from_secs(4));
    server.restart();
    eventually_up(&link).await;
}

#[tokio::test]
async fn who_asks_without_a_pause_keeps_nobody_from_reconnecting() {
    let mut server = ServerPlan::tcp().start();
    let link = Link::new(brisk(at(server.place())));
    link.start();
    eventually_up(&link).await;
    server.kill();
    eventually("the breaker is open", async || link.state().breaker_open).await;
    server.restart();
    let began = monotonic();
    while added(&link, Lane::Checks, "n", LONG).await.is_err() {
        assert!(began.elapsed() < LONG);
    }
}

#[tokio::test]
async fn a_connection_that_the_server_ends_is_made_again_before_anybody_notices() {
    let (server, link) = linked();
    assert_eq!(added(&link, Lane::Checks, "n", LONG).await, Ok(1));
    server.tell("CLIENT KILL TYPE normal SKIPME yes");
    eventually("it was made again", async || link.state().reconnects >= 1).await;
    assert_eq!(added(&link, Lane::Checks, "n", LONG).await, Ok(2));
}

#[tokio::test]
async fn a_slow_server_serves_the_lanes_that_have_the_time() {
    let server = RedisServer::start();
    let proxy = FaultyProxy::tcp(server.place());
    let mut settings = brisk(at(proxy.place()));
    settings.timeouts.check = Duration::from_millis(50);
    settings.timeouts.background = Duration::from_secs(2);
    let link = Link::new(settings);
    proxy.set(Mode::Delay(Duration::from_millis(200)));
    assert!(added(&link, Lane::Changes, "n", LONG).await.is_ok());
    eventually("checks are kept away", async || link.state().breaker_open).await;
    let began = monotonic();
    for _ in 0..100 {
        assert!(matches!(added(&link, Lane::Checks, "n", Duration::from_millis(50)).await, Err(LinkError::Unreachable(_))));
    }
    assert!(began.elapsed() < Duration::from_secs(1));
    assert!(added(&link, Lane::Changes, "n", LONG).await.is_ok());
    proxy.set(Mode::Pass);
    eventually_up(&link).await;
}

#[tokio::test]
async fn what_holds_one_lane_up_does_not_hold_up_another() {
    let (_server, link) = linked();
    let mut blocking = redis::cmd("BLPOP");
    blocking.arg("nothing").arg(5);
    let blocked = link.command(Lane::Bulk, blocking, LONG);
    let others = async {
        for lane in [Lane::Checks, Lane::Changes] {
            added(&link, lane, "n", Duration::from_secs(4)).await.unwrap();
        }
    };
    tokio::select! {
        _ = blocked => panic!("the blocked lane was faster"),
        () = others => {}
    }
}

#[tokio::test]
async fn a_script_whose_answer_is_lost_is_never_run_twice() {
    let server = RedisServer::start();
    let proxy = FaultyProxy::tcp(server.place());
    let link = Link::new(patient(at(proxy.place())));
    assert_eq!(added(&link, Lane::Bulk, "n", LONG).await, Ok(1));
    proxy.set(Mode::CutReplies { every: 1 });
    let mut maybe = 0;
    for _ in 0..5 {
        match added(&link, Lane::Bulk, "n", LONG).await {
            Err(LinkError::Broken(_)) => maybe += 1,
            Err(LinkError::Unreachable(_)) => {}
            other => panic!("an answer came through: {other:?}"),
        }
    }
    proxy.set(Mode::Pass);
    assert!(maybe > 0);
    assert_eq!(server.tell("GET n"), format!("$1\r\n{}\r\n", 1 + maybe));
}

// battery: R12
#[tokio::test]
async fn a_server_that_is_gone_or_flaps_is_not_hammered() {
    let server = RedisServer::start();
    let proxy = FaultyProxy::tcp(server.place());
    let link = Link::new(brisk(at(proxy.place())));
    assert_eq!(added(&link, Lane::Checks, "n", LONG).await, Ok(1));
    for flaps in [false, true] {
        let before = proxy.accepted();
        let began = monotonic();
        while began.elapsed() < Duration::from_secs(3) {
            if flaps {
                proxy.set(Mode::Pass);
                proxy.cut();
            } else {
                proxy.set(Mode::Refuse);
            }
            let _ = added(&link, Lane::Checks, "n", Duration::from_millis(50)).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Three lanes, and pauses that double from an eighth of a second: at most seven attempts each.
        assert!(proxy.accepted() - before <= 21, "{} connections", proxy.accepted() - before);
    }
    proxy.set(Mode::Pass);
    eventually_up(&link).await;
}

#[tokio::test]
async fn an_answer_out_of_all_proportion_is_not_read() {
    let (server, link) = linked();
    server.tell("SETRANGE huge 500000000 x");
    let mut command = redis::cmd("GET");
    command.arg("huge");
    assert!(matches!(link.command(Lane::Bulk, command, LONG).await, Err(LinkError::Broken(_))));
    assert_eq!(added(&link, Lane::Checks, "n", LONG).await, Ok(1));
    eventually("the lane is back", async || added(&link, Lane::Bulk, "n", LONG).await.is_ok()).await;
}

#[tokio::test]
async fn a_server_that_would_throw_keys_away_is_not_used_until_it_is_set_right() {
    let server = RedisServer::start_with(&["--maxmemory-policy", "allkeys-lru"]);
    let link = Link::new(brisk(at(server.place())));
    let error = added(&link, Lane::Checks, "n", LONG).await.unwrap_err();
    assert!(matches!(&error, LinkError::Unreachable(why) if why.contains("noeviction")), "{error}");
    let findings = link.findings();
    assert_eq!(findings[0].severity, Severity::Refuse, "{findings:?}");
    assert!(findings[1].what.contains("appendonly yes"), "{findings:?}");
    server.tell("CONFIG SET maxmemory-policy noeviction");
    eventually_up(&link).await;
    assert_eq!(added(&link, Lane::Checks, "n", LONG).await, Ok(1));
    assert!(link.findings().iter().all(|finding| finding.severity == Severity::Warn));
}

#[tokio::test]
async fn a_setting_that_is_changed_under_a_connection_is_found_and_so_is_its_mending() {
    let (server, link) = linked();
    assert_eq!(added(&link, Lane::Checks, "n", LONG).await, Ok(1));
    server.tell("CONFIG SET maxmemory-policy allkeys-lru");
    let Way::One(node) = &link.way else { panic!("one server") };
    let wire = node.wire(Purpose::Bulk);
    let channel = wire.channel().await.unwrap();
    wire.look_at_settings(&channel).await;
    assert_eq!(link.findings()[0].severity, Severity::Refuse, "{:?}", link.findings());
    eventually(
        "checks leave it",
        async || matches!(added(&link, Lane::Checks, "n", LONG).await, Err(LinkError::Unreachable(why)) if why.contains("noeviction")),
    )
    .await;
    assert!(link.state().is_reached, "{:?}", link.state());
    server.tell("CONFIG SET maxmemory-policy noeviction");
    eventually_up(&link).await;
    assert!(link.findings().iter().all(|finding| finding.severity == Severity::Warn));
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_was_reached_and_nobody_at_all_was_not() {
    let server = ServerPlan::tcp().start();
    let folder = tempfile::TempDir::new().unwrap();
    let authority = folder.path().join("ca.crt");
    std::fs::write(&authority, rcgen::generate_simple_self_signed(vec!["ca".to_owned()]).unwrap().cert.pem()).unwrap();
    let tls = Some(crate::store::shared::settings::TlsFiles { authorities: Some(authority), client: None });
    let link = Link::new(Settings { tls, ..brisk(tcp(server.port())) });
    let error = added(&link, Lane::Checks, "n", LONG).await.unwrap_err().to_string();
    assert!(error.contains("does this port speak TLS"), "{error}");
    let link = Link::new(brisk(Server::Unix("/nowhere/redis.sock".into())));
    let error = added(&link, Lane::Checks, "n", LONG).await.unwrap_err().to_string();
    assert!(!error.contains("was reached") && !link.state().is_reached, "{error}");
}

#[tokio::test]
async fn a_member_of_a_cluster_is_not_taken_for_a_single_server_nor_the_other_way_round() {
    let bus = ServerPlan::tcp().start().port().to_string();
    let member = ServerPlan::tcp().with(&["--cluster-enabled", "yes", "--cluster-port", &bus]).start();
    let error = added(&Link::new(brisk(at(member.place()))), Lane::Checks, "n", LONG).await.unwrap_err();
    assert!(error.to_string().contains("`mode: cluster`"), "{error}");
    let single = ServerPlan::tcp().start();
    let settings = Settings { mode: crate::store::shared::settings::Mode::Cluster, ..brisk(at(single.place())) };
    let error = added(&Link::new(settings), Lane::Checks, "n", LONG).await.unwrap_err();
    assert!(matches!(error, LinkError::Unreachable(_)), "{error}");
}

#[tokio::test]
async fn a_commit_is_known_to_be_on_a_replica_and_a_late_replica_holds_nobody_up_for_longer_than_said() {
    let primary = ServerPlan::tcp().start();
    let replica = ServerPlan::tcp().start();
    replica.follow(&primary);
    let link = Link::new(patient(at(primary.place())));
    let patience = Duration::from_secs(5);
    assert_eq!(link.run_replicated(add("n"), 1, patience).await, Ok((Value::Int(1), 1)));
    assert_eq!(link.run_replicated(add("n"), 0, patience).await, Ok((Value::Int(2), 0)));
    replica.freeze();
    let patience = Duration::from_millis(300);
    let began = monotonic();
    let both = futures_util::future::join_all((0..8).map(|_| link.run_replicated(add("n"), 1, patience))).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(both.iter().all(|outcome| matches!(outcome, Ok((_, 0)))), "{both:?}");
    replica.thaw();
    let patience = Duration::from_secs(10);
    assert_eq!(link.run_replicated(add("n"), 1, patience).await, Ok((Value::Int(11), 1)));
}

#[tokio::test]
async fn hints_come_and_go_on_coming_after_a_restart() {
    let mut server = ServerPlan::tcp().start();
    let link = Link::new(brisk(at(server.place())));
    let mut hints = link.subscribe("p:1:hint");
    for _round in 0..2 {
        let first = tokio::time::timeout(Duration::from_secs(20), hints.recv()).await.unwrap();
        assert_eq!(first, Some(Vec::new()), "whoever (re)connects may have missed something");
        server.tell("PUBLISH p:1:hint 7");
        assert_eq!(tokio::time::timeout(LONG, hints.recv()).await.unwrap(), Some(b"7".to_vec()));
        server.restart();
    }
    link.close();
    eventually("the hints end", async || tokio::time::timeout(LONG, hints.recv()).await.unwrap().is_none()).await;
}

#[tokio::test]
async fn a_closed_link_leaves_nothing_behind() {
    let (server, link) = linked();
    let _hints = link.subscribe("h");
    assert_eq!(added(&link, Lane::Checks, "n", LONG).await, Ok(1));
    link.close();
    eventually("calls are refused", async || matches!(added(&link, Lane::Checks, "n", LONG).await, Err(LinkError::Unreachable(_)))).await;
    eventually("all connections ended", async || server.tell("CLIENT LIST").matches("name=tollgate").count() == 0).await;
}
