//! Which rule governs this request. Whatever no rule governs is refused here.

use std::borrow::Cow;
use std::sync::Arc;

use crate::check::decide::Denial;
use crate::check::decide::Particulars;
use crate::check::reasons::Reason;
use crate::model::request::Method;
use crate::model::request::Request;
use crate::model::request::Single;
use crate::model::route::Cors;
use crate::model::route::MatrixParameters;
use crate::model::route::PathTemplate;
use crate::model::route::Route;
use crate::model::route::RoutesOnPath;
use crate::model::route::TemplatePart;
use crate::model::route::Upgrades;
use crate::model::rules::Rules;

/// The route that governs the request, and what its path variables stand for. Made by [`find_route`] alone.
#[derive(Clone, Debug)]
pub struct Found<'r, 'm> {
    pub route: &'r Route,
    pub variables: Variables<'m>,
    passage: Passage,
}

/// The values of a route's path variables, read from the canonical path.
#[derive(Clone, Debug)]
pub struct Variables<'m> {
    template: &'m PathTemplate,
    /// As the route matched it, without `;` parameters.
    path: Cow<'m, str>,
    fit: Fit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passage {
    Ordinary,
    Preflight,
}

/// Whether the path is one of the template's. It need not be where the platform chose the route by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    Matches,
    Foreign,
}

impl<'r: 'm, 'm> Found<'r, 'm> {
    /// A door of ours, which chose its route itself.
    pub(in crate::check) fn at_our_door(route: &'r Route, request: &'m Request<'m>) -> Self {
        let variables = Variables { template: &route.matcher.path, path: request.path.without_matrix(), fit: Fit::Foreign };
        Self { route, variables, passage: Passage::Ordinary }
    }
}

/// The rule for this request.
///
/// # Errors
/// No route: 404. A path that is known, with a method that is not offered: 405. A tunnel that the route does not allow: 403. `;` in
/// a path whose route does not strip it: 400.
pub fn find_route<'r: 'm, 'm>(request: &'m Request<'m>, rules: &'r Rules) -> Result<Found<'r, 'm>, Denial> {
    match request.chosen_route {
        Some(name) => chosen(name, request, rules),
        None => searched(request, rules),
    }
}

/// The platform chose; what the client sent can only make the answer no.
fn chosen<'r: 'm, 'm>(name: &str, request: &'m Request<'m>, rules: &'r Rules) -> Result<Found<'r, 'm>, Denial> {
    let route = rules.route_index.named(name).ok_or_else(|| {
        Denial::new(Reason::NoRoute).because("the context extension `route` names no route of this config; check the Envoy configuration")
    })?;
    refuse_tunnel(request, Some(route))?;
    let passage = match passage_of(request, Some(route)) {
        Passage::Preflight => Passage::Preflight,
        Passage::Ordinary if route.matcher.accepts(request.method) => Passage::Ordinary,
        Passage::Ordinary => {
            let offered = Method::KNOWN.into_iter().filter(|method| route.matcher.accepts(*method)).collect();
            return Err(Denial::with(Reason::MethodNotAllowed, Particulars::Methods(offered)));
        }
    };
    found(route, request.path.without_matrix(), request, passage)
}

fn searched<'r: 'm, 'm>(request: &'m Request<'m>, rules: &'r Rules) -> Result<Found<'r, 'm>, Denial> {
    let path = request.path.without_matrix();
    let on_path = rules.route_index.on_path(&request.host, &path);
    if request.path.has_matrix() && !on_path.iter().any(|route| route.matrix_parameters == MatrixParameters::Stripped) {
        return Err(bad_matrix());
    }
    if on_path.is_empty() {
        return Err(Denial::new(Reason::NoRoute));
    }
    let route = on_path.of_method(request.method);
    refuse_tunnel(request, route)?;
    let preflighted = requested_method(request).and_then(|method| on_path.of_method(method));
    if let Some(preflighted) = preflighted
        && passage_of(request, Some(preflighted)) == Passage::Preflight
    {
        return found(preflighted, path, request, Passage::Preflight);
    }
    match route {
        Some(route) => found(route, path, request, Passage::Ordinary),
        None => Err(method_not_allowed(on_path)),
    }
}

fn found<'r: 'm, 'm>(route: &'r Arc<Route>, path: Cow<'m, str>, request: &Request<'_>, passage: Passage) -> Result<Found<'r, 'm>, Denial> {
    if request.path.has_matrix() && route.matrix_parameters == MatrixParameters::Refused {
        return Err(bad_matrix());
    }
    let template = &route.matcher.path;
    let fit = if request.chosen_route.is_none() || template.matches(&path) { Fit::Matches } else { Fit::Foreign };
    Ok(Found { route, variables: Variables { template, path, fit }, passage })
}

fn bad_matrix() -> Denial {
    Denial::with(Reason::BadPath, Particulars::Field { field: "path", issue: Cow::Borrowed("`;` is not allowed here") })
}

fn method_not_allowed(on_path: RoutesOnPath<'_>) -> Denial {
    Denial::with(Reason::MethodNotAllowed, Particulars::Methods(on_path.methods()))
}

fn refuse_tunnel(request: &Request<'_>, route: Option<&Arc<Route>>) -> Result<(), Denial> {
    if !request.upgrade() {
        return Ok(());
    }
    match route.map(|route| route.upgrades) {
        Some(Upgrades::Allowed) => Ok(()),
        // An ordinary method that is not offered is told so, upgrade or not.
        None if request.method != Method::Connect => Ok(()),
        Some(Upgrades::Refused) | None => Err(Denial::new(Reason::UpgradeRefused)),
    }
}

/// The method that a preflight asks about, if this is one: OPTIONS, one `Origin`, one requested method of the closed list, and
/// none of what a browser never sends with it (a body, credentials). Everything else is judged as an ordinary request.
fn requested_method(request: &Request<'_>) -> Option<Method> {
    if request.method != Method::Options {
        return None;
    }
    let headers = &request.headers;
    let no_body = !headers.contains("transfer-encoding") && matches!(headers.single("content-length"), Single::Absent | Single::Once(b"0"));
    if !no_body || headers.contains("authorization") || headers.contains("cookie") {
        return None;
    }
    match (headers.single("origin"), headers.single("access-control-request-method")) {
        (Single::Once(origin), Single::Once(method)) if !origin.is_empty() => {
            Method::parse(method).ok().filter(|method| *method != Method::Other)
        }
        (Single::Absent | Single::Once(_) | Single::Repeated, _) => None,
    }
}

fn passage_of(request: &Request<'_>, route: Option<&Arc<Route>>) -> Passage {
    let (Some(route), Some(method)) = (route, requested_method(request)) else {
        return Passage::Ordinary;
    };
    match route.cors {
        Cors::Preflight if route.matcher.accepts(method) => Passage::Preflight,
        Cors::Preflight | Cors::Ordinary => Passage::Ordinary,
    }
}

impl Found<'_, '_> {
    /// Whether this is a CORS preflight that the route lets pass: without a credential, and uncounted.
    pub fn preflight(&self) -> bool {
        self.passage == Passage::Preflight
    }
}

impl Variables<'_> {
    /// What the path variable of this name stands for. None: the route has no such variable, or the platform chose the route for a
    /// path that is not its own; then whatever depends on the variable must be refused.
    pub fn value(&self, name: &str) -> Option<&str> {
        match self.fit {
            Fit::Matches => self.template.value(name, &self.path),
            Fit::Foreign => None,
        }
    }

    /// The template with its variables filled in; none as soon as one of them has no value.
    pub fn fill(&self, template: &[TemplatePart]) -> Option<String> {
        let mut filled = String::new();
        for part in template {
            filled.push_str(match part {
                TemplatePart::Text(text) => text,
                TemplatePart::Variable(name) => self.value(name)?,
            });
        }
        Some(filled)
    }

    /// The canonical path as the route matched it.
    pub fn path(&self) -> &str {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::check::samples::request;
    use crate::check::samples::rules;
    use crate::model::route::parse_template;
    use crate::model::route::samples::route;

    const GET: &[Method] = &[Method::Get];
    const POST: &[Method] = &[Method::Post];
    const ALL: &[Method] = &[];
    const PREFLIGHT: &[(&str, &str)] = &[("origin", "https://app.example"), ("access-control-request-method", "POST")];

    fn table() -> Rules {
        let mut matrix = route("matrix", ALL, "/matrix/{x}");
        matrix.matrix_parameters = MatrixParameters::Stripped;
        let mut tunnel = route("tunnel", &[Method::Connect, Method::Get], "/tunnel");
        tunnel.upgrades = Upgrades::Allowed;
        let mut cors = route("cors", POST, "/cors");
        cors.cors = Cors::Preflight;
        rules(vec![
            route("admin", GET, "/admin"),
            route("admin-write", POST, "/admin"),
            route("user", GET, "/users/{user_id}"),
            route("catch-all", ALL, "/v1/{service}/{endpoint}"),
            route("files", GET, "/files/**"),
            route("connect-only", &[Method::Connect], "/connect"),
            matrix,
            tunnel,
            cors,
            route("cors-read", GET, "/cors"),
        ])
    }

    fn check(request: &Request<'_>, expected: Result<&str, Denial>) {
        let rules = table();
        let answer = find_route(request, &rules).map(|found| found.route.name.to_string());
        assert_eq!(answer, expected.map(str::to_owned), "{request:?}");
    }

    fn denied(reason: Reason) -> Result<&'static str, Denial> {
        Err(Denial::new(reason))
    }

    fn not_allowed(offered: &[Method]) -> Result<&'static str, Denial> {
        Err(Denial::with(Reason::MethodNotAllowed, Particulars::Methods(offered.to_vec())))
    }

    // battery: P10 P16 P17 P19 P20
    #[test]
    fn the_governing_route_is_found() {
        for (target, expected) in [
            ("/admin", "admin"),
            ("/adm%69n", "admin"),
            ("/%61dmin", "admin"),
            ("/admin?b=/../c", "admin"),
            ("/admin?", "admin"),
            ("/users/alice", "user"),
            ("/v1/users/list", "catch-all"),
            ("/files", "files"),
            ("/files/a/b", "files"),
        ] {
            check(&request(Method::Get, target, &[]), Ok(expected));
        }
        for target in
            ["/", "/Admin", "/ADMIN", "/admin/", "/admin.", "/admin%3Fx", "/admin%23x", "/users", "/users/", "/v1/a", "/filesystem"]
        {
            check(&request(Method::Get, target, &[]), denied(Reason::NoRoute));
        }
    }

    // battery: M1 M3 M4
    #[test]
    fn methods_are_refused_where_the_path_is_known() {
        check(&request(Method::Head, "/admin", &[]), Ok("admin"));
        check(&request(Method::Head, "/users/alice", &[]), Ok("user"));
        check(&request(Method::Post, "/admin", &[]), Ok("admin-write"));
        check(&request(Method::Post, "/users/alice", &[]), not_allowed(&[Method::Get, Method::Head]));
        for token in ["get", "GeT", "FOO", "TRACE", "PROPFIND"] {
            let method = Method::parse(token.as_bytes()).unwrap();
            check(&request(method, "/admin", &[]), not_allowed(&[Method::Get, Method::Head, Method::Post]));
            check(&request(method, "/v1/a/b", &[]), not_allowed(&KNOWN_BUT_CONNECT));
            check(&request(method, "/nowhere", &[]), denied(Reason::NoRoute));
        }
    }

    const KNOWN_BUT_CONNECT: [Method; 7] =
        [Method::Delete, Method::Get, Method::Head, Method::Options, Method::Patch, Method::Post, Method::Put];

    // battery: M5
    #[test]
    fn tunnels_need_a_route_that_allows_them() {
        let websocket: &[(&str, &str)] = &[("connection", "Upgrade"), ("upgrade", "websocket")];
        check(&request(Method::Get, "/admin", websocket), denied(Reason::UpgradeRefused));
        check(&request(Method::Get, "/admin", &[(":protocol", "websocket")]), denied(Reason::UpgradeRefused));
        check(&request(Method::Get, "/tunnel", websocket), Ok("tunnel"));
        check(&request(Method::Connect, "/tunnel", &[]), Ok("tunnel"));
        check(&request(Method::Connect, "/admin", &[]), denied(Reason::UpgradeRefused));
        check(&request(Method::Connect, "/connect", &[]), denied(Reason::UpgradeRefused));
        check(&request(Method::Connect, "/v1/a/b", &[]), denied(Reason::UpgradeRefused));
        check(&request(Method::Connect, "/nowhere", &[]), denied(Reason::NoRoute));
    }

    // battery: P6
    #[test]
    fn matrix_parameters_need_a_route_that_strips_them() {
        for target in ["/admin;v=1", "/users/alice;x", "/users;x/alice", "/nowhere;x", "/files/a;b/c"] {
            check(&request(Method::Get, target, &[]), Err(bad_matrix()));
        }
        check(&request(Method::Get, "/matrix/a;v=1", &[]), Ok("matrix"));
        check(&request(Method::Get, "/matrix;a=1/a;v=1;w=2", &[]), Ok("matrix"));
        let rules = table();
        let matrix = request(Method::Get, "/matrix;a=1/value;v=1", &[]);
        let found = find_route(&matrix, &rules).unwrap();
        assert_eq!((found.variables.value("x"), found.variables.path()), (Some("value"), "/matrix/value"));
    }

    // battery: M6 M8
    #[test]
    fn only_the_exact_preflight_passes() {
        let rules = table();
        let preflight = request(Method::Options, "/cors", PREFLIGHT);
        let found = find_route(&preflight, &rules).unwrap();
        assert_eq!((&*found.route.name, found.preflight()), ("cors", true));

        let with = |extra: (&'static str, &'static str)| [PREFLIGHT, &[extra]].concat();
        check(&request(Method::Options, "/cors", &with(("content-length", "0"))), Ok("cors"));
        let look_alikes: Vec<Vec<(&str, &str)>> = vec![
            vec![],
            vec![("origin", "https://app.example")],
            vec![("access-control-request-method", "POST")],
            vec![("origin", ""), ("access-control-request-method", "POST")],
            vec![("origin", "https://app.example"), ("access-control-request-method", "GET")],
            vec![("origin", "https://app.example"), ("access-control-request-method", "post")],
            vec![("origin", "https://app.example"), ("access-control-request-method", "DELETE")],
            vec![("origin", "https://app.example"), ("access-control-request-method", "")],
            with(("content-length", "5")),
            with(("transfer-encoding", "chunked")),
            with(("authorization", "Bearer x")),
            with(("cookie", "a=b")),
            with(("origin", "https://other.example")),
            with(("access-control-request-method", "GET")),
        ];
        for headers in &look_alikes {
            check(&request(Method::Options, "/cors", headers), not_allowed(&[Method::Get, Method::Head, Method::Post]));
        }
        check(&request(Method::Options, "/admin", PREFLIGHT), not_allowed(&[Method::Get, Method::Head, Method::Post]));
        let ordinary = request(Method::Options, "/v1/a/b", PREFLIGHT);
        assert!(!find_route(&ordinary, &rules).unwrap().preflight());
        let get = request(Method::Post, "/cors", PREFLIGHT);
        assert!(!find_route(&get, &rules).unwrap().preflight());
    }

    #[test]
    fn a_route_chosen_by_the_platform_stands_whatever_the_client_sends() {
        let choose = |name: &'static str, method, target: &'static str| {
            let mut chosen = request(method, target, &[]);
            chosen.chosen_route = Some(name);
            chosen
        };
        check(&choose("admin", Method::Get, "/users/alice"), Ok("admin"));
        check(&choose("admin", Method::Get, "/nowhere"), Ok("admin"));
        check(&choose("admin", Method::Post, "/admin"), not_allowed(&[Method::Get, Method::Head]));
        check(&choose("admin", Method::Other, "/admin"), not_allowed(&[Method::Get, Method::Head]));
        check(&choose("admin", Method::Connect, "/admin"), denied(Reason::UpgradeRefused));
        check(&choose("admin", Method::Get, "/admin;x"), Err(bad_matrix()));
        check(&choose("tunnel", Method::Connect, "/"), Ok("tunnel"));
        for unknown in ["", "Admin", "nobody"] {
            let rules = table();
            let request = choose(unknown, Method::Get, "/admin");
            assert_eq!(find_route(&request, &rules).unwrap_err().reason, Reason::NoRoute, "{unknown}");
        }
        let mut preflight = request(Method::Options, "/anything", PREFLIGHT);
        preflight.chosen_route = Some("cors");
        assert!(find_route(&preflight, &table()).unwrap().preflight());
    }

    #[test]
    fn variables_are_read_from_the_path() {
        let rules = table();
        let plain = request(Method::Get, "/v1/user%73/li%20st", &[]);
        let variables = find_route(&plain, &rules).unwrap().variables;
        assert_eq!(
            (variables.value("service"), variables.value("endpoint"), variables.value("other")),
            (Some("users"), Some("li%20st"), None)
        );
        assert_eq!(variables.fill(&parse_template("{service}:{endpoint}!").unwrap()).as_deref(), Some("users:li%20st!"));
        assert_eq!(variables.fill(&parse_template("{service}{other}").unwrap()), None);

        let mut chosen = request(Method::Get, "/v1/users", &[]);
        chosen.chosen_route = Some("catch-all");
        let foreign = find_route(&chosen, &rules).unwrap().variables;
        assert_eq!(foreign.value("service"), None);
        let mut chosen = request(Method::Get, "/v1/users/list", &[]);
        chosen.chosen_route = Some("catch-all");
        assert_eq!(find_route(&chosen, &rules).unwrap().variables.value("service"), Some("users"));
    }

    proptest! {
        /// A query never changes the route.
        #[test]
        fn the_query_is_no_part_of_the_path(target in prop_oneof![Just("/admin"), Just("/users/x"), Just("/nowhere")], query in "[a-z/.;%=&?#]{0,40}") {
            let rules = table();
            let with_query = format!("{target}?{query}");
            let (plain, queried) = (request(Method::Get, target, &[]), request(Method::Get, &with_query, &[]));
            let name = |request: &Request<'_>| find_route(request, &rules).map(|found| found.route.name.clone());
            prop_assert_eq!(name(&plain), name(&queried));
        }
    }
}
