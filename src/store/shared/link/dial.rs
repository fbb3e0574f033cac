//! A stream to a server: TCP, TLS or a Unix socket, with a bound on what an answer may bring.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::pem::PemObject as _;
use socket2::SockRef;
use socket2::TcpKeepalive;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;

use crate::store::shared::link::trouble::Trouble;
use crate::store::shared::settings::Server;
use crate::store::shared::settings::Settings;
use crate::store::shared::settings::TlsFiles;

/// More than this without a finished answer is no answer of ours: the connection is given up before it fills the memory.
const UNFINISHED_BYTES_MAX: usize = 32 * 1024 * 1024;
/// A peer that is gone without a word is noticed after this, whatever the kernel's own patience is.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Bytes that came in since the last finished answer.
pub(super) type Unfinished = Arc<AtomicUsize>;

/// Anything that bytes go over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A stream that breaks when an answer is out of all proportion.
pub(super) struct Bounded {
    inner: Box<dyn Stream>,
    unfinished: Unfinished,
}

/// Connects; the caller bounds the time.
pub(super) async fn dial(server: &Server, settings: &Settings) -> Result<(Bounded, Unfinished), Trouble> {
    let inner: Box<dyn Stream> = match server {
        Server::Unix(path) => Box::new(UnixStream::connect(path).await.map_err(|error| error.to_string())?),
        Server::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(|error| error.to_string())?;
            tune(&stream).map_err(|error| error.to_string())?;
            match &settings.tls {
                None => Box::new(stream),
                Some(files) => {
                    let name =
                        ServerName::try_from(host.clone()).map_err(|_error| format!("`{host}` is no name that a certificate can have"))?;
                    let connector = TlsConnector::from(Arc::new(client_config(files)?));
                    Box::new(connector.connect(name, stream).await.map_err(|error| tls_trouble(&error))?)
                }
            }
        }
    };
    let unfinished = Unfinished::default();
    Ok((Bounded { inner, unfinished: Arc::clone(&unfinished) }, unfinished))
}

/// A server that speaks no TLS answers in plain words, which no part of TLS begins with, or ends the connection.
fn tls_trouble(error: &io::Error) -> Trouble {
    let is_no_tls = matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
        || error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
            .is_some_and(|error| matches!(error, rustls::Error::InvalidMessage(_)));
    let advice = if is_no_tls { "; does this port speak TLS? Without it the address begins with `redis://`" } else { "" };
    Trouble::met(format!("it was reached, but no TLS came about: {error}{advice}"))
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(SILENCE_MAX / 2).with_interval(SILENCE_MAX / 4).with_retries(2))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(SILENCE_MAX))?;
    Ok(())
}

/// The files are read anew each time, so that a renewed certificate is used by the next connection.
fn client_config(files: &TlsFiles) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(authorities(files.authorities.as_deref())?);
    let Some((certificate, key)) = &files.client else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(certificate)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| format!("the key in {} cannot be read: {error}", key.display()))?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| format!("the client certificate in {} cannot be used: {error}", certificate.display()))
}

fn authorities(path: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match path {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| format!("an authority in {} cannot be used: {error}", path.display()))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err("no certificate authority is known: name a file under `tls.ca`, or install the system's".to_owned());
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| format!("the certificates in {} cannot be read: {error}", path.display()))
}

impl AsyncRead for Bounded {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut this.inner).poll_read(context, buffer);
        if matches!(outcome, Poll::Ready(Ok(()))) {
            let came = buffer.filled().len() - before;
            let unfinished = this.unfinished.fetch_add(came, Ordering::Relaxed).saturating_add(came);
            if unfinished > UNFINISHED_BYTES_MAX {
                let why = format!("an answer of more than {UNFINISHED_BYTES_MAX} bytes is not read");
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, why)));
            }
        }
        outcome
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(context)
    }
}
