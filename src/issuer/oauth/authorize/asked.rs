//! The parameters of an authorization request, as they were sent.

use std::borrow::Cow;
use std::fmt;

/// Bytes of the encoded parameters of one request.
pub const PARAMETER_BYTES_MAX: usize = 12 * 1024;

/// The parameters that mean something here; others are ignored (RFC 6749 section 3.1).
const KNOWN: [&str; 10] = [
    "client_id",
    "redirect_uri",
    "response_type",
    "response_mode",
    "scope",
    "state",
    "code_challenge",
    "code_challenge_method",
    "resource",
    "prompt",
];

/// The known parameters of one request, decoded, in their order and with every repeat.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthorizeParameters {
    pairs: Vec<(&'static str, Vec<u8>)>,
}

/// The parameters have more than [`PARAMETER_BYTES_MAX`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the authorization request has more than {PARAMETER_BYTES_MAX} bytes")]
pub struct TooLong;

impl fmt::Debug for AuthorizeParameters {
    /// Names alone: a state is the client's secret.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(self.pairs.iter().map(|(name, _)| name)).finish()
    }
}

impl AuthorizeParameters {
    /// Reads a query, or a form's body.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn read(encoded: &str) -> Result<Self, TooLong> {
        if encoded.len() > PARAMETER_BYTES_MAX {
            return Err(TooLong);
        }
        let mut pairs = Vec::new();
        for pair in encoded.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name);
            if let Some(known) = KNOWN.into_iter().find(|known| known.as_bytes() == name) {
                pairs.push((known, decode(value)));
            }
        }
        Ok(Self { pairs })
    }

    /// The first value of this name. An empty one counts as absent; what is no UTF-8 matches nothing that is known.
    pub(super) fn value(&self, name: &str) -> Option<Cow<'_, str>> {
        self.values(name).next().map(String::from_utf8_lossy)
    }

    /// Every value of the one parameter that may come more than once (RFC 8707 section 2).
    pub(super) fn resources(&self) -> Vec<Cow<'_, str>> {
        self.values("resource").map(String::from_utf8_lossy).collect()
    }

    pub(super) fn is_repeated(&self, name: &str) -> bool {
        self.pairs.iter().filter(|(known, _)| *known == name).count() > 1
    }

    /// The first parameter that came more than once and must not.
    pub(super) fn first_repeated(&self) -> Option<&'static str> {
        KNOWN.into_iter().filter(|name| *name != "resource").find(|name| self.is_repeated(name))
    }

    /// The state as it goes into a URL: whatever its bytes were, they come back. Of two states neither is the right one.
    pub(super) fn state(&self) -> Option<String> {
        if self.is_repeated("state") {
            return None;
        }
        self.values("state").next().map(encode)
    }

    /// The same request as a query.
    pub(super) fn to_query(&self) -> String {
        let pairs: Vec<String> = self.pairs.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        pairs.join("&")
    }

    /// The same request after the new sign-in that it asked for.
    pub(super) fn after_login(mut self) -> Self {
        for (name, value) in &mut self.pairs {
            if *name == "prompt" {
                let kept: Vec<&[u8]> = value.split(|byte| *byte == b' ').filter(|word| *word != b"login").collect();
                *value = kept.join(&b' ');
            }
        }
        self
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.pairs.iter().filter(move |(known, value)| *known == name && !value.is_empty()).map(|(_, value)| value.as_slice())
    }
}

/// `application/x-www-form-urlencoded`, bytes as they come. A percent sign that begins no escape stands for itself.
pub(in crate::issuer) fn decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after) {
            (b'+', _) => bytes.push(b' '),
            (b'%', [high, low, behind @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high << 4 | low);
                    rest = behind;
                }
                (Some(_) | None, _) => bytes.push(b'%'),
            },
            (other, _) => bytes.push(*other),
        }
    }
    bytes
}

/// Everything but the unreserved characters of RFC 3986 escaped, so that every reader of queries reads the same.
pub(in crate::issuer) fn encode(bytes: &[u8]) -> String {
    const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    let hex = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or('0');
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            text.push(char::from(*byte));
        } else {
            text.extend(['%', hex(byte >> 4), hex(byte & 15)]);
        }
    }
    text
}

fn digit(character: u8) -> Option<u8> {
    char::from(character).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn forms_are_read_as_browsers_write_them() {
        for (encoded, decoded) in [
            ("a+b", "a b".as_bytes()),
            ("a%20b", b"a b"),
            ("100%", b"100%"),
            ("100%2", b"100%2"),
            ("%zz%", b"%zz%"),
            ("%C3%a9", "é".as_bytes()),
            ("%00", b"\0"),
            ("%FF", b"\xff"),
            ("", b""),
        ] {
            assert_eq!(decode(encoded), decoded, "{encoded}");
        }
    }

    #[test]
    fn an_empty_parameter_is_absent_and_a_repeat_is_seen() {
        let read = |text: &str| AuthorizeParameters::read(text).unwrap();
        let asked = read("scope=&state=s&state=t&unknown=1&unknown=2&resource=a&resource=b&prompt=login+consent");
        assert_eq!(asked.value("scope"), None);
        assert_eq!(asked.first_repeated(), Some("state"));
        assert_eq!(asked.state(), None);
        assert_eq!(asked.resources(), ["a", "b"]);
        assert_eq!(read(&asked.to_query()), asked);
        assert_eq!(asked.after_login().value("prompt").unwrap(), "consent");
        assert_eq!(read("prompt=login").after_login().value("prompt"), None);
        assert_eq!(AuthorizeParameters::read(&"s".repeat(PARAMETER_BYTES_MAX + 1)), Err(TooLong));
        assert!(!format!("{:?}", read("state=canary")).contains("canary"));
    }

    proptest! {
        #[test]
        fn whatever_a_state_was_it_comes_back(state: Vec<u8>) {
            prop_assert_eq!(decode(&encode(&state)), state);
        }

        #[test]
        fn no_text_breaks_the_reader(text in ".{0,200}") {
            let _read = AuthorizeParameters::read(&text);
        }
    }
}
