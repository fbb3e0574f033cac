//! The API's own description, tried out by schemathesis: nothing breaks, and no answer is undocumented.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use serde_json::json;

use crate::support::http1::Client;
use crate::support::issuing::Issuing;
use crate::support::tollgate;

/// Examples for each operation; `TOLLGATE_TEST_EXAMPLES` asks for more.
fn examples() -> String {
    std::env::var("TOLLGATE_TEST_EXAMPLES").unwrap_or_else(|_| "10".to_owned())
}

fn schemathesis() -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/schemathesis.sh");
    let output = Command::new(script).output().expect("tests/tools/schemathesis.sh runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("a path").trim().to_owned()
}

#[test]
fn the_document_is_the_same_from_the_program_and_from_the_server() {
    let issuing = Issuing::start_empty("");
    let served = Client::new(issuing.port).get("/openapi.json", &[]);
    assert_eq!(served.status, 200, "{}", served.text());
    let printed = tollgate::run_json(issuing.scenario.folder.path(), &["openapi"]);
    assert_eq!(served.json()["paths"], printed["paths"]);
    assert!(printed["openapi"].as_str().expect("a version").starts_with("3.1"));
}

#[test]
fn no_documented_operation_breaks_or_answers_what_is_not_documented() {
    let issuing = Issuing::start("  sign_up: open\n");
    let body = json!({ "name": "tester", "user": "tester", "organization": "acme",
        "scopes": ["tollgate:keys", "tollgate:users", "tollgate:usage"] });
    let (status, made) = issuing.control("POST", "/v1/keys", &body);
    assert_eq!(status, 201, "{made}");
    let key = made["key"].as_str().expect("a key");
    let credentials = format!("[auth.openapi.bearer]\nbearer = \"{key}\"\n[auth.openapi.key]\napi_key = \"{key}\"\n");
    issuing.scenario.folder.write("schemathesis.toml", &credentials);
    let checks =
        "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance";
    let output = Command::new(schemathesis())
        .current_dir(issuing.scenario.folder.path())
        .args(["--config-file", "schemathesis.toml"])
        .args(["run", &format!("http://127.0.0.1:{}/openapi.json", issuing.port)])
        .args(["--checks", checks, "--max-examples", &examples(), "--seed", "1", "--workers", "1", "--no-color"])
        .output()
        .expect("schemathesis runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_ne!(said.matches("Operations:").count(), 0, "{said}");
    let (_, ready) = issuing.control("GET", "/v1/users", &Value::Null);
    assert!(ready["data"].is_array(), "it lives on");
}
