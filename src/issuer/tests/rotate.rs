use super::*;

impl Issuer {
    async fn rotate(&self, id: &str, grace: &str) -> String {
        let answer = self.ok("POST", &format!("/v1/keys/{id}/rotate"), json!({"grace": grace})).await;
        assert_eq!(answer["id"], id, "the id stays");
        answer["key"].as_str().unwrap().to_owned()
    }

    async fn opens(&self, text: &str) -> bool {
        self.judge(text).await.is_ok()
    }
}

// oauth: T7
#[tokio::test]
async fn the_old_secret_works_until_its_time_and_no_longer() {
    let issuer = Issuer::new();
    let (id, first) = issuer.key(&["a:b"]).await;
    let second = issuer.rotate(&id, "1h").await;
    assert_ne!(first, second);
    assert!(issuer.opens(&first).await && issuer.opens(&second).await);
    assert_eq!(issuer.ok("GET", &format!("/v1/keys/{id}"), Value::Null).await["old_secret_until"], "2027-01-15T09:00:00Z");
    issuer.clock.advance(Duration::from_secs(3599));
    assert!(issuer.opens(&first).await);
    issuer.clock.advance(Duration::from_secs(1));
    assert_eq!(issuer.judge(&first).await.unwrap_err(), Reason::Expired);
    assert!(issuer.opens(&second).await);
    let third = issuer.rotate(&id, "0s").await;
    assert!(!issuer.opens(&second).await && issuer.opens(&third).await, "without grace the old one ends now");
}

// oauth: T7
#[tokio::test]
async fn a_second_rotation_ends_the_first_ones_grace() {
    let issuer = Issuer::new();
    let (id, first) = issuer.key(&[]).await;
    let second = issuer.rotate(&id, "30d").await;
    let third = issuer.rotate(&id, "1h").await;
    assert!(!issuer.opens(&first).await);
    assert!(issuer.opens(&second).await && issuer.opens(&third).await);
    issuer.clock.advance(Duration::from_secs(3600));
    assert!(!issuer.opens(&second).await && issuer.opens(&third).await);
}

#[tokio::test]
async fn graces_are_stated_and_bounded() {
    let issuer = Issuer::new();
    let (id, text) = issuer.key(&[]).await;
    for body in [json!({}), json!({"grace": "31d"}), json!({"grace": 5}), json!({"grace": null}), json!({"grace": "1h", "x": 1})] {
        assert_eq!(issuer.refused("POST", &format!("/v1/keys/{id}/rotate"), body).await.0, 400);
    }
    assert_eq!(issuer.refused("POST", "/v1/keys/nothere/rotate", json!({"grace": "1h"})).await.0, 404);
    assert!(issuer.opens(&text).await);
}

// oauth: T7
#[tokio::test]
async fn an_imported_key_becomes_one_of_ours_and_keeps_its_id() {
    let issuer = Issuer::new();
    let old = "reva-old-key-of-before";
    let sha256 = crate::model::hex::write_hex(&crate::secrets::sha256(old.as_bytes()));
    let report = issuer.ok("POST", "/v1/keys/import", json!({"keys": [{"sha256": sha256, "name": "n", "user": "dora"}]})).await;
    let id = report["imported"][0]["id"].as_str().unwrap();
    let new = issuer.rotate(id, "1h").await;
    assert!(issuer.opens(old).await && issuer.opens(&new).await);
    issuer.clock.advance(Duration::from_secs(3600));
    assert!(!issuer.opens(old).await && issuer.opens(&new).await);
    assert_eq!(issuer.ok("GET", &format!("/v1/keys/{id}"), Value::Null).await["display"], format!("reva_live_sk_{id}"));
}

#[tokio::test]
async fn a_rotation_may_renew_the_expiry() {
    let issuer = Issuer::new();
    let created = issuer.ok("POST", "/v1/keys", json!({"name": "n", "user": "alice", "expires_in": "1h"})).await;
    issuer.clock.advance(Duration::from_secs(7200));
    let id = created["id"].as_str().unwrap();
    let body = json!({"grace": "0s", "expires_in": "1h"});
    let renewed = issuer.ok("POST", &format!("/v1/keys/{id}/rotate"), body).await;
    assert!(issuer.opens(renewed["key"].as_str().unwrap()).await);
    assert!(!issuer.opens(created["key"].as_str().unwrap()).await);
}

#[tokio::test]
async fn whether_the_old_secret_is_still_used_is_shown_until_it_ends() {
    let issuer = Issuer::new();
    let (id, _) = issuer.key(&["a:b"]).await;
    let path = format!("/v1/keys/{id}");
    issuer.ok("POST", &format!("{path}/rotate"), json!({"grace": "1h"})).await;
    assert_eq!(issuer.ok("GET", &path, Value::Null).await["old_secret_used_at"], Value::Null);
    let record = issuer.facts.key(&id).await.unwrap().unwrap();
    let name = record.secrets[1].use_name(&record.id).to_string();
    issuer.uses.0.lock().unwrap().insert(name, LastUse { at: START, route: "orders".into() });
    let shown = issuer.ok("GET", &path, Value::Null).await;
    assert_eq!((&shown["old_secret_used_at"], &shown["old_secret_used_route"]), (&json!("2027-01-15T08:00:00Z"), &json!("orders")));
    issuer.clock.advance(Duration::from_secs(3600));
    assert_eq!(issuer.ok("GET", &path, Value::Null).await["old_secret_used_at"], Value::Null);
}
