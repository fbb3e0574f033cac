//! Grants and clients, which tokens stand on: from memory, gone as soon as they end, and never back after a loss.

use std::time::Duration;

use crate::clock::monotonic;
use crate::model::client::ClientRecord;
use crate::model::client::ClientState;
use crate::model::grant::GrantRecord;
use crate::model::grant::GrantState;
use crate::store::Answer;
use crate::store::Facts;
use crate::store::LastKnown;
use crate::store::RecordKey;
use crate::store::Records;
use crate::store::StoreError;
use crate::store::Write;
use crate::store::codec::Shelved;
use crate::store::codec::shelved::tests::client_id;
use crate::store::codec::shelved::tests::client_record;
use crate::store::codec::shelved::tests::ended;
use crate::store::codec::shelved::tests::grant_record;
use crate::store::shared::follower::LEASE;
use crate::store::shared::settings::Settings;
use crate::store::shared::settings::Timeouts;
use crate::store::shared::testing::redis_server::RedisServer;
use crate::store::shared::tests::Sidecar;
use crate::store::shared::tests::losses::Backup;
use crate::store::shared::tests::losses::heal;
use crate::store::shared::tests::losses::resets;
use crate::store::shared::tests::losses::with_outbox;
use crate::store::shared::tests::settings;
use crate::store::shared::tests::until;
use crate::tasks::follow_changes::POLL_EVERY;

/// What lies there of a record, and replaces it as the issuer does: on top of what it read.
async fn put<T: Shelved>(sidecar: &Sidecar, record: &T) {
    change(sidecar, Write::Put { key: T::place(record.id()), bytes: record.encode(), expires: None }).await;
}

async fn change(sidecar: &Sidecar, write: Write) {
    let preconditions = match sidecar.records.get(write.key()).await.unwrap() {
        Some(stored) => vec![crate::store::Precondition::AtVersion(write.key().clone(), stored.version)],
        None => vec![crate::store::Precondition::Absent(write.key().clone())],
    };
    assert!(sidecar.records.commit(preconditions, vec![write], crate::store::conformance::START).await.unwrap().is_done());
}

/// `live`, `ended` or `absent`.
async fn grant(sidecar: &Sidecar, id: &str) -> &'static str {
    match Facts::grant(&*sidecar.records, id).await.unwrap().map(|record| record.state.clone()) {
        None => "absent",
        Some(GrantState::Live | GrantState::Pending(_)) => "live",
        Some(GrantState::Ended { .. }) => "ended",
    }
}

async fn client(sidecar: &Sidecar, id: &str) -> Option<ClientState> {
    Facts::client(&*sidecar.records, id).await.unwrap().map(|record| record.state)
}

fn disabled(id: &str) -> ClientRecord {
    ClientRecord { state: ClientState::Disabled, ..client_record(id) }
}

#[tokio::test]
async fn what_a_token_stands_on_is_answered_from_memory() {
    let server = RedisServer::start();
    let (sidecar, app) = (Sidecar::over(settings(&server)), client_id(1));
    put(&sidecar, &grant_record("g")).await;
    put(&sidecar, &client_record(&app)).await;
    sidecar.poll().await;
    assert!(matches!(Facts::grant(&*sidecar.records, "g"), Answer::Pending(_)), "the first time it is read");
    assert_eq!((grant(&sidecar, "g").await, grant(&sidecar, "none").await), ("live", "absent"));
    assert_eq!((client(&sidecar, &app).await, client(&sidecar, &client_id(2)).await), (Some(ClientState::Active), None));
    for _round in 0..10 {
        assert!(matches!(Facts::grant(&*sidecar.records, "g"), Answer::Ready(Some(Ok(Some(_))))));
        assert!(matches!(Facts::grant(&*sidecar.records, "none"), Answer::Ready(Some(Ok(None)))), "absence is known too");
        assert!(matches!(Facts::client(&*sidecar.records, &app), Answer::Ready(Some(Ok(Some(_))))));
        assert!(matches!(Facts::client(&*sidecar.records, &client_id(2)), Answer::Ready(Some(Ok(None)))));
    }
    assert!(matches!(Facts::grant(&*sidecar.records, "{g}"), Answer::Ready(Some(Ok(None)))), "what can be no id is never asked for");
    assert!(matches!(Facts::client(&*sidecar.records, "app_short"), Answer::Ready(Some(Ok(None)))));
    let counts = sidecar.records.counts();
    assert_eq!((counts.grants, counts.clients, counts.absent), (1, 1, 2));
}

// battery: K17
// oauth: J5 O14
#[tokio::test]
async fn an_end_reaches_another_sidecar_by_polling_alone() {
    let server = RedisServer::start();
    let (issuer, app) = (Sidecar::over(settings(&server)), client_id(1));
    let gate = Sidecar::over(settings(&server)).following(POLL_EVERY);
    put(&issuer, &grant_record("g")).await;
    put(&issuer, &client_record(&app)).await;
    until("the lease begins", async || gate.is_confirmed()).await;
    assert_eq!((grant(&gate, "g").await, client(&gate, &app).await), ("live", Some(ClientState::Active)));
    let turned = GrantRecord { generation: 9, ..grant_record("g") };
    put(&issuer, &turned).await;
    let shows = async || Facts::grant(&*gate.records, "g").await.unwrap().is_some_and(|record| record.generation == 9);
    until("the rotation shows", shows).await;
    let changed = monotonic();
    put(&issuer, &ended(turned)).await;
    put(&issuer, &disabled(&app)).await;
    until("the end shows", async || grant(&gate, "g").await == "ended").await;
    until("the client is shut", async || client(&gate, &app).await == Some(ClientState::Disabled)).await;
    assert!(changed.elapsed() < LEASE, "{:?}", changed.elapsed());
    put(&issuer, &client_record(&app)).await;
    until("the client is back", async || client(&gate, &app).await == Some(ClientState::Active)).await;
    change(&issuer, Write::Remove(ClientRecord::place(&app))).await;
    until("the client is gone", async || client(&gate, &app).await.is_none()).await;
    gate.stop().await;
}

// oauth: O14
#[tokio::test]
async fn without_the_server_nothing_is_said_of_tokens_and_the_last_is_remembered() {
    let server = RedisServer::start();
    let timeouts = Timeouts { check: Duration::from_millis(50), ..settings(&server).timeouts };
    let (patient, app) = (Sidecar::over(settings(&server)), client_id(1));
    put(&patient, &grant_record("g")).await;
    put(&patient, &client_record(&app)).await;
    let gate = Sidecar::over(Settings { timeouts, ..settings(&server) }).following(Duration::from_millis(100));
    assert_eq!(Facts::patience(&*gate.records), Some(Duration::from_millis(50)));
    until("the lease begins", async || gate.is_confirmed()).await;
    until("the grant is held", async || matches!(Facts::grant(&*gate.records, "g").await, Ok(Some(_)))).await;
    until("the client is held", async || matches!(Facts::client(&*gate.records, &app).await, Ok(Some(_)))).await;
    server.freeze();
    until("the lease lapses", async || !gate.is_confirmed()).await;
    assert!(matches!(Facts::grant(&*gate.records, "g").await, Err(StoreError::Unavailable(_))), "no stale allow");
    assert!(matches!(Facts::client(&*gate.records, &app).await, Err(StoreError::Unavailable(_))));
    assert_eq!(LastKnown::grant(&*gate.records, "g").unwrap().state, GrantState::Live);
    assert_eq!(LastKnown::client(&*gate.records, &app).unwrap().state, ClientState::Active);
    assert!(LastKnown::grant(&*gate.records, "never").is_none() && LastKnown::client(&*gate.records, "never").is_none());
    server.thaw();
    until("it is confirmed again", async || gate.is_confirmed()).await;
    gate.stop().await;
}

// battery: R10 K17
// oauth: O14
#[tokio::test]
async fn what_was_seen_ended_stays_so_when_an_older_state_comes_back() {
    let server = RedisServer::start();
    let (issuer, gate) = (Sidecar::over(settings(&server)), Sidecar::over(settings(&server)));
    let (shut, gone, kept) = (client_id(1), client_id(2), client_id(3));
    for id in ["ended", "kept", "key-k"] {
        put(&issuer, &grant_record(id)).await;
    }
    for id in [&shut, &gone, &kept] {
        put(&issuer, &client_record(id)).await;
    }
    gate.poll().await;
    issuer.poll().await;
    let backup = Backup::of(&server).await;
    put(&issuer, &ended(grant_record("ended"))).await;
    put(&issuer, &ended(grant_record("key-k"))).await;
    put(&issuer, &disabled(&shut)).await;
    change(&issuer, Write::Remove(ClientRecord::place(&gone))).await;
    // A key's grant is given anew on top of the one that ended.
    put(&issuer, &GrantRecord { generation: 5, ..grant_record("key-k") }).await;
    gate.poll().await;
    assert_eq!(grant(&gate, "key-k").await, "live");
    backup.restore(&server).await;
    for sidecar in [&gate, &issuer] {
        sidecar.poll().await;
        assert_eq!(resets(sidecar), 1);
        assert_eq!((grant(sidecar, "ended").await, grant(sidecar, "kept").await), ("ended", "live"));
        assert_eq!((client(sidecar, &shut).await, client(sidecar, &gone).await), (Some(ClientState::Disabled), None));
        assert_eq!(client(sidecar, &kept).await, Some(ClientState::Active));
        // From memory too, and as what was known last.
        assert_eq!(grant(sidecar, "ended").await, "ended");
        assert!(matches!(LastKnown::grant(&*sidecar.records, "ended").unwrap().state, GrantState::Ended { .. }));
        assert!(LastKnown::client(&*sidecar.records, &gone).is_none());
    }
}

// battery: R10 R11
// oauth: O14
#[tokio::test]
async fn an_outbox_ends_again_what_was_ended_and_lost() {
    let server = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let issuer = with_outbox(&settings(&server), folder.path());
    let (shut, gone) = (client_id(1), client_id(2));
    for id in ["ended", "turned"] {
        put(&issuer, &grant_record(id)).await;
    }
    for id in [&shut, &gone] {
        put(&issuer, &client_record(id)).await;
    }
    issuer.poll().await;
    let backup = Backup::of(&server).await;
    put(&issuer, &ended(grant_record("ended"))).await;
    put(&issuer, &GrantRecord { generation: 7, ..grant_record("turned") }).await;
    put(&issuer, &disabled(&shut)).await;
    change(&issuer, Write::Remove(ClientRecord::place(&gone))).await;
    put(&issuer, &grant_record("made")).await;
    let step = issuer.records.poll().await.unwrap();
    issuer.records.note_changes(step).await.unwrap();
    assert_eq!(heal(&issuer).await, (0, 0), "nothing was lost yet");
    backup.restore(&server).await;
    // Somebody else, who never saw it removed, changes the client that came back.
    let other = Sidecar::over(settings(&server));
    put(&other, &ClientRecord { name: "renamed".into(), ..client_record(&gone) }).await;
    issuer.poll().await;
    let (repeated, closed) = heal(&issuer).await;
    assert_eq!((repeated, closed), (4, 1));
    let stranger = Sidecar::over(settings(&server));
    assert_eq!((grant(&stranger, "ended").await, grant(&stranger, "made").await), ("ended", "live"));
    assert_eq!(Facts::grant(&*stranger.records, "turned").await.unwrap().unwrap().generation, 7, "no generation is given out twice");
    assert_eq!((client(&stranger, &shut).await, client(&stranger, &gone).await), (Some(ClientState::Disabled), None));
}

/// A place of the suite's own, to show that whatever is of no check's business stays out of memory.
#[tokio::test]
async fn other_families_leave_no_trace_in_memory() {
    let server = RedisServer::start();
    let sidecar = Sidecar::over(settings(&server));
    sidecar.poll().await;
    let before = sidecar.records.counts();
    for family in crate::store::Family::ALL {
        let key = RecordKey { family, id: "x:y".to_owned() };
        sidecar.commit(vec![Write::Put { key: key.clone(), bytes: Vec::new(), expires: None }, Write::Remove(key)]).await;
    }
    sidecar.poll().await;
    let after = sidecar.records.counts();
    assert_eq!((after.keys, after.users, after.grants, after.clients, after.absent), (0, 0, 0, 0, 0));
    assert_eq!(after.tombstones - before.tombstones, 4, "keys, users, grants and clients");
}
