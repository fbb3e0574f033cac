//! Envoy's access log, over gRPC on the check listener: what became of the requests that the gate admitted, without ever being on their way.
//!
//! ```text
//! stream --message--> queue (bounded) --> the thread that counts --> ledger, metrics
//! ```
//!
//! A stream only moves bytes: reading them, and waiting for the ledger if that is slow, is the thread's business, and what the queue
//! cannot take is dropped and counted. Envoy sends each entry once and tells nobody what it lost, and it does not repeat what we lost:
//! an answer is counted at most once, and as exactly as Envoy delivers.

mod book;
mod entry;
pub(in crate::grpc) mod stream;
mod wire;

#[cfg(test)]
mod tests;

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use bytes::Bytes;
use prost::Message as _;

use crate::clock::Clock;
use crate::grpc::access_log::book::Book;
use crate::grpc::access_log::wire::Batch;
use crate::model::rules::Rules;
use crate::model::usage::Tally;
use crate::telemetry::access_log_metrics::AccessLogMetrics;
use crate::telemetry::access_log_metrics::DropReason;

/// The service that Envoy asks for.
pub const SERVICE: &str = "envoy.service.accesslog.v3.AccessLogService";
/// A larger message is not read. Envoy sends one when it has `buffer_size_bytes` (16 KiB where nothing is said) of entries.
pub const MESSAGE_MAX: usize = 256 * 1024;
/// Streams at once. Every worker thread of every Envoy has one.
const STREAMS_MAX: usize = 1024;
/// Messages that wait, and what they weigh together.
const QUEUE_LENGTH: usize = 16_384;
const QUEUE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Where streams hand in what they receive.
#[derive(Debug)]
pub struct AccessLog {
    queue: SyncSender<Work>,
    waiting_bytes: Arc<AtomicUsize>,
    streams: AtomicUsize,
    metrics: Arc<AccessLogMetrics>,
}

/// The thread that counts, to be waited for at the end.
#[derive(Debug)]
pub struct Counter {
    queue: SyncSender<Work>,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
enum Work {
    Message(Bytes),
    /// What waits before this is counted, and nothing after it.
    End,
}

impl AccessLog {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system refuses one.
    pub fn start(
        ledger: Arc<dyn Tally>,
        rules: Arc<ArcSwap<Rules>>,
        clock: Arc<dyn Clock>,
        metrics: Arc<AccessLogMetrics>,
    ) -> std::io::Result<(Arc<Self>, Counter)> {
        let (queue, waiting) = sync_channel(QUEUE_LENGTH);
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let book = Book::new(ledger, rules, clock, Arc::clone(&metrics));
        let (taken, lost) = (Arc::clone(&waiting_bytes), Arc::clone(&metrics));
        let run = move || count_all(book, &waiting, &taken, &lost);
        let thread = std::thread::Builder::new().name(String::from("access-log")).spawn(run)?;
        let log = Self { queue: queue.clone(), waiting_bytes, streams: AtomicUsize::new(0), metrics };
        Ok((Arc::new(log), Counter { queue, thread }))
    }

    /// Never waits.
    pub fn offer(&self, message: Bytes) {
        let weight = message.len();
        let before = self.waiting_bytes.fetch_add(weight, Ordering::Relaxed);
        let message = if before.saturating_add(weight) > QUEUE_BYTES_MAX {
            message
        } else {
            match self.queue.try_send(Work::Message(message.clone())) {
                Ok(()) => return,
                Err(_full) => message,
            }
        };
        self.waiting_bytes.fetch_sub(weight, Ordering::Relaxed);
        self.metrics.dropped(DropReason::QueueFull, entries_of(message));
    }
}

impl Counter {
    /// Blocks until everything that was handed in is in the ledger.
    pub fn finish(self) {
        let _ = self.queue.send(Work::End);
        // A thread that panicked has nothing left to count.
        let _ = self.thread.join();
    }
}

fn count_all(mut book: Book, waiting: &Receiver<Work>, waiting_bytes: &AtomicUsize, metrics: &AccessLogMetrics) {
    while let Ok(Work::Message(message)) = waiting.recv() {
        let weight = message.len();
        // What a message can do to the thread must not end the counting of all others.
        if catch_unwind(AssertUnwindSafe(|| book.enter(message))).is_err() {
            metrics.dropped(DropReason::Malformed, 1);
        }
        waiting_bytes.fetch_sub(weight, Ordering::Relaxed);
    }
}

/// How many entries a message has; one, where that cannot be seen.
fn entries_of(message: Bytes) -> usize {
    let count = |batch: Batch| batch.http.map_or(0, |http| http.entries.len()) + batch.tcp.map_or(0, |tcp| tcp.entries.len());
    Batch::decode(message).map_or(1, count)
}
