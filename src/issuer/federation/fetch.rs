//! How anything is asked of a provider: encrypted, without redirects, small, quickly, and never of an address that is not the world's.
//!
//! What a provider's own documents name is as little trusted as any other text from outside: an endpoint on a private address would
//! make us a way into this network.

use std::fmt;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use reqwest::Client;
use reqwest::RequestBuilder;
use reqwest::StatusCode;
use reqwest::Url;
use reqwest::dns::Addrs;
use reqwest::dns::Name;
use reqwest::dns::Resolve;
use reqwest::dns::Resolving;
use reqwest::header::ACCEPT;
use reqwest::header::CONTENT_TYPE;
use tokio::sync::Semaphore;

use crate::outbound;
use crate::outbound::Unread;
use crate::outbound::causes;
use crate::outbound::is_loopback;

/// From the look-up of the name to the last byte of the body.
const TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 256 * 1024;
const URL_BYTES_MAX: usize = 2048;
/// Questions to all providers together; more are refused, so that a slow provider holds no more of us than this.
const QUESTIONS_MAX: usize = 64;

/// Which addresses a provider may lead us to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// The world's.
    Public,
    /// This machine's too: the config itself names an issuer here.
    Loopback,
}

/// Asks providers.
pub(super) struct Fetcher {
    public: OnceLock<Option<Client>>,
    loopback: OnceLock<Option<Client>>,
    questions: Semaphore,
}

/// Why there is no answer. The texts are for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FetchError {
    #[error("{0:?} is no https URL, or leads to an address that no provider may lead to")]
    Address(String),
    #[error("TLS cannot be set up on this machine")]
    NoTls,
    #[error("too many questions to providers are under way")]
    Overloaded,
    #[error("the provider cannot be reached: {0}")]
    Unreachable(String),
    #[error("the provider answered {0}; redirects are not followed, so name its final address in the config")]
    Redirected(StatusCode),
    #[error("the provider answered {0}{1}")]
    Status(StatusCode, String),
    #[error("the provider sent something else than JSON")]
    NotJson,
    #[error("the provider's answer is larger than 256 KiB")]
    TooLarge,
    #[error("the provider's document is not usable: {0}")]
    Document(String),
}

impl Reach {
    /// By what the config says, never by what a provider does.
    pub(super) fn of(issuer: &str) -> Self {
        let host = Url::parse(issuer).ok().and_then(|url| url.host_str().map(str::to_owned));
        if host.is_some_and(|host| is_loopback(&host)) { Self::Loopback } else { Self::Public }
    }

    pub(super) fn allows(self, address: IpAddr) -> bool {
        match self {
            Self::Public => is_public(address),
            Self::Loopback => is_public(address) || address.to_canonical().is_loopback(),
        }
    }

    /// A place that a provider's document names: https, or http where the issuer itself is on this machine and so is the place.
    pub(super) fn check(self, text: &str) -> Result<Url, FetchError> {
        let refused = || FetchError::Address(text.chars().take(200).collect());
        if text.len() > URL_BYTES_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(refused());
        }
        let url = Url::parse(text).map_err(|_error| refused())?;
        let host = url.host_str().ok_or_else(refused)?;
        let is_encrypted = url.scheme() == "https" || (url.scheme() == "http" && self == Self::Loopback && is_loopback(host));
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
        let is_plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
        if is_encrypted && is_plain && literal.is_none_or(|address| self.allows(address)) { Ok(url) } else { Err(refused()) }
    }
}

impl From<Unread> for FetchError {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::TooLarge => Self::TooLarge,
            Unread::Broken(why) => Self::Unreachable(why),
        }
    }
}

impl Default for Fetcher {
    fn default() -> Self {
        Self { public: OnceLock::new(), loopback: OnceLock::new(), questions: Semaphore::new(QUESTIONS_MAX) }
    }
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Fetcher").field("free", &self.questions.available_permits()).finish_non_exhaustive()
    }
}

impl Fetcher {
    /// A JSON document.
    pub(super) async fn read(&self, url: &str, reach: Reach) -> Result<Vec<u8>, FetchError> {
        let url = reach.check(url)?;
        self.ask(self.client(reach)?.get(url)).await
    }

    /// Posts a form. `authorization` goes into the header of that name.
    pub(super) async fn post(&self, url: &str, form: String, authorization: Option<&str>, reach: Reach) -> Result<Vec<u8>, FetchError> {
        let url = reach.check(url)?;
        let mut request = self.client(reach)?.post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
        if let Some(authorization) = authorization {
            request = request.header(reqwest::header::AUTHORIZATION, authorization);
        }
        self.ask(request).await
    }

    async fn ask(&self, request: RequestBuilder) -> Result<Vec<u8>, FetchError> {
        let _place = self.questions.try_acquire().map_err(|_full| FetchError::Overloaded)?;
        let response = request.header(ACCEPT, "application/json").send().await.map_err(|error| FetchError::Unreachable(causes(&error)))?;
        let status = response.status();
        if status.is_redirection() {
            return Err(FetchError::Redirected(status));
        }
        let is_json = outbound::is_json(outbound::content_type(&response));
        let body = outbound::read_bounded(response, ANSWER_BYTES_MAX).await?;
        if status != StatusCode::OK {
            return Err(FetchError::Status(status, error_code(&body)));
        }
        if is_json { Ok(body) } else { Err(FetchError::NotJson) }
    }

    fn client(&self, reach: Reach) -> Result<&Client, FetchError> {
        let kept = match reach {
            Reach::Public => &self.public,
            Reach::Loopback => &self.loopback,
        };
        kept.get_or_init(|| build(reach)).as_ref().ok_or(FetchError::NoTls)
    }
}

fn build(reach: Reach) -> Option<Client> {
    match outbound::client(TIMEOUT, 2).dns_resolver(Arc::new(Guarded(reach))).build() {
        Ok(client) => Some(client),
        Err(error) => {
            tracing::error!(%error, "providers of sign-ins cannot be asked");
            None
        }
    }
}

/// Looks names up, and forgets every address that is out of reach: judged here, an answer cannot change between check and use.
struct Guarded(Reach);

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed: Vec<SocketAddr> = found.into_iter().filter(|address| reach.allows(address.ip())).collect();
            if allowed.is_empty() {
                return Err("the name has no address that a provider may lead to".into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Whether the whole world means the same machine by it.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let is_special = match address.octets() {
        // This network, carriers' own, protocol assignments, benchmarks, and everything reserved.
        [0 | 240..=255, ..] | [100, 64..=127, ..] | [192, 0, 0, _] | [198, 18 | 19, ..] => true,
        [..] => false,
    };
    !(is_special
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation())
}

/// Global unicast, without documentation and without tunnels that lead to an IPv4 address of somebody's choice.
fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        [0x2001, 0xdb8 | 0, ..] | [0x2002, ..] | [0x3fff, 0..=0xfff, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

/// The `error` of RFC 6749 section 5.2, for the log; nothing else of the answer, which may hold a token.
fn error_code(body: &[u8]) -> String {
    let members = crate::jose::json::read_object(body).unwrap_or_default();
    let code = members.get("error").and_then(crate::jose::json::Json::as_text).unwrap_or_default();
    if super::is_error_code(code) { format!(" and says `{code}`") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    // oauth: S8
    // battery: I13
    #[test]
    fn a_provider_leads_to_the_worlds_addresses_only() {
        for (address, public) in [
            ("8.8.8.8", true),
            ("2a00:1450:4001::71", true),
            ("127.0.0.1", false),
            ("10.0.0.7", false),
            ("172.16.0.1", false),
            ("192.168.1.1", false),
            ("169.254.169.254", false),
            ("100.64.0.1", false),
            ("0.0.0.0", false),
            ("192.0.0.192", false),
            ("198.18.0.1", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("::1", false),
            ("::", false),
            ("::ffff:10.0.0.7", false),
            ("::ffff:169.254.169.254", false),
            ("::10.0.0.7", false),
            ("64:ff9b::a00:7", false),
            ("2002:a00:7::1", false),
            ("2001:0:a00:7::1", false),
            ("2001:db8::1", false),
            ("fc00::1", false),
            ("fd00:ec2::254", false),
            ("fe80::1", false),
            ("ff02::1", false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(Reach::Public.allows(address), public, "{address}");
            assert_eq!(Reach::Loopback.allows(address), public || address.is_loopback(), "{address}");
        }
    }

    // oauth: S8
    #[test]
    fn endpoints_are_encrypted_and_plain() {
        for (url, public, loopback) in [
            ("https://id.example.com/token?a=b", true, true),
            ("http://id.example.com/token", false, false),
            ("http://127.0.0.1:9000/token", false, true),
            ("http://localhost:9000/token", false, true),
            ("https://127.0.0.1/token", false, true),
            ("https://[::1]/token", false, true),
            ("https://10.0.0.7/token", false, false),
            ("https://[::ffff:10.0.0.7]/token", false, false),
            ("https://0x7f000001/token", false, true),
            ("https://2852039166/latest", false, false),
            ("http://localhost.example.com/", false, false),
            ("https://user@id.example.com/", false, false),
            ("https://id.example.com/#part", false, false),
            ("file:///etc/passwd", false, false),
            ("javascript:alert(1)", false, false),
            ("", false, false),
        ] {
            assert_eq!(Reach::Public.check(url).is_ok(), public, "{url}");
            assert_eq!(Reach::Loopback.check(url).is_ok(), loopback, "{url}");
        }
        assert!(Reach::Public.check(&format!("https://id.example.com/{}", "a".repeat(3000))).is_err());
        assert_eq!(Reach::of("https://login.example/{tenantid}/v2.0"), Reach::Public);
        assert_eq!(Reach::of("http://127.0.0.1:9/x"), Reach::Loopback);
    }

    // oauth: S8
    #[tokio::test]
    async fn a_name_that_leads_inside_is_not_followed() {
        let name = || "localhost".parse::<Name>().unwrap();
        assert!(Guarded(Reach::Public).resolve(name()).await.is_err());
        assert!(Guarded(Reach::Loopback).resolve(name()).await.is_ok());
    }
}
