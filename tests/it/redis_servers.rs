//! The servers that the other tests stand on do what their names say.

use std::io::ErrorKind;
use std::time::Duration;
use std::time::Instant;

use crate::support::redis::Answer;
use crate::support::redis::Cluster;
use crate::support::redis::FaultyProxy;
use crate::support::redis::Flavour;
use crate::support::redis::Mode;
use crate::support::redis::RedisServer;
use crate::support::redis::Sentinels;
use crate::support::redis::ServerPlan;
use crate::support::redis::Talk;

fn number(server: &RedisServer, key: &str) -> String {
    server.ask(&["GET", key]).text()
}

#[test]
fn a_server_can_be_killed_restarted_and_set_back() {
    for flavour in [Flavour::Redis, Flavour::Valkey] {
        for log_of_writes in ["no", "yes"] {
            let mut server = ServerPlan::tcp().flavour(flavour).with(&["--appendonly", log_of_writes, "--appendfsync", "always"]).start();
            server.ask(&["SET", "a", "1"]);
            let backup = server.snapshot();
            server.ask(&["SET", "a", "2"]);
            server.restart();
            assert_eq!(number(&server, "a"), if log_of_writes == "yes" { "2" } else { "1" }, "{flavour:?}");
            server.ask(&["SET", "a", "3"]);
            server.restore(&backup);
            assert_eq!(number(&server, "a"), "1", "{flavour:?}");
            server.ask(&["SET", "a", "4"]);
            server.restart();
            assert_eq!(number(&server, "a"), if log_of_writes == "yes" { "4" } else { "1" }, "{flavour:?}");
        }
    }
}

#[test]
fn sentinels_promote_a_replica() {
    let mut all = Sentinels::start_with(Flavour::Redis, &["--min-replicas-to-write", "1"]);
    let first = all.settled_primary();
    let second = all.kill_primary();
    assert_ne!(first, second);
    all.heal();
    let third = all.failover();
    assert_ne!(second, third);
}

#[test]
fn a_cluster_moves_slots_and_replaces_its_dead() {
    let mut cluster = Cluster::start();
    let owner = cluster.owner("{a}");
    cluster.servers[owner].ask(&["SET", "{a}1", "x"]);
    let other = cluster.move_slot("{a}");
    assert_ne!(owner, other);
    assert_eq!(number(&cluster.servers[other], "{a}1"), "x");
    assert!(matches!(cluster.servers[owner].ask(&["GET", "{a}1"]), Answer::Error(text) if text.starts_with("MOVED")));
    // The replica has what its primary had when it last was waited for.
    let mut talk = Talk::open(&cluster.servers[other].place(), Duration::from_secs(20)).expect("it is up");
    assert_eq!(talk.ask(&["SET", "{a}2", "y"]).expect("an answer").text(), "OK");
    assert_eq!(talk.ask(&["WAIT", "1", "20000"]).expect("an answer"), Answer::Number(1));
    let replica = cluster.kill_owner("{a}");
    assert_eq!(number(&cluster.servers[replica], "{a}1"), "x");
    cluster.heal();
    assert_ne!(cluster.failover("{a}"), replica);
}

#[test]
fn a_proxy_does_what_it_is_told() {
    let server = RedisServer::start();
    for proxy in [FaultyProxy::tcp(server.place()), FaultyProxy::unix(server.place())] {
        server.ask(&["DEL", "n"]);
        let open_for = |patience| Talk::open(&proxy.place(), patience).expect("a proxy always takes connections");
        let open = || open_for(Duration::from_secs(20));
        let increase = ["EVAL", "return redis.call('INCR', KEYS[1])", "1", "n"];
        let mut talk = open();
        assert_eq!(talk.ask(&increase).expect("an answer"), Answer::Number(1));
        proxy.set(Mode::Delay(Duration::from_millis(100)));
        let began = Instant::now();
        assert_eq!(talk.ask(&increase).expect("an answer"), Answer::Number(2));
        assert!(began.elapsed() >= Duration::from_millis(100));
        proxy.set(Mode::AnswerScripts("READONLY no".to_owned()));
        assert_eq!(talk.ask(&increase).expect("an answer"), Answer::Error("READONLY no".to_owned()));
        assert_eq!(talk.ask(&["PING"]).expect("an answer").text(), "PONG");
        proxy.set(Mode::Answer("LOADING wait".to_owned()));
        assert_eq!(open().ask(&["PING"]).expect("an answer"), Answer::Error("LOADING wait".to_owned()));
        proxy.set(Mode::BlackHole);
        let mut hasty = open_for(Duration::from_millis(100));
        assert!(matches!(hasty.ask(&["PING"]).expect_err("no answer").kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
        proxy.cut();
        proxy.set(Mode::CutReplies { every: 1 });
        server.ask(&["SET", "n", "2"]);
        let mut talk = open();
        assert_eq!(talk.ask(&["PING"]).expect("an answer").text(), "PONG");
        talk.ask(&increase).expect_err("the answer is cut off");
        assert_eq!((number(&server, "n"), proxy.replies_cut()), ("3".to_owned(), 1));
        proxy.set(Mode::Refuse);
        open().ask(&["PING"]).expect_err("no connection");
        proxy.set(Mode::Pass);
        assert_eq!(open().ask(&increase).expect("an answer"), Answer::Number(4));
    }
}
