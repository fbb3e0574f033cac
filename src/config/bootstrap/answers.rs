//! Tollgate's answers on their way: what spoils them, asks for them twice, or makes something else of them.

use crate::config::bootstrap::Judge;
use crate::config::bootstrap::tree::all;
use crate::config::bootstrap::tree::at;
use crate::config::bootstrap::tree::is_true;
use crate::config::bootstrap::tree::items;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::members_named;
use crate::config::bootstrap::tree::text;
use crate::config::bootstrap::tree::word;
use crate::config::yaml::Node;

/// Failures after which Tollgate cannot have judged yet.
const BEFORE_THE_CHECK: [&str; 3] = ["connect-failure", "refused-stream", "reset-before-request"];
/// An answer may carry many headers and a page.
const LEAST_MESSAGE_BYTES: u64 = 64 * 1024;

impl Judge<'_> {
    /// How the filter and Tollgate speak.
    pub(super) fn dialogue(&mut self, filter: &Node) {
        let conditions = at(filter, &["grpc_service", "retry_policy", "retry_on"]).and_then(text).unwrap_or_default();
        if conditions.split(',').map(str::trim).any(|condition| !condition.is_empty() && !BEFORE_THE_CHECK.contains(&condition)) {
            self.warn(filter, "grpc_service", format!("a check is asked again on {conditions}, and one request may count twice"))
                .hint(format!("retry_on: \"{}\"", BEFORE_THE_CHECK.join(",")));
        }
        let most = at(filter, &["grpc_service", "envoy_grpc", "max_receive_message_length"]).and_then(text);
        if let Some(most) = most.and_then(|most| most.parse::<u64>().ok()).filter(|most| *most < LEAST_MESSAGE_BYTES) {
            self.say(filter, "grpc_service", format!("answers of more than {most} bytes are thrown away, and each is a failed request"))
                .hint("leave max_receive_message_length out");
        }
        for version in members_named(filter, "transport_api_version") {
            // AUTO and its number mean 3 where the field may be left out too, since Envoy 1.31; before, Envoy does not start.
            if !word(version, &[], &["AUTO", "V2", "V3"]).is_some_and(|version| ["V3", "AUTO"].contains(&version)) {
                self.say(filter, "transport_api_version", "Tollgate speaks version 3 alone, and Envoy does not start with another")
                    .hint("transport_api_version: V3");
            }
        }
        let field = "validate_mutations";
        if member(filter, field).is_some() && !is_true(filter, &[field]) {
            self.warn(filter, field, "a header that Envoy cannot set is missing in silence, instead of an error that shows")
                .hint("validate_mutations: true");
        }
        let field = "enable_dynamic_metadata_ingestion";
        if member(filter, field).is_some() && !is_true(filter, &[field]) {
            self.warn(filter, field, "the access log, and other filters, learn nothing of Tollgate's decisions").hint("leave it out");
        }
    }

    /// What is said of answers elsewhere: by routes, and by the connection manager.
    pub(super) fn answers(&mut self, root: &Node) {
        for settings in members_named(root, "check_settings") {
            self.bodies(settings);
        }
        for mapper in
            members_named(root, "local_reply_config").into_iter().flat_map(|config| members_named(config, "mappers")).flat_map(items)
        {
            self.status_of_refusals(mapper);
        }
        // Whichever filter makes another answer of one, it sees those of ext_authz, too.
        for policies in members_named(root, "custom_response_matcher") {
            for policy in all(policies, &|node| member(node, "status_code").is_some()) {
                self.status_of_refusals(policy);
            }
        }
    }

    fn status_of_refusals(&mut self, place: &Node) {
        let status = member(place, "status_code").and_then(text);
        if let Some(status) = status.filter(|status| status.parse::<u16>().map_or(true, |status| status < 400)) {
            self.say(place, "status_code", format!("what Tollgate refuses may reach the client as {status}, as if it were done"))
                .hint("a status of 400 or more, or none");
        }
    }

    pub(super) fn bodies(&mut self, settings: &Node) {
        if member(settings, "with_request_body").is_some() {
            let wrong = "bodies are held back until they are complete, which breaks streams and large uploads; Tollgate reads none";
            self.say(settings, "with_request_body", wrong).hint("leave it out");
        }
    }
}
