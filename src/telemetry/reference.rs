//! Every metric there is, as a page of Markdown, made of what the metrics themselves are made with.

use std::fmt::Write as _;

use crate::model::usage::Outcome;
use crate::telemetry::Metrics;
use crate::telemetry::access_log_metrics::AccessLogMetrics;
use crate::telemetry::families::Family;
use crate::telemetry::families::FamilyKind;
use crate::telemetry::families::Values;
use crate::telemetry::families::one_of;
use crate::telemetry::families::some;
use crate::telemetry::metrics::MetricsError;

const HEAD: &str = "# Metrics

Every metric, as `tollgate schema --metrics` prints it. `/metrics` of `listen.ops` has them all, and `/metrics/usage` has
`tollgate_user_requests_total` for every user; [the rules and dashboards](../k8s/prometheus/README.md) stand on them.
Nothing that a client sends stands in a label, but for names of users, and those are bounded: see `metrics.usage_series`.
The last column names the alerts and then the dashboards that ask for a metric, by themselves or by a recorded rule.
";

/// A metric on each line, and what of `k8s/prometheus/` asks for it.
const USES: &str = include_str!("uses.txt");

const DECIDED: [&str; 3] = [Outcome::Allowed.as_str(), Outcome::Limited.as_str(), Outcome::Refused.as_str()];

/// What a process exports under one circumstance.
#[derive(Clone, Debug)]
pub struct Part {
    /// The heading.
    pub when: &'static str,
    pub families: Vec<Family>,
}

/// The counts by user, which are made anew at each scrape and stand in no registry.
pub fn user_requests() -> Family {
    Family {
        name: "tollgate_user_requests_total".to_owned(),
        help: "Requests by user and outcome: allowed, limited (a rate limit was used up) or refused (any other 4xx of a known caller)."
            .to_owned(),
        kind: FamilyKind::Counter,
        labels: vec![some("user", "the user, `anonymous`, or `__other__` for all who have no series here"), one_of("outcome", &DECIDED)],
    }
}

/// Everything that is exported, each part in the order of its names.
///
/// # Errors
/// When two metrics share a name: a mistake of ours.
pub fn parts() -> Result<[Part; 4], MetricsError> {
    let (alone, sharing) = (Metrics::new()?, Metrics::with_shared_store()?);
    let mut always = alone.families().to_vec();
    let mut shared = sharing.families().to_vec();
    shared.retain(|family| always.iter().all(|known| known.name != family.name));
    always.push(user_requests());
    let answers = AccessLogMetrics::register(&alone)?.families().to_vec();
    let mut parts = [
        Part { when: "Always", families: always },
        Part { when: "With `store.redis`", families: shared },
        Part { when: "With `access_log: accepted`", families: answers },
        Part { when: "Of the process, on Linux", families: of_the_process() },
    ];
    for part in &mut parts {
        part.families.sort_by(|one, other| one.name.cmp(&other.name));
    }
    Ok(parts)
}

#[cfg(target_os = "linux")]
fn of_the_process() -> Vec<Family> {
    use prometheus::core::Collector as _;
    let collector = prometheus::process_collector::ProcessCollector::for_self();
    let families = collector.desc().into_iter().map(|desc| Family {
        name: desc.fq_name.clone(),
        help: desc.help.clone(),
        kind: if desc.fq_name.ends_with("_total") { FamilyKind::Counter } else { FamilyKind::Gauge },
        labels: Vec::new(),
    });
    families.collect()
}

#[cfg(not(target_os = "linux"))]
fn of_the_process() -> Vec<Family> {
    Vec::new()
}

/// The reference.
///
/// # Errors
/// As [`parts`].
pub fn markdown() -> Result<String, MetricsError> {
    let mut page = HEAD.to_owned();
    for part in parts()? {
        // Writing to a String cannot fail.
        let _ = write!(page, "\n## {}\n\n| metric | type | labels | what it is | used by |\n| --- | --- | --- | --- | --- |\n", part.when);
        for family in part.families {
            let labels: Vec<String> = family.labels.iter().map(|label| format!("`{}`: {}", label.name, show(label.values))).collect();
            let labels = labels.join("; ");
            let unit = ["seconds", "bytes"].into_iter().find(|unit| family.name.trim_end_matches("_total").ends_with(&format!("_{unit}")));
            let unit = unit.map(|unit| format!(", {unit}")).unwrap_or_default();
            let kind = family.kind.as_str();
            let _ = writeln!(page, "| `{}` | {kind}{unit} | {labels} | {} | {} |", family.name, family.help, uses(&family.name));
        }
    }
    Ok(page)
}

/// Empty: nothing asks for it.
fn uses(metric: &str) -> &'static str {
    USES.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(": ")).unwrap_or_default()
}

fn show(values: Values) -> String {
    match values {
        Values::Listed(values) => values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", "),
        Values::Described(words) => words.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn the_reference_is_what_is_exported() {
        let page = markdown().unwrap();
        let count: usize = parts().unwrap().iter().map(|part| part.families.len()).sum();
        assert_eq!(page.lines().filter(|line| line.starts_with("| `") && line.matches(" | ").count() == 4).count(), count);
        let reference = include_str!("../../envoy/metrics.md");
        assert_eq!(reference, page, "write it anew: tollgate schema --metrics > envoy/metrics.md");
    }

    #[test]
    fn every_metric_has_one_name_a_help_and_labels_that_are_told() {
        let mut names = BTreeSet::new();
        for family in parts().unwrap().into_iter().flat_map(|part| part.families) {
            assert!(names.insert(family.name.clone()), "{} stands there twice", family.name);
            assert!(family.help.ends_with('.') && family.help.len() > 15 && !family.help.contains('|'), "{family:?}");
            for label in &family.labels {
                assert!(!show(label.values).is_empty(), "{}: {}", family.name, label.name);
            }
        }
        assert!(names.len() > 80, "{}", names.len());
    }
}
