//! Envoy Gateway's patches of what it has written itself.

use crate::config::bootstrap::Judge;
use crate::config::bootstrap::tree::all;
use crate::config::bootstrap::tree::at;
use crate::config::bootstrap::tree::entries;
use crate::config::bootstrap::tree::items;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::text;
use crate::config::yaml::Node;

/// What of a patch reaches the filters that ask, by a word of its path, of a field or of a type, without underscores.
const REACHING: [&str; 6] = ["extauthz", "httpfilters", "perfilterconfig", "failuremodeallow", "earlyheader", "tcpproxy"];

impl Judge<'_> {
    /// What such a patch finds where it is applied, nobody knows here: it is an error, or it is not judged.
    pub(super) fn patch_policy(&mut self, policy: &Node) {
        let errors_before = self.findings.errors.len();
        let reaches = |word: &str| {
            let plain = word.to_ascii_lowercase().replace('_', "");
            REACHING.iter().any(|part| plain.contains(part))
        };
        let says = |node: &Node| text(node).is_some_and(reaches) || entries(node).iter().any(|entry| reaches(&entry.key));
        let operations: Vec<&Node> = at(policy, &["spec", "jsonPatches"])
            .map(items)
            .unwrap_or_default()
            .iter()
            .filter_map(|patch| member(patch, "operation"))
            .collect();
        if !all(policy, &says).is_empty() || operations.iter().any(|operation| undoes_a_filter(operation)) {
            self.say(policy, "spec", "this patch reaches into the filters that ask Tollgate, and what becomes of them cannot be told")
                .hint("say it in a SecurityPolicy or a ClientTrafficPolicy");
        }
        for value in operations.into_iter().filter_map(|operation| member(operation, "value")) {
            for name in all(value, &|node| text(node).is_some_and(|name| self.is_identity(name) || self.is_credential(name))) {
                let wrong = format!("this patch is about `{}`, which is Tollgate's to read and to set", text(name).unwrap_or_default());
                self.say(name, "", wrong).hint("leave it out");
            }
        }
        if self.findings.errors.len() == errors_before {
            self.not_judged(policy, "spec", "what this patch makes of the Envoy that asks Tollgate");
        }
    }
}

/// Whether a network filter as a whole, such as the one that holds all of HTTP, becomes another or none.
fn undoes_a_filter(operation: &Node) -> bool {
    let path =
        member(operation, "path").and_then(text).unwrap_or_default().trim_end_matches(|end: char| end == '/' || end.is_ascii_digit());
    member(operation, "op").and_then(text) != Some("add") && path.ends_with("filters")
}
