//! The pages over their router.

mod account;
mod arriving;
mod guarding;

use crate::issuer::accounts::sign_up::NewAccount;
use crate::issuer::accounts::sign_up::sign_up;
use crate::issuer::oauth::authorize::testing::Seen;
use crate::issuer::tests::Issuer;
use crate::model::issuance::Provider;

const ALL: &str = "orders:read orders:write files:read";
const PASSWORD: &str = "correct horse battery staple";

fn provider() -> Provider {
    Provider {
        name: "google".into(),
        label: "Google".into(),
        issuer: "https://accounts.google.com".into(),
        tenants: Vec::new(),
        client_id: "c".into(),
        client_secret: None,
        scopes: Vec::new(),
        trusts_email: false,
    }
}

/// An issuer with alice's account, made as people make it.
async fn with_account() -> Issuer {
    let issuer = Issuer::issuing(|issuance| issuance.providers.push(provider()));
    let new = NewAccount {
        name: "alice".to_owned(),
        password: Some(PASSWORD.to_owned()),
        invitation: None,
        display_name: None,
        email: None,
        phone: Some("+4930123456".to_owned()),
    };
    sign_up(&issuer.state, new, None, issuer.state.clock.now()).await.unwrap();
    issuer
}

/// What an answer's headers lack that every page's must have.
fn unguarded(seen: &Seen) -> Vec<&'static str> {
    let policy = seen.header("content-security-policy");
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    let parts = ["default-src 'none'", "style-src 'sha256-", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"];
    let headers = [
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("cache-control", "no-store"),
        ("pragma", "no-cache"),
    ];
    let lacking = headers.iter().filter(|(name, value)| seen.header(name) != *value).map(|(name, _)| *name);
    parts.into_iter().filter(|part| !policy.contains(part)).chain(lacking).collect()
}

fn assert_is_guarded(seen: &Seen) {
    assert_eq!(unguarded(seen), [""; 0], "{:?}", seen.parts);
    for foreign in ["src=", "<script", "@import", "url(", "<link", "<iframe", "<img", " style=", " on"] {
        let is_there = if foreign == " on" { has_handler(&seen.text) } else { seen.text.contains(foreign) };
        assert!(!is_there, "{foreign} in {}", seen.text);
    }
}

fn has_handler(html: &str) -> bool {
    html.split('<')
        .filter_map(|tag| tag.split('>').next())
        .any(|tag| tag.split_whitespace().any(|word| word.starts_with("on") && word.contains('=')))
}

/// The value that the account's own forms carry; the forms that link a sign-in elsewhere carry another.
fn own_token(account: &Seen) -> String {
    let (_, form) = account.text.split_once("action=\"/account/password\"").unwrap();
    let (_, value) = form.split_once("name=\"form_token\" value=\"").unwrap();
    value.split('"').next().unwrap().to_owned()
}

/// The tag of the field of this name.
fn field<'a>(seen: &'a Seen, name: &str) -> &'a str {
    let (_, after) = seen.text.split_once(&format!("<input id=\"{name}\"")).unwrap_or_else(|| panic!("no {name} in {}", seen.text));
    after.split('>').next().unwrap()
}
