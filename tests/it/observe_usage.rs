//! Everybody's counts in parts, and the counts of one's own organisation.

use std::collections::BTreeSet;

use serde_json::Value;
use serde_json::json;

use crate::support::node::Node;
use crate::support::scenario::NewKey;

#[test]
fn shards_show_every_user_once() {
    let node = Node::start();
    for user in 0..20 {
        assert_eq!(node.bearer("/orders", &Node::token(&format!("u{user}"), json!({}))), 200);
    }
    let lines = |target: &str| -> Vec<String> {
        let reply = node.tollgate.ops(target);
        assert_eq!(reply.status, 200, "{target}");
        let text = reply.text();
        assert!(text.starts_with("# HELP tollgate_user_requests_total ") && text.contains("# TYPE tollgate_user_requests_total counter\n"));
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    };
    let whole = lines("/metrics/usage");
    assert_eq!(whole.len(), 20, "no overflow here, whatever the limit of /metrics: {whole:?}");
    for shards in [1, 2, 3, 7, 1000] {
        let mut parts: Vec<String> =
            (0..shards).flat_map(|shard| lines(&format!("/metrics/usage?shard={shard}&shards={shards}"))).collect();
        parts.sort();
        let mut sorted = whole.clone();
        sorted.sort();
        assert_eq!(parts, sorted, "{shards} shards");
    }
    for bad in ["shard=2&shards=2", "shard=0", "shards=2", "shard=0&shards=0", "shard=-1&shards=2", "shard=a&shards=2", "shards=2&of=1"] {
        assert_eq!(node.tollgate.ops(&format!("/metrics/usage?{bad}")).status, 400, "{bad}");
    }
}

fn users(stats: &Value) -> BTreeSet<&str> {
    let rows = stats["stats"].as_array().unwrap_or_else(|| panic!("{stats}"));
    rows.iter().filter_map(|row| row["user"].as_str()).collect()
}

/// The bound that the page states: an organisation that only a token names has no users here, so they are shown to the operator alone.
#[test]
fn an_organisation_sees_its_own_users_and_nobody_elses() {
    let node = Node::start();
    let key = |user, organization, scopes| node.key(&NewKey { user, organization, scopes, tier: "", ..NewKey::default() }).text;
    let alice = key("alice", Some("acme"), &["orders:read"]);
    let bob = key("bob", Some("globex"), &["orders:read"]);
    let acme = key("auditor", Some("acme"), &["tollgate:usage"]);
    let initech = key("lonely", Some("initech"), &["tollgate:usage"]);
    let operator = key("operator", None, &["tollgate:usage"]);
    for credential in
        [&alice, &bob, &Node::token("carol", json!({ "org_id": "acme" })), &Node::token("dan", json!({ "org_id": "initech" }))]
    {
        assert_eq!(node.bearer("/orders", credential), 200);
    }
    assert_eq!(node.bearer("/stats", &alice), 403);
    assert_eq!(users(&node.answer("/stats", &acme)), BTreeSet::from(["alice", "auditor"]));
    assert_eq!(users(&node.answer("/stats", &initech)), BTreeSet::from(["lonely"]));
    let everybody = BTreeSet::from(["alice", "auditor", "bob", "lonely", "operator", "shared:carol", "shared:dan"]);
    assert_eq!(users(&node.answer("/stats", &operator)), everybody);
    assert_eq!(users(&node.tollgate.ops("/stats").json()), everybody);
}
