//! Which account a sign-in elsewhere opens.

use aws_lc_rs::digest;

use crate::model::caller::Subject;
use crate::store::Family;
use crate::store::RecordKey;
use crate::store::StoreError;
use crate::store::codec::FORMAT;
use crate::store::codec::body;

const IDENTITY: u8 = b'e';

impl RecordKey {
    /// Where it lies which user the pair (issuer, subject) opens. No issuer has a NUL in it, so no two pairs share a place.
    pub fn identity(issuer: &str, subject: &str) -> Self {
        let hash = digest::digest(&digest::SHA256, &[issuer.as_bytes(), &[0], subject.as_bytes()].concat());
        let hex = hash.as_ref().iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(|digit| char::from_digit(u32::from(digit), 16));
        Self { family: Family::Identity, id: hex.collect() }
    }
}

/// The bytes that say whom a sign-in elsewhere opens.
pub fn encode_identity(user: &Subject) -> Vec<u8> {
    [&[FORMAT, IDENTITY], user.as_str().as_bytes()].concat()
}

/// The local user whom it opens.
///
/// # Errors
/// [`StoreError::Corrupt`] when the bytes are damaged or of another kind or format.
pub fn decode_identity(id: &str, bytes: &[u8]) -> Result<Subject, StoreError> {
    let corrupt = |why: String| StoreError::Corrupt { key: format!("identity/{id}"), why };
    let text = str::from_utf8(body(IDENTITY, bytes).map_err(corrupt)?).unwrap_or_default();
    Subject::parse(text).map_err(|_error| corrupt("it names no user".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    // oauth: S4
    #[test]
    fn a_pair_has_a_place_of_its_own_and_names_its_user() {
        let place = RecordKey::identity("https://id.example", "7");
        assert_eq!(place, RecordKey::identity("https://id.example", "7"));
        assert_eq!(place.id.len(), 64);
        for (issuer, subject) in [("https://id.example7", ""), ("https://other.example", "7"), ("https://id.example", "8")] {
            assert_ne!(place, RecordKey::identity(issuer, subject), "{issuer} {subject}");
        }
        let user = Subject::parse("usr_1").unwrap();
        assert_eq!(decode_identity(&place.id, &encode_identity(&user)), Ok(user));
        for bad in [&b""[..], b"\x01e", b"\x01kusr_1", b"\x02eusr_1", b"\x01eus r", b"\x01e\xff"] {
            assert!(decode_identity(&place.id, bad).is_err(), "{bad:?}");
        }
    }
}
