//! The host of a request, in one form or not at all.

use std::borrow::Cow;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use crate::model::request::Part;
use crate::model::request::RequestError;

/// Longest host name, RFC 1035.
const NAME_LIMIT_BYTES: usize = 253;
const LABEL_LIMIT_BYTES: usize = 63;
/// An IPv6 address with an embedded IPv4 one is the longest literal.
const LITERAL_LIMIT_BYTES: usize = 45;

/// A host in one form: lower case, no trailing dot, the port apart. IPv6 addresses are in RFC 5952 form, inside brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host<'m> {
    pub name: Cow<'m, str>,
    pub port: Option<u16>,
}

impl<'m> Host<'m> {
    /// Reads `name`, `name:port`, `[v6]` or `[v6]:port`. Nothing is allocated for a host that is in its form already.
    ///
    /// # Errors
    /// [`RequestError`] of the part [`Part::Host`] for everything outside the grammar: user information, lists, blanks, control
    /// bytes, non-ASCII, empty or overlong labels, numbers that are no plain IPv4 address, ports outside 1 to 65535.
    pub fn parse(raw: &'m [u8]) -> Result<Self, RequestError> {
        let text = std::str::from_utf8(raw).map_err(|_| refused("use ASCII (punycode for international names)"))?;
        let (name, port) = if let Some(inside) = text.strip_prefix('[') {
            let (address, rest) = inside.split_once(']').ok_or(refused("the bracket is not closed"))?;
            (ipv6(address)?, rest)
        } else {
            let (name, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
            (reg_name(name)?, rest)
        };
        let port = match port {
            "" => None,
            with_colon => Some(parse_port(with_colon)?),
        };
        Ok(Self { name, port })
    }
}

const fn refused(issue: &'static str) -> RequestError {
    RequestError { field: "host", issue, part: Part::Host }
}

fn ipv6(address: &str) -> Result<Cow<'_, str>, RequestError> {
    const ISSUE: &str = "the brackets hold no IPv6 address";
    if address.len() > LITERAL_LIMIT_BYTES {
        return Err(refused(ISSUE));
    }
    let parsed: Ipv6Addr = address.parse().map_err(|_| refused(ISSUE))?;
    Ok(Cow::Owned(format!("[{parsed}]")))
}

fn reg_name(text: &str) -> Result<Cow<'_, str>, RequestError> {
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.is_empty() {
        return Err(refused("the host is empty"));
    }
    if name.len() > NAME_LIMIT_BYTES {
        return Err(refused("a host name has at most 253 characters"));
    }
    let mut last = "";
    for label in name.split('.') {
        if label.is_empty() || label.len() > LABEL_LIMIT_BYTES {
            return Err(refused("a label has 1 to 63 characters"));
        }
        if !label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
            return Err(refused("only letters, digits, `-`, `_` and `.` make a host name"));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(refused("a label neither starts nor ends with `-`"));
        }
        last = label;
    }
    // `127.1`, `0177.0.0.1` and `0x7f000001` are other spellings of 127.0.0.1 to some resolvers.
    if is_number(last) && name.parse::<Ipv4Addr>().is_err() {
        return Err(refused("an IPv4 address has four plain decimal parts"));
    }
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) { Ok(Cow::Owned(name.to_ascii_lowercase())) } else { Ok(Cow::Borrowed(name)) }
}

fn is_number(label: &str) -> bool {
    let hexadecimal = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    match hexadecimal {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => label.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

fn parse_port(with_colon: &str) -> Result<u16, RequestError> {
    const ISSUE: &str = "a port is a number from 1 to 65535";
    let digits = with_colon.strip_prefix(':').ok_or(refused(ISSUE))?;
    if digits.starts_with('0') || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refused(ISSUE));
    }
    digits.parse().map_err(|_| refused(ISSUE))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(raw: &str, name: &str, port: Option<u16>) {
        let host = Host::parse(raw.as_bytes()).unwrap_or_else(|error| panic!("{raw}: {error}"));
        assert_eq!((&*host.name, host.port), (name, port), "{raw}");
    }

    fn check_refused(raw: &[u8]) {
        let answer = Host::parse(raw);
        assert_eq!(answer.as_ref().err().map(|error| error.part), Some(Part::Host), "{:?} gave {answer:?}", String::from_utf8_lossy(raw));
    }

    // battery: O1 O2
    #[test]
    fn one_form_for_every_spelling() {
        check("example.com", "example.com", None);
        check("EXAMPLE.com", "example.com", None);
        check("example.com.", "example.com", None);
        check("Example.Com.:8080", "example.com", Some(8080));
        check("example.com:1", "example.com", Some(1));
        check("example.com:65535", "example.com", Some(65535));
        check("localhost", "localhost", None);
        check("my_service", "my_service", None);
        check("xn--bcher-kva.example", "xn--bcher-kva.example", None);
        check("192.0.2.1:80", "192.0.2.1", Some(80));
        check("[::1]", "[::1]", None);
        check("[2001:DB8:0:0::1]:443", "[2001:db8::1]", Some(443));
        check("[::ffff:192.0.2.1]", "[::ffff:192.0.2.1]", None);
    }

    #[test]
    fn a_plain_host_is_borrowed() {
        for raw in ["example.com", "example.com.", "example.com:80", "192.0.2.1"] {
            let host = Host::parse(raw.as_bytes()).unwrap();
            assert!(matches!(host.name, Cow::Borrowed(_)), "{raw}");
        }
    }

    // battery: O4 O5 O6 O7
    #[test]
    fn what_is_no_host_is_refused() {
        let long_label = format!("{}.example", "a".repeat(64));
        let long_name = format!("{}example", "a.".repeat(126));
        let refused: &[&[u8]] = &[
            b"",
            b".",
            b"..",
            b"example.com..",
            b".example.com",
            b"a..b",
            b"user@host",
            b"user:pass@host",
            b"host/path",
            b"/host",
            b"host?x",
            b"host#x",
            b"host name",
            b" host",
            b"host ",
            b"host\t",
            b"host\0",
            b"ho\0st",
            b"host\r\n",
            b"host,other",
            b"host;other",
            b"host:80,other:81",
            b"*.example.com",
            b"%65xample.com",
            b"-a.example",
            b"a-.example",
            "bücher.example".as_bytes(),
            "ｅxample.com".as_bytes(),
            "example。com".as_bytes(),
            b"\xff\xfe",
            b"host:",
            b"host:0",
            b"host:080",
            b"host:65536",
            b"host:99999",
            b"host:4294967376",
            b"host:+80",
            b"host:-1",
            b"host:text",
            b"host:80:81",
            b"host: 80",
            b":80",
            b"::1",
            b"[::1",
            b"[::1]80",
            b"[::1]:",
            b"[::1]:0",
            b"[::1].",
            b"[fe80::1%eth0]",
            b"[127.0.0.1]",
            b"[]",
            b"[example]",
            b"127.1",
            b"0177.0.0.1",
            b"1.2.3.4.5",
            b"256.0.0.1",
            b"2130706433",
            b"0x7f000001",
            b"0x",
            b"192.0.2.0x1",
            long_label.as_bytes(),
            long_name.as_bytes(),
        ];
        for raw in refused {
            check_refused(raw);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_it_and_the_form_is_its_own_form(raw in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(host) = Host::parse(&raw) {
                let again = Host::parse(host.name.as_bytes()).unwrap();
                prop_assert_eq!(&again.name, &host.name);
                prop_assert_eq!(again.port, None);
                prop_assert!(host.name.is_ascii() && !host.name.bytes().any(|byte| byte.is_ascii_uppercase()));
            }
        }

        #[test]
        fn case_and_trailing_dot_never_matter(name in "[a-z]{1,12}(\\.[a-z][a-z0-9]{0,10}){0,3}", port in proptest::option::of(1u16..)) {
            let suffix = port.map_or(String::new(), |port| format!(":{port}"));
            for spelling in [format!("{name}{suffix}"), format!("{}{suffix}", name.to_uppercase()), format!("{name}.{suffix}")] {
                let host = Host::parse(spelling.as_bytes()).unwrap();
                prop_assert_eq!((&*host.name, host.port), (name.as_str(), port));
            }
        }
    }
}
