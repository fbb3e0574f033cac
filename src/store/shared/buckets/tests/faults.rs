//! Records that are none, and servers that do not answer.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::clock::monotonic;
use crate::store::Limits as _;
use crate::store::StoreError;
use crate::store::shared::buckets::Tuning;
use crate::store::shared::buckets::names;
use crate::store::shared::buckets::tests::COLD;
use crate::store::shared::buckets::tests::NOW;
use crate::store::shared::buckets::tests::limiter;
use crate::store::shared::buckets::tests::patient_link;
use crate::store::shared::buckets::tests::policy;
use crate::store::shared::buckets::tests::take;
use crate::store::shared::link::Link;
use crate::store::shared::settings::Server;
use crate::store::shared::settings::Settings;
use crate::store::shared::testing::redis_server::RedisServer;

/// How much later than its budget a busy machine may notice that a wait is over.
const LATE_MAX: Duration = Duration::from_millis(450);

// battery: R1 R2
#[tokio::test]
async fn a_record_that_is_no_bucket_fails_its_own_bucket_and_no_other() {
    let server = RedisServer::start();
    let limiter = limiter(&patient_link(&server), 1, Tuning::default());
    let free = policy("free", 60, 10);
    let name = |owner: &str| String::from_utf8(names::name("tollgate", &take(&free, owner, 1))).unwrap();
    let spoilt = [
        ("user:list", "LPUSH {} x", "another type"),
        ("user:hash", "HSET {} a b", "another type"),
        ("user:text", "SET {} full", "no instant"),
        ("user:negative", "SET {} \"-1 5\"", "no instant"),
        ("user:float", "SET {} \"1e5 5\"", "no instant"),
        ("user:large", "SETRANGE {} 1000000 x", "too long"),
    ];
    for (owner, command, why) in spoilt {
        assert!(!server.tell(&command.replace("{}", &name(owner))).starts_with('-'), "{owner}");
        let questions = [vec![take(&free, owner, 1)], vec![take(&free, "user:good", 1), take(&free, owner, 1)]];
        for question in &questions {
            match limiter.take(question, NOW).await {
                Err(StoreError::Corrupt { key, why: said }) => {
                    assert_eq!(key, name(owner));
                    assert!(said.contains(why), "{owner}: {said}");
                }
                other => panic!("{owner}: {other:?}"),
            }
        }
    }
    let good = limiter.take(&[take(&free, "user:good", 1)], NOW).await.unwrap();
    assert_eq!((good.admitted, good.levels[0].remaining), (true, 9), "failed questions took nothing from it");
    assert_eq!(limiter.status().failures, 12);
    // What an operator removes is a full bucket.
    server.tell(&format!("DEL {}", name("user:list")));
    assert!(limiter.take(&[take(&free, "user:list", 1)], NOW).await.unwrap().admitted);
}

// battery: R3
#[tokio::test]
async fn a_frozen_server_costs_no_request_more_than_its_budget() {
    let server = RedisServer::start();
    let link = Link::new(Settings::standalone(Server::Unix(server.socket().to_owned())));
    let budget = link.settings().timeouts.check;
    let free = policy("free", 6_000, 100);
    for hot_above_per_second in [0, COLD] {
        let limiter = limiter(&link, 1, Tuning { hot_above_per_second, ..Tuning::default() });
        let owners = ["user:a", "user:b"];
        for owner in owners {
            // Not before it answers at all: its first answer may take its time on a busy machine.
            while limiter.take(&[take(&free, owner, 1)], NOW).await.is_err() {
                tokio::task::yield_now().await;
            }
        }
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(2)).await;
        tokio::time::resume();
        server.freeze();
        let waits = join_all((0..60).map(|number| {
            let (limiter, free) = (Arc::clone(&limiter), free.clone());
            async move {
                let began = monotonic();
                let answer = limiter.take(&[take(&free, owners[number % 2], 1)], NOW).await;
                (answer, monotonic().saturating_duration_since(began))
            }
        }))
        .await;
        server.thaw();
        for (answer, waited) in waits {
            assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
            assert!(waited <= budget + LATE_MAX, "{waited:?}");
        }
    }
}

#[tokio::test]
async fn a_server_without_memory_refuses_before_anything_is_written() {
    let server = RedisServer::start_with(&["--maxmemory", "1"]);
    let limiter = limiter(&patient_link(&server), 1, Tuning::default());
    let free = policy("free", 60, 10);
    let answer = limiter.take(&[take(&free, "user:a", 1)], NOW).await;
    assert!(matches!(&answer, Err(StoreError::Unavailable(why)) if why.contains("OOM")), "{answer:?}");
    assert!(server.tell("DBSIZE").contains(":0"));
}

#[tokio::test]
async fn a_bucket_too_slow_to_be_counted_exactly_is_refused_by_name() {
    let server = RedisServer::start();
    let limiter = limiter(&patient_link(&server), 1, Tuning::default());
    let slow = policy("slow", 1, 144_001);
    let answer = limiter.take(&[take(&slow, "user:a", 1)], NOW).await;
    assert!(matches!(&answer, Err(StoreError::Unavailable(why)) if why.contains("slow") && why.contains("100 days")), "{answer:?}");
    assert!(limiter.take(&[take(&policy("slow", 1, 144_000), "user:a", 144_000)], NOW).await.unwrap().admitted);
}
