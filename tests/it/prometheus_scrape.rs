//! A real Prometheus with the jobs and rules that we ship, before a Tollgate with many users: what it costs, and that its sums are exact.
//!
//! `TOLLGATE_TEST_USERS` says how many users there are; a usual run has few.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde_json::Value;
use serde_json::json;

use crate::support::grpc::Checker;
use crate::support::grpc::check_request;
use crate::support::grpc::denied_with;
use crate::support::http1::message;
use crate::support::jwt;
use crate::support::process::wait_until;
use crate::support::prometheus::Prometheus;
use crate::support::prometheus::metrics_in;
use crate::support::prometheus::promtool;
use crate::support::prometheus::questions;
use crate::support::prometheus::shelf;
use crate::support::scenario::JWT_SECRET;
use crate::support::scenario::Plan;
use crate::support::scenario::Scenario;

const AT_ONCE: usize = 64;
/// More than the smallest tier takes at once.
const GREEDY: usize = 25;

/// What was sent: by user and outcome.
type Counts = BTreeMap<(String, String), u64>;

fn token(subject: &str, scope: &str, tier: &str) -> String {
    let claims = jwt::claims("https://id.demo.example", "https://api.demo.example", subject);
    jwt::hs256(&jwt::with(claims, json!({ "scope": scope, "tier": tier })), JWT_SECRET)
}

/// Everybody asks between once and four times; one without the scope, one more often than its tier allows.
fn ask_all(checker: &Checker, tokens: &[(String, String)], counts: &mut Counts) {
    let times = |user: &str, number: usize| if user == "greedy" { GREEDY } else { 1 + number % 4 };
    let questions: Vec<(&str, &str)> = tokens
        .iter()
        .enumerate()
        .flat_map(|(number, (user, token))| std::iter::repeat_n((user.as_str(), token.as_str()), times(user, number)))
        .collect();
    let requests = questions
        .iter()
        .map(|(_, token)| check_request("GET", "/api/v1/conversations", &[("authorization", format!("Bearer {token}").as_bytes())]));
    let answers = checker.check_all(requests, AT_ONCE);
    for ((user, _), answer) in questions.iter().zip(answers) {
        let outcome = match denied_with(&answer) {
            None => "allowed",
            Some(429) => "limited",
            Some(403) => "refused",
            Some(other) => panic!("{user}: {other}"),
        };
        // Users of an issuer are called by its name too.
        *counts.entry((format!("demo:{user}"), outcome.to_owned())).or_default() += 1;
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn sum(counts: &Counts) -> f64 {
    counts.values().sum::<u64>() as f64
}

fn kilobytes(text: &str) -> usize {
    text.len() / 1024
}

#[test]
fn prometheus_knows_every_user_to_the_request() {
    let users = std::env::var("TOLLGATE_TEST_USERS").map_or(40, |users| users.parse().expect("TOLLGATE_TEST_USERS is a number"));
    let scenario = Plan::of("quickstart").start();
    let prometheus = Prometheus::start(&scenario.folder, scenario.tollgate.ops_port, scenario.envoy.admin_port);
    let checker = Checker::connect(&scenario.tollgate.check);
    let mut tokens: Vec<(String, String)> =
        (0..users).map(|number| format!("user-{number}")).map(|user| (user.clone(), token(&user, "conversations:read", "pro"))).collect();
    tokens.push(("stranger".to_owned(), token("stranger", "nothing", "pro")));
    tokens.push(("greedy".to_owned(), token("greedy", "conversations:read", "free")));

    // Twice, with a scrape between, because Prometheus cannot see how a series came to its first value.
    let everybody = "sum(tollgate_user_requests_total)";
    let mut counts = Counts::new();
    for round in 0..2_u32 {
        ask_all(&checker, &tokens, &mut counts);
        ask_through_envoy(&scenario, &tokens[0], &mut counts);
        wait_until("Prometheus has seen all of it", || (prometheus.value(everybody) - sum(&counts)).abs() < 0.5);
        // Each job scrapes when it likes.
        wait_until("in either job", || prometheus.value("sum(tollgate_checks_total)") > sum(&counts) - 0.5);
        let through_envoy = f64::from(round + 1);
        wait_until("and Envoy's count too", || (prometheus.value("sum(envoy_http_ext_authz_ok)") - through_envoy).abs() < 0.5);
        assert!(counts.keys().any(|(_, outcome)| outcome == "limited"), "round {round}");
    }
    // Everybody here has a tier.
    let by_tier = |tier: &str| prometheus.value(&format!("sum(tollgate_tier_checks_total{{tier=~\"{tier}\"}})"));
    let of_greedy: u64 = counts.iter().filter(|((user, _), _)| user == "demo:greedy").map(|(_, count)| count).sum();
    assert!((by_tier(".+") - sum(&counts)).abs() < 0.5 && (by_tier("free") - of_greedy as f64).abs() < 0.5, "{}", by_tier(".+"));
    let seen: BTreeMap<(String, String), u64> = prometheus
        .ask("tollgate_user_requests_total")
        .into_iter()
        .map(|(labels, value)| {
            assert_eq!(labels["job"], "tollgate-usage", "users come from one job alone");
            let whole: u64 = format!("{value:.0}").parse().expect("a count");
            ((labels["user"].clone(), labels["outcome"].clone()), whole)
        })
        .collect();
    let wrong: Vec<_> = counts.iter().filter(|(who, count)| seen.get(*who) != Some(count)).take(5).collect();
    assert!(seen.len() == counts.len() && wrong.is_empty(), "{} of {} series, and wrong: {wrong:?}", seen.len(), counts.len());

    check_rules(&prometheus);
    check_dashboards(&prometheus);
    check_pages(&scenario);
    report(&prometheus, &scenario, users);
}

fn ask_through_envoy(scenario: &Scenario, (user, token): &(String, String), counts: &mut Counts) {
    let authorization = format!("Bearer {token}");
    let request = message("GET", "/api/v1/conversations", "api.example.com", &[("authorization", &authorization)], b"");
    assert_eq!(scenario.client().raw(&request).status, 200);
    *counts.entry((format!("demo:{user}"), "allowed".to_owned())).or_default() += 1;
}

/// All are evaluated without an error, and a node that is well makes none of them fire.
fn check_rules(prometheus: &Prometheus) {
    let every_rule = |data: &Value| -> Vec<Value> {
        let groups = data["groups"].as_array().expect("groups");
        groups.iter().flat_map(|group| group["rules"].as_array().expect("rules")).cloned().collect()
    };
    wait_until("every rule was evaluated", || every_rule(&prometheus.api("rules")).iter().all(|rule| rule["health"] != "unknown"));
    let rules = every_rule(&prometheus.api("rules"));
    assert!(rules.len() > 80, "{}", rules.len());
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
        assert_ne!(rule["state"], "firing", "{rule}");
    }
}

/// Every panel shows something, except those of what this node does not have.
fn check_dashboards(prometheus: &Prometheus) {
    // The quickstart has no Redis, no TLS, no issuer whose keys come from a URL, and takes no access log.
    let absent = [
        "redis_",
        "sidecars",
        "changes_",
        "limit_",
        "grace_",
        "usage_unpublished",
        "usage_publish_",
        "usage_writer_",
        "tls_",
        "key_set_",
        "access_log_",
        "answer_",
    ];
    for (place, question) in questions() {
        // The first user of Grafana's variable is known here with its issuer.
        let question = question.replace("user=\"user-1\"", "user=\"demo:user-1\"");
        let is_absent =
            metrics_in(&question).iter().any(|metric| absent.iter().any(|start| metric.starts_with(&format!("tollgate_{start}"))));
        let may_be_empty = is_absent || question.ends_with("> 0");
        if may_be_empty {
            prometheus.ask(&question);
        } else {
            wait_until(&format!("{place} shows something: {question}"), || !prometheus.ask(&question).is_empty());
        }
    }
}

fn check_pages(scenario: &Scenario) {
    for target in ["/metrics", "/metrics/usage"] {
        let said = promtool(&shelf(), &["check", "metrics"], &scenario.tollgate.ops(target).text());
        assert_eq!(said, "", "{target}");
    }
}

fn report(prometheus: &Prometheus, scenario: &Scenario, users: usize) {
    let jobs: BTreeSet<String> = prometheus.ask("up == 1").into_iter().map(|(labels, _)| labels["job"].clone()).collect();
    assert_eq!(jobs, ["tollgate", "tollgate-usage", "envoy"].map(str::to_owned).into());
    eprintln!("{users} users; series of Prometheus in all: {}", prometheus.api("status/tsdb")["headStats"]["numSeries"]);
    for (job, target) in [("tollgate", "/metrics"), ("tollgate-usage", "/metrics/usage")] {
        let of = |metric: &str| prometheus.value(&format!("{metric}{{job=\"{job}\"}}"));
        let (scraped, kept) = (of("scrape_samples_scraped"), of("scrape_samples_post_metric_relabeling"));
        let longest = prometheus.value(&format!("max_over_time(scrape_duration_seconds{{job=\"{job}\"}}[5m])"));
        let size = kilobytes(&scenario.tollgate.ops(target).text());
        eprintln!(
            "{target}: {scraped} series, {kept} kept, {size} KiB, scraped in {:.1} ms, at the longest {:.1} ms",
            of("scrape_duration_seconds") * 1000.0,
            longest * 1000.0
        );
    }
}
