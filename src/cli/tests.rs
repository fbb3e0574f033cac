//! `keys` and `usage` as they are typed, over a control socket and over a store of their own.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use clap::CommandFactory;
use clap::Parser;
use serde_json::Value;
use serde_json::json;
use tokio::sync::oneshot;

use crate::check::testing::gate_over;
use crate::cli::Arguments;
use crate::cli::Exit;
use crate::cli::audit::Audit;
use crate::cli::client::Host;
use crate::cli::client::Remote;
use crate::cli::client::Target;
use crate::cli::client::Unhosted;
use crate::cli::clients::Clients;
use crate::cli::keys::Keys;
use crate::cli::usage::Usage;
use crate::cli::users::Users;
use crate::cli::voice::Command as _;
use crate::cli::voice::Speaking;
use crate::clock::ManualClock;
use crate::config::compile_text;
use crate::config::outside::Outside;
use crate::issuer::IssuerState;
use crate::issuer::NeverUsed;
use crate::issuer::control::Control;
use crate::issuer::passwords::Passwords;
use crate::issuer::router;
use crate::issuer::usage::UsageError;
use crate::issuer::usage::UsageRead;
use crate::jose::signer::Signer;
use crate::model::key_text::KeyForm;
use crate::model::key_text::read_key;
use crate::model::rules::samples::nothing;
use crate::model::time::Timestamp;
use crate::model::usage::Outcome;
use crate::model::usage::UsagePage;
use crate::model::usage::UsageQuery;
use crate::model::usage::UsageRow;
use crate::secrets::Peppers;
use crate::store::Answer;
use crate::store::embedded::Embedded;

const START: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);

#[derive(Debug, Parser)]
#[command(name = "tollgate")]
enum Line {
    Keys(Speaking<Keys>),
    Users(Speaking<Users>),
    Clients(Speaking<Clients>),
    Audit(Speaking<Audit>),
    Usage(Usage),
}

/// Three counts of one user, two of them on the first page.
#[derive(Debug)]
struct Fixed;

impl UsageRead for Fixed {
    fn read<'a>(&'a self, asked: &'a UsageQuery) -> Answer<'a, Result<UsagePage, UsageError>> {
        let row = |route: &str, count| UsageRow {
            start: START,
            user: "alice".into(),
            key: None,
            route: route.into(),
            outcome: Outcome::Allowed,
            count,
        };
        if asked.users.as_ref().is_some_and(|users| !users.contains("alice")) {
            return Answer::ready(Ok(UsagePage { rows: Vec::new(), next: None }));
        }
        Answer::ready(Ok(match asked.after {
            None => UsagePage { rows: vec![row("list", 5), row("read", 1200)], next: Some("c/1".to_owned()) },
            Some(_) => UsagePage { rows: vec![row("send", 7)], next: None },
        }))
    }

    fn forget<'a>(&'a self, _user: &'a str) -> Answer<'a, Result<(), UsageError>> {
        Answer::ready(Ok(()))
    }
}

fn api(folder: &Path) -> Result<Router, Unhosted> {
    let peppers = Peppers::load_or_create(folder).unwrap();
    let clock = Arc::new(ManualClock::starting_at(START));
    let store = Arc::new(Embedded::open(folder, clock.clone()).map_err(|error| Unhosted::InUse(error.to_string()))?);
    let peppers = Arc::new(peppers);
    Ok(router(IssuerState {
        records: store.clone(),
        gate: Arc::new(gate_over(store, Arc::clone(&peppers), START)),
        signer: Arc::new(Signer::default()),
        passwords: Arc::new(Passwords::default()),
        federation: Arc::default(),
        peppers,
        rules: Arc::new(ArcSwap::from_pointee(nothing())),
        clock,
        last_used: Arc::new(NeverUsed),
        usage: Arc::new(Fixed),
        observer: Arc::new(()),
        audit: Arc::default(),
    }))
}

/// What a command wrote and how it ended.
struct Ran {
    exit: Exit,
    out: String,
    complaints: String,
}

async fn run(target: Target, words: &[&str]) -> Ran {
    let line = Line::try_parse_from(std::iter::once(&"tollgate").chain(words)).unwrap();
    let (mut out, mut complaints) = (Vec::new(), Vec::new());
    let exit = match line {
        Line::Keys(keys) => keys.run(target, &mut out, &mut complaints).await.unwrap(),
        Line::Users(users) => users.run(target, &mut out, &mut complaints).await.unwrap(),
        Line::Clients(clients) => clients.run(target, &mut out, &mut complaints).await.unwrap(),
        Line::Audit(audit) => audit.run(target, &mut out, &mut complaints).await.unwrap(),
        Line::Usage(usage) => usage.run(target, &mut out, &mut complaints).await.unwrap(),
    };
    Ran { exit, out: String::from_utf8(out).unwrap(), complaints: String::from_utf8(complaints).unwrap() }
}

/// A store of its own, opened anew by every command, with a socket on which nobody answers.
struct Alone(tempfile::TempDir);

impl Alone {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn folder(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn target(&self) -> Target {
        let folder = self.folder();
        let host: Host = Box::new(move || Box::pin(std::future::ready(api(&folder))));
        Target { socket: Some(self.0.path().join("control.sock")), host: Some(host), ..Target::default() }
    }

    async fn good(&self, words: &[&str]) -> Ran {
        let ran = run(self.target(), words).await;
        assert_eq!(ran.exit, Exit::Good, "{words:?}: {}", ran.complaints);
        ran
    }
}

fn id_of(key: &str) -> String {
    match read_key("tg", key.trim_end()) {
        KeyForm::Own(own) => own.id.to_owned(),
        form @ (KeyForm::Damaged | KeyForm::Foreign) => panic!("{form:?}"),
    }
}

// oauth: T1
#[tokio::test]
async fn a_new_key_goes_to_standard_output_alone() {
    let alone = Alone::new();
    let ran = alone.good(&["keys", "create", "--user", "alice", "--name", "ci", "--scope", "a:b,c:d", "--expires", "90d"]).await;
    let id = id_of(&ran.out);
    assert_eq!(ran.out.lines().count(), 1);
    assert_eq!(ran.complaints, format!("key {id} (ci) for alice. Store it now: it is not shown again.\n"));
    let shown = alone.good(&["keys", "show", &id]).await.out;
    let expected = format!(
        "id                {id}\nname              ci\nkey               tg_live_sk_{id}…\nstate             active\nuser              alice\n\
         organisation      -\nenvironment       live\nscopes            a:b c:d\ntier              -\nrate limit        -\napi version       -\n\
         created           2027-01-15 08:00\nnot before        -\nexpires           2027-04-15 08:00\nold secret until  -\nlast used         -\nlast route        -\n"
    );
    assert_eq!(shown, expected);
    let machine: Value =
        serde_json::from_str(&alone.good(&["keys", "create", "--user", "alice", "--env", "test", "--json"]).await.out).unwrap();
    assert!(machine["key"].as_str().unwrap().starts_with("tg_test_sk_"));
}

#[tokio::test]
async fn a_scope_that_no_route_wants_is_told_beside_the_key() {
    let alone = Alone::new();
    let text = "routes: [{ path: /orders, scopes: { all_of: [\"orders:read\"] } }]";
    let rules = Arc::new(compile_text(text, &Outside::default()).unwrap().1);
    let target = || Target { config: Some(("own.yaml".into(), Arc::clone(&rules))), ..alone.target() };
    let told = "warning: no route of own.yaml wants the scope `order:read` (did you mean `orders:read`?); \
                `tollgate check-config own.yaml` shows what each route wants; ";
    let bare = "warning: no scopes: this opens the routes of own.yaml that want none, and no others; ";
    for (words, remedy) in [
        (&["keys", "create", "--user", "alice"][..], " ends the key\n"),
        (&["keys", "new-file-entry", "--user", "alice"], "its `scopes` can be changed in the entry\n"),
    ] {
        let ran = run(target(), words).await;
        assert!(ran.exit == Exit::Good && ran.complaints.contains(bare) && ran.complaints.ends_with(remedy), "{}", ran.complaints);
        for machine in [&[][..], &["--json"]] {
            let told_of = async |scopes| run(target(), &[words, &["--scope", scopes], machine].concat()).await;
            let good = told_of("orders:read").await;
            assert!(good.exit == Exit::Good && !good.complaints.contains("warning"), "{words:?}: {}", good.complaints);
            let ran = told_of("orders:read,order:read").await;
            let is_told = ran.complaints.contains(told) && ran.complaints.ends_with(remedy);
            assert!(ran.exit == Exit::Good && is_told, "{words:?}: {}", ran.complaints);
            assert!(!ran.out.contains("check-config"), "{words:?}: {}", ran.out);
        }
    }
    let id = id_of(&run(target(), &["keys", "create", "--user", "alice"]).await.out);
    let mending = format!("{told}`tollgate keys change {id} --scope …` mends it, `tollgate keys revoke {id}` ends the key\n");
    assert_eq!(run(target(), &["keys", "change", &id, "--scope", "order:read"]).await.complaints, mending);
    assert_eq!(run(target(), &["keys", "change", &id, "--scope", ""]).await.complaints, "");
    assert_eq!(run(target(), &["keys", "change", &id, "--name", "ci"]).await.complaints, "");
    let mending = format!("{told}`tollgate users change bob --right …` mends it\n");
    for words in [&["users", "create", "bob"][..], &["users", "change", "bob"]] {
        let ran = run(target(), &[words, &["--right", "orders:read,order:read"]].concat()).await;
        assert_eq!((ran.exit, ran.complaints), (Exit::Good, mending.clone()), "{words:?}");
    }
    for words in [
        &["users", "create", "carol"][..],
        &["users", "change", "carol", "--right", "orders:*"],
        &["users", "change", "carol", "--right", ""],
    ] {
        assert_eq!(run(target(), words).await.complaints, "", "{words:?}");
    }
}

#[tokio::test]
async fn a_scope_that_the_config_lacks_is_refused_before_anything_is_done() {
    let alone = Alone::new();
    let id = id_of(&alone.good(&["keys", "create", "--user", "alice"]).await.out);
    let text = "scopes: [\"orders:read\"]\n\
                issuer: { url: https://id.example, resources: [{ uri: https://api.example }], scopes: { \"orders:read\": Read } }\n\
                routes: [{ path: /orders, scopes: { all_of: [\"orders:read\"] } }]";
    let rules = Arc::new(compile_text(text, &Outside::default()).unwrap().1);
    let target = || Target { config: Some(("own.yaml".into(), Arc::clone(&rules))), ..alone.target() };
    for (words, option, setting) in [
        (&["keys", "create", "--user", "alice"][..], "--scope", "scopes"),
        (&["keys", "new-file-entry", "--user", "alice"], "--scope", "scopes"),
        (&["keys", "change", &id], "--scope", "scopes"),
        (&["users", "create", "bob"], "--right", "scopes"),
        (&["users", "change", "alice"], "--right", "scopes"),
        (&["users", "invite", "--org", "acme"], "--right", "scopes"),
        (&["clients", "create", "--name", "shop"], "--scope", "issuer.scopes"),
        (&["clients", "change", "app_0123456789abcdefghij"], "--scope", "issuer.scopes"),
    ] {
        let told = format!("`{setting}` of own.yaml has no `order:read` (did you mean `orders:read`?); nothing was done\n");
        let ran = run(target(), &[words, &[option, "orders:read,order:read"]].concat()).await;
        assert!(ran.exit == Exit::Failed && ran.out.is_empty() && ran.complaints.ends_with(&told), "{words:?}: {}", ran.complaints);
        let ran = run(target(), &[words, &[option, "orders:read"]].concat()).await;
        assert!(!ran.complaints.contains("own.yaml"), "{words:?}: {}", ran.complaints);
    }
    assert_eq!(alone.good(&["keys", "list"]).await.out.lines().count(), 3, "a heading, the first key, and that of a good scope");
}

#[tokio::test]
async fn a_key_lives_and_ends_by_commands() {
    let alone = Alone::new();
    let made = alone.good(&["keys", "create", "--user", "alice"]).await;
    let id = id_of(&made.out);
    assert_eq!(made.complaints, format!("key {id} for alice. Store it now: it is not shown again.\n"));
    assert!(alone.good(&["keys", "disable", &id]).await.out.starts_with(&format!("{id} disabled")));
    assert!(alone.good(&["keys", "enable", &id]).await.out.contains("it is active"));
    let changed =
        alone.good(&["keys", "change", &id, "--scope", "a:b", "--rate-limit", "5", "--expires", "2030-01-01T00:00:00Z"]).await.out;
    assert!(changed.contains("scopes            a:b") && changed.contains("rate limit        5") && changed.contains("2030-01-01 00:00"));
    let cleared = alone.good(&["keys", "change", &id, "--scope", "", "--rate-limit", "none", "--expires", "none"]).await.out;
    assert!(cleared.contains("scopes            -") && cleared.contains("rate limit        -") && cleared.contains("expires           -"));
    let rotated = alone.good(&["keys", "rotate", &id, "--grace", "1h"]).await;
    assert_eq!(id_of(&rotated.out), id);
    assert!(rotated.complaints.contains("until 2027-01-15 09:00 UTC"), "{}", rotated.complaints);
    let listed = alone.good(&["keys", "list", "--user", "alice"]).await.out;
    assert_eq!(
        listed,
        format!(
            "ID            NAME  STATE   USER   ORG  ENV   SCOPES  TIER  EXPIRES  LAST USED\n{id}  key   active  alice  -    live  -       -     -        -\n"
        )
    );
    assert!(alone.good(&["keys", "revoke", &id]).await.out.contains("for good"));
    for words in [&["keys", "enable", &id][..], &["keys", "rotate", &id], &["keys", "show", "nothere"], &["keys", "change", &id]] {
        let ran = run(alone.target(), words).await;
        assert_eq!(ran.exit, Exit::Failed, "{words:?}");
        assert!(ran.out.is_empty() && ran.complaints.starts_with("tollgate keys: "), "{}", ran.complaints);
    }
    assert_eq!(alone.good(&["keys", "list", "--state", "active"]).await.complaints, "There are no such keys.\n");
}

#[tokio::test]
async fn mistakes_are_told_in_the_apis_words() {
    let alone = Alone::new();
    for (words, expected) in [
        (&["keys", "create", "--user", "a b"][..], "user must be a text"),
        (&["keys", "create", "--user", "a", "--expires", "soon"], "expires_at must be a time"),
        (&["keys", "create", "--user", "a", "--tier", "gold"], "tier must be absent"),
        (&["keys", "list", "--state", "odd"], "state must be one of"),
        (&["keys", "import", "/nowhere/keys.json"], "/nowhere/keys.json"),
    ] {
        let ran = run(alone.target(), words).await;
        assert_eq!(ran.exit, Exit::Failed);
        assert!(ran.complaints.contains(expected), "{words:?}: {}", ran.complaints);
    }
}

#[tokio::test]
async fn a_file_of_foreign_keys_is_taken_in_by_parts() {
    let alone = Alone::new();
    let file = alone.0.path().join("old.json");
    let entry = |number: usize| json!({"sha256": format!("{number:064x}"), "name": format!("k{number}"), "user": "alice"});
    let mut entries: Vec<Value> = (0..250).map(entry).collect();
    entries[130] = json!({"sha256": "short", "name": "x", "user": "alice"});
    std::fs::write(&file, json!(entries).to_string()).unwrap();
    let ran = run(alone.target(), &["keys", "import", file.to_str().unwrap()]).await;
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Failed, "249 of 250 keys imported\n"));
    assert!(ran.complaints.starts_with("entry 131: sha256 must be 64 hex digits"), "{}", ran.complaints);
    assert!(ran.complaints.contains("imported_keys"), "the gate would not look at them");
    let listed = alone.good(&["keys", "list", "--limit", "1000"]).await.out;
    assert_eq!(listed.lines().count(), 250);
    let first = alone.good(&["keys", "list", "--limit", "3"]).await;
    assert_eq!(first.out.lines().count(), 4);
    let after = first.complaints.trim_end().rsplit(' ').next().unwrap().to_owned();
    let rest: Value =
        serde_json::from_str(&alone.good(&["keys", "list", "--limit", "1000", "--after", &after, "--json"]).await.out).unwrap();
    assert_eq!(rest["data"].as_array().unwrap().len(), 246);
}

#[tokio::test]
async fn an_entry_for_the_keys_file_can_be_redirected() {
    let alone = Alone::new();
    let ran = alone.good(&["keys", "new-file-entry", "--user", "ci", "--scope", "a:b"]).await;
    let id = id_of(ran.complaints.lines().next().unwrap());
    assert!(ran.out.starts_with(&format!("- id: {id}\n  name: \"key\"\n")) && ran.out.contains("hash: \"hmac-sha256:"), "{}", ran.out);
    assert!(!ran.out.contains(ran.complaints.lines().next().unwrap()));
}

#[tokio::test]
async fn counts_are_gathered_over_pages() {
    let alone = Alone::new();
    let expected = "\
START       USER   KEY  ROUTE  OUTCOME  COUNT
2027-01-15  alice  -    list   allowed      5
2027-01-15  alice  -    read   allowed   1200
2027-01-15  alice  -    send   allowed      7
                               total     1212
";
    assert_eq!(alone.good(&["usage", "--user", "alice"]).await.out, expected);
    let monthly = alone.good(&["usage", "--period", "month", "--limit", "2"]).await;
    assert!(monthly.out.contains("\n2027-01 ") && monthly.complaints.contains("more rows"));
    let machine: Value = serde_json::from_str(&alone.good(&["usage", "--json"]).await.out).unwrap();
    assert_eq!(machine["data"].as_array().unwrap().len(), 3);
    assert_eq!(run(alone.target(), &["usage", "--from", "yesterday"]).await.exit, Exit::Failed);
}

#[tokio::test]
async fn a_user_whom_nobody_knows_is_told_beside_the_lack_of_counts() {
    let alone = Alone::new();
    for user in ["alice", "bob"] {
        alone.good(&["users", "create", user]).await;
    }
    for (user, hint) in [("alicia", Some(" (did you mean `alice`?)")), ("nobody", Some("")), ("bob", None), ("example:bob", None)] {
        let told = hint.map(|hint| format!("No user of this store is called `{user}`{hint}; those of JWT issuers need not be in it.\n"));
        let expected =
            format!("There are no such counts. With Redis a request is among them after some two seconds.\n{}", told.unwrap_or_default());
        assert_eq!(alone.good(&["usage", "--user", user]).await.complaints, expected);
    }
    let listed = alone.good(&["keys", "list", "--user", "alicia"]).await;
    assert!(format!("{}{}", listed.out, listed.complaints).contains("is called `alicia` (did you mean `alice`?)"), "{}", listed.complaints);
}

#[tokio::test]
async fn a_user_who_is_made_by_the_way_is_told_where_another_is_called_nearly_so() {
    let alone = Alone::new();
    alone.good(&["users", "create", "alice"]).await;
    let warned = |ran: &Ran| ran.complaints.contains("warning: there was no user");
    assert!(!warned(&alone.good(&["keys", "create", "--user", "alice"]).await));
    let made = alone.good(&["keys", "create", "--user", "alise"]).await;
    assert!(made.complaints.ends_with(
        "warning: there was no user `alise`, and now there is (did you mean `alice`?); `tollgate users erase alise` ends it with its keys\n"
    ));
    assert!(!warned(&alone.good(&["keys", "create", "--user", "alise"]).await), "it is there by now");
    assert!(!warned(&alone.good(&["keys", "create", "--user", "somebody"]).await));
}

// battery: X9
#[tokio::test]
async fn a_running_process_is_asked_and_its_store_never_opened_twice() {
    let alone = Alone::new();
    let folder = alone.folder();
    let path = alone.0.path().join("run/control.sock");
    let served = api(&folder).unwrap();
    let control = Control::bind(&path).await.unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(control.serve(served, async move {
        let _any = stopped.await;
    }));
    let over_socket = || Target {
        socket: Some(path.clone()),
        host: Some(Box::new(|| Box::pin(std::future::ready(Err(Unhosted::Failed("it was opened twice".to_owned())))))),
        ..Target::default()
    };
    let ran = run(over_socket(), &["keys", "create", "--user", "alice"]).await;
    assert_eq!(ran.exit, Exit::Good, "{}", ran.complaints);
    let id = id_of(&ran.out);
    assert!(run(over_socket(), &["keys", "list"]).await.out.contains(&id));
    // The process runs, but the socket that is asked is another: the store's lock speaks.
    tokio::time::pause();
    let ran = run(alone.target(), &["keys", "list"]).await;
    tokio::time::resume();
    assert_eq!(ran.exit, Exit::Failed);
    assert!(ran.complaints.contains("no process answers on") && ran.complaints.contains("is in use by process"), "{}", ran.complaints);
    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
    let only_socket = Target { socket: Some(path.clone()), ..Target::default() };
    let ran = run(only_socket, &["keys", "list"]).await;
    assert!(ran.complaints.contains("start `tollgate serve`"), "{}", ran.complaints);
    assert!(alone.good(&["keys", "list"]).await.out.contains(&id), "and with the process gone the store opens here");
}

#[test]
fn the_command_line_is_sound() {
    Arguments::command().debug_assert();
    let line = "GET /orders -H x-api-key:k --peer 10.0.0.1 --at 1893456000";
    assert!(Arguments::try_parse_from(["tollgate", "explain"].into_iter().chain(line.split(' '))).is_ok());
    // A container's environment names the config.
    assert!(Arguments::try_parse_from(["tollgate", "healthcheck", "--config", "a", "--address", "127.0.0.1:9464"]).is_ok());
    // What would be judged how is asked on this machine alone: nobody is to think that another gate had answered.
    assert!(Arguments::try_parse_from(["tollgate", "explain", "GET", "/a", "--url", "http://gate.example"]).is_err());
    let bare = Arguments::try_parse_from(["tollgate", "explain"]).unwrap_err().to_string();
    assert!(bare.contains("explain [OPTIONS] --curl") && bare.contains("explain [OPTIONS] --recorded"), "{bare}");
}

#[tokio::test]
async fn users_live_and_are_erased_by_commands() {
    let alone = Alone::new();
    assert!(alone.good(&["users", "create", "alice", "--org", "acme", "--right", "a:b,c:d"]).await.out.contains("alice made"));
    let listed = alone.good(&["users", "list"]).await.out;
    assert!(listed.contains("alice") && listed.contains("a:b c:d"), "{listed}");
    let changed = alone.good(&["users", "change", "alice", "--no-ceiling"]).await.out;
    assert!(changed.contains("no ceiling"), "{changed}");
    assert!(alone.good(&["users", "disable", "alice"]).await.out.contains("disabled"));
    assert!(alone.good(&["users", "show", "alice"]).await.out.contains("disabled"));
    assert!(alone.good(&["users", "enable", "alice"]).await.out.contains("enabled"));
    assert!(alone.good(&["users", "erase", "alice"]).await.out.contains("erased"));
    assert_eq!(run(alone.target(), &["users", "show", "alice"]).await.exit, Exit::Failed);
    assert_eq!(run(alone.target(), &["users", "change", "alice"]).await.exit, Exit::Failed);
}

#[tokio::test]
async fn what_was_done_is_listed_and_verified() {
    let alone = Alone::new();
    let id = id_of(&alone.good(&["keys", "create", "--user", "alice"]).await.out);
    assert_eq!(alone.good(&["audit", "verify"]).await.out, "1 entry in 1 chain: as written\n");
    alone.good(&["keys", "revoke", &id]).await;
    let listed = alone.good(&["audit", "list", "--subject", &id]).await.out;
    assert!(listed.contains("operator") && listed.contains("key.created") && listed.contains("key.revoked"), "{listed}");
    assert_eq!(alone.good(&["audit", "list", "--subject", &id, "--deed", "key.rotated"]).await.complaints, "There are no such entries.\n");
    // Each of these commands opened the store anew, and so a chain.
    assert_eq!(alone.good(&["audit", "verify"]).await.out, "2 entries in 2 chains: as written\n");
    assert_eq!(run(alone.target(), &["audit", "list", "--deed", "odd"]).await.exit, Exit::Failed);
}

#[tokio::test]
async fn a_key_is_not_sent_where_it_could_be_read() {
    let key = || Some("tg_live_sk_x".parse().unwrap());
    for (url, key, expected) in [
        ("http://tollgate.example", key(), "must be https"),
        ("ftp://127.0.0.1", key(), "must be https"),
        ("tollgate", key(), "is no URL"),
        ("https://tollgate.example", None, "set TOLLGATE_KEY"),
        ("http://127.0.0.1:1", key(), "cannot be reached"),
    ] {
        let target = Target { remote: Some(Remote { url: url.to_owned(), key }), ..Target::default() };
        let ran = run(target, &["keys", "list"]).await;
        assert_eq!(ran.exit, Exit::Failed);
        assert!(ran.complaints.contains(expected) && !ran.complaints.contains("tg_live_sk_x"), "{url}: {}", ran.complaints);
    }
}
