//! `/metrics` of the real program after everything that it counts has happened.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use tollgate::telemetry::Metrics;
use tollgate::telemetry::families;
use tollgate::telemetry::families::Values;
use tollgate::telemetry::reference;

use crate::support::node::Node;
use crate::support::process::wait_until;
use crate::support::scenario::NewKey;

/// What the reference says of a circumstance, by name. `envoy/metrics.md` is printed from it, so that a change of it is seen there.
fn told(when: &str) -> BTreeMap<String, families::Family> {
    let parts = reference::parts().expect("metrics");
    let part = parts.into_iter().find(|part| part.when == when).unwrap_or_else(|| panic!("the reference has no part {when:?}"));
    part.families.into_iter().map(|family| (family.name.clone(), family)).collect()
}

/// Type, labels and their values are those of the reference.
fn check_told(told: &families::Family, shown: &Family) {
    let name = &told.name;
    assert_eq!(shown.kind, told.kind.as_str(), "{name}");
    assert_eq!(shown.help, told.help, "{name}");
    assert!(shown.samples.len() <= SERIES_MAX, "{name}: {} series", shown.samples.len());
    for (_, labels, _) in &shown.samples {
        let own: BTreeSet<&str> = labels.keys().map(String::as_str).filter(|label| *label != "le").collect();
        assert_eq!(own, told.labels.iter().map(|label| label.name).collect(), "{name}");
        for label in &told.labels {
            match label.values {
                Values::Listed(values) => assert!(values.contains(&labels[label.name].as_str()), "{name}: {labels:?}"),
                Values::Described(_) => {}
            }
        }
    }
}

/// Series of one family beyond this would grow with something that they must not grow with.
const SERIES_MAX: usize = 120;

/// A family, the labels that are looked at, and the sum of the series that have them.
type Expected<'a> = (&'a str, &'a [(&'a str, &'a str)], f64);

#[derive(Clone, Debug, Default)]
struct Family {
    help: String,
    kind: String,
    /// Labels and value of every sample, under the sample's own name.
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

type Page = BTreeMap<String, Family>;

fn scrape(node: &Node) -> Page {
    parse(&node.tollgate.ops("/metrics").text())
}

fn parse(text: &str) -> Page {
    let mut page = Page::new();
    let mut current = String::new();
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(name), Some(help)) => {
                assert!(!page.contains_key(name), "{name} is told twice");
                current = name.to_owned();
                page.entry(current.clone()).or_default().help = help.to_owned();
            }
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                assert_eq!(name, current, "HELP stands before TYPE");
                page.entry(current.clone()).or_default().kind = kind.to_owned();
            }
            _ => {
                let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
                let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
                let labels = labels.trim_end_matches('}').split_terminator("\",");
                let labels = labels.map(|label| label.trim_end_matches('"').split_once("=\"").unwrap_or_else(|| panic!("{line}")));
                let labels = labels.map(|(label, value)| (label.to_owned(), value.to_owned())).collect();
                assert!(name.starts_with(&current), "{line} stands under {current}");
                let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
                page.entry(current.clone()).or_default().samples.push((name.to_owned(), labels, value));
            }
        }
    }
    page
}

fn value(page: &Page, name: &str, wanted: &[(&str, &str)]) -> f64 {
    let family = page.get(&format!("tollgate_{name}")).unwrap_or_else(|| panic!("no {name}"));
    let is_wanted =
        |labels: &BTreeMap<String, String>| wanted.iter().all(|(label, value)| labels.get(*label).is_some_and(|own| own == value));
    let mut chosen = family.samples.iter().filter(|(_, labels, _)| is_wanted(labels)).peekable();
    assert!(chosen.peek().is_some(), "{name} has no {wanted:?}: {family:?}");
    chosen.map(|(_, _, value)| value).sum()
}

/// One of everything.
fn busy() -> Node {
    let node = Node::start();
    let (read, all) = (["orders:read"], ["orders:read", "tollgate:usage"]);
    let alice = node.key(&NewKey { user: "alice", tier: "", scopes: &read, ..NewKey::default() });
    let bob = node.key(&NewKey { user: "bob", tier: "", scopes: &all, ..NewKey::default() });
    assert_eq!(node.status("/open", &[]), 200);
    assert_eq!(node.status("/open-for-nobody", &[]), 404);
    for key in [&alice, &bob] {
        assert_eq!(node.bearer("/orders", &key.text), 200);
    }
    let token = Node::token("carol", serde_json::json!({}));
    for _ in 0..3 {
        assert_eq!(node.bearer("/orders", &token), 200);
    }
    assert_eq!(node.bearer("/orders", &node.provider_token("https://provider.example", "dave")), 200);
    assert_eq!(node.bearer("/orders", &node.provider_token("https://away.example", "eve")), 0, "its keys were never fetched");
    assert_eq!(node.bearer("/orders", "nobody-sends-this"), 401);
    for arguments in [
        ["keys", "rotate", &alice.id, "--grace", "1h"].as_slice(),
        &["keys", "disable", &alice.id],
        &["keys", "enable", &alice.id],
        &["keys", "change", &alice.id, "--name", "other"],
        &["keys", "disable", &bob.id],
    ] {
        let output = node.command(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let revoked = node.key(&NewKey { user: "alice", tier: "", ..NewKey::default() });
    assert!(node.command(&["keys", "revoke", &revoked.id]).status.success());
    assert!(!node.command(&["keys", "revoke", "000000000000"]).status.success());
    let entry = |digit: &str| format!("{{\"sha256\":\"{}\",\"name\":\"old\",\"user\":\"alice\"}}", digit.repeat(64));
    node.folder.write("old-keys.json", &format!("[{},{},{}]", entry("a"), entry("b"), entry("b")));
    assert!(!node.command(&["keys", "import", "old-keys.json"]).status.success(), "one of them is there twice");
    node.reload_with("drain_delay: 0s", "drain_delay: 1s");
    wait_until("the config was reloaded", || node.tollgate.metric("tollgate_config_reloads_total", &["result=\"success\""]) > 0.0);
    node.reload_with("routes:", "rowts:");
    wait_until("the bad config was refused", || node.tollgate.metric("tollgate_config_reloads_total", &["result=\"failure\""]) > 0.0);
    node
}

#[test]
fn every_metric_is_there_fed_and_named_by_the_rules() {
    let node = busy();
    let page = scrape(&node);

    let mut expected = told("Always");
    if cfg!(target_os = "linux") {
        expected.extend(told("Of the process, on Linux"));
    }
    assert_eq!(page.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, family) in &expected {
        check_told(family, &page[name]);
    }
    for (name, family) in &page {
        check_rules(name, family);
    }
    check_fed(&page);
    check_labels(&page);
}

#[test]
fn a_shared_store_has_metrics_of_its_own_from_the_start() {
    let page = parse(&Metrics::with_shared_store().expect("metrics").render());
    for (name, family) in told("With `store.redis`") {
        let shown = page.get(&name).unwrap_or_else(|| panic!("{name} has no series at the start"));
        check_told(&family, shown);
        check_rules(&name, shown);
    }
}

/// What `promtool check metrics` complains about, and a little more.
fn check_rules(name: &str, family: &Family) {
    assert!(name.starts_with("tollgate_") || name.starts_with("process_"), "{name}: the prefix");
    assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}: the letters");
    assert!(family.help.len() > 8, "{name}: the help");
    assert_eq!(name.ends_with("_total"), family.kind == "counter", "{name}: counters, and only they, end in _total");
    let is_reserved = ["_bucket", "_count", "_sum"].iter().any(|end| name.ends_with(end));
    assert!(!is_reserved, "{name}: a histogram's ending");
    let odd_words = [
        "counter",
        "gauge",
        "histogram",
        "summary",
        "ms",
        "us",
        "ns",
        "milliseconds",
        "microseconds",
        "minutes",
        "hours",
        "days",
        "kb",
        "mb",
        "kilobytes",
        "megabytes",
        "percent",
        "ratio",
        "duration",
        "timestamp",
    ];
    for word in name.split('_').filter(|word| odd_words.contains(word)) {
        let in_seconds = ["duration", "timestamp"].contains(&word) && name.ends_with("_seconds");
        assert!(in_seconds, "{name}: {word} is no base unit, or is the type");
    }
    let series: BTreeSet<_> = family.samples.iter().map(|(name, labels, _)| (name, labels)).collect();
    assert_eq!(series.len(), family.samples.len(), "{name}: a series stands there twice");
    for (name, labels, value) in &family.samples {
        assert!(value.is_finite() && *value >= 0.0, "{name}{labels:?}: {value}");
    }
}

fn check_fed(page: &Page) {
    let cases: &[Expected<'_>] = &[
        ("cache_requests_total", &[("cache", "tokens"), ("result", "hit")], 2.0),
        // Carol's first, Dave's, Eve's; what is no token at all is not looked up.
        ("cache_requests_total", &[("cache", "tokens"), ("result", "miss")], 3.0),
        ("cache_requests_total", &[("cache", "assertions"), ("result", "hit")], 2.0),
        ("cache_requests_total", &[("cache", "assertions"), ("result", "miss")], 4.0),
        ("check_duration_seconds", &[("decision", "allow"), ("le", "+Inf")], 7.0),
        ("checks_total", &[("decision", "allow")], 7.0),
        ("checks_total", &[("decision", "deny")], 2.0),
        ("checks_total", &[("decision", "fault")], 1.0),
        ("route_checks_total", &[("route", "orders"), ("decision", "allow")], 6.0),
        // Dave's issuer names a tier; nobody else has one.
        ("tier_checks_total", &[("tier", "paying"), ("outcome", "allowed")], 1.0),
        ("tier_checks_total", &[], 1.0),
        ("config_last_reload_successful", &[], 0.0),
        ("config_restart_needed", &[], 1.0),
        ("config_info", &[], 1.0),
        ("config_reloads_total", &[("result", "success")], 1.0),
        ("build_info", &[], 1.0),
        ("connections", &[("listener", "check")], 1.0),
        ("key_events_total", &[("event", "created"), ("result", "success")], 3.0),
        ("key_events_total", &[("event", "rotated"), ("result", "success")], 1.0),
        ("key_events_total", &[("event", "disabled"), ("result", "success")], 2.0),
        ("key_events_total", &[("event", "enabled"), ("result", "success")], 1.0),
        ("key_events_total", &[("event", "changed"), ("result", "success")], 1.0),
        ("key_events_total", &[("event", "revoked"), ("result", "success")], 1.0),
        ("key_events_total", &[("event", "revoked"), ("result", "refused")], 1.0),
        ("key_events_total", &[("event", "imported"), ("result", "success")], 2.0),
        ("key_events_total", &[("event", "imported"), ("result", "refused")], 1.0),
        ("keys", &[("state", "active")], 3.0),
        ("keys", &[("state", "disabled")], 1.0),
        ("keys", &[("state", "revoked")], 1.0),
        ("keys", &[("state", "expired")], 0.0),
        ("key_set_fetches_total", &[("issuer", "provider"), ("outcome", "changed")], 1.0),
        ("key_set_last_success_timestamp_seconds", &[("issuer", "away")], 0.0),
        ("store_records", &[("kind", "corrupt")], 0.0),
        ("store_operations_total", &[("result", "failure")], 0.0),
        ("usage_series", &[], 2.0),
        ("usage_series_limit", &[], 2.0),
        // Of alice, bob, carol, dave and the anonymous.
        ("usage_overflow_users", &[], 3.0),
        ("panics_total", &[], 0.0),
        ("log_events_dropped_total", &[("stream", "decisions")], 0.0),
        ("traces_total", &[("result", "failed")], 0.0),
    ];
    for (name, labels, expected) in cases {
        let found = value(page, name, labels);
        assert!((found - expected).abs() < 0.5, "{name}{labels:?}: {found}, expected {expected}");
    }
    let now = crate::support::jwt::now() as f64;
    for (name, labels, least, most) in [
        ("key_set_fetches_total", [("issuer", "away"), ("outcome", "failed")].as_slice(), 1.0, 100.0),
        ("key_set_last_success_timestamp_seconds", &[("issuer", "provider")], now - 600.0, now + 1.0),
        ("config_last_reload_success_timestamp_seconds", &[], now - 600.0, now + 1.0),
        ("tls_certificate_expiry_timestamp_seconds", &[("listener", "check")], now + 86_400.0, f64::MAX),
        ("store_operations_total", &[("operation", "commit"), ("result", "refused")], 1.0, 1.0),
        // The ring, keys and their changes.
        ("store_operations_total", &[("operation", "commit"), ("result", "success")], 9.0, 30.0),
        ("store_operation_duration_seconds", &[("operation", "commit"), ("le", "+Inf")], 9.0, 30.0),
        ("connections_total", &[("listener", "ops")], 2.0, 100_000.0),
        ("ledger_slots", &[], 1.0, f64::MAX),
        ("ledger_slots_used", &[], 5.0, 100.0),
        ("ledger_lines", &[], 5.0, 100.0),
        ("usage_unflushed_seconds", &[], 0.0, 60.0),
    ] {
        let found = value(page, name, labels);
        assert!(least <= found && found <= most, "{name}{labels:?}: {found}, expected {least} to {most}");
    }
}

/// Labels are closed lists and names of the config; users stand in one family alone, and there by the limit.
fn check_labels(page: &Page) {
    let values = |wanted: &str| -> BTreeSet<String> {
        page.values().flat_map(|family| &family.samples).filter_map(|(_, labels, _)| labels.get(wanted).cloned()).collect()
    };
    assert_eq!(values("route"), ["download", "open", "orders", "stats"].map(str::to_owned).into());
    assert_eq!(values("tier"), ["paying".to_owned()].into());
    assert_eq!(values("issuer"), ["away", "provider"].map(str::to_owned).into(), "by name, never by URL");
    assert_eq!(values("listener"), ["check", "ops"].map(str::to_owned).into());
    let users = values("user");
    assert!(users.len() == 3 && users.contains("__other__"), "{users:?}");
    let sent = ["alice", "bob", "carol", "dave", "eve", "nobody", "private-path", "example.com", "000000000000", "sk_"];
    for (name, family) in page.iter().filter(|(name, _)| *name != "tollgate_user_requests_total") {
        for (_, labels, _) in &family.samples {
            let leaks = labels.values().find(|value| sent.iter().any(|sent| value.contains(sent)));
            assert!(leaks.is_none(), "{name}: {leaks:?} comes from outside");
        }
    }
}

#[test]
fn users_beyond_the_limit_are_summed_and_nothing_ever_shrinks() {
    let node = Node::start();
    let series = || -> BTreeMap<(String, String), f64> {
        let family = scrape(&node).remove("tollgate_user_requests_total").unwrap_or_default();
        family.samples.into_iter().map(|(_, labels, value)| ((labels["user"].clone(), labels["outcome"].clone()), value)).collect()
    };
    let mut before = series();
    for round in 1..=4_u32 {
        for user in (0..round * 3).rev() {
            assert_eq!(node.bearer("/orders", &Node::token(&format!("u{user}"), serde_json::json!({}))), 200);
            assert_eq!(node.bearer("/download", &Node::token(&format!("u{user}"), serde_json::json!({ "scope": "none" }))), 403);
        }
        let after = series();
        for (series, value) in &before {
            assert!(after.get(series).is_some_and(|now| now >= value), "{series:?}: {value}, then {:?}", after.get(series));
        }
        let named: BTreeSet<&str> = after.keys().map(|(user, _)| user.as_str()).filter(|user| *user != "__other__").collect();
        assert!(named.len() <= 2, "{named:?}");
        let whole = parse(&node.tollgate.ops("/metrics/usage").text()).remove("tollgate_user_requests_total").expect("the users");
        for outcome in ["allowed", "refused"] {
            let shown: f64 = after.iter().filter(|((_, own), _)| own == outcome).map(|(_, value)| value).sum();
            let exact: f64 = whole.samples.iter().filter(|(_, labels, _)| labels["outcome"] == outcome).map(|(_, _, value)| value).sum();
            let expected = f64::from((1..=round).map(|round| round * 3).sum::<u32>());
            assert!((shown - exact).abs() < 0.5 && (exact - expected).abs() < 0.5, "{outcome}: {shown}, {exact}, {expected}");
        }
        before = after;
    }
    assert!(before.contains_key(&("__other__".to_owned(), "allowed".to_owned())));
}
