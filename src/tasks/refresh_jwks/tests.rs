//! Real servers on loopback that behave as badly as providers can.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::clock::ManualClock;
use crate::jose::TokenError;
use crate::jose::Tokens;
use crate::jose::battery::NOW;
use crate::jose::battery::forge;
use crate::jose::battery::issuer;
use crate::jose::battery::payload;
use crate::jose::battery::rules;
use crate::jose::battery::set;
use crate::model::rules::Algorithm;
use crate::model::rules::Issuer;
use crate::model::rules::IssuerKeys;
use crate::model::rules::Rules;
use crate::tasks::refresh_jwks::FetchObserver;
use crate::tasks::refresh_jwks::FetchOutcome;
use crate::tasks::refresh_jwks::RefreshJwks;
use crate::tasks::refresh_jwks::fetch::FetchError;
use crate::tasks::refresh_jwks::fetch::Fetcher;
use crate::tasks::refresh_jwks::run;

const BOTH: [Algorithm; 2] = [Algorithm::EdDsa, Algorithm::Es256];

/// What the provider does once it has read the request.
#[derive(Clone, Debug)]
enum Manner {
    Json(Vec<u8>),
    Raw(Vec<u8>),
    /// The head, and then a byte now and then, for ever.
    Drip,
    /// The head, and then as many bytes as are taken, for ever.
    Endless,
    Silent,
}

/// A provider on loopback.
struct Provider {
    address: String,
    manner: Arc<Mutex<Manner>>,
    asked: Arc<AtomicUsize>,
    _running: AbortOnDropHandle<()>,
}

impl Provider {
    async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let manner = Arc::new(Mutex::new(manner));
        let asked = Arc::new(AtomicUsize::new(0));
        let running = tokio::spawn({
            let (manner, asked) = (Arc::clone(&manner), Arc::clone(&asked));
            async move {
                while let Ok((stream, _peer)) = listener.accept().await {
                    let manner = manner.lock().unwrap().clone();
                    tokio::spawn(serve(stream, manner, Arc::clone(&asked)));
                }
            }
        });
        Self { address, manner, asked, _running: AbortOnDropHandle::new(running) }
    }

    fn url(&self) -> String {
        format!("http://{}/jwks", self.address)
    }

    fn behave(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// One request, one answer, one connection.
async fn serve(mut stream: TcpStream, manner: Manner, asked: Arc<AtomicUsize>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_closed) => return,
        }
    }
    asked.fetch_add(1, Ordering::SeqCst);
    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";
    match manner {
        Manner::Json(body) => drop(stream.write_all(&[HEAD, &body].concat()).await),
        Manner::Raw(answer) => drop(stream.write_all(&answer).await),
        Manner::Drip => {
            drop(stream.write_all(HEAD).await);
            let mut pause = tokio::time::interval(Duration::from_millis(5));
            while stream.write_all(b" ").await.is_ok() {
                pause.tick().await;
            }
        }
        Manner::Endless => {
            drop(stream.write_all(HEAD).await);
            while stream.write_all(&[b' '; 16 * 1024]).await.is_ok() {}
        }
        Manner::Silent => drop(stream.read_u8().await),
    }
}

fn raw(status: &str, headers: &str, body: &[u8]) -> Manner {
    let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n", body.len());
    Manner::Raw([head.as_bytes(), body].concat())
}

fn ours() -> Vec<u8> {
    set(&[("a", Algorithm::EdDsa)])
}

/// Long enough for a busy machine; whoever waits for it to run out takes [`hasty`].
fn fetcher() -> Fetcher {
    Fetcher::new()
}

fn hasty() -> Fetcher {
    Fetcher::with_timeout(Duration::from_millis(300))
}

// battery: J24
#[tokio::test]
async fn a_bad_answer_is_refused_in_bounded_time_and_space() {
    let json = "content-type: application/json\r\n";
    let elsewhere = Provider::start(Manner::Json(ours())).await;
    for (shown, manner, expected) in [
        ("good", Manner::Json(ours()), "ok"),
        ("good, other JSON type", raw("200 OK", "content-type: application/jwk-set+json; charset=utf-8\r\n", &ours()), "ok"),
        ("slow drip", Manner::Drip, "Unreachable"),
        ("silent", Manner::Silent, "Unreachable"),
        ("endless", Manner::Endless, "TooLarge"),
        (
            "announced 100 MB",
            Manner::Raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100000000\r\n\r\n{".to_vec()),
            "TooLarge",
        ),
        (
            "cut short",
            Manner::Raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{".to_vec()),
            "Unreachable",
        ),
        ("redirect", raw("302 Found", &format!("location: {}\r\n", elsewhere.url()), b""), "Redirected"),
        ("redirect to itself", raw("308 Permanent Redirect", "location: /jwks\r\n", b""), "Redirected"),
        ("not found", raw("404 Not Found", json, &ours()), "Status"),
        ("server error", raw("500 Internal Server Error", json, &ours()), "Status"),
        ("no content", raw("204 No Content", json, b""), "Status"),
        ("a web page", raw("200 OK", "content-type: text/html\r\n", &ours()), "ContentType"),
        ("plain text", raw("200 OK", "content-type: text/plain\r\n", &ours()), "ContentType"),
        ("no type", raw("200 OK", "", &ours()), "ContentType"),
        ("garbage", Manner::Json(b"\x00\xff garbage".to_vec()), "Keys"),
        ("another object", Manner::Json(b"{\"error\":\"later\"}".to_vec()), "Keys"),
        ("no keys", Manner::Json(b"{\"keys\":[]}".to_vec()), "Keys"),
        ("a shared secret", Manner::Json(set(&[("a", Algorithm::Hs256)])), "Keys"),
        ("not HTTP", Manner::Raw(b"SSH-2.0-x\r\n".to_vec()), "Unreachable"),
        ("closed", Manner::Raw(Vec::new()), "Unreachable"),
    ] {
        let fetcher = match manner {
            Manner::Drip | Manner::Silent => hasty(),
            Manner::Json(_) | Manner::Raw(_) | Manner::Endless => fetcher(),
        };
        let provider = Provider::start(manner).await;
        let found = match fetcher.fetch(&provider.url(), &BOTH).await {
            Ok(_keys) => "ok",
            Err(FetchError::NotAUrl(_)) => "NotAUrl",
            Err(FetchError::NotEncrypted) => "NotEncrypted",
            Err(FetchError::Unreachable(_)) => "Unreachable",
            Err(FetchError::Redirected(_)) => "Redirected",
            Err(FetchError::Status(_)) => "Status",
            Err(FetchError::ContentType(_)) => "ContentType",
            Err(FetchError::TooLarge) => "TooLarge",
            Err(FetchError::Lost) => "Lost",
            Err(FetchError::Keys(_)) => "Keys",
        };
        assert_eq!(found, expected, "{shown}");
        assert_eq!(provider.asked(), 1, "{shown}");
    }
    assert_eq!(elsewhere.asked(), 0, "redirects are not followed");
}

#[tokio::test]
async fn a_provider_that_is_down_or_cannot_prove_itself_is_not_reached() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    assert!(matches!(fetcher().fetch(&format!("http://{closed}/jwks"), &BOTH).await, Err(FetchError::Unreachable(_))));

    let plain = Provider::start(Manner::Json(ours())).await;
    let over_tls = plain.url().replace("http:", "https:");
    assert!(matches!(hasty().fetch(&over_tls, &BOTH).await, Err(FetchError::Unreachable(_))));

    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let accepted = tokio::spawn(async move {
        let (stream, _peer) = listener.accept().await.unwrap();
        acceptor.accept(stream).await.is_ok()
    });
    let refused = fetcher().fetch(&format!("https://localhost:{}/jwks", address.port()), &BOTH).await;
    assert!(matches!(refused, Err(FetchError::Unreachable(_))), "{refused:?}");
    assert!(!accepted.await.unwrap(), "the handshake was broken off");
}

/// The task, running, and everything that moves it.
struct Running {
    tokens: Arc<Tokens>,
    rules: Arc<ArcSwap<Rules>>,
    clock: Arc<ManualClock>,
    outcomes: mpsc::UnboundedReceiver<FetchOutcome>,
    shutdown: CancellationToken,
    task: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Reports(mpsc::UnboundedSender<FetchOutcome>);

impl FetchObserver for Reports {
    fn fetched(&self, _url: &str, outcome: FetchOutcome) {
        self.0.send(outcome).unwrap();
    }
}

fn rules_for(url: &str) -> Rules {
    let keys = IssuerKeys::Url { url: url.into(), refresh: Duration::from_secs(300) };
    rules(vec![Issuer { keys, algorithms: BOTH.to_vec(), ..issuer() }])
}

fn start(url: &str) -> Running {
    let tokens = Arc::new(Tokens::new(64));
    let rules = Arc::new(ArcSwap::from_pointee(rules_for(url)));
    let clock = Arc::new(ManualClock::starting_at(NOW));
    let (report, outcomes) = mpsc::unbounded_channel();
    let shutdown = CancellationToken::new();
    let task = RefreshJwks {
        tokens: Arc::clone(&tokens),
        rules: Arc::clone(&rules),
        fetcher: fetcher(),
        clock: Arc::<ManualClock>::clone(&clock),
        observer: Arc::new(Reports(report)),
        seed: 7,
    };
    let task = AbortOnDropHandle::new(tokio::spawn(run(task, shutdown.clone())));
    Running { tokens, rules, clock, outcomes, shutdown, task }
}

impl Running {
    fn verify(&self, algorithm: Algorithm, id: &str) -> Result<(), TokenError> {
        let header = format!(r#"{{"alg":"{}","kid":"{id}"}}"#, algorithm.name());
        self.tokens.verify(&forge(algorithm, header, payload(&[])), &self.rules.load(), NOW).map(drop)
    }

    /// Moves the clock, and has the task look at it now rather than at its next poll.
    fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        drop(self.verify(Algorithm::EdDsa, "unknown"));
    }

    async fn outcome(&mut self) -> FetchOutcome {
        self.outcomes.recv().await.unwrap()
    }
}

// battery: J22 J24
#[tokio::test]
async fn the_last_good_set_outlives_every_failure() {
    let provider = Provider::start(raw("503 Service Unavailable", "", b"")).await;
    let mut running = start(&provider.url());
    assert_eq!(running.outcome().await, FetchOutcome::Failed);
    assert!(matches!(running.verify(Algorithm::EdDsa, "a"), Err(TokenError::KeysMissing(_))));

    provider.behave(Manner::Json(ours()));
    running.clock.advance(Duration::from_secs(1));
    assert_eq!(running.outcome().await, FetchOutcome::Changed);
    assert_eq!(running.verify(Algorithm::EdDsa, "a"), Ok(()));

    let many = set(&vec![("a", Algorithm::EdDsa); 10_000]);
    let twice = set(&[("a", Algorithm::EdDsa), ("a", Algorithm::Es256)]);
    let mixed = set(&[("a", Algorithm::EdDsa), ("b", Algorithm::Hs256)]);
    for bad in [Manner::Endless, Manner::Json(many), Manner::Json(twice), Manner::Json(mixed), raw("404 Not Found", "", b"")] {
        provider.behave(bad.clone());
        running.advance(300);
        assert_eq!(running.outcome().await, FetchOutcome::Failed);
        assert_eq!(running.verify(Algorithm::EdDsa, "a"), Ok(()));
    }
    provider.behave(Manner::Json(ours()));
    running.advance(300);
    assert_eq!(running.outcome().await, FetchOutcome::Unchanged);
    running.shutdown.cancel();
    running.task.await.unwrap();
}

// battery: J20
#[tokio::test]
async fn ten_thousand_unknown_kids_cause_one_fetch() {
    let provider = Provider::start(Manner::Json(ours())).await;
    let mut running = start(&provider.url());
    assert_eq!(running.outcome().await, FetchOutcome::Changed);
    let burst = |running: &Running| {
        for number in 0..10_000 {
            assert!(matches!(running.verify(Algorithm::EdDsa, &format!("unknown-{number}")), Err(TokenError::BadSignature(_))));
        }
    };
    running.clock.advance(Duration::from_secs(31));
    burst(&running);
    assert_eq!(running.outcome().await, FetchOutcome::Unchanged);
    assert_eq!(provider.asked(), 2);
    burst(&running);
    // A rotated key: the provider has it, and the next fetch that is allowed brings it.
    provider.behave(Manner::Json(set(&[("a", Algorithm::EdDsa), ("b", Algorithm::Es256)])));
    assert!(running.verify(Algorithm::Es256, "b").is_err());
    running.clock.advance(Duration::from_secs(31));
    assert_eq!(running.outcome().await, FetchOutcome::Changed);
    assert_eq!(provider.asked(), 3);
    assert_eq!(running.verify(Algorithm::Es256, "b"), Ok(()));
}

#[tokio::test]
async fn new_rules_bring_new_urls_and_forget_old_ones() {
    let first = Provider::start(Manner::Json(ours())).await;
    let second = Provider::start(Manner::Json(set(&[("b", Algorithm::Es256)]))).await;
    let mut running = start(&first.url());
    assert_eq!(running.outcome().await, FetchOutcome::Changed);
    running.rules.store(Arc::new(rules_for(&second.url())));
    assert_eq!(running.outcome().await, FetchOutcome::Changed);
    assert_eq!(running.verify(Algorithm::Es256, "b"), Ok(()));
    assert!(!running.tokens.has_keys(&first.url()) && running.tokens.has_keys(&second.url()));
}
