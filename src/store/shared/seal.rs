//! A seal on every record: whoever can write to Redis, and has not our peppers, can remove records or put old ones back, and cannot
//! make or change one.

use std::fmt;

use crate::model::time::Timestamp;
use crate::store::RecordKey;

/// Why a seal does not open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("it was sealed under a pepper that is not configured here")]
    UnknownPepper,
    #[error(
        "its seal is broken: this config has another secret under the pepper's id than whoever sealed it, or it was changed outside \
         of Tollgate, or belongs elsewhere"
    )]
    Broken,
    #[error("a seal could not be made")]
    Failed,
}

/// Seals bytes for a place, and opens what was sealed for it. The text stays readable; it is proven, not hidden.
pub trait Seal: Send + Sync + fmt::Debug + 'static {
    /// # Errors
    /// [`SealError::Failed`] only.
    fn seal(&self, context: &[u8], bytes: &[u8]) -> Result<Vec<u8>, SealError>;
    /// # Errors
    /// When it was not sealed for this context by somebody with a pepper that is known here.
    fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError>;
}

/// What a record's seal vouches for besides its bytes: where it lies, which version it is, and when it ends. The prefix belongs to
/// the place: two installations may share a server and a pepper, and one's keys are not the other's.
pub(super) fn context(prefix: &str, key: &RecordKey, version: u64, expires: Option<Timestamp>) -> Vec<u8> {
    let mut context = b"tollgate record 1\0".to_vec();
    context.extend_from_slice(&(prefix.len() as u64).to_be_bytes());
    context.extend_from_slice(prefix.as_bytes());
    context.extend_from_slice(key.family.as_str().as_bytes());
    context.push(0);
    context.extend_from_slice(&(key.id.len() as u64).to_be_bytes());
    context.extend_from_slice(key.id.as_bytes());
    context.extend_from_slice(&version.to_be_bytes());
    context.extend_from_slice(&expires.map_or(0, Timestamp::as_nanos).to_be_bytes());
    context
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_records_share_a_context() {
        let base = ("t", RecordKey::key("a"), 1, None);
        let later = Some(Timestamp::from_unix_seconds(1));
        for other in [
            ("u", RecordKey::key("a"), 1, None),
            ("tkey", RecordKey::key("a"), 1, None),
            ("t", RecordKey::user("local", "a"), 1, None),
            ("t", RecordKey::key("b"), 1, None),
            ("t", RecordKey::key("a\0"), 1, None),
            ("t", RecordKey::key("a"), 2, None),
            ("t", RecordKey::key("a"), 1, later),
        ] {
            assert_ne!(context(base.0, &base.1, base.2, base.3), context(other.0, &other.1, other.2, other.3), "{other:?}");
        }
    }
}
