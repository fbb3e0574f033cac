//! Steady clients that note every answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Instant;

use crate::support::http1::Connection;

/// What some clients saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub statuses: BTreeMap<u16, u64>,
    /// Answers that were not 200, in full, the first few.
    pub samples: Vec<String>,
    /// Connections that broke.
    pub broken: u64,
    /// When the first and the last answer came that was not 200.
    pub failing: Option<(Instant, Instant)>,
}

impl Tally {
    pub fn of(&self, status: u16) -> u64 {
        self.statuses.get(&status).copied().unwrap_or(0)
    }

    pub fn total(&self) -> u64 {
        self.statuses.values().sum()
    }

    /// # Panics
    /// Unless every answer was 200 and no connection broke.
    pub fn assert_flawless(&self, least: u64) {
        assert!(self.of(200) == self.total() && self.broken == 0, "not every request was let through: {self:?}");
        assert!(self.total() >= least, "only {} requests in the whole run", self.total());
    }

    fn add(&mut self, other: Self) {
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.samples.extend(other.samples);
        self.broken += other.broken;
        if let Some((first, last)) = other.failing {
            self.failed_at(first);
            self.failed_at(last);
        }
    }

    fn failed_at(&mut self, now: Instant) {
        let (first, last) = self.failing.unwrap_or((now, now));
        self.failing = Some((first.min(now), last.max(now)));
    }
}

/// Threads that each repeat one request on a connection that is kept, until they are told to stop.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Tally>>,
}

impl Load {
    /// One client a message.
    pub fn start(port: u16, messages: Vec<Vec<u8>>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = messages.into_iter().map(|message| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || repeat(port, &message, &stop))
        });
        Self { clients: clients.collect(), stop }
    }

    /// Stops the clients after the answer that each is waiting for.
    pub fn finish(self) -> Tally {
        self.finish_each().into_iter().fold(Tally::default(), |mut sum, tally| {
            sum.add(tally);
            sum
        })
    }

    /// The same, one tally a client.
    pub fn finish_each(self) -> Vec<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().map(|client| client.join().expect("a client thread")).collect()
    }
}

fn repeat(port: u16, message: &[u8], stop: &AtomicBool) -> Tally {
    let mut tally = Tally::default();
    let mut connection = None;
    while !stop.load(Ordering::Relaxed) {
        let answer = match connection.take() {
            Some(open) => Ok(open),
            None => Connection::open(port),
        }
        .and_then(|mut open: Connection| {
            let reply = open.exchange(message)?;
            Ok((open, reply))
        });
        match answer {
            Ok((open, reply)) => {
                *tally.statuses.entry(reply.status).or_default() += 1;
                if reply.status != 200 {
                    tally.failed_at(Instant::now());
                }
                if reply.status != 200 && tally.samples.len() < 3 {
                    tally.samples.push(format!("{} {}", reply.status, reply.text()));
                }
                if reply.header("connection") != Some("close") {
                    connection = Some(open);
                }
            }
            Err(error) => {
                tally.broken += 1;
                tally.failed_at(Instant::now());
                if tally.samples.len() < 3 {
                    tally.samples.push(error.to_string());
                }
            }
        }
    }
    tally
}
