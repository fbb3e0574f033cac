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
