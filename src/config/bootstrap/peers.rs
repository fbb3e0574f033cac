//! Clients that are known by their certificates: what Envoy must have verified before `mesh` may believe it.

use crate::config::bootstrap::Judge;
use crate::config::bootstrap::tree::all_of_type;
use crate::config::bootstrap::tree::at;
use crate::config::bootstrap::tree::is_true;
use crate::config::bootstrap::tree::may_be_true;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::members_named;
use crate::config::bootstrap::tree::word;
use crate::config::bootstrap::trust::VERIFICATIONS;
use crate::config::yaml::Node;

/// What a certificate can be held against.
const ANCHORS: [&str; 6] = [
    "trusted_ca",
    "ca_certificate_provider_instance",
    "system_root_certs",
    "custom_validator_config",
    "verify_certificate_spki",
    "verify_certificate_hash",
];
const CONTEXTS: [&str; 2] = ["validation_context", "default_validation_context"];
const SECRET: &str = "validation_context_sds_secret_config";

impl Judge<'_> {
    pub(super) fn peers(&mut self, root: &Node) {
        if self.rules.mesh.as_ref().is_none_or(|mesh| mesh.principals.is_empty()) {
            return;
        }
        let mut is_anybody_asked = false;
        for context in all_of_type(root, ".DownstreamTlsContext") {
            let over_sds = members_named(context, SECRET);
            let verifying: Vec<&Node> = CONTEXTS.iter().flat_map(|field| members_named(context, field)).collect();
            let is_required = is_true(context, &["require_client_certificate"]);
            let is_verified = !verifying.is_empty() || !over_sds.is_empty();
            is_anybody_asked |= is_required || is_verified;
            if is_required && !is_verified {
                let wrong = "a client's certificate is asked for and not verified: anybody is any principal of `mesh`";
                self.say(context, "require_client_certificate", wrong).hint("a validation_context with trusted_ca");
            }
            for verification in verifying {
                self.verification(verification, over_sds.is_empty());
            }
            // Without a source of its own it is a secret of this file, which is judged below.
            for secret in over_sds.into_iter().filter(|secret| member(secret, "sds_config").is_some()) {
                self.not_judged(secret, "sds_config", "whom Envoy takes for a principal of `mesh`, which comes over SDS");
            }
        }
        for secret in
            at(root, &["static_resources", "secrets"]).map(|secrets| members_named(secrets, "validation_context")).unwrap_or_default()
        {
            self.verification(secret, true);
        }
        if !is_anybody_asked {
            self.warn(
                root,
                "static_resources",
                "`mesh` names principals, and no listener here asks for certificates: nobody comes as one of them",
            )
            .hint("a DownstreamTlsContext with require_client_certificate and a validation_context, where they come in");
        }
    }

    /// `is_whole`: nothing is added to it over SDS.
    fn verification(&mut self, context: &Node, is_whole: bool) {
        let chain = word(context, &["trust_chain_verification"], &VERIFICATIONS).unwrap_or("VERIFY_TRUST_CHAIN");
        if chain != "VERIFY_TRUST_CHAIN" {
            let wrong = format!("trust_chain_verification is {chain}: anybody can sign the certificate of a principal of `mesh`");
            self.say(context, "trust_chain_verification", wrong).hint("leave it out");
        }
        if may_be_true(context, &["allow_expired_certificate"]) {
            self.say(context, "allow_expired_certificate", "allow_expired_certificate is true: a principal's old key is good for ever")
                .hint("leave it out");
        }
        if is_whole && !ANCHORS.iter().any(|anchor| member(context, anchor).is_some()) {
            self.say(context, "trusted_ca", "a client's certificate is held against no authority: anybody is any principal of `mesh`")
                .hint("trusted_ca");
        }
    }
}
