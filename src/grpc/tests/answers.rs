use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::HeaderValueOption;
use envoy_types::pb::envoy::service::auth::v3::CheckResponse;
use envoy_types::pb::envoy::service::auth::v3::DeniedHttpResponse;
use envoy_types::pb::envoy::service::auth::v3::OkHttpResponse;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::google::protobuf::BoolValue;
use envoy_types::pb::google::protobuf::value::Kind as ValueKind;
use prost::Message as _;
use serde_json::Value as Json;
use serde_json::json;

use crate::check::decide::Denial;
use crate::check::decide::Fault;
use crate::check::decide::Particulars;
use crate::check::reasons::Kind;
use crate::check::reasons::Reason;
use crate::check::testing;
use crate::check::testing::Edits;
use crate::check::throttle::Admission;
use crate::check::throttle::PolicyLevel;
use crate::grpc::encode;
use crate::grpc::encode::About;
use crate::grpc::encode::Client;
use crate::grpc::testing::caller;
use crate::grpc::testing::now;
use crate::grpc::testing::route;
use crate::model::quota::Level;
use crate::model::quota::Limit;
use crate::model::request::Method;
use crate::model::route::Auth;
use crate::model::route::ErrorFormat;

const NO_EDITS: Edits<'_> = Edits { set: &[], remove: &[], remove_query: None, response: &[] };

fn about() -> About<'static> {
    About {
        route: None,
        caller: None,
        lapsed_for: None,
        dry_run: false,
        errors: ErrorFormat::Standard,
        revision: "0123456789ab",
        request_id: Some("req_1"),
        client: Client::Http,
        now: now(),
    }
}

fn level(policy: &str, per_minute: u32, remaining: u32, full_in: Duration, next: Duration) -> PolicyLevel {
    PolicyLevel {
        policy: policy.into(),
        limit: Limit { per_minute, depth: per_minute },
        level: Level { remaining, full_at: now().plus(full_in), next_token: next },
    }
}

fn ok_of(bytes: &[u8]) -> OkHttpResponse {
    let response = CheckResponse::decode(bytes).unwrap();
    assert_eq!(response.status.unwrap().code, 0);
    match response.http_response.unwrap() {
        HttpResponse::OkResponse(ok) => ok,
        HttpResponse::DeniedResponse(_) | HttpResponse::ErrorResponse(_) => panic!("not an allow"),
    }
}

fn denied_of(bytes: &[u8]) -> DeniedHttpResponse {
    let response = CheckResponse::decode(bytes).unwrap();
    assert_ne!(response.status.expect("a message without a status is an allow").code, 0);
    match response.http_response.unwrap() {
        HttpResponse::DeniedResponse(denied) => denied,
        HttpResponse::OkResponse(_) | HttpResponse::ErrorResponse(_) => panic!("not a denial"),
    }
}

#[expect(deprecated, reason = "most Envoys in use read nothing but `append`")]
fn pairs(headers: &[HeaderValueOption]) -> Vec<(&str, &str)> {
    headers
        .iter()
        .map(|option| {
            assert_eq!(option.append, Some(BoolValue { value: false }), "append must be set, and false");
            assert_eq!(option.append_action, 2, "the action must be OVERWRITE_IF_EXISTS_OR_ADD");
            let header = option.header.as_ref().unwrap();
            assert!(header.raw_value.is_empty(), "Envoy reads `value` alone");
            (header.key.as_str(), header.value.as_str())
        })
        .collect()
}

fn value_of<'h>(headers: &'h [HeaderValueOption], name: &str) -> Option<&'h str> {
    pairs(headers).into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn metadata_of(bytes: &[u8]) -> std::collections::BTreeMap<String, String> {
    let text = |kind| match kind {
        Some(ValueKind::StringValue(text)) => text,
        other => panic!("{other:?}"),
    };
    let metadata = CheckResponse::decode(bytes).unwrap().dynamic_metadata.unwrap();
    metadata.fields.into_iter().map(|(name, value)| (name, text(value.kind))).collect()
}

#[test]
fn nothing_but_a_grant_is_an_ok() {
    for reason in Reason::ALL {
        let row = reason.row();
        let response = CheckResponse::decode(encode::deny(&Denial::new(*reason), &about())).unwrap();
        assert_ne!(response.status.unwrap().code, 0, "{reason:?}");
        let Some(HttpResponse::DeniedResponse(denied)) = response.http_response else { panic!("{reason:?}") };
        let status = denied.status.unwrap().code;
        let expected = if row.kind == Kind::Denial { i32::from(row.http) } else { 503 };
        assert_eq!(status, expected, "{reason:?}");

        let fault = Fault::new(*reason, "why");
        for (bytes, is_error) in [(encode::deny_fault(&fault, &about()), false), (encode::error_response(&fault, &about()), true)] {
            let response = CheckResponse::decode(bytes).unwrap();
            assert_eq!(response.status.unwrap().code, 14);
            let (refused, told_as_error) = match response.http_response.unwrap() {
                HttpResponse::ErrorResponse(refused) => (refused, true),
                HttpResponse::DeniedResponse(refused) => (refused, false),
                HttpResponse::OkResponse(ok) => panic!("{ok:?}"),
            };
            assert_eq!((refused.status.unwrap().code, told_as_error), (503, is_error));
        }
    }
}

#[test]
fn an_allow_overwrites_what_it_sets_and_removes_the_rest() {
    let route = route("open", Auth::Required);
    let edits = Edits {
        set: &[("x-user-id", "alice"), ("x-tier", "pro")],
        // A contradiction of an earlier room must not cost the value that was set.
        remove: &["x-org-id", "authorization", "X-User-Id"],
        remove_query: Some("access_token"),
        response: &[("deprecation", "@1700000000"), ("link", "<a>; rel=\"deprecation\""), ("link", "<b>; rel=\"successor-version\"")],
    };
    let grant = testing::grant(&route, Some(caller()), &edits, testing::admission(Vec::new(), None));
    let caller = caller();
    let bytes = encode::allow(&grant, &About { route: Some(&route), caller: Some(&caller), ..about() });
    let ok = ok_of(&bytes);
    assert_eq!(pairs(&ok.headers), [("x-user-id", "alice"), ("x-tier", "pro")]);
    assert_eq!(ok.headers_to_remove, ["x-org-id", "authorization"]);
    assert_eq!(ok.query_parameters_to_remove, ["access_token"]);
    assert_eq!(
        pairs(&ok.response_headers_to_add),
        [("deprecation", "@1700000000"), ("link", "<a>; rel=\"deprecation\", <b>; rel=\"successor-version\"")]
    );
    #[expect(deprecated, reason = "it would override the outer one")]
    let inner = ok.dynamic_metadata;
    assert_eq!(inner, None);
    let metadata = metadata_of(&bytes);
    let expected = [
        ("config_revision", "0123456789ab"),
        ("decision", "allow"),
        ("key_id", "k1"),
        ("org", "acme"),
        ("reason", "ok"),
        ("request_id", "req_1"),
        ("route", "open"),
        ("tier", "pro"),
        ("user", "alice"),
    ];
    assert_eq!(metadata.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>(), expected);
}

#[test]
fn an_answer_of_our_own_is_a_refusal_to_forward_with_status_200() {
    let route = route("stats", Auth::Required);
    let grant = testing::grant(&route, Some(caller()), &NO_EDITS, testing::admission(Vec::new(), None));
    let bytes = encode::answer(&grant, String::from("{}"), &about());
    let answered = denied_of(&bytes);
    assert_eq!(answered.status.unwrap().code, 200);
    assert_eq!(answered.body, "{}");
    assert_eq!(value_of(&answered.headers, "content-type"), Some("application/json"));
    assert_eq!(value_of(&answered.headers, "cache-control"), Some("no-store"));
    assert_eq!(metadata_of(&bytes)["decision"], "allow");
}

#[test]
fn challenges_follow_rfc_6750() {
    let invalid = "Bearer realm=\"tollgate\", error=\"invalid_token\", error_description=\"The credential is not valid\"";
    let table = [
        (Denial::new(Reason::MissingCredential), 401, Some("Bearer realm=\"tollgate\"")),
        (Denial::new(Reason::UnknownKey), 401, Some(invalid)),
        (Denial::new(Reason::Revoked), 401, Some(invalid)),
        (
            Denial::new(Reason::ConflictingCredentials),
            400,
            Some("Bearer realm=\"tollgate\", error=\"invalid_request\", error_description=\"More than one credential was sent\""),
        ),
        (
            Denial::with(Reason::InsufficientScope, Particulars::Scopes(String::from("a:read b\"\r\n:write"))),
            403,
            Some(
                "Bearer realm=\"tollgate\", error=\"insufficient_scope\", error_description=\"The credential lacks a scope that is required here\", scope=\"a:read b???:write\"",
            ),
        ),
        (Denial::new(Reason::NoRoute), 404, None),
        (Denial::new(Reason::RateLimited), 429, None),
        (Denial::new(Reason::CorruptRecord), 503, None),
    ];
    for (denial, status, challenge) in table {
        let denied = denied_of(&encode::deny(&denial, &about()));
        assert_eq!(denied.status.unwrap().code, status, "{denial:?}");
        assert_eq!(value_of(&denied.headers, "www-authenticate"), challenge, "{denial:?}");
        assert_eq!(value_of(&denied.headers, "cache-control"), Some("no-store"));
        assert_eq!(value_of(&denied.headers, "x-request-id"), Some("req_1"));
    }
}

#[test]
fn every_form_of_body_says_the_same() {
    let field = Denial::with(Reason::BadPath, Particulars::Field { field: "path", issue: "a dot segment".into() });
    let methods = Denial::with(Reason::MethodNotAllowed, Particulars::Methods(vec![Method::Get, Method::Post]));
    let invalid = Denial::new(Reason::UnknownKey).because("no such key");
    let corrupt = Denial::new(Reason::CorruptRecord);
    let table = [
        (
            ErrorFormat::Standard,
            &field,
            "application/json",
            json!({"error": {"code": "INVALID_REQUEST", "message": "The path has no single meaning",
                "details": {"field": "path", "issue": "a dot segment"}, "request_id": "req_1"}}),
        ),
        (
            ErrorFormat::Standard,
            &invalid,
            "application/json",
            json!({"error": {"code": "INVALID_CREDENTIAL", "message": "The credential is not valid", "request_id": "req_1"}}),
        ),
        (
            ErrorFormat::Problem,
            &methods,
            "application/problem+json",
            json!({"type": "about:blank", "title": "The method is not allowed here", "status": 405, "code": "METHOD_NOT_ALLOWED",
                "detail": "method: allowed here: GET, POST", "request_id": "req_1"}),
        ),
        (
            ErrorFormat::Envelope,
            &invalid,
            "application/json",
            json!({"data": [], "status": "failed", "code": 422, "message": "The credential is not valid"}),
        ),
        (
            ErrorFormat::Envelope,
            &corrupt,
            "application/json",
            json!({"data": [], "status": "failed", "code": 503, "message": "The request cannot be judged now"}),
        ),
        (
            ErrorFormat::Result,
            &invalid,
            "application/json",
            json!({"result": "failed", "error": "INVALID_CREDENTIAL", "message": "The credential is not valid", "request_id": "req_1"}),
        ),
    ];
    for (format, denial, content_type, expected) in table {
        let denied = denied_of(&encode::deny(denial, &About { errors: format, ..about() }));
        assert_eq!(serde_json::from_str::<Json>(&denied.body).unwrap(), expected);
        assert_eq!(value_of(&denied.headers, "content-type"), Some(content_type));
        assert!(!denied.body.contains("no such key"), "the internal reason was told");
    }
    let denied = denied_of(&encode::deny(&methods, &about()));
    assert_eq!(value_of(&denied.headers, "allow"), Some("GET, POST"));
}

#[test]
fn the_routes_own_form_rules() {
    let mut route = route("legacy", Auth::Required);
    route.errors = ErrorFormat::Envelope;
    let denied = denied_of(&encode::deny(&Denial::new(Reason::Expired), &About { route: Some(&route), ..about() }));
    assert!(denied.body.starts_with("{\"data\":[]"), "{}", denied.body);
}

fn admission() -> Admission {
    testing::admission(
        vec![
            level("minute", 60, 0, Duration::from_millis(60_000), Duration::from_millis(700)),
            level("org \"a\"", 600, 12, Duration::from_secs(30), Duration::ZERO),
        ],
        Some(Duration::from_millis(1_200)),
    )
}

#[test]
fn rate_headers_name_the_tightest_bucket_on_allow_and_on_refusal() {
    let expected = [
        ("x-ratelimit-limit", "60"),
        ("x-ratelimit-remaining", "0"),
        ("x-ratelimit-reset", "1700000060"),
        ("ratelimit-policy", "\"minute\";q=60;w=60, \"org \\\"a\\\"\";q=600;w=60"),
        ("ratelimit", "\"minute\";r=0;t=1, \"org \\\"a\\\"\";r=12"),
    ];
    let route = route("open", Auth::Public);
    let grant = testing::grant(&route, None, &NO_EDITS, admission());
    let ok = ok_of(&encode::allow(&grant, &about()));
    assert_eq!(pairs(&ok.response_headers_to_add), expected);
    assert!(ok.headers.is_empty(), "rate headers are the client's");

    let denial = Denial::with(Reason::RateLimited, Particulars::Limits(Box::new(admission())));
    let denied = denied_of(&encode::deny(&denial, &About { errors: ErrorFormat::Problem, ..about() }));
    for (name, value) in expected {
        assert_eq!(value_of(&denied.headers, name), Some(value));
    }
    assert_eq!(value_of(&denied.headers, "retry-after"), Some("2"), "rounded up");
    let body: Json = serde_json::from_str(&denied.body).unwrap();
    assert_eq!(body["violated-policies"], json!(["minute"]));

    let never = Denial::with(Reason::RateLimited, Particulars::Limits(Box::new(testing::admission(Vec::new(), None))));
    assert_eq!(value_of(&denied_of(&encode::deny(&never, &about())).headers, "retry-after"), None, "no waiting helps");
    let guessed = Denial::with(Reason::TooManyFailures, Particulars::RetryAfter(7));
    assert_eq!(value_of(&denied_of(&encode::deny(&guessed, &about())).headers, "retry-after"), Some("7"));
}

#[test]
fn grpc_callers_get_a_grpc_status_and_no_content_type() {
    let table = [(Reason::RateLimited, "8"), (Reason::MissingCredential, "16"), (Reason::InsufficientScope, "7"), (Reason::NoRoute, "12")];
    for (reason, code) in table {
        let denied = denied_of(&encode::deny(&Denial::new(reason), &About { client: Client::Grpc, ..about() }));
        assert_eq!(value_of(&denied.headers, "grpc-status"), Some(code));
        assert_eq!(value_of(&denied.headers, "grpc-message"), Some(reason.row().text));
        assert_eq!(value_of(&denied.headers, "content-type"), None);
        assert_eq!(denied.body, reason.row().text);
    }
}

#[test]
fn metadata_of_a_denial_tells_what_is_known_and_no_more() {
    let caller = Arc::clone(&caller());
    let bytes = encode::deny(&Denial::new(Reason::InsufficientScope), &About { caller: Some(&caller), ..about() });
    let metadata = metadata_of(&bytes);
    assert_eq!(metadata["decision"], "deny");
    assert_eq!(metadata["user"], "alice");
    assert!(!metadata.contains_key("route") && !metadata.contains_key("ext_authz_duration") && !metadata.contains_key("grace"));
    let lapsed = About { caller: Some(&caller), lapsed_for: Some(Duration::ZERO), ..about() };
    assert_eq!(metadata_of(&encode::deny(&Denial::new(Reason::InsufficientScope), &lapsed))["grace"], "true");
}
