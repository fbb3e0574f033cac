//! The thread that makes spans and sends them. OpenTelemetry's own batch processor tells nobody what it drops, so the queue and the
//! batches are ours; the protocol, its retries and what `OTEL_*` says about them are the library's.

use std::thread::JoinHandle;
use std::time::Duration;

use opentelemetry::Key;
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_otlp::SpanExporter as OtlpExporter;
use opentelemetry_otlp::WithTonicConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanExporter;
use prometheus::IntCounterVec;
use tokio::runtime::Builder;
use tokio::sync::mpsc::Receiver;
use tonic::transport::Certificate;
use tonic::transport::Channel;
use tonic::transport::ClientTlsConfig;
use tonic::transport::Endpoint;

use crate::telemetry::traces::RESULTS;
use crate::telemetry::traces::spans;
use crate::telemetry::traces::trail::Traced;

/// Checks that are sent in one message at the most: far below what a collector takes at once, 4 MiB.
const BATCH_MAX: usize = 128;
/// How long a message that is not full is waited for.
const GATHER: Duration = Duration::from_millis(500);
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
const SILENCE_MAX: Duration = Duration::from_secs(4);
const SERVICE_NAME: &str = "service.name";

/// Where traces go.
#[derive(Clone, Debug)]
pub struct Collector {
    /// `http://host:port`, or `https://` for TLS.
    pub endpoint: String,
    /// Authorities of its certificate, PEM; none: the system's.
    pub authorities: Option<Vec<u8>>,
}

/// Why no traces can be sent.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    #[error("no thread for traces: {0}")]
    Thread(#[from] std::io::Error),
    #[error("`traces.endpoint` cannot be used: {0:?}")]
    Endpoint(#[from] tonic::transport::Error),
    #[error("traces cannot be exported: {0}")]
    Exporter(#[from] ExporterBuildError),
}

/// The thread, to be waited for at the end.
#[derive(Debug)]
pub struct Sender(JoinHandle<()>);

impl Sender {
    /// Blocks until what waits is sent or given up; the last handle of the traces must be gone.
    pub fn finish(self) {
        // A sender that panicked has nothing left to send.
        let _ = self.0.join();
    }
}

pub(super) fn start(collector: &Collector, waiting: Receiver<Traced>, results: &IntCounterVec) -> Result<Sender, TracesError> {
    // No worker of the checks makes, packs or sends spans.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let entered = runtime.enter();
    let mut exporter = OtlpExporter::builder().with_tonic().with_channel(channel(collector)?).build()?;
    exporter.set_resource(&resource());
    drop(entered);
    let results = results.clone();
    let thread =
        std::thread::Builder::new().name(String::from("traces")).spawn(move || runtime.block_on(run(exporter, waiting, &results)))?;
    Ok(Sender(thread))
}

fn channel(collector: &Collector) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(collector.endpoint.clone())?.connect_timeout(CONNECT_TIME_MAX);
    // A message that long without an answer asks whether anybody is there; if not, the next one goes over a new connection.
    let endpoint = endpoint.http2_keep_alive_interval(SILENCE_MAX).keep_alive_timeout(SILENCE_MAX);
    let tls = match &collector.authorities {
        Some(authorities) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authorities)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    let encrypted = endpoint.uri().scheme_str() == Some("https");
    Ok(if encrypted { endpoint.tls_config(tls)? } else { endpoint }.connect_lazy())
}

/// `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`, which the library reads, over a name of our own.
fn resource() -> Resource {
    let told = Resource::builder().build();
    let name = told.get(&Key::from_static_str(SERVICE_NAME));
    match name {
        Some(name) if !name.as_str().starts_with("unknown_service") => told,
        Some(_) | None => Resource::builder().with_service_name("tollgate").build(),
    }
}

async fn run(exporter: impl SpanExporter, mut waiting: Receiver<Traced>, results: &IntCounterVec) {
    let [sent, _, _, failed] = RESULTS.map(|result| results.with_label_values(&[result]));
    let mut batch = Vec::with_capacity(BATCH_MAX);
    let mut fails = false;
    while waiting.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let gather = async {
            while batch.len() < BATCH_MAX
                && let Some(traced) = waiting.recv().await
            {
                batch.push(traced);
            }
        };
        let _ = tokio::time::timeout(GATHER, gather).await;
        let mut spans = Vec::new();
        batch.iter().for_each(|traced| spans::write(traced, &mut spans));
        let checks = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        batch.clear();
        match exporter.export(spans).await {
            Ok(()) => {
                sent.inc_by(checks);
                if std::mem::take(&mut fails) {
                    tracing::info!("the collector takes traces again");
                }
            }
            Err(error) => {
                failed.inc_by(checks);
                if !std::mem::replace(&mut fails, true) {
                    tracing::warn!(%error, "the collector takes no traces; they are dropped and counted until it does");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::Mutex;

    use opentelemetry_sdk::error::OTelSdkError;
    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::trace::SpanData;
    use tokio::sync::mpsc;

    use super::*;
    use crate::check::reasons::Reason;
    use crate::clock::Clock;
    use crate::clock::ManualClock;
    use crate::model::time::Timestamp;
    use crate::telemetry::Metrics;
    use crate::telemetry::traces::trail::Trail;

    /// Takes every second message, and keeps how many spans it held.
    #[derive(Debug, Default)]
    struct Moody(Arc<Mutex<Vec<usize>>>);

    impl SpanExporter for Moody {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            let mut told = self.0.lock().unwrap();
            told.push(batch.len());
            if told.len() % 2 == 1 { Ok(()) } else { Err(OTelSdkError::InternalFailure("away".to_owned())) }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_sent_in_bounded_messages_and_every_check_is_counted_once() {
        let metrics = Metrics::new().unwrap();
        let (queue, waiting) = mpsc::channel(1000);
        let exporter = Moody::default();
        let told = Arc::clone(&exporter.0);
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::starting_at(Timestamp::from_unix_seconds(1)));
        for _ in 0..BATCH_MAX * 3 + 5 {
            let trail = Arc::new(Trail::new(None, &clock, clock.now()));
            let (ended, revision) = (clock.now(), "r".into());
            let traced = Traced { trail, ended, reason: Reason::Ok, status: 200, route: None, request_id: None, revision, dry_run: false };
            queue.try_send(traced).unwrap();
        }
        drop(queue);
        run(exporter, waiting, &metrics.traces).await;
        assert_eq!(*told.lock().unwrap(), [BATCH_MAX, BATCH_MAX, BATCH_MAX, 5]);
        let became = |result| usize::try_from(metrics.traces.with_label_values(&[result]).get()).unwrap();
        assert_eq!((became("sent"), became("failed")), (BATCH_MAX * 2, BATCH_MAX + 5));
    }

    #[test]
    fn a_collector_needs_not_be_there_and_must_be_an_address() {
        let results = Metrics::new().unwrap().traces;
        let started = |endpoint: &str| {
            let (queue, waiting) = mpsc::channel(1);
            drop(queue);
            start(&Collector { endpoint: endpoint.to_owned(), authorities: None }, waiting, &results).map(Sender::finish)
        };
        assert!(started("http://127.0.0.1:1").is_ok());
        assert!(matches!(started("no address"), Err(TracesError::Endpoint(_))));
    }
}
