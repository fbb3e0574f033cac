//! `store` as it is typed, on real stores.

use std::path::Path;
use std::path::PathBuf;

use clap::Parser;
use serde_json::Value;

use crate::app::moving::Summary;
use crate::cli::Exit;
use crate::cli::store::Store;
use crate::cli::store::meaning;
use crate::cli::store::moving;
use crate::store::shared::testing::redis_server::RedisServer;

#[derive(Debug, Parser)]
#[command(name = "tollgate")]
enum Line {
    Store(Store),
}

struct Ran {
    exit: Exit,
    out: String,
    complaints: String,
}

/// A folder with configs.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
        std::fs::create_dir_all(&target).unwrap();
        let desk = Self(tempfile::TempDir::new_in(target).unwrap());
        std::fs::write(desk.0.path().join("pepper"), "a pepper of more than thirty-two bytes, for tests").unwrap();
        desk
    }

    fn config(&self, name: &str, store: &str) -> String {
        let path = self.0.path().join(format!("{name}.yaml"));
        let text = format!(
            "listen: {{ check: unix:./{name}/check.sock }}\nstore: {store}\npeppers: [{{ id: p1, secret: {{ file: ./pepper }} }}]\n\
             routes: [{{ path: /a, auth: public }}]\n"
        );
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn redis(&self, server: &RedisServer) -> String {
        self.config("redis", &format!("{{ redis: {{ url: \"unix:{}\", path: ./redis }} }}", server.socket().display()))
    }

    fn embedded(&self, name: &str) -> String {
        self.config(name, &format!("{{ embedded: {{ path: ./{name} }} }}"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

async fn run(words: &[&str]) -> Ran {
    let Line::Store(store) = Line::try_parse_from(["tollgate", "store"].iter().chain(words)).unwrap();
    let (mut out, mut complaints) = (Vec::new(), Vec::new());
    let exit = store.run(&mut out, &mut complaints).await.unwrap();
    Ran { exit, out: String::from_utf8(out).unwrap(), complaints: String::from_utf8(complaints).unwrap() }
}

/// An embedded store with a user and two keys in it.
async fn fill(config: &str) {
    let loaded = crate::config::load(Path::new(config)).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    let api = crate::app::hosted::host(&loaded.boot, std::sync::Arc::new(loaded.rules), std::sync::Arc::new(crate::clock::SystemClock))
        .await
        .unwrap();
    for name in ["one", "two"] {
        let body = serde_json::json!({"name": name, "user": "alice"}).to_string();
        let request = http::Request::post("/v1/keys").header("host", "t").header("content-type", "application/json");
        let answer = tower::ServiceExt::oneshot(api.clone(), request.body(axum::body::Body::from(body)).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 201);
    }
}

#[tokio::test]
async fn a_store_is_moved_backed_up_and_looked_at() {
    let desk = Desk::new();
    let server = RedisServer::start();
    let (one, redis) = (desk.embedded("one"), desk.redis(&server));
    fill(&one).await;
    let ran = run(&["migrate", "--from", &one, "--to", &redis]).await;
    assert_eq!(ran.exit, Exit::Good, "{}", ran.complaints);
    let keys = ran.out.lines().any(|line| line.split_whitespace().eq(["key", "2", "2", "API", "keys"]));
    assert!(keys && ran.out.ends_with("\n5 records (5 written) and 0 counts: 5 in all\n"), "{}", ran.out);
    assert!(ran.complaints.contains("writing the store of") && ran.complaints.ends_with(": 5 records and counts\n"), "{}", ran.complaints);
    let ran = run(&["migrate", "--from", &one, "--to", &redis, "--json"]).await;
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    let meant = report["counts"].as_object().unwrap().keys().filter(|what| !meaning(what).is_empty()).count();
    assert_eq!(meant, 19, "every row says what it is");
    assert_eq!((&report["written"], &report["counts"]["key"]["target"]), (&0.into(), &2.into()));
    let again = run(&["migrate", "--from", &one, "--to", &redis]).await.out;
    assert!(again.ends_with("\n5 records (5 already there) and 0 counts: 5 in all\n"), "{again}");

    let backup = desk.path("backup.jsonl").display().to_string();
    let ran = run(&["export", "--config", &redis, "--to", &backup]).await;
    assert_eq!(ran.exit, Exit::Good, "{}", ran.complaints);
    assert!(ran.complaints.contains("The peppers are not in the file") && ran.complaints.contains("p1"), "{}", ran.complaints);
    let first = std::fs::read(&backup).unwrap();
    let ran = run(&["export", "--config", &redis, "--to", &backup]).await;
    assert!(ran.exit == Exit::Failed && ran.complaints.contains("name another file, or replace it with --replace"), "{}", ran.complaints);
    assert_eq!(std::fs::read(&backup).unwrap(), first);
    assert_eq!(run(&["export", "--config", &redis, "--to", &backup, "--replace"]).await.exit, Exit::Good);
    let ran = run(&["export", "--config", &redis, "--to", "-"]).await;
    // All but the head, which says when it was made, and the digest of it all.
    let records = |text: &str| text.lines().skip(1).filter(|line| !line.contains("\"is\":\"end\"")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!((records(&ran.out), 5), (records(&std::fs::read_to_string(&backup).unwrap()), records(&ran.out).len()));
    assert!(ran.exit == Exit::Good && ran.complaints.contains("5 records (5 written) and 0 counts"), "{}", ran.complaints);
    let ran = run(&["import", "--config", &desk.embedded("two"), "--from", &backup]).await;
    assert!(ran.exit == Exit::Good && ran.out.contains("5 written"), "{}", ran.complaints);

    let ran = run(&["check", "--config", &redis]).await;
    assert_eq!(ran.exit, Exit::Good, "{}{}", ran.out, ran.complaints);
    for expected in
        ["reachable            yes", "SERVER", "primary", "noeviction", "\nkey ", "warning: ", "appendonly yes", "maxmemory is 0"]
    {
        assert!(ran.out.contains(expected), "{expected}: {}", ran.out);
    }
    let ran = run(&["check", "--config", &desk.embedded("two")]).await;
    assert!(ran.exit == Exit::Good && ran.out.contains("Everything is as it should be."), "{}", ran.out);
}

#[tokio::test]
async fn a_store_that_cannot_be_used_ends_the_check_with_what_to_do() {
    let desk = Desk::new();
    let locked = RedisServer::start_with(&["--requirepass", "hunter2"]);
    let ran = run(&["check", "--config", &desk.redis(&locked)]).await;
    assert!(ran.exit == Exit::Failed && ran.out.contains("NOAUTH") && ran.out.contains("reachable            yes"), "{}", ran.out);
    assert!(!ran.out.contains("firewall"), "{}", ran.out);
    let server = RedisServer::start();
    let redis = desk.redis(&server);
    server.tell("CONFIG SET maxmemory-policy allkeys-lru");
    let nowhere = desk.config("nowhere", "{ redis: { url: \"unix:/nowhere/redis.sock\", path: ./n } }");
    let table = [
        (redis.clone(), "maxmemory-policy is allkeys-lru"),
        (nowhere, "is it running, is the address right"),
        (desk.embedded("absent"), "`tollgate serve --config"),
    ];
    for (config, expected) in table {
        let ran = run(&["check", "--config", &config]).await;
        assert_eq!(ran.exit, Exit::Failed, "{}", ran.out);
        assert!(ran.out.contains("refused: ") && ran.out.contains(expected), "{expected}: {}", ran.out);
        let report: Value = serde_json::from_str(&run(&["check", "--config", &config, "--json"]).await.out).unwrap();
        assert_eq!((&report["usable"], &report["problems"][0]["refuses"]), (&false.into(), &true.into()), "{report}");
    }
    assert!(!desk.path("absent").exists(), "looking makes nothing");
    server.tell("CONFIG SET maxmemory-policy noeviction");
    let one = desk.embedded("one");
    fill(&one).await;
    assert_eq!(run(&["migrate", "--from", &one, "--to", &redis]).await.exit, Exit::Good);
    server.tell("HSET tollgate:1:{r}:rec:user/local%3aalice b tampered");
    let ran = run(&["check", "--config", &redis]).await;
    assert!(ran.exit == Exit::Failed && ran.out.contains("1 record cannot be read"), "{}", ran.out);
    assert!(ran.out.contains("import --from <backup> --merge"), "{}", ran.out);
    let ran = run(&["migrate", "--from", &one, "--to", &redis, "--merge"]).await;
    let told =
        ran.out.contains("(1 replaced, 4 already there)") && ran.out.contains("1 damaged at the target, replaced:\n  user/local:alice\n");
    assert!(ran.exit == Exit::Good && told && !ran.complaints.contains("warning"), "{}{}", ran.out, ran.complaints);
    assert_eq!(run(&["check", "--config", &redis]).await.exit, Exit::Good);
    server.tell("HSET tollgate:1:{r}:rec:user/local%3aalice b tampered");
    let empty = desk.embedded("empty");
    fill(&empty).await;
    server.tell("HSET tollgate:1:{r}:rec:user/local%3abob v 1 b tampered");
    server.tell("ZADD tollgate:1:{r}:idx:user 0 local:bob");
    let ran = run(&["migrate", "--from", &empty, "--to", &redis, "--merge"]).await;
    assert!(ran.exit == Exit::Failed && ran.complaints.contains("the target has 1 record still that cannot be read"), "{}", ran.complaints);
    let ran = run(&["migrate", "--from", "/nowhere/a.yaml", "--to", &redis]).await;
    assert!(ran.exit == Exit::Failed && ran.complaints.contains("nothing was done"), "{}", ran.complaints);
}

#[test]
fn the_figures_add_up() {
    let summary =
        Summary { written: 3, counted: 40, already_there: 2, expired: 1, unreadable: vec!["key/a".to_owned()], ..Summary::default() };
    let mut out = Vec::new();
    moving::write_summary(&summary, &mut out).unwrap();
    let told = "7 records (3 written, 2 already there, 1 expired by now, 1 left behind) and 40 counts: 47 in all\n";
    let lines = format!("WHAT  SOURCE  TARGET  MEANING\n{told}1 that cannot be read, left behind:\n  key/a\n");
    assert_eq!(String::from_utf8(out).unwrap(), lines);
}

#[test]
fn what_an_export_leaves_out_is_said() {
    let help = Line::try_parse_from(["tollgate", "store", "export", "--help"]).unwrap_err().to_string();
    assert!(help.contains("The peppers are not in it"), "{help}");
}
