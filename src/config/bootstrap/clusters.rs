//! The clusters of a bootstrap, found by their names, and where each leads, through those that only gather others.

use std::collections::BTreeSet;
use std::collections::HashMap;

use crate::config::bootstrap::target::led_to;
use crate::config::bootstrap::tree::all;
use crate::config::bootstrap::tree::at;
use crate::config::bootstrap::tree::has_type;
use crate::config::bootstrap::tree::items;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::text;
use crate::config::bootstrap::tree::word;
use crate::config::bootstrap::way::clusters;
use crate::config::yaml::Node;

/// Kinds of clusters that find out where to go when a request is there.
const ANYWHERE: [&str; 2] = [".dynamic_forward_proxy.v3.ClusterConfig", ".original_dst.v3.OriginalDstClusterConfig"];
/// Kinds that lead where others lead.
const GATHERING: [&str; 2] = [".aggregate.v3.ClusterConfig", ".composite.v3.ClusterConfig"];
/// Kinds that lead to the endpoints that stand there, by the type of their config or by their name.
const PLAIN: [&str; 5] =
    [".dns.v3.DnsCluster", "envoy.cluster.static", "envoy.cluster.strict_dns", "envoy.cluster.logical_dns", "envoy.clusters.dns"];
const TYPES: [&str; 5] = ["STATIC", "STRICT_DNS", "LOGICAL_DNS", "EDS", "ORIGINAL_DST"];

#[derive(Default)]
pub(super) struct Clusters<'n> {
    by_name: HashMap<&'n str, Vec<&'n Node>>,
    /// Where whole virtual hosts send copies of requests.
    pub(super) copied_to: BTreeSet<&'n str>,
}

impl<'n> Clusters<'n> {
    pub(super) fn of(root: &'n Node) -> Self {
        let mut by_name: HashMap<&str, Vec<&Node>> = HashMap::new();
        for cluster in clusters(root) {
            by_name.entry(member(cluster, "name").and_then(text).unwrap_or_default()).or_default().push(cluster);
        }
        let wide = all(root, &|node| member(node, "virtual_hosts").is_some() || member(node, "domains").is_some());
        let copied_to = wide.into_iter().filter_map(|node| member(node, "request_mirror_policies")).flat_map(led_to).collect();
        Self { by_name, copied_to }
    }

    pub(super) fn named(&self, name: &str) -> &[&'n Node] {
        self.by_name.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Those of a name, and those to which they lead in turn.
    pub(super) fn behind(&self, name: &str) -> Vec<&'n Node> {
        let (mut seen, mut left, mut found) = (BTreeSet::new(), vec![name], Vec::new());
        while let Some(name) = left.pop() {
            if seen.insert(name) {
                found.extend(self.named(name));
                left.extend(self.named(name).iter().flat_map(|cluster| gathered(cluster)));
            }
        }
        found
    }
}

fn gathered(cluster: &Node) -> impl Iterator<Item = &str> {
    let config = at(cluster, &["cluster_type", "typed_config"]).filter(|config| GATHERING.iter().any(|kind| has_type(config, kind)));
    let listed = config.and_then(|config| member(config, "clusters")).map(items).unwrap_or_default().iter();
    listed.filter_map(|one| text(one).or_else(|| member(one, "name").and_then(text)))
}

pub(super) fn type_of(cluster: &Node) -> &str {
    word(cluster, &["type"], &TYPES).unwrap_or("STATIC")
}

/// Whether a request, or who writes it, says where this leads.
pub(super) fn leads_anywhere(cluster: &Node) -> bool {
    let config = at(cluster, &["cluster_type", "typed_config"]);
    type_of(cluster) == "ORIGINAL_DST" || config.is_some_and(|config| ANYWHERE.iter().any(|kind| has_type(config, kind)))
}

/// Whether this leads to the endpoints that stand in it, if there are any.
pub(super) fn is_plain(cluster: &Node) -> bool {
    let Some(kind) = member(cluster, "cluster_type") else { return true };
    match member(kind, "typed_config") {
        Some(config) => PLAIN.iter().any(|known| has_type(config, known)),
        None => member(kind, "name").and_then(text).is_some_and(|name| PLAIN.contains(&name)),
    }
}
