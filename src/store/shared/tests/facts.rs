//! What checks are told: how soon a change shows, and what happens without the server.

use std::time::Duration;

use crate::clock::monotonic;
use crate::model::key::KeyState;
use crate::store::Answer;
use crate::store::Facts;
use crate::store::LastKnown;
use crate::store::RecordKey;
use crate::store::StoreError;
use crate::store::Write;
use crate::store::codec::encode_digest_owner;
use crate::store::shared::follower::LEASE;
use crate::store::shared::settings::Server;
use crate::store::shared::settings::Settings;
use crate::store::shared::testing::redis_server::RedisServer;
use crate::store::shared::tests::PATIENCE;
use crate::store::shared::tests::Sidecar;
use crate::store::shared::tests::settings;
use crate::store::shared::tests::until;
use crate::tasks::follow_changes::POLL_EVERY;

fn commands(server: &RedisServer) -> u64 {
    let stats = server.tell("INFO stats");
    let line = stats.lines().find_map(|line| line.strip_prefix("total_commands_processed:")).unwrap();
    line.trim().parse().unwrap()
}

#[tokio::test]
async fn a_confirmed_key_is_answered_from_memory() {
    let server = RedisServer::start();
    let sidecar = Sidecar::over(settings(&server));
    sidecar.put_key("a", KeyState::Active).await;
    let digest = RecordKey::digest(&[5; 32]);
    sidecar.commit(vec![Write::Put { key: digest, bytes: encode_digest_owner(&crate::model::key::KeyId::new("a")), expires: None }]).await;
    sidecar.poll().await;
    assert!(sidecar.is_confirmed());
    assert!(matches!(Facts::key(&*sidecar.records, "a"), Answer::Pending(_)), "the first time it is read");
    assert_eq!(sidecar.state("a").await, Some(KeyState::Active));
    assert_eq!(sidecar.state("b").await, None);
    assert!(Facts::key_by_digest(&*sidecar.records, &[5; 32]).await.unwrap().is_some());
    assert!(Facts::key_by_digest(&*sidecar.records, &[6; 32]).await.unwrap().is_none());
    assert!(Facts::user(&*sidecar.records, "local", "nobody").await.unwrap().is_none());
    let before = commands(&server);
    for _round in 0..100 {
        assert!(matches!(Facts::key(&*sidecar.records, "a"), Answer::Ready(Some(Ok(Some(_))))));
        assert!(matches!(Facts::key(&*sidecar.records, "b"), Answer::Ready(Some(Ok(None)))), "absence is known too");
        assert!(matches!(Facts::key_by_digest(&*sidecar.records, &[5; 32]), Answer::Ready(Some(Ok(Some(_))))));
        assert!(matches!(Facts::key_by_digest(&*sidecar.records, &[6; 32]), Answer::Ready(Some(Ok(None)))));
        assert!(matches!(Facts::user(&*sidecar.records, "local", "nobody"), Answer::Ready(Some(Ok(None)))));
    }
    // The two by which we ask.
    assert_eq!(commands(&server), before + 2);
}

// battery: K17
// oauth: T6
#[tokio::test]
async fn a_change_reaches_another_sidecar_by_polling_alone() {
    let server = RedisServer::start();
    let issuer = Sidecar::over(settings(&server));
    let gate = Sidecar::over(settings(&server)).following(POLL_EVERY);
    issuer.put_key("a", KeyState::Active).await;
    until("the lease begins", async || gate.is_confirmed()).await;
    for (round, state) in [KeyState::Disabled, KeyState::Active, KeyState::Revoked].into_iter().enumerate() {
        gate.state("a").await;
        issuer.change_key("a", state).await;
        let changed = monotonic();
        until("the change shows", async || gate.state("a").await == Some(state)).await;
        let took = changed.elapsed();
        assert!(took < LEASE, "round {round}: {took:?}");
    }
    // A key that was not there is not held to be absent for longer either.
    assert_eq!(gate.state("new").await, None);
    issuer.put_key("new", KeyState::Active).await;
    until("the new key shows", async || gate.state("new").await.is_some()).await;
    assert!(gate.records.follower().polls() < 200, "it polls at its own pace");
    gate.stop().await;
}

#[tokio::test]
async fn a_hint_makes_it_sooner() {
    let server = RedisServer::start();
    let issuer = Sidecar::over(settings(&server));
    issuer.put_key("a", KeyState::Active).await;
    let gate = Sidecar::over(settings(&server)).following(Duration::from_secs(3600));
    until("the lease begins", async || gate.is_confirmed()).await;
    assert_eq!(gate.state("a").await, Some(KeyState::Active));
    let client = redis::Client::open(format!("redis+unix://{}", server.socket().display())).unwrap();
    let mut hints = client.get_async_pubsub().await.unwrap();
    hints.subscribe(gate.records.hint_channel()).await.unwrap();
    issuer.change_key("a", KeyState::Revoked).await;
    let message = tokio::time::timeout(PATIENCE, futures_util::StreamExt::next(&mut hints.on_message())).await.unwrap();
    assert!(message.is_some(), "a commit publishes");
    gate.hints.send(Vec::new()).await.unwrap();
    until("the change shows", async || gate.state("a").await == Some(KeyState::Revoked)).await;
    gate.stop().await;
}

// battery: R3
#[tokio::test]
async fn a_frozen_server_ends_the_lease_and_what_was_known_last_stays() {
    let server = RedisServer::start();
    let timeouts = crate::store::shared::settings::Timeouts { check: Duration::from_millis(50), ..settings(&server).timeouts };
    let patient = Sidecar::over(settings(&server));
    patient.put_key("a", KeyState::Active).await;
    patient.put_key("gone", KeyState::Revoked).await;
    let gate = Sidecar::over(Settings { timeouts, ..settings(&server) }).following(Duration::from_millis(100));
    until("the lease begins", async || gate.is_confirmed()).await;
    until("the key is held", async || matches!(Facts::key(&*gate.records, "a").await, Ok(Some(_)))).await;
    until("the other is held", async || matches!(Facts::key(&*gate.records, "gone").await, Ok(Some(_)))).await;
    assert_eq!(gate.records.lapsed_for(), Some(Duration::ZERO));
    server.freeze();
    let frozen = monotonic();
    until("the lease lapses", async || !gate.is_confirmed()).await;
    assert!(frozen.elapsed() <= LEASE + Duration::from_secs(1), "{:?}", frozen.elapsed());
    let asked = monotonic();
    assert!(matches!(Facts::key(&*gate.records, "a").await, Err(StoreError::Unavailable(_))), "no stale allow");
    assert!(asked.elapsed() < Duration::from_secs(1), "a request waits no longer than it may: {:?}", asked.elapsed());
    assert!(gate.records.lapsed_for().is_some_and(|lapsed| lapsed > Duration::ZERO));
    assert_eq!(LastKnown::key(&*gate.records, "a").unwrap().state, KeyState::Active);
    assert_eq!(LastKnown::key(&*gate.records, "gone").unwrap().state, KeyState::Revoked);
    assert!(LastKnown::key(&*gate.records, "never asked for").is_none());
    server.thaw();
    until("it is confirmed again", async || gate.is_confirmed()).await;
    assert_eq!(*gate.records.follower().resets().borrow(), 0, "nothing was lost");
    assert!(gate.records.follower().failed_polls() == 0 || gate.records.follower().polls() > 0);
    until("the key is held again", async || matches!(Facts::key(&*gate.records, "a").await, Ok(Some(_)))).await;
    gate.stop().await;
}

#[tokio::test]
async fn without_a_server_from_the_start_nothing_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let sidecar = Sidecar::over(Settings::standalone(Server::Unix(folder.path().join("none.sock"))));
    assert!(sidecar.records.poll().await.is_err());
    assert!(matches!(Facts::key(&*sidecar.records, "a").await, Err(StoreError::Unavailable(_))));
    assert_eq!(sidecar.records.lapsed_for(), None);
    assert!(LastKnown::key(&*sidecar.records, "a").is_none());
    assert_eq!((sidecar.records.follower().failed_polls(), sidecar.records.follower().lease_age(monotonic())), (1, None));
    assert_eq!(sidecar.records.follower().members().load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[tokio::test]
async fn members_come_and_go() {
    let server = RedisServer::start();
    let first = Sidecar::over(settings(&server));
    let members = first.records.follower().members();
    let members = || members.load(std::sync::atomic::Ordering::Relaxed);
    first.poll().await;
    assert_eq!(members(), 1);
    let second = Sidecar::over(settings(&server)).following(Duration::from_millis(10));
    until("both are counted", async || {
        first.poll().await;
        members() == 2
    })
    .await;
    second.stop().await;
    until("one is left", async || {
        first.poll().await;
        members() == 1
    })
    .await;
}

#[tokio::test]
async fn whoever_missed_more_than_the_log_holds_reads_everything_anew() {
    let server = RedisServer::start();
    let (issuer, gate) = (Sidecar::over(settings(&server)), Sidecar::over(settings(&server)));
    issuer.put_key("a", KeyState::Active).await;
    gate.poll().await;
    assert_eq!(gate.state("a").await, Some(KeyState::Active));
    issuer.change_key("a", KeyState::Revoked).await;
    let filler = |number: u32| Write::Put {
        key: RecordKey { family: crate::store::Family::Ring, id: number.to_string() },
        bytes: Vec::new(),
        expires: None,
    };
    for batch in 0..6_u32 {
        issuer.commit((batch * 2000..(batch + 1) * 2000).map(filler).collect()).await;
    }
    assert_eq!(server.tell("HLEN tollgate:1:{r}:log").trim(), ":10000");
    gate.poll().await;
    assert_eq!((gate.records.follower().gaps(), *gate.records.follower().resets().borrow()), (1, 0));
    assert_eq!(gate.state("a").await, Some(KeyState::Revoked));
    // Behind by more than one poll brings, and by less than the log holds.
    let before = gate.records.follower().polls();
    issuer.put_key("b", KeyState::Active).await;
    assert_eq!(gate.state("b").await, Some(KeyState::Active));
    issuer.commit((0..2500).map(filler).collect()).await;
    issuer.change_key("b", KeyState::Disabled).await;
    let step = gate.records.poll().await.unwrap();
    assert!(step.is_behind);
    assert_eq!(gate.records.follower().lag(), 1502);
    gate.poll().await;
    assert_eq!((gate.records.follower().polls() - before, gate.records.follower().lag()), (3, 0));
    assert_eq!(gate.state("b").await, Some(KeyState::Disabled));
}
