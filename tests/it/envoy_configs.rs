//! Every bootstrap is complete and good for real releases.

use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;

use crate::support::certificates::Authority;
use crate::support::envoy;
use crate::support::folder::Folder;
use crate::support::tollgate;

/// How many release lines a bootstrap must pass on: the newest that `tests/tools/envoy.sh` knows, if no other is asked for.
const LINES: usize = 3;

/// Every bootstrap of the repository, wherever it lies.
fn bootstraps() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR"))];
    while let Some(folder) = open.pop() {
        for path in std::fs::read_dir(&folder).expect("a readable folder").map(|entry| entry.expect("an entry").path()) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() && !path.is_symlink() && !name.starts_with('.') && !["target", "node_modules"].contains(&name) {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yaml")
                && std::fs::read_to_string(&path).expect("readable").lines().any(|line| line == "static_resources:")
            {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The first release that a bootstrap is for, as its head says.
fn needs(file: &Path) -> String {
    let text = std::fs::read_to_string(file).expect("readable");
    let said = text.lines().find_map(|line| line.strip_prefix("# Needs Envoy ")?.split(' ').next());
    said.unwrap_or("1.36").to_owned()
}

fn scenarios() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("envoy")).expect("the folder of scenarios");
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

/// And none passes on a release for which it is not: what a head says is neither too much nor too little.
#[test]
fn every_bootstrap_passes_validation_on_three_lines() {
    let files = bootstraps();
    assert!(files.len() > scenarios().len(), "{files:?}");
    let versions = envoy::asked().map_or_else(|| envoy::lines().into_iter().take(LINES).collect(), |version| vec![version]);
    for file in &files {
        let release = needs(file);
        assert!(envoy::since(&release).len() >= LINES, "{}: too few lines have what it needs", file.display());
        for version in &versions {
            let output = envoy::validate(version, file);
            let is_good = output.status.success();
            assert_eq!(
                is_good,
                envoy::is_since(version, &release),
                "{} on {version}: {}",
                file.display(),
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
    eprintln!("{} bootstraps on {versions:?}", files.len());
}

/// Through an Envoy, by the tests that `make prove-envoys` runs on the oldest and on the newest line.
#[test]
fn every_bootstrap_is_driven() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let read = |name: &str| std::fs::read_to_string(tests.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let names =
        std::fs::read_dir(&tests).expect("the tests").map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
    let driving: String = names
        .filter(|name| name.starts_with("envoy_") && name.ends_with(".rs") && name != "envoy_configs.rs")
        .map(|name| read(&name))
        .collect();
    for folder in scenarios() {
        let name = folder.file_name().and_then(|name| name.to_str()).expect("a name");
        assert!(driving.contains(&format!("\"{name}\"")), "no test drives envoy/{name}");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let beside = bootstraps().into_iter().filter(|file| !file.starts_with(root.join("envoy")));
    let beside: Vec<String> = beside.map(|file| file.strip_prefix(root).expect("inside").display().to_string()).collect();
    // The second is the quickstart's text.
    assert_eq!(beside, ["k8s/overlays/sidecar/envoy.yaml", "src/config/bootstrap/template.yaml"]);
    assert!(read("k8s.rs").contains("file(\"overlays/sidecar/envoy.yaml\")"));
}

/// `check-config` knows an Envoy bootstrap too, and finds nothing to say about ours.
#[test]
fn every_pair_of_files_passes_check_config() {
    for source in scenarios() {
        let folder = Folder::new();
        for secret in ["jwt-secret", "auth-secret", "google-secret", "microsoft-secret"] {
            folder.write_secret(secret, crate::support::scenario::JWT_SECRET);
        }
        folder.write("oauth-jwks.json", r#"{"keys":[]}"#);
        if source.ends_with("reva") {
            folder.write("oauth-jwks.json", &crate::support::jwt::Es256::new("k1").jwks());
        }
        let authority = Authority::new();
        folder.write("tls/authority.crt", &authority.pem);
        let leaf = authority.sign("tollgate.internal");
        folder.write("tls/server.crt", &leaf.certificate);
        folder.write_secret("tls/server.key", &leaf.key);
        let own = source.join("tollgate.yaml");
        let rules = if own.exists() { own } else { source.with_file_name("quickstart").join("tollgate.yaml") };
        for (from, to) in [(rules, "tollgate.yaml"), (source.join("envoy.yaml"), "envoy.yaml")] {
            std::fs::copy(from, folder.path().join(to)).expect("a file of the scenario");
        }
        let output = tollgate::run(folder.path(), &["check-config", "--config", "tollgate.yaml", "--envoy", "envoy.yaml"]);
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{}: {said}", source.display());
        // A trial is what it is, and must not be forgotten.
        let wanted = usize::from(source.ends_with("shadow"));
        assert_eq!(said.matches("warning").count(), wanted, "{}: {said}", source.display());
    }
}

/// Leaving out one of the settings that hold the gate shut is found by `check-config`.
#[test]
fn a_weakened_bootstrap_is_found() {
    let weakenings = [
        ("                        - remove: x-org-id\n", "", "x-org-id"),
        ("failure_mode_allow: false", "failure_mode_allow: true", "failure_mode_allow"),
        ("status_on_error: { code: ServiceUnavailable }", "clear_route_cache: true", "clear_route_cache"),
    ];
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("envoy/quickstart");
    let bootstrap = std::fs::read_to_string(source.join("envoy.yaml")).expect("the bootstrap");
    for (from, to, named) in weakenings {
        assert!(bootstrap.contains(from), "{from}");
        let folder = Folder::new();
        folder.write_secret("jwt-secret", crate::support::scenario::JWT_SECRET);
        folder.write("envoy.yaml", &bootstrap.replace(from, to));
        std::fs::copy(source.join("tollgate.yaml"), folder.path().join("tollgate.yaml")).expect("the rules");
        let output = tollgate::run(folder.path(), &["check-config", "--config", "tollgate.yaml", "--envoy", "envoy.yaml"]);
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(said.contains(named), "nothing about {named}: {said}");
    }
}

/// What a pipe brings is judged as a file is.
#[test]
fn standard_input_is_judged_under_its_name() {
    let folder = Folder::new();
    folder.write("tollgate.yaml", "listen: { check: 'unix:./run/check.sock' }\nroutes: [{ path: /a }]\n");
    let judge = |name: &str, text: &str| {
        let mut command = tollgate::program();
        command.current_dir(folder.path()).args(["check-config", "--envoy", name]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program runs");
        // What is too large is not read to its end.
        let _ = child.stdin.take().expect("its input").write_all(text.as_bytes());
        let output = child.wait_with_output().expect("own child");
        (output.status.success(), String::from_utf8(output.stdout).expect("text"))
    };
    let good = tollgate::run(folder.path(), &["envoy", "init"]);
    let good = String::from_utf8(good.stdout).expect("text");
    for name in ["-", "/dev/stdin"] {
        let (is_good, said) = judge(name, &good);
        assert!(is_good && said.contains("\nstandard input: good, and fits these rules\n"), "{said}");
        assert!(said.contains("\n  listens  public 127.0.0.1:10000\n  admin    127.0.0.1:9901\n"), "{said}");
        let (is_good, said) = judge(name, &good.replace("failure_mode_allow: false", "failure_mode_allow: true"));
        assert!(!is_good && said.starts_with("standard input:") && said.ends_with("\nstandard input: 1 mistake\n"), "{said}");
        let (is_good, said) = judge(name, &"#".repeat(5 * 1024 * 1024));
        assert!(!is_good && said.contains("standard input: it is larger than 4 MiB"), "{said}");
    }
}

/// What Istio and Envoy Gateway are told in `k8s/`, each form beside the rules that it carries.
#[test]
fn our_manifests_pass_check_config() {
    let k8s = Path::new(env!("CARGO_MANIFEST_DIR")).join("k8s");
    let istio = ["components/istio/mesh-config.yaml", "components/istio/authorization.yaml", "components/istio/envoy-filter.yaml"];
    let sidecar = "components/native-sidecar/tollgate.yaml";
    let gateway = [
        "overlays/envoy-gateway/shop/gateway.yaml",
        "overlays/envoy-gateway/shop/policies.yaml",
        "overlays/envoy-gateway/proxies/envoy-proxy.yaml",
    ];
    let forms: [(&str, Vec<&str>); 4] = [
        (sidecar, [istio.as_slice(), &["overlays/istio/check.yaml"]].concat()),
        ("base/tollgate.yaml", [istio.as_slice(), &["overlays/istio-central/check.yaml"]].concat()),
        (sidecar, gateway.to_vec()),
        (sidecar, vec!["overlays/sidecar/envoy.yaml"]),
    ];
    for (rules, files) in forms {
        let read = |name: &str| std::fs::read_to_string(k8s.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let folder = Folder::new();
        for secret in ["pepper", "ops-token", "redis-password"] {
            folder.write_secret(&format!("secrets/{secret}"), "a-token-of-the-tests-of-at-least-32-bytes");
        }
        folder.write("tollgate.yaml", &read(rules).replace("/run/secrets/tollgate/", "./secrets/"));
        let judge = |text: &str| {
            folder.write("front.yaml", text);
            let output = tollgate::run(folder.path(), &["check-config", "--config", "tollgate.yaml", "--envoy", "front.yaml"]);
            (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let text = files.iter().map(|name| read(name)).collect::<Vec<_>>().join("\n---\n");
        let (is_good, said) = judge(&text);
        assert!(is_good && !said.contains("warning: front.yaml"), "{files:?}: {said}");
        // They are looked at, and not just taken for something else.
        let (is_good, said) = judge(&text.replace("x-user-id", "x-somebody"));
        assert!(!is_good && said.contains("x-user-id"), "{files:?}: {said}");
    }
}
