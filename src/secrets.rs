//! Placeholder until the shelf's file arrives.

use std::sync::Arc;

use aws_lc_rs::digest;
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use crate::model::key::HashAlgorithm;
use crate::model::key::SecretHash;

pub struct Pepper {
    pub id: Arc<str>,
    pub secret: Zeroizing<Vec<u8>>,
}

pub struct Peppers {
    all: Vec<Pepper>,
}

impl std::fmt::Debug for Peppers {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Peppers")
    }
}

impl Peppers {
    pub fn new(current: Pepper, older: Vec<Pepper>) -> Self {
        Self { all: std::iter::once(current).chain(older).collect() }
    }

    pub fn hash(&self, key_text: &[u8]) -> SecretHash {
        self.digest(0, HashAlgorithm::HmacSha256, key_text)
    }

    pub fn hash_imported(&self, sha256: &[u8; 32]) -> SecretHash {
        self.digest(0, HashAlgorithm::HmacOfSha256, sha256)
    }

    pub fn matches(&self, key_text: &[u8], hash: &SecretHash) -> bool {
        let Some(position) = self.all.iter().position(|pepper| pepper.id == hash.pepper) else { return false };
        let found = match hash.algorithm {
            HashAlgorithm::HmacSha256 => self.digest(position, hash.algorithm, key_text),
            HashAlgorithm::HmacOfSha256 => self.digest(position, hash.algorithm, digest::digest(&digest::SHA256, key_text).as_ref()),
        };
        subtle::ConstantTimeEq::ct_eq(found.digest.as_slice(), hash.digest.as_slice()).into()
    }

    pub fn imported_digests(&self, key_text: &[u8]) -> Vec<[u8; 32]> {
        let plain = digest::digest(&digest::SHA256, key_text);
        (0..self.all.len()).map(|position| self.digest(position, HashAlgorithm::HmacOfSha256, plain.as_ref()).digest).collect()
    }

    fn digest(&self, position: usize, algorithm: HashAlgorithm, bytes: &[u8]) -> SecretHash {
        let (id, secret) = self.all.get(position).map(|pepper| (Arc::clone(&pepper.id), pepper.secret.clone())).unwrap_or_default();
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), bytes);
        let mut digest = [0; 32];
        for (to, from) in digest.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        SecretHash { pepper: id, algorithm, digest }
    }
}
