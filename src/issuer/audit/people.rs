//! Who is meant by a pseudonym. The log itself names no person: each has a pseudonym, drawn at random, and two small records that lead
//! from the person to it and back. When the person is erased these go, and with them the seal under which its addresses can be read;
//! what the chain holds stays as it was, and says nothing of anybody any more.

use std::sync::Arc;

use serde::Deserialize;
use serde::Serialize;

use crate::model::hex::read_hex;
use crate::model::hex::write_hex;
use crate::model::time::Timestamp;
use crate::secrets::random_bytes;
use crate::secrets::random_id;
use crate::secrets::sha256;
use crate::store::Family;
use crate::store::Precondition;
use crate::store::RecordKey;
use crate::store::Records;
use crate::store::StoreError;
use crate::store::Write;
use crate::store::codec::Shelved;

/// The source of the users of our own.
pub(super) const LOCAL: &str = "local";
const ATTEMPTS: usize = 4;

/// A person and its pseudonym. Lies twice: under the pseudonym, and under a digest of the person's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NameRecord {
    pub(super) id: Arc<str>,
    pub(super) pseudonym: Arc<str>,
    pub(super) source: Arc<str>,
    pub(super) subject: Arc<str>,
    /// What its addresses are masked with, in hex.
    pub(super) seal: String,
}

impl Shelved for NameRecord {
    const FAMILY: Family = Family::AuditName;
    const KIND: u8 = b'n';

    fn id(&self) -> &str {
        &self.id
    }
}

impl NameRecord {
    pub(super) fn seal_bytes(&self) -> Option<[u8; 32]> {
        read_hex(&self.seal)
    }
}

/// The person's record, made where there is none. None where there is no such local user (any more): nobody gets a name in the log by
/// being typed into a form.
pub(super) async fn find_or_make(
    records: &dyn Records,
    source: &str,
    subject: &str,
    now: Timestamp,
) -> Result<Option<NameRecord>, StoreError> {
    if subject.is_empty() {
        return Ok(None);
    }
    for _attempt in 0..ATTEMPTS {
        if let Some(found) = find(records, source, subject).await? {
            return Ok(Some(found));
        }
        let (Ok(pseudonym), Ok(seal)) = (random_id(), random_bytes::<32>()) else { return Ok(None) };
        let by_name = NameRecord {
            id: Arc::from(name_id(source, subject)),
            pseudonym: Arc::from(pseudonym),
            source: Arc::from(source),
            subject: Arc::from(subject),
            seal: write_hex(&seal),
        };
        let by_pseudonym = NameRecord { id: Arc::clone(&by_name.pseudonym), ..by_name.clone() };
        let (first, second) = (NameRecord::place(&by_name.id), NameRecord::place(&by_pseudonym.id));
        let mut preconditions = vec![Precondition::Absent(first.clone()), Precondition::Absent(second.clone())];
        if source == LOCAL {
            let user = RecordKey::user(source, subject);
            if records.get(&user).await?.is_none() {
                return Ok(None);
            }
            preconditions.push(Precondition::Present(user));
        }
        let writes = vec![
            Write::Put { key: first, bytes: by_name.encode(), expires: None },
            Write::Put { key: second, bytes: by_pseudonym.encode(), expires: None },
        ];
        if records.commit(preconditions, writes, now).await?.is_done() {
            return Ok(Some(by_name));
        }
    }
    Ok(None)
}

/// The person's record, where it has one.
pub(super) async fn find(records: &dyn Records, source: &str, subject: &str) -> Result<Option<NameRecord>, StoreError> {
    read(records, &name_id(source, subject)).await
}

/// Who is meant by a pseudonym; none: an erased person.
pub(super) async fn behind(records: &dyn Records, pseudonym: &str) -> Result<Option<NameRecord>, StoreError> {
    read(records, pseudonym).await
}

/// Takes a person's name out of the log.
pub(super) async fn forget(records: &dyn Records, source: &str, subject: &str, now: Timestamp) -> Result<(), StoreError> {
    let by_name = NameRecord::place(&name_id(source, subject));
    let mut writes = vec![Write::Remove(by_name)];
    if let Some(found) = find(records, source, subject).await? {
        writes.push(Write::Remove(NameRecord::place(&found.pseudonym)));
    }
    records.commit(Vec::new(), writes, now).await.map(|_done| ())
}

async fn read(records: &dyn Records, id: &str) -> Result<Option<NameRecord>, StoreError> {
    match records.get(&NameRecord::place(id)).await? {
        Some(stored) => NameRecord::decode(id, &stored.bytes).map(Some),
        None => Ok(None),
    }
}

/// No pseudonym looks like it: they have 22 characters, this one 67.
fn name_id(source: &str, subject: &str) -> String {
    format!("of-{}", write_hex(&sha256(format!("{source}:{subject}").as_bytes())))
}
