//! What an EnvoyFilter does to the filters and routes that Istio writes: what can be held against the rules, what undoes them, and what
//! nobody can judge from here.

use std::collections::BTreeSet;

use crate::config::bootstrap::Judge;
use crate::config::bootstrap::manifests::Manifests;
use crate::config::bootstrap::passage::gates_of;
use crate::config::bootstrap::tree::all;
use crate::config::bootstrap::tree::all_of_type;
use crate::config::bootstrap::tree::at;
use crate::config::bootstrap::tree::entries;
use crate::config::bootstrap::tree::has_type;
use crate::config::bootstrap::tree::items;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::text;
use crate::config::bootstrap::workloads::Reach;
use crate::config::yaml::Node;

/// What Istio calls the filter that asks, and the one whose metadata sends requests to it.
const EXT_AUTHZ: &str = "envoy.filters.http.ext_authz";
const RBAC: &str = "envoy.filters.http.rbac";
const MANAGER: &str = "envoy.filters.network.http_connection_manager";
/// What every Istio puts behind the filter that asks.
const BEHIND: [&str; 9] = [
    "envoy.filters.http.jwt_authn",
    "istio_authn",
    "envoy.filters.http.grpc_web",
    "envoy.filters.http.grpc_stats",
    "istio.alpn",
    "envoy.filters.http.fault",
    "envoy.filters.http.cors",
    "istio.stats",
    "envoy.filters.http.router",
];

/// Where a patch goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    HttpFilter,
    NetworkFilter,
    Routes,
    /// A part that is not looked at.
    Other,
}

/// What a patch does there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Merge,
    Insert,
    /// What was there is gone, or something else.
    Undo,
}

/// On which side of the filter that asks a filter comes to stand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Before,
    Behind,
    /// Beside a filter whose own place is not known here.
    Unknown,
}

impl Side {
    /// `about`: the filter that the patch names as its place.
    fn of(written: &str, about: &str) -> Self {
        match (written, about) {
            ("INSERT_FIRST", _) | ("INSERT_BEFORE", "" | EXT_AUTHZ | RBAC) => Self::Before,
            // The first rbac is the one that sends requests to ext_authz, and stands right before it.
            ("INSERT_AFTER" | "REPLACE", RBAC) => Self::Before,
            ("INSERT_AFTER", "" | EXT_AUTHZ) => Self::Behind,
            ("INSERT_BEFORE" | "INSERT_AFTER" | "REPLACE", about) if !BEHIND.contains(&about) => Self::Unknown,
            _ => Self::Behind,
        }
    }
}

/// One patch, taken apart.
struct Patch<'n> {
    part: Part,
    operation: Operation,
    /// The filter that it is about or stands beside; empty: each.
    about: &'n str,
    side: Side,
    value: Option<&'n Node>,
}

/// The patches of an EnvoyFilter that may be for what comes in.
pub(super) fn inbound(filter: &Node) -> impl Iterator<Item = &Node> {
    let patches = at(filter, &["spec", "configPatches"]).map(items).unwrap_or_default();
    patches.iter().filter(|patch| at(patch, &["match", "context"]).and_then(text) != Some("SIDECAR_OUTBOUND"))
}

/// Whether a patch changes each connection manager where requests come in: of sidecars, or of gateways.
pub(super) fn is_for_all_of(patch: &Node, sidecars: bool) -> bool {
    let Some(matched) = member(patch, "match") else { return true };
    let has_only = |names: &[&str], known: &[&str]| {
        at(matched, names).is_none_or(|node| entries(node).len() == known.iter().filter(|name| member(node, name).is_some()).count())
    };
    let is_any = |names: &[&str], known: &[&str]| at(matched, names).and_then(text).is_none_or(|word| known.contains(&word));
    let contexts: &[&str] = if sidecars { &["ANY", "SIDECAR_INBOUND"] } else { &["ANY", "SIDECAR_INBOUND", "GATEWAY"] };
    is_any(&["context"], contexts)
        && has_only(&[], &["context", "listener"])
        && has_only(&["listener"], &["filterChain"])
        && has_only(&["listener", "filterChain"], &["filter"])
        && is_any(&["listener", "filterChain", "filter", "name"], &[MANAGER])
}

impl<'n> Patch<'n> {
    fn of(node: &'n Node) -> Self {
        let part = match member(node, "applyTo").and_then(text).unwrap_or_default() {
            "HTTP_FILTER" => Part::HttpFilter,
            "NETWORK_FILTER" => Part::NetworkFilter,
            "HTTP_ROUTE" | "VIRTUAL_HOST" | "ROUTE_CONFIGURATION" => Part::Routes,
            _ => Part::Other,
        };
        let written = at(node, &["patch", "operation"]).and_then(text).unwrap_or_default();
        let filter = at(node, &["match", "listener", "filterChain", "filter"]);
        let about = if part == Part::NetworkFilter { filter } else { filter.and_then(|filter| member(filter, "subFilter")) };
        let about = about.and_then(|about| member(about, "name")).and_then(text).unwrap_or_default();
        Self {
            part,
            operation: match written {
                "REMOVE" | "REPLACE" => Operation::Undo,
                "ADD" | "INSERT_FIRST" | "INSERT_BEFORE" | "INSERT_AFTER" => Operation::Insert,
                _ => Operation::Merge,
            },
            about,
            side: Side::of(written, about),
            value: at(node, &["patch", "value"]),
        }
    }

    fn has(&self, ending: &str) -> bool {
        self.value.and_then(|value| member(value, "typed_config")).is_some_and(|config| has_type(config, ending))
    }

    /// What of the way to Tollgate this takes away.
    fn undone(&self) -> Option<&'static str> {
        let named = self.value.and_then(|value| member(value, "name")).and_then(text).unwrap_or_default();
        let is_about = |name: &str| self.about == name || (self.operation == Operation::Merge && self.about.is_empty() && named == name);
        match (self.part, self.operation) {
            (Part::HttpFilter, Operation::Undo) if self.about.is_empty() => Some("each HTTP filter"),
            (Part::HttpFilter, Operation::Undo | Operation::Merge) if is_about(RBAC) => {
                Some("the rbac filter, which sends requests to ext_authz,")
            }
            (Part::HttpFilter, Operation::Undo) if is_about(EXT_AUTHZ) => Some("the ext_authz filter"),
            (Part::HttpFilter, Operation::Merge)
                if !self.has(".ext_authz.v3.ExtAuthz") && (is_about(EXT_AUTHZ) || self.about.is_empty()) =>
            {
                Some("the ext_authz filter")
            }
            (Part::NetworkFilter, Operation::Undo) if ["", MANAGER].contains(&self.about) => Some("the HTTP connection manager"),
            _ => None,
        }
    }

    /// Whether the rules of this house say all that there is to say.
    fn is_read(&self) -> bool {
        match (self.part, self.operation) {
            (Part::HttpFilter | Part::NetworkFilter, Operation::Undo) | (Part::Routes, Operation::Merge) => true,
            (Part::HttpFilter, Operation::Insert) => !self.has(".ext_authz.v3.ExtAuthz"),
            (Part::HttpFilter, Operation::Merge) => self.has(".ext_authz.v3.ExtAuthz"),
            (Part::NetworkFilter, Operation::Merge) => self.has(".HttpConnectionManager"),
            (Part::NetworkFilter, Operation::Insert) | (Part::Routes, Operation::Insert | Operation::Undo) | (Part::Other, _) => false,
        }
    }
}

impl Judge<'_> {
    pub(super) fn patches(&mut self, filter: &Node, manifests: &Manifests<'_>) {
        self.spelled_once(filter);
        for node in inbound(filter) {
            let patch = Patch::of(node);
            if let Some(lost) = patch.undone() {
                let wrong = format!("{lost} is removed or becomes something else by this patch, so nobody is asked");
                self.say(node, "patch", wrong).hint("leave it out");
                continue;
            }
            let errors_before = self.findings.errors.len();
            if let Some(value) = patch.value {
                self.patched(filter, &patch, value, manifests);
            }
            if !patch.is_read() && self.findings.errors.len() == errors_before {
                let part = member(node, "applyTo").and_then(text).unwrap_or("nothing");
                self.not_judged(node, "patch", &format!("a patch of this kind, applied to {part}"));
            }
        }
    }

    fn patched(&mut self, filter: &Node, patch: &Patch<'_>, value: &Node, manifests: &Manifests<'_>) {
        for config in all_of_type(value, ".ext_authz.v3.ExtAuthz") {
            self.filter(filter, config);
            if member(config, "grpc_service").is_some() {
                self.not_judged(config, "grpc_service", "whom this filter asks instead of the provider");
            }
        }
        let managers = all_of_type(value, ".HttpConnectionManager");
        let is_led_past = patch.part != Part::Routes && !(patch.part == Part::NetworkFilter && patch.operation == Operation::Merge);
        let raw = all_of_type(value, ".tcp_proxy.v3.TcpProxy");
        if let Some(past) = raw.iter().chain(managers.iter().filter(|_| is_led_past)).next() {
            self.say(past, "", "this patch leads clients past what Istio puts before the service, so nobody is asked there")
                .hint("leave it out");
        }
        for manager in managers {
            let errors_before = self.findings.errors.len();
            self.spelling(manager);
            let mut said = self.findings.errors.split_off(errors_before);
            if patch.operation == Operation::Merge {
                let others = merged_for(filter, manifests);
                said.retain(|complaint| says(manager, &complaint.field) || !others.iter().any(|other| says(other, &complaint.field)));
            }
            self.findings.errors.append(&mut said);
            self.upgrades(manager);
        }
        if let Some(gate) = gates_of(std::slice::from_ref(value)).first() {
            self.order(std::slice::from_ref(value), *gate);
        } else if let (Part::HttpFilter, Some(config)) = (patch.part, member(value, "typed_config")) {
            let name = member(value, "name").and_then(text).unwrap_or("a filter");
            let errors_before = self.findings.errors.len();
            let doubt = match patch.side {
                Side::Before => {
                    self.beforehand(value, name, config);
                    self.put_in_by(value, name, config);
                    Some(format!("what {name} does to a request before Tollgate is asked"))
                }
                Side::Behind => {
                    self.afterwards(value, name, config);
                    None
                }
                Side::Unknown => {
                    self.afterwards(value, name, config);
                    Some(format!("on which side of ext_authz {name} stands, beside `{}`", patch.about))
                }
            };
            if let Some(what) = doubt.filter(|_| self.findings.errors.len() == errors_before) {
                self.not_judged(value, "name", &what);
            }
        }
        self.routes_afterwards(value, &[]);
        for route in all(value, &|node| member(node, "typed_per_filter_config").is_some()) {
            self.exemption(route, &BTreeSet::from([EXT_AUTHZ]));
            let configs = member(route, "typed_per_filter_config").map(entries).unwrap_or_default();
            if configs.iter().any(|config| config.key == RBAC || has_type(&config.node, ".RBACPerRoute")) {
                self.say(
                    route,
                    "typed_per_filter_config",
                    "the rbac filter, which sends requests to ext_authz, is changed on this route: nobody is asked there",
                )
                .hint("leave it out; what needs nobody is `auth: public` in tollgate.yaml");
            }
        }
    }
}

/// The connection managers that patches merge into those of everybody whom this filter is for.
fn merged_for<'n>(filter: &'n Node, manifests: &Manifests<'n>) -> Vec<&'n Node> {
    let reach = Reach::of(filter, manifests);
    let sidecars = reach.is_for_sidecars(manifests);
    let wide = manifests.of("EnvoyFilter").filter(|other| Reach::of(other, manifests).holds(&reach, manifests));
    let merging = wide.flat_map(inbound).filter(|patch| {
        let taken_apart = Patch::of(patch);
        is_for_all_of(patch, sidecars) && taken_apart.part == Part::NetworkFilter && taken_apart.operation == Operation::Merge
    });
    merging.flat_map(|patch| all_of_type(patch, ".HttpConnectionManager")).collect()
}

/// Whether a part of a connection manager's settings says something of a field, or of what is looked at within it.
fn says(manager: &Node, field: &str) -> bool {
    let within = if field == "common_http_protocol_options" { &["headers_with_underscores_action"][..] } else { &[] };
    at(manager, &[&[field], within].concat()).is_some()
}
