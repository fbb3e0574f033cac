//! Reading and writing the issuer's own records.

use crate::issuer::IssuerState;
use crate::issuer::problem::Problem;
use crate::model::time::Timestamp;
use crate::store::Precondition;
use crate::store::Write;
use crate::store::codec::Shelved;

/// Records that one look at the shelf brings.
const SCANNED_TOGETHER: usize = 500;

/// The record of this id and its version.
pub(in crate::issuer) async fn find<T: Shelved>(state: &IssuerState, id: &str) -> Result<Option<(T, u64)>, Problem> {
    match state.records.get(&T::place(id)).await? {
        Some(stored) => Ok(Some((T::decode(id, &stored.bytes)?, stored.version))),
        None => Ok(None),
    }
}

/// Every record of a family whose id begins so and that `is_wanted`, with its version. One that cannot be read is passed over.
pub(in crate::issuer) async fn all<T: Shelved>(
    state: &IssuerState,
    prefix: &str,
    is_wanted: impl Fn(&T) -> bool,
) -> Result<Vec<(T, u64)>, Problem> {
    let mut found = Vec::new();
    // What follows a prefix follows it in the order of ids too.
    let mut after = (!prefix.is_empty()).then(|| prefix.to_owned());
    loop {
        let page = state.records.range(T::FAMILY, after.as_deref(), SCANNED_TOGETHER).await?;
        for (place, stored) in page.records {
            if !place.id.starts_with(prefix) {
                return Ok(found);
            }
            if let Ok(record) = T::decode(&place.id, &stored.bytes)
                && is_wanted(&record)
            {
                found.push((record, stored.version));
            }
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(found),
        }
    }
}

/// Puts a record in its place.
pub(in crate::issuer) fn put<T: Shelved>(record: &T, expires: Option<Timestamp>) -> Write {
    Write::Put { key: T::place(record.id()), bytes: record.encode(), expires }
}

/// That the record is as it was read.
pub(in crate::issuer) fn at<T: Shelved>(record: &T, version: u64) -> Precondition {
    Precondition::AtVersion(T::place(record.id()), version)
}

/// That there is no record of its id.
pub(in crate::issuer) fn absent<T: Shelved>(record: &T) -> Precondition {
    Precondition::Absent(T::place(record.id()))
}
