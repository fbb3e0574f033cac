//! The program itself, as a process and as a command.

use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::time::Duration;

use serde_json::Value;

use crate::support::http1::Client;
use crate::support::http1::Reply;
use crate::support::process::Process;

/// Where the check listener is to be reached.
#[derive(Clone, Debug)]
pub enum CheckAt {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

impl CheckAt {
    pub fn accepts(&self) -> bool {
        match self {
            Self::Unix(path) => UnixStream::connect(path).is_ok(),
            Self::Tcp(address) => TcpStream::connect(address).is_ok(),
        }
    }
}

/// A running `tollgate serve`.
#[derive(Debug)]
pub struct Tollgate {
    pub process: Process,
    pub check: CheckAt,
    pub ops_port: u16,
    folder: PathBuf,
    file: String,
}

impl Tollgate {
    /// Starts it on `<folder>/<file>` and waits until it takes checks and calls itself ready.
    pub fn start(folder: &Path, file: &str, check: CheckAt, ops_port: u16) -> Self {
        Self::start_with(folder, file, check, ops_port, None)
    }

    /// The same, with so many descriptors at the most.
    pub fn start_with(folder: &Path, file: &str, check: CheckAt, ops_port: u16, descriptors: Option<u32>) -> Self {
        Self::start_command(Self::command(file, descriptors), folder, file, check, ops_port)
    }

    /// The same by this command.
    pub fn start_command(command: Command, folder: &Path, file: &str, check: CheckAt, ops_port: u16) -> Self {
        let ready = || {
            check.accepts()
                && TcpStream::connect(("127.0.0.1", ops_port)).is_ok()
                && Client::new(ops_port).get("/readyz", &[]).status == 200
        };
        let process = Process::start("tollgate", command, folder).ready(ready);
        Self { process, check, ops_port, folder: folder.to_path_buf(), file: file.to_owned() }
    }

    /// Starts it and waits until it takes checks, whatever it thinks of itself.
    pub fn start_unready(folder: &Path, file: &str, check: CheckAt, ops_port: u16) -> Self {
        let listens = || check.accepts() && TcpStream::connect(("127.0.0.1", ops_port)).is_ok();
        let process = Process::start("tollgate", Self::command(file, None), folder).ready(listens);
        Self { process, check, ops_port, folder: folder.to_path_buf(), file: file.to_owned() }
    }

    fn command(file: &str, descriptors: Option<u32>) -> Command {
        let mut command = match descriptors {
            None => program(),
            Some(most) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -n {most} && exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_tollgate")]);
                shell
            }
        };
        command.args(["serve", "--config", file]);
        command
    }

    /// Starts it again after its end, on what it left.
    pub fn restart(&mut self) {
        *self = Self::start(&self.folder, &self.file, self.check.clone(), self.ops_port);
    }

    /// The same without waiting for more than that it takes checks.
    pub fn restart_unready(&mut self) {
        *self = Self::start_unready(&self.folder, &self.file, self.check.clone(), self.ops_port);
    }

    pub fn ops(&self, target: &str) -> Reply {
        Client::new(self.ops_port).get(target, &[])
    }

    /// The sum of a metric's series whose labels contain all of these texts; zero when there is none.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.ops("/metrics").text();
        let of_name = text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        let chosen = of_name.filter(|line| labels.iter().all(|label| line.contains(label)));
        chosen.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

/// Asks the control API on its socket; its status and body.
///
/// # Errors
/// When the socket is dead.
pub fn ask_control(socket: &Path, method: &str, target: &str, body: &Value) -> std::io::Result<(u16, Value)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let head = format!("{method} {target} HTTP/1.1\r\nhost: control\r\nconnection: close\r\ncontent-type: application/json\r\n");
    stream.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(std::io::ErrorKind::InvalidData)?;
    Ok((status, serde_json::from_str(body).unwrap_or(Value::Null)))
}

/// The binary that this build made.
pub fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tollgate"))
}

/// Runs a subcommand in a folder.
pub fn run(folder: &Path, arguments: &[&str]) -> Output {
    program().current_dir(folder).args(arguments).output().expect("the program runs")
}

/// Runs a subcommand that must succeed and takes what it prints as JSON.
pub fn run_json(folder: &Path, arguments: &[&str]) -> Value {
    let output = run(folder, arguments);
    assert!(output.status.success(), "tollgate {arguments:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)))
}
