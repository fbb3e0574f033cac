//! A client's own identity headers, which must be gone before Tollgate is asked.

use std::collections::BTreeSet;

use crate::config::bootstrap::Judge;
use crate::config::bootstrap::tree::at;
use crate::config::bootstrap::tree::has_type;
use crate::config::bootstrap::tree::items;
use crate::config::bootstrap::tree::may_be_true;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::text;
use crate::config::yaml::Node;

impl Judge<'_> {
    pub(super) fn removals(&mut self, manager: &Node, filters: &[Node]) {
        let removed = removed_early(manager, filters);
        for name in self.identity_names() {
            if !removed.contains(&name.to_ascii_lowercase()) {
                let wrong = format!("a client's own `{name}` is not removed before ext_authz, so it passes wherever Tollgate is not asked");
                self.say(manager, "early_header_mutation_extensions", wrong).hint(format!("add `- remove: {name}` to its mutations"));
            }
        }
    }
}

/// Names that early mutations, and then the mutation filters before ext_authz, remove from requests and do not write anew.
fn removed_early(manager: &Node, filters: &[Node]) -> BTreeSet<String> {
    let early = member(manager, "early_header_mutation_extensions").map(items).unwrap_or_default();
    let early = early.iter().filter_map(|extension| at(extension, &["typed_config", "mutations"]));
    let is_of = |filter: &Node, ending: &str| member(filter, "typed_config").is_some_and(|config| has_type(config, ending));
    let before = filters.iter().take_while(|filter| !is_of(filter, ".ext_authz.v3.ExtAuthz"));
    let before = before.filter(|filter| is_of(filter, ".header_mutation.v3.HeaderMutation") && !may_be_true(filter, &["disabled"]));
    let before = before.filter_map(|filter| at(filter, &["typed_config", "mutations", "request_mutations"]));
    let mut removed = BTreeSet::new();
    for change in early.chain(before).flat_map(items) {
        removed.extend(member(change, "remove").and_then(text).map(str::to_ascii_lowercase));
        if let Some(name) = at(change, &["append", "header", "key"]).and_then(text) {
            removed.remove(&name.to_ascii_lowercase());
        }
    }
    removed
}
