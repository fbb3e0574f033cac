//! `tollgate users`, `keys`, `clients`, `ring` and `audit` over HTTP: from another machine, as whoever the key in the environment is.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;
use serde_json::json;

use crate::support::browser::Browser;
use crate::support::http1::Client;
use crate::support::issuing::Issuing;
use crate::support::issuing::USER;
use crate::support::process::wait_until;
use crate::support::tollgate;

/// A shell on another machine, which knows an address and a key and no config.
struct Shell {
    url: String,
    key: String,
    folder: tempfile::TempDir,
}

struct Said {
    code: i32,
    out: String,
    complaints: String,
}

impl Shell {
    fn run(&self, line: &str, input: &str) -> Said {
        let mut command = tollgate::program();
        command.current_dir(self.folder.path()).args(line.split(' ')).env("TOLLGATE_URL", &self.url).env("TOLLGATE_KEY", &self.key);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program runs");
        child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("it listens");
        let output = child.wait_with_output().expect("own child");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        let said = Said { code: output.status.code().expect("an exit"), out: text(output.stdout), complaints: text(output.stderr) };
        assert!(!said.out.contains(&self.key) && !said.complaints.contains(&self.key), "{line} shows the key that it uses");
        said
    }

    /// What a command that must succeed says on standard output.
    fn good(&self, line: &str) -> String {
        let said = self.run(line, "");
        assert_eq!(said.code, 0, "{line}: {}{}", said.out, said.complaints);
        said.out
    }

    /// The same as one word: a secret that a script takes.
    fn secret(&self, line: &str) -> String {
        let out = self.good(line);
        assert_eq!(out.lines().count(), 1, "{line}: {out}");
        out.trim().to_owned()
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.good(&format!("{line} --json"))).expect("JSON")
    }
}

#[test]
fn everything_is_done_over_http_with_a_key_from_the_environment() {
    let issuing = Issuing::start("");
    let (log, address) = (&issuing.scenario.tollgate.process, format!(":{}", issuing.port));
    wait_until("the log names the config and the issuer's address", || {
        let is_said = |line: &str| ["serving", "tollgate.yaml", "issuer", &*address].iter().all(|part| line.contains(part));
        log.errors().lines().any(is_said)
    });
    let (status, admin) = issuing.control("POST", "/v1/keys", &json!({ "name": "admin", "user": USER, "scopes": ["tollgate:admin"] }));
    assert_eq!(status, 201, "{admin}");
    let key = admin["key"].as_str().expect("a key").to_owned();
    let shell = Shell { url: format!("http://127.0.0.1:{}", issuing.port), key, folder: tempfile::tempdir().expect("a folder") };
    let opens = |key: &str| Client::new(issuing.port).bearer("/v1/keys/self", key).status;

    // Users.
    shell.good("users create bob --org acme --right conversations:read");
    let listed = shell.good("users list");
    assert!(listed.lines().any(|line| line.starts_with("bob ") && line.contains("acme") && line.contains("member")), "{listed}");
    assert!(shell.good("users change bob --role admin --right conversations:read,customers:read").contains("admin"));
    let shown = shell.good("users show bob");
    assert!(shown.lines().any(|line| line.starts_with("rights ") && line.ends_with("conversations:read customers:read")), "{shown}");
    let password = "a password of the command line";
    let said = shell.run("users password bob", &format!("{password}\n"));
    assert_eq!(said.code, 0, "{}", said.complaints);
    assert!(!said.out.contains(password));
    let mut browser = Browser::new(issuing.scenario.envoy.port);
    browser.sign_in("bob", password);
    assert_eq!(shell.run("users password bob", "short\n").code, 1);
    for (org, is_new) in [("acme", false), ("nosuch", true)] {
        let said = shell.run(&format!("users invite --org {org}"), "");
        assert!(said.code == 0 && said.out.contains("/sign-up?invitation="), "{}", said.complaints);
        assert_eq!(said.complaints.contains("nobody is in it yet"), is_new, "{}", said.complaints);
    }
    shell.good("users sign-out bob");
    assert_eq!(browser.call("GET", "/v1/sessions/self", None, &Value::Null).status, 401);

    // Keys.
    let first = shell.secret("keys create --user bob --name nightly --scope conversations:read");
    assert_eq!(opens(&first), 200);
    let keys = shell.json("keys list --user bob");
    let id = keys["data"][0]["id"].as_str().expect("an id").to_owned();
    assert!(shell.good("keys list --user bob").contains("nightly"));
    assert!(shell.good(&format!("keys change {id} --name daily")).contains("daily"));
    let second = shell.secret(&format!("keys rotate {id} --grace 0s"));
    assert_eq!((opens(&first), opens(&second)), (401, 200));
    shell.good(&format!("keys disable {id}"));
    assert_eq!(opens(&second), 401);
    shell.good(&format!("keys enable {id}"));
    assert_eq!(opens(&second), 200);
    assert!(shell.good(&format!("keys show {id}")).contains("active"));
    shell.good(&format!("keys revoke {id}"));
    assert_eq!(opens(&second), 401);

    // Applications.
    let secret = shell.secret("clients create --name robot --grant client_credentials --scope conversations:read");
    let id = shell.json("clients list")["data"][0]["id"].as_str().expect("an id").to_owned();
    assert!(shell.good("clients list").contains("robot"));
    assert!(shell.good(&format!("clients change {id} --name shop")).contains("shop"));
    assert!(shell.good(&format!("clients show {id}")).lines().any(|line| line.starts_with("owner ") && line.ends_with(USER)));
    assert_ne!(shell.secret(&format!("clients rotate {id} --grace 1h")), secret);
    for way in ["disable", "enable", "delete"] {
        shell.good(&format!("clients {way} {id}"));
    }
    assert_eq!(shell.run(&format!("clients show {id}"), "").code, 1);

    // The ring: in order not yet, in an emergency at once.
    let before = shell.json("ring show")["data"].clone();
    let said = shell.run("ring rotate", "");
    assert!(said.code == 1 && said.complaints.contains("emergency"), "{}", said.complaints);
    assert!(shell.good("ring rotate --emergency").contains("current"));
    assert_ne!(shell.json("ring show")["data"], before);

    // What was done is in the log, and the log is whole.
    let log = shell.good("audit list --deed key.revoked");
    assert!(log.lines().count() == 2 && log.contains(USER), "{log}");
    let log = shell.good("audit list --deed key.changed");
    assert!(log.contains("name\n") && log.contains("active: yes -> no; disabled_by: - -> "), "{log}");
    let log = shell.json("audit list --deed key.changed");
    assert_eq!(log["data"][0]["changes"], json!([{"setting": "name"}]), "{log}");
    assert!(shell.good("audit verify").contains("as they were written"));
    shell.good("users erase bob");
    assert_eq!(shell.run("users show bob", "").code, 1);
    assert!(shell.good("audit verify").contains("as they were written"));

    // Whoever holds less does less, and is told why; without a key nothing is asked.
    let (_, own) = issuing.control("POST", "/v1/keys", &json!({ "name": "own", "user": USER }));
    let other = Shell { key: own["key"].as_str().expect("a key").to_owned(), folder: tempfile::tempdir().expect("a folder"), ..shell };
    let said = other.run("ring rotate --emergency", "");
    assert!(said.code == 1 && said.complaints.contains("tollgate:admin"), "{}", said.complaints);
    let output = tollgate::program().args(["keys", "list"]).env("TOLLGATE_URL", &other.url).env_remove("TOLLGATE_KEY").output();
    let output = output.expect("the program runs");
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("TOLLGATE_KEY"));
}
