//! Sidecars on one real Redis, each a whole program.

use std::cell::Cell;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::store::shared::testing::redis_server::RedisServer;

/// A sidecar with folders of its own.
pub(super) struct Sidecar {
    pub(super) folder: TempDir,
    pub(super) running: Running,
}

impl Sidecar {
    async fn start(redis: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = write_shared_config(folder.path(), redis);
        Self { running: try_start(&path).await.unwrap(), folder }
    }

    pub(super) async fn control(&self, method: &str, target: &str, body: serde_json::Value) -> (u16, serde_json::Value) {
        control(self.folder.path(), method, target, body).await
    }

    async fn ask(&self, key: &str) -> i32 {
        ask(&self.running, "/orders", Some(key)).await
    }

    pub(super) async fn is_ready(&self) -> bool {
        page(&self.running, "/readyz").await.0 == 200
    }

    async fn metric(&self, line: &str) -> bool {
        page(&self.running, "/metrics").await.1.contains(&format!("{line}\n"))
    }

    async fn user(&self, id: &str, tier: &str) {
        let (status, made) = self.control("POST", "/v1/users", serde_json::json!({ "id": id, "tier": tier })).await;
        assert_eq!(status, 201, "{made}");
    }

    /// Everybody's counts of a user, as this sidecar tells them.
    async fn usage_of(&self, user: &str) -> serde_json::Value {
        let (status, usage) = self.control("GET", &format!("/v1/usage?user={user}"), serde_json::Value::Null).await;
        assert_eq!(status, 200, "{usage}");
        let sum = |outcome: &str| -> u64 {
            let rows = usage["data"].as_array().unwrap().iter();
            rows.filter(|row| row["outcome"] == outcome).map(|row| row["count"].as_u64().unwrap()).sum()
        };
        serde_json::json!({ "allowed": sum("allowed"), "limited": sum("limited"), "refused": sum("refused") })
    }

    /// A new key's text and its path in the API.
    async fn key(&self, user: &str) -> (String, String) {
        let body = serde_json::json!({ "user": user, "name": "laptop", "scopes": ["orders:read"] });
        let (status, made) = self.control("POST", "/v1/keys", body).await;
        assert_eq!(status, 201, "{made}");
        (made["key"].as_str().unwrap().to_owned(), format!("/v1/keys/{}", made["id"].as_str().unwrap()))
    }

    pub(super) async fn end(self) {
        assert_eq!(self.running.shutdown().await, Ended::Cleanly);
    }
}

pub(super) fn write_shared_config(folder: &Path, redis: &Path) -> PathBuf {
    std::fs::write(folder.join("pepper"), "the same at every sidecar, and thirty-two bytes long").unwrap();
    let (place, redis) = (folder.display(), redis.display());
    let text = format!(
        r#"
listen: {{ check: 127.0.0.1:0, control: "unix:{place}/control.sock", ops: 127.0.0.1:0 }}
store:
  redis: {{ url: "unix:{redis}", path: "{place}/data" }}
peppers: [{{ id: p, secret: {{ file: "{place}/pepper" }} }}]
lifecycle: {{ drain_delay: 0s, grace: 5s }}
faults: deny
tiers:
  wide: {{ requests_per_minute: 60000, grace: 30s }}
  strict: {{ requests_per_minute: 60000 }}
  narrow: {{ requests_per_minute: 1, burst: 4 }}
default_tier: strict
upstream_assertion: {{ issuer: gate, audience: inside }}
routes:
  - {{ name: open, path: /open, auth: public }}
  - {{ name: orders, path: /orders, auth: required, scopes: {{ all_of: ["orders:read"] }} }}
"#
    );
    let path = folder.join("tollgate.yaml");
    std::fs::write(&path, text).unwrap();
    path
}

#[tokio::test]
async fn what_one_sidecar_is_told_holds_at_the_other() {
    let redis = RedisServer::start();
    let (one, other) = (Sidecar::start(redis.socket()).await, Sidecar::start(redis.socket()).await);
    for sidecar in [&one, &other] {
        until(async || sidecar.is_ready().await).await;
    }
    let keys = |sidecar: &Sidecar| sidecar.running.ops_address().to_string();
    assert_ne!(keys(&one), keys(&other));
    assert_eq!(page(&one.running, "/jwks").await, page(&other.running, "/jwks").await, "one ring signs for both");
    until(async || one.metric("tollgate_sidecars 2").await && other.metric("tollgate_sidecars 2").await).await;

    for line in ["tollgate_redis_connected 1", "tollgate_changes_lease_held 1", "tollgate_redis_breaker_open 0", "tollgate_redis_refused 0"]
    {
        assert!(one.metric(line).await, "{line}");
    }

    one.user("bob", "strict").await;
    let (key, path) = one.key("bob").await;
    assert_eq!((one.ask(&key).await, other.ask(&key).await), (0, 0));
    assert_eq!(other.ask(&key).await, 0, "also from memory");
    let (status, _) = one.control("DELETE", &path, serde_json::Value::Null).await;
    assert!(status < 300);
    assert_eq!(one.ask(&key).await, 401, "at once where it was revoked");
    let late = Cell::new(0);
    let is_refused = async || match other.ask(&key).await {
        0 => {
            late.set(late.get() + 1);
            false
        }
        status => status == 401,
    };
    until(is_refused).await;

    // The allows of both, read at either; who shows a revoked key is nobody.
    let allowed = 3 + late.get();
    let counted = serde_json::json!({ "allowed": allowed, "limited": 0, "refused": 0 });
    for sidecar in [&one, &other] {
        until(async || sidecar.usage_of("bob").await == counted).await;
    }
    let (_, stats) = page(&one.running, "/stats").await;
    assert!(stats.contains(&format!(r#""user":"bob","route":"orders","outcome":"allowed","count":{allowed}"#)), "{stats}");
    let (_, seen) = other.control("GET", &path, serde_json::Value::Null).await;
    assert_eq!(seen["last_used_route"], "orders", "{seen}");

    // One bucket for both: four requests, wherever they arrive.
    one.user("nell", "narrow").await;
    let (key, _) = other.key("nell").await;
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(one.ask(&key).await);
        answers.push(other.ask(&key).await);
    }
    assert_eq!(answers, [0, 0, 0, 0, 429, 429]);
    one.end().await;
    until(async || other.metric("tollgate_sidecars 1").await).await;
    other.end().await;
}

#[tokio::test]
async fn a_sidecar_that_starts_before_its_redis_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("redis.sock");
    let sidecar = Sidecar::start(&socket).await;
    let (status, detail) = page(&sidecar.running, "/readyz").await;
    let detail: serde_json::Value = serde_json::from_str(&detail).unwrap();
    assert_eq!((status, &detail["status"]), (503, &serde_json::json!("failing")), "{detail}");
    assert!(detail["shared_store_error"].as_str().unwrap().contains("since the start"), "{detail}");
    assert_eq!(detail["signing_keys_missing"], true, "{detail}");
    assert_eq!(page(&sidecar.running, "/jwks").await.0, 503, "no empty set that somebody would remember");
    assert_eq!(ask(&sidecar.running, "/open", None).await, 0, "what needs no store needs no Redis");
    assert_eq!(sidecar.ask("tollgate_live_sk_0123456789Ab0000000000000000000000000000000000000000000abcdef").await, 401, "no key's form");
    let (status, problem) = sidecar.control("POST", "/v1/users", serde_json::json!({ "id": "bob" })).await;
    assert_eq!(status, 503, "{problem}");

    let redis = RedisServer::start();
    std::os::unix::fs::symlink(redis.socket(), &socket).unwrap();
    until(async || sidecar.is_ready().await).await;
    sidecar.user("bob", "strict").await;
    let (key, _) = sidecar.key("bob").await;
    assert_eq!(sidecar.ask(&key).await, 0);
    assert_eq!(page(&sidecar.running, "/jwks").await.0, 200);
    sidecar.end().await;
}

#[tokio::test]
async fn a_silent_redis_is_outlived_by_tiers_with_a_grace_alone() {
    let redis = RedisServer::start();
    let sidecar = Sidecar::start(redis.socket()).await;
    until(async || sidecar.is_ready().await).await;
    let mut keys = Vec::new();
    for (user, tier) in [("wanda", "wide"), ("stan", "strict")] {
        sidecar.user(user, tier).await;
        let (key, _) = sidecar.key(user).await;
        assert_eq!(sidecar.ask(&key).await, 0);
        keys.push(key);
    }
    // The next polls bring the log's entries of these keys, which drop what was known; it has to be asked for once more.
    let beats = || redis.tell("HGET tollgate:1:{r}:meta beats").lines().nth(1).and_then(|beats| beats.parse::<u64>().ok()).unwrap_or(0);
    let before = beats();
    until(async || beats() > before + 1).await;
    for key in &keys {
        assert_eq!(sidecar.ask(key).await, 0);
    }
    redis.freeze();
    until(async || !sidecar.is_ready().await).await;
    assert_eq!((sidecar.ask(&keys[0]).await, sidecar.ask(&keys[1]).await), (0, 503));
    assert!(sidecar.metric("tollgate_grace_decisions_total{decision=\"allow\"} 1").await);
    redis.thaw();
    until(async || sidecar.is_ready().await).await;
    assert_eq!((sidecar.ask(&keys[0]).await, sidecar.ask(&keys[1]).await), (0, 0));
    assert!(sidecar.metric("tollgate_grace_decisions_total{decision=\"allow\"} 1").await);
    sidecar.end().await;
}

#[tokio::test]
async fn a_redis_that_throws_records_away_is_not_used_and_says_so() {
    let redis = RedisServer::start_with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let sidecar = Sidecar::start(redis.socket()).await;
    until(async || page(&sidecar.running, "/readyz").await.1.contains("noeviction")).await;
    assert!(!sidecar.is_ready().await);
    assert!(sidecar.metric("tollgate_redis_refused 1").await && sidecar.metric("tollgate_redis_connected 0").await);
    redis.tell("CONFIG SET maxmemory-policy noeviction");
    until(async || sidecar.is_ready().await).await;
    sidecar.end().await;
}

/// Passwords are asked for at each connection, and stand nowhere.
#[tokio::test]
async fn a_password_in_a_file_may_be_rotated_while_sidecars_run() {
    let redis = RedisServer::start_with(&["--requirepass", "hunter2-of-old"]);
    let folder = tempfile::tempdir().unwrap();
    let path = write_shared_config(folder.path(), redis.socket());
    let place = folder.path().join("redis-password");
    std::fs::write(&place, "hunter2-of-old\n").unwrap();
    let password = format!("password: {{ file: \"{}\" }}, path:", place.display());
    std::fs::write(&path, std::fs::read_to_string(&path).unwrap().replace("path: \"", &format!("{password} \""))).unwrap();
    let sidecar = Sidecar { running: try_start(&path).await.unwrap(), folder };
    until(async || sidecar.is_ready().await).await;
    std::fs::write(&place, "hunter2-of-now\n").unwrap();
    redis.tell("AUTH hunter2-of-old\r\nCONFIG SET requirepass hunter2-of-now\r\nCLIENT KILL TYPE normal SKIPME yes");
    // What is under way when its connection goes is not repeated by itself.
    let bob = serde_json::json!({ "id": "bob" });
    until(async || [201, 409].contains(&sidecar.control("POST", "/v1/users", bob.clone()).await.0)).await;
    until(async || sidecar.is_ready().await).await;
    let shown = page(&sidecar.running, "/readyz").await.1 + &page(&sidecar.running, "/metrics").await.1;
    assert!(!shown.contains("hunter2"), "{shown}");
    sidecar.end().await;
}
