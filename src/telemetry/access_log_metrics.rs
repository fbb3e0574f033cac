//! Metrics of Envoy's access log, where it is taken. Routes are those of the config or `other`, so their number is bounded.

use std::time::Duration;

use prometheus::HistogramVec;
use prometheus::IntCounter;
use prometheus::IntCounterVec;
use prometheus::IntGauge;

use crate::model::usage::Outcome;
use crate::telemetry::Metrics;
use crate::telemetry::families::Family;
use crate::telemetry::families::one_of;
use crate::telemetry::families::some;
use crate::telemetry::metrics::MetricsError;

/// From 1 ms to a minute: these are upstreams' answers, bodies included.
const ANSWER_BUCKETS: [f64; 12] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0];

/// What an entry was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    Counted,
    /// Of a request that was refused.
    Refused,
    Preflight,
    /// Of a request about which the gate was not asked.
    Unjudged,
    /// Of a request that goes on.
    Unfinished,
    Tcp,
}

impl EntryKind {
    const LABELS: [&'static str; 6] = [
        Self::Counted.label(),
        Self::Refused.label(),
        Self::Preflight.label(),
        Self::Unjudged.label(),
        Self::Unfinished.label(),
        Self::Tcp.label(),
    ];

    const fn label(self) -> &'static str {
        match self {
            Self::Counted => "counted",
            Self::Refused => "refused",
            Self::Preflight => "preflight",
            Self::Unjudged => "unjudged",
            Self::Unfinished => "unfinished",
            Self::Tcp => "tcp",
        }
    }
}

/// Why entries were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    QueueFull,
    Ledger,
    TooMany,
    /// Counts a message: what was in it is not known.
    Malformed,
    /// Counts a message.
    TooLong,
    /// Counts a stream.
    TooManyStreams,
}

impl DropReason {
    const LABELS: [&'static str; 6] = [
        Self::QueueFull.label(),
        Self::Ledger.label(),
        Self::TooMany.label(),
        Self::Malformed.label(),
        Self::TooLong.label(),
        Self::TooManyStreams.label(),
    ];

    const fn label(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Ledger => "ledger",
            Self::TooMany => "too_many",
            Self::Malformed => "malformed",
            Self::TooLong => "too_long",
            Self::TooManyStreams => "too_many_streams",
        }
    }
}

/// A name that is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// Counted as `anonymous`.
    User,
    /// Counted as `other`.
    Route,
}

impl Unknown {
    const LABELS: [&'static str; 2] = [Self::User.label(), Self::Route.label()];

    const fn label(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Route => "route",
        }
    }
}

/// All of them.
#[derive(Debug)]
pub struct AccessLogMetrics {
    families: Vec<Family>,
    entries: IntCounterVec,
    dropped: IntCounterVec,
    unknown: IntCounterVec,
    /// Open streams.
    pub streams: IntGauge,
    durations: HistogramVec,
    request_bytes: IntCounterVec,
    response_bytes: IntCounterVec,
}

impl AccessLogMetrics {
    /// Adds them to the others.
    ///
    /// # Errors
    /// [`MetricsError`] when they are there already: a mistake of ours.
    pub fn register(metrics: &Metrics) -> Result<Self, MetricsError> {
        let maker = metrics.maker();
        let by_route =
            [some("route", "names of `routes` in the config, or `other`"), one_of("status", &["1xx", "2xx", "3xx", "4xx", "5xx", "none"])];
        let mut this = Self {
            families: Vec::new(),
            entries: maker.counters_at_zero(
                "access_log_entries_total",
                "Entries of Envoy's access log, by what they were.",
                [one_of("kind", &EntryKind::LABELS)],
            )?,
            dropped: maker.counters_at_zero(
                "access_log_dropped_total",
                "Entries of Envoy's access log that were not counted; where the reason is malformed, too_long or too_many_streams: messages \
                 and streams.",
                [one_of("reason", &DropReason::LABELS)],
            )?,
            unknown: maker.counters_at_zero(
                "access_log_unknown_total",
                "Answers that were counted as `anonymous` or `other`, because their user or route is not known here.",
                [one_of("name", &Unknown::LABELS)],
            )?,
            streams: maker.gauge("access_log_streams", "Streams of Envoy's access log that are open.")?,
            durations: maker.histograms(
                "answer_duration_seconds",
                "Time of admitted requests, from the first byte to the last of the answer, as Envoy logs it.",
                by_route,
                &ANSWER_BUCKETS,
            )?,
            request_bytes: maker.counters("answer_request_bytes_total", "Bytes of admitted requests, headers included.", by_route)?,
            response_bytes: maker.counters("answer_response_bytes_total", "Bytes of their answers, headers included.", by_route)?,
        };
        this.families = maker.finish();
        Ok(this)
    }

    /// As [`Metrics::families`], of these.
    pub fn families(&self) -> &[Family] {
        &self.families
    }

    pub fn entries(&self, kind: EntryKind, count: usize) {
        add(&self.entries.with_label_values(&[kind.label()]), count as u64);
    }

    pub fn dropped(&self, reason: DropReason, count: usize) {
        add(&self.dropped.with_label_values(&[reason.label()]), count as u64);
    }

    pub fn unknown(&self, unknown: Unknown) {
        self.unknown.with_label_values(&[unknown.label()]).inc();
    }

    /// How many were dropped for this reason.
    pub fn dropped_for(&self, reason: DropReason) -> u64 {
        self.dropped.with_label_values(&[reason.label()]).get()
    }

    /// How many of this kind there were.
    pub fn entries_of(&self, kind: EntryKind) -> u64 {
        self.entries.with_label_values(&[kind.label()]).get()
    }

    /// One answer. The route is the config's, or `other`.
    pub fn answered(&self, route: &str, outcome: Outcome, duration: Option<Duration>, request_bytes: u64, response_bytes: u64) {
        let labels = [route, status_label(outcome)];
        if let Some(duration) = duration {
            self.durations.with_label_values(&labels).observe(duration.as_secs_f64());
        }
        add(&self.request_bytes.with_label_values(&labels), request_bytes);
        add(&self.response_bytes.with_label_values(&labels), response_bytes);
    }
}

/// A counter that wrapped would look like a restart.
fn add(counter: &IntCounter, more: u64) {
    counter.inc_by(more.min(u64::MAX.saturating_sub(counter.get())));
}

/// The class of a status.
const fn status_label(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Answered1xx => "1xx",
        Outcome::Answered2xx => "2xx",
        Outcome::Answered3xx => "3xx",
        Outcome::Answered4xx => "4xx",
        Outcome::Answered5xx => "5xx",
        Outcome::Unanswered | Outcome::Allowed | Outcome::Limited | Outcome::Refused => "none",
    }
}
