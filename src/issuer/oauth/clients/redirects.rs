//! Which redirect URIs may be registered: RFC 9700 sections 2.1 and 2.6, RFC 8252 sections 7 and 8.4.

use crate::issuer::checks::Check;
use crate::issuer::checks::hold;
use crate::issuer::checks::run;
use crate::model::client::ClientKind;

const URI_BYTES_MAX: usize = 1024;
/// Of one client.
pub(in crate::issuer) const URIS_MAX: usize = 16;

pub(in crate::issuer) const REDIRECTS: &str = "must be a list of up to 16 different redirect URIs: https, http on loopback, or for a \
     native application a scheme with a dot in it; absolute, without fragment, user information or wildcard";

/// Whether a client of this kind may register the URI.
pub(in crate::issuer) fn may_register(kind: ClientKind, uri: &str) -> bool {
    run(&Redirect::CHECKS, &Redirect::new(kind, uri)).is_ok()
}

/// A URI that a client of this kind would register.
struct Redirect<'a> {
    kind: ClientKind,
    uri: &'a str,
    /// None: it names none, and is relative.
    scheme: Option<&'a str>,
    rest: &'a str,
    /// Host and port as they stand behind `//`, with whatever is written before them.
    authority: &'a str,
}

impl<'a> Redirect<'a> {
    const CHECKS: [Check<Self>; 11] = [
        Check { name: "a redirect URI is short", run: |redirect| hold(redirect.uri.len() <= URI_BYTES_MAX) },
        // What browsers and servers read in different ways never becomes a redirect.
        Check { name: "a redirect URI is read alike by everybody", run: |redirect| hold(redirect.uri.bytes().all(is_plain)) },
        Check { name: "a redirect URI has no fragment", run: |redirect| hold(!redirect.uri.contains('#')) },
        Check { name: "a redirect URI has no wildcard", run: |redirect| hold(!redirect.uri.contains('*')) },
        Check { name: "a redirect URI is percent-encoded", run: |redirect| hold(is_percent_encoded(redirect.uri)) },
        Check { name: "a redirect URI is absolute", run: |redirect| hold(redirect.scheme.is_some() && !redirect.rest.is_empty()) },
        Check {
            name: "a redirect URI's scheme is the web's, or a native application's own",
            run: |redirect| hold(redirect.is_web() || redirect.scheme.is_none() || redirect.kind == ClientKind::Native),
        },
        Check {
            name: "an application's own scheme is a domain name backwards",
            run: |redirect| hold(redirect.is_web() || redirect.scheme.is_none_or(is_private_scheme)),
        },
        Check {
            name: "a redirect URI names nobody",
            run: |redirect| hold(!if redirect.is_web() { redirect.authority } else { redirect.rest }.contains('@')),
        },
        // One spelling: browsers lower it before they go there, and compare what they went to.
        Check { name: "a redirect URI names a host in one spelling", run: |redirect| hold(!redirect.is_web() || redirect.names_a_host()) },
        Check {
            name: "without encryption a redirect stays on the machine",
            run: |redirect| {
                let (host, _port) = split_port(redirect.host());
                hold(redirect.scheme != Some("http") || matches!(host, "" | "127.0.0.1" | "[::1]" | "localhost"))
            },
        },
    ];

    fn new(kind: ClientKind, uri: &'a str) -> Self {
        let (scheme, rest) = uri.split_once(':').map_or((None, uri), |(scheme, rest)| (Some(scheme), rest));
        let behind = rest.strip_prefix("//").unwrap_or_default();
        let authority = behind.split(['/', '?']).next().unwrap_or_default();
        Self { kind, uri, scheme, rest, authority }
    }

    fn is_web(&self) -> bool {
        matches!(self.scheme, Some("https" | "http"))
    }

    fn host(&self) -> &'a str {
        self.authority.rsplit('@').next().unwrap_or_default()
    }

    fn names_a_host(&self) -> bool {
        let (host, port) = split_port(self.host());
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b':' | b'[' | b']');
        !host.is_empty() && host.bytes().all(allowed) && !host.contains("..") && port.is_none_or(is_port)
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    let begin = authority.rfind(']').map_or(0, |end| end + 1);
    match authority.get(begin..).and_then(|rest| rest.find(':')) {
        Some(colon) => (authority.get(..begin + colon).unwrap_or_default(), authority.get(begin + colon + 1..)),
        None => (authority, None),
    }
}

fn is_port(port: &str) -> bool {
    !port.starts_with('0') && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

/// Reverse domain names (RFC 8252 section 7.1): what no other application has, and nothing that a browser runs.
fn is_private_scheme(scheme: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+');
    scheme.len() <= 128
        && scheme.contains('.')
        && scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme.bytes().all(allowed)
        && scheme.split('.').all(|part| !part.is_empty())
}

fn is_percent_encoded(uri: &str) -> bool {
    uri.split('%').skip(1).all(|rest| rest.get(..2).is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issuer::checks::assert_each_is_needed;

    // oauth: B3 B4 B5
    #[test]
    fn what_may_be_registered() {
        let web = [
            "https://app.example.com/cb",
            "https://app.example.com",
            "https://app.example.com:8443/cb?tenant=a%20b",
            "https://[2001:db8::1]/cb",
            "http://127.0.0.1/cb",
            "http://127.0.0.1:3000/cb",
            "http://[::1]:3000/cb",
            "http://localhost:3000/cb",
        ];
        for uri in web {
            for kind in [ClientKind::Confidential, ClientKind::Public, ClientKind::Native] {
                assert!(may_register(kind, uri), "{uri}");
            }
        }
        for uri in ["com.example.app:/cb", "com.example.app://cb"] {
            assert!(may_register(ClientKind::Native, uri), "{uri}");
            assert!(!may_register(ClientKind::Public, uri) && !may_register(ClientKind::Confidential, uri), "{uri}");
        }
        let long = format!("https://app.example.com/{}", "a".repeat(1024));
        for uri in [
            "",
            "/cb",
            "cb",
            "//app.example.com/cb",
            "app.example.com/cb",
            "https:",
            "https://",
            "https:/cb",
            "https:///cb",
            "https://app.example.com/cb#",
            "https://app.example.com/cb#a",
            "https://*.example.com/cb",
            "https://app.example.com/*",
            "https://user@app.example.com/cb",
            "https://user:pw@app.example.com/cb",
            "https://app.example.com\\@evil.example/cb",
            "https://app.example.com/c b",
            "https://app.example.com/cb\n",
            "https://app.example.com/\u{fc}",
            "https://APP.example.com/cb",
            "HTTPS://app.example.com/cb",
            "https://app.example.com:99999/cb",
            "https://app.example.com:/cb",
            "https://app.example.com/%zz",
            "https://app.example.com/%2",
            "http://app.example.com/cb",
            "http://127.0.0.1.example.com/cb",
            "http://127.0.0.1@evil.example/cb",
            "http://10.0.0.1/cb",
            "javascript:alert(1)",
            "data:text/html,x",
            "myapp:/cb",
            "myapp://cb",
            "file:///etc/passwd",
            "com.example.app:",
            ".com:/cb",
            "com..app:/cb",
            &long,
        ] {
            assert!(!may_register(ClientKind::Native, uri), "{uri}");
        }
    }

    // oauth: B3 B4 B5
    #[test]
    fn every_check_of_a_redirect_uri_is_needed() {
        let native = |uri: &'static str| Redirect::new(ClientKind::Native, uri);
        let long: &'static str = Box::leak(format!("https://app.example.com/{}", "a".repeat(1024)).into_boxed_str());
        let cases = [
            ("a redirect URI is short", native(long)),
            ("a redirect URI is read alike by everybody", native("https://app.example.com/\\@evil.example")),
            ("a redirect URI has no fragment", native("https://app.example.com/cb#a")),
            ("a redirect URI has no wildcard", native("https://app.example.com/*")),
            ("a redirect URI is percent-encoded", native("https://app.example.com/%zz")),
            ("a redirect URI is absolute", native("/cb")),
            ("a redirect URI is absolute", native("com.example.app:")),
            (
                "a redirect URI's scheme is the web's, or a native application's own",
                Redirect::new(ClientKind::Public, "com.example.app:/cb"),
            ),
            ("an application's own scheme is a domain name backwards", native("javascript:alert(1)")),
            ("an application's own scheme is a domain name backwards", native("data:text/html,x")),
            ("a redirect URI names nobody", native("https://app.example.com@evil.example/cb")),
            ("a redirect URI names a host in one spelling", native("https://APP.example.com/cb")),
            ("a redirect URI names a host in one spelling", native("https:///cb")),
            ("without encryption a redirect stays on the machine", native("http://app.example.com/cb")),
            ("without encryption a redirect stays on the machine", native("http://127.0.0.1.example.com/cb")),
        ];
        assert_each_is_needed(|| Redirect::CHECKS, &cases);
    }
}
