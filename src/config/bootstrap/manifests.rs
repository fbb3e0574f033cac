//! Documents of Kubernetes, told apart by what they are.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::config::bootstrap::passage::gates_of;
use crate::config::bootstrap::tree::all;
use crate::config::bootstrap::tree::at;
use crate::config::bootstrap::tree::entries;
use crate::config::bootstrap::tree::items;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::members_named;
use crate::config::bootstrap::tree::text;
use crate::config::yaml::Node;

/// What a text inside a manifest has when it is for a mesh or for an Envoy.
const TELLING: [&str; 6] =
    ["extensionProviders", "static_resources", "staticResources", "dynamic_resources", "dynamicResources", "type.googleapis.com/envoy."];

/// The documents that have something to do with who is asked, in the order of the file.
#[derive(Debug, Default)]
pub(super) struct Manifests<'n> {
    kinds: Vec<(&'n str, &'n Node)>,
    /// Istio's, wherever the mesh's settings stand.
    pub(super) providers: Vec<&'n Node>,
    pub(super) bootstraps: Vec<&'n Node>,
    /// Neither of Kubernetes, nor settings of a mesh, nor a bootstrap.
    pub(super) others: Vec<&'n Node>,
    /// The namespace whose policies are for every other, where the mesh's settings name one.
    pub(super) root_namespace: Option<&'n str>,
}

impl<'n> Manifests<'n> {
    pub(super) fn among(documents: &[&'n Node]) -> Self {
        let mut manifests = Self::default();
        for &document in documents {
            let lists = all(document, &|node| member(node, "extensionProviders").is_some());
            let has_providers = !lists.is_empty();
            let root = members_named(document, "rootNamespace").into_iter().find_map(text).filter(|name| !name.is_empty());
            manifests.root_namespace = manifests.root_namespace.or(root);
            manifests.providers.extend(lists.into_iter().filter_map(|node| member(node, "extensionProviders")).flat_map(items));
            let is_bootstrap = ["static_resources", "dynamic_resources"].iter().any(|field| member(document, field).is_some());
            if is_bootstrap {
                manifests.bootstraps.push(document);
            }
            let version = member(document, "apiVersion").and_then(text);
            if let (Some(version), Some(kind)) = (version, member(document, "kind").and_then(text)) {
                let group = version.split_once('/').map_or("", |(group, _)| group);
                let is_known = group.ends_with(".istio.io") || matches!(group, "gateway.envoyproxy.io" | "gateway.networking.k8s.io" | "");
                manifests.kinds.push((if is_known { kind } else { "" }, document));
            } else if !is_bootstrap && !has_providers {
                manifests.others.push(document);
            }
        }
        manifests
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kinds.is_empty() && self.providers.is_empty()
    }

    /// Whether anything here sends requests to somebody who judges them.
    pub(super) fn asks(&self) -> bool {
        let inserts = |filter: &Node| {
            let patches = at(filter, &["spec", "configPatches"]).map(items).unwrap_or_default();
            let is_new = |patch: &&Node| {
                at(patch, &["patch", "operation"]).and_then(text).is_some_and(|word| word == "ADD" || word.starts_with("INSERT"))
            };
            let values = patches.iter().filter(is_new);
            values.filter_map(|patch| at(patch, &["patch", "value"])).any(|value| !gates_of(std::slice::from_ref(value)).is_empty())
        };
        !self.bootstraps.is_empty()
            || self.of("AuthorizationPolicy").any(is_custom)
            || self.of("SecurityPolicy").any(|policy| at(policy, &["spec", "extAuth"]).is_some())
            || self.of("EnvoyFilter").any(inserts)
    }

    /// The documents of one kind.
    pub(super) fn of(&self, kind: &str) -> impl Iterator<Item = &'n Node> {
        self.kinds.iter().filter(move |(known, _)| *known == kind).map(|(_, document)| *document)
    }

    /// The one of a kind, a namespace and a name.
    pub(super) fn named(&self, kind: &str, namespace: &str, name: &str) -> Option<&'n Node> {
        self.of(kind).find(|document| namespace_of(document) == namespace && name_of(document) == name)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &'n Node> {
        self.kinds.iter().map(|(_, document)| *document)
    }
}

pub(super) fn name_of(document: &Node) -> &str {
    at(document, &["metadata", "name"]).and_then(text).unwrap_or_default()
}

/// Empty where kubectl's own namespace is meant.
pub(super) fn namespace_of(document: &Node) -> &str {
    at(document, &["metadata", "namespace"]).and_then(text).unwrap_or_default()
}

/// Whether an AuthorizationPolicy of Istio leaves the decision to a provider.
pub(super) fn is_custom(policy: &Node) -> bool {
    at(policy, &["spec", "action"]).and_then(text) == Some("CUSTOM")
}

/// What a list of Kubernetes holds, and any other document as it is.
pub(super) fn unfolded(document: &Node) -> Vec<&Node> {
    let is_list =
        member(document, "apiVersion").is_some() && member(document, "kind").and_then(text).is_some_and(|kind| kind.ends_with("List"));
    match member(document, "items").map(items).unwrap_or_default() {
        // Nesting is bounded by the reader, so this may call itself.
        held if is_list && !held.is_empty() => held.iter().flat_map(unfolded).collect(),
        _ => vec![document],
    }
}

/// Settings of a mesh or of an Envoy that stand as a text in a ConfigMap or a Secret, and how many lines are above.
pub(super) fn texts_within(document: &Node) -> Vec<(String, u32)> {
    let told = kept_in(document).into_iter().filter(|kept| TELLING.iter().any(|word| kept.text.contains(word)));
    told.map(|kept| (kept.text, kept.lines_above)).collect()
}

/// A file that stands as a text in a ConfigMap or a Secret.
pub(super) struct Kept<'n> {
    pub(super) name: &'n str,
    pub(super) text: String,
    /// In the manifest, before the text begins.
    pub(super) lines_above: u32,
}

pub(super) fn kept_in(document: &Node) -> Vec<Kept<'_>> {
    let (plain, encoded) = match member(document, "kind").and_then(text) {
        Some("ConfigMap") => ("data", "binaryData"),
        Some("Secret") => ("stringData", "data"),
        _ => return Vec::new(),
    };
    let fields = |field: &str| member(document, field).map(entries).unwrap_or_default().iter();
    let plain = fields(plain).filter_map(|entry| Some((entry, text(&entry.node)?.to_owned())));
    let encoded = fields(encoded).filter_map(|entry| Some((entry, decoded(text(&entry.node)?)?)));
    plain
        .chain(encoded)
        .map(|(entry, text)| Kept { name: &entry.key, text, lines_above: entry.node.place.line.saturating_sub(1) })
        .collect()
}

/// None for what is no text.
fn decoded(written: &str) -> Option<String> {
    let letters: String = written.split_ascii_whitespace().collect();
    String::from_utf8(STANDARD.decode(letters).ok()?).ok()
}
