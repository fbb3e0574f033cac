//! A shelf, buckets and a ledger in memory, whose failures tests choose, and the people who live there.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use aws_lc_rs::digest;
use zeroize::Zeroizing;

use crate::model::caller::Caller;
use crate::model::caller::Environment;
use crate::model::caller::Subject;
use crate::model::caller::samples;
use crate::model::client::AccessTokenForm;
use crate::model::client::ClientAuth;
use crate::model::client::ClientId;
use crate::model::client::ClientKind;
use crate::model::client::ClientRecord;
use crate::model::client::ClientState;
use crate::model::client::GrantType;
use crate::model::grant::GrantId;
use crate::model::grant::GrantOf;
use crate::model::grant::GrantRecord;
use crate::model::grant::GrantState;
use crate::model::handle::HandleKind;
use crate::model::key::KeyId;
use crate::model::key::KeyNotes;
use crate::model::key::KeyRecord;
use crate::model::key::KeySecret;
use crate::model::key::KeyState;
use crate::model::quota;
use crate::model::quota::Verdict;
use crate::model::scope::Scope;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::model::usage::Line;
use crate::model::usage::NotCounted;
use crate::model::usage::Tally;
use crate::model::user::Rights;
use crate::model::user::UserRecord;
use crate::model::user::UserState;
use crate::secrets::Pepper;
use crate::secrets::Peppers;
use crate::store::Answer;
use crate::store::Facts;
use crate::store::LastKnown;
use crate::store::Limits;
use crate::store::StoreError;
use crate::store::Take;
use crate::store::Taken;

pub(in crate::check) const NOW: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);

pub(in crate::check) fn seconds_from_now(seconds: i64) -> Timestamp {
    Timestamp::from_unix_seconds(NOW.unix_seconds().checked_add_signed(seconds).unwrap())
}

pub(in crate::check) fn down() -> StoreError {
    StoreError::Unavailable("the cable is out".to_owned())
}

pub(in crate::check) fn corrupt() -> StoreError {
    StoreError::Corrupt { key: "key/x".to_owned(), why: "bit rot".to_owned() }
}

pub(in crate::check) fn peppers() -> Peppers {
    let pepper = |id: &str, byte: u8| Pepper { id: id.into(), secret: Zeroizing::new(vec![byte; 32]) };
    Peppers::new(pepper("new", 1), vec![pepper("old", 2)])
}

pub(in crate::check) fn scopes(text: &str) -> Arc<ScopeSet> {
    Arc::new(ScopeSet::new(text.split_whitespace().map(|scope| Scope::parse(scope).unwrap())))
}

/// A key's text as the product writes it: brand `tg`, a secret of one repeated digit, the checksum worked out here.
pub(in crate::check) fn key_text(environment: Environment, id: &str, secret_digit: char) -> String {
    const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    assert_eq!(id.len(), 12);
    let mut text = format!("tg_{}_sk_{id}{}", environment.as_str(), secret_digit.to_string().repeat(43));
    let mut rest = crc32fast::hash(text.as_bytes());
    let mut checksum = [b'0'; 6];
    for digit in checksum.iter_mut().rev() {
        *digit = BASE62[(rest % 62) as usize];
        rest /= 62;
    }
    text.push_str(std::str::from_utf8(&checksum).unwrap());
    text
}

/// An active live key of `alice` that opens with this text.
pub(in crate::check) fn key_record(id: &str, text: &str) -> KeyRecord {
    KeyRecord {
        id: KeyId::new(id),
        name: "a key".into(),
        user: Subject::parse("alice").unwrap(),
        organization: None,
        environment: Environment::Live,
        scopes: scopes("conversations:*"),
        tier: None,
        rate_limit: None,
        pinned_version: None,
        secrets: vec![KeySecret { hash: peppers().hash(text.as_bytes()), retires: None }],
        state: KeyState::Active,
        created: seconds_from_now(-3600),
        not_before: None,
        expires: None,
        display: "tg_live_sk_…".into(),
        notes: KeyNotes::default(),
    }
}

pub(in crate::check) fn sha256(text: &str) -> [u8; 32] {
    digest::digest(&digest::SHA256, text.as_bytes()).as_ref().try_into().unwrap()
}

pub(in crate::check) fn user_record(source: &str, subject: &str) -> UserRecord {
    UserRecord {
        source: source.into(),
        subject: Subject::parse(subject).unwrap(),
        organization: None,
        tier: None,
        rights: Rights::Unlimited,
        state: UserState::Active,
        disabled_by: None,
        valid_from: None,
        created: seconds_from_now(-7200),
    }
}

/// A live grant under the newest pepper, given an hour ago for a day.
pub(in crate::check) fn grant_record(id: &str, of: GrantOf) -> GrantRecord {
    GrantRecord {
        id: GrantId::new(id),
        of,
        organization: None,
        environment: Environment::Live,
        scopes: scopes("conversations:* messages:read"),
        resources: vec!["gate".into()],
        state: GrantState::Live,
        generation: 3,
        advanced: seconds_from_now(-60),
        pepper: "new".into(),
        created: seconds_from_now(-3600),
        idle_until: seconds_from_now(3600),
        ends: seconds_from_now(86_400),
        session: None,
        access: Vec::new(),
    }
}

/// An active client of `acme` that may ask for much.
pub(in crate::check) fn client_record(id: &str) -> ClientRecord {
    ClientRecord {
        id: ClientId::new(id),
        name: "an app".into(),
        owner: None,
        organization: Some("acme".into()),
        kind: ClientKind::Confidential,
        auth: ClientAuth::Basic,
        redirect_uris: Vec::new(),
        grant_types: vec![GrantType::AuthorizationCode, GrantType::ClientCredentials],
        scopes: scopes("conversations:* messages:* billing:read"),
        resources: Vec::new(),
        token_form: AccessTokenForm::Opaque,
        environment: Environment::Live,
        tier: None,
        secrets: Vec::new(),
        state: ClientState::Active,
        disabled_by: None,
        created: seconds_from_now(-7200),
        website: None,
    }
}

/// The text of an opaque token of ours, as the issuer makes it under the newest pepper.
pub(in crate::check) fn handle_text(kind: HandleKind, id: &str, generation: u32) -> String {
    peppers().handle("tg", kind, id, generation, "new").unwrap().to_string()
}

/// [`samples::caller`], who may do everything.
pub(in crate::check) fn caller() -> Caller {
    Caller { scopes: scopes("*"), ..samples::caller() }
}

type Found<T> = Result<Option<T>, StoreError>;

/// Records in memory, and what was asked of them.
#[derive(Debug, Default)]
pub(in crate::check) struct Shelf {
    pub(in crate::check) keys: HashMap<String, Arc<KeyRecord>>,
    pub(in crate::check) imported: HashMap<[u8; 32], Arc<KeyRecord>>,
    pub(in crate::check) users: HashMap<(String, String), Arc<UserRecord>>,
    pub(in crate::check) grants: HashMap<String, Arc<GrantRecord>>,
    pub(in crate::check) clients: HashMap<String, Arc<ClientRecord>>,
    /// What every question is answered with instead.
    pub(in crate::check) failure: Option<StoreError>,
    /// What only questions about users are answered with instead.
    pub(in crate::check) user_failure: Option<StoreError>,
    pub(in crate::check) asked: Mutex<Vec<String>>,
}

impl Shelf {
    pub(in crate::check) fn hold_key(&mut self, record: KeyRecord) {
        self.keys.insert(record.id.to_string(), Arc::new(record));
    }

    pub(in crate::check) fn hold_imported(&mut self, text: &str, mut record: KeyRecord) {
        let hash = peppers().hash_imported(&sha256(text));
        record.secrets = vec![KeySecret { hash: hash.clone(), retires: None }];
        self.imported.insert(hash.digest, Arc::new(record));
    }

    pub(in crate::check) fn hold_user(&mut self, record: UserRecord) {
        self.users.insert((record.source.to_string(), record.subject.as_str().to_owned()), Arc::new(record));
    }

    pub(in crate::check) fn hold_grant(&mut self, record: GrantRecord) {
        self.grants.insert(record.id.to_string(), Arc::new(record));
    }

    pub(in crate::check) fn hold_client(&mut self, record: ClientRecord) {
        self.clients.insert(record.id.to_string(), Arc::new(record));
    }

    pub(in crate::check) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// Every other answer has to be waited for.
    fn answer<T: Send + 'static>(&self, question: String, found: Option<T>, failure: Option<&StoreError>) -> Answer<'_, Found<T>> {
        let mut asked = self.asked.lock().unwrap();
        asked.push(question);
        let answer = match failure.or(self.failure.as_ref()) {
            Some(failure) => Err(failure.clone()),
            None => Ok(found),
        };
        if asked.len().is_multiple_of(2) { Answer::ready(answer) } else { Answer::Pending(Box::pin(async { answer })) }
    }
}

impl Facts for Shelf {
    fn key(&self, id: &str) -> Answer<'_, Result<Option<Arc<KeyRecord>>, StoreError>> {
        self.answer(format!("key {id}"), self.keys.get(id).cloned(), None)
    }

    fn key_by_digest(&self, digest: &[u8; 32]) -> Answer<'_, Result<Option<Arc<KeyRecord>>, StoreError>> {
        self.answer("digest".to_owned(), self.imported.get(digest).cloned(), None)
    }

    fn user(&self, source: &str, subject: &str) -> Answer<'_, Result<Option<Arc<UserRecord>>, StoreError>> {
        let found = self.users.get(&(source.to_owned(), subject.to_owned())).cloned();
        self.answer(format!("user {source} {subject}"), found, self.user_failure.as_ref())
    }

    fn grant(&self, id: &str) -> Answer<'_, Result<Option<Arc<GrantRecord>>, StoreError>> {
        self.answer(format!("grant {id}"), self.grants.get(id).cloned(), None)
    }

    fn client(&self, id: &str) -> Answer<'_, Result<Option<Arc<ClientRecord>>, StoreError>> {
        self.answer(format!("client {id}"), self.clients.get(id).cloned(), None)
    }
}

/// What is remembered of a shelf. Whoever is not remembered is not known to be absent.
#[derive(Debug)]
pub(in crate::check) struct Memory {
    pub(in crate::check) of: Shelf,
    pub(in crate::check) lapsed_for: Option<Duration>,
}

impl LastKnown for Memory {
    fn lapsed_for(&self) -> Option<Duration> {
        self.lapsed_for
    }

    fn grant(&self, id: &str) -> Option<Arc<GrantRecord>> {
        self.of.grants.get(id).cloned()
    }

    fn client(&self, id: &str) -> Option<Arc<ClientRecord>> {
        self.of.clients.get(id).cloned()
    }

    fn key(&self, id: &str) -> Option<Arc<KeyRecord>> {
        self.of.keys.get(id).cloned()
    }

    fn key_by_digest(&self, digest: &[u8; 32]) -> Option<Arc<KeyRecord>> {
        self.of.imported.get(digest).cloned()
    }

    fn user(&self, source: &str, subject: &str) -> Option<Arc<UserRecord>> {
        self.of.users.get(&(source.to_owned(), subject.to_owned())).cloned()
    }
}

/// Token buckets in memory, and what was asked of them.
#[derive(Debug, Default)]
pub(in crate::check) struct Buckets {
    states: Mutex<HashMap<(String, String), u64>>,
    pub(in crate::check) failure: Option<StoreError>,
    pub(in crate::check) asked: Mutex<Vec<Vec<String>>>,
}

impl Buckets {
    pub(in crate::check) fn asked(&self) -> Vec<Vec<String>> {
        self.asked.lock().unwrap().clone()
    }
}

impl Limits for Buckets {
    fn take<'a>(&'a self, takes: &'a [Take<'a>], now: Timestamp) -> Answer<'a, Result<Taken, StoreError>> {
        self.asked.lock().unwrap().push(takes.iter().map(|take| format!("{} {} {}", take.policy.name, take.owner, take.cost)).collect());
        if let Some(failure) = &self.failure {
            return Answer::ready(Err(failure.clone()));
        }
        let mut states = self.states.lock().unwrap();
        let place = |take: &Take<'_>| (take.policy.name.to_string(), take.owner.to_owned());
        let state_of = |states: &HashMap<_, u64>, take: &Take<'_>| states.get(&place(take)).copied().unwrap_or_default();
        let verdicts: Vec<Verdict> =
            takes.iter().map(|take| quota::take(state_of(&states, take), take.policy.limit, take.cost, now)).collect();
        let admitted = verdicts.iter().all(|verdict| matches!(verdict, Verdict::Admitted { .. }));
        let mut retry_after = None;
        let mut never = false;
        let levels = takes
            .iter()
            .zip(&verdicts)
            .map(|(take, verdict)| {
                match verdict {
                    Verdict::Admitted { state, .. } if admitted => {
                        states.insert(place(take), *state);
                        return verdict.level();
                    }
                    Verdict::Admitted { .. } => {}
                    Verdict::Refused { retry_after: wait, .. } => retry_after = retry_after.max(Some(*wait)),
                    Verdict::Never { .. } => never = true,
                }
                quota::level(state_of(&states, take), take.policy.limit, now)
            })
            .collect();
        let taken = Taken { admitted, levels, retry_after: if never { None } else { retry_after } };
        Answer::Pending(Box::pin(async { Ok(taken) }))
    }
}

/// A ledger that is a list.
#[derive(Debug, Default)]
pub(in crate::check) struct Book {
    pub(in crate::check) full: bool,
    pub(in crate::check) lines: Mutex<Vec<String>>,
}

impl Book {
    /// `user key route outcome cost`, in order.
    pub(in crate::check) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

impl Tally for Book {
    fn add(&self, line: &Line<'_>, cost: u32) -> Result<(), NotCounted> {
        if self.full {
            return Err(NotCounted("the disk is full".to_owned()));
        }
        assert_eq!(line.hour, NOW.hour());
        let key = line.key.map_or("-", |key| key.as_str());
        self.lines.lock().unwrap().push(format!("{} {key} {} {} {cost}", line.user, line.route, line.outcome.as_str()));
        Ok(())
    }

    fn note_use(&self, name: &KeyId, route: &str, _at: Timestamp) {
        self.lines.lock().unwrap().push(format!("used {name} {route}"));
    }
}
