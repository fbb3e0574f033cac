//! Keys that Envoy passes over: those with the tag `!ignore`, which files use for their anchors.

use std::sync::Arc;

use crate::config::complaint::Complaint;
use crate::config::yaml;
use crate::config::yaml::Node;
use crate::config::yaml::Value;

const TAG: &str = "!ignore ";
/// What stands in its place while the document is read; as long, so that places stay.
const MARK: &str = "_ignore_";

/// The tree of one document, without what Envoy passes over.
pub(super) fn read_document(file: &Arc<str>, text: &str, errors: &mut Vec<Complaint>) -> Option<Node> {
    let mut node = yaml::parse(file, &mark(text), errors)?;
    drop_marked(&mut node);
    Some(node)
}

/// Only a tag where a key may begin; anywhere else it stays, and is refused as every unknown tag is.
fn mark(text: &str) -> String {
    let mut marked = String::with_capacity(text.len());
    let mut pieces = text.split(TAG);
    marked.extend(pieces.next());
    for piece in pieces {
        let before = marked.rsplit('\n').next().unwrap_or_default().trim_end();
        let begins_key = before.is_empty() || before.ends_with(['{', ',', '-']);
        marked.push_str(if begins_key { MARK } else { TAG });
        marked.push_str(piece);
    }
    marked
}

fn drop_marked(node: &mut Node) {
    match &mut node.value {
        Value::Mapping(mapping) => {
            mapping.entries.retain(|entry| !entry.key.starts_with(MARK));
            mapping.entries.iter_mut().for_each(|entry| drop_marked(&mut entry.node));
        }
        Value::List(items) => items.iter_mut().for_each(drop_marked),
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Decimal(_) | Value::OddNumber(_) | Value::Text(_) => {}
    }
}
