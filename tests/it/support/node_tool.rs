//! Servers that are written for Node.js: their packages are fetched once, by a script in `tests/tools`, and each test runs its own.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;
use serde_json::json;

use crate::support::folder::Folder;
use crate::support::http1::Client;
use crate::support::http1::message;
use crate::support::ports::free_port;
use crate::support::process::Process;

/// Node.js: the machine's own, or the one that `tests/tools/node.sh` fetched.
pub fn node() -> Command {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    let binary = BINARY.get_or_init(|| {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/tools/node.sh");
        let output = Command::new(script).output().expect("tests/tools/node.sh runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim()).join("node")
    });
    Command::new(binary)
}

/// A certified OpenID provider on a port of its own.
#[derive(Debug)]
pub struct Provider {
    pub port: u16,
    process: Process,
    _folder: Folder,
}

impl Provider {
    /// Starts one with these settings; see the head of `tests/tools/oidc/provider.mjs`.
    pub fn start(mut settings: Value) -> Self {
        let (port, folder) = (free_port(), Folder::new());
        settings["port"] = port.into();
        let mut command = node();
        command.arg(packages().join("provider.mjs")).arg(settings.to_string());
        let process = Process::start("provider", command, folder.path());
        let process = process.ready(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { port, process, _folder: folder }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Says what it is to do from now on.
    pub fn tell(&self, what: &Value) {
        let body = what.to_string();
        let reply = Client::new(self.port).raw(&message("POST", "/control", &self.host(), &[], body.as_bytes()));
        assert_eq!(reply.status, 200, "{}", reply.text());
    }

    /// What it was asked so far, and which tokens it issued.
    pub fn asked(&self) -> Value {
        Client::new(self.port).raw(&message("GET", "/control", &self.host(), &[("connection", "close")], b"")).json()
    }

    /// Makes its ID tokens honest again.
    pub fn be_honest(&self) {
        self.tell(&json!({ "token": {}, "algorithm": null, "redirect": {}, "delay": 0, "down": false }));
    }

    pub fn stop(&mut self) {
        self.process.kill();
    }

    fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// The folder with the packages; a machine without Node.js fails here, and says what to install.
fn packages() -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let fetch = || {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/oidc.sh");
        let output = Command::new(script).output().expect("the script runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
    };
    FOLDER.get_or_init(fetch).clone()
}
