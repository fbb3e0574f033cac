//! What rules and dashboards ask of Envoy is there under that name, and counts what the runbooks say that it counts.

use std::collections::BTreeSet;

use crate::support::http1::Client;
use crate::support::process::wait_until;
use crate::support::prometheus::metrics_in;
use crate::support::prometheus::questions;
use crate::support::prometheus::rules;
use crate::support::prometheus::yaml;
use crate::support::scenario::Plan;
use crate::support::scenario::Scenario;

fn named() -> BTreeSet<String> {
    let rules = ["recording.yaml", "alerts.yaml"].into_iter().flat_map(rules);
    let expressions = rules.map(|(_, rule)| rule["expr"].as_str().expect("an expression").to_owned());
    let expressions = expressions.chain(questions().into_iter().map(|(_, question)| question));
    let metrics = expressions.flat_map(|expression| metrics_in(&expression)).filter(|metric| metric.starts_with("envoy_"));
    metrics.map(|metric| metric.strip_suffix("_bucket").map_or(metric.clone(), str::to_owned)).collect()
}

#[test]
fn every_metric_of_envoys_that_a_rule_or_dashboard_names_exists() {
    let config = yaml("prometheus.yaml");
    let jobs = config["scrape_configs"].as_array().expect("jobs");
    let job = jobs.iter().find(|job| job["job_name"] == "envoy").expect("a job for Envoy");
    let filter = job.pointer("/params/filter/0").and_then(|filter| filter.as_str()).expect("a filter").replace('|', "%7C");
    let target = format!("{}?filter={filter}", job["metrics_path"].as_str().expect("a path"));

    let scenario = Scenario::quickstart();
    let named = named();
    assert!(named.len() >= 8, "{named:?}");
    // Histograms show themselves at Envoy's next flush after their first value.
    wait_until(&format!("Envoy shows all of {named:?}"), || {
        scenario.client().get("/api/v1/conversations", &[]);
        let page = Client::new(scenario.envoy.admin_port).get(&target, &[]).text();
        let shown: BTreeSet<&str> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        named.iter().all(|metric| shown.contains(metric.as_str()))
    });
    let page = Client::new(scenario.envoy.admin_port).get(&target, &[]).text();
    assert!(page.contains("envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name=\"tollgate\""), "{page}");
}

#[test]
fn envoy_counts_what_the_runbooks_say() {
    let counts = |scenario: &Scenario| {
        ["ok", "denied", "error", "disabled", "failure_mode_allowed"]
            .map(|name| scenario.envoy.statistic(&format!("http.public.ext_authz.tollgate.{name}")))
    };
    // An error each time that nobody answers, whether Envoy then refuses or lets in; a route that is not asked about counts nowhere.
    for (mode, status, expected) in [("false", 503, [0, 1, 1, 0, 0]), ("true", 200, [0, 1, 1, 0, 1])] {
        let plan = Plan::of("quickstart").envoy_with("failure_mode_allow: false", &format!("failure_mode_allow: {mode}"));
        let mut scenario = plan.start();
        assert_eq!(scenario.client().get("/healthz", &[]).status, 200);
        assert_eq!(scenario.client().get("/api/v1/conversations", &[]).status, 401);
        scenario.tollgate.process.kill();
        assert_eq!(scenario.client().get("/api/v1/conversations", &[]).status, status, "failure_mode_allow: {mode}");
        assert_eq!(counts(&scenario), expected, "failure_mode_allow: {mode}");
    }
}
