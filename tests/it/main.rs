//! Acceptance tests: the real program, and most often a real Envoy before it. What is where:
//!
//! | module | what it shows |
//! |---|---|
//! | `envoy_configs` | every bootstrap in `envoy/` is good for the newest releases of the lines that we name |
//! | `envoy_bootstraps` | what each bootstrap beside the quickstart is for: socket, TCP, mTLS, the edge, a trial |
//! | `envoy_quickstart` | what `make demo` prints, line by line |
//! | `envoy_reva` | seed 002: keys, scopes, tenancy, environments, versions, the error form |
//! | `envoy_reva_limits` | seed 002: three tiers, headers, 429, its own test with 60 calls |
//! | `envoy_reva_oauth` | seed 002: applications, the authorization code flow, keys of one's own |
//! | `envoy_m3o` | seed 000 |
//! | `envoy_json_gateway` | seed 001 |
//! | `envoy_agent_token` | seed 003 |
//! | `envoy_tinyoauth` | seed 004 |
//! | `envoy_spoofing` | forged identity headers never reach the upstream |
//! | `envoy_sources` | two sources with one subject stay two users |
//! | `envoy_battery_paths`, `envoy_battery_headers`, `envoy_battery_methods`, `envoy_battery_tokens` | the attack battery through Envoy, before a careful and a careless listener |
//! | `envoy_vanishing` | hundreds of clients that vanish at once disturb nobody |
//! | `envoy_reload` | a hundred reloads under load |
//! | `envoy_restart` | rolling restart of two instances; SIGTERM under load |
//! | `envoy_access_log` | answers by user and class of status are what the upstream counted |
//! | `envoy_traces` | what an OpenTelemetry collector is told of checks, and that nothing waits for it |
//! | `envoy_kill` | `kill -9` under load, and the counts afterwards |
//! | `envoy_metrics` | Envoy's metrics that rules and dashboards name |
//! | `issuer_clients` | OAuth clients that nobody here wrote, and a certified server as their control |
//! | `issuer_concurrency` | one winner of many who use one code, token, name or organisation at the same instant |
//! | `issuer_kill` | replies of the issuer that are lost after their commit, by a cut or by `kill -9` |
//! | `issuer_flood` | sign-ins at ten times what can be hashed |
//! | `issuer_openapi` | the API against its own description |
//! | `issuer_rights` | what somebody made or was given, once that somebody is less than it was |
//! | `issuer_pages` | what a website does by the session of a person |
//! | `issuer_rotation` | signing keys that change under load, and in an emergency |
//! | `issuer_timing` | what the time of an answer tells |
//! | `issuer_surface` | what the metadata names, and where no secret stands |
//! | `k8s` | the manifests of `k8s/`: types, care, and that they agree with the configs in them |
//! | `bad_config` | every mistake in a config is named with its place; a config with every setting is good |
//! | `deploy_image` | the Dockerfile and the quickstart's compose file |
//! | `cli_http` | the command line over HTTP, with a key from the environment |
//! | `cli_start` | a command and `serve` typed in one breath; a second `serve` |
//! | `direct_checks`, `direct_abuse` | the check listener without an Envoy between: what it judges, and peers without manners |
//! | `observe_metrics` | every metric is fed and keeps to Prometheus' rules; no label comes from a client |
//! | `observe_secrets` | no credential's text in a log, a metric or a page, whatever becomes of the check |
//! | `observe_usage` | users' counts by shards, and `/stats` of one's own organisation |
//! | `prometheus_rules` | rules, alerts and dashboards of `k8s/prometheus`: metrics that exist, alerts that fire, runbooks |
//! | `prometheus_scrape` | a real Prometheus before many users: its sums are exact, and what a scrape costs |
//! | `replay` | a recording without secrets, replayed under changed configs; `explain` as it is typed |
//! | `redis_restart` | two sidecars on one shared store: rolling restart, failover of the store under load |
//! | `redis_chaos` | counts through everything that can happen to a shared store and to the sidecars |
//! | `redis_revocation` | how long a revoked key goes on opening the gate at another sidecar |
//! | `redis_faults` | a shared store in trouble: what each client is answered, how long anybody waits, the way back |
//! | `redis_contents` | what lies in a shared store damaged, in the future or under an odd name: it opens nothing, and disturbs nobody else |
//! | `redis_topologies` | sentinels that die, lie or change their minds; a cluster whose slots move |
//! | `redis_limits` | one bucket, and one, two or four sidecars that hammer it |
//! | `redis_scale` | many keys and many lines of counts against few |
//! | `redis_servers` | the private servers and the faulty proxy that the tests of the shared store stand on |
//! | `issuer_federation` | sign-in at Google and Microsoft, for whom a certified provider stands in |
//! | `usage` | the ledger through `kill -9`, full disks, and files of the first release |
//! | `tidy` | the arrows between the folders of `src/` |
//! | `support` | what the tests stand on |

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test stops at the first surprise")]
#![expect(clippy::disallowed_methods, reason = "tests read clocks and the environment, the program does not")]
#![expect(unreachable_pub, reason = "in a test binary nothing is public, and `pub` still tells what a module is for")]
#![expect(clippy::print_stderr, reason = "what a failed test leaves for its reader")]

mod support;

mod bad_config;
mod cli_http;
mod cli_start;
mod deploy_image;
mod direct_abuse;
mod direct_checks;
mod envoy_access_log;
mod envoy_agent_token;
mod envoy_battery_headers;
mod envoy_battery_methods;
mod envoy_battery_paths;
mod envoy_battery_tokens;
mod envoy_bootstraps;
mod envoy_configs;
mod envoy_json_gateway;
mod envoy_kill;
mod envoy_m3o;
mod envoy_metrics;
mod envoy_quickstart;
mod envoy_reload;
mod envoy_restart;
mod envoy_reva;
mod envoy_reva_limits;
mod envoy_reva_oauth;
mod envoy_sources;
mod envoy_spoofing;
mod envoy_tinyoauth;
mod envoy_traces;
mod envoy_vanishing;
mod issuer_clients;
mod issuer_concurrency;
mod issuer_federation;
mod issuer_flood;
mod issuer_kill;
mod issuer_openapi;
mod issuer_pages;
mod issuer_rights;
mod issuer_rotation;
mod issuer_surface;
mod issuer_timing;
mod k8s;
mod observe_metrics;
mod observe_secrets;
mod observe_usage;
mod prometheus_rules;
mod prometheus_scrape;
mod redis_chaos;
mod redis_contents;
mod redis_faults;
mod redis_limits;
mod redis_restart;
mod redis_revocation;
mod redis_scale;
mod redis_servers;
mod redis_topologies;
mod replay;
mod tidy;
mod usage;
