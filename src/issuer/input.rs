//! Reading a request's JSON strictly: bounded, no member twice, no unknown member, and every complaint names field and
//! expectation without repeating the value.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header;
use serde::Deserialize;
use serde::Deserializer;
use serde::de;

use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::secrets::sha256;

/// The largest body.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// A JSON value in which no member came twice.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::issuer) enum Value {
    Null,
    Bool(bool),
    Number(Option<u64>),
    Text(String),
    List(Vec<Value>),
    Object(BTreeMap<String, Value>),
}

/// What a request says about a member that may stay, go, or be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::issuer) enum Change<T> {
    /// Not mentioned.
    Keep,
    /// `null`.
    Clear,
    Set(T),
}

impl<T> Change<T> {
    pub(in crate::issuer) fn set(self) -> Option<T> {
        match self {
            Self::Set(value) => Some(value),
            Self::Keep | Self::Clear => None,
        }
    }

    /// Changes `current` accordingly.
    pub(in crate::issuer) fn apply(self, current: &mut Option<T>) {
        match self {
            Self::Keep => {}
            Self::Clear => *current = None,
            Self::Set(value) => *current = Some(value),
        }
    }
}

/// The members of an object that have not been read yet.
#[derive(Debug)]
pub(in crate::issuer) struct Fields {
    members: BTreeMap<String, Value>,
    /// Where the object lies in the body, for complaints: empty, or `keys[3].`.
    place: String,
    /// Of the whole body.
    sha256: [u8; 32],
}

impl Fields {
    /// The body's object; a request without a body has an empty one.
    pub(in crate::issuer) async fn read(headers: &HeaderMap, body: Body) -> Result<Self, Problem> {
        let too_large = |_error| Problem::new(Code::PayloadTooLarge, "the body has more than 64 KiB");
        let bytes = axum::body::to_bytes(body, BODY_BYTES_MAX).await.map_err(too_large)?;
        if bytes.is_empty() {
            return Ok(Self { members: BTreeMap::new(), place: String::new(), sha256: sha256(&bytes) });
        }
        if !is_json(headers) {
            return Err(Problem::new(Code::UnsupportedMediaType, "the body must be JSON: send `content-type: application/json`"));
        }
        Self::parse(&bytes)
    }

    pub(in crate::issuer) fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(members)) => Ok(Self { members, place: String::new(), sha256: sha256(bytes) }),
            Ok(_) => Err(Problem::new(Code::InvalidRequest, "the body must be a JSON object")),
            // The parser's own text can quote the body.
            Err(error) => Err(Problem::new(
                Code::InvalidRequest,
                format!("the body is not JSON, or names a member twice (line {}, column {})", error.line(), error.column()),
            )),
        }
    }

    /// The objects of a list member, each with its place in complaints.
    pub(in crate::issuer) fn objects(&mut self, name: &str, most: usize) -> Result<Vec<Self>, Problem> {
        let expected = format!("must be a list of 1 to {most} objects");
        let sha256 = self.sha256;
        match self.members.remove(name) {
            Some(Value::List(items)) if (1..=most).contains(&items.len()) => items
                .into_iter()
                .enumerate()
                .map(|(position, item)| {
                    let Value::Object(members) = item else {
                        return Err(Problem::field(format!("{name}[{position}]"), "must be an object"));
                    };
                    Ok(Self { members, place: format!("{name}[{position}]."), sha256 })
                })
                .collect(),
            Some(_) | None => Err(Problem::field(name, expected)),
        }
    }

    /// SHA-256 of the body, to know the same request again.
    pub(in crate::issuer) const fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    pub(in crate::issuer) fn change<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&Value) -> Option<T>,
        expected: impl Into<Cow<'static, str>>,
    ) -> Result<Change<T>, Problem> {
        match self.members.remove(name) {
            None => Ok(Change::Keep),
            Some(Value::Null) => Ok(Change::Clear),
            Some(value) => read(&value).map(Change::Set).ok_or_else(|| self.complaint(name, expected)),
        }
    }

    /// A member that may be absent, but not `null`.
    pub(in crate::issuer) fn optional<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&Value) -> Option<T>,
        expected: impl Into<Cow<'static, str>>,
    ) -> Result<Option<T>, Problem> {
        let expected = expected.into();
        match self.change(name, read, expected.clone())? {
            Change::Keep => Ok(None),
            Change::Set(value) => Ok(Some(value)),
            Change::Clear => Err(self.complaint(name, expected)),
        }
    }

    pub(in crate::issuer) fn required<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&Value) -> Option<T>,
        expected: impl Into<Cow<'static, str>>,
    ) -> Result<T, Problem> {
        let expected = expected.into();
        self.optional(name, read, expected.clone())?.ok_or_else(|| self.complaint(name, format!("is required and {expected}")))
    }

    pub(in crate::issuer) fn complaint(&self, name: &str, issue: impl Into<Cow<'static, str>>) -> Problem {
        Problem::field(format!("{}{name}", self.place), issue)
    }

    /// Refuses members that wait for somebody with this scope to say them.
    pub(in crate::issuer) fn refuse(&self, names: &[&str], scope: &str) -> Result<(), Problem> {
        match names.iter().find(|name| self.members.contains_key(**name)) {
            None => Ok(()),
            Some(name) => Err(self.complaint(name, format!("is not yours to change: that takes the scope {scope}"))),
        }
    }

    /// Refuses what nobody asked for: a misspelt member must not be a silent default.
    pub(in crate::issuer) fn finish(self) -> Result<(), Problem> {
        match self.members.keys().next() {
            None => Ok(()),
            Some(name) if name.len() <= 32 && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') => {
                Err(Problem::field(format!("{}{name}", self.place), "there is no such member"))
            }
            Some(_) => Err(Problem::field(self.place, "there is a member of an unknown name")),
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    value.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> de::Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(Some(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(u64::try_from(value).ok()))
    }

    fn visit_f64<E>(self, _value: f64) -> Result<Value, E> {
        Ok(Value::Number(None))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = BTreeMap::new();
        while let Some((name, value)) = members.next_entry::<String, Value>()? {
            if object.insert(name, value).is_some() {
                return Err(de::Error::custom("a member came twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_read_strictly() {
        for (bytes, expected) in [
            (r#"{"a":1,"a":2}"#, "twice"),
            (r#"{"a":{"b":1,"b":1}}"#, "twice"),
            (r#"{"a":1"#, "not JSON"),
            ("[]", "object"),
            ("null", "object"),
            (r#""secret""#, "object"),
            ("{} {}", "not JSON"),
            ("\u{feff}{}", "not JSON"),
        ] {
            let problem = Fields::parse(bytes.as_bytes()).unwrap_err();
            assert_eq!(problem.code, Code::InvalidRequest);
            assert!(problem.message.contains(expected), "{bytes}: {}", problem.message);
            assert!(!problem.message.contains("secret"));
        }
        let deep = "[".repeat(10_000);
        assert!(Fields::parse(deep.as_bytes()).is_err());
    }

    #[test]
    fn unknown_members_are_named_when_their_name_is_harmless() {
        let field = |json: &str| Fields::parse(json.as_bytes()).unwrap().finish().unwrap_err().details.unwrap().field;
        assert_eq!(field(r#"{"scopse":[]}"#), "scopse");
        assert_eq!(field(r#"{"tg_live_sk_0123456789ABCDEF":1}"#), "");
        assert!(Fields::parse(b"{}").unwrap().finish().is_ok());
    }
}
