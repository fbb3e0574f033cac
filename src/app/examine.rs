//! Looking at a store for the person who runs it: is it there, is it set up well, can all of it be read?

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::app::moving::MovingError;
use crate::app::moving::Named;
use crate::app::moving::origin::Origin;
use crate::app::moving::side::Shelf;
use crate::app::moving::side::Side;
use crate::app::moving::survey::Survey;
use crate::app::moving::survey::name_some;
use crate::clock::Clock;
use crate::config::Boot;
use crate::config::boot::RedisBoot;
use crate::config::complaint::so_many;
use crate::store::Family;
use crate::store::shared::link::Link;
use crate::store::shared::link::ServerFacts;
use crate::store::shared::link::Severity;

/// Calls by which a server's quickness is measured.
const CALLS: usize = 200;
/// A clock that is off by more files counts under the wrong hour for longer than anybody would notice.
const CLOCKS_APART_MAX: Duration = Duration::from_secs(1);

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examined {
    /// Names and values, in the order in which people read them.
    pub facts: Vec<(&'static str, Fact)>,
    /// Of a shared store: its primaries.
    pub servers: Vec<ServerFacts>,
    /// How many records there are of each family, and how many lines of counts.
    pub counts: Vec<(&'static str, u64)>,
    /// The worst first.
    pub problems: Vec<Problem>,
}

/// A value as it is; who shows it decides how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    Text(String),
    Number(u64),
    /// A file's or folder's size; none: it is not there.
    Bytes(Option<u64>),
}

impl std::fmt::Display for Fact {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => out.write_str(text),
            Self::Number(number) => write!(out, "{number}"),
            Self::Bytes(Some(count)) => out.write_str(&bytes(*count)),
            Self::Bytes(None) => out.write_str("none"),
        }
    }
}

impl From<String> for Fact {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// Something that should not be so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The store is not used as it is, or some of it cannot be.
    pub refuses: bool,
    /// What it is, and what to do.
    pub what: String,
}

impl Examined {
    /// Whether nothing keeps the store from being used.
    pub fn is_usable(&self) -> bool {
        self.problems.iter().all(|problem| !problem.refuses)
    }

    fn refuse(&mut self, what: String) {
        self.problems.push(Problem { refuses: true, what });
    }

    fn warn(&mut self, what: String) {
        self.problems.push(Problem { refuses: false, what });
    }
}

/// Looks at the store that a config names. Nothing is changed, but that an embedded store takes in what was counted last.
pub async fn examine(named: Named, clock: &Arc<dyn Clock>) -> Examined {
    let mut examined = Examined::default();
    let (boot, config) = (named.loaded.boot.clone(), named.config.clone());
    match &boot.redis {
        Some(redis) => describe_redis(redis, &mut examined),
        None => describe_folder(&boot, &mut examined),
    }
    match Side::open_source(named, clock) {
        Ok(side) => {
            let is_there = match &side.shelf {
                Shelf::Embedded { .. } => true,
                Shelf::Shared { link, .. } => ask_servers(link, boot.redis.as_ref(), clock, &mut examined).await,
            };
            if is_there {
                survey(&side, &mut examined).await;
            }
        }
        Err(error) => examined.refuse(trouble(&error, &config)),
    }
    examined.problems.sort_by_key(|problem| !problem.refuses);
    examined
}

fn describe_redis(redis: &RedisBoot, examined: &mut Examined) {
    let login = redis.login.username.as_deref().unwrap_or("default").to_owned();
    examined.facts.extend([
        ("store", "redis".to_owned().into()),
        ("mode", redis.mode.to_string().into()),
        ("tls", yes(redis.tls.is_some()).into()),
        ("user", login.into()),
        ("prefix", redis.prefix.to_string().into()),
        ("format", Fact::Number(1)),
        ("replicas to confirm", Fact::Number(redis.replicas.into())),
    ]);
}

fn describe_folder(boot: &Boot, examined: &mut Examined) {
    let folder = &boot.store_path;
    examined.facts.extend([("store", "embedded".to_owned().into()), ("folder", folder.display().to_string().into())]);
    for (what, file) in [("records file", crate::store::EMBEDDED_FILE_NAME), ("history file", crate::app::open::HISTORY_FILE)] {
        examined.facts.push((what, Fact::Bytes(fs::metadata(folder.join(file)).ok().map(|facts| facts.len()))));
    }
    examined.facts.push(("ledger", boot.ledger_path.display().to_string().into()));
    examined.facts.push(("ledger size", Fact::Bytes(Some(size_of(&boot.ledger_path)))));
}

/// Asks every server; whether there is one to read records from.
async fn ask_servers(link: &Arc<Link>, redis: Option<&RedisBoot>, clock: &Arc<dyn Clock>, examined: &mut Examined) -> bool {
    let outcome = link.inspect(&**clock, CALLS).await;
    for finding in link.findings() {
        let what = format!("{}: {}", finding.server, finding.what);
        match finding.severity {
            Severity::Refuse => examined.refuse(what),
            Severity::Warn => examined.warn(what),
        }
    }
    match outcome {
        Ok(servers) => {
            examined.facts.push(("reachable", yes(true).into()));
            for server in &servers {
                judge(server, redis, examined);
            }
            examined.servers = servers;
            true
        }
        Err(error) => {
            let is_reached = link.state().is_reached;
            examined.facts.push(("reachable", yes(is_reached).into()));
            if is_reached {
                if examined.is_usable() {
                    examined.refuse(error.to_string());
                }
            } else {
                examined.refuse(format!("{error}; is it running, is the address right, does a firewall stand between?"));
            }
            false
        }
    }
}

/// What its settings do not show.
fn judge(server: &ServerFacts, redis: Option<&RedisBoot>, examined: &mut Examined) {
    let (apart, is_behind) = server.clock;
    if apart > CLOCKS_APART_MAX {
        let side = if is_behind { "behind" } else { "ahead of" };
        examined.warn(format!("{}: its clock is {} {side} this machine's; let NTP run on both", server.place, time(apart)));
    }
    if let Some(redis) = redis.filter(|redis| server.slow * 2 > redis.timeouts.check) {
        examined.warn(format!(
            "{}: 1 of 100 small calls takes {}, and a check waits {} at most (`timeouts.check`); put it nearer, or give it more time",
            server.place,
            time(server.slow),
            time(redis.timeouts.check)
        ));
    }
    if server.memory_bytes_max > 0 && server.memory_bytes > server.memory_bytes_max / 10 * 9 {
        examined.warn(format!("{}: its memory is nearly full; raise maxmemory, or nothing can be written any more", server.place));
    }
    if server.memory_bytes_max == 0 {
        examined.warn(format!(
            "{}: its maxmemory is 0: it takes what there is until the system ends it; set maxmemory below what the machine has",
            server.place
        ));
    }
    match &server.snapshots {
        None => examined.warn(format!(
            "{}: what is kept on disk and min-replicas-to-write could not be looked at, because this user may not run CONFIG GET; allow it \
             with `+config|get`",
            server.place
        )),
        Some(snapshots) if !server.logs_writes && !snapshots.is_empty() => examined.warn(format!(
            "{}: only snapshots of it are kept on disk: a crash loses what was changed since the last one; set appendonly yes",
            server.place
        )),
        Some(_) => {}
    }
    if redis.is_some_and(|redis| u64::from(redis.replicas) > server.replicas) {
        examined.warn(format!(
            "{}: it has {}, fewer than `store.redis.replicas` waits for; every change will be answered as not yet replicated",
            server.place,
            so_many(server.replicas, "replica", "replicas")
        ));
    }
}

async fn survey(side: &Side, examined: &mut Examined) {
    let survey = match Survey::of(&mut Origin::store(side), &mut |_count| {}).await {
        Ok(survey) => survey,
        Err(error) => return examined.refuse(format!("it could not be read to its end: {error}")),
    };
    examined.counts = Family::ALL.map(|family| (family.as_str(), survey.count(family))).to_vec();
    examined.counts.extend(survey.tallies.iter().map(|(what, count)| (*what, *count)));
    examined.facts.push(("records", Fact::Number(Family::ALL.iter().map(|family| survey.count(*family)).sum())));
    examined.facts.push(("unreadable", Fact::Number(survey.unreadable.len() as u64)));
    if !survey.unreadable.is_empty() {
        let named = name_some(survey.unreadable.iter().map(|(place, why)| format!("{place}: {why}")));
        examined.refuse(format!(
            "{} cannot be read, and credentials that need such get 503 ({named}); restore them with `tollgate store \
             import --from <backup> --merge`, or issue the keys anew. If it is all of them, the config lacks the pepper that sealed them, or has another secret under its id",
            so_many(survey.unreadable.len(), "record", "records")
        ));
    }
    for locked in survey.locked_rings(&side.peppers) {
        examined.refuse(locked);
    }
    let missing: Vec<&str> = survey.peppers.iter().map(String::as_str).filter(|id| !side.peppers.ids().any(|known| known == *id)).collect();
    if !missing.is_empty() {
        examined.refuse(format!(
            "some records were made with the peppers {}, which the config does not give: those keys open nothing; name them under `peppers:`",
            missing.join(", ")
        ));
    }
}

fn trouble(error: &MovingError, config: &Path) -> String {
    if let MovingError::NoStore { folder } = error {
        return format!("there is no store in {} yet; `tollgate serve --config {}` makes one", folder.display(), config.display());
    }
    error.to_string()
}

/// All that lies in a folder, not deeper.
fn size_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).filter(fs::Metadata::is_file).map(|facts| facts.len()).sum()
}

fn bytes(count: u64) -> String {
    match count {
        0..10_000 => format!("{count} bytes"),
        10_000..10_000_000 => format!("{} KiB", count / 1024),
        _ => format!("{} MiB", count / 1024 / 1024),
    }
}

/// A length of time as people read it.
pub fn time(length: Duration) -> String {
    match length.as_micros() {
        micros @ 0..1000 => format!("{micros} µs"),
        micros @ 1000..1_000_000 => format!("{}.{} ms", micros / 1000, micros % 1000 / 100),
        micros => format!("{}.{} s", micros / 1_000_000, micros % 1_000_000 / 100_000),
    }
}

fn yes(is_so: bool) -> String {
    if is_so { "yes" } else { "no" }.to_owned()
}
