//! A store that loses what it had: emptied, restored from an older state, failed over. What each sidecar notices, forgets, keeps
//! and does again.

use std::time::Duration;

use crate::model::key::KeyState;
use crate::model::user::UserState;
use crate::store::Committed;
use crate::store::Facts;
use crate::store::Family;
use crate::store::LastKnown;
use crate::store::Precondition;
use crate::store::RecordKey;
use crate::store::Records;
use crate::store::Write;
use crate::store::codec::decode_key;
use crate::store::codec::decode_user;
use crate::store::codec::encode_user;
use crate::store::codec::tests::user_record;
use crate::store::conformance::START;
use crate::store::shared::cache::CacheSizes;
use crate::store::shared::outbox::Outbox;
use crate::store::shared::settings::Mode;
use crate::store::shared::settings::Server;
use crate::store::shared::settings::Settings;
use crate::store::shared::testing::redis_server::FaultyProxy;
use crate::store::shared::testing::redis_server::Mode as Fault;
use crate::store::shared::testing::redis_server::RedisServer;
use crate::store::shared::testing::redis_server::Sentinels;
use crate::store::shared::tests::PATIENCE;
use crate::store::shared::tests::Sidecar;
use crate::store::shared::tests::key_write;
use crate::store::shared::tests::patient;
use crate::store::shared::tests::settings;
use crate::store::shared::tests::until;

/// Every key of a server with its value, and the expiry as it is, to be put back later: what a restored backup does.
pub(super) struct Backup(Vec<(Vec<u8>, Vec<u8>)>);

impl Backup {
    pub(super) async fn of(server: &RedisServer) -> Self {
        let mut connection = connection(server).await;
        let names: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
        let mut kept = Vec::new();
        for name in names {
            let value: Vec<u8> = redis::cmd("DUMP").arg(&name).query_async(&mut connection).await.unwrap();
            kept.push((name, value));
        }
        Self(kept)
    }

    pub(super) async fn restore(&self, server: &RedisServer) {
        let mut connection = connection(server).await;
        let mut pipe = redis::pipe();
        pipe.atomic().cmd("FLUSHALL").ignore();
        for (name, value) in &self.0 {
            pipe.cmd("RESTORE").arg(name).arg(0).arg(value).ignore();
        }
        pipe.query_async::<()>(&mut connection).await.unwrap();
    }
}

async fn connection(server: &RedisServer) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(format!("redis+unix://{}", server.socket().display())).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

pub(super) fn resets(sidecar: &Sidecar) -> u64 {
    *sidecar.records.follower().resets().borrow()
}

/// A sidecar with an outbox in this folder.
pub(super) fn with_outbox(settings: &Settings, folder: &std::path::Path) -> Sidecar {
    Sidecar::with(settings.clone(), Some(Outbox::open(folder).unwrap()), CacheSizes::default())
}

pub(super) async fn heal(sidecar: &Sidecar) -> (usize, usize) {
    let healed = sidecar.records.heal(None).await.unwrap();
    (healed.repeated, healed.closed)
}

// battery: R10
#[tokio::test]
async fn an_emptied_store_is_noticed_at_the_next_poll() {
    let server = RedisServer::start();
    let sidecar = Sidecar::over(settings(&server));
    sidecar.put_key("a", KeyState::Active).await;
    sidecar.poll().await;
    assert_eq!(sidecar.state("a").await, Some(KeyState::Active));
    assert_eq!(sidecar.state("b").await, None);
    assert_eq!(sidecar.records.counts().keys, 1);
    server.tell("FLUSHALL");
    assert_eq!(resets(&sidecar), 0);
    sidecar.poll().await;
    assert_eq!(resets(&sidecar), 1);
    assert_eq!((sidecar.records.counts().keys, sidecar.records.counts().absent), (0, 0), "nothing is held any more");
    assert!(LastKnown::key(&*sidecar.records, "a").is_none());
    assert_eq!(sidecar.state("a").await, None);
    sidecar.poll().await;
    assert_eq!(resets(&sidecar), 1, "it is noticed once");
    // Emptied, and filled by others so far that the head lies ahead of the cursor.
    server.tell("FLUSHALL");
    let other = Sidecar::over(settings(&server));
    for number in 0..5 {
        other.put_key(&format!("n{number}"), KeyState::Active).await;
    }
    sidecar.poll().await;
    assert_eq!(resets(&sidecar), 2);
    assert_eq!(sidecar.state("n0").await, Some(KeyState::Active));
}

// battery: R10 K17
#[tokio::test]
async fn what_was_seen_closed_stays_closed_when_an_older_state_comes_back() {
    let server = RedisServer::start();
    let (issuer, gate) = (Sidecar::over(settings(&server)), Sidecar::over(settings(&server)));
    for id in ["revoked", "disabled", "removed", "enabled", "kept"] {
        issuer.put_key(id, KeyState::Active).await;
    }
    let user = |state| {
        let mut user = user_record("local", "u");
        user.state = state;
        Write::Put { key: RecordKey::user("local", "u"), bytes: encode_user(&user), expires: None }
    };
    issuer.commit(vec![user(UserState::Active)]).await;
    issuer.change_key("enabled", KeyState::Disabled).await;
    gate.poll().await;
    issuer.poll().await;
    let backup = Backup::of(&server).await;
    issuer.change_key("revoked", KeyState::Revoked).await;
    issuer.change_key("disabled", KeyState::Disabled).await;
    issuer.commit(vec![Write::Remove(RecordKey::key("removed")), user(UserState::Disabled)]).await;
    issuer.change_key("enabled", KeyState::Active).await;
    gate.poll().await;
    assert_eq!(gate.state("enabled").await, Some(KeyState::Active));
    backup.restore(&server).await;
    for sidecar in [&gate, &issuer] {
        sidecar.poll().await;
        assert_eq!(resets(sidecar), 1);
        assert_eq!(sidecar.state("revoked").await, Some(KeyState::Revoked));
        assert_eq!(sidecar.state("disabled").await, Some(KeyState::Disabled));
        assert_eq!(sidecar.state("removed").await, None);
        assert_eq!(sidecar.state("enabled").await, Some(KeyState::Disabled), "as it lies there");
        assert_eq!(sidecar.state("kept").await, Some(KeyState::Active));
        assert_eq!(Facts::user(&*sidecar.records, "local", "u").await.unwrap().unwrap().state, UserState::Disabled);
        // From memory too, and as what was known last.
        assert_eq!(sidecar.state("revoked").await, Some(KeyState::Revoked));
        assert_eq!(LastKnown::key(&*sidecar.records, "revoked").unwrap().state, KeyState::Revoked);
        assert!(LastKnown::key(&*sidecar.records, "removed").is_none());
    }
    let stranger = Sidecar::over(settings(&server));
    assert_eq!(stranger.state("revoked").await, Some(KeyState::Active), "who never saw it cannot know, until somebody does it again");
    // Somebody who looks at what lies there and decides anew is obeyed.
    issuer.change_key("disabled", KeyState::Disabled).await;
    issuer.change_key("disabled", KeyState::Active).await;
    gate.poll().await;
    assert_eq!(gate.state("disabled").await, Some(KeyState::Active));
    issuer.change_key("revoked", KeyState::Active).await;
    gate.poll().await;
    assert_eq!(gate.state("revoked").await, Some(KeyState::Revoked), "a change that never knew of the revocation does not lift it");
}

// battery: R10 R11
#[tokio::test]
async fn an_outbox_repeats_what_was_lost_and_loses_nothing_newer() {
    let server = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let issuer = with_outbox(&settings(&server), folder.path());
    let other = Sidecar::over(settings(&server));
    let ring = |id: &str, text: &str| Write::Put {
        key: RecordKey { family: Family::Ring, id: id.to_owned() },
        bytes: text.as_bytes().to_vec(),
        expires: None,
    };
    for id in ["revoked", "removed", "changed-since", "disabled-then-changed-since", "enabled-by-another"] {
        issuer.put_key(id, KeyState::Active).await;
    }
    issuer.commit(vec![ring("r", "one")]).await;
    issuer.poll().await;
    let backup = Backup::of(&server).await;
    issuer.put_key("made", KeyState::Active).await;
    issuer.change_key("made", KeyState::Disabled).await;
    issuer.change_key("revoked", KeyState::Revoked).await;
    issuer.commit(vec![Write::Remove(RecordKey::key("removed")), ring("r", "two")]).await;
    issuer.commit(vec![ring("r", "three")]).await;
    issuer.change_key("changed-since", KeyState::Active).await;
    issuer.change_key("disabled-then-changed-since", KeyState::Disabled).await;
    issuer.change_key("enabled-by-another", KeyState::Disabled).await;
    other.change_key("enabled-by-another", KeyState::Active).await;
    let versions = async |ids: &[&str]| {
        let mut versions = Vec::new();
        for id in ids {
            versions.push(issuer.records.get(&RecordKey::key(id)).await.unwrap().map(|stored| stored.version));
        }
        versions
    };
    let step = issuer.records.poll().await.unwrap();
    issuer.records.note_changes(step).await.unwrap();
    assert_eq!(heal(&issuer).await, (0, 0), "nothing was lost yet");
    let before = versions(&["made", "revoked"]).await;

    backup.restore(&server).await;
    other.change_key("changed-since", KeyState::Disabled).await;
    other.change_key("changed-since", KeyState::Active).await;
    let newer = versions(&["changed-since"]).await;
    other.commit(vec![key_write("disabled-then-changed-since", KeyState::Active)]).await;
    issuer.poll().await;
    assert_eq!(resets(&issuer), 1);
    let (repeated, closed) = heal(&issuer).await;
    assert_eq!(closed, 1);
    assert_eq!(repeated, 7, "made, its disabling, the revocation, the removal, two rings, one disabling");
    for (id, expected) in [
        ("made", Some(KeyState::Disabled)),
        ("revoked", Some(KeyState::Revoked)),
        ("removed", None),
        ("changed-since", Some(KeyState::Active)),
        ("disabled-then-changed-since", Some(KeyState::Disabled)),
        ("enabled-by-another", Some(KeyState::Disabled)),
    ] {
        other.poll().await;
        assert_eq!(other.state(id).await, expected, "{id}");
    }
    assert_eq!(versions(&["made", "revoked"]).await, before, "who knows a revision finds it again");
    assert_eq!(versions(&["changed-since"]).await, newer);
    let ring = issuer.records.get(&RecordKey { family: Family::Ring, id: "r".to_owned() }).await.unwrap().unwrap();
    assert_eq!(ring.bytes, b"three");
    assert_eq!(heal(&issuer).await, (0, 0), "and once is enough");
}

// battery: R10 R11
#[tokio::test]
async fn outboxes_of_two_nodes_put_a_chain_together_in_any_order() {
    let server = RedisServer::start();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let maker = with_outbox(&settings(&server), folders[0].path());
    let closer = with_outbox(&settings(&server), folders[1].path());
    for sidecar in [&maker, &closer] {
        sidecar.poll().await;
    }
    maker.put_key("a", KeyState::Active).await;
    closer.change_key("a", KeyState::Revoked).await;
    for sidecar in [&maker, &closer] {
        let step = sidecar.records.poll().await.unwrap();
        sidecar.records.note_changes(step).await.unwrap();
    }
    server.tell("FLUSHALL");
    for sidecar in [&maker, &closer] {
        sidecar.poll().await;
    }
    assert_eq!(heal(&closer).await, (0, 0), "there is nothing to close yet");
    assert_eq!(heal(&maker).await, (1, 0));
    let early = Sidecar::over(settings(&server));
    assert_eq!(early.state("a").await, Some(KeyState::Revoked), "nobody finds it open meanwhile, or when the closer is gone");
    let step = closer.records.poll().await.unwrap();
    closer.records.note_changes(step).await.unwrap();
    let stranger = Sidecar::over(settings(&server));
    assert_eq!(stranger.state("a").await, Some(KeyState::Revoked));
}

// battery: R10
#[tokio::test]
async fn a_loss_while_the_node_was_down_is_noticed_and_repaired() {
    let server = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&server);
    let issuer = with_outbox(&settings, folder.path()).following(Duration::from_millis(5));
    issuer.put_key("a", KeyState::Active).await;
    issuer.change_key("a", KeyState::Revoked).await;
    let cursor = async || issuer.records.follower().head() >= 2;
    until("the log is followed", cursor).await;
    issuer.stop().await;
    server.tell("FLUSHALL");
    let issuer = with_outbox(&settings, folder.path());
    let mut resets = issuer.records.follower().resets();
    let issuer = issuer.following(Duration::from_millis(5));
    resets.changed().await.unwrap();
    let stranger = Sidecar::over(settings.clone());
    until("the key is there again, revoked", async || stranger.state("a").await == Some(KeyState::Revoked)).await;
    issuer.stop().await;
}

// battery: R10
#[tokio::test]
async fn a_server_restored_from_an_older_file_is_noticed_though_its_log_is_the_same() {
    let server = RedisServer::start();
    let sidecar = Sidecar::over(settings(&server));
    sidecar.put_key("a", KeyState::Active).await;
    sidecar.poll().await;
    let backup = Backup::of(&server).await;
    // Usage comes and goes meanwhile; no record changes.
    for _poll in 0..3 {
        sidecar.poll().await;
    }
    assert_eq!(sidecar.state("a").await, Some(KeyState::Active));
    backup.restore(&server).await;
    sidecar.poll().await;
    assert_eq!(resets(&sidecar), 1);
    assert_eq!(sidecar.state("a").await, Some(KeyState::Active));
}

// battery: R11
#[tokio::test]
async fn a_commit_that_no_replica_has_is_told_apart() {
    let server = RedisServer::start();
    let issuer = Sidecar::over(Settings { replicas: 1, ..settings(&server) });
    assert_eq!(issuer.commit(vec![key_write("a", KeyState::Active)]).await, Committed::Unconfirmed);
    assert_eq!(issuer.state("a").await, Some(KeyState::Active), "it is done all the same");
    let refused = issuer.records.commit(vec![Precondition::Absent(RecordKey::key("a"))], vec![], START).await.unwrap();
    assert_eq!(refused, Committed::Refused(0));
}

#[tokio::test]
async fn a_user_that_is_made_anew_is_no_ghost() {
    let server = RedisServer::start();
    let (issuer, gate) = (Sidecar::over(settings(&server)), Sidecar::over(settings(&server)));
    let key = RecordKey::user("local", "u");
    let put = Write::Put { key: key.clone(), bytes: encode_user(&user_record("local", "u")), expires: None };
    for _round in 0..3 {
        issuer.commit(vec![put.clone()]).await;
        gate.poll().await;
        assert!(Facts::user(&*gate.records, "local", "u").await.unwrap().is_some());
        issuer.commit(vec![Write::Remove(key.clone())]).await;
        gate.poll().await;
        assert!(Facts::user(&*gate.records, "local", "u").await.unwrap().is_none());
    }
    issuer.commit(vec![put]).await;
    let stored = issuer.records.get(&key).await.unwrap().unwrap();
    assert_eq!(decode_user(&key.id, &stored.bytes).unwrap(), user_record("local", "u"));
}

// battery: R10
#[tokio::test]
async fn a_server_set_back_to_an_old_file_is_noticed_and_mended() {
    let mut server = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let issuer = with_outbox(&settings(&server), folder.path()).following(Duration::from_millis(20));
    let gate = Sidecar::over(settings(&server)).following(Duration::from_millis(20));
    issuer.put_key("a", KeyState::Active).await;
    issuer.put_key("kept", KeyState::Active).await;
    until("the lease begins", async || gate.is_confirmed()).await;
    assert_eq!(gate.state("a").await, Some(KeyState::Active));
    let backup = server.snapshot();
    issuer.change_key("a", KeyState::Revoked).await;
    until("the revocation shows", async || gate.state("a").await == Some(KeyState::Revoked)).await;
    server.restore(&backup);
    let seen_since = |sidecar: &Sidecar| sidecar.records.follower().resets();
    for sidecar in [&issuer, &gate] {
        let mut resets = seen_since(sidecar);
        tokio::time::timeout(PATIENCE, resets.wait_for(|resets| *resets == 1)).await.unwrap().unwrap();
    }
    let key = RecordKey::key("a");
    let revoked = async || {
        let stored = issuer.records.get(&key).await.ok().flatten();
        stored.is_some_and(|stored| decode_key("a", &stored.bytes).unwrap().state == KeyState::Revoked)
    };
    until("it is revoked again", revoked).await;
    until("the gate is confirmed", async || gate.is_confirmed()).await;
    assert_eq!(gate.settled_state("a").await, Some(KeyState::Revoked));
    assert_eq!(gate.settled_state("kept").await, Some(KeyState::Active));
    issuer.stop().await;
    gate.stop().await;
}

// battery: R11
#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_done_once() {
    let server = RedisServer::start();
    let proxy = FaultyProxy::unix(server.place());
    let issuer = Sidecar::over(Settings { servers: vec![Server::Unix(proxy.socket().to_owned())], ..settings(&server) });
    issuer.put_key("a", KeyState::Active).await;
    for round in 0..5 {
        let key = RecordKey::key("a");
        let version = issuer.records.get(&key).await.unwrap().unwrap().version;
        let once = RecordKey::key(&format!("once{round}"));
        let preconditions = vec![Precondition::AtVersion(key.clone(), version), Precondition::Absent(once)];
        let writes = vec![key_write("a", KeyState::Active), key_write(&format!("once{round}"), KeyState::Active)];
        proxy.set(Fault::CutReplies { every: 1 });
        let cut = proxy.replies_cut();
        let committing = issuer.records.commit(preconditions, writes, START);
        let mending = async {
            until("an answer is lost", async || proxy.replies_cut() > cut).await;
            proxy.set(Fault::Pass);
        };
        let (outcome, ()) = tokio::join!(committing, mending);
        assert_eq!(outcome.unwrap(), Committed::Done, "round {round}");
        assert_eq!(server.tell("HGET tollgate:1:{r}:meta head").lines().last().unwrap(), (3 + 2 * round).to_string());
    }
    // One that was refused stays refused, however often its answer is lost.
    proxy.set(Fault::CutReplies { every: 1 });
    let cut = proxy.replies_cut();
    let committing = issuer.records.commit(vec![Precondition::Absent(RecordKey::key("a"))], vec![key_write("b", KeyState::Active)], START);
    let mending = async {
        until("an answer is lost", async || proxy.replies_cut() > cut).await;
        proxy.set(Fault::Pass);
    };
    let (outcome, ()) = tokio::join!(committing, mending);
    assert_eq!(outcome.unwrap(), Committed::Refused(0));
}

// battery: R11
#[tokio::test]
async fn a_failover_forgets_nothing_that_was_revoked() {
    let mut sentinels = Sentinels::start();
    let tcp = |address: &String| {
        let (host, port) = address.rsplit_once(':').unwrap();
        Server::Tcp { host: host.to_owned(), port: port.parse().unwrap() }
    };
    let servers = sentinels.addresses().iter().map(tcp).collect();
    let mode = Mode::Sentinel { master_name: sentinels.name().to_owned() };
    let settings = Settings { mode, servers, replicas: 1, ..patient() };
    let folder = tempfile::tempdir().unwrap();
    let issuer = with_outbox(&settings, folder.path()).following(Duration::from_millis(50));
    let gate = Sidecar::over(settings.clone()).following(Duration::from_millis(50));
    issuer.put_key("a", KeyState::Active).await;
    until("the lease begins", async || gate.is_confirmed() && gate.state("a").await.is_some()).await;
    let key = RecordKey::key("a");
    let version = issuer.records.get(&key).await.unwrap().unwrap().version;
    let writes = vec![key_write("a", KeyState::Revoked)];
    let outcome = issuer.records.commit(vec![Precondition::AtVersion(key, version)], writes, START).await.unwrap();
    assert_eq!(outcome, Committed::Done, "a replica has it");
    sentinels.kill_primary();
    until("the next primary is followed", async || {
        let follower = gate.records.follower();
        follower.failovers() + *follower.resets().borrow() > 0 && gate.is_confirmed()
    })
    .await;
    assert_eq!(gate.settled_state("a").await, Some(KeyState::Revoked));
    issuer.stop().await;
    gate.stop().await;
}
