//! Whose account a sign-in elsewhere opens.

use axum::http::HeaderMap;
use axum::http::Request;

use super::Browser;
use super::Fake;
use super::Page;
use super::count;
use super::issuer;
use crate::issuer::accounts::identities;
use crate::issuer::accounts::shelf;
use crate::issuer::accounts::sign_up;
use crate::issuer::accounts::sign_up::NewAccount;
use crate::issuer::sessions;
use crate::issuer::tests::Issuer;
use crate::issuer::tests::START;
use crate::model::account::AccountRecord;
use crate::model::account::Role;
use crate::model::issuance::FirstKey;
use crate::model::issuance::PhoneRule;
use crate::model::issuance::SignUp;
use crate::store::Family;

async fn account(issuer: &Issuer, fake: &Fake, subject: &str) -> AccountRecord {
    let user = identities::owner(&issuer.state, &fake.0.url, subject).await.unwrap().unwrap();
    shelf::find::<AccountRecord>(&issuer.state, user.as_str()).await.unwrap().unwrap().0
}

fn text(value: &str) -> Option<String> {
    Some(format!("\"{value}\""))
}

/// Seed 003: the first user gives a phone number and is admin of a new organisation; the next time it just signs in.
// oauth: S4
#[tokio::test]
async fn a_founder_says_its_number_once_and_is_known_from_then_on() {
    let fake = Fake::start().await;
    fake.say(|says| {
        says.claims = vec![("name", text("Alice A")), ("email", text("a@example.com")), ("email_verified", Some("true".into()))]
    });
    let issuer = issuer(vec![fake.provider("fake")], |_issuance| {});
    let mut browser = Browser::default();
    let page = browser.sign_in(&issuer, &fake, "/sign-in/fake?return_to=/projects").await;
    let target = page.target;
    let ticket = target.strip_prefix("/sign-up/finish?ticket=").unwrap();
    assert_eq!(count(&issuer, Family::User).await, 0);
    let form = browser.get(&issuer, &target).await;
    assert!(form.status == 200 && form.body.contains("name=\"phone\"") && form.body.contains(ticket), "{}", form.body);
    assert_eq!(Browser::default().get(&issuer, &target).await.status, 400, "another browser does not see it");
    let mut stranger = Browser::default();
    assert_eq!(stranger.post(&issuer, "/sign-up/finish", &[("ticket", ticket), ("phone", "+49301234567")]).await.status, 400);
    for odd in ["", "12345", "+0123456789", "\"><script>"] {
        let again = browser.post(&issuer, "/sign-up/finish", &[("ticket", ticket), ("phone", odd)]).await;
        assert!(again.status == 400 && again.body.contains("role=\"alert\"") && !again.body.contains("<script"), "{odd}: {}", again.body);
    }
    let done = browser.post(&issuer, "/sign-up/finish", &[("ticket", ticket), ("phone", "+49 30 1234567")]).await;
    assert_eq!((done.status, done.target.as_str()), (303, "/projects"), "{}", done.body);
    assert!(browser.is_signed_in());
    assert_eq!(browser.post(&issuer, "/sign-up/finish", &[("ticket", ticket), ("phone", "+49 30 1234567")]).await.status, 400, "once");
    let made = account(&issuer, &fake, "alice").await;
    assert_eq!((made.role, made.phone.unwrap().number.as_ref(), made.email_verified), (Role::Admin, "+49301234567", true));
    assert_eq!((made.display_name.as_deref(), made.email.as_deref()), (Some("Alice A"), Some("a@example.com")));

    let mut again = Browser::default();
    let page = again.sign_in(&issuer, &fake, "/sign-in/fake").await;
    assert_eq!((page.status, page.target.as_str()), (303, "/account"));
    assert!(again.is_signed_in());
    assert_eq!(count(&issuer, Family::User).await, 1);
}

#[tokio::test]
async fn nobody_is_asked_for_a_number_that_is_not_required() {
    let fake = Fake::start().await;
    let issuer = issuer(vec![fake.provider("fake")], |issuance| issuance.phone = PhoneRule::Optional);
    let mut browser = Browser::default();
    let page = browser.sign_in(&issuer, &fake, "/sign-in/fake?return_to=/projects").await;
    assert_eq!((page.status, page.target.as_str()), (303, "/projects"), "{}", page.body);
    assert!(browser.is_signed_in());
    assert_eq!(account(&issuer, &fake, "alice").await.role, Role::Admin);
}

/// Seed 003: a key is made with the user, and shown once.
#[tokio::test]
async fn the_first_key_is_shown_to_who_signs_up_and_never_again() {
    let fake = Fake::start().await;
    let issuer = issuer(vec![fake.provider("fake")], |issuance| {
        let scopes = std::sync::Arc::clone(&issuance.member_rights);
        issuance.first_key = Some(FirstKey { name: "first".into(), environment: crate::model::caller::Environment::Live, scopes });
    });
    let mut browser = Browser::default();
    let page = browser.found(&issuer, &fake, "/sign-in/fake").await;
    assert!(page.status == 200 && page.body.contains("reva_live_sk_") && page.body.contains("href=\"/account\""), "{}", page.body);
    assert!(browser.is_signed_in());
    assert_eq!(page.headers["cache-control"], "no-store");
    let page = Browser::default().sign_in(&issuer, &fake, "/sign-in/fake").await;
    assert_eq!((page.status, page.body.as_str()), (303, ""));
}

// oauth: S4
#[tokio::test]
async fn of_many_sign_ups_of_one_person_one_makes_the_account_and_all_end_in_it() {
    let fake = Fake::start().await;
    let issuer = issuer(vec![fake.provider("fake")], |_issuance| {});
    let mut waiting = Vec::new();
    for _ in 0..6 {
        let mut browser = Browser::default();
        let page = browser.sign_in(&issuer, &fake, "/sign-in/fake").await;
        waiting.push((browser, page.target.strip_prefix("/sign-up/finish?ticket=").unwrap().to_owned()));
    }
    for (mut browser, ticket) in waiting {
        let page = browser.post(&issuer, "/sign-up/finish", &[("ticket", &ticket), ("phone", "+49301234567")]).await;
        assert_eq!((page.status, page.target.as_str()), (303, "/account"), "{}", page.body);
        assert!(browser.is_signed_in());
    }
    for family in [Family::User, Family::Account, Family::Identity, Family::Organization] {
        assert_eq!(count(&issuer, family).await, 1, "{family:?}");
    }
}

// oauth: S4 S5
#[tokio::test]
async fn an_address_that_is_known_opens_nothing_and_makes_nothing() {
    let fake = Fake::start().await;
    let other = Fake::start().await;
    let issuer = issuer(vec![fake.provider("fake"), other.provider("other")], |_issuance| {});
    fake.say(|says| says.claims = vec![("email", text("Victim@example.com")), ("email_verified", Some("true".into()))]);
    Browser::default().found(&issuer, &fake, "/sign-in/fake").await;
    for (email, verified) in [("victim@example.com", "true"), ("VICTIM@example.com", "false")] {
        // The same subject at another issuer is another person.
        other.say(|says| says.claims = vec![("email", text(email)), ("email_verified", Some(verified.into()))]);
        let mut browser = Browser::default();
        let page = browser.sign_in(&issuer, &other, "/sign-in/other").await;
        assert!(page.status == 403 && page.body.contains("link"), "{email} {verified}: {}", page.body);
        assert!(!browser.is_signed_in());
    }
    assert_eq!((count(&issuer, Family::User).await, count(&issuer, Family::Identity).await), (1, 1));
    // A person whose address changes there stays the same person here.
    fake.say(|says| says.claims = vec![("email", text("local@example.com")), ("email_verified", Some("true".into()))]);
    let page = Browser::default().sign_in(&issuer, &fake, "/sign-in/fake").await;
    assert_eq!((page.status, page.target.as_str()), (303, "/account"));
    assert_eq!(account(&issuer, &fake, "alice").await.email.as_deref(), Some("Victim@example.com"));
}

// oauth: S5
#[tokio::test]
async fn an_address_that_was_only_claimed_keeps_nobody_out_and_lets_nobody_in() {
    for verified in ["true", "false"] {
        let fake = Fake::start().await;
        let issuer = issuer(vec![fake.provider("fake")], |_issuance| {});
        let squatter = |name: &str, email: Option<&str>| NewAccount {
            name: name.into(),
            password: Some("correct horse battery".into()),
            email: email.map(str::to_owned),
            ..NewAccount::default()
        };
        for squatter in [squatter("mallory", Some("victim@example.com")), squatter("victim@example.com", None)] {
            sign_up::sign_up(&issuer.state, squatter, None, START).await.unwrap();
        }
        fake.say(|says| says.claims = vec![("email", text("Victim@example.com")), ("email_verified", Some(verified.into()))]);
        Browser::default().found(&issuer, &fake, "/sign-in/fake").await;
        let made = account(&issuer, &fake, "alice").await;
        assert_eq!((made.email.as_deref(), made.email_verified), (Some("Victim@example.com"), verified == "true"));
        assert!(made.password.is_none() && !["mallory", "victim@example.com"].contains(&made.user.as_str()), "an account of its own");
        assert_eq!(count(&issuer, Family::User).await, 3);
    }
}

// oauth: S6
#[tokio::test]
async fn an_address_is_verified_only_where_the_provider_says_so_and_the_config_trusts_it() {
    for (trusts, claim, verified) in [
        (true, Some("true"), true),
        (true, Some("false"), false),
        (true, Some("\"true\""), false),
        (true, None, false),
        (false, Some("true"), false),
    ] {
        let fake = Fake::start().await;
        let provider = crate::model::issuance::Provider { trusts_email: trusts, ..fake.provider("fake") };
        let issuer = issuer(vec![provider], |_issuance| {});
        fake.say(|says| says.claims = vec![("email", text("a@example.com")), ("email_verified", claim.map(str::to_owned))]);
        Browser::default().found(&issuer, &fake, "/sign-in/fake").await;
        let made = account(&issuer, &fake, "alice").await;
        assert_eq!((made.email.as_deref(), made.email_verified), (Some("a@example.com"), verified), "{trusts} {claim:?}");
    }
}

#[tokio::test]
async fn who_may_not_sign_up_makes_nothing() {
    for (sign_up, status) in [(SignUp::Closed, 403), (SignUp::Invited, 403), (SignUp::Open, 303)] {
        let fake = Fake::start().await;
        let issuer = issuer(vec![fake.provider("fake")], |issuance| issuance.sign_up = sign_up);
        let page = Browser::default().sign_in(&issuer, &fake, "/sign-in/fake").await;
        assert_eq!(page.status, status, "{sign_up:?}: {}", page.body);
        let page = Browser::default().sign_in(&issuer, &fake, "/sign-in/fake?invitation=junk").await;
        assert!(page.status >= 400, "{sign_up:?}: {}", page.body);
        assert_eq!(count(&issuer, Family::User).await, 0);
    }
}

// oauth: S5
#[tokio::test]
async fn linking_needs_both_proofs() {
    let (fake, other) = (Fake::start().await, Fake::start().await);
    let issuer = issuer(vec![fake.provider("fake"), other.provider("other")], |_issuance| {});
    let mut browser = Browser::default();
    browser.found(&issuer, &fake, "/sign-in/fake").await;
    let user = account(&issuer, &fake, "alice").await.user;
    let form = |browser: &Browser| {
        let cookies: Vec<String> = browser.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut headers = HeaderMap::new();
        headers.insert("cookie", cookies.join("; ").parse().unwrap());
        sessions::form_token(&issuer.state, &headers, "link").unwrap().0
    };
    let token = form(&browser);
    // Without the form's value, or without a session, nobody is sent anywhere.
    assert_eq!(browser.post(&issuer, "/account/link/other", &[]).await.status, 403);
    assert_eq!(browser.post(&issuer, "/account/link/other", &[("form_token", "x")]).await.status, 403);
    assert_eq!(Browser::default().post(&issuer, "/account/link/other", &[("form_token", &token)]).await.status, 403);

    let question = |page: &Page| {
        let target = page.headers["refresh"].to_str().unwrap().strip_prefix("0; url=").unwrap();
        let query = target.split_once('?').unwrap().1.to_owned();
        form_urlencoded::parse(query.as_bytes()).into_owned().collect::<std::collections::BTreeMap<String, String>>()
    };
    let page = browser.post(&issuer, "/account/link/other", &[("form_token", &token)]).await;
    assert_eq!(page.status, 200, "{}", page.body);
    let asked = question(&page);
    other.say(|says| says.nonce.clone_from(&asked["nonce"]));
    let back = format!("/sign-in/other/callback?code=c1&state={}", asked["state"]);
    // The session went meanwhile: the proof elsewhere alone links nothing.
    let mut signed_out = browser.clone();
    signed_out.0.retain(|name, _value| !name.contains("session"));
    assert_eq!(signed_out.get(&issuer, &back).await.status, 403);
    assert_eq!(identities::owner(&issuer.state, &other.0.url, "alice").await.unwrap(), None);
    // Again, with both.
    let page = browser.post(&issuer, "/account/link/other", &[("form_token", &form(&browser))]).await;
    let asked = question(&page);
    other.say(|says| says.nonce.clone_from(&asked["nonce"]));
    let page = browser.get(&issuer, &format!("/sign-in/other/callback?code=c1&state={}", asked["state"])).await;
    assert_eq!((page.status, page.target.as_str()), (303, "/account"), "{}", page.body);
    assert_eq!(identities::owner(&issuer.state, &other.0.url, "alice").await.unwrap(), Some(user.clone()));
    let page = Browser::default().sign_in(&issuer, &other, "/sign-in/other").await;
    assert_eq!(page.target, "/account");
    assert_eq!(count(&issuer, Family::User).await, 1);

    // What opens somebody else's account is not linked.
    other.say(|says| says.claims = vec![("sub", text("bob"))]);
    let mut bob = Browser::default();
    bob.found(&issuer, &other, "/sign-in/other").await;
    other.say(|says| says.claims.clear());
    let page = bob.post(&issuer, "/account/link/other", &[("form_token", &form(&bob))]).await;
    let asked = question(&page);
    other.say(|says| says.nonce.clone_from(&asked["nonce"]));
    let page = bob.get(&issuer, &format!("/sign-in/other/callback?code=c1&state={}", asked["state"])).await;
    assert_eq!(page.status, 409, "{}", page.body);
    assert_eq!(identities::owner(&issuer.state, &other.0.url, "alice").await.unwrap(), Some(user));
}

#[tokio::test]
async fn a_closed_account_is_not_opened() {
    let fake = Fake::start().await;
    let issuer = issuer(vec![fake.provider("fake")], |_issuance| {});
    Browser::default().found(&issuer, &fake, "/sign-in/fake").await;
    let user = account(&issuer, &fake, "alice").await.user;
    let request = Request::builder().method("PATCH").uri(format!("/v1/users/{}", user.as_str()));
    let request = request.header("content-type", "application/json").body(axum::body::Body::from(r#"{"active":false}"#)).unwrap();
    let answer = tower::ServiceExt::oneshot(issuer.router.clone(), request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut browser = Browser::default();
    let page = browser.sign_in(&issuer, &fake, "/sign-in/fake").await;
    assert!(page.status == 403 && !browser.is_signed_in(), "{}", page.body);
}
