//! Routes of Tollgate's that the platform chooses by `context_extensions`, in place of what the path would find.

use crate::config::bootstrap::Judge;
use crate::config::bootstrap::tree::entries;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::members_named;
use crate::config::bootstrap::tree::text;
use crate::config::yaml::Node;
use crate::model::route::Auth;

impl Judge<'_> {
    /// A route, virtual host or the like of Envoy's, and what it says to ext_authz.
    pub(super) fn chosen_by(&mut self, route: &Node, config: &Node) {
        let takes_one_path = member(route, "match").is_some_and(|matcher| member(matcher, "path").is_some());
        for extensions in members_named(config, "context_extensions") {
            // A key of a map is no field: Tollgate reads this spelling alone.
            for entry in entries(extensions).iter().filter(|entry| entry.key == "route") {
                self.chosen(extensions, text(&entry.node).unwrap_or_default(), takes_one_path);
            }
        }
    }

    /// `takes_one_path`: and so does not make a whole API public by it.
    pub(super) fn chosen(&mut self, place: &Node, name: &str, takes_one_path: bool) {
        let Some(route) = self.rules.route_index.named(name) else {
            self.say(place, "route", format!("there is no route `{name}` in tollgate.yaml, so every request here is refused"))
                .hint("the `name` of a route");
            return;
        };
        if route.auth == Auth::Required {
            return;
        }
        let wrong = format!("everything that comes here is judged as the route `{name}`, which needs no credential");
        let said = if takes_one_path { self.warn(place, "route", wrong) } else { self.say(place, "route", wrong) };
        said.hint("leave it out: by its path a request finds the route by itself");
    }
}
