use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::Request;
use serde_json::Value;
use serde_json::json;
use tower::ServiceExt;

use crate::issuer::tests::Issuer;
use crate::model::issuance::Compatibility;

/// What an answer was.
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

async fn send(issuer: &Issuer, request: Request<Body>) -> Answer {
    let response = issuer.public.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) }
}

async fn ask(issuer: &Issuer, method: &str, path: &str, bearer: Option<&str>, body: Value) -> Answer {
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    let request = bearer.iter().fold(request, |request, token| request.header("authorization", format!("Bearer {token}")));
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    send(issuer, request.body(body).unwrap()).await
}

fn login(name: &str) -> Value {
    json!({"username": name, "password": "correct horse battery"})
}

async fn signed_in(issuer: &Issuer, name: &str) -> String {
    assert_eq!(ask(issuer, "POST", "/register", None, login(name)).await.status, 201);
    let answer = ask(issuer, "POST", "/login", None, login(name)).await;
    answer.body["token"].as_str().unwrap().to_owned()
}

const ROUTES: [(&str, &str, Compatibility); 10] = [
    ("POST", "/generate", Compatibility::Generate),
    ("POST", "/auth/users", Compatibility::AuthUsers),
    ("POST", "/auth/token", Compatibility::AuthUsers),
    ("POST", "/get-token", Compatibility::GetToken),
    ("POST", "/register", Compatibility::Tinyoauth),
    ("POST", "/login", Compatibility::Tinyoauth),
    ("POST", "/client", Compatibility::Tinyoauth),
    ("GET", "/authorize", Compatibility::Tinyoauth),
    ("POST", "/authorize", Compatibility::Tinyoauth),
    ("POST", "/token", Compatibility::Tinyoauth),
];

#[tokio::test]
async fn each_spelling_is_there_where_it_is_named_and_nowhere_else() {
    for served in Compatibility::ALL {
        let issuer = Issuer::issuing(|issuance| issuance.compatibility = vec![served]);
        for (method, path, compatibility) in ROUTES {
            let answer = ask(&issuer, method, path, None, Value::Null).await;
            assert_eq!(answer.status == 404, compatibility != served, "{method} {path} with {served:?}: {}", answer.status);
            let other = ask(&issuer, "DELETE", path, None, Value::Null).await;
            assert_eq!(other.status, if compatibility == served { 405 } else { 404 }, "DELETE {path} with {served:?}");
        }
    }
}

#[tokio::test]
async fn seed_001_makes_a_user_and_a_token_for_it() {
    let issuer = Issuer::issuing(|_| ());
    let created = ask(&issuer, "POST", "/auth/users", None, login("alice")).await;
    assert_eq!((created.status, &created.body), (201, &json!({"username": "alice"})));
    assert_eq!(ask(&issuer, "POST", "/auth/users", None, login("alice")).await.status, 409);
    let token = ask(&issuer, "POST", "/auth/token", None, login("alice")).await;
    assert_eq!((token.status, &token.body["token_type"], &token.body["expires_in"]), (201, &json!("Bearer"), &json!(600)));
    assert_eq!(token.headers["cache-control"], "no-store");
    let text = token.body["access_token"].as_str().unwrap();
    assert_eq!(ask(&issuer, "GET", "/v1/keys", Some(text), Value::Null).await.status, 200);
    for (body, status) in [
        (json!({"username": "alice", "password": "wrong and long"}), 401),
        (json!({"username": "nobody", "password": "wrong and long"}), 401),
        (json!({"username": "alice"}), 400),
        (json!({"username": "alice", "password": 7}), 400),
        (json!({"username": "alice", "password": "x", "admin": true}), 400),
    ] {
        assert_eq!(ask(&issuer, "POST", "/auth/token", None, body.clone()).await.status, status, "{body}");
    }
    let odd = ask(&issuer, "POST", "/auth/users", None, json!({"username": "a b", "password": "correct horse battery"})).await;
    assert_eq!((odd.status, &odd.body["error"]["details"]["field"]), (400, &json!("username")));
}

#[tokio::test]
async fn seed_000_generates_keys_that_hold_no_more_than_their_maker() {
    let issuer = Issuer::issuing(|_| ());
    let token = signed_in(&issuer, "alice").await;
    let all = ask(&issuer, "POST", "/generate", Some(&token), Value::Null).await;
    assert_eq!((all.status, &all.body["scopes"]), (201, &json!(["files:read", "orders:read", "orders:write"])), "{}", all.body);
    let key = all.body["api_key"].as_str().unwrap();
    assert!(key.starts_with("reva_live_sk_"));
    assert_eq!(issuer.judge(key).await.unwrap().scopes.to_string(), "files:read orders:read orders:write");
    let less = ask(&issuer, "POST", "/generate", Some(key), json!({"scopes": ["orders:read"], "name": "ci"})).await;
    let less = less.body["api_key"].as_str().unwrap().to_owned();
    for scopes in [json!(["orders:write"]), json!(["*"]), json!(["tollgate:keys"]), json!(["orders:*"])] {
        let more = ask(&issuer, "POST", "/generate", Some(&less), json!({"scopes": scopes})).await;
        assert_eq!(more.status, 403, "{scopes}: {}", more.body);
    }
    assert_eq!(ask(&issuer, "POST", "/generate", None, Value::Null).await.status, 401);
    assert_eq!(ask(&issuer, "POST", "/generate", Some(&token), json!({"type": "paper"})).await.status, 400);
}

#[tokio::test]
async fn a_generated_jwt_is_its_keys() {
    let issuer = Issuer::issuing(|_| ());
    let token = signed_in(&issuer, "alice").await;
    let made = ask(&issuer, "POST", "/generate", Some(&token), json!({"type": "jwt", "scopes": ["orders:read"]})).await;
    assert_eq!((made.status, &made.body["type"]), (201, &json!("jwt")), "{}", made.body);
    assert!(made.body["expires_at"].is_string());
    let (jwt, id) = (made.body["api_key"].as_str().unwrap(), made.body["api_key_id"].as_str().unwrap());
    let shown = ask(&issuer, "GET", "/v1/keys/self", Some(jwt), Value::Null).await;
    assert_eq!((shown.status, shown.body["id"].as_str()), (200, Some(id)), "{}", shown.body);
    issuer.ok("DELETE", &format!("/v1/keys/{id}"), Value::Null).await;
    assert_eq!(ask(&issuer, "GET", "/v1/keys/self", Some(jwt), Value::Null).await.status, 401);
}

#[tokio::test]
async fn seed_004_signs_in_with_the_documents_words() {
    let issuer = Issuer::issuing(|_| ());
    let made = ask(&issuer, "POST", "/register", None, login("user")).await;
    assert_eq!((made.status, &made.body), (201, &json!({"result": "succeeded", "token": null})));
    let taken = ask(&issuer, "POST", "/register", None, login("user")).await;
    assert_eq!((taken.status, &taken.body["result"], &taken.body["token"]), (409, &json!("failed"), &Value::Null));
    let inside = ask(&issuer, "POST", "/login", None, login("user")).await;
    assert_eq!((inside.status, &inside.body["result"], inside.body.as_object().unwrap().len()), (200, &json!("succeeded"), 2));
    let wrong = ask(&issuer, "POST", "/login", None, json!({"username": "user", "password": "xxxx"})).await;
    assert_eq!((wrong.status, &wrong.body["result"], &wrong.body["token"]), (401, &json!("failed"), &Value::Null));
}

#[tokio::test]
async fn nothing_but_a_login_is_a_session_for_seed_004() {
    let issuer = Issuer::issuing(|_| ());
    let token = signed_in(&issuer, "user").await;
    let key = ask(&issuer, "POST", "/generate", Some(&token), Value::Null).await.body["api_key"].as_str().unwrap().to_owned();
    let jwt = ask(&issuer, "POST", "/generate", Some(&token), json!({"type": "jwt"})).await.body["api_key"].as_str().unwrap().to_owned();
    let query = "/authorize?response_type=code&client_id=app_01234567890123456789&redirect_uri=https%3A%2F%2Fa.example%2Fb&state=xyz";
    for (credential, status) in [(None, 401), (Some(key.as_str()), 401), (Some(&jwt), 401), (Some("nonsense"), 401), (Some(&token), 400)] {
        for method in ["GET", "POST"] {
            let answer = ask(&issuer, method, query, credential, Value::Null).await;
            assert_eq!(answer.status, status, "{method} {credential:?}: {}", answer.body);
        }
        if status == 401 {
            let answer = ask(&issuer, "POST", "/client", credential, json!({})).await;
            assert_eq!((answer.status, &answer.body["result"]), (401, &json!("failed")), "{credential:?}");
        }
    }
    assert_eq!(ask(&issuer, "HEAD", query, Some(&token), Value::Null).await.status, 405);
}

fn query(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

#[tokio::test]
async fn seed_004_goes_from_login_to_token() {
    let issuer = Issuer::issuing(|_| ());
    let token = signed_in(&issuer, "user").await;
    let back = "https://app.example/back";
    let made = ask(&issuer, "POST", "/client", Some(&token), json!({"redirect_uris": [back]})).await;
    assert_eq!((made.status, &made.body["result"]), (201, &json!("succeeded")), "{}", made.body);
    let (id, secret) = (made.body["client_id"].as_str().unwrap(), made.body["client_secret"].as_str().unwrap());
    let verifier = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";
    let asked = query(&[
        ("response_type", "code"),
        ("client_id", id),
        ("redirect_uri", back),
        ("state", "xyz"),
        ("scope", "orders:read"),
        ("code_challenge", &challenge(verifier)),
        ("code_challenge_method", "S256"),
    ]);
    for method in ["GET", "POST"] {
        let request = Request::builder().method(method).header("authorization", format!("Bearer {token}"));
        let request = match method {
            "GET" => request.uri(format!("/authorize?{asked}")).body(Body::empty()),
            _ => {
                let request = request.uri("/authorize").header("content-type", "application/x-www-form-urlencoded");
                request.body(Body::from(asked.clone()))
            }
        };
        let answer = send(&issuer, request.unwrap()).await;
        assert_eq!(answer.status, 302, "{method}: {}", answer.body);
        let location = answer.headers["location"].to_str().unwrap();
        let (address, answered) = location.split_once('?').unwrap();
        assert_eq!(address, back);
        let answered: std::collections::BTreeMap<String, String> = form_urlencoded::parse(answered.as_bytes()).into_owned().collect();
        assert_eq!(answered["state"], "xyz");
        let redeemed = query(&[
            ("grant_type", "authorization_code"),
            ("code", &answered["code"]),
            ("redirect_uri", back),
            ("client_id", id),
            ("client_secret", secret),
            ("code_verifier", verifier),
        ]);
        let request = Request::post("/token").header("content-type", "application/x-www-form-urlencoded");
        let tokens = send(&issuer, request.body(Body::from(redeemed)).unwrap()).await;
        assert_eq!((tokens.status, &tokens.body["scope"]), (200, &json!("orders:read")), "{method}: {}", tokens.body);
        assert!(tokens.body["access_token"].is_string() && tokens.body["refresh_token"].is_string());
        // What an application got is no login.
        let own = tokens.body["access_token"].as_str().unwrap();
        assert_eq!(ask(&issuer, "GET", &format!("/authorize?{asked}"), Some(own), Value::Null).await.status, 401);
    }
    let strangers = signed_in(&issuer, "other").await;
    let answer = ask(&issuer, "GET", &format!("/authorize?{asked}"), Some(&strangers), Value::Null).await;
    assert!(answer.headers["location"].to_str().unwrap().contains("error=consent_required"), "{:?}", answer.headers);
}

fn challenge(verifier: &str) -> String {
    use base64::Engine as _;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest.as_ref())
}

#[tokio::test]
async fn seed_003_trades_a_key_for_a_token_in_its_envelope() {
    let issuer = Issuer::issuing(|_| ());
    let token = signed_in(&issuer, "alice").await;
    let key = ask(&issuer, "POST", "/generate", Some(&token), Value::Null).await.body["api_key"].as_str().unwrap().to_owned();
    let first = ask(&issuer, "POST", "/get-token", None, json!({"api_key": key})).await;
    assert_eq!(
        [&first.body["status"], &first.body["code"], &first.body["message"]],
        [&json!("success"), &json!(200), &json!("token successfully created")],
        "{}",
        first.body
    );
    assert_eq!(first.status, 200);
    let again = ask(&issuer, "POST", "/get-token", None, json!({"api_key": key})).await;
    assert_eq!(first.body["data"]["auth_token"], again.body["data"]["auth_token"]);
    for (body, status) in [
        (json!({"api_key": "a6b2d038-4eb1-4ca1-a3b4-2cf783ad55e1"}), 401),
        (json!({"api_key": 7}), 400),
        (json!({}), 400),
        (json!([]), 400),
    ] {
        let refused = ask(&issuer, "POST", "/get-token", None, body.clone()).await;
        assert_eq!(
            (refused.status, &refused.body["data"], &refused.body["status"], &refused.body["code"]),
            (status, &json!({}), &json!("failed"), &json!(411)),
            "{body}: {}",
            refused.body
        );
        assert!(refused.body["message"].is_string());
    }
}
