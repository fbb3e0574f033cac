//! The Dockerfile and `envoy/quickstart/compose.yaml`, as far as they can be judged without a container runtime; `make prove-image` builds
//! and runs them.

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use serde_json::json;

use crate::support::envoy;
use crate::support::folder::Folder;
use crate::support::tollgate;

/// Makes the volumes, and so is root; it ends.
const FIRST: &str = "prepare";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn linter(name: &str) -> Command {
    let output = Command::new(root().join("tests/tools/linters.sh")).output().expect("tests/tools/linters.sh runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Command::new(PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim()).join(name))
}

/// Each service, with what it takes over from an anchor.
fn services() -> Vec<(String, Value)> {
    let file: Value = serde_yaml::from_str(&read("envoy/quickstart/compose.yaml")).expect("YAML");
    let services = file["services"].as_object().expect("services");
    services.iter().map(|(name, service)| (name.clone(), service.clone())).collect()
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().map(|list| list.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

#[test]
fn the_compose_file_keeps_to_the_specification() {
    let file = root().join("envoy/quickstart/compose.yaml");
    let output = linter("check-jsonschema").args(["--builtin-schema", "vendor.compose-spec"]).arg(file).output().expect("check-jsonschema");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
}

#[test]
fn every_service_is_pinned_and_confined() {
    let services = services();
    let names: BTreeSet<&str> = services.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, BTreeSet::from([FIRST, "envoy", "tollgate", "redis", "upstream", "prometheus"]));
    for (name, service) in &services {
        let image = service["image"].as_str().expect("an image");
        let tag = image.split_once(':').map(|(_, tag)| tag).expect("a tag");
        assert!(service["build"].is_object() || tag.matches('.').count() >= 2, "{name}: {image} is not one release");
        assert_eq!(service["read_only"], json!(true), "{name}");
        assert_eq!(service["cap_drop"], json!(["ALL"]), "{name}");
        assert_eq!(texts(&service["security_opt"]), ["no-new-privileges:true"], "{name}");
        if name != FIRST {
            assert_eq!(service["user"], json!("65532:65532"), "{name}");
            assert!(service["healthcheck"]["test"].is_array(), "{name}");
        }
        // Nothing is offered to other machines.
        assert!(texts(&service["ports"]).iter().all(|port| port.starts_with("127.0.0.1:")), "{name}");
    }
}

#[test]
fn envoy_is_the_newest_that_we_test_and_reads_the_quickstarts_file() {
    let services = services();
    let (_, service) = services.iter().find(|(name, _)| name == "envoy").expect("envoy");
    assert_eq!(service["image"], json!(format!("envoyproxy/envoy:v{}", envoy::lines()[0])));
    let command = texts(&service["command"])[0];
    let replaced = command.split('/').nth(1).expect("sed's first text");
    assert_eq!(read("envoy/quickstart/envoy.yaml").matches(replaced).count(), 1, "{replaced}");
}

/// Where the sockets, the counts and the secrets lie differs; who may do what does not.
#[test]
fn the_rules_in_containers_are_the_quickstarts() {
    let parts = |name: &str| {
        let text = read(name);
        let (places, rules) = text.split_once("\n# What this installation's keys start with").expect("where the rules begin");
        (places.to_owned(), rules.to_owned())
    };
    let (_, rules) = parts("envoy/quickstart/tollgate.yaml");
    let (places, rules_in_containers) = parts("envoy/quickstart/compose/tollgate.yaml");
    assert_eq!(rules.replace("file: ./jwt-secret", "file: /run/secrets/jwt-secret"), rules_in_containers, "carry the change over");
    let sections: Vec<&str> =
        places.lines().filter(|line| !line.starts_with([' ', '#'])).filter_map(|line| line.split(':').next()).collect();
    let sections: Vec<&str> = sections.into_iter().filter(|section| !section.is_empty()).collect();
    assert_eq!(sections, ["listen", "store", "ledger", "peppers"]);
}

#[test]
fn the_rules_in_containers_pass_check_config_with_their_envoy() {
    let folder = Folder::new();
    let secrets = folder.path().to_str().expect("a path");
    for secret in ["jwt-secret", "pepper", "redis-password", "ops-token"] {
        folder.write_secret(secret, &"a0".repeat(32));
    }
    folder.write("tollgate.yaml", &read("envoy/quickstart/compose/tollgate.yaml").replace("/run/secrets", secrets));
    // Both name one volume, each by its own path.
    folder.write("envoy.yaml", &read("envoy/quickstart/envoy.yaml").replace("run/check.sock", "/run/tollgate/check.sock"));
    let output = tollgate::run(folder.path(), &["check-config", "--config", "tollgate.yaml", "--envoy", "envoy.yaml"]);
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && !said.contains("warning"), "{said}");
}

/// Each job has somebody to ask, and the rules are the shipped ones.
#[test]
fn the_prometheus_in_containers_has_the_shipped_rules_and_jobs() {
    let parse = |name: &str| -> Value { serde_yaml::from_str(&read(name)).expect("YAML") };
    let (shipped, own) = (parse("k8s/prometheus/prometheus.yaml"), parse("envoy/quickstart/compose/prometheus.yaml"));
    assert_eq!(own["rule_files"], shipped["rule_files"]);
    let services = services();
    let service = |name: &str| &services.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("no service {name}")).1;
    for file in texts(&own["rule_files"]) {
        let mount = format!("../../k8s/prometheus/{file}:/etc/prometheus/{file}:ro");
        assert!(texts(&service("prometheus")["volumes"]).contains(&mount.as_str()), "{mount}");
    }
    let jobs = |file: &Value| file["scrape_configs"].as_array().cloned().expect("jobs");
    assert_eq!(jobs(&own).len(), jobs(&shipped).len());
    for (own, shipped) in jobs(&own).iter().zip(jobs(&shipped)) {
        for field in ["job_name", "metrics_path", "params", "sample_limit", "metric_relabel_configs"] {
            assert_eq!(own[field], shipped[field], "{field} of {}", own["job_name"]);
        }
        let target = own.pointer("/static_configs/0/targets/0").and_then(Value::as_str).expect("a target");
        let (host, port) = target.split_once(':').expect("a port");
        let reached = texts(&service("prometheus")["networks"]);
        assert!(texts(&service(host)["networks"]).iter().any(|network| reached.contains(network)), "{host} is on another network");
        let listens = read("envoy/quickstart/compose/stats.yaml") + &read("envoy/quickstart/compose/tollgate.yaml");
        assert!(listens.contains(&format!(": {port} ")) || listens.contains(&format!(":{port}")), "nobody listens on {port}");
    }
}

#[test]
fn the_dockerfile_names_this_release_and_its_rust() {
    let dockerfile = read("Dockerfile");
    let argument = |name: &str| {
        let line = dockerfile.lines().find_map(|line| line.strip_prefix(&format!("ARG {name}=")));
        line.unwrap_or_else(|| panic!("no ARG {name}")).to_owned()
    };
    assert_eq!(argument("VERSION"), env!("CARGO_PKG_VERSION"));
    assert!(argument("RUST_IMAGE").starts_with(concat!("rust:", env!("CARGO_PKG_RUST_VERSION"), ".")), "{}", argument("RUST_IMAGE"));
    assert!(dockerfile.contains(concat!(
        "title=\"Tollgate\" \\\n      org.opencontainers.image.description=\"",
        env!("CARGO_PKG_DESCRIPTION"),
        "\""
    )));
}
