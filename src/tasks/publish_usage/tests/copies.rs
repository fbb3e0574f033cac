//! Folders that were copied, or put back: two that count under one name.

use crate::clock::Clock;
use crate::model::usage::Outcome;
use crate::model::usage::Span;
use crate::store::Counts;
use crate::store::counts_conformance::Dice;
use crate::tasks::publish_usage::tests::Rig;
use crate::tasks::publish_usage::tests::copy_folder;
use crate::tasks::publish_usage::tests::start;

/// Both run on the same ledger and history: nothing is counted twice, and what is lost is less than what one of them counted
/// before the other was noticed.
#[tokio::test]
async fn a_copied_folder_is_noticed() {
    let rig = Rig::start();
    let mut original = rig.node("a");
    original.count("alice", "r", 100);
    original.settle().await;
    original.count("alice", "r", 7);
    copy_folder(&rig.path("a"), &rig.path("b"));
    let mut copy = rig.node("b");
    let mut truth = 107;
    copy.count("alice", "r", 20);
    truth += 20;
    let mut rounds = 0;
    while copy.publish().await.is_err() {
        original.count("alice", "r", 1);
        truth += 1;
        original.publish().await.unwrap();
        rounds += 1;
        assert!(rounds < 10, "the copy never noticed");
    }
    assert_eq!((copy.status.conflicts(), original.status.conflicts()), (1, 0));
    assert_ne!(copy.usage.history().writer(), original.usage.history().writer());
    original.settle().await;
    copy.settle().await;
    rig.judge(&[("alice", truth)]);
    // Neither a loss of the store nor a restart brings it out of step.
    copy.count("alice", "r", 3);
    copy.count("bob", "r", 4);
    original.count("alice", "r", 1);
    rig.server.ask(&["FLUSHALL"]);
    copy.settle().await;
    original.settle().await;
    rig.judge(&[("alice", truth + 4), ("bob", 4)]);
    copy.publisher.let_go().await;
    drop(copy);
    let mut copy = rig.node("b");
    copy.count("bob", "r", 1);
    copy.settle().await;
    rig.judge(&[("alice", truth + 4), ("bob", 5)]);
}

/// The original was away for longer than its name is held, so the copy took its place: what each of them counted from then on is
/// all there, and never too much.
#[tokio::test]
async fn a_copy_that_took_over_is_noticed_by_the_original() {
    let rig = Rig::start();
    let mut original = rig.node("a");
    original.count("alice", "r", 100);
    original.settle().await;
    copy_folder(&rig.path("a"), &rig.path("b"));
    let mut copy = rig.node("b");
    rig.outlast_the_killed();
    copy.count("alice", "r", 20);
    copy.publish().await.unwrap();
    original.count("alice", "r", 5);
    original.settle().await;
    assert_eq!((copy.status.conflicts(), original.status.conflicts()), (0, 1));
    copy.count("alice", "r", 1);
    copy.settle().await;
    original.settle().await;
    rig.judge(&[("alice", 126)]);
}

/// Random steps of an original and its copy: the sum is never above the truth, and what both count in the end is all there.
#[tokio::test]
async fn a_copy_never_makes_too_much() {
    for seed in 1..=8 {
        let rig = Rig::start();
        let mut dice = Dice(seed * 7919);
        let mut original = rig.node("a");
        original.count("alice", "r", 50);
        original.settle().await;
        copy_folder(&rig.path("a"), &rig.path("b"));
        let mut copy = rig.node("b");
        let mut truth = 50;
        for _ in 0..25 {
            let node = if dice.below(2) == 0 { &mut original } else { &mut copy };
            match dice.below(4) {
                0 => rig.outlast_the_killed(),
                1 => {
                    let _ = node.publish().await;
                    node.publisher.look_around().await;
                }
                _ => {
                    let times = u32::try_from(1 + dice.below(20)).unwrap();
                    node.count("alice", ["r", "s"][usize::try_from(dice.below(2)).unwrap()], times);
                    truth += u64::from(times);
                }
            }
            assert!(rig.allowed("alice") <= truth, "seed {seed}");
        }
        for _ in 0..6 {
            for node in [&mut original, &mut copy] {
                let _ = node.publish().await;
            }
        }
        assert_ne!(original.usage.history().writer(), copy.usage.history().writer(), "seed {seed}: nobody noticed");
        let before = rig.allowed("alice");
        assert!(before <= truth, "seed {seed}");
        for node in [&mut original, &mut copy] {
            node.count("alice", "r", 9);
            node.settle().await;
        }
        assert_eq!(rig.allowed("alice"), before + 18, "seed {seed}");
    }
}

#[tokio::test]
async fn an_old_copy_put_back_hides_nothing() {
    let rig = Rig::start();
    let mut node = rig.node("a");
    node.count("alice", "r", 10);
    node.settle().await;
    node.publisher.let_go().await;
    drop(node);
    copy_folder(&rig.path("a"), &rig.path("old"));
    let mut node = rig.node("a");
    node.count("alice", "r", 30);
    node.settle().await;
    node.publisher.let_go().await;
    drop(node);
    std::fs::remove_dir_all(rig.path("a")).unwrap();
    copy_folder(&rig.path("old"), &rig.path("a"));
    let mut node = rig.node("a");
    assert_eq!(node.truth("alice"), 10, "thirty are known to the store alone");
    node.count("alice", "r", 1);
    node.settle().await;
    rig.judge(&[("alice", 41)]);
    assert_eq!(node.status.conflicts(), 1);
    // A name that is known to be its own, and the counts under it gone back: noticed by the counts.
    let writer = node.usage.history().writer();
    let told = crate::store::CountRecord {
        span: Span::Hour,
        start: start(),
        user: "alice".into(),
        key: "k1".into(),
        route: "r".into(),
        outcome: Outcome::Allowed,
        count: 500,
    };
    rig.counts.merge(writer, &[told], rig.clock.now()).await.unwrap();
    node.count("alice", "r", 1);
    node.settle().await;
    assert_eq!(node.status.conflicts(), 2);
    node.count("alice", "r", 1);
    node.settle().await;
    assert_eq!(rig.contents().allowed("alice", ('h', start().hour().0)), 40 + 500 + 1);
    assert_eq!(rig.contents().allowed("alice", ('d', start().hour().0 / 24)), 43);
}
