//! Tokens as a foreign issuer would make them.

use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::Header;
use serde_json::Value;
use serde_json::json;

/// Seconds since the epoch.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// `iss`, `aud`, `sub`, `iat` and an `exp` in an hour.
pub fn claims(issuer: &str, audience: &str, subject: &str) -> Value {
    json!({ "iss": issuer, "aud": audience, "sub": subject, "iat": now(), "exp": now() + 3600 })
}

/// Adds members to claims.
pub fn with(mut claims: Value, members: Value) -> Value {
    if let (Some(claims), Value::Object(members)) = (claims.as_object_mut(), members) {
        claims.extend(members);
    }
    claims
}

pub fn hs256(claims: &Value, secret: &str) -> String {
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(secret.as_bytes())).expect("a token")
}

/// A signer with a P-256 key of its own.
#[derive(Debug)]
pub struct Es256 {
    id: String,
    pair: rcgen::KeyPair,
}

impl Es256 {
    pub fn new(id: &str) -> Self {
        Self { id: id.to_owned(), pair: rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key pair") }
    }

    /// Its public half as a JWK set.
    pub fn jwks(&self) -> String {
        let point = rcgen::PublicKeyData::der_bytes(&self.pair);
        let (x, y) = point[1..].split_at(32);
        let text = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
        json!({ "keys": [{ "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.id, "x": text(x), "y": text(y) }] })
            .to_string()
    }

    /// An access token of the type that RFC 9068 names.
    pub fn sign(&self, claims: &Value) -> String {
        let header = Header { typ: Some("at+jwt".to_owned()), kid: Some(self.id.clone()), ..Header::new(Algorithm::ES256) };
        let key = EncodingKey::from_ec_pem(self.pair.serialize_pem().as_bytes()).expect("a private key");
        jsonwebtoken::encode(&header, claims, &key).expect("a token")
    }
}
