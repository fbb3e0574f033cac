//! A recording of the real program, replayed under a changed config; `explain` as it is typed.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::Output;
use std::process::Stdio;

use serde_json::Value;
use serde_json::json;

use crate::support::folder::Folder;
use crate::support::grpc::Checker;
use crate::support::grpc::check_request;
use crate::support::grpc::denied_with;
use crate::support::jwt;
use crate::support::ports::free_port;
use crate::support::scenario::JWT_SECRET;
use crate::support::scenario::NewKey;
use crate::support::tollgate::CheckAt;
use crate::support::tollgate::Tollgate;
use crate::support::tollgate::program;
use crate::support::tollgate::run;

const RULES: &str = r#"
listen: { check: "unix:./check.sock", control: "unix:./control.sock", ops: "127.0.0.1:OPS" }
store: { embedded: { path: ./data } }
lifecycle: { drain_delay: 0s, grace: 1s }
key_brand: acme
record: { file: ./requests.jsonl }
guard: { per_address: { failures_per_minute: 1000000 }, per_key_prefix: { failures_per_minute: 1000000 } }
issuers:
  - name: shared
    issuer: https://shared.example
    audience: https://api.example.com
    algorithms: [HS256]
    keys: { hmac_secret: { file: ./jwt-secret } }
    claims: { user: sub, scopes: scope }
tiers:
  free: { requests_per_minute: 60, burst: 5 }
default_tier: free
routes:
  - { name: open, path: /open, auth: public }
  - { name: orders.list, path: /orders, methods: [GET], scopes: { all_of: [orders:read] } }
  - { name: orders.get, path: "/orders/{id}", methods: [GET], scopes: { all_of: [orders:read] } }
  - { name: download, path: /download, methods: [GET], query_token: access_token, scopes: { all_of: [orders:read] } }
"#;

/// A recording program and what it was asked with.
struct Recording {
    folder: Folder,
    tollgate: Tollgate,
    checker: Checker,
    /// Of alice and bob, who may read orders.
    keys: [String; 2],
    token: String,
}

impl Recording {
    fn start() -> Self {
        let folder = Folder::new();
        let ops_port = free_port();
        folder.write_secret("jwt-secret", JWT_SECRET);
        folder.write("tollgate.yaml", &RULES.replace("OPS", &ops_port.to_string()));
        let check = CheckAt::Unix(folder.short_path().join("check.sock"));
        let tollgate = Tollgate::start(folder.path(), "tollgate.yaml", check, ops_port);
        let checker = Checker::connect(&tollgate.check);
        let key = |user| NewKey { user, tier: "", scopes: &["orders:read"], ..NewKey::default() }.create(folder.path()).text;
        let keys = [key("alice"), key("bob")];
        let claims = jwt::claims("https://shared.example", "https://api.example.com", "carol");
        let token = jwt::hs256(&jwt::with(claims, json!({ "scope": "orders:read" })), JWT_SECRET);
        Self { folder, tollgate, checker, keys, token }
    }

    fn ask(&self, target: &str, headers: &[(&str, &str)]) -> Option<i32> {
        let headers: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        denied_with(&self.checker.check(check_request("GET", target, &headers)).expect("an answer"))
    }

    /// What was written, once the program has ended.
    fn records(&mut self) -> Vec<Value> {
        assert!(self.tollgate.process.stop().success());
        let text = std::fs::read_to_string(self.folder.path().join("requests.jsonl")).expect("the recording");
        text.lines().map(|line| serde_json::from_str(line).expect("a record is JSON")).collect()
    }
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn replay(folder: &Path, after: &str, more: &[&str]) -> Output {
    run(folder, &[&["replay", "requests.jsonl", "--before", "tollgate.yaml", "--after", after], more].concat())
}

#[test]
fn a_replay_shows_what_a_change_of_the_config_changes_and_nothing_else() {
    let mut recording = Recording::start();
    let [alice, bob] = recording.keys.clone();
    let (bearer, token) = (format!("Bearer {bob}"), format!("Bearer {}", recording.token));
    // Lines 1 to 4: alice's; 5 and 6: bob's; 7: carol's; 8 to 12: who is not let in, or need not be anybody.
    for target in ["/orders", "/orders", "/orders/7", "/orders/8"] {
        assert_eq!(recording.ask(target, &[("x-api-key", &alice)]), None, "{target}");
    }
    assert_eq!(recording.ask("/orders", &[("authorization", &bearer)]), None);
    assert_eq!(recording.ask(&format!("/download?a=b&access_token={bob}"), &[]), None);
    assert_eq!(recording.ask("/orders", &[("authorization", &token)]), None);
    assert_eq!(recording.ask("/orders", &[("authorization", &format!("{bearer}x"))]), Some(401));
    assert_eq!(recording.ask("/orders", &[]), Some(401));
    assert_eq!(recording.ask("/nowhere", &[("x-api-key", &alice)]), Some(404));
    assert_eq!(recording.ask(&format!("/orders?api_key={alice}"), &[("cookie", "session=hunter2")]), Some(401));
    assert_eq!(recording.ask("/open", &[("x-api-key", &alice)]), None);
    let records = recording.records();
    let reasons: Vec<&str> = records.iter().map(|record| record["verdict"]["reason"].as_str().expect("a reason")).collect();
    assert_eq!(reasons[..7], ["ok"; 7]);
    assert_eq!(reasons[8..], ["missing_credential", "no_route", "token_in_query", "public"]);

    let folder = recording.folder.path();
    let same = replay(folder, "tollgate.yaml", &[]);
    assert_eq!((same.status.code(), told(&same).as_str()), (Some(0), "12 requests, 0 end differently\n"));

    let rules = std::fs::read_to_string(folder.join("tollgate.yaml")).expect("the rules");
    let next = |name: &str, from: &str, to: &str| {
        assert!(rules.contains(from), "the rules have no `{from}`");
        recording.folder.write(name, &rules.replace(from, to));
        let output = replay(folder, name, &["--json"]);
        assert_eq!(output.status.code(), Some(1), "{name}: {}", told(&output));
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(report["unlike_recorded"], 0, "{report}");
        let mut differences = String::new();
        for difference in report["differences"].as_array().expect("differences") {
            let text = |end: &str, member: &str| difference[end][member].as_str().unwrap_or("-").to_owned();
            let ends = format!("{} -> {}", text("before", "reason"), text("after", "reason"));
            let routes = format!("{} -> {}", text("before", "route"), text("after", "route"));
            writeln!(differences, "{} {ends} on {routes}, line {}", difference["count"], difference["line"]).expect("a text");
        }
        differences
    };
    assert_eq!(
        next(
            "scope.yaml",
            "path: \"/orders/{id}\", methods: [GET], scopes: { all_of: [orders:read] }",
            "path: \"/orders/{id}\", methods: [GET], scopes: { all_of: [orders:get] }"
        ),
        "2 ok -> insufficient_scope on orders.get -> orders.get, line 3\n"
    );
    assert_eq!(next("route.yaml", "path: /download", "path: /downloads"), "1 ok -> no_route on download -> -, line 6\n");
    // Alice asks four times at once, and a bucket of three has nothing left for the last.
    assert_eq!(
        next("limit.yaml", "requests_per_minute: 60, burst: 5", "requests_per_minute: 1, burst: 3"),
        "1 ok -> rate_limited on orders.get -> orders.get, line 4\n"
    );
    assert_eq!(
        next("issuer.yaml", "issuer: https://shared.example", "issuer: https://another.example"),
        "1 ok -> untrusted_issuer on orders.list -> orders.list, line 7\n"
    );
    // Where nobody read the credential, nobody can say.
    assert_eq!(next("auth.yaml", "path: /open, auth: public", "path: /open"), "1 public -> credential_unread on open -> open, line 12\n");
    let shown = told(&replay(folder, "scope.yaml", &[]));
    assert!(shown.contains("    2  allow ok  deny insufficient_scope  orders.get     3  GET /orders/7\n"), "{shown}");

    // A torn line is named, and the rest is judged.
    let mut text = std::fs::read_to_string(folder.join("requests.jsonl")).expect("the recording");
    text.push_str("{\"v\":1,\"ts\":");
    recording.folder.write("requests.jsonl", &text);
    let torn = replay(folder, "tollgate.yaml", &[]);
    assert_eq!(torn.status.code(), Some(1));
    assert!(told(&torn).contains("line 13: not a record"), "{}", told(&torn));

    // A recorded request is explained by the config alone.
    let explained = run(folder, &["explain", "--recorded", "requests.jsonl:3", "--config", "scope.yaml", "--json"]);
    let explained: Value = serde_json::from_slice(&explained.stdout).expect("JSON");
    assert_eq!((explained["reason"].as_str(), explained["user"].as_str()), (Some("insufficient_scope"), Some("alice")));
    let trial = std::fs::read_to_string(folder.join("scope.yaml")).expect("the config");
    recording.folder.write("trial.yaml", &format!("dry_run: true\n{trial}"));
    let explained = told(&run(folder, &["explain", "--recorded", "requests.jsonl:3", "--config", "trial.yaml"]));
    for line in ["DENY  insufficient_scope (403); dry run: it goes through all the same\n", "insufficient_scope: wants [orders:get], has ["]
    {
        assert!(explained.contains(line), "no `{line}` in\n{explained}");
    }
}

#[test]
fn a_recording_holds_no_secret_and_the_same_digest_for_the_same_credential() {
    let mut recording = Recording::start();
    let [alice, bob] = recording.keys.clone();
    let token = recording.token.clone();
    let secrets = [alice.clone(), bob.clone(), token.clone(), "hunter2".to_owned(), "YWxpY2U6aHVudGVyMg".to_owned()];
    for secret in &secrets {
        let bearer = format!("Bearer {secret}");
        for headers in [
            &[("authorization", bearer.as_str())][..],
            &[("x-api-key", secret)],
            &[("authorization", secret)],
            &[("x-authorization", &format!("Agent {secret}"))],
            &[("authorization", &format!("Basic {secret}"))],
            &[("authorization", &format!("{bearer}, {bearer}"))],
            &[("cookie", &format!("session={secret}")), ("referer", &format!("https://x/?t={secret}")), ("x-anything", secret)],
            &[("content-type", secret), ("origin", secret), ("x-forwarded-for", secret), ("upgrade", secret), ("connection", secret)],
            &[("api-version", secret), ("user-agent", secret), ("x-request-id", secret), ("content-length", secret)],
        ] {
            recording.ask("/orders", headers);
        }
        for target in
            [format!("/download?access_token={secret}"), format!("/orders?api_key={secret}&x={secret}"), format!("/orders?{secret}")]
        {
            recording.ask(&target, &[]);
        }
    }
    // Somebody puts a key into the path.
    recording.ask(&format!("/orders/{alice}"), &[("x-api-key", &bob)]);
    let records = recording.records();
    assert_eq!(records.len(), secrets.len() * 12 + 1);
    let text = std::fs::read_to_string(recording.folder.path().join("requests.jsonl")).expect("the recording");
    for secret in &secrets {
        assert!(!text.contains(secret.as_str()), "{secret}");
    }
    for key in [&alice, &bob] {
        let (_, body) = key.split_once("_sk_").expect("a key");
        assert!(!text.contains(&body[12..]), "{body}");
    }
    assert!(!text.contains(token.rsplit('.').next().expect("a signature")));
    let header = |record: &Value, name: &str| {
        let headers = record["request"]["attributes"]["request"]["http"]["headerMap"]["headers"].as_array().expect("headers");
        headers.iter().find(|header| header["key"] == name).and_then(|header| header["value"].as_str()).map(str::to_owned)
    };
    let digest = |record: usize, name: &str| header(&records[record], name).expect(name).trim_start_matches("Bearer ").to_owned();
    assert_eq!(digest(0, "authorization"), digest(1, "x-api-key"), "alice's key in two places");
    assert_ne!(digest(0, "authorization"), digest(12, "authorization"), "alice's key and bob's");
    assert!(digest(0, "authorization").starts_with("hashed."));
}

#[test]
fn explain_answers_however_it_is_asked() {
    let recording = Recording::start();
    let folder = recording.folder.path();
    let [alice, _] = &recording.keys;
    let explain = |arguments: &[&str]| run(folder, &[&["explain"], arguments].concat());
    let header = format!("x-api-key: {alice}");
    let shown = explain(&["GET", "/orders/7", "-H", &header]);
    let text = told(&shown);
    assert_eq!(shown.status.code(), Some(0), "{text}");
    for line in [
        "hit   orders.get  GET /orders/{id}  yes   yes   yes     host, path and method fit, and nothing more specific does\n",
        " of another path\n",
        "pass  resolve",
        "ALLOW  ok (200)\n",
        "  would count     1 allowed for alice, key ",
        "  bucket          free: 5 of 5 left, 60 a minute\n",
        "  to upstream     x-user-id: alice\n",
        "  to client       x-ratelimit-limit: 60\n",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
    assert!(!text.contains('\u{1b}') && !text.contains(alice.as_str()), "{text}");

    let denied = explain(&["POST", "https://api.example.com/orders/7", "-H", &header]);
    let text = told(&denied);
    assert_eq!(denied.status.code(), Some(1));
    for line in [
        "miss  orders.get",
        "takes GET, not POST",
        "STOP  find_route",
        "DENY  method_not_allowed (405)",
        "to client       allow: GET",
        "METHOD_NOT_ALLOWED",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }

    // Asked in other ways about one second, the same is answered.
    let at = ["--at", "1893456000", "--json"];
    let explain_then = |arguments: &[&str]| explain(&[arguments, &at].concat());
    let curl = format!("curl -sS -H '{header}' \\\n 'https://api.example.com/orders/7'");
    let answer =
        |output: &Output| serde_json::from_slice::<Value>(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", told(output)));
    let expected = answer(&explain_then(&["GET", "https://api.example.com/orders/7", "-H", &header]));
    assert_eq!((expected["decision"].as_str(), expected["counted"]["route"].as_str()), (Some("allow"), Some("orders.get")));
    assert_eq!(answer(&explain_then(&["--curl", &curl])), expected);
    let mut piped = program()
        .current_dir(folder)
        .args(["explain", "--curl", "-"])
        .args(at)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program runs");
    piped.stdin.take().expect("a pipe").write_all(curl.as_bytes()).expect("it reads");
    assert_eq!(answer(&piped.wait_with_output().expect("it ends")), expected);
    let http = json!({ "method": "GET", "host": "api.example.com", "path": "/orders/7", "headers": { "x-api-key": alice } });
    let message = json!({ "attributes": { "request": { "http": http } } });
    recording.folder.write("check.json", &serde_json::to_string_pretty(&message).expect("JSON"));
    assert_eq!(answer(&explain_then(&["--recorded", "check.json"])), expected);

    for (arguments, code, complaint) in [
        (&["--curl", "curl --aws-sigv4 x https://a"][..], 1, "--aws-sigv4"),
        (&["--recorded", "nowhere.jsonl"], 1, "nowhere.jsonl"),
        (&["--recorded", "check.json:99"], 1, "lines"),
        (&["GET"], 2, "URL"),
        (&[], 2, "METHOD"),
        (&["GET", "/orders", "--curl", "curl /"], 2, "cannot be used with"),
    ] {
        let output = explain(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", told(&output));
        assert!(told(&output).contains(complaint), "{arguments:?}: {}", told(&output));
    }
    // Nothing of all this was counted.
    let usage = run(folder, &["usage", "--user", "alice", "--json"]);
    assert!(told(&usage).contains("\"data\": []"), "{}", told(&usage));
}
