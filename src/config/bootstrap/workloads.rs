//! Istio's workloads: whom a policy or a filter reaches, and whether an istio-proxy is in the way at all.

use crate::config::boot::Listen;
use crate::config::bootstrap::Judge;
use crate::config::bootstrap::manifests::Manifests;
use crate::config::bootstrap::manifests::name_of;
use crate::config::bootstrap::manifests::namespace_of;
use crate::config::bootstrap::tree::all;
use crate::config::bootstrap::tree::at;
use crate::config::bootstrap::tree::entries;
use crate::config::bootstrap::tree::is_true;
use crate::config::bootstrap::tree::items;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::members_named;
use crate::config::bootstrap::tree::text;
use crate::config::yaml;
use crate::config::yaml::Node;

/// What stands in Istio's own namespace is for every other, unless the mesh's settings name another one.
const ROOT: &str = "istio-system";
const INJECT: &str = "sidecar.istio.io/inject";

/// Labels and annotations of pods, the words with which they do no harm, and what they do with others.
const AROUND: [(&str, &[&str], &str); 6] = [
    (INJECT, &["true", "yes", "on", "y"], "the pods get no istio-proxy"),
    ("istio.io/dataplane-mode", &["none"], "the pods have no istio-proxy of their own, and filters of sidecars are not for them"),
    ("sidecar.istio.io/interceptionMode", &["REDIRECT", "TPROXY"], "what comes in is not led through istio-proxy"),
    ("traffic.sidecar.istio.io/includeInboundPorts", &["*"], "what comes in on other ports goes past istio-proxy"),
    ("traffic.sidecar.istio.io/excludeInterfaces", &[""], "what comes in there goes past istio-proxy"),
    ("sidecar.istio.io/bootstrapOverride", &[], "istio-proxy has a bootstrap of its own, which is not looked at"),
];
const EXCLUDED: &str = "traffic.sidecar.istio.io/excludeInboundPorts";
const PROXY_CONFIG: &str = "proxy.istio.io/config";
const TEMPLATES: &str = "inject.istio.io/templates";
/// Whose labels and annotations change istio-proxy, and those of them that leave what comes in alone.
const OF_PROXIES: [&str; 4] = ["sidecar.istio.io/", "traffic.sidecar.istio.io/", "inject.istio.io/", "proxy.istio.io/"];
const HARMLESS: [&str; 24] = [
    "sidecar.istio.io/nativeSidecar",
    "sidecar.istio.io/userVolume",
    "sidecar.istio.io/userVolumeMount",
    "sidecar.istio.io/proxyCPU",
    "sidecar.istio.io/proxyCPULimit",
    "sidecar.istio.io/proxyMemory",
    "sidecar.istio.io/proxyMemoryLimit",
    "sidecar.istio.io/ephemeralStorage",
    "sidecar.istio.io/ephemeralStorageLimit",
    "sidecar.istio.io/logLevel",
    "sidecar.istio.io/componentLogLevel",
    "sidecar.istio.io/agentLogLevel",
    "sidecar.istio.io/rewriteAppHTTPProbers",
    "sidecar.istio.io/extraStatTags",
    "sidecar.istio.io/statsHistogramBuckets",
    "sidecar.istio.io/statsInclusionPrefixes",
    "sidecar.istio.io/statsInclusionRegexps",
    "sidecar.istio.io/statsInclusionSuffixes",
    "sidecar.istio.io/enableCoreDump",
    "traffic.sidecar.istio.io/excludeOutboundPorts",
    "traffic.sidecar.istio.io/includeOutboundPorts",
    "traffic.sidecar.istio.io/excludeOutboundIPRanges",
    "traffic.sidecar.istio.io/includeOutboundIPRanges",
    EXCLUDED,
];
/// Settings of a proxy that leave what comes in alone.
const HARMLESS_SETTINGS: [&str; 6] =
    ["holdApplicationUntilProxyStarts", "concurrency", "terminationDrainDuration", "drainDuration", "tracing", "interceptionMode"];

/// The pods that a document makes.
pub(super) struct Pods<'n> {
    pub(super) document: &'n Node,
    pub(super) template: &'n Node,
}

/// Whom a policy, or a filter of Istio, is for.
pub(super) struct Reach<'n> {
    root: &'n str,
    namespace: &'n str,
    labels: Vec<(&'n str, &'n str)>,
    targets: Vec<&'n str>,
}

impl<'n> Reach<'n> {
    pub(super) fn of(document: &'n Node, manifests: &Manifests<'n>) -> Self {
        let of_spec = |names: &[&str]| member(document, "spec").and_then(|spec| at(spec, names));
        let labels = of_spec(&["selector", "matchLabels"]).or_else(|| of_spec(&["workloadSelector", "labels"]));
        let targets = of_spec(&["targetRefs"]).map(items).unwrap_or_default().iter().chain(of_spec(&["targetRef"]));
        Self {
            root: manifests.root_namespace.unwrap_or(ROOT),
            namespace: namespace_of(document),
            labels: labels.map(pairs).unwrap_or_default(),
            targets: targets.filter_map(|target| member(target, "name").and_then(text)).collect(),
        }
    }

    fn is_in(&self, namespace: &str) -> bool {
        self.namespace == self.root || self.namespace == namespace
    }

    fn meets(&self, pods: &Pods<'n>) -> bool {
        self.targets.is_empty() && self.is_in(namespace_of(pods.document)) && self.selects(pods)
    }

    fn selects(&self, pods: &Pods<'n>) -> bool {
        let theirs = at(pods.template, &["metadata", "labels"]).map(pairs).unwrap_or_default();
        self.labels.iter().all(|label| theirs.contains(label))
    }

    /// Whether these pods are those that it is written for, though it may miss them.
    fn means(&self, pods: &Pods<'n>) -> bool {
        self.is_in(namespace_of(pods.document)) || (!self.labels.is_empty() && self.selects(pods))
    }

    /// Whether it is for pods of this file that have an istio-proxy beside them, and are none themselves.
    pub(super) fn is_for_sidecars(&self, manifests: &Manifests<'n>) -> bool {
        let templates = ["metadata", "annotations", TEMPLATES];
        pods_of(manifests).iter().any(|pods| self.meets(pods) && at(pods.template, &templates).and_then(text) != Some("gateway"))
    }

    /// Whether this is for nobody whom the other is for; none where only pods of other files could tell.
    pub(super) fn is_apart(&self, other: &Self, manifests: &Manifests<'n>) -> Option<bool> {
        let may_be_one = |one: &Self, other: &Self| one.is_in(other.namespace) || one.namespace.is_empty();
        let differs = |(key, value): &(&str, &str)| other.labels.iter().any(|(known, theirs)| known == key && theirs != value);
        if !(may_be_one(self, other) || may_be_one(other, self)) || self.labels.iter().any(differs) {
            return Some(true);
        }
        let pods = pods_of(manifests);
        let mut met = pods.iter().filter(|pods| other.meets(pods)).peekable();
        let misses = self.targets.is_empty() && met.peek().is_some() && !met.any(|pods| self.meets(pods));
        (!misses).then_some(false)
    }

    /// Whether this is for everybody whom the other is for.
    pub(super) fn holds(&self, other: &Self, manifests: &Manifests<'n>) -> bool {
        let is_wider = self.is_in(other.namespace) && self.labels.iter().all(|label| other.labels.contains(label));
        let pods = pods_of(manifests);
        let mut met = pods.iter().filter(|pods| other.meets(pods)).peekable();
        self.targets == other.targets && (is_wider || (met.peek().is_some() && met.all(|pods| self.meets(pods))))
    }
}

impl Judge<'_> {
    /// Pods that no policy sends to Tollgate, policies that are for nobody, and pods whose istio-proxy can be walked around.
    pub(super) fn workloads(&mut self, policies: &[&Node], manifests: &Manifests<'_>) {
        let pods: Vec<Pods<'_>> = pods_of(manifests).into_iter().filter(|pods| !self.is_tollgate_itself(pods)).collect();
        let reaches: Vec<Reach<'_>> = policies.iter().map(|policy| Reach::of(policy, manifests)).collect();
        let mut all_meet = true;
        for (policy, reach) in policies.iter().zip(&reaches) {
            if !reach.targets.is_empty() || pods.is_empty() || pods.iter().any(|pods| reach.meets(pods)) {
                continue;
            }
            if pods.iter().any(|pods| reach.means(pods)) {
                all_meet = false;
                self.say(policy, "spec", "the policy is for no pod of this file, by its namespace and its selector: nobody is asked there")
                    .hint("the namespace and the labels of the pods");
            } else {
                let namespace = reach.namespace;
                let what = format!("not judged: for which pods the policy is, of which this file has none in the namespace `{namespace}`");
                self.warn(policy, "spec", what).hint(format!("judge it in one file with the Deployments of `{namespace}`"));
            }
        }
        for pods in &pods {
            if reaches.iter().any(|reach| reach.meets(pods)) {
                self.way_in(pods, manifests);
            } else if all_meet {
                self.warn(pods.document, "spec", "no AuthorizationPolicy with the action CUSTOM is for these pods: nobody is asked there")
                    .hint("right for what no client reaches");
            }
        }
    }

    /// What leads clients around the istio-proxy of pods that shall be guarded.
    fn way_in(&mut self, pods: &Pods<'_>, manifests: &Manifests<'_>) {
        let notes: Vec<&Node> = ["labels", "annotations"].iter().filter_map(|field| at(pods.template, &["metadata", field])).collect();
        for (note, (key, harmless, why)) in notes.iter().flat_map(|note| AROUND.iter().map(move |known| (*note, known))) {
            if let Some(value) = member(note, key).and_then(text).filter(|value| !harmless.contains(value)) {
                self.say(note, key, format!("{key} is `{value}`: {why}, so nobody is asked there")).hint("leave it out");
            }
        }
        for note in &notes {
            self.changed_proxy(note);
        }
        if is_true(pods.template, &["spec", "hostNetwork"]) {
            self.say(pods.template, "spec", "pods on the host's network get no istio-proxy, so nobody is asked there")
                .hint("hostNetwork: false");
        }
        let namespace = namespace_of(pods.document);
        let labels =
            manifests.of("Namespace").find(|document| name_of(document) == namespace).map(|document| at(document, &["metadata", "labels"]));
        let label = |key: &str| labels.flatten().and_then(|labels| member(labels, key)).and_then(text);
        let is_injected = notes.iter().any(|note| member(note, INJECT).is_some());
        match (labels, label("istio-injection")) {
            (_, Some("enabled")) => {}
            (Some(_), None) if is_injected || label("istio.io/rev").is_some() => {}
            (Some(_), _) => self
                .say(pods.document, "metadata", format!("the namespace `{namespace}` is not in the mesh, so the pods get no istio-proxy"))
                .hint("istio-injection: enabled among its labels"),
            (None, _) if is_injected => {}
            (None, _) => {
                let what = format!("whether the pods get an istio-proxy, which the namespace `{namespace}` says");
                self.not_judged(pods.document, "metadata", &what);
            }
        }
        self.excluded_ports(pods, &notes);
    }

    /// Labels and annotations that change what istio-proxy is.
    fn changed_proxy(&mut self, note: &Node) {
        for entry in entries(note) {
            let key = &*entry.key;
            let value = text(&entry.node).unwrap_or_default();
            if key == PROXY_CONFIG {
                let Some(settings) = yaml::parse(self.file, value, &mut Vec::new()) else {
                    self.not_judged(note, key, "settings of istio-proxy that cannot be read");
                    continue;
                };
                self.interception(note, key, &settings);
                let others: Vec<&str> =
                    entries(&settings).iter().map(|entry| &*entry.key).filter(|name| !HARMLESS_SETTINGS.contains(name)).collect();
                if !others.is_empty() {
                    self.not_judged(note, key, &format!("settings of istio-proxy of these pods alone: {}", others.join(", ")));
                }
                continue;
            }
            let is_judged = HARMLESS.contains(&key) || AROUND.iter().any(|(known, ..)| *known == key);
            let is_known_template = key == TEMPLATES && ["sidecar", "gateway"].contains(&value);
            if OF_PROXIES.iter().any(|prefix| key.starts_with(prefix)) && !is_judged && !is_known_template {
                self.not_judged(note, key, &format!("what {key} makes of istio-proxy"));
            }
        }
    }

    /// Settings of proxies by which nothing that comes in is led through them.
    pub(super) fn interception(&mut self, parent: &Node, field: &str, settings: &Node) {
        if let Some(mode) = member(settings, "interceptionMode").and_then(text).filter(|mode| !["REDIRECT", "TPROXY"].contains(mode)) {
            let wrong = format!("interceptionMode is `{mode}`: what comes in is not led through istio-proxy, so nobody is asked there");
            self.say(parent, field, wrong).hint("leave it out");
        }
    }

    /// What is said of each istio-proxy of a mesh.
    pub(super) fn mesh(&mut self, documents: &[&Node]) {
        for document in documents {
            for settings in members_named(document, "defaultConfig") {
                self.interception(settings, "interceptionMode", settings);
            }
            for field in ["excludeInboundPorts", "includeInboundPorts"] {
                let set = all(document, &|node| member(node, field).and_then(text).is_some_and(|ports| !matches!(ports, "" | "*")));
                for place in set {
                    self.not_judged(place, field, "which ports of all pods are led past istio-proxy");
                }
            }
        }
    }

    fn excluded_ports(&mut self, pods: &Pods<'_>, notes: &[&Node]) {
        let (ours, others): (Vec<&Node>, Vec<&Node>) =
            containers(pods.template).chain(sidecars(pods.template)).partition(|container| is_tollgate(container));
        let declared: Vec<&str> = others.into_iter().flat_map(ports).collect();
        for note in notes {
            let listed = member(note, EXCLUDED).and_then(text).unwrap_or_default().split(',').map(str::trim);
            for port in listed.filter(|port| !port.is_empty()) {
                let wrong = format!("what comes in on port {port} goes past istio-proxy, so nobody is asked there");
                // The issuer, and what is asked, may be in other pods, and their numbers mean something else here.
                let is_ours = if ours.is_empty() { port.parse() == Ok(self.boot.ops.addr.port()) } else { self.is_own_port(port) };
                if declared.contains(&port) {
                    self.say(note, EXCLUDED, wrong).hint("take it out of the list");
                } else if !is_ours {
                    self.warn(note, EXCLUDED, wrong).hint("right for a port that no client may reach");
                }
            }
        }
    }

    /// Pods that have nothing but Tollgate's own doors, among them in each container the one where Envoy asks.
    fn is_tollgate_itself(&self, pods: &Pods<'_>) -> bool {
        let Some(door) = port_of(&self.boot.check).map(|port| port.to_string()) else { return false };
        containers(pods.template).all(|container| ports(container).any(|port| port == door))
            && containers(pods.template).chain(sidecars(pods.template)).flat_map(ports).all(|port| self.is_own_port(port))
    }

    /// Whether a port is one of Tollgate's.
    pub(super) fn is_own_port(&self, port: &str) -> bool {
        let listeners = [Some(&self.boot.check), self.boot.control.as_ref(), self.boot.issuer.as_ref()];
        let ours = listeners.into_iter().flatten().filter_map(port_of).chain([self.boot.ops.addr.port()]);
        port.parse().is_ok_and(|port: u16| ours.into_iter().any(|own| own == port))
    }
}

/// Whether a container runs Tollgate, by its name and its image.
pub(super) fn is_tollgate(container: &Node) -> bool {
    let of = |field: &str| member(container, field).and_then(text).unwrap_or_default();
    of("name") == "tollgate" || of("image").rsplit('/').next().is_some_and(|image| image.starts_with("tollgate"))
}

fn port_of(listen: &Listen) -> Option<u16> {
    match listen {
        Listen::Tcp { addr, .. } => Some(addr.port()),
        Listen::Unix { .. } => None,
    }
}

pub(super) fn pods_of<'n>(manifests: &Manifests<'n>) -> Vec<Pods<'n>> {
    let made = manifests.all().flat_map(|document| {
        let templates =
            members_named(document, "template").into_iter().chain(manifests.of("Pod").filter(move |pod| std::ptr::eq(*pod, document)));
        templates.map(move |template| Pods { document, template })
    });
    made.filter(|pods| containers(pods.template).next().is_some()).collect()
}

pub(super) fn containers(template: &Node) -> impl Iterator<Item = &Node> {
    at(template, &["spec", "containers"]).map(items).unwrap_or_default().iter()
}

/// Init containers that go on beside the others.
pub(super) fn sidecars(template: &Node) -> impl Iterator<Item = &Node> {
    let all = at(template, &["spec", "initContainers"]).map(items).unwrap_or_default().iter();
    all.filter(|container| member(container, "restartPolicy").and_then(text) == Some("Always"))
}

pub(super) fn ports(container: &Node) -> impl Iterator<Item = &str> {
    member(container, "ports").map(items).unwrap_or_default().iter().filter_map(|port| member(port, "containerPort").and_then(text))
}

fn pairs(labels: &Node) -> Vec<(&str, &str)> {
    entries(labels).iter().filter_map(|entry| Some((&*entry.key, text(&entry.node)?))).collect()
}
