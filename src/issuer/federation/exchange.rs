//! The code for an ID token (OpenID Connect Core section 3.1.3). Whatever else the provider gives is dropped unread.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use form_urlencoded::Serializer;
use zeroize::Zeroizing;

use crate::issuer::federation::fetch::FetchError;
use crate::issuer::federation::upstream::Authentication;
use crate::issuer::federation::upstream::Metadata;
use crate::issuer::federation::upstream::Upstream;
use crate::jose::json::Json;
use crate::jose::json::read_object;
use crate::model::issuance::Provider;

/// What the provider is shown for the token.
pub(super) struct Proof<'a> {
    pub(super) code: &'a str,
    pub(super) verifier: &'a str,
    pub(super) redirect_uri: &'a str,
}

/// The ID token's text; nothing about it is proven yet.
pub(super) async fn exchange(
    upstream: &Upstream,
    provider: &Provider,
    metadata: &Metadata,
    proof: &Proof<'_>,
) -> Result<Zeroizing<String>, FetchError> {
    let (form, authorization) = write(provider, metadata.authentication, proof);
    let authorization = authorization.as_ref().map(|text| text.as_str());
    let answer = Zeroizing::new(upstream.fetcher.post(&metadata.token_endpoint, form, authorization, upstream.reach).await?);
    let members = read_object(&answer).map_err(|error| FetchError::Document(error.to_string()))?;
    let token = members.get("id_token").and_then(Json::as_text);
    token.map(|token| Zeroizing::new(token.to_owned())).ok_or_else(|| FetchError::Document("there is no ID token in it".to_owned()))
}

fn write(provider: &Provider, authentication: Authentication, proof: &Proof<'_>) -> (String, Option<Zeroizing<String>>) {
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "authorization_code")
        .append_pair("code", proof.code)
        .append_pair("redirect_uri", proof.redirect_uri)
        .append_pair("code_verifier", proof.verifier);
    let Some(secret) = &provider.client_secret else {
        form.append_pair("client_id", &provider.client_id);
        return (form.finish(), None);
    };
    match authentication {
        Authentication::Post => {
            form.append_pair("client_id", &provider.client_id);
            let secret = Zeroizing::new(String::from_utf8_lossy(secret).into_owned());
            form.append_pair("client_secret", &secret);
            (form.finish(), None)
        }
        Authentication::Basic => {
            // Both are form-encoded before they are joined (RFC 6749 section 2.3.1).
            let encode = |bytes: &[u8]| form_urlencoded::byte_serialize(bytes).collect::<String>();
            let pair = Zeroizing::new(format!("{}:{}", encode(provider.client_id.as_bytes()), encode(secret)));
            (form.finish(), Some(Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())))))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_secret_is_shown_in_one_place_only() {
        let proof = Proof { code: "c&1", verifier: "v", redirect_uri: "https://id.example/cb" };
        let provider = |secret: Option<&str>| Provider {
            name: "google".into(),
            label: "Google".into(),
            issuer: "https://id.example".into(),
            tenants: Vec::new(),
            client_id: "us:x".into(),
            client_secret: secret.map(|secret| Arc::new(Zeroizing::new(secret.as_bytes().to_vec()))),
            scopes: Vec::new(),
            trusts_email: false,
        };
        let common = "grant_type=authorization_code&code=c%261&redirect_uri=https%3A%2F%2Fid.example%2Fcb&code_verifier=v";
        let (form, header) = write(&provider(Some("p w")), Authentication::Basic, &proof);
        assert_eq!((form.as_str(), header.unwrap().as_str()), (common, "Basic dXMlM0F4OnArdw=="));
        let (form, header) = write(&provider(Some("p w")), Authentication::Post, &proof);
        assert_eq!((form, header), (format!("{common}&client_id=us%3Ax&client_secret=p+w"), None));
        let (form, header) = write(&provider(None), Authentication::Basic, &proof);
        assert_eq!((form, header), (format!("{common}&client_id=us%3Ax"), None));
    }
}
