//! Resource indicators, RFC 8707.

use std::sync::Arc;

use crate::issuer::oauth::authorize::checks::Inquiry;
use crate::issuer::oauth::authorize::refusal::ErrorCode;
use crate::issuer::oauth::authorize::refusal::Refusal;

/// Resources of one request.
const RESOURCES_MAX: usize = 8;

/// An absolute URI without fragment (section 2).
pub(super) fn form(inquiry: &Inquiry<'_>) -> Result<(), Refusal> {
    let asked = inquiry.asked.resources();
    if asked.len() <= RESOURCES_MAX && asked.iter().all(|uri| is_absolute(uri)) {
        return Ok(());
    }
    Err(Refusal::new(ErrorCode::InvalidTarget, "each resource must be an absolute URI without fragment, at most eight of them"))
}

/// One of ours, and of those that the client may name.
pub(super) fn known(inquiry: &Inquiry<'_>) -> Result<(), Refusal> {
    let is_allowed = |uri: &str| {
        let named = inquiry.client.map(|client| &client.resources).filter(|resources| !resources.is_empty());
        inquiry.issuance.resource(uri).is_some() && named.is_none_or(|resources| resources.iter().any(|known| **known == *uri))
    };
    if inquiry.asked.resources().iter().all(|uri| is_allowed(uri)) {
        return Ok(());
    }
    Err(Refusal::new(ErrorCode::InvalidTarget, "there is an unknown resource, or one that this client may not name"))
}

/// The resources of the grant: those that are named; else the client's first; else the default one.
pub(super) fn wanted(inquiry: &Inquiry<'_>) -> Vec<Arc<str>> {
    let mut resources: Vec<Arc<str>> = inquiry.asked.resources().iter().map(|uri| Arc::from(&**uri)).collect();
    if resources.is_empty() {
        let mut own = inquiry.client.iter().flat_map(|client| &client.resources);
        let default = || inquiry.issuance.resources.first().map(|resource| &resource.uri);
        resources.extend(own.find(|uri| inquiry.issuance.resource(uri).is_some()).or_else(default).cloned());
    }
    resources.sort_unstable();
    resources.dedup();
    resources
}

fn is_absolute(uri: &str) -> bool {
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
    };
    !uri.contains('#')
        && uri.bytes().all(|byte| byte.is_ascii_graphic())
        && uri.split_once(':').is_some_and(|(scheme, rest)| is_scheme(scheme) && !rest.is_empty())
}
