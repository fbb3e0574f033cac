//! `tollgate serve` and a command that are typed one right after the other.

use std::process::Command;

use crate::support::folder::Folder;
use crate::support::http1::Client;
use crate::support::ports::free_port;
use crate::support::process::Process;
use crate::support::process::wait_until;
use crate::support::tollgate;

fn write_config(folder: &Folder) -> u16 {
    let (check, ops) = (free_port(), free_port());
    let config = format!(
        "listen: {{ check: 127.0.0.1:{check}, control: \"unix:run/control.sock\", ops: 127.0.0.1:{ops} }}\n\
         store: {{ embedded: {{ path: data }} }}\nledger: {{ path: ledger }}\nlifecycle: {{ drain_delay: 0s }}\n\
         routes:\n  - {{ name: list, path: /list, auth: required, scopes: {{ all_of: [a:read] }} }}\n"
    );
    folder.write("tollgate.yaml", &config);
    std::fs::create_dir(folder.path().join("run")).expect("own folder");
    ops
}

fn serve() -> Command {
    let mut command = tollgate::program();
    command.arg("serve");
    command
}

// battery: X9
#[test]
fn a_key_is_made_while_the_process_starts() {
    // Now the one is begun first and now the other, so that each comes to have the store first.
    for round in 0..12 {
        let folder = Folder::new();
        let ops = write_config(&folder);
        let create = || {
            let mut command = tollgate::program();
            command.args(["keys", "create", "--user", "alice", "--scope", "a:read"]);
            Process::start("create", command, folder.path())
        };
        let (mut serving, mut creating) = if round % 2 == 0 {
            let serving = Process::start("tollgate", serve(), folder.path());
            (serving, create())
        } else {
            let creating = create();
            (Process::start("tollgate", serve(), folder.path()), creating)
        };
        assert!(creating.wait().success(), "round {round}: {}", creating.last_words());
        let key = creating.output();
        wait_until("it is ready", || {
            assert!(serving.is_running(), "round {round}: {}", serving.last_words());
            std::net::TcpStream::connect(("127.0.0.1", ops)).is_ok() && Client::new(ops).get("/readyz", &[]).status == 200
        });
        let header = format!("x-api-key: {}", key.trim());
        let explained = tollgate::run(folder.path(), &["explain", "GET", "/list", "-H", &header]);
        assert!(explained.status.success(), "round {round}: {}", String::from_utf8_lossy(&explained.stdout));
        assert!(serving.stop().success());
    }
}

/// The config is at hand, whether a process runs or not.
#[test]
fn a_scope_that_no_route_of_the_config_wants_is_told() {
    let folder = Folder::new();
    write_config(&folder);
    let said = |scope: &str| {
        let made = tollgate::run(folder.path(), &["keys", "create", "--user", "alice", "--scope", scope]);
        assert!(made.status.success() && String::from_utf8_lossy(&made.stdout).lines().count() == 1, "{made:?}");
        String::from_utf8_lossy(&made.stderr).into_owned()
    };
    assert!(!said("a:read").contains("warning"));
    let told = "no route of tollgate.yaml wants the scope `a:raed` (did you mean `a:read`?); `tollgate check-config tollgate.yaml` shows";
    assert!(said("a:raed").contains(told), "{}", said("a:raed"));
}

/// No process runs, and nobody issues here: the config is all that a tier is judged by.
#[test]
fn an_application_gets_a_tier_of_the_config() {
    let folder = Folder::new();
    write_config(&folder);
    let issuing = "issuer: { url: \"https://id.example\", resources: [{ uri: \"https://api.example\" }], scopes: { \"a:read\": Read } }\n\
                   tiers: { free: { requests_per_minute: 60 }, pro: { requests_per_minute: 300 } }\ndefault_tier: free\n";
    let config = std::fs::read_to_string(folder.path().join("tollgate.yaml")).expect("just written");
    folder.write("tollgate.yaml", &format!("{issuing}{config}"));
    let create = ["clients", "create", "--name", "robot", "--grant", "client_credentials", "--scope", "a:read", "--tier"];
    let refused = tollgate::run(folder.path(), &[&create[..], &["prp"]].concat());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("tier must be one of: free, pro"), "{said}");
    let made = tollgate::run_json(folder.path(), &[&create[..], &["pro", "--json"]].concat());
    let id = made["id"].as_str().expect("an id");
    assert_eq!(made["tier"], "pro", "{made}");
    for (tier, expected) in [("free", "free".into()), ("none", serde_json::Value::Null)] {
        assert_eq!(tollgate::run_json(folder.path(), &["clients", "change", id, "--tier", tier, "--json"])["tier"], expected);
    }
}

// battery: X9
#[test]
fn a_second_process_waits_and_is_refused() {
    let folder = Folder::new();
    let ops = write_config(&folder);
    let first = Process::start("first", serve(), folder.path());
    let first = first.ready(|| std::net::TcpStream::connect(("127.0.0.1", ops)).is_ok());
    let mut second = Process::start("second", serve(), folder.path());
    assert!(!second.wait().success());
    let said = format!("{}{}", second.output(), second.errors());
    assert_eq!(said.matches("waiting for process ").count(), 1, "{said}");
    assert!(said.contains("nothing was started") && said.contains("is in use by process") && said.contains("stop it first"), "{said}");
    // What needs the store itself says so; the process goes on.
    let refused = tollgate::run(folder.path(), &["store", "export", "--to", "backup.jsonl"]);
    let complaints = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && complaints.contains("stop it first") && !complaints.contains("socket"), "{complaints}");
    assert_eq!(Client::new(ops).get("/readyz", &[]).status, 200);
    drop(first);
}

#[test]
fn a_key_whose_text_went_nowhere_is_named_on_standard_error() {
    let folder = Folder::new();
    write_config(&folder);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("a device that takes nothing");
    let create = ["keys", "create", "--user", "alice"];
    let output = tollgate::program().current_dir(folder.path()).args(create).stdout(full).output().expect("it runs");
    let made = tollgate::run_json(folder.path(), &["keys", "list", "--json"]);
    let id = made["data"][0]["id"].as_str().expect("the key was made");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("`tollgate keys revoke {id}`")) && !said.contains("_sk_"), "{said}");
}
