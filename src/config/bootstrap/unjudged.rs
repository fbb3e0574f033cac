//! Kinds of manifests that change what a request meets: some by fields that can be told, some in ways that nobody can judge from here.

use crate::config::bootstrap::Judge;
use crate::config::bootstrap::manifests::Manifests;
use crate::config::bootstrap::tree::all;
use crate::config::bootstrap::tree::at;
use crate::config::bootstrap::tree::is_true;
use crate::config::bootstrap::tree::items;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::members_named;
use crate::config::bootstrap::tree::text;

/// A kind, the field that is not judged where it is there, and what it does.
const UNJUDGED: [(&str, &[&str], &str); 10] = [
    ("WasmPlugin", &["spec"], "code that may change a request"),
    ("TrafficExtension", &["spec"], "code that may change a request"),
    ("EnvoyExtensionPolicy", &["spec"], "code that may change a request"),
    ("Sidecar", &["spec", "ingress"], "doors that Istio does not choose"),
    ("VirtualService", &["spec", "tcp"], "connections that are led on as they are"),
    ("VirtualService", &["spec", "tls"], "connections that are led on as they are"),
    ("EnvoyProxy", &["spec", "bootstrap"], "a bootstrap of its own"),
    ("EnvoyProxy", &["spec", "filterOrder"], "an order of filters of its own"),
    ("EnvoyProxy", &["spec", "extraArgs"], "a command line of its own"),
    ("EnvoyProxy", &["spec", "provider", "kubernetes", "envoyDeployment", "patch"], "a change of the pods"),
];

/// Fields of policies that name a header to write once a request was judged.
const WRITERS: [&str; 6] = [
    "outputPayloadToHeader",
    "outputClaimToHeaders",
    "claimToHeaders",
    "forwardUsernameHeader",
    "forwardClientIDHeader",
    "credentialInjection",
];

impl Judge<'_> {
    pub(super) fn unjudged(&mut self, manifests: &Manifests<'_>) {
        for (kind, field, what) in UNJUDGED {
            for document in manifests.of(kind).filter(|document| at(document, field).is_some()) {
                self.not_judged(document, "spec", &format!("{what}, which this {kind} has"));
            }
        }
        for document in &manifests.others {
            self.not_judged(document, "", "this document, which is neither a manifest nor a bootstrap");
        }
        for document in manifests.all() {
            let written = WRITERS.iter().flat_map(|field| members_named(document, field));
            let written = written
                .flat_map(|node| items(node).iter().chain([node]))
                .filter_map(|node| text(node).or_else(|| member(node, "header").and_then(text)));
            for name in written.filter(|name| self.is_identity(name)).collect::<Vec<_>>() {
                self.say(document, "spec", format!("this writes `{name}`, which is Tollgate's to set")).hint("use another header");
            }
        }
        for policy in manifests.of("EnvoyExtensionPolicy") {
            self.script(policy, "this policy", policy);
            if !all(policy, &|node| text(node).is_some_and(|code| code.contains("clearRouteCache"))).is_empty() {
                self.say(policy, "spec", "its code clears the route cache: a request could move to a route that was never checked")
                    .hint("let it leave the route alone");
            }
        }
        for proxy in manifests.of("EnvoyProxy") {
            let order = at(proxy, &["spec", "filterOrder"]);
            if order.is_some_and(|order| !all(order, &|node| text(node).is_some_and(|name| name.contains("ext_authz"))).is_empty()) {
                self.say(proxy, "spec", "filterOrder moves ext_authz, and what comes before it may answer without asking Tollgate")
                    .hint("leave ext_authz where Envoy Gateway puts it");
            }
        }
        for policy in manifests.of("RequestAuthentication") {
            for rule in
                members_named(policy, "jwtRules").into_iter().flat_map(items).filter(|rule| !is_true(rule, &["forwardOriginalToken"]))
            {
                self.warn(rule, "forwardOriginalToken", "istio-proxy takes the token out of the request once it has looked at it")
                    .hint("forwardOriginalToken: true, if the service reads it");
            }
        }
        for policy in manifests.of("BackendTrafficPolicy") {
            for response in members_named(policy, "response") {
                let status = member(response, "statusCode").and_then(text);
                if status.is_some_and(|status| status.parse::<u16>().is_ok_and(|status| status < 400)) {
                    self.say(response, "statusCode", "a refusal of Tollgate's could become a success here")
                        .hint("statusCode of 400 or more");
                }
            }
        }
    }
}
