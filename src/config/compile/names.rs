//! The grammars of names.

use std::sync::Arc;

use crate::config::desk::Desk;
use crate::config::desk::Spot;

/// 1 to 64 of `a-z A-Z 0-9 . _ -`.
pub(super) fn is_dotted_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// 1 to 64 of `a-z A-Z 0-9 _ -`: peppers among others.
pub(super) fn is_plain_name(text: &str) -> bool {
    is_dotted_name(text) && !text.contains('.')
}

/// 1 to 32 of `a-z 0-9 -`: sources.
pub(super) fn is_small_name(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// 1 to 128 visible ASCII characters: organisations.
pub(super) fn is_visible(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

pub(super) fn brand(desk: &mut Desk<'_>, spot: &Spot, written: Option<&str>) -> Arc<str> {
    let brand = written.unwrap_or("tollgate");
    if !is_small_name(brand) || brand.len() > 16 || brand.contains('-') {
        desk.error_expecting(spot, "this is no brand", "1 to 16 of `a-z 0-9`");
    }
    Arc::from(brand)
}
