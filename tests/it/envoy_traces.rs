//! Traces: what a collector is told of checks, by Envoy and by Tollgate together, and what it costs when there is none.
//!
//! The collector is the tests' own: the service that OpenTelemetry publishes, kept in memory.

use std::net::SocketAddr;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use serde_json::Value;
use serde_json::json;
use tollgate::model::hex::write_hex;

use crate::support::certificates::Authority;
use crate::support::collector::Collector;
use crate::support::collector::attribute;
use crate::support::folder::Folder;
use crate::support::grpc::Checker;
use crate::support::grpc::check_request;
use crate::support::grpc::denied_with;
use crate::support::jwt;
use crate::support::jwt::Es256;
use crate::support::node::Node;
use crate::support::ports::free_port;
use crate::support::process::wait_until;
use crate::support::scenario::Plan;
use crate::support::scenario::Scenario;
use crate::support::tollgate::CheckAt;
use crate::support::tollgate::Tollgate;

/// The blocks that the manual's chapter shows, by the word that each begins with.
fn block(begins: &str) -> String {
    let manual = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("envoy/operations.md")).expect("the manual");
    let chapter = manual.split("\n## ").find(|chapter| chapter.starts_with("Traces\n")).expect("a chapter about traces");
    let block = chapter.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).find(|block| block.starts_with(begins));
    block.unwrap_or_else(|| panic!("the manual shows no `{begins}`")).to_owned()
}

fn indented(block: &str, by: usize) -> String {
    block.lines().map(|line| format!("{}{line}\n", " ".repeat(by))).collect()
}

/// The quickstart with what the manual says about traces, every request sampled by Envoy, and an issuer whose keys are away.
fn start(collector: &Collector) -> Scenario {
    let port = format!(":{}", collector.port);
    let hcm = indented(&block("tracing:"), 16).replace("value: 1.0", "value: 100.0");
    let cluster = indented(&block("- name: collector"), 4).replace("port_value: 4317", &format!("port_value: {}", collector.port));
    assert!(hcm.contains("100.0") && cluster.contains(&port[1..]), "{hcm}{cluster}");
    let at_once = "layered_runtime:\n  layers:\n    - name: tests\n      static_layer: { tracing.opentelemetry.flush_interval_ms: 50 }\n";
    let away = r#"issuers:
  - name: away
    issuer: https://away.example
    audience: https://api.demo.example
    algorithms: [ES256]
    keys: { jwks_url: "http://127.0.0.1:1/keys" }
    claims: { user: sub, scopes: scope }
"#;
    Plan::of("quickstart")
        .envoy_with("                codec_type: AUTO\n", &format!("                codec_type: AUTO\n{hcm}"))
        .envoy_with("    - name: upstream\n", &format!("{cluster}    - name: upstream\n"))
        .envoy_with("static_resources:\n", &format!("{at_once}static_resources:\n"))
        .tollgate_with("issuers:\n", away)
        .tollgate_with("\nlisten:\n", &format!("\n{}lifecycle: {{ drain_delay: 0s }}\nlisten:\n", block("traces:").replace(":4317", &port)))
        .start()
}

fn names(spans: &[Span]) -> Vec<&str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

/// The decision log's line of a trace.
fn logged(scenario: &Scenario, trace: &str) -> Value {
    let mut found = None;
    wait_until("the decision is logged", || {
        let output = scenario.tollgate.process.output();
        found = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find(|line| line["trace_id"] == trace);
        found.is_some()
    });
    found.expect("it was found")
}

const ALLOWED: [&str; 15] = [
    "decode",
    "find_route",
    "take_credential",
    "guard",
    "prove",
    "find_facts",
    "resolve",
    "authorise",
    "pin_version",
    "prepare",
    "throttle",
    "take_limits",
    "throttle",
    "meter",
    "encode",
];

#[test]
fn a_check_stands_below_envoys_span_with_a_span_for_each_room() {
    let collector = Collector::start();
    let mut scenario = start(&collector);
    let key = scenario.key("alice", "enterprise", &["conversations:read"]);
    let unknown = format!("{}{}", &key[..key.len() - 8], "7".repeat(8));
    let away = Es256::new("k1").sign(&jwt::claims("https://away.example", "https://api.demo.example", "eve"));
    let ask = |number: u8, flags: &str, target: &str, credential: &str| {
        let (trace, authorization) = (write_hex(&[number; 16]), format!("Bearer {credential}"));
        let parent = format!("00-{trace}-{}-{flags}", write_hex(&[number; 8]));
        let headers = [("authorization", authorization.as_str()), ("traceparent", &parent), ("cookie", "session=s3cret-cookie")];
        let reply = scenario.client().get(&format!("{target}?token=s3cret-query"), &headers);
        (trace, reply.status)
    };

    type Case<'a> = (u8, &'a str, &'a str, u16, &'a [&'a str], [&'a str; 3]);
    let cases: [Case<'_>; 5] = [
        (1, "/api/v1/conversations", &key, 200, &ALLOWED, ["allow", "ok", "conversations.list"]),
        (2, "/api/v1/customers", &key, 403, &["authorise", "encode"], ["deny", "insufficient_scope", "customers.list"]),
        (3, "/api/v1/customers", &unknown, 401, &["encode"], ["deny", "", "customers.list"]),
        (4, "/api/v1/customers", &away, 503, &["prove", "encode"], ["fault", "keys_unavailable", "customers.list"]),
        (5, "/nowhere", &key, 404, &["find_route", "encode"], ["deny", "no_route", ""]),
    ];
    for (number, target, credential, status, way, [decision, reason, route]) in cases {
        let (trace, answered) = ask(number, "01", target, credential);
        assert_eq!(answered, status, "{target}");
        let (check, below) = collector.check(&trace);

        // Whoever asked is Envoy's own span for this RPC, and not the client's.
        wait_until("Envoy tells its own spans", || collector.spans("envoy").iter().any(|span| span.span_id == check.parent_span_id));
        let asked = collector.spans("envoy").into_iter().find(|span| span.span_id == check.parent_span_id).expect("it was there");
        assert!(asked.name.contains("Authorization.Check") && write_hex(&asked.trace_id) == trace, "{asked:?}");
        assert_ne!(write_hex(&check.parent_span_id), write_hex(&[number; 8]));
        assert_eq!((check.kind(), check.name.as_str()), (SpanKind::Server, "check"));

        let ran = names(&below);
        assert!(ran.ends_with(way) && (way.len() < 3 || ran == way), "{ran:?}");
        // One after the other, without a gap, within the whole.
        let mut begins = check.start_time_unix_nano;
        for span in &below {
            assert_eq!((span.parent_span_id.clone(), span.start_time_unix_nano), (check.span_id.clone(), begins), "{}", span.name);
            assert!(span.start_time_unix_nano <= span.end_time_unix_nano && span.end_time_unix_nano <= check.end_time_unix_nano);
            begins = span.end_time_unix_nano;
        }

        let told = |name: &str| attribute(&check, &format!("tollgate.{name}")).unwrap_or_default();
        assert_eq!((told("decision").as_str(), told("route").as_str(), told("status")), (decision, route, status.to_string()));
        assert!(reason.is_empty() || told("reason") == reason, "{}", told("reason"));
        assert_eq!(told("cache"), if ran.contains(&"find_facts") { "hit" } else { "" });
        let error = check.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error);
        assert_eq!(error, decision == "fault");
        let line = logged(&scenario, &trace);
        assert_eq!((&line["reason"], &line["request_id"]), (&json!(told("reason")), &json!(told("request_id"))));
    }

    // Whoever does not record it, is told nothing; nor is it logged as a trace.
    let (unsampled, status) = ask(6, "00", "/api/v1/conversations", &key);
    assert_eq!(status, 200);
    let (sampled, _) = ask(7, "01", "/api/v1/conversations", &key);
    collector.check(&sampled);
    assert!(collector.find_check(&unsampled).is_none() && !scenario.tollgate.process.output().contains(&unsampled));

    // What was asked last is told before the end.
    let (last, _) = ask(8, "01", "/api/v1/conversations", &key);
    let status = scenario.tollgate.process.stop();
    assert!(status.success(), "{status}");
    assert!(collector.find_check(&last).is_some(), "the last spans were not sent");

    let bytes = collector.bytes("tollgate");
    let secret = key.split_once("_sk_").expect("a key").1[12..].to_owned();
    let token_parts = away.split('.').skip(1).map(str::to_owned);
    for secret in [secret, "s3cret".to_owned()].into_iter().chain(token_parts) {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret} was told");
    }
}

/// A `traceparent` of the client's own, of which Envoy made nothing.
#[test]
fn without_a_tracing_envoy_the_clients_parent_counts_where_it_can_be_read() {
    let node = Node::start();
    let parent = |flags: &str, number: u8| format!("00-{}-{}-{flags}", write_hex(&[number; 16]), write_hex(&[number; 8]));
    assert_eq!(node.status("/open", &[("traceparent", &parent("01", 0x21))]), 200);
    let (check, below) = node.collector.check(&write_hex(&[0x21; 16]));
    assert_eq!((check.parent_span_id.as_slice(), below.len()), (&[0x21_u8; 8][..], names(&below).len()));
    assert_eq!(attribute(&check, "tollgate.cache"), None, "nothing was looked up");

    // What cannot be read is no parent; the check begins a trace, since all such are sampled here.
    let roots =
        || node.collector.spans("tollgate").into_iter().filter(|span| span.name == "check" && span.parent_span_id.is_empty()).count();
    let (good, before) = (parent("01", 0xab), roots());
    for bad in ["", "00-00-00-01", &parent("01", 0), &good.to_uppercase(), &format!("{good}-more"), &"0".repeat(5000)] {
        assert_eq!(node.status("/open", &[("traceparent", bad)]), 200, "{bad}");
    }
    assert_eq!(node.status("/open", &[("traceparent", &good), ("traceparent", &parent("01", 0x23))]), 200);
    // A message that never becomes a request has a trace too.
    assert_eq!(node.status("/a%00b", &[("traceparent", &parent("01", 0x24))]), 400);
    let (check, below) = node.collector.check(&write_hex(&[0x24; 16]));
    assert_eq!((names(&below), attribute(&check, "tollgate.decision").as_deref()), (vec!["decode", "encode"], Some("deny")));
    wait_until("the roots are there", || roots() == before + 7);
    assert_eq!(node.status("/open", &[("traceparent", &parent("00", 0x25))]), 200);
    assert_eq!(node.status("/open", &[("traceparent", &parent("01", 0x26))]), 200);
    node.collector.check(&write_hex(&[0x26; 16]));
    for unsampled in [0xab, 0x23, 0x25] {
        assert!(node.collector.find_check(&write_hex(&[unsampled; 16])).is_none(), "{unsampled:x}");
    }
}

/// A Tollgate alone, all of whose checks are traced, to an endpoint of this kind.
fn alone(folder: &Folder, traces: &str) -> (Tollgate, Checker) {
    let (check, ops) = (free_port(), free_port());
    let rules = format!(
        "listen: {{ check: \"127.0.0.1:{check}\", control: \"unix:./control.sock\", ops: \"127.0.0.1:{ops}\" }}\n\
         store: {{ embedded: {{ path: ./data }} }}\n\
         lifecycle: {{ drain_delay: 0s, grace: 1s }}\n\
         logging: {{ allows: 0.0 }}\n\
         traces: {{ sample: 1.0, max_per_second: 10000, {traces} }}\n\
         routes: [{{ name: open, path: /open, auth: public }}]\n"
    );
    folder.write("tollgate.yaml", &rules);
    let at = CheckAt::Tcp(SocketAddr::from(([127, 0, 0, 1], check)));
    let tollgate = Tollgate::start(folder.path(), "tollgate.yaml", at.clone(), ops);
    let checker = Checker::connect(&at);
    (tollgate, checker)
}

fn became(tollgate: &Tollgate, result: &str) -> f64 {
    tollgate.metric("tollgate_traces_total", &[&format!("result=\"{result}\"")])
}

#[test]
fn a_collector_behind_tls_is_told() {
    let (authority, folder) = (Authority::new(), Folder::new());
    folder.write("ca.pem", &authority.pem);
    let collector = Collector::start_tls(&authority.sign("localhost"));
    let (tollgate, checker) = alone(&folder, &format!("endpoint: \"https://localhost:{}\", ca: ca.pem", collector.port));
    assert_eq!(denied_with(&checker.check(check_request("GET", "/open", &[])).expect("an answer")), None);
    wait_until("the trace was sent", || became(&tollgate, "sent") == 1.0);
    assert_eq!(collector.spans("tollgate").iter().filter(|span| span.name == "check").count(), 1);
}

#[test]
fn a_collector_that_is_away_costs_traces_and_no_check() {
    // It takes connections, and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let folder = Folder::new();
    let endpoint = format!("endpoint: \"http://{}\"", silent.local_addr().expect("bound"));
    let (mut tollgate, checker) = alone(&folder, &endpoint);
    const CHECKS: usize = 4000;
    let answers = checker.check_all((0..CHECKS).map(|_| check_request("GET", "/open", &[])), 64);
    assert!(answers.iter().all(|answer| denied_with(answer).is_none()), "a check was refused");
    let (dropped, sent) = (became(&tollgate, "dropped"), became(&tollgate, "sent"));
    eprintln!("{CHECKS} checks allowed, {dropped} traces dropped");
    assert!(dropped >= 1000.0 && sent == 0.0, "{dropped} dropped, {sent} sent");
    // Nor does it hold up the end.
    drop(checker);
    let begun = Instant::now();
    let status = tollgate.process.stop();
    assert!(status.success() && begun.elapsed() < Duration::from_secs(8), "{status} after {:?}", begun.elapsed());
    drop(silent);

    let (tollgate, checker) = alone(&folder, &format!("endpoint: \"http://127.0.0.1:{}\"", free_port()));
    assert_eq!(denied_with(&checker.check(check_request("GET", "/open", &[])).expect("an answer")), None);
    wait_until("the trace is given up", || became(&tollgate, "failed") == 1.0);
    assert!(tollgate.process.errors().contains("the collector takes no traces"), "{}", tollgate.process.errors());
}
