//! The route table as one request sees it: which routes it hits, which it misses, and why. For `explain`; [`find_route`] decides.

use std::sync::Arc;

use crate::check::find_route::find_route;
use crate::model::request::Method;
use crate::model::request::Request;
use crate::model::route::Matcher;
use crate::model::route::Route;
use crate::model::rules::Rules;

/// One route, and what of it fits the request.
#[derive(Clone, Debug)]
pub struct Considered<'r> {
    pub route: &'r Arc<Route>,
    /// It governs the request.
    pub hit: bool,
    pub host: bool,
    pub path: bool,
    pub method: bool,
    pub why: String,
}

/// Every route of the table, the most specific first.
pub fn consider<'r>(request: &'r Request<'r>, rules: &'r Rules) -> Vec<Considered<'r>> {
    let found = find_route(request, rules).ok().map(|found| found.route);
    let path = request.path.without_matrix();
    let mut routes: Vec<&Arc<Route>> = rules.routes.iter().collect();
    routes.sort_by(|one, other| one.matcher.cmp(&other.matcher));
    // The first path that fits decides, whatever methods it takes.
    let on_path: Vec<&Arc<Route>> = rules.route_index.on_path(&request.host, &path).iter().collect();
    let rows = routes.into_iter().map(|route| {
        let matcher = &route.matcher;
        let host = matcher.matches_host(&request.host.name, request.host.port);
        let fits = matcher.path.matches(&path);
        let method = matcher.accepts(request.method);
        let hit = found.is_some_and(|found| found.name == route.name);
        let why = match (request.chosen_route, hit) {
            (Some(_), true) => "chosen by Envoy's context extension `route`".to_owned(),
            (Some(_), false) => "Envoy's context extension `route` names another".to_owned(),
            (None, true) if !method => "a preflight for one of its methods".to_owned(),
            (None, true) => "host, path and method fit, and nothing more specific does".to_owned(),
            (None, false) => missed(route, request, (host, fits, method), found, &on_path),
        };
        Considered { route, hit, host, path: fits, method, why }
    });
    rows.collect()
}

fn missed(
    route: &Arc<Route>,
    request: &Request<'_>,
    (host, path, method): (bool, bool, bool),
    found: Option<&Route>,
    on_path: &[&Arc<Route>],
) -> String {
    let matcher = &route.matcher;
    if !host {
        return match (&matcher.host, matcher.port) {
            (Some(name), _) if **name != *request.host.name => format!("for the host {name} alone"),
            (_, Some(port)) => format!("for the port {port} alone"),
            (Some(_) | None, None) => "for another host".to_owned(),
        };
    }
    if !path {
        return "another path".to_owned();
    }
    if !on_path.iter().any(|other| other.name == route.name) {
        let winner = on_path.first().map(|winner| (winner, difference(&winner.matcher, matcher)));
        return match (winner, found) {
            (Some((winner, by)), Some(_)) => format!("fits, but `{}` is more specific ({by})", winner.name),
            (Some((winner, by)), None) => {
                format!("`{}` is more specific ({by}), and nothing falls through to a broader route", winner.name)
            }
            (None, _) => "nothing fits".to_owned(),
        };
    }
    match (method, found) {
        (true, Some(found)) => format!("fits, but `{}` names the method", found.name),
        (true, None) => "fits, and refuses what was asked of it".to_owned(),
        (false, _) if request.method == Method::Other => {
            format!("takes {}, and what was asked is none that is known: methods are written in capitals", methods(matcher))
        }
        (false, _) => format!("takes {}, not {}", methods(matcher), request.method.as_str()),
    }
}

/// In what the first matcher is the more specific.
fn difference(winner: &Matcher, other: &Matcher) -> &'static str {
    if winner.host.is_some() && other.host.is_none() {
        "host"
    } else if winner.port.is_some() && other.port.is_none() {
        "port"
    } else {
        "path"
    }
}

/// The methods of a matcher, for people.
pub fn methods(matcher: &Matcher) -> String {
    if matcher.methods.is_empty() {
        return "any method".to_owned();
    }
    matcher.methods.iter().copied().map(Method::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::samples;
    use crate::model::route::samples::route;

    fn rules() -> Rules {
        let elsewhere = |mut route: Route| {
            route.matcher.host = Some("elsewhere".into());
            route
        };
        samples::rules(vec![
            route("all", &[], "/**"),
            route("one", &[Method::Get], "/things/{id}"),
            route("me", &[Method::Get], "/things/me"),
            route("change", &[Method::Put], "/things/{id}"),
            elsewhere(route("far", &[], "/things/me")),
        ])
    }

    fn told(method: Method, path: &str) -> Vec<(String, bool, String)> {
        let rules = rules();
        let request = samples::request(method, path, &[]);
        consider(&request, &rules).into_iter().map(|row| (row.route.name.to_string(), row.hit, row.why)).collect()
    }

    fn why(rows: &[(String, bool, String)], name: &str) -> String {
        rows.iter().find(|(route, ..)| route == name).map(|(_, hit, why)| format!("{hit} {why}")).unwrap()
    }

    #[test]
    fn every_route_is_there_with_a_reason() {
        let rows = told(Method::Get, "/things/me");
        assert_eq!(rows.len(), 5);
        assert_eq!(why(&rows, "me"), "true host, path and method fit, and nothing more specific does");
        assert_eq!(why(&rows, "one"), "false fits, but `me` is more specific (path)");
        assert_eq!(why(&rows, "all"), "false fits, but `me` is more specific (path)");
        assert_eq!(why(&rows, "far"), "false for the host elsewhere alone");
        let rows = told(Method::Get, "/things/7");
        assert_eq!(why(&rows, "me"), "false another path");
        assert_eq!(why(&rows, "change"), "false takes PUT, not GET");
        assert!(why(&rows, "one").starts_with("true"));
        let rows = told(Method::Other, "/things/7");
        assert_eq!(why(&rows, "change"), "false takes PUT, and what was asked is none that is known: methods are written in capitals");
        let rows = told(Method::Delete, "/things/7");
        assert!(rows.iter().all(|(_, hit, _)| !hit));
        assert_eq!(why(&rows, "all"), "false `one` is more specific (path), and nothing falls through to a broader route");
        // The most specific stands first.
        assert_eq!(rows[0].0, "far");
    }
}
