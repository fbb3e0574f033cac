//! What clients read about us: RFC 8414, and the keys that verify our tokens (RFC 7517).
//!
//! Every URL in it is made of the configured issuer; nothing of the request has a part in it.

use axum::extract::Path;
use axum::extract::State;
use axum::extract::rejection::PathRejection;
use axum::http::HeaderValue;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::issuer::IssuerState;
use crate::issuer::pages::visit::base_of;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::model::client::GrantType;
use crate::model::issuance::Issuance;
use crate::model::issuance::Registration;

/// How long a client may keep either document. New keys are published at least this long before they sign.
const CACHED: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// RFC 8414 section 2. Only what is there is said, and empty lists are left out (section 3.2).
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ServerMetadata)]
pub(in crate::issuer) struct Metadata<'a> {
    issuer: &'a str,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    registration_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scopes_supported: Vec<&'a str>,
    response_types_supported: [&'static str; 1],
    response_modes_supported: [&'static str; 1],
    grant_types_supported: [&'static str; 4],
    token_endpoint_auth_methods_supported: [&'static str; 3],
    revocation_endpoint: String,
    revocation_endpoint_auth_methods_supported: [&'static str; 3],
    introspection_endpoint: String,
    introspection_endpoint_auth_methods_supported: [&'static str; 2],
    code_challenge_methods_supported: [&'static str; 1],
    authorization_response_iss_parameter_supported: bool,
    prompt_values_supported: [&'static str; 3],
    /// RFC 9728 section 4.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    protected_resources: Vec<&'a str>,
}

impl<'a> Metadata<'a> {
    fn of(issuance: &'a Issuance) -> Self {
        let at = |path: &str| format!("{}{path}", issuance.url);
        let is_registration_on = match issuance.registration {
            Registration::Off => false,
            Registration::WithToken(_) | Registration::Open => true,
        };
        Self {
            issuer: &issuance.url,
            authorization_endpoint: at("/oauth/authorize"),
            token_endpoint: at("/oauth/token"),
            jwks_uri: at("/oauth/jwks"),
            registration_endpoint: is_registration_on.then(|| at("/oauth/register")),
            scopes_supported: issuance.scopes.keys().map(|scope| &**scope).collect(),
            response_types_supported: ["code"],
            response_modes_supported: ["query"],
            grant_types_supported: GrantType::ALL.map(GrantType::as_str),
            token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post", "none"],
            revocation_endpoint: at("/oauth/revoke"),
            revocation_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post", "none"],
            introspection_endpoint: at("/oauth/introspect"),
            introspection_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post"],
            code_challenge_methods_supported: ["S256"],
            authorization_response_iss_parameter_supported: true,
            prompt_values_supported: ["none", "login", "consent"],
            protected_resources: issuance.resources.iter().map(|resource| &*resource.uri).collect(),
        }
    }
}

/// `GET /.well-known/oauth-authorization-server`.
pub(super) async fn document(State(state): State<IssuerState>) -> Response {
    std::future::ready(show(&state, "")).await
}

/// The same where the issuer has a path: the well-known part stands before it (RFC 8414 section 3).
pub(super) async fn document_of_path(State(state): State<IssuerState>, path: Result<Path<String>, PathRejection>) -> Response {
    let path = path.map_or_else(|_rejection| String::new(), |Path(path)| path);
    std::future::ready(show(&state, &path)).await
}

/// `GET /oauth/jwks`.
pub(super) async fn jwks(State(state): State<IssuerState>) -> Response {
    if state.rules.load().issuance.is_none() {
        return std::future::ready(not_here()).await;
    }
    match state.signer.jwks() {
        Some(keys) => public("application/jwk-set+json", keys.to_string()),
        None => Problem::new(Code::Unavailable, "the signing keys are not known yet; try again").into_response(),
    }
}

fn show(state: &IssuerState, path: &str) -> Response {
    let rules = state.rules.load();
    let Some(issuance) = &rules.issuance else { return not_here() };
    if !path.is_empty() && base_of(&issuance.url).strip_prefix('/') != Some(path) {
        return not_here();
    }
    match serde_json::to_string(&Metadata::of(issuance)) {
        Ok(document) => public("application/json", document),
        Err(_) => Problem::new(Code::Unavailable, "the document cannot be written").into_response(),
    }
}

fn not_here() -> Response {
    Problem::new(Code::NotFound, "there is no authorization server here").into_response()
}

/// For everybody, applications in browsers included.
fn public(kind: &'static str, body: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, CACHED),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, body).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use serde_json::Value;
    use tower::ServiceExt;

    use super::*;
    use crate::issuer::tests::Issuer;

    async fn fetch(issuer: &Issuer, path: &str, host: &str) -> (u16, Value, String) {
        let request = Request::builder()
            .uri(path)
            .header("host", host)
            .header("x-forwarded-host", host)
            .header("x-forwarded-proto", "gopher")
            .body(Body::empty())
            .unwrap();
        let response = issuer.public.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let cached = response.headers()["cache-control"].to_str().unwrap().to_owned();
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null), cached)
    }

    // oauth: C12 D3 E10 L2 L3 L5 L6
    #[tokio::test]
    async fn the_metadata_says_what_is_there_and_nothing_of_the_request() {
        let issuer = Issuer::issuing(|_| ());
        let path = "/.well-known/oauth-authorization-server";
        let (status, document, cached) = fetch(&issuer, path, "evil.example").await;
        assert_eq!((status, cached.as_str()), (200, "public, max-age=300"));
        assert_eq!(document["issuer"], "https://id.example.com");
        assert_eq!(document["authorization_endpoint"], "https://id.example.com/oauth/authorize");
        assert_eq!(document["token_endpoint"], "https://id.example.com/oauth/token");
        assert_eq!(document["jwks_uri"], "https://id.example.com/oauth/jwks");
        assert_eq!(document["response_types_supported"], serde_json::json!(["code"]));
        let grants = ["authorization_code", "refresh_token", "client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange"];
        assert_eq!(document["grant_types_supported"], serde_json::json!(grants), "said, lest implicit be supposed");
        assert_eq!(document["code_challenge_methods_supported"], serde_json::json!(["S256"]));
        assert_eq!(document["authorization_response_iss_parameter_supported"], true);
        assert_eq!(document["scopes_supported"], serde_json::json!(["files:read", "orders:read", "orders:write"]));
        let methods = serde_json::json!(["client_secret_basic", "client_secret_post", "none"]);
        assert_eq!(document["token_endpoint_auth_methods_supported"], methods);
        assert_eq!(document["revocation_endpoint_auth_methods_supported"], methods);
        assert_eq!(
            document["introspection_endpoint_auth_methods_supported"],
            serde_json::json!(["client_secret_basic", "client_secret_post"])
        );
        assert!(document.get("registration_endpoint").is_none());
        assert_eq!(fetch(&issuer, path, "other.example").await.1, document);
        let bare = Issuer::issuing(|issuance| issuance.scopes.clear());
        assert!(fetch(&bare, path, "a").await.1.get("scopes_supported").is_none());
        let open = Issuer::issuing(|issuance| issuance.registration = Registration::Open);
        assert_eq!(fetch(&open, path, "a").await.1["registration_endpoint"], "https://id.example.com/oauth/register");
    }

    // oauth: L1
    #[tokio::test]
    async fn an_issuer_with_a_path_has_its_metadata_before_the_path_and_all_else_under_it() {
        let issuer = Issuer::issuing(|issuance| issuance.url = "https://example.com/tenant/one".into());
        let (status, document, _) = fetch(&issuer, "/.well-known/oauth-authorization-server/tenant/one", "a").await;
        assert_eq!(status, 200);
        assert_eq!(document["issuer"], "https://example.com/tenant/one");
        assert_eq!(document["authorization_endpoint"], "https://example.com/tenant/one/oauth/authorize");
        for other in ["tenant", "tenant/two", "tenant/one/", "tenant/one/x", "TENANT/ONE"] {
            let path = format!("/.well-known/oauth-authorization-server/{other}");
            assert_eq!(fetch(&issuer, &path, "a").await.0, 404, "{other}");
        }
        assert_eq!(fetch(&issuer, "/tenant/one/sign-in", "a").await.0, 200);
        assert_eq!(fetch(&issuer, "/tenant/oneself/sign-in", "a").await.0, 404);
        assert_eq!(fetch(&issuer, "/tenant/one/nowhere", "a").await.0, 404);
    }

    #[tokio::test]
    async fn an_issuer_that_issues_nothing_has_no_documents() {
        let issuer = Issuer::new();
        for path in ["/.well-known/oauth-authorization-server", "/oauth/jwks", "/oauth/authorize", "/sign-in"] {
            assert_eq!(fetch(&issuer, path, "a").await.0, 404, "{path}");
        }
    }
}
