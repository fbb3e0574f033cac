//! What a request meets on its way through a listener: what is mended before ext_authz, the order of the filters, and the routes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::config::bootstrap::Judge;
use crate::config::bootstrap::filter::LONGEST_TIMEOUT_SECONDS;
use crate::config::bootstrap::filter::unreadable;
use crate::config::bootstrap::tree::all;
use crate::config::bootstrap::tree::all_of_type;
use crate::config::bootstrap::tree::at;
use crate::config::bootstrap::tree::contains_type;
use crate::config::bootstrap::tree::entries;
use crate::config::bootstrap::tree::has_type;
use crate::config::bootstrap::tree::is_true;
use crate::config::bootstrap::tree::items;
use crate::config::bootstrap::tree::may_be_true;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::members_named;
use crate::config::bootstrap::tree::seconds;
use crate::config::bootstrap::tree::text;
use crate::config::bootstrap::tree::word;
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

const SLASHES: [&str; 5] =
    ["IMPLEMENTATION_SPECIFIC_DEFAULT", "KEEP_UNCHANGED", "REJECT_REQUEST", "UNESCAPE_AND_REDIRECT", "UNESCAPE_AND_FORWARD"];

/// Filters that answer or forward by themselves, so that Tollgate is never asked when they stand before it.
const LAST_WORDS: [&str; 5] = [
    ".router.v3.Router",
    ".cache.v3.CacheConfig",
    ".cache_v2.v3.CacheV2Config",
    ".aws_lambda.v3.Config",
    ".file_server.v3.FileServerConfig",
];

pub(super) fn filters_of(manager: &Node) -> &[Node] {
    member(manager, "http_filters").map(items).unwrap_or_default()
}

/// Every ext_authz of a chain of filters.
pub(super) fn gates_of(filters: &[Node]) -> Vec<GateFilter<'_>> {
    let gate = |(position, entry)| {
        let config = member(entry, "typed_config").filter(|config| has_type(config, ".ext_authz.v3.ExtAuthz"))?;
        Some(GateFilter { position, entry, config })
    };
    filters.iter().enumerate().filter_map(gate).collect()
}

impl Judge<'_> {
    /// The filters of a chain that ask Tollgate or, where none surely does, all that ask somebody.
    pub(super) fn asking<'n>(&self, filters: &'n [Node]) -> Vec<GateFilter<'n>> {
        let asks_tollgate = |gate: &&GateFilter<'_>| {
            at(gate.config, &["grpc_service", "envoy_grpc", "cluster_name"]).and_then(text).is_some_and(|name| self.is_tollgate(name))
        };
        let gates = gates_of(filters);
        let ours: Vec<GateFilter<'_>> = gates.iter().filter(asks_tollgate).copied().collect();
        if ours.is_empty() { gates } else { ours }
    }

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
        let slashes = word(manager, &["path_with_escaped_slashes_action"], &SLASHES).unwrap_or("IMPLEMENTATION_SPECIFIC_DEFAULT");
        if !matches!(slashes, "REJECT_REQUEST" | "UNESCAPE_AND_REDIRECT") {
            let wrong = format!("path_with_escaped_slashes_action is {slashes}: `%2F` could be read as a slash behind the gate");
            self.say(manager, "path_with_escaped_slashes_action", wrong).hint("path_with_escaped_slashes_action: REJECT_REQUEST");
        }
        let underscores = ["common_http_protocol_options", "headers_with_underscores_action"];
        let underscores = word(manager, &underscores, &["ALLOW", "REJECT_REQUEST", "DROP_HEADER"]).unwrap_or("ALLOW");
        if !matches!(underscores, "REJECT_REQUEST" | "DROP_HEADER") {
            let wrong = "headers_with_underscores_action is ALLOW: many servers read x_user_id as x-user-id";
            self.say(manager, "common_http_protocol_options", wrong).hint("headers_with_underscores_action: REJECT_REQUEST");
        }
        self.removals(manager, filters_of(manager));
        self.put_in(manager, filters_of(manager));
    }

    /// Upgrades that go through filters of their own. What asks there is handed back.
    pub(super) fn upgrades<'n>(&mut self, manager: &'n Node) -> Vec<GateFilter<'n>> {
        let mut asking = Vec::new();
        for upgrade in member(manager, "upgrade_configs").map(items).unwrap_or_default() {
            let filters = member(upgrade, "filters").map(items).unwrap_or_default();
            let gates = self.asking(filters);
            if let Some(first) = gates.first() {
                self.removals(manager, filters);
                self.put_in(manager, filters);
                self.order(filters, *first);
            } else if !filters.is_empty() {
                let wrong = "this upgrade has filters of its own and no ext_authz among them: nobody is asked about it";
                self.say(upgrade, "filters", wrong).hint("leave filters out, so that an upgrade meets http_filters");
            }
            asking.extend(gates);
        }
        asking
    }

    /// Who stands before ext_authz, and who undoes it afterwards.
    pub(super) fn order(&mut self, filters: &[Node], gate: GateFilter<'_>) {
        if may_be_true(gate.entry, &["disabled"]) {
            self.say(gate.entry, "disabled", "the ext_authz filter is disabled, so only routes that enable it are asked about")
                .hint("leave it out; a route that needs nobody is `auth: public` in tollgate.yaml");
        }
        let asking: Vec<usize> = self.asking(filters).iter().map(|gate| gate.position).collect();
        for (position, entry) in filters.iter().enumerate() {
            let name = member(entry, "name").and_then(text).unwrap_or("a filter");
            if gates_of(std::slice::from_ref(entry)).len() == 1 && !asking.contains(&position) {
                self.not_judged(entry, "name", &format!("what {name} does to requests, which asks somebody else than Tollgate"));
            }
            let Some(config) = member(entry, "typed_config") else { continue };
            if position < gate.position {
                self.beforehand(entry, name, config);
                continue;
            }
            if position == gate.position {
                continue;
            }
            if contains_type(config, ".cors.v3.Cors") {
                self.say(
                    entry,
                    "name",
                    "the CORS filter stands after ext_authz, so Tollgate refuses preflights, which carry no credential",
                )
                .hint("put it before ext_authz");
            }
            self.afterwards(entry, name, config);
        }
    }

    /// A filter before ext_authz must leave the last word to it.
    pub(super) fn beforehand(&mut self, entry: &Node, name: &str, config: &Node) {
        if LAST_WORDS.iter().any(|ending| contains_type(config, ending)) {
            self.say(entry, "name", format!("{name} stands before ext_authz and answers or forwards without asking Tollgate"))
                .hint("put it after ext_authz");
        }
    }

    /// Every request must meet a route, and no route may be quicker than its check or undo it.
    pub(super) fn routes(&mut self, manager: &Node, gate: GateFilter<'_>) {
        self.routes_afterwards(manager, filters_of(manager).get(..gate.position).unwrap_or_default());
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
            if let Some(tree) = member(host, "matcher") {
                self.tree_of_routes(host, tree);
            } else if !routes.iter().filter_map(|route| member(route, "match")).any(takes_everything) {
                let wrong = "no route takes what is left over: an unknown path is 404 and never checked, counted or logged";
                self.say(host, "routes", wrong).hint("end with `- match: { prefix: / }`");
            }
        }
        let check = at(gate.config, &["grpc_service", "timeout"]).and_then(seconds).filter(|seconds| *seconds <= LONGEST_TIMEOUT_SECONDS);
        for route in all(config, &|node| member(node, "route").is_some() && member(node, "match").is_some()) {
            let Some(timeout) = at(route, &["route", "timeout"]) else { continue };
            match (check, seconds(timeout)) {
                (_, None) => self.say(route, "route", unreadable(timeout)).hint("timeout: 15s"),
                (Some(check), Some(timeout)) if timeout > 0.0 && check >= timeout => {
                    let wrong = format!("the route gives up after {timeout} s, and a check alone may take {check} s");
                    self.say(route, "route", wrong).hint("a shorter timeout of grpc_service, or a longer one here");
                }
                _ => {}
            }
        }
    }

    /// Routes that stand in a tree instead of a list.
    fn tree_of_routes(&mut self, host: &Node, tree: &Node) {
        let prefixes = members_named(tree, "prefix_match_map").into_iter().filter_map(|prefixes| member(prefixes, "map")).flat_map(entries);
        let is_for_all = member(tree, "on_no_match").is_some() || prefixes.into_iter().any(|entry| matches!(&*entry.key, "" | "/"));
        if !is_for_all {
            self.not_judged(host, "matcher", "whether this tree of routes takes every path, since what it leaves over is never checked");
        }
    }

    /// Routes that are exempt from ext_authz although something stands behind them.
    pub(super) fn exemption(&mut self, route: &Node, filter_names: &BTreeSet<&str>) {
        let Some(config) = member(route, "typed_per_filter_config") else { return };
        let by_itself = all_of_type(config, ".ExtAuthzPerRoute").into_iter().any(|one| may_be_true(one, &["disabled"]));
        let by_wrapper = entries(config).iter().any(|entry| {
            filter_names.contains(&*entry.key) && has_type(&entry.node, ".route.v3.FilterConfig") && may_be_true(&entry.node, &["disabled"])
        });
        self.chosen_by(route, config);
        let answers_itself = member(route, "direct_response").is_some() || member(route, "redirect").is_some();
        let leads_to_issuer = member(route, "route").is_some_and(|action| self.leads_to_issuer_alone(action));
        for service in ["grpc_service", "http_service"] {
            let asks_elsewhere = |settings: &&Node| {
                let cluster = at(settings, &[service, "envoy_grpc", "cluster_name"]).and_then(text);
                member(settings, service).is_some() && !cluster.is_some_and(|cluster| self.is_tollgate(cluster))
            };
            if let Some(settings) = members_named(config, "check_settings").into_iter().find(asks_elsewhere) {
                self.say(settings, service, "somebody else than Tollgate is asked about this route").hint("leave it out");
            }
        }
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
        let routed = routed.into_iter().filter_map(|node| at(node, &["route", "cluster"]).and_then(text));
        let routed: BTreeSet<&str> = routed.filter(|name| ours.contains(name)).collect();
        let Some(perhaps) = routed.first() else {
            let wrong = format!("listen.issuer is {}, and no route leads there: nobody can sign in or get a token", show(listen));
            self.say(root, "static_resources", wrong).hint("`tollgate envoy init` prints the routes");
            return;
        };
        self.own_url(root, listen);
        if routed.iter().any(|name| self.is_issuer(name)) {
            self.clients_of_issuer(root);
        } else {
            self.not_judged(root, "static_resources", &format!("to which machine `{perhaps}` leads, on the port of listen.issuer"));
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
}

/// `{ prefix: / }`, or the like, and nothing that narrows it.
pub(super) fn takes_everything(matcher: &Node) -> bool {
    let all_paths = matches!(member(matcher, "prefix").and_then(text), Some("" | "/"))
        || at(matcher, &["safe_regex", "regex"]).and_then(text).is_some_and(|pattern| matches!(pattern, ".*" | "/.*"));
    all_paths && !narrows(matcher)
}

/// Whether something beside the path decides.
pub(super) fn narrows(matcher: &Node) -> bool {
    let fields = ["headers", "query_parameters", "grpc", "runtime_fraction", "dynamic_metadata", "tls_context", "filter_state", "cookies"];
    fields.iter().any(|field| member(matcher, field).is_some())
}
