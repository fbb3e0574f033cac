//! The command line: one file a subcommand. Each writes to the writer that it is given and says how it ended.

pub mod check_config;

pub mod healthcheck;

pub mod schema;

pub mod serve;

use std::io::Write;

use clap::Parser;
use clap::Subcommand;

use crate::cli::check_config::CheckConfig;
use crate::cli::healthcheck::Healthcheck;
use crate::cli::schema::Schema;
use crate::cli::serve::Serve;

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
  tollgate healthcheck                      is the process on this machine ready?
  tollgate schema > tollgate.schema.json    for your editor

Exit codes: 0 good, 1 failed, 2 the arguments make no sense.";

#[derive(Debug, Subcommand)]
enum Command {
    Serve(Serve),
    CheckConfig(CheckConfig),
    Healthcheck(Healthcheck),
    Schema(Schema),
}

impl Arguments {
    /// Runs the command that was asked for: its output goes to `out`, what is said about it to `complaints`.
    ///
    /// # Errors
    /// When one of the writers cannot be written to.
    pub fn run(self, out: &mut dyn Write, complaints: &mut dyn Write) -> std::io::Result<Exit> {
        match self.command {
            Command::Serve(serve) => serve.run(complaints),
            Command::CheckConfig(check) => check.run(out),
            Command::Healthcheck(check) => check.run(out),
            Command::Schema(schema) => schema.run(out),
        }
    }
}
