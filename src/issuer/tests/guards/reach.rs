//! Who sees what, and who says what.

use super::*;
use crate::issuer::accounts::reach::Placing;
use crate::issuer::actor::Claim;
use crate::issuer::actor::Found;
use crate::issuer::actor::Gift;
use crate::issuer::actor::Reach;
use crate::issuer::audit::list::Entry;
use crate::issuer::audit::verify::READERS;
use crate::issuer::callers::ByCookie;
use crate::issuer::ring::Keeper;
use crate::issuer::usage::OfOrganization;
use crate::issuer::usage::OfUser;

impl Scene {
    /// Whether somebody sees nothing of this user: key, user, application, nor counts.
    async fn hides(&self, key: &str, user: &str, organization: &str) -> bool {
        let (id, _) = self.issuer.key_of(user, organization, &[]).await;
        let client = self.client(user, organization).await;
        let mut hidden = Vec::new();
        for path in [format!("/v1/keys/{id}"), format!("/v1/users/{user}"), client] {
            hidden.push(self.is(404, key, "GET", &path, Value::Null).await);
            let (list, _) = path.rsplit_once('/').unwrap();
            let shown = self.issuer.call_with(key, "GET", list, Value::Null).await.1["data"].to_string();
            let named = path.rsplit('/').next().unwrap();
            hidden.push(!shown.contains(&format!("\"id\":\"{named}\"")));
        }
        all(&hidden)
    }

    /// Whose counts somebody gets.
    async fn counts(&self, key: &str, query: &str) -> Option<Vec<String>> {
        assert_eq!(self.status(key, "GET", &format!("/v1/usage{query}"), Value::Null).await, 200, "{query}");
        let asked = self.issuer.counts.asked.lock().unwrap().take().unwrap();
        asked.users.map(|users| users.iter().map(|user| user.to_string()).collect())
    }

    async fn reads_of_the_other(&self, key: &str) -> bool {
        self.issuer.call_with(key, "GET", "/v1/audit", Value::Null).await.1.to_string().contains(&self.other)
    }
}

async fn is_refused(check: &'static str) -> bool {
    let scene = Scene::new().await;
    let (issuer, acme, other) = (&scene.issuer, &scene.acme, &scene.other);
    match check {
        "operators and admins alone reach everything" => {
            let organization = scene.is(404, &scene.ann, "GET", &format!("/v1/organizations/{other}"), Value::Null).await;
            let counts = scene.counts(&scene.ann, "").await.is_some();
            let entries = !scene.reads_of_the_other(&scene.ann).await;
            all(&[scene.hides(&scene.ann, "eve", other).await, organization, counts, entries])
        }
        "who manages an organisation reaches that one alone" => {
            let organization = scene.is(404, &scene.ann, "GET", &format!("/v1/organizations/{other}"), Value::Null).await;
            all(&[scene.hides(&scene.ann, "eve", other).await, organization])
        }
        "whoever manages an organisation holds the scope for it" => {
            let counts = scene.counts(&scene.abe, "").await == Some(vec!["abe".to_owned()]);
            all(&[scene.hides(&scene.abe, "ann", acme).await, counts])
        }
        "everybody else reaches its own" => scene.hides(&scene.abe, "eve", other).await,
        "an application reaches nothing of its user's" => {
            let caller = issuer.judge(&scene.ann).await.unwrap();
            let application = Caller { key: None, client: Some("app_00000000000000000000".into()), ..Caller::clone(&caller) };
            let application = Actor::Caller(Arc::new(application));
            let mut refused = Vec::new();
            for path in ["/v1/keys", "/v1/users", "/v1/clients", "/v1/usage", "/v1/audit", "/v1/organizations"] {
                refused.push(scene.is_actors(403, application.clone(), "GET", path, Value::Null).await);
            }
            all(&refused)
        }
        "a user does not say itself what it may be" => {
            let organization = scene.is(403, &scene.abe, "PATCH", &format!("/v1/organizations/{acme}"), json!({"name": "mine"})).await;
            let rights = scene.is(400, &scene.abe, "PATCH", "/v1/users/abe", json!({"rights": ["orders:read"]})).await;
            let role = scene.is(400, &scene.abe, "PATCH", "/v1/users/abe", json!({"role": "member"})).await;
            all(&[organization, rights, role])
        }
        "some things are operators' to see and to say" => {
            let id = "000000000000";
            scene.write(Write::Put { key: RecordKey::key(id), bytes: b"damaged".to_vec(), expires: None }).await;
            let path = format!("/v1/keys/{id}");
            all(&[
                scene.is(400, &scene.ann, "PATCH", "/v1/users/abe", json!({"tier": "pro"})).await,
                scene.is(400, &scene.ann, "PATCH", &format!("/v1/organizations/{acme}"), json!({"tier": "pro"})).await,
                scene.is(400, &scene.ann, "POST", "/v1/users", json!({"id": "zoe", "tier": "pro"})).await,
                !issuer.call_with(&scene.ann, "GET", "/v1/keys", Value::Null).await.1.to_string().contains(id),
                scene.status(&scene.ann, "GET", &path, Value::Null).await == 404,
                scene.is(404, &scene.ann, "DELETE", &path, Value::Null).await,
            ])
        }
        "the rights over everything are admins' to give" => {
            let (_, una) = issuer.key_of("una", acme, &["tollgate:unlimited"]).await;
            scene.is(403, &una, "POST", "/v1/keys", json!({"name": "n", "scopes": ["tollgate:unlimited"]})).await
        }
        "a session without limits gives no reserved scope" => {
            issuer.ok("POST", "/v1/users", json!({"id": "una", "organization": acme})).await;
            let una = Browser::of(issuer, "una").await.actor().await;
            scene.is_actors(403, una, "POST", "/v1/keys", json!({"name": "n", "scopes": ["tollgate:keys"]})).await
        }
        "nobody gives what they do not hold" => {
            let (weak, _) = scene.key("ann", &["orders:read"]).await;
            let wide = json!({"name": "n", "scopes": ["orders:read", "files:read"]});
            let mut client = wide.clone();
            (client["grant_types"], client["redirect_uris"]) = (json!(["client_credentials"]), json!([]));
            all(&[scene.is(403, &weak, "POST", "/v1/keys", wide).await, scene.is(400, &weak, "POST", "/v1/clients", client).await])
        }
        "a change by cookie comes from a page of ours" => {
            let cookie = Browser::of(issuer, "ann").await.headers["cookie"].clone();
            let request = Request::post("/v1/keys").header("cookie", cookie).header("content-type", "application/json");
            let request = request.body(Body::from(json!({"name": "n"}).to_string())).unwrap();
            let status = issuer.public.clone().oneshot(request).await.unwrap().status().as_u16();
            assert!(matches!(status, 201 | 403), "{status}");
            status == 403
        }
        "whoever makes users and invitations manages an organisation" => {
            scene.is(403, &scene.abe, "POST", "/v1/users", json!({"id": "zoe"})).await
        }
        "what somebody makes is of the organisation that they manage" => all(&[
            scene.is(400, &scene.ann, "POST", "/v1/users", json!({"id": "zoe", "organization": other})).await,
            scene.is(400, &scene.ann, "POST", "/v1/invitations", json!({"organization": other})).await,
        ]),
        "the organisation whose counts somebody asks for is its own" => {
            let asked = scene.counts(&scene.ann, &format!("?organization={other}")).await.unwrap();
            assert!(asked.is_empty() || asked == ["eve"], "{asked:?}");
            asked.is_empty()
        }
        "the user whose counts somebody asks for lies within reach" => {
            let mut refused = Vec::new();
            for key in [&scene.ann, &scene.abe] {
                refused.push(scene.counts(key, "?user=eve").await.unwrap().is_empty());
            }
            all(&refused)
        }
        "who manages an organisation reads its entries" => !scene.reads_of_the_other(&scene.ann).await,
        "everybody else reads the entries that name them" => !scene.reads_of_the_other(&scene.abe).await,
        "the chains are operators' and admins' to walk" => scene.is(403, &scene.ann, "GET", "/v1/audit/verify", Value::Null).await,
        "the ring is operators' and admins'" => all(&[
            scene.is(403, &scene.ann, "GET", "/v1/ring", Value::Null).await,
            scene.is(403, &scene.ann, "POST", "/v1/ring/rotate", json!({"emergency": true})).await,
        ]),
        "there is a ring where something is issued" => Issuer::new().call("GET", "/v1/ring", Value::Null).await.0 == 404,
        unknown => panic!("nothing is known that is refused because {unknown}"),
    }
}

// oauth: U5 T5 R3
#[tokio::test]
async fn every_check_of_who_reaches_what_is_needed() {
    let checks = [
        names(&Claim::CHECKS),
        names(&Found::CHECKS),
        names(&Reach::MANAGERS),
        names(&Reach::OPERATORS),
        names(&Gift::CHECKS),
        names(&ByCookie::CHECKS),
        names(&Placing::CHECKS),
        names(&OfOrganization::CHECKS),
        names(&OfUser::CHECKS),
        names(&Entry::CHECKS),
        names(&Keeper::CHECKS),
        names(&READERS),
    ];
    assert_each_is_needed(&checks, is_refused).await;
}
