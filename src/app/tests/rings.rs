//! The issuer's ring in whole programs: made where something is issued, published, thrown away everywhere.

use std::path::Path;

use super::shared::Sidecar;
use super::shared::write_shared_config;
use super::*;
use crate::store::shared::testing::redis_server::RedisServer;

const ISSUER: &str = "
issuer:
  url: https://login.example.com
  resources: [{ uri: https://api.example.com }]
  scopes: { \"orders:read\": Read your orders }
";

fn add_issuer(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    std::fs::write(path, format!("{ISSUER}{text}")).unwrap();
}

/// The algorithms of the published keys; none: they are not known yet.
async fn published(running: &Running) -> Option<Vec<String>> {
    let (status, text) = page(running, "/jwks").await;
    let set: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let keys = || set["keys"].as_array().unwrap().iter().map(|key| key["alg"].as_str().unwrap().to_owned()).collect();
    (status == 200).then(keys)
}

/// Every byte that lies in these folders, file by file.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let file = |path: PathBuf| match path.is_dir() {
        true => files(&path),
        false => std::fs::read(&path).map(|bytes| (path, bytes)).into_iter().collect(),
    };
    entries.flat_map(file).collect()
}

// oauth: M7
#[tokio::test]
async fn private_keys_lie_in_no_file_and_on_no_page() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_config(folder.path(), ROUTES);
    add_issuer(&path);
    let running = try_start(&path).await.unwrap();
    assert_eq!(published(&running).await.unwrap().len(), 6, "two for assertions, and two of each algorithm for the issuer");
    let mut shown = String::new();
    for target in ["/jwks", "/metrics", "/readyz", "/stats"] {
        shown += &page(&running, target).await.1;
    }
    shown += &control(folder.path(), "GET", "/v1/ring", serde_json::Value::Null).await.1.to_string();
    assert_eq!(running.shutdown().await, Ended::Cleanly);

    let data = folder.path().join("data");
    let store = Embedded::open(&data, Arc::new(SystemClock)).unwrap();
    let peppers = Peppers::load_or_create(&data).unwrap();
    let signer = Signer::load_or_create(&store, &peppers, SystemClock.now()).await.unwrap();
    drop(store);
    let files = files(folder.path());
    assert!(files.len() >= 4);
    for private in signer.private_texts() {
        assert!(!shown.contains(&private));
        let raw = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, &private).unwrap();
        for (path, bytes) in &files {
            let stands_in = |secret: &[u8]| bytes.windows(secret.len()).any(|window| window == secret);
            // Of an RSA key the middle is enough: its head is the same for all.
            assert!(!stands_in(private.as_bytes()) && !stands_in(raw.get(600..632).unwrap_or(&raw)), "{}", path.display());
        }
    }
    let mode = |name: &str| std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(data.join(name)).unwrap().permissions()) & 0o777;
    assert_eq!(mode(crate::store::EMBEDDED_FILE_NAME), 0o600);
}

#[tokio::test]
async fn a_gate_makes_no_ring_until_its_rules_issue() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_config(folder.path(), ROUTES);
    let running = try_start(&path).await.unwrap();
    assert_eq!(published(&running).await.unwrap(), ["EdDSA", "EdDSA"], "for assertions alone");
    assert_eq!(control(folder.path(), "GET", "/v1/ring", serde_json::Value::Null).await.0, 404);
    add_issuer(&path);
    until(async || published(&running).await.is_some_and(|keys| keys.len() == 6)).await;
    assert!(page(&running, "/metrics").await.1.contains("tollgate_signing_key_rotations_total{outcome=\"adopted\",ring=\"issuer\"} 1\n"));
    assert_eq!(page(&running, "/readyz").await.0, 200);
    assert_eq!(running.shutdown().await, Ended::Cleanly);
}

// oauth: M8
#[tokio::test]
async fn an_emergency_at_one_sidecar_is_one_at_the_other() {
    let redis = RedisServer::start();
    let start = async || {
        let folder = tempfile::tempdir().unwrap();
        let path = write_shared_config(folder.path(), redis.socket());
        add_issuer(&path);
        Sidecar { running: try_start(&path).await.unwrap(), folder }
    };
    let (one, other) = (start().await, start().await);
    until(async || one.is_ready().await && other.is_ready().await).await;
    let before = page(&one.running, "/jwks").await;
    assert_eq!(page(&other.running, "/jwks").await, before, "one ring signs for both");
    let (status, thrown) = one.control("POST", "/v1/ring/rotate", serde_json::json!({"emergency": true})).await;
    assert_eq!(status, 200, "{thrown}");
    let after = page(&one.running, "/jwks").await;
    assert!(after != before);
    until(async || page(&other.running, "/jwks").await == after).await;
    one.end().await;
    other.end().await;
}

#[tokio::test]
async fn an_issuer_that_starts_before_its_redis_says_what_it_lacks() {
    let redis_folder = tempfile::tempdir().unwrap();
    let socket = redis_folder.path().join("redis.sock");
    let folder = tempfile::tempdir().unwrap();
    let path = write_shared_config(folder.path(), &socket);
    add_issuer(&path);
    let sidecar = Sidecar { running: try_start(&path).await.unwrap(), folder };
    let (status, detail) = page(&sidecar.running, "/readyz").await;
    let detail: serde_json::Value = serde_json::from_str(&detail).unwrap();
    assert_eq!((status, &detail["issuer_keys_missing"]), (503, &true.into()), "{detail}");
    assert_eq!(published(&sidecar.running).await, None);
    let redis = RedisServer::start();
    std::os::unix::fs::symlink(redis.socket(), &socket).unwrap();
    until(async || sidecar.is_ready().await).await;
    assert_eq!(published(&sidecar.running).await.unwrap().len(), 6);
    sidecar.end().await;
}
