//! What people do on the page of their account.

use serde_json::json;

use crate::issuer::oauth::authorize::testing::Browser;
use crate::issuer::oauth::authorize::testing::client;
use crate::issuer::oauth::authorize::testing::path;
use crate::issuer::pages::tests::ALL;
use crate::issuer::pages::tests::PASSWORD;
use crate::issuer::pages::tests::assert_is_guarded;
use crate::issuer::pages::tests::field;
use crate::issuer::pages::tests::own_token;
use crate::issuer::pages::tests::with_account;
use crate::issuer::tests::Issuer;
use crate::model::client::ClientRecord;
use crate::model::grant::GrantEnd;
use crate::model::grant::GrantState;
use crate::store::Write;
use crate::store::codec::Shelved;

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
