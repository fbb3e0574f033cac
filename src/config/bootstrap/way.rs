//! The way from Envoy to Tollgate: the cluster, its address, its transport, its limits.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::Component;
use std::path::Path;

use crate::config::boot::AccessLog;
use crate::config::boot::Listen;
use crate::config::bootstrap::Judge;
use crate::config::bootstrap::clusters::is_plain;
use crate::config::bootstrap::tree::all;
use crate::config::bootstrap::tree::all_of_type;
use crate::config::bootstrap::tree::at;
use crate::config::bootstrap::tree::items;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::members_named;
use crate::config::bootstrap::tree::text;
use crate::config::bootstrap::tree::word;
use crate::config::yaml::Node;

/// Envoy's own default for `max_requests`.
pub(super) const DEFAULT_MAX_REQUESTS: u64 = 1024;
const KINDS_OF_ADDRESS: [&str; 3] = ["pipe", "socket_address", "envoy_internal_address"];
/// What Tollgate answers health checks for.
const HEALTH_SERVICES: [&str; 2] = ["", "envoy.service.auth.v3.Authorization"];

/// Where a cluster leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint<'n> {
    Pipe(&'n str),
    Socket {
        host: &'n str,
        port: Option<u16>,
    },
    /// Somewhere that nobody can read here.
    Unread,
}

impl std::fmt::Display for Endpoint<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pipe(path) => write!(out, "unix:{path}"),
            Self::Socket { host, port: Some(port) } => write!(out, "{host}:{port}"),
            Self::Socket { host, port: None } => out.write_str(host),
            Self::Unread => out.write_str("an address that cannot be read"),
        }
    }
}

impl<'n> Endpoint<'n> {
    /// What an `Address` says.
    pub(super) fn of(address: &'n Node) -> Self {
        let pipe = at(address, &["pipe", "path"]).and_then(text).map(Self::Pipe);
        let socket = member(address, "socket_address").and_then(|socket| {
            let port = member(socket, "port_value").and_then(text).and_then(|port| port.parse().ok());
            Some(Self::Socket { host: member(socket, "address").and_then(text)?, port })
        });
        pipe.or(socket).unwrap_or(Self::Unread)
    }

    /// The listener that stands there; none where only a name or nothing is known.
    pub(super) fn as_listen(&self) -> Option<Listen> {
        match self {
            Self::Pipe(path) => Some(Listen::Unix { path: Path::new(path).to_owned(), mode: 0, group: None }),
            Self::Socket { host, port } => {
                let host = if *host == "localhost" { "127.0.0.1" } else { host };
                Some(Listen::Tcp { addr: SocketAddr::new(host.parse().ok()?, (*port)?), tls: None })
            }
            Self::Unread => None,
        }
    }

    /// Whether a listener is surely meant, so that a port that two machines have is not enough.
    pub(super) fn surely_meets(&self, listen: &Listen) -> bool {
        match (self, listen) {
            (Self::Pipe(_), Listen::Unix { .. }) => self.meets(listen),
            (Self::Socket { host, port }, Listen::Tcp { addr, .. }) => {
                let ours = addr.ip().to_canonical();
                let is_there = match host.parse::<IpAddr>().map(|theirs| theirs.to_canonical()) {
                    Ok(theirs) => {
                        theirs == ours || (theirs.is_loopback() && ours.is_unspecified()) || (theirs.is_unspecified() && ours.is_loopback())
                    }
                    Err(_) => *host == "localhost" && (ours.is_loopback() || ours.is_unspecified()),
                };
                is_there && *port == Some(addr.port())
            }
            (Self::Pipe(_), Listen::Tcp { .. }) | (Self::Socket { .. }, Listen::Unix { .. }) | (Self::Unread, _) => false,
        }
    }

    /// Whether a listener may be meant. Relative paths are relative to folders that nobody knows here, so their end must agree.
    pub(super) fn meets(&self, listen: &Listen) -> bool {
        match (self, listen) {
            (Self::Pipe(path), Listen::Unix { path: ours, .. }) => is_same_path(Path::new(path), ours),
            (Self::Socket { host, port }, Listen::Tcp { addr, .. }) => {
                let ours = addr.ip();
                let is_there = match host.parse::<IpAddr>() {
                    Ok(theirs) => ours.is_unspecified() || ours == theirs,
                    Err(_) => ours.is_unspecified() || ours.is_loopback() == (*host == "localhost"),
                };
                is_there && port.is_none_or(|port| port == addr.port())
            }
            (Self::Pipe(_), Listen::Tcp { .. }) | (Self::Socket { .. }, Listen::Unix { .. }) | (Self::Unread, _) => false,
        }
    }

    /// Whether what travels there leaves the machine.
    pub(super) fn is_remote(&self) -> bool {
        match self {
            Self::Pipe(_) | Self::Unread => false,
            Self::Socket { host, .. } => host.parse::<IpAddr>().map_or(*host != "localhost", |address| !address.is_loopback()),
        }
    }
}

pub(super) fn is_same_path(theirs: &Path, ours: &Path) -> bool {
    let (theirs_parts, ours_parts) = (parts(theirs), parts(ours));
    if theirs.is_absolute() && ours.is_absolute() {
        theirs_parts == ours_parts
    } else {
        ours_parts.ends_with(&theirs_parts) || theirs_parts.ends_with(&ours_parts)
    }
}

/// The parts of a path, `.` and `..` resolved as far as that goes without looking.
fn parts(path: &Path) -> Vec<Component<'_>> {
    let mut parts = Vec::new();
    for part in path.components() {
        match (part, parts.last()) {
            (Component::CurDir, _) => {}
            (Component::ParentDir, Some(Component::Normal(_))) => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts
}

pub(super) fn show(listen: &Listen) -> String {
    match listen {
        Listen::Tcp { addr, .. } => addr.to_string(),
        Listen::Unix { path, .. } => format!("unix:{}", path.display()),
    }
}

pub(super) fn clusters(root: &Node) -> &[Node] {
    at(root, &["static_resources", "clusters"]).map(items).unwrap_or_default()
}

pub(super) fn endpoints(cluster: &Node) -> Vec<Endpoint<'_>> {
    let Some(assignment) = member(cluster, "load_assignment") else { return Vec::new() };
    let is_address = |node: &'_ Node| KINDS_OF_ADDRESS.iter().any(|kind| member(node, kind).is_some());
    all(assignment, &is_address).into_iter().map(Endpoint::of).collect()
}

impl Judge<'_> {
    /// The way to Tollgate.
    pub(super) fn cluster(&mut self, filter: &Node) {
        let Some(name) = at(filter, &["grpc_service", "envoy_grpc", "cluster_name"]).and_then(text) else {
            if member(filter, "http_service").is_none() {
                let wrong = "grpc_service names no cluster, so nobody can say whether it leads to Tollgate, nor how many checks it bears";
                self.say(filter, "grpc_service", wrong).hint("envoy_grpc: { cluster_name: tollgate }");
            }
            return;
        };
        let Some(cluster) = self.clusters.named(name).first().copied() else {
            self.say(filter, "grpc_service", format!("there is no cluster `{name}` in static_resources"))
                .hint("name the cluster that leads to Tollgate");
            return;
        };
        if members_named(cluster, "http2_protocol_options").is_empty() {
            let wrong = format!("the cluster `{name}` does not speak HTTP/2, so no check can reach Tollgate");
            self.say(cluster, "", wrong).hint("http2_protocol_options in typed_extension_protocol_options");
        }
        self.capacity(cluster);
        self.health(cluster);
        self.address(cluster, name);
        self.transport(cluster, name);
    }

    /// Envoy's access log: sent here, taken here, or neither.
    pub(super) fn access_log(&mut self, root: &Node) {
        let logs = all_of_type(root, "GrpcAccessLogConfig");
        let sent = logs.into_iter().find(|log| {
            let name = at(log, &["common_config", "grpc_service", "envoy_grpc", "cluster_name"]).and_then(text);
            let cluster = name.and_then(|name| self.clusters.named(name).first());
            cluster.is_some_and(|cluster| endpoints(cluster).iter().any(|endpoint| endpoint.meets(&self.boot.check)))
        });
        match (self.boot.access_log, sent) {
            (AccessLog::Refused, Some(log)) => self
                .say(log, "common_config", "this access log goes to Tollgate, which does not take it")
                .hint("`access_log: accepted` in tollgate.yaml"),
            (AccessLog::Accepted, None) => self
                .warn(root, "", "Tollgate takes access logs, and this Envoy sends it none, so what became of requests is not counted")
                .hint("an envoy.access_loggers.http_grpc, as `tollgate envoy init` prints it"),
            (AccessLog::Refused, None) | (AccessLog::Accepted, Some(_)) => {}
        }
    }

    fn capacity(&mut self, cluster: &Node) {
        let most = at(cluster, &["circuit_breakers", "thresholds"]).map(items).unwrap_or_default();
        let most = most
            .iter()
            .filter(|threshold| word(threshold, &["priority"], &["DEFAULT", "HIGH"]).is_none_or(|priority| priority == "DEFAULT"));
        let most = most.filter_map(|threshold| at(threshold, &["max_requests"]).and_then(text)?.parse::<u64>().ok()).max();
        let most = most.unwrap_or(DEFAULT_MAX_REQUESTS);
        if most <= DEFAULT_MAX_REQUESTS {
            self.say(cluster, "circuit_breakers", too_few(most)).hint("raise max_requests of its circuit_breakers");
        }
    }

    fn health(&mut self, cluster: &Node) {
        for check in member(cluster, "health_checks").map(items).unwrap_or_default() {
            let service = member(check, "grpc_health_check").map(|check| member(check, "service_name").and_then(text).unwrap_or_default());
            match service {
                None => self
                    .say(cluster, "health_checks", "Tollgate tells its health to gRPC health checks alone on this door")
                    .hint("grpc_health_check: {}"),
                Some(service) if !HEALTH_SERVICES.contains(&service) => {
                    let wrong = format!("Tollgate knows no service `{service}`, so it would always be taken for ill");
                    self.say(cluster, "health_checks", wrong).hint("leave service_name out");
                }
                Some(_) => {}
            }
        }
    }

    fn address(&mut self, cluster: &Node, name: &str) {
        if !is_plain(cluster) {
            let wrong = format!("the cluster `{name}` has a cluster_type of its own, so nobody can say that it leads to Tollgate");
            self.say(cluster, "cluster_type", wrong).hint("type: STATIC, and load_assignment with the address of listen.check");
            return;
        }
        if endpoints(cluster).is_empty() {
            self.without_endpoints(cluster, name);
        }
        let elsewhere: Vec<String> =
            endpoints(cluster).iter().filter(|endpoint| !endpoint.meets(&self.boot.check)).map(ToString::to_string).collect();
        if !elsewhere.is_empty() {
            let wrong = format!("the cluster `{name}` leads to {}, and listen.check is {}", elsewhere.join(", "), show(&self.boot.check));
            self.say(cluster, "load_assignment", wrong).hint("make the two one address");
        }
    }

    fn transport(&mut self, cluster: &Node, name: &str) {
        self.chosen_transport(cluster, name);
        let context = member(cluster, "transport_socket").and_then(|socket| all_of_type(socket, ".UpstreamTlsContext").into_iter().next());
        let ours = match &self.boot.check {
            Listen::Tcp { tls, .. } => tls.as_ref(),
            Listen::Unix { .. } => None,
        };
        let wants_certificate = ours.is_some_and(|tls| tls.client_ca.is_some());
        let speaks_tls = ours.is_some();
        let Some(context) = context else {
            if speaks_tls {
                self.say(cluster, "transport_socket", format!("listen.check speaks TLS, and the cluster `{name}` does not"))
                    .hint("add an UpstreamTlsContext");
            } else if endpoints(cluster).iter().any(Endpoint::is_remote) {
                let wrong = format!("credentials travel in plain text to `{name}`, which is not on this machine");
                self.say(cluster, "transport_socket", wrong).hint("listen.check.tls in tollgate.yaml, and an UpstreamTlsContext here");
            }
            return;
        };
        if !speaks_tls {
            self.say(cluster, "transport_socket", format!("the cluster `{name}` speaks TLS, and listen.check does not"))
                .hint("listen.check.tls in tollgate.yaml");
            return;
        }
        self.trust(cluster, context);
        let has = |field: &str| !members_named(context, field).is_empty();
        if wants_certificate && !has("tls_certificates") && !has("tls_certificate_sds_secret_configs") {
            let wrong = "listen.check wants a certificate of its clients, and this Envoy shows none";
            self.say(cluster, "transport_socket", wrong).hint("tls_certificate_sds_secret_configs in common_tls_context");
        }
    }
}

pub(super) fn too_few(most: u64) -> String {
    format!("more than {most} checks at once are refused by Envoy itself, and each is a failed request")
}
