//! What a request meets on its way through a listener: what is mended before ext_authz, the order of the filters, and the routes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::config::bootstrap::Judge;
use crate::config::bootstrap::filter::LONGEST_TIMEOUT_SECONDS;
use crate::config::bootstrap::tree::all;
use crate::config::bootstrap::tree::all_of_type;
use crate::config::bootstrap::tree::at;
use crate::config::bootstrap::tree::entries;
use crate::config::bootstrap::tree::has_type;
use crate::config::bootstrap::tree::is_true;
use crate::config::bootstrap::tree::items;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::members_named;
use crate::config::bootstrap::tree::seconds;
use crate::config::bootstrap::tree::text;
use crate::config::bootstrap::way::clusters;
use crate::config::bootstrap::way::endpoints;
use crate::config::bootstrap::way::show;
use crate::config::yaml::Node;

/// The ext_authz filter of a connection manager.
#[derive(Clone, Copy)]
pub(super) struct GateFilter<'n> {
    pub(super) position: usize,
    pub(super) entry: &'n Node,
    pub(super) config: &'n Node,
}

/// Filters that answer or forward by themselves, so that Tollgate is never asked when they stand before it.
const LAST_WORDS: [&str; 5] = [
    ".router.v3.Router",
    ".cache.v3.CacheConfig",
    ".cache_v2.v3.CacheV2Config",
    ".aws_lambda.v3.Config",
    ".file_server.v3.FileServerConfig",
];

pub(super) fn gate_of(manager: &Node) -> Option<GateFilter<'_>> {
    let filters = member(manager, "http_filters").map(items)?;
    filters.iter().enumerate().find_map(|(position, entry)| {
        let config = member(entry, "typed_config").filter(|config| has_type(config, ".ext_authz.v3.ExtAuthz"))?;
        Some(GateFilter { position, entry, config })
    })
}

impl Judge<'_> {
    /// Whom Envoy believes about where a client is.
    pub(super) fn client_address(&mut self, manager: &Node) {
        if !is_true(manager, &["use_remote_address"]) {
            let wrong = "use_remote_address is not true: what a client writes into x-forwarded-for and x-envoy-* would be believed";
            self.say(manager, "use_remote_address", wrong).hint("use_remote_address: true");
        }
        let theirs = member(manager, "xff_num_trusted_hops").and_then(text).unwrap_or("0");
        let ours = self.rules.trusted_hops;
        if theirs.parse() != Ok(ours) {
            let wrong =
                format!("xff_num_trusted_hops is {theirs}, and trusted_hops in tollgate.yaml is {ours}: the two mean different clients");
            self.say(manager, "xff_num_trusted_hops", wrong).hint("the number of proxies before this Envoy, in both");
        }
    }

    /// How paths and header names are read, and whose identity headers come in.
    pub(super) fn spelling(&mut self, manager: &Node) {
        let wanted = [
            ("normalize_path", "Envoy, Tollgate and the upstream could read one path in different ways"),
            ("merge_slashes", "`//` is refused by Tollgate instead of read as `/`"),
        ];
        for (field, why) in wanted {
            if !is_true(manager, &[field]) {
                self.say(manager, field, format!("{field} is not true: {why}")).hint(format!("{field}: true"));
            }
        }
        let slashes = at(manager, &["path_with_escaped_slashes_action"]).and_then(text).unwrap_or("IMPLEMENTATION_SPECIFIC_DEFAULT");
        if !matches!(slashes, "REJECT_REQUEST" | "UNESCAPE_AND_REDIRECT") {
            let wrong = format!("path_with_escaped_slashes_action is {slashes}: `%2F` could be read as a slash behind the gate");
            self.say(manager, "path_with_escaped_slashes_action", wrong).hint("path_with_escaped_slashes_action: REJECT_REQUEST");
        }
        let underscores =
            at(manager, &["common_http_protocol_options", "headers_with_underscores_action"]).and_then(text).unwrap_or("ALLOW");
        if !matches!(underscores, "REJECT_REQUEST" | "DROP_HEADER") {
            let wrong = "headers_with_underscores_action is ALLOW: many servers read x_user_id as x-user-id";
            self.say(manager, "common_http_protocol_options", wrong).hint("headers_with_underscores_action: REJECT_REQUEST");
        }
        let removed = removed_early(manager);
        for name in self.identity_names() {
            if !removed.contains(&*name) {
                let wrong = format!("a client's own `{name}` is not removed before ext_authz, so it passes wherever Tollgate is not asked");
                self.say(manager, "early_header_mutation_extensions", wrong).hint(format!("add `- remove: {name}` to its mutations"));
            }
        }
    }

    /// Who stands before ext_authz, and who undoes it afterwards.
    pub(super) fn order(&mut self, manager: &Node, gate: GateFilter<'_>) {
        if is_true(gate.entry, &["disabled"]) {
            self.say(gate.entry, "disabled", "the ext_authz filter is disabled, so only routes that enable it are asked about")
                .hint("leave it out; a route that needs nobody is `auth: public` in tollgate.yaml");
        }
        let identity = self.identity_names();
        for (position, entry) in member(manager, "http_filters").map(items).unwrap_or_default().iter().enumerate() {
            let name = member(entry, "name").and_then(text).unwrap_or("a filter");
            let Some(config) = member(entry, "typed_config") else { continue };
            if position < gate.position {
                if LAST_WORDS.iter().any(|ending| has_type(config, ending)) {
                    self.say(entry, "name", format!("{name} stands before ext_authz and answers or forwards without asking Tollgate"))
                        .hint("put it after ext_authz");
                }
                continue;
            }
            if position == gate.position {
                continue;
            }
            if has_type(config, ".cors.v3.Cors") {
                self.say(
                    entry,
                    "name",
                    "the CORS filter stands after ext_authz, so Tollgate refuses preflights, which carry no credential",
                )
                .hint("put it before ext_authz");
            }
            if clears_routes(config) {
                let wrong = format!(
                    "{name} stands after ext_authz and clears the route cache: a request could move to a route that was never checked"
                );
                self.say(entry, "name", wrong).hint("put it before ext_authz, or let it leave the route alone");
            }
            let lost: Vec<&str> = members_named(config, "remove")
                .into_iter()
                .filter_map(text)
                .filter(|name| identity.iter().any(|own| **own == **name))
                .collect();
            if !lost.is_empty() {
                self.say(entry, "name", format!("{name} removes {} after Tollgate has set it", lost.join(", ")))
                    .hint("remove it before ext_authz: early_header_mutation_extensions");
            }
        }
    }

    /// Every request must meet a route, and no route may be quicker than its check or undo it.
    pub(super) fn routes(&mut self, manager: &Node, gate: GateFilter<'_>) {
        let Some(config) = member(manager, "route_config") else { return };
        let hosts = member(config, "virtual_hosts").map(items).unwrap_or_default();
        let is_for_all =
            |host: &&Node| member(host, "domains").map(items).unwrap_or_default().iter().any(|domain| text(domain) == Some("*"));
        if !hosts.iter().any(|host| is_for_all(&host)) {
            self.say(
                config,
                "virtual_hosts",
                "no virtual host has the domain `*`: other hosts are 404 and never checked, counted or logged",
            )
            .hint("domains: [\"*\"] for one of them");
        }
        for host in hosts {
            let routes = member(host, "routes").map(items).unwrap_or_default();
            if !routes.iter().filter_map(|route| member(route, "match")).any(takes_everything) {
                let wrong = "no route takes what is left over: an unknown path is 404 and never checked, counted or logged";
                self.say(host, "routes", wrong).hint("end with `- match: { prefix: / }`");
            }
        }
        let check = at(gate.config, &["grpc_service", "timeout"]).and_then(seconds).filter(|seconds| *seconds <= LONGEST_TIMEOUT_SECONDS);
        let identity = self.identity_names();
        for route in all(config, &|node| member(node, "route").is_some() && member(node, "match").is_some()) {
            let timeout = at(route, &["route", "timeout"]).and_then(seconds).filter(|seconds| *seconds > 0.0);
            if let (Some(check), Some(timeout)) = (check, timeout)
                && check >= timeout
            {
                let wrong = format!("the route gives up after {timeout} s, and a check alone may take {check} s");
                self.say(route, "route", wrong).hint("a shorter timeout of grpc_service, or a longer one here");
            }
        }
        for list in members_named(config, "request_headers_to_remove") {
            for name in items(list).iter().filter_map(text).filter(|name| identity.iter().any(|own| **own == **name)) {
                self.say(list, "", format!("request_headers_to_remove takes away `{name}`, which Tollgate has set"))
                    .hint("take it out of the list");
            }
        }
        for list in members_named(config, "request_headers_to_add") {
            let names = items(list).iter().filter_map(|item| at(item, &["header", "key"]).and_then(text));
            for name in names.filter(|name| identity.iter().any(|own| **own == **name)) {
                self.say(list, "", format!("request_headers_to_add writes `{name}`, which is Tollgate's to set"))
                    .hint("take it out of the list");
            }
        }
    }

    /// What is misspelt would stand there as a chain that does nothing.
    pub(super) fn chains(&mut self, root: &Node) {
        for chain in members_named(root, "filter_chains").into_iter().flat_map(items).chain(members_named(root, "default_filter_chain")) {
            if member(chain, "filters").map(items).unwrap_or_default().is_empty() {
                self.say(chain, "filters", "no filters can be read in this filter chain, so nothing is known of what comes in there")
                    .hint("`filters:`, spelt so, with an HTTP connection manager that asks Tollgate");
            }
        }
    }

    /// A listener that never asks, beside one that does.
    pub(super) fn unguarded(&mut self, root: &Node, manager: &Node) {
        for target in all(manager, &|node| at(node, &["route", "cluster"]).is_some()) {
            let Some(cluster) = at(target, &["route", "cluster"]).and_then(text) else { continue };
            if !self.is_issuer(root, cluster) {
                self.say(
                    manager,
                    "http_filters",
                    format!("this listener leads to `{cluster}` and has no ext_authz filter: nobody is asked there"),
                )
                .hint("add envoy.filters.http.ext_authz");
                return;
            }
        }
    }

    /// Routes that are exempt from ext_authz although something stands behind them.
    pub(super) fn exemption(&mut self, root: &Node, route: &Node, filter_names: &BTreeSet<&str>) {
        let Some(config) = member(route, "typed_per_filter_config") else { return };
        let by_itself = all_of_type(config, ".ExtAuthzPerRoute").into_iter().any(|one| is_true(one, &["disabled"]));
        let by_wrapper = entries(config).iter().any(|entry| {
            filter_names.contains(&*entry.key) && has_type(&entry.node, ".route.v3.FilterConfig") && is_true(&entry.node, &["disabled"])
        });
        let answers_itself = member(route, "direct_response").is_some() || member(route, "redirect").is_some();
        let leads_to_issuer = at(route, &["route", "cluster"]).and_then(text).is_some_and(|cluster| self.is_issuer(root, cluster));
        if (by_itself || by_wrapper) && !answers_itself && !leads_to_issuer {
            self.say(route, "typed_per_filter_config", "ext_authz is disabled on a route that leads to an upstream: nobody is asked there")
                .hint("let Tollgate say `auth: public` instead, so that it is counted and logged");
        }
    }

    /// Where the issuer listens, Envoy must lead people to it.
    pub(super) fn issuer(&mut self, root: &Node) {
        let Some(listen) = &self.boot.issuer else { return };
        let ours: Vec<&str> = clusters(root)
            .iter()
            .filter(|cluster| endpoints(cluster).iter().any(|endpoint| endpoint.meets(listen)))
            .filter_map(|cluster| member(cluster, "name").and_then(text))
            .collect();
        let routed = all(root, &|node| at(node, &["route", "cluster"]).is_some());
        let routed = routed.into_iter().filter_map(|node| at(node, &["route", "cluster"]).and_then(text)).any(|name| ours.contains(&name));
        if !routed {
            let wrong = format!("listen.issuer is {}, and no route leads there: nobody can sign in or get a token", show(listen));
            self.say(root, "static_resources", wrong).hint("`tollgate envoy init` prints the routes");
            return;
        }
        self.issuer_paths(root);
    }

    pub(super) fn admin(&mut self, root: &Node) {
        let Some(address) = at(root, &["admin", "address", "socket_address", "address"]) else { return };
        let is_open =
            text(address).is_some_and(|host| host.parse::<IpAddr>().map_or(host != "localhost", |address| !address.is_loopback()));
        if is_open {
            self.say(root, "admin", "the admin interface is open to other machines: it shows the whole configuration and can stop Envoy")
                .hint("address: 127.0.0.1");
        }
    }

    pub(super) fn is_issuer(&self, root: &Node, name: &str) -> bool {
        let Some(listen) = &self.boot.issuer else { return false };
        let named = clusters(root).iter().filter(|cluster| member(cluster, "name").and_then(text) == Some(name));
        named.flat_map(endpoints).any(|endpoint| endpoint.meets(listen))
    }
}

/// Names removed by early mutations, and by header mutation filters that stand before ext_authz.
fn removed_early(manager: &Node) -> BTreeSet<&str> {
    let early = member(manager, "early_header_mutation_extensions").into_iter();
    let filters = member(manager, "http_filters").map(items).unwrap_or_default();
    let before =
        filters.iter().take_while(|filter| member(filter, "typed_config").is_none_or(|config| !has_type(config, ".ext_authz.v3.ExtAuthz")));
    let before = before.filter_map(|filter| member(member(filter, "typed_config")?, "mutations"));
    early.chain(before).flat_map(|place| members_named(place, "remove")).filter_map(text).collect()
}

/// `{ prefix: / }` and nothing that narrows it.
pub(super) fn takes_everything(matcher: &Node) -> bool {
    let all_paths = member(matcher, "prefix").and_then(text) == Some("/")
        || at(matcher, &["safe_regex", "regex"]).and_then(text).is_some_and(|pattern| matches!(pattern, ".*" | "/.*"));
    all_paths && !narrows(matcher)
}

/// Whether something beside the path decides.
pub(super) fn narrows(matcher: &Node) -> bool {
    let fields = ["headers", "query_parameters", "grpc", "runtime_fraction", "dynamic_metadata", "tls_context", "filter_state", "cookies"];
    fields.iter().any(|field| member(matcher, field).is_some())
}

/// Whether a filter can make Envoy choose the route anew, as far as its config tells.
fn clears_routes(config: &Node) -> bool {
    let says_so =
        !all(config, &|node| is_true(node, &["clear_route_cache"]) || member(node, "route_cache_action").and_then(text) == Some("CLEAR"))
            .is_empty();
    let code_does =
        has_type(config, ".lua.v3.Lua") && !all(config, &|node| text(node).is_some_and(|code| code.contains("clearRouteCache"))).is_empty();
    let transcodes = has_type(config, ".grpc_json_transcoder.v3.GrpcJsonTranscoder") && !is_true(config, &["match_incoming_request_route"]);
    says_so || code_does || transcodes
}
