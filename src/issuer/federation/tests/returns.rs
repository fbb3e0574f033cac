//! What comes back counts only with what was sent out.

use axum::http::Request;

use super::Browser;
use super::Fake;
use super::count;
use super::issuer;
use super::seconds;
use crate::issuer::tickets::LIFETIME;
use crate::store::Family;

// oauth: S1
#[tokio::test]
async fn state_nonce_and_challenge_are_fresh_and_the_verifier_goes_to_the_token_endpoint_alone() {
    let fake = Fake::start().await;
    let issuer = issuer(vec![fake.provider("fake")], |_issuance| {});
    let mut browser = Browser::default();
    let first = browser.set_out(&issuer, "/sign-in/fake").await;
    let second = browser.set_out(&issuer, "/sign-in/fake").await;
    for (name, expected) in [
        ("response_type", "code"),
        ("client_id", "us"),
        ("scope", "openid profile email"),
        ("redirect_uri", "https://id.example.com/sign-in/fake/callback"),
        ("code_challenge_method", "S256"),
        ("tenant", "1"),
    ] {
        assert_eq!(first[name], expected);
    }
    assert!(!first.contains_key("prompt"));
    for name in ["state", "nonce", "code_challenge"] {
        assert_ne!(first[name], second[name], "{name}");
        assert!(first[name].len() >= 43, "{name}");
    }
    fake.say(|says| says.nonce.clone_from(&first["nonce"]));
    let page = browser.get(&issuer, &format!("/sign-in/fake/callback?code=c%261&state={}", first["state"])).await;
    assert_eq!(page.status, 303, "{}", page.body);
    let sent = fake.say(|says| says.asked.iter().find(|(what, _)| *what == "token").unwrap().1.clone());
    let form: std::collections::BTreeMap<String, String> =
        form_urlencoded::parse(sent.rsplit_once(' ').unwrap().1.as_bytes()).into_owned().collect();
    assert!(sent.starts_with("Basic dXM6b3VyK3NlY3JldCt0aGVyZQ== "), "{sent}");
    assert_eq!((form["code"].as_str(), form["redirect_uri"].as_str()), ("c&1", first["redirect_uri"].as_str()));
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, form["code_verifier"].as_bytes());
    assert_eq!(crate::jose::battery::encode(digest), first["code_challenge"]);
    assert!(!form.contains_key("client_secret") && !first.values().any(|value| *value == form["code_verifier"]));
}

// oauth: S1
#[tokio::test]
async fn an_answer_is_good_once_in_the_browser_that_asked_and_for_ten_minutes() {
    let fake = Fake::start().await;
    let issuer = issuer(vec![fake.provider("fake")], |_issuance| {});
    let mut browser = Browser::default();
    let question = browser.set_out(&issuer, "/sign-in/fake").await;
    fake.say(|says| says.nonce.clone_from(&question["nonce"]));
    let back = format!("/sign-in/fake/callback?code=c1&state={}", question["state"]);
    // Another browser neither uses it nor burns it.
    for mut other in [Browser::default(), {
        let mut other = Browser::default();
        other.set_out(&issuer, "/sign-in/fake").await;
        other
    }] {
        assert_eq!(other.get(&issuer, &back).await.status, 400);
    }
    assert_eq!(fake.asked("token"), 0);
    // Of twenty at once one gets through.
    let tries: Vec<_> = (0..20)
        .map(|_| {
            let (mut browser, router, back) = (browser.clone(), issuer.public.clone(), back.clone());
            tokio::spawn(async move {
                let cookies: Vec<String> =
                    std::mem::take(&mut browser.0).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
                let request = Request::builder().uri(back).header("cookie", cookies.join("; "));
                let request = request.body(axum::body::Body::empty()).unwrap();
                tower::ServiceExt::oneshot(router, request).await.unwrap().status().as_u16()
            })
        })
        .collect();
    let mut statuses = Vec::new();
    for one in tries {
        statuses.push(one.await.unwrap());
    }
    assert_eq!(statuses.iter().filter(|status| **status == 303).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 303 | 400)), "{statuses:?}");
    assert_eq!(fake.asked("token"), 1);

    let late = browser.set_out(&issuer, "/sign-in/fake").await;
    issuer.clock.advance(LIFETIME);
    assert_eq!(browser.get(&issuer, &format!("/sign-in/fake/callback?code=c1&state={}", late["state"])).await.status, 400);
    assert_eq!(fake.asked("token"), 1);
}

// oauth: S1 S7
#[tokio::test]
async fn one_providers_answer_is_no_answer_of_another() {
    let (one, two) = (Fake::start().await, Fake::start().await);
    two.say(|says| says.metadata["authorization_response_iss_parameter_supported"] = true.into());
    let issuer = issuer(vec![one.provider("one"), two.provider("two")], |_issuance| {});
    let mut browser = Browser::default();
    let asked_one = browser.set_out(&issuer, "/sign-in/one").await;
    let asked_two = browser.set_out(&issuer, "/sign-in/two").await;
    let (url_one, url_two) = (one.0.url.clone(), two.0.url.clone());
    for (refused, path) in [
        ("another provider's callback", format!("/sign-in/two/callback?code=c1&state={}&iss={url_two}", asked_one["state"])),
        ("another issuer", format!("/sign-in/one/callback?code=c1&state={}&iss={url_two}", asked_one["state"])),
        ("the promised issuer is missing", format!("/sign-in/two/callback?code=c1&state={}", asked_two["state"])),
        ("another issuer than promised", format!("/sign-in/two/callback?code=c1&state={}&iss={url_one}", asked_two["state"])),
        ("twice", format!("/sign-in/one/callback?code=c1&state={}&state={}", asked_one["state"], asked_one["state"])),
        ("no state", "/sign-in/one/callback?code=c1".to_owned()),
        (
            "junk",
            "/sign-in/one/callback?code=c1&state=reva_ti_AAAAAAAAAAAAAAAAAAAAAA.0.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned(),
        ),
    ] {
        let page = browser.get(&issuer, &path).await;
        assert_eq!(page.status, 400, "{refused}: {}", page.body);
    }
    assert_eq!(one.asked("token") + two.asked("token"), 0);
    two.say(|says| says.nonce.clone_from(&asked_two["nonce"]));
    let page = browser.get(&issuer, &format!("/sign-in/two/callback?code=c1&state={}&iss={url_two}", asked_two["state"])).await;
    assert_eq!(page.status, 303, "{}", page.body);
}

#[tokio::test]
async fn an_unknown_provider_or_an_odd_question_asks_nobody_anything() {
    let fake = Fake::start().await;
    let issuer = issuer(vec![fake.provider("fake")], |_issuance| {});
    for (target, status) in [
        ("/sign-in/other", 404),
        ("/sign-in/%FF", 404),
        ("/sign-in/other/callback?code=c&state=s", 404),
        ("/sign-in/fake?return_to=https://evil.example/", 400),
        ("/sign-in/fake?return_to=//evil.example/", 400),
        ("/sign-in/fake?return_to=/%5Cevil.example/", 400),
        ("/sign-in/fake?return_to=/a%0d%0ax:y", 400),
        ("/sign-in/fake?return_to=evil", 400),
        ("/sign-in/fake?prompt=login", 400),
        ("/sign-in/fake?unknown=1", 400),
        ("/sign-in/fake?return_to=/a&return_to=/b", 400),
        ("/sign-up/finish", 400),
        ("/sign-up/finish?ticket=x", 400),
    ] {
        let page = Browser::default().get(&issuer, target).await;
        assert_eq!(page.status, status, "{target}: {}", page.body);
        assert!(!page.body.contains("evil"), "{target}");
    }
    assert_eq!(fake.asked("metadata"), 0);
    assert_eq!(count(&issuer, Family::Ticket).await, 0);
}

/// Seed 003: the automatic login is tried, and when it fails nobody notices but by being asked.
#[tokio::test]
async fn an_automatic_sign_in_that_fails_leads_to_our_page_and_says_so() {
    let fake = Fake::start().await;
    let issuer = issuer(vec![fake.provider("fake")], |_issuance| {});
    let mut browser = Browser::default();
    let question = browser.set_out(&issuer, "/sign-in/fake?prompt=none&return_to=/a%3Fb%3Dc").await;
    assert_eq!(question["prompt"], "none");
    for error in ["login_required", "interaction_required", "%3Cscript%3E"] {
        let question = browser.set_out(&issuer, "/sign-in/fake?prompt=none&return_to=/a%3Fb%3Dc").await;
        let page = browser.get(&issuer, &format!("/sign-in/fake/callback?error={error}&state={}", question["state"])).await;
        assert_eq!((page.status, page.target.as_str()), (303, "/sign-in?return_to=%2Fa%3Fb%3Dc&automatic=failed"));
    }
    let question = browser.set_out(&issuer, "/sign-in/fake").await;
    let back = format!(
        "/sign-in/fake/callback?error=access_denied&error_description=%3Cscript%3Ealert(1)%3C/script%3E&state={}",
        question["state"]
    );
    let page = browser.get(&issuer, &back).await;
    assert_eq!(page.status, 403);
    assert!(!page.body.contains("script") && !page.body.contains("access_denied"), "{}", page.body);
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    assert!(page.headers["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
    assert_eq!(browser.get(&issuer, &back).await.status, 400, "a refusal uses the state up too");
    // A provider that is down: an error for who clicked, and our own page for who did not.
    fake.say(|says| says.down = true);
    let other = super::issuer(vec![fake.provider("fake")], |_issuance| {});
    assert_eq!(browser.get(&other, "/sign-in/fake").await.status, 502);
    let page = browser.get(&other, "/sign-in/fake?prompt=none").await;
    assert_eq!((page.status, page.target.as_str()), (303, "/sign-in?automatic=failed"));
    assert_eq!(fake.asked("metadata"), 2, "and it is left in peace");
    fake.say(|says| says.down = false);
    other.clock.advance(seconds(6));
    assert_eq!(browser.get(&other, "/sign-in/fake").await.status, 303);
}
