//! Documents of Kubernetes, told apart by what they are.

use crate::config::bootstrap::tree::all;
use crate::config::bootstrap::tree::at;
use crate::config::bootstrap::tree::items;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::text;
use crate::config::yaml::Node;

/// The documents that have something to do with who is asked, in the order of the file.
#[derive(Debug, Default)]
pub(super) struct Manifests<'n> {
    kinds: Vec<(&'n str, &'n Node)>,
    /// Istio's, wherever the mesh's settings stand.
    pub(super) providers: Vec<&'n Node>,
}

impl<'n> Manifests<'n> {
    pub(super) fn among(documents: &'n [Node]) -> Self {
        let mut manifests = Self::default();
        for document in documents {
            let version = member(document, "apiVersion").and_then(text);
            if let (Some(version), Some(kind)) = (version, member(document, "kind").and_then(text)) {
                let group = version.split_once('/').map_or("", |(group, _)| group);
                let is_ours = group.ends_with(".istio.io") || matches!(group, "gateway.envoyproxy.io" | "gateway.networking.k8s.io");
                manifests.kinds.push((if is_ours { kind } else { "" }, document));
            }
            let lists = all(document, &|node| member(node, "extensionProviders").is_some());
            manifests.providers.extend(lists.into_iter().filter_map(|node| member(node, "extensionProviders")).flat_map(items));
        }
        manifests
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kinds.is_empty() && self.providers.is_empty()
    }

    /// The documents of one kind.
    pub(super) fn of(&self, kind: &str) -> impl Iterator<Item = &'n Node> {
        self.kinds.iter().filter(move |(known, _)| *known == kind).map(|(_, document)| *document)
    }

    /// The one of a kind and a name, in whatever namespace: a file seldom has two.
    pub(super) fn named(&self, kind: &str, name: &str) -> Option<&'n Node> {
        self.of(kind).find(|document| at(document, &["metadata", "name"]).and_then(text) == Some(name))
    }
}
