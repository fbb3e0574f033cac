//! The engine over real servers.

mod conformance;
mod damage;
mod facts;
mod grants;
mod losses;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::clock::ManualClock;
use crate::model::key::KeyRecord;
use crate::model::key::KeyState;
use crate::secrets::Pepper;
use crate::secrets::Peppers;
use crate::store::Committed;
use crate::store::Precondition;
use crate::store::RecordKey;
use crate::store::Records;
use crate::store::Write;
use crate::store::codec::encode_key;
use crate::store::codec::tests::key_record;
use crate::store::conformance::START;
use crate::store::shared::cache::CacheSizes;
use crate::store::shared::link::Link;
use crate::store::shared::outbox::Outbox;
use crate::store::shared::records::SharedRecords;
use crate::store::shared::settings::Server;
use crate::store::shared::settings::Settings;
use crate::store::shared::testing::redis_server::RedisServer;

/// How long something may take that takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// One sidecar's records.
struct Sidecar {
    records: Arc<SharedRecords>,
    clock: Arc<ManualClock>,
    hints: mpsc::Sender<Vec<u8>>,
    follower: Option<(CancellationToken, JoinHandle<()>)>,
}

fn settings(server: &RedisServer) -> Settings {
    Settings { servers: vec![Server::Unix(server.socket().to_owned())], ..patient() }
}

/// Settings without a server.
fn patient() -> Settings {
    let mut settings = Settings::standalone(Server::Unix("nowhere".into()));
    // The machine that runs these may be busy.
    settings.timeouts.check = Duration::from_secs(5);
    settings.timeouts.background = Duration::from_secs(5);
    settings
}

fn peppers() -> Peppers {
    Peppers::new(Pepper { id: Arc::from("p1"), secret: Zeroizing::new(vec![7; 32]) }, Vec::new())
}

impl Sidecar {
    fn over(settings: Settings) -> Self {
        Self::with(settings, None, CacheSizes::default())
    }

    fn with(settings: Settings, outbox: Option<Outbox>, sizes: CacheSizes) -> Self {
        let clock = Arc::new(ManualClock::starting_at(START));
        let told: Arc<dyn Clock> = clock.clone();
        let records = SharedRecords::with_cache(Link::new(settings), told, Arc::new(peppers()), outbox, sizes);
        Self { records, clock, hints: mpsc::channel(1).0, follower: None }
    }

    /// Follows the changes by itself, so often.
    fn following(mut self, every: Duration) -> Self {
        let (hints, hinted) = mpsc::channel(1);
        let shutdown = CancellationToken::new();
        let task = crate::tasks::follow_changes::FollowChanges { records: Arc::clone(&self.records), hints: hinted, poll_every: every };
        let running = tokio::spawn(crate::tasks::follow_changes::run(task, shutdown.clone()));
        (self.hints, self.follower) = (hints, Some((shutdown, running)));
        self
    }

    async fn stop(mut self) {
        let (shutdown, running) = self.follower.take().unwrap();
        shutdown.cancel();
        running.await.unwrap();
    }

    /// Polls until everything is applied.
    async fn poll(&self) {
        while self.records.poll().await.unwrap().is_behind {}
    }

    async fn commit(&self, writes: Vec<Write>) -> Committed {
        self.records.commit(Vec::new(), writes, self.clock.now()).await.unwrap()
    }

    async fn put_key(&self, id: &str, state: KeyState) {
        assert!(self.commit(vec![key_write(id, state)]).await.is_done());
    }

    /// Changes a key as the issuer does: on top of what lies there.
    async fn change_key(&self, id: &str, state: KeyState) {
        let key = RecordKey::key(id);
        let version = self.records.get(&key).await.unwrap().unwrap().version;
        let writes = vec![key_write(id, state)];
        let outcome = self.records.commit(vec![Precondition::AtVersion(key, version)], writes, self.clock.now()).await.unwrap();
        assert!(outcome.is_done());
    }

    /// How a check sees a key.
    async fn state(&self, id: &str) -> Option<KeyState> {
        crate::store::Facts::key(&*self.records, id).await.unwrap().map(|record| record.state)
    }

    /// The same, asked again while no answer can be had: each connection comes back in its own time.
    async fn settled_state(&self, id: &str) -> Option<KeyState> {
        let asking = async {
            loop {
                match crate::store::Facts::key(&*self.records, id).await {
                    Ok(record) => return record.map(|record| record.state),
                    Err(_silent) => tokio::time::sleep(Duration::from_millis(2)).await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.unwrap()
    }

    fn is_confirmed(&self) -> bool {
        self.records.follower().is_confirmed()
    }
}

fn key_write(id: &str, state: KeyState) -> Write {
    Write::Put { key: RecordKey::key(id), bytes: encode_key(&KeyRecord { state, ..key_record(id) }), expires: None }
}

/// Asks until it holds.
async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let asking = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_elapsed| panic!("never: {what}"));
}

/// A prefix that nobody else on the server has.
fn prefix() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Whoever may publish, and whoever commits much, must not make every sidecar poll without a pause.
#[tokio::test]
async fn a_flood_of_hints_is_no_flood_of_polls() {
    let server = RedisServer::start();
    let sidecar = Sidecar::over(settings(&server)).following(Duration::from_secs(3600));
    until("the first poll", async || sidecar.records.follower().polls() > 0).await;
    let flooding = async {
        loop {
            let _ = sidecar.hints.send(Vec::new()).await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_millis(400), flooding).await;
    let polls = sidecar.records.follower().polls();
    assert!((2..=22).contains(&polls), "{polls}");
    sidecar.stop().await;
}
