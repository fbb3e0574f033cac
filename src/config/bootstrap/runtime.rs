//! Shares that may be changed while Envoy runs.

use crate::config::bootstrap::tree::at;
use crate::config::bootstrap::tree::entries;
use crate::config::bootstrap::tree::items;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::text;
use crate::config::bootstrap::tree::word;
use crate::config::yaml::Entry;
use crate::config::yaml::Node;

/// Whether a `RuntimeFractionalPercent` is all requests, as far as the bootstrap tells.
pub(super) fn is_whole(root: &Node, enabled: &Node) -> bool {
    let said = member(enabled, "runtime_key").and_then(text).map(|key| at_runtime(root, key)).unwrap_or_default();
    if said.is_empty() { member(enabled, "default_value").is_none_or(is_everything) } else { said.into_iter().all(is_everything) }
}

/// What the last of the layers that name a key says of it. Dots and nesting are the same to Envoy, and which of two wins nobody promises.
fn at_runtime<'n>(root: &'n Node, key: &str) -> Vec<&'n Node> {
    let layers = at(root, &["layered_runtime", "layers"]).map(items).unwrap_or_default().iter().rev();
    layers
        .filter_map(|layer| member(layer, "static_layer"))
        .map(|layer| below(layer, key))
        .find(|said| !said.is_empty())
        .unwrap_or_default()
}

/// Keys are names of somebody's own and not fields, so every letter counts.
fn below<'n>(layer: &'n Node, key: &str) -> Vec<&'n Node> {
    let deeper = |entry: &'n Entry| match key.strip_prefix(&*entry.key) {
        Some("") => vec![&entry.node],
        Some(rest) => rest.strip_prefix('.').map(|rest| below(&entry.node, rest)).unwrap_or_default(),
        None => Vec::new(),
    };
    entries(layer).iter().flat_map(deeper).collect()
}

/// Whether a share is 100 %: a number of percent, or a `FractionalPercent`.
fn is_everything(share: &Node) -> bool {
    let number = text(share).or_else(|| member(share, "numerator").and_then(text));
    let numerator: f64 = number.and_then(|text| text.parse().ok()).unwrap_or(0.0);
    let denominator = match word(share, &["denominator"], &["HUNDRED", "TEN_THOUSAND", "MILLION"]).unwrap_or("HUNDRED") {
        "MILLION" => 1_000_000.0,
        "TEN_THOUSAND" => 10_000.0,
        _ => 100.0,
    };
    numerator >= denominator
}
