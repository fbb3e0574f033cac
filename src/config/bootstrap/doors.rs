//! Doors that no route may lead to: Tollgate's own and Envoy's. Who comes there through Envoy comes with Envoy's rights.

use std::collections::BTreeSet;

use crate::config::boot::Listen;
use crate::config::bootstrap::Judge;
use crate::config::bootstrap::clusters::Clusters;
use crate::config::bootstrap::clusters::leads_anywhere;
use crate::config::bootstrap::target::targets_of;
use crate::config::bootstrap::tree::all;
use crate::config::bootstrap::tree::at;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::way::Endpoint;
use crate::config::bootstrap::way::endpoints;
use crate::config::yaml::Node;

const ADMIN: &str = "Envoy's admin interface";

/// A cluster's way to a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way<'a> {
    Sure(&'a str),
    /// Only the port agrees.
    Perhaps(&'a str),
    /// Where the client says.
    Anywhere,
}

impl Judge<'_> {
    /// `asked`: the clusters that ext_authz filters ask.
    pub(super) fn doors(&mut self, root: &Node, asked: &BTreeSet<&str>) {
        let doors = self.own_doors(root);
        let Some(resources) = member(root, "static_resources") else { return };
        // Where there is a URI, Envoy itself fetches something, and no client is led there.
        let counters = self.counters(root);
        let is_way =
            |node: &Node| !targets_of(node).is_empty() && member(node, "uri").is_none() && !counters.contains(&std::ptr::from_ref(node));
        for place in all(resources, &is_way) {
            for name in targets_of(place) {
                let way = if asked.contains(name) { Some(Way::Sure("listen.check")) } else { way(&self.clusters, name, &doors) };
                match way {
                    None => {}
                    Some(Way::Sure(door)) => self
                        .say(
                            place,
                            "cluster",
                            format!("`{name}` leads to {door}: clients reach through Envoy what is for this machine alone"),
                        )
                        .hint("take the route away; operators and monitors go there themselves"),
                    Some(Way::Perhaps(door)) => {
                        self.not_judged(place, "cluster", &format!("to which machine `{name}` leads, on a port that {door} has too"))
                    }
                    Some(Way::Anywhere) => self.not_judged(
                        place,
                        "cluster",
                        &format!("where `{name}` leads, which a request decides and may be a door of our own"),
                    ),
                }
            }
        }
    }

    fn own_doors(&self, root: &Node) -> Vec<(&'static str, Listen)> {
        let admin = at(root, &["admin", "address"]).map(Endpoint::of).and_then(|address| address.as_listen());
        [
            ("listen.check", Some(self.boot.check.clone())),
            ("listen.control", self.boot.control.clone()),
            ("listen.ops", Some(Listen::Tcp { addr: self.boot.ops.addr, tls: None })),
            (ADMIN, admin),
        ]
        .into_iter()
        .filter_map(|(name, listen)| Some((name, listen?)))
        .collect()
    }
}

fn way<'d>(known: &Clusters<'_>, name: &str, doors: &'d [(&'static str, Listen)]) -> Option<Way<'d>> {
    let named = known.behind(name);
    let all_endpoints: Vec<Endpoint<'_>> = named.iter().flat_map(|cluster| endpoints(cluster)).collect();
    let to = |leads: &dyn Fn(&Endpoint<'_>, &Listen) -> bool| {
        doors.iter().find(|(_, listen)| all_endpoints.iter().any(|endpoint| leads(endpoint, listen))).map(|(door, _)| *door)
    };
    to(&|endpoint, listen| endpoint.surely_meets(listen))
        .map(Way::Sure)
        .or_else(|| to(&|endpoint, listen| endpoint.meets(listen)).map(Way::Perhaps))
        .or_else(|| named.iter().any(|cluster| leads_anywhere(cluster)).then_some(Way::Anywhere))
}
