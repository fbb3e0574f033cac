//! A raw HTTP/1.1 client: what it is given goes out byte for byte.

use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

/// What came back.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    /// Names in lower case, in the order of the wire.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn headers(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }

    /// A header that must be there.
    pub fn need(&self, name: &str) -> &str {
        self.header(name).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    /// A header that must be there and be a number.
    pub fn number(&self, name: &str) -> u64 {
        let value = self.need(name);
        value.parse().unwrap_or_else(|_| panic!("{name}: {value} is not a number"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}: {}", self.status, self.text()))
    }

    /// What the echoing upstream says it received under a header name.
    pub fn upstream_header(&self, name: &str) -> Option<String> {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()["headers"].get(name).map(|value| value.as_str().expect("text").to_owned())
    }
}

/// A client of one port that opens a connection for each request.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    port: u16,
}

impl Client {
    pub fn new(port: u16) -> Self {
        Self { port }
    }

    pub fn get(self, target: &str, headers: &[(&str, &str)]) -> Reply {
        self.send("GET", target, headers, "")
    }

    pub fn send(self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        self.raw(&message(method, target, "api.example.com", headers, body.as_bytes()))
    }

    /// A GET with a bearer credential.
    pub fn bearer(self, target: &str, credential: &str) -> Reply {
        self.get(target, &[("authorization", &format!("Bearer {credential}"))])
    }

    /// Sends bytes as they are and reads one reply.
    pub fn raw(self, bytes: &[u8]) -> Reply {
        let mut connection = Connection::open(self.port).expect("the port is open");
        connection.exchange(bytes).unwrap_or_else(|error| panic!("{error} for {}", String::from_utf8_lossy(bytes)))
    }
}

/// One request as bytes.
pub fn message(method: &str, target: &str, host: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    if !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH") {
        bytes.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// A connection that is kept.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub fn open(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    pub fn exchange(&mut self, bytes: &[u8]) -> io::Result<Reply> {
        self.stream.get_mut().write_all(bytes)?;
        self.read(bytes.starts_with(b"HEAD "))
    }

    fn read(&mut self, bodiless: bool) -> io::Result<Reply> {
        let status = loop {
            let line = self.line()?;
            let code = line.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok()).ok_or_else(|| odd(&line))?;
            if code != 100 {
                break code;
            }
            while !self.line()?.is_empty() {}
        };
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| odd(&line))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut reply = Reply { status, headers, body: Vec::new() };
        if bodiless || status == 204 || status == 304 {
            return Ok(reply);
        }
        if let Some(length) = reply.header("content-length") {
            let length = length.parse().map_err(|_| odd("content-length"))?;
            reply.body = vec![0; length];
            self.stream.read_exact(&mut reply.body)?;
        } else if reply.header("transfer-encoding").is_some() {
            reply.body = self.chunks()?;
        } else {
            self.stream.read_to_end(&mut reply.body)?;
        }
        Ok(reply)
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let length = usize::from_str_radix(&line, 16).map_err(|_| odd(&line))?;
            let mut chunk = vec![0; length];
            self.stream.read_exact(&mut chunk)?;
            body.extend_from_slice(&chunk);
            self.line()?;
            if length == 0 {
                return Ok(body);
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        if self.stream.read_until(b'\n', &mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned())
    }
}

fn odd(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP: {what:?}"))
}
