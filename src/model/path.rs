//! The path of a request, in one form or not at all: whatever two servers could read in two ways is refused, never repaired.

use std::borrow::Cow;

use crate::model::request::Part;
use crate::model::request::RequestError;

/// Longest path that is judged.
pub const PATH_LIMIT_BYTES: usize = 8 * 1024;
/// Longest query that is looked at.
pub const QUERY_LIMIT_BYTES: usize = 64 * 1024;

/// A path in its one form: starts with `/`, no dot segments, no empty segments (but for a trailing slash), escapes of
/// unreserved characters decoded, all others in upper-case hex, no query.
///
/// `;` stays, because only a route may opt in to it: [`Path::has_matrix`] tells, [`Path::without_matrix`] cuts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path<'m>(pub(in crate::model) Cow<'m, str>);

/// A target's path and, after its first `?`, its query.
///
/// # Errors
/// [`RequestError`] when the query is longer than [`QUERY_LIMIT_BYTES`], is not UTF-8, or holds blanks or control bytes.
pub fn split_target(target: &[u8]) -> Result<(&[u8], Option<&str>), RequestError> {
    let Some(at) = target.iter().position(|byte| *byte == b'?') else {
        return Ok((target, None));
    };
    let (path, with_mark) = target.split_at(at);
    let query = with_mark.get(1..).unwrap_or_default();
    let refused = |issue| RequestError { field: "query", issue, part: Part::Path };
    if query.len() > QUERY_LIMIT_BYTES {
        return Err(refused("a query has at most 65536 bytes"));
    }
    if query.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
        return Err(refused("blanks and control bytes must be percent-encoded"));
    }
    let query = std::str::from_utf8(query).map_err(|_| refused("the query is not UTF-8"))?;
    Ok((path, Some(query)))
}

impl<'m> Path<'m> {
    /// The canonical form of a raw path without its query. Nothing is allocated for a path that is in its form already.
    ///
    /// # Errors
    /// [`RequestError`] of the part [`Part::Path`] for every path that has no single meaning.
    pub fn parse(raw: &'m [u8]) -> Result<Self, RequestError> {
        if raw.len() > PATH_LIMIT_BYTES {
            return Err(refused("a path has at most 8192 bytes"));
        }
        if raw.first() != Some(&b'/') {
            return Err(refused("a path starts with `/`"));
        }
        if !raw.iter().all(|byte| may_stand(*byte)) {
            return Err(refused("a character that must be percent-encoded, or may not occur at all"));
        }
        let text = std::str::from_utf8(raw).map_err(|_| refused("the path is not ASCII"))?;
        let canonical = if text.contains('%') { unescape(text)? } else { Cow::Borrowed(text) };
        check_segments(&canonical)?;
        Ok(Self(canonical))
    }

    /// The canonical text, with its leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a segment carries `;` parameters.
    pub fn has_matrix(&self) -> bool {
        self.0.contains(';')
    }

    /// The same path without the `;` parameters of any segment. What is left is canonical: [`Path::parse`] refused segments that
    /// would become empty or a dot segment.
    pub fn without_matrix(&self) -> Cow<'_, str> {
        if !self.has_matrix() {
            return Cow::Borrowed(&self.0);
        }
        let mut stripped = String::with_capacity(self.0.len());
        for (position, segment) in self.0.split('/').enumerate() {
            if position > 0 {
                stripped.push('/');
            }
            stripped.push_str(segment.split(';').next().unwrap_or_default());
        }
        Cow::Owned(stripped)
    }
}

const fn refused(issue: &'static str) -> RequestError {
    RequestError { field: "path", issue, part: Part::Path }
}

/// RFC 3986's `pchar`, `/` and `%`. A raw `"`, `<`, `|` … would be a second spelling of its escape.
const fn may_stand(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(byte, b'/' | b'%' | b':' | b'@' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn unescape(text: &str) -> Result<Cow<'_, str>, RequestError> {
    let mut canonical = String::with_capacity(text.len());
    // Escapes above ASCII stay, so only their bytes are collected, to see whether they are UTF-8.
    let mut beyond_ascii: Vec<u8> = Vec::new();
    let mut pieces = text.split('%');
    canonical.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let (value, rest) = split_escape(piece)?;
        match value {
            0..=0x1f | 0x7f => return Err(refused("a control byte is percent-encoded")),
            b'/' | b'\\' => return Err(refused("a slash is percent-encoded")),
            b'.' => return Err(refused("a dot is percent-encoded")),
            b'%' => return Err(refused("a percent sign is percent-encoded")),
            unreserved if is_unreserved(unreserved) => canonical.push(char::from(unreserved)),
            other => {
                canonical.push('%');
                canonical.push(hex_digit(other >> 4));
                canonical.push(hex_digit(other & 0x0f));
            }
        }
        if value >= 0x80 {
            beyond_ascii.push(value);
        }
        // A character's bytes follow each other without anything between them.
        if (value < 0x80 || !rest.is_empty()) && !beyond_ascii.is_empty() {
            check_utf8(&beyond_ascii)?;
            beyond_ascii.clear();
        }
        canonical.push_str(rest);
    }
    check_utf8(&beyond_ascii)?;
    Ok(if canonical == text { Cow::Borrowed(text) } else { Cow::Owned(canonical) })
}

fn split_escape(piece: &str) -> Result<(u8, &str), RequestError> {
    const ISSUE: &str = "`%` is followed by two hexadecimal digits";
    let (digits, rest) = piece.split_at_checked(2).ok_or(refused(ISSUE))?;
    // `from_str_radix` would take a sign.
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(refused(ISSUE));
    }
    let value = u8::from_str_radix(digits, 16).map_err(|_| refused(ISSUE))?;
    Ok((value, rest))
}

fn hex_digit(value: u8) -> char {
    char::from_digit(u32::from(value), 16).unwrap_or('0').to_ascii_uppercase()
}

fn check_utf8(bytes: &[u8]) -> Result<(), RequestError> {
    let text = std::str::from_utf8(bytes).map_err(|_| refused("the escapes are not UTF-8"))?;
    if text.chars().any(char::is_control) {
        return Err(refused("a control character is percent-encoded"));
    }
    Ok(())
}

fn check_segments(canonical: &str) -> Result<(), RequestError> {
    let inner = canonical.strip_prefix('/').unwrap_or(canonical);
    let mut segments = inner.split('/').peekable();
    while let Some(segment) = segments.next() {
        if segment.is_empty() {
            if segments.peek().is_some() {
                return Err(refused("an empty segment (`//`)"));
            }
            continue;
        }
        // What is left without parameters is the segment's beginning.
        if !segment.starts_with(['.', ';', '%']) {
            continue;
        }
        // Some servers cut `;` parameters before they resolve dots, some decode `%3B` before they cut.
        match before_parameters(segment) {
            "" => return Err(refused("an empty segment (`/;`)")),
            "." | ".." => return Err(refused("a dot segment")),
            _ => {}
        }
    }
    Ok(())
}

fn before_parameters(segment: &str) -> &str {
    let plain = segment.split(';').next().unwrap_or_default();
    plain.split("%3B").next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(raw: &str, canonical: &str) {
        let path = Path::parse(raw.as_bytes()).unwrap_or_else(|error| panic!("{raw}: {error}"));
        assert_eq!(path.as_str(), canonical, "{raw}");
        if raw == canonical {
            assert!(matches!(path.0, Cow::Borrowed(_)), "{raw} was copied");
        }
    }

    fn check_refused(raw: &[u8]) {
        let answer = Path::parse(raw);
        assert_eq!(answer.as_ref().err().map(|error| error.part), Some(Part::Path), "{:?} gave {answer:?}", String::from_utf8_lossy(raw));
    }

    proptest! {
        #[test]
        fn a_segment_that_begins_otherwise_is_none_that_resolves(segment in "(\\.|;|%3B|%2D|a|A|-){0,5}") {
            let resolves = matches!(before_parameters(&segment), "" | "." | "..");
            prop_assert!(segment.is_empty() || segment.starts_with(['.', ';', '%']) || !resolves);
            prop_assert_eq!(check_segments(&format!("/a/{segment}/b")).is_err(), resolves);
        }
    }

    // battery: P10 P20
    #[test]
    fn one_form_for_every_spelling() {
        check("/", "/");
        check("/admin", "/admin");
        check("/admin/", "/admin/");
        check("/adm%69n", "/admin");
        check("/%61dmin", "/admin");
        check("/%61%64%6D%69%6e", "/admin");
        check("/a%2Db%5f%7e", "/a-b_~");
        check("/a%3fb", "/a%3Fb");
        check("/a%23b", "/a%23b");
        check("/a%3Ab", "/a%3Ab");
        check("/b%c3%bCcher", "/b%C3%BCcher");
        check("/%E2%82%AC/%F0%9F%98%80", "/%E2%82%AC/%F0%9F%98%80");
        check("/a%20b", "/a%20b");
        check("/a:b@c!d$e&f'g(h)i*j+k,l=m", "/a:b@c!d$e&f'g(h)i*j+k,l=m");
        check("/a.b/...", "/a.b/...");
        check("/.well-known/x", "/.well-known/x");
        check("/a;v=1", "/a;v=1");
        check("/a%3bv", "/a%3Bv");
    }

    // battery: P16 P17
    #[test]
    fn what_differs_stays_different() {
        for (one, other) in [("/Admin", "/admin"), ("/ADMIN", "/admin"), ("/admin/", "/admin"), ("/admin.", "/admin")] {
            assert_ne!(Path::parse(one.as_bytes()).unwrap(), Path::parse(other.as_bytes()).unwrap());
        }
        check_refused(b"/admin/.");
    }

    // battery: P1 P2 P4 P5 P7 P9 P11 P12 P14 P15 P22
    #[test]
    fn what_has_no_single_meaning_is_refused() {
        let refused: &[&[u8]] = &[
            b"",
            b"*",
            b"admin",
            b"http://other/admin",
            b"?",
            b" /admin",
            b"/a/../admin",
            b"/a/./admin",
            b"/..",
            b"/.",
            b"/../admin",
            b"/a/..",
            b"/%2e%2e/admin",
            b"/a/.%2e/admin",
            b"/a/%2E./admin",
            b"/a%2eb",
            b"/%252e%252e/admin",
            b"/a%25b",
            b"/a/..;x=y/admin",
            b"/a/..;/admin",
            b"/a/.;/admin",
            b"/a/..%3bx/admin",
            b"/;x/admin",
            b"/admin;/;x",
            b"/%3bx/admin",
            b"//admin",
            b"/a//admin",
            b"/a//",
            b"//",
            b"/a\\b",
            b"/a\\..\\admin",
            b"/a%5cb",
            b"/a%5Cb",
            b"/a%2fb",
            b"/a%2Fb",
            b"/%zz",
            b"/%2",
            b"/%",
            b"/a%",
            b"/a%4",
            b"/%+1",
            b"/%-1",
            b"/% 1",
            b"/%0x41",
            b"/%00",
            b"/admin%00.js",
            b"/admin\0",
            b"/%09",
            b"/%0d%0a",
            b"/%7f",
            b"/a b",
            b"/a\tb",
            b"/a\r\nb",
            b"/\x7f",
            b"/a#b",
            b"/a?b",
            b"/a\"b",
            b"/a<b",
            b"/a{b}",
            b"/a|b",
            b"/a^b",
            b"/a`b",
            b"/%c0%ae%c0%ae/admin",
            b"/%c0%af",
            b"/%e0%80%af",
            b"/%ed%a0%80",
            b"/%80",
            b"/%bf",
            b"/%c3",
            b"/%c3x%bc",
            b"/%c3/%bc",
            b"/%c3%41",
            b"/%f5%80%80%80",
            b"/%ff",
            b"/%c2%85",
            "/bücher".as_bytes(),
            "/％2e".as_bytes(),
            b"/\xc0\xae",
            b"/\xff",
        ];
        for raw in refused {
            check_refused(raw);
        }
    }

    // battery: P24
    #[test]
    fn length_is_bounded_and_time_is_linear() {
        check_refused(&b"/a".repeat(10_000));
        check_refused(&b"/..".repeat(10_000));
        let longest = format!("/{}", "a".repeat(PATH_LIMIT_BYTES - 1));
        assert!(Path::parse(longest.as_bytes()).is_ok());
        check_refused(format!("{longest}a").as_bytes());

        // The worst that the bound lets in, often enough that quadratic work would be felt.
        for worst in ["/a".repeat(4096), "/%61".repeat(2048), "/%C3%BC".repeat(1170), format!("/a{}", ";".repeat(8000))] {
            for _ in 0..100 {
                assert!(Path::parse(worst.as_bytes()).is_ok_and(|path| path.without_matrix().len() <= worst.len()));
            }
        }
    }

    // battery: P19
    #[test]
    fn the_query_begins_at_the_first_question_mark() {
        let many = format!("/a?{}", "x=1&".repeat(10_000));
        for (target, path, query) in [
            ("/a", "/a", None),
            ("/a?", "/a", Some("")),
            ("/a??", "/a", Some("?")),
            ("/a?b=/../c", "/a", Some("b=/../c")),
            ("/a?b;c=d#e", "/a", Some("b;c=d#e")),
            ("?", "", Some("")),
            ("", "", None),
            (many.as_str(), "/a", Some(&many[3..])),
        ] {
            assert_eq!(split_target(target.as_bytes()), Ok((path.as_bytes(), query)), "{target}");
        }
        for target in ["/a?b c", "/a?b\r\n", "/a?\0", "/a?\x7f"] {
            assert!(split_target(target.as_bytes()).is_err(), "{target:?}");
        }
        assert!(split_target(b"/a?\xff").is_err());
        assert!(split_target(format!("/a?{}", "b".repeat(QUERY_LIMIT_BYTES + 1)).as_bytes()).is_err());
    }

    // battery: P6
    #[test]
    fn matrix_parameters_are_seen_and_cut_from_every_segment() {
        for (raw, stripped) in
            [("/admin;v=1", "/admin"), ("/a;x/b;y=1;z/c", "/a/b/c"), ("/a;x/", "/a/"), ("/a;", "/a"), ("/a/b;%C3%BC", "/a/b")]
        {
            let path = Path::parse(raw.as_bytes()).unwrap();
            assert!(path.has_matrix(), "{raw}");
            assert_eq!(path.without_matrix(), stripped, "{raw}");
        }
        let plain = Path::parse(b"/a/b").unwrap();
        assert!(!plain.has_matrix());
        assert!(matches!(plain.without_matrix(), Cow::Borrowed("/a/b")));
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Path::parse(&raw);
        }

        #[test]
        fn the_form_is_its_own_form(raw in "/([a-zA-Z0-9._~;:/-]|%[0-9a-fA-F]{2}){0,40}") {
            if let Ok(path) = Path::parse(raw.as_bytes()) {
                let again = Path::parse(path.as_str().as_bytes()).unwrap();
                prop_assert_eq!(again.as_str(), path.as_str());
                prop_assert!(matches!(again.0, Cow::Borrowed(_)));
                let stripped = path.without_matrix().into_owned();
                let stripped_again = Path::parse(stripped.as_bytes()).unwrap();
                prop_assert_eq!(stripped_again.as_str(), stripped.as_str());
            }
        }

        /// What a decoding, dot-resolving, slash-merging server makes of an accepted path is that path's own decoding.
        #[test]
        fn no_server_can_read_another_path(raw in "/([ab./;\\\\%]|%2[eEfF5]|%5[cC]|%3[bB]|%61|%00|//|\\.\\.){0,24}") {
            if let Ok(path) = Path::parse(raw.as_bytes()) {
                let decoded = lenient_decode(&lenient_decode(path.as_str().as_bytes()));
                let mut kept: Vec<&[u8]> = Vec::new();
                for segment in decoded.split(|byte| matches!(byte, b'/' | b'\\')).skip(1) {
                    match segment.split(|byte| *byte == b';').next().unwrap_or_default() {
                        b"." => {}
                        b".." => { kept.pop(); }
                        _ => kept.push(segment),
                    }
                }
                let rebuilt: Vec<u8> = kept.iter().flat_map(|segment| [b"/".as_slice(), segment].concat()).collect();
                prop_assert_eq!(&rebuilt, &decoded);
            }
        }

        #[test]
        fn escaping_unreserved_characters_changes_nothing(plain in "/[a-zA-Z0-9_~-]{1,20}", upper in any::<bool>()) {
            let mut escaped = String::from("/");
            for byte in plain.bytes().skip(1) {
                let escape = if upper { format!("%{byte:02X}") } else { format!("%{byte:02x}") };
                escaped.push_str(&escape);
            }
            let path = Path::parse(escaped.as_bytes()).unwrap();
            prop_assert_eq!(path.as_str(), plain.as_str());
        }
    }

    fn lenient_decode(bytes: &[u8]) -> Vec<u8> {
        let mut decoded = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let escape = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
            match (bytes[at], escape.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
                (b'%', Some(value)) => {
                    decoded.push(value);
                    at += 3;
                }
                (byte, _) => {
                    decoded.push(byte);
                    at += 1;
                }
            }
        }
        decoded
    }
}
