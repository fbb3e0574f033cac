//! Who we are to the server: users, passwords that change, certificates.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;

use super::*;
use crate::store::shared::settings::Login;
use crate::store::shared::settings::Mode;
use crate::store::shared::settings::TlsFiles;
use crate::store::shared::testing::redis_server::RedisServer;
use crate::store::shared::testing::redis_server::ServerPlan;

const FIRST: &str = "first-hunter2";
const SECOND: &str = "second-hunter2";

fn login(username: Option<&str>, password: &Arc<Mutex<Option<String>>>) -> Login {
    let password = Arc::clone(password);
    let source = move || Ok(password.lock().unwrap().as_ref().map(|password| password.as_bytes().to_vec()));
    Login { username: username.map(str::to_owned), password: Arc::new(source) }
}

/// Whatever is printed of a link, no password is in it.
fn assert_discreet(link: &Link, error: Option<&LinkError>) {
    let printed =
        format!("{link:?} {:?} {:?} {error:?} {}", link.state(), link.findings(), error.map(ToString::to_string).unwrap_or_default());
    assert!(!printed.contains("hunter2"), "{printed}");
}

fn counted(link: &Link, code: &str) -> bool {
    link.state().errors.iter().any(|error| error.script == "connect" && error.code == code && error.count > 0)
}

// battery: R7
#[tokio::test]
async fn a_password_may_be_wrong_and_may_change_while_the_link_is_in_use() {
    let server = RedisServer::start();
    server.tell(&format!("ACL SETUSER app on >{FIRST} ~* &* +@all"));
    let password = Arc::new(Mutex::new(Some("wrong-hunter2".to_owned())));
    let link = Link::new(Settings { login: login(Some("app"), &password), ..brisk(at(server.place())) });
    let error = added(&link, Lane::Checks, "n", LONG).await.unwrap_err();
    assert!(matches!(&error, LinkError::Unreachable(why) if why.contains("WRONGPASS") && why.contains("`app`")), "{error}");
    assert!(link.state().is_reached && counted(&link, "WRONGPASS"), "{:?}", link.state());
    assert_discreet(&link, Some(&error));
    *password.lock().unwrap() = Some(FIRST.to_owned());
    eventually_up(&link).await;
    assert_eq!(added(&link, Lane::Checks, "n", LONG).await, Ok(1));

    server.tell(&format!("ACL SETUSER app resetpass >{SECOND}"));
    assert_eq!(added(&link, Lane::Checks, "n", LONG).await, Ok(2), "who is logged in stays so");
    server.tell("CLIENT KILL USER app");
    eventually("it is locked out", async || link.state().breaker_open).await;
    let error = added(&link, Lane::Checks, "n", LONG).await.unwrap_err();
    assert_discreet(&link, Some(&error));
    *password.lock().unwrap() = Some(SECOND.to_owned());
    eventually_up(&link).await;
    assert_eq!(added(&link, Lane::Checks, "n", LONG).await, Ok(3));

    server.tell("ACL SETUSER app -evalsha -eval");
    let error = added(&link, Lane::Checks, "n", LONG).await.unwrap_err();
    assert!(matches!(&error, LinkError::Refused { code, .. } if code == "NOPERM"), "{error}");
    server.tell("CLIENT KILL USER app");
    eventually(
        "it is told what to allow",
        async || matches!(added(&link, Lane::Checks, "n", LONG).await, Err(LinkError::Unreachable(why)) if why.contains("+@scripting")),
    )
    .await;
    assert!(counted(&link, "NOPERM"), "{:?}", link.state());
    assert_discreet(&link, None);
}

#[tokio::test]
async fn a_password_without_a_user_and_none_at_all() {
    let server = RedisServer::start_with(&["--requirepass", FIRST]);
    let password = Arc::new(Mutex::new(None));
    let link = Link::new(Settings { login: login(None, &password), ..brisk(at(server.place())) });
    let error = added(&link, Lane::Checks, "n", LONG).await.unwrap_err();
    assert!(matches!(&error, LinkError::Unreachable(why) if why.contains("NOAUTH")), "{error}");
    assert!(link.state().is_reached && counted(&link, "NOAUTH"), "{:?}", link.state());
    let settings = Settings { mode: Mode::Cluster, login: login(None, &password), ..brisk(at(server.place())) };
    let circle = Link::new(settings);
    let _ = added(&circle, Lane::Checks, "n", LONG).await.unwrap_err();
    let state = circle.state();
    assert!(state.is_reached && state.fault.as_ref().is_some_and(|why| why.contains("NOAUTH")) && counted(&circle, "NOAUTH"), "{state:?}");
    *password.lock().unwrap() = Some(FIRST.to_owned());
    eventually_up(&link).await;
    assert_eq!(added(&link, Lane::Checks, "n", LONG).await, Ok(1));
    assert_discreet(&link, None);
}

#[tokio::test]
async fn a_user_that_may_only_run_scripts_is_enough() {
    let server = RedisServer::start();
    server.tell(&format!("ACL SETUSER app on >{FIRST} ~* +@scripting +incr +ping"));
    let password = Arc::new(Mutex::new(Some(FIRST.to_owned())));
    let link = Link::new(Settings { login: login(Some("app"), &password), ..brisk(at(server.place())) });
    assert_eq!(added(&link, Lane::Checks, "n", LONG).await, Ok(1));
    assert!(link.findings()[0].what.contains("+info"), "{:?}", link.findings());
}

#[tokio::test]
async fn tls_with_certificates_on_both_sides_and_without_the_right_ones_nothing() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = |name: &str, text: String| -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "authority");
    let authority = rcgen::CertifiedIssuer::self_signed(parameters, authority_key).unwrap();
    let issue = |name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        (file(&format!("{name}.crt"), certificate.pem()), file(&format!("{name}.key"), key.serialize_pem()))
    };
    let ca = file("ca.crt", authority.pem());
    let (certificate, key) = issue("server");
    let client = issue("client");
    let stranger = rcgen::generate_simple_self_signed(vec!["stranger".to_owned()]).unwrap();
    let stranger = file("stranger.crt", stranger.cert.pem());

    let port = ServerPlan::tcp().start().port();
    let text = |path: &PathBuf| path.to_str().unwrap().to_owned();
    let arguments = [
        "--tls-port".to_owned(),
        port.to_string(),
        "--tls-cert-file".to_owned(),
        text(&certificate),
        "--tls-key-file".to_owned(),
        text(&key),
        "--tls-ca-cert-file".to_owned(),
        text(&ca),
    ];
    let _server = RedisServer::start_with(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let cases = [
        (Some(TlsFiles { authorities: Some(ca.clone()), client: Some(client.clone()) }), true),
        (Some(TlsFiles { authorities: Some(stranger), client: Some(client.clone()) }), false),
        (Some(TlsFiles { authorities: Some(ca.clone()), client: None }), false),
        (Some(TlsFiles { authorities: Some(folder.path().join("missing")), client: None }), false),
        (None, false),
    ];
    for (tls, works) in cases {
        let printed = format!("{tls:?}");
        let link = Link::new(Settings { tls, ..brisk(tcp(port)) });
        let outcome = added(&link, Lane::Checks, "n", LONG).await;
        assert_eq!(outcome.is_ok(), works, "{printed}: {outcome:?}");
        if let Err(error) = outcome {
            assert!(matches!(error, LinkError::Unreachable(_)), "{error}");
        }
    }
}
