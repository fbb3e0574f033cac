//! Failed guesses, limited before anything costly: per client address and per key prefix, in this process alone.
//!
//! A request is judged by what failed before it, and takes nothing itself; only a failure does. A credential that was proven before
//! passes whatever else comes from its address, so an attacker behind the same NAT cannot lock others out.
//!
//! Memory is fixed at the start ([`Buckets`], [`Proven`]), whatever addresses and keys an attacker invents, and neither a
//! credential's text nor an address is kept, only hashes under a key of this process.

use std::hash::BuildHasher;
use std::hash::RandomState;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::check::decide::Denial;
use crate::check::decide::Particulars;
use crate::check::reasons::Reason;
use crate::check::take_credential::Credential;
use crate::check::take_credential::Shown;
use crate::model::quota;
use crate::model::quota::Limit;
use crate::model::quota::Verdict;
use crate::model::rules::GuardLimits;
use crate::model::time::Timestamp;

/// Sets of each table; together with the ways 32 768 counters or fingerprints, half a MiB or less a table.
const SETS: usize = 4096;
const WAYS: usize = 8;
/// Characters of a foreign key that count as its prefix: long enough that a maker's brand is not the whole of it.
const PREFIX_LENGTH: usize = 16;

/// What failed lately and what was proven; one per process.
#[derive(Debug)]
pub struct Guard {
    hasher: RandomState,
    /// One table an address family, so that the many addresses of IPv6 cannot press upon IPv4.
    addresses_v4: Buckets,
    addresses_v6: Buckets,
    prefixes: Buckets,
    proven: Proven,
}

impl Guard {
    pub fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            addresses_v4: Buckets::new(),
            addresses_v6: Buckets::new(),
            prefixes: Buckets::new(),
            proven: Proven::new(),
        }
    }

    /// Whether this credential may be looked at. While nobody fails, that is three atomic loads.
    ///
    /// # Errors
    /// 429 with `Retry-After`, when too much failed from the address or for the prefix and the credential was not proven before.
    pub fn judge(&self, shown: &Shown<'_>, client: Option<IpAddr>, limits: &GuardLimits, now: Timestamp) -> Result<(), Denial> {
        let Some(text) = shown.credential.secret_text() else {
            return Ok(());
        };
        if [&self.addresses_v4, &self.addresses_v6, &self.prefixes].into_iter().all(|buckets| buckets.are_full(now)) {
            return Ok(());
        }
        let of_address = client.and_then(|address| self.address_bucket(address).refusal(limits.per_address, now));
        let of_prefix = self.prefix_bucket(&shown.credential).and_then(|bucket| bucket.refusal(limits.per_key_prefix, now));
        let Some(wait) = of_address.max(of_prefix) else {
            return Ok(());
        };
        if self.proven.contains(self.fingerprint(text)) {
            return Ok(());
        }
        let seconds = u32::try_from(wait.as_nanos().div_ceil(1_000_000_000)).unwrap_or(u32::MAX);
        Err(Denial::with(Reason::TooManyFailures, Particulars::RetryAfter(seconds.max(1))))
    }

    /// The credential turned out bad: its address and its prefix pay, and it is no longer one of the proven.
    pub fn record_failure(&self, shown: &Shown<'_>, client: Option<IpAddr>, limits: &GuardLimits, now: Timestamp) {
        let Some(text) = shown.credential.secret_text() else {
            return;
        };
        self.proven.remove(self.fingerprint(text));
        if let Some(address) = client {
            self.address_bucket(address).take(limits.per_address, now);
        }
        if let Some(bucket) = self.prefix_bucket(&shown.credential) {
            bucket.take(limits.per_key_prefix, now);
        }
    }

    /// The credential turned out good. Should another one push it out, it only loses its privilege until it is proven again.
    pub fn record_proven(&self, shown: &Shown<'_>) {
        if let Some(text) = shown.credential.secret_text() {
            self.proven.insert(self.fingerprint(text));
        }
    }

    fn fingerprint(&self, text: &str) -> u64 {
        nonzero(self.hasher.hash_one(("proven", text)))
    }

    fn address_bucket(&self, address: IpAddr) -> Bucket<'_> {
        match address.to_canonical() {
            IpAddr::V4(address) => Bucket { buckets: &self.addresses_v4, tag: nonzero(self.hasher.hash_one(address)) },
            IpAddr::V6(address) => {
                // A /64 is one customer's: its 2^64 addresses cost nothing.
                let network = address.to_bits() >> 64;
                Bucket { buckets: &self.addresses_v6, tag: nonzero(self.hasher.hash_one(network)) }
            }
        }
    }

    fn prefix_bucket(&self, credential: &Credential<'_>) -> Option<Bucket<'_>> {
        let prefix = match credential {
            Credential::Own(own) => own.id,
            Credential::Foreign(text) | Credential::Opaque(text) => text.get(..PREFIX_LENGTH).unwrap_or(text),
            // All tokens of an issuer begin alike, and what tells them apart is not theirs until it is proven.
            // Whoever shows the right MAC has it from us, and nobody else ever finds it: a flood of wrong ones would only shut its holder out.
            Credential::Token(_) | Credential::Handle { .. } | Credential::None | Credential::Principal(_) => return None,
        };
        Some(Bucket { buckets: &self.prefixes, tag: nonzero(self.hasher.hash_one(prefix)) })
    }
}

impl Default for Guard {
    fn default() -> Self {
        Self::new()
    }
}

/// Zero marks an empty place.
fn nonzero(hash: u64) -> u64 {
    hash.max(1)
}

fn set_of(tag: u64) -> usize {
    // The high bits choose the set; the whole tag tells its members apart.
    usize::try_from(tag >> 32).unwrap_or_default() % SETS
}

/// GCRA states in sets of a fixed number of ways.
///
/// A counter at its limit is not washed out by newcomers: when a set is full, the *least* loaded counter gives way, so they push out
/// each other. To free one, an attacker would need as many others of the same set at the same limit, that is about as many
/// addresses at their limit as the whole table has places, and he cannot aim at a set, because its choice is keyed. And no flood
/// holds off an address that did not fail, because a newcomer starts from nothing.
#[derive(Debug)]
struct Buckets {
    sets: Vec<Mutex<[Counter; WAYS]>>,
    /// The latest instant at which any counter here is full again.
    busy_until: AtomicU64,
}

/// One counter: whose it is, and the instant at which it is full again.
#[derive(Clone, Copy, Debug, Default)]
struct Counter {
    tag: u64,
    state: u64,
}

struct Bucket<'g> {
    buckets: &'g Buckets,
    tag: u64,
}

impl Buckets {
    fn new() -> Self {
        let sets = std::iter::repeat_with(|| Mutex::new([Counter::default(); WAYS])).take(SETS).collect();
        Self { sets, busy_until: AtomicU64::new(0) }
    }

    fn are_full(&self, now: Timestamp) -> bool {
        self.busy_until.load(Ordering::Relaxed) <= now.as_nanos()
    }
}

impl Bucket<'_> {
    /// How long until one more failure would fit; none when it fits now.
    fn refusal(&self, limit: Limit, now: Timestamp) -> Option<Duration> {
        if self.buckets.are_full(now) {
            return None;
        }
        let state = self.with_set(|set| set.iter().find(|counter| counter.tag == self.tag).map(|counter| counter.state)).flatten()?;
        match quota::take(state, limit, 1, now) {
            Verdict::Admitted { .. } => None,
            Verdict::Refused { retry_after, .. } => Some(retry_after),
            Verdict::Never { .. } => Some(Duration::from_mins(1)),
        }
    }

    fn take(&self, limit: Limit, now: Timestamp) {
        let written = self.with_set(|set| {
            let own = set.iter().position(|counter| counter.tag == self.tag);
            let place = match own {
                Some(place) => set.get_mut(place),
                // A free or long full counter has the least state of all.
                None => set.iter_mut().min_by_key(|counter| counter.state),
            }?;
            if own.is_none() {
                *place = Counter { tag: self.tag, state: 0 };
            }
            match quota::take(place.state, limit, 1, now) {
                Verdict::Admitted { state, .. } => place.state = state,
                // Attempts that ran side by side: the bucket is empty already.
                Verdict::Refused { .. } | Verdict::Never { .. } => {}
            }
            Some(place.state)
        });
        if let Some(state) = written.flatten() {
            self.buckets.busy_until.fetch_max(state, Ordering::Relaxed);
        }
    }

    fn with_set<T>(&self, work: impl FnOnce(&mut [Counter; WAYS]) -> T) -> Option<T> {
        let set = self.buckets.sets.get(set_of(self.tag))?;
        Some(work(&mut set.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Fingerprints of credentials that were proven, in sets of a fixed number of ways. Only a valid credential gets in, so an attacker
/// without one can push none out.
#[derive(Debug)]
struct Proven {
    sets: Vec<[AtomicU64; WAYS]>,
}

impl Proven {
    fn new() -> Self {
        Self { sets: std::iter::repeat_with(|| std::array::from_fn(|_| AtomicU64::new(0))).take(SETS).collect() }
    }

    fn set(&self, fingerprint: u64) -> &[AtomicU64] {
        self.sets.get(set_of(fingerprint)).map(<[AtomicU64; WAYS]>::as_slice).unwrap_or_default()
    }

    fn contains(&self, fingerprint: u64) -> bool {
        self.set(fingerprint).iter().any(|place| place.load(Ordering::Relaxed) == fingerprint)
    }

    fn insert(&self, fingerprint: u64) {
        if self.contains(fingerprint) {
            return;
        }
        let set = self.set(fingerprint);
        let free = set.iter().find(|place| place.load(Ordering::Relaxed) == 0);
        // Low bits of the fingerprint are as good as a die.
        let chosen = free.or_else(|| set.get(usize::try_from(fingerprint).unwrap_or_default() % WAYS));
        if let Some(place) = chosen {
            place.store(fingerprint, Ordering::Relaxed);
        }
    }

    fn remove(&self, fingerprint: u64) {
        for place in self.set(fingerprint) {
            // Only if it is still this one: the place may have been given to another since.
            let _ = place.compare_exchange(fingerprint, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::net::Ipv6Addr;

    use super::*;
    use crate::model::caller::Environment;
    use crate::model::key_text::OwnKey;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);
    const LIMITS: GuardLimits =
        GuardLimits { per_address: Limit { per_minute: 6, depth: 3 }, per_key_prefix: Limit { per_minute: 60, depth: 5 } };

    fn shown(credential: Credential<'_>) -> Shown<'_> {
        Shown { credential, paired_key: None, headers: Vec::new(), query_parameter: None }
    }

    fn address(text: &str) -> Option<IpAddr> {
        text.parse().ok()
    }

    fn later(seconds: u64) -> Timestamp {
        NOW.plus(Duration::from_secs(seconds))
    }

    fn check(guard: &Guard, credential: Credential<'_>, client: Option<IpAddr>, now: Timestamp, expected: Option<u32>) {
        let expected = match expected {
            None => Ok(()),
            Some(seconds) => Err(Denial::with(Reason::TooManyFailures, Particulars::RetryAfter(seconds))),
        };
        assert_eq!(guard.judge(&shown(credential), client, &LIMITS, now), expected, "{credential:?} {client:?}");
    }

    fn fail(guard: &Guard, text: &str, client: Option<IpAddr>, times: usize) {
        for _ in 0..times {
            guard.record_failure(&shown(Credential::Token(text)), client, &LIMITS, NOW);
        }
    }

    // battery: K19 H18
    #[test]
    fn an_address_that_fails_is_held_off_until_it_has_waited() {
        let guard = Guard::new();
        let client = address("192.0.2.1");
        check(&guard, Credential::Token("a"), client, NOW, None);
        fail(&guard, "a", client, 2);
        check(&guard, Credential::Token("a"), client, NOW, None);
        fail(&guard, "a", client, 1);
        check(&guard, Credential::Token("another"), client, NOW, Some(10));
        check(&guard, Credential::Token("another"), address("::ffff:192.0.2.1"), NOW, Some(10));
        check(&guard, Credential::Token("another"), client, later(9), Some(1));
        check(&guard, Credential::Token("another"), client, later(10), None);
        check(&guard, Credential::Token("a"), address("192.0.2.2"), NOW, None);
        check(&guard, Credential::Token("a"), None, NOW, None);
    }

    #[test]
    fn failures_side_by_side_do_not_lengthen_the_wait() {
        let guard = Guard::new();
        fail(&guard, "a", address("192.0.2.1"), 1000);
        check(&guard, Credential::Token("a"), address("192.0.2.1"), NOW, Some(10));
    }

    #[test]
    fn who_shows_nothing_or_a_principal_is_not_guessing() {
        let guard = Guard::new();
        let client = address("192.0.2.1");
        fail(&guard, "a", client, 3);
        for credential in [Credential::None, Credential::Principal("spiffe://a/b")] {
            check(&guard, credential, client, NOW, None);
            guard.record_failure(&shown(credential), address("192.0.2.9"), &LIMITS, NOW);
            guard.record_proven(&shown(credential));
        }
        check(&guard, Credential::Token("a"), address("192.0.2.9"), NOW, None);
    }

    #[test]
    fn an_ipv6_network_is_one_client() {
        let guard = Guard::new();
        for host in 0..3_u128 {
            fail(&guard, "a", Some(IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8 << 96 | host << 40 | host))), 1);
        }
        check(&guard, Credential::Token("a"), address("2001:db8::ffff:ffff:ffff:ffff"), NOW, Some(10));
        check(&guard, Credential::Token("a"), address("2001:db8:0:1::"), NOW, None);
    }

    #[test]
    fn what_was_proven_passes_until_it_fails() {
        let guard = Guard::new();
        let client = address("192.0.2.1");
        guard.record_proven(&shown(Credential::Opaque("good")));
        fail(&guard, "bad", client, 3);
        check(&guard, Credential::Opaque("good"), client, NOW, None);
        check(&guard, Credential::Opaque("good2"), client, NOW, Some(10));
        check(&guard, Credential::Opaque("goo"), client, NOW, Some(10));
        // Revoked meanwhile.
        guard.record_failure(&shown(Credential::Opaque("good")), client, &LIMITS, NOW);
        check(&guard, Credential::Opaque("good"), client, NOW, Some(10));
    }

    #[test]
    fn guesses_at_one_key_are_counted_together_wherever_they_come_from() {
        let guard = Guard::new();
        let own = |text, id| Credential::Own(OwnKey { text, environment: Environment::Live, id });
        guard.record_proven(&shown(own("right", "id1")));
        for host in 0..5 {
            let client = Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, host)));
            guard.record_failure(&shown(own("wrong", "id1")), client, &LIMITS, NOW);
        }
        let elsewhere = address("192.0.2.1");
        check(&guard, own("wrong", "id1"), elsewhere, NOW, Some(1));
        check(&guard, own("wrong", "id2"), elsewhere, NOW, None);
        check(&guard, own("right", "id1"), elsewhere, NOW, None);
        check(&guard, own("wrong", "id1"), elsewhere, later(1), None);

        let foreign = ["0123456789abcdef-a", "0123456789abcdef-b", "0123456789abcdef-c", "0123456789abcdef-d", "0123456789abcdef-e"];
        for (host, text) in (10..).zip(foreign) {
            let client = Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, host)));
            guard.record_failure(&shown(Credential::Foreign(text)), client, &LIMITS, NOW);
        }
        check(&guard, Credential::Foreign("0123456789abcdef-f"), elsewhere, NOW, Some(1));
        check(&guard, Credential::Foreign("0123456789abcdeX-f"), elsewhere, NOW, None);
    }

    // battery: K19 K20
    #[test]
    fn a_flood_of_addresses_neither_grows_nor_frees_anything() {
        let guard = Guard::new();
        let attacker = address("192.0.2.1");
        fail(&guard, "a", attacker, 3);
        // Ten times as many as there are places, each failing once: none is as loaded as the attacker.
        for host in 0..(SETS * WAYS * 10) {
            let client = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + u32::try_from(host).unwrap()));
            guard.record_failure(&shown(Credential::Token("b")), Some(client), &LIMITS, NOW);
        }
        check(&guard, Credential::Token("a"), attacker, NOW, Some(10));
        assert_eq!(guard.addresses_v4.sets.len(), SETS);
        check(&guard, Credential::Token("a"), address("192.0.2.2"), NOW, None);
        check(&guard, Credential::Token("a"), address("2001:db8::1"), NOW, None);
        // Everything is free again once the buckets have filled.
        check(&guard, Credential::Token("a"), attacker, later(31), None);
        assert!(guard.addresses_v4.are_full(later(31)));
    }

    #[test]
    fn the_proven_are_bounded_too() {
        let guard = Guard::new();
        let texts: Vec<String> = (0..SETS * WAYS * 2).map(|number| format!("credential-{number}")).collect();
        for text in &texts {
            guard.record_proven(&shown(Credential::Opaque(text)));
        }
        let kept = texts.iter().filter(|text| guard.proven.contains(guard.fingerprint(text))).count();
        assert!(kept <= SETS * WAYS && kept > SETS * WAYS / 2, "{kept}");
        let last = texts.last().unwrap();
        assert!(guard.proven.contains(guard.fingerprint(last)));
    }
}
