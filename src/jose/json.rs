//! A strict reader for JSON that strangers wrote: an object and nothing after it, no member named twice at any level, bounded depth.
//!
//! Two readers that take different values from one text are how a check is passed by one and acted on by the other, so whatever
//! is ambiguous is refused. Lone surrogates, a byte-order mark and invalid UTF-8 are errors of the JSON grammar itself.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde::de::DeserializeSeed;
use serde::de::Error as _;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;

/// How many objects and arrays may stand inside one another.
pub const DEPTH_LIMIT: usize = 16;

/// The members of an object.
pub type Members<'t> = BTreeMap<Cow<'t, str>, Json<'t>>;

/// One JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json<'t> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'t, str>),
    List(Vec<Json<'t>>),
    Object(Members<'t>),
}

/// A JSON number; always finite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    Natural(u64),
    Negative(i64),
    /// Written with a fraction or an exponent, or too long for 64 bits.
    Float(f64),
}

/// The text is not one strict JSON object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a strict JSON object: {0}")]
pub struct NotAnObject(String);

/// Reads a text that must be one JSON object.
///
/// # Errors
/// [`NotAnObject`] for everything else, with the place in the text.
pub fn read_object(bytes: &[u8]) -> Result<Members<'_>, NotAnObject> {
    let text = std::str::from_utf8(bytes).map_err(|_invalid| NotAnObject("it is not UTF-8".to_owned()))?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Level(0).deserialize(&mut reader).map_err(|error| NotAnObject(error.to_string()))?;
    reader.end().map_err(|error| NotAnObject(error.to_string()))?;
    match value {
        Json::Object(members) => Ok(members),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) | Json::List(_) => {
            Err(NotAnObject("it is another kind of value".to_owned()))
        }
    }
}

impl<'t> Json<'t> {
    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::List(_) | Self::Object(_) => None,
        }
    }

    /// The elements, if it is a list.
    pub fn as_list(&self) -> Option<&[Json<'t>]> {
        match self {
            Self::List(elements) => Some(elements),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) | Self::Object(_) => None,
        }
    }

    /// The members, if it is an object.
    pub fn as_object(&self) -> Option<&Members<'t>> {
        match self {
            Self::Object(members) => Some(members),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) | Self::List(_) => None,
        }
    }

    /// The number, if it is one.
    pub fn as_number(&self) -> Option<Number> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Null | Self::Bool(_) | Self::Text(_) | Self::List(_) | Self::Object(_) => None,
        }
    }
}

/// How deep the value to be read stands.
#[derive(Clone, Copy)]
struct Level(usize);

impl Level {
    fn below<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.0 >= DEPTH_LIMIT {
            return Err(E::custom("it is nested too deeply"));
        }
        Ok(Self(self.0 + 1))
    }
}

impl<'de> DeserializeSeed<'de> for Level {
    type Value = Json<'de>;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Json<'de>, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = Json<'de>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number(Number::Natural(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(Json::Number(u64::try_from(value).map_or(Number::Negative(value), Number::Natural)))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Json<'de>, E> {
        if !value.is_finite() {
            return Err(E::custom("a number is out of range"));
        }
        Ok(Json::Number(Number::Float(value)))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Json<'de>, A::Error> {
        let below = self.below()?;
        let mut list = Vec::new();
        while let Some(element) = elements.next_element_seed(below)? {
            list.push(element);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json<'de>, A::Error> {
        let below = self.below()?;
        let mut object = Members::new();
        while let Some(name) = members.next_key_seed(Name)? {
            match object.entry(name) {
                Entry::Occupied(_) => return Err(A::Error::custom("a member is named twice")),
                Entry::Vacant(place) => {
                    place.insert(members.next_value_seed(below)?);
                }
            }
        }
        Ok(Json::Object(object))
    }
}

/// A member's name, borrowed where it has no escapes.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Cow<'de, str>, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a member's name")
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(value.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::any;
    use proptest::proptest;

    use super::read_object;

    #[test]
    fn one_object_and_nothing_else() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        let table: Vec<(Vec<u8>, bool)> = vec![
            (b"{}".to_vec(), true),
            (br#" {"a":1,"b":[{"c":null}]} "#.to_vec(), true),
            (b"".to_vec(), false),
            (b"[]".to_vec(), false),
            (b"\"a\"".to_vec(), false),
            (b"7".to_vec(), false),
            (b"{}{}".to_vec(), false),
            (b"{} x".to_vec(), false),
            (br#"{"a":1,"a":1}"#.to_vec(), false),
            (br#"{"a":{"b":1,"b":2}}"#.to_vec(), false),
            // The same name, once with an escape.
            (br#"{"a":1,"\u0061":1}"#.to_vec(), false),
            (b"\xef\xbb\xbf{}".to_vec(), false),
            (b"{\x00\"\x00a\x00\"\x00:\x001\x00}\x00".to_vec(), false),
            (b"{\"a\":\"\xff\"}".to_vec(), false),
            (b"{\"a\":\"\xc0\xaf\"}".to_vec(), false),
            (br#"{"a":"\ud800"}"#.to_vec(), false),
            (br#"{"a":NaN}"#.to_vec(), false),
            (br#"{"a":1e400}"#.to_vec(), false),
            (br#"{"a":1,}"#.to_vec(), false),
            (nested(15).into_bytes(), true),
            (nested(16).into_bytes(), false),
            (nested(200).into_bytes(), false),
            (nested(10_000).into_bytes(), false),
            (nested(1_000_000).into_bytes(), false),
            ("[".repeat(1_000_000).into_bytes(), false),
            ("{\"a\":".repeat(1_000_000).into_bytes(), false),
        ];
        for (text, accepted) in table {
            let shown: String = String::from_utf8_lossy(&text).chars().take(40).collect();
            assert_eq!(read_object(&text).is_ok(), accepted, "{shown}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_object(&bytes);
        }

        #[test]
        fn what_it_accepts_the_ordinary_reader_accepts_alike(text in r#"\{("[a-c]":("[a-z]{0,3}"|[0-9]{1,3}|\[\]|\{\}))?(,"[a-c]":[0-9])?\}"#) {
            let ours = read_object(text.as_bytes()).map(|members| members.len()).ok();
            let theirs = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text).ok();
            if let Some(count) = ours {
                assert_eq!(theirs.map(|members| members.len()), Some(count));
            }
        }
    }
}
