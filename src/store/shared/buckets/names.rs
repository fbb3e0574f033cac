//! What a bucket is called on the server.

use crate::store::Take;

/// `<prefix>:1:b:{<root>}:<policy>:<owner>`: whatever is asked together has one root, and so lies in one slot.
pub(super) fn name(prefix: &str, take: &Take<'_>) -> Vec<u8> {
    let mut name = Vec::with_capacity(prefix.len() + take.root.len() + take.policy.name.len() + take.owner.len() + 16);
    name.extend_from_slice(prefix.as_bytes());
    name.extend_from_slice(b":1:b:{");
    push_escaped(&mut name, take.root);
    if take.root.is_empty() {
        // An empty tag is none; no escaped text is a percent sign alone.
        name.push(b'%');
    }
    name.extend_from_slice(b"}:");
    push_escaped(&mut name, &take.policy.name);
    name.push(b':');
    push_escaped(&mut name, take.owner);
    name
}

/// Whatever could be read as part of a key's structure, of a pattern or of a line becomes `%` and two digits; so does `%`, so that
/// no two texts become one.
fn push_escaped(name: &mut Vec<u8>, text: &str) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'@' | b'/' | b'+' | b'=') {
            name.push(byte);
        } else {
            let digit = |value: u8| DIGITS.get(usize::from(value & 15)).copied().unwrap_or(b'0');
            name.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::quota::Limit;
    use crate::model::quota::Per;
    use crate::model::quota::Policy;

    fn named(root: &str, policy: &str, owner: &str) -> String {
        let policy = Policy { name: policy.into(), per: Per::User, limit: Limit::new(60, None) };
        String::from_utf8(name("tollgate", &Take { policy: &policy, owner, root, cost: 1 })).unwrap()
    }

    // battery: R16
    #[test]
    fn a_bucket_of_a_crafted_user_is_nobody_elses() {
        let table = [
            ("org:acme", "free", "user:alice", "tollgate:1:b:{org%3Aacme}:free:user%3Aalice"),
            ("", "free", "x", "tollgate:1:b:{%}:free:x"),
            ("%", "free", "x", "tollgate:1:b:{%25}:free:x"),
            ("a}:free:b", "c", "d", "tollgate:1:b:{a%7D%3Afree%3Ab}:c:d"),
            ("{x} *?[\r\n\0", "p", "é", "tollgate:1:b:{%7Bx%7D%20%2A%3F%5B%0D%0A%00}:p:%C3%A9"),
        ];
        for (root, policy, owner, expected) in table {
            assert_eq!(named(root, policy, owner), expected);
        }
    }

    proptest! {
        // battery: R16
        #[test]
        fn two_buckets_never_share_a_name(one in ("[a%{}: 2]{0,4}", "[a%{}: 2]{0,4}", "[a%{}: 2]{0,4}"), two in ("[a%{}: 2]{0,4}", "[a%{}: 2]{0,4}", "[a%{}: 2]{0,4}")) {
            let same = named(&one.0, &one.1, &one.2) == named(&two.0, &two.1, &two.2);
            prop_assert_eq!(same, one == two);
        }

        #[test]
        fn what_has_one_root_has_one_tag(root in any::<String>(), owner in any::<String>()) {
            let tag = |name: &str| name.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag.to_owned());
            let tag_here = tag(&named(&root, "p", &owner));
            prop_assert!(tag_here.as_ref().is_some_and(|tag| !tag.is_empty()));
            prop_assert_eq!(tag_here, tag(&named(&root, "q", "x")));
        }
    }
}
