//! Placeholder until the real room arrives.

use crate::check::decide::Denial;
use crate::check::reasons::Reason;
use crate::model::request::Method;
use crate::model::request::Request;
use crate::model::route::Cors;
use crate::model::route::Ending;
use crate::model::route::Route;
use crate::model::route::Segment;
use crate::model::rules::Rules;

#[derive(Debug)]
pub struct Found<'r, 'm> {
    pub route: &'r Route,
    pub variables: Variables<'m>,
    preflight: bool,
}

#[derive(Debug, Default)]
pub struct Variables<'m>(Vec<(String, &'m str)>);

impl Variables<'_> {
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(candidate, _)| candidate == name).map(|(_, value)| *value)
    }
}

impl Found<'_, '_> {
    pub fn preflight(&self) -> bool {
        self.preflight
    }
}

pub fn find_route<'r, 'm>(request: &'m Request<'m>, rules: &'r Rules) -> Result<Found<'r, 'm>, Denial> {
    'routes: for route in &rules.routes {
        let mut variables = Vec::new();
        let mut given = request.path.as_str().split('/').skip(1);
        for segment in &route.matcher.path.segments {
            match (segment, given.next()) {
                (Segment::Literal(text), Some(value)) if **text == *value => {}
                (Segment::Variable(name), Some(value)) if !value.is_empty() => variables.push((name.to_string(), value)),
                _ => continue 'routes,
            }
        }
        if route.matcher.path.ending == Ending::Exact && given.next().is_some() {
            continue;
        }
        let preflight = route.cors == Cors::Preflight && request.method == Method::Options;
        return Ok(Found { route, variables: Variables(variables), preflight });
    }
    Err(Denial::new(Reason::NoRoute))
}
