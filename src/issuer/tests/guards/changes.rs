//! Who changes whom and what, and how far.

use axum::http::HeaderMap;

use super::*;
use crate::issuer::accounts::caps::OneMore;
use crate::issuer::accounts::reach;
use crate::issuer::actor::Lift;
use crate::issuer::input::Fields;
use crate::issuer::keys::REVOKED;
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

const USER: &str = "/v1/users/abe";

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
        "what a user's own key touches lasts no longer than itself" => {
            issuer.ok("PATCH", &own, json!({"expires_in": "1h"})).await;
            let longer = json!({"grace": "1h", "expires_in": "2h"});
            all(&[
                scene.is(403, &scene.abe, "POST", &rotation, longer).await,
                scene.is(403, &scene.abe, "PATCH", &own, json!({"expires_at": null})).await,
            ])
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
            issuer.ok("PATCH", &own, json!({"active": false})).await;
            scene.is(403, &scene.ann, "PATCH", &own, json!({"active": true})).await
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
        names(&owner::Lasting::CHECKS),
        names(&owner::Rescoping::CHECKS),
        names(&Limits::CHECKS),
        names(&REVOKED),
        names(&Lift::CHECKS),
        names(&OneMore::CHECKS),
        names(&Repeat::CHECKS),
        names(&Revision::CHECKS),
    ];
    assert_each_is_needed(&checks, is_refused).await;
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
