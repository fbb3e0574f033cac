//! The command line: one file a subcommand. Each writes to the writer that it is given and says how it ended.

pub mod audit;

pub mod check_config;

pub mod client;

pub mod clients;

pub mod envoy;

pub mod explain;

pub mod healthcheck;

pub mod keys;

pub mod openapi;

pub mod replay;

pub mod ring;

pub mod schema;

pub mod serve;

pub mod store;

pub mod usage;

pub mod users;

mod examples;

mod people;

mod reading;

mod scopes;

mod table;

mod voice;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use clap::CommandFactory as _;
use clap::FromArgMatches as _;
use clap::Parser;
use clap::Subcommand;

use crate::app;
use crate::cli::audit::Audit;
use crate::cli::check_config::CheckConfig;
use crate::cli::client::Here;
use crate::cli::client::Host;
use crate::cli::client::Reach;
use crate::cli::client::Remote;
use crate::cli::client::Target;
use crate::cli::client::Unhosted;
use crate::cli::clients::Clients;
use crate::cli::envoy::Envoy;
use crate::cli::examples::hand_down;
use crate::cli::explain::Explain;
use crate::cli::healthcheck::Healthcheck;
use crate::cli::keys::Keys;
use crate::cli::openapi::Openapi;
use crate::cli::replay::Replay;
use crate::cli::ring::Ring;
use crate::cli::schema::Schema;
use crate::cli::serve::Serve;
use crate::cli::store::Store;
use crate::cli::usage::Usage;
use crate::cli::users::Users;
use crate::cli::voice::Speaking;
use crate::clock::SystemClock;
use crate::config;
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
  tollgate check-config tollgate.yaml       every mistake at once, with line and column
  tollgate envoy init > envoy.yaml          an Envoy that fits it
  tollgate serve --config tollgate.yaml     answer Envoy's checks
  tollgate keys create --user alice         a new key; its text is shown once
  tollgate users invite --org acme          a link by which somebody joins
  tollgate clients list                     OAuth applications
  tollgate ring rotate --emergency          a signing key has leaked
  tollgate usage --user alice               what was counted
  tollgate audit verify                     is the audit log as it was written?
  tollgate explain GET /v1/things -H 'x-api-key: …'
  tollgate replay requests.jsonl --before tollgate.yaml --after next.yaml
  tollgate store check                      is the store set up well, and readable?
  tollgate healthcheck                      is the process on this machine ready?
  tollgate schema > tollgate.schema.json    for your editor
  tollgate openapi > openapi.json           the HTTP API

Exit codes: 0 good, 1 failed, 2 the arguments make no sense.";

#[derive(Debug, Subcommand)]
enum Command {
    Serve(Serve),
    CheckConfig(CheckConfig),
    Envoy(Envoy),
    Keys(Speaking<Keys>),
    Users(Speaking<Users>),
    Clients(Speaking<Clients>),
    Ring(Speaking<Ring>),
    Usage(Usage),
    Audit(Speaking<Audit>),
    Explain(Explain),
    Replay(Replay),
    Healthcheck(Healthcheck),
    Schema(Schema),
    Openapi(Openapi),
    Store(Store),
}

impl Arguments {
    /// Those of this process. Where they make no sense or ask for help, that is said, and the process ends.
    pub fn read() -> Self {
        Self::from_arg_matches(&hand_down(Self::command()).get_matches()).unwrap_or_else(|error| error.exit())
    }

    /// Runs the command that was asked for: its output goes to `out`, what is said about it to `complaints`.
    ///
    /// # Errors
    /// When one of the writers cannot be written to.
    pub fn run(self, out: &mut dyn Write, complaints: &mut dyn Write) -> std::io::Result<Exit> {
        match self.command {
            Command::Serve(serve) => serve.run(complaints),
            Command::CheckConfig(check) => check.run(out),
            Command::Envoy(envoy) => envoy.run(out, complaints),
            Command::Keys(keys) => speak(keys, out, complaints),
            Command::Users(users) => speak(users, out, complaints),
            Command::Clients(clients) => speak(clients, out, complaints),
            Command::Audit(audit) => speak(audit, out, complaints),
            Command::Ring(ring) => speak(ring, out, complaints),
            Command::Usage(usage) => speak(usage, out, complaints),
            // What would be judged how is an operator's business alone.
            Command::Explain(explain) => match explain.run_alone(out, complaints)? {
                Some(exit) => Ok(exit),
                None => match on_this_machine(explain.here(), complaints)? {
                    Some(target) => wait_for(explain.run(target, out, complaints)),
                    None => Ok(Exit::Failed),
                },
            },
            Command::Replay(replay) => replay.run(out, complaints),
            Command::Healthcheck(check) => check.run(out),
            Command::Schema(schema) => schema.run(out),
            Command::Openapi(openapi) => openapi.run(out),
            Command::Store(store) => wait_for(store.run(out, complaints)),
        }
    }
}

/// A file to read. A device or a pipe could go on without end, or wait for ever.
fn open_file(path: &Path) -> std::io::Result<File> {
    if std::fs::metadata(path)?.is_file() {
        return File::open(path);
    }
    Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is no regular file; put into one what it has"))
}

fn speak(command: impl voice::Command, out: &mut dyn Write, complaints: &mut dyn Write) -> std::io::Result<Exit> {
    match reach(command.reach(), complaints)? {
        Some(target) => wait_for(command.run(target, out, complaints)),
        None => Ok(Exit::Failed),
    }
}

fn wait_for<T>(command: impl Future<Output = std::io::Result<T>>) -> std::io::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

/// Where the resource API is for this command; none when the config is bad, which was then said.
fn reach(reach: &Reach, complaints: &mut dyn Write) -> std::io::Result<Option<Target>> {
    if let Some(url) = &reach.url {
        let remote = Remote { url: url.clone(), key: reach.api_key.clone() };
        return Ok(Some(Target { remote: Some(remote), ..Target::default() }));
    }
    on_this_machine(&reach.here, complaints)
}

fn on_this_machine(here: &Here, complaints: &mut dyn Write) -> std::io::Result<Option<Target>> {
    if let Some(socket) = &here.socket {
        return Ok(Some(Target { socket: Some(socket.clone()), ..Target::default() }));
    }
    let loaded = match config::load(&here.config) {
        Ok(loaded) => loaded,
        Err(mistakes) => {
            for mistake in &mistakes {
                writeln!(complaints, "{mistake}")?;
            }
            writeln!(complaints, "name a good config with --config, or a running process by its control socket with --socket")?;
            return Ok(None);
        }
    };
    let socket = match &loaded.boot.control {
        Some(Listen::Unix { path, .. }) => Some(path.clone()),
        Some(Listen::Tcp { .. }) | None => None,
    };
    let (boot, rules) = (Arc::new(loaded.boot), Arc::new(loaded.rules));
    let read = (here.config.clone(), Arc::clone(&rules));
    let host: Host = Box::new(move || {
        let (boot, rules) = (Arc::clone(&boot), Arc::clone(&rules));
        Box::pin(async move {
            let hosted = app::hosted::host(&boot, rules, Arc::new(SystemClock)).await;
            hosted.map_err(
                |error| if error.holder().is_some() { Unhosted::InUse(error.to_string()) } else { Unhosted::Failed(error.to_string()) },
            )
        })
    });
    Ok(Some(Target { config: Some(read), remote: None, socket, host: Some(host) }))
}
