//! Moving on real stores, there and back.

mod refused;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::app::moving::side::Shelf;
use crate::clock::ManualClock;
use crate::config;
use crate::model::account::AccountRecord;
use crate::model::account::InvitationRecord;
use crate::model::account::OrganizationRecord;
use crate::model::account::SessionRecord;
use crate::model::account::TicketRecord;
use crate::model::caller::UserId;
use crate::model::client::ClientRecord;
use crate::model::grant::GrantRecord;
use crate::model::key::KeyId;
use crate::model::key::KeyState;
use crate::model::time::Timestamp;
use crate::model::usage::Line;
use crate::model::usage::Outcome;
use crate::model::usage::RouteText;
use crate::store::Committed;
use crate::store::RecordKey;
use crate::store::Stored;
use crate::store::Write;
use crate::store::codec::Shelved as _;
use crate::store::codec::encode_digest_owner;
use crate::store::codec::encode_key;
use crate::store::codec::encode_user;
use crate::store::codec::shelved::tests::account_record;
use crate::store::codec::shelved::tests::client_id;
use crate::store::codec::shelved::tests::client_record;
use crate::store::codec::shelved::tests::ended;
use crate::store::codec::shelved::tests::grant_record;
use crate::store::codec::shelved::tests::invitation_record;
use crate::store::codec::shelved::tests::organization_record;
use crate::store::codec::shelved::tests::session_record;
use crate::store::codec::shelved::tests::ticket_record;
use crate::store::codec::tests::key_record;
use crate::store::codec::tests::user_record;
use crate::store::shared::testing::redis_server::RedisServer;

const START: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);
const PEPPER: &str = "peppers: [{ id: p1, secret: { file: ./pepper-text } }]";

/// A folder with configs, on a disk.
struct Desk {
    folder: TempDir,
    manual: Arc<ManualClock>,
    clock: Arc<dyn Clock>,
}

impl Desk {
    fn new() -> Self {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
        std::fs::create_dir_all(&target).unwrap();
        let folder = TempDir::new_in(target).unwrap();
        std::fs::write(folder.path().join("pepper-text"), "a pepper of more than thirty-two bytes, for tests").unwrap();
        std::fs::write(folder.path().join("other-text"), "another pepper of more than thirty-two bytes, for tests").unwrap();
        std::fs::set_permissions(folder.path().join("pepper-text"), std::fs::Permissions::from_mode(0o600)).unwrap();
        let manual = Arc::new(ManualClock::starting_at(START));
        Self { folder, clock: manual.clone(), manual }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An embedded store in a folder of this name.
    fn embedded(&self, name: &str, peppers: &str) -> Named {
        self.config(name, &format!("store: {{ embedded: {{ path: ./{name} }} }}\n{peppers}\n"))
    }

    /// A store in this Redis, under a prefix of this name.
    fn redis(&self, name: &str, server: &RedisServer) -> Named {
        let socket = server.socket().display();
        self.config(name, &format!("store: {{ redis: {{ url: \"unix:{socket}\", prefix: {name}, path: ./{name} }} }}\n{PEPPER}\n"))
    }

    fn config(&self, name: &str, store: &str) -> Named {
        let path = self.path(&format!("{name}.yaml"));
        let text = format!("listen: {{ check: unix:./{name}/check.sock }}\n{store}\nroutes: [{{ path: /a, auth: public }}]\n");
        std::fs::write(&path, text).unwrap();
        let loaded = config::load(&path).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
        Named { config: path, loaded }
    }

    fn open(&self, named: Named) -> Side {
        Side::open(named, &self.clock).unwrap()
    }

    /// Counts some requests of three weeks ago, of yesterday and of now, as a check does.
    fn count(&self, named: impl Fn() -> Named, times: u32) {
        for (user, hours) in [("micro:a:b", 500), ("bob", 30), ("alice", 1), ("alice", 0)] {
            self.manual.set(START.minus(Duration::from_secs(hours * 3600)));
            let side = self.open(named());
            let Shelf::Embedded { usage, .. } = &side.shelf else { panic!("only a sidecar of its own counts here") };
            for (route, key, outcome) in [("list", Some("key1"), Outcome::Allowed), ("send/{id}", None, Outcome::Limited)] {
                let (user, key) = (UserId::from_counted(&user.into()), key.map(KeyId::new));
                let hour = self.clock.now().hour();
                let line = Line { hour, user: &user, key: key.as_ref(), route, route_text: RouteText::Name, outcome };
                usage.ledger().add(&line, times).unwrap();
            }
        }
    }

    /// Fills a store with some of everything.
    async fn fill(&self, named: impl Fn() -> Named) {
        self.count(&named, 3);
        let side = self.open(named());
        let mut writes: Vec<Write> = (0..120).map(|number| put(RecordKey::key(&format!("key{number}")), key_of(number))).collect();
        for number in 0..30 {
            let subject = format!("user-{number}@example.com");
            writes.push(put(RecordKey::user("local", &subject), encode_user(&user_record("local", &subject))));
        }
        let guest = RecordKey::user("micro", "a:b");
        let bytes = encode_user(&user_record("micro", "a:b"));
        writes.push(Write::Put { key: guest, bytes, expires: Some(START.plus(Duration::from_millis(90_500))) });
        for number in 0..10 {
            writes.push(put(RecordKey::digest(&[number; 32]), encode_digest_owner(&KeyId::new(&format!("key{number}")))));
        }
        let ring = side.peppers.wrap(b"a ring", b"somewhere").unwrap();
        writes.push(put(RecordKey { family: Family::Ring, id: "assertions".to_owned() }, ring));
        let (ends, app) = (Some(START.plus(Duration::from_secs(86_400))), client_id(1));
        let shelved = |place: RecordKey, bytes, expires| Write::Put { key: place, bytes, expires };
        writes.push(shelved(GrantRecord::place("g1"), grant_record("g1").encode(), ends));
        writes.push(shelved(GrantRecord::place("key-key1"), ended(grant_record("key-key1")).encode(), ends));
        writes.push(shelved(ClientRecord::place(&app), client_record(&app).encode(), None));
        writes.push(shelved(AccountRecord::place("alice"), account_record("alice").encode(), None));
        writes.push(shelved(OrganizationRecord::place("org_1"), organization_record("org_1").encode(), None));
        writes.push(shelved(SessionRecord::place("s1"), session_record("s1").encode(), ends));
        writes.push(shelved(InvitationRecord::place("i1"), invitation_record("i1").encode(), ends));
        writes.push(shelved(TicketRecord::place("t1"), ticket_record("t1").encode(), ends));
        for (family, id) in [(Family::Identity, "00ff"), (Family::Audit, "one/7"), (Family::AuditName, "p-1")] {
            writes.push(put(RecordKey { family, id: id.to_owned() }, b"the issuer's own".to_vec()));
        }
        for writes in writes.chunks(40) {
            assert_eq!(side.records().commit(vec![], writes.to_vec(), START).await.unwrap(), Committed::Done);
        }
    }

    /// Everything that a store shows, without versions.
    async fn dump(&self, named: Named) -> Vec<String> {
        let side = self.open(named);
        let mut dump = Vec::new();
        let mut origin = Origin::store(&side);
        while let Some(items) = origin.next().await.unwrap() {
            dump.extend(items.iter().map(|item| format!("{item:?}")));
        }
        dump.sort_unstable();
        dump
    }

    async fn migrate(&self, from: Named, to: Named, wishes: Wishes) -> Result<Summary, MovingError> {
        migrate(from, to, wishes, &self.clock, &mut |_what, _count| {}).await
    }

    async fn export(&self, from: Named, file: &str) -> Result<Summary, MovingError> {
        export(from, Destination::File(&self.path(file)), Wishes::default(), &self.clock, &mut |_what, _count| {}).await
    }

    async fn import(&self, to: Named, file: &str, wishes: Wishes) -> Result<Summary, MovingError> {
        import(to, &self.path(file), wishes, &self.clock, &mut |_what, _count| {}).await
    }
}

fn key_of(number: usize) -> Vec<u8> {
    encode_key(&key_record(&format!("key{number}")))
}

fn put(key: RecordKey, bytes: Vec<u8>) -> Write {
    Write::Put { key, bytes, expires: None }
}

const MERGE: Wishes = Wishes { merge: true, skip_unreadable: false };
/// Records that [`Desk::fill`] makes.
const RECORDS: u64 = 120 + 31 + 10 + 1 + 11;

#[tokio::test]
async fn a_store_arrives_whole_and_a_second_time_changes_nothing() {
    let desk = Desk::new();
    let (from, to) = (|| desk.embedded("a", PEPPER), || desk.embedded("b", PEPPER));
    desk.fill(from).await;
    let summary = desk.migrate(from(), to(), Wishes::default()).await.unwrap();
    assert_eq!((summary.written, summary.already_there, summary.expired), (RECORDS, 0, 0));
    assert!(summary.counts.iter().all(|(_what, from, to)| from == to), "{summary:?}");
    assert!(summary.counts.contains(&("requests", 24, 24)) && summary.counts.contains(&("last uses", 1, 1)), "{summary:?}");
    assert_eq!(summary.raised, 3 * 24, "hours, days and months");
    assert_eq!(summary.peppers, ["p1"]);
    let dump = desk.dump(from()).await;
    assert_eq!(desk.dump(to()).await, dump);
    let again = desk.migrate(from(), to(), Wishes::default()).await.unwrap();
    assert_eq!((again.written, again.already_there, again.raised), (0, RECORDS, 0));
    assert_eq!(desk.dump(to()).await, dump);
    // And on to a third, and back over the first.
    desk.migrate(to(), desk.embedded("c", PEPPER), Wishes::default()).await.unwrap();
    desk.count(|| desk.embedded("c", PEPPER), 2);
    let back = desk.migrate(desk.embedded("c", PEPPER), from(), Wishes::default()).await.unwrap();
    assert_eq!((back.written, back.raised), (0, 3 * 16), "what was counted since");
    assert!(back.counts.contains(&("requests", 40, 40)), "{back:?}");
    let more = desk.migrate(to(), from(), Wishes::default()).await.unwrap_err().to_string();
    assert!(more.contains("counts that the source has not"), "{more}");
    assert_eq!(desk.migrate(to(), from(), MERGE).await.unwrap().raised, 0);
}

#[tokio::test]
async fn a_backup_brings_everything_back() {
    let desk = Desk::new();
    desk.fill(|| desk.embedded("a", PEPPER)).await;
    let exported = desk.export(desk.embedded("a", PEPPER), "backup").await.unwrap();
    assert_eq!(exported.written, RECORDS + 8 + 6 + 6 + 1);
    let mode = std::fs::metadata(desk.path("backup")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let text = std::fs::read_to_string(desk.path("backup")).unwrap();
    assert!(!text.contains("a pepper of more than"), "the pepper itself stays out");
    assert!(text.lines().next().unwrap().contains("\"peppers\":[\"p1\"]"), "its id does not");
    for expected in [RECORDS, 0] {
        let summary = desk.import(desk.embedded("b", PEPPER), "backup", Wishes::default()).await.unwrap();
        assert_eq!(summary.written, expected);
    }
    assert_eq!(desk.dump(desk.embedded("b", PEPPER)).await, desk.dump(desk.embedded("a", PEPPER)).await);
    assert_eq!(desk.export(desk.embedded("b", PEPPER), "backup").await.unwrap(), exported, "the old file is replaced");
    assert_eq!(std::fs::read_to_string(desk.path("backup")).unwrap(), text);
    let left: Vec<_> = std::fs::read_dir(desk.folder.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(".backup")), "{left:?}");
}

#[tokio::test]
async fn it_goes_into_redis_and_back_and_nothing_is_another() {
    let desk = Desk::new();
    let server = RedisServer::start();
    let (one, shared, other) = (|| desk.embedded("a", PEPPER), || desk.redis("shared", &server), || desk.embedded("b", PEPPER));
    desk.fill(one).await;
    let dump = desk.dump(one()).await;
    for written in [RECORDS, 0] {
        let summary = desk.migrate(one(), shared(), Wishes::default()).await.unwrap();
        assert_eq!((summary.written, summary.raised), (written, if written > 0 { 3 * 24 } else { 0 }));
        assert!(summary.counts.iter().all(|(_what, from, to)| from == to), "{summary:?}");
        assert_eq!(desk.dump(shared()).await, dump);
    }
    assert!(!desk.path("shared/ledger").exists(), "a sidecar may be running there");
    desk.migrate(shared(), other(), Wishes::default()).await.unwrap();
    assert_eq!(desk.dump(other()).await, dump);
    // And by files: what two stores that hold the same say of it differs in its order alone.
    let mut files = Vec::new();
    for (named, file) in [(one(), "one-backup"), (shared(), "shared-backup")] {
        desk.export(named, file).await.unwrap();
        let text = std::fs::read_to_string(desk.path(file)).unwrap();
        let mut lines: Vec<String> = text.lines().filter(|line| !line.contains("sha256")).map(str::to_owned).collect();
        lines.sort_unstable();
        files.push(lines);
    }
    assert_eq!(files[0], files[1]);
    let again = || desk.redis("again", &server);
    for written in [RECORDS, 0] {
        assert_eq!(desk.import(again(), "shared-backup", Wishes::default()).await.unwrap().written, written);
    }
    assert_eq!(desk.dump(again()).await, dump);
    assert_eq!(desk.dump(shared()).await, dump, "another prefix is another store");
}

#[tokio::test]
async fn counts_that_are_told_again_after_the_move_are_not_added() {
    let desk = Desk::new();
    let server = RedisServer::start();
    let (one, shared) = (|| desk.embedded("a", PEPPER), || desk.redis("shared", &server));
    desk.fill(one).await;
    desk.migrate(one(), shared(), Wishes::default()).await.unwrap();
    // The node goes on counting in its folder for a while, and moves a second time.
    desk.count(one, 2);
    let summary = desk.migrate(one(), shared(), Wishes::default()).await.unwrap();
    assert_eq!((summary.written, summary.raised), (0, 3 * 16));
    assert!(summary.counts.contains(&("requests", 40, 40)), "{summary:?}");
    let back = desk.migrate(shared(), one(), Wishes::default()).await.unwrap();
    assert_eq!((back.written, back.raised), (0, 0), "everything is where it came from");
}

#[tokio::test]
async fn what_the_target_holds_stays() {
    let desk = Desk::new();
    let server = RedisServer::start();
    desk.fill(|| desk.embedded("a", PEPPER)).await;
    what_it_holds_stays(&desk, || desk.embedded("b", PEPPER)).await;
    what_it_holds_stays(&desk, || desk.redis("shared", &server)).await;
}

async fn what_it_holds_stays(desk: &Desk, to: impl Fn() -> Named) {
    let from = || desk.embedded("a", PEPPER);
    let mut revoked = key_record("key7");
    revoked.state = KeyState::Revoked;
    let own = [put(RecordKey::key("key7"), encode_key(&revoked)), put(RecordKey::key("own"), encode_key(&key_record("own")))];
    desk.open(to()).records().commit(vec![], own.to_vec(), START).await.unwrap();
    let before = desk.dump(to()).await;
    let refused = desk.migrate(from(), to(), Wishes::default()).await.unwrap_err().to_string();
    assert!(refused.contains("2 records") && refused.contains("key/key7, key/own") && refused.contains("--merge"), "{refused}");
    assert_eq!(desk.dump(to()).await, before);
    for expected in [RECORDS - 1, 0] {
        let summary = desk.migrate(from(), to(), MERGE).await.unwrap();
        assert_eq!((summary.written, summary.different), (expected, vec!["key/key7".to_owned()]));
    }
    let side = desk.open(to());
    let stored: Stored = side.records().get(&RecordKey::key("key7")).await.unwrap().unwrap();
    assert_eq!(stored.bytes, encode_key(&revoked), "a revocation is not undone");
}

#[tokio::test]
async fn nothing_but_a_backup_makes_room_for_a_backup() {
    let desk = Desk::new();
    desk.fill(|| desk.embedded("a", PEPPER)).await;
    let export = async |name: &str| desk.export(desk.embedded("a", PEPPER), name).await;
    export("backup").await.unwrap();
    std::os::unix::fs::symlink(desk.path("backup"), desk.path("link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(desk.path("socket")).unwrap();
    std::fs::write(desk.path("empty"), "").unwrap();
    let config = std::fs::read(desk.path("a.yaml")).unwrap();
    for (name, what) in [
        ("a.yaml", "no backup"),
        ("pepper-text", "no backup"),
        ("empty", "no backup"),
        ("a", "a folder"),
        ("link", "a symbolic link"),
        ("socket", "a device, a pipe or a socket"),
        ("/dev/full", "a device, a pipe or a socket"),
    ] {
        let said = export(name).await.unwrap_err().to_string();
        assert!(said.contains(&format!("{name} is {what}, and only a backup is replaced")) && said.contains("`-`"), "{said}");
    }
    assert_eq!(std::fs::read(desk.path("a.yaml")).unwrap(), config);
    assert!(desk.path("link").is_symlink() && Path::new("/dev/full").exists());
    // One of a newer release, or one that was cut off, has been a backup all the same.
    let whole = std::fs::read_to_string(desk.path("backup")).unwrap();
    for begun in [whole.replacen("\"format\":1", "\"format\":2", 1), whole.lines().next().unwrap().to_owned() + "\n"] {
        assert_ne!(begun, whole);
        std::fs::write(desk.path("backup"), begun).unwrap();
        export("backup").await.unwrap();
        assert_eq!(std::fs::read_to_string(desk.path("backup")).unwrap(), whole);
    }
    let mut piped = Vec::new();
    let to = Destination::Stream(&mut piped);
    super::export(desk.embedded("a", PEPPER), to, Wishes::default(), &desk.clock, &mut |_what, _count| {}).await.unwrap();
    assert_eq!(String::from_utf8(piped).unwrap(), whole);
}

#[tokio::test]
async fn two_backups_at_once_do_not_meddle() {
    let desk = Desk::new();
    desk.fill(|| desk.embedded("a", PEPPER)).await;
    desk.export(desk.embedded("a", PEPPER), "backup").await.unwrap();
    let whole = std::fs::read(desk.path("backup")).unwrap();
    // In another container the process has the same id.
    let anothers = desk.path(&format!(".backup.{}", std::process::id()));
    std::fs::write(&anothers, "half a li").unwrap();
    let path = desk.path("backup");
    let begin = || Draft::begin(Destination::File(&path), "now", &[]).unwrap();
    let (first, second) = (begin(), begin());
    second.finish().unwrap();
    drop(first);
    assert_ne!(std::fs::read(&path).unwrap(), whole, "the one that was finished");
    assert_eq!(std::fs::read(&anothers).unwrap(), b"half a li");
    let hidden = std::fs::read_dir(path.parent().unwrap()).unwrap().flatten();
    assert_eq!(hidden.filter(|entry| entry.file_name().to_string_lossy().starts_with(".backup.")).count(), 1);
}
