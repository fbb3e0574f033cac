//! Requests and rules for the rooms' tables: plain ones, of which a test changes what it is about.

use std::sync::Arc;

use crate::model::request::Headers;
use crate::model::request::Host;
use crate::model::request::Method;
use crate::model::request::Path;
use crate::model::request::Request;
use crate::model::request::split_target;
use crate::model::route::Route;
use crate::model::route::RouteIndex;
use crate::model::rules;
use crate::model::rules::Place;
use crate::model::rules::Rules;

/// Rules with the default places and these routes, and nothing else.
pub(in crate::check) fn rules(routes: Vec<Route>) -> Rules {
    let routes: Vec<Arc<Route>> = routes.into_iter().map(Arc::new).collect();
    Rules {
        route_index: RouteIndex::build(&routes).unwrap(),
        routes,
        places: vec![place("authorization", Some("Bearer")), place("x-api-key", None), place("x-authorization", Some("Agent"))],
        ..rules::samples::nothing()
    }
}

pub(in crate::check) fn place(header: &str, scheme: Option<&str>) -> Place {
    Place { header: header.into(), scheme: scheme.map(Arc::from) }
}

/// A request to `h` with these headers.
pub(in crate::check) fn request<'m>(method: Method, target: &'m str, headers: &[(&'m str, &'m str)]) -> Request<'m> {
    let headers: Vec<(&[u8], &[u8])> = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    request_of_bytes(method, target, headers)
}

pub(in crate::check) fn request_of_bytes<'m>(method: Method, target: &'m str, headers: Vec<(&'m [u8], &'m [u8])>) -> Request<'m> {
    let (path, query) = split_target(target.as_bytes()).unwrap();
    Request {
        method,
        host: Host::parse(b"h").unwrap(),
        path: Path::parse(path).unwrap(),
        query,
        headers: Headers::new(headers),
        peer_address: Some("192.0.2.1".parse().unwrap()),
        principal: None,
        chosen_route: None,
    }
}
