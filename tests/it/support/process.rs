//! A child process that never outlives its owner.

use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Pid;
use rustix::process::Signal;

/// How long anything may take to come up or go down before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again until the answer is yes.
///
/// # Panics
/// After [`PATIENCE`], saying what was waited for.
pub fn wait_until(what: &str, mut met: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !met() {
        assert!(Instant::now() < deadline, "gave up waiting until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    standard_output: PathBuf,
    standard_error: PathBuf,
}

impl Process {
    /// Starts a program in a folder; `<name>.out` and `<name>.err` there take what it says.
    pub fn start(name: &str, mut command: Command, folder: &Path) -> Self {
        let standard_output = folder.join(format!("{name}.out"));
        let standard_error = folder.join(format!("{name}.err"));
        let open = |path: &Path| File::options().create(true).append(true).open(path).expect("a log file in the test's folder");
        let child = command
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(open(&standard_output))
            .stderr(open(&standard_error))
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { name: name.to_owned(), child, standard_output, standard_error }
    }

    /// Waits for readiness; an early end of the process is a failure that shows its last words.
    pub fn ready(mut self, mut met: impl FnMut() -> bool) -> Self {
        let deadline = Instant::now() + PATIENCE;
        while !met() {
            if let Some(status) = self.child.try_wait().expect("the child can be asked") {
                panic!("{} ended with {status} before it was ready:\n{}", self.name, self.last_words());
            }
            assert!(Instant::now() < deadline, "{} was not ready in time:\n{}", self.name, self.last_words());
            std::thread::sleep(Duration::from_millis(5));
        }
        self
    }

    /// Memory of its own that it holds now; pages of mapped files can be had back at any time.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a running process");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("its resident size");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// The processor's time that it has used so far.
    pub fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("a running process");
        // The name stands in brackets and may hold anything; user and system time are the 12th and 13th word after it.
        let words: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
        let ticks: u64 = words[11].parse::<u64>().expect("a number") + words[12].parse::<u64>().expect("a number");
        Duration::from_millis(ticks * 10)
    }

    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.standard_output).unwrap_or_default()).into_owned()
    }

    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.standard_error).unwrap_or_default()).into_owned()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the child can be asked").is_none()
    }

    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        rustix::process::kill_process(id, signal).unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// SIGTERM, then waits for the end.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// SIGKILL: no warning, no last words.
    pub fn kill(&mut self) {
        self.child.kill().expect("own child");
        self.child.wait().expect("own child");
    }

    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the child can be asked") {
                return status;
            }
            assert!(Instant::now() < deadline, "{} does not end:\n{}", self.name, self.last_words());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The end of what it said, short enough to be read in the report of a failed test.
    pub fn last_words(&self) -> String {
        let cut = |line: &str| line.chars().take(300).collect::<String>();
        let tail = |text: String| text.lines().rev().take(12).map(cut).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n");
        format!("{}\n{}", tail(self.output()), tail(self.errors()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            self.kill();
        }
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.name, self.last_words());
        }
    }
}
