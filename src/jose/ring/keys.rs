//! The keys of a ring: a pair that signs, and what everybody may know of it.

use std::sync::Arc;

use aws_lc_rs::encoding::AsBigEndian as _;
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair as _;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::Serialize;
use zeroize::Zeroize as _;
use zeroize::Zeroizing;

use crate::jose::keys::rsa_integers;
use crate::jose::ring::RingError;
use crate::model::rules::Algorithm;
use crate::secrets::sha256;

/// What a ring's keys can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::jose) enum Kind {
    Ed25519,
    /// 2048 bits.
    Rsa,
}

/// A key that signs or will.
pub(in crate::jose) struct SigningKey {
    pub public: PublicKey,
    pair: Pair,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    Rsa(rsa::KeyPair),
}

/// What everybody may know of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::jose) struct PublicKey {
    /// RFC 7638 thumbprint.
    pub id: Arc<str>,
    pub material: Material,
}

/// The numbers of a public key, base64url, under their names in a JWK.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(in crate::jose) enum Material {
    Ed25519 { x: String },
    Rsa { n: String, e: String },
}

impl SigningKey {
    /// A new key. An RSA key takes tenths of a second: never where somebody waits.
    pub(super) fn create(kind: Kind) -> Result<Self, RingError> {
        let pair = match kind {
            Kind::Ed25519 => Ed25519KeyPair::generate().map(Pair::Ed25519),
            Kind::Rsa => rsa::KeyPair::generate(rsa::KeySize::Rsa2048).map(Pair::Rsa),
        };
        Self::from_pair(pair.map_err(|_error| RingError::NoRandomness)?).ok_or(RingError::NoRandomness)
    }

    pub(super) fn from_text(kind: Kind, text: &SecretText) -> Result<Self, RingError> {
        let secret = URL_SAFE_NO_PAD.decode(text.0.as_bytes()).map(Zeroizing::new).ok();
        let pair = secret.and_then(|secret| match kind {
            Kind::Ed25519 => Ed25519KeyPair::from_seed_unchecked(&secret).ok().map(Pair::Ed25519),
            Kind::Rsa => rsa::KeyPair::from_pkcs8(&secret).ok().map(Pair::Rsa),
        });
        pair.and_then(Self::from_pair).ok_or_else(|| RingError::Unreadable("a key in it is damaged".to_owned()))
    }

    pub(super) fn to_text(&self) -> Result<SecretText, RingError> {
        let kept = |_error| RingError::Unreadable("a key does not give itself up".to_owned());
        match &self.pair {
            Pair::Ed25519(pair) => {
                let seed = pair.seed().map_err(kept)?;
                Ok(SecretText(URL_SAFE_NO_PAD.encode(seed.as_be_bytes().map_err(kept)?.as_ref())))
            }
            Pair::Rsa(pair) => Ok(SecretText(URL_SAFE_NO_PAD.encode(pair.as_der().map_err(kept)?.as_ref()))),
        }
    }

    /// The signature over these bytes: EdDSA or RS256. RS256 takes about a millisecond.
    pub(in crate::jose) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        match &self.pair {
            Pair::Ed25519(pair) => pair.try_sign(message).ok().map(|signature| signature.as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).ok().map(|()| signature)
            }
        }
    }

    fn from_pair(pair: Pair) -> Option<Self> {
        let material = match &pair {
            Pair::Ed25519(pair) => Material::Ed25519 { x: URL_SAFE_NO_PAD.encode(pair.public_key().as_ref()) },
            Pair::Rsa(pair) => {
                let (modulus, exponent) = rsa_integers(pair.public_key().as_ref())?;
                // A JWK's integers have no sign, and so no zero that keeps them positive (RFC 7518 section 6.3.1).
                let [n, e] = [modulus, exponent].map(|number| URL_SAFE_NO_PAD.encode(number.strip_prefix(&[0]).unwrap_or(number)));
                Material::Rsa { n, e }
            }
        };
        Some(Self { public: PublicKey::of(material), pair })
    }
}

impl PublicKey {
    pub(super) fn of(material: Material) -> Self {
        // RFC 7638 section 3: the required members, in the order of their names, without white space.
        let members = match &material {
            Material::Ed25519 { x } => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#),
            Material::Rsa { n, e } => format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#),
        };
        let id = URL_SAFE_NO_PAD.encode(sha256(members.as_bytes()));
        Self { id: Arc::from(id), material }
    }

    pub(in crate::jose) fn algorithm(&self) -> Algorithm {
        match self.material {
            Material::Ed25519 { .. } => Algorithm::EdDsa,
            Material::Rsa { .. } => Algorithm::Rs256,
        }
    }

    pub(super) fn to_jwk(&self) -> PublicJwk<'_> {
        let (kty, crv) = match self.material {
            Material::Ed25519 { .. } => ("OKP", Some("Ed25519")),
            Material::Rsa { .. } => ("RSA", None),
        };
        PublicJwk { kty, crv, material: &self.material, kid: &self.id, usage: "sig", alg: self.algorithm().name() }
    }
}

/// RFC 7517, public members only.
#[derive(Serialize)]
pub(super) struct PublicJwk<'a> {
    kty: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    crv: Option<&'static str>,
    #[serde(flatten)]
    material: &'a Material,
    kid: &'a str,
    #[serde(rename = "use")]
    usage: &'static str,
    alg: &'static str,
}

/// A private key, base64url (an Ed25519 seed, or PKCS #8); wiped when dropped.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct SecretText(String);

impl Drop for SecretText {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // oauth: M2
    #[test]
    fn a_key_is_named_by_its_thumbprint() {
        // RFC 8037 appendix A.3.
        let key = PublicKey::of(Material::Ed25519 { x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo".to_owned() });
        assert_eq!(&*key.id, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        // RFC 7638 section 3.1.
        let n = concat!(
            "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMst",
            "n64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn",
            "1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
        );
        let key = PublicKey::of(Material::Rsa { n: n.to_owned(), e: "AQAB".to_owned() });
        assert_eq!(&*key.id, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }
}
