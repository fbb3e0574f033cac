//! Envoy Gateway: who is asked (SecurityPolicy), where (Backend), and what is mended before (ClientTrafficPolicy).

use std::collections::BTreeSet;

use crate::config::bootstrap::Judge;
use crate::config::bootstrap::manifests::Manifests;
use crate::config::bootstrap::tree::all;
use crate::config::bootstrap::tree::at;
use crate::config::bootstrap::tree::entries;
use crate::config::bootstrap::tree::is_true;
use crate::config::bootstrap::tree::items;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::text;
use crate::config::bootstrap::way::DEFAULT_MAX_REQUESTS;
use crate::config::bootstrap::way::Endpoint;
use crate::config::bootstrap::way::show;
use crate::config::bootstrap::way::too_few;
use crate::config::yaml::Node;

impl Judge<'_> {
    pub(super) fn gateway(&mut self, manifests: &Manifests<'_>) {
        let asking: Vec<&Node> = manifests.of("SecurityPolicy").filter(|policy| at(policy, &["spec", "extAuth"]).is_some()).collect();
        for policy in &asking {
            self.security(policy, manifests);
        }
        for patch in manifests.of("EnvoyPatchPolicy") {
            let touches = |word: &str| ["ext_authz", "http_filters", "typed_per_filter_config"].iter().any(|part| word.contains(part));
            if !all(patch, &|node| text(node).is_some_and(touches) || entries(node).iter().any(|entry| touches(&entry.key))).is_empty() {
                self.say(patch, "spec", "this patch reaches into the filters that ask Tollgate, and what becomes of them cannot be told")
                    .hint("say it in a SecurityPolicy or a ClientTrafficPolicy");
            }
        }
        if !asking.is_empty() || ["SecurityPolicy", "ClientTrafficPolicy", "Backend"].iter().any(|kind| manifests.of(kind).next().is_some())
        {
            self.targets(&asking, manifests);
        }
        if asking.is_empty() {
            return;
        }
        for policy in manifests.of("SecurityPolicy").filter(|policy| at(policy, &["spec", "extAuth"]).is_none()) {
            let wrong = "a SecurityPolicy without extAuth takes the place of the one that asks Tollgate, wherever it is the nearer one";
            self.say(policy, "spec", wrong).hint("let Tollgate say `auth: public` instead, so that it is counted and logged");
        }
        let mut traffic = manifests.of("ClientTrafficPolicy").peekable();
        if traffic.peek().is_none()
            && let Some(policy) = asking.first()
        {
            self.say(
                policy,
                "spec",
                "no ClientTrafficPolicy in this file removes a client's own identity headers before Tollgate is asked",
            )
            .hint("headers.earlyRequestHeaders.remove; judge the files of one Gateway together");
        }
        for policy in traffic {
            self.traffic(policy);
        }
    }

    /// Each Gateway and each route must be the target of somebody that asks.
    fn targets(&mut self, asking: &[&Node], manifests: &Manifests<'_>) {
        let covers = |kind: &str, name: &str, section: Option<&str>| {
            asking.iter().filter_map(|policy| member(policy, "spec")).any(|spec| {
                let selected = member(spec, "targetSelectors").map(items).unwrap_or_default();
                let named = member(spec, "targetRefs").map(items).unwrap_or_default().iter().chain(member(spec, "targetRef"));
                // What a selector chooses is for the labels to say.
                selected.iter().any(|target| member(target, "kind").and_then(text) == Some(kind))
                    || named.into_iter().any(|target| {
                        let is = |field: &str, wanted: &str| member(target, field).and_then(text) == Some(wanted);
                        let part = member(target, "sectionName").and_then(text);
                        is("kind", kind) && is("name", name) && (part.is_none() || part == section)
                    })
            })
        };
        let name_of = |document: &'_ Node| at(document, &["metadata", "name"]).and_then(text).unwrap_or_default().to_owned();
        let routes: Vec<(&str, &Node)> =
            ["HTTPRoute", "GRPCRoute"].into_iter().flat_map(|kind| manifests.of(kind).map(move |route| (kind, route))).collect();
        let parents = |route: &'_ Node| -> Vec<(String, Option<String>)> {
            let of = |parent: &Node, field: &str| member(parent, field).and_then(text).map(str::to_owned);
            let all = at(route, &["spec", "parentRefs"]).map(items).unwrap_or_default();
            all.iter().map(|parent| (of(parent, "name").unwrap_or_default(), of(parent, "sectionName"))).collect()
        };
        for (kind, route) in &routes {
            let is_asked = |(parent, section): &(String, Option<String>)| covers("Gateway", parent, section.as_deref());
            if !covers(kind, &name_of(route), None) && !parents(route).iter().all(is_asked) {
                self.say(
                    route,
                    "spec",
                    format!("no SecurityPolicy with extAuth has this {kind} or its Gateway as target: nobody is asked there"),
                )
                .hint("targetRefs with the Gateway; judge the files of one Gateway together");
            }
        }
        for gateway in manifests.of("Gateway").filter(|gateway| at(gateway, &["spec", "gatewayClassName"]).is_some()) {
            let name = name_of(gateway);
            let has_route = routes.iter().any(|(_, route)| parents(route).iter().any(|(parent, _)| *parent == name));
            if !has_route && !covers("Gateway", &name, None) {
                self.say(gateway, "spec", "no SecurityPolicy with extAuth has this Gateway as target: nobody is asked there")
                    .hint("targetRefs with the Gateway; judge the files of one Gateway together");
            }
        }
    }

    fn security(&mut self, policy: &Node, manifests: &Manifests<'_>) {
        let Some(ask) = at(policy, &["spec", "extAuth"]) else { return };
        let Some(grpc) = member(ask, "grpc") else {
            self.say(ask, "http", "Tollgate answers over gRPC only").hint("extAuth.grpc");
            return;
        };
        for (field, why) in [
            ("failOpen", "everybody enters whenever Tollgate does not answer, and where this policy has a mistake"),
            ("recomputeRoute", "a request could move to a route that was never checked"),
        ] {
            if is_true(ask, &[field]) {
                self.say(ask, field, format!("{field} is true: {why}")).hint(format!("{field}: false"));
            }
        }
        self.status_on_error(ask, "statusOnError", member(ask, "statusOnError"), "503 (Envoy Gateway 1.8)");
        self.timeout(ask, "timeout", member(ask, "timeout"), "Envoy Gateway's own is ten seconds");
        if member(ask, "bodyToExtAuth").is_some() {
            let wrong = "bodies are held back until they are complete, which breaks streams and large uploads; Tollgate reads none";
            self.say(ask, "bodyToExtAuth", wrong).hint("leave it out");
        }
        if let Some(allowed) = member(ask, "headersToExtAuth") {
            let listed: BTreeSet<&str> = items(allowed).iter().filter_map(text).collect();
            for name in self.needed_names().iter().filter(|name| !listed.contains(&***name)) {
                self.say(ask, "headersToExtAuth", format!("`{name}` is not among headersToExtAuth, so Tollgate never sees it"))
                    .hint(format!("add `{name}`, or leave the list out"));
            }
        }
        let most = at(grpc, &["backendSettings", "circuitBreaker", "maxParallelRequests"]).and_then(text);
        let most = most.and_then(|most| most.parse().ok()).unwrap_or(DEFAULT_MAX_REQUESTS);
        if most <= DEFAULT_MAX_REQUESTS {
            self.say(grpc, "backendSettings", too_few(most)).hint("circuitBreaker.maxParallelRequests: 65536");
        }
        for reference in member(grpc, "backendRefs").map(items).unwrap_or_default() {
            let name = member(reference, "name").and_then(text).unwrap_or_default();
            if member(reference, "kind").and_then(text) == Some("Backend") {
                match manifests.named("Backend", name) {
                    Some(backend) => self.backend(backend),
                    None => self
                        .say(reference, "name", format!("there is no Backend `{name}` in this file"))
                        .hint("name the one that leads to Tollgate"),
                }
            }
        }
    }

    fn backend(&mut self, backend: &Node) {
        for endpoint in at(backend, &["spec", "endpoints"]).map(items).unwrap_or_default() {
            let port = |kind: &Node| member(kind, "port").and_then(text).and_then(|port| port.parse().ok());
            let socket = |kind: &'_ str, name: &str| {
                let kind = member(endpoint, kind)?;
                Some(Endpoint::Socket { host: member(kind, name).and_then(text)?, port: port(kind) })
            };
            let pipe = at(endpoint, &["unix", "path"]).and_then(text).map(Endpoint::Pipe);
            let Some(place) = pipe.or_else(|| socket("ip", "address")).or_else(|| socket("fqdn", "hostname")) else { continue };
            if !place.meets(&self.boot.check) {
                let wrong = format!("it leads to {place}, and listen.check is {}", show(&self.boot.check));
                self.say(endpoint, "", wrong).hint("make the two one address");
            }
        }
    }

    fn traffic(&mut self, policy: &Node) {
        let Some(spec) = member(policy, "spec") else { return };
        if is_true(spec, &["path", "disableMergeSlashes"]) {
            self.say(spec, "path", "disableMergeSlashes is true: `//` is refused by Tollgate instead of read as `/`")
                .hint("disableMergeSlashes: false");
        }
        let slashes = at(spec, &["path", "escapedSlashesAction"]).and_then(text).unwrap_or("UnescapeAndRedirect");
        if !matches!(slashes, "RejectRequest" | "UnescapeAndRedirect") {
            let wrong = format!("escapedSlashesAction is {slashes}: `%2F` could be read as a slash behind the gate");
            self.say(spec, "path", wrong).hint("escapedSlashesAction: RejectRequest");
        }
        if at(spec, &["headers", "withUnderscoresAction"]).and_then(text) == Some("Allow") {
            self.say(spec, "headers", "withUnderscoresAction is Allow: many servers read x_user_id as x-user-id")
                .hint("withUnderscoresAction: RejectRequest");
        }
        let removed: BTreeSet<&str> =
            at(spec, &["headers", "earlyRequestHeaders", "remove"]).map(items).unwrap_or_default().iter().filter_map(text).collect();
        for name in self.identity_names() {
            if !removed.contains(&*name) {
                let wrong = format!("a client's own `{name}` is not removed before ext_authz, so it passes wherever Tollgate is not asked");
                self.say(spec, "headers", wrong).hint(format!("add {name} to earlyRequestHeaders.remove"));
            }
        }
        let theirs = at(spec, &["clientIPDetection", "xForwardedFor", "numTrustedHops"]).and_then(text).unwrap_or("0");
        if theirs.parse() != Ok(self.rules.trusted_hops) {
            let wrong = format!(
                "numTrustedHops is {theirs}, and trusted_hops in tollgate.yaml is {}: the two mean different clients",
                self.rules.trusted_hops
            );
            self.say(spec, "clientIPDetection", wrong).hint("the number of proxies before this Envoy, in both");
        }
    }
}
