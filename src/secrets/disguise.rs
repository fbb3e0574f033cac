//! Keyed digests that stand for secrets where records are kept: the same for the same text, and nothing can be learnt from them without
//! the pepper. They are keyed apart from the hashes under which keys are stored, so neither tells anything of the other.

use std::fmt;

use aws_lc_rs::hmac;

use crate::model::hex::write_hex;

/// Makes the digests of one pepper.
pub struct Disguise(hmac::Key);

/// Half of a digest is enough to tell texts apart.
const DIGITS: usize = 32;

impl Disguise {
    pub(super) fn new(pepper: &hmac::Key) -> Self {
        // No key has a blank in its text, so this is nobody's stored hash.
        Self(hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(pepper, b"tollgate records 1").as_ref()))
    }

    /// 32 hexadecimal digits.
    pub fn of(&self, text: &[u8]) -> String {
        let mut digits = write_hex(hmac::sign(&self.0, text).as_ref());
        digits.truncate(DIGITS);
        digits
    }
}

impl fmt::Debug for Disguise {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Disguise")
    }
}

#[cfg(test)]
mod tests {
    use crate::model::hex::write_hex;
    use crate::secrets::Pepper;
    use crate::secrets::Peppers;

    #[test]
    fn a_digest_is_the_same_for_the_same_text_and_pepper_alone() {
        let peppers = |byte| Peppers::new(Pepper { id: "p".into(), secret: vec![byte; 32].into() }, Vec::new());
        let digest = peppers(1).disguise().of(b"a key");
        assert_eq!(digest, peppers(1).disguise().of(b"a key"));
        assert_ne!(digest, peppers(2).disguise().of(b"a key"));
        assert_ne!(digest, peppers(1).disguise().of(b"another"));
        assert!(!write_hex(&peppers(1).hash(b"a key").digest).starts_with(&digest));
        assert!(digest.len() == 32 && format!("{:?}", peppers(1).disguise()) == "Disguise");
    }
}
