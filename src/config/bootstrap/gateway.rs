//! Envoy Gateway: who is asked (SecurityPolicy), where (Backend), and what is mended before (ClientTrafficPolicy).

use std::collections::BTreeSet;

use crate::config::bootstrap::Judge;
use crate::config::bootstrap::attached::is_apart;
use crate::config::bootstrap::manifests::Manifests;
use crate::config::bootstrap::manifests::namespace_of;
use crate::config::bootstrap::tree::at;
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
            self.patch_policy(patch);
        }
        if !asking.is_empty() || ["SecurityPolicy", "ClientTrafficPolicy", "Backend"].iter().any(|kind| manifests.of(kind).next().is_some())
        {
            self.attached(&asking, manifests);
        }
        if asking.is_empty() {
            return;
        }
        let others = manifests.of("SecurityPolicy").filter(|policy| at(policy, &["spec", "extAuth"]).is_none());
        for policy in others.filter(|policy| !is_apart(policy, &asking, manifests)) {
            let wrong = "a SecurityPolicy without extAuth takes the place of the one that asks Tollgate, wherever it is the nearer one";
            self.say(policy, "spec", wrong).hint("let Tollgate say `auth: public` instead, so that it is counted and logged");
        }
        for policy in manifests.of("ClientTrafficPolicy") {
            self.traffic(policy);
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
            let listed = names_in(allowed);
            for name in self.needed_names().iter().filter(|name| !listed.contains(&name.to_ascii_lowercase())) {
                self.say(ask, "headersToExtAuth", format!("`{name}` is not among headersToExtAuth, so Tollgate never sees it"))
                    .hint(format!("add `{name}`, or leave the list out"));
            }
        }
        let most = at(grpc, &["backendSettings", "circuitBreaker", "maxParallelRequests"]).and_then(text);
        let most = most.and_then(|most| most.parse().ok()).unwrap_or(DEFAULT_MAX_REQUESTS);
        if most <= DEFAULT_MAX_REQUESTS {
            self.say(grpc, "backendSettings", too_few(most)).hint("circuitBreaker.maxParallelRequests: 65536");
        }
        for extension in member(ask, "contextExtensions").map(items).unwrap_or_default() {
            let of = |field| member(extension, field).and_then(text);
            match of("value") {
                _ if of("name") != Some("route") => {}
                Some(route) => self.chosen(extension, route, false),
                None => self.not_judged(extension, "name", "the route that everything here is judged as, which stands elsewhere"),
            }
        }
        let references = member(grpc, "backendRefs").map(items).unwrap_or_default().iter().chain(member(grpc, "backendRef"));
        for reference in references {
            let of = |field| member(reference, field).and_then(text);
            let name = of("name").unwrap_or_default();
            if of("kind") != Some("Backend") {
                self.not_judged(reference, "name", &format!("whether the Service `{name}` leads to Tollgate"));
                continue;
            }
            match manifests.named("Backend", of("namespace").unwrap_or(namespace_of(policy)), name) {
                Some(backend) => self.backend(backend),
                None => self
                    .say(reference, "name", format!("there is no Backend `{name}` in this file"))
                    .hint("name the one that leads to Tollgate"),
            }
        }
    }

    fn backend(&mut self, backend: &Node) {
        if is_true(backend, &["spec", "tls", "insecureSkipVerify"]) {
            self.say(backend, "spec", "whoever answers is believed: its certificate is not verified").hint("insecureSkipVerify: false");
        }
        let endpoints = at(backend, &["spec", "endpoints"]).map(items).unwrap_or_default();
        if endpoints.is_empty() {
            self.say(backend, "spec", "it has no endpoint, so nobody can say that it leads to Tollgate")
                .hint("endpoints, with the address of listen.check");
        }
        for endpoint in endpoints {
            let port = |kind: &Node| member(kind, "port").and_then(text).and_then(|port| port.parse().ok());
            let socket = |kind: &'_ str, name: &str| {
                let kind = member(endpoint, kind)?;
                Some(Endpoint::Socket { host: member(kind, name).and_then(text)?, port: port(kind) })
            };
            let pipe = at(endpoint, &["unix", "path"]).and_then(text).map(Endpoint::Pipe);
            let place = pipe.or_else(|| socket("ip", "address")).or_else(|| socket("fqdn", "hostname")).unwrap_or(Endpoint::Unread);
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
        let early = at(spec, &["headers", "earlyRequestHeaders"]);
        let added = ["add", "set", "addIfAbsent"].into_iter().filter_map(|field| member(early?, field)).flat_map(items);
        for name in added.filter_map(|header| member(header, "name").and_then(text)) {
            if self.is_identity(name) || self.is_credential(name) {
                let wrong = format!(
                    "every request comes with `{name}` before Tollgate is asked, so a client without a credential may pass for somebody"
                );
                self.say(spec, "headers", wrong).hint("take it out of earlyRequestHeaders");
            }
        }
        if let Some(header) = at(spec, &["clientIPDetection", "customHeader", "name"]).and_then(text) {
            let wrong = format!("a client's address is what `{header}` says, and whoever reaches this Gateway directly may write it");
            self.warn(spec, "clientIPDetection", wrong).hint("right where a proxy before this one writes it, and nobody comes past that");
        }
        if is_true(spec, &["proxyProtocol", "optional"]) {
            self.say(spec, "proxyProtocol", "a client may write an address of its choice before its request, and is believed")
                .hint("optional: false");
        }
        let removed = at(spec, &["headers", "earlyRequestHeaders", "remove"]).map(names_in).unwrap_or_default();
        for name in self.identity_names() {
            if !removed.contains(&name.to_ascii_lowercase()) {
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

/// The headers of a list, in the one spelling that counts.
fn names_in(list: &Node) -> BTreeSet<String> {
    items(list).iter().filter_map(text).map(str::to_ascii_lowercase).collect()
}
