//! `tollgate schema`: what is generated from the code: the JSON Schema of the config file, the table of outcomes.

use std::io::Write;

use crate::check::reasons;
use crate::cli::Exit;
use crate::config::schema::config_schema;

/// Print the JSON Schema (draft 7) of the config file, or the table of every outcome that a check can have.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Schema {
    /// The outcomes instead, in Markdown: log and metric label, public code and text, HTTP and gRPC status.
    #[arg(long)]
    reasons: bool,
}

impl Schema {
    /// # Errors
    /// When `out` cannot be written to.
    pub fn run(self, out: &mut dyn Write) -> std::io::Result<Exit> {
        let text = if self.reasons { reasons::markdown_table() } else { config_schema() };
        out.write_all(text.as_bytes())?;
        Ok(Exit::Good)
    }
}
