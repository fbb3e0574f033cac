//! An Envoy bootstrap held against the rules: what in it would open the gate, drop an identity, or turn our trouble into a client's.
//!
//! Only settings that matter to Tollgate are looked at; whether the bootstrap is good otherwise is for `envoy --mode validate` to say.
//! What this file cannot decide (a regular expression, rules that come over xDS) is left alone.

mod tree;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use crate::config::bootstrap::tree::all_of_type;
use crate::config::bootstrap::tree::at;
use crate::config::bootstrap::tree::has_type;
use crate::config::bootstrap::tree::items;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::members_named;
use crate::config::bootstrap::tree::text;
use crate::config::complaint::Complaint;
use crate::config::outside::read_file;
use crate::config::yaml;
use crate::config::yaml::Node;
use crate::model::rules::Rules;
use crate::model::rules::look_alike;

/// Envoy's own default for `max_requests`.
const DEFAULT_MAX_REQUESTS: u64 = 1024;
/// A check that may take longer than this holds a client's request up more than any route should allow.
const LONGEST_TIMEOUT_SECONDS: f64 = 5.0;

/// Reads a bootstrap and says what in it does not fit the rules.
pub fn judge(path: &Path, rules: &Rules) -> Vec<Complaint> {
    let name: Arc<str> = Arc::from(path.to_string_lossy());
    match read_file(path) {
        Ok(contents) => match std::str::from_utf8(&contents.bytes) {
            Ok(text) => judge_text(&name, text, rules),
            Err(_) => vec![Complaint::about_file(&name, "the file is not UTF-8 text")],
        },
        Err(trouble) => vec![Complaint::about_file(&name, trouble.to_string())],
    }
}

fn judge_text(name: &Arc<str>, text: &str, rules: &Rules) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let Some(root) = yaml::parse(name, text, &mut complaints) else { return complaints };
    let mut judge = Judge { file: name, rules, complaints };
    judge.bootstrap(&root);
    judge.complaints
}

struct Judge<'a> {
    file: &'a Arc<str>,
    rules: &'a Rules,
    complaints: Vec<Complaint>,
}

impl Judge<'_> {
    fn bootstrap(&mut self, root: &Node) {
        let guarded: Vec<&Node> =
            all_of_type(root, ".HttpConnectionManager").into_iter().filter(|manager| ext_authz_of(manager).is_some()).collect();
        if guarded.is_empty() {
            self.say(root, "", "no HTTP connection manager has an ext_authz filter, so nobody is asked")
                .hint("add envoy.filters.http.ext_authz");
        }
        for manager in guarded {
            self.manager(manager);
            if let Some(filter) = ext_authz_of(manager) {
                self.filter(filter);
                self.cluster(root, filter);
            }
        }
        for route in all_with(root, "typed_per_filter_config") {
            self.route(route);
        }
    }

    /// What happens to a request before ext_authz sees it.
    fn manager(&mut self, manager: &Node) {
        let wanted = [
            ("normalize_path", "Envoy, Tollgate and the upstream could read one path in different ways"),
            ("merge_slashes", "`//` is refused by Tollgate instead of read as `/`"),
            ("use_remote_address", "what a client writes into x-forwarded-for and x-envoy-* would be believed"),
        ];
        for (field, why) in wanted {
            if at(manager, &[field]).and_then(text) != Some("true") {
                self.say(manager, field, format!("{field} is not true: {why}")).hint(format!("{field}: true"));
            }
        }
        let slashes = at(manager, &["path_with_escaped_slashes_action"]).and_then(text).unwrap_or("IMPLEMENTATION_SPECIFIC_DEFAULT");
        if !matches!(slashes, "REJECT_REQUEST" | "UNESCAPE_AND_REDIRECT") {
            let wrong = format!("path_with_escaped_slashes_action is {slashes}: `%2F` could be read as a slash behind the gate");
            self.say(manager, "path_with_escaped_slashes_action", wrong).hint("path_with_escaped_slashes_action: REJECT_REQUEST");
        }
        let underscores =
            at(manager, &["common_http_protocol_options", "headers_with_underscores_action"]).and_then(text).unwrap_or("ALLOW");
        if !matches!(underscores, "REJECT_REQUEST" | "DROP_HEADER") {
            let wrong = "headers_with_underscores_action is ALLOW: many servers read x_user_id as x-user-id";
            self.say(manager, "common_http_protocol_options", wrong).hint("headers_with_underscores_action: REJECT_REQUEST");
        }
        let removed = removed_early(manager);
        for name in self.identity_names() {
            if !removed.contains(&*name) {
                let wrong = format!("a client's own `{name}` is not removed before ext_authz, so it passes wherever Tollgate is not asked");
                self.say(manager, "early_header_mutation_extensions", wrong).hint(format!("add `- remove: {name}` to its mutations"));
            }
        }
    }

    /// How Tollgate is asked, and what happens when it does not answer.
    fn filter(&mut self, filter: &Node) {
        if member(filter, "http_service").is_some() {
            self.say(filter, "http_service", "Tollgate answers over gRPC only")
                .hint("grpc_service: { envoy_grpc: { cluster_name: tollgate } }");
        }
        for (field, why) in [
            ("failure_mode_allow", "everybody enters whenever Tollgate does not answer"),
            ("clear_route_cache", "a request could move to a route that was never checked"),
        ] {
            if at(filter, &[field]).and_then(text) == Some("true") {
                self.say(filter, field, format!("{field} is true: {why}")).hint(format!("{field}: false"));
            }
        }
        if member(filter, "status_on_error").is_none() {
            let wrong = "status_on_error is absent: when Tollgate does not answer, clients see 403 as if their credential were bad";
            self.say(filter, "status_on_error", wrong).hint("status_on_error: { code: ServiceUnavailable }");
        }
        self.timeout(filter);
        self.hidden_headers(filter);
        self.refused_mutations(filter);
    }

    fn timeout(&mut self, filter: &Node) {
        let timeout = at(filter, &["grpc_service", "timeout"]);
        let seconds = timeout.and_then(text).and_then(|text| text.strip_suffix('s')).and_then(|text| text.parse::<f64>().ok());
        match seconds {
            None => {
                self.say(filter, "grpc_service", "grpc_service has no timeout, and Envoy's own is 200 ms").hint("timeout: 0.250s");
            }
            Some(seconds) if seconds <= 0.0 || seconds > LONGEST_TIMEOUT_SECONDS => {
                let wrong = format!("a check may take {seconds} s (0 is for ever), and clients wait as long");
                self.say(filter, "grpc_service", wrong).hint("timeout: 0.250s");
            }
            Some(_) => {}
        }
    }

    /// Headers that Tollgate must see and that the lists of the filter keep from it.
    fn hidden_headers(&mut self, filter: &Node) {
        let needed = self.needed_names();
        if let Some(allowed) = member(filter, "allowed_headers") {
            for name in needed.iter().filter(|name| !listed(allowed, name)) {
                self.say(filter, "allowed_headers", format!("`{name}` is not among allowed_headers, so Tollgate never sees it"));
            }
        }
        if let Some(disallowed) = member(filter, "disallowed_headers") {
            for name in needed.iter().filter(|name| exactly_listed(disallowed, name)) {
                self.say(filter, "disallowed_headers", format!("`{name}` is among disallowed_headers, so Tollgate never sees it"));
            }
        }
    }

    /// Headers that Tollgate sets or removes and that the mutation rules forbid it to.
    fn refused_mutations(&mut self, filter: &Node) {
        let Some(mutation_rules) = member(filter, "decoder_header_mutation_rules") else { return };
        if at(mutation_rules, &["disallow_all"]).and_then(text) != Some("true") {
            return;
        }
        let pattern = at(mutation_rules, &["allow_expression", "regex"]).and_then(text).unwrap_or_default();
        let Some(literals) = literals_of(pattern) else { return };
        let credentials = self.rules.places.iter().map(|place| Arc::clone(&place.header));
        let version = self.rules.api_versions.iter().map(|versions| Arc::clone(&versions.header));
        let identity = self.identity_names();
        let look_alikes = identity.iter().filter_map(|name| look_alike(name));
        let names: BTreeSet<Arc<str>> = identity.iter().cloned().chain(look_alikes).chain(credentials).chain(version).collect();
        for name in names.iter().filter(|name| !literals.contains(&***name)) {
            let wrong = format!("decoder_header_mutation_rules forbid Tollgate to set or remove `{name}`");
            self.say(filter, "decoder_header_mutation_rules", wrong).hint(format!("add `{name}` to allow_expression"));
        }
    }

    /// The way to Tollgate.
    fn cluster(&mut self, root: &Node, filter: &Node) {
        let Some(name) = at(filter, &["grpc_service", "envoy_grpc", "cluster_name"]).and_then(text) else { return };
        let clusters = at(root, &["static_resources", "clusters"]).map(items).unwrap_or_default();
        let Some(cluster) = clusters.iter().find(|cluster| at(cluster, &["name"]).and_then(text) == Some(name)) else {
            self.say(filter, "grpc_service", format!("there is no cluster `{name}` in static_resources"));
            return;
        };
        if members_named(cluster, "http2_protocol_options").is_empty() {
            let wrong = format!("the cluster `{name}` does not speak HTTP/2, so no check can reach Tollgate");
            self.say(cluster, "", wrong).hint("http2_protocol_options in typed_extension_protocol_options");
        }
        let most = at(cluster, &["circuit_breakers", "thresholds"]).map(items).unwrap_or_default();
        let most = most.iter().filter(|threshold| at(threshold, &["priority"]).and_then(text).is_none_or(|priority| priority == "DEFAULT"));
        let most = most.filter_map(|threshold| at(threshold, &["max_requests"]).and_then(text)?.parse::<u64>().ok()).max();
        if most.unwrap_or(DEFAULT_MAX_REQUESTS) <= DEFAULT_MAX_REQUESTS {
            let wrong = format!(
                "more than {} checks at once are refused by Envoy itself, and each is a failed request",
                most.unwrap_or(DEFAULT_MAX_REQUESTS)
            );
            self.say(cluster, "circuit_breakers", wrong).hint("raise max_requests of its circuit_breakers");
        }
    }

    /// Routes that are exempt from ext_authz although something stands behind them.
    fn route(&mut self, route: &Node) {
        let Some(config) = member(route, "typed_per_filter_config") else { return };
        let exempt = all_of_type(config, ".ExtAuthzPerRoute").into_iter().any(|one| at(one, &["disabled"]).and_then(text) == Some("true"));
        if exempt && member(route, "direct_response").is_none() {
            self.say(route, "typed_per_filter_config", "ext_authz is disabled on a route that leads to an upstream: nobody is asked there")
                .hint("let Tollgate say `auth: public` instead, so that it is counted and logged");
        }
    }

    /// Names that belong to Tollgate alone.
    fn identity_names(&self) -> Vec<Arc<str>> {
        let assertion = self.rules.assertion.iter().map(|assertion| Arc::clone(&assertion.header));
        self.rules.identity_headers.iter().map(|header| Arc::clone(&header.name)).chain(assertion).collect()
    }

    /// Names that Tollgate reads.
    fn needed_names(&self) -> BTreeSet<Arc<str>> {
        let places = self.rules.places.iter().map(|place| Arc::clone(&place.header));
        let version = self.rules.api_versions.iter().map(|versions| Arc::clone(&versions.header));
        let fixed = ["content-type", "x-request-id", "x-forwarded-for", "upgrade", "connection"].map(Arc::from);
        places.chain(version).chain(fixed).collect()
    }

    fn say(&mut self, parent: &Node, field: &str, wrong: impl Into<String>) -> Hint<'_> {
        let place = member(parent, field).map_or(parent.place, |node| node.place);
        self.complaints.push(Complaint {
            file: Arc::clone(self.file),
            line: place.line,
            column: place.column,
            field: field.to_owned(),
            wrong: wrong.into(),
            expected: None,
            hint: None,
        });
        Hint(self.complaints.last_mut())
    }
}

/// Lets a complaint that was just made say how to mend it.
struct Hint<'a>(Option<&'a mut Complaint>);

impl Hint<'_> {
    fn hint(self, text: impl Into<String>) {
        if let Some(complaint) = self.0 {
            complaint.hint = Some(text.into());
        }
    }
}

fn ext_authz_of(manager: &Node) -> Option<&Node> {
    let filters = items(member(manager, "http_filters")?);
    filters.iter().filter_map(|filter| member(filter, "typed_config")).find(|config| has_type(config, ".ext_authz.v3.ExtAuthz"))
}

/// Every mapping in which a key occurs.
fn all_with<'n>(root: &'n Node, key: &str) -> Vec<&'n Node> {
    tree::all(root, &|node| member(node, key).is_some())
}

/// Names removed by early mutations, and by header mutation filters that stand before ext_authz.
fn removed_early(manager: &Node) -> BTreeSet<&str> {
    let early = member(manager, "early_header_mutation_extensions").into_iter();
    let filters = member(manager, "http_filters").map(items).unwrap_or_default();
    let before =
        filters.iter().take_while(|filter| member(filter, "typed_config").is_none_or(|config| !has_type(config, ".ext_authz.v3.ExtAuthz")));
    let before = before.filter_map(|filter| member(member(filter, "typed_config")?, "mutations"));
    early.chain(before).flat_map(|place| members_named(place, "remove")).filter_map(text).collect()
}

/// Whether a list of matchers lets a name through, as far as can be told: what cannot be told is taken for a yes.
fn listed(list: &Node, name: &str) -> bool {
    patterns(list).any(|(kind, pattern)| match kind {
        Pattern::Exact => pattern == name,
        Pattern::Prefix => name.starts_with(pattern),
        Pattern::Suffix => name.ends_with(pattern),
        Pattern::Contains => name.contains(pattern),
        Pattern::Undecided => true,
    })
}

fn exactly_listed(list: &Node, name: &str) -> bool {
    patterns(list).any(|(kind, pattern)| kind == Pattern::Exact && pattern == name)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pattern {
    Exact,
    Prefix,
    Suffix,
    Contains,
    Undecided,
}

fn patterns(list: &Node) -> impl Iterator<Item = (Pattern, &str)> {
    let kinds = [
        ("exact", Pattern::Exact),
        ("prefix", Pattern::Prefix),
        ("suffix", Pattern::Suffix),
        ("contains", Pattern::Contains),
        ("safe_regex", Pattern::Undecided),
    ];
    let matchers = member(list, "patterns").map(items).unwrap_or_default();
    matchers
        .iter()
        .filter_map(move |matcher| kinds.iter().find_map(|(key, kind)| Some((*kind, text(member(matcher, key)?).unwrap_or_default()))))
}

/// The names that an alternation of plain names (`-` may be `[-_]`) stands for; none when it is anything more.
fn literals_of(pattern: &str) -> Option<BTreeSet<String>> {
    let spelled =
        |separator| pattern.strip_prefix('(').and_then(|inside| inside.strip_suffix(')')).unwrap_or(pattern).replace("[-_]", separator);
    let plain = format!("{}|{}", spelled("-"), spelled("_"));
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'|');
    plain.bytes().all(is_plain).then(|| plain.split('|').map(str::to_owned).collect())
}

#[cfg(test)]
mod tests;
