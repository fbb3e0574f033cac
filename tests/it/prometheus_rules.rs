//! Rules and dashboards of `k8s/prometheus/`: every metric that they name exists, every expression can be read, every alert fires and
//! holds still, and is explained.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tollgate::check::reasons::Reason;
use tollgate::telemetry::reference::parts;

use crate::support::folder::Folder;
use crate::support::prometheus::dashboards;
use crate::support::prometheus::metrics_in;
use crate::support::prometheus::promtool;
use crate::support::prometheus::questions;
use crate::support::prometheus::read;
use crate::support::prometheus::rules;
use crate::support::prometheus::shelf;
use crate::support::prometheus::yaml;

/// The recorded rate of checks without a verdict, by instance and reason.
const UNANSWERED: &str = "job_instance_reason:tollgate_checks_unanswered:rate5m";

fn text(rule: &Value, path: &str) -> String {
    rule.pointer(path).and_then(Value::as_str).unwrap_or_else(|| panic!("no {path} in {rule}")).to_owned()
}

/// Every expression of rules and dashboards, with its place.
fn expressions() -> Vec<(String, String)> {
    let rules = ["recording.yaml", "alerts.yaml"].into_iter().flat_map(rules);
    rules.map(|(name, rule)| (name, text(&rule, "/expr"))).chain(questions()).collect()
}

/// The metrics of the reference.
fn known() -> BTreeSet<String> {
    parts().expect("metrics").into_iter().flat_map(|part| part.families).map(|family| family.name).collect()
}

/// The metric of the reference that a series belongs to: a histogram has three kinds of them.
fn family_of<'a>(series: &'a str, known: &BTreeSet<String>) -> Option<&'a str> {
    let family = ["_bucket", "_count", "_sum"].iter().find_map(|end| series.strip_suffix(end)).unwrap_or(series);
    [series, family].into_iter().find(|name| known.contains(*name))
}

/// What an expression asks for, with what the recorded rules in it ask for.
fn asked_by(expression: &str, recorded: &BTreeMap<String, String>) -> BTreeSet<String> {
    let of = |metric: String| match recorded.get(&metric) {
        Some(rule) => asked_by(rule, recorded),
        None => BTreeSet::from([metric]),
    };
    metrics_in(expression).into_iter().flat_map(of).collect()
}

/// The last column of `envoy/metrics.md` comes from this file.
#[test]
fn the_reference_names_the_alerts_and_dashboards_that_use_a_metric() {
    let known = known();
    let recorded = rules("recording.yaml").into_iter().map(|(name, rule)| (name, text(&rule, "/expr"))).collect();
    let alerts = rules("alerts.yaml").into_iter().map(|(name, rule)| (0, format!("`{name}`"), text(&rule, "/expr")));
    let panels = questions().into_iter().map(|(place, question)| (1, place.split(".json").next().unwrap_or_default().to_owned(), question));
    let mut uses: BTreeMap<String, [BTreeSet<String>; 2]> = BTreeMap::new();
    for (kind, user, expression) in alerts.chain(panels) {
        for family in asked_by(&expression, &recorded).iter().filter_map(|series| family_of(series, &known)) {
            uses.entry(family.to_owned()).or_default()[kind].insert(user.clone());
        }
    }
    let mut file = String::new();
    for (family, users) in uses {
        let lists = users.into_iter().filter(|list| !list.is_empty()).map(|list| Vec::from_iter(list).join(", "));
        let _ = writeln!(file, "{family}: {}", Vec::from_iter(lists).join("; "));
    }
    let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join("uses.txt");
    std::fs::write(&made, &file).expect("a folder for what tests make");
    let (here, from) = ("src/telemetry/uses.txt", made.display());
    assert_eq!(include_str!("../../src/telemetry/uses.txt"), file, "write it anew: cp {from} {here}, then envoy/metrics.md");
}

/// An alert on a metric that does not exist never fires. What Envoy has is held to a real one by `envoy_metrics`.
#[test]
fn every_metric_that_a_rule_or_dashboard_names_exists() {
    let known = known();
    let recorded: BTreeSet<String> = rules("recording.yaml").into_iter().map(|(name, _)| name).collect();
    let mut named = BTreeSet::new();
    for (place, expression) in expressions() {
        for metric in metrics_in(&expression) {
            let is_known = metric.starts_with("envoy_") || recorded.contains(&metric) || family_of(&metric, &known).is_some();
            assert!(is_known, "{place}: there is no {metric}");
            named.insert(metric);
        }
    }
    // Each state of the shared store has one.
    for name in ["redis_connected", "redis_breaker_open", "changes_lease_held", "usage_unpublished_seconds", "limit_local_share_total"] {
        assert!(named.contains(&format!("tollgate_{name}")), "{name}");
    }
    let idle: Vec<&String> = recorded.iter().filter(|name| !named.contains(*name)).collect();
    assert!(idle.is_empty(), "recorded for nobody: {idle:?}");
    // Variables of dashboards ask for metrics too.
    for (name, dashboard) in dashboards() {
        for variable in dashboard["templating"]["list"].as_array().expect("variables") {
            let asked = metrics_in(variable["query"].as_str().expect("a query"));
            assert!(asked.iter().all(|metric| metric.starts_with("envoy_") || known.contains(metric)), "{name}: {asked:?}");
        }
    }
}

#[test]
fn the_names_of_metrics_are_told_from_labels_and_numbers() {
    let cases: [(&str, &[&str]); 4] = [
        ("sum by (job) (rate(tollgate_a_total{tollgate_b=\"tollgate_c}\"}[5m])) > 1", &["tollgate_a_total"]),
        ("job:tollgate_x:rate5m > 14.4 * 0.001 and on (job) process_y", &["job:tollgate_x:rate5m", "process_y"]),
        ("max_over_time(sum(rate(tollgate_z[2m]))[5m:1m])", &["tollgate_z"]),
        ("envoy_a_bucket{envoy_cluster_name=~\".*tollgate.*\"} / 1000", &["envoy_a_bucket"]),
    ];
    for (expression, expected) in cases {
        assert_eq!(metrics_in(expression), expected.iter().map(|name| (*name).to_owned()).collect(), "{expression}");
    }
}

#[test]
fn every_alert_fires_when_it_must_and_not_when_it_must_not() {
    let tested = read("alerts.test.yaml");
    for (alert, rule) in rules("alerts.yaml") {
        let window = rule["labels"]["window"].as_str().map_or_else(String::new, |window| format!(",window=\"{window}\""));
        let asked = format!("ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"{window}}}");
        assert!(tested.matches(&asked).count() >= 2, "alerts.test.yaml does not ask for both answers of {alert}{window}");
    }
    for file in ["recording.test.yaml", "alerts.test.yaml"] {
        promtool(&shelf(), &["test", "rules", file], "");
    }
}

fn manual() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("envoy/operations.md")).expect("the manual")
}

/// The paragraphs of `envoy/operations.md` about alerts, by heading.
fn runbooks() -> BTreeMap<String, String> {
    let manual = manual();
    let part = manual.split("\n## Alerts\n").nth(1).expect("a part about alerts").split("\n## ").next().unwrap_or_default();
    let mut headings = BTreeMap::new();
    for part in part.split("\n### ").skip(1) {
        let (heading, body) = part.split_once('\n').expect("a heading has a body");
        assert!(headings.insert(heading.to_owned(), body.trim().to_owned()).is_none(), "{heading} stands there twice");
    }
    headings
}

#[test]
fn every_alert_is_explained() {
    let headings = runbooks();
    let (mut alerts, mut pages) = (BTreeSet::new(), BTreeSet::new());
    for (alert, rule) in rules("alerts.yaml") {
        assert!(["critical", "warning", "info"].contains(&text(&rule, "/labels/severity").as_str()), "{alert}");
        assert!(text(&rule, "/annotations/summary").len() > 20 && text(&rule, "/annotations/description").len() > 15, "{alert}");
        let (page, anchor) = text(&rule, "/annotations/runbook_url")
            .split_once('#')
            .map(|(page, anchor)| (page.to_owned(), anchor.to_owned()))
            .expect("an anchor");
        assert_eq!(anchor, alert.to_ascii_lowercase());
        assert!(page.starts_with("https://") && page.ends_with("/envoy/operations.md"), "{alert}: {page}");
        pages.insert(page);
        assert!(headings.get(&alert).is_some_and(|body| body.len() > 80), "envoy/operations.md says nothing about {alert}");
        alerts.insert(alert);
    }
    assert_eq!(headings.keys().cloned().collect::<BTreeSet<_>>(), alerts, "runbooks and alerts");
    assert_eq!(pages.len(), 1, "`make rules RUNBOOKS=…` changes all of them: {pages:?}");
    // A runbook sends its reader to another part of the page only if that is there.
    let page = manual();
    let places: BTreeSet<String> = page
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches(['#', ' ']).to_ascii_lowercase().replace(' ', "-"))
        .collect();
    for link in headings.values().flat_map(|body| body.split("](#").skip(1)) {
        let anchor = link.split(')').next().unwrap_or_default();
        assert!(places.contains(anchor), "no such part: {anchor}");
    }
}

/// Whatever a client sees as 503 of ours is a check without a verdict, and nothing else is; and whoever asks why is shown all of it.
#[test]
fn the_objective_counts_every_reason_that_is_ours() {
    let recorded: BTreeMap<String, Value> = rules("recording.yaml").into_iter().collect();
    let expression = text(&recorded[UNANSWERED], "/expr");
    let listed: BTreeSet<&str> =
        expression.split("reason=~\"").nth(1).expect("reasons").split('"').next().unwrap_or_default().split('|').collect();
    let ours: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.row()).filter(|row| row.http == 503).map(|row| row.label).collect();
    assert_eq!(listed, ours);
    assert_eq!(text(&recorded["job:tollgate_checks_unanswered:rate5m"], "/expr"), format!("sum by (job) ({UNANSWERED})"));
    let runbooks = runbooks();
    for (alert, rule) in
        rules("alerts.yaml").into_iter().filter(|(alert, _)| ["TollgateUnansweredBurnsBudget", "TollgateFaults"].contains(&alert.as_str()))
    {
        assert!(text(&rule, "/annotations/description").contains(UNANSWERED), "{alert}: its description asks for something else");
        assert!(runbooks[&alert].contains(UNANSWERED), "{alert}: its runbook asks for something else");
    }
    for reason in ours {
        assert!(runbooks["TollgateUnansweredBurnsBudget"].contains(&format!("`{reason}`")), "no word of {reason}");
    }
    // Reasons of other rules and panels exist as well.
    let labels: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.row().label).collect();
    for (place, expression) in expressions() {
        for list in expression.split("reason=~\"").skip(1) {
            let named = list.split('"').next().unwrap_or_default();
            assert!(named.split('|').all(|reason| labels.contains(reason)), "{place}: {named}");
        }
    }
}

#[test]
fn prometheus_takes_the_rules_and_every_question_of_the_dashboards() {
    promtool(&shelf(), &["check", "config", "prometheus.yaml"], "");
    let mut file = String::from("groups:\n  - name: dashboards\n    rules:\n");
    let asked = questions();
    assert!(asked.len() > 80, "{}", asked.len());
    for (number, (_, question)) in asked.iter().enumerate() {
        let _ = writeln!(file, "      - record: question_{number}\n        expr: {}", serde_json::to_string(question).expect("JSON"));
    }
    let folder = Folder::new();
    folder.write("questions.yaml", &file);
    promtool(folder.path(), &["check", "rules", "questions.yaml"], "");
}

/// `make rules` writes it.
#[test]
fn the_operators_rules_are_the_same_rules() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/prometheus_rule.sh");
    let output = Command::new(script).output().expect("tests/tools/prometheus_rule.sh runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), read("prometheusrule.yaml"), "write it anew: make rules");
    let groups = |file: &Value| file["groups"].as_array().cloned().expect("groups");
    let plain = [groups(&yaml("recording.yaml")), groups(&yaml("alerts.yaml"))].concat();
    assert_eq!(groups(&yaml("prometheusrule.yaml")["spec"]), plain);
    let names: BTreeSet<&str> = plain.iter().filter_map(|group| group["name"].as_str()).collect();
    assert_eq!(names.len(), plain.len(), "groups share a name");
}

#[test]
fn dashboards_are_whole() {
    let files: BTreeSet<String> = dashboards().into_keys().map(|name| format!("dashboards/{name}")).collect();
    let shipped = yaml("kustomization.yaml");
    let shipped = shipped.pointer("/configMapGenerator/0/files").and_then(Value::as_array).cloned().expect("files");
    assert_eq!(shipped.iter().filter_map(Value::as_str).map(str::to_owned).collect::<BTreeSet<_>>(), files);
    let mut uids = BTreeSet::new();
    for (name, dashboard) in dashboards() {
        assert!(uids.insert(text(&dashboard, "/uid")), "{name}: a uid twice");
        let variables: BTreeSet<String> =
            dashboard["templating"]["list"].as_array().expect("variables").iter().map(|variable| text(variable, "/name")).collect();
        let mut ids = BTreeSet::new();
        let mut taken = BTreeSet::new();
        for panel in dashboard["panels"].as_array().expect("panels") {
            let title = text(panel, "/title");
            assert!(ids.insert(panel["id"].as_u64()), "{name}: {title}: an id twice");
            let at = |key: &str| panel["gridPos"][key].as_u64().expect("a place");
            assert!(at("x") + at("w") <= 24, "{name}: {title} is too wide");
            for cell in (at("y")..at("y") + at("h")).flat_map(|row| (at("x")..at("x") + at("w")).map(move |column| (row, column))) {
                assert!(taken.insert(cell), "{name}: {title} lies on another panel");
            }
            assert_eq!(panel["type"] == "row" || panel["type"] == "text", panel["targets"].is_null(), "{name}: {title}");
            for target in panel["targets"].as_array().into_iter().flatten() {
                // What is scraped once a minute has no two values in a shorter interval.
                let is_slow =
                    ["tollgate_user_requests_total", "[$__rate_interval]"].iter().all(|part| text(target, "/expr").contains(part));
                assert!(!is_slow || target["interval"] == "60s", "{name}: {title} would be empty");
            }
        }
        let used = dashboard.to_string();
        for part in used.split('$').skip(1) {
            let variable: String = part
                .trim_start_matches('{')
                .chars()
                .take_while(|character| character.is_ascii_alphanumeric() || *character == '_')
                .collect();
            assert!(variable.starts_with("__") || variables.contains(&variable), "{name}: no variable {variable}");
        }
        for variable in &variables {
            assert!(
                used.contains(&format!("${variable}")) || used.contains(&format!("${{{variable}}}")),
                "{name}: {variable} is used nowhere"
            );
        }
    }
    assert!(uids.len() >= 3);
}
