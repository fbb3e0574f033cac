//! Bytes as hexadecimal digits.

use zeroize::Zeroizing;

/// Two lower-case digits for each byte.
pub fn write_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    push_hex(&mut text, bytes);
    text
}

/// As [`write_hex`], at the end of a text.
pub fn push_hex(text: &mut String, bytes: &[u8]) {
    text.extend(bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(|digit| char::from_digit(u32::from(digit), 16)));
}

/// The 32 bytes behind 64 digits of either case.
pub fn read_hex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = read_byte(pair)?;
    }
    Some(bytes)
}

/// The bytes behind any even number of digits; they may be a secret.
pub fn read_hex_secret(digits: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    // With all its room from the start it never moves and leaves nothing behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(digits.len() / 2));
    for pair in digits.chunks(2) {
        bytes.push(read_byte(pair)?);
    }
    Some(bytes)
}

fn read_byte(pair: &[u8]) -> Option<u8> {
    let [high, low] = pair else { return None };
    u8::try_from(char::from(*high).to_digit(16)? * 16 + char::from(*low).to_digit(16)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_read_strictly() {
        assert_eq!(read_hex(&write_hex(&[0xa5; 32])), Some([0xa5; 32]));
        assert_eq!(read_hex(&"A5".repeat(32)), Some([0xa5; 32]));
        assert_eq!(read_hex_secret(b"00fF").as_deref(), Some(&vec![0, 255]));
        for bad in ["", &"a".repeat(63), &"g".repeat(64), &"ä".repeat(32), &format!("+{}", "0".repeat(63))] {
            assert_eq!(read_hex(bad), None, "{bad}");
            assert!(bad.is_empty() || read_hex_secret(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
