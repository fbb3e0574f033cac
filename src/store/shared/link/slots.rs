//! Slots: which one a key lies in, and what members say about them.

use redis::Value;

use crate::store::shared::settings::Server;

pub(super) const SLOTS: u16 = 16_384;

/// The slot of a key: a checksum of what stands between its first braces, or of all of it.
pub(super) fn slot_of(key: &[u8]) -> u16 {
    checksum(tag(key).unwrap_or(key)) % SLOTS
}

fn tag(key: &[u8]) -> Option<&[u8]> {
    let open = key.iter().position(|byte| *byte == b'{')?;
    let rest = key.get(open + 1..)?;
    let close = rest.iter().position(|byte| *byte == b'}')?;
    rest.get(..close).filter(|tag| !tag.is_empty())
}

/// CRC-16 with the polynomial 0x1021, beginning at zero (XMODEM).
fn checksum(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |checksum, byte| {
        (0..8).fold(
            checksum ^ (u16::from(*byte) << 8),
            |checksum: u16, _| {
                if checksum & 0x8000 == 0 { checksum << 1 } else { (checksum << 1) ^ 0x1021 }
            },
        )
    })
}

/// A run of slots with one owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) primary: Server,
}

/// What `CLUSTER SLOTS` answers, as far as it makes sense.
pub(super) fn spans(lines: Vec<Value>, from: &Server) -> Vec<Span> {
    lines.into_iter().take(usize::from(SLOTS)).filter_map(|line| span(line, from)).collect()
}

fn span(line: Value, from: &Server) -> Option<Span> {
    let mut parts = redis::from_redis_value::<Vec<Value>>(line).ok()?.into_iter();
    let first: u16 = redis::from_redis_value(parts.next()?).ok()?;
    let last: u16 = redis::from_redis_value(parts.next()?).ok()?;
    let mut owner = redis::from_redis_value::<Vec<Value>>(parts.next()?).ok()?.into_iter();
    let host: Option<String> = redis::from_redis_value(owner.next()?).ok()?;
    let port: u16 = redis::from_redis_value(owner.next()?).ok()?;
    (first <= last && last < SLOTS).then_some(())?;
    Some(Span { first, last, primary: Server::Tcp { host: host_or(host.unwrap_or_default(), from)?, port } })
}

/// A redirection: the slot, and whose it is.
pub(super) fn redirection(why: &str, from: &Server) -> Option<(u16, Server)> {
    let mut words = why.split_ascii_whitespace();
    let slot = words.next()?.parse().ok().filter(|slot| *slot < SLOTS)?;
    let (host, port) = words.next()?.rsplit_once(':')?;
    Some((slot, Server::Tcp { host: host_or(host.to_owned(), from)?, port: port.parse().ok()? }))
}

/// A member that does not know its own name means the one by which it was asked.
fn host_or(host: String, from: &Server) -> Option<String> {
    match (host.as_str(), from) {
        ("" | "?", Server::Tcp { host, .. }) => Some(host.clone()),
        ("" | "?", Server::Unix(_)) => None,
        _ => Some(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> Server {
        Server::Tcp { host: host.to_owned(), port }
    }

    #[test]
    fn a_key_lies_where_every_client_says_it_lies() {
        assert_eq!(checksum(b"123456789"), 0x31C3);
        for (key, same) in [("{user1000}.following", "user1000"), ("foo{}{bar}", "foo{}{bar}"), ("foo{{bar}}zap", "{bar"), ("a}b{c}", "c")]
        {
            assert_eq!(slot_of(key.as_bytes()), checksum(same.as_bytes()) % SLOTS, "{key}");
        }
        assert_eq!(slot_of(b"foo"), 12_182);
        assert_eq!(slot_of(b"{open"), checksum(b"{open") % SLOTS);
    }

    #[test]
    fn redirections_are_read_and_nonsense_is_not() {
        let from = at("10.0.0.9", 7);
        let cases = [
            ("3999 127.0.0.1:6381", Some((3_999, at("127.0.0.1", 6_381)))),
            ("3999 :6381", Some((3_999, at("10.0.0.9", 6_381)))),
            ("0 ?:1", Some((0, at("10.0.0.9", 1)))),
            ("1 fe80::1:6381", Some((1, at("fe80::1", 6_381)))),
            ("16384 127.0.0.1:6381", None),
            ("3999 127.0.0.1", None),
            ("3999 127.0.0.1:99999", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(redirection(text, &from), expected, "{text}");
        }
        assert_eq!(redirection("1 :2", &Server::Unix("/x".into())), None);
    }

    #[test]
    fn a_table_with_nonsense_in_it_gives_what_makes_sense() {
        let owner = |host: Value, port| Value::Array(vec![host, Value::Int(port), Value::BulkString(b"id".to_vec())]);
        let line = |first, last, owner| Value::Array(vec![Value::Int(first), Value::Int(last), owner]);
        let host = || Value::BulkString(b"10.0.0.1".to_vec());
        let lines = vec![
            line(0, 5, owner(host(), 1)),
            line(6, 9, owner(Value::Nil, 2)),
            line(5, 4, owner(host(), 1)),
            line(0, 16_384, owner(host(), 1)),
            line(0, 1, Value::Nil),
            Value::Nil,
        ];
        let expected = [Span { first: 0, last: 5, primary: at("10.0.0.1", 1) }, Span { first: 6, last: 9, primary: at("self", 2) }];
        assert_eq!(spans(lines, &at("self", 7)), expected);
    }
}
