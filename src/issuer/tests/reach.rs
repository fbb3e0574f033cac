//! How far callers of the public door reach.

use super::*;
use crate::listen::http::Peer;
use crate::model::account::InvitationRecord;
use crate::model::account::SessionRecord;
use crate::model::client::ClientRecord;
use crate::store::RecordKey;
use crate::store::Write;
use crate::store::codec::Shelved;

const ADMIN: &[&str] = &["tollgate:keys", "tollgate:usage", "orders:read", "orders:write"];

// oauth: U5
#[tokio::test]
async fn another_organisations_keys_are_not_there() {
    let issuer = Issuer::issuing(|_| {});
    let (own, admin) = issuer.key_of("ann", "acme", ADMIN).await;
    let (member, _) = issuer.key_of("abe", "acme", &["orders:read"]).await;
    let (other, other_admin) = issuer.key_of("eve", "evil", ADMIN).await;
    let calls = |id: &str| {
        [
            ("GET", format!("/v1/keys/{id}"), Value::Null),
            ("PATCH", format!("/v1/keys/{id}"), json!({"name": "mine"})),
            ("POST", format!("/v1/keys/{id}/rotate"), json!({"grace": "1h"})),
            ("DELETE", format!("/v1/keys/{id}"), Value::Null),
        ]
    };
    let absent = "000000000000";
    for key in [&admin, &other_admin] {
        let foreign = if *key == admin { &other } else { &own };
        for ((method, path, body), (_, nowhere, _)) in calls(foreign).into_iter().zip(calls(absent)) {
            let (status, mut answer) = issuer.call_with(key, method, &path, body.clone()).await;
            let (_, mut missing) = issuer.call_with(key, method, &nowhere, body).await;
            assert_eq!(status, 404, "{method} {path}: {answer}");
            for answer in [&mut answer, &mut missing] {
                answer["error"].as_object_mut().unwrap().remove("request_id").unwrap();
            }
            assert_eq!(answer, missing, "as though it had never been");
        }
        let (status, list) = issuer.call_with(key, "GET", "/v1/keys", Value::Null).await;
        assert_eq!(status, 200);
        assert!(!list.to_string().contains(foreign.as_str()), "{list}");
        let organization = if *key == admin { "evil" } else { "acme" };
        for filter in [format!("organization={organization}"), "user=eve&state=active".to_owned(), "user=ann".to_owned()] {
            let (_, list) = issuer.call_with(key, "GET", &format!("/v1/keys?{filter}"), Value::Null).await;
            assert!(!list.to_string().contains(foreign.as_str()), "{list}");
        }
        for user in ["eve", "ann", "nobody"].into_iter().filter(|user| (*user == "ann") != (*key == admin) || *user == "nobody") {
            let body = json!({"name": "n", "user": user, "scopes": []});
            let (status, answer) = issuer.call_with(key, "POST", "/v1/keys", body.clone()).await;
            assert_eq!(status, 404, "{user}: {answer}");
            let mut entry = body;
            entry["sha256"] = json!("5e".repeat(32));
            let (_, answer) = issuer.call_with(key, "POST", "/v1/keys/import", json!({"keys": [entry]})).await;
            assert_eq!(answer["failed"][0]["code"], "NOT_FOUND", "{answer}");
        }
    }
    let (_, list) = issuer.call_with(&admin, "GET", "/v1/keys", Value::Null).await;
    let ids: BTreeSet<&str> = list["data"].as_array().unwrap().iter().map(|key| key["id"].as_str().unwrap()).collect();
    assert_eq!(ids, BTreeSet::from([own.as_str(), member.as_str()]));
    assert_eq!(issuer.call_with(&admin, "DELETE", &format!("/v1/keys/{member}"), Value::Null).await.0, 200, "and its own it may");
}

// oauth: U5
#[tokio::test]
async fn pages_never_name_what_lies_outside() {
    let issuer = Issuer::issuing(|_| {});
    let (_, admin) = issuer.key_of("ann", "acme", ADMIN).await;
    let mut foreign = Vec::new();
    for number in 0..6 {
        issuer.key_of("ann", "acme", &[]).await;
        foreign.push(issuer.key_of(&format!("eve{number}"), "evil", &[]).await.0);
    }
    let mut path = "/v1/keys?limit=2".to_owned();
    let mut seen = BTreeSet::new();
    loop {
        let (status, page) = issuer.call_with(&admin, "GET", &path, Value::Null).await;
        assert_eq!(status, 200, "{page}");
        assert!(foreign.iter().all(|id| !page.to_string().contains(id.as_str())), "{page}");
        seen.extend(page["data"].as_array().unwrap().iter().map(|key| key["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        assert!(!crate::model::key::is_key_id(next) || next.len() > 12);
        path = format!("/v1/keys?limit=2&after={next}");
    }
    assert_eq!(seen.len(), 7);
    let forged = format!("/v1/keys?after={}", foreign[0]);
    assert_eq!(issuer.call_with(&admin, "GET", &forged, Value::Null).await.0, 400);
}

// oauth: T5
#[tokio::test]
async fn a_key_never_exceeds_its_makers_rights() {
    let issuer = Issuer::issuing(|_| {});
    let (_, admin) = issuer.key_of("ann", "acme", ADMIN).await;
    let (strong, _) = issuer.key_of("abe", "acme", &["files:read"]).await;
    let refused = [
        json!({"scopes": ["files:read"]}),
        json!({"scopes": ["*"]}),
        json!({"scopes": ["orders:*"]}),
        json!({"scopes": ["tollgate:users"]}),
        json!({"scopes": ["tollgate:admin"]}),
        json!({"scopes": ["tollgate:unlimited"]}),
        json!({"tier": "pro"}),
    ];
    for mut body in refused {
        body["name"] = json!("n");
        let (status, answer) = issuer.call_with(&admin, "POST", "/v1/keys", body.clone()).await;
        assert_eq!((status, answer["error"]["code"].as_str().unwrap()), (403, "FORBIDDEN"), "{body}");
    }
    let body = json!({"name": "n", "scopes": ["orders:read", "tollgate:keys"]});
    let (status, made) = issuer.call_with(&admin, "POST", "/v1/keys", body).await;
    assert_eq!((status, made["user"].as_str().unwrap(), made["organization"].as_str().unwrap()), (201, "ann", "acme"));
    let widened = issuer.call_with(&admin, "PATCH", &format!("/v1/keys/{}", made["id"].as_str().unwrap()), json!({"scopes": ["*"]})).await;
    assert_eq!(widened.0, 403);
    // What holds more than its manager can be ended by it, and nothing else.
    for (method, path, body) in [
        ("POST", format!("/v1/keys/{strong}/rotate"), json!({"grace": "0s"})),
        ("PATCH", format!("/v1/keys/{strong}"), json!({"rate_limit": null})),
    ] {
        assert_eq!(issuer.call_with(&admin, method, &path, body).await.0, 403, "{method} {path}");
    }
    assert_eq!(issuer.call_with(&admin, "DELETE", &format!("/v1/keys/{strong}"), Value::Null).await.0, 200);
    // What its maker loses afterwards, its keys made earlier do not give back to it.
    issuer.ok("PATCH", "/v1/users/ann", json!({"rights": ["tollgate:keys"]})).await;
    let body = json!({"name": "n", "scopes": ["orders:read"]});
    assert_eq!(issuer.call_with(&admin, "POST", "/v1/keys", body).await.0, 403);
}

#[tokio::test]
async fn a_user_manages_its_own_keys() {
    let issuer = Issuer::issuing(|_| {});
    let (id, key) = issuer.key_of("abe", "acme", &["orders:read"]).await;
    let (neighbour, _) = issuer.key_of("ann", "acme", &["orders:read"]).await;
    let (status, made) = issuer.call_with(&key, "POST", "/v1/keys", json!({"name": "second", "scopes": ["orders:read"]})).await;
    assert_eq!(status, 201, "{made}");
    let (_, list) = issuer.call_with(&key, "GET", "/v1/keys", Value::Null).await;
    assert_eq!(list["data"].as_array().unwrap().len(), 2);
    assert_eq!(issuer.call_with(&key, "GET", &format!("/v1/keys/{neighbour}"), Value::Null).await.0, 404);
    assert_eq!(issuer.call_with(&key, "POST", "/v1/keys", json!({"name": "n", "user": "ann"})).await.0, 404);
    issuer.ok("PATCH", &format!("/v1/keys/{id}"), json!({"rate_limit": 60})).await;
    for (limit, status) in [(json!(61), 403), (Value::Null, 403), (json!(30), 200)] {
        let body = json!({"rate_limit": limit});
        assert_eq!(issuer.call_with(&key, "PATCH", &format!("/v1/keys/{id}"), body).await.0, status, "{limit}");
    }
    assert_eq!(issuer.call_with(&key, "POST", &format!("/v1/keys/{id}/rotate"), json!({"grace": "1h"})).await.0, 200);
    assert_eq!(issuer.call_with(&key, "DELETE", &format!("/v1/keys/{id}"), Value::Null).await.0, 200);
    assert_eq!(issuer.call_with(&key, "GET", "/v1/keys", Value::Null).await.0, 401);
}

// oauth: T5
#[tokio::test]
async fn what_a_users_key_makes_lasts_no_longer_and_asks_no_oftener_than_itself() {
    let issuer = Issuer::issuing(|_| {});
    let body = json!({"name": "s", "user": "abe", "organization": "acme", "rate_limit": 60, "expires_in": "1h"});
    let short = issuer.ok("POST", "/v1/keys", body).await;
    let (id, key) = (short["id"].as_str().unwrap(), short["key"].as_str().unwrap());
    let own = format!("/v1/keys/{id}");
    for (expiry, limit, status) in [
        (json!({}), json!(60), 403),
        (json!({"expires_in": "2h"}), json!(60), 403),
        (json!({"expires_in": "1h"}), Value::Null, 403),
        (json!({"expires_in": "1h"}), json!(61), 403),
        (json!({"expires_in": "1h"}), json!(60), 201),
    ] {
        let mut body = expiry.clone();
        (body["name"], body["rate_limit"]) = (json!("n"), limit);
        let (found, answer) = issuer.call_with(key, "POST", "/v1/keys", body.clone()).await;
        assert_eq!(found, status, "{body}: {answer}");
        (body["user"], body["sha256"]) = (json!("abe"), json!("5e".repeat(32)));
        let (_, report) = issuer.call_with(key, "POST", "/v1/keys/import", json!({"keys": [body]})).await;
        assert_eq!(report["failed"] == json!([]), status == 201, "{report}");
    }
    for (change, status) in [
        (json!({"expires_at": null}), 403),
        (json!({"expires_in": "2h"}), 403),
        (json!({"name": "other"}), 200),
        (json!({"expires_in": "30m"}), 200),
    ] {
        let (found, answer) = issuer.call_with(key, "PATCH", &own, change.clone()).await;
        assert_eq!(found, status, "{change}: {answer}");
    }
    let rotation = json!({"grace": "1h", "expires_in": "2h"});
    assert_eq!(issuer.call_with(key, "POST", &format!("{own}/rotate"), rotation).await.0, 403);
    let (_, admin) = issuer.key_of("ann", "acme", ADMIN).await;
    assert_eq!(issuer.call_with(&admin, "PATCH", &own, json!({"expires_at": null})).await.0, 200, "its organisation's admin may");
}

// battery: K21
#[tokio::test]
async fn what_cannot_be_read_is_there_for_operators_alone() {
    let issuer = Issuer::issuing(|_| {});
    let (_, admin) = issuer.key_of("ann", "acme", &["tollgate:keys", "tollgate:users"]).await;
    let (_, root) = issuer.key_of("root", "ops", &["tollgate:admin"]).await;
    let (own, _) = issuer.key_of("ann", "acme", &[]).await;
    let (key, _) = issuer.key_of("eve", "evil", &[]).await;
    let (hers, _) = issuer.key_of("mallory", "evil", &[]).await;
    let (client, session) = ("app_00000000000000000001", "0000000000000000000001");
    let places = [
        RecordKey::key(&key),
        RecordKey::user("local", "mallory"),
        ClientRecord::place(client),
        SessionRecord::place(session),
        InvitationRecord::place(session),
    ];
    let writes = places.map(|key| Write::Put { key, bytes: vec![9, 9], expires: None });
    issuer.records.commit(vec![], writes.into(), START).await.unwrap();
    let active = json!({"active": true});
    for (method, path, body) in [
        ("GET", format!("/v1/keys/{key}"), Value::Null),
        ("PATCH", format!("/v1/keys/{key}"), active.clone()),
        ("POST", "/v1/keys".to_owned(), json!({"name": "n", "user": "mallory"})),
        ("GET", "/v1/users/mallory".to_owned(), Value::Null),
        ("PATCH", "/v1/users/mallory".to_owned(), active.clone()),
        ("DELETE", "/v1/users/mallory".to_owned(), Value::Null),
        ("GET", format!("/v1/clients/{client}"), Value::Null),
        ("PATCH", format!("/v1/clients/{client}"), active),
        ("DELETE", format!("/v1/sessions/{session}"), Value::Null),
        ("DELETE", format!("/v1/invitations/{session}"), Value::Null),
    ] {
        for (asker, expected) in [(&admin, 404), (&root, 503)] {
            let (status, answer) = issuer.call_with(asker, method, &path, body.clone()).await;
            assert_eq!(status, expected, "{method} {path}: {answer}");
        }
    }
    let (_, list) = issuer.call_with(&admin, "GET", "/v1/keys", Value::Null).await;
    assert!(list.to_string().contains(&own) && !list.to_string().contains(&hers), "{list}");
}

#[tokio::test]
async fn what_was_disabled_is_enabled_by_whoever_reaches_as_far() {
    let issuer = Issuer::issuing(|_| {});
    let (_, owner) = issuer.key_of("abe", "acme", &["orders:read"]).await;
    let (_, admin) = issuer.key_of("ann", "acme", &["tollgate:keys", "tollgate:users", "orders:read"]).await;
    let (_, root) = issuer.key_of("root", "ops", &["tollgate:admin"]).await;
    let (key, _) = issuer.key_of("abe", "acme", &["orders:read"]).await;
    let client = json!({"name": "c", "redirect_uris": ["https://app.example.com/callback"], "scopes": ["orders:read"]});
    let (_, client) = issuer.call_with(&owner, "POST", "/v1/clients", client).await;
    issuer.ok("POST", "/v1/users", json!({"id": "bea", "organization": "acme", "rights": []})).await;
    let askers = [(0, Some(&owner)), (1, Some(&admin)), (2, Some(&root)), (2, None)];
    let client = format!("/v1/clients/{}", client["id"].as_str().unwrap());
    // Nobody says of itself whether it is active.
    for (path, askers) in [(format!("/v1/keys/{key}"), &askers[..]), (client, &askers), ("/v1/users/bea".to_owned(), &askers[1..])] {
        let least = askers[0].1;
        let set = async |asker: Option<&String>, active: bool| match asker {
            Some(key) => issuer.call_with(key, "PATCH", &path, json!({"active": active})).await.0,
            None => issuer.call("PATCH", &path, json!({"active": active})).await.0,
        };
        for &(level, disabling) in askers {
            for &(reached, enabling) in askers {
                assert_eq!(set(disabling, false).await, 200);
                assert_eq!(set(least, false).await, 200, "and to disable it again makes it nobody else's word");
                let expected = if reached >= level { 200 } else { 403 };
                assert_eq!(set(enabling, true).await, expected, "{path}: disabled by {level}, enabled by {reached}");
                assert_eq!(set(None, true).await, 200);
                assert_eq!(set(least, false).await, 200, "what is enabled is disabled by nobody");
                assert_eq!(set(least, true).await, 200);
            }
        }
    }
    let (status, _) = issuer.call_with(&admin, "POST", "/v1/users", json!({"id": "zoe", "active": false})).await;
    assert_eq!(status, 201);
    assert_eq!(issuer.call_with(&admin, "PATCH", "/v1/users/zoe", json!({"active": true})).await.0, 200);
    issuer.ok("POST", "/v1/users", json!({"id": "zed", "organization": "acme", "rights": [], "active": false})).await;
    assert_eq!(issuer.call_with(&admin, "PATCH", "/v1/users/zed", json!({"active": true})).await.0, 403, "made so by an operator");
}

/// Asks with a key that opens from 192.0.2.0/24, from there.
async fn ask_from_within(issuer: &Issuer, key: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
    let request = Request::builder().method(method).uri(path).header("x-api-key", key).header("content-type", "application/json");
    let request = request.extension(Peer(Some("192.0.2.7:9".parse().unwrap()))).body(Body::from(body.to_string()));
    let response = issuer.public.clone().oneshot(request.unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let answer = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice::<Value>(&answer).unwrap())
}

// oauth: T5
#[tokio::test]
async fn what_a_key_that_is_bound_to_networks_makes_is_bound_to_them_too() {
    let issuer = Issuer::issuing(|_| {});
    let (admin, rights) = ("tollgate:admin", ["orders:read", "tollgate:keys", "tollgate:admin"]);
    issuer.ok("POST", "/v1/users", json!({"id": "abe", "organization": "acme", "rights": rights})).await;
    let within = json!(["192.0.2.0/28"]);
    for scope in ["orders:read", "tollgate:keys", admin] {
        let bound = json!({"name": "b", "user": "abe", "scopes": [scope], "allowed_networks": ["192.0.2.0/24"]});
        let key = issuer.ok("POST", "/v1/keys", bound.clone()).await["key"].as_str().unwrap().to_owned();
        let ask = async |method: &str, path: &str, body: Value| ask_from_within(&issuer, &key, method, path, body).await;
        let wider = if scope == admin { 2 } else { 4 };
        for (networks, class) in [(json!(["0.0.0.0/0"]), wider), (json!(["192.0.2.0/24", "198.51.100.7/32"]), wider), (within.clone(), 2)] {
            let body = json!({"name": "n", "allowed_networks": networks});
            let (status, answer) = ask("POST", "/v1/keys", body).await;
            assert_eq!(status / 100, class, "{scope} {networks}: {answer}");
        }
        let (_, made) = ask("POST", "/v1/keys", json!({"name": "n"})).await;
        let inherited = if scope == admin { json!([]) } else { json!(["192.0.2.0/24"]) };
        assert_eq!(made["allowed_networks"], inherited, "{made}");
        let (_, generated) = ask("POST", "/generate", json!({})).await;
        let generated = issuer.ok("GET", &format!("/v1/keys/{}", generated["api_key_id"].as_str().unwrap()), Value::Null).await;
        assert_eq!(generated["allowed_networks"], inherited);
        let path = format!("/v1/keys/{}", made["id"].as_str().unwrap());
        assert_eq!(ask("PATCH", &path, json!({"allowed_networks": null})).await.0 / 100, wider);
        assert_eq!(ask("PATCH", &path, json!({"allowed_networks": within})).await.0, 200);
        let (unbound, _) = issuer.key_of("abe", "acme", &[]).await;
        let rotation = format!("/v1/keys/{unbound}/rotate");
        assert_eq!(
            ask("POST", &rotation, json!({"grace": "1h"})).await.0 / 100,
            wider,
            "nor is a secret learned that opens from elsewhere"
        );
        assert_eq!(ask("POST", &format!("{path}/rotate"), json!({"grace": "1h"})).await.0, 200);
    }
}

// oauth: T5
#[tokio::test]
async fn a_key_that_is_bound_to_networks_makes_nothing_that_opens_from_everywhere() {
    let issuer = Issuer::issuing(|_| {});
    let rights = ["orders:read", "tollgate:keys", "tollgate:users", "tollgate:admin"];
    issuer.ok("POST", "/v1/users", json!({"id": "abe", "organization": "acme", "role": "admin", "rights": rights})).await;
    issuer.ok("POST", "/v1/users", json!({"id": "bea", "organization": "acme", "rights": ["orders:read"]})).await;
    let app = json!({"name": "app", "redirect_uris": ["https://app.example.com/cb"], "scopes": ["orders:read"]});
    let mut of_abe = app.clone();
    (of_abe["owner"], of_abe["organization"]) = (json!("abe"), json!("acme"));
    let (bound, unbound) = (json!(["192.0.2.0/24"]), json!([]));
    for (number, (scopes, networks, class)) in
        [(&rights[..3], &bound, 4), (&rights[..3], &unbound, 2), (&rights[3..], &bound, 2)].into_iter().enumerate()
    {
        let key = json!({"name": "b", "user": "abe", "scopes": scopes, "allowed_networks": networks});
        let key = issuer.ok("POST", "/v1/keys", key).await["key"].as_str().unwrap().to_owned();
        let client = issuer.ok("POST", "/v1/clients", of_abe.clone()).await["id"].as_str().unwrap().to_owned();
        let client = format!("/v1/clients/{client}");
        issuer.ok("PATCH", "/v1/users/bea", json!({"role": "member", "rights": ["orders:read"], "active": true})).await;
        let of_bea = json!({"name": "n", "user": "bea", "expires_in": "1h"});
        let of_bea = issuer.ok("POST", "/v1/keys", of_bea).await["id"].as_str().unwrap().to_owned();
        let of_bea = format!("/v1/keys/{of_bea}");
        let user = |name: &str| json!({"id": format!("{name}{number}"), "organization": "acme", "rights": []});
        let mut with_password = user("zoe");
        with_password["password"] = json!("correct horse");
        let mut admin = user("max");
        admin["role"] = json!("admin");
        let (bea, password) = ("/v1/users/bea", json!({"password": "correct horse"}));
        for (method, path, body, class) in [
            ("POST", "/v1/clients", app.clone(), class),
            ("POST", &format!("{client}/rotate"), json!({"grace": "0s"}), class),
            ("PATCH", &client, json!({"redirect_uris": ["https://evil.example.com/cb"]}), class),
            ("PATCH", &client, json!({"scopes": []}), class),
            ("PATCH", &client, json!({"name": "mine"}), 2),
            ("POST", "/v1/users", with_password, class),
            ("POST", "/v1/users", admin, class),
            ("POST", "/v1/users", user("zed"), 2),
            ("PATCH", bea, password, class),
            ("PATCH", bea, json!({"rights": ["orders:read", "tollgate:keys"]}), class),
            ("PATCH", bea, json!({"rights": ["orders:read"], "display_name": "Bea"}), 2),
            ("PATCH", bea, json!({"role": "admin"}), class),
            ("PATCH", bea, json!({"role": "member", "active": false, "valid_from": "now"}), 2),
            ("PATCH", bea, json!({"active": true}), class),
            ("PATCH", bea, json!({"valid_from": "2027-01-01T00:00:00Z"}), class),
            ("PATCH", bea, json!({"valid_from": null}), class),
            ("POST", "/v1/invitations", json!({"organization": "acme"}), class),
            ("PATCH", &of_bea, json!({"scopes": ["orders:read"]}), class),
            ("PATCH", &of_bea, json!({"expires_at": null}), class),
            ("PATCH", &of_bea, json!({"name": "mine", "expires_in": "1m", "active": false}), 2),
            ("PATCH", &of_bea, json!({"active": true}), class),
            ("PATCH", &of_bea, json!({"not_before": "2027-01-15T08:00:30Z"}), 2),
            ("PATCH", &of_bea, json!({"not_before": "2027-01-15T08:00:20Z"}), class),
            ("PATCH", &of_bea, json!({"not_before": null}), class),
        ] {
            let request = format!("{scopes:?} {networks}: {method} {path} {body}");
            let (status, answer) = ask_from_within(&issuer, &key, method, path, body).await;
            assert_eq!(status / 100, class, "{request}: {answer}");
            if class == 4 {
                assert_eq!(status, 403, "{request}: {answer}");
                assert!(
                    answer["error"]["message"].as_str().unwrap().contains("to networks") || method == "PATCH" && path == of_bea,
                    "{answer}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_test_key_makes_no_live_key() {
    let issuer = Issuer::issuing(|_| {});
    let body = json!({"name": "t", "user": "abe", "environment": "test", "scopes": ["a:b"]});
    let key = issuer.ok("POST", "/v1/keys", body).await["key"].as_str().unwrap().to_owned();
    let (live, _) = issuer.key_of("abe", "acme", &["a:b"]).await;
    assert_eq!(issuer.call_with(&key, "POST", "/v1/keys", json!({"name": "n"})).await.0, 403);
    assert_eq!(issuer.call_with(&key, "POST", "/v1/keys", json!({"name": "n", "environment": "test"})).await.0, 201);
    assert_eq!(issuer.call_with(&key, "POST", &format!("/v1/keys/{live}/rotate"), json!({"grace": "1h"})).await.0, 403);
}

#[tokio::test]
async fn whoever_finds_a_key_can_end_it() {
    let issuer = Issuer::issuing(|_| {});
    let (id, first) = issuer.key_of("abe", "acme", &[]).await;
    let second = issuer.ok("POST", &format!("/v1/keys/{id}/rotate"), json!({"grace": "1h"})).await["key"].as_str().unwrap().to_owned();
    let end = async |text: &str| issuer.call_with("", "POST", "/v1/keys/self/revoke", json!({"key": text})).await.0;
    assert_eq!(end("reva_live_sk_x").await, 404);
    assert_eq!(end(&first).await, 204);
    assert_eq!(issuer.call_with(&first, "GET", "/v1/keys/self", Value::Null).await.0, 401, "the old secret is gone");
    assert_eq!(issuer.call_with(&second, "GET", "/v1/keys/self", Value::Null).await.0, 200, "and the key is not");
    assert_eq!(end(&first).await, 404);
    assert_eq!(end(&second).await, 204);
    assert_eq!(issuer.call_with(&second, "GET", "/v1/keys/self", Value::Null).await.0, 401);
    assert_eq!(issuer.ok("GET", &format!("/v1/keys/{id}"), Value::Null).await["state"], "revoked");
    assert_eq!(end(&second).await, 204, "asking again changes nothing");
}

#[tokio::test]
async fn usage_is_ones_own_organisations() {
    let issuer = Issuer::issuing(|_| {});
    let (_, admin) = issuer.key_of("ann", "acme", ADMIN).await;
    let (_, member) = issuer.key_of("abe", "acme", &[]).await;
    issuer.key_of("eve", "evil", &[]).await;
    let asked = async |key: &str, query: &str| {
        let (status, _) = issuer.call_with(key, "GET", &format!("/v1/usage{query}"), Value::Null).await;
        assert_eq!(status, 200, "{query}");
        issuer.counts.asked.lock().unwrap().take().unwrap().users
    };
    let some = |users: &[&str]| Some(users.iter().map(|user| Arc::from(*user)).collect::<BTreeSet<Arc<str>>>());
    for (key, query, users) in [
        (&admin, "", some(&["abe", "ann"])),
        (&admin, "?user=abe", some(&["abe"])),
        (&admin, "?user=eve", some(&[])),
        (&admin, "?organization=evil", some(&[])),
        (&member, "", some(&["abe"])),
        (&member, "?user=ann", some(&[])),
        (&member, "?organization=acme", some(&["abe"])),
        (&member, "?organization=evil", some(&[])),
    ] {
        assert_eq!(asked(key, query).await, users, "{query}");
    }
}
