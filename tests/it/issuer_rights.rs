//! What somebody made or was given, through Envoy, once that somebody is less than it was: on each store, from the next request on.

use serde_json::Value;
use serde_json::json;

use crate::support::http1::Client;
use crate::support::issuing::Issuing;
use crate::support::issuing::MadeClient;
use crate::support::issuing::RESOURCE;
use crate::support::issuing::text_of;
use crate::support::redis::ServerPlan;

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS: &str = "urn:ietf:params:oauth:token-type:access_token";

fn made_with(issuing: &Issuing, key: &str, target: &str, body: &Value) -> Value {
    let headers = [("x-api-key", key), ("content-type", "application/json")];
    let reply = Client::new(issuing.port).send("POST", target, &headers, &body.to_string());
    assert_eq!(reply.status, 201, "{}", reply.text());
    reply.json()
}

fn text(made: &Value, member: &str) -> String {
    made[member].as_str().unwrap_or_else(|| panic!("no {member} in {made}")).to_owned()
}

fn holds(issuing: &Issuing) {
    let operator = |method: &str, target: &str, body: Value| {
        let (status, answer) = issuing.control(method, target, &body);
        assert!((200..300).contains(&status), "{method} {target}: {status} {answer}");
        answer
    };
    let rights = ["conversations:read", "customers:read", "tollgate:keys", "tollgate:users"];
    for user in ["ann", "bob"] {
        operator("POST", "/v1/users", json!({ "id": user, "organization": "acme", "rights": rights }));
    }
    let anns = text(&operator("POST", "/v1/keys", json!({ "name": "ann's", "user": "ann", "scopes": rights })), "key");
    let made = json!({ "name": "made for bob", "user": "bob", "scopes": ["conversations:read"] });
    let bobs = text(&made_with(issuing, &anns, "/v1/keys", &made), "key");
    let application = |more: Value| {
        let mut body =
            json!({ "name": "an application", "grant_types": ["client_credentials", EXCHANGE], "scopes": ["conversations:read"] });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    let hers = made_with(issuing, &anns, "/v1/clients", &application(json!({})));
    let hers = MadeClient { id: text(&hers, "id"), secret: text(&hers, "client_secret") };
    let own = text_of(&issuing.token(&hers, &[("grant_type", "client_credentials")]), "access_token");
    let service = issuing.register(&application(json!({ "resources": [RESOURCE] })));
    let trade = [("grant_type", EXCHANGE), ("subject_token", own.as_str()), ("subject_token_type", ACCESS)];
    let exchanged = text_of(&issuing.token(&service, &trade), "access_token");
    let shown = || [&anns, &bobs, &own, &exchanged].map(|text| issuing.protected(text).status);
    assert_eq!(shown(), [200; 4]);
    for (change, expected) in [
        (json!({ "rights": ["customers:read", "tollgate:users"] }), 403),
        (json!({ "rights": rights }), 200),
        (json!({ "active": false }), 401),
        (json!({ "active": true }), 200),
    ] {
        operator("PATCH", "/v1/users/ann", change.clone());
        assert_eq!(shown(), [expected; 4], "{change}");
    }
    operator("DELETE", &format!("/v1/clients/{}", service.id), Value::Null);
    assert_eq!(shown(), [200, 200, 200, 401], "whoever traded for it is gone");
    operator("DELETE", "/v1/users/ann", Value::Null);
    assert_eq!(shown(), [401; 4]);
}

// oauth: T5 O14
#[test]
fn nothing_outlives_the_rights_of_whoever_made_it_on_the_embedded_store() {
    holds(&Issuing::start(""));
}

// oauth: T5 O14
#[test]
fn nothing_outlives_the_rights_of_whoever_made_it_on_redis() {
    let server = ServerPlan::tcp().start();
    holds(&Issuing::start_on_redis("", &format!("redis://127.0.0.1:{}", server.port())));
}
