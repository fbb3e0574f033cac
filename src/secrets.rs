//! Placeholder for the shelf's `secrets.rs`: only what the key ring needs of [`Peppers`].

use aws_lc_rs::aead;
use aws_lc_rs::digest;
use aws_lc_rs::hkdf;
use aws_lc_rs::hmac;
use std::sync::Arc;

use crate::model::key::HashAlgorithm;
use crate::model::key::SecretHash;

/// One pepper.
pub struct Pepper {
    pub id: Arc<str>,
    pub secret: zeroize::Zeroizing<Vec<u8>>,
}

/// The peppers of this deployment.
pub struct Peppers {
    current: Pepper,
    older: Vec<Pepper>,
}

/// A text cannot be wrapped or unwrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no pepper here opens it")]
pub struct SecretError;

impl Peppers {
    pub fn new(current: Pepper, older: Vec<Pepper>) -> Self {
        Self { current, older }
    }

    pub fn hash(&self, key_text: &[u8]) -> SecretHash {
        digest_of(&self.current, HashAlgorithm::HmacSha256, key_text)
    }

    pub fn hash_imported(&self, sha256: &[u8; 32]) -> SecretHash {
        digest_of(&self.current, HashAlgorithm::HmacOfSha256, sha256)
    }

    pub fn matches(&self, key_text: &[u8], hash: &SecretHash) -> bool {
        let Some(pepper) = std::iter::once(&self.current).chain(&self.older).find(|pepper| pepper.id == hash.pepper) else { return false };
        let found = match hash.algorithm {
            HashAlgorithm::HmacSha256 => digest_of(pepper, hash.algorithm, key_text),
            HashAlgorithm::HmacOfSha256 => digest_of(pepper, hash.algorithm, digest::digest(&digest::SHA256, key_text).as_ref()),
        };
        subtle::ConstantTimeEq::ct_eq(found.digest.as_slice(), hash.digest.as_slice()).into()
    }

    pub fn imported_digests(&self, key_text: &[u8]) -> Vec<[u8; 32]> {
        let plain = digest::digest(&digest::SHA256, key_text);
        let all = std::iter::once(&self.current).chain(&self.older);
        all.map(|pepper| digest_of(pepper, HashAlgorithm::HmacOfSha256, plain.as_ref()).digest).collect()
    }

    pub fn wrap(&self, plain: &[u8], context: &[u8]) -> Result<Vec<u8>, SecretError> {
        let key = aead::RandomizedNonceKey::new(&aead::AES_256_GCM, &derive(&self.current)?).map_err(|_error| SecretError)?;
        let mut sealed = plain.to_vec();
        let nonce = key.seal_in_place_append_tag(aead::Aad::from(context), &mut sealed).map_err(|_error| SecretError)?;
        Ok([nonce.as_ref().as_slice(), &sealed].concat())
    }

    pub fn unwrap(&self, wrapped: &[u8], context: &[u8]) -> Result<Vec<u8>, SecretError> {
        let (nonce, sealed) = wrapped.split_first_chunk::<12>().ok_or(SecretError)?;
        std::iter::once(&self.current)
            .chain(&self.older)
            .find_map(|pepper| {
                let key = aead::RandomizedNonceKey::new(&aead::AES_256_GCM, &derive(pepper).ok()?).ok()?;
                let mut text = sealed.to_vec();
                key.open_in_place(nonce.into(), aead::Aad::from(context), &mut text).ok().map(|plain| plain.to_vec())
            })
            .ok_or(SecretError)
    }
}

impl std::fmt::Debug for Peppers {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Peppers")
    }
}

fn derive(pepper: &Pepper) -> Result<[u8; 32], SecretError> {
    struct Length;
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            32
        }
    }
    let mut key = [0; 32];
    let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, b"tollgate").extract(&pepper.secret);
    extracted.expand(&[b"wrap"], Length).and_then(|okm| okm.fill(&mut key)).map_err(|_error| SecretError)?;
    Ok(key)
}

fn digest_of(pepper: &Pepper, algorithm: HashAlgorithm, bytes: &[u8]) -> SecretHash {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &pepper.secret), bytes);
    let digest = tag.as_ref().try_into().unwrap_or_default();
    SecretHash { pepper: Arc::clone(&pepper.id), algorithm, digest }
}
