//! Istio: the provider in the mesh's settings, who is sent to it, and what only an EnvoyFilter can say.

use crate::config::boot::Listen;
use crate::config::bootstrap::Judge;
use crate::config::bootstrap::manifests::Manifests;
use crate::config::bootstrap::manifests::is_custom;
use crate::config::bootstrap::patches::inbound;
use crate::config::bootstrap::patches::is_for_all_of;
use crate::config::bootstrap::tree::at;
use crate::config::bootstrap::tree::contains_type;
use crate::config::bootstrap::tree::is_true;
use crate::config::bootstrap::tree::items;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::members_named;
use crate::config::bootstrap::tree::text;
use crate::config::bootstrap::way::DEFAULT_MAX_REQUESTS;
use crate::config::bootstrap::way::Endpoint;
use crate::config::bootstrap::way::show;
use crate::config::bootstrap::way::too_few;
use crate::config::bootstrap::workloads::Reach;
use crate::config::yaml::Node;

impl Judge<'_> {
    pub(super) fn istio(&mut self, manifests: &Manifests<'_>) {
        for provider in &manifests.providers {
            self.provider(provider, manifests);
        }
        let policies: Vec<&Node> = manifests.of("AuthorizationPolicy").filter(|policy| is_custom(policy)).collect();
        for filter in manifests.of("EnvoyFilter") {
            let reach = Reach::of(filter, manifests);
            let apart: Vec<Option<bool>> = policies.iter().map(|policy| reach.is_apart(&Reach::of(policy, manifests), manifests)).collect();
            if policies.is_empty() || apart.contains(&Some(false)) {
                self.patches(filter, manifests);
            } else if apart.contains(&None) {
                self.not_judged(filter, "spec", "this EnvoyFilter, which is for pods that are not in this file");
            }
        }
        for document in manifests.of("VirtualService").chain(manifests.of("HTTPRoute")).chain(manifests.of("GRPCRoute")) {
            self.headers_of_routes(document);
        }
        if !policies.is_empty() {
            self.workloads(&policies, manifests);
        }
        for policy in policies {
            self.policy(policy, manifests);
        }
        let hosts: Vec<&str> = manifests
            .providers
            .iter()
            .filter_map(|provider| at(provider, &["envoyExtAuthzGrpc", "service"]).and_then(text))
            .chain(manifests.of("ServiceEntry").filter(|entry| self.leads_here(entry)).flat_map(hosts_of))
            .collect();
        for entry in manifests.of("ServiceEntry").filter(|entry| hosts_of(entry).any(|host| hosts.contains(&host))) {
            self.entry(entry);
        }
        for rule in manifests.of("DestinationRule") {
            if at(rule, &["spec", "host"]).and_then(text).is_some_and(|host| hosts.contains(&host)) {
                self.destination(rule);
            }
        }
    }

    fn provider(&mut self, provider: &Node, manifests: &Manifests<'_>) {
        let name = member(provider, "name").and_then(text).unwrap_or_default();
        if manifests.providers.iter().filter(|other| member(other, "name").and_then(text) == Some(name)).count() > 1 {
            self.say(provider, "name", format!("more than one provider is called `{name}`, and which of them is asked cannot be told"))
                .hint("leave the others out");
        }
        let Some(grpc) = member(provider, "envoyExtAuthzGrpc") else {
            if is_used(provider, manifests)
                && let Some(http) = member(provider, "envoyExtAuthzHttp")
            {
                self.say(provider, "envoyExtAuthzHttp", "Tollgate answers over gRPC only").hint("envoyExtAuthzGrpc");
                self.patience_of_provider(http);
            }
            return;
        };
        self.patience_of_provider(grpc);
        for (field, why) in [
            ("failOpen", "everybody enters whenever Tollgate does not answer"),
            ("clearRouteCache", "a request could move to a route that was never checked"),
        ] {
            if is_true(grpc, &[field]) {
                self.say(grpc, field, format!("{field} is true: {why}")).hint(format!("{field}: false"));
            }
        }
        if member(grpc, "includeRequestBodyInCheck").is_some() {
            let wrong = "bodies are held back until they are complete, which breaks streams and large uploads; Tollgate reads none";
            self.say(grpc, "includeRequestBodyInCheck", wrong).hint("leave it out");
        }
        let (host, port) = (member(grpc, "service").and_then(text).unwrap_or_default(), member(grpc, "port").and_then(text));
        let entries: Vec<&Node> = manifests.of("ServiceEntry").filter(|entry| hosts_of(entry).any(|known| known == host)).collect();
        let has_port = |entry: &&Node| ports_of(entry).iter().any(|known| member(known, "number").and_then(text) == port);
        if !entries.is_empty() && !entries.iter().any(has_port) {
            let wrong = format!("the ServiceEntry of {host} has no port {}, so every request would be denied", port.unwrap_or("(none)"));
            self.say(grpc, "port", wrong).hint("name its port");
        }
        if entries.is_empty() && is_used(provider, manifests) {
            self.unknown_host(grpc, host, manifests);
        }
    }

    /// Only a ServiceEntry can say here where a host leads.
    fn unknown_host(&mut self, grpc: &Node, host: &str, manifests: &Manifests<'_>) {
        let ours: Vec<&str> = manifests.of("ServiceEntry").filter(|entry| self.leads_here(entry)).flat_map(hosts_of).collect();
        let used = manifests.providers.iter().filter(|provider| is_used(provider, manifests));
        let mut asked = used.filter_map(|provider| at(provider, &["envoyExtAuthzGrpc", "service"]).and_then(text));
        match ours.first().filter(|_| !asked.any(|host| ours.contains(&host))) {
            Some(ours) => {
                let wrong = format!("the service is `{host}`, and the ServiceEntry that leads to Tollgate has the host `{ours}`");
                self.say(grpc, "service", wrong).hint("one host in both: Istio denies everything where it does not know the host");
            }
            None => self.not_judged(grpc, "service", &format!("whether `{host}` leads to Tollgate, of which no ServiceEntry is here")),
        }
    }

    fn patience_of_provider(&mut self, provider: &Node) {
        self.status_on_error(provider, "statusOnError", member(provider, "statusOnError"), "\"503\"");
        self.timeout(provider, "timeout", member(provider, "timeout"), "Istio's own is ten minutes");
    }

    fn policy(&mut self, policy: &Node, manifests: &Manifests<'_>) {
        let name = at(policy, &["spec", "provider", "name"]).and_then(text).unwrap_or_default();
        let knows = |provider: &&&Node| member(provider, "name").and_then(text) == Some(name);
        if manifests.providers.is_empty() {
            let what = "not judged: what happens when Tollgate does not answer, which the provider in the settings of the mesh says";
            self.warn(policy, "spec", what)
                .hint("put the settings of the mesh, such as components/istio/mesh-config.yaml, into this file, behind ---");
        } else if !manifests.providers.iter().any(|provider| knows(&provider)) {
            self.say(policy, "spec", format!("no extension provider is called `{name}`, so Istio denies everything here"))
                .hint("provider.name is a name among extensionProviders");
        }
        if is_true(policy, &["metadata", "annotations", "istio.io/dry-run"]) {
            self.say(policy, "metadata", "the policy is a dry run: nobody is refused").hint("take istio.io/dry-run away");
        }
        let rules = at(policy, &["spec", "rules"]).map(items).unwrap_or_default();
        if rules.is_empty() {
            self.say(policy, "spec", "without rules the policy is for no request at all: nobody is asked").hint("rules: [{}]");
        }
        if !rules.is_empty() && rules.iter().all(|rule| ["to", "from", "when"].iter().any(|field| member(rule, field).is_some())) {
            self.say(policy, "spec", "the rules leave requests out, and those enter without being asked about")
                .hint("rules: [{}]; what needs nobody is `auth: public` in tollgate.yaml");
        }
        let reach = Reach::of(policy, manifests);
        let strips = manifests.of("EnvoyFilter").any(|filter| {
            inbound(filter)
                .any(|patch| is_for_all_of(patch, reach.is_for_sidecars(manifests)) && contains_type(patch, ".HttpConnectionManager"))
                && Reach::of(filter, manifests).holds(&reach, manifests)
        });
        if !strips && !self.identity_names().is_empty() {
            self.say(
                policy,
                "spec",
                "no EnvoyFilter in this file that is for the same pods removes a client's own identity headers before Tollgate is asked",
            )
            .hint("early_header_mutation_extensions of the HttpConnectionManager; judge the files of one workload together");
        }
    }

    /// Whether a ServiceEntry is about Tollgate where no provider says so.
    fn leads_here(&self, entry: &Node) -> bool {
        addresses_of(entry).iter().any(|endpoint| endpoint.meets(&self.boot.check))
    }

    fn entry(&mut self, entry: &Node) {
        for port in ports_of(entry) {
            let protocol = member(port, "protocol").and_then(text).unwrap_or_default();
            if !matches!(protocol, "GRPC" | "HTTP2" | "grpc" | "http2") {
                let wrong = format!("the port's protocol is `{protocol}`: istio-proxy would ask in HTTP/1.1, and each request is denied");
                self.say(port, "protocol", wrong).hint("protocol: GRPC");
            }
        }
        if addresses_of(entry).is_empty() {
            let hosts: Vec<&str> = hosts_of(entry).collect();
            self.not_judged(entry, "spec", &format!("whether `{}` leads to Tollgate, since no address stands here", hosts.join(", ")));
        }
        let elsewhere: Vec<String> =
            addresses_of(entry).iter().filter(|endpoint| !endpoint.meets(&self.boot.check)).map(ToString::to_string).collect();
        if !elsewhere.is_empty() {
            let wrong = format!("it leads to {}, and listen.check is {}", elsewhere.join(", "), show(&self.boot.check));
            self.say(entry, "spec", wrong).hint("make the two one address");
        }
    }

    fn destination(&mut self, rule: &Node) {
        // Istio's own is four thousand millions, which a 0 means too.
        let most = at(rule, &["spec", "trafficPolicy", "connectionPool", "http", "http2MaxRequests"]).and_then(text);
        if let Some(most) = most.and_then(|most| most.parse().ok()).filter(|most| (1..=DEFAULT_MAX_REQUESTS).contains(most)) {
            self.say(rule, "spec", too_few(most)).hint("connectionPool.http.http2MaxRequests: 65536");
        }
        let speaks_tls = matches!(&self.boot.check, Listen::Tcp { tls: Some(_), .. });
        for tls in members_named(rule, "tls") {
            if is_true(tls, &["insecureSkipVerify"]) {
                self.say(tls, "insecureSkipVerify", "whoever answers is believed: its certificate is not verified")
                    .hint("insecureSkipVerify: false");
            }
            match member(tls, "mode").and_then(text).unwrap_or("DISABLE") {
                "DISABLE" if speaks_tls => self.say(tls, "mode", "listen.check speaks TLS, and this way does not").hint("mode: MUTUAL"),
                "SIMPLE" | "MUTUAL" if !speaks_tls => {
                    self.say(tls, "mode", "this way speaks TLS, and listen.check does not").hint("listen.check.tls in tollgate.yaml");
                }
                "SIMPLE" | "MUTUAL" if member(tls, "subjectAltNames").is_none() => self
                    .say(tls, "mode", "any certificate of the authority is believed to be Tollgate's: its name is not looked at")
                    .hint("subjectAltNames"),
                _ => {}
            }
        }
    }
}

/// Whether a policy of the file names a provider. Without policies, each is meant.
fn is_used(provider: &Node, manifests: &Manifests<'_>) -> bool {
    let name = member(provider, "name").and_then(text);
    let mut policies = manifests.of("AuthorizationPolicy").filter(|policy| is_custom(policy)).peekable();
    policies.peek().is_none() || policies.any(|policy| at(policy, &["spec", "provider", "name"]).and_then(text) == name)
}

fn hosts_of(entry: &Node) -> impl Iterator<Item = &str> {
    at(entry, &["spec", "hosts"]).map(items).unwrap_or_default().iter().filter_map(text)
}

fn ports_of(entry: &Node) -> &[Node] {
    at(entry, &["spec", "ports"]).map(items).unwrap_or_default()
}

fn addresses_of(entry: &Node) -> Vec<Endpoint<'_>> {
    let port = ports_of(entry).first().and_then(|port| member(port, "targetPort").or_else(|| member(port, "number")));
    let port = port.and_then(text).and_then(|port| port.parse().ok());
    let endpoints = at(entry, &["spec", "endpoints"]).map(items).unwrap_or_default();
    let address = |endpoint| match member(endpoint, "address").and_then(text) {
        Some(address) => address.strip_prefix("unix://").map_or(Endpoint::Socket { host: address, port }, Endpoint::Pipe),
        None => Endpoint::Unread,
    };
    endpoints.iter().map(address).collect()
}
