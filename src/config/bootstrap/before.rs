//! What happens to a request before Tollgate sees it: nobody may put a credential into it.

use crate::config::bootstrap::Judge;
use crate::config::bootstrap::passage::gates_of;
use crate::config::bootstrap::tree::all;
use crate::config::bootstrap::tree::at;
use crate::config::bootstrap::tree::entries;
use crate::config::bootstrap::tree::has_type;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::members_named;
use crate::config::bootstrap::tree::text;
use crate::config::bootstrap::unread::is_unread;
use crate::config::yaml::Node;

const INJECTOR: &str = ".credential_injector.v3.CredentialInjector";
/// What a text takes from the request, so that it is the client's own.
const TAKEN_FROM_REQUEST: [&str; 4] = ["%REQ(", "%REQUEST_HEADER(", "%COOKIE(", "%QUERY_PARAM("];

impl Judge<'_> {
    /// Whoever writes headers before the first ext_authz of `filters`.
    pub(super) fn put_in(&mut self, manager: &Node, filters: &[Node]) {
        let before = filters.get(..gates_of(filters).first().map_or(0, |gate| gate.position)).unwrap_or_default();
        let name_of = |filter: &'_ Node| member(filter, "name").and_then(text).unwrap_or("a filter").to_owned();
        let names: Vec<String> = before.iter().map(name_of).collect();
        let mut writing: Vec<&Node> = member(manager, "early_header_mutation_extensions").into_iter().collect();
        for (filter, name) in before.iter().zip(&names) {
            match member(filter, "typed_config") {
                Some(config) if has_type(config, INJECTOR) => self
                    .say(filter, "name", format!("{name} puts in a credential before Tollgate is asked: everybody is let in by it"))
                    .hint("put it after ext_authz, or into the upstream's cluster"),
                Some(config) if !is_unread(config) => writing.extend(members_named(config, "request_mutations")),
                // What is fetched is said to be not judged wherever it stands.
                None => {}
                Some(_) => self.not_judged(filter, "name", &format!("what {name} does to a request before Tollgate is asked")),
            }
        }
        for route in all(manager, &|node| member(node, "typed_per_filter_config").is_some()) {
            let configs = member(route, "typed_per_filter_config").map(entries).unwrap_or_default().iter();
            let configs = configs.filter(|entry| names.contains(&entry.key));
            writing.extend(configs.flat_map(|entry| members_named(&entry.node, "request_mutations")));
        }
        for header in writing.into_iter().flat_map(|place| members_named(place, "append")).filter_map(|append| member(append, "header")) {
            self.credential_put_in(header);
        }
    }

    fn credential_put_in(&mut self, header: &Node) {
        let Some(name) = at(header, &["key"]).and_then(text) else { return };
        if !self.rules.places.iter().any(|place| place.header.eq_ignore_ascii_case(name)) {
            return;
        }
        let value = member(header, "value").and_then(text).unwrap_or_default();
        if TAKEN_FROM_REQUEST.iter().any(|source| value.contains(source)) {
            self.not_judged(
                header,
                "key",
                &format!("`{name}`, which is written before Tollgate is asked, from something that a client sent"),
            );
        } else {
            self.say(header, "key", format!("`{name}` is put in before Tollgate is asked: everybody is let in by it"))
                .hint("take it out; a credential for the upstream is put in after ext_authz");
        }
    }
}
