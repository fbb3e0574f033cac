//! `/oauth/authorize` over its router, from the request to the code.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;

use super::*;
use crate::issuer::oauth::authorize::testing::Browser;
use crate::issuer::oauth::authorize::testing::CHALLENGE;
use crate::issuer::oauth::authorize::testing::ISSUER;
use crate::issuer::oauth::authorize::testing::REDIRECT;
use crate::issuer::oauth::authorize::testing::Seen;
use crate::issuer::oauth::authorize::testing::client;
use crate::issuer::oauth::authorize::testing::path;
use crate::issuer::oauth::authorize::testing::query;
use crate::issuer::oauth::authorize::testing::scopes;
use crate::issuer::tests::Issuer;
use crate::model::client::ClientKind;
use crate::model::client::ClientState;
use crate::model::client::GrantType;
use crate::model::grant::GrantOf;
use crate::model::grant::GrantState;
use crate::model::issuance::Registration;
use crate::store::RecordKey;
use crate::store::Write;
use crate::store::codec::Shelved;
use crate::store::codec::encode_user;

const ALL: &str = "orders:read orders:write files:read";

/// An issuer with this client and alice, who is signed in.
async fn with(client: &ClientRecord) -> (Issuer, Browser) {
    let issuer = Issuer::issuing(|_| ());
    issuer.put_client(client).await;
    issuer.put_user("alice", ALL).await;
    let browser = Browser::signed_in(&issuer, "alice").await;
    (issuer, browser)
}

async fn answer(issuer: &Issuer, browser: &mut Browser, page: &Seen, answer: &str) -> Seen {
    assert_eq!(page.status(), 200, "{} {}", page.location(), page.text);
    let fields = [("form_token", &*page.hidden("form_token")), ("ticket", &*page.hidden("ticket")), ("answer", answer)];
    browser.post(issuer, "/oauth/consent", &fields).await
}

fn assert_is_page(seen: &Seen, status: u16) {
    assert_eq!((seen.status(), seen.location()), (status, ""), "{}", seen.text);
    assert_eq!(seen.header("content-type"), "text/html; charset=utf-8");
}

// oauth: A1 A12 A13 A16 A18 C3 D1
#[tokio::test]
async fn who_allows_it_is_sent_back_with_a_code() {
    let client = client("a");
    let (issuer, mut browser) = with(&client).await;
    let page = browser.get(&issuer, &path(&client, &[])).await;
    let allowed = answer(&issuer, &mut browser, &page, "allow").await;
    assert_eq!(allowed.status(), 303);
    assert!(allowed.location().starts_with("https://app.example.com/cb?code="), "{}", allowed.location());
    assert_eq!((allowed.told_text("state").as_str(), allowed.told_text("iss").as_str()), ("s-1", ISSUER));
    let grant = issuer.grant_of_code(&allowed.told_text("code")).await;
    let GrantState::Pending(pending) = &grant.state else { panic!("{grant:?}") };
    assert_eq!((&*pending.challenge, &*pending.redirect_uri, pending.redirect_uri_named), (CHALLENGE, REDIRECT, true));
    assert_eq!(pending.expires, issuer.state.clock.now().plus(Duration::from_secs(60)));
    assert_eq!(grant.scopes, scopes("orders:read"));
    assert_eq!(grant.resources, [Arc::<str>::from("https://api.example.com")]);
    assert_eq!(grant.of, GrantOf::Consent { client: client.id.clone(), user: Subject::parse("alice").unwrap() });
    assert!(grant.session.is_some());
    assert!(allowed.told("access_token").is_none() && !allowed.location().contains("_at_"));
    let without = browser.get(&issuer, &path(&client, &[("state", None), ("redirect_uri", None)])).await;
    let without = answer(&issuer, &mut browser, &without, "allow").await;
    assert_eq!(without.told("state"), None);
    let grant = issuer.grant_of_code(&without.told_text("code")).await;
    assert!(matches!(grant.state, GrantState::Pending(pending) if !pending.redirect_uri_named));
}

// oauth: A12
#[tokio::test]
async fn the_state_comes_back_byte_for_byte() {
    let client = client("a");
    let (issuer, mut browser) = with(&client).await;
    let long = "s".repeat(2048);
    for state in ["a+b", "a b", "100%", "%41", "a%2Bb", "\u{e9}\u{1f600}\u{202e}", "\"<&'>\r\n\0", "a=b&code=evil#x", &long] {
        for changes in [vec![("state", Some(state))], vec![("state", Some(state)), ("scope", Some("unknown"))]] {
            let seen = browser.get(&issuer, &path(&client, &changes)).await;
            let seen = if changes.len() == 1 { answer(&issuer, &mut browser, &seen, "deny").await } else { seen };
            assert_eq!(seen.told("state").unwrap(), state.as_bytes(), "{}", seen.location());
            assert!(seen.told("code").is_none());
        }
    }
    let raw = format!("{}&state=%FF%00+%2", query(&client, &[("state", None), ("scope", Some("unknown"))]));
    assert_eq!(browser.get(&issuer, &format!("/oauth/authorize?{raw}")).await.told("state").unwrap(), b"\xff\0 %2");
}

// oauth: A11 D2
#[tokio::test]
async fn who_denies_it_is_sent_back_without_one() {
    let client = client("a");
    let (issuer, mut browser) = with(&client).await;
    let page = browser.get(&issuer, &path(&client, &[])).await;
    for _click in 0..2 {
        let denied = answer(&issuer, &mut browser, &page, "deny").await;
        assert_eq!((denied.status(), denied.told_text("error").as_str()), (303, "access_denied"));
        assert_eq!((denied.told_text("state").as_str(), denied.told_text("iss").as_str()), ("s-1", ISSUER));
    }
    assert_is_page(&answer(&issuer, &mut browser, &page, "allow").await, 400);
    assert!(issuer.grants().await.is_empty());
}

// oauth: A2 A3 B6
#[tokio::test]
async fn nobody_is_sent_to_an_address_that_is_not_the_clients() {
    let (issuer, mut browser) = with(&client("a")).await;
    let disabled = ClientRecord { state: ClientState::Disabled, ..client("d") };
    let two = ClientRecord { redirect_uris: vec![REDIRECT.into(), "https://b.example/cb".into()], ..client("t") };
    issuer.put_client(&disabled).await;
    issuer.put_client(&two).await;
    let mut nobody = Browser::default();
    for wrong in [
        path(&client("b"), &[]),
        path(&disabled, &[]),
        path(&client("a"), &[("client_id", None)]),
        path(&client("a"), &[("client_id", Some("alice"))]),
        path(&client("a"), &[("client_id", Some("app_*"))]),
        path(&client("a"), &[("client_id", Some("app_\u{0}xxxxxxxxxxxxxxxxxxx"))]),
        path(&client("a"), &[("redirect_uri", Some("https://evil.example/cb"))]),
        path(&client("a"), &[("redirect_uri", Some("https://app.example.com/cb\r\nset-cookie: a=b"))]),
        path(&client("a"), &[("redirect_uri", Some("javascript:alert(1)"))]),
        path(&two, &[("redirect_uri", None)]),
        format!("{}&redirect_uri=https://evil.example/cb", path(&client("a"), &[])),
        format!("{}&client_id={}", path(&client("a"), &[]), client("a").id),
    ] {
        for browser in [&mut browser, &mut nobody] {
            for prompt in ["", "&prompt=none"] {
                assert_is_page(&browser.get(&issuer, &format!("{wrong}{prompt}")).await, 400);
            }
        }
    }
}

// oauth: A4 A5 A6 A9 A10 A20 C1 C4 C9 C10 D2
#[tokio::test]
async fn every_other_fault_goes_to_the_client() {
    let good = client("a");
    let (issuer, mut browser) = with(&good).await;
    let machine = ClientRecord { grant_types: vec![GrantType::ClientCredentials], ..client("m") };
    issuer.put_client(&machine).await;
    for (client, changes, error) in [
        (&good, ("response_type", None), "invalid_request"),
        (&good, ("response_type", Some("token")), "unsupported_response_type"),
        (&good, ("scope", Some("<script>alert(1)</script>")), "invalid_scope"),
        (&good, ("code_challenge", None), "invalid_request"),
        (&good, ("code_challenge_method", Some("plain")), "invalid_request"),
        (&good, ("code_challenge", Some("c0ffee")), "invalid_request"),
        (&good, ("resource", Some("https://evil.example")), "invalid_target"),
        (&machine, ("state", Some("s-1")), "unauthorized_client"),
    ] {
        let seen = browser.get(&issuer, &path(client, &[changes])).await;
        assert_eq!((seen.status(), seen.told_text("error").as_str()), (303, error), "{changes:?}");
        assert_eq!((seen.told_text("state").as_str(), seen.told_text("iss").as_str()), ("s-1", ISSUER));
        let allowed = |byte: u8| matches!(byte, 0x20 | 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        assert!(seen.told("error_description").unwrap().into_iter().all(allowed));
        for sent in ["alert", "c0ffee", "evil", CHALLENGE] {
            assert!(!seen.location().contains(sent) && !seen.text.contains(sent), "{sent} in {}", seen.location());
        }
    }
    let twice = browser.get(&issuer, &format!("{}&state=s-2", path(&good, &[]))).await;
    assert_eq!((twice.told_text("error").as_str(), twice.told("state")), ("invalid_request", None), "neither of two states is right");
    assert!(issuer.grants().await.is_empty());
}

// oauth: A17
#[tokio::test]
async fn nobody_is_sent_on_before_signing_in() {
    let own = client("a");
    let owned = ClientRecord { owner: Some(Subject::parse("mallory").unwrap()), ..client("m") };
    let (issuer, _) = with(&own).await;
    issuer.put_client(&owned).await;
    let mut nobody = Browser::default();
    for client in [&own, &owned] {
        for changes in [vec![], vec![("scope", Some("unknown"))], vec![("response_type", None)], vec![("prompt", Some("login"))]] {
            let request = path(client, &changes);
            let seen = nobody.get(&issuer, &request).await;
            assert_eq!(seen.status(), 303, "{changes:?}");
            let (page, _) = seen.location().split_once('?').unwrap();
            assert_eq!(page, "/sign-in");
            let back = seen.told_text("return_to");
            assert!(back.starts_with("/oauth/authorize?"), "{back}");
            // After the sign-in the request stands as it was.
            let mut alice = Browser::signed_in(&issuer, "alice").await;
            let again = alice.get(&issuer, &back).await;
            match changes.first() {
                Some(("scope" | "response_type", _)) => assert!(again.told("error").is_some(), "{back}"),
                Some(_) | None => assert_eq!(again.status(), 200, "{back}"),
            }
        }
    }
    // Only an operator vouches for where an error may lead unseen.
    let silent = nobody.get(&issuer, &path(&own, &[("prompt", Some("none"))])).await;
    assert_eq!(silent.told_text("error"), "login_required");
    assert_is_page(&nobody.get(&issuer, &path(&owned, &[("prompt", Some("none"))])).await, 400);
    assert_is_page(&nobody.get(&issuer, &path(&owned, &[("prompt", Some("none")), ("scope", Some("unknown"))])).await, 400);
    let open = Issuer::issuing(|issuance| issuance.registration = Registration::Open);
    open.put_client(&own).await;
    assert_is_page(&nobody.get(&open, &path(&own, &[("prompt", Some("none"))])).await, 400);
}

// oauth: R6
#[tokio::test]
async fn a_silent_request_gets_a_code_or_an_error_and_never_a_page() {
    let client = client("a");
    let (issuer, mut browser) = with(&client).await;
    let silent = path(&client, &[("prompt", Some("none"))]);
    assert_eq!(browser.get(&issuer, &silent).await.told_text("error"), "consent_required");
    let page = browser.get(&issuer, &path(&client, &[("scope", Some("orders:read files:read"))])).await;
    let allowed = answer(&issuer, &mut browser, &page, "allow").await;
    // A code that nobody redeemed allows nothing yet.
    assert_eq!(browser.get(&issuer, &silent).await.told_text("error"), "consent_required");
    let mut grant = issuer.grant_of_code(&allowed.told_text("code")).await;
    grant.state = GrantState::Live;
    issuer.put(Write::Put { key: GrantRecord::place(grant.id.as_str()), bytes: grant.encode(), expires: None }).await;
    assert!(!browser.get(&issuer, &silent).await.told_text("code").is_empty(), "less than was allowed needs no question");
    let more = path(&client, &[("prompt", Some("none")), ("scope", Some("orders:read orders:write"))]);
    assert_eq!(browser.get(&issuer, &more).await.told_text("error"), "consent_required");
    let elsewhere =
        path(&client, &[("prompt", Some("none")), ("resource", Some("https://files.example.com")), ("scope", Some("files:read"))]);
    assert_eq!(browser.get(&issuer, &elsewhere).await.told_text("error"), "consent_required");
    let asked = browser.get(&issuer, &path(&client, &[("prompt", Some("consent"))])).await;
    assert_eq!(asked.status(), 200, "who wants to be asked is");
    for kind in [ClientKind::Public, ClientKind::Native] {
        issuer.put_client(&ClientRecord { kind, ..client.clone() }).await;
        assert_eq!(browser.get(&issuer, &silent).await.told_text("error"), "consent_required");
    }
    let own = ClientRecord { owner: Some(Subject::parse("alice").unwrap()), ..client.clone() };
    issuer.put_client(&own).await;
    let fresh = ClientRecord { owner: own.owner.clone(), ..testing::client("c") };
    issuer.put_client(&fresh).await;
    let asked = browser.get(&issuer, &path(&fresh, &[])).await;
    assert_eq!(asked.status(), 200, "one's own too: a key that leaked may have registered it");
    let login = browser.get(&issuer, &path(&own, &[("prompt", Some("login"))])).await;
    assert!(login.location().starts_with("/sign-in?return_to=") && !login.told_text("return_to").contains("login"));
}

// oauth: R4
#[tokio::test]
async fn a_question_is_answered_once_in_its_own_browser() {
    let (first, second) = (client("a"), ClientRecord { name: "Other".into(), ..client("b") });
    let (issuer, mut browser) = with(&first).await;
    issuer.put_client(&second).await;
    issuer.put_user("bob", ALL).await;
    let page = browser.get(&issuer, &path(&first, &[])).await;
    let other = browser.get(&issuer, &path(&second, &[])).await;
    // The form of one question cannot answer another.
    let crossed = [("form_token", &*page.hidden("form_token")), ("ticket", &*other.hidden("ticket")), ("answer", "allow")];
    assert_is_page(&browser.post(&issuer, "/oauth/consent", &crossed).await, 403);
    // Nor can another browser's, or nobody's, or one without the form's value.
    let mut bob = Browser::signed_in(&issuer, "bob").await;
    let mut elsewhere = Browser::signed_in(&issuer, "alice").await;
    for stranger in [&mut bob, &mut elsewhere, &mut Browser::default()] {
        let seen = answer(&issuer, stranger, &page, "allow").await;
        assert_is_page(&seen, 403);
    }
    for fields in [
        vec![("ticket", page.hidden("ticket"))],
        vec![("form_token", page.hidden("form_token"))],
        vec![("ticket", page.hidden("ticket").replace("reva_ti_", "reva_br_")), ("form_token", page.hidden("form_token"))],
        vec![("ticket", "\u{0}".to_owned()), ("form_token", "x".repeat(5000))],
    ] {
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).chain([("answer", "allow")]).collect();
        assert!(browser.post(&issuer, "/oauth/consent", &fields).await.status() >= 400);
    }
    assert!(issuer.grants().await.is_empty());
    // Two clicks are one answer.
    let allowed = answer(&issuer, &mut browser, &page, "allow").await;
    let again = answer(&issuer, &mut browser, &page, "allow").await;
    assert_eq!(allowed.location(), again.location());
    assert_is_page(&answer(&issuer, &mut browser, &page, "deny").await, 400);
    assert_eq!(issuer.grants().await.len(), 1);
    let mut grant = issuer.grant_of_code(&allowed.told_text("code")).await;
    grant.state = GrantState::Live;
    issuer.put(Write::Put { key: GrantRecord::place(grant.id.as_str()), bytes: grant.encode(), expires: None }).await;
    assert_is_page(&answer(&issuer, &mut browser, &page, "allow").await, 400);
    // And nobody waits for ever.
    issuer.clock.advance(Duration::from_secs(601));
    assert_is_page(&answer(&issuer, &mut browser, &other, "allow").await, 400);
}

// oauth: R4
#[tokio::test]
async fn of_many_answers_at_once_one_grants() {
    let client = client("a");
    let (issuer, mut browser) = with(&client).await;
    let page = browser.get(&issuer, &path(&client, &[])).await;
    let fields = [("form_token", &*page.hidden("form_token")), ("ticket", &*page.hidden("ticket")), ("answer", "allow")];
    let mut browsers: Vec<Browser> = (0..8).map(|_| browser.clone()).collect();
    let answers = futures_util::future::join_all(browsers.iter_mut().map(|browser| browser.post(&issuer, "/oauth/consent", &fields))).await;
    let codes: std::collections::BTreeSet<String> = answers.iter().map(|seen| seen.told_text("code")).collect();
    assert_eq!((codes.len(), issuer.grants().await.len()), (1, 1), "{codes:?}");
}

// oauth: N5
#[tokio::test]
async fn a_grant_is_what_was_asked_within_client_resource_and_user() {
    let wide = client("a");
    let narrow = ClientRecord { scopes: scopes("files:*"), ..client("n") };
    let owner = Some(Subject::parse("alice").unwrap());
    let (issuer, _) = with(&wide).await;
    let files = Some("https://files.example.com");
    for (rights, client, changes, expected) in [
        (ALL, &wide, vec![("scope", Some("orders:read orders:write"))], Ok("orders:read orders:write")),
        (ALL, &wide, vec![("scope", None)], Ok(ALL)),
        ("orders:read tollgate:keys", &wide, vec![("scope", Some("orders:read orders:write"))], Ok("orders:read")),
        ("*", &wide, vec![("scope", None)], Ok(ALL)),
        ("orders:*", &wide, vec![("scope", None)], Ok("orders:read orders:write")),
        ("tollgate:admin", &wide, vec![("scope", None)], Ok("")),
        ("orders:write", &wide, vec![("scope", Some("orders:read"))], Err("invalid_scope")),
        (ALL, &narrow, vec![("scope", Some("orders:read files:read"))], Ok("files:read")),
        (ALL, &narrow, vec![("scope", None)], Ok("files:read")),
        (ALL, &narrow, vec![("scope", Some("orders:read"))], Err("invalid_scope")),
        (ALL, &wide, vec![("scope", Some(ALL)), ("resource", files)], Ok("files:read")),
        (ALL, &wide, vec![("scope", Some("orders:read")), ("resource", files)], Err("invalid_scope")),
    ] {
        issuer.put_user("alice", rights).await;
        issuer.put_client(&ClientRecord { owner: owner.clone(), ..client.clone() }).await;
        let mut browser = Browser::signed_in(&issuer, "alice").await;
        let mut seen = browser.get(&issuer, &path(client, &changes)).await;
        if seen.status() == 200 {
            seen = answer(&issuer, &mut browser, &seen, "allow").await;
        }
        match expected {
            Ok(granted) => assert_eq!(issuer.grant_of_code(&seen.told_text("code")).await.scopes, scopes(granted), "{changes:?}"),
            Err(error) => assert_eq!(seen.told_text("error"), error, "{changes:?}"),
        }
    }
}

#[tokio::test]
async fn what_changes_while_the_question_is_shown_counts() {
    let client = client("a");
    let (issuer, mut browser) = with(&client).await;
    let changes = [("scope", Some("orders:read files:read"))];
    let page = browser.get(&issuer, &path(&client, &changes)).await;
    let mut user = issuer.put_user("alice", "orders:read").await;
    let allowed = answer(&issuer, &mut browser, &page, "allow").await;
    assert_eq!(issuer.grant_of_code(&allowed.told_text("code")).await.scopes, scopes("orders:read"));
    let page = browser.get(&issuer, &path(&client, &[])).await;
    issuer.put_client(&ClientRecord { redirect_uris: vec!["https://new.example/cb".into()], ..client.clone() }).await;
    assert_is_page(&answer(&issuer, &mut browser, &page, "allow").await, 400);
    issuer.put_client(&client).await;
    let page = browser.get(&issuer, &path(&client, &[])).await;
    issuer.put_client(&ClientRecord { state: ClientState::Disabled, ..client.clone() }).await;
    assert_is_page(&answer(&issuer, &mut browser, &page, "allow").await, 400);
    issuer.put_client(&client).await;
    // A user who is disabled meanwhile is not signed in any more.
    let page = browser.get(&issuer, &path(&client, &[])).await;
    user.state = UserState::Disabled;
    issuer.put(Write::Put { key: RecordKey::user("local", "alice"), bytes: encode_user(&user), expires: None }).await;
    assert!(answer(&issuer, &mut browser, &page, "allow").await.status() >= 400);
    assert_eq!(issuer.grants().await.len(), 1);
}

// oauth: A1 A15
#[tokio::test]
async fn no_other_method_and_no_other_origin_is_served() {
    let client = client("a");
    let (issuer, mut browser) = with(&client).await;
    for method in ["HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
        let request = Request::builder().method(method).uri(path(&client, &[])).header("origin", "https://evil.example");
        let request = request.header("access-control-request-method", "GET").body(Body::empty()).unwrap();
        let seen = browser.send(&issuer, request).await;
        assert_eq!(seen.status(), 405, "{method}");
        assert!(!seen.parts.headers.keys().any(|name| name.as_str().starts_with("access-control-")), "{method}");
    }
    let request = Request::builder().uri(path(&client, &[])).header("origin", "https://evil.example").body(Body::empty()).unwrap();
    let seen = browser.send(&issuer, request).await;
    assert!(seen.status() == 200 && !seen.parts.headers.keys().any(|name| name.as_str().starts_with("access-control-")));
}

// oauth: A1
#[tokio::test]
async fn a_head_would_give_a_code() {
    let client = client("a");
    let (issuer, mut browser) = with(&client).await;
    let id = grants::new_grant_id(&Subject::parse("alice").unwrap()).unwrap();
    issuer.put(shelf::put(&GrantRecord { id, ..testing::grant_to(&client) }, None)).await;
    let head = |browser: &Browser| {
        let request = Request::builder().method("HEAD").uri(path(&client, &[])).header("cookie", browser.cookie());
        request.body(Body::empty()).unwrap()
    };
    assert_eq!(browser.send(&issuer, head(&browser)).await.status(), 405);
    assert_eq!(issuer.grants().await.len(), 1);
    let (parts, _) = authorize(issuer.state.clone(), head(&browser)).await.into_parts();
    assert!(!Seen { parts, text: String::new() }.told_text("code").is_empty(), "without the check a HEAD is a GET");
}

// oauth: A1 A6
#[tokio::test]
async fn a_form_is_read_as_a_query_is() {
    let client = client("a");
    let (issuer, mut browser) = with(&client).await;
    let form = |body: String| Request::builder().method("POST").uri("/oauth/authorize").body(Body::from(body)).unwrap();
    let typed = |mut request: Request<Body>| {
        request.headers_mut().insert("content-type", "application/x-www-form-urlencoded".parse().unwrap());
        request
    };
    assert_eq!(browser.send(&issuer, typed(form(query(&client, &[])))).await.status(), 200);
    assert_is_page(&browser.send(&issuer, form(query(&client, &[]))).await, 415);
    let faulty = browser.send(&issuer, typed(form(query(&client, &[("scope", Some("x"))])))).await;
    assert_eq!((faulty.status(), faulty.told_text("error").as_str()), (303, "invalid_scope"));
    // The cookie does not come with another site's form; with the link that follows it does.
    let crossed = Browser::default().send(&issuer, typed(form(query(&client, &[])))).await;
    assert_eq!((crossed.status(), crossed.location()), (303, path(&client, &[]).as_str()));
    let both = Request::builder().method("POST").uri(path(&client, &[])).body(Body::from("scope=files:read")).unwrap();
    assert_eq!(browser.send(&issuer, typed(both)).await.told_text("error"), "invalid_request");
}

#[tokio::test]
async fn hostile_requests_get_a_page_and_break_nothing() {
    let client = client("a");
    let (issuer, mut browser) = with(&client).await;
    let huge = "x".repeat(1 << 20);
    let form = Request::builder().method("POST").uri("/oauth/authorize").header("content-type", "application/x-www-form-urlencoded");
    assert_is_page(&browser.send(&issuer, form.body(Body::from(huge)).unwrap()).await, 413);
    let long = format!("{}&x={}", path(&client, &[]), "x".repeat(60_000));
    assert_is_page(&browser.get(&issuer, &long).await, 400);
    let many = format!("{}{}", path(&client, &[]), "&resource=a".repeat(900));
    assert_eq!(browser.get(&issuer, &many).await.told_text("error"), "invalid_target");
    for junk in ["", "&&&===", "%00=%00", "client_id=%", "client_id=app_%F0%9F%98%80", "client_id[]=app_a", "state=%0d%0aset-cookie:a=b"] {
        assert_is_page(&browser.get(&issuer, &format!("/oauth/authorize?{junk}")).await, 400);
    }
    let binary = Request::builder().method("POST").uri("/oauth/authorize").header("content-type", "application/x-www-form-urlencoded");
    assert_is_page(&browser.send(&issuer, binary.body(Body::from(vec![0xff, 0xfe])).unwrap()).await, 400);
}

#[tokio::test]
async fn a_login_token_gets_codes_for_ones_own_clients_only() {
    let own = ClientRecord { owner: Some(Subject::parse("alice").unwrap()), ..client("a") };
    let (issuer, _) = with(&own).await;
    issuer.put_client(&client("b")).await;
    issuer.put_user("bob", ALL).await;
    let ask = async |user: &str, text: String| {
        let asked = AuthorizeParameters::read(&text).unwrap();
        let (parts, _) = authorize_as(&issuer.state, &Subject::parse(user).unwrap(), asked).await.into_parts();
        Seen { parts, text: String::new() }
    };
    let given = ask("alice", query(&own, &[])).await;
    assert_eq!((given.status(), given.told_text("state").as_str(), given.told_text("iss").as_str()), (302, "s-1", ISSUER));
    assert_eq!(issuer.grant_of_code(&given.told_text("code")).await.session, None);
    assert_eq!(ask("bob", query(&own, &[])).await.told_text("error"), "consent_required");
    assert_eq!(ask("alice", query(&client("b"), &[])).await.told_text("error"), "consent_required");
    assert_eq!(ask("alice", query(&own, &[("code_challenge", None)])).await.told_text("error"), "invalid_request");
    assert_eq!(ask("alice", query(&client("c"), &[])).await.status(), 400);
    assert_eq!(ask("alice", query(&own, &[("redirect_uri", Some("https://evil.example"))])).await.status(), 400);
    assert_eq!(ask("nobody", query(&own, &[])).await.status(), 401);
}
