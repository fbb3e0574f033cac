//! The route table.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::compile::error_format;
use crate::config::compile::limits;
use crate::config::compile::names;
use crate::config::compile::scopes;
use crate::config::compile::scopes::Declared;
use crate::config::desk::Desk;
use crate::config::desk::Spot;
use crate::config::desk::shorten;
use crate::config::file::ConfigFile;
use crate::config::file::identity::EnvironmentFile;
use crate::config::file::route::AnswerFile;
use crate::config::file::route::AuthFile;
use crate::config::file::route::CorsFile;
use crate::config::file::route::MatrixFile;
use crate::config::file::route::MethodFile;
use crate::config::file::route::RouteFile;
use crate::config::file::route::UpgradesFile;
use crate::config::file::scalars::Whole;
use crate::model::caller::Environment;
use crate::model::quota::Per;
use crate::model::quota::Policy;
use crate::model::request::Host;
use crate::model::request::Method;
use crate::model::route::Answerer;
use crate::model::route::Auth;
use crate::model::route::ClientRequestId;
use crate::model::route::Cors;
use crate::model::route::CountAs;
use crate::model::route::CredentialUpstream;
use crate::model::route::Ending;
use crate::model::route::Matcher;
use crate::model::route::MatrixParameters;
use crate::model::route::PathTemplate;
use crate::model::route::QueryToken;
use crate::model::route::Route;
use crate::model::route::ScopeDemand;
use crate::model::route::Segment;
use crate::model::route::Upgrades;
use crate::model::route::Versioned;
use crate::model::route_index::ClashOver;
use crate::model::route_index::RouteIndex;
use crate::model::rules::Tier;
use crate::model::rules::TierState;

const MOST_ROUTES: usize = 10_000;
const LONGEST_PATH_BYTES: usize = 512;
/// Derived names are metric labels and stand in every count.
const LONGEST_DERIVED_NAME_BYTES: usize = 128;

type Tiers = BTreeMap<Arc<str>, Tier>;

pub(super) fn routes(
    desk: &mut Desk<'_>,
    spot: &Spot,
    file: &ConfigFile,
    declared: &Declared<'_>,
    tiers: &Tiers,
) -> Option<(Vec<Arc<Route>>, RouteIndex)> {
    if file.routes.is_empty() {
        desk.missing(spot, "there is no route: every request would be refused with 404");
    }
    if file.routes.len() > MOST_ROUTES {
        desk.error(spot, format!("there are more than {MOST_ROUTES} routes"));
        return None;
    }
    let mut routes = Vec::with_capacity(file.routes.len());
    // Where each compiled route stands in the file: those with mistakes are left out.
    let mut positions = Vec::with_capacity(file.routes.len());
    for (index, written) in file.routes.iter().enumerate() {
        if let Some(route) = route(desk, &spot.index(index), written, file, declared, tiers) {
            routes.push(Arc::new(route));
            positions.push(index);
        }
    }
    let at = |position: usize| spot.index(positions.get(position).copied().unwrap_or_default());
    match RouteIndex::build(&routes) {
        Ok(index) => {
            for position in index.shadowed() {
                desk.warn(&at(*position), "this route never matches: more specific ones take all of its requests");
            }
            Some((routes, index))
        }
        Err(clashes) => {
            for clash in clashes {
                let first = desk.line(&at(clash.first));
                match clash.over {
                    ClashOver::Name => desk.error(&at(clash.second).key("name"), format!("the route in line {first} has the same name")),
                    ClashOver::Requests => {
                        desk.error(
                            &at(clash.second),
                            format!("the route in line {first} matches the same requests, and neither is more specific"),
                        );
                    }
                }
            }
            None
        }
    }
}

fn route(
    desk: &mut Desk<'_>,
    spot: &Spot,
    written: &RouteFile,
    file: &ConfigFile,
    declared: &Declared<'_>,
    tiers: &Tiers,
) -> Option<Route> {
    let methods = methods(desk, spot, written);
    let host = host(desk, &spot.key("host"), written.host.as_deref());
    let path = path(desk, &spot.key("path"), &written.path)?;
    let variables: Vec<Arc<str>> = path.variables().cloned().collect();
    let name = name(desk, spot, written, &methods);
    let auth = match written.auth {
        Some(AuthFile::Required) | None => Auth::Required,
        Some(AuthFile::Optional) => Auth::Optional,
        Some(AuthFile::Public) => Auth::Public,
    };
    let cost = Whole::or(written.cost, 1);
    refuse_open(desk, spot, written, &path, auth);
    refuse_what_needs_a_caller(desk, spot, written, auth);
    let own_limits = own_limits(desk, spot, written, &name, auth);
    refuse_unpayable(desk, &spot.key("cost"), cost, auth, &own_limits, tiers);
    let demand = demand(desk, &spot.key("scopes"), written, &variables, declared);
    let tenant = tenant(desk, &spot.key("tenant"), written.tenant.as_deref(), &variables);
    let count_as = match &written.count_as {
        Some(text) => {
            let parts = scopes::template(desk, &spot.key("count_as"), text, &variables);
            if text.len() > 256 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                desk.error_expecting(&spot.key("count_as"), "this is no name for a counter", "1 to 256 visible ASCII characters");
            }
            parts.map_or(CountAs::RouteName, CountAs::Template)
        }
        None => CountAs::RouteName,
    };
    let query_token = query_token(desk, &spot.key("query_token"), written.query_token.as_deref());
    let (host, port) = host?;
    Some(Route {
        name,
        matcher: Matcher { host, port, path, methods },
        auth,
        scopes: demand,
        tenant,
        environments: environments(&written.environments),
        versioned: if written.api_version == Some(false) { Versioned::No } else { Versioned::Yes },
        cost,
        limits: own_limits,
        count_as,
        errors: error_format(written.errors.or(file.errors)),
        credential_upstream: if written.keep_credential == Some(true) { CredentialUpstream::Kept } else { CredentialUpstream::Removed },
        query_token,
        cors: match written.cors {
            Some(CorsFile::Preflight) => Cors::Preflight,
            Some(CorsFile::Ordinary) | None => Cors::Ordinary,
        },
        upgrades: match written.upgrades {
            Some(UpgradesFile::Allowed) => Upgrades::Allowed,
            Some(UpgradesFile::Refused) | None => Upgrades::Refused,
        },
        matrix_parameters: match written.matrix_parameters {
            Some(MatrixFile::Stripped) => MatrixParameters::Stripped,
            Some(MatrixFile::Refused) | None => MatrixParameters::Refused,
        },
        request_id: if written.trust_request_id == Some(true) { ClientRequestId::Trusted } else { ClientRequestId::Replaced },
        answer: match written.answer {
            Some(AnswerFile::Stats) => Answerer::Stats,
            Some(AnswerFile::Upstream) | None => Answerer::Upstream,
        },
    })
}

fn methods(desk: &mut Desk<'_>, spot: &Spot, written: &RouteFile) -> Vec<Method> {
    let mut methods: Vec<Method> = Vec::new();
    let list = spot.key("methods");
    if written.methods.as_ref().is_some_and(Vec::is_empty) {
        desk.missing(&list, "the list is empty; leave it out for every method");
    }
    for (index, method) in written.methods.iter().flatten().enumerate() {
        let method = match method {
            MethodFile::Connect => Method::Connect,
            MethodFile::Delete => Method::Delete,
            MethodFile::Get => Method::Get,
            MethodFile::Head => Method::Head,
            MethodFile::Options => Method::Options,
            MethodFile::Patch => Method::Patch,
            MethodFile::Post => Method::Post,
            MethodFile::Put => Method::Put,
        };
        if methods.contains(&method) {
            desk.error(&list.index(index), "this method stands here twice");
        }
        if method == Method::Connect && written.upgrades != Some(UpgradesFile::Allowed) {
            desk.error_expecting(&list.index(index), "CONNECT never passes here", "`upgrades: allowed` on the route");
        }
        methods.push(method);
    }
    methods.sort_unstable();
    methods.dedup();
    methods
}

fn host(desk: &mut Desk<'_>, spot: &Spot, written: Option<&str>) -> Option<(Option<Arc<str>>, Option<u16>)> {
    let Some(written) = written else { return Some((None, None)) };
    if written.contains('*') {
        desk.error_expecting(spot, "hosts are compared whole; there are no wildcards", "a host name, or no `host` for every host");
        return None;
    }
    match Host::parse(written.as_bytes()) {
        Ok(host) => Some((Some(Arc::from(&*host.name)), host.port)),
        Err(error) => {
            desk.error_expecting(spot, error.issue, "a host name such as `api.example.com` or `api.example.com:8443`");
            None
        }
    }
}

fn path(desk: &mut Desk<'_>, spot: &Spot, written: &str) -> Option<PathTemplate> {
    if written.len() > LONGEST_PATH_BYTES {
        desk.error(spot, format!("the path is longer than {LONGEST_PATH_BYTES} bytes"));
        return None;
    }
    if let Some((_, after)) = written.split_once("/:") {
        let name = after.split('/').next().unwrap_or_default();
        desk.warn(spot, format!("`:{0}` is matched as it stands; a variable is written `{{{0}}}`", shorten(name)));
    }
    match PathTemplate::parse(written) {
        Ok(path) => Some(path),
        Err(error) => {
            desk.error(spot, error.to_string());
            None
        }
    }
}

/// A given name has no slash and a derived one always has, so the two never meet.
fn name(desk: &mut Desk<'_>, spot: &Spot, written: &RouteFile, methods: &[Method]) -> Arc<str> {
    if let Some(name) = &written.name {
        if !names::is_dotted_name(name) {
            desk.error_expecting(&spot.key("name"), "this is no route name", "1 to 64 of `a-z A-Z 0-9 . _ -`");
        }
        return Arc::from(name.as_str());
    }
    let mut name = methods.iter().map(|method| method.as_str()).collect::<Vec<_>>().join(",");
    if !name.is_empty() {
        name.push(' ');
    }
    name.push_str(&written.host.as_deref().unwrap_or_default().to_ascii_lowercase());
    name.push_str(&written.path);
    if name.len() > LONGEST_DERIVED_NAME_BYTES {
        desk.error(
            &spot.key("path"),
            format!("the route needs a `name`: one made of its path would be longer than {LONGEST_DERIVED_NAME_BYTES} bytes"),
        );
    }
    Arc::from(name)
}

/// A rule that lets everybody reach everything is more often a slip than a wish.
fn refuse_open(desk: &mut Desk<'_>, spot: &Spot, written: &RouteFile, path: &PathTemplate, auth: Auth) {
    let everywhere = path.ending == Ending::Rest && path.segments.iter().all(|segment| matches!(segment, Segment::Variable(_)));
    let open = everywhere && matches!(auth, Auth::Public | Auth::Optional);
    match (open, written.acknowledge_open) {
        (true, Some(true)) | (false, None | Some(false)) => {}
        (true, None | Some(false)) => {
            let wrong = "this route lets everybody reach every path that no other route matches";
            desk.error_hinting(&spot.key("auth"), wrong, "if that is meant, say `acknowledge_open: true` on the route");
        }
        (false, Some(true)) => desk.warn(&spot.key("acknowledge_open"), "the route is not open; there is nothing to acknowledge"),
    }
}

fn refuse_what_needs_a_caller(desk: &mut Desk<'_>, spot: &Spot, written: &RouteFile, auth: Auth) {
    let wants_scopes = written.scopes.as_ref().is_some_and(|scopes| !scopes.all_of.is_empty() || !scopes.any_of.is_empty());
    let settings = [
        ("scopes", wants_scopes),
        ("environments", !written.environments.is_empty()),
        ("query_token", written.query_token.is_some()),
        ("keep_credential", written.keep_credential == Some(true)),
    ];
    match auth {
        Auth::Required => {}
        Auth::Optional => {
            if wants_scopes {
                desk.warn(&spot.key("scopes"), "callers without a credential pass without these scopes (`auth: optional`)");
            }
        }
        Auth::Public => {
            for (setting, given) in settings {
                if given {
                    let wrong = format!("a public route looks at no credential, so `{setting}` would be ignored");
                    desk.error_expecting(&spot.key(setting), wrong, "`auth: required`");
                }
            }
        }
    }
    let known_caller = matches!(auth, Auth::Required);
    if written.tenant.is_some() && !known_caller {
        desk.error_expecting(&spot.key("tenant"), "callers without an organisation would come in", "`auth: required`");
    }
    if written.answer == Some(AnswerFile::Stats) && !known_caller {
        desk.error_expecting(&spot.key("answer"), "the counts are those of the caller's organisation", "`auth: required`");
    }
}

fn own_limits(desk: &mut Desk<'_>, spot: &Spot, written: &RouteFile, name: &str, auth: Auth) -> Vec<Policy> {
    let limits = limits::named_limits(desk, &spot.key("limits"), &written.limits, |limit| format!("route:{name}:{limit}"));
    for (index, policy) in &limits {
        let of_a_caller = match policy.per {
            Per::Owner | Per::User | Per::Organization | Per::Key => true,
            Per::Route | Per::Address => false,
        };
        if of_a_caller && auth == Auth::Public {
            let spot = spot.key("limits").index(*index).key("per");
            desk.error_expecting(&spot, "nobody is known on a public route, so this would limit nobody", "`per: address` or `per: route`");
        }
    }
    limits.into_iter().map(|(_, policy)| policy).collect()
}

/// A request that costs more than a bucket can hold is refused for ever.
fn refuse_unpayable(desk: &mut Desk<'_>, spot: &Spot, cost: u32, auth: Auth, own: &[Policy], tiers: &Tiers) {
    for policy in own.iter().filter(|policy| policy.limit.depth < cost) {
        let depth = policy.limit.depth;
        desk.error(spot, format!("a request costs {cost}, and the limit `{}` never holds more than {depth}", policy.name));
    }
    if auth == Auth::Public {
        return;
    }
    for tier in tiers.values().filter(|tier| tier.state == TierState::Active) {
        let smallest = tier.policies.iter().map(|policy| policy.limit.depth).min();
        if let Some(depth) = smallest.filter(|depth| *depth < cost) {
            desk.error(spot, format!("a request costs {cost}, and a bucket of the tier `{}` never holds more than {depth}", tier.name));
        }
    }
}

fn demand(desk: &mut Desk<'_>, spot: &Spot, written: &RouteFile, variables: &[Arc<str>], declared: &Declared<'_>) -> ScopeDemand {
    let Some(scopes) = &written.scopes else { return ScopeDemand::default() };
    if scopes.all_of.is_empty() && scopes.any_of.is_empty() {
        desk.missing(spot, "the route wants no scope; leave `scopes` out to let every caller in");
    }
    ScopeDemand {
        all_of: scopes::wanted(desk, &spot.key("all_of"), &scopes.all_of, variables, declared),
        any_of: scopes::wanted(desk, &spot.key("any_of"), &scopes.any_of, variables, declared),
    }
}

fn tenant(desk: &mut Desk<'_>, spot: &Spot, written: Option<&str>, variables: &[Arc<str>]) -> Option<Arc<str>> {
    let written = written?;
    let name = written.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(written);
    let found = variables.iter().find(|variable| &***variable == name);
    if found.is_none() {
        desk.unknown(spot, "path variable", name, variables.iter().map(|variable| &**variable));
    }
    found.cloned()
}

fn environments(written: &[EnvironmentFile]) -> Vec<Environment> {
    let mut environments: Vec<Environment> = written
        .iter()
        .map(|environment| match environment {
            EnvironmentFile::Live => Environment::Live,
            EnvironmentFile::Test => Environment::Test,
        })
        .collect();
    environments.sort_unstable();
    environments.dedup();
    environments
}

fn query_token(desk: &mut Desk<'_>, spot: &Spot, written: Option<&str>) -> QueryToken {
    let Some(parameter) = written else { return QueryToken::Refused };
    if !names::is_plain_name(parameter) {
        desk.error_expecting(spot, "this is no query parameter", "1 to 64 of `a-z A-Z 0-9 _ -`");
    }
    QueryToken::Allowed { parameter: Arc::from(parameter) }
}
