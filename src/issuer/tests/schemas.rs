//! What is answered, against the schemas of the document.

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::openapi::operations;
use super::*;
use crate::issuer::accounts::shelf;
use crate::issuer::openapi::document;
use crate::issuer::sessions;
use crate::model::account::OrganizationRecord;
use crate::model::caller::Subject;

/// What of a value is not as its schema says, as far as the document's own schemas go.
fn complaints(document: &Value, schema: &Value, value: &Value, place: &str) -> Vec<String> {
    if let Some(name) = schema["$ref"].as_str() {
        return complaints(document, document.pointer(name.trim_start_matches('#')).unwrap(), value, place);
    }
    if let Some(either) = schema["oneOf"].as_array() {
        let tried: Vec<Vec<String>> = either.iter().map(|one| complaints(document, one, value, place)).collect();
        let fit = tried.iter().filter(|complaints| complaints.is_empty()).count();
        return if fit == 1 { Vec::new() } else { vec![format!("{place}: {fit} of {} fit: {tried:?}", tried.len())] };
    }
    assert!(schema.get("allOf").is_none() && schema.get("anyOf").is_none(), "{place}: this schema says more than is looked at here");
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let kinds = schema["type"].as_array().cloned().unwrap_or_else(|| vec![schema["type"].clone()]);
    let mut found = Vec::new();
    if !kinds.contains(&Value::Null) && !kinds.contains(&json!(kind)) {
        found.push(format!("{place} is {kind}, not {kinds:?}"));
    }
    if schema["enum"].as_array().is_some_and(|known| !known.contains(value)) {
        found.push(format!("{place}: {value} is none of {}", schema["enum"]));
    }
    if let (Some(text), "date-time") = (value.as_str(), schema["format"].as_str().unwrap_or_default()) {
        found.extend(text.parse::<jiff::Timestamp>().err().map(|error| format!("{place}: {error}")));
    }
    for (at, item) in value.as_array().into_iter().flatten().enumerate() {
        found.extend(complaints(document, &schema["items"], item, &format!("{place}[{at}]")));
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        match (schema["properties"].get(name), &schema["additionalProperties"]) {
            (Some(schema), _) => found.extend(complaints(document, schema, member, &format!("{place}.{name}"))),
            (None, Value::Object(_)) => {}
            (None, _) => found.push(format!("{place}.{name} is not described")),
        }
    }
    let missing = schema["required"].as_array().into_iter().flatten().filter(|name| value.get(name.as_str().unwrap()).is_none());
    found.extend(missing.filter(|_| value.is_object()).map(|name| format!("{place} lacks {name}")));
    found
}

#[test]
fn every_example_is_what_its_schema_says_and_answers_are_closed() {
    let document = document(ErrorFormat::Standard).unwrap();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        if let Some(example) = schema.get("example") {
            assert_eq!(complaints(&document, schema, example, name), Vec::<String>::new());
        }
        let is_open = schema["type"] == "object" && schema["additionalProperties"] != false;
        // RFC 6749 section 3.1: what a client says beside what is known is ignored.
        assert!(!is_open || name.ends_with("Form"), "{name} says nothing of other members");
    }
}

/// What each resource really answers, against what is said of it.
#[tokio::test]
async fn answers_are_what_their_schemas_say() {
    let issuer = Issuer::issuing(|_| {});
    let document = document(ErrorFormat::Standard).unwrap();
    let operations = operations(&document);
    let (_, key) = issuer.key_of("root", "acme", &["tollgate:admin"]).await;
    let bearer = format!("Bearer {key}");
    let tried = std::cell::RefCell::new(BTreeSet::new());
    let ask = async |template: &str, method: &str, path: &str, credential: (&str, &str), body: &Value| {
        let operation = operations.iter().find(|(known, at, _)| known == method && at == template).expect("a described route");
        let form = operation.2["requestBody"]["content"].get("application/x-www-form-urlencoded").is_some();
        let (kind, text) = match body.as_object() {
            Some(fields) if form => {
                let fields = fields.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap()));
                ("application/x-www-form-urlencoded", form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish())
            }
            Some(_) => ("application/json", body.to_string()),
            None => ("application/json", String::new()),
        };
        let request = Request::builder().method(method.to_uppercase().as_str()).uri(path);
        let request = request.header(credential.0, credential.1).header("content-type", kind).body(Body::from(text)).unwrap();
        let response = issuer.public.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let answer: Value = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        let content = operation.2["responses"][status.to_string()]["content"].as_object().map(|content| content.values().next().unwrap());
        match content {
            Some(content) => assert_eq!(complaints(&document, &content["schema"], &answer, template), Vec::<String>::new(), "{answer}"),
            None => assert_eq!(answer, Value::Null, "{method} {template}"),
        }
        tried.borrow_mut().insert(operation.2["operationId"].as_str().unwrap().to_owned());
        answer
    };
    let own = ("authorization", bearer.as_str());
    let user = json!({"id": "ann", "organization": "acme", "password": "correct horse battery staple", "email": "ann@example.com", "phone": "+49301234567"});
    ask("/v1/users", "post", "/v1/users", own, &user).await;
    ask("/v1/users", "get", "/v1/users", own, &Value::Null).await;
    ask("/v1/users/{id}", "get", "/v1/users/ann", own, &Value::Null).await;
    ask(
        "/v1/users/{id}",
        "patch",
        "/v1/users/ann",
        own,
        &json!({"rights": ["orders:read", "tollgate:keys"], "valid_from": "2020-01-01T00:00:00Z"}),
    )
    .await;
    let acme =
        OrganizationRecord { id: "acme".into(), name: "Acme".into(), tier: None, founder: Subject::parse("ann").ok(), created: START };
    issuer.records.commit(Vec::new(), vec![shelf::put(&acme, None)], START).await.unwrap();
    ask("/v1/organizations", "get", "/v1/organizations", own, &Value::Null).await;
    ask("/v1/organizations/{id}", "get", "/v1/organizations/acme", own, &Value::Null).await;
    ask("/v1/organizations/{id}", "patch", "/v1/organizations/acme", own, &json!({"name": "Acme Limited"})).await;
    let invitation = ask("/v1/invitations", "post", "/v1/invitations", own, &json!({"organization": "acme"})).await;
    ask("/v1/invitations", "get", "/v1/invitations", own, &Value::Null).await;
    let path = format!("/v1/invitations/{}", invitation["id"].as_str().unwrap());
    ask("/v1/invitations/{id}", "delete", &path, own, &Value::Null).await;

    let client = json!({"name": "robot", "kind": "confidential", "grant_types": ["client_credentials"], "scopes": ["orders:read"]});
    let client = ask("/v1/clients", "post", "/v1/clients", own, &client).await;
    let id = client["id"].as_str().unwrap();
    let path = format!("/v1/clients/{id}");
    ask("/v1/clients", "get", "/v1/clients", own, &Value::Null).await;
    ask("/v1/clients/{id}", "get", &path, own, &Value::Null).await;
    ask("/v1/clients/{id}", "patch", &path, own, &json!({"name": "the robot"})).await;
    let rotated = ask("/v1/clients/{id}/rotate", "post", &format!("{path}/rotate"), own, &json!({"grace": "1h"})).await;
    ask("/v1/clients/{id}/secrets/{which}", "delete", &format!("{path}/secrets/old"), own, &Value::Null).await;
    let secret = rotated["client_secret"].as_str().unwrap();
    let basic = format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")));
    let client = ("authorization", basic.as_str());
    let token = ask("/oauth/token", "post", "/oauth/token", client, &json!({"grant_type": "client_credentials"})).await;
    let token = json!({"token": token["access_token"]});
    assert_eq!(ask("/oauth/introspect", "post", "/oauth/introspect", client, &token).await["active"], true);
    ask("/oauth/revoke", "post", "/oauth/revoke", client, &token).await;
    assert_eq!(ask("/oauth/introspect", "post", "/oauth/introspect", client, &token).await["active"], false);
    ask("/oauth/jwks", "get", "/oauth/jwks", own, &Value::Null).await;
    let metadata = "/.well-known/oauth-authorization-server";
    ask(metadata, "get", metadata, own, &Value::Null).await;
    ask("/v1/clients/{id}", "delete", &path, own, &Value::Null).await;

    let made = ask("/v1/keys", "post", "/v1/keys", own, &json!({"name": "n", "user": "ann", "scopes": ["orders:read"]})).await;
    let path = format!("/v1/keys/{}", made["id"].as_str().unwrap());
    ask("/v1/keys", "get", "/v1/keys", own, &Value::Null).await;
    ask("/v1/keys/self", "get", "/v1/keys/self", own, &Value::Null).await;
    ask("/v1/keys/{id}", "get", &path, own, &Value::Null).await;
    ask("/v1/keys/{id}", "patch", &path, own, &json!({"tags": ["a"]})).await;
    ask("/v1/keys/{id}/rotate", "post", &format!("{path}/rotate"), own, &json!({"grace": "1h"})).await;
    ask("/v1/keys/{id}", "delete", &path, own, &Value::Null).await;
    let old = json!({"keys": [{"sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "name": "old", "user": "ann"}, {"sha256": "no"}]});
    ask("/v1/keys/import", "post", "/v1/keys/import", own, &old).await;

    let opened = sessions::open(&issuer.state, &HeaderMap::new(), &Subject::parse("ann").unwrap(), "password", None, START).await.unwrap();
    let cookie = opened.cookie.split(';').next().unwrap().to_owned();
    let person = ("cookie", cookie.as_str());
    ask("/v1/sessions", "get", "/v1/sessions", person, &Value::Null).await;
    ask("/v1/sessions/self", "get", "/v1/sessions/self", person, &Value::Null).await;
    ask("/v1/sessions", "delete", "/v1/sessions?user=ann", own, &Value::Null).await;
    ask("/v1/users/{id}", "delete", "/v1/users/ann", own, &Value::Null).await;
    ask("/v1/usage", "get", "/v1/usage", own, &Value::Null).await;
    ask("/stats", "get", "/stats", own, &Value::Null).await;
    assert_ne!(ask("/v1/audit", "get", "/v1/audit", own, &Value::Null).await["data"], json!([]));
    ask("/v1/audit/verify", "get", "/v1/audit/verify", own, &Value::Null).await;
    ask("/v1/ring", "get", "/v1/ring", own, &Value::Null).await;

    // What is left out here is tried where it has a test of its own.
    let left: BTreeSet<String> = operations.iter().map(|(.., operation)| operation["operationId"].as_str().unwrap().to_owned()).collect();
    let left: Vec<&String> = left.iter().filter(|name| !tried.borrow().contains(*name)).collect();
    assert_eq!(left, ["authorize", "authorize_by_form", "end_session", "openapi", "revoke_own_key", "rotate_ring", "trade_key"]);
}
