//! Lists of names as Envoy's filters have them: matchers, and regular expressions that are plain alternatives.

use std::collections::BTreeSet;

use crate::config::bootstrap::tree::items;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::text;
use crate::config::yaml::Node;

/// Whether a list of matchers lets a name through, as far as can be told: what cannot be told is taken for a yes.
pub(super) fn listed(list: &Node, name: &str) -> bool {
    patterns(list).any(|(kind, pattern)| kind == Pattern::Undecided || fits(kind, pattern, name))
}

/// Whether a matcher surely means a name.
pub(super) fn surely_listed(matcher: &Node, name: &str) -> bool {
    patterns(matcher).any(|(kind, pattern)| fits(kind, &pattern.to_ascii_lowercase(), name))
}

fn fits(kind: Pattern, pattern: &str, name: &str) -> bool {
    match kind {
        Pattern::Exact => pattern == name,
        Pattern::Prefix => name.starts_with(pattern),
        Pattern::Suffix => name.ends_with(pattern),
        Pattern::Contains => name.contains(pattern),
        Pattern::Undecided => false,
    }
}

pub(super) fn exactly_listed(list: &Node, name: &str) -> bool {
    patterns(list).any(|(kind, pattern)| kind == Pattern::Exact && pattern == name)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pattern {
    Exact,
    Prefix,
    Suffix,
    Contains,
    Undecided,
}

fn patterns(list: &Node) -> impl Iterator<Item = (Pattern, &str)> {
    let kinds = [
        ("exact", Pattern::Exact),
        ("prefix", Pattern::Prefix),
        ("suffix", Pattern::Suffix),
        ("contains", Pattern::Contains),
        ("safe_regex", Pattern::Undecided),
    ];
    let matchers = member(list, "patterns").map_or(std::slice::from_ref(list), items);
    matchers
        .iter()
        .filter_map(move |matcher| kinds.iter().find_map(|(key, kind)| Some((*kind, text(member(matcher, key)?).unwrap_or_default()))))
}

/// The names that an alternation of plain names (`-` may be `[-_]`) stands for; none when it is anything more.
pub(super) fn literals_of(pattern: &str) -> Option<BTreeSet<String>> {
    const SEPARATORS_MAX: usize = 8;
    let inside = pattern.strip_prefix('(').and_then(|inside| inside.strip_suffix(')')).unwrap_or(pattern);
    let mut names = BTreeSet::new();
    for alternative in inside.split('|') {
        let mut parts = alternative.split("[-_]");
        let mut spelled = vec![parts.next().unwrap_or_default().to_owned()];
        for (count, part) in parts.enumerate() {
            if count == SEPARATORS_MAX {
                return None;
            }
            spelled = spelled.iter().flat_map(|begun| ["-", "_"].map(|separator| format!("{begun}{separator}{part}"))).collect();
        }
        names.extend(spelled);
    }
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    names.iter().all(|name| name.bytes().all(is_plain)).then_some(names)
}
