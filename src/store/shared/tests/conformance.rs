//! The contract's suite, on one server, in the ways that an engine with a cache can differ from itself.

use std::sync::Arc;
use std::time::Duration;

use crate::store::conformance;
use crate::store::conformance::Subject;
use crate::store::shared::cache::CacheSizes;
use crate::store::shared::outbox::Outbox;
use crate::store::shared::records::SharedRecords;
use crate::store::shared::settings::Mode;
use crate::store::shared::settings::Server;
use crate::store::shared::settings::Settings;
use crate::store::shared::testing::redis_server::Cluster;
use crate::store::shared::testing::redis_server::FaultyProxy;
use crate::store::shared::testing::redis_server::Flavour;
use crate::store::shared::testing::redis_server::Mode as Fault;
use crate::store::shared::testing::redis_server::RedisServer;
use crate::store::shared::testing::redis_server::Sentinels;
use crate::store::shared::testing::redis_server::ServerPlan;
use crate::store::shared::tests::Sidecar;
use crate::store::shared::tests::patient;
use crate::store::shared::tests::prefix;
use crate::store::shared::tests::settings;

/// Room for a handful of records.
const TINY: CacheSizes = CacheSizes { keys: 2000, users: 2000, digests: 2000, grants: 4000, clients: 4000, absent: 2000 };

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
async fn the_engine_keeps_the_contract_while_the_lease_lapses_again_and_again() {
    let server = RedisServer::start();
    let settings = settings(&server);
    conformance::run(|| {
        let sidecar = Sidecar::over(apart(&settings)).following(Duration::from_millis(3));
        let lapsing = Arc::clone(sidecar.records.follower());
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(2)).await;
                lapsing.end_lease();
            }
        });
        subject(sidecar)
    })
    .await;
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

// battery: R3
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_engine_keeps_the_contract_when_answers_come_late() {
    let server = RedisServer::start();
    let proxy = FaultyProxy::unix(server.place());
    let settings = Settings { servers: vec![Server::Unix(proxy.socket().to_owned())], ..settings(&server) };
    // Some answers are overtaken by a poll, and some are not.
    for delay in [1, 7] {
        proxy.set(Fault::Delay(Duration::from_millis(delay)));
        conformance::run(|| subject(Sidecar::over(apart(&settings)).following(Duration::from_millis(2)))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_engine_keeps_the_contract_on_valkey() {
    let server = ServerPlan::default().flavour(Flavour::Valkey).start();
    let settings = settings(&server);
    conformance::run(|| subject(Sidecar::over(apart(&settings)).following(Duration::from_millis(5)))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_engine_keeps_the_contract_behind_sentinels() {
    let sentinels = Sentinels::start();
    let servers = sentinels.addresses().iter().map(|address| tcp(address)).collect();
    let settings = Settings { mode: Mode::Sentinel { master_name: sentinels.name().to_owned() }, servers, replicas: 1, ..patient() };
    conformance::run(|| subject(Sidecar::over(apart(&settings)).following(Duration::from_millis(5)))).await;
}

// battery: R6
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_engine_keeps_the_contract_on_a_cluster() {
    let cluster = Cluster::start();
    let servers = cluster.addresses().iter().map(|address| tcp(address)).collect();
    let settings = Settings { mode: Mode::Cluster, servers, ..patient() };
    conformance::run(|| subject(Sidecar::over(apart(&settings)).following(Duration::from_millis(5)))).await;
}

fn tcp(address: &str) -> Server {
    let (host, port) = address.rsplit_once(':').unwrap();
    Server::Tcp { host: host.to_owned(), port: port.parse().unwrap() }
}
