//! Who registers what for a client, changes one, and uses the seeds' spellings.

use super::*;
use crate::issuer::accounts::reach::Takeover;
use crate::issuer::compat::Spelling;
use crate::issuer::oauth::clients::draft::Draft;
use crate::issuer::oauth::clients::draft::Named;
use crate::issuer::oauth::clients::draft::Proposal;
use crate::issuer::oauth::clients::register::Entrance;
use crate::issuer::oauth::clients::register::Metadata;
use crate::issuer::oauth::clients::register::OFTEN;
use crate::issuer::oauth::clients::register::SWITCH;
use crate::issuer::oauth::clients::resource::MAKERS;
use crate::issuer::oauth::clients::resource::OWNERS;
use crate::issuer::oauth::clients::secrets::KEEPS_ONE;
use crate::issuer::oauth::clients::secrets::ROTATES;

const CLIENTS: &str = "/v1/clients";
const CALLBACK: &str = "https://app.example.com/cb";
const TOKEN: &str = "initial-access-token";

/// An application with these members beside its name and its redirect URI.
fn app(members: Value) -> Value {
    let mut body = json!({"name": "app", "redirect_uris": [CALLBACK]});
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    body
}

impl Scene {
    async fn registering(registration: Registration) -> Self {
        Self::with(|issuance| issuance.registration = registration).await
    }

    /// Registers itself; the status.
    async fn registers(&self, bearer: &str, body: Value) -> u16 {
        let request = Request::post("/oauth/register").header("content-type", "application/json");
        let request = request.header("authorization", format!("Bearer {bearer}")).body(Body::from(body.to_string())).unwrap();
        self.issuer.public.clone().oneshot(request).await.unwrap().status().as_u16()
    }
}

fn with_token() -> Registration {
    Registration::WithToken(Arc::new(Zeroizing::new(TOKEN.as_bytes().to_vec())))
}

async fn is_refused(check: &'static str) -> bool {
    let scene = Scene::new().await;
    let issuer = &scene.issuer;
    let created = async |members: Value| scene.is_operators(400, "POST", CLIENTS, app(members)).await;
    let itself = json!({"grant_types": ["client_credentials"], "redirect_uris": [], "scopes": ["files:read"]});
    match check {
        "a client proves itself as its kind can" => all(&[
            created(json!({"kind": "public", "token_endpoint_auth_method": "client_secret_basic"})).await,
            created(json!({"kind": "confidential", "token_endpoint_auth_method": "none"})).await,
        ]),
        "a client is registered for something" => created(json!({"grant_types": [], "redirect_uris": []})).await,
        "a client without a secret acts for users alone" => {
            let exchange = "urn:ietf:params:oauth:grant-type:token-exchange";
            all(&[
                created(json!({"kind": "public", "grant_types": ["authorization_code", "client_credentials"]})).await,
                created(json!({"kind": "native", "grant_types": ["authorization_code", exchange]})).await,
            ])
        }
        "refresh tokens come with codes" => created(json!({"grant_types": ["refresh_token"], "redirect_uris": []})).await,
        "a code is sent to a registered place" => created(json!({"redirect_uris": []})).await,
        "nobody is sent where no code goes" => created(json!({"grant_types": ["client_credentials"]})).await,
        "a client's scopes stand in the catalogue" => {
            let open = Scene::registering(Registration::Open).await;
            let status = open.registers("", json!({"redirect_uris": [CALLBACK], "scope": "tollgate:admin"})).await;
            assert!(matches!(status, 201 | 400), "{status}");
            all(&[
                created(json!({"scopes": ["tollgate:admin"]})).await,
                created(json!({"scopes": ["*"]})).await,
                created(json!({"scopes": ["unknown"]})).await,
                status == 400,
            ])
        }
        "a client's resources are the issuer's" => created(json!({"resources": ["https://other.example.com"]})).await,
        "a client that acts for itself holds no more than its maker" => {
            let client = scene.client("abe", &scene.acme).await;
            let grown = json!({"scopes": ["orders:read", "files:read"], "grant_types": ["authorization_code", "client_credentials"]});
            all(&[scene.is(400, &scene.abe, "POST", CLIENTS, app(itself)).await, scene.is(400, &scene.abe, "PATCH", &client, grown).await])
        }
        "what is kept from live routes makes no live client" => {
            scene.is(400, &scene.test_key().await, "POST", CLIENTS, app(json!({"scopes": ["orders:read"]}))).await
        }
        "a client's tier is an operator's to give" => {
            let client = scene.client("abe", &scene.acme).await;
            all(&[
                scene.is(400, &scene.abe, "POST", CLIENTS, app(json!({"tier": "pro"}))).await,
                scene.is(400, &scene.abe, "PATCH", &client, json!({"tier": "pro"})).await,
            ])
        }
        "a client makes no clients" => {
            let caller = issuer.judge(&scene.ann).await.unwrap();
            let client = Caller { key: None, source: SourceName::new("elsewhere"), ..Caller::clone(&caller) };
            scene.is_actors(403, Actor::Caller(Arc::new(client)), "POST", CLIENTS, app(json!({}))).await
        }
        "whose a client is an operator says, and nobody else" => all(&[
            scene.is(400, &scene.abe, "POST", CLIENTS, app(json!({"owner": "eve"}))).await,
            scene.is(400, &scene.abe, "POST", CLIENTS, app(json!({"organization": scene.other}))).await,
        ]),
        "whoever changes a key or a client holds what it holds" | "what is kept from live routes changes nothing live" => {
            let client = scene.client("abe", &scene.acme).await;
            let key = match check {
                "whoever changes a key or a client holds what it holds" => scene.key("ann", &["tollgate:users"]).await.0,
                _ => scene.test_key().await,
            };
            all(&[
                scene.is(403, &key, "PATCH", &client, json!({"name": "mine"})).await,
                scene.is(403, &key, "POST", &format!("{client}/rotate"), json!({"grace": "1h"})).await,
            ])
        }
        "a public client gets no secret" => {
            let made = issuer.ok("POST", CLIENTS, app(json!({"kind": "public"}))).await;
            let path = format!("{CLIENTS}/{}/rotate", made["id"].as_str().unwrap());
            scene.is_operators(409, "POST", &path, json!({"grace": "0s"})).await
        }
        "a client's last secret stays" => {
            let client = scene.client("abe", &scene.acme).await;
            scene.is(409, &scene.abe, "DELETE", &format!("{client}/secrets/current"), Value::Null).await
        }
        "clients register themselves where that is switched on" => scene.registers("", app(json!({}))).await == 404,
        "guesses at the initial access token are limited" => {
            let guarded = Scene::registering(with_token()).await;
            let mut last = 0;
            for _guess in 0..7 {
                last = guarded.registers("wrong", app(json!({}))).await;
            }
            last == 429
        }
        "registration needs its initial access token" => {
            let guarded = Scene::registering(with_token()).await;
            let status = guarded.registers("wrong", app(json!({}))).await;
            assert!(matches!(status, 201 | 401), "{status}");
            status == 401
        }
        "registrations of one address are limited" => {
            let open = Scene::registering(Registration::Open).await;
            let mut last = 0;
            for _client in 0..21 {
                last = open.registers("", app(json!({}))).await;
            }
            last == 429
        }
        "response types and grant types say the same" => {
            let open = Scene::registering(Registration::Open).await;
            all(&[
                open.registers("", app(json!({"response_types": []}))).await == 400,
                open.registers("", app(json!({"response_types": ["token"]}))).await == 400,
            ])
        }
        "a client that nobody lets in acts for users alone" => {
            let open = Scene::registering(Registration::Open).await;
            open.registers("", json!({"grant_types": ["client_credentials"]})).await == 400
        }
        "a seed's spelling is served where the config names it" => {
            let without = Scene::with(|issuance| issuance.compatibility = Vec::new()).await;
            let login = json!({"username": "zoe", "password": "correct horse"});
            all(&[
                without.is(404, "", "POST", "/register", login.clone()).await,
                without.is(404, "", "POST", "/login", login.clone()).await,
                without.is(404, "", "POST", "/auth/token", login).await,
                without.is(404, &without.abe, "POST", "/generate", json!({"name": "n"})).await,
                without.is(404, "", "POST", "/get-token", json!({"api_key": without.abe})).await,
            ])
        }
        unknown => panic!("nothing is known that is refused because {unknown}"),
    }
}

// oauth: P2 P3 P4 P5 T5 T8
#[tokio::test]
async fn every_check_of_a_client_is_needed() {
    let checks = [
        names(&Draft::CHECKS),
        names(&Named::CHECKS),
        names(&Proposal::CHECKS),
        names(&MAKERS),
        names(&OWNERS),
        names(&Takeover::CHECKS),
        names(&ROTATES),
        names(&KEEPS_ONE),
        names(&SWITCH),
        names(&Entrance::CHECKS),
        names(&OFTEN),
        names(&Metadata::CHECKS),
        names(&Spelling::CHECKS),
    ];
    assert_each_is_needed(&checks, is_refused).await;
}
