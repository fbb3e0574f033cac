//! A request to a page: what every page needs of it.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::HeaderMap;

use crate::issuer::IssuerState;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::listen::http::Peer;
use crate::model::issuance::Issuance;
use crate::model::time::Timestamp;

/// The longest path that a page sends people on to: an authorization request, escaped.
const RETURN_BYTES_MAX: usize = 40 * 1024;

/// One request to a page.
#[derive(Debug)]
pub(in crate::issuer) struct Visit {
    pub headers: HeaderMap,
    pub query: String,
    /// The client's address, behind the proxies that are trusted.
    pub address: Option<IpAddr>,
    pub issuance: Arc<Issuance>,
    /// The path under which people see us: the issuer's, without a slash at the end; mostly empty.
    pub base: String,
    pub now: Timestamp,
}

impl Visit {
    /// # Errors
    /// 404 where nothing is issued.
    pub(in crate::issuer) fn begin(state: &IssuerState, request: Request) -> Result<(Self, Body), Problem> {
        let rules = state.rules.load_full();
        let Some(issuance) = rules.issuance.clone() else {
            return Err(Problem::new(Code::NotFound, "there are no pages here"));
        };
        let (parts, body) = request.into_parts();
        let peer = parts.extensions.get::<Peer>().and_then(|peer| peer.0).map(|peer| peer.ip().to_canonical());
        let address = client_address(&parts.headers, peer, rules.trusted_hops);
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let base = base_of(&issuance.url).to_owned();
        Ok((Self { headers: parts.headers, query, address, issuance, base, now: state.clock.now() }, body))
    }

    /// A path of ours as browsers see it.
    pub(in crate::issuer) fn local(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Where somebody goes who has signed in.
    pub(in crate::issuer) fn after_sign_in(&self, return_to: Option<&str>) -> String {
        let home = || self.issuance.home.as_deref().map_or_else(|| self.local("/account"), str::to_owned);
        return_to.filter(|path| is_local(path)).map_or_else(home, str::to_owned)
    }
}

/// The path of the issuer's URL.
pub(in crate::issuer) fn base_of(url: &str) -> &str {
    let authority = url.find("://").map_or(0, |scheme| scheme.saturating_add(3));
    let path = url.get(authority..).and_then(|rest| rest.find('/')).map(|slash| authority.saturating_add(slash));
    path.and_then(|path| url.get(path..)).unwrap_or_default()
}

/// A path of ours and nothing else: one slash, never two, and no backslash, which browsers take for a slash.
pub(in crate::issuer) fn is_local(path: &str) -> bool {
    path.len() <= RETURN_BYTES_MAX
        && path.starts_with('/')
        && !path.starts_with("//")
        && !path.contains('\\')
        && path.bytes().all(|byte| byte.is_ascii_graphic())
}

/// As at the gate: an entry that no trusted proxy wrote is never believed.
fn client_address(headers: &HeaderMap, peer: Option<IpAddr>, trusted_hops: u8) -> Option<IpAddr> {
    let Some(back) = usize::from(trusted_hops).checked_sub(1) else { return peer };
    let lists: Vec<&[u8]> = headers.get_all("x-forwarded-for").iter().map(|value| value.as_bytes()).collect();
    let mut from_right = lists.iter().rev().flat_map(|list| list.rsplit(|byte| *byte == b','));
    from_right.nth(back).and_then(read_address).or(peer)
}

fn read_address(entry: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(entry.trim_ascii()).ok().filter(|text| text.len() <= 56)?;
    let address = text.parse::<IpAddr>().or_else(|_error| text.parse::<SocketAddr>().map(|address| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    // oauth: B7
    #[test]
    fn people_are_sent_on_to_our_own_paths_only() {
        for good in ["/", "/account", "/oauth/authorize?client_id=a&redirect_uri=https%3A%2F%2Fa.example"] {
            assert!(is_local(good), "{good}");
        }
        let long = format!("/{}", "a".repeat(RETURN_BYTES_MAX));
        for bad in [
            "",
            "account",
            "//evil.example",
            "/\\evil.example",
            "\\/evil.example",
            "https://evil.example",
            "javascript:alert(1)",
            "/\t/evil.example",
            "/\n/evil.example",
            " /account",
            "/a\r\nset-cookie:x",
            "/\u{e9}",
            "/a\0",
            &long,
        ] {
            assert!(!is_local(bad), "{bad:?}");
        }
    }

    #[test]
    fn the_base_is_the_issuers_path() {
        for (url, base) in [
            ("https://id.example.com", ""),
            ("https://id.example.com:8443/a", "/a"),
            ("http://127.0.0.1:8080/a/b", "/a/b"),
            ("http://[::1]:8080", ""),
        ] {
            assert_eq!(base_of(url), base);
        }
    }

    #[test]
    fn an_address_is_believed_as_far_as_the_proxies_are() {
        let peer: IpAddr = "10.0.0.1".parse().unwrap();
        let headers = HeaderMap::from_iter([("x-forwarded-for".parse().unwrap(), "6.6.6.6, 1.2.3.4, [::1]:7".parse().unwrap())]);
        let told = |hops| client_address(&headers, Some(peer), hops).unwrap().to_string();
        assert_eq!([told(0), told(1), told(2), told(3), told(4)], ["10.0.0.1", "::1", "1.2.3.4", "6.6.6.6", "10.0.0.1"]);
        let junk = HeaderMap::from_iter([("x-forwarded-for".parse().unwrap(), "unknown".parse().unwrap())]);
        assert_eq!(client_address(&junk, Some(peer), 1), Some(peer));
    }
}
