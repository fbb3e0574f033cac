//! Reading a request's query and path strictly.

use std::collections::BTreeMap;

use axum::extract::Path;
use axum::extract::rejection::PathRejection;

use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::model::key::is_key_id;

/// Records a page holds unless the caller asks for another number.
const PAGE_DEFAULT: usize = 50;
const PAGE_MAX: usize = 500;

/// The parameters of a query that have not been read yet.
#[derive(Debug)]
pub(in crate::issuer) struct Parameters(BTreeMap<String, String>);

impl Parameters {
    pub(in crate::issuer) fn read(query: Option<&str>) -> Result<Self, Problem> {
        let mut parameters = BTreeMap::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = decode(name).zip(decode(value));
            let Some((name, value)) = decoded else {
                return Err(Problem::new(Code::InvalidRequest, "the query is not percent-encoded UTF-8"));
            };
            if parameters.insert(name, value).is_some() {
                return Err(Problem::new(Code::InvalidRequest, "a query parameter came twice"));
            }
        }
        Ok(Self(parameters))
    }

    pub(in crate::issuer) fn text(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    pub(in crate::issuer) fn parsed<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str) -> Option<T>,
        expected: impl Into<std::borrow::Cow<'static, str>>,
    ) -> Result<Option<T>, Problem> {
        self.text(name).map(|text| read(&text).ok_or_else(|| Problem::field(name, expected))).transpose()
    }

    /// How many records the page may hold.
    pub(in crate::issuer) fn limit(&mut self) -> Result<usize, Problem> {
        let read = |text: &str| text.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit));
        Ok(self.parsed("limit", read, format!("must be a whole number from 1 to {PAGE_MAX}"))?.unwrap_or(PAGE_DEFAULT))
    }

    pub(in crate::issuer) fn finish(self, known: &'static str) -> Result<(), Problem> {
        if self.0.is_empty() { Ok(()) } else { Err(Problem::field("query", format!("there is an unknown parameter; known are: {known}"))) }
    }
}

/// The key's id in the path. What cannot be an id names nothing, and never gets near a record.
pub(in crate::issuer) fn key_id(path: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    match path {
        Ok(Path(id)) if is_key_id(&id) => Ok(id),
        Ok(_) | Err(_) => Err(no_such_key()),
    }
}

pub(in crate::issuer) fn no_such_key() -> Problem {
    Problem::new(Code::NotFound, "there is no key of this id (the 12 characters after `_sk_`)")
}

pub(in crate::issuer) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let value = char::from(rest.next()?).to_digit(16)? * 16 + char::from(rest.next()?).to_digit(16)?;
                u8::try_from(value).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}
