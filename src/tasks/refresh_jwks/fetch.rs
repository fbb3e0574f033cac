//! How one key set is fetched: encrypted, without redirects, small, quickly, or not at all.

use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use reqwest::Client;
use reqwest::StatusCode;
use reqwest::Url;
use reqwest::header::ACCEPT;

use crate::jose::KeySet;
use crate::jose::keys::KeySetError;
use crate::jose::keys::SET_BYTES_MAX;
use crate::model::rules::Algorithm;
use crate::outbound;
use crate::outbound::Unread;
use crate::outbound::causes;

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
        let response = request.send().await.map_err(|error| FetchError::Unreachable(causes(&error)))?;
        let status = response.status();
        if status.is_redirection() {
            return Err(FetchError::Redirected(status));
        }
        if status != StatusCode::OK {
            return Err(FetchError::Status(status));
        }
        let shown = outbound::content_type(&response);
        if !outbound::is_json(shown) {
            return Err(FetchError::ContentType(shown.chars().take(100).collect()));
        }
        let body = outbound::read_bounded(response, SET_BYTES_MAX).await?;
        Ok(KeySet::from_jwks(&body, allowed)?)
    }

    /// What failed once is tried again by the next fetch.
    fn client(&self) -> Result<&Client, FetchError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let built = outbound::client(self.total, 1).build().map_err(|error| FetchError::Unreachable(causes(&error)))?;
        Ok(self.client.get_or_init(|| built))
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
    let is_loopback = outbound::is_loopback(host);
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback => Ok(url),
        _ => Err(FetchError::NotEncrypted),
    }
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
