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
}

impl Meddled {
    pub(in crate::issuer) fn over(records: &Arc<dyn Records>, permits: usize) -> Arc<Self> {
        let (first, is_begun) = (Mutex::default(), AtomicBool::new(false));
        Arc::new(Self { records: Arc::clone(records), first, permits: Semaphore::new(permits), is_begun })
    }
}

impl Records for Meddled {
    fn get(&self, key: &RecordKey) -> Answer<'_, Result<Option<Stored>, StoreError>> {
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
            self.records.commit(preconditions, writes, now).await
        }))
    }
}
