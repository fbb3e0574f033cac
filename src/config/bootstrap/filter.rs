//! How Tollgate is asked, what it is shown, and what it may change: the ext_authz filter itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::config::bootstrap::Judge;
use crate::config::bootstrap::lists::is_whole_match;
use crate::config::bootstrap::lists::takes_name;
use crate::config::bootstrap::runtime::is_whole;
use crate::config::bootstrap::tree::at;
use crate::config::bootstrap::tree::is_true;
use crate::config::bootstrap::tree::may_be_true;
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
        let wrong = match timeout.map(|timeout| (timeout, seconds(timeout))) {
            None => format!("a check has no timeout here, and {default_is}"),
            Some((timeout, None)) => unreadable(timeout),
            Some((_, Some(seconds))) if seconds <= 0.0 || seconds > LONGEST_TIMEOUT_SECONDS => {
                format!("a check may take {seconds} s (0 is for ever), and clients wait as long")
            }
            Some((_, Some(_))) => return,
        };
        self.say(parent, field, wrong).hint("timeout: 0.250s");
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
            if may_be_true(filter, &[field]) {
                self.say(filter, field, format!("{field} is true: {why}")).hint(format!("{field}: false"));
            }
        }
        self.bodies(filter);
        if may_be_true(filter, &["shadow_mode"]) {
            self.warn(filter, "shadow_mode", "shadow_mode is true: Tollgate is asked and nobody is refused").hint("for a trial only");
        }
        if let Some(enabled) = member(filter, "filter_enabled") {
            let key = member(enabled, "runtime_key").and_then(text).filter(|key| !key.is_empty());
            let better = "leave it out; for a trial, shadow_mode or dry_run in tollgate.yaml";
            match key {
                _ if !is_whole(root, enabled) => {
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
        self.dialogue(filter);
    }

    /// Headers that Tollgate must see and that the lists of the filter keep from it.
    fn hidden_headers(&mut self, filter: &Node) {
        for (field, is_hidden_when_listed, hint) in
            [("allowed_headers", false, "a pattern for"), ("disallowed_headers", true, "no pattern for")]
        {
            let Some(list) = member(filter, field) else { continue };
            for name in self.needed_names() {
                match takes_name(list, &name) {
                    Some(is_listed) if is_listed == is_hidden_when_listed => {
                        let is = if is_listed { "is" } else { "is not" };
                        self.say(filter, field, format!("`{name}` {is} among {field}, so Tollgate never sees it"))
                            .hint(format!("{hint} `{name}`"));
                    }
                    Some(_) => {}
                    None => self.not_judged(filter, field, &format!("whether {field} keep `{name}` from Tollgate")),
                }
            }
        }
    }

    /// Headers that Tollgate sets or removes and that the mutation rules forbid it to.
    fn refused_mutations(&mut self, filter: &Node) {
        const FIELD: &str = "decoder_header_mutation_rules";
        let Some(mutation_rules) = member(filter, FIELD) else { return };
        let takes = |field: &str, name: &str| {
            at(mutation_rules, &[field, "regex"]).and_then(text).map_or(Some(false), |pattern| is_whole_match(pattern, name))
        };
        let is_closed = is_true(mutation_rules, &["disallow_all"]);
        for name in self.changed_names() {
            let is_refused = match takes("disallow_expression", &name) {
                Some(false) if is_closed => takes("allow_expression", &name).map(|is_allowed| !is_allowed),
                known => known,
            };
            match is_refused {
                Some(true) => self
                    .say(filter, FIELD, format!("{FIELD} forbid Tollgate to set or remove `{name}`"))
                    .hint(format!("`{name}` in allow_expression, and not in disallow_expression")),
                Some(false) => {}
                None => self.not_judged(filter, FIELD, &format!("whether Tollgate may set or remove `{name}`")),
            }
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

/// What is said of a length of time that is none.
pub(super) fn unreadable(timeout: &Node) -> String {
    format!("the timeout `{}` is no length of time", text(timeout).unwrap_or_default())
}

/// What Tollgate judges by whatever the rules say.
const READ_ALWAYS: [&str; 7] =
    ["content-type", "x-request-id", "x-forwarded-for", "upgrade", "connection", "origin", "access-control-request-method"];

/// A status that speaks of trouble on our side, as a number or by Envoy's name for it.
fn is_our_trouble(status: &str) -> bool {
    const NAMES: [&str; 5] = ["InternalServerError", "NotImplemented", "BadGateway", "ServiceUnavailable", "GatewayTimeout"];
    NAMES.contains(&status) || status.parse::<u16>().is_ok_and(|status| (500..600).contains(&status))
}
