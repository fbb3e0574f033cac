//! TLS for a listener, from files that may be renewed while it runs: connections made after a renewal see the new certificate.

#[cfg(test)]
mod tests;

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::digest::SHA256;
use aws_lc_rs::digest::digest;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::listen::Io;
use crate::model::time::Timestamp;
use crate::telemetry::Metrics;

/// The files of one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM, the leaf first.
    pub certificate: PathBuf,
    /// PEM.
    pub key: PathBuf,
    /// PEM; where given, only peers with a certificate of these authorities are let in (mTLS).
    pub client_authorities: Option<PathBuf>,
}

/// Why TLS cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{} holds no usable {what} in PEM", path.display())]
    NotPem { path: PathBuf, what: &'static str },
    #[error("certificate {} and key {} cannot be used: {source}", certificate.display(), key.display())]
    Unusable { certificate: PathBuf, key: PathBuf, source: rustls::Error },
    #[error("the client authorities in {} cannot be used: {why}", path.display())]
    Authorities { path: PathBuf, why: String },
}

/// What is spoken inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http2,
    Http1,
}

/// A listener's TLS.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    protocol: Protocol,
    config: ArcSwap<ServerConfig>,
    fingerprint: Mutex<Vec<u8>>,
    /// Unix seconds at which the leaf ends; zero where it does not say so in a form that can be read.
    expires: AtomicU64,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`], naming the file.
    pub fn load(files: TlsFiles, protocol: Protocol) -> Result<Self, TlsError> {
        let contents = Contents::read(&files)?;
        let config = ArcSwap::from_pointee(contents.compile(&files, protocol)?);
        let expires = AtomicU64::new(contents.expires(&files)?);
        Ok(Self { config, fingerprint: Mutex::new(contents.fingerprint()), expires, files, protocol })
    }

    /// Takes new contents of the files; true when they had changed. On failure the old ones stay in force.
    ///
    /// # Errors
    /// [`TlsError`], naming the file.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let contents = Contents::read(&self.files)?;
        let fingerprint = contents.fingerprint();
        let mut known = self.fingerprint.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == fingerprint {
            return Ok(false);
        }
        let expires = contents.expires(&self.files)?;
        self.config.store(Arc::new(contents.compile(&self.files, self.protocol)?));
        self.expires.store(expires, Ordering::Relaxed);
        *known = fingerprint;
        Ok(true)
    }

    /// When the certificate in force ends, for metrics.
    pub fn expires(&self) -> Option<Timestamp> {
        let seconds = self.expires.load(Ordering::Relaxed);
        (seconds > 0).then(|| Timestamp::from_unix_seconds(seconds))
    }

    /// Looks at the files every `interval`.
    pub async fn watch(self: Arc<Self>, interval: Duration, metrics: Arc<Metrics>, end: CancellationToken) {
        let mut complaint = String::new();
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                () = tokio::time::sleep(interval) => {}
            }
            match self.reload() {
                Ok(changed) => {
                    complaint.clear();
                    if changed {
                        metrics.tls_reloads.with_label_values(&["success"]).inc();
                        tracing::info!(certificate = %self.files.certificate.display(), "the renewed certificate is in force");
                    }
                }
                Err(error) => {
                    metrics.tls_reloads.with_label_values(&["failure"]).inc();
                    let text = error.to_string();
                    if text != complaint {
                        tracing::error!(error = %text, "changed TLS files cannot be used; the old ones stay in force");
                        complaint = text;
                    }
                }
            }
        }
    }

    /// The handshake.
    ///
    /// # Errors
    /// What went wrong in it.
    pub async fn accept(&self, io: Box<dyn Io>) -> std::io::Result<Box<dyn Io>> {
        let stream = TlsAcceptor::from(self.config.load_full()).accept(io).await?;
        Ok(Box::new(stream))
    }
}

struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_authorities: Option<Vec<u8>>,
}

impl Contents {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let read = |path: &Path| std::fs::read(path).map_err(|source| TlsError::Unreadable { path: path.to_owned(), source });
        Ok(Self {
            certificate: read(&files.certificate)?,
            key: read(&files.key)?,
            client_authorities: files.client_authorities.as_deref().map(read).transpose()?,
        })
    }

    fn fingerprint(&self) -> Vec<u8> {
        let parts = [Some(&self.certificate), Some(&self.key), self.client_authorities.as_ref()];
        let digests = parts.into_iter().flatten().flat_map(|part| digest(&SHA256, part).as_ref().to_vec());
        digests.collect()
    }

    fn expires(&self, files: &TlsFiles) -> Result<u64, TlsError> {
        let chain = certificates(&self.certificate, &files.certificate)?;
        let leaf = chain.first().and_then(|leaf| x509_parser::parse_x509_certificate(leaf).ok());
        Ok(leaf.and_then(|(_, leaf)| u64::try_from(leaf.validity().not_after.timestamp()).ok()).unwrap_or_default())
    }

    fn compile(&self, files: &TlsFiles, protocol: Protocol) -> Result<ServerConfig, TlsError> {
        let chain = certificates(&self.certificate, &files.certificate)?;
        let key =
            PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| TlsError::NotPem { path: files.key.clone(), what: "private key" })?;
        let unusable = |source| TlsError::Unusable { certificate: files.certificate.clone(), key: files.key.clone(), source };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().map_err(unusable)?;
        let builder = match (&self.client_authorities, &files.client_authorities) {
            (Some(authorities), Some(path)) => {
                let refused = |why: String| TlsError::Authorities { path: path.clone(), why };
                let mut roots = RootCertStore::empty();
                for certificate in certificates(authorities, path)? {
                    roots.add(certificate).map_err(|error| refused(error.to_string()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().map_err(|error| refused(error.to_string()))?)
            }
            (None, _) | (_, None) => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(unusable)?;
        config.alpn_protocols = vec![match protocol {
            Protocol::Http2 => b"h2".to_vec(),
            Protocol::Http1 => b"http/1.1".to_vec(),
        }];
        Ok(config)
    }
}

fn certificates(pem: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let none = || TlsError::NotPem { path: path.to_owned(), what: "certificate" };
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(|_| none())?;
    if chain.is_empty() { Err(none()) } else { Ok(chain) }
}
