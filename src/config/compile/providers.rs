//! Providers at which people may sign in.

use std::sync::Arc;

use crate::config::compile::Revision;
use crate::config::compile::issuers;
use crate::config::compile::names;
use crate::config::desk::Desk;
use crate::config::desk::Spot;
use crate::config::file::issuance::ProviderFile;
use crate::model::issuance::Provider;
use crate::model::scope::Scope;

const TENANT: &str = "{tenantid}";

pub(super) fn providers(desk: &mut Desk<'_>, spot: &Spot, written: &[ProviderFile], revision: &mut Revision) -> Vec<Provider> {
    let mut providers: Vec<Provider> = Vec::with_capacity(written.len());
    for (index, provider) in written.iter().enumerate() {
        let spot = spot.index(index);
        if !names::is_small_name(&provider.name) {
            desk.error_expecting(&spot.key("name"), "this is no provider's name", "1 to 32 of `a-z 0-9 -`");
        }
        if providers.iter().any(|other| *other.name == provider.name) {
            desk.error(&spot.key("name"), "two providers have the same name");
        }
        if !is_web(&provider.issuer.replace(TENANT, "common")) || provider.issuer.matches(TENANT).count() > 1 {
            desk.error_expecting(&spot.key("issuer"), "this is no issuer", "its exact https URL (http on loopback only)");
        } else if let Some(own) = own_name(&provider.issuer) {
            desk.error_expecting(&spot.key("issuer"), "this is not how the provider calls itself: every sign-in would fail", own);
        }
        if !provider.tenants.is_empty() && !provider.issuer.contains(TENANT) {
            desk.error(&spot.key("tenants"), "tenants go with an issuer that has `{tenantid}` in it");
        }
        if provider.client_id.is_empty() || provider.client_id.len() > 512 || provider.client_id.chars().any(char::is_control) {
            desk.error_expecting(&spot.key("client_id"), "this is no client id", "1 to 512 characters");
        }
        let client_secret = provider.client_secret.as_ref().and_then(|place| desk.secret(&spot.key("client_secret"), place));
        if let Some(secret) = &client_secret {
            revision.add_secret("provider", secret);
        }
        let beside = provider.scopes.clone().unwrap_or_else(|| vec!["profile".to_owned(), "email".to_owned()]);
        for (index, scope) in beside.iter().enumerate() {
            if let Err(error) = Scope::parse(scope) {
                desk.error(&spot.key("scopes").index(index), error.to_string());
            }
        }
        providers.push(Provider {
            name: Arc::from(provider.name.as_str()),
            label: Arc::from(provider.label.as_deref().unwrap_or(&provider.name)),
            issuer: Arc::from(provider.issuer.as_str()),
            tenants: provider.tenants.iter().map(|tenant| Arc::from(tenant.as_str())).collect(),
            client_id: Arc::from(provider.client_id.as_str()),
            client_secret: client_secret.map(Arc::new),
            scopes: beside.iter().map(|scope| Arc::from(scope.as_str())).collect(),
            trusts_email: provider.trusts_email.unwrap_or(false),
        });
    }
    providers
}

/// What a provider that everybody knows calls itself in its tokens, where that is not what was written.
fn own_name(issuer: &str) -> Option<&'static str> {
    let rest = issuer.strip_prefix("https://")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let is_tenant = |text: &str| text == TENANT || (text.len() == 36 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'));
    match host {
        "accounts.google.com" if rest != host => Some("`https://accounts.google.com`"),
        "login.microsoftonline.com" if !path.strip_suffix("/v2.0").is_some_and(is_tenant) => {
            Some("`https://login.microsoftonline.com/{tenantid}/v2.0`, or the UUID of one tenant in the place of `{tenantid}`")
        }
        _ => None,
    }
}

/// An absolute URL that may be fetched or gone to: https, or http on loopback.
pub(super) fn is_web(url: &str) -> bool {
    let parsed = url.parse::<http::Uri>().ok();
    let host = parsed.as_ref().and_then(http::Uri::host);
    match (parsed.as_ref().and_then(http::Uri::scheme_str), host) {
        (Some("https"), Some(_)) => !url.contains('@'),
        (Some("http"), Some(host)) => issuers::is_loopback(host) && !url.contains('@'),
        (Some(_) | None, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_providers_are_named_as_they_name_themselves() {
        for good in [
            "https://accounts.google.com",
            "https://login.microsoftonline.com/{tenantid}/v2.0",
            "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0",
            "https://id.example.com/common/v2",
        ] {
            assert_eq!(own_name(good), None, "{good}");
        }
        assert_eq!(own_name("https://accounts.google.com/"), Some("`https://accounts.google.com`"));
        for bad in ["", "/common/v2.0", "/organizations/v2.0", "/{tenantid}/v2", "/{tenantid}/v2.0/", "/{tenant}/v2.0", "/contoso.com/v2.0"]
        {
            assert!(own_name(&format!("https://login.microsoftonline.com{bad}")).is_some(), "{bad}");
        }
    }
}
