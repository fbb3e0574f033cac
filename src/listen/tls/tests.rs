use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::*;

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    Authority { pem, issuer: Issuer::new(params, key) }
}

impl Authority {
    /// A leaf for this name: certificate and key in PEM.
    fn leaf(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

fn write_leaf(folder: &Path, leaf: &(String, String)) -> TlsFiles {
    let files = TlsFiles { certificate: folder.join("tls.crt"), key: folder.join("tls.key"), client_authorities: None };
    fs::write(&files.certificate, &leaf.0).unwrap();
    fs::write(&files.key, &leaf.1).unwrap();
    files
}

/// One connection: the server sends a byte after the handshake, and the client reads it.
async fn connect(tls: &Tls, trusted: &str, shown: Option<&(String, String)>) -> std::io::Result<()> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(trusted.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let mut config = match shown {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<Vec<_>, _>>().unwrap();
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = async {
        let (stream, _) = listener.accept().await?;
        let mut stream = tls.accept(Box::new(stream)).await?;
        stream.write_all(b"!").await?;
        stream.flush().await
    };
    let asking = async {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("tollgate.internal").unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        stream.read_u8().await
    };
    let (served, asked) = tokio::join!(serving, asking);
    served.and(asked.map(|_| ()))
}

#[tokio::test]
async fn a_renewed_certificate_is_served_without_a_restart_and_a_broken_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (authority(), authority());
    let files = write_leaf(folder.path(), &old.leaf("tollgate.internal"));
    let tls = Tls::load(files.clone(), Protocol::Http2).unwrap();
    assert!(!tls.reload().unwrap(), "nothing had changed");
    assert!(connect(&tls, &old.pem, None).await.is_ok());
    let ends = tls.expires();

    fs::write(&files.key, "half a file").unwrap();
    assert!(matches!(tls.reload(), Err(TlsError::NotPem { .. })));
    assert!(connect(&tls, &old.pem, None).await.is_ok(), "the old certificate must stay in force");
    assert_eq!(tls.expires(), ends);

    write_leaf(folder.path(), &new.leaf("tollgate.internal"));
    assert!(tls.reload().unwrap());
    assert!(connect(&tls, &new.pem, None).await.is_ok());
    assert!(connect(&tls, &old.pem, None).await.is_err());
}

#[test]
fn the_end_of_the_certificate_in_force_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let leaf_until = |year| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![String::from("tollgate.internal")]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 3, 4);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    };
    let tls = Tls::load(write_leaf(folder.path(), &leaf_until(2045)), Protocol::Http1).unwrap();
    assert_eq!(tls.expires(), Some(Timestamp::from_unix_seconds(2_372_198_400)));
    write_leaf(folder.path(), &leaf_until(2055));
    assert!(tls.reload().unwrap());
    assert_eq!(tls.expires(), Some(Timestamp::from_unix_seconds(2_687_731_200)), "from 2050 on it is written in another form");
}

// battery: G14
#[tokio::test]
async fn with_client_authorities_nobody_else_comes_in() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, other) = (authority(), authority());
    let mut files = write_leaf(folder.path(), &ours.leaf("tollgate.internal"));
    let authorities = folder.path().join("ca.crt");
    fs::write(&authorities, &ours.pem).unwrap();
    files.client_authorities = Some(authorities);
    let tls = Tls::load(files, Protocol::Http2).unwrap();
    assert!(connect(&tls, &ours.pem, Some(&ours.leaf("envoy"))).await.is_ok());
    assert!(connect(&tls, &ours.pem, Some(&other.leaf("envoy"))).await.is_err());
    assert!(connect(&tls, &ours.pem, None).await.is_err());
}

#[test]
fn unusable_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (leaf, other) = (authority().leaf("a"), authority().leaf("a"));
    let files = write_leaf(folder.path(), &(leaf.0.clone(), other.1));
    assert!(matches!(Tls::load(files.clone(), Protocol::Http1), Err(TlsError::Unusable { .. })), "a key of another certificate");
    fs::write(&files.certificate, "").unwrap();
    let error = Tls::load(files.clone(), Protocol::Http1).unwrap_err();
    assert!(error.to_string().contains("tls.crt"), "{error}");
    fs::remove_file(&files.certificate).unwrap();
    assert!(matches!(Tls::load(files, Protocol::Http1), Err(TlsError::Unreadable { source, .. }) if source.kind() == ErrorKind::NotFound));
}
