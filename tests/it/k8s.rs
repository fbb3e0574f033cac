//! The manifests of `k8s/`: every overlay builds, fits the published types, is careful, and agrees with the config that it carries.
//!
//! YAML is judged where tools for it are at home: `tests/tools/k8s/check.py`, which the tests here call with the real program, a real
//! Envoy and a real kubectl. CRDs, which are data that stays outside of the repository, are used where they lie beside it.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use crate::support::envoy;
use crate::support::folder::Folder;

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
    command.arg("--tollgate").arg(env!("CARGO_BIN_EXE_tollgate")).arg("--envoy").arg(envoy::binary(None));
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

#[test]
fn the_files_are_tidy() {
    check("lint");
}
