//! Credentials that would be written down: in access logs, in traces, by taps.

use crate::config::bootstrap::Judge;
use crate::config::bootstrap::headers::OPERATORS;
use crate::config::bootstrap::tree::all;
use crate::config::bootstrap::tree::all_of_type;
use crate::config::bootstrap::tree::at;
use crate::config::bootstrap::tree::items;
use crate::config::bootstrap::tree::members_named;
use crate::config::bootstrap::tree::text;
use crate::config::yaml::Node;

/// Where requests are written down.
const WRITERS: [&str; 3] = ["access_log", "upstream_log", "tracing"];

impl Judge<'_> {
    pub(super) fn written_down(&mut self, root: &Node) {
        for writer in WRITERS.into_iter().flat_map(|field| members_named(root, field)) {
            let formats = all(writer, &|node| text(node).is_some());
            for (place, name) in formats.into_iter().flat_map(|node| headers_in(node).into_iter().map(move |name| (node, name))) {
                self.header_written_down(place, name);
            }
            let tags = members_named(writer, "custom_tags").into_iter().flat_map(items);
            let tagged = tags.filter_map(|tag| at(tag, &["request_header", "name"]));
            let sent = members_named(writer, "additional_request_headers_to_log").into_iter().flat_map(items);
            for (place, name) in tagged.chain(sent).filter_map(|node| Some((node, text(node)?))) {
                self.header_written_down(place, name);
            }
        }
        for tap in all_of_type(root, ".tap.v3.Tap") {
            self.say(tap, "@type", "a tap writes whole requests down, credentials and all").hint("leave it out");
        }
    }

    fn header_written_down(&mut self, place: &Node, name: &str) {
        if self.is_credential(name) {
            self.say(place, "", format!("`{name}` carries credentials and is written down here: of refused requests, as it came"))
                .hint("take it out; key_id and user are in the metadata of ext_authz");
        } else if self.rules.issuance.is_some() && name.eq_ignore_ascii_case(":path") {
            self.warn(place, "", "the path is written down with its query, in which the issuer's invitations and codes travel")
                .hint("%PATH(NQ)%");
        }
    }
}

/// The headers that a format asks for; `%REQ(A?B)%` asks for either.
fn headers_in(format: &Node) -> Vec<&str> {
    let written = text(format).unwrap_or_default();
    let asked = OPERATORS.iter().flat_map(|operator| written.split(*operator).skip(1));
    asked.filter_map(|rest| rest.split_once(')')).flat_map(|(names, _)| names.split('?')).collect()
}
