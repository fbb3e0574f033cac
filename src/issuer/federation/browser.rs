//! Which browser a sign-in elsewhere was begun in: the mark that its ticket bears.

use std::sync::Arc;

use axum::http::HeaderMap;

use crate::issuer::IssuerState;
use crate::issuer::problem::Problem;
use crate::issuer::sessions;
use crate::model::hex::write_hex;
use crate::secrets::sha256;

/// A browser that we know again.
#[derive(Clone, Debug)]
pub(super) struct Browser {
    /// SHA-256 of the id in its cookie, 64 hex digits.
    pub(super) mark: Arc<str>,
    /// The `set-cookie` for one that had none.
    pub(super) cookie: Option<String>,
}

/// Knows the browser again, or from now on.
pub(super) fn meet(state: &IssuerState, headers: &HeaderMap) -> Result<Browser, Problem> {
    let (id, cookie) = sessions::browser(state, headers)?;
    Ok(Browser { mark: Arc::from(write_hex(&sha256(id.as_bytes()))), cookie })
}

/// The mark of the browser that sent this; none where it is new to us.
pub(super) fn known(state: &IssuerState, headers: &HeaderMap) -> Result<Option<Arc<str>>, Problem> {
    let browser = meet(state, headers)?;
    Ok(browser.cookie.is_none().then_some(browser.mark))
}
