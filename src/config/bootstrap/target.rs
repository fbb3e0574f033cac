//! Where requests are led: through listeners that ask nobody, and whether a cluster is one of ours.

use crate::config::boot::Listen;
use crate::config::bootstrap::Judge;
use crate::config::bootstrap::tree::all;
use crate::config::bootstrap::tree::has_type;
use crate::config::bootstrap::tree::items;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::text;
use crate::config::bootstrap::way::clusters;
use crate::config::bootstrap::way::endpoints;
use crate::config::yaml::Node;

/// What chooses a cluster only when a request is there.
const CHOSEN_LATE: [&str; 3] = ["cluster_header", "cluster_specifier_plugin", "inline_cluster_specifier_plugin"];

impl Judge<'_> {
    /// A listener that never asks, beside one that does: connections as they are, or requests.
    pub(super) fn unguarded(&mut self, root: &Node, place: &Node) {
        let is_raw = has_type(place, ".tcp_proxy.v3.TcpProxy");
        let actions = if is_raw { vec![place] } else { all(place, &|node| member(node, "route").is_some()) };
        for action in actions.into_iter().filter_map(|node| if is_raw { Some(node) } else { member(node, "route") }) {
            let weighted =
                member(action, "weighted_clusters").and_then(|weighted| member(weighted, "clusters")).map(items).unwrap_or_default();
            let named = member(action, "cluster").into_iter().chain(weighted.iter().filter_map(|one| member(one, "name"))).filter_map(text);
            let late = CHOSEN_LATE
                .into_iter()
                .filter(|field| member(action, field).is_some() || weighted.iter().any(|one| member(one, field).is_some()));
            if let Some(target) = named.filter(|cluster| !self.is_issuer(root, cluster)).chain(late).next() {
                let (field, hint) = if is_raw {
                    ("cluster", "an HttpConnectionManager with envoy.filters.http.ext_authz")
                } else {
                    ("http_filters", "add envoy.filters.http.ext_authz")
                };
                let wrong = format!("this listener leads to `{target}` and has no ext_authz filter: nobody is asked there");
                self.say(place, field, wrong).hint(hint);
                return;
            }
        }
    }

    pub(super) fn is_issuer(&self, root: &Node, name: &str) -> bool {
        self.boot.issuer.as_ref().is_some_and(|listen| leads_to(root, name, listen))
    }

    pub(super) fn is_tollgate(&self, root: &Node, name: &str) -> bool {
        leads_to(root, name, &self.boot.check)
    }
}

fn leads_to(root: &Node, name: &str, listen: &Listen) -> bool {
    let named = clusters(root).iter().filter(|cluster| member(cluster, "name").and_then(text) == Some(name));
    named.flat_map(endpoints).any(|endpoint| endpoint.meets(listen))
}
