//! Filters whose acts cannot be read from a file: code, outside processors, what comes over xDS, and whatever is not known here.

use crate::config::bootstrap::Judge;
use crate::config::bootstrap::after::is_lua;
use crate::config::bootstrap::tree::all;
use crate::config::bootstrap::tree::has_type;
use crate::config::bootstrap::tree::items;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::members_named;
use crate::config::bootstrap::tree::text;
use crate::config::bootstrap::way::clusters;
use crate::config::yaml::Node;

/// Filters that leave the headers of requests alone, or say in their config which ones they change.
const READABLE: [&str; 53] = [
    "adaptive_concurrency",
    "admission_control",
    "alternate_protocols_cache",
    "api_key_auth",
    "aws_lambda",
    "aws_request_signing",
    "bandwidth_limit",
    "basic_auth",
    "buffer",
    "cache",
    "cache_v2",
    "cdn_loop",
    "composite",
    "compressor",
    "connect_grpc_bridge",
    "cors",
    "credential_injector",
    "csrf",
    "custom_response",
    "decompressor",
    "dynamic_forward_proxy",
    "ext_authz",
    "fault",
    "file_server",
    "file_system_buffer",
    "gcp_authn",
    "geoip",
    "grpc_field_extraction",
    "grpc_http1_bridge",
    "grpc_http1_reverse_bridge",
    "grpc_json_transcoder",
    "grpc_stats",
    "grpc_web",
    "header_mutation",
    "header_to_metadata",
    "health_check",
    "ip_tagging",
    "json_to_metadata",
    "jwt_authn",
    "local_ratelimit",
    "lua",
    "oauth2",
    "on_demand",
    "original_src",
    "proto_message_extraction",
    "rbac",
    "router",
    "set_filter_state",
    "set_metadata",
    "stateful_session",
    "tap",
    "transform",
    "upstream_codec",
];
/// What only carries other filters.
const WRAPPINGS: [&str; 3] = [".HttpConnectionManager", ".route.v3.FilterConfig", ".matching.v3.ExtensionWithMatcher"];
/// Where a part of a config is fetched from elsewhere.
const FETCHED: [&str; 2] = ["config_discovery", "dynamic_config"];

impl Judge<'_> {
    /// Filters of clusters, which come after every filter of a listener, and filters that are fetched.
    pub(super) fn beside_the_listeners(&mut self, root: &Node) {
        for entry in clusters(root).iter().flat_map(|cluster| members_named(cluster, "http_filters")).flat_map(items) {
            if let Some(config) = member(entry, "typed_config") {
                self.afterwards(entry, name_of(entry), config);
            }
        }
        for entry in members_named(root, "http_filters").into_iter().flat_map(items) {
            if member(entry, "typed_config").is_none() {
                self.not_judged(entry, "name", &format!("what {} does, which is not said in this file", name_of(entry)));
            }
        }
    }
}

fn name_of(entry: &Node) -> &str {
    member(entry, "name").and_then(text).unwrap_or("a filter")
}

/// Whether the config of a filter, or of anything within it, leaves open what is done to headers.
pub(super) fn is_unread(config: &Node) -> bool {
    let is_known = |node: &Node| filter_of(node).is_some_and(|filter| READABLE.contains(&filter));
    let is_wrapping = WRAPPINGS.iter().any(|ending| has_type(config, ending));
    let has_unknown = !all(config, &|node| filter_of(node).is_some() && !is_known(node)).is_empty();
    let is_fetched = FETCHED.iter().any(|field| !members_named(config, field).is_empty());
    has_unknown || is_fetched || !(is_known(config) || is_wrapping) || (is_lua(config) && !is_plain_script(config))
}

/// Which filter a type belongs to.
fn filter_of(node: &Node) -> Option<&str> {
    let (_, rest) = member(node, "@type").and_then(text)?.split_once(".filters.http.")?;
    rest.split('.').next()
}

/// Whether all code stands here, and says of each header that it changes which one it is.
fn is_plain_script(config: &Node) -> bool {
    const ELSEWHERE: [&str; 3] = ["filename", "inline_bytes", "environment_variable"];
    const DISGUISES: [&str; 8] = ["[", "load", "require", "dofile", "_G", "getfenv", "metatable", "package"];
    let codes = members_named(config, "inline_string").into_iter().chain(members_named(config, "inline_code")).filter_map(text);
    let is_here = ELSEWHERE.iter().all(|field| members_named(config, field).is_empty());
    is_here && codes.into_iter().all(|code| !DISGUISES.iter().any(|word| code.contains(word)) && changes_are_literal(code))
}

/// Whether code answers a request, or asks somebody, by itself.
pub(super) fn speaks_itself(config: &Node) -> bool {
    const CALLS: [&str; 2] = ["httpCall", "respond"];
    is_lua(config) && !all(config, &|node| text(node).is_some_and(|code| CALLS.iter().any(|call| code.contains(call)))).is_empty()
}

fn changes_are_literal(code: &str) -> bool {
    const CHANGES: [&str; 4] = ["add", "remove", "replace", "set"];
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    CHANGES.iter().flat_map(|change| code.match_indices(change)).all(|(start, change)| {
        let (before, after) = (code.get(..start).unwrap_or_default(), code.get(start + change.len()..).unwrap_or_default());
        let is_word = !before.ends_with(is_part) && !after.starts_with(is_part);
        !is_word || (before.ends_with(':') && begins_with_literal(after))
    })
}

/// `("x-color", …` or `("x-color")`.
fn begins_with_literal(arguments: &str) -> bool {
    let inside = arguments.trim_start().strip_prefix('(').map(str::trim_start).unwrap_or_default();
    ['"', '\''].iter().any(|quote| {
        let literal = inside.strip_prefix(*quote).and_then(|rest| rest.split_once(*quote));
        literal.is_some_and(|(name, rest)| !name.contains('\\') && rest.trim_start().starts_with([',', ')']))
    })
}
