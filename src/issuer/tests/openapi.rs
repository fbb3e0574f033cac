//! The document says what is served, and what is served is what the document says.

use super::*;
use crate::issuer::openapi::document;

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

pub(super) fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, item): (&String, &Value)| {
        let item = item.as_object().unwrap().clone();
        let path = path.clone();
        item.into_iter().map(move |(method, operation)| (method, path.clone(), operation))
    };
    paths.iter().flat_map(of_path).filter(|(method, ..)| METHODS.contains(&method.as_str())).collect()
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                match value.as_str() {
                    Some(text) if name == "$ref" => drop(found.insert(text.to_owned())),
                    _ => references(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn schema<'d>(document: &'d Value, name: &str) -> &'d Value {
    &document["components"]["schemas"][name]
}

#[test]
fn the_document_is_whole_in_every_form_of_refusals() {
    for (format, name) in [
        (ErrorFormat::Standard, "Refusal"),
        (ErrorFormat::Problem, "ProblemRefusal"),
        (ErrorFormat::Envelope, "EnvelopeRefusal"),
        (ErrorFormat::Result, "ResultRefusal"),
    ] {
        let document = document(format).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
        let media_type = if format == ErrorFormat::Problem { "application/problem+json" } else { "application/json" };
        let mut names = BTreeSet::new();
        for (method, path, operation) in operations(&document) {
            assert!(names.insert(operation["operationId"].as_str().unwrap().to_owned()), "{method} {path}");
            if operation["tags"] == json!(["oauth"]) || operation["operationId"] == "openapi" {
                continue;
            }
            let refusal = &operation["responses"].get("503").map(|answer| &answer["content"][media_type]["schema"]["$ref"]);
            let expected = json!(format!("#/components/schemas/{name}"));
            assert!(refusal.is_none_or(|refusal| *refusal == expected), "{method} {path}: {refusal:?}");
        }
    }
}

#[tokio::test]
async fn whatever_is_described_is_served_and_answers_as_described() {
    let issuer = Issuer::issuing(|_| {});
    let document = issuer.call_with("", "GET", "/openapi.json", Value::Null).await.1;
    let (_, admin) = issuer.key_of("ann", "acme", &["tollgate:keys", "tollgate:usage", "orders:read"]).await;
    let mut described: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut wrong = Vec::new();
    let served = |path: &str| path.replace("{id}", "000000000000").replace("{which}", "1");
    for (method, path, operation) in operations(&document) {
        described.entry(path.clone()).or_default().insert(method.clone());
        for (key, body) in
            [("", ""), (admin.as_str(), ""), ("nonsense", "{\"no\":1}"), (admin.as_str(), "{\"no\":1}"), (admin.as_str(), "{")]
        {
            let body = if method == "get" { "" } else { body };
            let status = status_of(&issuer, key, &method, &served(&path), body).await;
            if operation["responses"].get(status.to_string()).is_none() {
                wrong.push(format!("{method} {path} answers {status} to {body:?}"));
            }
        }
    }
    for (path, methods) in described {
        for method in METHODS.into_iter().filter(|method| !methods.contains(*method)) {
            let status = status_of(&issuer, &admin, method, &served(&path), "").await;
            if status != 405 {
                wrong.push(format!("{method} {path} answers {status} and is not described"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

async fn status_of(issuer: &Issuer, key: &str, method: &str, path: &str, body: &str) -> u16 {
    let mut request = Request::builder().method(method.to_uppercase().as_str()).uri(path);
    if !key.is_empty() {
        request = request.header("x-api-key", key);
    }
    if !body.is_empty() {
        request = request.header("content-type", "application/json");
    }
    issuer.public.clone().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn every_described_member_is_read_and_the_examples_are_accepted() {
    let issuer = Issuer::issuing(|_| {});
    let document = document(ErrorFormat::Standard).unwrap();
    let (id, _) = issuer.key_of("ann", "acme", &["orders:read"]).await;
    for (name, method, path, wanted) in [
        ("NewKeyBody", "POST", "/v1/keys".to_owned(), json!({"name": "n", "user": "ann"})),
        ("KeyChangeBody", "PATCH", format!("/v1/keys/{id}"), json!({})),
        ("RotationBody", "POST", format!("/v1/keys/{id}/rotate"), json!({"grace": "1h"})),
    ] {
        let described = schema(&document, name);
        assert_eq!(described["additionalProperties"], false, "{name}");
        for member in described["properties"].as_object().unwrap().keys() {
            let mut body = wanted.clone();
            body[member] = json!({"a": {}});
            let (status, error) = issuer.refused(method, &path, body).await;
            assert_eq!((status, error["details"]["field"].as_str()), (400, Some(member.as_str())), "{name}");
            assert_ne!(error["details"]["issue"], "there is no such member", "{name} {member}");
        }
        let mut example = described["example"].clone();
        if name == "NewKeyBody" {
            example["user"] = json!("ann");
        }
        let (status, answer) = issuer.call(method, &path, example).await;
        assert!((200..300).contains(&status), "{name}: {answer}");
        let shown = if name == "RotationBody" || name == "NewKeyBody" { "IssuedKey" } else { "Key" };
        let members: BTreeSet<String> = schema(&document, shown)["properties"].as_object().unwrap().keys().cloned().collect();
        let answered: BTreeSet<String> = answer.as_object().unwrap().keys().cloned().collect();
        assert_eq!(answered, members, "{name}: as described");
    }
}
