//! What filters write and take away. Each filter says it in fields of its own, so they stand in tables.

use crate::config::bootstrap::lists::any;
use crate::config::bootstrap::lists::takes_name;
use crate::config::bootstrap::tree::all;
use crate::config::bootstrap::tree::at;
use crate::config::bootstrap::tree::items;
use crate::config::bootstrap::tree::may_be_true;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::members_named;
use crate::config::bootstrap::tree::text;
use crate::config::yaml::Node;

/// How a format names a header of the request, before the bracket.
pub(super) const OPERATORS: [&str; 3] = ["%REQ(", "%REQUEST_HEADER(", "%REQ_WITHOUT_QUERY("];

/// Fields that name headers to be written: the field wherever it stands, and the way from it, or from each of its items, to the names.
const WRITTEN: [(&str, &[&str]); 9] = [
    ("claim_to_headers", &["header_name"]),
    ("forward_payload_header", &[]),
    ("forward_username_header", &[]),
    ("forwarding", &["header"]),
    ("ip_tag_header", &["header"]),
    ("geo_headers_to_add", &[]),
    ("geo_field_keys", &[]),
    ("token_header", &["name"]),
    ("credential", &["typed_config", "header"]),
];

/// The headers of requests that a filter writes.
pub(super) fn written(config: &Node) -> Vec<&str> {
    appended(config).into_iter().filter_map(|header| member(header, "key")).filter_map(text).chain(named(config)).collect()
}

/// Those that stand there with their values.
pub(super) fn appended(config: &Node) -> Vec<&Node> {
    let unless_limited = members_named(config, "request_headers_to_add_when_not_enforced").into_iter().flat_map(items);
    let changes = mutations(config).into_iter().filter_map(|change| member(change, "append"));
    changes.chain(unless_limited).filter_map(|option| member(option, "header")).collect()
}

/// Those of which only the names stand there.
pub(super) fn named(config: &Node) -> Vec<&str> {
    let fields = WRITTEN.iter().flat_map(|(field, way)| {
        let each = members_named(config, field).into_iter().flat_map(|node| items(node).iter().chain(std::iter::once(node)));
        let ends = each.filter_map(|node| at(node, way));
        ends.flat_map(|end| all(end, &|node| text(node).is_some())).filter_map(text)
    });
    fields.collect()
}

/// Whether a filter takes a header of requests away; none where that cannot be told.
pub(super) fn removes(config: &Node, name: &str) -> Option<bool> {
    let is = |written: Option<&Node>| written.and_then(text).is_some_and(|written| written.eq_ignore_ascii_case(name));
    let of_mutations = mutations(config).into_iter().map(|change| match at(change, &["remove_on_match", "key_matcher"]) {
        Some(matcher) => takes_name(matcher, name),
        None => Some(is(member(change, "remove"))),
    });
    let rules = members_named(config, "request_rules").into_iter().flat_map(items);
    any(of_mutations.chain(rules.map(|rule| Some(may_be_true(rule, &["remove"]) && is(member(rule, "header"))))))
}

fn mutations(config: &Node) -> Vec<&Node> {
    let transformed = members_named(config, "request_transformation").into_iter();
    let transformed = transformed.flat_map(|change| members_named(change, "headers_mutations"));
    members_named(config, "request_mutations").into_iter().chain(transformed).flat_map(items).collect()
}
