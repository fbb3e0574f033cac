//! Istio's workloads: whom a policy or a filter reaches, and whether an istio-proxy is in the way at all.

use crate::config::boot::Listen;
use crate::config::bootstrap::Judge;
use crate::config::bootstrap::manifests::Manifests;
use crate::config::bootstrap::manifests::name_of;
use crate::config::bootstrap::manifests::namespace_of;
use crate::config::bootstrap::tree::at;
use crate::config::bootstrap::tree::entries;
use crate::config::bootstrap::tree::is_true;
use crate::config::bootstrap::tree::items;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::members_named;
use crate::config::bootstrap::tree::text;
use crate::config::yaml::Node;

/// What stands in Istio's own namespace is for every other.
const ROOT: &str = "istio-system";
const INJECT: &str = "sidecar.istio.io/inject";

/// Labels and annotations of pods, the words with which they do no harm, and what they do with others.
const AROUND: [(&str, &[&str], &str); 5] = [
    (INJECT, &["true", "yes", "on", "y"], "the pods get no istio-proxy"),
    ("istio.io/dataplane-mode", &["none"], "the pods have no istio-proxy of their own, and filters of sidecars are not for them"),
    ("sidecar.istio.io/interceptionMode", &["REDIRECT", "TPROXY"], "what comes in is not led through istio-proxy"),
    ("traffic.sidecar.istio.io/includeInboundPorts", &["*"], "what comes in on other ports goes past istio-proxy"),
    ("sidecar.istio.io/bootstrapOverride", &[], "istio-proxy has a bootstrap of its own, which is not looked at"),
];

/// The pods that a document makes.
pub(super) struct Pods<'n> {
    pub(super) document: &'n Node,
    pub(super) template: &'n Node,
}

/// Whom a policy, or a filter of Istio, is for.
pub(super) struct Reach<'n> {
    namespace: &'n str,
    labels: Vec<(&'n str, &'n str)>,
    targets: Vec<&'n str>,
}

impl<'n> Reach<'n> {
    pub(super) fn of(document: &'n Node) -> Self {
        let of_spec = |names: &[&str]| member(document, "spec").and_then(|spec| at(spec, names));
        let labels = of_spec(&["selector", "matchLabels"]).or_else(|| of_spec(&["workloadSelector", "labels"]));
        let targets = of_spec(&["targetRefs"]).map(items).unwrap_or_default().iter().chain(of_spec(&["targetRef"]));
        Self {
            namespace: namespace_of(document),
            labels: labels.map(pairs).unwrap_or_default(),
            targets: targets.filter_map(|target| member(target, "name").and_then(text)).collect(),
        }
    }

    fn is_in(&self, namespace: &str) -> bool {
        self.namespace == ROOT || self.namespace == namespace
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
        let templates = ["metadata", "annotations", "inject.istio.io/templates"];
        pods_of(manifests).iter().any(|pods| self.meets(pods) && at(pods.template, &templates).and_then(text) != Some("gateway"))
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
        let reaches: Vec<Reach<'_>> = policies.iter().map(|policy| Reach::of(policy)).collect();
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

    fn excluded_ports(&mut self, pods: &Pods<'_>, notes: &[&Node]) {
        const EXCLUDED: &str = "traffic.sidecar.istio.io/excludeInboundPorts";
        let declared: Vec<&str> = containers(pods.template).chain(sidecars(pods.template)).flat_map(ports).collect();
        for note in notes {
            let listed = member(note, EXCLUDED).and_then(text).unwrap_or_default().split(',').map(str::trim);
            for port in listed.filter(|port| !port.is_empty()) {
                if self.is_own_port(port) {
                    continue;
                }
                let wrong = format!("what comes in on port {port} goes past istio-proxy, so nobody is asked there");
                if declared.contains(&port) {
                    self.say(note, EXCLUDED, wrong).hint("take it out of the list");
                } else {
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
