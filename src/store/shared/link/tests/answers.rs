//! Servers that answer, and say no.

use super::*;
use crate::store::shared::testing::patient;
use crate::store::shared::testing::redis_server::FaultyProxy;
use crate::store::shared::testing::redis_server::Mode;
use crate::store::shared::testing::redis_server::RedisServer;
use crate::store::shared::testing::redis_server::ServerPlan;

/// Every error that a server in trouble gives: nothing runs, the caller hears the code or that the server is not reachable, and all is
/// well as soon as the server is.
#[tokio::test]
async fn a_server_in_trouble_is_waited_for() {
    let server = RedisServer::start();
    let proxy = FaultyProxy::tcp(server.place());
    let link = Link::new(patient(at(proxy.place())));
    assert_eq!(added(&link, Lane::Checks, "n", LONG).await, Ok(1));
    let lines = [
        "READONLY You can't write against a read only replica.",
        "NOREPLICAS Not enough good replicas to write.",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "LOADING Redis is loading the dataset in memory",
        "BUSY Redis is busy running a script.",
        "OOM command not allowed when used memory > 'maxmemory'.",
        "MISCONF Errors writing to the AOF file: No space left on device",
        "NOAUTH Authentication required.",
        "NOPERM this user has no permissions to run the 'evalsha' command",
        "CLUSTERDOWN The cluster is down",
        "ERR something else",
    ];
    let mut expected = 1;
    for line in lines {
        let code = line.split(' ').next().unwrap();
        for mode in [Mode::AnswerScripts(line.to_owned()), Mode::Answer(line.to_owned())] {
            proxy.set(mode);
            for _ in 0..4 {
                match added(&link, Lane::Checks, "n", LONG).await {
                    Err(LinkError::Refused { code: said, .. }) => assert_eq!(said, code),
                    Err(LinkError::Unreachable(why)) => assert!(!why.is_empty()),
                    other => panic!("{line}: {other:?}"),
                }
            }
            proxy.set(Mode::Pass);
            eventually("it is used again", async || added(&link, Lane::Checks, "n", LONG).await.is_ok()).await;
            expected += 1;
            assert_eq!(server.tell("GET n").lines().nth(1).unwrap(), expected.to_string(), "{line}");
        }
    }
    let errors = link.state().errors;
    assert!(errors.iter().any(|error| error.script == "add" && error.code == "OOM" && error.count > 0), "{errors:?}");
}

#[tokio::test]
async fn real_refusals_carry_their_codes_and_write_nothing() {
    let full = RedisServer::start_with(&["--maxmemory", "100kb"]);
    let alone = RedisServer::start_with(&["--min-replicas-to-write", "1"]);
    for (server, expected) in [(full, "OOM"), (alone, "NOREPLICAS")] {
        let link = Link::new(patient(at(server.place())));
        let Err(LinkError::Refused { code, .. }) = added(&link, Lane::Bulk, "n", LONG).await else { panic!("{expected}: it was written") };
        assert_eq!(code, expected);
        assert_eq!(server.tell("EXISTS n"), ":0\r\n");
        eventually_up(&link).await;
    }
}

#[tokio::test]
async fn a_primary_that_becomes_a_replica_is_left_until_it_is_promoted_again() {
    let other = ServerPlan::tcp().start();
    let server = ServerPlan::tcp().start();
    let link = Link::new(brisk(at(server.place())));
    assert_eq!(added(&link, Lane::Checks, "n", LONG).await, Ok(1));
    let mut changes = link.changes();
    changes.mark_unchanged();
    server.follow(&other);
    let error = added(&link, Lane::Checks, "n", LONG).await.unwrap_err();
    assert!(matches!(&error, LinkError::Unreachable(why) if why.contains("replica")), "{error}");
    server.tell("REPLICAOF NO ONE");
    eventually("it is used again", async || added(&link, Lane::Checks, "n", LONG).await.is_ok()).await;
    changes.changed().await.unwrap();
}

#[tokio::test]
async fn a_demotion_is_noticed_without_a_write_and_a_promotion_behind_a_connection_too() {
    let other = ServerPlan::tcp().start();
    let server = ServerPlan::tcp().start();
    let link = Link::new(brisk(at(server.place())));
    link.start();
    eventually_up(&link).await;
    let before = link.state().servers[0].replication_id.clone();
    server.follow(&other);
    eventually("it is noticed", async || link.state().breaker_open).await;
    server.tell("REPLICAOF NO ONE");
    eventually_up(&link).await;
    eventually("it has another history", async || link.state().servers[0].replication_id != before).await;
}

static SPIN: Script = Script::new("spin", "#!lua\nwhile true do end");

#[tokio::test]
async fn a_script_that_never_ends_takes_its_callers_time_and_no_more() {
    let server = ServerPlan::tcp().with(&["--busy-reply-threshold", "50"]).start();
    let link = Link::new(brisk(at(server.place())));
    eventually("the link is up", async || {
        link.start();
        link.state().connected
    })
    .await;
    let within = Duration::from_millis(500);
    let call = Call { script: &SPIN, keys: vec![b"k".to_vec()], args: Vec::new() };
    assert_eq!(link.run(Lane::Bulk, call, within).await, Err(LinkError::TimedOut(within)));
    let mut last = Ok(0);
    for _ in 0..4 {
        let began = monotonic();
        last = added(&link, Lane::Checks, "n", within).await;
        assert!(began.elapsed() < within + Duration::from_millis(250));
    }
    assert!(matches!(&last, Err(LinkError::Unreachable(_))), "{last:?}");
    server.tell("SCRIPT KILL");
    eventually_up(&link).await;
    assert_eq!(added(&link, Lane::Checks, "n", LONG).await, Ok(1));
}
