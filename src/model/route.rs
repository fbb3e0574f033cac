//! Routes: what a rule matches, which of two rules is the more specific, and what it asks for.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use crate::model::caller::Environment;
pub use crate::model::path_template::TemplateError;
pub use crate::model::path_template::parse_template;
use crate::model::quota::Policy;
use crate::model::request::Method;
pub use crate::model::route_index::RouteClash;
pub use crate::model::route_index::RouteIndex;
pub use crate::model::route_index::RoutesOnPath;

/// One entry of the route table.
#[derive(Clone, Debug)]
pub struct Route {
    /// Unique; a metric label, a log field, the name in counters and `context_extensions.route`.
    pub name: Arc<str>,
    pub matcher: Matcher,
    pub auth: Auth,
    pub scopes: ScopeDemand,
    /// The path variable that must equal the caller's organisation, else 404.
    pub tenant: Option<Arc<str>>,
    /// Empty: every environment.
    pub environments: Vec<Environment>,
    pub versioned: Versioned,
    /// What one request of this route costs in every bucket and in the counter; at least 1.
    pub cost: u32,
    /// Limits of this route's own, asked beside the tier's.
    pub limits: Vec<Policy>,
    pub count_as: CountAs,
    /// Who may see the error, and in which words.
    pub errors: ErrorFormat,
    pub credential_upstream: CredentialUpstream,
    pub query_token: QueryToken,
    pub cors: Cors,
    pub upgrades: Upgrades,
    pub matrix_parameters: MatrixParameters,
    pub request_id: ClientRequestId,
    /// Served by Tollgate itself through Envoy (the counts of `/stats`), instead of an upstream.
    pub answer: Answerer,
}

/// What a route matches. Two routes with an equal matcher are a config error.
///
/// The more specific matcher is the lesser: exact host before any host, exact port before any port, the path's order, explicit
/// methods before all. What ties there cannot match the same request, or clashes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Matcher {
    /// Lower case, no port; none matches every host.
    pub host: Option<Arc<str>>,
    pub port: Option<u16>,
    pub path: PathTemplate,
    /// Sorted; empty matches every method of the closed list but CONNECT.
    pub methods: Vec<Method>,
}

/// A path template, split at its slashes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathTemplate {
    pub segments: Vec<Segment>,
    pub ending: Ending,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    Literal(Arc<str>),
    Variable(Arc<str>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ending {
    Exact,
    /// A slash at the end, which is another path than the one without.
    Slash,
    /// `/**`: the path itself and everything below it, by whole segments.
    Rest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    Required,
    /// No credential is anonymous; a bad credential is 401.
    Optional,
    /// Credentials are neither read nor removed.
    Public,
}

/// The scopes that a route wants. Templates (`{service}`) are filled from the path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScopeDemand {
    pub all_of: Vec<ScopeTemplate>,
    pub any_of: Vec<ScopeTemplate>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeTemplate(pub Vec<TemplatePart>);

impl fmt::Display for ScopeTemplate {
    /// As it is written.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            TemplatePart::Text(text) => out.write_str(text),
            TemplatePart::Variable(name) => write!(out, "{{{name}}}"),
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplatePart {
    Text(Arc<str>),
    /// A path variable's name.
    Variable(Arc<str>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versioned {
    /// `api_versions` applies.
    Yes,
    /// The path has no API version (health, `/stats`).
    No,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CountAs {
    RouteName,
    /// At most 256 values per user and hour, then `other`.
    Template(Vec<TemplatePart>),
}

/// In which shape a refusal's body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorFormat {
    /// Seed 002: `{"error":{code,message,details,request_id}}`.
    Standard,
    /// RFC 9457 problem details.
    Problem,
    /// Seed 003: `{data,status,code,message}`.
    Envelope,
    /// Seed 004: `{"result":"failed", …}`.
    Result,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialUpstream {
    Removed,
    Kept,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryToken {
    Refused,
    /// The parameter that may carry a credential; it is removed from the query.
    Allowed {
        parameter: Arc<str>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cors {
    /// OPTIONS is a method like any other.
    Ordinary,
    /// The exact preflight shape passes, uncounted.
    Preflight,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrades {
    Refused,
    Allowed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatrixParameters {
    Refused,
    /// `;…` is cut from every segment before matching.
    Stripped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientRequestId {
    /// A fresh `req_…` id names each refusal.
    Replaced,
    /// `x-request-id` is kept: something trusted set it.
    Trusted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answerer {
    Upstream,
    /// Tollgate answers with the caller's organisation's counts (`GET /stats`).
    Stats,
}

impl Matcher {
    /// Whether the method is one of the route's. HEAD is judged as GET.
    pub fn accepts(&self, method: Method) -> bool {
        match method {
            Method::Other => false,
            Method::Head => self.methods.is_empty() || self.methods.contains(&Method::Head) || self.methods.contains(&Method::Get),
            Method::Connect => self.methods.contains(&Method::Connect),
            Method::Delete | Method::Get | Method::Options | Method::Patch | Method::Post | Method::Put => {
                self.methods.is_empty() || self.methods.contains(&method)
            }
        }
    }

    /// Whether the host, and the port where one is asked for, are the matcher's.
    pub fn matches_host(&self, name: &str, port: Option<u16>) -> bool {
        self.host.as_deref().is_none_or(|own| own == name) && self.port.is_none_or(|own| Some(own) == port)
    }
}

impl Ord for Matcher {
    fn cmp(&self, other: &Self) -> Ordering {
        let generality = |matcher: &Self| (matcher.host.is_none(), matcher.port.is_none());
        generality(self)
            .cmp(&generality(other))
            .then_with(|| self.path.cmp(&other.path))
            .then_with(|| self.methods.is_empty().cmp(&other.methods.is_empty()))
            .then_with(|| self.host.cmp(&other.host))
            .then_with(|| self.port.cmp(&other.port))
            .then_with(|| self.methods.cmp(&other.methods))
    }
}

impl PartialOrd for Matcher {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
pub(crate) mod samples {
    use super::*;
    use crate::model::request::Method;

    /// A route that asks for nothing special; tests change what they are about.
    pub(crate) fn route(name: &str, methods: &[Method], path: &str) -> Route {
        Route {
            name: name.into(),
            matcher: Matcher { host: None, port: None, path: PathTemplate::parse(path).unwrap(), methods: methods.to_vec() },
            auth: Auth::Required,
            scopes: ScopeDemand::default(),
            tenant: None,
            environments: Vec::new(),
            versioned: Versioned::Yes,
            cost: 1,
            limits: Vec::new(),
            count_as: CountAs::RouteName,
            errors: ErrorFormat::Standard,
            credential_upstream: CredentialUpstream::Removed,
            query_token: QueryToken::Refused,
            cors: Cors::Ordinary,
            upgrades: Upgrades::Refused,
            matrix_parameters: MatrixParameters::Refused,
            request_id: ClientRequestId::Replaced,
            answer: Answerer::Upstream,
        }
    }
}
