//! A shared store in trouble, as a sidecar's clients see it: what each is answered, that nobody waits longer than the configured total,
//! and that everything is as before once the trouble is over.

use std::collections::BTreeSet;
use std::time::Duration;
use std::time::Instant;

use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
use serde_json::json;

use crate::support::check_load::Outcome;
use crate::support::check_load::ask;
use crate::support::fleet::Fleet;
use crate::support::fleet::FleetPlan;
use crate::support::fleet::LONGEST_WAIT;
use crate::support::fleet::PASSWORD;
use crate::support::fleet::bearer;
use crate::support::fleet::token;
use crate::support::grpc::Checker;
use crate::support::grpc::check_request;
use crate::support::process::wait_until;
use crate::support::redis::Answer;
use crate::support::redis::FaultyProxy;
use crate::support::redis::Mode;
use crate::support::redis::RedisServer;
use crate::support::redis::ServerPlan;

/// A sidecar's lease on what it knows, and some more.
const LAPSED: Duration = Duration::from_millis(2300);

/// One sidecar on one server, with a proxy between.
struct Rig {
    server: RedisServer,
    proxy: FaultyProxy,
    fleet: Fleet,
    checker: Checker,
    /// What each kind of client sends: see [`KINDS`].
    requests: Vec<CheckRequest>,
}

/// Known to the sidecar: a key without a limit, one whose tier has a grace, one with a limit, a token. Never seen: a key of the right
/// form. And somebody without a credential on a public route.
const KINDS: [&str; 6] = ["free", "patient", "limited", "token", "unknown", "public"];

type Row = [BTreeSet<Outcome>; 6];

impl Rig {
    fn start() -> Self {
        Self::start_on(ServerPlan::tcp().start())
    }

    fn start_on(server: RedisServer) -> Self {
        let proxy = FaultyProxy::tcp(server.place());
        let fleet = FleetPlan::on(&proxy.place()).start(1);
        Self::of(server, proxy, fleet)
    }

    fn of(server: RedisServer, proxy: FaultyProxy, fleet: Fleet) -> Self {
        let sidecar = &fleet.sidecars[0];
        let checker = Checker::connect(&sidecar.tollgate.check);
        let mut credentials: Vec<String> = ["free", "patient", "limited"].iter().map(|tier| sidecar.key(tier, tier).text).collect();
        credentials.push(token("carol", "free"));
        // Another one's key would carry its checksum.
        let gone = sidecar.key("gone", "free");
        assert_eq!(sidecar.revoke(&gone.id).0, 200);
        credentials.push(gone.text);
        let mut requests: Vec<CheckRequest> = credentials.iter().map(|text| bearer("/orders", text)).collect();
        requests.push(check_request("GET", "/open", &[]));
        let rig = Self { server, proxy, fleet, checker, requests };
        wait_until("everything is in order", || rig.is_in_order());
        rig
    }

    /// Asks a few times as each kind; what came, and the longest wait.
    fn probe(&self) -> (Row, Duration) {
        let mut row = Row::default();
        let mut slowest = Duration::ZERO;
        for _ in 0..8 {
            for (seen, request) in row.iter_mut().zip(&self.requests) {
                let began = Instant::now();
                seen.insert(ask(&self.checker, request));
                slowest = slowest.max(began.elapsed());
            }
        }
        (row, slowest)
    }

    fn is_in_order(&self) -> bool {
        let allowed = BTreeSet::from([Outcome::Allowed]);
        let (row, _) = self.probe();
        row[..4].iter().all(|seen| *seen == allowed) && row[4] == BTreeSet::from([Outcome::Denied(401)]) && row[5] == allowed
    }

    fn recovers(&self, what: &str) {
        let began = Instant::now();
        wait_until(&format!("everything is in order after: {what}"), || self.is_in_order() && self.fleet.sidecars[0].is_ready());
        eprintln!("{what}: in order again after {:.1?}", began.elapsed());
    }
}

/// What a fault leaves of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// It answers, only later.
    Kept,
    /// Nobody can be sure of anything.
    Lost,
    /// It may still be read.
    Readable,
    /// It answers so late that it depends on who waits.
    Late,
}

/// A fault, from its beginning to its end.
struct Fault {
    name: &'static str,
    trust: Trust,
    begin: fn(&mut Rig),
    end: fn(&mut Rig),
}

/// Goes through a fault: at once, after the lease has lapsed, and afterwards.
fn go_through(fault: &Fault) {
    let mut rig = Rig::start();
    let name = fault.name;
    (fault.begin)(&mut rig);
    let is_failure = |outcome: &Outcome| matches!(outcome, Outcome::Fault | Outcome::Denied(503));
    let begun = Instant::now();
    let mut slowest = Duration::ZERO;
    wait_until(&format!("the lease has lapsed: {name}"), || {
        let (row, slow) = rig.probe();
        slowest = slowest.max(slow);
        for (kind, seen) in KINDS.iter().zip(&row) {
            let fine = |outcome: &Outcome| match *kind {
                "unknown" => *outcome == Outcome::Denied(401) || is_failure(outcome),
                "token" | "public" | "patient" => *outcome == Outcome::Allowed,
                _ => *outcome == Outcome::Allowed || is_failure(outcome),
            };
            assert!(seen.iter().all(fine), "{name}, at once: {kind} got {seen:?}");
        }
        match fault.trust {
            Trust::Lost => !rig.fleet.sidecars[0].holds_lease(),
            // It is renewed, or may be: as long as it would have lasted.
            Trust::Kept | Trust::Readable | Trust::Late => begun.elapsed() > LAPSED,
        }
    });
    let (row, slow) = rig.probe();
    slowest = slowest.max(slow);
    for (kind, seen) in KINDS.iter().zip(&row) {
        let fine = |outcome: &Outcome| match (*kind, fault.trust) {
            ("token" | "public" | "patient", _) | ("free" | "limited", Trust::Kept) => *outcome == Outcome::Allowed,
            ("unknown", Trust::Kept) => *outcome == Outcome::Denied(401),
            ("free" | "limited", Trust::Readable | Trust::Late) => *outcome == Outcome::Allowed || is_failure(outcome),
            ("unknown", Trust::Readable | Trust::Late) => *outcome == Outcome::Denied(401) || is_failure(outcome),
            // It was revoked before the trouble began, and whoever saw that does not forget it.
            ("unknown", Trust::Lost) => *outcome == Outcome::Denied(401) || is_failure(outcome),
            _ => is_failure(outcome),
        };
        assert!(seen.iter().all(fine), "{name}, after the lease: {kind} got {seen:?}");
    }
    let wrote = (!matches!(fault.trust, Trust::Kept | Trust::Late)).then(|| {
        let body = json!({ "name": "test", "user": "dave", "tier": "free", "scopes": ["orders:read"] });
        rig.fleet.sidecars[0].control("POST", "/v1/keys", &body).0
    });
    assert!(wrote.is_none_or(|status| status == 503), "{name}: the issuer answered {wrote:?}");
    eprintln!("{name}: the slowest answer after {slowest:.1?}");
    assert!(slowest < LONGEST_WAIT, "{name}: somebody waited {slowest:?}");
    (fault.end)(&mut rig);
    rig.recovers(name);
    let sidecar = &rig.fleet.sidecars[0];
    assert!(!sidecar.tollgate.process.output().contains("panicked") && !sidecar.tollgate.process.errors().contains("panicked"), "{name}");
}

fn go_through_all(faults: &[Fault]) {
    std::thread::scope(|scope| {
        let running: Vec<_> = faults.iter().map(|fault| (fault.name, scope.spawn(|| go_through(fault)))).collect();
        let failed: Vec<&str> = running.into_iter().filter_map(|(name, thread)| thread.join().is_err().then_some(name)).collect();
        assert!(failed.is_empty(), "these went wrong: {failed:?}");
    });
}

fn pass(rig: &mut Rig) {
    rig.proxy.set(Mode::Pass);
}

// battery: R3
#[test]
fn a_store_that_is_late_or_silent_or_gone() {
    go_through_all(&[
        Fault { name: "late by 10 ms", trust: Trust::Kept, begin: |rig| rig.proxy.set(Mode::Delay(Duration::from_millis(10))), end: pass },
        Fault {
            name: "late by 200 ms",
            trust: Trust::Late,
            begin: |rig| rig.proxy.set(Mode::Delay(Duration::from_millis(200))),
            end: pass,
        },
        Fault { name: "late by 5 s", trust: Trust::Lost, begin: |rig| rig.proxy.set(Mode::Delay(Duration::from_secs(5))), end: pass },
        Fault { name: "a black hole", trust: Trust::Lost, begin: |rig| rig.proxy.set(Mode::BlackHole), end: pass },
        Fault {
            name: "a black hole for new connections",
            trust: Trust::Lost,
            begin: |rig| {
                rig.proxy.set(Mode::BlackHole);
                rig.proxy.cut();
            },
            end: pass,
        },
        Fault { name: "frozen", trust: Trust::Lost, begin: |rig| rig.server.freeze(), end: |rig| rig.server.thaw() },
        Fault {
            name: "killed",
            trust: Trust::Lost,
            begin: |rig| {
                rig.server.snapshot();
                rig.server.kill();
            },
            end: |rig| rig.server.restart(),
        },
        Fault { name: "connections refused", trust: Trust::Lost, begin: |rig| rig.proxy.set(Mode::Refuse), end: pass },
    ]);
}

// battery: R5 R6
#[test]
fn a_store_that_is_not_the_one_to_ask() {
    go_through_all(&[
        Fault {
            name: "LOADING",
            trust: Trust::Lost,
            begin: |rig| rig.proxy.set(Mode::Answer("LOADING Redis is loading the dataset in memory".to_owned())),
            end: pass,
        },
        Fault {
            name: "MASTERDOWN",
            trust: Trust::Lost,
            begin: |rig| {
                rig.proxy
                    .set(Mode::AnswerScripts("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.".to_owned()))
            },
            end: pass,
        },
        Fault {
            name: "READONLY",
            trust: Trust::Lost,
            begin: |rig| {
                // A replica of nobody keeps what it has and takes no writes.
                rig.server.ask(&["REPLICAOF", "127.0.0.1", "1"]);
            },
            end: |rig| {
                rig.server.ask(&["REPLICAOF", "NO", "ONE"]);
            },
        },
        Fault {
            name: "NOREPLICAS",
            trust: Trust::Lost,
            begin: |rig| {
                rig.server.ask(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
            },
            end: |rig| {
                rig.server.ask(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
            },
        },
        Fault {
            name: "BUSY",
            trust: Trust::Lost,
            begin: |rig| {
                rig.server.ask(&["CONFIG", "SET", "busy-reply-threshold", "20"]);
                let place = rig.server.place();
                std::thread::spawn(move || {
                    let mut talk = crate::support::redis::Talk::open(&place, Duration::from_secs(60)).expect("the server listens");
                    let _ = talk.ask(&["EVAL", "while true do end", "0"]);
                });
                wait_until("the server is busy", || matches!(rig.server.ask(&["PING"]), Answer::Error(text) if text.starts_with("BUSY")));
            },
            end: |rig| {
                rig.server.ask(&["SCRIPT", "KILL"]);
            },
        },
        Fault {
            name: "a storm of MOVED",
            trust: Trust::Lost,
            begin: |rig| {
                let line = format!("MOVED 1 127.0.0.1:{}", rig.proxy.port());
                rig.proxy.set(Mode::AnswerScripts(line));
            },
            end: pass,
        },
        Fault {
            name: "CLUSTERDOWN",
            trust: Trust::Lost,
            begin: |rig| rig.proxy.set(Mode::AnswerScripts("CLUSTERDOWN The cluster is down".to_owned())),
            end: pass,
        },
    ]);
}

// battery: R8
#[test]
fn a_store_that_is_full() {
    go_through_all(&[
        Fault {
            name: "OOM",
            trust: Trust::Readable,
            begin: |rig| {
                rig.server.ask(&["CONFIG", "SET", "maxmemory", "1"]);
            },
            end: |rig| {
                rig.server.ask(&["CONFIG", "SET", "maxmemory", "0"]);
            },
        },
        Fault {
            name: "MISCONF",
            trust: Trust::Readable,
            begin: |rig| {
                // Where the backup would go there is a folder, so no backup succeeds, and the server takes no more writes.
                let _ = std::fs::remove_file(rig.server.folder().join("dump.rdb"));
                std::fs::create_dir(rig.server.folder().join("dump.rdb")).expect("a folder");
                rig.server.ask(&["CONFIG", "SET", "save", "3600 1"]);
                rig.server.ask(&["BGSAVE"]);
                wait_until("the backup failed", || rig.server.info("rdb_last_bgsave_status").as_deref() == Some("err"));
            },
            end: |rig| {
                std::fs::remove_dir(rig.server.folder().join("dump.rdb")).expect("an empty folder");
                rig.server.ask(&["CONFIG", "SET", "save", ""]);
                rig.server.ask(&["BGSAVE"]);
                wait_until("the backup is there", || rig.server.info("rdb_last_bgsave_status").as_deref() == Some("ok"));
            },
        },
    ]);
}

/// Counts wait in the ledger while the store takes none, and are there exactly once afterwards.
// battery: R8
#[test]
fn counts_wait_while_the_store_is_full() {
    let rig = Rig::start();
    let sidecar = &rig.fleet.sidecars[0];
    let key = sidecar.key("erin", "patient");
    let ask_often = |times: u64| (0..times).for_each(|_| assert_eq!(ask(&rig.checker, &bearer("/orders", &key.text)), Outcome::Allowed));
    ask_often(50);
    wait_until("the counts of the beginning are there", || sidecar.counted("erin") == 50);
    rig.server.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    ask_often(100);
    let refused = || sidecar.tollgate.metric("tollgate_usage_publish_failures_total", &[]);
    let before = refused();
    wait_until("the store takes no counts", || refused() > before);
    rig.server.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    wait_until("the counts are there", || sidecar.counted("erin") >= 150);
    assert_eq!(sidecar.counted("erin"), 150);
}

/// Not ready and full of faults, but never an allow by accident; and it comes up by itself.
// battery: R3
#[test]
fn a_store_that_is_dead_from_the_start() {
    let mut server = ServerPlan::tcp().start();
    server.kill();
    let fleet = FleetPlan::on(&server.place()).start_unready(1);
    let sidecar = &fleet.sidecars[0];
    let checker = Checker::connect(&sidecar.tollgate.check);
    assert!(!sidecar.is_ready(), "{}", sidecar.tollgate.ops("/readyz").text());
    let begun = Instant::now();
    let made_up = format!("acme_live_sk_{}", "a".repeat(50));
    let mut slowest = Duration::ZERO;
    while begun.elapsed() < Duration::from_millis(500) {
        for (target, credential) in [("/orders", made_up.as_str()), ("/orders", "nobody")] {
            let asked = Instant::now();
            let outcome = ask(&checker, &bearer(target, credential));
            slowest = slowest.max(asked.elapsed());
            assert!(matches!(outcome, Outcome::Fault | Outcome::Denied(401 | 503)), "{outcome:?}");
        }
        assert_eq!(ask(&checker, &check_request("GET", "/open", &[])), Outcome::Allowed);
    }
    assert!(slowest < LONGEST_WAIT, "somebody waited {slowest:?}");
    assert_eq!(sidecar.control("POST", "/v1/keys", &json!({ "name": "test", "user": "alice", "scopes": ["orders:read"] })).0, 503);
    server.restart();
    wait_until("it is ready", || sidecar.is_ready());
    let key = sidecar.key("alice", "free");
    assert_eq!(ask(&checker, &bearer("/orders", &key.text)), Outcome::Allowed);
    // And again on what it left, with the store dead once more.
    drop(fleet);
}

// battery: R7
#[test]
fn a_store_that_refuses_us_learns_nothing_and_neither_does_a_log() {
    const SECOND: &str = "the-second-password-of-the-tests";
    let server = ServerPlan::tcp().start();
    let set_user = |rules: &[&str]| {
        let answer = server.ask(&[["ACL", "SETUSER", "gate"].as_slice(), rules].concat());
        assert_eq!(answer, Answer::Bytes(b"OK".to_vec()));
        // Whoever is connected keeps the rights that the connection has, but not its right to be there.
        server.ask(&["CLIENT", "KILL", "USER", "gate"]);
    };
    let everything = ["reset", "on", &format!(">{PASSWORD}"), "~*", "&*", "+@all"];
    set_user(&everything);
    let fleet = FleetPlan::on(&server.place()).store("username: gate").store("password: { file: ./redis-password }");
    let fleet = fleet.start(1);
    let sidecar = &fleet.sidecars[0];
    let checker = Checker::connect(&sidecar.tollgate.check);
    let (key, patient) = (sidecar.key("alice", "free"), sidecar.key("bob", "patient"));
    let both = || [&key, &patient].map(|key| ask(&checker, &bearer("/orders", &key.text)));
    // The news that the keys were made makes a sidecar forget what it read of them before.
    sidecar.hears_the_news();
    wait_until("the keys open the gate", || both() == [Outcome::Allowed; 2]);
    let wrong = ["resetpass", &format!(">{SECOND}")];
    let forbidden = ["-@all", "+ping", "+hello", "+info", "+client"];
    for (name, rules) in [("WRONGPASS", wrong.as_slice()), ("disabled", &["off"]), ("NOPERM", &forbidden), ("no keys", &["resetkeys"])] {
        set_user(rules);
        wait_until(&format!("the lease has lapsed: {name}"), || !sidecar.holds_lease());
        let began = Instant::now();
        let [free, with_grace] = both();
        assert!(began.elapsed() < 2 * LONGEST_WAIT, "{name}: somebody waited");
        assert!(matches!(free, Outcome::Fault | Outcome::Denied(503)), "{name}: {free:?}");
        assert_eq!(with_grace, Outcome::Allowed, "{name}");
        set_user(&everything);
        wait_until(&format!("everything is in order after {name}"), || both() == [Outcome::Allowed; 2] && sidecar.is_ready());
    }
    // Rotated while it runs: first both are good, then the file changes, then the old one goes.
    server.ask(&["ACL", "SETUSER", "gate", &format!(">{SECOND}")]);
    fleet.folder.write_secret("s0/redis-password", SECOND);
    server.ask(&["ACL", "SETUSER", "gate", &format!("<{PASSWORD}")]);
    server.ask(&["CLIENT", "KILL", "USER", "gate"]);
    sidecar.hears_the_news();
    wait_until("it goes on with the new password", || both() == [Outcome::Allowed; 2] && sidecar.is_ready());
    sidecar.hears_the_news();
    assert_eq!(both(), [Outcome::Allowed; 2]);
    let said = sidecar.said();
    for password in [PASSWORD, SECOND] {
        assert!(!said.contains(password), "a password stands in what it said");
    }
    assert!(
        said.contains("WRONGPASS") || said.contains("password"),
        "the operator learns what is wrong:\n{}",
        sidecar.tollgate.process.last_words()
    );
}

/// A store that refuses every connection is not stormed.
// battery: R12
#[test]
fn nobody_storms_a_store_that_is_down() {
    let rig = Rig::start();
    let before = rig.proxy.accepted();
    rig.proxy.set(Mode::Refuse);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        for request in &rig.requests {
            ask(&rig.checker, request);
        }
    }
    let attempts = rig.proxy.accepted() - before;
    eprintln!("{attempts} connections attempted in four seconds");
    assert!(attempts < 100, "{attempts} attempts");
    rig.proxy.set(Mode::Pass);
    rig.recovers("connections refused");
}
