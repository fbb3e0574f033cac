//! Real histories and a real server: whatever happens in between, the store ends up with what was counted.

mod adding_up;
mod copies;
mod losses;

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::clock::ManualClock;
use crate::clock::SystemClock;
use crate::clock::monotonic;
use crate::model::caller::UserId;
use crate::model::key::KeyId;
use crate::model::time::Timestamp;
use crate::model::usage::Line;
use crate::model::usage::Outcome;
use crate::model::usage::RouteText;
use crate::model::usage::Span;
use crate::store::shared::link::Link;
use crate::store::shared::settings::Server;
use crate::store::shared::settings::Settings;
use crate::store::shared::testing::linked;
use crate::store::shared::testing::redis_server::RedisServer;
use crate::store::shared::testing::usage_checker::Contents;
use crate::store::shared::testing::usage_checker::Seen;
use crate::store::shared::usage::Care;
use crate::store::shared::usage::SharedCounts;
use crate::tasks::publish_usage::PublishError;
use crate::tasks::publish_usage::PublishStatus;
use crate::tasks::publish_usage::Signals;
use crate::tasks::publish_usage::publisher::Publisher;
use crate::usage::LedgerError;
use crate::usage::LedgerOptions;
use crate::usage::Usage;
use crate::usage::UsageError;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const PATIENCE: Duration = Duration::from_secs(30);

/// A time near the server's own, five minutes into an hour of the middle of a month.
fn start() -> Timestamp {
    let month = Span::Month.start(Span::Month.index(SystemClock.now()));
    month.plus(DAY * 14 + HOUR * 12 + Duration::from_secs(300))
}

/// One sidecar's half of counting.
struct Node {
    usage: Arc<Usage>,
    publisher: Publisher,
    status: Arc<PublishStatus>,
    clock: Arc<ManualClock>,
    link_changes: watch::Sender<u64>,
    resets: watch::Sender<u64>,
    members: Arc<AtomicU32>,
}

impl Node {
    fn open(folder: &Path, counts: &Arc<SharedCounts>, clock: &Arc<ManualClock>) -> Self {
        let options = LedgerOptions { segment_bytes: 8192, ..LedgerOptions::new(folder.join("ledger")) };
        // A server that another test is just starting holds a copy of our locks for an instant, between its fork and its exec.
        let usage = loop {
            match Usage::open(options.clone(), folder.join("usage.redb"), clock.now()) {
                Err(UsageError::Ledger(LedgerError::Locked { .. })) => std::thread::yield_now(),
                opened => break Arc::new(opened.unwrap()),
            }
        };
        let (link_changes, resets) = (watch::Sender::new(0), watch::Sender::new(0));
        let status = Arc::new(PublishStatus::default());
        let members = Arc::new(AtomicU32::new(1));
        let signals = Signals { link_changes: link_changes.subscribe(), resets: resets.subscribe(), members: Arc::clone(&members) };
        let publisher =
            Publisher::new(Arc::clone(&usage), Arc::clone(counts), signals, Arc::clone(clock) as _, Arc::clone(&status)).unwrap();
        Self { usage, publisher, status, clock: Arc::clone(clock), link_changes, resets, members }
    }

    fn count(&self, user: &str, route: &str, times: u32) {
        let user = UserId::from_counted(&user.into());
        let key = KeyId::new("k1");
        let hour = self.clock.now().hour();
        let line = Line { hour, user: &user, key: Some(&key), route, route_text: RouteText::Name, outcome: Outcome::Allowed };
        self.usage.ledger().add(&line, times).unwrap();
    }

    async fn publish(&mut self) -> Result<(), PublishError> {
        self.publisher.flush().await.unwrap();
        self.publisher.publish(Care::Usual).await
    }

    /// Publishes, and goes on until everything that is under way is done.
    async fn settle(&mut self) {
        self.publish().await.unwrap();
        loop {
            let (swept, closed) = (self.status.sweeps(), self.status.closed_to());
            self.publisher.look_around().await;
            if (swept, closed) == (self.status.sweeps(), self.status.closed_to()) && !self.publisher.is_sweeping() {
                return;
            }
        }
    }

    fn truth(&self, user: &str) -> u64 {
        let totals = self.usage.ledger().totals();
        totals.iter().filter(|total| &*total.user == user && total.outcome == Outcome::Allowed).map(|total| total.count).sum()
    }
}

/// A server, folders on a disk, and a clock that all share.
struct Rig {
    server: RedisServer,
    counts: Arc<SharedCounts>,
    clock: Arc<ManualClock>,
    folder: TempDir,
}

impl Rig {
    fn start() -> Self {
        let (server, link) = linked();
        Self::over(server, &link)
    }

    /// With as little patience as a sidecar in earnest: for servers that are going to hang.
    fn impatient() -> Self {
        let server = RedisServer::start();
        let mut settings = Settings::standalone(Server::Unix(server.socket().to_owned()));
        settings.timeouts.background = Duration::from_millis(500);
        Self::over(server, &Link::new(settings))
    }

    fn over(server: RedisServer, link: &Arc<Link>) -> Self {
        let clock = Arc::new(ManualClock::starting_at(start()));
        let counts = SharedCounts::new(Arc::clone(link), Arc::clone(&clock) as _);
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
        std::fs::create_dir_all(&target).unwrap();
        Self { server, counts, clock, folder: TempDir::new_in(target).unwrap() }
    }

    fn node(&self, name: &str) -> Node {
        Node::open(&self.path(name), &self.counts, &self.clock)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn contents(&self) -> Contents {
        Contents::read(&[&|words: &[&str]| self.server.ask(words).texts()], "tollgate")
    }

    /// The checker, over what was seen in one hour; nothing in flight.
    #[track_caller]
    fn judge(&self, seen: &[(&str, u64)]) {
        self.judge_with(seen, 0);
    }

    #[track_caller]
    fn judge_with(&self, seen: &[(&str, u64)], in_flight: u64) {
        let seen: BTreeMap<(String, u32), Seen> =
            seen.iter().map(|(user, allows)| (((*user).to_owned(), start().hour().0), Seen { allows: *allows, in_flight })).collect();
        let month_of = |hour: u32| Span::Month.index(crate::model::time::Hour(hour).start());
        if let Err(breaches) = self.contents().judge(&seen, &month_of) {
            panic!("{breaches}");
        }
    }

    fn allowed(&self, user: &str) -> u64 {
        let contents = self.contents();
        let hour = start().hour().0;
        let sums: Vec<u64> = [('h', hour), ('d', hour / 24), ('m', Span::Month.index(start()))]
            .into_iter()
            .map(|period| contents.allowed(user, period))
            .collect();
        assert_eq!(contents.sums(), Vec::<String>::new());
        assert!(sums.iter().all(|sum| *sum == sums[0]), "{sums:?}");
        sums[0]
    }

    /// The time of a run that was killed is up.
    fn outlast_the_killed(&self) {
        for key in self.server.ask(&["KEYS", "tollgate:1:writer:*"]).texts() {
            self.server.ask(&["HSET", &key, "until", "0"]);
        }
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to.join(entry.file_name()));
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

async fn until(mut met: impl AsyncFnMut() -> bool) {
    let began = monotonic();
    while !met().await {
        assert!(began.elapsed() < PATIENCE, "gave up");
        tokio::task::yield_now().await;
    }
}
