//! Where requests are led: through listeners that ask nobody, and whether a cluster is one of ours.

use std::collections::BTreeSet;

use crate::config::bootstrap::Judge;
use crate::config::bootstrap::clusters::is_plain;
use crate::config::bootstrap::passage::filters_of;
use crate::config::bootstrap::tree::all;
use crate::config::bootstrap::tree::all_of_type;
use crate::config::bootstrap::tree::at;
use crate::config::bootstrap::tree::entries;
use crate::config::bootstrap::tree::has_type;
use crate::config::bootstrap::tree::is_true;
use crate::config::bootstrap::tree::items;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::members_named;
use crate::config::bootstrap::tree::text;
use crate::config::bootstrap::tree::word;
use crate::config::bootstrap::way::Endpoint;
use crate::config::bootstrap::way::endpoints;
use crate::config::yaml::Node;

const COUNTERS: &str = "/stats/prometheus";

const RAW: &str = ".tcp_proxy.v3.TcpProxy";

/// What chooses a cluster only when a request is there.
pub(super) const CHOSEN_LATE: [&str; 3] = ["cluster_header", "cluster_specifier_plugin", "inline_cluster_specifier_plugin"];

/// What of the rest of a bootstrap decides about a listener that never asks.
pub(super) struct Surroundings<'n> {
    /// Where programs of this machine alone come in, and are led out of it as they are.
    local: BTreeSet<*const Node>,
    /// Where those go who were asked about.
    guarded: BTreeSet<&'n str>,
}

impl<'n> Surroundings<'n> {
    pub(super) fn of(root: &'n Node, asking: &[&'n Node]) -> Self {
        let listeners = at(root, &["static_resources", "listeners"]).map(items).unwrap_or_default();
        let local = listeners.iter().filter(|listener| is_local(listener)).flat_map(|listener| all_of_type(listener, RAW));
        let guarded = asking.iter().flat_map(|manager| all(manager, &|_| true)).flat_map(targets_of);
        Self { local: local.map(std::ptr::from_ref).collect(), guarded: guarded.collect() }
    }
}

impl Judge<'_> {
    /// A listener that never asks, beside one that does: connections as they are, or requests.
    pub(super) fn unguarded(&mut self, root: &Node, place: &Node, around: &Surroundings<'_>) {
        let is_raw = has_type(place, RAW);
        let mut spared = self.counters(root);
        spared.extend(sent_to_tls(root, place));
        let actions = members_named(place, "route").into_iter().filter(|action| !spared.contains(&std::ptr::from_ref(*action)));
        let actions = if is_raw { vec![place] } else { actions.chain(members_named(place, "request_mirror_policies")).collect() };
        let Some(target) = actions.into_iter().flat_map(led_to).find(|target| !self.is_issuer(target)) else { return };
        let wrong = format!("this listener leads to `{target}` and has no ext_authz filter: nobody is asked there");
        if is_raw && around.local.contains(&std::ptr::from_ref(place)) && !around.guarded.contains(target) {
            self.warn(place, "cluster", wrong)
                .hint("right where only programs of this machine come in, and what they reach is not guarded");
        } else if is_raw {
            self.say(place, "cluster", wrong).hint("an HttpConnectionManager with envoy.filters.http.ext_authz");
        } else {
            self.say(place, "http_filters", wrong).hint("add envoy.filters.http.ext_authz");
        }
    }

    /// Actions that lead to the page of the admin interface for Prometheus, and can lead to no other page: where nothing else is done to a
    /// request, by its exact path, with nothing that would change it.
    pub(super) fn counters(&self, root: &Node) -> BTreeSet<*const Node> {
        let admin = at(root, &["admin", "address"]).map(Endpoint::of).and_then(|address| address.as_listen());
        let Some(admin) = admin else { return BTreeSet::new() };
        let is_router = |filter: &Node| member(filter, "typed_config").is_some_and(|config| has_type(config, ".router.v3.Router"));
        let only_routes = |node: &Node| has_type(node, ".HttpConnectionManager") && filters_of(node).iter().all(is_router);
        let leads_there = |name: &str| self.leads_only(name, &|endpoint| endpoint.surely_meets(&admin));
        let is_one = |route: &Node| {
            let Some(action) = member(route, "route") else { return false };
            at(route, &["match", "path"]).and_then(text) == Some(COUNTERS)
                && entries(action).iter().all(|entry| ["cluster", "timeout"].contains(&entry.key.as_str()))
                && !led_to(action).is_empty()
                && led_to(action).into_iter().all(leads_there)
        };
        let routes = all(root, &only_routes).into_iter().flat_map(|manager| all(manager, &is_one));
        routes.filter_map(|route| member(route, "route")).map(std::ptr::from_ref).collect()
    }

    /// Whether an action, and whatever sends copies of its requests, leads to the issuer and nowhere else.
    pub(super) fn leads_to_issuer_alone(&self, action: &Node) -> bool {
        let mut targets = led_to(action);
        !targets.is_empty() && {
            targets.extend(self.clusters.copied_to.iter());
            targets.into_iter().all(|target| self.is_issuer(target))
        }
    }

    /// Whether a cluster leads to the issuer and nowhere else. What only shares its port may be any service.
    pub(super) fn is_issuer(&self, name: &str) -> bool {
        self.boot.issuer.as_ref().is_some_and(|listen| self.leads_only(name, &|endpoint| endpoint.surely_meets(listen)))
    }

    /// The same where names and other machines' addresses are given the benefit of the doubt.
    pub(super) fn may_be_issuer(&self, name: &str) -> bool {
        self.boot.issuer.as_ref().is_some_and(|listen| self.leads_only(name, &|endpoint| endpoint.meets(listen)))
    }

    pub(super) fn is_tollgate(&self, name: &str) -> bool {
        self.leads_only(name, &|endpoint| endpoint.meets(&self.boot.check))
    }

    fn leads_only(&self, name: &str, fits: &dyn Fn(&Endpoint<'_>) -> bool) -> bool {
        let named = self.clusters.named(name);
        let endpoints: Vec<Endpoint<'_>> = named.iter().flat_map(|cluster| endpoints(cluster)).collect();
        named.iter().all(|cluster| is_plain(cluster)) && !endpoints.is_empty() && endpoints.iter().all(fits)
    }
}

/// The clusters that a node names: where requests, or copies of them, go.
pub(super) fn targets_of(node: &Node) -> Vec<&str> {
    let weighted = at(node, &["weighted_clusters", "clusters"]).map(items).unwrap_or_default();
    let named = member(node, "cluster").into_iter().chain(weighted.iter().filter_map(|one| member(one, "name")));
    named.filter_map(text).collect()
}

/// The clusters that an action names anywhere, and the fields that choose one late, which are no cluster of ours.
pub(super) fn led_to(action: &Node) -> Vec<&str> {
    let late = |part| CHOSEN_LATE.into_iter().filter(move |field| member(part, field).is_some());
    all(action, &|_| true).into_iter().flat_map(|part| targets_of(part).into_iter().chain(late(part))).collect()
}

fn is_local(listener: &Node) -> bool {
    let more = member(listener, "additional_addresses").map(items).unwrap_or_default();
    let addresses: Vec<Endpoint<'_>> =
        std::iter::once(listener).chain(more).filter_map(|one| member(one, "address")).map(Endpoint::of).collect();
    !addresses.is_empty() && addresses.iter().all(|address| !address.is_remote() && *address != Endpoint::Unread)
}

/// Actions of virtual hosts that answer every request in plain text with a redirect, where requests come in so and none can say otherwise.
fn sent_to_tls(root: &Node, manager: &Node) -> Vec<*const Node> {
    let holds = |chain: &Node| all(chain, &|node| std::ptr::eq(node, manager)).len() == 1;
    let encrypted = |node: &Node| member(node, "filters").is_some() && member(node, "transport_socket").is_some();
    let hosts = all(manager, &|node| word(node, &["require_tls"], &["NONE", "EXTERNAL_ONLY", "ALL"]) == Some("ALL"));
    let is_believed = !is_true(manager, &["use_remote_address"]) || member(manager, "xff_num_trusted_hops").is_some();
    let is_changed = member(manager, "early_header_mutation_extensions").is_some()
        || member(manager, "http_filters").map_or(0, |list| items(list).len()) > 1;
    if hosts.is_empty() || is_believed || is_changed || all(root, &encrypted).into_iter().any(holds) {
        return Vec::new();
    }
    hosts.into_iter().flat_map(|host| members_named(host, "route")).map(std::ptr::from_ref).collect()
}
