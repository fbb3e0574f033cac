//! Our own signing keys: for each algorithm one that signs, one that will, and the public halves of those that did.
//!
//! A key is published from the day it is made, a whole turn before it signs anything, so whoever caches `/jwks` knows it in time.
//! When it stops signing its private half is thrown away, and its public half is shown for longer than anything that it signed lives.
//! An emergency throws all of them away: what they signed verifies nowhere any more.

mod file;
mod keys;
pub(super) mod shelf;

use std::time::Duration;

use crate::jose::ring::keys::Kind;
use crate::jose::ring::keys::PublicJwk;
pub(in crate::jose) use crate::jose::ring::keys::PublicKey;
pub(in crate::jose) use crate::jose::ring::keys::SigningKey;
use crate::model::time::Timestamp;
use crate::store::StoreError;

/// Why there is no ring.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the key ring cannot be unwrapped: {0}; was it taken out of the config, or is another secret given under its id?")]
    Wrapping(String),
    #[error("the key ring cannot be read: {0}")]
    Unreadable(String),
    #[error("the machine gives no random bytes")]
    NoRandomness,
    #[error("other processes keep changing the key ring; the next try may succeed")]
    Contended,
}

/// What became of an attempt to rotate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    NotDue,
    Rotated,
    /// Another process had rotated; its ring is used from now on.
    Adopted,
}

/// The keys, in plain. On the shelf they lie wrapped.
pub(in crate::jose) struct Ring {
    /// When the current keys began to sign, and the next ones were published.
    pub since: Timestamp,
    pub eddsa: Line,
    /// The issuer's ring alone has it.
    pub rs256: Option<Line>,
}

/// The keys of one algorithm.
pub(in crate::jose) struct Line {
    pub current: SigningKey,
    pub next: SigningKey,
    pub retired: Vec<RetiredKey>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::jose) struct RetiredKey {
    pub public: PublicKey,
    pub shown_until: Timestamp,
}

/// Which lines a ring has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::jose) enum Lines {
    EdDsa,
    EdDsaAndRs256,
}

/// A new key for each line.
pub(in crate::jose) struct Fresh {
    eddsa: SigningKey,
    rs256: Option<SigningKey>,
}

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingKeyState {
    /// It signs.
    Current,
    /// It is published, and signs after the next turn.
    Next,
    /// It signed, and is shown until this instant.
    Retired(Timestamp),
}

impl Fresh {
    pub(super) fn create(lines: Lines) -> Result<Self, RingError> {
        let rs256 = match lines {
            Lines::EdDsa => None,
            Lines::EdDsaAndRs256 => Some(SigningKey::create(Kind::Rsa)?),
        };
        Ok(Self { eddsa: SigningKey::create(Kind::Ed25519)?, rs256 })
    }
}

impl Ring {
    /// A ring without a past.
    pub(in crate::jose) fn create(lines: Lines, now: Timestamp) -> Result<Self, RingError> {
        let (current, next) = (Fresh::create(lines)?, Fresh::create(lines)?);
        let line = |(current, next)| Line { current, next, retired: Vec::new() };
        Ok(Self { since: now, eddsa: line((current.eddsa, next.eddsa)), rs256: current.rs256.zip(next.rs256).map(line) })
    }

    pub(super) fn is_due(&self, rotate_every: Duration, now: Timestamp) -> bool {
        now.since(self.since) >= rotate_every
    }

    /// The ring after this one: the keys that were announced sign, those that signed are only shown.
    pub(super) fn turn(self, fresh: Fresh, shown_after: Duration, now: Timestamp) -> Self {
        let rs256 = match (self.rs256, fresh.rs256) {
            (Some(line), Some(key)) => Some(line.turn(key, shown_after, now)),
            (line, _) => line,
        };
        Self { since: now, eddsa: self.eddsa.turn(fresh.eddsa, shown_after, now), rs256 }
    }

    /// Every key that is published, with what it does.
    pub(super) fn published(&self, now: Timestamp) -> Vec<(&PublicKey, RingKeyState)> {
        let mut published = Vec::new();
        for line in std::iter::once(&self.eddsa).chain(&self.rs256) {
            published.push((&line.current.public, RingKeyState::Current));
            published.push((&line.next.public, RingKeyState::Next));
            let shown = line.retired.iter().filter(|key| key.shown_until > now);
            published.extend(shown.map(|key| (&key.public, RingKeyState::Retired(key.shown_until))));
        }
        published
    }

    /// RFC 7517, public members only.
    pub(super) fn jwks(&self, now: Timestamp) -> String {
        let keys: Vec<PublicJwk<'_>> = self.published(now).into_iter().map(|(key, _state)| key.to_jwk()).collect();
        serde_json::json!({ "keys": keys }).to_string()
    }
}

impl Line {
    fn turn(self, next: SigningKey, shown_after: Duration, now: Timestamp) -> Self {
        let mut retired = self.retired;
        retired.retain(|key| key.shown_until > now);
        retired.insert(0, RetiredKey { public: self.current.public, shown_until: now.plus(shown_after) });
        Self { current: self.next, next, retired }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Fresh;
    use super::Lines;
    use super::Ring;
    use crate::model::time::Timestamp;

    const SHOWN_AFTER: Duration = Duration::from_secs(86_400);

    fn turn(ring: Ring, now: Timestamp) -> Ring {
        ring.turn(Fresh::create(Lines::EdDsa).unwrap(), SHOWN_AFTER, now)
    }

    #[test]
    fn keys_are_announced_before_and_shown_after() {
        let start = Timestamp::from_unix_seconds(1_000_000);
        let first = Ring::create(Lines::EdDsa, start).unwrap();
        let [one, two] = [first.eddsa.current.public.clone(), first.eddsa.next.public.clone()];
        assert!(first.jwks(start).contains(&*two.id), "announced before it signs");

        let turned = start.plus(Duration::from_secs(3600));
        let second = turn(first, turned);
        assert_eq!(second.eddsa.current.public, two);
        let end = turned.plus(SHOWN_AFTER);
        assert!(second.jwks(end.minus(Duration::from_nanos(1))).contains(&*one.id));
        assert!(!second.jwks(end).contains(&*one.id));
        assert_eq!(turn(second, end).eddsa.retired.len(), 1, "what is no longer shown is forgotten at the next turn");
    }
}
