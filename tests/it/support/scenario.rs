//! A folder of `envoy/` brought to life: its bootstrap, its rules, and upstreams that echo.

use std::path::Path;

use ::tollgate::model::caller::Environment;
use serde_json::Value;

use crate::support::envoy::Envoy;
use crate::support::folder::Folder;
use crate::support::http1::Client;
use crate::support::ports::free_port;
use crate::support::tollgate;
use crate::support::tollgate::CheckAt;
use crate::support::tollgate::Tollgate;
use crate::support::upstream::Upstream;

/// The secret that the tests sign the scenarios' HS256 tokens with.
pub const JWT_SECRET: &str = "a secret of the tests, long enough for HS256";

const ENDPOINT: &str = "              - endpoint: { address: { pipe: { path: run/check.sock } } }\n";

/// Both instances, asked for their health so that one which drains is left in peace before it goes. Envoy otherwise collects changes of
/// health for a second before its workers hear of them, and the drain delay would have to be longer than that.
const ENDPOINTS: &str = "              - endpoint: { address: { pipe: { path: run/a.sock } } }
              - endpoint: { address: { pipe: { path: run/b.sock } } }
      common_lb_config: { healthy_panic_threshold: { value: 0 }, update_merge_window: 0s }
      health_checks:
        - timeout: 1s
          interval: 0.1s
          no_traffic_interval: 0.1s
          unhealthy_threshold: 1
          healthy_threshold: 1
          grpc_health_check: { service_name: envoy.service.auth.v3.Authorization }
";

/// The two kinds of listener that the battery runs against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// The quickstart's.
    Shipped,
    /// Nothing but Tollgate defends.
    Careless,
}

impl Listener {
    pub const BOTH: [Self; 2] = [Self::Shipped, Self::Careless];

    /// The quickstart behind this kind of listener.
    pub fn plan(self) -> Plan {
        let plan = Plan::of("quickstart");
        match self {
            Self::Shipped => plan,
            Self::Careless => plan.careless(),
        }
    }
}

/// A scenario's texts before it starts.
#[derive(Debug)]
pub struct Plan {
    pub folder: Folder,
    pub envoy: String,
    pub tollgate: String,
}

impl Plan {
    /// Reads `envoy/<name>/` and puts free ports in the places that its files list.
    pub fn of(name: &str) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("envoy").join(name);
        let read = |file: &str| std::fs::read_to_string(source.join(file)).unwrap_or_else(|error| panic!("envoy/{name}/{file}: {error}"));
        let folder = Folder::new();
        for inside in ["run", "data"] {
            std::fs::create_dir(folder.path().join(inside)).expect("a folder inside the test's folder");
        }
        for secret in ["jwt-secret", "auth-secret"] {
            folder.write_secret(secret, JWT_SECRET);
        }
        // A bootstrap without rules of its own goes with the quickstart's.
        let rules = if source.join("tollgate.yaml").exists() { "tollgate.yaml" } else { "../quickstart/tollgate.yaml" };
        for file in ["sds-client.yaml", "sds-authority.yaml", "sds-server.yaml"].into_iter().filter(|file| source.join(file).exists()) {
            folder.write(file, &read(file));
        }
        let plan = Self { folder, envoy: read("envoy.yaml"), tollgate: read(rules) };
        // Machines that run tests are slow at times, and no test of a scenario is about this timeout.
        plan.envoy_with("timeout: 0.250s", "timeout: 5s")
    }

    /// Replaces a text of the bootstrap, which must be there.
    #[must_use]
    pub fn envoy_with(mut self, from: &str, to: &str) -> Self {
        self.envoy = replaced(&self.envoy, from, to);
        self
    }

    /// Two instances, at `run/a.sock` and `run/b.sock`.
    #[must_use]
    pub fn with_two_instances(self) -> Self {
        self.envoy_with(ENDPOINT, ENDPOINTS)
    }

    /// Replaces a text of the rules, which must be there.
    #[must_use]
    pub fn tollgate_with(mut self, from: &str, to: &str) -> Self {
        self.tollgate = replaced(&self.tollgate, from, to);
        self
    }

    /// Adds routes (YAML list entries, two spaces deep) to the end of the rules.
    #[must_use]
    pub fn with_routes(mut self, entries: &str) -> Self {
        self.tollgate.push_str(entries);
        self
    }

    /// Takes every defence out of the quickstart's listener, so that only Tollgate defends: nothing removed early, paths as they came,
    /// underscores allowed, headers joined by Envoy, nothing validated.
    #[must_use]
    pub fn careless(self) -> Self {
        let kept = ["user", "x-user-id", "x-org-id", "x-key-id", "x-scopes", "x-tier", "x-original-url", "x-rewrite-url"];
        let bare = kept.iter().fold(self, |plan, name| plan.envoy_with(&format!("                        - remove: {name}\n"), ""));
        bare.envoy_with("headers_with_underscores_action: REJECT_REQUEST", "headers_with_underscores_action: ALLOW")
            .envoy_with("normalize_path: true", "normalize_path: false")
            .envoy_with("merge_slashes: true", "merge_slashes: false")
            .envoy_with("path_with_escaped_slashes_action: REJECT_REQUEST", "path_with_escaped_slashes_action: KEEP_UNCHANGED")
            .envoy_with("encode_raw_headers: true", "encode_raw_headers: false")
            .envoy_with("validate_mutations: true", "validate_mutations: false")
    }

    /// Lets credentials fail as often as a battery of bad ones needs.
    #[must_use]
    pub fn unguarded(self) -> Self {
        let guard = "guard: { per_address: { failures_per_minute: 1000000 }, per_key_prefix: { failures_per_minute: 1000000 } }";
        self.tollgate_with("errors: standard\n", &format!("errors: standard\n{guard}\n"))
    }

    /// Starts everything, with an upstream on the socket of the quickstart.
    pub fn start(self) -> Scenario {
        let upstream = Upstream::unix(&self.folder.short_path().join("run/upstream.sock"));
        self.start_with(upstream)
    }

    /// Starts Tollgate and Envoy before an upstream that stands already.
    pub fn start_with(self, upstream: Upstream) -> Scenario {
        self.start_on(free_port(), upstream)
    }

    /// The same, with clients coming in at this port.
    pub fn start_on(self, port: u16, upstream: Upstream) -> Scenario {
        let (admin_port, ops_port) = (free_port(), free_port());
        let plan = self
            .envoy_with("port_value: 10000", &format!("port_value: {port}"))
            .envoy_with("port_value: 9901", &format!("port_value: {admin_port}"))
            .tollgate_with("127.0.0.1:9464", &format!("127.0.0.1:{ops_port}"));
        plan.folder.write("envoy.yaml", &plan.envoy);
        plan.folder.write("tollgate.yaml", &plan.tollgate);
        let check = CheckAt::Unix(plan.folder.short_path().join("run/check.sock"));
        let tollgate = Tollgate::start(plan.folder.path(), "tollgate.yaml", check, ops_port);
        let envoy = Envoy::start(plan.folder.path(), "envoy.yaml", port, admin_port);
        Scenario { envoy, tollgate, upstream, rules: plan.tollgate, folder: plan.folder }
    }
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "the file has no `{from}` any more");
    text.replace(from, to)
}

/// A running scenario.
#[derive(Debug)]
pub struct Scenario {
    pub envoy: Envoy,
    pub tollgate: Tollgate,
    pub upstream: Upstream,
    /// What `tollgate.yaml` says.
    pub rules: String,
    pub folder: Folder,
}

impl Scenario {
    /// The quickstart as it is shipped.
    pub fn quickstart() -> Self {
        Plan::of("quickstart").start()
    }

    pub fn client(&self) -> Client {
        self.envoy.client()
    }

    /// Makes a key for a user of its own organisation, or of the one named, and returns its text.
    pub fn key(&self, user: &str, tier: &str, scopes: &[&str]) -> String {
        NewKey { user, tier, scopes, ..NewKey::default() }.create(self.folder.path()).text
    }

    pub fn new_key(&self, key: &NewKey<'_>) -> MadeKey {
        key.create(self.folder.path())
    }

    /// Ends, switches off or otherwise changes a key: `tollgate keys <arguments>`.
    pub fn keys(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<&str> =
            ["keys"].into_iter().chain(arguments.iter().copied()).chain(["--config", "tollgate.yaml", "--json"]).collect();
        tollgate::run_json(self.folder.path(), &arguments)
    }

    /// The exact number of requests of a user that were let through.
    pub fn admitted(&self, user: &str) -> u64 {
        counted(self.folder.path(), user, "allowed")
    }
}

/// What `tollgate keys create` is asked for.
#[derive(Clone, Copy, Debug)]
pub struct NewKey<'a> {
    pub user: &'a str,
    pub organization: Option<&'a str>,
    /// Empty: none.
    pub tier: &'a str,
    pub scopes: &'a [&'a str],
    pub environment: Environment,
    pub rate_limit: Option<u32>,
}

impl Default for NewKey<'_> {
    fn default() -> Self {
        Self { user: "alice", organization: None, tier: "enterprise", scopes: &[], environment: Environment::Live, rate_limit: None }
    }
}

/// A key that was made.
#[derive(Clone, Debug)]
pub struct MadeKey {
    pub id: String,
    /// The whole text, as its holder sends it.
    pub text: String,
}

impl NewKey<'_> {
    pub fn create(&self, folder: &Path) -> MadeKey {
        let rate_limit = self.rate_limit.map(|limit| limit.to_string());
        let mut arguments = vec!["keys", "create", "--config", "tollgate.yaml", "--json", "--user", self.user, "--name", "test"];
        arguments.extend(["--env", self.environment.as_str()]);
        if !self.tier.is_empty() {
            arguments.extend(["--tier", self.tier]);
        }
        arguments.extend(self.organization.iter().flat_map(|organization| ["--org", *organization]));
        arguments.extend(self.scopes.iter().flat_map(|scope| ["--scope", *scope]));
        arguments.extend(rate_limit.iter().flat_map(|limit| ["--rate-limit", limit.as_str()]));
        let made = tollgate::run_json(folder, &arguments);
        MadeKey { id: text_of(&made, "id"), text: text_of(&made, "key") }
    }
}

/// The sum of a user's counts of one outcome, as `tollgate usage` tells it.
pub fn counted(folder: &Path, user: &str, outcome: &str) -> u64 {
    sum_of(&tollgate::run_json(folder, &["usage", "--config", "tollgate.yaml", "--json", "--user", user]), outcome)
}

/// The sum of the counts of one outcome in what `tollgate usage` told.
pub fn sum_of(report: &Value, outcome: &str) -> u64 {
    let rows = report["data"].as_array().unwrap_or_else(|| panic!("rows in {report}"));
    rows.iter().filter(|row| row["outcome"] == outcome).filter_map(|row| row["count"].as_u64()).sum()
}

fn text_of(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap_or_else(|| panic!("{member} in {value}")).to_owned()
}
