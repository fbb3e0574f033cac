//! `make bench`: checks per second and CPU microseconds per check of our server, beside a do-nothing tonic ext_authz server
//! on the same messages, as a ratio.
//!
//! Both servers are processes of their own on Unix sockets, alive together; slices of one second alternate between them, and
//! every ratio is formed inside one round, so that a machine whose speed drifts does not decide the answer. CPU time is the
//! kernel's own, over all threads of the process.

#![expect(clippy::expect_used, clippy::panic, reason = "a measurement stops at the first surprise")]
#![expect(clippy::print_stdout, reason = "its table is for people")]
#![expect(clippy::disallowed_methods, reason = "measures time, and is told its rounds by the environment")]

use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use envoy_types::pb::envoy::service::auth::v3::AttributeContext;
use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
use envoy_types::pb::envoy::service::auth::v3::CheckResponse;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::HttpRequest;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::Request;
use prost::Message;

const STREAMS: usize = 32;
const SLICE: Duration = Duration::from_secs(1);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(position) = arguments.iter().position(|argument| argument == "--serve-nothing") {
        let socket = arguments.get(position + 1).expect("a socket path follows --serve-nothing");
        return null_server::serve(Path::new(socket));
    }
    let rounds = std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(9);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(compare(rounds));
}

async fn compare(rounds: usize) {
    let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder on disk");
    let null = Server::null(folder.path());
    let ours = Server::tollgate(folder.path());
    let key = ours.key.clone().expect("a key was made");
    let mut table = Vec::new();
    for (name, message) in [("API key", message("x-api-key", &key)), ("JWT", message("authorization", &ours.token()))] {
        let mut lines = Vec::new();
        for round in 0..=rounds {
            let of_null = slice(&null, &message).await;
            let of_ours = slice(&ours, &message).await;
            // The first round warms both up.
            if round > 0 {
                lines.push((of_null, of_ours));
            }
        }
        table.push((name, lines));
    }
    println!("\n{STREAMS} streams on one connection over a Unix socket, {rounds} rounds of one second each, medians (min .. max)\n");
    println!("{:<10} {:<22} {:>28} {:>28}", "credential", "server", "checks/s", "CPU us/check");
    for (name, lines) in &table {
        let of = |figure: &dyn Fn(&(Slice, Slice)) -> f64| spread(lines.iter().map(figure).collect());
        println!("{name:<10} {:<22} {:>28} {:>28}", "null (tonic + prost)", of(&|line| line.0.rate), of(&|line| line.0.cpu_us));
        println!("{name:<10} {:<22} {:>28} {:>28}", "tollgate", of(&|line| line.1.rate), of(&|line| line.1.cpu_us));
        let ratio_rate = of(&|line| line.1.rate / line.0.rate);
        let ratio_cpu = of(&|line| line.1.cpu_us / line.0.cpu_us);
        println!("{name:<10} {:<22} {ratio_rate:>28} {ratio_cpu:>28}\n", "tollgate / null");
    }
}

#[derive(Clone, Copy)]
struct Slice {
    rate: f64,
    cpu_us: f64,
}

/// One second of checks; every answer must be an allow.
async fn slice(server: &Server, message: &Bytes) -> Slice {
    let stream = tokio::net::UnixStream::connect(&server.socket).await.expect("the server listens");
    let (send, connection) = h2::client::handshake(stream).await.expect("an HTTP/2 connection");
    let driver = tokio::spawn(connection);
    let before = cpu_nanos(server.process.id());
    let start = Instant::now();
    let workers = (0..STREAMS).map(|_| tokio::spawn(ask_until(send.clone(), message.clone(), start + SLICE)));
    let mut checks = 0;
    for worker in workers.collect::<Vec<_>>() {
        checks += worker.await.expect("a worker ends well");
    }
    let elapsed = start.elapsed();
    let cpu = cpu_nanos(server.process.id()) - before;
    drop(send);
    driver.abort();
    Slice { rate: checks as f64 / elapsed.as_secs_f64(), cpu_us: cpu as f64 / 1_000.0 / checks as f64 }
}

async fn ask_until(send: h2::client::SendRequest<Bytes>, message: Bytes, end: Instant) -> u64 {
    let mut checks = 0;
    let mut send = send.ready().await.expect("a stream is free");
    while Instant::now() < end {
        let request = http::Request::post("http://bench/envoy.service.auth.v3.Authorization/Check")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .expect("a request");
        let (answer, mut body) = send.send_request(request, false).expect("a stream");
        body.send_data(message.clone(), true).expect("the message");
        let mut answer = answer.await.expect("an answer").into_body();
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.data().await {
            let chunk = chunk.expect("a chunk");
            let _ = answer.flow_control().release_capacity(chunk.len());
            bytes.extend_from_slice(&chunk);
        }
        let trailers = answer.trailers().await.expect("trailers");
        assert!(trailers.is_some_and(|trailers| trailers.get("grpc-status").is_some_and(|status| status == "0")), "the RPC failed");
        if checks == 0 {
            let response = CheckResponse::decode(bytes.get(5..).expect("a framed message")).expect("a CheckResponse");
            assert_eq!(response.status.map_or(0, |status| status.code), 0, "the check was not an allow");
        }
        checks += 1;
        send = send.ready().await.expect("a stream is free");
    }
    checks
}

/// What Envoy sends for a request of 20 headers, framed for gRPC.
fn message(header: &str, credential: &str) -> Bytes {
    let mut headers: Vec<(String, String)> = [
        (":method", "GET"),
        (":path", "/v1/conversations/4be0643f-1d98-573b-97cd-ca98a65347dd?limit=50&since=2026"),
        (":authority", "api.example.com"),
        (":scheme", "https"),
        ("accept", "application/json"),
        ("accept-encoding", "gzip, deflate, br"),
        ("accept-language", "en-GB,en;q=0.9"),
        ("cache-control", "no-cache"),
        ("content-type", "application/json"),
        ("origin", "https://app.example.com"),
        ("referer", "https://app.example.com/conversations"),
        ("sec-fetch-dest", "empty"),
        ("sec-fetch-mode", "cors"),
        ("sec-fetch-site", "same-site"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0 Safari/537.36"),
        ("x-envoy-expected-rq-timeout-ms", "15000"),
        ("x-forwarded-for", "203.0.113.7"),
        ("x-forwarded-proto", "https"),
        ("x-request-id", "2b6f0cc9-04d5-4d0a-9d1f-0c5b8a5fdc11"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    let value = if header == "authorization" { format!("Bearer {credential}") } else { credential.to_owned() };
    headers.push((header.to_owned(), value));
    let path = headers.iter().find(|(name, _)| name == ":path").map(|(_, path)| path.clone()).unwrap_or_default();
    let request = CheckRequest {
        attributes: Some(AttributeContext {
            request: Some(Request {
                time: None,
                http: Some(HttpRequest {
                    id: "9371236193615323141".into(),
                    method: "GET".into(),
                    path,
                    host: "api.example.com".into(),
                    scheme: "https".into(),
                    protocol: "HTTP/1.1".into(),
                    size: -1,
                    headers: headers.into_iter().collect(),
                    ..HttpRequest::default()
                }),
            }),
            ..AttributeContext::default()
        }),
    };
    let encoded = request.encode_to_vec();
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(encoded.len()).expect("a short message").to_be_bytes());
    framed.extend_from_slice(&encoded);
    framed.into()
}

/// A server under test; it ends when this is dropped.
struct Server {
    process: Child,
    socket: PathBuf,
    key: Option<String>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const SECRET: &str = "a-shared-secret-of-the-benchmark-with-more-than-32-bytes";

impl Server {
    fn null(folder: &Path) -> Self {
        let socket = folder.join("null.sock");
        let process = Command::new(std::env::current_exe().expect("this program"))
            .arg("--serve-nothing")
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn()
            .expect("the null server starts");
        wait_for(&socket);
        Self { process, socket, key: None }
    }

    fn tollgate(folder: &Path) -> Self {
        let config = folder.join("tollgate.yaml");
        let socket = folder.join("check.sock");
        let secret = folder.join("secret");
        std::fs::write(&secret, SECRET).expect("the secret is written");
        let text = include_str!("tollgate.yaml").replace("@FOLDER@", &folder.to_string_lossy());
        std::fs::write(&config, text).expect("the config is written");
        let program = env!("CARGO_BIN_EXE_tollgate");
        let process =
            Command::new(program).args(["serve", "--config"]).arg(&config).stdout(Stdio::null()).spawn().expect("tollgate starts");
        wait_for(&socket);
        let made = Command::new(program)
            .args([
                "keys",
                "create",
                "--json",
                "--user",
                "bench",
                "--org",
                "acme",
                "--tier",
                "bench",
                "--scope",
                "conversations:read",
                "--config",
            ])
            .arg(&config)
            .output()
            .expect("a key is made");
        let made: serde_json::Value = serde_json::from_slice(&made.stdout).expect("the key as JSON");
        let key = made.get("key").and_then(serde_json::Value::as_str).expect("the key's text").to_owned();
        Self { process, socket, key: Some(key) }
    }

    fn token(&self) -> String {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
        let claims = serde_json::json!({
            "iss": "https://id.bench.example", "aud": "https://api.bench.example", "sub": "bench-user", "iat": now, "exp": now + 3600,
            "scope": "conversations:read customers:read", "org_id": "acme", "jti": "00000000-0000-4000-8000-000000000000",
        });
        let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
        jsonwebtoken::encode(&jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256), &claims, &key).expect("a token")
    }
}

fn wait_for(socket: &Path) {
    for _ in 0..1_000 {
        if std::os::unix::net::UnixStream::connect(socket).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("nothing listens on {}", socket.display());
}

/// CPU time of all threads of a process, in nanoseconds.
fn cpu_nanos(process: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).expect("the process lives");
    let of_task = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("schedstat")).ok();
    tasks.flatten().filter_map(of_task).filter_map(|text| text.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok())).sum()
}

fn spread(mut figures: Vec<f64>) -> String {
    figures.sort_by(f64::total_cmp);
    let show = |figure: f64| if figure >= 1_000.0 { format!("{figure:.0}") } else { format!("{figure:.2}") };
    match (figures.first(), figures.get(figures.len() / 2), figures.last()) {
        (Some(low), Some(middle), Some(high)) => format!("{} ({} .. {})", show(*middle), show(*low), show(*high)),
        _ => String::new(),
    }
}

mod null_server {
    //! tonic + prost as generated: decodes, says yes with one header, encodes.

    use std::path::Path;

    use envoy_types::ext_authz::v3::CheckResponseExt;
    use envoy_types::ext_authz::v3::OkHttpResponseBuilder;
    use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
    use envoy_types::pb::envoy::service::auth::v3::CheckResponse;
    use envoy_types::pb::envoy::service::auth::v3::authorization_server::Authorization;
    use envoy_types::pb::envoy::service::auth::v3::authorization_server::AuthorizationServer;
    use tonic::Request;
    use tonic::Response;
    use tonic::Status;

    struct Nothing;

    #[tonic::async_trait]
    impl Authorization for Nothing {
        async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
            let _ = request.into_inner();
            let mut allow = OkHttpResponseBuilder::new();
            allow.add_header("user", "bench", None, false);
            let mut response = CheckResponse::with_status(Status::ok("ok"));
            response.set_http_response(allow.build());
            Ok(Response::new(response))
        }
    }

    pub(super) fn serve(socket: &Path) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = tokio::net::UnixListener::bind(socket).expect("the socket is free");
            let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
            tonic::transport::Server::builder()
                .add_service(AuthorizationServer::new(Nothing))
                .serve_with_incoming(incoming)
                .await
                .expect("the server runs");
        });
    }
}
