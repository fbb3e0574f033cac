//! How the person may be bothered: `prompt` as OpenID Connect Core section 3.1.2.1 has it.

use crate::issuer::oauth::authorize::asked::AuthorizeParameters;
use crate::issuer::oauth::authorize::checks::Inquiry;
use crate::issuer::oauth::authorize::refusal::ErrorCode;
use crate::issuer::oauth::authorize::refusal::Refusal;

/// What the request says about asking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::issuer::oauth::authorize) struct Prompt {
    /// `none`: nothing may be shown. This is automatic sign-in.
    pub is_silent: bool,
    /// `login`: the person proves again who it is.
    pub wants_login: bool,
    /// `consent`: the person is asked, whatever it allowed before.
    pub wants_consent: bool,
}

impl Prompt {
    pub(in crate::issuer::oauth::authorize) fn of(asked: &AuthorizeParameters) -> Self {
        let prompt = asked.value("prompt").unwrap_or_default();
        let has = |word: &str| prompt.split(' ').any(|said| said == word);
        Self { is_silent: has("none"), wants_login: has("login"), wants_consent: has("consent") }
    }
}

/// Known words, and `none` alone.
pub(super) fn consistent(inquiry: &Inquiry<'_>) -> Result<(), Refusal> {
    let prompt = inquiry.asked.value("prompt").unwrap_or_default();
    let words = || prompt.split(' ').filter(|word| !word.is_empty());
    let is_known = words().all(|word| matches!(word, "none" | "login" | "consent"));
    if is_known && (words().count() <= 1 || words().all(|word| word != "none")) {
        return Ok(());
    }
    Err(Refusal::new(ErrorCode::InvalidRequest, "prompt must be none alone, or login and consent"))
}
