//! Whom Envoy takes for Tollgate: over TLS, and where its addresses come from elsewhere.

use crate::config::bootstrap::Judge;
use crate::config::bootstrap::clusters::type_of;
use crate::config::bootstrap::lists::takes_name;
use crate::config::bootstrap::tree::is_true;
use crate::config::bootstrap::tree::items;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::members_named;
use crate::config::bootstrap::tree::word;
use crate::config::yaml::Node;

/// Names that nobody may have; a matcher that takes them takes everything.
const NOBODY: [&str; 2] = ["nobody.invalid", "spiffe://nobody.invalid/none"];
pub(super) const VERIFICATIONS: [&str; 2] = ["VERIFY_TRUST_CHAIN", "ACCEPT_UNTRUSTED"];
/// One certificate, or one key, is as good as a name.
const PINS: [&str; 2] = ["verify_certificate_hash", "verify_certificate_spki"];

impl Judge<'_> {
    /// Whose certificate is believed, by a context that leads to Tollgate.
    pub(super) fn trust(&mut self, cluster: &Node, context: &Node) {
        const FIELD: &str = "transport_socket";
        let named = |field: &str| members_named(context, field);
        // What comes over SDS may look at the name, and stands in another file.
        let is_over_sds = !named("validation_context_sds_secret_config").is_empty();
        if named("validation_context").is_empty() && named("default_validation_context").is_empty() && !is_over_sds {
            self.say(cluster, FIELD, "whoever answers is believed: its certificate is not verified").hint("add a validation_context");
            return;
        }
        if named("trust_chain_verification").into_iter().any(|node| word(node, &[], &VERIFICATIONS) != Some("VERIFY_TRUST_CHAIN")) {
            self.say(cluster, FIELD, "trust_chain_verification is ACCEPT_UNTRUSTED: whoever answers is believed").hint("leave it out");
        }
        if is_true(context, &["auto_sni_san_validation"]) {
            return;
        }
        let typed = named("match_typed_subject_alt_names").into_iter().flat_map(items).filter_map(|name| member(name, "matcher"));
        let names: Vec<&Node> = typed.chain(named("match_subject_alt_names").into_iter().flat_map(items)).collect();
        let takes_anybody = |matcher: &&Node| NOBODY.iter().any(|nobody| takes_name(matcher, nobody) != Some(false));
        let is_pinned = PINS.iter().any(|field| named(field).into_iter().any(|list| !items(list).is_empty()));
        if names.iter().any(takes_anybody) || (names.is_empty() && !is_pinned && !is_over_sds) {
            let wrong = "any certificate of the authority is believed to be Tollgate's: its name is not looked at";
            self.say(cluster, FIELD, wrong).hint("match_typed_subject_alt_names in the validation_context, with its exact name");
        } else if names.is_empty() && !is_pinned {
            self.not_judged(cluster, FIELD, "whether the secret that comes over SDS looks at the name in Tollgate's certificate");
        }
    }

    /// Sockets chosen by what an endpoint says of itself go before the one that is judged.
    pub(super) fn chosen_transport(&mut self, cluster: &Node, name: &str) {
        for field in ["transport_socket_matches", "transport_socket_matcher"] {
            if member(cluster, field).is_some() {
                self.say(
                    cluster,
                    field,
                    format!("{field} choose how `{name}` is spoken to, so nobody can say whether it is in plain text"),
                )
                .hint("transport_socket alone");
            }
        }
    }

    /// A cluster whose addresses do not stand in the file.
    pub(super) fn without_endpoints(&mut self, cluster: &Node, name: &str) {
        if type_of(cluster) == "EDS" {
            self.not_judged(cluster, "type", &format!("where `{name}` leads, since EDS says it"));
        } else {
            self.say(
                cluster,
                "load_assignment",
                format!("the cluster `{name}` has no endpoint here, so nobody can say that it leads to Tollgate"),
            )
            .hint("load_assignment, with the address of listen.check");
        }
    }
}
