//! Which public keys are fit to be trusted.

use aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED;
use aws_lc_rs::signature::ECDSA_P384_SHA384_FIXED;
use aws_lc_rs::signature::ED25519;
use aws_lc_rs::signature::ParsedPublicKey;
use jsonwebtoken::DecodingKey;

use crate::jose::algorithm::Family;

/// Below this factoring is within reach; above it one signature costs too much to check.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Keys of the flawed generator (CVE-2017-15361) are powers of 65537 modulo every one of these; others all but never are.
const ROCA_PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109, 113, 127, 131, 137,
    139, 149, 151, 157, 163, 167,
];

/// Vets an RSA key given as big-endian modulus and exponent.
pub(in crate::jose) fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<DecodingKey, &'static str> {
    let modulus = without_leading_zeros(modulus);
    let exponent = without_leading_zeros(exponent);
    let bits = modulus.first().map_or(0, |first| modulus.len() * 8 - first.leading_zeros() as usize);
    if !RSA_BITS.contains(&bits) {
        return Err("an RSA modulus must have 2048 to 8192 bits");
    }
    if modulus.last().is_none_or(|last| last % 2 == 0) {
        return Err("the RSA modulus is even");
    }
    let exponent_value = exponent.iter().try_fold(0_u64, |value, byte| value.checked_mul(256)?.checked_add(u64::from(*byte)));
    match exponent_value {
        Some(value) if value >= 65537 && value % 2 == 1 && value < 1 << 33 => {}
        Some(_) | None => return Err("an RSA exponent must be odd, at least 65537 and below 2^33"),
    }
    if is_roca(modulus) {
        return Err("the RSA modulus has the ROCA pattern (CVE-2017-15361)");
    }
    Ok(DecodingKey::from_rsa_raw_components(modulus, exponent))
}

/// Vets a point on P-256 or P-384 given by its coordinates.
pub(in crate::jose) fn elliptic(family: Family, x: &[u8], y: &[u8]) -> Result<DecodingKey, &'static str> {
    let (bytes, algorithm) = match family {
        Family::P256 => (32, &ECDSA_P256_SHA256_FIXED),
        Family::P384 => (48, &ECDSA_P384_SHA384_FIXED),
        Family::Secret | Family::Rsa | Family::Ed25519 => return Err("not an elliptic curve of this kind"),
    };
    if x.len() != bytes || y.len() != bytes {
        return Err("a coordinate has the wrong length for its curve");
    }
    let point = [&[0x04], x, y].concat();
    ParsedPublicKey::new(algorithm, &point).map_err(|_rejected| "the point is not on its curve")?;
    Ok(DecodingKey::from_ec_der(&point))
}

/// Vets an Ed25519 public key.
pub(in crate::jose) fn ed25519(point: &[u8]) -> Result<DecodingKey, &'static str> {
    if point.len() != 32 {
        return Err("an Ed25519 key has 32 bytes");
    }
    ParsedPublicKey::new(&ED25519, point).map_err(|_rejected| "not an Ed25519 key")?;
    Ok(DecodingKey::from_ed_der(point))
}

fn without_leading_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}

fn is_roca(modulus: &[u8]) -> bool {
    ROCA_PRIMES.into_iter().all(|prime| {
        let remainder = modulus.iter().fold(0_u32, |value, byte| (value * 256 + u32::from(*byte)) % prime);
        let mut power = 1;
        loop {
            if power == remainder {
                return true;
            }
            power = power * (65537 % prime) % prime;
            if power == 1 {
                return false;
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::rsa;

    /// An odd number of this many bits that no small pattern holds.
    fn modulus(bits: usize) -> Vec<u8> {
        let mut bytes = vec![0x5b; bits.div_ceil(8)];
        let top = (bits - 1) % 8;
        bytes[0] = 1 << top;
        bytes
    }

    // battery: J10 J11
    #[test]
    fn weak_and_monstrous_rsa_keys_are_refused() {
        let usual: &[u8] = &[1, 0, 1];
        for (bits, exponent, accepted) in [
            (2048, usual, true),
            (4096, usual, true),
            (8192, usual, true),
            (512, usual, false),
            (1024, usual, false),
            (2047, usual, false),
            (8193, usual, false),
            (16384, usual, false),
            (2048, &[1], false),
            (2048, &[3], false),
            (2048, &[2], false),
            (2048, &[1, 0, 0], false),
            (2048, &[], false),
            (2048, &[0], false),
            (2048, &[0, 1, 0, 1], true),
            (2048, &[2, 0, 0, 0, 1], false),
            (2048, &[1, 0, 0, 0, 1], true),
            (2048, &[1, 0, 0, 0, 0, 0, 0, 0, 1], false),
        ] {
            assert_eq!(rsa(&modulus(bits), exponent).is_ok(), accepted, "{bits} bits, exponent {exponent:?}");
        }
        let mut even = modulus(2048);
        even.push(0);
        assert!(rsa(&even, usual).is_err());
        assert!(rsa(&[], usual).is_err());
        assert!(rsa(&[0; 300], usual).is_err());
    }

    // battery: J10
    #[test]
    fn the_pattern_of_the_flawed_generator_is_seen() {
        // A multiple of all the primes, and one: a power of 65537 (the zeroth) modulo each of them.
        let mut product = vec![1_u8];
        for prime in super::ROCA_PRIMES {
            let mut carry = 0;
            for digit in product.iter_mut().rev() {
                carry += u32::from(*digit) * prime;
                *digit = u8::try_from(carry % 256).unwrap();
                carry /= 256;
            }
            if carry > 0 {
                product.insert(0, u8::try_from(carry).unwrap());
            }
        }
        let mut flawed = product;
        flawed.resize(260, 0);
        flawed[259] = 1;
        assert_eq!(rsa(&flawed, &[1, 0, 1]).unwrap_err(), "the RSA modulus has the ROCA pattern (CVE-2017-15361)");
        flawed[259] = 3;
        assert!(rsa(&flawed, &[1, 0, 1]).is_ok());
    }
}
