//! A real Envoy.

use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;

use crate::support::http1::Client;
use crate::support::process::Process;

/// The binary: the tests' usual one, or that of one version.
pub fn binary(version: Option<&str>) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/envoy.sh");
    let output = Command::new(&script).args(version).output().expect("tests/tools/envoy.sh runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim())
}

/// The versions that `tests/tools/envoy.sh` knows, newest first.
pub fn lines() -> Vec<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/envoy.sh");
    let output = Command::new(script).arg("--lines").output().expect("tests/tools/envoy.sh runs");
    String::from_utf8(output.stdout).expect("versions").lines().map(str::to_owned).collect()
}

/// The version that `TOLLGATE_TEST_ENVOY` names; none: the tests' usual one.
pub fn asked() -> Option<String> {
    std::env::var("TOLLGATE_TEST_ENVOY").ok()
}

/// The same for what needs a release such as `1.38`: the oldest line that has it, where an older one is asked for.
pub fn asked_since(release: &str) -> Option<String> {
    asked().map(|asked| if is_since(&asked, release) { asked } else { since(release).pop().expect("a line that has it") })
}

/// The lines that a release is part of, newest first.
pub fn since(release: &str) -> Vec<String> {
    lines().into_iter().filter(|version| is_since(version, release)).collect()
}

pub fn is_since(version: &str, release: &str) -> bool {
    let minor = |text: &str| -> Vec<u32> { text.split('.').take(2).map(|part| part.parse().expect("a number")).collect() };
    minor(version) >= minor(release)
}

/// `envoy --mode validate` on a file.
pub fn validate(version: &str, file: &Path) -> Output {
    Command::new(binary(Some(version)))
        .args(["--mode", "validate", "--log-level", "warn", "--disable-hot-restart", "-c"])
        .arg(file)
        // What a bootstrap names lies beside it.
        .current_dir(file.parent().expect("a file in a folder"))
        .output()
        .expect("envoy runs")
}

#[derive(Debug)]
pub struct Envoy {
    pub process: Process,
    pub port: u16,
    pub admin_port: u16,
}

impl Envoy {
    /// Starts an Envoy on a file whose listener and admin ports are these. `TOLLGATE_TEST_ENVOY` names another version than the newest.
    pub fn start(folder: &Path, file: &str, port: u16, admin_port: u16) -> Self {
        Self::start_version(asked().as_deref(), folder, file, port, admin_port)
    }

    /// The same with one version; none: the newest.
    pub fn start_version(version: Option<&str>, folder: &Path, file: &str, port: u16, admin_port: u16) -> Self {
        let mut command = Command::new(binary(version));
        command.args(["-c", file, "--concurrency", "1", "--log-level", "warn", "--disable-hot-restart"]);
        command.args(["--file-flush-interval-msec", "20", "--drain-time-s", "1"]);
        let process = Process::start("envoy", command, folder).ready(|| TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { process, port, admin_port }
    }

    pub fn client(&self) -> Client {
        Client::new(self.port)
    }

    /// One counter or gauge by its full name.
    ///
    /// # Panics
    /// When Envoy knows none of that name.
    pub fn statistic(&self, name: &str) -> u64 {
        let reply = Client::new(self.admin_port).get("/stats", &[]);
        let text = reply.text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_else(|| panic!("no statistic {name}")).trim().parse().expect("a number")
    }

    /// The access log so far, one JSON object a line.
    pub fn access_log(&self) -> Vec<serde_json::Value> {
        self.process.output().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}
