//! What becomes of everything that somebody made or was given, once that somebody is less than it was: nothing ever opens more than its
//! maker may at that very request.

use axum::http::HeaderMap;

use super::*;
use crate::issuer::accounts::sign_up::NewAccount;
use crate::issuer::accounts::sign_up::sign_up;
use crate::issuer::accounts::tests::Browser;
use crate::issuer::accounts::tests::call_as;
use crate::issuer::accounts::tests::founder;
use crate::issuer::accounts::tests::new;
use crate::issuer::actor::Actor;
use crate::issuer::checks::left_out::leave_out;
use crate::issuer::oauth::token::tests::API;
use crate::issuer::oauth::token::tests::App;
use crate::issuer::oauth::token::tests::Stage;
use crate::issuer::sign_in_tokens::token_for_sign_in;
use crate::model::caller::ProvenBy;
use crate::model::caller::SourceName;
use crate::model::caller::Subject;
use crate::model::key::KeyId;

const OWN: (&str, &str) = ("grant_type", "client_credentials");
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS: &str = "urn:ietf:params:oauth:token-type:access_token";

/// What happens to ann, who founded her organisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Nothing,
    /// From an admin to a member who may read.
    Demoted,
    /// She belongs to no organisation any more.
    Removed,
    Disabled,
    Erased,
}

const FATES: [Fate; 5] = [Fate::Nothing, Fate::Demoted, Fate::Removed, Fate::Disabled, Fate::Erased];

/// Ann, her colleague bob, and all that she made or was given.
struct Scene {
    stage: Stage,
    root: String,
    own_key: (String, String),
    key_for_bob: (String, String),
    key_by_her_key: (String, String),
    key_token: String,
    sign_in_token: String,
    opaque: String,
    signed: String,
    refresh: (App, String),
    clients_own: String,
    client: App,
    exchanged: String,
    invitation: String,
    session: HeaderMap,
}

impl Scene {
    async fn new() -> Self {
        let stage = Stage::new().await;
        let issuer = &stage.issuer;
        let acme = founder(issuer, "ann").await.organization;
        let held = ["orders:read", "orders:write", "files:read"];
        issuer.ok("POST", "/v1/users", json!({"id": "bob", "organization": acme, "rights": held})).await;
        let root = json!({"name": "root", "user": "root", "scopes": ["tollgate:admin"]});
        let root = issuer.ok("POST", "/v1/keys", root).await["key"].as_str().unwrap().to_owned();
        let ann = Browser::of(issuer, "ann").await;
        let made = |answer: Value| (answer["id"].as_str().unwrap().to_owned(), answer["key"].as_str().unwrap().to_owned());
        let scopes = ["orders:read", "orders:write", "tollgate:keys"];
        let own_key = made(ann.ok("POST", "/v1/keys", json!({"name": "own", "scopes": scopes})).await);
        let for_bob = json!({"name": "bob's", "user": "bob", "scopes": ["orders:read", "orders:write"]});
        let key_for_bob = made(ann.ok("POST", "/v1/keys", for_bob.clone()).await);
        let (status, by_her_key) = issuer.call_with(&own_key.1, "POST", "/v1/keys", for_bob).await;
        assert_eq!((status, &by_her_key["made_by"]), (201, &json!("ann")), "{by_her_key}");
        let (_, token) = issuer.call_with("", "POST", "/v1/keys/self/token", json!({"key": own_key.1})).await;
        let ann_subject = Subject::parse("ann").unwrap();
        let (sign_in_token, _lives) = token_for_sign_in(&issuer.state, &ann_subject, None, issuer.clock.now()).await.unwrap();
        let app = |form: &str| json!({"access_tokens": form});
        let consented = async |form: &str| {
            let app = stage.app(app(form)).await;
            let grant = stage.pending(&app, "ann", "orders:read orders:write", &[API]).await;
            stage.change_grant(grant.id.as_str(), |record| record.organization = Some(acme.clone())).await;
            let reply = stage.redeem(&app, &stage.code_of(&grant)).await;
            (reply.text("access_token"), (app, reply.text("refresh_token")))
        };
        let (opaque, _) = consented("opaque").await;
        let (signed, refresh) = consented("EdDSA").await;
        let service = stage.app(json!({"resources": [API]})).await;
        let trade = [("grant_type", EXCHANGE), ("subject_token", signed.as_str()), ("subject_token_type", ACCESS)];
        let exchanged = stage.token(&service, &trade).await.text("access_token");
        let body = json!({"name": "hers", "grant_types": ["client_credentials"], "scopes": ["orders:read", "orders:write"]});
        let client = ann.ok("POST", "/v1/clients", body).await;
        let text = |member: &str| client[member].as_str().unwrap().to_owned();
        let client = App { id: text("id"), secret: text("client_secret"), way: "basic" };
        let clients_own = stage.token(&client, &[OWN]).await.text("access_token");
        let invited = json!({"role": "admin", "rights": ["orders:read", "orders:write", "tollgate:users"]});
        let invitation = ann.ok("POST", "/v1/invitations", invited).await["invitation"].as_str().unwrap().to_owned();
        let session = ann.headers.clone();
        Self {
            root,
            own_key,
            key_for_bob,
            key_by_her_key: made(by_her_key),
            key_token: token["token"].as_str().unwrap().to_owned(),
            sign_in_token,
            opaque,
            signed,
            refresh,
            clients_own,
            client,
            exchanged,
            invitation,
            session,
            stage,
        }
    }

    async fn befall(&self, fate: Fate) {
        let issuer = &self.stage.issuer;
        let ann = "/v1/users/ann";
        match fate {
            Fate::Nothing => {}
            Fate::Demoted => {
                issuer.ok("PATCH", ann, json!({"role": "member", "rights": ["orders:read"]})).await;
            }
            Fate::Removed => {
                let away = json!({"organization": null});
                let (status, refusal) = issuer.refused("PATCH", ann, away.clone()).await;
                assert_eq!((status, &refusal["details"]["field"]), (400, &json!("organization")), "not while she holds its keys");
                issuer.ok("DELETE", &format!("/v1/keys/{}", self.own_key.0), Value::Null).await;
                issuer.ok("PATCH", ann, away).await;
            }
            Fate::Disabled => {
                issuer.ok("PATCH", ann, json!({"active": false})).await;
            }
            Fate::Erased => {
                issuer.ok("DELETE", ann, Value::Null).await;
            }
        }
    }

    /// What this opens at the gate, and how the resource API answers who shows it: to a look at the keys, and to a wish for one.
    async fn bearing(&self, text: &str) -> String {
        let issuer = &self.stage.issuer;
        let caller = self.stage.at_gate(text).await;
        let user = caller.as_ref().map_or("ann", |caller| caller.subject.as_str()).to_owned();
        let scopes = caller.map_or_else(|| "-".to_owned(), |caller| caller.scopes.to_string());
        let (bearer, form) = (format!("Bearer {}", self.root), "application/x-www-form-urlencoded");
        let headers = [("authorization", bearer.as_str()), ("content-type", form)];
        let told = self.stage.send("/oauth/introspect", &headers, format!("token={text}")).await.json;
        assert_eq!(told["scope"].as_str().unwrap_or("-"), scopes, "introspection and the gate agree: {told}");
        let wish = json!({"name": "n", "user": user, "scopes": ["orders:write"]});
        let asked = async |method: &str, body: Value| {
            let request = Request::builder().method(method).uri("/v1/keys").header("authorization", format!("Bearer {text}"));
            let request = request.header("content-type", "application/json").body(Body::from(body.to_string())).unwrap();
            issuer.public.clone().oneshot(request).await.unwrap().status().as_u16()
        };
        format!("{scopes} | {} {}", asked("GET", Value::Null).await, asked("POST", wish).await)
    }

    async fn session(&self) -> String {
        let browser = Browser { issuer: &self.stage.issuer, headers: self.session.clone() };
        if !browser.is_signed_in().await {
            return "-".to_owned();
        }
        let looked = browser.call("GET", "/v1/keys", Value::Null).await.0;
        let wished = browser.call("POST", "/v1/keys", json!({"name": "n", "scopes": ["orders:write"]})).await.0;
        let for_bob = browser.call("POST", "/v1/keys", json!({"name": "n", "user": "bob"})).await.0;
        format!("{looked} {wished} {for_bob}")
    }

    async fn refreshed(&self) -> String {
        let reply = self.stage.refresh(&self.refresh.0, &self.refresh.1).await;
        match reply.status {
            200 => self.bearing(&reply.text("access_token")).await,
            _ => reply.error().1.to_owned(),
        }
    }

    async fn client_again(&self) -> String {
        let reply = self.stage.token(&self.client, &[OWN]).await;
        if reply.status == 200 { reply.json["scope"].as_str().unwrap().to_owned() } else { reply.error().1.to_owned() }
    }

    async fn invited(&self) -> String {
        let issuer = &self.stage.issuer;
        let account = NewAccount { invitation: Some(self.invitation.clone()), ..new("carol") };
        match sign_up(&issuer.state, account, None, issuer.clock.now()).await {
            Ok(_) => {
                let carol = issuer.ok("GET", "/v1/users/carol", Value::Null).await;
                let rights: Vec<_> = carol["rights"].as_array().unwrap().iter().map(|scope| scope.as_str().unwrap()).collect();
                format!("{}: {}", carol["role"].as_str().unwrap(), rights.join(" "))
            }
            Err(_) => "-".to_owned(),
        }
    }

    async fn worth(&self, what: &str) -> String {
        match what {
            "her own key" => self.bearing(&self.own_key.1).await,
            "the key that she made for bob" => self.bearing(&self.key_for_bob.1).await,
            "the key that her key made for bob" => self.bearing(&self.key_by_her_key.1).await,
            "her key's token" => self.bearing(&self.key_token).await,
            "her token of a sign-in" => self.bearing(&self.sign_in_token).await,
            "an opaque token that she allowed" => self.bearing(&self.opaque).await,
            "a signed token that she allowed" => self.bearing(&self.signed).await,
            "what that was traded for" => self.bearing(&self.exchanged).await,
            "the refresh token beside it" => self.refreshed().await,
            "a token of her client's own" => self.bearing(&self.clients_own).await,
            "her client, asking for another" => self.client_again().await,
            "her session" => self.session().await,
            "her invitation" => self.invited().await,
            other => panic!("{other:?} is no row"),
        }
    }
}

// oauth: T5 O14 K6 H12 Q6
#[tokio::test]
async fn nothing_opens_more_than_whoever_made_it_may_now() {
    let both = "orders:read orders:write";
    let (dead, app) = ("- | 401 401", |scopes: &str| format!("{scopes} | 403 403"));
    let gone = |untouched: String, demoted: String| [untouched, demoted, dead.into(), dead.into(), dead.into()];
    let table: [(&str, [String; 5]); 13] = [
        ("her own key", gone(format!("{both} tollgate:keys | 200 201"), "orders:read | 200 403".into())),
        ("the key that she made for bob", gone(format!("{both} | 200 201"), "orders:read | 200 403".into())),
        ("the key that her key made for bob", gone(format!("{both} | 200 201"), "orders:read | 200 403".into())),
        // It lives for an hour, and makes no key that outlasts it.
        ("her key's token", gone(format!("{both} | 200 403"), "orders:read | 200 403".into())),
        ("her token of a sign-in", gone(format!("files:read {both} | 200 201"), "orders:read | 200 403".into())),
        ("an opaque token that she allowed", gone(app(both), app("orders:read"))),
        ("a signed token that she allowed", gone(app(both), app("orders:read"))),
        ("what that was traded for", gone(app(both), app("orders:read"))),
        (
            "the refresh token beside it",
            [app(both), app("orders:read"), "invalid_grant".into(), "invalid_grant".into(), "invalid_grant".into()],
        ),
        ("a token of her client's own", gone(app(both), app("orders:read"))),
        (
            "her client, asking for another",
            // Erasing her took the client with her.
            [both.into(), "orders:read".into(), "unauthorized_client".into(), "unauthorized_client".into(), "invalid_client".into()],
        ),
        // She looks, wishes for a key of her own that may write, and for one of bob's.
        ("her session", ["200 201 201".into(), "200 403 404".into(), "200 201 404".into(), "-".into(), "-".into()]),
        ("her invitation", [format!("admin: {both} tollgate:users"), "member: orders:read".into(), "-".into(), "-".into(), "-".into()]),
    ];
    for (column, fate) in FATES.into_iter().enumerate() {
        let scene = Scene::new().await;
        scene.befall(fate).await;
        let mut found = Vec::new();
        for (what, _) in &table {
            found.push((*what, scene.worth(what).await));
        }
        let expected: Vec<_> = table.iter().map(|(what, expected)| (*what, expected[column].clone())).collect();
        assert_eq!(found, expected, "{fate:?}");
    }
}

/// Rights are judged and never taken away, so whoever gets its own back gives back what stood on them.
// oauth: T5
#[tokio::test]
async fn what_stands_on_somebodys_word_is_back_with_them() {
    let scene = Scene::new().await;
    let issuer = &scene.stage.issuer;
    let admin = json!(["orders:read", "orders:write", "files:read", "tollgate:keys", "tollgate:users"]);
    for (change, scopes) in [
        (json!({"rights": ["files:read"]}), Some("")),
        (json!({"rights": admin}), Some("orders:read orders:write")),
        (json!({"active": false}), None),
        (json!({"active": true}), Some("orders:read orders:write")),
    ] {
        issuer.ok("PATCH", "/v1/users/ann", change.clone()).await;
        let caller = scene.stage.at_gate(&scene.key_for_bob.1).await;
        assert_eq!(caller.map(|caller| caller.scopes.to_string()).as_deref(), scopes, "{change}");
    }
}

// oauth: T5
#[tokio::test]
async fn whoever_gives_a_key_its_scopes_answers_for_them() {
    let scene = Scene::new().await;
    let issuer = &scene.stage.issuer;
    let path = format!("/v1/keys/{}", scene.key_for_bob.0);
    let made_by = async || issuer.ok("GET", &path, Value::Null).await["made_by"].clone();
    assert_eq!(made_by().await, "ann");
    let scopes = json!({"scopes": ["orders:read"]});
    // The key itself, and a key that it makes, pass on the word that they stand on.
    assert_eq!(issuer.call_with(&scene.key_for_bob.1, "PATCH", &path, scopes.clone()).await.0, 200);
    assert_eq!(made_by().await, "ann");
    let (status, second) =
        issuer.call_with(&scene.key_for_bob.1, "POST", "/v1/keys", json!({"name": "n", "scopes": ["orders:read"]})).await;
    assert_eq!((status, &second["made_by"], &second["user"]), (201, &json!("ann"), &json!("bob")));
    issuer.ok("PATCH", &path, json!({"name": "other"})).await;
    assert_eq!(made_by().await, "ann", "another name is nobody's word");
    // Its own user at our pages, and an operator, take it over.
    Browser::of(issuer, "bob").await.ok("PATCH", &path, scopes.clone()).await;
    assert_eq!(made_by().await, Value::Null);
    assert_eq!(issuer.call_with(&scene.root, "PATCH", &path, scopes.clone()).await.0, 200);
    assert_eq!(made_by().await, "root");
    issuer.ok("PATCH", &path, scopes).await;
    assert_eq!(made_by().await, Value::Null);
    issuer.ok("DELETE", "/v1/users/ann", Value::Null).await;
    assert_eq!(scene.stage.at_gate(&scene.key_for_bob.1).await.unwrap().scopes.to_string(), "orders:read", "and ann's end is not its");
    let second = issuer.ok("GET", &format!("/v1/keys/{}", second["id"].as_str().unwrap()), Value::Null).await;
    assert_eq!((&second["state"], &second["made_by"]), (&json!("revoked"), &Value::Null), "while what stood on her ends with her");
}

/// A foreign issuer's token gives nothing on its own word: it makes keys in the name of a key of ours alone, and those stand where that
/// one does, for its own local user.
// oauth: T5
#[tokio::test]
async fn a_foreign_token_makes_keys_on_the_word_of_the_key_that_it_names() {
    let scene = Scene::new().await;
    let issuer = &scene.stage.issuer;
    let by_key = scene.stage.at_gate(&scene.key_for_bob.1).await.unwrap();
    let make = async |key: Option<KeyId>| {
        let source = SourceName::parse("micro").unwrap();
        let foreign = Caller { proven_by: ProvenBy::Token, source, issuer: Some("micro".into()), key, ..(*by_key).clone() };
        let body = json!({"name": "n", "user": "bob", "scopes": ["orders:read"]});
        call_as(issuer, Actor::Caller(Arc::new(foreign)), "POST", "/v1/keys", body).await
    };
    let (status, made) = make(by_key.key.clone()).await;
    assert_eq!((status, &made["user"], &made["made_by"]), (201, &json!("bob"), &json!("ann")));
    assert_eq!(make(None).await.0, 403, "whoever is nobody here has no keys");
    // The same request, judged before ann was erased and answered after: her word is in no record any more, and neither is the key's.
    issuer.ok("DELETE", "/v1/users/ann", Value::Null).await;
    assert_eq!(make(by_key.key.clone()).await.0, 401);
    assert_eq!(make(Some(KeyId::new("000000000000"))).await.0, 401);
    let _left_out = leave_out("a key that ended since it was shown says nothing any more");
    let (status, made) = make(by_key.key.clone()).await;
    assert_eq!((status, &made["made_by"]), (201, &Value::Null), "nobody's word");
}

// oauth: P7 Q6
#[tokio::test]
async fn an_exchanged_token_ends_with_the_client_that_acts_with_it() {
    for (end, body) in [("DELETE", Value::Null), ("PATCH", json!({"active": false}))] {
        let scene = Scene::new().await;
        let acting = scene.stage.at_gate(&scene.exchanged).await.unwrap().client.clone().unwrap();
        let path = format!("/v1/clients/{acting}");
        scene.stage.issuer.ok("PATCH", &path, json!({"scopes": ["orders:read"]})).await;
        assert_eq!(scene.bearing(&scene.exchanged).await, "orders:read | 403 403");
        scene.stage.issuer.ok(end, &path, body).await;
        assert_eq!(scene.bearing(&scene.exchanged).await, "- | 401 401");
        assert_eq!(scene.bearing(&scene.signed).await, "orders:read orders:write | 403 403", "what it was traded for lives on");
    }
}

/// Whatever was traded: the client that acts is an application, and never the account itself.
#[tokio::test]
async fn a_traded_sign_in_token_manages_nothing() {
    let scene = Scene::new().await;
    let service = scene.stage.app(json!({"resources": [API]})).await;
    for subject in [&scene.sign_in_token, &scene.key_token] {
        let trade = [("grant_type", EXCHANGE), ("subject_token", subject.as_str()), ("subject_token_type", ACCESS)];
        let traded = scene.stage.token(&service, &trade).await.text("access_token");
        assert!(scene.bearing(&traded).await.ends_with(" | 403 403"));
        assert!(scene.bearing(subject).await.contains(" | 200 "), "its own user does");
    }
}
