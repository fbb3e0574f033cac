//! A request to a page: what every page needs of it.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::FromRequest;
use axum::extract::FromRequestParts;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use axum::response::Response;

use crate::issuer::IssuerState;
use crate::issuer::callers::client_address;
use crate::issuer::checks::Check;
use crate::issuer::checks::hold;
use crate::issuer::checks::run;
use crate::issuer::pages;
use crate::issuer::pages::form::Form;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
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
        let (parts, body) = request.into_parts();
        Ok((Self::of(state, &parts)?, body))
    }

    fn of(state: &IssuerState, parts: &Parts) -> Result<Self, Problem> {
        let rules = state.rules.load_full();
        let Some(issuance) = rules.issuance.clone() else {
            return Err(Problem::new(Code::NotFound, "there are no pages here"));
        };
        let address = client_address(parts, &rules);
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let base = base_of(&issuance.url).to_owned();
        Ok(Self { headers: parts.headers.clone(), query, address, issuance, base, now: state.clock.now() })
    }

    /// What the page answers; what went wrong becomes a page too.
    pub(in crate::issuer) async fn answer(&self, page: impl Future<Output = Result<Response, Problem>>) -> Response {
        page.await.unwrap_or_else(|problem| pages::error::problem(self, &problem))
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

impl FromRequestParts<IssuerState> for Visit {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &IssuerState) -> Result<Self, Problem> {
        std::future::ready(Self::of(state, parts)).await
    }
}

/// A visit with a form.
#[derive(Debug)]
pub(in crate::issuer) struct Sent {
    pub visit: Visit,
    pub form: Form,
}

impl FromRequest<IssuerState> for Sent {
    type Rejection = Response;

    async fn from_request(request: Request, state: &IssuerState) -> Result<Self, Response> {
        let (visit, body) = Visit::begin(state, request).map_err(Problem::into_response)?;
        match Form::read(&visit.headers, body).await {
            Ok(form) => Ok(Self { visit, form }),
            Err(problem) => Err(pages::error::problem(&visit, &problem)),
        }
    }
}

/// The path of the issuer's URL.
pub(in crate::issuer) fn base_of(url: &str) -> &str {
    let authority = url.find("://").map_or(0, |scheme| scheme.saturating_add(3));
    let path = url.get(authority..).and_then(|rest| rest.find('/')).map(|slash| authority.saturating_add(slash));
    path.and_then(|path| url.get(path..)).unwrap_or_default()
}

/// A path of ours and nothing else.
pub(in crate::issuer) fn is_local(path: &str) -> bool {
    run(&path_checks(), &path).is_ok()
}

fn path_checks<'a>() -> [Check<&'a str>; 5] {
    [
        Check { name: "it fits into an address", run: |path| hold(path.len() <= RETURN_BYTES_MAX) },
        Check { name: "it begins at our root", run: |path| hold(path.starts_with('/')) },
        Check { name: "it names no host", run: |path| hold(!path.starts_with("//")) },
        Check { name: "it has nothing that browsers take for a slash", run: |path| hold(!path.contains('\\')) },
        Check { name: "it has nothing that browsers leave out", run: |path| hold(path.bytes().all(|byte| byte.is_ascii_graphic())) },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issuer::checks::assert_each_is_needed;

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

    // oauth: B7
    #[test]
    fn every_check_of_a_path_refuses_what_no_other_does() {
        let long = format!("/{}", "a".repeat(RETURN_BYTES_MAX));
        assert_each_is_needed(
            path_checks,
            &[
                ("it fits into an address", long.as_str()),
                ("it begins at our root", "https://evil.example"),
                ("it begins at our root", "javascript:alert(1)"),
                ("it begins at our root", ".evil.example"),
                ("it names no host", "//evil.example"),
                ("it has nothing that browsers take for a slash", "/\\evil.example"),
                ("it has nothing that browsers leave out", "/\t/evil.example"),
                ("it has nothing that browsers leave out", "/a\r\nset-cookie:x"),
            ],
        );
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
}
