//! What keys secrets: the peppers that hash key texts, what is derived from them to wrap records, and random bytes.
//!
//! A pepper has an id, and every hash and every wrapped text names the one that made it, so that a new pepper can take over
//! while the old ones still open what they made. Nothing here prints a secret.

mod disguise;
mod file;
mod handles;
mod seal;

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead;
use aws_lc_rs::constant_time;
use aws_lc_rs::digest;
use aws_lc_rs::hkdf;
use aws_lc_rs::hmac;
use aws_lc_rs::rand;
use zeroize::Zeroizing;

use crate::model::key::HashAlgorithm;
use crate::model::key::SecretHash;
use crate::model::key::is_key_id;
use crate::model::key_text::push_base62;

pub use crate::secrets::disguise::Disguise;
pub use crate::secrets::file::PepperFileError;

/// A secret of this deployment that is not in the store: whoever has the store alone can open nothing.
pub struct Pepper {
    /// 1 to 64 characters of `[0-9A-Za-z_-]`.
    pub id: Arc<str>,
    /// At least 32 bytes.
    pub secret: Zeroizing<Vec<u8>>,
}

/// The current pepper and the older ones that still open what they made.
pub struct Peppers {
    current: Prepared,
    older: Vec<Prepared>,
}

/// Secrets cannot be made or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("the system gives no random bytes")]
    NoRandomness,
    #[error("the text was wrapped under the pepper of another deployment, or an older one that is not configured any more")]
    UnknownPepper,
    #[error("the wrapped text has been changed or belongs elsewhere")]
    Tampered,
}

/// A pepper with its keys set up.
struct Prepared {
    id: Arc<str>,
    secret: Zeroizing<Vec<u8>>,
    hashing: hmac::Key,
    sealing: Option<hmac::Key>,
    handles: Option<hmac::Key>,
}

/// The layout of a wrapped text: this byte, the id's length, the id, the nonce, the text and its tag.
const WRAP_FORMAT: u8 = 1;

impl Peppers {
    pub fn new(current: Pepper, older: Vec<Pepper>) -> Self {
        Self { current: Prepared::new(current), older: older.into_iter().map(Prepared::new).collect() }
    }

    /// The keyed hash under which one of our own keys is stored.
    pub fn hash(&self, key_text: &[u8]) -> SecretHash {
        self.current.hash(HashAlgorithm::HmacSha256, key_text)
    }

    /// The keyed hash under which a key is stored of which only the SHA-256 is known.
    pub fn hash_imported(&self, sha256: &[u8; 32]) -> SecretHash {
        self.current.hash(HashAlgorithm::HmacOfSha256, sha256)
    }

    /// Whether this text is the secret behind the hash, in constant time. A hash by an unknown pepper matches nothing.
    pub fn matches(&self, key_text: &[u8], hash: &SecretHash) -> bool {
        let Some(pepper) = self.all().find(|pepper| pepper.id == hash.pepper) else {
            return false;
        };
        let shown = match hash.algorithm {
            HashAlgorithm::HmacSha256 => pepper.hash(HashAlgorithm::HmacSha256, key_text),
            HashAlgorithm::HmacOfSha256 => pepper.hash(HashAlgorithm::HmacOfSha256, &sha256(key_text)),
        };
        constant_time::verify_slices_are_equal(&shown.digest, &hash.digest).is_ok()
    }

    /// What an imported key's text would be stored as: one digest per pepper, the current one's first.
    pub fn imported_digests(&self, key_text: &[u8]) -> Vec<[u8; 32]> {
        let inner = sha256(key_text);
        self.all().map(|pepper| pepper.hash(HashAlgorithm::HmacOfSha256, &inner).digest).collect()
    }

    /// Encrypts under the current pepper. `context` says where the text belongs; it opens nowhere else.
    ///
    /// # Errors
    /// Only when the system gives no random bytes.
    pub fn wrap(&self, plain: &[u8], context: &[u8]) -> Result<Vec<u8>, SecretError> {
        let key = self.current.wrapping_key()?;
        let mut sealed = plain.to_vec();
        let head = head(&self.current.id);
        let bound = [head.as_slice(), context].concat();
        let nonce = key.seal_in_place_append_tag(aead::Aad::from(bound), &mut sealed).map_err(|_error| SecretError::NoRandomness)?;
        Ok([head.as_slice(), nonce.as_ref(), &sealed].concat())
    }

    /// Opens what [`Self::wrap`] made for the same context, under the current pepper or an older one.
    ///
    /// # Errors
    /// When no pepper here made it, or it was changed or moved.
    pub fn unwrap(&self, wrapped: &[u8], context: &[u8]) -> Result<Vec<u8>, SecretError> {
        let (id, sealed) = split_head(wrapped).ok_or(SecretError::Tampered)?;
        let pepper = self.all().find(|pepper| pepper.id.as_bytes() == id).ok_or(SecretError::UnknownPepper)?;
        let (nonce, sealed) = sealed.split_first_chunk::<{ aead::NONCE_LEN }>().ok_or(SecretError::Tampered)?;
        let key = pepper.wrapping_key()?;
        let bound = [head(&pepper.id).as_slice(), context].concat();
        let mut text = sealed.to_vec();
        let length = key.open_in_place(nonce.into(), aead::Aad::from(bound), &mut text).map_err(|_error| SecretError::Tampered)?.len();
        text.truncate(length);
        Ok(text)
    }

    /// What stands for texts that must not be written down, keyed by the current pepper.
    pub fn disguise(&self) -> Disguise {
        Disguise::new(&self.current.hashing)
    }

    /// The ids, the current one's first.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.all().map(|pepper| &*pepper.id)
    }

    /// Whether both have this pepper, with the same secret.
    pub fn share(&self, other: &Self, id: &str) -> bool {
        let mine = self.all().find(|pepper| &*pepper.id == id);
        let theirs = other.all().find(|pepper| &*pepper.id == id);
        match (mine, theirs) {
            (Some(mine), Some(theirs)) => constant_time::verify_slices_are_equal(&mine.secret, &theirs.secret).is_ok(),
            (Some(_) | None, _) => false,
        }
    }

    fn all(&self) -> impl Iterator<Item = &Prepared> {
        std::iter::once(&self.current).chain(&self.older)
    }
}

impl fmt::Debug for Peppers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Peppers")
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Pepper")
    }
}

impl Prepared {
    fn new(pepper: Pepper) -> Self {
        let hashing = hmac::Key::new(hmac::HMAC_SHA256, &pepper.secret);
        let sealing = seal::sealing_key(&pepper.secret);
        let handles = handles::handle_key(&pepper.secret);
        Self { id: pepper.id, secret: pepper.secret, hashing, sealing, handles }
    }

    fn hash(&self, algorithm: HashAlgorithm, data: &[u8]) -> SecretHash {
        let mut digest = [0; 32];
        for (to, from) in digest.iter_mut().zip(hmac::sign(&self.hashing, data).as_ref()) {
            *to = *from;
        }
        SecretHash { pepper: Arc::clone(&self.id), algorithm, digest }
    }

    fn wrapping_key(&self) -> Result<aead::RandomizedNonceKey, SecretError> {
        let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, b"tollgate").extract(&self.secret);
        let mut key = Zeroizing::new([0; 32]);
        extracted.expand(&[b"wrap 1"], WrappingKey).and_then(|output| output.fill(key.as_mut())).map_err(|_error| SecretError::Tampered)?;
        aead::RandomizedNonceKey::new(&aead::AES_256_GCM, key.as_ref()).map_err(|_error| SecretError::Tampered)
    }
}

/// How much key the derivation yields.
struct WrappingKey;

impl hkdf::KeyType for WrappingKey {
    fn len(&self) -> usize {
        32
    }
}

/// The id of the pepper that wrapped this; none where it is nothing that [`Peppers::wrap`] made.
pub fn wrapped_by(wrapped: &[u8]) -> Option<&str> {
    let (id, sealed) = split_head(wrapped)?;
    let is_whole = sealed.len() >= aead::NONCE_LEN + aead::AES_256_GCM.tag_len();
    str::from_utf8(id).ok().filter(|id| is_whole && is_key_id(id))
}

/// The id of a new record: 22 base62 characters from 128 random bits.
///
/// # Errors
/// When the system gives no random bytes.
pub fn random_id() -> Result<String, SecretError> {
    let mut text = String::with_capacity(22);
    push_base62(&mut text, &mut random_bytes::<16>()?, 22);
    Ok(text)
}

/// Random bytes from the system's generator.
///
/// # Errors
/// When the system gives none.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], SecretError> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_error| SecretError::NoRandomness)?;
    Ok(bytes)
}

/// A fresh name for one answer: `req_` and 22 digits.
pub fn request_id() -> String {
    let mut text = String::with_capacity(26);
    text.push_str("req_");
    // A name for the log, not a secret: without randomness it is merely not unique.
    push_base62(&mut text, &mut random_bytes::<16>().unwrap_or_default(), 22);
    text
}

/// The SHA-256 of these bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

fn head(id: &str) -> Vec<u8> {
    let mut head = vec![WRAP_FORMAT, u8::try_from(id.len()).unwrap_or(u8::MAX)];
    head.extend_from_slice(id.as_bytes());
    head
}

fn split_head(wrapped: &[u8]) -> Option<(&[u8], &[u8])> {
    match wrapped {
        [WRAP_FORMAT, length, rest @ ..] => rest.split_at_checked(usize::from(*length)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(super) fn pepper(id: &str, byte: u8) -> Pepper {
        Pepper { id: Arc::from(id), secret: Zeroizing::new(vec![byte; 32]) }
    }

    fn peppers() -> Peppers {
        Peppers::new(pepper("new", 1), vec![pepper("old", 2)])
    }

    // oauth: T4
    #[test]
    fn only_the_whole_text_matches() {
        let peppers = peppers();
        let hash = peppers.hash(b"tg_live_sk_secret");
        assert!(peppers.matches(b"tg_live_sk_secret", &hash));
        for wrong in [&b"xg_live_sk_secret"[..], b"tg_live_xk_secret", b"tg_live_sk_secrex", b"tg_live_sk_secret ", b""] {
            assert!(!peppers.matches(wrong, &hash), "{wrong:?}");
        }
        assert!(!peppers.matches(&hash.digest, &hash), "the stored hash is no credential");
    }

    #[test]
    fn an_older_pepper_still_opens_and_an_unknown_one_does_not() {
        let before = Peppers::new(pepper("old", 2), Vec::new());
        let hash = before.hash(b"text");
        assert!(peppers().matches(b"text", &hash));
        assert!(!Peppers::new(pepper("new", 1), Vec::new()).matches(b"text", &hash));
        assert!(!Peppers::new(pepper("old", 3), Vec::new()).matches(b"text", &hash), "same id, other secret");
        let wrapped = before.wrap(b"ring", b"here").unwrap();
        assert_eq!(peppers().unwrap(&wrapped, b"here").unwrap(), b"ring");
        assert_eq!(Peppers::new(pepper("new", 1), Vec::new()).unwrap(&wrapped, b"here"), Err(SecretError::UnknownPepper));
    }

    #[test]
    fn imported_texts_are_found_under_every_pepper() {
        let sha256 = sha256(b"a6b2d038-4eb1-4ca1-a3b4-2cf783ad55e1");
        let hash = Peppers::new(pepper("old", 2), Vec::new()).hash_imported(&sha256);
        assert!(peppers().imported_digests(b"a6b2d038-4eb1-4ca1-a3b4-2cf783ad55e1").contains(&hash.digest));
        assert!(peppers().matches(b"a6b2d038-4eb1-4ca1-a3b4-2cf783ad55e1", &hash));
        assert!(!peppers().matches(&sha256, &hash), "the imported hash is no credential");
        assert_eq!(peppers().imported_digests(b"x").len(), 2);
    }

    #[test]
    fn a_wrapped_text_opens_only_unchanged_and_in_its_place() {
        let peppers = peppers();
        let wrapped = peppers.wrap(b"plain", b"ring/1").unwrap();
        assert_eq!(peppers.unwrap(&wrapped, b"ring/1").unwrap(), b"plain");
        assert_eq!(peppers.unwrap(&wrapped, b"ring/2"), Err(SecretError::Tampered));
        for at in 0..wrapped.len() {
            let mut changed = wrapped.clone();
            changed[at] ^= 1;
            assert!(peppers.unwrap(&changed, b"ring/1").is_err(), "byte {at}");
            assert!(peppers.unwrap(&wrapped[..at], b"ring/1").is_err(), "cut at {at}");
        }
        assert_ne!(wrapped, peppers.wrap(b"plain", b"ring/1").unwrap());
    }

    #[test]
    fn who_wrapped_is_told_without_the_secret() {
        let wrapped = peppers().wrap(b"plain", b"ring/1").unwrap();
        assert_eq!(wrapped_by(&wrapped), Some("new"));
        for bad in [&b""[..], b"\x01", b"\x01\x03new", b"\x02\x03new", &wrapped[..20]] {
            assert_eq!(wrapped_by(bad), None, "{bad:?}");
        }
        let (one, other) = (peppers(), Peppers::new(pepper("old", 2), vec![pepper("new", 9)]));
        assert_eq!(one.ids().collect::<Vec<_>>(), ["new", "old"]);
        assert!(one.share(&other, "old") && !one.share(&other, "new") && !one.share(&other, "third"));
    }

    #[test]
    fn nothing_prints_a_secret() {
        let secret = Pepper { id: Arc::from("p"), secret: Zeroizing::new(b"canary-canary-canary-canary-canary".to_vec()) };
        assert_eq!(format!("{secret:?}"), "Pepper");
        assert_eq!(format!("{:?}", Peppers::new(secret, Vec::new())), "Peppers");
    }

    #[test]
    fn request_ids_have_one_form() {
        let id = request_id();
        assert_eq!(id.len(), 26);
        assert!(id.strip_prefix("req_").unwrap().bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_ne!(id, request_id());
    }

    proptest! {
        #[test]
        fn unwrapping_anything_never_panics(bytes: Vec<u8>) {
            let _outcome = peppers().unwrap(&bytes, b"");
            prop_assert!(peppers().unwrap(&bytes, b"").is_err());
        }
    }
}
