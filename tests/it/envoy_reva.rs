//! Seed 002, line by line: keys and tokens, eight scopes over all resources, tenancy, environments, versions, the error form. What it
//! says of limits is in `envoy_reva_limits`, of OAuth in `envoy_reva_oauth`.
//!
//! | line | what it asks for | shown by |
//! |---|---|---|
//! | 12, 119–207, 332 | a REST API over all resources | `each_of_the_eight_scopes_opens_its_routes_and_no_other` |
//! | 22–25, 36–58, 327 | the OAuth flow | `envoy_reva_oauth` |
//! | 24 | access tokens are JWTs | `envoy_reva_oauth`, `access_tokens_carry_their_scopes_and_only_the_issuers_are_believed` |
//! | 26–34, 81, 328 | the eight scopes | `each_of_the_eight_scopes_opens_its_routes_and_no_other` |
//! | 64–80 | keys: the table, random with a prefix, kept as hashes | `keys_have_the_form_of_the_document_and_are_kept_as_hashes` |
//! | 82 | usage | `stats_show_the_callers_organisation_and_no_other` |
//! | 84–89 | the forms of keys, one for the sandbox | `keys_have_the_form_of_the_document_and_are_kept_as_hashes`, `keys_for_testing_open_the_sandbox_and_nothing_else` |
//! | 93–111, 310–320, 329 | limits, their headers, 429, the bypass | `envoy_reva_limits` |
//! | 213–218 | versions by path and header, deprecation, documentation | `both_ways_of_naming_a_version_agree_or_are_refused` |
//! | 224–237, 331 | the form of errors | `every_refusal_has_the_documents_form_and_an_id_of_ours` |
//! | 238 | validation names the field | the same, `envoy_reva_oauth` |
//! | 239, 343 | requests are logged | Envoy's access log with the fields of `envoy/reva/envoy.yaml`; `observe_secrets` |
//! | 240 | request ids | `only_a_route_that_trusts_it_keeps_a_request_id` |
//! | 246–263 | files of another code base | not ours |
//! | 281–284 | tests of flow, limits, endpoints, load | this file, `envoy_reva_oauth`, `envoy_reva_limits`, `redis_limits` |
//! | 285 | tokens and scopes are attacked | `envoy_battery_tokens`, `issuer_clients` |
//! | 286, 334 | OpenAPI from the code | `issuer_openapi` |
//! | 290–308 | its test of the flow | `envoy_reva_oauth` |
//! | 333 | an organisation sees its own | `an_organisation_sees_its_own_and_another_one_nothing`, `stats_show_the_callers_organisation_and_no_other` |
//! | 333 | answers below 200 ms | `benches/` |

use serde_json::Value;
use serde_json::json;
use tollgate::model::caller::Environment;

use crate::support::folder::Folder;
use crate::support::http1::Reply;
use crate::support::jwt;
use crate::support::jwt::Es256;
use crate::support::process::wait_until;
use crate::support::scenario::NewKey;
use crate::support::scenario::Plan;
use crate::support::scenario::Scenario;
use crate::support::seed::Seed;

pub const SCOPES: [&str; 8] = [
    "conversations:read",
    "conversations:write",
    "customers:read",
    "customers:write",
    "knowledge:read",
    "knowledge:write",
    "analytics:read",
    "webhooks:write",
];

/// Every route of the document, and the scope that opens it.
const ROUTES: [(&str, &str, &str); 17] = [
    ("GET", "/api/v1/conversations?limit=50&offset=0", "conversations:read"),
    ("GET", "/api/v1/conversations/1b4e28ba-2fa1-11d2-883f-0016d3cca427", "conversations:read"),
    ("POST", "/api/v1/conversations/7/messages", "conversations:write"),
    ("GET", "/api/v1/customers?email=a%40b.example", "customers:read"),
    ("GET", "/api/v1/customers/7", "customers:read"),
    ("PATCH", "/api/v1/customers/7", "customers:write"),
    ("GET", "/api/v1/knowledge", "knowledge:read"),
    ("GET", "/api/v1/knowledge/7", "knowledge:read"),
    ("POST", "/api/v1/knowledge", "knowledge:write"),
    ("PATCH", "/api/v1/knowledge/7", "knowledge:write"),
    ("DELETE", "/api/v1/knowledge/7", "knowledge:write"),
    ("GET", "/api/v1/analytics?metrics=calls&metrics=users&period=daily", "analytics:read"),
    ("GET", "/api/v1/products", "knowledge:read"),
    ("GET", "/api/v1/products/7", "knowledge:read"),
    ("GET", "/api/v1/webhooks", "webhooks:write"),
    ("POST", "/api/v1/webhooks", "webhooks:write"),
    ("DELETE", "/api/v1/webhooks/7", "webhooks:write"),
];

/// The scenario, and who signs the access tokens of the server of before.
pub fn reva() -> (Scenario, Es256) {
    let (seed, signer) = reva_with(|plan| plan);
    (seed.scenario, signer)
}

pub fn reva_with(change: impl FnOnce(Plan) -> Plan) -> (Seed, Es256) {
    let signer = Es256::new("reva-1");
    let seed = Seed::start_with("reva", 8080, |plan| {
        plan.folder.write("oauth-jwks.json", &signer.jwks());
        change(plan)
    });
    (seed, signer)
}

fn ask(scenario: &Scenario, method: &str, target: &str, key: &str, more: &[(&str, &str)]) -> Reply {
    let authorization = format!("Bearer {key}");
    let mut headers = vec![("authorization", authorization.as_str())];
    headers.extend(more);
    scenario.client().send(method, target, &headers, if method == "GET" { "" } else { "{}" })
}

#[test]
fn each_of_the_eight_scopes_opens_its_routes_and_no_other() {
    let (scenario, _) = reva();
    for scope in SCOPES {
        let user = format!("holder-of-{}", scope.replace(':', "-"));
        let key = scenario.key(&user, "enterprise", &[scope]);
        let mut opened = 0;
        for (method, target, wanted) in ROUTES {
            let reply = ask(&scenario, method, target, &key, &[]);
            if wanted == scope {
                opened += 1;
                assert_eq!((reply.status, reply.json()["path"].as_str()), (200, Some(target)), "{method} {target} with {scope}");
            } else {
                assert_eq!(reply.status, 403, "{method} {target} with {scope}: {}", reply.text());
                assert!(reply.need("www-authenticate").contains(wanted), "{method} {target}: {reply:?}");
            }
        }
        assert!(opened > 0, "{scope} opens nothing");
    }
}

#[test]
fn access_tokens_carry_their_scopes_and_only_the_issuers_are_believed() {
    let (scenario, signer) = reva();
    let claims = jwt::claims("https://auth.reva.example", "https://api.reva.example", "u-17");
    let claims =
        jwt::with(claims, json!({ "scope": "conversations:read analytics:read", "org_id": "org-1", "client_id": "abc", "tier": "pro" }));
    let token = signer.sign(&claims);
    for (method, target, wanted) in ROUTES {
        let allowed = ["conversations:read", "analytics:read"].contains(&wanted);
        let reply = ask(&scenario, method, target, &token, &[]);
        assert_eq!(reply.status, if allowed { 200 } else { 403 }, "{method} {target}: {}", reply.text());
    }
    let reply = ask(&scenario, "GET", "/api/v1/conversations", &token, &[]);
    assert_eq!(reply.upstream_header("user").as_deref(), Some("oauth:u-17"));
    assert_eq!(reply.upstream_header("x-org-id").as_deref(), Some("org-1"));
    let stranger = Es256::new("reva-1").sign(&claims);
    assert_eq!(ask(&scenario, "GET", "/api/v1/conversations", &stranger, &[]).status, 401);
}

#[test]
fn keys_have_the_form_of_the_document_and_are_kept_as_hashes() {
    let (scenario, _) = reva();
    let live = scenario.new_key(&NewKey { user: "u1", scopes: &["conversations:read"], ..NewKey::default() });
    let test =
        scenario.new_key(&NewKey { user: "u1", scopes: &["conversations:read"], environment: Environment::Test, ..NewKey::default() });
    assert!(live.text.starts_with("reva_live_sk_") && test.text.starts_with("reva_test_sk_"), "{live:?} {test:?}");
    ask(&scenario, "GET", "/api/v1/conversations", &live.text, &[]);
    // Last uses are told by the history, which the next flush writes.
    wait_until("the last use is known", || scenario.keys(&["show", &live.id])["last_used_at"].is_string());
    let shown =
        crate::support::tollgate::run_json(scenario.folder.path(), &["keys", "show", &live.id, "--config", "tollgate.yaml", "--json"]);
    assert!(!shown.to_string().contains(&live.text), "{shown}");
    for field in ["id", "name", "scopes", "created_at", "last_used_at", "active"] {
        assert_ne!(shown[field], Value::Null, "{field} in {shown}");
    }
    assert!(!anywhere(&scenario.folder, live.text.as_bytes()), "the key's text lies somewhere in the scenario's folder");
}

/// Whether a file below the folder holds these bytes.
fn anywhere(folder: &Folder, needle: &[u8]) -> bool {
    let mut open = vec![folder.path().to_path_buf()];
    while let Some(path) = open.pop() {
        let about = std::fs::symlink_metadata(&path).expect("a file of the scenario");
        if about.is_dir() {
            open.extend(std::fs::read_dir(&path).expect("a folder of the scenario").map(|entry| entry.expect("an entry").path()));
        } else if about.is_file() && std::fs::read(&path).expect("a file").windows(needle.len()).any(|window| window == needle) {
            return true;
        }
    }
    false
}

// oauth: T8
#[test]
fn keys_for_testing_open_the_sandbox_and_nothing_else() {
    let (scenario, _) = reva();
    let live = scenario.new_key(&NewKey { user: "u1", scopes: &SCOPES, ..NewKey::default() }).text;
    let test = scenario.new_key(&NewKey { user: "u1", scopes: &SCOPES, environment: Environment::Test, ..NewKey::default() }).text;
    for (method, target, _) in ROUTES {
        let reply = ask(&scenario, method, target, &test, &[]);
        assert_eq!((reply.status, reply.json()["error"]["code"].as_str()), (403, Some("WRONG_ENVIRONMENT")), "{method} {target}");
    }
    for (method, target) in [("GET", "/sandbox/api/v1/conversations"), ("POST", "/sandbox/api/v1/conversations/7/messages")] {
        assert_eq!(ask(&scenario, method, target, &test, &[]).status, 200, "{target}");
        assert_eq!(ask(&scenario, method, target, &live, &[]).status, 403, "{target}");
    }
}

#[test]
fn an_organisation_sees_its_own_and_another_one_nothing() {
    let (scenario, signer) = reva();
    let key =
        scenario.new_key(&NewKey { user: "u1", organization: Some("org-1"), scopes: &["conversations:read"], ..NewKey::default() }).text;
    let own = ask(&scenario, "GET", "/api/v1/organizations/org-1/conversations", &key, &[]);
    assert_eq!(own.upstream_header("x-org-id").as_deref(), Some("org-1"), "{}", own.text());
    let claims = jwt::claims("https://auth.reva.example", "https://api.reva.example", "u2");
    let token = signer.sign(&jwt::with(claims.clone(), json!({ "scope": "conversations:read", "org_id": "org-2" })));
    let homeless = signer.sign(&jwt::with(claims, json!({ "scope": "conversations:read" })));
    let cases = [(&key, "org-2"), (&key, "ORG-1"), (&token, "org-1"), (&homeless, "org-1")];
    for (credential, organization) in cases {
        let reply = ask(&scenario, "GET", &format!("/api/v1/organizations/{organization}/conversations"), credential, &[]);
        assert_eq!((reply.status, reply.json()["error"]["code"].as_str()), (404, Some("NOT_FOUND")), "{organization}");
    }
    assert_eq!(ask(&scenario, "GET", "/api/v1/organizations/org-2/conversations", &token, &[]).status, 200);
}

#[test]
fn stats_show_the_callers_organisation_and_no_other() {
    let (scenario, _) = reva();
    let of = |user: &str, organization: &str, scope: &str| {
        scenario.new_key(&NewKey { user, organization: Some(organization), scopes: &[scope], ..NewKey::default() }).text
    };
    let first = of("u1", "org-1", "conversations:read");
    let second = of("u2", "org-2", "conversations:read");
    let viewer = of("u3", "org-1", "tollgate:usage");
    for key in [&first, &first, &second] {
        assert_eq!(ask(&scenario, "GET", "/api/v1/conversations", key, &[]).status, 200);
    }
    let text = ask(&scenario, "GET", "/stats", &viewer, &[]).text();
    let rows = serde_json::from_str::<Value>(&text).expect("JSON")["stats"].clone();
    let of_first =
        rows.as_array().expect("rows").iter().find(|row| row["user"] == "u1" && row["outcome"] == "allowed").expect("a row").clone();
    assert_eq!(of_first["count"], 2, "{rows}");
    assert!(!text.contains("u2"), "{text}");
}

#[test]
fn both_ways_of_naming_a_version_agree_or_are_refused() {
    let (scenario, _) = reva();
    let key = scenario.key("u1", "enterprise", &["conversations:read"]);
    let version = |target: &str, header: Option<&str>| {
        let more: Vec<(&str, &str)> = header.iter().map(|version| ("api-version", *version)).collect();
        ask(&scenario, "GET", target, &key, &more)
    };
    let resolved = [
        ("/api/v1/conversations", None, "2024-01-01"),
        ("/api/v1/conversations", Some("2024-01-01"), "2024-01-01"),
        ("/api/v2/conversations", None, "2025-06-01"),
        ("/api/v0/conversations", None, "2023-06-01"),
        ("/api/conversations", None, "2024-01-01"),
        ("/api/conversations", Some("2025-06-01"), "2025-06-01"),
        ("/api/conversations", Some("2023-06-01"), "2023-06-01"),
    ];
    for (target, header, wanted) in resolved {
        let reply = version(target, header);
        assert_eq!(reply.upstream_header("api-version").as_deref(), Some(wanted), "{target} {header:?}: {}", reply.text());
        let deprecated = wanted == "2023-06-01";
        assert_eq!(reply.header("deprecation").is_some(), deprecated, "{target} {header:?}: {reply:?}");
        assert_eq!(reply.header("sunset").is_some(), deprecated, "{target} {header:?}");
    }
    let old = version("/api/v0/conversations", None);
    // 2025-01-01 as RFC 9745 writes it, 2028-01-01 as RFC 8594 does.
    assert_eq!((old.need("deprecation"), old.need("sunset")), ("@1735689600", "Sat, 01 Jan 2028 00:00:00 GMT"));
    assert!(old.headers("link").join(", ").contains("<https://docs.reva.example/2023-06-01>"), "{old:?}");
    let refused = [
        ("/api/v1/conversations", "2025-06-01", 400, "CONFLICTING_API_VERSIONS"),
        ("/api/conversations", "1999-01-01", 400, "UNKNOWN_API_VERSION"),
        ("/api/conversations", "2024-1-1", 400, "UNKNOWN_API_VERSION"),
        ("/api/conversations", "2022-03-01", 410, "RETIRED_API_VERSION"),
    ];
    for (target, header, status, code) in refused {
        let reply = version(target, Some(header));
        assert_eq!((reply.status, reply.json()["error"]["code"].as_str()), (status, Some(code)), "{target} {header}");
    }
    let unknown = version("/api/conversations", Some("1999-01-01")).text();
    for known in ["2023-06-01", "2024-01-01", "2025-06-01"] {
        assert!(unknown.contains(known), "{unknown}");
    }
}

#[test]
fn every_refusal_has_the_documents_form_and_an_id_of_ours() {
    let (scenario, _) = reva();
    let key = scenario.key("u1", "enterprise", &["analytics:read"]);
    let none = scenario.client().get("/api/v1/analytics", &[("x-request-id", "req_of_the_client")]);
    let scope = ask(&scenario, "GET", "/api/v1/customers", &key, &[("x-request-id", "req_of_the_client")]);
    let nowhere = scenario.client().get("/api/v1/nowhere", &[]);
    let path = ask(&scenario, "GET", "/api/v1/%zz", &key, &[]);
    let conflict = ask(&scenario, "GET", "/api/v1/analytics", &key, &[("x-api-key", "reva_live_sk_other")]);
    for (reply, status) in [(none, 401), (scope, 403), (nowhere, 404), (path, 400), (conflict, 400)] {
        assert_eq!(reply.status, status, "{}", reply.text());
        assert!(reply.need("content-type").starts_with("application/json"), "{reply:?}");
        let error = reply.json()["error"].clone();
        let code = error["code"].as_str().expect("a code");
        assert!(code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'), "{code}");
        assert!(!error["message"].as_str().expect("a message").is_empty());
        let id = error["request_id"].as_str().expect("an id");
        assert!(id.starts_with("req_") && id.len() > 20 && id != "req_of_the_client", "{id}");
    }
    let reply = ask(&scenario, "GET", "/api/v1/%zz", &key, &[]);
    let details = reply.json()["error"]["details"].clone();
    assert!(details["field"].is_string() && details["issue"].is_string(), "{details}");
}

#[test]
fn only_a_route_that_trusts_it_keeps_a_request_id() {
    let keep = |plan: Plan| plan.envoy_with("preserve_external_request_id: false", "preserve_external_request_id: true");
    let scenario = reva_with(keep).0.scenario;
    let id = |target: &str| {
        let reply = scenario.client().get(target, &[("x-request-id", "req_0123456789abcdefABCDEF")]);
        assert_eq!(reply.status, 401, "{}", reply.text());
        reply.json()["error"]["request_id"].as_str().expect("an id").to_owned()
    };
    assert_eq!(id("/internal/conversations"), "req_0123456789abcdefABCDEF");
    assert_ne!(id("/api/v1/conversations"), "req_0123456789abcdefABCDEF");
}
