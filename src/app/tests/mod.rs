//! The whole program in one process: started from a file, asked over its sockets, ended in order.

mod rings;
mod shared;

use std::collections::BTreeSet;
use std::path::Path;

use envoy_types::pb::envoy::service::auth::v3::AttributeContext;
use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
use envoy_types::pb::envoy::service::auth::v3::CheckResponse;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::HttpRequest;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::Request;
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use hyper_util::rt::TokioIo;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::Header;
use tokio::net::TcpStream;

use super::*;
use crate::clock::SystemClock;
use crate::config::load_watched;
use crate::store::RecordKey;
use crate::store::Write;
use crate::store::embedded::Embedded;

const SECRET: &str = "a shared secret of more than thirty-two bytes, for tests";

fn write_config(folder: &Path, routes: &str) -> PathBuf {
    std::fs::write(folder.join("secret"), SECRET).unwrap();
    let place = folder.display();
    let text = format!(
        r#"
listen:
  check: 127.0.0.1:0
  control: unix:{place}/control.sock
  ops: 127.0.0.1:0
store:
  embedded: {{ path: "{place}/data" }}
ledger: {{ path: "{place}/ledger" }}
lifecycle: {{ drain_delay: 0s, grace: 5s }}
issuers:
  - issuer: https://id.example.com
    name: example
    audience: [https://api.example.com]
    algorithms: [HS256]
    keys: {{ hmac_secret: {{ file: "{place}/secret" }} }}
    claims: {{ user: sub, scopes: [scope] }}
routes:
{routes}
"#
    );
    let path = folder.join("tollgate.yaml");
    std::fs::write(&path, text).unwrap();
    path
}

const ROUTES: &str = "
  - { name: open, path: /open, auth: public }
  - { name: orders, path: /orders, auth: required, scopes: { all_of: [\"orders:read\"] } }";

async fn try_start(path: &Path) -> Result<Running, AppError> {
    let (loaded, watched) = load_watched(path);
    let loaded = loaded.unwrap_or_else(|mistakes| panic!("{}", mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")));
    let watch = Some((path.to_owned(), watched));
    start(Start { loaded, watch, clock: Arc::new(SystemClock), decisions: Box::new(std::io::sink()) }).await
}

fn token(scopes: &str) -> String {
    let now = SystemClock.now().unix_seconds();
    let claims = serde_json::json!({
        "iss": "https://id.example.com", "aud": "https://api.example.com", "sub": "alice",
        "scope": scopes, "iat": now, "exp": now + 600,
    });
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

/// 0 for an allow, else the HTTP status.
async fn ask(running: &Running, path: &str, token: Option<&str>) -> i32 {
    let mut client = AuthorizationClient::connect(format!("http://{}", running.check_address())).await.unwrap();
    let headers = token.map(|token| (String::from("authorization"), format!("Bearer {token}"))).into_iter().collect();
    let http =
        HttpRequest { method: String::from("GET"), path: path.to_owned(), host: String::from("h"), headers, ..HttpRequest::default() };
    let request = Request { http: Some(http), ..Request::default() };
    let attributes = AttributeContext { request: Some(request), ..AttributeContext::default() };
    let response: CheckResponse = client.check(CheckRequest { attributes: Some(attributes) }).await.unwrap().into_inner();
    match response.http_response.unwrap() {
        HttpResponse::OkResponse(_) => 0,
        HttpResponse::DeniedResponse(denied) | HttpResponse::ErrorResponse(denied) => denied.status.unwrap().code,
    }
}

async fn page(running: &Running, target: &str) -> (u16, String) {
    let stream = TcpStream::connect(running.ops_address().to_string()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = ::http::Request::get(target).header("host", "localhost").body(String::new()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn an_explanation_shows_no_assertion_that_an_upstream_would_believe() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_config(folder.path(), ROUTES);
    let rules = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("dry_run: true\nupstream_assertion: {{ issuer: gate, audience: inside }}\n{rules}")).unwrap();
    let loaded = load_watched(&path).0.unwrap();
    let router = hosted::host(&loaded.boot, Arc::new(loaded.rules), Arc::new(SystemClock)).await.unwrap();
    let bearer = format!("Bearer {}", token("orders:read"));
    let question = serde_json::json!({
        "method": "GET", "host": "api.example.com", "target": "/orders", "headers": [["authorization", bearer]],
    });
    let request = ::http::Request::post("/v1/explain")
        .header("content-type", "application/json")
        .body(axum::body::Body::from(question.to_string()))
        .unwrap();
    let response: axum::response::Response = tower::ServiceExt::oneshot(router, request).await.unwrap();
    let body = axum::body::to_bytes(response.into_body(), 64 * 1024).await.unwrap();
    let explained: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&explained["decision"], &explained["dry_run"]), (&"allow".into(), &true.into()), "{explained}");
    let sets = explained["sets"].as_array().unwrap();
    assert!(sets.contains(&serde_json::json!(["x-tollgate-assertion", "(signed)"])), "{explained}");
    assert!(!String::from_utf8_lossy(&body).contains("eyJ"), "{explained}");
}

#[tokio::test]
async fn nothing_is_ever_keyed_with_an_empty_pepper() {
    let folder = tempfile::tempdir().unwrap();
    let (loaded, _watched) = load_watched(&write_config(folder.path(), ROUTES));
    let mut loaded = loaded.unwrap();
    loaded.boot.peppers = crate::config::boot::Peppers::Given(Vec::new());
    let started = start(Start { loaded, watch: None, clock: Arc::new(SystemClock), decisions: Box::new(std::io::sink()) }).await;
    assert!(matches!(started, Err(AppError::NoPeppers)));
}

#[tokio::test]
async fn what_was_counted_outlives_an_orderly_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_config(folder.path(), ROUTES);
    let running = try_start(&path).await.unwrap();
    assert_eq!(page(&running, "/healthz").await.0, 200);
    let (status, ready) = page(&running, "/readyz").await;
    assert_eq!(status, 200, "{ready}");
    assert_eq!(ask(&running, "/open", None).await, 0);
    assert_eq!(ask(&running, "/orders", None).await, 401);
    assert_eq!(ask(&running, "/orders", Some(&token("orders:write"))).await, 403);
    for _ in 0..3 {
        assert_eq!(ask(&running, "/orders", Some(&token("orders:read"))).await, 0);
    }
    let allowed = "tollgate_user_requests_total{user=\"example:alice\",outcome=\"allowed\"} 3\n";
    let refused = "tollgate_user_requests_total{user=\"example:alice\",outcome=\"refused\"} 1\n";
    for target in ["/metrics", "/metrics/usage"] {
        let (_, text) = page(&running, target).await;
        assert!(text.contains(allowed) && text.contains(refused), "{text}");
    }
    let (_, stats) = page(&running, "/stats").await;
    assert!(stats.contains(r#"{"user":"example:alice","route":"orders","outcome":"allowed","count":3}"#), "{stats}");
    assert!(page(&running, "/jwks").await.1.contains("\"keys\""));
    assert_eq!(running.shutdown().await, Ended::Cleanly);

    let again = try_start(&path).await.unwrap();
    assert!(page(&again, "/metrics/usage").await.1.contains(allowed));
    assert_eq!(again.shutdown().await, Ended::Cleanly);
}

/// One request to the resource API over the control socket.
async fn control(folder: &Path, method: &str, target: &str, body: serde_json::Value) -> (u16, serde_json::Value) {
    let stream = tokio::net::UnixStream::connect(folder.join("control.sock")).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request =
        ::http::Request::builder().method(method).uri(target).header("host", "localhost").header("content-type", "application/json");
    let response = sender.send_request(request.body(body.to_string()).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test]
async fn a_key_of_the_resource_api_opens_the_gate_until_it_is_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_config(folder.path(), ROUTES);
    let running = try_start(&path).await.unwrap();
    let (status, made) = control(folder.path(), "POST", "/v1/users", serde_json::json!({"id": "bob"})).await;
    assert_eq!(status, 201, "{made}");
    let body = serde_json::json!({"user": "bob", "name": "laptop", "scopes": ["orders:read"]});
    let (status, made) = control(folder.path(), "POST", "/v1/keys", body).await;
    assert_eq!(status, 201, "{made}");
    let key = made["key"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
    assert_eq!(ask(&running, "/orders", Some(&key)).await, 0);
    let target = format!("/v1/keys/{}", made["id"].as_str().unwrap_or_else(|| panic!("{made}")));
    let (status, gone) = control(folder.path(), "DELETE", &target, serde_json::Value::Null).await;
    assert!(status < 300, "{gone}");
    assert_eq!(ask(&running, "/orders", Some(&key)).await, 401, "revoked is revoked at the next request");
    let (_, stats) = page(&running, "/stats").await;
    assert!(stats.contains(r#""user":"bob","route":"orders","outcome":"allowed","count":1"#), "{stats}");
    assert_eq!(running.shutdown().await, Ended::Cleanly);
    assert!(!folder.path().join("control.sock").exists());
}

#[tokio::test]
async fn a_socket_that_nobody_comes_to_any_more_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_config(folder.path(), ROUTES);
    let socket = folder.path().join("check.sock");
    let text = std::fs::read_to_string(&path).unwrap().replace("check: 127.0.0.1:0", &format!("check: unix:{}", socket.display()));
    std::fs::write(&path, text).unwrap();
    let running = try_start(&path).await.unwrap();
    assert_eq!(page(&running, "/readyz").await.0, 200);
    let aside = folder.path().join("aside");
    std::fs::rename(&socket, &aside).unwrap();
    for cover in [None, Some("another's")] {
        cover.into_iter().for_each(|text| std::fs::write(&socket, text).unwrap());
        let (status, detail) = page(&running, "/readyz").await;
        assert!(status == 503 && detail.contains("\"failing\"") && detail.contains("check.sock is gone or another's"), "{detail}");
    }
    std::fs::rename(&aside, &socket).unwrap();
    assert_eq!(page(&running, "/readyz").await.0, 200, "it is back");
    assert_eq!(running.shutdown().await, Ended::Cleanly);
}

// battery: K21
#[tokio::test]
async fn readiness_detail_tells_every_part_and_corrupt_records_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_config(folder.path(), ROUTES);
    assert_eq!(try_start(&path).await.unwrap().shutdown().await, Ended::Cleanly);
    let store = Embedded::open(&folder.path().join("data"), Arc::new(SystemClock)).unwrap();
    let put = Write::Put { key: RecordKey::key("0123456789Ab"), bytes: vec![0xff; 9], expires: None };
    store.commit(Vec::new(), vec![put], SystemClock.now()).await.unwrap();
    drop(store);
    let fetched = "{ jwks_url: \"http://127.0.0.1:1/keys\" }";
    let away =
        format!("issuers:\n  - {{ name: away, issuer: away, audience: a, algorithms: [ES256], keys: {fetched}, claims: {{ user: sub }} }}");
    std::fs::write(&path, std::fs::read_to_string(&path).unwrap().replace("issuers:", &away)).unwrap();

    let running = try_start(&path).await.unwrap();
    let (status, detail) = page(&running, "/readyz").await;
    let detail: serde_json::Value = serde_json::from_str(&detail).unwrap();
    let revision = running.door().rules.load().revision.to_string();
    let expected = serde_json::json!({
        "status": "ready",
        "config_revision": revision,
        "last_reload_error": null,
        "restart_needed": [],
        "store_error": "1 record cannot be read; what needs it is answered with 503",
        "corrupt_records": ["key/0123456789Ab"],
        "shared_store_error": null,
        "signing_keys_missing": false,
        "issuer_keys_missing": false,
        "listener_error": null,
        "dry_run": false,
        "ledger_error": null,
        "key_sets_missing": ["away"],
    });
    assert_eq!(detail, expected);
    assert_eq!(status, 200, "one record in ruins is no reason to judge nobody");
    assert!(page(&running, "/metrics").await.1.contains("tollgate_store_records{kind=\"corrupt\"} 1\n"));
    assert_eq!(ask(&running, "/orders", Some(&token("orders:read"))).await, 0);
    assert_eq!(running.shutdown().await, Ended::Cleanly);
}

/// Asks until it is so; a test that waits longer than this would wait for ever.
async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    for _ in 0..400 {
        looks.tick().await;
        if is_so().await {
            return;
        }
    }
    panic!("it never came about");
}

// battery: X9
#[tokio::test]
async fn a_second_process_on_the_same_folders_refuses_to_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_config(folder.path(), ROUTES);
    let running = try_start(&path).await.unwrap();
    tokio::time::pause();
    let error = try_start(&path).await.unwrap_err();
    tokio::time::resume();
    assert!(matches!(error, AppError::Store(_) | AppError::Usage(_)), "{error}");
    assert_eq!(ask(&running, "/open", None).await, 0);
    assert_eq!(running.shutdown().await, Ended::Cleanly);
}

#[tokio::test]
async fn a_start_waits_for_a_command_that_has_the_folders() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_config(folder.path(), ROUTES);
    let loaded = load_watched(&path).0.unwrap();
    let command = hosted::host(&loaded.boot, Arc::new(loaded.rules), Arc::new(SystemClock)).await.unwrap();
    let (running, ()) = tokio::join!(try_start(&path), async {
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        drop(command);
    });
    assert_eq!(running.unwrap().shutdown().await, Ended::Cleanly);
}

#[tokio::test]
async fn a_changed_file_changes_the_rules_and_a_bad_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_config(folder.path(), ROUTES);
    let running = try_start(&path).await.unwrap();
    assert_eq!(ask(&running, "/new", None).await, 404);
    write_config(folder.path(), &format!("{ROUTES}\n  - {{ name: new, path: /new, auth: public }}"));
    until(async || ask(&running, "/new", None).await == 0).await;
    assert!(page(&running, "/metrics").await.1.contains("tollgate_route_checks_total{decision=\"allow\",route=\"new\"}"));
    write_config(folder.path(), "  - { nonsense: true }");
    until(async || !page(&running, "/readyz").await.1.contains("\"last_reload_error\":null")).await;
    assert_eq!(ask(&running, "/new", None).await, 0);
    let (status, _) = page(&running, "/readyz").await;
    assert_eq!(status, 200, "a bad file is no reason to take the old rules out of service");
    assert!(page(&running, "/metrics").await.1.contains("tollgate_config_last_reload_successful 0"));
    assert_eq!(running.shutdown().await, Ended::Cleanly);
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_and_leaves_nothing_running() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_config(folder.path(), ROUTES);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let text = std::fs::read_to_string(&path).unwrap().replace("ops: 127.0.0.1:0", &format!("ops: {}", taken.local_addr().unwrap()));
    std::fs::write(&path, text).unwrap();
    let error = try_start(&path).await.unwrap_err();
    assert!(matches!(error, AppError::Bind { .. }) && error.to_string().starts_with("listen.ops: cannot listen on 127.0.0.1:"), "{error}");
    let left = || std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name()).collect::<BTreeSet<_>>();
    assert_eq!(left(), ["secret", "tollgate.yaml"].map(Into::into).into(), "no store, no pepper, no socket");
    // With folders from before, no socket comes to them.
    std::fs::create_dir(folder.path().join("data")).unwrap();
    let socket = folder.path().join("check.sock");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("check: 127.0.0.1:0", &format!("check: unix:{}", socket.display()))).unwrap();
    assert!(matches!(try_start(&path).await, Err(AppError::Bind { .. })) && !socket.exists());
    std::fs::write(&path, text).unwrap();
    drop(taken);
    // The folders are free again.
    let running = try_start(&path).await.unwrap();
    assert_eq!(running.shutdown().await, Ended::Cleanly);
}
