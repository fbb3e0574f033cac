//! Routes of Tollgate's that the platform chooses by `context_extensions`, in place of what the path would find.

use crate::config::bootstrap::Judge;
use crate::config::bootstrap::tree::entries;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::members_named;
use crate::config::bootstrap::tree::text;
use crate::config::yaml::Node;
use crate::model::route::Auth;
use crate::model::route::Ending;
use crate::model::route::PathTemplate;
use crate::model::route::Segment;

impl Judge<'_> {
    /// A route, virtual host or the like of Envoy's, and what it says to ext_authz.
    pub(super) fn chosen_by(&mut self, route: &Node, config: &Node) {
        let matcher = member(route, "match");
        let takes_one_path = matcher.is_some_and(|matcher| member(matcher, "path").is_some());
        for extensions in members_named(config, "context_extensions") {
            // A key of a map is no field: Tollgate reads this spelling alone.
            for entry in entries(extensions).iter().filter(|entry| entry.key == "route") {
                let name = text(&entry.node).unwrap_or_default();
                self.chosen(extensions, name, takes_one_path);
                let route = self.rules.route_index.named(name).filter(|route| route.auth == Auth::Required);
                if route.is_some_and(|route| !takes_one_path && !matcher.is_some_and(|matcher| is_within(matcher, &route.matcher.path))) {
                    let wrong = format!("everything that comes here is judged as the route `{name}`, also what its path is not for");
                    self.warn(extensions, "route", wrong).hint("a match of Envoy's for no more than its path");
                }
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

/// Whether whatever a match by a prefix takes is below a path that ends in `/**`.
fn is_within(matcher: &Node, path: &PathTemplate) -> bool {
    let whole = member(matcher, "path_separated_prefix").and_then(text);
    // The last part of a plain prefix may go on.
    let plain = member(matcher, "prefix").and_then(text).and_then(|prefix| Some(prefix.rsplit_once('/')?.0));
    let Some(prefix) = whole.or(plain) else { return false };
    let mut parts = prefix.split('/').skip(1);
    let fits = |segment: &Segment| match (segment, parts.next()) {
        (Segment::Literal(literal), Some(part)) => **literal == *part,
        (Segment::Variable(_), Some(part)) => !part.is_empty(),
        (Segment::Literal(_) | Segment::Variable(_), None) => false,
    };
    path.ending == Ending::Rest && path.segments.iter().all(fits)
}
