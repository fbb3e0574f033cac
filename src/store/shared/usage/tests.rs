//! Against a real server.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock as _;
use crate::clock::ManualClock;
use crate::clock::SystemClock;
use crate::model::time::Timestamp;
use crate::model::usage::Outcome;
use crate::model::usage::Span;
use crate::model::usage::UsageQuery;
use crate::store::CountRecord;
use crate::store::Counts as _;
use crate::store::WriterCount;
use crate::store::counts_conformance;
use crate::store::shared::link::Link;
use crate::store::shared::testing::linked;
use crate::store::shared::testing::usage_checker::Contents;
use crate::store::shared::usage::COUNT_MAX;
use crate::store::shared::usage::Care;
use crate::store::shared::usage::Held;
use crate::store::shared::usage::Mark;
use crate::store::shared::usage::SharedCounts;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The server's clock judges what is past its time, so these tests live in the present.
fn now() -> Timestamp {
    SystemClock.now()
}

fn counts_at(link: &Arc<Link>, now: Timestamp) -> Arc<SharedCounts> {
    SharedCounts::new(Arc::clone(link), Arc::new(ManualClock::starting_at(now)))
}

#[tokio::test]
async fn it_keeps_the_contract_of_counts() {
    let (now, servers) = (now(), std::sync::Mutex::new(Vec::new()));
    let fresh = async || {
        let (server, link) = linked();
        servers.lock().unwrap().push(server);
        counts_at(&link, now)
    };
    counts_conformance::run(fresh, now).await;
}

fn record(span: Span, start: Timestamp, count: u64) -> CountRecord {
    CountRecord { span, start, user: "alice".into(), key: "k1".into(), route: "r".into(), outcome: Outcome::Allowed, count }
}

/// Whose clock is behind is told so by the server's: a period that is gone does not come back with a part of its counts.
#[tokio::test]
async fn a_late_sender_brings_no_period_back() {
    let (server, link) = linked();
    let late = now().minus(DAY * 40);
    let counts = counts_at(&link, late);
    let told = [record(Span::Hour, late, 5), record(Span::Day, late, 5), record(Span::Month, late, 5)];
    assert_eq!(counts.merge(1, &told, late).await.unwrap(), [0, 5, 5]);
    let spans: Vec<String> = server.ask(&["KEYS", "*:u:*"]).texts().iter().map(|key| key.split(':').nth(4).unwrap().to_owned()).collect();
    assert!(spans.len() == 2 && !spans.contains(&"h".to_owned()), "{spans:?}");
    let ttl = |key: &str| server.ask(&["TTL", key]).number();
    let day = server.ask(&["KEYS", "*:d:*"]).texts().remove(0);
    let month = server.ask(&["KEYS", "*:m:*"]).texts().remove(0);
    assert!((359 * 86_400..=361 * 86_400).contains(&ttl(&day)), "{}", ttl(&day));
    assert_eq!(ttl(&month), -1, "months are kept always");
}

#[tokio::test]
async fn counts_stop_at_the_greatest_exact_number() {
    let (server, link) = linked();
    let now = now();
    let counts = counts_at(&link, now);
    let tell = async |writer: u128, count: u64| {
        let count = WriterCount { writer, record: record(Span::Hour, now, count) };
        counts.tell(&[count], Care::Usual, now).await
    };
    assert_eq!(tell(1, COUNT_MAX - 10).await.marks, [Mark::Has(COUNT_MAX - 10)]);
    assert_eq!(counts.saturated(), 0);
    assert_eq!(tell(2, 9).await.marks, [Mark::Has(9)]);
    assert_eq!(counts.saturated(), 0);
    for (writer, count) in [(2, 30), (1, COUNT_MAX), (3, u64::MAX)] {
        let told = tell(writer, count).await;
        assert!(told.marks[0].has_arrived() && told.failure.is_none(), "{told:?}");
        let rows = counts.query(&UsageQuery::between(Span::Hour, now, now.plus(HOUR))).await.unwrap().rows;
        assert_eq!(rows[0].count, COUNT_MAX, "{writer}");
    }
    assert_eq!(counts.saturated(), 3);
    let contents = Contents::read(&[&|words: &[&str]| server.ask(words).texts()], "tollgate");
    assert_eq!(contents.sums(), Vec::<String>::new());
    assert_eq!(contents.of_writer("alice", ('h', now.hour().0), "B"), COUNT_MAX);
}

/// A month of a user with thousands of lines is read in pieces, and paged through like any other.
#[tokio::test]
async fn many_lines_are_read_in_pieces() {
    let (_server, link) = linked();
    let now = now();
    let counts = counts_at(&link, now);
    let told: Vec<CountRecord> =
        (0..3000).map(|number| CountRecord { route: format!("/p/{number}").into(), ..record(Span::Month, now, number + 1) }).collect();
    assert_eq!(counts.merge(1, &told, now).await.unwrap().iter().sum::<u64>(), 3000 * 3001 / 2);
    let all = UsageQuery { limit: 700, ..UsageQuery::between(Span::Month, now, now.plus(HOUR)) };
    let rows = counts_conformance::everything(&*counts, &all).await;
    assert_eq!((rows.len(), rows.iter().map(|row| row.count).sum::<u64>()), (3000, 3000 * 3001 / 2));
}

/// A page ends when it has looked far enough, full or not, and goes on from there.
#[tokio::test]
async fn a_page_is_a_bounded_piece_of_work() {
    let (_server, link) = linked();
    let now = now();
    let counts = counts_at(&link, now);
    let users: Vec<Arc<str>> = (0..40).map(|user| Arc::from(format!("user-{user:02}"))).collect();
    let told: Vec<CountRecord> = users.iter().map(|user| CountRecord { user: Arc::clone(user), ..record(Span::Hour, now, 1) }).collect();
    counts.merge(1, &told, now).await.unwrap();
    let mut query = UsageQuery::between(Span::Hour, now.minus(DAY * 35), now.plus(DAY * 365));
    let mut pages = 0;
    let mut rows = 0;
    loop {
        let page = counts.query(&query).await.unwrap();
        rows += page.rows.len();
        pages += 1;
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    assert_eq!(rows, 40);
    assert!(pages >= 1, "{pages}");
}

/// Shares beyond the eighth writer lie in values of their own.
#[tokio::test]
async fn many_writers_add_up() {
    let (server, link) = linked();
    let now = now();
    let counts = counts_at(&link, now);
    let mut truth = counts_conformance::Truth::default();
    let mut dice = counts_conformance::Dice(0x777);
    for _ in 0..400 {
        let writer = u128::from(1 + dice.below(40));
        let told: Vec<CountRecord> = (0..3).map(|_| counts_conformance::random_record(&mut dice, now)).collect();
        let expected: u64 = told.iter().map(|record| truth.tell(writer, record)).sum();
        assert_eq!(counts.merge(writer, &told, now).await.unwrap().iter().sum::<u64>(), expected);
    }
    counts_conformance::assert_is(&*counts, &truth, now, "forty writers").await;
    let contents = Contents::read(&[&|words: &[&str]| server.ask(words).texts()], "tollgate");
    assert_eq!(contents.sums(), Vec::<String>::new());
    let (_other, link) = linked();
    let other = counts_at(&link, now);
    counts_conformance::carry(&*counts, &*other, 1000, now).await;
    counts_conformance::assert_is(&*other, &truth, now, "carried over").await;
    assert_eq!(counts_conformance::carry(&*counts, &*other, 1000, now).await, 0);
}

/// A server whose clock is behind the one before it keeps no name from its next run for as long as that.
#[tokio::test]
async fn a_name_is_held_for_no_longer_than_anybody_may() {
    let (server, link) = linked();
    let counts = counts_at(&link, now());
    assert_eq!(counts.hold(7, 1, &[]).await.unwrap(), Held::New);
    assert!(matches!(counts.hold(7, 2, &[1]).await.unwrap(), Held::Busy { .. }));
    let place = server.ask(&["KEYS", "tollgate:1:writer:*"]).texts().remove(0);
    let ahead = now().plus(HOUR).unix_seconds() * 1000;
    server.ask(&["HSET", &place, "until", &ahead.to_string()]);
    assert_eq!(counts.hold(7, 2, &[1]).await.unwrap(), Held::Taken);
}

/// A sidecar without a volume is a new writer at each start: a month of deployments and scalings stops nobody's counts, and what is
/// told after it costs the server no more than before, since every check waits behind it.
#[tokio::test]
async fn a_month_of_short_lived_sidecars_is_counted() {
    let (server, link) = linked();
    let now = now();
    let counts = counts_at(&link, now);
    let told = [record(Span::Month, now, 3), CountRecord { route: "s".into(), ..record(Span::Month, now, 4) }];
    for first in (0..2_000_u128).step_by(50) {
        let merges = (first..first + 50).map(|writer| counts.merge(writer + 1, &told, now));
        assert!(futures_util::future::join_all(merges).await.into_iter().all(|rise| rise == Ok(vec![3, 4])), "{first}");
    }
    server.tell("CONFIG RESETSTAT");
    assert_eq!(counts.merge(1_999, &[record(Span::Month, now, 10)], now).await.unwrap(), [7]);
    let stats = server.ask(&["INFO", "commandstats"]).text();
    let reads: u64 = stats
        .lines()
        .filter_map(|line| {
            line.strip_prefix("cmdstat_hget:calls=").or_else(|| line.strip_prefix("cmdstat_hstrlen:calls="))?.split(',').next()
        })
        .map(|calls| calls.parse::<u64>().unwrap())
        .sum();
    assert!(reads <= 12, "{reads} reads for one line: {stats}");
    let all = UsageQuery::between(Span::Month, now, now.plus(HOUR));
    let rows = counts_conformance::everything(&*counts, &all).await;
    assert_eq!(rows.iter().map(|row| row.count).sum::<u64>(), 2_000 * 7 + 7);
}

/// What a user costs the server in one hour, by writers and lines; the figures of the reference are those that this prints.
#[tokio::test]
async fn the_memory_of_a_user_and_hour_is_bounded() {
    let (server, link) = linked();
    let now = now();
    let counts = counts_at(&link, now);
    let mut table = String::from("writers  lines  bytes\n");
    for (writers, lines, most) in [(1, 1, 200), (3, 1, 250), (20, 1, 700), (1, 5, 400), (3, 5, 500), (20, 5, 2000), (3, 40, 2500)] {
        let user: Arc<str> = Arc::from(format!("user-{writers:02}-{lines:02}"));
        let mut dice = counts_conformance::Dice(0xb17e5);
        for _ in 0..writers {
            let writer = u128::from(dice.below(u64::MAX));
            let told: Vec<CountRecord> = (0..lines)
                .map(|line| {
                    let (route, key) = (format!("/v1/orders/{line}").into(), "tgk_01hzx3k9wq".into());
                    CountRecord { user: Arc::clone(&user), key, route, ..record(Span::Hour, now, 100 + dice.below(900)) }
                })
                .collect();
            counts.merge(writer, &told, now).await.unwrap();
        }
        let key = format!("tollgate:1:u:{{{user}}}:h:{}", now.hour().0);
        let bytes = server.ask(&["MEMORY", "USAGE", &key, "SAMPLES", "0"]).number();
        table.push_str(&format!("{writers:>7} {lines:>6} {bytes:>6}\n"));
        assert!(bytes <= most, "{writers} writers, {lines} lines: {bytes} bytes");
    }
    eprintln!("{table}");
}
