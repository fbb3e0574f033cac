//! A ring's place on the shelf: found, made, turned and replaced there, by one conditional write each.

use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::jose::ring::Fresh;
use crate::jose::ring::Lines;
use crate::jose::ring::Ring;
use crate::jose::ring::RingError;
use crate::jose::ring::Rotation;
use crate::model::time::Timestamp;
use crate::secrets::Peppers;
use crate::secrets::sha256;
use crate::secrets::wrapped_by;
use crate::store::Committed;
use crate::store::Family;
use crate::store::Precondition;
use crate::store::RecordKey;
use crate::store::Records;
use crate::store::Write;

/// How often a replacement is tried while others write.
const ATTEMPTS: usize = 4;

/// Where a ring lies, and what it is made of.
#[derive(Clone, Copy, Debug)]
pub(in crate::jose) struct Shelf {
    /// The record's id.
    pub id: &'static str,
    /// What it is wrapped for.
    pub context: &'static [u8],
    pub lines: Lines,
    /// How long the public half of a key that signed is shown.
    pub shown_after: Duration,
}

/// A ring that lay there.
#[derive(Clone)]
pub(in crate::jose) struct Found {
    pub ring: Arc<Ring>,
    /// SHA-256 of the record: versions start anew where a store is emptied.
    pub mark: [u8; 32],
}

/// What a look at the shelf came to.
pub(in crate::jose) enum Looked {
    /// It is the ring that is known.
    Unchanged,
    Found(Found, Rotation),
}

impl Shelf {
    /// The ring that lies there; none where there is none.
    pub(in crate::jose) async fn read(&self, records: &dyn Records, peppers: &Peppers) -> Result<Option<Found>, RingError> {
        let Some(stored) = records.get(&self.key()).await? else { return Ok(None) };
        let ring = Arc::new(self.open(&stored.bytes, peppers)?);
        Ok(Some(Found { ring, mark: sha256(&stored.bytes) }))
    }

    /// The ring that lies there; where there is none, one is made.
    pub(in crate::jose) async fn find_or_create(
        &self,
        records: &dyn Records,
        peppers: &Peppers,
        now: Timestamp,
    ) -> Result<Found, RingError> {
        if let Some(found) = self.read(records, peppers).await? {
            return Ok(found);
        }
        let put = self.put(&self.create(now).await?, peppers)?;
        // Refused: another process was first, and its ring is as good.
        records.commit(vec![Precondition::Absent(self.key())], vec![put], now).await?;
        self.read(records, peppers).await?.ok_or(RingError::Contended)
    }

    /// Looks whether the ring that lies there is another one than is known, and turns it where it is due. Of several processes
    /// that try at once, one turns it.
    pub(in crate::jose) async fn look(
        &self,
        known: Option<&Found>,
        is_due: impl Fn(&Ring) -> bool + Send + Sync,
        (records, peppers): (&dyn Records, &Peppers),
        now: Timestamp,
    ) -> Result<Looked, RingError> {
        let Some(known) = known else {
            return Ok(Looked::Found(self.find_or_create(records, peppers, now).await?, Rotation::Adopted));
        };
        let stored = records.get(&self.key()).await?.ok_or_else(|| RingError::Unreadable("it is gone from the store".to_owned()))?;
        let is_known = sha256(&stored.bytes) == known.mark;
        if is_known && !is_due(&known.ring) {
            return Ok(Looked::Unchanged);
        }
        let ring = self.open(&stored.bytes, peppers)?;
        if !is_due(&ring) {
            let rotation = if is_known { Rotation::NotDue } else { Rotation::Adopted };
            return Ok(Looked::Found(Found { ring: Arc::new(ring), mark: sha256(&stored.bytes) }, rotation));
        }
        let turned = ring.turn(self.fresh().await?, self.shown_after, now);
        let put = self.put(&turned, peppers)?;
        let committed = records.commit(vec![Precondition::AtVersion(self.key(), stored.version)], vec![put], now).await?;
        let found = self.read(records, peppers).await?.ok_or(RingError::Contended)?;
        let rotation = match committed {
            Committed::Done | Committed::Unconfirmed => Rotation::Rotated,
            Committed::Refused(_) => Rotation::Adopted,
        };
        Ok(Looked::Found(found, rotation))
    }

    /// Throws away whatever lies there, readable or not, and puts a new ring in its place.
    pub(in crate::jose) async fn replace(&self, records: &dyn Records, peppers: &Peppers, now: Timestamp) -> Result<Found, RingError> {
        let put = self.put(&self.create(now).await?, peppers)?;
        for _ in 0..ATTEMPTS {
            let condition = match records.get(&self.key()).await? {
                Some(stored) => Precondition::AtVersion(self.key(), stored.version),
                None => Precondition::Absent(self.key()),
            };
            if records.commit(vec![condition], vec![put.clone()], now).await?.is_done() {
                return self.read(records, peppers).await?.ok_or(RingError::Contended);
            }
        }
        Err(RingError::Contended)
    }

    async fn create(&self, now: Timestamp) -> Result<Ring, RingError> {
        let lines = self.lines;
        self.apart(move || Ring::create(lines, now)).await
    }

    async fn fresh(&self) -> Result<Fresh, RingError> {
        let lines = self.lines;
        self.apart(move || Fresh::create(lines)).await
    }

    /// RSA keys are made on a thread of their own: checks must not wait for one.
    async fn apart<T: Send + 'static>(&self, make: impl FnOnce() -> Result<T, RingError> + Send + 'static) -> Result<T, RingError> {
        match self.lines {
            Lines::EdDsa => make(),
            Lines::EdDsaAndRs256 => tokio::task::spawn_blocking(make).await.map_err(|_ended| RingError::NoRandomness)?,
        }
    }

    fn key(&self) -> RecordKey {
        RecordKey { family: Family::Ring, id: self.id.to_owned() }
    }

    pub(in crate::jose) fn open(&self, wrapped: &[u8], peppers: &Peppers) -> Result<Ring, RingError> {
        let plain = peppers.unwrap(wrapped, self.context).map_err(|error| {
            let pepper = wrapped_by(wrapped).unwrap_or("none that could be read");
            RingError::Wrapping(format!("{error} (it names the pepper {pepper})"))
        })?;
        let plain = Zeroizing::new(plain);
        Ring::decode(&plain)
    }

    fn put(&self, ring: &Ring, peppers: &Peppers) -> Result<Write, RingError> {
        let bytes = peppers.wrap(&ring.encode()?, self.context).map_err(|error| RingError::Wrapping(error.to_string()))?;
        Ok(Write::Put { key: self.key(), bytes, expires: None })
    }
}
