//! Pods with an Envoy of this file in them: who reaches another of their ports has gone around it.

use crate::config::bootstrap::Judge;
use crate::config::bootstrap::listeners::ports_of_listeners;
use crate::config::bootstrap::manifests::Manifests;
use crate::config::bootstrap::manifests::name_of;
use crate::config::bootstrap::manifests::namespace_of;
use crate::config::bootstrap::manifests::texts_within;
use crate::config::bootstrap::tree::at;
use crate::config::bootstrap::tree::members_named;
use crate::config::bootstrap::tree::text;
use crate::config::bootstrap::workloads::containers;
use crate::config::bootstrap::workloads::pods_of;
use crate::config::bootstrap::workloads::ports;
use crate::config::bootstrap::workloads::sidecars;
use crate::config::yaml::Node;

impl Judge<'_> {
    pub(super) fn around(&mut self, manifests: &Manifests<'_>) {
        let listening: Vec<Option<u16>> = manifests.bootstraps.iter().flat_map(|root| ports_of_listeners(root)).collect();
        if manifests.bootstraps.iter().any(|root| at(root, &["dynamic_resources"]).is_some()) || listening.contains(&None) {
            return;
        }
        let kept: Vec<&Node> =
            manifests.of("ConfigMap").chain(manifests.of("Secret")).filter(|kept| !texts_within(kept).is_empty()).collect();
        for pods in pods_of(manifests) {
            let volumes = at(pods.template, &["spec", "volumes"]);
            let mounts = |kept: &Node, field: &str, name: &str| {
                let sources = volumes.map(|volumes| members_named(volumes, field)).unwrap_or_default();
                sources.into_iter().any(|source| at(source, &[name]).and_then(text) == Some(name_of(kept)))
            };
            let has_envoy = kept.iter().any(|kept| {
                namespace_of(kept) == namespace_of(pods.document)
                    && (mounts(kept, "configMap", "name") || mounts(kept, "secret", "secretName"))
            });
            let own = containers(pods.template).chain(sidecars(pods.template)).filter(|_| has_envoy);
            for (container, port) in own.flat_map(|container| ports(container).map(move |port| (container, port))).collect::<Vec<_>>() {
                if !self.is_own_port(port) && !port.parse().is_ok_and(|port| listening.contains(&Some(port))) {
                    let wrong = format!("port {port} is none of the listeners of this Envoy: who reaches the pod there goes past it");
                    self.warn(container, "ports", wrong).hint("let the service listen on 127.0.0.1, or a NetworkPolicy close the port");
                }
            }
        }
    }
}
