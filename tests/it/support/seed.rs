//! A seed's scenario with the issuer that stands behind its Envoy.

use serde_json::Value;

use crate::support::http1::Reply;
use crate::support::ports::free_port;
use crate::support::scenario::JWT_SECRET;
use crate::support::scenario::Plan;
use crate::support::scenario::Scenario;
use crate::support::tollgate;
use crate::support::upstream::Upstream;

/// RFC 7636 appendix B.
pub const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
pub const PASSWORD: &str = "correct horse battery staple";

/// A running seed.
#[derive(Debug)]
pub struct Seed {
    pub scenario: Scenario,
    /// The issuer's URL, where Envoy is reached.
    pub url: String,
}

impl Seed {
    /// `envoy/<name>/` with its service at this port of the bootstrap.
    pub fn start(name: &str, service_port: u16) -> Self {
        Self::start_with(name, service_port, |plan| plan)
    }

    /// The same with something changed in its files.
    pub fn start_with(name: &str, service_port: u16, change: impl FnOnce(Plan) -> Plan) -> Self {
        let (front, issuer) = (free_port(), free_port());
        let upstream = Upstream::tcp();
        let plan = change(Plan::of(name));
        for secret in ["google-secret", "microsoft-secret"] {
            plan.folder.write_secret(secret, JWT_SECRET);
        }
        let url = format!("http://127.0.0.1:{front}");
        let plan = plan
            .envoy_with("port_value: 8001", &format!("port_value: {issuer}"))
            .envoy_with(&format!("port_value: {service_port}"), &format!("port_value: {}", upstream.port()))
            .tollgate_with("127.0.0.1:8001", &format!("127.0.0.1:{issuer}"))
            .tollgate_with("http://127.0.0.1:10000", &url)
            // These tests are about everything else than the cost of a hash.
            .tollgate_with("  sign_up: open\n", "  sign_up: open\n  passwords: { memory_kib: 8192, iterations: 1 }\n");
        Self { scenario: plan.start_on(front, upstream), url }
    }

    /// A request with a JSON body (none where it is null), through Envoy.
    pub fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
        let mut headers = headers.to_vec();
        let mut text = String::new();
        if !body.is_null() {
            headers.push(("content-type", "application/json"));
            text = body.to_string();
        }
        self.scenario.client().send(method, target, &headers, &text)
    }

    /// Whoever writes a program for the issuer's own API finds its description where it is served.
    pub fn assert_described(&self) {
        let document = self.ask("GET", "/openapi.json", &[], &Value::Null);
        assert!(document.status == 200 && document.json()["paths"]["/v1/keys"].is_object(), "{}", document.text());
    }

    /// The same with a bearer credential.
    pub fn bearer(&self, credential: &str, method: &str, target: &str, body: &Value) -> Reply {
        self.ask(method, target, &[("authorization", &format!("Bearer {credential}"))], body)
    }

    /// A form, through Envoy.
    pub fn form(&self, target: &str, headers: &[(&str, &str)], form: &[(&str, &str)]) -> Reply {
        let mut headers = headers.to_vec();
        headers.push(("content-type", "application/x-www-form-urlencoded"));
        self.scenario.client().send("POST", target, &headers, &crate::support::browser::form_body(form.iter().copied()))
    }

    /// As an operator.
    pub fn control(&self, method: &str, target: &str, body: &Value) -> Value {
        let socket = self.scenario.folder.short_path().join("data/control.sock");
        let (status, answer) = tollgate::ask_control(&socket, method, target, body).expect("the control API answers");
        assert!((200..300).contains(&status), "{method} {target}: {status} {answer}");
        answer
    }

    /// How often a user was let through to what is counted under this name.
    pub fn counted(&self, user: &str, route: &str) -> u64 {
        let report = tollgate::run_json(self.scenario.folder.path(), &["usage", "--config", "tollgate.yaml", "--json", "--user", user]);
        let rows = report["data"].as_array().unwrap_or_else(|| panic!("rows in {report}"));
        let of_route = rows.iter().filter(|row| row["route"] == route && row["outcome"] == "allowed");
        of_route.filter_map(|row| row["count"].as_u64()).sum()
    }
}

/// A text member of a JSON answer.
pub fn text(reply: &Reply, pointer: &str) -> String {
    let body = reply.json();
    body.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer} in {}: {body}", reply.status)).to_owned()
}
