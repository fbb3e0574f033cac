//! Our own ring: made once, turned once however many try, and verified by the very wrapper that judges others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::jose::Assertions;
use crate::jose::KeySet;
use crate::jose::assertions::ASSERTION_TYPE;
use crate::jose::assertions::AssertionError;
use crate::jose::battery::NOW;
use crate::jose::battery::issuer_with;
use crate::jose::battery::verify;
use crate::jose::compact::Compact;
use crate::jose::json::Json;
use crate::jose::json::read_object;
use crate::jose::ring::RingError;
use crate::jose::ring::Rotation;
use crate::model::caller::Caller;
use crate::model::caller::Environment;
use crate::model::caller::Namespace;
use crate::model::caller::SourceName;
use crate::model::caller::Subject;
use crate::model::caller::UserId;
use crate::model::caller::samples;
use crate::model::key::KeyId;
use crate::model::rules::Algorithm;
use crate::model::rules::Assertion;
use crate::model::rules::Issuer;
use crate::model::scope::Scope;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::secrets::Pepper;
use crate::secrets::Peppers;
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

pub const MONTH: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A shelf without a disk.
#[derive(Debug, Default)]
pub struct Memory(pub Mutex<BTreeMap<RecordKey, Stored>>);

impl Records for Memory {
    fn get(&self, key: &RecordKey) -> Answer<'_, Result<Option<Stored>, StoreError>> {
        Answer::ready(Ok(self.0.lock().unwrap().get(key).cloned()))
    }

    fn range(&self, _family: Family, _after: Option<&str>, _limit: usize) -> Answer<'_, Result<Page, StoreError>> {
        Answer::ready(Err(StoreError::Unavailable("not needed here".to_owned())))
    }

    fn commit(&self, preconditions: Vec<Precondition>, writes: Vec<Write>, _now: Timestamp) -> Answer<'_, Result<Committed, StoreError>> {
        let mut records = self.0.lock().unwrap();
        let holds = |condition: &Precondition| match condition {
            Precondition::Absent(key) => !records.contains_key(key),
            Precondition::Present(key) => records.contains_key(key),
            Precondition::AtVersion(key, version) => records.get(key).is_some_and(|stored| stored.version == *version),
        };
        if let Some(broken) = preconditions.iter().position(|condition| !holds(condition)) {
            return Answer::ready(Ok(Committed::Refused(broken)));
        }
        for write in writes {
            match write {
                Write::Put { key, bytes, .. } => {
                    let version = records.get(&key).map_or(1, |stored| stored.version + 1);
                    records.insert(key, Stored { version, bytes, expires: None });
                }
                Write::Remove(key) => drop(records.remove(&key)),
            }
        }
        Answer::ready(Ok(Committed::Done))
    }
}

pub fn pepper(id: &str) -> Pepper {
    Pepper { id: id.into(), secret: Zeroizing::new(id.repeat(32).into_bytes()) }
}

pub fn peppers() -> Peppers {
    Peppers::new(pepper("a"), Vec::new())
}

fn assertion() -> Assertion {
    Assertion {
        header: "authorization".into(),
        prefix: "Bearer ".into(),
        issuer: "https://gate.example.com".into(),
        audience: vec!["internal".into()],
        lifetime: Duration::from_secs(120),
    }
}

pub fn caller() -> Caller {
    Caller {
        client: Some("app".into()),
        scopes: Arc::new(ScopeSet::new(["a:read", "b:write"].map(|scope| Scope::parse(scope).unwrap()))),
        tier: Some("pro".into()),
        environment: Environment::Test,
        ..samples::caller()
    }
}

fn ids(assertions: &Assertions) -> Vec<String> {
    let json = assertions.jwks_json().unwrap();
    let members = read_object(json.as_bytes()).unwrap();
    let keys = members.get("keys").and_then(Json::as_list).unwrap().to_vec();
    keys.iter().map(|key| key.as_object().unwrap().get("kid").and_then(Json::as_text).unwrap().to_owned()).collect()
}

/// Whether a service that trusts what `/jwks` shows accepts the assertion.
fn is_good(text: &str, jwks: &str, now: Timestamp) -> bool {
    let keys = KeySet::from_jwks(jwks.as_bytes(), &[Algorithm::EdDsa]).unwrap();
    let service = Issuer {
        issuer: assertion().issuer,
        audience: assertion().audience,
        token_type: Some(ASSERTION_TYPE.into()),
        max_lifetime: Some(Duration::from_secs(120)),
        ..issuer_with(keys, vec![Algorithm::EdDsa])
    };
    verify(text, &service, now).is_ok()
}

#[tokio::test]
async fn an_assertion_says_who_calls_and_verifies() {
    let assertions = Assertions::load_or_create(&Memory::default(), &peppers(), NOW).await.unwrap();
    let text = assertions.sign_for(&assertion(), &caller(), NOW).unwrap();
    assert!(is_good(&text, &assertions.jwks_json().unwrap(), NOW));

    let compact = Compact::read(&text).unwrap();
    assert_eq!(compact.header.token_type.as_deref(), Some("tollgate+jwt"));
    assert!(!compact.header.is_of_type("JWT") && !compact.header.is_of_type("at+jwt"));
    assert_eq!(
        String::from_utf8(compact.payload).unwrap(),
        r#"{"iss":"https://gate.example.com","aud":"internal","sub":"alice","iat":1800000000,"exp":1800000120,"scope":"a:read b:write","environment":"test","org":"acme","tier":"pro","key_id":"k1","client_id":"app"}"#
    );
    let several = Assertion { audience: vec!["one".into(), "two".into()], ..assertion() };
    let text = assertions.sign_for(&several, &Caller { organization: None, tier: None, key: None, client: None, ..caller() }, NOW).unwrap();
    let payload = String::from_utf8(Compact::read(&text).unwrap().payload).unwrap();
    assert!(payload.contains(r#""aud":["one","two"]"#) && !payload.contains("org") && !payload.contains("null"), "{payload}");
}

#[tokio::test]
async fn an_assertion_is_signed_again_when_half_its_life_is_over_or_anything_differs() {
    let assertions = Assertions::ephemeral(NOW).unwrap();
    let sign = |caller: &Caller, now| assertions.sign_for(&assertion(), caller, now).unwrap();
    let after = |seconds| NOW.plus(Duration::from_secs(seconds));
    let first = sign(&caller(), NOW);
    assert_eq!(sign(&caller(), after(59)), first);
    let second = sign(&caller(), after(60));
    assert_ne!(second, first);
    assert_ne!(sign(&caller(), NOW), second, "the clock was set back: not from the future");

    let base = sign(&caller(), NOW);
    let subject = Subject::parse("bob").unwrap();
    for (shown, other) in [
        ("user", Caller { user: UserId::new(&SourceName::local(), &subject, Namespace::Bare), ..caller() }),
        ("organisation", Caller { organization: Some("evil".into()), ..caller() }),
        ("no organisation", Caller { organization: None, ..caller() }),
        ("an organisation that looks like the tier", Caller { organization: None, tier: Some("acme".into()), ..caller() }),
        ("scopes", Caller { scopes: Arc::new(ScopeSet::default()), ..caller() }),
        ("tier", Caller { tier: Some("free".into()), ..caller() }),
        ("key", Caller { key: Some(KeyId::new("k2")), ..caller() }),
        ("client", Caller { client: None, ..caller() }),
        ("environment", Caller { environment: Environment::Live, ..caller() }),
        ("expiry", Caller { expires: Some(after(30)), ..caller() }),
    ] {
        assert_ne!(sign(&other, NOW), base, "{shown}");
    }
}

#[test]
fn an_assertion_never_outlives_the_credential() {
    let assertions = Assertions::ephemeral(NOW).unwrap();
    let sign = |expires: Timestamp| assertions.sign_for(&assertion(), &Caller { expires: Some(expires), ..caller() }, NOW);
    let short = sign(NOW.plus(Duration::from_secs(30))).unwrap();
    assert!(String::from_utf8(Compact::read(&short).unwrap().payload).unwrap().contains(r#""exp":1800000030"#));
    assert_eq!(sign(NOW), Err(AssertionError::NoLifeLeft));
    assert_eq!(sign(NOW.minus(Duration::from_secs(3))), Err(AssertionError::NoLifeLeft));
}

#[tokio::test]
async fn the_ring_is_made_once_and_found_again() {
    let shelf = Memory::default();
    let first = Assertions::load_or_create(&shelf, &peppers(), NOW).await.unwrap();
    let second = Assertions::load_or_create(&shelf, &peppers(), NOW).await.unwrap();
    assert_eq!(ids(&first), ids(&second));
    assert_eq!(ids(&first).len(), 2, "the next key is announced from the start");
    let rotated_pepper = Peppers::new(pepper("b"), vec![pepper("a")]);
    assert_eq!(ids(&Assertions::load_or_create(&shelf, &rotated_pepper, NOW).await.unwrap()), ids(&first));
    let stranger = Peppers::new(pepper("c"), Vec::new());
    assert!(matches!(Assertions::load_or_create(&shelf, &stranger, NOW).await, Err(RingError::Wrapping(_))));
    let stored = shelf.0.lock().unwrap().values().next().unwrap().bytes.clone();
    let lossy = String::from_utf8_lossy(&stored).into_owned();
    assert!(!lossy.contains("current") && !lossy.contains("Ed25519"), "it lies there wrapped");
}

#[tokio::test]
async fn tokens_from_before_and_after_a_turn_both_verify() {
    let shelf = Memory::default();
    let assertions = Assertions::load_or_create(&shelf, &peppers(), NOW).await.unwrap();
    let before_jwks = assertions.jwks_json().unwrap();
    let [old, next] = <[String; 2]>::try_from(ids(&assertions)).unwrap();
    let early = NOW.plus(MONTH).minus(Duration::from_secs(1));
    assert_eq!(assertions.rotate_if_due(&shelf, &peppers(), MONTH, early).await, Ok(Rotation::NotDue));
    let before = assertions.sign_for(&assertion(), &caller(), early).unwrap();

    let now = NOW.plus(MONTH);
    assert_eq!(assertions.rotate_if_due(&shelf, &peppers(), MONTH, now).await, Ok(Rotation::Rotated));
    assert_eq!(assertions.rotate_if_due(&shelf, &peppers(), MONTH, now).await, Ok(Rotation::NotDue));
    let after = assertions.sign_for(&assertion(), &caller(), now).unwrap();
    assert_eq!(Compact::read(&after).unwrap().header.key_id, Some(next.clone()), "what was announced signs");
    assert!(is_good(&after, &before_jwks, now), "also for whoever cached the set before");
    assert!(is_good(&before, &assertions.jwks_json().unwrap(), now));
    assert!(ids(&assertions).contains(&old));

    let day_later = now.plus(Duration::from_secs(24 * 60 * 60));
    assert_eq!(assertions.rotate_if_due(&shelf, &peppers(), MONTH, day_later).await, Ok(Rotation::NotDue));
    assert!(!ids(&assertions).contains(&old), "then it goes");
    assert!(!assertions.jwks_json().unwrap().contains("\"d\""));
}

#[tokio::test]
async fn two_processes_make_one_turn() {
    let shelf = Arc::new(Memory::default());
    let one = Arc::new(Assertions::load_or_create(&*shelf, &peppers(), NOW).await.unwrap());
    let two = Assertions::load_or_create(&*shelf, &peppers(), NOW).await.unwrap();
    let now = NOW.plus(MONTH);
    assert_eq!(one.rotate_if_due(&*shelf, &peppers(), MONTH, now).await, Ok(Rotation::Rotated));
    assert_eq!(two.rotate_if_due(&*shelf, &peppers(), MONTH, now).await, Ok(Rotation::Adopted));
    assert_eq!(ids(&one), ids(&two));
    assert_eq!(ids(&one).len(), 3);

    // Both read before either writes: the second commit is refused, and its maker takes over the first's ring.
    let version = || shelf.0.lock().unwrap().values().next().unwrap().version;
    let before = version();
    let late = Late { shelf: Arc::clone(&shelf), other: Arc::clone(&one) };
    assert_eq!(two.rotate_if_due(&late, &peppers(), MONTH, now.plus(MONTH)).await, Ok(Rotation::Adopted));
    assert_eq!(ids(&one), ids(&two));
    assert_eq!(version(), before + 1);
}

/// A shelf on which another process turns the ring between this one's reading and writing.
#[derive(Debug)]
struct Late {
    shelf: Arc<Memory>,
    other: Arc<Assertions>,
}

impl Records for Late {
    fn get(&self, key: &RecordKey) -> Answer<'_, Result<Option<Stored>, StoreError>> {
        self.shelf.get(key)
    }

    fn range(&self, family: Family, after: Option<&str>, limit: usize) -> Answer<'_, Result<Page, StoreError>> {
        self.shelf.range(family, after, limit)
    }

    fn commit(&self, preconditions: Vec<Precondition>, writes: Vec<Write>, now: Timestamp) -> Answer<'_, Result<Committed, StoreError>> {
        Answer::Pending(Box::pin(async move {
            assert_eq!(self.other.rotate_if_due(&*self.shelf, &peppers(), MONTH, now).await, Ok(Rotation::Rotated));
            self.shelf.commit(preconditions, writes, now).await
        }))
    }
}

/// A shelf that does not answer, until it does.
#[derive(Debug, Default)]
struct Silent {
    shelf: Memory,
    is_there: AtomicBool,
}

impl Silent {
    fn ask<T>(&self, answer: impl FnOnce(&Memory) -> Answer<'_, Result<T, StoreError>>) -> Answer<'_, Result<T, StoreError>> {
        match self.is_there.load(Ordering::Relaxed) {
            true => answer(&self.shelf),
            false => Answer::ready(Err(StoreError::Unavailable("not yet".to_owned()))),
        }
    }
}

impl Records for Silent {
    fn get(&self, key: &RecordKey) -> Answer<'_, Result<Option<Stored>, StoreError>> {
        self.ask(|shelf| shelf.get(key))
    }

    fn range(&self, family: Family, after: Option<&str>, limit: usize) -> Answer<'_, Result<Page, StoreError>> {
        self.ask(|shelf| shelf.range(family, after, limit))
    }

    fn commit(&self, preconditions: Vec<Precondition>, writes: Vec<Write>, now: Timestamp) -> Answer<'_, Result<Committed, StoreError>> {
        self.ask(|shelf| shelf.commit(preconditions, writes, now))
    }
}

#[tokio::test]
async fn a_ring_that_is_out_of_reach_signs_nothing_and_comes_by_itself() {
    let (silent, peppers) = (Silent::default(), peppers());
    assert!(matches!(Assertions::load_or_create(&silent, &peppers, NOW).await, Err(RingError::Store(_))));
    let assertions = Assertions::load_or_wait(&silent, &peppers, NOW).await.unwrap();
    let sign = || assertions.sign_for(&assertion(), &caller(), NOW);
    assert!(assertions.rotate_if_due(&silent, &peppers, MONTH, NOW).await.is_err());
    assert_eq!((assertions.has_ring(), assertions.jwks_json(), sign()), (false, None, Err(AssertionError::NoRing)));

    silent.is_there.store(true, Ordering::Relaxed);
    assert_eq!(assertions.rotate_if_due(&silent, &peppers, MONTH, NOW).await, Ok(Rotation::Adopted));
    assert!(assertions.has_ring() && is_good(&sign().unwrap(), &assertions.jwks_json().unwrap(), NOW));
    let another = Assertions::load_or_wait(&silent, &peppers, NOW).await.unwrap();
    assert_eq!(another.jwks_json(), assertions.jwks_json(), "made once");
    // A ring that is there and cannot be read is no matter of waiting.
    let stranger = Peppers::new(pepper("z"), Vec::new());
    assert!(matches!(Assertions::load_or_wait(&silent, &stranger, NOW).await, Err(RingError::Wrapping(_))));
}
