//! Tokens already verified, and the key sets that were fetched from URLs.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;
use arc_swap::ArcSwapOption;
use quick_cache::sync::Cache;
use tokio::sync::Notify;

use crate::jose::TokenError;
use crate::jose::claims::judge;
use crate::jose::claims::judge_times;
use crate::jose::compact::Compact;
use crate::jose::compact::TOKEN_BYTES_MAX;
use crate::jose::compact::Unverified;
use crate::jose::json::Json;
use crate::jose::json::read_object;
use crate::jose::keys::KeySet;
use crate::jose::keys::NoKey;
use crate::jose::lookups::Lookups;
use crate::model::claims::VerifiedClaims;
use crate::model::rules::Issuer;
use crate::model::rules::IssuerKeys;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;
use crate::secrets::sha256;

/// Verifies bearer JWTs and remembers whom they prove.
pub struct Tokens {
    /// By the SHA-256 of the whole token: two tokens never share an entry.
    verified: Cache<[u8; 32], Arc<Verified>>,
    /// By URL.
    fetched: ArcSwap<HashMap<Arc<str>, Arc<Fetched>>>,
    /// Our own ring's; none until it is known.
    own: ArcSwapOption<KeySet>,
    /// Somebody showed a `kid` that our own ring does not have.
    own_is_wanted: AtomicBool,
    own_wanted: Notify,
    wanted: Notify,
    lookups: Lookups,
}

/// A token that was verified, and what that rested on.
struct Verified {
    claims: Arc<VerifiedClaims>,
    /// The rules' revision: positions of issuers mean nothing under another.
    revision: Arc<str>,
    /// The very set that verified it. Holding it keeps its address from being used again.
    keys: Arc<KeySet>,
}

struct Fetched {
    keys: Arc<KeySet>,
    /// Somebody showed a `kid` that the set does not have.
    wanted: AtomicBool,
}

/// What became of a fetched set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installed {
    /// Tokens verified with the old set are verified anew.
    Changed,
    Unchanged,
}

impl Tokens {
    /// Remembers at most `capacity` tokens.
    pub fn new(capacity: usize) -> Self {
        Self {
            verified: Cache::new(capacity),
            fetched: ArcSwap::from_pointee(HashMap::new()),
            own: ArcSwapOption::empty(),
            own_is_wanted: AtomicBool::new(false),
            own_wanted: Notify::new(),
            wanted: Notify::new(),
            lookups: Lookups::default(),
        }
    }

    /// Whom the token proves, under these rules and at this instant.
    ///
    /// # Errors
    /// [`TokenError`]; only [`TokenError::KeysMissing`] is not an answer.
    pub fn verify(&self, token: &str, rules: &Rules, now: Timestamp) -> Result<Arc<VerifiedClaims>, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Malformed("the token is longer than 8 KiB"));
        }
        let key = sha256(token.as_bytes());
        if let Some(known) = self.verified.get(&key)
            && self.still_rests(&known, rules)
        {
            self.lookups.hit();
            judge_times(&known.claims, now)?;
            return Ok(Arc::clone(&known.claims));
        }
        self.lookups.missed();
        let (claims, keys) = self.verify_anew(token, rules, now)?;
        let claims = Arc::new(claims);
        self.verified.insert(key, Arc::new(Verified { claims: Arc::clone(&claims), revision: Arc::clone(&rules.revision), keys }));
        Ok(claims)
    }

    /// Puts a fetched set in the place of the URL's last one.
    pub fn install(&self, url: &str, keys: KeySet) -> Installed {
        if self.fetched.load().get(url).is_some_and(|known| known.keys.same_source(&keys)) {
            return Installed::Unchanged;
        }
        let fetched = Arc::new(Fetched { keys: Arc::new(keys), wanted: AtomicBool::new(false) });
        self.fetched.rcu(|sets| {
            let mut sets = HashMap::clone(sets);
            sets.insert(Arc::from(url), Arc::clone(&fetched));
            sets
        });
        Installed::Changed
    }

    /// Puts our own ring's public keys in the place of the last ones. Tokens verified with others are verified anew.
    pub fn install_own(&self, keys: Arc<KeySet>) {
        if !self.own.load().as_ref().is_some_and(|known| known.same_source(&keys)) {
            self.own.store(Some(keys));
        }
    }

    /// Whether the URL's keys were ever fetched.
    pub fn has_keys(&self, url: &str) -> bool {
        self.fetched.load().contains_key(url)
    }

    /// Forgets the sets of URLs that the rules no longer name.
    pub fn retain(&self, is_named: impl Fn(&str) -> bool) {
        if self.fetched.load().keys().all(|url| is_named(url)) {
            return;
        }
        self.fetched.rcu(|sets| {
            let mut sets = HashMap::clone(sets);
            sets.retain(|url, _set| is_named(url));
            sets
        });
    }

    /// How many tokens are remembered, for metrics.
    pub fn remembered(&self) -> usize {
        self.verified.len()
    }

    /// How often a shown token was a remembered one, for metrics.
    pub fn lookups(&self) -> &Lookups {
        &self.lookups
    }

    /// Waits until a `kid` was shown that some fetched set does not have.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Waits until a `kid` of our own was shown that our own ring does not have: another process may have turned it. However many
    /// are shown, it is said once until this is asked again.
    pub async fn own_wanted(&self) {
        self.own_wanted.notified().await;
        self.own_is_wanted.store(false, Ordering::Relaxed);
    }

    /// The URLs whose sets lacked a `kid` since this was last asked.
    pub fn take_wanted(&self) -> Vec<Arc<str>> {
        let sets = self.fetched.load();
        sets.iter().filter(|(_url, set)| set.wanted.swap(false, Ordering::Relaxed)).map(|(url, _set)| Arc::clone(url)).collect()
    }

    fn verify_anew(&self, token: &str, rules: &Rules, now: Timestamp) -> Result<(VerifiedClaims, Arc<KeySet>), TokenError> {
        let compact = Compact::read(token)?;
        let members = read_object(&compact.payload).map_err(|_reason| TokenError::Malformed("the payload is not a strict JSON object"))?;
        let shown = members.get("iss").and_then(Json::as_text).ok_or(TokenError::UntrustedIssuer)?;
        let (position, issuer) =
            rules.issuers.iter().enumerate().find(|(_position, issuer)| *issuer.issuer == *shown).ok_or(TokenError::UntrustedIssuer)?;
        let keys = self.keys_of(issuer).ok_or_else(|| TokenError::KeysMissing(Arc::clone(&issuer.issuer)))?;
        if let Err(unverified) = compact.verify(&keys, &issuer.algorithms) {
            if unverified == Unverified::NoKey(NoKey::UnknownId) {
                self.want(issuer);
            }
            return Err(unverified.into());
        }
        let claims = judge(&members, &compact.header, issuer, position, now)?;
        Ok((claims, keys))
    }

    fn still_rests(&self, known: &Verified, rules: &Rules) -> bool {
        known.revision == rules.revision
            && rules
                .issuers
                .get(known.claims.issuer)
                .and_then(|issuer| self.keys_of(issuer))
                .is_some_and(|keys| Arc::ptr_eq(&keys, &known.keys))
    }

    fn keys_of(&self, issuer: &Issuer) -> Option<Arc<KeySet>> {
        match &issuer.keys {
            IssuerKeys::Fixed(keys) => Some(Arc::clone(keys)),
            IssuerKeys::Url { url, .. } => self.fetched.load().get(url).map(|set| Arc::clone(&set.keys)),
            IssuerKeys::Own => self.own.load_full(),
        }
    }

    fn want(&self, issuer: &Issuer) {
        // The first to ask wakes the task; thousands more cost a load each.
        let is_first = |wanted: &AtomicBool| !wanted.load(Ordering::Relaxed) && !wanted.swap(true, Ordering::Relaxed);
        match &issuer.keys {
            IssuerKeys::Fixed(_) => {}
            IssuerKeys::Own if is_first(&self.own_is_wanted) => self.own_wanted.notify_one(),
            IssuerKeys::Own => {}
            IssuerKeys::Url { url, .. } => {
                if self.fetched.load().get(url).is_some_and(|set| is_first(&set.wanted)) {
                    self.wanted.notify_one();
                }
            }
        }
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Tokens")
            .field("verified", &self.verified.len())
            .field("fetched", &self.fetched.load().len())
            .finish_non_exhaustive()
    }
}
