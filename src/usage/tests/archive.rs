//! The history as one engine of counts that writers tell, and as an archive.

use std::sync::Arc;
use std::time::Duration;

use crate::model::time::Timestamp;
use crate::model::usage::Span;
use crate::model::usage::UsageQuery;
use crate::store::counts_conformance;
use crate::usage::History;
use crate::usage::Thoroughness;
use crate::usage::Usage;
use crate::usage::tests::NOON;
use crate::usage::tests::folder;
use crate::usage::tests::line;
use crate::usage::tests::small;
use crate::usage::tests::user;

#[tokio::test]
async fn it_keeps_the_contract_of_counts() {
    let folder = folder();
    let number = std::sync::atomic::AtomicU32::new(0);
    let fresh = async || {
        let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Arc::new(History::open(&folder.path().join(format!("{number}.redb"))).unwrap())
    };
    counts_conformance::run(fresh, NOON).await;
}

/// What the ledger counted is a writer's share like any other: it comes back into a fresh history, under its own name, and it is
/// not counted twice when it comes back to where it was counted.
#[tokio::test]
async fn what_was_counted_here_is_restored_under_its_own_name() {
    let folder = folder();
    let usage = Usage::open(small(&folder.path().join("ledger")), folder.path().join("usage.redb"), NOON).unwrap();
    let alice = user("alice");
    let flush = || usage.flush(Thoroughness::Everything, NOON, Duration::from_secs(1)).unwrap();
    usage.ledger().add(&line(&alice, "r"), 5).unwrap();
    flush();
    let other = History::open(&folder.path().join("other.redb")).unwrap();
    assert_eq!(counts_conformance::carry(usage.history(), &other, 1, NOON).await, 15, "an hour, a day and a month");
    assert_ne!(usage.history().writer(), other.writer());
    usage.ledger().add(&line(&alice, "r"), 2).unwrap();
    flush();
    assert_eq!(counts_conformance::carry(usage.history(), &other, 1, NOON).await, 6);
    assert_eq!(counts_conformance::carry(&other, usage.history(), 100, NOON).await, 0);
    usage.ledger().add(&line(&alice, "r"), 1).unwrap();
    flush();
    for span in [Span::Hour, Span::Day, Span::Month] {
        let all = UsageQuery::between(span, Timestamp::default(), NOON.plus(Duration::from_secs(1)));
        assert_eq!(usage.query(&all).unwrap().rows[0].count, 8, "{span:?}");
        assert_eq!(History::query(&other, &all, None).unwrap().rows[0].count, 7, "{span:?}");
    }
    // Totals since counting began are made of months.
    assert_eq!(other.totals().unwrap()[0].count, 7);
}
