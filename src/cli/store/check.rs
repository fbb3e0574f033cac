//! `tollgate store check`.

use std::io;
use std::io::Write;
use std::sync::Arc;

use serde_json::json;

use crate::app::examine;
use crate::app::examine::Examined;
use crate::app::examine::Fact;
use crate::app::examine::time;
use crate::cli::Exit;
use crate::cli::store::Whose;
use crate::cli::store::meaning;
use crate::cli::store::named;
use crate::cli::table::Side;
use crate::cli::table::write_pairs;
use crate::cli::table::write_table;
use crate::clock::Clock;
use crate::clock::SystemClock;
use crate::store::shared::link::ServerFacts;

/// Look at the store: is it there, is it set up well, how quickly does it answer, can all of it be read?
///
/// Exit code 1 when the store cannot be used as it is, or some of it cannot be read. What is only worse than it could be is said.
/// An embedded store is looked at while no process uses it; a running one is asked by its `/readyz`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Check {
    #[command(flatten)]
    whose: Whose,
    /// For machines: one JSON object.
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) async fn run(self, out: &mut dyn Write, complaints: &mut dyn Write) -> io::Result<Exit> {
        let Some(named) = named(&self.whose.config, complaints)? else { return Ok(Exit::Failed) };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let examined = examine::examine(named, &clock).await;
        if self.json {
            write_json(&examined, out)?;
        } else {
            write(&examined, out)?;
        }
        Ok(if examined.is_usable() { Exit::Good } else { Exit::Failed })
    }
}

fn write(examined: &Examined, out: &mut dyn Write) -> io::Result<()> {
    write_pairs(out, &examined.facts.iter().map(|(name, fact)| (*name, fact.to_string())).collect::<Vec<_>>())?;
    if !examined.servers.is_empty() {
        writeln!(out)?;
        let columns = [
            ("SERVER", Side::Left),
            ("VERSION", Side::Left),
            ("ROLE", Side::Left),
            ("REPLICAS", Side::Right),
            ("TO WRITE", Side::Right),
            ("ON DISK", Side::Left),
            ("EVICTION", Side::Left),
            ("MEMORY", Side::Right),
            ("CLOCK", Side::Right),
            ("P50", Side::Right),
            ("P99", Side::Right),
        ];
        write_table(out, &columns, &examined.servers.iter().map(line).collect::<Vec<_>>())?;
    }
    if !examined.counts.is_empty() {
        writeln!(out)?;
        let rows: Vec<Vec<String>> =
            examined.counts.iter().map(|(what, count)| vec![(*what).to_owned(), count.to_string(), meaning(what).to_owned()]).collect();
        write_table(out, &[("WHAT", Side::Left), ("COUNT", Side::Right), ("MEANING", Side::Left)], &rows)?;
    }
    writeln!(out)?;
    if examined.problems.is_empty() {
        writeln!(out, "Everything is as it should be.")?;
    }
    for problem in &examined.problems {
        writeln!(out, "{}: {}", if problem.refuses { "refused" } else { "warning" }, problem.what)?;
    }
    Ok(())
}

fn line(server: &ServerFacts) -> Vec<String> {
    let (apart, is_behind) = server.clock;
    let sign = if is_behind { "-" } else { "+" };
    vec![
        server.place.clone(),
        format!("{} {}", server.product, server.version),
        server.role.clone(),
        server.replicas.to_string(),
        server.replicas_to_write.map_or_else(|| "?".to_owned(), |count| count.to_string()),
        on_disk(server),
        server.eviction.clone(),
        format!("{} MiB", server.memory_bytes / 1024 / 1024),
        format!("{sign}{}", time(apart)),
        time(server.median),
        time(server.slow),
    ]
}

fn on_disk(server: &ServerFacts) -> String {
    match (server.logs_writes, server.flushes.as_deref(), server.snapshots.as_deref()) {
        (true, Some("always"), _) => "every write",
        (true, Some("everysec"), _) => "each second",
        (true, Some(_), _) => "now and then",
        (true, None, _) => "a log of writes",
        (false, _, Some("")) => "nothing",
        (false, _, Some(_)) => "snapshots",
        (false, _, None) => "no log of writes",
    }
    .to_owned()
}

fn write_json(examined: &Examined, out: &mut dyn Write) -> io::Result<()> {
    let facts: serde_json::Map<String, serde_json::Value> = examined.facts.iter().map(member).collect();
    let counts: serde_json::Map<String, serde_json::Value> =
        examined.counts.iter().map(|(what, count)| (what.replace(' ', "_"), json!(count))).collect();
    let server = |server: &ServerFacts| {
        let (apart, is_behind) = server.clock;
        let millis = i64::try_from(apart.as_millis()).unwrap_or(i64::MAX);
        json!({
            "server": server.place,
            "product": server.product,
            "version": server.version,
            "role": server.role,
            "replicas": server.replicas,
            "min_replicas_to_write": server.replicas_to_write,
            "logs_writes": server.logs_writes,
            "appendfsync": server.flushes,
            "snapshots": server.snapshots,
            "maxmemory_policy": server.eviction,
            "memory_bytes": server.memory_bytes,
            "memory_bytes_max": server.memory_bytes_max,
            "clock_ahead_ms": if is_behind { -millis } else { millis },
            "p50_us": u64::try_from(server.median.as_micros()).unwrap_or(u64::MAX),
            "p99_us": u64::try_from(server.slow.as_micros()).unwrap_or(u64::MAX),
        })
    };
    let problem = |problem: &examine::Problem| json!({"refuses": problem.refuses, "what": problem.what});
    let report = json!({
        "usable": examined.is_usable(),
        "facts": facts,
        "servers": examined.servers.iter().map(server).collect::<Vec<_>>(),
        "counts": counts,
        "problems": examined.problems.iter().map(problem).collect::<Vec<_>>(),
    });
    writeln!(out, "{report:#}")
}

/// A fact's name and value in JSON. Sizes say their unit, which people read in the value.
fn member((name, fact): &(&'static str, Fact)) -> (String, serde_json::Value) {
    let name = name.replace(' ', "_");
    match fact {
        Fact::Text(text) => (name, json!(text)),
        Fact::Number(number) => (name, json!(number)),
        Fact::Bytes(count) => (format!("{name}_bytes"), json!(count)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_write_is_said_only_where_each_is_on_disk_before_it_is_answered() {
        let cases = [
            (true, Some("always"), Some(""), "every write"),
            (true, Some("everysec"), Some(""), "each second"),
            (true, Some("no"), Some(""), "now and then"),
            (true, None, None, "a log of writes"),
            (false, Some("always"), Some("3600 1"), "snapshots"),
            (false, Some("always"), Some(""), "nothing"),
            (false, None, None, "no log of writes"),
        ];
        for (logs_writes, flushes, snapshots, expected) in cases {
            let server = ServerFacts {
                place: "a:1".to_owned(),
                product: "redis".to_owned(),
                version: "7.0.0".to_owned(),
                role: "primary".to_owned(),
                replicas: 0,
                logs_writes,
                flushes: flushes.map(str::to_owned),
                snapshots: snapshots.map(str::to_owned),
                eviction: "noeviction".to_owned(),
                memory_bytes: 1,
                memory_bytes_max: 0,
                replicas_to_write: None,
                clock: (Duration::ZERO, false),
                median: Duration::ZERO,
                slow: Duration::ZERO,
            };
            assert_eq!(on_disk(&server), expected);
        }
    }
}
