//! Reading the form of an OAuth request strictly: bounded, nothing twice, nothing in the query.

use std::collections::BTreeMap;
use std::fmt;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header;
use zeroize::Zeroizing;

use crate::issuer::input;
use crate::issuer::oauth::answer::Fault;
use crate::issuer::oauth::answer::Refusal;
use crate::issuer::parameters::decode;

/// The largest body, and the most parameters in it.
const BODY_BYTES_MAX: usize = 32 * 1024;
const PARAMETERS_MAX: usize = 64;
/// What RFC 8707 section 2 and RFC 8693 section 2.1 allow to come more than once, and how often we do.
const REPEATABLE: [&str; 2] = ["resource", "audience"];
const REPEATS_MAX: usize = 8;

/// In which forms the body may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::issuer) enum Bodies {
    Form,
    /// Seed 002's own spelling as well: a JSON object of texts.
    FormOrJson,
}

/// The parameters of a request. What has no value counts as absent (RFC 6749 section 3.2).
#[derive(Default)]
pub(in crate::issuer) struct Form(BTreeMap<String, Vec<Zeroizing<String>>>);

impl fmt::Debug for Form {
    /// Its values are codes, tokens and secrets.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Form")
    }
}

impl Form {
    pub(in crate::issuer) async fn read(headers: &HeaderMap, query: Option<&str>, body: Body, bodies: Bodies) -> Result<Self, Refusal> {
        if query.is_some_and(|query| !query.is_empty()) {
            return Err(Refusal::request("the parameters belong into the body; the URL must have no query"));
        }
        let too_large = |_error| Refusal::new(Fault::TooLarge, "the body has more than 32 KiB");
        let bytes = Zeroizing::new(axum::body::to_bytes(body, BODY_BYTES_MAX).await.map_err(too_large)?.to_vec());
        match (essence(headers).as_deref(), bodies) {
            (Some("application/x-www-form-urlencoded"), _) => Self::from_form(&bytes),
            (Some("application/json"), Bodies::FormOrJson) => Self::from_json(&bytes),
            (Some(_) | None, _) => Err(Refusal::request("the body must be a form: send content-type: application/x-www-form-urlencoded")),
        }
    }

    /// The value of a parameter; none where it is absent or empty.
    pub(in crate::issuer) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    pub(in crate::issuer) fn required(&self, name: &'static str) -> Result<&str, Refusal> {
        self.get(name).ok_or_else(|| Refusal::request(format!("the parameter {name} is missing")))
    }

    /// Every value of a parameter that may be repeated.
    pub(in crate::issuer) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.get(name).into_iter().flatten().map(|value| value.as_str()).filter(|value| !value.is_empty())
    }

    pub(in crate::issuer) fn from_form(bytes: &[u8]) -> Result<Self, Refusal> {
        let text = str::from_utf8(bytes).map_err(|_error| not_a_form())?;
        let mut form = Self::default();
        for (count, pair) in text.split('&').filter(|pair| !pair.is_empty()).enumerate() {
            if count >= PARAMETERS_MAX {
                return Err(Refusal::request("the form has more than 64 parameters"));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name).ok_or_else(not_a_form)?;
            form.add(name, Zeroizing::new(decode(value).ok_or_else(not_a_form)?))?;
        }
        Ok(form)
    }

    fn from_json(bytes: &[u8]) -> Result<Self, Refusal> {
        let not_texts = || Refusal::request("the body must be a JSON object of texts that names no member twice");
        let Ok(input::Value::Object(members)) = serde_json::from_slice::<input::Value>(bytes) else {
            return Err(not_texts());
        };
        if members.len() > PARAMETERS_MAX {
            return Err(Refusal::request("the body has more than 64 members"));
        }
        let mut form = Self::default();
        for (name, value) in members {
            match value {
                input::Value::Text(text) => form.add(name, Zeroizing::new(text))?,
                input::Value::Null | input::Value::Bool(_) | input::Value::Number(_) | input::Value::List(_) | input::Value::Object(_) => {
                    return Err(not_texts());
                }
            }
        }
        Ok(form)
    }

    fn add(&mut self, name: String, value: Zeroizing<String>) -> Result<(), Refusal> {
        let most = if REPEATABLE.contains(&name.as_str()) { REPEATS_MAX } else { 1 };
        let values = self.0.entry(name).or_default();
        if values.len() >= most {
            return Err(Refusal::request("a parameter came more often than it may"));
        }
        values.push(value);
        Ok(())
    }
}

fn essence(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let value = value.to_str().ok()?;
    value.split(';').next().map(|essence| essence.trim().to_ascii_lowercase())
}

fn not_a_form() -> Refusal {
    Refusal::request("the body is not percent-encoded UTF-8")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Form, Refusal> {
        Form::from_form(text.as_bytes())
    }

    // oauth: E3
    #[test]
    fn forms_are_read_strictly() {
        let form = read("a=1&b=x%20y%2B+z&c=&resource=r1&resource=r2&&d").unwrap();
        assert_eq!(form.get("a"), Some("1"));
        assert_eq!(form.get("b"), Some("x y+ z"));
        assert_eq!((form.get("c"), form.get("d"), form.get("e")), (None, None, None), "an empty one is absent");
        assert_eq!(form.all("resource").collect::<Vec<_>>(), ["r1", "r2"]);
        for bad in ["a=1&a=1", "a=1&a=2", "a=&a=1", "a=1&%61=1", "a=%", "a=%4", "a=%zz", "a=%ff", "%ff=1", "unknown=1&unknown=2"] {
            assert_eq!(read(bad).unwrap_err().fault, Fault::InvalidRequest, "{bad}");
        }
        assert!(read(&"resource=r&".repeat(8)).is_ok() && read(&"resource=r&".repeat(9)).is_err());
        let many = |count: usize| (0..count).map(|number| format!("p{number}=1&")).collect::<String>();
        assert!(read(&many(64)).is_ok() && read(&many(65)).is_err());
        assert_eq!(format!("{form:?}"), "Form");
    }

    #[test]
    fn json_bodies_hold_texts_alone() {
        assert_eq!(Form::from_json(br#"{"a":"1","b":""}"#).unwrap().get("a"), Some("1"));
        for bad in [r#"{"a":1}"#, r#"{"a":"1","a":"1"}"#, r#"["a"]"#, r#"{"a":null}"#, r#"{"a":["1"]}"#, "", "{", r#"{"a":"1"} x"#] {
            assert_eq!(Form::from_json(bad.as_bytes()).unwrap_err().fault, Fault::InvalidRequest, "{bad}");
        }
    }

    proptest! {
        // oauth: E11
        #[test]
        fn nothing_panics(bytes: Vec<u8>, text in "[a-c=&%+0-9]{0,40}") {
            let _form = Form::from_form(&bytes);
            let _json = Form::from_json(&bytes);
            if let Ok(form) = read(&text) {
                let _value = form.get("a");
            }
        }
    }
}
