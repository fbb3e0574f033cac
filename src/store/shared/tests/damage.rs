//! Records that somebody else wrote into Redis, and a Redis that takes no writes.

use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::clock::Clock as _;
use crate::clock::ManualClock;
use crate::model::caller::Subject;
use crate::model::key::KeyRecord;
use crate::model::key::KeyState;
use crate::secrets::Pepper;
use crate::secrets::Peppers;
use crate::store::Facts;
use crate::store::Family;
use crate::store::Precondition;
use crate::store::RecordKey;
use crate::store::Records;
use crate::store::StoreError;
use crate::store::Write;
use crate::store::codec::encode_key;
use crate::store::codec::encode_user;
use crate::store::codec::tests::key_record;
use crate::store::codec::tests::user_record;
use crate::store::conformance::START;
use crate::store::shared::link::Link;
use crate::store::shared::records::SharedRecords;
use crate::store::shared::settings::Settings;
use crate::store::shared::testing::redis_server::RedisServer;
use crate::store::shared::tests::PATIENCE;
use crate::store::shared::tests::Sidecar;
use crate::store::shared::tests::key_write;
use crate::store::shared::tests::settings;

async fn why_corrupt(sidecar: &Sidecar, id: &str) -> String {
    match Facts::key(&*sidecar.records, id).await {
        Err(StoreError::Corrupt { key, why }) => {
            assert_eq!(key, format!("key/{id}"));
            why
        }
        other => panic!("{id}: {other:?}"),
    }
}

/// Runs a script as somebody else would, on the record of a key.
async fn meddle(server: &RedisServer, script: &str, id: &str) {
    let client = redis::Client::open(format!("redis+unix://{}", server.socket().display())).unwrap();
    let patient = redis::AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
    let mut connection = client.get_multiplexed_async_connection_with_config(&patient).await.unwrap();
    let name = format!("tollgate:1:{{r}}:rec:key/{id}");
    redis::cmd("EVAL").arg(script).arg(1).arg(name).query_async::<redis::Value>(&mut connection).await.unwrap();
}

// battery: R1 R2 R13
#[tokio::test]
async fn what_others_wrote_is_refused_and_hurts_nothing_else() {
    let server = RedisServer::start();
    let sidecar = Sidecar::over(settings(&server));
    sidecar.poll().await;
    let table = [
        ("string", "redis.call('DEL', KEYS[1]) return redis.call('SET', KEYS[1], 'x')", "wrong type"),
        ("list", "redis.call('DEL', KEYS[1]) return redis.call('RPUSH', KEYS[1], 'x')", "wrong type"),
        ("large", "return redis.call('HSET', KEYS[1], 'b', string.rep('x', 50 * 1024 * 1024))", "larger than a record"),
        ("version", "return redis.call('HSET', KEYS[1], 'v', string.rep('1', 30))", "larger than a record"),
        ("many", "for n = 1, 200000 do redis.call('HSET', KEYS[1], n, n) end return redis.call('HDEL', KEYS[1], 'b')", "missing"),
        ("expiry", "return redis.call('HSET', KEYS[1], 'e', 'never')", "no number"),
        ("later", "return redis.call('HSET', KEYS[1], 'e', '09999999999999999999')", "seal is broken"),
        ("reversioned", "return redis.call('HSET', KEYS[1], 'v', '1')", "seal is broken"),
        (
            "cut",
            "local b = redis.call('HGET', KEYS[1], 'b') return redis.call('HSET', KEYS[1], 'b', string.sub(b, 1, 20))",
            "seal is broken",
        ),
        ("unsealed", "return redis.call('HSET', KEYS[1], 'b', '{}')", "seal is broken"),
        (
            "widened",
            "local b = redis.call('HGET', KEYS[1], 'b') return redis.call('HSET', KEYS[1], 'b', (string.gsub(b, 'conversations:read', 'conversations:rite')))",
            "seal is broken",
        ),
        (
            "moved",
            "return redis.call('HSET', KEYS[1], 'b', redis.call('HGET', 'tollgate:1:{r}:rec:key/good', 'b'), \
             'v', redis.call('HGET', 'tollgate:1:{r}:rec:key/good', 'v'))",
            "seal is broken",
        ),
    ];
    sidecar.put_key("good", KeyState::Active).await;
    for (id, script, expected) in table {
        sidecar.put_key(id, KeyState::Active).await;
        meddle(&server, script, id).await;
        let why = why_corrupt(&sidecar, id).await;
        assert!(why.contains(expected), "{id}: {why}");
        assert!(matches!(sidecar.records.get(&RecordKey::key(id)).await, Err(StoreError::Corrupt { .. })), "{id}");
        assert_eq!(sidecar.state("good").await, Some(KeyState::Active));
    }
    let page = sidecar.records.range(Family::Key, None, 100).await.unwrap();
    assert_eq!(page.records.len(), table.len() + 1);
    assert_eq!(page.records.iter().filter(|(_key, stored)| stored.version == 0).count(), table.len());
    assert_eq!(sidecar.records.counts().corrupt, table.len());
    assert_eq!(sidecar.records.corrupt_places(1), ["key/cut"]);
    for (id, ..) in table {
        let present = vec![Precondition::Present(RecordKey::key(id))];
        assert!(sidecar.records.commit(present, vec![key_write(id, KeyState::Active)], START).await.unwrap().is_done(), "{id}");
        assert_eq!(sidecar.state(id).await, Some(KeyState::Active), "a good record heals the place: {id}");
    }
    assert_eq!(sidecar.records.counts().corrupt, 0);
}

// battery: R13
#[tokio::test]
async fn a_record_of_another_deployment_is_refused() {
    let server = RedisServer::start();
    let clock = Arc::new(ManualClock::starting_at(START));
    let pepper = Pepper { id: Arc::from("theirs"), secret: Zeroizing::new(vec![9; 32]) };
    let theirs = SharedRecords::new(Link::new(settings(&server)), clock, Arc::new(Peppers::new(pepper, Vec::new())), None);
    theirs.commit(Vec::new(), vec![key_write("a", KeyState::Active)], START).await.unwrap();
    let ours = Sidecar::over(settings(&server));
    assert!(why_corrupt(&ours, "a").await.contains("pepper that is not configured"));
}

/// Two installations may share a server and a pepper, and still a key of one is none of the other.
// battery: R13
#[tokio::test]
async fn a_record_of_another_prefix_is_refused() {
    let server = RedisServer::start();
    let staging = Sidecar::over(Settings { prefix: "staging".to_owned(), ..settings(&server) });
    staging.put_key("a", KeyState::Active).await;
    assert_eq!(server.tell("COPY staging:1:{r}:rec:key/a tollgate:1:{r}:rec:key/a").trim(), ":1");
    let ours = Sidecar::over(settings(&server));
    assert!(why_corrupt(&ours, "a").await.contains("seal is broken"));
    assert_eq!(staging.state("a").await, Some(KeyState::Active));
}

// battery: R1
#[tokio::test]
async fn a_wrong_type_among_the_indexes_stops_a_commit_before_it_writes() {
    for key in ["tollgate:1:{r}:log", "tollgate:1:{r}:exp", "tollgate:1:{r}:idx:key", "tollgate:1:{r}:meta"] {
        let server = RedisServer::start();
        let sidecar = Sidecar::over(settings(&server));
        sidecar.put_key("before", KeyState::Active).await;
        server.tell(&format!("DEL {key}"));
        server.tell(&format!("SET {key} x"));
        let outcome = sidecar.records.commit(Vec::new(), vec![key_write("a", KeyState::Active)], START).await;
        assert!(outcome.is_err(), "{key}");
        assert_eq!(server.tell("EXISTS tollgate:1:{r}:rec:key/a").trim(), ":0", "{key}: nothing half-written");
    }
}

// battery: R16
#[tokio::test]
async fn odd_ids_lie_apart_and_come_back_as_they_are() {
    let server = RedisServer::start();
    let sidecar = Sidecar::over(settings(&server));
    let odd = ["{x}", "}{r}", "a b", "a\nb", "a\r\nDEL x", "*", "[a-z]", "a%20b", "a b ", "ä", "\u{0}", "local:a", "key/x", "-", "("];
    let ring = |id: &str| RecordKey { family: Family::Ring, id: id.to_owned() };
    let put = |key: RecordKey, bytes: Vec<u8>| Write::Put { key, bytes, expires: None };
    sidecar.commit(odd.iter().map(|id| put(ring(id), id.as_bytes().to_vec())).collect()).await;
    for id in odd {
        assert_eq!(sidecar.records.get(&ring(id)).await.unwrap().unwrap().bytes, id.as_bytes(), "{id:?}");
    }
    let mut expected = odd.to_vec();
    expected.sort_unstable();
    let page = sidecar.records.range(Family::Ring, None, 100).await.unwrap();
    assert_eq!(page.records.into_iter().map(|(key, _stored)| key.id).collect::<Vec<_>>(), expected);
    let subjects: Vec<&str> = odd.into_iter().filter(|id| Subject::parse(id).is_ok()).collect();
    assert!(subjects.len() > 5, "{subjects:?}");
    let user = |id: &str| put(RecordKey::user("local", id), encode_user(&user_record("local", id)));
    sidecar.commit(subjects.iter().map(|id| user(id)).collect()).await;
    sidecar.poll().await;
    for _round in 0..2 {
        for id in &subjects {
            assert_eq!(*Facts::user(&*sidecar.records, "local", id).await.unwrap().unwrap(), user_record("local", id), "{id:?}");
        }
    }
    let other = Sidecar::over(settings(&server));
    other.poll().await;
    for id in &subjects {
        assert!(Facts::user(&*other.records, "local", id).await.unwrap().is_some());
        sidecar.commit(vec![Write::Remove(RecordKey::user("local", id))]).await;
        other.poll().await;
        assert_eq!(Facts::user(&*other.records, "local", id).await.unwrap(), None, "{id:?}");
    }
    sidecar.commit(odd.iter().map(|id| Write::Remove(ring(id))).collect()).await;
    assert_eq!(server.tell("KEYS tollgate:1:{r}:rec:*").trim(), "*0");
    let long = Write::Remove(RecordKey::user("local", &"x".repeat(2000)));
    assert!(sidecar.records.commit(Vec::new(), vec![long], START).await.is_err());
    let large = Write::Put { key: RecordKey::key("large"), bytes: vec![0; 200_000], expires: None };
    assert!(sidecar.records.commit(Vec::new(), vec![large], START).await.is_err());
}

// battery: R5 R8
#[tokio::test]
async fn a_server_that_takes_no_writes_confirms_nothing() {
    for (what, commands, lease_goes_on) in [
        ("out of memory", &["CONFIG SET maxmemory 1"][..], true),
        ("too few replicas", &["CONFIG SET min-replicas-to-write 1"], false),
        ("demoted", &["CONFIG SET replica-serve-stale-data yes", "REPLICAOF 127.0.0.1 1"], false),
    ] {
        let server = RedisServer::start();
        let sidecar = Sidecar::over(settings(&server));
        sidecar.put_key("a", KeyState::Active).await;
        sidecar.poll().await;
        for command in commands {
            assert!(!server.tell(command).starts_with('-'), "{what}");
        }
        let refused = sidecar.records.commit(Vec::new(), vec![key_write("b", KeyState::Active)], START).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{what}: {refused:?}");
        assert_eq!(sidecar.records.poll().await.is_ok(), lease_goes_on, "{what}");
        let read = Facts::key(&*sidecar.records, "a").await;
        assert_eq!(read.is_ok(), lease_goes_on, "{what}: {read:?}");
        assert_eq!(server.tell("EXISTS tollgate:1:{r}:rec:key/b").trim(), ":0", "{what}");
    }
}

#[tokio::test]
async fn what_expired_is_cleared_away_with_its_places() {
    let server = RedisServer::start();
    let sidecar = Sidecar::over(settings(&server));
    let put = |id: &str, lives: Option<u64>| Write::Put {
        key: RecordKey::key(id),
        bytes: encode_key(&KeyRecord { ..key_record(id) }),
        expires: lives.map(|lives| START.plus(Duration::from_secs(lives))),
    };
    let mut writes: Vec<Write> = (0..100).map(|number| put(&format!("short{number}"), Some(60))).collect();
    writes.extend([put("long", Some(100_000)), put("ever", None), put("renewed", Some(60))]);
    sidecar.commit(writes).await;
    sidecar.commit(vec![put("renewed", None)]).await;
    let ids = |name: &str| server.tell(&format!("ZCARD tollgate:1:{{r}}:{name}")).trim().to_owned();
    assert_eq!((ids("exp"), ids("idx:key")), (":101".to_owned(), ":103".to_owned()));
    sidecar.clock.advance(Duration::from_secs(3600));
    assert_eq!(sidecar.records.sweep().await.unwrap(), 0, "clocks may differ by up to an hour");
    assert_eq!(sidecar.records.range(Family::Key, None, 100).await.unwrap().records.len(), 3, "and what expired is not shown");
    sidecar.clock.advance(Duration::from_secs(61));
    assert_eq!(sidecar.records.sweep().await.unwrap(), 64);
    assert_eq!(sidecar.records.sweep().await.unwrap(), 36);
    assert_eq!(sidecar.records.sweep().await.unwrap(), 0);
    assert_eq!((ids("exp"), ids("idx:key")), (":1".to_owned(), ":3".to_owned()));
    // Every family goes the same way.
    let of_all = Family::ALL.map(|family| Write::Put {
        key: RecordKey { family, id: "gone".to_owned() },
        bytes: b"x".to_vec(),
        expires: Some(sidecar.clock.now().plus(Duration::from_secs(1))),
    });
    sidecar.commit(of_all.to_vec()).await;
    sidecar.clock.advance(Duration::from_secs(3602));
    assert_eq!(sidecar.records.sweep().await.unwrap(), Family::ALL.len());
    for family in Family::ALL {
        let expected = if family == Family::Key { ":3" } else { ":0" };
        assert_eq!(ids(&format!("idx:{}", family.as_str())), expected, "{family:?}");
        assert_eq!(server.tell(&format!("EXISTS tollgate:1:{{r}}:rec:{}/gone", family.as_str())).trim(), ":0", "{family:?}");
    }
    let lives: i64 = server.tell("PTTL tollgate:1:{r}:rec:key/long").trim().trim_start_matches(':').parse().unwrap();
    assert!(lives > 100_000_000 && lives <= 103_600_000, "an hour longer than asked for: {lives}");
    assert_eq!(server.tell("PTTL tollgate:1:{r}:rec:key/ever").trim(), ":-1");
    assert_eq!(server.tell("PTTL tollgate:1:{r}:rec:key/renewed").trim(), ":-1");
}
