//! A request made plain: what the rooms may know of it. Whatever has no single canonical form never becomes one of these.

use std::net::IpAddr;
use std::net::SocketAddr;

pub use crate::model::host::Host;
pub use crate::model::path::Path;
pub use crate::model::path::split_target;

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

/// The request's headers in arrival order, names in lower case. Duplicates stay apart where Envoy sends them apart.
#[derive(Clone, Default)]
pub struct Headers<'m> {
    entries: Vec<(&'m [u8], &'m [u8])>,
    size: HeaderSize,
}

/// What headers take up, as Envoy counts it: lines, and the bytes of names and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderSize {
    pub lines: usize,
    pub bytes: usize,
}

/// How often a header came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Single<'m> {
    Absent,
    Once(&'m [u8]),
    Repeated,
}

/// Why a request could not be made plain. The texts are fixed, so nothing of the request is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {issue}")]
pub struct RequestError {
    pub field: &'static str,
    pub issue: &'static str,
    pub part: Part,
}

/// Which part of a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Path,
    Host,
    Method,
    Message,
}

impl Request<'_> {
    /// Whether the caller speaks gRPC, so that a refusal must too.
    pub fn is_grpc(&self) -> bool {
        const GRPC: &[u8] = b"application/grpc";
        let Single::Once(value) = self.headers.single("content-type") else {
            return false;
        };
        let Some((start, rest)) = value.split_at_checked(GRPC.len()) else {
            return false;
        };
        start.eq_ignore_ascii_case(GRPC) && matches!(rest.first(), None | Some(b'+' | b';' | b'-' | b' '))
    }

    /// Whether the connection would become a tunnel: CONNECT (plain or extended), or an upgrade of HTTP/1.1.
    pub fn upgrade(&self) -> bool {
        if self.method == Method::Connect {
            return true;
        }
        let mut names_protocol = false;
        let mut connection_upgrade = false;
        for (name, value) in self.headers.iter() {
            match name {
                b":protocol" => return true,
                b"upgrade" => names_protocol = true,
                b"connection" => {
                    connection_upgrade |=
                        value.split(|byte| *byte == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
                }
                _ => {}
            }
        }
        names_protocol && connection_upgrade
    }

    /// The client's address behind `trusted_hops` proxies. An entry that no trusted proxy wrote is never believed: where the list
    /// is too short or unreadable at that place, the peer is the client.
    pub fn client_address(&self, trusted_hops: u8) -> Option<IpAddr> {
        let peer = self.peer_address.map(|address| address.to_canonical());
        if trusted_hops == 0 {
            return peer;
        }
        let lists = self.headers.entries.iter().rev().filter(|(name, _)| *name == b"x-forwarded-for");
        let mut from_right = lists.flat_map(|(_, value)| value.rsplit(|byte| *byte == b','));
        let mut nearest = from_right.next().and_then(parse_forwarded);
        if peer.is_some() && nearest == peer {
            // Envoy adds its peer before it asks, when it runs with `use_remote_address`.
            nearest = from_right.next().and_then(parse_forwarded);
        }
        let client = match trusted_hops {
            1 => nearest,
            more => from_right.nth(usize::from(more) - 2).and_then(parse_forwarded),
        };
        client.or(peer)
    }
}

/// An entry of `x-forwarded-for`: an address, with a port or without.
pub fn parse_forwarded(entry: &[u8]) -> Option<IpAddr> {
    // The longest form is a bracketed IPv6 address with a port.
    let text = std::str::from_utf8(entry.trim_ascii()).ok().filter(|text| text.len() <= 56)?;
    let address = match text.parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) => match text.strip_prefix('[').and_then(|inside| inside.strip_suffix(']')) {
            Some(inside) => IpAddr::V6(inside.parse().ok()?),
            None => text.parse::<SocketAddr>().ok()?.ip(),
        },
    };
    Some(address.to_canonical())
}

impl Method {
    /// The closed list, but for [`Method::Other`].
    pub const KNOWN: [Self; 8] = [Self::Connect, Self::Delete, Self::Get, Self::Head, Self::Options, Self::Patch, Self::Post, Self::Put];

    /// # Errors
    /// [`RequestError`] of the part [`Part::Method`] when there is none.
    pub fn parse(token: &[u8]) -> Result<Self, RequestError> {
        if token.is_empty() {
            return Err(RequestError { field: "method", issue: "the method is missing", part: Part::Method });
        }
        Ok(Self::KNOWN.into_iter().find(|known| known.as_str().as_bytes() == token).unwrap_or(Self::Other))
    }

    /// The token; `OTHER` for whatever is outside the list.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Delete => "DELETE",
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Patch => "PATCH",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Other => "OTHER",
        }
    }
}

impl<'m> Headers<'m> {
    pub fn new(entries: Vec<(&'m [u8], &'m [u8])>) -> Self {
        let size = entries.iter().fold(HeaderSize::default(), |size, (name, value)| size.with(name, value));
        Self { entries, size }
    }

    pub fn size(&self) -> HeaderSize {
        self.size
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

    /// Whether a header of this lower-case name came at all.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.iter().any(|(candidate, _)| *candidate == name.as_bytes())
    }
}

impl HeaderSize {
    /// One line more.
    #[must_use]
    pub fn with(self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        let bytes = self.bytes.saturating_add(name.as_ref().len()).saturating_add(value.as_ref().len());
        Self { lines: self.lines.saturating_add(1), bytes }
    }

    pub fn is_within(self, bound: Self) -> bool {
        self.lines <= bound.lines && self.bytes <= bound.bytes
    }
}

impl std::fmt::Debug for Headers<'_> {
    /// Names only: a value may be a credential.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_list().entries(self.entries.iter().map(|(name, _)| String::from_utf8_lossy(name))).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request<'m>(method: Method, headers: &[(&'m str, &'m str)]) -> Request<'m> {
        Request {
            method,
            host: Host::parse(b"api.example.com").unwrap(),
            path: Path::parse(b"/").unwrap(),
            query: None,
            headers: Headers::new(headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect()),
            peer_address: Some("10.0.0.9".parse().unwrap()),
            principal: None,
            chosen_route: None,
        }
    }

    // battery: M1 M9
    #[test]
    fn methods_are_a_closed_list() {
        for known in Method::KNOWN {
            assert_eq!(Method::parse(known.as_str().as_bytes()), Ok(known));
        }
        for other in ["get", "GeT", "FOO", "TRACE", "PROPFIND", "OTHER", "GET ", " GET", "GET\0"] {
            assert_eq!(Method::parse(other.as_bytes()), Ok(Method::Other), "{other}");
        }
        assert_eq!(Method::parse(b"\xff"), Ok(Method::Other));
        assert_eq!(Method::parse(b"").unwrap_err().part, Part::Method);
    }

    #[test]
    fn grpc_callers_are_known_by_their_content_type() {
        for (value, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc; charset=utf-8", true),
            ("application/grpc-web+proto", true),
            ("Application/GRPC", true),
            ("application/grpcfoo", false),
            ("application/json", false),
            ("application/grp", false),
            ("", false),
        ] {
            assert_eq!(request(Method::Post, &[("content-type", value)]).is_grpc(), expected, "{value}");
        }
        assert!(!request(Method::Post, &[]).is_grpc());
    }

    // battery: M5
    #[test]
    fn tunnels_are_seen() {
        let tunnels: &[(Method, &[(&str, &str)])] = &[
            (Method::Connect, &[]),
            (Method::Get, &[("upgrade", "websocket"), ("connection", "Upgrade")]),
            (Method::Get, &[("connection", "keep-alive, UPGRADE"), ("upgrade", "h2c")]),
            (Method::Get, &[("connection", "keep-alive"), ("connection", "upgrade"), ("upgrade", "x")]),
            (Method::Get, &[(":protocol", "websocket")]),
        ];
        for (method, headers) in tunnels {
            assert!(request(*method, headers).upgrade(), "{headers:?}");
        }
        let ordinary: &[&[(&str, &str)]] =
            &[&[], &[("connection", "keep-alive")], &[("upgrade", "websocket")], &[("connection", "upgrades"), ("upgrade", "x")]];
        for headers in ordinary {
            assert!(!request(Method::Get, headers).upgrade(), "{headers:?}");
        }
    }

    // battery: H18
    #[test]
    fn only_trusted_proxies_are_believed_about_the_client() {
        // Peer is 10.0.0.9 throughout.
        let table: &[(u8, &[&str], &str)] = &[
            (0, &[], "10.0.0.9"),
            (0, &["1.1.1.1"], "10.0.0.9"),
            (1, &[], "10.0.0.9"),
            (1, &["203.0.113.7"], "203.0.113.7"),
            (1, &["6.6.6.6, 203.0.113.7"], "203.0.113.7"),
            (1, &["6.6.6.6", "203.0.113.7"], "203.0.113.7"),
            (1, &["6.6.6.6, 203.0.113.7, 10.0.0.9"], "203.0.113.7"),
            (1, &["6.6.6.6,203.0.113.7", "10.0.0.9"], "203.0.113.7"),
            (2, &["6.6.6.6, 203.0.113.7, 10.1.1.1"], "203.0.113.7"),
            (2, &["6.6.6.6, 203.0.113.7, 10.1.1.1, 10.0.0.9"], "203.0.113.7"),
            (3, &["6.6.6.6, 203.0.113.7, 10.2.2.2, 10.1.1.1"], "203.0.113.7"),
            (2, &["203.0.113.7"], "10.0.0.9"),
            (255, &["6.6.6.6, 203.0.113.7"], "10.0.0.9"),
            (1, &["6.6.6.6, unknown"], "10.0.0.9"),
            (1, &["6.6.6.6, "], "10.0.0.9"),
            (1, &["203.0.113.7:4711"], "203.0.113.7"),
            (1, &["[2001:db8::1]:4711"], "2001:db8::1"),
            (1, &["[2001:db8::1]"], "2001:db8::1"),
            (1, &["2001:db8::1"], "2001:db8::1"),
            (1, &["::ffff:203.0.113.7"], "203.0.113.7"),
        ];
        for (hops, lists, expected) in table {
            let headers: Vec<(&str, &str)> = lists.iter().map(|list| ("x-forwarded-for", *list)).collect();
            let client = request(Method::Get, &headers).client_address(*hops);
            assert_eq!(client, Some(expected.parse().unwrap()), "{hops} {lists:?}");
        }
    }

    #[test]
    fn headers_are_counted_and_never_shown() {
        let plain = request(Method::Get, &[("a", "1"), ("b", "secret"), ("a", "2")]);
        assert_eq!(plain.headers.single("a"), Single::Repeated);
        assert_eq!(plain.headers.single("b"), Single::Once(b"secret"));
        assert_eq!(plain.headers.single("c"), Single::Absent);
        assert!(plain.headers.contains("a") && !plain.headers.contains("c"));
        assert!(!format!("{:?}", plain.headers).contains("secret"));
    }

    proptest! {
        /// Whatever a client puts before the part that trusted proxies wrote changes nothing.
        #[test]
        fn forged_entries_never_count(forged in "[0-9a-fx:., \\[\\]]{0,60}", hops in 1u8..4) {
            let written: Vec<String> = (0..hops).map(|hop| format!("192.0.2.{}", hop + 1)).collect();
            let list = format!("{forged},{}", written.join(", "));
            let client = request(Method::Get, &[("x-forwarded-for", &list)]).client_address(hops);
            prop_assert_eq!(client, Some("192.0.2.1".parse().unwrap()));
        }
    }
}
