//! Handles: their MACs, made and proven. See [`crate::model::handle`] for their form.

use aws_lc_rs::constant_time;
use aws_lc_rs::hkdf;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::model::handle::Handle;
use crate::model::handle::HandleKind;
use crate::model::handle::MAC_CHARACTERS;
use crate::model::handle::write_handle;
use crate::secrets::Peppers;
use crate::secrets::Prepared;
use crate::secrets::SecretError;

/// What the decoder wants to have at hand for the characters of a MAC.
const MAC_BYTES_ESTIMATE: usize = MAC_CHARACTERS.div_ceil(4) * 3;

/// A key that is derived from the pepper and used for nothing else; none only if the derivation fails, which it does not.
pub(super) fn handle_key(secret: &[u8]) -> Option<hmac::Key> {
    let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, b"tollgate").extract(secret);
    extracted.expand(&[b"handle 1"], hmac::HMAC_SHA256).ok().map(hmac::Key::from)
}

impl Peppers {
    /// The id of the pepper under which new handles are made: it goes into the record, so that the same handle can be made again.
    pub fn current_id(&self) -> &str {
        &self.current.id
    }

    /// The handle's text, made under the pepper of this id.
    ///
    /// # Errors
    /// When that pepper is not configured any more: then the record's handles are worth nothing, and a new one is due.
    pub fn handle(&self, brand: &str, kind: HandleKind, id: &str, generation: u32, pepper: &str) -> Result<Zeroizing<String>, SecretError> {
        let pepper = self.all().find(|known| *known.id == *pepper).ok_or(SecretError::UnknownPepper)?;
        let mac = pepper.handle_mac(kind, id, generation).ok_or(SecretError::UnknownPepper)?;
        let mac = Zeroizing::new(URL_SAFE_NO_PAD.encode(mac.as_ref()));
        Ok(write_handle(brand, Handle { kind, id, generation, mac: &mac }))
    }

    /// Whether we made this handle, in constant time: the id of the pepper under which.
    pub fn prove_handle(&self, handle: &Handle<'_>) -> Option<&str> {
        let mut shown = [0; MAC_BYTES_ESTIMATE];
        let length = URL_SAFE_NO_PAD.decode_slice(handle.mac, &mut shown).ok()?;
        let shown = shown.get(..length)?;
        let made_under = |pepper: &&Prepared| {
            let expected = pepper.handle_mac(handle.kind, handle.id, handle.generation);
            expected.is_some_and(|expected| constant_time::verify_slices_are_equal(expected.as_ref(), shown).is_ok())
        };
        self.all().find(made_under).map(|pepper| &*pepper.id)
    }

    /// A keyed fingerprint of a text for one purpose, under the current pepper: for what must be compared and not read.
    pub fn fingerprint(&self, purpose: &str, text: &[u8]) -> Option<[u8; 32]> {
        self.current.fingerprint(purpose, text)
    }

    /// Whether this is the text's fingerprint for the purpose under the pepper of this id, in constant time; none where there is no such
    /// pepper any more.
    pub fn is_fingerprint(&self, pepper: &str, purpose: &str, text: &[u8], shown: &[u8; 32]) -> Option<bool> {
        let pepper = self.all().find(|known| *known.id == *pepper)?;
        let expected = pepper.fingerprint(purpose, text)?;
        Some(constant_time::verify_slices_are_equal(&expected, shown).is_ok())
    }
}

impl Prepared {
    fn fingerprint(&self, purpose: &str, text: &[u8]) -> Option<[u8; 32]> {
        let mut mac = hmac::Context::with_key(self.handles.as_ref()?);
        mac.update(b"fingerprint\0");
        mac.update(&(purpose.len() as u64).to_be_bytes());
        mac.update(purpose.as_bytes());
        mac.update(text);
        mac.sign().as_ref().try_into().ok()
    }

    fn handle_mac(&self, kind: HandleKind, id: &str, generation: u32) -> Option<hmac::Tag> {
        let mut mac = hmac::Context::with_key(self.handles.as_ref()?);
        mac.update(kind.as_str().as_bytes());
        mac.update(&[0]);
        mac.update(&(id.len() as u64).to_be_bytes());
        mac.update(id.as_bytes());
        mac.update(&generation.to_be_bytes());
        Some(mac.sign())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::handle::read_handle;
    use crate::secrets::tests::pepper;

    #[test]
    fn a_handle_is_proven_under_the_pepper_that_made_it_and_only_whole() {
        let old = Peppers::new(pepper("old", 2), Vec::new());
        let both = Peppers::new(pepper("new", 1), vec![pepper("old", 2)]);
        let other = Peppers::new(pepper("old", 3), Vec::new());
        let text = old.handle("tg", HandleKind::Refresh, "abc", 3, "old").unwrap();
        let handle = read_handle("tg", &text).unwrap();
        assert_eq!(both.prove_handle(&handle), Some("old"));
        assert_eq!(other.prove_handle(&handle), None);
        assert_eq!(*both.handle("tg", HandleKind::Refresh, "abc", 3, "old").unwrap(), *text, "the same again");
        assert!(both.handle("tg", HandleKind::Refresh, "abc", 3, "gone").is_err());
        for changed in [
            Handle { kind: HandleKind::Access, ..handle },
            Handle { id: "abd", ..handle },
            Handle { generation: 4, ..handle },
            Handle { mac: &"A".repeat(43), ..handle },
        ] {
            assert_eq!(both.prove_handle(&changed), None, "{changed:?}");
        }
        assert_ne!(both.fingerprint("a", b"x"), both.fingerprint("b", b"x"));
        assert_eq!(both.fingerprint("a", b"x"), both.fingerprint("a", b"x"));
        let shown = old.fingerprint("a", b"x").unwrap();
        assert_eq!(both.is_fingerprint("old", "a", b"x", &shown), Some(true));
        for (pepper, purpose, text, expected) in
            [("old", "a", b"y", Some(false)), ("old", "b", b"x", Some(false)), ("new", "a", b"x", Some(false)), ("gone", "a", b"x", None)]
        {
            assert_eq!(both.is_fingerprint(pepper, purpose, text, &shown), expected, "{pepper} {purpose}");
        }
    }
}
