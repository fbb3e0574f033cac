//! How long a revoked key goes on opening the gate at another sidecar: the time of its last allow minus the time at which the revocation
//! was acknowledged, with a client that asks without a pause.
//!
//! The usual run revokes a few keys and holds them to a bound that no machine misses. `TOLLGATE_TEST_REVOCATIONS` asks for more, and for
//! the bounds that are promised.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use crate::support::chance::Chance;
use crate::support::check_load::Outcome;
use crate::support::check_load::ask;
use crate::support::fleet::FleetPlan;
use crate::support::fleet::Sidecar;
use crate::support::fleet::bearer;
use crate::support::grpc::Checker;
use crate::support::process::wait_until;
use crate::support::redis::FaultyProxy;
use crate::support::redis::Flavour;
use crate::support::redis::RedisServer;
use crate::support::redis::Sentinels;
use crate::support::redis::ServerPlan;
use crate::support::tollgate::CheckAt;

/// What the usual run asks of a machine that is busy with other tests.
const GENEROUS: Duration = Duration::from_secs(15);

fn asked() -> Option<usize> {
    std::env::var("TOLLGATE_TEST_REVOCATIONS").ok().map(|count| count.parse().expect("TOLLGATE_TEST_REVOCATIONS is a number"))
}

/// How many to revoke, and the bound that they are held to.
fn measure(usual: usize, of_asked: fn(usize) -> usize, promised: Duration) -> (usize, Duration) {
    asked().map_or((usual, GENEROUS), |asked| (of_asked(asked), promised))
}

/// A client that asks without a pause, with whatever key it is given.
struct Hammer {
    state: Arc<Mutex<State>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    key: Option<String>,
    last_allow: Option<Instant>,
    /// When the key was refused as such for the first time since its last allow.
    refused: Option<Instant>,
}

impl Hammer {
    fn start(at: &CheckAt) -> Self {
        let (state, is_over) = (Arc::new(Mutex::new(State::default())), Arc::new(AtomicBool::new(false)));
        let (inside, over, at) = (Arc::clone(&state), Arc::clone(&is_over), at.clone());
        let thread = std::thread::spawn(move || {
            let checker = Checker::connect(&at);
            while !over.load(Ordering::Relaxed) {
                let Some(key) = inside.lock().expect("no panic while held").key.clone() else {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                };
                let outcome = ask(&checker, &bearer("/orders", &key));
                let now = Instant::now();
                let mut state = inside.lock().expect("no panic while held");
                if state.key.as_ref() == Some(&key) {
                    match outcome {
                        Outcome::Allowed => (state.last_allow, state.refused) = (Some(now), None),
                        Outcome::Denied(401) => state.refused = state.refused.or(Some(now)),
                        Outcome::Denied(_) | Outcome::Fault | Outcome::Broken => {}
                    }
                }
            }
        });
        Self { state, is_over, thread: Some(thread) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }

    fn take_up(&self, key: &str) {
        *self.lock() = State { key: Some(key.to_owned()), ..State::default() };
        wait_until("the key opens the gate", || self.lock().last_allow.is_some());
    }

    /// The last allow, once the key has been refused for so long without one.
    fn last_allow(&self, quiet: Duration) -> Instant {
        wait_until("the key is refused", || self.lock().refused.is_some_and(|refused| refused.elapsed() >= quiet));
        let mut state = self.lock();
        state.key = None;
        state.last_allow.expect("waited for above")
    }
}

impl Drop for Hammer {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Revokes a key at one sidecar while a client of another one hammers; the staleness. `afterwards` happens right after the
/// acknowledgement.
fn staleness(issuer: &Sidecar, hammer: &Hammer, number: usize, quiet: Duration, afterwards: impl FnOnce()) -> Duration {
    let key = issuer.key(&format!("user-{}", number % 10), "free");
    hammer.take_up(&key.text);
    // At no particular moment between two polls.
    std::thread::sleep(Chance::new().between(Duration::ZERO, Duration::from_millis(500)));
    // Soon after a failover the store may take no writes for a moment, or have no replica that could confirm one.
    wait_until("the revocation is acknowledged without reserve", || {
        let (status, body) = issuer.revoke(&key.id);
        assert!(matches!(status, 200 | 202 | 503), "{status} {body}");
        status == 200
    });
    let acknowledged = Instant::now();
    afterwards();
    hammer.last_allow(quiet).saturating_duration_since(acknowledged)
}

/// Prints the figures and holds them to the bound.
fn state(what: &str, mut all: Vec<Duration>, bound: Duration) {
    all.sort_unstable();
    let at = |share: f64| all[((all.len() - 1) as f64 * share).round() as usize];
    eprintln!("staleness, {what}: {} revocations, p50 {:.1?}, p99 {:.1?}, maximum {:.1?}", all.len(), at(0.5), at(0.99), at(1.0));
    assert!(at(1.0) <= bound, "{what}: {:?} is longer than {bound:?}", at(1.0));
}

#[test]
fn in_normal_running() {
    let (count, bound) = measure(20, |asked| asked, Duration::from_millis(750));
    let server = RedisServer::start();
    let fleet = FleetPlan::on(&server.place()).start(2);
    let hammer = Hammer::start(&fleet.sidecars[1].tollgate.check);
    let quiet = Duration::from_millis(20);
    state("normal running", (0..count).map(|number| staleness(&fleet.sidecars[0], &hammer, number, quiet, || {})).collect(), bound);
}

#[test]
fn with_every_hint_lost() {
    let (count, bound) = measure(5, |asked| asked / 20, Duration::from_millis(750));
    let server = RedisServer::start();
    let proxy = FaultyProxy::unix(server.place());
    proxy.lose_messages(true);
    let fleet = FleetPlan::on(&proxy.place()).start(2);
    let hammer = Hammer::start(&fleet.sidecars[1].tollgate.check);
    let quiet = Duration::from_millis(20);
    state("every hint lost", (0..count).map(|number| staleness(&fleet.sidecars[0], &hammer, number, quiet, || {})).collect(), bound);
}

/// The store falls silent before the other sidecar can hear of it. After two seconds without a word it no longer goes by what it knew.
#[test]
fn with_the_store_frozen_right_after_the_acknowledgement() {
    let (count, bound) = measure(2, |asked| asked / 20, Duration::from_secs(2));
    let server = RedisServer::start();
    // Hints would be faster than any test.
    let proxy = FaultyProxy::unix(server.place());
    proxy.lose_messages(true);
    let fleet = FleetPlan::on(&proxy.place()).start(2);
    let hammer = Hammer::start(&fleet.sidecars[1].tollgate.check);
    let all = (0..count).map(|number| {
        let staleness = staleness(&fleet.sidecars[0], &hammer, number, Duration::from_millis(20), || {
            server.freeze();
            std::thread::sleep(Duration::from_millis(2500));
            server.thaw();
        });
        wait_until("both sidecars are ready", || fleet.sidecars.iter().all(Sidecar::is_ready));
        staleness
    });
    state("frozen after the acknowledgement", all.collect(), bound);
}

/// The primary dies with the acknowledgement, and whoever is promoted must know of the revocation.
#[test]
fn through_a_failover() {
    let (count, bound) = measure(1, |asked| asked / 20, Duration::from_secs(5));
    let mut sentinels = Sentinels::start_with(Flavour::Redis, &["--min-replicas-to-write", "1", "--min-replicas-max-lag", "3"]);
    let fleet = FleetPlan::on_sentinels(&sentinels).start(2);
    let hammer = Hammer::start(&fleet.sidecars[1].tollgate.check);
    let all = (0..count).map(|number| {
        let staleness = staleness(&fleet.sidecars[0], &hammer, number, Duration::from_millis(500), || {
            sentinels.kill_primary();
            sentinels.heal();
        });
        wait_until("both sidecars are ready", || fleet.sidecars.iter().all(Sidecar::is_ready));
        staleness
    });
    state("through a failover", all.collect(), bound);
}

/// A revocation that one sidecar has seen is not undone by a store that was set back to before it, nor by one that lost everything.
// battery: R10 R11
#[test]
fn a_store_that_was_set_back_opens_for_no_revoked_key() {
    let mut server = ServerPlan::tcp().start();
    let fleet = FleetPlan::on(&server.place()).start(2);
    let (issuer, other) = (&fleet.sidecars[0], &fleet.sidecars[1]);
    let key = issuer.key("alice", "free");
    let kept = issuer.key("bob", "free");
    let checkers: Vec<Checker> = fleet.sidecars.iter().map(|sidecar| Checker::connect(&sidecar.tollgate.check)).collect();
    let outcomes = |text: &str| -> Vec<Outcome> { checkers.iter().map(|checker| ask(checker, &bearer("/orders", text))).collect() };
    wait_until("the keys open the gate", || outcomes(&key.text) == [Outcome::Allowed; 2] && outcomes(&kept.text) == [Outcome::Allowed; 2]);
    let backup = server.snapshot();
    assert_eq!(issuer.revoke(&key.id).0, 200);
    wait_until("the key is refused everywhere", || outcomes(&key.text) == [Outcome::Denied(401); 2]);
    for round in 0..2 {
        if round == 0 {
            server.restore(&backup);
        } else {
            server.ask(&["FLUSHALL"]);
        }
        let began = Instant::now();
        wait_until("the other key opens the gate again", || {
            assert!(!outcomes(&key.text).contains(&Outcome::Allowed), "round {round}: the revoked key opened the gate");
            outcomes(&kept.text) == [Outcome::Allowed; 2] && began.elapsed() > Duration::from_secs(2)
        });
        wait_until("the revocation is in the store again", || {
            other.control("GET", &format!("/v1/keys/{}", key.id), &serde_json::Value::Null).1["state"] == "revoked"
        });
    }
}
