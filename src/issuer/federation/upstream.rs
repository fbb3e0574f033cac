//! What is known of each provider: its metadata and its keys (OpenID Connect Discovery 1.0), bounded by the config's list of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use reqwest::Url;

use crate::issuer::federation::fetch::FetchError;
use crate::issuer::federation::fetch::Fetcher;
use crate::issuer::federation::fetch::Reach;
use crate::issuer::federation::kept::Kept;
use crate::jose::KeySet;
use crate::jose::id_token;
use crate::jose::id_token::Expected;
use crate::jose::id_token::IdToken;
use crate::jose::id_token::IdTokenError;
use crate::jose::id_token::TENANT;
use crate::jose::json::Json;
use crate::jose::json::Members;
use crate::jose::json::read_object;
use crate::model::issuance::Issuance;
use crate::model::issuance::Provider;
use crate::model::time::Timestamp;

/// Where the metadata of a multi-tenant issuer lies.
const ANY_TENANT: &str = "common";

/// Everything that is remembered of providers. One for a process.
#[derive(Debug, Default)]
pub struct Federation {
    fetcher: Arc<Fetcher>,
    /// By the issuer's text in the config.
    known: Mutex<BTreeMap<Arc<str>, Arc<Upstream>>>,
}

/// One provider.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) fetcher: Arc<Fetcher>,
    pub(super) reach: Reach,
    issuer: Arc<str>,
    metadata: Arc<Kept<Metadata>>,
    keys: Arc<Kept<Keys>>,
}

/// What we need of a provider's metadata.
#[derive(Clone, Debug)]
pub(super) struct Metadata {
    pub(super) authorization_endpoint: Url,
    pub(super) token_endpoint: String,
    pub(super) authentication: Authentication,
    /// Whether every answer names its issuer (RFC 9207 section 3).
    pub(super) promises_issuer: bool,
    keys: String,
}

/// How a client shows its secret (RFC 6749 section 2.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Authentication {
    Basic,
    Post,
}

/// A provider's keys, and which of them sign for one issuer only: a multi-tenant set says so of each key.
#[derive(Debug)]
struct Keys {
    set: KeySet,
    bound: BTreeMap<String, String>,
}

impl Federation {
    /// What is known of this provider; what the config names no longer is forgotten.
    pub(super) fn upstream(&self, provider: &Provider, issuance: &Issuance) -> Arc<Upstream> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|issuer, _upstream| issuance.providers.iter().any(|provider| provider.issuer == *issuer));
        let upstream = known.entry(Arc::clone(&provider.issuer)).or_insert_with(|| {
            Arc::new(Upstream {
                fetcher: Arc::clone(&self.fetcher),
                reach: Reach::of(&provider.issuer),
                issuer: Arc::clone(&provider.issuer),
                metadata: Kept::new("metadata"),
                keys: Kept::new("keys"),
            })
        });
        Arc::clone(upstream)
    }
}

impl Upstream {
    /// None while the provider is down and was never reached.
    pub(super) async fn metadata(&self, now: Timestamp) -> Option<Arc<Metadata>> {
        let (fetcher, reach, issuer) = (Arc::clone(&self.fetcher), self.reach, Arc::clone(&self.issuer));
        let fetch = move || async move {
            let place = issuer.replace(TENANT, ANY_TENANT);
            let place = format!("{}/.well-known/openid-configuration", place.strip_suffix('/').unwrap_or(&place));
            Metadata::read(&fetcher.read(&place, reach).await?, &issuer, reach).map_err(FetchError::Document)
        };
        self.metadata.get(now, fetch).await
    }

    /// Judges an ID token with the provider's keys; with newer ones where it names a key that is not known yet.
    pub(super) async fn judge(
        &self,
        metadata: &Metadata,
        token: &str,
        expected: &Expected<'_>,
        now: Timestamp,
    ) -> Result<IdToken, UntrustedToken> {
        let fetch = {
            let (fetcher, reach, url) = (Arc::clone(&self.fetcher), self.reach, metadata.keys.clone());
            move || async move { Keys::read(&fetcher.read(&url, reach).await?).map_err(FetchError::Document) }
        };
        let keys = self.keys.get(now, fetch.clone()).await.ok_or(UntrustedToken::NoKeys)?;
        match keys.judge(token, expected, now) {
            Err(UntrustedToken::Token(IdTokenError::UnknownKey)) => {
                let keys = self.keys.newer(&keys, now, fetch).await.ok_or(UntrustedToken::Token(IdTokenError::UnknownKey))?;
                keys.judge(token, expected, now)
            }
            judged => judged,
        }
    }
}

/// Why an ID token is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum UntrustedToken {
    #[error("the provider's keys could not be fetched")]
    NoKeys,
    #[error(transparent)]
    Token(#[from] IdTokenError),
    #[error("its key signs for another issuer")]
    OtherIssuersKey,
}

impl Keys {
    fn read(bytes: &[u8]) -> Result<Self, String> {
        let set = KeySet::from_jwks(bytes, &id_token::ALGORITHMS).map_err(|error| error.to_string())?;
        let members = read_object(bytes).map_err(|error| error.to_string())?;
        let entries = members.get("keys").and_then(Json::as_list).unwrap_or_default();
        let bound = entries.iter().filter_map(Json::as_object).filter_map(|key| {
            let text = |name: &str| key.get(name).and_then(Json::as_text).map(str::to_owned);
            text("kid").zip(text("issuer"))
        });
        Ok(Self { set, bound: bound.collect() })
    }

    fn judge(&self, token: &str, expected: &Expected<'_>, now: Timestamp) -> Result<IdToken, UntrustedToken> {
        let judged = id_token::judge(token, &self.set, expected, now)?;
        let bound = judged.key_id.as_ref().and_then(|id| self.bound.get(id));
        if bound.is_none_or(|issuer| **issuer == *expected.issuer || **issuer == *judged.issuer) {
            return Ok(judged);
        }
        Err(UntrustedToken::OtherIssuersKey)
    }
}

impl Metadata {
    fn read(bytes: &[u8], issuer: &str, reach: Reach) -> Result<Self, String> {
        let members = read_object(bytes).map_err(|error| error.to_string())?;
        if text(&members, "issuer")? != issuer {
            return Err("its `issuer` is not the one of the config, letter by letter".to_owned());
        }
        let place = |name: &str| {
            let url = text(&members, name)?;
            reach.check(url).map_err(|error| format!("`{name}`: {error}"))
        };
        let methods = members.get("token_endpoint_auth_methods_supported").and_then(Json::as_list);
        let offers = |name: &str| methods.is_some_and(|methods| methods.iter().any(|method| method.as_text() == Some(name)));
        Ok(Self {
            authorization_endpoint: place("authorization_endpoint")?,
            token_endpoint: place("token_endpoint")?.into(),
            keys: place("jwks_uri")?.into(),
            // Where nothing is said it is `client_secret_basic`.
            authentication: if offers("client_secret_post") && !offers("client_secret_basic") {
                Authentication::Post
            } else {
                Authentication::Basic
            },
            promises_issuer: matches!(members.get("authorization_response_iss_parameter_supported"), Some(Json::Bool(true))),
        })
    }
}

fn text<'m>(members: &'m Members<'_>, name: &str) -> Result<&'m str, String> {
    members.get(name).and_then(Json::as_text).ok_or_else(|| format!("`{name}` is missing or not a text"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::battery;
    use crate::model::rules::Algorithm;

    const ISSUER: &str = "https://login.example/{tenantid}/v2.0";

    fn document(changes: &[(&str, serde_json::Value)]) -> Vec<u8> {
        let mut document = serde_json::json!({
            "issuer": ISSUER,
            "authorization_endpoint": "https://login.example/authorize",
            "token_endpoint": "https://login.example/token",
            "jwks_uri": "https://keys.example/keys",
        });
        for (name, value) in changes {
            document[*name] = value.clone();
        }
        document.to_string().into_bytes()
    }

    // oauth: S3 S8
    #[test]
    fn metadata_is_the_configured_issuers_and_leads_nowhere_inside() {
        let read = |changes: &[(&str, serde_json::Value)]| Metadata::read(&document(changes), ISSUER, Reach::Public);
        assert!(read(&[]).is_ok());
        for (name, value) in [
            ("issuer", "https://login.example/common/v2.0".into()),
            ("issuer", 7.into()),
            ("authorization_endpoint", "javascript:alert(1)".into()),
            ("authorization_endpoint", "http://login.example/authorize".into()),
            ("token_endpoint", "https://169.254.169.254/token".into()),
            ("token_endpoint", "https://[::1]/token".into()),
            ("token_endpoint", serde_json::Value::Null),
            ("jwks_uri", "http://127.0.0.1/keys".into()),
            ("jwks_uri", "file:///etc/passwd".into()),
        ] {
            assert!(read(&[(name, value.clone())]).is_err(), "{name} {value}");
        }
        for (methods, expected) in [
            (serde_json::json!(["client_secret_post", "client_secret_basic"]), Authentication::Basic),
            (serde_json::json!(["private_key_jwt", "client_secret_post"]), Authentication::Post),
            (serde_json::Value::Null, Authentication::Basic),
        ] {
            let metadata = read(&[("token_endpoint_auth_methods_supported", methods.clone())]).unwrap();
            assert_eq!(metadata.authentication, expected, "{methods}");
        }
    }

    // oauth: S3
    #[test]
    fn a_key_that_signs_for_one_tenant_signs_for_no_other() {
        let jwk = battery::jwk(Algorithm::EdDsa);
        let token = battery::forge(
            Algorithm::EdDsa,
            r#"{"alg":"EdDSA","kid":"k"}"#,
            battery::payload(&[
                ("iss", Some("\"https://login.example/a/v2.0\"")),
                ("tid", Some("\"a\"")),
                ("aud", Some("\"us\"")),
                ("nonce", Some("\"n\"")),
            ]),
        );
        let expected = Expected { issuer: ISSUER, tenants: &[], client_id: "us", nonce: "n" };
        for (bound, accepted) in [
            ("", true),
            (r#","issuer":"https://login.example/{tenantid}/v2.0""#, true),
            (r#","issuer":"https://login.example/a/v2.0""#, true),
            (r#","issuer":"https://login.example/b/v2.0""#, false),
        ] {
            let keys = Keys::read(format!(r#"{{"keys":[{{{jwk},"kid":"k"{bound}}}]}}"#).as_bytes()).unwrap();
            assert_eq!(keys.judge(&token, &expected, battery::NOW).is_ok(), accepted, "{bound}");
        }
    }
}
