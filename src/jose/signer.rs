//! Signs access tokens (RFC 9068) with our own ring, and says which keys verify them.

use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::sync::Semaphore;

use crate::jose::KeySet;
use crate::jose::Tokens;
use crate::jose::compact::TOKEN_BYTES_MAX;
use crate::jose::ring::Lines;
use crate::jose::ring::PublicKey;
use crate::jose::ring::RingError;
use crate::jose::ring::RingKeyState;
use crate::jose::ring::Rotation;
use crate::jose::ring::SigningKey;
use crate::jose::ring::shelf::Found;
use crate::jose::ring::shelf::Looked;
use crate::jose::ring::shelf::Shelf;
use crate::jose::write;
use crate::jose::write::Audience;
use crate::model::rules::Algorithm;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::secrets::Peppers;
use crate::store::Records;
use crate::store::StoreError;

/// `typ` of an access token (RFC 9068 section 2.1).
pub const ACCESS_TOKEN_TYPE: &str = "at+jwt";

/// How long others may remember the published keys: `max-age` of the JWK set.
pub const KEYS_CACHED_FOR: Duration = Duration::from_secs(300);

/// No key signs that was published for less, but for those of a first ring and of an emergency: as long as others may remember a
/// set without it, and a minute for sidecars that hear late of a turn.
pub const PUBLISHED_BEFORE_USE: Duration = Duration::from_secs(360);

/// No token lives longer; the config's bounds are within it.
pub const LIFETIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A token's longest life, and an hour for clocks and for sidecars that hear late of a turn.
const SHOWN_AFTER_LAST_USE: Duration = Duration::from_secs(25 * 60 * 60);

const ALGORITHMS: [Algorithm; 2] = [Algorithm::Rs256, Algorithm::EdDsa];

pub(in crate::jose) const SHELF: Shelf =
    Shelf { id: "issuer", context: b"tollgate issuer ring", lines: Lines::EdDsaAndRs256, shown_after: SHOWN_AFTER_LAST_USE };

/// RS256 signatures that may wait, each for about a millisecond of a worker; more are refused.
const WAITING_MAX: usize = 256;
const WORKERS_MAX: usize = 4;

/// What an access token says: RFC 9068 section 2.2, and the grant that it stands on.
#[derive(Clone, Debug)]
pub struct AccessClaims<'a> {
    pub iss: &'a str,
    /// One is written as a text, several as a list.
    pub aud: &'a [Arc<str>],
    pub sub: &'a str,
    pub client_id: &'a str,
    /// The grant's id (`gid`).
    pub grant: &'a str,
    pub scope: &'a ScopeSet,
    pub jti: &'a str,
    pub iat: Timestamp,
    pub exp: Timestamp,
    /// Who acts for the subject (RFC 8693 section 4.1): `{"sub": …}`, nested.
    pub act: Option<&'a serde_json::Value>,
}

/// Why nothing was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    #[error("the signing keys could not be fetched from the store yet")]
    NoRing,
    #[error("too many tokens wait to be signed")]
    Overloaded,
    /// Also where our own gate would refuse it: it lives longer than [`LIFETIME_MAX`], or is too long.
    #[error("the token could not be signed")]
    Unsigned,
}

/// A key of the ring, as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingKey {
    /// RFC 7638 thumbprint.
    pub id: Arc<str>,
    pub algorithm: Algorithm,
    pub state: RingKeyState,
}

/// The ring as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingReport {
    /// When the current keys began to sign, and the next ones were published.
    pub since: Timestamp,
    pub keys: Vec<RingKey>,
}

/// The ring in use.
pub struct Signer {
    /// None: there is none yet, or the store was not reachable.
    loaded: ArcSwapOption<Loaded>,
    /// Looks and turns come one after another, so that none puts an older ring in the place of a newer one.
    turning: Mutex<()>,
    /// Whoever verifies our tokens in this process.
    verifier: OnceLock<Arc<Tokens>>,
    pool: Pool,
}

struct Loaded {
    found: Found,
    eddsa_header: String,
    rs256_header: String,
    jwks: Arc<str>,
    keys: Arc<KeySet>,
}

/// RS256 signing, off the threads that answer checks.
struct Pool {
    admitted: Arc<Semaphore>,
    workers: Arc<Semaphore>,
}

impl Signer {
    /// The ring on the shelf; on the first start one is made and put there. A store out of reach is no error: it is tried again.
    ///
    /// # Errors
    /// [`RingError`]; a ring that cannot be read is never replaced.
    pub async fn load_or_create(records: &dyn Records, peppers: &Peppers, now: Timestamp) -> Result<Self, RingError> {
        let signer = Self::default();
        match signer.rotate_if_due(records, peppers, Duration::MAX, now).await {
            Ok(_rotation) => Ok(signer),
            Err(RingError::Store(StoreError::Unavailable(_))) => Ok(signer),
            Err(error) => Err(error),
        }
    }

    /// The ring on the shelf, and nothing is put there: for a look at the stores while nothing is served.
    ///
    /// # Errors
    /// As [`Self::load_or_create`].
    pub async fn load(records: &dyn Records, peppers: &Peppers, now: Timestamp) -> Result<Self, RingError> {
        let signer = Self::default();
        match SHELF.read(records, peppers).await {
            Ok(found) => found.map_or(Ok(()), |found| signer.adopt(found, now)).map(|()| signer),
            Err(RingError::Store(StoreError::Unavailable(_))) => Ok(signer),
            Err(error) => Err(error),
        }
    }

    /// From now on these tokens are verified with the ring in use, whatever becomes of it.
    pub fn tell(&self, tokens: &Arc<Tokens>) {
        let tokens = self.verifier.get_or_init(|| Arc::clone(tokens));
        if let Some(keys) = self.key_set() {
            tokens.install_own(keys);
        }
    }

    /// A signed token. RS256 runs in a bounded pool; EdDSA at once.
    ///
    /// # Errors
    /// [`SignError`].
    pub async fn sign(&self, claims: &AccessClaims<'_>, algorithm: Algorithm) -> Result<String, SignError> {
        let loaded = self.loaded.load_full().ok_or(SignError::NoRing)?;
        let payload = claims.to_payload().ok_or(SignError::Unsigned)?;
        let token = match algorithm {
            Algorithm::EdDsa => loaded.sign_eddsa(&payload),
            Algorithm::Rs256 => self.pool.run(move || loaded.sign_rs256(&payload)).await?,
            Algorithm::Hs256
            | Algorithm::Hs384
            | Algorithm::Hs512
            | Algorithm::Rs384
            | Algorithm::Rs512
            | Algorithm::Ps256
            | Algorithm::Es256
            | Algorithm::Es384 => None,
        };
        token.filter(|token| token.len() <= TOKEN_BYTES_MAX).ok_or(SignError::Unsigned)
    }

    /// What verifies the tokens; none while the ring is not known.
    pub fn key_set(&self) -> Option<Arc<KeySet>> {
        self.loaded.load().as_ref().map(|loaded| Arc::clone(&loaded.keys))
    }

    /// RFC 7517, public members only: every key that signs, will, or did within a token's lifetime.
    pub fn jwks(&self) -> Option<Arc<str>> {
        self.loaded.load().as_ref().map(|loaded| Arc::clone(&loaded.jwks))
    }

    /// Whether there are keys to sign with.
    pub fn has_ring(&self) -> bool {
        self.loaded.load().is_some()
    }

    /// The ring for operators; none while it is not known.
    pub fn report(&self, now: Timestamp) -> Option<RingReport> {
        let loaded = self.loaded.load_full()?;
        let ring = &loaded.found.ring;
        let key = |(key, state): (&PublicKey, RingKeyState)| RingKey { id: Arc::clone(&key.id), algorithm: key.algorithm(), state };
        Some(RingReport { since: ring.since, keys: ring.published(now).into_iter().map(key).collect() })
    }

    /// Finds or makes the ring where it is not known yet; turns it if its keys have signed for `rotate_every`; takes over what
    /// another process did. Of several processes that try at once, one turns it.
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
        let _turn = self.turning.lock().await;
        let known = self.loaded.load().as_ref().map(|loaded| loaded.found.clone());
        // However often it is asked for: the next keys must have been published for long enough.
        let rotate_every = rotate_every.max(PUBLISHED_BEFORE_USE);
        match SHELF.look(known.as_ref(), |ring| ring.is_due(rotate_every, now), (records, peppers), now).await? {
            Looked::Unchanged => {
                known.map_or(Ok(()), |known| self.adopt(known, now))?;
                Ok(Rotation::NotDue)
            }
            Looked::Found(found, rotation) => {
                self.adopt(found, now)?;
                Ok(rotation)
            }
        }
    }

    /// Turns the ring now. [`Rotation::NotDue`]: the next keys have been published for less than [`PUBLISHED_BEFORE_USE`].
    ///
    /// # Errors
    /// [`RingError`]; the old ring stays in use.
    pub async fn rotate(&self, records: &dyn Records, peppers: &Peppers, now: Timestamp) -> Result<Rotation, RingError> {
        self.rotate_if_due(records, peppers, Duration::ZERO, now).await
    }

    /// Throws every key away and makes new ones, which sign at once. When it returns, nothing that the old ones signed verifies in
    /// this process; other sidecars of the store follow as soon as they see its change log.
    ///
    /// # Errors
    /// [`RingError`]; the old ring stays in use.
    pub async fn emergency_rotate(&self, records: &dyn Records, peppers: &Peppers, now: Timestamp) -> Result<(), RingError> {
        let _turn = self.turning.lock().await;
        let found = SHELF.replace(records, peppers, now).await?;
        self.adopt(found, now)
    }

    fn adopt(&self, found: Found, now: Timestamp) -> Result<(), RingError> {
        let jwks = found.ring.jwks(now);
        if self.loaded.load().as_ref().is_some_and(|loaded| loaded.found.mark == found.mark && *loaded.jwks == *jwks) {
            return Ok(());
        }
        let loaded = Loaded::new(found, jwks)?;
        // Before anything is signed with them: what is signed verifies.
        if let Some(tokens) = self.verifier.get() {
            tokens.install_own(Arc::clone(&loaded.keys));
        }
        self.loaded.store(Some(Arc::new(loaded)));
        Ok(())
    }
}

impl Default for Signer {
    /// Without a ring.
    fn default() -> Self {
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX);
        let pool = Pool::new(workers, WAITING_MAX);
        Self { loaded: ArcSwapOption::empty(), turning: Mutex::new(()), verifier: OnceLock::new(), pool }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Signer").field("has_ring", &self.has_ring()).finish_non_exhaustive()
    }
}

impl Loaded {
    fn new(found: Found, jwks: String) -> Result<Self, RingError> {
        let header = |key: &SigningKey| write::header(key, ACCESS_TOKEN_TYPE);
        let keys = KeySet::from_jwks(jwks.as_bytes(), &ALGORITHMS).map_err(|error| RingError::Unreadable(error.to_string()))?;
        Ok(Self {
            eddsa_header: header(&found.ring.eddsa.current),
            rs256_header: found.ring.rs256.as_ref().map(|line| header(&line.current)).unwrap_or_default(),
            jwks: Arc::from(jwks),
            keys: Arc::new(keys),
            found,
        })
    }

    fn sign_eddsa(&self, payload: &[u8]) -> Option<String> {
        write::sign(&self.found.ring.eddsa.current, &self.eddsa_header, payload)
    }

    fn sign_rs256(&self, payload: &[u8]) -> Option<String> {
        write::sign(&self.found.ring.rs256.as_ref()?.current, &self.rs256_header, payload)
    }
}

impl Pool {
    /// `most` are under way or wait, `workers` of them under way.
    fn new(workers: usize, most: usize) -> Self {
        Self { admitted: Arc::new(Semaphore::new(most)), workers: Arc::new(Semaphore::new(workers)) }
    }

    /// Both places are given back when the work ends, also where nobody waits for it any more.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, SignError> {
        let admitted = Arc::clone(&self.admitted).try_acquire_owned().map_err(|_full| SignError::Overloaded)?;
        let worker = Arc::clone(&self.workers).acquire_owned().await.map_err(|_closed| SignError::Overloaded)?;
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop((worker, admitted));
            done
        });
        done.await.map_err(|_ended| SignError::Unsigned)
    }
}

/// As it is written.
#[derive(Serialize)]
struct Payload<'a> {
    iss: &'a str,
    aud: Audience<'a>,
    sub: &'a str,
    client_id: &'a str,
    gid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    jti: &'a str,
    iat: u64,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<&'a serde_json::Value>,
}

impl AccessClaims<'_> {
    fn to_payload(&self) -> Option<Vec<u8>> {
        if self.exp.since(self.iat) > LIFETIME_MAX {
            return None;
        }
        let payload = Payload {
            iss: self.iss,
            aud: Audience::of(self.aud),
            sub: self.sub,
            client_id: self.client_id,
            gid: self.grant,
            scope: (!self.scope.is_empty()).then(|| self.scope.to_string()),
            jti: self.jti,
            iat: self.iat.unix_seconds(),
            exp: self.exp.unix_seconds(),
            act: self.act,
        };
        serde_json::to_vec(&payload).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;
    use std::sync::mpsc;

    use super::*;
    use crate::jose::ring::Ring;

    impl Signer {
        /// With a ring that lies nowhere: the same keys for every test of the process, since an RSA key takes long to make.
        pub(crate) fn for_tests(now: Timestamp) -> Self {
            static RING: LazyLock<Vec<u8>> =
                LazyLock::new(|| Ring::create(Lines::EdDsaAndRs256, Timestamp::default()).unwrap().encode().unwrap().to_vec());
            let mut ring = Ring::decode(&RING).unwrap();
            ring.since = now;
            let signer = Self::default();
            signer.adopt(Found { ring: Arc::new(ring), mark: [0; 32] }, now).unwrap();
            signer
        }

        /// Whatever is written here, signed with the current key for this algorithm. The header is JSON text, its `kid` is `KID`.
        pub(in crate::jose) fn forge(&self, algorithm: Algorithm, header: &str, payload: &str) -> String {
            use base64::Engine as _;
            let loaded = self.loaded.load_full().unwrap();
            let rs256 = loaded.found.ring.rs256.as_ref().filter(|_line| algorithm == Algorithm::Rs256);
            let key = &rs256.unwrap_or(&loaded.found.ring.eddsa).current;
            let header = header.replace("KID", &key.public.id);
            let header = format!("{}.", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(header));
            write::sign(key, &header, payload.as_bytes()).unwrap()
        }

        /// The private halves as they are written into the record, for whoever sees to it that they stand nowhere else.
        pub(crate) fn private_texts(&self) -> Vec<String> {
            let loaded = self.loaded.load_full().unwrap();
            let encoded = loaded.found.ring.encode().unwrap();
            let file: serde_json::Value = serde_json::from_slice(&encoded).unwrap();
            let places = [&file["current"], &file["next"], &file["rs256"]["current"], &file["rs256"]["next"]];
            places.map(|text| text.as_str().unwrap().to_owned()).to_vec()
        }
    }

    #[tokio::test]
    async fn a_full_pool_refuses_and_gives_its_places_back() {
        let pool = Arc::new(Pool::new(1, 2));
        let (release, released) = mpsc::channel::<()>();
        let (begun, has_begun) = mpsc::channel::<()>();
        let first = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move {
                let work = move || {
                    begun.send(()).unwrap();
                    released.recv().unwrap();
                };
                pool.run(work).await
            }
        });
        tokio::task::spawn_blocking(move || has_begun.recv().unwrap()).await.unwrap();
        let mut second = Box::pin(pool.run(|| 2));
        assert!(futures_util::poll!(&mut second).is_pending(), "it waits for the one worker");
        assert_eq!(pool.run(|| 3).await, Err(SignError::Overloaded));
        // Who goes away gives up the place; who is under way keeps it.
        drop(second);
        first.abort();
        let _aborted = first.await;
        let mut third = Box::pin(pool.run(|| 4));
        assert!(futures_util::poll!(&mut third).is_pending());
        assert_eq!(pool.run(|| 5).await, Err(SignError::Overloaded));
        release.send(()).unwrap();
        assert_eq!(third.await, Ok(4));
        assert_eq!(pool.run(|| 6).await, Ok(6));
    }
}
