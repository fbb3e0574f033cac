//! Two sidecars on one shared store behind one Envoy, under load with API keys: restarted in turn, and through a failover of the store.
//!
//! `TOLLGATE_TEST_FAILOVERS` asks for more failovers than the usual run has time for.

use std::time::Duration;

use crate::support::envoy::Envoy;
use crate::support::folder::Folder;
use crate::support::http1::message;
use crate::support::load::Load;
use crate::support::load::Tally;
use crate::support::ports::free_port;
use crate::support::process::wait_until;
use crate::support::redis::Flavour;
use crate::support::redis::RedisServer;
use crate::support::redis::Sentinels;
use crate::support::scenario::Plan;
use crate::support::tollgate;
use crate::support::tollgate::CheckAt;
use crate::support::tollgate::Tollgate;
use crate::support::upstream::Upstream;

/// Two sidecars behind an Envoy.
struct Pair {
    sidecars: Vec<Tollgate>,
    envoy: Envoy,
    upstream: Upstream,
    folder: Folder,
}

impl Pair {
    /// `store` is what stands in `store.redis` of both.
    fn start(store: &str, tier: &str) -> Self {
        let (port, admin_port) = (free_port(), free_port());
        let plan = Plan::of("quickstart")
            .with_two_instances()
            .envoy_with("port_value: 10000", &format!("port_value: {port}"))
            .envoy_with("port_value: 9901", &format!("port_value: {admin_port}"))
            .tollgate_with("  embedded: { path: ./data }\n", &format!("  redis: {{ path: ./data, {store} }}\n"))
            .tollgate_with("enterprise: { requests_per_minute: 1000, burst: 100 }", &format!("enterprise: {{ {tier} }}"))
            .tollgate_with(
                "errors: standard\n",
                "errors: standard\nlifecycle: { drain_delay: 1s }\npeppers: [{ id: shared, secret: { file: ./pepper } }]\n",
            );
        let folder = plan.folder.path();
        plan.folder.write_secret("pepper", "a pepper of the tests that is long enough");
        plan.folder.write("envoy.yaml", &plan.envoy);
        let upstream = Upstream::unix(&plan.folder.short_path().join("run/upstream.sock"));
        let sidecars = ["a", "b"].iter().map(|name| {
            let ops_port = free_port();
            let rules = plan.tollgate.replace("run/check.sock", &format!("run/{name}.sock")).replace("./data", &format!("./data-{name}"));
            plan.folder.write(&format!("{name}.yaml"), &rules.replace("127.0.0.1:9464", &format!("127.0.0.1:{ops_port}")));
            let check = CheckAt::Unix(plan.folder.short_path().join(format!("run/{name}.sock")));
            Tollgate::start(folder, &format!("{name}.yaml"), check, ops_port)
        });
        let sidecars = sidecars.collect();
        let envoy = Envoy::start(folder, "envoy.yaml", port, admin_port);
        let pair = Self { sidecars, envoy, upstream, folder: plan.folder };
        wait_until("Envoy knows both sidecars", || pair.healthy() == 2);
        pair
    }

    fn healthy(&self) -> u64 {
        self.envoy.statistic("cluster.tollgate.membership_healthy")
    }

    /// A message with a new key, made at one of the two.
    fn message(&self, at: &str, user: &str) -> Vec<u8> {
        let file = format!("{at}.yaml");
        let arguments = ["keys", "create", "--config", &file, "--json", "--user", user, "--name", "test", "--tier", "enterprise"];
        let made = tollgate::run_json(self.folder.path(), &[arguments.as_slice(), &["--scope", "conversations:read"]].concat());
        let key = made["key"].as_str().unwrap_or_else(|| panic!("a key in {made}"));
        message("GET", "/api/v1/conversations", "api.example.com", &[("authorization", &format!("Bearer {key}"))], b"")
    }

    /// Clients of two users of each sidecar.
    fn load(&self) -> Load {
        let keys = ["a", "b", "a", "b"].iter().enumerate();
        Load::start(self.envoy.port, keys.map(|(number, at)| self.message(at, &format!("user-{number}"))).collect())
    }

    /// All users' allows, as one of them tells.
    fn counted(&self, at: &str) -> u64 {
        let file = format!("{at}.yaml");
        let report = tollgate::run_json(self.folder.path(), &["usage", "--config", &file, "--json"]);
        let rows = report["data"].as_array().cloned().unwrap_or_default();
        rows.iter().filter(|row| row["outcome"] == "allowed").filter_map(|row| row["count"].as_u64()).sum()
    }

    fn pass(&self, count: u64) {
        let before = self.upstream.count();
        wait_until("the load goes on", || self.upstream.count() > before + count);
    }
}

#[test]
fn two_sidecars_on_one_store_are_restarted_in_turn_and_no_request_fails() {
    let server = RedisServer::start();
    // A sidecar that has just started asks the store about every key, and a machine that runs tests may need more than 50 ms for that.
    let store = format!("url: \"unix:{}\", timeouts: {{ check: 1s }}", server.socket().display());
    let mut pair = Pair::start(&store, "requests_per_minute: 60000000, burst: 1000000");
    let load = pair.load();
    pair.pass(50);
    for _ in 0..2 {
        for index in 0..2 {
            let status = pair.sidecars[index].process.stop();
            assert_eq!(status.code(), Some(0), "{}", pair.sidecars[index].process.last_words());
            pair.pass(50);
            pair.sidecars[index].restart();
            wait_until("Envoy has the sidecar back", || pair.healthy() == 2);
        }
    }
    let tally = load.finish();
    tally.assert_flawless(500);
    for at in ["a", "b"] {
        wait_until("every answer is counted once", || pair.counted(at) == tally.of(200));
    }
    assert_eq!(pair.upstream.count(), tally.of(200));
}

fn failovers() -> Option<u64> {
    std::env::var("TOLLGATE_TEST_FAILOVERS").ok().map(|rounds| rounds.parse().expect("TOLLGATE_TEST_FAILOVERS is a number"))
}

/// Load through so many failovers, in turn with a killed primary and with one that falls silent.
fn through_failovers(rounds: u64, tier: &str) -> Vec<Tally> {
    let mut sentinels = Sentinels::start_with(Flavour::Redis, &["--min-replicas-to-write", "1", "--min-replicas-max-lag", "3"]);
    let urls: Vec<String> = sentinels.addresses().iter().map(|address| format!("\"redis://{address}\"")).collect();
    let store = format!("urls: [{}], mode: sentinel, master_name: {}", urls.join(", "), sentinels.name());
    let pair = Pair::start(&store, tier);
    let (first, _) = (pair.load(), pair.pass(50));
    drop(first.finish());
    (0..rounds)
        .map(|round| {
            let load = pair.load();
            pair.pass(100);
            if round % 2 == 0 {
                sentinels.kill_primary();
            } else {
                sentinels.freeze_primary();
            }
            sentinels.heal();
            // Every sidecar has found the new primary when keys can be made again at both.
            wait_until("both sidecars are ready", || pair.sidecars.iter().all(|sidecar| sidecar.ops("/readyz").status == 200));
            std::thread::sleep(Duration::from_secs(1));
            pair.pass(100);
            load.finish()
        })
        .collect()
}

// battery: R5
#[test]
fn through_a_failover_nobody_with_a_grace_is_turned_away() {
    let rounds = failovers().unwrap_or(1);
    let tallies = through_failovers(rounds, "requests_per_minute: 60000000, burst: 1000000, grace: 30s");
    let requests: u64 = tallies.iter().map(Tally::total).sum();
    eprintln!(
        "{rounds} failovers with grace: {requests} requests, {:?} failed",
        tallies.iter().map(|tally| tally.total() - tally.of(200) + tally.broken).collect::<Vec<_>>()
    );
    for tally in tallies {
        tally.assert_flawless(200);
    }
}

/// What is stated in the docs; the usual run has no time for it.
#[test]
fn without_a_grace_a_failover_costs_seconds() {
    let Some(rounds) = failovers() else { return };
    let tallies = through_failovers(rounds, "requests_per_minute: 60000000, burst: 1000000");
    for tally in &tallies {
        assert_eq!(tally.total(), tally.of(200) + tally.of(503), "{tally:?}");
        assert_eq!(tally.broken, 0, "{tally:?}");
    }
    let mut seconds: Vec<f64> =
        tallies.iter().map(|tally| tally.failing.map_or(0.0, |(first, last)| last.duration_since(first).as_secs_f64())).collect();
    seconds.sort_by(f64::total_cmp);
    let refused: u64 = tallies.iter().map(|tally| tally.of(503)).sum();
    let requests: u64 = tallies.iter().map(Tally::total).sum();
    eprintln!(
        "{rounds} failovers without grace: {requests} requests, {refused} answered 503; seconds of 503: median {:.1}, longest {:.1}",
        seconds[seconds.len() / 2],
        seconds[seconds.len() - 1]
    );
}
