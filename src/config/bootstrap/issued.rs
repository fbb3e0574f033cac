//! What the issuer serves, and whether Envoy leads it there.

use std::net::IpAddr;

use crate::config::boot::Listen;
use crate::config::bootstrap::Judge;
use crate::config::bootstrap::listeners::ports_of_listeners;
use crate::config::bootstrap::passage::filters_of;
use crate::config::bootstrap::passage::gates_of;
use crate::config::bootstrap::passage::narrows;
use crate::config::bootstrap::passage::takes_everything;
use crate::config::bootstrap::tree::all_of_type;
use crate::config::bootstrap::tree::at;
use crate::config::bootstrap::tree::items;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::text;
use crate::config::yaml::Node;
use crate::model::host::Host;
use crate::model::issuance::Compatibility;
use crate::model::route::Auth;
use crate::model::route::Segment;
use crate::model::rules::Rules;

/// Where most APIs have something of their own.
const RESOURCES: &str = "/v1";
const DOCUMENT: &str = "/openapi.json";

/// A prefix of the issuer's, and a path below it that it answers.
pub(super) struct Served {
    pub(super) prefix: String,
    example: String,
}

/// Where people and programs find what the issuer serves.
pub(super) fn served(rules: &Rules) -> Vec<Served> {
    let Some(issuance) = &rules.issuance else { return Vec::new() };
    let (_, base) = authority_and_base(&issuance.url);
    let own: &[(&str, &str)] = &[
        ("/oauth", "/token"),
        ("/sign-in", ""),
        ("/sign-up", ""),
        ("/sign-out", ""),
        ("/account", ""),
        (RESOURCES, "/keys"),
        (DOCUMENT, ""),
    ];
    let with = |prefix: &str, rest: &str| Served { prefix: prefix.to_owned(), example: format!("{prefix}{rest}") };
    let mut served: Vec<Served> =
        if base.is_empty() { own.iter().map(|(prefix, rest)| with(prefix, rest)).collect() } else { vec![with(base, "/oauth/token")] };
    served.push(with("/.well-known/oauth-authorization-server", base));
    for compatibility in &issuance.compatibility {
        let old: &[(&str, &str)] = match compatibility {
            Compatibility::Generate => &[("/generate", "")],
            Compatibility::AuthUsers => &[("/auth", "/users")],
            Compatibility::JsonToken => &[],
            Compatibility::GetToken => &[("/get-token", "")],
            Compatibility::Tinyoauth => &[("/register", ""), ("/login", ""), ("/client", ""), ("/authorize", ""), ("/token", "")],
        };
        served.extend(old.iter().map(|(prefix, rest)| with(prefix, rest)));
    }
    served
}

/// Whether the config has a route of its own there, which its API keeps.
pub(super) fn is_taken(rules: &Rules, prefix: &str) -> bool {
    let is_shared = [RESOURCES, DOCUMENT].contains(&prefix);
    is_shared && rules.routes.iter().any(|route| route.auth != Auth::Public && is_below(&route.matcher.path.to_string(), prefix))
}

fn authority_and_base(url: &str) -> (&str, &str) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split_at(rest.find('/').unwrap_or(rest.len()))
}

fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Where a connection manager leads a path.
enum Led<'n> {
    To {
        cluster: &'n str,
        route: &'n Node,
    },
    /// The file cannot tell, or no cluster answers.
    Unknown,
}

/// The port of an address of this machine under which the issuer names itself.
pub(super) fn own_port(rules: &Rules) -> Option<u16> {
    let url = &rules.issuance.as_ref()?.url;
    let (authority, _) = authority_and_base(url);
    let (host, port) = match authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
        Some((host, port)) => (host, port.parse().ok()),
        None => (authority, Some(if url.starts_with("https:") { 443 } else { 80 })),
    };
    let host = host.trim_matches(['[', ']']);
    let is_here = host == "localhost" || host.ends_with(".localhost") || host.parse().is_ok_and(|host: IpAddr| host.is_loopback());
    port.filter(|_| is_here)
}

impl Judge<'_> {
    /// Who comes to the issuer through Envoy must be known by an own address, and get where its pages lead.
    pub(super) fn clients_of_issuer(&mut self, root: &Node) {
        const FIELD: &str = "static_resources";
        let Some(issuance) = &self.rules.issuance else { return };
        if issuance.trusted_hops == 0 {
            let wrong =
                "people come to the issuer through this Envoy, and issuer.trusted_hops is 0: all have one address, and share its limits";
            self.warn(root, FIELD, wrong).hint("issuer.trusted_hops: 1, and one more for each proxy before this Envoy");
        }
        let (authority, base) = authority_and_base(&issuance.url);
        let Ok(host) = Host::parse(authority.as_bytes()) else { return };
        let index = &self.rules.route_index;
        let is_open = |page: &str| index.on_path(&host, &format!("{base}{page}")).iter().any(|route| route.auth == Auth::Public);
        if ["/sign-in", "/sign-up"].into_iter().any(is_open) && !is_open("/account") {
            let wrong = format!("whoever signs in or up is sent to `{base}/account`, and no route of the config is open there");
            self.warn(root, FIELD, wrong).hint(format!("a route of the path `{base}/account/**` with `auth: public`"));
        }
    }

    /// An address of this machine under which the issuer names itself must be one where something listens.
    pub(super) fn own_url(&mut self, root: &Node, listen: &Listen) {
        let Some(issuance) = &self.rules.issuance else { return };
        let Some(port) = own_port(self.rules).filter(|_| member(root, "dynamic_resources").is_none()) else { return };
        let is_own = matches!(listen, Listen::Tcp { addr, .. } if addr.port() == port);
        if !is_own && ports_of_listeners(root).iter().all(|known| known.is_some_and(|known| known != port)) {
            let wrong =
                format!("issuer.url is {}, and no listener here has the port {port}: its links and tokens lead nowhere", issuance.url);
            self.warn(root, "static_resources", wrong)
                .hint("make the two one port; right where something else leads from one to the other");
        }
    }

    /// What the config leaves to the issuer, Envoy must lead there: elsewhere nobody would ask for a credential.
    pub(super) fn issuer_paths(&mut self, root: &Node) {
        let Some(issuance) = &self.rules.issuance else { return };
        let (authority, _) = authority_and_base(&issuance.url);
        let Ok(host) = Host::parse(authority.as_bytes()) else { return };
        let (asking, others): (Vec<&Node>, Vec<&Node>) =
            all_of_type(root, ".HttpConnectionManager").into_iter().partition(|manager| !gates_of(filters_of(manager)).is_empty());
        for Served { prefix, example } in served(self.rules) {
            let on_path = self.rules.route_index.on_path(&host, &example);
            let is_left_to_it = on_path
                .iter()
                .any(|route| route.auth == Auth::Public && matches!(route.matcher.path.segments.first(), Some(Segment::Literal(_))));
            let leads_there = |manager: &&Node| match led(manager, authority, &example) {
                Led::To { cluster, .. } => self.may_be_issuer(cluster),
                Led::Unknown => false,
            };
            if !is_left_to_it || asking.iter().chain(&others).any(leads_there) {
                continue;
            }
            let elsewhere: Option<Vec<(&str, &Node)>> = asking
                .iter()
                .map(|manager| match led(manager, authority, &example) {
                    Led::To { cluster, route } => Some((cluster, route)),
                    Led::Unknown => None,
                })
                .collect();
            let Some((cluster, route)) = elsewhere.and_then(|all| all.first().copied()) else { continue };
            let wrong = format!("`{prefix}` is the issuer's, and Envoy leads it to `{cluster}`");
            // A description may well be the API's own; it is nobody's secret.
            let said = if prefix == DOCUMENT { self.warn(route, "route", wrong) } else { self.say(route, "route", wrong) };
            said.hint(format!("before it, `match: {{ path_separated_prefix: {prefix} }}` to the issuer's cluster"));
        }
    }
}

fn led<'n>(manager: &'n Node, authority: &str, path: &str) -> Led<'n> {
    let hosts = at(manager, &["route_config", "virtual_hosts"]).map(items).unwrap_or_default();
    let host = hosts.iter().filter_map(|host| Some((likeness(host, authority)?, host))).max_by_key(|(likeness, _)| *likeness);
    let routes = host.and_then(|(_, host)| member(host, "routes")).map(items).unwrap_or_default();
    for route in routes {
        match member(route, "match").and_then(|matcher| takes(matcher, path)) {
            Some(false) => {}
            Some(true) => {
                let cluster = at(route, &["route", "cluster"]).and_then(text);
                return cluster.map_or(Led::Unknown, |cluster| Led::To { cluster, route });
            }
            None => return Led::Unknown,
        }
    }
    Led::Unknown
}

/// How much of an authority a virtual host's domains name; none where it is not for it.
fn likeness(host: &Node, authority: &str) -> Option<usize> {
    let name = authority.rsplit_once(':').map_or(authority, |(name, _)| name);
    let domains = member(host, "domains").map(items).unwrap_or_default().iter().filter_map(text);
    domains
        .filter_map(|domain| match domain.strip_prefix('*') {
            None => (domain == authority || domain == name).then_some(usize::MAX),
            Some(ending) => (authority.ends_with(ending) || name.ends_with(ending)).then_some(ending.len()),
        })
        .max()
}

/// Whether a match takes a path; none where the file cannot tell.
fn takes(matcher: &Node, path: &str) -> Option<bool> {
    let field = |name| member(matcher, name).and_then(text);
    let by_path = match (field("prefix"), field("path"), field("path_separated_prefix")) {
        (Some(prefix), _, _) => path.starts_with(prefix),
        (_, Some(exact), _) => path == exact,
        (_, _, Some(prefix)) => is_below(path, prefix),
        (None, None, None) => return takes_everything(matcher).then_some(true),
    };
    (!by_path || !narrows(matcher)).then_some(by_path)
}
