//! What a backup cures, what it must not open, and how it comes through a pipe.

use redb::ReadableTable as _;

use super::*;

/// Changes a byte of the record with this id, and not its checksum.
fn damage(store: &Path, id: &str) {
    const RECORDS: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("records");
    let database = redb::Database::open(store.join(crate::store::EMBEDDED_FILE_NAME)).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut records = transaction.open_table(RECORDS).unwrap();
        let rows = records.iter().unwrap().flatten().map(|(place, laid)| (place.value().to_vec(), laid.value().to_vec()));
        let (place, mut laid) = { rows }.find(|(place, _laid)| place.ends_with(id.as_bytes())).unwrap();
        *laid.last_mut().unwrap() ^= 1;
        records.insert(place.as_slice(), laid.as_slice()).unwrap();
    }
    transaction.commit().unwrap();
}

#[tokio::test]
async fn only_what_is_damaged_is_replaced() {
    type Case<'c> = (&'c dyn Fn() -> Named, &'c dyn Fn());
    let desk = Desk::new();
    let server = RedisServer::start();
    let from = || desk.embedded("a", PEPPER);
    desk.fill(from).await;
    desk.export(from(), "backup").await.unwrap();
    let table: [Case<'_>; 2] = [
        (&|| desk.embedded("b", PEPPER), &|| damage(&desk.path("b"), "key7")),
        (&|| desk.redis("shared", &server), &|| drop(server.tell("HSET shared:1:{r}:rec:key/key7 b tampered"))),
    ];
    for (to, damage) in table {
        desk.import(to(), "backup", Wishes::default()).await.unwrap();
        let mut revoked = key_record("key8");
        revoked.state = KeyState::Revoked;
        // The second is as a newer release could write it.
        let own = [put(RecordKey::key("key8"), encode_key(&revoked)), put(RecordKey::key("key9"), b"\x09k{}".to_vec())];
        desk.open(to()).records().commit(vec![], own.to_vec(), START).await.unwrap();
        damage();
        let refused = desk.import(to(), "backup", Wishes::default()).await.unwrap_err().to_string();
        assert!(refused.contains("--merge, which adds the rest and replaces what is damaged"), "{refused}");
        for replaced in [vec!["key/key7".to_owned()], vec![]] {
            let summary = desk.import(to(), "backup", MERGE).await.unwrap();
            let left = (summary.different, summary.broken);
            assert_eq!((summary.replaced, left), (replaced, (vec!["key/key8".to_owned()], vec!["key/key9".to_owned()])));
        }
        let stored = desk.open(to()).records().get(&RecordKey::key("key7")).await.unwrap().unwrap();
        assert_eq!(stored.bytes, key_of(7));
    }
    // What another pepper sealed is whole for those who have it.
    let socket = server.socket().display();
    let with = |peppers: &str| {
        desk.config(
            "other",
            &format!("store: {{ redis: {{ url: \"unix:{socket}\", prefix: shared, path: ./o }} }}\npeppers: [{peppers}]\n"),
        )
    };
    let (one, two) = ("{ id: p1, secret: { file: ./pepper-text } }", "{ id: p2, secret: { file: ./other-text } }");
    let sealed = vec![put(RecordKey::key("key6"), key_of(6))];
    desk.open(with(&format!("{two}, {one}"))).records().commit(vec![], sealed, START).await.unwrap();
    let summary = desk.import(with(one), "backup", MERGE).await.unwrap();
    assert_eq!((summary.replaced.len(), &*summary.broken), (0, &["key/key6".to_owned(), "key/key9".to_owned()][..]));
    let refused = desk.import(with(&one.replace("pepper-text", "other-text")), "backup", MERGE).await.unwrap_err().to_string();
    assert!(refused.contains("can be read; nothing was written. Does its config lack the pepper"), "{refused}");
}

#[tokio::test]
async fn signing_keys_tell_whether_the_secret_is_the_right_one() {
    let desk = Desk::new();
    let made = || desk.embedded("made", PEPPER);
    {
        let side = desk.open(made());
        crate::jose::Assertions::load_or_create(side.records(), &side.peppers, START).await.unwrap();
    }
    desk.export(made(), "backup").await.unwrap();
    let another = PEPPER.replace("pepper-text", "other-text");
    let said = desk.import(desk.embedded("b", &another), "backup", Wishes::default()).await.unwrap_err().to_string();
    assert!(said.contains("ring/assertion") && said.contains("the pepper p1") && said.contains("unless it begins with `hex:`"), "{said}");
    assert!(!desk.path("b").exists());
    let wrong = desk.config("wrong", &format!("store: {{ embedded: {{ path: ./made }} }}\n{another}\n"));
    let examined = crate::app::examine::examine(wrong, &desk.clock).await;
    let said = &examined.problems.first().unwrap().what;
    assert!(!examined.is_usable() && said.contains("is another secret given under its id?"), "{said}");
    assert!(crate::app::examine::examine(made(), &desk.clock).await.is_usable());
}

#[tokio::test]
async fn a_backup_comes_through_a_pipe() {
    let desk = Desk::new();
    desk.fill(|| desk.embedded("a", PEPPER)).await;
    desk.export(desk.embedded("a", PEPPER), "backup").await.unwrap();
    let whole = std::fs::read(desk.path("backup")).unwrap();
    let cut = whole[..whole.len() / 2].to_vec();
    let pipe = async |from: Box<dyn std::io::Read>| {
        import(desk.embedded("b", PEPPER), Source::Stream(from), Wishes::default(), &desk.clock, &mut |_what, _count| {}).await
    };
    let table: [(Box<dyn std::io::Read>, &str); 3] = [
        (Box::new(std::io::Cursor::new(cut)), "standard input was cut off"),
        (Box::new(std::io::empty()), "standard input, line 0: this is no backup"),
        (Box::new(std::io::repeat(b'x')), "standard input, line 1: it is longer than any line"),
    ];
    for (from, expected) in table {
        let said = pipe(from).await.unwrap_err().to_string();
        assert!(said.contains(expected) && !desk.path("b").exists(), "{said}");
    }
    assert_eq!(pipe(Box::new(std::io::Cursor::new(whole))).await.unwrap().written, RECORDS);
    assert_eq!(desk.dump(desk.embedded("b", PEPPER)).await, desk.dump(desk.embedded("a", PEPPER)).await);
    let left = std::fs::read_dir(desk.folder.path()).unwrap().flatten();
    assert_eq!(left.filter(|entry| entry.file_name().to_string_lossy().starts_with(".backup")).count(), 0);
}
