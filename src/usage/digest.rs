//! Keyed 128-bit fingerprints (SipHash, 1 and 3 rounds) by which counters and buckets are found.
//!
//! The key is random and stays in the ledger, so nobody who chooses names can make two of them meet.

/// The secret half of a fingerprint.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct DigestKey(pub(super) [u64; 2]);

impl std::fmt::Debug for DigestKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("DigestKey")
    }
}

/// Takes words and texts in turn; every text carries its length, so that no two sequences read alike.
pub(super) type Digest = Sip<1, 3>;

/// SipHash with 128 bits of output, `C` rounds a word and `D` at the end.
pub(super) struct Sip<const C: usize, const D: usize> {
    state: [u64; 4],
    bytes: u64,
}

impl<const C: usize, const D: usize> Sip<C, D> {
    pub(super) fn new(DigestKey([low, high]): DigestKey) -> Self {
        let state =
            [low ^ 0x736f_6d65_7073_6575, high ^ 0x646f_7261_6e64_6f6d ^ 0xee, low ^ 0x6c79_6765_6e65_7261, high ^ 0x7465_6462_7974_6573];
        Self { state, bytes: 0 }
    }

    pub(super) fn word(mut self, word: u64) -> Self {
        self.absorb(word);
        self.bytes = self.bytes.wrapping_add(8);
        self
    }

    pub(super) fn text(self, text: &str) -> Self {
        let mut digest = self.word(text.len() as u64);
        let mut words = text.as_bytes().chunks_exact(8);
        for chunk in &mut words {
            digest = digest.word(little_endian(chunk));
        }
        let rest = words.remainder();
        if rest.is_empty() { digest } else { digest.word(little_endian(rest)) }
    }

    pub(super) fn finish(self) -> u128 {
        self.finish_with(&[])
    }

    /// Ends with up to seven bytes that are no whole word.
    fn finish_with(mut self, tail: &[u8]) -> u128 {
        let bytes = self.bytes.wrapping_add(tail.len() as u64);
        self.absorb(little_endian(tail) | (bytes << 56));
        self.state[2] ^= 0xee;
        let low = self.squeeze();
        self.state[1] ^= 0xdd;
        let high = self.squeeze();
        (u128::from(high) << 64) | u128::from(low)
    }

    fn absorb(&mut self, word: u64) {
        self.state[3] ^= word;
        for _ in 0..C {
            round(&mut self.state);
        }
        self.state[0] ^= word;
    }

    fn squeeze(&mut self) -> u64 {
        for _ in 0..D {
            round(&mut self.state);
        }
        self.state.iter().fold(0, |all, word| all ^ word)
    }
}

fn round([a, b, c, d]: &mut [u64; 4]) {
    *a = a.wrapping_add(*b);
    *b = b.rotate_left(13) ^ *a;
    *a = a.rotate_left(32);
    *c = c.wrapping_add(*d);
    *d = d.rotate_left(16) ^ *c;
    *a = a.wrapping_add(*d);
    *d = d.rotate_left(21) ^ *a;
    *c = c.wrapping_add(*b);
    *b = b.rotate_left(17) ^ *c;
    *c = c.rotate_left(32);
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, &byte| (word << 8) | u64::from(byte))
}

/// Hands a fingerprint's own bits to a hash map: they are as good as any hash of them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AsItIs(u64);

impl std::hash::Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = self.0.rotate_left(5) ^ little_endian(bytes.get(..8).unwrap_or(bytes));
    }

    fn write_u128(&mut self, digest: u128) {
        self.0 = digest as u64;
    }
}

/// Builds [`AsItIs`].
pub(super) type BuildAsItIs = std::hash::BuildHasherDefault<AsItIs>;

#[cfg(test)]
mod tests {
    use super::*;

    /// The first of the reference implementation's vectors: key `00 01 … 0f`, inputs of no byte, of `00`, and of `00 … 07`.
    #[test]
    fn the_reference_vectors_hold() {
        let key = DigestKey([0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]);
        let of = |tail: &[u8]| Sip::<2, 4>::new(key).finish_with(tail).to_le_bytes();
        assert_eq!(of(&[]), 0xa381_7f04_ba25_a8e6_6df6_7214_c755_0293_u128.to_be_bytes());
        assert_eq!(of(&[0]), 0xda87_c1d8_6b99_af44_3476_5911_9b22_fc45_u128.to_be_bytes());
    }

    #[test]
    fn neighbouring_texts_do_not_run_together() {
        let key = DigestKey([1, 2]);
        let pair = |one: &str, two: &str| Digest::new(key).text(one).text(two).finish();
        assert_ne!(pair("ab", "c"), pair("a", "bc"));
        assert_ne!(pair("", "a"), pair("a", ""));
        assert_ne!(pair("a", ""), pair("a\0", ""));
        assert_eq!(pair("a", "b"), pair("a", "b"));
    }
}
