use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redb::ReadableTable;
use redb::StorageBackend;
use redb::backends::FileBackend;

use crate::clock::Clock;
use crate::clock::ManualClock;
use crate::model::key::KeyState;
use crate::store::Answer;
use crate::store::Committed;
use crate::store::EMBEDDED_FILE_NAME;
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
use crate::store::conformance;
use crate::store::conformance::START;
use crate::store::embedded::Embedded;
use crate::store::embedded::OpenError;
use crate::store::embedded::file;

fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::starting_at(START))
}

fn open(folder: &Path) -> Result<Embedded, OpenError> {
    Embedded::open(folder, clock())
}

fn put(id: &str) -> Vec<Write> {
    vec![Write::Put { key: RecordKey::key(id), bytes: encode_key(&key_record(id)), expires: None }]
}

async fn commit(store: &Embedded, writes: Vec<Write>) -> Result<Committed, StoreError> {
    store.commit(vec![], writes, START).await
}

/// A folder with a closed store that holds `count` keys, `k0` and on.
async fn filled(count: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    for number in 0..count {
        commit(&store, put(&format!("k{number}"))).await.unwrap();
    }
    folder
}

// battery: K17 K21
// oauth: T6
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_engine_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let number = AtomicI64::new(0);
    conformance::run(|| {
        let clock = Arc::new(ManualClock::starting_at(START));
        let part = folder.path().join(number.fetch_add(1, Ordering::SeqCst).to_string());
        let asked: Arc<dyn Clock> = clock.clone();
        conformance::Subject { store: Arc::new(Embedded::open(&part, asked).unwrap()), clock }
    })
    .await;
}

#[tokio::test]
async fn records_outlive_the_process_and_checks_never_wait() {
    let folder = filled(3).await;
    let store = open(folder.path()).unwrap();
    assert_eq!(store.counts().keys, 3);
    match store.key("k1") {
        Answer::Ready(Some(Ok(Some(record)))) => assert_eq!(*record, key_record("k1")),
        Answer::Ready(_) | Answer::Pending(_) => panic!("not there at once"),
    }
    let sequence = store.get(&RecordKey::key("k2")).await.unwrap().unwrap().version;
    commit(&store, put("k2")).await.unwrap();
    assert!(store.get(&RecordKey::key("k2")).await.unwrap().unwrap().version > sequence, "versions go on after a restart");
}

// battery: K17
// oauth: T6
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_holds_when_it_is_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    for round in 0..50 {
        let id = format!("k{round}");
        commit(&store, put(&id)).await.unwrap();
        let mut record = key_record(&id);
        record.state = KeyState::Revoked;
        let write = Write::Put { key: RecordKey::key(&id), bytes: encode_key(&record), expires: None };
        assert_eq!(commit(&store, vec![write]).await.unwrap(), Committed::Done);
        assert_eq!(store.key(&id).await.unwrap().unwrap().state, KeyState::Revoked);
    }
}

// battery: X9
#[tokio::test]
async fn a_second_holder_is_refused_by_name() {
    let folder = filled(1).await;
    let first = open(folder.path()).unwrap();
    let error = open(folder.path()).unwrap_err();
    assert!(matches!(&error, OpenError::InUse { .. }), "{error}");
    assert!(error.to_string().contains(&format!("in use by process {}", std::process::id())), "{error}");
    assert!(first.key("k0").await.unwrap().is_some(), "the first is not disturbed");
    drop(first);
    assert!(open(folder.path()).is_ok(), "and its end frees the store");
}

// battery: X10
#[tokio::test]
async fn a_damaged_file_is_refused_and_left_alone() {
    let folder = filled(20).await;
    let path = folder.path().join(EMBEDDED_FILE_NAME);
    let whole = fs::read(&path).unwrap();
    let length = whole.len();
    let cut = |at: usize| whole[..at].to_vec();
    let zeroed = |from: usize, count: usize| {
        let mut bytes = whole.clone();
        bytes[from..from + count].fill(0);
        bytes
    };
    let mut table = vec![
        ("emptied".to_owned(), cut(0)),
        ("zeroed".to_owned(), vec![0; length]),
        ("text".to_owned(), b"not a store".to_vec()),
        ("header zeroed".to_owned(), zeroed(0, 512)),
    ];
    table.extend([1, 8, 64, 320, 4096, 8192, length / 2, length - 4096, length - 1].map(|at| (format!("cut at {at}"), cut(at))));
    for (what, bytes) in table {
        fs::write(&path, &bytes).unwrap();
        let error = open(folder.path()).expect_err(&what);
        assert!(matches!(&error, OpenError::Damaged { .. } | OpenError::Unreadable { .. }), "{what}: {error}");
        assert!(fs::read(&path).unwrap() == bytes, "{what}: the evidence was changed");
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(open(folder.path()).unwrap().counts().keys, 20);
}

// battery: X10 K21
#[tokio::test]
async fn no_flipped_bit_changes_a_record_unseen() {
    let folder = filled(20).await;
    let path = folder.path().join(EMBEDDED_FILE_NAME);
    let whole = fs::read(&path).unwrap();
    // Pages that hold records' text; most of a new file is free space.
    let used: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    let mut refused = 0;
    for at in used.iter().step_by(used.len() / 150 + 1) {
        let mut bytes = whole.clone();
        bytes[*at] ^= 0x10;
        fs::write(&path, &bytes).unwrap();
        match open(folder.path()) {
            Err(error) => {
                assert!(!matches!(&error, OpenError::InUse { .. }), "{error}");
                refused += 1;
            }
            Ok(store) => {
                for number in 0..20 {
                    let id = format!("k{number}");
                    match store.key(&id).await {
                        Ok(Some(record)) => assert_eq!(*record, key_record(&id), "byte {at}"),
                        Ok(None) => panic!("byte {at}: {id} vanished"),
                        Err(error) => assert!(matches!(error, StoreError::Corrupt { .. })),
                    }
                }
            }
        }
    }
    assert!(refused > 0);
}

fn damage(folder: &Path, id: &str) {
    let database = redb::Database::open(folder.join(EMBEDDED_FILE_NAME)).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut records = transaction.open_table(file::RECORDS).unwrap();
        let place = file::place(&RecordKey::key(id));
        let mut laid = records.get(place.as_slice()).unwrap().unwrap().value().to_vec();
        let last = laid.len() - 3;
        laid[last] ^= 1;
        records.insert(place.as_slice(), laid.as_slice()).unwrap();
    }
    transaction.commit().unwrap();
}

#[tokio::test]
async fn what_is_put_over_a_damaged_record_outlives_the_expiry_of_that() {
    let folder = filled(1).await;
    let ends = |expires| {
        put("k0").into_iter().map(move |write| match write {
            Write::Put { key, bytes, .. } => Write::Put { key, bytes, expires },
            Write::Remove(_) => write,
        })
    };
    let soon = START.plus(Duration::from_secs(10));
    commit(&open(folder.path()).unwrap(), ends(Some(soon)).collect()).await.unwrap();
    damage(folder.path(), "k0");
    commit(&open(folder.path()).unwrap(), ends(None).collect()).await.unwrap();
    let later = Arc::new(ManualClock::starting_at(soon.plus(Duration::from_secs(10))));
    let store = Embedded::open(folder.path(), later).unwrap();
    commit(&store, put("k1")).await.unwrap();
    assert!(store.key("k0").await.unwrap().is_some());
}

// battery: K21
#[tokio::test]
async fn a_record_whose_checksum_fails_is_corrupt_and_alone() {
    let folder = filled(3).await;
    damage(folder.path(), "k1");
    let store = open(folder.path()).unwrap();
    assert!(matches!(store.key("k1").await, Err(StoreError::Corrupt { .. })));
    assert!(matches!(store.get(&RecordKey::key("k1")).await, Err(StoreError::Corrupt { .. })));
    assert!(store.key("k0").await.unwrap().is_some() && store.key("k2").await.unwrap().is_some());
    assert_eq!(store.range(Family::Key, None, 10).await.unwrap().records.len(), 3);
    assert_eq!((store.counts().corrupt, store.corrupt_places(9)), (1, vec!["key/k1".to_owned()]));
    commit(&store, put("k1")).await.unwrap();
    assert!(store.key("k1").await.unwrap().is_some());
    assert_eq!(store.counts().corrupt, 0);
    let undecodable = |id: &str| Write::Put { key: RecordKey::user("local", id), bytes: vec![0xff], expires: None };
    store.commit(Vec::new(), vec![undecodable("a"), undecodable("b")], START).await.unwrap();
    assert_eq!(store.corrupt_places(1), ["user/local:a"]);
    store.commit(Vec::new(), vec![Write::Remove(RecordKey::user("local", "a"))], START).await.unwrap();
    assert_eq!(store.corrupt_places(9), ["user/local:b"]);
}

#[tokio::test]
async fn a_newer_file_is_refused_as_such() {
    let folder = filled(1).await;
    {
        let database = redb::Database::open(folder.path().join(EMBEDDED_FILE_NAME)).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(file::META).unwrap().insert(file::META_FORMAT, file::FORMAT + 1).unwrap();
        transaction.commit().unwrap();
    }
    let error = open(folder.path()).unwrap_err();
    assert!(matches!(&error, OpenError::Newer { found: 2, known: 1, .. }), "{error}");
}

/// Faults between redb and the file.
#[derive(Debug)]
struct Faulty {
    file: FileBackend,
    faults: Arc<Faults>,
}

#[derive(Debug, Default)]
struct Faults {
    /// No byte more fits on the disk.
    full: AtomicBool,
    /// After so many more operations nothing reaches the disk, as when the process is killed; negative: never.
    dies_after: AtomicI64,
    dead: AtomicBool,
}

impl Faulty {
    /// Whether a writing operation may reach the file.
    fn passes(&self) -> io::Result<bool> {
        if self.faults.full.load(Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(28));
        }
        if self.faults.dead.load(Ordering::SeqCst) {
            return Ok(false);
        }
        let left = self.faults.dies_after.load(Ordering::SeqCst);
        if left == 0 {
            self.faults.dead.store(true, Ordering::SeqCst);
            return Ok(false);
        }
        if left > 0 {
            self.faults.dies_after.store(left - 1, Ordering::SeqCst);
        }
        Ok(true)
    }
}

impl StorageBackend for Faulty {
    fn len(&self) -> Result<u64, io::Error> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        if self.passes()? { self.file.set_len(len) } else { Ok(()) }
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        if self.passes()? { self.file.sync_data() } else { Ok(()) }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        if self.passes()? { self.file.write(offset, data) } else { Ok(()) }
    }

    fn close(&self) -> Result<(), io::Error> {
        self.file.close()
    }
}

fn open_faulty(folder: &Path, faults: &Arc<Faults>) -> Embedded {
    let faults = Arc::clone(faults);
    let source = file::Source::claim_with(folder, Box::new(move |file| Box::new(Faulty { file, faults: Arc::clone(&faults) }))).unwrap();
    Embedded::over(source, clock()).unwrap()
}

// battery: X2
#[tokio::test]
async fn a_full_disk_refuses_commits_and_nothing_else() {
    let folder = filled(2).await;
    let faults = Arc::new(Faults { dies_after: AtomicI64::new(-1), ..Faults::default() });
    let store = open_faulty(folder.path(), &faults);
    faults.full.store(true, Ordering::SeqCst);
    for _attempt in 0..3 {
        let writes = [put("new"), put("k0")].concat();
        assert!(matches!(commit(&store, writes).await, Err(StoreError::Unavailable(_))));
        assert!(store.key("k0").await.unwrap().is_some(), "checks go on");
        assert!(store.key("new").await.unwrap().is_none(), "nothing half-written is shown");
    }
    faults.full.store(false, Ordering::SeqCst);
    assert_eq!(commit(&store, put("later")).await.unwrap(), Committed::Done);
    assert!(store.get(&RecordKey::key("new")).await.unwrap().is_none());
    drop(store);
    assert_eq!(open(folder.path()).unwrap().counts().keys, 3);
}

#[tokio::test]
async fn a_kill_at_any_write_keeps_what_was_acknowledged() {
    let mut kept = Vec::new();
    for dies_after in (0..120).step_by(3) {
        let folder = filled(2).await;
        let faults = Arc::new(Faults { dies_after: AtomicI64::new(-1), ..Faults::default() });
        let store = open_faulty(folder.path(), &faults);
        faults.dies_after.store(dies_after, Ordering::SeqCst);
        let mut acknowledged = 0;
        for number in 0..10 {
            commit(&store, put(&format!("n{number}"))).await.unwrap();
            // What a dead process acknowledges reaches nobody.
            if !faults.dead.load(Ordering::SeqCst) {
                acknowledged = number + 1;
            }
        }
        drop(store);
        let store = open(folder.path()).unwrap_or_else(|error| panic!("killed after {dies_after}: {error}"));
        for number in 0..acknowledged {
            assert!(store.key(&format!("n{number}")).await.unwrap().is_some(), "killed after {dies_after}: n{number} is lost");
        }
        assert!(store.counts().keys <= 2 + acknowledged + 1, "killed after {dies_after}");
        assert_eq!(store.counts().corrupt, 0);
        kept.push(acknowledged);
    }
    assert_eq!(kept.first(), Some(&0));
    assert!(kept.last() > Some(&2) && kept.is_sorted(), "the kills were spread over the commits: {kept:?}");
}

#[tokio::test]
async fn a_removed_user_and_its_keys_go_in_one_step() {
    let folder = filled(1).await;
    let store = open(folder.path()).unwrap();
    let user = RecordKey::user("local", "alice");
    commit(&store, vec![Write::Put { key: user.clone(), bytes: encode_user(&user_record("local", "alice")), expires: None }])
        .await
        .unwrap();
    let writes = vec![Write::Remove(user.clone()), Write::Remove(RecordKey::key("k0"))];
    let refused = store.commit(vec![Precondition::Present(user.clone()), Precondition::Absent(user.clone())], writes.clone(), START).await;
    assert_eq!(refused.unwrap(), Committed::Refused(1));
    assert!(store.user("local", "alice").await.unwrap().is_some() && store.key("k0").await.unwrap().is_some());
    assert_eq!(commit(&store, writes).await.unwrap(), Committed::Done);
    assert!(store.user("local", "alice").await.unwrap().is_none() && store.key("k0").await.unwrap().is_none());
}

/// Written by this program's first version; it must open for ever.
#[tokio::test]
async fn the_first_versions_file_opens() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/old_formats/store-1.redb");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(EMBEDDED_FILE_NAME);
    if !sample.exists() {
        let store = open(folder.path()).unwrap();
        let user = Write::Put { key: RecordKey::user("local", "alice"), bytes: encode_user(&user_record("local", "alice")), expires: None };
        commit(&store, [put("k0"), put("k1"), vec![user]].concat()).await.unwrap();
        drop(store);
        redb::Database::open(&path).unwrap().compact().unwrap();
        fs::copy(&path, &sample).unwrap();
        panic!("{} was missing and has been made; look at it and commit it", sample.display());
    }
    fs::copy(&sample, &path).unwrap();
    let store = open(folder.path()).unwrap();
    assert_eq!(*store.key("k0").await.unwrap().unwrap(), key_record("k0"));
    assert_eq!(*store.user("local", "alice").await.unwrap().unwrap(), user_record("local", "alice"));
    assert_eq!(commit(&store, put("k2")).await.unwrap(), Committed::Done);
    assert_eq!(store.counts().keys, 3);
}
