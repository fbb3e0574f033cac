//! Envoy's access log, taken by Tollgate: what it counts of answers, by user and class of status, is what the upstream counted itself.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;

use ::tollgate::telemetry::reference::Part;
use ::tollgate::telemetry::reference::parts;
use serde_json::Value;

use crate::support::http1::Connection;
use crate::support::http1::message;
use crate::support::process::wait_until;
use crate::support::scenario::Plan;
use crate::support::scenario::Scenario;
use crate::support::scenario::sum_of;
use crate::support::tollgate;
use crate::support::upstream::Upstream;

const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];
/// The first user meets all of them, the next all but the last, and so on: no two users have the same counts.
const STATUSES: [u16; 7] = [200, 201, 302, 400, 404, 500, 503];
const SCOPES: [&str; 2] = ["conversations:read", "tollgate:unlimited"];

/// What the quickstart's files have ready in comments, switched on; small batches, so that there are many of them.
fn with_access_log(plan: Plan) -> Plan {
    let marked = plan.envoy.lines().filter(|line| line.contains("#>")).count();
    assert!(marked > 5, "the bootstrap has no access log service in its comments any more");
    plan.envoy_with("#> ", "")
        .envoy_with(
            "log_name: tollgate\n",
            "log_name: tollgate\n                        buffer_size_bytes: 4096\n                        buffer_flush_interval: 0.050s\n",
        )
        .tollgate_with("# access_log: accepted", "access_log: accepted\nlifecycle: { drain_delay: 0s }")
}

/// `TOLLGATE_TEST_REQUESTS` asks for more than the usual run has time for.
fn requests() -> usize {
    std::env::var("TOLLGATE_TEST_REQUESTS").map_or(4000, |requests| requests.parse().expect("TOLLGATE_TEST_REQUESTS is a number"))
}

/// How often each user was answered with a status of each class.
type Counts = BTreeMap<(String, String), u64>;

fn class_of(status: u16) -> String {
    format!("answered_{}xx", status / 100)
}

/// An upstream that answers as the query says, and counts.
fn counting_upstream() -> (Upstream, Arc<Mutex<Counts>>) {
    let counts: Arc<Mutex<Counts>> = Arc::default();
    let own = Arc::clone(&counts);
    let upstream = Upstream::tcp_with(move |seen| {
        let status = seen.path.rsplit_once("status=").and_then(|(_, status)| status.parse().ok()).expect("a status in the query");
        let user = seen.headers.get("x-user-id").expect("who is calling").clone();
        *own.lock().expect("no panic while held").entry((user, class_of(status))).or_default() += 1;
        (status, String::from("{}"))
    });
    (upstream, counts)
}

fn start(upstream: Upstream) -> Scenario {
    let port = upstream.port();
    start_before(port, upstream)
}

/// The service behind Envoy is at this port, whatever the scenario's own upstream is.
fn start_before(port: u16, upstream: Upstream) -> Scenario {
    let plan = with_access_log(Plan::of("quickstart"));
    let socket = format!("socket_address: {{ address: 127.0.0.1, port_value: {port} }}");
    plan.envoy_with("pipe: { path: run/upstream.sock }", &socket).start_with(upstream)
}

/// Sends this many requests of a user, with refused ones between.
fn send(port: u16, key: &str, statuses: &[u16], count: usize) {
    let authorization = format!("Bearer {key}");
    let ask = |target: &str| message("GET", target, "api.example.com", &[("authorization", &authorization)], b"");
    let mut connection = Connection::open(port).expect("Envoy listens");
    for number in 0..count {
        let status = statuses[number % statuses.len()];
        let reply = connection.exchange(&ask(&format!("/api/v1/conversations?status={status}"))).expect("an answer");
        assert_eq!(reply.status, status, "{}", reply.text());
        if number % 50 == 0 {
            let reply = connection.exchange(&ask("/api/v1/customers?status=200")).expect("an answer");
            assert_eq!(reply.status, 403, "the key has no such scope");
        }
    }
}

fn usage(scenario: &Scenario, arguments: &[&str]) -> Value {
    let arguments: Vec<&str> = ["usage", "--config", "tollgate.yaml", "--json"].into_iter().chain(arguments.iter().copied()).collect();
    tollgate::run_json(scenario.folder.path(), &arguments)
}

fn answers(scenario: &Scenario) -> Counts {
    let mut counts = Counts::new();
    for row in usage(scenario, &["--outcome", "answered"])["data"].as_array().expect("rows") {
        assert_eq!((row["route"].as_str(), row["key"].as_str()), (Some("conversations.list"), None), "{row}");
        let name = |member: &str| row[member].as_str().expect("text").to_owned();
        *counts.entry((name("user"), name("outcome"))).or_default() += row["count"].as_u64().expect("a count");
    }
    counts
}

#[test]
fn statuses_by_user_are_what_the_upstream_counted_itself() {
    let (upstream, upstream_counts) = counting_upstream();
    let mut scenario = start(upstream);
    let keys = USERS.map(|user| scenario.key(user, "enterprise", &SCOPES));
    let port = scenario.envoy.port;
    let each = requests() / USERS.len();
    let clients: Vec<_> = keys
        .into_iter()
        .enumerate()
        .map(|(user, key)| std::thread::spawn(move || send(port, &key, &STATUSES[..STATUSES.len() - user], each)))
        .collect();
    for client in clients {
        client.join().expect("a client");
    }
    let admitted = (each * USERS.len()) as u64;
    let entries = |scenario: &Scenario, kind: &str| scenario.tollgate.metric("tollgate_access_log_entries_total", &[kind]) as u64;
    wait_until("every answer is counted", || entries(&scenario, "counted") >= admitted);

    let expected = upstream_counts.lock().expect("no panic while held").clone();
    assert_eq!(expected.values().sum::<u64>(), admitted);
    assert_eq!(entries(&scenario, "counted"), admitted, "each once");
    let dropped = scenario.tollgate.metric("tollgate_access_log_dropped_total", &[]) as u64;
    assert_eq!((dropped, scenario.tollgate.metric("tollgate_access_log_unknown_total", &[]) as u64), (0, 0));
    assert_eq!(scenario.envoy.statistic("access_logs.grpc_access_log.logs_dropped"), 0);
    assert_eq!(answers(&scenario), expected);
    eprintln!(
        "{admitted} admitted requests of {} users, {dropped} entries dropped, answers as the upstream counted: {expected:?}",
        USERS.len()
    );

    // What was decided is told as before, and nothing is added to it.
    let decided = usage(&scenario, &[]);
    assert_eq!(sum_of(&decided, "allowed"), admitted);
    let outcomes: BTreeSet<&str> = decided["data"].as_array().expect("rows").iter().filter_map(|row| row["outcome"].as_str()).collect();
    assert_eq!(outcomes, ["allowed", "refused"].into());
    for page in ["/stats", "/metrics/usage"] {
        let text = scenario.tollgate.ops(page).text();
        assert!(text.contains("alice") && !text.contains("answered"), "{page}: {text}");
    }
    let bob = usage(&scenario, &["--outcome", "answered_5xx", "--user", "bob"]);
    assert_eq!(sum_of(&bob, "answered_5xx"), expected[&("bob".to_owned(), class_of(500))]);
    let of_route = ["route=\"conversations.list\"", "status=\"5xx\""];
    let timed = scenario.tollgate.metric("tollgate_answer_duration_seconds_count", &of_route) as u64;
    assert_eq!(timed, expected.iter().filter(|((_, class), _)| class == "answered_5xx").map(|(_, count)| count).sum::<u64>());
    assert!(scenario.tollgate.metric("tollgate_answer_response_bytes_total", &of_route) as u64 > timed * 2);

    // Each of its metrics has a series by now, and the reference knows all that is shown.
    let page = scenario.tollgate.ops("/metrics").text();
    let shown: BTreeSet<&str> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let told = parts().expect("metrics");
    let named = |part: &Part| -> BTreeSet<String> { part.families.iter().map(|family| family.name.clone()).collect() };
    let all: BTreeSet<String> = told.iter().flat_map(named).collect();
    assert!(shown.iter().all(|name| all.contains(*name)), "{shown:?}");
    let own = told.iter().find(|part| part.when.contains("access_log")).expect("a part about it");
    assert!(named(own).iter().all(|name| shown.contains(name.as_str())), "{shown:?}");

    scenario.tollgate.process.kill();
    scenario.tollgate.restart();
    assert_eq!(answers(&scenario), expected, "after kill -9");
}

#[test]
fn the_log_goes_on_after_a_restart_and_holds_up_no_shutdown() {
    let (upstream, upstream_counts) = counting_upstream();
    let mut scenario = start(upstream);
    let key = scenario.key("alice", "enterprise", &SCOPES);
    let entries = |scenario: &Scenario| scenario.tollgate.metric("tollgate_access_log_entries_total", &["counted"]) as u64;
    send(scenario.envoy.port, &key, &STATUSES, 20);
    wait_until("the first are counted", || entries(&scenario) == 20);
    // Envoy's streams are open, and would be for ever.
    assert!(scenario.tollgate.metric("tollgate_access_log_streams", &[]) > 0.0);
    let status = scenario.tollgate.process.stop();
    assert!(status.success(), "{status}");
    scenario.tollgate.restart();
    send(scenario.envoy.port, &key, &STATUSES, 20);
    wait_until("the others are counted", || entries(&scenario) == 20);
    assert_eq!(answers(&scenario), upstream_counts.lock().expect("no panic while held").clone());
}

#[test]
fn who_goes_away_before_the_answer_is_counted_as_unanswered() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let scenario = start_before(silent.local_addr().expect("bound").port(), Upstream::tcp());
    let key = scenario.key("alice", "enterprise", &SCOPES);
    let authorization = format!("Bearer {key}");
    let request = message("GET", "/api/v1/conversations", "api.example.com", &[("authorization", &authorization)], b"");
    let mut client = TcpStream::connect(("127.0.0.1", scenario.envoy.port)).expect("Envoy listens");
    client.write_all(&request).expect("Envoy reads");
    let _reached = silent.accept().expect("the request has come as far as the upstream");
    drop(client);
    let counted = || scenario.tollgate.metric("tollgate_access_log_entries_total", &["counted"]) as u64;
    wait_until("the end of the request is counted", || counted() == 1);
    assert_eq!(answers(&scenario), [(("alice".to_owned(), "unanswered".to_owned()), 1)].into());
    assert_eq!(scenario.admitted("alice"), 1);
}
