//! The resource API over its router, and what its changes mean at the gate.

mod callers;
mod guards;
mod hang_up;
mod key_tokens;
mod keys;
pub(in crate::issuer) mod meddled;
mod once;
mod openapi;
mod reach;
mod replicas;
mod rights;
mod ring;
mod rotate;
mod schemas;
mod tenancy;
mod usage;
mod users;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use serde_json::Value;
use serde_json::json;
use tower::ServiceExt;
use zeroize::Zeroizing;

use crate::check::decide::Exit;
use crate::check::prove::Proof;
use crate::check::reasons::Reason;
use crate::check::resolve::FoundFacts;
use crate::check::resolve::KeyFact;
use crate::check::resolve::UserFact;
use crate::check::resolve::resolve;
use crate::check::testing::gate_over;
use crate::clock::Clock;
use crate::clock::ManualClock;
use crate::issuer::IssuerState;
use crate::issuer::LastUse;
use crate::issuer::LastUsed;
use crate::issuer::passwords;
use crate::issuer::public_router;
use crate::issuer::router;
use crate::issuer::usage::UsageError;
use crate::issuer::usage::UsageRead;
use crate::jose::signer::Signer;
use crate::model::caller::Caller;
use crate::model::caller::Environment;
use crate::model::caller::Namespace;
use crate::model::caller::SourceName;
use crate::model::issuance::Caps;
use crate::model::issuance::Compatibility;
use crate::model::issuance::Issuance;
use crate::model::issuance::Lifetimes;
use crate::model::issuance::Passwords;
use crate::model::issuance::PhoneRule;
use crate::model::issuance::Registration;
use crate::model::issuance::Resource;
use crate::model::issuance::SignOut;
use crate::model::issuance::SignUp;
use crate::model::key::KeyId;
use crate::model::key_text::KeyForm;
use crate::model::key_text::read_key;
use crate::model::route::ErrorFormat;
use crate::model::rules;
use crate::model::rules::Algorithm;
use crate::model::rules::ClaimNames;
use crate::model::rules::ImportedKeys;
use crate::model::rules::Issuer as TrustedIssuer;
use crate::model::rules::IssuerKeys;
use crate::model::rules::Managed;
use crate::model::rules::Place;
use crate::model::rules::Rules;
use crate::model::rules::Source;
use crate::model::rules::Tier;
use crate::model::rules::TierState;
use crate::model::rules::TokenId;
use crate::model::scope::Scope;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::model::usage::UsagePage;
use crate::model::usage::UsageQuery;
use crate::secrets::Pepper;
use crate::secrets::Peppers;
use crate::store::Answer;
use crate::store::Facts;
use crate::store::Records;
use crate::store::testing;

pub(in crate::issuer) const START: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);

/// An issuer over a store of its own.
pub(in crate::issuer) struct Issuer {
    /// The control socket's.
    pub(in crate::issuer) router: Router,
    /// `listen.issuer`'s.
    pub(in crate::issuer) public: Router,
    pub(in crate::issuer) facts: Arc<dyn Facts>,
    pub(in crate::issuer) records: Arc<dyn Records>,
    pub(in crate::issuer) state: IssuerState,
    pub(in crate::issuer) clock: Arc<ManualClock>,
    uses: Arc<Uses>,
    counts: Arc<Counted>,
    _folder: tempfile::TempDir,
}

#[derive(Debug, Default)]
struct Uses(Mutex<BTreeMap<String, LastUse>>);

impl LastUsed for Uses {
    fn last_use<'a>(&'a self, key: &'a KeyId) -> Answer<'a, Option<LastUse>> {
        Answer::ready(self.0.lock().unwrap().get(key.as_str()).cloned())
    }
}

/// Remembers what it was asked, and says what it was given.
#[derive(Debug, Default)]
struct Counted {
    asked: Mutex<Option<UsageQuery>>,
    says: Mutex<Option<Result<UsagePage, UsageError>>>,
    forgotten: Mutex<Vec<String>>,
}

impl UsageRead for Counted {
    fn read<'a>(&'a self, asked: &'a UsageQuery) -> Answer<'a, Result<UsagePage, UsageError>> {
        *self.asked.lock().unwrap() = Some(asked.clone());
        Answer::ready(self.says.lock().unwrap().clone().unwrap_or_else(|| Ok(UsagePage::default())))
    }

    fn forget<'a>(&'a self, user: &'a str) -> Answer<'a, Result<(), UsageError>> {
        self.forgotten.lock().unwrap().push(user.to_owned());
        Answer::ready(Ok(()))
    }
}

fn rules() -> Rules {
    let tier = |name: &str| Tier { name: Arc::from(name), policies: Vec::new(), state: TierState::Active, grace: Duration::ZERO };
    Rules {
        places: [("authorization", Some("Bearer")), ("x-api-key", None), ("x-authorization", Some("Agent"))]
            .map(|(header, scheme)| Place { header: header.into(), scheme: scheme.map(Arc::from) })
            .to_vec(),
        key_brand: "reva".into(),
        imported_keys: ImportedKeys::Accepted,
        tiers: ["free", "pro"].into_iter().map(|name| (Arc::from(name), tier(name))).collect(),
        ..rules::samples::nothing()
    }
}

/// `https://id.example.com`, open to sign-ups, with two resources and three scopes.
pub(crate) fn issuance() -> Issuance {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let scopes = |text: &str| Arc::new(ScopeSet::new(text.split(' ').map(|scope| Scope::parse(scope).unwrap())));
    Issuance {
        url: "https://id.example.com".into(),
        name: "id.example.com".into(),
        resources: vec![
            Resource { uri: "https://api.example.com".into(), scopes: None },
            Resource { uri: "https://files.example.com".into(), scopes: Some(scopes("files:read")) },
        ],
        scopes: BTreeMap::from([
            ("orders:read".into(), "Read your orders".into()),
            ("orders:write".into(), "Place orders".into()),
            ("files:read".into(), "Read your files".into()),
        ]),
        lifetimes: Lifetimes {
            code: minutes(1),
            access_token: minutes(10),
            refresh_idle: minutes(60 * 24),
            refresh_absolute: minutes(60 * 24 * 10),
            refresh_window: Duration::from_secs(10),
            key_token: minutes(60),
            key_token_absolute: minutes(60 * 24),
            session_idle: minutes(60),
            session_absolute: minutes(60 * 24),
            invitation: minutes(60 * 24),
        },
        algorithm: Algorithm::EdDsa,
        sign_up: SignUp::Open,
        phone: PhoneRule::Optional,
        sign_out: SignOut::Session,
        admin_rights: scopes("orders:read orders:write files:read tollgate:keys tollgate:users tollgate:usage"),
        member_rights: scopes("orders:read files:read"),
        tier: None,
        first_key: None,
        // As cheap as argon2 allows: these tests are about everything else.
        passwords: Passwords { memory_kib: 8, iterations: 1, workers: 2, waiting: 8, per_address: 30, per_account_and_address: 5 },
        caps: Caps { keys: 100, clients: 20, sessions: 50, invitations: 100 },
        providers: Vec::new(),
        registration: Registration::Off,
        compatibility: Compatibility::ALL.to_vec(),
        errors: ErrorFormat::Standard,
        trusted_hops: 0,
        home: None,
    }
}

/// The trust in our own tokens, as the config compiles it.
fn own_issuer(issuance: &Issuance) -> TrustedIssuer {
    TrustedIssuer {
        source: Source { name: SourceName::local(), namespace: Namespace::Bare },
        issuer: Arc::clone(&issuance.url),
        audience: issuance.resources.iter().map(|resource| Arc::clone(&resource.uri)).collect(),
        algorithms: vec![Algorithm::Rs256, Algorithm::EdDsa],
        keys: IssuerKeys::Own,
        claims: ClaimNames {
            user: "sub".into(),
            scopes: vec!["scope".into()],
            organization: None,
            tier: None,
            environment: None,
            client: Some("client_id".into()),
        },
        token_type: Some("at+jwt".into()),
        managed: Managed::ByGrant,
        max_lifetime: None,
        tier: None,
        environment: Environment::Live,
        token_id: TokenId::Ignored,
    }
}

impl Issuer {
    pub(in crate::issuer) fn new() -> Self {
        Self::with(rules())
    }

    /// One that issues: see [`issuance`].
    pub(in crate::issuer) fn issuing(change: impl FnOnce(&mut Issuance)) -> Self {
        let mut issuance = issuance();
        change(&mut issuance);
        Self::with(Rules { issuers: vec![own_issuer(&issuance)], issuance: Some(Arc::new(issuance)), ..rules() })
    }

    fn with(rules: Rules) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::starting_at(START));
        let asked: Arc<dyn Clock> = clock.clone();
        let store = testing::open(folder.path(), asked);
        let pepper = Pepper { id: Arc::from("p1"), secret: Zeroizing::new(vec![7; 32]) };
        let (uses, counts) = (Arc::new(Uses::default()), Arc::new(Counted::default()));
        let records: Arc<dyn Records> = store.clone();
        let peppers = Arc::new(Peppers::new(pepper, Vec::new()));
        let facts: Arc<dyn Facts> = store.clone();
        let state = IssuerState {
            records: records.clone(),
            gate: Arc::new(gate_over(Arc::clone(&facts), Arc::clone(&peppers), START)),
            signer: Arc::new(Signer::for_tests(START)),
            passwords: Arc::new(passwords::Passwords::default()),
            peppers,
            rules: Arc::new(ArcSwap::from_pointee(rules)),
            clock: clock.clone(),
            last_used: uses.clone(),
            usage: counts.clone(),
            observer: Arc::new(()),
            audit: Arc::default(),
            federation: Arc::default(),
        };
        state.signer.tell(&state.gate.tokens);
        Self {
            router: router(state.clone()),
            public: public_router(state.clone()),
            facts,
            records,
            state,
            clock,
            uses,
            counts,
            _folder: folder,
        }
    }

    pub(in crate::issuer) async fn send(&self, request: Request<Body>) -> (u16, Value) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        assert!(response.headers()["x-request-id"].to_str().unwrap().starts_with("req_"));
        assert_eq!(response.headers()["cache-control"], "no-store");
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() })
    }

    pub(in crate::issuer) async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let request = Request::builder().method(method).uri(path);
        self.send(match body {
            Value::Null => request.body(Body::empty()).unwrap(),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
                request.header("content-type", "application/json").body(Body::from(body.to_string())).unwrap()
            }
        })
        .await
    }

    /// A call to `listen.issuer` with this key; empty: without.
    pub(in crate::issuer) async fn call_with(&self, key: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
        let mut request = Request::builder().method(method).uri(path);
        if !key.is_empty() {
            request = request.header("x-api-key", key);
        }
        let body = if body.is_null() {
            Body::empty()
        } else {
            request = request.header("content-type", "application/json");
            Body::from(body.to_string())
        };
        let response = self.public.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() })
    }

    /// A new key of this user with these scopes, made by the operator: its id and its text.
    pub(in crate::issuer) async fn key_of(&self, user: &str, organization: &str, scopes: &[&str]) -> (String, String) {
        let body = json!({"name": "ci", "user": user, "organization": organization, "scopes": scopes});
        let answer = self.ok("POST", "/v1/keys", body).await;
        (answer["id"].as_str().unwrap().to_owned(), answer["key"].as_str().unwrap().to_owned())
    }

    /// What a call that must succeed answers.
    pub(in crate::issuer) async fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(method, path, body).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    /// The status and the `error` member of a call that must fail.
    pub(in crate::issuer) async fn refused(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let (status, answer) = self.call(method, path, body).await;
        assert!(status >= 400, "{method} {path}: {status} {answer}");
        assert!(answer["error"]["request_id"].as_str().unwrap().starts_with("req_"));
        (status, answer["error"].clone())
    }

    /// A new key of alice's with these scopes: its id and its text.
    async fn key(&self, scopes: &[&str]) -> (String, String) {
        let answer = self.ok("POST", "/v1/keys", json!({"name": "ci", "user": "alice", "scopes": scopes})).await;
        (answer["id"].as_str().unwrap().to_owned(), answer["key"].as_str().unwrap().to_owned())
    }

    /// Whose counts were erased, each time.
    pub(in crate::issuer) fn forgotten(&self) -> Vec<String> {
        self.counts.forgotten.lock().unwrap().clone()
    }

    /// Who a key's text makes its holder at the gate, by the gate's own rooms.
    pub(in crate::issuer) async fn judge(&self, text: &str) -> Result<Arc<Caller>, Reason> {
        let (proof, key) = match read_key("reva", text) {
            KeyForm::Own(own) => (Proof::OwnKey(own), self.facts.key(own.id).await),
            KeyForm::Damaged => return Err(Reason::MalformedCredential),
            KeyForm::Foreign => {
                let mut found = Ok(None);
                for digest in self.state.peppers.imported_digests(text.as_bytes()) {
                    if let Ok(None) = found {
                        found = self.facts.key_by_digest(&digest).await;
                    }
                }
                (Proof::ForeignKey(text), found)
            }
        };
        let user = match &key {
            Ok(Some(record)) => UserFact::FromStore(self.facts.user("local", record.user.as_str()).await),
            Ok(None) | Err(_) => UserFact::NotAsked,
        };
        let facts = FoundFacts { key: KeyFact::FromStore(key), user, ..FoundFacts::NONE };
        match resolve(&proof, None, &facts, None, &self.state.rules.load(), &self.state.peppers, self.clock.now()) {
            Ok(caller) => Ok(caller.unwrap()),
            Err(Exit::Denied(denial)) => Err(denial.reason),
            Err(Exit::Failed(fault)) => Err(fault.reason),
        }
    }

    async fn scopes_at_the_gate(&self, text: &str) -> String {
        self.judge(text).await.unwrap().scopes.to_string()
    }
}

// battery: I12
#[tokio::test]
async fn unknown_resources_methods_and_bodies_are_refused_in_one_form() {
    let issuer = Issuer::new();
    for (method, path, body, status, code) in [
        ("GET", "/", Value::Null, 404, "NOT_FOUND"),
        ("GET", "/v1/keys/nothere", Value::Null, 404, "NOT_FOUND"),
        ("GET", "/v1/keys/%7B%2A%7D", Value::Null, 404, "NOT_FOUND"),
        ("GET", "/v1/keys/%FF", Value::Null, 404, "NOT_FOUND"),
        ("GET", "/v1/users/nobody", Value::Null, 404, "NOT_FOUND"),
        ("PUT", "/v1/keys", Value::Null, 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/v1/keys", json!([]), 400, "INVALID_REQUEST"),
        ("POST", "/v1/keys", json!({"name": "n", "user": "a", "state": "active"}), 400, "INVALID_REQUEST"),
        ("POST", "/v1/keys", json!({"name": "x".repeat(70_000)}), 413, "PAYLOAD_TOO_LARGE"),
        ("GET", "/v1/keys?limt=5", Value::Null, 400, "INVALID_REQUEST"),
        ("GET", "/v1/keys?limit=0", Value::Null, 400, "INVALID_REQUEST"),
        ("GET", "/v1/keys?limit=5&limit=6", Value::Null, 400, "INVALID_REQUEST"),
        ("GET", "/v1/keys?after=%FF", Value::Null, 400, "INVALID_REQUEST"),
    ] {
        let (found, error) = issuer.refused(method, path, body).await;
        assert_eq!((found, error["code"].as_str().unwrap()), (status, code), "{method} {path}");
    }
    let form = Request::builder().method("POST").uri("/v1/keys").header("content-type", "text/plain").body(Body::from("{}")).unwrap();
    assert_eq!(issuer.send(form).await.0, 415);
    let twice = r#"{"name":"a","user":"alice","scopes":[],"scopes":["*"]}"#;
    let twice =
        Request::builder().method("POST").uri("/v1/keys").header("content-type", "application/json").body(Body::from(twice)).unwrap();
    assert_eq!(issuer.send(twice).await.0, 400);
}

/// What the log says, for searching.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// What this thread says from now on, as long as the others live.
    fn listen() -> (Self, tracing::Dispatch, tracing::subscriber::DefaultGuard) {
        // With a single subscriber in the process, an event that another test's thread reaches first counts as unwanted for ever.
        let second = tracing::Dispatch::new(tracing_subscriber::registry());
        let log = Self::default();
        let written = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_max_level(tracing::Level::TRACE).with_writer(move || written.clone());
        (log, second, tracing::subscriber::set_default(subscriber.finish()))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[tokio::test]
async fn the_log_says_each_answers_code() {
    let (log, _second, _listening) = Log::listen();
    let issuer = Issuer::issuing(|_| {});
    for (method, path, expected) in [
        ("GET", "/.well-known/oauth-authorization-server", "status=200 code=\"OK\""),
        ("GET", "/v1/keys", "status=401 code=\"UNAUTHENTICATED\""),
        ("POST", "/oauth/token", "status=400 code=\"invalid_request\""),
        // Pages have no code; it is that of their status.
        ("GET", "/sign-in/nowhere", "status=404 code=\"NOT_FOUND\""),
        ("GET", "/oauth/authorize", "status=400 code=\"INVALID_REQUEST\""),
    ] {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        issuer.public.clone().oneshot(request).await.unwrap();
        let text = log.text();
        assert!(text.lines().any(|line| line.contains("resource api") && line.contains(expected)), "{method} {path}: {text}");
    }
}

// battery: I3
#[tokio::test]
async fn no_secret_stands_in_the_log() {
    let (log, _second, _listening) = Log::listen();
    let issuer = Issuer::new();
    let (id, first) = issuer.key(&["a:b"]).await;
    let second = issuer.ok("POST", &format!("/v1/keys/{id}/rotate"), json!({"grace": "1h"})).await["key"].as_str().unwrap().to_owned();
    let sha256 = "5e".repeat(32);
    issuer.ok("POST", "/v1/keys/import", json!({"keys": [{"sha256": sha256, "name": "n", "user": "u"}]})).await;
    // A secret in every wrong place.
    issuer.refused("GET", &format!("/v1/keys/{first}"), Value::Null).await;
    issuer.refused("GET", &format!("/v1/keys?after={first}/"), Value::Null).await;
    issuer.refused("POST", "/v1/keys", json!({"name": "n", "user": "u", "tier": first})).await;
    issuer.refused("POST", "/v1/keys", json!({"name": "n", "user": "u", first.as_str(): 1})).await;
    issuer.ok("DELETE", &format!("/v1/keys/{id}"), Value::Null).await;
    let text = log.text();
    for expected in ["key created", "key rotated", "key imported", "key revoked", id.as_str(), "/v1/keys/{id}", "req_"] {
        assert!(text.contains(expected), "{expected} is not in the log");
    }
    for secret in [&first, &second] {
        assert!(!text.contains(&secret[secret.len() - 49..secret.len() - 6]), "a secret is in the log");
    }
    assert!(!text.contains(&sha256));
}
