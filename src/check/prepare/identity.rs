//! What stands in an identity header: its parts filled in, and judged once more.

use std::borrow::Cow;
use std::fmt;

use crate::check::decide::Denial;
use crate::check::reasons::Reason;
use crate::model::caller::Caller;
use crate::model::rules::IdentityPart;
use crate::model::rules::IdentityValue;

/// The longest identity header, in bytes.
const VALUE_LIMIT_BYTES: usize = 1024;

/// What most identity headers are shorter than, in bytes.
const USUAL_BYTES: usize = 64;

/// The longest user id or subject in a header, in bytes.
const USER_LIMIT_BYTES: usize = 128;

/// The header's value; none when one of its parts is unknown or empty.
pub(in crate::check) fn fill<'r>(parts: &'r [IdentityPart], caller: &Caller) -> Result<Option<Cow<'r, str>>, Denial> {
    let mut text = String::with_capacity(USUAL_BYTES);
    for part in parts {
        match part {
            IdentityPart::Text(fixed) => append(&mut text, format_args!("{fixed}")),
            IdentityPart::Of(value) => {
                let before = text.len();
                write_value(&mut text, *value, caller);
                match text.get(before..) {
                    Some("") | None => return Ok(None),
                    Some(written) => vet(written, *value)?,
                }
            }
        }
    }
    let shown = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    if text.len() > VALUE_LIMIT_BYTES || !text.bytes().all(shown) {
        return Err(unusable("an identity header is too long or not visible ASCII"));
    }
    if text.is_empty() { Ok(None) } else { Ok(Some(Cow::Owned(text))) }
}

fn write_value(text: &mut String, value: IdentityValue, caller: &Caller) {
    let mut known = |value: Option<&str>| text.push_str(value.unwrap_or_default());
    match value {
        IdentityValue::User => known(Some(caller.user.as_str())),
        IdentityValue::Subject => known(Some(caller.subject.as_str())),
        IdentityValue::Source => known(Some(caller.source.as_str())),
        IdentityValue::Issuer => known(Some(caller.issuer.as_deref().unwrap_or(caller.source.as_str()))),
        IdentityValue::Organization => known(caller.organization.as_deref()),
        IdentityValue::Key => known(caller.key.as_ref().map(|key| key.as_str())),
        IdentityValue::Client => known(caller.client.as_deref()),
        IdentityValue::Scopes => append(text, format_args!("{}", caller.scopes)),
        IdentityValue::Tier => known(caller.tier.as_deref()),
        IdentityValue::Environment => known(Some(caller.environment.as_str())),
    }
}

/// Values come from records and tokens, so they are judged again at the last place where a bad one can be stopped.
fn vet(value: &str, kind: IdentityValue) -> Result<(), Denial> {
    let (limit_bytes, spaces) = match kind {
        IdentityValue::User | IdentityValue::Subject => (USER_LIMIT_BYTES, false),
        IdentityValue::Scopes => (VALUE_LIMIT_BYTES, true),
        IdentityValue::Source
        | IdentityValue::Issuer
        | IdentityValue::Organization
        | IdentityValue::Key
        | IdentityValue::Client
        | IdentityValue::Tier
        | IdentityValue::Environment => (VALUE_LIMIT_BYTES, false),
    };
    let fits = |byte: u8| byte.is_ascii_graphic() || (spaces && byte == b' ');
    if value.len() <= limit_bytes && value.bytes().all(fits) {
        return Ok(());
    }
    Err(unusable("an identity value is too long or not visible ASCII"))
}

fn append(text: &mut String, piece: fmt::Arguments<'_>) {
    // Writing to a string cannot fail; were that to change, the missing text would be refused as unusable.
    if fmt::Write::write_fmt(text, piece).is_err() {
        text.push('\u{fffd}');
    }
}

fn unusable(why: &'static str) -> Denial {
    Denial::new(Reason::UnusableIdentity).because(why)
}
