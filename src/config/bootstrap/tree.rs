//! Walking a bootstrap: fields by either spelling (`normalize_path`, `normalizePath`), extensions by their type.

use std::collections::BTreeSet;

use crate::config::yaml::Entry;
use crate::config::yaml::Mapping;
use crate::config::yaml::Node;
use crate::config::yaml::Value;

/// What a node is, for those who only look.
pub(super) enum Shape<'n> {
    Scalar,
    List(&'n [Node]),
    Mapping(&'n Mapping),
}

pub(super) fn shape(node: &Node) -> Shape<'_> {
    match &node.value {
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Decimal(_) | Value::OddNumber(_) | Value::Text(_) => Shape::Scalar,
        Value::List(items) => Shape::List(items),
        Value::Mapping(mapping) => Shape::Mapping(mapping),
    }
}

/// A scalar as it was written.
pub(super) fn text(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Bool(true) => Some("true"),
        Value::Bool(false) => Some("false"),
        Value::Integer(text) | Value::Decimal(text) | Value::OddNumber(text) | Value::Text(text) => Some(text),
        Value::Null | Value::List(_) | Value::Mapping(_) => None,
    }
}

pub(super) fn items(node: &Node) -> &[Node] {
    match shape(node) {
        Shape::List(items) => items,
        Shape::Scalar | Shape::Mapping(_) => &[],
    }
}

/// The fields of a mapping.
pub(super) fn entries(node: &Node) -> &[Entry] {
    match shape(node) {
        Shape::Mapping(mapping) => &mapping.entries,
        Shape::Scalar | Shape::List(_) => &[],
    }
}

/// Whether a field is there and true, in any of the words that Envoy's readers of YAML and of JSON take for it.
pub(super) fn is_true(node: &Node, names: &[&str]) -> bool {
    const WORDS: [&str; 7] = ["true", "t", "yes", "y", "on", "1", "1.0"];
    at(node, names).and_then(text).is_some_and(|word| WORDS.iter().any(|known| known.eq_ignore_ascii_case(word)))
}

/// Whether a field is there and not surely false: so is asked about what must not be true.
pub(super) fn may_be_true(node: &Node, names: &[&str]) -> bool {
    const WORDS: [&str; 7] = ["false", "f", "no", "n", "off", "0", "0.0"];
    let is_false = |node: &Node| text(node).is_some_and(|word| WORDS.iter().any(|known| known.eq_ignore_ascii_case(word)));
    at(node, names).is_some_and(|node| !is_false(node))
}

/// What a field says of several words, which Envoy takes in any case, with dashes, and by their numbers too.
pub(super) fn word<'n>(node: &'n Node, names: &[&str], words: &[&'static str]) -> Option<&'n str> {
    let written = at(node, names).and_then(text)?;
    let by_number = written.parse::<usize>().ok().and_then(|number| words.get(number));
    let spelled = written.to_ascii_uppercase().replace('-', "_");
    by_number.or_else(|| words.iter().find(|word| **word == spelled)).map_or(Some(written), |word| Some(*word))
}

/// Numbers in other than plain digits: where each stands, its field, and what is written. Only the mode of a file is written so by habit.
pub(super) fn odd_numbers(root: &Node) -> Vec<(&Node, &str, &str)> {
    let odd = |node: &'_ Node| matches!(node.value, Value::OddNumber(_));
    let fields = |node| entries(node).iter().filter(|entry| entry.key != "mode").map(move |entry| (node, &*entry.key, &entry.node));
    let listed = |node| items(node).iter().map(|item| (item, "", item));
    let within = all(root, &|_| true).into_iter().flat_map(|node| fields(node).chain(listed(node)));
    within.filter(|(_, _, node)| odd(node)).filter_map(|(place, field, node)| Some((place, field, text(node)?))).collect()
}

/// A length of time as Envoy (`0.250s`) and programs in Go (`250ms`, `1h2m3.5s`) write it; none where it cannot be read.
pub(super) fn seconds(node: &Node) -> Option<f64> {
    const UNITS: [(&str, f64); 8] =
        [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("μs", 1e-6), ("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let written = text(node)?;
    let (sign, mut rest) = written.strip_prefix('-').map_or((1.0, written.strip_prefix('+').unwrap_or(written)), |rest| (-1.0, rest));
    if rest == "0" {
        return Some(0.0);
    }
    let is_of_number = |letter: char| letter.is_ascii_digit() || letter == '.';
    let mut sum = None;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|letter| !is_of_number(letter))?);
        let (unit, after) = after.split_at(after.find(is_of_number).unwrap_or(after.len()));
        let (_, factor) = UNITS.iter().find(|(known, _)| *known == unit)?;
        sum = Some(sum.unwrap_or(0.0) + sign * number.parse::<f64>().ok()? * factor);
        rest = after;
    }
    sum
}

/// A field, in snake case or in camel case; one without a value is not there. A `TypedStruct` is seen as what it stands for.
pub(super) fn member<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    let field = |node: &'n Node, name: &str| {
        let is_there = |entry: &&Entry| is_named(&entry.key, name) && !matches!(entry.node.value, Value::Null);
        entries(node).iter().find(is_there).map(|entry| &entry.node)
    };
    let is_wrapped = field(node, "@type")
        .and_then(text)
        .is_some_and(|name| name.ends_with("type.v3.TypedStruct") || name.ends_with("type.v1.TypedStruct"));
    match (is_wrapped, name) {
        (false, _) => field(node, name),
        (true, "@type") => field(node, "type_url"),
        (true, _) => field(field(node, "value")?, name),
    }
}

pub(super) fn at<'n>(node: &'n Node, names: &[&str]) -> Option<&'n Node> {
    names.iter().try_fold(node, |node, name| member(node, name))
}

pub(super) fn has_type(node: &Node, ending: &str) -> bool {
    member(node, "@type").and_then(text).is_some_and(|name| name.ends_with(ending))
}

/// Every node below (and with) this one that fits, in the order of the file.
pub(super) fn all<'n>(root: &'n Node, fits: &dyn Fn(&Node) -> bool) -> Vec<&'n Node> {
    let mut found = Vec::new();
    // Nesting is bounded by the reader, so this may call itself.
    visit(root, &mut |node| {
        if fits(node) {
            found.push(node);
        }
    });
    found
}

pub(super) fn all_of_type<'n>(root: &'n Node, ending: &str) -> Vec<&'n Node> {
    all(root, &|node| has_type(node, ending))
}

pub(super) fn contains_type(root: &Node, ending: &str) -> bool {
    !all_of_type(root, ending).is_empty()
}

/// The values of a field wherever it occurs.
pub(super) fn members_named<'n>(root: &'n Node, name: &str) -> Vec<&'n Node> {
    all(root, &|node| member(node, name).is_some()).into_iter().filter_map(|node| member(node, name)).collect()
}

fn visit<'n>(node: &'n Node, see: &mut dyn FnMut(&'n Node)) {
    see(node);
    match shape(node) {
        Shape::Scalar => {}
        Shape::List(items) => items.iter().for_each(|item| visit(item, see)),
        Shape::Mapping(mapping) => mapping.entries.iter().for_each(|entry| visit(&entry.node, see)),
    }
}

/// Fields that stand twice in one mapping, in either spelling, so that one would be judged and the other be in force.
pub(super) fn spelled_twice(root: &Node) -> Vec<(&Node, &Entry)> {
    let twice = |node| {
        let mut known = BTreeSet::new();
        entries(node).iter().filter(move |entry| !known.insert(camel(&entry.key).collect::<Vec<u8>>())).map(move |entry| (node, entry))
    };
    all(root, &|node| !entries(node).is_empty()).into_iter().flat_map(twice).collect()
}

fn is_named(written: &str, name: &str) -> bool {
    camel(written).eq(camel(name))
}

/// A name in camel case, whichever it was in.
fn camel(name: &str) -> impl Iterator<Item = u8> {
    let mut begins = false;
    name.bytes().filter_map(move |byte| match (byte, std::mem::replace(&mut begins, byte == b'_')) {
        (b'_', _) => None,
        (_, true) => Some(byte.to_ascii_uppercase()),
        (_, false) => Some(byte),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml::Place;

    #[test]
    fn a_length_of_time_is_read_as_go_reads_it_or_not_at_all() {
        for (written, expected) in [
            ("0.250s", Some(0.25)),
            ("250ms", Some(0.25)),
            ("1m30s", Some(90.0)),
            ("1h2m3.5s", Some(3723.5)),
            (".5s", Some(0.5)),
            ("+1.s", Some(1.0)),
            ("-1m30s", Some(-90.0)),
            ("500us", Some(0.0005)),
            ("500µs", Some(0.0005)),
            ("500μs", Some(0.0005)),
            ("1000000000ns", Some(1.0)),
            ("0", Some(0.0)),
            ("", None),
            ("-", None),
            ("5", None),
            ("1m30", None),
            ("s", None),
            (".s", None),
            ("1.2.3s", None),
            ("1d", None),
            ("1 s", None),
            ("infs", None),
            ("nans", None),
            ("1e3s", None),
            ("--1s", None),
        ] {
            let node = Node { value: Value::Text(written.to_owned()), place: Place { line: 1, column: 1 }, index: 0, mended: false };
            let read = seconds(&node);
            let is_same = match (read, expected) {
                (Some(read), Some(expected)) => (read - expected).abs() < 1e-9,
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            assert!(is_same, "{written:?}: {read:?}");
        }
    }
}
