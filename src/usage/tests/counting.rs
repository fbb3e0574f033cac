//! Adding: exact, bounded, and still there afterwards.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::key::KeyId;
use crate::model::time::Hour;
use crate::model::usage::Line;
use crate::model::usage::Outcome;
use crate::model::usage::RouteText;
use crate::usage::Ledger;
use crate::usage::LedgerError;
use crate::usage::LedgerOptions;
use crate::usage::tests::NOON;
use crate::usage::tests::counts;
use crate::usage::tests::folder;
use crate::usage::tests::line;
use crate::usage::tests::open;
use crate::usage::tests::small;
use crate::usage::tests::user;
use crate::usage::tests::with_key;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn counts_are_there_after_reopening() {
    let folder = folder();
    let alice = user("alice");
    let mut expected = BTreeMap::new();
    for round in 1..=3 {
        let ledger = open(folder.path());
        assert_eq!(ledger.recovery().fresh, round == 1);
        assert!(ledger.recovery().is_clean(), "{:?}", ledger.recovery());
        assert_eq!(counts(&ledger), expected, "round {round}");
        for number in 0..200_u32 {
            let route = format!("route-{number}");
            ledger.add(&line(&alice, &route), number + 1).unwrap();
            *expected.entry(("alice".to_owned(), route)).or_default() += u64::from(number + 1);
        }
        assert_eq!(counts(&ledger), expected);
        assert!(ledger.gauges().slots > 200);
    }
}

#[test]
fn every_part_of_a_line_tells_counters_apart() {
    let folder = folder();
    let ledger = open(folder.path());
    let (alice, bob, key) = (user("alice"), user("bob"), KeyId::new("k1"));
    let lines = [
        line(&alice, "r"),
        line(&bob, "r"),
        line(&alice, "s"),
        with_key(&alice, &key, "r"),
        Line { outcome: Outcome::Limited, ..line(&alice, "r") },
        Line { outcome: Outcome::Refused, ..line(&alice, "r") },
        Line { hour: Hour(NOON.hour().0 + 1), ..line(&alice, "r") },
    ];
    for line in &lines {
        ledger.add(line, 1).unwrap();
    }
    assert_eq!(ledger.gauges().counters, lines.len() as u64);
}

// battery: X9
#[test]
fn a_second_opener_is_refused() {
    let folder = folder();
    let ledger = open(folder.path());
    let second = Ledger::open(small(folder.path()), NOON).unwrap_err();
    assert!(matches!(second, LedgerError::Locked { .. }), "{second}");
    drop(ledger);
    open(folder.path());
}

#[test]
fn texts_made_of_paths_are_bounded_by_user_and_hour() {
    let folder = folder();
    let (alice, bob) = (user("alice"), user("bob"));
    let text = |user, route| Line { route_text: RouteText::Path, ..line(user, route) };
    let routes: Vec<String> = (0..300).map(|number| format!("svc/{number}")).collect();
    for round in 1..=2_u64 {
        let ledger = open(folder.path());
        for route in &routes {
            ledger.add(&text(&alice, route), 1).unwrap();
        }
        let counts = counts(&ledger);
        assert_eq!(counts.len(), 257, "256 and `other`");
        assert_eq!(counts[&("alice".into(), "other".into())], 44 * round);
        assert_eq!(counts[&("alice".into(), "svc/255".into())], round);
        assert_eq!(ledger.gauges().overflowed, 44);
    }
    let ledger = open(folder.path());
    // A text that has its counter keeps its name in the other outcomes; other users, configured names and hours are not touched.
    ledger.add(&Line { outcome: Outcome::Limited, ..text(&alice, "svc/1") }, 5).unwrap();
    ledger.add(&text(&bob, "svc/299"), 7).unwrap();
    ledger.add(&line(&alice, "configured"), 9).unwrap();
    ledger.add(&Line { hour: Hour(NOON.hour().0 + 1), ..text(&alice, "svc/299") }, 11).unwrap();
    ledger.add(&text(&bob, &"long".repeat(100)), 13).unwrap();
    let counts = counts(&ledger);
    for (user, route, count) in
        [("alice", "svc/1", 7), ("bob", "svc/299", 7), ("alice", "configured", 9), ("alice", "svc/299", 11), ("bob", "other", 13)]
    {
        assert_eq!(counts[&(user.into(), route.into())], count, "{user} {route}");
    }
}

#[test]
fn many_threads_lose_nothing() {
    let folder = folder();
    let ledger = open(folder.path());
    let users: Vec<_> = (0..5).map(|number| user(&format!("u{number}"))).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for number in 0..20_000_usize {
                    let route = format!("r{}", number % 40);
                    ledger.add(&line(&users[number % 5], &route), 2).unwrap();
                }
            });
        }
    });
    let counts = counts(&ledger);
    assert_eq!(counts.len(), 40);
    assert!(counts.values().all(|&count| count == 4 * 500 * 2), "{counts:?}");
    assert_eq!(ledger.gauges().counters, 40, "no line began twice");
}

// battery: X2
#[test]
fn a_ledger_without_room_refuses_new_lines_and_counts_the_old_ones() {
    let folder = folder();
    let options = LedgerOptions { bytes_max: 8192, ..small(folder.path()) };
    let ledger = Ledger::open(options, NOON).unwrap();
    let alice = user("alice");
    let refused = (0..100).filter(|number| ledger.add(&line(&alice, &format!("r{number}")), 1).is_err()).count();
    assert_eq!(refused, 36, "a segment of this size has 64 slots");
    let error = ledger.add(&line(&alice, "new"), 1).unwrap_err();
    assert!(matches!(error, LedgerError::Full { .. }), "{error}");
    ledger.add(&line(&alice, "r0"), 1).unwrap();
    assert_eq!(counts(&ledger).values().sum::<u64>(), 65);
    assert!(ledger.gauges().growth_failures > 36);
}

#[test]
fn room_is_made_ahead_of_need() {
    let folder = folder();
    let ledger = open(folder.path());
    let alice = user("alice");
    for number in 0..60 {
        ledger.add(&line(&alice, &format!("r{number}")), 1).unwrap();
        assert_eq!(ledger.gauges().slots, 64);
    }
    ledger.tick(NOON, SECOND).unwrap();
    assert_eq!(ledger.gauges().slots, 128);
    ledger.tick(NOON, SECOND).unwrap();
    assert_eq!(ledger.gauges(), crate::usage::Gauges { slots: 128, slots_used: 60, counters: 60, ..Default::default() });
}

// battery: X12
#[test]
fn counts_never_go_to_an_earlier_hour() {
    let folder = folder();
    let ledger = open(folder.path());
    let alice = user("alice");
    let noon = NOON.hour().0;
    for hour in [noon, noon + 1, noon, noon - 5, noon + 500, 0, u32::MAX] {
        ledger.add(&Line { hour: Hour(hour), ..line(&alice, "r") }, 1).unwrap();
    }
    let (stated, _) = ledger.state(Default::default(), usize::MAX, |_, _, _| true);
    let by_hour: Vec<(u32, u64)> = stated.iter().map(|stated| (stated.hour.0, stated.count)).collect();
    assert_eq!(by_hour, [(noon, 1), (noon + 1, 6)]);
}

#[test]
fn names_out_of_use_leave_the_dictionary() {
    let folder = folder();
    let long = "x".repeat(900);
    {
        let ledger = Ledger::open(LedgerOptions { segment_bytes: 1 << 20, ..LedgerOptions::new(folder.path()) }, NOON).unwrap();
        for number in 0..1500 {
            ledger.add(&line(&user(&format!("{long}{number}")), "r"), 1).unwrap();
        }
        ledger.add(&line(&user("alice"), "r"), 1).unwrap();
        let later = NOON.plus(Duration::from_secs(7200));
        ledger.tick(later, Duration::from_secs(7200)).unwrap();
        let (told, _) = ledger.state(Default::default(), usize::MAX, |_, _, _| true);
        let told: Vec<_> = told.into_iter().filter(|stated| &*stated.user != "alice").collect();
        ledger.acknowledge(&told, &vec![1; told.len()]);
        assert_eq!(ledger.close_periods(), 1500);
        ledger.compact_names().unwrap();
        let size = std::fs::metadata(folder.path().join("dictionary")).unwrap().len();
        assert!(size < 1000, "{size}");
        ledger.add(&line(&user("bob"), "r"), 2).unwrap();
    }
    let ledger = Ledger::open(LedgerOptions::new(folder.path()), NOON).unwrap();
    assert!(ledger.recovery().is_clean(), "{:?}", ledger.recovery());
    let counts = counts(&ledger);
    assert_eq!(counts[&("alice".into(), "r".into())], 1);
    assert_eq!(counts[&("bob".into(), "r".into())], 2);
}
