//! One server.

use std::fs;
use std::fs::File;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::Signal;
use tempfile::TempDir;

use super::PATIENCE;
use super::wait_until;
use super::wire::Answer;
use super::wire::Place;
use super::wire::Talk;

/// Whose program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flavour {
    #[default]
    Redis,
    Valkey,
}

impl Flavour {
    /// What the scripts in `tests/tools` find or fetch.
    fn binary(self) -> &'static Path {
        static REDIS: OnceLock<PathBuf> = OnceLock::new();
        static VALKEY: OnceLock<PathBuf> = OnceLock::new();
        let (found, script) = match self {
            Self::Redis => (&REDIS, "redis.sh"),
            Self::Valkey => (&VALKEY, "valkey.sh"),
        };
        found.get_or_init(|| {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools").join(script);
            let output = Command::new(&script).output().expect("the script runs");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim())
        })
    }
}

/// A server before it starts.
#[derive(Clone, Debug, Default)]
pub struct ServerPlan {
    pub flavour: Flavour,
    /// Listens on a port of the loopback address, and not on its socket alone.
    pub over_tcp: bool,
    /// Beyond the usual ones; a later one overrides an earlier.
    pub arguments: Vec<String>,
    /// The text of a file that the server may rewrite, for a sentinel.
    pub(super) sentinel_file: Option<String>,
}

impl ServerPlan {
    pub fn tcp() -> Self {
        Self { over_tcp: true, ..Self::default() }
    }

    #[must_use]
    pub fn flavour(mut self, flavour: Flavour) -> Self {
        self.flavour = flavour;
        self
    }

    #[must_use]
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    pub fn start(self) -> RedisServer {
        let folder = TempDir::new().expect("a temporary folder");
        if let Some(text) = &self.sentinel_file {
            fs::write(folder.path().join(SENTINEL_FILE), text).expect("a file in the server's folder");
        }
        let port = if self.over_tcp { free_port() } else { 0 };
        let socket = folder.path().join("redis.sock");
        let child = spawn(&self, port, folder.path());
        let mut server = RedisServer { child, socket, port, plan: self, folder };
        server.wait_until_up();
        server
    }
}

/// A copy of everything that a server held.
#[derive(Clone, Debug)]
pub struct Snapshot(Vec<u8>);

/// After so long a server counts as one that does not answer.
const HASTE: Duration = Duration::from_secs(1);
const SENTINEL_FILE: &str = "sentinel.conf";
const SNAPSHOT_FILE: &str = "dump.rdb";

/// One running server. It keeps nothing through a kill unless its arguments say so.
#[derive(Debug)]
pub struct RedisServer {
    child: Child,
    socket: PathBuf,
    port: u16,
    plan: ServerPlan,
    folder: TempDir,
}

impl RedisServer {
    /// Starts a server on a Unix socket that keeps nothing.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more arguments, such as `["--maxmemory", "1mb"]`.
    pub fn start_with(arguments: &[&str]) -> Self {
        ServerPlan::default().with(arguments).start()
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// # Panics
    /// For a server that has no port.
    pub fn port(&self) -> u16 {
        assert!(self.plan.over_tcp, "this server has only a socket");
        self.port
    }

    /// Its port where it has one, else its socket.
    pub fn place(&self) -> Place {
        if self.plan.over_tcp { Place::Tcp(self.port) } else { Place::Unix(self.socket.clone()) }
    }

    /// Sends one command in the inline form and gives what came back, raw.
    pub fn tell(&self, command: &str) -> String {
        let mut stream = UnixStream::connect(&self.socket).expect("the server's socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).expect("the command is sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("the server answers");
        String::from_utf8_lossy(&answer).trim_end_matches("+OK\r\n").to_owned()
    }

    /// Sends one command and gives what came back.
    pub fn ask<W: AsRef<[u8]>>(&self, words: &[W]) -> Answer {
        self.try_ask(words).expect("the server answers")
    }

    /// # Errors
    /// When the server is down or does not answer for long.
    pub fn try_ask<W: AsRef<[u8]>>(&self, words: &[W]) -> std::io::Result<Answer> {
        Talk::open(&self.place(), PATIENCE)?.ask(words)
    }

    /// One field of INFO; none from a server that is down, frozen or without such a field.
    pub fn info(&self, field: &str) -> Option<String> {
        let text = Talk::open(&self.place(), HASTE).and_then(|mut talk| talk.ask(&["INFO", "everything"])).ok()?.text();
        let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
        Some(value.trim().to_owned())
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Freezes the process (SIGSTOP): it accepts and never answers.
    pub fn freeze(&self) {
        signal(&self.child, Signal::STOP);
    }

    pub fn thaw(&self) {
        signal(&self.child, Signal::CONT);
    }

    /// SIGKILL: nothing is saved. A server that is down already stays so.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("own child").is_none()
    }

    /// Starts it again, on what it saved; a running one is killed first.
    pub fn restart(&mut self) {
        self.kill();
        self.child = spawn(&self.plan, self.port, self.folder.path());
        self.wait_until_up();
    }

    /// The same with other arguments, from now on.
    pub fn restart_with(&mut self, arguments: &[&str]) {
        self.plan.arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        self.restart();
    }

    /// Begins to follow another server, which must listen on TCP.
    pub fn follow(&self, primary: &Self) {
        let answer = self.ask(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]);
        assert_eq!(answer, Answer::Bytes(b"OK".to_vec()));
        wait_until("the replica is in step", || self.info("master_link_status").as_deref() == Some("up"));
    }

    /// A backup of everything.
    pub fn snapshot(&self) -> Snapshot {
        assert_eq!(self.ask(&["SAVE"]), Answer::Bytes(b"OK".to_vec()));
        Snapshot(fs::read(self.folder.path().join(SNAPSHOT_FILE)).expect("the server's backup"))
    }

    /// Sets the server back to a backup, as an operator would: it is stopped and started on that file.
    pub fn restore(&mut self, snapshot: &Snapshot) {
        self.kill();
        let _ = fs::remove_dir_all(self.folder.path().join("appendonlydir"));
        fs::write(self.folder.path().join(SNAPSHOT_FILE), &snapshot.0).expect("a file in the server's folder");
        let arguments = self.plan.arguments.clone();
        self.plan.arguments.extend(["--appendonly", "no"].map(str::to_owned));
        self.restart();
        if arguments.windows(2).any(|pair| pair[0] == "--appendonly" && pair[1] == "yes") {
            self.ask(&["CONFIG", "SET", "appendonly", "yes"]);
            wait_until("the log of writes is there", || self.info("aof_rewrite_in_progress").as_deref() == Some("0"));
        }
        self.plan.arguments = arguments;
    }

    /// What it said.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.path().join("log")).unwrap_or_default()).into_owned()
    }

    /// Its folder, with what it saves.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn wait_until_up(&mut self) {
        let place = self.place();
        let began = std::time::Instant::now();
        loop {
            // A server that reads its backup answers LOADING, and one that wants a password NOAUTH: that is up.
            let answer = Talk::open(&place, PATIENCE).and_then(|mut talk| talk.ask(&["PING"]));
            if answer.is_ok_and(|answer| !matches!(&answer, Answer::Error(text) if text.starts_with("LOADING"))) {
                return;
            }
            assert!(self.is_running(), "the server ended at once: {}", self.log());
            assert!(began.elapsed() < PATIENCE, "the server did not come up: {}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(plan: &ServerPlan, port: u16, folder: &Path) -> Child {
    let log = File::options().create(true).append(true).open(folder.join("log")).expect("a file in the server's folder");
    let mut command = Command::new(plan.flavour.binary());
    let port = port.to_string();
    match &plan.sentinel_file {
        Some(_) => command.args([SENTINEL_FILE, "--sentinel", "--port", &port]),
        None => command
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--unixsocket", "redis.sock"])
            .args(["--daemonize", "no", "--repl-diskless-sync-delay", "0", "--loglevel", "notice"]),
    };
    command.args(&plan.arguments).current_dir(folder).stdin(Stdio::null()).stdout(log).stderr(Stdio::null());
    command.spawn().expect("the server starts; `make setup` says what is missing")
}

fn signal(child: &Child, signal: Signal) {
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id");
    rustix::process::kill_process(id, signal).expect("own child");
}

/// A loopback port on which nobody listens, never handed out twice by this process. Below the range of outgoing connections, and above
/// the one from which the acceptance tests take the ports of everything else.
pub(super) fn free_port() -> u16 {
    const FIRST: u16 = 30_000;
    const COUNT: u16 = 2_700;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 27).expect("below 27") * 100;
    for _ in 0..COUNT {
        let port = FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port from {FIRST} to {}", FIRST + COUNT)
}
