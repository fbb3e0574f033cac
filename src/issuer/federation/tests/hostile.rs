//! Providers that lie, stall, or lead elsewhere.

use axum::http::StatusCode;
use serde_json::json;

use super::Browser;
use super::Fake;
use super::UPSTREAM_SECRET;
use super::count;
use super::issuer;
use super::seconds;
use crate::issuer::tests::START;
use crate::jose::battery;
use crate::model::rules::Algorithm;
use crate::store::Family;

// oauth: S2
#[tokio::test]
async fn an_id_token_that_is_not_ours_signs_nobody_in() {
    let fake = Fake::start().await;
    let issuer = issuer(vec![fake.provider("fake")], |_issuance| {});
    let now = START.unix_seconds();
    for (name, value) in [
        ("iss", Some("\"https://evil.example\"".to_owned())),
        ("aud", Some("\"them\"".to_owned())),
        ("aud", Some("[\"us\",\"them\"]".to_owned())),
        ("azp", Some("\"them\"".to_owned())),
        ("nonce", Some("\"another\"".to_owned())),
        ("nonce", None),
        ("exp", Some((now - 5).to_string())),
        ("iat", Some((now + 60).to_string())),
        ("sub", None),
        ("sub", Some("\"\"".to_owned())),
    ] {
        fake.say(|says| says.claims = vec![(name, value.clone())]);
        let page = Browser::default().sign_in(&issuer, &fake, "/sign-in/fake").await;
        assert_eq!(page.status, 502, "{name} {value:?}");
    }
    fake.say(|says| says.claims.clear());
    for (algorithm, header) in [
        (Algorithm::Hs256, r#"{"alg":"HS256","kid":"k1"}"#),
        (Algorithm::EdDsa, r#"{"alg":"none"}"#),
        (Algorithm::EdDsa, r#"{"alg":"EdDSA","kid":"k1","typ":"at+jwt"}"#),
        (Algorithm::Es256, r#"{"alg":"ES256","kid":"k1"}"#),
    ] {
        fake.say(|says| (says.algorithm, says.header) = (algorithm, header));
        assert_eq!(Browser::default().sign_in(&issuer, &fake, "/sign-in/fake").await.status, 502, "{header}");
    }
    fake.say(|says| (says.algorithm, says.header) = (Algorithm::EdDsa, r#"{"alg":"EdDSA","kid":"k1"}"#));
    for family in [Family::User, Family::Account, Family::Identity, Family::Session] {
        assert_eq!(count(&issuer, family).await, 0, "{family:?}");
    }
    assert_eq!(Browser::default().sign_in(&issuer, &fake, "/sign-in/fake").await.status, 303);
}

// oauth: S8
#[tokio::test]
async fn new_keys_are_found_and_unknown_ones_make_no_flood() {
    let fake = Fake::start().await;
    let issuer = issuer(vec![fake.provider("fake")], |_issuance| {});
    assert_eq!(Browser::default().sign_in(&issuer, &fake, "/sign-in/fake").await.status, 303);
    assert_eq!((fake.asked("metadata"), fake.asked("keys")), (1, 1));
    fake.say(|says| says.header = r#"{"alg":"EdDSA","kid":"k2"}"#);
    for _ in 0..10 {
        assert_eq!(Browser::default().sign_in(&issuer, &fake, "/sign-in/fake").await.status, 502);
    }
    assert_eq!(fake.asked("keys"), 1, "the first look was less than half a minute ago");
    fake.say(|says| says.keys = battery::set(&[("k2", Algorithm::EdDsa)]));
    issuer.clock.advance(seconds(30));
    assert_eq!(Browser::default().sign_in(&issuer, &fake, "/sign-in/fake").await.status, 303);
    assert_eq!((fake.asked("metadata"), fake.asked("keys")), (1, 2));
    // Down, and everything that was known serves on.
    fake.say(|says| says.down = true);
    issuer.clock.advance(seconds(300));
    fake.say(|says| says.claims = vec![("exp", Some((crate::clock::Clock::now(&*issuer.clock).unix_seconds() + 60).to_string()))]);
    assert_eq!(Browser::default().sign_in(&issuer, &fake, "/sign-in/fake").await.status, 303);
}

// oauth: S8
#[tokio::test]
async fn metadata_that_leads_elsewhere_is_not_followed() {
    let fake = Fake::start().await;
    let good = fake.say(|says| says.metadata.clone());
    for (name, value) in [
        ("issuer", json!("https://evil.example")),
        ("issuer", json!(format!("{}/", fake.0.url))),
        ("authorization_endpoint", json!("javascript:alert(1)")),
        ("authorization_endpoint", json!("http://evil.example/authorize")),
        ("token_endpoint", json!("http://169.254.169.254/latest/meta-data")),
        ("token_endpoint", json!("https://10.0.0.7/token")),
        ("jwks_uri", json!("https://[fd00:ec2::254]/keys")),
        ("jwks_uri", json!("file:///etc/passwd")),
        ("jwks_uri", json!(7)),
    ] {
        fake.say(|says| {
            says.metadata = good.clone();
            says.metadata[name] = value.clone();
        });
        let issuer = issuer(vec![fake.provider("fake")], |_issuance| {});
        let page = Browser::default().get(&issuer, "/sign-in/fake").await;
        assert_eq!(page.status, 502, "{name} {value}");
    }
    // More than is read, and it is given up.
    fake.say(|says| {
        says.metadata = good.clone();
        says.metadata["padding"] = "x".repeat(300 * 1024).into();
    });
    let issuer = issuer(vec![fake.provider("fake")], |_issuance| {});
    assert_eq!(Browser::default().get(&issuer, "/sign-in/fake").await.status, 502);
}

// oauth: S8
#[tokio::test]
async fn a_token_endpoint_that_answers_oddly_signs_nobody_in() {
    let fake = Fake::start().await;
    let issuer = issuer(vec![fake.provider("fake")], |_issuance| {});
    let json = "application/json";
    for (status, content_type, body) in [
        (StatusCode::BAD_REQUEST, json, r#"{"error":"invalid_grant"}"#.to_owned()),
        (StatusCode::BAD_REQUEST, json, r#"{"error":"<script>"}"#.to_owned()),
        (StatusCode::INTERNAL_SERVER_ERROR, "text/html", "<script>".to_owned()),
        (StatusCode::FOUND, json, String::new()),
        (StatusCode::OK, "text/html", "{}".to_owned()),
        (StatusCode::OK, json, "{}".to_owned()),
        (StatusCode::OK, json, "[]".to_owned()),
        (StatusCode::OK, json, r#"{"id_token":7}"#.to_owned()),
        (StatusCode::OK, json, r#"{"id_token":"a.b.c"}"#.to_owned()),
        (StatusCode::OK, json, r#"{"id_token":"a","id_token":"b"}"#.to_owned()),
        (StatusCode::OK, json, format!(r#"{{"id_token":"{}"}}"#, "a".repeat(400_000))),
    ] {
        let shown: String = body.chars().take(40).collect();
        fake.say(|says| says.token_answer = Some((status, content_type, body)));
        let page = Browser::default().sign_in(&issuer, &fake, "/sign-in/fake").await;
        assert_eq!(page.status, 502, "{shown}");
        assert!(!page.body.contains("script"), "{shown}");
    }
    assert_eq!(count(&issuer, Family::User).await, 0);
}

// oauth: S9
#[tokio::test]
async fn what_the_provider_gave_us_is_nowhere_afterwards() {
    let fake = Fake::start().await;
    let issuer = issuer(vec![fake.provider("fake")], |_issuance| {});
    let mut browser = Browser::default();
    let page = browser.found(&issuer, &fake, "/sign-in/fake").await;
    assert_eq!(page.status, 303, "{}", page.body);
    let mut seen = 0;
    for family in Family::ALL {
        for (place, stored) in issuer.records.range(family, None, 500).await.unwrap().records {
            let text = String::from_utf8_lossy(&stored.bytes).into_owned();
            // The heads of its tokens; shorter ones are found in what is drawn at random.
            for secret in [UPSTREAM_SECRET, "eyJhbGci", "eyJ0eXAi", "the-providers-code", "our secret there"] {
                assert!(!text.contains(secret), "{place:?} holds {secret}");
            }
            seen += 1;
        }
    }
    assert!(seen >= 5, "{seen} records");
    assert_eq!(count(&issuer, Family::Ticket).await, 0, "no step is left open");
}
