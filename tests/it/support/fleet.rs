//! Several sidecars on one shared store, asked without an Envoy between.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
use serde_json::Value;
use serde_json::json;

use crate::support::folder::Folder;
use crate::support::grpc::check_request;
use crate::support::jwt;
use crate::support::ports::free_port;
use crate::support::process::wait_until;
use crate::support::redis::Cluster;
use crate::support::redis::Place;
use crate::support::redis::Sentinels;
use crate::support::scenario::JWT_SECRET;
use crate::support::scenario::MadeKey;
use crate::support::scenario::sum_of;
use crate::support::tollgate;
use crate::support::tollgate::CheckAt;
use crate::support::tollgate::Tollgate;

/// The sidecars give the store 50 ms for everything that one check asks; the rest is a busy machine.
pub const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What stands in every sidecar's `tollgate.yaml`; words in capitals are replaced.
const RULES: &str = r#"
listen:
  check: unix:./run/check.sock
  control: unix:./data/control.sock
  ops: 127.0.0.1:OPS
store:
  redis:
    path: ./data
STORE
ledger: { path: ./data/ledger }
peppers: [{ id: shared, secret: { file: ./pepper } }]
lifecycle: { drain_delay: 0s, grace: 1s }
key_brand: acme
guard: { per_address: { failures_per_minute: 1000000 }, per_key_prefix: { failures_per_minute: 1000000 } }
issuers:
  - name: shared
    issuer: https://shared.example
    audience: https://api.example.com
    algorithms: [HS256]
    keys: { hmac_secret: { file: ./jwt-secret } }
    claims: { user: sub, scopes: scope, tier: tier }
tiers:
  free: {}
  limited: { requests_per_minute: 60000000, burst: 1000000 }
  small: { requests_per_minute: 60, burst: 10 }
  patient: { grace: 30s }
default_tier: free
routes:
  - { name: open, path: /open, auth: public }
  - { name: orders, path: /orders, scopes: { all_of: [orders:read] } }
  - { name: admin, path: /admin, scopes: { all_of: [admin:all] } }
"#;

/// A fleet before it starts.
#[derive(Clone, Debug)]
pub struct FleetPlan {
    store: String,
    rules: String,
}

impl FleetPlan {
    /// On one server, or on a proxy before it.
    pub fn on(place: &Place) -> Self {
        let url = match place {
            Place::Tcp(port) => format!("url: redis://127.0.0.1:{port}"),
            Place::Unix(path) => format!("url: unix:{}", path.display()),
        };
        Self { store: String::new(), rules: RULES.to_owned() }.store(&url)
    }

    pub fn on_sentinels(sentinels: &Sentinels) -> Self {
        let urls: Vec<String> = sentinels.addresses().iter().map(|address| format!("redis://{address}")).collect();
        let plan = Self { store: String::new(), rules: RULES.to_owned() };
        plan.store(&format!("urls: [{}]", urls.join(", "))).store("mode: sentinel").store(&format!("master_name: {}", sentinels.name()))
    }

    pub fn on_cluster(cluster: &Cluster) -> Self {
        let urls: Vec<String> = cluster.addresses().iter().map(|address| format!("redis://{address}")).collect();
        Self { store: String::new(), rules: RULES.to_owned() }.store(&format!("urls: [{}]", urls.join(", "))).store("mode: cluster")
    }

    /// Adds a setting of `store.redis`.
    #[must_use]
    pub fn store(mut self, line: &str) -> Self {
        let _ = writeln!(self.store, "    {line}");
        self
    }

    /// Replaces a text of the rules, which must be there.
    #[must_use]
    pub fn with(mut self, from: &str, to: &str) -> Self {
        assert!(self.rules.contains(from), "the rules have no `{from}`");
        self.rules = self.rules.replace(from, to);
        self
    }

    /// Starts so many sidecars and waits until each is ready.
    pub fn start(self, count: usize) -> Fleet {
        self.start_by(count, Tollgate::start)
    }

    /// The same while the store may be dead.
    pub fn start_unready(self, count: usize) -> Fleet {
        self.start_by(count, Tollgate::start_unready)
    }

    fn start_by(self, count: usize, start: fn(&std::path::Path, &str, CheckAt, u16) -> Tollgate) -> Fleet {
        let folder = Folder::new();
        let sidecars = (0..count).map(|index| {
            let name = format!("s{index}");
            for inside in ["run", "data"] {
                std::fs::create_dir_all(folder.path().join(&name).join(inside)).expect("a folder inside the test's folder");
            }
            let ops_port = free_port();
            let rules = self.rules.replace("OPS", &ops_port.to_string()).replace("STORE\n", &self.store);
            folder.write(&format!("{name}/tollgate.yaml"), &rules);
            folder.write_secret(&format!("{name}/pepper"), "a pepper of the tests that is long enough");
            folder.write_secret(&format!("{name}/jwt-secret"), JWT_SECRET);
            folder.write_secret(&format!("{name}/redis-password"), PASSWORD);
            let short = folder.short_path().join(&name);
            let tollgate = start(&folder.path().join(&name), "tollgate.yaml", CheckAt::Unix(short.join("run/check.sock")), ops_port);
            Sidecar { tollgate, folder: folder.path().join(&name), control: short.join("data/control.sock") }
        });
        Fleet { sidecars: sidecars.collect(), folder }
    }
}

/// What the sidecars' file `redis-password` holds in the beginning.
pub const PASSWORD: &str = "the-first-password-of-the-tests";

/// Running sidecars.
#[derive(Debug)]
pub struct Fleet {
    pub sidecars: Vec<Sidecar>,
    pub folder: Folder,
}

/// One of them.
#[derive(Debug)]
pub struct Sidecar {
    pub tollgate: Tollgate,
    /// With its files.
    pub folder: PathBuf,
    control: PathBuf,
}

impl Sidecar {
    /// Asks the control API; its status and body.
    ///
    /// # Errors
    /// When the socket is dead.
    pub fn try_control(&self, method: &str, target: &str, body: &Value) -> std::io::Result<(u16, Value)> {
        tollgate::ask_control(&self.control, method, target, body)
    }

    pub fn control(&self, method: &str, target: &str, body: &Value) -> (u16, Value) {
        self.try_control(method, target, body).expect("the control API answers")
    }

    /// Makes a key that may read orders.
    pub fn key(&self, user: &str, tier: &str) -> MadeKey {
        self.key_with(user, tier, &["orders:read"])
    }

    /// Tries again while the store does not answer.
    pub fn key_with(&self, user: &str, tier: &str, scopes: &[&str]) -> MadeKey {
        let body = json!({ "name": "test", "user": user, "tier": tier, "scopes": scopes });
        let mut made = (0, Value::Null);
        wait_until("a key is made", || {
            made = self.control("POST", "/v1/keys", &body);
            assert!(matches!(made.0, 201 | 503), "{} {}", made.0, made.1);
            made.0 == 201
        });
        let text = |member: &str| made.1[member].as_str().unwrap_or_else(|| panic!("{member} in {}", made.1)).to_owned();
        MadeKey { id: text("id"), text: text("key") }
    }

    /// Ends a key for good; the status and the body of the answer.
    pub fn revoke(&self, id: &str) -> (u16, Value) {
        self.control("DELETE", &format!("/v1/keys/{id}"), &Value::Null)
    }

    pub fn is_ready(&self) -> bool {
        self.tollgate.ops("/readyz").status == 200
    }

    /// Whether it may use what it knows of keys and users.
    pub fn holds_lease(&self) -> bool {
        self.tollgate.metric("tollgate_changes_lease_held", &[]) > 0.5
    }

    /// Waits until it has taken over every change of this moment.
    pub fn hears_the_news(&self) {
        let polls = || self.tollgate.metric("tollgate_changes_polls_total", &["success"]);
        let before = polls();
        // One poll may be under way, and have been answered before.
        wait_until("the changes are polled again", || polls() > before + 1.5 && self.tollgate.metric("tollgate_changes_lag", &[]) < 0.5);
    }

    /// Everything that it ever said, in logs and on its pages.
    pub fn said(&self) -> String {
        let process = &self.tollgate.process;
        let pages = ["/readyz", "/metrics", "/stats"].map(|page| self.tollgate.ops(page).text());
        format!("{}\n{}\n{}", process.output(), process.errors(), pages.join("\n"))
    }

    /// A user's allows as the shared store has them. A store that is between two primaries says nothing, which is no count.
    pub fn counted(&self, user: &str) -> u64 {
        let question = ["usage", "--config", "tollgate.yaml", "--json", "--user", user];
        let mut report = None;
        wait_until("the counts can be read", || {
            let output = tollgate::run(&self.folder, &question);
            report = output.status.success().then_some(output.stdout);
            report.is_some()
        });
        let report = serde_json::from_slice(&report.expect("a report")).expect("JSON");
        sum_of(&report, "allowed")
    }
}

/// A check of a GET with a bearer credential.
pub fn bearer(target: &str, credential: &str) -> CheckRequest {
    check_request("GET", target, &[("authorization", format!("Bearer {credential}").as_bytes())])
}

/// A token of the issuer that the fleet trusts, for a subject of any spelling.
pub fn token(subject: &str, tier: &str) -> String {
    let claims = jwt::claims("https://shared.example", "https://api.example.com", subject);
    jwt::hs256(&jwt::with(claims, json!({ "scope": "orders:read", "tier": tier })), JWT_SECRET)
}
