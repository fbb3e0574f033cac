//! What every page and every form keeps to, whatever it is for.

use axum::body::Body;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::Request;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::Value;

use crate::issuer::callers::FORM_HEADER;
use crate::issuer::oauth::authorize::asked::encode;
use crate::issuer::oauth::authorize::testing::Browser;
use crate::issuer::oauth::authorize::testing::Seen;
use crate::issuer::oauth::authorize::testing::client;
use crate::issuer::oauth::authorize::testing::path;
use crate::issuer::pages::UNFRAMED;
use crate::issuer::pages::UNKEPT;
use crate::issuer::pages::confine;
use crate::issuer::pages::guard;
use crate::issuer::pages::policy;
use crate::issuer::pages::tests::ALL;
use crate::issuer::pages::tests::PASSWORD;
use crate::issuer::pages::tests::assert_is_guarded;
use crate::issuer::pages::tests::own_token;
use crate::issuer::pages::tests::provider;
use crate::issuer::pages::tests::unguarded;
use crate::issuer::pages::tests::with_account;
use crate::issuer::tests::Issuer;
use crate::model::client::ClientKind;
use crate::model::client::ClientRecord;

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

/// The digest that the policy names is the style sheet's: else the page would be bare.
fn assert_style_is_allowed(seen: &Seen) {
    use base64::Engine as _;
    let (_, after) = seen.text.split_once("<style>").unwrap();
    let (style, _) = after.split_once("</style>").unwrap();
    let digest = crate::secrets::sha256(style.as_bytes());
    let source = format!("'sha256-{}'", base64::engine::general_purpose::STANDARD.encode(digest));
    assert!(seen.header("content-security-policy").contains(&source));
    assert!(!style.contains("http"));
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
async fn an_address_that_is_not_registered_is_said_to_be_so_and_never_shown() {
    let issuer = Issuer::issuing(|_| ());
    let client = client("a");
    issuer.put_client(&client).await;
    let seen = Browser::default().get(&issuer, &path(&client, &[("redirect_uri", Some("https://evil.example/cb"))])).await;
    assert_eq!(seen.status(), 400);
    assert!(seen.text.contains("not registered for this application") && !seen.text.contains("evil"), "{}", seen.text);
}
