//! What a check may ask for, decoded in memory. Readers take no lock; the writer replaces one entry at a time.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use papaya::HashMap;

use crate::clock::Clock;
use crate::model::client::ClientRecord;
use crate::model::grant::GrantRecord;
use crate::model::hex::read_hex;
use crate::model::key::KeyRecord;
use crate::model::time::Timestamp;
use crate::model::user::UserRecord;
use crate::store::Fact;
use crate::store::RecordKey;
use crate::store::StoreError;
use crate::store::codec::Shelved;
use crate::store::codec::decode_digest_owner;
use crate::store::codec::decode_key;
use crate::store::codec::decode_user;
use crate::store::embedded::Counts;
use crate::store::user_place::AskedPlace;
use crate::store::user_place::UserPlace;

/// The decoded records. The maps' hashing is keyed at random, so nobody can choose ids that collide.
#[derive(Debug, Default)]
pub(super) struct Image {
    keys: HashMap<Arc<str>, Entry<KeyRecord>>,
    users: HashMap<UserPlace, Entry<UserRecord>>,
    digests: HashMap<[u8; 32], Entry<str>>,
    grants: HashMap<Arc<str>, Entry<GrantRecord>>,
    clients: HashMap<Arc<str>, Entry<ClientRecord>>,
    /// The places of the records that cannot be read. The writer alone changes it, and no check looks at it.
    corrupt: Mutex<BTreeSet<RecordKey>>,
}

/// A record, or why it cannot be read: the damage stays with this one record.
#[derive(Debug)]
struct Entry<T: ?Sized> {
    record: Result<Arc<T>, StoreError>,
    expires: Option<Timestamp>,
}

impl<T: ?Sized> Entry<T> {
    fn read(&self, clock: &dyn Clock) -> Result<Option<Arc<T>>, StoreError> {
        // Few records expire by themselves, so the clock is seldom asked.
        match self.expires {
            Some(expires) if clock.now() >= expires => Ok(None),
            Some(_) | None => self.record.clone().map(Some),
        }
    }
}

impl Image {
    pub(super) fn key(&self, id: &str, clock: &dyn Clock) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.keys.pin().get(id).map_or(Ok(None), |entry| entry.read(clock))
    }

    pub(super) fn key_by_digest(&self, digest: &[u8; 32], clock: &dyn Clock) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        let owner = self.digests.pin().get(digest).map_or(Ok(None), |entry| entry.read(clock))?;
        owner.map_or(Ok(None), |id| self.key(&id, clock))
    }

    pub(super) fn user(&self, source: &str, subject: &str, clock: &dyn Clock) -> Result<Option<Arc<UserRecord>>, StoreError> {
        self.users.pin().get(&AskedPlace { source, subject }).map_or(Ok(None), |entry| entry.read(clock))
    }

    pub(super) fn grant(&self, id: &str, clock: &dyn Clock) -> Result<Option<Arc<GrantRecord>>, StoreError> {
        self.grants.pin().get(id).map_or(Ok(None), |entry| entry.read(clock))
    }

    pub(super) fn client(&self, id: &str, clock: &dyn Clock) -> Result<Option<Arc<ClientRecord>>, StoreError> {
        self.clients.pin().get(id).map_or(Ok(None), |entry| entry.read(clock))
    }

    pub(super) fn counts(&self) -> Counts {
        Counts { keys: self.keys.len(), users: self.users.len(), corrupt: self.corrupt().len() }
    }

    /// The first of the records that cannot be read, by their places.
    pub(super) fn corrupt_places(&self, most: usize) -> Vec<String> {
        self.corrupt().iter().take(most).map(|key| format!("{}/{}", key.family.as_str(), key.id)).collect()
    }

    /// How many keys are in which state. Looks at every key: not for the request path.
    pub(super) fn key_states(&self, now: Timestamp) -> BTreeMap<&'static str, u64> {
        let mut states = BTreeMap::new();
        for record in self.keys.pin().values().filter_map(|entry| entry.record.as_ref().ok()) {
            *states.entry(record.state_at(now)).or_default() += 1;
        }
        states
    }

    fn corrupt(&self) -> MutexGuard<'_, BTreeSet<RecordKey>> {
        self.corrupt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes whether the record at this place can be read; says once, when it is loaded or written, that it cannot.
    fn told<T>(&self, key: &RecordKey, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        match &outcome {
            Ok(_) => {
                self.corrupt().remove(key);
            }
            Err(error) => {
                tracing::error!(%error, "a stored record cannot be read; requests that need it are answered with 503");
                self.corrupt().insert(key.clone());
            }
        }
        outcome
    }

    /// Shows a record as it now lies in the file; `bytes` are empty where its checksum does not hold.
    pub(super) fn put(&self, key: &RecordKey, bytes: &[u8], expires: Option<Timestamp>) {
        match key.family.fact() {
            Some(Fact::Key) => {
                let record = self.told(key, decode_key(&key.id, bytes).map(Arc::new));
                self.keys.pin().insert(Arc::from(key.id.as_str()), Entry { record, expires });
            }
            Some(Fact::User) => {
                if let Some(place) = UserPlace::of(&key.id) {
                    let record = self.told(key, decode_user(&key.id, bytes).map(Arc::new));
                    self.users.pin().insert(place, Entry { record, expires });
                }
            }
            Some(Fact::Digest) => {
                if let Some(digest) = read_hex(&key.id) {
                    let record = self.told(key, decode_digest_owner(&key.id, bytes).map(|owner| Arc::from(owner.as_str())));
                    self.digests.pin().insert(digest, Entry { record, expires });
                }
            }
            Some(Fact::Grant) => {
                let record = self.told(key, GrantRecord::decode(&key.id, bytes).map(Arc::new));
                self.grants.pin().insert(Arc::from(key.id.as_str()), Entry { record, expires });
            }
            Some(Fact::Client) => {
                let record = self.told(key, ClientRecord::decode(&key.id, bytes).map(Arc::new));
                self.clients.pin().insert(Arc::from(key.id.as_str()), Entry { record, expires });
            }
            None => {}
        }
    }

    pub(super) fn remove(&self, key: &RecordKey) {
        self.corrupt().remove(key);
        match key.family.fact() {
            Some(Fact::Key) => {
                self.keys.pin().remove(key.id.as_str());
            }
            Some(Fact::User) => {
                if let Some(place) = UserPlace::of(&key.id) {
                    self.users.pin().remove(&place);
                }
            }
            Some(Fact::Digest) => {
                if let Some(digest) = read_hex(&key.id) {
                    self.digests.pin().remove(&digest);
                }
            }
            Some(Fact::Grant) => {
                self.grants.pin().remove(key.id.as_str());
            }
            Some(Fact::Client) => {
                self.clients.pin().remove(key.id.as_str());
            }
            None => {}
        }
    }

    /// Forgets whatever is not among `present`. Never empties the image first: a check in between would miss a good key.
    pub(super) fn keep_only(&self, present: &HashSet<RecordKey>) {
        self.corrupt().retain(|key| present.contains(key));
        self.keys.pin().retain(|id, _entry| present.contains(&RecordKey::key(id)));
        self.users.pin().retain(|place, _entry| present.contains(&RecordKey::user(&place.source, &place.subject)));
        self.digests.pin().retain(|digest, _entry| present.contains(&RecordKey::digest(digest)));
        self.grants.pin().retain(|id, _entry| present.contains(&GrantRecord::place(id)));
        self.clients.pin().retain(|id, _entry| present.contains(&ClientRecord::place(id)));
    }
}
