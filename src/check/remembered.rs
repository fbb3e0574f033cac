//! What was known last, asked as if it were the shelf: what is not remembered is not absent, it is unanswered.

use std::sync::Arc;

use crate::model::client::ClientRecord;
use crate::model::grant::GrantRecord;
use crate::model::key::KeyRecord;
use crate::model::user::UserRecord;
use crate::store::Answer;
use crate::store::Facts;
use crate::store::LastKnown;
use crate::store::StoreError;

/// Facts from memory.
#[derive(Debug)]
pub(in crate::check) struct Remembered(pub(in crate::check) Arc<dyn LastKnown>);

impl Facts for Remembered {
    fn key(&self, id: &str) -> Answer<'_, Result<Option<Arc<KeyRecord>>, StoreError>> {
        answer(self.0.key(id))
    }

    fn key_by_digest(&self, digest: &[u8; 32]) -> Answer<'_, Result<Option<Arc<KeyRecord>>, StoreError>> {
        answer(self.0.key_by_digest(digest))
    }

    fn user(&self, source: &str, subject: &str) -> Answer<'_, Result<Option<Arc<UserRecord>>, StoreError>> {
        answer(self.0.user(source, subject))
    }

    fn grant(&self, id: &str) -> Answer<'_, Result<Option<Arc<GrantRecord>>, StoreError>> {
        answer(self.0.grant(id))
    }

    fn client(&self, id: &str) -> Answer<'_, Result<Option<Arc<ClientRecord>>, StoreError>> {
        answer(self.0.client(id))
    }
}

fn answer<T>(known: Option<Arc<T>>) -> Answer<'static, Result<Option<Arc<T>>, StoreError>> {
    Answer::ready(match known {
        Some(record) => Ok(Some(record)),
        None => Err(StoreError::Unavailable("it does not answer, and nothing is remembered of this".to_owned())),
    })
}
