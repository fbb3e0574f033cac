//! Steady clients of check listeners, each with one question at a time, that note every answer and how long it took.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use envoy_types::pb::envoy::service::auth::v3::CheckRequest;

use crate::support::grpc::Checker;
use crate::support::grpc::denied_with;
use crate::support::tollgate::CheckAt;

/// What became of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Allowed,
    /// With this HTTP status.
    Denied(i32),
    /// Tollgate said that it cannot tell.
    Fault,
    /// There was no answer: the process went away, or was not there.
    Broken,
}

/// Asks once.
pub fn ask(checker: &Checker, request: &CheckRequest) -> Outcome {
    match checker.check(request.clone()) {
        Ok(response) => denied_with(&response).map_or(Outcome::Allowed, Outcome::Denied),
        // An answer's status comes in its trailers; one that was made up for a broken connection has its cause within.
        Err(status) if status.source().is_some() => Outcome::Broken,
        Err(_) => Outcome::Fault,
    }
}

/// What one client saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub outcomes: BTreeMap<Outcome, u64>,
    /// The longest time that an answer took.
    pub slowest: Duration,
}

impl Seen {
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(&outcome).copied().unwrap_or(0)
    }

    pub fn allowed(&self) -> u64 {
        self.of(Outcome::Allowed)
    }

    pub fn total(&self) -> u64 {
        self.outcomes.values().sum()
    }

    pub fn add(&mut self, other: &Self) {
        for (outcome, count) in &other.outcomes {
            *self.outcomes.entry(*outcome).or_default() += count;
        }
        self.slowest = self.slowest.max(other.slowest);
    }
}

/// Threads that ask until they are told to stop.
#[derive(Debug)]
pub struct CheckLoad {
    stop: Arc<AtomicBool>,
    allowed: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Seen>>,
}

impl CheckLoad {
    /// One client for each place and question, which pauses between its questions.
    pub fn start(clients: Vec<(CheckAt, CheckRequest)>, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let allowed = Arc::new(AtomicU64::new(0));
        let clients = clients.into_iter().map(|(at, request)| {
            let (stop, allowed) = (Arc::clone(&stop), Arc::clone(&allowed));
            std::thread::spawn(move || repeat(&at, &request, pause, &stop, &allowed))
        });
        Self { clients: clients.collect(), stop, allowed }
    }

    /// How many checks all clients together were let through so far.
    pub fn allowed(&self) -> u64 {
        self.allowed.load(Ordering::Relaxed)
    }

    /// Stops the clients after the answer that each is waiting for; what each saw, in the order of their start.
    pub fn finish_each(self) -> Vec<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().map(|client| client.join().expect("a client thread")).collect()
    }

    /// The same, summed.
    pub fn finish(self) -> Seen {
        self.finish_each().iter().fold(Seen::default(), |mut sum, seen| {
            sum.add(seen);
            sum
        })
    }
}

fn repeat(at: &CheckAt, request: &CheckRequest, pause: Duration, stop: &AtomicBool, allowed: &AtomicU64) -> Seen {
    let mut seen = Seen::default();
    let checker = Checker::connect_lazily(at);
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let outcome = ask(&checker, request);
        *seen.outcomes.entry(outcome).or_default() += 1;
        if outcome == Outcome::Allowed {
            allowed.fetch_add(1, Ordering::Relaxed);
        }
        if outcome == Outcome::Broken {
            std::thread::sleep(Duration::from_millis(2));
        } else {
            seen.slowest = seen.slowest.max(began.elapsed());
        }
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
    }
    seen
}
