//! A request without its secrets. What the rooms must be able to read stays readable; every other value, and every credential wherever it
//! stands, becomes a digest of the same form: where two were the same before they are the same after, and what could be no credential
//! still can be none.

use std::collections::BTreeMap;

use crate::model::key::KeyForm;
use crate::model::key::read_key;
use crate::model::request::Method;
use crate::model::request::Request;
use crate::model::request::parse_forwarded;
use crate::model::rules::Rules;
use crate::recording::asked::Address;
use crate::recording::asked::Asked;
use crate::recording::asked::Attributes;
use crate::recording::asked::Header;
use crate::recording::asked::HeaderMap;
use crate::recording::asked::Http;
use crate::recording::asked::HttpAttributes;
use crate::recording::asked::Peer;
use crate::recording::asked::SocketAddress;
use crate::secrets::Disguise;

/// The words that stand before a credential.
const SCHEMES: [&str; 6] = ["bearer", "agent", "basic", "digest", "token", "apikey"];
/// Media types that a request's body has.
const MEDIA: [&str; 8] = ["application", "text", "multipart", "image", "audio", "video", "font", "message"];
const NAME_BYTES_MAX: usize = 48;

/// The request as it may be written down.
pub fn disguised(request: &Request<'_>, rules: &Rules, disguise: &Disguise) -> Asked {
    let masks = Masks { rules, disguise };
    let headers = request.headers.iter().map(|(name, value)| masks.header(name, value)).collect();
    let host = match request.host.port {
        Some(port) => format!("{}:{port}", request.host.name),
        None => request.host.name.to_string(),
    };
    let path = masks.path(request.path.as_str());
    let http = Http {
        method: request.method.as_str().to_owned(),
        host,
        path: request.query.map_or_else(|| path.clone(), |query| format!("{path}?{}", masks.query(query))),
        headers: BTreeMap::new(),
        header_map: Some(HeaderMap { headers }),
    };
    let address = request.peer_address.map(|peer| Address { socket_address: Some(SocketAddress { address: peer.to_string() }) });
    let principal = request.principal.unwrap_or_default().to_owned();
    let source = (address.is_some() || !principal.is_empty()).then_some(Peer { address, principal });
    let context_extensions = request.chosen_route.map(|route| ("route".to_owned(), route.to_owned())).into_iter().collect();
    Asked { attributes: Attributes { source, request: HttpAttributes { http }, context_extensions } }
}

struct Masks<'a> {
    rules: &'a Rules,
    disguise: &'a Disguise,
}

impl Masks<'_> {
    fn header(&self, name: &[u8], value: &[u8]) -> Header {
        let text = str::from_utf8(value).ok();
        let key = str::from_utf8(name).ok().filter(|name| name.len() <= NAME_BYTES_MAX);
        let value = match (key, text) {
            (_, Some("")) => String::new(),
            (Some(name), Some(text)) => self.readable(name, text).unwrap_or_else(|| self.behind_scheme(text)),
            (Some(_) | None, _) => self.masked(value),
        };
        Header { key: key.map_or_else(|| format!("x-{}", self.masked(name)), str::to_owned), value, raw_value: None }
    }

    /// What a room reads of this header, where it has the form of what stands there and so is no secret.
    fn readable(&self, name: &str, value: &str) -> Option<String> {
        let plain = |allowed: fn(u8) -> bool, most: usize| value.len() <= most && value.bytes().all(allowed);
        let is_place = self.rules.places.iter().any(|place| *place.header == *name);
        let is_version = name.contains("version") || self.rules.api_versions.as_ref().is_some_and(|versions| *versions.header == *name);
        let keeps = match name {
            _ if is_place => false,
            "content-type" => {
                let essence = value.split(';').next().unwrap_or_default().trim();
                let (kind, rest) = essence.split_once('/')?;
                let is_plain =
                    rest.len() <= 64 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'+'));
                return (MEDIA.contains(&kind) && is_plain).then(|| essence.to_owned());
            }
            "content-length" => plain(|byte| byte.is_ascii_digit(), 20),
            "connection" => plain(|byte| byte.is_ascii_alphabetic() || matches!(byte, b',' | b' ' | b'-'), 48),
            "upgrade" => plain(|byte| byte.is_ascii_alphabetic(), 16),
            "access-control-request-method" => Method::KNOWN.iter().any(|method| method.as_str() == value),
            "x-forwarded-for" => value.split(',').all(|entry| parse_forwarded(entry.as_bytes()).is_some()),
            _ if is_version => plain(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'), 16),
            _ => false,
        };
        keeps.then(|| value.to_owned())
    }

    /// The word before a credential stays.
    fn behind_scheme(&self, value: &str) -> String {
        match value.split_once(' ') {
            Some((scheme, rest)) if SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known)) => {
                format!("{scheme} {}", self.masked(rest.as_bytes()))
            }
            Some(_) | None => self.masked(value.as_bytes()),
        }
    }

    /// Stands for a text; whether it could be a credential, and a signed one, can still be told.
    fn masked(&self, text: &[u8]) -> String {
        let digest = self.disguise.of(text);
        let known = str::from_utf8(text).ok();
        let is_signed = known.is_some_and(|text| {
            let mut parts = text.split('.');
            let three = [parts.next(), parts.next(), parts.next()];
            let is_base64url =
                |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
            parts.next().is_none() && three.into_iter().all(|part| part.is_some_and(is_base64url))
        });
        let is_one_word = !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte));
        if is_signed || known.is_some_and(|text| self.is_ours(text)) {
            format!("hashed.{digest}.hashed")
        } else if is_one_word {
            format!("hashed-{digest}")
        } else {
            format!("hashed {digest}")
        }
    }

    fn is_ours(&self, text: &str) -> bool {
        !matches!(read_key(&self.rules.key_brand, text), KeyForm::Foreign)
    }

    /// Paths are logged as they are, but a credential that somebody put into one stays out of here.
    fn path(&self, path: &str) -> String {
        let segment = |text: &str| {
            let is_token = text.starts_with("ey") && text.len() > 40 && text.split('.').count() == 3;
            if self.is_ours(text) || is_token { format!("hashed-{}", self.disguise.of(text.as_bytes())) } else { text.to_owned() }
        };
        path.split('/').map(segment).collect::<Vec<_>>().join("/")
    }

    fn query(&self, query: &str) -> String {
        let name = |text: &str, most: usize, allowed: fn(u8) -> bool| {
            if text.len() <= most && text.bytes().all(allowed) {
                text.to_owned()
            } else {
                format!("hashed-{}", self.disguise.of(text.as_bytes()))
            }
        };
        let parameter = |pair: &str| match pair.split_once('=') {
            None => name(pair, 16, |byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'-')),
            Some((parameter, value)) => {
                let readable = name(parameter, 32, |byte| byte.is_ascii_alphanumeric() || b"_-.%[]".contains(&byte));
                let value = if value.is_empty() { String::new() } else { self.masked(value.as_bytes()).replace(' ', "%20") };
                format!("{readable}={value}")
            }
        };
        query.split('&').map(parameter).collect::<Vec<_>>().join("&")
    }
}
