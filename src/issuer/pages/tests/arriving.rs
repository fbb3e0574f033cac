//! How people come in: sign-up, invitations, sign-in and sign-out.

use serde_json::Value;
use serde_json::json;

use crate::issuer::oauth::authorize::asked::encode;
use crate::issuer::oauth::authorize::testing::Browser;
use crate::issuer::oauth::authorize::testing::Seen;
use crate::issuer::oauth::authorize::testing::client;
use crate::issuer::oauth::authorize::testing::path;
use crate::issuer::pages::tests::ALL;
use crate::issuer::pages::tests::PASSWORD;
use crate::issuer::pages::tests::assert_is_guarded;
use crate::issuer::pages::tests::field;
use crate::issuer::pages::tests::with_account;
use crate::issuer::tests::Issuer;
use crate::model::issuance::PhoneRule;
use crate::model::issuance::SignUp;

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
