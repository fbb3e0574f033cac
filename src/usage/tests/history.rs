//! The two together: exact answers whatever was flushed, told twice, thrown back or closed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tempfile::TempDir;

use crate::model::key::KeyId;
use crate::model::time::Hour;
use crate::model::time::Timestamp;
use crate::model::usage::Line;
use crate::model::usage::Outcome;
use crate::model::usage::Span;
use crate::model::usage::UsageQuery;
use crate::usage::History;
use crate::usage::HistoryError;
use crate::usage::LastUse;
use crate::usage::Thoroughness;
use crate::usage::Usage;
use crate::usage::tests::NOON;
use crate::usage::tests::folder;
use crate::usage::tests::line;
use crate::usage::tests::small;
use crate::usage::tests::user;
use crate::usage::tests::with_key;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const FOREVER: Timestamp = Timestamp::from_unix_seconds(10_000_000_000);

fn open_at(folder: &Path, now: Timestamp) -> Usage {
    Usage::open(small(&folder.join("ledger")), folder.join("usage.redb"), now).unwrap()
}

fn opened() -> (TempDir, Usage) {
    let folder = folder();
    let usage = open_at(folder.path(), NOON);
    (folder, usage)
}

fn flush(usage: &Usage, now: Timestamp, elapsed: Duration) {
    usage.flush(Thoroughness::Everything, now, elapsed).unwrap();
}

/// Everything there is, as `user route outcome: count` summed over a span, and the same from the totals.
fn sum(usage: &Usage, span: Span) -> u64 {
    let page = usage.query(&UsageQuery::between(span, Timestamp::from_nanos(0), FOREVER)).unwrap();
    assert_eq!(page.next, None);
    page.rows.iter().map(|row| row.count).sum()
}

fn assert_all(usage: &Usage, expected: u64, what: &str) {
    for span in [Span::Hour, Span::Day, Span::Month] {
        assert_eq!(sum(usage, span), expected, "{what}: {span:?}");
    }
    let totals: u64 = usage.ledger().totals().iter().map(|total| total.count).sum();
    assert_eq!(totals, expected, "{what}: totals");
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn answers_are_exact_before_and_after_every_flush() {
    let (folder, mut usage) = opened();
    let alice = user("alice");
    for round in 1..=6_u64 {
        usage.ledger().add(&line(&alice, "r"), 5).unwrap();
        assert_all(&usage, round * 5, "before the flush");
        if round % 2 == 0 {
            flush(&usage, NOON, SECOND);
            assert_all(&usage, round * 5, "after the flush");
        }
        if round % 3 == 0 {
            drop(usage);
            usage = open_at(folder.path(), NOON);
            assert_all(&usage, round * 5, "after a restart");
        }
    }
}

#[test]
fn telling_twice_changes_nothing() {
    let (_folder, usage) = opened();
    usage.ledger().add(&line(&user("alice"), "r"), 5).unwrap();
    let (batch, _) = usage.ledger().state(Default::default(), 100, |_, _, _| true);
    let writer = usage.ledger().writer_id();
    // Killed between telling and noting that it was told: the next flush tells it again.
    assert_eq!(usage.history().merge(writer, &batch, NOON).unwrap(), [5]);
    assert_eq!(usage.history().merge(writer, &batch, NOON).unwrap(), [0]);
    usage.ledger().add(&line(&user("alice"), "r"), 2).unwrap();
    flush(&usage, NOON, SECOND);
    assert_eq!(usage.history().merge(writer, &batch, NOON).unwrap(), [0], "late");
    for span in [Span::Hour, Span::Day, Span::Month] {
        assert_eq!(sum(&usage, span), 7);
    }
}

#[test]
fn a_closed_hour_gives_its_slots_back_and_keeps_its_counts() {
    let (_folder, usage) = opened();
    let alice = user("alice");
    for round in 0..50_u32 {
        let now = NOON.plus(HOUR * round);
        flush(&usage, now, HOUR);
        for number in 0..20 {
            usage.ledger().add(&Line { hour: now.hour(), ..line(&alice, &format!("r{number}")) }, 1).unwrap();
        }
    }
    flush(&usage, NOON.plus(HOUR * 50), HOUR);
    assert_all(&usage, 1000, "fifty hours");
    assert!(usage.ledger().gauges().slots <= 128, "{:?}", usage.ledger().gauges());
    assert_eq!(usage.ledger().gauges().counters, 0);
}

#[test]
fn a_counter_that_moved_on_is_not_given_back() {
    let (_folder, usage) = opened();
    let alice = user("alice");
    usage.ledger().add(&line(&alice, "r"), 5).unwrap();
    flush(&usage, NOON, SECOND);
    let (stated, _) = usage.ledger().state(Default::default(), 1, |_, _, _| true);
    usage.ledger().add(&line(&alice, "r"), 1).unwrap();
    assert_eq!(usage.ledger().give_back(&stated), 0);
    assert_all(&usage, 6, "moved on");
    let (stated, _) = usage.ledger().state(Default::default(), 1, |_, _, _| true);
    flush(&usage, NOON, SECOND);
    assert_eq!(usage.ledger().give_back(&stated), 1);
    usage.ledger().add(&line(&alice, "r"), 1).unwrap();
    assert_all(&usage, 7, "and on");
}

#[test]
fn counting_while_hours_close_loses_nothing() {
    let (_folder, usage) = opened();
    let hours = AtomicU32::new(0);
    let running = AtomicBool::new(true);
    let added: u64 = std::thread::scope(|scope| {
        let adders: Vec<_> = (0..3)
            .map(|number| {
                let (usage, hours, running) = (&usage, &hours, &running);
                scope.spawn(move || {
                    let alice = user("alice");
                    let route = format!("r{}", number % 2);
                    let mut added = 0;
                    while running.load(Ordering::Relaxed) {
                        // Some are behind, as threads are that were held up.
                        let hour = Hour(NOON.hour().0 + hours.load(Ordering::Relaxed).saturating_sub(number));
                        usage.ledger().add(&Line { hour, ..line(&alice, &route) }, 1).unwrap();
                        added += 1;
                    }
                    added
                })
            })
            .collect();
        for hour in 0..60_u32 {
            hours.store(hour, Ordering::Relaxed);
            flush(&usage, NOON.plus(HOUR * hour), HOUR);
        }
        running.store(false, Ordering::Relaxed);
        adders.into_iter().map(|adder| adder.join().unwrap()).sum()
    });
    assert_all(&usage, added, "while hours closed");
    flush(&usage, NOON.plus(HOUR * 70), HOUR * 11);
    assert_all(&usage, added, "at the end");
}

#[test]
fn a_ledger_thrown_back_learns_from_the_history() {
    let (folder, usage) = opened();
    let (ledger, old) = (folder.path().join("ledger"), folder.path().join("old"));
    let alice = user("alice");
    usage.ledger().add(&line(&alice, "r"), 10).unwrap();
    copy_folder(&ledger, &old);
    usage.ledger().add(&line(&alice, "r"), 5).unwrap();
    usage.ledger().add(&line(&alice, "s"), 1).unwrap();
    flush(&usage, NOON, SECOND);
    drop(usage);
    fs::remove_dir_all(&ledger).unwrap();
    copy_folder(&old, &ledger);
    let usage = open_at(folder.path(), NOON);
    assert_all(&usage, 16, "thrown back");
    assert_eq!(usage.ledger().gauges().raised, 5);
    usage.ledger().add(&line(&alice, "r"), 1).unwrap();
    usage.ledger().add(&line(&alice, "s"), 1).unwrap();
    assert_all(&usage, 18, "and on");
    flush(&usage, NOON, SECOND);
    assert_all(&usage, 18, "and flushed");
}

#[test]
fn a_history_thrown_back_learns_from_the_ledger() {
    let (folder, usage) = opened();
    let (path, old) = (folder.path().join("usage.redb"), folder.path().join("old.redb"));
    let alice = user("alice");
    usage.ledger().add(&line(&alice, "r"), 10).unwrap();
    flush(&usage, NOON, SECOND);
    drop(usage);
    fs::copy(&path, &old).unwrap();
    let usage = open_at(folder.path(), NOON);
    usage.ledger().add(&line(&alice, "r"), 5).unwrap();
    usage.ledger().add(&line(&alice, "s"), 1).unwrap();
    flush(&usage, NOON, SECOND);
    drop(usage);
    fs::copy(&old, &path).unwrap();
    let usage = open_at(folder.path(), NOON);
    assert_all(&usage, 16, "thrown back");
    flush(&usage, NOON, SECOND);
    assert_all(&usage, 16, "and flushed");
}

// battery: X10
#[test]
fn a_counter_set_aside_begins_again_on_top_of_what_was_flushed() {
    let (folder, usage) = opened();
    let alice = user("alice");
    usage.ledger().add(&line(&alice, "r"), 10).unwrap();
    flush(&usage, NOON, SECOND);
    drop(usage);
    let path = folder.path().join("ledger/segment-000000");
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096 + 5 * 8] ^= 4;
    fs::write(&path, bytes).unwrap();
    let usage = open_at(folder.path(), NOON);
    assert_eq!(usage.ledger().recovery().quarantined, 1);
    assert!(usage.ledger().recovery().notes[0].contains("slot 0 of segment 0"), "{:?}", usage.ledger().recovery());
    usage.ledger().add(&line(&alice, "r"), 3).unwrap();
    assert_all(&usage, 13, "before the flush");
    flush(&usage, NOON, SECOND);
    assert_all(&usage, 13, "after the flush");
}

#[test]
fn a_count_damaged_in_running_begins_again_too() {
    let (_folder, usage) = opened();
    let alice = user("alice");
    usage.ledger().add(&line(&alice, "r"), 10).unwrap();
    flush(&usage, NOON, SECOND);
    let (stated, _) = usage.ledger().state(Default::default(), 1, |_, _, _| true);
    usage.ledger().slot(stated[0].place).unwrap().value().fetch_xor(1 << 20, Ordering::Relaxed);
    usage.ledger().add(&line(&alice, "r"), 3).unwrap();
    assert_eq!(usage.ledger().gauges().quarantined, 1);
    assert_all(&usage, 13, "damaged in running");
}

#[test]
fn filters_and_pages_cut_the_same_rows() {
    let (_folder, usage) = opened();
    let key = KeyId::new("k1");
    let add = |now: Timestamp| {
        for name in ["alice", "bob", "carol"] {
            let user = user(name);
            for route in ["r", "s"] {
                usage.ledger().add(&Line { hour: now.hour(), ..line(&user, route) }, 1).unwrap();
                usage.ledger().add(&Line { hour: now.hour(), ..with_key(&user, &key, route) }, 2).unwrap();
                usage.ledger().add(&Line { hour: now.hour(), outcome: Outcome::Limited, ..line(&user, route) }, 4).unwrap();
            }
        }
    };
    add(NOON);
    flush(&usage, NOON.plus(HOUR), HOUR);
    add(NOON.plus(HOUR));
    flush(&usage, NOON.plus(HOUR), SECOND);
    // The last hour's counts are in the ledger alone.
    flush(&usage, NOON.plus(HOUR * 2), HOUR);
    add(NOON.plus(HOUR * 2));
    let all = UsageQuery::between(Span::Hour, NOON, NOON.plus(HOUR * 3));
    let users = |names: &[&str]| Some(names.iter().map(|name| Arc::from(*name)).collect::<BTreeSet<Arc<str>>>());
    for (what, query, rows, count) in [
        ("all", all.clone(), 54, 126),
        ("one hour", UsageQuery { from: NOON.plus(HOUR), to: NOON.plus(HOUR * 2), ..all.clone() }, 18, 42),
        ("a part of an hour is the hour", UsageQuery { from: NOON.plus(SECOND), to: NOON.plus(SECOND * 2), ..all.clone() }, 18, 42),
        ("one user", UsageQuery { users: users(&["bob"]), ..all.clone() }, 18, 42),
        ("two users", UsageQuery { users: users(&["alice", "carol", "zoe"]), ..all.clone() }, 36, 84),
        ("nobody", UsageQuery { users: users(&[]), ..all.clone() }, 0, 0),
        ("unknown", UsageQuery { users: users(&["aaa"]), ..all.clone() }, 0, 0),
        ("one key", UsageQuery { key: Some("k1".into()), ..all.clone() }, 18, 36),
        ("no key", UsageQuery { key: Some("".into()), ..all.clone() }, 36, 90),
        ("one route", UsageQuery { route: Some("s".into()), ..all.clone() }, 27, 63),
        ("one outcome", UsageQuery { outcomes: Outcome::Limited.alone(), ..all.clone() }, 18, 72),
        ("days", UsageQuery { span: Span::Day, ..all.clone() }, 18, 126),
        ("months", UsageQuery { span: Span::Month, users: users(&["alice"]), ..all.clone() }, 6, 42),
    ] {
        let whole = usage.query(&query).unwrap();
        assert_eq!((whole.rows.len(), whole.rows.iter().map(|row| row.count).sum::<u64>()), (rows, count), "{what}");
        for limit in [1, 5, 18] {
            let mut pages = Vec::new();
            let mut after = None;
            loop {
                let page = usage.query(&UsageQuery { limit, after: after.clone(), ..query.clone() }).unwrap();
                assert!(page.rows.len() <= limit);
                pages.extend(page.rows);
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(pages, whole.rows, "{what} by {limit}");
        }
    }
    for cursor in ["x", "00", "zz", "0", "é0"] {
        let bad = usage.query(&UsageQuery { after: Some(cursor.to_owned()), ..all.clone() });
        assert!(matches!(bad, Err(HistoryError::Cursor(_))), "{cursor}");
    }
}

#[test]
fn hours_and_days_go_when_their_time_is_over_and_months_stay() {
    let (_folder, usage) = opened();
    usage.ledger().add(&line(&user("alice"), "r"), 5).unwrap();
    flush(&usage, NOON, SECOND);
    for (days, expected) in [(34, (5, 5, 5)), (36, (0, 5, 5)), (399, (0, 5, 5)), (402, (0, 0, 5)), (4000, (0, 0, 5))] {
        flush(&usage, NOON.plus(DAY * days), DAY * days);
        let sums = (sum(&usage, Span::Hour), sum(&usage, Span::Day), sum(&usage, Span::Month));
        assert_eq!(sums, expected, "after {days} days");
    }
    assert_eq!(usage.ledger().totals()[0].count, 5);
}

#[test]
fn what_is_told_of_an_hour_past_its_time_is_not_believed() {
    let (_folder, usage) = opened();
    usage.ledger().add(&line(&user("alice"), "r"), 5).unwrap();
    flush(&usage, NOON, SECOND);
    let (batch, _) = usage.ledger().state(Default::default(), 100, |_, _, _| true);
    let later = NOON.plus(DAY * 36);
    flush(&usage, later, DAY * 36);
    assert_eq!(usage.history().merge(usage.ledger().writer_id(), &batch, later).unwrap(), [0]);
    assert_eq!(sum(&usage, Span::Month), 5);
}

// oauth: T9
#[test]
fn the_last_use_of_a_key_is_known_without_a_write_for_each() {
    let (folder, usage) = opened();
    let (alice, key) = (user("alice"), KeyId::new("k1"));
    assert_eq!(usage.last_use(&key).unwrap(), None);
    usage.ledger().add(&with_key(&alice, &key, "r"), 1).unwrap();
    flush(&usage, NOON.plus(SECOND * 30), SECOND * 30);
    usage.ledger().add(&with_key(&alice, &key, "s"), 1).unwrap();
    flush(&usage, NOON.plus(SECOND * 60), SECOND * 30);
    let expected = Some(LastUse { at: NOON.plus(SECOND * 30), route: "s".into() });
    assert_eq!(usage.last_use(&key).unwrap(), expected);
    // Killed before the flush, started much later: the use keeps its time.
    usage.ledger().add(&with_key(&alice, &key, "r"), 1).unwrap();
    drop(usage);
    let usage = open_at(folder.path(), NOON.plus(HOUR * 5));
    flush(&usage, NOON.plus(HOUR * 5), SECOND);
    assert_eq!(usage.last_use(&key).unwrap(), Some(LastUse { at: NOON.plus(SECOND * 60), route: "r".into() }));
    assert_eq!(usage.last_use(&KeyId::new("k2")).unwrap(), None);
}

// battery: X9 X10
#[test]
fn a_history_is_for_its_own_user_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let (folder, _usage) = opened();
    let facts = fs::metadata(folder.path().join("usage.redb")).unwrap();
    assert_eq!(facts.permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_history_in_use_or_damaged_is_never_begun_anew() {
    let (folder, usage) = opened();
    let path = folder.path().join("usage.redb");
    assert!(matches!(History::open(&path), Err(HistoryError::Locked { .. })));
    usage.ledger().add(&line(&user("alice"), "r"), 5).unwrap();
    flush(&usage, NOON, SECOND);
    drop(usage);
    let whole = fs::read(&path).unwrap();
    let damages: [(&str, Vec<u8>); 4] = [
        ("empty", Vec::new()),
        ("wiped", vec![0; whole.len()]),
        ("not a database", b"what is this".to_vec()),
        ("cut short", whole[..whole.len() / 3].to_vec()),
    ];
    for (what, bytes) in damages {
        fs::write(&path, &bytes).unwrap();
        let error = History::open(&path).expect_err(what);
        assert!(matches!(error, HistoryError::Damaged { .. } | HistoryError::Failed { .. }), "{what}: {error}");
        assert_eq!(fs::read(&path).unwrap().len(), bytes.len(), "{what}");
    }
}

#[test]
fn the_age_of_the_oldest_unflushed_count_is_known() {
    let (_folder, usage) = opened();
    assert_eq!(usage.oldest_unflushed_age(NOON.plus(SECOND * 7)), SECOND * 7);
    usage.flush(Thoroughness::Piece, NOON.plus(SECOND * 7), SECOND * 7).unwrap();
    assert_eq!(usage.oldest_unflushed_age(NOON.plus(SECOND * 9)), SECOND * 2);
}

#[test]
fn uses_of_older_secrets_are_kept_beside_those_of_keys() {
    let (_folder, usage) = opened();
    let old = KeyId::new("k1-old-01020304");
    usage.ledger().note(&old, "r", NOON.plus(SECOND));
    usage.ledger().note(&old, "s", NOON.plus(SECOND * 2));
    usage.ledger().note(&old, "t", NOON);
    assert_eq!(usage.last_use(&old).unwrap(), None);
    flush(&usage, NOON.plus(SECOND * 3), SECOND * 3);
    assert_eq!(usage.last_use(&old).unwrap(), Some(LastUse { at: NOON.plus(SECOND * 2), route: "s".into() }));
    assert_eq!(usage.last_use(&KeyId::new("k1")).unwrap(), None);
    assert_all(&usage, 0, "nothing was counted");
}
