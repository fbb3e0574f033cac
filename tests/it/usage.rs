//! Counting as a process lives and dies: killed at any instant, out of disk space, started on an older release's files.
//!
//! The processes that are killed are this very test binary, started again with one of the `child_` tests and a folder in its
//! environment; without the folder those tests have nothing to do.

use std::collections::BTreeMap;
use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tempfile::TempDir;
use tollgate::model::caller::Namespace;
use tollgate::model::caller::SourceName;
use tollgate::model::caller::Subject;
use tollgate::model::caller::UserId;
use tollgate::model::key::KeyId;
use tollgate::model::quota::Limit;
use tollgate::model::quota::Per;
use tollgate::model::quota::Policy;
use tollgate::model::time::Hour;
use tollgate::model::time::Timestamp;
use tollgate::model::usage::Line;
use tollgate::model::usage::Outcome;
use tollgate::model::usage::RouteText;
use tollgate::model::usage::Span;
use tollgate::model::usage::UsageQuery;
use tollgate::store::Take;
use tollgate::usage::LedgerError;
use tollgate::usage::LedgerOptions;
use tollgate::usage::LocalBuckets;
use tollgate::usage::Thoroughness;
use tollgate::usage::Usage;

const FOLDER: &str = "TOLLGATE_TEST_FOLDER";
const ROUND: &str = "TOLLGATE_TEST_ROUND";
const FLUSHED: &str = "flushed";
const ROUNDS: u32 = 20;
const THREADS: u32 = 4;
const HOUR: Duration = Duration::from_secs(3600);
/// 2026-01-15 12:00:00 UTC.
const NOON: Timestamp = Timestamp::from_unix_seconds(1_768_478_400);
const DEPTH: u32 = 2_000_000;

type Counts = BTreeMap<(String, String), u64>;

/// A folder on a disk: the ledger refuses memory, which the system's temporary folder may be in.
fn folder() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn open(folder: &Path, now: Timestamp) -> Usage {
    let options = LedgerOptions { segment_bytes: 64 * 1024, ..LedgerOptions::new(folder.join("ledger")) };
    Usage::open(options, folder.join("usage.redb"), now).unwrap()
}

fn user(name: &str) -> UserId {
    UserId::new(&SourceName::local(), &Subject::parse(name).unwrap(), Namespace::Bare)
}

fn line<'a>(hour: Hour, user: &'a UserId, route: &'a str) -> Line<'a> {
    Line { hour, user, key: None, route, route_text: RouteText::Name, outcome: Outcome::Allowed }
}

/// Everything that was ever counted, by user and route.
fn counts(usage: &Usage) -> Counts {
    let mut query = UsageQuery::between(Span::Month, NOON, NOON.plus(HOUR * 24 * 3650));
    let mut counts = Counts::new();
    loop {
        let page = usage.query(&query).unwrap();
        for row in page.rows {
            *counts.entry((row.user.to_string(), row.route.to_string())).or_default() += row.count;
        }
        query.after = page.next;
        if query.after.is_none() {
            return counts;
        }
    }
}

fn by_user(counts: &Counts) -> BTreeMap<&str, u64> {
    let mut sums = BTreeMap::new();
    for ((user, _), count) in counts {
        *sums.entry(user.as_str()).or_default() += count;
    }
    sums
}

fn child(test: &str, folder: &Path, round: u32) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("usage::{test}"), "--nocapture", "--test-threads=1"]);
    command.env(FOLDER, folder).env(ROUND, round.to_string());
    command
}

/// What a child was started with; nothing when this is no child.
fn errand() -> Option<(PathBuf, u32)> {
    let folder = std::env::var_os(FOLDER)?;
    // The test runner has begun a line of its own, which no answer may be part of.
    let _ = std::io::stdout().write_all(b"\n");
    Some((folder.into(), std::env::var(ROUND).ok()?.parse().ok()?))
}

/// Starts a child, kills it once it has flushed `flushes` times and then answered `answers` times, and returns everything that it
/// had answered by then.
fn kill_after(test: &str, folder: &Path, round: u32, flushes: u32, answers: u32) -> Vec<String> {
    let mut child = child(test, folder, round).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut answered = Vec::new();
    let mut killed = false;
    let mut flushed = 0;
    let mut answered_since = 0;
    let mut text = String::new();
    while output.read_line(&mut text).unwrap() > 0 {
        // A line that is cut off was not answered yet.
        if let Some(answer) = text.strip_prefix('@').and_then(|answer| answer.strip_suffix('\n')) {
            if answer == FLUSHED {
                flushed += 1;
            } else {
                answered.push(answer.to_owned());
                answered_since += u32::from(flushed >= flushes);
            }
        }
        text.clear();
        if !killed && answered_since >= answers {
            child.kill().unwrap();
            killed = true;
        }
    }
    let status = child.wait().unwrap();
    assert!(killed, "the child ended by itself after {} answers: {status}", answered.len());
    answered
}

fn answer(text: &str) {
    let mut out = std::io::stdout().lock();
    // The parent may have gone.
    let _ = out.write_all(format!("@{text}\n").as_bytes());
}

/// Numbers that look random and are the same in every run.
fn scattered(round: u32) -> u32 {
    let mixed = u64::from(round).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    200 + (mixed >> 40) as u32 % 3000
}

// battery: X6
#[test]
fn killed_at_any_instant_nothing_answered_is_lost_and_nothing_is_counted_twice() {
    let folder = folder();
    let mut answered = Counts::new();
    for round in 1..=ROUNDS {
        for text in kill_after("child_counts", folder.path(), round, round % 6, scattered(round)) {
            let (user, route) = text.split_once(' ').unwrap();
            *answered.entry((user.to_owned(), route.to_owned())).or_default() += 1;
        }
        let usage = open(folder.path(), NOON.plus(HOUR * 100 * round));
        assert!(usage.ledger().recovery().is_clean(), "round {round}: {:?}", usage.ledger().recovery());
        let counted = counts(&usage);
        for (line, answered) in &answered {
            assert!(counted.get(line) >= Some(answered), "round {round}: {line:?} answered {answered}, counted {:?}", counted.get(line));
        }
        let (counted, answered) = (by_user(&counted), by_user(&answered));
        for (user, counted) in counted {
            let answered = answered.get(user).copied().unwrap_or_default();
            // Each user has a thread of its own, so that at each kill one request of it is in flight.
            assert!(counted <= answered + u64::from(round), "round {round}: {user} answered {answered}, counted {counted}");
        }
        let totals: u64 = usage.ledger().totals().iter().map(|total| total.count).sum();
        assert_eq!(totals, counts(&usage).values().sum::<u64>());
        // Hours that are over were given back, or the ledger would grow with every round.
        usage.flush(Thoroughness::Everything, NOON.plus(HOUR * (100 * round + 95)), HOUR).unwrap();
        usage.flush(Thoroughness::Everything, NOON.plus(HOUR * (100 * round + 95)), HOUR).unwrap();
        assert_eq!(usage.ledger().gauges().counters, 0, "round {round}");
    }
}

/// Counts without end, beginning new lines all the time, while hours pass and everything is flushed and given back.
#[test]
fn child_counts() {
    let Some((folder, round)) = errand() else { return };
    let began = NOON.plus(HOUR * 100 * round);
    let usage = open(&folder, began);
    let hour = AtomicU32::new(began.hour().0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (usage, hour) = (&usage, &hour);
            scope.spawn(move || {
                let name = format!("u{thread}");
                let user = user(&name);
                for number in 0_u64.. {
                    let route = if number % 3 == 0 { format!("new-{}", number % 99) } else { "hot".to_owned() };
                    usage.ledger().add(&line(Hour(hour.load(Ordering::Relaxed)), &user, &route), 1).unwrap();
                    answer(&format!("{name} {route}"));
                }
            });
        }
        for passed in 0_u32.. {
            let now = began.plus(HOUR * (passed / 2 % 90));
            hour.store(now.hour().0, Ordering::Relaxed);
            usage.flush(Thoroughness::Everything, now, HOUR).unwrap();
            answer(FLUSHED);
        }
    });
}

// battery: X6
#[test]
fn killed_at_any_instant_no_bucket_is_refilled() {
    let folder = folder();
    let mut answered = 0;
    for round in 1..=ROUNDS {
        answered += kill_after("child_takes", folder.path(), round, 0, scattered(round) / 10).len() as u32;
        let usage = open(folder.path(), NOON);
        let buckets = LocalBuckets::new(Arc::clone(usage.ledger()));
        for (policy, owner) in policies() {
            let left = buckets.take_now(&[Take { policy: &policy, owner, root: owner, cost: 0 }], NOON).unwrap().levels[0].remaining;
            let taken = policy.limit.depth - left;
            assert!(answered <= taken && taken <= answered + round * THREADS, "round {round}: answered {answered}, taken {taken}");
        }
    }
}

fn policies() -> [(Policy, &'static str); 2] {
    let policy = |name: &str, per, depth| Policy { name: name.into(), per, limit: Limit { per_minute: 1, depth } };
    [(policy("tier", Per::Organization, DEPTH), "org:o"), (policy("key", Per::Key, DEPTH + 7), "key:k")]
}

/// Takes from two buckets without end.
#[test]
fn child_takes() {
    let Some((folder, _)) = errand() else { return };
    let usage = open(&folder, NOON);
    let buckets = LocalBuckets::new(Arc::clone(usage.ledger()));
    let policies = policies();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let takes: Vec<Take<'_>> = policies.iter().map(|(policy, owner)| Take { policy, owner, root: owner, cost: 1 }).collect();
                while buckets.take_now(&takes, NOON).unwrap().admitted {
                    answer("taken");
                }
            });
        }
    });
}

// battery: X2
#[test]
fn a_full_disk_stops_new_lines_alone_and_is_survived() {
    let folder = folder();
    let inner = child("child_runs_out_of_space", folder.path(), 0);
    // Beyond its limit a file's writer is killed by default; a writer on a full disk is not.
    let status = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(inner.get_program())
        .args(inner.get_args())
        .envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

/// A limit on the length of files stands in for the full disk: the ledger's new segments and the history's pages meet it.
#[test]
fn child_runs_out_of_space() {
    use rustix::process::Resource;
    use rustix::process::Rlimit;
    let Some((folder, _)) = errand() else { return };
    let usage = open(&folder, NOON);
    let (alice, hour) = (user("alice"), NOON.hour());
    let keys: Vec<KeyId> = (0..40).map(|number| KeyId::new(&format!("k{number}"))).collect();
    let routes: Vec<String> = (0..40).map(|number| format!("r{number}")).collect();
    let lines: Vec<Line<'_>> =
        routes.iter().flat_map(|route| keys.iter().map(|key| Line { key: Some(key), ..line(hour, &alice, route) })).collect();
    let flush = || usage.flush(Thoroughness::Everything, NOON, Duration::from_secs(1));
    let sum = || counts(&usage).values().sum::<u64>();
    for line in &lines[..100] {
        usage.ledger().add(line, 1).unwrap();
    }
    flush().unwrap();
    let unlimited = rustix::process::getrlimit(Resource::Fsize);
    rustix::process::setrlimit(Resource::Fsize, Rlimit { current: Some(20 * 1024), ..unlimited }).unwrap();
    let mut added = 100;
    let mut refused = 0;
    for line in &lines[100..] {
        match usage.ledger().add(line, 1) {
            Ok(()) => added += 1,
            Err(LedgerError::NoSpace { .. }) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(added > 500 && refused > 500, "added {added}, refused {refused}");
    assert!(flush().is_err(), "the history cannot grow either");
    for line in &lines[..100] {
        usage.ledger().add(line, 1).unwrap();
    }
    assert_eq!(usage.ledger().totals()[0].count, added + 100, "and no wrong count");
    rustix::process::setrlimit(Resource::Fsize, unlimited).unwrap();
    for line in &lines {
        usage.ledger().add(line, 1).unwrap();
    }
    flush().unwrap();
    assert_eq!(sum(), added + 100 + lines.len() as u64);
    assert_eq!(usage.ledger().totals()[0].count, sum());
}

/// `old_formats/usage-1` was written by the first release: `alice` used `first` 7 times with key `k1`, flushed, and then `second`
/// 3 times, not flushed; and its bucket `tier` of `user:alice` gave 4 of its 10 tokens.
#[test]
fn files_of_the_first_release_are_read() {
    let folder = folder();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/old_formats/usage-1");
    fs::create_dir(folder.path().join("ledger")).unwrap();
    for name in ["ledger/dictionary", "ledger/segment-000000", "usage.redb"] {
        fs::copy(sample.join(name), folder.path().join(name)).unwrap();
    }
    let usage = open(folder.path(), NOON);
    assert!(usage.ledger().recovery().is_clean() && !usage.ledger().recovery().fresh, "{:?}", usage.ledger().recovery());
    let read: Vec<_> = counts(&usage).into_iter().collect();
    assert_eq!(read, [(("alice".to_owned(), "first".to_owned()), 7), (("alice".to_owned(), "second".to_owned()), 3)]);
    assert_eq!(&*usage.last_use(&KeyId::new("k1")).unwrap().unwrap().route, "first");
    let policy = Policy { name: "tier".into(), per: Per::User, limit: Limit { per_minute: 60, depth: 10 } };
    let buckets = LocalBuckets::new(Arc::clone(usage.ledger()));
    let taken = buckets.take_now(&[Take { policy: &policy, owner: "user:alice", root: "user:alice", cost: 0 }], NOON).unwrap();
    assert_eq!(taken.levels[0].remaining, 6);
}
