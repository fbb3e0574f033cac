//! The pages over their router.

use axum::body::Body;
use axum::http::Request;

use crate::issuer::accounts::sign_up::NewAccount;
use crate::issuer::accounts::sign_up::sign_up;
use crate::issuer::oauth::authorize::testing::Browser;
use crate::issuer::oauth::authorize::testing::Seen;
use crate::issuer::oauth::authorize::testing::client;
use crate::issuer::oauth::authorize::testing::path;
use crate::issuer::tests::Issuer;
use crate::model::client::ClientKind;
use crate::model::client::ClientRecord;
use crate::model::grant::GrantEnd;
use crate::model::grant::GrantState;
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

fn assert_is_guarded(seen: &Seen) {
    let policy = seen.header("content-security-policy");
    for part in ["default-src 'none'", "style-src 'sha256-", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
        assert!(policy.contains(part), "{part} in {policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    for (name, value) in [
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(seen.header(name), value, "{name}");
    }
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
    for hidden in ["<b>", "<i>", "Place orders", "alert(1)<", "alert(1)&#60;/script", "E9Melhoa2Owv"] {
        assert!(!page.text.contains(hidden), "{hidden} in {}", page.text);
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
        texts.push(seen.text.replace(&seen.hidden("form_token"), ""));
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
        let page =
            browser.get(&issuer, &format!("/sign-in?return_to={}", super::super::oauth::authorize::asked::encode(bad.as_bytes()))).await;
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
    let page = browser.get(&issuer, "/sign-up?invitation=%22%3E%3Cb%3E&return_to=/account").await;
    assert!(!page.text.contains("<b>"));
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
    for path in ["/sign-in", "/sign-up", "/sign-out", "/account/apps", "/oauth/consent"] {
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
