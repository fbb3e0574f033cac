//! Attacks on tokens and key sets, and published examples. Shared here: keys of our own and a forge that signs whatever it is
//! given, however odd, so that a token is refused for what it says and never for its signature alone.

mod claims;
mod form;
mod issuing;
mod keys;
mod memory;
mod published;
pub mod rotation;
mod signatures;

use std::sync::Arc;
use std::sync::LazyLock;
use std::time::Duration;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature;
use aws_lc_rs::signature::EcdsaKeyPair;
use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::jose::KeySet;
use crate::jose::TokenError;
use crate::jose::Tokens;
use crate::jose::algorithm;
use crate::model::caller::Environment;
use crate::model::caller::Namespace;
use crate::model::caller::SourceName;
use crate::model::claims::VerifiedClaims;
use crate::model::rules;
use crate::model::rules::Algorithm;
use crate::model::rules::ClaimNames;
use crate::model::rules::Issuer;
use crate::model::rules::IssuerKeys;
use crate::model::rules::LimitsFailure;
use crate::model::rules::Managed;
use crate::model::rules::Rules;
use crate::model::rules::Source;
use crate::model::rules::TokenId;
use crate::model::time::Timestamp;

pub const ISSUER: &str = "https://id.example.com";
pub const AUDIENCE: &str = "https://api.example.com";
pub const URL: &str = "https://id.example.com/jwks";

/// The instant at which every token is judged unless a test says otherwise.
pub const NOW: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);

/// A shared secret, long enough for every HMAC.
pub const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

static RSA: LazyLock<rsa::KeyPair> = LazyLock::new(|| rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap());
static P256: LazyLock<EcdsaKeyPair> = LazyLock::new(|| EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap());
static P384: LazyLock<EcdsaKeyPair> = LazyLock::new(|| EcdsaKeyPair::generate(&signature::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap());
static ED25519: LazyLock<Ed25519KeyPair> = LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap());

pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The raw signature of our key for this algorithm.
pub fn sign(algorithm: Algorithm, message: &[u8]) -> Vec<u8> {
    let random = SystemRandom::new();
    let rsa = |padding: &'static dyn signature::RsaEncoding| {
        let mut out = vec![0; RSA.public_modulus_len()];
        RSA.sign(padding, &random, message, &mut out).unwrap();
        out
    };
    let hmac = |algorithm| hmac::sign(&hmac::Key::new(algorithm, SECRET), message).as_ref().to_vec();
    match algorithm {
        Algorithm::Hs256 => hmac(hmac::HMAC_SHA256),
        Algorithm::Hs384 => hmac(hmac::HMAC_SHA384),
        Algorithm::Hs512 => hmac(hmac::HMAC_SHA512),
        Algorithm::Rs256 => rsa(&signature::RSA_PKCS1_SHA256),
        Algorithm::Rs384 => rsa(&signature::RSA_PKCS1_SHA384),
        Algorithm::Rs512 => rsa(&signature::RSA_PKCS1_SHA512),
        Algorithm::Ps256 => rsa(&signature::RSA_PSS_SHA256),
        Algorithm::Es256 => P256.sign(&random, message).unwrap().as_ref().to_vec(),
        Algorithm::Es384 => P384.sign(&random, message).unwrap().as_ref().to_vec(),
        Algorithm::EdDsa => ED25519.sign(message).as_ref().to_vec(),
    }
}

/// A token of these very bytes, properly signed with our key for `algorithm`, whatever its header says.
pub fn forge(algorithm: Algorithm, header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
    seal(algorithm, format!("{}.{}", encode(header), encode(payload)))
}

/// Signs a text that need not even be base64url.
pub fn seal(algorithm: Algorithm, signing_input: String) -> String {
    let signature = encode(sign(algorithm, signing_input.as_bytes()));
    format!("{signing_input}.{signature}")
}

/// A good payload, with these members changed, added, or (`None`) left out. Values are JSON text.
pub fn payload(changes: &[(&str, Option<&str>)]) -> String {
    let mut members: Vec<(&str, Option<String>)> = vec![
        ("iss", Some(format!("\"{ISSUER}\""))),
        ("aud", Some(format!("\"{AUDIENCE}\""))),
        ("sub", Some("\"alice\"".to_owned())),
        ("iat", Some(NOW.unix_seconds().to_string())),
        ("exp", Some((NOW.unix_seconds() + 600).to_string())),
    ];
    for (name, value) in changes {
        members.retain(|(known, _value)| known != name);
        members.push((name, value.map(str::to_owned)));
    }
    let members: Vec<String> = members.into_iter().filter_map(|(name, value)| Some(format!("\"{name}\":{}", value?))).collect();
    format!("{{{}}}", members.join(","))
}

/// A good token but for these members.
pub fn token(changes: &[(&str, Option<&str>)]) -> String {
    forge(Algorithm::EdDsa, r#"{"alg":"EdDSA"}"#, payload(changes))
}

/// The public JWK of our key for this algorithm, without braces.
pub fn jwk(algorithm: Algorithm) -> String {
    let point = |pair: &EcdsaKeyPair, bytes: usize| {
        let point = pair.public_key().as_ref()[1..].to_vec();
        (encode(&point[..bytes]), encode(&point[bytes..]))
    };
    match algorithm.family() {
        algorithm::Family::Secret => format!(r#""kty":"oct","k":"{}""#, encode(SECRET)),
        algorithm::Family::Rsa => {
            let (modulus, exponent) = rsa_numbers(&RSA);
            format!(r#""kty":"RSA","n":"{}","e":"{}""#, encode(modulus), encode(exponent))
        }
        algorithm::Family::P256 => {
            let (x, y) = point(&P256, 32);
            format!(r#""kty":"EC","crv":"P-256","x":"{x}","y":"{y}""#)
        }
        algorithm::Family::P384 => {
            let (x, y) = point(&P384, 48);
            format!(r#""kty":"EC","crv":"P-384","x":"{x}","y":"{y}""#)
        }
        algorithm::Family::Ed25519 => format!(r#""kty":"OKP","crv":"Ed25519","x":"{}""#, encode(ED25519.public_key().as_ref())),
    }
}

/// Modulus and exponent out of the canonical `RSAPublicKey`: tag, length of two bytes, zero byte, modulus; then the exponent.
fn rsa_numbers(pair: &rsa::KeyPair) -> (Vec<u8>, Vec<u8>) {
    let der = pair.public_key().as_ref();
    let (modulus, exponent) = der[9..].split_at(256);
    (modulus.to_vec(), exponent[2..].to_vec())
}

/// The uncompressed point of our P-256 key.
pub fn p256_point() -> Vec<u8> {
    P256.public_key().as_ref().to_vec()
}

/// `SubjectPublicKeyInfo` of our keys, as PEM.
pub fn pem(algorithm: Algorithm) -> String {
    let der: Vec<u8> = match algorithm.family() {
        algorithm::Family::Rsa => RSA.public_key().as_der().unwrap().as_ref().to_vec(),
        algorithm::Family::P256 => P256.public_key().as_der().unwrap().as_ref().to_vec(),
        algorithm::Family::P384 => P384.public_key().as_der().unwrap().as_ref().to_vec(),
        algorithm::Family::Ed25519 => ED25519.public_key().as_der().unwrap().as_ref().to_vec(),
        algorithm::Family::Secret => panic!("a secret has no public key"),
    };
    pem_of("PUBLIC KEY", &der)
}

pub fn pem_of(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// A set of our public keys under these ids; an empty id is left out.
pub fn set(keys: &[(&str, Algorithm)]) -> Vec<u8> {
    let keys: Vec<String> = keys
        .iter()
        .map(|(id, algorithm)| {
            let id = if id.is_empty() { String::new() } else { format!(r#","kid":"{id}""#) };
            format!("{{{}{id}}}", jwk(*algorithm))
        })
        .collect();
    format!(r#"{{"keys":[{}]}}"#, keys.join(",")).into_bytes()
}

/// An issuer that trusts our Ed25519 key.
pub fn issuer() -> Issuer {
    issuer_with(KeySet::from_jwks(&set(&[("", Algorithm::EdDsa)]), &[Algorithm::EdDsa]).unwrap(), vec![Algorithm::EdDsa])
}

pub fn issuer_with(keys: KeySet, algorithms: Vec<Algorithm>) -> Issuer {
    Issuer {
        source: Source { name: SourceName::new("example"), namespace: Namespace::Named },
        issuer: ISSUER.into(),
        audience: vec![AUDIENCE.into()],
        algorithms,
        keys: IssuerKeys::Fixed(Arc::new(keys)),
        claims: ClaimNames {
            user: "sub".into(),
            scopes: vec!["scope".into(), "scp".into()],
            organization: Some("org_id".into()),
            tier: Some("tier".into()),
            environment: Some("env".into()),
            client: Some("client_id".into()),
        },
        token_type: None,
        managed: Managed::No,
        max_lifetime: None,
        tier: None,
        environment: Environment::Live,
        token_id: TokenId::Ignored,
    }
}

/// An issuer whose keys come from [`URL`].
pub fn remote_issuer() -> Issuer {
    Issuer { keys: IssuerKeys::Url { url: URL.into(), refresh: Duration::from_secs(300) }, ..issuer() }
}

pub fn rules(issuers: Vec<Issuer>) -> Rules {
    Rules { issuers, limits_failure: LimitsFailure::Deny, ..rules::samples::nothing() }
}

/// Judges a token by itself, with nothing remembered.
pub fn verify(token: &str, issuer: &Issuer, now: Timestamp) -> Result<Arc<VerifiedClaims>, TokenError> {
    Tokens::new(8).verify(token, &rules(vec![issuer.clone()]), now)
}

/// What a table expects of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    Accepted,
    Malformed,
    UntrustedIssuer,
    BadSignature,
    BadClaims,
    Expired,
    NotYetValid,
}

/// Checks one row of a table; `shown` names the row.
pub fn check(shown: &str, token: &str, issuer: &Issuer, expected: Expected) {
    check_at(shown, token, issuer, NOW, expected);
}

pub fn check_at(shown: &str, token: &str, issuer: &Issuer, now: Timestamp, expected: Expected) {
    let found = match verify(token, issuer, now) {
        Ok(_claims) => Expected::Accepted,
        Err(TokenError::Malformed(_)) => Expected::Malformed,
        Err(TokenError::UntrustedIssuer) => Expected::UntrustedIssuer,
        Err(TokenError::BadSignature(_)) => Expected::BadSignature,
        Err(TokenError::BadClaims(_)) => Expected::BadClaims,
        Err(TokenError::Expired) => Expected::Expired,
        Err(TokenError::NotYetValid) => Expected::NotYetValid,
        Err(TokenError::KeysMissing(issuer)) => panic!("{shown}: the keys of {issuer} are missing"),
    };
    assert_eq!(found, expected, "{shown}");
}

#[test]
fn every_algorithm_verifies_through_the_one_backend() {
    for algorithm in algorithm::ALL {
        let keys = match algorithm.family() {
            algorithm::Family::Secret => KeySet::from_hmac_secret(SECRET, &[algorithm]).unwrap(),
            algorithm::Family::Rsa | algorithm::Family::P256 | algorithm::Family::P384 | algorithm::Family::Ed25519 => {
                KeySet::from_jwks(&set(&[("k", algorithm)]), &[algorithm]).unwrap()
            }
        };
        let issuer = issuer_with(keys, vec![algorithm]);
        let header = format!(r#"{{"alg":"{}","kid":"k"}}"#, algorithm.name());
        check(algorithm.name(), &forge(algorithm, header, payload(&[])), &issuer, Expected::Accepted);
    }
}
