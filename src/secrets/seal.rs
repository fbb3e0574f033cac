//! Seals by pepper: a keyed hash over a context and bytes that stay readable.

use aws_lc_rs::constant_time;
use aws_lc_rs::hkdf;
use aws_lc_rs::hmac;

use crate::secrets::Peppers;
use crate::secrets::Prepared;
use crate::secrets::head;
use crate::secrets::split_head;
use crate::store::shared::seal::Seal;
use crate::store::shared::seal::SealError;

const MAC_BYTES: usize = 32;

/// A key that is derived from the pepper and used for nothing else; none only if the derivation fails, which it does not.
pub(super) fn sealing_key(secret: &[u8]) -> Option<hmac::Key> {
    let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, b"tollgate").extract(secret);
    extracted.expand(&[b"seal 1"], hmac::HMAC_SHA256).ok().map(hmac::Key::from)
}

impl Seal for Peppers {
    /// The format, the pepper's id, the keyed hash, the bytes.
    fn seal(&self, context: &[u8], bytes: &[u8]) -> Result<Vec<u8>, SealError> {
        let mac = self.current.mac(context, bytes).ok_or(SealError::Failed)?;
        Ok([head(&self.current.id).as_slice(), mac.as_ref(), bytes].concat())
    }

    fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let (id, rest) = split_head(sealed).ok_or(SealError::Broken)?;
        let (mac, bytes) = rest.split_at_checked(MAC_BYTES).ok_or(SealError::Broken)?;
        let pepper = self.all().find(|pepper| pepper.id.as_bytes() == id).ok_or(SealError::UnknownPepper)?;
        let expected = pepper.mac(context, bytes).ok_or(SealError::Failed)?;
        constant_time::verify_slices_are_equal(expected.as_ref(), mac).map_err(|_different| SealError::Broken)?;
        Ok(bytes.to_vec())
    }
}

impl Prepared {
    fn mac(&self, context: &[u8], bytes: &[u8]) -> Option<hmac::Tag> {
        let mut signing = hmac::Context::with_key(self.sealing.as_ref()?);
        // The length comes first, so that nothing of the bytes can pass for a part of the context.
        signing.update(&(context.len() as u64).to_be_bytes());
        signing.update(context);
        signing.update(bytes);
        Some(signing.sign())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::tests::pepper;

    // battery: R13
    #[test]
    fn a_seal_opens_for_its_context_and_its_bytes_alone() {
        let before = Peppers::new(pepper("old", 2), Vec::new());
        let peppers = Peppers::new(pepper("new", 1), vec![pepper("old", 2)]);
        let sealed = peppers.seal(b"here", b"text").unwrap();
        assert_eq!(peppers.open(b"here", &sealed).unwrap(), b"text");
        assert_eq!(peppers.open(b"there", &sealed), Err(SealError::Broken));
        assert_eq!(peppers.open(b"heret", &[&sealed[..sealed.len() - 4], b"ext"].concat()), Err(SealError::Broken));
        for position in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[position] ^= 1;
            assert!(peppers.open(b"here", &changed).is_err(), "byte {position}");
            assert!(peppers.open(b"here", &sealed[..position]).is_err(), "cut at {position}");
        }
        assert_eq!(peppers.open(b"here", b"text"), Err(SealError::Broken), "never sealed");
        assert_eq!(peppers.open(b"here", &before.seal(b"here", b"text").unwrap()).unwrap(), b"text");
        assert_eq!(before.open(b"here", &sealed), Err(SealError::UnknownPepper));
        let impostor = Peppers::new(pepper("new", 9), Vec::new());
        assert_eq!(impostor.open(b"here", &sealed), Err(SealError::Broken));
    }
}
