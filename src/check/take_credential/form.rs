//! What a text is by its form: a key of ours, a signed token, a handle, or something of another making. Where it stood is not asked here.

use std::fmt;

use crate::check::decide::Denial;
use crate::check::reasons::Reason;
use crate::model::handle::Handle;
use crate::model::handle::HandleKind;
use crate::model::handle::read_handle;
use crate::model::key_text::KeyForm;
use crate::model::key_text::OwnKey;
use crate::model::key_text::read_key;
use crate::model::rules::ImportedKeys;
use crate::model::rules::Rules;

/// What was shown, by its form.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Credential<'m> {
    None,
    /// Ours by brand and checksum.
    Own(OwnKey<'m>),
    /// Perhaps an imported key.
    Foreign(&'m str),
    /// Three base64url parts.
    Token(&'m str),
    Opaque(&'m str),
    /// An opaque access token of ours by its form; its MAC is yet to be proven.
    Handle {
        text: &'m str,
        handle: Handle<'m>,
    },
    /// The peer's mTLS identity, of the mesh's trust domain.
    Principal(&'m str),
}

/// What a text is by its form. For doors that are handed a credential elsewhere than in its usual places, such as introspection.
///
/// # Errors
/// 401 for a damaged key, and for a handle of ours that opens another door than this one.
pub fn credential_of<'m>(text: &'m str, rules: &Rules) -> Result<Credential<'m>, Denial> {
    match read_key(&rules.key_brand, text) {
        KeyForm::Own(own) => Ok(Credential::Own(own)),
        KeyForm::Damaged => handle_of(text, rules),
        KeyForm::Foreign if is_token(text) => Ok(Credential::Token(text)),
        KeyForm::Foreign => Ok(match rules.imported_keys {
            ImportedKeys::Accepted => Credential::Foreign(text),
            ImportedKeys::Refused => Credential::Opaque(text),
        }),
    }
}

/// Codes, refresh tokens and whatever else we hand out have the same form, and open nothing here.
fn handle_of<'m>(text: &'m str, rules: &Rules) -> Result<Credential<'m>, Denial> {
    let Some(handle) = read_handle(&rules.key_brand, text) else {
        return Err(malformed("a key or a token of ours, damaged"));
    };
    match handle.kind {
        HandleKind::Access => Ok(Credential::Handle { text, handle }),
        HandleKind::Code => Err(malformed("an authorization code, which only the token endpoint takes")),
        HandleKind::Refresh => Err(malformed("a refresh token, which only the token endpoint takes")),
        HandleKind::Session | HandleKind::Invitation | HandleKind::Ticket | HandleKind::Browser => {
            Err(malformed("a handle of the issuer's own pages"))
        }
    }
}

/// Three base64url parts.
fn is_token(text: &str) -> bool {
    let base64url = |part: &str| !part.is_empty() && has_only(part, |byte| byte.is_ascii_alphanumeric() | matches!(byte, b'-' | b'_'));
    let mut parts = text.split('.');
    let three = [parts.next(), parts.next(), parts.next()];
    parts.next().is_none() && three.into_iter().all(|part| part.is_some_and(base64url))
}

/// Whether what stands in this parameter may be a credential of this gate's, so that it is nobody else's business.
pub(super) fn could_open(parameter: &str, value: &str, rules: &Rules) -> bool {
    // RFC 6750 section 2.3 gives the name no other meaning.
    parameter == "access_token"
        || is_token(value)
        || !matches!(read_key(&rules.key_brand, value), KeyForm::Foreign)
        || (rules.imported_keys == ImportedKeys::Accepted && is_token68(value))
}

/// RFC 9110's `token68`, which is RFC 6750's `b64token`: no blanks, quotes, commas, `!`, and nothing beyond ASCII.
pub(super) fn is_token68(text: &str) -> bool {
    let unpadded = text.trim_end_matches('=');
    !unpadded.is_empty()
        && has_only(unpadded, |byte| byte.is_ascii_alphanumeric() | matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/'))
}

/// Like `all`, but it does not stop at the first byte that is not, so that the processor looks at many at once.
fn has_only(text: &str, is_allowed: impl Fn(u8) -> bool) -> bool {
    text.bytes().fold(true, |fits, byte| fits & is_allowed(byte))
}

pub(super) fn malformed(internal: &'static str) -> Denial {
    Denial::new(Reason::MalformedCredential).because(internal)
}

impl<'m> Credential<'m> {
    /// The text that a client keeps secret; none for a principal, which is proven by the connection.
    pub fn secret_text(&self) -> Option<&'m str> {
        match self {
            Self::None | Self::Principal(_) => None,
            Self::Own(own) => Some(own.text),
            Self::Foreign(text) | Self::Token(text) | Self::Opaque(text) | Self::Handle { text, .. } => Some(text),
        }
    }
}

impl fmt::Debug for Credential<'_> {
    /// Never the text.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => out.write_str("None"),
            Self::Own(own) => write!(out, "Own({})", own.id),
            Self::Foreign(_) => out.write_str("Foreign"),
            Self::Token(_) => out.write_str("Token"),
            Self::Opaque(_) => out.write_str("Opaque"),
            Self::Handle { handle, .. } => write!(out, "{handle:?}"),
            Self::Principal(principal) => write!(out, "Principal({principal})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_outside_the_alphabet_is_seen_wherever_it_stands() {
        for length in [1, 15, 16, 17, 33, 400] {
            for position in [0, length / 2, length - 1] {
                for character in (0..=0x7f_u8).map(char::from).chain(['\u{80}', '\u{141}', 'ｌ']) {
                    let before = "a".repeat(position);
                    let text = format!("{before}{character}{}", "Z".repeat(length - position - 1));
                    let plain = character.is_ascii_alphanumeric() || "-_".contains(character);
                    let is_padding = character == '=' && position == length - 1 && length > 1;
                    assert_eq!(is_token68(&text), plain || "._~+/".contains(character) || is_padding, "{text:?}");
                    for token in [format!("{text}.b.c"), format!("a.{text}.c"), format!("a.b.{text}")] {
                        assert_eq!(is_token(&token), plain, "{token:?}");
                    }
                }
            }
        }
    }
}
