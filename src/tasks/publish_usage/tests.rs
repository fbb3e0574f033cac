//! Real histories and a real server: whatever happens in between, the store ends up with what was counted.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

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
use crate::model::usage::UsageQuery;
use crate::store::Counts;
use crate::store::counts_conformance;
use crate::store::counts_conformance::Dice;
use crate::store::counts_conformance::everything;
use crate::store::shared::link::Link;
use crate::store::shared::settings::Server;
use crate::store::shared::settings::Settings;
use crate::store::shared::testing::linked;
use crate::store::shared::testing::redis_server::FaultyProxy;
use crate::store::shared::testing::redis_server::Mode;
use crate::store::shared::testing::redis_server::Place;
use crate::store::shared::testing::redis_server::RedisServer;
use crate::store::shared::testing::usage_checker::Contents;
use crate::store::shared::testing::usage_checker::Seen;
use crate::store::shared::usage::Care;
use crate::store::shared::usage::SharedCounts;
use crate::tasks::flush_usage::FlushUsage;
use crate::tasks::publish_usage::PublishError;
use crate::tasks::publish_usage::PublishStatus;
use crate::tasks::publish_usage::PublishUsage;
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

// battery: R10
#[tokio::test]
async fn a_store_that_lost_everything_is_told_everything_again() {
    let rig = Rig::start();
    let (mut one, mut idle) = (rig.node("a"), rig.node("b"));
    one.count("alice", "r", 5);
    idle.count("alice", "r", 7);
    idle.count("bob", "s", 2);
    one.settle().await;
    idle.settle().await;
    rig.judge(&[("alice", 12), ("bob", 2)]);
    rig.server.ask(&["FLUSHALL"]);
    one.count("alice", "r", 1);
    one.settle().await;
    assert_eq!(rig.allowed("alice"), 6, "its own part at once");
    idle.settle().await;
    rig.judge(&[("alice", 13), ("bob", 2)]);
    assert_eq!((one.status.restatements(), idle.status.restatements()), (1, 1));
    assert_eq!(Counts::last_use(&*rig.counts, "k1").await.unwrap().map(|last| last.route.to_string()).as_deref(), Some("s"));
    let all = UsageQuery::between(Span::Month, Timestamp::default(), rig.clock.now());
    assert_eq!(everything(&*rig.counts, &all).await.len(), 2, "the lists of users are told again too");
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

// battery: R10 R11
#[tokio::test]
async fn a_store_that_was_thrown_back_heals() {
    let mut rig = Rig::start();
    let (mut one, mut idle) = (rig.node("a"), rig.node("b"));
    one.count("alice", "r", 5);
    one.settle().await;
    let old = rig.server.snapshot();
    one.count("alice", "r", 5);
    idle.count("alice", "r", 100);
    for node in [&mut one, &mut idle] {
        node.settle().await;
    }
    assert_eq!(rig.allowed("alice"), 110);
    rig.server.restore(&old);
    assert_eq!(rig.allowed("alice"), 5, "acknowledged, and gone");
    // The connection broke with the server; whoever notices first tells again.
    until(async || one.publish().await.is_ok() && idle.publish().await.is_ok()).await;
    one.settle().await;
    idle.settle().await;
    rig.judge(&[("alice", 110)]);
    assert_eq!((one.status.conflicts(), idle.status.conflicts()), (0, 0));
}

// battery: R11
#[tokio::test]
async fn a_failover_that_loses_a_little_heals_at_the_signal() {
    let rig = Rig::start();
    let mut node = rig.node("a");
    node.count("alice", "r", 5);
    node.settle().await;
    // Another slot's primary lost it: this writer's name is still there.
    for key in rig.server.ask(&["KEYS", "tollgate:1:u:*"]).texts() {
        rig.server.ask(&["DEL", &key]);
    }
    node.settle().await;
    assert_eq!(rig.contents().0.len(), 0, "nobody noticed");
    node.link_changes.send_modify(|changes| *changes += 1);
    node.settle().await;
    rig.judge(&[("alice", 5)]);
    for key in rig.server.ask(&["KEYS", "tollgate:1:u:*"]).texts() {
        rig.server.ask(&["DEL", &key]);
    }
    node.resets.send_modify(|resets| *resets += 1);
    node.settle().await;
    rig.judge(&[("alice", 5)]);
}

#[tokio::test]
async fn a_lost_reply_changes_nothing() {
    let server = RedisServer::start();
    let proxy = FaultyProxy::unix(server.place());
    let Place::Unix(socket) = proxy.place() else { panic!("a socket") };
    let link = Link::new(Settings::standalone(Server::Unix(socket)));
    let rig = Rig::over(server, &link);
    let mut node = rig.node("a");
    node.count("alice", "r", 1);
    node.settle().await;
    let mut counted = 1;
    let mut failures = 0;
    for every in [1, 2, 3, 1, 2] {
        proxy.set(Mode::CutReplies { every });
        for _ in 0..4 {
            node.count("alice", "r", 10);
            counted += 10;
            failures += u32::from(node.publish().await.is_err());
        }
        proxy.set(Mode::Pass);
    }
    assert!(failures > 0 && proxy.replies_cut() > 0);
    until(async || node.publish().await.is_ok()).await;
    node.settle().await;
    rig.judge(&[("alice", counted)]);
    assert_eq!(node.status.conflicts(), 0);
}

#[tokio::test]
async fn an_answer_that_comes_too_late_changes_nothing() {
    let rig = Rig::impatient();
    let mut node = rig.node("a");
    node.count("alice", "r", 1);
    node.settle().await;
    rig.server.freeze();
    node.count("alice", "r", 2);
    assert!(node.publish().await.is_err());
    node.count("alice", "r", 3);
    assert!(node.publish().await.is_err());
    rig.server.thaw();
    until(async || node.publish().await.is_ok()).await;
    rig.judge(&[("alice", 6)]);
    assert_eq!(node.truth("alice"), 6);
}

#[tokio::test]
async fn killed_between_sending_and_the_answer_nothing_is_lost_or_doubled() {
    let rig = Rig::start();
    let mut counted = 0;
    for round in 0..6 {
        let mut node = rig.node("a");
        rig.outlast_the_killed();
        node.settle().await;
        node.count("alice", "r", 10);
        counted += 10;
        if round % 3 == 1 {
            node.publish().await.unwrap();
        } else if round % 3 == 2 {
            // In the history, and not published.
            node.publisher.flush().await.unwrap();
        }
    }
    let mut node = rig.node("a");
    assert_eq!(node.publish().await, Err(PublishError::Waiting), "the killed run might be alive");
    rig.outlast_the_killed();
    node.settle().await;
    rig.judge(&[("alice", counted)]);
    assert_eq!(node.status.conflicts(), 0);
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

/// A store that hangs holds up nobody who counts, and neither the ledger's own flush.
#[tokio::test]
async fn a_store_that_hangs_holds_up_nothing() {
    let rig = Rig::impatient();
    let node = rig.node("a");
    let clock = Arc::clone(&rig.clock) as Arc<dyn Clock>;
    let signals =
        Signals { link_changes: node.link_changes.subscribe(), resets: node.resets.subscribe(), members: Arc::clone(&node.members) };
    let interval = Duration::from_millis(10);
    let (publish, published) =
        PublishUsage::new(Arc::clone(&node.usage), Arc::clone(&rig.counts), signals, Arc::clone(&clock), interval).unwrap();
    let (flush, flushed) = FlushUsage::new(Arc::clone(&node.usage), clock, interval);
    let end = CancellationToken::new();
    let running = [tokio::spawn(async move { publish.run(end).await.is_ok() })];
    let flushing = tokio::spawn(flush.run(CancellationToken::new()));
    published.publish_now().await.unwrap();
    rig.server.freeze();
    let began = monotonic();
    while published.status().failures() < 3 {
        node.count("alice", "r", 1);
        let asked = monotonic();
        flushed.flush_now().await.unwrap();
        assert!(asked.elapsed() < Duration::from_secs(1));
        assert!(began.elapsed() < PATIENCE);
    }
    assert!(node.truth("alice") > 3);
    rig.server.thaw();
    until(async || published.publish_now().await.is_ok()).await;
    rig.judge(&[("alice", node.truth("alice"))]);
    flushing.abort();
    for task in running {
        task.abort();
    }
}

// battery: R1
#[tokio::test]
async fn one_users_spoilt_record_is_that_users_alone() {
    let rig = Rig::start();
    let mut node = rig.node("a");
    let hour = format!("tollgate:1:u:{{alice}}:h:{}", start().hour().0);
    let spoilt: [&[&str]; 5] = [
        &["SET", &hour, "what is this"],
        &["HSET", &hour, "w", "1", "wQ", "0", "ar:k1", "5;x"],
        &["HSET", &hour, "w", "many"],
        &["HSET", &hour, "ar:k1", "5"],
        &["RPUSH", &hour, "a"],
    ];
    let mut bob = 0;
    for (round, words) in spoilt.iter().enumerate() {
        rig.server.ask(&["DEL", &hour]);
        rig.server.ask(words);
        let before = rig.server.ask(&["DUMP", &hour]);
        node.count("alice", "r", 5);
        node.count("bob", "r", 1);
        bob += 1;
        node.publish().await.unwrap();
        assert_eq!(node.status.quarantined(), 1, "{words:?}");
        let hours = UsageQuery::between(Span::Hour, rig.clock.now(), rig.clock.now().plus(HOUR));
        let bobs = UsageQuery { users: Some([Arc::from("bob")].into()), ..hours.clone() };
        assert_eq!(everything(&*rig.counts, &bobs).await[0].count, bob, "{words:?}");
        if round != 2 {
            assert!(rig.counts.query(&hours).await.is_err(), "{words:?}: never a wrong number");
        }
        assert_eq!(rig.server.ask(&["DUMP", &hour]), before, "{words:?}: nothing was written");
        let alices = UsageQuery { span: Span::Month, users: Some([Arc::from("alice")].into()), ..hours };
        assert_eq!(everything(&*rig.counts, &alices).await.first().map(|row| row.count), None, "{words:?}: no part of it");
        // It is not asked for with every round.
        let failed = node.status.published();
        node.publish().await.unwrap();
        assert_eq!(node.status.published(), failed);
        node.publisher.end_quarantine();
    }
    rig.server.ask(&["DEL", &hour]);
    node.publish().await.unwrap();
    rig.judge(&[("alice", 25), ("bob", bob)]);
    assert_eq!(node.status.quarantined(), 0);
}

// battery: R2
#[tokio::test]
async fn what_is_too_large_is_not_taken_up() {
    let rig = Rig::start();
    let mut node = rig.node("a");
    let hour = format!("tollgate:1:u:{{alice}}:h:{}", start().hour().0);
    node.count("alice", "r", 5);
    node.settle().await;
    let fill = "for i=1,200001 do redis.call('HSET', KEYS[1], 'ax'..i..':', '1;1') end return 1";
    rig.server.ask(&["EVAL", fill, "1", &hour]);
    let hours = UsageQuery::between(Span::Hour, rig.clock.now(), rig.clock.now().plus(HOUR));
    let error = rig.counts.query(&hours).await.unwrap_err().to_string();
    assert!(error.contains("too many lines"), "{error}");
    rig.server.ask(&["DEL", &hour]);
    rig.server.ask(&["EVAL", "return redis.call('HSET', KEYS[1], 'ax:', string.rep('1', 70000000))", "1", &hour]);
    let error = rig.counts.query(&hours).await.unwrap_err().to_string();
    assert!(error.contains("too many bytes"), "{error}");
    node.count("alice", "r", 1);
    node.publish().await.unwrap();
    assert_eq!(node.status.quarantined(), 1);
}

// battery: R8
#[tokio::test]
async fn counts_wait_while_the_store_has_no_room() {
    let rig = Rig::start();
    let mut node = rig.node("a");
    node.count("alice", "r", 5);
    node.settle().await;
    rig.server.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    let before = rig.contents().0;
    for _ in 0..3 {
        node.count("alice", "r", 1);
        node.count("bob", "r", 1);
        assert!(node.publish().await.is_err());
    }
    assert_eq!(rig.contents().0, before, "a script is refused whole");
    assert!(node.status.unpublished() > 0);
    assert_eq!(node.status.quarantined(), 0);
    rig.server.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    until(async || node.publish().await.is_ok()).await;
    rig.judge(&[("alice", 8), ("bob", 3)]);
}

/// In an outage the list of what rose stays short; what did not fit is found by a sweep.
#[tokio::test]
async fn an_outage_takes_bounded_memory() {
    let rig = Rig::impatient();
    let mut node = rig.node("a");
    node.settle().await;
    rig.server.freeze();
    let users: Vec<String> = (0..300).map(|user| format!("user-{user}")).collect();
    for user in &users {
        node.count(user, "r", 2);
    }
    assert!(node.publish().await.is_err());
    assert_eq!(node.usage.history().unpublished(), crate::usage::CHANGED_ROWS_MAX);
    rig.server.thaw();
    until(async || node.publish().await.is_ok()).await;
    node.settle().await;
    assert_eq!(node.status.overflows(), 1);
    assert_eq!(node.usage.history().unpublished(), 0);
    rig.judge(&users.iter().map(|user| (user.as_str(), 2)).collect::<Vec<_>>());
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

async fn until(mut met: impl AsyncFnMut() -> bool) {
    let began = monotonic();
    while !met().await {
        assert!(began.elapsed() < PATIENCE, "gave up");
        tokio::task::yield_now().await;
    }
}
