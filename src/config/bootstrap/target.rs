//! Where requests are led: through listeners that ask nobody, and whether a cluster is one of ours.

use crate::config::bootstrap::Judge;
use crate::config::bootstrap::passage::filters_of;
use crate::config::bootstrap::tree::all;
use crate::config::bootstrap::tree::at;
use crate::config::bootstrap::tree::entries;
use crate::config::bootstrap::tree::has_type;
use crate::config::bootstrap::tree::items;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::members_named;
use crate::config::bootstrap::tree::text;
use crate::config::bootstrap::way::Endpoint;
use crate::config::bootstrap::way::clusters;
use crate::config::bootstrap::way::endpoints;
use crate::config::yaml::Node;

const COUNTERS: &str = "/stats/prometheus";

/// What chooses a cluster only when a request is there.
pub(super) const CHOSEN_LATE: [&str; 3] = ["cluster_header", "cluster_specifier_plugin", "inline_cluster_specifier_plugin"];

impl Judge<'_> {
    /// A listener that never asks, beside one that does: connections as they are, or requests.
    pub(super) fn unguarded(&mut self, root: &Node, place: &Node) {
        let is_raw = has_type(place, ".tcp_proxy.v3.TcpProxy");
        let actions = if is_raw { vec![place] } else { members_named(place, "route") };
        let counters = counters(root);
        let actions = actions.into_iter().filter(|action| !counters.iter().any(|known| std::ptr::eq(*known, *action)));
        let parts = actions.flat_map(|action| all(action, &|_| true));
        let late = |part| CHOSEN_LATE.into_iter().filter(move |field| member(part, field).is_some());
        let mut targets = parts.flat_map(|part| targets_of(part).into_iter().chain(late(part)));
        if let Some(target) = targets.find(|target| !self.is_issuer(root, target)) {
            let (field, hint) = if is_raw {
                ("cluster", "an HttpConnectionManager with envoy.filters.http.ext_authz")
            } else {
                ("http_filters", "add envoy.filters.http.ext_authz")
            };
            let wrong = format!("this listener leads to `{target}` and has no ext_authz filter: nobody is asked there");
            self.say(place, field, wrong).hint(hint);
        }
    }

    /// Whether a cluster leads to the issuer and nowhere else. What only shares its port may be any service.
    pub(super) fn is_issuer(&self, root: &Node, name: &str) -> bool {
        self.boot.issuer.as_ref().is_some_and(|listen| leads_only(root, name, &|endpoint| endpoint.surely_meets(listen)))
    }

    /// The same where names and other machines' addresses are given the benefit of the doubt.
    pub(super) fn may_be_issuer(&self, root: &Node, name: &str) -> bool {
        self.boot.issuer.as_ref().is_some_and(|listen| leads_only(root, name, &|endpoint| endpoint.meets(listen)))
    }

    pub(super) fn is_tollgate(&self, root: &Node, name: &str) -> bool {
        leads_only(root, name, &|endpoint| endpoint.meets(&self.boot.check))
    }
}

/// The clusters that a node names: where requests, or copies of them, go.
pub(super) fn targets_of(node: &Node) -> Vec<&str> {
    let weighted = at(node, &["weighted_clusters", "clusters"]).map(items).unwrap_or_default();
    let named = member(node, "cluster").into_iter().chain(weighted.iter().filter_map(|one| member(one, "name")));
    named.filter_map(text).collect()
}

/// Actions that lead to the page of the admin interface for Prometheus, and can lead to no other page: on a listener that does nothing else
/// to a request, by its exact path, with nothing that would change it.
pub(super) fn counters(root: &Node) -> Vec<&Node> {
    let Some(admin) = at(root, &["admin", "address"]).map(Endpoint::of).and_then(|address| address.as_listen()) else { return Vec::new() };
    let is_router = |filter: &Node| member(filter, "typed_config").is_some_and(|config| has_type(config, ".router.v3.Router"));
    let managers = all(root, &|node| matches!(filters_of(node), [only] if is_router(only)));
    let routes =
        managers.into_iter().flat_map(|manager| all(manager, &|node| at(node, &["match", "path"]).and_then(text) == Some(COUNTERS)));
    let is_plain = |action: &&Node| entries(action).iter().all(|entry| ["cluster", "timeout"].contains(&entry.key.as_str()));
    let is_admin = |name: &&str| leads_only(root, name, &|endpoint| endpoint.surely_meets(&admin));
    let actions = routes.into_iter().filter_map(|route| member(route, "route")).filter(is_plain);
    actions.filter(|action| targets_of(action).iter().all(is_admin)).collect()
}

fn leads_only(root: &Node, name: &str, fits: &dyn Fn(&Endpoint<'_>) -> bool) -> bool {
    let named = clusters(root).iter().filter(|cluster| member(cluster, "name").and_then(text) == Some(name));
    let endpoints: Vec<Endpoint<'_>> = named.flat_map(endpoints).collect();
    !endpoints.is_empty() && endpoints.iter().all(fits)
}
