//! Writes compact JWS with our own keys: what `compact` reads.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use crate::jose::ring::SigningKey;

/// A key with the one header that it writes.
pub(in crate::jose) fn header(key: &SigningKey, token_type: &str) -> String {
    let header = serde_json::json!({ "alg": key.public.algorithm().name(), "kid": key.public.id, "typ": token_type });
    format!("{}.", URL_SAFE_NO_PAD.encode(header.to_string()))
}

/// `header` is what [`header`] made of the same key.
pub(in crate::jose) fn sign(key: &SigningKey, header: &str, payload: &[u8]) -> Option<String> {
    let mut text = header.to_owned();
    URL_SAFE_NO_PAD.encode_string(payload, &mut text);
    let signature = key.sign(text.as_bytes())?;
    text.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut text);
    Some(text)
}

/// `aud`: one is written as a text, several as a list.
#[derive(Serialize)]
#[serde(untagged)]
pub(in crate::jose) enum Audience<'a> {
    One(&'a str),
    Several(&'a [Arc<str>]),
}

impl<'a> Audience<'a> {
    pub(in crate::jose) fn of(audience: &'a [Arc<str>]) -> Self {
        match audience {
            [only] => Self::One(only),
            several => Self::Several(several),
        }
    }
}
