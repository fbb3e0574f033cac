//! Requests and rules for the rooms' tables: plain ones, of which a test changes what it is about.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::caller::Namespace;
use crate::model::caller::SourceName;
use crate::model::quota::Limit;
use crate::model::request::Headers;
use crate::model::request::Host;
use crate::model::request::Method;
use crate::model::request::Path;
use crate::model::request::Request;
use crate::model::request::split_target;
use crate::model::route::ErrorFormat;
use crate::model::route::Route;
use crate::model::route::RouteIndex;
use crate::model::rules::DryRun;
use crate::model::rules::HEADERS_OF_ENVOY;
use crate::model::rules::FaultAnswer;
use crate::model::rules::GuardLimits;
use crate::model::rules::ImportedKeys;
use crate::model::rules::LimitsFailure;
use crate::model::rules::Place;
use crate::model::rules::Rules;
use crate::model::rules::Source;

/// Rules with the default places and these routes, and nothing else.
pub(in crate::check) fn rules(routes: Vec<Route>) -> Rules {
    let routes: Vec<Arc<Route>> = routes.into_iter().map(Arc::new).collect();
    Rules {
        revision: "0123456789ab".into(),
        route_index: RouteIndex::build(&routes).unwrap(),
        routes,
        errors: ErrorFormat::Standard,
        places: vec![place("authorization", Some("Bearer")), place("x-api-key", None), place("x-authorization", Some("Agent"))],
        key_brand: "tg".into(),
        imported_keys: ImportedKeys::Refused,
        local: Source { name: SourceName::local(), namespace: Namespace::Bare },
        issuers: Vec::new(),
        issuance: None,
        mesh: None,
        tiers: BTreeMap::new(),
        default_tier: None,
        identity_headers: Vec::new(),
        assertion: None,
        api_versions: None,
        guard: GuardLimits { per_address: Limit { per_minute: 6, depth: 3 }, per_key_prefix: Limit { per_minute: 60, depth: 5 } },
        header_limits: HEADERS_OF_ENVOY,
        trusted_hops: 0,
        dry_run: DryRun::Off,
        limits_failure: LimitsFailure::LocalShare,
        fault_answer: FaultAnswer::RpcError,
        file_keys: BTreeMap::new(),
        log_allows: 1.0,
        usage_series_limit: 100,
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
