//! The pages over their router.

use axum::body::Body;
use axum::http::Request;
use serde_json::Value;
use serde_json::json;

use super::*;
use crate::issuer::accounts::sign_up::NewAccount;
use crate::issuer::accounts::sign_up::sign_up;
use crate::issuer::callers::FORM_HEADER;
use crate::issuer::oauth::authorize::asked::encode;
use crate::issuer::oauth::authorize::testing::Browser;
use crate::issuer::oauth::authorize::testing::Seen;
use crate::issuer::oauth::authorize::testing::client;
use crate::issuer::oauth::authorize::testing::path;
use crate::issuer::tests::Issuer;
use crate::model::client::ClientKind;
use crate::model::client::ClientRecord;
use crate::model::grant::GrantEnd;
use crate::model::grant::GrantState;
use crate::model::issuance::PhoneRule;
use crate::model::issuance::Provider;
use crate::model::issuance::SignUp;
use crate::store::Write;
use crate::store::codec::Shelved;

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

/// The digest that the policy names is the style sheet's: else the page would be bare.
fn assert_style_is_allowed(seen: &Seen) {
    use base64::Engine as _;
    let (_, after) = seen.text.split_once("<style>").unwrap();
    let (style, _) = after.split_once("</style>").unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, style.as_bytes());
    let source = format!("'sha256-{}'", base64::engine::general_purpose::STANDARD.encode(digest));
    assert!(seen.header("content-security-policy").contains(&source));
    assert!(!style.contains("http"));
}

// oauth: A19 R5
#[test]
fn a_page_without_one_of_its_headers_is_not_guarded() {
    let without = |name: &str| {
        let (mut parts, _) = StatusCode::OK.into_response().into_parts();
        let kept: Vec<(HeaderName, HeaderValue)> = UNKEPT.into_iter().chain(UNFRAMED).filter(|(kept, _)| kept.as_str() != name).collect();
        guard(&mut parts.headers, &kept);
        let policy: Vec<String> = policy(&[]).into_iter().filter(|part| !part.starts_with(name)).collect();
        confine(&mut parts.headers, &policy);
        unguarded(&Seen { parts, text: String::new() })
    };
    assert_eq!(without("nothing"), [""; 0]);
    let parts = policy(&[]).map(|part| part.split(' ').next().unwrap().to_owned());
    for name in UNKEPT.iter().chain(&UNFRAMED).map(|(name, _)| name.as_str()).chain(parts.iter().map(String::as_str)) {
        let lacking = without(name);
        assert!(lacking.len() == 1 && lacking[0].starts_with(name), "{name}: {lacking:?}");
    }
}

// oauth: R3
#[tokio::test]
async fn no_form_and_no_change_by_cookie_is_taken_without_the_browsers_value_for_it() {
    let issuer = with_account().await;
    let mut browser = Browser::signed_in(&issuer, "alice").await;
    let account = own_token(&browser.get(&issuer, "/account").await);
    let sign_out = browser.get(&issuer, "/sign-out").await.hidden("form_token");
    for path in [
        "/sign-in",
        "/sign-up",
        "/sign-out",
        "/account/apps",
        "/account/keys",
        "/account/sessions",
        "/account/password",
        "/account/link/google",
    ] {
        let others = if path == "/sign-out" { &account } else { &sign_out };
        for fields in [&[][..], &[("form_token", "")], &[("form_token", others)]] {
            assert_eq!(browser.post(&issuer, path, fields).await.status(), 403, "{path} {fields:?}");
        }
    }
    let own: Value = serde_json::from_str(&browser.get(&issuer, "/v1/sessions/self").await.text).unwrap();
    for (method, path) in [("POST", "/v1/keys"), ("PATCH", "/v1/users/alice"), ("DELETE", "/v1/sessions/none"), ("POST", "/v1/clients")] {
        let mut call = async |value: Option<&str>, site: &str| {
            let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
            let request =
                value.into_iter().fold(request.header("sec-fetch-site", site), |request, value| request.header(FORM_HEADER, value));
            browser.send(&issuer, request.body(Body::from("{}")).unwrap()).await.status()
        };
        let value = own["csrf_token"].as_str();
        for (value, site) in [(None, "same-origin"), (Some(&*account), "same-origin"), (value, "cross-site")] {
            assert_eq!(call(value, site).await, 403, "{method} {path} {value:?} {site}");
        }
        assert_ne!(call(value, "same-origin").await, 403, "{method} {path}");
    }
}

// oauth: A19 R5
#[tokio::test]
async fn every_page_is_guarded_and_loads_nothing() {
    let issuer = Issuer::issuing(|issuance| issuance.providers.push(provider()));
    let (client, public) = (client("a"), ClientRecord { kind: ClientKind::Public, ..client("p") });
    issuer.put_client(&client).await;
    issuer.put_client(&public).await;
    issuer.put_user("alice", ALL).await;
    let (mut nobody, mut alice) = (Browser::default(), Browser::signed_in(&issuer, "alice").await);
    for seen in [
        nobody.get(&issuer, "/sign-in").await,
        nobody.get(&issuer, "/sign-in?return_to=/account").await,
        nobody.get(&issuer, "/sign-up").await,
        nobody.get(&issuer, "/oauth/authorize").await,
        nobody.get(&issuer, "/sign-in?a=%FF").await,
        nobody.post(&issuer, "/sign-in", &[("name", "alice")]).await,
        nobody.post(&issuer, "/sign-up", &[("name", "alice")]).await,
        nobody.post(&issuer, "/sign-out", &[]).await,
        nobody.post(&issuer, "/oauth/consent", &[]).await,
        alice.get(&issuer, "/account").await,
        alice.get(&issuer, "/sign-out").await,
        alice.get(&issuer, &path(&client, &[])).await,
        alice.get(&issuer, &path(&public, &[])).await,
    ] {
        assert_is_guarded(&seen);
        assert_style_is_allowed(&seen);
        for needed in ["<!doctype html>", "<html lang=\"en\">", "<title>", "<main", "<h1>", "name=\"viewport\""] {
            assert!(seen.text.contains(needed), "{needed} in {}", seen.text);
        }
        // Every field that people fill in has its label.
        for field in seen.text.split("<input id=\"").skip(1) {
            let id = field.split('"').next().unwrap();
            assert!(seen.text.contains(&format!("<label for=\"{id}\">")), "{id}");
        }
    }
    for seen in [nobody.get(&issuer, "/account").await, nobody.get(&issuer, &path(&client, &[])).await] {
        assert_eq!((seen.status(), seen.header("referrer-policy"), seen.header("cache-control")), (303, "no-referrer", "no-store"));
    }
}

// oauth: A20 C10 R6
#[tokio::test]
async fn the_consent_page_shows_who_wants_what_and_escapes_it() {
    let issuer = Issuer::issuing(|_| ());
    let client = ClientRecord {
        name: "<b>\"Evil\" & 'co'</b>".into(),
        website: Some("javascript:alert(1)\"><script>".into()),
        redirect_uris: vec!["https://app.example.com:8443/cb?x='%22".into()],
        ..client("a")
    };
    issuer.put_client(&client).await;
    issuer.put_user("al<i>ce&", ALL).await;
    let mut browser = Browser::signed_in(&issuer, "al<i>ce&").await;
    let changes = [("redirect_uri", None), ("scope", Some("orders:read files:read")), ("state", Some("\"><script>alert(1)</script>"))];
    let page = browser.get(&issuer, &path(&client, &changes)).await;
    assert_eq!(page.status(), 200);
    assert_is_guarded(&page);
    for shown in ["app.example.com:8443", "Read your orders", "Read your files", "orders:read", "files:read"] {
        assert!(page.text.contains(shown), "{shown} in {}", page.text);
    }
    // The request itself stands escaped in one link, for whoever is not this user.
    let (before, after) = page.text.split_once("href=\"/sign-out?return_to=").unwrap();
    let (link, after) = after.split_once('"').unwrap();
    assert!(link.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"%-._~".contains(&byte)), "{link}");
    for hidden in ["<b>", "<i>", "Place orders", "alert(1)<", "alert(1)&#60;/script", "E9Melhoa2Owv"] {
        assert!(!before.contains(hidden) && !after.contains(hidden), "{hidden} in {}", page.text);
    }
    assert!(page.header("content-security-policy").contains("form-action 'self' https://app.example.com:8443;"));
}

// oauth: R3 R13
#[tokio::test]
async fn people_sign_in_out_and_in_again() {
    let issuer = with_account().await;
    let client = client("a");
    issuer.put_client(&client).await;
    let mut browser = Browser::default();
    let start = browser.get(&issuer, &path(&client, &[])).await;
    let page = browser.get(&issuer, start.location()).await;
    assert!(page.text.contains("href=\"/sign-in/google?return_to=%2Foauth%2Fauthorize%3F"), "{}", page.text);
    assert!(page.header("content-security-policy").contains("form-action 'self' https://app.example.com;"));
    let fill = |page: &Seen, name: &str, password: &str| {
        [
            ("form_token", page.hidden("form_token")),
            ("return_to", start.told_text("return_to")),
            ("name", name.to_owned()),
            ("password", password.to_owned()),
        ]
    };
    let pairs = |fields: &[(&'static str, String); 4]| -> Vec<(&'static str, String)> { fields.to_vec() };
    let mut texts = Vec::new();
    for (name, password) in [("alice", "wrong"), ("nobody", PASSWORD), ("", ""), ("al\0ice", "\u{0}"), ("a".repeat(2000).as_str(), "x")] {
        let fields = pairs(&fill(&page, name, password));
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let seen = browser.post(&issuer, "/sign-in", &fields).await;
        assert_eq!(seen.status(), 401, "{name}: {}", seen.text);
        assert!(seen.text.contains("role=\"alert\""));
        let kept = match name {
            "alice" => "name=\"name\" value=\"alice\"",
            _ => "name=\"name\" value=\"",
        };
        assert!(seen.text.contains(kept), "{}", seen.text);
        let unwritten: Vec<&str> = seen.text.lines().filter(|line| !line.starts_with("<input ")).collect();
        texts.push(unwritten.join("\n"));
    }
    texts.dedup();
    assert_eq!(texts.len(), 1, "one answer for every reason");
    let fields = pairs(&fill(&page, "alice", PASSWORD));
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    // Another browser's form opens nothing here.
    assert_eq!(Browser::default().post(&issuer, "/sign-in", &fields).await.status(), 403);
    let signed_in = browser.post(&issuer, "/sign-in", &fields).await;
    assert_eq!((signed_in.status(), signed_in.location()), (303, start.told_text("return_to").as_str()));
    let consent = browser.get(&issuer, signed_in.location()).await;
    assert!(consent.text.contains("Signed in as <strong>alice</strong>"), "{}", consent.text);
    let before = browser.clone();
    let out = browser.get(&issuer, "/sign-out").await;
    assert_eq!(browser.post(&issuer, "/sign-out", &[("form_token", "x")]).await.status(), 403);
    let gone = browser.post(&issuer, "/sign-out", &[("form_token", &out.hidden("form_token"))]).await;
    assert_eq!((gone.status(), gone.location()), (303, "/sign-in"));
    for mut browser in [browser, before] {
        assert_eq!(browser.get(&issuer, "/account").await.status(), 303, "the session is dead, whoever kept its cookie");
    }
}

// oauth: B7
#[tokio::test]
async fn a_sign_in_leads_to_our_own_pages_only() {
    let issuer = with_account().await;
    for bad in ["//evil.example", "https://evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example", "javascript:alert(1)"]
    {
        let mut browser = Browser::default();
        let page = browser.get(&issuer, &format!("/sign-in?return_to={}", encode(bad.as_bytes()))).await;
        assert!(!page.text.contains("evil") && !page.text.contains("alert"), "{}", page.text);
        let fields = [("form_token", &*page.hidden("form_token")), ("return_to", bad), ("name", "alice"), ("password", PASSWORD)];
        let seen = browser.post(&issuer, "/sign-in", &fields).await;
        assert_eq!((seen.status(), seen.location()), (303, "/account"), "{bad}");
    }
}

#[tokio::test]
async fn people_sign_up_and_see_their_key_once() {
    let issuer = Issuer::issuing(|issuance| {
        issuance.first_key = Some(crate::model::issuance::FirstKey {
            name: "first".into(),
            environment: crate::model::caller::Environment::Live,
            scopes: std::sync::Arc::clone(&issuance.member_rights),
        });
    });
    let mut browser = Browser::default();
    let page = browser.get(&issuer, "/sign-up?return_to=/account").await;
    let token = page.hidden("form_token");
    let refused = browser.post(&issuer, "/sign-up", &[("form_token", &token), ("name", "b b<i>"), ("password", PASSWORD)]).await;
    assert!(refused.status() >= 400 && refused.text.contains("role=\"alert\"") && !refused.text.contains("<i>"), "{}", refused.text);
    assert!(!refused.text.contains(PASSWORD));
    let fields =
        [("form_token", &*token), ("name", "bob"), ("password", PASSWORD), ("phone", "+49 (30) 123-456"), ("return_to", "/account")];
    let welcome = browser.post(&issuer, "/sign-up", &fields).await;
    assert_eq!(welcome.status(), 200, "{}", welcome.text);
    assert!(welcome.text.contains("reva_live_sk_") && welcome.text.contains("href=\"/account\""));
    let account = browser.get(&issuer, "/account").await;
    assert!(account.text.contains("<dd>bob</dd>") && account.text.contains("reva_live_sk_"));
    let (_, key) = welcome.text.split_once("reva_live_sk_").unwrap();
    assert!(!account.text.contains(key.split('<').next().unwrap()), "the key itself is gone");
    let closed = Issuer::issuing(|issuance| issuance.sign_up = SignUp::Closed);
    for seen in [browser.get(&closed, "/sign-up").await, browser.post(&closed, "/sign-up", &fields).await] {
        assert_eq!(seen.status(), 404);
    }
}

#[tokio::test]
async fn what_was_allowed_can_be_taken_back() {
    let issuer = Issuer::issuing(|_| ());
    let client = ClientRecord { owner: Some(crate::model::caller::Subject::parse("alice").unwrap()), ..client("a") };
    issuer.put_client(&client).await;
    issuer.put_user("alice", ALL).await;
    issuer.put_user("bob", ALL).await;
    let mut alice = Browser::signed_in(&issuer, "alice").await;
    for _grant in 0..2 {
        let mut given = alice.get(&issuer, &path(&client, &[])).await;
        if given.status() == 200 {
            let allowed = [("form_token", &*given.hidden("form_token")), ("ticket", &*given.hidden("ticket")), ("answer", "allow")];
            given = alice.post(&issuer, "/oauth/consent", &allowed).await;
        }
        let mut grant = issuer.grant_of_code(&given.told_text("code")).await;
        grant.state = GrantState::Live;
        let key = crate::model::grant::GrantRecord::place(grant.id.as_str());
        issuer.put(Write::Put { key, bytes: grant.encode(), expires: None }).await;
    }
    let given = alice.get(&issuer, &path(&client, &[])).await;
    assert_eq!(given.status(), 303, "a code is out too");
    let page = alice.get(&issuer, "/account").await;
    assert_eq!(page.text.matches("Example &#60;App&#62;").count(), 2, "one line, and its button's name: {}", page.text);
    let mut bob = Browser::signed_in(&issuer, "bob").await;
    let his = bob.get(&issuer, "/account").await;
    assert!(!his.text.contains("Example"));
    let client_id = client.id.as_str();
    bob.post(&issuer, "/account/apps", &[("form_token", &his.hidden_or_empty("form_token")), ("client", client_id)]).await;
    assert_eq!(alice.post(&issuer, "/account/apps", &[("client", client_id)]).await.status(), 403);
    assert!(issuer.grants().await.iter().all(|grant| !matches!(grant.state, GrantState::Ended { .. })));
    let taken = alice.post(&issuer, "/account/apps", &[("form_token", &page.hidden("form_token")), ("client", client_id)]).await;
    assert_eq!((taken.status(), taken.location()), (303, "/account"));
    let grants = issuer.grants().await;
    assert_eq!(grants.len(), 3);
    assert!(grants.iter().all(|grant| matches!(grant.state, GrantState::Ended { why: GrantEnd::Revoked, .. })), "{grants:?}");
    assert!(!alice.get(&issuer, "/account").await.text.contains("Example"));
}

#[tokio::test]
async fn pages_take_forms_and_nothing_else() {
    let issuer = Issuer::issuing(|_| ());
    let mut browser = Browser::default();
    for path in
        ["/sign-in", "/sign-up", "/sign-out", "/account/apps", "/account/keys", "/account/sessions", "/account/password", "/oauth/consent"]
    {
        for (kind, body, status) in [
            ("application/json", "{}".to_owned(), 415),
            ("text/plain", "name=a".to_owned(), 415),
            ("application/x-www-form-urlencoded", "a=1&a=2".to_owned(), 400),
            ("application/x-www-form-urlencoded", "a=%FF".to_owned(), 400),
            ("application/x-www-form-urlencoded", "a".repeat(1 << 20), 413),
        ] {
            let request = Request::builder().method("POST").uri(path).header("content-type", kind).body(Body::from(body)).unwrap();
            assert_eq!(browser.send(&issuer, request).await.status(), status, "{path} {kind}");
        }
    }
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

#[tokio::test]
async fn pages_say_what_one_signs_in_to() {
    let issuer = Issuer::issuing(|issuance| issuance.name = "Acme <API>".into());
    for path in ["/sign-in", "/sign-up", "/oauth/authorize"] {
        let seen = Browser::default().get(&issuer, path).await;
        assert!(seen.text.contains(" &middot; Acme &#60;API&#62;</title>"), "{}", seen.text);
        assert!(seen.text.contains("<p class=\"site\">Acme &#60;API&#62;</p>"), "{}", seen.text);
    }
}

#[tokio::test]
async fn a_sign_up_says_its_rules_and_all_that_is_wrong_at_once() {
    let issuer = with_account().await;
    let mut browser = Browser::default();
    let page = browser.get(&issuer, "/sign-up").await;
    for (name, rule) in [("name", "maxlength=\"64\""), ("name", " required"), ("password", "minlength=\"8\""), ("password", " required")] {
        assert!(field(&page, name).contains(rule), "{name}: {}", field(&page, name));
    }
    assert!(page.text.contains("Capitals become small letters") && !page.text.contains('`'), "{}", page.text);
    let token = page.hidden("form_token");
    let wrong = [
        ("form_token", token.as_str()),
        ("name", "Ada L"),
        ("password", "short"),
        ("display_name", "Ada"),
        ("email", "nowhere"),
        ("phone", "12"),
        ("invitation", "bogus"),
    ];
    let seen = browser.post(&issuer, "/sign-up", &wrong).await;
    assert_eq!(seen.status(), 400);
    assert_is_guarded(&seen);
    for (name, value) in [("name", "Ada L"), ("email", "nowhere"), ("phone", "12"), ("invitation", "bogus"), ("password", "")] {
        let field = field(&seen, name);
        assert!(field.contains(&format!("value=\"{value}\"")) && field.contains("aria-invalid"), "{name}: {field}");
        assert!(
            field.contains(&format!("aria-describedby=\"{name}-wrong")) && seen.text.contains(&format!("id=\"{name}-wrong\"")),
            "{field}"
        );
    }
    assert!(field(&seen, "display_name").contains("value=\"Ada\"") && !field(&seen, "display_name").contains("aria-invalid"));
    for (name, status) in [("Alice", 409), ("admin", 400)] {
        let fields = [("form_token", token.as_str()), ("name", name), ("password", PASSWORD)];
        let seen = browser.post(&issuer, "/sign-up", &fields).await;
        assert_eq!(seen.status(), status, "{}", seen.text);
        assert!(seen.text.contains("This name is taken") && field(&seen, "name").contains("aria-invalid"), "{}", seen.text);
    }
    let fields = [("form_token", token.as_str()), ("name", " Ada "), ("password", PASSWORD)];
    assert_eq!(browser.post(&issuer, "/sign-up", &fields).await.status(), 303);
    assert!(browser.get(&issuer, "/account").await.text.contains("<dd>ada</dd>"));
}

#[tokio::test]
async fn a_number_is_asked_for_as_the_config_says() {
    for (rule, words, alone) in [
        (PhoneRule::Required, Some("required without an invitation"), 400),
        (PhoneRule::Optional, Some("optional"), 303),
        (PhoneRule::Off, None, 303),
    ] {
        let issuer = Issuer::issuing(|issuance| issuance.phone = rule);
        let mut browser = Browser::default();
        let page = browser.get(&issuer, "/sign-up").await;
        let label = page.text.split_once("<label for=\"phone\">").map(|(_, after)| after.split("</label>").next().unwrap());
        assert_eq!(label.is_some(), words.is_some(), "{rule:?}");
        assert!(words.is_none_or(|words| label.unwrap().contains(words)), "{label:?}");
        let token = page.hidden("form_token");
        let seen = browser.post(&issuer, "/sign-up", &[("form_token", &token), ("name", "ada"), ("password", PASSWORD)]).await;
        assert_eq!(seen.status(), alone, "{rule:?}: {}", seen.text);
    }
}

#[tokio::test]
async fn an_invitation_says_whom_one_joins_and_a_spent_one_says_so_at_once() {
    let issuer = with_account().await;
    let (_, alice) = issuer.call("GET", "/v1/users/alice", Value::Null).await;
    let organization = alice["organization"].as_str().unwrap();
    issuer.call("PATCH", &format!("/v1/organizations/{organization}"), json!({"name": "Bread & Butter"})).await;
    let (_, made) = issuer.call("POST", "/v1/invitations", json!({"organization": organization})).await;
    let handle = made["invitation"].as_str().unwrap();
    let link = format!("/sign-up?invitation={handle}");
    let mut bob = Browser::default();
    let page = bob.get(&issuer, &link).await;
    assert!(page.text.contains("You are joining <strong>Bread &#38; Butter</strong>"), "{}", page.text);
    assert_eq!(page.hidden("invitation"), handle);
    assert!(!page.text.contains("id=\"invitation\"") && !page.text.contains("id=\"phone\""), "{}", page.text);
    let token = page.hidden("form_token");
    let mut fields = vec![("form_token", token.as_str()), ("invitation", handle), ("name", "b b"), ("password", PASSWORD)];
    let again = bob.post(&issuer, "/sign-up", &fields).await;
    assert!(again.status() == 400 && again.text.contains("You are joining"), "{}", again.text);
    fields[2] = ("name", "bob");
    assert_eq!(bob.post(&issuer, "/sign-up", &fields).await.status(), 303);
    let account = bob.get(&issuer, "/account").await;
    assert!(account.text.contains("<dd>Bread &#38; Butter</dd>") && account.text.contains("<dd>member</dd>"), "{}", account.text);
    for spent in [link.as_str(), "/sign-up?invitation=%22%3E%3Cb%3E"] {
        let seen = Browser::default().get(&issuer, spent).await;
        assert_eq!(seen.status(), 400);
        assert_is_guarded(&seen);
        assert!(seen.text.contains("Ask whoever invited you for a new one") && !seen.text.contains("<form"), "{}", seen.text);
        assert!(!seen.text.contains("<b>") && !seen.text.contains(handle));
    }
}

#[tokio::test]
async fn people_change_their_password_and_stay_signed_in_here_alone() {
    let issuer = with_account().await;
    let (mut here, mut there) = (Browser::signed_in(&issuer, "alice").await, Browser::signed_in(&issuer, "alice").await);
    let page = here.get(&issuer, "/account").await;
    let token = own_token(&page);
    for (current, new, status, marked) in [
        ("wrong", "another password", 401, "current_password"),
        ("", "another password", 400, "current_password"),
        (PASSWORD, "short", 400, "new_password"),
    ] {
        let fields = [("form_token", token.as_str()), ("current_password", current), ("new_password", new)];
        let seen = here.post(&issuer, "/account/password", &fields).await;
        assert_eq!(seen.status(), status, "{}", seen.text);
        assert_is_guarded(&seen);
        assert!(field(&seen, marked).contains("aria-invalid") && !seen.text.contains(PASSWORD), "{}", seen.text);
    }
    let fields = [("current_password", PASSWORD), ("new_password", "another password")];
    assert_eq!(here.post(&issuer, "/account/password", &fields).await.status(), 403, "without the page's value");
    let fields = [("form_token", token.as_str()), fields[0], fields[1]];
    let done = here.post(&issuer, "/account/password", &fields).await;
    assert_eq!((done.status(), done.location()), (303, "/account?done=password"));
    assert!(here.get(&issuer, done.location()).await.text.contains("Your password is changed"));
    assert_eq!(there.get(&issuer, "/account").await.status(), 303, "signed out there");
    let mut anew = Browser::default();
    let token = anew.get(&issuer, "/sign-in").await.hidden("form_token");
    for (password, status) in [(PASSWORD, 401), ("another password", 303)] {
        let fields = [("form_token", token.as_str()), ("name", "alice"), ("password", password)];
        assert_eq!(anew.post(&issuer, "/sign-in", &fields).await.status(), status);
    }
}

#[tokio::test]
async fn people_end_their_other_sessions_and_nobody_elses() {
    let issuer = with_account().await;
    issuer.put_user("bob", ALL).await;
    let mut bob = Browser::signed_in(&issuer, "bob").await;
    let mut alices = Vec::new();
    for _session in 0..4 {
        alices.push(Browser::signed_in(&issuer, "alice").await);
    }
    let mut here = alices.remove(0);
    let page = here.get(&issuer, "/account").await;
    let token = own_token(&page);
    assert_eq!(page.text.matches("name=\"session\"").count(), 3, "none for this one");
    assert!(!page.text.contains("T00:") && page.text.contains(" UTC"), "{}", page.text);
    let one = page.hidden("session");
    let his = own_token(&bob.get(&issuer, "/account").await);
    bob.post(&issuer, "/account/sessions", &[("form_token", &his), ("session", &one)]).await;
    here.post(&issuer, "/account/sessions", &[("form_token", &token), ("session", "no-such-session")]).await;
    assert_eq!(here.get(&issuer, "/account").await.text.matches("name=\"session\"").count(), 3);
    assert_eq!(here.post(&issuer, "/account/sessions", &[("session", &one)]).await.status(), 403);
    assert_eq!(here.post(&issuer, "/account/sessions", &[("form_token", &token), ("session", &one)]).await.status(), 303);
    assert_eq!(here.get(&issuer, "/account").await.text.matches("name=\"session\"").count(), 2);
    assert_eq!(here.post(&issuer, "/account/sessions", &[("form_token", &token), ("others", "all")]).await.status(), 303);
    for mut other in alices {
        assert_eq!(other.get(&issuer, "/account").await.status(), 303);
    }
    assert_eq!((here.get(&issuer, "/account").await.status(), bob.get(&issuer, "/account").await.status()), (200, 200));
}

#[tokio::test]
async fn people_revoke_their_keys_on_their_page() {
    let issuer = with_account().await;
    issuer.put_user("bob", ALL).await;
    let (status, made) = issuer.call("POST", "/v1/keys", json!({"user": "alice", "name": "laptop", "scopes": ["orders:read"]})).await;
    assert_eq!(status, 201, "{made}");
    let (mut alice, mut bob) = (Browser::signed_in(&issuer, "alice").await, Browser::signed_in(&issuer, "bob").await);
    let page = alice.get(&issuer, "/account").await;
    let (token, key) = (own_token(&page), page.hidden("key"));
    let his = own_token(&bob.get(&issuer, "/account").await);
    assert_eq!(bob.post(&issuer, "/account/keys", &[("form_token", &his), ("key", &key)]).await.status(), 404);
    assert_eq!(alice.post(&issuer, "/account/keys", &[("key", &key)]).await.status(), 403);
    assert!(alice.get(&issuer, "/account").await.text.contains("laptop"));
    assert_eq!(alice.post(&issuer, "/account/keys", &[("form_token", &token), ("key", &key)]).await.status(), 303);
    assert!(!alice.get(&issuer, "/account").await.text.contains("laptop"));
}

// oauth: B7
#[tokio::test]
async fn who_is_somebody_else_signs_in_and_goes_on_with_the_request() {
    let issuer = with_account().await;
    issuer.put_user("bob", ALL).await;
    let client = client("a");
    issuer.put_client(&client).await;
    let mut browser = Browser::signed_in(&issuer, "bob").await;
    let asked = path(&client, &[]);
    let consent = browser.get(&issuer, &asked).await;
    let (_, after) = consent.text.split_once("href=\"/sign-out").unwrap();
    let link = format!("/sign-out{}", after.split('"').next().unwrap());
    let question = browser.get(&issuer, &link).await;
    let fields = [("form_token", &*question.hidden("form_token")), ("return_to", &*question.hidden("return_to").replace("&#38;", "&"))];
    let out = browser.post(&issuer, "/sign-out", &fields).await;
    assert_eq!(out.status(), 303);
    let page = browser.get(&issuer, out.location()).await;
    let return_to = out.told_text("return_to");
    let fields = [("form_token", &*page.hidden("form_token")), ("return_to", &*return_to), ("name", "alice"), ("password", PASSWORD)];
    let back = browser.post(&issuer, "/sign-in", &fields).await;
    let consent = browser.get(&issuer, back.location()).await;
    assert!(consent.text.contains("Signed in as <strong>alice</strong>"), "{}", consent.text);
    for bad in ["https://evil.example", "//evil.example", "/\\evil.example"] {
        let page = browser.get(&issuer, &format!("/sign-out?return_to={}", encode(bad.as_bytes()))).await;
        assert!(!page.text.contains("evil"), "{}", page.text);
        let fields = [("form_token", &*page.hidden("form_token")), ("return_to", bad)];
        assert_eq!(browser.clone().post(&issuer, "/sign-out", &fields).await.location(), "/sign-in", "{bad}");
        browser = Browser::signed_in(&issuer, "alice").await;
    }
}

#[tokio::test]
async fn an_address_that_is_not_registered_is_said_to_be_so_and_never_shown() {
    let issuer = Issuer::issuing(|_| ());
    let client = client("a");
    issuer.put_client(&client).await;
    let seen = Browser::default().get(&issuer, &path(&client, &[("redirect_uri", Some("https://evil.example/cb"))])).await;
    assert_eq!(seen.status(), 400);
    assert!(seen.text.contains("not registered for this application") && !seen.text.contains("evil"), "{}", seen.text);
}
