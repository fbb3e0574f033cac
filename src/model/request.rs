//! A request made plain: what the rooms may know of it. Whatever has no single canonical form never becomes one of these.

use std::borrow::Cow;
use std::net::IpAddr;

/// What Envoy asked about, borrowed from its message.
#[derive(Clone, Debug)]
pub struct Request<'m> {
    pub method: Method,
    pub host: Host<'m>,
    pub path: Path<'m>,
    /// Everything after the first `?` of the target, undecoded.
    pub query: Option<&'m str>,
    pub headers: Headers<'m>,
    /// Envoy's downstream peer, at connection level.
    pub peer_address: Option<IpAddr>,
    /// The peer's proven mTLS identity, for example a SPIFFE id; empty is none.
    pub principal: Option<&'m str>,
    /// `context_extensions.route`: the platform chose the route, and client input cannot change it.
    pub chosen_route: Option<&'m str>,
}

/// The closed list of methods, case-sensitive. Anything else is [`Method::Other`] and matches no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    Connect,
    Delete,
    Get,
    Head,
    Options,
    Patch,
    Post,
    Put,
    Other,
}

/// A host in one form: lower case, no trailing dot, the port apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host<'m> {
    pub name: Cow<'m, str>,
    pub port: Option<u16>,
}

/// A path in its one form: starts with `/`, no dot segments, no empty segments (but for a trailing slash), escapes of
/// unreserved characters decoded, no query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path<'m>(pub(in crate::model) Cow<'m, str>);

/// The request's headers in arrival order, names in lower case. Duplicates stay apart where Envoy sends them apart.
#[derive(Clone, Debug, Default)]
pub struct Headers<'m> {
    entries: Vec<(&'m [u8], &'m [u8])>,
}

/// How often a header came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Single<'m> {
    Absent,
    Once(&'m [u8]),
    Repeated,
}

impl<'m> Headers<'m> {
    pub fn new(entries: Vec<(&'m [u8], &'m [u8])>) -> Self {
        Self { entries }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'m [u8], &'m [u8])> {
        self.entries.iter().copied()
    }

    /// The header of this lower-case name, when it came once.
    pub fn single(&self, name: &str) -> Single<'m> {
        let mut found = Single::Absent;
        for (candidate, value) in &self.entries {
            if *candidate == name.as_bytes() {
                match found {
                    Single::Absent => found = Single::Once(value),
                    Single::Once(_) | Single::Repeated => return Single::Repeated,
                }
            }
        }
        found
    }
}

impl<'m> Path<'m> {
    /// The canonical text, with its leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'m> Path<'m> {
    /// Placeholder.
    pub fn parse(bytes: &'m [u8]) -> Result<Self, ()> {
        std::str::from_utf8(bytes).map(|text| Self(Cow::Borrowed(text))).map_err(|_| ())
    }
}

impl<'m> Host<'m> {
    /// Placeholder.
    pub fn parse(bytes: &'m [u8]) -> Result<Self, ()> {
        std::str::from_utf8(bytes).map(|text| Self { name: Cow::Borrowed(text), port: None }).map_err(|_| ())
    }
}

impl Request<'_> {
    /// Placeholder.
    pub fn client_address(&self, _trusted_hops: u8) -> Option<IpAddr> {
        self.peer_address
    }
}
