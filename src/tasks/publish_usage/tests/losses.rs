//! A store that loses, hangs, refuses or answers too late.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::clock::monotonic;
use crate::model::time::Timestamp;
use crate::model::usage::Span;
use crate::model::usage::UsageQuery;
use crate::store::Counts;
use crate::store::counts_conformance::everything;
use crate::store::shared::link::Link;
use crate::store::shared::settings::Server;
use crate::store::shared::settings::Settings;
use crate::store::shared::testing::redis_server::FaultyProxy;
use crate::store::shared::testing::redis_server::Mode;
use crate::store::shared::testing::redis_server::Place;
use crate::store::shared::testing::redis_server::RedisServer;
use crate::tasks::flush_usage::FlushUsage;
use crate::tasks::publish_usage::PublishError;
use crate::tasks::publish_usage::PublishUsage;
use crate::tasks::publish_usage::Signals;
use crate::tasks::publish_usage::tests::HOUR;
use crate::tasks::publish_usage::tests::PATIENCE;
use crate::tasks::publish_usage::tests::Rig;
use crate::tasks::publish_usage::tests::start;
use crate::tasks::publish_usage::tests::until;

// battery: R10
#[tokio::test]
async fn a_store_that_lost_everything_is_told_everything_again() {
    let rig = Rig::start();
    let (mut one, mut idle) = (rig.node("a"), rig.node("b"));
    one.count("alice", "r", 5);
    idle.count("alice", "r", 7);
    idle.count("bob", "s", 2);
    one.settle().await;
    idle.settle().await;
    rig.judge(&[("alice", 12), ("bob", 2)]);
    rig.server.ask(&["FLUSHALL"]);
    one.count("alice", "r", 1);
    one.settle().await;
    assert_eq!(rig.allowed("alice"), 6, "its own part at once");
    idle.settle().await;
    rig.judge(&[("alice", 13), ("bob", 2)]);
    assert_eq!((one.status.restatements(), idle.status.restatements()), (1, 1));
    assert_eq!(Counts::last_use(&*rig.counts, "k1").await.unwrap().map(|last| last.route.to_string()).as_deref(), Some("s"));
    let all = UsageQuery::between(Span::Month, Timestamp::default(), rig.clock.now());
    assert_eq!(everything(&*rig.counts, &all).await.len(), 2, "the lists of users are told again too");
}

// battery: R10 R11
#[tokio::test]
async fn a_store_that_was_thrown_back_heals() {
    let mut rig = Rig::start();
    let (mut one, mut idle) = (rig.node("a"), rig.node("b"));
    one.count("alice", "r", 5);
    one.settle().await;
    let old = rig.server.snapshot();
    one.count("alice", "r", 5);
    idle.count("alice", "r", 100);
    for node in [&mut one, &mut idle] {
        node.settle().await;
    }
    assert_eq!(rig.allowed("alice"), 110);
    rig.server.restore(&old);
    assert_eq!(rig.allowed("alice"), 5, "acknowledged, and gone");
    // The connection broke with the server; whoever notices first tells again.
    until(async || one.publish().await.is_ok() && idle.publish().await.is_ok()).await;
    one.settle().await;
    idle.settle().await;
    rig.judge(&[("alice", 110)]);
    assert_eq!((one.status.conflicts(), idle.status.conflicts()), (0, 0));
}

// battery: R11
#[tokio::test]
async fn a_failover_that_loses_a_little_heals_at_the_signal() {
    let rig = Rig::start();
    let mut node = rig.node("a");
    node.count("alice", "r", 5);
    node.settle().await;
    // Another slot's primary lost it: this writer's name is still there.
    for key in rig.server.ask(&["KEYS", "tollgate:1:u:*"]).texts() {
        rig.server.ask(&["DEL", &key]);
    }
    node.settle().await;
    assert_eq!(rig.contents().0.len(), 0, "nobody noticed");
    node.link_changes.send_modify(|changes| *changes += 1);
    node.settle().await;
    rig.judge(&[("alice", 5)]);
    for key in rig.server.ask(&["KEYS", "tollgate:1:u:*"]).texts() {
        rig.server.ask(&["DEL", &key]);
    }
    node.resets.send_modify(|resets| *resets += 1);
    node.settle().await;
    rig.judge(&[("alice", 5)]);
}

#[tokio::test]
async fn a_lost_reply_changes_nothing() {
    let server = RedisServer::start();
    let proxy = FaultyProxy::unix(server.place());
    let Place::Unix(socket) = proxy.place() else { panic!("a socket") };
    let link = Link::new(Settings::standalone(Server::Unix(socket)));
    let rig = Rig::over(server, &link);
    let mut node = rig.node("a");
    node.count("alice", "r", 1);
    node.settle().await;
    let mut counted = 1;
    let mut failures = 0;
    for every in [1, 2, 3, 1, 2] {
        proxy.set(Mode::CutReplies { every });
        for _ in 0..4 {
            node.count("alice", "r", 10);
            counted += 10;
            failures += u32::from(node.publish().await.is_err());
        }
        proxy.set(Mode::Pass);
    }
    assert!(failures > 0 && proxy.replies_cut() > 0);
    until(async || node.publish().await.is_ok()).await;
    node.settle().await;
    rig.judge(&[("alice", counted)]);
    assert_eq!(node.status.conflicts(), 0);
}

#[tokio::test]
async fn an_answer_that_comes_too_late_changes_nothing() {
    let rig = Rig::impatient();
    let mut node = rig.node("a");
    node.count("alice", "r", 1);
    node.settle().await;
    rig.server.freeze();
    node.count("alice", "r", 2);
    assert!(node.publish().await.is_err());
    node.count("alice", "r", 3);
    assert!(node.publish().await.is_err());
    rig.server.thaw();
    until(async || node.publish().await.is_ok()).await;
    rig.judge(&[("alice", 6)]);
    assert_eq!(node.truth("alice"), 6);
}

#[tokio::test]
async fn killed_between_sending_and_the_answer_nothing_is_lost_or_doubled() {
    let rig = Rig::start();
    let mut counted = 0;
    for round in 0..6 {
        let mut node = rig.node("a");
        rig.outlast_the_killed();
        node.settle().await;
        node.count("alice", "r", 10);
        counted += 10;
        if round % 3 == 1 {
            node.publish().await.unwrap();
        } else if round % 3 == 2 {
            // In the history, and not published.
            node.publisher.flush().await.unwrap();
        }
    }
    let mut node = rig.node("a");
    assert_eq!(node.publish().await, Err(PublishError::Waiting), "the killed run might be alive");
    rig.outlast_the_killed();
    node.settle().await;
    rig.judge(&[("alice", counted)]);
    assert_eq!(node.status.conflicts(), 0);
}

/// A store that hangs holds up nobody who counts, and neither the ledger's own flush.
#[tokio::test]
async fn a_store_that_hangs_holds_up_nothing() {
    let rig = Rig::impatient();
    let node = rig.node("a");
    let clock = Arc::clone(&rig.clock) as Arc<dyn Clock>;
    let signals =
        Signals { link_changes: node.link_changes.subscribe(), resets: node.resets.subscribe(), members: Arc::clone(&node.members) };
    let interval = Duration::from_millis(10);
    let (publish, published) =
        PublishUsage::new(Arc::clone(&node.usage), Arc::clone(&rig.counts), signals, Arc::clone(&clock), interval).unwrap();
    let (flush, flushed) = FlushUsage::new(Arc::clone(&node.usage), clock, interval);
    let end = CancellationToken::new();
    let running = [tokio::spawn(async move { publish.run(end).await.is_ok() })];
    let flushing = tokio::spawn(flush.run(CancellationToken::new()));
    published.publish_now().await.unwrap();
    rig.server.freeze();
    let began = monotonic();
    while published.status().failures() < 3 {
        node.count("alice", "r", 1);
        let asked = monotonic();
        flushed.flush_now().await.unwrap();
        assert!(asked.elapsed() < Duration::from_secs(1));
        assert!(began.elapsed() < PATIENCE);
    }
    assert!(node.truth("alice") > 3);
    rig.server.thaw();
    until(async || published.publish_now().await.is_ok()).await;
    rig.judge(&[("alice", node.truth("alice"))]);
    flushing.abort();
    for task in running {
        task.abort();
    }
}

// battery: R1
#[tokio::test]
async fn one_users_spoilt_record_is_that_users_alone() {
    let rig = Rig::start();
    let mut node = rig.node("a");
    let hour = format!("tollgate:1:u:{{alice}}:h:{}", start().hour().0);
    let spoilt: [&[&str]; 5] = [
        &["SET", &hour, "what is this"],
        &["HSET", &hour, "w", "1", "wQ", "0", "ar:k1", "5;x"],
        &["HSET", &hour, "w", "many"],
        &["HSET", &hour, "ar:k1", "5"],
        &["RPUSH", &hour, "a"],
    ];
    let mut bob = 0;
    for (round, words) in spoilt.iter().enumerate() {
        rig.server.ask(&["DEL", &hour]);
        rig.server.ask(words);
        let before = rig.server.ask(&["DUMP", &hour]);
        node.count("alice", "r", 5);
        node.count("bob", "r", 1);
        bob += 1;
        node.publish().await.unwrap();
        assert_eq!(node.status.quarantined(), 1, "{words:?}");
        let hours = UsageQuery::between(Span::Hour, rig.clock.now(), rig.clock.now().plus(HOUR));
        let bobs = UsageQuery { users: Some([Arc::from("bob")].into()), ..hours.clone() };
        assert_eq!(everything(&*rig.counts, &bobs).await[0].count, bob, "{words:?}");
        if round != 2 {
            assert!(rig.counts.query(&hours).await.is_err(), "{words:?}: never a wrong number");
        }
        assert_eq!(rig.server.ask(&["DUMP", &hour]), before, "{words:?}: nothing was written");
        let alices = UsageQuery { span: Span::Month, users: Some([Arc::from("alice")].into()), ..hours };
        assert_eq!(everything(&*rig.counts, &alices).await.first().map(|row| row.count), None, "{words:?}: no part of it");
        // It is not asked for with every round.
        let failed = node.status.published();
        node.publish().await.unwrap();
        assert_eq!(node.status.published(), failed);
        node.publisher.end_quarantine();
    }
    rig.server.ask(&["DEL", &hour]);
    node.publish().await.unwrap();
    rig.judge(&[("alice", 25), ("bob", bob)]);
    assert_eq!(node.status.quarantined(), 0);
}

// battery: R2
#[tokio::test]
async fn what_is_too_large_is_not_taken_up() {
    let rig = Rig::start();
    let mut node = rig.node("a");
    let hour = format!("tollgate:1:u:{{alice}}:h:{}", start().hour().0);
    node.count("alice", "r", 5);
    node.settle().await;
    let fill = "for i=1,200001 do redis.call('HSET', KEYS[1], 'ax'..i..':', '1;1') end return 1";
    rig.server.ask(&["EVAL", fill, "1", &hour]);
    let hours = UsageQuery::between(Span::Hour, rig.clock.now(), rig.clock.now().plus(HOUR));
    let error = rig.counts.query(&hours).await.unwrap_err().to_string();
    assert!(error.contains("too many lines"), "{error}");
    rig.server.ask(&["DEL", &hour]);
    rig.server.ask(&["EVAL", "return redis.call('HSET', KEYS[1], 'ax:', string.rep('1', 70000000))", "1", &hour]);
    let error = rig.counts.query(&hours).await.unwrap_err().to_string();
    assert!(error.contains("too many bytes"), "{error}");
    node.count("alice", "r", 1);
    node.publish().await.unwrap();
    assert_eq!(node.status.quarantined(), 1);
}

// battery: R8
#[tokio::test]
async fn counts_wait_while_the_store_has_no_room() {
    let rig = Rig::start();
    let mut node = rig.node("a");
    node.count("alice", "r", 5);
    node.settle().await;
    rig.server.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    let before = rig.contents().0;
    for _ in 0..3 {
        node.count("alice", "r", 1);
        node.count("bob", "r", 1);
        assert!(node.publish().await.is_err());
    }
    assert_eq!(rig.contents().0, before, "a script is refused whole");
    assert!(node.status.unpublished() > 0);
    assert_eq!(node.status.quarantined(), 0);
    rig.server.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    until(async || node.publish().await.is_ok()).await;
    rig.judge(&[("alice", 8), ("bob", 3)]);
}

/// In an outage the list of what rose stays short; what did not fit is found by a sweep.
#[tokio::test]
async fn an_outage_takes_bounded_memory() {
    let rig = Rig::impatient();
    let mut node = rig.node("a");
    node.settle().await;
    rig.server.freeze();
    let users: Vec<String> = (0..300).map(|user| format!("user-{user}")).collect();
    for user in &users {
        node.count(user, "r", 2);
    }
    assert!(node.publish().await.is_err());
    assert_eq!(node.usage.history().unpublished(), crate::usage::CHANGED_ROWS_MAX);
    rig.server.thaw();
    until(async || node.publish().await.is_ok()).await;
    node.settle().await;
    assert_eq!(node.status.overflows(), 1);
    assert_eq!(node.usage.history().unpublished(), 0);
    rig.judge(&users.iter().map(|user| (user.as_str(), 2)).collect::<Vec<_>>());
}
