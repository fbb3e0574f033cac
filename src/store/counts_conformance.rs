//! What every engine must keep of [`Counts`] and [`CountsArchive`]. An engine's own tests call these with fresh stores.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::model::time::Timestamp;
use crate::model::usage::Outcome;
use crate::model::usage::Span;
use crate::model::usage::UsageQuery;
use crate::model::usage::UsageRow;
use crate::model::usage_row::RowKey;
use crate::store::CountRecord;
use crate::store::CountsArchive;
use crate::store::CountsError;
use crate::store::KeyUse;
use crate::store::LastUse;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
pub(crate) const SPANS: [Span; 3] = [Span::Hour, Span::Day, Span::Month];

/// Numbers that look random and are the same each time.
#[derive(Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn one_of<T: Copy>(&mut self, among: &[T]) -> T {
        among[usize::try_from(self.below(among.len() as u64)).unwrap()]
    }
}

/// What the store must answer: for each row the greatest number of each writer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Truth(BTreeMap<(u8, RowKeyBytes), BTreeMap<u128, u64>>);

type RowKeyBytes = Vec<u8>;

impl Truth {
    pub(crate) fn tell(&mut self, writer: u128, record: &CountRecord) -> u64 {
        let tag = SPANS.iter().position(|span| *span == record.span).unwrap();
        let part = self.0.entry((u8::try_from(tag).unwrap(), record.row().write())).or_default().entry(writer).or_default();
        let more = record.count.saturating_sub(*part);
        *part += more;
        more
    }

    pub(crate) fn rows(&self, query: &UsageQuery) -> Vec<UsageRow> {
        let mut rows = Vec::new();
        for ((tag, key), parts) in &self.0 {
            let (span, row) = (SPANS[usize::from(*tag)], RowKey::read(key).unwrap());
            let inside = row.period >= span.index(query.from) && row.period < query.end_period();
            if span == query.span && inside && query.matches(&row) {
                rows.push(UsageRow {
                    start: span.start(row.period),
                    user: row.user,
                    key: (!row.key.is_empty()).then_some(row.key),
                    route: row.route,
                    outcome: row.outcome,
                    count: parts.values().sum(),
                });
            }
        }
        rows
    }
}

/// Names that a careless engine would mix up.
const USERS: [&str; 8] = ["alice", "a", "{a}", "a:b", "a*b c", "%41", "ü\n", "a\u{0}"];
const KEYS: [&str; 4] = ["", "k1", "k:2", "k%3B"];
const ROUTES: [&str; 5] = ["r", "r:k1", "/v1/{id}", "s;1", "é"];

pub(crate) fn random_record(dice: &mut Dice, now: Timestamp) -> CountRecord {
    let back = dice.one_of(&[Duration::ZERO, HOUR, HOUR * 2, DAY, DAY * 20, DAY * 33]);
    CountRecord {
        span: dice.one_of(&SPANS),
        start: now.minus(back),
        user: dice.one_of(&USERS).into(),
        key: dice.one_of(&KEYS).into(),
        route: dice.one_of(&ROUTES).into(),
        outcome: dice.one_of(&Outcome::ALL),
        count: 1 + dice.below(50),
    }
}

pub(crate) async fn everything<C: CountsArchive + ?Sized>(counts: &C, query: &UsageQuery) -> Vec<UsageRow> {
    let mut query = query.clone();
    let mut rows = Vec::new();
    loop {
        let page = counts.query(&query).await.unwrap();
        assert!(page.rows.len() <= query.limit);
        rows.extend(page.rows);
        query.after = page.next;
        if query.after.is_none() {
            return rows;
        }
    }
}

/// Every question that the tests ask, with its pages' lengths.
fn questions(now: Timestamp) -> Vec<UsageQuery> {
    let mut queries = Vec::new();
    for span in SPANS {
        let all = UsageQuery::between(span, now.minus(DAY * 40), now.plus(DAY));
        let users = |names: &[&str]| Some(names.iter().map(|name| Arc::from(*name)).collect::<BTreeSet<Arc<str>>>());
        queries.push(UsageQuery::between(span, Timestamp::default(), Timestamp::from_unix_seconds(10_000_000_000)));
        queries.push(UsageQuery { from: now.minus(HOUR), to: now, ..all.clone() });
        queries.push(UsageQuery { users: users(&["{a}", "zoe", "a\u{0}"]), ..all.clone() });
        queries.push(UsageQuery { users: users(&[]), ..all.clone() });
        queries.push(UsageQuery { key: Some("k%3B".into()), ..all.clone() });
        queries.push(UsageQuery { key: Some("".into()), route: Some("r:k1".into()), ..all.clone() });
        queries.push(UsageQuery { outcomes: Outcome::Limited.alone(), users: users(&["a", "ü\n"]), ..all.clone() });
        for limit in [1, 7, 100] {
            queries.push(UsageQuery { limit, users: users(&["alice", "a", "a:b"]), ..all.clone() });
        }
        queries.push(UsageQuery { limit: 13, ..all });
    }
    queries
}

pub(crate) async fn assert_is<C: CountsArchive + ?Sized>(counts: &C, truth: &Truth, now: Timestamp, what: &str) {
    for query in questions(now) {
        assert_eq!(everything(counts, &query).await, truth.rows(&query), "{what}: {query:?}");
    }
}

/// All of it; `fresh` makes an empty store, `now` is the time of its clock.
pub(crate) async fn run<C: CountsArchive>(fresh: impl AsyncFn() -> Arc<C>, now: Timestamp) {
    what_many_writers_tell_adds_up(&*fresh().await, now).await;
    what_is_past_its_time_is_not_believed(&*fresh().await, now).await;
    the_latest_use_stays(&*fresh().await, now).await;
    what_is_forgotten_is_gone_and_nothing_else(&*fresh().await, now).await;
    a_cursor_of_somebody_else_is_refused(&*fresh().await, now).await;
    an_archive_is_the_same_again(&*fresh().await, &*fresh().await, now).await;
}

/// Twice, late, out of order, by several writers: the sum of each writer's greatest number.
async fn what_many_writers_tell_adds_up<C: CountsArchive>(counts: &C, now: Timestamp) {
    let mut dice = Dice(0x5eed);
    let mut truth = Truth::default();
    let mut told: Vec<(u128, Vec<CountRecord>)> = Vec::new();
    for round in 0..60 {
        let (writer, records) = if round > 0 && dice.below(3) == 0 {
            told[usize::try_from(dice.below(told.len() as u64)).unwrap()].clone()
        } else {
            let writer = [1_u128, 2, u128::MAX][usize::try_from(dice.below(3)).unwrap()];
            (writer, (0..1 + dice.below(20)).map(|_| random_record(&mut dice, now)).collect())
        };
        let added = counts.merge(writer, &records, now).await.unwrap();
        let expected: Vec<u64> = records.iter().map(|record| truth.tell(writer, record)).collect();
        assert_eq!(added.iter().sum::<u64>(), expected.iter().sum::<u64>(), "round {round}");
        told.push((writer, records));
    }
    assert_is(counts, &truth, now, "told").await;
}

async fn what_is_past_its_time_is_not_believed<C: CountsArchive>(counts: &C, now: Timestamp) {
    let record = |span, start| CountRecord {
        span,
        start,
        user: "alice".into(),
        key: "".into(),
        route: "r".into(),
        outcome: Outcome::Allowed,
        count: 5,
    };
    let told = [
        record(Span::Hour, now.minus(DAY * 35 + HOUR)),
        record(Span::Hour, now.minus(DAY * 34)),
        record(Span::Day, now.minus(DAY * 401)),
        record(Span::Day, now.minus(DAY * 399)),
        record(Span::Month, now.minus(DAY * 4000)),
    ];
    assert_eq!(counts.merge(1, &told, now).await.unwrap(), [0, 5, 0, 5, 5]);
    assert_eq!(counts.merge(1, &told, now).await.unwrap(), [0; 5]);
}

async fn the_latest_use_stays<C: CountsArchive>(counts: &C, now: Timestamp) {
    let at = |seconds: u64, route: &str| {
        let at = Timestamp::from_unix_seconds(now.unix_seconds()).minus(Duration::from_secs(seconds));
        LastUse { at, route: route.into() }
    };
    let told = |key: &str, last: LastUse| KeyUse { key: key.into(), last };
    assert_eq!(counts.last_use("k1").await.unwrap(), None);
    for uses in [
        vec![told("k1", at(50, "r")), told("k:2", at(9, "é"))],
        vec![told("k1", at(40, "s t"))],
        vec![told("k1", at(60, "late")), told("k1", at(50, "r"))],
        vec![],
    ] {
        counts.note_uses(&uses).await.unwrap();
    }
    assert_eq!(counts.last_use("k1").await.unwrap(), Some(at(40, "s t")));
    assert_eq!(counts.last_use("k:2").await.unwrap(), Some(at(9, "é")));
    assert_eq!(counts.last_use("k").await.unwrap(), None);
}

async fn what_is_forgotten_is_gone_and_nothing_else<C: CountsArchive>(counts: &C, now: Timestamp) {
    let told = |user: &str, key: &str, span: Span| CountRecord {
        span,
        start: now,
        user: user.into(),
        key: key.into(),
        route: "r".into(),
        outcome: Outcome::Allowed,
        count: 3,
    };
    let mut truth = Truth::default();
    for (number, user) in USERS.into_iter().enumerate() {
        let key = format!("key{number}");
        for span in SPANS {
            let record = told(user, &key, span);
            assert_eq!(counts.merge(1, std::slice::from_ref(&record), now).await.unwrap(), [3]);
            if user != "a" {
                truth.tell(1, &record);
            }
        }
        let last = LastUse { at: now, route: "r".into() };
        counts.note_uses(&[KeyUse { key: key.as_str().into(), last }]).await.unwrap();
    }
    let of_a = USERS.iter().position(|user| *user == "a").unwrap();
    for _again in 0..2 {
        counts.forget("a").await.unwrap();
        assert_is(counts, &truth, now, "forgotten").await;
        for number in 0..USERS.len() {
            assert_eq!(counts.last_use(&format!("key{number}")).await.unwrap().is_none(), number == of_a, "{number}");
        }
    }
    let record = told("a", "", Span::Day);
    assert_eq!(counts.merge(1, std::slice::from_ref(&record), now).await.unwrap(), [3], "whoever has some still brings it back");
    truth.tell(1, &record);
    assert_is(counts, &truth, now, "told again").await;
}

async fn a_cursor_of_somebody_else_is_refused<C: CountsArchive>(counts: &C, now: Timestamp) {
    let all = UsageQuery::between(Span::Hour, now, now.plus(HOUR));
    for cursor in ["x", "00", "zz", "0", "é0"] {
        let query = UsageQuery { after: Some(cursor.to_owned()), ..all.clone() };
        assert_eq!(counts.query(&query).await, Err(CountsError::Cursor(cursor.to_owned())));
    }
}

/// Random counts, and keys' last uses, by several writers.
pub(crate) async fn fill<C: CountsArchive + ?Sized>(counts: &C, seed: u64, now: Timestamp) -> Truth {
    let mut dice = Dice(seed);
    let mut truth = Truth::default();
    for writer in [7_u128, 8, 9] {
        let records: Vec<CountRecord> = (0..60).map(|_| random_record(&mut dice, now)).collect();
        for record in &records {
            truth.tell(writer, record);
        }
        counts.merge(writer, &records, now).await.unwrap();
    }
    let last = LastUse { at: Timestamp::from_unix_seconds(now.unix_seconds()), route: "r".into() };
    counts.note_uses(&[KeyUse { key: "k1".into(), last }]).await.unwrap();
    truth
}

/// Carries everything over; answers by how much the target rose.
pub(crate) async fn carry<A: CountsArchive + ?Sized, B: CountsArchive + ?Sized>(from: &A, to: &B, limit: usize, now: Timestamp) -> u64 {
    let mut after = None;
    let mut raised = 0;
    loop {
        let page = from.export(after, limit).await.unwrap();
        raised += to.restore(&page, now).await.unwrap();
        after = page.next;
        if after.is_none() {
            return raised;
        }
    }
}

async fn an_archive_is_the_same_again<C: CountsArchive>(from: &C, to: &C, now: Timestamp) {
    let truth = fill(from, 0xcafe, now).await;
    assert!(carry(from, to, 17, now).await > 0);
    assert_is(to, &truth, now, "restored").await;
    assert_eq!(to.last_use("k1").await, from.last_use("k1").await);
    assert_eq!(carry(from, to, 1000, now).await, 0, "restored again");
    assert_eq!(carry(to, from, 1000, now).await, 0, "restored into where it came from");
    assert_is(from, &truth, now, "the origin").await;
    assert!(matches!(to.export(Some("nonsense".to_owned()), 5).await, Err(CountsError::Cursor(_))));
}
