//! Forms as browsers send them, read strictly.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header;

use crate::issuer::oauth::authorize::asked::decode;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;

const FORM_BYTES_MAX: usize = 64 * 1024;

/// The fields of a form that have not been read yet.
pub(in crate::issuer) struct Form(BTreeMap<String, String>);

impl std::fmt::Debug for Form {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Form")
    }
}

impl Form {
    /// # Errors
    /// 400, 413 or 415.
    pub(in crate::issuer) async fn read(headers: &HeaderMap, body: Body) -> Result<Self, Problem> {
        Self::parse(&read_text(headers, body).await?)
    }

    /// The pairs of a query or of a form's body.
    ///
    /// # Errors
    /// 400 where a field comes twice or is no UTF-8.
    pub(in crate::issuer) fn parse(encoded: &str) -> Result<Self, Problem> {
        let mut fields = BTreeMap::new();
        for pair in encoded.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Ok(name), Ok(value)) = (String::from_utf8(decode(name)), String::from_utf8(decode(value))) else {
                return Err(Problem::new(Code::InvalidRequest, "the form is not UTF-8"));
            };
            if fields.insert(name, value).is_some() {
                return Err(Problem::new(Code::InvalidRequest, "a field of the form came twice"));
            }
        }
        Ok(Self(fields))
    }

    /// A field, where something was written into it.
    pub(in crate::issuer) fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name).filter(|value| !value.is_empty())
    }
}

/// The text of a form's body.
///
/// # Errors
/// 400, 413 or 415.
pub(in crate::issuer) async fn read_text(headers: &HeaderMap, body: Body) -> Result<String, Problem> {
    let essence = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).and_then(|value| value.split(';').next());
    if !essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")) {
        return Err(Problem::new(Code::UnsupportedMediaType, "this takes a form: application/x-www-form-urlencoded"));
    }
    let too_large = |_error| Problem::new(Code::PayloadTooLarge, "the form has more than 64 KiB");
    let bytes = axum::body::to_bytes(body, FORM_BYTES_MAX).await.map_err(too_large)?;
    String::from_utf8(bytes.into()).map_err(|_error| Problem::new(Code::InvalidRequest, "the form is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_read_strictly() {
        let mut form = Form::parse("name=a+b&empty=&password=%C3%A9%00").unwrap();
        assert_eq!(form.take("name").as_deref(), Some("a b"));
        assert_eq!(form.take("empty"), None);
        assert_eq!(form.take("password").as_deref(), Some("é\0"));
        for bad in ["a=1&a=2", "a=%FF", "%FF=1", "a&a"] {
            assert_eq!(Form::parse(bad).unwrap_err().code, Code::InvalidRequest, "{bad}");
        }
    }
}
