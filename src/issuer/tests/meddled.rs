//! A store in which something happens between a reading and the commit that rests on it.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use tokio::sync::Semaphore;

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

#[derive(Debug)]
pub(in crate::issuer) struct Meddled {
    records: Arc<dyn Records>,
    /// What somebody else writes just before the next commit.
    pub(in crate::issuer) first: Mutex<Vec<Write>>,
    /// Without a permit a commit waits.
    pub(in crate::issuer) permits: Semaphore,
    /// Whether a commit was begun.
    pub(in crate::issuer) is_begun: AtomicBool,
    /// Whether commits rest on nothing: then what happened in between is overwritten.
    pub(in crate::issuer) is_careless: AtomicBool,
    /// What was looked for, in turn.
    pub(in crate::issuer) looks: Mutex<Vec<RecordKey>>,
    /// A family of which nothing is written.
    pub(in crate::issuer) neglected: Mutex<Option<Family>>,
}

impl Meddled {
    pub(in crate::issuer) fn over(records: &Arc<dyn Records>, permits: usize) -> Arc<Self> {
        Arc::new(Self {
            records: Arc::clone(records),
            first: Mutex::default(),
            permits: Semaphore::new(permits),
            is_begun: AtomicBool::new(false),
            is_careless: AtomicBool::new(false),
            looks: Mutex::default(),
            neglected: Mutex::default(),
        })
    }
}

impl Records for Meddled {
    fn get(&self, key: &RecordKey) -> Answer<'_, Result<Option<Stored>, StoreError>> {
        self.looks.lock().unwrap().push(key.clone());
        self.records.get(key)
    }

    fn range(&self, family: Family, after: Option<&str>, limit: usize) -> Answer<'_, Result<Page, StoreError>> {
        self.records.range(family, after, limit)
    }

    fn commit(&self, preconditions: Vec<Precondition>, writes: Vec<Write>, now: Timestamp) -> Answer<'_, Result<Committed, StoreError>> {
        self.is_begun.store(true, Ordering::SeqCst);
        Answer::Pending(Box::pin(async move {
            let _permit = self.permits.acquire().await.unwrap();
            let first = std::mem::take(&mut *self.first.lock().unwrap());
            if !first.is_empty() {
                assert!(self.records.commit(Vec::new(), first, now).await?.is_done());
            }
            let preconditions = if self.is_careless.load(Ordering::SeqCst) { Vec::new() } else { preconditions };
            let neglected = *self.neglected.lock().unwrap();
            let is_done = |write: &Write| match write {
                Write::Put { key, .. } | Write::Remove(key) => Some(key.family) != neglected,
            };
            self.records.commit(preconditions, writes.into_iter().filter(is_done).collect(), now).await
        }))
    }
}
