use serde_json::Value;
use serde_json::json;

use crate::clock::Clock as _;
use crate::issuer::accounts::shelf;
use crate::issuer::accounts::sign_in::sign_in;
use crate::issuer::accounts::sign_up::NewAccount;
use crate::issuer::accounts::sign_up::sign_up;
use crate::issuer::accounts::tests::Browser;
use crate::issuer::accounts::tests::PASSWORD;
use crate::issuer::accounts::tests::call_as;
use crate::issuer::accounts::tests::founder;
use crate::issuer::accounts::tests::new;
use crate::issuer::actor::Actor;
use crate::issuer::problem::Code;
use crate::issuer::tests::Issuer;
use crate::model::caller::Environment;
use crate::model::client::ClientId;
use crate::model::grant::GrantId;
use crate::model::grant::GrantOf;
use crate::model::grant::GrantRecord;
use crate::model::issuance::Caps;
use crate::model::key::KeyId;

async fn rights(issuer: &Issuer, name: &str) -> String {
    let shown = issuer.ok("GET", &format!("/v1/users/{name}"), Value::Null).await;
    let rights = shown["rights"].as_array().unwrap();
    rights.iter().map(|scope| scope.as_str().unwrap()).collect::<Vec<_>>().join(" ")
}

// oauth: U5
#[tokio::test]
async fn an_admin_manages_its_own_organisation_and_nobody_elses() {
    let issuer = Issuer::issuing(|_| {});
    let acme = founder(&issuer, "alice").await.organization;
    founder(&issuer, "zed").await;
    let alice = Browser::of(&issuer, "alice").await;
    let made = alice.ok("POST", "/v1/users", json!({"id": "bob", "password": PASSWORD, "role": "admin", "phone": "+49301234567"})).await;
    assert_eq!((&made["organization"], &made["role"], &made["made_by"]), (&json!(acme), &json!("admin"), &json!("alice")));
    assert_eq!((&made["phone"]["state"], &made["online"], &made["has_password"]), (&json!("unverified"), &json!(false), &json!(true)));
    assert_eq!(rights(&issuer, "bob").await, "files:read orders:read", "what the config says of members");
    for (body, field) in [
        (json!({"id": "c", "rights": ["orders:read", "secret:thing"]}), "rights"),
        (json!({"id": "c", "rights": ["tollgate:admin"]}), "rights"),
        (json!({"id": "c", "rights": null}), "rights"),
        (json!({"id": "c", "organization": "other"}), "organization"),
        (json!({"id": "c", "tier": "pro"}), "tier"),
        (json!({"id": "c", "source": "local"}), "source"),
        (json!({"id": "C"}), "id"),
        (json!({"id": "app_x"}), "id"),
        (json!({"id": "c", "password": "short"}), "password"),
    ] {
        assert_eq!(alice.refused("POST", "/v1/users", body).await, (400, field.to_owned()));
    }
    assert_eq!(alice.refused("POST", "/v1/users", json!({"id": "zed"})).await.0, 409);
    let listed = alice.ok("GET", "/v1/users", Value::Null).await;
    let names: Vec<_> = listed["data"].as_array().unwrap().iter().map(|user| user["id"].as_str().unwrap()).collect();
    assert_eq!((names, &listed["next"]), (vec!["alice", "bob"], &Value::Null));
    let page = alice.ok("GET", "/v1/users?limit=1", Value::Null).await;
    assert_eq!(page["next"], "local:alice", "a page names nobody whom it does not show");
    for (method, body) in [("GET", Value::Null), ("PATCH", json!({"active": false})), ("DELETE", Value::Null)] {
        assert_eq!(alice.refused(method, "/v1/users/zed", body).await, (404, "NOT_FOUND".to_owned()), "{method}");
    }
    assert_eq!(alice.refused("GET", "/v1/users?organization=x&what=1", Value::Null).await.0, 400);
    // A member reaches itself, and one that manages less touches nobody that holds more.
    let bob = Browser::of(&issuer, "bob").await;
    assert_eq!(bob.refused("POST", "/v1/users", json!({"id": "c"})).await.0, 403);
    assert_eq!(bob.ok("GET", "/v1/users", Value::Null).await["data"].as_array().unwrap().len(), 1);
    assert_eq!(bob.refused("GET", "/v1/users/alice", Value::Null).await.0, 404);
    issuer.ok("PATCH", "/v1/users/bob", json!({"rights": ["tollgate:users"]})).await;
    assert_eq!(bob.refused("PATCH", "/v1/users/alice", json!({"password": "another horse"})).await.0, 403);
    assert_eq!(bob.refused("DELETE", "/v1/users/alice", Value::Null).await.0, 403);
    assert_eq!(alice.ok("PATCH", "/v1/users/bob", json!({"rights": []})).await["rights"], json!([]));
    assert_eq!(call_as(&issuer, Actor::Operator, "GET", "/v1/users/zed", Value::Null).await.0, 200);
}

#[tokio::test]
async fn an_account_never_exceeds_its_maker() {
    let issuer = Issuer::issuing(|_| {});
    founder(&issuer, "alice").await;
    let alice = Browser::of(&issuer, "alice").await;
    alice.ok("POST", "/v1/users", json!({"id": "bob", "rights": ["orders:read", "orders:write", "tollgate:users"]})).await;
    let bob = Browser::of(&issuer, "bob").await;
    bob.ok("POST", "/v1/users", json!({"id": "carol", "rights": ["orders:write"]})).await;
    assert_eq!(bob.refused("POST", "/v1/users", json!({"id": "d", "rights": ["files:read"]})).await.1, "rights");
    let made = issuer.ok("PATCH", "/v1/users/alice", json!({"rights": ["orders:read", "tollgate:users"]})).await;
    assert_eq!(made["rights"], json!(["orders:read", "tollgate:users"]));
    assert_eq!((rights(&issuer, "bob").await.as_str(), rights(&issuer, "carol").await.as_str()), ("orders:read tollgate:users", ""));
    let (status, refused) = issuer.refused("PATCH", "/v1/users/bob", json!({"rights": ["orders:write"]})).await;
    assert_eq!((status, &refused["details"]["field"]), (400, &json!("rights")), "not by an operator's hand either");
}

// oauth: H12
#[tokio::test]
async fn another_password_ends_what_the_old_one_opened() {
    let issuer = Issuer::issuing(|_| {});
    let user = founder(&issuer, "alice").await.user;
    let now = issuer.clock.now();
    let live = |id: &str, of: GrantOf| {
        let ends = now.plus(std::time::Duration::from_secs(600));
        shelf::put(&GrantRecord::new(GrantId::new(id), of, Environment::Live, "p1", now, ends), None)
    };
    let writes = vec![
        live("signed-in", GrantOf::SignIn { user: user.clone() }),
        live("consented", GrantOf::Consent { client: ClientId::new("app_00000000000000000000"), user: user.clone() }),
        live("key-k", GrantOf::Key { key: KeyId::new("k"), user: user.clone() }),
    ];
    issuer.records.commit(Vec::new(), writes, now).await.unwrap();
    let (alice, elsewhere) = (Browser::of(&issuer, "alice").await, Browser::of(&issuer, "alice").await);
    let path = "/v1/users/alice";
    alice.ok("POST", "/v1/users", json!({"id": "bob"})).await;
    let bob = Browser::of(&issuer, "bob").await;
    for (field, value) in [("rights", json!(["orders:read"])), ("role", json!("member")), ("active", json!(true)), ("tier", json!("pro"))] {
        let (status, answer) = bob.call("PATCH", "/v1/users/bob", json!({field: value})).await;
        let scope = if field == "tier" { "tollgate:admin" } else { "tollgate:users" };
        let wanted = json!({"field": field, "issue": format!("is not yours to change: that takes the scope {scope}")});
        assert_eq!((status, &answer["error"]["details"]), (400, &wanted));
    }
    bob.ok("PATCH", "/v1/users/bob", json!({"display_name": "Bob", "password": PASSWORD})).await;
    assert!(!bob.is_signed_in().await, "also a first password ends what was open");
    let changed = alice.ok("PATCH", path, json!({"display_name": "Alice", "email": "a@example.com", "phone": null})).await;
    assert_eq!((&changed["display_name"], &changed["email_verified"]), (&json!("Alice"), &json!(false)));
    let next = "another horse";
    assert_eq!(alice.refused("PATCH", path, json!({"password": next})).await, (400, "current_password".to_owned()));
    assert_eq!(alice.refused("PATCH", path, json!({"password": next, "current_password": "wrong"})).await.0, 401);
    assert!(elsewhere.is_signed_in().await);
    alice.ok("PATCH", path, json!({"password": next, "current_password": PASSWORD})).await;
    assert!(!alice.is_signed_in().await && !elsewhere.is_signed_in().await);
    let is_live = async |id: &str| shelf::find::<GrantRecord>(&issuer.state, id).await.unwrap().unwrap().0.is_live(now);
    assert_eq!([is_live("signed-in").await, is_live("consented").await, is_live("key-k").await], [false, false, true]);
    assert_eq!(sign_in(&issuer.state, "alice", PASSWORD.to_owned(), None, now).await.unwrap_err().code, Code::Unauthenticated);
    sign_in(&issuer.state, "alice", next.to_owned(), None, now).await.unwrap();
    assert!(Browser::of(&issuer, "alice").await.is_signed_in().await);
    assert_eq!(issuer.ok("GET", path, Value::Null).await["online"], true);
    issuer.ok("PATCH", path, json!({"password": "a third horse"})).await;
    assert_eq!(issuer.refused("PATCH", "/v1/users/Odd:name", json!({})).await.0, 404);
    issuer.ok("POST", "/v1/users", json!({"id": "Odd:name"})).await;
    assert_eq!(issuer.refused("PATCH", "/v1/users/Odd:name", json!({"password": PASSWORD})).await.1["details"]["field"], "password");
}

/// Whoever holds a key of somebody's, with whatever rights, does not come to sign in as them by it.
#[tokio::test]
async fn no_key_sets_its_own_users_password_without_the_one_before() {
    let issuer = Issuer::issuing(|_| {});
    let acme = founder(&issuer, "alice").await.organization;
    issuer.ok("PATCH", "/v1/users/alice", json!({"rights": null})).await;
    issuer.ok("POST", "/v1/users", json!({"id": "bob", "organization": acme, "rights": []})).await;
    for (scope, others) in [("orders:read", 404), ("tollgate:users", 200), ("tollgate:admin", 200)] {
        let (_, key) = issuer.key_of("alice", &acme, &[scope]).await;
        let set = async |user: &str, body: Value| issuer.call_with(&key, "PATCH", &format!("/v1/users/{user}"), body).await;
        let (status, answer) = set("alice", json!({"password": "a stolen horse"})).await;
        assert_eq!((status, &answer["error"]["details"]["field"]), (400, &json!("current_password")), "{scope}: {answer}");
        assert_eq!(set("alice", json!({"password": "a stolen horse", "current_password": "guessed"})).await.0, 401, "{scope}");
        assert_eq!(set("bob", json!({"password": "another horse"})).await.0, others, "{scope}: whom it administers is another matter");
    }
}

#[tokio::test]
async fn nobody_has_more_than_the_config_allows_and_operators_are_not_bound() {
    let caps = Caps { keys: 2, clients: 1, sessions: 2, invitations: 1 };
    let issuer = Issuer::issuing(|issuance| issuance.caps = caps);
    let acme = founder(&issuer, "alice").await.organization;
    let alice = Browser::of(&issuer, "alice").await;
    let (_, root) = issuer.key_of("root", "ops", &["tollgate:admin"]).await;
    let key = json!({"name": "k", "user": "alice", "expires_in": "1h"});
    let client = json!({"name": "c", "redirect_uris": ["https://app.example.com/callback"]});
    for (path, body, most) in [("/v1/keys", &key, 2), ("/v1/clients", &client, 1), ("/v1/invitations", &json!({}), 1)] {
        for _ in 0..most {
            alice.ok("POST", path, body.clone()).await;
        }
        let (status, answer) = alice.call("POST", path, body.clone()).await;
        assert_eq!(status, 409, "{path}: {answer}");
        assert!(answer["error"]["message"].as_str().unwrap().starts_with(&format!("there are at most {most} ")), "{answer}");
    }
    assert_eq!(issuer.call_with(&root, "POST", "/v1/keys", key.clone()).await.0, 201);
    issuer.ok("POST", "/v1/keys", key.clone()).await;
    // What is revoked or over makes room; what is over is not brought back beyond the cap.
    let listed = alice.ok("GET", "/v1/keys?user=alice", Value::Null).await;
    let id = |at: usize| listed["data"][at]["id"].as_str().unwrap().to_owned();
    for at in 0..3 {
        alice.ok("DELETE", &format!("/v1/keys/{}", id(at)), Value::Null).await;
    }
    alice.ok("POST", "/v1/keys", json!({"name": "lasting", "user": "alice"})).await;
    assert_eq!(alice.refused("POST", "/v1/keys", key.clone()).await.0, 409);
    issuer.clock.advance(std::time::Duration::from_secs(3600));
    let alice = Browser::of(&issuer, "alice").await;
    alice.ok("POST", "/v1/keys", json!({"name": "lasting", "user": "alice"})).await;
    let over = format!("/v1/keys/{}", id(3));
    assert_eq!(alice.refused("PATCH", &over, json!({"expires_in": "1h"})).await.0, 409);
    assert_eq!(alice.refused("POST", &format!("{over}/rotate"), json!({"grace": "0s", "expires_in": "1h"})).await.0, 409);
    issuer.ok("PATCH", &over, json!({"expires_in": "1h"})).await;
    // The oldest session makes room for one more, and somebody else's none.
    issuer.ok("POST", "/v1/users", json!({"id": "bob", "organization": acme})).await;
    let bob = Browser::of(&issuer, "bob").await;
    issuer.clock.advance(std::time::Duration::from_secs(1));
    let second = Browser::of(&issuer, "alice").await;
    issuer.clock.advance(std::time::Duration::from_secs(1));
    let third = Browser::of(&issuer, "alice").await;
    for (browser, expected) in [(&alice, false), (&second, true), (&third, true), (&bob, true)] {
        assert_eq!(browser.is_signed_in().await, expected);
    }
}

#[tokio::test]
async fn an_invitation_is_shown_once_and_good_once() {
    let issuer = Issuer::issuing(|_| {});
    let acme = founder(&issuer, "alice").await.organization;
    founder(&issuer, "zed").await;
    let (alice, zed) = (Browser::of(&issuer, "alice").await, Browser::of(&issuer, "zed").await);
    let made = alice.ok("POST", "/v1/invitations", json!({"rights": ["orders:read"]})).await;
    assert_eq!((&made["organization"], &made["role"], &made["state"]), (&json!(acme), &json!("member"), &json!("open")));
    let handle = made["invitation"].as_str().unwrap().to_owned();
    assert!(handle.starts_with("reva_iv_"));
    for (body, field) in [
        (json!({"rights": ["secret:thing"]}), "rights"),
        (json!({"organization": "other"}), "organization"),
        (json!({"expires_in": "0s"}), "expires_in"),
        (json!({"expires_in": "900d"}), "expires_in"),
        (json!({"role": "owner"}), "role"),
    ] {
        assert_eq!(alice.refused("POST", "/v1/invitations", body).await, (400, field.to_owned()));
    }
    let listed = alice.ok("GET", "/v1/invitations", Value::Null).await;
    assert!(!listed.to_string().contains(&handle));
    assert_eq!(zed.ok("GET", "/v1/invitations", Value::Null).await["data"], json!([]));
    let path = format!("/v1/invitations/{}", made["id"].as_str().unwrap());
    assert_eq!(zed.refused("DELETE", &path, Value::Null).await.0, 404);
    let wanted = NewAccount { invitation: Some(handle.clone()), ..new("bob") };
    let bob = sign_up(&issuer.state, wanted.clone(), None, issuer.clock.now()).await.unwrap();
    assert_eq!(bob.organization, acme);
    assert_eq!(alice.ok("GET", "/v1/invitations", Value::Null).await["data"][0]["accepted_by"], "bob");
    let bob = Browser::of(&issuer, "bob").await;
    assert_eq!(bob.refused("POST", "/v1/invitations", json!({})).await.0, 403);
    let second = alice.ok("POST", "/v1/invitations", json!({})).await;
    alice.ok("DELETE", &format!("/v1/invitations/{}", second["id"].as_str().unwrap()), Value::Null).await;
    let gone = NewAccount { invitation: second["invitation"].as_str().map(str::to_owned), ..new("carol") };
    assert!(sign_up(&issuer.state, gone, None, issuer.clock.now()).await.is_err());
    assert_eq!(issuer.refused("POST", "/v1/invitations", json!({})).await.1["details"]["field"], "organization");
    let made = issuer.ok("POST", "/v1/invitations", json!({"organization": "byhand", "role": "admin", "rights": ["orders:read"]})).await;
    let (url, invitation) = (made["url"].as_str().unwrap(), made["invitation"].as_str().unwrap());
    assert_eq!(url, format!("{}/sign-up?invitation={invitation}", issuer.state.rules.load().issuance.as_ref().unwrap().url));
}

#[tokio::test]
async fn sessions_are_seen_and_ended_by_their_owner() {
    let issuer = Issuer::issuing(|_| {});
    founder(&issuer, "alice").await;
    founder(&issuer, "zed").await;
    let (here, there, zed) = (Browser::of(&issuer, "alice").await, Browser::of(&issuer, "alice").await, Browser::of(&issuer, "zed").await);
    let listed = here.ok("GET", "/v1/sessions", Value::Null).await["data"].as_array().unwrap().clone();
    assert_eq!(listed.len(), 2);
    assert_eq!(listed.iter().filter(|session| session["current"] == true).count(), 1);
    let other = listed.iter().find(|session| session["current"] == false).unwrap()["id"].as_str().unwrap();
    assert_eq!(zed.refused("DELETE", &format!("/v1/sessions/{other}"), Value::Null).await.0, 404);
    assert_eq!(zed.refused("GET", "/v1/sessions?user=alice", Value::Null).await.0, 404);
    here.ok("DELETE", &format!("/v1/sessions/{other}"), Value::Null).await;
    assert!(here.is_signed_in().await && !there.is_signed_in().await);
    here.ok("DELETE", "/v1/sessions", Value::Null).await;
    assert!(!here.is_signed_in().await && zed.is_signed_in().await);
    assert_eq!(issuer.refused("GET", "/v1/sessions", Value::Null).await.1["details"]["field"], "user");
    assert_eq!(issuer.ok("GET", "/v1/sessions?user=zed", Value::Null).await["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_organisation_is_its_members_to_see_and_its_admins_to_name() {
    let issuer = Issuer::issuing(|_| {});
    let acme = founder(&issuer, "alice").await.organization;
    let other = founder(&issuer, "zed").await.organization;
    let alice = Browser::of(&issuer, "alice").await;
    let path = format!("/v1/organizations/{acme}");
    assert_eq!(alice.ok("PATCH", &path, json!({"name": "Acme"})).await["name"], "Acme");
    assert_eq!(alice.refused("PATCH", &path, json!({"tier": "pro"})).await, (400, "tier".to_owned()));
    assert_eq!(issuer.ok("PATCH", &path, json!({"tier": "pro"})).await["tier"], "pro");
    for method in ["GET", "PATCH"] {
        assert_eq!(alice.refused(method, &format!("/v1/organizations/{other}"), Value::Null).await.0, 404);
    }
    assert_eq!(alice.ok("GET", "/v1/organizations", Value::Null).await["data"].as_array().unwrap().len(), 1);
    assert_eq!(issuer.ok("GET", "/v1/organizations", Value::Null).await["data"].as_array().unwrap().len(), 2);
    alice.ok("POST", "/v1/users", json!({"id": "bob"})).await;
    let bob = Browser::of(&issuer, "bob").await;
    assert_eq!(bob.ok("GET", &path, Value::Null).await["founder"], "alice");
    assert_eq!(bob.refused("PATCH", &path, json!({"name": "Bobs"})).await.0, 403);
}
