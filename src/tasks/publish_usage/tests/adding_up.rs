//! The sum over all sidecars, hour by hour and to the end of a run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::model::time::Timestamp;
use crate::model::usage::Span;
use crate::model::usage::UsageQuery;
use crate::store::Counts;
use crate::store::counts_conformance;
use crate::store::counts_conformance::Dice;
use crate::store::counts_conformance::everything;
use crate::tasks::publish_usage::PublishError;
use crate::tasks::publish_usage::PublishUsage;
use crate::tasks::publish_usage::Signals;
use crate::tasks::publish_usage::tests::DAY;
use crate::tasks::publish_usage::tests::HOUR;
use crate::tasks::publish_usage::tests::Rig;
use crate::tasks::publish_usage::tests::start;

#[tokio::test]
async fn what_several_sidecars_count_adds_up() {
    let rig = Rig::start();
    let mut nodes = [rig.node("a"), rig.node("b"), rig.node("c")];
    let mut dice = Dice(0xadd);
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for _ in 0..20 {
        let node = &mut nodes[usize::try_from(dice.below(3)).unwrap()];
        for _ in 0..5 {
            let user = ["alice", "bob"][usize::try_from(dice.below(2)).unwrap()];
            let times = u32::try_from(1 + dice.below(9)).unwrap();
            node.count(user, ["r", "s"][usize::try_from(dice.below(2)).unwrap()], times);
            *seen.entry(user).or_default() += u64::from(times);
        }
        node.publish().await.unwrap();
        assert_eq!(node.status.unpublished(), 0);
    }
    for node in &mut nodes {
        node.publish().await.unwrap();
    }
    rig.judge(&seen.iter().map(|(user, count)| (*user, *count)).collect::<Vec<_>>());
    // The same through the front door.
    let all = UsageQuery::between(Span::Hour, rig.clock.now(), rig.clock.now().plus(HOUR));
    let rows = everything(&*rig.counts, &all).await;
    assert_eq!(rows.iter().map(|row| row.count).sum::<u64>(), seen.values().sum::<u64>());
    assert_eq!(rows.len(), 4);
    let last = Counts::last_use(&*rig.counts, "k1").await.unwrap().unwrap();
    assert_eq!(last.at, Timestamp::from_unix_seconds(start().unix_seconds()));
}

/// After a loss every sidecar tells everything again, and every check waits behind what they send together.
#[tokio::test]
async fn many_sidecars_share_the_time_for_a_sweep() {
    let rig = Rig::start();
    let mut node = rig.node("a");
    for user in 0..100 {
        node.count(&format!("user-{user}"), "r", 1);
    }
    node.settle().await;
    node.members.store(1000, Ordering::Relaxed);
    node.resets.send_modify(|resets| *resets += 1);
    node.publish().await.unwrap();
    let before = node.status.published();
    node.publisher.look_around().await;
    assert_eq!(node.status.published() - before, 100);
    let (aged, counted) = (node.status.oldest_unpublished_age(rig.clock.now()), rig.clock.now());
    rig.clock.advance(Duration::from_secs(60));
    node.publish().await.unwrap();
    assert!(node.publisher.is_sweeping());
    assert_eq!(node.status.oldest_unpublished_age(rig.clock.now()), aged + rig.clock.now().since(counted), "not before all is told");
    node.settle().await;
    node.publish().await.unwrap();
    assert_eq!(node.status.oldest_unpublished_age(rig.clock.now()), Duration::ZERO);
}

#[tokio::test]
async fn a_run_that_ends_gives_its_name_back() {
    let rig = Rig::start();
    for round in 1..=3 {
        let mut node = rig.node("a");
        node.count("alice", "r", 1);
        node.publish().await.unwrap();
        rig.judge(&[("alice", round)]);
        node.publisher.let_go().await;
    }
}

#[tokio::test]
async fn hours_are_closed_and_not_told_again() {
    let rig = Rig::start();
    let mut node = rig.node("a");
    node.count("alice", "r", 5);
    node.settle().await;
    assert!(node.usage.history().closed_to().unwrap() <= start().hour());
    rig.clock.advance(HOUR + Duration::from_secs(200));
    node.settle().await;
    assert!(node.usage.history().closed_to().unwrap() <= start().hour(), "not before ten minutes have passed");
    node.count("alice", "r", 2);
    rig.clock.advance(Duration::from_secs(600));
    node.settle().await;
    assert_eq!(node.usage.history().closed_to().unwrap().0, start().hour().0 + 1);
    assert_eq!(node.status.closed_to(), u64::from(start().hour().0 + 1));
    let before = node.status.published();
    node.link_changes.send_modify(|changes| *changes += 1);
    node.settle().await;
    assert_eq!(node.status.published() - before, 3, "the open hour, the day and the month");
    let contents = rig.contents();
    assert_eq!(contents.allowed("alice", ('h', start().hour().0)), 5);
    assert_eq!(contents.allowed("alice", ('d', start().hour().0 / 24)), 7);
}

/// A user whose record was spoilt over the end of an hour is told of later, also by another run.
// battery: R1
#[tokio::test]
async fn an_hour_is_not_closed_over_what_was_refused() {
    let rig = Rig::start();
    let mut node = rig.node("a");
    let hour = format!("tollgate:1:u:{{alice}}:h:{}", start().hour().0);
    rig.server.ask(&["SET", &hour, "what is this"]);
    node.count("alice", "r", 5);
    node.count("bob", "r", 1);
    node.settle().await;
    rig.clock.advance(HOUR + Duration::from_secs(800));
    node.settle().await;
    assert!(node.usage.history().closed_to().unwrap() <= start().hour());
    node.publisher.let_go().await;
    drop(node);
    rig.server.ask(&["DEL", &hour]);
    let mut node = rig.node("a");
    node.settle().await;
    assert_eq!(rig.contents().allowed("alice", ('h', start().hour().0)), 5);
    assert_eq!(node.usage.history().closed_to().unwrap().0, start().hour().0 + 1);
}

#[tokio::test]
async fn it_is_all_there_when_a_loop_ends() {
    let rig = Rig::start();
    let node = rig.node("a");
    let signals =
        Signals { link_changes: node.link_changes.subscribe(), resets: node.resets.subscribe(), members: Arc::clone(&node.members) };
    let (task, handle) =
        PublishUsage::new(Arc::clone(&node.usage), Arc::clone(&rig.counts), signals, Arc::clone(&rig.clock) as _, HOUR).unwrap();
    let end = CancellationToken::new();
    let running = tokio::spawn(task.run(end.clone()));
    node.count("alice", "r", 5);
    handle.publish_now().await.unwrap();
    rig.judge(&[("alice", 5)]);
    rig.clock.advance(Duration::from_secs(3));
    assert_eq!(handle.status().oldest_unpublished_age(rig.clock.now()), Duration::from_secs(3));
    node.count("alice", "r", 4);
    end.cancel();
    running.await.unwrap().unwrap();
    rig.judge(&[("alice", 9)]);
    assert_eq!(handle.publish_now().await, Err(PublishError::Ended));
    // Given back: the next one need not wait.
    drop(node);
    let mut node = rig.node("a");
    node.publish().await.unwrap();
}

/// One node goes from its own store to the shared one while it has counted, then on; and everything comes back.
#[tokio::test]
async fn counts_move_to_the_shared_store_and_back() {
    let rig = Rig::start();
    let old = start().minus(DAY * 3);
    rig.clock.set(old);
    let mut node = rig.node("a");
    node.count("alice", "r", 50);
    node.publisher.flush().await.unwrap();
    rig.clock.set(start());
    node.usage.flush(crate::usage::Thoroughness::Everything, start(), DAY * 3).unwrap();
    node.count("alice", "r", 5);
    node.publisher.flush().await.unwrap();
    let now = rig.clock.now();
    assert!(counts_conformance::carry(node.usage.history(), &*rig.counts, 2, now).await > 0);
    assert_eq!(counts_conformance::carry(node.usage.history(), &*rig.counts, 2, now).await, 0);
    node.settle().await;
    node.count("alice", "r", 1);
    node.settle().await;
    let sums = async |counts: &dyn crate::store::CountsArchive| {
        let mut sums = Vec::new();
        for span in [Span::Hour, Span::Day, Span::Month] {
            let rows = everything(counts, &UsageQuery::between(span, Timestamp::default(), now.plus(HOUR))).await;
            sums.push(rows.iter().map(|row| row.count).collect::<Vec<_>>());
        }
        sums
    };
    let expected = vec![vec![50, 6], vec![50, 6], vec![56]];
    assert_eq!(sums(&*rig.counts).await, expected);
    // Another sidecar's share comes along.
    let mut other = rig.node("b");
    other.count("alice", "r", 4);
    other.settle().await;
    let fresh = crate::usage::History::open(&rig.path("fresh.redb")).unwrap();
    assert!(counts_conformance::carry(&*rig.counts, &fresh, 3, now).await > 0);
    assert_eq!(sums(&fresh).await, vec![vec![50, 10], vec![50, 10], vec![60]]);
    assert_eq!(counts_conformance::carry(&*rig.counts, node.usage.history(), 3, now).await, 12, "the other's hour, day and month");
    assert_eq!(sums(node.usage.history()).await, vec![vec![50, 10], vec![50, 10], vec![60]]);
    assert_eq!(counts_conformance::carry(&fresh, node.usage.history(), 3, now).await, 0);
    // And what it holds of the other is not told as its own.
    node.count("alice", "r", 1);
    node.settle().await;
    assert_eq!(sums(&*rig.counts).await, vec![vec![50, 11], vec![50, 11], vec![61]]);
}
