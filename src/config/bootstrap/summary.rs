//! What was looked at, so that a person sees that it is the right file.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::config::bootstrap::manifests::Manifests;
use crate::config::bootstrap::manifests::namespace_of;
use crate::config::bootstrap::passage::filters_of;
use crate::config::bootstrap::passage::gates_of;
use crate::config::bootstrap::tree::all;
use crate::config::bootstrap::tree::all_of_type;
use crate::config::bootstrap::tree::at;
use crate::config::bootstrap::tree::items;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::members_named;
use crate::config::bootstrap::tree::text;
use crate::config::bootstrap::way::Endpoint;
use crate::config::bootstrap::way::clusters;
use crate::config::bootstrap::way::endpoints;
use crate::config::bootstrap::workloads::Pods;
use crate::config::bootstrap::workloads::pods_of;
use crate::config::yaml::Node;

/// Of a longer list only so many are named.
const MOST_NAMED: usize = 6;

pub(super) fn summed_up(documents: &[&Node]) -> Vec<(&'static str, String)> {
    let manifests = Manifests::among(documents);
    if manifests.is_empty() {
        return documents.iter().flat_map(|root| of_bootstrap(root)).collect();
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for kind in manifests.all().filter_map(|document| member(document, "kind").and_then(text)) {
        *counts.entry(kind).or_default() += 1;
    }
    let counted = counts.into_iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let providers = manifests.providers.iter().filter_map(|provider| member(provider, "name").and_then(text)).map(str::to_owned);
    let missing: BTreeSet<String> = pods_of(&manifests).iter().flat_map(|pods| secrets_beside(pods, &manifests)).collect();
    let own = [("kinds", joined(counted)), ("asks", joined(providers.collect())), ("needs", joined(missing.into_iter().collect()))];
    own.into_iter().filter(|(_, said)| !said.is_empty()).chain(manifests.bootstraps.iter().flat_map(|root| of_bootstrap(root))).collect()
}

/// Secrets that pods wait for and that are in no document here.
fn secrets_beside(pods: &Pods<'_>, manifests: &Manifests<'_>) -> Vec<String> {
    let namespace = namespace_of(pods.document);
    let named = at(pods.template, &["spec", "volumes"]).map(|volumes| members_named(volumes, "secretName")).unwrap_or_default();
    let missing = named.into_iter().filter_map(text).filter(|name| manifests.named("Secret", namespace, name).is_none());
    missing
        .map(|name| if namespace.is_empty() { format!("the Secret {name}") } else { format!("the Secret {name} in {namespace}") })
        .collect()
}

fn of_bootstrap(root: &Node) -> Vec<(&'static str, String)> {
    let called = |node: &Node| member(node, "name").and_then(text).unwrap_or("(no name)").to_owned();
    let listeners = at(root, &["static_resources", "listeners"]).map(items).unwrap_or_default();
    let listening = listeners.iter().map(|listener| match member(listener, "address").map(Endpoint::of) {
        Some(address) => format!("{} {address}", called(listener)),
        None => called(listener),
    });
    let managers = all_of_type(root, ".HttpConnectionManager");
    let gates = managers.iter().flat_map(|manager| gates_of(filters_of(manager)));
    let asked: BTreeSet<String> = gates
        .filter_map(|gate| {
            let name = at(gate.config, &["grpc_service", "envoy_grpc", "cluster_name"]).and_then(text)?;
            let timeout = at(gate.config, &["grpc_service", "timeout"]).and_then(text);
            Some(timeout.map_or_else(|| name.to_owned(), |timeout| format!("{name}, {timeout} at most")))
        })
        .collect();
    let routes =
        |manager: &&Node| member(manager, "route_config").map_or(0, |config| all(config, &|node| member(node, "match").is_some()).len());
    let led = clusters(root).iter().map(|cluster| {
        let ends: Vec<String> = endpoints(cluster).iter().map(ToString::to_string).collect();
        if ends.is_empty() { called(cluster) } else { format!("{} {}", called(cluster), ends.join(" ")) }
    });
    let admin = at(root, &["admin", "address"]).map(|address| Endpoint::of(address).to_string());
    [
        ("listens", joined(listening.collect())),
        ("admin", joined(admin.into_iter().collect())),
        ("routes", managers.iter().map(routes).sum::<usize>().to_string()),
        ("asks", joined(asked.into_iter().collect())),
        ("clusters", joined(led.collect())),
    ]
    .into_iter()
    .filter(|(_, said)| !said.is_empty())
    .collect()
}

fn joined(mut names: Vec<String>) -> String {
    let beyond = names.len().saturating_sub(MOST_NAMED);
    names.truncate(MOST_NAMED);
    if beyond > 0 {
        names.push(format!("{beyond} more"));
    }
    names.join(", ").chars().filter(|letter| !letter.is_control()).collect()
}
