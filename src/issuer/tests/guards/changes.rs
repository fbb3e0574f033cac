//! Who changes whom and what, and how far.

use axum::http::HeaderMap;

use super::*;
use crate::issuer::accounts::caps::OneMore;
use crate::issuer::accounts::reach;
use crate::issuer::actor::Lift;
use crate::issuer::input::Fields;
use crate::issuer::keys::REVOKED;
use crate::issuer::keys::bounds;
use crate::issuer::keys::change::Limits;
use crate::issuer::keys::owner;
use crate::issuer::once::HEADER;
use crate::issuer::once::Once;
use crate::issuer::once::Repeat;
use crate::issuer::tests::once::ONCE;
use crate::issuer::tests::once::post;
use crate::issuer::users::Erasure;
use crate::issuer::users::change::Move;
use crate::issuer::views::Revision;
use crate::model::issuance::Caps;
use crate::model::key::KeyRecord;
use crate::model::key::KeyState;
use crate::store::codec::decode_key;
use crate::store::codec::encode_key;

const USER: &str = "/v1/users/abe";

fn app() -> Value {
    json!({"name": "n", "redirect_uris": ["https://app.example.com/cb"], "scopes": ["orders:read"]})
}

async fn is_refused(check: &'static str) -> bool {
    let scene = Scene::new().await;
    let issuer = &scene.issuer;
    let own = format!("/v1/keys/{}", scene.abes);
    let rotation = format!("{own}/rotate");
    let grace = json!({"grace": "1h"});
    let name = json!({"name": "mine"});
    match check {
        "whoever changes something is not disabled meanwhile" | "whoever changes something is not gone meanwhile" => {
            let ann = Browser::of(issuer, "ann").await.actor().await;
            match check {
                "whoever changes something is not gone meanwhile" => issuer.ok("DELETE", "/v1/users/ann", Value::Null).await,
                _ => issuer.ok("PATCH", "/v1/users/ann", json!({"active": false})).await,
            };
            let client = json!({"name": "n", "redirect_uris": ["https://app.example.com/cb"]});
            all(&[
                scene.is_actors(403, ann.clone(), "POST", "/v1/clients", client).await,
                scene.is_actors(403, ann.clone(), "POST", "/v1/users", json!({"id": "zoe"})).await,
                scene.is_actors(403, ann, "PATCH", USER, json!({"display_name": "mine"})).await,
            ])
        }
        "nobody touches a user who holds more than itself" => {
            let (weak, _) = scene.key("ann", &["tollgate:users"]).await;
            all(&[
                scene.is(403, &weak, "PATCH", USER, json!({"display_name": "mine"})).await,
                scene.is(403, &weak, "PATCH", USER, json!({"password": "correct horse"})).await,
                scene.is(403, &weak, "DELETE", USER, Value::Null).await,
            ])
        }
        "nobody but an admin touches one" => {
            let max = scene.manager("max").await;
            // Who manages keys can make one in an admin's name, and is none by that.
            let body = json!({"name": "n", "user": "ann", "scopes": ["tollgate:users"]});
            let borrowed = issuer.call_with(&max, "POST", "/v1/keys", body).await.1["key"].as_str().unwrap().to_owned();
            issuer.ok("POST", "/v1/users", json!({"id": "bea", "organization": scene.acme, "role": "admin", "rights": []})).await;
            all(&[
                scene.is(403, &max, "PATCH", "/v1/users/ann", json!({"display_name": "mine"})).await,
                scene.is(403, &borrowed, "PATCH", "/v1/users/bea", json!({"role": "member"})).await,
                {
                    issuer.ok("PATCH", "/v1/users/bea", json!({"role": "admin"})).await;
                    scene.is(403, &max, "DELETE", "/v1/users/bea", Value::Null).await
                },
            ])
        }
        "what opens from some networks makes nothing that opens from all" => {
            let (key, id) = scene.key("ann", &["tollgate:users", "orders:read"]).await;
            let ann = Actor::Caller(issuer.judge(&key).await.unwrap());
            issuer.ok("PATCH", &format!("/v1/keys/{id}"), json!({"allowed_networks": ["192.0.2.0/24"]})).await;
            let client = scene.client("abe", &scene.acme).await;
            all(&[
                scene.is_actors(403, ann.clone(), "POST", "/v1/clients", app()).await,
                scene.is_actors(403, ann.clone(), "POST", &format!("{client}/rotate"), json!({"grace": "0s"})).await,
                scene.is_actors(403, ann.clone(), "POST", "/v1/users", json!({"id": "zoe", "password": "correct horse"})).await,
                scene.is_actors(403, ann.clone(), "PATCH", USER, json!({"password": "correct horse"})).await,
                scene.is_actors(403, ann, "POST", "/v1/invitations", json!({})).await,
            ])
        }
        "what ends makes nothing that does not" | "what is limited makes nothing that is not" => {
            let client = scene.client("abe", &scene.acme).await;
            let bound = if check.starts_with("what ends") { json!({"expires_in": "1h"}) } else { json!({"rate_limit": 60}) };
            issuer.ok("PATCH", &own, bound).await;
            all(&[
                scene.is(403, &scene.abe, "POST", "/v1/clients", app()).await,
                scene.is(403, &scene.abe, "POST", &format!("{client}/rotate"), json!({"grace": "0s"})).await,
                scene.is(403, &scene.abe, "PATCH", &client, json!({"redirect_uris": ["https://app.example.com/other"]})).await,
            ])
        }
        "what is for tests makes nobody who is not" => {
            let body = json!({"name": "t", "user": "ann", "environment": "test", "scopes": ["tollgate:users", "orders:read"]});
            let test = issuer.ok("POST", "/v1/keys", body).await["key"].as_str().unwrap().to_owned();
            all(&[
                scene.is(403, &test, "POST", "/v1/users", json!({"id": "zoe", "password": "correct horse"})).await,
                scene.is(403, &test, "PATCH", USER, json!({"password": "correct horse"})).await,
                scene.is(403, &test, "PATCH", USER, json!({"rights": ["orders:read", "tollgate:users"]})).await,
                scene.is(403, &test, "POST", "/v1/invitations", json!({})).await,
            ])
        }
        "a user is given no more than its giver holds" => {
            let (weak, _) = scene.key("ann", &["tollgate:users", "orders:read"]).await;
            all(&[
                scene.is(400, &weak, "PATCH", USER, json!({"rights": ["orders:read", "files:read"]})).await,
                scene.is(400, &weak, "POST", "/v1/users", json!({"id": "zoe", "rights": ["files:read"]})).await,
                scene.is(400, &weak, "POST", "/v1/users", json!({"id": "zed", "rights": null})).await,
            ])
        }
        "a user is given no more than its maker holds, by nobody's hand" => {
            assert_eq!(scene.status(&scene.ann, "POST", "/v1/users", json!({"id": "zoe"})).await, 201);
            all(&[
                scene.is_operators(400, "PATCH", "/v1/users/zoe", json!({"rights": ["billing:read"]})).await,
                scene.is_operators(400, "PATCH", "/v1/users/zoe", json!({"rights": null})).await,
            ])
        }
        "a user erases itself in person" => scene.is(403, &scene.abe, "DELETE", USER, Value::Null).await,
        "nobody keeps the keys of an organisation that they leave" => {
            scene.is_operators(400, "PATCH", USER, json!({"organization": scene.other})).await
        }
        "whoever changes a key or a client holds what it holds" => {
            let (weak, _) = scene.key("ann", &["tollgate:keys"]).await;
            all(&[scene.is(403, &weak, "PATCH", &own, name).await, scene.is(403, &weak, "POST", &rotation, grace).await])
        }
        "what is kept from live routes changes nothing live" => {
            let test = scene.test_key().await;
            all(&[scene.is(403, &test, "PATCH", &own, name).await, scene.is(403, &test, "POST", &rotation, grace).await])
        }
        "what a user's own key touches lasts no longer than itself" | "what a user's own key touches asks no oftener than itself" => {
            let bound = if check.contains("longer") { json!({"expires_in": "1h"}) } else { json!({"rate_limit": 60}) };
            issuer.ok("PATCH", &own, bound).await;
            let (_, unbound) = scene.key("abe", &[]).await;
            let unbound = format!("/v1/keys/{unbound}");
            issuer.ok("PATCH", &unbound, json!({"not_before": "2030-01-01T00:00:00Z"})).await;
            assert_eq!(scene.status(&scene.abe, "PATCH", &unbound, json!({"active": false})).await, 200);
            let mut refused = vec![
                scene.is(403, &scene.abe, "PATCH", &unbound, json!({"active": true})).await,
                scene.is(403, &scene.abe, "PATCH", &unbound, json!({"not_before": "2029-01-01T00:00:00Z"})).await,
                scene.is(403, &scene.abe, "PATCH", &unbound, json!({"not_before": null})).await,
                scene.is(403, &scene.abe, "PATCH", &unbound, json!({"scopes": ["orders:read"]})).await,
                scene.is(403, &scene.abe, "POST", &format!("{unbound}/rotate"), grace).await,
            ];
            if check.contains("longer") {
                refused.push(scene.is(403, &scene.abe, "PATCH", &own, json!({"expires_at": null})).await);
            }
            all(&refused)
        }
        "whoever answers for a key is not gone meanwhile" => {
            let by_session = Browser::of(issuer, "ann").await.actor().await;
            let by_key = Actor::Caller(issuer.judge(&scene.ann).await.unwrap());
            let body = json!({"name": "n", "user": "abe", "scopes": ["orders:read"]});
            scene.write(Write::Remove(RecordKey::user("local", "ann"))).await;
            let scopes = json!({"scopes": ["orders:read"]});
            let mut refused = Vec::new();
            for ann in [by_session, by_key] {
                refused.push(scene.is_actors(403, ann.clone(), "POST", "/v1/keys", body.clone()).await);
                refused.push(scene.is_actors(403, ann, "PATCH", &own, scopes.clone()).await);
            }
            all(&refused)
        }
        "whoever changes a key's scopes holds them" => {
            let (weak, _) = scene.key("ann", &["tollgate:keys"]).await;
            let (_, id) = scene.key("ann", &[]).await;
            scene.is(403, &weak, "PATCH", &format!("/v1/keys/{id}"), json!({"scopes": ["files:read"]})).await
        }
        "scopes are given to somebody's key" => {
            scene.write(Write::Remove(RecordKey::user("local", "abe"))).await;
            scene.is_operators(409, "PATCH", &own, json!({"scopes": ["orders:read"]})).await
        }
        "a key's user holds its new scopes" => scene.is_operators(400, "PATCH", &own, json!({"scopes": ["files:read"]})).await,
        "a key's tier is an operator's to change" => scene.is(403, &scene.ann, "PATCH", &own, json!({"tier": "pro"})).await,
        "nobody loosens the limit of its own key" => {
            issuer.ok("PATCH", &own, json!({"rate_limit": 60})).await;
            all(&[
                scene.is(403, &scene.abe, "PATCH", &own, json!({"rate_limit": 61})).await,
                scene.is(403, &scene.abe, "PATCH", &own, json!({"rate_limit": null})).await,
            ])
        }
        "a revoked key stays so" => {
            issuer.ok("DELETE", &own, Value::Null).await;
            all(&[
                scene.is(409, &scene.ann, "PATCH", &own, json!({"active": true})).await,
                scene.is(409, &scene.ann, "POST", &rotation, grace).await,
            ])
        }
        "what is disabled is enabled by whoever reaches as far" => {
            let mut refused = Vec::new();
            for path in [&own, &scene.client("abe", &scene.acme).await, USER] {
                issuer.ok("PATCH", path, json!({"active": false})).await;
                refused.push(scene.is(403, &scene.ann, "PATCH", path, json!({"active": true})).await);
            }
            // Of before it was noted who disabled something.
            let (_, id) = scene.key("ann", &["orders:read"]).await;
            let place = RecordKey::key(&id);
            let stored = issuer.records.get(&place).await.unwrap().unwrap();
            let record = KeyRecord { state: KeyState::Disabled, ..decode_key(&id, &stored.bytes).unwrap() };
            scene.write(Write::Put { key: place, bytes: encode_key(&record), expires: None }).await;
            let old = format!("/v1/keys/{id}");
            assert_eq!(scene.status(&scene.ann, "PATCH", &old, json!({"active": false})).await, 200, "which makes it nobody else's word");
            refused.push(scene.is(403, &scene.ann, "PATCH", &old, json!({"active": true})).await);
            all(&refused)
        }
        "nobody has more than the config allows" => {
            let scene = Scene::with(|issuance| issuance.caps = Caps { keys: 1, clients: 0, sessions: 1, invitations: 0 }).await;
            let client = json!({"name": "n", "redirect_uris": ["https://app.example.com/cb"]});
            all(&[
                scene.is(409, &scene.abe, "POST", "/v1/keys", name).await,
                scene.is(409, &scene.abe, "POST", "/v1/clients", client).await,
                scene.is(409, &scene.ann, "POST", "/v1/invitations", json!({})).await,
            ])
        }
        "each request has an idempotency key of its own" => {
            assert_eq!(post(issuer, &scene.abe, "/v1/keys", &[ONCE], &name).await.0, 201);
            post(issuer, &scene.abe, "/v1/keys", &[ONCE], &json!({"name": "another"})).await.0 == 400
        }
        "what was done is not done again" => {
            assert_eq!(post(issuer, &scene.abe, "/v1/keys", &[ONCE], &name).await.0, 201);
            // Nothing is made twice, for the store refuses that too; but nobody is told what was made.
            let (status, headers, _) = post(issuer, &scene.abe, "/v1/keys", &[ONCE], &name).await;
            assert_eq!(status, 409);
            headers.contains_key("location")
        }
        "nobody changes another revision than they name" => {
            let request = Request::patch(&own).header("if-match", "\"0\"").header("content-type", "application/json");
            let (status, _) = issuer.send(request.body(Body::from(name.to_string())).unwrap()).await;
            assert!(matches!(status, 200 | 412), "{status}");
            status == 412
        }
        unknown => panic!("nothing is known that is refused because {unknown}"),
    }
}

// oauth: T5 T6 U5
#[tokio::test]
async fn every_check_of_a_change_is_needed() {
    let checks = [
        names(&reach::Standing::CHECKS),
        names(&reach::Touch::CHECKS),
        names(&reach::Grant::CHECKS),
        names(&Erasure::CHECKS),
        names(&Move::CHECKS),
        names(&reach::Takeover::CHECKS),
        names(&bounds::Unbound::CHECKS),
        names(&reach::LIVE),
        names(&bounds::Lasting::CHECKS),
        names(&owner::Word::CHECKS),
        names(&bounds::Rescoping::CHECKS),
        names(&Limits::CHECKS),
        names(&REVOKED),
        names(&Lift::CHECKS),
        names(&OneMore::CHECKS),
        names(&Repeat::CHECKS),
        names(&Revision::CHECKS),
    ];
    assert_each_is_needed(&checks, is_refused).await;
}

// oauth: U5
#[tokio::test]
async fn whoever_makes_a_key_in_an_admins_name_is_no_admin_by_it() {
    let scene = Scene::new().await;
    let max = scene.manager("max").await;
    let key = json!({"name": "n", "user": "ann", "scopes": ["tollgate:users"]});
    let (status, made) = scene.issuer.call_with(&max, "POST", "/v1/keys", key.clone()).await;
    assert_eq!(status, 201, "{made}");
    let (borrowed, own) = (made["key"].as_str().unwrap(), scene.issuer.call_with(&scene.ann, "POST", "/v1/keys", key).await.1);
    let appointment = |user: &str| json!({"id": user, "role": "admin", "rights": []});
    for (key, status) in [(max.as_str(), 400), (borrowed, 400), (own["key"].as_str().unwrap(), 201)] {
        assert_eq!(scene.status(key, "POST", "/v1/users", appointment("zoe")).await, status);
        assert_eq!(scene.status(key, "POST", "/v1/invitations", json!({"role": "admin"})).await, status);
    }
}

/// What stands by itself: the word of an admin over everything, and that of the keys file.
#[tokio::test]
async fn an_operators_key_of_a_user_without_a_record_gives_scopes() {
    let scene = Scene::new().await;
    let issuer = &scene.issuer;
    let (root, _) = scene.key("root", &["tollgate:admin"]).await;
    let (held, in_file) = scene.key("ann", &["tollgate:keys", "orders:read"]).await;
    let callers = [issuer.judge(&root).await.unwrap(), issuer.judge(&held).await.unwrap()];
    let stored = issuer.records.get(&RecordKey::key(&in_file)).await.unwrap().unwrap();
    let file_keys = BTreeMap::from([(in_file.as_str().into(), Arc::new(decode_key(&in_file, &stored.bytes).unwrap()))]);
    issuer.state.rules.store(Arc::new(Rules { issuance: Some(Arc::new(issuance())), file_keys, ..rules() }));
    scene.write(Write::Remove(RecordKey::key(&in_file))).await;
    for user in ["root", "ann"] {
        scene.write(Write::Remove(RecordKey::user("local", user))).await;
    }
    for caller in callers {
        let body = json!({"name": "n", "user": "abe", "scopes": ["orders:read"]});
        assert!(!scene.is_actors(403, Actor::Caller(caller), "POST", "/v1/keys", body).await);
    }
}

/// It is no check that could be left out: the caller's name is part of what is looked for.
#[tokio::test]
async fn an_idempotency_key_is_its_callers() {
    let scene = Scene::new().await;
    let (issuer, state) = (&scene.issuer, &scene.issuer.state);
    let mut headers = HeaderMap::new();
    headers.insert(HEADER, ONCE.parse().unwrap());
    headers.insert("content-type", "application/json".parse().unwrap());
    let of = async |key: &str| {
        let actor = Actor::Caller(issuer.judge(key).await.unwrap());
        let fields = Fields::read(&headers, Body::from("{}")).await.unwrap();
        Once::read(&actor, &headers, "keys", &fields).unwrap()
    };
    let anns = of(&scene.ann).await;
    let (asked, done) = anns.commit(state, "made", issuer.clock.now()).unwrap();
    assert!(issuer.records.commit(vec![asked], vec![done], issuer.clock.now()).await.unwrap().is_done());
    assert!(of(&scene.abe).await.check(state).await.is_ok(), "abe's is another one");
    assert!(anns.check(state).await.is_err(), "with ann's name abe would be told what she made");
}
