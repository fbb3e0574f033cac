//! Whom Envoy believes about where a client is, beside what its own connection says.

use ipnet::IpNet;

use crate::config::bootstrap::Judge;
use crate::config::bootstrap::tree::all_of_type;
use crate::config::bootstrap::tree::items;
use crate::config::bootstrap::tree::may_be_true;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::members_named;
use crate::config::bootstrap::tree::text;
use crate::config::yaml::Node;

/// Addresses that nobody has on the internet.
const INSIDE: [&str; 9] =
    ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "::1/128", "fc00::/7", "fe80::/10"];

impl Judge<'_> {
    pub(super) fn origin(&mut self, root: &Node) {
        for filter in all_of_type(root, ".proxy_protocol.v3.ProxyProtocol") {
            let field = "allow_requests_without_proxy_protocol";
            if may_be_true(filter, &[field]) {
                let wrong = format!("{field} is true: clients come in by themselves, and whoever writes the header says where it is");
                self.say(filter, field, wrong).hint("a listener of its own for the load balancer");
            } else {
                let wrong = "whoever connects says where the client is, so only the load balancer may reach this listener";
                self.warn(filter, "@type", wrong).hint("see to it by a firewall or a network policy");
            }
        }
        let ranges = members_named(root, "internal_address_config").into_iter().flat_map(|config| members_named(config, "cidr_ranges"));
        for range in ranges.flat_map(items) {
            let prefix = member(range, "address_prefix").and_then(text).unwrap_or_default();
            let written = format!("{prefix}/{}", member(range, "prefix_len").and_then(text).unwrap_or("0"));
            let is_inside = written.parse().is_ok_and(|range: IpNet| {
                INSIDE.iter().filter_map(|inside| inside.parse::<IpNet>().ok()).any(|inside| inside.contains(&range))
            });
            if !is_inside {
                let wrong = format!("clients of {written} count as internal: what they write into x-envoy-* is believed");
                self.say(range, "address_prefix", wrong).hint("ranges of your own network alone");
            }
        }
    }
}
