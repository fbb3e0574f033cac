//! The contract's suite, on one server, in the ways that an engine with a cache can differ from itself.

use std::sync::Arc;
use std::time::Duration;

use crate::store::conformance;
use crate::store::conformance::Subject;
use crate::store::shared::cache::CacheSizes;
use crate::store::shared::outbox::Outbox;
use crate::store::shared::records::SharedRecords;
use crate::store::shared::settings::Settings;
use crate::store::shared::testing::redis_server::RedisServer;
use crate::store::shared::tests::Sidecar;
use crate::store::shared::tests::prefix;
use crate::store::shared::tests::settings;

/// Room for a handful of records.
const TINY: CacheSizes = CacheSizes { keys: 2000, users: 2000, digests: 2000, absent: 2000 };

fn subject(sidecar: Sidecar) -> Subject<SharedRecords> {
    // The follower goes on after the handle is gone, and ends with the test's runtime.
    Subject { store: Arc::clone(&sidecar.records), clock: Arc::clone(&sidecar.clock) }
}

fn apart(settings: &Settings) -> Settings {
    Settings { prefix: prefix(), ..settings.clone() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_engine_keeps_the_contract_without_a_lease() {
    let server = RedisServer::start();
    let settings = settings(&server);
    conformance::run(|| subject(Sidecar::over(apart(&settings)))).await;
}

// battery: K17 K21
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_engine_keeps_the_contract_from_memory() {
    let server = RedisServer::start();
    let settings = settings(&server);
    for every in [Duration::from_millis(1), Duration::from_millis(500)] {
        conformance::run(|| subject(Sidecar::over(apart(&settings)).following(every))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_engine_keeps_the_contract_with_a_cache_that_forgets_and_an_outbox() {
    let server = RedisServer::start();
    let settings = settings(&server);
    let folder = tempfile::tempdir().unwrap();
    conformance::run(|| {
        let settings = apart(&settings);
        let outbox = Outbox::open(&folder.path().join(&settings.prefix)).unwrap();
        subject(Sidecar::with(settings, Some(outbox), TINY).following(Duration::from_millis(1)))
    })
    .await;
}
