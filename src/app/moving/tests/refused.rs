//! What stops a move before anything is written.

use super::*;
use crate::model::hex::write_hex;
use crate::secrets::sha256;

// battery: R1
#[tokio::test]
async fn what_is_broken_in_redis_is_named_and_stops_it() {
    let desk = Desk::new();
    let server = RedisServer::start();
    let shared = || desk.redis("shared", &server);
    desk.fill(|| desk.embedded("a", PEPPER)).await;
    desk.migrate(desk.embedded("a", PEPPER), shared(), Wishes::default()).await.unwrap();
    server.tell("DEL shared:1:{r}:rec:key/key7");
    server.tell("SET shared:1:{r}:rec:key/key7 gotcha");
    let said = desk.export(shared(), "backup").await.unwrap_err().to_string();
    assert!(said.contains("1 records cannot be read") && said.contains("key/key7"), "{said}");
    let other = desk.config(
        "other",
        &format!(
            "store: {{ redis: {{ url: \"unix:{}\", prefix: shared, path: ./other }} }}\npeppers: [{{ id: p1, secret: {{ file: ./other-text }} }}]\n",
            server.socket().display()
        ),
    );
    let said = desk.export(other, "backup").await.unwrap_err().to_string();
    assert!(said.contains(&format!("{RECORDS} records cannot be read")) && said.contains("pepper"), "{said}");
    assert!(!desk.path("backup").exists());
    drop(server);
    let gone = desk.config("gone", &format!("store: {{ redis: {{ url: \"unix:/nowhere/redis.sock\", path: ./gone }} }}\n{PEPPER}\n"));
    let said = desk.migrate(desk.embedded("a", PEPPER), gone, Wishes::default()).await.unwrap_err().to_string();
    assert!(said.contains("the store cannot be used now"), "{said}");
}

// battery: X9
#[tokio::test]
async fn a_store_in_use_and_one_that_is_not_there_are_refused() {
    let desk = Desk::new();
    desk.fill(|| desk.embedded("a", PEPPER)).await;
    let held = desk.open(desk.embedded("a", PEPPER));
    for refused in [
        desk.migrate(desk.embedded("a", PEPPER), desk.embedded("b", PEPPER), Wishes::default()).await,
        desk.export(desk.embedded("a", PEPPER), "backup").await,
    ] {
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("is in use by process"), "{refused}");
    }
    drop(held);
    let absent = desk.migrate(desk.embedded("nowhere", PEPPER), desk.embedded("b", PEPPER), Wishes::default()).await;
    assert!(absent.unwrap_err().to_string().contains("there is no store in"));
    assert!(!desk.path("nowhere").exists() && !desk.path("b").exists() && !desk.path("backup").exists());
}

#[tokio::test]
async fn a_target_without_the_peppers_is_refused_and_told_how_it_comes_by_them() {
    let desk = Desk::new();
    // The records of this store name the pepper that the store's folder has.
    let made = || desk.embedded("made", "");
    let id = desk.open(made()).peppers.ids().next().unwrap().to_owned();
    let mut record = key_record("key1");
    for secret in &mut record.secrets {
        secret.hash.pepper = Arc::from(id.as_str());
    }
    let key = vec![put(RecordKey::key("key1"), encode_key(&record))];
    desk.open(made()).records().commit(vec![], key, START).await.unwrap();
    let refused = |outcome: Result<Summary, MovingError>| outcome.unwrap_err().to_string();
    let said = refused(desk.migrate(made(), desk.embedded("b", PEPPER), Wishes::default()).await);
    assert!(said.contains(&id) && said.contains("hex:") && said.contains("peppers:"), "{said}");
    let said = refused(desk.migrate(made(), desk.embedded("c", ""), Wishes::default()).await);
    assert!(said.contains("mkdir -p -m 700") && said.contains("cp -p"), "{said}");
    assert!(!desk.path("b").exists() && !desk.path("c").exists(), "a refusal makes no folder");
    let said = refused(desk.migrate(made(), made(), Wishes::default()).await);
    assert!(said.contains("name the same store"), "{said}");
    // As it is told.
    let file = std::fs::read_to_string(desk.path("made/pepper")).unwrap();
    let digits = file.split_whitespace().nth(1).unwrap();
    std::fs::write(desk.path("pepper-hex"), format!("hex:{digits}\n")).unwrap();
    let given = format!("peppers: [{{ id: {id}, secret: {{ file: ./pepper-hex }} }}]");
    assert_eq!(desk.migrate(made(), desk.embedded("b", &given), Wishes::default()).await.unwrap().written, 1);
    desk.export(made(), "backup").await.unwrap();
    let said = refused(desk.import(desk.embedded("d", PEPPER), "backup", Wishes::default()).await);
    assert!(said.contains(&id), "{said}");
    // The same id for another secret.
    let false_one = format!("peppers: [{{ id: {id}, secret: {{ file: ./pepper-text }} }}]");
    let said = refused(desk.migrate(made(), desk.embedded("e", &false_one), Wishes::default()).await);
    assert!(said.contains("another one"), "{said}");
}

#[tokio::test]
async fn what_cannot_be_read_stops_it_or_is_left_behind() {
    let desk = Desk::new();
    desk.fill(|| desk.embedded("a", PEPPER)).await;
    let broken = vec![put(RecordKey::key("broken"), b"\x09k{}".to_vec())];
    desk.open(desk.embedded("a", PEPPER)).records().commit(vec![], broken, START).await.unwrap();
    let said = desk.migrate(desk.embedded("a", PEPPER), desk.embedded("b", PEPPER), Wishes::default()).await.unwrap_err().to_string();
    assert!(said.contains("key/broken") && said.contains("--skip-unreadable"), "{said}");
    assert!(desk.export(desk.embedded("a", PEPPER), "backup").await.is_err());
    assert!(!desk.path("backup").exists());
    let skip = Wishes { merge: false, skip_unreadable: true };
    let summary = desk.migrate(desk.embedded("a", PEPPER), desk.embedded("b", PEPPER), skip).await.unwrap();
    assert_eq!((summary.written, summary.unreadable), (RECORDS, vec!["key/broken".to_owned()]));
}

/// A backup with these lines between its first and its last, whose checksum holds.
fn backup_of(lines: &[&str]) -> String {
    let head = r#"{"is":"tollgate backup","format":1,"made":"2027-01-15T08:00:00Z","release":"0.1.0","peppers":["p1"]}"#;
    let body: String = std::iter::once(&head).chain(lines).map(|line| format!("{line}\n")).collect();
    let digits = write_hex(&sha256(body.as_bytes()));
    format!("{body}{{\"is\":\"end\",\"lines\":{},\"sha256\":\"{digits}\"}}\n", lines.len() + 1)
}

fn line_of(record: &item::Record) -> String {
    item::write_item(&Item::Record(record.clone())).to_string()
}

#[tokio::test]
async fn a_hostile_backup_is_refused_with_its_line_and_member_and_nothing_is_written() {
    let desk = Desk::new();
    let good = line_of(&item::Record { key: RecordKey::key("key1"), bytes: key_of(1), expires: None });
    let swapped = line_of(&item::Record { key: RecordKey::key("key2"), bytes: key_of(1), expires: None });
    let digest = line_of(&item::Record { key: RecordKey { family: Family::Digest, id: "x".to_owned() }, bytes: vec![1], expires: None });
    let ring = line_of(&item::Record { key: RecordKey { family: Family::Ring, id: "a".to_owned() }, bytes: vec![1], expires: None });
    let whole = backup_of(&[&good]);
    let (body, _end) = whole.trim_end().rsplit_once('\n').unwrap();
    let with = |line: &str| backup_of(&[&good, line]);
    let long = format!(r#"{{"is":"key","id":"{}"}}"#, "x".repeat(5_000_000));
    let count = |start: u64, count: u64, outcome: &str, writer: &str| {
        format!(
            r#"{{"is":"hour","start":{start},"user":"alice","route":"list","outcome":"{outcome}","count":{count},"writer":"{writer}"}}"#
        )
    };
    let writer = "000000000000000000000000000000ff";
    let table: Vec<(String, &str)> = vec![
        (String::new(), "line 0: this is no backup"),
        ("{}\n".to_owned(), "line 1: this is no backup"),
        ("key1,alice\n".to_owned(), "line 1: this is no backup"),
        (whole.replace("\"format\":1", "\"format\":2"), "format 2, and this release reads up to 1"),
        (whole.replace("\"format\":1", "\"format\":\"1\""), "line 1, `format`: it is no whole number"),
        (format!("{body}\n"), "was cut off"),
        (whole.trim_end().to_owned(), "was cut off"),
        (whole.get(..whole.len() / 2).unwrap().to_owned(), "was cut off"),
        (whole.replace("2027", "2028"), "was changed"),
        (format!("{whole}{good}\n"), "line 4: nothing may follow"),
        (whole.replace("\"lines\":2", "\"lines\":3"), "line 3: it ends a file of 3 lines, and there are 2"),
        (with(&good), "line 3: this record stands in the file twice"),
        (with(&swapped), "line 3, `bytes`: it is another key's record"),
        (with(&digest), "line 3, `bytes`: its id is no digest"),
        (with(&ring), "line 3, `bytes`: it is no wrapped key ring"),
        (with(r#"{"is":"key","id":"a","bytes":"%%"}"#), "line 3, `bytes`: it is not base64"),
        (with(r#"{"is":"key","id":"","bytes":""}"#), "line 3, `id`: it is no record's id"),
        (with("{\"is\":\"key\",\"id\":\"a\\u001b[2J\",\"bytes\":\"\"}"), "line 3, `id`: it is no record's id"),
        (with(r#"{"is":"key","id":5,"bytes":""}"#), "line 3, `id`: it is no text"),
        (with(r#"{"is":"key","id":"a"}"#), "line 3, `bytes`: it is missing"),
        (with(&good.replace('}', r#","expires_ns":-1}"#)), "line 3, `expires_ns`: it is no whole number"),
        (with(&good.replace('}', r#","more":1}"#)), "line 3, `more`: this release knows no such member"),
        (with(&good.replace("\"id\":", "\"id\":\"x\",\"id\":")), "line 3: not a strict JSON object"),
        (with(r#"{"is":"widget","id":"a"}"#), "line 3, `is`: \"widget\" is nothing that this release knows"),
        (with(&count(1_800_000_000, 5, "allowed", "0")), "line 3, `writer`: it is not 32 hexadecimal digits"),
        (with(&count(1_800_000_001, 5, "allowed", writer)), "line 3, `start`: no hour begins then"),
        (with(&count(999_999_999_999, 5, "allowed", writer)), "line 3, `start`: it is no Unix second"),
        (with(&count(1_800_000_000, u64::MAX, "allowed", writer)), "line 3, `count`: nothing was counted so often"),
        (with(&count(1_800_000_000, 5, "waved", writer)), "line 3, `outcome`: it is none of"),
        (with(r#"{"is":"last_use","key":"","at":1,"route":"r"}"#), "line 3, `key`: a name has 1 to 4096 bytes"),
        (with(r#"{"is":"last_use","key":"k","at":1.5,"route":"r"}"#), "line 3, `at`: it is no whole number"),
        (with(r#"{"id":"a"}"#), "line 3: it does not say what it is"),
        (with("[1]"), "line 3: not a strict JSON object"),
        (with(&"[".repeat(100_000)), "line 3: not a strict JSON object"),
        (with(&long), "line 3: it is longer than any line"),
    ];
    for (text, expected) in table {
        std::fs::write(desk.path("backup"), &text).unwrap();
        let said = desk.import(desk.embedded("b", PEPPER), "backup", Wishes::default()).await.unwrap_err().to_string();
        assert!(said.contains(expected), "expected {expected}, got {}", said.get(..400.min(said.len())).unwrap());
        assert!(!desk.path("b").exists(), "{expected}: the store was opened before the file was proven");
    }
    std::fs::write(desk.path("backup"), [b"\xff\xfe".as_slice(), whole.as_bytes()].concat()).unwrap();
    assert!(desk.import(desk.embedded("b", PEPPER), "backup", Wishes::default()).await.is_err());
    assert!(desk.import(desk.embedded("b", PEPPER), ".", Wishes::default()).await.unwrap_err().to_string().contains("it is not a file"));
    std::fs::write(desk.path("backup"), &whole).unwrap();
    assert_eq!(desk.import(desk.embedded("b", PEPPER), "backup", Wishes::default()).await.unwrap().written, 1, "and the good one is good");
}
