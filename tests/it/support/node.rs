//! One node with everything that can be observed: TLS, keys, tokens of three issuers, one of which never answers.

use std::io::Read;
use std::io::Write;
use std::net::Ipv4Addr;
use std::net::TcpListener;

use envoy_types::pb::envoy::service::auth::v3::CheckResponse;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;
use tonic::Status;

use crate::support::collector::Collector;
use crate::support::folder::Folder;
use crate::support::grpc::Checker;
use crate::support::grpc::check_request;
use crate::support::jwt;
use crate::support::jwt::Es256;
use crate::support::ports::free_port;
use crate::support::process::wait_until;
use crate::support::scenario::JWT_SECRET;
use crate::support::scenario::MadeKey;
use crate::support::scenario::NewKey;
use crate::support::tollgate;
use crate::support::tollgate::CheckAt;
use crate::support::tollgate::Tollgate;

const AUDIENCE: &str = "https://api.example.com";

const RULES: &str = r#"
listen:
  check: { address: "127.0.0.1:CHECK", tls: { cert: tls.crt, key: tls.key } }
  control: unix:./data/control.sock
  ops: 127.0.0.1:OPS
store: { embedded: { path: ./data } }
ledger: { path: ./data/ledger }
lifecycle: { drain_delay: 0s, grace: 1s }
key_brand: acme
logging: { level: debug, allows: 1.0 }
metrics: { usage_series: 2 }
guard: { per_address: { failures_per_minute: 1000000 }, per_key_prefix: { failures_per_minute: 1000000 } }
issuers:
  - name: shared
    issuer: https://shared.example
    audience: https://api.example.com
    algorithms: [HS256]
    keys: { hmac_secret: { file: ./jwt-secret } }
    claims: { user: sub, scopes: scope, org: org_id }
  - name: provider
    issuer: https://provider.example
    audience: https://api.example.com
    algorithms: [ES256]
    tier: paying
    keys: { jwks_url: "http://127.0.0.1:JWKS/private-path/keys" }
    claims: { user: sub, scopes: scope }
  - name: away
    issuer: https://away.example
    audience: https://api.example.com
    algorithms: [ES256]
    keys: { jwks_url: "http://127.0.0.1:1/keys" }
    claims: { user: sub, scopes: scope }
tiers: { paying: {} }
traces: { endpoint: "http://127.0.0.1:COLLECTOR", sample: 1.0, max_per_second: 10000 }
upstream_assertion: { header: x-caller, issuer: https://gate.example, audience: [upstream] }
routes:
  - { name: open, path: /open, auth: public }
  - { name: orders, path: /orders, scopes: { all_of: [orders:read] } }
  - { name: download, path: /download, query_token: access_token, scopes: { all_of: [orders:read] } }
  - { name: stats, path: /stats, scopes: { all_of: [tollgate:usage] }, answer: stats }
"#;

/// A running node.
#[derive(Debug)]
pub struct Node {
    pub tollgate: Tollgate,
    pub folder: Folder,
    pub provider: Es256,
    pub collector: Collector,
    checker: Checker,
}

impl Node {
    pub fn start() -> Self {
        let folder = Folder::new();
        let (provider, collector) = (Es256::new("k1"), Collector::start());
        let (check_port, ops_port, key_port) = (free_port(), free_port(), serve_keys(provider.jwks()));
        let certificate = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        folder.write("tls.crt", &certificate.cert.pem());
        folder.write_secret("tls.key", &certificate.signing_key.serialize_pem());
        folder.write_secret("jwt-secret", JWT_SECRET);
        let ports = [("CHECK", check_port), ("OPS", ops_port), ("JWKS", key_port), ("COLLECTOR", collector.port)];
        let rules = ports.into_iter().fold(RULES.to_owned(), |text, (name, port)| text.replace(name, &port.to_string()));
        folder.write("tollgate.yaml", &rules);
        let address = (Ipv4Addr::LOCALHOST, check_port).into();
        let tollgate = Tollgate::start(folder.path(), "tollgate.yaml", CheckAt::Tcp(address), ops_port);
        let checker = Checker::connect_tls(address, &certificate.cert.pem());
        let node = Self { tollgate, folder, provider, collector, checker };
        let fetched = || node.tollgate.metric("tollgate_key_set_fetches_total", &["issuer=\"provider\"", "outcome=\"changed\""]) > 0.0;
        wait_until("the provider's keys are there", fetched);
        node
    }

    /// # Errors
    /// The RPC status of a fault.
    pub fn ask(&self, target: &str, headers: &[(&str, &str)]) -> Result<CheckResponse, Status> {
        let headers: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        self.checker.check(check_request("GET", target, &headers))
    }

    /// 200 for an allow, the HTTP status of a denial, 0 for a fault.
    pub fn status(&self, target: &str, headers: &[(&str, &str)]) -> i32 {
        match self.ask(target, headers).map(|response| response.http_response) {
            Ok(Some(HttpResponse::DeniedResponse(denied))) => denied.status.expect("a denial states its status").code,
            Ok(Some(HttpResponse::OkResponse(_))) => 200,
            Ok(other) => panic!("neither an allow nor a denial: {other:?}"),
            Err(_) => 0,
        }
    }

    pub fn bearer(&self, target: &str, credential: &str) -> i32 {
        self.status(target, &[("authorization", &format!("Bearer {credential}"))])
    }

    /// What Tollgate itself answers with, behind a credential.
    pub fn answer(&self, target: &str, credential: &str) -> Value {
        let response = self.ask(target, &[("authorization", &format!("Bearer {credential}"))]).expect("an answer");
        match response.http_response {
            Some(HttpResponse::DeniedResponse(answer)) => serde_json::from_str(&answer.body).expect("JSON"),
            other => panic!("not answered here: {other:?}"),
        }
    }

    pub fn key(&self, key: &NewKey<'_>) -> MadeKey {
        key.create(self.folder.path())
    }

    /// A token of the issuer whose secret stands in the config.
    pub fn token(subject: &str, members: Value) -> String {
        let claims = jwt::claims("https://shared.example", AUDIENCE, subject);
        jwt::hs256(&jwt::with(jwt::with(claims, json!({ "scope": "orders:read" })), members), JWT_SECRET)
    }

    /// A token that the provider signed, in the name of this issuer.
    pub fn provider_token(&self, issuer: &str, subject: &str) -> String {
        self.provider.sign(&jwt::with(jwt::claims(issuer, AUDIENCE, subject), json!({ "scope": "orders:read" })))
    }

    pub fn command(&self, arguments: &[&str]) -> std::process::Output {
        tollgate::run(self.folder.path(), &[arguments, &["--config", "tollgate.yaml", "--json"]].concat())
    }

    /// Changes a text of the config and has it read.
    pub fn reload_with(&self, from: &str, to: &str) {
        let rules = std::fs::read_to_string(self.folder.path().join("tollgate.yaml")).expect("the rules");
        assert!(rules.contains(from), "the rules have no `{from}`");
        self.folder.write("tollgate.yaml", &rules.replace(from, to));
        self.tollgate.process.signal(Signal::HUP);
    }
}

/// Answers every request on its port with this key set, for as long as the tests run.
fn serve_keys(keys: String) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("a bound port").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let _ = stream.read(&mut [0; 4096]);
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", keys.len());
            let _ = stream.write_all((head + &keys).as_bytes());
        }
    });
    port
}
