//! How one key set is fetched: encrypted, without redirects, small, quickly, or not at all.

use std::error::Error as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use reqwest::Client;
use reqwest::Response;
use reqwest::StatusCode;
use reqwest::Url;
use reqwest::header::ACCEPT;
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;

use crate::jose::KeySet;
use crate::jose::keys::KeySetError;
use crate::jose::keys::SET_BYTES_MAX;
use crate::model::rules::Algorithm;

/// From the first byte of the look-up of the name to the last of the body.
pub const TOTAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Fetches key sets. Cheap to clone. TLS is set up by the first fetch: where nothing is fetched, no authorities need be installed.
#[derive(Clone, Debug)]
pub struct Fetcher {
    total: Duration,
    client: Arc<OnceLock<Client>>,
}

/// Why there is no new set.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("{0:?} is not a URL")]
    NotAUrl(String),
    #[error("keys are fetched by https only, or by http from this very machine")]
    NotEncrypted,
    #[error("the provider cannot be reached: {0}")]
    Unreachable(String),
    #[error("the provider answered {0}; redirects are not followed, so name the final address in the config")]
    Redirected(StatusCode),
    #[error("the provider answered {0}")]
    Status(StatusCode),
    #[error("the provider sent {0:?} instead of JSON")]
    ContentType(String),
    #[error("the answer is larger than 1 MiB")]
    TooLarge,
    #[error("the fetch did not end by itself")]
    Lost,
    #[error("the key set is not usable: {0}")]
    Keys(#[from] KeySetError),
}

impl Fetcher {
    pub fn new() -> Self {
        Self::with_timeout(TOTAL_TIMEOUT)
    }

    /// With another limit than [`TOTAL_TIMEOUT`].
    pub fn with_timeout(total: Duration) -> Self {
        Self { total, client: Arc::default() }
    }

    /// Fetches and vets one key set.
    ///
    /// # Errors
    /// [`FetchError`]; whoever asked keeps what it had.
    pub async fn fetch(&self, url: &str, allowed: &[Algorithm]) -> Result<KeySet, FetchError> {
        let url = check_url(url)?;
        let request = self.client()?.get(url).header(ACCEPT, "application/jwk-set+json, application/json");
        let response = request.send().await.map_err(|error| unreachable_provider(&error))?;
        let status = response.status();
        if status.is_redirection() {
            return Err(FetchError::Redirected(status));
        }
        if status != StatusCode::OK {
            return Err(FetchError::Status(status));
        }
        check_content_type(&response)?;
        let body = read_bounded(response).await?;
        Ok(KeySet::from_jwks(&body, allowed)?)
    }

    /// What failed once is tried again by the next fetch.
    fn client(&self) -> Result<&Client, FetchError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let built = Client::builder()
            .redirect(Policy::none())
            .timeout(self.total)
            .pool_max_idle_per_host(1)
            // Proxies would come from the environment, which only the config may read.
            .no_proxy()
            .referer(false)
            .user_agent(concat!("tollgate/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| unreachable_provider(&error))?;
        Ok(self.client.get_or_init(|| built))
    }
}

impl Default for Fetcher {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether keys may come from here: https, or http from a loopback address.
///
/// # Errors
/// [`FetchError::NotAUrl`] or [`FetchError::NotEncrypted`].
pub fn check_url(text: &str) -> Result<Url, FetchError> {
    let url = Url::parse(text).map_err(|_error| FetchError::NotAUrl(text.to_owned()))?;
    let host = url.host_str().ok_or_else(|| FetchError::NotAUrl(text.to_owned()))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback => Ok(url),
        _ => Err(FetchError::NotEncrypted),
    }
}

fn check_content_type(response: &Response) -> Result<(), FetchError> {
    let shown = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = shown.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"));
    if is_json { Ok(()) } else { Err(FetchError::ContentType(shown.chars().take(100).collect())) }
}

async fn read_bounded(mut response: Response) -> Result<Vec<u8>, FetchError> {
    let announced = response.content_length().unwrap_or_default();
    if announced > SET_BYTES_MAX as u64 {
        return Err(FetchError::TooLarge);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unreachable_provider(&error))? {
        if body.len() + chunk.len() > SET_BYTES_MAX {
            return Err(FetchError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The whole chain of causes: the outermost alone says only that sending failed.
fn unreachable_provider(error: &reqwest::Error) -> FetchError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    FetchError::Unreachable(text)
}

#[cfg(test)]
mod tests {
    use super::check_url;

    #[test]
    fn keys_come_encrypted_or_from_this_machine() {
        for (url, accepted) in [
            ("https://id.example.com/jwks", true),
            ("https://10.0.0.7/jwks", true),
            ("http://127.0.0.1:9000/jwks", true),
            ("http://127.8.9.1/jwks", true),
            ("http://localhost/jwks", true),
            ("http://[::1]:80/jwks", true),
            ("http://id.example.com/jwks", false),
            ("http://localhost.example.com/jwks", false),
            ("http://169.254.169.254/latest", false),
            ("http://0.0.0.0/jwks", false),
            ("file:///etc/passwd", false),
            ("ftp://id.example.com/jwks", false),
            ("data:application/json,{}", false),
            ("jwks", false),
            ("", false),
        ] {
            assert_eq!(check_url(url).is_ok(), accepted, "{url}");
        }
    }
}
