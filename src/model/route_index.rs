//! All routes at once: which of them a request falls to, found in one walk down a tree of segments.
//!
//! The most specific host, port and path decide first; only then the method. So a method that a specific path does not offer is
//! refused there, and never falls through to a broader rule that may ask for less.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::path_template::split_segment;
use crate::model::request::Host;
use crate::model::request::Method;
use crate::model::route::Ending;
use crate::model::route::Route;
use crate::model::route::Segment;

/// Two routes, by their positions in the table, of which neither could win over the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteClash {
    pub first: usize,
    pub second: usize,
    pub over: ClashOver,
}

/// What two routes both claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClashOver {
    /// Some request would match both, equally well.
    Requests,
    Name,
}

/// The routes, indexed so that the most specific match is found first. An empty index matches nothing.
#[derive(Debug, Default)]
pub struct RouteIndex {
    hosts: BTreeMap<Arc<str>, Ports>,
    any_host: Ports,
    names: BTreeMap<Arc<str>, Arc<Route>>,
    shadowed: Vec<usize>,
}

/// The routes of the most specific path that matched, whatever their methods.
#[derive(Clone, Copy, Debug)]
pub struct RoutesOnPath<'r>(&'r [Entry]);

#[derive(Debug, Default)]
struct Ports {
    exact: BTreeMap<u16, Node>,
    any: Node,
}

/// A place in the tree: what may follow, and the routes whose path ends here.
#[derive(Debug, Default)]
struct Node {
    literals: BTreeMap<Arc<str>, Node>,
    variable: Option<Box<Node>>,
    exact: Vec<Entry>,
    slash: Vec<Entry>,
    rest: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    position: usize,
    route: Arc<Route>,
}

impl RouteIndex {
    /// Builds the index of a table in the file's order.
    ///
    /// # Errors
    /// Every pair of routes that clash.
    pub fn build(routes: &[Arc<Route>]) -> Result<Self, Vec<RouteClash>> {
        let mut index = Self::default();
        let mut names: BTreeMap<&str, usize> = BTreeMap::new();
        let mut clashes = Vec::new();
        for (position, route) in routes.iter().enumerate() {
            if let Some(first) = names.insert(&route.name, position) {
                clashes.push(RouteClash { first, second: position, over: ClashOver::Name });
            }
            index.names.insert(Arc::clone(&route.name), Arc::clone(route));
            index.insert(Entry { position, route: Arc::clone(route) });
        }
        let mut shadowed = Vec::new();
        for root in index.roots_mut() {
            root.finish(Depth::Root, &mut clashes, &mut shadowed);
        }
        if !clashes.is_empty() {
            clashes.sort_unstable();
            return Err(clashes);
        }
        shadowed.sort_unstable();
        shadowed.dedup();
        index.shadowed = shadowed;
        Ok(index)
    }

    /// The routes of the most specific host, port and path that match. Allocates nothing.
    pub fn on_path(&self, host: &Host<'_>, path: &str) -> RoutesOnPath<'_> {
        let rest = path.strip_prefix('/');
        let of_host = self.hosts.get(&*host.name);
        let found = [of_host, Some(&self.any_host)].into_iter().flatten().find_map(|ports| {
            let of_port = host.port.and_then(|port| ports.exact.get(&port));
            [of_port, Some(&ports.any)].into_iter().flatten().find_map(|root| root.walk(rest))
        });
        RoutesOnPath(found.unwrap_or_default())
    }

    /// The route of this name.
    pub fn named(&self, name: &str) -> Option<&Arc<Route>> {
        self.names.get(name)
    }

    /// Positions of the routes that can never win, because more specific ones take all of their requests.
    pub fn shadowed(&self) -> &[usize] {
        &self.shadowed
    }

    fn insert(&mut self, entry: Entry) {
        let matcher = &entry.route.matcher;
        let ports = match &matcher.host {
            Some(host) => self.hosts.entry(Arc::clone(host)).or_default(),
            None => &mut self.any_host,
        };
        let mut node = match matcher.port {
            Some(port) => ports.exact.entry(port).or_default(),
            None => &mut ports.any,
        };
        for segment in &matcher.path.segments {
            node = match segment {
                Segment::Literal(text) => node.literals.entry(Arc::clone(text)).or_default(),
                Segment::Variable(_) => node.variable.get_or_insert_default(),
            };
        }
        let entries = match matcher.path.ending {
            Ending::Exact => &mut node.exact,
            Ending::Slash => &mut node.slash,
            Ending::Rest => &mut node.rest,
        };
        entries.push(entry);
    }

    fn roots_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        let ports = self.hosts.values_mut().chain(std::iter::once(&mut self.any_host));
        ports.flat_map(|ports| ports.exact.values_mut().chain(std::iter::once(&mut ports.any)))
    }
}

impl<'r> RoutesOnPath<'r> {
    /// Whether no route has this path.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Every route of the path.
    pub fn iter(self) -> impl Iterator<Item = &'r Arc<Route>> {
        self.0.iter().map(|entry| &entry.route)
    }

    /// The route for a method.
    pub fn of_method(self, method: Method) -> Option<&'r Arc<Route>> {
        // Explicit methods stand before all, and no two routes of equal rank share a method.
        self.iter().find(|route| route.matcher.accepts(method))
    }

    /// The methods that some route of the path takes, sorted: for `Allow`.
    pub fn methods(self) -> Vec<Method> {
        Method::KNOWN.into_iter().filter(|method| self.of_method(*method).is_some()).collect()
    }
}

/// Whether a node is the root of its tree, where no path ends without a slash.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    Root,
    Inner,
}

impl Node {
    /// `rest` is what follows the last slash passed; none: the path ended with a whole segment. Every node is visited at most
    /// once, so the work is bounded by the table, and the recursion by the longest template.
    fn walk(&self, rest: Option<&str>) -> Option<&[Entry]> {
        let own = match rest {
            None => &self.exact,
            Some("") => &self.slash,
            Some(text) => {
                let (segment, next) = split_segment(text);
                let literal = self.literals.get(segment).and_then(|node| node.walk(next));
                let deeper = literal.or_else(|| self.variable.as_ref().filter(|_| !segment.is_empty()).and_then(|node| node.walk(next)));
                return deeper.or_else(|| some_entries(&self.rest));
            }
        };
        some_entries(own).or_else(|| some_entries(&self.rest))
    }

    fn finish(&mut self, depth: Depth, clashes: &mut Vec<RouteClash>, shadowed: &mut Vec<usize>) {
        for entries in [&mut self.exact, &mut self.slash, &mut self.rest] {
            entries.sort_by_key(|entry| (entry.route.matcher.methods.is_empty(), entry.position));
            find_clashes(entries, clashes);
            find_shadowed(entries, shadowed);
        }
        let ends_taken = (depth == Depth::Root || !self.exact.is_empty()) && !self.slash.is_empty();
        if ends_taken && self.variable.as_ref().is_some_and(|node| node.takes_all()) {
            shadowed.extend(self.rest.iter().map(|entry| entry.position));
        }
        for node in self.literals.values_mut().chain(self.variable.as_deref_mut()) {
            node.finish(Depth::Inner, clashes, shadowed);
        }
    }

    /// Whether every path that gets here finds a route.
    fn takes_all(&self) -> bool {
        !self.rest.is_empty()
            || (!self.exact.is_empty() && !self.slash.is_empty() && self.variable.as_ref().is_some_and(|node| node.takes_all()))
    }
}

fn some_entries(entries: &[Entry]) -> Option<&[Entry]> {
    Some(entries).filter(|entries| !entries.is_empty())
}

fn find_clashes(entries: &[Entry], clashes: &mut Vec<RouteClash>) {
    for (index, one) in entries.iter().enumerate() {
        for other in entries.iter().skip(index + 1) {
            let (one_matcher, other_matcher) = (&one.route.matcher, &other.route.matcher);
            let same_rank = one_matcher.methods.is_empty() == other_matcher.methods.is_empty();
            if same_rank && Method::KNOWN.into_iter().any(|method| one_matcher.accepts(method) && other_matcher.accepts(method)) {
                let (first, second) = (one.position.min(other.position), one.position.max(other.position));
                clashes.push(RouteClash { first, second, over: ClashOver::Requests });
            }
        }
    }
}

fn find_shadowed(entries: &[Entry], shadowed: &mut Vec<usize>) {
    for (index, entry) in entries.iter().enumerate() {
        let mut own = Method::KNOWN.into_iter().filter(|method| entry.route.matcher.accepts(*method));
        if own.all(|method| entries.iter().take(index).any(|before| before.route.matcher.accepts(method))) {
            shadowed.push(entry.position);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::route::PathTemplate;
    use crate::model::route::samples;

    const GET: &[Method] = &[Method::Get];
    const POST: &[Method] = &[Method::Post];
    const ALL: &[Method] = &[];

    /// `host[:port] path` or only a path, with its methods; the route is named after the text.
    fn route(methods: &[Method], place: &str) -> Arc<Route> {
        let (host, path) = place.split_once(' ').unwrap_or(("", place));
        let (host, port) = host.split_once(':').unwrap_or((host, ""));
        let mut route = samples::route(&format!("{methods:?} {place}"), methods, path);
        route.matcher.host = Some(host).filter(|host| !host.is_empty()).map(Arc::from);
        route.matcher.port = port.parse().ok();
        Arc::new(route)
    }

    fn build(routes: &[Arc<Route>]) -> RouteIndex {
        RouteIndex::build(routes).unwrap_or_else(|clashes| panic!("{clashes:?}"))
    }

    fn found(index: &RouteIndex, method: Method, host: &str, path: &str) -> Option<usize> {
        let host = Host::parse(host.as_bytes()).unwrap();
        let winner = index.on_path(&host, path).of_method(method)?;
        index.on_path(&host, path).0.iter().find(|entry| Arc::ptr_eq(&entry.route, winner)).map(|entry| entry.position)
    }

    fn clashes(routes: &[(&[Method], &str)]) -> Vec<(usize, usize)> {
        let routes: Vec<Arc<Route>> = routes.iter().map(|(methods, place)| route(methods, place)).collect();
        match RouteIndex::build(&routes) {
            Ok(_) => Vec::new(),
            Err(clashes) => {
                clashes.iter().filter(|clash| clash.over == ClashOver::Requests).map(|clash| (clash.first, clash.second)).collect()
            }
        }
    }

    fn shadowed(routes: &[(&[Method], &str)]) -> Vec<usize> {
        let routes: Vec<Arc<Route>> = routes.iter().map(|(methods, place)| route(methods, place)).collect();
        build(&routes).shadowed().to_vec()
    }

    #[test]
    fn the_most_specific_route_wins_whatever_the_file_says_first() {
        let routes = [
            route(ALL, "/**"),
            route(ALL, "/v1/**"),
            route(ALL, "/v1/{service}/{endpoint}"),
            route(GET, "/v1/users/{id}"),
            route(ALL, "/v1/users/{id}"),
            route(ALL, "/v1/users/me"),
            route(ALL, "/v1/users/"),
            route(ALL, "/v1/users"),
            route(ALL, "a.example /v1/**"),
            route(ALL, "a.example:8443 /**"),
            route(ALL, ":8443 /v1/users"),
        ];
        let index = build(&routes);
        for (method, host, path, expected) in [
            (Method::Get, "x", "/", 0),
            (Method::Get, "x", "/other", 0),
            (Method::Get, "x", "/v1", 1),
            (Method::Get, "x", "/v1/", 1),
            (Method::Get, "x", "/v1/a", 1),
            (Method::Get, "x", "/v1/a/b", 2),
            (Method::Get, "x", "/v1/a/b/", 1),
            (Method::Get, "x", "/v1/a/b/c", 1),
            (Method::Get, "x", "/v1/users/7", 3),
            (Method::Head, "x", "/v1/users/7", 3),
            (Method::Post, "x", "/v1/users/7", 4),
            (Method::Get, "x", "/v1/users/me", 5),
            (Method::Get, "x", "/v1/users/", 6),
            (Method::Get, "x", "/v1/users", 7),
            (Method::Get, "x:80", "/v1/users", 7),
            (Method::Get, "x:8443", "/v1/users", 10),
            (Method::Get, "x:8443", "/v1/users/7", 3),
            (Method::Get, "a.example", "/v1/users", 8),
            (Method::Get, "a.example:80", "/v1/users", 8),
            (Method::Get, "a.example", "/v2", 0),
            (Method::Get, "a.example:8443", "/v1/users", 9),
        ] {
            assert_eq!(found(&index, method, host, path), Some(expected), "{method:?} {host} {path}");
        }
    }

    // battery: O1
    #[test]
    fn the_port_is_left_out_unless_a_route_names_it() {
        let index = build(&[route(ALL, "a.example /x"), route(ALL, "a.example:8080 /x"), route(ALL, "[::1]:8080 /x")]);
        assert_eq!(found(&index, Method::Get, "a.example", "/x"), Some(0));
        assert_eq!(found(&index, Method::Get, "A.Example.:9090", "/x"), Some(0));
        assert_eq!(found(&index, Method::Get, "a.example:8080", "/x"), Some(1));
        assert_eq!(found(&index, Method::Get, "b.example:8080", "/x"), None);
    }

    // battery: P25
    #[test]
    fn prefixes_are_whole_segments() {
        let index = build(&[route(ALL, "/v1/x/**")]);
        for path in ["/v1/x", "/v1/x/", "/v1/x/y", "/v1/x/y/z/"] {
            assert_eq!(found(&index, Method::Get, "h", path), Some(0), "{path}");
        }
        for path in ["/v1/xy", "/v1/x.", "/v1/X", "/v1", "/v1/", "/v1/x%2A"] {
            assert_eq!(found(&index, Method::Get, "h", path), None, "{path}");
        }
    }

    #[test]
    fn a_specific_path_refuses_the_methods_that_it_does_not_offer() {
        let index = build(&[route(ALL, "/**"), route(GET, "/admin"), route(POST, "/admin")]);
        let host = Host::parse(b"h").unwrap();
        let on_path = index.on_path(&host, "/admin");
        assert!(on_path.of_method(Method::Delete).is_none() && !on_path.is_empty());
        assert_eq!(on_path.methods(), [Method::Get, Method::Head, Method::Post]);
        assert_eq!(on_path.iter().count(), 2);
        assert_eq!(index.on_path(&host, "/other").methods().len(), 7);
        assert!(RouteIndex::default().on_path(&host, "/").is_empty());
    }

    #[test]
    fn names_find_routes() {
        let index = build(&[route(ALL, "/a"), route(ALL, "/b")]);
        assert_eq!(index.named("[] /b").map(|route| &*route.name), Some("[] /b"));
        assert!(index.named("").is_none());
        let twice = [route(ALL, "/a"), Arc::new(samples::route("[] /a", ALL, "/b"))];
        assert_eq!(RouteIndex::build(&twice).unwrap_err(), [RouteClash { first: 0, second: 1, over: ClashOver::Name }]);
    }

    // battery: C7
    #[test]
    fn routes_that_claim_the_same_requests_clash() {
        let get_post: &[Method] = &[Method::Get, Method::Post];
        let head: &[Method] = &[Method::Head];
        assert_eq!(clashes(&[(ALL, "/a"), (ALL, "/a")]), [(0, 1)]);
        assert_eq!(clashes(&[(GET, "/a"), (GET, "/a")]), [(0, 1)]);
        assert_eq!(clashes(&[(GET, "/a"), (ALL, "/b"), (get_post, "/a")]), [(0, 2)]);
        assert_eq!(clashes(&[(GET, "/a/{x}"), (GET, "/a/{y}")]), [(0, 1)]);
        assert_eq!(clashes(&[(GET, "/a"), (head, "/a")]), [(0, 1)]);
        assert_eq!(clashes(&[(GET, "h /a/**"), (GET, "h /a/**"), (GET, "h /a/**")]), [(0, 1), (0, 2), (1, 2)]);
        for apart in [
            [(GET, "/a"), (POST, "/a")],
            [(GET, "/a"), (ALL, "/a")],
            [(GET, "/a"), (GET, "/a/")],
            [(GET, "/a/{x}"), (GET, "/a/b")],
            [(GET, "/a/{x}"), (GET, "/a/**")],
            [(GET, "/a"), (GET, "h /a")],
            [(GET, "h /a"), (GET, "h:80 /a")],
            [(GET, "/a"), (GET, "/A")],
        ] {
            assert_eq!(clashes(&apart), [], "{apart:?}");
        }
    }

    // battery: C7
    #[test]
    fn routes_that_never_win_are_named() {
        let but_connect: &[Method] = &[Method::Delete, Method::Get, Method::Options, Method::Patch, Method::Post, Method::Put];
        assert_eq!(shadowed(&[(ALL, "/a"), (but_connect, "/a")]), [0]);
        assert_eq!(shadowed(&[(ALL, "/a"), (GET, "/a")]), Vec::<usize>::new());
        assert_eq!(shadowed(&[(ALL, "/**"), (GET, "/"), (GET, "/{x}/**")]), [0]);
        assert_eq!(shadowed(&[(ALL, "/**"), (GET, "/{x}/**")]), Vec::<usize>::new());
        assert_eq!(shadowed(&[(ALL, "/a/**"), (GET, "/a"), (GET, "/a/"), (ALL, "/a/{x}/**")]), [0]);
        assert_eq!(shadowed(&[(ALL, "/a/**"), (GET, "/a/"), (ALL, "/a/{x}/**")]), Vec::<usize>::new());
        assert_eq!(shadowed(&[(ALL, "/a/**"), (GET, "/a"), (GET, "/a/"), (GET, "/a/{x}"), (GET, "/a/{x}/"), (GET, "/a/{x}/{y}/**")]), [0]);
        assert_eq!(shadowed(&[(ALL, "/**"), (GET, "h /"), (GET, "h /{x}/**")]), Vec::<usize>::new());
    }

    fn any_template() -> impl Strategy<Value = String> {
        proptest::collection::vec(prop_oneof![Just("a"), Just("b"), Just("{}")], 0..4).prop_flat_map(|segments| {
            let ending = if segments.is_empty() {
                prop_oneof![Just("/"), Just("/**")].boxed()
            } else {
                prop_oneof![Just(""), Just("/"), Just("/**")].boxed()
            };
            ending.prop_map(move |ending| {
                let mut text = String::new();
                for (position, segment) in segments.iter().enumerate() {
                    text.push('/');
                    text.push_str(&segment.replace("{}", &format!("{{x{position}}}")));
                }
                text + ending
            })
        })
    }

    proptest! {
        /// The tree answers as a search through all matchers in their order does.
        #[test]
        fn the_tree_agrees_with_the_order(
            table in proptest::collection::vec((prop_oneof![Just(""), Just("h "), Just("h:1 "), Just(":1 ")], any_template(), 0usize..4), 1..14),
            host in prop_oneof![Just("h"), Just("h:1"), Just("g"), Just("g:1")],
            path in "(/[abc]){0,4}/?",
            method in prop_oneof![Just(Method::Get), Just(Method::Head), Just(Method::Post), Just(Method::Delete), Just(Method::Other)],
        ) {
            prop_assume!(path.starts_with('/'));
            let methods: [&[Method]; 4] = [ALL, GET, POST, &[Method::Get, Method::Post]];
            let mut routes: Vec<Arc<Route>> = Vec::new();
            for (place, template, set) in &table {
                routes.push(route(methods[*set], &format!("{place}{template}")));
                if RouteIndex::build(&routes).is_err() {
                    routes.pop();
                }
            }
            let index = build(&routes);
            let host = Host::parse(host.as_bytes()).unwrap();
            let on_path = |route: &&Arc<Route>| route.matcher.matches_host(&host.name, host.port) && route.matcher.path.matches(&path);
            let mut candidates: Vec<&Arc<Route>> = routes.iter().filter(on_path).collect();
            candidates.sort_by(|one, other| one.matcher.cmp(&other.matcher));
            let shape = |route: &Arc<Route>| -> (Option<Arc<str>>, Option<u16>, PathTemplate) {
                (route.matcher.host.clone(), route.matcher.port, route.matcher.path.clone())
            };
            let best = candidates.first().map(|route| shape(route));
            let expected = candidates.iter().find(|route| Some(shape(route)) == best && route.matcher.accepts(method));
            let answer = index.on_path(&host, &path);
            prop_assert_eq!(answer.is_empty(), candidates.is_empty());
            prop_assert_eq!(answer.of_method(method).map(|route| route.name.clone()), expected.map(|route| route.name.clone()));
            for position in index.shadowed() {
                prop_assert!(answer.of_method(method).is_none_or(|route| !Arc::ptr_eq(route, &routes[*position])));
            }
        }
    }
}
