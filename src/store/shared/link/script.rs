//! Lua scripts: sent once, called by their digest ever after.

use std::sync::OnceLock;

use crate::store::shared::link::Call;

/// A script of `scripts/`.
#[derive(Debug)]
pub struct Script {
    pub name: &'static str,
    pub source: &'static str,
    /// SHA-1 of the source, in hex, as the server names it.
    digest: OnceLock<String>,
}

impl Script {
    pub const fn new(name: &'static str, source: &'static str) -> Self {
        Self { name, source, digest: OnceLock::new() }
    }

    /// The command that runs it: by its digest, or by its whole text where the server does not know it yet.
    pub(super) fn command(&self, call: &Call, whole: bool) -> redis::Cmd {
        let digest = self.digest.get_or_init(|| redis::Script::new(self.source).get_hash().to_owned());
        let mut command = if whole { redis::cmd("EVAL") } else { redis::cmd("EVALSHA") };
        command.arg(if whole { self.source } else { digest });
        command.arg(call.keys.len());
        for key in &call.keys {
            command.arg(key);
        }
        for arg in &call.args {
            command.arg(arg);
        }
        command
    }
}
