//! What is answered without the server, and what one call answers for many.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;

use crate::store::Limits as _;
use crate::store::Take;
use crate::store::shared::buckets::BucketStatus;
use crate::store::shared::buckets::SharedBuckets;
use crate::store::shared::buckets::Tuning;
use crate::store::shared::buckets::tests::COLD;
use crate::store::shared::buckets::tests::NOW;
use crate::store::shared::buckets::tests::asked;
use crate::store::shared::buckets::tests::limiter;
use crate::store::shared::buckets::tests::patient_link;
use crate::store::shared::buckets::tests::policy;
use crate::store::shared::buckets::tests::scripts_run;
use crate::store::shared::buckets::tests::take;
use crate::store::shared::testing::redis_server::RedisServer;

/// Hot from the first request on.
fn hot() -> Tuning {
    Tuning { hot_above_per_second: 0, ..Tuning::default() }
}

fn cold() -> Tuning {
    Tuning { hot_above_per_second: COLD, ..Tuning::default() }
}

#[tokio::test]
async fn a_refusal_is_remembered_until_the_bucket_has_enough_again() {
    let server = RedisServer::start();
    let link = patient_link(&server);
    for (tuning, owner) in [(hot(), "user:hot"), (cold(), "user:cold")] {
        let limiter = limiter(&link, 1, tuning);
        // A minute a token, so that no machine is slow enough to see one come back.
        let slow = policy("slow", 1, 2);
        let request = [take(&slow, owner, 2)];
        // The server does not know the script before the first call.
        assert!(asked(&limiter, &[take(&slow, "user:first", 1)]).await.admitted || owner == "user:cold");
        let before = scripts_run(&server);
        assert!(asked(&limiter, &request).await.admitted);
        assert_eq!(scripts_run(&server), before + 1);
        tokio::time::pause();
        for _ in 0..1000 {
            let refused = asked(&limiter, &request).await;
            assert!(!refused.admitted && refused.levels[0].remaining == 0);
        }
        tokio::time::advance(Duration::from_secs(59)).await;
        let refused = asked(&limiter, &request).await;
        let wait = refused.retry_after.unwrap();
        assert!(wait > Duration::from_secs(59) && wait <= Duration::from_secs(61), "{wait:?}");
        assert_eq!(scripts_run(&server), before + 1, "nobody asked the server");
        assert_eq!(limiter.status().remembered_refusals, 1001);
        // A minute is the most that is remembered, in case the server lost the bucket; it did not.
        tokio::time::advance(Duration::from_secs(2)).await;
        tokio::time::resume();
        assert!(!asked(&limiter, &request).await.admitted);
        assert_eq!(scripts_run(&server), before + 2);
        // A smaller request is another question, and a look is answered by the server alone.
        assert!(!asked(&limiter, &[take(&slow, owner, 1)]).await.admitted);
        assert_eq!(asked(&limiter, &[take(&slow, owner, 0)]).await.levels[0].remaining, 0);
        assert_eq!(scripts_run(&server), before + 4);
    }
}

#[tokio::test]
async fn what_costs_more_than_a_bucket_holds_is_refused_for_good() {
    let server = RedisServer::start();
    let limiter = limiter(&patient_link(&server), 1, hot());
    let small = policy("small", 60, 3);
    let before = scripts_run(&server);
    for _ in 0..10 {
        let refused = asked(&limiter, &[take(&small, "user:a", 4)]).await;
        assert_eq!((refused.admitted, refused.retry_after, refused.levels[0].remaining), (false, None, 3));
    }
    assert!(scripts_run(&server) - before < 10);
}

#[tokio::test]
async fn a_hundred_requests_at_once_are_one_call_and_the_next_hundred_are_none() {
    let server = RedisServer::start();
    let limiter = limiter(&patient_link(&server), 1, hot());
    let wide = policy("wide", 6_000, 10_000);
    let request = [take(&wide, "user:a", 1)];
    assert!(asked(&limiter, &request).await.admitted);
    let before = scripts_run(&server);
    let taken = join_all((0..100).map(|_| asked(&limiter, &request))).await;
    assert!(taken.iter().all(|taken| taken.admitted));
    // The first of them asks before the others came; the second for all of the rest and for some of the next.
    assert!(scripts_run(&server) - before <= 2, "{}", scripts_run(&server) - before);
    let lowest = taken.iter().map(|taken| taken.levels[0].remaining).min().unwrap();
    assert!((9_850..=9_950).contains(&lowest), "what was leased counts as left: {lowest}");
    assert_eq!(limiter.status().failures, 0);
}

#[tokio::test]
async fn near_the_limit_nothing_is_taken_in_advance() {
    let server = RedisServer::start();
    let link = patient_link(&server);
    let (one, other) = (limiter(&link, 2, hot()), limiter(&link, 2, hot()));
    let bucket = policy("bucket", 1, 40);
    let request = [take(&bucket, "user:a", 1)];
    let mut admitted = 0;
    // All at once, and each by itself: together they get the whole bucket and nobody sits on a part of it.
    for limiter in [&one, &other] {
        let taken = join_all((0..15).map(|_| asked(limiter, &request))).await;
        admitted += taken.iter().filter(|taken| taken.admitted).count();
    }
    loop {
        let (first, second) = (asked(&one, &request).await, asked(&other, &request).await);
        admitted += usize::from(first.admitted) + usize::from(second.admitted);
        if !first.admitted && !second.admitted {
            break;
        }
    }
    let lapsed = one.status().lapsed + other.status().lapsed;
    assert_eq!(admitted as u64 + lapsed, 40);
    assert!(lapsed <= 20, "at most two shares of ten: {lapsed}");
}

#[tokio::test]
async fn a_lease_that_is_not_spent_in_time_is_dropped_and_counted() {
    let server = RedisServer::start();
    let limiter = limiter(&patient_link(&server), 1, hot());
    let wide = policy("wide", 6, 1_000);
    let request = [take(&wide, "user:a", 1)];
    for _ in 0..50 {
        asked(&limiter, &request).await;
    }
    let before = limiter.status();
    assert!(before.leases > 0 && before.leased > 0, "{before:?}");
    tokio::time::pause();
    tokio::time::advance(Duration::from_millis(101)).await;
    tokio::time::resume();
    let look = asked(&limiter, &[take(&wide, "user:a", 0)]).await;
    asked(&limiter, &request).await;
    let after = limiter.status();
    assert_eq!(u64::from(look.levels[0].remaining) + 50 + after.lapsed, 1_000, "{after:?}");
}

#[tokio::test]
async fn another_limit_is_another_question() {
    let server = RedisServer::start();
    let limiter = limiter(&patient_link(&server), 1, hot());
    let (tight, raised) = (policy("p", 1, 1), policy("p", 1, 5));
    assert!(asked(&limiter, &[take(&tight, "user:a", 1)]).await.admitted);
    assert!(!asked(&limiter, &[take(&tight, "user:a", 1)]).await.admitted);
    assert!(asked(&limiter, &[take(&raised, "user:a", 1)]).await.admitted, "the level stays, the limit is new");
}

#[tokio::test]
async fn a_request_that_is_given_up_does_not_hold_up_the_others() {
    let server = RedisServer::start();
    let limiter = limiter(&patient_link(&server), 1, hot());
    let wide = policy("wide", 6_000, 10_000);
    let request = [take(&wide, "user:a", 1)];
    asked(&limiter, &request).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(1)).await;
    tokio::time::resume();
    server.freeze();
    let mut leader = Box::pin(limiter.take(&request, NOW));
    assert!((&mut leader).now_or_never().is_none(), "it waits for the server");
    let mut follower = Box::pin(limiter.take(&request, NOW));
    assert!((&mut follower).now_or_never().is_none(), "it waits for the leader");
    drop(leader);
    server.thaw();
    assert!(follower.await.unwrap().admitted);
}

#[tokio::test]
async fn forgotten_sets_let_go_of_what_they_held() {
    let server = RedisServer::start();
    let limiter = limiter(&patient_link(&server), 1, Tuning { sets_max: 2, ..hot() });
    let wide = policy("wide", 6, 1_000);
    let request = |owner: &'static str| [Take { owner, ..take(&wide, "", 1) }];
    for _ in 0..50 {
        asked(&limiter, &request("user:a")).await;
    }
    let leased = limiter.status();
    let owners: Vec<String> = (0..50).map(|number| format!("user:{number}")).collect();
    for owner in &owners {
        asked(&limiter, &[Take { owner, ..take(&wide, "", 1) }]).await;
    }
    let BucketStatus { lapsed, .. } = limiter.status();
    assert!(lapsed > leased.lapsed, "{leased:?}, then {lapsed} lapsed");
}

#[tokio::test]
async fn nothing_asked_is_admitted_at_once() {
    let server = RedisServer::start();
    let limiter: std::sync::Arc<SharedBuckets> = limiter(&patient_link(&server), 1, hot());
    let taken = limiter.take(&[], NOW).now_or_never().unwrap().unwrap();
    assert!(taken.admitted && taken.levels.is_empty() && taken.retry_after.is_none());
    assert_eq!(scripts_run(&server), 0);
}
