//! The upstream assertion: a short-lived JWT about the caller, signed by our own ring, for services that check for themselves.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use aws_lc_rs::digest;
use quick_cache::sync::Cache;
use serde::Serialize;

use crate::jose::lookups::Lookups;
use crate::jose::ring::Lines;
use crate::jose::ring::Ring;
use crate::jose::ring::RingError;
use crate::jose::ring::Rotation;
use crate::jose::ring::shelf::Found;
use crate::jose::ring::shelf::Looked;
use crate::jose::ring::shelf::Shelf;
use crate::jose::write;
use crate::jose::write::Audience;
use crate::model::caller::Caller;
use crate::model::rules::Assertion;
use crate::model::time::Timestamp;
use crate::secrets::Peppers;
use crate::store::Records;
use crate::store::StoreError;

/// `typ` of an assertion: never to be taken for an access token.
pub const ASSERTION_TYPE: &str = "tollgate+jwt";

/// Longer lifetimes are cut: a retired key is shown for a day, and must outlast every assertion that it signed.
pub const LIFETIME_MAX: Duration = Duration::from_secs(12 * 60 * 60);

const CACHE_CAPACITY: usize = 10_000;

/// How long a retired key's public half stays in `/jwks`.
const SHOWN_AFTER_LAST_USE: Duration = Duration::from_secs(24 * 60 * 60);

pub(in crate::jose) const SHELF: Shelf =
    Shelf { id: "assertion", context: b"tollgate assertion ring", lines: Lines::EdDsa, shown_after: SHOWN_AFTER_LAST_USE };

/// Signs assertions and publishes the keys that verify them.
pub struct Assertions {
    /// None: the store was not reachable yet.
    loaded: ArcSwapOption<Loaded>,
    /// By the SHA-256 of everything that an assertion says but its times.
    signed: Cache<[u8; 32], Arc<Signed>>,
    lookups: Lookups,
}

struct Loaded {
    found: Found,
    /// `base64url(header).`
    header: String,
    jwks: Arc<str>,
}

struct Signed {
    text: Arc<str>,
    from: Timestamp,
    /// From here on it is signed anew.
    until: Timestamp,
}

/// The caller's credential has no life left to assert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssertionError {
    #[error("the credential expires now, so nothing can be asserted about it")]
    NoLifeLeft,
    #[error("the assertion could not be signed")]
    Unsigned,
    #[error("the signing keys could not be fetched from the store yet")]
    NoRing,
}

impl Assertions {
    /// The ring on the shelf; on the first start one is made and put there.
    ///
    /// # Errors
    /// [`RingError`]; a ring that cannot be read is never replaced.
    pub async fn load_or_create(records: &dyn Records, peppers: &Peppers, now: Timestamp) -> Result<Self, RingError> {
        Ok(Self::with(Some(Loaded::new(SHELF.find_or_create(records, peppers, now).await?, now))))
    }

    /// The same where the store may be out of reach: then nothing is signed and nothing published until [`Self::rotate_if_due`]
    /// has found the ring.
    ///
    /// # Errors
    /// As [`Self::load_or_create`], but for a store that does not answer.
    pub async fn load_or_wait(records: &dyn Records, peppers: &Peppers, now: Timestamp) -> Result<Self, RingError> {
        match Self::load_or_create(records, peppers, now).await {
            Ok(loaded) => Ok(loaded),
            Err(RingError::Store(StoreError::Unavailable(_))) => Ok(Self::with(None)),
            Err(error) => Err(error),
        }
    }

    /// The ring on the shelf, and nothing is put there. Where there is none, or the store does not answer, one that ends with the
    /// process: for explanations, which show no signature.
    ///
    /// # Errors
    /// As [`Self::load_or_wait`].
    pub async fn load_or_pretend(records: &dyn Records, peppers: &Peppers, now: Timestamp) -> Result<Self, RingError> {
        match SHELF.read(records, peppers).await {
            Ok(Some(found)) => Ok(Self::with(Some(Loaded::new(found, now)))),
            Ok(None) | Err(RingError::Store(StoreError::Unavailable(_))) => Self::ephemeral(now),
            Err(error) => Err(error),
        }
    }

    /// Whether there are keys to sign with.
    pub fn has_ring(&self) -> bool {
        self.loaded.load().is_some()
    }

    /// A ring that nobody else knows and that ends with the process: for tests and benches, never for serving.
    ///
    /// # Errors
    /// [`RingError::NoRandomness`].
    #[doc(hidden)]
    pub fn ephemeral(now: Timestamp) -> Result<Self, RingError> {
        let ring = Arc::new(Ring::create(Lines::EdDsa, now)?);
        Ok(Self::with(Some(Loaded::new(Found { ring, mark: [0; 32] }, now))))
    }

    /// An assertion about this caller, fresh or from the cache; without the header's prefix.
    ///
    /// # Errors
    /// [`AssertionError`].
    pub fn sign_for(&self, assertion: &Assertion, caller: &Caller, now: Timestamp) -> Result<Arc<str>, AssertionError> {
        let loaded = self.loaded.load();
        let loaded = loaded.as_ref().ok_or(AssertionError::NoRing)?;
        let key = fingerprint(assertion, caller, &loaded.found.ring.eddsa.current.public.id);
        if let Some(signed) = self.signed.get(&key)
            && (signed.from..signed.until).contains(&now)
        {
            self.lookups.hit();
            return Ok(Arc::clone(&signed.text));
        }
        self.lookups.missed();
        let lifetime = assertion.lifetime.min(LIFETIME_MAX);
        let end = now.plus(lifetime);
        let expires = caller.expires.map_or(end, |credential| credential.min(end));
        if expires.unix_seconds() <= now.unix_seconds() {
            return Err(AssertionError::NoLifeLeft);
        }
        let text = loaded.sign(&Claims::about(assertion, caller, now, expires))?;
        let until = now.plus(expires.since(now) / 2);
        self.signed.insert(key, Arc::new(Signed { text: Arc::clone(&text), from: now, until }));
        Ok(text)
    }

    /// How often an assertion was signed already, for metrics.
    pub fn lookups(&self) -> &Lookups {
        &self.lookups
    }

    /// The JWK set for `/jwks`; none before there is a ring, since an empty set would be remembered by whoever asked.
    pub fn jwks_json(&self) -> Option<Arc<str>> {
        self.loaded.load().as_ref().map(|loaded| Arc::clone(&loaded.jwks))
    }

    /// Turns the ring if its key has signed for `rotate_every`, and takes over what another process did. Of several processes
    /// that try at once, one turns it.
    ///
    /// # Errors
    /// [`RingError`]; the old ring stays in use.
    pub async fn rotate_if_due(
        &self,
        records: &dyn Records,
        peppers: &Peppers,
        rotate_every: Duration,
        now: Timestamp,
    ) -> Result<Rotation, RingError> {
        let known = self.loaded.load().as_ref().map(|loaded| loaded.found.clone());
        let looked = SHELF.look(known.as_ref(), |ring| ring.is_due(rotate_every, now), (records, peppers), now).await?;
        let (found, rotation) = match (looked, known) {
            (Looked::Found(found, rotation), _) => (found, rotation),
            // Taken anew also when nothing changed, so that keys whose time is over leave `/jwks`.
            (Looked::Unchanged, Some(known)) => (known, Rotation::NotDue),
            (Looked::Unchanged, None) => return Ok(Rotation::NotDue),
        };
        self.loaded.store(Some(Arc::new(Loaded::new(found, now))));
        Ok(rotation)
    }

    fn with(loaded: Option<Loaded>) -> Self {
        Self { loaded: ArcSwapOption::new(loaded.map(Arc::new)), signed: Cache::new(CACHE_CAPACITY), lookups: Lookups::default() }
    }
}

impl std::fmt::Debug for Assertions {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Assertions")
            .field("key", &self.loaded.load().as_ref().map(|loaded| Arc::clone(&loaded.found.ring.eddsa.current.public.id)))
            .finish_non_exhaustive()
    }
}

impl Loaded {
    fn new(found: Found, now: Timestamp) -> Self {
        let header = write::header(&found.ring.eddsa.current, ASSERTION_TYPE);
        let jwks = Arc::from(found.ring.jwks(now));
        Self { found, header, jwks }
    }

    fn sign(&self, claims: &Claims<'_>) -> Result<Arc<str>, AssertionError> {
        let payload = serde_json::to_vec(claims).map_err(|_error| AssertionError::Unsigned)?;
        write::sign(&self.found.ring.eddsa.current, &self.header, &payload).map(Arc::from).ok_or(AssertionError::Unsigned)
    }
}

/// What an assertion says.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: Audience<'a>,
    /// The rendered user id.
    sub: &'a str,
    iat: u64,
    exp: u64,
    /// Space-separated, RFC 9068.
    scope: String,
    environment: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    org: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
}

impl<'a> Claims<'a> {
    fn about(assertion: &'a Assertion, caller: &'a Caller, now: Timestamp, expires: Timestamp) -> Self {
        Self {
            iss: &assertion.issuer,
            aud: Audience::of(&assertion.audience),
            sub: caller.user.as_str(),
            iat: now.unix_seconds(),
            exp: expires.unix_seconds(),
            scope: caller.scopes.to_string(),
            environment: caller.environment.as_str(),
            org: caller.organization.as_deref(),
            tier: caller.tier.as_deref(),
            key_id: caller.key.as_ref().map(crate::model::key::KeyId::as_str),
            client_id: caller.client.as_deref(),
        }
    }
}

/// Of everything that goes into an assertion but the instant. Each part is preceded by its length, so no two callers read alike.
fn fingerprint(assertion: &Assertion, caller: &Caller, signing_key: &str) -> [u8; 32] {
    let mut text = digest::Context::new(&digest::SHA256);
    let mut part = |part: Option<&str>| {
        let part = part.map_or(&[][..], str::as_bytes);
        text.update(&(part.len() as u64).to_be_bytes());
        text.update(part);
    };
    part(Some(signing_key));
    part(Some(&assertion.issuer));
    part(Some(&assertion.audience.len().to_string()));
    assertion.audience.iter().for_each(|audience| part(Some(audience)));
    part(Some(caller.user.as_str()));
    part(Some(caller.environment.as_str()));
    for optional in [&caller.organization, &caller.tier, &caller.client] {
        part(Some(if optional.is_some() { "some" } else { "none" }));
        part(optional.as_deref());
    }
    part(caller.key.as_ref().map(crate::model::key::KeyId::as_str));
    caller.scopes.iter().for_each(|scope| part(Some(scope.as_str())));
    text.update(&assertion.lifetime.as_nanos().to_be_bytes());
    text.update(&caller.expires.map_or(0, Timestamp::as_nanos).to_be_bytes());
    let mut out = [0; 32];
    out.copy_from_slice(text.finish().as_ref());
    out
}
