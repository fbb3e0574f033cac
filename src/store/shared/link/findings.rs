//! What is checked of each server before it is used.

use crate::store::shared::settings::Mode;
use crate::store::shared::settings::Server;

/// The oldest release whose scripts declare what they do.
const OLDEST_MAJOR: u32 = 7;

/// What a finding leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The server is not used.
    Refuse,
    /// The server is used, and a promise is weaker than it could be.
    Warn,
}

/// Something about a server that its operator should know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub severity: Severity,
    /// Where the server is.
    pub server: String,
    /// What it is, and what to do.
    pub what: String,
}

/// Which server it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    /// `redis` or `valkey`.
    pub(super) product: String,
    pub(super) version: String,
    /// New at each start of the process.
    pub(super) run: String,
    /// New at each promotion.
    pub(super) replication: String,
}

/// What a server says about itself, as `INFO` prints it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Info<'a>(pub(super) &'a str);

impl<'a> Info<'a> {
    pub(super) fn field(self, name: &str) -> Option<&'a str> {
        self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }

    pub(super) fn identity(self) -> Identity {
        let text = |name: &str| self.field(name).unwrap_or_default().chars().take(64).collect::<String>();
        let product = self.field("server_name").unwrap_or("redis").chars().take(16).collect();
        let version = if self.field("valkey_version").is_some() { text("valkey_version") } else { text("redis_version") };
        Identity { product, version, run: text("run_id"), replication: text("master_replid") }
    }

    /// Why the server cannot take writes now, where it says so itself.
    pub(super) fn inability(self) -> Option<&'static str> {
        match (self.field("loading"), self.field("role")) {
            (Some(loading), _) if loading != "0" => Some("it is still loading its data"),
            (_, Some("slave" | "replica")) => Some("it is a replica, not the primary"),
            _ => None,
        }
    }
}

/// What is to be said about a server; `save` is its setting of that name, where it may be asked for.
pub(super) fn judge(server: &Server, mode: &Mode, info: Info<'_>, save: Option<&str>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |severity, what: String| findings.push(Finding { severity, server: server.to_string(), what });
    if let Some(version) = info.field("redis_version") {
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if major.is_none_or(|major| major < OLDEST_MAJOR) {
            let version: String = version.chars().take(32).collect();
            find(Severity::Refuse, format!("its version is {version}; use Redis {OLDEST_MAJOR}.0 or later, or Valkey"));
        }
    }
    let arrangement = info.field("redis_mode").unwrap_or("standalone");
    match (mode, arrangement) {
        (_, "sentinel") => find(Severity::Refuse, "it is a Sentinel, not a store; set `mode: sentinel` and the `master_name`".to_owned()),
        (Mode::Cluster, "cluster") | (Mode::Standalone | Mode::Sentinel { .. }, "standalone") => {}
        (Mode::Cluster, _) => find(Severity::Refuse, "it is not part of a cluster; set `mode: standalone`".to_owned()),
        (Mode::Standalone | Mode::Sentinel { .. }, "cluster") => {
            find(Severity::Refuse, "it is part of a cluster; set `mode: cluster`".to_owned());
        }
        (Mode::Standalone | Mode::Sentinel { .. }, _) => {}
    }
    if let Some(policy) = info.field("maxmemory_policy").filter(|policy| *policy != "noeviction") {
        let policy: String = policy.chars().take(32).collect();
        let what = format!("its maxmemory-policy is {policy}, which throws keys, limits and counts away; set it to noeviction");
        find(Severity::Refuse, what);
    }
    let is_replicated = match mode {
        Mode::Standalone => false,
        Mode::Sentinel { .. } | Mode::Cluster => true,
    };
    if is_replicated && info.field("role") == Some("master") && info.field("min_slaves_good_slaves").is_none() {
        let what = "min-replicas-to-write is 0: a primary that is cut off goes on taking writes, and a revocation may be late by more than \
                    promised; set min-replicas-to-write 1 and min-replicas-max-lag 3";
        find(Severity::Warn, what.to_owned());
    }
    let logs_writes = info.field("aof_enabled").is_none_or(|enabled| enabled != "0");
    if !logs_writes && save.is_some_and(|save| save.trim().is_empty()) {
        find(Severity::Warn, "nothing of it is kept on disk: a restart loses the keys; set appendonly yes".to_owned());
    }
    findings
}

/// The user may not ask what the checks need.
pub(super) fn unseen(server: &Server) -> Finding {
    let what = "its settings could not be checked, because this user may not run INFO; allow it with `+info`".to_owned();
    Finding { severity: Severity::Warn, server: server.to_string(), what }
}

/// The user may not do what all work here is made of.
pub(super) fn speechless(server: &Server) -> Finding {
    let what = "this user may not run scripts; allow it with `+@scripting`, and the commands and keys that they use".to_owned();
    Finding { severity: Severity::Refuse, server: server.to_string(), what }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "redis_version:7.0.15\r\nredis_mode:standalone\r\nrun_id:r1\r\nloading:0\r\naof_enabled:1\r\nrole:master\r\n\
                         master_replid:x1\r\nmin_slaves_good_slaves:1\r\nmaxmemory_policy:noeviction\r\n";

    fn sentinel() -> Mode {
        Mode::Sentinel { master_name: "main".to_owned() }
    }

    #[test]
    fn a_finding_says_what_is_wrong_and_what_to_do() {
        type Expected = Option<(Severity, &'static str)>;
        let cases: &[(Mode, &str, &str, Expected)] = &[
            (Mode::Standalone, "", "", None),
            (Mode::Standalone, "redis_version:7.0.15", "redis_version:6.2.1", Some((Severity::Refuse, "7.0 or later"))),
            (Mode::Standalone, "redis_version:7.0.15", "redis_version:x", Some((Severity::Refuse, "7.0 or later"))),
            (Mode::Standalone, "redis_version:7.0.15", "redis_version:10.1.0", None),
            (Mode::Standalone, "noeviction", "allkeys-lru", Some((Severity::Refuse, "set it to noeviction"))),
            (Mode::Standalone, "redis_mode:standalone", "redis_mode:cluster", Some((Severity::Refuse, "`mode: cluster`"))),
            (Mode::Cluster, "", "", Some((Severity::Refuse, "`mode: standalone`"))),
            (Mode::Standalone, "redis_mode:standalone", "redis_mode:sentinel", Some((Severity::Refuse, "`mode: sentinel`"))),
            (Mode::Standalone, "min_slaves_good_slaves:1", "", None),
            (sentinel(), "min_slaves_good_slaves:1", "", Some((Severity::Warn, "min-replicas-to-write 1"))),
            (Mode::Standalone, "aof_enabled:1", "aof_enabled:0", Some((Severity::Warn, "appendonly yes"))),
        ];
        let server = Server::Tcp { host: "::1".to_owned(), port: 7 };
        for (mode, from, to, expected) in cases {
            let info = SOUND.replace(from, to);
            let findings = judge(&server, mode, Info(&info), Some(""));
            let found: Vec<(Severity, &str)> = findings.iter().map(|finding| (finding.severity, finding.what.as_str())).collect();
            match expected {
                None => assert_eq!(found, [], "{mode:?} {to}"),
                Some((severity, words)) => {
                    assert_eq!(found.len(), 1, "{mode:?} {to}: {found:?}");
                    assert_eq!(found[0].0, *severity);
                    assert!(found[0].1.contains(words), "{}", found[0].1);
                    assert_eq!(findings[0].server, "[::1]:7");
                }
            }
        }
    }

    #[test]
    fn a_server_that_cannot_take_writes_says_why() {
        assert_eq!(Info(SOUND).inability(), None);
        assert_eq!(Info(&SOUND.replace("role:master", "role:slave")).inability(), Some("it is a replica, not the primary"));
        assert_eq!(Info(&SOUND.replace("loading:0", "loading:1")).inability(), Some("it is still loading its data"));
    }
}
