//! The servers' protocol, as far as tests need it.

use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// Where a server or a proxy listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// On the loopback address.
    Tcp(u16),
    Unix(PathBuf),
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A status or a value.
    Bytes(Vec<u8>),
    Number(i64),
    Error(String),
    Nothing,
    List(Vec<Answer>),
}

impl Answer {
    /// # Panics
    /// For a number, a list, nothing or an error.
    pub fn text(&self) -> String {
        let Self::Bytes(bytes) = self else { panic!("no text: {self:?}") };
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// # Panics
    /// For anything else.
    pub fn number(&self) -> i64 {
        let Self::Number(number) = self else { panic!("no number: {self:?}") };
        *number
    }

    /// # Panics
    /// For anything else.
    pub fn list(self) -> Vec<Self> {
        let Self::List(list) = self else { panic!("no list: {self:?}") };
        list
    }

    /// The texts of a list.
    pub fn texts(self) -> Vec<String> {
        self.list().iter().map(Self::text).collect()
    }
}

/// A connection over either kind of socket.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    pub fn connect(place: &Place) -> io::Result<Self> {
        match place {
            Place::Tcp(port) => {
                let stream = TcpStream::connect(("127.0.0.1", *port))?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
            Place::Unix(path) => UnixStream::connect(path).map(Self::Unix),
        }
    }

    pub fn second(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(stream) => stream.try_clone().map(Self::Tcp),
            Self::Unix(stream) => stream.try_clone().map(Self::Unix),
        }
    }

    pub fn limit(&self, patience: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(Some(patience)),
            Self::Unix(stream) => stream.set_read_timeout(Some(patience)),
        }
    }

    pub fn cut(&self) {
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(into),
            Self::Unix(stream) => stream.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A client with one connection.
#[derive(Debug)]
pub struct Talk {
    stream: BufReader<Stream>,
}

impl Talk {
    pub fn open(place: &Place, patience: Duration) -> io::Result<Self> {
        let stream = Stream::connect(place)?;
        stream.limit(patience)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    pub fn ask<W: AsRef<[u8]>>(&mut self, words: &[W]) -> io::Result<Answer> {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words.iter().map(AsRef::as_ref) {
            bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&bytes)?;
        self.answer()
    }

    fn answer(&mut self) -> io::Result<Answer> {
        let mut line = Vec::new();
        if self.stream.read_until(b'\n', &mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        let rest = line.get(1..).unwrap_or_default();
        let count = rest.parse::<i64>();
        Ok(match (line.as_bytes().first(), count) {
            (Some(b'+'), _) => Answer::Bytes(rest.as_bytes().to_vec()),
            (Some(b'-'), _) => Answer::Error(rest.to_owned()),
            (Some(b':'), Ok(number)) => Answer::Number(number),
            (Some(b'$' | b'*'), Ok(-1)) => Answer::Nothing,
            (Some(b'$'), Ok(length)) => {
                let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)? + 2];
                self.stream.read_exact(&mut bytes)?;
                bytes.truncate(bytes.len() - 2);
                Answer::Bytes(bytes)
            }
            (Some(b'*'), Ok(length)) => Answer::List((0..length).map(|_| self.answer()).collect::<io::Result<_>>()?),
            _ => return Err(io::Error::other(format!("not the protocol: {line}"))),
        })
    }
}

/// The length of the value that these bytes begin with; none while it is not whole.
pub fn whole_value(bytes: &[u8]) -> Option<usize> {
    let head = bytes.iter().position(|byte| *byte == b'\n')? + 1;
    let count = || std::str::from_utf8(&bytes[1..head]).ok()?.trim_end().parse::<i64>().ok();
    let members = match bytes[0] {
        b'$' | b'!' | b'=' => {
            let length = usize::try_from(count()?).map_or(0, |length| length + 2);
            return (bytes.len() >= head + length).then_some(head + length);
        }
        b'*' | b'~' | b'>' => count()?.max(0),
        b'%' => count()?.max(0) * 2,
        b'|' => count()?.max(0) * 2 + 1,
        _ => 0,
    };
    (0..members).try_fold(head, |at, _| Some(at + whole_value(bytes.get(at..)?)?))
}

/// The first word of a command, in upper case.
pub fn command_name(command: &[u8]) -> String {
    let mut lines = command.split(|byte| *byte == b'\n');
    let name = if command.starts_with(b"*") { lines.nth(2) } else { lines.next() };
    String::from_utf8_lossy(name.unwrap_or_default()).split_whitespace().next().unwrap_or_default().to_ascii_uppercase()
}
