//! The document of the API, OpenAPI 3.1, made of the very routes that are served.

pub mod answers;
pub mod bodies;
mod described;
pub mod schemas;

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::Response;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use utoipa::Modify;
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::ApiKey;
use utoipa::openapi::security::ApiKeyValue;
use utoipa::openapi::security::Http;
use utoipa::openapi::security::HttpAuthScheme;
use utoipa::openapi::security::SecurityScheme;

use crate::issuer;
use crate::issuer::IssuerState;
use crate::issuer::openapi::described::Described;
use crate::issuer::openapi::schemas::EnvelopeRefusal;
use crate::issuer::openapi::schemas::FormatName;
use crate::issuer::openapi::schemas::KeyStateName;
use crate::issuer::openapi::schemas::OauthRefusal;
use crate::issuer::openapi::schemas::OutcomeChoice;
use crate::issuer::openapi::schemas::OutcomeName;
use crate::issuer::openapi::schemas::PeriodName;
use crate::issuer::openapi::schemas::ProblemRefusal;
use crate::issuer::openapi::schemas::Refusal;
use crate::issuer::openapi::schemas::ResultRefusal;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::model::route::ErrorFormat;

/// What the document says beside its routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tollgate",
        description = "API keys, tokens, users, clients and exact usage. Everything lies within an organisation: what is outside the \
            caller's own answers 404, and is never listed or counted. Lists are paged: hand `next` in as `after`. `etag` and `if-match` \
            hold a change to exactly what was read."
    ),
    components(schemas(
        Refusal, ProblemRefusal, EnvelopeRefusal, ResultRefusal, FormatName, KeyStateName, OutcomeChoice, OutcomeName, PeriodName,
        OauthRefusal
    )),
    modifiers(&Credentials),
    security(("key" = []), ("bearer" = []), ("session" = []))
)]
pub(in crate::issuer) struct Frame;

struct Credentials;

impl Modify for Credentials {
    fn modify(&self, document: &mut Document) {
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("key", SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("x-api-key"))));
        components.add_security_scheme("client", SecurityScheme::Http(Http::new(HttpAuthScheme::Basic)));
        components.add_security_scheme("bearer", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
        let session = ApiKeyValue::with_description(
            "__Host-session",
            "A person's, from the sign-in page. A change needs the header `x-csrf-token` too: the `csrf_token` of `/v1/sessions/self`.",
        );
        components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(session)));
    }
}

/// The document of a listener that speaks this form of refusals.
///
/// # Errors
/// Never: whatever it is made of can be written.
pub fn document(format: ErrorFormat) -> Result<Value, serde_json::Error> {
    let mut document = serde_json::to_value(issuer::documented().into_openapi().merge_from(Described::openapi()))?;
    let parts = document.pointer("/components/schemas").cloned().unwrap_or_default();
    join(&mut document, &parts);
    speak(&mut document, format);
    Ok(document)
}

/// Writes a schema that is put together of others (`serde(flatten)`) as one: none of its parts could be closed otherwise.
fn join(value: &mut Value, schemas: &Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| join(item, schemas)),
        Value::Object(members) => {
            members.values_mut().for_each(|member| join(member, schemas));
            if let Some(Value::Array(parts)) = members.remove("allOf") {
                let parts: Vec<Value> = parts.into_iter().map(|part| resolve(part, schemas)).collect();
                members.extend(merge(&parts));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A part itself, where it is only named; all of its members may be absent where the whole part may be.
fn resolve(part: Value, schemas: &Value) -> Value {
    let name = |part: &Value| part.get("$ref").and_then(Value::as_str).and_then(|name| name.rsplit('/').next()).map(str::to_owned);
    if let Some(name) = name(&part) {
        let mut named = schemas.get(&name).cloned().unwrap_or_default();
        join(&mut named, schemas);
        return named;
    }
    let Some(named) = part.get("oneOf").and_then(Value::as_array).and_then(|either| either.iter().find(|one| name(one).is_some())) else {
        return part;
    };
    let mut named = resolve(named.clone(), schemas);
    named.as_object_mut().and_then(|members| members.remove("required"));
    named
}

fn merge(parts: &[Value]) -> Map<String, Value> {
    let properties: Map<String, Value> = parts
        .iter()
        .filter_map(|part| part.get("properties")?.as_object())
        .flatten()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let required: Vec<Value> = parts.iter().filter_map(|part| part.get("required")?.as_array()).flatten().cloned().collect();
    let is_closed = parts.iter().any(|part| part.get("additionalProperties") == Some(&Value::Bool(false)));
    let mut merged = Map::from_iter([("type".to_owned(), json!("object")), ("properties".to_owned(), Value::Object(properties))]);
    merged.extend((!required.is_empty()).then(|| ("required".to_owned(), Value::Array(required))));
    merged.extend(is_closed.then(|| ("additionalProperties".to_owned(), Value::Bool(false))));
    merged
}

/// Shows refusals in the form that is spoken.
fn speak(document: &mut Value, format: ErrorFormat) {
    let (schema, media_type) = match format {
        ErrorFormat::Standard => ("Refusal", "application/json"),
        ErrorFormat::Problem => ("ProblemRefusal", "application/problem+json"),
        ErrorFormat::Envelope => ("EnvelopeRefusal", "application/json"),
        ErrorFormat::Result => ("ResultRefusal", "application/json"),
    };
    let own = json!({"$ref": "#/components/schemas/Refusal"});
    let spoken = json!({"$ref": format!("#/components/schemas/{schema}")});
    let operations = document.get_mut("paths").and_then(Value::as_object_mut).into_iter().flatten();
    let operations = operations.flat_map(|(_path, item)| item.as_object_mut().into_iter().flatten()).map(|(_method, operation)| operation);
    for operation in operations {
        let answers = operation.get_mut("responses").and_then(Value::as_object_mut).into_iter().flatten();
        for (_status, answer) in answers {
            let Some(content) = answer.get_mut("content").and_then(Value::as_object_mut) else { continue };
            if content.get("application/json").and_then(|json| json.get("schema")) != Some(&own) {
                continue;
            }
            let Some(mut refusal) = content.remove("application/json") else { continue };
            if let (Some(members), true) = (refusal.as_object_mut(), schema != "Refusal") {
                members.insert("schema".to_owned(), spoken.clone());
                members.remove("example");
            }
            content.insert(media_type.to_owned(), refusal);
        }
    }
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", operation_id = "openapi", tag = "document", security(()),
    responses((status = 200, description = "This document.", content_type = "application/json")))]
pub(in crate::issuer) async fn show(State(state): State<IssuerState>) -> Result<Response, Problem> {
    let rules = state.rules.load();
    let format = rules.issuance.as_ref().map_or(rules.errors, |issuance| issuance.errors);
    let unwritten = |_error| Problem::new(Code::Unavailable, "the document cannot be written");
    Ok(Json(document(format).map_err(unwritten)?).into_response())
}
