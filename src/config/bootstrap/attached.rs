//! To which Gateways and routes the policies of Envoy Gateway are attached.

use crate::config::bootstrap::Judge;
use crate::config::bootstrap::lists::any;
use crate::config::bootstrap::lists::every;
use crate::config::bootstrap::manifests::Manifests;
use crate::config::bootstrap::manifests::name_of;
use crate::config::bootstrap::manifests::namespace_of;
use crate::config::bootstrap::tree::at;
use crate::config::bootstrap::tree::entries;
use crate::config::bootstrap::tree::items;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::text;
use crate::config::yaml::Node;

const GATEWAY: &str = "Gateway";
/// Routes of requests, and of connections as they are, about which nobody can be asked.
const ROUTES: [&str; 2] = ["HTTPRoute", "GRPCRoute"];
const RAW_ROUTES: [&str; 3] = ["TCPRoute", "TLSRoute", "UDPRoute"];

/// What a policy can be attached to.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Target<'n> {
    kind: &'n str,
    namespace: &'n str,
    name: &'n str,
    section: Option<&'n str>,
}

impl<'n> Target<'n> {
    fn of(kind: &'n str, document: &'n Node) -> Self {
        Self { kind, namespace: namespace_of(document), name: name_of(document), section: None }
    }

    /// What a reference names, in the namespace of who refers where it says no other.
    fn referred(reference: &'n Node, namespace: &'n str) -> Self {
        let of = |field: &str| member(reference, field).and_then(text);
        Self {
            kind: of("kind").unwrap_or(GATEWAY),
            namespace: of("namespace").unwrap_or(namespace),
            name: of("name").unwrap_or_default(),
            section: of("sectionName"),
        }
    }

    /// Whether one of the policies is for it; none where only labels that are not in the file can tell.
    fn is_covered(&self, policies: &[&Node], manifests: &Manifests<'_>) -> Option<bool> {
        any(policies.iter().map(|policy| {
            if targets(policy).iter().any(|target| self.is_part_of(target)) { Some(true) } else { self.is_chosen(policy, manifests) }
        }))
    }

    fn is_in(&self, manifests: &Manifests<'_>) -> bool {
        manifests.named(self.kind, self.namespace, self.name).is_some()
    }

    /// Whether policies that do not ask are written for it by its name.
    fn is_named_by(&self, policies: &[&Node]) -> bool {
        policies.iter().any(|policy| targets(policy).iter().any(|target| self.is_part_of(target)))
    }

    fn is_part_of(&self, whole: &Target<'_>) -> bool {
        let whole_of_it = Target { section: None, ..*whole } == Target { section: None, ..*self };
        whole_of_it && (whole.section.is_none() || whole.section == self.section)
    }

    /// Whether a policy's selectors choose it. What expressions and the labels of namespaces choose is not told here.
    fn is_chosen(&self, policy: &Node, manifests: &Manifests<'_>) -> Option<bool> {
        let document = manifests.named(self.kind, self.namespace, self.name);
        let labels = document.and_then(|document| at(document, &["metadata", "labels"])).map(entries).unwrap_or_default();
        let selectors = at(policy, &["spec", "targetSelectors"]).map(items).unwrap_or_default().iter();
        any(selectors.filter(|selector| member(selector, "kind").and_then(text) == Some(self.kind)).map(|selector| {
            let is_in_namespace = match at(selector, &["namespaces", "from"]).and_then(text).unwrap_or("Same") {
                "Same" => Some(namespace_of(policy) == self.namespace),
                "All" => Some(true),
                _ => None,
            };
            let wanted = member(selector, "matchLabels").map(entries).unwrap_or_default();
            let has = |label: (&str, Option<&str>)| labels.iter().any(|known| (&*known.key, text(&known.node)) == label);
            let has_all = wanted.iter().all(|label| has((&label.key, text(&label.node))));
            let has_labels = (document.is_some() || wanted.is_empty()).then_some(has_all);
            let is_told = member(selector, "matchExpressions").is_none_or(|expressions| items(expressions).is_empty());
            every([is_in_namespace, has_labels, is_told.then_some(true)].into_iter())
        }))
    }
}

/// What a policy names, which is in its own namespace.
fn targets(policy: &Node) -> Vec<Target<'_>> {
    let of = |field| at(policy, &["spec", field]);
    let named = of("targetRefs").map(items).unwrap_or_default().iter().chain(of("targetRef"));
    named.map(|target| Target { namespace: namespace_of(policy), ..Target::referred(target, "") }).collect()
}

/// Whether a policy is only for Gateways where nobody asks Tollgate anyway.
pub(super) fn is_apart(policy: &Node, asking: &[&Node], manifests: &Manifests<'_>) -> bool {
    let is_alone = |target: &Target<'_>| target.kind == GATEWAY && target.is_covered(asking, manifests) == Some(false);
    let targets = targets(policy);
    at(policy, &["spec", "targetSelectors"]).is_none() && !targets.is_empty() && targets.iter().all(is_alone)
}

fn parents(route: &Node) -> Vec<Target<'_>> {
    let parents = at(route, &["spec", "parentRefs"]).map(items).unwrap_or_default();
    parents.iter().map(|parent| Target::referred(parent, namespace_of(route))).collect()
}

impl Judge<'_> {
    /// Each Gateway and each route must be the target of somebody that asks, and what asks there must be told no identity by clients.
    pub(super) fn attached(&mut self, asking: &[&Node], manifests: &Manifests<'_>) {
        let routes: Vec<(&str, &Node)> = ROUTES.into_iter().flat_map(|kind| manifests.of(kind).map(move |route| (kind, route))).collect();
        let others: Vec<&Node> = manifests.of("SecurityPolicy").filter(|policy| is_apart(policy, asking, manifests)).collect();
        let mut guarded: Vec<Target<'_>> =
            asking.iter().flat_map(|policy| targets(policy)).filter(|target| target.kind == GATEWAY).collect();
        for (kind, route) in &routes {
            let by_parents = every(parents(route).iter().map(|gateway| gateway.is_covered(asking, manifests)));
            match any([Target::of(kind, route).is_covered(asking, manifests), by_parents].into_iter()) {
                Some(true) => guarded.extend(parents(route)),
                // The Gateway itself is told of.
                Some(false) if parents(route).iter().all(|gateway| gateway.is_named_by(&others) && gateway.is_in(manifests)) => {}
                Some(false) => {
                    let wrong = format!("no SecurityPolicy with extAuth has this {kind} or its Gateway as target: nobody is asked there");
                    self.say(route, "spec", wrong)
                        .hint("targetRefs with the Gateway, in its namespace; judge the files of one Gateway together");
                }
                None => self.not_judged(route, "spec", &format!("whether the targetSelectors of a SecurityPolicy choose this {kind}")),
            }
        }
        for (kind, route) in RAW_ROUTES.into_iter().flat_map(|kind| manifests.of(kind).map(move |route| (kind, route))) {
            self.say(route, "spec", format!("a {kind} leads connections on as they are: nobody is asked there")).hint("an HTTPRoute");
        }
        for gateway in manifests.of(GATEWAY).filter(|gateway| at(gateway, &["spec", "gatewayClassName"]).is_some()) {
            let target = Target::of(GATEWAY, gateway);
            let has_route = routes.iter().flat_map(|(_, route)| parents(route)).any(|parent| parent.is_part_of(&target));
            match target.is_covered(asking, manifests) {
                Some(true) => guarded.push(target),
                Some(false) if target.is_named_by(&others) => self
                    .warn(gateway, "spec", "a SecurityPolicy without extAuth is for this Gateway: nobody asks Tollgate there")
                    .hint("right for what is guarded otherwise"),
                // Its routes were asked about it.
                _ if has_route => {}
                Some(false) => self
                    .say(gateway, "spec", "no SecurityPolicy with extAuth has this Gateway as target: nobody is asked there")
                    .hint("targetRefs with the Gateway, in its namespace; judge the files of one Gateway together"),
                None => self.not_judged(gateway, "spec", "whether the targetSelectors of a SecurityPolicy choose this Gateway"),
            }
        }
        let traffic: Vec<&Node> = manifests.of("ClientTrafficPolicy").collect();
        let told = |known| guarded.iter().find(|gateway| gateway.is_covered(&traffic, manifests) == known);
        if let (Some(policy), Some(_)) = (traffic.first(), told(None)) {
            self.not_judged(policy, "spec", "which Gateways its targetSelectors choose");
        }
        if let (Some(policy), Some(bare)) = (asking.first(), told(Some(false))) {
            let wrong = format!(
                "no ClientTrafficPolicy in this file that is for the Gateway `{}` removes a client's own identity headers before Tollgate is asked",
                bare.name
            );
            self.say(policy, "spec", wrong).hint("headers.earlyRequestHeaders.remove; judge the files of one Gateway together");
        }
        if let Some(policy) = asking.first().filter(|_| routes.is_empty() && manifests.of(GATEWAY).next().is_none()) {
            self.not_judged(policy, "spec", "whether all routes are asked about, as no Gateway and no route is in this file");
        }
    }
}
