//! The manifests of `k8s/`: every overlay builds, fits the published types, is careful, and agrees with the config that it carries.
//!
//! YAML is judged where tools for it are at home: `tests/tools/k8s/check.py`, which the tests here call with the real program, a real
//! Envoy and a real kubectl. CRDs, which are data that stays outside of the repository, are used where they lie beside it.

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use crate::support::envoy;
use crate::support::folder::Folder;
use crate::support::http1::Client;
use crate::support::ports::free_port;
use crate::support::process::wait_until;
use crate::support::redis::RedisServer;
use crate::support::scenario::Plan;
use crate::support::scenario::Scenario;

/// The operator's token and the pepper: they may be the same here.
const TOKEN: &str = "a-token-of-the-tests-of-at-least-32-bytes";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What a script of `tests/tools` put at hand.
fn tool(script: &str) -> PathBuf {
    let output = Command::new(root().join("tests/tools").join(script)).output().expect("the script runs");
    assert!(output.status.success(), "{} (`make setup` installs it)", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim())
}

/// `TOLLGATE_TEST_CRDS`, else the folder beside the checkout, else none.
fn crds() -> Option<PathBuf> {
    let named = std::env::var_os("TOLLGATE_TEST_CRDS").map(PathBuf::from);
    named.or_else(|| Some(root().join("../shared/crds")).filter(|folder| folder.is_dir()))
}

/// Runs one of the checks, and fails with its complaints.
fn check(what: &str) {
    let scratch = Folder::new();
    let mut command = Command::new("python3");
    command.arg(root().join("tests/tools/k8s/check.py")).arg(what);
    command.arg("--tools").arg(tool("k8s.sh")).arg("--kubectl").arg(tool("kubectl.sh")).arg("--node").arg(tool("node.sh").join("node"));
    command.arg("--tollgate").arg(env!("CARGO_BIN_EXE_tollgate")).arg("--envoy").arg(envoy::binary(envoy::asked().as_deref()));
    command.arg("--scratch").arg(scratch.path());
    if let Some(crds) = crds() {
        command.arg("--crds").arg(crds);
    }
    let output = command.output().expect("python3 runs");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    eprintln!("{said}");
}

#[test]
fn every_overlay_builds_and_every_document_fits_its_published_type() {
    check("schemas");
}

#[test]
fn pods_are_careful_and_what_is_said_twice_is_said_alike() {
    check("policies");
}

#[test]
fn planted_mistakes_are_found() {
    check("mistakes");
}

/// The sidecar form, file by file, outside of a cluster: its config, its Envoy, a Redis with a password, and what kubelet, Prometheus and
/// the list in `k8s/README.md` ask.
#[test]
fn the_sidecar_form_enforces_what_its_readme_lists() {
    let redis = RedisServer::start();
    redis.tell("CONFIG SET requirepass a-password");
    let plan = Plan {
        folder: Folder::new(),
        envoy: file("overlays/sidecar/envoy.yaml"),
        tollgate: file("components/native-sidecar/tollgate.yaml"),
    };
    for inside in ["run", "data", "secrets"] {
        std::fs::create_dir(plan.folder.path().join(inside)).expect("a folder inside the test's folder");
    }
    for (name, text) in [("pepper", TOKEN), ("ops-token", TOKEN), ("redis-password", "a-password")] {
        plan.folder.write_secret(&format!("secrets/{name}"), text);
    }
    let stats_port = free_port();
    let scenario = plan
        .envoy_with("address: 0.0.0.0, port_value: 8080", "address: 127.0.0.1, port_value: 10000")
        .envoy_with("address: 0.0.0.0, port_value: 9902", &format!("address: 127.0.0.1, port_value: {stats_port}"))
        .envoy_with("path: /run/tollgate/check.sock", "path: run/check.sock")
        .envoy_with("socket_address: { address: 127.0.0.1, port_value: 8081 }", "pipe: { path: run/upstream.sock }")
        // Machines that run tests are slow at times.
        .envoy_with("timeout: 0.250s", "timeout: 5s")
        .tollgate_with("unix:/run/tollgate/", "unix:./run/")
        .tollgate_with("0.0.0.0:9464", "127.0.0.1:9464")
        .tollgate_with("/run/secrets/tollgate/", "./secrets/")
        .tollgate_with("/var/lib/tollgate", "./data")
        .tollgate_with("redis://redis:6379", &format!("unix:{}", redis.socket().display()))
        .start();

    let from_outside = ("x-forwarded-for", "10.0.0.1");
    let bearer = format!("Bearer {TOKEN}");
    let ask = |path: &str, headers: &[(&str, &str)]| Client::new(scenario.tollgate.ops_port).get(path, headers).status;
    let probes = paths(&["base/deployment.yaml", "components/native-sidecar/sidecar.yaml"], "httpGet: { path: ");
    assert_eq!(probes.iter().map(String::as_str).collect::<Vec<_>>(), ["/healthz", "/readyz"]);
    for path in probes {
        assert_eq!(ask(&path, &[from_outside]), 200, "{path}");
    }
    let monitored = paths(&["components/monitoring/monitors.yaml"], "path: ");
    assert_eq!(monitored.iter().map(String::as_str).collect::<Vec<_>>(), ["/metrics", "/metrics/usage"]);
    for path in monitored {
        assert_eq!(ask(&path, &[from_outside]), 401, "{path}");
        assert_eq!(ask(&path, &[from_outside, ("authorization", &bearer)]), 200, "{path}");
    }

    // Of Envoy's own interface, which ends it when asked to, Prometheus gets one page and nobody gets another.
    let stats = |method: &str, target: &str| Client::new(stats_port).send(method, target, &[], "");
    let page = stats("GET", "/stats/prometheus?filter=ext_authz");
    assert!(page.status == 200 && page.text().contains("\nenvoy_http_ext_authz_ok{"), "{}", page.text());
    for (method, target) in [
        ("GET", "/"),
        ("GET", "/config_dump"),
        ("GET", "/stats"),
        ("GET", "/stats/prometheus/../../config_dump"),
        ("POST", "/stats/prometheus"),
        ("POST", "/quitquitquit"),
        ("POST", "//quitquitquit"),
    ] {
        assert_eq!(stats(method, target).status, 404, "{method} {target}");
    }

    let key = scenario.key("alice", "", &["things:read"]);
    let send = |method: &str, target: &str, headers: &[(&str, &str)]| scenario.client().send(method, target, headers, "");
    let code = |method: &str, target: &str, headers: &[(&str, &str)]| send(method, target, headers).status;
    let with_key = ("x-api-key", key.as_str());
    assert_eq!(code("GET", "/things", &[]), 401);
    assert_eq!(code("GET", "/things", &[("x-api-key", "wrong")]), 401);
    assert_eq!(code("GET", "/things", &[with_key]), 200);
    assert_eq!(code("POST", "/things", &[with_key]), 403);
    assert_eq!(code("GET", "/there-is-no-such-route", &[]), 404);
    assert_eq!(code("GET", "/things%2f1", &[with_key]), 400);
    assert_eq!(code("GET", "/things", &[("x_user_id", "root"), with_key]), 400);
    let forged = send("GET", "/things", &[("x-user-id", "root"), with_key]);
    assert_eq!(forged.upstream_header("x-user-id").as_deref(), Some("alice"));
    assert_eq!(code("GET", "/healthz", &[]), 200);
    assert_eq!(code("GET", "/public/ping", &[]), 200);
    wait_until("the counts are in Redis", || scenario.admitted("alice") == 2);

    let Scenario { envoy, tollgate, .. } = scenario;
    drop(tollgate);
    assert_eq!(envoy.client().get("/things", &[with_key]).status, 503, "away is our trouble, not the client's");
}

fn file(name: &str) -> String {
    std::fs::read_to_string(root().join("k8s").join(name)).unwrap_or_else(|error| panic!("k8s/{name}: {error}"))
}

/// What stands behind a text in some files: each once, in order.
fn paths(files: &[&str], before: &str) -> BTreeSet<String> {
    let texts: Vec<String> = files.iter().map(|name| file(name)).collect();
    let lines = texts.iter().flat_map(|text| text.lines()).filter_map(|line| line.split_once(before));
    lines.map(|(_, path)| path.split(',').next().unwrap_or_default().trim().to_owned()).collect()
}
