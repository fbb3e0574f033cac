//! The first room: raw bytes become a [`Request`], or a denial. Nothing that stands in a message can bring a fault.

use std::borrow::Cow;
use std::net::IpAddr;

use bytes::Bytes;
use prost::Message as _;

use crate::check::decide::Denial;
use crate::check::decide::Particulars;
use crate::check::reasons::Reason;
use crate::grpc::wire;
use crate::model::request::Headers;
use crate::model::request::Host;
use crate::model::request::Method;
use crate::model::request::Part;
use crate::model::request::Path;
use crate::model::request::Request;
use crate::model::request::RequestError;
use crate::model::request::split_target;
use crate::model::rules::HEADERS_MOST;

const EXTENSIONS_MAX: usize = 64;

/// A decoded message, owning what a [`Request`] borrows.
#[derive(Debug)]
pub struct Message {
    attributes: wire::Attributes,
    http: wire::HttpRequest,
}

impl Message {
    /// # Errors
    /// A denial when the bytes are no `CheckRequest`, or say nothing about an HTTP request.
    pub fn read(bytes: Bytes) -> Result<Self, Denial> {
        let message =
            wire::CheckRequest::decode(bytes).map_err(|error| malformed("message", "not a CheckRequest").because(error.to_string()))?;
        let Some(mut attributes) = message.attributes else {
            return Err(malformed("attributes", "missing"));
        };
        let Some(request) = attributes.request.take() else {
            return Err(malformed("attributes.request", "missing"));
        };
        let Some(http) = request.http else {
            return Err(malformed("attributes.request.http", "missing"));
        };
        Ok(Self { attributes, http })
    }

    /// # Errors
    /// A denial when any part has no single meaning.
    pub fn request(&self) -> Result<Request<'_>, Denial> {
        let headers = self.headers()?;
        let method = Method::parse(&self.http.method).map_err(refused)?;
        let host = Host::parse(&self.http.host).map_err(refused)?;
        let (raw_path, query) = split_target(&self.http.path).map_err(refused)?;
        let path = Path::parse(raw_path).map_err(refused)?;
        Ok(Request {
            method,
            host,
            path,
            query,
            headers,
            peer_address: self.peer_address(),
            principal: self.principal()?,
            chosen_route: self.chosen_route()?,
        })
    }

    /// Whether the client speaks gRPC, asked also of messages that never become a request.
    pub fn is_grpc(&self) -> bool {
        self.lines().any(|(name, value)| name == b"content-type" && is_grpc_type(value))
    }

    /// The values of every line of this name, asked also of messages that never become a request.
    pub fn values_of<'a>(&'a self, wanted: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.lines().filter(move |(name, _)| *name == wanted).map(|(_, value)| value)
    }

    /// Either form; which of them is filled was checked by nobody yet.
    fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let joined = self.http.headers.iter().map(|entry| (&*entry.key, &*entry.value));
        let raw = self.http.header_map.iter().flat_map(|map| &map.headers).map(|line| (&*line.key, value_of(line)));
        joined.chain(raw)
    }

    fn headers(&self) -> Result<Headers<'_>, Denial> {
        let raw = self.http.header_map.as_ref().map(|map| map.headers.as_slice()).unwrap_or_default();
        if !raw.is_empty() && !self.http.headers.is_empty() {
            return Err(malformed("headers", "both headers and header_map are filled"));
        }
        let count = raw.len() + self.http.headers.len();
        if count > HEADERS_MOST.lines {
            return Err(malformed("headers", "more than 1024 header lines"));
        }
        if raw.iter().any(|line| !line.value.is_empty() && !line.raw_value.is_empty() && line.value != line.raw_value) {
            return Err(malformed("header_map", "a header has two different values"));
        }
        let mut entries = Vec::with_capacity(count);
        for (name, value) in self.lines() {
            if name.is_empty() || name.iter().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii_graphic()) {
                return Err(malformed("headers", "a header name is not in lower case"));
            }
            entries.push((name, value));
        }
        let headers = Headers::new(entries);
        if headers.size().is_within(HEADERS_MOST) { Ok(headers) } else { Err(malformed("headers", "more than 192 KiB of headers")) }
    }

    fn peer_address(&self) -> Option<IpAddr> {
        let address = &self.attributes.source.as_ref()?.address.as_ref()?.socket_address.as_ref()?.address;
        std::str::from_utf8(address).ok()?.parse().ok()
    }

    fn principal(&self) -> Result<Option<&str>, Denial> {
        let Some(peer) = self.attributes.source.as_ref().filter(|peer| !peer.principal.is_empty()) else {
            return Ok(None);
        };
        text("attributes.source.principal", &peer.principal).map(Some)
    }

    fn chosen_route(&self) -> Result<Option<&str>, Denial> {
        if self.attributes.context_extensions.len() > EXTENSIONS_MAX {
            return Err(malformed("context_extensions", "more than 64 entries"));
        }
        // A map's later entry replaces an earlier one of the same key.
        let chosen = self.attributes.context_extensions.iter().rev().find(|entry| *entry.key == *b"route");
        chosen.map(|entry| text("context_extensions.route", &entry.value)).transpose()
    }
}

/// `application/grpc`, alone or with a suffix or parameters; `application/grpc-web` is another protocol.
fn is_grpc_type(content_type: &[u8]) -> bool {
    content_type.strip_prefix(b"application/grpc").is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

fn value_of(line: &wire::HeaderValue) -> &[u8] {
    if line.raw_value.is_empty() { &line.value } else { &line.raw_value }
}

fn text<'m>(field: &'static str, bytes: &'m [u8]) -> Result<&'m str, Denial> {
    std::str::from_utf8(bytes).map_err(|_| malformed(field, "not UTF-8"))
}

fn malformed(field: &'static str, issue: &'static str) -> Denial {
    Denial::with(Reason::MalformedMessage, Particulars::Field { field, issue: Cow::Borrowed(issue) })
}

fn refused(error: RequestError) -> Denial {
    let reason = match error.part {
        Part::Path => Reason::BadPath,
        Part::Host => Reason::BadHost,
        Part::Method => Reason::BadMethod,
        Part::Message => Reason::MalformedMessage,
    };
    Denial::with(reason, Particulars::Field { field: error.field, issue: Cow::Borrowed(error.issue) })
}
