//! Where requests come in: every chain must end in something that asks, or of which can be said where it leads.

use crate::config::bootstrap::Judge;
use crate::config::bootstrap::passage::filters_of;
use crate::config::bootstrap::passage::gates_of;
use crate::config::bootstrap::target::CHOSEN_LATE;
use crate::config::bootstrap::tree::at;
use crate::config::bootstrap::tree::contains_type;
use crate::config::bootstrap::tree::has_type;
use crate::config::bootstrap::tree::items;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::members_named;
use crate::config::bootstrap::tree::text;
use crate::config::bootstrap::unread::is_unread;
use crate::config::bootstrap::unread::speaks_itself;
use crate::config::yaml::Node;

/// Ends of chains that are judged on their own, and ends that lead nowhere.
const KNOWN_ENDS: [&str; 5] =
    [".HttpConnectionManager", ".tcp_proxy.v3.TcpProxy", ".echo.v3.Echo", ".direct_response.v3.Config", ".dns_filter.v3.DnsFilterConfig"];
/// Filters before the end of a chain, and those before all chains, that lead nobody elsewhere.
const PASSING: [&str; 6] =
    ["network.rbac", "network.connection_limit", "network.local_ratelimit", "network.ratelimit", "network.geoip", "network.ext_authz"];
const INSPECTING: [&str; 6] = [
    "listener.tls_inspector",
    "listener.http_inspector",
    "listener.proxy_protocol",
    "listener.original_dst",
    "listener.original_src",
    "listener.local_ratelimit",
];
/// Filters of HTTP that answer or forward what the routes do not.
const FORWARDING: [&str; 2] = [".aws_lambda.v3.Config", ".file_server.v3.FileServerConfig"];
const ROUTER: &str = ".router.v3.Router";
/// Where routes stand that are not in the file.
const ROUTES_ELSEWHERE: [&str; 2] = ["rds", "scoped_routes"];

impl Judge<'_> {
    pub(super) fn listeners(&mut self, root: &Node) {
        for listener in at(root, &["static_resources", "listeners"]).map(items).unwrap_or_default() {
            let chains = member(listener, "filter_chains").map(items).unwrap_or_default().iter();
            let chains: Vec<&Node> = chains.chain(member(listener, "default_filter_chain")).collect();
            // Datagrams have no chains, and what leads them on is a filter of the listener.
            if chains.is_empty() {
                self.end(listener, "listener_filters");
            }
            let before = member(listener, "listener_filters").map(items).unwrap_or_default();
            self.on_the_way(if chains.is_empty() { &[] } else { before }, &INSPECTING, chains.iter().any(|chain| is_raw(chain)));
            for chain in chains {
                self.end(chain, "filters");
                let before = member(chain, "filters").map(items).unwrap_or_default().split_last().map_or(&[][..], |(_, before)| before);
                self.on_the_way(before, &PASSING, is_raw(chain));
            }
        }
        for field in ["lds_config", "ads_config", "cds_config"] {
            if let Some(resources) = member(root, "dynamic_resources").filter(|resources| member(resources, field).is_some()) {
                self.not_judged(resources, field, &format!("what comes over {field}, and may ask nobody"));
            }
        }
        for hosts in members_named(root, "route_config").into_iter().filter(|config| member(config, "vhds").is_some()) {
            self.not_judged(hosts, "vhds", "routes that come over vhds, and may disable ext_authz");
        }
    }

    /// What stands before the end of a chain may say where that leads.
    fn on_the_way(&mut self, filters: &[Node], known: &[&str], is_raw: bool) {
        let kind_of = |filter| at(filter, &["typed_config", "@type"]).and_then(text)?.split_once(".filters.")?.1.split(".v3.").next();
        for filter in filters.iter().filter(|filter| !kind_of(filter).is_some_and(|kind| known.contains(&kind))) {
            let name = member(filter, "name").and_then(text).unwrap_or("a filter");
            if is_raw {
                self.say(
                    filter,
                    "name",
                    format!("{name} may lead to another cluster than the TcpProxy behind it names, and nobody is asked"),
                )
                .hint("leave it out");
            } else {
                self.not_judged(filter, "name", &format!("what {name} does to connections before a request is read"));
            }
        }
    }

    /// What takes all that comes in is the last filter, as Envoy insists on.
    fn end(&mut self, parent: &Node, field: &str) {
        let Some(last) = member(parent, field).and_then(|filters| items(filters).last()) else {
            // What is misspelt would stand there as a chain that does nothing.
            self.say(parent, field, "no filters can be read in this filter chain, so nothing is known of what comes in there")
                .hint("`filters:`, spelt so, with an HTTP connection manager that asks Tollgate");
            return;
        };
        if !member(last, "typed_config").is_some_and(|config| KNOWN_ENDS.iter().any(|end| has_type(config, end))) {
            let name = member(last, "name").and_then(text).unwrap_or("the last filter");
            self.say(last, "name", format!("nobody can say where {name} leads what comes in here, nor whether Tollgate is asked"))
                .hint("an HttpConnectionManager with envoy.filters.http.ext_authz, written out here");
        }
    }

    /// What of a connection manager is in another place: without a gate it must not be, and with one it is not judged.
    pub(super) fn routes_elsewhere(&mut self, manager: &Node) {
        let filters = filters_of(manager);
        let asks = !gates_of(filters).is_empty();
        for field in ROUTES_ELSEWHERE.into_iter().filter(|field| member(manager, field).is_some()) {
            if asks {
                self.not_judged(manager, field, &format!("routes that come over {field}, and may disable ext_authz"));
            } else {
                let wrong = format!("this listener has no ext_authz filter, and its routes come over {field}: nobody is asked there");
                self.say(manager, field, wrong).hint("add envoy.filters.http.ext_authz");
            }
        }
        // A client who may name the cluster may name Tollgate's.
        for place in CHOSEN_LATE.into_iter().filter(|_| asks).flat_map(|field| members_named(manager, field)) {
            self.not_judged(place, "", "to which cluster this leads, which is chosen when a request is there");
        }
        for entry in filters.split_last().map_or(&[][..], |(_, before)| before).iter().filter(|_| !asks) {
            self.unasked(entry);
        }
        let is_router = |last: &Node| member(last, "typed_config").is_some_and(|config| has_type(config, ROUTER));
        if !asks && let Some(last) = filters.last().filter(|last| !is_router(last)) {
            let wrong = "this listener has no ext_authz filter, and nobody can say where its last filter leads: nobody is asked there";
            self.say(last, "name", wrong).hint("add envoy.filters.http.ext_authz");
        }
    }

    /// A filter of a listener that asks nobody: it may answer, or forward, what the routes do not.
    fn unasked(&mut self, entry: &Node) {
        let Some(config) = member(entry, "typed_config") else { return };
        let name = member(entry, "name").and_then(text).unwrap_or("a filter");
        if FORWARDING.iter().any(|kind| contains_type(config, kind)) {
            let wrong = format!("{name} answers or forwards by itself, and this listener has no ext_authz filter: nobody is asked there");
            self.say(entry, "name", wrong).hint("add envoy.filters.http.ext_authz");
        } else if is_unread(config) || speaks_itself(config) {
            self.not_judged(entry, "name", &format!("whom {name} reaches on this listener, which has no ext_authz filter"));
        }
    }
}

fn is_raw(chain: &Node) -> bool {
    let last = member(chain, "filters").and_then(|filters| items(filters).last());
    last.and_then(|last| member(last, "typed_config")).is_some_and(|config| has_type(config, ".tcp_proxy.v3.TcpProxy"))
}

/// The ports where a bootstrap's listeners listen; none for one that has only a name.
pub(super) fn ports_of_listeners(root: &Node) -> Vec<Option<u16>> {
    let listeners = at(root, &["static_resources", "listeners"]).map(items).unwrap_or_default();
    let addresses = listeners
        .iter()
        .flat_map(|listener| ["address", "additional_addresses"].into_iter().filter_map(move |field| member(listener, field)));
    let sockets = addresses.flat_map(|address| members_named(address, "socket_address"));
    sockets.map(|socket| member(socket, "port_value").and_then(text).and_then(|port| port.parse().ok())).collect()
}
