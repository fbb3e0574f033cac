//! Our own signing keys: one that signs, one that will, and the public halves of those that did.
//!
//! A key is published from the day it is made, a whole turn before it signs anything, so whoever caches `/jwks` knows it in time.
//! When it stops signing its private half is thrown away, and its public half is shown for longer than any assertion lives.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use aws_lc_rs::encoding::AsBigEndian as _;
use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::Serialize;
use zeroize::Zeroize as _;
use zeroize::Zeroizing;

use crate::model::time::Timestamp;
use crate::store::StoreError;

/// How long a retired key's public half stays in `/jwks`.
pub const SHOWN_AFTER_LAST_USE: Duration = Duration::from_secs(24 * 60 * 60);

const FORMAT: u32 = 1;

/// Why there is no ring.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the key ring cannot be unwrapped: {0}; was the pepper that wrapped it taken out of the config?")]
    Wrapping(String),
    #[error("the key ring cannot be read: {0}")]
    Unreadable(String),
    #[error("the machine gives no random bytes")]
    NoRandomness,
    #[error("other processes keep changing the key ring; the next try may succeed")]
    Contended,
}

/// The keys, in plain. On the shelf they lie wrapped.
pub(in crate::jose) struct Ring {
    pub current: SigningKey,
    /// When `current` began to sign.
    pub since: Timestamp,
    pub next: SigningKey,
    pub retired: Vec<RetiredKey>,
}

/// A key that signs or will.
pub(in crate::jose) struct SigningKey {
    pub public: PublicKey,
    pub pair: Ed25519KeyPair,
}

/// What everybody may know of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::jose) struct PublicKey {
    /// RFC 7638 thumbprint.
    pub id: Arc<str>,
    /// base64url.
    pub x: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::jose) struct RetiredKey {
    pub public: PublicKey,
    pub shown_until: Timestamp,
}

impl Ring {
    /// The first ring of a deployment.
    pub(super) fn create(now: Timestamp) -> Result<Self, RingError> {
        Ok(Self { current: SigningKey::create()?, since: now, next: SigningKey::create()?, retired: Vec::new() })
    }

    pub(super) fn is_due(&self, rotate_every: Duration, now: Timestamp) -> bool {
        now.since(self.since) >= rotate_every
    }

    /// The ring after this one: the key that was announced signs, the one that signed is only shown.
    pub(super) fn turn(self, now: Timestamp) -> Result<Self, RingError> {
        let mut retired = self.retired;
        retired.retain(|key| key.shown_until > now);
        retired.insert(0, RetiredKey { public: self.current.public, shown_until: now.plus(SHOWN_AFTER_LAST_USE) });
        Ok(Self { current: self.next, since: now, next: SigningKey::create()?, retired })
    }

    pub(super) fn encode(&self) -> Result<Zeroizing<Vec<u8>>, RingError> {
        let file = RingFile {
            format: FORMAT,
            since: self.since,
            current: self.current.to_text()?,
            next: self.next.to_text()?,
            retired: self.retired.iter().map(|key| RetiredText { x: key.public.x.clone(), shown_until: key.shown_until }).collect(),
        };
        serde_json::to_vec(&file).map(Zeroizing::new).map_err(|error| RingError::Unreadable(error.to_string()))
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, RingError> {
        let file: RingFile =
            serde_json::from_slice(bytes).map_err(|_error| RingError::Unreadable("it is not a ring's record".to_owned()))?;
        if file.format != FORMAT {
            return Err(RingError::Unreadable(format!("it has format {}, and this release knows {FORMAT}", file.format)));
        }
        let retired =
            file.retired.into_iter().map(|key| RetiredKey { public: PublicKey::from_x(key.x), shown_until: key.shown_until }).collect();
        Ok(Self { current: SigningKey::from_text(&file.current)?, since: file.since, next: SigningKey::from_text(&file.next)?, retired })
    }

    /// RFC 7517, public members only.
    pub(super) fn jwks(&self, now: Timestamp) -> String {
        let retired = self.retired.iter().filter(|key| key.shown_until > now).map(|key| &key.public);
        let keys: Vec<PublicJwk<'_>> =
            [&self.current.public, &self.next.public].into_iter().chain(retired).map(PublicKey::to_jwk).collect();
        serde_json::json!({ "keys": keys }).to_string()
    }
}

impl SigningKey {
    fn create() -> Result<Self, RingError> {
        Ok(Self::from_pair(Ed25519KeyPair::generate().map_err(|_error| RingError::NoRandomness)?))
    }

    fn from_pair(pair: Ed25519KeyPair) -> Self {
        let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        Self { public: PublicKey::from_x(x), pair }
    }

    fn from_text(seed: &SeedText) -> Result<Self, RingError> {
        let seed = URL_SAFE_NO_PAD.decode(seed.0.as_bytes()).map(Zeroizing::new);
        let pair = seed.ok().and_then(|seed| Ed25519KeyPair::from_seed_unchecked(&seed).ok());
        pair.map(Self::from_pair).ok_or_else(|| RingError::Unreadable("a key in it is damaged".to_owned()))
    }

    fn to_text(&self) -> Result<SeedText, RingError> {
        let seed = self.pair.seed().map_err(|_error| RingError::Unreadable("a key does not give up its seed".to_owned()))?;
        let bytes = seed.as_be_bytes().map_err(|_error| RingError::Unreadable("a key does not give up its seed".to_owned()))?;
        Ok(SeedText(URL_SAFE_NO_PAD.encode(bytes.as_ref())))
    }
}

impl PublicKey {
    fn from_x(x: String) -> Self {
        // RFC 7638 section 3: the required members, in the order of their names, without white space.
        let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
        let id = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, members.as_bytes()).as_ref());
        Self { id: Arc::from(id), x }
    }

    fn to_jwk(&self) -> PublicJwk<'_> {
        PublicJwk { kty: "OKP", crv: "Ed25519", x: &self.x, kid: &self.id, usage: "sig", alg: "EdDSA" }
    }
}

#[derive(Serialize)]
struct PublicJwk<'a> {
    kty: &'static str,
    crv: &'static str,
    x: &'a str,
    kid: &'a str,
    #[serde(rename = "use")]
    usage: &'static str,
    alg: &'static str,
}

#[derive(Serialize, Deserialize)]
struct RingFile {
    format: u32,
    since: Timestamp,
    current: SeedText,
    next: SeedText,
    retired: Vec<RetiredText>,
}

/// A private key, base64url; wiped when dropped.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct SeedText(String);

impl Drop for SeedText {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[derive(Serialize, Deserialize)]
struct RetiredText {
    x: String,
    shown_until: Timestamp,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::PublicKey;
    use super::Ring;
    use super::SHOWN_AFTER_LAST_USE;
    use crate::model::time::Timestamp;

    #[test]
    fn a_key_is_named_by_its_thumbprint() {
        // RFC 8037 appendix A.3.
        let key = PublicKey::from_x("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo".to_owned());
        assert_eq!(&*key.id, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn it_survives_being_written_and_read() {
        let now = Timestamp::from_unix_seconds(1_000_000);
        let ring = Ring::create(now).unwrap().turn(now.plus(Duration::from_secs(60))).unwrap();
        let read = Ring::decode(&ring.encode().unwrap()).unwrap();
        assert_eq!(read.jwks(now), ring.jwks(now));
        assert_eq!(read.current.public, ring.current.public);
        assert_eq!(read.since, ring.since);
        for damaged in [&b"{}"[..], b"", b"[]", br#"{"format":2,"since":0,"current":"","next":"","retired":[]}"#] {
            assert!(Ring::decode(damaged).is_err());
        }
    }

    #[test]
    fn keys_are_announced_before_and_shown_after() {
        let start = Timestamp::from_unix_seconds(1_000_000);
        let first = Ring::create(start).unwrap();
        let [one, two] = [first.current.public.clone(), first.next.public.clone()];
        assert!(first.jwks(start).contains(&two.x), "announced before it signs");

        let turned = start.plus(Duration::from_secs(3600));
        let second = first.turn(turned).unwrap();
        assert_eq!(second.current.public, two);
        let end = turned.plus(SHOWN_AFTER_LAST_USE);
        assert!(second.jwks(end.minus(Duration::from_nanos(1))).contains(&one.x));
        assert!(!second.jwks(end).contains(&one.x));
        assert_eq!(second.turn(end).unwrap().retired.len(), 1, "what is no longer shown is forgotten at the next turn");
    }
}
