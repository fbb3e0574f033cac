//! The decision log: one wide JSON line a decision, written by a thread of its own through a bounded queue. A slow reader of the log
//! costs lines, which are counted, and never a check.
//!
//! The line is made where the decision is: one buffer, which borrows all that it says, is cheaper than the copies that another thread
//! would need. The writer gathers what comes within [`GATHERING`] of the first line, so that it is woken and writes for many at once.

use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::TryRecvError;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Duration;

use prometheus::IntCounter;
use serde::Serialize;
use serde::Serializer;

use crate::model::key_text::find_credential;
use crate::model::time::Timestamp;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::share::Due;

/// Lines that wait for the writer at the most.
pub const QUEUE_LENGTH: usize = 8192;
/// Longer values are cut.
const VALUE_MAX: usize = 512;
/// What most lines are shorter than, in bytes.
const LINE_USUAL: usize = 640;
/// A line is seen so much later at the most.
const GATHERING: Duration = Duration::from_millis(10);

/// One decision as the log shows it. It has no field for a credential or a query; of a path see [`shown_path`].
#[derive(Clone, Debug, Serialize)]
pub struct Decision<'a> {
    /// RFC 3339, UTC, microseconds.
    #[serde(serialize_with = "write_instant")]
    pub ts: Timestamp,
    pub event: &'static str,
    /// `allow`, `deny` or `fault`.
    pub decision: &'static str,
    pub reason: &'static str,
    /// The verdict was for this log alone, and the request went through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    /// The HTTP status that the client sees; 200 for an allow.
    pub status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<&'a str>,
    /// Judged by what was known before the shared store fell silent, so long ago.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<&'a str>,
    /// Without its query; see [`shown_path`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_address: Option<IpAddr>,
    /// The id that the client was told, or Envoy's `x-request-id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<&'a str>,
    /// Envoy's `x-request-id` where the client was told another id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x_request_id: Option<&'a str>,
    /// The trace that shows this check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    pub duration_us: u64,
    pub config_revision: &'a str,
    /// What the client was not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<&'a str>,
}

/// Where decisions are offered. Dropping it lets the writer finish what waits and end.
#[derive(Debug)]
pub struct DecisionLog {
    queue: SyncSender<Vec<u8>>,
    dropped: IntCounter,
    sampled: Due,
}

/// The writer's thread, to be waited for at the end.
#[derive(Debug)]
pub struct Writer(JoinHandle<()>);

impl Writer {
    /// Blocks until every queued line is written; the log's last handle must be gone.
    pub fn finish(self) {
        // A writer that panicked has nothing left to say.
        let _ = self.0.join();
    }
}

impl DecisionLog {
    /// Starts the writer.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(out: impl Write + Send + 'static, length: usize, metrics: &Metrics) -> std::io::Result<(Arc<Self>, Writer)> {
        let (queue, waiting) = sync_channel(length);
        let dropped = metrics.log_events_dropped.with_label_values(&["decisions"]);
        let lost = dropped.clone();
        let thread = std::thread::Builder::new().name(String::from("decision-log")).spawn(move || write_all(out, &waiting, &lost))?;
        Ok((Arc::new(Self { queue, dropped, sampled: Due::default() }), Writer(thread)))
    }

    /// Whether an allow is due under this share (0.0 to 1.0).
    pub fn allow_is_due(&self, share: f64) -> bool {
        self.sampled.is_next(share)
    }

    /// Never waits.
    pub fn offer(&self, decision: &Decision<'_>) {
        let mut line = Vec::with_capacity(LINE_USUAL);
        let written = serde_json::to_writer(&mut line, decision);
        line.push(b'\n');
        if written.is_err() || self.queue.try_send(line).is_err() {
            self.dropped.inc();
        }
    }
}

/// RFC 3339 in UTC with microseconds.
pub fn rfc3339(instant: Timestamp) -> String {
    in_utc(instant).map_or_else(String::new, |instant| format!("{instant:.6}"))
}

fn write_instant<S: Serializer>(instant: &Timestamp, out: S) -> Result<S::Ok, S::Error> {
    match in_utc(*instant) {
        Some(instant) => out.collect_str(&format_args!("{instant:.6}")),
        None => out.serialize_str(""),
    }
}

fn in_utc(instant: Timestamp) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_nanosecond(i128::from(instant.as_nanos()) / 1000 * 1000).ok()
}

/// At most its first 512 bytes, whole characters.
pub fn clipped(text: &str) -> &str {
    let mut end = text.len().min(VALUE_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// A path up to the first thing in it that shows a key of ours or a JWT; what clients put there by mistake is nobody's to read.
pub fn shown_path<'a>(path: &'a str, brand: &str) -> &'a str {
    let path = clipped(path);
    find_credential(brand, path).and_then(|found| path.get(..found.end)).unwrap_or(path)
}

fn write_all(out: impl Write, waiting: &Receiver<Vec<u8>>, lost: &IntCounter) {
    let mut out = std::io::BufWriter::with_capacity(64 * 1024, out);
    loop {
        let line = match waiting.try_recv() {
            Ok(line) => line,
            Err(TryRecvError::Empty) => {
                // Nobody waits for the disk or the pipe here: whoever reads sees lines as soon as the queue is empty.
                let _ = out.flush();
                let Ok(line) = waiting.recv() else { return };
                std::thread::sleep(GATHERING);
                line
            }
            Err(TryRecvError::Disconnected) => {
                let _ = out.flush();
                return;
            }
        };
        // A log that cannot be written is no reason to stop judging.
        if out.write_all(&line).is_err() {
            lost.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::channel;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn bare() -> Decision<'static> {
        Decision {
            ts: Timestamp::from_unix_seconds(0),
            event: "check",
            decision: "allow",
            reason: "allowed",
            dry_run: None,
            status: 200,
            route: None,
            user: None,
            org: None,
            key_id: None,
            tier: None,
            grace_ms: None,
            method: None,
            host: None,
            path: None,
            client_address: None,
            request_id: None,
            x_request_id: None,
            trace_id: None,
            duration_us: 0,
            config_revision: "r",
            detail: None,
        }
    }

    // battery: H17
    #[test]
    fn a_path_ends_where_a_credential_begins() {
        let jwt = "/v;jwt=eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln";
        let long = format!("/{}", "x".repeat(600));
        for (path, shown) in [
            ("/users/1", "/users/1"),
            ("/opt/x:tg_live_sk_S3cret/b", "/opt/x:tg_"),
            ("/other_live_sk_S3cret", "/other_live_sk_"),
            (jwt, "/v;jwt=eyJ"),
            (&long, &long[..512]),
        ] {
            assert_eq!(shown_path(path, "tg"), shown);
        }
    }

    #[test]
    fn a_line_is_json_whatever_stands_in_it() {
        let metrics = Metrics::new().unwrap();
        let sink = Sink::default();
        let (log, writer) = DecisionLog::start(sink.clone(), 4, &metrics).unwrap();
        let nasty = "/a\n{\"decision\":\"allow\"}\u{1b}[2J\r\0";
        log.offer(&Decision { path: Some(clipped(nasty)), ..bare() });
        drop(log);
        writer.finish();
        let written = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert_eq!(written.matches('\n').count(), 1, "{written}");
        assert!(!written.trim_end().contains(char::is_control));
        let line: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(line["path"], nasty);
    }

    #[test]
    fn a_slow_reader_costs_lines_and_they_are_counted() {
        struct Stuck(Receiver<()>);
        impl Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                let _ = self.0.recv();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let metrics = Metrics::new().unwrap();
        let (release, stuck) = channel();
        let (log, writer) = DecisionLog::start(Stuck(stuck), 2, &metrics).unwrap();
        // Each offer past the queue and the one or two lines in the writer's hands is dropped at once.
        let detail = "x".repeat(500);
        for _ in 0..2000 {
            log.offer(&Decision { detail: Some(&detail), ..bare() });
        }
        let dropped = metrics.log_events_dropped.with_label_values(&["decisions"]).get();
        assert!(dropped > 0, "nothing was dropped");
        drop(log);
        drop(release);
        writer.finish();
    }

    #[test]
    fn instants_read_as_utc_with_microseconds() {
        assert_eq!(rfc3339(Timestamp::from_nanos(1_700_000_000_123_456_789)), "2023-11-14T22:13:20.123456Z");
        assert_eq!(rfc3339(Timestamp::from_unix_seconds(0)), "1970-01-01T00:00:00.000000Z");
    }
}
