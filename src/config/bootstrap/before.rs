//! What happens to a request before Tollgate sees it: nobody may put a credential into it.

use crate::config::bootstrap::Judge;
use crate::config::bootstrap::after::WRITING;
use crate::config::bootstrap::after::is_lua;
use crate::config::bootstrap::after::written_by;
use crate::config::bootstrap::headers::OPERATORS;
use crate::config::bootstrap::headers::appended;
use crate::config::bootstrap::headers::named;
use crate::config::bootstrap::tree::all;
use crate::config::bootstrap::tree::all_of_type;
use crate::config::bootstrap::tree::contains_type;
use crate::config::bootstrap::tree::entries;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::members_named;
use crate::config::bootstrap::tree::text;
use crate::config::bootstrap::unread::is_unread;
use crate::config::bootstrap::unread::speaks_itself;
use crate::config::yaml::Node;

const INJECTOR: &str = ".credential_injector.v3.CredentialInjector";
/// Writes `authorization`, if it is told no other header.
const TOKENS: &str = ".gcp_authn.v3.GcpAuthnFilterConfig";
/// What a text takes from the request beside its headers.
const TAKEN_FROM_REQUEST: [&str; 2] = ["%COOKIE(", "%QUERY_PARAM("];

impl Judge<'_> {
    /// Whoever writes headers before the first ext_authz of `filters`.
    pub(super) fn put_in(&mut self, manager: &Node, filters: &[Node]) {
        let early = member(manager, "early_header_mutation_extensions").map(|early| members_named(early, "append")).unwrap_or_default();
        for header in early.into_iter().filter_map(|append| member(append, "header")) {
            self.header_put_in(header);
        }
        let before = filters.get(..self.asking(filters).first().map_or(0, |gate| gate.position)).unwrap_or_default();
        let name_of = |filter: &'_ Node| member(filter, "name").and_then(text).unwrap_or("a filter").to_owned();
        let names: Vec<String> = before.iter().map(name_of).collect();
        for (filter, name) in before.iter().zip(&names) {
            // What is fetched is said to be not judged wherever it stands.
            if let Some(config) = member(filter, "typed_config") {
                self.put_in_by(filter, name, config);
            }
        }
        for configs in members_named(manager, "typed_per_filter_config") {
            for entry in entries(configs).iter().filter(|entry| names.contains(&entry.key)) {
                self.put_in_by(configs, &entry.key, &entry.node);
            }
        }
    }

    /// A filter before ext_authz, or what a route says to one.
    pub(super) fn put_in_by(&mut self, place: &Node, name: &str, config: &Node) {
        let errors_before = self.findings.errors.len();
        let writes_own_token = |filter: &&Node| member(filter, "token_header").is_none();
        if contains_type(config, INJECTOR) || all_of_type(config, TOKENS).iter().any(writes_own_token) {
            self.say(place, "name", format!("{name} puts in a credential before Tollgate is asked: everybody is let in by it"))
                .hint("put it after ext_authz, or into the upstream's cluster");
            return;
        }
        for header in appended(config) {
            self.header_put_in(header);
        }
        for header in named(config) {
            self.credential_put_in(place, "name", header, true);
        }
        let codes = if is_lua(config) { all(config, &|node| text(node).is_some()) } else { Vec::new() };
        for (header, rest) in codes.into_iter().filter_map(text).flat_map(|code| written_by(code, &WRITING)) {
            self.credential_put_in(place, "name", header, is_one_literal(rest));
        }
        self.status_kept(place, name, config);
        if self.findings.errors.len() == errors_before && (is_unread(config) || speaks_itself(config)) {
            self.not_judged(place, "name", &format!("what {name} does to a request before Tollgate is asked"));
        }
    }

    /// A header with its value.
    fn header_put_in(&mut self, header: &Node) {
        let value = member(header, "value").and_then(text).unwrap_or_default();
        let is_own = !OPERATORS.iter().chain(&TAKEN_FROM_REQUEST).any(|source| value.contains(source));
        self.credential_put_in(header, "key", member(header, "key").and_then(text).unwrap_or_default(), is_own);
    }

    /// `is_own`: and so does not come from the client.
    fn credential_put_in(&mut self, place: &Node, field: &str, name: &str, is_own: bool) {
        if !self.is_credential(name) {
            return;
        }
        if is_own {
            self.say(place, field, format!("`{name}` is put in before Tollgate is asked: everybody is let in by it"))
                .hint("take it out; a credential for the upstream is put in after ext_authz");
        } else {
            let what = format!("`{name}`, which is written before Tollgate is asked, from something that a client sent");
            self.not_judged(place, field, &what);
        }
    }

    /// Whether Tollgate reads credentials in a header.
    pub(super) fn is_credential(&self, name: &str) -> bool {
        self.rules.places.iter().any(|place| place.header.eq_ignore_ascii_case(name))
    }
}

/// Whether what is left of a call, after its first argument, is one text and nothing that is found out when a request is there.
fn is_one_literal(rest: &str) -> bool {
    let value = rest.trim_start_matches([' ', ',']);
    let ends = |quote: &char| value.strip_prefix(*quote).and_then(|value| value.split_once(*quote)).map(|(_, end)| end.trim_start());
    ['"', '\''].iter().filter_map(ends).any(|end| end.starts_with(')'))
}
