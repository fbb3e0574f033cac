//! What everything that we ask of others by HTTP keeps to: no redirects, no proxy, in time, and small. Whom we may ask is the asker's.

use std::error::Error as _;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::Client;
use reqwest::ClientBuilder;
use reqwest::Response;
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;

/// Why there is no body.
#[derive(Debug)]
pub enum Unread {
    TooLarge,
    /// It broke off; why.
    Broken(String),
}

/// A client whose answers have this long, from the look-up of the name to the last byte of the body.
pub fn client(timeout: Duration, idle_per_host_max: usize) -> ClientBuilder {
    Client::builder()
        .redirect(Policy::none())
        .timeout(timeout)
        .pool_max_idle_per_host(idle_per_host_max)
        // Proxies would come from the environment, which only the config may read.
        .no_proxy()
        .referer(false)
        .user_agent(concat!("tollgate/", env!("CARGO_PKG_VERSION")))
}

/// Whether the host of a URL is this very machine.
pub fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What the answer says that it is; empty: nothing.
pub fn content_type(response: &Response) -> &str {
    response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Whether a content type is JSON's, or one that is made of it.
pub fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// The body, up to a size.
///
/// # Errors
/// [`Unread`].
pub async fn read_bounded(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, Unread> {
    if response.content_length().unwrap_or_default() > bytes_max as u64 {
        return Err(Unread::TooLarge);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| Unread::Broken(causes(&error)))? {
        if body.len() + chunk.len() > bytes_max {
            return Err(Unread::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The whole chain of causes: the outermost alone says only that sending failed.
pub fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
