//! HTTP/2 frames by hand, for a peer that does not keep to the rules.

use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

pub const HEADERS: u8 = 1;
pub const RESET: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const DATA: u8 = 0;

pub const END_HEADERS: u8 = 4;

/// A connection after the preface.
#[derive(Debug)]
pub struct Peer {
    stream: UnixStream,
}

impl Peer {
    pub fn connect(path: &Path) -> io::Result<Self> {
        let mut stream = UnixStream::connect(path)?;
        stream.set_write_timeout(Some(Duration::from_millis(500)))?;
        stream.set_read_timeout(Some(Duration::from_millis(200)))?;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
        stream.write_all(&frame(SETTINGS, 0, 0, b""))?;
        Ok(Self { stream })
    }

    /// Sends what it can; false when the server has had enough.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Reads until the server closes or falls silent; true when it closed.
    pub fn is_closed(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        for _ in 0..10_000 {
            match self.stream.read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == io::ErrorKind::ConnectionReset,
            }
        }
        false
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// The head of a check, in HPACK without compression.
pub fn check_head() -> Vec<u8> {
    let path = b"/envoy.service.auth.v3.Authorization/Check";
    // `:method: POST` and `:scheme: http` are entries of the static table; the rest is spelled out.
    let mut head = vec![0x83, 0x86, 0x04, u8::try_from(path.len()).expect("short")];
    head.extend_from_slice(path);
    head.extend_from_slice(b"\x01\x01a");
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")] {
        head.extend_from_slice(&literal(name, value.as_bytes()));
    }
    head
}

/// A header that enters no table.
pub fn literal(name: &str, value: &[u8]) -> Vec<u8> {
    assert!(name.len() < 127 && value.len() < 127, "only short headers are written");
    let length = |text: &[u8]| u8::try_from(text.len()).expect("short");
    [&[0, length(name.as_bytes())], name.as_bytes(), &[length(value)], value].concat()
}
