//! The service behind Envoy: it answers with what it received, and remembers it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio::net::UnixListener;
use tokio::sync::oneshot;

/// A request as it arrived. Repeated headers stand joined by `, `, names in lower case.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// With the query.
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
    /// Names of the fields that came after the body.
    pub trailers: Vec<String>,
}

type Answer = dyn Fn(&Seen) -> (u16, String) + Send + Sync;

#[derive(Default)]
struct Memory {
    last: Mutex<Vec<Seen>>,
    count: AtomicU64,
}

/// An HTTP/1.1 server on a thread of its own; it ends with its owner.
pub struct Upstream {
    port: Option<u16>,
    memory: Arc<Memory>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Upstream({:?}, {} seen)", self.port, self.count())
    }
}

/// How many requests are remembered.
const REMEMBERED: usize = 64;

impl Upstream {
    /// Echoes on a loopback port.
    pub fn tcp() -> Self {
        Self::tcp_with(echo)
    }

    /// Answers on a loopback port with a status and a JSON body of the test's choice.
    pub fn tcp_with(answer: impl Fn(&Seen) -> (u16, String) + Send + Sync + 'static) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket option");
        let port = listener.local_addr().expect("bound").port();
        Self::start(Some(port), Arc::new(answer), move |memory, answer, stop| async move {
            let listener = TcpListener::from_std(listener).expect("inside a runtime");
            let accept = async {
                loop {
                    if let Ok((stream, _)) = listener.accept().await {
                        tokio::spawn(serve(stream, Arc::clone(&memory), Arc::clone(&answer)));
                    }
                }
            };
            tokio::select! { () = accept => {}, _ = stop => {} }
        })
    }

    /// Echoes on a Unix socket.
    pub fn unix(path: &Path) -> Self {
        let listener = std::os::unix::net::UnixListener::bind(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        listener.set_nonblocking(true).expect("a socket option");
        Self::start(None, Arc::new(echo), move |memory, answer, stop| async move {
            let listener = UnixListener::from_std(listener).expect("inside a runtime");
            let accept = async {
                loop {
                    if let Ok((stream, _)) = listener.accept().await {
                        tokio::spawn(serve(stream, Arc::clone(&memory), Arc::clone(&answer)));
                    }
                }
            };
            tokio::select! { () = accept => {}, _ = stop => {} }
        })
    }

    fn start<F>(
        port: Option<u16>,
        answer: Arc<Answer>,
        run: impl FnOnce(Arc<Memory>, Arc<Answer>, oneshot::Receiver<()>) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()>,
    {
        let memory = Arc::new(Memory::default());
        let (stop, stopped) = oneshot::channel();
        let inside = Arc::clone(&memory);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(run(inside, answer, stopped));
        });
        Self { port, memory, stop: Some(stop), thread: Some(thread) }
    }

    /// # Panics
    /// For an upstream on a Unix socket.
    pub fn port(&self) -> u16 {
        self.port.expect("an upstream on TCP")
    }

    /// How many requests came in.
    pub fn count(&self) -> u64 {
        self.memory.count.load(Ordering::Relaxed)
    }

    /// The latest requests, oldest first.
    pub fn seen(&self) -> Vec<Seen> {
        self.memory.last.lock().expect("no panic while held").clone()
    }

    /// The latest request.
    ///
    /// # Panics
    /// When none came.
    pub fn last(&self) -> Seen {
        self.seen().pop().expect("a request reached the upstream")
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// `{"method","path","headers":{name: value}}`
pub fn echo(seen: &Seen) -> (u16, String) {
    (200, json!({ "method": seen.method, "path": seen.path, "headers": seen.headers }).to_string())
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, memory: Arc<Memory>, answer: Arc<Answer>) {
    let service = service_fn(|request: http::Request<Incoming>| {
        let memory = Arc::clone(&memory);
        let answer = Arc::clone(&answer);
        async move {
            let (parts, body) = request.into_parts();
            let (trailers, body): (http::HeaderMap, Bytes) = match body.collect().await {
                Ok(body) => (body.trailers().cloned().unwrap_or_default(), body.to_bytes()),
                Err(_) => Default::default(),
            };
            let mut headers = BTreeMap::<String, String>::new();
            for (name, value) in &parts.headers {
                let value = String::from_utf8_lossy(value.as_bytes());
                headers
                    .entry(name.as_str().to_owned())
                    .and_modify(|known| *known = format!("{known}, {value}"))
                    .or_insert_with(|| value.into_owned());
            }
            let path = parts.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str).to_owned();
            let trailers = trailers.keys().map(|name| name.as_str().to_owned()).collect();
            let body = String::from_utf8_lossy(&body).into_owned();
            let seen = Seen { method: parts.method.to_string(), path, headers, body, trailers };
            let (status, text) = answer(&seen);
            remember(&memory, seen);
            let response = Response::builder().status(status).header("content-type", "application/json").body(Full::new(Bytes::from(text)));
            Ok::<_, Infallible>(response.expect("a response"))
        }
    });
    drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

fn remember(memory: &Memory, seen: Seen) {
    memory.count.fetch_add(1, Ordering::Relaxed);
    let mut last = memory.last.lock().expect("no panic while held");
    if last.len() == REMEMBERED {
        last.remove(0);
    }
    last.push(seen);
}
