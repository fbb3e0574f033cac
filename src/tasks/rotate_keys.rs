//! Turns our signing keys when they are old enough, and notices when another process did.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::clock::monotonic;
use crate::jose::Assertions;
use crate::jose::Tokens;
use crate::jose::ring::RingError;
use crate::jose::ring::Rotation;
use crate::jose::signer::Signer;
use crate::model::rules::Rules;
use crate::secrets::Peppers;
use crate::store::Records;

/// How long one key signs, unless the config says otherwise.
pub const ROTATE_EVERY: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How often the assertion ring on the shelf is looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(60);

/// How often the issuer's ring on the shelf is looked at, if nobody says that it changed. With a shared store the change log says so
/// within half a second, and this is for what the log may miss.
pub const LOOK_AT_ISSUER_EVERY: Duration = Duration::from_secs(10);

/// How often a ring is looked for while there is none: what needs it is a fault until then.
const SEEK_EVERY: Duration = Duration::from_secs(1);

/// Between two looks that tokens with an unknown `kid` bring about: anybody can write such tokens.
const WANTED_APART: Duration = Duration::from_secs(5);

/// Everything that the task needs.
#[derive(Debug)]
pub struct RotateKeys {
    pub ring: RingKind,
    pub records: Arc<dyn Records>,
    pub peppers: Arc<Peppers>,
    pub clock: Arc<dyn Clock>,
    pub rotate_every: Duration,
    pub look_every: Duration,
    /// Told about every look that did something or failed, for metrics.
    pub observer: Arc<dyn RotationObserver>,
}

/// Whose keys they are.
#[derive(Debug)]
pub enum RingKind {
    Assertions(Arc<Assertions>),
    Issuer(IssuerRing),
}

/// The issuer's ring, and who tells that it may have changed.
#[derive(Debug)]
pub struct IssuerRing {
    pub signer: Arc<Signer>,
    /// Says that a `kid` of ours was shown that nobody here knows.
    pub tokens: Arc<Tokens>,
    /// Without `issuer` in them no ring is made or looked for.
    pub rules: Arc<ArcSwap<Rules>>,
    /// Rises when another process may have turned the ring; none: there is no other process.
    pub changes: Option<watch::Receiver<u64>>,
}

/// What is told about the rings; `ring`: assertion, issuer.
pub trait RotationObserver: std::fmt::Debug + Send + Sync + 'static {
    fn rotated(&self, ring: &'static str, outcome: &Result<Rotation, RingError>);
}

impl RotationObserver for () {
    fn rotated(&self, _ring: &'static str, _outcome: &Result<Rotation, RingError>) {}
}

/// Runs until `shutdown`.
pub async fn run(mut task: RotateKeys, shutdown: CancellationToken) {
    let mut is_failing = false;
    let mut quiet_until = monotonic();
    loop {
        look(&task, &mut is_failing).await;
        let pause = if task.ring.has_keys() { task.look_every } else { task.look_every.min(SEEK_EVERY) };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            () = task.ring.news(&mut quiet_until) => {}
        }
    }
}

/// `is_failing`: whether the look before failed, which was said then.
async fn look(task: &RotateKeys, is_failing: &mut bool) {
    let had_keys = task.ring.has_keys();
    let Some(outcome) = task.ring.rotate_if_due(task).await else { return };
    let was_failing = std::mem::replace(is_failing, outcome.is_err());
    let ring = task.ring.name();
    match (&outcome, news(&outcome, had_keys, was_failing)) {
        (_, None) => {}
        (Err(error), Some(words)) => tracing::warn!(ring, %error, "{words}"),
        (Ok(_), Some(words)) => tracing::info!(ring, "{words}"),
    }
    if outcome != Ok(Rotation::NotDue) {
        task.observer.rotated(ring, &outcome);
    }
}

impl RingKind {
    const fn name(&self) -> &'static str {
        match self {
            Self::Assertions(_) => "assertion",
            Self::Issuer(_) => "issuer",
        }
    }

    fn has_keys(&self) -> bool {
        match self {
            Self::Assertions(assertions) => assertions.has_ring(),
            Self::Issuer(issuer) => issuer.signer.has_ring(),
        }
    }

    /// None: nobody needs the ring.
    async fn rotate_if_due(&self, task: &RotateKeys) -> Option<Result<Rotation, RingError>> {
        let (records, peppers, every, now) = (&*task.records, &*task.peppers, task.rotate_every, task.clock.now());
        match self {
            Self::Assertions(assertions) => Some(assertions.rotate_if_due(records, peppers, every, now).await),
            Self::Issuer(issuer) if issuer.rules.load().issuance.is_none() => None,
            Self::Issuer(issuer) => Some(issuer.signer.rotate_if_due(records, peppers, every, now).await),
        }
    }

    /// Waits for a reason to look before it is time.
    async fn news(&mut self, quiet_until: &mut Instant) {
        let issuer = match self {
            Self::Assertions(_) => return std::future::pending().await,
            Self::Issuer(issuer) => issuer,
        };
        let changed = async {
            let is_told = match &mut issuer.changes {
                Some(changes) => changes.changed().await.is_ok(),
                None => false,
            };
            if !is_told {
                std::future::pending::<()>().await;
            }
        };
        let wanted = async {
            tokio::time::sleep_until(*quiet_until).await;
            issuer.tokens.own_wanted().await;
        };
        tokio::select! {
            () = changed => {}
            () = wanted => *quiet_until = monotonic() + WANTED_APART,
        }
    }
}

/// What the log says of a look. A failure is said once, however long it lasts and however often it is looked.
const fn news(outcome: &Result<Rotation, RingError>, had_keys: bool, was_failing: bool) -> Option<&'static str> {
    match (outcome, had_keys, was_failing) {
        (Err(_), _, true) | (Ok(Rotation::NotDue), _, false) => None,
        (Err(_), true, false) => Some("signing keys could not be looked at; the old ones stay in use"),
        (Err(_), false, false) => {
            Some("there are no signing keys yet, and what has to be signed is a fault; they are asked for every second")
        }
        (Ok(Rotation::NotDue), _, true) => Some("signing keys can be looked at again"),
        (Ok(Rotation::Rotated), _, _) => Some("signing key rotated"),
        (Ok(Rotation::Adopted), false, _) => Some("there are signing keys now"),
        (Ok(Rotation::Adopted), true, _) => Some("signing keys of another process taken over"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use arc_swap::ArcSwap;
    use tokio::sync::watch;
    use tokio_util::sync::CancellationToken;

    use super::IssuerRing;
    use super::LOOK_AT_ISSUER_EVERY;
    use super::LOOK_EVERY;
    use super::ROTATE_EVERY;
    use super::RingKind;
    use super::RotateKeys;
    use super::RotationObserver;
    use super::SEEK_EVERY;
    use super::WANTED_APART;
    use super::look;
    use super::news;
    use super::run;
    use crate::clock::ManualClock;
    use crate::clock::monotonic;
    use crate::issuer::tests::issuance;
    use crate::jose::Assertions;
    use crate::jose::TokenError;
    use crate::jose::Tokens;
    use crate::jose::battery::NOW;
    use crate::jose::battery::forge;
    use crate::jose::battery::issuer;
    use crate::jose::battery::payload;
    use crate::jose::battery::rotation::Memory;
    use crate::jose::battery::rotation::peppers;
    use crate::jose::battery::rules;
    use crate::jose::ring::RingError;
    use crate::jose::ring::Rotation;
    use crate::jose::signer::Signer;
    use crate::model::rules::Algorithm;
    use crate::model::rules::Issuer;
    use crate::model::rules::IssuerKeys;
    use crate::model::rules::Rules;
    use crate::model::time::Timestamp;
    use crate::store::Answer;
    use crate::store::Committed;
    use crate::store::Family;
    use crate::store::Page;
    use crate::store::Precondition;
    use crate::store::RecordKey;
    use crate::store::Records;
    use crate::store::StoreError;
    use crate::store::Stored;
    use crate::store::Write;

    #[derive(Debug, Default)]
    struct Seen(Mutex<Vec<Result<Rotation, RingError>>>);

    impl RotationObserver for Seen {
        fn rotated(&self, _ring: &'static str, outcome: &Result<Rotation, RingError>) {
            self.0.lock().unwrap().push(outcome.clone());
        }
    }

    #[tokio::test]
    async fn a_key_signs_for_a_month_and_a_lost_ring_changes_nothing() {
        let (shelf, clock, seen) = (Arc::new(Memory::default()), Arc::new(ManualClock::starting_at(NOW)), Arc::new(Seen::default()));
        let assertions = Arc::new(Assertions::load_or_create(&*shelf, &peppers(), NOW).await.unwrap());
        let mut task = RotateKeys {
            ring: RingKind::Assertions(Arc::clone(&assertions)),
            records: shelf,
            peppers: Arc::new(peppers()),
            clock: Arc::<ManualClock>::clone(&clock),
            rotate_every: ROTATE_EVERY,
            look_every: LOOK_EVERY,
            observer: Arc::<Seen>::clone(&seen),
        };
        let mut is_failing = false;
        look(&task, &mut is_failing).await;
        clock.advance(ROTATE_EVERY.saturating_sub(Duration::from_secs(1)));
        look(&task, &mut is_failing).await;
        assert!(seen.0.lock().unwrap().is_empty());
        clock.advance(Duration::from_secs(1));
        look(&task, &mut is_failing).await;
        assert_eq!(seen.0.lock().unwrap().as_slice(), [Ok(Rotation::Rotated)]);

        let before = assertions.jwks_json();
        task.records = Arc::new(Memory::default());
        look(&task, &mut is_failing).await;
        assert!(matches!(seen.0.lock().unwrap().as_slice(), [_, Err(RingError::Unreadable(_))]));
        assert_eq!(assertions.jwks_json(), before);

        let shutdown = CancellationToken::new();
        shutdown.cancel();
        run(task, shutdown).await;
    }

    /// A shelf that counts how often it is looked at.
    #[derive(Debug, Default)]
    struct Counted {
        shelf: Memory,
        looks: AtomicUsize,
    }

    impl Records for Counted {
        fn get(&self, key: &RecordKey) -> Answer<'_, Result<Option<Stored>, StoreError>> {
            self.looks.fetch_add(1, Ordering::Relaxed);
            self.shelf.get(key)
        }

        fn range(&self, family: Family, after: Option<&str>, limit: usize) -> Answer<'_, Result<Page, StoreError>> {
            self.shelf.range(family, after, limit)
        }

        fn commit(
            &self,
            preconditions: Vec<Precondition>,
            writes: Vec<Write>,
            now: Timestamp,
        ) -> Answer<'_, Result<Committed, StoreError>> {
            self.shelf.commit(preconditions, writes, now)
        }
    }

    /// A process that has the issuer's ring of this shelf: what it signs and verifies with, its rules, and who tells it of changes.
    struct Process {
        signer: Arc<Signer>,
        tokens: Arc<Tokens>,
        rules: Arc<ArcSwap<Rules>>,
        changes: watch::Sender<u64>,
    }

    impl Process {
        fn start(shelf: &Arc<Counted>, rules: Rules) -> Self {
            let (signer, tokens, changes) = (Arc::new(Signer::default()), Arc::new(Tokens::new(10)), watch::Sender::new(0));
            signer.tell(&tokens);
            let rules = Arc::new(ArcSwap::from_pointee(rules));
            let ring = IssuerRing {
                signer: Arc::clone(&signer),
                tokens: Arc::clone(&tokens),
                rules: Arc::clone(&rules),
                changes: Some(changes.subscribe()),
            };
            let task = RotateKeys {
                ring: RingKind::Issuer(ring),
                records: Arc::<Counted>::clone(shelf),
                peppers: Arc::new(peppers()),
                clock: Arc::new(ManualClock::starting_at(NOW)),
                rotate_every: ROTATE_EVERY,
                look_every: LOOK_AT_ISSUER_EVERY,
                observer: Arc::new(()),
            };
            tokio::spawn(run(task, CancellationToken::new()));
            Self { signer, tokens, rules, changes }
        }

        fn kids(&self) -> Option<Arc<str>> {
            self.signer.jwks()
        }

        /// A token that says it is ours, by a key that nobody has.
        fn show_unknown(&self, number: usize) {
            let header = format!(r#"{{"alg":"EdDSA","kid":"k{number}"}}"#);
            let refused = self.tokens.verify(&forge(Algorithm::EdDsa, header, payload(&[])), &self.rules.load(), NOW);
            assert!(matches!(refused, Err(TokenError::BadSignature(_))), "{refused:?}");
        }
    }

    fn issuing() -> Rules {
        let own = Issuer { keys: IssuerKeys::Own, ..issuer() };
        Rules { issuance: Some(Arc::new(issuance())), ..rules(vec![own]) }
    }

    /// Waits in a time that nobody lives through.
    async fn after(length: Duration) {
        tokio::time::sleep(length).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_ring_is_made_where_something_is_issued_and_as_soon_as_the_rules_say_so() {
        let shelf = Arc::new(Counted::default());
        let gate = Process::start(&shelf, rules(vec![issuer()]));
        after(LOOK_EVERY * 10).await;
        assert_eq!((shelf.looks.load(Ordering::Relaxed), gate.kids()), (0, None), "a gate alone neither makes nor reads one");
        gate.rules.store(Arc::new(issuing()));
        after(SEEK_EVERY * 2).await;
        assert!(gate.kids().is_some());
        let other = Process::start(&shelf, issuing());
        after(SEEK_EVERY).await;
        assert_eq!(other.kids(), gate.kids());
    }

    // oauth: M8
    #[tokio::test(start_paused = true)]
    async fn what_another_process_threw_away_is_gone_as_soon_as_it_is_told() {
        let shelf = Arc::new(Counted::default());
        let (one, other) = (Process::start(&shelf, issuing()), Process::start(&shelf, issuing()));
        after(SEEK_EVERY * 2).await;
        let before = other.kids();
        assert!(before.is_some() && before == one.kids());
        one.signer.emergency_rotate(&*shelf, &peppers(), NOW).await.unwrap();
        assert!(one.kids() != before && other.kids() == before);
        let told = monotonic();
        other.changes.send_modify(|changes| *changes += 1);
        after(Duration::from_millis(1)).await;
        assert_eq!(other.kids(), one.kids());
        assert!(monotonic().duration_since(told) < SEEK_EVERY);

        // Untold, it is seen with the next look.
        one.signer.emergency_rotate(&*shelf, &peppers(), NOW).await.unwrap();
        after(LOOK_AT_ISSUER_EVERY).await;
        assert_eq!(other.kids(), one.kids());
    }

    // oauth: M9
    #[tokio::test(start_paused = true)]
    async fn unknown_names_bring_about_a_look_and_not_one_each() {
        let shelf = Arc::new(Counted::default());
        let (one, other) = (Process::start(&shelf, issuing()), Process::start(&shelf, issuing()));
        after(SEEK_EVERY * 2).await;
        one.signer.emergency_rotate(&*shelf, &peppers(), NOW).await.unwrap();
        other.show_unknown(0);
        after(Duration::from_millis(1)).await;
        assert_eq!(other.kids(), one.kids(), "the first brings the new ring at once");

        let before = shelf.looks.load(Ordering::Relaxed);
        let seconds = 60;
        for second in 0..seconds {
            (0..100).for_each(|number| other.show_unknown(second * 100 + number));
            after(Duration::from_secs(1)).await;
        }
        let looks = shelf.looks.load(Ordering::Relaxed) - before;
        let (in_order, apart) = (LOOK_AT_ISSUER_EVERY.as_secs() as usize, WANTED_APART.as_secs() as usize);
        let most = 2 * (seconds / in_order + 1) + seconds / apart + 1;
        assert!((seconds / apart..=most).contains(&looks), "{looks} looks for {} tokens", seconds * 100);
    }

    #[test]
    fn an_outage_is_said_once_and_its_end_once() {
        let lost = || Err(RingError::NoRandomness);
        let table = [
            (lost(), true, false, Some("the old ones stay in use")),
            (lost(), false, false, Some("no signing keys yet")),
            (lost(), true, true, None),
            (lost(), false, true, None),
            (Ok(Rotation::NotDue), true, false, None),
            (Ok(Rotation::NotDue), true, true, Some("again")),
            (Ok(Rotation::Adopted), false, true, Some("signing keys now")),
            (Ok(Rotation::Adopted), true, false, Some("another process")),
        ];
        for (outcome, had_ring, was_failing, expected) in table {
            let said = news(&outcome, had_ring, was_failing);
            let is_as_expected = said.is_some() == expected.is_some() && said.unwrap_or_default().contains(expected.unwrap_or_default());
            assert!(is_as_expected, "{outcome:?}, {had_ring}, {was_failing}: {said:?}");
        }
    }
}
