//! The way to a server, with faults that can be switched while it runs.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use tempfile::TempDir;

use super::wire::Place;
use super::wire::Stream;
use super::wire::command_name;
use super::wire::whole_value;

/// What becomes of what passes by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Pass,
    /// Each answer comes so much later.
    Delay(Duration),
    /// Connections are taken and nothing ever moves, in either direction, until the mode changes.
    BlackHole,
    /// The server gets a script, runs it and answers, and in place of that answer the connection ends; each time that so many scripts
    /// have passed.
    CutReplies { every: u64 },
    /// Every request is answered with this error, such as `LOADING it is reading its backup`; the server hears nothing.
    Answer(String),
    /// Scripts alone are answered so.
    AnswerScripts(String),
    /// Connections end as soon as they begin, and those that were there too.
    Refuse,
}

/// A listener that passes everything on to a server.
#[derive(Debug)]
pub struct FaultyProxy {
    place: Place,
    state: Arc<State>,
    acceptor: Option<JoinHandle<()>>,
    _folder: Option<TempDir>,
}

#[derive(Debug, Default)]
struct State {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    mode: Mode,
    connections: Vec<Stream>,
    upstream: Option<Place>,
    accepted: u64,
    scripts: u64,
    cut: u64,
    loses_messages: bool,
    is_over: bool,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no panic while held")
    }

    /// The mode, once it lets anything move; none when the proxy is over.
    fn mode_that_moves(&self) -> Option<Mode> {
        let mut inner = self.lock();
        while inner.mode == Mode::BlackHole && !inner.is_over {
            inner = self.changed.wait(inner).expect("no panic while held");
        }
        (!inner.is_over).then(|| inner.mode.clone())
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl FaultyProxy {
    /// Listens on a port of its own.
    pub fn tcp(upstream: Place) -> Self {
        // Between the choice and the binding another process may come.
        let bound = || {
            let port = super::server::free_port();
            TcpListener::bind(("127.0.0.1", port)).ok().map(|listener| (port, listener))
        };
        let (port, listener) = std::iter::repeat_with(bound).take(100).flatten().next().expect("a port");
        Self::start(Place::Tcp(port), Listener::Tcp(listener), upstream, None)
    }

    /// Listens on a socket in a folder of its own.
    pub fn unix(upstream: Place) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let path = folder.path().join("proxy.sock");
        let listener = UnixListener::bind(&path).expect("a socket");
        Self::start(Place::Unix(path), Listener::Unix(listener), upstream, Some(folder))
    }

    fn start(place: Place, listener: Listener, upstream: Place, folder: Option<TempDir>) -> Self {
        let state = Arc::new(State::default());
        state.lock().upstream = Some(upstream);
        let inside = Arc::clone(&state);
        let acceptor = std::thread::spawn(move || accept(&listener, &inside));
        Self { place, state, acceptor: Some(acceptor), _folder: folder }
    }

    pub fn place(&self) -> Place {
        self.place.clone()
    }

    /// # Panics
    /// For a proxy on a socket.
    pub fn port(&self) -> u16 {
        match &self.place {
            Place::Tcp(port) => *port,
            Place::Unix(path) => panic!("a proxy on {}", path.display()),
        }
    }

    /// # Panics
    /// For a proxy on a port.
    pub fn socket(&self) -> &Path {
        match &self.place {
            Place::Unix(path) => path,
            Place::Tcp(port) => panic!("a proxy on port {port}"),
        }
    }

    /// Switches what becomes of everything from now on.
    pub fn set(&self, mode: Mode) {
        let is_refusing = mode == Mode::Refuse;
        self.state.lock().mode = mode;
        self.state.changed.notify_all();
        if is_refusing {
            self.cut();
        }
    }

    /// Whether what is published reaches nobody from now on.
    pub fn lose_messages(&self, lose: bool) {
        self.state.lock().loses_messages = lose;
    }

    /// New connections go to another server; those that are there stay.
    pub fn lead_to(&self, upstream: Place) {
        self.state.lock().upstream = Some(upstream);
    }

    /// Ends the connections that are there.
    pub fn cut(&self) {
        for connection in self.state.lock().connections.drain(..) {
            connection.cut();
        }
    }

    /// How many connections came in so far.
    pub fn accepted(&self) -> u64 {
        self.state.lock().accepted
    }

    /// How many scripts were asked for so far.
    pub fn scripts(&self) -> u64 {
        self.state.lock().scripts
    }

    /// How many answers were cut off so far.
    pub fn replies_cut(&self) -> u64 {
        self.state.lock().cut
    }
}

impl Drop for FaultyProxy {
    fn drop(&mut self) {
        self.state.lock().is_over = true;
        self.state.changed.notify_all();
        self.cut();
        // Wakes the acceptor, which then sees that it is over.
        drop(Stream::connect(&self.place));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
    }
}

fn accept(listener: &Listener, state: &Arc<State>) {
    loop {
        let accepted = match listener {
            Listener::Tcp(listener) => listener.accept().and_then(|(stream, _)| stream.set_nodelay(true).map(|()| Stream::Tcp(stream))),
            Listener::Unix(listener) => listener.accept().map(|(stream, _)| Stream::Unix(stream)),
        };
        let mut inner = state.lock();
        if inner.is_over {
            return;
        }
        inner.accepted += 1;
        let (Ok(client), false) = (accepted, inner.mode == Mode::Refuse) else {
            continue;
        };
        if let Ok(known) = client.second() {
            inner.connections.push(known);
        }
        drop(inner);
        let state = Arc::clone(state);
        std::thread::spawn(move || {
            let _ = carry(&client, &state);
            client.cut();
        });
    }
}

/// What the two directions of a connection tell each other.
#[derive(Debug, Default)]
struct Ledger {
    counts: Mutex<Outstanding>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Outstanding {
    /// Commands that the server has and has not answered.
    answers: u64,
    /// The answer with so many behind it is the one to cut at.
    cut_at: Option<u64>,
    /// It subscribed: what comes is no longer one answer for each command.
    is_subscribed: bool,
    is_over: bool,
}

fn carry(client: &Stream, state: &Arc<State>) -> io::Result<()> {
    // A black hole swallows the connection before the server hears of it.
    if state.mode_that_moves().is_none() {
        return Ok(());
    }
    let place = state.lock().upstream.clone();
    let server = Stream::connect(&place.ok_or(io::ErrorKind::NotFound)?)?;
    state.lock().connections.push(server.second()?);
    let ledger = Arc::new(Ledger::default());
    let (sender, receiver) = mpsc::channel();
    let back = {
        let (mut server, state, ledger, sender) = (server.second()?, Arc::clone(state), Arc::clone(&ledger), sender.clone());
        std::thread::spawn(move || {
            let _ = carry_back(&mut server, &state, &ledger, &sender);
            let mut counts = ledger.counts.lock().expect("no panic while held");
            counts.is_over = true;
            drop(counts);
            ledger.changed.notify_all();
            server.cut();
        })
    };
    let writer = {
        let mut client = client.second()?;
        std::thread::spawn(move || {
            for (due, bytes) in receiver {
                let due: Instant = due;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                let bytes: Vec<u8> = bytes;
                if bytes.is_empty() || client.write_all(&bytes).is_err() {
                    break;
                }
            }
            client.cut();
        })
    };
    let _ = carry_on(client, &server, state, &ledger, &sender);
    server.cut();
    client.cut();
    drop(sender);
    drop((back.join(), writer.join()));
    Ok(())
}

/// From the client to the server, one command after the other.
fn carry_on(
    client: &Stream,
    server: &Stream,
    state: &State,
    ledger: &Ledger,
    answers: &mpsc::Sender<(Instant, Vec<u8>)>,
) -> io::Result<()> {
    let (mut client, mut server) = (client.second()?, server.second()?);
    let mut waiting = Vec::new();
    while read_more(&mut client, &mut waiting)? {
        while let Some(length) = whole_value(&waiting) {
            let command: Vec<u8> = waiting.drain(..length).collect();
            let name = command_name(&command);
            let is_script = matches!(name.as_str(), "EVAL" | "EVALSHA" | "FCALL");
            let mode = state.mode_that_moves().ok_or(io::ErrorKind::Interrupted)?;
            let line = match &mode {
                Mode::Answer(line) => Some(line),
                Mode::AnswerScripts(line) => is_script.then_some(line),
                Mode::Pass | Mode::Delay(_) | Mode::BlackHole | Mode::CutReplies { .. } | Mode::Refuse => None,
            };
            let number = {
                let mut inner = state.lock();
                inner.scripts += u64::from(is_script);
                inner.scripts
            };
            let mut counts = ledger.counts.lock().expect("no panic while held");
            if let Some(line) = line {
                // What was asked before is answered before.
                while counts.answers > 0 && !counts.is_subscribed && !counts.is_over {
                    counts = ledger.changed.wait(counts).expect("no panic while held");
                }
                let _ = answers.send((Instant::now(), format!("-{line}\r\n").into_bytes()));
                continue;
            }
            counts.answers += 1;
            counts.is_subscribed |= matches!(name.as_str(), "SUBSCRIBE" | "PSUBSCRIBE" | "SSUBSCRIBE" | "MONITOR");
            if let Mode::CutReplies { every } = mode
                && is_script
                && counts.cut_at.is_none()
                && number % every.max(1) == 0
            {
                counts.cut_at = Some(counts.answers);
            }
            drop(counts);
            server.write_all(&command)?;
        }
    }
    Ok(())
}

/// From the server to the client, one answer after the other.
fn carry_back(server: &mut Stream, state: &State, ledger: &Ledger, answers: &mpsc::Sender<(Instant, Vec<u8>)>) -> io::Result<()> {
    let mut waiting = Vec::new();
    while read_more(server, &mut waiting)? {
        let came = Instant::now();
        while let Some(length) = whole_value(&waiting) {
            let answer: Vec<u8> = waiting.drain(..length).collect();
            let mode = state.mode_that_moves().ok_or(io::ErrorKind::Interrupted)?;
            let mut counts = ledger.counts.lock().expect("no panic while held");
            if !counts.is_subscribed && answer.first() != Some(&b'>') {
                counts.answers = counts.answers.saturating_sub(1);
                let left = counts.cut_at.map(|left| left.saturating_sub(1));
                counts.cut_at = left;
                if left == Some(0) {
                    drop(counts);
                    state.lock().cut += 1;
                    let _ = answers.send((came, Vec::new()));
                    return Ok(());
                }
            }
            drop(counts);
            if is_message(&answer) && state.lock().loses_messages {
                continue;
            }
            let due = if let Mode::Delay(delay) = mode { came + delay } else { came };
            let _ = answers.send((due, answer));
            // Only now may an answer of our own follow.
            ledger.changed.notify_all();
        }
    }
    Ok(())
}

/// Something published, in either version of the protocol.
fn is_message(answer: &[u8]) -> bool {
    let mut lines = answer.split(|byte| *byte == b'\n');
    let is_list = lines.next().is_some_and(|head| head.starts_with(b"*") || head.starts_with(b">"));
    is_list && lines.nth(1).is_some_and(|kind| matches!(kind, b"message\r" | b"pmessage\r" | b"smessage\r"))
}

fn read_more(from: &mut Stream, into: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 16 * 1024];
    let length = from.read(&mut buffer)?;
    into.extend_from_slice(&buffer[..length]);
    Ok(length > 0)
}
