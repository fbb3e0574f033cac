//! May this caller do this here: scopes, tenancy, environment.
//!
//! Nobody is let through for want of somebody to judge: where a route asks anything of its caller, there must be one.

use std::borrow::Cow;
use std::sync::Arc;

use crate::check::decide::Denial;
use crate::check::decide::Particulars;
use crate::check::find_route::Found;
use crate::check::find_route::Variables;
use crate::check::reasons::Reason;
use crate::model::caller::Caller;
use crate::model::route::Auth;
use crate::model::route::Route;
use crate::model::route::ScopeTemplate;
use crate::model::route::TemplatePart;
use crate::model::scope::Scope;
use crate::model::scope::ScopeSet;

/// The caller may do this on this route. Only [`authorise`] makes one.
#[derive(Debug)]
pub struct Permit<'r> {
    route: &'r Route,
    caller: Option<Arc<Caller>>,
    reason: Reason,
}

impl<'r> Permit<'r> {
    pub fn route(&self) -> &'r Route {
        self.route
    }

    /// Who is let in; nobody on public routes, for anonymous requests and for preflights.
    pub fn caller(&self) -> Option<&Caller> {
        self.caller.as_deref()
    }

    /// Which row of kind allow this will be, if no later room says no.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    pub(in crate::check) fn into_caller(self) -> Option<Arc<Caller>> {
        self.caller
    }
}

/// # Errors
/// [`Reason::MissingCredential`] where the route wants somebody, [`Reason::InsufficientScope`], [`Reason::WrongTenant`],
/// [`Reason::WrongEnvironment`].
pub fn authorise<'r>(caller: Option<Arc<Caller>>, found: &Found<'r, '_>) -> Result<Permit<'r>, Denial> {
    let route = found.route;
    if found.preflight() {
        return Ok(Permit { route, caller: None, reason: Reason::Preflight });
    }
    match (&caller, route.auth) {
        (Some(caller), Auth::Required | Auth::Optional) => {
            judge(caller, route, &found.variables)?;
            Ok(Permit { route, caller: Some(Arc::clone(caller)), reason: Reason::Ok })
        }
        // Credentials are not read on public routes, so nobody can have come of one.
        (Some(_), Auth::Public) => Err(Denial::new(Reason::Internal).because("a caller on a public route")),
        (None, Auth::Required) => Err(Denial::new(Reason::MissingCredential)),
        (None, Auth::Optional) => open_to_anybody(route).map(|()| Permit { route, caller: None, reason: Reason::Anonymous }),
        (None, Auth::Public) => open_to_anybody(route).map(|()| Permit { route, caller: None, reason: Reason::Public }),
    }
}

fn judge(caller: &Caller, route: &Route, variables: &Variables<'_>) -> Result<(), Denial> {
    // What is no scope cannot be held, not even by `*`; nor can what the path leaves blank.
    let holds = |template: &ScopeTemplate| {
        fill(template, variables).is_some_and(|wanted| caller.scopes.covers(&wanted) && Scope::parse(&wanted).is_ok())
    };
    let any_of = &route.scopes.any_of;
    if !route.scopes.all_of.iter().all(holds) || !(any_of.is_empty() || any_of.iter().any(holds)) {
        return Err(Denial::with(Reason::InsufficientScope, Particulars::Scopes(wanted_by(route, variables))));
    }
    if let Some(variable) = &route.tenant
        && (caller.organization.is_none() || variables.value(variable) != caller.organization.as_deref())
    {
        return Err(Denial::new(Reason::WrongTenant));
    }
    if !route.environments.is_empty() && !route.environments.contains(&caller.environment) {
        return Err(Denial::new(Reason::WrongEnvironment));
    }
    Ok(())
}

fn open_to_anybody(route: &Route) -> Result<(), Denial> {
    if route.scopes.all_of.is_empty() && route.scopes.any_of.is_empty() && route.tenant.is_none() {
        return Ok(());
    }
    Err(Denial::new(Reason::MissingCredential))
}

/// The scope that the template makes of this path; none where the path has no such variable, which a route that the platform
/// chose by name may lack.
fn fill<'t>(template: &'t ScopeTemplate, variables: &'t Variables<'_>) -> Option<Cow<'t, str>> {
    let value = |part: &'t TemplatePart| match part {
        TemplatePart::Text(text) => Some(&**text),
        TemplatePart::Variable(name) => variables.value(name),
    };
    if let [only] = template.0.as_slice() {
        return value(only).map(Cow::Borrowed);
    }
    template.0.iter().map(value).collect::<Option<String>>().map(Cow::Owned)
}

/// Every scope that the route names, for the challenge. What the path made unfit for a header is left out.
fn wanted_by(route: &Route, variables: &Variables<'_>) -> String {
    let templates = route.scopes.all_of.iter().chain(&route.scopes.any_of);
    let wanted = templates.filter_map(|template| fill(template, variables)).filter_map(|wanted| Scope::parse(&wanted).ok());
    ScopeSet::new(wanted).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::doubles;
    use crate::check::doubles::scopes;
    use crate::check::find_route::find_route;
    use crate::check::samples;
    use crate::model::caller::Environment;
    use crate::model::request::Method;
    use crate::model::request::Request;
    use crate::model::route::Cors;
    use crate::model::route::ScopeDemand;
    use crate::model::route::parse_template;
    use crate::model::route::samples::route;

    fn caller(held: &str) -> Caller {
        Caller { scopes: scopes(held), ..doubles::caller() }
    }

    fn demand(all_of: &[&str], any_of: &[&str]) -> ScopeDemand {
        let templates = |texts: &[&str]| texts.iter().map(|text| ScopeTemplate(parse_template(text).unwrap())).collect();
        ScopeDemand { all_of: templates(all_of), any_of: templates(any_of) }
    }

    /// What becomes of a request on the one route of a table.
    fn judged(route: &Route, caller: Option<Caller>, request: &Request<'_>) -> Result<Reason, Denial> {
        let rules = samples::rules(vec![route.clone()]);
        let found = find_route(request, &rules).unwrap();
        authorise(caller.map(Arc::new), &found).map(|permit| permit.reason())
    }

    fn get(path: &str) -> Request<'_> {
        samples::request(Method::Get, path, &[])
    }

    // battery: J49
    #[test]
    fn every_scope_of_all_and_one_of_any_is_wanted() {
        // (all_of, any_of, held, permitted)
        let table: [(&[&str], &[&str], &str, bool); 16] = [
            (&[], &[], "", true),
            (&["a:read"], &[], "a:read", true),
            (&["a:read"], &[], "a:*", true),
            (&["a:read"], &[], "a:write", false),
            (&["a:read"], &[], "", false),
            (&["a:read"], &[], "a:readall", false),
            (&["a:read", "b:read"], &[], "a:read b:read", true),
            (&["a:read", "b:read"], &[], "a:read", false),
            (&[], &["a:read", "b:read"], "b:read", true),
            (&[], &["a:read", "b:read"], "c:read", false),
            (&["a:read"], &["b:read", "c:read"], "a:read c:read", true),
            (&["a:read"], &["b:read", "c:read"], "c:read", false),
            (&["a:read"], &["b:read", "c:read"], "a:read", false),
            (&["a:read"], &["b:read"], "*", true),
            (&["tollgate:admin"], &[], "*", false),
            (&["tollgate:admin"], &[], "tollgate:admin", true),
        ];
        for (all_of, any_of, held, permitted) in table {
            let route = Route { scopes: demand(all_of, any_of), ..route("r", &[], "/x") };
            let result = judged(&route, Some(caller(held)), &get("/x"));
            match result {
                Ok(reason) => assert!(permitted && reason == Reason::Ok, "{all_of:?} {any_of:?} {held}"),
                Err(denial) => {
                    assert!(!permitted, "{all_of:?} {any_of:?} {held}");
                    assert_eq!(denial.reason, Reason::InsufficientScope);
                    let mut wanted: Vec<&str> = all_of.iter().chain(any_of).copied().collect();
                    wanted.sort_unstable();
                    assert_eq!(denial.particulars, Particulars::Scopes(wanted.join(" ")));
                }
            }
        }
    }

    #[test]
    fn a_scope_filled_from_the_path_is_the_services_name_or_the_star() {
        let too_long = &format!("/v1/{}/track", "x".repeat(129));
        // (held, path, permitted): the document's bare scopes.
        let table = [
            ("location", "/v1/location/track", true),
            ("*", "/v1/location/track", true),
            ("location", "/v1/weather/now", false),
            ("location", "/v1/locations/track", false),
            ("", "/v1/location/track", false),
            // A path cannot ask for the star, or for what no name can hold.
            ("location", "/v1/*/track", false),
            ("*", "/v1/tollgate:admin/track", false),
            ("*", too_long, false),
            // Escapes of reserved characters stay escapes.
            ("a", "/v1/a%22b/track", false),
        ];
        for (held, path, permitted) in table {
            let route = Route { scopes: demand(&["{service}"], &[]), ..route("r", &[], "/v1/{service}/{endpoint}") };
            let rules = samples::rules(vec![route.clone()]);
            let request = get(path);
            let Ok(found) = find_route(&request, &rules) else { continue };
            assert_eq!(authorise(Some(Arc::new(caller(held))), &found).is_ok(), permitted, "{held} {path}");
        }
        let route = Route { scopes: demand(&["{service}:call"], &[]), ..route("r", &[], "/v1/{service}") };
        assert!(judged(&route, Some(caller("location:call")), &get("/v1/location")).is_ok());
        assert!(judged(&route, Some(caller("location:*")), &get("/v1/location")).is_ok());
        let denial = judged(&route, Some(caller("location:read")), &get("/v1/location")).unwrap_err();
        assert_eq!(denial.particulars, Particulars::Scopes("location:call".to_owned()));
    }

    #[test]
    fn a_variable_that_the_path_does_not_have_is_held_by_nobody() {
        let scoped = Route { scopes: demand(&["{service}"], &[]), ..route("r", &[], "/v1/{service}") };
        let owned = Route { tenant: Some("org".into()), ..route("r", &[], "/orgs/{org}") };
        for (route, refused) in [(scoped, Reason::InsufficientScope), (owned, Reason::WrongTenant)] {
            let request = Request { chosen_route: Some("r"), ..get("/elsewhere/entirely/x") };
            assert_eq!(judged(&route, Some(caller("*")), &request).unwrap_err().reason, refused);
        }
    }

    #[test]
    fn another_organisations_resource_is_not_there() {
        let route = Route { tenant: Some("org".into()), ..route("r", &[], "/orgs/{org}/data") };
        // (path, organisation, permitted)
        let table = [
            ("/orgs/acme/data", Some("acme"), true),
            ("/orgs/ACME/data", Some("acme"), false),
            ("/orgs/umbrella/data", Some("acme"), false),
            ("/orgs/acme/data", None, false),
            ("/orgs/acme/data", Some(""), false),
        ];
        for (path, organization, permitted) in table {
            let caller = Caller { organization: organization.map(Arc::from), ..caller("*") };
            let result = judged(&route, Some(caller), &get(path));
            assert_eq!(result.map_err(|denial| denial.reason), if permitted { Ok(Reason::Ok) } else { Err(Reason::WrongTenant) }, "{path}");
        }
    }

    #[test]
    fn test_credentials_stay_off_live_routes() {
        let (live, test) = (Environment::Live, Environment::Test);
        let table = [
            (vec![], live, true),
            (vec![], test, true),
            (vec![live], live, true),
            (vec![live], test, false),
            (vec![live, test], test, true),
        ];
        for (environments, environment, permitted) in table {
            let route = Route { environments, ..route("r", &[], "/x") };
            let result = judged(&route, Some(Caller { environment, ..caller("*") }), &get("/x"));
            let expected = if permitted { Ok(Reason::Ok) } else { Err(Reason::WrongEnvironment) };
            assert_eq!(result.map_err(|denial| denial.reason), expected, "{route:?} {environment:?}");
        }
    }

    #[test]
    fn nobody_gets_only_where_nothing_is_asked() {
        let plain = || route("r", &[], "/x");
        let scoped = || Route { scopes: demand(&["a"], &[]), ..plain() };
        let either = || Route { scopes: demand(&[], &["a"]), ..plain() };
        let owned = || Route { tenant: Some("org".into()), ..plain() };
        let table = [
            (plain(), Auth::Required, Err(Reason::MissingCredential)),
            (plain(), Auth::Optional, Ok(Reason::Anonymous)),
            (plain(), Auth::Public, Ok(Reason::Public)),
            (scoped(), Auth::Optional, Err(Reason::MissingCredential)),
            (scoped(), Auth::Public, Err(Reason::MissingCredential)),
            (either(), Auth::Optional, Err(Reason::MissingCredential)),
            (owned(), Auth::Optional, Err(Reason::MissingCredential)),
            (owned(), Auth::Public, Err(Reason::MissingCredential)),
        ];
        for (route, auth, expected) in table {
            let route = Route { auth, ..route };
            assert_eq!(judged(&route, None, &get("/x")).map_err(|denial| denial.reason), expected, "{route:?}");
        }
        let public = Route { auth: Auth::Public, ..plain() };
        assert_eq!(judged(&public, Some(caller("*")), &get("/x")).unwrap_err().reason, Reason::Internal);
    }

    // battery: M6 M8
    #[test]
    fn only_the_exact_preflight_shape_passes_without_anybody() {
        let route = Route { cors: Cors::Preflight, scopes: demand(&["a"], &[]), ..route("r", &[], "/x") };
        let shape = [("origin", "https://app.example.com"), ("access-control-request-method", "PUT")];
        let judge = |method, headers: &[(&'static str, &'static str)]| {
            judged(&route, None, &samples::request(method, "/x", headers)).map_err(|denial| denial.reason)
        };
        assert_eq!(judge(Method::Options, &shape), Ok(Reason::Preflight));
        assert_eq!(judge(Method::Options, &shape[..1]), Err(Reason::MissingCredential));
        assert_eq!(judge(Method::Options, &[]), Err(Reason::MissingCredential));
        assert_eq!(judge(Method::Get, &shape), Err(Reason::MissingCredential));
    }
}
