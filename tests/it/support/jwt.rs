//! Tokens as a foreign issuer would make them.

use std::time::SystemTime;
use std::time::UNIX_EPOCH;

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
