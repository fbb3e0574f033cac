//! What happens to a request after Tollgate has judged it: who moves it, and who writes or takes away what Tollgate has set.

use crate::config::bootstrap::Judge;
use crate::config::bootstrap::headers::removes;
use crate::config::bootstrap::headers::written;
use crate::config::bootstrap::passage::filters_of;
use crate::config::bootstrap::tree::all;
use crate::config::bootstrap::tree::all_of_type;
use crate::config::bootstrap::tree::at;
use crate::config::bootstrap::tree::contains_type;
use crate::config::bootstrap::tree::entries;
use crate::config::bootstrap::tree::is_true;
use crate::config::bootstrap::tree::items;
use crate::config::bootstrap::tree::may_be_true;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::members_named;
use crate::config::bootstrap::tree::text;
use crate::config::bootstrap::tree::word;
use crate::config::bootstrap::unread::is_unread;
use crate::config::yaml::Node;

/// Calls of Lua's that change headers.
const CHANGING: [&str; 4] = [":replace", ":add", ":remove", ":set"];
const ROUTE_CACHE: [&str; 3] = ["DEFAULT", "CLEAR", "RETAIN"];
pub(super) const WRITING: [&str; 3] = [":replace", ":add", ":set"];
/// What a request was judged by, and an upstream routes by.
const ROUTED_BY: [&str; 4] = [":path", ":method", ":authority", ":scheme"];

impl Judge<'_> {
    /// A filter after ext_authz, or what a route says to one. `place` has the complaint.
    pub(super) fn afterwards(&mut self, place: &Node, name: &str, config: &Node) {
        let errors_before = self.findings.errors.len();
        if clears_routes(config) {
            let wrong =
                format!("{name} stands after ext_authz and clears the route cache: a request could move to a route that was never checked");
            self.say(place, "name", wrong).hint("put it before ext_authz, or let it leave the route alone (`clear_route_cache: false`)");
        }
        let names = self.identity_names();
        let lost: Vec<String> = names.iter().filter(|name| removes(config, name) == Some(true)).map(|name| name.to_string()).collect();
        if let Some(name_in_doubt) = names.iter().find(|name| removes(config, name).is_none()) {
            self.not_judged(place, "name", &format!("whether {name} removes {name_in_doubt} after Tollgate has set it"));
        }
        if !lost.is_empty() {
            self.say(place, "name", format!("{name} removes {} after Tollgate has set it", lost.join(", ")))
                .hint("remove it before ext_authz: early_header_mutation_extensions");
        }
        let mut names = written(config);
        names.retain(|name| self.is_identity(name));
        if !names.is_empty() {
            self.say(place, "name", format!("{name} writes {}, which is Tollgate's to set", names.join(", ")))
                .hint("put it before ext_authz, or use another header");
        }
        if is_lua(config) {
            self.script(place, name, config);
        }
        if self.findings.errors.len() == errors_before && is_unread(config) {
            self.not_judged(place, "name", &format!("what {name} does to headers that Tollgate has set"));
        }
    }

    /// Code that names an identity header and writes or removes headers.
    pub(super) fn script(&mut self, place: &Node, name: &str, config: &Node) {
        let codes: Vec<&str> = all(config, &|node| text(node).is_some()).into_iter().filter_map(text).collect();
        let writes = |code: &&&str| CHANGING.iter().any(|call| code.contains(call));
        let quoted = |code: &&str| code.split(['"', '\'', '[', ']', '\\']).any(|word| self.is_identity(word));
        if codes.iter().filter(writes).any(quoted) {
            self.say(place, "name", format!("the code of {name} stands after ext_authz and changes headers that are Tollgate's to set"))
                .hint("put it before ext_authz, or use another header");
        }
        self.status_kept(place, name, config);
        if let Some((part, _)) = codes.iter().flat_map(|code| written_by(code, &CHANGING)).find(|(part, _)| ROUTED_BY.contains(part)) {
            self.say(
                place,
                "name",
                format!("the code of {name} stands after ext_authz and changes {part}: something else than that was checked"),
            )
            .hint("put it before ext_authz");
        }
    }

    /// Code that sees the answers, of whichever side of ext_authz, sees refusals.
    pub(super) fn status_kept(&mut self, place: &Node, name: &str, config: &Node) {
        let codes = all(config, &|node| text(node).is_some()).into_iter().filter_map(text);
        if codes.flat_map(|code| written_by(code, &CHANGING)).any(|(part, _)| part == ":status") {
            self.say(
                place,
                "name",
                format!("the code of {name} changes :status: what Tollgate refuses may reach the client as if it were done"),
            )
            .hint("leave the status alone");
        }
    }

    /// What routes, virtual hosts and the route configuration do. `before`: the filters that come before ext_authz.
    pub(super) fn routes_afterwards(&mut self, manager: &Node, before: &[Node]) {
        let after = filters_of(manager).get(before.len()..).unwrap_or_default();
        let named = |filters: &'_ [Node], name: &str| filters.iter().any(|filter| member(filter, "name").and_then(text) == Some(name));
        for route in all(manager, &|node| member(node, "typed_per_filter_config").is_some()) {
            let Some(configs) = member(route, "typed_per_filter_config") else { continue };
            for entry in entries(configs).iter().filter(|entry| named(after, &entry.key) || !named(before, &entry.key)) {
                self.afterwards(configs, &entry.key, &entry.node);
                let filter = after.iter().find(|filter| member(filter, "name").and_then(text) == Some(&*entry.key));
                let leaves_routes = filter.is_some_and(|filter| !all(filter, &leaves_routes).is_empty());
                if contains_type(&entry.node, ".lua.v3.LuaPerRoute") && changes_requests(&entry.node) && !leaves_routes {
                    let wrong = format!("{} has code here that changes headers, whereupon Envoy clears the route cache", entry.key);
                    self.say(configs, "", wrong).hint("`clear_route_cache: false` in the filter itself");
                }
            }
        }
        self.header_lists(manager);
    }

    /// What routes of Kubernetes do to headers: lists of names, of names with values, or mappings.
    pub(super) fn headers_of_routes(&mut self, document: &Node) {
        let plain = all(document, &|node| at(node, &["headers", "request"]).is_some());
        let plain = plain.into_iter().filter_map(|node| at(node, &["headers", "request"]));
        for change in plain.chain(members_named(document, "requestHeaderModifier")) {
            for list in ["set", "add", "remove"].into_iter().filter_map(|field| member(change, field)) {
                let listed = items(list).iter().filter_map(|item| text(item).or_else(|| member(item, "name").and_then(text)));
                let mapped = entries(list).iter().map(|entry| &*entry.key);
                for name in listed.chain(mapped).filter(|name| self.is_identity(name)).collect::<Vec<_>>() {
                    self.say(list, "", format!("this route changes `{name}`, which is Tollgate's to set")).hint("take it out of the list");
                }
            }
        }
    }

    pub(super) fn header_lists(&mut self, root: &Node) {
        for list in members_named(root, "request_headers_to_remove") {
            for name in items(list).iter().filter_map(text).filter(|name| self.is_identity(name)).collect::<Vec<_>>() {
                self.say(list, "", format!("request_headers_to_remove takes away `{name}`, which Tollgate has set"))
                    .hint("take it out of the list");
            }
        }
        for list in members_named(root, "request_headers_mutations") {
            let names = items(list).iter().filter_map(|change| at(change, &["append", "header", "key"]).and_then(text));
            for name in names.filter(|name| self.is_identity(name)).collect::<Vec<_>>() {
                self.say(list, "", format!("request_headers_mutations writes `{name}`, which is Tollgate's to set"))
                    .hint("take it out of the list");
            }
        }
        for list in members_named(root, "request_headers_to_add") {
            let names = items(list).iter().filter_map(|item| at(item, &["header", "key"]).and_then(text));
            for name in names.filter(|name| self.is_identity(name)).collect::<Vec<_>>() {
                self.say(list, "", format!("request_headers_to_add writes `{name}`, which is Tollgate's to set"))
                    .hint("take it out of the list");
            }
        }
    }

    /// Whether a header is Tollgate's, however it is spelled.
    pub(super) fn is_identity(&self, written: &str) -> bool {
        let plain = |name: &str| name.replace('_', "-").to_ascii_lowercase();
        self.identity_names().iter().any(|name| plain(name) == plain(written))
    }
}

/// The names that calls begin with, where they stand there as texts, and what follows each.
pub(super) fn written_by<'c>(code: &'c str, calls: &'static [&'static str]) -> impl Iterator<Item = (&'c str, &'c str)> {
    let arguments = calls.iter().flat_map(move |call| code.split(call).skip(1));
    arguments.filter_map(|rest| rest.trim_start_matches([' ', '(', '"', '\'', '[', '\\']).split_once(['"', '\'', ']', '\\']))
}

pub(super) fn is_lua(config: &Node) -> bool {
    contains_type(config, ".lua.v3.Lua") || contains_type(config, ".lua.v3.LuaPerRoute")
}

/// Whether a filter can make Envoy choose the route anew, as far as its config tells.
fn clears_routes(config: &Node) -> bool {
    let says_so = !all(config, &|node| {
        may_be_true(node, &["clear_route_cache"]) || word(node, &["route_cache_action"], &ROUTE_CACHE) == Some("CLEAR")
    })
    .is_empty();
    let code_does = is_lua(config) && !all(config, &|node| text(node).is_some_and(|code| code.contains("clearRouteCache"))).is_empty();
    let by_default = |lua: &&Node| changes_requests(lua) && !leaves_routes(lua);
    let code_does = code_does || all_of_type(config, ".lua.v3.Lua").iter().any(by_default);
    let transcoders = all_of_type(config, ".grpc_json_transcoder.v3.GrpcJsonTranscoder");
    let transcodes = transcoders.into_iter().any(|transcoder| !is_true(transcoder, &["match_incoming_request_route"]));
    says_so || code_does || transcodes
}

/// Whether code changes headers while a request goes by, upon which Envoy clears the route cache, if it is not told to leave it.
fn changes_requests(config: &Node) -> bool {
    let changes = |code: &str| code.contains("envoy_on_request") && CHANGING.iter().any(|call| code.contains(call));
    !all(config, &|node| text(node).is_some_and(changes)).is_empty()
}

fn leaves_routes(node: &Node) -> bool {
    member(node, "clear_route_cache").is_some() && !may_be_true(node, &["clear_route_cache"])
}
