//! What every engine must keep of the contract in `store/mod.rs`. An engine's own tests call these with a fresh store.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::clock::ManualClock;
use crate::model::account::SessionRecord;
use crate::model::client::ClientRecord;
use crate::model::client::ClientState;
use crate::model::grant::GrantId;
use crate::model::grant::GrantRecord;
use crate::model::key::KeyId;
use crate::model::key::KeyRecord;
use crate::model::key::KeyState;
use crate::model::time::Timestamp;
use crate::store::Committed;
use crate::store::Facts;
use crate::store::Family;
use crate::store::Precondition;
use crate::store::RecordKey;
use crate::store::Records;
use crate::store::StoreError;
use crate::store::Stored;
use crate::store::Write;
use crate::store::codec::Shelved;
use crate::store::codec::encode_digest_owner;
use crate::store::codec::encode_key;
use crate::store::codec::encode_user;
use crate::store::codec::shelved::tests::client_id;
use crate::store::codec::shelved::tests::client_record;
use crate::store::codec::shelved::tests::ended;
use crate::store::codec::shelved::tests::grant_record;
use crate::store::codec::shelved::tests::session_record;
use crate::store::codec::tests::key_record;
use crate::store::codec::tests::user_record;

/// An engine and the clock that it was given.
pub(super) struct Subject<E> {
    pub store: Arc<E>,
    pub clock: Arc<ManualClock>,
}

/// When the tests' clocks start.
pub(super) const START: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);

impl<E: Records + Facts> Subject<E> {
    async fn commit(&self, preconditions: Vec<Precondition>, writes: Vec<Write>) -> Committed {
        self.store.commit(preconditions, writes, self.clock.now()).await.unwrap()
    }

    async fn stored(&self, key: &RecordKey) -> Option<Stored> {
        self.store.get(key).await.unwrap()
    }

    async fn put_key(&self, record: &KeyRecord) {
        assert_eq!(self.commit(vec![], vec![put(&RecordKey::key(record.id.as_str()), encode_key(record))]).await, Committed::Done);
    }

    async fn ids(&self, family: Family, after: Option<&str>, limit: usize) -> (Vec<String>, Option<String>) {
        let page = self.store.range(family, after, limit).await.unwrap();
        (page.records.into_iter().map(|(key, _stored)| key.id).collect(), page.next)
    }
}

fn put(key: &RecordKey, bytes: impl Into<Vec<u8>>) -> Write {
    Write::Put { key: key.clone(), bytes: bytes.into(), expires: None }
}

fn ring(id: &str) -> RecordKey {
    RecordKey { family: Family::Ring, id: id.to_owned() }
}

/// All of it, each part with a store of its own.
pub(super) async fn run<E: Records + Facts>(fresh: impl Fn() -> Subject<E>) {
    a_commit_is_seen_by_every_later_read(fresh()).await;
    preconditions_judge_all_or_nothing(fresh()).await;
    a_version_never_comes_back(fresh()).await;
    of_many_who_race_one_wins(fresh()).await;
    increments_by_version_lose_nothing(fresh()).await;
    what_expires_is_absent(fresh()).await;
    pages_hold_every_record_once(fresh()).await;
    facts_follow_commits_at_once(fresh()).await;
    facts_about_tokens_follow_commits_at_once(fresh()).await;
    a_grant_ends_with_its_time(fresh()).await;
    damage_stays_with_its_record(fresh()).await;
}

async fn a_commit_is_seen_by_every_later_read<E: Records + Facts>(subject: Subject<E>) {
    let key = ring("a");
    assert_eq!(subject.stored(&key).await, None);
    assert_eq!(subject.commit(vec![], vec![put(&key, b"one")]).await, Committed::Done);
    assert_eq!(subject.stored(&key).await.unwrap().bytes, b"one");
    assert_eq!(subject.commit(vec![], vec![put(&key, b"two"), put(&ring("b"), b"")]).await, Committed::Done);
    assert_eq!(subject.stored(&key).await.unwrap().bytes, b"two");
    assert_eq!(subject.stored(&ring("b")).await.unwrap().bytes, b"");
    assert_eq!(subject.commit(vec![], vec![Write::Remove(key.clone()), Write::Remove(ring("never there"))]).await, Committed::Done);
    assert_eq!(subject.stored(&key).await, None);
    let same_id = RecordKey { family: Family::Digest, id: "b".to_owned() };
    assert_eq!(subject.stored(&same_id).await, None, "families are apart");
}

async fn preconditions_judge_all_or_nothing<E: Records + Facts>(subject: Subject<E>) {
    let (there, gone) = (ring("there"), ring("gone"));
    subject.commit(vec![], vec![put(&there, b"1")]).await;
    let version = subject.stored(&there).await.unwrap().version;
    let table = [
        (vec![Precondition::Absent(there.clone())], Committed::Refused(0)),
        (vec![Precondition::Present(there.clone()), Precondition::Present(gone.clone())], Committed::Refused(1)),
        (vec![Precondition::Absent(gone.clone()), Precondition::AtVersion(there.clone(), version + 1)], Committed::Refused(1)),
        (vec![Precondition::AtVersion(gone.clone(), 0)], Committed::Refused(0)),
    ];
    for (preconditions, expected) in table {
        let what = format!("{preconditions:?}");
        assert_eq!(subject.commit(preconditions, vec![put(&there, b"2"), put(&gone, b"2")]).await, expected, "{what}");
        assert_eq!(subject.stored(&there).await.unwrap(), Stored { version, bytes: b"1".to_vec(), expires: None }, "{what}");
        assert_eq!(subject.stored(&gone).await, None, "{what}");
    }
    let all =
        vec![Precondition::Absent(gone.clone()), Precondition::Present(there.clone()), Precondition::AtVersion(there.clone(), version)];
    assert_eq!(subject.commit(all, vec![put(&there, b"3"), put(&gone, b"3")]).await, Committed::Done);
    assert_eq!(subject.stored(&gone).await.unwrap().bytes, b"3");
}

async fn a_version_never_comes_back<E: Records + Facts>(subject: Subject<E>) {
    let key = ring("a");
    let mut seen = BTreeSet::new();
    for _round in 0..5 {
        subject.commit(vec![], vec![put(&key, b"same")]).await;
        assert!(seen.insert(subject.stored(&key).await.unwrap().version));
        subject.commit(vec![], vec![Write::Remove(key.clone())]).await;
    }
}

async fn of_many_who_race_one_wins<E: Records + Facts>(subject: Subject<E>) {
    for round in 0..5 {
        let key = ring(&format!("code-{round}"));
        let racers = (0..32).map(|racer| {
            let (store, key) = (Arc::clone(&subject.store), key.clone());
            tokio::spawn(async move {
                let bytes = vec![racer];
                let writes = vec![Write::Put { key: key.clone(), bytes, expires: None }];
                (racer, store.commit(vec![Precondition::Absent(key)], writes, START).await.unwrap())
            })
        });
        let mut winners = Vec::new();
        for racer in racers.collect::<Vec<_>>() {
            let (racer, outcome) = racer.await.unwrap();
            match outcome {
                Committed::Done | Committed::Unconfirmed => winners.push(racer),
                Committed::Refused(position) => assert_eq!(position, 0),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}");
        assert_eq!(subject.stored(&key).await.unwrap().bytes, winners);
    }
}

async fn increments_by_version_lose_nothing<E: Records + Facts>(subject: Subject<E>) {
    let key = ring("counter");
    subject.commit(vec![], vec![put(&key, 0_u64.to_be_bytes())]).await;
    let workers: Vec<_> = (0..8)
        .map(|_worker| {
            let (store, key) = (Arc::clone(&subject.store), key.clone());
            tokio::spawn(async move {
                let mut done = 0;
                while done < 10 {
                    let stored = store.get(&key).await.unwrap().unwrap();
                    let count = u64::from_be_bytes(stored.bytes.try_into().unwrap()) + 1;
                    let writes = vec![Write::Put { key: key.clone(), bytes: count.to_be_bytes().to_vec(), expires: None }];
                    if store.commit(vec![Precondition::AtVersion(key.clone(), stored.version)], writes, START).await.unwrap()
                        == Committed::Done
                    {
                        done += 1;
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    assert_eq!(subject.stored(&key).await.unwrap().bytes, 80_u64.to_be_bytes());
}

async fn what_expires_is_absent<E: Records + Facts>(subject: Subject<E>) {
    let (key, user) = (ring("session"), RecordKey::user("local", "guest"));
    let expires = Some(START.plus(Duration::from_secs(60)));
    let writes = |bytes: &[u8]| {
        vec![
            Write::Put { key: key.clone(), bytes: bytes.to_vec(), expires },
            Write::Put { key: user.clone(), bytes: encode_user(&user_record("local", "guest")), expires },
        ]
    };
    subject.commit(vec![], writes(b"1")).await;
    subject.clock.advance(Duration::from_secs(59));
    assert_eq!(subject.stored(&key).await.unwrap().expires, expires);
    let page = subject.store.range(Family::Ring, None, 10).await.unwrap();
    assert_eq!(page.records.iter().map(|(_key, stored)| stored.expires).collect::<Vec<_>>(), [expires], "a page tells it too");
    assert!(subject.store.user("local", "guest").await.unwrap().is_some());
    subject.clock.advance(Duration::from_secs(1));
    assert_eq!(subject.stored(&key).await, None);
    assert_eq!(subject.store.user("local", "guest").await.unwrap(), None);
    assert_eq!(subject.ids(Family::Ring, None, 10).await.0, Vec::<String>::new());
    assert_eq!(subject.commit(vec![Precondition::Present(key.clone())], vec![]).await, Committed::Refused(0));
    assert_eq!(subject.commit(vec![Precondition::Absent(key.clone())], vec![put(&key, b"2")]).await, Committed::Done);
    assert_eq!(subject.stored(&key).await.unwrap().bytes, b"2", "an old expiry does not follow a new record");
    subject.commit(vec![], vec![put(&user, encode_user(&user_record("local", "guest")))]).await;
    subject.clock.advance(Duration::from_secs(3600));
    subject.commit(vec![], vec![put(&ring("other"), b"")]).await;
    assert!(subject.stored(&key).await.is_some());
    assert!(subject.store.user("local", "guest").await.unwrap().is_some());
}

async fn pages_hold_every_record_once<E: Records + Facts>(subject: Subject<E>) {
    let expected: Vec<String> = (0..25).map(|number| format!("{number:02}")).collect();
    subject.commit(vec![], expected.iter().map(|id| put(&ring(id), id.as_bytes())).collect()).await;
    subject.commit(vec![], vec![put(&RecordKey::user("local", "a"), encode_user(&user_record("local", "a")))]).await;
    for limit in [1, 7, 24, 25, 26] {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let (ids, next) = subject.ids(Family::Ring, after.as_deref(), limit).await;
            assert!(ids.len() <= limit);
            all.extend(ids);
            match next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        assert_eq!(all, expected, "limit {limit}");
    }
    assert_eq!(subject.ids(Family::Ring, Some("05x"), 1).await.0, ["06"], "an id that is not there");
    assert_eq!(subject.ids(Family::Ring, Some("99"), 5).await, (vec![], None));
    assert_eq!(subject.ids(Family::Key, None, 5).await, (vec![], None));
}

// battery: K17
// oauth: T6
async fn facts_follow_commits_at_once<E: Records + Facts>(subject: Subject<E>) {
    let mut record = key_record("abc");
    assert_eq!(subject.store.key("abc").await.unwrap(), None);
    subject.put_key(&record).await;
    assert_eq!(subject.store.key("abc").await.unwrap().as_deref(), Some(&record));
    record.state = KeyState::Revoked;
    subject.put_key(&record).await;
    assert_eq!(subject.store.key("abc").await.unwrap().unwrap().state, KeyState::Revoked);
    for odd in ["", "ABC", "{abc}", "*", "abc:", "k"] {
        assert_eq!(subject.store.key(odd).await.unwrap(), None, "{odd}");
    }
    let digest = [5; 32];
    assert_eq!(subject.store.key_by_digest(&digest).await.unwrap(), None);
    subject.commit(vec![], vec![put(&RecordKey::digest(&digest), encode_digest_owner(&KeyId::new("abc")))]).await;
    assert_eq!(subject.store.key_by_digest(&digest).await.unwrap().unwrap().id, record.id);
    subject.commit(vec![], vec![Write::Remove(RecordKey::key("abc"))]).await;
    assert_eq!(subject.store.key("abc").await.unwrap(), None);
    assert_eq!(subject.store.key_by_digest(&digest).await.unwrap(), None, "the digest's key is gone");
    let user = user_record("micro", "a:b");
    subject.commit(vec![], vec![put(&RecordKey::user("micro", "a:b"), encode_user(&user))]).await;
    assert_eq!(subject.store.user("micro", "a:b").await.unwrap().as_deref(), Some(&user));
    assert_eq!(subject.store.user("micro:a", "b").await.unwrap(), None);
    subject.commit(vec![], vec![Write::Remove(RecordKey::user("micro", "a:b"))]).await;
    assert_eq!(subject.store.user("micro", "a:b").await.unwrap(), None);
}

// oauth: O14 J5 U3
async fn facts_about_tokens_follow_commits_at_once<E: Records + Facts>(subject: Subject<E>) {
    let (grant_id, app) = ("0123456789ABCDEFGHIJKL", client_id(1));
    let (grant, client) = (GrantRecord::place(grant_id), ClientRecord::place(&app));
    assert_eq!(subject.store.grant(grant_id).await.unwrap(), None);
    assert_eq!(subject.store.client(&app).await.unwrap(), None);
    let (live, active) = (grant_record(grant_id), client_record(&app));
    subject.commit(vec![], vec![put(&grant, live.encode()), put(&client, active.encode())]).await;
    assert_eq!(subject.store.grant(grant_id).await.unwrap().as_deref(), Some(&live));
    assert_eq!(subject.store.client(&app).await.unwrap().as_deref(), Some(&active));
    // One rotation after the other, each on top of the last, and then the end.
    for generation in 3..8 {
        let version = subject.stored(&grant).await.unwrap().version;
        let turned = GrantRecord { generation, ..live.clone() };
        let outcome = subject.commit(vec![Precondition::AtVersion(grant.clone(), version)], vec![put(&grant, turned.encode())]).await;
        assert_eq!(outcome, Committed::Done);
        assert_eq!(subject.store.grant(grant_id).await.unwrap().unwrap().generation, generation);
        let late = subject.commit(vec![Precondition::AtVersion(grant.clone(), version)], vec![put(&grant, live.encode())]).await;
        assert_eq!(late, Committed::Refused(0), "a generation is given out once");
    }
    let disabled = ClientRecord { state: ClientState::Disabled, ..active.clone() };
    subject.commit(vec![], vec![put(&grant, ended(live.clone()).encode()), put(&client, disabled.encode())]).await;
    assert_eq!(subject.store.grant(grant_id).await.unwrap().as_deref(), Some(&ended(live)));
    assert_eq!(subject.store.client(&app).await.unwrap().unwrap().state, ClientState::Disabled);
    subject.commit(vec![], vec![put(&client, active.encode())]).await;
    assert_eq!(subject.store.client(&app).await.unwrap().unwrap().state, ClientState::Active);
    subject.commit(vec![], vec![Write::Remove(grant), Write::Remove(client)]).await;
    assert_eq!(subject.store.grant(grant_id).await.unwrap(), None);
    assert_eq!(subject.store.client(&app).await.unwrap(), None);
    for odd in ["", "{abc}", "*", "a b", "key:x", "../x", "app_", &"i".repeat(73), &"i".repeat(5000)] {
        assert_eq!(subject.store.grant(odd).await.unwrap(), None, "{odd}");
        assert_eq!(subject.store.client(odd).await.unwrap(), None, "{odd}");
    }
}

// oauth: U6 U3
async fn a_grant_ends_with_its_time<E: Records + Facts>(subject: Subject<E>) {
    let of_key = GrantId::of_key(&KeyId::new("abc"));
    let (grant, session) = (GrantRecord::place(of_key.as_str()), SessionRecord::place("s1"));
    let made = |generation| GrantRecord { generation, ..grant_record(of_key.as_str()) };
    let lasting = |seconds| Some(subject.clock.now().plus(Duration::from_secs(seconds)));
    let write = |generation, expires| Write::Put { key: grant.clone(), bytes: made(generation).encode(), expires };
    let opened = Write::Put { key: session.clone(), bytes: session_record("s1").encode(), expires: lasting(60) };
    subject.commit(vec![Precondition::Absent(grant.clone())], vec![write(1, lasting(60)), opened]).await;
    subject.clock.advance(Duration::from_secs(59));
    assert_eq!(subject.store.grant(of_key.as_str()).await.unwrap().unwrap().generation, 1);
    // Used again, it lives on.
    let version = subject.stored(&grant).await.unwrap().version;
    subject.commit(vec![Precondition::AtVersion(grant.clone(), version)], vec![write(2, lasting(60))]).await;
    subject.clock.advance(Duration::from_secs(59));
    assert_eq!(subject.store.grant(of_key.as_str()).await.unwrap().unwrap().generation, 2);
    assert_eq!(subject.stored(&session).await, None);
    subject.clock.advance(Duration::from_secs(1));
    assert_eq!(subject.store.grant(of_key.as_str()).await.unwrap(), None);
    assert_eq!(subject.ids(Family::Grant, None, 10).await.0, Vec::<String>::new());
    // And a new one may take its place, once.
    let outcome = subject.commit(vec![Precondition::Absent(grant.clone())], vec![write(3, lasting(60))]).await;
    assert_eq!(outcome, Committed::Done);
    assert_eq!(subject.store.grant(of_key.as_str()).await.unwrap().unwrap().generation, 3);
    assert_eq!(subject.commit(vec![Precondition::Absent(grant.clone())], vec![write(4, None)]).await, Committed::Refused(0));
}

// battery: K21
async fn damage_stays_with_its_record<E: Records + Facts>(subject: Subject<E>) {
    subject.put_key(&key_record("good")).await;
    let mut future = encode_key(&key_record("future"));
    future[0] = 200;
    let wrong_type = encode_user(&user_record("local", "wrong"));
    let bad = [("future", future), ("wrong", wrong_type), ("swapped", encode_key(&key_record("good"))), ("text", b"{}".to_vec())];
    subject.commit(vec![], bad.iter().map(|(id, bytes)| put(&RecordKey::key(id), bytes.clone())).collect()).await;
    for (id, bytes) in &bad {
        match subject.store.key(id).await {
            Err(StoreError::Corrupt { key, .. }) => assert_eq!(key, format!("key/{id}")),
            other => panic!("{id}: {other:?}"),
        }
        assert_eq!(&subject.stored(&RecordKey::key(id)).await.unwrap().bytes, bytes, "it can still be looked at and replaced");
    }
    assert!(subject.store.key("good").await.unwrap().is_some());
    let app = client_id(1);
    let wrong = [put(&GrantRecord::place("wrong"), grant_record("another").encode()), put(&ClientRecord::place(&app), b"{}".to_vec())];
    subject.commit(vec![], wrong.to_vec()).await;
    assert!(matches!(subject.store.grant("wrong").await, Err(StoreError::Corrupt { key, .. }) if key == "grant/wrong"));
    assert!(matches!(subject.store.client(&app).await, Err(StoreError::Corrupt { key, .. }) if key == format!("client/{app}")));
    subject.put_key(&key_record("future")).await;
    assert!(subject.store.key("future").await.unwrap().is_some(), "a good record heals the place");
}
