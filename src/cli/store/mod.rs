//! `tollgate store`: looking at a store and moving what it holds.

mod check;
mod moving;

#[cfg(test)]
mod tests;

use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use clap::Subcommand;

use crate::app::moving::Named;
use crate::cli::Exit;
use crate::cli::store::check::Check;
use crate::cli::store::moving::Export;
use crate::cli::store::moving::Import;
use crate::cli::store::moving::Migrate;
use crate::config;

/// Look at a store, move what it holds to another, back it up.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Store {
    #[command(subcommand)]
    action: Action,
}

const EXAMPLES: &str = "\
Examples:
  tollgate store check                                            is it set up well, and readable?
  tollgate store check --json | jq .problems
  tollgate store migrate --from one-node.yaml --to redis.yaml     from one folder into Redis
  tollgate store migrate --from redis.yaml --to one-node.yaml     and back
  tollgate store export --to backup.jsonl
  tollgate store export --config redis.yaml --to /var/backups/tollgate.jsonl --replace
  tollgate store import --from backup.jsonl                       or from standard input: --from -
  tollgate store import --config redis.yaml --from backup.jsonl --merge";

#[derive(Clone, Debug, Subcommand)]
enum Action {
    Check(Check),
    Migrate(Migrate),
    Export(Export),
    Import(Import),
}

/// Which config names the store.
#[derive(Clone, Debug, clap::Args)]
struct Whose {
    /// The config file that names the store.
    #[arg(long, short, env = "TOLLGATE_CONFIG", default_value = "tollgate.yaml", value_name = "FILE")]
    config: PathBuf,
}

impl Store {
    /// Does what was asked.
    ///
    /// # Errors
    /// When one of the writers cannot be written to.
    pub async fn run(self, out: &mut dyn Write, complaints: &mut dyn Write) -> io::Result<Exit> {
        match self.action {
            Action::Check(check) => check.run(out, complaints).await,
            Action::Migrate(migrate) => migrate.run(out, complaints).await,
            Action::Export(export) => export.run(out, complaints).await,
            Action::Import(import) => import.run(out, complaints).await,
        }
    }
}

/// What a row of a table of records and counts is, for people.
fn meaning(what: &str) -> &'static str {
    MEANINGS.iter().find(|(name, _)| *name == what).map(|(_, meaning)| *meaning).unwrap_or_default()
}

const MEANINGS: [(&str, &str); 19] = [
    ("key", "API keys"),
    ("user", "users: rights, tier, organisation"),
    ("ring", "rings of signing keys, encrypted"),
    ("digest", "imported keys, by their SHA-256 digests"),
    ("grant", "what OAuth tokens stand for"),
    ("client", "OAuth applications"),
    ("account", "what people sign in with"),
    ("organization", "organisations"),
    ("session", "people who are signed in"),
    ("invitation", "invitations into organisations"),
    ("identity", "sign-ins by other providers"),
    ("ticket", "steps that are under way, such as a sign-in"),
    ("audit", "entries of the audit log"),
    ("audit_name", "whom the audit log's pseudonyms mean"),
    ("hours", "counts by hour"),
    ("days", "counts by day"),
    ("months", "counts by month"),
    ("last uses", "when keys were last used"),
    ("requests", "all that was counted: the sum of the counts by month"),
];

/// The store that a config names; none when the config is bad, which was then said.
fn named(path: &Path, complaints: &mut dyn Write) -> io::Result<Option<Named>> {
    match config::load(path) {
        Ok(loaded) => Ok(Some(Named { config: path.to_owned(), loaded })),
        Err(mistakes) => {
            for mistake in &mistakes {
                writeln!(complaints, "{mistake}")?;
            }
            writeln!(complaints, "{} cannot be used; nothing was done", path.display())?;
            Ok(None)
        }
    }
}
