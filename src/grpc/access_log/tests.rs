use std::collections::BTreeMap;
use std::sync::Mutex;

use envoy_types::pb::envoy::config::core::v3::Metadata;
use envoy_types::pb::envoy::data::accesslog::v3::AccessLogCommon;
use envoy_types::pb::envoy::data::accesslog::v3::AccessLogType;
use envoy_types::pb::envoy::data::accesslog::v3::HttpAccessLogEntry;
use envoy_types::pb::envoy::data::accesslog::v3::HttpRequestProperties;
use envoy_types::pb::envoy::data::accesslog::v3::HttpResponseProperties;
use envoy_types::pb::envoy::data::accesslog::v3::TcpAccessLogEntry;
use envoy_types::pb::envoy::service::accesslog::v3::StreamAccessLogsMessage;
use envoy_types::pb::envoy::service::accesslog::v3::access_log_service_client::AccessLogServiceClient;
use envoy_types::pb::envoy::service::accesslog::v3::stream_access_logs_message::HttpAccessLogEntries;
use envoy_types::pb::envoy::service::accesslog::v3::stream_access_logs_message::LogEntries;
use envoy_types::pb::envoy::service::accesslog::v3::stream_access_logs_message::TcpAccessLogEntries;
use envoy_types::pb::google::protobuf::Duration as WireDuration;
use envoy_types::pb::google::protobuf::Struct;
use envoy_types::pb::google::protobuf::UInt32Value;
use envoy_types::pb::google::protobuf::Value;
use envoy_types::pb::google::protobuf::value::Kind;
use futures_util::StreamExt as _;
use proptest::prelude::ProptestConfig;
use proptest::proptest;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::Channel;
use tonic::transport::Endpoint as ClientEndpoint;

use super::*;
use crate::clock::ManualClock;
use crate::grpc::access_log::book::ENTRIES_MAX;
use crate::grpc::server::CheckServer;
use crate::grpc::server::ServerOptions;
use crate::grpc::testing::door;
use crate::grpc::testing::now;
use crate::grpc::testing::rules;
use crate::listen::Drained;
use crate::listen::address::Address;
use crate::listen::address::Endpoint;
use crate::listen::address::Listener;
use crate::model::rules::FaultAnswer;
use crate::model::usage::Line;
use crate::model::usage::NotCounted;
use crate::telemetry::Metrics;
use crate::telemetry::access_log_metrics::EntryKind;

/// Counts by line, knows Alice, and is full for whoever is called so.
#[derive(Debug, Default)]
struct Ledger(Mutex<BTreeMap<String, u64>>);

impl Tally for Ledger {
    fn add(&self, line: &Line<'_>, cost: u32) -> Result<(), NotCounted> {
        if line.user.as_str() == "full" {
            return Err(NotCounted(String::from("no room")));
        }
        assert_ne!(line.user.as_str(), "panic", "a fault point");
        assert_eq!((line.key, line.hour), (None, now().hour()));
        let text = format!("{} {} {}", line.user, line.route, line.outcome.as_str());
        *self.0.lock().unwrap().entry(text).or_default() += u64::from(cost);
        Ok(())
    }

    fn knows_user(&self, user: &str) -> bool {
        user == "alice"
    }
}

struct Bench {
    ledger: Arc<Ledger>,
    metrics: Arc<AccessLogMetrics>,
    page: Metrics,
    log: Arc<AccessLog>,
    counter: Option<Counter>,
}

impl Bench {
    fn new() -> Self {
        let (page, ledger) = (Metrics::new().unwrap(), Arc::new(Ledger::default()));
        let metrics = Arc::new(AccessLogMetrics::register(&page).unwrap());
        let rules = Arc::new(ArcSwap::from_pointee(rules(FaultAnswer::RpcError)));
        let clock = Arc::new(ManualClock::starting_at(now()));
        let (log, counter) = AccessLog::start(Arc::clone(&ledger) as Arc<_>, rules, clock, Arc::clone(&metrics)).unwrap();
        Self { ledger, metrics, page, log, counter: Some(counter) }
    }

    /// What was counted of everything that was handed in.
    fn counted(&mut self) -> BTreeMap<String, u64> {
        if let Some(counter) = self.counter.take() {
            counter.finish();
        }
        self.ledger.0.lock().unwrap().clone()
    }
}

fn counts<const N: usize>(list: [(&str, u64); N]) -> BTreeMap<String, u64> {
    list.into_iter().map(|(line, count)| (line.to_owned(), count)).collect()
}

fn fields(list: &[(&str, &str)]) -> Struct {
    let text = |value: &str| Value { kind: Some(Kind::StringValue(value.to_owned())) };
    Struct { fields: list.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect() }
}

fn entry(namespace: &str, list: &[(&str, &str)], status: u32) -> HttpAccessLogEntry {
    let metadata = Metadata { filter_metadata: [(namespace.to_owned(), fields(list))].into(), ..Metadata::default() };
    HttpAccessLogEntry {
        common_properties: Some(AccessLogCommon {
            metadata: Some(metadata),
            duration: Some(WireDuration { seconds: 0, nanos: 30_000_000 }),
            access_log_type: AccessLogType::DownstreamEnd.into(),
            ..AccessLogCommon::default()
        }),
        request: Some(HttpRequestProperties { request_headers_bytes: 100, request_body_bytes: 11, ..HttpRequestProperties::default() }),
        response: Some(HttpResponseProperties {
            response_code: (status > 0).then_some(UInt32Value { value: status }),
            response_headers_bytes: 200,
            response_body_bytes: 22,
            ..HttpResponseProperties::default()
        }),
        ..HttpAccessLogEntry::default()
    }
}

/// As our own answers say it.
fn own(list: &[(&str, &str)], status: u32) -> HttpAccessLogEntry {
    entry("envoy.filters.http.ext_authz", list, status)
}

fn admitted(user: &str, status: u32) -> HttpAccessLogEntry {
    own(&[("decision", "allow"), ("reason", "ok"), ("route", "closed"), ("user", user), ("key_id", "k1")], status)
}

fn kind_of(kind: AccessLogType) -> HttpAccessLogEntry {
    let mut entry = admitted("alice", 200);
    entry.common_properties.as_mut().unwrap().access_log_type = kind.into();
    entry
}

fn batch(entries: impl IntoIterator<Item = HttpAccessLogEntry>) -> StreamAccessLogsMessage {
    let entries = HttpAccessLogEntries { log_entry: entries.into_iter().collect() };
    StreamAccessLogsMessage { log_entries: Some(LogEntries::HttpLogs(entries)), ..StreamAccessLogsMessage::default() }
}

fn bytes(message: &StreamAccessLogsMessage) -> Bytes {
    Bytes::from(message.encode_to_vec())
}

#[test]
fn an_entry_is_counted_once_and_only_if_its_request_was_admitted() {
    let anonymous = own(&[("decision", "allow"), ("reason", "public"), ("route", "open")], 204);
    let table = [
        ("2xx", admitted("alice", 200), "alice closed answered_2xx", EntryKind::Counted),
        ("299", admitted("alice", 299), "alice closed answered_2xx", EntryKind::Counted),
        ("1xx", admitted("alice", 101), "alice closed answered_1xx", EntryKind::Counted),
        ("3xx", admitted("alice", 304), "alice closed answered_3xx", EntryKind::Counted),
        ("the upstream's own 4xx", admitted("alice", 403), "alice closed answered_4xx", EntryKind::Counted),
        ("5xx", admitted("alice", 503), "alice closed answered_5xx", EntryKind::Counted),
        ("the client went away", admitted("alice", 0), "alice closed unanswered", EntryKind::Counted),
        ("no status that there is", admitted("alice", 700), "alice closed unanswered", EntryKind::Counted),
        ("nobody", anonymous, "anonymous open answered_2xx", EntryKind::Counted),
        ("a stranger", admitted("bob", 200), "bob closed answered_2xx", EntryKind::Counted),
        ("an Envoy that names no kind", kind_of(AccessLogType::NotSet), "alice closed answered_2xx", EntryKind::Counted),
        ("a beginning", kind_of(AccessLogType::DownstreamStart), "", EntryKind::Unfinished),
        ("meanwhile", kind_of(AccessLogType::DownstreamPeriodic), "", EntryKind::Unfinished),
        ("Envoy to the upstream", kind_of(AccessLogType::UpstreamEnd), "", EntryKind::Unfinished),
        ("refused", own(&[("decision", "deny"), ("reason", "rate_limited"), ("user", "alice")], 429), "", EntryKind::Refused),
        ("a fault", own(&[("decision", "fault"), ("reason", "overloaded")], 503), "", EntryKind::Refused),
        ("a preflight", own(&[("decision", "allow"), ("reason", "preflight"), ("route", "open")], 200), "", EntryKind::Preflight),
        (
            "another filter's words",
            entry("envoy.filters.http.lua", &[("decision", "allow"), ("user", "alice")], 200),
            "",
            EntryKind::Unjudged,
        ),
        ("nothing", HttpAccessLogEntry::default(), "", EntryKind::Unjudged),
    ];
    for (what, entry, line, kind) in table {
        let mut bench = Bench::new();
        bench.log.offer(bytes(&batch([entry])));
        let expected = if line.is_empty() { BTreeMap::new() } else { counts([(line, 1)]) };
        assert_eq!(bench.counted(), expected, "{what}");
        assert_eq!(bench.metrics.entries_of(kind), 1, "{what}");
        assert_eq!(bench.page.render().matches("tollgate_answer_request_bytes_total{").count(), expected.len(), "{what}");
    }
}

#[test]
fn names_that_are_not_known_are_other_and_anonymous() {
    let mut bench = Bench::new();
    let gone = own(&[("decision", "allow"), ("route", "taken-out"), ("user", "alice")], 200);
    bench.log.offer(bytes(&batch([gone])));
    // Strangers' lines are begun up to a number, and those that were go on.
    let strangers = (0..10_100).map(|number| admitted(&format!("stranger-{number}"), 200)).collect::<Vec<_>>();
    for some in strangers.chunks(1000) {
        bench.log.offer(bytes(&batch(some.iter().cloned())));
    }
    bench.log.offer(bytes(&batch([admitted("stranger-7", 200), admitted("alice", 200)])));
    let counted = bench.counted();
    let of = |line: &str| counted.get(line).copied().unwrap_or_default();
    assert_eq!(of("alice other answered_2xx"), 1);
    assert_eq!(of("anonymous closed answered_2xx"), 100, "those beyond the number");
    assert_eq!((of("stranger-7 closed answered_2xx"), of("alice closed answered_2xx")), (2, 1));
    assert_eq!(counted.len(), 10_003);
    let text = bench.page.render();
    assert!(text.contains("tollgate_access_log_unknown_total{name=\"user\"} 100"), "{text}");
    assert!(text.contains("tollgate_access_log_unknown_total{name=\"route\"} 1"));
    assert!(!text.contains("stranger") && !text.contains("taken-out"), "no name from outside is a label");
}

#[test]
fn a_name_that_we_never_gave_is_counted_for_nobody() {
    let mut bench = Bench::new();
    let long = "x".repeat(129);
    let forged = [
        "anonymous",
        "__other__",
        "*",
        "a b",
        "a\u{1b}[2J",
        "a\n",
        "\u{fc}",
        "a,b",
        "a:b:c",
        "A:b",
        "a%2c",
        "a%",
        "%41",
        ":a",
        "a:",
        &long,
    ];
    bench.log.offer(bytes(&batch(forged.map(|name| admitted(name, 200)))));
    let given = ["%61nonymous", "idp:b%3Ac", "a%252C", "100%25"];
    bench.log.offer(bytes(&batch(given.map(|name| admitted(name, 200)))));
    let expected = given.map(|name| (format!("{name} closed answered_2xx"), 1));
    assert_eq!(bench.counted(), BTreeMap::from(expected));
    assert_eq!(bench.metrics.dropped_for(DropReason::Malformed), 16);
}

#[test]
fn strangers_are_bounded_by_what_they_make_of_the_ledger() {
    let mut bench = Bench::new();
    let statuses = [100, 200, 300, 400, 500, 0];
    for stranger in 0..2_000 {
        bench.log.offer(bytes(&batch(statuses.map(|status| admitted(&format!("stranger-{stranger}"), status)))));
    }
    let counted = bench.counted();
    assert_eq!(counted.keys().filter(|line| line.starts_with("stranger")).count(), 10_000);
    assert_eq!(counted.values().sum::<u64>(), 12_000);
}

#[test]
fn times_and_bytes_are_kept_by_route_and_class() {
    let mut bench = Bench::new();
    let mut odd = admitted("alice", 200);
    odd.common_properties.as_mut().unwrap().duration = Some(WireDuration { seconds: -5, nanos: 7 });
    odd.request.as_mut().unwrap().request_body_bytes = u64::MAX;
    bench.log.offer(bytes(&batch([admitted("alice", 500), admitted("bob", 502), odd])));
    bench.counted();
    let text = bench.page.render();
    for line in [
        "tollgate_answer_duration_seconds_bucket{route=\"closed\",status=\"5xx\",le=\"0.025\"} 0",
        "tollgate_answer_duration_seconds_bucket{route=\"closed\",status=\"5xx\",le=\"0.05\"} 2",
        "tollgate_answer_request_bytes_total{route=\"closed\",status=\"5xx\"} 222",
        "tollgate_answer_response_bytes_total{route=\"closed\",status=\"5xx\"} 444",
        "tollgate_answer_response_bytes_total{route=\"closed\",status=\"2xx\"} 222",
        "tollgate_access_log_entries_total{kind=\"counted\"} 3",
        "tollgate_access_log_dropped_total{reason=\"queue_full\"} 0",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(!text.contains("answer_duration_seconds_count{route=\"closed\",status=\"2xx\"}"), "a time below zero is none");
}

#[test]
fn what_cannot_be_counted_is_dropped_told_and_stops_nothing() {
    let mut bench = Bench::new();
    bench.log.offer(Bytes::from_static(b"\xff\xff\xff"));
    let broken = Batch { http: Some(wire::Entries { entries: vec![Bytes::from_static(b"\x0a\xff")] }), tcp: None };
    bench.log.offer(Bytes::from(broken.encode_to_vec()));
    let empty = Batch { http: Some(wire::Entries { entries: vec![Bytes::new(); ENTRIES_MAX + 3] }), tcp: None };
    bench.log.offer(Bytes::from(empty.encode_to_vec()));
    bench.log.offer(bytes(&batch([admitted("full", 200), admitted("panic", 200)])));
    let tcp = LogEntries::TcpLogs(TcpAccessLogEntries { log_entry: vec![TcpAccessLogEntry::default()] });
    bench.log.offer(bytes(&StreamAccessLogsMessage { log_entries: Some(tcp), ..StreamAccessLogsMessage::default() }));
    bench.log.offer(bytes(&batch([admitted("alice", 200)])));
    assert_eq!(bench.counted(), counts([("alice closed answered_2xx", 1)]));
    let drops = [
        (DropReason::Malformed, 3),
        (DropReason::TooMany, 3),
        (DropReason::Ledger, 1),
        (DropReason::QueueFull, 0),
        (DropReason::TooLong, 0),
    ];
    for (reason, count) in drops {
        assert_eq!(bench.metrics.dropped_for(reason), count, "{reason:?}");
    }
    assert_eq!(bench.metrics.entries_of(EntryKind::Tcp), 1);
    assert_eq!(bench.metrics.entries_of(EntryKind::Unjudged), ENTRIES_MAX as u64);
}

#[test]
fn a_ledger_that_hangs_costs_entries_and_never_waits() {
    let mut bench = Bench::new();
    // The ledger's lock is held, so the thread hangs in the first message.
    let ledger = Arc::clone(&bench.ledger);
    let held = ledger.0.lock().unwrap();
    let message = bytes(&batch((0..1000).map(|_| admitted("alice", 200))));
    let fit = QUEUE_BYTES_MAX / message.len();
    for _ in 0..fit + 7 {
        bench.log.offer(message.clone());
    }
    let dropped = bench.metrics.dropped_for(DropReason::QueueFull);
    assert_eq!(dropped, 7000);
    drop(held);
    let expected = (fit as u64) * 1000;
    assert_eq!(bench.counted(), counts([("alice closed answered_2xx", expected)]));
    assert_eq!(bench.log.waiting_bytes.load(Ordering::Relaxed), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_an_entry_or_none(bytes in proptest::collection::vec(0_u8..=255, 0..200)) {
        let _ = entry::read(Bytes::from(bytes.clone()));
        let _ = entries_of(Bytes::from(bytes));
    }
}

async fn serve(log: Option<Arc<AccessLog>>, options: ServerOptions) -> (CheckServer, AccessLogServiceClient<Channel>) {
    let endpoint = Endpoint::Tcp("127.0.0.1:0".parse().unwrap());
    let listener = Listener::bind(&endpoint, "check").await.unwrap();
    let server = CheckServer::start(listener, None, door(FaultAnswer::RpcError, 10), log, options).await;
    let Address::Tcp(address) = server.server.address() else { panic!("it is TCP") };
    let channel = ClientEndpoint::new(format!("http://{address}")).unwrap().connect().await.unwrap();
    (server, AccessLogServiceClient::new(channel))
}

#[tokio::test]
async fn where_it_is_not_switched_on_there_is_no_such_service() {
    let (_server, mut client) = serve(None, ServerOptions::default()).await;
    let status = client.stream_access_logs(futures_util::stream::iter([batch([])])).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().contains("access_log: accepted"), "{status}");
}

#[tokio::test]
async fn a_stream_is_taken_to_its_end_and_answered_once() {
    let mut bench = Bench::new();
    let (_server, mut client) = serve(Some(Arc::clone(&bench.log)), ServerOptions::default()).await;
    let messages = (0..50).map(|number| batch([admitted("alice", 200 + number % 2 * 200), admitted("bob", 500)]));
    client.stream_access_logs(futures_util::stream::iter(messages.collect::<Vec<_>>())).await.unwrap();
    let expected = counts([("alice closed answered_2xx", 25), ("alice closed answered_4xx", 25), ("bob closed answered_5xx", 50)]);
    assert_eq!(bench.counted(), expected);
    assert_eq!(bench.metrics.streams.get(), 0);
}

#[tokio::test]
async fn a_message_over_the_bound_ends_its_stream_and_is_told() {
    let mut bench = Bench::new();
    let (_server, mut client) = serve(Some(Arc::clone(&bench.log)), ServerOptions::default()).await;
    let long = batch([admitted(&"x".repeat(MESSAGE_MAX), 200)]);
    let status = client.stream_access_logs(futures_util::stream::iter([batch([admitted("alice", 200)]), long])).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    assert_eq!(bench.counted(), counts([("alice closed answered_2xx", 1)]));
    assert_eq!(bench.metrics.dropped_for(DropReason::TooLong), 1);
}

#[tokio::test]
async fn an_open_stream_holds_up_no_shutdown_and_what_was_sent_is_counted() {
    let mut bench = Bench::new();
    let (server, mut client) = serve(Some(Arc::clone(&bench.log)), ServerOptions::default()).await;
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    sender.send(batch([admitted("alice", 200)])).await.unwrap();
    let mut begun = Some(sender.clone());
    let messages = ReceiverStream::new(receiver).inspect(move |_| drop(begun.take()));
    let call = tokio::spawn(async move { client.stream_access_logs(messages).await.map(|_| ()) });
    while bench.metrics.entries_of(EntryKind::Counted) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.metrics.streams.get(), 1);
    let drained = server.server.shutdown(std::time::Duration::from_secs(20)).await;
    assert_eq!(drained, Drained::Cleanly);
    call.await.unwrap().unwrap();
    drop(sender);
    assert_eq!(bench.counted(), counts([("alice closed answered_2xx", 1)]));
}
