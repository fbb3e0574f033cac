use super::*;

// oauth: T1 T2
#[tokio::test]
async fn a_key_is_shown_once() {
    let issuer = Issuer::new();
    let body = json!({
        "name": "ci", "user": "alice", "organization": "acme", "environment": "test", "scopes": ["conversations:read", "a:*"],
        "tier": "pro", "rate_limit": 60, "expires_in": "90d"
    });
    let created = issuer.ok("POST", "/v1/keys", body).await;
    let (id, text) = (created["id"].as_str().unwrap(), created["key"].as_str().unwrap());
    assert!(matches!(read_key("reva", text), KeyForm::Own(own) if own.id == id));
    assert!(text.starts_with(&format!("reva_test_sk_{id}")));
    for path in [format!("/v1/keys/{id}"), "/v1/keys".to_owned(), "/v1/users/alice".to_owned()] {
        let shown = issuer.ok("GET", &path, Value::Null).await.to_string();
        let secret = &text[text.len() - 49..];
        assert!(!shown.contains(secret) && !shown.contains("digest") && !shown.contains("hash"), "{path}: {shown}");
    }
    let mut shown = issuer.ok("GET", &format!("/v1/keys/{id}"), Value::Null).await;
    assert!(shown.as_object_mut().unwrap().remove("revision").unwrap().as_u64() > Some(0));
    let expected = json!({
        "id": id, "name": "ci", "display": format!("reva_test_sk_{id}"), "state": "active", "active": true, "user": "alice",
        "organization": "acme", "environment": "test", "scopes": ["a:*", "conversations:read"], "tier": "pro", "rate_limit": 60,
        "version": null, "allowed_networks": [], "metadata": {}, "tags": [], "made_by": null, "imported": false, "created_at": "2027-01-15T08:00:00Z", "not_before": null,
        "expires_at": "2027-04-15T08:00:00Z", "old_secret_until": null, "old_secret_used_at": null, "old_secret_used_route": null, "last_used_at": null, "last_used_route": null
    });
    assert_eq!(shown, expected);
    let user = issuer.ok("GET", "/v1/users/alice", Value::Null).await;
    assert_eq!((&user["organization"], &user["rights"], &user["state"]), (&json!("acme"), &Value::Null, &json!("active")));
}

// oauth: T3
#[tokio::test]
async fn a_stolen_store_holds_no_key() {
    let issuer = Issuer::new();
    let (_id, text) = issuer.key(&["*"]).await;
    let file = std::fs::read(issuer._folder.path().join(crate::store::EMBEDDED_FILE_NAME)).unwrap();
    let holds = |needle: &[u8]| file.windows(needle.len()).any(|window| window == needle);
    assert!(holds(b"hmac_sha256"), "the record lies there in plain view");
    let secret = &text.as_bytes()[text.len() - 49..text.len() - 6];
    assert!(!holds(text.as_bytes()) && !holds(secret));
    let sha256 = crate::secrets::sha256(text.as_bytes());
    assert!(!holds(&sha256) && !holds(crate::model::hex::write_hex(&sha256).as_bytes()));
}

fn flip(text: &str, at: usize) -> String {
    let mut bytes = text.as_bytes().to_vec();
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    String::from_utf8(bytes).unwrap()
}

// battery: K1 K2 K4 K5 K16
// oauth: T4
#[tokio::test]
async fn only_the_very_text_opens() {
    let issuer = Issuer::new();
    let (id, text) = issuer.key(&["*"]).await;
    assert_eq!(issuer.judge(&text).await.unwrap().key.as_ref().unwrap().as_str(), id);
    let environment = Environment::Live;
    // Wrong in one digit, and with a checksum that holds: only the comparison with the record can tell.
    let wrong = |at: usize| {
        let mut changed = flip(&text, at)[..text.len() - 6].to_owned();
        let checksum = crc32fast::hash(changed.as_bytes());
        crate::model::key_text::push_base62(&mut changed, &mut checksum.to_be_bytes(), 6);
        changed
    };
    let unknown = crate::model::key_text::write_key("reva", environment, &[1; 16], &[2; 32]).1.to_string();
    for (what, shown, expected) in [
        ("unknown id", unknown, Reason::UnknownKey),
        ("first secret digit", wrong(text.len() - 49), Reason::UnknownKey),
        ("middle secret digit", wrong(text.len() - 28), Reason::UnknownKey),
        ("last secret digit", wrong(text.len() - 7), Reason::UnknownKey),
        ("a secret digit alone", flip(&text, text.len() - 28), Reason::MalformedCredential),
        ("checksum", flip(&text, text.len() - 1), Reason::MalformedCredential),
        ("prefix alone", format!("reva_live_sk_{id}"), Reason::MalformedCredential),
        ("id alone", id.clone(), Reason::UnknownKey),
        ("lower case", text.to_lowercase(), Reason::MalformedCredential),
        ("upper case", text.to_uppercase(), Reason::UnknownKey),
        ("the other environment", text.replace("_live_", "_test_"), Reason::MalformedCredential),
    ] {
        assert_eq!(issuer.judge(&shown).await.unwrap_err(), expected, "{what}");
    }
}

// battery: K17
// oauth: T6
#[tokio::test]
async fn whatever_ends_a_key_ends_it_at_once() {
    let issuer = Issuer::new();
    let (id, text) = issuer.key(&["a:b"]).await;
    let path = format!("/v1/keys/{id}");
    issuer.judge(&text).await.unwrap();
    assert_eq!(issuer.ok("PATCH", &path, json!({"active": false})).await["state"], "disabled");
    assert_eq!(issuer.judge(&text).await.unwrap_err(), Reason::Disabled);
    issuer.ok("PATCH", &path, json!({"active": true})).await;
    issuer.judge(&text).await.unwrap();
    issuer.ok("PATCH", &path, json!({"not_before": "2027-01-16T08:00:00Z"})).await;
    assert_eq!(issuer.judge(&text).await.unwrap_err(), Reason::NotYetValid);
    issuer.ok("PATCH", &path, json!({"not_before": null, "expires_in": "1h"})).await;
    issuer.judge(&text).await.unwrap();
    issuer.clock.advance(Duration::from_secs(3600));
    assert_eq!(issuer.judge(&text).await.unwrap_err(), Reason::Expired);
    assert_eq!(issuer.ok("GET", &path, Value::Null).await["state"], "expired");
    issuer.ok("PATCH", &path, json!({"expires_at": null})).await;
    issuer.judge(&text).await.unwrap();
    issuer.ok("PATCH", "/v1/users/alice", json!({"active": false})).await;
    assert_eq!(issuer.judge(&text).await.unwrap_err(), Reason::Disabled);
    issuer.ok("PATCH", "/v1/users/alice", json!({"active": true})).await;
    assert_eq!(issuer.ok("DELETE", &path, Value::Null).await["state"], "revoked");
    assert_eq!(issuer.judge(&text).await.unwrap_err(), Reason::Revoked);
}

// battery: K17
#[tokio::test]
async fn a_revoked_key_stays_revoked() {
    let issuer = Issuer::new();
    let (id, text) = issuer.key(&["a:b"]).await;
    let path = format!("/v1/keys/{id}");
    issuer.ok("DELETE", &path, Value::Null).await;
    issuer.ok("DELETE", &path, Value::Null).await;
    for (method, path, body) in [
        ("PATCH", path.clone(), json!({"active": true})),
        ("PATCH", path.clone(), json!({"name": "x"})),
        ("POST", format!("{path}/rotate"), json!({"grace": "1h"})),
    ] {
        let (status, error) = issuer.refused(method, &path, body).await;
        assert_eq!((status, error["code"].as_str().unwrap()), (409, "CONFLICT"));
    }
    assert_eq!(issuer.judge(&text).await.unwrap_err(), Reason::Revoked);
    assert_eq!(issuer.ok("GET", &path, Value::Null).await["state"], "revoked");
}

// oauth: T5
#[tokio::test]
async fn a_key_never_exceeds_its_user() {
    let issuer = Issuer::new();
    issuer.ok("POST", "/v1/users", json!({"id": "alice", "rights": ["a:*", "b:read"]})).await;
    for scopes in [json!(["c:read"]), json!(["*"]), json!(["b:*"]), json!(["a:x", "tollgate:admin"])] {
        let (status, error) = issuer.refused("POST", "/v1/keys", json!({"name": "n", "user": "alice", "scopes": scopes})).await;
        assert_eq!((status, error["details"]["field"].as_str().unwrap()), (400, "scopes"));
    }
    let (id, text) = issuer.key(&["a:*", "b:read"]).await;
    assert_eq!(issuer.scopes_at_the_gate(&text).await, "a:* b:read");
    assert_eq!(issuer.refused("PATCH", &format!("/v1/keys/{id}"), json!({"scopes": ["*"]})).await.1["details"]["field"], "scopes");
    issuer.ok("PATCH", "/v1/users/alice", json!({"rights": ["a:read"]})).await;
    assert_eq!(issuer.scopes_at_the_gate(&text).await, "a:read", "what the user loses the key loses at once");
    issuer.ok("PATCH", "/v1/users/alice", json!({"rights": null})).await;
    assert_eq!(issuer.scopes_at_the_gate(&text).await, "a:* b:read");
    issuer.ok("PATCH", &format!("/v1/keys/{id}"), json!({"scopes": []})).await;
    assert_eq!(issuer.scopes_at_the_gate(&text).await, "");
}

#[tokio::test]
async fn bad_members_are_named_and_never_repeated() {
    let issuer = Issuer::new();
    let canary = "reva_live_sk_CANARY";
    for (member, value) in [
        ("name", json!("")),
        ("name", json!("a\u{7}")),
        ("name", json!("x".repeat(256))),
        ("name", json!(5)),
        ("user", json!(canary.to_owned() + " ")),
        ("user", json!("")),
        ("organization", json!("a b")),
        ("environment", json!("prod")),
        ("scopes", json!("a:b")),
        ("scopes", json!(["a b"])),
        ("scopes", json!(vec!["a"; 129])),
        ("tier", json!(canary)),
        ("rate_limit", json!(0)),
        ("rate_limit", json!(-1)),
        ("rate_limit", json!(1.5)),
        ("rate_limit", json!(1_000_001)),
        ("rate_limit", json!("60")),
        ("version", json!("2024-01-01")),
        ("expires_at", json!("2026-01-01T00:00:00Z")),
        ("expires_at", json!("soon")),
        ("expires_in", json!("0s")),
        ("expires_in", json!("1y")),
        ("not_before", json!(1)),
        ("id", json!("abc")),
        ("secrets", json!([])),
        ("state", json!("active")),
    ] {
        let mut body = json!({"name": "n", "user": "bob"});
        body[member] = value.clone();
        let (status, error) = issuer.refused("POST", "/v1/keys", body).await;
        assert_eq!((status, error["details"]["field"].as_str().unwrap()), (400, member), "{value}");
        assert!(!error.to_string().contains("CANARY"));
    }
    for missing in ["name", "user"] {
        let mut body = json!({"name": "n", "user": "bob"});
        body.as_object_mut().unwrap().remove(missing);
        let (_status, error) = issuer.refused("POST", "/v1/keys", body).await;
        assert!(error["details"]["issue"].as_str().unwrap().starts_with("is required"));
    }
    let both = json!({"name": "n", "user": "bob", "expires_in": "1d", "expires_at": "2030-01-01T00:00:00Z"});
    assert_eq!(issuer.refused("POST", "/v1/keys", both).await.0, 400);
    assert_eq!(issuer.ok("GET", "/v1/keys", Value::Null).await["data"], json!([]), "nothing was made on the way");
    assert_eq!(issuer.refused("GET", "/v1/users/bob", Value::Null).await.0, 404);
}

#[tokio::test]
async fn lists_are_filtered_and_paged() {
    let issuer = Issuer::new();
    let mut expected = BTreeSet::new();
    for number in 0..23 {
        let user = if number % 2 == 0 { "even" } else { "odd" };
        let body = json!({"name": format!("k{number}"), "user": user, "organization": user});
        let created = issuer.ok("POST", "/v1/keys", body).await;
        let id = created["id"].as_str().unwrap().to_owned();
        if number % 4 == 0 {
            issuer.ok("DELETE", &format!("/v1/keys/{id}"), Value::Null).await;
        }
        expected.insert((id, user, number % 4 == 0));
    }
    for (query, wanted) in [
        ("", expected.iter().map(|(id, _, _)| id.clone()).collect::<Vec<_>>()),
        ("&user=odd", expected.iter().filter(|(_, user, _)| *user == "odd").map(|(id, _, _)| id.clone()).collect()),
        (
            "&organization=even&state=active",
            expected.iter().filter(|(_, user, gone)| *user == "even" && !gone).map(|(id, _, _)| id.clone()).collect(),
        ),
        ("&state=revoked", expected.iter().filter(|(_, _, gone)| *gone).map(|(id, _, _)| id.clone()).collect()),
        ("&user=nobody", Vec::new()),
    ] {
        for limit in [1, 5, 23, 100] {
            let (mut found, mut after) = (Vec::new(), String::new());
            loop {
                let page = issuer.ok("GET", &format!("/v1/keys?limit={limit}{query}{after}"), Value::Null).await;
                let ids = page["data"].as_array().unwrap();
                assert!(ids.len() <= limit);
                found.extend(ids.iter().map(|key| key["id"].as_str().unwrap().to_owned()));
                match page["next"].as_str() {
                    Some(next) => after = format!("&after={next}"),
                    None => break,
                }
            }
            assert_eq!(found, wanted, "{query} {limit}");
        }
    }
}

#[tokio::test]
async fn of_two_changes_at_once_one_is_told() {
    let issuer = Issuer::new();
    let (id, _text) = issuer.key(&[]).await;
    let path = format!("/v1/keys/{id}");
    let revision = issuer.ok("GET", &path, Value::Null).await["revision"].as_u64().unwrap();
    let change = |name: &str| {
        Request::builder()
            .method("PATCH")
            .uri(&path)
            .header("if-match", format!("\"{revision}\""))
            .header("content-type", "application/json")
            .body(Body::from(json!({"name": name}).to_string()))
            .unwrap()
    };
    let (one, other) = tokio::join!(issuer.send(change("one")), issuer.send(change("other")));
    let mut statuses = [one.0, other.0];
    statuses.sort_unstable();
    assert_eq!(statuses[0], 200);
    assert!(matches!(statuses[1], 409 | 412), "{statuses:?}");
    let winner = if one.0 == 200 { "one" } else { "other" };
    assert_eq!(issuer.ok("GET", &path, Value::Null).await["name"], winner);
    assert_eq!(issuer.send(change("late")).await.0, 412);
}

// battery: K21
#[tokio::test]
async fn a_record_that_cannot_be_read_is_shown_as_such_and_can_be_cleared() {
    let issuer = Issuer::new();
    let (id, text) = issuer.key(&[]).await;
    let (_other, good) = issuer.key(&[]).await;
    let write = crate::store::Write::Put { key: crate::store::RecordKey::key(&id), bytes: vec![9, 9], expires: None };
    issuer.records.commit(vec![], vec![write], START).await.unwrap();
    assert_eq!(issuer.judge(&text).await.unwrap_err(), Reason::CorruptRecord);
    issuer.judge(&good).await.unwrap();
    let (status, error) = issuer.refused("GET", &format!("/v1/keys/{id}"), Value::Null).await;
    assert_eq!((status, error["code"].as_str().unwrap()), (503, "CORRUPT_RECORD"));
    let listed = issuer.ok("GET", "/v1/keys", Value::Null).await;
    assert!(listed["data"].as_array().unwrap().contains(&json!({"id": id, "state": "unreadable"})));
    issuer.ok("DELETE", &format!("/v1/keys/{id}"), Value::Null).await;
    assert_eq!(issuer.judge(&text).await.unwrap_err(), Reason::UnknownKey);
    assert_eq!(issuer.ok("GET", "/v1/keys", Value::Null).await["data"].as_array().unwrap().len(), 1);
}

// oauth: T9
#[tokio::test]
async fn the_last_use_is_shown_and_never_written() {
    let issuer = Issuer::new();
    let (id, text) = issuer.key(&[]).await;
    let path = format!("/v1/keys/{id}");
    let revision = issuer.ok("GET", &path, Value::Null).await["revision"].clone();
    for _request in 0..100 {
        issuer.judge(&text).await.unwrap();
    }
    issuer.uses.0.lock().unwrap().insert(id.clone(), LastUse { at: START, route: Arc::from("list") });
    let shown = issuer.ok("GET", &path, Value::Null).await;
    assert_eq!((&shown["last_used_at"], &shown["last_used_route"]), (&json!("2027-01-15T08:00:00Z"), &json!("list")));
    assert_eq!(shown["revision"], revision);
}

#[tokio::test]
async fn foreign_keys_come_in_by_their_hash() {
    let issuer = Issuer::new();
    let text = "a6b2d038-4eb1-4ca1-a3b4-2cf783ad55e1";
    let sha256 = |text: &str| crate::model::hex::write_hex(&crate::secrets::sha256(text.as_bytes()));
    assert_eq!(issuer.judge(text).await.unwrap_err(), Reason::UnknownKey);
    let entry = |hash: String| json!({"sha256": hash, "name": "old", "user": "carol", "scopes": ["a:b"]});
    let report = issuer
        .ok(
            "POST",
            "/v1/keys/import",
            json!({"keys": [entry(sha256(text)), entry("12".to_owned()), {"sha256": sha256("x")}, entry(sha256(text)), entry(sha256("y"))]}),
        )
        .await;
    let index = |list: &Value| list.as_array().unwrap().iter().map(|item| item["index"].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!((index(&report["imported"]), index(&report["failed"])), (vec![0, 4], vec![1, 2, 3]));
    assert_eq!(report["failed"][0]["details"]["field"], "keys[1].sha256");
    assert_eq!(report["failed"][1]["details"]["field"], "keys[2].name");
    assert_eq!(report["failed"][2]["code"], "CONFLICT");
    assert_eq!(report["accepted_at_the_gate"], true);
    let caller = issuer.judge(text).await.unwrap();
    assert_eq!((caller.user.as_str(), caller.scopes.to_string().as_str()), ("carol", "a:b"));
    assert_eq!(issuer.judge(&sha256(text)).await.unwrap_err(), Reason::UnknownKey, "the hash is no key");
    let id = report["imported"][0]["id"].as_str().unwrap();
    let shown = issuer.ok("GET", &format!("/v1/keys/{id}"), Value::Null).await;
    assert_eq!((&shown["imported"], &shown["display"]), (&json!(true), &json!(format!("imported {id}"))));
    issuer.ok("DELETE", &format!("/v1/keys/{id}"), Value::Null).await;
    assert_eq!(issuer.judge(text).await.unwrap_err(), Reason::Revoked);
    let again = issuer.ok("POST", "/v1/keys/import", json!({"keys": [entry(sha256(text))]})).await;
    assert_eq!(again["failed"][0]["code"], "CONFLICT", "what was revoked does not come back by import");
}

#[tokio::test]
async fn a_key_as_code_is_made_and_not_stored() {
    let issuer = Issuer::new();
    let body = json!({"name": "ci: \"x\"", "user": "svc", "scopes": ["a:b"], "expires_in": "1d"});
    let entry = issuer.ok("POST", "/v1/keys/file-entry", body).await;
    let hash = issuer.state.peppers.hash(entry["key"].as_str().unwrap().as_bytes());
    let digest = crate::model::hex::write_hex(&hash.digest);
    assert_eq!(entry["hash"], format!("hmac-sha256:p1:{digest}"));
    let id = entry["id"].as_str().unwrap();
    let expected = format!(
        "- id: {id}\n  name: \"ci: \\\"x\\\"\"\n  user: \"svc\"\n  scopes: [\"a:b\"]\n  environment: live\n  \
         expires: \"2027-01-16T08:00:00Z\"\n  hash: \"hmac-sha256:p1:{digest}\"\n"
    );
    assert_eq!(entry["yaml"], expected);
    assert_eq!(issuer.refused("GET", &format!("/v1/keys/{id}"), Value::Null).await.0, 404);
    assert_eq!(issuer.refused("GET", "/v1/users/svc", Value::Null).await.0, 404);
}
