//! Private Redis servers: each on a socket or a port of its own, in a temporary folder, ended with the value that stands for it.
//! The library's own tests include this file too, so it uses nothing but the standard library and `tempfile`.

use std::io::Read as _;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use tempfile::TempDir;

/// How long a server may take to come up.
const PATIENCE: Duration = Duration::from_secs(20);

/// One `redis-server` on a unix socket, without a port.
#[derive(Debug)]
pub struct RedisServer {
    child: Child,
    socket: PathBuf,
    _folder: TempDir,
}

impl RedisServer {
    /// Starts a server that keeps nothing.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more arguments, such as `["--maxmemory", "1mb"]`.
    pub fn start_with(arguments: &[&str]) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let socket = folder.path().join("redis.sock");
        let child = Command::new(binary())
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no", "--loglevel", "warning"])
            .args(["--unixsocket".as_ref(), socket.as_os_str(), "--dir".as_ref(), folder.path().as_os_str()])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server starts; `make setup` installs it");
        let server = Self { child, socket, _folder: folder };
        server.wait_until_up();
        server
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Sends one command in the inline form and gives what came back, raw.
    pub fn tell(&self, command: &str) -> String {
        let mut stream = UnixStream::connect(&self.socket).expect("the server's socket");
        stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).expect("the command is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the answer is text");
        answer.trim_end_matches("+OK\r\n").to_owned()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Freezes the process (SIGSTOP): it accepts and never answers.
    pub fn freeze(&self) {
        signal(self.child.id(), "STOP");
    }

    pub fn thaw(&self) {
        signal(self.child.id(), "CONT");
    }

    fn wait_until_up(&self) {
        let began = Instant::now();
        while UnixStream::connect(&self.socket).is_err() {
            assert!(began.elapsed() < PATIENCE, "redis-server did not come up");
            std::thread::yield_now();
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn binary() -> PathBuf {
    PathBuf::from("redis-server")
}

fn signal(pid: u32, name: &str) {
    let done = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().expect("kill runs");
    assert!(done.success());
}
