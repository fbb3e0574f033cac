//! The command line: one file a subcommand. Each writes to the writer that it is given and says how it ended.

pub mod check_config;

pub mod client;

pub mod healthcheck;

pub mod keys;

pub mod schema;

pub mod serve;

pub mod usage;

mod table;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser;
use clap::Subcommand;

use crate::app;
use crate::cli::check_config::CheckConfig;
use crate::cli::client::Reach;
use crate::cli::client::Target;
use crate::cli::healthcheck::Healthcheck;
use crate::cli::keys::Keys;
use crate::cli::schema::Schema;
use crate::cli::serve::Serve;
use crate::cli::usage::Usage;
use crate::clock::SystemClock;
use crate::config;
use crate::config::Complaint;
use crate::config::boot::Listen;

/// How a command ended, as its exit code says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Good,
    Failed,
    /// The arguments make no sense.
    Usage,
}

impl Exit {
    pub const fn code(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Failed => 1,
            Self::Usage => 2,
        }
    }
}

/// API keys, tokens, scopes, limits and exact per-user usage for anything behind Envoy.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, subcommand_required = true, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  tollgate check-config tollgate.yaml       every mistake at once, with its line
  tollgate serve --config tollgate.yaml     answer Envoy's checks
  tollgate keys create --help               make a key for somebody
  tollgate usage --user alice               what was counted
  tollgate healthcheck                      is the process on this machine ready?
  tollgate schema > tollgate.schema.json    for your editor

Exit codes: 0 good, 1 failed, 2 the arguments make no sense.";

#[derive(Debug, Subcommand)]
enum Command {
    Serve(Serve),
    CheckConfig(CheckConfig),
    /// Make, list, change, rotate, revoke and import API keys.
    Keys(Keys),
    /// Show what was counted.
    Usage(Usage),
    Healthcheck(Healthcheck),
    Schema(Schema),
}

impl Arguments {
    /// Runs the command that was asked for: its output goes to `out`, what is said about it to `complaints`.
    ///
    /// # Errors
    /// When one of the writers cannot be written to, or the system gives no threads.
    pub fn run(self, out: &mut dyn Write, complaints: &mut dyn Write) -> std::io::Result<Exit> {
        match self.command {
            Command::Serve(serve) => serve.run(complaints),
            Command::CheckConfig(check) => check.run(out),
            Command::Keys(keys) => match target_of(keys.reach()) {
                Ok(target) => runtime()?.block_on(keys.run(target, out, complaints)),
                Err(mistakes) => refuse(&mistakes, complaints),
            },
            Command::Usage(usage) => match target_of(usage.reach()) {
                Ok(target) => runtime()?.block_on(usage.run(target, out, complaints)),
                Err(mistakes) => refuse(&mistakes, complaints),
            },
            Command::Healthcheck(check) => check.run(out),
            Command::Schema(schema) => schema.run(out),
        }
    }
}

/// The running process's control socket; where nobody answers, the store of the config, opened here.
fn target_of(reach: &Reach) -> Result<Target, Vec<Complaint>> {
    if let Some(socket) = &reach.socket {
        return Ok(Target { socket: Some(socket.clone()), host: None });
    }
    let loaded = config::load(&reach.config)?;
    let socket = match &loaded.boot.control {
        Some(Listen::Unix { path, .. }) => Some(PathBuf::clone(path)),
        Some(Listen::Tcp { .. }) | None => None,
    };
    let host = Box::new(move || app::host_resource_api(loaded, Arc::new(SystemClock)).map_err(|error| error.to_string()));
    Ok(Target { socket, host: Some(host) })
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn refuse(mistakes: &[Complaint], complaints: &mut dyn Write) -> std::io::Result<Exit> {
    for mistake in mistakes {
        writeln!(complaints, "{mistake}")?;
    }
    Ok(Exit::Failed)
}

#[cfg(test)]
mod tests;
