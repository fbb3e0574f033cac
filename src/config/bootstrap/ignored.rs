//! Keys that Envoy passes over: those with the tag `!ignore`, which files use for their anchors.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::config::complaint::Complaint;
use crate::config::yaml;
use crate::config::yaml::Node;
use crate::config::yaml::Place;
use crate::config::yaml::Value;

const TAG: &str = "!ignore ";
/// What stands in its place while the document is read; as long, so that places stay, and of letters that nobody writes.
const MARK: &str = "\u{e000}ignore\u{e000}";

/// The tree of one document, without what Envoy passes over. `lines`: so many are above it in its file.
pub(super) fn read_document(file: &Arc<str>, lines: u32, text: &str, errors: &mut Vec<Complaint>) -> Option<Node> {
    let (marked, places) = mark(lines, text);
    let mut node = yaml::parse_below(file, lines, &marked, errors)?;
    drop_marked(&mut node, &places);
    Some(node)
}

/// Only a tag where a key may begin; anywhere else it stays, and is refused as every unknown tag is. Where the marks are is handed back,
/// since a key may be called like one.
fn mark(lines: u32, text: &str) -> (String, BTreeSet<(u32, u32)>) {
    let mut marked = String::with_capacity(text.len());
    let mut places = BTreeSet::new();
    let mut pieces = text.split(TAG);
    marked.extend(pieces.next());
    let (mut counted, mut line) = (0, lines.saturating_add(1));
    for piece in pieces {
        let begins = marked.rfind('\n').map_or(0, |end| end + 1);
        line = line.saturating_add(marked.get(counted..).map_or(0, |new| narrow(new.matches('\n').count())));
        counted = marked.len();
        let before = marked.get(begins..).unwrap_or_default();
        let begins_key = before.trim_end().is_empty() || before.trim_end().ends_with(['{', ',', '-']);
        if begins_key {
            places.insert((line, narrow(before.chars().count() + 1)));
        }
        marked.push_str(if begins_key { MARK } else { TAG });
        marked.push_str(piece);
    }
    (marked, places)
}

fn narrow(wide: usize) -> u32 {
    u32::try_from(wide).unwrap_or(u32::MAX)
}

/// A mark within a text, or in a name that came from elsewhere, is what it was before.
fn drop_marked(node: &mut Node, places: &BTreeSet<(u32, u32)>) {
    let is_marked = |place: Place| places.contains(&(place.line, place.column));
    match &mut node.value {
        Value::Mapping(mapping) => {
            mapping.entries.retain(|entry| !(entry.key.starts_with(MARK) && is_marked(entry.key_place)));
            for entry in &mut mapping.entries {
                entry.key = entry.key.replace(MARK, TAG);
                drop_marked(&mut entry.node, places);
            }
        }
        Value::List(items) => items.iter_mut().for_each(|item| drop_marked(item, places)),
        Value::Text(text) => *text = text.replace(MARK, TAG),
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Decimal(_) | Value::OddNumber(_) => {}
    }
}
