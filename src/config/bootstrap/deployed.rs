//! Tollgate's own pods as manifests make them, and the rules that these carry.

use std::path::Path;

use crate::config::boot::Boot;
use crate::config::boot::Listen;
use crate::config::bootstrap::Judge;
use crate::config::bootstrap::manifests::Kept;
use crate::config::bootstrap::manifests::Manifests;
use crate::config::bootstrap::manifests::kept_in;
use crate::config::bootstrap::manifests::name_of;
use crate::config::bootstrap::manifests::namespace_of;
use crate::config::bootstrap::tree::at;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::members_named;
use crate::config::bootstrap::tree::text;
use crate::config::bootstrap::way::Endpoint;
use crate::config::bootstrap::way::show;
use crate::config::bootstrap::workloads::Pods;
use crate::config::bootstrap::workloads::containers;
use crate::config::bootstrap::workloads::is_tollgate;
use crate::config::bootstrap::workloads::pods_of;
use crate::config::bootstrap::workloads::sidecars;
use crate::config::compile_parts;
use crate::config::outside::Outside;
use crate::config::yaml::Node;

/// How the rules are called in a ConfigMap or a Secret.
const RULES: [&str; 2] = ["tollgate.yaml", "tollgate.yml"];

impl Judge<'_> {
    /// Judges the rules within the manifests and the pods that run them; whether there are such pods is handed back.
    pub(super) fn deployed(&mut self, manifests: &Manifests<'_>) -> bool {
        let mut carried: Vec<(&Node, Boot)> = Vec::new();
        for document in manifests.all() {
            for kept in kept_in(document).into_iter().filter(|kept| RULES.contains(&kept.name)) {
                carried.extend(self.carried(document, &kept).map(|boot| (document, boot)));
            }
        }
        let pods = pods_of(manifests);
        let ours = pods.iter().filter(|pods| containers(pods.template).chain(sidecars(pods.template)).any(is_tollgate));
        let ours: Vec<&Pods<'_>> = ours.collect();
        for pods in &ours {
            let is_mounted =
                |(document, _): &&(&Node, Boot)| namespace_of(document) == namespace_of(pods.document) && mounts(pods, document);
            let is_embedded = carried.iter().find(is_mounted).map_or(self.boot.redis.is_none(), |(_, boot)| boot.redis.is_none());
            if is_embedded && is_many(pods, manifests) {
                self.say(
                    pods.document,
                    "spec",
                    "the store is embedded, so each of these pods would have users, keys and counts of its own",
                )
                .hint("replicas: 1 and no autoscaler, or store.redis in tollgate.yaml");
            }
        }
        !ours.is_empty()
    }

    /// The rules that manifests bring along are those that will be in force.
    fn carried(&mut self, document: &Node, kept: &Kept<'_>) -> Option<Boot> {
        let field = member(document, "data").map_or("stringData", |_| "data");
        let compiled = compile_parts(self.file, &kept.text, Path::new(""), |file| Outside::without_files(file, Path::new("")));
        let (boot, rules, _) = match compiled {
            Ok(compiled) => compiled,
            Err(complaints) => {
                self.findings.errors.extend(complaints.into_iter().map(|mut complaint| {
                    complaint.line = complaint.line.saturating_add(kept.lines_above);
                    complaint.field = format!("{}: {}", kept.name, complaint.field);
                    complaint
                }));
                return None;
            }
        };
        // A relative path is relative to a folder that is not this one.
        let is_same_door = match &boot.check {
            Listen::Unix { path, .. } => Endpoint::Pipe(&path.to_string_lossy()).meets(&self.boot.check),
            Listen::Tcp { .. } => show(&boot.check) == show(&self.boot.check),
        };
        if !is_same_door {
            let wrong =
                format!("listen.check is {} in these rules, and {} in those of --config", show(&boot.check), show(&self.boot.check));
            self.say(document, field, wrong).hint("judge with --config and the rules that these pods get");
        } else if rules.revision != self.rules.revision {
            self.warn(document, field, "these rules are not those of --config, against which this file is judged")
                .hint("judge with --config and the rules that these pods get");
        }
        Some(boot)
    }
}

/// Whether a ConfigMap or a Secret is among the volumes of pods.
fn mounts(pods: &Pods<'_>, kept: &Node) -> bool {
    let volumes = at(pods.template, &["spec", "volumes"]);
    [("configMap", "name"), ("secret", "secretName")].into_iter().any(|(source, name)| {
        let sources = volumes.map(|volumes| members_named(volumes, source)).unwrap_or_default();
        sources.into_iter().any(|source| member(source, name).and_then(text) == Some(name_of(kept)))
    })
}

/// Whether there may be more than one such pod at a time.
fn is_many(pods: &Pods<'_>, manifests: &Manifests<'_>) -> bool {
    let above_one = |node: &Node, field: &str| at(node, &["spec", field]).and_then(text).is_some_and(|count| !matches!(count, "0" | "1"));
    let is_scaled = |scaler: &Node| {
        namespace_of(scaler) == namespace_of(pods.document)
            && at(scaler, &["spec", "scaleTargetRef", "name"]).and_then(text) == Some(name_of(pods.document))
    };
    above_one(pods.document, "replicas") || manifests.all().any(|other| is_scaled(other) && above_one(other, "maxReplicas"))
}
