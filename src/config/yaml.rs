//! YAML text to a tree in which every value knows its place. The only user of the YAML reader's own limits.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::Deserializer;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;
use serde_yaml::Spanned;

use crate::config::complaint::Complaint;

/// No config file may be larger than this.
pub(in crate::config) const LARGEST_FILE_BYTES: usize = 4 * 1024 * 1024;
const DEEPEST_NESTING: usize = 32;
const MOST_NODES: usize = 200_000;
const MOST_REPLAYED_EVENTS: usize = 10_000;

/// Where a value stands, counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::config) struct Place {
    pub(in crate::config) line: u32,
    pub(in crate::config) column: u32,
}

/// One value.
#[derive(Clone, Debug)]
pub(in crate::config) struct Node {
    pub(in crate::config) place: Place,
    pub(in crate::config) value: Value,
    /// Position in the file's list, which stays when bad neighbours are taken out.
    pub(in crate::config) index: usize,
    /// Something inside was bad, was reported, and was taken out.
    pub(in crate::config) mended: bool,
}

/// Scalars keep the text that was written: what a number means is decided where a number is wanted.
#[derive(Clone, Debug)]
pub(in crate::config) enum Value {
    Null,
    Bool(bool),
    /// Plain decimal digits, perhaps with a sign.
    Integer(String),
    /// Plain decimal digits with one point.
    Decimal(String),
    /// Something that YAML may read as a number and people may not: `1e3`, `0o10`, `1_000`, `.inf`.
    OddNumber(String),
    Text(String),
    List(Vec<Node>),
    Mapping(Mapping),
}

#[derive(Clone, Debug, Default)]
pub(in crate::config) struct Mapping {
    pub(in crate::config) entries: Vec<Entry>,
    /// Keys that were there and were taken out because their value was bad (and reported).
    pub(in crate::config) removed: Vec<String>,
}

#[derive(Clone, Debug)]
pub(in crate::config) struct Entry {
    pub(in crate::config) key: String,
    pub(in crate::config) key_place: Place,
    pub(in crate::config) node: Node,
}

impl Value {
    /// The kind of value in words. Never the value: it may be a secret in the wrong place.
    pub(in crate::config) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Integer(_) | Self::Decimal(_) | Self::OddNumber(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Mapping(_) => "a mapping",
        }
    }
}

/// The tree of one document, and the duplicate keys in it. None: the text is not YAML, and the one complaint says why.
pub(in crate::config) fn parse(file: &Arc<str>, text: &str, complaints: &mut Vec<Complaint>) -> Option<Node> {
    parse_below(file, 0, text, complaints)
}

/// The same for a document that begins below so many lines of its file.
pub(in crate::config) fn parse_below(file: &Arc<str>, lines: u32, text: &str, complaints: &mut Vec<Complaint>) -> Option<Node> {
    let source = Source { file, lines, text };
    if text.len() > LARGEST_FILE_BYTES {
        complaints.push(Complaint::about_file(file, "the file is larger than 4 MiB"));
        return None;
    }
    // The reader stops at the first duplicate. A second reading that lets them through finds them all.
    let strict = read(text, serde_yaml::DuplicateKeyPolicy::Error);
    let raw = match strict {
        Ok(raw) => raw,
        Err(error) => {
            let before = complaints.len();
            if matches!(error.without_snippet(), serde_yaml::Error::DuplicateMappingKey { .. })
                && let Ok(raw) = read(text, serde_yaml::DuplicateKeyPolicy::LastWins)
            {
                let node = shape(raw, &source, "", complaints);
                if complaints.len() > before {
                    return Some(node);
                }
            }
            complaints.push(syntax(&source, &error));
            return None;
        }
    };
    Some(shape(raw, &source, "", complaints))
}

/// A document, and where in its file it begins.
struct Source<'a> {
    file: &'a Arc<str>,
    lines: u32,
    text: &'a str,
}

impl Source<'_> {
    fn place(&self, location: serde_yaml::Location) -> Place {
        let narrow = |wide: u64| u32::try_from(wide).unwrap_or(u32::MAX);
        Place { line: narrow(location.line()).saturating_add(self.lines), column: narrow(location.column()) }
    }
}

fn read(text: &str, duplicates: serde_yaml::DuplicateKeyPolicy) -> Result<Spanned<Raw>, serde_yaml::Error> {
    let options = serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_depth: DEEPEST_NESTING,
            flow_nesting_limit: DEEPEST_NESTING,
            max_nodes: MOST_NODES,
            max_events: 2 * MOST_NODES,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_recorded_anchor_events: MOST_NODES,
            max_recorded_anchor_bytes: LARGEST_FILE_BYTES,
            max_total_scalar_bytes: 2 * LARGEST_FILE_BYTES,
            max_documents: 1,
        },
        alias_limits: serde_yaml::alias_limits! {
            max_total_replayed_events: MOST_REPLAYED_EVENTS,
            max_replay_stack_depth: 8,
        },
        duplicate_keys: duplicates,
        merge_keys: serde_yaml::MergeKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
        non_finite_float_policy: serde_yaml::NonFiniteFloatPolicy::AsString,
        with_snippet: false,
    };
    serde_yaml::from_str_with_options(text, options)
}

fn syntax(source: &Source<'_>, error: &serde_yaml::Error) -> Complaint {
    let place = error.location().map(|location| source.place(location)).unwrap_or_default();
    let text = error.render_with_options(serde_yaml::render_options! { snippets: serde_yaml::SnippetMode::Off });
    // The reader's own texts may hold the place, which the complaint says already.
    let first_line = text.lines().next().unwrap_or_default();
    let cut = first_line.find(" at line ").or_else(|| first_line.find(" in line ")).unwrap_or(first_line.len());
    let wrong = first_line.get(..cut).unwrap_or(first_line);
    let wrong = wrong.strip_prefix("error: ").unwrap_or(wrong);
    let wrong = wrong.strip_prefix(&format!("line {} column {}: ", place.line.saturating_sub(source.lines), place.column)).unwrap_or(wrong);
    let wrong = match wrong.strip_prefix("budget breached: ") {
        None if matches!(error.without_snippet(), serde_yaml::Error::DuplicateMappingKey { .. }) => "a key stands here twice",
        Some(bound) if bound.starts_with("Documents") => "the file holds more than one document",
        Some(bound) if bound.starts_with("Depth") => "the file is nested too deeply",
        Some(_) => "the file holds too much",
        None => wrong,
    };
    Complaint {
        file: Arc::clone(source.file),
        line: place.line,
        column: place.column,
        field: String::new(),
        wrong: format!("not readable as YAML: {wrong}"),
        expected: None,
        hint: wrong
            .contains("parsing a flow ")
            .then(|| "a text with a brace, a bracket or a comma in it needs quotes there, such as `\"/users/{id}\"`".to_owned()),
    }
}

/// What the reader makes of a value before the written text decides about numbers.
enum Raw {
    Null,
    Bool(bool),
    Number,
    Text(String),
    List(Vec<Spanned<Raw>>),
    Mapping(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_u64<E>(self, _value: u64) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_i64<E>(self, _value: i64) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_f64<E>(self, _value: f64) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Raw, E> {
        Ok(Raw::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut mapping: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = mapping.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Mapping(entries))
    }
}

fn shape(raw: Spanned<Raw>, source: &Source<'_>, trail: &str, complaints: &mut Vec<Complaint>) -> Node {
    let place = source.place(raw.referenced);
    let value = match raw.value {
        Raw::Null => Value::Null,
        Raw::Bool(value) => Value::Bool(value),
        Raw::Text(value) => Value::Text(value),
        Raw::Number => number(written(raw.defined, source.text)),
        Raw::List(items) => {
            let mut nodes = Vec::with_capacity(items.len());
            for (index, item) in items.into_iter().enumerate() {
                let mut node = shape(item, source, &format!("{trail}[{index}]"), complaints);
                node.index = index;
                nodes.push(node);
            }
            Value::List(nodes)
        }
        Raw::Mapping(pairs) => Value::Mapping(shape_mapping(pairs, source, trail, complaints)),
    };
    Node { place, value, index: 0, mended: false }
}

fn shape_mapping(
    pairs: Vec<(Spanned<String>, Spanned<Raw>)>,
    source: &Source<'_>,
    trail: &str,
    complaints: &mut Vec<Complaint>,
) -> Mapping {
    let mut mapping = Mapping::default();
    let mut first_lines = std::collections::BTreeMap::new();
    for (key, value) in pairs {
        let key_place = source.place(key.referenced);
        let key = key.value;
        let inner = join(trail, &key);
        let node = shape(value, source, &inner, complaints);
        if let Some(first) = first_lines.get(&key) {
            complaints.push(Complaint {
                file: Arc::clone(source.file),
                line: key_place.line,
                column: key_place.column,
                field: inner,
                wrong: format!("the key stands here twice, first in line {first}"),
                expected: None,
                hint: None,
            });
            continue;
        }
        first_lines.insert(key.clone(), key_place.line);
        mapping.entries.push(Entry { key, key_place, node });
    }
    mapping
}

/// `a.b`; keys that are no plain words are put in brackets.
pub(in crate::config) fn join(trail: &str, key: &str) -> String {
    let short: String = key.chars().take(80).collect();
    let plain = !short.is_empty() && short.chars().all(|character| character.is_ascii_alphanumeric() || matches!(character, '_' | '-'));
    match (trail.is_empty(), plain) {
        (true, true) => short,
        (false, true) => format!("{trail}.{short}"),
        (_, false) => format!("{trail}[{short:?}]"),
    }
}

fn written(location: serde_yaml::Location, text: &str) -> &str {
    let bounds = location.span().byte_offset().zip(location.span().byte_len());
    let Some((start, length)) = bounds else { return "" };
    let start = usize::try_from(start).unwrap_or(usize::MAX);
    let end = start.saturating_add(usize::try_from(length).unwrap_or(usize::MAX));
    text.get(start..end).unwrap_or_default().trim()
}

fn number(written: &str) -> Value {
    let digits = written.strip_prefix('-').unwrap_or(written);
    let decimal = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let canonical = |part: &str| decimal(part) && (part == "0" || !part.starts_with('0'));
    if canonical(digits) {
        return Value::Integer(written.to_owned());
    }
    match digits.split_once('.') {
        Some((whole, fraction)) if canonical(whole) && decimal(fraction) => Value::Decimal(written.to_owned()),
        Some(_) | None => Value::OddNumber(written.to_owned()),
    }
}
