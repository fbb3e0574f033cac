//! The quickstart with an issuer behind the same Envoy: accounts, keys and tokens, and the routes that they open.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::json;

use crate::support::browser::Browser;
use crate::support::browser::form_body;
use crate::support::browser::parameter;
use crate::support::http1::Client;
use crate::support::http1::Reply;
use crate::support::http1::message;
use crate::support::node_tool::node;
use crate::support::ports::free_port;
use crate::support::scenario::Plan;
use crate::support::scenario::Scenario;
use crate::support::tollgate;
use crate::support::upstream::Upstream;

/// What the tokens are for.
pub const RESOURCE: &str = "https://api.example.com";
/// The user that [`Issuing::start`] signs up.
pub const USER: &str = "alice";
pub const PASSWORD: &str = "correct horse battery staple";
/// RFC 7636 appendix B.
pub const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
/// Where the outside clients are called back; nobody listens there.
pub const REDIRECT_URI: &str = "http://127.0.0.1:8765/callback";

/// A node that issues, and its Envoy.
#[derive(Debug)]
pub struct Issuing {
    pub scenario: Scenario,
    /// `iss`.
    pub url: String,
    /// Of `listen.issuer`, past Envoy.
    pub port: u16,
}

/// A client as it was registered.
#[derive(Clone, Debug)]
pub struct MadeClient {
    pub id: String,
    /// Empty: a public one.
    pub secret: String,
}

impl Issuing {
    /// Starts it, with these settings added to the `issuer` section (YAML, two spaces deep), and signs up [`USER`].
    pub fn start(settings: &str) -> Self {
        Self::start_empty(settings).with_user()
    }

    /// The same on a store that sidecars could share.
    pub fn start_on_redis(settings: &str, url: &str) -> Self {
        let store = format!("store:\n  redis: {{ url: \"{url}\", path: ./data, timeouts: {{ check: 1s, background: 2s }} }}\n");
        let peppers = "peppers: [{ id: p1, secret: { file: ./pepper } }]\n";
        Self::start_with(settings, |plan| {
            plan.folder.write_secret("pepper", "a pepper of the tests that is long enough");
            plan.tollgate_with("store:\n  embedded: { path: ./data }\n", &format!("{store}{peppers}"))
        })
        .with_user()
    }

    fn with_user(self) -> Self {
        let issuing = self;
        let (status, made) = issuing.control("POST", "/v1/users", &json!({ "id": USER, "password": PASSWORD }));
        assert_eq!(status, 201, "{made}");
        issuing
    }

    /// The same without a user.
    pub fn start_empty(settings: &str) -> Self {
        Self::start_with(settings, |plan| plan)
    }

    fn start_with(settings: &str, change: impl FnOnce(Plan) -> Plan) -> Self {
        let (front, port) = (free_port(), free_port());
        let url = format!("http://127.0.0.1:{front}");
        // These tests are about everything else than the cost of a hash.
        let cheap = if settings.contains("passwords:") { "" } else { "  passwords: { memory_kib: 8192, iterations: 1 }\n" };
        let plan = Plan::of("quickstart")
            .unguarded()
            .envoy_with(
                "                        - match: { prefix: / }\n",
                "                        - match: { safe_regex: { regex: \"/(api|public|stats)(/.*)?\" } }\n                          \
                 route: { cluster: upstream, timeout: 15s }\n                        - match: { prefix: / }\n",
            )
            .envoy_with("route: { cluster: upstream, timeout: 15s }\n\n", "route: { cluster: issuer, timeout: 15s }\n\n")
            .envoy_with("    # Your service.", &issuer_cluster(port))
            .tollgate_with("listen:\n", &format!("listen:\n  issuer: 127.0.0.1:{port}\n"))
            .tollgate_with("errors: standard\n", &format!("errors: standard\n{}{settings}{cheap}", issuer_section(&url)))
            // No tier and no limit for callers that name none: these tests are about everything else.
            .tollgate_with("default_tier: free\n", "")
            .with_routes("  - { name: issuer, path: \"/**\", auth: public, acknowledge_open: true }\n");
        let upstream = Upstream::unix(&plan.folder.short_path().join("run/upstream.sock"));
        Self { scenario: change(plan).start_on(front, upstream), url, port }
    }

    /// Through Envoy.
    pub fn client(&self) -> Client {
        self.scenario.client()
    }

    /// As an operator.
    pub fn control(&self, method: &str, target: &str, body: &Value) -> (u16, Value) {
        let socket = self.scenario.folder.short_path().join("data/control.sock");
        tollgate::ask_control(&socket, method, target, body).expect("the control API answers")
    }

    /// Registers a client that may do everything a client can.
    pub fn confidential(&self, name: &str) -> MadeClient {
        self.register(&json!({
            "name": name,
            "kind": "confidential",
            "redirect_uris": [REDIRECT_URI],
            "grant_types": ["authorization_code", "refresh_token", "client_credentials"],
            "scopes": ["conversations:read", "customers:read"],
        }))
    }

    /// Registers a client that keeps no secret.
    pub fn native(&self, name: &str) -> MadeClient {
        self.register(&json!({
            "name": name,
            "kind": "native",
            "redirect_uris": [REDIRECT_URI],
            "grant_types": ["authorization_code", "refresh_token"],
            "scopes": ["conversations:read", "customers:read"],
        }))
    }

    pub fn register(&self, client: &Value) -> MadeClient {
        let (status, made) = self.control("POST", "/v1/clients", client);
        assert_eq!(status, 201, "{made}");
        let text = |member: &str| made[member].as_str().unwrap_or_default().to_owned();
        MadeClient { id: text("id"), secret: text("client_secret") }
    }

    /// Asks for tokens past Envoy.
    pub fn token(&self, client: &MadeClient, form: &[(&str, &str)]) -> Reply {
        Client::new(self.port).raw(&token_request(client, form))
    }

    /// A code that [`USER`] allowed.
    pub fn code(&self, client: &MadeClient) -> String {
        let query = form_body([
            ("client_id", client.id.as_str()),
            ("redirect_uri", REDIRECT_URI),
            ("response_type", "code"),
            ("scope", "conversations:read"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ]);
        let back = Browser::new(self.scenario.envoy.port).authorize(&format!("/oauth/authorize?{query}"), USER, PASSWORD);
        parameter(&back, "code").unwrap_or_else(|| panic!("no code in {back}"))
    }

    pub fn redeem(&self, client: &MadeClient, code: &str) -> Reply {
        self.token(
            client,
            &[("grant_type", "authorization_code"), ("code", code), ("redirect_uri", REDIRECT_URI), ("code_verifier", VERIFIER)],
        )
    }

    pub fn refresh(&self, client: &MadeClient, token: &str) -> Reply {
        self.token(client, &[("grant_type", "refresh_token"), ("refresh_token", token)])
    }

    /// A protected route of the quickstart.
    pub fn protected(&self, token: &str) -> Reply {
        self.client().bearer("/api/v1/conversations", token)
    }
}

/// A request for tokens, as bytes.
pub fn token_request(client: &MadeClient, form: &[(&str, &str)]) -> Vec<u8> {
    let credentials = STANDARD.encode(format!("{}:{}", client.id, client.secret));
    let authorization = format!("Basic {credentials}");
    let headers = [("content-type", "application/x-www-form-urlencoded"), ("authorization", authorization.as_str())];
    message("POST", "/oauth/token", "issuer", &headers, form_body(form.iter().copied()).as_bytes())
}

/// A member of a JSON answer.
pub fn text_of(reply: &Reply, member: &str) -> String {
    reply.json()[member].as_str().unwrap_or_else(|| panic!("no {member} in {}", reply.text())).to_owned()
}

fn issuer_section(url: &str) -> String {
    format!(
        "issuer:\n  url: {url}\n  resources: [{{ uri: {RESOURCE} }}]\n  scopes:\n    conversations:read: Read your conversations\n    \
         customers:read: Read your customers\n  trusted_hops: 1\n"
    )
}

fn issuer_cluster(port: u16) -> String {
    format!(
        "    - name: issuer\n      type: STATIC\n      connect_timeout: 1s\n      load_assignment:\n        cluster_name: issuer\n        \
         endpoints:\n          - lb_endpoints:\n              - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, \
         port_value: {port} }} }} }}\n\n    # Your service."
    )
}

/// What one outside script said of each of its checks.
#[derive(Debug)]
pub struct Report {
    pub passed: Vec<String>,
    pub unsupported: Vec<String>,
    /// With what went wrong.
    pub failed: Vec<String>,
}

/// The folder of the outside clients, installed.
pub fn scripts() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/clients.sh");
    let output = Command::new(&script).stderr(Stdio::inherit()).output().expect("tests/tools/clients.sh runs");
    assert!(output.status.success(), "tests/tools/clients.sh: {}", output.status);
    PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim())
}

/// Runs one script to its end.
pub fn run_script(name: &str, environment: &[(&str, &str)]) -> Report {
    run_script_on(name, environment, "")
}

/// The same with something on its standard input.
pub fn run_script_on(name: &str, environment: &[(&str, &str)], input: &str) -> Report {
    let mut child = node()
        .arg(format!("{name}.mjs"))
        .current_dir(scripts())
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node runs");
    child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("it reads");
    let mut report = Report { passed: Vec::new(), unsupported: Vec::new(), failed: Vec::new() };
    let mut said = String::new();
    for line in BufReader::new(child.stdout.take().expect("its output")).lines() {
        let line = line.expect("text");
        match line.split_once(' ') {
            Some(("ok", check)) => report.passed.push(check.to_owned()),
            Some(("unsupported", check)) => report.unsupported.push(check.to_owned()),
            Some(("FAILED", check)) => report.failed.push(check.to_owned()),
            Some(_) | None => {}
        }
        said.push_str(&line);
        said.push('\n');
    }
    let status = child.wait().expect("own child");
    assert!(status.success() == report.failed.is_empty(), "{name}: {status}\n{said}");
    assert!(!report.passed.is_empty() || !report.failed.is_empty(), "{name} checked nothing\n{said}");
    report
}
