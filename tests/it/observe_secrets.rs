//! What a log, a metric or a page says of a credential: never its text.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::json;

use crate::support::node::Node;
use crate::support::scenario::NewKey;

/// The parts of a credential that nobody may read anywhere. A key's id is public, and so is a token's header.
fn secret_parts(credential: &str) -> Vec<String> {
    let mut parts = vec![credential.to_owned()];
    parts.extend(credential.splitn(3, '.').skip(1).map(str::to_owned));
    if let Some((_, secret)) = credential.split_once("_sk_") {
        // Behind the twelve characters of the id.
        parts.push(secret[12..].to_owned());
    }
    parts
}

#[test]
fn no_credential_is_told_whatever_becomes_of_the_check() {
    let mut node = Node::start();
    let key = |user| node.key(&NewKey { user, tier: "", scopes: &["orders:read"], ..NewKey::default() });
    let (own, other, revoked) = (key("alice"), key("bob"), key("mallory"));
    assert!(node.command(&["keys", "revoke", &revoked.id]).status.success());
    let rotated = node.command(&["keys", "rotate", &other.id, "--grace", "1h"]);
    let rotated: Value = serde_json::from_slice(&rotated.stdout).expect("JSON");
    let rotated = rotated["key"].as_str().expect("a key").to_owned();

    let middle = own.text.len() / 2;
    let other_character = if own.text.as_bytes()[middle] == b'7' { "8" } else { "7" };
    let mistyped = format!("{}{other_character}{}", &own.text[..middle], &own.text[middle + 1..]);
    let token = Node::token("carol", json!({}));
    let tampered = format!("{}{}", &token[..token.len() - 4], if token.ends_with("AAAA") { "BBBB" } else { "AAAA" });
    let expired = Node::token("carol", json!({ "exp": 1_000_000_000 }));
    let (provided, away) = (node.provider_token("https://provider.example", "dave"), node.provider_token("https://away.example", "eve"));
    let unknown = node.provider_token("https://unknown.example", "eve");
    let good = [&own.text, &other.text, &rotated, &token, &provided];
    let bad = [
        &revoked.text,
        &mistyped,
        &tampered,
        &expired,
        &unknown,
        &format!("{}x", own.text),
        &own.text[..own.text.len() - 1].to_owned(),
        &"acme_live_sk_0123456789ab-made-up-by-somebody".to_owned(),
        &"0d5f8c0a-opaque-token-of-somebody".to_owned(),
        &format!("{token}.{token}"),
    ];

    for credential in good {
        assert_eq!(node.bearer("/orders", credential), 200, "{credential}");
        assert_eq!(node.status(&format!("/download?a=b&access_token={credential}&c=d"), &[]), 200, "{credential}");
        assert_eq!(node.bearer("/nowhere", credential), 404);
        assert_eq!(node.bearer("/stats", credential), 403);
    }
    assert_eq!(node.bearer("/orders", &away), 0);
    let basic = |credential: &str| STANDARD.encode(format!("user:{credential}"));
    for credential in good.into_iter().chain(bad).chain([&away]) {
        let is_good = good.contains(&credential);
        let status = node.bearer("/orders", credential);
        assert!(is_good == (status == 200), "{credential}: {status}");
        node.status("/orders", &[("x-api-key", credential)]);
        node.status("/orders", &[("x-authorization", &format!("Agent {credential}"))]);
        node.status("/orders", &[("authorization", &format!("Basic {}", basic(credential)))]);
        node.status("/orders", &[("authorization", &format!("Bearer {credential}, Bearer {credential}"))]);
        node.status("/orders", &[("authorization", &format!("Bearer {credential}")), ("x-api-key", &own.text)]);
        node.status("/orders", &[("authorization", credential)]);
        node.status("/orders", &[("cookie", &format!("session={credential}")), ("referer", &format!("https://x/?t={credential}"))]);
        node.status(&format!("/download?access_token={credential}"), &[]);
        node.status(&format!("/orders?access_token={credential}"), &[]);
        node.status(&format!("/orders?key={credential}#{credential}"), &[("x-request-id", "one")]);
        // Somebody pastes the key where its id belongs.
        node.command(&["keys", "show", credential]);
    }

    let mut told: Vec<(String, String)> = ["/metrics", "/metrics/usage", "/stats", "/readyz", "/jwks"]
        .into_iter()
        .map(|page| (page.to_owned(), node.tollgate.ops(page).text()))
        .collect();
    assert!(node.tollgate.process.stop().success());
    let (decisions, service) = (node.tollgate.process.output(), node.tollgate.process.errors());
    let kinds: BTreeSet<String> = decisions
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a decision is JSON")["decision"].as_str().expect("a decision").to_owned())
        .collect();
    assert_eq!(kinds, ["allow", "deny", "fault"].map(str::to_owned).into());
    assert!(service.contains("\"level\":\"DEBUG\""), "the service log is not at debug");
    let spans = String::from_utf8_lossy(&node.collector.bytes("tollgate")).into_owned();
    assert!(spans.contains("bad_signature"), "no check was traced");
    told.extend([("the decision log".to_owned(), decisions), ("the service log".to_owned(), service), ("a span".to_owned(), spans)]);
    for credential in good.into_iter().chain(bad).chain([&away]) {
        for part in secret_parts(credential).into_iter().chain([basic(credential)]) {
            for (place, text) in &told {
                assert!(!text.contains(&part), "{place} tells {part}: {:?}", text.lines().find(|line| line.contains(&part)));
            }
        }
    }
}
