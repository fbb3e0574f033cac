//! The parameters of a query, read where they stand. Only their names are ever compared; no value is decoded.

/// Names and values, undecoded, in order. Only `&` parts them.
pub fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// Whether letters' case tells names apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    Sensitive,
    Insensitive,
}

/// Whether a parameter's name, its escapes decoded, is the wanted one. Allocates nothing.
pub fn decodes_to(name: &str, wanted: &str, case: Case) -> bool {
    // Escapes only lengthen a name.
    if name.len() < wanted.len() || name.len() > wanted.len() * 3 {
        return false;
    }
    let mut wanted = wanted.bytes();
    let mut rest = name.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escape = if *first == b'%' { after.split_at_checked(2).and_then(|(digits, next)| Some((unhex(digits)?, next))) } else { None };
        let (byte, next) = escape.unwrap_or((*first, after));
        let fits = wanted.next().is_some_and(|expected| match case {
            Case::Sensitive => expected == byte,
            Case::Insensitive => expected.eq_ignore_ascii_case(&byte),
        });
        if !fits {
            return false;
        }
        rest = next;
    }
    wanted.next().is_none()
}

fn unhex(digits: &[u8]) -> Option<u8> {
    digits.iter().try_fold(0_u8, |value, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(value << 4 | u8::try_from(digit).ok()?)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parameters_are_parted_by_ampersands_alone() {
        let read: Vec<(&str, &str)> = parameters("a=1&b&=2&&c=d=e;f=g").collect();
        assert_eq!(read, [("a", "1"), ("b", ""), ("", "2"), ("", ""), ("c", "d=e;f=g")]);
    }

    #[test]
    fn names_are_compared_decoded() {
        for (name, wanted, case, expected) in [
            ("api_key", "api_key", Case::Sensitive, true),
            ("api%5Fkey", "api_key", Case::Sensitive, true),
            ("%61%70%69%5f%6b%65%79", "api_key", Case::Sensitive, true),
            ("API_KEY", "api_key", Case::Sensitive, false),
            ("API_KEY", "api_key", Case::Insensitive, true),
            ("%41pi_key", "api_key", Case::Insensitive, true),
            ("api_ke", "api_key", Case::Insensitive, false),
            ("api_keys", "api_key", Case::Insensitive, false),
            ("api%255Fkey", "api_key", Case::Insensitive, false),
            ("api%5", "api%5", Case::Sensitive, true),
            ("", "a", Case::Sensitive, false),
            ("%", "%", Case::Sensitive, true),
        ] {
            assert_eq!(decodes_to(name, wanted, case), expected, "{name} {wanted}");
        }
    }

    proptest! {
        #[test]
        fn every_escaping_of_a_name_is_that_name(name in "[a-z_-]{1,12}", escaped in any::<u16>()) {
            let spelled: String = name
                .bytes()
                .enumerate()
                .map(|(at, byte)| if escaped >> at & 1 == 1 { format!("%{byte:02x}") } else { char::from(byte).to_string() })
                .collect();
            prop_assert!(decodes_to(&spelled, &name, Case::Sensitive));
            let longer = format!("{spelled}x");
            prop_assert!(!decodes_to(&longer, &name, Case::Sensitive));
        }
    }
}
