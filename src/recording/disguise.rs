//! A request without its secrets. What the rooms must be able to read stays readable; every other value, and every credential wherever it
//! stands, becomes a digest of the same form: where two were the same before they are the same after, and what could be no credential
//! still can be none.

use std::collections::BTreeMap;

use crate::model::key_text::KeyForm;
use crate::model::key_text::find_credential;
use crate::model::key_text::read_key;
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
/// The kinds of content that rooms tell apart, the longer first.
const GRPC: [&str; 2] = ["application/grpc-web", "application/grpc"];
/// What `connection` says besides names of headers.
const CONNECTION: [&str; 4] = ["upgrade", "keep-alive", "close", "te"];
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
        if self.rules.places.iter().any(|place| *place.header == *name) {
            return None;
        }
        let keeps = match name {
            "content-type" => return GRPC.iter().find(|kind| value.starts_with(**kind)).map(|kind| (*kind).to_owned()),
            "connection" => {
                let token = |token: &str| if CONNECTION.contains(&token) { token.to_owned() } else { self.masked(token.as_bytes()) };
                let tokens = value.split(',').map(|entry| token(entry.trim().to_ascii_lowercase().as_str()));
                return Some(tokens.collect::<Vec<_>>().join(", "));
            }
            "content-length" => value.len() <= 12 && value.bytes().all(|byte| byte.is_ascii_digit()),
            "access-control-request-method" => Method::KNOWN.iter().any(|method| method.as_str() == value),
            "x-forwarded-for" => value.split(',').all(|entry| parse_forwarded(entry.as_bytes()).is_some()),
            _ => self.names_version(name, value),
        };
        keeps.then(|| value.to_owned())
    }

    /// A version of the config, or numbers in the header of one: another config may know it.
    fn names_version(&self, header: &str, value: &str) -> bool {
        let versions = self.rules.api_versions.as_ref();
        let is_known = versions.is_some_and(|versions| versions.versions.iter().any(|version| *version.name == *value));
        let is_place = header.contains("version") || versions.is_some_and(|versions| *versions.header == *header);
        let number = value.strip_prefix('v').unwrap_or(value);
        is_place && (is_known || (number.len() <= 10 && number.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-'))))
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
            let start = if is_token { Some(0) } else { find_credential(&self.rules.key_brand, text).map(|found| found.start) };
            match start.and_then(|start| text.split_at_checked(start)) {
                Some((before, credential)) => format!("{before}hashed-{}", self.disguise.of(credential.as_bytes())),
                None => text.to_owned(),
            }
        };
        path.split('/').map(segment).collect::<Vec<_>>().join("/")
    }

    fn query(&self, query: &str) -> String {
        let name = |text: &str, most: usize, allowed: fn(u8) -> bool| {
            if text.len() <= most && text.bytes().all(allowed) && find_credential(&self.rules.key_brand, text).is_none() {
                text.to_owned()
            } else {
                format!("hashed-{}", self.disguise.of(text.as_bytes()))
            }
        };
        // Without a value, the name may be all there is of a secret, and `=` its padding.
        let alone = |text: &str| name(text, 16, |byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'-'));
        let parameter = |pair: &str| match pair.split_once('=') {
            None => alone(pair),
            Some((parameter, value)) if value.bytes().all(|byte| byte == b'=') => format!("{}={value}", alone(parameter)),
            Some((parameter, value)) => {
                let readable = name(parameter, 32, |byte| byte.is_ascii_alphanumeric() || b"_-.%[]".contains(&byte));
                format!("{readable}={}", self.masked(value.as_bytes()).replace(' ', "%20"))
            }
        };
        query.split('&').map(parameter).collect::<Vec<_>>().join("&")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config;
    use crate::config::outside::Outside;
    use crate::model::caller::Environment;
    use crate::model::key_text::write_key;
    use crate::model::request::Headers;
    use crate::model::request::Host;
    use crate::model::request::Path;
    use crate::secrets::Pepper;
    use crate::secrets::Peppers;

    fn rules() -> Rules {
        let text = "api_versions: { header: api-version, default: beta, versions: [{ name: beta }] }\nroutes: [{ path: /a }]\n";
        config::compile_text(text, &Outside::default()).unwrap().1
    }

    fn asked(query: Option<&str>, headers: &[(&str, &str)]) -> Asked {
        asked_at("/a", query, headers)
    }

    fn asked_at(path: &str, query: Option<&str>, headers: &[(&str, &str)]) -> Asked {
        let disguise = Peppers::new(Pepper { id: "p".into(), secret: vec![1; 32].into() }, Vec::new()).disguise();
        let request = Request {
            method: Method::Get,
            host: Host::parse(b"h:8080").unwrap(),
            path: Path::parse(path.as_bytes()).unwrap(),
            query,
            headers: Headers::new(headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect()),
            peer_address: Some("192.0.2.1".parse().unwrap()),
            principal: Some("spiffe://mesh/a"),
            chosen_route: Some("r"),
        };
        disguised(&request, &rules(), &disguise)
    }

    #[test]
    fn what_rooms_read_stays_and_the_rest_is_a_digest() {
        for (name, value, kept) in [
            ("content-type", "application/grpc+proto", Some("application/grpc")),
            ("content-type", "application/grpc-web; charset=x", Some("application/grpc-web")),
            ("content-type", "application/json", None),
            ("content-length", "17", Some("17")),
            ("connection", "Keep-Alive, Upgrade", Some("keep-alive, upgrade")),
            ("upgrade", "websocket", None),
            ("access-control-request-method", "PUT", Some("PUT")),
            ("access-control-request-method", "put", None),
            ("x-forwarded-for", "192.0.2.7, 10.0.0.1", Some("192.0.2.7, 10.0.0.1")),
            ("x-forwarded-for", "192.0.2.7, secret", None),
            ("api-version", "beta", Some("beta")),
            ("api-version", "2024-01-01", Some("2024-01-01")),
            ("accept-version", "v2.1", Some("v2.1")),
            ("api-version", "gamma", None),
            ("x-anything", "beta", None),
            ("x-api-key", "17", None),
            ("origin", "", Some("")),
        ] {
            let asked = asked(None, &[(name, value)]);
            let (_, written) = asked.headers().unwrap().remove(0);
            let written = String::from_utf8(written).unwrap();
            match kept {
                Some(kept) => assert_eq!(written, kept, "{name}: {value}"),
                None => assert!(written.starts_with("hashed") && !written.contains(value), "{name}: {value}: {written}"),
            }
        }
    }

    #[test]
    fn the_form_of_a_credential_stays() {
        let written = |value: &str| String::from_utf8(asked(None, &[("authorization", value)]).headers().unwrap().remove(0).1).unwrap();
        assert!(written("Bearer a.b.c").starts_with("Bearer hashed."));
        assert!(written("Bearer abc").starts_with("Bearer hashed-"));
        assert!(written("Bearer a b").starts_with("Bearer hashed "));
        assert!(written("Secret abc").starts_with("hashed "));
        assert_eq!(written("Bearer abc").split_once(' ').unwrap().1, written("abc"));
    }

    #[test]
    fn a_query_keeps_the_names_that_look_like_names() {
        let query = |query: &str| asked(Some(query), &[]).attributes.request.http.path;
        assert!(query("access_token=a.b.c&x=1").starts_with("/a?access_token=hashed."));
        assert_eq!(query("flag&empty=&"), "/a?flag&empty=&");
        for secret in [
            "S3cret",
            "a=S3cret",
            "S3cret=",
            "S3cret==",
            "a=1&S3cret=&b",
            "S3cret-that-is-much-longer-than-a-name=1",
            "a%20S3cret",
            "x;y=S3cret",
        ] {
            assert!(!query(secret).contains("S3cret"), "{}", query(secret));
        }
    }

    const JWT: &str = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln";

    #[test]
    fn a_path_keeps_what_is_no_credential() {
        let path = |path: &str| asked_at(path, None, &[]).attributes.request.http.path;
        for plain in ["/a", "/survey_sk_1", "/a_live_sk/eyJob", "/opt/tollgate-docs", "/mytollgate_a", "/heyJude/tollgate"] {
            assert_eq!(path(plain), plain);
        }
        for (text, kept) in [
            ("/opt/x=tollgate_live_sk_S3cret/b", "/opt/x=hashed-"),
            ("/opt/x:other_test_sk_S3cret", "/opt/x:other_hashed-"),
            ("/opt/xtollgate_rt_S3cret", "/opt/xhashed-"),
            ("/tollgate_S3cret", "/hashed-"),
            (&format!("/opt/v;jwt={JWT}S3cret"), "/opt/v;jwt=hashed-"),
        ] {
            assert!(path(text).starts_with(kept) && !path(text).contains("S3cret"), "{text}: {}", path(text));
        }
        assert!(path("/opt/x=tollgate_live_sk_S3cret/b").ends_with("/b"));
    }

    proptest! {
        #[test]
        fn no_credential_is_written_down_wherever_it_stands(
            before in "[a-zA-Z0-9_:;=.-]{0,12}", after in "([;:=.][a-z]{0,5}(/[a-z]{1,5})?)?", id: [u8; 16], secret: [u8; 32], is_token: bool,
        ) {
            let (_, key) = write_key("tollgate", Environment::Live, &id, &secret);
            let credential = if is_token { JWT } else { key.as_str() };
            let telling = credential.get(credential.len() - 20..).unwrap();
            let text = format!("/opt/s{before}{credential}{after}");
            let written = asked_at(&text, Some(&format!("{before}{credential}=&{credential}&{credential}=1")), &[]);
            let written = written.attributes.request.http.path;
            prop_assert!(!written.contains(telling), "{}", written);
            let logged = text.get(..find_credential("tollgate", &text).unwrap().end).unwrap();
            prop_assert!(!logged.contains(credential.get(..credential.len() - 20).unwrap()), "{}", logged);
        }
    }

    #[test]
    fn the_rest_of_the_message_can_be_read_back() {
        let asked = asked(Some("a=b"), &[("x", "y")]);
        let text = serde_json::to_string(&asked).unwrap();
        let again: Asked = serde_json::from_str(&text).unwrap();
        assert_eq!(again, asked);
        let headers = again.headers().unwrap();
        let request = again.plain(&headers).unwrap();
        assert_eq!((request.host.port, request.path.as_str(), request.chosen_route), (Some(8080), "/a", Some("r")));
        assert_eq!((request.peer_address, request.principal), (Some("192.0.2.1".parse().unwrap()), Some("spiffe://mesh/a")));
        assert!(request.query.is_some_and(|query| query.starts_with("a=hashed-")));
    }
}
