use super::*;

#[tokio::test]
async fn users_are_made_shown_changed_and_listed() {
    let issuer = Issuer::new();
    let created = issuer.ok("POST", "/v1/users", json!({"id": "a:b%", "organization": "acme", "tier": "free", "rights": ["a:b"]})).await;
    assert_eq!((&created["id"], &created["source"], &created["rights"]), (&json!("a:b%"), &json!("local"), &json!(["a:b"])));
    assert_eq!(issuer.refused("POST", "/v1/users", json!({"id": "a:b%"})).await.0, 409);
    assert_eq!(issuer.refused("POST", "/v1/users", json!({"id": "x", "source": "nowhere"})).await.1["details"]["field"], "source");
    assert_eq!(issuer.refused("POST", "/v1/users", json!({"id": "x y"})).await.1["details"]["field"], "id");
    let path = "/v1/users/a:b%25";
    assert_eq!(issuer.ok("GET", path, Value::Null).await["organization"], "acme");
    let changed = issuer.ok("PATCH", path, json!({"tier": null, "rights": null, "valid_from": "now", "organization": "other"})).await;
    assert_eq!((&changed["tier"], &changed["rights"], &changed["organization"]), (&Value::Null, &Value::Null, &json!("other")));
    assert_eq!(changed["valid_from"], "2027-01-15T08:00:00Z");
    assert_eq!(issuer.refused("PATCH", path, json!({"right": []})).await.1["details"]["field"], "right");
    issuer.ok("POST", "/v1/users", json!({"id": "zed", "active": false})).await;
    let page = issuer.ok("GET", "/v1/users?limit=1", Value::Null).await;
    assert_eq!(page["data"][0]["id"], "a:b%");
    let next = page["next"].as_str().unwrap().replace('%', "%25");
    let page = issuer.ok("GET", &format!("/v1/users?limit=1&after={next}"), Value::Null).await;
    assert_eq!((&page["data"][0]["id"], &page["data"][0]["state"], &page["next"]), (&json!("zed"), &json!("disabled"), &Value::Null));
}

// battery: K17
#[tokio::test]
async fn a_deleted_user_leaves_nothing_behind() {
    let issuer = Issuer::new();
    let (id, text) = issuer.key(&["*"]).await;
    let (_other, kept) = {
        let answer = issuer.ok("POST", "/v1/keys", json!({"name": "n", "user": "bob"})).await;
        (answer["id"].clone(), answer["key"].as_str().unwrap().to_owned())
    };
    issuer.ok("DELETE", "/v1/users/alice", Value::Null).await;
    assert_eq!(issuer.judge(&text).await.unwrap_err(), Reason::UnknownKey);
    assert_eq!(issuer.refused("GET", "/v1/users/alice", Value::Null).await.0, 404);
    assert_eq!(issuer.refused("GET", &format!("/v1/keys/{id}"), Value::Null).await.0, 404);
    assert_eq!(issuer.refused("DELETE", "/v1/users/alice", Value::Null).await.0, 404);
    issuer.ok("POST", "/v1/users", json!({"id": "alice"})).await;
    assert_eq!(issuer.judge(&text).await.unwrap_err(), Reason::UnknownKey, "a new user of the same name inherits nothing");
    issuer.judge(&kept).await.unwrap();
}

#[tokio::test]
async fn a_key_stays_in_its_users_organisation() {
    let issuer = Issuer::new();
    issuer.ok("POST", "/v1/users", json!({"id": "alice", "organization": "acme"})).await;
    let body = json!({"name": "n", "user": "alice", "organization": "evil"});
    assert_eq!(issuer.refused("POST", "/v1/keys", body).await.1["details"]["field"], "organization");
    let created = issuer.ok("POST", "/v1/keys", json!({"name": "n", "user": "alice"})).await;
    assert_eq!(created["organization"], "acme");
    let moved = json!({"organization": "evil"});
    assert_eq!(issuer.refused("PATCH", "/v1/users/alice", moved).await.1["details"]["field"], "organization");
    issuer.ok("PATCH", "/v1/users/alice", json!({"active": false})).await;
    assert_eq!(issuer.refused("POST", "/v1/keys", json!({"name": "n", "user": "alice"})).await.0, 409);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keys_made_during_a_deletion_are_gone_after_it() {
    let issuer = Arc::new(Issuer::new());
    for round in 0..10 {
        let user = format!("u{round}");
        issuer.ok("POST", "/v1/users", json!({"id": user})).await;
        let makers: Vec<_> = (0..6)
            .map(|_maker| {
                let (issuer, user) = (Arc::clone(&issuer), user.clone());
                tokio::spawn(async move { issuer.call("POST", "/v1/keys", json!({"name": "n", "user": user})).await })
            })
            .collect();
        let deleted = issuer.call("DELETE", &format!("/v1/users/{user}"), Value::Null).await.0;
        assert_eq!(deleted, 204);
        let mut keys = Vec::new();
        for maker in makers {
            let (status, answer) = maker.await.unwrap();
            if status == 201 {
                keys.push(answer["key"].as_str().unwrap().to_owned());
            }
        }
        // A key may come after the deletion, with a user of its own; then both are there, else neither.
        let user_is_there = issuer.call("GET", &format!("/v1/users/{user}"), Value::Null).await.0 == 200;
        let listed = issuer.ok("GET", &format!("/v1/keys?user={user}"), Value::Null).await["data"].as_array().unwrap().len();
        assert!(user_is_there || listed == 0, "{listed} keys of a deleted user");
        for text in keys {
            match issuer.judge(&text).await {
                Ok(_caller) => assert!(user_is_there, "{user}"),
                Err(reason) => assert_eq!(reason, Reason::UnknownKey, "{user}"),
            }
        }
    }
}
