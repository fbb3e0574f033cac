//! Which redirect URIs may be registered: RFC 9700 sections 2.1 and 2.6, RFC 8252 sections 7 and 8.4.

use crate::model::client::ClientKind;

const URI_BYTES_MAX: usize = 1024;
/// Of one client.
pub(in crate::issuer) const URIS_MAX: usize = 16;

pub(in crate::issuer) const REDIRECTS: &str = "must be a list of up to 16 different redirect URIs: https, http on loopback, or for a \
     native application a scheme with a dot in it; absolute, without fragment, user information or wildcard";

/// Whether a client of this kind may register the URI.
pub(in crate::issuer) fn may_register(kind: ClientKind, uri: &str) -> bool {
    // What browsers and servers read in different ways never becomes a redirect.
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}');
    if uri.len() > URI_BYTES_MAX || !uri.bytes().all(is_plain) || uri.contains(['#', '*']) || !is_percent_encoded(uri) {
        return false;
    }
    let Some((scheme, rest)) = uri.split_once(':') else { return false };
    match scheme {
        "https" => authority(rest).is_some_and(is_host),
        "http" => authority(rest).is_some_and(is_loopback),
        _ => kind == ClientKind::Native && is_private_scheme(scheme) && !rest.is_empty() && !rest.contains('@'),
    }
}

/// Host and port behind `//`.
fn authority(rest: &str) -> Option<&str> {
    let rest = rest.strip_prefix("//")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let authority = rest.get(..end)?;
    (!authority.is_empty() && !authority.contains('@')).then_some(authority)
}

fn is_host(authority: &str) -> bool {
    // One spelling: browsers lower it before they go there, and compare what they went to.
    let (host, port) = split_port(authority);
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b':' | b'[' | b']');
    !host.is_empty() && host.bytes().all(allowed) && !host.contains("..") && port.is_none_or(is_port)
}

fn is_loopback(authority: &str) -> bool {
    let (host, port) = split_port(authority);
    matches!(host, "127.0.0.1" | "[::1]" | "localhost") && port.is_none_or(is_port)
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
}
