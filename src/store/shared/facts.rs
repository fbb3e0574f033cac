//! The facts that checks ask for: from memory while the lease holds, from Redis otherwise, and an error when neither can be had.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::monotonic;
use crate::model::client::ClientRecord;
use crate::model::client::is_client_id;
use crate::model::grant::GrantRecord;
use crate::model::handle::is_handle_id;
use crate::model::key::KeyRecord;
use crate::model::key::is_key_id;
use crate::model::user::UserRecord;
use crate::store::Answer;
use crate::store::Facts;
use crate::store::LastKnown;
use crate::store::RecordKey;
use crate::store::StoreError;
use crate::store::codec::Shelved;
use crate::store::codec::decode_digest_owner;
use crate::store::codec::decode_key;
use crate::store::codec::decode_user;
use crate::store::shared::cache::Known;
use crate::store::shared::cache::Moment;
use crate::store::shared::cache::Taken;
use crate::store::shared::link::Lane;
use crate::store::shared::records::ID_BYTES_MAX;
use crate::store::shared::records::Laid;
use crate::store::shared::records::SharedRecords;
use crate::store::shared::records::alive;
use crate::store::shared::records::corrupt;

impl Facts for SharedRecords {
    fn key(&self, id: &str) -> Answer<'_, Result<Option<Arc<KeyRecord>>, StoreError>> {
        let known = self.cache().key(id, self.clock());
        if let Some(answer) = self.confirmed(known) {
            return Answer::ready(Ok(answer));
        }
        if !is_key_id(id) {
            return Answer::ready(Ok(None));
        }
        let id = id.to_owned();
        Answer::Pending(Box::pin(async move { self.read_key(&id).await }))
    }

    fn key_by_digest(&self, digest: &[u8; 32]) -> Answer<'_, Result<Option<Arc<KeyRecord>>, StoreError>> {
        let owner = match self.cache().digest(digest, self.clock()) {
            Known::Here(id) => match self.cache().key(&id, self.clock()) {
                Known::Here(record) => Known::Here(record),
                Known::Absent => Known::Absent,
                Known::Unknown => Known::Unknown,
            },
            Known::Absent => Known::Absent,
            Known::Unknown => Known::Unknown,
        };
        if let Some(answer) = self.confirmed(owner) {
            return Answer::ready(Ok(answer));
        }
        let digest = *digest;
        Answer::Pending(Box::pin(async move {
            let known = self.cache().digest(&digest, self.clock());
            let owner = match self.confirmed(known) {
                Some(owner) => owner,
                None => self.read_digest(&digest).await?,
            };
            match owner {
                Some(id) => Facts::key(self, &id).await,
                None => Ok(None),
            }
        }))
    }

    fn user(&self, source: &str, subject: &str) -> Answer<'_, Result<Option<Arc<UserRecord>>, StoreError>> {
        let known = self.cache().user(source, subject, self.clock());
        if let Some(answer) = self.confirmed(known) {
            return Answer::ready(Ok(answer));
        }
        // No source has a colon in its name, and no such user has a place.
        if source.contains(':') || source.len() + subject.len() + 1 > ID_BYTES_MAX {
            return Answer::ready(Ok(None));
        }
        let (source, subject) = (source.to_owned(), subject.to_owned());
        Answer::Pending(Box::pin(async move { self.read_user(&source, &subject).await }))
    }

    fn grant(&self, id: &str) -> Answer<'_, Result<Option<Arc<GrantRecord>>, StoreError>> {
        let known = self.cache().grant(id, self.clock());
        if let Some(answer) = self.confirmed(known) {
            return Answer::ready(Ok(answer));
        }
        if !is_handle_id(id) {
            return Answer::ready(Ok(None));
        }
        let id = id.to_owned();
        Answer::Pending(Box::pin(async move { self.read_grant(&id).await }))
    }

    fn client(&self, id: &str) -> Answer<'_, Result<Option<Arc<ClientRecord>>, StoreError>> {
        let known = self.cache().client(id, self.clock());
        if let Some(answer) = self.confirmed(known) {
            return Answer::ready(Ok(answer));
        }
        if !is_client_id(id) {
            return Answer::ready(Ok(None));
        }
        let id = id.to_owned();
        Answer::Pending(Box::pin(async move { self.read_client(&id).await }))
    }

    fn patience(&self) -> Option<Duration> {
        Some(self.link().settings().timeouts.check)
    }
}

impl SharedRecords {
    /// What is known, if it may be used without asking.
    fn confirmed<T: ?Sized>(&self, known: Known<T>) -> Option<Option<Arc<T>>> {
        let answer = match known {
            Known::Here(record) => Some(record),
            Known::Absent => None,
            Known::Unknown => return None,
        };
        // Looked at after the look-up: whoever was stopped in between comes back to a lapsed lease.
        self.follower().holds(monotonic()).then_some(answer)
    }

    async fn read_key(&self, id: &str) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        let key = RecordKey::key(id);
        let (moment, read) = self.fetch(&key, |bytes| decode_key(id, bytes)).await?;
        Ok(self.cache().take_in_key(id, read, moment))
    }

    async fn read_user(&self, source: &str, subject: &str) -> Result<Option<Arc<UserRecord>>, StoreError> {
        let key = RecordKey::user(source, subject);
        let (moment, read) = self.fetch(&key, |bytes| decode_user(&key.id, bytes)).await?;
        Ok(self.cache().take_in_user(source, subject, read, moment))
    }

    async fn read_grant(&self, id: &str) -> Result<Option<Arc<GrantRecord>>, StoreError> {
        let (moment, read) = self.fetch(&GrantRecord::place(id), |bytes| GrantRecord::decode(id, bytes)).await?;
        Ok(self.cache().take_in_grant(id, read, moment))
    }

    async fn read_client(&self, id: &str) -> Result<Option<Arc<ClientRecord>>, StoreError> {
        let (moment, read) = self.fetch(&ClientRecord::place(id), |bytes| ClientRecord::decode(id, bytes)).await?;
        Ok(self.cache().take_in_client(id, read, moment))
    }

    async fn read_digest(&self, digest: &[u8; 32]) -> Result<Option<Arc<str>>, StoreError> {
        let key = RecordKey::digest(digest);
        let decode = |bytes: &[u8]| decode_digest_owner(&key.id, bytes).map(|owner| Arc::from(owner.as_str()));
        let (moment, read) = self.fetch(&key, decode).await?;
        Ok(self.cache().take_in_digest(digest, read, moment))
    }

    /// Reads one record for a check.
    async fn fetch<T>(
        &self,
        key: &RecordKey,
        decode: impl FnOnce(&[u8]) -> Result<T, StoreError>,
    ) -> Result<(Moment, Option<Taken<T>>), StoreError> {
        let era = self.cache().era();
        let (head, laid) = self.find(key, Lane::Checks, self.link().settings().timeouts.check).await?;
        let read = match alive(laid, self.clock().now()) {
            Laid::Nothing => Ok(None),
            Laid::There { stored, expires } => {
                decode(&stored.bytes).map(|record| Some(Taken { record, expires, size: stored.bytes.len(), version: stored.version }))
            }
            Laid::Broken(why) => Err(corrupt(key, why)),
        };
        Ok((Moment { era, head }, self.told(key, read)?))
    }
}

impl LastKnown for SharedRecords {
    fn lapsed_for(&self) -> Option<Duration> {
        self.follower().lapsed_for(monotonic())
    }

    fn key(&self, id: &str) -> Option<Arc<KeyRecord>> {
        here(self.cache().last_key(id, self.clock()))
    }

    fn key_by_digest(&self, digest: &[u8; 32]) -> Option<Arc<KeyRecord>> {
        let id = here(self.cache().last_digest(digest, self.clock()))?;
        here(self.cache().last_key(&id, self.clock()))
    }

    fn user(&self, source: &str, subject: &str) -> Option<Arc<UserRecord>> {
        here(self.cache().last_user(source, subject, self.clock()))
    }

    fn grant(&self, id: &str) -> Option<Arc<GrantRecord>> {
        here(self.cache().last_grant(id, self.clock()))
    }

    fn client(&self, id: &str) -> Option<Arc<ClientRecord>> {
        here(self.cache().last_client(id, self.clock()))
    }
}

fn here<T: ?Sized>(known: Known<T>) -> Option<Arc<T>> {
    match known {
        Known::Here(record) => Some(record),
        Known::Absent | Known::Unknown => None,
    }
}
