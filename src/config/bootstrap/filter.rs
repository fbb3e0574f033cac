//! How Tollgate is asked, what it is shown, and what it may change: the ext_authz filter itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::config::bootstrap::Judge;
use crate::config::bootstrap::lists::exactly_listed;
use crate::config::bootstrap::lists::listed;
use crate::config::bootstrap::lists::literals_of;
use crate::config::bootstrap::tree::at;
use crate::config::bootstrap::tree::is_true;
use crate::config::bootstrap::tree::items;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::seconds;
use crate::config::bootstrap::tree::text;
use crate::config::yaml::Node;
use crate::model::look_alikes::Spellings;

/// A check that may take longer than this holds a client's request up more than any route should allow.
pub(super) const LONGEST_TIMEOUT_SECONDS: f64 = 5.0;

impl Judge<'_> {
    /// What happens when Tollgate does not answer.
    pub(super) fn patience(&mut self, filter: &Node) {
        self.status_on_error(filter, "status_on_error", at(filter, &["status_on_error", "code"]), "{ code: ServiceUnavailable }");
        self.timeout(filter, "grpc_service", at(filter, &["grpc_service", "timeout"]), "Envoy's own is 200 ms");
    }

    /// What a client sees when Tollgate does not answer. `better`: how it is said here.
    pub(super) fn status_on_error(&mut self, parent: &Node, field: &str, status: Option<&Node>, better: &str) {
        let wrong = match status.and_then(text) {
            None => format!("{field} is absent: when Tollgate does not answer, clients see 403 as if their credential were bad"),
            Some(status) if is_our_trouble(status) => return,
            Some(status) => format!("{field} is {status}: when Tollgate does not answer, it is no trouble of the client's, nor a success"),
        };
        self.say(parent, field, wrong).hint(format!("{field}: {better}"));
    }

    /// `default_is`: what an absent one comes to.
    pub(super) fn timeout(&mut self, parent: &Node, field: &str, timeout: Option<&Node>, default_is: &str) {
        match timeout.and_then(seconds) {
            None => self.say(parent, field, format!("a check has no timeout here, and {default_is}")).hint("timeout: 0.250s"),
            Some(seconds) if seconds <= 0.0 || seconds > LONGEST_TIMEOUT_SECONDS => {
                let wrong = format!("a check may take {seconds} s (0 is for ever), and clients wait as long");
                self.say(parent, field, wrong).hint("timeout: 0.250s");
            }
            Some(_) => {}
        }
    }

    /// What makes the filter let requests by, and what it keeps from Tollgate.
    pub(super) fn filter(&mut self, root: &Node, filter: &Node) {
        if member(filter, "http_service").is_some() {
            self.say(filter, "http_service", "Tollgate answers over gRPC only")
                .hint("grpc_service: { envoy_grpc: { cluster_name: tollgate } }");
        }
        for (field, why) in [
            ("failure_mode_allow", "everybody enters whenever Tollgate does not answer"),
            ("clear_route_cache", "a request could move to a route that was never checked"),
        ] {
            if is_true(filter, &[field]) {
                self.say(filter, field, format!("{field} is true: {why}")).hint(format!("{field}: false"));
            }
        }
        if member(filter, "with_request_body").is_some() {
            let wrong = "bodies are held back until they are complete, which breaks streams and large uploads; Tollgate reads none";
            self.say(filter, "with_request_body", wrong).hint("leave it out");
        }
        if is_true(filter, &["shadow_mode"]) {
            self.warn(filter, "shadow_mode", "shadow_mode is true: Tollgate is asked and nobody is refused").hint("for a trial only");
        }
        if let Some(enabled) = member(filter, "filter_enabled") {
            let key = member(enabled, "runtime_key").and_then(text).filter(|key| !key.is_empty());
            let is_whole = key.and_then(|key| at_runtime(root, key)).or_else(|| member(enabled, "default_value")).is_none_or(is_everything);
            let better = "leave it out; for a trial, shadow_mode or dry_run in tollgate.yaml";
            match key {
                _ if !is_whole => {
                    self.say(filter, "filter_enabled", "only a part of the requests is asked about, and the rest enters").hint(better)
                }
                Some(key) => {
                    self.warn(filter, "filter_enabled", format!("whoever sets `{key}` at run time turns Tollgate off")).hint(better)
                }
                None => {}
            }
        }
        if member(filter, "filter_enabled_metadata").is_some() {
            self.say(filter, "filter_enabled_metadata", "whether Tollgate is asked depends on metadata that another filter sets")
                .hint("leave it out");
        }
        self.hidden_headers(filter);
        self.refused_mutations(filter);
    }

    /// Headers that Tollgate must see and that the lists of the filter keep from it.
    fn hidden_headers(&mut self, filter: &Node) {
        let needed = self.needed_names();
        if let Some(allowed) = member(filter, "allowed_headers") {
            for name in needed.iter().filter(|name| !listed(allowed, name)) {
                self.say(filter, "allowed_headers", format!("`{name}` is not among allowed_headers, so Tollgate never sees it"))
                    .hint(format!("add `- exact: {name}`"));
            }
        }
        if let Some(disallowed) = member(filter, "disallowed_headers") {
            for name in needed.iter().filter(|name| exactly_listed(disallowed, name)) {
                self.say(filter, "disallowed_headers", format!("`{name}` is among disallowed_headers, so Tollgate never sees it"))
                    .hint("take it out");
            }
        }
    }

    /// Headers that Tollgate sets or removes and that the mutation rules forbid it to.
    fn refused_mutations(&mut self, filter: &Node) {
        let Some(mutation_rules) = member(filter, "decoder_header_mutation_rules") else { return };
        if !is_true(mutation_rules, &["disallow_all"]) {
            return;
        }
        let pattern = at(mutation_rules, &["allow_expression", "regex"]).and_then(text).unwrap_or_default();
        let Some(literals) = literals_of(pattern) else { return };
        for name in self.changed_names().iter().filter(|name| !literals.contains(&***name)) {
            let wrong = format!("decoder_header_mutation_rules forbid Tollgate to set or remove `{name}`");
            self.say(filter, "decoder_header_mutation_rules", wrong).hint(format!("add `{name}` to allow_expression"));
        }
    }

    /// Names that belong to Tollgate alone.
    pub(super) fn identity_names(&self) -> Vec<Arc<str>> {
        let assertion = self.rules.assertion.iter().map(|assertion| Arc::clone(&assertion.header));
        self.rules.identity_headers.iter().map(|header| Arc::clone(&header.name)).chain(assertion).collect()
    }

    /// Names that Tollgate sets or removes.
    pub(super) fn changed_names(&self) -> BTreeSet<Arc<str>> {
        let credentials = self.rules.places.iter().map(|place| Arc::clone(&place.header));
        let version = self.rules.api_versions.iter().map(|versions| Arc::clone(&versions.header));
        let identity = self.identity_names();
        let look_alikes = identity.iter().flat_map(|name| Spellings::of(name).listed);
        identity.iter().cloned().chain(look_alikes).chain(credentials).chain(version).collect()
    }

    /// Names that Tollgate reads.
    pub(super) fn needed_names(&self) -> BTreeSet<Arc<str>> {
        let places = self.rules.places.iter().map(|place| Arc::clone(&place.header));
        let version = self.rules.api_versions.iter().map(|versions| Arc::clone(&versions.header));
        places.chain(version).chain(READ_ALWAYS.map(Arc::from)).collect()
    }
}

/// What Tollgate judges by whatever the rules say.
const READ_ALWAYS: [&str; 7] =
    ["content-type", "x-request-id", "x-forwarded-for", "upgrade", "connection", "origin", "access-control-request-method"];

/// A status that speaks of trouble on our side, as a number or by Envoy's name for it.
fn is_our_trouble(status: &str) -> bool {
    const NAMES: [&str; 5] = ["InternalServerError", "NotImplemented", "BadGateway", "ServiceUnavailable", "GatewayTimeout"];
    NAMES.contains(&status) || status.parse::<u16>().is_ok_and(|status| (500..600).contains(&status))
}

/// What the last of the layers that stand in the bootstrap says of a key, spelled with dots or nested.
fn at_runtime<'n>(root: &'n Node, key: &str) -> Option<&'n Node> {
    let layers = at(root, &["layered_runtime", "layers"]).map(items).unwrap_or_default();
    let nested: Vec<&str> = key.split('.').collect();
    layers
        .iter()
        .rev()
        .filter_map(|layer| member(layer, "static_layer"))
        .find_map(|layer| member(layer, key).or_else(|| at(layer, &nested)))
}

/// Whether a share is 100 %: a number of percent, or a `FractionalPercent`.
fn is_everything(share: &Node) -> bool {
    let number = text(share).or_else(|| member(share, "numerator").and_then(text));
    let numerator: f64 = number.and_then(|text| text.parse().ok()).unwrap_or(0.0);
    let denominator = match member(share, "denominator").and_then(text).unwrap_or("HUNDRED") {
        "MILLION" | "2" => 1_000_000.0,
        "TEN_THOUSAND" | "1" => 10_000.0,
        _ => 100.0,
    };
    numerator >= denominator
}
