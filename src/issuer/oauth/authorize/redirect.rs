//! Where an answer goes: redirect URIs compared, and what is added to them.

use std::sync::Arc;

use serde::Deserialize;
use serde::Serialize;

use crate::issuer::oauth::authorize::asked::encode;
use crate::issuer::oauth::authorize::refusal::Refusal;
use crate::model::client::ClientKind;
use crate::model::client::ClientRecord;

/// A redirect URI of the client's own, and the state that goes with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::issuer) struct ReturnAddress {
    pub uri: Arc<str>,
    /// Whether the request named it.
    pub named: bool,
    /// Escaped, as it goes into a query.
    pub state: Option<String>,
}

impl ReturnAddress {
    /// Where a code goes. `issuer` as RFC 9207 asks for.
    pub(in crate::issuer) fn with_code(&self, issuer: &str, code: &str) -> String {
        self.with(issuer, &format!("code={}", encode(code.as_bytes())))
    }

    pub(in crate::issuer) fn with_error(&self, issuer: &str, refusal: Refusal) -> String {
        let description = encode(refusal.description.as_bytes());
        self.with(issuer, &format!("error={}&error_description={description}", refusal.error.as_str()))
    }

    /// Who is at the other end, for people: the host, or an application's own scheme.
    pub(in crate::issuer) fn host(&self) -> &str {
        let Some((scheme, rest)) = self.uri.split_once(':') else { return &self.uri };
        match rest.strip_prefix("//").and_then(|rest| rest.split(['/', '?']).next()).filter(|authority| !authority.is_empty()) {
            Some(authority) if matches!(scheme, "http" | "https") => authority,
            Some(_) | None => scheme,
        }
    }

    /// What a page's `form-action` must name so that a form's answer may lead there: browsers judge the redirects of a form too.
    pub(in crate::issuer) fn form_source(&self) -> String {
        let scheme = self.uri.split_once(':').map_or("https", |(scheme, _)| scheme);
        let host = self.host();
        let is_plain = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b':'));
        if matches!(scheme, "http" | "https") && is_plain {
            format!("{scheme}://{host}")
        } else {
            // The grammar of sources knows no IPv6 address.
            scheme
                .chars()
                .filter(|character| character.is_ascii_alphanumeric() || matches!(character, '+' | '-' | '.'))
                .chain([':'])
                .collect()
        }
    }

    /// What the URI has of a query stays (RFC 6749 section 3.1.2).
    fn with(&self, issuer: &str, answer: &str) -> String {
        let joint = match self.uri.split_once('?') {
            None => "?",
            Some((_, query)) if query.is_empty() || query.ends_with('&') => "",
            Some(_) => "&",
        };
        let state = self.state.as_ref().map_or_else(String::new, |state| format!("&state={state}"));
        format!("{}{joint}{answer}{state}&iss={}", self.uri, encode(issuer.as_bytes()))
    }
}

/// Whether the client registered this URI: byte for byte, but for the port of a native client's loopback address (RFC 8252 section 7.3).
pub(in crate::issuer::oauth) fn is_registered(client: &ClientRecord, uri: &str) -> bool {
    let is_same = |registered: &Arc<str>| match client.kind {
        ClientKind::Confidential | ClientKind::Public => **registered == *uri,
        ClientKind::Native => **registered == *uri || loopback(registered).is_some_and(|parts| loopback(uri) == Some(parts)),
    };
    client.redirect_uris.iter().any(is_same)
}

/// The loopback address and what follows its port. A name such as `localhost` is none: whoever answers for names answers for it.
fn loopback(uri: &str) -> Option<(&str, &str)> {
    let address = ["http://127.0.0.1", "http://[::1]"].into_iter().find(|address| uri.starts_with(address))?;
    let (address, mut rest) = uri.split_at_checked(address.len())?;
    if let Some(numbered) = rest.strip_prefix(':') {
        let digits = numbered.bytes().take_while(u8::is_ascii_digit).count();
        let (port, behind) = numbered.split_at_checked(digits)?;
        let is_port = !port.starts_with('0') && port.parse::<u16>().is_ok();
        rest = if is_port { behind } else { return None };
    }
    (rest.is_empty() || rest.starts_with(['/', '?'])).then_some((address, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issuer::oauth::authorize::refusal::ErrorCode;
    use crate::issuer::oauth::authorize::testing::client;

    fn is_accepted(kind: ClientKind, registered: &str, uri: &str) -> bool {
        let mut record = client("a");
        record.kind = kind;
        record.redirect_uris = vec![registered.into()];
        is_registered(&record, uri)
    }

    // oauth: B1
    // battery: I5
    #[test]
    fn redirect_uris_are_compared_byte_for_byte() {
        let registered = "https://app.example.com/cb?a=1";
        for kind in [ClientKind::Confidential, ClientKind::Public, ClientKind::Native] {
            assert!(is_accepted(kind, registered, registered));
            for other in [
                "https://app.example.com/cb",
                "https://app.example.com/CB?a=1",
                "https://APP.example.com/cb?a=1",
                "HTTPS://app.example.com/cb?a=1",
                "https://app.example.com/cb/?a=1",
                "https://app.example.com/x/../cb?a=1",
                "https://app.example.com/./cb?a=1",
                "https://app.example.com/cb?a=1&b=2",
                "https://app.example.com/cb?a=1#f",
                "https://user@app.example.com/cb?a=1",
                "https://app.example.com@evil.example/cb?a=1",
                "https://app.example.com:443/cb?a=1",
                "https://app.example.com/%63b?a=1",
                "https://app.example.com/cb?a=%31",
                "https://app.example.com.evil.example/cb?a=1",
                "http://app.example.com/cb?a=1",
                "https://app.example.com/cb?a=1 ",
                " https://app.example.com/cb?a=1",
                "https://app.example.com\\cb?a=1",
                "//app.example.com/cb?a=1",
                "",
            ] {
                assert!(!is_accepted(kind, registered, other), "{other}");
            }
        }
    }

    // oauth: B2
    #[test]
    fn only_a_native_loopback_address_may_differ_and_only_in_its_port() {
        let registered = "http://127.0.0.1/cb";
        for (uri, expected) in [
            ("http://127.0.0.1/cb", true),
            ("http://127.0.0.1:49152/cb", true),
            ("http://127.0.0.1:1/cb", true),
            ("http://127.0.0.1:0/cb", false),
            ("http://127.0.0.1:080/cb", false),
            ("http://127.0.0.1:65536/cb", false),
            ("http://127.0.0.1:/cb", false),
            ("http://127.0.0.1:80/other", false),
            ("http://127.0.0.1:80/cb?x=1", false),
            ("http://127.0.0.1:80@evil.example/cb", false),
            ("http://127.0.0.1:80.evil.example/cb", false),
            ("http://127.0.0.1.evil.example/cb", false),
            ("http://127.0.0.2:80/cb", false),
            ("http://[::1]:80/cb", false),
            ("http://localhost:80/cb", false),
            ("https://127.0.0.1:80/cb", false),
        ] {
            assert_eq!(is_accepted(ClientKind::Native, registered, uri), expected, "{uri}");
            let is_exact = uri == registered;
            assert_eq!(is_accepted(ClientKind::Public, registered, uri), is_exact, "{uri}");
            assert_eq!(is_accepted(ClientKind::Confidential, registered, uri), is_exact, "{uri}");
        }
        assert!(is_accepted(ClientKind::Native, "http://[::1]:8080/cb", "http://[::1]:9/cb"));
        for registered in ["http://localhost/cb", "https://app.example.com/cb", "http://127.0.0.1.example.com/cb"] {
            assert!(!is_accepted(ClientKind::Native, registered, &registered.replacen("/cb", ":81/cb", 1)), "{registered}");
        }
    }

    // oauth: A14
    #[test]
    fn a_query_of_the_redirect_uri_is_kept() {
        for (uri, expected) in [
            ("https://a.example/cb", "https://a.example/cb?code=c&state=s&iss=https%3A%2F%2Fid.example"),
            ("https://a.example/cb?", "https://a.example/cb?code=c&state=s&iss=https%3A%2F%2Fid.example"),
            ("https://a.example/cb?x=%20y", "https://a.example/cb?x=%20y&code=c&state=s&iss=https%3A%2F%2Fid.example"),
            ("com.example.app:/cb", "com.example.app:/cb?code=c&state=s&iss=https%3A%2F%2Fid.example"),
        ] {
            let back = ReturnAddress { uri: uri.into(), named: true, state: Some("s".to_owned()) };
            assert_eq!(back.with_code("https://id.example", "c"), expected);
        }
        let back = ReturnAddress { uri: "https://a.example/cb?x=1".into(), named: true, state: None };
        assert_eq!(
            back.with_error("https://id.example", Refusal::new(ErrorCode::AccessDenied, "no")),
            "https://a.example/cb?x=1&error=access_denied&error_description=no&iss=https%3A%2F%2Fid.example"
        );
    }

    #[test]
    fn a_form_may_lead_to_the_client_and_nowhere_else() {
        for (uri, host, source) in [
            ("https://a.example:8443/cb?x=1", "a.example:8443", "https://a.example:8443"),
            ("http://127.0.0.1:5/cb", "127.0.0.1:5", "http://127.0.0.1:5"),
            ("http://[::1]:5/cb", "[::1]:5", "http:"),
            ("com.example.app:/cb", "com.example.app", "com.example.app:"),
            ("com.example.app://host/cb", "com.example.app", "com.example.app:"),
            ("https://a.example;script-src/cb", "a.example;script-src", "https:"),
        ] {
            let back = ReturnAddress { uri: uri.into(), named: true, state: None };
            assert_eq!((back.host(), back.form_source().as_str()), (host, source));
        }
    }
}
