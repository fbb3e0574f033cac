//! From the tree to the file's types. serde stops at the first mistake, so a bad value is reported, taken out of the tree, and the
//! rest is read again, until nothing is wrong or too much is.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::de::DeserializeSeed;
use serde::de::Error as _;
use serde::de::Expected;
use serde::de::IntoDeserializer;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Unexpected;
use serde::de::Visitor;

use crate::config::complaint::Complaint;
use crate::config::complaint::suggestion;
use crate::config::yaml::Entry;
use crate::config::yaml::Node;
use crate::config::yaml::Place;
use crate::config::yaml::Value;
use crate::config::yaml::join;

/// Mistakes of shape beyond this many are not looked for.
const MOST_MISTAKES: usize = 64;

/// Reads `T` from the tree, reporting every mistake of shape. `None` when not even the rest makes a `T`.
pub(in crate::config) fn read<T: DeserializeOwned>(file: &Arc<str>, root: &mut Node, complaints: &mut Vec<Complaint>) -> Option<T> {
    if matches!(root.value, Value::Null) {
        complaints.push(Complaint::about_file(file, "the file is empty"));
        return None;
    }
    for _ in 0..MOST_MISTAKES {
        let mut broken = match T::deserialize(&*root) {
            Ok(value) => return Some(value),
            Err(broken) => broken,
        };
        broken.trail.reverse();
        let (place, field) = find(root, &broken.trail, matches!(broken.what, What::Unknown { .. }));
        let said_already = matches!(broken.what, What::Missing(name) if was_removed(root, &broken.trail, name));
        if !said_already {
            complaints.push(explain(file, place, field, &broken.what));
        }
        if !remove(root, &broken.trail) {
            return None;
        }
    }
    complaints.push(Complaint::about_file(file, format!("more than {MOST_MISTAKES} mistakes of shape; the rest was not looked at")));
    None
}

/// One step from a value to one inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) enum Step {
    Key(String),
    /// Position in the list as it is now.
    Index(usize),
}

/// Where the value at the end of the trail stands (or the last one on the way that exists), and the trail in words.
pub(in crate::config) fn find(root: &Node, trail: &[Step], key_is_meant: bool) -> (Place, String) {
    let mut place = root.place;
    let mut words = String::new();
    let mut here = Some(root);
    for (position, step) in trail.iter().enumerate() {
        let last = position + 1 == trail.len();
        match step {
            Step::Key(key) => {
                words = join(&words, key);
                let entry = here.and_then(|node| entry(node, key));
                if let Some(entry) = entry {
                    place = if last && key_is_meant { entry.key_place } else { entry.node.place };
                }
                here = entry.map(|entry| &entry.node);
            }
            Step::Index(index) => {
                let item = here.and_then(|node| match &node.value {
                    Value::List(items) => items.get(*index),
                    Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Decimal(_) => None,
                    Value::OddNumber(_) | Value::Text(_) | Value::Mapping(_) => None,
                });
                if let Some(item) = item {
                    place = item.place;
                }
                words = format!("{words}[{}]", item.map_or(*index, |item| item.index));
                here = item;
            }
        }
    }
    (place, words)
}

/// Whether nothing was taken out at the end of the trail, or, where the trail leads nowhere, at the last value on it. What is absent
/// from a mended value may have been there.
pub(in crate::config) fn is_whole(root: &Node, trail: &[Step]) -> bool {
    let mut here = root;
    for step in trail {
        let next = match (step, &here.value) {
            (Step::Key(key), _) => entry(here, key).map(|entry| &entry.node),
            (Step::Index(index), Value::List(items)) => items.get(*index),
            (Step::Index(_), _) => None,
        };
        match next {
            Some(next) => here = next,
            None => break,
        }
    }
    !here.mended
}

fn entry<'n>(node: &'n Node, key: &str) -> Option<&'n Entry> {
    match &node.value {
        Value::Mapping(mapping) => mapping.entries.iter().find(|entry| entry.key == key),
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Decimal(_) => None,
        Value::OddNumber(_) | Value::Text(_) | Value::List(_) => None,
    }
}

fn descend<'n>(root: &'n mut Node, trail: &[Step]) -> Option<&'n mut Node> {
    let mut here = root;
    for step in trail {
        here = match (step, &mut here.value) {
            (Step::Key(key), Value::Mapping(mapping)) => &mut mapping.entries.iter_mut().find(|entry| entry.key == *key)?.node,
            (Step::Index(index), Value::List(items)) => items.get_mut(*index)?,
            (Step::Key(_) | Step::Index(_), _) => return None,
        };
    }
    Some(here)
}

fn was_removed(root: &mut Node, trail: &[Step], name: &str) -> bool {
    match descend(root, trail).map(|node| &node.value) {
        Some(Value::Mapping(mapping)) => mapping.removed.iter().any(|removed| removed == name),
        Some(_) | None => false,
    }
}

/// Takes the value at the end of the trail out of the tree; false when it is the root, or not there.
fn remove(root: &mut Node, trail: &[Step]) -> bool {
    let Some((last, above)) = trail.split_last() else { return false };
    let Some(parent) = descend(root, above) else { return false };
    match (last, &mut parent.value) {
        (Step::Key(key), Value::Mapping(mapping)) => {
            let before = mapping.entries.len();
            mapping.entries.retain(|entry| entry.key != *key);
            mapping.removed.push(key.clone());
            parent.mended = true;
            mapping.entries.len() < before
        }
        (Step::Index(index), Value::List(items)) if *index < items.len() => {
            items.remove(*index);
            parent.mended = true;
            true
        }
        (Step::Key(_) | Step::Index(_), _) => false,
    }
}

fn explain(file: &Arc<str>, place: Place, field: String, what: &What) -> Complaint {
    let complaint = |wrong: String| Complaint {
        file: Arc::clone(file),
        line: place.line,
        column: place.column,
        field: field.clone(),
        wrong,
        expected: None,
        hint: None,
    };
    match what {
        What::Unknown { name, known } => {
            let mut unknown = complaint("there is no such setting here".to_owned());
            unknown.hint = suggestion(name, known.iter().copied());
            unknown
        }
        What::Missing(name) => complaint(format!("`{name}` is missing")),
        What::Variant { name, known } => {
            let mut unknown = complaint(format!("`{}` is none of the values that are possible here", cut(name)));
            unknown.hint = suggestion(name, known.iter().copied());
            unknown
        }
        What::Type { found, expected } => complaint(format!("found {found}")).expecting(expected.as_str()),
        What::Said(text) => complaint(text.clone()),
    }
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

/// A mistake on its way up; each level adds its step, so the trail is read from its end.
#[derive(Debug)]
pub(in crate::config) struct Broken {
    trail: Vec<Step>,
    what: What,
}

#[derive(Debug)]
enum What {
    Unknown { name: String, known: &'static [&'static str] },
    Missing(&'static str),
    Variant { name: String, known: &'static [&'static str] },
    Type { found: String, expected: String },
    Said(String),
}

impl Broken {
    fn new(what: What) -> Self {
        Self { trail: Vec::new(), what }
    }

    fn wanted(node: &Node, expected: impl Into<String>) -> Self {
        if matches!(node.value, Value::Null) {
            return Self::new(What::Said("the key has no value: give it one, or take the key out".to_owned()));
        }
        Self::new(What::Type { found: node.value.kind().to_owned(), expected: expected.into() })
    }

    fn under(mut self, step: Step) -> Self {
        self.trail.push(step);
        self
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}", self.what)
    }
}

impl std::error::Error for Broken {}

impl serde::de::Error for Broken {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self::new(What::Said(text.to_string()))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(What::Type { found: kind(&found).to_owned(), expected: expected.to_string() })
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_field(name: &str, known: &'static [&'static str]) -> Self {
        Self::new(What::Unknown { name: name.to_owned(), known })
    }

    fn unknown_variant(name: &str, known: &'static [&'static str]) -> Self {
        Self::new(What::Variant { name: name.to_owned(), known })
    }

    fn missing_field(name: &'static str) -> Self {
        Self::new(What::Missing(name))
    }
}

fn kind(found: &Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(_) => "a boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_) => "a number",
        Unexpected::Char(_) | Unexpected::Str(_) | Unexpected::Bytes(_) => "text",
        Unexpected::Unit | Unexpected::Option => "nothing",
        Unexpected::Seq => "a list",
        Unexpected::Map => "a mapping",
        Unexpected::NewtypeStruct
        | Unexpected::Enum
        | Unexpected::UnitVariant
        | Unexpected::NewtypeVariant
        | Unexpected::TupleVariant
        | Unexpected::StructVariant
        | Unexpected::Other(_) => "something else",
    }
}

/// Reads a number as its visitor wants it. Whatever is wrong with it, its own bounds are told.
fn number<'de, T: std::str::FromStr, V: Visitor<'de>>(
    node: &Node,
    digits: Option<&String>,
    visitor: V,
    visit: impl FnOnce(V, T) -> Result<V::Value, Broken>,
) -> Result<V::Value, Broken> {
    let expected = (&visitor as &dyn Expected).to_string();
    if let Some(value) = digits.and_then(|digits| digits.parse().ok())
        && let Ok(value) = visit(visitor, value)
    {
        return Ok(value);
    }
    match &node.value {
        Value::Integer(text) | Value::Decimal(text) | Value::OddNumber(text) => Err(Broken::new(What::Type { found: cut(text), expected })),
        Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Mapping(_) => Err(Broken::wanted(node, expected)),
    }
}

impl<'de> serde::Deserializer<'de> for &'de Node {
    type Error = Broken;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Broken> {
        match &self.value {
            Value::Null => Err(Broken::wanted(self, "")),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(_) => self.deserialize_u64(visitor),
            Value::Decimal(_) => self.deserialize_f64(visitor),
            Value::OddNumber(text) | Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::List(_) => self.deserialize_seq(visitor),
            Value::Mapping(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Broken> {
        let Value::Bool(value) = &self.value else { return Err(Broken::wanted(self, "`true` or `false`")) };
        visitor.visit_bool(*value)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Broken> {
        let digits = if let Value::Integer(text) = &self.value { Some(text) } else { None };
        number(self, digits, visitor, V::visit_u64)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Broken> {
        let digits = if let Value::Integer(text) | Value::Decimal(text) = &self.value { Some(text) } else { None };
        number(self, digits, visitor, V::visit_f64)
    }

    /// A scalar where text is meant is the literal text, however YAML would read it.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Broken> {
        match &self.value {
            Value::Text(text) | Value::Integer(text) | Value::Decimal(text) | Value::OddNumber(text) => visitor.visit_borrowed_str(text),
            Value::Bool(value) => visitor.visit_str(if *value { "true" } else { "false" }),
            Value::Null | Value::List(_) | Value::Mapping(_) => Err(Broken::wanted(self, "text")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Broken> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Broken> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Broken> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Broken> {
        let Value::List(items) = &self.value else { return Err(Broken::wanted(self, "a list: `[a, b]`, or lines that begin with `- `")) };
        visitor.visit_seq(Items { items: items.iter(), position: 0 })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Broken> {
        let Value::Mapping(mapping) = &self.value else { return Err(Broken::wanted(self, "a mapping, `name: value`")) };
        visitor.visit_map(Entries { entries: mapping.entries.iter(), pending: None })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Broken> {
        if matches!(self.value, Value::Mapping(_)) {
            return self.deserialize_map(visitor);
        }
        let some: Vec<String> = fields.iter().take(4).map(|field| format!("`{field}`")).collect();
        Err(Broken::wanted(self, format!("a mapping with {}", some.join(", "))))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Broken> {
        match &self.value {
            Value::Text(text) => visitor.visit_enum(IntoDeserializer::<Broken>::into_deserializer(text.as_str())),
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Decimal(_)
            | Value::OddNumber(_)
            | Value::List(_)
            | Value::Mapping(_) => Err(Broken::wanted(self, format!("one of {}", listed(variants)))),
        }
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Broken> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Broken> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u128 f32 char bytes byte_buf unit unit_struct tuple tuple_struct
    }
}

fn listed(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

struct Items<'de> {
    items: std::slice::Iter<'de, Node>,
    position: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Broken;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Broken> {
        let Some(item) = self.items.next() else { return Ok(None) };
        let position = self.position;
        self.position += 1;
        seed.deserialize(item).map(Some).map_err(|broken| broken.under(Step::Index(position)))
    }
}

struct Entries<'de> {
    entries: std::slice::Iter<'de, Entry>,
    pending: Option<&'de Entry>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Broken;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Broken> {
        let Some(entry) = self.entries.next() else { return Ok(None) };
        self.pending = Some(entry);
        let key = IntoDeserializer::<Broken>::into_deserializer(entry.key.as_str());
        seed.deserialize(key).map(Some).map_err(|broken| broken.under(Step::Key(entry.key.clone())))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Broken> {
        match self.pending.take() {
            Some(entry) => seed.deserialize(&entry.node).map_err(|broken| broken.under(Step::Key(entry.key.clone()))),
            None => Err(Broken::custom("a value was asked for before its key")),
        }
    }
}
