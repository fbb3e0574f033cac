//! What rules and dashboards ask of Envoy is there under that name, and counts what the runbooks say that it counts.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use serde_json::json;

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

/// Istio's Envoys name metrics and labels by tags of their own and show what `proxyStatsMatcher` includes; the PodMonitor names them back.
#[test]
fn what_istio_calls_otherwise_gets_its_name_back() {
    let k8s = |name: &str| -> Value {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("k8s/components/istio").join(name);
        serde_yaml::from_str(&std::fs::read_to_string(path).expect("a file of k8s/")).expect("YAML")
    };
    let mesh = k8s("mesh-config.yaml");
    let patterns = mesh.pointer("/meshConfig/defaultConfig/proxyStatsMatcher/inclusionRegexps").expect("what Istio shall show");
    let patterns: Vec<Value> =
        patterns.as_array().expect("a list").iter().map(|pattern| json!({ "safe_regex": { "regex": pattern } })).collect();
    let stats_config = json!({
        "use_all_default_tags": false,
        "stats_tags": [
            { "tag_name": "cluster_name", "regex": "^cluster\\.((.+?(\\..+?\\.svc\\.cluster\\.local)?)\\.)" },
            { "tag_name": "http_conn_manager_prefix", "regex": "^http\\.(((?:[_.[:digit:]]*|[_\\[\\]aAbBcCdDeEfF[:digit:]]*))\\.)" },
        ],
        "stats_matcher": { "inclusion_list": { "patterns": patterns } },
    });
    let scenario = Plan::of("quickstart")
        .envoy_with("static_resources:\n", &format!("stats_config: {stats_config}\nstatic_resources:\n"))
        .envoy_with("stat_prefix: public", "stat_prefix: inbound_0.0.0.0_8080;")
        .envoy_with("    - name: tollgate\n", "    - name: tollgate\n      alt_stat_name: outbound|9191||tollgate;\n")
        .start();

    let monitor = k8s("envoy-monitor.yaml");
    let endpoint = monitor.pointer("/spec/podMetricsEndpoints/0").expect("an endpoint");
    let rules = endpoint["metricRelabelings"].as_array().expect("relabelings");
    let renamed = |line: &str| {
        let (name, rest) = line.split_at(line.find('{').unwrap_or(line.len()));
        let mut name = name.to_owned();
        let mut labels = rest.split('}').next().unwrap_or_default().replace("{cluster_name=", "{envoy_cluster_name=");
        for rule in rules {
            let anchored = regex::Regex::new(&format!("^(?:{})$", rule["regex"].as_str().expect("a regex"))).expect("a regex");
            if rule["sourceLabels"][0] == "__name__"
                && let Some(found) = anchored.captures(&name.clone())
            {
                let mut value = String::new();
                found.expand(rule["replacement"].as_str().unwrap_or("$1"), &mut value);
                match rule["targetLabel"].as_str() {
                    Some("__name__") => name = value,
                    label => labels.push_str(&format!(" {}={value}", label.expect("a target"))),
                }
            }
        }
        (name, labels)
    };
    let filter = endpoint.pointer("/params/filter/0").and_then(Value::as_str).expect("a filter").replace('|', "%7C");
    let named = named();
    wait_until("all of it is there under Envoy's own names", || {
        scenario.client().get("/api/v1/conversations", &[]);
        let page = Client::new(scenario.envoy.admin_port).get(&format!("/stats/prometheus?filter={filter}"), &[]).text();
        let shown: Vec<(String, String)> = page.lines().filter(|line| !line.starts_with('#')).map(renamed).collect();
        named.iter().all(|metric| {
            shown.iter().any(|(name, labels)| {
                let is_it = name == metric || name.strip_suffix("_bucket") == Some(metric);
                is_it && (!metric.starts_with("envoy_cluster_") || labels.contains("envoy_cluster_name=\"outbound|9191||tollgate"))
            })
        })
    });
}
