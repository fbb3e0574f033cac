//! Names held against what Envoy writes of names: matchers, lists of them, and regular expressions.

use regex::Regex;

use crate::config::bootstrap::tree::at;
use crate::config::bootstrap::tree::is_true;
use crate::config::bootstrap::tree::items;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::text;
use crate::config::yaml::Node;

type Comparison = fn(&str, &str) -> bool;

/// How a matcher compares a name with what it says.
const COMPARISONS: [(&str, Comparison); 4] = [
    ("exact", |name, said| name == said),
    ("prefix", |name, said| name.starts_with(said)),
    ("suffix", |name, said| name.ends_with(said)),
    ("contains", |name, said| name.contains(said)),
];

/// Whether a matcher, or any of a list of them, takes a name; none where that cannot be told.
pub(super) fn takes_name(matchers: &Node, name: &str) -> Option<bool> {
    let matchers = member(matchers, "patterns").map_or(std::slice::from_ref(matchers), items);
    any(matchers.iter().map(|matcher| one_takes(matcher, name)))
}

/// Whether any is so; none where that hangs on one of which it cannot be told.
pub(super) fn any(known: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let known: Vec<Option<bool>> = known.collect();
    if known.contains(&Some(true)) { Some(true) } else { (!known.contains(&None)).then_some(false) }
}

/// Whether all are so, likewise.
pub(super) fn every(known: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    any(known.map(|one| one.map(|is_so| !is_so))).map(|is_other| !is_other)
}

fn one_takes(matcher: &Node, name: &str) -> Option<bool> {
    let in_case = |text: &str| if is_true(matcher, &["ignore_case"]) { text.to_ascii_lowercase() } else { text.to_owned() };
    match COMPARISONS.iter().find_map(|(field, compare)| Some((member(matcher, field)?, compare))) {
        Some((said, compare)) => Some(compare(&in_case(name), &in_case(text(said)?))),
        None => is_whole_match(at(matcher, &["safe_regex", "regex"]).and_then(text)?, name),
    }
}

/// Whether an expression takes the whole of a name, as Envoy asks; none where it is one of those that only Envoy reads.
pub(super) fn is_whole_match(pattern: &str, name: &str) -> Option<bool> {
    Regex::new(&format!("^(?:{pattern})$")).ok().map(|expression| expression.is_match(name))
}
