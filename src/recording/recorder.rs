//! The writer of records: a thread of its own behind a bounded queue. A slow disk costs records, which are counted, and never a check.

use std::fs::File;
use std::fs::Permissions;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::TryRecvError;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use prometheus::IntCounter;

use crate::check::reasons::Reason;
use crate::model::caller::Caller;
use crate::model::request::Request;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;
use crate::recording::FORMAT;
use crate::recording::Record;
use crate::recording::RecordedCaller;
use crate::recording::Verdict;
use crate::recording::disguise::disguised;
use crate::secrets::Disguise;
use crate::telemetry::Metrics;
use crate::telemetry::decisions::rfc3339;
use crate::telemetry::share::Due;

/// Records that wait for the disk at the most.
const QUEUE_LENGTH: usize = 4_096;

/// What is recorded, and where.
#[derive(Clone, Debug)]
pub struct Options {
    pub file: PathBuf,
    /// 0.0 to 1.0.
    pub share: f64,
    /// A file of this size is put aside as `<file>.1`, in place of the one before.
    pub bytes_max: u64,
}

/// Where requests are offered. Dropping it lets the writer finish what waits and end.
#[derive(Debug)]
pub struct Recorder {
    queue: SyncSender<Record>,
    dropped: IntCounter,
    disguise: Disguise,
    share: f64,
    sampled: Due,
}

/// The writer's thread, to be waited for at the end.
#[derive(Debug)]
pub struct Writer(JoinHandle<()>);

impl Writer {
    /// Blocks until every queued record is written; the recorder's last handle must be gone.
    pub fn finish(self) {
        // A writer that panicked has nothing left to write.
        let _ = self.0.join();
    }
}

impl Recorder {
    /// Opens the file and starts the writer.
    ///
    /// # Errors
    /// When the file cannot be written to, or the system refuses a thread.
    pub fn start(options: Options, disguise: Disguise, metrics: &Metrics) -> io::Result<(Arc<Self>, Writer)> {
        let share = options.share;
        let tape = Tape::open(options)?;
        let dropped = metrics.log_events_dropped.with_label_values(&["records"]);
        let lost = dropped.clone();
        let (queue, waiting) = sync_channel(QUEUE_LENGTH);
        let thread = std::thread::Builder::new().name(String::from("recorder")).spawn(move || write_all(tape, &waiting, &lost))?;
        Ok((Arc::new(Self { queue, dropped, disguise, share, sampled: Due::default() }), Writer(thread)))
    }

    /// Whether this request is to be recorded.
    pub fn is_due(&self) -> bool {
        self.sampled.is_next(self.share)
    }

    /// Writes down how a request ended. Never waits.
    pub fn offer(&self, request: &Request<'_>, caller: Option<&Caller>, verdict: (Reason, Option<&str>), rules: &Rules, at: Timestamp) {
        let caller = caller.map(|caller| {
            let in_file = caller.key.as_ref().is_some_and(|key| rules.file_keys.contains_key(key.as_str()));
            RecordedCaller::of(caller, in_file)
        });
        let (reason, route) = verdict;
        let record = Record {
            v: FORMAT,
            ts: rfc3339(at),
            share: (self.share < 1.0).then_some(self.share),
            request: disguised(request, rules, &self.disguise),
            verdict: Verdict::new(reason, route, &rules.revision),
            caller,
        };
        if self.queue.try_send(record).is_err() {
            self.dropped.inc();
        }
    }
}

/// The file that is written to now.
#[derive(Debug)]
struct Tape {
    options: Options,
    out: io::BufWriter<File>,
    bytes: u64,
}

impl Tape {
    fn open(options: Options) -> io::Result<Self> {
        let file = open(&options.file)?;
        let bytes = file.metadata()?.len();
        Ok(Self { options, out: io::BufWriter::with_capacity(64 * 1024, file), bytes })
    }

    fn write(&mut self, record: &Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if self.bytes > 0 && self.bytes.saturating_add(length) > self.options.bytes_max {
            self.turn()?;
        }
        self.out.write_all(&line)?;
        self.bytes = self.bytes.saturating_add(length);
        Ok(())
    }

    fn turn(&mut self) -> io::Result<()> {
        self.out.flush()?;
        let file = &self.options.file;
        // While there is no next file, this one goes on being ours.
        let next = beside(file, ".next");
        let opened = open(&next)?;
        match std::fs::rename(file, beside(file, ".1")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        std::fs::rename(&next, file)?;
        self.bytes = opened.metadata()?.len();
        self.out = io::BufWriter::with_capacity(64 * 1024, opened);
        Ok(())
    }
}

/// Only we read what is recorded.
fn open(path: &Path) -> io::Result<File> {
    let file = File::options().create(true).append(true).mode(0o600).open(path)?;
    let found = file.metadata()?;
    if found.is_file() && found.mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn write_all(mut tape: Tape, waiting: &Receiver<Record>, lost: &IntCounter) {
    let mut is_told = false;
    loop {
        let next = match waiting.try_recv() {
            Ok(record) => Some(record),
            Err(TryRecvError::Empty) => {
                // Whoever looks sees records as soon as the queue is empty.
                let _ = tape.out.flush();
                waiting.recv().ok()
            }
            Err(TryRecvError::Disconnected) => None,
        };
        let Some(record) = next else {
            let _ = tape.out.flush();
            return;
        };
        // A disk that is full is no reason to stop judging.
        if let Err(error) = tape.write(&record) {
            lost.inc();
            if !std::mem::replace(&mut is_told, true) {
                tracing::warn!(file = %tape.options.file.display(), %error, "records cannot be written or put aside; they are dropped and counted");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::asked::Asked;
    use crate::secrets::Pepper;
    use crate::secrets::Peppers;

    fn record() -> Record {
        let request: Asked =
            serde_json::from_str(r#"{"attributes":{"request":{"http":{"method":"GET","host":"h","path":"/a"}}}}"#).unwrap();
        Record { v: FORMAT, ts: String::new(), share: None, request, verdict: Verdict::new(Reason::Ok, None, "r"), caller: None }
    }

    fn disguise() -> Disguise {
        Peppers::new(Pepper { id: "p".into(), secret: vec![1; 32].into() }, Vec::new()).disguise()
    }

    #[test]
    fn a_full_file_is_put_aside_and_never_exceeded() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("records");
        let length = u64::try_from(serde_json::to_vec(&record()).unwrap().len()).unwrap() + 1;
        let mut tape = Tape::open(Options { file: file.clone(), share: 1.0, bytes_max: length * 3 }).unwrap();
        for _ in 0..8 {
            tape.write(&record()).unwrap();
        }
        tape.out.flush().unwrap();
        let lines = |path: &Path| std::fs::read_to_string(path).unwrap().lines().count();
        assert_eq!((lines(&file), lines(&beside(&file, ".1"))), (2, 3));
        drop(tape);
        // What is there already counts.
        let mut again = Tape::open(Options { file: file.clone(), share: 1.0, bytes_max: length * 3 }).unwrap();
        again.write(&record()).unwrap();
        again.write(&record()).unwrap();
        again.out.flush().unwrap();
        assert_eq!((lines(&file), lines(&beside(&file, ".1"))), (1, 3));
    }

    #[test]
    fn only_we_read_a_file_that_was_there_before() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("records");
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        let _tape = Tape::open(Options { file: file.clone(), share: 1.0, bytes_max: 1 }).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_cannot_be_followed_by_another_stays_and_is_put_aside_later() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("records");
        let mut tape = Tape::open(Options { file: file.clone(), share: 1.0, bytes_max: 1 }).unwrap();
        tape.write(&record()).unwrap();
        std::fs::create_dir(beside(&file, ".next")).unwrap();
        assert!(tape.write(&record()).is_err());
        assert!(file.exists() && !beside(&file, ".1").exists());
        std::fs::remove_dir(beside(&file, ".next")).unwrap();
        tape.write(&record()).unwrap();
        tape.out.flush().unwrap();
        let lines = |path: &Path| std::fs::read_to_string(path).unwrap().lines().count();
        assert_eq!((lines(&file), lines(&beside(&file, ".1"))), (1, 1));
    }

    #[test]
    fn a_share_is_exact() {
        let metrics = Metrics::new().unwrap();
        let folder = tempfile::tempdir().unwrap();
        for (share, expected) in [(0.0, 0), (0.25, 250), (0.1, 100), (1.0, 1000)] {
            let options = Options { file: folder.path().join("records"), share, bytes_max: 1 << 20 };
            let (recorder, _) = Recorder::start(options, disguise(), &metrics).unwrap();
            let due: usize = (0..1000).filter(|_| recorder.is_due()).count();
            assert!(due.abs_diff(expected) <= 1, "{share}: {due}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_is_told_at_the_start() {
        let metrics = Metrics::new().unwrap();
        let options = Options { file: "/proc/nowhere/records".into(), share: 1.0, bytes_max: 1 << 20 };
        assert!(Recorder::start(options, disguise(), &metrics).is_err());
    }
}
