//! What an authorization request must be, one small check after the other.
//!
//! Until the first two hold nobody knows where an answer belongs, so their refusals are pages. All others go to the client. The lists are
//! data: a test takes one check out and shows what would get through.

mod pkce;
mod prompt;
mod resource;
mod scope;
mod shape;
mod trust;

use std::sync::Arc;

use crate::issuer::checks::Check;
use crate::issuer::oauth::authorize::asked::AuthorizeParameters;
use crate::issuer::oauth::authorize::redirect::ReturnAddress;
use crate::issuer::oauth::authorize::refusal::Refusal;
use crate::model::client::ClientRecord;
use crate::model::issuance::Issuance;
use crate::model::scope::ScopeSet;

pub(super) use crate::issuer::oauth::authorize::checks::prompt::Prompt;
pub(in crate::issuer::oauth) use crate::issuer::oauth::authorize::checks::scope::Ceiling;
pub(in crate::issuer::oauth) use crate::issuer::oauth::authorize::checks::scope::bound;
pub(super) use crate::issuer::oauth::authorize::checks::scope::grantable;

/// Everything that a check may look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inquiry<'a> {
    pub asked: &'a AuthorizeParameters,
    /// What the shelf has under the client's id.
    pub client: Option<&'a Arc<ClientRecord>>,
    pub issuance: &'a Issuance,
}

/// Who asks, and where an answer may go.
pub(super) fn trust<'a>() -> [Check<Inquiry<'a>, Refusal>; 2] {
    [Check { name: "client", run: trust::client }, Check { name: "redirect_uri", run: trust::redirect_uri }]
}

/// What is asked.
pub(super) fn rules<'a>() -> [Check<Inquiry<'a>, Refusal>; 11] {
    [
        Check { name: "repeats", run: shape::repeats },
        Check { name: "response_type", run: shape::response_type },
        Check { name: "response_mode", run: shape::response_mode },
        Check { name: "grant_type", run: shape::grant_type },
        Check { name: "challenge_present", run: pkce::present },
        Check { name: "challenge_method", run: pkce::method },
        Check { name: "challenge_form", run: pkce::form },
        Check { name: "scope", run: scope::known },
        Check { name: "resource_form", run: resource::form },
        Check { name: "resource_known", run: resource::known },
        Check { name: "prompt", run: prompt::consistent },
    ]
}

/// An authorization request that passed.
#[derive(Clone, Debug)]
pub(super) struct Inquired {
    pub challenge: Arc<str>,
    /// None: whatever the client may have.
    pub scopes: Option<ScopeSet>,
    pub resources: Vec<Arc<str>>,
}

/// Where an answer goes, once the request's client and redirect URI are trusted; none where the request leaves it open.
pub(super) fn return_address(inquiry: &Inquiry<'_>) -> Option<ReturnAddress> {
    let named = inquiry.asked.value("redirect_uri");
    let uri = match &named {
        Some(uri) => Arc::from(&**uri),
        None => Arc::clone(inquiry.client?.redirect_uris.first()?),
    };
    Some(ReturnAddress { uri, named: named.is_some(), state: inquiry.asked.state() })
}

/// What a request says that passed every check.
pub(super) fn read(inquiry: &Inquiry<'_>) -> Inquired {
    Inquired {
        challenge: Arc::from(inquiry.asked.value("code_challenge").unwrap_or_default()),
        scopes: scope::wanted(inquiry),
        resources: resource::wanted(inquiry),
    }
}

#[cfg(test)]
mod tests;
