//! Speaking to the resource API: over the control socket of a running process, or, when none runs, to the same API hosted here
//! over the store itself. One file never has two owners: the store's own lock sees to that.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::Limited;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tower::ServiceExt;
use zeroize::Zeroizing;

use crate::app::HELD_TIME_MAX;
use crate::app::LOOK_AGAIN_AFTER;
use crate::clock::monotonic;
use crate::model::rules::Rules;

/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// An answer that takes longer is not waited for.
const TIME_MAX: Duration = Duration::from_secs(30);

/// What the options below stand under in every help.
const CONNECTION: &str = "Connection";

/// Where the resource API may be.
#[derive(Clone, Debug, clap::Args)]
pub struct Reach {
    #[command(flatten)]
    pub here: Here,
    /// Speak to the API of `listen.issuer` at this URL instead, with the rights of the key and no more.
    #[arg(long, global = true, help_heading = CONNECTION, env = "TOLLGATE_URL", value_name = "URL", conflicts_with = "socket")]
    pub url: Option<String>,
    /// The API key for `--url`. Best from the environment: the arguments of a process can be read by others.
    #[arg(long, global = true, help_heading = CONNECTION, env = "TOLLGATE_KEY", hide_env_values = true, value_name = "KEY")]
    pub api_key: Option<ApiKey>,
}

/// Where it may be on this machine.
#[derive(Clone, Debug, clap::Args)]
pub struct Here {
    /// The config file: it names the control socket of the running process and, where none runs, the store.
    #[arg(long, short, global = true, help_heading = CONNECTION, env = "TOLLGATE_CONFIG", default_value = "tollgate.yaml")]
    #[arg(value_name = "FILE")]
    pub config: PathBuf,
    /// Speak to the process that answers on this control socket, and read no config.
    #[arg(long, global = true, help_heading = CONNECTION, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// For machines: the API's own JSON.
    #[arg(long, global = true, display_order = 900)]
    pub json: bool,
}

/// An API key's text, which nothing prints.
#[derive(Clone)]
pub struct ApiKey(Zeroizing<String>);

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("ApiKey")
    }
}

impl std::str::FromStr for ApiKey {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(Zeroizing::new(text.to_owned())))
    }
}

/// The API elsewhere, and as whom.
#[derive(Clone, Debug)]
pub struct Remote {
    pub url: String,
    pub key: Option<ApiKey>,
}

/// Opens the store in this process and makes the API over it.
pub type Host = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<Router, Unhosted>> + Send>> + Send>;

/// Why the store was not opened here, and what to do.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unhosted {
    /// Another process has it: it is about to answer on its control socket, or about to end, or out of reach.
    #[error("{0}, or name its control socket with --socket")]
    InUse(String),
    #[error("{0}")]
    Failed(String),
}

/// Where to look for the API, and what to do when no process answers.
#[derive(Default)]
pub struct Target {
    /// What was read to find it, and from where; none: it was named.
    pub config: Option<(PathBuf, Arc<Rules>)>,
    /// Where it is spoken to over HTTP; then nothing else is tried.
    pub remote: Option<Remote>,
    /// None: the config names no control socket.
    pub socket: Option<PathBuf>,
    /// None: only a running process will do.
    pub host: Option<Host>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Target").field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// Why a command failed, in words for people.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error("{0}")]
    Said(String),
    #[error(transparent)]
    Output(#[from] io::Error),
}

impl CliError {
    pub(in crate::cli) fn said(text: impl Into<String>) -> Self {
        Self::Said(text.into())
    }
}

/// A connection to the API, whichever way.
#[derive(Debug)]
pub(in crate::cli) enum Client {
    Socket(PathBuf),
    Hosted(Router),
    Remote { http: reqwest::Client, base: String, key: ApiKey },
}

impl Client {
    pub(in crate::cli) async fn open(target: Target) -> Result<Self, CliError> {
        if let Some(remote) = target.remote {
            return Self::remote(remote);
        }
        let deadline = monotonic() + HELD_TIME_MAX;
        loop {
            let absent = match &target.socket {
                None => "the config names no control socket (`listen.control`)".to_owned(),
                Some(socket) => match UnixStream::connect(socket).await {
                    Ok(_) => return Ok(Self::Socket(socket.clone())),
                    Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                        format!("no process answers on {}", socket.display())
                    }
                    Err(error) => return Err(CliError::said(format!("the control socket {}: {error}", socket.display()))),
                },
            };
            let Some(host) = &target.host else {
                return Err(CliError::said(format!("{absent}; start `tollgate serve`, or leave out --socket")));
            };
            match host().await {
                Ok(router) => return Ok(Self::Hosted(router)),
                Err(Unhosted::InUse(_)) if monotonic() < deadline => tokio::time::sleep(LOOK_AGAIN_AFTER).await,
                Err(why) => return Err(CliError::said(format!("{absent}, and {why}"))),
            }
        }
    }

    fn remote(remote: Remote) -> Result<Self, CliError> {
        let Remote { url, key } = remote;
        let key = key.ok_or_else(|| CliError::said("set TOLLGATE_KEY to an API key for TOLLGATE_URL"))?;
        let parsed = reqwest::Url::parse(&url).map_err(|_error| CliError::said("TOLLGATE_URL is no URL"))?;
        let host = parsed.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let is_loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if parsed.scheme() != "https" && !(parsed.scheme() == "http" && is_loopback) {
            return Err(CliError::said("TOLLGATE_URL must be https (http to this machine only): the key would be read on the way"));
        }
        let built = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(TIME_MAX).no_proxy().build();
        let http = built.map_err(|error| CliError::said(format!("no encrypted connections can be made: {error}")))?;
        Ok(Self::Remote { http, base: url.trim_end_matches('/').to_owned(), key })
    }

    /// What the API answers; a refusal becomes an error in its words.
    pub(in crate::cli) async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, CliError> {
        let bytes = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let request = Request::builder().method(method).uri(path).header("host", "tollgate").header("content-type", "application/json");
        let request = request.body(Full::new(bytes)).map_err(|error| CliError::said(error.to_string()))?;
        let answered = tokio::time::timeout(TIME_MAX, self.send(request)).await;
        let (status, bytes) = answered.map_err(|_elapsed| CliError::said("no answer within 30 seconds"))??;
        if bytes.is_empty() && status < 300 {
            return Ok(Value::Null);
        }
        let answer: Value =
            serde_json::from_slice(&bytes).map_err(|_error| CliError::said(format!("an answer without JSON (status {status})")))?;
        if status < 300 { Ok(answer) } else { Err(CliError::said(complaint(status, &answer))) }
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<(u16, Bytes), CliError> {
        match self {
            Self::Socket(path) => send_over(path, request).await,
            Self::Remote { http, base, key } => {
                let (head, body) = request.into_parts();
                let bytes = read(body).await?;
                let unreachable = |error: reqwest::Error| CliError::said(format!("{base} cannot be reached: {}", error.without_url()));
                let asked = http.request(head.method, format!("{base}{}", head.uri)).bearer_auth(&*key.0);
                let asked = asked.header("content-type", "application/json").body(bytes);
                let response = asked.send().await.map_err(unreachable)?;
                let status = response.status().as_u16();
                if (300..400).contains(&status) {
                    return Err(CliError::said(format!("{base} sends elsewhere, and the key is not sent on: name the final address")));
                }
                Ok((status, read(reqwest::Body::from(response)).await?))
            }
            Self::Hosted(router) => {
                let outcome = router.clone().oneshot(request.map(Body::new)).await;
                let Ok(response) = outcome;
                let (head, body) = response.into_parts();
                Ok((head.status.as_u16(), read(body).await?))
            }
        }
    }
}

async fn send_over(path: &Path, request: Request<Full<Bytes>>) -> Result<(u16, Bytes), CliError> {
    let lost = |error: hyper::Error| CliError::said(format!("the process at {} broke off: {error}", path.display()));
    let stream = UnixStream::connect(path).await.map_err(|error| CliError::said(format!("{}: {error}", path.display())))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
    let driving = tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(lost)?;
    let (head, body) = response.into_parts();
    let bytes = read(body).await;
    drop(sender);
    let _ended = driving.await;
    Ok((head.status.as_u16(), bytes?))
}

async fn read<B>(body: B) -> Result<Bytes, CliError>
where
    B: hyper::body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match Limited::new(body, ANSWER_BYTES_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => Err(CliError::said(format!("the answer broke off: {error}"))),
    }
}

fn complaint(status: u16, answer: &Value) -> String {
    let error = answer.get("error");
    let text = |name: &str| error.and_then(|error| error.get(name)).and_then(Value::as_str);
    let detail = |name: &str| error.and_then(|error| error.get("details")).and_then(|details| details.get(name)).and_then(Value::as_str);
    match (detail("field"), detail("issue"), text("message")) {
        (Some(field), Some(issue), _) => format!("{field} {issue}"),
        (_, _, Some(message)) => message.to_owned(),
        (_, _, None) => format!("the API answered {status}"),
    }
}

/// A query's value, percent-encoded.
pub(in crate::cli) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
